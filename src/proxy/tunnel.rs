//! A connection that switched protocols (WebSocket): bytes go both ways,
//! untouched, until both sides have ended or neither says anything for
//! `tunnel_timeout`. While it is silent it holds no buffer. One that a deadline
//! ends is told so as a WebSocket is: see [`Tunnel::begin_farewell`].

mod frames;
mod last_call;
mod told;
mod way;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use self::frames::{AWAY, Frames, RESTART, close};
pub(super) use self::last_call::LastCall;
use self::told::Ending;
pub(super) use self::told::Told;
use self::way::Way;
use super::buffer::Buffer;
use super::client::Downstream;
use super::pick::Held;
use super::upstream::Upstream;
use super::worker::Worker;

/// Into so many parts the silence that ends a tunnel is divided: see
/// [`Silence`].
const PARTS: u32 = 8;

/// What a Close of ours says besides its code.
const REASON: &str = "service restart";

/// The backend's end of a tunnel.
#[derive(Debug)]
pub(super) struct Tunnel {
    upstream: Upstream,
    /// The tunnel counts as a request in flight for as long as it lives.
    place: Held,
    /// Client to backend.
    up: Way,
    /// Backend to client; begins with the head of the 101.
    down: Way,
    /// What of both ways is in the counters.
    counted: (u64, u64),
    /// Which direction goes first this time.
    up_first: bool,
    timeout: Duration,
    /// Of the worker's last calls, how many it has heard.
    calls: u32,
    /// Its last call came: until then it has time.
    until: Option<Instant>,
    /// What is told of its end.
    told: Option<Box<Told>>,
    ending: Ending,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if let Some(told) = &self.told {
            let backend = self.place.backend();
            told.closed(backend, self.up.bytes, self.down.bytes, self.ending);
        }
    }
}

impl Tunnel {
    pub(super) fn new(
        upstream: Upstream,
        place: Held,
        head: Buffer,
        timeout: Duration,
        told: Option<Box<Told>>,
    ) -> Tunnel {
        Tunnel {
            upstream,
            place,
            up: Way::new(Buffer::none(), Frames::of_client()),
            down: Way::new(head, Frames::of_backend()),
            counted: (0, 0),
            up_first: false,
            timeout,
            calls: 0,
            until: None,
            told,
            ending: Ending::Cut,
        }
    }

    /// Moves bytes until the end. After an error the backend's connection is
    /// cut and the client's is to be; `TimedOut` is the silence that ends a
    /// tunnel in good order.
    pub(super) async fn run(
        &mut self,
        worker: &Worker,
        client: &mut impl Downstream,
    ) -> io::Result<()> {
        let stay = worker.begin_tunnel(Arc::clone(self.place.game()));
        poll_fn(|task| {
            stay.register(task.waker());
            Poll::Ready(())
        })
        .await;
        let mut silence = Silence::new(self.timeout);
        let ended = poll_fn(|task| {
            let polled = self.poll(task, worker, client, &mut silence);
            self.count(worker);
            polled
        })
        .await;
        match &ended {
            Ok(()) if self.until.is_some() => self.ending = Ending::Stopping,
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => self.ending = Ending::Silence,
            Err(_) => {
                self.ending = Ending::Reset;
                self.upstream.reset();
            }
        }
        ended
    }

    /// Has the counters know what moved.
    fn count(&mut self, worker: &Worker) {
        let (up, down) = (self.up.bytes, self.down.bytes);
        if self.counted != (up, down) {
            let (sent, received) = (up - self.counted.0, down - self.counted.1);
            self.place.count(worker.lane, sent, received);
            self.counted = (up, down);
        }
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

    /// The client has ended, or said Close: nothing more comes of it.
    pub(super) fn is_client_done(&self) -> bool {
        self.up.is_heard()
    }

    fn poll(
        &mut self,
        task: &mut Context<'_>,
        worker: &Worker,
        client: &mut impl Downstream,
        silence: &mut Silence,
    ) -> Poll<io::Result<()>> {
        client.watch(task, false)?;
        if let Some(until) = self.until {
            return self.poll_farewell(task, client, until).map(Ok);
        }
        // In turn: a flood one way may use up all that a task may do at once.
        self.up_first = !self.up_first;
        if self.up_first {
            self.poll_up(task, client)?;
            self.poll_down(task, client)?;
        } else {
            self.poll_down(task, client)?;
            self.poll_up(task, client)?;
        }
        if self.ending == Ending::Cut {
            self.ending = Ending::first(self.up.is_heard(), self.down.is_heard());
        }
        if self.up.passed_on && self.down.passed_on {
            return Poll::Ready(Ok(()));
        }
        if self.calls != worker.last_calls() {
            self.calls = worker.last_calls();
            silence.call(worker.last_call().map(|call| call.moment(worker.chance())));
        }
        let moved = std::mem::take(&mut self.up.moved) | std::mem::take(&mut self.down.moved);
        match ready!(silence.poll(task, client, moved)) {
            Due::Silence => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Due::LastCall => {
                let until = self.begin_farewell(worker);
                self.poll_farewell(task, client, until).map(Ok)
            }
        }
    }

    /// The process is about to end. Both sides are told by a Close where one can
    /// stand, which is between two frames, and answer it; the end of their
    /// connections comes then, or soon. Where frames are not known to begin and
    /// end there is the end alone, as there always was.
    fn begin_farewell(&mut self, worker: &Worker) -> Instant {
        // Who has said goodbye before loses nothing.
        if !self.down.is_heard() {
            worker.note_cut();
        }
        self.down.part(close(RESTART, REASON, None));
        self.up.part(close(AWAY, REASON, Some(mask(worker))));
        let now = Instant::now();
        let until = worker.last_call().map_or(now, |call| call.until(now));
        self.until = Some(until);
        until
    }

    fn poll_farewell(
        &mut self,
        task: &mut Context<'_>,
        client: &mut impl Downstream,
        until: Instant,
    ) -> Poll<()> {
        let Tunnel { up, down, upstream, .. } = self;
        down.poll_last(task, upstream, client);
        up.poll_last(task, client, upstream);
        // Who can't be told is gone.
        if !down.passed_on && down.may_end(up) {
            down.passed_on = client.poll_end(task).is_ready();
        }
        if !up.passed_on && up.may_end(down) {
            up.passed_on = upstream.poll_shutdown(task).is_ready();
        }
        if down.passed_on && up.passed_on && down.is_heard() && up.is_heard() {
            return Poll::Ready(());
        }
        ready!(client.poll_deadline(task, Instant::now(), until));
        if !down.passed_on {
            let _ = client.poll_end(task);
        }
        if !up.passed_on {
            let _ = upstream.poll_shutdown(task);
        }
        Poll::Ready(())
    }
}

/// A mask for one frame. RFC 6455 10.3 wants one that nobody can foresee.
fn mask(worker: &Worker) -> [u8; 4] {
    let mut mask = [0; 4];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    if random.fill(&mut mask).is_err() {
        let [a, b, c, d, ..] = worker.chance().to_le_bytes();
        mask = [a, b, c, d];
    }
    mask
}

/// What a tunnel's timer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Silence,
    LastCall,
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
    /// When the tunnel has to end all the same.
    call: Option<Instant>,
}

impl Silence {
    fn new(timeout: Duration) -> Silence {
        Silence { timeout, since: Instant::now(), moved: false, armed: false, call: None }
    }

    /// The tunnel ends at that moment, or not for such a reason.
    fn call(&mut self, moment: Option<Instant>) {
        self.call = moment;
        self.armed = false;
    }

    /// Ready when it lasted too long, or the last call's moment has come.
    fn poll(
        &mut self,
        task: &mut Context<'_>,
        client: &mut impl Downstream,
        moved: bool,
    ) -> Poll<Due> {
        self.moved |= moved;
        if self.armed && client.deadline_is_set() {
            return Poll::Pending;
        }
        let now = Instant::now();
        if self.call.is_some_and(|at| at <= now) {
            return Poll::Ready(Due::LastCall);
        }
        let Some(at) = self.look(now) else { return Poll::Ready(Due::Silence) };
        self.armed = true;
        // Not ready: both are still to come.
        let at = self.call.map_or(at, |call| call.min(at));
        client.poll_deadline(task, now, at).map(|()| Due::Silence)
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
                call: None,
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
