//! When a backend fails (SEMANTICS ER, DESIGN 4.8): the status, the cause in
//! the log, a short body with the request id, and nobody else disturbed. In
//! this step a failed attempt simply fails: no retry.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::support::{
    Backend, Client, Lockgate, Port, Response, Silent, Site, group, http_listener,
};

/// The failure stands in the log with this cause, and its id in the body.
#[track_caller]
fn assert_said(site: &Site, response: &Response, cause: &str) {
    let line = site.lockgate.wait_for_log(&[&format!("cause={cause}"), "request_id="]);
    let id = request_id(&line);
    assert!(response.text().contains(&id), "no {id} in {:?}", response.text());
    assert!(response.body.len() < 400, "{:?}", response.text());
    assert!(response.value("content-type").starts_with("text/plain"), "{response:?}");
    assert_eq!(response.values("date").len(), 1, "{response:?}");
}

fn request_id(line: &str) -> String {
    let (_, rest) = line.split_once("request_id=").unwrap();
    let id = rest.split_whitespace().next().unwrap_or_default().trim_matches('"');
    assert!(!id.is_empty(), "{line}");
    id.to_owned()
}

#[test]
fn a_refused_connection_is_502() {
    let port = Port::reserve();
    let site = Site::http().address(&port.refusing_address()).start();
    let response = site.get("/").expect(502);
    assert_said(&site, &response, "connect_refused");
    let line = site.lockgate.wait_for_log(&["cause=connect_refused"]);
    assert!(line.contains(&port.refusing_address()), "the backend is not named: {line}");
}

#[test]
fn every_failed_request_has_its_own_id() {
    let port = Port::reserve();
    let site = Site::http().address(&port.refusing_address()).start();
    let (one, two) = (site.get("/").text(), site.get("/").text());
    assert_ne!(one, two);
}

#[test]
fn a_connection_attempt_that_hangs_is_502() {
    let silent = Silent::new();
    let site = Site::http().address(&silent.address()).group("connect_timeout = \"300ms\"").start();
    let begin = Instant::now();
    let response = site.get("/").expect(502);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert_said(&site, &response, "connect_timeout");
}

#[test]
fn er_01_a_silent_backend_is_504() {
    let b1 = Backend::named("B1");
    let site = Site::http().group("response_timeout = \"300ms\"").backend(&b1).start();
    let begin = Instant::now();
    let response = site.get("/slow/5000").expect(504);
    assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
    assert_said(&site, &response, "header_timeout");
    assert_eq!(b1.executions(), 1);
}

#[test]
fn er_01_a_rule_may_set_its_own_timeout() {
    let b1 = Backend::named("B1");
    let site = Site::http()
        .rule("path = \"/slow/\"\ngroup = \"web\"\nresponse_timeout = \"300ms\"")
        .rule("path = \"/\"\ngroup = \"web\"")
        .backend(&b1)
        .start();
    site.get("/slow/5000").expect(504);
    site.get("/x/../status/200").expect(200);
}

#[test]
fn er_01_half_a_header_is_no_header() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Le");
        exchange.wait_until_left();
    });
    let site = Site::http().group("response_timeout = \"300ms\"").backend(&b1).start();
    let response = site.get("/").expect(504);
    assert_said(&site, &response, "header_timeout");
    crate::support::eventually("the backend's connection is dropped", || b1.left() == 1);
}

#[test]
fn er_02_the_timeout_is_between_reads() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n");
        for _ in 0..12 {
            exchange.pause(150);
            exchange.send("x");
        }
    });
    let site = Site::http().group("response_timeout = \"1s\"").backend(&b1).start();
    assert_eq!(site.get("/").expect(200).text(), "x".repeat(12));
}

#[test]
fn a_body_that_stops_is_cut() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        exchange.wait_until_left();
    });
    let site = Site::http().group("response_timeout = \"300ms\"").backend(&b1).start();
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let cut = client.read_cut();
    assert_eq!(cut.partial.map(|partial| partial.status), Some(200));
    site.lockgate.wait_for_log(&["cause=body_timeout", "request_id="]);
    crate::support::eventually("the backend's connection is dropped", || b1.left() == 1);
}

#[test]
fn a_slow_upload_is_no_slow_response() {
    let b1 = Backend::named("B1");
    let site = Site::http().group("response_timeout = \"1s\"").backend(&b1).start();
    let mut client = site.connect();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 12\r\n\r\n");
    for _ in 0..12 {
        std::thread::sleep(Duration::from_millis(150));
        client.send("x");
    }
    client.read().expect(200);
}

#[test]
fn a_backend_that_closes_without_an_answer_is_502() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let response = site.get("/close").expect(502);
    assert_said(&site, &response, "closed_before_header");
    // Not sent again: the connection was fresh.
    assert_eq!(b1.executions(), 1);
}

#[test]
fn a_backend_that_closes_at_once_is_502() {
    let b1 = Backend::raw("B1", |stream| {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let site = Site::before(&b1);
    let response = site.get("/").expect(502);
    assert_said(&site, &response, "closed_before_header");
}

#[test]
fn a_backend_that_resets_is_502() {
    let b1 = Backend::scripted("B1", |exchange| exchange.reset());
    let site = Site::before(&b1);
    let response = site.get("/").expect(502);
    assert_said(&site, &response, "closed_before_header");
}

#[test]
fn half_a_header_then_the_end_is_502() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Le");
        exchange.close();
    });
    let site = Site::before(&b1);
    let response = site.get("/").expect(502);
    assert_said(&site, &response, "closed_before_header");
}

#[test]
fn garbage_is_502() {
    let b1 = Backend::raw("B1", |stream| {
        let _ = std::io::Write::write_all(stream, b"SSH-2.0-OpenSSH_9.2\r\n\r\n");
        let _ = stream.read(&mut [0; 1024]);
    });
    let site = Site::before(&b1);
    let response = site.get("/").expect(502);
    assert_said(&site, &response, "invalid_header");
}

#[test]
fn an_error_keeps_the_clients_connection() {
    let (dead, b1) = (Port::reserve(), Backend::named("B1"));
    let more = format!("[group.dead]\nbackends = [\"{}\"]\n", dead.refusing_address());
    let site =
        Site::http().rule("path = \"/dead\"\ngroup = \"dead\"").backend(&b1).more(&more).start();
    let mut client = site.connect();
    for _ in 0..3 {
        client.get("a.test", "/dead").expect(502);
        client.get("a.test", "/close").expect(502);
        client.get("a.test", "/alive").expect(200);
    }
    let head = client.request("HEAD /dead HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(502);
    assert_eq!(head.body, b"");
    client.assert_open("a.test");
}

#[test]
fn an_error_does_not_make_a_request_of_the_body() {
    let dead = Port::reserve();
    let mut site = Site::http().address(&dead.refusing_address()).start();
    let mut client = site.connect();
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 40\r\n\r\n\
         GET /in-the-body HTTP/1.1\r\nHost: a.test",
    );
    client.read().expect(502);
    // The connection goes on behind the body, or it ends.
    if client.try_send("GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok()
        && let Some(next) = client.read_or_cut()
    {
        next.expect(502);
    }
    let log = site.lockgate.log_to_the_end();
    assert!(!log.contains("in-the-body"), "{log}");
}

#[test]
fn er_07_half_a_head_is_408() {
    let b1 = Backend::named("B1");
    let site = Site::http().process("[limits]\nheader_timeout = \"300ms\"").backend(&b1).start();
    let begin = Instant::now();
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.te");
    client.read().expect(408);
    client.assert_closed();
    assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
    site.lockgate.wait_for_log(&["cause=client_timeout"]);
    b1.assert_untouched();
}

#[test]
fn er_07_half_a_body_is_408() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("body_timeout = \"300ms\"").backend(&b1).start();
    for request in [
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let begin = Instant::now();
        let mut client = site.connect();
        client.send(request);
        let response = client.read().expect(408);
        assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
        client.assert_closed();
        assert!(!response.text().is_empty());
    }
    site.lockgate.wait_for_log(&["cause=client_timeout", "request_id="]);
    assert_eq!(b1.completed(), 0);
}

#[test]
fn er_07_the_body_timeout_is_between_reads() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("body_timeout = \"1s\"").backend(&b1).start();
    let mut client = site.connect();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 12\r\n\r\n");
    for _ in 0..12 {
        std::thread::sleep(Duration::from_millis(150));
        client.send("x");
    }
    client.read().expect(200);
}

#[test]
fn er_09_a_dead_group_disturbs_nobody() {
    let (dead, b1) = (Port::reserve(), Backend::named("B1"));
    let port = Port::reserve();
    let dead_game = http_listener("dead.test", &port, "group = \"web\"")
        + &format!("[group.web]\nbackends = [\"{}\"]\n", dead.refusing_address());
    let alive = http_listener("a.test", &port, "group = \"web\"") + &group("web", &b1);
    let _lockgate = Lockgate::with("dead.toml", &dead_game).file("alive.toml", &alive).start();
    for _ in 0..5 {
        let mut client = Client::plain(port.number());
        client.get("dead.test", "/").expect(502);
        client.get("a.test", "/").expect(200);
    }
}

#[test]
fn one_poor_backend_fails_its_own_share_only() {
    let (dead, b1) = (Port::reserve(), Backend::named("B1"));
    let site = Site::http()
        .backend(&b1)
        .address_with(&dead.refusing_address(), "max_fails = 0")
        .more("[group.web.retry]\non = []\n")
        .start();
    let mut client = site.connect();
    let statuses: Vec<u16> = (0..6).map(|_| client.get("a.test", "/").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 3, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 3, "{statuses:?}");
}
