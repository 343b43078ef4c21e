//! What lockgate answers or edits by itself on the word of a rule: `redirect`,
//! `respond`, `set_headers`, `remove_headers`, `allow` and `deny`. None of the
//! answers here touches a backend.

use crate::support::{Backend, Client, Lockgate, Port, Site, group, http_listener};

#[test]
fn st_11_redirect_keeps_host_path_and_query() {
    let (to_port, to_default) = (Port::reserve(), Port::reserve());
    let text = http_listener("a.test", &to_port, "redirect = \"https:9443\"")
        + &http_listener("a.test", &to_default, "redirect = \"https:443\"");
    let _lockgate = Lockgate::with("game.toml", &text).start();
    let mut client = Client::plain(to_port.number());
    let response = client.get("a.test", "/p?q=1").expect(301);
    assert_eq!(response.value("location"), "https://a.test:9443/p?q=1");
    // The port asked on is not the new one; the bytes of the target are kept.
    let response = client.get("a.test:8080", "/%70/../x?a=%20").expect(301);
    assert_eq!(response.value("location"), "https://a.test:9443/%70/../x?a=%20");
    let response = Client::plain(to_default.number()).get("a.test", "/").expect(301);
    assert_eq!(response.value("location"), "https://a.test/");
}

#[test]
fn a_redirect_may_have_another_code_and_a_fixed_address() {
    let port = Port::reserve();
    let lines = "redirect = \"https://elsewhere.test/x\"\nredirect_code = 308";
    let _lockgate = Lockgate::with("game.toml", &http_listener("a.test", &port, lines)).start();
    let response = Client::plain(port.number()).post("a.test", "/p", b"body").expect(308);
    assert_eq!(response.value("location"), "https://elsewhere.test/x");
}

#[test]
fn rules_win_over_the_listeners_redirect() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let lines = "redirect = \"https:443\"\n[[listener.rule]]\npath = \"/stay\"\ngroup = \"web\"";
    let text = http_listener("a.test", &port, lines) + &group("web", &b1);
    let _lockgate = Lockgate::with("game.toml", &text).start();
    let mut client = Client::plain(port.number());
    client.get("a.test", "/go").expect(301);
    client.get("a.test", "/stay/here").expect(200);
    assert_eq!(b1.executions(), 1);
}

#[test]
fn a_rule_may_redirect() {
    let b1 = Backend::named("B1");
    let site = Site::http()
        .backend(&b1)
        .rule("path = \"/old\"\nredirect = \"https://a.test/new\"\nredirect_code = 302")
        .start();
    let response = site.get("/old/x").expect(302);
    assert_eq!(response.value("location"), "https://a.test/new");
    b1.assert_untouched();
}

#[test]
fn respond_answers_without_a_backend() {
    let b1 = Backend::named("B1");
    let site = Site::http()
        .backend(&b1)
        .rule("path = \"/closed\"\nrespond = { status = 503, body = \"back at noon\\n\" }")
        .start();
    let mut client = site.connect();
    let response = client.get("a.test", "/closed").expect(503);
    assert_eq!(response.text(), "back at noon\n");
    assert!(response.value("content-type").starts_with("text/plain"), "{response:?}");
    assert_eq!(response.values("date").len(), 1);
    let head = client.request("HEAD /closed HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(503);
    assert_eq!(head.body, b"");
    // A body sent to it does not become the next request.
    client.post("a.test", "/closed", b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(503);
    b1.assert_untouched();
}

#[test]
fn set_headers_replaces_and_remove_headers_drops() {
    let answer = "HTTP/1.1 200 OK\r\nServer: old\r\nX-Kept: 1\r\nX-Twice: a\r\nx-twice: b\r\n\
                  Content-Length: 2\r\n\r\nok";
    let b1 = Backend::answering("B1", answer);
    let site = Site::http()
        .backend(&b1)
        .rule(
            "path = \"/\"\ngroup = \"web\"\n\
             set_headers = { request = { \"X-A\" = \"1\" }, response = { \"X-Twice\" = \"c\" } }\n\
             remove_headers = { request = [\"X-B\"], response = [\"Server\"] }",
        )
        .start();
    let response = site
        .request("GET / HTTP/1.1\r\nHost: a.test\r\nx-a: 0\r\nX-b: 2\r\nX-C: 3\r\nX-A: 9\r\n\r\n")
        .expect(200);
    let request = b1.request();
    assert_eq!(request.value("x-a"), "1");
    assert_eq!(request.values("x-b"), Vec::<String>::new());
    assert_eq!(request.value("x-c"), "3");
    assert_eq!(response.value("x-twice"), "c");
    assert_eq!(response.values("server"), Vec::<String>::new());
    assert_eq!(response.value("x-kept"), "1");
}

#[test]
fn er_10_a_denied_client_is_403_before_any_backend_contact() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("deny = [\"127.0.0.0/8\"]").backend(&b1).start();
    site.get("/").expect(403);
    site.lockgate.wait_for_log(&["cause=denied", "request_id="]);
    b1.assert_untouched();
}

#[test]
fn er_10_an_allow_list_denies_the_rest() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("allow = [\"10.0.0.0/8\"]").backend(&b1).start();
    site.get("/").expect(403);
    b1.assert_untouched();
}

#[test]
fn er_10_an_allowed_client_is_served_and_deny_wins() {
    let b1 = Backend::named("B1");
    let site = Site::http().listener("allow = [\"127.0.0.1\"]").backend(&b1).start();
    site.get("/").expect(200);
    let lines = "allow = [\"127.0.0.0/8\"]\ndeny = [\"127.0.0.1/32\"]";
    let b2 = Backend::named("B2");
    let site = Site::http().listener(lines).backend(&b2).start();
    site.get("/").expect(403);
    b2.assert_untouched();
}

#[test]
fn er_10_redirects_and_fixed_answers_are_denied_too() {
    let b1 = Backend::named("B1");
    let site = Site::http()
        .listener("deny = [\"127.0.0.1\"]")
        .rule("path = \"/r\"\nredirect = \"https:443\"")
        .rule("path = \"/f\"\nrespond = { status = 200, body = \"secret\" }")
        .backend(&b1)
        .start();
    site.get("/r").expect(403);
    assert!(!site.get("/f").expect(403).text().contains("secret"));
}

#[test]
fn er_10_behind_a_trusted_proxy_the_client_it_names_is_judged() {
    let b1 = Backend::named("B1");
    let lines = "trusted_proxies = [\"127.0.0.0/8\"]\ndeny = [\"203.0.113.0/24\"]";
    let site = Site::http().listener(lines).backend(&b1).start();
    let request = |field: &str| format!("GET / HTTP/1.1\r\nHost: a.test\r\n{field}\r\n");
    site.request(request("X-Forwarded-For: 203.0.113.9\r\n")).expect(403);
    // The rightmost untrusted entry counts, over several lines.
    let spoofed = "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 203.0.113.9, 127.0.0.2\r\n";
    site.request(request(spoofed)).expect(403);
    b1.assert_untouched();
    site.request(request("X-Forwarded-For: 203.0.113.9, 198.51.100.1\r\n")).expect(200);
    site.request(request("")).expect(200);
}
