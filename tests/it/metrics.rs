//! `/metrics`: exact numbers of real traffic, and what a scraper may rely on.

mod page;
mod shipped;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use page::Page;
pub(crate) use shipped::{expressions, shipped};

use crate::support::{
    Backend, Client, Lockgate, Port, Setup, Site, UPGRADE, eventually, http_listener,
};

/// `/close` gets no answer, everything else five bytes.
fn backend(name: &str, closes: bool) -> Backend {
    Backend::scripted(name, move |exchange| {
        exchange.read_body();
        if closes && exchange.request().target() == "/close" {
            exchange.close();
        } else {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    })
}

/// `a.test` before these backends, each request on a connection of its own.
fn game(port: &Port, backends: &str) -> String {
    http_listener("a.test", port, "group = \"web\"")
        + "[[listener.rule]]\npath = \"/own\"\nrespond = { status = 404, body = \"no\" }\n"
        + &format!("[group.web]\nkeepalive = false\nbackends = [{backends}]\n")
}

fn two(b1: &Backend, b2: &Backend) -> String {
    let (b1, b2) = (b1.address(), b2.address());
    format!("{{ address = \"{b1}\", max_fails = 0 }}, {{ address = \"{b2}\", backup = true }}")
}

/// Waits for a number: it is counted once all is sent.
#[track_caller]
fn awaited(lockgate: &Lockgate, series: &str, number: f64) -> Page {
    let mut page = Page::of(lockgate);
    eventually(&format!("{series} is {number}, not {:?}", page.get(series)), || {
        page = Page::of(lockgate);
        page.get(series) == Some(number)
    });
    page
}

/// Successes, an upload, a retry, a failure, a request to nobody. Gives the bytes
/// of the failure's body.
fn traffic(port: &Port) -> f64 {
    let ask = || Client::plain(port.number());
    for _ in 0..3 {
        ask().get("a.test", "/").expect(200);
    }
    ask().post("a.test", "/", &[b'x'; 1000]).expect(200);
    ask().get("a.test", "/close").expect(200);
    let failed = ask().post("a.test", "/close", b"0123456789").expect(502);
    ask().get("a.test", "/own").expect(404);
    ask().get("b.test", "/").expect(421);
    failed.body.len() as f64
}

const WEB: &str = "game=\"game\",group=\"web\"";

#[track_caller]
fn check(page: &Page, expected: &[(String, f64)]) {
    for (series, number) in expected {
        assert_eq!(page.get(series), Some(*number), "{series}");
    }
}

#[test]
fn traffic_is_counted_to_the_last_byte_and_a_reload_keeps_it() {
    let (b1, b2, port) = (backend("B1", true), backend("B2", false), Port::reserve());
    let lockgate = Setup::empty().file("game.toml", &game(&port, &two(&b1, &b2))).start();
    let failed = traffic(&port);
    let no_game = "lockgate_requests_total{game=\"\",group=\"\",class=\"4xx\"}";
    awaited(&lockgate, no_game, 1.0);
    let page = awaited(&lockgate, &format!("lockgate_requests_total{{{WEB},class=\"5xx\"}}"), 1.0);
    let of = |name: &str, labels: &str, number: f64| (format!("{name}{{{labels}}}"), number);
    let web = |name: &str, more: &str, number: f64| of(name, &format!("{WEB}{more}"), number);
    let first = format!(",backend=\"{}\"", b1.address());
    let second = format!(",backend=\"{}\"", b2.address());
    let clients = [
        web("lockgate_requests_total", ",class=\"2xx\"", 5.0),
        web("lockgate_requests_total", ",class=\"3xx\"", 0.0),
        of("lockgate_requests_total", "game=\"game\",group=\"\",class=\"4xx\"", 1.0),
        web("lockgate_request_failures_total", ",cause=\"closed_before_header\"", 1.0),
        of("lockgate_request_failures_total", "game=\"\",group=\"\",cause=\"misdirected\"", 1.0),
        web("lockgate_request_received_bytes_total", "", 1010.0),
        web("lockgate_request_sent_bytes_total", "", 25.0 + failed),
        web("lockgate_request_duration_seconds_count", "", 6.0),
        web("lockgate_upstream_connect_seconds_count", "", 7.0),
        web("lockgate_upstream_header_seconds_count", "", 5.0),
        web("lockgate_group_available_backends", "", 2.0),
    ];
    let attempts = |backend: &str, name: &str, more: &str, number: f64| {
        web(name, &format!("{backend}{more}"), number)
    };
    let firsts = [
        attempts(&first, "lockgate_attempts_total", ",class=\"2xx\"", 4.0),
        attempts(&first, "lockgate_attempts_total", ",class=\"none\"", 2.0),
        attempts(&first, "lockgate_attempt_failures_total", ",cause=\"closed_before_header\"", 2.0),
        attempts(&first, "lockgate_retries_total", "", 0.0),
        attempts(&first, "lockgate_backend_sent_bytes_total", "", 1010.0),
        attempts(&first, "lockgate_backend_connects_total", "", 6.0),
    ];
    let seconds = [
        attempts(&second, "lockgate_attempts_total", ",class=\"2xx\"", 1.0),
        attempts(&second, "lockgate_retries_total", "", 1.0),
        attempts(&second, "lockgate_backend_received_bytes_total", "", 5.0),
        attempts(&second, "lockgate_backend_up", "", 1.0),
        attempts(&second, "lockgate_backend_ejected", "", 0.0),
    ];
    check(&page, &clients);
    check(&page, &firsts);
    check(&page, &seconds);
    // What did not happen is not there.
    assert!(!page.text.contains("cause=\"dns\""), "{}", page.text);

    // One is drained: all numbers stay.
    let drained = two(&b1, &b2).replace("backup", "state = \"drain\", backup");
    lockgate.write("listeners.d/game.toml", game(&port, &drained));
    lockgate.reload();
    let page = Page::of(&lockgate);
    check(&page, &firsts);
    check(&page, &seconds);
    check(&page, &clients[..10]);
    check(&page, &[attempts(&second, "lockgate_backend_state", "", 1.0)]);
    check(&page, &[web("lockgate_group_available_backends", "", 1.0)]);
    check(&page, &[("lockgate_config_generation".to_owned(), 2.0)]);
    // What is said at run time counts before the file.
    lockgate.run(&["maint", &format!("game/web/{}", b2.address())]).expect(0);
    check(&Page::of(&lockgate), &[attempts(&second, "lockgate_backend_state", "", 2.0)]);

    // And gone: nothing of it is left, but what its group's clients met.
    lockgate.write("listeners.d/game.toml", game(&port, &format!("\"{}\"", b1.address())));
    lockgate.reload();
    let page = Page::of(&lockgate);
    check(&page, &clients[..10]);
    check(&page, &firsts);
    assert!(!page.text.contains(&b2.address()), "{}", page.text);
}

#[test]
fn what_is_now_is_told_too() {
    let b1 = Backend::scripted("B1", |exchange| match exchange.request().target().as_str() {
        "/ws" => {
            exchange.switch();
            exchange.mirror();
        }
        _ => exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    });
    let site = Site::https()
        .backend(&b1)
        .more("[group.web.sticky]\nmode = \"insert\"\n")
        .process("[limits]\nconnections = 77\n")
        .start();
    let backend = format!("{{{WEB},backend=\"{}\"}}", b1.address());
    let mut client = site.connect();
    let cookie = client.get("a.test", "/").expect(200).value("Set-Cookie");
    let (cookie, _) = cookie.split_once(';').unwrap();
    client
        .request(format!("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n"))
        .expect(200);
    let forged = "Cookie: SERVERID=forged";
    client.request(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{forged}\r\n\r\n")).expect(200);
    let mut tunnel = site.connect();
    tunnel.send(UPGRADE);
    tunnel.switch();
    let page = awaited(&site.lockgate, &format!("lockgate_tunnels{backend}"), 1.0);
    assert!(page.get(&format!("lockgate_players{backend}")).unwrap() >= 1.0, "{}", page.text);
    let verdict =
        |name: &str| page.get(&format!("lockgate_sticky_cookies_total{{verdict=\"{name}\"}}"));
    let verdicts = ["absent", "good", "shape", "forged", "expired"].map(verdict);
    assert_eq!(verdicts, [2.0, 1.0, 1.0, 0.0, 0.0].map(Some));
    check(
        &page,
        &[
            ("lockgate_connections".to_owned(), 2.0),
            ("lockgate_connections_max".to_owned(), 77.0),
            ("lockgate_workers".to_owned(), 1.0),
            ("lockgate_panics_total".to_owned(), 0.0),
            (format!("lockgate_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0),
        ],
    );
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = now.as_secs_f64();
    let until = "lockgate_certificate_expiry_timestamp_seconds{game=\"game\",domain=\"a.test\"}";
    assert!(page.get(until).unwrap() > now);
    for time in ["process_start_time_seconds", "lockgate_config_last_reload_timestamp_seconds"] {
        let at = page.get(time).unwrap();
        assert!(at > now - 3600.0 && at < now + 60.0, "{time}: {at}, now {now}");
    }
    let (open, most) = (page.get("process_open_fds"), page.get("process_max_fds"));
    assert!(open.unwrap() > 5.0 && most.unwrap() > open.unwrap(), "{open:?} {most:?}");
    assert!(page.get("process_resident_memory_bytes").unwrap() > 1e6);
    assert!(page.get("process_cpu_seconds_total").unwrap() > 0.0);
    // It stays, and takes no time.
    let began = format!("lockgate_requests_total{{{WEB},class=\"1xx\"}}");
    let page = awaited(&site.lockgate, &began, 1.0);
    check(&page, &[(format!("lockgate_request_duration_seconds_count{{{WEB}}}"), 3.0)]);
    drop(tunnel);
    let page = awaited(&site.lockgate, &format!("lockgate_tunnels{backend}"), 0.0);
    check(&page, &[(began, 1.0)]);
}

#[test]
fn a_file_in_trouble_is_told_until_it_is_good() {
    let (b1, port) = (Backend::named("B1"), Port::reserve());
    let good = game(&port, &format!("\"{}\"", b1.address()));
    let lockgate = Setup::empty().file("game.toml", &good).start();
    let success = || Page::of(&lockgate).get("lockgate_config_last_reload_success");
    let trouble = |page: &Page, file: &str| {
        page.get(&format!("lockgate_files_in_trouble{{file=\"{file}\"}}"))
    };
    assert_eq!(success(), Some(1.0));
    lockgate.write("listeners.d/other.toml", "[[listener]\n");
    // A dry run tells of nothing.
    lockgate.run(&["reload", "--dry-run"]).expect(1);
    assert_eq!(success(), Some(1.0));
    // The second reload finds it as it was.
    for _ in 0..2 {
        lockgate.run(&["reload"]).expect(1);
        let page = Page::of(&lockgate);
        assert_eq!(page.get("lockgate_config_last_reload_success"), Some(0.0));
        assert_eq!((trouble(&page, "other.toml"), trouble(&page, "game.toml")), (Some(1.0), None));
    }
    let process = std::fs::read_to_string(lockgate.path().join("lockgate.toml")).unwrap();
    lockgate.write("lockgate.toml", "workers = \"many\"\n");
    lockgate.run(&["reload"]).expect(1);
    assert_eq!(trouble(&Page::of(&lockgate), "lockgate.toml"), Some(1.0));
    lockgate.write("lockgate.toml", process);
    std::fs::remove_file(lockgate.path().join("listeners.d/other.toml")).unwrap();
    lockgate.reload();
    let page = Page::of(&lockgate);
    assert!(!page.text.contains("lockgate_files_in_trouble{"), "{}", page.text);
    assert_eq!(page.get("lockgate_config_last_reload_success"), Some(1.0));
}

#[test]
fn a_port_that_cannot_be_had_is_the_trouble_of_its_file() {
    let (b1, port, taken) = (Backend::named("B1"), Port::reserve(), Backend::named("B2"));
    let backends = format!("\"{}\"", b1.address());
    let lockgate = Setup::empty().file("game.toml", &game(&port, &backends)).start();
    let (_, number) =
        taken.address().rsplit_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let text =
        game(&port, &backends).replace(&format!("port = {port}"), &format!("port = {number}"));
    lockgate.write("listeners.d/game.toml", text);
    lockgate.run(&["reload"]).expect(1);
    let page = Page::of(&lockgate);
    assert_eq!(page.get("lockgate_files_in_trouble{file=\"game.toml\"}"), Some(1.0));
}

#[test]
fn open_metrics_are_given_to_who_asks_and_the_socket_answers_too() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let host = site.lockgate.admin_host();
    let ask = |accept: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n{accept}\r\n");
        site.lockgate.admin().request(request).expect(200)
    };
    let plain = ask("");
    assert_eq!(plain.value("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
    // As Prometheus 2.42 asks.
    let open = ask(
        "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n",
    );
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.value("Content-Type"), kind);
    let (plain, open) = (plain.text(), open.text());
    assert!(open.contains("# TYPE lockgate_requests counter\n"), "{open}");
    assert!(open.ends_with("\n# EOF\n") && !plain.contains("# EOF"), "{open}");
    let series = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    assert_eq!(series(&plain), series(&open));

    let socket = site.lockgate.path().join("state/admin.sock");
    let mut socket = UnixStream::connect(socket).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert_eq!(series(body), series(&plain));
}

/// What comes before there is a request, and what never is one.
#[test]
fn connections_are_counted_whatever_becomes_of_them() {
    let b1 = Backend::named("B1");
    let site = Site::https().backend(&b1).process("[limits]\nconnections = 2").start();
    let lockgate = &site.lockgate;
    site.get("/").expect(200);
    let page = awaited(lockgate, "lockgate_connections_accepted_total", 1.0);
    assert_eq!(page.get("lockgate_tls_handshake_failures_total"), Some(0.0));
    // Plain HTTP, then a name that nobody has.
    let mut plain = Client::plain(site.port());
    plain.get("a.test", "/").expect(400);
    drop(plain);
    awaited(lockgate, "lockgate_tls_handshake_failures_total", 1.0);
    let _ = crate::support::TlsOffer::to("nobody.test").refusal(site.port());
    awaited(lockgate, "lockgate_tls_handshake_failures_total", 2.0);
    eventually("they are gone", || Page::of(lockgate).get("lockgate_connections") == Some(0.0));
    let held = [site.connect(), site.connect()];
    let refused = std::net::TcpStream::connect(("127.0.0.1", site.port())).unwrap();
    awaited(lockgate, "lockgate_connections_refused_total", 1.0);
    drop((held, refused));
}

#[test]
fn a_proxy_header_that_is_owed_and_does_not_come_is_counted() {
    let b1 = Backend::named("B1");
    let peers = "[proxy_protocol]\npeers = [\"127.0.0.1\"]";
    let site = Site::http().backend(&b1).process(peers).start();
    Client::plain(site.port()).send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    awaited(&site.lockgate, "lockgate_proxy_header_failures_total", 1.0);
}

#[test]
fn a_backends_load_and_the_bytes_of_its_websockets_are_there_while_they_live() {
    let b1 = crate::websocket::mirroring();
    let site = Site::http().backend_with(&b1, "name = \"b1\", max_connections = 5").start();
    let labels = "{game=\"game\",group=\"web\",backend=\"b1\"}";
    let series = |name: &str| format!("lockgate_{name}{labels}");
    let mut tunnel = site.connect();
    tunnel.send(UPGRADE);
    assert!(tunnel.read_head().contains(" 101 "));
    let page = awaited(&site.lockgate, &series("backend_in_flight"), 1.0);
    assert_eq!(page.get(&series("backend_max_connections")), Some(5.0));
    tunnel.send("seven b");
    assert_eq!(tunnel.read_exactly(7), b"seven b");
    let page = awaited(&site.lockgate, &series("tunnel_received_bytes_total"), 7.0);
    assert_eq!(page.get(&series("tunnel_sent_bytes_total")), Some(7.0));
    drop(tunnel);
    awaited(&site.lockgate, &series("backend_in_flight"), 0.0);
}
