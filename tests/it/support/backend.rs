//! Scripted backends: threads on a port the system picked, speaking raw bytes.

use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::exchange::Exchange;
use super::message::{Incoming, values};
use super::{DEADLINE, eventually};

/// A backend that does what its script says. Dropped, it is gone: its port is
/// closed and so are its connections.
#[derive(Debug)]
pub(crate) struct Backend {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Mutex<Option<thread::JoinHandle<()>>>,
}

/// A request as the backend saw it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    /// Request line and field lines, byte for byte, with the empty line.
    pub(crate) head: Vec<u8>,
    /// The body, chunked coding taken off.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Its body arrived whole.
    pub(crate) complete: bool,
}

/// What the backend's threads and the test share.
pub(crate) struct Shared {
    pub(super) name: String,
    script: Script,
    requests: Mutex<Vec<Recorded>>,
    streams: Mutex<Vec<TcpStream>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    received: AtomicUsize,
    pub(super) taken: AtomicUsize,
    pub(super) left: AtomicUsize,
    stopped: AtomicBool,
}

enum Script {
    Requests(Box<dyn Fn(&mut Exchange<'_>) + Send + Sync>),
    Connections(Box<dyn Fn(&mut TcpStream) + Send + Sync>),
}

impl Backend {
    /// Echoes the request, with some paths of its own: `/status/N` answers N,
    /// `/slow/MS` delays the answer, `/drip` sends it byte by byte, `/close`
    /// ends the connection without one.
    pub(crate) fn named(name: &str) -> Self {
        Self::scripted(name, by_path)
    }

    /// Runs `script` for every request.
    pub(crate) fn scripted(
        name: &str,
        script: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self::start(name, Script::Requests(Box::new(script)))
    }

    /// Reads each request to its end and answers these bytes, keeping the
    /// connection.
    pub(crate) fn answering(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::scripted(name, move |exchange| {
            exchange.read_body();
            exchange.send(&bytes);
        })
    }

    /// The same, ending the connection after the answer.
    pub(crate) fn answering_then_closing(name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::scripted(name, move |exchange| {
            exchange.read_body();
            exchange.send(&bytes);
            exchange.close();
        })
    }

    /// Reads each request and never answers.
    pub(crate) fn hanging(name: &str) -> Self {
        Self::scripted(name, |exchange| {
            exchange.read_body();
            exchange.wait_until_left();
        })
    }

    /// Runs `script` for every connection, before anything was read.
    pub(crate) fn raw(name: &str, script: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::start(name, Script::Connections(Box::new(script)))
    }

    /// The same as [`Backend::named`] on this address and port, also where a
    /// [`super::Port`] holds it.
    pub(crate) fn at(name: &str, ip: &str, port: u16) -> Self {
        Self::start_at(name, ip, port, Script::Requests(Box::new(by_path)))
    }

    /// [`Backend::scripted`] on this port of 127.0.0.1.
    pub(crate) fn scripted_at(
        name: &str,
        port: u16,
        script: impl Fn(&mut Exchange<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self::start_at(name, "127.0.0.1", port, Script::Requests(Box::new(script)))
    }

    fn start_at(name: &str, ip: &str, port: u16, script: Script) -> Self {
        use socket2::{Domain, Socket, Type};
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(128).unwrap();
        Self::start_on(socket.into(), name, script)
    }

    fn start(name: &str, script: Script) -> Self {
        Self::start_on(TcpListener::bind(("127.0.0.1", 0)).unwrap(), name, script)
    }

    fn start_on(listener: TcpListener, name: &str, script: Script) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            script,
            requests: Mutex::default(),
            streams: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            received: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let accepting = Mutex::new(Some(thread::spawn(move || accept(&listener, &of_thread))));
        Self { shared, address, accepting }
    }

    /// `127.0.0.1:PORT`, as a drop-in names it.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// All requests whose heads arrived, in order.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    /// The last request with this target.
    pub(crate) fn request_of(&self, target: &str) -> Option<Recorded> {
        self.requests().into_iter().rev().find(|request| request.target() == target)
    }

    /// How many requests it was asked to execute.
    pub(crate) fn executions(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }

    /// How many requests arrived with their whole body.
    pub(crate) fn completed(&self) -> usize {
        self.shared.requests.lock().unwrap().iter().filter(|request| request.complete).count()
    }

    /// The one request it got.
    #[track_caller]
    pub(crate) fn request(&self) -> Recorded {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{} got {requests:?}", self.shared.name);
        requests.into_iter().next().unwrap_or_default()
    }

    /// How many connections were ever made to it.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many of them are open.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many bytes it ever got.
    pub(crate) fn received(&self) -> usize {
        self.shared.received.load(Ordering::SeqCst)
    }

    /// How many bytes were taken off it by [`Exchange::pour`].
    pub(crate) fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::SeqCst)
    }

    /// How often the other side left while the script waited for that.
    pub(crate) fn left(&self) -> usize {
        self.shared.left.load(Ordering::SeqCst)
    }

    /// Nobody connected to it, let alone sent it a byte.
    #[track_caller]
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(self.connections(), 0, "{} got {:?}", self.shared.name, self.requests());
        assert_eq!(self.received(), 0);
    }

    /// Waits until that many requests have arrived with their bodies.
    #[track_caller]
    pub(crate) fn wait_for_completed(&self, count: usize) {
        eventually("the backend gets the whole request", || self.completed() >= count);
    }

    /// Waits until that many requests have begun.
    #[track_caller]
    pub(crate) fn wait_for_executions(&self, count: usize) {
        eventually("the backend gets the request", || self.executions() >= count);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Backend {
    /// Its port is closed and so are its connections.
    pub(crate) fn kill(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread; once it has ended the port refuses.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.lock().unwrap().take() {
            let _ = accepting.join();
        }
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Recorded {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.head).into_owned();
        text.split("\r\n").filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The request line, byte for byte.
    pub(crate) fn request_line(&self) -> String {
        self.lines().first().cloned().unwrap_or_default()
    }

    pub(crate) fn method(&self) -> String {
        self.request_line().split(' ').next().unwrap_or_default().to_owned()
    }

    pub(crate) fn target(&self) -> String {
        self.request_line().split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// The field lines, byte for byte.
    pub(crate) fn field_lines(&self) -> Vec<String> {
        self.lines().into_iter().skip(1).collect()
    }

    /// Names and values, in order, spelled as they came.
    pub(crate) fn fields(&self) -> Vec<(String, String)> {
        self.field_lines()
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect()
    }

    /// The values of a field, in order; the name in any case.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        values(&self.fields(), name)
    }

    /// The value of a field that must stand there once.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> String {
        let values = self.values(name);
        assert_eq!(values.len(), 1, "`{name}` in {:?}", self.field_lines());
        values.into_iter().next().unwrap_or_default()
    }
}

impl Shared {
    pub(super) fn update(&self, place: usize, edit: impl FnOnce(&mut Recorded)) {
        if let Some(recorded) = self.requests.lock().unwrap().get_mut(place) {
            edit(recorded);
        }
    }

    /// Lets go of our second handle of a stream, so that dropping the first
    /// one really closes it.
    pub(super) fn forget(&self, stream: &TcpStream) {
        let peer = stream.peer_addr().ok();
        self.streams.lock().unwrap().retain(|other| other.peer_addr().ok() != peer);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).finish_non_exhaustive()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        shared.streams.lock().unwrap().extend(stream.try_clone());
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let mut stream = stream;
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(DEADLINE * 2)).unwrap();
            stream.set_write_timeout(Some(DEADLINE * 2)).unwrap();
            match &shared.script {
                Script::Connections(script) => script(&mut stream),
                Script::Requests(script) => serve(&shared, script.as_ref(), &mut stream),
            }
            shared.forget(&stream);
            drop(stream);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn serve(
    shared: &Shared,
    script: &(dyn Fn(&mut Exchange<'_>) + Send + Sync),
    stream: &mut TcpStream,
) {
    let mut incoming = Incoming::default();
    for earlier in 0.. {
        let before = incoming.received();
        let head = incoming.raw_head(stream);
        shared.received.fetch_add(incoming.received() - before, Ordering::SeqCst);
        let Ok(Some(head)) = head else {
            break;
        };
        let recorded = Recorded { head: head.clone(), ..Recorded::default() };
        let place = {
            let mut requests = shared.requests.lock().unwrap();
            requests.push(recorded);
            requests.len() - 1
        };
        let mut exchange = Exchange {
            shared,
            stream,
            incoming: &mut incoming,
            head,
            place,
            earlier,
            body_read: false,
            closing: false,
        };
        script(&mut exchange);
        if exchange.closing || (!exchange.body_read && exchange.try_read_body().is_err()) {
            break;
        }
    }
}

fn by_path(exchange: &mut Exchange<'_>) {
    let target = exchange.request().target();
    let mut parts = target.trim_start_matches('/').split(['/', '?']);
    let number = |part: Option<&str>| part.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    match parts.next() {
        Some("status") => {
            exchange.read_body();
            let status = number(parts.next());
            let text = exchange.shared.name.clone();
            exchange.send(format!(
                "HTTP/1.1 {status} As Asked\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            ));
        }
        Some("slow") => {
            exchange.read_body();
            exchange.pause(number(parts.next()));
            exchange.echo();
        }
        Some("drip") => {
            exchange.read_body();
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n");
            for byte in b"drips\n" {
                exchange.pause(100);
                exchange.send([*byte]);
            }
        }
        Some("close") => {
            exchange.read_body();
            exchange.close();
        }
        _ => exchange.echo(),
    }
}

/// A port on which nobody accepts: a connect to it is neither answered nor
/// refused, since its queue is full.
#[derive(Debug)]
pub(crate) struct Silent {
    address: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<socket2::Socket>,
}

impl Silent {
    pub(crate) fn new() -> Self {
        use socket2::{Domain, Socket, Type};
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let queued = (0..4)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&address.into());
                socket
            })
            .collect();
        Self { address, _listener: listener, _queued: queued }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }
}
