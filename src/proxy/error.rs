//! Why a request did not get what it asked for: one closed list of causes, and
//! the one place that says which status the client sees for each.

use std::fmt;
use std::sync::Arc;

use crate::policy::health::Blame;
use crate::state::Backend;

/// Why lockgate answered by itself, or cut a response short. The names stand
/// in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The backend refused the connection. Is the process running, on that port?
    ConnectRefused,
    /// No answer to the connection attempt within `connect_timeout`. Firewall, dead machine?
    ConnectTimeout,
    /// Any other failure to connect: no route, no local port or descriptor left.
    ConnectError,
    /// The backend's name has no address.
    Dns,
    /// The TLS handshake with the backend failed. Wrong `ca`, wrong name, not TLS?
    TlsHandshake,
    /// The backend closed before its response header was complete.
    ClosedBeforeHeader,
    /// No complete response header within `response_timeout`.
    HeaderTimeout,
    /// The backend's response header is not valid HTTP/1.
    InvalidHeader,
    /// The backend ended the response body early, or framed it wrongly.
    BodyClosed,
    /// Nothing of the response body came for `response_timeout`.
    BodyTimeout,
    /// It answered with this status, which the group's `retry.on` names.
    Status(u16),
    /// No backend of the group may have the request: each is in `maint`, has weight
    /// 0, is ejected, or had it already.
    NoAvailableBackend,
    /// An attempt failed, and the group's `retry.budget` allowed no other.
    BudgetSpent,
    /// A limit of lockgate was reached; the detail names it.
    Limit,
    /// No rule of the listener takes the path.
    NoRule,
    /// The Host belongs to no listener of the port, or not to the one of the
    /// TLS name.
    Misdirected,
    /// The client's address is not allowed.
    Denied,
    /// The method is not served (CONNECT, TRACE).
    Method,
    /// The request is not valid HTTP, or could mean two things.
    Malformed,
    /// The request target is longer than `limits.uri`.
    UriTooLong,
    /// The header is larger than `limits.header_size` or `limits.headers`.
    HeaderTooLarge,
    /// The request body is larger than `max_body`.
    BodyTooLarge,
    /// The client was too slow with its header or body, or does not read.
    ClientTimeout,
    /// The client left before it had its response.
    ClientGone,
    /// The end of the process cut it: `[shutdown] deadline` passed, or a second signal came.
    Stopping,
}

impl Cause {
    /// The names in log and metrics, by [`Cause::number`].
    pub const NAMES: [&str; 28] = [
        "connect_refused",
        "connect_timeout",
        "connect_error",
        "dns",
        "tls_handshake",
        "closed_before_header",
        "header_timeout",
        "invalid_header",
        "body_closed",
        "body_timeout",
        "http_500",
        "http_502",
        "http_503",
        "http_504",
        "http_403",
        "http_404",
        "http_429",
        "http_status",
        "no_available_backend",
        "budget_spent",
        "limit",
        "no_rule",
        "misdirected",
        "denied",
        "malformed",
        "client_timeout",
        "client_gone",
        "stopping",
    ];

    /// Which of [`Cause::NAMES`] is its.
    #[must_use]
    pub fn number(self) -> usize {
        match self {
            Cause::ConnectRefused => 0,
            Cause::ConnectTimeout => 1,
            Cause::ConnectError => 2,
            Cause::Dns => 3,
            Cause::TlsHandshake => 4,
            Cause::ClosedBeforeHeader => 5,
            Cause::HeaderTimeout => 6,
            Cause::InvalidHeader => 7,
            Cause::BodyClosed => 8,
            Cause::BodyTimeout => 9,
            Cause::Status(500) => 10,
            Cause::Status(502) => 11,
            Cause::Status(503) => 12,
            Cause::Status(504) => 13,
            Cause::Status(403) => 14,
            Cause::Status(404) => 15,
            Cause::Status(429) => 16,
            Cause::Status(_) => 17,
            Cause::NoAvailableBackend => 18,
            Cause::BudgetSpent => 19,
            Cause::Limit | Cause::UriTooLong | Cause::HeaderTooLarge | Cause::BodyTooLarge => 20,
            Cause::NoRule => 21,
            Cause::Misdirected => 22,
            Cause::Denied => 23,
            Cause::Method | Cause::Malformed => 24,
            Cause::ClientTimeout => 25,
            Cause::ClientGone => 26,
            Cause::Stopping => 27,
        }
    }

    /// The name in log lines and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        Cause::NAMES.get(self.number()).copied().unwrap_or_default()
    }

    /// The status the client gets while no response header was sent; 499 is
    /// for the log only.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Cause::Malformed => 400,
            Cause::Denied => 403,
            Cause::NoRule => 404,
            Cause::Method => 405,
            Cause::ClientTimeout => 408,
            Cause::BodyTooLarge => 413,
            Cause::UriTooLong => 414,
            Cause::Misdirected => 421,
            Cause::HeaderTooLarge => 431,
            Cause::ClientGone => 499,
            Cause::ConnectRefused
            | Cause::ConnectTimeout
            | Cause::ConnectError
            | Cause::Dns
            | Cause::TlsHandshake
            | Cause::ClosedBeforeHeader
            | Cause::InvalidHeader
            | Cause::BodyClosed
            | Cause::Status(_)
            | Cause::BudgetSpent
            | Cause::NoAvailableBackend => 502,
            Cause::Limit | Cause::Stopping => 503,
            Cause::HeaderTimeout | Cause::BodyTimeout => 504,
        }
    }

    /// What an attempt can fail of.
    pub(super) fn is_of_attempt(self) -> bool {
        self.number() <= Cause::Status(0).number()
    }

    /// The client did it, not lockgate and no backend.
    pub(super) fn is_clients(self) -> bool {
        (400..500).contains(&self.status())
    }

    /// The error type of `Proxy-Status` (RFC 9209 2.3) that comes nearest.
    fn proxy_status(self) -> &'static str {
        match self {
            Cause::ConnectRefused => "connection_refused",
            Cause::ConnectTimeout => "connection_timeout",
            Cause::ConnectError => "destination_ip_unroutable",
            Cause::Dns => "dns_error",
            Cause::TlsHandshake => "tls_protocol_error",
            Cause::ClosedBeforeHeader => "connection_terminated",
            Cause::HeaderTimeout => "http_response_timeout",
            Cause::InvalidHeader | Cause::Status(_) => "http_protocol_error",
            Cause::BodyClosed => "http_response_incomplete",
            Cause::BodyTimeout => "connection_read_timeout",
            Cause::NoAvailableBackend | Cause::BudgetSpent | Cause::Stopping => {
                "destination_unavailable"
            }
            Cause::Limit => "connection_limit_reached",
            Cause::NoRule | Cause::Misdirected => "destination_not_found",
            Cause::Denied | Cause::Method => "http_request_denied",
            Cause::Malformed
            | Cause::UriTooLong
            | Cause::HeaderTooLarge
            | Cause::BodyTooLarge
            | Cause::ClientTimeout
            | Cause::ClientGone => "http_request_error",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What lockgate was doing when it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Receiving and routing the request.
    Request,
    /// Choosing a backend.
    Pick,
    /// Connecting to it.
    Connect,
    /// Sending the request, waiting for the response header.
    Response,
    /// Passing on the response body.
    Body,
}

impl Phase {
    /// The name in log lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Request => "request",
            Phase::Pick => "pick",
            Phase::Connect => "connect",
            Phase::Response => "response",
            Phase::Body => "body",
        }
    }
}

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) phase: Phase,
    /// More for the log: an error's text, the limit that was met.
    pub(super) detail: String,
    /// The backend it happened with.
    pub(super) backend: Option<Arc<str>>,
    /// No backend's doing: lockgate lacked a descriptor or a local port, or HTTP/2
    /// has no words for the request.
    pub(super) own: bool,
    /// What the last attempt failed of, where `cause` says why there is no other.
    pub(super) attempt: Option<Cause>,
}

impl Failure {
    pub(super) fn new(cause: Cause, phase: Phase) -> Failure {
        Failure { cause, phase, detail: String::new(), backend: None, own: false, attempt: None }
    }

    pub(super) fn because(cause: Cause, phase: Phase, detail: impl fmt::Display) -> Failure {
        let mut detail = detail.to_string();
        // What a library says of it is two lines with an address.
        if detail.contains("close_notify") {
            "the connection was closed without TLS's end".clone_into(&mut detail);
        }
        Failure { detail, ..Failure::new(cause, phase) }
    }

    /// An attempt failed like this, and the budget allows no other.
    pub(super) fn without_budget(self) -> Failure {
        let detail = match self.detail.as_str() {
            "" => self.cause.to_string(),
            more => format!("{}: {more}", self.cause),
        };
        Failure { cause: Cause::BudgetSpent, detail, attempt: Some(self.cause), ..self }
    }

    /// The status the client gets: what happened counts, not why it was left at
    /// that.
    pub(super) fn status(&self) -> u16 {
        self.attempt.unwrap_or(self.cause).status()
    }

    /// The error type of `Proxy-Status`, likewise.
    pub(super) fn proxy_status(&self) -> &'static str {
        self.attempt.unwrap_or(self.cause).proxy_status()
    }

    /// What it tells of the backend's health, if anything.
    pub(super) fn blame(&self) -> Option<Blame> {
        match self.cause {
            _ if self.own => None,
            Cause::ConnectRefused
            | Cause::ConnectTimeout
            | Cause::ConnectError
            | Cause::Dns
            | Cause::TlsHandshake => Some(Blame::Unreachable),
            Cause::ClosedBeforeHeader | Cause::HeaderTimeout | Cause::InvalidHeader => {
                Some(Blame::Request)
            }
            _ => None,
        }
    }

    /// It happened with this backend.
    pub(super) fn at(mut self, backend: &Backend) -> Failure {
        self.backend = Some(Arc::clone(&backend.config.name));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_number_of_its_own_that_is_counted() {
        use crate::telemetry::counts::CAUSES;
        assert!(Cause::NAMES.len() <= CAUSES);
        let numbers: std::collections::BTreeSet<usize> = ALL
            .into_iter()
            .chain([Cause::ClientGone, Cause::Stopping, Cause::Status(418)])
            .map(Cause::number)
            .collect();
        assert!(numbers.into_iter().eq(0..Cause::NAMES.len()));
        assert_eq!(Cause::Status(418).name(), "http_status");
        assert_eq!((Cause::Stopping.name(), Cause::Dns.name()), ("stopping", "dns"));
    }

    #[test]
    fn only_4xx_and_5xx_answer_a_failure() {
        for cause in [Cause::Malformed, Cause::ConnectRefused, Cause::Limit, Cause::HeaderTimeout] {
            assert!((400..600).contains(&cause.status()));
        }
    }

    /// All that can happen: `stopping` has no place yet where it does.
    const ALL: [Cause; 29] = [
        Cause::ConnectRefused,
        Cause::ConnectTimeout,
        Cause::ConnectError,
        Cause::Dns,
        Cause::TlsHandshake,
        Cause::ClosedBeforeHeader,
        Cause::HeaderTimeout,
        Cause::InvalidHeader,
        Cause::BodyClosed,
        Cause::BodyTimeout,
        Cause::Status(500),
        Cause::Status(502),
        Cause::Status(503),
        Cause::Status(504),
        Cause::Status(403),
        Cause::Status(404),
        Cause::Status(429),
        Cause::NoAvailableBackend,
        Cause::BudgetSpent,
        Cause::Limit,
        Cause::UriTooLong,
        Cause::HeaderTooLarge,
        Cause::BodyTooLarge,
        Cause::NoRule,
        Cause::Misdirected,
        Cause::Denied,
        Cause::Method,
        Cause::Malformed,
        Cause::ClientTimeout,
    ];

    #[test]
    fn the_readme_has_a_row_for_every_cause() {
        let readme = include_str!("../../README.md");
        for cause in ALL.into_iter().chain([Cause::ClientGone]) {
            let name = format!("`{cause}`");
            let rows: Vec<&str> = readme
                .lines()
                .filter(|row| row.split(" | ").count() == 4)
                .filter(|row| row.split(" | ").next().is_some_and(|first| first.contains(&name)))
                .collect();
            let [row] = rows[..] else { panic!("{name} has {} rows", rows.len()) };
            let status = match cause {
                Cause::BodyClosed | Cause::BodyTimeout => "cut".to_owned(),
                // A backend's own, or that of the attempt.
                Cause::Status(_) | Cause::BudgetSpent => continue,
                _ => cause.status().to_string(),
            };
            assert!(row.split(" | ").nth(2).unwrap().contains(&status), "{row}: {status}");
        }
    }

    #[test]
    fn a_spent_budget_hides_nothing_of_the_attempt() {
        for (detail, said) in
            [("", "header_timeout"), ("half a line", "header_timeout: half a line")]
        {
            let failure = Failure::because(Cause::HeaderTimeout, Phase::Response, detail);
            let failure = failure.without_budget();
            assert_eq!((failure.cause, failure.phase), (Cause::BudgetSpent, Phase::Response));
            assert_eq!((failure.detail.as_str(), failure.status()), (said, 504));
            assert_eq!(failure.proxy_status(), "http_response_timeout");
        }
    }

    #[test]
    fn a_silent_backend_is_504_and_a_refusing_one_502() {
        assert_eq!(Cause::HeaderTimeout.status(), 504);
        assert_eq!(Cause::ConnectRefused.status(), 502);
        assert_eq!(Cause::ConnectTimeout.status(), 502);
    }
}
