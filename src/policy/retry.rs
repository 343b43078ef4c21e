//! Whether a failed attempt is followed by another one, and where it goes
//! (DESIGN 4.7). What was already written decides: a request that nobody has
//! seen may go anywhere, one that may have been executed only where executing it
//! again does no harm.

mod budget;

pub use budget::Budget;

use std::time::Duration;

/// The most attempts a request gets where its group does not say.
pub const MOST_ATTEMPTS: u32 = 16;
/// A request that was sent to this many backends goes to no other.
pub const MOST_SENT: u32 = 2;

/// Kinds of failures that `retry.on` names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u16);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No connection, or an end before the answer.
    Error,
    /// Of the connect or of the header.
    Timeout,
    /// What came is no answer.
    InvalidHeader,
    /// An answer with this status.
    Status(u16),
}

impl Kinds {
    /// The names a config file may use, each at the place of its bit.
    pub const NAMES: [&'static str; 10] = [
        "error",
        "timeout",
        "invalid_header",
        "http_500",
        "http_502",
        "http_503",
        "http_504",
        "http_403",
        "http_404",
        "http_429",
    ];

    /// The kind of this name.
    #[must_use]
    pub fn parse_name(name: &str) -> Option<Kinds> {
        let place = Self::NAMES.iter().position(|known| *known == name)?;
        Some(Kinds(1 << place))
    }

    /// These and `others`.
    #[must_use]
    pub const fn with(self, others: Kinds) -> Kinds {
        Kinds(self.0 | others.0)
    }

    /// nginx's default: `error` and `timeout`.
    #[must_use]
    pub const fn usual() -> Kinds {
        Kinds(0b11)
    }

    /// Whether this kind is one of them. A status that has no name never is.
    #[must_use]
    pub fn contains(self, kind: Kind) -> bool {
        let place = match kind {
            Kind::Error => 0,
            Kind::Timeout => 1,
            Kind::InvalidHeader => 2,
            Kind::Status(500) => 3,
            Kind::Status(502) => 4,
            Kind::Status(503) => 5,
            Kind::Status(504) => 6,
            Kind::Status(403) => 7,
            Kind::Status(404) => 8,
            Kind::Status(429) => 9,
            Kind::Status(_) => return false,
        };
        self.0 & (1 << place) != 0
    }
}

/// `retry` of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which failures are followed by another attempt.
    pub on: Kinds,
    /// Attempts in all; 0: [`MOST_ATTEMPTS`].
    pub tries: u32,
    /// After this no further attempt begins.
    pub timeout: Option<Duration>,
    /// Requests that are not idempotent are sent again like all others.
    pub non_idempotent: bool,
}

/// What is known of the request when an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Attempts so far, this one among them; sending again on a fresh connection
    /// is no attempt of its own.
    pub attempts: u32,
    /// Backends that were sent some of it.
    pub sent_to: u32,
    /// Since the first attempt began.
    pub elapsed: Duration,
    /// Executing it twice does no harm: by its method (RFC 9110 9.2.2), or
    /// because it carries a key by which the application knows it again.
    pub idempotent: bool,
    /// All of the body that was taken off the client, if any, is still there to be
    /// sent again.
    pub replayable: bool,
    /// The client has ended its side: most often it is gone, and a backend is not
    /// given work for nobody a second time.
    pub ended: bool,
    /// It is gone for certain.
    pub gone: bool,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What failed.
    pub kind: Kind,
    /// The backend may have seen some of the request. Not one of which no byte
    /// was written, nor an HTTP/2 stream the backend says it did not process.
    pub sent: bool,
    /// On a connection that was there before, before a byte of an answer: it may
    /// just have been closed, or (HTTP/2) take no more requests.
    pub stale: bool,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Once more to the same backend, over a fresh connection.
    Again,
    /// To another backend. `charged`: it counts against the budget.
    Elsewhere {
        /// It was sent before.
        charged: bool,
    },
    /// Nothing: the client hears of this failure.
    GiveUp(Stop),
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The group does not want it for this kind.
    Kind,
    /// It may have been executed, and must not be twice.
    NotIdempotent,
    /// Nobody waits for it any more, or hardly.
    Client,
    /// Some of its body is gone.
    BodyGone,
    /// `tries`, or two backends have had it.
    Tries,
    /// `timeout`.
    Timeout,
}

/// Decides. Whether there is another backend, and whether the budget allows it,
/// is the caller's to find out.
#[must_use]
pub fn next(settings: &Settings, progress: &Progress, failed: Failed) -> Next {
    let give_up = Next::GiveUp;
    if !progress.replayable {
        return give_up(Stop::BodyGone);
    }
    let in_vain = progress.ended && failed.sent && !failed.stale;
    if progress.gone || in_vain {
        return give_up(Stop::Client);
    }
    let may_repeat = !failed.sent || progress.idempotent;
    if failed.stale && may_repeat {
        // The keep-alive race is nobody's failure, whatever the group says.
        return Next::Again;
    }
    if !settings.on.contains(failed.kind) {
        return give_up(Stop::Kind);
    }
    if !may_repeat && !settings.non_idempotent {
        return give_up(Stop::NotIdempotent);
    }
    let most = if settings.tries == 0 { MOST_ATTEMPTS } else { settings.tries };
    let sent_enough = settings.tries == 0 && failed.sent && progress.sent_to >= MOST_SENT;
    if progress.attempts >= most || sent_enough {
        return give_up(Stop::Tries);
    }
    if settings.timeout.is_some_and(|most| progress.elapsed >= most) {
        return give_up(Stop::Timeout);
    }
    Next::Elsewhere { charged: failed.sent }
}

#[cfg(test)]
mod tests;
