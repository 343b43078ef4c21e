//! Tells of a request when it is done: the counters always, and who reads along.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::SystemTime;

use super::error::Cause;
use super::message::{Cx, Request};
use super::respond::Place;
use super::trace::{Fault, Stickiness, Trace, Tried};
use crate::http1::Version;
use crate::policy::sticky::Reject;
use crate::state::Group;
use crate::telemetry::counts::{Attempts, Lane, Lanes, Requests, note};
use crate::telemetry::line::{AttemptLine, FaultLine, RequestLine, Text, TlsLine};

/// How many of a worker's last failed and retried requests can be asked for, and
/// how many of those that clients failed: who scans must not hide an outage.
const RECENT: usize = 512;
const RECENT_REFUSED: usize = 128;
/// Bytes of a host or path in a line.
const LONGEST: usize = 2048;

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

/// A request is done; `None`: what came was none.
pub(super) fn done(
    cx: Cx<'_>,
    request: Option<&Request>,
    place: Option<Place<'_>>,
    failed: Option<Cause>,
    outcome: Outcome,
) {
    let lane = cx.worker.lane;
    let lanes = match place {
        Some(Place { group: Some(group), .. }) => &group.requests,
        Some(place) => &place.listener.requests,
        None => &cx.view.snapshot.requests,
    };
    let trace = request.map(|request| &request.trace);
    let failed = failed.or_else(|| trace.and_then(Trace::cause));
    count(lanes, lane, trace, failed, outcome);
    let Some(request) = request else { return };
    if let Some(group) = place.and_then(|place| place.group) {
        count_attempts(group, lane, &request.trace, outcome);
    }
    if failed.is_some() || request.trace.is_retried() {
        let told = line(cx, request, place, outcome);
        let is_clients = failed.is_some_and(Cause::is_clients);
        cx.worker.recent.keep(is_clients, told.request_id.to_string(), told.json());
    }
}

fn count(
    lanes: &Lanes<Requests>,
    lane: Lane,
    trace: Option<&Trace>,
    failed: Option<Cause>,
    outcome: Outcome,
) {
    let Some(counts) = lanes.of(lane) else { return };
    note(&counts.by_class, usize::from(outcome.status / 100));
    if let Some(cause) = failed {
        note(&counts.by_cause, cause.number());
    }
    counts.sent.add(outcome.sent);
    if let Some(trace) = trace {
        counts.received.add(trace.received.get());
        if outcome.status != 101 {
            counts.took.add(trace.start.elapsed());
        }
    }
}

fn count_attempts(group: &Group, lane: Lane, trace: &Trace, outcome: Outcome) {
    let Some(all) = group.requests.of(lane) else { return };
    let of = |tried: &Tried| group.backends.get(tried.place())?.attempts().of(lane);
    let mut retries = 0;
    trace.each_earlier(|tried, fault| {
        let Some(counts) = of(tried) else { return };
        count_attempt(all, counts, tried, Some(fault.cause));
        counts.retries.add(retries);
        retries = 1;
    });
    let Some(last) = trace.last() else { return };
    let Some(counts) = of(&last) else { return };
    count_attempt(all, counts, &last, trace.cause().filter(|_| last.failed().is_some()));
    counts.retries.add(retries);
    counts.sent.add(trace.received.get());
    counts.received.add(outcome.sent);
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

/// All there is to tell of it.
fn line<'a>(
    cx: Cx<'a>,
    request: &'a Request,
    place: Option<Place<'a>>,
    outcome: Outcome,
) -> RequestLine<'a> {
    let trace = &request.trace;
    let rule = place.and_then(|place| place.rule);
    let group = place.and_then(|place| place.group);
    let text = |bytes: &'a [u8]| Text(bytes.get(..LONGEST).unwrap_or(bytes));
    RequestLine {
        time: SystemTime::now(),
        request_id: Cow::Owned(format!("{:016x}", request.id(cx.worker))),
        generation: cx.view.snapshot.generation,
        game: place.map(|place| &*place.listener.game),
        listener: place.map(|place| domain(place)),
        rule: rule.map(|rule| &*rule.config.path),
        group: group.map(|group| &*group.config.name),
        client: place.map_or(cx.peer.address.ip(), |place| place.client),
        peer: cx.peer.address,
        port: cx.peer.port,
        method: Some(text(request.text(request.head.method_name))),
        host: request.authority().map(text),
        path: Some(text(request.path_and_query())),
        protocol: Some(match (request.framed, request.head.version) {
            (false, _) => "HTTP/2.0",
            (true, Version::Http10) => "HTTP/1.0",
            (true, _) => "HTTP/1.1",
        }),
        tls: cx.peer.tls.as_ref().map(|tls| TlsLine {
            version: tls.version,
            cipher: tls.cipher,
            name: tls.name.as_deref(),
        }),
        status: outcome.status,
        fault: trace.fault().map(|fault| told(&fault)),
        received: trace.received.get(),
        sent: outcome.sent,
        took: trace.start.elapsed(),
        sticky: stickiness(trace),
        attempts: group.map(|group| attempts(group, trace)).unwrap_or_default(),
    }
}

fn domain(place: Place<'_>) -> Cow<'_, str> {
    match place.listener.config.domains.first() {
        Some(domain) => Cow::Owned(domain.to_string()),
        None => Cow::Borrowed("default"),
    }
}

fn told(fault: &Fault) -> FaultLine<'static> {
    FaultLine {
        cause: fault.cause.name(),
        phase: fault.phase.name(),
        detail: Cow::Owned(fault.detail.clone()),
    }
}

fn attempts<'a>(group: &'a Group, trace: &Trace) -> Vec<AttemptLine<'a>> {
    let line = |tried: &Tried, fault: Option<&Fault>| {
        let backend = group.backends.get(tried.place())?;
        Some(AttemptLine {
            backend: &backend.config.name,
            status: tried.answer().map(|(_, status)| status),
            fault: fault.map(told),
            connect_ms: tried.connect(),
            header_ms: tried.answer().map(|(header, _)| header),
            took: tried.failed().unwrap_or_else(|| tried.so_far(trace.start)),
        })
    };
    let mut lines = Vec::new();
    trace.each_earlier(|tried, fault| lines.extend(line(tried, Some(fault))));
    if let Some(last) = trace.last() {
        let fault = trace.fault().filter(|_| last.failed().is_some());
        lines.extend(line(&last, fault.as_ref()));
    }
    lines
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let recent = Recent::default();
        for n in 0..=RECENT {
            recent.keep(false, n.to_string(), format!("line {n}"));
            // They take no place of the others.
            recent.keep(true, format!("refused {n}"), format!("line {n}"));
        }
        assert!(recent.find("refused 0").is_none());
        assert!(recent.find(&format!("refused {RECENT}")).is_some());
        assert_eq!((recent.find("0"), recent.find("1").as_deref()), (None, Some("line 1")));
        assert_eq!(recent.find(&RECENT.to_string()), Some(format!("line {RECENT}")));
    }
}
