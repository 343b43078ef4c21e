//! Heads between HTTP/2 and what the rest of the proxy speaks.
//!
//! A request is written as an HTTP/1 head and read by the same strict parser
//! as every other: whatever HTTP/2 can express and HTTP/1 can't (a line end in
//! a value, a second Host) is refused there, and nothing behind it learns a
//! second grammar.

use bytes::Bytes;
use h2::ext::Protocol;
use http::header::{COOKIE, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::config::HeaderEdits;
use crate::http1::{
    self, Field, HeadError, HeadLimits, Known, RequestFraming, ResponseHead, parse_request,
    parse_response,
};
use crate::proxy::buffer::{Buffer, FieldList};
use crate::proxy::error::{Cause, Failure, Phase};
use crate::proxy::headers::{self, Additions, ResponseFields};
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
    let mut head = Buffer::small();
    write_request(&mut head, parts, has_body)?;
    let target = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    if target > limits.target {
        return Err(Failure::new(Cause::UriTooLong, Phase::Request));
    }
    let mut fields = FieldList::take();
    let parsed = parse_request(head.filled(), limits, fields.as_mut()).map_err(refused)?;
    // A connection may have many requests under way.
    Ok(Request::new(head.fitted(), fields, parsed).framed_by_http2())
}

fn refused(error: HeadError) -> Failure {
    let cause = match error {
        HeadError::TargetTooLong => Cause::UriTooLong,
        HeadError::FieldsTooLarge | HeadError::TooManyFields => Cause::HeaderTooLarge,
        HeadError::Malformed(_) => Cause::Malformed,
    };
    Failure::because(cause, Phase::Request, error)
}

fn write_request(head: &mut Buffer, parts: &Parts, has_body: bool) -> Result<(), Failure> {
    let malformed = |why: &str| Failure::because(Cause::Malformed, Phase::Request, why);
    let websocket = match (&parts.method, parts.extensions.get::<Protocol>()) {
        (&Method::CONNECT, Some(protocol)) if protocol.as_str() == "websocket" => true,
        // A tunnel to somewhere, or a protocol we do not know (RFC 8441 4).
        (&Method::CONNECT, _) => return Err(Failure::new(Cause::Method, Phase::Request)),
        (_, None) => false,
        (_, Some(_)) => return Err(malformed(":protocol without CONNECT")),
    };
    head.push(if websocket { b"GET" } else { parts.method.as_str().as_bytes() });
    head.push(b" ");
    head.push(parts.uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
    head.push(b" HTTP/1.1\r\n");
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut hosts = parts.headers.get_all(HOST).iter();
    match (authority, hosts.next(), hosts.next()) {
        // RFC 9113 8.3.1: both may be there if they say the same.
        (Some(authority), Some(host), None) if authority != host.as_bytes() => {
            return Err(malformed(":authority and Host differ"));
        }
        (_, _, Some(_)) => return Err(malformed("more than one Host")),
        (Some(host), _, _) => headers::push_field(head, b"Host", host),
        (None, Some(host), _) => headers::push_field(head, b"Host", host.as_bytes()),
        (None, None, None) => return Err(malformed("neither :authority nor Host")),
    }
    // A key of the client's own would stand beside ours.
    let skipped = |name: &HeaderName| {
        name == HOST || name == COOKIE || (websocket && name == SEC_WEBSOCKET_KEY)
    };
    for (name, value) in parts.headers.iter().filter(|(name, _)| !skipped(name)) {
        headers::push_field(head, name.as_str().as_bytes(), value.as_bytes());
    }
    write_cookies(head, &parts.headers);
    if websocket {
        head.push(b"Connection: Upgrade\r\nUpgrade: websocket\r\n");
        headers::push_field(head, b"Sec-WebSocket-Key", KEY);
    } else if has_body && !parts.headers.contains_key(http::header::CONTENT_LENGTH) {
        head.push(b"Transfer-Encoding: chunked\r\n");
    }
    head.push(b"\r\n");
    Ok(())
}

/// RFC 9113 8.2.3: the crumbs of a Cookie are one field again.
fn write_cookies(head: &mut Buffer, map: &HeaderMap) {
    let mut crumbs = map.get_all(COOKIE).iter().peekable();
    if crumbs.peek().is_none() {
        return;
    }
    head.push(b"cookie: ");
    while let Some(crumb) = crumbs.next() {
        head.push(crumb.as_bytes());
        head.push(if crumbs.peek().is_some() { b"; " } else { b"\r\n" });
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
                map.insert(http::header::DATE, date);
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
    if bodiless && !parts.headers.contains_key(http::header::CONTENT_LENGTH) {
        out.push(b"content-length: 0\r\n");
    }
    out.push(b"\r\n");
}

/// One copy of the head for all values together.
fn map_of(head: &[u8], kept: &ResponseFields<'_>, cookie: &SetCookie<'_>) -> Option<HeaderMap> {
    let shared = Bytes::copy_from_slice(head);
    let mut map = HeaderMap::with_capacity(16);
    for field in kept.iter() {
        let name = HeaderName::from_bytes(field.name.of(head)).ok()?;
        let value = match cookie.rewritten(head, field) {
            Some(value) => Bytes::from(value),
            None => shared.slice(field.value.start as usize..field.value.end as usize),
        };
        map.append(name, HeaderValue::from_maybe_shared(value).ok()?);
    }
    Some(map)
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
