//! The names of requests that others gave.

use std::ops::Range;

/// Of a longer one nobody needs to keep the rest.
const LONGEST: usize = 128;

/// Whether a trusted peer's `X-Request-Id` may be a request's name: it stands in
/// logs, in error pages and on command lines, so it is one short plain word.
pub fn is_request_id(value: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=:@".contains(byte);
    (1..=LONGEST).contains(&value.len()) && value.iter().all(plain)
}

/// The trace id of a valid `traceparent` (W3C Trace Context 3.2): of version 00,
/// or of a later one as far as that must agree with it.
pub fn trace_id(value: &[u8]) -> Option<&str> {
    let (known, more) = value.split_at_checked(55)?;
    let dashes = [2, 35, 52].iter().all(|at| known.get(*at) == Some(&b'-'));
    let part = |range: Range<usize>| {
        let part: Option<&[u8]> = known.get(range);
        part.filter(|part| part.iter().all(is_digit))
    };
    let not_zero = |part: &&[u8]| part.iter().any(|byte| *byte != b'0');
    let version = part(0..2).filter(|version| *version != b"ff")?;
    let trace = part(3..35).filter(not_zero)?;
    part(36..52).filter(not_zero)?;
    part(53..55)?;
    let ends = more.is_empty() || (version != b"00" && more.first() == Some(&b'-'));
    std::str::from_utf8(trace).ok().filter(|_| dashes && ends)
}

/// Lower case only.
fn is_digit(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_plain_word() {
        for good in ["a", "0123456789abcdef", "Root=1-67891233-abcd", "a.b_c~d+e/f:g@h"] {
            assert!(is_request_id(good.as_bytes()), "{good}");
        }
        assert!(is_request_id(&[b'a'; 128]));
        assert!(!is_request_id(&[b'a'; 129]));
        for bad in ["", "a b", "a\"b", "a\\b", "a,b", "a\x1bb", "a?b", "\u{e9}", "a\tb"] {
            assert!(!is_request_id(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_traceparent_is_as_w3c_has_it() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        for good in
            ["00-T-b7ad6b7169203331-01", "00-T-b7ad6b7169203331-ff", "01-T-b7ad6b7169203331-01-x"]
        {
            let value = good.replace('T', trace);
            assert_eq!(trace_id(value.as_bytes()), Some(trace), "{value}");
        }
        for bad in [
            "",
            "00-T-b7ad6b7169203331",
            "00-T-b7ad6b7169203331-01-x",
            "00-T-b7ad6b7169203331-01-",
            "01-T-b7ad6b7169203331-01x",
            "ff-T-b7ad6b7169203331-01",
            "00-T-0000000000000000-01",
            "00-T-B7AD6B7169203331-01",
            "00-T-b7ad6b7169203331-0g",
            "00-T_b7ad6b7169203331-01",
            "0x-T-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            assert_eq!(trace_id(bad.replace('T', trace).as_bytes()), None, "{bad}");
        }
    }
}
