//! Numbers as text. Every request has some of them, so eight digits are made at a
//! time, in one register.

/// One in each of eight bytes.
pub(super) const ONES: u64 = 0x0101_0101_0101_0101;
/// What no eight digits reach.
const EIGHT: u64 = 100_000_000;

/// A whole number in decimal. `push` gets up to eight digits at a time: they are
/// the array's first, and so many. What lies behind them is there so that all
/// copies are of one size; it has to be dropped again.
#[inline]
pub(crate) fn decimal(number: u64, push: &mut impl FnMut([u8; 8], usize)) {
    match number {
        0..10 => push((number + 0x30).to_le_bytes(), 1),
        10..EIGHT => significant(eight(number), push),
        EIGHT.. => decimal_of_many(number, push),
    }
}

/// A number of thousandths likewise, with a point: `0.0`, `1.5`, `12.345`.
#[inline]
pub(crate) fn thousandths(number: u64, push: &mut impl FnMut([u8; 8], usize)) {
    let digits = if number < EIGHT {
        let digits = eight(number);
        significant(digits >> 24, push);
        digits
    } else {
        decimal_of_many(number / 1000, push);
        eight(number % 1000)
    };
    let fraction = digits & 0x00ff_ffff;
    // Zeros at the end are not written, but for the first digit.
    let zeros = (fraction.trailing_zeros() / 8).min(2);
    let text = u64::from(u32::from_be_bytes(*b".000")) + fraction;
    push((text << 32).to_be_bytes(), 4 - zeros as usize);
}

/// Digits without the zeros in front, but for the last one.
#[inline]
fn significant(digits: u64, push: &mut impl FnMut([u8; 8], usize)) {
    let zeros = (digits.leading_zeros() / 8).min(7);
    push(((digits + ONES * 0x30) << (8 * zeros)).to_be_bytes(), 8 - zeros as usize);
}

#[cold]
fn decimal_of_many(number: u64, push: &mut impl FnMut([u8; 8], usize)) {
    if number >= EIGHT {
        decimal_of_many(number / EIGHT, push);
        push((eight(number % EIGHT) + ONES * 0x30).to_be_bytes(), 8);
    } else {
        significant(eight(number), push);
    }
}

/// The digits of a number below [`EIGHT`], one in a byte, the first in the highest.
/// Each step halves all pieces at once, by multiplications: 10 486 / 2^20 and
/// 103 / 2^10 are close enough to a hundredth of four digits and a tenth of two.
#[inline]
fn eight(number: u64) -> u64 {
    let fours = ((number / 10_000) << 32) | (number % 10_000);
    let upper = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = (upper << 16) | (fours - upper * 100);
    let upper = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    (upper << 8) | (twos - upper * 10)
}

/// A number as 16 hexadecimal digits.
pub(crate) fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    let (upper, lower) = digits.split_at_mut(8);
    upper.copy_from_slice(&hex_of_half(number >> 32));
    lower.copy_from_slice(&hex_of_half(number & 0xffff_ffff));
    digits
}

fn hex_of_half(number: u64) -> [u8; 8] {
    let fours = (number | (number << 16)) & 0x0000_ffff_0000_ffff;
    let twos = (fours | (fours << 8)) & 0x00ff_00ff_00ff_00ff;
    let digits = (twos | (twos << 4)) & (ONES * 0x0f);
    // Ten and more reach the upper half with six more.
    let letters = ((digits + ONES * 6) >> 4) & ONES;
    (digits + ONES * 0x30 + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(number: u64) -> String {
        let mut out = Vec::new();
        decimal(number, &mut |digits, count| out.extend_from_slice(&digits[..count]));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_number_of_four_digits_is_written_in_decimal() {
        for number in 0..10_000 {
            assert_eq!(written(number), number.to_string());
            let high = number * 10_000 + 9_999;
            assert_eq!(written(high), high.to_string());
        }
    }

    proptest! {
        #[test]
        fn numbers_of_any_length_are_written(number: u64, shift in 0..64) {
            let number = number >> shift;
            prop_assert_eq!(written(number), number.to_string());
            prop_assert_eq!(hex(number).to_vec(), format!("{number:016x}").into_bytes());
        }
    }
}
