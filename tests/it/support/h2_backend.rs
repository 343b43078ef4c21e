//! A scripted HTTP/2 server without TLS, on a thread of its own.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{LocalSet, spawn_local};

use super::{Port, eventually};

/// A server that runs a script for every request. Dropped or killed, it is
/// gone: its port refuses and its connections are closed.
#[derive(Debug)]
pub(crate) struct H2Backend {
    port: Arc<Port>,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What it tells its clients in SETTINGS.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct H2Options {
    pub(crate) max_streams: Option<u32>,
    /// How long after a connection's begin it sends them.
    pub(crate) late: Option<Duration>,
}

/// A request as the backend saw it.
#[derive(Debug, Clone, Default)]
pub(crate) struct H2Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authority: String,
    pub(crate) scheme: String,
    /// Names as HTTP/2 has them: an upper-case one is refused by the library.
    pub(crate) fields: Vec<(String, String)>,
    /// The request ended with its head.
    pub(crate) bodiless: bool,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// It came to its end.
    pub(crate) complete: bool,
    /// The error that ended it instead, or the reset the script saw.
    pub(crate) broken: Option<String>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    requests: Mutex<Vec<H2Seen>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    /// Raised: every connection says GOAWAY and takes no new request.
    parting: watch::Sender<usize>,
}

/// One request, in the script's hands.
pub(crate) struct Call {
    pub(crate) path: String,
    body: RecvStream,
    pub(crate) respond: SendResponse<Bytes>,
    shared: Arc<Shared>,
    place: usize,
}

impl H2Backend {
    /// Sends every body back as it comes, trailers too.
    pub(crate) fn echoing(name: &str) -> Self {
        Self::scripted(name, |call| call.echo())
    }

    pub(crate) fn scripted<F, S>(name: &str, script: S) -> Self
    where
        F: Future<Output = ()> + 'static,
        S: Fn(Call) -> F + Send + 'static,
    {
        Self::with(name, H2Options::default(), script)
    }

    pub(crate) fn with<F, S>(name: &str, options: H2Options, script: S) -> Self
    where
        F: Future<Output = ()> + 'static,
        S: Fn(Call) -> F + Send + 'static,
    {
        Self::at(&Arc::new(Port::reserve()), name, options, script)
    }

    /// On this port, where nobody listens.
    pub(crate) fn at<F, S>(port: &Arc<Port>, name: &str, options: H2Options, script: S) -> Self
    where
        F: Future<Output = ()> + 'static,
        S: Fn(Call) -> F + Send + 'static,
    {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            parting: watch::channel(0).0,
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        let (ready, listens) = channel();
        let (stop, stopped) = oneshot::channel();
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let local = LocalSet::new();
            local.block_on(&runtime.unwrap(), async move {
                let socket = TcpSocket::new_v4().unwrap();
                socket.set_reuseport(true).unwrap();
                socket.set_reuseaddr(true).unwrap();
                socket.bind(address).unwrap();
                let listener = socket.listen(1024).unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    () = accept(listener, of_thread, options, Rc::new(script)) => {}
                    _ = stopped => {}
                }
            });
        });
        listens.recv().expect("the backend listens");
        Self { port: Arc::clone(port), shared, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> String {
        self.port.refusing_address()
    }

    /// Its port, for another one after it.
    pub(crate) fn port(&self) -> Arc<Port> {
        Arc::clone(&self.port)
    }

    /// Ends it; back when its sockets are closed.
    pub(crate) fn kill(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// All its connections say GOAWAY.
    pub(crate) fn part(&self) {
        self.shared.parting.send_modify(|count| *count += 1);
    }

    pub(crate) fn requests(&self) -> Vec<H2Seen> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The only request it got.
    #[track_caller]
    pub(crate) fn request(&self) -> H2Seen {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    /// Waits for a request to this path that fulfils the condition.
    #[track_caller]
    pub(crate) fn wait_for(&self, path: &str, condition: impl Fn(&H2Seen) -> bool) -> H2Seen {
        let mut found = None;
        eventually(&format!("{path} as wanted at the backend"), || {
            found = self.requests().into_iter().find(|seen| seen.path == path && condition(seen));
            found.is_some()
        });
        found.unwrap_or_default()
    }

    /// Connections it ever accepted.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl Drop for H2Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn accept<F, S>(listener: TcpListener, shared: Arc<Shared>, options: H2Options, script: Rc<S>)
where
    F: Future<Output = ()> + 'static,
    S: Fn(Call) -> F + 'static,
{
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = stream.set_nodelay(true);
        shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        let (shared, script) = (Arc::clone(&shared), Rc::clone(&script));
        spawn_local(async move {
            serve(stream, &shared, options, script).await;
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn serve<F, S>(stream: TcpStream, shared: &Arc<Shared>, options: H2Options, script: Rc<S>)
where
    F: Future<Output = ()> + 'static,
    S: Fn(Call) -> F + 'static,
{
    let mut parting = shared.parting.subscribe();
    if let Some(late) = options.late {
        tokio::time::sleep(late).await;
    }
    let mut builder = h2::server::Builder::new();
    if let Some(max) = options.max_streams {
        builder.max_concurrent_streams(max);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                let call = Call::begin(request, respond, shared);
                let running = script(call);
                spawn_local(running);
            }
            _ = parting.changed() => connection.graceful_shutdown(),
        }
    }
}

impl Call {
    fn begin(
        request: http::Request<RecvStream>,
        respond: SendResponse<Bytes>,
        shared: &Arc<Shared>,
    ) -> Self {
        let (parts, body) = request.into_parts();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into();
        let path = parts.uri.path_and_query().map_or_else(String::new, ToString::to_string);
        let seen = H2Seen {
            method: parts.method.to_string(),
            path: path.clone(),
            authority: parts.uri.authority().map_or_else(String::new, ToString::to_string),
            scheme: parts.uri.scheme_str().unwrap_or_default().to_owned(),
            fields: parts.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect(),
            bodiless: body.is_end_stream(),
            ..H2Seen::default()
        };
        let mut requests = shared.requests.lock().unwrap();
        requests.push(seen);
        let place = requests.len() - 1;
        Self { path, body, respond, shared: Arc::clone(shared), place }
    }

    fn record(&self, edit: impl FnOnce(&mut H2Seen)) {
        if let Some(seen) = self.shared.requests.lock().unwrap().get_mut(self.place) {
            edit(seen);
        }
    }

    /// The next piece of the body, recorded. `None` at its end, good or bad.
    pub(crate) async fn piece(&mut self) -> Option<Bytes> {
        match self.body.data().await {
            Some(Ok(data)) => {
                let _ = self.body.flow_control().release_capacity(data.len());
                self.record(|seen| seen.body.extend_from_slice(&data));
                Some(data)
            }
            Some(Err(error)) => {
                self.record(|seen| seen.broken = Some(error.to_string()));
                None
            }
            None => {
                match self.body.trailers().await {
                    Ok(trailers) => self.record(|seen| {
                        seen.trailers = trailers;
                        seen.complete = true;
                    }),
                    Err(error) => self.record(|seen| seen.broken = Some(error.to_string())),
                }
                None
            }
        }
    }

    /// Reads the request to its end.
    pub(crate) async fn read(&mut self) {
        while self.piece().await.is_some() {}
    }

    /// Waits until the client resets the request, and records it.
    pub(crate) async fn wait_for_reset(&mut self) {
        let reason = poll_fn(|task| self.respond.poll_reset(task)).await;
        self.record(|seen| seen.broken = Some(format!("{reason:?}")));
    }

    /// The same once the head of the response was sent.
    pub(crate) async fn wait_for_reset_of(&self, send: &mut SendStream<Bytes>) {
        let reason = poll_fn(|task| send.poll_reset(task)).await;
        self.record(|seen| seen.broken = Some(format!("{reason:?}")));
    }

    /// Sends the response's head, with a body to follow.
    pub(crate) fn head(&mut self, fields: &[(&str, &str)]) -> SendStream<Bytes> {
        self.respond.send_response(response(200, fields), false).unwrap()
    }

    /// Answers with nothing but a head.
    pub(crate) fn only_head(&mut self, status: u16, fields: &[(&str, &str)]) {
        let _ = self.respond.send_response(response(status, fields), true);
    }

    /// Answers with the backend's name and the path.
    pub(crate) async fn reply(&mut self) {
        let text = format!("{} {}", self.shared.name, self.path);
        // One that was reset wants no answer.
        let Ok(mut send) = self.respond.send_response(response(200, &[]), false) else { return };
        send_all(&mut send, text.as_bytes()).await;
        let _ = send.send_data(Bytes::new(), true);
    }

    pub(crate) fn reset(&mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }

    async fn echo(mut self) {
        let mut send = self.head(&[]);
        while let Some(piece) = self.piece().await {
            if !send_all(&mut send, &piece).await {
                return;
            }
        }
        let trailers = self.shared.requests.lock().unwrap()[self.place].trailers.clone();
        let _ = match trailers {
            Some(trailers) => send.send_trailers(trailers),
            None => send.send_data(Bytes::new(), true),
        };
    }
}

/// A head.
pub(crate) fn response(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let mut builder = Response::builder().status(status);
    for (name, value) in fields {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

/// Sends at the pace the other side allows. False: it wants no more.
pub(crate) async fn send_all(send: &mut SendStream<Bytes>, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        send.reserve_capacity(bytes.len());
        let granted = match send.capacity() {
            0 => match poll_fn(|task| send.poll_capacity(task)).await {
                Some(Ok(granted)) => granted,
                _ => return false,
            },
            granted => granted,
        };
        let (piece, rest) = bytes.split_at(granted.min(bytes.len()));
        if send.send_data(Bytes::copy_from_slice(piece), false).is_err() {
            return false;
        }
        bytes = rest;
    }
    true
}

/// A trailer section.
pub(crate) fn trailers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, value.parse().unwrap());
    }
    map
}
