//! Numbers for what workers keep beside the snapshot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A place in a list of each worker: small, so that the lists are short, and
/// given to another when its holder is gone.
#[derive(Debug)]
pub struct Slot {
    /// No other that is held has it.
    pub index: usize,
    /// Nobody else ever has it: tells what is kept for this holder from what was
    /// kept for an earlier one.
    pub life: u64,
    pool: &'static Pool,
}

/// Slots that were given back, and how many there are in all.
type Pool = Mutex<(Vec<usize>, usize)>;

/// Each kind of holder has numbers of its own, so that its lists have no gaps.
static GROUPS: Pool = Mutex::new((Vec::new(), 0));
static BACKENDS: Pool = Mutex::new((Vec::new(), 0));

impl Slot {
    pub(super) fn of_group() -> Slot {
        Slot::take(&GROUPS)
    }

    pub(super) fn of_backend() -> Slot {
        Slot::take(&BACKENDS)
    }

    fn take(pool: &'static Pool) -> Slot {
        static LIVES: AtomicU64 = AtomicU64::new(1);
        let mut slots = pool.lock().unwrap_or_else(PoisonError::into_inner);
        let (free, count) = &mut *slots;
        let index = free.pop().unwrap_or_else(|| {
            *count += 1;
            *count - 1
        });
        Slot { index, life: LIVES.fetch_add(1, Ordering::Relaxed), pool }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).0.push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_and_told_apart() {
        let (one, two) = (Slot::of_group(), Slot::of_group());
        assert_ne!(one.index, two.index);
        let (index, life) = (one.index, one.life);
        drop(one);
        // Other tests take some too.
        let all: Vec<Slot> = (0..1000).map(|_| Slot::of_group()).collect();
        assert!(all.iter().any(|slot| slot.index == index));
        assert!(all.iter().all(|slot| slot.life != life && slot.index != two.index));
    }
}
