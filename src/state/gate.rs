//! Who takes new requests: one number of each backend, side by side in the group,
//! so that a pick among a thousand reads little memory. They are written when
//! something changes, and say what [`Group::standing`](super::Group::standing)
//! finds by looking into everything.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::health::now;
use super::{Backend, Group};
use crate::config::{AdminState, AllDown};
use crate::policy::health::{Millis, PassiveLimits};

/// The top of a gate says what shuts it for good; the rest is the last millisecond
/// at which it is shut. 0 is an open one.
const DOWN: u64 = 1 << 63;
const AWAITED: u64 = 1 << 62;
const NOT_READY: u64 = 1 << 61;
const LAST: u64 = NOT_READY - 1;

/// The gates of a group's backends, each at its backend's place.
#[derive(Debug)]
pub(super) struct Gates(Arc<[AtomicU64]>);

impl Gates {
    pub(super) fn new(count: usize) -> Gates {
        Gates((0..count).map(|_| AtomicU64::new(0)).collect())
    }

    /// The gate at this place, for those who know when it opens.
    pub(super) fn view(&self, at: usize, rules: Rules) -> View {
        View { gates: Arc::downgrade(&self.0), at, rules }
    }
}

/// What a group's settings make of what is known of a backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// What the drop-in says.
    pub(super) admin: AdminState,
    pub(super) limits: PassiveLimits,
    /// Its group has a probe.
    pub(super) probed: bool,
}

/// What is known of a backend, for its gate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) fails: u32,
    pub(super) checked: Millis,
    pub(super) down: bool,
    pub(super) awaited: bool,
    /// What the operator said at run time.
    pub(super) ordered: Option<AdminState>,
}

impl Rules {
    fn gate(self, seen: Seen) -> u64 {
        let admin = match seen.ordered.unwrap_or(self.admin) {
            AdminState::Ready => 0,
            AdminState::Drain | AdminState::Maint => NOT_READY,
        };
        let probes = match (self.probed && seen.down, seen.awaited) {
            (false, _) => 0,
            (true, false) => DOWN,
            (true, true) => AWAITED,
        };
        let until = self.limits.out_until(seen.fails, seen.checked);
        admin | probes | until.map_or(0, |until| until.clamp(1, LAST))
    }
}

/// A backend's gate in one group.
#[derive(Debug)]
pub(super) struct View {
    gates: Weak<[AtomicU64]>,
    at: usize,
    rules: Rules,
}

/// A backend's gates: in the current snapshot's group, and in those of earlier
/// ones that still serve requests.
#[derive(Debug, Default)]
pub(super) struct Views(Mutex<Vec<View>>);

impl Views {
    /// Another group has it now.
    pub(super) fn add(&self, view: View, seen: impl FnOnce() -> Seen) {
        self.lock().push(view);
        self.show(seen);
    }

    /// Sets all gates. `seen` is asked when it is this one's turn, so that of two
    /// changes at once the later one tells of both.
    pub(super) fn show(&self, seen: impl FnOnce() -> Seen) {
        let mut views = self.lock();
        let seen = seen();
        views.retain(|view| {
            let Some(gates) = view.gates.upgrade() else { return false };
            if let Some(gate) = gates.get(view.at) {
                gate.store(view.rules.gate(seen), Ordering::Relaxed);
            }
            true
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<View>> {
        // Nothing in there is left half done by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Group::takers`]. The clock is looked at once, and only if it has to be.
#[derive(Debug)]
pub struct Takers<'a> {
    gates: &'a [AtomicU64],
    /// Where some may be full: all of them.
    capped: &'a [Backend],
    trust: Trust,
    /// What of a gate does not matter to that trust.
    ignored: u64,
    now: OnceCell<Millis>,
}

/// Whom [`Takers`] take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Who is believed to be able to serve.
    Known,
    /// Those too that a reload added and of which no probe said anything yet.
    Awaited,
    /// Whoever the operator did not put out, whatever is believed of him.
    Anybody,
}

impl Trust {
    /// What of a gate does not matter.
    fn ignored(self) -> u64 {
        match self {
            Trust::Known => 0,
            Trust::Awaited => AWAITED,
            Trust::Anybody => !NOT_READY,
        }
    }
}

impl Takers<'_> {
    /// Whom it takes.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// Whether the backend at this place takes new requests.
    #[must_use]
    pub fn take(&self, place: usize) -> bool {
        let Some(gate) = self.gates.get(place) else { return false };
        let gate = gate.load(Ordering::Relaxed) & !self.ignored;
        let is_open = gate == 0 || (gate <= LAST && *self.now.get_or_init(now) > gate);
        is_open && !self.capped.get(place).is_some_and(Backend::is_full)
    }
}

impl Group {
    /// Who takes new requests at the moment.
    #[must_use]
    pub fn takers(&self) -> Takers<'_> {
        self.takers_by(Trust::Known)
    }

    fn takers_by(&self, trust: Trust) -> Takers<'_> {
        let capped = if self.has_caps { &*self.backends } else { &[] };
        let ignored = trust.ignored();
        Takers { gates: &self.gates.0, capped, trust, ignored, now: OnceCell::new() }
    }

    /// Who may have a request that is bound to nobody, the next only where nobody
    /// of those before is left. Those of which nothing is known yet are better than
    /// nothing, and with `all_down = "try"` what is believed of the others may be
    /// wrong.
    pub fn circles(&self) -> impl Iterator<Item = Takers<'_>> {
        let last = (self.config.all_down == AllDown::Try).then_some(Trust::Anybody);
        let trusts = [Some(Trust::Known), Some(Trust::Awaited), last];
        trusts.into_iter().flatten().map(|trust| self.takers_by(trust))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        admin: AdminState::Ready,
        limits: PassiveLimits { max_fails: 2, fail_timeout: 10 },
        probed: true,
    };

    #[test]
    fn a_gate_says_all_that_speaks_against_a_backend() {
        let quiet = Seen::default();
        assert_eq!(RULES.gate(quiet), 0);
        assert_eq!(RULES.gate(Seen { fails: 1, checked: 5, ..quiet }), 0);
        assert_eq!(RULES.gate(Seen { fails: 2, checked: 5, ..quiet }), 15);
        assert_eq!(RULES.gate(Seen { down: true, ..quiet }), DOWN);
        assert_eq!(RULES.gate(Seen { down: true, awaited: true, ..quiet }), AWAITED);
        let unprobed = Rules { probed: false, ..RULES };
        assert_eq!(unprobed.gate(Seen { down: true, ..quiet }), 0);
        for admin in [AdminState::Drain, AdminState::Maint] {
            let written = Rules { admin, ..RULES };
            assert_eq!(written.gate(quiet), NOT_READY);
            // What the operator says goes before.
            assert_eq!(RULES.gate(Seen { ordered: Some(admin), ..quiet }), NOT_READY);
            let ready = Seen { ordered: Some(AdminState::Ready), ..quiet };
            assert_eq!(written.gate(ready), 0);
            assert_eq!(written.gate(Seen { down: true, ..ready }), DOWN);
        }
        // Long before the end of time, and at its end.
        let limits = PassiveLimits { fail_timeout: Millis::MAX, ..RULES.limits };
        let long = Rules { limits, ..RULES };
        assert_eq!(long.gate(Seen { fails: 2, checked: 5, ..quiet }), LAST);
    }

    #[test]
    fn only_the_operator_shuts_a_gate_for_good() {
        let opens = |trust: Trust, gate: u64| gate & !trust.ignored() == 0;
        for (gate, by) in [
            (0, [true, true, true]),
            (AWAITED, [false, true, true]),
            (DOWN, [false, false, true]),
            (15, [false, false, true]),
            (NOT_READY | AWAITED | 15, [false, false, false]),
        ] {
            let trusts = [Trust::Known, Trust::Awaited, Trust::Anybody];
            assert_eq!(trusts.map(|trust| opens(trust, gate)), by, "{gate:x}");
        }
    }

    #[test]
    fn old_groups_are_told_too_and_gone_ones_forgotten() {
        let (old, new) = (Gates::new(1), Gates::new(2));
        let views = Views::default();
        let seen = Seen { fails: 2, checked: 5, ..Seen::default() };
        views.add(old.view(0, RULES), Seen::default);
        views.add(new.view(1, Rules { probed: false, ..RULES }), Seen::default);
        views.show(|| seen);
        let at = |gates: &Gates, place: usize| gates.0[place].load(Ordering::Relaxed);
        assert_eq!((at(&old, 0), at(&new, 0), at(&new, 1)), (15, 0, 15));
        drop(old);
        views.show(Seen::default);
        assert_eq!((at(&new, 1), views.lock().len()), (0, 1));
    }
}
