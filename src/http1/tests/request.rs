//! What a request may look like and what it then means (RFC 9112 3, 5 and 6).

use super::super::{HeadError, Method, RequestFraming, Target, Version, parse_request};
use super::{parsed_request, request, show};

/// A head with these field lines behind a good request line and Host.
fn with(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

#[track_caller]
fn refused(bytes: &[u8], reason: &str) {
    let HeadError::Malformed(got) = request(bytes).map(drop).unwrap_err() else {
        panic!("a limit, {}", show(bytes))
    };
    assert_eq!(got, reason, "{}", show(bytes));
    // The parser does not lean on Scan for any of it.
    assert!(parsed_request(bytes).is_err(), "without Scan: {}", show(bytes));
}

#[test]
fn an_ordinary_request() {
    let bytes = b"POST /a/b?c=d HTTP/1.1\r\nHost: a.b:80\r\nX-Y:  v w \t\r\nEmpty:\r\nContent-Length: 5\r\n\r\n";
    let (head, fields) = request(bytes).unwrap();
    assert_eq!((head.method, head.method_name.of(bytes)), (Method::Post, b"POST".as_slice()));
    assert_eq!((head.form, head.target.of(bytes)), (Target::Origin, b"/a/b?c=d".as_slice()));
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.host.unwrap().of(bytes), b"a.b:80");
    assert_eq!(head.framing, RequestFraming::Length(5));
    assert!(head.keep_alive && !head.expect_continue && !head.te_trailers && !head.nominated);
    assert_eq!(head.len as usize, bytes.len());
    let lines: Vec<_> = fields
        .iter()
        .map(|field| {
            (
                field.name.of(bytes),
                field.value.of(bytes),
                &bytes[field.name.start as usize..field.end as usize],
            )
        })
        .collect();
    let want: [(&[u8], &[u8], &[u8]); 4] = [
        (b"Host", b"a.b:80", b"Host: a.b:80\r\n"),
        (b"X-Y", b"v w", b"X-Y:  v w \t\r\n"),
        (b"Empty", b"", b"Empty:\r\n"),
        (b"Content-Length", b"5", b"Content-Length: 5\r\n"),
    ];
    assert_eq!(lines, want);
}

#[test]
fn the_field_list_is_emptied_before_each_head() {
    let mut fields = Vec::new();
    for bytes in [with("A: b\r\nC: d\r\n"), with("")] {
        parse_request(&bytes, &Default::default(), &mut fields).unwrap();
    }
    assert_eq!(fields.len(), 1);
    parse_request(b"nonsense", &Default::default(), &mut fields).unwrap_err();
    assert!(fields.is_empty());
}

#[test]
fn methods() {
    let known = [
        ("GET", Method::Get, true),
        ("HEAD", Method::Head, true),
        ("POST", Method::Post, false),
        ("PUT", Method::Put, true),
        ("DELETE", Method::Delete, true),
        ("OPTIONS", Method::Options, true),
        ("PATCH", Method::Patch, false),
        ("TRACE", Method::Trace, true),
        ("PROPFIND", Method::Other, false),
        ("M-SEARCH", Method::Other, false),
        ("A1_B", Method::Other, false),
        ("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEF", Method::Other, false),
    ];
    for (name, method, idempotent) in known {
        let bytes = format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        let (head, _) = request(&bytes).unwrap();
        assert_eq!((head.method, head.method_name.of(&bytes)), (method, name.as_bytes()));
        assert_eq!(method.is_idempotent(), idempotent, "{name}");
    }
    assert!(!Method::Connect.is_idempotent());
    for name in ["GEt", "G.T", "G!T", "GE(T", "G\u{e4}"] {
        refused(format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), "invalid method");
    }
    for name in ["get", "1GET", "-GET", ""] {
        refused(format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), "not an HTTP request");
    }
    let long = "A".repeat(33);
    refused(format!("{long} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), "method too long");
}

#[test]
fn request_lines() {
    let cases: [(&[u8], &str); 17] = [
        (b"GET  / HTTP/1.1", "invalid request target"),
        (b"GET /  HTTP/1.1", "invalid request target"),
        (b"GET / a HTTP/1.1", "invalid request target"),
        (b"GET\t/ HTTP/1.1", "invalid method"),
        (b"GET /\tHTTP/1.1", "invalid version"),
        (b"GET / HTTP/1.1 ", "invalid version"),
        (b"GET  HTTP/1.1", "invalid request target"),
        (b"GET HTTP/1.1", "invalid version"),
        (b"GET /", "invalid version"),
        (b"GET / HTTP/1.2", "invalid version"),
        (b"GET / HTTP/2.0", "invalid version"),
        (b"GET / HTTP/0.9", "invalid version"),
        (b"GET / http/1.1", "invalid version"),
        (b"GET / HTTP/1.10", "invalid version"),
        (b"GET / HTTP/01.1", "invalid version"),
        (b"PRI * HTTP/2.0", "invalid version"),
        (b"GET", "invalid method"),
    ];
    for (line, reason) in cases {
        refused(&[line, b"\r\nHost: a\r\n\r\n"].concat(), reason);
    }
}

#[test]
fn bytes_of_the_target() {
    for byte in 0..=255_u8 {
        let head = [b"GET /a", [byte].as_slice(), b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let good = byte > b' ' && byte != 0x7f && byte != b'#';
        assert_eq!(parsed_request(&head).is_ok(), good, "{byte:#x}");
        assert_eq!(request(&head).is_ok(), good, "{byte:#x}");
    }
    // What a careful server may dislike still passes as it is.
    for target in ["/%zz", "//a//b", "/a/../b", "/%2e%2F", "/?", "/;p=1", "/[]{}|\"<>^`\\"] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        assert_eq!(request(&head).unwrap().0.target.of(&head), target.as_bytes());
    }
}

#[test]
fn forms_of_the_target() {
    let absolute = [
        ("GET", "http://a.b/c?d", false, "a.b", "/c?d"),
        ("GET", "HTTPS://a:8030/", true, "a:8030", "/"),
        ("POST", "http://a", false, "a", ""),
        ("GET", "http://a?q", false, "a", "?q"),
        ("GET", "http://[::1]:80/", false, "[::1]:80", "/"),
        ("OPTIONS", "http://a", false, "a", ""),
        ("GET", "http://a/http://b/@", false, "a", "/http://b/@"),
    ];
    for (method, target, want_https, want_authority, want_path) in absolute {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: other\r\n\r\n").into_bytes();
        let (parsed, _) = request(&head).unwrap();
        let Target::Absolute { https, authority, path } = parsed.form else { panic!("{target}") };
        assert_eq!((https, authority.of(&head)), (want_https, want_authority.as_bytes()));
        assert_eq!(path.of(&head), want_path.as_bytes());
    }
    for (line, form) in [
        ("OPTIONS *", Target::Asterisk),
        ("OPTIONS /", Target::Origin),
        ("CONNECT a.b:443", Target::Authority),
        ("CONNECT [::1]:443", Target::Authority),
    ] {
        let head = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(request(head.as_bytes()).unwrap().0.form, form, "{line}");
    }
    let cases = [
        ("GET *", "invalid target form"),
        ("OPTIONS **", "invalid target form"),
        ("GET a", "invalid target form"),
        ("GET a:80", "invalid target form"),
        ("GET ?q", "invalid target form"),
        ("GET ftp://a/", "invalid target form"),
        ("GET ws://a/", "invalid target form"),
        ("GET http:/a", "invalid target form"),
        ("GET http:a", "invalid target form"),
        ("GET http://", "invalid authority in target"),
        ("GET http:///a", "invalid authority in target"),
        ("GET http://?a", "invalid authority in target"),
        ("GET http://u@a/", "invalid authority in target"),
        ("GET http://u:p@a/", "invalid authority in target"),
        ("GET http://a:b/", "invalid authority in target"),
        ("GET http://a\\b/", "invalid authority in target"),
        ("GET http://a,b/", "invalid authority in target"),
        ("CONNECT /", "CONNECT without host:port"),
        ("CONNECT a", "CONNECT without host:port"),
        ("CONNECT a:", "CONNECT without host:port"),
        ("CONNECT [::1]", "CONNECT without host:port"),
        ("CONNECT u@a:1", "CONNECT without host:port"),
        ("CONNECT http://a:80/", "CONNECT without host:port"),
    ];
    for (line, reason) in cases {
        refused(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), reason);
    }
}

#[test]
fn hosts() {
    let good = [
        "a",
        "A.b-C.d",
        "a:80",
        "a:",
        "a:0",
        "a:65535",
        "a:00080",
        "1.2.3.4:5",
        "[::1]",
        "[::1]:80",
        "[::ffff:1.2.3.4]:",
        "a_b",
        "a%20b",
        "a!$&'()*+;=~",
        "xn--9d0b",
    ];
    for host in good {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        assert_eq!(request(&head).unwrap().0.host.unwrap().of(&head), host.as_bytes());
    }
    let bad = [
        "",
        ":80",
        "a:65536",
        "a:-1",
        "a:+1",
        "a:b",
        "a:1:2",
        "a:000080",
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "a@b",
        "a,b",
        "a, a",
        "a\\b",
        "a\"b",
        "a<b",
        "a|b",
        "a^b",
        "a%2",
        "a%2z",
        "a%z2",
        "a%zz",
        "%",
        "[::1",
        "::1",
        "[::1]80",
        "[::1%25eth0]",
        "[]",
        "[1.2.3.4]",
        "[v1.a]",
        "[::1]]",
        "a]",
        "a[",
        "\u{e4}",
        "a\tb",
        "http://a",
    ];
    for host in bad {
        refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes(), "invalid Host");
    }
    refused(b"GET / HTTP/1.1\r\n\r\n", "no Host");
    refused(b"GET http://a/ HTTP/1.1\r\n\r\n", "no Host");
    refused(&with("Host: a\r\n"), "more than one Host");
    refused(&with("hOST: b\r\n"), "more than one Host");
    assert_eq!(request(b"GET / HTTP/1.0\r\n\r\n").unwrap().0.host, None);
    refused(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "more than one Host");
}

#[test]
fn field_lines() {
    for line in ["A: b\u{e4}", "A:\tb", "A:", "A: ", "A: b c\td", "a!#$%&'*+-.^_`|~1: b"] {
        assert!(request(&with(&format!("{line}\r\n"))).is_ok(), "{line}");
    }
    for byte in (0..=255_u8).filter(|byte| !b"\r\n".contains(byte)) {
        let head =
            [with("").strip_suffix(b"\r\n").unwrap(), b"A: b", &[byte], b"c\r\n\r\n"].concat();
        let good = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        assert_eq!(parsed_request(&head).is_ok(), good, "{byte:#x}");
    }
    let cases = [
        ("A : b", "invalid field name"),
        ("A\t: b", "invalid field name"),
        (" A: b", "invalid field name"),
        (": b", "invalid field name"),
        ("A", "invalid field name"),
        ("A b: c", "invalid field name"),
        ("A\u{e4}: b", "invalid field name"),
        ("A(: b", "invalid field name"),
        ("A: b\r\n c", "invalid field name"),
        ("A: b\r\n\tc: d", "invalid field name"),
        ("A: \x01", "invalid field value"),
        ("A: \x7f", "invalid field value"),
        ("A: b\nC: d", "bare LF"),
        ("A: b\n", "bare LF"),
        ("A:\n", "bare LF"),
        ("A: b\rC: d", "bare CR"),
        ("A: b\r", "bare CR"),
        ("A: \0", "NUL"),
    ];
    for (line, reason) in cases {
        refused(&with(&format!("{line}\r\n")), reason);
    }
    // A fold right behind the request line.
    refused(b"GET / HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n", "invalid field name");
}

#[test]
fn framing() {
    let good = [
        ("", RequestFraming::None),
        ("Content-Length: 0\r\n", RequestFraming::Length(0)),
        ("content-length: 007\r\n", RequestFraming::Length(7)),
        ("Content-Length: 18446744073709551615\r\n", RequestFraming::Length(u64::MAX)),
        ("Transfer-Encoding: chunked\r\n", RequestFraming::Chunked),
        ("transfer-encoding:Chunked \r\n", RequestFraming::Chunked),
    ];
    for (lines, framing) in good {
        assert_eq!(request(&with(lines)).unwrap().0.framing, framing, "{lines}");
    }
    for value in [
        "",
        "+3",
        "-1",
        "0x3",
        "3, 3",
        "3,",
        "3 3",
        "3.0",
        "a",
        "18446744073709551616",
        "20000000000000000000",
    ] {
        refused(&with(&format!("Content-Length: {value}\r\n")), "Content-Length is not a number");
    }
    for codings in [
        "",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "identity",
        ",chunked",
        "chunked,",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunke",
    ] {
        let lines = format!("Transfer-Encoding: {codings}\r\n");
        refused(&with(&lines), "Transfer-Encoding other than one chunked");
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    refused(&with(twice), "Transfer-Encoding other than one chunked");
    let mixed = "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n";
    refused(&with(mixed), "Transfer-Encoding other than one chunked");
    refused(&with("Content-Length: 3\r\nContent-Length: 3\r\n"), "more than one Content-Length");
    for both in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
    ] {
        refused(&with(both), "both Content-Length and Transfer-Encoding");
    }
    refused(
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "Transfer-Encoding in HTTP/1.0",
    );
}

#[test]
fn persistence_and_nominated_fields() {
    let cases = [
        ("1.1", "", true, false),
        ("1.0", "", false, false),
        ("1.0", "Connection: keep-alive\r\n", true, false),
        ("1.0", "Connection: Keep-Alive, close\r\n", false, false),
        ("1.1", "Connection: CLOSE\r\n", false, false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false, false),
        ("1.1", "Connection: closed\r\n", true, true),
        ("1.1", "Connection: \"close\"\r\n", true, true),
        ("1.1", "Connection: , ,\tTE ,Upgrade,trailer,Transfer-Encoding\r\n", true, false),
        ("1.1", "Connection: proxy-connection, connection\r\n", true, false),
        ("1.1", "Connection: Upgrade, HTTP2-Settings\r\n", true, true),
        ("1.1", "Connection: X-Foo, close\r\n", false, true),
        ("1.1", "Connection:\r\n", true, false),
        ("1.1", "Proxy-Connection: close\r\n", true, false),
    ];
    for (version, lines, keep_alive, nominated) in cases {
        let head = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        let (parsed, _) = request(head.as_bytes()).unwrap();
        assert_eq!((parsed.keep_alive, parsed.nominated), (keep_alive, nominated), "{lines}");
    }
}

#[test]
fn connection_may_not_name_without_end() {
    // 1,024 bytes, in one field or several.
    let whole = format!("Connection: {}\r\n", "a,".repeat(512));
    let split = format!("Connection: {}\r\n", "a,".repeat(256)).repeat(2);
    for lines in [whole, split] {
        assert!(request(&with(&lines)).is_ok());
        let error = request(&with(&(lines + "Connection: a\r\n"))).unwrap_err();
        assert_eq!(error, HeadError::Malformed("Connection names too much"));
    }
}

#[test]
fn expect_and_te() {
    let cases = [
        ("1.1", "Expect: 100-Continue\r\n", true, false),
        ("1.0", "Expect: 100-continue\r\n", false, false),
        ("1.1", "Expect: 100-continue, x\r\n", false, false),
        ("1.1", "Expect: 417-me\r\n", false, false),
        ("1.1", "TE: trailers\r\n", false, true),
        ("1.1", "TE: gzip;q=0.5, Trailers\r\n", false, true),
        ("1.1", "TE: trailers;q=1\r\n", false, false),
        ("1.1", "TE: gzip\r\n", false, false),
        ("1.1", "TE: gzip\r\nTE: trailers\r\n", false, true),
        ("1.1", "TE: trailers\r\nTE: gzip\r\n", false, true),
    ];
    for (version, lines, expect, te) in cases {
        let head = format!("POST / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        let (parsed, _) = request(head.as_bytes()).unwrap();
        assert_eq!((parsed.expect_continue, parsed.te_trailers), (expect, te), "{lines}");
    }
}

#[test]
fn the_number_of_fields_is_limited() {
    for limit in [2, 31, 32, 33, 100, 1000] {
        let limits = super::super::HeadLimits { fields: limit, ..Default::default() };
        for (count, good) in [(limit - 1, true), (limit, true), (limit + 1, false)] {
            let head = with(&"A: b\r\n".repeat(count - 1));
            let mut fields = Vec::new();
            let parsed = parse_request(&head, &limits, &mut fields);
            if good {
                assert!(parsed.is_ok(), "{count} of {limit}");
                assert_eq!(fields.len(), count);
            } else {
                assert_eq!(parsed.unwrap_err(), HeadError::TooManyFields, "{count} of {limit}");
            }
        }
    }
}

#[test]
fn sizes_are_limited_without_scan_too() {
    let limits = super::super::HeadLimits { target: 4, fields_size: 12, fields: 9 };
    let parse = |head: &[u8]| parse_request(head, &limits, &mut Vec::new()).map(drop);
    assert_eq!(parse(b"GET /abc HTTP/1.1\r\nHost: abcd\r\n\r\n"), Ok(()));
    assert_eq!(parse(b"GET /abcd HTTP/1.1\r\nHost: abcd\r\n\r\n"), Err(HeadError::TargetTooLong));
    assert_eq!(parse(b"GET /abc HTTP/1.1\r\nHost: abcde\r\n\r\n"), Err(HeadError::FieldsTooLarge));
}

#[test]
fn exactly_the_head_is_taken() {
    let whole = with("A: b\r\n");
    for end in 0..whole.len() {
        assert!(parsed_request(&whole[..end]).is_err(), "{end} bytes");
    }
    let more = [&whole, b"x".as_slice()].concat();
    assert_eq!(parsed_request(&more).unwrap_err(), HeadError::Malformed("bytes after the head"));
    assert!(parsed_request(b"\r\nGET / HTTP/1.0\r\n\r\n").is_err(), "an empty line before");
}
