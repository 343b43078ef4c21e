//! The deadlines of a connection's requests, kept together: one timer for all
//! of them, so that a request costs no timer of its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;

/// The deadlines of one connection.
#[derive(Debug, Default)]
pub(super) struct Timers {
    slots: RefCell<Vec<Option<Slot>>>,
    /// No slot is due before this.
    earliest: Cell<Option<Instant>>,
}

#[derive(Debug)]
struct Slot {
    at: Instant,
    waker: Waker,
}

impl Timers {
    /// When [`Timers::fire`] has something to look at, if ever.
    pub(super) fn next(&self) -> Option<Instant> {
        self.earliest.get()
    }

    /// Wakes the requests that are due, and finds out who is next.
    pub(super) fn fire(&self, now: Instant) {
        let slots = self.slots.borrow();
        for slot in slots.iter().flatten().filter(|slot| slot.at <= now) {
            slot.waker.wake_by_ref();
        }
        let later = slots.iter().flatten().map(|slot| slot.at).filter(|at| *at > now);
        self.earliest.set(later.min());
    }

    fn set(&self, place: &mut Option<usize>, task: &Context<'_>, at: Instant) {
        if self.earliest.get().is_none_or(|earliest| at < earliest) {
            self.earliest.set(Some(at));
        }
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = place.and_then(|place| slots.get_mut(place)?.as_mut()) {
            slot.at = at;
            if !slot.waker.will_wake(task.waker()) {
                slot.waker.clone_from(task.waker());
            }
            return;
        }
        let slot = Some(Slot { at, waker: task.waker().clone() });
        match slots.iter().position(Option::is_none) {
            Some(free) => {
                // `position` found it.
                if let Some(empty) = slots.get_mut(free) {
                    *empty = slot;
                }
                *place = Some(free);
            }
            None => {
                *place = Some(slots.len());
                slots.push(slot);
            }
        }
    }

    fn clear(&self, place: usize) {
        if let Some(slot) = self.slots.borrow_mut().get_mut(place) {
            *slot = None;
        }
    }
}

/// One request's deadline among them.
#[derive(Debug)]
pub(super) struct Timer {
    timers: Rc<Timers>,
    place: Option<usize>,
}

impl Timer {
    pub(super) fn new(timers: Rc<Timers>) -> Timer {
        Timer { timers, place: None }
    }

    /// Ready when `at` has passed.
    pub(super) fn poll(&mut self, task: &mut Context<'_>, now: Instant, at: Instant) -> Poll<()> {
        if now >= at {
            return Poll::Ready(());
        }
        self.timers.set(&mut self.place, task, at);
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.timers.clear(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_those_that_are_due_are_woken() {
        let timers = Rc::new(Timers::default());
        let now = Instant::now();
        let in_seconds = |n| now + Duration::from_secs(n);
        let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
        let mut requests = [Timer::new(Rc::clone(&timers)), Timer::new(Rc::clone(&timers))];
        for (index, at) in [(0, 5), (1, 3), (1, 9)] {
            let waker = Waker::from(Arc::clone(&bells[index]));
            let mut task = Context::from_waker(&waker);
            assert!(requests[index].poll(&mut task, now, in_seconds(at)).is_pending());
        }
        // One moved away since: the early look finds nobody.
        assert_eq!(timers.next(), Some(in_seconds(3)));
        timers.fire(in_seconds(3));
        assert_eq!(timers.next(), Some(in_seconds(5)));
        timers.fire(in_seconds(5));
        let rung = |index: usize| bells[index].0.load(Ordering::Relaxed);
        assert_eq!((rung(0), rung(1)), (1, 0));
        drop(requests);
        timers.fire(in_seconds(9));
        assert_eq!((timers.next(), rung(1)), (None, 0));
    }
}
