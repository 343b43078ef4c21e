//! Tests of the lines.

use std::net::Ipv6Addr;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

fn line() -> RequestLine<'static> {
    RequestLine {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_050),
        request_id: RequestId::Made(0x17),
        trace_id: None,
        generation: 3,
        place: r#","game":"youxia""#,
        client: Some([10, 0, 0, 1].into()),
        peer: Box::leak(Box::new(PeerText::new(([127, 0, 0, 1], 5000).into(), 8030, None))),
        method: Some(Text(b"GET")),
        host: None,
        path: Some(Text(b"/\x1b[2J\xff\"")),
        protocol: Some("HTTP/1.1"),
        status: 502,
        fault: Some(FaultLine { cause: "dns", phase: "connect", detail: "".into() }),
        received: 0,
        sent: 17,
        took: Some(Micros(1234)),
        tunnel: None,
        ended: None,
        sticky: None,
        earlier: Vec::new(),
        last: Some(AttemptLine {
            backend: "b",
            status: None,
            fault: None,
            connect_ms: Some(Micros(2000)),
            header_ms: None,
            took: Micros(3000),
        }),
    }
}

fn read(line: &RequestLine<'_>) -> Value {
    let json = line.json();
    assert!(json.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{json}");
    let value: Value = serde_json::from_str(&json).unwrap();
    // No key stands there twice, and nothing is spaced or spelled otherwise.
    assert_eq!(value.to_string().len(), json.len(), "{json}");
    value
}

#[test]
fn a_line_is_one_json_object_without_what_is_not_known() {
    let expected = json!({
        "time": "2027-01-15T08:00:00.050Z", "request_id": "0000000000000017", "generation": 3,
        "game": "youxia", "client": "10.0.0.1", "peer": "127.0.0.1:5000", "port": 8030,
        "method": "GET", "path": r#"/\x1b[2J\xff\""#, "protocol": "HTTP/1.1", "status": 502,
        "cause": "dns", "phase": "connect", "received": 0, "sent": 17, "ms": 1.234,
        "attempts": [{ "backend": "b", "connect_ms": 2.0, "ms": 3.0 }],
    });
    assert_eq!(read(&line()), expected);
}

#[test]
fn a_line_has_all_that_is_known() {
    let fault =
        || Some(FaultLine { cause: "tls_handshake", phase: "connect", detail: "a\"b".into() });
    let attempt = || AttemptLine {
        backend: "b",
        status: Some(503),
        fault: fault(),
        connect_ms: None,
        header_ms: Some(Micros(1)),
        took: Micros(60_000_000),
    };
    let tls = TlsLine { version: "TLSv1.3", cipher: "X", name: Some("a\"b.test") };
    let whole = RequestLine {
        request_id: RequestId::Given("a-b~c"),
        trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
        place: &place("youxia", Some("*.a.test"), Some("/x/\""), Some("web")),
        client: None,
        peer: &PeerText::new((Ipv6Addr::LOCALHOST, 5000).into(), 8030, Some(&tls)),
        host: Some(Text(b"a.test:8030")),
        fault: fault(),
        tunnel: Some("closed"),
        ended: Some("client"),
        sticky: Some("kept"),
        earlier: vec![attempt()],
        last: Some(attempt()),
        took: None,
        ..line()
    };
    let told = json!({ "backend": "b", "status": 503, "cause": "tls_handshake",
        "phase": "connect", "detail": "a\"b", "header_ms": 0.001, "ms": 60000.0 });
    let expected = json!({
        "time": "2027-01-15T08:00:00.050Z", "request_id": "a-b~c",
        "trace_id": "0af7651916cd43dd8448eb211c80319c", "generation": 3, "game": "youxia",
        "listener": "*.a.test", "rule": "/x/\"", "group": "web", "client": "::1",
        "peer": "[::1]:5000", "port": 8030, "method": "GET", "host": "a.test:8030",
        "path": r#"/\x1b[2J\xff\""#, "protocol": "HTTP/1.1",
        "tls": { "version": "TLSv1.3", "cipher": "X", "name": "a\"b.test" }, "status": 502,
        "cause": "tls_handshake", "phase": "connect", "detail": "a\"b", "received": 0,
        "sent": 17, "tunnel": "closed", "ended": "client", "sticky": "kept",
        "attempts": [told, told],
    });
    assert_eq!(read(&whole), expected);
}

#[test]
fn the_combined_format_is_nginxs() {
    let combined = |line: &RequestLine<'_>, more| {
        let mut out = Vec::new();
        line.write_combined(&mut out, &mut Clock::default(), more);
        String::from_utf8(out).unwrap()
    };
    let more = Combined {
        target: b"/\x1b\"\\\xff?a=b c",
        referer: None,
        user_agent: Some(b"x\" 200 0 \"\n"),
    };
    assert_eq!(
        combined(&line(), more),
        r#"10.0.0.1 - - [15/Jan/2027:08:00:00 +0000] "GET /\x1B\x22\x5C\xFF?a=b c HTTP/1.1" 502 17 "-" "x\x22 200 0 \x22\x0A""#
    );
    let refused = RequestLine { method: None, protocol: None, status: 400, ..line() };
    assert_eq!(
        combined(&refused, Combined::default()),
        r#"10.0.0.1 - - [15/Jan/2027:08:00:00 +0000] "-" 400 17 "-" "-""#
    );
}

#[test]
fn a_clock_goes_on() {
    let mut clock = Clock::default();
    for (millis, shown) in [(0, "1970-01-01T00:00:00."), (1001, "1970-01-01T00:00:01.")] {
        let fraction = clock.set(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        assert_eq!((clock.time.as_str(), u64::from(fraction)), (shown, millis % 1000));
    }
}

#[test]
fn an_id_is_shown_as_it_is_sent() {
    for id in [RequestId::Made(0x1f), RequestId::Made(u64::MAX), RequestId::Given("Root=1-a")] {
        assert_eq!(id.with_bytes(<[u8]>::to_vec), id.to_string().into_bytes());
    }
}
