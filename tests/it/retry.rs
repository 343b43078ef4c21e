//! Retries (SEMANTICS RE, DESIGN 4.7): a request whose backend fails goes to the
//! next one, unless that could execute it twice. The first backend is the group's
//! primary, the second its backup, so that it is known who is asked first.

use crate::support::{
    Backend, Client, H2, Port, Response, Silent, Site, SiteBuilder, chunked, eventually, pattern,
};

/// `first` is asked, then `second`.
fn site(first: &Backend, second: &Backend, retry: &str) -> Site {
    before(Site::http(), first, second, retry).start()
}

fn before(site: SiteBuilder, first: &Backend, second: &Backend, retry: &str) -> SiteBuilder {
    // Whatever happens B1 is asked again.
    site.backend_with(first, "max_fails = 0")
        .backend_with(second, "backup = true")
        .more(&format!("[group.web.retry]\n{retry}\n"))
}

/// Nobody listens at the first backend.
fn refusing(port: &Port, second: &Backend, retry: &str) -> Site {
    Site::http()
        .address(&port.refusing_address())
        .backend_with(second, "backup = true")
        .more(&format!("[group.web.retry]\n{retry}\n"))
        .start()
}

/// Reads each request and ends the connection without an answer.
fn closing() -> Backend {
    Backend::scripted("B1", |exchange| {
        exchange.read_body();
        exchange.close();
    })
}

#[track_caller]
fn from(response: Response, backend: &str) {
    assert_eq!(response.expect(200).backend(), backend);
}

#[test]
fn re_01_re_02_a_refused_connection_moves_on_for_any_method() {
    let (port, b2) = (Port::reserve(), Backend::named("B2"));
    let site = refusing(&port, &b2, "");
    from(site.get("/"), "B2");
    let body = pattern(300_000);
    from(site.post("/", &body), "B2");
    assert!(b2.requests().pop().unwrap().body == body, "not the same bytes");
    site.lockgate.wait_for_log(&["attempt failed", "cause=connect_refused", "backend="]);
}

#[test]
fn re_03_an_end_without_an_answer_moves_on_for_a_get() {
    let (b1, b2) = (closing(), Backend::named("B2"));
    from(site(&b1, &b2, "").get("/"), "B2");
    assert_eq!((b1.executions(), b2.executions()), (1, 1));
}

#[test]
fn re_04_a_post_that_was_sent_goes_nowhere_else() {
    let (b1, b2) = (closing(), Backend::named("B2"));
    let site = site(&b1, &b2, "");
    site.post("/", b"once").expect(502);
    b2.assert_untouched();
    assert_eq!(b1.executions(), 1);
    site.lockgate.wait_for_log(&["status=502", "cause=closed_before_header"]);
}

#[test]
fn re_05_unless_the_group_says_that_it_may() {
    let (b1, b2) = (closing(), Backend::named("B2"));
    let body = pattern(60_000);
    from(site(&b1, &b2, "non_idempotent = true").post("/", &body), "B2");
    let seen = b2.request();
    assert_eq!(seen.value("content-length"), "60000");
    assert!(seen.body == body && b1.request().body == body, "not the same bytes");
}

#[test]
fn an_idempotency_key_says_so_for_one_request() {
    let (b1, b2) = (closing(), Backend::named("B2"));
    let request =
        "POST / HTTP/1.1\r\nHost: a.test\r\nIdempotency-Key: 7\r\nContent-Length: 2\r\n\r\nhi";
    site(&b1, &b2, "").request(request).expect(502);
    from(site(&b1, &b2, "idempotency_key = true").request(request), "B2");
}

#[test]
fn a_body_is_sent_again_as_far_as_it_was_kept() {
    let (b1, b2) = (closing(), Backend::named("B2"));
    let site = site(&b1, &b2, "body_buffer = \"100KiB\"");
    for (size, status) in [(1, 200), (100 * 1024, 200), (100 * 1024 + 1, 502), (1 << 20, 502)] {
        let body = pattern(size);
        let head = format!("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {size}\r\n\r\n");
        let response = site.request([head.as_bytes(), &body].concat()).expect(status);
        if status == 200 {
            assert!(b2.requests().pop().unwrap().body == body, "{}", response.text());
        }
        let head = "PUT / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        let framed = chunked(&body, 7000, "");
        site.request([head.as_bytes(), &framed].concat()).expect(status);
        if status == 200 {
            let seen = b2.requests().pop().unwrap();
            assert_eq!(seen.value("transfer-encoding"), "chunked");
            assert!(seen.complete && seen.body == body, "{size}");
        }
    }
}

#[test]
fn a_body_whose_rest_still_comes_goes_on_at_the_next_backend() {
    // Ends after the head, while the client still sends.
    let b1 = Backend::raw("B1", |stream| {
        use std::io::Read;
        let _ = stream.read(&mut [0; 4096]);
    });
    let b2 = Backend::named("B2");
    let site = site(&b1, &b2, "");
    let body = pattern(40_000);
    let mut client = site.connect();
    client.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 40000\r\n\r\n");
    client.send(&body[..10_000]);
    eventually("it is asked elsewhere", || b2.executions() == 1);
    client.send(&body[10_000..]);
    from(client.read(), "B2");
    assert!(b2.request().body == body, "not the same bytes");
}

#[test]
fn re_07_a_connect_that_nobody_answers_moves_on_after_connect_timeout() {
    let (silent, b2) = (Silent::new(), Backend::named("B2"));
    let site = Site::http()
        .address(&silent.address())
        .backend_with(&b2, "backup = true")
        .group("connect_timeout = \"300ms\"")
        .start();
    from(site.post("/", b"once"), "B2");
    site.lockgate.wait_for_log(&["attempt failed", "cause=connect_timeout"]);
}

#[test]
fn re_08_a_cut_response_is_cut_and_nobody_else_is_asked() {
    let b1 =
        Backend::answering_then_closing("B1", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    let b2 = Backend::named("B2");
    let site = site(&b1, &b2, "");
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.read_cut();
    b2.assert_untouched();
}

/// Answers everything with this status and its name.
fn failing(name: &str, status: u16) -> Backend {
    let answer = format!(
        "HTTP/1.1 {status} No\r\nContent-Length: {}\r\nX-From: {name}\r\n\r\n{name}",
        name.len()
    );
    Backend::answering(name, answer)
}

#[test]
fn re_09_a_listed_status_moves_on() {
    let (b1, b2) = (failing("B1", 503), Backend::named("B2"));
    from(site(&b1, &b2, "on = [\"http_503\"]").get("/"), "B2");
    let unlisted = site(&b1, &b2, "");
    assert_eq!(unlisted.get("/").expect(503).text(), "B1");
    site(&b1, &b2, "on = [\"http_503\"]").post("/", b"x").expect(503);
    assert_eq!(b2.executions(), 1);
}

/// That a status is listed costs nobody his connection.
#[test]
fn a_listed_status_that_goes_to_the_client_keeps_both_connections() {
    let (b1, b2) = (failing("B1", 503), failing("B2", 503));
    let site = site(&b1, &b2, "on = [\"http_503\"]");
    let mut client = site.connect();
    for _ in 0..3 {
        client.post("a.test", "/", b"not twice").expect(503);
        assert_eq!(client.get("a.test", "/").expect(503).text(), "B2");
    }
    assert_eq!((b2.connections(), b2.executions()), (1, 3));
    // The GETs' answers that were passed by lie unread: only those cost one.
    assert!(b1.connections() <= 4, "{}", b1.connections());
}

#[test]
fn re_10_the_last_real_answer_goes_to_the_client() {
    let (b1, b2) = (failing("B1", 500), failing("B2", 500));
    let site = site(&b1, &b2, "on = [\"http_500\"]");
    assert_eq!(site.get("/").expect(500).text(), "B2");
    // One that gives no answer at all does not take the first's away.
    let b3 = closing();
    let site = before(Site::http(), &b1, &b3, "on = [\"http_500\", \"error\"]").start();
    let response = site.get("/").expect(500);
    assert_eq!((response.text().as_str(), b3.executions()), ("B1", 1));
}

#[test]
fn re_11_off_is_off() {
    let (port, b2) = (Port::reserve(), Backend::named("B2"));
    refusing(&port, &b2, "on = []").get("/").expect(502);
    b2.assert_untouched();
}

#[test]
fn re_12_tries_is_the_number_of_attempts() {
    let (first, second) = (Port::reserve(), Port::reserve());
    let b3 = Backend::named("B3");
    let site = |retry: &str| {
        Site::http()
            .address(&first.refusing_address())
            .address(&second.refusing_address())
            .backend_with(&b3, "backup = true")
            .more(&format!("[group.web.retry]\n{retry}\n"))
            .start()
    };
    site("tries = 2").get("/").expect(502);
    b3.assert_untouched();
    from(site("tries = 3").get("/"), "B3");
    from(site("").get("/"), "B3");
}

#[test]
fn what_was_sent_to_two_goes_to_no_third() {
    let (b1, b2) = (closing(), closing());
    let b3 = Backend::named("B3");
    let site = Site::http().backend(&b1).backend(&b2).backend_with(&b3, "backup = true").start();
    site.get("/").expect(502);
    assert_eq!((b1.executions() + b2.executions(), b3.executions()), (2, 0));
}

#[test]
fn re_15_garbage_moves_on_when_it_is_listed() {
    let b1 = Backend::answering_then_closing("B1", "garbage\r\n\r\n");
    let b2 = Backend::named("B2");
    site(&b1, &b2, "").get("/").expect(502);
    from(site(&b1, &b2, "on = [\"invalid_header\"]").get("/"), "B2");
}

#[test]
fn re_17_a_post_goes_to_the_backup_where_all_of_it_is_listed() {
    let (b1, b2) = (failing("B1", 500), Backend::named("B2"));
    let retry = "non_idempotent = true\ntries = 2\n\
                 on = [\"error\", \"timeout\", \"http_500\", \"http_502\", \"http_503\", \"http_504\"]";
    from(site(&b1, &b2, retry).post("/", b"seed"), "B2");
    assert_eq!(b2.request().body, b"seed");
}

#[test]
fn a_silent_backend_moves_on_after_response_timeout() {
    let (b1, b2) = (Backend::hanging("B1"), Backend::named("B2"));
    let silent = |retry: &str| {
        before(Site::http().group("response_timeout = \"200ms\""), &b1, &b2, retry).start()
    };
    from(silent("").get("/"), "B2");
    silent("on = [\"error\"]").get("/").expect(504);
    silent("").post("/", b"x").expect(504);
    assert_eq!(b2.executions(), 1);
}

#[test]
fn a_rule_may_have_its_own() {
    let (b1, b2) = (failing("B1", 503), Backend::named("B2"));
    let rule = "path = \"/safe\"\ngroup = \"web\"\nretry = { on = [\"http_503\"] }";
    let site = before(Site::http().rule(rule), &b1, &b2, "tries = 2").start();
    from(site.get("/safe"), "B2");
    site.get("/").expect(503);
}

#[test]
fn over_http_2_it_is_the_same() {
    let (b1, b2) = (closing(), Backend::named("B2"));
    let site = before(Site::https(), &b1, &b2, "non_idempotent = true").start();
    let mut h2 = H2::to(&site);
    assert_eq!(h2.get("/").expect(200).text().lines().next(), Some("B2"));
    let body = pattern(50_000);
    h2.post("/", &body).expect(200);
    assert!(b2.requests().pop().unwrap().body == body, "not the same bytes");
}

/// Keeps its connections and drops each in the moment it is used again.
fn racing() -> Backend {
    Backend::scripted("B1", |exchange| {
        exchange.read_body();
        if exchange.earlier() > 0 {
            return exchange.close();
        }
        exchange.reply("B1\n");
    })
}

#[test]
fn the_keep_alive_race_is_nobodys_failure() {
    let b1 = racing();
    let mut site = Site::before(&b1);
    for _ in 0..5 {
        from(site.get("/"), "B1");
    }
    // Each but the first met a closed connection, and got a fresh one.
    assert_eq!((b1.connections(), b1.executions()), (5, 9));
    let told = site.lockgate.run(&["status", "--json"]).expect(0).stdout;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let attempts = &told["games"][0]["groups"][0]["backends"][0]["attempts"];
    assert_eq!((&attempts["by_class"]["2xx"], &attempts["retries"]), (&5.into(), &0.into()));
    assert_eq!((&attempts["errors"], &attempts["by_cause"]), (&0.into(), &serde_json::json!({})));
    let log = site.lockgate.log_to_the_end();
    assert!(!log.contains("failed"), "{log}");
}

#[test]
fn a_post_in_the_keep_alive_race_is_502_and_no_failure_of_the_backend() {
    let (b1, b2) = (racing(), Backend::named("B2"));
    let site = site(&b1, &b2, "");
    from(site.get("/"), "B1");
    site.post("/", b"once").expect(502);
    // B1 is still asked first.
    from(site.get("/"), "B1");
    b2.assert_untouched();
}

#[test]
fn the_budget_bounds_what_is_sent_again() {
    let (b1, b2) = (closing(), Backend::named("B2"));
    let site = site(&b1, &b2, "budget = \"0%\"");
    let mut client: Client = site.connect();
    let good = (0..130).filter(|_| client.get("a.test", "/").status == 200).count();
    // The floor: 100 within ten seconds, which this may last longer than.
    assert!((100..130).contains(&good), "{good}");
    // The log has a limit of lines a second too.
    eventually("it is logged", || {
        client.get("a.test", "/").expect(502);
        site.lockgate.log().contains("cause=budget_spent")
    });
}
