//! The head of a response (RFC 9112 4 and 6.3).

use super::fields::{Field, Known, Span};
use super::head::{
    HeadError, HeadLimits, Method, ResponseFraming, ResponseHead, Version, Wire, keep_alive_timeout,
};
use super::request::split_first_line;
use super::trailers::read_fields;

/// Reads a head that [`Scan`](super::Scan) delimited; `method` is that of the request it answers.
///
/// `fields` is emptied first; handing in the same one each time costs no allocation.
pub fn parse_response(
    head: &[u8],
    limits: &HeadLimits,
    method: Method,
    fields: &mut Vec<Field>,
) -> Result<ResponseHead, HeadError> {
    fields.clear();
    let len = u32::try_from(head.len()).map_err(|_| HeadError::FieldsTooLarge)?;
    let (line, section) = split_first_line(head)?;
    let StatusLine { version, status, reason } = status_line(line)?;
    read_fields(head, section, limits, fields)?;

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

struct StatusLine {
    version: Version,
    status: u16,
    reason: Span,
}

/// `HTTP-version SP status-code [ SP [ reason-phrase ] ]` (RFC 9112 4; many leave the last SP out).
fn status_line(line: &[u8]) -> Result<StatusLine, HeadError> {
    let (version, rest) = line
        .split_first_chunk::<8>()
        .and_then(|(version, rest)| Some((Version::of(version)?, rest)))
        .ok_or(HeadError::Malformed("invalid version"))?;
    let (status, reason) = match rest {
        [b' ', a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', reason @ ..] => {
            let digit = |byte: &u8| u16::from(byte - b'0');
            (digit(a) * 100 + digit(b) * 10 + digit(c), reason)
        }
        _ => return Err(HeadError::Malformed("invalid status code")),
    };
    let reason = match reason {
        [] => reason,
        [b' ', reason @ ..] if valid_reason(reason) => reason,
        _ => return Err(HeadError::Malformed("invalid reason phrase")),
    };
    Ok(StatusLine { version, status, reason: Span::within(line, reason) })
}

/// `*( HTAB / SP / VCHAR / obs-text )`
fn valid_reason(reason: &[u8]) -> bool {
    !reason
        .iter()
        .fold(false, |bad, &byte| bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f))
}
