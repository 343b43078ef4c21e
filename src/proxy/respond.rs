//! lockgate's own responses: redirects, fixed answers, errors.

use std::borrow::Cow;
use std::net::IpAddr;

use super::buffer::Buffer;
use super::error::{Cause, Failure};
use super::headers::{is_edited, push_connection, push_edits, push_field, push_length};
use super::message::{Cx, Request};
use super::record::Outcome;
use super::route::Route;
use crate::config::{HeaderEdits, Redirect};
use crate::http1::{Method, Version};
use crate::state::{Group, Listener, Rule};
use crate::telemetry::failures::FailureLine;
use crate::telemetry::line::RequestId;

/// A response of lockgate's own.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Field names and values besides those every answer has.
    fields: Vec<(&'static str, Vec<u8>)>,
    edits: HeaderEdits,
    body: Vec<u8>,
    /// The connection can't be used any more: the request was not understood.
    pub(super) close: bool,
}

/// Where in the configuration something happened, and for whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) listener: &'a Listener,
    pub(super) rule: Option<&'a Rule>,
    pub(super) group: Option<&'a Group>,
    /// The address the request counts as coming from.
    pub(super) client: IpAddr,
}

impl<'a> Place<'a> {
    pub(super) fn of(route: &Route<'a>, group: Option<&'a Group>) -> Place<'a> {
        Place { listener: route.listener, rule: Some(route.rule), group, client: route.client }
    }
}

/// Bytes of a host or path in a log line: enough to find it, too few to flood.
const LOGGED: usize = 512;

/// Sends the client elsewhere.
pub(super) fn redirect(request: &Request, route: &Route<'_>, redirect: &Redirect) -> Answer {
    let location = redirect.location(&route.authority(request), request.path_and_query());
    Answer {
        status: redirect.code,
        fields: vec![("Location", location)],
        edits: route.rule.config.response_headers.clone(),
        body: format!("{} {}\n", redirect.code, reason(redirect.code)).into_bytes(),
        close: false,
    }
}

/// A rule's `respond`.
pub(super) fn fixed(route: &Route<'_>, status: u16, body: &str) -> Answer {
    Answer {
        status,
        fields: Vec::new(),
        edits: route.rule.config.response_headers.clone(),
        body: body.as_bytes().to_vec(),
        close: false,
    }
}

/// The answer to a request that failed: short, plain, with the id that its log
/// line has. `Proxy-Status` (RFC 9209) tells a trusted peer the cause.
pub(super) fn error(failure: &Failure, request_id: RequestId<'_>, trusted: bool) -> Answer {
    let status = failure.status();
    let mut fields = Vec::new();
    match failure.cause {
        Cause::Method => {
            fields.push(("Allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_vec()));
        }
        Cause::Limit | Cause::Stopping => fields.push(("Retry-After", b"1".to_vec())),
        _ => {}
    }
    if trusted {
        let value =
            format!("lockgate; error={}; details=\"{}\"", failure.proxy_status(), failure.cause);
        fields.push(("Proxy-Status", value.into_bytes()));
    }
    let reason = reason(status);
    Answer {
        status,
        fields,
        edits: HeaderEdits::default(),
        body: format!("{status} {reason}\nrequest id {request_id}\n").into_bytes(),
        // What follows a CONNECT may be meant for a tunnel.
        close: matches!(
            failure.cause,
            Cause::Malformed | Cause::UriTooLong | Cause::HeaderTooLarge | Cause::Method
        ),
    }
}

/// Writes the whole answer.
pub(super) fn write(
    out: &mut Buffer,
    cx: Cx<'_>,
    answer: &Answer,
    method: Method,
    version: Version,
    keep_alive: bool,
) {
    out.push(b"HTTP/1.1 ");
    out.push_number(u64::from(answer.status));
    out.push(b" ");
    out.push(reason(answer.status).as_bytes());
    out.push(b"\r\n");
    if !is_edited(&answer.edits, b"Date") {
        cx.worker.with_date(|date| push_field(out, b"Date", date.as_bytes()));
    }
    let has_body = !matches!(answer.status, 204 | 304);
    if has_body {
        if !is_edited(&answer.edits, b"Content-Type") {
            push_field(out, b"Content-Type", b"text/plain; charset=utf-8");
        }
        push_length(out, answer.body.len() as u64);
    }
    for (name, value) in &answer.fields {
        if is_edited(&answer.edits, name.as_bytes()) {
            continue;
        }
        push_field(out, name.as_bytes(), value);
    }
    push_edits(out, &answer.edits);
    push_connection(out, version, keep_alive);
    out.push(b"\r\n");
    if has_body && method != Method::Head {
        out.push(&answer.body);
    }
}

impl Answer {
    /// What the client gets of it.
    pub(super) fn outcome(&self, method: Method) -> Outcome {
        let bodiless = matches!(self.status, 204 | 304) || method == Method::Head;
        let sent = if bodiless { 0 } else { self.body.len() as u64 };
        Outcome { status: self.status, sent }
    }
}

/// Writes the log line of a failure.
pub(super) fn log(
    cx: Cx<'_>,
    request: Option<&Request>,
    place: Option<Place<'_>>,
    failure: &Failure,
    request_id: RequestId<'_>,
) {
    if let Some(request) = request {
        request.trace.failed(failure);
    }
    let group = place.and_then(|place| place.group);
    // Scanners and crowds must not hide an outage: what clients do wrong, and what
    // comes before there is a request, has a share of the lines of its own.
    let is_outside = request.is_none() || failure.cause.is_clients();
    let log = if is_outside { &cx.worker.refusals } else { &cx.worker.failures };
    log.write(|| FailureLine {
        request_id,
        status: failure.status(),
        cause: failure.cause.name(),
        phase: failure.phase.name(),
        detail: Cow::Borrowed(&failure.detail),
        client: place.map_or(cx.peer.address.ip(), |place| place.client),
        port: cx.peer.port,
        game: place.map(|place| &*place.listener.game),
        group: group.map(|group| &*group.config.name),
        backend: failure.backend.as_deref(),
        method: request.map(|request| text(request.text(request.head.method_name))),
        host: request.and_then(Request::authority).map(text),
        path: request.map(|request| text(request.path_and_query())),
    });
}

/// What a client wrote, as the log has it.
fn text(bytes: &[u8]) -> String {
    let shown = bytes.get(..LOGGED).unwrap_or(bytes);
    let more = if shown.len() < bytes.len() { "..." } else { "" };
    format!("{}{more}", shown.escape_ascii())
}

/// Logs an attempt that failed and was followed by another, or by an answer all
/// the same.
pub(super) fn log_attempt(cx: Cx<'_>, request: &Request, place: Place<'_>, failure: &Failure) {
    if cx.worker.failures.may_write() {
        tracing::warn!(
            request_id = %request.id(cx.worker),
            cause = %failure.cause,
            phase = %failure.phase.name(),
            detail = Some(&*failure.detail).filter(|detail| !detail.is_empty()),
            client = %place.client,
            game = &*place.listener.game,
            group = place.group.map(|group| &*group.config.name),
            backend = failure.backend.as_deref(),
            method = text(request.text(request.head.method_name)),
            host = request.authority().map(text),
            path = text(request.path_and_query()),
            "attempt failed, the request goes elsewhere"
        );
    }
}

/// The reason phrase of a status lockgate sends itself.
fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Status")
}
