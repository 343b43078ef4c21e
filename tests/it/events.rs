//! Answers that come in their own time: Server-Sent Events and long polling,
//! for each kind of client before each kind of backend. The backend says the
//! next word only after the client has all of the last one, so a byte that is
//! held back anywhere, for a fuller buffer or for the end, is never heard.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::support::{
    Backend, Client, Gate, H2, H2Backend, H2Stream, Site, SiteBuilder, TlsBackend, TlsServer,
    authority, eventually, pattern, send_all,
};

/// What is sent, a piece at a time: events, less than an event, compressed
/// bytes, bytes that look like framing, and more than any buffer holds.
fn words() -> Vec<Vec<u8>> {
    vec![
        b"retry: 100\nid: 1\ndata: one\n\n".to_vec(),
        b":".to_vec(),
        b"\n\n".to_vec(),
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x0a\x00".to_vec(),
        b"0\r\n\r\n".to_vec(),
        pattern(70_001),
        b"\x00".to_vec(),
    ]
}

/// What the client has heard: the head, then each word.
struct Heard {
    gates: Vec<Gate>,
    permits: Semaphore,
}

impl Heard {
    fn nothing() -> Arc<Self> {
        let gates = std::iter::repeat_with(Gate::default).take(words().len() + 1).collect();
        Arc::new(Self { gates, permits: Semaphore::new(0) })
    }

    /// In order: 0 is the head.
    fn acknowledge(&self, number: usize) {
        self.gates[number].open();
        self.permits.add_permits(1);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Framing {
    Chunked,
    Close,
}

/// The backend's side over HTTP/1.
fn speak(heard: &Heard, framing: Framing, fields: &str, mut send: impl FnMut(&[u8])) {
    let framed_by = match framing {
        Framing::Chunked => "Transfer-Encoding: chunked",
        Framing::Close => "Connection: close",
    };
    send(format!("HTTP/1.1 200 OK\r\n{framed_by}\r\n{fields}\r\n").as_bytes());
    heard.gates[0].pass();
    for (number, word) in words().iter().enumerate() {
        match framing {
            Framing::Close => send(word),
            Framing::Chunked => {
                let size = format!("{:x}\r\n", word.len());
                send(&[size.as_bytes(), word, b"\r\n"].concat());
            }
        }
        heard.gates[number + 1].pass();
    }
    if framing == Framing::Chunked {
        send(b"0\r\n\r\n");
    }
}

/// A client that reads a response a piece at a time.
enum Reader {
    Http1 { client: Client, chunked: bool, left: usize },
    Http2 { _connection: H2, stream: H2Stream },
}

impl Reader {
    /// Asks, and has read the head.
    #[track_caller]
    fn http1(mut client: Client) -> Self {
        client.send("GET /events HTTP/1.1\r\nHost: a.test\r\nAccept: text/event-stream\r\n\r\n");
        let head = client.read_head().to_lowercase();
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(!head.contains("content-length"), "{head}");
        Self::Http1 { client, chunked: head.contains("transfer-encoding: chunked"), left: 0 }
    }

    #[track_caller]
    fn http2(mut connection: H2) -> Self {
        let mut stream = connection.begin_get("/events");
        let head = stream.head();
        assert_eq!(head.status, 200);
        assert!(!head.fields.contains_key("content-length"));
        Self::Http2 { _connection: connection, stream }
    }

    /// So many bytes of the body, which are all there is so far.
    #[track_caller]
    fn hear(&mut self, count: usize) -> Vec<u8> {
        match self {
            Self::Http2 { stream, .. } => stream.read_exactly(count),
            Self::Http1 { client, chunked: false, .. } => client.read_exactly(count),
            Self::Http1 { client, left, .. } => {
                let mut bytes = Vec::new();
                while bytes.len() < count {
                    if *left == 0 {
                        *left = size_line(client);
                        assert_ne!(*left, 0, "it ended");
                    }
                    let take = (*left).min(count - bytes.len());
                    bytes.extend(client.read_exactly(take));
                    *left -= take;
                    if *left == 0 {
                        assert_eq!(client.read_exactly(2), b"\r\n");
                    }
                }
                bytes
            }
        }
    }

    /// Nothing more comes but the end, and that comes.
    #[track_caller]
    fn ends(self) {
        match self {
            Self::Http2 { mut stream, .. } => assert_eq!(stream.try_piece().unwrap(), None),
            Self::Http1 { mut client, chunked: false, .. } => client.assert_ends_cleanly(),
            Self::Http1 { mut client, .. } => {
                assert_eq!(size_line(&mut client), 0);
                assert_eq!(client.read_exactly(2), b"\r\n");
            }
        }
    }
}

/// The size of the next chunk.
#[track_caller]
fn size_line(client: &mut Client) -> usize {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.extend(client.read_exactly(1));
    }
    usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).expect("a chunk's size")
}

/// Each kind of client, before this group.
#[track_caller]
fn all_hear(heard: &dyn Fn() -> Arc<Heard>, group: &dyn Fn(SiteBuilder) -> SiteBuilder) {
    let (http, https) = (group(Site::http()).start(), group(Site::https()).start());
    let clients: [(&str, &dyn Fn() -> Reader); 3] = [
        ("http/1.1", &|| Reader::http1(http.connect())),
        ("http/1.1 over TLS", &|| Reader::http1(https.connect())),
        ("h2", &|| Reader::http2(H2::to(&https))),
    ];
    for (name, open) in clients {
        let heard = heard();
        let mut reader = open();
        heard.acknowledge(0);
        for (number, word) in words().iter().enumerate() {
            assert!(reader.hear(word.len()) == *word, "{name}: word {number} changed");
            heard.acknowledge(number + 1);
        }
        reader.ends();
    }
}

/// What a test and its backend say to each other about one response.
#[derive(Clone, Default)]
struct Current(Arc<std::sync::Mutex<Option<Arc<Heard>>>>);

impl Current {
    fn renew(&self) -> Arc<Heard> {
        let heard = Heard::nothing();
        *self.0.lock().unwrap() = Some(Arc::clone(&heard));
        heard
    }

    fn get(&self) -> Arc<Heard> {
        self.0.lock().unwrap().clone().expect("a test")
    }
}

const KINDS: [&str; 2] = [
    "Content-Type: text/event-stream\r\n",
    "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n",
];

#[test]
fn each_word_of_an_http_backend_comes_when_it_is_said() {
    for framing in [Framing::Chunked, Framing::Close] {
        for fields in KINDS {
            let current = Current::default();
            let said = current.clone();
            let b1 = Backend::scripted("B1", move |exchange| {
                speak(&said.get(), framing, fields, |bytes| exchange.send(bytes));
                if framing == Framing::Close {
                    exchange.close();
                }
            });
            all_hear(&|| current.renew(), &|site| site.backend(&b1));
        }
    }
}

/// A group of an https backend.
fn tls_group(site: SiteBuilder, backend: &TlsBackend) -> SiteBuilder {
    site.any_file("ca.pem", authority().pem())
        .group("protocol = \"https\"\ntls = { ca = \"ca.pem\", server_name = \"b.test\" }")
        .address(&backend.address())
}

fn tls_server() -> TlsServer {
    TlsServer::with(&authority().server(&["b.test"]))
}

#[test]
fn each_word_of_an_https_backend_comes_when_it_is_said() {
    for framing in [Framing::Chunked, Framing::Close] {
        let current = Current::default();
        let said = current.clone();
        let b1 = TlsBackend::scripted("B1", tls_server(), move |exchange| {
            speak(&said.get(), framing, KINDS[0], |bytes| exchange.send(bytes));
            if framing == Framing::Close {
                exchange.close();
            }
        });
        all_hear(&|| current.renew(), &|site| tls_group(site, &b1));
    }
}

#[test]
fn each_word_of_an_h2c_backend_comes_when_it_is_said() {
    let current = Current::default();
    let said = current.clone();
    let b1 = H2Backend::scripted("B1", move |mut call| {
        let heard = said.get();
        async move {
            let mut send = call.head(&[("content-type", "text/event-stream")]);
            for word in words() {
                heard.permits.acquire().await.unwrap().forget();
                send_all(&mut send, &word).await;
            }
            heard.permits.acquire().await.unwrap().forget();
            send.send_data(bytes::Bytes::new(), true).unwrap();
        }
    });
    let group = |site: SiteBuilder| site.group("protocol = \"h2c\"").address(&b1.address());
    all_hear(&|| current.renew(), &group);
}

/// A long poll and then another request, both answered: the poll second.
#[track_caller]
fn polls(site: &Site, executions: &dyn Fn() -> usize, news: &dyn Fn()) {
    let mut h2 = H2::to(site);
    let poll = h2.begin_get("/poll");
    eventually("the poll is at the backend", || executions() == 1);
    for _ in 0..3 {
        assert!(h2.get("/other").expect(200).text().contains("/other"));
    }
    let mut stream = h2.begin_post("/other");
    stream.send(b"with a body");
    stream.finish();
    assert!(stream.read().expect(200).text().contains("/other"));
    news();
    assert_eq!(poll.read().expect(200).text(), "news");
    assert_eq!(executions(), 5);
}

#[test]
fn a_long_poll_waits_beside_others_before_an_http_backend() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        if exchange.request().target() == "/poll" {
            hold.pass();
            exchange.reply("news");
        } else {
            exchange.echo();
        }
    });
    let site = Site::https().backend(&b1).start();
    polls(&site, &|| b1.executions(), &|| gate.open());
}

#[test]
fn a_long_poll_waits_beside_others_before_an_https_backend() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = TlsBackend::scripted("B1", tls_server(), move |exchange| {
        if exchange.request().target() == "/poll" {
            hold.pass();
            exchange.reply("news");
        } else {
            exchange.echo();
        }
    });
    let site = tls_group(Site::https(), &b1).start();
    polls(&site, &|| b1.executions(), &|| gate.open());
}

#[test]
fn a_long_poll_waits_beside_others_before_an_h2c_backend() {
    let news = Arc::new(Semaphore::new(0));
    let awaited = Arc::clone(&news);
    let b1 = H2Backend::scripted("B1", move |mut call| {
        let awaited = Arc::clone(&awaited);
        async move {
            call.read().await;
            if call.path != "/poll" {
                return call.reply().await;
            }
            awaited.acquire().await.unwrap().forget();
            let mut send = call.head(&[]);
            send_all(&mut send, b"news").await;
            send.send_data(bytes::Bytes::new(), true).unwrap();
        }
    });
    let site = Site::https().group("protocol = \"h2c\"").address(&b1.address()).start();
    polls(&site, &|| b1.requests().len(), &|| news.add_permits(1));
}
