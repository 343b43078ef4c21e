//! The head of a response (RFC 9112 4 and 6.3).

use super::fields::{Field, Known, Span};
use super::head::{
    HeadError, HeadLimits, Method, ResponseFraming, ResponseHead, Version, Wire, check_end,
    keep_alive_timeout,
};
use super::lines::{check_size, no_line_end, read_fields, text_len};
use super::scan::Scan;

/// Longest status line; no limit is configured for it.
pub(super) const MAX_STATUS_LINE: usize = 8 << 10;

/// It is longer than that.
pub(super) const STATUS_LINE_TOO_LONG: HeadError = HeadError::Malformed("status line too long");

/// Looks at what arrived of a response: everything so far, from the same start each time. `method`
/// is that of the request it answers.
///
/// `Ok(Some(head))`: the head is there, from the first byte. `Ok(None)`: more bytes are needed.
///
/// `fields` is emptied first; handing in the same one each time costs no allocation.
pub fn receive_response(
    scan: &mut Scan,
    bytes: &[u8],
    limits: &HeadLimits,
    method: Method,
    fields: &mut Vec<Field>,
) -> Result<Option<ResponseHead>, HeadError> {
    if scan.is_unused()
        && let Some(head) = read_at_once(bytes, limits, method, fields)
    {
        return Ok(Some(head));
    }
    let Some(range) = scan.advance(bytes, limits)? else { return Ok(None) };
    parse_response(bytes.get(range).unwrap_or_default(), limits, method, fields).map(Some)
}

/// A good head that is there as a whole, whatever stands behind it: most are. `None`: it is not, or
/// [`Scan`] may have to say something first.
fn read_at_once(
    bytes: &[u8],
    limits: &HeadLimits,
    method: Method,
    fields: &mut Vec<Field>,
) -> Option<ResponseHead> {
    fields.clear();
    let (line, from) = status_line(bytes).ok()?;
    let end = read_fields(bytes, from, limits, fields).ok()?;
    let head = bytes.get(..end)?;
    check_size(head, from, limits).ok()?;
    judge(head, line, method, fields).ok()
}

/// Reads a head that [`Scan`] delimited; `method` is that of the request it answers.
///
/// `fields` is emptied first; handing in the same one each time costs no allocation.
pub fn parse_response(
    head: &[u8],
    limits: &HeadLimits,
    method: Method,
    fields: &mut Vec<Field>,
) -> Result<ResponseHead, HeadError> {
    fields.clear();
    let (line, from) = status_line(head)?;
    check_size(head, from, limits)?;
    let end = read_fields(head, from, limits, fields)?;
    check_end(head, end)?;
    judge(head, line, method, fields)
}

/// What the head means; the bytes of its fields are valid.
fn judge(
    head: &[u8],
    line: StatusLine,
    method: Method,
    fields: &[Field],
) -> Result<ResponseHead, HeadError> {
    let len = u32::try_from(head.len()).map_err(|_| HeadError::FieldsTooLarge)?;
    let StatusLine { version, status, reason } = line;
    let mut wire = Wire::default();
    let mut timeout = None;
    let mut has_date = false;
    for field in fields.iter() {
        match field.known {
            Known::Date => has_date = true,
            Known::KeepAlive => timeout = timeout.or(keep_alive_timeout(field.value.of(head))),
            Known::ContentLength | Known::TransferEncoding | Known::Connection => {
                wire.take(field.known, field.value.of(head))?;
            }
            _ => {}
        }
    }
    wire.finish(version)?;

    let framing = framing(status, method, &wire);
    // Whoever announces content where there is none may send it too: no second request behind it.
    let contradicts = status == 204 && (wire.chunked || wire.length.is_some_and(|n| n > 0));
    Ok(ResponseHead {
        status,
        reason,
        version,
        framing,
        keep_alive: wire.persists(version)
            && framing != ResponseFraming::UntilClose
            && !contradicts,
        keep_alive_timeout: timeout,
        has_date,
        nominated: wire.nominated,
        len,
    })
}

/// RFC 9112 6.3, rules 1, 2, 4, 6 and 8; what rules 3 and 5 leave open was refused before.
fn framing(status: u16, method: Method, wire: &Wire) -> ResponseFraming {
    let bodiless = matches!(status, 100..=199 | 204 | 304)
        || method == Method::Head
        || (method == Method::Connect && (200..300).contains(&status));
    match wire.length {
        _ if bodiless => ResponseFraming::None,
        _ if wire.chunked => ResponseFraming::Chunked,
        Some(length) => ResponseFraming::Length(length),
        None => ResponseFraming::UntilClose,
    }
}

#[derive(Clone, Copy)]
struct StatusLine {
    version: Version,
    status: u16,
    reason: Span,
}

/// `HTTP-version SP status-code [ SP [ reason-phrase ] ] CRLF` (RFC 9112 4; many leave the last SP
/// out) at the start of `head`; with the position behind it.
fn status_line(head: &[u8]) -> Result<(StatusLine, usize), HeadError> {
    let (version, rest) = head
        .split_first_chunk::<8>()
        .and_then(|(version, rest)| Some((Version::of(version)?, rest)))
        .ok_or(HeadError::Malformed("invalid version"))?;
    let (status, rest) = match rest {
        [b' ', a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] => {
            let digit = |byte: &u8| u16::from(byte - b'0');
            (digit(a) * 100 + digit(b) * 10 + digit(c), rest)
        }
        _ => return Err(HeadError::Malformed("invalid status code")),
    };
    let rest = match rest {
        [b' ', rest @ ..] => rest,
        [] | [b'\r', ..] => rest,
        _ => return Err(HeadError::Malformed("invalid reason phrase")),
    };
    let (reason, behind) = rest.split_at_checked(text_len(rest)).unwrap_or_default();
    let [b'\r', b'\n', next @ ..] = behind else {
        return Err(no_line_end(behind, "invalid reason phrase"));
    };
    if head.len() - behind.len() > MAX_STATUS_LINE {
        return Err(STATUS_LINE_TOO_LONG);
    }
    let line = StatusLine { version, status, reason: Span::within(head, reason) };
    Ok((line, head.len() - next.len()))
}
