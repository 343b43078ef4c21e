//! Writes the heads that go out: the request's to the backend, the response's
//! to the client. Kept field lines are copied as they came, in runs.
//!
//! What is dropped, what is set and who may ask for it: RFC 9110 7.6.1 for
//! hop-by-hop fields, DESIGN 4.9 for the forwarding fields.

mod copy;

use self::copy::{Run, Sift, copy_lines, first_line};
use super::buffer::Buffer;
use super::message::{Cx, IpText, Request};
use super::route::Route;
use super::sticky::SetCookie;
use crate::config::HeaderEdits;
use crate::http1::{
    Field, Known, Method, RequestFraming, ResponseFraming, ResponseHead, Target, Version,
};
use crate::policy::headers::{ForwardedFields, write_forwarded};
use crate::policy::sticky::cookies::without_ours;
use crate::telemetry::digits::hex;

pub(super) use self::copy::{Line, is_edited};

/// Both ways (RFC 6455 4.1 and 4.2.2).
const UPGRADE: &[u8] = b"Connection: Upgrade\r\nUpgrade: websocket\r\n";

/// The name lockgate has in `Via`.
const VIA: &[u8] = b"lockgate";

/// Writes the head of an attempt.
pub(super) fn write_request(
    out: &mut Buffer,
    cx: Cx<'_>,
    request: &Request,
    route: &Route<'_>,
    keepalive: bool,
) {
    let line = write_request_line(out, request);
    let absolute = matches!(request.head.form, Target::Absolute { .. });
    if absolute || request.head.host.is_none() {
        write_host(out, request, route);
    }
    let listener = &route.listener.config;
    let trusted = !listener.trusted_proxies.is_empty()
        && listener.trusted_proxies.contains(cx.peer.address.ip());
    let forwarded = listener.forwarded;
    let edits = &route.rule.config.request_headers;
    let head = request.bytes.filled();
    let sift = Sift::of(head, &request.fields, request.head.nominated, edits);
    let cookies = &route.listener.cookies;
    let begins_trace = forwarded.contains(ForwardedFields::TRACEPARENT)
        && request.trace_id(Some(edits)).is_none()
        && !edits.set.iter().any(|(name, _)| name.eq_ignore_ascii_case("traceparent"));
    copy_lines(out, head, line, &request.fields, |field| {
        let keep = match field.known {
            Known::Other
            | Known::Cookie
            | Known::Trailer
            | Known::Date
            | Known::Server
            | Known::SetCookie
            | Known::XAccel => true,
            Known::Host => !absolute,
            // An HTTP/1.0 client can't wait for a 100 (RFC 9110 10.1.1).
            Known::Expect => request.head.version == Version::Http11,
            Known::Via => !forwarded.contains(ForwardedFields::VIA),
            Known::XRequestId => !forwarded.contains(ForwardedFields::REQUEST_ID),
            // What is invalid takes the state with it (W3C Trace Context 4.3).
            Known::Traceparent | Known::Tracestate => !begins_trace,
            Known::Forwarded => trusted && !forwarded.contains(ForwardedFields::FORWARDED),
            Known::XForwardedProto
            | Known::XForwardedHost
            | Known::XForwardedPort
            | Known::XForwardedClientSrcport => trusted,
            // Written anew: framing, the list of addresses. Never passed on:
            // what belongs to the client's connection, and look-alikes.
            _ => false,
        };
        if !keep || sift.drops(field) {
            return Line::Drop;
        }
        if field.known != Known::Cookie || cookies.is_empty() {
            return Line::Keep;
        }
        match without_ours(field.value.of(head), cookies) {
            None => Line::Keep,
            Some(rest) if rest.is_empty() => Line::Drop,
            Some(rest) => Line::Instead(rest),
        }
    });
    write_connection(out, request, keepalive);
    write_forwarding(out, cx, request, route, trusted);
    if begins_trace {
        write_traceparent(out, request.begin_trace(cx.worker));
    }
    push_edits(out, edits);
    out.push(b"\r\n");
}

/// The request line: the client's own whenever it says the same. That is not
/// written here but given, to be copied with the fields behind it.
fn write_request_line(out: &mut Buffer, request: &Request) -> Run {
    let head = &request.head;
    let line = first_line(head.len, &request.fields);
    let absolute = matches!(head.form, Target::Absolute { .. });
    if !absolute && head.version == Version::Http11 {
        return line;
    }
    out.push(request.text(head.method_name));
    out.push(b" ");
    let path = request.path_and_query();
    if absolute && !path.starts_with(b"/") {
        // RFC 9112 3.2.4: OPTIONS without a path means the server itself.
        out.push(if head.method == Method::Options && path.is_empty() { b"*" } else { b"/" });
    }
    out.push(path);
    out.push(b" HTTP/1.1\r\n");
    line.end..line.end
}

/// `Host`, where the client's own is replaced or missing (HTTP/1.0).
fn write_host(out: &mut Buffer, request: &Request, route: &Route<'_>) {
    push_field(out, b"Host", &route.authority(request));
}

/// What is about the backend's connection, and about the body on it.
#[inline]
fn write_connection(out: &mut Buffer, request: &Request, keepalive: bool) {
    match request.head.framing {
        RequestFraming::None => {}
        RequestFraming::Length(length) => push_length(out, length),
        RequestFraming::Chunked => out.push(b"Transfer-Encoding: chunked\r\n"),
    }
    match (request.head.te_trailers, keepalive) {
        _ if request.websocket => out.push(UPGRADE),
        (true, true) => out.push(b"TE: trailers\r\nConnection: TE\r\n"),
        (true, false) => out.push(b"TE: trailers\r\nConnection: TE, close\r\n"),
        (false, false) => out.push(b"Connection: close\r\n"),
        (false, true) => {}
    }
}

/// The fields that tell the backend who asks.
fn write_forwarding(
    out: &mut Buffer,
    cx: Cx<'_>,
    request: &Request,
    route: &Route<'_>,
    trusted: bool,
) {
    let set = route.listener.config.forwarded;
    let wants =
        |field, known| set.contains(field) && !(trusted && request.all(known).next().is_some());
    out.push(b"X-Forwarded-For: ");
    push_list(out, request, Known::XForwardedFor);
    out.push(cx.peer.ip.as_bytes());
    out.push(b"\r\n");
    if wants(ForwardedFields::PROTO, Known::XForwardedProto) {
        out.push(&route.port.forwarded_proto);
    }
    if wants(ForwardedFields::PORT, Known::XForwardedPort) {
        out.push(&route.port.forwarded_port);
    }
    if wants(ForwardedFields::HOST, Known::XForwardedHost)
        && let Some(host) = request.authority()
    {
        push_line(out, b"X-Forwarded-Host: ", host);
    }
    if set.contains(ForwardedFields::REAL_IP) {
        let given = (route.client != cx.peer.address.ip()).then(|| IpText::of(route.client));
        push_line(out, b"X-Real-IP: ", given.as_ref().unwrap_or(&cx.peer.ip).as_bytes());
    }
    if wants(ForwardedFields::CLIENT_SRCPORT, Known::XForwardedClientSrcport) {
        out.push(b"X-Forwarded-Client-srcport: ");
        out.push_number(u64::from(cx.peer.address.port()));
        out.push(b"\r\n");
    }
    if set.contains(ForwardedFields::FORWARDED) {
        write_rfc7239(out, cx, request, trusted);
    }
    if set.contains(ForwardedFields::REQUEST_ID) {
        request.id(cx.worker).with_bytes(|id| push_line(out, b"X-Request-Id: ", id));
    }
    if set.contains(ForwardedFields::VIA) {
        out.push(b"Via: ");
        push_list(out, request, Known::Via);
        out.push(if request.head.version == Version::Http11 { b"1.1 " } else { b"1.0 " });
        out.push(VIA);
        out.push(b"\r\n");
    }
}

/// `traceparent` of a trace that begins here, and is to be recorded.
fn write_traceparent(out: &mut Buffer, [high, low, parent]: [u64; 3]) {
    let [high, low, parent] = [high, low, parent].map(hex);
    for part in [b"traceparent: 00-", &high[..], &low, b"-", &parent, b"-01\r\n"] {
        out.push(part);
    }
}

/// `Forwarded`, behind what a trusted proxy wrote.
fn write_rfc7239(out: &mut Buffer, cx: Cx<'_>, request: &Request, trusted: bool) {
    out.push(b"Forwarded: ");
    if trusted {
        push_list(out, request, Known::Forwarded);
    }
    let proto = if cx.peer.tls.is_some() { "https" } else { "http" };
    let mut element = Vec::with_capacity(96);
    write_forwarded(
        &mut element,
        cx.peer.address.ip(),
        proto,
        request.authority().unwrap_or_default(),
    );
    out.push(&element);
    out.push(b"\r\n");
}

/// The values of a list field, each followed by a comma.
fn push_list(out: &mut Buffer, request: &Request, known: Known) {
    for field in request.all(known) {
        let value = request.text(field.value);
        if !value.is_empty() {
            out.push(value);
            out.push(b", ");
        }
    }
}

/// How a response goes to an HTTP/1 client.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseForm {
    /// The client's version.
    pub(super) version: Version,
    /// Sent chunked.
    pub(super) chunked: bool,
    /// The connection stays open afterwards.
    pub(super) keep_alive: bool,
}

/// What lockgate itself has to say in the head of a backend's response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Additions<'a> {
    /// The rule's.
    pub(super) edits: &'a HeaderEdits,
    /// The sticky group's.
    pub(super) cookie: SetCookie<'a>,
}

/// Writes the head of a backend's response for the client.
pub(super) fn write_response(
    out: &mut Buffer,
    cx: Cx<'_>,
    head: &[u8],
    fields: &[Field],
    response: &ResponseHead,
    additions: &Additions<'_>,
    form: ResponseForm,
) {
    let line = write_status_line(out, head, fields, response);
    let Additions { edits, cookie } = additions;
    let kept = ResponseFields::of(head, fields, response, edits);
    copy_lines(out, head, line, fields, |field| match kept.keeps(field) {
        true => cookie.line(head, field),
        false => Line::Drop,
    });
    if !response.has_date && !is_edited(edits, b"Date") {
        cx.worker.with_date(|date| push_field(out, b"Date", date.as_bytes()));
    }
    if form.chunked {
        out.push(b"Transfer-Encoding: chunked\r\n");
    }
    if response.status == 101 {
        out.push(UPGRADE);
    } else {
        push_connection(out, form.version, form.keep_alive);
    }
    if let Some(parts) = cookie.inserted() {
        out.push(b"Set-Cookie: ");
        parts.into_iter().for_each(|part| out.push(part));
        out.push(b"\r\n");
    }
    push_edits(out, edits);
    out.push(b"\r\n");
}

/// Writes an interim (1xx) response as it came, less what is hop-by-hop.
pub(super) fn write_interim(
    out: &mut Buffer,
    head: &[u8],
    fields: &[Field],
    response: &ResponseHead,
) {
    let line = write_status_line(out, head, fields, response);
    let edits = HeaderEdits::default();
    let kept = ResponseFields::of(head, fields, response, &edits);
    copy_lines(out, head, line, fields, |field| match kept.keeps(field) {
        true => Line::Keep,
        false => Line::Drop,
    });
    out.push(b"\r\n");
}

/// The status line: the backend's own whenever it says the same, as
/// [`write_request_line`] does it.
fn write_status_line(
    out: &mut Buffer,
    head: &[u8],
    fields: &[Field],
    response: &ResponseHead,
) -> Run {
    let line = first_line(response.len, fields);
    // Without a reason some leave the space before it out.
    const REASON: usize = b"HTTP/1.1 200 ".len();
    if response.version == Version::Http11 && response.reason.start as usize == REASON {
        return line;
    }
    out.push(b"HTTP/1.1 ");
    out.push_number(u64::from(response.status));
    out.push(b" ");
    out.push(response.reason.of(head));
    out.push(b"\r\n");
    line.end..line.end
}

/// The fields of a response that go to the client.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseFields<'a> {
    fields: &'a [Field],
    keeps_length: bool,
    sift: Sift<'a>,
}

impl<'a> ResponseFields<'a> {
    pub(super) fn of(
        head: &'a [u8],
        fields: &'a [Field],
        response: &ResponseHead,
        edits: &'a HeaderEdits,
    ) -> ResponseFields<'a> {
        let keeps_length = match response.framing {
            ResponseFraming::Length(_) => true,
            // The length a GET would have had, or of what a 304 stands for.
            ResponseFraming::None => response.status >= 200 && response.status != 204,
            _ => false,
        };
        let sift = Sift::of(head, fields, response.nominated, edits);
        ResponseFields { fields, keeps_length, sift }
    }

    /// At most so many are kept.
    pub(super) fn most(&self) -> usize {
        self.fields.len()
    }

    /// Those fields, in order.
    pub(super) fn iter(self) -> impl Iterator<Item = &'a Field> {
        self.fields.iter().filter(move |field| self.keeps(field))
    }

    #[inline]
    fn keeps(&self, field: &Field) -> bool {
        let keep = match field.known {
            Known::ContentLength => self.keeps_length,
            Known::TransferEncoding
            | Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::ProxyAuthenticate
            | Known::ProxyAuthenticationInfo
            | Known::Te
            | Known::Upgrade
            | Known::XAccel => false,
            _ => true,
        };
        keep && !self.sift.drops(field)
    }
}

/// `Connection`, where the version's default is not what is meant.
pub(super) fn push_connection(out: &mut Buffer, version: Version, keep_alive: bool) {
    match (version, keep_alive) {
        (Version::Http11, true) => {}
        (Version::Http10, true) => out.push(b"Connection: keep-alive\r\n"),
        (_, false) => out.push(b"Connection: close\r\n"),
    }
}

/// `Name: value`, where the name is known in advance: `start` is `Name: `.
#[inline(always)]
fn push_line<const N: usize>(out: &mut Buffer, start: &[u8; N], value: &[u8]) {
    out.push(start);
    out.push(value);
    out.push(b"\r\n");
}

/// `Name: value`.
pub(super) fn push_field(out: &mut Buffer, name: &[u8], value: &[u8]) {
    out.push(name);
    out.push(b": ");
    out.push(value);
    out.push(b"\r\n");
}

/// `Content-Length`.
pub(super) fn push_length(out: &mut Buffer, length: u64) {
    out.push(b"Content-Length: ");
    out.push_number(length);
    out.push(b"\r\n");
}

/// The fields a rule sets.
pub(super) fn push_edits(out: &mut Buffer, edits: &HeaderEdits) {
    for (name, value) in &edits.set {
        push_field(out, name.as_bytes(), value.as_bytes());
    }
}
