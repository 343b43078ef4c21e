//! What a connection costs that does nothing.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::client::head;
use crate::lab::Lab;
use crate::peers::Peer;
use crate::procfs;
use crate::stream::Stream;
use crate::{http2, websocket};

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Tls,
    Http2,
    WebSocket,
    WebSocketTls,
}

/// All, in the order they run.
pub(crate) const KINDS: [Kind; 5] =
    [Kind::Plain, Kind::Tls, Kind::Http2, Kind::WebSocket, Kind::WebSocketTls];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "idle",
            Self::Tls => "idle-tls",
            Self::Http2 => "idle-h2",
            Self::WebSocket => "idle-websocket",
            Self::WebSocketTls => "idle-websocket-tls",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Plain => "HTTP/1.1 keep-alive",
            Self::Tls => "HTTP/1.1 keep-alive over TLS",
            Self::Http2 => "HTTP/2 over TLS",
            Self::WebSocket => "silent WebSocket, its connection to the backend included",
            Self::WebSocketTls => "the same over TLS",
        }
    }

    fn tls(self) -> bool {
        !matches!(self, Self::Plain | Self::WebSocket)
    }
}

/// One measurement.
#[derive(Debug)]
pub(crate) struct Idle {
    pub(crate) kind: Kind,
    pub(crate) peer: String,
    round: usize,
    connections: usize,
    start_kib: u64,
    held_kib: u64,
    after_kib: u64,
    /// Connections that the proxy closed while they were held.
    pub(crate) closed: usize,
    pub(crate) kib: f64,
}

impl Idle {
    pub(crate) fn json(&self) -> Value {
        json!({
            "workload": self.kind.name(), "peer": self.peer, "round": self.round,
            "connections": self.connections, "closed_while_held": self.closed,
            "rss_start_kib": self.start_kib, "rss_held_kib": self.held_kib,
            "rss_after_kib": self.after_kib, "kib_per_connection": self.kib,
        })
    }
}

enum Held {
    Http1(Stream),
    Http2(http2::Connection),
}

impl Held {
    fn closed(&self) -> bool {
        match self {
            Self::Http1(stream) => stream.closed(),
            Self::Http2(connection) => connection.closed(),
        }
    }
}

/// Opens `count` connections with one request or message each, holds them for `settle`, and reads memory
/// before, then, and after they are gone.
pub(crate) fn sample(
    peer: &Peer,
    lab: &Lab,
    kind: Kind,
    round: usize,
    count: usize,
    settle: Duration,
) -> Result<Idle, String> {
    let running = peer.start(lab, &[])?;
    let port = running.port(kind.tls());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let memory = || procfs::rss_kib(&running.pids());

    // What is there once and for all (upstream pool, first use of everything) is not a connection's.
    for _ in 0..2 {
        drop(runtime.block_on(open(lab, kind, port, 64))?);
        std::thread::sleep(settle.mul_f64(0.2));
    }
    let start_kib = memory();
    let held = runtime.block_on(open(lab, kind, port, count))?;
    // In the runtime, so that it hears of connections that are closed meanwhile.
    runtime.block_on(async { tokio::time::sleep(settle).await });
    let held_kib = memory();
    let closed = held.iter().filter(|connection| connection.closed()).count();
    let _inside = runtime.enter(); // sockets are given back to the runtime they came from
    drop(held);
    std::thread::sleep(settle.mul_f64(0.3));
    let after_kib = memory();
    let kib = (held_kib as f64 - start_kib as f64) / count as f64;
    let peer = peer.label.clone();
    Ok(Idle { kind, peer, round, connections: count, start_kib, held_kib, after_kib, closed, kib })
}

/// `count` connections, 32 at a time.
async fn open(lab: &Lab, kind: Kind, port: u16, count: usize) -> Result<Vec<Held>, String> {
    let work = async {
        let mut held = Vec::with_capacity(count);
        while held.len() < count {
            let batch = (held.len()..count.min(held.len() + 32)).map(|_| open_one(lab, kind, port));
            held.append(&mut futures_util::future::try_join_all(batch).await?);
        }
        Ok(held)
    };
    let limit = Duration::from_secs(30);
    let result = tokio::time::timeout(limit, work).await;
    result.map_err(|_| format!("{count} connections were not open within {limit:?}"))?
}

async fn open_one(lab: &Lab, kind: Kind, port: u16) -> Result<Held, String> {
    let tls = kind.tls().then(|| lab.certificate.client.clone());
    match kind {
        Kind::Plain | Kind::Tls => {
            let text = |error: std::io::Error| format!("opening: {error}");
            let mut stream = Stream::connect(port, tls).await.map_err(text)?;
            match &mut stream {
                Stream::Plain(tcp) => request(tcp, port).await.map_err(text)?,
                Stream::Tls(tls) => request(tls, port).await.map_err(text)?,
            }
            Ok(Held::Http1(stream))
        }
        Kind::Http2 => {
            let tls = lab.certificate.client_h2.clone();
            http2::open(port, tls, "/1k").await.map(|(connection, _)| Held::Http2(connection))
        }
        Kind::WebSocket | Kind::WebSocketTls => websocket::open(port, tls).await.map(Held::Http1),
    }
}

/// One request for 1 KiB, its answer read to the last byte.
async fn request(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    port: u16,
) -> std::io::Result<()> {
    stream.write_all(head("GET", "/1k", port, 0, false).as_bytes()).await?;
    let (mut answer, mut buffer) = (Vec::<u8>::new(), [0; 2048]);
    loop {
        let got = stream.read(&mut buffer).await?;
        if got == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend(buffer.iter().take(got));
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
        if end.is_some_and(|end| answer.len() >= end + 4 + 1024) {
            return Ok(());
        }
    }
}
