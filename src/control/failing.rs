//! Who fails most of what is asked of it, whatever its health says: the only backend
//! of a group is never ejected, and an answer of 500 ejects nobody. Seen by looks at
//! the counters of the last minute.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::times::unix;
use crate::proxy::Cause;
use crate::state::{Backend, Group, Snapshot};
use crate::telemetry::counts::{Count, Lanes};

/// How often is looked, and how many looks are kept: a minute of them.
pub(super) const EVERY: Duration = Duration::from_secs(10);
const LOOKS: usize = 6;
/// So many must have failed: one player's bad luck is no outage.
const LEAST: u64 = 5;
/// A failure that was told by its cause is the same as one that was counted, if it
/// was no earlier than this before, in seconds.
const SAME: u64 = EVERY.as_secs();

/// More than half of what was asked in the last minute failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failing {
    /// Requests, or attempts at a backend.
    pub(super) all: u64,
    /// Of them.
    pub(super) failed: u64,
    /// When this was seen first, in seconds since 1970.
    pub(super) since: u64,
}

/// How many there were, and how many of them failed or were answered with 5xx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) all: u64,
    pub(super) failed: u64,
}

impl Counted {
    /// By classes of statuses and by causes. Of causes count those without an answer,
    /// and those that cut one: the others are in their class.
    pub(super) fn of_attempts(by_class: &[u64], by_cause: &[u64]) -> Counted {
        Counted::of(by_class, by_cause, 0..Cause::Status(500).number())
    }

    /// A client's failed requests have 5xx, but for what was cut.
    pub(super) fn of_requests(by_class: &[u64], by_cause: &[u64]) -> Counted {
        let cut = Cause::BodyClosed.number()..Cause::BodyTimeout.number() + 1;
        Counted::of(by_class, by_cause, cut)
    }

    fn of(by_class: &[u64], by_cause: &[u64], causes: std::ops::Range<usize>) -> Counted {
        let all = by_class.iter().sum();
        let caused: u64 = by_cause.get(causes).unwrap_or_default().iter().sum();
        let answered = by_class.get(5).copied().unwrap_or_default();
        Counted { all, failed: (answered + caused).min(all) }
    }
}

/// What was seen of one of them.
#[derive(Debug, Default)]
struct Past {
    looks: VecDeque<Counted>,
    since: Option<u64>,
    failed: u64,
    /// When there was one more of those, in seconds since 1970.
    last: Option<u64>,
}

impl Past {
    fn judge(&mut self, counted: Counted, now: u64) -> Option<Failing> {
        if counted.failed > self.failed {
            (self.failed, self.last) = (counted.failed, Some(now));
        }
        // Before the first of few looks there was nothing yet.
        let full = self.looks.front().filter(|_| self.looks.len() == LOOKS);
        let before = full.copied().unwrap_or_default();
        let all = counted.all.saturating_sub(before.all);
        let failed = counted.failed.saturating_sub(before.failed);
        if failed < LEAST || failed * 2 <= all {
            self.since = None;
            return None;
        }
        Some(Failing { all, failed, since: *self.since.get_or_insert(now) })
    }

    fn note(&mut self, counted: Counted, now: u64) {
        self.judge(counted, now);
        if self.looks.len() == LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back(counted);
    }
}

/// By game and group.
type GroupName = (Arc<str>, Arc<str>);

/// What was seen of all of them. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures(Rc<RefCell<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    groups: HashMap<GroupName, Past>,
    backends: HashMap<u64, Past>,
}

impl Failures {
    /// Another look at all of them.
    pub(super) fn look(&self, snapshot: &Snapshot) {
        let now = unix(SystemTime::now());
        let mut seen = self.0.borrow_mut();
        let (mut groups, mut backends) = (HashSet::new(), HashSet::new());
        for group in snapshot.groups() {
            let counted = of_group(group);
            // What serves nobody is not even remembered.
            if counted.all > 0 {
                seen.groups.entry(name(group)).or_default().note(counted, now);
                groups.insert(name(group));
            }
            for backend in &group.backends {
                let counted = of_backend(backend);
                if counted.all > 0 {
                    seen.backends.entry(backend.id()).or_default().note(counted, now);
                    backends.insert(backend.id());
                }
            }
        }
        seen.groups.retain(|name, _| groups.contains(name));
        seen.backends.retain(|id, _| backends.contains(id));
    }

    /// Of a group's requests, now.
    pub(super) fn of_group(&self, group: &Group) -> Option<Failing> {
        let mut seen = self.0.borrow_mut();
        let past = seen.groups.entry(name(group)).or_default();
        past.judge(of_group(group), unix(SystemTime::now()))
    }

    /// Of the attempts at a backend; and when one of them failed last, if that has no
    /// other witness: the last failure that was told was at `told`.
    pub(super) fn of_backend(
        &self,
        backend: &Backend,
        told: Option<u64>,
    ) -> (Option<Failing>, Option<u64>) {
        let mut seen = self.0.borrow_mut();
        let past = seen.backends.entry(backend.id()).or_default();
        let failing = past.judge(of_backend(backend), unix(SystemTime::now()));
        (failing, past.last.filter(|last| told.is_none_or(|told| told + SAME < *last)))
    }
}

fn name(group: &Group) -> GroupName {
    (Arc::clone(&group.game), Arc::clone(&group.config.name))
}

fn of_group(group: &Group) -> Counted {
    let lanes = &group.requests;
    let counts = || lanes.all().map(|lane| (&lane.by_class[..], &lane.by_cause[..]));
    Counted::of_requests(&sum(counts().map(|one| one.0)), &sum(counts().map(|one| one.1)))
}

fn of_backend(backend: &Backend) -> Counted {
    let lanes: &Lanes<_> = backend.attempts();
    let counts = || lanes.all().map(|lane| (&lane.by_class[..], &lane.by_cause[..]));
    Counted::of_attempts(&sum(counts().map(|one| one.0)), &sum(counts().map(|one| one.1)))
}

/// Of all lanes; histograms, which are most of them, are left alone.
fn sum<'a>(lanes: impl Iterator<Item = &'a [Count]>) -> Vec<u64> {
    let mut sums = Vec::new();
    for lane in lanes {
        sums.resize(lane.len(), 0);
        for (sum, count) in sums.iter_mut().zip(lane) {
            *sum += count.get();
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(all: u64, failed: u64) -> Counted {
        Counted { all, failed }
    }

    #[test]
    fn more_than_half_of_some_is_failing() {
        let is = |all, failed| Past::default().judge(counted(all, failed), 7).is_some();
        assert!(is(5, 5) && is(9, 5) && is(1000, 501));
        assert!(!is(4, 4) && !is(10, 5) && !is(1000, 500) && !is(0, 0));
    }

    #[test]
    fn what_is_a_minute_old_does_not_count() {
        let mut past = Past::default();
        past.note(counted(10, 10), 0);
        assert_eq!(past.judge(counted(10, 10), 5).map(|one| one.since), Some(0));
        for look in 1..LOOKS as u64 {
            past.note(counted(10, 10), look * 10);
        }
        // All looks are of after it.
        assert_eq!(past.judge(counted(10, 10), 51), None);
        assert_eq!((past.last, past.judge(counted(14, 14), 52)), (Some(0), None));
        let failing = Failing { all: 6, failed: 6, since: 53 };
        assert_eq!(past.judge(counted(16, 16), 53), Some(failing));
        assert_eq!(past.last, Some(53));
        // It serves again: most of the minute is good in the end.
        assert_eq!(past.judge(counted(30, 16), 58), None);
    }

    #[test]
    fn what_counts_as_failed_counts_once() {
        let by_class = [3, 1, 10, 0, 5, 4];
        let mut by_cause = [0; Cause::NAMES.len()];
        by_cause[Cause::ConnectRefused.number()] = 2;
        by_cause[Cause::BodyClosed.number()] = 1;
        // These have their class.
        by_cause[Cause::Status(502).number()] = 4;
        by_cause[Cause::ClientGone.number()] = 9;
        assert_eq!(Counted::of_attempts(&by_class, &by_cause), counted(23, 7));
        assert_eq!(Counted::of_requests(&by_class, &by_cause), counted(23, 5));
        assert_eq!(Counted::of_attempts(&[], &[]), counted(0, 0));
    }
}
