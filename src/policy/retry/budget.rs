//! How many requests of a group may be sent again: a share of them all, so that
//! retries never become the load that keeps a struggling group down.

use crate::policy::health::Millis;

/// Over how many seconds requests and replays are counted.
const SECONDS: usize = 10;
/// What is always allowed within them: 10 a second.
const FLOOR: u32 = 100;

/// Replays of the last 10 s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    slots: [Slot; SECONDS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    second: u64,
    replays: u32,
    /// All requests of the group up to the beginning of that second.
    before: u64,
}

impl Budget {
    /// Takes one replay out, if there is one. `requests`: all requests the group
    /// ever had; `percent` of those of the last 10 s may be replays.
    #[must_use]
    pub fn take(&mut self, percent: u32, requests: u64, now: Millis) -> bool {
        if self.left(percent, requests, now) == 0 {
            return false;
        }
        let second = now / 1000;
        let at = usize::try_from(second % SECONDS as u64).unwrap_or_default();
        if let Some(slot) = self.slots.get_mut(at) {
            if slot.second != second || slot.replays == 0 {
                *slot = Slot { second, replays: 0, before: requests };
            }
            slot.replays += 1;
        }
        true
    }

    /// How many may be taken at this moment.
    #[must_use]
    pub fn left(&self, percent: u32, requests: u64, now: Millis) -> u64 {
        let second = now / 1000;
        let from = second.saturating_sub(SECONDS as u64 - 1);
        let recent = self.slots.iter().filter(|slot| slot.replays > 0 && slot.second >= from);
        let replays: u32 = recent.clone().map(|slot| slot.replays).sum();
        // Requests are only known for the seconds that had replays: since the
        // first of them, which is fewer than there were and so on the safe side.
        let first = recent.map(|slot| slot.before).min().unwrap_or(requests);
        let share = requests.saturating_sub(first).saturating_mul(u64::from(percent)) / 100;
        share.max(u64::from(FLOOR)).saturating_sub(u64::from(replays))
    }

    /// Gives back one that was taken and not made.
    pub fn give_back(&mut self) {
        let used = self.slots.iter_mut().filter(|slot| slot.replays > 0);
        if let Some(slot) = used.max_by_key(|slot| slot.second) {
            slot.replays -= 1;
        }
    }
}
