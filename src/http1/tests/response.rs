//! What a response may look like and what it then means (RFC 9112 4 and 6.3).

use super::super::{HeadError, Method, ResponseFraming, Version};
use super::{parsed_response, response_to, show};

#[track_caller]
fn refused(bytes: &[u8], reason: &str) {
    let HeadError::Malformed(got) = response_to(Method::Get, bytes).map(drop).unwrap_err() else {
        panic!("a limit, {}", show(bytes))
    };
    assert_eq!(got, reason, "{}", show(bytes));
    assert!(parsed_response(Method::Get, bytes).is_err(), "without Scan: {}", show(bytes));
}

#[test]
fn an_ordinary_response() {
    let bytes = b"HTTP/1.1 200 OK\r\nDate: x\r\nKeep-Alive: timeout=5, max=100\r\nContent-Length: 3\r\n\r\n";
    let (head, fields) = response_to(Method::Get, bytes).unwrap();
    assert_eq!((head.status, head.reason.of(bytes)), (200, b"OK".as_slice()));
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.framing, ResponseFraming::Length(3));
    assert!(head.keep_alive && head.has_date && !head.nominated);
    assert_eq!(head.keep_alive_timeout, Some(5));
    assert_eq!(head.len as usize, bytes.len());
    assert_eq!(fields.len(), 3);
}

#[test]
fn status_lines() {
    let good: [(&[u8], u16, &[u8]); 8] = [
        (b"HTTP/1.1 200 ", 200, b""),
        (b"HTTP/1.1 200", 200, b""),
        (b"HTTP/1.0 100 Continue", 100, b"Continue"),
        (b"HTTP/1.1 599 x", 599, b"x"),
        (b"HTTP/1.1 404 Not  Found\t", 404, b"Not  Found\t"),
        (b"HTTP/1.1 200  OK", 200, b" OK"),
        (b"HTTP/1.1 200 \xe4\xff", 200, b"\xe4\xff"),
        (b"HTTP/1.1 200 #", 200, b"#"),
    ];
    for (line, status, reason) in good {
        let bytes = [line, b"\r\n\r\n"].concat();
        let (head, _) = response_to(Method::Get, &bytes).unwrap();
        assert_eq!((head.status, head.reason.of(&bytes)), (status, reason), "{}", show(line));
    }
    let cases: [(&[u8], &str); 18] = [
        (b"HTTP/1.1 099 x", "invalid status code"),
        (b"HTTP/1.1 600 x", "invalid status code"),
        (b"HTTP/1.1 999 x", "invalid status code"),
        (b"HTTP/1.1 000 x", "invalid status code"),
        (b"HTTP/1.1 20 x", "invalid status code"),
        (b"HTTP/1.1 2000 x", "invalid reason phrase"),
        (b"HTTP/1.1 200x", "invalid reason phrase"),
        (b"HTTP/1.1 200\tOK", "invalid reason phrase"),
        (b"HTTP/1.1 200 a\x01", "invalid reason phrase"),
        (b"HTTP/1.1 200 a\x7f", "invalid reason phrase"),
        (b"HTTP/1.1  200 x", "invalid status code"),
        (b"HTTP/1.1\t200 x", "invalid status code"),
        (b"HTTP/1.1 +20 x", "invalid status code"),
        (b"HTTP/1.1", "invalid status code"),
        (b"HTTP/1.2 200 x", "invalid version"),
        (b"HTTP/2.0 200 x", "not an HTTP/1 response"),
        (b"http/1.1 200 x", "not an HTTP/1 response"),
        (b"ICY 200 OK", "not an HTTP/1 response"),
    ];
    for (line, reason) in cases {
        refused(&[line, b"\r\n\r\n"].concat(), reason);
    }
}

#[test]
fn framing() {
    use ResponseFraming::{Chunked, Length, None, UntilClose};
    let cases = [
        (Method::Get, 200, "Content-Length: 0\r\n", Length(0), true),
        (Method::Get, 200, "Transfer-Encoding: chunked\r\n", Chunked, true),
        (Method::Get, 200, "", UntilClose, false),
        (Method::Get, 404, "", UntilClose, false),
        (Method::Get, 205, "Content-Length: 2\r\n", Length(2), true),
        (Method::Get, 100, "", None, true),
        (Method::Get, 101, "Content-Length: 5\r\n", None, true),
        (Method::Get, 103, "Transfer-Encoding: chunked\r\n", None, true),
        (Method::Get, 204, "", None, true),
        (Method::Get, 204, "Content-Length: 0\r\n", None, true),
        (Method::Get, 204, "Content-Length: 5\r\n", None, false),
        (Method::Get, 204, "Transfer-Encoding: chunked\r\n", None, false),
        (Method::Get, 304, "Content-Length: 5\r\n", None, true),
        (Method::Head, 200, "Content-Length: 5\r\n", None, true),
        (Method::Head, 200, "Transfer-Encoding: chunked\r\n", None, true),
        (Method::Head, 200, "", None, true),
        (Method::Connect, 200, "Content-Length: 5\r\n", None, true),
        (Method::Connect, 403, "Content-Length: 5\r\n", Length(5), true),
        (Method::Post, 200, "Content-Length: 5\r\nConnection: close\r\n", Length(5), false),
    ];
    for (method, status, lines, framing, keep_alive) in cases {
        let bytes = format!("HTTP/1.1 {status} x\r\n{lines}\r\n");
        let (head, _) = response_to(method, bytes.as_bytes()).unwrap();
        assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{method:?} {bytes}");
    }
}

#[test]
fn framing_with_two_meanings_is_refused() {
    // Also where there is no content: the fields travel on.
    for status in [200, 204, 304, 103] {
        for (lines, reason) in [
            (
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                "both Content-Length and Transfer-Encoding",
            ),
            ("Content-Length: 3\r\nContent-Length: 3\r\n", "more than one Content-Length"),
            ("Content-Length: 3, 3\r\n", "Content-Length is not a number"),
            ("Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding other than one chunked"),
            ("Transfer-Encoding: identity\r\n", "Transfer-Encoding other than one chunked"),
        ] {
            refused(format!("HTTP/1.1 {status} x\r\n{lines}\r\n").as_bytes(), reason);
        }
    }
    let old = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused(old, "Transfer-Encoding in HTTP/1.0");
}

#[test]
fn field_lines_are_as_strict_as_in_requests() {
    let cases = [
        ("A : b\r\n", "invalid field name"),
        ("A: b\r\n c\r\n", "invalid field name"),
        (": b\r\n", "invalid field name"),
        ("A: \x01\r\n", "invalid field value"),
        ("A: b\nC: d\r\n", "bare LF"),
        ("A: b\rC: d\r\n", "bare CR"),
    ];
    for (lines, reason) in cases {
        refused(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes(), reason);
    }
}

#[test]
fn persistence_of_old_backends() {
    for (lines, keep_alive) in [
        ("Content-Length: 1\r\n", false),
        ("Content-Length: 1\r\nConnection: keep-alive\r\n", true),
        ("Connection: keep-alive\r\n", false),
    ] {
        let bytes = format!("HTTP/1.0 200 OK\r\n{lines}\r\n");
        let (head, _) = response_to(Method::Get, bytes.as_bytes()).unwrap();
        assert_eq!(head.keep_alive, keep_alive, "{lines}");
    }
}

#[test]
fn keep_alive_timeouts() {
    for (value, timeout) in [
        ("timeout=5", Some(5)),
        ("max=3,TIMEOUT = 60", Some(60)),
        ("timeout=0", Some(0)),
        ("timeout", None),
        ("timeout=", None),
        ("timeout=-1", None),
        ("timeout=4294967296", None),
        ("xtimeout=5", None),
        ("", None),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\nKeep-Alive: {value}\r\n\r\n");
        let (head, _) = response_to(Method::Head, bytes.as_bytes()).unwrap();
        assert_eq!(head.keep_alive_timeout, timeout, "{value}");
    }
}
