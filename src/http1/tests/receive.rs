//! Heads as they arrive: whole, in pieces, with something before or behind them.

use super::super::{HeadError, HeadLimits, Method, Scan, receive_request, receive_response};
use super::show;

const REQUEST: &[u8] = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\n\r\n";

#[test]
fn a_whole_head_is_there_at_once_whatever_follows_it() {
    let limits = HeadLimits::default();
    let mut fields = Vec::new();
    for behind in [b"".as_slice(), b"hello", b"\0\n", REQUEST] {
        let bytes = [REQUEST, behind].concat();
        let received = receive_request(&mut Scan::request(), &bytes, &limits, &mut fields);
        let (start, head) = received.unwrap().unwrap();
        assert_eq!((start, head.len as usize), (0, REQUEST.len()), "{}", show(&bytes));
        assert_eq!((head.target.of(&bytes), fields.len()), (b"/a".as_slice(), 2));

        let bytes = [RESPONSE, behind].concat();
        let method = Method::Get;
        let received =
            receive_response(&mut Scan::response(), &bytes, &limits, method, &mut fields);
        let head = received.unwrap().unwrap();
        assert_eq!((head.status, head.len as usize), (200, RESPONSE.len()), "{}", show(&bytes));
        assert_eq!(fields.len(), 2);
    }
}

#[test]
fn a_head_in_pieces_is_there_with_its_last_byte() {
    let limits = HeadLimits::default();
    let mut fields = Vec::new();
    let (mut scan, bytes) = (Scan::request(), [b"\r\n", REQUEST].concat());
    for end in 0..bytes.len() {
        let received = receive_request(&mut scan, &bytes[..end], &limits, &mut fields);
        assert_eq!(received, Ok(None), "{end}");
    }
    let received = receive_request(&mut scan, &bytes, &limits, &mut fields);
    let (start, head) = received.unwrap().unwrap();
    assert_eq!((start, head.len as usize), (2, REQUEST.len()));
    // Positions are those in the head, and not in what was received.
    assert_eq!(head.target.of(REQUEST), b"/a");
    assert_eq!(fields[0].name.of(REQUEST), b"Host");

    let (mut scan, method) = (Scan::response(), Method::Get);
    for end in 0..RESPONSE.len() {
        let received = receive_response(&mut scan, &RESPONSE[..end], &limits, method, &mut fields);
        assert_eq!(received, Ok(None), "{end}");
    }
    let received = receive_response(&mut scan, RESPONSE, &limits, method, &mut fields);
    assert_eq!(received.unwrap().unwrap().len as usize, RESPONSE.len());
}

#[test]
fn limits_hold_for_what_is_there_at_once() {
    let limits = HeadLimits { target: 4, fields_size: 24, fields: 2 };
    let cases: [(&[u8], Option<HeadError>); 7] = [
        (b"GET /abc HTTP/1.1\r\nHost: abcd\r\nB: 4567\r\n\r\n", None),
        (b"GET /abcd HTTP/1.1\r\nHost: a\r\n\r\n", Some(HeadError::TargetTooLong)),
        // Too long, and wrong behind that.
        (b"GET /abcd HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Some(HeadError::TargetTooLong)),
        (b"GET / HTTP/1.1\r\nHost: abcd\r\nB: 45678901\r\n\r\n", Some(HeadError::FieldsTooLarge)),
        (b"GET / HTTP/1.1\r\nHost: a\r\nB:\r\nC:\r\n\r\n", Some(HeadError::TooManyFields)),
        // A bad field in front does not hide that there are too many.
        (b"GET / HTTP/1.1\r\nHost : a\r\nB:\r\nC:\r\n\r\n", Some(HeadError::TooManyFields)),
        (b"GET / HTTP/1.1\r\nB :\r\nC:\r\n\r\n", Some(HeadError::Malformed("invalid field name"))),
    ];
    for (bytes, error) in cases {
        let received = receive_request(&mut Scan::request(), bytes, &limits, &mut Vec::new());
        assert_eq!(received.err(), error, "{}", show(bytes));
    }
    let longest = [b"HTTP/1.1 200 ".as_slice(), &[b'a'; (8 << 10) - 13]].concat();
    for (line, good) in [(longest.clone(), true), ([&longest, b"a".as_slice()].concat(), false)] {
        let bytes = [&line, b"\r\n\r\n".as_slice()].concat();
        let (mut scan, mut fields) = (Scan::response(), Vec::new());
        let received = receive_response(&mut scan, &bytes, &limits, Method::Get, &mut fields);
        let too_long = HeadError::Malformed("status line too long");
        assert_eq!(received.err(), (!good).then_some(too_long));
    }
}
