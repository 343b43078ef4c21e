//! Sections of field lines: how they are split, and which fields may stand behind a body.

use httparse::{EMPTY_HEADER, Error, Header, Status, parse_headers};

use super::fields::{Field, Known, Span};
use super::head::{HeadError, HeadLimits};

/// Fields split without an allocation; nearly no head has more.
const FEW: usize = 32;

/// Reads a trailer section, field lines and final CRLF, that a
/// [`BodyDecoder`](super::BodyDecoder) delimited (RFC 9112 7.1.2).
pub fn parse_trailers(
    section: &[u8],
    limits: &HeadLimits,
    fields: &mut Vec<Field>,
) -> Result<(), HeadError> {
    fields.clear();
    read_fields(section, section, limits, fields)
}

/// Whether a trailer field may travel on (RFC 9110 6.5.1).
///
/// Not what frames, routes, modifies or authenticates the message, describes its content, or says
/// where it came from: who merges trailers into the head would read it too late, or believe it.
pub fn trailer_allowed(name: &[u8], known: Known) -> bool {
    const REFUSED: [&[u8]; 33] = [
        b"accept",
        b"accept-charset",
        b"accept-encoding",
        b"accept-language",
        b"accept-ranges",
        b"age",
        b"authorization",
        b"cache-control",
        b"clear-site-data",
        b"content-disposition",
        b"content-encoding",
        b"content-language",
        b"content-location",
        b"content-range",
        b"content-security-policy",
        b"content-type",
        b"cookie2",
        b"expires",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"location",
        b"max-forwards",
        b"origin",
        b"pragma",
        b"range",
        b"referer",
        b"retry-after",
        b"strict-transport-security",
        b"vary",
        b"www-authenticate",
    ];
    const REFUSED_PREFIXES: [&[u8]; 4] = [b"access-control-", b"proxy-", b"sec-", b"x-forwarded-"];
    let has_prefix = |prefix: &[u8]| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    // All that we know by name is framing, routing, authentication or forwarding.
    known == Known::Other
        && !REFUSED.iter().any(|refused| name.eq_ignore_ascii_case(refused))
        && !REFUSED_PREFIXES.iter().any(|prefix| has_prefix(prefix))
}

/// Splits `section`, the tail of `whole` from the first field line to the final CRLF, and adds its
/// fields to `fields`; their ranges are those in `whole`.
pub(super) fn read_fields(
    whole: &[u8],
    section: &[u8],
    limits: &HeadLimits,
    fields: &mut Vec<Field>,
) -> Result<(), HeadError> {
    check_size(whole, section, limits)?;
    let mut few = [EMPTY_HEADER; FEW];
    let room = few.get_mut(..limits.fields.min(FEW)).unwrap_or_default();
    match parse_headers(section, room) {
        Err(Error::TooManyHeaders) if limits.fields > FEW => {
            let mut many = vec![EMPTY_HEADER; limits.fields];
            let parsed = parse_headers(section, &mut many);
            collect(whole, section, parsed, fields)
        }
        parsed => collect(whole, section, parsed, fields),
    }
}

/// Whether `section`, the tail of `whole`, is small enough to be read.
pub(super) fn check_size(
    whole: &[u8],
    section: &[u8],
    limits: &HeadLimits,
) -> Result<(), HeadError> {
    if section.len().saturating_sub(2) > limits.fields_size || u32::try_from(whole.len()).is_err() {
        return Err(HeadError::FieldsTooLarge);
    }
    Ok(())
}

/// What the tokeniser found, as ranges, with a second look at what it lets pass: it takes a bare LF
/// for a line end.
fn collect(
    whole: &[u8],
    section: &[u8],
    parsed: httparse::Result<(usize, &[Header<'_>])>,
    fields: &mut Vec<Field>,
) -> Result<(), HeadError> {
    let headers = match parsed {
        Ok(Status::Complete((len, headers))) if len == section.len() => headers,
        Ok(Status::Complete(_)) => return Err(HeadError::Malformed("bytes after the head")),
        Ok(Status::Partial) => return Err(HeadError::Malformed("incomplete head")),
        Err(Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
        Err(Error::HeaderName) => return Err(HeadError::Malformed("invalid field name")),
        Err(Error::HeaderValue) => return Err(HeadError::Malformed("invalid field value")),
        Err(_) => return Err(HeadError::Malformed("invalid field line")),
    };
    let (mut end, mut strict) = (0, true);
    fields.extend(headers.iter().map(|header| {
        let name = Span::within(whole, header.name.as_bytes());
        let value = Span::within(whole, header.value);
        end = line_end(whole, value.end).unwrap_or_default();
        strict &= end != 0;
        Field { name, value, end, known: Known::of(header.name.as_bytes()) }
    }));
    // What is left is the empty line.
    let rest = match headers {
        [] => section,
        [..] => whole.get(end as usize..).unwrap_or_default(),
    };
    if strict && rest == b"\r\n" { Ok(()) } else { Err(HeadError::Malformed("bare LF")) }
}

/// One past the CRLF that follows position `from`, with nothing but whitespace before it.
fn line_end(whole: &[u8], from: u32) -> Option<u32> {
    let rest = whole.get(from as usize..)?;
    if rest.starts_with(b"\r\n") {
        return from.checked_add(2);
    }
    let blank = rest.iter().position(|&byte| byte != b' ' && byte != b'\t')?;
    rest.get(blank..)?.starts_with(b"\r\n").then_some(from + u32::try_from(blank).ok()? + 2)
}
