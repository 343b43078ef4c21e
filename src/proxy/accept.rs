//! Takes connections from a listening socket and starts a task for each.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tracing::warn;

use super::buffer::Buffer;
use super::conn::{Conn, Stream};
use super::connection;
use super::error::{Cause, Failure, Phase};
use super::http2;
use super::message::{Cx, Peer};
use super::proxy_protocol;
use super::record;
use super::registry::Seat;
use super::respond;
use super::tcp::Tcp;
use super::tls;
use super::worker::Worker;
use crate::config::Protocol;
use crate::http1::{Method, Version};
use crate::telemetry::line::RequestId;

/// How long accepting rests when the system has no descriptor or memory left:
/// long enough not to spin, short enough that the next free one is used at once.
const REST: Duration = Duration::from_millis(20);

/// Accepts for as long as it is polled; nothing ends it but being dropped.
pub(super) async fn accept(worker: Rc<Worker>, listener: &TcpListener, port: u16) {
    loop {
        match listener.accept().await {
            Ok((tcp, address)) => start(&worker, tcp, address, port),
            Err(error) if is_one_connections(&error) => {}
            Err(error) => {
                if worker.failures.may_write() {
                    warn!(port, %error, "cannot accept connections for now");
                }
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Takes what waits in the socket's queue, which closing it would reset. The
/// kernel is asked directly: the event loop may not have heard of it yet.
pub(super) fn accept_queued(worker: &Rc<Worker>, listener: TcpListener, port: u16) {
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((tcp, address)) = listener.accept() {
        if tcp.set_nonblocking(true).is_ok()
            && let Ok(tcp) = TcpStream::from_std(tcp)
        {
            start(worker, tcp, address, port);
        }
    }
}

/// The connection that was to be accepted is gone; the next may be fine.
fn is_one_connections(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn start(worker: &Rc<Worker>, tcp: TcpStream, address: SocketAddr, port: u16) {
    let view = worker.view();
    let Some(protocol) = view.snapshot.port(port).map(|port| port.protocol) else { return };
    let doors = &worker.shared.doors;
    let Some(seat) = worker.admit() else {
        doors.refused.fetch_add(1, Ordering::Relaxed);
        let peer = Peer::new(address, port, usize::MAX);
        turn_away(Cx { worker, view: &view, peer: &peer }, &tcp, protocol);
        return;
    };
    doors.accepted.fetch_add(1, Ordering::Relaxed);
    // It only costs latency where it fails.
    let _ = tcp.set_nodelay(true);
    let peer = Peer::new(address, port, seat.place());
    spawn_local(connection(seat, tcp, peer, protocol));
}

/// There is no room for it: a client of a plain port is told so, one that would
/// have to shake hands first is not.
fn turn_away(cx: Cx<'_>, tcp: &TcpStream, protocol: Protocol) {
    let failure = Failure::because(Cause::Limit, Phase::Request, "limits.connections");
    let id = RequestId::Made(cx.worker.request_id());
    respond::log(cx, None, None, &failure, id);
    let answer = respond::error(&failure, id, false);
    let mut outcome = answer.outcome(Method::Get);
    let mut out = Buffer::small();
    respond::write(&mut out, cx, &answer, Method::Get, Version::Http11, false);
    // If it does not take it at once it gets nothing.
    if protocol == Protocol::Https || tcp.try_write(out.filled()).is_err() {
        outcome.sent = 0;
    }
    record::refused(cx, id, &failure, outcome, b"");
}

/// Whom a peer with PROXY headers speaks for.
async fn named_client(
    worker: &Worker,
    tcp: &mut TcpStream,
    peer: &Peer,
) -> io::Result<Option<SocketAddr>> {
    let within = worker.view().snapshot.process.limits.header_timeout;
    let client = tokio::time::timeout(within, proxy_protocol::read(tcp)).await??;
    Ok(client.filter(|client| *client != peer.address))
}

async fn connection(seat: Seat, mut tcp: TcpStream, mut peer: Peer, protocol: Protocol) {
    let spoken_for = {
        let view = seat.worker.view();
        let peers = &view.snapshot.process.proxy_protocol;
        !peers.is_empty() && peers.contains(peer.address.ip())
    };
    if spoken_for {
        // Boxed for its buffer; see the handshake.
        match Box::pin(named_client(&seat.worker, &mut tcp, &peer)).await {
            Ok(None) => {}
            Ok(Some(client)) => peer = Peer::new(client, peer.port, peer.place),
            Err(error) => {
                seat.worker.shared.doors.proxy.fetch_add(1, Ordering::Relaxed);
                if seat.worker.refusals.may_write() {
                    warn!(client = %peer.address.ip(), port = peer.port, %error, "PROXY header");
                }
                return;
            }
        }
    }
    let stream = match protocol {
        Protocol::Http => Stream::Plain(Tcp::new(tcp)),
        // Boxed: a handshake needs far more room than a connection that waits.
        Protocol::Https => match Box::pin(tls::handshake(&seat.worker, tcp, &mut peer)).await {
            Some(stream) => stream,
            None => return,
        },
    };
    if stream.speaks_http2() {
        // Boxed as well: it holds all its requests.
        Box::pin(http2::serve(&seat, Conn::new(stream), &peer)).await;
    } else {
        connection::serve(&seat, Conn::new(stream), &peer).await;
    }
}
