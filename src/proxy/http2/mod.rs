//! A client's HTTP/2 connection: all its requests in one task.
//!
//! The `h2` crate speaks the protocol; this drives it. Each request goes the
//! way every request goes (`request.rs`), with a [`Stream`] as the client's
//! end. Driven directly, and not through hyper, because hyper sends no interim
//! responses and grants upload credit before the backend took the bytes.

mod half;
mod heads;
mod io;
mod stream;
mod timers;
pub(super) mod upstream;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream as _};
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use tokio::time::Instant;

use self::io::HeldIo;
use self::stream::Stream;
use self::timers::{Timer, Timers};
use super::body::Framing;
use super::buffer::Buffer;
use super::conn::Conn;
use super::deadline::Deadline;
use super::error::{Cause, Failure, Phase};
use super::forward::Attempt;
use super::message::{Cx, Peer, Request};
use super::record::{self, Outcome, UnderWay};
use super::registry::Seat;
use super::request::{self, Response};
use super::respond::{self, Answer, Place};
use super::tunnel::Tunnel;
use super::worker::Worker;
use crate::http1::{self, HeadLimits, ResponseFraming};
use crate::telemetry::line::RequestId;

/// Requests at once on a connection (CLB: 128).
const STREAMS: u32 = 128;
/// Upload credit of a request and of the connection, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Response bytes of a request that wait inside the library.
const SEND_BUFFER: usize = 64 * 1024;
/// What small DATA frames that were not used yet may cost, in the library's
/// measure (256 less their length): a slow backend must not end the client's
/// connection for sending in small pieces what it may send.
pub(super) const FRAME_BUDGET: usize = 4 * 1024 * 1024;
/// From GOAWAY to the end of a connection without requests, and for a last
/// push to a client that may not read.
const PARTING: Duration = Duration::from_secs(5);
/// Requests a client may give up before they were answered, for each that it
/// let finish, before that is taken for an attack (rapid reset); a browser that
/// leaves a page gives up all it has.
const RESETS: u32 = 256;

type Server = Connection<HeldIo, Bytes>;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Finished,
    /// The client gave it up.
    Abandoned,
}

/// Serves the connection until it ends.
pub(super) async fn serve(seat: &Seat, conn: Conn, peer: &Peer) {
    let worker = &*seat.worker;
    let io = HeldIo::new(conn);
    let limits = worker.view().snapshot.process.limits.clone();
    let mut deadline = Deadline::default();
    let until = Instant::now() + limits.header_timeout;
    let handshake = builder(limits.header_size).handshake(io.clone());
    let Some(server) = begun(Box::pin(handshake), &io, &mut deadline, until).await else { return };
    let timers = Rc::new(Timers::default());
    // Until the first request its head's time holds.
    let idle = Cell::new(limits.header_timeout);
    let most = Cell::new(u64::MAX);
    let mut driver = Driver {
        worker,
        port: peer.port,
        server,
        io,
        timers: Rc::clone(&timers),
        deadline,
        served: 0,
        abandoned: 0,
        parting: None,
        idle: &idle,
        most: &most,
        silent_since: Instant::now(),
        broken: false,
        stuck_since: None,
    };
    let mut requests = FuturesUnordered::new();
    let begin = |request: http::Request<RecvStream>, respond| {
        let timer = Timer::new(Rc::clone(&timers));
        exchange(worker, peer, request, respond, timer, &idle, &most)
    };
    poll_fn(|task| {
        seat.register(task.waker());
        Poll::Ready(())
    })
    .await;
    let mut over = false;
    poll_fn(|task| {
        while !over {
            // What was begun first goes first; what was just accepted begins in
            // the same turn, so that its bytes leave in the same write.
            driver.finish(task, &mut requests);
            match driver.server.poll_accept(task) {
                Poll::Pending => break,
                // Those a client gave up may still run to their end here.
                Poll::Ready(Some(Ok((_, mut respond)))) if requests.len() >= STREAMS as usize => {
                    respond.send_reset(Reason::REFUSED_STREAM);
                }
                Poll::Ready(Some(Ok((request, respond)))) => {
                    driver.served += 1;
                    requests.push(begin(request, respond));
                }
                // In good order or not: no request comes any more. Those under way
                // see it, and decide whether they have to run to their end.
                Poll::Ready(_) => over = true,
            }
        }
        if over {
            driver.finish(task, &mut requests);
            if requests.is_empty() {
                return driver.poll_last_push(task);
            }
            // Its end was seen: only the requests' own deadlines matter.
            let _ = driver.poll_wait(task, requests.len());
            return Poll::Pending;
        }
        driver.poll_wait(task, requests.len())
    })
    .await;
}

/// The connection once both sides have said how they speak, if they do so in time.
async fn begun<T, E>(
    mut handshake: Pin<Box<impl Future<Output = Result<T, E>>>>,
    io: &HeldIo,
    deadline: &mut Deadline,
    until: Instant,
) -> Option<T> {
    poll_fn(|task| {
        let done = handshake.as_mut().poll(task);
        let pushed = io.poll_push(task);
        match (done, pushed) {
            (Poll::Ready(server), _) => Poll::Ready(server.ok()),
            (Poll::Pending, Poll::Ready(Err(_))) => Poll::Ready(None),
            (Poll::Pending, _) => deadline.poll(task, Instant::now(), until).map(|()| None),
        }
    })
    .await
}

fn builder(header_size: usize) -> Builder {
    let mut builder = Builder::new();
    // Above our own limit, so that it is our parser that says 431.
    let header_list = u32::try_from(header_size.saturating_mul(2)).unwrap_or(u32::MAX);
    builder
        .max_concurrent_streams(STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_header_list_size(header_list.max(64 * 1024))
        .data_frame_budget(FRAME_BUDGET)
        .enable_connect_protocol();
    builder
}

/// What a connection needs besides its requests.
struct Driver<'a> {
    worker: &'a Worker,
    port: u16,
    server: Server,
    io: HeldIo,
    timers: Rc<Timers>,
    deadline: Deadline,
    served: u64,
    abandoned: u32,
    /// When GOAWAY was sent.
    parting: Option<Instant>,
    /// How long it may be without one.
    idle: &'a Cell<Duration>,
    /// How many it may have, by the last one's listener.
    most: &'a Cell<u64>,
    /// Since when there is no request.
    silent_since: Instant,
    /// Nothing can be written any more.
    broken: bool,
    /// Since when the client takes nothing.
    stuck_since: Option<Instant>,
}

impl Driver<'_> {
    /// Polls the requests that were woken.
    fn finish<F: Future<Output = End>>(
        &mut self,
        task: &mut Context<'_>,
        requests: &mut FuturesUnordered<F>,
    ) {
        let mut requests = Pin::new(requests);
        let mut finished = false;
        while let Poll::Ready(Some(end)) = requests.as_mut().poll_next(task) {
            finished = true;
            match end {
                End::Finished => self.abandoned = self.abandoned.saturating_sub(1),
                End::Abandoned => self.abandoned += 1,
            }
        }
        if finished && requests.is_empty() {
            self.silent_since = Instant::now();
        }
        if self.abandoned > RESETS && self.parting.is_none() {
            self.parting = Some(Instant::now());
            self.server.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }

    /// Sends what the turn produced, and waits for the next.
    fn poll_wait(&mut self, task: &mut Context<'_>, requests: usize) -> Poll<()> {
        let now = Instant::now();
        if self.worker.is_leaving(self.port) || self.served >= self.most.get() {
            self.part(task, now);
        }
        match self.io.poll_push(task) {
            // Reading meets the same end, and lets the requests see it.
            Poll::Ready(Err(_)) if requests > 0 && !self.broken => {
                self.broken = true;
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) => self.stuck_since = None,
            Poll::Pending => {
                self.stuck_since.get_or_insert(now);
            }
        }
        if let Some(at) = self.timers.next()
            && at <= now
        {
            self.timers.fire(now);
        }
        let own = match (self.parting, requests) {
            (Some(parting), 0) => Some(parting.max(self.silent_since) + PARTING),
            (None, 0) => Some(self.silent_since + self.idle.get()),
            // The requests have deadlines of their own.
            _ => None,
        };
        if own.is_some_and(|at| at <= now) {
            if self.parting.is_some() {
                return Poll::Ready(());
            }
            self.part(task, now);
        }
        let next = [own, self.timers.next()].into_iter().flatten().filter(|at| *at > now).min();
        if let Some(at) = next
            && self.deadline.poll(task, now, at).is_ready()
        {
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Says GOAWAY, once: what is under way is finished, nothing new begins.
    fn part(&mut self, task: &mut Context<'_>, now: Instant) {
        if self.parting.is_none() {
            self.parting = Some(now);
            self.server.graceful_shutdown();
            task.waker().wake_by_ref();
        }
    }

    /// Sends what is left, and waits a moment for the client's end: bytes left
    /// unread would turn the close into a reset, which destroys the GOAWAY that
    /// says why.
    fn poll_last_push(&mut self, task: &mut Context<'_>) -> Poll<()> {
        match self.io.poll_end(task) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(())) if self.io.poll_drained(task).is_ready() => Poll::Ready(()),
            _ => {
                let now = Instant::now();
                let since = *self.stuck_since.get_or_insert(now);
                self.deadline.poll(task, now, since + PARTING)
            }
        }
    }
}

/// One request and its response.
fn exchange<'a>(
    worker: &'a Worker,
    peer: &'a Peer,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    timer: Timer,
    idle: &'a Cell<Duration>,
    most: &'a Cell<u64>,
) -> impl Future<Output = End> + 'a {
    let view = worker.view();
    let (parts, body) = request.into_parts();
    let limits = &view.snapshot.process.limits;
    let limits =
        HeadLimits { target: limits.uri, fields_size: limits.header_size, fields: limits.headers };
    let mut request = heads::request(&parts, !body.is_end_stream(), &limits);
    let mut client = Stream::new(body, respond, timer);
    // The future is moved to its place among the others, so it should be small:
    // what is captured is used where it lies, while an `async fn` keeps what it
    // takes out of its arguments beside them.
    async move {
        let outcome = {
            let _under_way = worker.begin_request(peer);
            let cx = Cx { worker, view: &view, peer };
            let request = match &mut request {
                Ok(request) => request,
                Err(failure) => return refuse(cx, &mut client, failure),
            };
            let served = request::serve(cx, request, &mut client).await;
            let place = served.place;
            if let Some(listener) = place.map(|place| place.listener) {
                idle.set(listener.config.idle_timeout);
                most.set(listener.config.max_requests.unwrap_or(u64::MAX));
            }
            match served.response {
                Response::Forwarded(attempt) => {
                    forward_response(cx, request, &mut client, attempt).await
                }
                Response::Own(answer) => {
                    let method = request.head.method;
                    let end = send(cx, &mut client, &answer, method);
                    record::done(cx, request, place, None, answer.outcome(method));
                    client.decline_rest().await;
                    Forwarded::End(end)
                }
                Response::Nobody => {
                    client.reset(Reason::CANCEL);
                    record::done(cx, request, place, None, Outcome::NOBODY);
                    Forwarded::End(End::Abandoned)
                }
            }
        };
        let mut tunnel = match outcome {
            Forwarded::End(end) => return end,
            Forwarded::Tunnel(tunnel) => tunnel,
        };
        // It may live for days, and through many reloads.
        drop(view);
        if tunnel.run(worker, &mut client).await.is_err() {
            client.reset(Reason::CANCEL);
        }
        End::Finished
    }
}

/// Answers what is no request.
fn refuse(cx: Cx<'_>, client: &mut Stream, failure: &Failure) -> End {
    let id = RequestId::Made(cx.worker.request_id());
    respond::log(cx, None, None, failure, id);
    let answer = respond::error(failure, id, false);
    record::refused(cx, id, failure, answer.outcome(http1::Method::Get), b"");
    send(cx, client, &answer, http1::Method::Get)
}

/// Sends an answer of lockgate's own.
fn send(cx: Cx<'_>, client: &mut Stream, answer: &Answer, method: http1::Method) -> End {
    let Some((head, body)) = heads::answer(cx, answer, method) else {
        client.reset(Reason::INTERNAL_ERROR);
        return End::Finished;
    };
    let sent = client.send_head(head, body.is_empty()).and_then(|()| match body.is_empty() {
        true => Ok(()),
        false => client.send_body(body),
    });
    match sent {
        Ok(()) => End::Finished,
        Err(_) => End::Abandoned,
    }
}

/// What became of a backend's response.
enum Forwarded {
    End(End),
    Tunnel(Box<Tunnel>),
}

/// Sends a backend's response: its head, then its body as it comes.
async fn forward_response(
    cx: Cx<'_>,
    request: &mut Request,
    client: &mut Stream,
    mut attempt: Box<Attempt<'_>>,
) -> Forwarded {
    let Some((response, head)) = attempt.take_response(|head, fields, response, additions| {
        heads::response(cx, head, fields, response, additions)
    }) else {
        let why = "HTTP/2 has no words for it";
        let failure = Failure::because(Cause::InvalidHeader, Phase::Response, why);
        let failure = failure.at(attempt.picked.backend);
        let place = Some(Place::of(&attempt.route, Some(attempt.picked.group)));
        respond::log(cx, Some(request), place, &failure, request.id(cx.worker));
        record::done(cx, request, place, None, Outcome::NOBODY);
        client.reset(Reason::INTERNAL_ERROR);
        return Forwarded::End(End::Finished);
    };
    let bodiless = matches!(response.framing, ResponseFraming::None | ResponseFraming::Length(0));
    let tunnel = response.status == 101;
    let place = Some(Place::of(&attempt.route, Some(attempt.picked.group)));
    let status = response.status;
    request.trace.received.set(attempt.upload.content_len());
    if request.websocket && !tunnel && response.status < 300 {
        // Over HTTP/1 this is a refusal; here 2xx would mean that the tunnel stands.
        let why = "success, but not 101, to a WebSocket";
        let failure = Failure::because(Cause::InvalidHeader, Phase::Response, why);
        let failure = failure.at(attempt.picked.backend);
        let id = request.id(cx.worker);
        respond::log(cx, Some(request), place, &failure, id);
        let answer = respond::error(&failure, id, false);
        let method = request.head.method;
        record::done(cx, request, place, None, answer.outcome(method));
        return Forwarded::End(send(cx, client, &answer, method));
    }
    if client.send_head(head, bodiless && !tunnel).is_err() {
        record::done(cx, request, place, Some(Cause::ClientGone), Outcome::NOBODY);
        return Forwarded::End(End::Abandoned);
    }
    if tunnel {
        record::done(cx, request, place, None, Outcome { status, sent: 0 });
        let told = record::tunnel(cx, request, place);
        let tunnel = Box::new(attempt.into_tunnel(Buffer::none(), told));
        request.forget_head();
        return Forwarded::Tunnel(tunnel);
    }
    // Small chunks, and the end behind them, leave as one frame.
    let out = match response.framing {
        ResponseFraming::Chunked => Buffer::small(),
        _ => Buffer::none(),
    };
    let mut download = attempt.pump_down(&response, Framing::Frames, out);
    let under_way = UnderWay::new(cx, request, place);
    let whole = attempt.download(cx, request, client, &mut download).await;
    under_way.over();
    request.trace.received.set(attempt.upload.content_len());
    let outcome = Outcome { status, sent: download.content_len() };
    let now = record::done(cx, request, place, None, outcome);
    let end = match whole {
        Ok(()) => {
            attempt.release(cx, now);
            if client.was_abandoned() {
                return Forwarded::End(End::Abandoned);
            }
            client.decline_rest().await;
            End::Finished
        }
        Err(cut) if cut.cause == Cause::ClientGone => {
            client.reset(Reason::CANCEL);
            End::Abandoned
        }
        Err(_) => {
            client.reset(Reason::INTERNAL_ERROR);
            End::Finished
        }
    };
    Forwarded::End(end)
}
