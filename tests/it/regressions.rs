//! Defects that a review and an attack found, each held by a test that failed
//! before its fix: deadlines that were lost, ends of responses that a reset
//! destroyed, silence that was blamed on the wrong side, logs that stopped the
//! service, connections that TERM forgot.

use std::fs::OpenOptions;
use std::io::{PipeReader, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::Signal;

use crate::support::{
    Backend, Client, Lockgate, Port, Site, TlsOffer, eventually, http_listener, settled,
};

const SHORT: Duration = Duration::from_millis(300);
const MIB: usize = 1024 * 1024;
const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
/// A rule that lockgate answers itself.
const FIXED: &str = "path = \"/fixed\"\nrespond = { status = 200, body = \"fixed\" }";
const GET_FIXED: &str = "GET /fixed HTTP/1.1\r\nHost: a.test\r\n\r\n";

// Deadlines.

/// So many answers at once use up what a task may do in one go, wherever in
/// the burst that is.
const BURSTS: [usize; 3] = [126, 127, 300];

/// A site on which the deadline of sending comes before that of waiting.
fn bursting_site(b1: &Backend) -> Site {
    Site::https()
        .process("[limits]\nheader_timeout = \"200ms\"\n")
        .listener("idle_timeout = \"300ms\"")
        .rule(FIXED)
        .group("response_timeout = \"300ms\"")
        .backend(b1)
        .start()
}

#[test]
fn a_connection_is_closed_when_idle_after_a_burst_of_requests() {
    let b1 = Backend::hanging("B1");
    let site = bursting_site(&b1);
    for count in BURSTS {
        let begin = Instant::now();
        let mut client = site.connect();
        client.send(GET_FIXED.repeat(count));
        for _ in 0..count {
            client.read().expect(200);
        }
        client.assert_closed();
        assert!(begin.elapsed() >= SHORT, "after {count}: {:?}", begin.elapsed());
    }
}

#[test]
fn a_silent_backend_is_504_after_a_burst_of_requests() {
    let b1 = Backend::hanging("B1");
    let site = bursting_site(&b1);
    for count in BURSTS {
        let mut client = site.connect();
        client.send(GET_FIXED.repeat(count) + GET);
        for _ in 0..count {
            client.read().expect(200);
        }
        client.read().expect(504);
    }
}

// The end of a response.

/// More than the kernel takes on the way to a client that does not read.
const LONG: usize = 8 * MIB;

/// A client asks for a long response, which is the last of its connection. It
/// sends more before it reads on. Every byte must arrive, and then an end that
/// is no reset.
fn sends_while_the_last_response_is_on_its_way(request: &str, settings: &str) {
    for tls in [false, true] {
        for more in ["\r\n", GET] {
            let b1 = Backend::scripted("B1", |exchange| {
                exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"));
                exchange.pour(LONG);
            });
            let builder = if tls { Site::https() } else { Site::http() };
            let site = builder.listener(settings).backend(&b1).start();
            let mut client = site.connect();
            client.send(request);
            // It stands still because the client does not read.
            b1.wait_for_executions(1);
            settled(|| b1.taken());
            client.send(more);
            let arrived = client.read_or_cut().map(|response| response.body.len());
            assert_eq!(arrived, Some(LONG), "TLS: {tls}, then {more:?}");
            client.assert_ends_cleanly();
            assert_eq!(b1.executions(), 1);
        }
    }
}

#[test]
fn bytes_behind_connection_close_do_not_destroy_the_response() {
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    sends_while_the_last_response_is_on_its_way(request, "");
}

#[test]
fn bytes_behind_an_http_1_0_request_do_not_destroy_the_response() {
    let request = "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n";
    sends_while_the_last_response_is_on_its_way(request, "");
}

#[test]
fn bytes_behind_the_last_of_max_requests_do_not_destroy_the_response() {
    sends_while_the_last_response_is_on_its_way(GET, "max_requests = 1");
}

// Interim responses.

/// Takes one whole 103 with this link off the front.
fn strip_hint<'a>(bytes: &'a [u8], link: &str) -> Option<&'a [u8]> {
    let rest = bytes.strip_prefix(b"HTTP/1.1 103 Early Hints\r\nLink: ")?;
    rest.strip_prefix(link.as_bytes())?.strip_prefix(b"\r\n\r\n")
}

#[test]
fn nothing_is_sent_into_the_middle_of_an_interim_response() {
    const REQUESTS: usize = 24;
    let link = "x".repeat(30_000);
    let hint = format!("HTTP/1.1 103 Early Hints\r\nLink: {link}\r\n\r\n");
    let b1 = Backend::scripted("B1", move |exchange| {
        for _ in 0..30 {
            exchange.send(&hint);
        }
        exchange.close();
    });
    let site = Site::before(&b1);
    let mut client = Client::plain(site.port());
    client.send(GET.repeat(REQUESTS - 1));
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    // All of it together is more than fits on the way: it stands still with
    // one of them sent in part.
    let begun = settled(|| b1.executions());
    assert!(begun < REQUESTS, "the client's slowness was not felt");
    let bytes = client.read_to_end();
    let mut rest = bytes.as_slice();
    let mut answers = 0;
    while !rest.is_empty() {
        if let Some(after) = strip_hint(rest, &link) {
            rest = after;
            continue;
        }
        let shown = String::from_utf8_lossy(&rest[..rest.len().min(300)]).into_owned();
        let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
            // A cut inside the last of them.
            assert!(shown.starts_with("HTTP/1.1 103 "), "{shown}");
            assert!(rest.len() <= link.len() + 100, "{shown}");
            break;
        };
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        assert!(head.starts_with("HTTP/1.1 502 ") && head.len() < 500, "within a 103: {shown}");
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        rest = rest.get(end + 4 + length.parse::<usize>().unwrap()..).expect("a whole 502");
        answers += 1;
    }
    assert!(answers <= REQUESTS);
}

// Who is to blame for silence.

#[test]
fn a_backend_that_does_not_say_continue_is_504() {
    let b1 = Backend::raw("B1", |stream| {
        let mut block = [0; 1024];
        while std::io::Read::read(stream, &mut block).is_ok_and(|count| count > 0) {}
    });
    let request =
        "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    // Whichever of the two times is the shorter.
    for body_timeout in ["1h", "100ms"] {
        let site = Site::http()
            .listener(&format!("body_timeout = \"{body_timeout}\""))
            .group("response_timeout = \"300ms\"")
            .backend(&b1)
            .start();
        let begin = Instant::now();
        site.request(request).expect(504);
        assert!(begin.elapsed() >= SHORT, "{:?}", begin.elapsed());
        site.lockgate.wait_for_log(&["cause=header_timeout"]);
    }
}

#[test]
fn an_upload_that_stalls_after_the_response_began_is_the_clients_doing() {
    for (body_timeout, response_timeout) in [(300, 3_600_000), (600, 100)] {
        let b1 = Backend::scripted("B1", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf ");
            exchange.wait_until_left();
        });
        let mut site = Site::http()
            .listener(&format!("body_timeout = \"{body_timeout}ms\""))
            .group(&format!("response_timeout = \"{response_timeout}ms\""))
            .backend(&b1)
            .start();
        let begin = Instant::now();
        let mut client = site.connect();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\nhalf");
        client.read_cut();
        let least = Duration::from_millis(body_timeout);
        assert!(begin.elapsed() >= least, "{:?}", begin.elapsed());
        site.lockgate.wait_for_log(&["cause=client_timeout", "phase=body"]);
        let log = site.lockgate.log_to_the_end();
        assert!(!log.contains("cause=body_timeout"), "{log}");
        eventually("the backend's connection ends", || b1.left() == 1);
    }
}

#[test]
fn a_request_that_nobody_waits_for_has_an_end() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.read_body();
        if exchange.request().method() == "POST" {
            exchange.send("HTTP/1.1 200 OK\r\n\r\nbegun");
            exchange.pour(usize::MAX);
        } else {
            exchange.echo();
        }
    });
    let site = Site::http()
        .group("response_timeout = \"300ms\"")
        .backend_with(&b1, "max_connections = 1")
        .start();
    let mut client = site.connect();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello");
    client.peek_more();
    client.reset();
    eventually("the backend's connection ends", || b1.open() == 0);
    eventually("its place is free", || site.get("/").status == 200);
}

// lockgate's own answers.

/// A listener that redirects and answers, without any backend.
fn own_answers(settings: &str, limits: &str) -> (Lockgate, Port) {
    let port = Port::reserve();
    let lines = format!("redirect = \"https:443\"\n{settings}\n[[listener.rule]]\n{FIXED}");
    let text = http_listener("a.test", &port, &lines);
    let lockgate = Lockgate::with("game.toml", &text).process(limits).start();
    (lockgate, port)
}

#[test]
fn idle_timeout_holds_after_lockgates_own_answers() {
    for request in [GET, GET_FIXED] {
        let limits = "[limits]\nheader_timeout = \"1h\"\n";
        let (_lockgate, port) = own_answers("idle_timeout = \"300ms\"", limits);
        let begin = Instant::now();
        let mut client = Client::plain(port.number());
        client.request(request);
        client.assert_closed();
        assert!(begin.elapsed() >= SHORT, "{:?}", begin.elapsed());
        // And nothing shorter does.
        let limits = "[limits]\nheader_timeout = \"100ms\"\n";
        let (_lockgate, port) = own_answers("idle_timeout = \"1h\"", limits);
        let mut client = Client::plain(port.number());
        client.request(request);
        std::thread::sleep(SHORT);
        client.request(request);
    }
}

#[test]
fn max_requests_holds_for_lockgates_own_answers() {
    for request in [GET, GET_FIXED] {
        let (_lockgate, port) = own_answers("max_requests = 2", "");
        let mut client = Client::plain(port.number());
        client.send(request.repeat(3));
        assert!(client.read().values("connection").is_empty());
        assert_eq!(client.read().value("connection"), "close");
        client.assert_closed();
    }
}

#[test]
fn set_headers_leaves_one_line_of_each_on_own_answers() {
    let b1 = Backend::named("B1");
    let set = "set_headers = { response = { \"location\" = \"/mine\", \"DATE\" = \"then\", \
               \"content-Type\" = \"text/mine\" } }";
    let site = Site::http()
        .rule(&format!("path = \"/r\"\nredirect = \"https:443\"\n{set}"))
        .rule(&format!("{FIXED}\n{set}"))
        .rule(&format!("group = \"web\"\n{set}"))
        .backend(&b1)
        .start();
    for target in ["/r", "/fixed", "/"] {
        let response = site.get(target);
        assert_eq!(response.value("location"), "/mine", "{target}");
        assert_eq!(response.value("date"), "then", "{target}");
        assert_eq!(response.value("content-type"), "text/mine", "{target}");
    }
}

// The log.

/// A site without a backend whose log goes there. It answers `/fixed`, refuses
/// thousands of requests in between, and ends as if all were well.
fn serves_with_this_log(log: impl Into<OwnedFd>) {
    let port = Port::reserve();
    let text = http_listener("a.test", &port, &format!("[[listener.rule]]\n{FIXED}"));
    let mut lockgate = Lockgate::with("game.toml", &text).log_to(log).start();
    for _ in 0..4 {
        let mut client = Client::plain(port.number());
        client.send(GET.repeat(1000));
        for _ in 0..1000 {
            client.read().expect(404);
        }
        client.request(GET_FIXED).expect(200);
    }
    assert_eq!(lockgate.terminate(), 0);
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    serves_with_this_log(OpenOptions::new().write(true).open("/dev/full").unwrap());
}

#[test]
fn a_log_whose_reader_is_gone_stops_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    serves_with_this_log(writer);
}

/// A pipe that takes no more, as long as the reader is held.
fn full_pipe() -> (PipeReader, OwnedFd) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    for block in [&[b'x'; 4096][..], b"x"] {
        while writer.write(block).is_ok() {}
    }
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer.into())
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let (_reader, writer) = full_pipe();
    serves_with_this_log(writer);
}

#[test]
fn the_log_names_the_client_that_a_trusted_proxy_names() {
    let dead = Port::reserve();
    let site = Site::http()
        .listener("trusted_proxies = [\"127.0.0.1\"]\ndeny = [\"203.0.113.66\"]")
        .rule("path = \"/dead\"\ngroup = \"web\"")
        .address(&dead.refusing_address())
        .start();
    let request = |target: &str, client: &str| {
        let fields = format!("Host: a.test\r\nX-Forwarded-For: {client}\r\n");
        site.request(format!("GET {target} HTTP/1.1\r\n{fields}\r\n"))
    };
    request("/dead", "203.0.113.9").expect(502);
    site.lockgate.wait_for_log(&["cause=connect_refused", "client=203.0.113.9 "]);
    request("/%ff%", "203.0.113.11").expect(400);
    site.lockgate.wait_for_log(&["cause=malformed", "client=203.0.113.11 "]);
    request("/dead", "203.0.113.66").expect(403);
    site.lockgate.wait_for_log(&["cause=denied", "client=203.0.113.66 "]);
}

#[test]
fn the_log_shows_the_beginning_of_a_long_path() {
    let dead = Port::reserve();
    let site = Site::http().address(&dead.refusing_address()).start();
    site.get(&format!("/begin{}", "x".repeat(8000))).expect(502);
    let line = site.lockgate.wait_for_log(&["cause=connect_refused", "/begin"]);
    assert!(line.len() < 1500, "{} bytes: {line}", line.len());
    // Still whole where it is short.
    site.get(&format!("/short{}end", "x".repeat(300))).expect(502);
    site.lockgate.wait_for_log(&["/short", "xxxend"]);
}

#[test]
fn refused_requests_do_not_hide_a_backends_failure_in_the_log() {
    let dead = Port::reserve();
    let port = Port::reserve();
    let rule = "[[listener.rule]]\npath = \"/dead\"\ngroup = \"web\"";
    let text = http_listener("a.test", &port, rule)
        + &format!("[group.web]\nbackends = [\"{}\"]\n", dead.refusing_address());
    let lockgate = Lockgate::with("game.toml", &text).start();
    let mut client = Client::plain(port.number());
    client.send(GET.repeat(1000) + "GET /dead HTTP/1.1\r\nHost: a.test\r\n\r\n");
    for _ in 0..1000 {
        client.read().expect(404);
    }
    client.read().expect(502);
    lockgate.wait_for_log(&["cause=connect_refused"]);
}

// TERM.

/// Stops the process in the middle of much work, with so many requests behind
/// it that it does not look at its sockets before it has heard of a signal.
fn stopped_at_work(site: &Site) -> Vec<Client> {
    let mut busy: Vec<Client> = (0..16).map(|_| site.connect()).collect();
    for client in &mut busy {
        client.send(GET_FIXED.repeat(5000));
    }
    site.lockgate.signal(Signal::STOP);
    eventually("every thread stands still", || stopped(site.lockgate.pid()));
    busy
}

fn stopped(pid: u32) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|thread| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

#[test]
fn term_answers_the_connections_it_finds_in_the_queue() {
    // When exactly it hears of what is the system's choice: more than once.
    for (workers, queued) in [(1, 50), (2, 50), (1, 5), (2, 5), (1, 50), (2, 5)] {
        let b1 = Backend::named("B1");
        let mut site = Site::http().rule(FIXED).workers(workers).backend(&b1).start();
        let busy = stopped_at_work(&site);
        let mut clients: Vec<Client> = (0..queued).map(|_| site.connect()).collect();
        answered_after_term(&site, &mut clients);
        drop(busy);
        assert_eq!(site.lockgate.exit_code(), 0, "{workers} workers");
        assert_eq!(b1.executions(), queued);
    }
}

#[test]
fn term_waits_a_moment_for_the_first_request_of_a_connection() {
    let answered = || {
        let b1 = Backend::named("B1");
        let mut site = Site::before(&b1);
        let mut new = site.connect();
        // Accepted behind the new one.
        let mut idle = site.connect();
        idle.get("a.test", "/").expect(200);
        site.lockgate.signal(Signal::TERM);
        idle.assert_closed();
        let answer = new.try_send(GET).ok().and_then(|()| new.read_or_cut());
        assert_eq!(site.lockgate.exit_code(), 0);
        answer.is_some_and(|answer| answer.status == 200)
    };
    // It is a short moment: a busy machine may miss it now and then.
    assert!((0..10).any(|_| answered()), "nobody was waited for");
}

/// Sends TERM to a stopped process, and requests just before: all are answered.
fn answered_after_term(site: &Site, clients: &mut [Client]) {
    for client in clients.iter_mut() {
        client.send(GET);
    }
    site.lockgate.signal(Signal::TERM);
    site.lockgate.signal(Signal::CONT);
    for client in clients {
        client.read().expect(200);
        client.assert_ends_cleanly();
    }
}

#[test]
fn term_shakes_hands_with_those_it_finds_in_the_queue() {
    const QUEUED: usize = 8;
    for _ in 0..4 {
        let b1 = Backend::named("B1");
        let mut site = Site::https().rule(FIXED).backend(&b1).start();
        let busy = stopped_at_work(&site);
        let port = site.port();
        let before = begun(port);
        let clients: Vec<_> = (0..QUEUED)
            .map(|_| std::thread::spawn(move || Client::tls(port, "a.test").get("a.test", "/")))
            .collect();
        eventually("all are in the queue", || begun(port) == before + QUEUED);
        site.lockgate.signal(Signal::TERM);
        site.lockgate.signal(Signal::CONT);
        for client in clients {
            client.join().unwrap().expect(200);
        }
        drop(busy);
        assert_eq!(site.lockgate.exit_code(), 0);
    }
}

/// Connections to the port that have sent something which nobody has read.
fn begun(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let own = format!(":{port:04X}");
    let waits = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        let local = columns.next().unwrap_or_default();
        let (state, queues) = (columns.nth(1), columns.next().unwrap_or_default());
        local.ends_with(&own) && state == Some("01") && !queues.ends_with(":00000000")
    };
    table.lines().filter(waits).count()
}

// Requests that cannot be served.

#[test]
fn without_any_name_a_request_is_malformed() {
    let b1 = Backend::named("B1");
    let site = Site::https().backend(&b1).start();
    let mut client = TlsOffer::to("a.test").without_sni().connect(site.port()).unwrap();
    client.request("GET / HTTP/1.0\r\n\r\n").expect(400);
    site.lockgate.wait_for_log(&["cause=malformed", "no Host"]);
    let site = Site::before(&b1);
    site.request("GET / HTTP/1.0\r\n\r\n").expect(400);
    b1.assert_untouched();
}

#[test]
fn a_connection_field_that_names_thousands_is_malformed() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let names: Vec<String> = (0..95).map(|number| format!("X-{number}")).collect();
    let lines: String = names.iter().map(|name| format!("{name}: 1\r\n")).collect();
    let request = |options: &str| {
        format!("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: {options}\r\n{lines}\r\n")
    };
    site.request(request(&names.join(", "))).expect(200);
    site.request(request(&"a,".repeat(14_000))).expect(400);
    assert_eq!(b1.executions(), 1);
}
