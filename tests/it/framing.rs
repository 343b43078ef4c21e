//! Bytes with more than one meaning (ER-04). A request that is malformed or
//! ambiguous is 400, the connection ends, and no backend hears a byte of it;
//! a response like that is 502. Every case is sent as it stands here.

use std::sync::Arc;

use crate::support::{Backend, Client, Response, Site};

/// Sends these bytes, which must be refused with 400 and the connection's
/// end. A request that follows them must not be answered.
#[track_caller]
fn refused(site: &Site, backend: &Backend, bytes: &[u8]) {
    let before = (backend.connections(), backend.executions());
    let shown = String::from_utf8_lossy(bytes).into_owned();
    let mut client = Client::plain(site.port());
    client.send(bytes);
    let Some(response) = client.read_or_cut() else {
        panic!("no answer to {shown:?}");
    };
    assert_eq!(response.status, 400, "{shown:?}");
    assert!(client.read_to_end().is_empty(), "more than one answer to {shown:?}");
    let after = (backend.connections(), backend.executions());
    assert_eq!(after, before, "the backend got {shown:?}");
}

/// The same for heads that are completed by `Host` and an empty line, and
/// followed by another request.
#[track_caller]
fn refused_heads(heads: &[&str]) {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    for head in heads {
        let next = "GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n";
        refused(&site, &b1, format!("{head}\r\n\r\n{next}").as_bytes());
    }
    b1.assert_untouched();
    site.lockgate.wait_for_log(&["cause=malformed", "request_id="]);
    site.get("/").expect(200);
}

/// Requests with these field lines.
#[track_caller]
fn refused_fields(fields: &[&str]) {
    let heads: Vec<String> =
        fields.iter().map(|field| format!("POST / HTTP/1.1\r\nHost: a.test\r\n{field}")).collect();
    refused_heads(&heads.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn er_04_bad_request_lines() {
    let host = "\r\nHost: a.test";
    let lines = [
        "get / HTTP/1.1",
        "Get / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1 x",
        "GET /a b HTTP/1.1",
        "GET HTTP/1.1",
        "GET /",
        "GET",
        "/ HTTP/1.1",
        "GET x HTTP/1.1",
        "GET ?x HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/2.0",
        "GET / HTTP/0.9",
        "GET / HTTP/1",
        "GET / HTTP/1.1.1",
        "GET / HTTP/11",
        "GET / HTTP/1.x",
        "GET / XTTP/1.1",
        "G@T / HTTP/1.1",
        "GE\u{e9}T / HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET http:///x HTTP/1.1",
        "GET http://user@a.test/ HTTP/1.1",
        "GET http://a.test:x/ HTTP/1.1",
        "GET ftp://a.test/ HTTP/1.1",
        "GET a.test:80 HTTP/1.1",
    ];
    let heads: Vec<String> = lines.iter().map(|line| format!("{line}{host}")).collect();
    refused_heads(&heads.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn er_04_two_lengths() {
    refused_fields(&[
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\ncontent-length: 5",
        "Content-Length: 5, 6",
        "Content-Length: 5, 5",
    ]);
}

#[test]
fn er_04_length_and_coding_together() {
    refused_fields(&[
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "transfer-encoding: identity\r\ncontent-length: 5",
    ]);
}

#[test]
fn er_04_bad_lengths() {
    refused_fields(&[
        "Content-Length: -1",
        "Content-Length: +5",
        "Content-Length: 5 5",
        "Content-Length: 0x5",
        "Content-Length: 5a",
        "Content-Length: ",
        "Content-Length: 5,",
        "Content-Length: \"5\"",
        "Content-Length: 5.0",
        "Content-Length: 99999999999999999999",
        "Content-Length: 18446744073709551616",
    ]);
}

#[test]
fn er_04_bad_codings() {
    refused_fields(&[
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked x",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: ",
        "Transfer_Encoding : chunked",
    ]);
}

#[test]
fn er_04_a_coding_in_http_1_0() {
    refused_heads(&["POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked"]);
}

#[test]
fn er_04_bad_field_lines() {
    refused_fields(&[
        "X-A: 1\r\n 2",
        "X-A: 1\r\n\t2",
        "X-A : 1",
        "X-A\t: 1",
        "X A: 1",
        ": 1",
        "X-A",
        "X-\u{e9}: 1",
        "X(A): 1",
        "X-A: 1\n2",
        "X-A: 1\r2",
        "X-A: 1\r",
        "X-A: a\0b",
        "X\0A: 1",
        "X-A: a\u{1}b",
        "X-A: a\u{7f}b",
        "X-A: 1\nX-B: 2",
        "Transfer-Encoding\r\n: chunked",
    ]);
    // A fold right behind the request line, and bare LF everywhere.
    refused_heads(&[
        "GET / HTTP/1.1\r\n X-A: 1\r\nHost: a.test",
        "GET / HTTP/1.1\nHost: a.test",
        "GET / HTTP/1.1\r\nHost: a.test\nX-A: 1",
    ]);
}

#[test]
fn er_04_bad_hosts() {
    refused_heads(&[
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test",
        "GET / HTTP/1.1\r\nHost: a.test\r\nhost: b.test",
        "GET / HTTP/1.1\r\nHost: a.test, b.test",
        "GET / HTTP/1.1\r\nHost: a.test b.test",
        "GET / HTTP/1.1\r\nHost: a.test/x",
        "GET / HTTP/1.1\r\nHost: a.test:x",
        "GET / HTTP/1.1\r\nHost: user@a.test",
        "GET / HTTP/1.1\r\nHost: a.test?x",
        "GET / HTTP/1.1\r\nHost: http://a.test",
        "GET http://a.test/ HTTP/1.1",
        "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nHost: b.test",
    ]);
}

#[test]
fn er_04_bad_chunks() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let bodies: &[&str] = &[
        "zz\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-A : 1\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-A: 1\n\r\n",
        "5\r\nhello\r\n0\r\n X-A: 1\r\n\r\n",
        "5\r\nhello\r\n0\r\nX-A: 1\r\n 2\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
    ];
    for body in bodies {
        let mut client = site.connect();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}\
             GET /next HTTP/1.1\r\nHost: a.test\r\n\r\n"
        ));
        let Some(response) = client.read_or_cut() else {
            panic!("no answer to {body:?}");
        };
        assert_eq!(response.status, 400, "{body:?}");
        assert!(client.read_to_end().is_empty(), "more than one answer to {body:?}");
        // The head may have gone ahead; a whole request never arrives.
        assert_eq!(b1.completed(), 0, "{body:?}: {:?}", b1.requests());
    }
    site.get("/").expect(200);
}

#[test]
fn er_04_a_chunk_extension_of_any_length_is_no_way_to_hide() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let long = "x".repeat(1 << 20);
    let mut client = site.connect();
    let _ = client.try_send(format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5;{long}\r\nhello"
    ));
    if let Some(response) = client.read_or_cut() {
        assert_eq!(response.status, 400);
    }
    assert_eq!(b1.completed(), 0);
}

#[test]
fn odd_but_valid_requests_are_served() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    for request in [
        "\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nhOST: \t a.test \t\r\n\r\n",
        "GET / HTTP/1.1\r\nX-Any!#$%&'*+-.^_`|~9: \u{e9}\u{ff}\r\nHost: a.test\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nok",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: CHUNKED\r\n\r\n\
         0005;ext=\"a b\"\r\nhello\r\n000\r\n\r\n",
    ] {
        assert_eq!(site.request(request).status, 200, "{request:?}");
    }
}

/// A backend that answers each of these to the path of its number.
fn by_number(answers: &[&str]) -> Backend {
    let answers: Arc<[String]> = answers.iter().map(|answer| (*answer).to_owned()).collect();
    Backend::scripted("B1", move |exchange| {
        exchange.read_body();
        let target = exchange.request().target();
        let number: usize = target.trim_start_matches('/').parse().unwrap_or(usize::MAX);
        exchange.send(answers.get(number).map_or("", String::as_str));
        exchange.close();
    })
}

/// Asks for each of these responses.
#[track_caller]
fn asked(answers: &[&str], check: impl Fn(&str, Response)) {
    let b1 = by_number(answers);
    let site = Site::before(&b1);
    for (number, answer) in answers.iter().enumerate() {
        check(answer, site.get(&format!("/{number}")));
    }
    assert_eq!(b1.executions(), answers.len());
}

#[test]
fn er_04_bad_responses_are_502() {
    let heads = [
        "garbage",
        "HTTP/1.1",
        "HTTP/1.1 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 20x OK",
        "HTTP/1.1 099 Low",
        "HTTP/1.1 -200 OK",
        "HTTP/2.0 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1  200 OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3",
        "HTTP/1.1 200 OK\r\nContent-Length: -2",
        "HTTP/1.1 200 OK\r\nContent-Length: x",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked",
        "HTTP/1.1 200 OK\r\nX-A: 1\r\n 2",
        "HTTP/1.1 200 OK\r\n X-A: 1",
        "HTTP/1.1 200 OK\r\nX-A : 1",
        "HTTP/1.1 200 OK\r\nX A: 1",
        "HTTP/1.1 200 OK\r\n: 1",
        "HTTP/1.1 200 OK\r\nX-A",
        "HTTP/1.1 200 OK\r\nX-A: 1\n2",
        "HTTP/1.1 200 OK\r\nX-A: a\rb",
        "HTTP/1.1 200 OK\r\nX-A: a\0b",
        "HTTP/1.1 200 OK\nContent-Length: 2",
        "HTTP/1.1 100 Continue\r\nX-A\r\n\r\nHTTP/1.1 200 OK",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade",
    ];
    let answers: Vec<String> = heads.iter().map(|head| format!("{head}\r\n\r\nok")).collect();
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    asked(&answers, |answer, response| {
        assert_eq!(response.status, 502, "{answer:?} gave {response:?}");
        assert!(!response.text().contains("ok\n"), "{answer:?}");
    });
}

#[test]
fn a_response_head_has_a_limit() {
    let many = "X-Many: 1\r\n".repeat(2000);
    let long = format!("X-Long: {}\r\n", "x".repeat(1 << 20));
    for fields in [many, long] {
        let b1 = by_number(&[&format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok")]);
        let site = Site::before(&b1);
        site.get("/0").expect(502);
        site.lockgate.wait_for_log(&["cause=invalid_header"]);
    }
}

#[test]
fn bytes_behind_a_response_are_no_response() {
    for surplus in ["more", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"] {
        let b1 = Backend::answering(
            "B1",
            format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{surplus}"),
        );
        let site = Site::before(&b1);
        let mut client = site.connect();
        for _ in 0..3 {
            assert_eq!(client.get("a.test", "/").expect(200).text(), "ok");
        }
        // Such a connection is not used again.
        assert_eq!(b1.connections(), 3);
    }
}

#[test]
fn a_body_where_none_may_be_is_no_response() {
    let b1 = Backend::answering("B1", "HTTP/1.1 204 No Content\r\nX: 1\r\n\r\nevil");
    let site = Site::before(&b1);
    let mut client = site.connect();
    for _ in 0..3 {
        assert_eq!(client.get("a.test", "/").expect(204).body, b"");
    }
    let b2 = Backend::answering("B2", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    let site = Site::before(&b2);
    let mut client = site.connect();
    for _ in 0..3 {
        client.request("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(200);
    }
    assert_eq!(b2.connections(), 3);
}
