//! A connection that switched protocols (WebSocket): bytes go both ways,
//! untouched, until both sides have ended or neither says anything for
//! `tunnel_timeout`. While it is silent it holds no buffer.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::body::{Framing, Pump, PumpError};
use super::buffer::Buffer;
use super::client::Downstream;
use super::pick::Held;
use super::upstream::Upstream;
use crate::http1::{BodyDecoder, HeadLimits};

/// The backend's end of a tunnel.
#[derive(Debug)]
pub(super) struct Tunnel {
    upstream: Upstream,
    /// The tunnel counts as a request in flight for as long as it lives.
    _place: Held,
    /// Client to backend.
    up: Pump,
    /// Backend to client; begins with the head of the 101.
    down: Pump,
    /// The end of each direction was passed on.
    up_ended: bool,
    down_ended: bool,
    timeout: Duration,
}

impl Tunnel {
    pub(super) fn new(
        upstream: Upstream,
        place: Held,
        head: Buffer,
        timeout: Duration,
        limits: HeadLimits,
    ) -> Tunnel {
        let pump = |out| Pump::new(BodyDecoder::until_close(), Framing::Plain, None, limits, out);
        Tunnel {
            upstream,
            _place: place,
            up: pump(Buffer::none()),
            down: pump(head),
            up_ended: false,
            down_ended: false,
            timeout,
        }
    }

    /// Moves bytes until the end. After an error both connections are to be
    /// cut; `TimedOut` is the silence that ends a tunnel in good order.
    pub(super) async fn run(&mut self, client: &mut impl Downstream) -> io::Result<()> {
        let mut last = Instant::now();
        poll_fn(|task| self.poll(task, client, &mut last)).await
    }

    fn poll(
        &mut self,
        task: &mut Context<'_>,
        client: &mut impl Downstream,
        last: &mut Instant,
    ) -> Poll<io::Result<()>> {
        // One side's end is passed on; the other may go on speaking.
        if self.up.finished || self.up.poll(task, client, &mut self.upstream)?.is_ready() {
            self.up_ended = self.up_ended || self.upstream.poll_shutdown(task)?.is_ready();
        }
        if self.down.finished || self.down.poll(task, &mut self.upstream, client)?.is_ready() {
            self.down_ended = self.down_ended || client.poll_end(task)?.is_ready();
        }
        if self.up_ended && self.down_ended {
            return Poll::Ready(Ok(()));
        }
        let now = Instant::now();
        if std::mem::take(&mut self.up.moved) | std::mem::take(&mut self.down.moved) {
            *last = now;
        }
        client
            .poll_deadline(task, now, *last + self.timeout)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl From<PumpError> for io::Error {
    fn from(error: PumpError) -> io::Error {
        match error {
            PumpError::Source(error) | PumpError::Sink(error) => error,
            PumpError::Truncated => io::ErrorKind::UnexpectedEof.into(),
            PumpError::Malformed(_) | PumpError::TooLarge => io::ErrorKind::InvalidData.into(),
        }
    }
}
