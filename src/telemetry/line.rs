//! A request as it is told to people and their tools, once it is done: the line of
//! the access log, of `tail`, of `why`.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::counts::Micros;
use super::digits::hex;
use super::json;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].");
/// As Apache and nginx write it; the time is UTC.
const COMBINED_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");

/// The name of a request: what stands in every line about it, in the error that
/// its client got, and in `X-Request-Id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestId<'a> {
    /// By lockgate: 16 hexadecimal digits.
    Made(u64),
    /// By a trusted peer, see [`is_request_id`](crate::policy::headers::is_request_id).
    Given(&'a str),
}

impl RequestId<'_> {
    /// Calls `with` with its bytes.
    #[inline]
    pub(crate) fn with_bytes<T>(self, with: impl FnOnce(&[u8]) -> T) -> T {
        match self {
            RequestId::Made(id) => with(&hex(id)),
            RequestId::Given(id) => with(id.as_bytes()),
        }
    }
}

impl fmt::Display for RequestId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestId::Made(id) => write!(f, "{id:016x}"),
            RequestId::Given(id) => f.write_str(id),
        }
    }
}

/// Where in the configuration a request was served, as its line says it: made
/// once, and not for each request.
pub(crate) fn place(
    game: &str,
    listener: Option<&str>,
    rule: Option<&str>,
    group: Option<&str>,
) -> Box<str> {
    let mut out = Vec::new();
    text(&mut out, b",\"game\":\"", Some(game));
    text(&mut out, b",\"listener\":\"", listener);
    text(&mut out, b",\"rule\":\"", rule);
    text(&mut out, b",\"group\":\"", group);
    // All of it came from texts.
    String::from_utf8(out).unwrap_or_default().into()
}

/// A client's connection, as all lines about its requests say it: made with the
/// first of them.
#[derive(Debug)]
pub(crate) struct PeerText {
    ip: Box<str>,
    /// Both addresses of the connection.
    ends: Box<str>,
    tls: Box<str>,
}

impl PeerText {
    /// `port`: the one it came to.
    pub(crate) fn new(address: SocketAddr, port: u16, tls: Option<&TlsLine<'_>>) -> PeerText {
        let mut out = Vec::new();
        if let Some(tls) = tls {
            name(&mut out, b",\"tls\":{\"version\":\"", Some(tls.version));
            name(&mut out, b",\"cipher\":\"", Some(tls.cipher));
            text(&mut out, b",\"name\":\"", tls.name);
            out.push(b'}');
        }
        PeerText {
            ip: address.ip().to_string().into(),
            ends: format!(",\"peer\":\"{address}\",\"port\":{port}").into(),
            tls: String::from_utf8(out).unwrap_or_default().into(),
        }
    }
}

/// See the module. Times are in milliseconds, sizes in bytes; what is not known,
/// or was not, is left out.
#[derive(Debug)]
pub(crate) struct RequestLine<'a> {
    /// When its response ended.
    pub time: SystemTime,
    pub request_id: RequestId<'a>,
    /// Of the W3C trace it is part of.
    pub trace_id: Option<Cow<'a, str>>,
    /// Of the configuration it was served by.
    pub generation: u64,
    /// The game, the listener's first domain, the rule's path and the group: see
    /// [`place`]. Empty where it came to none.
    pub place: &'a str,
    /// Whom the request counts as coming from, if not from the peer.
    pub client: Option<IpAddr>,
    /// Who is connected, to which port, and how.
    pub peer: &'a PeerText,
    pub method: Option<Text<'a>>,
    pub host: Option<Text<'a>>,
    pub path: Option<Text<'a>>,
    pub protocol: Option<&'static str>,
    /// What the client got; 499: it was gone.
    pub status: u16,
    pub fault: Option<FaultLine<'a>>,
    /// Of the request's body.
    pub received: u64,
    /// Of the response's body.
    pub sent: u64,
    /// From its head to its response's end; of a tunnel's end: since it stood.
    pub took: Option<Micros>,
    /// `open`: it became a tunnel; `closed`: that ended.
    pub tunnel: Option<&'static str>,
    /// What ended it.
    pub ended: Option<&'static str>,
    pub sticky: Option<&'static str>,
    /// The attempts before the last: seldom any.
    pub earlier: Vec<AttemptLine<'a>>,
    pub last: Option<AttemptLine<'a>>,
}

/// The client's TLS.
#[derive(Debug)]
pub(crate) struct TlsLine<'a> {
    pub version: &'static str,
    pub cipher: &'static str,
    /// The name the client asked for.
    pub name: Option<&'a str>,
}

/// Why something failed.
#[derive(Debug)]
pub(crate) struct FaultLine<'a> {
    pub cause: &'static str,
    pub phase: &'static str,
    pub detail: Cow<'a, str>,
}

/// One attempt at one backend.
#[derive(Debug)]
pub(crate) struct AttemptLine<'a> {
    pub backend: &'a str,
    /// What it answered.
    pub status: Option<u16>,
    pub fault: Option<FaultLine<'a>>,
    /// Until its connection stood; left out: it had one.
    pub connect_ms: Option<Micros>,
    /// Until the header of its response.
    pub header_ms: Option<Micros>,
    pub took: Micros,
}

/// Bytes of the network, as text: what is no printable ASCII is escaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a>(pub &'a [u8]);

impl<'a> Text<'a> {
    pub(crate) fn of(self) -> Cow<'a, str> {
        // A backslash that was sent must not look like one of ours.
        let plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'\\';
        match std::str::from_utf8(self.0) {
            Ok(text) if self.0.iter().all(plain) => Cow::Borrowed(text),
            _ => Cow::Owned(self.0.escape_ascii().to_string()),
        }
    }
}

impl RequestLine<'_> {
    /// As JSON, without a line end.
    pub(crate) fn json(&self) -> String {
        let mut out = Vec::with_capacity(512);
        self.write_json(&mut out, &mut Clock::default());
        // All of it came from texts.
        String::from_utf8(out).unwrap_or_default()
    }

    /// The same, behind what is in `out`.
    pub(crate) fn write_json(&self, out: &mut Vec<u8>, clock: &mut Clock) {
        out.extend_from_slice(b"{\"time\":\"");
        let millis = clock.set(self.time);
        out.extend_from_slice(clock.time.as_bytes());
        out.extend_from_slice(&[millis / 100, millis / 10 % 10, millis % 10].map(|digit| {
            // One digit each.
            b'0' + u8::try_from(digit).unwrap_or_default()
        }));
        out.extend_from_slice(b"Z\",\"request_id\":\"");
        self.request_id.with_bytes(|id| out.extend_from_slice(id));
        out.push(b'"');
        text(out, b",\"trace_id\":\"", self.trace_id.as_deref());
        out.extend_from_slice(b",\"generation\":");
        json::number(out, self.generation);
        out.extend_from_slice(self.place.as_bytes());
        out.extend_from_slice(b",\"client\":\"");
        self.write_client(out);
        out.push(b'"');
        out.extend_from_slice(self.peer.ends.as_bytes());
        raw(out, b",\"method\":\"", self.method);
        raw(out, b",\"host\":\"", self.host);
        raw(out, b",\"path\":\"", self.path);
        name(out, b",\"protocol\":\"", self.protocol);
        out.extend_from_slice(self.peer.tls.as_bytes());
        out.extend_from_slice(b",\"status\":");
        json::number(out, self.status.into());
        if let Some(fault) = &self.fault {
            fault.write(out);
        }
        out.extend_from_slice(b",\"received\":");
        json::number(out, self.received);
        out.extend_from_slice(b",\"sent\":");
        json::number(out, self.sent);
        time(out, b",\"ms\":", self.took);
        name(out, b",\"tunnel\":\"", self.tunnel);
        name(out, b",\"ended\":\"", self.ended);
        name(out, b",\"sticky\":\"", self.sticky);
        self.write_attempts(out);
        out.push(b'}');
    }

    fn write_client(&self, out: &mut Vec<u8>) {
        match self.client {
            None => out.extend_from_slice(self.peer.ip.as_bytes()),
            Some(client) => json::ip(out, client),
        }
    }

    fn write_attempts(&self, out: &mut Vec<u8>) {
        if self.earlier.is_empty() && self.last.is_none() {
            return;
        }
        out.extend_from_slice(b",\"attempts\":[");
        for (n, attempt) in self.earlier.iter().chain(&self.last).enumerate() {
            if n > 0 {
                out.push(b',');
            }
            attempt.write(out);
        }
        out.push(b']');
    }

    /// As Apache and nginx write it, without a line end.
    pub(crate) fn write_combined(&self, out: &mut Vec<u8>, clock: &mut Clock, more: Combined<'_>) {
        self.write_client(out);
        out.extend_from_slice(b" - - [");
        clock.set(self.time);
        out.extend_from_slice(clock.combined.as_bytes());
        out.extend_from_slice(b"] \"");
        match (self.method, self.protocol) {
            (Some(method), Some(protocol)) => {
                as_nginx(out, method.0);
                out.push(b' ');
                as_nginx(out, more.target);
                out.push(b' ');
                out.extend_from_slice(protocol.as_bytes());
            }
            _ => out.push(b'-'),
        }
        out.extend_from_slice(b"\" ");
        json::number(out, self.status.into());
        out.push(b' ');
        json::number(out, self.sent);
        for value in [more.referer, more.user_agent] {
            out.extend_from_slice(b" \"");
            as_nginx(out, value.unwrap_or(b"-"));
            out.push(b'"');
        }
    }
}

/// What the combined format has besides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Combined<'a> {
    /// The target as the client wrote it.
    pub target: &'a [u8],
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
}

/// nginx's `escape=default`: quotes, backslashes and what is no printable ASCII.
fn as_nginx(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => {
                let upper = |bits| json::digit(bits).to_ascii_uppercase();
                out.extend_from_slice(&[b'\\', b'x', upper(byte >> 4), upper(byte)]);
            }
            _ => out.push(byte),
        }
    }
}

impl FaultLine<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        name(out, b",\"cause\":\"", Some(self.cause));
        name(out, b",\"phase\":\"", Some(self.phase));
        text(out, b",\"detail\":\"", Some(&*self.detail).filter(|detail| !detail.is_empty()));
    }
}

impl AttemptLine<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        text(out, b"{\"backend\":\"", Some(self.backend));
        if let Some(status) = self.status {
            out.extend_from_slice(b",\"status\":");
            json::number(out, status.into());
        }
        if let Some(fault) = &self.fault {
            fault.write(out);
        }
        time(out, b",\"connect_ms\":", self.connect_ms);
        time(out, b",\"header_ms\":", self.header_ms);
        time(out, b",\"ms\":", Some(self.took));
        out.push(b'}');
    }
}

/// A text that is known, behind `key`, which ends with the opening quote.
fn text<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        json::string(out, value);
        out.push(b'"');
    }
}

/// A name of ours likewise: there is nothing in it that JSON would not take.
fn name<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: Option<&'static str>) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }
}

/// Bytes of the network likewise.
fn raw<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], value: Option<Text<'_>>) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        if !json::plain(out, value.0) {
            json::string(out, &value.of());
        }
        out.push(b'"');
    }
}

/// A time that is known, behind `key`.
fn time<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], took: Option<Micros>) {
    if let Some(took) = took {
        out.extend_from_slice(key);
        json::millis(out, took);
    }
}

/// Moments as text, formatted once a second.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    second: u64,
    /// Up to the point before the fraction.
    time: String,
    combined: String,
}

impl Clock {
    /// Its texts are of that moment; gives the milliseconds since.
    fn set(&mut self, at: SystemTime) -> u32 {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() || self.time.is_empty() {
            self.second = since.as_secs();
            let at = OffsetDateTime::from(SystemTime::UNIX_EPOCH + since);
            // A clock that is off by ten thousand years has no such form.
            self.time = at.format(TIME).unwrap_or_default();
            self.combined = at.format(COMBINED_TIME).unwrap_or_default();
        }
        since.subsec_millis()
    }
}

#[cfg(test)]
mod tests;
