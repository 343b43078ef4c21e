//! Opens a connection to a backend: an address, TCP, then TLS where the group
//! wants it, all within `connect_timeout`.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_rustls::{TlsConnector, TlsStream};

use super::client::Downstream;
use super::conn::{Conn, Stream};
use super::error::{Cause, Failure, Phase};
use super::pick::Picked;
use super::tcp::Tcp;
use crate::config::Upstream;

/// Connects to the picked backend. Of a name's addresses the next is tried
/// when one can't be connected to.
pub(super) async fn connect(
    picked: &Picked<'_>,
    client: &mut impl Downstream,
    start: Instant,
) -> Result<Conn, Failure> {
    let until = start + picked.group.config.connect_timeout;
    let addresses = picked.backend.addresses();
    let mut last = no_address();
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses.iter() {
        // An address that does not answer leaves the others their share.
        let now = Instant::now();
        let share = now + until.saturating_duration_since(now) / left.max(1);
        left = left.saturating_sub(1);
        match open(*address, client, share).await {
            Ok(tcp) => return secure(picked, tcp, client, until).await,
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

/// What an attempt at a backend fails of whose name does not resolve.
pub(super) fn no_address() -> Failure {
    Failure::because(Cause::Dns, Phase::Connect, "the name has no address")
}

async fn open(
    address: SocketAddr,
    client: &mut impl Downstream,
    until: Instant,
) -> Result<TcpStream, Failure> {
    let failed = |error: io::Error| {
        let cause = match error.kind() {
            io::ErrorKind::ConnectionRefused => Cause::ConnectRefused,
            io::ErrorKind::TimedOut => Cause::ConnectTimeout,
            _ => Cause::ConnectError,
        };
        let own = is_own(&error);
        Failure { own, ..Failure::because(cause, Phase::Connect, error) }
    };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let connecting = socket.map_err(failed)?.connect(address);
    let tcp = within(connecting, client, until, Cause::ConnectTimeout).await?.map_err(failed)?;
    // It only costs latency where it fails.
    let _ = tcp.set_nodelay(true);
    Ok(tcp)
}

async fn secure(
    picked: &Picked<'_>,
    tcp: TcpStream,
    client: &mut impl Downstream,
    until: Instant,
) -> Result<Conn, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::because(Cause::TlsHandshake, Phase::Connect, error)
    };
    let (Upstream::Https(tls), Some(config)) = (&picked.group.config.protocol, &picked.group.tls)
    else {
        return Ok(Conn::new(Stream::Plain(Tcp::new(tcp))));
    };
    let name: Option<ServerName<'static>> =
        tls.server_name.clone().or_else(|| picked.backend.config.address.server_name());
    let name = name.ok_or_else(|| failed(&"no server name"))?;
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, Tcp::new(tcp));
    let stream = within(handshake, client, until, Cause::TlsHandshake)
        .await?
        .map_err(|error| failed(&error))?;
    Ok(Conn::new(Stream::Tls(Box::new(TlsStream::from(stream)))))
}

/// What the machine lacks is no backend's fault: descriptors, memory, local ports.
pub(crate) fn is_own(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| lacks.iter().any(|lack| lack.raw_os_error() == code))
}

/// Waits for `work` until `until`.
async fn within<T>(
    work: impl Future<Output = T>,
    client: &mut impl Downstream,
    until: Instant,
    cause: Cause,
) -> Result<T, Failure> {
    let mut work = std::pin::pin!(work);
    poll_fn(|task| match work.as_mut().poll(task) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => client
            .poll_deadline(task, Instant::now(), until)
            .map(|()| Err(Failure::because(cause, Phase::Connect, "connect_timeout"))),
    })
    .await
}
