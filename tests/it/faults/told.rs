//! What is told of a request that had several attempts: to the operator under one
//! id, to a trusted peer by `Proxy-Status` (RFC 9209); and what a spent budget
//! takes from nobody.

use crate::support::{Backend, Client, Port, Site, eventually};

/// Reads each request and ends the connection without an answer.
fn closing(name: &str) -> Backend {
    Backend::scripted(name, |exchange| {
        exchange.read_body();
        exchange.close();
    })
}

fn failing(name: &str) -> Backend {
    Backend::answering(name, "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno")
}

/// The ids of the lines that have one, in order.
fn ids(log: &str) -> Vec<String> {
    let rest = log.lines().filter_map(|line| line.split_once("request_id="));
    rest.map(|(_, rest)| rest.split(' ').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn all_lines_of_a_request_have_the_id_that_its_client_gets() {
    let (port, b2) = (Port::reserve(), closing("B2"));
    let mut site = Site::http()
        .address_with(&port.refusing_address(), "max_fails = 0")
        .backend_with(&b2, "backup = true, max_fails = 0")
        .start();
    let mut client = site.connect();
    let pages: Vec<String> = (0..3).map(|_| client.get("a.test", "/").expect(502).text()).collect();
    let log = site.lockgate.log_to_the_end();
    let failed = log.lines().filter(|line| line.contains(" failed"));
    assert_eq!((failed.count(), ids(&log).len()), (6, 6), "{log}");
    for (pair, page) in ids(&log).chunks(2).zip(&pages) {
        assert_eq!(pair[0], pair[1], "{log}");
        assert!(page.contains(&pair[0]), "{page} {log}");
    }
    assert_ne!(ids(&log)[0], ids(&log)[2]);
}

#[test]
fn an_attempt_and_the_cut_that_follows_it_have_one_id() {
    let port = Port::reserve();
    let b2 =
        Backend::answering_then_closing("B2", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    let mut site =
        Site::http().address(&port.refusing_address()).backend_with(&b2, "backup = true").start();
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    client.read_cut();
    let log = site.lockgate.log_to_the_end();
    assert!(log.contains("cause=connect_refused") && log.contains("cause=body_closed"), "{log}");
    let ids = ids(&log);
    assert_eq!((ids.len(), &ids[0]), (2, &ids[1]), "{log}");
}

#[test]
fn attempts_before_a_real_answer_have_one_id_too() {
    let (b1, b2) = (failing("B1"), closing("B2"));
    let mut site = Site::http()
        .backend_with(&b1, "max_fails = 0")
        .backend_with(&b2, "backup = true")
        .more("[group.web.retry]\non = [\"http_500\", \"error\"]\n")
        .start();
    site.get("/").expect(500);
    let log = site.lockgate.log_to_the_end();
    assert!(log.contains("cause=http_500") && log.contains("cause=closed_before_header"), "{log}");
    let ids = ids(&log);
    assert_eq!((ids.len(), &ids[0]), (2, &ids[1]), "{log}");
}

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\"]";

#[test]
fn proxy_status_names_the_last_attempts_cause() {
    let port = Port::reserve();
    let (closing, silent) = (closing("B1"), Backend::hanging("B1"));
    let refusing = port.refusing_address();
    let of = |first: &str, second: &str, listener: &str| {
        Site::http()
            .listener(listener)
            .group("response_timeout = \"300ms\"")
            .address_with(first, "max_fails = 0")
            .address_with(second, "backup = true, max_fails = 0")
            .start()
    };
    for (first, second, status, said) in [
        (
            &refusing,
            &closing.address(),
            502,
            "lockgate; error=connection_terminated; details=\"closed_before_header\"",
        ),
        (
            &closing.address(),
            &refusing,
            502,
            "lockgate; error=connection_refused; details=\"connect_refused\"",
        ),
        (
            &refusing,
            &silent.address(),
            504,
            "lockgate; error=http_response_timeout; details=\"header_timeout\"",
        ),
        (
            &silent.address(),
            &refusing,
            502,
            "lockgate; error=connection_refused; details=\"connect_refused\"",
        ),
    ] {
        let response = of(first, second, TRUSTED).get("/").expect(status);
        assert_eq!(response.value("proxy-status"), said);
    }
    // To nobody else.
    let response = of(&refusing, &closing.address(), "").get("/").expect(502);
    assert!(response.values("proxy-status").is_empty());
}

#[test]
fn a_backends_own_error_has_no_proxy_status() {
    let (b1, b2) = (failing("B1"), closing("B2"));
    let site = Site::http()
        .listener(TRUSTED)
        .backend_with(&b1, "max_fails = 0")
        .backend_with(&b2, "backup = true")
        .more("[group.web.retry]\non = [\"http_500\", \"error\"]\n")
        .start();
    let response = site.get("/").expect(500);
    assert_eq!((b2.executions(), response.values("proxy-status").len()), (1, 0));
}

/// Sends requests until the group may send none again.
fn spend(client: &mut Client) {
    let spent = (0..1000).any(|_| {
        let response = client.get("a.test", "/");
        response.status == 502
            && response.value("proxy-status")
                == "lockgate; error=connection_terminated; details=\"budget_spent\""
    });
    assert!(spent, "the budget never ends");
}

#[test]
fn a_spent_budget_is_said_with_what_the_attempt_failed_of() {
    let (b1, b2) = (closing("B1"), Backend::named("B2"));
    let site = Site::http()
        .listener(TRUSTED)
        .backend_with(&b1, "max_fails = 0")
        .backend_with(&b2, "backup = true")
        .more("[group.web.retry]\nbudget = \"0%\"\n")
        .start();
    let mut client = site.connect();
    spend(&mut client);
    // The log has a limit of lines a second.
    eventually("it is logged", || {
        client.get("a.test", "/").expect(502);
        site.lockgate.log().lines().any(|line| {
            line.contains("cause=budget_spent") && line.contains("detail=\"closed_before_header")
        })
    });
}

/// A backend that has just come back has one trial, which a request that may not
/// be sent again must not take.
#[test]
fn a_spent_budget_takes_no_trial() {
    let (b1, b3) = (closing("B1"), Backend::named("B3"));
    let port = Port::reserve();
    let site = Site::http()
        .listener(TRUSTED)
        .backend_with(&b1, "max_fails = 0")
        .address_with(&port.refusing_address(), "backup = true, fail_timeout = \"2s\"")
        .backend_with(&b3, "backup = true")
        .more("[group.web.retry]\nbudget = \"0%\"\n")
        .start();
    let mut client = site.connect();
    spend(&mut client);
    let ejected = std::time::Instant::now();
    site.lockgate.wait_for_log(&["backend ejected"]);
    let b2 = Backend::at("B2", "127.0.0.1", port.number());
    // Now it is due, and the budget is still spent.
    std::thread::sleep(std::time::Duration::from_millis(2100).saturating_sub(ejected.elapsed()));
    for _ in 0..4 {
        client.get("a.test", "/").expect(502);
    }
    b2.assert_untouched();
    // Nobody listens at B1 any more: what it is not sent costs no budget.
    drop(b1);
    let to_b2 = (0..2).filter(|_| client.get("a.test", "/").expect(200).backend() == "B2");
    assert_eq!(to_b2.count(), 1, "its trial was taken");
}

/// Where nobody else is there the budget has no part in it.
#[test]
fn without_another_backend_nothing_is_taken_of_the_budget() {
    let b1 = closing("B1");
    let site = Site::http()
        .listener(TRUSTED)
        .backend(&b1)
        .more("[group.web.retry]\nbudget = \"0%\"\n")
        .start();
    let mut client = site.connect();
    for _ in 0..130 {
        let said = client.get("a.test", "/").expect(502).value("proxy-status");
        assert!(said.ends_with("details=\"closed_before_header\""), "{said}");
    }
}
