//! Clients and backends that go away in the middle (DESIGN 4.9, ER-06): a
//! client's reset aborts what may be repeated and lets the rest complete; a
//! response that is cut at the backend is cut for the client, and is never
//! made to look whole.

use std::io::ErrorKind;

use crate::support::{Backend, Client, Gate, Port, Site, eventually};

#[test]
fn er_06_a_reset_aborts_a_get() {
    let b1 = Backend::hanging("B1");
    for site in [Site::before(&b1), Site::https().backend(&b1).start()] {
        let left = b1.left();
        let seen = b1.executions();
        let mut client = site.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        b1.wait_for_executions(seen + 1);
        client.reset();
        eventually("the backend sees the connection end", || b1.left() > left);
        site.lockgate.wait_for_log(&["cause=client_gone", "status=499"]);
    }
}

#[test]
fn er_06_a_reset_while_the_body_flows_aborts_a_get() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        exchange.wait_until_left();
    });
    let site = Site::before(&b1);
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.peek_more();
    client.reset();
    eventually("the backend sees the connection end", || b1.left() == 1);
}

/// A backend that answers a POST once the first gate is open, and opens the second
/// when it has answered.
fn holds_posts() -> (Backend, Gate, Gate) {
    let (gate, done) = (Gate::default(), Gate::default());
    let (hold, finished) = (gate.clone(), done.clone());
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.read_body();
        if exchange.request().method() == "POST" {
            hold.pass();
        }
        exchange.reply("done");
        finished.open();
    });
    (b1, gate, done)
}

/// A client that posts and resets while the backend works; the backend has
/// answered when this returns.
fn reset_after_post() -> (Site, Backend) {
    let (b1, gate, done) = holds_posts();
    let site = Site::http()
        .rule("path = \"/fixed\"\nrespond = { status = 200, body = \"\" }")
        .backend(&b1)
        .start();
    // Answered after what happened before was seen: there is one worker.
    let pass_by = || {
        for _ in 0..3 {
            site.get("/fixed").expect(200);
        }
    };
    let mut client = site.connect();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello");
    b1.wait_for_completed(1);
    client.reset();
    pass_by();
    gate.open();
    done.pass();
    pass_by();
    (site, b1)
}

#[test]
fn er_06_a_post_whose_body_had_arrived_completes() {
    let (site, b1) = reset_after_post();
    // The connection was not aborted: it serves the next request.
    site.get("/").expect(200);
    assert_eq!(b1.connections(), 1);
}

#[test]
fn er_06_a_post_whose_client_left_is_logged_as_499() {
    let (site, _b1) = reset_after_post();
    site.lockgate.wait_for_log(&["status=499", "cause=client_gone"]);
}

#[test]
fn a_client_that_ends_inside_its_request_aborts_it() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    // Inside the head: the backend hears nothing.
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.t");
    client.half_close();
    client.read_to_end();
    b1.assert_untouched();
    // Inside the body: the backend never gets a whole request.
    for request in [
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let mut client = site.connect();
        client.send(request);
        client.half_close();
        client.read_to_end();
        eventually("the backend's connection ends", || b1.open() == 0);
    }
    assert_eq!(b1.completed(), 0);
}

#[test]
fn a_client_that_leaves_between_requests_is_no_failure() {
    let b1 = Backend::named("B1");
    let mut site = Site::before(&b1);
    let mut client = site.connect();
    client.get("a.test", "/").expect(200);
    client.half_close();
    client.assert_closed();
    site.connect().reset();
    let mut client = site.connect();
    client.get("a.test", "/").expect(200);
    client.reset();
    site.get("/").expect(200);
    let log = site.lockgate.log_to_the_end();
    assert!(!log.contains("cause="), "{log}");
}

/// A backend that answers these bytes and ends the connection right behind
/// them.
fn cutting(bytes: &'static str) -> Backend {
    Backend::answering_then_closing("B1", bytes)
}

/// A backend that answers these bytes and resets the connection when the gate
/// opens.
fn resetting(bytes: &'static str, gate: &Gate) -> Backend {
    let gate = gate.clone();
    Backend::scripted("B1", move |exchange| {
        exchange.read_body();
        exchange.send(bytes);
        gate.pass();
        exchange.reset();
    })
}

/// Answers that end in the middle.
const CUT_SHORT: [&str; 4] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
];

#[test]
fn a_response_cut_short_is_cut_for_the_client() {
    for answer in CUT_SHORT {
        let b1 = cutting(answer);
        let site = Site::before(&b1);
        let mut client = site.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let cut = client.read_cut();
        // Whether what had come is still delivered depends on when the end
        // was seen; more than that never is.
        if let Some(partial) = cut.partial {
            assert!(b"half".starts_with(&partial.body), "{partial:?}");
        }
        site.lockgate.wait_for_log(&["cause=body_closed", "request_id="]);
        assert_eq!(b1.executions(), 1, "{answer}");
    }
}

#[test]
fn a_response_that_is_reset_is_cut_for_the_client() {
    for answer in CUT_SHORT {
        let gate = Gate::default();
        let b1 = resetting(answer, &gate);
        let site = Site::before(&b1);
        let mut client = site.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        while !String::from_utf8_lossy(&client.peek_more()).contains("half") {}
        gate.open();
        client.read_cut();
        site.lockgate.wait_for_log(&["cause=body_closed", "request_id="]);
    }
}

#[test]
fn a_response_cut_short_ends_tls_without_close_notify_or_last_chunk() {
    let b1 = cutting(CUT_SHORT[1]);
    let site = Site::https().backend(&b1).start();
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let cut = client.read_cut();
    assert_ne!(cut.error.kind(), ErrorKind::InvalidData, "{}", cut.error);
}

#[test]
fn a_close_delimited_response_that_is_reset_is_cut() {
    let gate = Gate::default();
    let b1 = resetting("HTTP/1.1 200 OK\r\n\r\nhalf", &gate);
    let site = Site::before(&b1);
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.peek_more();
    gate.open();
    client.read_cut();
}

#[test]
fn a_cut_response_to_an_http_1_0_client_is_a_reset() {
    // For it the end of the connection is the end of the body: only a reset
    // tells them apart.
    let b1 = cutting(CUT_SHORT[1]);
    let site = Site::before(&b1);
    let mut client = site.connect();
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    let cut = client.read_cut();
    assert_eq!(cut.error.kind(), ErrorKind::ConnectionReset, "{}", cut.error);
    // On TLS a missing close_notify tells as well.
    let site = Site::https().backend(&b1).start();
    let mut client = site.connect();
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    client.read_cut();
}

#[test]
fn bad_chunks_in_the_middle_cut_the_response() {
    for tail in ["zz\r\n", "-1\r\n", "4\r\nhalfX\r\n", "4\nhalf", "ffffffffffffffffff\r\n"] {
        let answer: &'static str = Box::leak(
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n{tail}")
                .into_boxed_str(),
        );
        let gate = Gate::default();
        let hold = gate.clone();
        let b1 = Backend::scripted("B1", move |exchange| {
            let (head, rest) = answer.split_at(answer.len() - tail.len());
            exchange.send(head);
            hold.pass();
            exchange.send(rest);
            exchange.wait_until_left();
        });
        let site = Site::before(&b1);
        let mut client = Client::plain(site.port());
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.peek_more();
        gate.open();
        let cut = client.read_cut();
        assert_ne!(cut.error.kind(), ErrorKind::InvalidData, "{tail:?}: {}", cut.error);
        eventually("the backend's connection is dropped", || b1.left() == 1);
    }
}

/// A site whose listener takes a client that ends its side for gone.
fn without_half_close(backend: &Backend) -> [Site; 2] {
    let fixed = "path = \"/fixed\"\nrespond = { status = 200, body = \"\" }";
    [Site::http(), Site::https()]
        .map(|site| site.listener("client_half_close = false").rule(fixed).backend(backend).start())
}

#[test]
fn er_06_a_fin_aborts_a_get_where_half_closing_is_off() {
    let b1 = Backend::hanging("B1");
    for site in without_half_close(&b1) {
        let (left, seen) = (b1.left(), b1.executions());
        let mut client = site.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        b1.wait_for_executions(seen + 1);
        client.half_close();
        eventually("the backend sees the connection end", || b1.left() > left);
        site.lockgate.wait_for_log(&["cause=client_gone", "status=499", "ended its side"]);
        assert_eq!(b1.executions(), seen + 1, "nothing is tried for nobody");
    }
}

/// What must not be left half done is done, whatever the client did.
#[test]
fn er_06_a_fin_lets_a_post_complete_where_half_closing_is_off() {
    let (b1, gate, done) = holds_posts();
    let [site, _] = without_half_close(&b1);
    let mut client = site.connect();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello");
    b1.wait_for_completed(1);
    client.half_close();
    // It is heard of before what the backend does next: there is one worker.
    for _ in 0..3 {
        site.get("/fixed").expect(200);
    }
    gate.open();
    done.pass();
    site.get("/").expect(200);
    assert_eq!(b1.left(), 0);
    site.lockgate.wait_for_log(&["status=499", "cause=client_gone"]);
}

/// The first backend ends the connection without an answer. What comes of that is
/// told; no other one works for who is most often gone.
#[test]
fn er_06_a_request_whose_client_ended_its_side_is_not_executed_again() {
    for (ends, executions) in [(true, 0), (false, 1)] {
        let gate = Gate::default();
        let hold = gate.clone();
        let b1 = Backend::scripted("B1", move |exchange| {
            hold.pass();
            exchange.close();
        });
        let b2 = Backend::named("B2");
        let site = Site::http()
            .rule("path = \"/fixed\"\nrespond = { status = 200, body = \"\" }")
            .backend(&b1)
            .backend_with(&b2, "backup = true")
            .start();
        let mut client = site.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        b1.wait_for_executions(1);
        if ends {
            client.half_close();
            // It is heard of before what the backend does next: there is one worker.
            for _ in 0..3 {
                site.get("/fixed").expect(200);
            }
        }
        gate.open();
        client.read().expect(if ends { 502 } else { 200 });
        assert_eq!(b2.executions(), executions, "ended: {ends}");
    }
}

/// Nothing was executed yet: the answer that is owed is worth another attempt.
#[test]
fn er_06_who_ended_his_side_is_served_by_another_backend_than_one_that_refuses() {
    let (port, b2) = (Port::reserve(), Backend::named("B2"));
    let site =
        Site::http().address(&port.refusing_address()).backend_with(&b2, "backup = true").start();
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.half_close();
    assert_eq!(client.read().expect(200).backend(), "B2");
}
