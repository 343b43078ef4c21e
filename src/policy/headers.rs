//! Fields: which ones a config may edit, which ones say where a request came
//! from, and how to read a cookie.

use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::ops::BitOr;

mod ids;

pub use ids::{is_request_id, trace_id};

/// Which forwarding fields a listener sets. `X-Forwarded-For` is always one of
/// them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ForwardedFields(u16);

impl ForwardedFields {
    /// `X-Forwarded-For`: the addresses the request came by, appended to.
    pub const FOR: Self = Self(1);
    /// `X-Forwarded-Proto`: `http` or `https`.
    pub const PROTO: Self = Self(1 << 1);
    /// `X-Forwarded-Host`: the host the client asked for.
    pub const HOST: Self = Self(1 << 2);
    /// `X-Forwarded-Port`: the listener's port.
    pub const PORT: Self = Self(1 << 3);
    /// `X-Real-IP`: the client's address.
    pub const REAL_IP: Self = Self(1 << 4);
    /// `X-Forwarded-Client-srcport`: the client's port (CLB).
    pub const CLIENT_SRCPORT: Self = Self(1 << 5);
    /// `Forwarded`, RFC 7239.
    pub const FORWARDED: Self = Self(1 << 6);
    /// `Via`, RFC 9110 7.6.3.
    pub const VIA: Self = Self(1 << 7);
    /// `X-Request-Id`: the name of the request in every log.
    pub const REQUEST_ID: Self = Self(1 << 8);
    /// `traceparent` (W3C Trace Context), where the client sent none.
    pub const TRACEPARENT: Self = Self(1 << 9);

    /// The names a config file may use, in lower case, each at the place of
    /// its bit.
    pub const NAMES: [&'static str; 10] = [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-real-ip",
        "x-forwarded-client-srcport",
        "forwarded",
        "via",
        "x-request-id",
        "traceparent",
    ];

    /// The field of this name, in any case.
    pub fn parse_name(name: &str) -> Option<Self> {
        let is = |known: &&str| known.eq_ignore_ascii_case(name);
        let place = Self::NAMES.iter().position(is)?;
        Some(Self(1 << place))
    }

    /// Whether all of `fields` are set. [`Self::FOR`] always is.
    pub const fn contains(self, fields: Self) -> bool {
        (self.0 | Self::FOR.0) & fields.0 == fields.0
    }

    /// These and `others`.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// The names of the fields that are set, in lower case.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let places = Self::NAMES.into_iter().enumerate();
        let set = move |place: usize| self.contains(Self(1 << place));
        places.filter(move |(place, _)| set(*place)).map(|(_, name)| name)
    }
}

impl Default for ForwardedFields {
    /// For, proto, host, port, real-ip and request-id.
    fn default() -> Self {
        Self::FOR | Self::PROTO | Self::HOST | Self::PORT | Self::REAL_IP | Self::REQUEST_ID
    }
}

impl BitOr for ForwardedFields {
    type Output = Self;

    fn bitor(self, others: Self) -> Self {
        self.with(others)
    }
}

impl FromIterator<ForwardedFields> for ForwardedFields {
    /// All of them together, and [`Self::FOR`].
    fn from_iter<I: IntoIterator<Item = ForwardedFields>>(fields: I) -> Self {
        fields.into_iter().fold(Self::FOR, Self::with)
    }
}

impl fmt::Debug for ForwardedFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// Fields that frame a message, belong to one connection or decide where the
/// request goes. A value from a config would make two readers of one message
/// disagree.
const OURS: [&str; 13] = [
    "host",
    "content-length",
    "transfer-encoding",
    "trailer",
    "te",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "upgrade",
    "http2-settings",
    "expect",
];

/// Whether `set_headers` and `remove_headers` may name this field.
///
/// Not those lockgate answers for: Host, framing, hop-by-hop and forwarding
/// fields, `Expect`, and whatever is no field name at all, as the
/// pseudo-fields of HTTP/2. `_` counts as `-`, because many backends read
/// `X_Real_IP` as `X-Real-IP`.
pub fn may_edit(name: &str) -> bool {
    let same = |known: &&str| {
        let like = |byte: u8| {
            if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
        };
        name.bytes().map(like).eq(known.bytes())
    };
    let mut ours = OURS.iter().chain(&ForwardedFields::NAMES);
    is_field_name(name) && !ours.any(|known| *known != "traceparent" && same(known))
}

/// Whether `name` can name a field: a token of RFC 9110 5.6.2.
pub fn is_field_name(name: &str) -> bool {
    is_token(name.as_bytes())
}

/// Whether `value` can be the value of a field as it is (RFC 9110 5.5): no
/// control character but the tab, no blank at either end. It may be empty.
pub fn is_field_value(value: &str) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    is_text(bytes) && !blank(bytes.first()) && !blank(bytes.last())
}

fn is_token(bytes: &[u8]) -> bool {
    let tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(tchar)
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control())
}

/// Appends one element of `Forwarded` (RFC 7239) to `out`:
/// `for=1.2.3.4;proto=https;host=a.test`.
///
/// What is no token is quoted: an IPv6 address with its brackets, a host with
/// its port. A host that is empty or has control characters is left out.
/// `proto` is `http` or `https`. The caller puts `, ` between elements.
pub fn write_forwarded(out: &mut Vec<u8>, client: IpAddr, proto: &str, host: &[u8]) {
    // Writing to a Vec does not fail.
    let _ = match client.to_canonical() {
        IpAddr::V4(address) => write!(out, "for={address}"),
        IpAddr::V6(address) => write!(out, "for=\"[{address}]\""),
    };
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(proto.as_bytes());
    if is_token(host) {
        out.extend_from_slice(b";host=");
        out.extend_from_slice(host);
    } else if !host.is_empty() && is_text(host) {
        out.extend_from_slice(b";host=\"");
        for &byte in host {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(byte);
        }
        out.push(b'"');
    }
}

/// The value of the cookie `name` in the value of a `Cookie` field, as bytes
/// and with its quotes. The first one, where there are several.
///
/// The name is compared whole and with its case: `XSERVERID` is not
/// `SERVERID`.
pub fn cookie<'a>(field_value: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = field_value;
    loop {
        let end = memchr::memchr(b';', rest);
        let pair = rest.get(..end.unwrap_or(rest.len()))?;
        let value = pair.trim_ascii_start().strip_prefix(name);
        if let Some([b'=', value @ ..]) = value {
            return Some(value.trim_ascii());
        }
        rest = rest.get(end? + 1..)?;
    }
}

#[cfg(test)]
mod tests;
