//! The backend's end of an attempt: a connection of its own (HTTP/1), or one
//! exchange on a connection that others share (HTTP/2).

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::body::{Sink, Source};
use super::buffer::Buffer;
use super::client::Downstream;
use super::conn::Conn;
use super::connect::connect;
use super::error::{Cause, Failure, Phase};
use super::http2::upstream::Exchange;
use super::message::{Cx, Request};
use super::pick::Picked;
use super::tcp::Tcp;
use crate::config;

/// See the module.
#[derive(Debug)]
pub(super) enum Upstream {
    Http1(Conn),
    Http2(Box<Exchange>),
}

impl Upstream {
    /// Nothing more is sent; the backend may go on.
    pub(super) fn poll_shutdown(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Upstream::Http1(conn) => conn.poll_shutdown(task),
            Upstream::Http2(exchange) => exchange.poll_finish(task, None),
        }
    }

    /// The backend said that it did not look at the request.
    pub(super) fn was_refused(&self) -> bool {
        match self {
            Upstream::Http1(_) => false,
            Upstream::Http2(exchange) => exchange.refused,
        }
    }

    /// What ended was the connection, and not this one exchange on it.
    pub(super) fn was_lost(&self) -> bool {
        match self {
            Upstream::Http1(_) => true,
            Upstream::Http2(exchange) => exchange.lost,
        }
    }

    /// Is cut when dropped.
    pub(super) fn reset(&mut self) {
        if let Upstream::Http1(conn) = self {
            conn.reset();
        }
    }

    /// The connection, if it is this attempt's own and nothing is left on it.
    pub(super) fn into_clean_conn(self) -> Option<Conn> {
        match self {
            Upstream::Http1(conn) if conn.input().is_empty() && !conn.eof => Some(conn),
            _ => None,
        }
    }
}

/// A way to a backend.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) upstream: Upstream,
    /// What of the head is still to be sent.
    pub(super) out: Buffer,
    /// It was there before: its backend may just have closed it.
    pub(super) reused: bool,
}

impl Opened {
    fn exchange(exchange: Exchange, reused: bool) -> Opened {
        let upstream = Upstream::Http2(Box::new(exchange));
        Opened { upstream, out: Buffer::none(), reused }
    }
}

/// A request that must not be sent twice is given no connection that was idle for
/// longer: the older it is the more likely its backend is about to close it.
const FRESH: Duration = Duration::from_secs(1);

/// Takes or opens a way to the backend; opens one if it has to be `fresh`.
pub(super) async fn open(
    cx: Cx<'_>,
    request: &Request,
    picked: &Picked<'_>,
    client: &mut impl Downstream,
    head: Buffer,
    start: Instant,
    fresh: bool,
) -> Result<Opened, Failure> {
    let backend = picked.backend.id();
    if !matches!(picked.group.config.protocol, config::Upstream::H2c) {
        let age = match request.head.method.is_idempotent() {
            true => Duration::MAX,
            false => FRESH,
        };
        let kept = if fresh { None } else { cx.worker.pool.take(backend, age, start) };
        let reused = kept.is_some();
        let conn = match kept {
            Some(conn) => conn,
            // Boxed, here and below: a request that finds a connection needs no
            // room for a handshake.
            None => Box::pin(connect(picked, client, start)).await?,
        };
        return Ok(Opened { upstream: Upstream::Http1(conn), out: head, reused });
    }
    let failed = |error: io::Error| {
        // What HTTP/2 has no words for is no backend's fault.
        let own = error.kind() == io::ErrorKind::InvalidData;
        Failure { own, ..Failure::because(Cause::ConnectError, Phase::Connect, error) }
    };
    let shared = &cx.worker.shared_upstream;
    // One that says no has not been sent anything: the next, or a new one.
    while !fresh && let Some(connection) = shared.find(backend) {
        match Exchange::begin(connection, head.filled(), request) {
            Ok(exchange) => return Ok(Opened::exchange(exchange, true)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(failed(error)),
            Err(_) => {}
        }
    }
    let conn = Box::pin(connect(picked, client, start)).await?;
    let header_size = cx.view.snapshot.process.limits.header_size;
    let begin =
        Box::pin(shared.begin(backend, conn, picked.group.config.idle_timeout, header_size));
    let silent = |_| Failure::new(Cause::ConnectTimeout, Phase::Connect);
    let begun = timeout_at(start + picked.group.config.connect_timeout, begin).await;
    let begun = begun.map_err(silent)?.map_err(failed)?;
    let exchange = Exchange::begin(begun, head.filled(), request).map_err(failed)?;
    Ok(Opened::exchange(exchange, false))
}

impl Source for Upstream {
    #[inline]
    fn input(&self) -> &[u8] {
        match self {
            Upstream::Http1(conn) => conn.input(),
            Upstream::Http2(exchange) => exchange.input(),
        }
    }

    #[inline]
    fn consume(&mut self, n: usize) {
        match self {
            Upstream::Http1(conn) => conn.consume(n),
            Upstream::Http2(exchange) => exchange.consume(n),
        }
    }

    #[inline]
    fn poll_fill(&mut self, task: &mut Context<'_>, much: bool) -> Poll<io::Result<usize>> {
        match self {
            Upstream::Http1(conn) => conn.poll_fill(task, much),
            Upstream::Http2(exchange) => exchange.poll_fill(task, much),
        }
    }

    fn is_ended(&self) -> bool {
        match self {
            Upstream::Http1(conn) => conn.is_ended(),
            Upstream::Http2(exchange) => exchange.is_ended(),
        }
    }

    fn plain(&self) -> Option<&Tcp> {
        match self {
            Upstream::Http1(conn) => Source::plain(conn),
            Upstream::Http2(_) => None,
        }
    }

    fn marks_end(&self) -> bool {
        match self {
            Upstream::Http1(_) => false,
            Upstream::Http2(exchange) => exchange.marks_end(),
        }
    }

    fn take_trailers(&mut self) -> Option<Vec<u8>> {
        match self {
            Upstream::Http1(_) => None,
            Upstream::Http2(exchange) => exchange.take_trailers(),
        }
    }
}

impl Sink for Upstream {
    #[inline]
    fn poll_write(
        &mut self,
        task: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
        last: bool,
    ) -> Poll<io::Result<usize>> {
        match self {
            Upstream::Http1(conn) => conn.poll_write(task, first, second, last),
            Upstream::Http2(exchange) => exchange.poll_write(task, first, second, last),
        }
    }

    fn plain(&self) -> Option<&Tcp> {
        match self {
            Upstream::Http1(conn) => Sink::plain(conn),
            Upstream::Http2(_) => None,
        }
    }

    fn poll_flush(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Upstream::Http1(conn) => conn.poll_flush(task),
            Upstream::Http2(exchange) => exchange.poll_flush(task),
        }
    }

    fn poll_finish(
        &mut self,
        task: &mut Context<'_>,
        trailers: Option<&[u8]>,
    ) -> Poll<io::Result<()>> {
        match self {
            Upstream::Http1(conn) => conn.poll_finish(task, trailers),
            Upstream::Http2(exchange) => exchange.poll_finish(task, trailers),
        }
    }
}
