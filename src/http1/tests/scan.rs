//! Where a head ends, and what is refused before it does.

use super::super::{HeadError, HeadLimits, Scan};
use super::show;

const LIMITS: HeadLimits = HeadLimits { target: 9, fields_size: 40, fields: 3 };

#[test]
fn the_head_ends_at_the_first_empty_line() {
    let cases: [(&[u8], std::ops::Range<usize>); 5] = [
        (b"GET / HTTP/1.1\r\n\r\n", 0..18),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n", 0..27),
        (b"GET / HTTP/1.1\r\n\r\nGET /", 0..18),
        (b"\r\nGET / HTTP/1.1\r\n\r\n", 2..20),
        (b"\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n", 4..28),
    ];
    for (bytes, range) in cases {
        assert_eq!(Scan::request().advance(bytes, &LIMITS), Ok(Some(range)), "{}", show(bytes));
    }
    let response = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nx";
    assert_eq!(Scan::response().advance(response, &LIMITS), Ok(Some(0..25)));
}

#[test]
fn every_prefix_of_a_good_head_waits() {
    let head = b"\r\nPOST /a HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n";
    let mut slow = Scan::request();
    for end in 0..head.len() {
        assert_eq!(Scan::request().advance(&head[..end], &LIMITS), Ok(None), "{end}");
        assert_eq!(slow.advance(&head[..end], &LIMITS), Ok(None), "{end}, continued");
    }
    assert_eq!(slow.advance(head, &LIMITS), Ok(Some(2..head.len())));
    // Asked again it says the same.
    assert_eq!(slow.advance(head, &LIMITS), Ok(Some(2..head.len())));
}

#[test]
fn what_can_never_become_a_request_is_refused_at_once() {
    let cases: [(&[u8], &str); 14] = [
        (b"\x16\x03\x01", "not an HTTP request"),
        (b"get", "not an HTTP request"),
        (b" GET", "not an HTTP request"),
        (b"\n", "not an HTTP request"),
        (b"\rG", "not an HTTP request"),
        (b"\0", "not an HTTP request"),
        (b"\r\n\r\n\r\n", "too many empty lines"),
        (b"GeT", "invalid method"),
        (b"G\t", "invalid method"),
        (b"GET\r", "invalid method"),
        (b"AAAAAAAAAABBBBBBBBBBCCCCCCCCCCDDE", "method too long"),
        (b"GET /\n", "bare LF"),
        (b"GET /\rx", "bare CR"),
        (b"GET /\0", "NUL"),
    ];
    for (bytes, reason) in cases {
        let scanned = Scan::request().advance(bytes, &LIMITS);
        assert_eq!(scanned, Err(HeadError::Malformed(reason)), "{}", show(bytes));
    }
}

#[test]
fn what_can_never_become_a_response_is_refused_at_once() {
    let long = [b"HTTP/1.1 200 ".as_slice(), &[b'a'; 9000]].concat();
    let cases: [(&[u8], &str); 7] = [
        (b"S", "not an HTTP/1 response"),
        (b"\r\n", "not an HTTP/1 response"),
        (b"HTTP/2", "not an HTTP/1 response"),
        (b"HTTP/1.1 200 OK\n", "bare LF"),
        (b"HTTP/1.1 200 OK\r\nA: b\n", "bare LF"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\n", "bare LF"),
        (&long, "status line too long"),
    ];
    for (bytes, reason) in cases {
        let scanned = Scan::response().advance(bytes, &LIMITS);
        assert_eq!(scanned, Err(HeadError::Malformed(reason)), "{}", show(bytes));
    }
}

#[test]
fn line_ends_in_fields_are_strict() {
    let cases: [(&[u8], &str); 5] = [
        (b"GET / HTTP/1.1\r\nA: b\n", "bare LF"),
        (b"GET / HTTP/1.1\r\n\n", "bare LF"),
        (b"GET / HTTP/1.1\r\n\r\r", "bare CR"),
        (b"GET / HTTP/1.1\r\nA: b\r\r\n", "bare CR"),
        (b"GET / HTTP/1.1\r\nA: \0", "NUL"),
    ];
    for (bytes, reason) in cases {
        let scanned = Scan::request().advance(bytes, &LIMITS);
        assert_eq!(scanned, Err(HeadError::Malformed(reason)), "{}", show(bytes));
    }
}

#[test]
fn limits_hold_to_the_byte_and_before_the_head_is_whole() {
    // Each is exactly at one limit: target, size of the fields, number of fields.
    let good: [&[u8]; 3] = [
        b"GET /23456789 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: 34567890123456789012345678901234567\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\nA: b\r\nA: b\r\n\r\n",
    ];
    for bytes in good {
        let scanned = Scan::request().advance(bytes, &LIMITS);
        assert!(matches!(scanned, Ok(Some(_))), "{scanned:?} {}", show(bytes));
    }
    let cases: [(&[u8], HeadError); 7] = [
        (b"GET /234567890 HTTP/1.1\r", HeadError::TargetTooLong),
        // Over the limit before it is wrong, as it is when it arrives byte by byte.
        (b"GET /234567890 HTTP/1.1\n", HeadError::TargetTooLong),
        (b"GET / HTTP/1.1\r\nA: 345678901234567890123456789012345678\n", HeadError::FieldsTooLarge),
        (b"GET /23456789012345678901234567890", HeadError::TargetTooLong),
        (b"GET / HTTP/1.1\r\nA: 34567890123456789012345678901234567890", HeadError::FieldsTooLarge),
        (
            b"GET / HTTP/1.1\r\nA: 345678901234567890123456789\r\nA: 4567\r",
            HeadError::FieldsTooLarge,
        ),
        (b"GET / HTTP/1.1\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n", HeadError::TooManyFields),
    ];
    for (bytes, error) in cases {
        assert_eq!(Scan::request().advance(bytes, &LIMITS), Err(error), "{}", show(bytes));
    }
}
