//! What the backend is sent: the client's request byte for byte where bytes
//! carry meaning (target, Host, spelling and order of fields), without what
//! belongs to the client's connection, and with the fields that say who asked.
//! SEMANTICS rows FH; DESIGN 4.9 wins over FH-05, FH-09, FH-10, FH-13.

use crate::support::{Backend, Recorded, Site, group};

/// Sends these field lines with a GET and gives back what the backend saw.
#[track_caller]
fn seen(site: &Site, backend: &Backend, fields: &str) -> Recorded {
    let before = backend.executions();
    site.request(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")).expect(200);
    assert_eq!(backend.executions(), before + 1);
    backend.requests().pop().unwrap()
}

const NONE: [String; 0] = [];

#[test]
fn fh_01_x_forwarded_for_is_the_client() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let request = seen(&site, &b1, "");
    assert_eq!(request.value("x-forwarded-for"), "127.0.0.1");
    assert_eq!(request.value("x-real-ip"), "127.0.0.1");
}

#[test]
fn fh_02_x_forwarded_for_is_appended_to() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let request = seen(&site, &b1, "X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\n");
    assert_eq!(request.value("x-forwarded-for"), "1.1.1.1, 2.2.2.2, 127.0.0.1");
    let request = seen(&site, &b1, "x-forwarded-for: 1.1.1.1\r\nX-FORWARDED-FOR: 2.2.2.2\r\n");
    let list = request.values("x-forwarded-for").join(", ");
    assert_eq!(list, "1.1.1.1, 2.2.2.2, 127.0.0.1");
}

#[test]
fn fh_03_x_forwarded_proto_is_the_listeners() {
    let b1 = Backend::named("B1");
    let plain = Site::before(&b1);
    assert_eq!(seen(&plain, &b1, "").value("x-forwarded-proto"), "http");
    let tls = Site::https().backend(&b1).start();
    assert_eq!(seen(&tls, &b1, "").value("x-forwarded-proto"), "https");
}

#[test]
fn fh_04_only_x_forwarded_for_when_the_others_are_off() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("forwarded = []").backend(&b1).start();
    let spoofed = "X-Forwarded-Proto: evil\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\
                   X-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Forwarded-Client-srcport: 1\r\n";
    for fields in ["", spoofed] {
        let request = seen(&site, &b1, fields);
        assert_eq!(request.value("x-forwarded-for"), "127.0.0.1");
        for name in [
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-real-ip",
            "x-forwarded-client-srcport",
            "forwarded",
            "via",
        ] {
            assert_eq!(request.values(name), NONE, "{name}");
        }
    }
}

/// There are no such fields here: they name a cloud's instance.
#[test]
fn fh_05_no_instance_is_named() {
    let b1 = Backend::named("B1");
    let all = "forwarded = [\"x-forwarded-proto\", \"x-forwarded-host\", \"x-forwarded-port\", \
               \"x-real-ip\", \"x-forwarded-client-srcport\", \"forwarded\", \"via\"]";
    let site = Site::http().listener(all).backend(&b1).start();
    let request = seen(&site, &b1, "");
    assert_eq!(request.value("via"), "1.1 lockgate");
    for name in ["slb-id", "slb-ip"] {
        assert_eq!(request.values(name), NONE, "{name}");
    }
}

#[test]
fn fh_06_ports_of_the_listener_and_of_the_client() {
    let b1 = Backend::named("B1");
    let site = Site::http()
        .listener("forwarded = [\"x-forwarded-port\", \"x-forwarded-client-srcport\"]")
        .backend(&b1)
        .start();
    let mut client = site.connect();
    client.get("a.test:99", "/").expect(200);
    let request = b1.request();
    assert_eq!(request.value("x-forwarded-port"), site.port().to_string());
    assert_eq!(request.value("x-forwarded-client-srcport"), client.local_port().to_string());
}

#[test]
fn fh_07_an_untrusted_peer_cannot_say_who_asks() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let request = seen(
        &site,
        &b1,
        "X-Forwarded-Proto: evil\r\nx-forwarded-proto: worse\r\nX-Forwarded-Host: evil.test\r\n\
         X-Forwarded-Port: 1\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n",
    );
    assert_eq!(request.value("x-forwarded-proto"), "http");
    assert_eq!(request.value("x-forwarded-host"), "a.test");
    assert_eq!(request.value("x-forwarded-port"), site.port().to_string());
    assert_eq!(request.value("x-real-ip"), "127.0.0.1");
    assert_eq!(request.values("forwarded"), NONE);
}

#[test]
fn fh_07_look_alikes_with_underscores_are_dropped() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let request = seen(
        &site,
        &b1,
        "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: evil\r\nx_real_ip: 6.6.6.6\r\n\
         X_Forwarded-Host: evil\r\nX_Own: kept\r\n",
    );
    let shadows = |name: &str| name.contains('_') && name != "X_Own";
    assert!(!request.fields().iter().any(|(name, _)| shadows(name)), "{:?}", request.fields());
    assert_eq!(request.value("x_own"), "kept");
}

#[test]
fn fh_07_a_trusted_proxy_is_believed() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("trusted_proxies = [\"127.0.0.1\"]").backend(&b1).start();
    let request = seen(
        &site,
        &b1,
        "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: public.test\r\nX-Forwarded-Port: 443\r\n",
    );
    assert_eq!(request.value("x-forwarded-for"), "203.0.113.7, 127.0.0.1");
    assert_eq!(request.value("x-forwarded-proto"), "https");
    assert_eq!(request.value("x-forwarded-host"), "public.test");
    assert_eq!(request.value("x-forwarded-port"), "443");
    assert_eq!(request.value("x-real-ip"), "203.0.113.7");
    // What it does not say is said for it.
    assert_eq!(seen(&site, &b1, "").value("x-forwarded-proto"), "http");
}

#[test]
fn forwarded_and_via_are_set_on_request() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("forwarded = [\"forwarded\", \"via\"]").backend(&b1).start();
    let request = seen(&site, &b1, "Forwarded: for=6.6.6.6\r\nVia: 1.1 elsewhere\r\n");
    let forwarded = request.value("forwarded");
    assert!(forwarded.contains("for=127.0.0.1"), "{forwarded}");
    assert!(forwarded.contains("proto=http"), "{forwarded}");
    assert!(!forwarded.contains("6.6.6.6"), "{forwarded}");
    assert!(request.values("via").join(", ").starts_with("1.1 elsewhere, 1.1 "), "{request:?}");
    assert_eq!(request.values("x-forwarded-proto"), NONE);
}

#[test]
fn fh_08_host_is_unchanged() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut client = site.connect();
    client.get("A.test:9030", "/").expect(200);
    assert_eq!(b1.request().value("host"), "A.test:9030");
    assert_eq!(b1.request().value("x-forwarded-host"), "A.test:9030");
}

#[test]
fn fh_10_an_http_1_0_client_is_forwarded_as_1_1() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let response = site.request("GET /old HTTP/1.0\r\nHost: a.test\r\n\r\n").expect(200);
    assert_eq!(response.backend(), "B1");
    assert_eq!(b1.request().request_line(), "GET /old HTTP/1.1");
    assert_eq!(b1.request().value("host"), "a.test");
}

#[test]
fn the_head_begins_as_the_client_wrote_it_where_that_says_the_same() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    for (head, begin) in [
        (
            "GET /a HTTP/1.1\r\nHOST:  a.test \r\nA: b\r\n",
            "GET /a HTTP/1.1\r\nHOST:  a.test \r\nA: b\r\n",
        ),
        // Of the first lines one is dropped.
        (
            "GET /a HTTP/1.1\r\nConnection: x\r\nHost: a.test\r\n",
            "GET /a HTTP/1.1\r\nHost: a.test\r\n",
        ),
        (
            "GET /a HTTP/1.1\r\nHost: a.test\r\nTE: x\r\nA: b\r\n",
            "GET /a HTTP/1.1\r\nHost: a.test\r\nA: b\r\n",
        ),
        (
            "\r\nGET /a HTTP/1.1\r\nHost: a.test\r\nA: b\r\n",
            "GET /a HTTP/1.1\r\nHost: a.test\r\nA: b\r\n",
        ),
        (
            "GET /a HTTP/1.0\r\nA: b\r\nHost: a.test\r\n",
            "GET /a HTTP/1.1\r\nA: b\r\nHost: a.test\r\n",
        ),
        (
            "GET http://a.test?x HTTP/1.1\r\nHost: b\r\nA: b\r\n",
            "GET /?x HTTP/1.1\r\nHost: a.test\r\nA: b\r\n",
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n", "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n"),
    ] {
        site.request(format!("{head}\r\n")).expect(200);
        let seen = b1.requests().pop().unwrap().head;
        let seen = String::from_utf8_lossy(&seen);
        assert!(seen.starts_with(&format!("{begin}X-Forwarded-For: ")), "{head:?}: {seen:?}");
    }
}

#[test]
fn fh_11_hop_by_hop_fields_are_not_forwarded() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let request = seen(
        &site,
        &b1,
        "Connection: keep-alive, X-Foo ,x-bar\r\nX-Foo: 1\r\nX-BAR: 2\r\nx-baz: 3\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n\
         Upgrade: h2c\r\nConnection: HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\n",
    );
    for name in
        ["x-foo", "x-bar", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings"]
    {
        assert_eq!(request.values(name), NONE, "{name}");
    }
    assert_eq!(request.value("x-baz"), "3");
    assert!(!request.values("connection").join(",").to_lowercase().contains("x-foo"));
}

#[test]
fn fh_11_te_trailers_is_made_anew() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let request =
        seen(&site, &b1, "Connection: TE, X-Foo\r\nTE: gzip;q=0.5, trailers\r\nX-Foo: 1\r\n");
    assert_eq!(request.value("te"), "trailers");
    assert_eq!(request.value("connection").to_lowercase(), "te");
    assert_eq!(request.values("x-foo"), NONE);
}

#[test]
fn fh_11_connection_cannot_strip_what_we_say() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let request = seen(
        &site,
        &b1,
        "Connection: X-Forwarded-For, x-real-ip, X-Forwarded-Proto, Cookie, close\r\n\
         X-Forwarded-For: 1.1.1.1\r\nCookie: a=1\r\n",
    );
    assert_eq!(request.value("x-forwarded-for"), "1.1.1.1, 127.0.0.1");
    assert_eq!(request.value("x-real-ip"), "127.0.0.1");
    assert_eq!(request.value("x-forwarded-proto"), "http");
    assert_eq!(request.value("host"), "a.test");
}

#[test]
fn fh_11_connection_cannot_take_away_the_framing() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let text = "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: Content-Length, Host\r\n\
                Content-Length: 5\r\n\r\nhello";
    // Either it is refused, or it arrives whole: nothing between.
    if site.request(text).status == 200 {
        assert_eq!(b1.request().body, b"hello");
        assert_eq!(b1.request().value("host"), "a.test");
    } else {
        b1.assert_untouched();
    }
}

#[test]
fn fh_13_nothing_is_compressed_on_the_way() {
    let body = "body { color: red }\n".repeat(500);
    let b1 = Backend::answering(
        "B1",
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    );
    let site = Site::before(&b1);
    let response =
        site.request("GET / HTTP/1.1\r\nHost: a.test\r\nAccept-Encoding: gzip, br\r\n\r\n");
    assert_eq!(response.text(), body);
    assert_eq!(response.values("content-encoding"), NONE);
    assert_eq!(b1.request().value("accept-encoding"), "gzip, br");
}

#[test]
fn fh_16_the_target_is_unmodified() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let targets = [
        "/a%2Fb/../c?x=%20",
        "/?",
        "//double//slash",
        "/a;b=c,d@e!$&'()*+~:",
        "/%e4%bd%a0?q=%2e%2E/../",
        "/x?a=1?b=2&&",
        "/?http://a.test/",
    ];
    let mut client = site.connect();
    for target in targets {
        client.get("a.test", target).expect(200);
    }
    let seen: Vec<String> = b1.requests().iter().map(|request| request.target()).collect();
    assert_eq!(seen, targets);
}

#[test]
fn spelling_and_order_of_fields_are_kept() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let sent = [
        ("x-LOWER-upper", "1"),
        ("Cookie", "b=2; a=\"1\""),
        ("ACCEPT", "*/*;q=0.8,  text/html"),
        ("cookie", "c=3"),
        ("X-Twice", "first"),
        ("X-Empty", ""),
        ("x-twice", "second"),
        ("X-Latin", "caf\u{e9} \u{4f60}"),
        ("User-Agent", "test\tagent (x)"),
    ];
    let lines: String = sent.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let fields = seen(&site, &b1, &lines).fields();
    let kept: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|field| sent.contains(field))
        .collect();
    assert_eq!(kept, sent);
}

#[test]
fn nothing_unasked_is_added() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut names: Vec<String> =
        seen(&site, &b1, "").fields().into_iter().map(|(name, _)| name.to_lowercase()).collect();
    names.sort();
    let expected = [
        "host",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-real-ip",
        "x-request-id",
    ];
    assert_eq!(names, expected);
}

#[test]
fn every_rule_forwards_to_its_own_group_on_one_connection() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let site = Site::http()
        .backend(&b1)
        .rule("path = \"/two\"\ngroup = \"two\"")
        .more(&group("two", &b2))
        .start();
    let mut client = site.connect();
    for _ in 0..3 {
        assert_eq!(client.get("a.test", "/one").expect(200).backend(), "B1");
        assert_eq!(client.get("a.test", "/two").expect(200).backend(), "B2");
    }
    assert_eq!((b1.connections(), b2.connections()), (1, 1));
}
