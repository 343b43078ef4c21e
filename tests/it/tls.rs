//! TLS towards the client: which certificate is shown, which versions are
//! spoken, who is refused, and that a session is resumed by every worker.
//! SEMANTICS rows TL; HTTP/2 (TL-11) is not offered in this step.

use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion};

use crate::support::{
    Backend, Client, Lockgate, Port, Setup, Site, TlsOffer, authority, foreign_authority, group,
    https_listener,
};

#[test]
fn tl_01_sni_gets_its_certificate() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let (of_a, of_b) = (authority().server(&["a.test"]), authority().server(&["b.test"]));
    let text = https_listener("a.test", &port, "group = \"web\"")
        + &https_listener("b.test", &port, "group = \"web\"")
        + &group("web", &b1);
    let _lockgate =
        Setup::empty().leaf("a.test", &of_a).leaf("b.test", &of_b).file("g.toml", &text).start();
    assert_eq!(Client::tls(port.number(), "a.test").certificate(), *of_a.der());
    assert_eq!(Client::tls(port.number(), "b.test").certificate(), *of_b.der());
    // Names have no case.
    assert_eq!(Client::tls(port.number(), "B.Test").certificate(), *of_b.der());
}

/// A default listener with a certificate for `d.test` and `unknown.test`, and
/// one for `a.test`.
fn with_default(
    backend: &Backend,
    port: &Port,
) -> (Lockgate, rustls::pki_types::CertificateDer<'static>) {
    let of_default = authority().server(&["d.test", "unknown.test"]);
    let text = https_listener("a.test", port, "group = \"web\"")
        + &format!(
            "[[listener]]\ndefault = true\nport = {port}\ncertificate = \"d\"\ngroup = \"web\"\n"
        )
        + &group("web", backend);
    let lockgate = Setup::empty().leaf("d", &of_default).file("g.toml", &text).start();
    (lockgate, of_default.der().clone())
}

#[test]
fn tl_02_an_unknown_sni_gets_the_default() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let (_lockgate, of_default) = with_default(&b1, &port);
    let mut client = Client::tls(port.number(), "unknown.test");
    assert_eq!(client.certificate(), of_default);
    assert_eq!(client.get("unknown.test", "/").expect(200).backend(), "B1");
}

#[test]
fn tl_03_no_sni_gets_the_default() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let (_lockgate, of_default) = with_default(&b1, &port);
    let client = TlsOffer::to("d.test").without_sni().connect(port.number()).unwrap();
    assert_eq!(client.certificate(), of_default);
}

#[test]
fn tl_03_no_sni_and_no_default_gets_the_alphabetically_first() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let of_b = authority().server(&["b.test"]);
    let one = https_listener("c.test", &port, "group = \"web\"") + &group("web", &b1);
    let two = https_listener("b.test", &port, "group = \"web\"") + &group("web", &b1);
    let _lockgate =
        Lockgate::with("one.toml", &one).leaf("b.test", &of_b).file("two.toml", &two).start();
    let mut client = TlsOffer::to("b.test").without_sni().connect(port.number()).unwrap();
    assert_eq!(client.certificate(), *of_b.der());
    // The certificate is not the routing: Host says where to.
    client.get("c.test", "/").expect(200);
}

#[test]
fn tl_02_without_a_default_an_unknown_sni_is_refused() {
    let b1 = Backend::named("B1");
    let site = Site::https().backend(&b1).start();
    for versions in [&[&TLS12], &[&TLS13]] {
        let error = TlsOffer::versions("unknown.test", versions).refusal(site.port());
        assert!(error.to_lowercase().contains("unrecogni"), "{error}");
    }
    site.get("/").expect(200);
}

#[test]
fn tl_04_the_exact_certificate_beats_the_wildcard() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let wild = authority().server(&["*.x.test"]);
    let exact = authority().server(&["www.x.test"]);
    let text = https_listener("*.x.test", &port, "group = \"web\"")
        + &https_listener("www.x.test", &port, "group = \"web\"")
        + &group("web", &b1);
    let _lockgate = Setup::empty()
        .leaf("x.test", &wild)
        .leaf("www.x.test", &exact)
        .file("g.toml", &text)
        .start();
    assert_eq!(Client::tls(port.number(), "www.x.test").certificate(), *exact.der());
    assert_eq!(Client::tls(port.number(), "m.x.test").certificate(), *wild.der());
}

#[test]
fn tl_05_plain_http_on_the_tls_port_is_400_in_clear_text() {
    let b1 = Backend::named("B1");
    let site = Site::https().backend(&b1).start();
    for request in ["GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "POST /x HTTP/1.0\r\n\r\n"] {
        let mut client = Client::plain(site.port());
        client.request(request).expect(400);
        client.assert_closed();
    }
    b1.assert_untouched();
}

/// A TLS 1.1 ClientHello: no `supported_versions`, version 3.2.
fn client_hello_1_1() -> Vec<u8> {
    let mut body = vec![0x03, 0x02];
    body.extend([7; 32]);
    body.push(0);
    // ECDHE-ECDSA-AES128-SHA, ECDHE-RSA-AES128-SHA, AES128-SHA.
    body.extend([0, 6, 0xc0, 0x09, 0xc0, 0x13, 0x00, 0x2f]);
    body.extend([1, 0]);
    let name = b"a.test";
    let mut extensions = vec![0, 0, 0, 11, 0, 9, 0, 0, 6];
    extensions.extend(name);
    extensions.extend([0, 10, 0, 4, 0, 2, 0, 23]);
    body.extend([0, u8::try_from(extensions.len()).unwrap()]);
    body.extend(extensions);
    let length = u8::try_from(body.len()).unwrap();
    let mut record = vec![0x16, 0x03, 0x01, 0, length + 4, 1, 0, 0, length];
    record.extend(body);
    record
}

#[test]
fn tl_06_tls_1_1_is_refused() {
    let b1 = Backend::named("B1");
    let site =
        Site::https().listener("tls = \"tls_cipher_policy_1_2_strict\"").backend(&b1).start();
    let mut client = Client::plain(site.port());
    client.send(client_hello_1_1());
    let answer = client.read_to_end();
    // One fatal alert and nothing else.
    assert!(matches!(answer.as_slice(), [0x15, 3, _, 0, 2, 2, _]), "{answer:?}");
    assert!(TlsOffer::versions("a.test", &[&TLS13]).connect(site.port()).is_err());
    let client = TlsOffer::versions("a.test", &[&TLS12]).connect(site.port()).unwrap();
    assert_eq!(client.session().protocol_version(), Some(ProtocolVersion::TLSv1_2));
    b1.assert_untouched();
}

#[test]
fn tl_08_tls_1_2_and_1_3_are_both_served() {
    let b1 = Backend::named("B1");
    let policy = "tls = \"tls_cipher_policy_1_2_strict_with_1_3\"";
    let site = Site::https().listener(policy).backend(&b1).start();
    for (version, name) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
    {
        let mut client = TlsOffer::versions("a.test", &[version]).connect(site.port()).unwrap();
        assert_eq!(client.session().protocol_version(), Some(name));
        let suite = client.session().negotiated_cipher_suite().unwrap().suite();
        let suite = format!("{suite:?}");
        assert!(suite.starts_with("TLS13_") || suite.contains("ECDHE"), "{suite}");
        client.get("a.test", "/").expect(200);
    }
}

#[test]
fn a_listener_may_ask_for_tls_1_3() {
    let b1 = Backend::named("B1");
    let site = Site::https().listener("tls = \"1.3\"").backend(&b1).start();
    let error = TlsOffer::versions("a.test", &[&TLS12]).refusal(site.port());
    assert!(error.to_lowercase().contains("version"), "{error}");
    site.get("/").expect(200);
}

#[test]
fn tl_10_a_client_certificate_must_chain_to_the_ca() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let lines = "group = \"web\"\nclient_ca = \"certs/players.pem\"";
    let text = https_listener("a.test", &port, lines) + &group("web", &b1);
    let _lockgate = Setup::empty()
        .any_file("certs/players.pem", authority().pem())
        .file("game.toml", &text)
        .start();
    let none = TlsOffer::to("a.test");
    let foreign = none.clone().certified(&foreign_authority().client("player"));
    for offer in [none, foreign] {
        offer.refusal(port.number());
        // A client that does not wait for the verdict gets no further either.
        if let Ok(mut client) = offer.connect(port.number()) {
            let _ = client.try_send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            client.assert_closed();
        }
    }
    b1.assert_untouched();
    let valid = TlsOffer::to("a.test").certified(&authority().client("player"));
    valid.connect(port.number()).unwrap().get("a.test", "/").expect(200);
}

#[test]
fn tl_12_http2_off_leaves_http_1_1() {
    let b1 = Backend::named("B1");
    let site = Site::https().listener("http2 = false").backend(&b1).start();
    let offer = TlsOffer::to("a.test").alpn(&["h2", "http/1.1"]);
    let mut client = offer.connect(site.port()).unwrap();
    assert_eq!(client.session().alpn_protocol(), Some(b"http/1.1".as_slice()));
    client.get("a.test", "/").expect(200);
    let mut client = TlsOffer::to("a.test").alpn(&[]).connect(site.port()).unwrap();
    assert_eq!(client.session().alpn_protocol(), None);
    client.get("a.test", "/").expect(200);
}

#[test]
fn tl_15_the_backend_sees_plain_http() {
    let b1 = Backend::named("B1");
    let site = Site::https().backend(&b1).start();
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    site.post("/upload", &body).expect(200);
    let request = b1.request();
    assert_eq!(request.request_line(), "POST /upload HTTP/1.1");
    assert_eq!(request.value("x-forwarded-proto"), "https");
    assert_eq!(request.body, body);
}

#[test]
fn sessions_are_resumed_by_every_worker() {
    let b1 = Backend::named("B1");
    let site = Site::https().backend(&b1).workers(2).start();
    for version in [&TLS12, &TLS13] {
        let offer = TlsOffer::versions("a.test", &[version]).resuming();
        for round in 0..24 {
            // The answer makes sure that the tickets have arrived.
            let mut client = offer.connect(site.port()).unwrap();
            client.get("a.test", "/").expect(200);
            let kind = client.session().handshake_kind();
            let expected = if round == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
            assert_eq!(kind, Some(expected), "{version:?}, connection {round}");
        }
    }
}

#[test]
fn a_handshake_has_a_deadline() {
    let b1 = Backend::named("B1");
    let site =
        Site::https().process("[limits]\nhandshake_timeout = \"300ms\"").backend(&b1).start();
    for bytes in [&b""[..], &client_hello_1_1()[..20]] {
        let begin = Instant::now();
        let mut client = Client::plain(site.port());
        client.send(bytes);
        client.read_to_end();
        assert!(begin.elapsed() >= Duration::from_millis(300), "closed early");
    }
    // Only the handshake is held to it.
    let mut client = site.connect();
    client.get("a.test", "/slow/500").expect(200);
    client.assert_open("a.test");
}

#[test]
fn a_garbage_handshake_does_not_disturb_others() {
    let b1 = Backend::named("B1");
    let site = Site::https().backend(&b1).start();
    let mut steady = site.connect();
    steady.get("a.test", "/").expect(200);
    for garbage in [&[0x16, 0x03, 0x01, 0xff, 0xff, 0, 0, 0][..], &[0; 64], &[0x80, 0x2e, 1, 3, 1]]
    {
        let mut client = Client::plain(site.port());
        client.send(garbage);
        client.half_close();
        client.read_to_end();
        steady.get("a.test", "/").expect(200);
        site.get("/").expect(200);
    }
    Client::plain(site.port()).reset();
    site.get("/").expect(200);
}

#[test]
fn a_tls_connection_ends_with_close_notify() {
    let b1 = Backend::named("B1");
    let site = Site::https().backend(&b1).start();
    let mut client = site.connect();
    client.request("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").expect(200);
    client.assert_ends_cleanly();
}

#[test]
fn curl_verifies_the_chain_and_the_name() {
    let b1 = Backend::named("B1");
    let site = Site::https().backend(&b1).start();
    let ca = site.lockgate.path().join("ca.pem");
    std::fs::write(&ca, authority().pem()).unwrap();
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
        .arg(&ca)
        .arg("--resolve")
        .arg(format!("a.test:{}:127.0.0.1", site.port()))
        .arg(format!("https://a.test:{}/page", site.port()));
    let page = crate::support::Finished::of(curl).expect(0);
    assert!(page.stdout.starts_with("B1\nGET /page HTTP/1.1\r\n"), "{}", page.stdout);
}
