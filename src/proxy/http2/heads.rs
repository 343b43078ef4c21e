//! Heads between HTTP/2 and what the rest of the proxy speaks.
//!
//! A request is written as an HTTP/1 head and judged by the same rules as every
//! other: whatever HTTP/2 can express and HTTP/1 can't (a second Host) is
//! refused there, and nothing behind it learns a second grammar. Its lines are
//! not parsed again: where they lie is known from writing them, and that no
//! name or value holds a line end is what their types stand for.

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{
    CONTENT_LENGTH, COOKIE, DATE, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SERVER, SET_COOKIE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::config::HeaderEdits;
use crate::http1::{
    self, Field, HeadError, HeadLimits, Known, RequestFraming, ResponseHead, judge_request,
    parse_request, parse_response,
};
use crate::proxy::buffer::{Buffer, FieldList};
use crate::proxy::error::{Cause, Failure, Phase};
use crate::proxy::headers::{self, Additions, Line, ResponseFields};
use crate::proxy::message::{Cx, Request};
use crate::proxy::respond::{self, Answer};
use crate::proxy::sticky::SetCookie;

/// `Sec-WebSocket-Key` of a WebSocket begun by RFC 8441, which has none: the
/// backend wants 16 bytes in base64, and nobody checks its answer to it.
const KEY: &[u8] = b"bG9ja2dhdGUgUkZDODQ0MQ==";

/// The request of a stream. `has_body`: the stream did not end with its head.
pub(super) fn request(
    parts: &Parts,
    has_body: bool,
    limits: &HeadLimits,
) -> Result<Request, Failure> {
    let mut head = HeadWriter { text: Buffer::small(), fields: FieldList::take() };
    write_request(&mut head, parts, has_body)?;
    let target = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    if target > limits.target {
        return Err(Failure::new(Cause::UriTooLong, Phase::Request));
    }
    let HeadWriter { text, fields } = head;
    let judged = judge_request(text.filled(), limits, &fields).map_err(refused)?;
    // A connection may have many requests under way.
    Ok(Request::new(text.fitted(), fields, judged).framed_by_http2())
}

/// A head that is written, and where its lines lie.
struct HeadWriter {
    text: Buffer,
    fields: FieldList,
}

impl HeadWriter {
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.fields.as_mut().push(Field::line(self.text.len(), name, value));
        headers::push_field(&mut self.text, name, value);
    }
}

fn refused(error: HeadError) -> Failure {
    let cause = match error {
        HeadError::TargetTooLong => Cause::UriTooLong,
        HeadError::FieldsTooLarge | HeadError::TooManyFields => Cause::HeaderTooLarge,
        HeadError::Malformed(_) => Cause::Malformed,
    };
    Failure::because(cause, Phase::Request, error)
}

fn write_request(head: &mut HeadWriter, parts: &Parts, has_body: bool) -> Result<(), Failure> {
    let malformed = |why: &str| Failure::because(Cause::Malformed, Phase::Request, why);
    let websocket = match (&parts.method, parts.extensions.get::<Protocol>()) {
        (&Method::CONNECT, Some(protocol)) if protocol.as_str() == "websocket" => true,
        // A tunnel to somewhere, or a protocol we do not know (RFC 8441 4).
        (&Method::CONNECT, _) => return Err(Failure::new(Cause::Method, Phase::Request)),
        (_, None) => false,
        (_, Some(_)) => return Err(malformed(":protocol without CONNECT")),
    };
    head.text.push(if websocket { b"GET" } else { parts.method.as_str().as_bytes() });
    head.text.push(b" ");
    head.text.push(parts.uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
    head.text.push(b" HTTP/1.1\r\n");
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = authority.or_else(|| Some(parts.headers.get(HOST)?.as_bytes()));
    let host = host.ok_or_else(|| malformed("neither :authority nor Host"))?;
    head.field(b"Host", host);
    let (mut hosts, mut has_cookies, mut has_length) = (0, false, false);
    // One pass: to look for each of these names would cost more than the pass.
    for (name, value) in &parts.headers {
        if name == HOST {
            hosts += 1;
            // RFC 9113 8.3.1: both may be there if they say the same.
            if hosts > 1 {
                return Err(malformed("more than one Host"));
            }
            if value.as_bytes() != host {
                return Err(malformed(":authority and Host differ"));
            }
        } else if name == COOKIE {
            has_cookies = true;
        } else if websocket && name == SEC_WEBSOCKET_KEY {
            // A key of the client's own would stand beside ours.
        } else {
            has_length |= name == CONTENT_LENGTH;
            head.field(name.as_str().as_bytes(), value.as_bytes());
        }
    }
    if has_cookies {
        write_cookies(head, &parts.headers);
    }
    if websocket {
        head.field(b"Connection", b"Upgrade");
        head.field(b"Upgrade", b"websocket");
        head.field(b"Sec-WebSocket-Key", KEY);
    } else if has_body && !has_length {
        head.field(b"Transfer-Encoding", b"chunked");
    }
    head.text.push(b"\r\n");
    Ok(())
}

/// RFC 9113 8.2.3: the crumbs of a Cookie are one field again.
fn write_cookies(head: &mut HeadWriter, map: &HeaderMap) {
    let mut crumbs = map.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    match (crumbs.next(), crumbs.next()) {
        (Some(only), None) => head.field(b"cookie", only),
        _ => {
            let crumbs: Vec<&[u8]> =
                map.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
            head.field(b"cookie", &crumbs.join(&b"; "[..]));
        }
    }
}

/// The head of a backend's response for the client.
pub(super) fn response(
    cx: Cx<'_>,
    head: &[u8],
    fields: &[Field],
    response: &ResponseHead,
    additions: &Additions<'_>,
) -> Option<Response<()>> {
    let Additions { edits, cookie } = additions;
    let kept = ResponseFields::of(head, fields, response, edits);
    let mut map = map_of(head, &kept, cookie)?;
    if !response.has_date && !headers::is_edited(edits, b"Date") {
        cx.worker.with_date(|date| {
            if let Ok(date) = HeaderValue::from_str(date) {
                map.insert(DATE, date);
            }
        });
    }
    if let Some(parts) = cookie.inserted() {
        map.append(SET_COOKIE, HeaderValue::from_maybe_shared(Bytes::from(parts.concat())).ok()?);
    }
    for (name, value) in &edits.set {
        // They were checked when the configuration was read.
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            map.append(name, value);
        }
    }
    // A WebSocket begins with 200 here, and without the answer to a key that the
    // client never sent (RFC 8441 5).
    let status = if response.status == 101 { 200 } else { response.status };
    if response.status == 101 {
        map.remove(SEC_WEBSOCKET_ACCEPT);
    }
    finished(status, map)
}

/// An interim response likewise.
pub(super) fn interim(
    head: &[u8],
    fields: &[Field],
    response: &ResponseHead,
) -> Option<Response<()>> {
    let edits = HeaderEdits::default();
    let kept = ResponseFields::of(head, fields, response, &edits);
    finished(response.status, map_of(head, &kept, &SetCookie::None)?)
}

/// An answer of lockgate's own: its head, and its body's bytes.
pub(super) fn answer(
    cx: Cx<'_>,
    answer: &Answer,
    method: http1::Method,
) -> Option<(Response<()>, Vec<u8>)> {
    let mut text = Buffer::small();
    respond::write(&mut text, cx, answer, method, http1::Version::Http11, true);
    let bytes = text.filled();
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")? + 4;
    let (head, body) = bytes.split_at_checked(end)?;
    let mut fields = FieldList::take();
    let limits = HeadLimits { fields_size: usize::MAX, ..HeadLimits::default() };
    let parsed = parse_response(head, &limits, method, fields.as_mut()).ok()?;
    let edits = HeaderEdits::default();
    let kept = ResponseFields::of(head, &fields, &parsed, &edits);
    Some((finished(parsed.status, map_of(head, &kept, &SetCookie::None)?)?, body.to_vec()))
}

/// A request's head for an HTTP/2 backend, made of what an HTTP/1 backend
/// would get; true with it: there is no body.
pub(super) fn to_backend(head: &[u8], request: &Request) -> Option<(http::Request<()>, bool)> {
    let mut fields = FieldList::take();
    let limits = HeadLimits { target: usize::MAX, fields_size: usize::MAX, fields: usize::MAX };
    let parsed = parse_request(head, &limits, fields.as_mut()).ok()?;
    let target = std::str::from_utf8(parsed.target.of(head)).ok()?;
    let authority = std::str::from_utf8(parsed.host?.of(head)).ok()?;
    let uri = http::Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(target)
        .build()
        .ok()?;
    let shared = Bytes::copy_from_slice(head);
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields.iter().filter(|field| http2_takes(field.known)) {
        let value = field.value.start as usize..field.value.end as usize;
        map.append(
            HeaderName::from_bytes(field.name.of(head)).ok()?,
            HeaderValue::from_maybe_shared(shared.slice(value)).ok()?,
        );
    }
    if parsed.te_trailers {
        map.insert(http::header::TE, HeaderValue::from_static("trailers"));
    }
    let mut outgoing = http::Request::new(());
    *outgoing.method_mut() = Method::from_bytes(parsed.method_name.of(head)).ok()?;
    *outgoing.uri_mut() = uri;
    *outgoing.headers_mut() = map;
    *outgoing.version_mut() = http::Version::HTTP_2;
    let bodiless = matches!(request.head.framing, RequestFraming::None | RequestFraming::Length(0));
    Some((outgoing, bodiless))
}

/// RFC 9113 8.2.2: nothing that speaks of one HTTP/1 connection.
fn http2_takes(known: Known) -> bool {
    !matches!(
        known,
        Known::Host
            | Known::Connection
            | Known::TransferEncoding
            | Known::Te
            | Known::Upgrade
            | Known::KeepAlive
            | Known::ProxyConnection
    )
}

/// The head of an HTTP/2 backend's response as HTTP/1 writes it, to be read by
/// the one parser of responses. `bodiless`: the exchange ended with it.
pub(super) fn from_backend(out: &mut Buffer, parts: &http::response::Parts, bodiless: bool) {
    out.push(b"HTTP/1.1 ");
    out.push_number(u64::from(parts.status.as_u16()));
    out.push(b" \r\n");
    for (name, value) in &parts.headers {
        headers::push_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    if bodiless && !parts.headers.contains_key(CONTENT_LENGTH) {
        out.push(b"content-length: 0\r\n");
    }
    out.push(b"\r\n");
}

/// One copy of the head for all values together.
fn map_of(head: &[u8], kept: &ResponseFields<'_>, cookie: &SetCookie<'_>) -> Option<HeaderMap> {
    let shared = Bytes::copy_from_slice(head);
    let mut map = HeaderMap::with_capacity(kept.most());
    for field in kept.iter() {
        let value = match cookie.line(head, field) {
            Line::Keep => shared.slice(field.value.start as usize..field.value.end as usize),
            Line::Instead(value) => Bytes::from(value),
            Line::Drop => continue,
        };
        map.append(name_of(field, head)?, HeaderValue::from_maybe_shared(value).ok()?);
    }
    Some(map)
}

/// The name of a response's field; those that are known already and come with
/// nearly every response are not looked up again.
fn name_of(field: &Field, head: &[u8]) -> Option<HeaderName> {
    match field.known {
        Known::ContentLength => Some(CONTENT_LENGTH),
        Known::Date => Some(DATE),
        Known::Server => Some(SERVER),
        Known::SetCookie => Some(SET_COOKIE),
        _ => HeaderName::from_bytes(field.name.of(head)).ok(),
    }
}

fn finished(status: u16, map: HeaderMap) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    *response.headers_mut() = map;
    Some(response)
}

/// Trailers as HTTP/1 writes them: lines, then an empty one.
pub(super) fn trailer_lines(map: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::with_capacity(map.len() * 32);
    for (name, value) in map {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            lines.extend_from_slice(part);
        }
    }
    lines.extend_from_slice(b"\r\n");
    lines
}

/// Trailers from such lines.
pub(super) fn trailer_map(section: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    let mut fields = FieldList::take();
    let limits =
        HeadLimits { fields_size: usize::MAX, fields: usize::MAX, ..HeadLimits::default() };
    if http1::parse_trailers(section, &limits, fields.as_mut()).is_err() {
        return map;
    }
    for field in fields.iter() {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(field.name.of(section)),
            HeaderValue::from_bytes(field.value.of(section)),
        ) {
            map.append(name, value);
        }
    }
    map
}
