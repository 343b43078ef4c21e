//! A request as it is told to people and their tools, once it is done: the line of
//! the access log, of `tail`, of `why`.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

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

/// A number as 16 hexadecimal digits.
pub(crate) fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    let bytes = number.to_be_bytes();
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, *byte]);
    digits.iter_mut().zip(halves).for_each(|(digit, half)| *digit = json::digit(half));
    digits
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
    pub game: Option<&'a str>,
    /// The listener's first domain.
    pub listener: Option<&'a str>,
    /// The rule's path.
    pub rule: Option<&'a str>,
    pub group: Option<&'a str>,
    /// Whom the request counts as coming from.
    pub client: IpAddr,
    /// Who is connected.
    pub peer: SocketAddr,
    /// The port it came to.
    pub port: u16,
    pub method: Option<Text<'a>>,
    pub host: Option<Text<'a>>,
    pub path: Option<Text<'a>>,
    pub protocol: Option<&'static str>,
    pub tls: Option<TlsLine<'a>>,
    /// What the client got; 499: it was gone.
    pub status: u16,
    pub fault: Option<FaultLine<'a>>,
    /// Of the request's body.
    pub received: u64,
    /// Of the response's body.
    pub sent: u64,
    /// From its head to its response's end; of a tunnel's end: since it stood.
    pub took: Option<Duration>,
    /// `open`: it became a tunnel; `closed`: that ended.
    pub tunnel: Option<&'static str>,
    /// What ended it.
    pub ended: Option<&'static str>,
    pub sticky: Option<&'static str>,
    pub attempts: Vec<AttemptLine<'a>>,
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
    pub connect_ms: Option<Duration>,
    /// Until the header of its response.
    pub header_ms: Option<Duration>,
    pub took: Duration,
}

/// Bytes of the network, as text: what is no printable ASCII is escaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a>(pub &'a [u8]);

impl<'a> Text<'a> {
    pub(crate) fn of(self) -> Cow<'a, str> {
        let plain = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
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
        text(out, b",\"trace_id\":", self.trace_id.as_deref());
        out.extend_from_slice(b",\"generation\":");
        json::number(out, self.generation);
        text(out, b",\"game\":", self.game);
        text(out, b",\"listener\":", self.listener);
        text(out, b",\"rule\":", self.rule);
        text(out, b",\"group\":", self.group);
        out.extend_from_slice(b",\"client\":\"");
        json::ip(out, self.client);
        out.extend_from_slice(b"\",\"peer\":\"");
        json::socket(out, self.peer);
        out.extend_from_slice(b"\",\"port\":");
        json::number(out, self.port.into());
        self.write_request(out);
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
        text(out, b",\"tunnel\":", self.tunnel);
        text(out, b",\"ended\":", self.ended);
        text(out, b",\"sticky\":", self.sticky);
        for (n, attempt) in self.attempts.iter().enumerate() {
            out.extend_from_slice(if n == 0 { b",\"attempts\":[" } else { b"," });
            attempt.write(out);
        }
        out.extend_from_slice(if self.attempts.is_empty() { b"}" } else { b"]}" });
    }

    fn write_request(&self, out: &mut Vec<u8>) {
        let fields: [(&[u8], _); 3] = [
            (b",\"method\":", self.method),
            (b",\"host\":", self.host),
            (b",\"path\":", self.path),
        ];
        for (key, value) in fields {
            let Some(value) = value else { continue };
            out.extend_from_slice(key);
            if !json::plain(out, value.0) {
                json::string(out, &value.of());
            }
        }
        text(out, b",\"protocol\":", self.protocol);
        let Some(tls) = &self.tls else { return };
        text(out, b",\"tls\":{\"version\":", Some(tls.version));
        text(out, b",\"cipher\":", Some(tls.cipher));
        text(out, b",\"name\":", tls.name);
        out.push(b'}');
    }

    /// As Apache and nginx write it, without a line end.
    pub(crate) fn write_combined(&self, out: &mut Vec<u8>, clock: &mut Clock, more: Combined<'_>) {
        json::ip(out, self.client);
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
        text(out, b",\"cause\":", Some(self.cause));
        text(out, b",\"phase\":", Some(self.phase));
        text(out, b",\"detail\":", Some(&*self.detail).filter(|detail| !detail.is_empty()));
    }
}

impl AttemptLine<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        text(out, b"{\"backend\":", Some(self.backend));
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

/// A text that is known, behind `key`.
fn text(out: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        json::string(out, value);
    }
}

/// A time that is known likewise.
fn time(out: &mut Vec<u8>, key: &[u8], took: Option<Duration>) {
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
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn line() -> RequestLine<'static> {
        RequestLine {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_050),
            request_id: RequestId::Made(0x17),
            trace_id: None,
            generation: 3,
            game: Some("youxia"),
            listener: None,
            rule: None,
            group: None,
            client: [10, 0, 0, 1].into(),
            peer: ([127, 0, 0, 1], 5000).into(),
            port: 8030,
            method: Some(Text(b"GET")),
            host: None,
            path: Some(Text(b"/\x1b[2J\xff\"")),
            protocol: Some("HTTP/1.1"),
            tls: None,
            status: 502,
            fault: Some(FaultLine { cause: "dns", phase: "connect", detail: "".into() }),
            received: 0,
            sent: 17,
            took: Some(Duration::from_micros(1234)),
            tunnel: None,
            ended: None,
            sticky: None,
            attempts: vec![AttemptLine {
                backend: "b",
                status: None,
                fault: None,
                connect_ms: Some(Duration::from_millis(2)),
                header_ms: None,
                took: Duration::from_millis(3),
            }],
        }
    }

    fn read(line: &RequestLine<'_>) -> Value {
        let json = line.json();
        assert!(json.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{json}");
        let value: Value = serde_json::from_str(&json).unwrap();
        // No key stands there twice, and nothing is spaced or spelled otherwise.
        assert_eq!(value.to_string().len(), json.len(), "{json}");
        value
    }

    #[test]
    fn a_line_is_one_json_object_without_what_is_not_known() {
        let expected = json!({
            "time": "2027-01-15T08:00:00.050Z", "request_id": "0000000000000017", "generation": 3,
            "game": "youxia", "client": "10.0.0.1", "peer": "127.0.0.1:5000", "port": 8030,
            "method": "GET", "path": r#"/\x1b[2J\xff\""#, "protocol": "HTTP/1.1", "status": 502,
            "cause": "dns", "phase": "connect", "received": 0, "sent": 17, "ms": 1.234,
            "attempts": [{ "backend": "b", "connect_ms": 2.0, "ms": 3.0 }],
        });
        assert_eq!(read(&line()), expected);
    }

    #[test]
    fn a_line_has_all_that_is_known() {
        let fault =
            || Some(FaultLine { cause: "tls_handshake", phase: "connect", detail: "a\"b".into() });
        let attempt = || AttemptLine {
            backend: "b",
            status: Some(503),
            fault: fault(),
            connect_ms: None,
            header_ms: Some(Duration::from_micros(1)),
            took: Duration::from_secs(60),
        };
        let tls = TlsLine { version: "TLSv1.3", cipher: "X", name: Some("a.test") };
        let whole = RequestLine {
            request_id: RequestId::Given("a-b~c"),
            trace_id: Some("0af7651916cd43dd8448eb211c80319c".into()),
            listener: Some("*.a.test"),
            rule: Some("/x/"),
            group: Some("web"),
            host: Some(Text(b"a.test:8030")),
            tls: Some(tls),
            fault: fault(),
            tunnel: Some("closed"),
            ended: Some("client"),
            sticky: Some("kept"),
            attempts: vec![attempt(), attempt()],
            took: None,
            ..line()
        };
        let told = json!({ "backend": "b", "status": 503, "cause": "tls_handshake",
            "phase": "connect", "detail": "a\"b", "header_ms": 0.001, "ms": 60000.0 });
        let expected = json!({
            "time": "2027-01-15T08:00:00.050Z", "request_id": "a-b~c",
            "trace_id": "0af7651916cd43dd8448eb211c80319c", "generation": 3, "game": "youxia",
            "listener": "*.a.test", "rule": "/x/", "group": "web", "client": "10.0.0.1",
            "peer": "127.0.0.1:5000", "port": 8030, "method": "GET", "host": "a.test:8030",
            "path": r#"/\x1b[2J\xff\""#, "protocol": "HTTP/1.1",
            "tls": { "version": "TLSv1.3", "cipher": "X", "name": "a.test" }, "status": 502,
            "cause": "tls_handshake", "phase": "connect", "detail": "a\"b", "received": 0,
            "sent": 17, "tunnel": "closed", "ended": "client", "sticky": "kept",
            "attempts": [told, told],
        });
        assert_eq!(read(&whole), expected);
    }

    #[test]
    fn the_combined_format_is_nginxs() {
        let combined = |line: &RequestLine<'_>, more| {
            let mut out = Vec::new();
            line.write_combined(&mut out, &mut Clock::default(), more);
            String::from_utf8(out).unwrap()
        };
        let more = Combined {
            target: b"/\x1b\"\\\xff?a=b c",
            referer: None,
            user_agent: Some(b"x\" 200 0 \"\n"),
        };
        assert_eq!(
            combined(&line(), more),
            r#"10.0.0.1 - - [15/Jan/2027:08:00:00 +0000] "GET /\x1B\x22\x5C\xFF?a=b c HTTP/1.1" 502 17 "-" "x\x22 200 0 \x22\x0A""#
        );
        let refused = RequestLine { method: None, protocol: None, status: 400, ..line() };
        assert_eq!(
            combined(&refused, Combined::default()),
            r#"10.0.0.1 - - [15/Jan/2027:08:00:00 +0000] "-" 400 17 "-" "-""#
        );
    }

    #[test]
    fn a_clock_goes_on() {
        let mut clock = Clock::default();
        for (millis, shown) in [(0, "1970-01-01T00:00:00."), (1001, "1970-01-01T00:00:01.")] {
            let fraction = clock.set(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
            assert_eq!((clock.time.as_str(), u64::from(fraction)), (shown, millis % 1000));
        }
    }

    #[test]
    fn an_id_is_shown_as_it_is_sent() {
        for id in [RequestId::Made(0x1f), RequestId::Made(u64::MAX), RequestId::Given("Root=1-a")] {
            assert_eq!(id.with_bytes(<[u8]>::to_vec), id.to_string().into_bytes());
        }
    }
}
