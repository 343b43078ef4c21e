//! The demo backends over real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use super::*;

pub(super) fn demo(game: &str, group: &str, name: &str) -> DemoBackend {
    DemoBackend {
        game: game.to_owned(),
        group: group.to_owned(),
        name: name.to_owned(),
        address: (Ipv4Addr::LOCALHOST, 0).into(),
        bond: None,
    }
}

pub(super) fn started() -> (DemoBackends, TcpStream) {
    let backends = start(vec![demo("g", "web", "one")]).unwrap();
    let stream = TcpStream::connect(backends.addresses()[0]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (backends, stream)
}

/// Head and body of one answer; the body by its Content-Length.
pub(super) fn answer(reader: &mut impl BufRead) -> (String, Vec<u8>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "closed after {head:?}");
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, body)
}

#[test]
fn pipelined_requests_are_answered_in_order_on_one_connection() {
    let (_backends, mut stream) = started();
    stream
        .write_all(
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Odd:  Spelling\r\n\r\n\
              POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody\
              GET /health HTTP/1.1\r\nHost: a\r\n\r\n\
              GET /status/404 HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
    let mut reader = BufReader::new(stream);
    let (head, body) = answer(&mut reader);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\nDemo-Backend: one\r\nDemo-Number: 1\r\n"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("\nX-Odd:  Spelling\n"));
    let (_, body) = answer(&mut reader);
    assert!(String::from_utf8(body).unwrap().ends_with("and a body of 4 bytes\n"));
    assert_eq!(answer(&mut reader).1, b"ok\n");
    let (head, body) = answer(&mut reader);
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n") && head.contains("Connection: close"));
    assert!(String::from_utf8(body).unwrap().contains("number 4 on its connection 1"));
    assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
}

#[test]
fn bytes_and_head_and_no_content() {
    let (_backends, mut stream) = started();
    stream
        .write_all(
            b"GET /bytes/100001 HTTP/1.1\r\nHost: a\r\n\r\n\
              HEAD /bytes/100001 HTTP/1.1\r\nHost: a\r\n\r\n\
              GET /status/204 HTTP/1.1\r\nHost: a\r\n\r\n\
              GET /status/205 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        )
        .unwrap();
    let mut reader = BufReader::new(stream);
    let (_, body) = answer(&mut reader);
    assert_eq!(body.len(), 100_001);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).unwrap();
    }
    assert!(head.contains("Content-Length: 100001\r\n"), "{head}");
    let (head, _) = answer(&mut reader);
    assert!(head.starts_with("HTTP/1.1 204 ") && !head.contains("Content-Length"), "{head}");
    let (head, _) = answer(&mut reader);
    assert!(head.contains("Content-Length: 0\r\nConnection: keep-alive\r\n"), "{head}");
}

#[test]
fn echo_streams_both_framings_and_honours_expect() {
    let (_backends, mut stream) = started();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    stream
        .write_all(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        )
        .unwrap();
    let (head, _) = answer(&mut reader);
    assert_eq!(head, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    assert_eq!(answer(&mut reader).1, b"hello");

    // The first piece comes back before the second is sent.
    stream
        .write_all(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        )
        .unwrap();
    let (head, _) = answer(&mut reader);
    assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
    let mut piece = [0; 8];
    reader.read_exact(&mut piece).unwrap();
    assert_eq!(&piece, b"3\r\nabc\r\n");
    stream.write_all(b"0\r\nT: x\r\n\r\n").unwrap();
    let mut end = [0; 5];
    reader.read_exact(&mut end).unwrap();
    assert_eq!(&end, b"0\r\n\r\n");
}

#[test]
fn what_is_no_request_is_refused_and_closed() {
    for (sent, status) in [
        ("hello\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "405"),
        (&format!("GET /{} HTTP/1.1\r\n", "a".repeat(70_000)), "414"),
    ] {
        let (_backends, mut stream) = started();
        // The answer may come, and the connection close, before all is sent.
        let _ = stream.write_all(sent.as_bytes());
        let (head, _) = answer(&mut BufReader::new(stream));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(head.contains("Connection: close\r\n"), "{head}");
    }
}

#[test]
fn a_taken_address_is_named() {
    let (backends, _stream) = started();
    let mut second = demo("youxia", "web", "x");
    second.address = backends.addresses()[0];
    let error = start(vec![demo("g", "web", "free"), second]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let named = format!("demo backend youxia/web on {}: ", backends.addresses()[0]);
    assert!(error.to_string().starts_with(&named), "{error}");
}

#[test]
fn dropping_the_handle_ends_them() {
    let (backends, mut stream) = started();
    let address = backends.addresses()[0];
    drop(backends);
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
}

#[test]
fn a_backend_knows_its_place_in_its_group() {
    let all = [
        demo("g", "web", "a"),
        demo("h", "web", "b"),
        demo("g", "api", "c"),
        demo("g", "web", "d"),
    ];
    let addresses: Vec<SocketAddr> = all.iter().map(|one| one.address).collect();
    let places: Vec<_> = serving(all.to_vec(), &addresses, &watch::channel(false).1)
        .iter()
        .map(|one| (one.place, one.peers.len()))
        .collect();
    assert_eq!(places, [(0, 2), (0, 1), (0, 1), (1, 2)]);
}
