//! Passive health (SEMANTICS PH, DESIGN 4.5), and what it means to clients that
//! are bound (CI-13, CR-10, CR-11).

use crate::support::{Backend, Exchange, Port, Site, SiteBuilder, eventually};

/// A group with B1, where nobody listens yet, and B2.
fn beside(port: &Port, keys: &str, b2: &Backend, more: &str) -> Site {
    Site::http().address_with(&port.refusing_address(), keys).backend(b2).more(more).start()
}

#[test]
fn ph_01_one_failure_ejects() {
    let (port, b2) = (Port::reserve(), Backend::named("B2"));
    let mut site = beside(&port, "fail_timeout = \"1h\"", &b2, "");
    for _ in 0..10 {
        assert_eq!(site.get("/").expect(200).backend(), "B2");
    }
    // Two turns would have met B1 several times.
    let log = site.lockgate.log_to_the_end();
    assert_eq!(log.matches("attempt failed").count(), 1, "{log}");
    assert_eq!(log.matches("backend ejected").count(), 1, "{log}");
}

#[test]
fn ph_02_one_trial_brings_it_back() {
    let (port, b2) = (Port::reserve(), Backend::named("B2"));
    let site = beside(&port, "fail_timeout = \"1s\"", &b2, "");
    for _ in 0..10 {
        assert_eq!(site.get("/").expect(200).backend(), "B2");
    }
    let b1 = Backend::at("B1", "127.0.0.1", port.number());
    eventually("its trial brings it back", || site.get("/").expect(200).backend() == "B1");
    site.lockgate.wait_for_log(&["backend serves again"]);
    let served = (0..4).filter(|_| site.get("/").expect(200).backend() == "B1").count();
    assert_eq!(served, 2);
    drop(b1);
}

#[test]
fn ph_06_max_fails_0_asks_it_every_time() {
    let (port, b2) = (Port::reserve(), Backend::named("B2"));
    let site = beside(&port, "max_fails = 0", &b2, "");
    for _ in 0..8 {
        assert_eq!(site.get("/").expect(200).backend(), "B2");
    }
    eventually("every turn is told", || site.lockgate.log().matches("attempt failed").count() >= 4);
}

#[test]
fn ph_07_a_single_backend_is_asked_every_time() {
    let port = Port::reserve();
    let site = Site::http().address(&port.refusing_address()).start();
    for _ in 0..3 {
        site.get("/").expect(502);
    }
    let b1 = Backend::at("B1", "127.0.0.1", port.number());
    assert_eq!(site.get("/").expect(200).backend(), "B1");
    drop(b1);
}

#[test]
fn ph_08_the_primary_is_asked_once_and_then_the_backup_serves() {
    let (port, b2) = (Port::reserve(), Backend::named("B2"));
    let mut site = Site::http()
        .address_with(&port.refusing_address(), "fail_timeout = \"30s\"")
        .backend_with(&b2, "backup = true")
        .start();
    for _ in 0..10 {
        assert_eq!(site.get("/").expect(200).backend(), "B2");
    }
    let log = site.lockgate.log_to_the_end();
    assert_eq!(log.matches("attempt failed").count(), 1, "{log}");
}

#[test]
fn ph_09_the_primary_serves_again_once_it_is_repaired() {
    let (port, b2) = (Port::reserve(), Backend::named("B2"));
    let site = Site::http()
        .address_with(&port.refusing_address(), "fail_timeout = \"300ms\"")
        .backend_with(&b2, "backup = true")
        .start();
    assert_eq!(site.get("/").expect(200).backend(), "B2");
    let b1 = Backend::at("B1", "127.0.0.1", port.number());
    eventually("the primary has its trial", || site.get("/").expect(200).backend() == "B1");
    for _ in 0..5 {
        assert_eq!(site.get("/").expect(200).backend(), "B1");
    }
    drop(b1);
}

#[test]
fn ph_10_with_all_ejected_it_is_502_at_once() {
    let (first, second) = (Port::reserve(), Port::reserve());
    let site =
        Site::http().address(&first.refusing_address()).address(&second.refusing_address()).start();
    site.get("/").expect(502);
    site.lockgate.wait_for_log(&["status=502", "cause=connect_refused"]);
    site.get("/").expect(502);
    site.lockgate.wait_for_log(&["status=502", "cause=no_available_backend"]);
}

#[test]
fn all_down_may_mean_that_one_is_tried_all_the_same() {
    let (first, second) = (Port::reserve(), Port::reserve());
    let site = Site::http()
        .address(&first.refusing_address())
        .address(&second.refusing_address())
        .group("all_down = \"try\"")
        .start();
    site.get("/").expect(502);
    let b1 = Backend::at("B1", "127.0.0.1", first.number());
    let b2 = Backend::at("B2", "127.0.0.1", second.number());
    // Both are ejected for ten seconds, and nobody has to wait for them.
    site.get("/").expect(200);
    drop((b1, b2));
}

#[test]
fn ph_11_statuses_are_not_counted_unless_they_are_listed() {
    let b1 = Backend::answering("B1", "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nB1");
    let b2 = Backend::named("B2");
    let both = || Site::http().backend(&b1).backend(&b2);
    let site = both().start();
    let bad = (0..10).filter(|_| site.get("/").status == 500).count();
    assert_eq!(bad, 5);
    let mut site = both().more("[group.web.retry]\non = [\"http_500\"]\n").start();
    for _ in 0..10 {
        assert_eq!(site.get("/").expect(200).backend(), "B2");
    }
    let log = site.lockgate.log_to_the_end();
    assert_eq!(log.matches("attempt failed").count(), 1, "{log}");
}

/// One request that no backend survives must not empty the group.
#[test]
fn a_poisonous_request_ejects_no_more_than_half() {
    let backends = ["B1", "B2", "B3", "B4"].map(|name| {
        Backend::scripted(name, |exchange| {
            exchange.read_body();
            match exchange.request().target().as_str() {
                "/poison" => exchange.close(),
                _ => exchange.echo(),
            }
        })
    });
    let mut site = backends.iter().fold(Site::http(), SiteBuilder::backend).start();
    for _ in 0..6 {
        site.get("/poison").expect(502);
    }
    for _ in 0..6 {
        site.get("/").expect(200);
    }
    let log = site.lockgate.log_to_the_end();
    assert_eq!(log.matches("backend ejected").count(), 2, "{log}");
}

const INSERT: &str = "[group.web.sticky]\nmode = \"insert\"\n";

#[test]
fn ci_13_a_client_whose_backend_refuses_is_bound_anew() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let port = Port::reserve();
    let gone = Backend::at("B3", "127.0.0.1", port.number());
    let mut site = Site::http()
        .backend(&b1)
        .backend(&b2)
        .address_with(&port.refusing_address(), "fail_timeout = \"30s\"")
        .more(INSERT)
        .start();
    let cookie = loop {
        let response = site.get("/").expect(200);
        if response.backend() == "B3" {
            break response.value("set-cookie").split(';').next().unwrap().to_owned();
        }
    };
    drop(gone);
    let ask = |cookie: &str| {
        site.request(format!("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n"))
    };
    let moved = ask(&cookie).expect(200);
    let home = moved.backend();
    assert_ne!(home, "B3");
    let new = moved.value("set-cookie").split(';').next().unwrap().to_owned();
    assert_ne!(new, cookie);
    for _ in 0..4 {
        let response = ask(&new).expect(200);
        assert_eq!((response.backend(), response.values("set-cookie")), (home.clone(), vec![]));
        // The old cookie does not bring anybody to B3 any more either.
        assert_ne!(ask(&cookie).expect(200).backend(), "B3");
    }
    let log = site.lockgate.log_to_the_end();
    assert_eq!(log.matches("attempt failed").count(), 1, "{log}");
}

#[test]
fn a_client_whose_backend_times_out_is_served_elsewhere_and_stays_bound() {
    let backends = ["B1", "B2"].map(|name| {
        Backend::scripted(name, |exchange| match exchange.request().target().as_str() {
            "/hang" => drop(exchange.wait_until_left()),
            _ => exchange.echo(),
        })
    });
    let site = backends
        .iter()
        .fold(Site::http(), SiteBuilder::backend)
        .group("response_timeout = \"300ms\"")
        .more(INSERT)
        .start();
    let first = site.get("/").expect(200);
    let (home, line) = (first.backend(), first.value("set-cookie"));
    let cookie = line.split(';').next().unwrap();
    let ask = |target: &str| {
        site.request(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n"))
    };
    // Both hang on this one: 504, and the home is ejected for it.
    ask("/hang").expect(504);
    site.lockgate.wait_for_log(&["backend ejected", "cause=header_timeout"]);
    for _ in 0..3 {
        let response = ask("/").expect(200);
        assert_eq!((response.backend(), response.values("set-cookie")), (home.clone(), vec![]));
    }
}

/// Whatever its backend failed of: while it is there the client's session is too.
#[test]
fn a_request_that_its_home_failed_leaves_the_client_bound() {
    let backends = ["B1", "B2"].map(|name| {
        Backend::scripted(name, move |exchange| {
            exchange.read_body();
            let target = exchange.request().target();
            match target.strip_suffix(name) {
                Some("/hang-") => drop(exchange.wait_until_left()),
                Some("/close-") => exchange.close(),
                Some("/fail-") => exchange.send("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
                _ => exchange.echo(),
            }
        })
    });
    for fault in ["hang", "close", "fail"] {
        let site = backends
            .iter()
            .fold(Site::http(), SiteBuilder::backend)
            .group("response_timeout = \"300ms\"")
            .more("[group.web.retry]\non = [\"error\", \"timeout\", \"http_503\"]\n")
            .more(INSERT)
            .start();
        let first = site.get("/").expect(200);
        let (home, line) = (first.backend(), first.value("set-cookie"));
        let cookie = line.split(';').next().unwrap();
        let ask = |target: &str| {
            let request = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n");
            site.request(request + "\r\n").expect(200)
        };
        let elsewhere = ask(&format!("/{fault}-{home}"));
        assert_ne!(elsewhere.backend(), home, "{fault}");
        assert!(elsewhere.values("set-cookie").is_empty(), "{fault}: bound anew");
        assert_eq!(ask("/").backend(), home, "{fault}");
    }
}

/// The home is gone; what another backend did to the request changes nothing of it.
#[test]
fn a_client_whose_home_is_gone_is_bound_to_the_one_that_serves() {
    let port = Port::reserve();
    let b1 = Backend::at("B1", "127.0.0.1", port.number());
    let b2 = Backend::scripted("B2", |exchange| match exchange.request().target().as_str() {
        "/break" => exchange.close(),
        _ => exchange.echo(),
    });
    let b3 = Backend::named("B3");
    let site = Site::http()
        .address_with(&port.refusing_address(), "fail_timeout = \"1h\"")
        .backend_with(&b2, "max_fails = 0")
        .backend_with(&b3, "backup = true")
        .more(INSERT)
        .start();
    let cookie = loop {
        let response = site.get("/").expect(200);
        if response.backend() == "B1" {
            break response.value("set-cookie").split(';').next().unwrap().to_owned();
        }
    };
    drop(b1);
    let ask = |target: &str, cookie: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n");
        site.request(head + "\r\n").expect(200)
    };
    let moved = ask("/break", &cookie);
    assert_eq!(moved.backend(), "B3");
    let new = moved.value("set-cookie").split(';').next().unwrap().to_owned();
    assert_eq!(ask("/", &new).backend(), "B3");
}

#[test]
fn cr_10_cr_11_a_rewritten_cookie_follows_when_the_application_sets_it() {
    let port = Port::reserve();
    let script = |name: &'static str| {
        move |exchange: &mut Exchange<'_>| {
            let sets = exchange.request().target() == "/set";
            let line = if sets { "Set-Cookie: G=v\r\n" } else { "" };
            exchange.send(format!("HTTP/1.1 200 OK\r\n{line}Content-Length: 3\r\n\r\n{name}\n"));
        }
    };
    let b1 = Backend::scripted("B1", script("B1"));
    let b2 = Backend::scripted_at("B2", port.number(), script("B2"));
    let site = Site::http()
        .backend(&b1)
        .address_with(&port.refusing_address(), "fail_timeout = \"30s\"")
        .more("[group.web.sticky]\nmode = \"rewrite\"\ncookie = \"G\"\n")
        .start();
    let cookie = loop {
        let response = site.get("/set").expect(200);
        if response.backend() == "B2" {
            break response.value("set-cookie");
        }
    };
    let ask = |target: &str, cookie: &str| {
        site.request(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n"))
    };
    assert_eq!(ask("/", &cookie).expect(200).backend(), "B2");
    drop(b2);
    let elsewhere = ask("/", &cookie).expect(200);
    assert_eq!((elsewhere.backend().as_str(), elsewhere.values("set-cookie")), ("B1", vec![]));
    let new = ask("/set", &cookie).expect(200).value("set-cookie");
    assert!(new != cookie && new.ends_with("~v"), "{new}");
    let again = ask("/set", &new).expect(200);
    assert_eq!(again.value("set-cookie"), new, "it names the backend it is on");
}
