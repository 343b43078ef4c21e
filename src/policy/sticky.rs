//! Stickiness: a client that has been on a backend comes back to it.
//!
//! The binding lies in the client's cookie and nowhere else, so it survives a
//! restart and holds on every instance that has the same secret. What it says:
//!
//! - **insert**: a cookie of our own. Its value names the backend, when the
//!   client was first and last here, and a random tag that tells clients apart
//!   when they are counted; all of it signed ([`InsertToken`]).
//! - **rewrite**: the application's cookie, with a signed token ([`RewriteToken`])
//!   in front of its value. The application owns its life and never sees the token.
//!
//! [`InsertToken::verify`] and [`Life::check`] say what a cookie is worth,
//! [`Standing`] what becomes of a bound request while its backend is not well,
//! [`Session`] which cookie goes back.

pub mod cookies;
mod keys;
mod token;

pub use keys::{GroupKeys, KeyRing, Secret, VERIFIES_FOR};
pub use token::{INSERT_LEN, InsertToken, PREFIX_LEN, RewriteToken, split_rewritten};

/// A time stamp this far ahead counts as now: clocks of instances differ.
pub const MAX_AHEAD: u32 = 5 * 60;

/// Seconds since 1970, as a cookie holds them. Enough until 2106.
pub type Seconds = u32;

/// How long an inserted cookie binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Seconds without a request after which it no longer does.
    pub idle: Seconds,
    /// Seconds since the first request likewise.
    pub max_life: Option<Seconds>,
}

/// A cookie that verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The place of its backend in the group; `None`: there is no such backend
    /// any more.
    pub backend: Option<usize>,
    /// The client's first request.
    pub first: Seconds,
    /// When the cookie was issued.
    pub last: Seconds,
    /// Tells clients apart, by chance.
    pub tag: u32,
}

/// Why a cookie binds nothing. The client is served as if it had none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Not of the form we give out: another program's, cut off, or garbled.
    Shape,
    /// Signed with a key that is not, or no longer, in the ring.
    UnknownKey,
    /// The signature is not ours, or of another group.
    Forged,
    /// From too far in the future.
    Future,
    /// Not used for longer than `idle`, or older than `max_life`.
    Expired,
}

impl Reject {
    /// All of them, in the order of their numbers.
    pub const ALL: [Reject; 5] =
        [Reject::Shape, Reject::UnknownKey, Reject::Forged, Reject::Future, Reject::Expired];

    /// The name in metrics and status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reject::Shape => "shape",
            Reject::UnknownKey => "unknown_key",
            Reject::Forged => "forged",
            Reject::Future => "future",
            Reject::Expired => "expired",
        }
    }
}

impl Life {
    /// What a cookie is worth now.
    ///
    /// # Errors
    /// Why it binds nothing.
    pub fn check(self, bound: Bound, now: Seconds) -> Result<Bound, Reject> {
        let latest = now.saturating_add(MAX_AHEAD);
        if bound.last > latest || bound.first > latest {
            return Err(Reject::Future);
        }
        let unused = now.saturating_sub(bound.last);
        let age = now.saturating_sub(bound.first);
        if unused > self.idle || self.max_life.is_some_and(|most| age > most) {
            return Err(Reject::Expired);
        }
        Ok(bound)
    }

    /// A cookie is issued anew when a tenth of `idle` has passed since, rather
    /// than with every response.
    #[must_use]
    pub fn is_due(self, last: Seconds, now: Seconds) -> bool {
        let passed = u64::from(now.saturating_sub(last));
        passed > 0 && passed * 10 >= u64::from(self.idle)
    }
}

/// Why a backend is kept out for a while after failed requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejection {
    /// It could not be connected to, or its TLS handshake failed: nobody is
    /// there.
    Unreachable,
    /// It timed out or answered with a status that counts as a failure: it is
    /// there, and the client's session with it.
    Failing,
}

/// What the operator wants of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdminState {
    /// Takes requests.
    #[default]
    Ready,
    /// Serves the clients bound to it and takes no new ones.
    Drain,
    /// Takes none.
    Maint,
}

impl AdminState {
    /// The name in files, commands and status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            AdminState::Ready => "ready",
            AdminState::Drain => "drain",
            AdminState::Maint => "maint",
        }
    }
}

/// How a backend stands at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What the operator wants of it.
    pub admin: AdminState,
    /// Down by its probes.
    pub down: bool,
    /// Kept out by passive health.
    pub ejected: Option<Ejection>,
    /// `max_connections` are in use.
    pub full: bool,
}

/// Where a bound request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To its backend.
    Home,
    /// To another one this once: the binding stays.
    Elsewhere,
    /// To another one, which it is bound to from then on.
    Anew,
}

impl Standing {
    /// May be picked for a request that is bound to nobody.
    #[must_use]
    pub fn takes_new(self) -> bool {
        self.admin == AdminState::Ready && !self.down && self.ejected.is_none() && !self.full
    }

    /// Where a request goes that is bound to this backend. `drain`, weight 0 and
    /// failed answers keep nobody away from where his session is.
    #[must_use]
    pub fn direction(self) -> Direction {
        match self {
            Standing { admin: AdminState::Maint, .. }
            | Standing { down: true, .. }
            | Standing { ejected: Some(Ejection::Unreachable), .. } => Direction::Anew,
            Standing { full: true, .. } => Direction::Elsewhere,
            _ => Direction::Home,
        }
    }
}

/// A request's binding from its cookie to its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The cookie, if it was worth something.
    pub bound: Option<Bound>,
    /// Whoever serves the request, the binding stays.
    pub stays: bool,
    /// The tag of a client that had no cookie.
    pub tag: u32,
}

impl Session {
    /// The binding after the backend at `served` answered, and whether the
    /// client has to be told.
    #[must_use]
    pub fn after(self, served: usize, life: Life, now: Seconds) -> (Bound, bool) {
        let Some(bound) = self.bound else {
            let new = Bound { backend: Some(served), first: now, last: now, tag: self.tag };
            return (new, true);
        };
        // A clock that ran ahead elsewhere is no reason to look young for ever.
        let first = bound.first.min(now);
        if self.stays || bound.backend == Some(served) {
            let due = life.is_due(bound.last, now);
            return (Bound { first, last: now, ..bound }, due);
        }
        (Bound { backend: Some(served), first, last: now, tag: bound.tag }, true)
    }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
