//! What is noted of a request while it is served: its attempts, how long they
//! took, what went wrong. [`record`](super::record) tells it when the request is
//! done.

use std::cell::Cell;
use std::fmt;

use tokio::time::Instant;

use super::error::{Cause, Failure, Phase};
use crate::policy::sticky::Reject;
use crate::telemetry::counts::Micros;

/// See the module. It is moved with each request, so it is kept small.
#[derive(Debug)]
pub(super) struct Trace {
    /// When its head was there.
    pub(super) start: Instant,
    last: Cell<Option<Tried>>,
    /// Those before the last, and why all but the last failed: seldom any.
    earlier: Kept<Vec<(Tried, Fault)>>,
    /// Why the request failed, or its last attempt did.
    fault: Kept<Fault>,
    /// Body bytes from the client.
    pub(super) received: Cell<u64>,
    /// What its sticky cookie was worth, where its group is sticky.
    pub(super) sticky: Cell<Option<Stickiness>>,
    is_retried: Cell<bool>,
}

/// What few requests have.
struct Kept<T>(Cell<Option<Box<T>>>);

impl<T: fmt::Debug> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|kept| fmt::Debug::fmt(&kept, f))
    }
}

impl<T> Kept<T> {
    fn new() -> Kept<T> {
        Kept(Cell::new(None))
    }

    /// What `work` makes of it.
    fn with<R>(&self, work: impl FnOnce(Option<&mut T>) -> R) -> R {
        let mut kept = self.0.take();
        let made = work(kept.as_deref_mut());
        self.0.set(kept);
        made
    }
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    place: u32,
    /// After the request's.
    start: Took,
    connect: Took,
    header: Took,
    failed: Took,
    status: u16,
    raced: bool,
}

/// Microseconds, up to 71 minutes: what is longer is told as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Took(u32);

impl Took {
    /// It did not happen.
    const NEVER: Took = Took(u32::MAX);

    fn of(Micros(took): Micros) -> Took {
        Took(u32::try_from(took).unwrap_or(u32::MAX).min(u32::MAX - 1))
    }

    fn get(self) -> Option<Micros> {
        (self != Took::NEVER).then(|| Micros(self.0.into()))
    }
}

impl Tried {
    /// The backend's place in the group.
    pub(super) fn place(&self) -> usize {
        self.place as usize
    }

    /// Until its new connection stood; `None`: it had one.
    pub(super) fn connect(&self) -> Option<Micros> {
        self.connect.get()
    }

    /// Until the header of its response, which had this status.
    pub(super) fn answer(&self) -> Option<(Micros, u16)> {
        self.header.get().map(|header| (header, self.status))
    }

    /// Until it failed.
    pub(super) fn failed(&self) -> Option<Micros> {
        self.failed.get()
    }

    /// Since it began, of what its request took.
    pub(super) fn share(&self, Micros(request): Micros) -> Micros {
        Micros(request.saturating_sub(self.start.0.into()))
    }

    /// It met a kept connection that was about to be closed: no failure of anybody.
    pub(super) fn is_raced(&self) -> bool {
        self.raced
    }
}

/// Why something failed.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) cause: Cause,
    pub(super) phase: Phase,
    pub(super) detail: String,
    /// Why the last attempt did, where `cause` only says why none followed.
    attempt: Option<Cause>,
}

/// What a client's sticky cookie was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stickiness {
    /// It brought none.
    Absent,
    /// None that holds.
    Rejected(Reject),
    /// It names the backend at this place, or one that is gone.
    Bound(Option<u32>),
}

impl Fault {
    pub(super) fn of(failure: &Failure) -> Fault {
        let Failure { cause, phase, detail, attempt, .. } = failure;
        Fault { cause: *cause, phase: *phase, detail: detail.clone(), attempt: *attempt }
    }

    /// Why the attempt failed.
    pub(super) fn of_attempt(&self) -> Cause {
        self.attempt.unwrap_or(self.cause)
    }
}

impl Trace {
    pub(super) fn new() -> Trace {
        Trace {
            start: Instant::now(),
            last: Cell::new(None),
            earlier: Kept::new(),
            fault: Kept::new(),
            received: Cell::new(0),
            sticky: Cell::new(None),
            is_retried: Cell::new(false),
        }
    }

    /// How long the request took until then.
    pub(super) fn until(&self, now: Instant) -> Micros {
        now.saturating_duration_since(self.start).into()
    }

    /// An attempt begins: now, or, if it is the first one, with the request.
    pub(super) fn begin(&self, place: usize) -> Instant {
        let (start, after) = match self.is_untried() {
            true => (self.start, Micros(0)),
            false => {
                let now = Instant::now();
                (now, self.until(now))
            }
        };
        self.last.set(Some(Tried {
            place: u32::try_from(place).unwrap_or(u32::MAX),
            start: Took::of(after),
            connect: Took::NEVER,
            header: Took::NEVER,
            failed: Took::NEVER,
            status: 0,
            raced: false,
        }));
        start
    }

    fn change(&self, work: impl FnOnce(&mut Tried, Took)) {
        if let Some(mut last) = self.last.get() {
            let now = Took::of(last.share(self.until(Instant::now())));
            work(&mut last, now);
            self.last.set(Some(last));
        }
    }

    /// Its connection had to be opened, and stands.
    pub(super) fn connected(&self) {
        self.change(|last, now| last.connect = now);
    }

    /// The header of its response is there.
    pub(super) fn answered(&self, status: u16) {
        self.change(|last, now| (last.header, last.status) = (now, status));
    }

    /// It failed on a kept connection that was about to be closed, and follows once
    /// more on another one.
    pub(super) fn attempt_raced(&self, failure: &Failure) {
        self.change(|last, _| last.raced = true);
        self.follow(failure);
    }

    fn follow(&self, failure: &Failure) {
        self.change(|last, now| last.failed = now);
        let Some(last) = self.last.take() else { return };
        let mut earlier = self.earlier.0.take().unwrap_or_default();
        earlier.push((last, Fault::of(failure)));
        self.earlier.0.set(Some(earlier));
    }

    /// It failed, and another follows, or the answer of an earlier one has to do.
    pub(super) fn attempt_failed(&self, failure: &Failure) {
        self.is_retried.set(true);
        self.follow(failure);
    }

    /// The request failed.
    pub(super) fn failed(&self, failure: &Failure) {
        self.change(|last, now| {
            if last.failed == Took::NEVER {
                last.failed = now;
            }
        });
        self.fault.0.set(Some(Box::new(Fault::of(failure))));
    }

    /// Calls `work` with why the request failed, if it did.
    pub(super) fn with_fault<T>(&self, work: impl FnOnce(&Fault) -> T) -> Option<T> {
        self.fault.with(|fault| fault.map(|fault| work(fault)))
    }

    /// The cause alone.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.with_fault(|fault| fault.cause)
    }

    /// No attempt began yet.
    fn is_untried(&self) -> bool {
        self.last.get().is_none() && self.earlier.with(|earlier| earlier.is_none())
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
        self.earlier.with(|earlier| {
            earlier.into_iter().flatten().for_each(|(tried, fault)| work(tried, fault));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_of_attempts_is_told_in_order() {
        let trace = Trace::new();
        assert!(trace.is_untried() && trace.last().is_none() && trace.cause().is_none());
        assert_eq!(trace.begin(7), trace.start);
        trace.connected();
        trace.attempt_raced(&Failure::new(Cause::ClosedBeforeHeader, Phase::Response));
        assert!(!trace.is_untried() && !trace.is_retried());
        assert_ne!(trace.begin(3), trace.start);
        trace.answered(502);
        trace.attempt_failed(&Failure::new(Cause::Status(502), Phase::Response));
        trace.begin(4);
        trace.failed(&Failure::new(Cause::HeaderTimeout, Phase::Response));
        let mut told = Vec::new();
        trace.each_earlier(|tried, fault| {
            let status = tried.answer().map(|(_, status)| status);
            told.push((tried.place(), tried.is_raced(), status, fault.cause));
            assert_eq!(tried.connect().is_some(), tried.is_raced());
        });
        let raced = (7, true, None, Cause::ClosedBeforeHeader);
        assert_eq!(told, [raced, (3, false, Some(502), Cause::Status(502))]);
        let last = trace.last().unwrap();
        assert_eq!((last.place(), last.failed().is_some()), (4, true));
        assert_eq!((trace.cause(), trace.is_retried()), (Some(Cause::HeaderTimeout), true));
    }

    #[test]
    fn the_first_attempt_begins_with_the_request_and_others_when_they_do() {
        const TEN: Micros = Micros(10_000_000);
        let mut trace = Trace::new();
        trace.start -= std::time::Duration::from(TEN);
        let share = |trace: &Trace| trace.last().unwrap().share(TEN);
        assert_eq!(trace.begin(0), trace.start);
        assert_eq!(share(&trace), TEN);
        trace.attempt_raced(&Failure::new(Cause::ClosedBeforeHeader, Phase::Response));
        trace.begin(0);
        assert_eq!(share(&trace), Micros(0));
    }

    #[test]
    fn what_took_too_long_did_happen() {
        for long in [Micros(72 * 60_000_000), Micros(u64::MAX)] {
            assert_eq!(Took::of(long).get().unwrap().0 / 60_000_000, 71);
        }
        assert_eq!(Took::of(Micros(5)).get(), Some(Micros(5)));
        assert_eq!(Took::NEVER.get(), None);
        assert!(size_of::<Trace>() <= 96, "{}", size_of::<Trace>());
    }
}
