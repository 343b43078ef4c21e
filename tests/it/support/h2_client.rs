//! HTTP/2 clients over TLS: the `h2` crate's, driven on a thread of its own so
//! that a test stays a script of blocking steps.

use std::fmt;
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{DEADLINE, Site, authority};

/// An HTTP/2 connection to lockgate.
pub(crate) struct H2 {
    send: SendRequest<Bytes>,
    ended: Receiver<Result<(), h2::Error>>,
    leave: tokio::sync::mpsc::UnboundedSender<Leave>,
    authority: String,
}

/// How a client leaves its connection.
#[derive(Debug, Clone, Copy)]
enum Leave {
    Fin,
    Reset,
}

/// A request under way.
pub(crate) struct H2Stream {
    response: Option<ResponseFuture>,
    send: SendStream<Bytes>,
    body: Option<RecvStream>,
}

/// A whole response.
#[derive(Debug, Clone)]
pub(crate) struct H2Response {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// The head itself ended the stream.
    pub(crate) bodiless: bool,
}

/// A response's head.
#[derive(Debug, Clone)]
pub(crate) struct H2Head {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
}

/// Runs one step of a test to its end, at most until the deadline.
#[track_caller]
pub(super) fn wait<F: Future>(what: &str, step: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(DEADLINE, step).await });
    done.unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// A client that offers only HTTP/2 and trusts the tests' authority.
pub(crate) fn h2_config() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority().roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// A connection on which the server agreed to HTTP/2.
pub(super) async fn handshake(port: u16, name: &str, small: bool) -> TlsStream<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    if small {
        socket.set_recv_buffer_size(4096).unwrap();
    }
    let tcp = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let tls = TlsConnector::from(h2_config()).connect(name, tcp).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    tls
}

impl H2 {
    /// A connection to the site's `a.test`.
    #[track_caller]
    pub(crate) fn to(site: &Site) -> Self {
        Self::connect(site.port(), "a.test")
    }

    #[track_caller]
    pub(crate) fn connect(port: u16, name: &str) -> Self {
        Self::with(port, name, |builder| {
            builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 24);
        })
    }

    /// The same with other settings.
    #[track_caller]
    pub(crate) fn with(port: u16, name: &str, set: impl FnOnce(&mut Builder)) -> Self {
        let (sender, ready) = channel();
        let (end, ended) = channel();
        let (leave, mut leaving) = tokio::sync::mpsc::unbounded_channel();
        let mut builder = Builder::new();
        builder.max_header_list_size(1 << 20);
        set(&mut builder);
        let authority = name.to_owned();
        let name = name.to_owned();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let tls = handshake(port, &name, false).await;
                let copy = socket2::SockRef::from(tls.get_ref().0).try_clone().unwrap();
                let (send, connection) = builder.handshake::<_, Bytes>(tls).await.unwrap();
                sender.send(send).unwrap();
                let leaves = async {
                    match leaving.recv().await {
                        Some(Leave::Reset) => {
                            copy.set_linger(Some(std::time::Duration::ZERO)).unwrap();
                        }
                        Some(Leave::Fin) => {}
                        // Its streams go on.
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    done = connection => drop(end.send(done)),
                    () = leaves => {}
                }
            });
        });
        let send = ready.recv_timeout(DEADLINE).expect("the connection is set up");
        Self { send, ended, leave, authority }
    }

    /// A request to this connection's name.
    pub(crate) fn request(&self, method: Method, target: &str) -> Request<()> {
        let uri = format!("https://{}{target}", self.authority);
        Request::builder().method(method).uri(uri).body(()).unwrap()
    }

    /// Begins a request; `last`: it has no body.
    #[track_caller]
    pub(crate) fn begin(&mut self, request: Request<()>, last: bool) -> H2Stream {
        self.try_begin(request, last).expect("a stream")
    }

    #[track_caller]
    pub(crate) fn try_begin(
        &mut self,
        request: Request<()>,
        last: bool,
    ) -> Result<H2Stream, h2::Error> {
        wait("a stream may begin", poll_fn(|task| self.send.poll_ready(task)))?;
        let (response, send) = self.send.send_request(request, last)?;
        Ok(H2Stream { response: Some(response), send, body: None })
    }

    /// Begins a GET.
    #[track_caller]
    pub(crate) fn begin_get(&mut self, target: &str) -> H2Stream {
        let request = self.request(Method::GET, target);
        self.begin(request, true)
    }

    /// Begins a POST whose body is still to be sent.
    #[track_caller]
    pub(crate) fn begin_post(&mut self, target: &str) -> H2Stream {
        let request = self.request(Method::POST, target);
        self.begin(request, false)
    }

    /// A whole request without body.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: Request<()>) -> H2Response {
        self.begin(request, true).read()
    }

    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> H2Response {
        self.begin_get(target).read()
    }

    /// A POST with this body, which may have to wait for the response's
    /// bytes: both go at once.
    #[track_caller]
    pub(crate) fn post(&mut self, target: &str, body: &[u8]) -> H2Response {
        let mut stream = self.begin_post(target);
        stream.send(body);
        stream.finish();
        stream.read()
    }

    /// Begins a WebSocket (RFC 8441).
    #[track_caller]
    pub(crate) fn begin_websocket(&mut self, target: &str) -> H2Stream {
        let request = self.websocket(target);
        self.begin(request, false)
    }

    /// A request for a WebSocket, which the server must have offered.
    #[track_caller]
    pub(crate) fn websocket(&self, target: &str) -> Request<()> {
        super::eventually("extended CONNECT is offered", || {
            self.send.is_extended_connect_protocol_enabled()
        });
        let mut request = self.request(Method::CONNECT, target);
        request.extensions_mut().insert(Protocol::from_static("websocket"));
        request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
        request
    }

    /// How many requests the server allows at once.
    pub(crate) fn max_streams(&self) -> usize {
        self.send.current_max_send_streams()
    }

    /// Waits for the end of the connection.
    #[track_caller]
    pub(crate) fn end(&self) -> Result<(), h2::Error> {
        self.ended.recv_timeout(DEADLINE * 2).expect("the connection ends")
    }

    /// It has not ended yet.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.ended.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty))
    }

    /// Goes away with a TCP reset.
    pub(crate) fn reset(self) {
        let _ = self.leave.send(Leave::Reset);
        let _ = self.ended.recv_timeout(DEADLINE);
    }

    /// Goes away with a FIN.
    pub(crate) fn close(self) {
        let _ = self.leave.send(Leave::Fin);
        let _ = self.ended.recv_timeout(DEADLINE);
    }
}

impl H2Stream {
    /// Sends all of this as the server allows it.
    #[track_caller]
    pub(crate) fn send(&mut self, body: &[u8]) {
        let sent = self.send_until_blocked(body, DEADLINE);
        assert_eq!(sent, body.len(), "the server takes no more");
    }

    /// Sends as much as the server allows, until it has allowed nothing for so
    /// long; gives back how much went.
    pub(crate) fn send_until_blocked(
        &mut self,
        body: &[u8],
        patience: std::time::Duration,
    ) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut sent = 0;
        runtime.block_on(async {
            while sent < body.len() {
                self.send.reserve_capacity((body.len() - sent).min(64 * 1024));
                if self.send.capacity() == 0 {
                    let granted = poll_fn(|task| self.send.poll_capacity(task));
                    match tokio::time::timeout(patience, granted).await {
                        Ok(Some(Ok(_))) => {}
                        _ => return,
                    }
                }
                let count = self.send.capacity().min(body.len() - sent);
                let piece = Bytes::copy_from_slice(&body[sent..sent + count]);
                if self.send.send_data(piece, false).is_err() {
                    return;
                }
                sent += count;
            }
        });
        sent
    }

    /// The body is complete.
    pub(crate) fn finish(&mut self) {
        self.send.send_data(Bytes::new(), true).expect("the stream is open");
    }

    /// The body is complete, with trailers.
    pub(crate) fn finish_with(&mut self, trailers: HeaderMap) {
        self.send.send_trailers(trailers).expect("the stream is open");
    }

    pub(crate) fn reset(&mut self, reason: Reason) {
        self.send.send_reset(reason);
    }

    /// The next interim response.
    #[track_caller]
    pub(crate) fn interim(&mut self) -> H2Head {
        let response = self.response.as_mut().expect("no head yet");
        let head = wait("an interim response", poll_fn(|task| response.poll_informational(task)));
        let head = head.expect("an interim response").expect("the stream is whole");
        H2Head { status: head.status().as_u16(), fields: head.headers().clone() }
    }

    /// The response's head.
    #[track_caller]
    pub(crate) fn head(&mut self) -> H2Head {
        self.try_head().expect("the stream is whole")
    }

    #[track_caller]
    pub(crate) fn try_head(&mut self) -> Result<H2Head, h2::Error> {
        let response = self.response.take().expect("the head was not read yet");
        let (parts, body) = wait("a response's head", response)?.into_parts();
        self.body = Some(body);
        Ok(H2Head { status: parts.status.as_u16(), fields: parts.headers })
    }

    /// The next piece of the body; `None` at its end.
    #[track_caller]
    pub(crate) fn try_piece(&mut self) -> Result<Option<Bytes>, h2::Error> {
        let body = self.body.as_mut().expect("the head was read");
        // An empty piece may carry the end.
        while let Some(piece) = wait("a piece of the body", body.data()).transpose()? {
            if !piece.is_empty() {
                body.flow_control().release_capacity(piece.len()).unwrap();
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// Exactly so many bytes of the body.
    #[track_caller]
    pub(crate) fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let piece = self.try_piece().expect("the stream is whole").expect("more of the body");
            bytes.extend_from_slice(&piece);
        }
        assert_eq!(bytes.len(), count);
        bytes
    }

    /// The whole response.
    #[track_caller]
    pub(crate) fn read(mut self) -> H2Response {
        self.try_read().expect("a whole response")
    }

    #[track_caller]
    pub(crate) fn try_read(&mut self) -> Result<H2Response, h2::Error> {
        let head = self.try_head()?;
        let bodiless = self.body.as_ref().is_some_and(RecvStream::is_end_stream);
        let mut body = Vec::new();
        while let Some(piece) = self.try_piece()? {
            body.extend_from_slice(&piece);
        }
        let trailers = wait("trailers", self.body.as_mut().unwrap().trailers())?;
        Ok(H2Response { status: head.status, fields: head.fields, body, trailers, bodiless })
    }

    /// Reads a response that must be cut, and how.
    #[track_caller]
    pub(crate) fn cut(&mut self) -> Reason {
        if self.response.is_some()
            && let Err(error) = self.try_head()
        {
            return error.reason().unwrap_or_else(|| panic!("{error}"));
        }
        loop {
            match self.try_piece() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the response came whole"),
                Err(error) => return error.reason().unwrap_or_else(|| panic!("{error}")),
            }
        }
    }

    /// What the server resets the stream with.
    #[track_caller]
    pub(crate) fn reset_by_server(&mut self) -> Reason {
        wait("RST_STREAM", poll_fn(|task| self.send.poll_reset(task))).expect("the stream's reset")
    }
}

impl H2Response {
    /// The response, if it has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?} {}", self.text());
        self
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The values of a field, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        let values = self.fields.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }
}

impl fmt::Debug for H2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H2").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl fmt::Debug for H2Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H2Stream").finish_non_exhaustive()
    }
}
