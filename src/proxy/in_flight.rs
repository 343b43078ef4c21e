//! How many requests a worker has in flight at each backend. Its own count, so
//! that it costs a request next to nothing; the numbers meet only when somebody
//! asks.

use std::cell::RefCell;

use crate::state::Backend;

/// By the backends' slots: whoever holds a request in flight holds the backend,
/// and so its slot, too.
#[derive(Debug, Default)]
pub(super) struct InFlight(RefCell<Vec<u32>>);

impl InFlight {
    /// One more.
    pub(super) fn enter(&self, backend: &Backend) {
        let mut counts = self.0.borrow_mut();
        let slot = backend.slot();
        if counts.len() <= slot {
            counts.resize(slot + 1, 0);
        }
        if let Some(count) = counts.get_mut(slot) {
            *count += 1;
        }
    }

    /// One less.
    pub(super) fn leave(&self, backend: &Backend) {
        if let Some(count) = self.0.borrow_mut().get_mut(backend.slot()) {
            *count -= 1;
        }
    }

    /// All of them, by slot.
    pub(super) fn get(&self) -> Vec<u32> {
        self.0.borrow().clone()
    }
}
