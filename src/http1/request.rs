//! The head of a request (RFC 9112 3 and 5).

use memchr::memchr;

use super::fields::{Field, Known, Span, elements};
use super::head::{
    HeadError, HeadLimits, Method, RequestFraming, RequestHead, Target, Version, Wire, check_end,
};
use super::lines::{check_size, read_fields, target_len};
use super::scan::Scan;
use super::target::{target_form, valid_host};

/// Longest method; the longest registered one has 17 letters.
pub(super) const MAX_METHOD: usize = 32;

/// Looks at what arrived of a request: everything so far, from the same start each time.
///
/// `Ok(Some((start, head)))`: the head is there. It begins at `start`, after 0 only when empty
/// lines preceded it, and all its positions count from there. `Ok(None)`: more bytes are needed.
///
/// `fields` is emptied first; handing in the same one each time costs no allocation.
pub fn receive_request(
    scan: &mut Scan,
    bytes: &[u8],
    limits: &HeadLimits,
    fields: &mut Vec<Field>,
) -> Result<Option<(usize, RequestHead)>, HeadError> {
    if scan.is_unused()
        && let Some(head) = read_at_once(bytes, limits, fields)
    {
        return Ok(Some((0, head)));
    }
    let Some(range) = scan.advance(bytes, limits)? else { return Ok(None) };
    let start = range.start;
    let head = parse_request(bytes.get(range).unwrap_or_default(), limits, fields)?;
    Ok(Some((start, head)))
}

/// A good head that is there as a whole, whatever stands behind it: most are. `None`: it is not, or
/// [`Scan`] may have to say something first.
fn read_at_once(bytes: &[u8], limits: &HeadLimits, fields: &mut Vec<Field>) -> Option<RequestHead> {
    fields.clear();
    let (line, from) = request_line(bytes, limits).ok()?;
    let end = read_fields(bytes, from, limits, fields).ok()?;
    let head = bytes.get(..end)?;
    check_size(head, from, limits).ok()?;
    judge(head, line, fields).ok()
}

/// Reads a head that [`Scan`] delimited: exactly the head, no byte before or after.
///
/// `fields` is emptied first; handing in the same one each time costs no allocation.
pub fn parse_request(
    head: &[u8],
    limits: &HeadLimits,
    fields: &mut Vec<Field>,
) -> Result<RequestHead, HeadError> {
    fields.clear();
    let (line, from) = request_line(head, limits)?;
    check_size(head, from, limits)?;
    let end = read_fields(head, from, limits, fields)?;
    check_end(head, end)?;
    judge(head, line, fields)
}

/// As [`parse_request`], for a head that was written here and not received: `fields` are its lines,
/// each a [`Field::line`] of a name and a value that are valid by themselves.
pub fn judge_request(
    head: &[u8],
    limits: &HeadLimits,
    fields: &[Field],
) -> Result<RequestHead, HeadError> {
    let (line, from) = request_line(head, limits)?;
    check_size(head, from, limits)?;
    if fields.len() > limits.fields {
        return Err(HeadError::TooManyFields);
    }
    judge(head, line, fields)
}

/// What the head means; the bytes of its fields are valid.
fn judge(head: &[u8], line: RequestLine, fields: &[Field]) -> Result<RequestHead, HeadError> {
    let len = u32::try_from(head.len()).map_err(|_| HeadError::FieldsTooLarge)?;
    let RequestLine { method, method_name, target, form, version } = line;
    let mut wire = Wire::default();
    let mut host = None;
    let mut expect_continue = false;
    let mut te_trailers = false;
    for field in fields.iter() {
        match field.known {
            Known::Host => {
                if host.replace(field.value).is_some() {
                    return Err(HeadError::Malformed("more than one Host"));
                }
                if !valid_host(field.value.of(head)) {
                    return Err(HeadError::Malformed("invalid Host"));
                }
            }
            Known::Expect => {
                expect_continue |= field.value.of(head).eq_ignore_ascii_case(b"100-continue");
            }
            Known::Te => {
                te_trailers |= elements(field.value.of(head))
                    .any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
            }
            Known::ContentLength | Known::TransferEncoding | Known::Connection => {
                wire.take(field.known, field.value.of(head))?;
            }
            _ => {}
        }
    }
    wire.finish(version)?;
    if host.is_none() && version == Version::Http11 {
        return Err(HeadError::Malformed("no Host"));
    }

    let framing = match wire.length {
        _ if wire.chunked => RequestFraming::Chunked,
        Some(length) => RequestFraming::Length(length),
        None => RequestFraming::None,
    };
    Ok(RequestHead {
        method,
        method_name,
        target,
        form,
        version,
        host,
        framing,
        keep_alive: wire.persists(version),
        expect_continue: expect_continue && version == Version::Http11,
        te_trailers,
        nominated: wire.nominated,
        len,
    })
}

#[derive(Clone, Copy)]
struct RequestLine {
    method: Method,
    method_name: Span,
    target: Span,
    form: Target,
    version: Version,
}

/// `method SP request-target SP HTTP-version CRLF` (RFC 9112 3), exactly one SP each, at the start
/// of `head`; with the position behind it.
fn request_line(head: &[u8], limits: &HeadLimits) -> Result<(RequestLine, usize), HeadError> {
    let (method, space) = method(head)?;
    let start = space + 1;
    let rest = head.get(start..).unwrap_or_default();
    let len = target_len(rest);
    let behind = rest.get(len..).unwrap_or_default();
    let version = if behind.starts_with(b" HTTP/1.1\r\n") {
        Version::Http11
    } else if behind.starts_with(b" HTTP/1.0\r\n") {
        Version::Http10
    } else {
        return Err(no_target(rest, limits));
    };
    if len > limits.target {
        return Err(HeadError::TargetTooLong);
    }
    if len == 0 {
        return Err(HeadError::Malformed("invalid request target"));
    }
    let target = Span::new(start, start + len);
    let line = RequestLine {
        method,
        method_name: Span::new(0, space),
        target,
        form: target_form(head, target, method)?,
        version,
    };
    Ok((line, start + len + b" HTTP/1.1\r\n".len()))
}

/// The method at the start of `head`, and where the space behind it is.
fn method(head: &[u8]) -> Result<(Method, usize), HeadError> {
    if head.starts_with(b"GET ") {
        return Ok((Method::Get, 3));
    }
    let space = head.iter().take(MAX_METHOD + 1).position(|&byte| byte == b' ');
    let name = space.and_then(|space| head.get(..space)).unwrap_or_default();
    match Method::of(name) {
        Method::Other if !valid_method(name) => Err(HeadError::Malformed("invalid method")),
        method => Ok((method, name.len())),
    }
}

/// Why `rest`, all that follows the method, does not begin with a target and a version: what stands
/// at the end of the line is the version, so that what is wrong lies in the one or in the other.
#[cold]
fn no_target(rest: &[u8], limits: &HeadLimits) -> HeadError {
    let Some(lf) = memchr(b'\n', rest) else { return HeadError::Malformed("incomplete head") };
    let Some(line) = rest.get(..lf).and_then(|line| line.strip_suffix(b"\r")) else {
        return HeadError::Malformed("bare LF");
    };
    match line.split_last_chunk() {
        Some((target, b" HTTP/1.1" | b" HTTP/1.0")) if target.len() > limits.target => {
            HeadError::TargetTooLong
        }
        Some((_, b" HTTP/1.1" | b" HTTP/1.0")) => HeadError::Malformed("invalid request target"),
        _ => HeadError::Malformed("invalid version"),
    }
}

/// Narrower than `token` (RFC 9110 9.1) on purpose: every registered method fits, and a lower-case
/// `get` is a different method that some servers take for GET.
fn valid_method(name: &[u8]) -> bool {
    name.first().is_some_and(u8::is_ascii_uppercase)
        && name.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_'))
}
