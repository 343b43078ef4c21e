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
    /// Which direction goes first this time.
    up_first: bool,
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
            up_first: false,
            timeout,
        }
    }

    /// Moves bytes until the end. After an error the backend's connection is
    /// cut and the client's is to be; `TimedOut` is the silence that ends a
    /// tunnel in good order.
    pub(super) async fn run(&mut self, client: &mut impl Downstream) -> io::Result<()> {
        let mut last = Instant::now();
        let ended = poll_fn(|task| self.poll(task, client, &mut last)).await;
        if ended.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::TimedOut) {
            self.upstream.reset();
        }
        ended
    }

    /// Client to backend. The client's end is passed on; the backend may go on
    /// speaking.
    fn poll_up(&mut self, task: &mut Context<'_>, client: &mut impl Downstream) -> io::Result<()> {
        if self.up.finished || self.up.poll(task, client, &mut self.upstream)?.is_ready() {
            self.up_ended = self.up_ended || self.upstream.poll_shutdown(task)?.is_ready();
        }
        Ok(())
    }

    /// Backend to client, likewise.
    fn poll_down(
        &mut self,
        task: &mut Context<'_>,
        client: &mut impl Downstream,
    ) -> io::Result<()> {
        if self.down.finished || self.down.poll(task, &mut self.upstream, client)?.is_ready() {
            self.down_ended = self.down_ended || client.poll_end(task)?.is_ready();
        }
        Ok(())
    }

    fn poll(
        &mut self,
        task: &mut Context<'_>,
        client: &mut impl Downstream,
        last: &mut Instant,
    ) -> Poll<io::Result<()>> {
        client.watch(task, false)?;
        // In turn: a flood one way may use up all that a task may do at once.
        self.up_first = !self.up_first;
        if self.up_first {
            self.poll_up(task, client)?;
            self.poll_down(task, client)?;
        } else {
            self.poll_down(task, client)?;
            self.poll_up(task, client)?;
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
