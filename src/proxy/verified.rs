//! Cookies that this worker verified lately. A player sends the same one with
//! every request of a while, and reading it again says the same: comparing it
//! with what was read costs a twentieth of verifying it.

use std::cell::RefCell;

use super::players::STEP;
use crate::policy::sticky::{Bound, INSERT_LEN, Seconds};

/// Pairs of values remembered; a new one takes the place of one of its pair.
const PAIRS: usize = 512;
/// Remembered for this many seconds: what made a value good, its key above all,
/// is looked at again from time to time.
const LASTS: Seconds = 60;

/// See the module. Takes its room (100 KiB) with the first cookie.
#[derive(Debug, Default)]
pub(super) struct Verified {
    slots: RefCell<Vec<[Slot; 2]>>,
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
        let value: &[u8; INSERT_LEN] = value.try_into().ok()?;
        let pair = slots.get_mut(pair(value))?;
        let slot = pair.iter_mut().find(|slot| slot.group == group && same(&slot.value, value))?;
        if now < slot.since || now - slot.since >= LASTS {
            return None;
        }
        let count = slot.counted / STEP != now / STEP;
        slot.counted = now;
        Some((slot.bound, count))
    }

    /// This value was verified.
    pub(super) fn remember(&self, group: u64, value: &[u8], bound: Bound, now: Seconds) {
        let Ok(value) = <&[u8; INSERT_LEN]>::try_from(value) else { return };
        let mut slots = self.slots.borrow_mut();
        if slots.is_empty() {
            slots.resize(PAIRS, [EMPTY; 2]);
        }
        let Some(pair) = slots.get_mut(pair(value)) else { return };
        // Of the two the one that was not asked for longer goes.
        let [one, other] = pair;
        let old = one.group == group && same(&one.value, value) || one.counted <= other.counted;
        let slot = if old { one } else { other };
        *slot = Slot { group, value: *value, bound, since: now, counted: now };
    }
}

/// All bytes are compared, whatever the first ones say: how long it takes must not
/// tell a forger how far he got.
fn same(one: &[u8; INSERT_LEN], other: &[u8; INSERT_LEN]) -> bool {
    one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// Where a value may stand: by characters of its signature, which are as good as
/// random.
fn pair(value: &[u8; INSERT_LEN]) -> usize {
    let [.., a, b, c, d, _, _, _, _] = *value;
    let mixed = u32::from_le_bytes([a, b, c, d]).wrapping_mul(0x9E37_79B1);
    // The upper nine bits: fewer than the pairs there are.
    (mixed >> 23) as usize
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
    fn two_values_of_one_place_stay() {
        let verified = Verified::default();
        let values = [b'a', b'b', b'c'].map(|first| {
            let mut value = [b'z'; INSERT_LEN];
            value[0] = first;
            value
        });
        for (value, at) in values.iter().zip([NOW, NOW + 1, NOW + 2]) {
            verified.remember(1, value, bound(u32::from(value[0])), at);
        }
        let known = values.map(|value| verified.recall(1, &value, NOW + 3).is_some());
        assert_eq!(known, [false, true, true], "the oldest made room");
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
