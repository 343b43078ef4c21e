//! WebSockets (SEMANTICS WS, DESIGN 4.10 and 4.11): an upgrade over HTTP/1.1
//! that the backend grants becomes a tunnel whose bytes are nobody's business,
//! until both sides ended or neither says anything for `tunnel_timeout`. What
//! the backend refuses, and any other upgrade, is an ordinary request.

use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{
    Backend, Client, DEADLINE, Ended, Exchange, Gate, SWITCHING, Site, SiteBuilder, UPGRADE,
    eventually, pattern, settled,
};

const SHORT: Duration = Duration::from_millis(300);
const MIB: usize = 1024 * 1024;

/// A backend that grants every upgrade and then runs the script, whose results
/// arrive in the test. Other requests it echoes.
fn granting<T: Send + 'static>(
    script: impl Fn(&mut Exchange<'_>) -> T + Send + Sync + 'static,
) -> (Backend, Receiver<T>) {
    let (tell, told) = channel();
    let b1 = Backend::scripted("B1", move |exchange| {
        if exchange.request().values("upgrade").is_empty() {
            return exchange.echo();
        }
        exchange.switch();
        let _ = tell.send(script(exchange));
    });
    (b1, told)
}

/// A backend whose tunnels send back what they get.
pub(crate) fn mirroring() -> Backend {
    granting(|exchange| exchange.mirror()).0
}

/// What a script had to say.
#[track_caller]
fn hear<T>(told: &Receiver<T>) -> T {
    told.recv_timeout(DEADLINE * 3).expect("the backend's script comes to its end")
}

/// Plain and over TLS: the same listener, the same backend.
fn both(b1: &Backend, with: impl Fn(SiteBuilder) -> SiteBuilder) -> [Site; 2] {
    [Site::http(), Site::https()].map(|site| with(site.backend(b1)).start())
}

#[test]
fn ws_01_the_upgrade_and_the_101_pass() {
    let asked = "Origin: https://a.test\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let granted = "Sec-WebSocket-Accept: HSmrc0sMlYUkAGmm5OPpG2HaGWk=\r\n\
                   Sec-WebSocket-Protocol: chat\r\nSet-Cookie: a=b\r\n\
                   Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.send(format!(
            "HTTP/1.1 101 Web Socket Protocol Handshake\r\nupgrade: WebSocket\r\n\
             {granted}connection: upgrade\r\n\r\n"
        ));
        exchange.mirror();
    });
    for keepalive in ["keepalive = true", "keepalive = false"] {
        for (site, scheme) in both(&b1, |site| site.group(keepalive)).iter().zip(["http", "https"])
        {
            let mut client = site.connect();
            let response = client
                .request(format!(
                    "GET /chat?room=1 HTTP/1.1\r\nHost: a.test\r\nUPGRADE: WebSocket\r\n\
                     Connection: keep-alive, Upgrade\r\n{asked}\r\n"
                ))
                .expect(101);
            let seen = b1.requests().pop().unwrap();
            assert_eq!(seen.request_line(), "GET /chat?room=1 HTTP/1.1");
            assert_eq!(seen.value("connection"), "Upgrade");
            assert_eq!(seen.value("upgrade"), "websocket");
            for line in asked.lines() {
                assert!(seen.field_lines().iter().any(|seen| seen == line), "{line}: {seen:?}");
            }
            assert_eq!(seen.value("x-forwarded-for"), "127.0.0.1");
            assert_eq!(seen.value("x-real-ip"), "127.0.0.1");
            assert_eq!(seen.value("x-forwarded-proto"), scheme);
            assert_eq!(seen.value("x-forwarded-host"), "a.test");
            assert_eq!(seen.value("x-forwarded-port"), site.port().to_string());

            assert_eq!(response.status_line, "HTTP/1.1 101 Web Socket Protocol Handshake");
            assert_eq!(response.value("connection").to_lowercase(), "upgrade");
            assert_eq!(response.value("upgrade").to_lowercase(), "websocket");
            for line in granted.lines() {
                let (name, value) = line.split_once(": ").unwrap();
                assert_eq!(response.value(name), value);
            }
            for name in ["content-length", "transfer-encoding"] {
                assert!(response.values(name).is_empty(), "{response:?}");
            }
            client.send("over");
            client.awaits("over");
        }
    }
}

#[test]
fn ws_01_whatever_comes_before_the_101_or_the_upgrade() {
    let b1 = Backend::scripted("B1", |exchange| {
        if exchange.request().values("upgrade").is_empty() {
            return exchange.echo();
        }
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        for byte in SWITCHING.as_bytes() {
            exchange.send([*byte]);
        }
        exchange.mirror();
    });
    for site in both(&b1, |site| site) {
        let mut client = site.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n{UPGRADE}"));
        client.read().expect(200);
        let response = client.read().expect(101);
        assert_eq!(response.interim.len(), 1);
        client.send("over");
        client.awaits("over");
    }
}

#[test]
fn ws_02_a_mebibyte_both_ways_at_once() {
    let b1 = mirroring();
    let sent = pattern(MIB);
    for site in both(&b1, |site| site) {
        let mut client = site.connect();
        client.switch();
        let got = client.swap(&sent, MIB);
        assert!(got == sent, "the bytes changed");
        // Not only once.
        let got = client.swap(&sent, MIB);
        assert!(got == sent, "the bytes changed");
    }
}

#[test]
fn ws_02_many_small_pieces() {
    let b1 = mirroring();
    let sent = pattern(64 * 1024);
    for site in both(&b1, |site| site) {
        let mut client = site.connect();
        client.switch();
        for piece in sent.chunks(37).take(500) {
            client.send(piece);
            client.awaits(piece);
        }
        for piece in sent.chunks(7).take(2000) {
            client.send(piece);
        }
        client.awaits(&sent[..7 * 2000]);
    }
}

#[test]
fn ws_02_what_the_client_sends_before_the_101() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        hold.pass();
        exchange.switch();
        exchange.mirror();
    });
    let sent = pattern(64 * 1024);
    for site in both(&b1, |site| site) {
        let seen = b1.executions();
        let mut client = site.connect();
        client.send([UPGRADE.as_bytes(), b"in the same segment"].concat());
        b1.wait_for_executions(seen + 1);
        client.send(&sent);
        gate.open();
        client.read().expect(101);
        client.awaits("in the same segment");
        client.awaits(&sent);
        client.send("later");
        client.awaits("later");
    }
}

#[test]
fn ws_02_what_the_backend_sends_right_behind_the_101() {
    for size in [1, 3 * 1024, 300 * 1024] {
        let sent = pattern(size);
        let behind = sent.clone();
        let b1 = Backend::scripted("B1", move |exchange| {
            exchange.send([SWITCHING.as_bytes(), &behind].concat());
            exchange.mirror();
        });
        for site in both(&b1, |site| site) {
            let mut client = site.connect();
            client.switch();
            client.awaits(&sent);
            client.send("later");
            client.awaits("later");
        }
    }
}

#[test]
fn ws_03_silence_ends_it_in_good_order() {
    let (b1, told) = granting(|exchange| {
        let first = exchange.read_raw(5);
        exchange.send(first);
        exchange.read_to_end()
    });
    for by_rule in [false, true] {
        for mut site in both(&b1, |site| match by_rule {
            false => site.group("tunnel_timeout = \"300ms\""),
            true => site.rule("path = \"/ws\"\ngroup = \"web\"\ntunnel_timeout = \"300ms\""),
        }) {
            let mut client = site.connect();
            client.switch();
            let begin = Instant::now();
            client.send("hello");
            client.awaits("hello");
            client.ended().expect("");
            assert!(begin.elapsed() >= SHORT, "{:?}", begin.elapsed());
            hear(&told).expect("");
            // Nobody's failure.
            let log = site.lockgate.log_to_the_end();
            assert!(!log.contains("cause="), "{log}");
        }
    }
}

#[test]
fn ws_03_a_rule_may_grant_more_silence() {
    let b1 = mirroring();
    for site in both(&b1, |site| {
        site.group("tunnel_timeout = \"300ms\"")
            .rule("path = \"/ws\"\ngroup = \"web\"\ntunnel_timeout = \"1h\"")
    }) {
        let mut client = site.connect();
        client.switch();
        std::thread::sleep(3 * SHORT);
        client.send("still here");
        client.awaits("still here");
    }
}

#[test]
fn ws_03_silence_also_ends_what_is_half_closed() {
    for tls in [false, true] {
        let gate = Gate::default();
        let hold = gate.clone();
        let (b1, told) = granting(move |exchange| {
            let ended = exchange.read_to_end();
            // It neither says anything nor ends, for longer than anyone waits.
            (0..3).for_each(|_| hold.pass());
            ended
        });
        let site = if tls { Site::https() } else { Site::http() };
        let site = site.backend(&b1).group("tunnel_timeout = \"300ms\"").start();
        let mut client = site.connect();
        client.switch();
        let begin = Instant::now();
        client.send("that was all");
        client.half_close();
        client.ended().expect("");
        assert!(begin.elapsed() >= SHORT, "{:?}", begin.elapsed());
        gate.open();
        hear(&told).expect("that was all");
    }
}

#[test]
fn ws_04_one_direction_is_enough_from_the_client() {
    let (b1, told) = granting(|exchange| {
        let bytes = exchange.read_raw(31);
        exchange.send("all of it");
        bytes.len()
    });
    for site in both(&b1, |site| site.group("tunnel_timeout = \"1s\"")) {
        let mut client = site.connect();
        client.switch();
        for _ in 0..31 {
            std::thread::sleep(Duration::from_millis(100));
            client.send("x");
        }
        client.awaits("all of it");
        assert_eq!(hear(&told), 31);
    }
}

#[test]
fn ws_04_one_direction_is_enough_from_the_backend() {
    let (b1, told) = granting(|exchange| {
        for _ in 0..31 {
            exchange.pause(100);
            exchange.send("x");
        }
        exchange.read_raw(4).len()
    });
    for site in both(&b1, |site| site.group("tunnel_timeout = \"1s\"")) {
        let mut client = site.connect();
        client.switch();
        client.awaits("x".repeat(31));
        client.send("here");
        assert_eq!(hear(&told), 4);
    }
}

#[test]
fn ws_06_a_client_that_ends_may_still_listen() {
    let sent = pattern(MIB);
    let after = sent.clone();
    let (b1, told) = granting(move |exchange| {
        let ended = exchange.read_to_end();
        exchange.send(&after);
        ended
    });
    for site in both(&b1, |site| site) {
        let mut client = site.connect();
        client.switch();
        client.send("the last from here");
        client.half_close();
        hear(&told).expect("the last from here");
        client.ended().expect(&sent);
        eventually("the tunnel is gone", || b1.open() == 0);
    }
}

#[test]
fn ws_06_a_client_may_end_before_the_101() {
    let gate = Gate::default();
    let hold = gate.clone();
    let (tell, told) = channel();
    let b1 = Backend::scripted("B1", move |exchange| {
        hold.pass();
        exchange.switch();
        let _ = tell.send(exchange.read_to_end());
        exchange.send("heard");
    });
    for site in both(&b1, |site| site) {
        let seen = b1.executions();
        let mut client = site.connect();
        client.send([UPGRADE.as_bytes(), b"and out"].concat());
        client.half_close();
        b1.wait_for_executions(seen + 1);
        gate.open();
        client.read().expect(101);
        hear(&told).expect("and out");
        client.ended().expect("heard");
    }
}

#[test]
fn ws_06_a_backend_that_ends_may_still_listen() {
    let sent = pattern(MIB);
    let after = sent.clone();
    let (b1, told) = granting(|exchange| {
        exchange.send("the last from here");
        exchange.finish();
        exchange.read_to_end()
    });
    for site in both(&b1, |site| site) {
        let mut client = site.connect();
        client.switch();
        client.ended().expect("the last from here");
        client.send(&after);
        client.half_close();
        hear(&told).expect(&sent);
    }
}

#[test]
fn ws_06_a_side_that_closes_is_seen_by_the_other() {
    let (b1, told) = granting(|exchange| exchange.read_to_end());
    let b2 = Backend::scripted("B2", |exchange| {
        exchange.switch();
        exchange.send("bye");
    });
    for (leaving, left) in both(&b1, |site| site).into_iter().zip(both(&b2, |site| site)) {
        let mut client = leaving.connect();
        client.switch();
        client.send("bye");
        // Over TLS without a close_notify.
        drop(client);
        assert_eq!(hear(&told).bytes, b"bye");
        eventually("its connection is freed", || b1.open() == 0);
        let mut client = left.connect();
        client.switch();
        client.ended().expect("bye");
    }
}

#[test]
fn ws_06_a_reset_is_seen_by_the_other() {
    let (b1, told) = granting(|exchange| exchange.read_to_end());
    let gate = Gate::default();
    let hold = gate.clone();
    let b2 = Backend::scripted("B2", move |exchange| {
        exchange.switch();
        exchange.send("half a fra");
        hold.pass();
        exchange.reset();
    });
    for (leaving, left) in both(&b1, |site| site).into_iter().zip(both(&b2, |site| site)) {
        let mut client = leaving.connect();
        client.switch();
        client.send("half a fra");
        client.reset();
        hear(&told);
        eventually("its connection is freed", || b1.open() == 0);
        // What a backend's reset cut is not made to look whole.
        let mut client = left.connect();
        client.switch();
        client.awaits("half a fra");
        gate.open();
        assert_eq!(client.ended(), Ended { bytes: Vec::new(), cleanly: false });
    }
}

#[test]
fn ws_06_a_reset_in_a_flood_frees_the_backend() {
    const ALL: usize = 256 * MIB;
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.switch();
        exchange.pour(ALL);
    });
    for site in both(&b1, |site| site) {
        let mut client = site.connect();
        client.switch();
        // The backend can't go on, nor does it read.
        settled(|| b1.taken());
        client.reset();
        eventually("its connection is freed", || b1.open() == 0);
    }
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    for (status, framing) in [
        (403, "Content-Length: 9\r\n\r\nnot today"),
        (403, "Transfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n6\r\n today\r\n0\r\n\r\n"),
        (426, "Sec-WebSocket-Version: 13\r\nContent-Length: 9\r\n\r\nnot today"),
        (200, "Content-Length: 9\r\n\r\nnot today"),
    ] {
        let answer = format!("HTTP/1.1 {status} No\r\n{framing}");
        let b1 = Backend::scripted("B1", move |exchange| {
            if exchange.request().values("upgrade").is_empty() {
                return exchange.echo();
            }
            exchange.send(&answer);
        });
        for site in both(&b1, |site| site) {
            let connections = b1.connections();
            let mut client = site.connect();
            for _ in 0..2 {
                let response = client.request(UPGRADE).expect(status);
                assert_eq!(response.text(), "not today");
                let version = response.values("sec-websocket-version");
                assert_eq!(version.len(), usize::from(status == 426));
            }
            client.assert_open("a.test");
            assert_eq!(b1.connections(), connections + 1);
        }
    }
}

#[test]
fn a_101_nobody_asked_for_is_a_502() {
    let plain = "GET /ws HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let head = "HTTP/1.1 101 Switching Protocols\r\n";
    for (request, answer) in [
        (plain, SWITCHING.to_owned()),
        (plain, format!("{head}\r\n")),
        (UPGRADE, format!("{head}\r\n")),
        (UPGRADE, format!("{head}Upgrade: websocket\r\n\r\n")),
        (UPGRADE, format!("{head}Connection: Upgrade\r\n\r\n")),
        (UPGRADE, format!("{head}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n")),
    ] {
        let b1 = Backend::scripted("B1", move |exchange| {
            exchange.send(&answer);
            exchange.wait_until_left();
        });
        for site in both(&b1, |site| site) {
            site.request(request).expect(502);
            site.lockgate.wait_for_log(&["cause=invalid_header", "101"]);
            eventually("its connection is dropped", || b1.open() == 0);
        }
    }
}

#[test]
fn other_upgrades_are_not_passed_on() {
    let b1 = Backend::named("B1");
    let websocket = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    for (line, fields) in [
        (
            "GET /ws HTTP/1.1",
            "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        ),
        ("GET /ws HTTP/1.1", "Upgrade: foo/2\r\nConnection: Upgrade\r\n\r\n"),
        ("GET /ws HTTP/1.1", "Upgrade: websocket\r\n\r\n"),
        ("GET /ws HTTP/1.1", "Upgrade: websocket\r\nConnection: keep-alive\r\n\r\n"),
        (
            "GET /ws HTTP/1.1",
            "Upgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        ),
        ("GET /ws HTTP/1.1", "Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        ("GET /ws HTTP/1.1", "Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n\r\n"),
        ("GET /ws HTTP/1.0", &format!("{websocket}\r\n")),
        ("GET /ws HTTP/1.1", &format!("{websocket}Content-Length: 5\r\n\r\nhello")),
        ("POST /ws HTTP/1.1", &format!("{websocket}Content-Length: 5\r\n\r\nhello")),
        (
            "POST /ws HTTP/1.1",
            &format!("{websocket}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ),
        ("POST /ws HTTP/1.1", &format!("{websocket}\r\n")),
    ] {
        for site in both(&b1, |site| site) {
            let mut client = site.connect();
            client.request(format!("{line}\r\nHost: a.test\r\n{fields}")).expect(200);
            let seen = b1.requests().pop().unwrap();
            assert!(seen.values("upgrade").is_empty(), "{line} {fields}: {seen:?}");
            assert!(seen.values("connection").is_empty(), "{line} {fields}: {seen:?}");
            assert!(seen.values("http2-settings").is_empty(), "{line} {fields}: {seen:?}");
            let body = if fields.contains("hello") { "hello" } else { "" };
            assert_eq!(String::from_utf8_lossy(&seen.body), body, "{line} {fields}");
            if line.ends_with("1.1") {
                client.assert_open("a.test");
            }
        }
    }
}

#[test]
fn a_tunnel_has_a_place_among_max_connections() {
    let b1 = mirroring();
    let ways: [fn(Client); 3] = [drop, Client::reset, |mut client| {
        client.half_close();
        client.ended().expect("");
    }];
    for leave in ways {
        for workers in [1, 2] {
            let site =
                Site::https().workers(workers).backend_with(&b1, "max_connections = 1").start();
            let mut client = site.connect();
            client.switch();
            for _ in 0..3 {
                site.get("/").expect(503);
                site.request(UPGRADE).expect(503);
            }
            client.send("still here");
            client.awaits("still here");
            leave(client);
            eventually("there is room again", || site.get("/").status == 200);
        }
    }
}

#[test]
fn a_tunnel_takes_a_kept_connection_and_gives_none_back() {
    let b1 = mirroring();
    let site = Site::before(&b1);
    site.get("/").expect(200);
    let mut client = site.connect();
    client.switch();
    assert_eq!(b1.connections(), 1);
    client.send("x");
    client.awaits("x");
    site.get("/").expect(200);
    assert_eq!(b1.connections(), 2);
    client.half_close();
    client.ended().expect("");
    eventually("the tunnel is gone", || b1.open() == 1);
    site.get("/").expect(200);
    assert_eq!(b1.connections(), 2);
}

#[test]
fn a_tunnel_is_held_to_no_other_limit() {
    let b1 = mirroring();
    for site in both(&b1, |site| {
        site.process("[limits]\nheader_timeout = \"300ms\"")
            .listener("header_timeout = \"300ms\"\nidle_timeout = \"300ms\"")
            .listener("body_timeout = \"300ms\"\nwrite_timeout = \"300ms\"")
            .listener("max_body = \"1KiB\"\nmax_requests = 1")
            .group("response_timeout = \"300ms\"\nidle_timeout = \"300ms\"")
    }) {
        let mut client = site.connect();
        client.switch();
        std::thread::sleep(3 * SHORT);
        let sent = pattern(64 * 1024);
        let got = client.swap(&sent, sent.len());
        assert!(got == sent, "the bytes changed");
        std::thread::sleep(3 * SHORT);
        client.send("still here");
        client.awaits("still here");
    }
}

#[test]
fn term_lets_a_tunnel_live_until_the_deadline() {
    let (b1, told) = granting(|exchange| {
        exchange.mirror();
    });
    for tls in [false, true] {
        let site = if tls { Site::https() } else { Site::http() };
        let mut site = site.process("[shutdown]\ndeadline = \"2s\"").backend(&b1).start();
        let mut client = site.connect();
        client.switch();
        let begin = Instant::now();
        site.lockgate.signal(Signal::TERM);
        eventually("new connections are refused", || {
            TcpStream::connect(("127.0.0.1", site.port())).is_err()
        });
        if begin.elapsed() < Duration::from_secs(1) {
            client.send("still here");
            client.awaits("still here");
        }
        assert_eq!(site.lockgate.exit_code(), 3);
        // It ends in the last tenth; see `farewell`.
        assert!(begin.elapsed() >= Duration::from_millis(1800), "{:?}", begin.elapsed());
        client.ended().expect("");
        hear(&told);
    }
}

#[test]
fn a_stop_waits_for_a_tunnel_that_ends_in_time() {
    let b1 = mirroring();
    for signal in [Signal::TERM, Signal::QUIT] {
        let mut site = Site::before(&b1);
        let mut client = site.connect();
        client.switch();
        site.lockgate.signal(signal);
        eventually("new connections are refused", || {
            TcpStream::connect(("127.0.0.1", site.port())).is_err()
        });
        client.send("still here");
        client.awaits("still here");
        client.half_close();
        client.ended().expect("");
        assert_eq!(site.lockgate.exit_code(), 0);
    }
}

#[test]
fn a_side_that_does_not_read_stops_the_other() {
    const ALL: usize = 256 * MIB;
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.switch();
        exchange.pour(ALL);
    });
    let site = Site::before(&b1);
    let mut client = Client::plain_with_small_buffer(site.port());
    client.switch();
    let taken = settled(|| b1.taken());
    assert!(taken < 32 * MIB, "{taken} bytes taken for a client that reads nothing");
    client.reset();

    let gate = Gate::default();
    let hold = gate.clone();
    let b2 = Backend::scripted("B2", move |exchange| {
        exchange.switch();
        hold.pass();
    });
    let site = Site::before(&b2);
    let mut client = site.connect();
    client.switch();
    let sent = client.send_until_blocked(&[b'x'; 64 * 1024], ALL);
    assert!(sent < 32 * MIB, "{sent} bytes taken for a backend that reads nothing");
    gate.open();
}

#[test]
fn a_direction_that_is_stopped_does_not_stop_the_other() {
    let sent = pattern(32 * MIB);
    let down = sent.clone();
    let (b1, told) = granting(move |exchange| {
        exchange.meanwhile_send(down.clone());
        exchange.read_raw(MIB)
    });
    for site in both(&b1, |site| site) {
        let mut client = site.connect();
        client.switch();
        // It does not read, and the backend gets all that it sends.
        client.send(&sent[..MIB]);
        assert!(hear(&told) == sent[..MIB], "the bytes changed");
        client.ended().expect(&sent);
    }
}

#[test]
fn a_flood_does_not_hold_up_the_other_direction() {
    let (b1, told) = granting(|exchange| {
        exchange.read_raw(8 * MIB);
        exchange.send("enough");
        exchange.wait_until_left()
    });
    let site = Site::before(&b1);
    let mut client = site.connect();
    client.switch();
    let flood = client.meanwhile_flood();
    client.awaits("enough");
    flood.stop();
    client.half_close();
    assert!(hear(&told));
}

#[test]
fn ws_02_real_ends_understand_each_other() {
    let b1 = Backend::raw("B1", |stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() || message.is_binary() {
                socket.send(message).unwrap();
            }
        }
    });
    for site in both(&b1, |site| site) {
        let stream = site.connect().into_stream();
        let (mut socket, _) = tungstenite::client("ws://a.test/chat", stream).unwrap();
        for message in [
            Message::text("grüße"),
            Message::text(""),
            Message::binary(pattern(125)),
            Message::binary(pattern(126)),
            Message::binary(pattern(64 * 1024)),
            Message::binary(pattern(MIB)),
        ] {
            socket.send(message.clone()).unwrap();
            assert!(socket.read().unwrap() == message, "the message changed");
        }
        socket.send(Message::Ping("there?".into())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::Pong("there?".into()));
        let frame = CloseFrame { code: CloseCode::Away, reason: "good night".into() };
        socket.close(Some(frame.clone())).unwrap();
        assert_eq!(socket.read().unwrap(), Message::Close(Some(frame)));
        assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
        eventually("the tunnel is gone", || b1.open() == 0);
    }
}
