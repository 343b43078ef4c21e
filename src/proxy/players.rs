//! How many players a backend has: the distinct tags in the sticky cookies of
//! its requests, over the last minutes. Each worker counts its own, in sketches
//! of fixed size at most; the numbers meet only when somebody asks.

use std::cell::RefCell;
use std::collections::BTreeMap;

use cardinality_estimator::CardinalityEstimator;
use wyhash::WyHash;

use crate::policy::sticky::Seconds;

/// Whoever was here within this many seconds counts.
pub(crate) const WINDOW: Seconds = 5 * 60;
/// The window moves in steps of this many seconds.
pub(super) const STEP: Seconds = 30;
/// The steps of a window and the one that is under way.
const STEPS: Seconds = WINDOW / STEP + 1;

/// Distinct tags: exact while there are few, then within about 3 % (2^10
/// registers; less than 1 KiB).
pub(crate) type Sketch = CardinalityEstimator<u32, WyHash, 10, 6>;

/// The players of a worker, by backend.
#[derive(Debug, Default)]
pub(super) struct Players {
    /// Not hashed: against keys of an enemy's choice that costs more than a search.
    backends: RefCell<BTreeMap<u64, Window>>,
}

#[derive(Debug, Default)]
struct Window {
    slots: [Slot; STEPS as usize],
}

#[derive(Debug, Default)]
struct Slot {
    /// Which step since 1970 it counts.
    step: Seconds,
    tags: Sketch,
}

impl Players {
    /// A request with this tag goes to that backend.
    pub(super) fn note(&self, backend: u64, tag: u32, now: Seconds) {
        let step = now / STEP;
        let mut backends = self.backends.borrow_mut();
        let window = backends.entry(backend).or_default();
        let Some(slot) = window.slots.get_mut((step % STEPS) as usize) else { return };
        if slot.step != step {
            *slot = Slot { step, tags: Sketch::new() };
        }
        slot.tags.insert(&tag);
    }

    /// The sketches of the last [`WINDOW`], by backend. Backends that had nobody
    /// are forgotten.
    pub(super) fn recent(&self, now: Seconds) -> Vec<(u64, Sketch)> {
        let last = now / STEP;
        let is_recent =
            |slot: &&Slot| slot.step <= last && last - slot.step < STEPS && slot.step > 0;
        let mut recent = Vec::new();
        self.backends.borrow_mut().retain(|backend, window| {
            let mut all = Sketch::new();
            for slot in window.slots.iter().filter(is_recent) {
                all.merge(&slot.tags);
            }
            let some = all.estimate() > 0;
            if some {
                recent.push((*backend, all));
            }
            some
        });
        recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Seconds = 1_800_000_000;

    fn counts(players: &Players, now: Seconds) -> Vec<(u64, usize)> {
        let mut counts: Vec<_> =
            players.recent(now).iter().map(|(id, tags)| (*id, tags.estimate())).collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn a_player_counts_once_for_five_minutes() {
        let players = Players::default();
        for at in 0..200 {
            players.note(1, 7, NOW + at);
            players.note(1, 8, NOW + at);
            players.note(2, 7, NOW);
        }
        assert_eq!(counts(&players, NOW + 200), [(1, 2), (2, 1)]);
        assert_eq!(counts(&players, NOW + WINDOW), [(1, 2), (2, 1)]);
        assert_eq!(counts(&players, NOW + WINDOW + STEP), [(1, 2)]);
        assert_eq!(counts(&players, NOW + 200 + WINDOW + STEP), []);
        assert!(players.backends.borrow().is_empty(), "forgotten");
    }

    #[test]
    fn a_slot_is_used_again_after_a_round() {
        let players = Players::default();
        for tag in 0..50 {
            players.note(1, tag, NOW);
        }
        let round = NOW + STEP * STEPS;
        players.note(1, 99, round);
        assert_eq!(counts(&players, round), [(1, 1)]);
    }

    #[test]
    fn a_clock_set_back_does_no_harm() {
        let players = Players::default();
        players.note(1, 5, NOW + 10_000);
        players.note(1, 6, NOW);
        assert_eq!(counts(&players, NOW), [(1, 1)]);
    }

    #[test]
    fn many_are_counted_well_enough() {
        let players = Players::default();
        for tag in 0..20_000_u32 {
            players.note(1, tag.wrapping_mul(0x9e37_79b9), NOW + tag % 250);
        }
        let count = counts(&players, NOW + 250)[0].1;
        assert!(count.abs_diff(20_000) < 2_000, "{count}");
    }
}
