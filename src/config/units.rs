//! Durations and sizes as they are written: `"1m30s"`, `"64KiB"`.

use std::time::Duration;

/// Units of a duration, the longest first, in milliseconds.
const TIMES: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of a size, the largest first, in bytes.
const SIZES: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads `"10s"`, `"1m30s"`, `"500ms"`: whole numbers with a unit, the longest
/// unit first and none twice. `None` for anything else.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = TIMES.as_slice();
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(letters)?;
        let at = units.iter().position(|(name, _)| *name == unit)?;
        let (_, milliseconds) = units.get(at)?;
        total = total.checked_add(number.checked_mul(*milliseconds)?)?;
        units = units.get(at + 1..)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_millis(total))
}

/// The form [`parse_duration`] reads, in the largest units: `1m30s`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut shown = String::new();
    for (name, milliseconds) in TIMES {
        let count = rest / milliseconds;
        // "24h" and "1h" are how the ranges are written; days only when whole.
        if count == 0 || (name == "d" && (!rest.is_multiple_of(milliseconds) || count == 1)) {
            continue;
        }
        shown.push_str(&format!("{count}{name}"));
        rest %= milliseconds;
    }
    if shown.is_empty() { "0s".to_owned() } else { shown }
}

/// Reads `"64KiB"`, `"1MiB"`, `"512B"`: one whole number and one unit.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let (_, bytes) = SIZES.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*bytes)
}

/// The form [`parse_size`] reads, in the largest unit that is exact.
pub(super) fn show_size(bytes: u64) -> String {
    let exact = SIZES.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match exact {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => "0".to_owned(),
    }
}

/// What was meant by `"64K"`, `"10MB"`, `"64 kib"`: the same number with the
/// unit spelt our way.
pub(super) fn guess_size(text: &str) -> Option<String> {
    let (number, unit) = split_number(text.trim())?;
    let letter = unit.trim().chars().next()?.to_ascii_uppercase();
    let (name, _) = SIZES.iter().find(|(name, _)| name.starts_with(letter))?;
    Some(format!("{number}{name}"))
}

/// The digits at the start, as a number, and what follows them.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read() {
        let cases = [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1h", 3_600_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("0s", 0),
            ("90m", 5_400_000),
        ];
        for (text, milliseconds) in cases {
            let want = Some(Duration::from_millis(milliseconds));
            assert_eq!(parse_duration(text), want, "{text}");
        }
    }

    #[test]
    fn other_durations_are_refused() {
        for text in [
            "",
            "10",
            "s",
            "10 s",
            "1.5s",
            "-1s",
            "30s1m",
            "1s1s",
            "10sec",
            "10S",
            "1m30",
            "99999999999999999999s",
            "18446744073709551615d",
            "1µs",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_the_largest_units() {
        let cases =
            [(0, "0s"), (1, "1ms"), (90_000, "1m30s"), (86_400_000, "24h"), (2_592_000_000, "30d")];
        for (milliseconds, shown) in cases {
            assert_eq!(show_duration(Duration::from_millis(milliseconds)), shown);
        }
    }

    #[test]
    fn sizes_are_read_and_shown() {
        let cases = [
            ("512B", 512),
            ("64KiB", 65_536),
            ("1MiB", 1 << 20),
            ("10GiB", 10 << 30),
            ("2TiB", 2 << 40),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(show_size(bytes), text);
        }
        for text in ["", "64", "64K", "64KB", "64kib", "KiB", "-1KiB", "1.5MiB", "99999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn a_wrong_size_unit_is_understood() {
        assert_eq!(guess_size("64K").as_deref(), Some("64KiB"));
        assert_eq!(guess_size("10 mb").as_deref(), Some("10MiB"));
        assert_eq!(guess_size("ten"), None);
        assert_eq!(guess_size("10"), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(milliseconds in 0_u64..10_000_000_000, bytes in 1_u64..u64::MAX) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
            prop_assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
        }
    }
}
