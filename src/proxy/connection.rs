//! A client's HTTP/1 connection: one request after the other, each with a
//! response before the next is read. What a waiting connection holds is in
//! [`serve`]; what a request needs is boxed and gone with it.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::body::{Framing, Source as _};
use super::buffer::FieldList;
use super::client::{Client, Downstream as _};
use super::conn::Conn;
use super::error::{Cause, Failure, Phase};
use super::forward::{Attempt, Cut};
use super::headers::{self, ResponseForm};
use super::message::{Cx, Peer, Request};
use super::record::{self, Outcome, UnderWay};
use super::registry::Seat;
use super::request::{self, Response};
use super::respond::{self, Answer, Place};
use super::tunnel::Tunnel;
use super::worker::Worker;
use crate::config::Limits;
use crate::http1::{
    HeadError, HeadLimits, Method, RequestFraming, ResponseFraming, Scan, Version, receive_request,
};
use crate::state::Listener;
use crate::telemetry::line::RequestId;

/// How long a closing connection waits for the client's next byte, and in all,
/// before what the client still sends is answered with a reset.
const LINGER_SILENCE: Duration = Duration::from_secs(2);
const LINGER: Duration = Duration::from_secs(10);
/// How long a stopping lockgate waits for the first request of a connection
/// that it had accepted: it may be on its way.
const FRESH_GRACE: Duration = Duration::from_millis(500);

/// What becomes of the connection after an exchange.
#[derive(Debug)]
enum After {
    /// Waits for the next request.
    Open,
    /// Is closed; the client sends nothing more.
    Close,
    /// Is closed, but the client may be sending: see [`linger`].
    Linger,
    /// Is cut, so that what was sent can't be taken for the whole.
    Reset,
    /// Speaks another protocol with the backend from now on.
    Tunnel(Box<Tunnel>),
}

/// The times a listener grants; before one is known, those of `[limits]`.
#[derive(Clone, Copy, Debug)]
struct Times {
    idle: Duration,
    header: Duration,
}

impl Times {
    fn of_limits(limits: &Limits) -> Times {
        Times { idle: limits.header_timeout, header: limits.header_timeout }
    }

    fn of(listener: &Listener) -> Times {
        Times { idle: listener.config.idle_timeout, header: listener.config.header_timeout }
    }
}

/// Serves the connection until it ends.
pub(super) async fn serve(seat: &Seat, conn: Conn, peer: &Peer) {
    let worker = &*seat.worker;
    let mut client = Client::new(conn);
    let mut times = first_times(worker, peer);
    let mut served = 0;
    // The first head's time runs from here, whether or not it has begun.
    let mut until = Instant::now() + times.header;
    let mut first = Some(until);
    poll_fn(|task| {
        seat.register(task.waker());
        Poll::Ready(())
    })
    .await;
    while poll_fn(|task| {
        poll_first_bytes(task, worker, peer.port, &mut client, until, first.is_some())
    })
    .await
    {
        let after =
            Box::pin(exchange(worker, &mut client, peer, &mut served, &mut times, first.take()))
                .await;
        match after {
            After::Open => until = Instant::now() + times.idle,
            After::Close => break,
            After::Linger => return Box::pin(linger(&mut client)).await,
            After::Reset => return client.conn.reset(),
            After::Tunnel(mut tunnel) => match tunnel.run(worker, &mut client).await {
                Ok(()) if tunnel.is_client_done() => return,
                // It was told that it ends, and may still be sending.
                Ok(()) => return Box::pin(linger(&mut client)).await,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                Err(_) => return client.conn.reset(),
            },
        }
    }
    farewell(&mut client).await;
}

/// Says that nothing more comes. The client may not be there to hear it: a
/// connection that can't take it at once is dropped without.
async fn farewell(client: &mut Client) {
    poll_fn(|task| {
        let _ = client.conn.poll_shutdown(task);
        Poll::Ready(())
    })
    .await;
}

/// On TLS the name the client asked for says which listener's times hold.
fn first_times(worker: &Worker, peer: &Peer) -> Times {
    let view = worker.view();
    let snapshot = &view.snapshot;
    peer.tls
        .as_ref()
        .and_then(|tls| tls.name.as_deref())
        .and_then(|name| snapshot.port(peer.port)?.hosts.resolve(name))
        .map_or_else(|| Times::of_limits(&snapshot.process.limits), |listener| Times::of(listener))
}

/// Waits, holding no buffer, until the next request begins. False: it does
/// not, and the connection ends.
fn poll_first_bytes(
    task: &mut Context<'_>,
    worker: &Worker,
    port: u16,
    client: &mut Client,
    until: Instant,
    fresh: bool,
) -> Poll<bool> {
    if !client.conn.input().is_empty() {
        return Poll::Ready(true);
    }
    match client.conn.poll_fill(task, false) {
        Poll::Ready(Ok(n)) => Poll::Ready(n > 0),
        Poll::Ready(Err(_)) => Poll::Ready(false),
        Poll::Pending => {
            let until = match worker.stopping_since() {
                None if worker.is_leaving(port) && !worker.may_wait() => return Poll::Ready(false),
                None => until,
                // What a new client sent may not have been reported yet.
                Some(since) if fresh => until.min(since + FRESH_GRACE),
                Some(_) => return Poll::Ready(false),
            };
            client.poll_deadline(task, Instant::now(), until).map(|()| false)
        }
    }
}

/// One request and its response.
async fn exchange(
    worker: &Worker,
    client: &mut Client,
    peer: &Peer,
    served: &mut u64,
    times: &mut Times,
    until: Option<Instant>,
) -> After {
    let view = worker.view();
    let cx = Cx { worker, view: &view, peer };
    let request = match read_head(cx, client, times.header, until).await {
        Ok(Some(request)) => request,
        Ok(None) => return After::Close,
        Err(failure) => return refuse(cx, client, failure).await,
    };
    let _under_way = worker.begin_request(peer);
    *served += 1;
    client.body_pending =
        !matches!(request.head.framing, RequestFraming::None | RequestFraming::Length(0));
    let served_by = request::serve(cx, &request, client).await;
    let mut last = false;
    let place = served_by.place;
    if let Some(listener) = place.map(|place| place.listener) {
        *times = Times::of(listener);
        last = listener.config.max_requests.is_some_and(|max| *served >= max);
    }
    let may_stay = request.head.keep_alive && !last && !worker.is_leaving(peer.port);
    match served_by.response {
        Response::Forwarded(attempt) => {
            forward_response(cx, &request, client, attempt, may_stay).await
        }
        Response::Own(answer) => {
            let head = &request.head;
            let after = send(cx, client, &answer, head.method, head.version, may_stay).await;
            record::done(cx, &request, place, None, answer.outcome(head.method));
            after
        }
        Response::Nobody => {
            record::done(cx, &request, place, None, Outcome::NOBODY);
            After::Reset
        }
    }
}

/// Receives the head of the next request, until `until` or within `timeout`
/// from now. `None`: the client left instead.
async fn read_head(
    cx: Cx<'_>,
    client: &mut Client,
    timeout: Duration,
    mut until: Option<Instant>,
) -> Result<Option<Box<Request>>, Failure> {
    let limits = &cx.view.snapshot.process.limits;
    let limits =
        HeadLimits { target: limits.uri, fields_size: limits.header_size, fields: limits.headers };
    let mut scan = Scan::request();
    let mut fields = FieldList::take();
    let found = poll_fn(|task| {
        loop {
            match receive_request(&mut scan, client.conn.input(), &limits, fields.as_mut()) {
                Err(error) => return Poll::Ready(Err(head_failure(error))),
                Ok(Some(found)) => return Poll::Ready(Ok(Some(found))),
                Ok(None) => {}
            }
            match client.conn.poll_fill(task, false) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    let now = Instant::now();
                    let until = *until.get_or_insert(now + timeout);
                    return client.poll_deadline(task, now, until).map(|()| {
                        Err(Failure::because(Cause::ClientTimeout, Phase::Request, "header"))
                    });
                }
            }
        }
    })
    .await?;
    let Some((start, head)) = found else { return Ok(None) };
    client.conn.consume(start);
    let bytes = client.conn.take_head(head.len as usize);
    // Boxed: it goes from hand to hand.
    Ok(Some(Box::new(Request::new(bytes, fields, head))))
}

pub(super) fn head_failure(error: HeadError) -> Failure {
    let cause = match error {
        HeadError::TargetTooLong => Cause::UriTooLong,
        HeadError::FieldsTooLarge | HeadError::TooManyFields => Cause::HeaderTooLarge,
        HeadError::Malformed(_) => Cause::Malformed,
    };
    Failure::because(cause, Phase::Request, error)
}

/// Answers what is no request, and ends.
async fn refuse(cx: Cx<'_>, client: &mut Client, failure: Failure) -> After {
    let id = RequestId::Made(cx.worker.request_id());
    respond::log(cx, None, None, &failure, id);
    let answer = respond::error(&failure, id, false);
    client.body_pending = true;
    record::refused(cx, id, &failure, answer.outcome(Method::Get), client.conn.input());
    send(cx, client, &answer, Method::Get, Version::Http11, false).await
}

/// Sends an answer of lockgate's own.
async fn send(
    cx: Cx<'_>,
    client: &mut Client,
    answer: &Answer,
    method: Method,
    version: Version,
    may_stay: bool,
) -> After {
    let stay = may_stay && !answer.close && !client.body_pending && !client.conn.discard;
    let mut out = client.take_out();
    respond::write(&mut out, cx, answer, method, version, stay);
    let at = Instant::now() + cx.view.snapshot.process.limits.header_timeout;
    let sent = poll_fn(|task| match client.conn.poll_drain(task, &mut out) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => client
            .poll_deadline(task, Instant::now(), at)
            .map(|()| Err(io::ErrorKind::TimedOut.into())),
    })
    .await;
    match sent {
        Ok(()) => after(client, stay).await,
        Err(_) => After::Reset,
    }
}

/// The response is with the kernel in full. The connection is closed at once
/// only when the client has ended its side: bytes that come after the close,
/// or lie unread at it, turn it into a reset, which destroys what the client
/// has not read yet (RFC 9112 9.6).
async fn after(client: &mut Client, stay: bool) -> After {
    if stay && !client.conn.discard {
        return After::Open;
    }
    let read = poll_fn(|task| Poll::Ready(client.conn.poll_fill(task, false))).await;
    match read {
        Poll::Ready(Ok(0) | Err(_)) => After::Close,
        _ => After::Linger,
    }
}

/// Sends a backend's response: its head, then its body as it comes.
async fn forward_response(
    cx: Cx<'_>,
    request: &Request,
    client: &mut Client,
    mut attempt: Box<Attempt<'_>>,
    may_stay: bool,
) -> After {
    let mut out = client.take_out();
    let mut chunked = false;
    let mut stay = false;
    let speaks_chunked = request.head.version == Version::Http11;
    let uploaded = attempt.upload.source_done();
    let taken = attempt.take_response(|head, fields, response, additions| {
        let is_unsized =
            matches!(response.framing, ResponseFraming::Chunked | ResponseFraming::UntilClose);
        chunked = is_unsized && speaks_chunked;
        // What the end of the connection ends can't be followed by anything,
        // nor can a body that the client may or may not still send.
        stay = may_stay && (chunked || !is_unsized) && uploaded;
        let form = ResponseForm { version: request.head.version, chunked, keep_alive: stay };
        headers::write_response(&mut out, cx, head, fields, response, additions, form);
        Some(())
    });
    let Some((response, ())) = taken else { return After::Reset };
    let place = Some(Place::of(&attempt.route, Some(attempt.picked.group)));
    request.trace.received.set(attempt.upload.content_len());
    if response.status == 101 {
        record::done(cx, request, place, None, Outcome { status: 101, sent: 0 });
        let told = record::tunnel(cx, request, place);
        return After::Tunnel(Box::new(attempt.into_tunnel(out, told)));
    }
    let framing = match chunked {
        true => Framing::Chunked { trailers: request.head.te_trailers },
        false => Framing::Plain,
    };
    let mut download = attempt.pump_down(&response, framing, out);
    let under_way = UnderWay::new(cx, request, place);
    let whole = attempt.download(cx, request, client, &mut download).await;
    under_way.over();
    request.trace.received.set(attempt.upload.content_len());
    let outcome = Outcome { status: response.status, sent: download.content_len() };
    let now = record::done(cx, request, place, None, outcome);
    match whole {
        Ok(()) => {
            attempt.release(cx, now);
            after(client, stay).await
        }
        Err(Cut { .. }) => After::Reset,
    }
}

/// Ends a connection on which the client may still be sending. Closing at once
/// would reset it, and the reset could overtake the response.
async fn linger(client: &mut Client) {
    farewell(client).await;
    let end = Instant::now() + LINGER;
    let mut until = Instant::now() + LINGER_SILENCE;
    poll_fn(|task| {
        loop {
            let held = client.conn.input().len();
            client.conn.consume(held);
            match client.conn.poll_fill(task, false) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => until = end.min(Instant::now() + LINGER_SILENCE),
                Poll::Pending => return client.poll_deadline(task, Instant::now(), until),
            }
        }
    })
    .await;
}
