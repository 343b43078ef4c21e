//! When probes are sent and what comes of it, on a clock of the test's own.

use tokio::runtime::Builder;
use tokio::time::timeout;

use super::*;
use crate::policy::health::{Probed, Thresholds};

const DEFAULT: Thresholds = Thresholds { healthy: 3, unhealthy: 3 };
const INTERVAL: Duration = Duration::from_secs(2);

/// Probes that take so long and end so, until the verdict changes. Gives how
/// long that took from the moment the first was due.
fn until_change(probed: Probed, good: bool, each: Duration) -> f64 {
    let clock = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    clock.block_on(async {
        let mut probed = probed;
        let mut begun = None;
        let mut changed = None;
        let ask = async || sleep(each).await;
        let note = |(), took: Duration| {
            begun.get_or_insert(Instant::now() - took);
            if probed.observe(good, DEFAULT).is_some() {
                changed.get_or_insert(Instant::now());
            }
        };
        let hour = Duration::from_secs(3600);
        timeout(hour, rounds(INTERVAL, Dice::new(7), ask, note)).await.unwrap_err();
        (changed.unwrap() - begun.unwrap()).as_secs_f64()
    })
}

fn up() -> Probed {
    let mut probed = Probed::at_start();
    (0..3).for_each(|_| _ = probed.observe(true, DEFAULT));
    assert_eq!(probed.is_up(), Some(true));
    probed
}

fn assert_between(least: f64, seconds: f64, most: f64) {
    assert!((least..=most).contains(&seconds), "{seconds} s");
}

#[test]
fn ah_08_a_backend_that_refuses_is_out_after_three_probes() {
    assert_between(3.6, until_change(up(), false, Duration::ZERO), 4.5);
}

#[test]
fn ah_09_one_that_hangs_after_three_timeouts() {
    assert_between(18.6, until_change(up(), false, Duration::from_secs(5)), 19.5);
}

#[test]
fn ah_10_one_that_was_repaired_is_in_after_three_probes() {
    let mut probed = up();
    (0..3).for_each(|_| _ = probed.observe(false, DEFAULT));
    assert!(probed.is_down());
    assert_between(3.6, until_change(probed, true, Duration::ZERO), 4.5);
}

#[test]
fn first_probes_are_spread() {
    let clock = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut firsts: Vec<Duration> = (0..64)
        .map(|seed| {
            clock.block_on(async {
                let start = Instant::now();
                let mut first = None;
                let note = |(), _| _ = first.get_or_insert(start.elapsed());
                let run = rounds(Duration::from_secs(3600), Dice::new(seed), async || (), note);
                timeout(Duration::from_secs(60), run).await.unwrap_err();
                first.unwrap()
            })
        })
        .collect();
    firsts.sort();
    assert!(*firsts.last().unwrap() <= SPREAD, "{firsts:?}");
    assert!(firsts[63] - firsts[0] > SPREAD / 2, "{firsts:?}");
}

#[test]
fn dice_fall_between_0_and_1_and_not_always_the_same() {
    let mut dice = Dice::new(1);
    let rolls: Vec<f64> = (0..1000).map(|_| dice.roll()).collect();
    assert!(rolls.iter().all(|roll| (0.0..1.0).contains(roll)));
    let mean = rolls.iter().sum::<f64>() / 1000.0;
    assert_between(0.45, mean, 0.55);
}
