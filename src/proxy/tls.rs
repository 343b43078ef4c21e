//! The TLS handshake: the name the client asks for picks the listener, and the
//! listener's identity answers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::server::Acceptor;
use rustls::{CipherSuite, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{LazyConfigAcceptor, TlsStream};
use tracing::warn;

use super::conn::Stream;
use super::message::{Peer, TlsFacts};
use super::tcp::Tcp;
use super::worker::Worker;
use crate::policy::route::HostName;
use crate::state::{Identity, Listener, Port};

/// The first byte of a TLS record that can open a connection (RFC 8446 5.1).
const HANDSHAKE: u8 = 22;
/// Alert 112, `unrecognized_name` (RFC 6066 3), fatal, as a whole record.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];
/// What a client gets that speaks plain HTTP to a TLS port.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
Content-Length: 55\r\nConnection: close\r\n\r\n400 Bad Request\nthis port speaks HTTPS, not plain HTTP\n";
/// Plaintext that may wait in the session: a large body's reads leave in one write.
const SEND_BUFFER: usize = 256 * 1024;

/// Shakes hands. `None`: the connection is over; why was logged.
pub(super) async fn handshake(worker: &Worker, tcp: TcpStream, peer: &mut Peer) -> Option<Stream> {
    let until = Instant::now() + worker.view().snapshot.process.limits.handshake_timeout;
    let outcome = match timeout_at(until, accept(worker, tcp, peer)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    match outcome {
        Ok(stream) => stream,
        Err(error) => {
            // Port scans and closed browsers are no news.
            let silent = matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
            );
            if !silent {
                failed(worker);
            }
            if !silent && worker.refusals.may_write() {
                warn!(client = %peer.address.ip(), port = peer.port, %error, "TLS handshake failed");
            }
            None
        }
    }
}

fn failed(worker: &Worker) {
    worker.shared.doors.tls.fetch_add(1, Ordering::Relaxed);
}

async fn accept(
    worker: &Worker,
    mut tcp: TcpStream,
    peer: &mut Peer,
) -> io::Result<Option<Stream>> {
    let mut first = [0];
    if tcp.peek(&mut first).await? == 0 {
        return Ok(None);
    }
    if first != [HANDSHAKE] {
        failed(worker);
        tcp.write_all(PLAIN).await?;
        drain(&mut tcp).await;
        return Ok(None);
    }
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), Tcp::new(tcp)).await?;
    let name = start.client_hello().server_name().and_then(|name| HostName::parse(name.as_bytes()));
    let Some(identity) = identity(worker, peer.port, name.as_ref()) else {
        failed(worker);
        if worker.refusals.may_write() {
            let name = name.as_ref().map(HostName::as_str);
            warn!(client = %peer.address.ip(), port = peer.port, name, "TLS name of no listener");
        }
        start.io.write_all(&UNRECOGNIZED_NAME).await?;
        drain(&mut start.io).await;
        return Ok(None);
    };
    let mut stream = start.into_stream(Arc::clone(&identity.server)).await?;
    stream.get_mut().1.set_buffer_limit(Some(SEND_BUFFER));
    let settled = &stream.get_ref().1;
    peer.tls = Some(TlsFacts {
        identity,
        version: settled.protocol_version().map_or("", version_name),
        cipher: settled.negotiated_cipher_suite().map_or("", |suite| cipher_name(suite.suite())),
        name: name.map(|name| name.as_str().into()),
    });
    Ok(Some(Stream::Tls(Box::new(TlsStream::from(stream)))))
}

/// As OpenSSL, and with it nginx's log, writes it.
fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        other => other.as_str().unwrap_or_default(),
    }
}

/// By its name in the registry (RFC 8446 B.4); the library has its own for those
/// of TLS 1.3.
fn cipher_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or_default(),
    }
}

/// Whose certificate to show: the owner's of the name; without a name the
/// `default`'s, or the alphabetically first's.
pub(super) fn greeter<'a>(port: &'a Port, name: Option<&HostName>) -> Option<&'a Arc<Listener>> {
    match name {
        Some(name) => port.hosts.resolve(name.as_str()),
        None => port.hosts.default().or_else(|| port.hosts.first_by_name()),
    }
}

fn identity(worker: &Worker, port: u16, name: Option<&HostName>) -> Option<Arc<Identity>> {
    let view = worker.view();
    greeter(view.snapshot.port(port)?, name)?.identity.clone()
}

/// Closes in good order: bytes left unread would turn the close into a reset,
/// which can overtake what was just written.
async fn drain(tcp: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let mut sink = [0; 1024];
    let all = async {
        let _ = tcp.shutdown().await;
        while tcp.read(&mut sink).await.is_ok_and(|n| n > 0) {}
    };
    let _ = timeout_at(Instant::now() + Duration::from_secs(1), all).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_named_as_everybody_does() {
        assert_eq!(version_name(ProtocolVersion::TLSv1_3), "TLSv1.3");
        assert_eq!(version_name(ProtocolVersion::TLSv1_2), "TLSv1.2");
        for suite in rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES {
            let name = cipher_name(suite.suite());
            assert!(name.starts_with("TLS_"), "{name}");
        }
    }

    #[test]
    fn the_plain_answer_says_its_length() {
        let text = std::str::from_utf8(PLAIN).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
