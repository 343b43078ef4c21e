//! A request as it is told to people and their tools, once it is done: the line of
//! the access log, of `tail`, of `why`.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// See the module. Times are in milliseconds, sizes in bytes; what is not known,
/// or was not, is left out.
#[derive(Debug, Serialize)]
pub(crate) struct RequestLine<'a> {
    /// When its response ended.
    #[serde(serialize_with = "moment")]
    pub time: SystemTime,
    pub request_id: Cow<'a, str>,
    /// Of the configuration it was served by.
    pub generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub game: Option<&'a str>,
    /// The listener's first domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<Cow<'a, str>>,
    /// The rule's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<&'a str>,
    /// Whom the request counts as coming from.
    pub client: IpAddr,
    /// Who is connected.
    pub peer: SocketAddr,
    /// The port it came to.
    pub port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsLine<'a>>,
    /// What the client got; 499: it was gone.
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    pub fault: Option<FaultLine<'a>>,
    /// Of the request's body.
    pub received: u64,
    /// Of the response's body.
    pub sent: u64,
    /// From its head to its response's end.
    #[serde(serialize_with = "millis", rename = "ms")]
    pub took: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptLine<'a>>,
}

/// The client's TLS.
#[derive(Debug, Serialize)]
pub(crate) struct TlsLine<'a> {
    pub version: &'static str,
    pub cipher: &'static str,
    /// The name the client asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
}

/// Why something failed.
#[derive(Debug, Serialize)]
pub(crate) struct FaultLine<'a> {
    pub cause: &'static str,
    pub phase: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub detail: Cow<'a, str>,
}

/// One attempt at one backend.
#[derive(Debug, Serialize)]
pub(crate) struct AttemptLine<'a> {
    pub backend: &'a str,
    /// What it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    pub fault: Option<FaultLine<'a>>,
    /// Until its connection stood; left out: it had one.
    #[serde(serialize_with = "some_millis", skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<Duration>,
    /// Until the header of its response.
    #[serde(serialize_with = "some_millis", skip_serializing_if = "Option::is_none")]
    pub header_ms: Option<Duration>,
    #[serde(serialize_with = "millis", rename = "ms")]
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

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.of())
    }
}

impl RequestLine<'_> {
    /// As JSON, without a line end.
    pub(crate) fn json(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn moment<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    // A clock that is off by ten thousand years has no such form.
    to.serialize_str(&OffsetDateTime::from(*at).format(TIME).unwrap_or_default())
}

fn in_millis(took: Duration) -> f64 {
    // Whole microseconds, far below what 52 bits hold.
    took.as_micros() as f64 / 1000.0
}

fn millis<S: Serializer>(took: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(in_millis(*took))
}

fn some_millis<S: Serializer>(took: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    took.map(in_millis).serialize(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> RequestLine<'static> {
        RequestLine {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_250),
            request_id: "17".into(),
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
            took: Duration::from_micros(1234),
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

    #[test]
    fn a_line_is_one_json_object_and_holds_no_control_byte() {
        let json = line().json();
        assert!(json.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{json}");
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["time"], "2027-01-15T08:00:00.250Z");
        assert_eq!(read["path"], r#"/\x1b[2J\xff\""#);
        assert_eq!((&read["cause"], &read["ms"]), (&"dns".into(), &1.234.into()));
        assert_eq!(read["attempts"][0]["connect_ms"], 2.0);
        for left_out in ["tls", "host", "detail", "group", "sticky"] {
            assert!(read.get(left_out).is_none(), "{left_out}");
        }
    }
}
