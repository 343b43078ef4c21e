//! A connection that switched protocols (WebSocket): bytes go both ways,
//! untouched, until both sides have ended or neither says anything for
//! `tunnel_timeout`. While it is silent it holds no buffer.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::body::{Sink, Source};
use super::buffer::{Buffer, SMALL};
use super::client::Downstream;
use super::pick::Held;
use super::upstream::Upstream;

/// Into so many parts the silence that ends a tunnel is divided: see
/// [`Silence`].
const PARTS: u32 = 8;

/// The backend's end of a tunnel.
#[derive(Debug)]
pub(super) struct Tunnel {
    upstream: Upstream,
    /// The tunnel counts as a request in flight for as long as it lives.
    _place: Held,
    /// Client to backend.
    up: Way,
    /// Backend to client; begins with the head of the 101.
    down: Way,
    /// Which direction goes first this time.
    up_first: bool,
    timeout: Duration,
}

impl Tunnel {
    pub(super) fn new(upstream: Upstream, place: Held, head: Buffer, timeout: Duration) -> Tunnel {
        Tunnel {
            upstream,
            _place: place,
            up: Way::new(Buffer::none()),
            down: Way::new(head),
            up_first: false,
            timeout,
        }
    }

    /// Moves bytes until the end. After an error the backend's connection is
    /// cut and the client's is to be; `TimedOut` is the silence that ends a
    /// tunnel in good order.
    pub(super) async fn run(&mut self, client: &mut impl Downstream) -> io::Result<()> {
        let mut silence = Silence::new(self.timeout);
        let ended = poll_fn(|task| self.poll(task, client, &mut silence)).await;
        if ended.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::TimedOut) {
            self.upstream.reset();
        }
        ended
    }

    /// Client to backend. The client's end is passed on; the backend may go on
    /// speaking.
    fn poll_up(&mut self, task: &mut Context<'_>, client: &mut impl Downstream) -> io::Result<()> {
        if self.up.poll(task, client, &mut self.upstream)?.is_ready() {
            self.up.passed_on = self.up.passed_on || self.upstream.poll_shutdown(task)?.is_ready();
        }
        Ok(())
    }

    /// Backend to client, likewise.
    fn poll_down(
        &mut self,
        task: &mut Context<'_>,
        client: &mut impl Downstream,
    ) -> io::Result<()> {
        if self.down.poll(task, &mut self.upstream, client)?.is_ready() {
            self.down.passed_on = self.down.passed_on || client.poll_end(task)?.is_ready();
        }
        Ok(())
    }

    fn poll(
        &mut self,
        task: &mut Context<'_>,
        client: &mut impl Downstream,
        silence: &mut Silence,
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
        if self.up.passed_on && self.down.passed_on {
            return Poll::Ready(Ok(()));
        }
        let moved = std::mem::take(&mut self.up.moved) | std::mem::take(&mut self.down.moved);
        silence.poll(task, client, moved).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// One direction.
#[derive(Debug)]
struct Way {
    /// What goes before everything else.
    head: Buffer,
    /// The last read filled its buffer: the next gets a large one.
    much: bool,
    /// The source ended, and all it said is with the sink.
    ended: bool,
    /// The sink was told.
    passed_on: bool,
    /// Something moved since this was last cleared.
    moved: bool,
}

impl Way {
    fn new(head: Buffer) -> Way {
        Way { head, much: false, ended: false, passed_on: false, moved: false }
    }

    /// Moves what can be moved; ready once nothing more comes. A [`Pump`] could
    /// do it, but asks at each step what only a body needs to know.
    ///
    /// [`Pump`]: super::body::Pump
    fn poll(
        &mut self,
        task: &mut Context<'_>,
        source: &mut impl Source,
        sink: &mut impl Sink,
    ) -> Poll<io::Result<()>> {
        while !self.ended {
            let input = source.input();
            if !self.head.is_empty() || !input.is_empty() {
                let n = ready!(sink.poll_write(task, self.head.filled(), input, false))?;
                let of_head = n.min(self.head.len());
                self.head.consume(of_head);
                source.consume(n - of_head);
                self.moved = true;
                continue;
            }
            // Whoever waits holds no buffer.
            if self.head.has_room() {
                self.head = Buffer::none();
            }
            ready!(sink.poll_flush(task))?;
            if source.is_ended() {
                self.ended = true;
                break;
            }
            let n = ready!(source.poll_fill(task, self.much))?;
            self.much = n >= SMALL;
            self.moved = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// How long nobody has said anything.
///
/// A look at the clock for each message costs as much as moving it does, so
/// there is one only each time a part of the timeout has passed: what moved in
/// between counts as if it had moved at the end of that part. A tunnel is never
/// cut early for it, and late by one part at most.
#[derive(Debug)]
struct Silence {
    timeout: Duration,
    since: Instant,
    moved: bool,
    /// The client's timer was set by this, and not by what came before.
    armed: bool,
}

impl Silence {
    fn new(timeout: Duration) -> Silence {
        Silence { timeout, since: Instant::now(), moved: false, armed: false }
    }

    /// Ready when it lasted too long.
    fn poll(
        &mut self,
        task: &mut Context<'_>,
        client: &mut impl Downstream,
        moved: bool,
    ) -> Poll<()> {
        self.moved |= moved;
        if self.armed && client.deadline_is_set() {
            return Poll::Pending;
        }
        let now = Instant::now();
        let Some(at) = self.look(now) else { return Poll::Ready(()) };
        self.armed = true;
        // Not ready: `at` is still to come.
        client.poll_deadline(task, now, at)
    }

    /// Looks at the clock: when to look again, if it did not last too long.
    fn look(&mut self, now: Instant) -> Option<Instant> {
        if std::mem::take(&mut self.moved) {
            self.since = now;
        }
        let end = self.since + self.timeout;
        (now < end).then(|| end.min(now + self.timeout / PARTS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages at instants that have nothing to do with the looks: the last one
    /// is followed by the whole timeout, and by no more than a part besides.
    #[test]
    fn silence_is_never_cut_early_and_late_by_a_part_at_most() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        for last_word in [0, 1, 99, 100, 101, 750, 800, 1234, 4000] {
            let mut silence = Silence {
                timeout: Duration::from_millis(800),
                since: start,
                moved: false,
                armed: false,
            };
            let mut words = (0..=last_word).step_by(7).chain([last_word]).map(after).peekable();
            let mut now = start;
            let cut = loop {
                while words.next_if(|word| *word <= now).is_some() {
                    silence.moved = true;
                }
                match silence.look(now) {
                    Some(next) => now = next,
                    None => break now,
                }
            };
            let earliest = after(last_word + 800);
            let latest = earliest + Duration::from_millis(100);
            assert!(earliest <= cut && cut <= latest, "{last_word}: {:?}", cut - start);
        }
    }
}
