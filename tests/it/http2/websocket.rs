//! WebSockets over HTTP/2 (RFC 8441): an extended CONNECT becomes an upgrade
//! at the backend, 101 becomes 200, and bytes pass both ways.

use std::time::{Duration, Instant};

use h2::Reason;
use h2::ext::Protocol;
use http::Method;

use super::before;
use crate::support::{Backend, Gate, H2, Site, eventually, pattern};

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Accept: x\r\nX-Own: 1\r\n\r\n";

/// Switches, and sends back each five bytes it gets until the client ends.
fn echoing() -> Backend {
    Backend::scripted("B1", |exchange| {
        if exchange.request().target() == "/plain" {
            return exchange.reply("plain");
        }
        exchange.send(SWITCH);
        loop {
            let word = exchange.read_raw(5);
            exchange.send(&word);
            if word.len() < 5 {
                break;
            }
        }
        exchange.close();
    })
}

#[test]
fn ws_01_an_extended_connect_is_an_upgrade() {
    let b1 = echoing();
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_websocket("/chat?room=1");
    let head = stream.head();
    assert_eq!(head.status, 200);
    assert_eq!(head.fields["x-own"].as_bytes(), b"1");
    for name in
        ["upgrade", "connection", "content-length", "transfer-encoding", "sec-websocket-accept"]
    {
        assert!(!head.fields.contains_key(name), "{name}");
    }
    let seen = b1.request();
    assert_eq!(seen.request_line(), "GET /chat?room=1 HTTP/1.1");
    assert_eq!(seen.value("host"), "a.test");
    assert_eq!(seen.value("upgrade"), "websocket");
    assert!(seen.value("connection").eq_ignore_ascii_case("upgrade"));
    assert_eq!(seen.value("sec-websocket-version"), "13");
    // 16 bytes in base64, and not 17 or 18, which are as long.
    let key = seen.value("sec-websocket-key");
    assert!(key.len() == 24 && key.ends_with("=="), "{key}");
    assert_eq!(seen.value("x-forwarded-proto"), "https");
    for name in ["transfer-encoding", "content-length", "te"] {
        assert!(seen.values(name).is_empty(), "{name}");
    }
    for word in [b"hello", b"world"] {
        stream.send(word);
        assert_eq!(stream.read_exactly(5), word);
        // Others on the connection go on.
        assert_eq!(h2.get("/plain").expect(200).text(), "plain");
    }
    stream.finish();
    assert_eq!(stream.try_piece().unwrap(), None);
    eventually("the backend is let go", || b1.open() <= 1);
}

#[test]
fn ws_01_a_key_of_the_clients_own_is_replaced() {
    let b1 = echoing();
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let mut request = h2.websocket("/");
    request.headers_mut().insert("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==".parse().unwrap());
    let mut stream = h2.begin(request, false);
    assert_eq!(stream.head().status, 200);
    assert_ne!(b1.request().value("sec-websocket-key"), "AAAAAAAAAAAAAAAAAAAAAA==");
}

#[test]
fn ws_02_a_mebibyte_both_ways() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send(SWITCH);
        let bytes = exchange.read_raw(1 << 20);
        exchange.send(&bytes);
        exchange.close();
    });
    let site = before(&b1);
    let mut stream = H2::to(&site).begin_websocket("/");
    let bytes = pattern(1 << 20);
    stream.send(&bytes);
    assert_eq!(stream.head().status, 200);
    assert!(stream.read_exactly(1 << 20) == bytes, "the bytes changed");
    assert_eq!(stream.try_piece().unwrap(), None);
}

#[test]
fn what_the_backend_says_with_its_101_is_not_lost() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send([SWITCH, "early"].concat());
        exchange.wait_until_left();
    });
    let site = before(&b1);
    let mut stream = H2::to(&site).begin_websocket("/");
    assert_eq!(stream.head().status, 200);
    assert_eq!(stream.read_exactly(5), b"early");
}

#[test]
fn ws_06_either_side_may_end_first() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send(SWITCH);
        if exchange.request().target() == "/backend" {
            // Our end; what the client still says arrives.
            exchange.send("last!");
            return exchange.close();
        }
        // The client's end; what we still say arrives.
        exchange.wait_until_left();
        exchange.send("after");
    });
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_websocket("/client");
    assert_eq!(stream.head().status, 200);
    stream.finish();
    assert_eq!(stream.read_exactly(5), b"after");
    assert_eq!(stream.try_piece().unwrap(), None);
    let mut stream = h2.begin_websocket("/backend");
    assert_eq!(stream.head().status, 200);
    assert_eq!(stream.read_exactly(5), b"last!");
    assert_eq!(stream.try_piece().unwrap(), None);
    stream.finish();
    eventually("the backend is let go", || b1.open() == 0);
    assert!(h2.is_open());
}

#[test]
fn a_client_that_resets_ends_the_tunnel() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send(SWITCH);
        exchange.wait_until_left();
    });
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_websocket("/");
    assert_eq!(stream.head().status, 200);
    stream.reset(Reason::CANCEL);
    eventually("the backend sees the end", || b1.left() == 1);
    assert!(h2.is_open());
    let mut stream = h2.begin_websocket("/");
    assert_eq!(stream.head().status, 200);
    h2.reset();
    eventually("the backend sees the end", || b1.left() == 2);
}

#[test]
fn a_reset_behind_the_clients_own_end_ends_the_tunnel() {
    let gate = Gate::default();
    let ended = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.send(SWITCH);
        // The client's end; this side says nothing more and does not end.
        exchange.wait_until_left();
        ended.open();
        exchange.pause(15_000);
    });
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let idle = sockets(&site);
    let mut stream = h2.begin_websocket("/");
    assert_eq!(stream.head().status, 200);
    stream.finish();
    gate.pass();
    assert_eq!(sockets(&site), idle + 1);
    stream.reset(Reason::CANCEL);
    eventually("lockgate lets go of the backend", || sockets(&site) == idle);
}

/// How many sockets lockgate has open.
fn sockets(site: &Site) -> usize {
    let directory = format!("/proc/{}/fd", site.lockgate.pid());
    let links = std::fs::read_dir(directory).unwrap().flatten();
    links
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

#[test]
fn a_backend_that_resets_cuts_the_stream() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.send(SWITCH);
        hold.pass();
        exchange.reset();
    });
    let site = before(&b1);
    let mut stream = H2::to(&site).begin_websocket("/");
    assert_eq!(stream.head().status, 200);
    gate.open();
    stream.cut();
}

#[test]
fn a_refusal_is_passed_through() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send(match exchange.request().target().as_str() {
            "/no" => "HTTP/1.1 403 Forbidden\r\nX-Why: x\r\nContent-Length: 2\r\n\r\nno",
            "/not-a-socket" => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain",
            "/other" => {
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        });
    });
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_websocket("/no");
    let head = stream.head();
    assert_eq!((head.status, head.fields["x-why"].as_bytes()), (403, b"x".as_slice()));
    assert_eq!(stream.read_exactly(2), b"no");
    // A protocol it was not asked for.
    h2.begin_websocket("/other").read().expect(502);
    h2.get("/").expect(200);
}

#[test]
fn a_200_of_the_backend_is_no_tunnel() {
    // Over HTTP/2 a 2xx would open the WebSocket: to the client it must not
    // look as if the backend had switched.
    let b1 = Backend::answering("B1", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain");
    let site = before(&b1);
    let mut stream = H2::to(&site).begin_websocket("/");
    assert!(stream.head().status >= 300);
}

#[test]
fn ws_03_a_silent_tunnel_ends_after_tunnel_timeout() {
    let b1 = echoing();
    let site = Site::https().group("tunnel_timeout = \"500ms\"").backend(&b1).start();
    let mut h2 = H2::to(&site);
    let mut silent = h2.begin_websocket("/");
    assert_eq!(silent.head().status, 200);
    let mut talking = h2.begin_websocket("/");
    assert_eq!(talking.head().status, 200);
    let begin = Instant::now();
    // WS-04: as long as one side says something it stays.
    while begin.elapsed() < Duration::from_millis(1200) {
        talking.send(b"still");
        assert_eq!(talking.read_exactly(5), b"still");
        std::thread::sleep(Duration::from_millis(50));
    }
    let begin = Instant::now();
    silent.cut();
    talking.cut();
    assert!(begin.elapsed() >= Duration::from_millis(350), "{:?}", begin.elapsed());
    assert_eq!(h2.get("/plain").expect(200).text(), "plain");
}

#[test]
fn a_tunnel_is_not_idleness() {
    let b1 = echoing();
    let site = Site::https().listener("idle_timeout = \"300ms\"").backend(&b1).start();
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_websocket("/");
    assert_eq!(stream.head().status, 200);
    std::thread::sleep(Duration::from_millis(900));
    stream.send(b"hello");
    assert_eq!(stream.read_exactly(5), b"hello");
}

#[test]
fn a_tunnel_keeps_the_clients_pace() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.send(SWITCH);
        hold.pass();
        exchange.close();
    });
    let site = before(&b1);
    let mut stream = H2::to(&site).begin_websocket("/");
    assert_eq!(stream.head().status, 200);
    let body = vec![b'x'; 64 << 20];
    let sent = stream.send_until_blocked(&body, Duration::from_millis(500));
    assert!(sent < 16 << 20, "{sent} bytes taken for a backend that reads nothing");
    gate.open();
}

#[test]
fn other_protocols_and_other_methods_are_refused() {
    let b1 = echoing();
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_websocket("/");
    assert_eq!(stream.head().status, 200);
    let mut request = h2.request(Method::CONNECT, "/");
    request.extensions_mut().insert(Protocol::from_static("connect-udp"));
    let status = h2.begin(request, false).read().status;
    assert!(matches!(status, 400 | 405 | 501), "{status}");
    assert_eq!(b1.executions(), 1);
}

#[test]
fn a_websocket_goes_to_the_rule_of_its_path_and_nowhere_else() {
    let b1 = echoing();
    let site = Site::https()
        .rule("path = \"/fixed\"\nrespond = { status = 418, body = \"teapot\" }")
        .rule("path = \"/old\"\nredirect = \"https://new.test/\"")
        .backend(&b1)
        .start();
    let mut h2 = H2::to(&site);
    assert_eq!(h2.begin_websocket("/fixed").read().expect(418).text(), "teapot");
    h2.begin_websocket("/old").read().expect(301);
    b1.assert_untouched();
}
