//! Trailers: how they are read, and which fields may stand behind a body.

use super::fields::{Field, Known};
use super::head::{HeadError, HeadLimits, check_end};
use super::lines::{check_size, read_fields};

/// Reads a trailer section, field lines and final CRLF, that a
/// [`BodyDecoder`](super::BodyDecoder) delimited (RFC 9112 7.1.2).
pub fn parse_trailers(
    section: &[u8],
    limits: &HeadLimits,
    fields: &mut Vec<Field>,
) -> Result<(), HeadError> {
    fields.clear();
    check_size(section, 0, limits)?;
    let end = read_fields(section, 0, limits, fields)?;
    check_end(section, end)
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
