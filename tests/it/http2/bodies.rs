//! Bodies over HTTP/2: both ways, at the slower side's pace, with trailers,
//! many at once.

use std::collections::VecDeque;
use std::time::Duration;

use h2::Reason;
use http::{HeaderMap, Method};

use super::{before, with_fields};
use crate::support::h2_frames::{self, DATA, END_STREAM, Frames, HEADERS};
use crate::support::{Backend, Exchange, Gate, H2, H2Stream, Site, chunked, pattern, settled};

const MIB: usize = 1024 * 1024;

#[test]
fn an_upload_arrives_as_it_was() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let body = pattern(5 * MIB);
    let mut h2 = H2::to(&site);
    h2.post("/", &body).expect(200);
    let seen = b1.requests().pop().unwrap();
    assert_eq!(seen.value("transfer-encoding"), "chunked");
    assert!(seen.values("content-length").is_empty());
    assert!(seen.body == body, "the bytes changed");
    let length = body.len().to_string();
    let request = with_fields(h2.request(Method::POST, "/"), &[("content-length", &length)]);
    let mut stream = h2.begin(request, false);
    stream.send(&body);
    stream.finish();
    stream.read().expect(200);
    let seen = b1.requests().pop().unwrap();
    assert_eq!(seen.value("content-length"), length);
    assert!(seen.values("transfer-encoding").is_empty());
    assert!(seen.body == body, "the bytes changed");
    // The connection to the backend is still in step.
    h2.get("/").expect(200);
    assert_eq!(b1.connections(), 1);
}

#[test]
fn a_download_arrives_as_it_was() {
    // It says so, or its end could meet the next request.
    let close = "Connection: close\r\n";
    let body = pattern(5 * MIB);
    let length =
        format!("HTTP/1.1 200 OK\r\n{close}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    let chunks =
        format!("HTTP/1.1 200 OK\r\n{close}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    let closed = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    for (head, framed) in [
        (length, body.clone()),
        (chunks.clone(), chunked(&body, 70_000, "")),
        (chunks, chunked(&body[..100_000], 3, "")),
        (closed, body.clone()),
    ] {
        let whole = if framed.len() < body.len() { &body[..100_000] } else { &body[..] };
        let b1 = Backend::answering_then_closing("B1", [head, framed].concat());
        let site = before(&b1);
        // A small window as well: then it comes in small pieces.
        for window in [1 << 20, 1000] {
            let mut h2 = H2::with(site.port(), "a.test", |builder| {
                builder.initial_window_size(window).data_frame_budget(usize::MAX / 2);
            });
            let response = h2.get("/").expect(200);
            assert!(response.body == whole, "the bytes changed");
        }
    }
}

#[test]
fn bodies_go_both_ways_at_once() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            // A chunk of 5 bytes is `5\r\n`, those, and a line end.
            let chunk = exchange.read_raw(10);
            exchange.send(&chunk);
        }
        exchange.read_raw(5);
        exchange.send("0\r\n\r\n");
        exchange.close();
    });
    let site = before(&b1);
    let mut stream = H2::to(&site).begin_post("/");
    assert_eq!(stream.head().status, 200);
    for word in [b"first", b"other", b"third"] {
        stream.send(word);
        assert_eq!(stream.read_exactly(5), word);
    }
    stream.finish();
    assert_eq!(stream.try_piece().unwrap(), None);
}

#[test]
fn a_download_reaches_the_client_while_it_is_sent() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        hold.pass();
        exchange.send("later");
    });
    let site = before(&b1);
    let mut stream = H2::to(&site).begin_get("/");
    assert_eq!(stream.head().status, 200);
    assert_eq!(stream.read_exactly(5), b"first");
    gate.open();
    assert_eq!(stream.read_exactly(5), b"later");
    assert_eq!(stream.try_piece().unwrap(), None);
}

/// A frame of its own for the end would be one more for both sides to handle,
/// for every response.
#[test]
fn the_end_comes_with_the_last_bytes_of_a_small_response() {
    for answer in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ] {
        let b1 = Backend::answering_then_closing(
            "B1",
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{answer}").into_bytes(),
        );
        let site = before(&b1);
        let client = Frames::to(&site);
        client.send(h2_frames::request(1, "GET", "/", &[], true));
        assert_eq!(client.wait_for(HEADERS, 1).flags & END_STREAM, 0);
        let data = client.wait_for(DATA, 1);
        assert_eq!((&data.payload[..], data.flags & END_STREAM), (&b"hello"[..], END_STREAM));
    }
}

fn trailers(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

#[test]
fn request_trailers_reach_the_backend() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let mut stream = H2::to(&site).begin_post("/");
    stream.send(b"a body");
    stream.finish_with(trailers(&[("x-sum", "42"), ("x-more", "ä")]));
    stream.read().expect(200);
    let seen = b1.request();
    assert_eq!(seen.body, b"a body");
    let of = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(seen.trailers, [of("x-sum", "42"), of("x-more", "ä")]);
}

#[test]
fn request_trailers_cannot_frame_or_route() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    for (name, value) in
        [("content-length", "3"), ("host", "b.test"), ("x-forwarded-for", "6.6.6.6")]
    {
        let mut stream = h2.begin_post("/");
        stream.send(b"a body");
        stream.finish_with(trailers(&[(name, value), ("x-sum", "1")]));
        // Dropped or refused: never passed on.
        let _ = stream.try_read();
        let seen: Vec<_> =
            b1.requests().iter().flat_map(|request| request.trailers.clone()).collect();
        assert!(seen.iter().all(|(name, _)| name == "x-sum"), "{name}: {seen:?}");
    }
}

#[test]
fn response_trailers_reach_the_client() {
    let mut answer =
        b"HTTP/1.1 200 OK\r\nTrailer: Grpc-Status\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    answer.extend(chunked(
        b"a body",
        4,
        "Grpc-Status: 0\r\nX-Sum: 42\r\nContent-Length: 7\r\nConnection: close\r\n",
    ));
    let empty = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        chunked(b"", 1, "Grpc-Status: 5\r\n"),
    ]
    .concat();
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.send(if exchange.request().target() == "/empty" { &empty } else { &answer });
    });
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let response = h2.get("/").expect(200);
    assert_eq!(response.text(), "a body");
    let got = response.trailers.expect("trailers");
    assert_eq!(got, trailers(&[("grpc-status", "0"), ("x-sum", "42")]));
    let response = h2.get("/empty").expect(200);
    assert_eq!(response.trailers.expect("trailers"), trailers(&[("grpc-status", "5")]));
    assert!(response.body.is_empty());
}

#[test]
fn a_backend_that_does_not_read_stops_the_client() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        hold.pass();
        exchange.read_body();
        exchange.reply("all of it");
    });
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_post("/");
    let body = vec![b'x'; 64 * MIB];
    let sent = stream.send_until_blocked(&body, Duration::from_millis(500));
    // What the system's socket buffers hold, and the credit of one request.
    assert!(sent < 16 * MIB, "{sent} bytes taken for a backend that reads nothing");
    // Others on the connection have their own credit.
    let mut other = h2.begin_post("/");
    let credit = other.send_until_blocked(&[b'x'; 100], Duration::from_secs(5));
    assert_eq!(credit, 100);
    gate.open();
    stream.finish();
    other.finish();
    assert_eq!(stream.read().expect(200).text(), "all of it");
    other.read().expect(200);
    assert_eq!(b1.requests().iter().map(|request| request.body.len()).max(), Some(sent));
}

#[test]
fn a_client_that_gives_no_window_stops_the_backend() {
    const ALL: usize = 256 * MIB;
    let b1 = Backend::scripted("B1", |exchange| {
        if exchange.request().target() == "/small" {
            return exchange.reply("small");
        }
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {ALL}\r\n\r\n"));
        exchange.pour(ALL);
    });
    let site = before(&b1);
    let mut h2 = H2::with(site.port(), "a.test", |builder| {
        builder.initial_window_size(100_000).initial_connection_window_size(1 << 20);
    });
    let mut stream = h2.begin_get("/");
    assert_eq!(stream.head().status, 200);
    let taken = settled(|| b1.taken());
    assert!(taken < 16 * MIB, "{taken} bytes taken for a client that reads nothing");
    // It stops this stream alone.
    assert_eq!(h2.get("/small").expect(200).text(), "small");
    stream.reset(Reason::CANCEL);
    crate::support::eventually("the backend is let go", || b1.open() == 1);
}

#[test]
fn write_timeout_ends_a_stream_whose_client_gives_no_window() {
    const ALL: usize = 64 * MIB;
    let b1 = Backend::scripted("B1", |exchange| {
        if exchange.request().target() == "/small" {
            return exchange.reply("small");
        }
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {ALL}\r\n\r\n"));
        exchange.pour(ALL);
    });
    let site = Site::https().listener("write_timeout = \"300ms\"").backend(&b1).start();
    let mut h2 = H2::with(site.port(), "a.test", |builder| {
        builder.initial_window_size(1000);
    });
    let mut stream = h2.begin_get("/");
    assert_eq!(stream.head().status, 200);
    stream.reset_by_server();
    site.lockgate.wait_for_log(&["cause=client_timeout"]);
    assert_eq!(h2.get("/small").expect(200).text(), "small");
}

#[test]
fn body_timeout_is_408_while_other_streams_go_on() {
    let b1 = Backend::named("B1");
    let site = Site::https().listener("body_timeout = \"300ms\"").backend(&b1).start();
    let mut h2 = H2::to(&site);
    let mut slow = h2.begin_post("/");
    slow.send(b"a part");
    h2.get("/slow/600").expect(200);
    slow.read().expect(408);
    assert_eq!(b1.completed(), 1);
    h2.get("/").expect(200);
}

#[test]
fn an_early_response_reaches_a_client_that_still_sends() {
    for close in ["Connection: close\r\n", ""] {
        let answer = format!("HTTP/1.1 403 Forbidden\r\n{close}Content-Length: 2\r\n\r\nno");
        let b1 = Backend::scripted("B1", move |exchange| {
            if exchange.request().method() == "GET" {
                return exchange.reply("fine");
            }
            exchange.send(&answer);
            exchange.close();
        });
        let site = before(&b1);
        let mut h2 = H2::to(&site);
        for _ in 0..20 {
            let mut stream = h2.begin_post("/");
            let _ = stream.send_until_blocked(&[b'x'; 64 * 1024], Duration::from_millis(50));
            assert_eq!(stream.head().status, 403);
            assert_eq!(stream.read_exactly(2), b"no");
            // The end of the response, or RST_STREAM that says no more than
            // that the rest is not wanted.
            match stream.try_piece() {
                Ok(None) => {}
                Ok(more) => panic!("more of the body: {more:?}"),
                Err(error) => assert_eq!(error.reason(), Some(Reason::NO_ERROR), "{error}"),
            }
            h2.get("/").expect(200);
        }
        // No credit of the connection was lost on the way.
        assert!(h2.is_open());
        let mut stream = h2.begin_post("/");
        let _ = stream.send_until_blocked(&vec![b'x'; MIB], Duration::from_millis(300));
        h2.get("/").expect(200);
    }
}

#[test]
fn refused_uploads_give_their_credit_back() {
    let b1 = Backend::named("B1");
    let site = Site::https()
        .rule("path = \"/no\"\nrespond = { status = 403, body = \"no\" }")
        .backend(&b1)
        .start();
    let mut h2 = H2::to(&site);
    for _ in 0..40 {
        let mut stream = h2.begin_post("/no");
        let _ = stream.send_until_blocked(&[b'x'; 200 * 1024], Duration::from_millis(50));
        assert_eq!(stream.read().expect(403).text(), "no");
    }
    let body = pattern(2 * MIB);
    h2.post("/", &body).expect(200);
    assert!(b1.request().body == body, "the bytes changed");
}

#[test]
fn an_early_response_does_not_end_an_upload_the_backend_still_reads() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n");
        let body = exchange.read_body();
        exchange.send(format!("5\r\n{:05}\r\n0\r\n\r\n", body.len()));
    });
    let site = before(&b1);
    let mut stream = H2::to(&site).begin_post("/");
    stream.send(b"first");
    assert_eq!(stream.head().status, 200);
    assert_eq!(stream.read_exactly(5), b"early");
    stream.send(b"later");
    stream.finish();
    assert_eq!(stream.read_exactly(5), b"00010");
    assert_eq!(stream.try_piece().unwrap(), None);
    assert_eq!(b1.request().body, b"firstlater");
}

/// A gate of its own for each of a hundred requests `/N`.
fn gated(count: usize) -> (Backend, Vec<Gate>) {
    let gates: Vec<Gate> = (0..count).map(|_| Gate::default()).collect();
    let of_backend = gates.clone();
    let backend = Backend::scripted("B1", move |exchange: &mut Exchange<'_>| {
        let target = exchange.request().target();
        let number: usize = target.trim_start_matches('/').parse().unwrap();
        of_backend[number].pass();
        exchange.reply(&format!("answer {number}"));
    });
    (backend, gates)
}

#[test]
fn a_hundred_requests_at_once_end_in_any_order() {
    let (b1, gates) = gated(100);
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let mut streams: VecDeque<(usize, H2Stream)> =
        (0..100).map(|number| (number, h2.begin_get(&format!("/{number}")))).collect();
    b1.wait_for_executions(100);
    // The last one first, then from both ends in turn.
    let mut last = true;
    while let Some((number, stream)) = if last { streams.pop_back() } else { streams.pop_front() } {
        gates[number].open();
        assert_eq!(stream.read().expect(200).text(), format!("answer {number}"));
        last = !last;
    }
    assert!(h2.is_open());
}

#[test]
fn big_answers_at_once_do_not_mix() {
    let b1 = Backend::scripted("B1", |exchange| {
        let target = exchange.request().target();
        let number: usize = target.trim_start_matches('/').parse().unwrap();
        let body = pattern(300_000 + number);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        exchange.send([head.as_bytes(), &body].concat());
    });
    let site = before(&b1);
    let mut h2 = H2::with(site.port(), "a.test", |builder| {
        builder.initial_window_size(20_000).initial_connection_window_size(1 << 20);
    });
    let streams: Vec<_> = (0..30).map(|number| h2.begin_get(&format!("/{number}"))).collect();
    for (number, stream) in streams.into_iter().enumerate() {
        assert!(stream.read().expect(200).body == pattern(300_000 + number), "{number}");
    }
}

#[test]
fn a_hundred_and_twenty_eight_streams_are_allowed() {
    let (b1, gates) = gated(130);
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let streams: Vec<_> = (0..128).map(|number| h2.begin_get(&format!("/{number}"))).collect();
    b1.wait_for_executions(128);
    assert_eq!(h2.max_streams(), 128);
    for gate in &gates {
        gate.open();
    }
    for stream in streams {
        stream.read().expect(200);
    }
}
