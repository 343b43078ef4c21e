//! Field lines: where they lie, and which of them mean something to a proxy.

/// Half-open byte range in the head (or trailer section) it was parsed from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes of this range; empty when it does not lie in `bytes`.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// How many bytes the range has.
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// Whether the range has no bytes.
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// The range of `part`, which must be a slice of `whole`. The addresses are only subtracted.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "every parser refuses a head that is longer than a u32 counts"
    )]
    pub(super) fn within(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize) as u32;
        Self { start, end: start.wrapping_add(part.len() as u32) }
    }

    /// Offsets beyond `u32` (excluded by the length check of every parser) give an empty range.
    pub(super) fn new(start: usize, end: usize) -> Self {
        match (u32::try_from(start), u32::try_from(end)) {
            (Ok(start), Ok(end)) => Self { start, end },
            _ => Self::default(),
        }
    }
}

/// One field line (RFC 9110 5, RFC 9112 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// The field name as sent.
    pub name: Span,
    /// The field value without the whitespace around it.
    pub value: Span,
    /// One past the CRLF of the line: the line itself is `name.start..end`.
    pub end: u32,
    /// What the name means to us.
    pub known: Known,
}

impl Field {
    /// The field whose line `name: value CRLF` is written at `start`.
    pub fn line(start: usize, name: &[u8], value: &[u8]) -> Field {
        let name_end = start + name.len();
        let value_start = name_end + 2;
        // Whitespace around a value is not part of it, here as in what is parsed.
        let content = Span::within(value, trim(value));
        Field {
            name: Span::new(start, name_end),
            value: Span::new(
                value_start + content.start as usize,
                value_start + content.end as usize,
            ),
            // Beyond `u32`: no head that long is accepted.
            end: u32::try_from(value_start + value.len() + 2).unwrap_or_default(),
            known: Known::of(name),
        }
    }
}

/// The field names a proxy must understand.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// Any other name: passes untouched unless `Connection` names it.
    Other,
    /// Becomes a framing or forwarding field once its punctuation is read as `-`, as CGI and WSGI
    /// servers do (`Content_Length`, `X.Forwarded.For`). The proxy drops these.
    Shadow,
    /// `Host` (RFC 9110 7.2)
    Host,
    /// `Content-Length` (RFC 9110 8.6)
    ContentLength,
    /// `Transfer-Encoding` (RFC 9112 6.1)
    TransferEncoding,
    /// `Connection` (RFC 9110 7.6.1)
    Connection,
    /// `Keep-Alive` (RFC 2068 19.7.1)
    KeepAlive,
    /// `Proxy-Connection` (RFC 9112 appendix C.2.2)
    ProxyConnection,
    /// `Proxy-Authenticate` (RFC 9110 11.7.1)
    ProxyAuthenticate,
    /// `Proxy-Authorization` (RFC 9110 11.7.2)
    ProxyAuthorization,
    /// `Proxy-Authentication-Info` (RFC 9110 11.7.3)
    ProxyAuthenticationInfo,
    /// `TE` (RFC 9110 10.1.4)
    Te,
    /// `Trailer` (RFC 9110 6.6.2)
    Trailer,
    /// `Upgrade` (RFC 9110 7.8)
    Upgrade,
    /// `Expect` (RFC 9110 10.1.1)
    Expect,
    /// `Date` (RFC 9110 6.6.1)
    Date,
    /// `Server` (RFC 9110 10.2.4)
    Server,
    /// `Cookie` (RFC 6265 4.2)
    Cookie,
    /// `Set-Cookie` (RFC 6265 4.1)
    SetCookie,
    /// `Forwarded` (RFC 7239 4)
    Forwarded,
    /// `Via` (RFC 9110 7.6.3)
    Via,
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `X-Forwarded-Proto`
    XForwardedProto,
    /// `X-Forwarded-Host`
    XForwardedHost,
    /// `X-Forwarded-Port`
    XForwardedPort,
    /// `X-Real-IP`
    XRealIp,
    /// `X-Forwarded-Client-Srcport`
    XForwardedClientSrcport,
    /// `X-Request-Id`
    XRequestId,
    /// `traceparent` (W3C Trace Context 3.2)
    Traceparent,
    /// `tracestate` (W3C Trace Context 3.3)
    Tracestate,
    /// `X-Accel-Redirect` and its like, `X-Pad`: what a backend says to the proxy before it, not to
    /// the client.
    XAccel,
}

impl Known {
    /// The meaning of `name`, whatever its case.
    ///
    /// Length and first letter leave at most two candidates, so that most names cost one jump and
    /// no comparison.
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        match (name.len(), first | 0x20) {
            (2, b't') => Self::Te.named(name, b"te"),
            (3, b'v') => Self::Via.named(name, b"via"),
            (4, b'h') => Self::Host.named(name, b"host"),
            (4, b'd') => Self::Date.named(name, b"date"),
            (6, b'c') => Self::Cookie.named(name, b"cookie"),
            (6, b'e') => Self::Expect.named(name, b"expect"),
            (6, b's') => Self::Server.named(name, b"server"),
            (7, b't') => Self::Trailer.named(name, b"trailer"),
            (7, b'u') => Self::Upgrade.named(name, b"upgrade"),
            (9, b'f') => Self::Forwarded.named(name, b"forwarded"),
            (9, b'x') => Self::XRealIp.named(name, b"x-real-ip"),
            (10, b'c') => Self::Connection.named(name, b"connection"),
            (10, b'k') => Self::KeepAlive.named(name, b"keep-alive"),
            (10, b's') => Self::SetCookie.named(name, b"set-cookie"),
            (10, b't') => Self::Tracestate.named(name, b"tracestate"),
            (11, b't') => Self::Traceparent.named(name, b"traceparent"),
            (12, b'x') => Self::XRequestId.named(name, b"x-request-id"),
            (14, b'c') => Self::ContentLength.named(name, b"content-length"),
            (5, b'x') => Self::XAccel.named(name, b"x-pad"),
            (15..=18, b'x') if name.get(2).is_some_and(|letter| letter | 0x20 == b'a') => {
                accel(name)
            }
            (15, b'x') => Self::XForwardedFor.named(name, b"x-forwarded-for"),
            (16, b'p') => Self::ProxyConnection.named(name, b"proxy-connection"),
            (16, b'x') if name.get(12).is_some_and(|letter| letter | 0x20 == b'h') => {
                Self::XForwardedHost.named(name, b"x-forwarded-host")
            }
            (16, b'x') => Self::XForwardedPort.named(name, b"x-forwarded-port"),
            (17, b't') => Self::TransferEncoding.named(name, b"transfer-encoding"),
            (17, b'x') => Self::XForwardedProto.named(name, b"x-forwarded-proto"),
            (18, b'p') => Self::ProxyAuthenticate.named(name, b"proxy-authenticate"),
            (19, b'p') => Self::ProxyAuthorization.named(name, b"proxy-authorization"),
            (25, b'p') => Self::ProxyAuthenticationInfo.named(name, b"proxy-authentication-info"),
            (26, b'x') => Self::XForwardedClientSrcport.named(name, b"x-forwarded-client-srcport"),
            _ => Self::Other,
        }
    }

    /// `self` if `name` is the `canonical` one, else what it then may be. The known length makes
    /// the comparison a few words instead of a loop.
    #[inline(always)]
    fn named<const N: usize>(self, name: &[u8], canonical: &[u8; N]) -> Self {
        let differs = |name: &[u8; N]| {
            name.iter().zip(canonical).fold(0, |bits, (byte, wanted)| {
                // The bit that tells the cases apart, where there are cases.
                let case = if *wanted == b'-' { 0 } else { 0x20 };
                bits | ((byte | case) ^ wanted)
            })
        };
        match name.first_chunk() {
            Some(name) if differs(name) == 0 => self,
            _ if self.has_shadow() => resembling(name, canonical),
            _ => Self::Other,
        }
    }

    /// Whether a name that only resembles this one must not reach a backend.
    fn has_shadow(self) -> bool {
        matches!(
            self,
            Self::ContentLength
                | Self::TransferEncoding
                | Self::ProxyConnection
                | Self::XForwardedFor
                | Self::XForwardedProto
                | Self::XForwardedHost
                | Self::XForwardedPort
                | Self::XRealIp
                | Self::XForwardedClientSrcport
                | Self::XRequestId
        )
    }
}

/// Whether `Connection` may ask for the removal of this field.
///
/// False for what the proxy frames, routes or vouches for: `Connection: X-Forwarded-For` is how a
/// client makes a careless proxy strip what another proxy wrote.
pub fn may_be_nominated(known: Known) -> bool {
    !matches!(
        known,
        Known::Host
            | Known::ContentLength
            | Known::Cookie
            | Known::SetCookie
            | Known::Date
            | Known::Expect
            | Known::Forwarded
            | Known::Via
            | Known::XForwardedFor
            | Known::XForwardedProto
            | Known::XForwardedHost
            | Known::XForwardedPort
            | Known::XForwardedClientSrcport
            | Known::XRealIp
            | Known::XRequestId
    )
}

/// The elements of a comma-separated list, trimmed, the empty ones left out (RFC 9110 5.6.1).
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// Without the optional whitespace around it (RFC 9110 5.6.3).
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// What a name is that is as long as `canonical` but not the same: a shadow where it is equal but
/// for case and for what stands where `canonical` has its dashes. Gateways differ in what they read
/// as a dash (`_` always, any punctuation sometimes), so all of it counts.
#[cold]
fn resembling(name: &[u8], canonical: &[u8]) -> Known {
    let same = |(byte, &want): (&u8, &u8)| {
        byte.to_ascii_lowercase() == want || (want == b'-' && !byte.is_ascii_alphanumeric())
    };
    match name.len() == canonical.len() && name.iter().zip(canonical).all(same) {
        true => Known::Shadow,
        false => Known::Other,
    }
}

/// Whether a name is one of those that begin with `X-Accel-`.
#[cold]
fn accel(name: &[u8]) -> Known {
    const WORDS: [&[u8]; 5] = [b"redirect", b"expires", b"charset", b"buffering", b"limit-rate"];
    let (prefix, rest) = name.split_at_checked(8).unwrap_or_default();
    let same = |word: &&[u8]| rest.eq_ignore_ascii_case(word);
    match prefix.eq_ignore_ascii_case(b"x-accel-") && WORDS.iter().any(same) {
        true => Known::XAccel,
        false => Known::Other,
    }
}
