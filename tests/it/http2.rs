//! HTTP/2 from clients (issue 3, TL-11, DESIGN 4): what the handshake settles,
//! how a head becomes the backend's HTTP/1 and back, lockgate's own answers.
//! Bodies, ends, attacks and WebSockets are in the files below.

mod attacks;
mod bodies;
mod ends;
mod websocket;

use std::process::Command;
use std::time::Duration;

use http::{Method, Request};

use crate::support::h2_frames::{self, END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM};
use crate::support::{
    Backend, DEADLINE, Finished, Gate, H2, H2Response, Port, Recorded, Setup, Site, TlsOffer,
    group, https_listener,
};

const PROTOCOL_ERROR: u32 = 1;

fn before(backend: &Backend) -> Site {
    Site::https().backend(backend).start()
}

/// Sends these fields with a GET and gives back what the backend saw.
#[track_caller]
fn seen(site: &Site, backend: &Backend, fields: &[(&'static str, &str)]) -> Recorded {
    let mut h2 = H2::to(site);
    h2.ask(with_fields(h2.request(Method::GET, "/"), fields)).expect(200);
    backend.requests().pop().unwrap()
}

fn with_fields(mut request: Request<()>, fields: &[(&'static str, &str)]) -> Request<()> {
    for (name, value) in fields {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

#[test]
fn tl_11_h2_is_negotiated() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let client = TlsOffer::to("a.test").alpn(offered).connect(site.port()).unwrap();
        assert_eq!(client.session().alpn_protocol(), chosen.map(str::as_bytes), "{offered:?}");
    }
    let mut h2 = H2::to(&site);
    assert!(h2.get("/path?query=1").expect(200).text().starts_with("B1\n"));
    assert_eq!(b1.request().request_line(), "GET /path?query=1 HTTP/1.1");
}

#[test]
fn tl_12_http2_off_refuses_h2() {
    let b1 = Backend::named("B1");
    let site = Site::https().listener("http2 = false").backend(&b1).start();
    let offer = TlsOffer::to("a.test").alpn(&["h2", "http/1.1"]);
    let mut client = offer.connect(site.port()).unwrap();
    assert_eq!(client.session().alpn_protocol(), Some(b"http/1.1".as_slice()));
    client.get("a.test", "/").expect(200);
    // The preface is no request of HTTP/1.
    let mut client = TlsOffer::to("a.test").alpn(&[]).connect(site.port()).unwrap();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.read_to_end();
    assert_eq!(b1.executions(), 1);
}

#[test]
fn tl_12_each_listener_of_a_port_decides_for_itself() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let text = https_listener("a.test", &port, "group = \"web\"")
        + &https_listener("b.test", &port, "group = \"web\"\nhttp2 = false")
        + &group("web", &b1);
    let _lockgate = Setup::empty().file("game.toml", &text).start();
    for (name, chosen) in [("a.test", "h2"), ("b.test", "http/1.1")] {
        let offer = TlsOffer::to(name).alpn(&["h2", "http/1.1"]);
        let client = offer.connect(port.number()).unwrap();
        assert_eq!(client.session().alpn_protocol(), Some(chosen.as_bytes()), "{name}");
    }
}

#[test]
fn fh_08_authority_becomes_host_over_h2() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    for uri in ["https://a.test/", "https://a.test:9030/", "https://A.Test/"] {
        let host = uri.trim_start_matches("https://").trim_end_matches('/');
        let mut h2 = H2::to(&site);
        h2.ask(Request::get(uri).body(()).unwrap()).expect(200);
        assert_eq!(b1.requests().pop().unwrap().value("host"), host);
        // Both may be there, if they say the same.
        let both = with_fields(Request::get(uri).body(()).unwrap(), &[("host", host)]);
        h2.ask(both).expect(200);
        assert_eq!(b1.requests().pop().unwrap().value("host"), host);
    }
}

#[test]
fn fh_08_host_without_authority_will_do() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let frames = Frames::to(&site);
    let fields = [(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", "a.test")];
    frames.send(h2_frames::frame(HEADERS, END_HEADERS | END_STREAM, 1, &h2_frames::block(&fields)));
    frames.wait_for(HEADERS, 1);
    assert_eq!(b1.request().value("host"), "a.test");
}

#[test]
fn two_hosts_or_another_host_are_400() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    for hosts in [
        &[("host", "b.test")][..],
        &[("host", "a.test"), ("host", "a.test")],
        &[("host", "a.test"), ("host", "b.test")],
        &[("host", "")],
    ] {
        let request = with_fields(h2.request(Method::GET, "/"), hosts);
        h2.ask(request).expect(400);
    }
    // Neither of them, and one that is none.
    for fields in [&[][..], &[("host", "")], &[("host", "a.test/x")], &[("host", "u@a.test")]] {
        let frames = Frames::to(&site);
        let mut all = vec![(":method", "GET"), (":scheme", "https"), (":path", "/")];
        all.extend_from_slice(fields);
        let flags = END_HEADERS | END_STREAM;
        frames.send(h2_frames::frame(HEADERS, flags, 1, &h2_frames::block(&all)));
        let answer = frames.next_of(1);
        assert!(answer.kind == RST_STREAM || answer.payload.first() == Some(&0x8c), "{answer:?}");
    }
    site.lockgate.wait_for_log(&["cause=malformed", "status=400"]);
    b1.assert_untouched();
}

#[test]
fn cookie_crumbs_are_joined() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let crumbs = [("cookie", "a=1"), ("x-between", "1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")];
    let request = seen(&site, &b1, &crumbs);
    assert_eq!(request.value("cookie"), "a=1; b=2; c=3; d=4");
    assert_eq!(seen(&site, &b1, &[("cookie", "a=1")]).value("cookie"), "a=1");
}

#[test]
fn fh_01_to_03_the_forwarding_fields_are_those_of_http_1() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let names = [
        "x-forwarded-for",
        "x-real-ip",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "forwarded",
        "via",
        "x_forwarded_for",
    ];
    let spoofed = [
        ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
        ("x-forwarded-proto", "evil"),
        ("x-forwarded-host", "evil.test"),
        ("x-real-ip", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
        ("x_forwarded_for", "6.6.6.6"),
    ];
    for fields in [&[][..], &spoofed] {
        let over_h2 = seen(&site, &b1, fields);
        let lines: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        site.request(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n")).expect(200);
        let over_h1 = b1.requests().pop().unwrap();
        for name in names {
            assert_eq!(over_h2.values(name), over_h1.values(name), "{name}");
        }
        assert_eq!(over_h2.value("x-forwarded-proto"), "https");
    }
}

#[test]
fn response_fields_arrive_in_lower_case_and_hop_by_hop_ones_do_not() {
    let b1 = Backend::answering(
        "B1",
        "HTTP/1.1 200 Fine\r\nServer: scripted\r\nX-UPPER: Kept As Is\r\nSet-Cookie: a=1\r\n\
         Set-Cookie: b=2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n\
         Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-Accel-Redirect: /x\r\n\
         Content-Length: 2\r\n\r\nok",
    );
    let site = before(&b1);
    let response = H2::to(&site).get("/").expect(200);
    // The client's parser takes no upper case at all.
    assert_eq!(response.values("x-upper"), ["Kept As Is"]);
    assert_eq!(response.values("server"), ["scripted"]);
    assert_eq!(response.values("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(response.values("content-length"), ["2"]);
    assert_eq!(response.values("date").len(), 1);
    for name in ["connection", "x-hop", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(response.values(name).is_empty(), "{name}: {response:?}");
    }
    assert!(response.values("x-accel-redirect").is_empty());
    assert_eq!(response.text(), "ok");
}

#[test]
fn a_chunked_response_has_no_transfer_encoding() {
    let b1 = Backend::answering(
        "B1",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    let site = before(&b1);
    let response = H2::to(&site).get("/").expect(200);
    assert!(response.values("transfer-encoding").is_empty());
    assert!(response.values("content-length").is_empty());
    assert_eq!((response.text().as_str(), response.trailers), ("ok", None));
}

#[test]
fn fh_11_connection_specific_fields_are_refused() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    for field in [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("X-Upper", "1"),
        ("x y", "1"),
        (":late", "1"),
        (":path", "/other"),
    ] {
        let frames = Frames::to(&site);
        frames.send(h2_frames::request(1, "GET", "/", &[field], true));
        frames.assert_refused(1, PROTOCOL_ERROR, &format!("{field:?}"));
    }
    b1.assert_untouched();
}

#[test]
fn fh_11_te_trailers_is_made_anew() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    assert_eq!(seen(&site, &b1, &[("te", "trailers")]).value("te"), "trailers");
}

#[test]
fn field_values_can_not_bring_lines() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    for value in ["a\r\nX-Smuggled: 1", "a\nb", "a\rb", "a\0b"] {
        let frames = Frames::to(&site);
        frames.send(h2_frames::request(1, "GET", "/", &[("x-bad", value)], true));
        frames.assert_refused(1, PROTOCOL_ERROR, value);
    }
    for path in ["/a b", "/ HTTP/1.1\r\nX-Smuggled: 1\r\n", "", "a"] {
        let frames = Frames::to(&site);
        frames.send(h2_frames::request(1, "GET", path, &[], true));
        frames.assert_refused(1, PROTOCOL_ERROR, path);
    }
    b1.assert_untouched();
}

#[test]
fn the_target_passes_byte_for_byte() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    for target in ["/a%2Fb/../c?x=%20", "/?", "/a//b;v=1/%7Ex?q=[1]{2}|3", "/%E4%BD%A0"] {
        h2.get(target).expect(200);
        assert_eq!(b1.requests().pop().unwrap().target(), target);
    }
    let frames = Frames::to(&site);
    frames.send(h2_frames::request(1, "OPTIONS", "*", &[], true));
    frames.wait_for(HEADERS, 1);
    assert_eq!(b1.requests().pop().unwrap().request_line(), "OPTIONS * HTTP/1.1");
}

#[test]
fn methods_pass_and_connect_and_trace_are_405() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    for method in ["DELETE", "PATCH", "PROPFIND", "OPTIONS"] {
        let request = h2.request(method.parse().unwrap(), "/");
        h2.ask(request).expect(200);
        assert_eq!(b1.requests().pop().unwrap().method(), method);
    }
    let count = b1.executions();
    let trace = h2.request(Method::TRACE, "/");
    h2.ask(trace).expect(405);
    let connect = Request::connect("a.test:443").body(()).unwrap();
    h2.ask(connect).expect(405);
    let connect = Request::connect("a.test:443").body(()).unwrap();
    h2.begin(connect, false).read().expect(405);
    h2.get("/").expect(200);
    assert_eq!(b1.executions(), count + 1);
}

#[test]
fn head_204_and_304_have_no_body() {
    let b1 = Backend::scripted("B1", |exchange| {
        let answer = match exchange.request().target().as_str() {
            "/204" => "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n",
            "/empty" => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        };
        exchange.send(answer);
    });
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    for (method, target, status, length) in [
        (Method::HEAD, "/", 200, &["5"][..]),
        (Method::GET, "/204", 204, &[]),
        (Method::GET, "/304", 304, &["5"]),
        (Method::GET, "/empty", 200, &["0"]),
    ] {
        let request = h2.request(method, target);
        let response = h2.ask(request).expect(status);
        assert_eq!(response.values("content-length"), length, "{target}");
        assert!(response.body.is_empty() && response.bodiless, "{target}");
    }
    assert_eq!(b1.connections(), 1);
}

#[test]
fn interim_responses_reach_the_client() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
        hold.pass();
        exchange.send("HTTP/1.1 103 Early Hints\r\nX-Second: 2\r\n\r\n");
        exchange.reply("late");
    });
    let site = before(&b1);
    let mut stream = H2::to(&site).begin_get("/");
    let early = stream.interim();
    assert_eq!(early.status, 103);
    assert_eq!(early.fields["link"], "</a.css>; rel=preload");
    gate.open();
    let second = stream.interim();
    assert_eq!((second.status, second.fields["x-second"].as_bytes()), (103, b"2".as_slice()));
    assert_eq!(stream.read().expect(200).text(), "late");
}

#[test]
fn expect_is_end_to_end() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send("HTTP/1.1 100 Continue\r\n\r\n");
        exchange.echo();
    });
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let request = with_fields(h2.request(Method::POST, "/"), &[("expect", "100-continue")]);
    let mut stream = h2.begin(request, false);
    assert_eq!(stream.interim().status, 100);
    stream.send(b"now");
    stream.finish();
    stream.read().expect(200);
    assert_eq!(b1.request().body, b"now");
}

#[test]
fn lm_05_a_header_too_large_is_431_over_h2() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let mut with_fill = |size: usize| {
        let filler = "x".repeat(size - "host: a.test\r\nx-fill: \r\n".len());
        let request = with_fields(h2.request(Method::GET, "/"), &[("x-fill", &filler)]);
        h2.ask(request)
    };
    with_fill(31 * 1024).expect(200);
    with_fill(32 * 1024).expect(200);
    for size in [32 * 1024 + 1, 33 * 1024, 60 * 1024] {
        let response = with_fill(size).expect(431);
        assert!(!response.body.is_empty(), "{size}: not our own answer");
    }
    with_fill(1024).expect(200);
    // What the library refuses by itself.
    let filler = "x".repeat(200 * 1024);
    let request = with_fields(h2.request(Method::GET, "/"), &[("x-fill", &filler)]);
    match h2.begin(request, true).try_read() {
        Ok(response) => assert_eq!(response.status, 431),
        Err(error) => assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{error}"),
    }
    site.lockgate.wait_for_log(&["cause=limit", "status=431"]);
    assert_eq!(b1.executions(), 3);
}

#[test]
fn lm_05_too_many_fields_are_431_over_h2() {
    let b1 = Backend::named("B1");
    let site = Site::https().process("[limits]\nheaders = 20").backend(&b1).start();
    let mut h2 = H2::to(&site);
    for (count, status) in [(19, 200), (20, 431), (2000, 431)] {
        let fields = vec![("x-many", "1"); count];
        let request = with_fields(h2.request(Method::GET, "/"), &fields);
        h2.ask(request).expect(status);
    }
    assert_eq!(b1.executions(), 1);
}

#[test]
fn lm_06_a_target_too_long_is_414_over_h2() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    let mut with_target = |size: usize| h2.get(&format!("/{}", "x".repeat(size - 1)));
    with_target(31 * 1024).expect(200);
    with_target(32 * 1024).expect(200);
    with_target(32 * 1024 + 1).expect(414);
    with_target(33 * 1024).expect(414);
    with_target(60 * 1024).expect(414);
    with_target(1024).expect(200);
    assert_eq!(b1.executions(), 3);
}

#[test]
fn lm_07_a_body_too_large_is_413_over_h2() {
    const MIB: usize = 1024 * 1024;
    let b1 = Backend::named("B1");
    let site = Site::https().listener("max_body = \"1MiB\"").backend(&b1).start();
    let mut h2 = H2::to(&site);
    h2.post("/", &vec![b'x'; MIB]).expect(200);
    assert_eq!(b1.completed(), 1);
    // By length: the backend hears nothing, whether or not the body comes.
    for body in [0, 1000] {
        let length = (MIB + 1).to_string();
        let request = with_fields(h2.request(Method::POST, "/"), &[("content-length", &length)]);
        let mut stream = h2.begin(request, false);
        let _ = stream.send_until_blocked(&vec![b'x'; body], Duration::from_millis(50));
        stream.read().expect(413);
    }
    assert_eq!(b1.executions(), 1);
    // Without a length, once it is over.
    let mut stream = h2.begin_post("/");
    let _ = stream.send_until_blocked(&vec![b'x'; MIB + 1], DEADLINE);
    stream.read().expect(413);
    assert_eq!(b1.completed(), 1);
    h2.post("/", b"small").expect(200);
    site.lockgate.wait_for_log(&["cause=limit", "status=413"]);
}

#[test]
fn a_length_that_does_not_fit_is_refused() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    // With END_STREAM at the head, so that no body comes; twice and differing.
    let frames = Frames::to(&site);
    frames.send(h2_frames::request(1, "POST", "/", &[("content-length", "5")], true));
    frames.assert_refused(1, PROTOCOL_ERROR, "no body");
    for fields in [
        &[("content-length", "5"), ("content-length", "6")][..],
        &[("content-length", "+5")],
        &[("content-length", "x")],
    ] {
        let frames = Frames::to(&site);
        frames.send(h2_frames::request(1, "POST", "/", fields, false));
        frames.assert_refused(1, PROTOCOL_ERROR, &format!("{fields:?}"));
    }
    assert_eq!(b1.executions(), 0);
    // Less or more than was said: the backend never gets a whole request.
    for body in ["four", "sixsix"] {
        let frames = Frames::to(&site);
        frames.send(h2_frames::request(1, "POST", "/", &[("content-length", "5")], false));
        frames.send(h2_frames::frame(h2_frames::DATA, END_STREAM, 1, body.as_bytes()));
        frames.assert_refused(1, PROTOCOL_ERROR, body);
    }
    assert_eq!(b1.completed(), 0);
}

#[test]
fn own_answers_over_h2() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let rules = "[[listener.rule]]\npath = \"/game\"\ngroup = \"web\"\n\
                 [[listener.rule]]\npath = \"/old\"\nredirect = \"https://new.test/\"\n\
                 [[listener.rule]]\npath = \"/fixed\"\n\
                 respond = { status = 418, body = \"teapot\" }\n";
    let text = https_listener("a.test", &port, rules)
        + &https_listener("b.test", &port, "group = \"web\"")
        + &https_listener("c.test", &port, "group = \"web\"\nallow = [\"10.9.9.9\"]")
        + &group("web", &b1);
    let lockgate = Setup::empty().file("game.toml", &text).start();
    let mut h2 = H2::connect(port.number(), "a.test");
    let redirect = h2.get("/old").expect(301);
    assert_eq!(redirect.values("location"), ["https://new.test/"]);
    let own = |response: H2Response| {
        assert_eq!(response.values("date").len(), 1);
        assert!(response.values("connection").is_empty());
        let length = response.body.len().to_string();
        assert_eq!(response.values("content-length"), [length]);
        response
    };
    assert_eq!(own(h2.get("/fixed").expect(418)).text(), "teapot");
    let head = h2.request(Method::HEAD, "/fixed");
    let head = h2.ask(head).expect(418);
    assert!(head.bodiless && head.values("content-length") == ["6"], "{head:?}");
    own(h2.get("/nothing").expect(404));
    // A Host of another SNI's certificate, on the same connection.
    let other = Request::get("https://b.test/game").body(()).unwrap();
    own(h2.ask(other).expect(421));
    own(H2::connect(port.number(), "c.test").get("/").expect(403));
    b1.assert_untouched();
    h2.get("/game").expect(200);
    for cause in ["cause=no_rule", "cause=misdirected", "cause=denied"] {
        lockgate.wait_for_log(&[cause]);
    }
}

#[test]
fn own_answers_do_not_wait_for_the_body() {
    let b1 = Backend::named("B1");
    let site = Site::https()
        .rule("path = \"/fixed\"\nrespond = { status = 418, body = \"teapot\" }")
        .rule("path = \"/old\"\nredirect = \"https://new.test/\"")
        .backend(&b1)
        .start();
    let mut h2 = H2::to(&site);
    for (target, status, body) in [("/fixed", 418, "teapot"), ("/old", 301, "")] {
        let mut stream = h2.begin_post(target);
        let _ = stream.send_until_blocked(b"some of it", Duration::from_millis(50));
        let response = stream.read().expect(status);
        assert!(response.text().contains(body), "{response:?}");
    }
    h2.get("/").expect(200);
    assert_eq!(b1.executions(), 1);
}

/// What curl prints, with the version and the status behind it.
#[track_caller]
fn curl(site: &Site, more: &[&str], target: &str) -> String {
    let ca = site.lockgate.path().join("ca.pem");
    std::fs::write(&ca, crate::support::authority().pem()).unwrap();
    let port = site.port();
    let mut command = Command::new("curl");
    command
        .args(["--http2", "-sS", "--max-time", "20", "--cacert"])
        .arg(&ca)
        .args(["--resolve", &format!("a.test:{port}:127.0.0.1")])
        .args(["-w", "\n%{http_version} %{response_code}"])
        .args(more)
        .arg(format!("https://a.test:{port}{target}"));
    Finished::of(command).expect(0).stdout
}

/// A site with `/fixed` of its own, and 3 MiB in a file.
fn for_curl(backend: &Backend) -> (Site, String) {
    let site = Site::https()
        .rule("path = \"/fixed\"\nrespond = { status = 418, body = \"teapot\" }")
        .backend(backend)
        .start();
    let file = site.lockgate.path().join("upload");
    std::fs::write(&file, crate::support::pattern(3 << 20)).unwrap();
    (site, file.display().to_string())
}

#[test]
fn curl_speaks_h2() {
    let b1 = Backend::named("B1");
    let (site, file) = for_curl(&b1);
    assert!(curl(&site, &[], "/path").ends_with("\n2 200"));
    assert_eq!(curl(&site, &[], "/fixed"), "teapot\n2 418");
    assert!(curl(&site, &["--head"], "/").ends_with("\n2 200"));
    let data = format!("@{file}");
    for upload in [&["--data-binary", &data, "-H", "Expect:"][..], &["-T", &file]] {
        let text = curl(&site, upload, "/up");
        assert!(text.contains(&format!("body: {} bytes", 3 << 20)), "{text}");
        assert!(text.ends_with("\n2 200"), "{text}");
    }
}

#[test]
fn curl_gets_an_early_answer_to_its_upload() {
    let b1 = Backend::named("B1");
    let (site, file) = for_curl(&b1);
    let text = curl(&site, &["--data-binary", &format!("@{file}"), "-H", "Expect:"], "/fixed");
    assert_eq!(text, "teapot\n2 418");
}
