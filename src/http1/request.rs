//! The head of a request (RFC 9112 3 and 5).

use memchr::memchr;

use super::fields::{Field, Known, Span, elements};
use super::head::{
    HeadError, HeadLimits, Method, RequestFraming, RequestHead, Target, Version, Wire,
};
use super::target::{target_form, valid_host};
use super::trailers::{check_size, read_fields};

/// Longest method; the longest registered one has 17 letters.
pub(super) const MAX_METHOD: usize = 32;

/// Reads a head that [`Scan`](super::Scan) delimited: exactly the head, no byte before or after.
///
/// `fields` is emptied first; handing in the same one each time costs no allocation.
pub fn parse_request(
    head: &[u8],
    limits: &HeadLimits,
    fields: &mut Vec<Field>,
) -> Result<RequestHead, HeadError> {
    fields.clear();
    let (line, section) = read_line(head, limits)?;
    read_fields(head, section, limits, fields)?;
    judge(head, line, fields)
}

/// As [`parse_request`], for a head that was written here and not received: `fields` are its lines,
/// each a [`Field::line`] of a name and a value that are valid by themselves.
pub fn judge_request(
    head: &[u8],
    limits: &HeadLimits,
    fields: &[Field],
) -> Result<RequestHead, HeadError> {
    let (line, section) = read_line(head, limits)?;
    check_size(head, section, limits)?;
    if fields.len() > limits.fields {
        return Err(HeadError::TooManyFields);
    }
    judge(head, line, fields)
}

/// The request line, and the field lines behind it.
fn read_line<'a>(
    head: &'a [u8],
    limits: &HeadLimits,
) -> Result<(RequestLine, &'a [u8]), HeadError> {
    let (line, section) = split_first_line(head)?;
    Ok((request_line(line, limits)?, section))
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

/// `method SP request-target SP HTTP-version` (RFC 9112 3), exactly one SP each.
fn request_line(line: &[u8], limits: &HeadLimits) -> Result<RequestLine, HeadError> {
    let space = line
        .iter()
        .take(MAX_METHOD + 1)
        .position(|&byte| byte == b' ')
        .ok_or(HeadError::Malformed("invalid method"))?;
    let name = line.get(..space).unwrap_or_default();
    let method = Method::of(name);
    if method == Method::Other && !valid_method(name) {
        return Err(HeadError::Malformed("invalid method"));
    }
    let rest = line.get(space + 1..).unwrap_or_default();
    let (target, version) = rest
        .split_last_chunk::<9>()
        .and_then(|(target, [space, version @ ..])| {
            (*space == b' ').then_some((target, Version::of(version)?))
        })
        .ok_or(HeadError::Malformed("invalid version"))?;
    if target.len() > limits.target {
        return Err(HeadError::TargetTooLong);
    }
    if target.is_empty() || !valid_target(target) {
        return Err(HeadError::Malformed("invalid request target"));
    }
    let start = space + 1;
    let target = Span::new(start, start + target.len());
    Ok(RequestLine {
        method,
        method_name: Span::new(0, space),
        target,
        form: target_form(line, target, method)?,
        version,
    })
}

/// Narrower than `token` (RFC 9110 9.1) on purpose: every registered method fits, and a lower-case
/// `get` is a different method that some servers take for GET.
fn valid_method(name: &[u8]) -> bool {
    name.first().is_some_and(u8::is_ascii_uppercase)
        && name.iter().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_'))
}

/// No control, space or DEL, which would end the target for somebody, and no fragment, which never
/// belongs into a request (RFC 9112 3.2). Whatever else is sent passes as it is.
fn valid_target(target: &[u8]) -> bool {
    // One pass without an early exit, so that it is vectorised.
    !target.iter().fold(false, |bad, &byte| bad | (byte <= b' ') | (byte == 0x7f) | (byte == b'#'))
}

/// The first line without its CRLF, and everything after it.
pub(super) fn split_first_line(head: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    let lf = memchr(b'\n', head).ok_or(HeadError::Malformed("incomplete head"))?;
    let (line, rest) = head.split_at_checked(lf + 1).unwrap_or_default();
    let line = line.strip_suffix(b"\r\n").ok_or(HeadError::Malformed("bare LF"))?;
    Ok((line, rest))
}
