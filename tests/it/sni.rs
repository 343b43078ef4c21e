//! When the name in the TLS handshake and the Host of a request disagree
//! (DESIGN 4.1): a request is served if its Host resolves to the listener of
//! the SNI, or to one with the same certificate where neither asks for client
//! certificates; else it is 421 and no backend hears of it.

use rustls::version::{TLS12, TLS13};

use crate::support::{
    Backend, Client, Lockgate, Port, Setup, Site, TlsOffer, authority, group, https_listener,
};

const SHARED: &str = "certificate = \"shared\"";
const CLIENT_CA: &str = "client_ca = \"certs/players.pem\"";

/// `a.test` before B1 and `b.test` before B2 on one port, with more lines.
fn two_games(port: &Port, b1: &Backend, b2: &Backend, of_a: &str, of_b: &str) -> Lockgate {
    let a = https_listener("a.test", port, &format!("group = \"web\"\n{of_a}"));
    let b = https_listener("b.test", port, &format!("group = \"web\"\n{of_b}"));
    Setup::empty()
        .certificate("shared", &["a.test", "b.test"])
        .any_file("certs/players.pem", authority().pem())
        .file("a.toml", &(a + &group("web", b1)))
        .file("b.toml", &(b + &group("web", b2)))
        .start()
}

#[test]
fn a_host_of_another_certificate_is_421() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let lockgate = two_games(&port, &b1, &b2, "", "");
    let mut client = Client::tls(port.number(), "a.test");
    client.get("b.test", "/").expect(421);
    lockgate.wait_for_log(&["cause=misdirected", "request_id="]);
    b2.assert_untouched();
    Client::tls(port.number(), "a.test").get("a.test:8443", "/").expect(200);
    assert_eq!(b1.executions(), 1);
}

#[test]
fn a_host_of_the_same_certificate_is_served_by_its_own_listener() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let _lockgate = two_games(&port, &b1, &b2, SHARED, SHARED);
    let mut client = Client::tls(port.number(), "a.test");
    assert_eq!(client.get("b.test", "/").expect(200).backend(), "B2");
    assert_eq!(client.get("a.test", "/").expect(200).backend(), "B1");
}

#[test]
fn never_into_or_out_of_a_listener_with_client_ca() {
    let with_ca = format!("{SHARED}\n{CLIENT_CA}");
    let valid = authority().client("player");
    for (of_a, of_b) in [(SHARED, with_ca.as_str()), (with_ca.as_str(), SHARED)] {
        let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
        let port = Port::reserve();
        let _lockgate = two_games(&port, &b1, &b2, of_a, of_b);
        let offer = TlsOffer::to("a.test").certified(&valid);
        offer.connect(port.number()).unwrap().get("b.test", "/").expect(421);
        b2.assert_untouched();
        offer.connect(port.number()).unwrap().get("a.test", "/").expect(200);
    }
}

#[test]
fn without_sni_the_host_routes_but_never_into_client_ca() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    // a.test is alphabetically first: its certificate is shown.
    let _lockgate = two_games(&port, &b1, &b2, "", CLIENT_CA);
    let offer = TlsOffer::to("a.test").without_sni();
    let mut client = offer.connect(port.number()).unwrap();
    assert_eq!(client.get("a.test", "/").expect(200).backend(), "B1");
    client.get("b.test", "/").expect(421);
    b2.assert_untouched();
}

#[test]
fn without_sni_a_host_of_any_certificate_is_served() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let _lockgate = two_games(&port, &b1, &b2, "", "");
    let mut client = TlsOffer::to("a.test").without_sni().connect(port.number()).unwrap();
    assert_eq!(client.get("b.test", "/").expect(200).backend(), "B2");
    client.get("unknown.test", "/").expect(421);
}

#[test]
fn a_host_nobody_owns_is_421_on_tls_too() {
    let b1 = Backend::named("B1");
    let site = Site::https().backend(&b1).start();
    site.connect().get("unknown.test", "/").expect(421);
    b1.assert_untouched();
}

#[test]
fn without_host_http_1_0_gets_the_listener_of_the_sni() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let _lockgate = two_games(&port, &b1, &b2, "", "");
    let mut client = Client::tls(port.number(), "b.test");
    assert_eq!(client.request("GET / HTTP/1.0\r\n\r\n").expect(200).backend(), "B2");
}

#[test]
fn the_default_has_its_own_certificate_and_is_no_way_in() {
    let (b0, b1) = (Backend::named("B0"), Backend::named("B1"));
    let port = Port::reserve();
    let a = https_listener("a.test", &port, "group = \"web\"") + &group("web", &b1);
    let rest = format!(
        "[[listener]]\ndefault = true\nport = {port}\ncertificate = \"d\"\ngroup = \"web\"\n{}",
        group("web", &b0)
    );
    let _lockgate = Setup::empty()
        .certificate("d", &["other.test"])
        .file("a.toml", &a)
        .file("rest.toml", &rest)
        .start();
    let mut client = Client::tls(port.number(), "other.test");
    assert_eq!(client.get("anything.test", "/").expect(200).backend(), "B0");
    client.get("a.test", "/").expect(421);
    b1.assert_untouched();
    Client::tls(port.number(), "a.test").get("anything.test", "/").expect(421);
    assert_eq!(b0.executions(), 1);
}

#[test]
fn a_session_of_one_listener_does_not_open_another() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let _lockgate = two_games(&port, &b1, &b2, SHARED, &format!("{SHARED}\n{CLIENT_CA}"));
    for version in [&TLS12, &TLS13] {
        let offer = TlsOffer::versions("a.test", &[version]).resuming_anywhere();
        for _ in 0..2 {
            offer.connect(port.number()).unwrap().get("a.test", "/").expect(200);
        }
        // A full handshake, which asks for the certificate we do not have.
        offer.but_to("b.test").refusal(port.number());
    }
    b2.assert_untouched();
}
