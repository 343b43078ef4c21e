//! The decisions by example, under the names of their rows.

use super::*;

const USUAL: Settings =
    Settings { on: Kinds::usual(), tries: 0, timeout: None, non_idempotent: false };
const FIRST: Progress = Progress {
    attempts: 1,
    sent_to: 0,
    elapsed: Duration::ZERO,
    idempotent: true,
    replayable: true,
    ended: false,
    gone: false,
};
const POST: Progress = Progress { idempotent: false, sent_to: 1, ..FIRST };
const REFUSED: Failed = Failed { kind: Kind::Error, sent: false, stale: false };
const CLOSED: Failed = Failed { kind: Kind::Error, sent: true, stale: false };
const STALE: Failed = Failed { stale: true, ..CLOSED };
const ELSEWHERE: Next = Next::Elsewhere { charged: true };
const FREE: Next = Next::Elsewhere { charged: false };

#[test]
fn re_01_re_02_what_nobody_saw_moves_on_for_any_method() {
    assert_eq!(next(&USUAL, &FIRST, REFUSED), FREE);
    assert_eq!(next(&USUAL, &Progress { sent_to: 0, ..POST }, REFUSED), FREE);
    // Nobody saw it, but what was read of it is gone (a refused HTTP/2 stream).
    let gone = Progress { replayable: false, ..POST };
    assert_eq!(next(&USUAL, &gone, REFUSED), Next::GiveUp(Stop::BodyGone));
}

#[test]
fn re_03_to_05_what_was_sent_moves_on_where_it_may_be_repeated() {
    let sent = Progress { sent_to: 1, ..FIRST };
    assert_eq!(next(&USUAL, &sent, CLOSED), ELSEWHERE);
    assert_eq!(next(&USUAL, &POST, CLOSED), Next::GiveUp(Stop::NotIdempotent));
    let allowed = Settings { non_idempotent: true, ..USUAL };
    assert_eq!(next(&allowed, &POST, CLOSED), ELSEWHERE);
    let gone = Progress { replayable: false, ..sent };
    assert_eq!(next(&allowed, &gone, CLOSED), Next::GiveUp(Stop::BodyGone));
}

#[test]
fn re_09_re_10_statuses_move_on_when_they_are_listed() {
    let failed = |code| Failed { kind: Kind::Status(code), ..CLOSED };
    let sent = Progress { sent_to: 1, ..FIRST };
    for (name, code) in [("http_500", 500), ("http_503", 503), ("http_404", 404), ("http_429", 429)]
    {
        let on = Kinds::parse_name(name).unwrap();
        let listed = Settings { on, ..USUAL };
        assert_eq!(next(&listed, &sent, failed(code)), ELSEWHERE, "{name}");
        assert_eq!(next(&USUAL, &sent, failed(code)), Next::GiveUp(Stop::Kind), "{name}");
        assert_eq!(next(&listed, &POST, failed(code)), Next::GiveUp(Stop::NotIdempotent));
    }
    let all = Kinds::NAMES.iter().filter_map(|name| Kinds::parse_name(name));
    let all = Settings { on: all.fold(Kinds::default(), Kinds::with), ..USUAL };
    assert_eq!(next(&all, &sent, failed(501)), Next::GiveUp(Stop::Kind));
    let last = Progress { attempts: 2, sent_to: 2, ..FIRST };
    assert_eq!(next(&all, &last, failed(500)), Next::GiveUp(Stop::Tries));
}

#[test]
fn re_11_off_is_off() {
    let off = Settings { on: Kinds::default(), ..USUAL };
    for failed in [REFUSED, CLOSED] {
        assert_eq!(next(&off, &FIRST, failed), Next::GiveUp(Stop::Kind));
    }
    // But for the keep-alive race, which is no failure.
    assert_eq!(next(&off, &FIRST, STALE), Next::Again);
}

#[test]
fn re_12_tries_is_the_number_of_attempts() {
    let two = Settings { tries: 2, ..USUAL };
    assert_eq!(next(&two, &FIRST, REFUSED), FREE);
    let second = Progress { attempts: 2, ..FIRST };
    assert_eq!(next(&two, &second, REFUSED), Next::GiveUp(Stop::Tries));
    // Said in so many words, more backends than two may have it.
    let five = Settings { tries: 5, ..USUAL };
    assert_eq!(next(&five, &Progress { attempts: 4, sent_to: 4, ..FIRST }, CLOSED), ELSEWHERE);
}

#[test]
fn without_tries_it_is_sent_to_two_backends_and_offered_to_sixteen() {
    let second = Progress { attempts: 2, sent_to: 2, ..FIRST };
    assert_eq!(next(&USUAL, &second, CLOSED), Next::GiveUp(Stop::Tries));
    let refused = |attempts| next(&USUAL, &Progress { attempts, ..FIRST }, REFUSED);
    assert_eq!((refused(15), refused(16)), (FREE, Next::GiveUp(Stop::Tries)));
}

#[test]
fn re_15_garbage_moves_on_when_it_is_listed() {
    let garbage = Failed { kind: Kind::InvalidHeader, ..CLOSED };
    let sent = Progress { sent_to: 1, ..FIRST };
    assert_eq!(next(&USUAL, &sent, garbage), Next::GiveUp(Stop::Kind));
    let listed = Settings { on: Kinds::parse_name("invalid_header").unwrap(), ..USUAL };
    assert_eq!(next(&listed, &sent, garbage), ELSEWHERE);
}

#[test]
fn after_the_timeout_no_attempt_begins() {
    let second = Settings { timeout: Some(Duration::from_secs(1)), ..USUAL };
    let at = |millis| Progress { elapsed: Duration::from_millis(millis), ..FIRST };
    assert_eq!(next(&second, &at(999), REFUSED), FREE);
    assert_eq!(next(&second, &at(1000), REFUSED), Next::GiveUp(Stop::Timeout));
}

#[test]
fn the_keep_alive_race_is_sent_again_where_it_may_be() {
    let sent = Progress { sent_to: 1, ..FIRST };
    assert_eq!(next(&USUAL, &sent, STALE), Next::Again);
    assert_eq!(next(&USUAL, &POST, STALE), Next::GiveUp(Stop::NotIdempotent));
    // Not a byte was written: then a POST may go too.
    assert_eq!(next(&USUAL, &POST, Failed { sent: false, ..STALE }), Next::Again);
    let gone = Progress { replayable: false, ..sent };
    assert_eq!(next(&USUAL, &gone, STALE), Next::GiveUp(Stop::BodyGone));
}

#[test]
fn names_are_each_others_inverse() {
    for name in Kinds::NAMES {
        let kind = Kinds::parse_name(name).unwrap();
        let contained = [Kind::Error, Kind::Timeout, Kind::InvalidHeader]
            .into_iter()
            .chain([500, 502, 503, 504, 403, 404, 429].map(Kind::Status))
            .zip(Kinds::NAMES)
            .filter(|(one, _)| kind.contains(*one));
        let names: Vec<_> = contained.map(|(_, name)| name).collect();
        assert_eq!(names, [name]);
    }
    assert_eq!(Kinds::parse_name("http_501"), None);
}

#[test]
fn the_budget_has_a_floor_of_100_in_10_seconds() {
    let mut budget = Budget::default();
    let taken = (0..150).filter(|_| budget.take(20, 0, 5_000)).count();
    assert_eq!(taken, 100);
    assert!(!budget.take(20, 0, 14_999));
    assert!(budget.take(20, 0, 15_000), "they are forgotten after 10 s");
}

#[test]
fn what_is_given_back_can_be_taken_again() {
    let mut budget = Budget::default();
    // Nothing was taken: nothing is to be had for it.
    budget.give_back();
    let taken = (0..200).filter(|n| budget.take(20, 0, n * 20)).count();
    assert_eq!(taken, 100);
    budget.give_back();
    assert!(budget.take(20, 0, 4_000) && !budget.take(20, 0, 4_000));
    // It was the last one, and not one that is forgotten sooner.
    budget.give_back();
    let from = (0..20_000).step_by(100).find(|now| {
        let mut later = budget.clone();
        (0..51).all(|_| later.take(20, 0, 4_000 + now))
    });
    assert_eq!(from, Some(6_000));
}

#[test]
fn the_budget_is_a_share_of_the_requests() {
    let mut budget = Budget::default();
    let mut requests = 0;
    let mut taken = 0;
    // 1,000 requests a second, all of which would like to be sent again.
    for millis in 0..9_000 {
        requests += 1;
        taken += u32::from(budget.take(20, requests, millis));
    }
    assert!((1_700..=1_800).contains(&taken), "{taken} of {requests}");
    let mut none = Budget::default();
    let taken = (0..9_000).filter(|n| none.take(0, *n, *n)).count();
    assert_eq!(taken, 100);
}

#[test]
fn what_is_left_of_a_budget_can_be_taken() {
    let mut budget = Budget::default();
    let mut taken = 0;
    while budget.left(20, 0, 500) > 0 {
        assert_eq!(budget.left(20, 0, 500), 100 - taken);
        assert!(budget.take(20, 0, 500));
        taken += 1;
    }
    assert_eq!(taken, 100);
    assert!(!budget.take(20, 0, 500));
    assert_eq!(budget.left(20, 1000, 500), 100, "of the requests since");
}

#[test]
fn nobody_is_served_a_second_time() {
    let ended = Progress { ended: true, sent_to: 1, ..FIRST };
    let client = Next::GiveUp(Stop::Client);
    assert_eq!(next(&USUAL, &ended, CLOSED), client);
    // Nothing was executed: it is waited for, as far as anybody knows.
    assert_eq!(next(&USUAL, &Progress { sent_to: 0, ..ended }, REFUSED), FREE);
    let stale = Failed { stale: true, ..CLOSED };
    assert_eq!(next(&USUAL, &ended, stale), Next::Again);
    let gone = Progress { gone: true, ..ended };
    for failed in [CLOSED, REFUSED, stale] {
        assert_eq!(next(&USUAL, &gone, failed), client);
    }
}
