//! From when until when a certificate is valid. rustls checks its peers' but
//! does not tell our own, so the few bytes are read here (RFC 5280 4.1).

use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, the version: left out in the oldest certificates.
const VERSION: u8 = 0xa0;

/// The first and the last moment at which a certificate (DER) is valid.
/// `None` when it is not written as RFC 5280 says.
pub(super) fn validity(der: &[u8]) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (signed_part, _) = element(certificate, SEQUENCE)?;
    let rest = element(signed_part, VERSION).map_or(signed_part, |(_, rest)| rest);
    let (_serial, rest) = element(rest, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (times, _) = element(rest, SEQUENCE)?;
    let (from, rest) = moment(times)?;
    let (until, _) = moment(rest)?;
    Some((from, until))
}

/// The content of the first element, which must have this tag, and what
/// follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        ..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            let length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    (*first == tag).then(|| rest.split_at_checked(length))?
}

fn moment(der: &[u8]) -> Option<(OffsetDateTime, &[u8])> {
    if let Some((text, rest)) = element(der, GENERALIZED_TIME) {
        let (year, text) = text.split_at_checked(4)?;
        return Some((date_time(i32::try_from(number(year)?).ok()?, text)?, rest));
    }
    let (text, rest) = element(der, UTC_TIME)?;
    let (year, text) = text.split_at_checked(2)?;
    let year = i32::try_from(number(year)?).ok()?;
    // RFC 5280 4.1.2.5.1: two digits mean 1950 to 2049.
    let year = if year < 50 { 2000 + year } else { 1900 + year };
    Some((date_time(year, text)?, rest))
}

/// `MMDDHHMMSSZ` of a year.
fn date_time(year: i32, text: &[u8]) -> Option<OffsetDateTime> {
    let mut pairs = text.strip_suffix(b"Z")?.chunks(2).map(number);
    let mut next = || u8::try_from(pairs.next()??).ok();
    let date = Date::from_calendar_date(year, Month::try_from(next()?).ok()?, next()?).ok()?;
    let time = Time::from_hms(next()?, next()?, next()?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc())
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(until: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["x.com".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(1999, 12, 31);
        params.not_after = rcgen::date_time_ymd(until, 2, 28);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn both_ways_to_write_a_year_are_read() {
        // From 2050 on the year has four digits.
        for until in [2049, 2050, 2999] {
            let (from, last) = validity(&certificate(until)).unwrap();
            assert_eq!(from, rcgen::date_time_ymd(1999, 12, 31));
            assert_eq!(last, rcgen::date_time_ymd(until, 2, 28));
        }
    }

    #[test]
    fn a_cut_certificate_has_no_validity() {
        let der = certificate(2030);
        for length in 0..100 {
            assert_eq!(validity(&der[..length]), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(at in 0_usize..200, byte: u8, bytes: Vec<u8>) {
            let _ = validity(&bytes);
            let mut der = vec![SEQUENCE, 0x10, SEQUENCE, 0x0e, INTEGER, 0, SEQUENCE, 0, SEQUENCE, 0, SEQUENCE, 6];
            der.extend([UTC_TIME, 2, b'1', b'2', b'3', b'4']);
            if let Some(place) = der.get_mut(at) {
                *place = byte;
            }
            let _ = validity(&der);
        }
    }
}
