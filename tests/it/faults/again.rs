//! What is the keep-alive race, and what only looks like it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Backend, Client, Exchange, Gate, Port, Site, SiteBuilder};

/// Answers the first request of a connection, and does this with the others.
fn then(act: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static) -> Backend {
    Backend::scripted("B1", move |exchange| {
        exchange.read_body();
        match exchange.earlier() {
            0 => exchange.reply("B1\n"),
            _ => act(exchange),
        }
    })
}

/// The second request on a kept connection gets this status, and is not sent again.
#[track_caller]
fn assert_no_race(b1: &Backend, status: u16) {
    let site = Site::http().group("response_timeout = \"300ms\"").backend(b1).start();
    site.get("/").expect(200);
    site.get("/").expect(status);
    assert_eq!((b1.connections(), b1.executions()), (1, 2));
}

#[test]
fn half_a_header_on_a_kept_connection_is_no_race() {
    assert_no_race(
        &then(|exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nA:");
            exchange.close();
        }),
        502,
    );
}

#[test]
fn an_interim_response_on_a_kept_connection_is_no_race() {
    assert_no_race(
        &then(|exchange| {
            exchange.send("HTTP/1.1 103 Early Hints\r\n\r\n");
            exchange.close();
        }),
        502,
    );
}

#[test]
fn silence_on_a_kept_connection_is_no_race() {
    assert_no_race(
        &then(|exchange| {
            exchange.wait_until_left();
        }),
        504,
    );
}

#[test]
fn garbage_on_a_kept_connection_is_no_race() {
    assert_no_race(&then(|exchange| exchange.send("garbage\r\n\r\n")), 502);
}

/// However many kept connections there are: the next may have gone the same way.
#[test]
fn after_the_race_the_connection_is_a_new_one() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.read_body();
        match exchange.earlier() {
            0 => {
                hold.pass();
                exchange.reply("B1\n");
            }
            _ => exchange.close(),
        }
    });
    let site = Site::before(&b1);
    let mut clients: Vec<Client> = (0..3)
        .map(|_| {
            let mut client = site.connect();
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            client
        })
        .collect();
    b1.wait_for_executions(3);
    gate.open();
    for client in &mut clients {
        client.read().expect(200);
    }
    site.get("/").expect(200);
    assert_eq!((b1.connections(), b1.executions()), (4, 5));
}

/// Whereas at the next backend nothing speaks against one.
#[test]
fn at_the_next_backend_it_may_be_a_kept_one() {
    let b1 = Backend::scripted("B1", |exchange| exchange.close());
    let b2 = Backend::named("B2");
    let site =
        Site::http().backend_with(&b1, "max_fails = 0").backend_with(&b2, "backup = true").start();
    for _ in 0..3 {
        assert_eq!(site.get("/").expect(200).backend(), "B2");
    }
    assert_eq!((b1.executions(), b2.connections(), b2.executions()), (3, 1, 3));
}

/// What the race sent does not count as sent: a second failure there still leaves
/// the next backend.
#[test]
fn the_race_takes_no_attempt_away() {
    let answered = AtomicBool::new(false);
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.read_body();
        match answered.swap(true, Ordering::SeqCst) {
            false => exchange.reply("B1\n"),
            true => exchange.close(),
        }
    });
    let b2 = Backend::named("B2");
    let site = Site::http().backend(&b1).backend_with(&b2, "backup = true").start();
    assert_eq!(site.get("/").expect(200).backend(), "B1");
    assert_eq!(site.get("/").expect(200).backend(), "B2");
    assert_eq!((b1.connections(), b1.executions()), (2, 3));
}

/// Answers are sent requests too.
#[test]
fn what_two_answered_goes_to_no_third() {
    let backends = ["B1", "B2", "B3"]
        .map(|name| Backend::answering(name, "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"));
    let site = backends.iter().fold(Site::http(), SiteBuilder::backend);
    let site = site.more("[group.web.retry]\non = [\"http_503\"]\n").start();
    site.get("/").expect(503);
    assert_eq!(backends.iter().map(Backend::executions).sum::<usize>(), 2);
}

/// And one that nobody saw is none.
#[test]
fn what_was_refused_counts_as_sent_to_nobody() {
    let port = Port::reserve();
    let backends = ["B2", "B3"].map(|name| Backend::scripted(name, |exchange| exchange.close()));
    let site = Site::http().address(&port.refusing_address());
    let site = backends.iter().fold(site, |site, b| site.backend_with(b, "backup = true")).start();
    site.get("/").expect(502);
    assert_eq!(backends.map(|backend| backend.executions()), [1, 1]);
}

/// What the client did wrong is said, whatever a backend answered before.
#[test]
fn a_client_that_stops_sending_gets_no_backends_answer() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.send("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno");
        exchange.wait_until_left();
    });
    let b2 = Backend::named("B2");
    let site = Site::http()
        .listener("body_timeout = \"300ms\"")
        .backend_with(&b1, "max_fails = 0")
        .backend_with(&b2, "backup = true")
        .more("[group.web.retry]\non = [\"http_500\"]\n")
        .start();
    let mut client = site.connect();
    client.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf");
    client.read().expect(408);
    assert_eq!((b1.executions(), b2.executions(), b2.completed()), (1, 1, 0));
}

/// The backend still waits for the rest of a body that went elsewhere: nothing
/// else may be sent there, even where its answer is the one that counts.
#[test]
fn a_connection_whose_upload_went_elsewhere_is_not_used_again() {
    let b1 = Backend::scripted("B1", |exchange| match exchange.request().method().as_str() {
        "PUT" => exchange.send("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nB1"),
        _ => exchange.echo(),
    });
    let b2 = Backend::scripted("B2", |exchange| exchange.close());
    let site = Site::http()
        .backend_with(&b1, "max_fails = 0")
        .backend_with(&b2, "backup = true")
        .more("[group.web.retry]\non = [\"http_500\", \"error\"]\n")
        .start();
    let mut client = site.connect();
    client.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf");
    assert_eq!(client.read().expect(500).text(), "B1");
    assert_eq!(site.get("/").expect(200).backend(), "B1");
    assert_eq!((b1.connections(), b2.executions()), (2, 1));
}

/// A backend that says again and again that it is at work is not silent.
#[test]
fn every_interim_response_is_a_sign_of_life() {
    let b1 = Backend::scripted("B1", |exchange| {
        for _ in 0..8 {
            exchange.pause(250);
            exchange.send("HTTP/1.1 102 Processing\r\n\r\n");
        }
        exchange.reply("B1\n");
    });
    let site = Site::http().group("response_timeout = \"1500ms\"").backend(&b1).start();
    assert_eq!(site.get("/").expect(200).interim.len(), 8);
}

/// More than the kernel takes on its way to a backend that does not read.
const LONG: usize = 15 << 20;

/// What was on its way to the first backend goes to the second once, all of it.
#[test]
fn a_body_that_was_stuck_at_the_first_backend_reaches_the_second() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        hold.pass();
        exchange.reset();
    });
    let b2 = Backend::named("B2");
    let site = Site::http()
        .backend_with(&b1, "max_fails = 0")
        .backend_with(&b2, "backup = true")
        .more("[group.web.retry]\nbody_buffer = \"16MiB\"\n")
        .start();
    let mut client = site.connect();
    client.send(format!("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {LONG}\r\n\r\n"));
    let sent = client.send_until_blocked(&[b'x'; 64 << 10], LONG - (1 << 20));
    assert!(sent < LONG - (1 << 20), "{sent} bytes went into nowhere");
    gate.open();
    client.send(vec![b'x'; LONG - sent - 7]);
    client.send("the end");
    assert_eq!(client.read().expect(200).backend(), "B2");
    let seen = b2.request();
    assert!(seen.complete && seen.body.len() == LONG && seen.body.ends_with(b"xthe end"));
    client.assert_open("a.test");
}

/// That the first backend had all of it says nothing of the second's connection.
#[test]
fn a_connection_that_took_half_of_a_body_is_not_used_again() {
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.read_body();
        exchange.close();
    });
    let gate = Gate::default();
    let hold = gate.clone();
    let b2 = Backend::scripted("B2", move |exchange| match exchange.request().method().as_str() {
        "PUT" => {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nB2");
            hold.pass();
            exchange.close();
        }
        _ => exchange.echo(),
    });
    let site = Site::http()
        .backend_with(&b1, "max_fails = 0")
        .backend_with(&b2, "backup = true")
        .more("[group.web.retry]\nbody_buffer = \"16MiB\"\n")
        .start();
    let head = format!("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {LONG}\r\n\r\n");
    let response = site.request([head.as_bytes(), &vec![b'x'; LONG]].concat());
    assert_eq!(response.expect(200).text(), "B2");
    assert_eq!(site.get("/").expect(200).backend(), "B2");
    assert_eq!(b2.connections(), 2);
    gate.open();
}
