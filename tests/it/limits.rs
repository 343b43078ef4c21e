//! What is held to a limit or a deadline on the client's side (SEMANTICS LM,
//! DESIGN 3.3): sizes at the edge and one over it, requests and silence on a
//! connection, clients that trickle or do not read, connections and
//! descriptors. Deadlines are short here; a test asserts that they come, and
//! not before their time.

use std::time::{Duration, Instant};

use crate::support::{
    Backend, Client, Gate, Port, Site, TlsOffer, chunked, eventually, https_listener,
};

const SHORT: Duration = Duration::from_millis(300);
const MIB: usize = 1024 * 1024;

#[test]
fn lm_01_connections_have_no_request_limit() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut client = site.connect();
    for _ in 0..150 {
        let response = client.get("a.test", "/").expect(200);
        assert!(response.values("connection").is_empty());
    }
}

#[test]
fn lm_01_unless_max_requests_says_so() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("max_requests = 3").backend(&b1).start();
    let mut client = site.connect();
    for number in 1..=3 {
        let response = client.get("a.test", "/").expect(200);
        let last = response.values("connection") == ["close"];
        assert_eq!(last, number == 3, "answer {number}: {response:?}");
    }
    client.assert_closed();
    // What was pipelined behind the last one is not executed.
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".repeat(5));
    for _ in 0..3 {
        client.read().expect(200);
    }
    client.assert_closed();
    assert_eq!(b1.executions(), 6);
}

#[test]
fn lm_02_a_silent_connection_is_closed() {
    let b1 = Backend::named("B1");
    for mut site in [
        Site::http().listener("idle_timeout = \"300ms\"").backend(&b1).start(),
        Site::https().listener("idle_timeout = \"300ms\"").backend(&b1).start(),
    ] {
        let mut client = site.connect();
        let begin = Instant::now();
        client.get("a.test", "/").expect(200);
        client.assert_closed();
        assert!(begin.elapsed() >= SHORT, "{:?}", begin.elapsed());
        // A client's silence between requests is no failure.
        let log = site.lockgate.log_to_the_end();
        assert!(!log.contains("cause="), "{log}");
    }
}

#[test]
fn lm_02_a_waiting_request_is_not_silence() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("idle_timeout = \"300ms\"").backend(&b1).start();
    site.get("/slow/900").expect(200);
}

#[test]
fn a_connection_without_any_request_is_closed() {
    let b1 = Backend::named("B1");
    let site = Site::http().process("[limits]\nheader_timeout = \"300ms\"").backend(&b1).start();
    let begin = Instant::now();
    let mut client = site.connect();
    client.read_to_end();
    assert!(begin.elapsed() >= SHORT, "{:?}", begin.elapsed());
}

#[test]
fn a_trickled_head_does_not_extend_its_deadline() {
    let b1 = Backend::named("B1");
    let site = Site::http().process("[limits]\nheader_timeout = \"300ms\"").backend(&b1).start();
    let begin = Instant::now();
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n");
    let end = begin + crate::support::DEADLINE;
    while !client.has_bytes() && client.try_send("X").is_ok() {
        assert!(Instant::now() < end, "a trickle is never cut");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begin.elapsed() >= SHORT, "{:?}", begin.elapsed());
    if let Some(response) = client.read_or_cut() {
        assert_eq!(response.status, 408);
    }
    b1.assert_untouched();
}

#[test]
fn later_heads_are_held_to_the_listeners_header_timeout() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("header_timeout = \"300ms\"").backend(&b1).start();
    let mut client = site.connect();
    client.get("a.test", "/").expect(200);
    // Not yet begun: that is silence, not a slow head.
    std::thread::sleep(Duration::from_millis(600));
    client.get("a.test", "/").expect(200);
    let begin = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: a.te");
    client.read().expect(408);
    assert!(begin.elapsed() >= SHORT, "{:?}", begin.elapsed());
    assert_eq!(b1.executions(), 2);
}

/// A GET whose field lines are `size` bytes together.
fn head_of(size: usize) -> String {
    let host = "Host: a.test\r\n";
    let filler = size - host.len() - "X-Fill: \r\n".len();
    format!("GET / HTTP/1.1\r\n{host}X-Fill: {}\r\n\r\n", "x".repeat(filler))
}

#[test]
fn lm_05_a_header_too_large_is_431() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    site.request(head_of(31 * 1024)).expect(200);
    site.request(head_of(32 * 1024)).expect(200);
    let before = b1.executions();
    for size in [32 * 1024 + 1, 33 * 1024, 200 * 1024] {
        let mut client = site.connect();
        let _ = client.try_send(head_of(size));
        client.read().expect(431);
        client.read_to_end();
    }
    site.lockgate.wait_for_log(&["cause=limit"]);
    assert_eq!(b1.executions(), before);
}

#[test]
fn lm_05_a_head_that_never_ends_is_431() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut client = site.connect();
    let _ = client.try_send("GET / HTTP/1.1\r\nHost: a.test\r\nX-Endless: ");
    let _ = client.try_send(vec![b'x'; 100 * 1024]);
    client.read().expect(431);
    b1.assert_untouched();
}

#[test]
fn lm_05_too_many_fields_are_431() {
    let b1 = Backend::named("B1");
    let site = Site::http().process("[limits]\nheaders = 20").backend(&b1).start();
    let head = |count: usize| {
        let lines: String = (1..count).map(|number| format!("X-{number}: 1\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")
    };
    site.request(head(20)).expect(200);
    site.request(head(21)).expect(431);
    assert_eq!(b1.executions(), 1);
}

/// A GET whose target is `size` bytes.
fn target_of(size: usize) -> String {
    format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "x".repeat(size - 1))
}

#[test]
fn lm_06_a_target_too_long_is_414() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    site.request(target_of(31 * 1024)).expect(200);
    site.request(target_of(32 * 1024)).expect(200);
    for size in [32 * 1024 + 1, 33 * 1024, 100 * 1024] {
        let mut client = site.connect();
        let _ = client.try_send(target_of(size));
        client.read().expect(414);
        client.read_to_end();
    }
    // Also when its end never comes.
    let mut client = site.connect();
    let _ = client.try_send(format!("GET /{}", "x".repeat(100 * 1024)));
    client.read().expect(414);
    assert_eq!(b1.executions(), 2);
}

#[test]
fn lm_06_header_and_target_have_their_own_limits() {
    let b1 = Backend::named("B1");
    let site = Site::http()
        .process("[limits]\nuri = \"256B\"\nheader_size = \"1KiB\"")
        .backend(&b1)
        .start();
    site.request(target_of(256)).expect(200);
    site.request(target_of(257)).expect(414);
    site.request(head_of(1024)).expect(200);
    site.request(head_of(1025)).expect(431);
    assert_eq!(b1.executions(), 2);
}

#[test]
fn lm_07_a_body_too_large_is_413() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("max_body = \"1MiB\"").backend(&b1).start();
    site.post("/", &vec![b'x'; MIB]).expect(200);
    let mut request =
        b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    request.extend(chunked(&vec![b'x'; MIB], 10_000, ""));
    site.request(request).expect(200);
    assert_eq!(b1.completed(), 2);
    // By length: the backend hears nothing, whether or not the body comes.
    for body in [0, 1000] {
        let mut client = site.connect();
        let length = MIB + 1;
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n"));
        client.send(vec![b'x'; body]);
        client.read().expect(413);
        client.read_to_end();
    }
    site.lockgate.wait_for_log(&["cause=limit"]);
    assert_eq!(b1.executions(), 2);
}

#[test]
fn lm_07_chunks_over_the_limit_are_413() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("max_body = \"1MiB\"").backend(&b1).start();
    let mut client = site.connect();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let _ = client.try_send(chunked(&vec![b'x'; MIB + 1], 10_000, ""));
    client.read().expect(413);
    client.read_to_end();
    assert_eq!(b1.completed(), 0);
}

#[test]
fn lm_07_expect_is_not_answered_with_100_over_the_limit() {
    let b1 = Backend::named("B1");
    let site = Site::http()
        .listener("max_body = \"1KiB\"")
        .rule("path = \"/big\"\ngroup = \"web\"\nmax_body = \"10KiB\"")
        .backend(&b1)
        .start();
    let response = site.request(
        "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2000\r\n\r\n",
    );
    assert!(response.expect(413).interim.is_empty());
    b1.assert_untouched();
    // A rule may allow more, but not everything.
    site.post("/big", &[b'x'; 2000]).expect(200);
    let mut client = site.connect();
    client.send("POST /big HTTP/1.1\r\nHost: a.test\r\nContent-Length: 20000\r\n\r\n");
    client.read().expect(413);
}

#[test]
fn write_timeout_drops_a_client_that_does_not_read() {
    const ALL: usize = 256 * MIB;
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {ALL}\r\n\r\n"));
        exchange.pour(ALL);
    });
    let site = Site::http().listener("write_timeout = \"300ms\"").backend(&b1).start();
    let begin = Instant::now();
    let mut client = Client::plain_with_small_buffer(site.port());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    b1.wait_for_executions(1);
    eventually("the backend is let go", || b1.open() == 0);
    assert!(begin.elapsed() >= SHORT, "{:?}", begin.elapsed());
    assert!(b1.taken() < ALL, "everything was taken");
    site.lockgate.wait_for_log(&["cause=client_timeout"]);
}

#[test]
fn limits_connections_holds_the_number_of_clients() {
    let b1 = Backend::named("B1");
    let site = Site::http().process("[limits]\nconnections = 4").backend(&b1).start();
    let mut held: Vec<Client> = (0..4)
        .map(|_| {
            let mut client = site.connect();
            client.get("a.test", "/").expect(200);
            client
        })
        .collect();
    let mut fifth = site.connect();
    let _ = fifth.try_send("GET /fifth HTTP/1.1\r\nHost: a.test\r\n\r\n");
    for client in &mut held {
        client.get("a.test", "/").expect(200);
    }
    let served = |target: &str| b1.requests().iter().any(|request| request.target() == target);
    assert!(!served("/fifth"), "a fifth client was served");
    if let Some(response) = fifth.read_or_cut() {
        assert_eq!(response.expect(503).values("retry-after").len(), 1);
        fifth.assert_closed();
    }
    drop(held);
    eventually("there is room again", || {
        let mut client = site.connect();
        client.try_send("GET /later HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok()
            && client.read_or_cut().is_some_and(|response| response.status == 200)
    });
}

/// Nobody is turned away without a trace.
#[test]
fn who_finds_no_room_is_counted_and_has_a_line() {
    let (b1, tls) = (Backend::named("B1"), Port::reserve());
    let more = https_listener("a.test", &tls, "group = \"web\"");
    let log = "[limits]\nconnections = 1\n[log]\naccess = \"access.log\"\n";
    let site = Site::http().process(log).backend(&b1).more(&more).start();
    let mut held = site.connect();
    held.get("a.test", "/").expect(200);
    let answer = site.connect().read().expect(503);
    assert_eq!(answer.values("retry-after").len(), 1);
    // Before a handshake there are no words for it.
    TlsOffer::to("a.test").refusal(tls.number());
    drop(held);
    let failures = "lockgate_request_failures_total{game=\"\",group=\"\",cause=\"limit\"} 2";
    let status = "lockgate_requests_total{game=\"\",group=\"\",class=\"5xx\"} 2";
    let host = site.lockgate.admin_host();
    let page = site.lockgate.admin().get(&host, "/metrics").expect(200).text();
    assert!(page.contains(failures) && page.contains(status), "{page}");

    let said = ["status=503", "cause=limit", "phase=request", "limits.connections", "127.0.0.1"];
    site.lockgate.wait_for_log(&said);
    let path = site.lockgate.path().join("access.log");
    let mut lines = Vec::new();
    eventually("three lines", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.len() == 3
    });
    let body = answer.text();
    for (line, sent) in lines[1..].iter().zip([body.len(), 0]) {
        let line: &serde_json::Value = line;
        assert_eq!((&line["status"], &line["cause"]), (&503.into(), &"limit".into()), "{line}");
        assert_eq!(
            (&line["client"], &line["detail"]),
            (&"127.0.0.1".into(), &"limits.connections".into())
        );
        assert_eq!(line["sent"], sent, "{line}");
    }
    let id = lines[1]["request_id"].as_str().unwrap();
    assert!(body.contains(&format!("request id {id}")), "{body}");
}

#[test]
fn descriptors_that_run_out_do_not_stop_the_accept_loop() {
    let b1 = Backend::named("B1");
    let site =
        Site::http().process("[limits]\nconnections = 10000").descriptors(64).backend(&b1).start();
    for _ in 0..2 {
        let crowd: Vec<Client> = (0..120).map(|_| site.connect()).collect();
        site.lockgate.wait_for_log(&["cannot accept"]);
        drop(crowd);
        eventually("it accepts again", || {
            let mut client = site.connect();
            client.try_send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok()
                && client.read_or_cut().is_some_and(|response| response.status == 200)
        });
    }
    // Who was there before goes on while there are none left.
    let mut early = site.connect();
    early.get("a.test", "/").expect(200);
    let _crowd: Vec<Client> = (0..120).map(|_| site.connect()).collect();
    early.get("a.test", "/").expect(200);
}

#[test]
fn a_full_backlog_of_slow_requests_does_not_stop_others() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        if exchange.request().target() == "/hold" {
            hold.pass();
        }
        exchange.echo();
    });
    let site = Site::before(&b1);
    let mut slow: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = site.connect();
            client.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n");
            client
        })
        .collect();
    b1.wait_for_executions(100);
    site.get("/").expect(200);
    gate.open();
    for client in &mut slow {
        client.read().expect(200);
    }
}
