//! Bodies on their way: both directions flow at once, neither is kept whole,
//! a side that does not read stops the other, and nobody's bytes change.
//! Pipelining and early responses are here since they are about what is on the
//! wire at the same time.

use crate::support::{Backend, Client, Ending, Gate, Site, chunked, pattern, settled};

const BIG: usize = 20 * 1024 * 1024;

/// Answers with the body it was sent.
fn mirror(exchange: &mut crate::support::Exchange<'_>) {
    let body = exchange.read_body();
    exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
    exchange.send(body);
}

#[test]
fn twenty_mebibytes_both_ways_by_length() {
    let b1 = Backend::scripted("B1", mirror);
    let body = pattern(BIG);
    for site in [Site::before(&b1), Site::https().backend(&b1).start()] {
        let response = site.post("/", &body).expect(200);
        assert_eq!(response.ending, Ending::Length);
        assert!(response.body == body, "the bytes changed");
    }
}

#[test]
fn twenty_mebibytes_both_ways_chunked() {
    let b1 = Backend::scripted("B1", |exchange| {
        let body = exchange.read_body();
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        exchange.send(chunked(&body, 777_777, ""));
    });
    let site = Site::before(&b1);
    let body = pattern(BIG);
    let mut request =
        b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    request.extend(chunked(&body, 123_457, ""));
    let mut client = site.connect();
    let response = client.request(request).expect(200);
    assert!(response.body == body, "the bytes changed");
    client.assert_open("a.test");
}

#[test]
fn an_upload_reaches_the_backend_while_it_is_sent() {
    let b1 = Backend::scripted("B1", |exchange| {
        // The first half is there before the second was sent.
        let half = exchange.read_raw(5);
        exchange.send("HTTP/1.1 103 Early Hints\r\n\r\n");
        let rest = exchange.read_raw(5);
        let both = [half, rest].concat();
        exchange.reply(&String::from_utf8_lossy(&both));
        exchange.close();
    });
    let site = Site::before(&b1);
    let mut client = site.connect();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nfirst");
    assert!(client.read_head().starts_with("HTTP/1.1 103 "));
    client.send("later");
    assert_eq!(client.read().expect(200).text(), "firstlater");
}

#[test]
fn a_download_reaches_the_client_while_it_is_sent() {
    for head in
        ["Content-Length: 10\r\n\r\nfirst", "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"]
    {
        let gate = Gate::default();
        let hold = gate.clone();
        let chunked = head.contains("chunked");
        let first = format!("HTTP/1.1 200 OK\r\n{head}");
        let b1 = Backend::scripted("B1", move |exchange| {
            exchange.send(&first);
            hold.pass();
            exchange.send(if chunked { "5\r\nlater\r\n0\r\n\r\n" } else { "later" });
        });
        let site = Site::before(&b1);
        let mut client = site.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        while !String::from_utf8_lossy(&client.peek_more()).contains("first") {}
        gate.open();
        assert_eq!(client.read().expect(200).text(), "firstlater");
    }
}

#[test]
fn request_trailers_reach_the_backend() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut request =
        b"POST / HTTP/1.1\r\nHost: a.test\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    request.extend(chunked(b"a body", 3, "X-Sum: 42\r\n"));
    site.request(request).expect(200);
    let seen = b1.request();
    assert_eq!(seen.body, b"a body");
    assert_eq!(seen.trailers, [("X-Sum".to_owned(), "42".to_owned())]);
}

#[test]
fn request_trailers_cannot_frame_or_route() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    for field in [
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Host: b.test",
        "X-Forwarded-For: 6.6.6.6",
    ] {
        let mut request =
            b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        request.extend(chunked(b"a body", 3, &format!("{field}\r\nX-Sum: 1\r\n")));
        // Dropped or refused: never passed on.
        let mut client = site.connect();
        client.send(request);
        client.read();
        let trailers: Vec<_> =
            b1.requests().iter().flat_map(|request| request.trailers.clone()).collect();
        assert!(trailers.iter().all(|(name, _)| name == "X-Sum"), "{field}: {trailers:?}");
    }
}

#[test]
fn a_client_that_does_not_read_stops_the_backend() {
    const ALL: usize = 256 * 1024 * 1024;
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {ALL}\r\n\r\n"));
        exchange.pour(ALL);
    });
    let site = Site::before(&b1);
    let mut client = Client::plain_with_small_buffer(site.port());
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    // What the system's socket buffers hold, and little more.
    let taken = settled(|| b1.taken());
    assert!(taken < 32 * 1024 * 1024, "{taken} bytes taken for a client that reads nothing");
    client.reset();
}

/// More than a worker has pipes for: some bodies are copied, and each client gets
/// its own, however slowly it reads.
#[test]
fn many_slow_readers_get_their_own_bytes() {
    const LEN: usize = 3 * 1024 * 1024 + 11;
    let bytes = std::sync::Arc::new(pattern(LEN));
    let body = move |seed: usize| -> Vec<u8> {
        bytes.iter().map(|byte| byte.wrapping_add(u8::try_from(seed).unwrap())).collect()
    };
    let own = body.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        let seed = exchange.request().target()[1..].parse().unwrap();
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n"));
        exchange.send(own(seed));
    });
    let site = Site::before(&b1);
    let mut clients: Vec<Client> =
        (0..40).map(|_| Client::plain_with_small_buffer(site.port())).collect();
    for (seed, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET /{seed} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    }
    // Some leave with what is on its way to them.
    clients.drain(..5).for_each(Client::reset);
    for (at, client) in clients.iter_mut().enumerate() {
        let response = client.read().expect(200);
        assert!(response.body == body(at + 5), "the bytes of {} changed", at + 5);
    }
    for (seed, client) in (100..).zip(&mut clients) {
        let response = client.get("a.test", &format!("/{seed}")).expect(200);
        assert!(response.body == body(seed), "the bytes of {seed} changed");
    }
}

#[test]
fn a_large_body_that_ends_early_is_cut_and_not_ended() {
    const ALL: usize = 8 * 1024 * 1024;
    for sent in [ALL / 2, ALL - 1] {
        let b1 = Backend::scripted("B1", move |exchange| {
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {ALL}\r\n\r\n"));
            exchange.send(pattern(sent));
            exchange.close();
        });
        let site = Site::before(&b1);
        let mut client = site.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.read_cut();
        site.lockgate.wait_for_log(&["cause=body_closed", "phase=body"]);
    }
}

#[test]
fn a_backend_that_does_not_read_stops_the_client() {
    const ALL: usize = 256 * 1024 * 1024;
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        hold.pass();
        exchange.close();
    });
    let site = Site::before(&b1);
    let mut client = site.connect();
    client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {ALL}\r\n\r\n"));
    let sent = client.send_until_blocked(&[b'x'; 64 * 1024], ALL);
    assert!(sent < 32 * 1024 * 1024, "{sent} bytes taken for a backend that reads nothing");
    gate.open();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let b1 = Backend::named("B1");
    let site = Site::http()
        .rule("path = \"/fixed\"\nrespond = { status = 200, body = \"fixed\" }")
        .backend(&b1)
        .start();
    let mut client = site.connect();
    let mut bytes = Vec::new();
    for target in ["/slow/200", "/fixed", "/drip", "/slow/1", "/last"] {
        bytes.extend(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes());
    }
    client.send(bytes);
    assert!(client.read().expect(200).text().contains("GET /slow/200 "));
    assert_eq!(client.read().expect(200).text(), "fixed");
    assert_eq!(client.read().expect(200).text(), "drips\n");
    assert!(client.read().expect(200).text().contains("GET /slow/1 "));
    assert!(client.read().expect(200).text().contains("GET /last "));
}

#[test]
fn pipelined_bodies_are_not_mixed_up() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut client = site.connect();
    let post = "POST /one HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc";
    let chunks = "POST /two HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                  3\r\ndef\r\n0\r\n\r\n";
    let get = "GET /three HTTP/1.1\r\nHost: a.test\r\n\r\n";
    client.send(format!("{post}{chunks}{get}"));
    for target in ["/one", "/two", "/three"] {
        assert!(client.read().expect(200).text().contains(target));
    }
    let bodies: Vec<Vec<u8>> = b1.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [b"abc".to_vec(), b"def".to_vec(), Vec::new()]);
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut client = site.connect();
    let request = "POST /bits HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
    for byte in request.as_bytes() {
        client.send([*byte]);
    }
    client.read().expect(200);
    assert_eq!(b1.request().body, b"abc0123456789");
    client.assert_open("a.test");
}

#[test]
fn a_response_may_come_byte_by_byte() {
    let b1 = Backend::scripted("B1", |exchange| {
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                      3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
        for byte in answer.as_bytes() {
            exchange.send([*byte]);
        }
    });
    let site = Site::before(&b1);
    let mut client = site.connect();
    for _ in 0..2 {
        assert_eq!(client.get("a.test", "/").expect(200).text(), "abc0123456789");
    }
    assert_eq!(b1.connections(), 1);
}

#[test]
fn an_early_response_reaches_a_client_that_still_sends() {
    for close in ["Connection: close\r\n", ""] {
        let answer = format!("HTTP/1.1 403 Forbidden\r\n{close}Content-Length: 2\r\n\r\nno");
        let b1 = Backend::scripted("B1", move |exchange| {
            exchange.send(&answer);
            exchange.close();
        });
        let site = Site::before(&b1);
        let mut client = site.connect();
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10000000\r\n\r\n");
        client.send([b'x'; 64 * 1024]);
        assert_eq!(client.read().expect(403).text(), "no");
        // The rest of the body is not a request.
        let _ = client.try_send("GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(b1.executions(), 1);
        site.get("/").expect(403);
        assert!(b1.requests().iter().all(|request| request.target() == "/"));
    }
}

#[test]
fn an_early_response_does_not_end_an_upload_the_backend_still_reads() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n");
        let body = exchange.read_body();
        exchange.send(format!("5\r\n{:05}\r\n0\r\n\r\n", body.len()));
    });
    let site = Site::before(&b1);
    let mut client = site.connect();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nfirst");
    while !String::from_utf8_lossy(&client.peek_more()).contains("early") {}
    client.send("later");
    assert_eq!(client.read().expect(200).text(), "early00010");
    assert_eq!(b1.request().body, b"firstlater");
}

#[test]
fn a_half_closed_client_gets_its_answer() {
    let b1 = Backend::named("B1");
    for site in [Site::before(&b1), Site::https().backend(&b1).start()] {
        let mut client = site.connect();
        client.send("GET /slow/200 HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.half_close();
        assert_eq!(client.read().expect(200).backend(), "B1");
        client.assert_closed();
    }
}
