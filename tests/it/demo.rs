//! The streams of the demo's backends through lockgate: WebSockets and events,
//! over HTTP/1.1 and HTTP/2, and their end when the demo ends.

use std::io::{self, Read, Write};

use rustix::process::Signal;
use serde_json::{Value, json};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Message, WebSocket};

use crate::support::{Client, H2, H2Stream, Lockgate, Port, Setup, eventually, https_listener};

/// `a.test` before two backends of a group. Who serves them is the demo, on a
/// loopback address that only the test of this number has.
fn demo(number: u8) -> (Lockgate, Port) {
    let (port, own) = (Port::reserve(), own_address(number));
    let text = https_listener("a.test", &port, "group = \"web\"")
        + &format!("[group.web]\nbackends = [\"{own}:18030\", \"{own}:18031\"]\n");
    (Setup::empty().file("game.toml", &text).start_with(&["demo"]), port)
}

fn own_address(number: u8) -> String {
    let id = std::process::id();
    format!("127.{}.{}.{number}", 192 + id % 60, id / 60 % 250)
}

/// What the other end said first: the number of the backend that holds it.
fn held_by(socket: &mut WebSocket<impl Read + Write>) -> Value {
    let greeting: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
    assert_eq!((&greeting["game"], &greeting["group"]), (&json!("game"), &json!("web")));
    greeting["number"].clone()
}

fn echoes(socket: &mut WebSocket<impl Read + Write>) {
    for message in [Message::text("grüße"), Message::binary(vec![0x80; 100_000])] {
        socket.send(message.clone()).unwrap();
        assert!(socket.read().unwrap() == message, "the message changed");
    }
    socket.send(Message::Ping("there?".into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("there?".into()));
}

fn awaits_goodbye(socket: &mut WebSocket<impl Read + Write>) {
    let goodbye = CloseFrame { code: CloseCode::Away, reason: "the demo ends".into() };
    assert_eq!(socket.read().unwrap(), Message::Close(Some(goodbye)));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
}

/// A WebSocket's bytes in an HTTP/2 stream.
struct Tunnel {
    stream: H2Stream,
    rest: Vec<u8>,
}

impl Read for Tunnel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            self.rest =
                self.stream.try_piece().map_err(io::Error::other)?.unwrap_or_default().into();
        }
        let count = self.rest.as_slice().read(buffer)?;
        self.rest.drain(..count);
        Ok(count)
    }
}

impl Write for Tunnel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.send(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn websockets_are_spread_and_held_until_the_demo_ends() {
    let (mut lockgate, port) = demo(2);
    let mut sockets = ["/ws", "/test/jtt/ws"].map(|path| {
        let stream = Client::tls(port.number(), "a.test").into_stream();
        tungstenite::client(format!("ws://a.test{path}"), stream).unwrap().0
    });
    let [first, second] = sockets.each_mut().map(held_by);
    assert!(first != second, "backend {first} holds both");
    for socket in &mut sockets {
        echoes(socket);
    }
    let [mut one, mut two] = sockets;
    one.close(None).unwrap();
    assert_eq!(one.read().unwrap(), Message::Close(None));
    drop(one);
    // The other would hold the end until the deadline.
    lockgate.signal(Signal::TERM);
    awaits_goodbye(&mut two);
    drop(two);
    assert_eq!(lockgate.exit_code(), 0);
}

#[test]
fn a_websocket_over_http_2() {
    let (mut lockgate, port) = demo(3);
    let mut h2 = H2::connect(port.number(), "a.test");
    let mut stream = h2.begin_websocket("/ws");
    let head = stream.head();
    assert_eq!(head.status, 200);
    let number = head.fields["demo-number"].to_str().unwrap().to_owned();
    let tunnel = Tunnel { stream, rest: Vec::new() };
    let mut socket = WebSocket::from_raw_socket(tunnel, Role::Client, None);
    assert_eq!(held_by(&mut socket).to_string(), number);
    echoes(&mut socket);
    lockgate.signal(Signal::TERM);
    awaits_goodbye(&mut socket);
    socket.get_mut().stream.finish();
    assert_eq!(lockgate.exit_code(), 0);
}

#[test]
fn events_come_one_by_one_and_end_when_either_side_does() {
    let (mut lockgate, port) = demo(4);
    let mut h2 = H2::connect(port.number(), "a.test");
    assert_eq!(h2.get("/health").status, 200);
    let idle = sockets(&lockgate);
    let mut stream = h2.begin_get("/events");
    let head = stream.head();
    assert_eq!(
        (head.status, head.fields["content-type"].as_bytes()),
        (200, b"text/event-stream".as_slice())
    );
    for count in 1..=2 {
        let event = stream.try_piece().unwrap().unwrap();
        assert!(event.starts_with(format!("id: {count}\ndata: {{").as_bytes()), "{event:?}");
    }
    stream.reset(h2::Reason::CANCEL);
    eventually("the backend is let go", || sockets(&lockgate) <= idle);

    let mut client = Client::tls(port.number(), "a.test");
    client.send("GET /test/jtt/events HTTP/1.1\r\nHost: a.test\r\nLast-Event-ID: 41\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 200 "));
    let mut event = String::new();
    while !event.ends_with("\n\n") {
        event.push(client.exactly(1)[0].into());
    }
    assert!(event.contains("\nid: 42\ndata: {"), "{event:?}");
    lockgate.signal(Signal::TERM);
    let rest = String::from_utf8(client.read_to_end()).unwrap();
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest:?}");
    assert_eq!(lockgate.exit_code(), 0);
}

/// How many sockets the demo has open.
fn sockets(lockgate: &Lockgate) -> usize {
    let links = std::fs::read_dir(format!("/proc/{}/fd", lockgate.pid())).unwrap().flatten();
    let targets = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// The backends of a `rewrite` group are the application: they set its cookie.
#[test]
fn both_kinds_of_cookie_bring_a_client_back() {
    let (port, own) = (Port::reserve(), own_address(5));
    let rules = "group = \"web\"\n[[listener.rule]]\npath = \"/app/\"\ngroup = \"app\"";
    let text = https_listener("a.test", &port, rules)
        + &format!(
            "[group.web]\nbackends = [\"{own}:18030\", \"{own}:18031\"]\n\
             [group.web.sticky]\nmode = \"insert\"\n\
             [group.app]\nbackends = [\"{own}:18040\", \"{own}:18041\"]\n\
             [group.app.sticky]\nmode = \"rewrite\"\ncookie = \"session\"\n"
        );
    let _lockgate = Setup::empty().file("game.toml", &text).start_with(&["demo"]);
    let ask = |target: &str, cookie: &str| {
        let mut client = Client::tls(port.number(), "a.test");
        client
            .request(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nCookie: {cookie}\r\n\r\n"))
            .expect(200)
    };
    for (target, name, says, path) in [
        ("/", "SERVERID", "sticky:  by lockgate's cookie SERVERID\n", "/"),
        ("/app/", "session", "sticky:  by the application's cookie session\n", "/app/"),
    ] {
        let first = ask(target, "other=1");
        assert!(first.text().contains(says), "{}", first.text());
        let home = first.value("demo-number");
        let set = first.value("set-cookie");
        let (cookie, attributes) = set.split_once("; ").unwrap();
        assert!(cookie.starts_with(&format!("{name}=")), "{set}");
        let mut attributes: Vec<&str> = attributes.split("; ").collect();
        attributes.sort_unstable();
        let path = format!("Path={path}");
        assert_eq!(attributes, ["HttpOnly", &path, "SameSite=None", "Secure"]);
        for _ in 0..3 {
            let again = ask(target, cookie);
            assert_eq!(again.value("demo-number"), home);
            assert!(again.values("set-cookie").is_empty());
            assert!(!again.text().contains("lg-"), "a token reached it: {}", again.text());
        }
        let others: Vec<_> = (0..2).map(|_| ask(target, "other=1").value("demo-number")).collect();
        assert_ne!(others[0], others[1], "newcomers are spread");
    }
}

/// Its files do not say where it listens, and nobody else is meant to see it.
#[test]
fn it_is_for_this_machine_alone_unless_asked_otherwise() {
    let (port, own) = (Port::reserve(), own_address(6));
    let text = https_listener("a.test", &port, "group = \"web\"")
        + &format!("[group.web]\nbackends = [\"{own}:18030\"]\n");
    let setup = Setup::empty().file("game.toml", &text);
    let number = port.number();
    let first = |lockgate: &Lockgate| lockgate.listening()[0].clone();
    let mut lockgate = setup.start_with(&["demo"]);
    assert_eq!(first(&lockgate), format!("https://127.0.0.1:{number}"));
    Client::tls(number, "a.test").get("a.test", "/").expect(200);
    // A reload does not open it either.
    lockgate.write("lockgate.toml", "watch = false\n[admin]\naddress = \"127.0.0.1:0\"\n");
    lockgate.run(&["reload"]).expect(0);
    let told = lockgate.run(&["reload", "--dry-run"]).expect(0).stdout;
    assert!(!told.contains("0.0.0.0"), "{told}");
    // Nobody listens where all addresses would be listened at.
    assert!(std::net::TcpStream::connect(("127.0.0.2", number)).is_err());
    lockgate.terminate();
    let everywhere = setup.start_with(&["demo", "--everywhere"]);
    assert_eq!(first(&everywhere), format!("https://0.0.0.0:{number}"));
}
