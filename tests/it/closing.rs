//! More of what a review found: ends of responses that a reset destroyed after
//! the connection was closed, a hint taken for an invitation, and refused
//! connections that hid a failure in the log.

use std::io::Write as _;

use crate::support::{Backend, Client, Port, Site, eventually, settled};

/// The kernel takes all of it at once: lockgate is done with it, and closes,
/// long before the client has it.
#[test]
fn bytes_that_come_after_the_close_do_not_destroy_the_response() {
    const LONG: usize = 2_500_000;
    for tls in [false, true] {
        let b1 = Backend::scripted("B1", |exchange| {
            exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n"));
            exchange.pour(LONG);
        });
        let builder = if tls { Site::https() } else { Site::http() };
        let site = builder.backend(&b1).start();
        let mut client = site.connect();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        b1.wait_for_executions(1);
        settled(|| b1.taken());
        let _ = client.try_send("\r\n");
        let arrived = client.read_or_cut().map(|response| response.body.len());
        assert_eq!(arrived, Some(LONG), "TLS: {tls}");
        client.assert_ends_cleanly();
    }
}

/// Without budget left a read says that there is nothing, whatever there is.
#[test]
fn the_end_of_a_burst_is_no_reset_wherever_the_budget_ends() {
    let b1 = Backend::named("B1");
    let rule = "path = \"/fixed\"\nrespond = { status = 200, body = \"fixed\" }";
    let site = Site::http().rule(rule).backend(&b1).start();
    for count in 120..=130 {
        // Together one input buffer; the rest stays in the kernel.
        let request = |close: &str, size: usize| {
            let head = format!("GET /fixed HTTP/1.1\r\nHost: a.test\r\n{close}X: ");
            let fill = "x".repeat(size - head.len() - 4);
            format!("{head}{fill}\r\n\r\n")
        };
        let size = 16_384 / (count + 1);
        let mut burst = request("", size).repeat(count - 1);
        burst += &request("Connection: close\r\n", 16_384 - burst.len());
        let mut client = site.connect();
        client.send(burst + "\r\n");
        for number in 0..count {
            let status = client.read_or_cut().map(|response| response.status);
            assert_eq!(status, Some(200), "answer {number} of {count}");
        }
        client.assert_ends_cleanly();
    }
}

/// Only 100 invites the client to send (RFC 9110 10.1.1).
#[test]
fn a_backend_that_hints_but_does_not_say_continue_is_504() {
    let b1 = Backend::raw("B1", |stream| {
        let mut block = [0; 1024];
        let _ = std::io::Read::read(stream, &mut block);
        let hint = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
        let _ = stream.write_all(hint);
        while std::io::Read::read(stream, &mut block).is_ok_and(|count| count > 0) {}
    });
    let site = Site::http()
        .listener("body_timeout = \"100ms\"")
        .group("response_timeout = \"600ms\"")
        .backend(&b1)
        .start();
    let request =
        "POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    site.request(request).expect(504);
    site.lockgate.wait_for_log(&["cause=header_timeout"]);
}

#[test]
fn refused_connections_do_not_hide_a_backends_failure_in_the_log() {
    let dead = Port::reserve();
    let site = Site::http()
        .process("[limits]\nconnections = 4\n")
        .address(&dead.refusing_address())
        .start();
    let mut client = site.connect();
    client.get("a.test", "/first").expect(502);
    let crowd: Vec<Client> = (0..400).map(|_| site.connect()).collect();
    client.get("a.test", "/second").expect(502);
    drop(crowd);
    eventually("the line is there", || site.lockgate.log().contains("/second"));
}
