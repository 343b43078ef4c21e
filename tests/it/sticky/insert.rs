//! The proxy's own cookie.

use std::time::{Duration, Instant};

use http::Method;
use http::header::COOKIE;

use super::{ask, get, newcomer, set, status, sticky, three};
use crate::support::{
    Backend, Client, H2, Port, SWITCHING, Setup, Site, UPGRADE, eventually, http_listener,
};

const INSERT: &str = "mode = \"insert\"";

#[test]
fn ci_01_the_first_response_sets_one_cookie() {
    let backends = three();
    for (site, attributes) in [
        (Site::http(), "; HttpOnly; Path=/"),
        (Site::https(), "; HttpOnly; SameSite=None; Secure; Path=/"),
    ] {
        let site = sticky(site, &backends, INSERT);
        let line = site.get("/").expect(200).value("set-cookie");
        let value = line.strip_prefix("SERVERID=").and_then(|line| line.strip_suffix(attributes));
        // CI-02, CI-03: the form is our own, and nothing can be read in it.
        let value = value.unwrap_or_else(|| panic!("{line}"));
        assert_eq!(value.len(), 48, "{line}");
        assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{line}");
    }
}

#[test]
fn ci_02_every_client_gets_its_own() {
    let backends = [Backend::named("B1")];
    let site = sticky(Site::http(), &backends, INSERT);
    assert_ne!(newcomer(&site).1, newcomer(&site).1);
}

#[test]
fn ci_03_attributes_are_what_the_file_says() {
    let backends = three();
    let keys = "mode = \"insert\"\ncookie = \"stay\"\npath = \"/game\"\nhttp_only = false\n\
                same_site = \"lax\"\npartitioned = true";
    let site = sticky(Site::https(), &backends, keys);
    let line = site.get("/game/x").expect(200).value("set-cookie");
    assert!(line.starts_with("stay="), "{line}");
    let attributes = "; SameSite=Lax; Partitioned; Secure; Path=/game";
    assert!(line.ends_with(attributes), "{line}");
}

#[test]
fn ci_04_a_client_comes_back_to_its_backend() {
    let backends = three();
    let site = sticky(Site::http(), &backends, INSERT);
    for _ in 0..5 {
        let (home, cookie) = newcomer(&site);
        for _ in 0..10 {
            let response = get(&site, "/", &cookie).expect(200);
            assert_eq!(response.backend(), home);
            assert_eq!(set(&response, "SERVERID"), None, "it is young enough");
        }
    }
    // On both workers.
    let site = sticky(Site::http().workers(2), &backends, INSERT);
    let (home, cookie) = newcomer(&site);
    for _ in 0..20 {
        assert_eq!(get(&site, "/", &cookie).expect(200).backend(), home);
    }
}

#[test]
fn newcomers_are_balanced() {
    let backends = three();
    let site = sticky(Site::http(), &backends, INSERT);
    for _ in 0..6 {
        newcomer(&site);
    }
    assert_eq!(backends.each_ref().map(Backend::executions), [2, 2, 2]);
}

#[test]
fn ci_06_a_cookie_is_renewed_after_a_tenth_of_idle() {
    let backends = three();
    let site = sticky(Site::http(), &backends, "mode = \"insert\"\nidle = \"10s\"");
    let (home, cookie) = newcomer(&site);
    let mut renewed = None;
    eventually("a new cookie", || {
        let response = get(&site, "/", &cookie).expect(200);
        assert_eq!(response.backend(), home);
        renewed = set(&response, "SERVERID");
        renewed.is_some()
    });
    let renewed = format!("SERVERID={}", renewed.unwrap());
    assert_ne!(renewed, cookie);
    assert_eq!(get(&site, "/", &renewed).expect(200).backend(), home);
}

#[test]
fn ci_07_an_unused_cookie_is_worth_nothing_after_idle() {
    let backends = three();
    let site = sticky(Site::http(), &backends, "mode = \"insert\"\nidle = \"1s\"");
    let (_, cookie) = newcomer(&site);
    eventually("it expired", || {
        assert!(get(&site, "/", &cookie).status == 200);
        status(&site.lockgate, "/sticky_cookies/rejected/expired") > 0
    });
    let response = get(&site, "/", &cookie).expect(200);
    assert!(set(&response, "SERVERID").is_some_and(|new| format!("SERVERID={new}") != cookie));
}

#[test]
fn max_life_ends_it_however_much_it_is_used() {
    let backends = three();
    let keys = "mode = \"insert\"\nidle = \"1s\"\nmax_life = \"2s\"";
    let site = sticky(Site::http(), &backends, keys);
    let (_, mut cookie) = newcomer(&site);
    eventually("it expired", || {
        let response = get(&site, "/", &cookie).expect(200);
        if let Some(new) = set(&response, "SERVERID") {
            cookie = format!("SERVERID={new}");
        }
        status(&site.lockgate, "/sticky_cookies/rejected/expired") > 0
    });
}

#[test]
fn ci_08_idle_slides() {
    let backends = three();
    let site = sticky(Site::http(), &backends, "mode = \"insert\"\nidle = \"5s\"");
    let (home, mut cookie) = newcomer(&site);
    let mut client = site.connect();
    let (begin, mut renewals) = (Instant::now(), 0);
    // For longer than `idle`, and never nearly that without a request.
    while begin.elapsed() < Duration::from_secs(7) {
        let response = ask(&mut client, "/", &cookie).expect(200);
        assert_eq!(response.backend(), home);
        if let Some(new) = set(&response, "SERVERID") {
            cookie = format!("SERVERID={new}");
            renewals += 1;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(renewals > 2, "{renewals}");
}

#[test]
fn ci_09_ci_10_what_is_no_cookie_of_ours_is_as_none() {
    let backends = three();
    let site = sticky(Site::http(), &backends, INSERT);
    let (_, good) = newcomer(&site);
    let (_, other) = newcomer(&site);
    let forged = format!("{}{}", &good[..30], &other[30..]);
    let long = format!("SERVERID={}", "A".repeat(5000));
    for (cookie, reason) in [
        ("SERVERID=garbage", "shape"),
        ("SERVERID=", "shape"),
        ("SERVERID=\"\"", "shape"),
        (&good[..good.len() - 1], "shape"),
        (&long, "shape"),
        ("SERVERID=\u{ff}\u{fe}", "shape"),
        (&forged, "forged"),
    ] {
        let pointer = format!("/sticky_cookies/rejected/{reason}");
        let before = status(&site.lockgate, &pointer);
        let response = get(&site, "/", cookie).expect(200);
        assert!(set(&response, "SERVERID").is_some(), "{cookie}: a new one");
        assert_eq!(status(&site.lockgate, &pointer), before + 1, "{cookie}");
    }
    // Nobody can have signed it with any key.
    let unknown = format!("SERVERID={}", "A".repeat(48));
    assert!(set(&get(&site, "/", &unknown).expect(200), "SERVERID").is_some());
}

#[test]
fn a_cookie_of_another_group_is_worth_nothing() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let site = Site::http()
        .rule("path = \"/other\"\ngroup = \"other\"")
        .backend(&b1)
        .more(&format!(
            "[group.web.sticky]\nmode = \"insert\"\n[group.other]\nbackends = [\"{}\"]\n\
             [group.other.sticky]\nmode = \"insert\"\ncookie = \"OTHER\"\n",
            b2.address()
        ))
        .start();
    let (_, cookie) = newcomer(&site);
    let replayed = cookie.replace("SERVERID", "OTHER");
    let response = get(&site, "/other", &replayed).expect(200);
    assert!(set(&response, "OTHER").is_some());
    assert_eq!(status(&site.lockgate, "/sticky_cookies/rejected/forged"), 1);
    // Neither backend gets to see either of them.
    assert!(b2.request().values("cookie").is_empty());
    let both = format!("{cookie}; {replayed}; a=1");
    get(&site, "/", &both).expect(200);
    assert_eq!(b1.requests().pop().unwrap().value("cookie"), "a=1");
}

/// Two games may call their groups and backends the same.
#[test]
fn a_cookie_of_another_file_is_worth_nothing() {
    let port = Port::reserve();
    let backends = [Backend::named("B1"), Backend::named("B2")];
    let text = |host: &str| {
        let [one, two] = backends.each_ref().map(|b| format!("\"{}\"", b.address()));
        format!(
            "{}[group.web]\nbackends = [{one}, {two}]\n[group.web.sticky]\n{INSERT}\n",
            http_listener(host, &port, "group = \"web\"")
        )
    };
    let lockgate =
        Setup::empty().file("a.toml", &text("a.test")).file("b.toml", &text("b.test")).start();
    let mut client = Client::plain(port.number());
    let value = set(&client.get("a.test", "/").expect(200), "SERVERID").unwrap();
    client.send(format!("GET / HTTP/1.1\r\nHost: b.test\r\nCookie: SERVERID={value}\r\n\r\n"));
    assert!(set(&client.read().expect(200), "SERVERID").is_some());
    assert_eq!(status(&lockgate, "/sticky_cookies/rejected/forged"), 1);
}

#[test]
fn ci_16_none_with_an_error() {
    let backends = three();
    let site = sticky(Site::http(), &backends, INSERT);
    for status in [400, 404, 500, 503] {
        let response = site.get(&format!("/status/{status}")).expect(status);
        assert!(response.values("set-cookie").is_empty());
    }
}

#[test]
fn ci_17_one_with_a_redirect() {
    let backends = three();
    let site = sticky(Site::http(), &backends, INSERT);
    let response = site.get("/status/302").expect(302);
    let value = set(&response, "SERVERID").expect("a cookie");
    // A client that has one keeps it.
    let again = get(&site, "/status/302", &format!("SERVERID={value}")).expect(302);
    assert_eq!(set(&again, "SERVERID"), None);
}

#[test]
fn ci_18_the_applications_cookies_are_kept() {
    let lines = "Set-Cookie: a=1; Path=/x; Weird; Expires=Thu, 99 Foo 2042\r\n\
                 set-cookie:  b=\"q\"; \u{e9}=\u{fc}\r\nSet-Cookie: SERVERIDX=3\r\n";
    let answer = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
    let backends = [Backend::answering("B1", answer)];
    let site = sticky(Site::http(), &backends, INSERT);
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let head = client.read_head();
    assert!(head.contains(lines), "{head}");
    assert_eq!(head.matches("Set-Cookie: SERVERID=").count(), 1, "{head}");
}

/// What it sets would come back instead of ours, and it would not get to see it.
#[test]
fn a_backend_sets_a_cookie_of_our_name_in_vain() {
    let lines = "Set-Cookie: SERVERID=theirs; Path=/\r\nset-cookie:  SERVERID =\r\n\
                 Set-Cookie: serverid=1\r\nSet-Cookie: SERVERID\r\nSet-Cookie: a; SERVERID=2\r\n";
    let others = ["serverid=1", "SERVERID", "a; SERVERID=2"];
    for status in [200, 500] {
        let answer = format!("HTTP/1.1 {status} X\r\n{lines}Content-Length: 0\r\n\r\n");
        let backends = [Backend::answering("B1", answer)];
        let site = sticky(Site::https(), &backends, INSERT);
        let first = site.get("/").expect(status).values("set-cookie");
        let new = first.last().filter(|_| status == 200);
        assert_eq!(first[..3], others, "{status}");
        assert_eq!(new.is_some_and(|line| line.starts_with("SERVERID=")), status == 200);
        assert_eq!(first.len(), 3 + usize::from(new.is_some()), "{first:?}");
        let Some(new) = new else { continue };
        let cookie = new.split(';').next().unwrap();
        let again = get(&site, "/", cookie).expect(200);
        assert_eq!(again.values("set-cookie"), others, "it is young enough");
        let mut h2 = H2::to(&site);
        let mut request = h2.request(Method::GET, "/");
        request.headers_mut().append(COOKIE, cookie.parse().unwrap());
        assert_eq!(h2.ask(request).expect(200).values("set-cookie"), others);
    }
}

#[test]
fn none_in_what_a_shared_cache_may_keep() {
    for (control, expected) in [
        ("public, max-age=60", false),
        ("max-age=5, s-maxage=60", false),
        ("private, max-age=60", true),
        ("max-age=60", true),
    ] {
        let answer =
            format!("HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nContent-Length: 0\r\n\r\n");
        let backends = [Backend::answering("B1", answer)];
        let site = sticky(Site::http(), &backends, INSERT);
        let response = site.get("/").expect(200);
        assert_eq!(set(&response, "SERVERID").is_some(), expected, "{control}");
    }
}

#[test]
fn ci_19_among_other_cookies() {
    let backends = three();
    let site = sticky(Site::http(), &backends, INSERT);
    let (home, ours) = newcomer(&site);
    let b = backends.iter().find(|b| b.name() == home).unwrap();
    for (cookie, left) in [
        (format!("a=1; {ours}; b=2"), Some("a=1; b=2")),
        (format!("XSERVERID=junk; {ours}"), Some("XSERVERID=junk")),
        (format!("{ours}; a=\u{e9}\u{4e2d}"), Some("a=\u{e9}\u{4e2d}")),
        (format!("SERVERID=old; {ours}"), None),
        (format!("a=1; {}\"", ours.replace('=', "=\"")), Some("a=1")),
        (ours.clone(), None),
        (format!("big={}; {ours}", "x".repeat(8000)), Some(&*format!("big={}", "x".repeat(8000)))),
    ] {
        assert_eq!(get(&site, "/seen", &cookie).expect(200).backend(), home, "{cookie}");
        let seen = b.request_of("/seen").unwrap().values("cookie");
        assert_eq!(seen.first().map(String::as_str), left, "{cookie}");
    }
    // In a Cookie field of its own.
    let response = site.request(format!(
        "GET /two HTTP/1.1\r\nHost: a.test\r\nCookie: a=1\r\nCookie: {ours}\r\nCookie: b=2\r\n\r\n"
    ));
    assert_eq!(response.expect(200).backend(), home);
    assert_eq!(b.request_of("/two").unwrap().values("cookie"), ["a=1", "b=2"]);
}

#[test]
fn of_two_good_cookies_the_first_binds() {
    let backends = three();
    let site = sticky(Site::http(), &backends, INSERT);
    let (first, one) = newcomer(&site);
    let (second, other) = newcomer(&site);
    assert_ne!(first, second);
    assert_eq!(get(&site, "/", &format!("{one}; {other}")).expect(200).backend(), first);
    assert_eq!(get(&site, "/", &format!("{other}; {one}")).expect(200).backend(), second);
}

/// Each that is looked at costs a signature.
#[test]
fn only_so_many_cookies_are_looked_at() {
    let backends = [Backend::named("B1")];
    let site = sticky(Site::http(), &backends, INSERT);
    let (_, cookie) = newcomer(&site);
    for (before, is_found) in [(15, true), (16, false)] {
        let field = format!("{}{cookie}; a=1", "SERVERID=x; ".repeat(before));
        let response = get(&site, "/", &field).expect(200);
        assert_eq!(set(&response, "SERVERID").is_none(), is_found, "{before}");
        assert_eq!(backends[0].requests().pop().unwrap().value("cookie"), "a=1");
    }
}

#[test]
fn ci_21_a_restart_changes_nothing() {
    let backends = three();
    let game = super::Game::new();
    let members = backends.each_ref().map(|backend| (backend, ""));
    let first = game.start(&members, "");
    let cookies = ["B1", "B2", "B3"].map(|name| (name, game.bound_to(name)));
    drop(first);
    let _second = game.start(&members, "");
    for (home, cookie) in &cookies {
        let response = game.get(cookie).expect(200);
        assert_eq!((response.backend().as_str(), set(&response, "SERVERID")), (*home, None));
    }
}

#[test]
fn ci_21_two_instances_with_one_secret_honour_each_others_cookies() {
    let backends = three();
    let secret = "secret = \"0123456789abcdef0123456789abcdef\"";
    let site = || sticky(Site::http().top(secret), &backends, INSERT);
    let (one, other) = (site(), site());
    for _ in 0..3 {
        let (home, cookie) = newcomer(&one);
        for _ in 0..4 {
            assert_eq!(get(&other, "/", &cookie).expect(200).backend(), home);
        }
    }
    let stranger = sticky(Site::http(), &backends, INSERT);
    let (_, cookie) = newcomer(&one);
    let response = get(&stranger, "/", &cookie).expect(200);
    assert!(set(&response, "SERVERID").is_some(), "its own secret is another");
}

#[test]
fn over_http_2_the_crumbs_are_one_cookie() {
    let backends = three();
    let site = sticky(Site::https(), &backends, INSERT);
    let mut h2 = H2::to(&site);
    let first = h2.get("/").expect(200);
    let line = first.values("set-cookie");
    let [line] = &line[..] else { panic!("{line:?}") };
    let cookie = line.split(';').next().unwrap().to_owned();
    let home = first.text().lines().next().unwrap().to_owned();
    let b = backends.iter().find(|b| b.name() == home).unwrap();
    for _ in 0..6 {
        let mut request = h2.request(Method::GET, "/crumbs");
        for crumb in ["a=1", &cookie, "b=2"] {
            request.headers_mut().append(COOKIE, crumb.parse().unwrap());
        }
        let response = h2.ask(request).expect(200);
        assert_eq!(response.text().lines().next(), Some(&*home));
        assert!(response.values("set-cookie").is_empty());
        assert_eq!(b.request_of("/crumbs").unwrap().value("cookie"), "a=1; b=2");
    }
}

#[test]
fn ws_07_a_101_carries_the_cookie_and_a_cookie_binds() {
    let backends = ["B1", "B2", "B3"].map(|name| {
        Backend::scripted(name, move |exchange| {
            if exchange.request().values("upgrade").is_empty() {
                return exchange.echo();
            }
            exchange.send(format!("{}\r\nX-Backend: {name}\r\n\r\n", SWITCHING.trim_end()));
            exchange.mirror();
        })
    });
    let site = sticky(Site::https(), &backends, INSERT);
    let open = |cookie: &str| -> (Client, crate::support::Response) {
        let mut client = site.connect();
        client.send(UPGRADE.replace("\r\n\r\n", &format!("\r\nCookie: {cookie}\r\n\r\n")));
        let response = client.read();
        (client, response.expect(101))
    };
    let (_first, response) = open("a=1");
    let home = response.value("x-backend");
    let cookie = format!("SERVERID={}", set(&response, "SERVERID").expect("a cookie"));
    let mut held = Vec::new();
    for _ in 0..5 {
        let (client, response) = open(&cookie);
        assert_eq!(response.value("x-backend"), home);
        assert_eq!(set(&response, "SERVERID"), None);
        held.push(client);
    }
    assert_eq!(get(&site, "/", &cookie).expect(200).backend(), home);
    // The tunnels and the player are counted at its backend.
    let place = usize::from(home.as_bytes()[1] - b'1');
    let at = |what| format!("/games/0/groups/0/backends/{place}/{what}");
    assert_eq!(status(&site.lockgate, &at("tunnels")), 6);
    assert_eq!(status(&site.lockgate, &at("players")), 1);
    drop((held, _first));
    eventually("the tunnels are gone", || status(&site.lockgate, &at("tunnels")) == 0);
}

#[test]
fn a_websocket_over_http_2_is_bound_too() {
    let backends = ["B1", "B2", "B3"].map(|name| {
        Backend::scripted(name, move |exchange| {
            if exchange.request().values("upgrade").is_empty() {
                return exchange.echo();
            }
            exchange.send(format!("{}\r\nX-Backend: {name}\r\n\r\n", SWITCHING.trim_end()));
            exchange.mirror();
        })
    });
    let site = sticky(Site::https(), &backends, INSERT);
    let mut h2 = H2::to(&site);
    let head = h2.begin_websocket("/").head();
    let line = head.fields["set-cookie"].to_str().unwrap().to_owned();
    let cookie = line.split(';').next().unwrap();
    for _ in 0..4 {
        let mut request = h2.websocket("/");
        request.headers_mut().insert(COOKIE, cookie.parse().unwrap());
        let again = h2.begin(request, false).head();
        assert_eq!(again.fields["x-backend"], head.fields["x-backend"]);
        assert!(!again.fields.contains_key("set-cookie"));
    }
}

#[test]
fn what_cookies_were_worth_is_counted() {
    let backends = [Backend::named("B1")];
    let site = sticky(Site::http(), &backends, INSERT);
    let (_, cookie) = newcomer(&site);
    for cookie in [&cookie, &cookie, "a=1", "SERVERID=x"] {
        get(&site, "/", cookie).expect(200);
    }
    // A good one counts, whatever stands beside it.
    get(&site, "/", &format!("SERVERID=x; {cookie}")).expect(200);
    for (what, count) in [("absent", 2), ("good", 3), ("rejected/shape", 1)] {
        assert_eq!(status(&site.lockgate, &format!("/sticky_cookies/{what}")), count, "{what}");
    }
}

#[test]
fn players_are_counted_once_and_probes_not_at_all() {
    let backends = [Backend::named("B1")];
    let site = sticky(Site::http().workers(2), &backends, INSERT);
    let cookies: Vec<String> = (0..7).map(|_| newcomer(&site).1).collect();
    for cookie in cookies.iter().chain(&cookies).chain(&cookies) {
        get(&site, "/", cookie).expect(200);
    }
    for _ in 0..3 {
        newcomer(&site);
        // Nor does who brings what is none of ours.
        get(&site, "/", "SERVERID=garbage").expect(200);
    }
    let players = "/games/0/groups/0/backends/0/players";
    assert_eq!(status(&site.lockgate, players), 7);
}
