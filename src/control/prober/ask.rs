//! One probe: a connection, what is asked on it, and what is a good answer.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Fault, Target};
use crate::config::{Check, HttpCheck, ProbeMethod, Upstream};
use crate::http1::{HeadLimits, Method, Scan, receive_response};
use crate::proxy::{Cause, is_own};

/// What an answer's head may be; more generous than what clients get.
const LIMITS: HeadLimits = HeadLimits { target: 0, fields_size: 128 << 10, fields: 500 };
/// Read of a body, so that the application need not see its answer cut off (CLB).
const BODY: u64 = 8 << 10;
/// A server that takes connections only to close them (a dead one behind a port
/// forwarding) has this long for it.
const LINGERS: Duration = Duration::from_millis(100);

/// Sends the probe; gives the status of a good answer, if it has one.
pub(super) async fn ask(target: &Target) -> Result<Option<u16>, Fault> {
    let until = Instant::now() + target.probe.timeout;
    let tcp = connect(target, until).await?;
    match &target.probe.check {
        Check::Tcp => still_open(tcp, until).await.map(|()| None),
        Check::Tls => secure(target, tcp, until).await.map(|_| None),
        Check::Http(check) => {
            let asked = async {
                match &target.upstream {
                    Upstream::Http => http1(tcp, check, &target.host(check)).await,
                    Upstream::H2c => http2(tcp, check, &target.host(check)).await,
                    Upstream::Https(_) => {
                        let stream = secure(target, tcp, until).await?;
                        http1(stream, check, &target.host(check)).await
                    }
                }
            };
            let status = within(until, Cause::HeaderTimeout, asked).await??;
            if check.expects(status) {
                return Ok(Some(status));
            }
            let fault = Fault::new(Cause::Status(status), format!("it answered {status}"));
            Err(Fault { status: Some(status), ..fault })
        }
    }
}

impl Target {
    /// What is asked for by name.
    fn host(&self, check: &HttpCheck) -> String {
        let address = &self.backend.config.address;
        let port = self.probe.port.unwrap_or(address.port());
        check.host.clone().unwrap_or_else(|| address.with_port(port).to_string())
    }
}

impl Fault {
    fn new(cause: Cause, detail: impl Display) -> Fault {
        Fault { cause: cause.name(), detail: detail.to_string(), status: None, own: false }
    }
}

async fn within<T>(
    until: Instant,
    cause: Cause,
    work: impl Future<Output = T>,
) -> Result<T, Fault> {
    timeout_at(until, work).await.map_err(|_| Fault::new(cause, "the probe's timeout"))
}

/// As requests do it: of a name's addresses the next is tried when one cannot be
/// connected to, and each has its share of the time.
async fn connect(target: &Target, until: Instant) -> Result<TcpStream, Fault> {
    let addresses = target.backend.addresses();
    let mut last = Fault::new(Cause::Dns, "the name has no address");
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses.iter() {
        let port = target.probe.port.unwrap_or(address.port());
        let now = Instant::now();
        let share = now + until.saturating_duration_since(now) / left.max(1);
        left = left.saturating_sub(1);
        let connecting = TcpStream::connect(SocketAddr::new(address.ip(), port));
        match within(share, Cause::ConnectTimeout, connecting).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => last = refused(&error),
            Err(fault) => last = fault,
        }
    }
    Err(last)
}

fn refused(error: &io::Error) -> Fault {
    let cause = match error.kind() {
        io::ErrorKind::ConnectionRefused => Cause::ConnectRefused,
        io::ErrorKind::TimedOut => Cause::ConnectTimeout,
        _ => Cause::ConnectError,
    };
    Fault { own: is_own(error), ..Fault::new(cause, error) }
}

/// Good unless the other side ends the connection at once.
async fn still_open(mut tcp: TcpStream, until: Instant) -> Result<(), Fault> {
    let until = until.min(Instant::now() + LINGERS);
    let closed = |detail: &dyn Display| Err(Fault::new(Cause::ClosedBeforeHeader, detail));
    match timeout_at(until, tcp.read(&mut [0; 1])).await {
        Ok(Ok(0)) => closed(&"it closed the connection at once"),
        Ok(Err(error)) => closed(&error),
        // It greets, or it waits.
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

async fn secure(
    target: &Target,
    tcp: TcpStream,
    until: Instant,
) -> Result<TlsStream<TcpStream>, Fault> {
    let failed = |error: &dyn Display| Fault::new(Cause::TlsHandshake, error);
    let (Upstream::Https(tls), Some(config)) = (&target.upstream, &target.tls) else {
        return Err(failed(&"the group has no TLS"));
    };
    let name = tls.server_name.clone().or_else(|| target.backend.config.address.server_name());
    let name = name.ok_or_else(|| failed(&"no server name"))?;
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, tcp);
    within(until, Cause::TlsHandshake, handshake).await?.map_err(|error| failed(&error))
}

/// The status of the first answer that is final.
async fn http1(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    check: &HttpCheck,
    host: &str,
) -> Result<u16, Fault> {
    let broken = |error: io::Error| Fault::new(Cause::ClosedBeforeHeader, error);
    let (method, name) = match check.method {
        ProbeMethod::Head => (Method::Head, "HEAD"),
        ProbeMethod::Get => (Method::Get, "GET"),
    };
    let request = format!(
        "{name} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: lockgate\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        check.path
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut bytes = Vec::new();
    let mut scan = Scan::response();
    let mut fields = Vec::new();
    loop {
        let invalid = |error| Fault::new(Cause::InvalidHeader, error);
        while let Some(head) =
            receive_response(&mut scan, &bytes, &LIMITS, method, &mut fields).map_err(invalid)?
        {
            if head.status >= 200 {
                read_body(&mut stream, method).await;
                return Ok(head.status);
            }
            bytes.drain(..head.len as usize);
            scan = Scan::response();
        }
        if stream.read_buf(&mut bytes).await.map_err(broken)? == 0 {
            return Err(Fault::new(Cause::ClosedBeforeHeader, "it closed the connection"));
        }
    }
}

/// What is left of a small answer, as far as it comes at once.
async fn read_body(stream: &mut (impl AsyncRead + Unpin), method: Method) {
    if method == Method::Get {
        let mut rest = tokio::io::sink();
        let mut body = stream.take(BODY);
        let body = tokio::io::copy(&mut body, &mut rest);
        // The verdict is there; what becomes of the rest says nothing.
        let _ = tokio::time::timeout(LINGERS, body).await;
    }
}

/// The same over HTTP/2, which the group's backends are known to speak.
async fn http2(tcp: TcpStream, check: &HttpCheck, host: &str) -> Result<u16, Fault> {
    let broken = |error: h2::Error| Fault::new(Cause::ClosedBeforeHeader, error);
    let method = match check.method {
        ProbeMethod::Head => http::Method::HEAD,
        ProbeMethod::Get => http::Method::GET,
    };
    let request = http::Request::builder()
        .method(method)
        .version(http::Version::HTTP_2)
        .uri(format!("http://{host}{}", check.path))
        .header("user-agent", "lockgate")
        .header("accept", "*/*")
        .body(())
        .map_err(|error| Fault::new(Cause::InvalidHeader, error))?;
    let (sender, connection) = h2::client::handshake(tcp).await.map_err(broken)?;
    let answer = async {
        let (response, _) = sender.ready().await?.send_request(request, true)?;
        Ok(response.await?.status().as_u16())
    };
    let driven = async {
        match connection.await {
            // Whether the answer came before is said above.
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    };
    tokio::select! {
        biased;
        status = answer => status.map_err(broken),
        error = driven => Err(broken(error)),
    }
}
