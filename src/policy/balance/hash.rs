//! The hash picks go by, and what is built on it.

/// Odd 64-bit constants with no pattern: the fractional bits of the golden
/// ratio, and of the square roots of 2 and 3.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const ROOT_2: u64 = 0x6a09_e667_f3bc_c909;
const ROOT_3: u64 = 0xbb67_ae85_84ca_a73b;

/// A 64-bit hash that is the same in every process, on every machine and in
/// every version, so that all instances of lockgate send one key to one
/// backend. It guards against nothing: who knows it can choose where to land.
///
/// Eight bytes at a time, little-endian, the last ones padded with zeros: xor
/// into the state, multiply, fold the upper half down. Each step can be
/// undone, so texts of one length that differ in one word never collide. The
/// start depends on the length; `mix` ends it.
pub fn key_hash(bytes: &[u8]) -> u64 {
    let length = bytes.len() as u64;
    let mut state = ROOT_2 ^ length.wrapping_mul(GOLDEN);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        state = step(state, u64::from_le_bytes(*word));
    }
    if !tail.is_empty() {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(tail) {
            *to = *from;
        }
        state = step(state, u64::from_le_bytes(word));
    }
    mix(state)
}

fn step(state: u64, word: u64) -> u64 {
    let product = (state ^ word).wrapping_mul(ROOT_3);
    product ^ (product >> 32)
}

/// Spreads every bit over all 64 (the finalizer of SplitMix64, Steele, Lea and
/// Flood 2014, with the step of its sequence). A bijection.
pub(super) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(GOLDEN);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The bits of one member for one key, from two words of the key and the member's
/// seed, all of them from [`mix`]: their product, its upper half folded down
/// (as wyhash does it). It is asked of every member at every pick, and a third
/// of [`mix`].
pub(super) fn blend(key: (u64, u64), seed: u64) -> u64 {
    let (one, other) = (key.0 ^ seed, key.1.wrapping_add(seed));
    let upper = (u128::from(one) * u128::from(other)) >> 64;
    // The upper half of 128 bits fits.
    one.wrapping_mul(other) ^ u64::try_from(upper).unwrap_or(0)
}

/// A place in `0..len`, all as likely, from 64 random bits.
pub(super) fn scale(chance: u64, len: usize) -> usize {
    let product = u128::from(chance) * (len as u128);
    // The upper half is less than `len`, so it fits.
    usize::try_from(product >> 64).unwrap_or(0)
}

/// A number above 0 and below 1, from 64 random bits. It has 53 bits, so it is
/// exact and so is 1 minus it.
pub(super) fn unit(random: u64) -> f64 {
    const STEP: f64 = 1.0 / (1_u64 << 52) as f64;
    ((random >> 12) as f64 + 0.5) * STEP
}

/// One by the odd numbers from 15 down to 1: artanh(x) / x in powers of x².
const SERIES: [f64; 8] =
    [1.0 / 15.0, 1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0, 1.0];

/// `-ln(1 - gap)` for a `gap` as [`unit()`] gives it.
///
/// Made of nothing but sums, products and quotients, which IEEE 754 defines to
/// the last bit; the logarithm of a system's library may differ from machine
/// to machine.
pub(super) fn distance(gap: f64) -> f64 {
    let mut gap = gap;
    let mut doublings = 0.0;
    // 1 - gap is at least 2^-53: at most 53 rounds, and mostly none or one.
    while gap > 0.3 {
        let rest = 2.0 * (1.0 - gap);
        gap = 1.0 - rest;
        doublings += 1.0;
    }
    // -ln(1 - gap) = 2 artanh(gap / (2 - gap)). With gap between -0.4 and 0.3
    // the argument is below 0.18, and eight terms leave an error of 1e-13.
    let ratio = gap / (2.0 - gap);
    let square = ratio * ratio;
    let sum = SERIES.iter().fold(0.0, |sum, term| sum * square + term);
    2.0 * ratio * sum + doublings * std::f64::consts::LN_2
}
