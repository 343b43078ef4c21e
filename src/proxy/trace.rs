//! What is noted of a request while it is served: its attempts, how long they
//! took, what went wrong. [`record`](super::record) tells it when the request is
//! done.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

use super::error::{Cause, Failure, Phase};
use crate::policy::sticky::Reject;

/// See the module.
#[derive(Debug)]
pub(super) struct Trace {
    /// When its head was there.
    pub(super) start: Instant,
    last: Cell<Option<Tried>>,
    /// Those before the last, and why all but the last failed: seldom any.
    earlier: RefCell<Vec<(Tried, Fault)>>,
    is_retried: Cell<bool>,
    /// Why the request failed, or its last attempt did.
    fault: RefCell<Option<Box<Fault>>>,
    /// What its sticky cookie was worth, where its group is sticky.
    pub(super) sticky: Cell<Option<Stickiness>>,
    /// Body bytes from the client.
    pub(super) received: Cell<u64>,
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    /// The backend's place in the group.
    pub(super) place: usize,
    start: Instant,
    /// Until its new connection stood; `None`: it had one.
    pub(super) connect: Option<Duration>,
    /// Until the header of its response, which had this status.
    pub(super) answer: Option<(Duration, u16)>,
    /// Until it failed.
    pub(super) failed: Option<Duration>,
}

impl Tried {
    /// Since it began.
    pub(super) fn so_far(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Why something failed.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) cause: Cause,
    pub(super) phase: Phase,
    pub(super) detail: String,
}

/// What a client's sticky cookie was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stickiness {
    /// It brought none.
    Absent,
    /// None that holds.
    Rejected(Reject),
    /// It names the backend at this place, or one that is gone.
    Bound(Option<usize>),
}

impl Fault {
    pub(super) fn of(failure: &Failure) -> Fault {
        let Failure { cause, phase, detail, .. } = failure;
        Fault { cause: *cause, phase: *phase, detail: detail.clone() }
    }
}

impl Trace {
    pub(super) fn new() -> Trace {
        Trace {
            start: Instant::now(),
            last: Cell::default(),
            earlier: RefCell::default(),
            is_retried: Cell::new(false),
            fault: RefCell::default(),
            sticky: Cell::default(),
            received: Cell::default(),
        }
    }

    /// An attempt begins.
    pub(super) fn begin(&self, place: usize, start: Instant) {
        self.last.set(Some(Tried { place, start, connect: None, answer: None, failed: None }));
    }

    fn change(&self, work: impl FnOnce(&mut Tried)) {
        if let Some(mut last) = self.last.get() {
            work(&mut last);
            self.last.set(Some(last));
        }
    }

    /// Its connection had to be opened, and stands.
    pub(super) fn connected(&self) {
        self.change(|last| last.connect = Some(last.start.elapsed()));
    }

    /// The header of its response is there.
    pub(super) fn answered(&self, status: u16) {
        self.change(|last| last.answer = Some((last.start.elapsed(), status)));
    }

    /// It failed on a kept connection that was about to be closed, and follows once
    /// more on another one.
    pub(super) fn attempt_raced(&self, failure: &Failure) {
        self.change(|last| last.failed = Some(last.start.elapsed()));
        if let Some(last) = self.last.take() {
            self.earlier.borrow_mut().push((last, Fault::of(failure)));
        }
    }

    /// It failed, and another follows, or the answer of an earlier one has to do.
    pub(super) fn attempt_failed(&self, failure: &Failure) {
        self.is_retried.set(true);
        self.attempt_raced(failure);
    }

    /// The request failed.
    pub(super) fn failed(&self, failure: &Failure) {
        self.change(|last| {
            last.failed.get_or_insert(last.start.elapsed());
        });
        *self.fault.borrow_mut() = Some(Box::new(Fault::of(failure)));
    }

    /// Why the request failed, if it did.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.borrow().as_deref().cloned()
    }

    /// The cause alone.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.fault.borrow().as_ref().map(|fault| fault.cause)
    }

    /// No attempt began yet.
    pub(super) fn is_untried(&self) -> bool {
        self.last.get().is_none() && self.earlier.borrow().is_empty()
    }

    /// An attempt failed that was not the last word, for more than the keep-alive
    /// race.
    pub(super) fn is_retried(&self) -> bool {
        self.is_retried.get()
    }

    /// The last attempt, where it is not among those of [`Trace::each_earlier`].
    pub(super) fn last(&self) -> Option<Tried> {
        self.last.get()
    }

    /// Each attempt that was not the last word, in order.
    pub(super) fn each_earlier(&self, mut work: impl FnMut(&Tried, &Fault)) {
        self.earlier.borrow().iter().for_each(|(tried, fault)| work(tried, fault));
    }
}
