//! A scripted backend that speaks TLS, and says how each handshake went.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    HandshakeKind, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
};

use super::message::Incoming;
use super::{Authority, DEADLINE, Leaf, Recorded, eventually};

/// A backend behind TLS. Dropped, it is gone, with its connections.
#[derive(Debug)]
pub(crate) struct TlsBackend {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<thread::JoinHandle<()>>,
}

/// What the TLS side of a backend is.
#[derive(Clone)]
pub(crate) struct TlsServer(ServerConfig);

/// A handshake that succeeded, as the backend saw it.
#[derive(Debug, Clone)]
pub(crate) struct Handshake {
    pub(crate) server_name: Option<String>,
    pub(crate) kind: HandshakeKind,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) client: Option<CertificateDer<'static>>,
}

/// A request whose head was read; its body was not.
pub(crate) struct TlsExchange<'a> {
    shared: &'a Shared,
    stream: &'a mut StreamOwned<ServerConnection, Held>,
    incoming: &'a mut Incoming,
    head: Vec<u8>,
    place: usize,
    earlier: usize,
    body_read: bool,
    end: Option<End>,
}

#[derive(Clone, Copy)]
enum End {
    /// close_notify, then FIN.
    Said,
    /// FIN alone.
    Bare,
}

/// A socket that can keep back what is written to it.
pub(crate) struct Held {
    tcp: TcpStream,
    kept: Option<Vec<u8>>,
}

type Script = Box<dyn Fn(&mut TlsExchange<'_>) + Send + Sync>;

struct Shared {
    name: String,
    server: Arc<ServerConfig>,
    keeps_tickets: bool,
    script: Script,
    handshakes: Mutex<Vec<Handshake>>,
    failures: Mutex<Vec<String>>,
    requests: Mutex<Vec<Recorded>>,
    streams: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
}

impl TlsServer {
    /// Shows this certificate, TLS 1.2 and 1.3, HTTP/1.1, resumes sessions.
    pub(crate) fn with(leaf: &Leaf) -> Self {
        Self::build(leaf, rustls::ALL_VERSIONS, None)
    }

    /// The same with one version only.
    pub(crate) fn version(leaf: &Leaf, version: &'static SupportedProtocolVersion) -> Self {
        Self::build(leaf, &[version], None)
    }

    /// The same, for clients with a certificate of this authority only.
    pub(crate) fn for_clients_of(
        leaf: &Leaf,
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        Self::build(leaf, versions, Some(authority))
    }

    fn build(
        leaf: &Leaf,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Authority>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(authority.roots(), provider)
                    .build()
                    .unwrap(),
            ),
        };
        let mut config = builder.with_single_cert(vec![leaf.der().clone()], leaf.key()).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        Self(config)
    }
}

impl TlsBackend {
    /// Echoes the request.
    pub(crate) fn named(name: &str, server: TlsServer) -> Self {
        Self::scripted(name, server, |exchange| exchange.echo())
    }

    /// Runs `script` for every request.
    pub(crate) fn scripted(
        name: &str,
        server: TlsServer,
        script: impl Fn(&mut TlsExchange<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self::start(name, server, false, Box::new(script))
    }

    /// The same; the TLS 1.3 session tickets leave only with
    /// [`TlsExchange::let_go`].
    pub(crate) fn keeping_tickets(
        name: &str,
        server: TlsServer,
        script: impl Fn(&mut TlsExchange<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self::start(name, server, true, Box::new(script))
    }

    fn start(name: &str, server: TlsServer, keeps_tickets: bool, script: Script) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            server: Arc::new(server.0),
            keeps_tickets,
            script,
            handshakes: Mutex::default(),
            failures: Mutex::default(),
            requests: Mutex::default(),
            streams: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let accepting = Some(thread::spawn(move || accept(&listener, &of_thread)));
        Self { shared, address, accepting }
    }

    /// `127.0.0.1:PORT`, as a drop-in names it.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The handshakes that succeeded, in order.
    pub(crate) fn handshakes(&self) -> Vec<Handshake> {
        self.shared.handshakes.lock().unwrap().clone()
    }

    /// Waits until a handshake has failed; gives the backend's error.
    #[track_caller]
    pub(crate) fn wait_for_failure(&self) -> String {
        eventually("a handshake fails", || !self.shared.failures.lock().unwrap().is_empty());
        self.shared.failures.lock().unwrap()[0].clone()
    }

    /// All requests whose heads arrived, in order.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// How many requests it was asked to execute.
    pub(crate) fn executions(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }
}

impl Drop for TlsBackend {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread; once it has ended the port refuses.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl TlsExchange<'_> {
    pub(crate) fn request(&self) -> Recorded {
        Recorded { head: self.head.clone(), ..Recorded::default() }
    }

    /// How many requests came before this one on the same connection.
    pub(crate) fn earlier(&self) -> usize {
        self.earlier
    }

    /// Reads and records the body.
    pub(crate) fn read_body(&mut self) -> Vec<u8> {
        self.body_read = true;
        let request = self.request();
        let (mut body, mut chunks) = (Vec::new(), Vec::new());
        let outcome = if request.values("transfer-encoding").is_empty() {
            let length = request.values("content-length").first().map_or(0, |v| v.parse().unwrap());
            self.incoming.exactly(self.stream, length, &mut body)
        } else {
            self.incoming.chunked(self.stream, &mut body, &mut chunks).map(drop)
        };
        if let Some(recorded) = self.shared.requests.lock().unwrap().get_mut(self.place) {
            recorded.body.clone_from(&body);
            recorded.complete = outcome.is_ok();
        }
        body
    }

    /// Reads once, past the request; 0 at the end.
    pub(crate) fn read_some(&mut self) -> io::Result<Vec<u8>> {
        self.body_read = true;
        if self.incoming.rest().is_empty() {
            self.incoming.fill(self.stream)?;
        }
        let mut bytes = Vec::new();
        let count = self.incoming.rest().len();
        self.incoming.exactly(self.stream, count, &mut bytes)?;
        Ok(bytes)
    }

    /// Sends these bytes; a client that left is no failure.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush()).is_err() {
            self.end = Some(End::Bare);
        }
    }

    /// Answers 200 with this body.
    pub(crate) fn reply(&mut self, body: &str) {
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    }

    /// Reads the request to its end and answers with the backend's name and
    /// the head as it came.
    pub(crate) fn echo(&mut self) {
        if !self.body_read {
            self.read_body();
        }
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let text = format!("{}\n{head}", self.shared.name);
        self.reply(&text);
    }

    /// Sends what was kept back: the session tickets.
    pub(crate) fn let_go(&mut self) {
        let kept = self.stream.sock.kept.take().unwrap_or_default();
        assert!(self.earlier > 0 || !kept.is_empty(), "there were tickets");
        let _ = self.stream.sock.tcp.write_all(&kept);
    }

    /// Sends a message of TLS itself: new keys from here on.
    pub(crate) fn change_keys(&mut self) {
        self.stream.conn.refresh_traffic_keys().unwrap();
        let _ = self.stream.flush();
    }

    /// Answers 200 and says the end of the connection (close_notify) in one
    /// write, leaving the socket open.
    pub(crate) fn reply_and_say_end(&mut self, body: &str) {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = self.stream.conn.writer().write_all(text.as_bytes());
        self.stream.conn.send_close_notify();
        let _ = self.stream.flush();
    }

    /// Ends the connection in good order after this request.
    pub(crate) fn close(&mut self) {
        self.end = Some(End::Said);
    }

    /// Ends it with a bare FIN: no close_notify.
    pub(crate) fn cut(&mut self) {
        self.end = Some(End::Bare);
    }
}

impl Read for Held {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.read(buffer)
    }
}

impl Write for Held {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.kept {
            None => self.tcp.write(bytes),
            Some(kept) => {
                kept.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    /// So that records made together leave together.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.kept.is_none() {
            return self.tcp.write_vectored(slices);
        }
        slices.iter().map(|slice| self.write(slice)).sum()
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).finish_non_exhaustive()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((tcp, _)) = listener.accept() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        shared.streams.lock().unwrap().extend(tcp.try_clone());
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            tcp.set_nodelay(true).unwrap();
            tcp.set_read_timeout(Some(DEADLINE * 2)).unwrap();
            tcp.set_write_timeout(Some(DEADLINE * 2)).unwrap();
            let peer = tcp.peer_addr().ok();
            if let Err(error) = connection(&shared, &tcp) {
                shared.failures.lock().unwrap().push(error.to_string());
            }
            let _ = tcp.shutdown(Shutdown::Both);
            shared.streams.lock().unwrap().retain(|other| other.peer_addr().ok() != peer);
        });
    }
}

/// The error is the handshake's.
fn connection(shared: &Shared, tcp: &TcpStream) -> io::Result<()> {
    let mut conn = ServerConnection::new(Arc::clone(&shared.server)).map_err(io::Error::other)?;
    let mut socket = Held { tcp: tcp.try_clone()?, kept: None };
    while conn.is_handshaking() {
        if conn.wants_write() {
            conn.write_tls(&mut socket)?;
            continue;
        }
        if conn.read_tls(&mut socket)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Err(error) = conn.process_new_packets() {
            let _ = conn.write_tls(&mut socket);
            return Err(io::Error::other(error));
        }
    }
    shared.handshakes.lock().unwrap().push(Handshake {
        server_name: conn.server_name().map(str::to_owned),
        kind: conn.handshake_kind().unwrap(),
        alpn: conn.alpn_protocol().map(<[u8]>::to_vec),
        client: conn.peer_certificates().map(|chain| chain[0].clone().into_owned()),
    });
    // The tickets are what it wants to write now.
    socket.kept = shared.keeps_tickets.then(Vec::new);
    while conn.wants_write() {
        conn.write_tls(&mut socket)?;
    }
    let mut stream = StreamOwned::new(conn, socket);
    if let End::Said = serve(shared, &mut stream) {
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
    Ok(())
}

fn serve(shared: &Shared, stream: &mut StreamOwned<ServerConnection, Held>) -> End {
    let mut incoming = Incoming::default();
    for earlier in 0.. {
        let Ok(Some(head)) = incoming.raw_head(stream) else { break };
        let place = {
            let mut requests = shared.requests.lock().unwrap();
            requests.push(Recorded { head: head.clone(), ..Recorded::default() });
            requests.len() - 1
        };
        let mut exchange = TlsExchange {
            shared,
            stream,
            incoming: &mut incoming,
            head,
            place,
            earlier,
            body_read: false,
            end: None,
        };
        (shared.script)(&mut exchange);
        if let Some(end) = exchange.end {
            return end;
        }
        if !exchange.body_read {
            exchange.read_body();
        }
    }
    End::Said
}
