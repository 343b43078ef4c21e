//! One connection to a demo backend: read a head, read or return its body,
//! answer, again. Every wait has an end and every buffer a bound.

use std::io;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use tokio::net::TcpStream;
use tokio::sync::SemaphorePermit;
use tokio::time::sleep;

use crate::http1::{
    BodyDecoder, Field, HeadError, LAST_CHUNK, Method, RequestFraming, RequestHead, Version,
    chunk_prefix, parse_request,
};

use super::page::Exchange;
use super::wire::{HEAD_LIMITS, Wire};
use super::{Backend, events, next, socket};

const MAX_TRAILERS: usize = 32 << 10;
const MAX_SLOW: u64 = 60_000;
const MAX_BYTES: u64 = 64 << 20;

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Page { status: u16, after: Duration },
    Health,
    Bytes(u64),
    Echo,
    Socket,
    Events,
}

impl Ask {
    fn of(target: &[u8]) -> Self {
        let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
        let mut segments = path.rsplit(|&byte| byte == b'/');
        let (last, before) = (segments.next().unwrap_or_default(), segments.next());
        let number = || std::str::from_utf8(last).ok()?.parse::<u64>().ok();
        let page = Self::Page { status: 200, after: Duration::ZERO };
        match (before, last, number()) {
            (_, b"health", _) => Self::Health,
            (_, b"echo", _) => Self::Echo,
            (_, b"ws", _) => Self::Socket,
            (_, b"events", _) => Self::Events,
            (Some(b"bytes"), _, Some(n)) => Self::Bytes(n.min(MAX_BYTES)),
            (Some(b"slow"), _, Some(ms)) => {
                Self::Page { status: 200, after: Duration::from_millis(ms.min(MAX_SLOW)) }
            }
            (Some(b"status"), _, Some(status @ 200..=599)) => {
                Self::Page { status: u16::try_from(status).unwrap_or(200), after: Duration::ZERO }
            }
            _ => page,
        }
    }
}

/// What a connection is after an answer.
enum After<'a> {
    /// Good for another request.
    Open,
    Done,
    /// A WebSocket, and its place among the streams.
    Socket(SemaphorePermit<'a>),
}

/// How an answer's body is delimited.
#[derive(Clone, Copy)]
enum Framing {
    /// 204 and 304 have none and say nothing of one; another body without
    /// one ends with its connection.
    None,
    Length(u64),
    Chunked,
}

/// Answers on `stream` until either side has enough; `crowded` asks for an end.
pub(super) async fn hold(
    stream: TcpStream,
    backend: &Backend,
    crowded: impl Fn() -> bool,
) -> io::Result<()> {
    // Head and body are written in one piece: nothing to gain from a wait.
    stream.set_nodelay(true)?;
    let wire = Wire::new(stream);
    let connection = next(&backend.connections);
    let mut held = Held { wire, backend, connection, answered: 0 };
    let mut fields = Vec::new();
    loop {
        let head = match held.wire.read_head().await? {
            Some(Ok(head)) => head,
            Some(Err(error)) => return held.refuse(error).await,
            None => return Ok(()),
        };
        let request = match parse_request(&head, &HEAD_LIMITS, &mut fields) {
            Ok(request) => request,
            Err(error) => return held.refuse(error).await,
        };
        let keep = request.keep_alive && !crowded();
        match held.answer(&head, &request, &fields, keep).await? {
            After::Open => {}
            After::Done => return held.wire.close().await,
            After::Socket(place) => {
                let ended = socket::hold(held.wire, backend).await;
                drop(place);
                return ended;
            }
        }
    }
}

struct Held<'a> {
    wire: Wire,
    backend: &'a Backend,
    connection: u64,
    answered: u64,
}

impl<'a> Held<'a> {
    /// One answer.
    async fn answer(
        &mut self,
        head: &[u8],
        request: &RequestHead,
        fields: &[Field],
        keep: bool,
    ) -> io::Result<After<'a>> {
        let requests = next(&self.backend.requests);
        self.answered += 1;
        if request.method == Method::Connect {
            self.plain(405, "no tunnels here\n", false).await?;
            return Ok(After::Done);
        }
        let mut body = match request.framing {
            RequestFraming::None => BodyDecoder::empty(),
            RequestFraming::Length(n) => BodyDecoder::length(n),
            RequestFraming::Chunked => BodyDecoder::chunked(MAX_TRAILERS),
        };
        if request.expect_continue && !body.is_done() && self.wire.is_empty() {
            self.wire.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let ask = Ask::of(request.target.of(head));
        let reply = Reply { backend: self.backend, keep, version: request.version, more: "" };
        let after = if keep { After::Open } else { After::Done };
        if ask == Ask::Echo && request.method != Method::Head {
            return self.echo(&reply, request.framing, &mut body).await.map(|()| after);
        }
        let Some(body) = self.wire.skip_body(&mut body).await? else {
            self.plain(413, "the body is too large\n", false).await?;
            return Ok(After::Done);
        };
        let with_body = request.method != Method::Head;
        match ask {
            Ask::Health => self.send(&reply, 200, TEXT, "ok\n", with_body).await?,
            Ask::Echo => self.send(&reply, 200, TEXT, "", with_body).await?,
            Ask::Bytes(n) => self.bytes(&reply, n, with_body).await?,
            Ask::Socket => return self.socket(head, request, fields, keep).await,
            Ask::Events => {
                let seen = events::seen(head, fields);
                self.events(request.version, seen, with_body).await?;
                return Ok(After::Done);
            }
            Ask::Page { status, after } => {
                if !after.is_zero() {
                    sleep(after).await;
                }
                let exchange = Exchange {
                    backend: self.backend,
                    head,
                    request,
                    fields,
                    body,
                    requests,
                    connection: self.connection,
                    on_connection: self.answered,
                    status,
                    waited: after,
                };
                let begin = self.backend.bond.as_ref().map(|bond| bond.begin(head, fields));
                let reply = Reply { more: begin.as_deref().unwrap_or_default(), ..reply };
                let (kind, page) = if accepts_html(head, fields) {
                    (HTML, exchange.html())
                } else {
                    (TEXT, exchange.text())
                };
                self.send(&reply, status, kind, &page, with_body).await?;
            }
        }
        Ok(after)
    }

    async fn refuse(&mut self, error: HeadError) -> io::Result<()> {
        let status = match error {
            HeadError::TargetTooLong => 414,
            HeadError::FieldsTooLarge | HeadError::TooManyFields => 431,
            HeadError::Malformed(_) => 400,
        };
        self.plain(status, &format!("{error}\n"), false).await?;
        self.wire.close().await
    }

    async fn plain(&mut self, status: u16, text: &str, keep: bool) -> io::Result<()> {
        let reply = Reply { backend: self.backend, keep, version: Version::Http11, more: "" };
        self.send(&reply, status, TEXT, text, true).await
    }

    async fn send(
        &mut self,
        reply: &Reply<'_>,
        status: u16,
        kind: &str,
        text: &str,
        with_body: bool,
    ) -> io::Result<()> {
        if matches!(status, 204 | 205 | 304) {
            // 205 has a length, and it is 0 (RFC 9110 15.3.6).
            let framing = if status == 205 { Framing::Length(0) } else { Framing::None };
            return self.wire.write(reply.head(status, kind, framing).as_bytes()).await;
        }
        let mut bytes = reply.head(status, kind, Framing::Length(text.len() as u64));
        if with_body {
            bytes.push_str(text);
        }
        self.wire.write(bytes.as_bytes()).await
    }

    async fn bytes(&mut self, reply: &Reply<'_>, n: u64, with_body: bool) -> io::Result<()> {
        let head = reply.head(200, TEXT, Framing::Length(n));
        self.wire.write(head.as_bytes()).await?;
        let piece =
            b"lockgate demo: sixty-four bytes a line, and this is one of them\n".repeat(256);
        let mut left = if with_body { n } else { 0 };
        while left > 0 {
            let some = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.wire.write(piece.get(..some).unwrap_or_default()).await?;
            left -= some as u64;
        }
        Ok(())
    }

    /// Grants a WebSocket, or says why not.
    async fn socket(
        &mut self,
        head: &[u8],
        request: &RequestHead,
        fields: &[Field],
        keep: bool,
    ) -> io::Result<After<'a>> {
        let accept = match socket::accept(head, request, fields) {
            Ok(accept) => accept,
            Err((status, why)) => {
                // RFC 9110 15.5.22 and RFC 6455 4.4.
                let more = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
                            Sec-WebSocket-Version: 13\r\n";
                let reply = Reply { backend: self.backend, keep, version: request.version, more };
                let text = format!("/ws is for WebSockets: {why}\n");
                self.send(&reply, status, TEXT, &text, request.method != Method::Head).await?;
                return Ok(if keep { After::Open } else { After::Done });
            }
        };
        let Ok(place) = self.backend.streams.try_acquire() else {
            self.plain(503, CROWDED, false).await?;
            return Ok(After::Done);
        };
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                          Connection: Upgrade\r\nSec-WebSocket-Accept: "
            .to_vec();
        bytes.extend_from_slice(accept.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(names(self.backend).as_bytes());
        bytes.extend_from_slice(b"\r\n");
        self.wire.write(&bytes).await?;
        Ok(After::Socket(place))
    }

    /// The connection ends with it: while it lasts, what comes is not kept.
    async fn events(&mut self, version: Version, seen: u64, with_body: bool) -> io::Result<()> {
        let Ok(_place) = self.backend.streams.try_acquire() else {
            return self.plain(503, CROWDED, false).await;
        };
        let chunked = version == Version::Http11;
        let framing = if chunked { Framing::Chunked } else { Framing::None };
        let reply = Reply { backend: self.backend, keep: false, version, more: "" };
        self.wire.write(reply.head(200, events::KIND, framing).as_bytes()).await?;
        if with_body {
            events::send(&mut self.wire, self.backend, seen, chunked).await?;
        }
        Ok(())
    }

    /// Gives each piece of the body back before it takes the next.
    async fn echo(
        &mut self,
        reply: &Reply<'_>,
        framing: RequestFraming,
        body: &mut BodyDecoder,
    ) -> io::Result<()> {
        let framing = match framing {
            RequestFraming::None => Framing::Length(0),
            RequestFraming::Length(n) => Framing::Length(n),
            RequestFraming::Chunked => Framing::Chunked,
        };
        // Always text: what is sent here must not become a page of this host.
        let mut out = reply.head(200, TEXT, framing).into_bytes();
        let chunked = matches!(framing, Framing::Chunked);
        loop {
            let piece = self.wire.next_piece(body).await?;
            match (&piece, chunked) {
                (Some(data), true) => {
                    out.extend_from_slice(chunk_prefix(data.len(), &mut [0; 18]));
                    out.extend_from_slice(data);
                    out.extend_from_slice(b"\r\n");
                }
                (Some(data), false) => out.extend_from_slice(data),
                (None, true) => {
                    out.extend_from_slice(LAST_CHUNK);
                    out.extend_from_slice(b"\r\n");
                }
                (None, false) => {}
            }
            self.wire.write(&out).await?;
            out.clear();
            if piece.is_none() {
                return Ok(());
            }
        }
    }
}

const CROWDED: &str = "too many streams are open here\n";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// What all heads of an exchange share.
struct Reply<'a> {
    backend: &'a Backend,
    keep: bool,
    version: Version,
    /// Further field lines.
    more: &'a str,
}

impl Reply<'_> {
    fn head(&self, status: u16, kind: &str, framing: Framing) -> String {
        let reason =
            StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("");
        let length = match framing {
            Framing::None => String::new(),
            Framing::Length(n) => format!("Content-Length: {n}\r\n"),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        let connection = match (self.keep, self.version) {
            (false, _) => "Connection: close\r\n",
            (true, Version::Http10) => "Connection: keep-alive\r\n",
            (true, Version::Http11) => "",
        };
        format!(
            "HTTP/1.1 {status} {reason}\r\n\
             Date: {date}\r\n\
             Content-Type: {kind}\r\n\
             {length}{connection}\
             Cache-Control: no-store\r\n\
             Vary: Accept\r\n\
             X-Content-Type-Options: nosniff\r\n\
             Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'; img-src data:; connect-src 'self'; form-action 'self'; \
             base-uri 'none'; frame-ancestors 'none'\r\n\
             {more}{names}\r\n",
            date = httpdate::fmt_http_date(SystemTime::now()),
            more = self.more,
            names = names(self.backend),
        )
    }
}

/// The field lines that say who answers.
fn names(backend: &Backend) -> String {
    format!(
        "Demo-Game: {game}\r\nDemo-Group: {group}\r\n\
         Demo-Backend: {name}\r\nDemo-Number: {number}\r\n",
        game = field_value(&backend.game),
        group = field_value(&backend.group),
        name = field_value(backend.name()),
        number = backend.place + 1,
    )
}

/// Names come from files: whatever could end a field line becomes a `?`.
fn field_value(name: &str) -> String {
    name.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect()
}

fn accepts_html(head: &[u8], fields: &[Field]) -> bool {
    fields.iter().filter(|field| field.name.of(head).eq_ignore_ascii_case(b"accept")).any(|field| {
        String::from_utf8_lossy(field.value.of(head)).to_ascii_lowercase().contains("text/html")
    })
}

#[cfg(test)]
mod tests;
