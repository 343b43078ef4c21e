//! The backend's process: a server of HTTP/1.1 and HTTP/2 without TLS that says what it executes before it
//! answers, so that whoever counts hears of it even when the answer is lost.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use http::request::Parts;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

/// What a request takes, so that there are always some under way.
const WORK: Duration = Duration::from_millis(10);
/// A long answer comes in so many pieces, one after another, so that it is cut when
/// its backend dies.
const PIECES: usize = 8;
/// The time between two of them.
const PIECE_WORK: Duration = Duration::from_millis(3);
/// The length of a long answer's body.
pub(crate) const LONG: usize = 128 * 1024;
/// Connections that wait while it is paused.
const BACKLOG: u32 = 1024;

/// Serves on this port until standard input ends. Each POST is reported as a line
/// on standard error when it is executed.
pub(crate) fn serve(name: &str, port: u16) -> Result<(), String> {
    end_with_parent();
    let text = |error: std::io::Error| error.to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(text)?.block_on(async {
        let socket = TcpSocket::new_v4().map_err(text)?;
        // The port is held by the parent while nobody listens.
        socket.set_reuseaddr(true).map_err(text)?;
        socket.set_reuseport(true).map_err(text)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).map_err(text)?;
        let listener = socket.listen(BACKLOG).map_err(text)?;
        loop {
            let (tcp, _) = listener.accept().await.map_err(text)?;
            tokio::spawn(connection(tcp, name.to_owned()));
        }
    })
}

/// However the parent ends, this process does too, also while it is paused.
fn end_with_parent() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

async fn connection(tcp: TcpStream, name: String) {
    tcp.set_nodelay(true).ok();
    let mut first = [0; 3];
    while !matches!(tcp.peek(&mut first).await, Ok(0 | 3) | Err(_)) {
        tokio::task::yield_now().await;
    }
    if &first == b"PRI" {
        return h2c(tcp, name).await;
    }
    let service = service_fn(|request: Request<Incoming>| {
        let name = name.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok::<_, hyper::Error>(respond(execute(&name, &head, &body).await, is_long(&head)))
        }
    });
    // What was sent before it left is executed all the same.
    http1::Builder::new().half_close(true).serve_connection(TokioIo::new(tcp), service).await.ok();
}

/// HTTP/2 without TLS.
async fn h2c(tcp: TcpStream, name: String) {
    let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let name = name.clone();
        tokio::spawn(async move {
            exchange(&name, request, respond).await.ok(); // whoever left is told nothing
        });
    }
}

async fn exchange(
    name: &str,
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (head, mut content) = request.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = content.data().await.transpose()? {
        content.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    let text = execute(name, &head, &body).await;
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_LENGTH, text.len().into());
    let mut send = respond.send_response(response, false)?;
    let mut pieces = std::pin::pin!(pieces(text, is_long(&head)));
    while let Some(piece) = pieces.next().await {
        send.send_data(piece, false)?;
    }
    send.send_data(Bytes::new(), true)
}

fn is_long(head: &Parts) -> bool {
    head.uri.path().ends_with("/long")
}

/// Does what a request asks for, and gives the answer: `NAME METHOD ID`, and the
/// request's body, or a long one of its id.
async fn execute(name: &str, head: &Parts, body: &[u8]) -> Bytes {
    let id = head.headers.get("x-id").and_then(|id| id.to_str().ok()).unwrap_or("-");
    let method = &head.method;
    if *method == Method::POST {
        // One write: a line is there whole or not at all. (`eprintln` would be
        // caught by the test harness.)
        std::io::stderr().write_all(format!("executed {id}\n").as_bytes()).ok();
    }
    tokio::time::sleep(WORK).await;
    let mut text = format!("{name} {method} {id}\n").into_bytes();
    match is_long(head) {
        true => text.extend(id.bytes().cycle().take(LONG)),
        false => text.extend_from_slice(body),
    }
    text.into()
}

fn respond(
    text: Bytes,
    is_long: bool,
) -> Response<impl Body<Data = Bytes, Error = Infallible> + use<>> {
    let length = text.len();
    let body = StreamBody::new(pieces(text, is_long).map(|piece| Ok(Frame::data(piece))));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

/// The body as it is sent.
fn pieces(text: Bytes, is_long: bool) -> impl Stream<Item = Bytes> + use<> {
    let length = text.len();
    let size = if is_long { length.div_ceil(PIECES) } else { length };
    stream::unfold(text, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        if rest.len() < length {
            tokio::time::sleep(PIECE_WORK).await;
        }
        let piece = rest.split_to(size.min(rest.len()));
        Some((piece, rest))
    })
}
