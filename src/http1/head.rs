//! Heads: the vocabulary of requests and responses, and what the fields of both say of framing.

use std::fmt;

use super::fields::{Field, Known, Span, elements, trim};

pub use super::request::{judge_request, parse_request, receive_request};
pub use super::response::{parse_response, receive_response};
pub use super::scan::Scan;
pub use super::trailers::{parse_trailers, trailer_allowed};

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the request target.
    pub target: usize,
    /// Bytes of all field lines together, their CRLFs counted, the final one not.
    pub fields_size: usize,
    /// Number of field lines.
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { target: 32 << 10, fields_size: 32 << 10, fields: 100 }
    }
}

/// Why a head is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadError {
    /// The request target is longer than [`HeadLimits::target`] (414).
    TargetTooLong,
    /// The field lines are longer than [`HeadLimits::fields_size`] (431).
    FieldsTooLarge,
    /// There are more field lines than [`HeadLimits::fields`] (431).
    TooManyFields,
    /// It does not have exactly one meaning (400); a short reason for the log.
    Malformed(&'static str),
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TargetTooLong => f.write_str("request target too long"),
            Self::FieldsTooLarge => f.write_str("header fields too large"),
            Self::TooManyFields => f.write_str("too many header fields"),
            Self::Malformed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for HeadError {}

/// The protocol versions we speak here (RFC 9112 2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            b"HTTP/1.1" => Some(Self::Http11),
            b"HTTP/1.0" => Some(Self::Http10),
            _ => None,
        }
    }
}

/// Request methods (RFC 9110 9; PATCH: RFC 5789).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names are the methods")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Connect,
    Trace,
    /// Any other; its name stands in [`RequestHead::method_name`].
    Other,
}

impl Method {
    /// Whether sending the request twice means the same as sending it once (RFC 9110 9.2.2).
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Patch | Self::Connect | Self::Other)
    }

    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"CONNECT" => Self::Connect,
            b"TRACE" => Self::Trace,
            _ => Self::Other,
        }
    }
}

/// The form of a request target (RFC 9112 3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// `/path?query`
    Origin,
    /// `http://authority/path?query`; its authority replaces `Host`.
    Absolute {
        /// The scheme is `https`.
        https: bool,
        /// Host and optional port.
        authority: Span,
        /// Path and query as sent; may be empty or start with `?`.
        path: Span,
    },
    /// `*`, of OPTIONS only.
    Asterisk,
    /// `host:port`, of CONNECT only.
    Authority,
}

/// How the content of a request is delimited (RFC 9112 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestFraming {
    /// Neither Content-Length nor Transfer-Encoding: no content.
    None,
    /// `Content-Length`, also when it is 0.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
}

/// A request's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The method as sent.
    pub method_name: Span,
    /// The request target as sent.
    pub target: Span,
    /// The form of the target, with its parts.
    pub form: Target,
    /// The version.
    pub version: Version,
    /// The value of `Host`, valid and not empty; `None` only in HTTP/1.0.
    pub host: Option<Span>,
    /// Where the content ends.
    pub framing: RequestFraming,
    /// The client will take another response on this connection (RFC 9112 9.3).
    pub keep_alive: bool,
    /// `Expect: 100-continue` (RFC 9110 10.1.1), never in HTTP/1.0.
    pub expect_continue: bool,
    /// `TE: trailers` (RFC 9110 10.1.4).
    pub te_trailers: bool,
    /// `Connection` names a field that is not hop-by-hop anyway: [`is_nominated`] tells which.
    pub nominated: bool,
    /// Bytes of the head, its final CRLFCRLF counted.
    pub len: u32,
}

/// How the content of a response is delimited (RFC 9112 6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResponseFraming {
    /// No content, whatever the fields say: 1xx, 204, 304, the answer to HEAD or CONNECT.
    None,
    /// `Content-Length`
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
    /// Ends with the connection.
    UntilClose,
}

/// A response's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResponseHead {
    /// The status code, 100 to 599.
    pub status: u16,
    /// The reason phrase, often empty.
    pub reason: Span,
    /// The version.
    pub version: Version,
    /// Where the content ends.
    pub framing: ResponseFraming,
    /// The connection may be used again after the content (RFC 9112 9.3).
    pub keep_alive: bool,
    /// `Keep-Alive: timeout=N`, in seconds.
    pub keep_alive_timeout: Option<u32>,
    /// There is a `Date`.
    pub has_date: bool,
    /// `Connection` names a field that is not hop-by-hop anyway: [`is_nominated`] tells which.
    pub nominated: bool,
    /// Bytes of the head, its final CRLFCRLF counted.
    pub len: u32,
}

/// Whether a `Connection` field among `fields` names the field `name` (RFC 9110 7.6.1).
pub fn is_nominated(head: &[u8], fields: &[Field], name: &[u8]) -> bool {
    fields
        .iter()
        .filter(|field| field.known == Known::Connection)
        .flat_map(|field| elements(field.value.of(head)))
        .any(|element| element.eq_ignore_ascii_case(name))
}

/// Refuses bytes behind the position where the head or trailer section ended.
pub(super) fn check_end(head: &[u8], end: usize) -> Result<(), HeadError> {
    match end == head.len() {
        true => Ok(()),
        false => Err(HeadError::Malformed("bytes after the head")),
    }
}

/// What the field lines say of framing and persistence, in either direction.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    close: bool,
    keep_alive: bool,
    pub(super) nominated: bool,
    connection_bytes: usize,
}

/// Bytes of all `Connection` values together. Every field may have to be looked for among them:
/// without a bound one head could cost fields times options.
const MAX_CONNECTION: usize = 1024;

impl Wire {
    /// Takes one field into account.
    #[inline]
    pub(super) fn take(&mut self, known: Known, value: &[u8]) -> Result<(), HeadError> {
        match known {
            Known::ContentLength => {
                if self.length.is_some() {
                    return Err(HeadError::Malformed("more than one Content-Length"));
                }
                self.length = Some(content_length(value)?);
            }
            Known::TransferEncoding => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadError::Malformed("Transfer-Encoding other than one chunked"));
                }
                self.chunked = true;
            }
            Known::Connection => {
                self.connection_bytes += value.len();
                if self.connection_bytes > MAX_CONNECTION {
                    return Err(HeadError::Malformed("Connection names too much"));
                }
                self.connection(value);
            }
            _ => {}
        }
        Ok(())
    }

    /// Refuses what only all fields together show (RFC 9112 6.1).
    pub(super) fn finish(&self, version: Version) -> Result<(), HeadError> {
        match (self.chunked, self.length, version) {
            (true, Some(_), _) => {
                Err(HeadError::Malformed("both Content-Length and Transfer-Encoding"))
            }
            (true, None, Version::Http10) => {
                Err(HeadError::Malformed("Transfer-Encoding in HTTP/1.0"))
            }
            _ => Ok(()),
        }
    }

    /// RFC 9112 9.3: `close` wins, else HTTP/1.1 persists and HTTP/1.0 only when it asks to.
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    fn connection(&mut self, value: &[u8]) {
        // Nearly all are written so.
        match value {
            b"keep-alive" => self.keep_alive = true,
            b"close" => self.close = true,
            _ => self.options(value),
        }
    }

    fn options(&mut self, value: &[u8]) {
        for option in elements(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
                continue;
            }
            match Known::of(option) {
                Known::KeepAlive => self.keep_alive = true,
                // Hop-by-hop already: dropped or made anew without a second look.
                Known::Connection
                | Known::ProxyConnection
                | Known::Te
                | Known::Trailer
                | Known::TransferEncoding
                | Known::Upgrade => {}
                _ => self.nominated = true,
            }
        }
    }
}

/// `timeout=N` of a `Keep-Alive` value (RFC 2068 19.7.1.1).
pub(super) fn keep_alive_timeout(value: &[u8]) -> Option<u32> {
    elements(value).find_map(|parameter| {
        let equals = parameter.iter().position(|&byte| byte == b'=')?;
        let (name, number) = parameter.split_at_checked(equals)?;
        if !trim(name).eq_ignore_ascii_case(b"timeout") {
            return None;
        }
        u32::try_from(decimal(trim(number.get(1..)?))?).ok()
    })
}

/// RFC 9110 8.6: digits and nothing else; no list, even of equal numbers.
fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    decimal(value).ok_or(HeadError::Malformed("Content-Length is not a number"))
}

/// `1*DIGIT` that fits.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
