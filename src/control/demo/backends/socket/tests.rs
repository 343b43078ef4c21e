//! WebSockets at a demo backend: real sockets, and a stopped clock for silence.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use tungstenite::WebSocket;

use super::super::tests::{answer, started};
use super::super::{DemoBackends, MAX_STREAMS};
use super::*;

fn opened() -> (DemoBackends, WebSocket<TcpStream>) {
    let (backends, stream) = started();
    let mut socket = tungstenite::client("ws://a/test/jtt/ws", stream).unwrap().0;
    assert!(socket.read().unwrap().is_text());
    (backends, socket)
}

/// The code of the close that comes next, and the end behind it.
fn ends_with(mut socket: WebSocket<TcpStream>) -> CloseCode {
    let Message::Close(Some(CloseFrame { code, .. })) = socket.read().unwrap() else {
        panic!("no close with a code");
    };
    let _ = socket.flush();
    assert_eq!(socket.get_mut().read(&mut [0]).unwrap(), 0);
    code
}

#[test]
fn it_says_who_holds_it_and_gives_back_what_it_gets() {
    let (_backends, stream) = started();
    let (mut socket, granted) = tungstenite::client("ws://a/ws", stream).unwrap();
    assert_eq!(granted.headers()["demo-backend"], "one");
    let greeting: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
    assert_eq!(greeting, json!({"game": "g", "group": "web", "backend": "one", "number": 1}));
    for message in [
        Message::text("grüße"),
        Message::text(""),
        Message::binary(vec![0xff; 126]),
        Message::binary(vec![7; MAX_MESSAGE]),
    ] {
        socket.send(message.clone()).unwrap();
        assert!(socket.read().unwrap() == message, "the message changed");
    }
    socket.send(Message::Ping("there?".into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("there?".into()));
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    socket.close(Some(goodbye.clone())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Close(Some(goodbye)));
    assert!(matches!(socket.read(), Err(Error::ConnectionClosed)));
}

#[test]
fn a_message_that_came_with_the_request_is_not_lost() {
    let (_backends, mut stream) = started();
    stream.write_all(&[ASKED.as_bytes(), HELLO].concat()).unwrap();
    let mut reader = BufReader::new(stream);
    assert!(answer(&mut reader).0.starts_with("HTTP/1.1 101 "));
    let mut frame = [0; 2];
    reader.read_exact(&mut frame).unwrap();
    reader.read_exact(&mut vec![0; frame[1].into()]).unwrap();
    let mut echo = [0; 7];
    reader.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"\x81\x05hello");
}

/// With two lines of `Connection`.
const ASKED: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\
    Connection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// A text message, masked with zeros.
const HELLO: &[u8] = b"\x81\x85\0\0\0\0hello";

#[test]
fn what_is_no_websocket_is_told_so() {
    let (_backends, mut stream) = started();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for (from, to, status) in [
        ("Upgrade: WebSocket", "X: y", 426),
        ("Connection: Upgrade", "X: y", 426),
        ("Version: 13", "Version: 8", 426),
        ("GET", "POST", 426),
        ("ZQ==", "ZQ=", 400),
        ("Sec-WebSocket-Key", "X", 400),
    ] {
        stream.write_all(ASKED.replace(from, to).as_bytes()).unwrap();
        let (head, body) = answer(&mut reader);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{from}: {head}");
        for line in ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
        }
        assert!(body.starts_with(b"/ws is for WebSockets: "));
    }
}

#[test]
fn a_mistake_is_named_in_the_close() {
    for (bytes, code) in [
        // A masked message of so many bytes.
        ([b"\x82\xff".as_slice(), &(MAX_MESSAGE as u64 + 1).to_be_bytes()].concat(), 1009),
        // Without a mask.
        (b"\x81\x02hi".to_vec(), 1002),
        // No UTF-8.
        (b"\x81\x81\0\0\0\0\xff".to_vec(), 1007),
    ] {
        let (_backends, mut socket) = opened();
        socket.get_mut().write_all(&bytes).unwrap();
        if code == 1009 {
            socket.get_mut().write_all(&[0; MAX_MESSAGE + 5]).unwrap();
        }
        assert_eq!(ends_with(socket), CloseCode::from(code));
    }
}

#[test]
fn streams_have_places_and_give_them_back() {
    let (backends, socket) = opened();
    let address = backends.addresses()[0];
    let ask = |path: &str| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut reader = BufReader::new(stream);
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        reader.get_mut().write_all(head.as_bytes()).unwrap();
        let status = answer(&mut reader).0[9..12].to_owned();
        (status, reader)
    };
    let mut held: Vec<_> = (1..MAX_STREAMS).map(|_| ask("/events")).collect();
    assert!(held.iter().all(|(status, _)| status == "200"));
    assert_eq!(ask("/events").0, "503");
    let stream = TcpStream::connect(address).unwrap();
    assert!(matches!(
        tungstenite::client("ws://a/ws", stream),
        Err(tungstenite::HandshakeError::Failure(Error::Http(refused))) if refused.status() == 503
    ));
    assert_eq!(ask("/").0, "200");

    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let mut takes_again = |what: &str| {
        while held.len() < MAX_STREAMS {
            assert!(std::time::Instant::now() < deadline, "no place after {what}");
            let one = ask("/events");
            if one.0 == "200" {
                held.push(one);
            }
        }
        held.pop();
    };
    drop(socket);
    takes_again("a WebSocket that left");
    takes_again("a listener that left");
}

#[test]
fn they_end_when_the_demo_does() {
    let (backends, socket) = opened();
    backends.leave();
    assert_eq!(ends_with(socket), CloseCode::Away);
}

/// A socket whose clock jumps to the next deadline whenever all wait.
async fn in_stopped_time() -> WebSocketStream<tokio::io::DuplexStream> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (leave, leaving) = watch::channel(false);
    tokio::spawn(async move {
        converse(far, Vec::new(), "hello".to_owned(), leaving).await;
        drop(leave);
    });
    let mut socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    socket
}

#[tokio::test(start_paused = true)]
async fn who_answers_pings_is_kept() {
    let mut socket = in_stopped_time().await;
    for _ in 0..1000 {
        // The library answers as it reads on.
        assert!(socket.next().await.unwrap().unwrap().is_ping());
    }
    socket.send(Message::text("still here")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still here"));
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_not_kept() {
    let socket = in_stopped_time().await;
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut socket.into_inner(), &mut bytes).await.unwrap();
    // A ping, then a close with code 1008.
    let expected = [b"\x89\x00\x88\x15\x03\xf0".as_slice(), b"silent for too long"].concat();
    assert_eq!(bytes, expected);
}
