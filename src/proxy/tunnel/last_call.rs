//! When tunnels end that a deadline ends: not all at that instant, for their
//! clients come back at once, all of them.

use std::time::Duration;

use tokio::time::Instant;

/// Of the time there is, the last tenth, and no more than this.
const SPREAD: Duration = Duration::from_secs(10);
/// How long a tunnel may take to end in good order.
const PATIENCE: Duration = Duration::from_secs(1);

/// Each tunnel of a worker begins to end at a moment of its own, all before the
/// deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct LastCall {
    first: Instant,
    last: Instant,
    /// What has not ended then is cut: a little before the deadline, so that
    /// the word of it still leaves.
    end: Instant,
}

impl LastCall {
    /// For a deadline so long after `now`.
    pub(in crate::proxy) fn new(now: Instant, within: Duration) -> LastCall {
        let spread = (within / 10).min(SPREAD);
        let before = |left| now + (within - left);
        LastCall {
            first: before(spread),
            last: before((spread / 2).min(PATIENCE)),
            end: before(spread / 20),
        }
    }

    /// When a tunnel begins to end, by a throw of the dice.
    pub(super) fn moment(&self, chance: u64) -> Instant {
        let span = (self.last - self.first).as_nanos();
        let span = u64::try_from(span).unwrap_or(u64::MAX - 1);
        self.first + Duration::from_nanos(chance % (span + 1))
    }

    /// Until when one that begins now has time.
    pub(super) fn until(&self, now: Instant) -> Instant {
        self.end.min(now + PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_end_one_after_the_other_and_all_before_the_deadline() {
        let now = Instant::now();
        for (millis, spread) in [(0, 0), (1, 0), (300, 30), (30_000, 3000), (3_600_000, 10_000)] {
            let deadline = now + Duration::from_millis(millis);
            let call = LastCall::new(now, Duration::from_millis(millis));
            let (mut first, mut last) = (deadline, now);
            for n in 0..1000_u64 {
                let moment = call.moment(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                assert!(moment >= now && call.until(moment) <= deadline);
                assert!(moment <= call.until(moment));
                first = first.min(moment);
                last = last.max(moment);
            }
            let spread = Duration::from_millis(spread);
            assert!(
                deadline - first <= spread + Duration::from_millis(1),
                "{:?}",
                deadline - first
            );
            assert!((last - first) * 3 >= spread, "{:?}", last - first);
        }
    }
}
