//! The decisions by example, under the names of their rows.

use proptest::prelude::*;

use super::*;
use crate::policy::sticky::Ejection;

const TEN: PassiveLimits = PassiveLimits { max_fails: 1, fail_timeout: 10_000 };
const THREE: PassiveLimits = PassiveLimits { max_fails: 3, fail_timeout: 10_000 };
const DEFAULT: Thresholds = Thresholds { healthy: 3, unhealthy: 3 };

fn refused(passive: &mut Passive, limits: PassiveLimits, now: Millis) -> bool {
    passive.fail(limits, Blame::Unreachable, true, now)
}

#[test]
fn ph_01_one_failure_ejects_for_fail_timeout() {
    let mut passive = Passive::default();
    assert!(passive.admit(TEN, 0));
    assert!(refused(&mut passive, TEN, 0));
    for now in [0, 1, 5_000, 10_000] {
        assert!(!passive.is_eligible(TEN, now) && !passive.admit(TEN, now), "{now}");
    }
    assert!(passive.is_eligible(TEN, 10_001));
}

/// What is published says the same as the machine does.
#[test]
fn what_is_read_without_a_lock_says_the_same() {
    for limits in [TEN, THREE, PassiveLimits { max_fails: 0, fail_timeout: 10 }] {
        let mut passive = Passive::default();
        for at in [0, 5, 9_000, 30_000, 30_001, 45_000] {
            refused(&mut passive, limits, at);
            for now in [at, at + 1, at + 9_999, at + 10_000, at + 10_001, at + 50_000] {
                let until = limits.out_until(passive.fails(), passive.checked());
                let out = until.is_some_and(|until| now <= until);
                assert_eq!(!out, passive.is_eligible(limits, now), "{limits:?} {at} {now}");
            }
        }
    }
}

#[test]
fn ph_02_one_trial_and_back() {
    let mut passive = Passive::default();
    refused(&mut passive, TEN, 0);
    assert!(passive.admit(TEN, 11_000));
    assert!(!passive.admit(TEN, 11_000), "the trial is under way");
    assert_eq!(passive.ejection(TEN), Some(Ejection::Unreachable));
    assert!(passive.succeed(TEN));
    assert!(passive.admit(TEN, 11_001) && passive.admit(TEN, 11_001));
    assert_eq!((passive.fails(), passive.ejection(TEN)), (0, None));
}

/// What is said of an ejection is what a request meets.
#[test]
fn a_sentence_ends_when_the_trial_may_begin() {
    let mut passive = Passive::default();
    assert_eq!(passive.sentence(TEN, 0), None);
    refused(&mut passive, TEN, 5);
    for now in [5, 6, 10_004, 10_005, 10_006, 99_000] {
        let left = passive.sentence(TEN, now).unwrap().1;
        assert_eq!(left == 0, passive.is_eligible(TEN, now), "{now}: {left}");
    }
    assert_eq!(passive.sentence(TEN, 5), Some((Ejection::Unreachable, 10_001)));
    assert!(passive.admit(TEN, 20_000));
    assert_eq!(passive.sentence(TEN, 20_000), Some((Ejection::Unreachable, 10_001)));
}

#[test]
fn ph_03_a_failed_trial_ejects_again() {
    let mut passive = Passive::default();
    refused(&mut passive, TEN, 0);
    assert!(passive.admit(TEN, 11_000));
    assert!(refused(&mut passive, TEN, 11_500));
    assert!(!passive.admit(TEN, 21_500) && passive.admit(TEN, 21_501));
}

#[test]
fn a_trial_that_never_ends_is_followed_by_another() {
    let mut passive = Passive::default();
    refused(&mut passive, TEN, 0);
    assert!(passive.admit(TEN, 11_000));
    assert!(!passive.admit(TEN, 21_000) && passive.admit(TEN, 21_001));
}

/// nginx's quiet period: a success soon after a failure clears nothing.
#[test]
fn ph_04_failures_add_up_until_it_was_quiet() {
    let mut passive = Passive::default();
    for now in [0, 6_000] {
        assert!(passive.admit(THREE, now));
        assert!(!refused(&mut passive, THREE, now));
        assert!(passive.admit(THREE, now + 3_000));
        assert!(!passive.succeed(THREE));
    }
    assert!(refused(&mut passive, THREE, 12_000), "the third, although 12 s passed");
    let mut passive = Passive::default();
    refused(&mut passive, THREE, 0);
    refused(&mut passive, THREE, 1);
    assert!(passive.admit(THREE, 10_002));
    assert!(!passive.succeed(THREE), "it was not ejected");
    assert_eq!(passive.fails(), 0);
}

#[test]
fn ph_06_max_fails_0_never_ejects() {
    let never = PassiveLimits { max_fails: 0, ..TEN };
    let mut passive = Passive::default();
    for now in 0..20 {
        assert!(passive.admit(never, now));
        assert!(!refused(&mut passive, never, now));
    }
}

#[test]
fn what_may_be_the_requests_fault_spares_half_of_the_group() {
    let mut passive = Passive::default();
    for now in 0..5 {
        assert!(!passive.fail(THREE, Blame::Request, false, now));
    }
    assert!(passive.is_eligible(THREE, 5));
    assert_eq!(passive.fails(), 2);
    // Nobody there: that is never a request's fault.
    assert!(passive.fail(THREE, Blame::Unreachable, false, 6));
    assert_eq!(passive.ejection(THREE), Some(Ejection::Unreachable));
    // Once it is out, whatever fails keeps it there.
    assert!(passive.fail(THREE, Blame::Request, false, 7));
    assert_eq!(passive.ejection(THREE), Some(Ejection::Failing));
}

#[test]
fn with_max_fails_1_a_spared_backend_has_no_failure() {
    let mut passive = Passive::default();
    assert!(!passive.fail(TEN, Blame::Request, false, 0));
    assert_eq!(passive.fails(), 0);
    assert!(passive.fail(TEN, Blame::Request, true, 1));
}

#[test]
fn ah_11_only_probes_in_a_row_count() {
    let mut probed = Probed::at_start();
    for good in [false, false, true, false, false] {
        assert_eq!(probed.observe(good, DEFAULT), None);
    }
    assert!(!probed.is_down());
    assert_eq!(probed.observe(false, DEFAULT), Some(Transition::Down));
    assert!(probed.is_down());
    for good in [true, true, false, true, true] {
        assert_eq!(probed.observe(good, DEFAULT), None);
    }
    assert_eq!(probed.observe(true, DEFAULT), Some(Transition::Up));
    assert_eq!((probed.good(), probed.bad()), (3, 0));
}

#[test]
fn ah_21_at_a_start_it_serves_until_the_first_verdict() {
    let mut probed = Probed::at_start();
    assert!(!probed.is_down());
    for _ in 0..3 {
        assert_eq!(probed.observe(true, DEFAULT), None, "up it was all along");
    }
    let mut dead = Probed::at_start();
    let verdicts: Vec<_> = (0..4).map(|_| dead.observe(false, DEFAULT)).collect();
    assert_eq!(verdicts, [None, None, Some(Transition::Down), None]);
}

#[test]
fn one_that_was_added_serves_after_its_threshold() {
    let mut probed = Probed::added();
    assert!(probed.is_down());
    let verdicts: Vec<_> = (0..3).map(|_| probed.observe(true, DEFAULT)).collect();
    assert_eq!(verdicts, [None, None, Some(Transition::Up)]);
    let mut dead = Probed::added();
    for _ in 0..3 {
        assert!(!matches!(dead.observe(false, DEFAULT), Some(Transition::Up)));
    }
    assert!(dead.is_down());
}

proptest! {
    /// Whatever happens: an ejected backend gets no more than one request per
    /// `fail_timeout`.
    #[test]
    fn ejected_it_gets_one_request_at_a_time(
        steps in prop::collection::vec((0_u64..8_000, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let mut passive = Passive::default();
        let (mut now, mut last) = (0, None);
        for (pause, good, reachable) in steps {
            now += pause;
            let was_out = passive.ejection(THREE).is_some();
            if !passive.admit(THREE, now) {
                prop_assert!(was_out);
                continue;
            }
            if was_out {
                if let Some(last) = last {
                    prop_assert!(now - last > THREE.fail_timeout);
                }
                last = Some(now);
            }
            if good {
                passive.succeed(THREE);
            } else {
                let blame = if reachable { Blame::Request } else { Blame::Unreachable };
                if passive.fail(THREE, blame, true, now) {
                    last = Some(now);
                }
            }
        }
    }

    /// A verdict changes only after as many probes in a row as its threshold.
    #[test]
    fn thresholds_never_flap(
        probes in prop::collection::vec(any::<bool>(), 0..80),
        healthy in 1_u32..6,
        unhealthy in 1_u32..6,
    ) {
        let thresholds = Thresholds { healthy, unhealthy };
        let mut probed = Probed::at_start();
        let mut row = (false, 0);
        for good in probes {
            row = if row.0 == good { (good, row.1 + 1) } else { (good, 1) };
            let down = probed.is_down();
            match probed.observe(good, thresholds) {
                None => prop_assert_eq!(probed.is_down(), down),
                Some(Transition::Up) => prop_assert!(down && good && row.1 >= healthy),
                Some(Transition::Down) => prop_assert!(!down && !good && row.1 >= unhealthy),
            }
        }
    }
}
