//! One request at a time, for the checks before a measurement.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

const PATIENCE: Duration = Duration::from_secs(5);

/// A response, read until the server closed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The TLS cipher suite, with TLS.
    pub(crate) suite: Option<String>,
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The head of a request; `last` asks the server to close.
pub(crate) fn head(method: &str, path: &str, port: u16, length: usize, last: bool) -> String {
    let close = if last { "Connection: close\r\n" } else { "" };
    let length = if length > 0 { format!("Content-Length: {length}\r\n") } else { String::new() };
    format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{close}{length}\r\n")
}

/// The name in the certificate: an address, so that no SNI is sent, as wrk does.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(Ipv4Addr::LOCALHOST.into())
}

/// Status of a plain GET; `None` when there is no answer (yet).
pub(crate) fn status(port: u16, path: &str) -> Option<u16> {
    ask(port, None, "GET", path, &[]).ok().map(|answer| answer.status)
}

/// A plain GET with more lines in its head.
pub(crate) fn ask_with(port: u16, path: &str, lines: &str) -> Result<Answer, String> {
    let text = |error: std::io::Error| format!("GET {path}: {error}");
    let mut tcp = TcpStream::connect_timeout(&local(port), PATIENCE).map_err(text)?;
    tcp.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    let head = head("GET", path, port, 0, true);
    let head = head.trim_end_matches("\r\n");
    tcp.write_all(format!("{head}\r\n{lines}\r\n").as_bytes()).map_err(text)?;
    let bytes = read_all(&mut tcp).map_err(text)?;
    parse(&bytes, None).ok_or_else(|| format!("GET {path}: not an answer"))
}

/// One request on its own connection, over TLS when a configuration is given.
pub(crate) fn ask(
    port: u16,
    tls: Option<&Arc<ClientConfig>>,
    method: &str,
    path: &str,
    body: &[u8],
) -> Result<Answer, String> {
    let text = |error: std::io::Error| format!("{method} {path}: {error}");
    let mut tcp = TcpStream::connect_timeout(&local(port), PATIENCE).map_err(text)?;
    tcp.set_read_timeout(Some(PATIENCE)).map_err(text)?;
    tcp.set_write_timeout(Some(PATIENCE)).map_err(text)?;
    let mut request = head(method, path, port, body.len(), true).into_bytes();
    request.extend_from_slice(body);
    let (bytes, suite) = if let Some(config) = tls {
        let session = ClientConnection::new(Arc::clone(config), server_name());
        let mut stream = StreamOwned::new(session.map_err(|error| error.to_string())?, tcp);
        stream.write_all(&request).map_err(text)?;
        let bytes = read_all(&mut stream).map_err(text)?;
        let suite = stream.conn.negotiated_cipher_suite();
        (bytes, suite.map(|suite| format!("{:?}", suite.suite())))
    } else {
        tcp.write_all(&request).map_err(text)?;
        (read_all(&mut tcp).map_err(text)?, None)
    };
    parse(&bytes, suite).ok_or_else(|| {
        format!(
            "{method} {path}: not an answer: {:?}",
            String::from_utf8_lossy(bytes.get(..60).unwrap_or(&bytes))
        )
    })
}

fn read_all(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // No close_notify: the length says whether all came.
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(bytes),
    }
}

fn parse(bytes: &[u8], suite: Option<String>) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = bytes.split_at_checked(end + 4)?;
    let head = String::from_utf8_lossy(head).into_owned();
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, head, body: body.to_vec(), suite })
}
