//! Names, nominated fields and trailers.

use proptest::prelude::*;

use super::super::{
    HeadError, HeadLimits, Known, Span, is_nominated, may_be_nominated, parse_trailers,
    trailer_allowed,
};
use super::request;

/// Every name we know, as RFCs write it, with whether something resembling it is a shadow.
const NAMES: [(&str, Known, bool); 34] = [
    ("Host", Known::Host, false),
    ("Content-Length", Known::ContentLength, true),
    ("Transfer-Encoding", Known::TransferEncoding, true),
    ("Connection", Known::Connection, false),
    ("Keep-Alive", Known::KeepAlive, false),
    ("Proxy-Connection", Known::ProxyConnection, true),
    ("Proxy-Authenticate", Known::ProxyAuthenticate, false),
    ("Proxy-Authorization", Known::ProxyAuthorization, false),
    ("Proxy-Authentication-Info", Known::ProxyAuthenticationInfo, false),
    ("TE", Known::Te, false),
    ("Trailer", Known::Trailer, false),
    ("Upgrade", Known::Upgrade, false),
    ("Expect", Known::Expect, false),
    ("Date", Known::Date, false),
    ("Server", Known::Server, false),
    ("Cookie", Known::Cookie, false),
    ("Set-Cookie", Known::SetCookie, false),
    ("Forwarded", Known::Forwarded, false),
    ("Via", Known::Via, false),
    ("X-Forwarded-For", Known::XForwardedFor, true),
    ("X-Forwarded-Proto", Known::XForwardedProto, true),
    ("X-Forwarded-Host", Known::XForwardedHost, true),
    ("X-Forwarded-Port", Known::XForwardedPort, true),
    ("X-Real-IP", Known::XRealIp, true),
    ("X-Forwarded-Client-Srcport", Known::XForwardedClientSrcport, true),
    ("X-Request-Id", Known::XRequestId, true),
    ("Traceparent", Known::Traceparent, false),
    ("Tracestate", Known::Tracestate, false),
    ("X-Pad", Known::XAccel, false),
    ("X-Accel-Redirect", Known::XAccel, false),
    ("X-Accel-Expires", Known::XAccel, false),
    ("X-Accel-Charset", Known::XAccel, false),
    ("X-Accel-Buffering", Known::XAccel, false),
    ("X-Accel-Limit-Rate", Known::XAccel, false),
];

/// The same by looking through the whole list.
fn naive(name: &[u8]) -> Known {
    let lower = name.to_ascii_lowercase();
    if let Some((_, known, _)) = NAMES.iter().find(|row| row.0.to_lowercase().as_bytes() == lower) {
        return *known;
    }
    let is_shadow = NAMES.iter().filter(|row| row.2).any(|(wanted, ..)| {
        let wanted = wanted.to_lowercase().into_bytes();
        let dashes = |i: usize| wanted.get(i) == Some(&b'-') && !lower[i].is_ascii_alphanumeric();
        let read: Vec<u8> =
            (0..lower.len()).map(|i| if dashes(i) { b'-' } else { lower[i] }).collect();
        read == wanted
    });
    if is_shadow { Known::Shadow } else { Known::Other }
}

#[test]
fn every_name_is_known_in_any_case() {
    for (name, known, shadow) in NAMES {
        for spelling in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
            assert_eq!(Known::of(spelling.as_bytes()), known, "{spelling}");
        }
        if name.contains('-') {
            let underscores = name.replace('-', "_");
            let want = if shadow { Known::Shadow } else { Known::Other };
            assert_eq!(Known::of(underscores.as_bytes()), want, "{underscores}");
        }
    }
    for name in
        ["", "Hosts", "Hos", "X-Forwarded-Cort", "keep\ralive", "X-Forwarded-Hosx", "Content_Type"]
    {
        assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
    }
    for name in ["X-Forwarded_For", "X.Forwarded.Port", "x_real_ip", "content~length"] {
        assert_eq!(Known::of(name.as_bytes()), Known::Shadow, "{name}");
    }
}

proptest! {
    #[test]
    fn names_agree_with_the_naive_map(
        row in 0..NAMES.len(),
        edit in prop::option::of((0..30_usize, any::<u8>())),
        flips in any::<u32>(),
    ) {
        let mut name = NAMES[row].0.as_bytes().to_vec();
        for (i, byte) in name.iter_mut().enumerate() {
            if flips >> i & 1 == 1 {
                *byte = match *byte { b'-' => b'_', byte => byte ^ 0x20 };
            }
        }
        if let Some((at, byte)) = edit {
            match name.get_mut(at) {
                Some(slot) => *slot = byte,
                None => name.push(byte),
            }
        }
        prop_assert_eq!(Known::of(&name), naive(&name), "{}", name.escape_ascii());
    }

    #[test]
    fn any_name_agrees_with_the_naive_map(name in prop::collection::vec(any::<u8>(), 0..30)) {
        prop_assert_eq!(Known::of(&name), naive(&name));
    }
}

#[test]
fn a_span_out_of_range_is_empty() {
    let bytes = b"abc";
    assert_eq!(Span { start: 1, end: 3 }.of(bytes), b"bc");
    for span in [Span { start: 1, end: 4 }, Span { start: 3, end: 1 }, Span { start: 9, end: 9 }] {
        assert_eq!(span.of(bytes), b"");
    }
    assert_eq!(Span { start: 1, end: 3 }.len(), 2);
    assert_eq!(Span { start: 3, end: 1 }.len(), 0);
    assert!(Span { start: 3, end: 1 }.is_empty() && !Span { start: 1, end: 2 }.is_empty());
}

#[test]
fn nominated_fields() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Foo\r\nConnection:\t,x-bar ,\r\nX-Conn: x-baz\r\n\r\n";
    let (head, fields) = request(bytes).unwrap();
    assert!(head.nominated);
    for (name, named) in [
        ("X-FOO", true),
        ("x-bar", true),
        ("close", true),
        ("x-baz", false),
        ("x-fo", false),
        ("", false),
        ("close, X-Foo", false),
    ] {
        assert_eq!(is_nominated(bytes, &fields, name.as_bytes()), named, "{name}");
    }
}

#[test]
fn what_connection_may_not_remove() {
    let kept = [
        "Host",
        "Content-Length",
        "Cookie",
        "Set-Cookie",
        "Date",
        "Expect",
        "Forwarded",
        "Via",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Client-Srcport",
        "X-Real-IP",
        "X-Request-Id",
    ];
    for (name, known, _) in NAMES {
        assert_eq!(may_be_nominated(known), !kept.contains(&name), "{name}");
    }
    assert!(may_be_nominated(Known::Other) && may_be_nominated(Known::Shadow));
}

#[test]
fn trailers_are_read_as_strictly_as_heads() {
    let limits = HeadLimits { target: 0, fields_size: 20, fields: 2 };
    let mut fields = Vec::new();
    let section = b"A: b\r\nC:\r\n\r\n";
    parse_trailers(section, &limits, &mut fields).unwrap();
    let names: Vec<_> = fields.iter().map(|field| field.name.of(section)).collect();
    assert_eq!(names, [b"A", b"C"]);
    assert_eq!(fields[1].end, 10);
    parse_trailers(b"\r\n", &limits, &mut fields).unwrap();
    assert!(fields.is_empty());

    let cases: [(&[u8], HeadError); 12] = [
        (b"", HeadError::Malformed("incomplete head")),
        (b"\n", HeadError::Malformed("bare LF")),
        (b"A: b\r\n", HeadError::Malformed("incomplete head")),
        (b"A: b\n\r\n", HeadError::Malformed("bare LF")),
        (b"A: b\r\n\n", HeadError::Malformed("bare LF")),
        (b"A: b\r\n\r\nx", HeadError::Malformed("bytes after the head")),
        (b"A : b\r\n\r\n", HeadError::Malformed("invalid field name")),
        (b"A: b\r\n c\r\n\r\n", HeadError::Malformed("invalid field name")),
        (b"A: \0\r\n\r\n", HeadError::Malformed("invalid field value")),
        (b"A: b\rc\r\n\r\n", HeadError::Malformed("invalid field value")),
        (b"A:\r\nA:\r\nA:\r\n\r\n", HeadError::TooManyFields),
        (b"A: 3456789012345678901\r\n\r\n", HeadError::FieldsTooLarge),
    ];
    for (section, error) in cases {
        let parsed = parse_trailers(section, &limits, &mut fields);
        assert_eq!(parsed, Err(error), "{}", section.escape_ascii());
    }
}

#[test]
fn what_may_travel_as_a_trailer() {
    let allowed = |name: &str| trailer_allowed(name.as_bytes(), Known::of(name.as_bytes()));
    for name in
        ["grpc-status", "Server-Timing", "Digest", "ETag", "X-Checksum", "Authentication-Info"]
    {
        assert!(allowed(name), "{name}");
    }
    for (name, ..) in NAMES {
        assert!(!allowed(name), "{name}");
    }
    for name in [
        "AUTHORIZATION",
        "Content-Type",
        "Content-Encoding",
        "Content-Range",
        "Cache-Control",
        "WWW-Authenticate",
        "Range",
        "If-Match",
        "Max-Forwards",
        "Location",
        "Vary",
        "Pragma",
        "Retry-After",
        "X-Forwarded-Prefix",
        "Proxy-Anything",
        "Sec-WebSocket-Key",
        "Access-Control-Allow-Origin",
        "Content_Length",
    ] {
        assert!(!allowed(name), "{name}");
    }
}
