//! TLS towards backends (DESIGN 3.3 `tls`): who is believed, what is shown,
//! that sessions resume, and that a connection kept for the next request
//! holds nothing of the last one.

use std::time::{Duration, Instant};

use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};

use crate::support::{
    Backend, Ending, Site, SiteBuilder, TlsBackend, TlsServer, authority, eventually,
    foreign_authority, pattern,
};

const MIB: usize = 1024 * 1024;
/// The backends' authority is ours; their name is `b.test`.
const OURS: &str = "ca = \"ca.pem\", server_name = \"b.test\"";

/// A site whose group speaks https with these entries of `tls`.
fn builder(listener: SiteBuilder, address: &str, tls: &str) -> SiteBuilder {
    listener
        .any_file("ca.pem", authority().pem())
        .group(&format!("protocol = \"https\"\ntls = {{ {tls} }}"))
        .address(address)
}

fn site(address: &str, tls: &str) -> Site {
    builder(Site::http(), address, tls).start()
}

fn server() -> TlsServer {
    TlsServer::with(&authority().server(&["b.test"]))
}

/// 502, and the log says that it was the handshake.
#[track_caller]
fn assert_no_handshake(site: &Site, detail: &str) {
    site.get("/").expect(502);
    site.lockgate.wait_for_log(&["status=502", "cause=tls_handshake", "phase=connect", detail]);
}

#[test]
fn the_name_is_asked_for_and_checked() {
    let b1 = TlsBackend::named("B1", server());
    let site = site(&b1.address(), OURS);
    assert_eq!(site.get("/page").expect(200).backend(), "B1");
    let [handshake] = &b1.handshakes()[..] else { panic!("{:?}", b1.handshakes()) };
    assert_eq!(handshake.server_name.as_deref(), Some("b.test"));
    assert_eq!(handshake.alpn.as_deref(), Some(b"http/1.1".as_slice()));
    assert!(handshake.client.is_none());
    let request = &b1.requests()[0];
    assert_eq!(request.request_line(), "GET /page HTTP/1.1");
    assert_eq!(request.value("x-forwarded-proto"), "http");
}

#[test]
fn without_a_name_the_address_is_checked() {
    let b1 = TlsBackend::named("B1", TlsServer::with(&authority().server(&["127.0.0.1"])));
    let by_address = site(&b1.address(), "ca = \"ca.pem\"");
    by_address.get("/").expect(200);
    // RFC 6066 3: an address is no server name.
    assert_eq!(b1.handshakes()[0].server_name, None);
    let b2 = TlsBackend::named("B2", server());
    let another = site(&b2.address(), "ca = \"ca.pem\"");
    assert_no_handshake(&another, "127.0.0.1");
    assert_eq!(b2.executions(), 0);
}

#[test]
fn a_certificate_of_another_name_is_refused() {
    let b1 = TlsBackend::named("B1", TlsServer::with(&authority().server(&["c.test"])));
    let site = site(&b1.address(), OURS);
    assert_no_handshake(&site, "c.test");
    assert!(b1.wait_for_failure().to_lowercase().contains("alert"), "{}", b1.wait_for_failure());
    assert_eq!(b1.executions(), 0);
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let b1 = TlsBackend::named("B1", TlsServer::with(&foreign_authority().server(&["b.test"])));
    assert_no_handshake(&site(&b1.address(), OURS), "UnknownIssuer");
    // Without `ca` it is the system that knows the authorities, not us.
    let b2 = TlsBackend::named("B2", server());
    let bundle = std::path::Path::new("/etc/ssl/certs/ca-certificates.crt");
    if bundle.exists() {
        assert_no_handshake(&site(&b2.address(), "server_name = \"b.test\""), "UnknownIssuer");
    }
    assert_eq!((b1.executions(), b2.executions()), (0, 0));
}

#[test]
fn an_expired_certificate_is_refused() {
    let b1 = TlsBackend::named("B1", TlsServer::with(&authority().expired(&["b.test"])));
    assert_no_handshake(&site(&b1.address(), OURS), "xpired");
    assert_eq!(b1.executions(), 0);
}

#[test]
fn verify_false_takes_any_certificate() {
    for leaf in [
        foreign_authority().server(&["c.test"]),
        authority().expired(&["b.test"]),
        authority().server(&["c.test"]),
    ] {
        for version in [&TLS12, &TLS13] {
            let b1 = TlsBackend::named("B1", TlsServer::version(&leaf, version));
            let site = site(&b1.address(), "verify = false, server_name = \"b.test\"");
            site.get("/").expect(200);
            // The name is asked for all the same.
            assert_eq!(b1.handshakes()[0].server_name.as_deref(), Some("b.test"));
            site.lockgate.wait_for_log(&["certificates are not checked"]);
        }
    }
}

#[test]
fn the_client_certificate_is_shown() {
    let leaf = authority().client("lockgate");
    for version in [&TLS12, &TLS13] {
        let server =
            TlsServer::for_clients_of(&authority().server(&["b.test"]), authority(), &[version]);
        let b1 = TlsBackend::named("B1", server);
        let tls = format!("{OURS}, client_certificate = \"ours\"");
        let site = builder(Site::http(), &b1.address(), &tls).leaf("ours", &leaf).start();
        site.get("/").expect(200);
        assert_eq!(b1.handshakes()[0].client.as_ref(), Some(leaf.der()));
    }
}

#[test]
fn a_backend_that_misses_our_certificate_is_a_502() {
    for (version, cause) in [(&TLS12, "cause=tls_handshake"), (&TLS13, "cause=")] {
        let server =
            TlsServer::for_clients_of(&authority().server(&["b.test"]), authority(), &[version]);
        let b1 = TlsBackend::named("B1", server);
        let site = site(&b1.address(), OURS);
        site.get("/").expect(502);
        // With TLS 1.3 the verdict comes after our side's handshake.
        site.lockgate.wait_for_log(&["status=502", cause, "CertificateRequired"]);
        b1.wait_for_failure();
        assert_eq!(b1.executions(), 0);
    }
}

#[test]
fn sessions_are_resumed_by_every_worker() {
    for version in [&TLS12, &TLS13] {
        let leaf = authority().server(&["b.test"]);
        let b1 = TlsBackend::named("B1", TlsServer::version(&leaf, version));
        let site = builder(Site::http().workers(2), &b1.address(), OURS)
            .group("keepalive = false")
            .start();
        for _ in 0..24 {
            site.get("/").expect(200);
        }
        let kinds: Vec<_> = b1.handshakes().iter().map(|handshake| handshake.kind).collect();
        assert_eq!(kinds.len(), 24);
        assert_eq!(kinds[0], HandshakeKind::Full);
        let resumed = |kind: &HandshakeKind| *kind == HandshakeKind::Resumed;
        assert!(kinds[1..].iter().all(resumed), "{version:?}: {kinds:?}");
    }
}

#[test]
fn a_resumed_session_needs_no_less_trust() {
    // One backend, two groups: what one takes on trust the other does not get
    // by way of its session.
    let b1 = TlsBackend::named("B1", TlsServer::with(&foreign_authority().server(&["b.test"])));
    let trusting = format!(
        "[group.trusting]\nprotocol = \"https\"\nkeepalive = false\nbackends = [\"{}\"]\n\
         tls = {{ verify = false, server_name = \"b.test\" }}\n",
        b1.address()
    );
    let site = builder(Site::http(), &b1.address(), OURS)
        .rule("path = \"/trusting\"\ngroup = \"trusting\"")
        .more(&trusting)
        .start();
    for _ in 0..3 {
        site.get("/trusting").expect(200);
        assert_no_handshake(&site, "UnknownIssuer");
    }
    assert_eq!(b1.executions(), 3);
}

#[test]
fn backend_connections_are_used_again() {
    for version in [&TLS12, &TLS13] {
        let leaf = authority().server(&["b.test"]);
        let b1 = TlsBackend::named("B1", TlsServer::version(&leaf, version));
        let site = site(&b1.address(), OURS);
        for round in 0..5 {
            let text = site.get(&format!("/{round}")).expect(200).text();
            assert!(text.contains(&format!("GET /{round} ")), "{text}");
        }
        assert_eq!(b1.handshakes().len(), 1);
    }
}

#[test]
fn session_tickets_may_arrive_late() {
    // They come with nothing else while lockgate waits for the response: no
    // end, no data, no failure.
    let b1 = TlsBackend::keeping_tickets("B1", server(), |exchange| {
        exchange.read_body();
        if exchange.earlier() == 0 {
            exchange.let_go();
        }
        exchange.echo();
    });
    let site = builder(Site::http(), &b1.address(), OURS).group("keepalive = false").start();
    for round in 0..4 {
        let text = site.post(&format!("/{round}"), b"body").expect(200).text();
        assert!(text.contains(&format!("POST /{round} ")), "{text}");
    }
    let kinds: Vec<_> = b1.handshakes().iter().map(|handshake| handshake.kind).collect();
    assert_eq!(b1.executions(), 4);
    assert!(kinds[1..].contains(&HandshakeKind::Resumed), "{kinds:?}");
}

#[test]
fn messages_of_tls_itself_behind_a_response_harm_nothing() {
    // TLS 1.3 lets the backend say more after its answer: new keys here, as
    // late tickets would be.
    let leaf = authority().server(&["b.test"]);
    let b1 = TlsBackend::scripted("B1", TlsServer::version(&leaf, &TLS13), |exchange| {
        exchange.echo();
        exchange.change_keys();
    });
    let mut site = site(&b1.address(), OURS);
    for round in 0..30 {
        let target = format!("/{round}");
        let text = match round % 2 {
            0 => site.get(&target).expect(200).text(),
            _ => site.post(&target, b"body").expect(200).text(),
        };
        assert!(text.contains(&format!(" /{round} HTTP")), "{text}");
    }
    assert_eq!(b1.executions(), 30, "nothing is sent twice");
    let log = site.lockgate.log_to_the_end();
    assert!(!log.contains("cause="), "{log}");
}

/// A response of exactly this size, head and all.
fn response_of(size: usize) -> Vec<u8> {
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let length = size - head(size).len();
    let mut bytes = head(length).into_bytes();
    bytes.resize(size, b'x');
    bytes
}

#[test]
fn what_comes_behind_a_response_is_nobodys() {
    // The response fills lockgate's read buffer to the byte, so what lies
    // behind it stays with TLS, where the socket does not show it. Both leave
    // in one write, so they arrive together.
    let b1 = TlsBackend::scripted("B1", server(), |exchange| {
        if exchange.request().target() == "/long" {
            let mut bytes = response_of(16 * 1024);
            bytes.extend(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
            exchange.send(bytes);
        } else {
            exchange.echo();
        }
    });
    let site = site(&b1.address(), OURS);
    for round in 0..10 {
        site.get("/long").expect(200);
        let text = site.get(&format!("/{round}")).expect(200).text();
        assert!(text.contains(&format!("GET /{round} ")), "another's: {text}");
    }
}

#[test]
fn a_connection_whose_end_was_said_is_not_used_again() {
    // close_notify, and the socket stays open: nobody reads it any more.
    let b1 = TlsBackend::scripted("B1", server(), |exchange| {
        exchange.read_body();
        let line = exchange.request().request_line();
        exchange.reply_and_say_end(&line);
    });
    let site = site(&b1.address(), OURS);
    for round in 0..10 {
        let text = site.post(&format!("/{round}"), b"body").expect(200).text();
        assert!(text.contains(&format!("POST /{round} ")), "{text}");
    }
    assert_eq!(b1.executions(), 10);
    assert_eq!(b1.handshakes().len(), 10);
}

#[test]
fn a_plain_backend_is_a_failed_handshake() {
    let b1 = Backend::raw("B1", |stream| {
        use std::io::{Read as _, Write as _};
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    let site = site(&b1.address(), OURS);
    assert_no_handshake(&site, "");
    // One that ends without a word as well.
    let b2 = Backend::raw("B2", |_| {});
    let site = self::site(&b2.address(), OURS);
    assert_no_handshake(&site, "");
}

#[test]
fn a_handshake_has_connect_timeout_to_end() {
    let b1 = Backend::raw("B1", |stream| {
        use std::io::Read as _;
        while stream.read(&mut [0; 1024]).is_ok_and(|n| n > 0) {}
    });
    let site =
        builder(Site::http(), &b1.address(), OURS).group("connect_timeout = \"400ms\"").start();
    let begin = Instant::now();
    assert_no_handshake(&site, "connect_timeout");
    assert!(begin.elapsed() >= Duration::from_millis(400), "{:?}", begin.elapsed());
    eventually("the connection is closed", || b1.open() == 0);
}

#[test]
fn connect_timeout_holds_for_the_handshake_alone() {
    let b1 = TlsBackend::scripted("B1", server(), |exchange| {
        exchange.read_body();
        std::thread::sleep(Duration::from_millis(1500));
        exchange.echo();
    });
    let site = builder(Site::http(), &b1.address(), OURS).group("connect_timeout = \"1s\"").start();
    site.get("/").expect(200);
}

#[test]
fn large_bodies_pass_both_ways() {
    let body = pattern(5 * MIB);
    let down = body.clone();
    let b1 = TlsBackend::scripted("B1", server(), move |exchange| {
        exchange.read_body();
        if exchange.request().target() == "/chunked" {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            exchange.send(crate::support::chunked(&down, 70_000, ""));
        } else {
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", down.len()));
            exchange.send(&down);
        }
    });
    for listener in [Site::http(), Site::https()] {
        let site = builder(listener, &b1.address(), OURS).start();
        for (target, ending) in [("/length", Ending::Length), ("/chunked", Ending::Chunked)] {
            let before = b1.executions();
            let response = site.post(target, &body).expect(200);
            assert!(response.body == body, "{target}: the response differs");
            assert_eq!(response.ending, ending);
            assert!(b1.requests()[before].body == body, "{target}: the request differs");
        }
        let mut chunks =
            b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        chunks.extend(crate::support::chunked(&body, 50_000, ""));
        let before = b1.executions();
        assert!(site.request(chunks).expect(200).body == body);
        assert!(b1.requests()[before].body == body);
    }
}

#[test]
fn both_directions_flow_at_the_same_time() {
    // The backend gives back what it gets as it gets it: neither direction may
    // wait for the other's end.
    let b1 = TlsBackend::scripted("B1", server(), |exchange| {
        let length: usize = exchange.request().value("content-length").parse().unwrap();
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
        let mut seen = 0;
        while seen < length {
            let Ok(bytes) = exchange.read_some() else { return };
            if bytes.is_empty() {
                return;
            }
            seen += bytes.len();
            exchange.send(bytes);
        }
    });
    let site = site(&b1.address(), OURS);
    let mut client = site.connect();
    let pieces: Vec<Vec<u8>> = pattern(MIB).chunks(16 * 1024).map(<[u8]>::to_vec).collect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {MIB}\r\n\r\n"));
    client.send(&pieces[0]);
    assert!(client.read_head().starts_with("HTTP/1.1 200 "));
    let mut echoed = client.read_exactly(pieces[0].len());
    for piece in &pieces[1..] {
        client.send(piece);
        echoed.extend(client.read_exactly(piece.len()));
    }
    assert!(echoed == pattern(MIB));
}

#[test]
fn websockets_reach_https_backends() {
    let b1 = TlsBackend::scripted("B1", server(), |exchange| {
        exchange.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        while let Ok(bytes) = exchange.read_some() {
            if bytes.is_empty() {
                break;
            }
            exchange.send(bytes);
        }
        exchange.send("the end");
        exchange.close();
    });
    for listener in [Site::http(), Site::https()] {
        let site = builder(listener, &b1.address(), OURS).start();
        let mut client = site.connect();
        client.send(
            "GET /play HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        for piece in pattern(300_000).chunks(70_000) {
            client.send(piece);
            assert!(client.read_exactly(piece.len()) == piece);
        }
        // Our end is passed on as TLS says it, and the backend's comes back.
        client.half_close();
        assert_eq!(client.read_to_end(), b"the end");
    }
}

#[test]
fn a_body_that_ends_without_close_notify_is_cut() {
    for said in [true, false] {
        let b1 = TlsBackend::scripted("B1", server(), move |exchange| {
            exchange.read_body();
            exchange.send("HTTP/1.1 200 OK\r\n\r\nall there is");
            if said { exchange.close() } else { exchange.cut() }
        });
        let mut site = site(&b1.address(), OURS);
        for request in
            ["GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n"]
        {
            let mut client = site.connect();
            client.send(request);
            if said {
                assert_eq!(client.read().expect(200).text(), "all there is");
            } else {
                let cut = client.read_cut();
                assert_eq!(cut.partial.unwrap().text(), "all there is");
                site.lockgate.wait_for_log(&["cause=body_closed", "phase=body"]);
            }
        }
        let log = site.lockgate.log_to_the_end();
        assert_eq!(log.contains("cause="), !said, "{log}");
    }
}

#[test]
fn a_body_of_known_length_needs_no_close_notify() {
    let b1 = TlsBackend::scripted("B1", server(), |exchange| {
        exchange.read_body();
        exchange.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nwhole");
        exchange.cut();
    });
    let mut site = site(&b1.address(), OURS);
    for _ in 0..5 {
        assert_eq!(site.get("/").expect(200).text(), "whole");
    }
    let log = site.lockgate.log_to_the_end();
    assert!(!log.contains("cause=body"), "{log}");
}
