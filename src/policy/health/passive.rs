//! Failures of requests.

use super::Millis;
use crate::policy::sticky::Ejection;

/// `max_fails` and `fail_timeout` of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveLimits {
    /// Failures that eject; 0: nothing ever does.
    pub max_fails: u32,
    /// How long an ejection lasts, and how quiet it must have been for a success
    /// to clear failures.
    pub fail_timeout: Millis,
}

impl PassiveLimits {
    /// The last moment at which so many failures, the last of them then, keep a
    /// backend out. The same as [`Passive::is_eligible`], ahead of time.
    #[must_use]
    pub fn out_until(self, fails: u32, checked: Millis) -> Option<Millis> {
        let is_ejected = self.max_fails > 0 && fails >= self.max_fails;
        is_ejected.then(|| checked.saturating_add(self.fail_timeout))
    }
}

/// Whose fault a failure may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody is there: no connection, or no TLS handshake. No request does that.
    Unreachable,
    /// A timeout, an end before the answer, no valid answer, a status that
    /// counts: it may be this one request's own doing.
    Request,
}

/// What passive health remembers of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passive {
    fails: u32,
    /// Of the last failure.
    failed: Millis,
    /// Of the last failure, or of the last request that was let in after a quiet
    /// `fail_timeout`: nobody else is let in until as long has passed again.
    checked: Millis,
    /// What the failure that ejected it was.
    ejection: Option<Ejection>,
}

impl Passive {
    /// Failures that count at the moment.
    #[must_use]
    pub fn fails(&self) -> u32 {
        self.fails
    }

    /// Why it is kept out, if it is; also while its trial is under way.
    #[must_use]
    pub fn ejection(&self, limits: PassiveLimits) -> Option<Ejection> {
        self.ejection.filter(|_| self.is_ejected(limits))
    }

    /// May be picked now: it is not ejected, or it is time for its trial.
    #[must_use]
    pub fn is_eligible(&self, limits: PassiveLimits, now: Millis) -> bool {
        !self.is_ejected(limits) || self.is_quiet(limits, now)
    }

    /// Why it is kept out, and for how much longer; 0: the next request is its
    /// trial.
    #[must_use]
    pub fn sentence(&self, limits: PassiveLimits, now: Millis) -> Option<(Ejection, Millis)> {
        let since = now.saturating_sub(self.checked);
        // A trial begins when more than `fail_timeout` has passed.
        let left = limits.fail_timeout.saturating_add(1).saturating_sub(since);
        self.ejection(limits).map(|why| (why, left))
    }

    /// When the last failure was, or the last trial.
    #[must_use]
    pub fn checked(&self) -> Millis {
        self.checked
    }

    /// A request is about to go there. False when it may not: another worker's
    /// request has just become the trial.
    #[must_use]
    pub fn admit(&mut self, limits: PassiveLimits, now: Millis) -> bool {
        if !self.is_eligible(limits, now) {
            return false;
        }
        if self.is_quiet(limits, now) {
            self.checked = now;
        }
        true
    }

    /// A request there failed. `may_eject`: what of the group is left would be
    /// enough ([`Blame::Request`] alone is bound by it). True when that ejected
    /// it, or kept it out for longer.
    pub fn fail(
        &mut self,
        limits: PassiveLimits,
        blame: Blame,
        may_eject: bool,
        now: Millis,
    ) -> bool {
        if limits.max_fails == 0 {
            return false;
        }
        self.failed = now;
        self.checked = now;
        let was_ejected = self.is_ejected(limits);
        if blame == Blame::Request && !may_eject && !was_ejected {
            // One short of it, so that the next that may eject does.
            self.fails = (self.fails + 1).min(limits.max_fails - 1);
            return false;
        }
        self.fails = self.fails.saturating_add(1);
        let ejected = self.is_ejected(limits);
        if ejected {
            self.ejection = Some(match blame {
                Blame::Unreachable => Ejection::Unreachable,
                Blame::Request => Ejection::Failing,
            });
        }
        ejected
    }

    /// A request there succeeded. True when that ended an ejection.
    pub fn succeed(&mut self, limits: PassiveLimits) -> bool {
        if self.fails == 0 || self.failed >= self.checked {
            return false;
        }
        let was_ejected = self.is_ejected(limits);
        self.fails = 0;
        self.ejection = None;
        was_ejected
    }

    fn is_ejected(&self, limits: PassiveLimits) -> bool {
        limits.max_fails > 0 && self.fails >= limits.max_fails
    }

    /// Longer than `fail_timeout` without a failure or a trial.
    fn is_quiet(&self, limits: PassiveLimits, now: Millis) -> bool {
        self.fails > 0 && now.saturating_sub(self.checked) > limits.fail_timeout
    }
}
