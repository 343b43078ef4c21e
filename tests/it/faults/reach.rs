//! Backends that cannot be connected to: nobody has seen the request, so it goes
//! on whatever its method.

use crate::support::{
    Backend, H2, NameServer, Port, Silent, Site, SiteBuilder, TlsBackend, TlsServer, authority,
};

/// GET and POST over HTTP/1.1 and HTTP/2: the statuses, and whether B2 answered.
fn ask_all(site: &Site) -> Vec<(u16, bool)> {
    let mut got = Vec::new();
    let mut h1 = site.connect();
    for response in [h1.get("a.test", "/"), h1.post("a.test", "/", b"once")] {
        got.push((response.status, response.text().starts_with("B2\n")));
    }
    let mut h2 = H2::to(site);
    for response in [h2.get("/"), h2.post("/", b"once")] {
        got.push((response.status, response.text().starts_with("B2\n")));
    }
    got
}

/// Alone it is 502; beside a backup that one serves, each of them once.
#[track_caller]
fn assert_moves_on(
    before: impl Fn() -> SiteBuilder,
    address: &str,
    backup: &str,
    executed: impl Fn() -> usize,
    cause: &str,
) {
    let parts = [format!("cause={cause} "), "phase=connect ".to_owned(), "request_id=".to_owned()];
    let lines = |log: &str, what: &str| {
        let lines = log.lines().filter(|line| line.contains(what));
        lines.filter(|line| parts.iter().all(|part| line.contains(part))).count()
    };
    let mut alone = before().address(address).start();
    assert_eq!(ask_all(&alone), [(502, false); 4], "{cause}");
    let log = alone.lockgate.log_to_the_end();
    assert_eq!((lines(&log, "request failed"), lines(&log, "attempt failed")), (4, 0), "{log}");
    let mut beside = before()
        .address_with(address, "max_fails = 0")
        .address_with(backup, "backup = true")
        .start();
    assert_eq!(ask_all(&beside), [(200, true); 4], "{cause}");
    assert_eq!(executed(), 4, "{cause}");
    let log = beside.lockgate.log_to_the_end();
    assert_eq!((lines(&log, "request failed"), lines(&log, "attempt failed")), (0, 4), "{log}");
    // It counts.
    let mut counting = before()
        .address_with(address, "fail_timeout = \"1h\"")
        .address_with(backup, "backup = true")
        .start();
    assert_eq!(ask_all(&counting), [(200, true); 4], "{cause}");
    let log = counting.lockgate.log_to_the_end();
    assert_eq!((log.matches("backend ejected").count(), lines(&log, "attempt failed")), (1, 1));
}

#[test]
fn a_refused_connection_moves_on() {
    let (port, b2) = (Port::reserve(), Backend::named("B2"));
    let executed = || b2.executions();
    assert_moves_on(
        Site::https,
        &port.refusing_address(),
        &b2.address(),
        executed,
        "connect_refused",
    );
}

#[test]
fn a_connection_that_nobody_accepts_moves_on() {
    let (silent, b2) = (Silent::new(), Backend::named("B2"));
    let before = || Site::https().group("connect_timeout = \"200ms\"");
    let executed = || b2.executions();
    assert_moves_on(before, &silent.address(), &b2.address(), executed, "connect_timeout");
}

#[test]
fn a_name_without_an_address_moves_on() {
    let (dns, b2) = (NameServer::start(), Backend::named("B2"));
    let before = || Site::https().process(&dns.table());
    let executed = || b2.executions();
    assert_moves_on(before, "nobody.internal:80", &b2.address(), executed, "dns");
}

#[test]
fn a_failed_handshake_moves_on() {
    let tls = "protocol = \"https\"\ntls = { ca = \"ca.pem\", server_name = \"b.test\" }";
    let before = || Site::https().any_file("ca.pem", authority().pem()).group(tls);
    let server = || TlsServer::with(&authority().server(&["b.test"]));
    let plain = Backend::raw("B1", |stream| {
        use std::io::{Read as _, Write as _};
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    let b2 = TlsBackend::named("B2", server());
    let executed = || b2.executions();
    assert_moves_on(before, &plain.address(), &b2.address(), executed, "tls_handshake");
    let silent = Backend::raw("B1", |stream| {
        let _ = std::io::Read::read_to_end(stream, &mut Vec::new());
    });
    let b2 = TlsBackend::named("B2", server());
    let executed = || b2.executions();
    let before = || before().group("connect_timeout = \"500ms\"");
    assert_moves_on(before, &silent.address(), &b2.address(), executed, "tls_handshake");
}
