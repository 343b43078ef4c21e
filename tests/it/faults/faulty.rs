//! A backend with one fault, and clients that see what comes of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;

use crate::support::{Backend, Gate, H2, Incoming, Recorded, Site};

/// When a backend does what is wrong with it, and what that is.
#[derive(Clone, Copy)]
pub(super) enum Deed {
    /// With nothing read.
    Accepted(fn(&mut Line<'_>) -> After),
    /// With the request read in full.
    Asked(fn(&mut Line<'_>) -> After),
}

/// What the backend does with the connection behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// Ends it.
    Ends,
    /// Waits for another request.
    Stays,
}

/// A backend's end of a connection.
pub(super) struct Line<'a> {
    stream: &'a mut TcpStream,
    gate: Gate,
}

/// Answers well, and while it is armed as its fault wants it. Good answers end
/// their connection, so that every request comes on a new one, unless one with a
/// fault on it is used again.
pub(super) struct Faulty {
    pub(super) backend: Backend,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    armed: AtomicBool,
    /// Opened when the client has what came before the fault.
    gate: Mutex<Gate>,
    /// Opened when the fault is over.
    done: Mutex<Gate>,
    /// Requests that were read while it was armed.
    executed: AtomicUsize,
    /// Requests on a connection that had its fault.
    reused: AtomicUsize,
}

impl Line<'_> {
    /// Sends these bytes; false when nobody takes them.
    pub(super) fn say(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Waits until the client has seen what was said so far.
    pub(super) fn until_seen(&self) {
        self.gate.pass();
    }

    /// Ends with a reset.
    pub(super) fn reset(&mut self) -> After {
        let linger = Some(Duration::ZERO);
        socket2::SockRef::from(&*self.stream).set_linger(linger).unwrap();
        After::Ends
    }

    /// Silence until lockgate leaves.
    pub(super) fn hang(&mut self) -> After {
        while self.stream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
        After::Ends
    }

    pub(super) fn pause(&self, millis: u64) {
        std::thread::sleep(Duration::from_millis(millis));
    }
}

/// Reads a request to its end: its method and target.
fn read_request(incoming: &mut Incoming, stream: &mut TcpStream) -> Option<String> {
    let head = incoming.raw_head(stream).ok()??;
    let request = Recorded { head, ..Recorded::default() };
    let mut body = Vec::new();
    if request.values("transfer-encoding").is_empty() {
        let length = request.values("content-length").first().map_or(0, |v| v.parse().unwrap());
        incoming.exactly(stream, length, &mut body).ok()?;
    } else {
        incoming.chunked(stream, &mut body, &mut Vec::new()).ok()?;
    }
    Some(format!("{} {}", request.method(), request.target()))
}

impl Faulty {
    pub(super) fn new(deed: Deed) -> Self {
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        let backend = Backend::raw("B1", move |stream| {
            let armed = || shared.armed.load(Ordering::SeqCst);
            let gate = || shared.gate.lock().unwrap().clone();
            let done = || shared.done.lock().unwrap().open();
            let mut incoming = Incoming::default();
            if let (Deed::Accepted(act), true) = (deed, armed()) {
                act(&mut Line { stream, gate: gate() });
                return done();
            }
            let Some(request) = read_request(&mut incoming, stream) else { return };
            if let (Deed::Asked(act), true) = (deed, armed()) {
                shared.executed.fetch_add(1, Ordering::SeqCst);
                let after = act(&mut Line { stream, gate: gate() });
                done();
                if after == After::Stays && read_request(&mut incoming, stream).is_some() {
                    shared.reused.fetch_add(1, Ordering::SeqCst);
                }
                return;
            }
            let body = format!("B1 {request}");
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: ";
            let _ = stream.write_all(format!("{head}{length}\r\n\r\n{body}").as_bytes());
        });
        Self { backend, state }
    }

    /// The next request meets the fault.
    pub(super) fn arm(&self) -> Gate {
        let gate = Gate::default();
        *self.state.gate.lock().unwrap() = gate.clone();
        *self.state.done.lock().unwrap() = Gate::default();
        self.state.executed.store(0, Ordering::SeqCst);
        self.state.armed.store(true, Ordering::SeqCst);
        gate
    }

    /// Waits until the fault is over; the next ones do not meet it. How often one
    /// was executed while they did.
    pub(super) fn disarm(&self) -> usize {
        let done = self.state.done.lock().unwrap().clone();
        done.pass();
        self.state.armed.store(false, Ordering::SeqCst);
        self.state.executed.load(Ordering::SeqCst)
    }

    pub(super) fn reused(&self) -> usize {
        self.state.reused.load(Ordering::SeqCst)
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Http1,
    Http2,
}

/// What the client got.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: Option<u16>,
    pub(super) body: Vec<u8>,
    /// It ended as a response must.
    pub(super) whole: bool,
}

/// Asks for `/fault`. Once the client has seen `until` of the body the gate opens.
pub(super) fn ask(site: &Site, speaks: Speaks, method: &str, gate: &Gate, until: &[u8]) -> Got {
    match speaks {
        Speaks::Http1 => ask_http1(site, method, gate, until),
        Speaks::Http2 => ask_http2(site, method, gate, until),
    }
}

fn ask_http1(site: &Site, method: &str, gate: &Gate, until: &[u8]) -> Got {
    let mut client = site.connect();
    let body = if method == "POST" { "Content-Length: 4\r\n\r\nonce" } else { "\r\n" };
    client.send(format!("{method} /fault HTTP/1.1\r\nHost: a.test\r\n{body}"));
    if !until.is_empty() {
        while !client.peek_more().windows(until.len()).any(|part| part == until) {}
    }
    gate.open();
    match client.read_whole_or_cut() {
        Ok(response) => Got { status: Some(response.status), body: response.body, whole: true },
        Err(partial) => Got {
            status: partial.as_ref().map(|partial| partial.status),
            body: partial.map(|partial| partial.body).unwrap_or_default(),
            whole: false,
        },
    }
}

fn ask_http2(site: &Site, method: &str, gate: &Gate, until: &[u8]) -> Got {
    let mut h2 = H2::to(site);
    let post = method == "POST";
    let request = h2.request(if post { Method::POST } else { Method::GET }, "/fault");
    let mut stream = h2.begin(request, !post);
    if post {
        stream.send(b"once");
        stream.finish();
    }
    let mut got = Got { status: None, body: Vec::new(), whole: false };
    let Ok(head) = stream.try_head() else { return got };
    got.status = Some(head.status);
    got.body = stream.read_exactly(until.len());
    gate.open();
    loop {
        match stream.try_piece() {
            Ok(Some(piece)) => got.body.extend_from_slice(&piece),
            Ok(None) => return Got { whole: true, ..got },
            Err(error) => {
                // And not the connection: others may be on it.
                assert!(error.is_reset(), "{error}");
                return got;
            }
        }
    }
}
