//! The log of requests that lockgate failed. Every such request is worth a
//! line, but an outage must not turn into a flood of them: each worker writes
//! at most [`LINES_PER_SECOND`], and says how many it left out.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tracing::warn;

use super::line::RequestId;

/// Lines a worker writes in one second.
pub(crate) const LINES_PER_SECOND: u32 = 100;

/// One failed request. Texts from the network come escaped.
#[derive(Debug)]
pub(crate) struct FailureLine<'a> {
    /// The id in the body the client got.
    pub request_id: RequestId<'a>,
    /// The status the client got; 499 if it was gone.
    pub status: u16,
    /// The name of the cause.
    pub cause: &'static str,
    /// What lockgate was doing.
    pub phase: &'static str,
    /// More about the cause; may be empty.
    pub detail: Cow<'a, str>,
    /// The peer's address.
    pub client: IpAddr,
    /// The port it came to.
    pub port: u16,
    /// The drop-in.
    pub game: Option<&'a str>,
    /// The group within it.
    pub group: Option<&'a str>,
    /// The backend within that.
    pub backend: Option<&'a str>,
    /// The request's method.
    pub method: Option<String>,
    /// The request's host.
    pub host: Option<String>,
    /// The request's path and query.
    pub path: Option<String>,
}

/// A worker's writer of failure lines.
#[derive(Debug, Default)]
pub(crate) struct FailureLog {
    second: Cell<Option<Instant>>,
    written: Cell<u32>,
    left_out: Cell<u64>,
}

impl FailureLog {
    /// Writes the line, unless this second's share is used up: then it is only
    /// counted, and not even made.
    pub(crate) fn write<'a>(&self, line: impl FnOnce() -> FailureLine<'a>) {
        if self.may_write() {
            line().emit();
        }
    }

    /// Takes one line of this second's share, for a caller that writes itself.
    pub(crate) fn may_write(&self) -> bool {
        let now = Instant::now();
        let same_second =
            self.second.get().is_some_and(|begun| now - begun < Duration::from_secs(1));
        if !same_second {
            self.second.set(Some(now));
            self.written.set(0);
            let left_out = self.left_out.replace(0);
            if left_out > 0 {
                warn!(left_out, "failure lines left out");
            }
        }
        if self.written.get() >= LINES_PER_SECOND {
            self.left_out.set(self.left_out.get() + 1);
            return false;
        }
        self.written.set(self.written.get() + 1);
        true
    }
}

impl FailureLine<'_> {
    fn emit(&self) {
        let detail: Option<&str> = if self.detail.is_empty() { None } else { Some(&self.detail) };
        warn!(
            request_id = %self.request_id,
            status = self.status,
            cause = %self.cause,
            phase = %self.phase,
            detail,
            client = %self.client,
            port = self.port,
            game = self.game,
            group = self.group,
            backend = self.backend,
            method = self.method.as_deref(),
            host = self.host.as_deref(),
            path = self.path.as_deref(),
            "request failed"
        );
    }
}
