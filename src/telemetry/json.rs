//! JSON, written straight into a buffer: a line of the access log costs a busy
//! proxy little more than the bytes of it. The same bytes as `serde_json` writes.

use std::io::Write as _;
use std::net::IpAddr;

use super::counts::Micros;
use super::digits::{ONES, decimal, thousandths};

/// A text, without its quotes.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    match is_any(text.as_bytes(), special) {
        false => out.extend_from_slice(text.as_bytes()),
        true => escaped(out, text.as_bytes()),
    }
}

/// Bytes likewise, if they can stand there as they are; false: nothing was written.
pub(super) fn plain(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let all = !is_any(bytes, |word| special(word) | unprintable(word));
    if all {
        out.extend_from_slice(bytes);
    }
    all
}

/// The highest bit of each byte of a word.
const HIGHEST: u64 = ONES * 0x80;

/// Whether `test` finds something in one of the words that the bytes are made of:
/// it gives something else than 0 then. Texts here are short and nearly always
/// plain, so it is asked about all of them, eight bytes at a time.
#[inline]
fn is_any(bytes: &[u8], test: impl Fn(u64) -> u64) -> bool {
    let last = match bytes.last_chunk() {
        // Some of it is looked at twice.
        Some(last) => u64::from_ne_bytes(*last),
        None => bytes.iter().fold(ONES * 0x20, |word, byte| (word << 8) | u64::from(*byte)),
    };
    let (words, _) = bytes.as_chunks();
    words.iter().fold(test(last), |found, word| found | test(u64::from_ne_bytes(*word))) != 0
}

/// Whether JSON has another way to write a byte of the word.
#[inline]
fn special(word: u64) -> u64 {
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | is(b'"') | is(b'\\')
}

/// Whether a byte of the word is above ASCII's printable ones.
#[inline]
fn unprintable(word: u64) -> u64 {
    (word & HIGHEST) | below(word ^ (ONES * 0x7f), 1)
}

/// Whether a byte of the word is below `bound`, which is 128 at most: the lowest
/// such byte borrows, and then its highest bit is set, which was not before.
#[inline]
fn below(word: u64, bound: u64) -> u64 {
    word.wrapping_sub(ONES * bound) & !word & HIGHEST
}

#[cold]
fn escaped(out: &mut Vec<u8>, mut text: &[u8]) {
    let special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
    while let Some(at) = text.iter().position(special)
        && let Some((run, [byte, rest @ ..])) = text.split_at_checked(at)
    {
        out.extend_from_slice(run);
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(*byte)]);
            }
            _ => out.extend_from_slice(&[b'\\', *byte]),
        }
        text = rest;
    }
    out.extend_from_slice(text);
}

/// The hexadecimal digit of the lower four bits.
pub(super) fn digit(bits: u8) -> u8 {
    match bits & 15 {
        low @ 0..10 => b'0' + low,
        high => b'a' + (high - 10),
    }
}

/// A whole number.
pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    decimal(number, &mut |digits, count| front(out, digits, count));
}

/// Milliseconds, to the microsecond.
pub(super) fn millis(out: &mut Vec<u8>, Micros(micros): Micros) {
    thousandths(micros, &mut |digits, count| front(out, digits, count));
}

/// The first so many of the digits.
#[inline]
fn front(out: &mut Vec<u8>, digits: [u8; 8], count: usize) {
    let end = out.len() + count;
    out.extend_from_slice(&digits);
    out.truncate(end);
}

/// An address, without quotes.
pub(super) fn ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            number(out, a.into());
            for octet in [b, c, d] {
                out.push(b'.');
                number(out, octet.into());
            }
        }
        // Writing to a Vec does not fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn quoted(text: &str) -> String {
        format!("\"{}\"", written(|out| string(out, text)))
    }

    proptest! {
        #[test]
        fn texts_are_what_serde_writes(text in "(\\PC|[\\x00-\\x7f\"\\\\])*") {
            prop_assert_eq!(quoted(&text), serde_json::to_string(&text)?);
        }

        /// One byte that is not like the others, at each place of a text that ends
        /// anywhere in a word.
        #[test]
        fn one_special_byte_is_found_wherever_it_is(
            plain in "[ -~&&[^\"\\\\]]{0,40}", at: prop::sample::Index, byte: u8,
        ) {
            let at = at.index(plain.len() + 1);
            let text = format!("{}{}{}", &plain[..at], char::from(byte), &plain[at..]);
            prop_assert_eq!(quoted(&text), serde_json::to_string(&text)?);
            let mut bytes = plain.into_bytes();
            bytes.insert(at, byte);
            let mut out = Vec::new();
            let is_plain = matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
            prop_assert_eq!(super::plain(&mut out, &bytes), is_plain);
            prop_assert_eq!(out, if is_plain { bytes } else { Vec::new() });
        }

        #[test]
        fn numbers_are_what_serde_writes(any: u64, micros in 0..1_000_000_000_000_u64) {
            prop_assert_eq!(written(|out| number(out, any)), any.to_string());
            let serde = serde_json::to_string(&(micros as f64 / 1000.0))?;
            prop_assert_eq!(written(|out| millis(out, Micros(micros))), serde);
        }

        #[test]
        fn addresses_are_what_they_show(four: [u8; 4], six: [u16; 8]) {
            for address in [IpAddr::from(four), IpAddr::from(six)] {
                prop_assert_eq!(written(|out| ip(out, address)), address.to_string());
            }
        }
    }

    #[test]
    fn small_times_keep_their_zeros() {
        for (micros, shown) in [
            (0, "0.0"),
            (5, "0.005"),
            (1000, "1.0"),
            (1230, "1.23"),
            (99_999_999, "99999.999"),
            (100_000_000, "100000.0"),
            (u64::MAX, "18446744073709551.615"),
        ] {
            assert_eq!(written(|out| millis(out, Micros(micros))), shown);
        }
    }
}
