//! Which group gets a request: port, then domain, then the longest path
//! prefix. Each test names the SEMANTICS row it holds; where DESIGN 4.1
//! decides otherwise (RT-07, RT-12) the test holds what stands there. The
//! backends name themselves in their answers, so a test reads as "asked this,
//! that one answered".

use crate::support::{Backend, Client, Lockgate, Port, Site, group, http_listener};

/// Listeners that share one port; each sends to the group of its number.
fn shared(port: &Port, listeners: &[(&str, &Backend)]) -> String {
    let mut text = String::new();
    for (index, (domain, _)) in listeners.iter().enumerate() {
        text += &http_listener(domain, port, &format!("group = \"g{index}\""));
    }
    for (index, (_, backend)) in listeners.iter().enumerate() {
        text += &group(&format!("g{index}"), backend);
    }
    text
}

fn default_listener(port: &Port, backend: &Backend) -> String {
    format!(
        "[[listener]]\ndefault = true\nport = {port}\nprotocol = \"http\"\ngroup = \"rest\"\n\n{}",
        group("rest", backend)
    )
}

#[track_caller]
fn assert_served(port: &Port, host: &str, target: &str, backend: &str) {
    let response = Client::plain(port.number()).get(host, target).expect(200);
    assert_eq!(response.backend(), backend, "{host}{target}");
}

#[test]
fn rt_01_two_domains_share_a_port() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let _lockgate =
        Lockgate::with("game.toml", &shared(&port, &[("a.test", &b1), ("b.test", &b2)])).start();
    assert_served(&port, "a.test", "/", "B1");
    assert_served(&port, "b.test", "/", "B2");
}

#[test]
fn rt_01_two_games_share_a_port() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let _lockgate = Lockgate::with("one.toml", &shared(&port, &[("a.test", &b1)]))
        .file("two.toml", &shared(&port, &[("b.test", &b2)]))
        .start();
    assert_served(&port, "a.test", "/", "B1");
    assert_served(&port, "b.test", "/", "B2");
    // Also on one connection: nothing of the first request clings to it.
    let mut client = Client::plain(port.number());
    assert_eq!(client.get("a.test", "/").backend(), "B1");
    assert_eq!(client.get("b.test", "/").backend(), "B2");
    assert_eq!(client.get("a.test", "/").backend(), "B1");
}

#[test]
fn rt_02_an_exact_name_beats_a_wildcard() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let text = shared(&port, &[("*.x.test", &b1), ("www.x.test", &b2)]);
    let _lockgate = Lockgate::with("game.toml", &text).start();
    assert_served(&port, "www.x.test", "/", "B2");
    assert_served(&port, "other.x.test", "/", "B1");
}

#[test]
fn rt_03_the_longer_wildcard_wins() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let text = shared(&port, &[("*.x.test", &b1), ("*.m.x.test", &b2)]);
    let _lockgate = Lockgate::with("game.toml", &text).start();
    assert_served(&port, "i.m.x.test", "/", "B2");
    assert_served(&port, "m.x.test", "/", "B1");
}

#[test]
fn rt_04_a_wildcard_does_not_cover_the_bare_name() {
    let (b0, b1) = (Backend::named("B0"), Backend::named("B1"));
    let port = Port::reserve();
    let text = default_listener(&port, &b0) + &shared(&port, &[("*.x.test", &b1)]);
    let _lockgate = Lockgate::with("game.toml", &text).start();
    assert_served(&port, "x.test", "/", "B0");
    assert_served(&port, "www.x.test", "/", "B1");
    // Nor a name that only ends like it.
    assert_served(&port, "wwwx.test", "/", "B0");
}

#[test]
fn rt_05_a_wildcard_covers_several_labels() {
    let b1 = Backend::named("B1");
    let port = Port::reserve();
    let _lockgate = Lockgate::with("game.toml", &shared(&port, &[("*.x.test", &b1)])).start();
    assert_served(&port, "p.q.x.test", "/", "B1");
}

#[test]
fn rt_06_case_port_and_trailing_dot_do_not_matter() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut client = site.connect();
    for host in ["A.TEST", "a.test:9030", "a.test.", "A.Test.:1"] {
        assert_eq!(client.get(host, "/").expect(200).backend(), "B1", "{host}");
    }
    let seen: Vec<String> = b1.requests().iter().map(|request| request.value("host")).collect();
    assert_eq!(seen, ["A.TEST", "a.test:9030", "a.test.", "A.Test.:1"]);
}

#[test]
fn rt_07_a_host_nobody_owns_gets_the_default() {
    let (b0, b1) = (Backend::named("B0"), Backend::named("B1"));
    let port = Port::reserve();
    let text = shared(&port, &[("a.test", &b1)]) + &default_listener(&port, &b0);
    let _lockgate = Lockgate::with("game.toml", &text).start();
    for host in ["unknown.test", "127.0.0.1", "[::1]:80"] {
        assert_served(&port, host, "/", "B0");
    }
    let response = Client::plain(port.number()).request("GET / HTTP/1.0\r\n\r\n").expect(200);
    assert_eq!(response.backend(), "B0");
    assert_eq!(b1.executions(), 0);
}

#[test]
fn rt_07_without_a_default_it_is_misdirected() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut client = site.connect();
    for host in ["unknown.test", "127.0.0.1", "a.test.evil.test", "xa.test"] {
        client.get(host, "/").expect(421);
    }
    site.lockgate.wait_for_log(&["cause=misdirected"]);
    // Without Host nothing says where to: that is no valid request.
    site.request("GET / HTTP/1.0\r\n\r\n").expect(400);
    b1.assert_untouched();
}

#[test]
fn rt_08_longest_prefix_wins() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let site = Site::http()
        .backend(&b1)
        .rule("path = \"/abc\"\ngroup = \"web\"")
        .rule("path = \"/abcd\"\ngroup = \"long\"")
        .more(&group("long", &b2))
        .start();
    let mut client = site.connect();
    for (target, backend) in [("/abcde", "B2"), ("/abcx", "B1"), ("/abc", "B1"), ("/abcd", "B2")] {
        assert_eq!(client.get("a.test", target).expect(200).backend(), backend, "{target}");
    }
}

#[test]
fn rt_08_the_order_of_the_rules_does_not_matter() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let site = Site::http()
        .backend(&b1)
        .rule("path = \"/abcd\"\ngroup = \"long\"")
        .rule("path = \"/abc\"\ngroup = \"web\"")
        .more(&group("long", &b2))
        .start();
    let mut client = site.connect();
    assert_eq!(client.get("a.test", "/abcde").expect(200).backend(), "B2");
    assert_eq!(client.get("a.test", "/abcx").expect(200).backend(), "B1");
}

#[test]
fn rt_10_a_prefix_is_not_a_segment() {
    let (b0, b1) = (Backend::named("B0"), Backend::named("B1"));
    let site = Site::http()
        .backend(&b0)
        .rule("path = \"/admin\"\ngroup = \"admin\"")
        .more(&group("admin", &b1))
        .start();
    assert_eq!(site.get("/administrator").expect(200).backend(), "B1");
}

#[test]
fn rt_11_what_no_rule_takes_goes_to_the_listeners_group() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let site = Site::http()
        .backend(&b2)
        .rule("path = \"/api\"\ngroup = \"api\"")
        .more(&group("api", &b1))
        .start();
    assert_eq!(site.get("/other").expect(200).backend(), "B2");
    assert_eq!(site.get("/api").expect(200).backend(), "B1");
}

#[test]
fn rt_12_no_rule_is_404_and_never_anothers_default() {
    let (b0, b1) = (Backend::named("B0"), Backend::named("B1"));
    let port = Port::reserve();
    let rule = "[[listener.rule]]\npath = \"/api\"\ngroup = \"api\"";
    let text = http_listener("a.test", &port, rule) + &group("api", &b1);
    let lockgate =
        Lockgate::with("a.toml", &text).file("rest.toml", &default_listener(&port, &b0)).start();
    Client::plain(port.number()).get("a.test", "/other").expect(404);
    lockgate.wait_for_log(&["cause=no_rule", "request_id="]);
    b0.assert_untouched();
    b1.assert_untouched();
    assert_served(&port, "a.test", "/api/x", "B1");
}

#[test]
fn rt_14_the_query_is_not_matched() {
    let (b0, b1) = (Backend::named("B0"), Backend::named("B1"));
    let site = Site::http()
        .backend(&b0)
        .rule("path = \"/abc\"\ngroup = \"abc\"")
        .more(&group("abc", &b1))
        .start();
    let mut client = site.connect();
    assert_eq!(client.get("a.test", "/x?p=/abc").expect(200).backend(), "B0");
    assert_eq!(client.get("a.test", "/abc?q=1").expect(200).backend(), "B1");
    assert_eq!(client.get("a.test", "/?/../abc").expect(200).backend(), "B0");
}

#[test]
fn rt_15_a_domain_has_one_owner_on_a_port() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let setup = Lockgate::with("one.toml", &shared(&port, &[("a.test", &b1)]))
        .file("two.toml", &shared(&port, &[("A.test", &b2)]));
    let check = setup.run(&["check"]).expect(1);
    assert!(check.text().contains("one.toml"), "{}", check.text());
    assert!(check.text().contains("two.toml"), "{}", check.text());
    let lockgate = setup.start();
    lockgate.wait_for_log(&["two.toml"]);
    assert_served(&port, "a.test", "/", "B1");
    b2.assert_untouched();
}

#[test]
fn rt_16_a_domain_belongs_to_its_port() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let (first, second) = (Port::reserve(), Port::reserve());
    let _lockgate = Lockgate::with("a.toml", &shared(&first, &[("a.test", &b1)]))
        .file("b.toml", &shared(&second, &[("b.test", &b2)]))
        .start();
    assert_served(&first, "a.test", "/", "B1");
    assert_served(&second, "b.test", "/", "B2");
    Client::plain(second.number()).get("a.test", "/").expect(421);
    assert_eq!(b2.executions(), 1);
}

#[test]
fn one_listener_may_have_several_domains_and_ports() {
    let b1 = Backend::named("B1");
    let (first, second) = (Port::reserve(), Port::reserve());
    let text = format!(
        "[[listener]]\ndomain = [\"a.test\", \"*.b.test\"]\nport = [{first}, {second}]\n\
         protocol = \"http\"\ngroup = \"web\"\n{}",
        group("web", &b1)
    );
    let _lockgate = Lockgate::with("game.toml", &text).start();
    for port in [&first, &second] {
        assert_served(port, "a.test", "/", "B1");
        assert_served(port, "x.b.test", "/", "B1");
    }
}

#[test]
fn the_path_is_matched_on_a_copy_and_forwarded_byte_for_byte() {
    let (b0, b1) = (Backend::named("B0"), Backend::named("B1"));
    let site = Site::http()
        .backend(&b0)
        .rule("path = \"/abc/\"\ngroup = \"abc\"")
        .more(&group("abc", &b1))
        .start();
    let mut client = site.connect();
    let cases = [
        ("/%61bc/x", "B1"),
        ("//abc//x", "B1"),
        ("/x/../abc/y", "B1"),
        ("/x/%2e%2E/abc/y", "B1"),
        ("/./abc/./y", "B1"),
        ("/abc%2Fx", "B0"),
        ("/abc/%2e%2e/other", "B0"),
        ("/abc/..", "B0"),
        ("/ABC/x", "B0"),
    ];
    for (target, backend) in cases {
        assert_eq!(client.get("a.test", target).expect(200).backend(), backend, "{target}");
    }
    let mut seen: Vec<String> =
        b0.requests().iter().chain(&b1.requests()).map(|request| request.target()).collect();
    let mut sent: Vec<String> = cases.iter().map(|(target, _)| (*target).to_owned()).collect();
    seen.sort();
    sent.sort();
    assert_eq!(seen, sent);
}

#[test]
fn a_path_that_climbs_above_the_root_is_400() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    for target in ["/..", "/../etc", "/a/../../b", "/%2e%2e/etc", "/.%2E/x", "/a/b/../../../c"] {
        site.get(target).expect(400);
    }
    b1.assert_untouched();
    site.get("/a/..").expect(200);
}

#[test]
fn absolute_form_replaces_the_host() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let _lockgate =
        Lockgate::with("game.toml", &shared(&port, &[("a.test", &b1), ("b.test", &b2)])).start();
    let mut client = Client::plain(port.number());
    let cases = [
        ("http://a.test/x?q=%20", "/x?q=%20", "a.test"),
        ("http://a.test", "/", "a.test"),
        ("http://a.test?q=1", "/?q=1", "a.test"),
        ("HTTP://A.test:81/", "/", "A.test:81"),
    ];
    for (target, _, _) in cases {
        let request = format!("GET {target} HTTP/1.1\r\nHost: b.test\r\n\r\n");
        assert_eq!(client.request(request).expect(200).backend(), "B1", "{target}");
    }
    for (request, (_, target, host)) in b1.requests().iter().zip(cases) {
        assert_eq!(request.target(), target);
        assert_eq!(request.value("host"), host);
    }
    assert_eq!(b1.executions(), cases.len());
    b2.assert_untouched();
}

#[test]
fn options_star_routes_as_the_root() {
    let (b0, b1) = (Backend::named("B0"), Backend::named("B1"));
    let site = Site::http()
        .backend(&b0)
        .rule("path = \"/x\"\ngroup = \"x\"")
        .more(&group("x", &b1))
        .start();
    let response = site.request("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(200);
    assert_eq!(response.backend(), "B0");
    assert_eq!(b0.request().request_line(), "OPTIONS * HTTP/1.1");
    // The asterisk belongs to OPTIONS alone.
    site.request("GET * HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(400);
}

#[test]
fn er_03_trace_and_connect_are_405() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    site.request("TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(405);
    let connect = "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n";
    let mut client = site.connect();
    client.send(connect);
    client.read().expect(405);
    b1.assert_untouched();
}

#[test]
fn unknown_methods_are_forwarded() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    site.request("PURGE /x HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(200);
    site.request("M-SEARCH /x HTTP/1.1\r\nHost: a.test\r\n\r\n").expect(200);
    let methods: Vec<String> = b1.requests().iter().map(|request| request.method()).collect();
    assert_eq!(methods, ["PURGE", "M-SEARCH"]);
}
