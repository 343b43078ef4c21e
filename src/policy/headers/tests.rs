//! By example, and what always holds.

use proptest::prelude::*;

use super::*;

fn forwarded(client: &str, host: &str) -> String {
    let mut out = Vec::new();
    write_forwarded(&mut out, client.parse().unwrap(), "https", host.as_bytes());
    String::from_utf8(out).unwrap()
}

#[test]
fn forwarded_fields_by_name() {
    assert_eq!(ForwardedFields::parse_name("X-Forwarded-Proto"), Some(ForwardedFields::PROTO));
    assert_eq!(ForwardedFields::parse_name("x-forwarded"), None);
    let consts = [
        ForwardedFields::FOR,
        ForwardedFields::PROTO,
        ForwardedFields::HOST,
        ForwardedFields::PORT,
        ForwardedFields::REAL_IP,
        ForwardedFields::CLIENT_SRCPORT,
        ForwardedFields::FORWARDED,
        ForwardedFields::VIA,
        ForwardedFields::REQUEST_ID,
        ForwardedFields::TRACEPARENT,
    ];
    for (name, field) in ForwardedFields::NAMES.iter().zip(consts) {
        assert_eq!(ForwardedFields::parse_name(name), Some(field), "{name}");
        assert!(consts.iter().filter(|other| **other == field).count() == 1);
    }
}

#[test]
fn fh_04_only_what_is_set_and_always_for() {
    let none: ForwardedFields = std::iter::empty().collect();
    assert_eq!(none, ForwardedFields::FOR);
    assert!(none.contains(ForwardedFields::FOR));
    assert!(!none.contains(ForwardedFields::PROTO));
    assert!(ForwardedFields::PROTO.contains(ForwardedFields::FOR));
    let two = ForwardedFields::VIA | ForwardedFields::HOST;
    assert!(two.contains(ForwardedFields::VIA) && two.contains(ForwardedFields::HOST));
    assert!(!two.contains(ForwardedFields::VIA | ForwardedFields::PORT));
    assert_eq!(two.names().collect::<Vec<_>>(), ["x-forwarded-for", "x-forwarded-host", "via"]);
    assert_eq!(format!("{none:?}"), r#"{"x-forwarded-for"}"#);
}

#[test]
fn forwarded_fields_default() {
    let names: Vec<_> = ForwardedFields::default().names().collect();
    let want = [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-real-ip",
        "x-request-id",
    ];
    assert_eq!(names, want);
}

#[test]
fn fields_of_ours_may_not_be_edited() {
    let never = [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "trailer",
        "TE",
        "Connection",
        "keep-alive",
        "Proxy-Connection",
        "upgrade",
        "proxy-authenticate",
        "proxy-authorization",
        "HTTP2-Settings",
        "expect",
        ":path",
        ":authority",
        "X-Forwarded-For",
        "x_forwarded_for",
        "X_Real_IP",
        "Forwarded",
        "Via",
        "x-forwarded-client-srcport",
        "Content_Length",
        "",
        "a b",
        "a:",
        "ä",
    ];
    for name in never {
        assert!(!may_edit(name), "{name}");
    }
    for name in [
        "Date",
        "server",
        "x-game",
        "Cache-Control",
        "set-cookie",
        "X-Forwarded-Prefix",
        "hosts",
        "hos",
    ] {
        assert!(may_edit(name), "{name}");
    }
}

#[test]
fn field_names_are_tokens() {
    for name in ["a", "X-Game_1", "!#$%&'*+-.^_`|~09AZaz"] {
        assert!(is_field_name(name), "{name}");
    }
    for name in ["", " a", "a ", "a:b", "a(b", "a\tb", "a\r\nb", "a\"", "ä", "a/b", "a@b", "{a}"] {
        assert!(!is_field_name(name), "{name}");
    }
}

#[test]
fn field_values_cannot_end_a_line() {
    for value in ["", "a", "a b", "a\tb", "ä", "\"quoted, \\ \"", "a:b"] {
        assert!(is_field_value(value), "{value:?}");
    }
    for value in [" a", "a ", "\ta", "a\t", " ", "a\r\nb: c", "a\nb", "a\0", "a\x7f", "\x1b[0m"] {
        assert!(!is_field_value(value), "{value:?}");
    }
}

#[test]
fn forwarded_quotes_what_is_no_token() {
    assert_eq!(forwarded("1.2.3.4", "a.test"), "for=1.2.3.4;proto=https;host=a.test");
    assert_eq!(
        forwarded("2001:db8::1", "a.test:8030"),
        r#"for="[2001:db8::1]";proto=https;host="a.test:8030""#
    );
    assert_eq!(forwarded("::ffff:1.2.3.4", ""), "for=1.2.3.4;proto=https");
    assert_eq!(forwarded("1.2.3.4", r#"a"\b"#), r#"for=1.2.3.4;proto=https;host="a\"\\b""#);
    assert_eq!(forwarded("1.2.3.4", "a\r\nb: c"), "for=1.2.3.4;proto=https");
    let mut out = b"for=9.9.9.9, ".to_vec();
    write_forwarded(&mut out, [1, 2, 3, 4].into(), "http", b"");
    assert_eq!(out, b"for=9.9.9.9, for=1.2.3.4;proto=http");
}

#[test]
fn cookie_is_found_by_its_whole_name() {
    let cases: [(&str, Option<&str>); 15] = [
        ("SERVERID=a", Some("a")),
        ("XSERVERID=x; SERVERID=a", Some("a")),
        ("SERVERIDX=x;SERVERID=a", Some("a")),
        ("a=SERVERID=x; SERVERID=a=b", Some("a=b")),
        ("SERVERID=a; SERVERID=b", Some("a")),
        ("  SERVERID=a  ; c=d", Some("a")),
        ("SERVERID=\"a b\"", Some("\"a b\"")),
        ("SERVERID=; c=d", Some("")),
        ("c=d;SERVERID=a;", Some("a")),
        ("SERVERID; SERVERID=a", Some("a")),
        ("serverid=a", None),
        ("XSERVERID=a", None),
        ("SERVERID", None),
        ("SERVERID =a", None),
        ("", None),
    ];
    for (value, want) in cases {
        let got = cookie(value.as_bytes(), b"SERVERID");
        assert_eq!(got, want.map(str::as_bytes), "{value}");
    }
}

proptest! {
    #[test]
    fn cookie_round_trips(
        pairs in prop::collection::vec(("[ab]{1,3}", "[a-z=\"]{0,5}"), 0..8),
        name in "[ab]{1,3}",
    ) {
        let value: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let want = pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes());
        let value = value.join("; ");
        prop_assert_eq!(cookie(value.as_bytes(), name.as_bytes()), want);
    }

    #[test]
    fn forwarded_host_is_one_value(host in prop::collection::vec(any::<u8>(), 0..12)) {
        let mut out = Vec::new();
        write_forwarded(&mut out, [1, 2, 3, 4].into(), "http", &host);
        prop_assert!(!out.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        // Reading the quoted string back gives the host, and nothing follows.
        let mut rest = out.strip_prefix(b"for=1.2.3.4;proto=http".as_slice()).unwrap();
        if let Some(quoted) = rest.strip_prefix(b";host=\"".as_slice()) {
            let mut read = Vec::new();
            rest = quoted;
            while let Some((byte, tail)) = rest.split_first() {
                rest = tail;
                match byte {
                    b'"' => break,
                    b'\\' => {
                        read.push(rest[0]);
                        rest = &rest[1..];
                    }
                    _ => read.push(*byte),
                }
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(read, host);
        }
    }
}
