//! What the client is sent: the backend's response with its own framing made
//! anew for this client (HTTP/1.0 or 1.1, HEAD, chunked or not), without
//! hop-by-hop fields, with a Date; 1xx and `Expect` end to end; trailers for
//! those who asked for them.

use crate::support::{Backend, Ending, Finished, Gate, Site, chunked};

const NONE: [String; 0] = [];

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn fh_12_server_is_kept_and_date_stands_once() {
    let own = "Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n";
    for date in ["", own] {
        let b1 = Backend::answering(
            "B1",
            format!("HTTP/1.1 200 OK\r\nServer: game/1\r\n{date}Content-Length: 2\r\n\r\nok"),
        );
        let response = Site::before(&b1).get("/").expect(200);
        assert_eq!(response.value("server"), "game/1");
        let seen = response.value("date");
        if date.is_empty() {
            assert!(httpdate::parse_http_date(&seen).is_ok(), "{seen}");
        } else {
            assert_eq!(format!("Date: {seen}\r\n"), own);
        }
    }
}

#[test]
fn fh_12_what_is_said_to_the_proxy_alone_stays_there() {
    let b1 = Backend::answering(
        "B1",
        "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /x\r\nX-Pad: avoid\r\nContent-Length: 2\r\n\r\nok",
    );
    let response = Site::before(&b1).get("/").expect(200);
    assert_eq!(response.values("x-accel-redirect"), NONE);
    assert_eq!(response.values("x-pad"), NONE);
}

#[test]
fn fh_11_hop_by_hop_fields_do_not_come_back() {
    let b1 = Backend::answering(
        "B1",
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Foo\r\nX-Foo: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-Bar: 2\r\nContent-Length: 2\r\n\r\nok",
    );
    let response = Site::before(&b1).get("/").expect(200);
    for name in ["x-foo", "keep-alive", "proxy-connection", "upgrade", "connection"] {
        assert_eq!(response.values(name), NONE, "{name}");
    }
    assert_eq!(response.value("x-bar"), "2");
}

#[test]
fn status_reason_spelling_and_order_are_kept() {
    let b1 = Backend::answering(
        "B1",
        "HTTP/1.1 299 Fine By Me\r\nset-COOKIE: a=1\r\nX-b: 1\r\nSet-Cookie: b=2; Path=/\r\n\
         x-B: 2\r\nETag: \"x\"\r\ncontent-length: 2\r\n\r\nok",
    );
    let response = Site::before(&b1).get("/").expect(299);
    assert_eq!(response.status_line, "HTTP/1.1 299 Fine By Me");
    let sent = pairs(&[
        ("set-COOKIE", "a=1"),
        ("X-b", "1"),
        ("Set-Cookie", "b=2; Path=/"),
        ("x-B", "2"),
        ("ETag", "\"x\""),
    ]);
    let kept: Vec<_> =
        response.fields.iter().filter(|field| sent.contains(field)).cloned().collect();
    assert_eq!(kept, sent);
}

#[test]
fn the_status_line_is_the_backends_where_that_says_the_same() {
    for (line, first, sent) in [
        ("HTTP/1.1 404 Not  Found\t", "A: b", "HTTP/1.1 404 Not  Found\t"),
        // The first field line is dropped.
        ("HTTP/1.1 200 OK", "Connection: x", "HTTP/1.1 200 OK"),
        ("HTTP/1.1 200 ", "A: b", "HTTP/1.1 200 "),
        ("HTTP/1.1 200", "A: b", "HTTP/1.1 200 "),
        ("HTTP/1.0 200 OK", "A: b", "HTTP/1.1 200 OK"),
        ("HTTP/1.0 200", "A: b", "HTTP/1.1 200 "),
    ] {
        let head = format!("{line}\r\n{first}\r\nContent-Length: 2\r\n");
        let b1 = Backend::answering("B1", format!("{head}\r\nok"));
        let response = Site::before(&b1).get("/");
        assert_eq!(response.status_line, sent, "{head:?}");
        assert_eq!((response.value("content-length"), response.text()), ("2".into(), "ok".into()));
        assert_eq!(response.values("connection"), NONE);
        assert_eq!(response.values("a").len(), usize::from(first == "A: b"));
    }
}

#[test]
fn every_status_of_the_backend_is_passed_on() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut client = site.connect();
    for status in [200, 201, 301, 400, 404, 418, 421, 500, 502, 503, 504, 599] {
        let response = client.get("a.test", &format!("/status/{status}")).expect(status);
        assert_eq!(response.text(), "B1");
    }
}

#[test]
fn a_large_response_head_is_passed_on() {
    let value = "v".repeat(2000);
    let fields: String = (0..10).map(|n| format!("Set-Cookie: c{n}={value}\r\n")).collect();
    let b1 =
        Backend::answering("B1", format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok"));
    let response = Site::before(&b1).get("/").expect(200);
    let expected: Vec<String> = (0..10).map(|n| format!("c{n}={value}")).collect();
    assert_eq!(response.values("set-cookie"), expected);
}

#[test]
fn head_has_the_fields_of_get_and_no_body() {
    for framing in ["Content-Length: 1234\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        let b1 = Backend::answering("B1", format!("HTTP/1.1 200 OK\r\n{framing}X: 1\r\n\r\n"));
        let site = Site::before(&b1);
        let mut client = site.connect();
        for _ in 0..2 {
            let response = client.request("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(200);
            assert_eq!(response.value("x"), "1");
            if framing.starts_with("Content-Length") {
                assert_eq!(response.value("content-length"), "1234");
            }
        }
        assert_eq!(b1.executions(), 2);
    }
}

#[test]
fn responses_without_a_body_by_definition() {
    for (head, length) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", None),
        ("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", None),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", Some("99")),
    ] {
        let b1 = Backend::answering("B1", head);
        let site = Site::before(&b1);
        let mut client = site.connect();
        for _ in 0..2 {
            let response = client.get("a.test", "/");
            assert_eq!(response.ending, Ending::Bodiless);
            assert_eq!(response.values("transfer-encoding"), NONE);
            assert_eq!(response.values("content-length").first().map(String::as_str), length);
        }
        // Nothing of it was taken for a body: one backend connection served.
        assert_eq!(b1.connections(), 1, "{head}");
    }
}

#[test]
fn a_length_and_an_empty_body_are_kept() {
    let b1 = Backend::answering("B1", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let site = Site::before(&b1);
    let mut client = site.connect();
    for _ in 0..2 {
        let response = client.get("a.test", "/").expect(200);
        assert_eq!(
            (response.ending, response.value("content-length").as_str()),
            (Ending::Length, "0")
        );
    }
}

#[test]
fn a_chunked_response_stays_chunked() {
    let body = chunked(b"some text in several chunks", 5, "");
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let b1 = Backend::answering("B1", [head, body].concat());
    let site = Site::before(&b1);
    let mut client = site.connect();
    for _ in 0..2 {
        let response = client.get("a.test", "/").expect(200);
        assert_eq!(response.ending, Ending::Chunked);
        assert_eq!(response.text(), "some text in several chunks");
    }
    assert_eq!(b1.connections(), 1);
}

#[test]
fn chunk_extensions_are_not_passed_on() {
    // The client's reader refuses anything but a plain size.
    let b1 = Backend::answering(
        "B1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;a=\"b\"\r\nok\r\n000;x\r\n\r\n",
    );
    assert_eq!(Site::before(&b1).get("/").expect(200).text(), "ok");
}

#[test]
fn a_close_delimited_response_becomes_chunked() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\nServer: old\r\n\r\n"] {
        let b1 = Backend::answering_then_closing("B1", format!("{head}until the end"));
        let site = Site::before(&b1);
        let mut client = site.connect();
        for _ in 0..2 {
            let response = client.get("a.test", "/").expect(200);
            assert_eq!(response.ending, Ending::Chunked);
            assert_eq!(response.text(), "until the end");
            assert!(response.status_line.starts_with("HTTP/1.1 "));
        }
    }
}

#[test]
fn an_http_1_0_client_gets_no_chunks() {
    let body = chunked(b"some text in several chunks", 5, "X-Sum: 1\r\n");
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let b1 = Backend::answering("B1", [head, body].concat());
    for site in [Site::before(&b1), Site::https().backend(&b1).start()] {
        for keep in ["", "Connection: keep-alive\r\n"] {
            let mut client = site.connect();
            let request = format!("GET / HTTP/1.0\r\nHost: a.test\r\n{keep}\r\n");
            let response = client.request(request);
            assert_eq!(response.ending, Ending::Close);
            assert_eq!(response.text(), "some text in several chunks");
            client.assert_closed();
        }
    }
}

#[test]
fn an_http_1_0_client_may_keep_its_connection() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let request = "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: Keep-Alive\r\n\r\n";
    let mut client = site.connect();
    for _ in 0..3 {
        let response = client.request(request).expect(200);
        assert_eq!(response.value("connection").to_lowercase(), "keep-alive");
    }
    // Without asking for it, it may not.
    let mut client = site.connect();
    client.request("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").expect(200);
    client.assert_closed();
}

#[test]
fn connection_close_is_answered_and_done() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut client = site.connect();
    let response = client
        .request("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: x, Close\r\n\r\n")
        .expect(200);
    assert_eq!(response.value("connection").to_lowercase(), "close");
    client.assert_closed();
    // It is the client's wish; the backend's connection goes on.
    site.get("/").expect(200);
    assert_eq!(b1.connections(), 1);
}

#[test]
fn a_backends_connection_close_is_not_the_clients() {
    let b1 = Backend::answering_then_closing(
        "B1",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    );
    let site = Site::before(&b1);
    let mut client = site.connect();
    for _ in 0..3 {
        assert_eq!(client.get("a.test", "/").expect(200).values("connection"), NONE);
    }
    assert_eq!(b1.connections(), 3);
}

#[test]
fn trailers_go_to_clients_that_take_them() {
    let body = chunked(b"body", 4, "X-Sum: 42\r\nx-Twice: a\r\n");
    let head = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let b1 = Backend::answering("B1", [head, body].concat());
    let site = Site::before(&b1);
    let mut client = site.connect();
    let asked = "GET / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
    let response = client.request(asked).expect(200);
    assert_eq!(response.trailers, pairs(&[("X-Sum", "42"), ("x-Twice", "a")]));
    let response = client.get("a.test", "/").expect(200);
    assert_eq!((response.text().as_str(), response.trailers.len()), ("body", 0));
}

#[test]
fn trailers_cannot_frame_or_route() {
    let trailers = "Content-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nX-Sum: 1\r\n";
    let body = chunked(b"body", 4, trailers);
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let b1 = Backend::answering("B1", [head, body].concat());
    let site = Site::before(&b1);
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
    // Dropped, or the whole response is cut: never passed on.
    let trailers = client.read_or_cut().map(|response| response.trailers).unwrap_or_default();
    for (name, _) in trailers {
        assert_eq!(name, "X-Sum");
    }
}

#[test]
fn expect_100_continue_goes_end_to_end() {
    let b1 = Backend::scripted("B1", |exchange| {
        if exchange.request().values("expect") == ["100-continue"] {
            exchange.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        exchange.echo();
    });
    let site = Site::before(&b1);
    let mut client = site.connect();
    for _ in 0..2 {
        client.send(
            "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        );
        let interim = client.read_head();
        assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
        client.send("hello");
        assert!(client.read().expect(200).text().ends_with("body: 5 bytes\n"));
    }
    assert_eq!(b1.requests()[1].body, b"hello");
}

#[test]
fn a_backend_may_refuse_what_is_expected() {
    for status in ["417 Expectation Failed", "403 Forbidden"] {
        let answer =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno");
        let b1 = Backend::scripted("B1", move |exchange| {
            exchange.send(&answer);
            exchange.close();
        });
        let site = Site::before(&b1);
        let mut client = site.connect();
        client.send(
            "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        );
        let response = client.read();
        assert_eq!(
            (response.status.to_string(), response.text()),
            (status[..3].into(), "no".into())
        );
        assert!(response.interim.is_empty());
        // What follows is the body it had announced or nothing; a request in
        // its place must not be executed as one.
        let _ = client.try_send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.read_to_end();
        assert!(b1.requests().iter().all(|request| request.target() == "/"));
    }
}

#[test]
fn an_http_1_0_client_cannot_expect() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let response = site.request(
        "POST / HTTP/1.0\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok",
    );
    assert!(response.expect(200).interim.is_empty());
    assert_eq!(b1.request().values("expect"), NONE);
}

#[test]
fn a_client_may_send_its_body_without_waiting() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut client = site.connect();
    client.request(
        "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!(b1.request().body, b"hello");
    client.assert_open("a.test");
}

#[test]
fn interim_responses_go_to_1_1_clients_only() {
    let b1 = Backend::answering(
        "B1",
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\n\r\n\
         HTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let site = Site::before(&b1);
    let mut client = site.connect();
    for _ in 0..2 {
        let response = client.get("a.test", "/").expect(200);
        let statuses: Vec<u16> = response.interim.iter().map(|interim| interim.status).collect();
        assert_eq!(statuses, [103, 102]);
        assert_eq!(response.interim[0].value("link"), "</a.css>; rel=preload");
        assert_eq!(response.interim[0].values("connection"), NONE);
        assert_eq!(response.text(), "ok");
    }
    let old = site.request("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").expect(200);
    assert!(old.interim.is_empty(), "{old:?}");
    assert_eq!(b1.connections(), 1);
}

#[test]
fn a_103_arrives_before_the_final_response_exists() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        hold.pass();
        exchange.reply("done");
    });
    let site = Site::before(&b1);
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 103 "));
    gate.open();
    assert_eq!(client.read().expect(200).text(), "done");
}

#[test]
fn curl_speaks_1_0_and_1_1() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    for version in ["--http1.0", "--http1.1"] {
        let mut curl = std::process::Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", version])
            .args(["-H", "Host: a.test", "-d", "some=form"])
            .arg(format!("http://127.0.0.1:{}/form", site.port()));
        let page = Finished::of(curl).expect(0);
        assert!(page.stdout.contains("POST /form HTTP/1.1"), "{}", page.stdout);
        assert!(page.stdout.ends_with("body: 9 bytes\n"), "{}", page.stdout);
    }
}
