//! How things end over HTTP/2: clients and backends that leave in the middle,
//! deadlines, GOAWAY.

use h2::Reason;
use rustix::process::Signal;

use super::before;
use crate::support::h2_frames::{self, Frames, GOAWAY, HEADERS};
use crate::support::{Backend, Gate, H2, Site, eventually};

#[test]
fn er_06_rst_stream_aborts_a_get() {
    let b1 = Backend::hanging("B1");
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_get("/");
    b1.wait_for_executions(1);
    stream.reset(Reason::CANCEL);
    eventually("the backend sees the connection end", || b1.left() == 1);
    site.lockgate.wait_for_log(&["cause=client_gone", "status=499"]);
    assert!(h2.is_open());
}

#[test]
fn er_06_rst_stream_while_the_body_flows_aborts_a_get() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        exchange.wait_until_left();
    });
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_get("/");
    assert_eq!(stream.head().status, 200);
    stream.read_exactly(5);
    stream.reset(Reason::CANCEL);
    eventually("the backend sees the connection end", || b1.left() == 1);
}

#[test]
fn er_06_rst_stream_inside_the_body_aborts_a_post() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_post("/");
    stream.send(b"half");
    b1.wait_for_executions(1);
    stream.reset(Reason::CANCEL);
    eventually("the backend's connection ends", || b1.open() == 0);
    assert_eq!(b1.completed(), 0);
    h2.get("/").expect(200);
}

#[test]
fn er_06_a_connection_that_ends_aborts_its_gets() {
    for reset in [true, false] {
        let b1 = Backend::hanging("B1");
        let site = before(&b1);
        let mut h2 = H2::to(&site);
        let _streams: Vec<_> = (0..5).map(|_| h2.begin_get("/")).collect();
        b1.wait_for_executions(5);
        if reset {
            h2.reset();
        } else {
            h2.close();
        }
        eventually("the backend sees the connections end", || b1.left() == 5);
    }
}

/// How a client leaves a POST behind.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    Stream,
    Reset,
    Close,
}

/// A client leaves while a POST, all of which arrived, is at the backend,
/// which answers afterwards: it must not have been aborted.
fn leaves_a_post(leaving: Leaving) {
    let (gate, done) = (Gate::default(), Gate::default());
    let (hold, finished) = (gate.clone(), done.clone());
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.read_body();
        let post = exchange.request().method() == "POST";
        if post {
            hold.pass();
        }
        // More than what fits on the way to a client that is gone.
        exchange.reply(&"done".repeat(if post { 1 << 20 } else { 1 }));
        finished.open();
    });
    let site = Site::https()
        .rule("path = \"/fixed\"\nrespond = { status = 200, body = \"\" }")
        .backend(&b1)
        .start();
    // Answered after what happened before was seen: there is one worker.
    let pass_by = || {
        for _ in 0..3 {
            site.get("/fixed").expect(200);
        }
    };
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_post("/");
    stream.send(b"hello");
    stream.finish();
    b1.wait_for_completed(1);
    match leaving {
        Leaving::Stream => {
            stream.reset(Reason::CANCEL);
            // The reset was read when this is answered.
            h2.get("/fixed").expect(200);
        }
        Leaving::Reset => h2.reset(),
        Leaving::Close => h2.close(),
    }
    pass_by();
    gate.open();
    done.pass();
    pass_by();
    // The connection was not aborted: it serves the next request.
    site.get("/").expect(200);
    assert_eq!(b1.connections(), 1, "{leaving:?}");
    site.lockgate.wait_for_log(&["status=499", "cause=client_gone"]);
}

#[test]
fn er_06_a_post_whose_body_had_arrived_completes_after_rst_stream() {
    leaves_a_post(Leaving::Stream);
}

#[test]
fn er_06_a_post_whose_body_had_arrived_completes_after_a_reset() {
    leaves_a_post(Leaving::Reset);
}

#[test]
fn er_06_a_post_whose_body_had_arrived_completes_after_a_close() {
    leaves_a_post(Leaving::Close);
}

#[test]
fn a_response_cut_short_is_reset_with_internal_error() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let gate = Gate::default();
        for waits in [true, false] {
            let hold = gate.clone();
            let b1 = Backend::scripted("B1", move |exchange| {
                if exchange.request().target() == "/fine" {
                    return exchange.reply("fine");
                }
                exchange.send(answer);
                if waits {
                    hold.pass();
                }
                exchange.close();
            });
            let site = before(&b1);
            let mut h2 = H2::to(&site);
            let mut stream = h2.begin_get("/");
            if waits && !answer.contains("zz") {
                assert_eq!(stream.head().status, 200);
                assert_eq!(stream.read_exactly(4), b"half");
                gate.open();
            }
            assert_eq!(stream.cut(), Reason::INTERNAL_ERROR, "{answer}");
            site.lockgate.wait_for_log(&["cause=body_closed", "request_id="]);
            // The others on the connection go on.
            h2.get("/fine").expect(200);
        }
    }
}

#[test]
fn a_close_delimited_response_that_is_reset_is_cut() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\n\r\nhalf");
        hold.pass();
        exchange.reset();
    });
    let site = before(&b1);
    let mut stream = H2::to(&site).begin_get("/");
    assert_eq!(stream.head().status, 200);
    assert_eq!(stream.read_exactly(4), b"half");
    gate.open();
    assert_eq!(stream.cut(), Reason::INTERNAL_ERROR);
}

#[test]
fn failures_before_the_head_are_answers() {
    let b1 = Backend::named("B1");
    let site = Site::https()
        .listener("max_body = \"1MiB\"")
        .group("response_timeout = \"300ms\"")
        .backend(&b1)
        .start();
    let mut h2 = H2::to(&site);
    h2.get("/close").expect(502);
    let mut hanging = h2.begin_get("/slow/5000");
    // While it hangs the others go on.
    for _ in 0..20 {
        h2.get("/").expect(200);
    }
    let response = hanging.try_read().expect("an answer").expect(504);
    assert!(!response.body.is_empty());
    h2.get("/").expect(200);
    site.lockgate.wait_for_log(&["cause=closed_before_header", "status=502"]);
    site.lockgate.wait_for_log(&["cause=header_timeout", "status=504"]);
}

#[test]
fn a_body_that_stalls_is_cut_while_others_go_on() {
    let b1 = Backend::scripted("B1", |exchange| {
        if exchange.request().target() == "/fine" {
            return exchange.reply("fine");
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        exchange.wait_until_left();
    });
    let site = Site::https().group("response_timeout = \"300ms\"").backend(&b1).start();
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_get("/");
    assert_eq!(stream.head().status, 200);
    h2.get("/fine").expect(200);
    assert_eq!(stream.cut(), Reason::INTERNAL_ERROR);
    eventually("the backend is let go", || b1.left() == 1);
    h2.get("/fine").expect(200);
    site.lockgate.wait_for_log(&["cause=body_timeout"]);
}

#[test]
fn term_lets_streams_in_flight_finish() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        let body = exchange.read_body();
        if exchange.request().target() == "/body" {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
            hold.pass();
            return exchange.send("later");
        }
        hold.pass();
        exchange.reply(&format!("{} bytes", body.len()));
    });
    let mut site = before(&b1);
    let mut h2 = H2::to(&site);
    let waiting: Vec<_> = (0..10).map(|_| h2.begin_get("/")).collect();
    let mut body = h2.begin_get("/body");
    let mut upload = h2.begin_post("/");
    upload.send(b"first");
    assert_eq!(body.head().status, 200);
    b1.wait_for_executions(12);
    site.lockgate.signal(Signal::TERM);
    // GOAWAY is there when nothing new may begin.
    eventually("no new stream may begin", || {
        let request = h2.request(http::Method::GET, "/late");
        match h2.try_begin(request, true) {
            Err(_) => true,
            Ok(mut stream) => {
                stream.reset(Reason::CANCEL);
                false
            }
        }
    });
    upload.send(b"later");
    upload.finish();
    gate.open();
    for stream in waiting {
        assert_eq!(stream.read().expect(200).text(), "0 bytes");
    }
    assert_eq!(body.read_exactly(10), b"firstlater");
    assert_eq!(body.try_piece().unwrap(), None);
    assert_eq!(upload.read().expect(200).text(), "10 bytes");
    h2.end().expect("GOAWAY without an error");
    assert_eq!(site.lockgate.exit_code(), 0);
}

#[test]
fn term_says_goaway_to_idle_connections_and_exits_0() {
    let b1 = Backend::named("B1");
    let mut site = before(&b1);
    let idle = Frames::to(&site);
    let used = Frames::to(&site);
    used.send(h2_frames::request(1, "GET", "/", &[], true));
    used.wait_for(HEADERS, 1);
    site.lockgate.signal(Signal::TERM);
    for client in [&idle, &used] {
        let codes = client.goaways();
        assert!(!codes.is_empty() && codes.iter().all(|code| *code == 0), "{codes:?}");
    }
    assert_eq!(site.lockgate.exit_code(), 0);
}

#[test]
fn term_ends_although_a_client_does_not_read_or_answer() {
    let b1 = Backend::named("B1");
    let mut site = before(&b1);
    let deaf = Frames::deaf(&site);
    deaf.send(h2_frames::request(1, "GET", "/", &[], true));
    b1.wait_for_executions(1);
    assert_eq!(site.lockgate.terminate(), 0);
}

#[test]
fn lm_02_an_idle_connection_gets_goaway() {
    let b1 = Backend::named("B1");
    let mut site = Site::https().listener("idle_timeout = \"300ms\"").backend(&b1).start();
    let client = Frames::to(&site);
    let begin = std::time::Instant::now();
    client.send(h2_frames::request(1, "GET", "/slow/900", &[], true));
    // A waiting request is no silence.
    client.wait_for(HEADERS, 1);
    let answered = begin.elapsed().as_millis();
    assert!(answered >= 900, "{answered} ms");
    // Pings are no requests.
    client.ping();
    let last = client.wait_for(GOAWAY, 0);
    assert_eq!(last.number(4), 0);
    assert!(begin.elapsed().as_millis() >= 1200);
    assert!(client.goaways().iter().all(|code| *code == 0));
    let log = site.lockgate.log_to_the_end();
    assert!(!log.contains("cause="), "{log}");
}

#[test]
fn a_connection_without_any_request_is_closed() {
    let b1 = Backend::named("B1");
    let site = Site::https().process("[limits]\nheader_timeout = \"300ms\"").backend(&b1).start();
    let client = Frames::to(&site);
    assert!(client.goaways().iter().all(|code| *code == 0));
    // Also one that does not even say the preface.
    let mut client = crate::support::TlsOffer::to("a.test").alpn(&["h2"]).connect(site.port());
    client.as_mut().unwrap().read_to_end();
    // And one that never ends its head.
    let client = Frames::to(&site);
    let part = h2_frames::block(&h2_frames::pseudo("GET", "/"));
    client.send(h2_frames::frame(HEADERS, h2_frames::END_STREAM, 1, &part));
    client.goaways();
    b1.assert_untouched();
}

#[test]
fn lm_01_max_requests_ends_a_connection_with_goaway() {
    let b1 = Backend::named("B1");
    let site = Site::https().listener("max_requests = 3").backend(&b1).start();
    let mut h2 = H2::to(&site);
    for _ in 0..3 {
        h2.get("/").expect(200);
    }
    h2.end().expect("GOAWAY without an error");
    assert_eq!(b1.executions(), 3);
}
