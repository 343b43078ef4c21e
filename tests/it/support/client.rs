//! Clients that send exactly the bytes they are told to.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};

use super::message::{Cut, Incoming, Response};
use super::sessions::OneName;
use super::{Authority, DEADLINE, Leaf, authority};

/// One connection to lockgate. Every read and write ends by [`DEADLINE`].
pub(crate) struct Client {
    pub(super) io: Io,
    pub(super) incoming: Incoming,
    address: SocketAddr,
}

pub(super) enum Io {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// What a TLS client offers.
#[derive(Clone)]
pub(crate) struct TlsOffer {
    config: ClientConfig,
    name: String,
}

impl Client {
    /// A plain TCP connection.
    pub(crate) fn plain(port: u16) -> Self {
        Self::over(connect(port), Io::Plain)
    }

    /// A plain connection with a small receive buffer, for a client that is
    /// slow to read.
    pub(crate) fn plain_with_small_buffer(port: u16) -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
        Self::over(with_deadlines(socket.into()), Io::Plain)
    }

    /// A TLS connection, handshake done, that offers HTTP/1.1 and trusts the
    /// tests' authority.
    #[track_caller]
    pub(crate) fn tls(port: u16, name: &str) -> Self {
        TlsOffer::to(name).connect(port).expect("the handshake succeeds")
    }

    fn over(stream: TcpStream, io: impl FnOnce(TcpStream) -> Io) -> Self {
        let address = stream.local_addr().unwrap();
        Self { io: io(stream), incoming: Incoming::default(), address }
    }

    /// Our own port.
    pub(crate) fn local_port(&self) -> u16 {
        self.address.port()
    }

    /// The TLS state.
    pub(crate) fn session(&self) -> &ClientConnection {
        match &self.io {
            Io::Tls(stream) => &stream.conn,
            Io::Plain(_) => panic!("a plain client has no TLS state"),
        }
    }

    /// The server's own certificate.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        let chain = self.session().peer_certificates().unwrap_or_default();
        chain.first().expect("the server showed a certificate").clone().into_owned()
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(stream) => stream,
            Io::Tls(stream) => &stream.sock,
        }
    }

    /// Sends these bytes as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the bytes can be sent");
    }

    /// Sends what the other side still takes.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.io.write_all(bytes.as_ref())?;
        self.io.flush()
    }

    /// Sends `block` again and again until nobody takes any more for half a
    /// second or `limit` is reached; gives back how much went.
    pub(crate) fn send_until_blocked(&mut self, block: &[u8], limit: usize) -> usize {
        let blocked = Some(Duration::from_millis(500));
        // A TLS client also looks for what has come before it gives up.
        self.socket().set_read_timeout(blocked).unwrap();
        self.socket().set_write_timeout(blocked).unwrap();
        let mut sent = 0;
        while sent < limit {
            match self.io.write(block) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        self.socket().set_read_timeout(Some(DEADLINE)).unwrap();
        self.socket().set_write_timeout(Some(DEADLINE)).unwrap();
        sent
    }

    /// Reads the response to a request that is no HEAD.
    #[track_caller]
    pub(crate) fn read(&mut self) -> Response {
        self.read_after("GET")
    }

    /// Reads the response to a request with this method.
    #[track_caller]
    pub(crate) fn read_after(&mut self, method: &str) -> Response {
        match self.incoming.response(&mut self.io, method) {
            Ok(response) => response,
            Err(cut) => panic!("no whole response: {} (so far {:?})", cut.error, cut.partial),
        }
    }

    /// Reads a response that must not arrive whole.
    #[track_caller]
    pub(crate) fn read_cut(&mut self) -> Cut {
        match self.incoming.response(&mut self.io, "GET") {
            Ok(response) => panic!("the response came whole: {response:?}"),
            Err(cut) => {
                let silent =
                    matches!(cut.error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!silent, "neither cut nor finished: {:?}", cut.partial);
                cut
            }
        }
    }

    /// Reads a response that may also be cut short.
    pub(crate) fn read_or_cut(&mut self) -> Option<Response> {
        self.incoming.response(&mut self.io, "GET").ok()
    }

    /// Reads a response that may be cut; then what had come of it.
    #[track_caller]
    pub(crate) fn read_whole_or_cut(&mut self) -> Result<Response, Option<Box<Response>>> {
        self.incoming.response(&mut self.io, "GET").map_err(|cut| {
            let silent = matches!(cut.error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!silent, "neither cut nor finished: {:?}", cut.partial);
            cut.partial
        })
    }

    /// Reads the head of a response, byte for byte.
    #[track_caller]
    pub(crate) fn read_head(&mut self) -> String {
        let head = self.incoming.raw_head(&mut self.io).expect("a head");
        String::from_utf8_lossy(&head.expect("a head")).into_owned()
    }

    /// Reads so many bytes, whatever they are.
    #[track_caller]
    pub(crate) fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.incoming.exactly(&mut self.io, count, &mut bytes).expect("the bytes come");
        bytes
    }

    /// Waits for more bytes and shows all that were not used yet, leaving
    /// them there.
    #[track_caller]
    pub(crate) fn peek_more(&mut self) -> Vec<u8> {
        assert_ne!(self.incoming.fill(&mut self.io).expect("more bytes"), 0, "it ended");
        self.incoming.rest().to_vec()
    }

    /// Sends a request and reads its response.
    #[track_caller]
    pub(crate) fn request(&mut self, bytes: impl AsRef<[u8]>) -> Response {
        let bytes = bytes.as_ref();
        let method = bytes.split(|&byte| byte == b' ').next().unwrap_or_default();
        let method = String::from_utf8_lossy(method).into_owned();
        self.send(bytes);
        self.read_after(&method)
    }

    /// `GET` with nothing but a Host.
    #[track_caller]
    pub(crate) fn get(&mut self, host: &str, target: &str) -> Response {
        self.request(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    /// `POST` with this body.
    #[track_caller]
    pub(crate) fn post(&mut self, host: &str, target: &str, body: &[u8]) -> Response {
        let length = body.len();
        let mut bytes =
            format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n")
                .into_bytes();
        bytes.extend_from_slice(body);
        self.request(bytes)
    }

    /// Something has arrived that was not read yet; does not wait for it.
    pub(crate) fn has_bytes(&mut self) -> bool {
        self.socket().set_nonblocking(true).unwrap();
        let arrived = self.socket().peek(&mut [0]).is_ok();
        self.socket().set_nonblocking(false).unwrap();
        arrived
    }

    /// Waits for the end of the connection, by FIN or reset, and gives back
    /// what came before it.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        loop {
            match self.incoming.fill(&mut self.io) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    panic!("the connection stays open; got {:?}", self.incoming.rest())
                }
                Err(_) => break,
            }
        }
        self.incoming.rest().to_vec()
    }

    /// The connection ends without a further byte.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "before the end came {:?}", String::from_utf8_lossy(&rest));
    }

    /// The connection ends without a further byte and, on TLS, with a
    /// close_notify: nobody can have cut it.
    #[track_caller]
    pub(crate) fn assert_ends_cleanly(&mut self) {
        assert_eq!(self.incoming.fill(&mut self.io).expect("a clean end"), 0);
    }

    /// Another request on this connection works.
    #[track_caller]
    pub(crate) fn assert_open(&mut self, host: &str) {
        let status = self.get(host, "/still-open").status;
        assert_eq!(status, 200);
    }

    /// Ends our direction: close_notify on TLS, and FIN.
    pub(crate) fn half_close(&mut self) {
        if let Io::Tls(stream) = &mut self.io {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        match self.socket().shutdown(Shutdown::Write) {
            // Who takes the close_notify for the end may be gone by now.
            Err(error) if error.kind() == ErrorKind::NotConnected => {}
            done => done.unwrap(),
        }
    }

    /// Goes away with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(self.socket()).set_linger(Some(Duration::ZERO)).unwrap();
        match self.io {
            Io::Plain(stream) => drop(stream),
            Io::Tls(stream) => drop(stream.into_parts().1),
        }
    }
}

impl TlsOffer {
    /// TLS 1.2 and 1.3, this SNI, HTTP/1.1, the tests' authority.
    pub(crate) fn to(name: &str) -> Self {
        Self::with(name, rustls::ALL_VERSIONS, authority())
    }

    /// The same with these versions only.
    pub(crate) fn versions(name: &str, versions: &[&'static SupportedProtocolVersion]) -> Self {
        Self::with(name, versions, authority())
    }

    fn with(
        name: &str,
        versions: &[&'static SupportedProtocolVersion],
        trusted: &Authority,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(trusted.roots())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Self { config, name: name.to_owned() }
    }

    /// Shows this certificate when asked.
    pub(crate) fn certified(mut self, leaf: &Leaf) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        self.config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(authority().roots())
            .with_client_auth_cert(vec![leaf.der().clone()], leaf.key())
            .unwrap();
        self
    }

    /// Sends no SNI.
    pub(crate) fn without_sni(mut self) -> Self {
        self.config.enable_sni = false;
        self
    }

    pub(crate) fn alpn(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols =
            protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        self
    }

    /// Keeps sessions and offers them again; clones share them.
    pub(crate) fn resuming(mut self) -> Self {
        self.config.resumption = Resumption::in_memory_sessions(64);
        self
    }

    /// Keeps sessions and offers them to whatever name it connects to next.
    pub(crate) fn resuming_anywhere(mut self) -> Self {
        self.config.resumption = Resumption::store(Arc::new(OneName::default()));
        self
    }

    /// The same offer with another SNI.
    pub(crate) fn but_to(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// Connects and shakes hands.
    pub(crate) fn connect(&self, port: u16) -> io::Result<Client> {
        let mut stream = connect(port);
        let name = ServerName::try_from(self.name.clone()).unwrap();
        let mut session =
            ClientConnection::new(Arc::new(self.config.clone()), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Client::over(stream, |stream| Io::Tls(Box::new(StreamOwned::new(session, stream)))))
    }

    /// Sends `before` and the first bytes of the handshake in one write, and
    /// shakes hands.
    pub(crate) fn connect_behind(&self, port: u16, before: &[u8]) -> io::Result<Client> {
        let mut stream = connect(port);
        let name = ServerName::try_from(self.name.clone()).unwrap();
        let mut session =
            ClientConnection::new(Arc::new(self.config.clone()), name).map_err(io::Error::other)?;
        let mut first = before.to_vec();
        while session.wants_write() {
            session.write_tls(&mut first)?;
        }
        stream.write_all(&first)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Client::over(stream, |stream| Io::Tls(Box::new(StreamOwned::new(session, stream)))))
    }

    /// The error the server's refusal of this offer shows as. With TLS 1.3 a
    /// refused client certificate shows only after our side of the handshake.
    #[track_caller]
    pub(crate) fn refusal(&self, port: u16) -> String {
        let error = match self.connect(port) {
            Err(error) => error,
            Ok(mut client) => match client.incoming.fill(&mut client.io) {
                Ok(count) => panic!("the server did not refuse; it sent {count} bytes"),
                Err(error) => error,
            },
        };
        let silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(!silent, "neither refused nor answered");
        error.to_string()
    }
}

impl Read for Io {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Io {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

fn connect(port: u16) -> TcpStream {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    with_deadlines(TcpStream::connect_timeout(&address, DEADLINE).expect("lockgate listens"))
}

fn with_deadlines(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}
