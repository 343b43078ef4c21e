//! Active health (SEMANTICS AH, DESIGN 4.6), and what it means to clients that
//! are bound (CI-12). When probes are sent is tested where they are, on a clock
//! of its own (AH-08, AH-09, AH-10).

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use crate::support::{
    Answer, Backend, H2Backend, NameServer, Port, SWITCHING, Site, SiteBuilder, TlsBackend,
    TlsServer, authority, eventually, foreign_authority, group, http_listener, response,
};

/// `[group.web.probe]` with these lines: ten probes a second, and one decides.
fn quick(lines: &str) -> String {
    format!(
        "[group.web.probe]\ninterval = \"100ms\"\nhealthy_threshold = 1\n\
         unhealthy_threshold = 1\n{lines}\n"
    )
}

/// A backend whose `/health` has a status that the test changes; everything else
/// is echoed.
fn ill(name: &str) -> (Backend, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let told = Arc::clone(&status);
    let backend = Backend::scripted(name, move |exchange| {
        if exchange.request().target() != "/health" {
            return exchange.echo();
        }
        let status = told.load(Ordering::SeqCst);
        exchange.send(format!("HTTP/1.1 {status} Health\r\nContent-Length: 0\r\n\r\n"));
    });
    (backend, status)
}

fn probes(backend: &Backend, path: &str) -> usize {
    backend.requests().iter().filter(|request| request.target() == path).count()
}

/// Waits for so many more probes that began after this call.
#[track_caller]
fn more_probes(backend: &Backend, path: &str, count: usize) {
    let before = probes(backend, path);
    eventually("more probes come", || probes(backend, path) > before + count);
}

fn goes_down(site: &Site, name: &str, parts: &[&str]) {
    let mut all = vec!["WARN backend down", name];
    all.extend(parts);
    site.lockgate.wait_for_log(&all);
}

#[test]
fn ah_01_the_probe_is_head_with_a_host() {
    let b1 = Backend::named("B1");
    let site = Site::http().backend(&b1).more("[group.web.probe]\n").start();
    eventually("a probe comes", || b1.executions() == 1);
    let probe = b1.request();
    assert_eq!(probe.request_line(), "HEAD / HTTP/1.1");
    assert_eq!(
        probe.fields(),
        [
            ("Host", &*b1.address()),
            ("User-Agent", "lockgate"),
            ("Accept", "*/*"),
            ("Connection", "close"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    drop(site);
}

#[test]
fn ah_03_method_path_and_host_are_as_written() {
    let b1 = Backend::named("B1");
    let site = Site::http()
        .backend(&b1)
        .more(&quick("method = \"GET\"\npath = \"/health?deep=%31\"\nhost = \"hc.test:81\""))
        .start();
    eventually("a probe comes", || b1.executions() > 0);
    let probe = &b1.requests()[0];
    assert_eq!(probe.request_line(), "GET /health?deep=%31 HTTP/1.1");
    assert_eq!(probe.value("host"), "hc.test:81");
    // Each has a connection of its own.
    eventually("more probes come", || b1.executions() > 2);
    assert!(b1.connections() >= b1.executions());
    drop(site);
}

#[test]
fn ah_05_another_port_is_probed() {
    let (b1, health) = (Backend::named("B1"), Backend::named("health"));
    let port = health.address().rsplit(':').next().unwrap().to_owned();
    let site = Site::http().backend(&b1).more(&quick(&format!("port = {port}"))).start();
    eventually("the other port is probed", || health.executions() > 0);
    assert_eq!(health.requests()[0].value("host"), health.address());
    assert_eq!(site.get("/").expect(200).backend(), "B1");
    assert_eq!(b1.executions(), 1);
    drop(health);
    goes_down(&site, &b1.address(), &["cause=connect_refused"]);
    site.get("/").expect(502);
}

#[test]
fn ah_06_what_is_expected_is_good() {
    let (b1, status) = ill("B1");
    status.store(302, Ordering::SeqCst);
    let lines = "[group.web.probe]\ninterval = \"100ms\"\npath = \"/health\"\n";
    let site = Site::http().backend(&b1).backend(&Backend::named("B2")).more(lines).start();
    more_probes(&b1, "/health", 4);
    let probe = || probe_of(&site, 0);
    assert_eq!(
        (probe()["up"].as_bool(), probe()["last"]["status"].as_u64()),
        (Some(true), Some(302))
    );
    status.store(404, Ordering::SeqCst);
    goes_down(&site, &b1.address(), &["cause=http_404", "answered 404", "lasted="]);
    // The third in a row decided.
    let probe = probe();
    assert_eq!(probe["up"].as_bool(), Some(false));
    assert!(probe["bad_in_a_row"].as_u64().unwrap() >= 3, "{probe}");
    assert_eq!(probe["last"]["cause"].as_str(), Some("http_404"));
}

/// `probe` of the backend at this place in `/status.json`.
fn probe_of(site: &Site, place: usize) -> serde_json::Value {
    let host = site.lockgate.admin_host();
    let text = site.lockgate.admin().get(&host, "/status.json").expect(200).text();
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    status["games"][0]["groups"][0]["backends"][place]["probe"].clone()
}

#[test]
fn codes_and_classes_can_be_named() {
    let (b1, status) = ill("B1");
    status.store(401, Ordering::SeqCst);
    let expect = "path = \"/health\"\nexpect = [\"2xx\", 401]";
    let site = Site::http().backend(&b1).more(&quick(expect)).start();
    eventually("401 is good", || probe_of(&site, 0)["up"] == true);
    status.store(302, Ordering::SeqCst);
    goes_down(&site, &b1.address(), &["answered 302"]);
}

/// Killed, back again; each turn has one line in the log, with how long the
/// state before it lasted.
#[test]
fn ah_08_ah_10_down_and_up_again() {
    let port = Port::reserve();
    let b1 = Backend::at("B1", "127.0.0.1", port.number());
    let b2 = Backend::named("B2");
    let mut site = Site::http().backend(&b1).backend(&b2).more(&quick("")).start();
    eventually("both are up", || (0..2).all(|place| probe_of(&site, place)["up"] == true));
    let address = b1.address();
    drop(b1);
    goes_down(&site, &address, &["cause=connect_refused", "game=\"game\"", "group=\"web\""]);
    let b1 = Backend::at("B1", "127.0.0.1", port.number());
    site.lockgate.wait_for_log(&["INFO backend up", &address, "lasted="]);
    let served = (0..4).filter(|_| site.get("/").expect(200).backend() == "B1").count();
    assert_eq!(served, 2);
    more_probes(&b1, "/", 3);
    let log = site.lockgate.log_to_the_end();
    assert_eq!(log.matches("backend down").count(), 1, "{log}");
    assert_eq!(log.matches("backend up").count(), 1, "{log}");
}

#[test]
fn ah_09_a_backend_that_hangs_is_down() {
    let (b1, b2) = (Backend::hanging("B1"), Backend::named("B2"));
    let more = quick("timeout = \"50ms\"\npath = \"/health\"");
    let site = Site::http().backend(&b1).backend(&b2).more(&more).start();
    goes_down(&site, &b1.address(), &["cause=header_timeout"]);
    assert_eq!(site.get("/").expect(200).backend(), "B2");
    assert_eq!(site.get("/").expect(200).backend(), "B2");
}

#[test]
fn ah_11_only_probes_in_a_row_count() {
    let count = Arc::new(AtomicUsize::new(0));
    let turn = Arc::clone(&count);
    let b1 = Backend::scripted("B1", move |exchange| {
        // Two bad ones after each good one.
        let status = if turn.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) { 200 } else { 503 };
        exchange.send(format!("HTTP/1.1 {status} Turn\r\nContent-Length: 0\r\n\r\n"));
    });
    let lines = "[group.web.probe]\ninterval = \"100ms\"\n";
    let mut site = Site::http().backend(&b1).more(lines).start();
    eventually("ten probes come", || count.load(Ordering::SeqCst) > 10);
    let log = site.lockgate.log_to_the_end();
    assert!(!log.contains("backend down"), "{log}");
}

#[test]
fn ah_13_nothing_new_goes_there_and_what_is_there_is_finished() {
    let (b1, status) = ill("B1");
    let b2 = Backend::named("B2");
    let site = both(&b1, &b2).more(&quick("path = \"/health\"")).start();
    let mut client = site.connect();
    client.send("POST /whole HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nha");
    eventually("the request is there", || probes(&b1, "/whole") == 1);
    status.store(500, Ordering::SeqCst);
    goes_down(&site, &b1.address(), &["cause=http_500"]);
    let before = b1.requests().iter().filter(|r| r.target() != "/health").count();
    for _ in 0..100 {
        assert_eq!(site.get("/").expect(200).backend(), "B2");
    }
    let after = b1.requests().iter().filter(|r| r.target() != "/health").count();
    assert_eq!(after, before);
    client.send("lf");
    assert_eq!(client.read().expect(200).backend(), "B1");
}

/// B1 first, B2 while B1 cannot.
fn both(b1: &Backend, b2: &Backend) -> SiteBuilder {
    Site::http().backend(b1).backend_with(b2, "backup = true")
}

#[test]
fn a_websocket_outlives_the_verdict() {
    let down = Arc::new(AtomicU16::new(200));
    let status = Arc::clone(&down);
    let b1 = Backend::scripted("B1", move |exchange| {
        if exchange.request().method() == "HEAD" {
            let status = status.load(Ordering::SeqCst);
            return exchange.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
        }
        exchange.send(SWITCHING);
        let bytes = exchange.read_raw(4);
        exchange.send(bytes);
    });
    let site = Site::http().backend(&b1).more(&quick("")).start();
    let mut client = site.connect();
    client.switch();
    down.store(503, Ordering::SeqCst);
    goes_down(&site, &b1.address(), &["cause=http_503"]);
    client.send("ping");
    client.awaits("ping");
}

#[test]
fn ah_14_with_all_down_it_is_502() {
    let (b1, b2) = (Port::reserve(), Port::reserve());
    let site = Site::http()
        .address(&b1.refusing_address())
        .address(&b2.refusing_address())
        .more(&quick(""))
        .start();
    goes_down(&site, &b1.refusing_address(), &["cause=connect_refused"]);
    goes_down(&site, &b2.refusing_address(), &["cause=connect_refused"]);
    site.get("/").expect(502);
    site.lockgate.wait_for_log(&["status=502", "cause=no_available_backend"]);
    // The only one of its group, too.
    let site = Site::http().address(&b1.refusing_address()).more(&quick("")).start();
    goes_down(&site, &b1.refusing_address(), &[]);
    site.get("/").expect(502);
    site.lockgate.wait_for_log(&["status=502", "cause=no_available_backend"]);
}

#[test]
fn with_all_down_one_may_be_tried_all_the_same() {
    let (b1, status) = ill("B1");
    status.store(500, Ordering::SeqCst);
    let site = Site::http()
        .backend(&b1)
        .group("all_down = \"try\"")
        .more(&quick("path = \"/health\""))
        .start();
    goes_down(&site, &b1.address(), &[]);
    assert_eq!(site.get("/").expect(200).backend(), "B1");
}

#[test]
fn ah_15_the_backup_serves_while_the_others_are_down() {
    let ((b1, status), b2) = (ill("B1"), Backend::named("B2"));
    let site = both(&b1, &b2).more(&quick("path = \"/health\"")).start();
    assert_eq!(site.get("/").expect(200).backend(), "B1");
    status.store(503, Ordering::SeqCst);
    goes_down(&site, &b1.address(), &["cause=http_503"]);
    assert_eq!(site.get("/").expect(200).backend(), "B2");
    status.store(200, Ordering::SeqCst);
    site.lockgate.wait_for_log(&["backend up", &b1.address()]);
    assert_eq!(site.get("/").expect(200).backend(), "B1");
}

#[test]
fn ah_16_tcp_wants_a_connection_that_stays() {
    let port = Port::reserve();
    let closing = Backend::raw("closing", |_| {});
    let greeting = Backend::raw("greeting", |stream| {
        use std::io::{Read, Write};
        stream.write_all(b"220 ready\r\n").unwrap();
        let _ = stream.read(&mut [0; 1]);
    });
    let staying = Backend::raw("staying", |stream| {
        let _ = std::io::Read::read(stream, &mut [0; 1]);
    });
    let site = Site::http()
        .address(&port.refusing_address())
        .backend(&closing)
        .backend(&greeting)
        .backend(&staying)
        // One good probe, should it come too late to be seen closed, is not
        // enough.
        .more("[group.web.probe]\ntype = \"tcp\"\ninterval = \"100ms\"\nhealthy_threshold = 100\nunhealthy_threshold = 1\n")
        .start();
    goes_down(&site, &port.refusing_address(), &["cause=connect_refused"]);
    goes_down(&site, &closing.address(), &["cause=closed_before_header", "at once"]);
    for place in [2, 3] {
        eventually("it is good", || probe_of(&site, place)["last"]["good"] == true);
        assert_eq!(probe_of(&site, place)["bad_in_a_row"], 0);
    }
}

#[test]
fn ah_20_each_group_has_its_own_opinion() {
    let (b1, status) = ill("B1");
    status.store(500, Ordering::SeqCst);
    let port = Port::reserve();
    let text = http_listener("a.test", &port, "group = \"web\"")
        + &http_listener("o.test", &port, "group = \"other\"")
        + &group("other", &b1)
        + "[group.other.probe]\ntype = \"tcp\"\ninterval = \"100ms\"\nhealthy_threshold = 1\n"
        + &group("web", &b1)
        + &quick("path = \"/health\"");
    let lockgate = crate::support::Lockgate::with("game.toml", &text).start();
    lockgate.wait_for_log(&["backend down", "group=\"web\""]);
    crate::support::Client::plain(port.number()).get("a.test", "/").expect(502);
    crate::support::Client::plain(port.number()).get("o.test", "/").expect(200);
    assert!(!lockgate.log().contains("group=\"other\""), "{}", lockgate.log());
}

#[test]
fn ah_21_a_start_is_no_outage() {
    let b1 = Backend::named("B1");
    // The first verdict takes more than an hour.
    let lines = "[group.web.probe]\ninterval = \"1h\"\n";
    let site = Site::http().backend(&b1).more(lines).start();
    assert!(probe_of(&site, 0)["up"].is_null());
    assert_eq!(site.get("/").expect(200).backend(), "B1");
}

#[test]
fn ci_12_a_client_whose_backend_is_down_is_bound_anew() {
    let ((b1, one), (b2, two)) = (ill("B1"), ill("B2"));
    let site = Site::http()
        .backend(&b1)
        .backend(&b2)
        .more(
            &("[group.web.sticky]\nmode = \"insert\"\n".to_owned() + &quick("path = \"/health\"")),
        )
        .start();
    let cookie_of = |response: &crate::support::Response| {
        response.value("set-cookie").split(';').next().unwrap().to_owned()
    };
    let first = site.get("/").expect(200);
    let (home, cookie) = (first.backend(), cookie_of(&first));
    let status = if home == "B1" { &one } else { &two };
    status.store(500, Ordering::SeqCst);
    let address = if home == "B1" { b1.address() } else { b2.address() };
    goes_down(&site, &address, &[]);
    let ask = |cookie: &str| {
        site.request(format!("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n"))
    };
    let moved = ask(&cookie).expect(200);
    assert_ne!(moved.backend(), home);
    let new = cookie_of(&moved);
    // Back again, nobody is moved.
    status.store(200, Ordering::SeqCst);
    site.lockgate.wait_for_log(&["backend up", &address]);
    for _ in 0..4 {
        assert_eq!(ask(&new).expect(200).backend(), moved.backend());
    }
}

#[test]
fn a_tls_group_is_probed_over_tls() {
    let leaf = authority().server(&["b.test"]);
    let good = TlsBackend::named("B1", TlsServer::with(&leaf));
    let foreign =
        TlsBackend::named("B2", TlsServer::with(&foreign_authority().server(&["b.test"])));
    for (kind, cause) in [("http", "cause=tls_handshake"), ("tls", "cause=tls_handshake")] {
        let site = Site::http()
            .any_file("ca.pem", authority().pem())
            .group("protocol = \"https\"\ntls = { ca = \"ca.pem\", server_name = \"b.test\" }")
            .address(&good.address())
            .address(&foreign.address())
            .more(&quick(&format!("type = \"{kind}\"")))
            .start();
        goes_down(&site, &foreign.address(), &[cause]);
        eventually("the other is up", || probe_of(&site, 0)["up"] == true);
        assert_eq!(site.get("/").expect(200).backend(), "B1");
    }
    assert!(good.requests().iter().any(|request| request.method() == "HEAD"));
    // A certificate that goes bad must show: no session is resumed.
    assert!(good.handshakes().len() >= 2);
}

#[test]
fn an_h2c_group_is_probed_over_http_2() {
    let bad = Arc::new(AtomicU16::new(200));
    let status = Arc::clone(&bad);
    let b1 = H2Backend::scripted("B1", move |mut call| {
        let status = status.load(Ordering::SeqCst);
        async move {
            let _ = call.respond.send_response(response(status, &[]), true);
        }
    });
    let site = Site::http()
        .address(&b1.address())
        .group("protocol = \"h2c\"")
        .more(&quick("path = \"/health\""))
        .start();
    eventually("it is up", || probe_of(&site, 0)["up"] == true);
    assert!(b1.requests().iter().any(|seen| seen.path == "/health"));
    bad.store(503, Ordering::SeqCst);
    goes_down(&site, &b1.address(), &["cause=http_503"]);
    let plain = Backend::named("B2");
    let site = Site::http()
        .backend(&plain)
        .group("protocol = \"h2c\"")
        .more(&quick("path = \"/health\"\ntimeout = \"1s\""))
        .start();
    goes_down(&site, &plain.address(), &[]);
}

#[test]
fn a_name_without_an_address_is_down() {
    let dns = NameServer::start();
    dns.says("web.internal", &Answer::NoSuchName);
    let site =
        Site::http().process(&dns.table()).address("web.internal:80").more(&quick("")).start();
    goes_down(&site, "web.internal:80", &["cause=dns"]);
}

#[test]
fn answers_that_are_none_are_told_apart() {
    for (answer, cause) in [
        ("", "closed_before_header"),
        ("HTTP/1.1 200", "closed_before_header"),
        ("SSH-2.0-OpenSSH\r\n", "invalid_header"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\n\r\n", "http_503"),
    ] {
        let b1 = Backend::scripted("B1", move |exchange| {
            exchange.send(answer);
            exchange.close();
        });
        let site = Site::http().backend(&b1).more(&quick("")).start();
        goes_down(&site, &b1.address(), &[&format!("cause={cause}")]);
    }
    // What comes before the final answer is none; nor does a body that never
    // ends keep a verdict from being.
    let b1 = Backend::scripted("B1", |exchange| {
        exchange
            .send("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nha");
        exchange.wait_until_left();
    });
    let site = Site::http().backend(&b1).more(&quick("method = \"GET\"")).start();
    eventually("it is up", || probe_of(&site, 0)["up"] == true);
}

/// What requests met before a backend was repaired is not held against it.
#[test]
fn a_backend_that_goes_up_is_no_longer_ejected() {
    let port = Port::reserve();
    let b2 = Backend::named("B2");
    let site = Site::http()
        .address_with(&port.refusing_address(), "fail_timeout = \"1h\"")
        .backend(&b2)
        .more("[group.web.probe]\ninterval = \"100ms\"\nunhealthy_threshold = 3\nhealthy_threshold = 1\n")
        .start();
    // Requests are faster than three probes.
    for _ in 0..4 {
        assert_eq!(site.get("/").expect(200).backend(), "B2");
    }
    site.lockgate.wait_for_log(&["backend ejected"]);
    goes_down(&site, &port.refusing_address(), &[]);
    let b1 = Backend::at("B1", "127.0.0.1", port.number());
    site.lockgate.wait_for_log(&["backend up"]);
    let served = (0..4).filter(|_| site.get("/").expect(200).backend() == "B1").count();
    assert_eq!(served, 2);
    drop(b1);
}

/// A restart that is over before probes saw it down is no worse than a longer one.
#[test]
fn good_probes_end_the_ejection_of_a_backend_that_could_not_be_reached() {
    let ports = [Port::reserve(), Port::reserve()];
    let lines = "[group.web.probe]\ninterval = \"100ms\"\nhealthy_threshold = 2\nunhealthy_threshold = 100\n";
    let site = (ports.iter())
        .fold(Site::http(), |site, port| {
            site.address_with(&port.refusing_address(), "fail_timeout = \"1h\"")
        })
        .more(lines)
        .start();
    site.get("/").expect(502);
    for port in &ports {
        site.lockgate.wait_for_log(&["backend ejected", &port.refusing_address()]);
    }
    let backends = ["B1", "B2"].map(|name| {
        let port = &ports[usize::from(name == "B2")];
        Backend::at(name, "127.0.0.1", port.number())
    });
    eventually("they serve again", || site.get("/").status == 200);
    drop(backends);
}

/// Of one whose requests fail probes say nothing.
#[test]
fn good_probes_do_not_end_any_other_ejection() {
    let b1 = Backend::scripted("B1", |exchange| match exchange.request().method().as_str() {
        "HEAD" => exchange.send("HTTP/1.1 200 Well\r\nContent-Length: 0\r\n\r\n"),
        _ => exchange.close(),
    });
    let b2 = Backend::named("B2");
    let mut site = Site::http()
        .backend_with(&b1, "fail_timeout = \"1h\"")
        .backend(&b2)
        .more(&quick(""))
        .start();
    for _ in 0..4 {
        assert_eq!(site.get("/").expect(200).backend(), "B2");
    }
    more_probes(&b1, "/", 4);
    for _ in 0..4 {
        assert_eq!(site.get("/").expect(200).backend(), "B2");
    }
    let log = site.lockgate.log_to_the_end();
    assert_eq!(log.matches("attempt failed").count(), 1, "{log}");
}

/// The failed requests of a hundred backends at the same time need descriptors
/// that clients must not take.
#[test]
fn descriptors_are_set_aside_for_probes() {
    let ports: Vec<Port> = (0..100).map(|_| Port::reserve()).collect();
    let places = |probe: &str| {
        let mut builder = Site::http().descriptors(400);
        for port in &ports {
            builder = builder.address(&port.refusing_address());
        }
        let site = builder.more(probe).start();
        let line = site.lockgate.wait_for_log(&["INFO ready", "max_connections="]);
        line.rsplit('=').next().unwrap().trim().parse::<usize>().unwrap()
    };
    assert_eq!(places("") - places("[group.web.probe]\n"), 50);
}
