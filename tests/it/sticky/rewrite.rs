//! The application's own cookie, with our token in front of its value.

use http::Method;
use http::header::COOKIE;

use super::{get, set, sticky, three};
use crate::support::{Backend, Gate, H2, Port, Setup, Site, http_listener};

const REWRITE: &str = "mode = \"rewrite\"\ncookie = \"GAMESID\"";
/// `lg-`, 32 characters, `~`.
const TOKEN: usize = 36;

/// Three backends that answer with these lines in their heads, `NAME` replaced
/// by their names.
fn setting(lines: &str) -> [Backend; 3] {
    ["B1", "B2", "B3"].map(|name| {
        let lines = lines.replace("NAME", name);
        Backend::scripted(name, move |exchange| {
            exchange.read_body();
            let sets = exchange.request().target() != "/plain";
            let lines = if sets { lines.as_str() } else { "" };
            let body = format!("{name}\n");
            exchange.send(format!(
                "HTTP/1.1 200 OK\r\n{lines}Content-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        })
    })
}

/// The token and what is behind it.
#[track_caller]
fn split(value: &str) -> (&str, &str) {
    let (token, own) = value.split_at(TOKEN);
    assert!(token.starts_with("lg-") && token.ends_with('~'), "{value}");
    (token, own)
}

#[test]
fn cr_01_cr_02_without_the_applications_cookie_nothing_happens() {
    let backends = three();
    let site = sticky(Site::http(), &backends, REWRITE);
    for _ in 0..30 {
        let response = site.get("/").expect(200);
        assert!(response.values("set-cookie").is_empty());
    }
    assert_eq!(backends.each_ref().map(Backend::executions), [10, 10, 10]);
}

#[test]
fn cr_03_only_value_bytes_change() {
    for (line, before, after) in [
        (
            "GAMESID=abc; Path=/g; HttpOnly; Max-Age=99",
            "GAMESID=",
            "abc; Path=/g; HttpOnly; Max-Age=99",
        ),
        ("GAMESID=abc", "GAMESID=", "abc"),
        ("GAMESID=;expires=Thu, 99 Foo 1970", "GAMESID=", ";expires=Thu, 99 Foo 1970"),
        ("GAMESID = a=b ; X-New=\"1;2\";;secure", "GAMESID = ", "a=b ; X-New=\"1;2\";;secure"),
        // Inside the quotes: outside it would be no cookie to strict readers.
        ("GAMESID=\"a b\"; Path=/", "GAMESID=\"", "a b\"; Path=/"),
        ("GAMESID=\u{e9}\u{4e2d}; \u{fc}=1", "GAMESID=", "\u{e9}\u{4e2d}; \u{fc}=1"),
    ] {
        let backends = setting(&format!("set-COOKIE: {line}\r\n"));
        let site = sticky(Site::http(), &backends, REWRITE);
        let value = site.get("/").expect(200).value("set-cookie");
        let rest = value.strip_prefix(before).unwrap_or_else(|| panic!("{value}"));
        assert_eq!(split(rest).1, after, "{line}");
        let mut client = site.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let head = client.read_head();
        assert!(head.contains(&format!("set-COOKIE: {before}lg-")), "{head}");
    }
}

#[test]
fn cr_04_cr_07_a_client_comes_back_and_the_backend_sees_its_own_value() {
    let backends = setting("Set-Cookie: GAMESID=of-NAME; Path=/\r\n");
    let site = sticky(Site::http(), &backends, REWRITE);
    for _ in 0..5 {
        let response = site.get("/").expect(200);
        let (home, value) = (response.backend(), set(&response, "GAMESID").unwrap());
        assert_eq!(split(&value).1, format!("of-{home}"));
        let b = backends.iter().find(|b| b.name() == home).unwrap();
        for _ in 0..6 {
            let cookie = format!("a=1; GAMESID={value}; b=2");
            assert_eq!(get(&site, "/plain", &cookie).expect(200).backend(), home);
            let seen = b.request_of("/plain").unwrap().value("cookie");
            assert_eq!(seen, format!("a=1; GAMESID=of-{home}; b=2"));
        }
    }
}

#[test]
fn cr_06_what_a_client_invents_binds_nothing() {
    let backends = three();
    let site = sticky(Site::http(), &backends, REWRITE);
    let shaped = format!("GAMESID=lg-{}~foo", "A".repeat(32));
    for cookie in ["GAMESID=foo", &shaped] {
        for _ in 0..6 {
            let response = get(&site, "/", cookie).expect(200);
            assert!(response.values("set-cookie").is_empty());
        }
    }
    assert_eq!(backends.each_ref().map(Backend::executions), [4, 4, 4]);
    // What has the shape of a token is none of the application's.
    let seen = backends[0].requests().pop().unwrap().value("cookie");
    assert_eq!(seen, "GAMESID=foo");
}

#[test]
fn cr_08_only_the_named_cookie_is_altered() {
    let lines = "Set-Cookie: A=1\r\nSet-Cookie: GAMESID=2; Path=/\r\nSet-Cookie: gamesid=3\r\n\
                 Set-Cookie: XGAMESID=4\r\nSet-Cookie: GAMESID\r\nSet-Cookie: a; GAMESID=5\r\n";
    let backends = setting(lines);
    let site = sticky(Site::http(), &backends, REWRITE);
    let lines = site.get("/").expect(200).values("set-cookie");
    let altered = lines[1].strip_prefix("GAMESID=").unwrap();
    assert_eq!(split(altered).1, "2; Path=/");
    let others = [&lines[0], &lines[2], &lines[3], &lines[4], &lines[5]];
    assert_eq!(others, ["A=1", "gamesid=3", "XGAMESID=4", "GAMESID", "a; GAMESID=5"]);
}

#[test]
fn a_name_set_twice_is_altered_twice() {
    let lines = "Set-Cookie: GAMESID=1; Path=/a\r\nSet-Cookie: GAMESID=2; Path=/b\r\n";
    let backends = setting(lines);
    let site = sticky(Site::http(), &backends, REWRITE);
    let lines = site.get("/").expect(200).values("set-cookie");
    for (line, own) in lines.iter().zip(["1; Path=/a", "2; Path=/b"]) {
        assert_eq!(split(line.strip_prefix("GAMESID=").unwrap()).1, own);
    }
    // Both come back; both lose their tokens, and the first binds.
    let value = |line: &str| line.split(';').next().unwrap().to_owned();
    let cookie = format!("{}; {}", value(&lines[0]), value(&lines[1]));
    let home = get(&site, "/plain", &cookie).expect(200).backend();
    let b = backends.iter().find(|b| b.name() == home).unwrap();
    assert_eq!(b.request_of("/plain").unwrap().value("cookie"), "GAMESID=1; GAMESID=2");
}

#[test]
fn errors_and_redirects_set_it_too() {
    for status in [302, 404, 500] {
        let answer = format!(
            "HTTP/1.1 {status} X\r\nSet-Cookie: GAMESID=v\r\nCache-Control: public\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let backends = [Backend::answering("B1", answer)];
        let site = sticky(Site::http(), &backends, REWRITE);
        let value = set(&site.get("/").expect(status), "GAMESID").unwrap();
        assert_eq!(split(&value).1, "v");
    }
}

#[test]
fn the_players_tag_stays_while_the_application_renews_its_cookie() {
    let backends = setting("Set-Cookie: GAMESID=v\r\n");
    let site = sticky(Site::http(), &backends, REWRITE);
    let first = site.get("/").expect(200);
    let value = set(&first, "GAMESID").unwrap();
    let again = get(&site, "/", &format!("GAMESID={value}")).expect(200);
    assert_eq!(set(&again, "GAMESID").unwrap(), value, "the same backend, the same player");
}

/// As in the other mode: over `max_connections` another backend serves this one
/// request, and its cookie leads back home.
#[test]
fn a_full_backend_keeps_whom_another_one_serves_this_once() {
    let gate = Gate::default();
    let backends = ["B1", "B2"].map(|name| {
        let hold = gate.clone();
        Backend::scripted(name, move |exchange| {
            exchange.read_body();
            if exchange.request().target() == "/hold" {
                hold.pass();
            }
            exchange.send(format!(
                "HTTP/1.1 200 OK\r\nSet-Cookie: GAMESID=v\r\nContent-Length: 3\r\n\r\n{name}\n"
            ));
        })
    });
    let site = backends
        .iter()
        .fold(Site::http(), |site, b| site.backend_with(b, "max_connections = 1"))
        .more(&format!("[group.web.sticky]\n{REWRITE}\n"))
        .start();
    let first = site.get("/").expect(200);
    let (home, value) = (first.backend(), set(&first, "GAMESID").unwrap());
    let cookie = format!("GAMESID={value}");
    let mut held = site.connect();
    held.send(format!("GET /hold HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n"));
    backends.iter().find(|b| b.name() == home).unwrap().wait_for_executions(2);
    let response = get(&site, "/", &cookie).expect(200);
    assert_ne!(response.backend(), home);
    assert_eq!(set(&response, "GAMESID").unwrap(), value, "the binding stays");
    gate.open();
    held.read().expect(200);
    assert_eq!(get(&site, "/", &cookie).expect(200).backend(), home);
}

#[test]
fn a_host_prefixed_name_works() {
    let backends = setting("Set-Cookie: __Host-s=v; Secure; Path=/\r\n");
    let keys = "mode = \"rewrite\"\ncookie = \"__Host-s\"";
    let site = sticky(Site::https(), &backends, keys);
    let response = site.get("/").expect(200);
    let value = set(&response, "__Host-s").unwrap();
    for _ in 0..4 {
        let again = get(&site, "/plain", &format!("__Host-s={value}")).expect(200);
        assert_eq!(again.backend(), response.backend());
    }
}

#[test]
fn other_groups_of_the_listener_see_the_applications_value() {
    let backends = setting("Set-Cookie: GAMESID=v\r\n");
    let other = Backend::named("other");
    let members = backends.each_ref().map(|b| format!("\"{}\"", b.address())).join(", ");
    let site = Site::http()
        .rule("path = \"/game\"\ngroup = \"game\"")
        .backend(&other)
        .more(&format!("[group.game]\nbackends = [{members}]\n[group.game.sticky]\n{REWRITE}\n"))
        .start();
    let value = set(&site.get("/game").expect(200), "GAMESID").unwrap();
    get(&site, "/", &format!("GAMESID={value}; x=lg-y")).expect(200);
    assert_eq!(other.request().value("cookie"), "GAMESID=v; x=lg-y");
}

#[test]
fn cr_13_two_domains_have_their_own_names() {
    let port = Port::reserve();
    let (a, b) = (setting("Set-Cookie: N1=v\r\n"), setting("Set-Cookie: N1=v\r\n"));
    let text = |file: &str, backends: &[Backend; 3], name: &str| {
        let [one, two, three] = backends.each_ref().map(|b| format!("\"{}\"", b.address()));
        format!(
            "{}[group.web]\nbackends = [{one}, {two}, {three}]\n\
             [group.web.sticky]\nmode = \"rewrite\"\ncookie = \"{name}\"\n",
            http_listener(&format!("{file}.test"), &port, "group = \"web\"")
        )
    };
    let _lockgate = Setup::empty()
        .file("a.toml", &text("a", &a, "N1"))
        .file("b.toml", &text("b", &b, "N2"))
        .start();
    let mut client = crate::support::Client::plain(port.number());
    let value = set(&client.get("a.test", "/").expect(200), "N1").unwrap();
    split(&value);
    // There it is the application's cookie and nothing else.
    assert_eq!(set(&client.get("b.test", "/").expect(200), "N1").as_deref(), Some("v"));
    client.send(format!("GET /plain HTTP/1.1\r\nHost: b.test\r\nCookie: N1={value}\r\n\r\n"));
    let home = client.read().expect(200).backend();
    let b = b.iter().find(|b| b.name() == home).unwrap();
    assert_eq!(b.request_of("/plain").unwrap().value("cookie"), format!("N1={value}"));
}

#[test]
fn over_http_2() {
    let backends = setting("Set-Cookie: A=1\r\nSet-Cookie: GAMESID=of-NAME; X=\u{e9}; Path=/\r\n");
    let site = sticky(Site::https(), &backends, REWRITE);
    let mut h2 = H2::to(&site);
    let first = h2.get("/").expect(200);
    let home = first.text().trim_end().to_owned();
    let lines: Vec<&[u8]> =
        first.fields.get_all("set-cookie").iter().map(http::HeaderValue::as_bytes).collect();
    assert_eq!(lines[0], b"A=1");
    let line = String::from_utf8(lines[1].to_vec()).unwrap();
    let (token, own) = split(line.strip_prefix("GAMESID=").unwrap());
    assert_eq!(own, format!("of-{home}; X=\u{e9}; Path=/"));
    let b = backends.iter().find(|b| b.name() == home).unwrap();
    for _ in 0..4 {
        let mut request = h2.request(Method::GET, "/plain");
        request.headers_mut().append(COOKIE, "a=1".parse().unwrap());
        let ours = format!("GAMESID={token}of-{home}");
        request.headers_mut().append(COOKIE, ours.parse().unwrap());
        assert_eq!(h2.ask(request).expect(200).text().trim_end(), home);
        let seen = b.request_of("/plain").unwrap().value("cookie");
        assert_eq!(seen, format!("a=1; GAMESID=of-{home}"));
    }
}
