//! Upstream connections: kept and used again (DESIGN wins over FH-09), never
//! one that ended or said too much, and closed when nobody needs them.

use crate::support::{Backend, Client, Gate, Site, eventually};

const NONE: [String; 0] = [];

#[test]
fn fh_09_backend_connections_are_used_again() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    for _ in 0..3 {
        site.get("/").expect(200);
    }
    assert_eq!(b1.connections(), 1);
    assert_eq!(b1.requests()[0].values("connection"), NONE);
}

#[test]
fn fh_09_unless_keepalive_is_off() {
    let b1 = Backend::named("B1");
    let site = Site::http().group("keepalive = false").backend(&b1).start();
    let mut client = site.connect();
    for _ in 0..3 {
        client.get("a.test", "/").expect(200);
    }
    assert_eq!(b1.connections(), 3);
    assert_eq!(b1.requests()[0].value("connection"), "close");
}

#[test]
fn a_backend_that_closes_kept_connections_costs_no_request() {
    // It ends each connection after two requests without saying so.
    let b1 = Backend::scripted("B1", |exchange| {
        exchange.echo();
        if exchange.earlier() == 1 {
            exchange.close();
        }
    });
    let site = Site::before(&b1);
    let mut client = site.connect();
    for round in 0..20 {
        client.get("a.test", "/").expect(200);
        // Its end has arrived before the next request is sent.
        let open = usize::from(round % 2 == 0);
        eventually("the connection ends", || b1.open() == open);
    }
    assert_eq!(b1.executions(), 20);
    assert_eq!(b1.connections(), 10);
}

#[test]
fn an_idle_upstream_connection_is_closed() {
    let b1 = Backend::named("B1");
    let site = Site::http().group("idle_timeout = \"300ms\"").backend(&b1).start();
    let begin = std::time::Instant::now();
    site.get("/").expect(200);
    eventually("the kept connection is closed", || b1.open() == 0);
    assert!(begin.elapsed() >= std::time::Duration::from_millis(300), "{:?}", begin.elapsed());
    site.get("/").expect(200);
    assert_eq!(b1.connections(), 2);
}

#[test]
fn a_backends_keep_alive_timeout_is_honoured() {
    // The default would keep it for a minute; the backend for a second.
    let b1 = Backend::answering(
        "B1",
        "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1, max=9\r\nContent-Length: 2\r\n\r\nok",
    );
    let site = Site::before(&b1);
    site.get("/").expect(200);
    eventually("the kept connection is closed", || b1.open() == 0);
}

#[test]
fn max_idle_bounds_what_is_kept() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        hold.pass();
        exchange.echo();
    });
    let site = Site::http().group("max_idle = 2").backend(&b1).start();
    let mut clients: Vec<Client> = (0..6)
        .map(|_| {
            let mut client = site.connect();
            client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
            client
        })
        .collect();
    b1.wait_for_executions(6);
    gate.open();
    for client in &mut clients {
        client.read().expect(200);
    }
    eventually("the surplus is closed", || b1.open() == 2);
}

#[test]
fn a_connection_whose_request_was_not_taken_whole_is_not_used_again() {
    // The answer is complete, the request is not: what the backend would read
    // next is the rest of a body.
    let b1 = Backend::scripted("B1", |exchange| {
        if exchange.request().method() == "POST" {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
            exchange.wait_until_left();
        } else {
            exchange.echo();
        }
    });
    let site = Site::before(&b1);
    let mut client = site.connect();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\nhalf");
    assert_eq!(client.read().expect(200).text(), "early");
    site.get("/").expect(200);
    assert_eq!(b1.connections(), 2);
    drop(client);
    site.get("/").expect(200);
    assert_eq!(b1.connections(), 2);
}

#[test]
fn clients_do_not_share_a_connection_at_the_same_time() {
    let b1 = Backend::named("B1");
    let site = Site::before(&b1);
    let mut clients: Vec<Client> = (0..5).map(|_| site.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("GET /slow/{} HTTP/1.1\r\nHost: a.test\r\n\r\n", 200 - number));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let text = client.read().expect(200).text();
        assert!(text.contains(&format!("GET /slow/{} ", 200 - number)), "{text}");
    }
    assert_eq!(b1.connections(), 5);
}
