//! The PROXY header of a load balancer in front (DESIGN 3.3): whom it makes
//! the client, who must send one, and who must not.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::{Backend, Client, Site, SiteBuilder, TlsOffer};

const LISTED: &str = "[proxy_protocol]\npeers = [\"10.1.0.0/16\", \"127.0.0.0/8\"]\n";
const UNLISTED: &str = "[proxy_protocol]\npeers = [\"10.1.0.0/16\"]\n";
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 443\r\n";
const V1_IPV6: &[u8] = b"PROXY TCP6 2001:db8::7 2001:db8::1 51234 443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A v2 header: command, family and protocol, addresses and extensions.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([0x20 | command, family]);
    bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    bytes.extend(rest);
    bytes
}

/// A v2 header for a client at `source`.
fn v2_of(source: &str, extensions: &[u8]) -> Vec<u8> {
    let (family, mut rest) = match source.parse::<SocketAddr>().unwrap() {
        SocketAddr::V4(source) => (0x11, [source.ip().octets(), [192, 0, 2, 1]].concat()),
        SocketAddr::V6(source) => (0x21, [source.ip().octets(), [0xfd; 16]].concat()),
    };
    let port = source.parse::<SocketAddr>().unwrap().port();
    rest.extend(port.to_be_bytes());
    rest.extend(443_u16.to_be_bytes());
    rest.extend(extensions);
    v2(1, family, &rest)
}

/// An extension (type, length, value) of this size.
fn extension(size: usize) -> Vec<u8> {
    let mut bytes = vec![0x04];
    bytes.extend(u16::try_from(size).unwrap().to_be_bytes());
    bytes.extend(vec![b'\n'; size]);
    bytes
}

fn v2_source() -> Vec<u8> {
    v2_of("203.0.113.7:51234", &[])
}

/// A plain site behind this balancer, which is where the tests are.
fn site(backend: &Backend) -> Site {
    Site::http().process(LISTED).backend(backend).start()
}

/// `header` and then a request at once.
fn with_request(header: &[u8]) -> Vec<u8> {
    [header, REQUEST.as_bytes()].concat()
}

/// Port of the site, with the header in front of everything.
#[track_caller]
fn client(site: &Site, tls: bool, header: &[u8]) -> Client {
    if tls {
        TlsOffer::to("a.test").connect_behind(site.port(), header).expect("the handshake succeeds")
    } else {
        let mut client = Client::plain(site.port());
        client.send(header);
        client
    }
}

#[test]
fn the_header_says_who_the_client_is() {
    let extended = v2_of("203.0.113.7:51234", &extension(3000));
    for (header, source) in [
        (V1, "203.0.113.7"),
        (V1_IPV6, "2001:db8::7"),
        (&v2_source(), "203.0.113.7"),
        (&v2_of("[2001:db8::7]:51234", &[]), "2001:db8::7"),
        (&extended, "203.0.113.7"),
    ] {
        for (tls, builder) in [(false, Site::http()), (true, Site::https())] {
            let b1 = Backend::named("B1");
            let fields = "forwarded = [\"x-forwarded-for\", \"x-real-ip\", \
                          \"x-forwarded-client-srcport\"]";
            let site = builder.process(LISTED).listener(fields).backend(&b1).start();
            let mut client = client(&site, tls, header);
            // Of the connection, so of all its requests.
            for _ in 0..2 {
                client.get("a.test", "/page").expect(200);
            }
            for request in b1.requests() {
                assert_eq!(request.request_line(), "GET /page HTTP/1.1");
                assert_eq!(request.value("x-forwarded-for"), source);
                assert_eq!(request.value("x-real-ip"), source);
                assert_eq!(request.value("x-forwarded-client-srcport"), "51234");
            }
        }
    }
}

#[test]
fn the_request_may_come_with_the_header() {
    for header in [V1, &v2_source()] {
        let b1 = Backend::named("B1");
        let site = site(&b1);
        let mut client = Client::plain(site.port());
        client.request(with_request(header)).expect(200);
        client.get("a.test", "/second").expect(200);
        assert_eq!(b1.requests()[0].request_line(), "GET / HTTP/1.1");
        assert_eq!(b1.requests()[0].value("x-forwarded-for"), "203.0.113.7");
    }
}

#[test]
fn a_body_may_come_with_the_header_too() {
    let b1 = Backend::named("B1");
    let site = site(&b1);
    let body = crate::support::pattern(100_000);
    let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut client = Client::plain(site.port());
    client.send([&v2_source(), head.as_bytes(), &body].concat());
    client.read().expect(200);
    assert!(b1.request().body == body);
}

#[test]
fn a_header_may_come_in_pieces() {
    let v2 = v2_of("203.0.113.7:51234", &extension(40));
    for header in [V1, &v2] {
        let b1 = Backend::named("B1");
        let site = site(&b1);
        let mut client = Client::plain(site.port());
        for byte in with_request(header) {
            client.send([byte]);
            // Time for it to be looked at alone.
            std::thread::sleep(Duration::from_millis(2));
        }
        client.read().expect(200);
        assert_eq!(b1.request().value("x-forwarded-for"), "203.0.113.7");
    }
    // Cut where it hurts, with longer pauses.
    for (header, cuts) in [(V1, [1, 5, 14, V1.len() - 1]), (&v2, [1, 12, 15, v2.len() - 1])] {
        let b1 = Backend::named("B1");
        let site = site(&b1);
        for cut in cuts {
            let mut client = Client::plain(site.port());
            let bytes = with_request(header);
            client.send(&bytes[..cut]);
            std::thread::sleep(Duration::from_millis(30));
            client.send(&bytes[cut..]);
            client.read().expect(200);
        }
        let named =
            |request: &crate::support::Recorded| request.value("x-forwarded-for") == "203.0.113.7";
        assert!(b1.requests().iter().all(named));
        assert_eq!(b1.executions(), cuts.len());
    }
}

#[test]
fn a_balancer_may_speak_for_itself() {
    for header in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
        &v2(0, 0, &[]),
        &v2(0, 0, &extension(5)),
    ] {
        for (tls, builder) in [(false, Site::http()), (true, Site::https())] {
            let b1 = Backend::named("B1");
            let site = builder.process(LISTED).backend(&b1).start();
            client(&site, tls, header).get("a.test", "/").expect(200);
            assert_eq!(b1.request().value("x-forwarded-for"), "127.0.0.1");
            assert_eq!(b1.request().value("x-real-ip"), "127.0.0.1");
        }
    }
}

#[test]
fn what_a_balancer_says_of_itself_is_passed_over() {
    // A LOCAL header with addresses: they say nothing (PROXY protocol 2.2).
    let mut header = v2_source();
    header[12] = 0x20;
    let b1 = Backend::named("B1");
    client(&site(&b1), false, &header).get("a.test", "/").expect(200);
    assert_eq!(b1.request().value("x-forwarded-for"), "127.0.0.1");
}

#[test]
fn the_family_of_a_balancer_that_speaks_for_itself_is_ignored() {
    for header in [v2(0, 0x11, &[]), v2(0, 0x21, &[1, 2, 3]), v2(0, 0x41, &[])] {
        let b1 = Backend::named("B1");
        client(&site(&b1), false, &header).get("a.test", "/").expect(200);
        assert_eq!(b1.request().value("x-forwarded-for"), "127.0.0.1");
    }
}

/// The answer to a client at 203.0.113.7, by plain and by TLS.
fn statuses(builder: impl Fn(SiteBuilder) -> SiteBuilder, header: &[u8]) -> (Vec<u16>, Vec<Site>) {
    let mut statuses = Vec::new();
    let mut sites = Vec::new();
    for (tls, listener) in [(false, Site::http()), (true, Site::https())] {
        let site = builder(listener.process(LISTED)).start();
        statuses.push(client(&site, tls, header).get("a.test", "/").status);
        sites.push(site);
    }
    (statuses, sites)
}

#[test]
fn allow_and_deny_are_about_the_client_the_header_names() {
    let b1 = Backend::named("B1");
    for header in [V1, &v2_source()] {
        let with = |lines: &'static str| {
            let b1 = &b1;
            move |site: SiteBuilder| site.listener(lines).backend(b1)
        };
        let (denied, sites) = statuses(with("deny = [\"203.0.113.0/24\"]"), header);
        assert_eq!(denied, [403, 403]);
        for site in &sites {
            site.lockgate.wait_for_log(&["cause=denied", "client=203.0.113.7"]);
        }
        // Not about the balancer's.
        assert_eq!(statuses(with("deny = [\"127.0.0.1\"]"), header).0, [200, 200]);
        assert_eq!(statuses(with("allow = [\"203.0.113.0/24\"]"), header).0, [200, 200]);
        assert_eq!(statuses(with("allow = [\"127.0.0.1\"]"), header).0, [403, 403]);
    }
}

#[test]
fn the_log_names_the_client() {
    let b1 = Backend::named("B1");
    for header in [V1, &v2_source()] {
        for (tls, builder) in [(false, Site::http()), (true, Site::https())] {
            let site = builder.process(LISTED).backend(&b1).start();
            client(&site, tls, header).get("a.test", "/close").expect(502);
            let line = site.lockgate.wait_for_log(&["cause=closed_before_header"]);
            assert!(line.contains("client=203.0.113.7"), "{line}");
        }
    }
}

#[test]
fn trust_in_forwarded_fields_is_trust_in_the_client_named() {
    let b1 = Backend::named("B1");
    for (trusted, expected) in [("203.0.113.7", "198.51.100.1"), ("127.0.0.1", "203.0.113.7")] {
        let site = Site::http()
            .process(LISTED)
            .listener(&format!("trusted_proxies = [\"{trusted}\"]"))
            .backend(&b1)
            .start();
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n";
        client(&site, false, V1).request(request).expect(200);
        let seen = b1.requests().pop().unwrap();
        assert_eq!(seen.value("x-forwarded-for"), "198.51.100.1, 203.0.113.7");
        assert_eq!(seen.value("x-real-ip"), expected, "{trusted} is trusted");
    }
}

/// What is no PROXY header.
fn garbage() -> Vec<Vec<u8>> {
    let mut version = v2_source();
    version[12] = 0x31;
    let mut command = v2_source();
    command[12] = 0x22;
    let mut short = v2(1, 0x11, &[203, 0, 113, 7]);
    short.extend(REQUEST.as_bytes());
    vec![
        REQUEST.into(),
        "POST /PROXY HTTP/1.1\r\nHost: a.test\r\n\r\n".into(),
        [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3, 4, 5].into(),
        with_request(b"PROXY TCP5 203.0.113.7 192.0.2.1 51234 443\r\n"),
        with_request(b"PROXY TCP4 203.0.113.700 192.0.2.1 51234 443\r\n"),
        with_request(b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 65536\r\n"),
        with_request(b"PROXY TCP4 2001:db8::7 2001:db8::1 51234 443\r\n"),
        with_request(b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 443\n"),
        with_request(b"proxy TCP4 203.0.113.7 192.0.2.1 51234 443\r\n"),
        with_request(&[b"PROXY TCP4 ", &[b'1'; 200][..]].concat()),
        with_request(&version),
        with_request(&command),
        with_request(&v2_of("203.0.113.7:1", &extension(8000))),
        short,
    ]
}

#[test]
fn a_balancer_must_send_a_header() {
    for builder in [Site::http(), Site::https()] {
        let b1 = Backend::named("B1");
        let site = builder.process(LISTED).backend(&b1).start();
        for garbage in garbage() {
            let logged = || site.lockgate.log().matches("PROXY header").count();
            let before = logged();
            let mut client = Client::plain(site.port());
            client.send(&garbage);
            // Not even an answer: whoever this is does not speak for a client.
            client.assert_closed();
            crate::support::eventually("the log tells", || logged() > before);
        }
        site.lockgate.wait_for_log(&["PROXY header", "client=127.0.0.1"]);
        b1.assert_untouched();
    }
    let b1 = Backend::named("B1");
    let site = Site::https().process(LISTED).backend(&b1).start();
    assert!(TlsOffer::to("a.test").connect(site.port()).is_err());
    client(&site, true, V1).get("a.test", "/").expect(200);
}

#[test]
fn a_header_has_a_deadline() {
    let b1 = Backend::named("B1");
    for builder in [Site::http(), Site::https()] {
        let limits = format!("{LISTED}[limits]\nheader_timeout = \"300ms\"\n");
        let site = builder.process(&limits).backend(&b1).start();
        for part in [&b""[..], b"PRO", &V1[..V1.len() - 1], &v2_source()[..20]] {
            let begin = Instant::now();
            let mut client = Client::plain(site.port());
            client.send(part);
            client.assert_closed();
            assert!(begin.elapsed() >= Duration::from_millis(300), "closed early: {part:?}");
        }
        site.lockgate.wait_for_log(&["PROXY header", "client=127.0.0.1"]);
    }
    b1.assert_untouched();
}

#[test]
fn a_balancer_that_leaves_within_the_header_is_let_go() {
    let b1 = Backend::named("B1");
    let site = site(&b1);
    for part in [&b""[..], b"PRO", &v2_source()[..20]] {
        let mut client = Client::plain(site.port());
        client.send(part);
        client.half_close();
        client.assert_closed();
    }
    b1.assert_untouched();
    client(&site, false, V1).get("a.test", "/").expect(200);
}

#[test]
fn nobody_else_may_send_a_header() {
    let b1 = Backend::named("B1");
    for process in ["", UNLISTED] {
        for builder in [Site::http(), Site::https()] {
            let site = builder.process(process).backend(&b1).start();
            for header in [V1, &v2_source(), b"PROXY UNKNOWN\r\n", &v2(0, 0, &[])] {
                let mut client = Client::plain(site.port());
                client.send(with_request(header));
                let answer = String::from_utf8(client.read_to_end()).unwrap();
                assert!(answer.starts_with("HTTP/1.1 400 "), "{header:?}: {answer}");
                assert_eq!(answer.matches("HTTP/1.").count(), 1, "{answer}");
            }
        }
    }
    b1.assert_untouched();
}

#[test]
fn without_a_header_nobody_else_is_asked_for_one() {
    let b1 = Backend::named("B1");
    for builder in [Site::http(), Site::https()] {
        let site = builder.process(UNLISTED).backend(&b1).start();
        site.get("/").expect(200);
        assert_eq!(b1.requests().pop().unwrap().value("x-forwarded-for"), "127.0.0.1");
    }
}
