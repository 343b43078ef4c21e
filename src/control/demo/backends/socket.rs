//! A WebSocket at a demo backend: it says who holds it, then gives back what it
//! is sent. The frames are tungstenite's; the request was read by our own parser.

use std::io;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, HeaderValue};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::server::create_response;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::http1::{Field, RequestHead, Version, is_nominated};

use super::Backend;
use super::wire::Wire;

/// Bytes of a message; a longer one ends the socket.
const MAX_MESSAGE: usize = 256 << 10;
/// After so long without a word from the other side it is pinged, and after as
/// long again it is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// For a message the other side does not take.
const STALLED: Duration = Duration::from_secs(60);
/// For the other side's own goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

type Farewell = (CloseCode, &'static str);

/// What a refusal of [`accept`] is answered with: status and text.
pub(super) type Refusal = (u16, String);

/// The `Sec-WebSocket-Accept` that grants the request.
pub(super) fn accept(
    head: &[u8],
    request: &RequestHead,
    fields: &[Field],
) -> Result<HeaderValue, Refusal> {
    let version = match request.version {
        Version::Http10 => http::Version::HTTP_10,
        Version::Http11 => http::Version::HTTP_11,
    };
    let mut asked = http::Request::builder().method(request.method_name.of(head)).version(version);
    for field in fields {
        asked = asked.header(field.name.of(head), field.value.of(head));
    }
    let mut asked = asked.body(()).map_err(|error| (400, error.to_string()))?;
    // The library looks at one line of `Connection` only.
    if is_nominated(head, fields, b"upgrade") {
        asked.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    let granted = create_response(&asked).map_err(|error| {
        use ProtocolError::{InvalidSecWebSocketKey, MissingSecWebSocketKey};
        let bad_key =
            matches!(error, Error::Protocol(InvalidSecWebSocketKey | MissingSecWebSocketKey));
        (if bad_key { 400 } else { 426 }, error.to_string())
    })?;
    let key = granted.headers().get("sec-websocket-accept").cloned();
    key.ok_or_else(|| (400, "no key".to_owned()))
}

/// Holds a granted WebSocket to its end.
pub(super) async fn hold(wire: Wire, backend: &Backend) -> io::Result<()> {
    let (stream, early) = wire.into_parts();
    let greeting = json!({
        "game": backend.game,
        "group": backend.group,
        "backend": backend.name(),
        "number": backend.place + 1,
    });
    let leaving = backend.leaving.clone();
    let stream = converse(stream, early, greeting.to_string(), leaving).await;
    Wire::new(stream).close().await
}

/// The whole of it on any stream, of which `early` was read already.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    early: Vec<u8>,
    greeting: String,
    mut leaving: watch::Receiver<bool>,
) -> S {
    let limits = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(4 << 10)
        .max_write_buffer_size(2 * MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let mut socket =
        WebSocketStream::from_partially_read(stream, early, Role::Server, Some(limits)).await;
    let farewell = tokio::select! {
        farewell = echo(&mut socket, greeting) => farewell,
        _ = leaving.wait_for(|leaving| *leaving) => Some((CloseCode::Away, "the demo ends")),
    };
    if let Some((code, reason)) = farewell {
        let frame = CloseFrame { code, reason: reason.into() };
        let goodbye = async {
            if socket.close(Some(frame)).await.is_ok() {
                while let Some(Ok(_)) = socket.next().await {}
            }
        };
        // Who does not answer is left without one.
        let _ = timeout(GOODBYE, goodbye).await;
    }
    socket.into_inner()
}

/// Goes on until there is a reason to end; `None` when the other side had one.
async fn echo<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    greeting: String,
) -> Option<Farewell> {
    send(socket, Message::text(greeting)).await?;
    let mut pinged = false;
    loop {
        // A ping is answered, and a close, by the library as it reads on.
        match timeout(SILENCE, socket.next()).await {
            Ok(Some(Ok(message))) => {
                pinged = false;
                if message.is_text() || message.is_binary() {
                    send(socket, message).await?;
                }
            }
            Ok(Some(Err(error))) => return reason(&error),
            Ok(None) => return None,
            Err(_) if pinged => return Some((CloseCode::Policy, "silent for too long")),
            Err(_) => {
                pinged = true;
                send(socket, Message::Ping(Bytes::new())).await?;
            }
        }
    }
}

/// `None` when the other side takes nothing any more.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    message: Message,
) -> Option<()> {
    timeout(STALLED, socket.send(message)).await.ok()?.ok()
}

fn reason(error: &Error) -> Option<Farewell> {
    match error {
        Error::Capacity(_) => Some((CloseCode::Size, "the message is too large")),
        Error::Utf8(_) => Some((CloseCode::Invalid, "text that is not UTF-8")),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some((CloseCode::Protocol, "not a WebSocket's frame")),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
