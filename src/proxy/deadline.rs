//! One deadline per connection, moved, not re-armed.
//!
//! Every wait of a connection ends at some instant: the head must be there, the
//! backend must have answered. Moving a tokio timer for each of them costs more
//! than forwarding a small request, so the timer is left where it is while the
//! deadline moves away from it: when it fires too early it is set again.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

/// The timer of one connection. Used by one task only, so that a timer that
/// has heard of the task once need not be polled again until it is set anew.
#[derive(Debug, Default)]
pub(super) struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
    /// The timer knows whom to wake.
    armed: bool,
}

impl Deadline {
    /// Ready when `at` has passed. Call it only when the task is about to wait;
    /// `now` is the instant the caller read for that purpose.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, now: Instant, at: Instant) -> Poll<()> {
        if now >= at {
            return Poll::Ready(());
        }
        match &mut self.timer {
            // It fires early enough, and the task hears of it.
            Some(timer) if self.armed && timer.deadline() <= at && timer.deadline() > now => {
                Poll::Pending
            }
            Some(timer) => {
                timer.as_mut().reset(at);
                self.armed = has_budget_remaining();
                timer.as_mut().poll(cx)
            }
            none => {
                let timer = none.insert(Box::pin(sleep_until(at)));
                self.armed = has_budget_remaining();
                timer.as_mut().poll(cx)
            }
        }
    }

    /// The timer is still to fire, and the task will hear of it. Cheaper than to
    /// look at the clock.
    pub(super) fn is_set(&self) -> bool {
        self.armed && self.timer.as_ref().is_some_and(|timer| !timer.is_elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::task::coop::consume_budget;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moved_away_fires_at_its_new_place() {
        let mut deadline = Deadline::default();
        let start = Instant::now();
        let first = start + Duration::from_secs(1);
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx, start, first))).await.is_pending());
        let later = start + Duration::from_secs(5);
        poll_fn(|cx| deadline.poll(cx, Instant::now(), later)).await;
        assert_eq!(Instant::now() - start, Duration::from_secs(5));
    }

    /// A task that did much in one poll has no budget left: tokio's timers then
    /// answer without having noted whom to wake, and wake the task at once
    /// instead.
    #[tokio::test(start_paused = true)]
    async fn a_deadline_set_without_budget_fires_all_the_same() {
        let mut deadline = Deadline::default();
        let start = Instant::now();
        let at = start + Duration::from_secs(1);
        let mut polls = 0;
        let fired = poll_fn(|cx| {
            polls += 1;
            if polls == 1 {
                while has_budget_remaining() {
                    let mut spend = std::pin::pin!(consume_budget());
                    let _ = spend.as_mut().poll(cx);
                }
            }
            deadline.poll(cx, Instant::now(), at)
        });
        tokio::time::timeout(Duration::from_secs(100), fired).await.unwrap();
        assert_eq!(Instant::now() - start, Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_set_while_its_timer_will_wake_the_task() {
        let mut deadline = Deadline::default();
        assert!(!deadline.is_set());
        let start = Instant::now();
        let at = start + Duration::from_secs(1);
        // Without budget the timer did not note whom to wake.
        let without_budget = poll_fn(|cx| {
            while has_budget_remaining() {
                let mut spend = std::pin::pin!(consume_budget());
                let _ = spend.as_mut().poll(cx);
            }
            Poll::Ready(deadline.poll(cx, start, at))
        });
        assert!(without_budget.await.is_pending());
        assert!(!deadline.is_set());
        tokio::task::yield_now().await;
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx, start, at))).await.is_pending());
        assert!(deadline.is_set());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!deadline.is_set());
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moved_closer_fires_there() {
        let mut deadline = Deadline::default();
        let start = Instant::now();
        let far = start + Duration::from_secs(60);
        assert!(poll_fn(|cx| Poll::Ready(deadline.poll(cx, start, far))).await.is_pending());
        let near = start + Duration::from_secs(2);
        poll_fn(|cx| deadline.poll(cx, Instant::now(), near)).await;
        assert_eq!(Instant::now() - start, Duration::from_secs(2));
    }
}
