//! Requests in flight at each backend, counted by all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Up to so many backends each has a cache line of its own (two, for the
/// prefetcher), for every worker writes there. Of more they lie side by side: a
/// pick by load reads all of them, and seldom do two workers meet in one line.
const FEW: usize = 64;
const APART: usize = 128 / size_of::<AtomicU32>();

/// One backend's count. A clone is the same one.
#[derive(Clone, Debug)]
pub(super) struct Load {
    slab: Arc<[AtomicU32]>,
    at: usize,
}

impl Load {
    /// Counts for so many backends of one group.
    pub(super) fn of_group(count: usize) -> impl Fn(usize) -> Load {
        let apart = if count <= FEW { APART } else { 1 };
        let slab: Arc<[AtomicU32]> = (0..count * apart).map(|_| AtomicU32::new(0)).collect();
        move |place| Load { slab: Arc::clone(&slab), at: place * apart }
    }

    pub(super) fn get(&self) -> u32 {
        self.slab.get(self.at).map_or(0, |load| load.load(Ordering::Relaxed))
    }

    /// One more; how many there were before.
    pub(super) fn add(&self) -> u32 {
        self.slab.get(self.at).map_or(0, |load| load.fetch_add(1, Ordering::Relaxed))
    }

    /// One less.
    pub(super) fn sub(&self) {
        if let Some(load) = self.slab.get(self.at) {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_has_its_own() {
        for count in [1, FEW, FEW + 1] {
            let of = Load::of_group(count);
            let all: Vec<Load> = (0..count).map(&of).collect();
            for (place, load) in all.iter().enumerate() {
                (0..=place).for_each(|_| _ = load.add());
                assert_eq!(of(place).get() as usize, place + 1);
            }
            let last = of(count - 1);
            last.sub();
            assert_eq!((last.get() as usize, all[0].get()), (count - 1, u32::from(count > 1)));
        }
    }
}
