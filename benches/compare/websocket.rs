//! WebSockets: the backend that echoes, and the clients that talk to it through the proxy.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::load::Done;
use crate::stream::Stream;

/// The longest that a frame with the shortest head can hold.
const PAYLOAD: usize = LENGTH as usize;
const LENGTH: u8 = 125;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// A whole message of binary data.
const BINARY: u8 = 0x82;
/// The example of RFC 6455 (1.3): a key, and what a server has to make of it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts the backend, which lives as long as this process, and says its two ports.
///
/// It is a thread and no process: nobody reads the CPU time of this side.
pub(crate) fn start_echo() -> Result<[u16; 2], String> {
    let text = |error: std::io::Error| format!("the echo backend: {error}");
    let runtime = runtime()?;
    let listen = || runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let (first, second) = (listen().map_err(text)?, listen().map_err(text)?);
    let ports =
        [first.local_addr().map_err(text)?.port(), second.local_addr().map_err(text)?.port()];
    std::thread::spawn(move || {
        runtime.block_on(async { tokio::join!(accept(first), accept(second)) });
    });
    Ok(ports)
}

async fn accept(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => drop(tokio::spawn(echo(tcp))),
            // No descriptors, most likely: some will come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// One connection; a client that does anything else than expected is left.
async fn echo(mut tcp: TcpStream) -> Option<()> {
    tcp.set_nodelay(true).ok()?;
    let (mut got, mut out) = (Vec::with_capacity(1024), Vec::with_capacity(1024));
    let head = loop {
        if let Some(end) = got.windows(4).position(|window| window == b"\r\n\r\n") {
            break String::from_utf8_lossy(got.get(..end)?).to_ascii_lowercase();
        }
        if tcp.read_buf(&mut got).await.ok()? == 0 {
            return None;
        }
    };
    if !head.contains("upgrade: websocket") {
        tcp.write_all(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n").await.ok()?;
        return None;
    }
    got.clear(); // the clients wait for the answer
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
    );
    tcp.write_all(answer.as_bytes()).await.ok()?;
    loop {
        if tcp.read_buf(&mut got).await.ok()? == 0 {
            return None;
        }
        while let Some(length) = unmask(&got, &mut out)? {
            got.drain(..length);
        }
        tcp.write_all(&out).await.ok()?;
        out.clear();
    }
}

/// Adds the echo of the first frame in `got` to `out` and says how long the frame was. `Some(None)`:
/// it is not there yet. `None`: it is not one of ours.
fn unmask(got: &[u8], out: &mut Vec<u8>) -> Option<Option<usize>> {
    let [kind, length, a, b, c, d, rest @ ..] = got else { return Some(None) };
    let size = usize::from(length.checked_sub(0x80)?);
    if *kind != BINARY || size > PAYLOAD {
        return None;
    }
    let Some(payload) = rest.get(..size) else { return Some(None) };
    out.extend([*kind, length - 0x80]);
    out.extend(
        payload.iter().zip([a, b, c, d].into_iter().cycle()).map(|(byte, mask)| byte ^ mask),
    );
    Some(Some(6 + size))
}

/// A message and the echo that has to come for it.
struct Message {
    frame: [u8; 6 + PAYLOAD],
    echo: [u8; 2 + PAYLOAD],
}

impl Message {
    /// Other numbers make other messages, so that an echo of another one is noticed.
    fn new(number: u64) -> Self {
        let mut message = Self { frame: [0; 6 + PAYLOAD], echo: [b'x'; 2 + PAYLOAD] };
        let numbered = number.to_be_bytes();
        let echo = [BINARY, LENGTH].into_iter().chain(numbered);
        message.echo.iter_mut().zip(echo).for_each(|(to, from)| *to = from);
        let head = [BINARY, 0x80 | LENGTH].into_iter().chain(MASK);
        let payload = message.echo.iter().skip(2);
        let masked = payload.zip(MASK.into_iter().cycle()).map(|(byte, mask)| byte ^ mask);
        message.frame.iter_mut().zip(head.chain(masked)).for_each(|(to, from)| *to = from);
        message
    }

    /// Sends it and waits for its echo.
    async fn exchange(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> std::io::Result<()> {
        stream.write_all(&self.frame).await?;
        let mut answer = [0; 2 + PAYLOAD];
        stream.read_exact(&mut answer).await?;
        if answer == self.echo { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }
}

/// Opens a WebSocket through the proxy and sends one message on it.
pub(crate) async fn open(port: u16, tls: Option<Arc<ClientConfig>>) -> Result<Stream, String> {
    let text = |error: std::io::Error| format!("opening a WebSocket: {error}");
    let work = async {
        let mut stream = Stream::connect(port, tls).await?;
        match &mut stream {
            Stream::Plain(tcp) => upgrade(tcp, port).await?,
            Stream::Tls(tls) => upgrade(tls, port).await?,
        }
        Ok(stream)
    };
    let result = tokio::time::timeout(PATIENCE, work).await;
    result.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())).map_err(text)
}

async fn upgrade(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    port: u16,
) -> std::io::Result<()> {
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::with_capacity(512);
    while !answer.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    if !answer.starts_with("HTTP/1.1 101 ") || !answer.contains(ACCEPT) {
        return Err(std::io::Error::other(answer.lines().next().unwrap_or_default().to_owned()));
    }
    Message::new(0).exchange(stream).await
}

/// One WebSocket is opened, used once and closed.
pub(crate) fn check(port: u16, tls: Option<Arc<ClientConfig>>) -> Result<(), String> {
    runtime()?.block_on(open(port, tls)).map(drop)
}

/// Open WebSockets on which messages go and come, one on the way at a time on each.
pub(crate) struct Talk {
    runtime: Runtime,
    streams: Vec<Stream>,
}

impl Talk {
    pub(crate) fn open(
        port: u16,
        tls: Option<&Arc<ClientConfig>>,
        count: u32,
    ) -> Result<Self, String> {
        let runtime = runtime()?;
        let streams = runtime.block_on(async {
            let mut streams = Vec::new();
            for _ in 0..count {
                streams.push(open(port, tls.cloned()).await?);
            }
            Ok::<_, String>(streams)
        })?;
        Ok(Self { runtime, streams })
    }

    /// Talks for `time`. A WebSocket that failed is an error, and silent from then on.
    pub(crate) fn run(&mut self, time: Duration) -> Result<Done, String> {
        let start = Instant::now();
        let streams = std::mem::take(&mut self.streams);
        let count = streams.len();
        let (mut waits, mut failure) = (Vec::new(), String::new());
        self.runtime.block_on(async {
            let tasks: Vec<_> = (0..)
                .zip(streams)
                .map(|(id, stream)| tokio::spawn(talk(stream, id, start, time)))
                .collect();
            for task in tasks {
                let ended = tokio::time::timeout(time + PATIENCE, task).await;
                match ended {
                    Ok(Ok((stream, mut own, result))) => {
                        waits.append(&mut own);
                        match result {
                            Ok(()) => self.streams.push(stream),
                            Err(error) => failure = error.to_string(),
                        }
                    }
                    _ => failure = format!("no echo within {PATIENCE:?}"),
                }
            }
        });
        let errors = (count - self.streams.len()) as u64;
        if waits.is_empty() {
            return Err(format!("no message came back: {failure}"));
        }
        waits.sort_unstable();
        let at = |part: usize| waits.get(waits.len() * part / 100).copied().map_or(0, u64::from);
        Ok(Done {
            requests: waits.len() as u64,
            errors,
            seconds: start.elapsed().as_secs_f64(),
            p50: at(50),
            p99: at(99),
            ..Done::default()
        })
    }
}

/// One WebSocket, until `time` is over: itself, the microseconds of every answer, how it ended.
async fn talk(
    mut stream: Stream,
    id: u64,
    start: Instant,
    time: Duration,
) -> (Stream, Vec<u32>, std::io::Result<()>) {
    let message = Message::new(id);
    let mut waits = Vec::new();
    let mut sent = start.elapsed();
    let result = loop {
        if sent >= time {
            break Ok(());
        }
        let exchanged = match &mut stream {
            Stream::Plain(tcp) => message.exchange(tcp).await,
            Stream::Tls(tls) => message.exchange(tls).await,
        };
        if exchanged.is_err() {
            break exchanged;
        }
        let now = start.elapsed();
        waits.push(u32::try_from((now - sent).as_micros()).unwrap_or(u32::MAX));
        sent = now;
    };
    (stream, waits, result)
}

fn runtime() -> Result<Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())
}
