//! What is believed of a group's backends, shared by all workers: written when
//! requests fail, and read without a lock while none do.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use super::{Backend, Group};
use crate::policy::health::{Blame, Millis, Passive, PassiveLimits};
use crate::policy::retry::Budget;
use crate::policy::sticky::{Ejection, Standing};

/// A backend's passive health.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// As many as `passive` counts; while it is 0 nobody has to look further.
    fails: AtomicU32,
    /// When it was last heard of, as `passive` has it.
    checked: AtomicU64,
    passive: Mutex<Passive>,
    met: Mutex<Met>,
}

/// What requests met at a backend, for people.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met {
    /// When one failed there last, and by which cause.
    pub failure: Option<(SystemTime, &'static str)>,
    /// When it was ejected last.
    pub ejected: Option<SystemTime>,
}

impl Health {
    fn is_spotless(&self) -> bool {
        self.fails() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Passive> {
        // Nothing in there is left half done by a panic.
        self.passive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it is kept out now; not when it is time for its trial.
    fn ejection(&self, limits: PassiveLimits) -> Option<Ejection> {
        if self.is_spotless() {
            return None;
        }
        let passive = self.lock();
        if passive.is_eligible(limits, now()) { None } else { passive.ejection(limits) }
    }

    /// When something bad was heard last.
    pub(super) fn checked(&self) -> Millis {
        self.checked.load(Ordering::Relaxed)
    }

    /// What requests met is forgotten.
    pub(super) fn forget(&self) {
        let mut passive = self.lock();
        *passive = Passive::default();
        self.publish(&passive);
    }

    /// What it may be read by without the lock.
    fn publish(&self, passive: &Passive) {
        self.fails.store(passive.fails(), Ordering::Relaxed);
        self.checked.store(passive.checked(), Ordering::Relaxed);
    }

    /// The failures that count now, for who wants no lock.
    pub(super) fn fails(&self) -> u32 {
        self.fails.load(Ordering::Relaxed)
    }
}

/// Milliseconds since the first call.
pub(super) fn now() -> Millis {
    static START: OnceLock<Instant> = OnceLock::new();
    Millis::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(Millis::MAX)
}

/// Replays of a group's requests.
#[derive(Debug, Default)]
pub(super) struct Replays {
    requests: AtomicU64,
    budget: Mutex<Budget>,
}

impl Backend {
    /// What requests met there last.
    #[must_use]
    pub fn met(&self) -> Met {
        *self.vitals.health.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure for who asks later.
    fn meet(&self, cause: &'static str, newly_out: bool) {
        let now = SystemTime::now();
        let mut met = self.vitals.health.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.failure = Some((now, cause));
        if newly_out {
            met.ejected = Some(now);
        }
    }

    /// It is ejected for it could not be reached.
    pub(super) fn is_unreachable(&self) -> bool {
        let health = &self.vitals.health;
        !health.is_spotless() && health.lock().ejection(self.limits) == Some(Ejection::Unreachable)
    }

    fn ejection(&self) -> Option<Ejection> {
        self.vitals.health.ejection(self.limits)
    }

    /// Does something with what is remembered of failures, and has its gate show
    /// what became of it.
    fn change<T>(&self, work: impl FnOnce(&mut Passive, PassiveLimits) -> T) -> T {
        let health = &self.vitals.health;
        let mut passive = health.lock();
        let before = *passive;
        let made = work(&mut passive, self.limits);
        if *passive != before {
            health.publish(&passive);
            drop(passive);
            self.vitals.show();
        }
        made
    }

    /// Whether a request may go there; it may be its trial.
    fn admit(&self) -> bool {
        self.vitals.health.is_spotless()
            || self.change(|passive, limits| passive.admit(limits, now()))
    }
}

impl Replays {
    fn lock(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    /// Down by its probes; what those of an earlier time found is nothing.
    fn is_down(&self, backend: &Backend) -> bool {
        self.config.probe.is_some() && backend.vitals.probes.is_down()
    }

    /// How the backend at this place stands at the moment.
    #[must_use]
    pub fn standing(&self, place: usize) -> Option<Standing> {
        let backend = self.backends.get(place)?;
        let down = self.is_down(backend);
        Some(Standing { down, ejected: backend.ejection(), ..backend.standing() })
    }

    /// Why the backend at this place is ejected, and for how much longer; zero: the
    /// next request to it is its trial.
    #[must_use]
    pub fn sentence(&self, place: usize) -> Option<(Ejection, Duration)> {
        let backend = self.backends.get(place)?;
        let (why, left) = backend.vitals.health.lock().sentence(backend.limits, now())?;
        Some((why, Duration::from_millis(left)))
    }

    /// How many requests may be sent again at this moment, by the budget.
    #[must_use]
    pub fn replays_left(&self, percent: u32) -> u64 {
        let requests = self.replays.requests.load(Ordering::Relaxed);
        self.replays.lock().left(percent, requests, now())
    }

    /// A request is about to go there. False when another worker's is the trial
    /// that there is.
    #[must_use]
    pub fn admit(&self, place: usize) -> bool {
        self.backends.get(place).is_some_and(Backend::admit)
    }

    /// A request there succeeded.
    pub fn note_success(&self, place: usize) {
        let Some(backend) = self.backends.get(place) else { return };
        if backend.vitals.health.is_spotless() {
            return;
        }
        if backend.change(Passive::succeed) {
            let (game, group) = (&*self.game, &*self.config.name);
            info!(game, group, backend = &*backend.config.name, "backend serves again");
        }
    }

    /// A request there failed, by this cause.
    pub fn note_failure(&self, place: usize, blame: Blame, cause: &'static str) {
        let Some(backend) = self.backends.get(place) else { return };
        let is_out = |other: &&Backend| self.is_down(other) || other.ejection().is_some();
        let out = self.backends.iter().filter(is_out).count();
        let may_eject = (out + 1) * 2 <= self.backends.len();
        let newly_out = backend.change(|passive, limits| {
            let was_out = passive.ejection(limits).is_some();
            passive.fail(limits, blame, may_eject, now()) && !was_out
        });
        backend.meet(cause, newly_out);
        if newly_out {
            let (game, group) = (&*self.game, &*self.config.name);
            let seconds = backend.config.fail_timeout.as_secs_f32();
            let backend = &*backend.config.name;
            warn!(game, group, backend, %cause, seconds, "backend ejected");
        }
    }

    /// Counts so many requests of the group.
    pub fn note_requests(&self, count: u32) {
        self.replays.requests.fetch_add(u64::from(count), Ordering::Relaxed);
    }

    /// Takes a replay out of the budget, if there is one.
    #[must_use]
    pub fn take_replay(&self, percent: u32) -> bool {
        let requests = self.replays.requests.load(Ordering::Relaxed);
        self.replays.lock().take(percent, requests, now())
    }

    /// Gives a replay back that was taken: nobody was there for it.
    pub fn return_replay(&self) {
        self.replays.lock().give_back();
    }
}
