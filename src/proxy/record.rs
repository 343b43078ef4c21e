//! Tells of a request when it is done: the counters always, and who reads along.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::error::{Cause, Failure, Phase};
use super::message::{Cx, Request};
use super::respond::Place;
use super::tail::{Attempted, Seen};
use super::trace::{Fault, Stickiness, Trace, Tried};
use super::tunnel::Told;
use crate::http1::Version;
use crate::policy::sticky::Reject;
use crate::state::Group;
use crate::telemetry::access::Format;
use crate::telemetry::counts::{Attempts, Lane, Micros, Requests, note};
use crate::telemetry::line::{AttemptLine, Combined, FaultLine, RequestId, RequestLine, Text};

/// How many of a worker's last failed and retried requests can be asked for, and
/// how many of those that clients failed: who scans must not hide an outage.
const RECENT: usize = 512;
const RECENT_REFUSED: usize = 128;
/// Bytes of what a client sent in a line: host, path and the like.
const LONGEST: usize = 2048;
/// The same of a path that is kept for as long as a tunnel lives.
const LONGEST_KEPT: usize = 128;

/// What the client got.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// 499: nothing, it was gone.
    pub(super) status: u16,
    /// Bytes of its body.
    pub(super) sent: u64,
}

impl Outcome {
    /// The client was gone.
    pub(super) const NOBODY: Outcome = Outcome { status: 499, sent: 0 };
}

/// How a request ended, and after how long.
#[derive(Clone, Copy, Debug)]
struct Done {
    outcome: Outcome,
    took: Micros,
}

/// A request is done: now, which is given back, for a look at the clock is not free.
pub(super) fn done(
    cx: Cx<'_>,
    request: &Request,
    place: Option<Place<'_>>,
    failed: Option<Cause>,
    outcome: Outcome,
) -> Instant {
    let now = Instant::now();
    let took = request.trace.until(now);
    let lane = cx.worker.lane;
    let lanes = match place {
        Some(Place { group: Some(group), .. }) => &group.requests,
        Some(place) => &place.listener.requests,
        None => &cx.view.snapshot.requests,
    };
    let trace = &request.trace;
    let failed = failed.or_else(|| trace.cause());
    if let Some(counts) = lanes.of(lane) {
        count(counts, failed, outcome);
        counts.received.add(trace.received.get());
        if outcome.status != 101 {
            counts.took.add(took);
        }
        if let Some(group) = place.and_then(|place| place.group) {
            count_attempts(counts, group, lane, trace, outcome);
        }
    }
    let done = Done { outcome, took };
    if cx.worker.readers.are_there() {
        show(cx, request, place, failed, done);
    }
    let recent =
        (failed.is_some() || trace.is_retried()).then_some(failed.is_some_and(Cause::is_clients));
    if recent.is_some() || cx.worker.access.is_on() {
        tell(cx, &line(cx, request, place, done), Some(request), recent);
    }
    now
}

/// A request under way; one that the end of the process cuts is told of as well.
#[derive(Debug)]
pub(super) struct UnderWay<'a, 'r> {
    cx: Cx<'a>,
    request: &'r Request,
    place: Option<Place<'a>>,
    over: bool,
}

impl<'a, 'r> UnderWay<'a, 'r> {
    pub(super) fn new(cx: Cx<'a>, request: &'r Request, place: Option<Place<'a>>) -> Self {
        UnderWay { cx, request, place, over: false }
    }

    /// Others tell of it.
    pub(super) fn over(mut self) {
        self.over = true;
    }
}

impl Drop for UnderWay<'_, '_> {
    fn drop(&mut self) {
        // A panic is told of and counted where it is caught.
        if self.over || std::thread::panicking() {
            return;
        }
        let trace = &self.request.trace;
        let answer = trace.last().and_then(|last| last.answer());
        let phase = if answer.is_some() { Phase::Body } else { Phase::Response };
        trace.failed(&Failure::new(Cause::Stopping, phase));
        let status = answer.map_or(Cause::Stopping.status(), |(_, status)| status);
        done(self.cx, self.request, self.place, None, Outcome { status, sent: 0 });
    }
}

/// What came was no request; `first`: how it began, as far as that is known.
pub(super) fn refused(
    cx: Cx<'_>,
    id: RequestId<'_>,
    failure: &Failure,
    outcome: Outcome,
    first: &[u8],
) {
    if let Some(counts) = cx.view.snapshot.requests.of(cx.worker.lane) {
        count(counts, Some(failure.cause), outcome);
    }
    let fault = Some(told(&Fault::of(failure)));
    let (method, path) = first_words(first);
    let line = RequestLine { fault, method, path, ..blank(cx, id, outcome) };
    if cx.worker.readers.are_there() {
        let (status, cause) = (outcome.status, Some(failure.cause.name()));
        let seen = Seen { status, cause, ..Seen::default() };
        cx.worker.readers.tell(&seen, Vec::new, || line.json());
    }
    tell(cx, &line, None, Some(true));
}

/// The method and the target that a request line begins with, where it does.
fn first_words(bytes: &[u8]) -> (Option<Text<'_>>, Option<Text<'_>>) {
    let line = cut(bytes).split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let is_method = |word: &&[u8]| !word.is_empty() && word.iter().all(u8::is_ascii_alphabetic);
    let Some(method) = words.next().filter(is_method) else { return (None, None) };
    (Some(Text(method)), words.next().map(Text))
}

/// Writes the line for all who read along. `recent`: it can be asked for later;
/// true: what happened was the client's doing.
fn tell(cx: Cx<'_>, line: &RequestLine<'_>, request: Option<&Request>, recent: Option<bool>) {
    cx.worker.access.write(|format, out, clock| {
        match format {
            Format::Json => line.write_json(out, clock),
            Format::Combined => {
                let more = request.map(combined).unwrap_or_default();
                line.write_combined(out, clock, more);
            }
        }
        true
    });
    if let Some(is_clients) = recent {
        cx.worker.recent.keep(is_clients, line.request_id.to_string(), line.json());
    }
}

/// How long a line is, is not for clients to choose.
fn cut(bytes: &[u8]) -> &[u8] {
    bytes.get(..LONGEST).unwrap_or(bytes)
}

fn combined(request: &Request) -> Combined<'_> {
    let target = request.text(request.head.target);
    Combined {
        target: cut(target),
        referer: request.value_of(b"referer").map(cut),
        user_agent: request.value_of(b"user-agent").map(cut),
    }
}

/// What will be told of the end of the tunnel that the request became.
pub(super) fn tunnel(cx: Cx<'_>, request: &Request, place: Option<Place<'_>>) -> Option<Box<Told>> {
    let (place, group) = (place?, place?.group?);
    let path = request.path_and_query();
    Some(Box::new(Told {
        access: Rc::clone(&cx.worker.access),
        readers: Rc::clone(&cx.worker.readers),
        id: request.id(cx.worker).into(),
        generation: cx.view.snapshot.generation,
        game: Arc::clone(&place.listener.game),
        group: Arc::clone(&group.config.name),
        path: path.get(..LONGEST_KEPT).unwrap_or(path).into(),
        client: other_client(cx, place),
        peer: cx.peer.address,
        port: cx.peer.port,
        since: Instant::now(),
    }))
}

fn count(counts: &Requests, failed: Option<Cause>, outcome: Outcome) {
    note(&counts.by_class, usize::from(outcome.status / 100));
    if let Some(cause) = failed {
        note(&counts.by_cause, cause.number());
    }
    counts.sent.add(outcome.sent);
}

/// `all`: the group's.
fn count_attempts(all: &Requests, group: &Group, lane: Lane, trace: &Trace, outcome: Outcome) {
    let of = |tried: &Tried| group.backends.get(tried.place())?.attempts().of(lane);
    let mut retries = 0;
    trace.each_earlier(|tried, fault| {
        let Some(counts) = of(tried) else { return };
        // One that raced failed for nobody's doing, and what follows it is no retry.
        let failed = (!tried.is_raced()).then_some(fault.cause);
        count_attempt(all, counts, tried, failed);
        counts.retries.add(retries);
        retries = retries.max(u64::from(failed.is_some()));
    });
    let Some(last) = trace.last() else { return };
    let Some(counts) = of(&last) else { return };
    let failed = last.failed().and_then(|_| trace.with_fault(Fault::of_attempt));
    count_attempt(all, counts, &last, failed);
    counts.retries.add(retries);
    if trace.with_fault(|fault| fault.phase) != Some(Phase::Connect) {
        counts.sent.add(trace.received.get());
    }
    // What a client got without an answer of the backend is ours.
    if last.answer().is_some() {
        counts.received.add(outcome.sent);
    }
}

fn count_attempt(all: &Requests, counts: &Attempts, tried: &Tried, failed: Option<Cause>) {
    note(&counts.by_class, tried.answer().map_or(0, |(_, status)| usize::from(status / 100)));
    if let Some(cause) = failed.filter(|cause| cause.is_of_attempt()) {
        note(&counts.by_cause, cause.number());
    }
    if let Some(connect) = tried.connect() {
        counts.connect.add(connect);
        all.connect.add(connect);
    }
    if let Some((header, _)) = tried.answer() {
        counts.header.add(header);
        all.header.add(header);
    }
}

/// To those who read along.
fn show(
    cx: Cx<'_>,
    request: &Request,
    place: Option<Place<'_>>,
    failed: Option<Cause>,
    Done { outcome, took }: Done,
) {
    let group = place.and_then(|place| place.group);
    let trace = &request.trace;
    let seen = Seen {
        game: place.map(|place| &*place.listener.game),
        group: group.map(|group| &*group.config.name),
        status: outcome.status,
        cause: failed.map(Cause::name),
        took: took.into(),
        path: request.path_and_query(),
    };
    let attempted = || {
        let mut attempted: Vec<Attempted<'_>> = Vec::new();
        let Some(group) = group else { return attempted };
        let name = |tried: &Tried| Some(&*group.backends.get(tried.place())?.config.name);
        trace.each_earlier(|tried, fault| {
            attempted.extend(name(tried).map(|name| (name, Some(fault.cause.name()))));
        });
        // Why the last one failed is why the request did, but for a spent budget.
        let last = trace.with_fault(Fault::of_attempt).map(Cause::name);
        attempted.extend(trace.last().as_ref().and_then(name).map(|name| (name, last)));
        attempted
    };
    cx.worker
        .readers
        .tell(&seen, attempted, || line(cx, request, place, Done { outcome, took }).json());
}

/// Whom the request counts as coming from, if not from the peer.
fn other_client(cx: Cx<'_>, place: Place<'_>) -> Option<IpAddr> {
    Some(place.client).filter(|client| *client != cx.peer.address.ip())
}

/// What is known of all that comes.
fn blank<'a>(cx: Cx<'a>, request_id: RequestId<'a>, outcome: Outcome) -> RequestLine<'a> {
    RequestLine {
        time: SystemTime::now(),
        request_id,
        trace_id: None,
        generation: cx.view.snapshot.generation,
        place: "",
        client: None,
        peer: cx.peer.text(),
        method: None,
        host: None,
        path: None,
        protocol: None,
        status: outcome.status,
        fault: None,
        received: 0,
        sent: outcome.sent,
        took: None,
        tunnel: None,
        ended: None,
        sticky: None,
        earlier: Vec::new(),
        last: None,
    }
}

/// All there is to tell of a request.
fn line<'a>(
    cx: Cx<'a>,
    request: &'a Request,
    place: Option<Place<'a>>,
    Done { outcome, took }: Done,
) -> RequestLine<'a> {
    let trace = &request.trace;
    let rule = place.and_then(|place| place.rule);
    let text = |bytes: &'a [u8]| Text(cut(bytes));
    let edits = rule.map(|rule| &rule.config.request_headers);
    let begun = request.begun_trace().map(Cow::Owned);
    // Filled in where it lies: it is long.
    let mut line = blank(cx, request.id(cx.worker), outcome);
    line.trace_id = begun.or_else(|| request.trace_id(edits).map(Cow::Borrowed));
    if let Some(place) = place {
        line.place = place.rule.map_or(&place.listener.place, |rule| &rule.place);
        line.client = other_client(cx, place);
    }
    line.method = Some(text(request.text(request.head.method_name)));
    line.host = request.authority().map(text);
    line.path = Some(text(request.path_and_query()));
    line.protocol = Some(match (request.framed, request.head.version) {
        (false, _) => "HTTP/2.0",
        (true, Version::Http10) => "HTTP/1.0",
        (true, _) => "HTTP/1.1",
    });
    line.fault = trace.with_fault(told);
    line.received = trace.received.get();
    line.took = Some(took);
    line.tunnel = (outcome.status == 101).then_some("open");
    line.sticky = stickiness(trace);
    if let Some(group) = place.and_then(|place| place.group) {
        attempts(&mut line, group, trace, took);
    }
    line
}

fn told(fault: &Fault) -> FaultLine<'static> {
    FaultLine {
        cause: fault.cause.name(),
        phase: fault.phase.name(),
        // It may quote what came from the network.
        detail: Cow::Owned(Text(fault.detail.as_bytes()).of().into_owned()),
    }
}

fn told_of_attempt(fault: &Fault) -> FaultLine<'static> {
    FaultLine { cause: fault.of_attempt().name(), ..told(fault) }
}

/// Has the line tell of them. `took`: what the request took.
fn attempts<'a>(line: &mut RequestLine<'a>, group: &'a Group, trace: &Trace, took: Micros) {
    let attempt = |tried: &Tried, fault: Option<FaultLine<'static>>| {
        Some(AttemptLine {
            backend: &group.backends.get(tried.place())?.config.name,
            status: tried.answer().map(|(_, status)| status),
            fault,
            connect_ms: tried.connect(),
            header_ms: tried.answer().map(|(header, _)| header),
            took: tried.failed().unwrap_or_else(|| tried.share(took)),
        })
    };
    trace.each_earlier(|tried, fault| line.earlier.extend(attempt(tried, Some(told(fault)))));
    let Some(last) = trace.last() else { return };
    let fault = last.failed().and_then(|_| trace.with_fault(told_of_attempt));
    line.last = attempt(&last, fault);
}

/// What came of its sticky cookie.
fn stickiness(trace: &Trace) -> Option<&'static str> {
    Some(match trace.sticky.get()? {
        Stickiness::Absent => "new",
        Stickiness::Rejected(Reject::Expired) => "expired",
        Stickiness::Rejected(_) => "rejected",
        Stickiness::Bound(home) => match trace.last() {
            Some(last) if home.is_some_and(|home| home as usize == last.place()) => "kept",
            _ => "moved",
        },
    })
}

/// A worker's last failed and retried requests, for who comes with an id.
#[derive(Debug, Default)]
pub(super) struct Recent {
    failed: RefCell<VecDeque<(String, String)>>,
    refused: RefCell<VecDeque<(String, String)>>,
}

impl Recent {
    fn keep(&self, is_clients: bool, id: String, line: String) {
        let (recent, most) = match is_clients {
            true => (&self.refused, RECENT_REFUSED),
            false => (&self.failed, RECENT),
        };
        let mut recent = recent.borrow_mut();
        if recent.len() == most {
            recent.pop_front();
        }
        recent.push_back((id, line));
    }

    /// The request of this id, as JSON.
    pub(super) fn find(&self, id: &str) -> Option<String> {
        [&self.failed, &self.refused].into_iter().find_map(|recent| {
            let recent = recent.borrow();
            recent.iter().rev().find(|(own, _)| own == id).map(|(_, line)| line.clone())
        })
    }

    /// The last ones that were not the client's own fault, the newest first, as JSON.
    pub(super) fn newest(&self, most: usize) -> Vec<String> {
        let recent = self.failed.borrow();
        recent.iter().rev().take(most).map(|(_, line)| line.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_line_began_with_is_told() {
        let words = |bytes: &'static [u8]| {
            let (method, path) = first_words(bytes);
            (method.map(|text| text.0), path.map(|text| text.0))
        };
        assert_eq!(words(b"GET /a?b HTTP/1.1\r\nHost"), (Some(&b"GET"[..]), Some(&b"/a?b"[..])));
        assert_eq!(words(b"get  /"), (Some(&b"get"[..]), Some(&b""[..])));
        assert_eq!(words(b"GET"), (Some(&b"GET"[..]), None));
        for other in [&b""[..], b" /", b"\x16\x03\x01 /", b"\r\nGET /"] {
            assert_eq!(words(other), (None, None), "{other:?}");
        }
        let long = [b"GET /".to_vec(), vec![b'a'; 2 * LONGEST]].concat();
        assert_eq!(first_words(&long).1.map(|path| path.0.len()), Some(LONGEST - 4));
    }

    #[test]
    fn the_oldest_goes_first() {
        let recent = Recent::default();
        for n in 0..=RECENT {
            recent.keep(false, n.to_string(), format!("line {n}"));
            // They take no place of the others.
            recent.keep(true, format!("refused {n}"), format!("refused {n}"));
        }
        assert!(recent.find("refused 0").is_none());
        assert!(recent.find(&format!("refused {RECENT}")).is_some());
        assert_eq!((recent.find("0"), recent.find("1").as_deref()), (None, Some("line 1")));
        assert_eq!(recent.find(&RECENT.to_string()), Some(format!("line {RECENT}")));
        let newest = [RECENT, RECENT - 1].map(|n| format!("line {n}"));
        assert_eq!((recent.newest(2), recent.newest(RECENT + 1).len()), (newest.into(), RECENT));
        assert!(recent.newest(RECENT).iter().all(|line| !line.contains("refused")));
    }
}
