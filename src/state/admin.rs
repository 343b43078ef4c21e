//! What the operator wants of a backend at run time: it stands before what the
//! drop-in says, until it is taken back.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Backend;
use crate::config::AdminState;

/// An admin state that an operator set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdminOrder {
    /// What it is.
    pub state: AdminState,
    /// When it was set, in seconds since 1970.
    pub since: u64,
}

/// A backend's part of this: one number, so that it changes as a whole. 0 is none;
/// the lowest two bits are the state, the rest is the time.
#[derive(Debug, Default)]
pub(super) struct Order(AtomicU64);

impl Order {
    pub(super) fn get(&self) -> Option<AdminOrder> {
        let number = self.0.load(Ordering::Relaxed);
        let state = match number & 3 {
            1 => AdminState::Ready,
            2 => AdminState::Drain,
            3 => AdminState::Maint,
            _ => return None,
        };
        Some(AdminOrder { state, since: number >> 2 })
    }

    fn set(&self, order: Option<AdminOrder>) {
        let number = order.map_or(0, |AdminOrder { state, since }| {
            let state = match state {
                AdminState::Ready => 1,
                AdminState::Drain => 2,
                AdminState::Maint => 3,
            };
            (since << 2) | state
        });
        self.0.store(number, Ordering::Relaxed);
    }
}

impl Backend {
    /// What the operator wants of it now: what he said last, else what the drop-in
    /// says.
    #[must_use]
    pub fn admin_state(&self) -> AdminState {
        self.admin_order().map_or(self.config.state, |order| order.state)
    }

    /// What was said at run time, as long as it holds.
    #[must_use]
    pub fn admin_order(&self) -> Option<AdminOrder> {
        self.vitals.order.get()
    }

    /// It holds from now on; `None`: what the drop-in says does.
    pub fn order(&self, order: Option<AdminOrder>) {
        if self.admin_order() != order {
            self.vitals.order.set(order);
            self.vitals.show();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_given() {
        let cell = Order::default();
        assert_eq!(cell.get(), None);
        for state in [AdminState::Ready, AdminState::Drain, AdminState::Maint] {
            for since in [0, 1, 1_800_000_000, u64::MAX >> 2] {
                let order = Some(AdminOrder { state, since });
                cell.set(order);
                assert_eq!(cell.get(), order);
            }
        }
        cell.set(None);
        assert_eq!(cell.get(), None);
    }
}
