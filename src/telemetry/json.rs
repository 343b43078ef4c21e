//! JSON, written straight into a buffer: a line of the access log costs a busy
//! proxy little more than the bytes of it. The same bytes as `serde_json` writes.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// `"text"`.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    escaped(out, text);
    out.push(b'"');
}

/// `"bytes"`, if they can stand there as they are; false: nothing was written.
pub(super) fn plain(out: &mut Vec<u8>, bytes: &[u8]) -> bool {
    let plain = |byte: u8| (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
    let all = bytes.iter().fold(true, |all, byte| all & plain(*byte));
    if all {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
    }
    all
}

/// What stands between the quotes.
fn escaped(out: &mut Vec<u8>, text: &str) {
    let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    // Without an early end: many bytes are looked at in one instruction.
    if !text.bytes().fold(false, |found, byte| found | special(byte)) {
        return out.extend_from_slice(text.as_bytes());
    }
    for &byte in text.as_bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte)]);
            }
            _ => out.push(byte),
        }
    }
}

/// The hexadecimal digit of the lower four bits.
pub(super) fn digit(bits: u8) -> u8 {
    match bits & 15 {
        low @ 0..10 => b'0' + low,
        high => b'a' + (high - 10),
    }
}

/// A whole number.
pub(super) fn number(out: &mut Vec<u8>, mut number: u64) {
    if number < 10 {
        return out.push(digit(u8::try_from(number).unwrap_or_default()));
    }
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        // A remainder of ten fits a byte.
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        at -= 1;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Milliseconds, to the microsecond.
pub(super) fn millis(out: &mut Vec<u8>, took: Duration) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    number(out, micros / 1000);
    out.push(b'.');
    let mut rest = micros % 1000;
    let mut unit = 100;
    loop {
        out.push(digit(u8::try_from(rest / unit).unwrap_or_default()));
        rest %= unit;
        if rest == 0 {
            return;
        }
        unit /= 10;
    }
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

/// An address and a port, without quotes.
pub(super) fn socket(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(_) => {
            ip(out, address.ip());
            out.push(b':');
            number(out, address.port().into());
        }
        // As above.
        SocketAddr::V6(_) => drop(write!(out, "{address}")),
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

    proptest! {
        #[test]
        fn texts_are_what_serde_writes(text in "(\\PC|[\\x00-\\x7f\"\\\\])*") {
            prop_assert_eq!(written(|out| string(out, &text)), serde_json::to_string(&text)?);
        }

        #[test]
        fn numbers_are_what_serde_writes(any: u64, micros in 0..1_000_000_000_000_u64) {
            prop_assert_eq!(written(|out| number(out, any)), any.to_string());
            let serde = serde_json::to_string(&(micros as f64 / 1000.0))?;
            prop_assert_eq!(written(|out| millis(out, Duration::from_micros(micros))), serde);
        }

        #[test]
        fn addresses_are_what_they_show(four: [u8; 4], six: [u16; 8], port: u16) {
            for address in [IpAddr::from(four), IpAddr::from(six)] {
                prop_assert_eq!(written(|out| ip(out, address)), address.to_string());
                let address = SocketAddr::new(address, port);
                prop_assert_eq!(written(|out| socket(out, address)), address.to_string());
            }
        }
    }

    #[test]
    fn small_times_keep_their_zeros() {
        for (micros, shown) in [(0, "0.0"), (5, "0.005"), (1000, "1.0"), (1230, "1.23")] {
            assert_eq!(written(|out| millis(out, Duration::from_micros(micros))), shown);
        }
    }
}
