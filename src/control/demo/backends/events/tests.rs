//! Event streams over real sockets.

use std::io::{BufRead, BufReader, Read, Write};

use serde_json::Value;

use super::super::tests::{answer, demo, started};
use super::super::{serving, watch};
use super::*;

/// One event: its id and its data.
fn event(reader: &mut impl BufRead) -> (String, Value) {
    let mut text = String::new();
    while !text.ends_with("\n\n") {
        assert_ne!(reader.read_line(&mut text).unwrap(), 0, "ended after {text:?}");
    }
    let line = |name| text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    (line("id: ").to_owned(), serde_json::from_str(line("data: ")).unwrap())
}

#[test]
fn events_count_on_and_say_who_sends_them() {
    let (_backends, mut stream) = started();
    stream.write_all(b"GET /events HTTP/1.0\r\nLast-Event-ID: 41\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let (head, _) = answer(&mut reader);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("\r\nContent-Type: text/event-stream\r\n"), "{head}");
    assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
    assert!(!head.contains("Transfer-Encoding"), "{head}");
    for count in [42, 43] {
        let (id, data) = event(&mut reader);
        assert_eq!(id, count.to_string());
        assert_eq!((&data["count"], &data["number"]), (&count.into(), &1.into()));
        assert_eq!(data["backend"], "one");
        assert!(data["time"].as_u64().unwrap() > 1_700_000_000_000);
    }
}

#[test]
fn they_end_in_good_order_when_the_demo_does() {
    let (backends, mut stream) = started();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    assert!(answer(&mut reader).0.contains("\r\nTransfer-Encoding: chunked\r\n"));
    backends.leave();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "{rest:?}");
}

#[test]
fn a_head_alone_ends_at_once() {
    let (_backends, mut stream) = started();
    stream.write_all(b"HEAD /events HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("\r\n\r\n") && !rest.contains("id: "), "{rest:?}");
}

/// The clock jumps to the next second whenever all wait.
#[tokio::test(start_paused = true)]
async fn they_are_so_many_and_no_more() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    far.set_nonblocking(true).unwrap();
    let reads = std::thread::spawn(move || {
        let mut all = String::new();
        near.read_to_string(&mut all).unwrap();
        all
    });
    let one = demo("g", "web", "one");
    let address = one.address;
    let (_leave, leaving) = watch::channel(false);
    let backend = serving(vec![one], &[address], &leaving).remove(0);
    let mut wire = Wire::new(tokio::net::TcpStream::from_std(far).unwrap());
    send(&mut wire, &backend, 7, false).await.unwrap();
    drop(wire);
    let all = reads.join().unwrap();
    assert_eq!(all.matches("data: ").count() as u64, MAX_EVENTS);
    assert!(all.contains("id: 607\n"));
}
