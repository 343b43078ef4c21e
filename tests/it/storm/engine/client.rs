//! Clients that tell a response which did not begin from one that was cut.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Longer than any answer takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(15);
/// Requests on a connection of HTTP/1.1 before the client opens another.
const ON_ONE: u32 = 200;

/// A request.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) method: &'static str,
    pub(crate) path: &'a str,
    pub(crate) id: &'a str,
    pub(crate) cookie: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `NAME=VALUE` of the cookie it sets.
    pub(crate) cookie: Option<String>,
    /// Why the proxy answered by itself, where it says so (RFC 9209).
    pub(crate) cause: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// No whole response.
#[derive(Debug)]
pub(crate) struct Lost {
    /// Its first byte had come.
    pub(crate) began: bool,
    pub(crate) why: String,
}

impl Lost {
    fn new(began: bool, why: impl std::fmt::Display) -> Self {
        Self { began, why: why.to_string() }
    }
}

/// A client of either protocol.
#[derive(Debug)]
pub(crate) enum Client {
    Http1(Http1),
    Http2(Rc<Http2>),
}

impl Client {
    pub(crate) async fn ask(&mut self, ask: &Ask<'_>) -> Result<Answer, Lost> {
        let answer = async {
            match self {
                Self::Http1(client) => client.ask(ask).await,
                Self::Http2(client) => client.ask(ask).await,
            }
        };
        let late = |_| Err(Lost::new(false, "neither an answer nor an end"));
        timeout(PATIENCE, answer).await.unwrap_or_else(late)
    }

    pub(crate) fn protocol(&self) -> &'static str {
        match self {
            Self::Http1(_) => "HTTP/1.1",
            Self::Http2(_) => "HTTP/2",
        }
    }
}

/// Plain HTTP/1.1 on a kept connection.
#[derive(Debug)]
pub(crate) struct Http1 {
    port: u16,
    host: String,
    stream: Option<TcpStream>,
    used: u32,
}

impl Http1 {
    pub(crate) fn new(port: u16, host: &str) -> Self {
        Self { port, host: host.to_owned(), stream: None, used: 0 }
    }

    async fn ask(&mut self, ask: &Ask<'_>) -> Result<Answer, Lost> {
        let mut stream = match self.stream.take() {
            Some(stream) if self.used < ON_ONE => stream,
            _ => {
                self.used = 0;
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await;
                stream.map_err(|error| Lost::new(false, error))?
            }
        };
        stream.set_nodelay(true).ok();
        self.used += 1;
        let cookie = ask.cookie.map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
        let mut bytes = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nX-Id: {}\r\n{cookie}Content-Length: {}\r\n\r\n",
            ask.method,
            ask.path,
            self.host,
            ask.id,
            ask.body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(ask.body);
        stream.write_all(&bytes).await.map_err(|error| Lost::new(false, error))?;
        let (answer, keep) = read(&mut stream).await?;
        self.stream = keep.then_some(stream);
        Ok(answer)
    }
}

/// A response, and whether the connection may be used again.
async fn read(stream: &mut TcpStream) -> Result<(Answer, bool), Lost> {
    let mut bytes = Vec::new();
    let (mut answer, head, length, keep) = loop {
        fill(stream, &mut bytes).await?;
        if let Some(found) = parse(&bytes).map_err(|error| Lost::new(true, error))? {
            break found;
        }
    };
    while bytes.len() < head + length {
        fill(stream, &mut bytes).await?;
    }
    answer.body = bytes.split_off(head);
    if answer.body.len() > length {
        return Err(Lost::new(true, "bytes after the answer"));
    }
    Ok((answer, keep))
}

async fn fill(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), Lost> {
    let began = !bytes.is_empty();
    match stream.read_buf(bytes).await {
        Ok(0) => Err(Lost::new(began, "the connection ended")),
        Ok(_) => Ok(()),
        Err(error) => Err(Lost::new(began, error)),
    }
}

/// Once its head is whole: the response without its body, the lengths of both, and
/// whether the connection stays.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize, usize, bool)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let head = response.parse(bytes).map_err(|error| error.to_string())?;
    let httparse::Status::Complete(head) = head else { return Ok(None) };
    let value = |name: &str| {
        let field = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        field.and_then(|field| std::str::from_utf8(field.value).ok())
    };
    let length = value("content-length").and_then(|length| length.parse().ok());
    let length = length.ok_or("an answer without Content-Length")?;
    let answer = Answer {
        status: response.code.unwrap_or_default(),
        cookie: value("set-cookie").map(pair),
        cause: value("proxy-status").map(str::to_owned),
        body: Vec::new(),
    };
    let keep = !value("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(Some((answer, head, length, keep)))
}

/// A cookie without its attributes.
fn pair(cookie: &str) -> String {
    cookie.split(';').next().unwrap_or_default().trim().to_owned()
}

/// HTTP/2 over TLS: several players on one connection.
#[derive(Debug)]
pub(crate) struct Http2 {
    port: u16,
    host: String,
    tls: Arc<ClientConfig>,
    send: RefCell<Option<SendRequest<Bytes>>>,
}

impl Http2 {
    pub(crate) fn new(port: u16, host: &str, tls: &Arc<ClientConfig>) -> Self {
        Self { port, host: host.to_owned(), tls: Arc::clone(tls), send: RefCell::default() }
    }

    /// A place on the connection there is, or on a new one.
    async fn place(&self) -> Result<SendRequest<Bytes>, String> {
        let known = self.send.borrow().clone();
        if let Some(known) = known
            && let Ok(ready) = known.ready().await
        {
            return Ok(ready);
        }
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await;
        let tcp = tcp.map_err(|error| error.to_string())?;
        tcp.set_nodelay(true).ok();
        let name = ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let tls = TlsConnector::from(Arc::clone(&self.tls)).connect(name, tcp).await;
        let tls = tls.map_err(|error| error.to_string())?;
        let opened = h2::client::handshake(tls).await;
        let (send, connection) = opened.map_err(|error| error.to_string())?;
        tokio::task::spawn_local(async move {
            connection.await.ok(); // its requests say how it ended
        });
        let send = send.ready().await.map_err(|error| error.to_string())?;
        *self.send.borrow_mut() = Some(send.clone());
        Ok(send)
    }

    async fn ask(&self, ask: &Ask<'_>) -> Result<Answer, Lost> {
        let before = |error: &dyn std::fmt::Display| Lost::new(false, error);
        let after = |error: &dyn std::fmt::Display| Lost::new(true, error);
        let mut send = self.place().await.map_err(|error| before(&error))?;
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("https://{}{}", self.host, ask.path))
            .header("x-id", ask.id);
        if let Some(cookie) = ask.cookie {
            request = request.header("cookie", cookie);
        }
        let request = request.body(()).map_err(|error| before(&error))?;
        let (response, mut body) =
            send.send_request(request, ask.body.is_empty()).map_err(|error| before(&error))?;
        if !ask.body.is_empty() {
            // Whether it arrived is the answer's to say.
            body.send_data(Bytes::copy_from_slice(ask.body), true).ok();
        }
        let (parts, mut body) = response.await.map_err(|error| before(&error))?.into_parts();
        let mut bytes = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece.map_err(|error| after(&error))?;
            body.flow_control().release_capacity(piece.len()).map_err(|error| after(&error))?;
            bytes.extend_from_slice(&piece);
        }
        Ok(Answer {
            status: parts.status.as_u16(),
            cookie: value(&parts.headers, "set-cookie").map(pair),
            cause: value(&parts.headers, "proxy-status").map(str::to_owned),
            body: bytes,
        })
    }
}

fn value<'a>(fields: &'a HeaderMap, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(|value| value.to_str().ok())
}
