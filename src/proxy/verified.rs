//! Cookies that this worker verified lately. A player sends the same one with
//! every request of a while, and reading it again says the same: comparing it
//! with what was read costs a twentieth of verifying it.

use std::cell::RefCell;

use super::players::STEP;
use crate::policy::sticky::{Bound, INSERT_LEN, Seconds};

/// Values remembered; a new one takes the place of another. With as many players
/// on a worker about a third of their requests are verified anew.
const SLOTS: usize = 1024;
/// Remembered for this many seconds: what made a value good, its key above all,
/// is looked at again from time to time.
const LASTS: Seconds = 60;

/// See the module. Takes its room (100 KiB) with the first cookie.
#[derive(Debug, Default)]
pub(super) struct Verified {
    slots: RefCell<Vec<Slot>>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// [`crate::state::Sticky::id`]; 0, which nobody has: nothing stands here.
    group: u64,
    value: [u8; INSERT_LEN],
    bound: Bound,
    since: Seconds,
    /// When its player was last counted.
    counted: Seconds,
}

const EMPTY: Slot = Slot {
    group: 0,
    value: [0; INSERT_LEN],
    bound: Bound { backend: None, first: 0, last: 0, tag: 0 },
    since: 0,
    counted: 0,
};

impl Verified {
    /// What this value said, if it was good; and whether its player has to be
    /// counted, which is so once in [`STEP`] seconds.
    pub(super) fn recall(&self, group: u64, value: &[u8], now: Seconds) -> Option<(Bound, bool)> {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(place(value)?)?;
        let value: &[u8; INSERT_LEN] = value.try_into().ok()?;
        // All bytes are compared, whatever the first ones say: how long it takes
        // must not tell a forger how far he got.
        let differ = slot.value.iter().zip(value).fold(0, |all, (a, b)| all | (a ^ b));
        let lasts = now.saturating_sub(slot.since) < LASTS && now >= slot.since;
        if slot.group != group || differ != 0 || !lasts {
            return None;
        }
        let count = slot.counted / STEP != now / STEP;
        slot.counted = now;
        Some((slot.bound, count))
    }

    /// This value was verified.
    pub(super) fn remember(&self, group: u64, value: &[u8], bound: Bound, now: Seconds) {
        let (Some(place), Ok(value)) = (place(value), value.try_into()) else { return };
        let mut slots = self.slots.borrow_mut();
        if slots.is_empty() {
            slots.resize(SLOTS, EMPTY);
        }
        if let Some(slot) = slots.get_mut(place) {
            *slot = Slot { group, value, bound, since: now, counted: now };
        }
    }
}

/// By characters in the middle of the signature, which are as good as random.
fn place(value: &[u8]) -> Option<usize> {
    let [.., a, b, c, d, _, _, _, _] = *value else { return None };
    let mixed = u32::from_le_bytes([a, b, c, d]).wrapping_mul(0x9E37_79B1);
    // The upper ten bits: fewer than the slots there are.
    usize::try_from(mixed >> 22).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Seconds = 1_800_000_000;

    fn bound(tag: u32) -> Bound {
        Bound { backend: Some(1), first: NOW, last: NOW, tag }
    }

    #[test]
    fn the_same_value_of_the_same_group_says_the_same_for_a_minute() {
        let verified = Verified::default();
        let value = [b'a'; INSERT_LEN];
        assert_eq!(verified.recall(1, &value, NOW), None);
        verified.remember(1, &value, bound(7), NOW);
        assert_eq!(verified.recall(1, &value, NOW), Some((bound(7), false)));
        assert_eq!(verified.recall(1, &value, NOW + 59), Some((bound(7), true)));
        assert_eq!(verified.recall(1, &value, NOW + 59), Some((bound(7), false)));
        assert_eq!(verified.recall(1, &value, NOW + 60), None);
        assert_eq!(verified.recall(1, &value, NOW - 1), None, "a clock set back");
        assert_eq!(verified.recall(2, &value, NOW), None, "of another group");
    }

    #[test]
    fn no_other_value_is_taken_for_it() {
        let verified = Verified::default();
        let value = [b'a'; INSERT_LEN];
        verified.remember(1, &value, bound(7), NOW);
        for at in 0..INSERT_LEN {
            let mut other = value;
            other[at] = b'b';
            assert_eq!(verified.recall(1, &other, NOW), None, "{at}");
        }
        assert_eq!(verified.recall(1, &value[1..], NOW), None);
    }

    #[test]
    fn values_of_other_lengths_are_not_remembered() {
        let verified = Verified::default();
        for value in [&b""[..], b"short", &[b'x'; INSERT_LEN + 1]] {
            verified.remember(1, value, bound(7), NOW);
            assert_eq!(verified.recall(1, value, NOW), None);
        }
    }
}
