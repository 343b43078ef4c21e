//! Connections to `h2c` backends that many requests share, and what becomes of
//! those that are on one when it ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;

use crate::support::{
    Backend, Client, Gate, H2, H2Backend, Site, SiteBuilder, eventually, pattern,
};

const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// GOAWAY with this last stream, for this reason.
fn goaway(last: u32, reason: Reason) -> Vec<u8> {
    let reason: u32 = reason.into();
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat())
}

/// What a raw backend does with a request.
enum Deed {
    /// 200 without content.
    Answer,
    /// This frame, and no more of the request.
    Say(Vec<u8>),
    /// Ends the connection behind these bytes.
    Close(Vec<u8>),
}

/// A connection as it stands on the wire.
struct Wire<'a>(&'a mut TcpStream);

impl Wire<'_> {
    /// The next frame's kind, flags, stream and payload length.
    fn frame(&mut self) -> Option<(u8, u8, u32, usize)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        self.0.read_exact(&mut vec![0; len]).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some((head[3], head[4], stream, len))
    }

    fn write(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }
}

/// An HTTP/2 server of raw frames: `deed` says what becomes of the request with
/// this number on the connection with this number, both from 0. A request counts
/// when it is there in full.
fn raw(deed: impl Fn(usize, usize) -> Deed + Send + Sync + 'static) -> (Backend, Arc<AtomicUsize>) {
    let (backend, executed, _) = taking(1, deed);
    (backend, executed)
}

/// The same, taking so many requests at once on a connection. The gate opens when
/// lockgate has answered a PING.
fn taking(
    most: u8,
    deed: impl Fn(usize, usize) -> Deed + Send + Sync + 'static,
) -> (Backend, Arc<AtomicUsize>, Gate) {
    let executed = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&executed);
    let heard = Gate::default();
    let opens = heard.clone();
    let connections = AtomicUsize::new(0);
    let backend = Backend::raw("B1", move |stream| {
        let connection = connections.fetch_add(1, Ordering::SeqCst);
        let mut wire = Wire(stream);
        if wire.0.read_exact(&mut [0; 24]).is_err() {
            return;
        }
        // MAX_CONCURRENT_STREAMS.
        wire.write(&frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, most]));
        let mut requests = 0;
        while let Some((kind, flags, id, len)) = wire.frame() {
            if kind == SETTINGS && flags & ACK == 0 {
                wire.write(&frame(SETTINGS, ACK, 0, &[]));
            }
            if kind == PING && flags & ACK == 0 {
                wire.write(&frame(PING, ACK, 0, &[0; 8]));
            }
            if kind == PING && flags & ACK != 0 {
                opens.open();
            }
            if kind == 0 && len > 0 {
                let len = u32::try_from(len).unwrap().to_be_bytes();
                wire.write(&frame(WINDOW_UPDATE, 0, 0, &len));
                wire.write(&frame(WINDOW_UPDATE, 0, id, &len));
            }
            // HEADERS or DATA that ends a request.
            if kind > 1 || flags & END_STREAM == 0 {
                continue;
            }
            match deed(connection, requests) {
                Deed::Answer => {
                    count.fetch_add(1, Ordering::SeqCst);
                    // `:status: 200` of the static table.
                    wire.write(&frame(1, END_STREAM | END_HEADERS, id, &[0x88]));
                }
                Deed::Say(frame) => wire.write(&frame),
                Deed::Close(last) => {
                    count.fetch_add(1, Ordering::SeqCst);
                    return wire.write(&last);
                }
            }
            requests += 1;
        }
    });
    (backend, executed, heard)
}

fn single(address: &str) -> SiteBuilder {
    Site::https().group("protocol = \"h2c\"").address(address)
}

/// The single backend goes away in the moment a request comes: nothing happened
/// to that one, and it goes there over a new connection.
#[test]
fn a_request_that_crosses_goaway_goes_to_the_same_backend_again() {
    let (b1, executed) = raw(|connection, request| match (connection, request) {
        (0, 1) => Deed::Say(goaway(1, Reason::NO_ERROR)),
        _ => Deed::Answer,
    });
    let mut site = single(&b1.address()).start();
    site.get("/").expect(200);
    site.post("/", &pattern(2000)).expect(200);
    // Nor does the next one go where the GOAWAY came from.
    H2::to(&site).post("/", b"once").expect(200);
    assert_eq!((b1.connections(), executed.load(Ordering::SeqCst)), (2, 3));
    let log = site.lockgate.log_to_the_end();
    assert!(!log.contains("failed"), "{log}");
}

#[test]
fn a_refused_stream_goes_to_the_same_backend_again_on_a_new_connection() {
    let asked = Arc::<AtomicUsize>::default();
    let number = Arc::clone(&asked);
    let b1 = H2Backend::scripted("B1", move |mut call| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        async move {
            match number {
                1 => call.reset(Reason::REFUSED_STREAM),
                _ => {
                    call.read().await;
                    call.reply().await;
                }
            }
        }
    });
    let site = single(&b1.address()).start();
    site.get("/0").expect(200);
    let body = pattern(40_000);
    site.post("/1", &body).expect(200);
    assert!(b1.wait_for("/1", |seen| seen.complete).body == body, "not the same bytes");
    for path in ["/2", "/3"] {
        site.get(path).expect(200);
    }
    // The one that refused gets no more.
    assert_eq!((b1.connections(), asked.load(Ordering::SeqCst)), (2, 5));
}

/// It stays at home: another backend has none of the client's state.
#[test]
fn a_goaway_moves_nobody_to_another_backend() {
    let (b1, executed) = raw(|connection, request| match (connection, request) {
        (0, 1) => Deed::Say(goaway(1, Reason::NO_ERROR)),
        _ => Deed::Answer,
    });
    let b2 = H2Backend::echoing("B2");
    let site = single(&b1.address()).address_with(&b2.address(), "backup = true").start();
    site.get("/").expect(200);
    site.post("/", b"once").expect(200);
    assert_eq!((executed.load(Ordering::SeqCst), b2.requests().len()), (2, 0));
}

#[test]
fn a_backend_that_refuses_on_a_new_connection_too_is_asked_no_third_time() {
    let asked = Arc::<AtomicUsize>::default();
    let number = Arc::clone(&asked);
    let b1 = H2Backend::scripted("B1", move |mut call| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        async move {
            match number {
                0 => call.reply().await,
                _ => call.reset(Reason::REFUSED_STREAM),
            }
        }
    });
    let site = single(&b1.address()).start();
    site.get("/0").expect(200);
    site.post("/1", b"x").expect(502);
    assert_eq!((b1.connections(), asked.load(Ordering::SeqCst)), (2, 3));
    site.lockgate.wait_for_log(&["request failed", "cause=closed_before_header"]);
}

/// HTTP/1's keep-alive race: what was lost with a connection that others had used
/// before is nobody's failure, and is sent again where that does no harm.
#[test]
fn a_shared_connection_that_is_lost_costs_no_get() {
    let (b1, executed) = raw(|connection, request| match (connection, request) {
        (0, 1) => Deed::Close(Vec::new()),
        _ => Deed::Answer,
    });
    let mut site = single(&b1.address()).start();
    for _ in 0..3 {
        site.get("/").expect(200);
    }
    assert_eq!((b1.connections(), executed.load(Ordering::SeqCst)), (2, 4));
    let log = site.lockgate.log_to_the_end();
    assert!(!log.contains("failed"), "{log}");
}

#[test]
fn a_post_on_a_shared_connection_that_is_lost_is_502_and_no_failure_of_the_backend() {
    let (b1, executed) = raw(|connection, request| match (connection, request) {
        (0, 1) => Deed::Close(Vec::new()),
        _ => Deed::Answer,
    });
    let b2 = H2Backend::echoing("B2");
    let mut site = single(&b1.address()).address_with(&b2.address(), "backup = true").start();
    site.get("/").expect(200);
    site.post("/", b"once").expect(502);
    assert_eq!(executed.load(Ordering::SeqCst), 2);
    // B1 is still asked first.
    site.get("/").expect(200);
    assert_eq!((executed.load(Ordering::SeqCst), b2.requests().len()), (3, 0));
    let log = site.lockgate.log_to_the_end();
    assert!(!log.contains("ejected"), "{log}");
}

/// A last id that includes the request says that it may have been executed.
#[test]
fn a_post_that_goaway_includes_goes_nowhere_else() {
    let (b1, executed) = raw(|connection, request| match (connection, request) {
        (0, 1) => Deed::Close(goaway(3, Reason::INTERNAL_ERROR)),
        _ => Deed::Answer,
    });
    let b2 = H2Backend::echoing("B2");
    let site = single(&b1.address()).address_with(&b2.address(), "backup = true").start();
    site.get("/").expect(200);
    site.post("/", b"once").expect(502);
    assert_eq!((executed.load(Ordering::SeqCst), b2.requests().len()), (2, 0));
}

/// A reset of one request says nothing of its connection.
#[test]
fn a_reset_request_is_not_sent_again_to_the_same_backend() {
    let b1 = H2Backend::scripted("B1", |mut call| async move {
        match call.path.as_str() {
            "/reset" => call.reset(Reason::INTERNAL_ERROR),
            _ => call.reply().await,
        }
    });
    let site = single(&b1.address()).start();
    site.get("/").expect(200);
    site.get("/reset").expect(502);
    site.get("/").expect(200);
    assert_eq!((b1.connections(), b1.requests().len()), (1, 3));
}

/// The response's body is cut where its connection is lost, for both clients.
#[test]
fn a_body_whose_connection_is_lost_is_cut() {
    let mut b1 = H2Backend::scripted("B1", |mut call| async move {
        let mut send = call.head(&[]);
        crate::support::send_all(&mut send, b"begun").await;
        call.wait_for_reset_of(&mut send).await;
    });
    let site = single(&b1.address()).start();
    let mut h1 = site.connect();
    h1.send("GET /h1 HTTP/1.1\r\nHost: a.test\r\n\r\n");
    h1.read_head();
    let mut h2 = H2::to(&site);
    let mut stream = h2.begin_get("/h2");
    assert_eq!(stream.head().status, 200);
    assert_eq!(stream.read_exactly(5), b"begun");
    b1.kill();
    let rest = String::from_utf8_lossy(&h1.read_to_end()).into_owned();
    assert!(rest.contains("begun") && !rest.contains("0\r\n\r\n"), "{rest:?}");
    stream.cut();
    site.lockgate.wait_for_log(&["cause=body_closed", "phase=body"]);
}

/// What HTTP/2 has no words for is nobody's failure: one client could empty the
/// group with it.
#[test]
fn a_request_that_cannot_be_said_in_http2_ejects_nobody() {
    let (b1, b2) = (H2Backend::echoing("B1"), H2Backend::echoing("B2"));
    let mut site = Site::http()
        .group("protocol = \"h2c\"")
        .address(&b1.address())
        .address(&b2.address())
        .start();
    let websocket = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bG9ja2dhdGU6UkZDODQ0MQ==\r\n\r\n";
    let odd = b"GET /\xff\xfe HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for bytes in [websocket.as_bytes(), odd] {
        let status = site.request(bytes).status;
        assert!(matches!(status, 400 | 502), "{status}");
        site.get("/").expect(200);
    }
    let log = site.lockgate.log_to_the_end();
    assert!(!log.contains("ejected"), "{log}");
}

/// However many connections there are: the next may have gone the same way.
#[test]
fn after_a_lost_connection_the_next_is_a_new_one() {
    let gate = Gate::default();
    let hold = gate.clone();
    let (b1, executed) = raw(move |connection, request| match (connection, request) {
        (0..3, 0) => {
            hold.pass();
            Deed::Answer
        }
        (0..3, _) => Deed::Close(Vec::new()),
        _ => Deed::Answer,
    });
    let site = single(&b1.address()).start();
    let mut clients: Vec<Client> = (0..3).map(|_| site.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        eventually("its own connection", || b1.connections() == number + 1);
    }
    gate.open();
    for client in &mut clients {
        client.read().expect(200);
    }
    site.get("/").expect(200);
    assert_eq!((b1.connections(), executed.load(Ordering::SeqCst)), (4, 5));
}

#[test]
fn a_connection_that_refused_once_gets_no_more() {
    let refusal: u32 = Reason::REFUSED_STREAM.into();
    let (b1, executed) = raw(move |connection, request| match (connection, request) {
        (0, 1..) => {
            let stream = u32::try_from(request).unwrap() * 2 + 1;
            Deed::Say(frame(RST_STREAM, 0, stream, &refusal.to_be_bytes()))
        }
        _ => Deed::Answer,
    });
    let site = single(&b1.address()).start();
    for _ in 0..4 {
        site.get("/").expect(200);
    }
    assert_eq!((b1.connections(), executed.load(Ordering::SeqCst)), (2, 4));
}

/// What is under way keeps it open, but nothing new is sent there.
#[test]
fn a_connection_that_said_goaway_gets_no_more() {
    let (b1, executed, heard) = taking(100, |connection, _| match connection {
        0 => Deed::Say([goaway(1, Reason::NO_ERROR), frame(PING, 0, 0, &[0; 8])].concat()),
        _ => Deed::Answer,
    });
    let site = single(&b1.address()).start();
    let mut waits = site.connect();
    waits.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    heard.pass();
    for _ in 0..4 {
        site.post("/", b"once").expect(200);
    }
    assert_eq!((b1.connections(), executed.load(Ordering::SeqCst)), (2, 4));
}

/// A connection that lockgate gives up, because what came on it is no HTTP/2, says
/// nothing of what the backend did.
#[test]
fn a_post_on_a_connection_that_breaks_the_rules_goes_nowhere_else() {
    let (b1, executed) = raw(|connection, request| match (connection, request) {
        // SETTINGS of five bytes.
        (0, 1) => Deed::Say(frame(SETTINGS, 0, 0, &[0; 5])),
        _ => Deed::Answer,
    });
    let b2 = H2Backend::echoing("B2");
    let site = single(&b1.address()).address_with(&b2.address(), "backup = true").start();
    site.get("/").expect(200);
    site.post("/", b"once").expect(502);
    assert_eq!((b1.connections(), executed.load(Ordering::SeqCst)), (1, 1));
    assert!(b2.requests().is_empty());
}
