//! When it is told, on a clock that is set by hand.

use super::*;

const DAY: Duration = Duration::DAY;

fn key(name: &str, end: OffsetDateTime) -> Key {
    ("game".to_owned(), name.to_owned(), end)
}

/// What is told at each time somebody looks, until `last`, by the time since the
/// beginning.
fn told(end: OffsetDateTime, from: OffsetDateTime, last: Duration) -> Vec<(Duration, Phase)> {
    let mut watch = Watch::default();
    let mut told = Vec::new();
    let mut now = from;
    while now <= from + last {
        let (due, next) = watch.due(now, vec![key("a", end)]);
        told.extend(due.into_iter().map(|(_, phase)| (now - from, phase)));
        assert!(next > now && next <= now + LOOK, "{}", next - now);
        now = next;
    }
    told
}

#[test]
fn it_is_told_when_it_comes_near_when_it_comes_and_once_a_day() {
    let from = OffsetDateTime::UNIX_EPOCH;
    let moment = Duration::SECOND;
    // In the hour that nobody waits for on purpose nothing is missed.
    let end = from + SOON + Duration::minutes(90);
    let near = Duration::minutes(90) + moment;
    let all = told(end, from, SOON + DAY * 3);
    let soon: Vec<Duration> =
        all.iter().filter(|one| one.1 == Phase::ExpiresSoon).map(|one| one.0).collect();
    let expected: Vec<Duration> = (0..14).map(|day| near + DAY * day).collect();
    assert_eq!(soon, expected);
    let over: Vec<Duration> =
        all.iter().filter(|one| one.1 == Phase::Expired).map(|one| one.0).collect();
    let first = SOON + Duration::minutes(90) + moment;
    assert_eq!(over, [first, first + DAY, first + DAY * 2]);
    assert_eq!(all.len(), soon.len() + over.len());
}

#[test]
fn a_start_tells_what_is_the_case() {
    let now = OffsetDateTime::UNIX_EPOCH + DAY * 100;
    let mut watch = Watch::default();
    let all = vec![key("old", now - DAY), key("soon", now + DAY), key("good", now + DAY * 90)];
    let (due, _) = watch.due(now, all);
    let due: Vec<(&str, Phase)> = due.iter().map(|(key, phase)| (&*key.1, *phase)).collect();
    assert_eq!(due, [("old", Phase::Expired), ("soon", Phase::ExpiresSoon)]);
    // Two listeners that are called alike are told once.
    assert_eq!(Watch::default().due(now, vec![key("a", now), key("a", now)]).0.len(), 1);
    // A renewed one is another one.
    let renewed = vec![key("old", now + DAY * 90), key("soon", now + DAY * 2)];
    let (due, _) = watch.due(now, renewed);
    assert_eq!(due, [(key("soon", now + DAY * 2), Phase::ExpiresSoon)]);
}

#[test]
fn the_last_moment_is_still_good() {
    let end = OffsetDateTime::UNIX_EPOCH + DAY * 30;
    assert_eq!(Phase::of(end, end), Phase::ExpiresSoon);
    assert_eq!(Phase::of(end, end + Duration::SECOND), Phase::Expired);
    assert_eq!(Phase::of(end, end - SOON), Phase::Good);
    assert_eq!(Phase::of(end, end - SOON + Duration::SECOND), Phase::ExpiresSoon);
}
