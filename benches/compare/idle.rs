//! What a connection costs that does nothing.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{head, local, server_name};
use crate::lab::Lab;
use crate::peers::Peer;
use crate::procfs;

/// One measurement.
#[derive(Debug)]
pub(crate) struct Idle {
    pub(crate) tls: bool,
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
            "workload": name(self.tls), "peer": self.peer, "round": self.round,
            "connections": self.connections, "closed_while_held": self.closed,
            "rss_start_kib": self.start_kib, "rss_held_kib": self.held_kib,
            "rss_after_kib": self.after_kib, "kib_per_connection": self.kib,
        })
    }
}

pub(crate) fn name(tls: bool) -> &'static str {
    if tls { "idle-tls" } else { "idle" }
}

enum Held {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Held {
    fn closed(&self) -> bool {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => stream.get_ref().0,
        };
        match tcp.try_read(&mut [0; 64]) {
            Ok(got) => got == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Opens `count` connections with one request each, holds them for `settle`, and reads memory
/// before, then, and after they are gone.
pub(crate) fn sample(
    peer: &Peer,
    lab: &Lab,
    tls: bool,
    round: usize,
    count: usize,
    settle: Duration,
) -> Result<Idle, String> {
    let running = peer.start(lab, &[])?;
    let port = running.port(tls);
    let connector = tls.then(|| TlsConnector::from(Arc::clone(&lab.certificate.client)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let memory = || procfs::rss_kib(&running.pids());

    // What is there once and for all (upstream pool, first use of everything) is not a connection's.
    for _ in 0..2 {
        drop(runtime.block_on(open(port, connector.as_ref(), 64))?);
        std::thread::sleep(settle.mul_f64(0.2));
    }
    let start_kib = memory();
    let held = runtime.block_on(open(port, connector.as_ref(), count))?;
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
    Ok(Idle { tls, peer, round, connections: count, start_kib, held_kib, after_kib, closed, kib })
}

/// `count` connections, 32 at a time.
async fn open(
    port: u16,
    connector: Option<&TlsConnector>,
    count: usize,
) -> Result<Vec<Held>, String> {
    let local_set = tokio::task::LocalSet::new();
    let work = async {
        let mut held = Vec::with_capacity(count);
        while held.len() < count {
            let batch: Vec<_> = (held.len()..count.min(held.len() + 32))
                .map(|_| tokio::task::spawn_local(open_one(port, connector.cloned())))
                .collect();
            for task in batch {
                held.push(task.await.map_err(|error| error.to_string())??);
            }
        }
        Ok(held)
    };
    let limit = Duration::from_secs(30);
    let result = tokio::time::timeout(limit, local_set.run_until(work)).await;
    result.map_err(|_| format!("{count} connections were not open within {limit:?}"))?
}

async fn open_one(port: u16, connector: Option<TlsConnector>) -> Result<Held, String> {
    let text = |error: std::io::Error| format!("opening: {error}");
    let mut tcp = TcpStream::connect(local(port)).await.map_err(text)?;
    match connector {
        None => {
            request(&mut tcp, port).await.map_err(text)?;
            Ok(Held::Plain(tcp))
        }
        Some(connector) => {
            let mut stream = connector.connect(server_name(), tcp).await.map_err(text)?;
            request(&mut stream, port).await.map_err(text)?;
            Ok(Held::Tls(Box::new(stream)))
        }
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
