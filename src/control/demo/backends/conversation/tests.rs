//! The demo backends' side of HTTP/1, without sockets.

use super::*;

fn page(status: u16, ms: u64) -> Ask {
    Ask::Page { status, after: Duration::from_millis(ms) }
}

#[test]
fn paths_ask_below_any_prefix() {
    for (target, ask) in [
        ("/", page(200, 0)),
        ("/test/jtt/", page(200, 0)),
        ("/health", Ask::Health),
        ("/test/jtt/health?x=/echo", Ask::Health),
        ("/echo", Ask::Echo),
        ("/ws", Ask::Socket),
        ("/test/jtt/ws?room=1", Ask::Socket),
        ("/aws", page(200, 0)),
        ("/test/jtt/events", Ask::Events),
        ("/status/503", page(503, 0)),
        ("/test/jtt/status/204", page(204, 0)),
        ("/status/101", page(200, 0)),
        ("/status/600", page(200, 0)),
        ("/status/none", page(200, 0)),
        ("/slow/250", page(200, 250)),
        ("/slow/99999999", page(200, MAX_SLOW)),
        ("/bytes/10", Ask::Bytes(10)),
        ("/bytes/18446744073709551615", Ask::Bytes(MAX_BYTES)),
        ("/bytes/18446744073709551616", page(200, 0)),
        ("*", page(200, 0)),
    ] {
        assert_eq!(Ask::of(target.as_bytes()), ask, "{target}");
    }
}

#[test]
fn a_name_cannot_end_a_field_line() {
    assert_eq!(field_value("a\r\nX: ü"), "a??X: ?");
}
