//! How a group's backends are asked whether they can serve.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::policy::health::Thresholds;

/// `probe` of a group (SEMANTICS 1.7, rows AH).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub check: Check,
    /// Where; `None` = the backend's own port.
    pub port: Option<u16>,
    /// From the end of one probe to the next, default 2 s. Each wait differs from
    /// it by up to a tenth, so that probes do not come in bursts.
    pub interval: Duration,
    /// Until a probe is answered, default 5 s.
    pub timeout: Duration,
    /// Probes in a row that change a verdict, default 3 and 3.
    pub thresholds: Thresholds,
}

/// `type` of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A request, in the protocol of the group.
    Http(HttpCheck),
    /// A connection that stands, and is not closed at once.
    Tcp,
    /// A TLS handshake, with all that the group's requests ask of it.
    Tls,
}

/// The request of a probe, and what is a good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// Default HEAD.
    pub method: ProbeMethod,
    /// With its query, default `/`.
    pub path: String,
    /// `Host`; `None` = the backend's address.
    pub host: Option<String>,
    /// Statuses that are good, default 200 to 399.
    pub expect: Vec<RangeInclusive<u16>>,
}

/// `method` of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeMethod {
    /// Asks for no body.
    #[default]
    Head,
    /// For applications that do not know HEAD.
    Get,
}

impl HttpCheck {
    /// Whether a status is a good answer.
    #[must_use]
    pub fn expects(&self, status: u16) -> bool {
        self.expect.iter().any(|statuses| statuses.contains(&status))
    }
}

impl Default for HttpCheck {
    fn default() -> Self {
        HttpCheck {
            method: ProbeMethod::Head,
            path: "/".to_owned(),
            host: None,
            expect: vec![200..=399],
        }
    }
}

impl Default for Probe {
    /// What an empty table means.
    fn default() -> Self {
        Probe {
            check: Check::Http(HttpCheck::default()),
            port: None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            thresholds: Thresholds { healthy: 3, unhealthy: 3 },
        }
    }
}
