//! What probes found of a backend: written by the prober, read by every request
//! as one flag.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Backend;
use crate::policy::health::{Millis, Probed, Thresholds, Transition};

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// The answer was as it should be.
    pub good: bool,
    /// Of the answer, where there was one.
    pub status: Option<u16>,
    /// The cause by its name in the log, and what was seen; `None` when it was
    /// good.
    pub fault: Option<(&'static str, String)>,
    /// When it ended.
    pub at: SystemTime,
    /// How long it took.
    pub took: Duration,
}

/// What is known by probes at the moment.
#[derive(Clone, Debug)]
pub struct ProbeStatus {
    /// Up or down; `None` before the first verdict.
    pub up: Option<bool>,
    /// It takes no requests until then.
    pub waits: bool,
    /// When that began.
    pub since: SystemTime,
    /// Good probes in a row.
    pub good: u32,
    /// Bad ones.
    pub bad: u32,
    /// The last one.
    pub last: Option<ProbeResult>,
}

/// A verdict that became another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it became.
    pub to: Transition,
    /// How long the old one had lasted.
    pub lasted: Duration,
}

/// A backend's part of this.
#[derive(Debug)]
pub(super) struct Probes {
    /// It takes no requests.
    down: AtomicBool,
    /// Only because nothing is known of it yet.
    awaited: AtomicBool,
    found: Mutex<Found>,
}

#[derive(Debug)]
struct Found {
    probed: Probed,
    /// When the verdict became what it is, by either clock: one does not jump,
    /// the other can be read.
    since: (Instant, SystemTime),
    last: Option<ProbeResult>,
    /// Good ones in a row since passive health heard something bad, and when
    /// that was.
    good_since: (u32, Millis),
}

impl Probes {
    pub(super) fn new(probed: Probed) -> Probes {
        let since = (Instant::now(), SystemTime::now());
        let down = AtomicBool::new(probed.is_down());
        let awaited = AtomicBool::new(probed.is_awaited());
        let found = Mutex::new(Found { probed, since, last: None, good_since: (0, 0) });
        Probes { down, awaited, found }
    }

    /// As at a start: what was found before is nothing any more.
    pub(super) fn begin_anew(&self) {
        let Probes { found, .. } = Probes::new(Probed::at_start());
        let mut own = self.lock();
        *own = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.publish(&own.probed);
    }

    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed)
    }

    /// What it may be read by without the lock.
    fn publish(&self, probed: &Probed) {
        self.down.store(probed.is_down(), Ordering::Relaxed);
        self.awaited.store(probed.is_awaited(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        // Nothing in there is left half done by a panic.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend {
    /// What its probes found.
    #[must_use]
    pub fn probe_status(&self) -> ProbeStatus {
        let found = self.vitals.probes.lock();
        ProbeStatus {
            up: found.probed.is_up(),
            waits: found.probed.is_awaited(),
            since: found.since.1,
            good: found.probed.good(),
            bad: found.probed.bad(),
            last: found.last.clone(),
        }
    }

    /// Another probe ended. Whoever goes up begins anew: what requests met
    /// before no longer keeps it out. Nor does it keep out whoever could not be
    /// reached and answers probes again, as many as make a backend healthy: what
    /// came too soon to be seen down is not worse off for it. (Of one whose
    /// requests fail while it answers probes they say nothing.)
    pub fn note_probe(&self, result: ProbeResult, thresholds: Thresholds) -> Option<Change> {
        let mut found = self.vitals.probes.lock();
        let before = found.probed.is_up();
        let is_good = result.good;
        let to = found.probed.observe(is_good, thresholds);
        found.last = Some(result);
        let lasted = found.since.0.elapsed();
        if found.probed.is_up() != before {
            found.since = (Instant::now(), SystemTime::now());
        }
        self.vitals.probes.publish(&found.probed);
        self.vitals.show();
        let checked = self.vitals.health.checked();
        let before = if found.good_since.1 == checked { found.good_since.0 } else { 0 };
        let good = if is_good { before + 1 } else { 0 };
        found.good_since = (good, checked);
        drop(found);
        let is_reached = good >= thresholds.healthy && self.is_unreachable();
        if to == Some(Transition::Up) || is_reached {
            self.vitals.health.forget();
            self.vitals.show();
        }
        to.map(|to| Change { to, lasted })
    }
}
