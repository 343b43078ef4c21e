//! By example.

use std::cell::Cell;

use super::hash::{distance, mix, scale, unit};
use super::*;

pub(super) const ALL: [Balance; 5] =
    [Balance::Wrr, Balance::Rr, Balance::Wlc, Balance::P2c, Balance::Hash(HashKey::Path)];

pub(super) fn primaries(weights: &[u32]) -> Vec<Member> {
    let members = weights.iter().enumerate();
    members
        .map(|(place, &weight)| Member {
            weight,
            backup: false,
            seed: key_hash(format!("10.0.0.{place}:80").as_bytes()),
        })
        .collect()
}

/// A group of a test, with what else a pick needs.
pub(super) struct Group {
    schedule: Schedule,
    cursor: Cursor,
    picks: u64,
}

impl Group {
    pub(super) fn new(balance: &Balance, members: &[Member]) -> Self {
        let schedule = Schedule::new(balance, members);
        let cursor = Cursor::default();
        Self { schedule, cursor, picks: 0 }
    }

    pub(super) fn pick_among(&mut self, available: impl Fn(usize) -> bool) -> Option<usize> {
        self.pick_loaded(available, |_| 0)
    }

    fn pick_loaded(
        &mut self,
        available: impl Fn(usize) -> bool,
        load: impl Fn(usize) -> u32,
    ) -> Option<usize> {
        self.picks += 1;
        let draw = Draw { key: mix(self.picks), chance: mix(!self.picks) };
        pick(&self.schedule, &mut self.cursor, draw, available, load)
    }

    /// How often each of `len` members is picked when all are available.
    fn counts(&mut self, picks: u32, len: usize) -> Vec<u32> {
        let mut counts = vec![0; len];
        for _ in 0..picks {
            counts[self.pick_among(|_| true).unwrap()] += 1;
        }
        counts
    }

    fn order(&mut self, picks: usize, available: impl Fn(usize) -> bool) -> String {
        let letter = |place: usize| char::from(b'a' + u8::try_from(place).unwrap());
        (0..picks).map(|_| letter(self.pick_among(&available).unwrap())).collect()
    }
}

#[test]
fn sc_01_rr_ignores_weights() {
    let mut group = Group::new(&Balance::Rr, &primaries(&[100, 10]));
    assert_eq!(group.counts(200, 2), [100, 100]);
}

#[test]
fn sc_02_smooth_order() {
    let mut group = Group::new(&Balance::Wrr, &primaries(&[5, 1, 1]));
    assert_eq!(group.order(14, |_| true), "aabacaaaabacaa");
}

#[test]
fn sc_03_wrr_by_weight() {
    let mut group = Group::new(&Balance::Wrr, &primaries(&[100, 50]));
    assert_eq!(group.counts(300, 2), [200, 100]);
}

#[test]
fn sc_04_wlc_spares_the_loaded() {
    let mut group = Group::new(&Balance::Wlc, &primaries(&[100, 100, 100]));
    for _ in 0..5 {
        let picked = group.pick_loaded(|_| true, |place| if place == 0 { 10 } else { 0 });
        assert_ne!(picked.unwrap(), 0);
    }
}

#[test]
fn sc_06_weight_0_takes_nothing() {
    for balance in &ALL {
        let mut group = Group::new(balance, &primaries(&[0, 100]));
        assert_eq!(group.counts(100, 2), [0, 100], "{balance:?}");
        let mut none = Group::new(balance, &primaries(&[0, 0]));
        assert_eq!(none.pick_among(|_| true), None, "{balance:?}");
        let mut empty = Group::new(balance, &[]);
        assert_eq!(empty.pick_among(|_| true), None, "{balance:?}");
    }
}

#[test]
fn equal_weights_rotate() {
    for balance in [Balance::Wrr, Balance::Rr, Balance::Wlc] {
        let mut group = Group::new(&balance, &primaries(&[7, 7, 7]));
        assert_eq!(group.order(7, |_| true), "abcabca", "{balance:?}");
        let mut group = Group::new(&balance, &primaries(&[7, 7, 7]));
        assert_eq!(group.order(5, |place| place != 1), "acaca", "{balance:?}");
    }
}

#[test]
fn rotation_goes_on_where_it_stood() {
    let mut group = Group::new(&Balance::Rr, &primaries(&[1, 1, 1, 1]));
    assert_eq!(group.order(2, |_| true), "ab");
    assert_eq!(group.order(3, |place| place != 2), "dab");
    assert_eq!(group.order(2, |_| true), "cd");
}

#[test]
fn wrr_stays_smooth_without_the_unavailable() {
    let mut group = Group::new(&Balance::Wrr, &primaries(&[5, 9, 1, 1]));
    assert_eq!(group.order(7, |place| place != 1), "aacadaa");
}

#[test]
fn wlc_goes_by_load_for_weight() {
    let mut group = Group::new(&Balance::Wlc, &primaries(&[100, 50, 10]));
    // 4/100 < 3/50 < 1/10.
    assert_eq!(group.pick_loaded(|_| true, |place| [4, 3, 1][place]), Some(0));
    // 7/100 > 3/50.
    assert_eq!(group.pick_loaded(|_| true, |place| [7, 3, 1][place]), Some(1));
    assert_eq!(group.pick_loaded(|_| true, |place| [7, 4, 0][place]), Some(2));
    // The heaviest numbers there are do not overflow.
    let mut heavy = Group::new(&Balance::Wlc, &primaries(&[u32::MAX, u32::MAX]));
    assert_eq!(heavy.pick_loaded(|_| true, |place| u32::MAX - u32::from(place == 1)), Some(1));
}

#[test]
fn wlc_breaks_ties_by_smooth_wrr_among_the_tied() {
    let mut group = Group::new(&Balance::Wlc, &primaries(&[5, 1, 1]));
    assert_eq!(group.order(7, |_| true), "aabacaa");
    let mut group = Group::new(&Balance::Wlc, &primaries(&[5, 9, 1, 1]));
    let order: Vec<usize> = (0..7)
        .map(|_| group.pick_loaded(|_| true, |place| u32::from(place == 1)).unwrap())
        .collect();
    assert_eq!(order, [0, 0, 2, 0, 3, 0, 0]);
}

#[test]
fn wlc_picks_even_when_loads_move_between_two_looks() {
    let mut group = Group::new(&Balance::Wlc, &primaries(&[1, 1]));
    let looks = Cell::new(0);
    let rising = |_| {
        looks.set(looks.get() + 1);
        if looks.get() <= 2 { 0 } else { 9 }
    };
    assert_eq!(group.pick_loaded(|_| true, rising), Some(0));
}

#[test]
fn p2c_takes_the_less_loaded_of_two() {
    let mut group = Group::new(&Balance::P2c, &primaries(&[100, 100]));
    for _ in 0..100 {
        assert_eq!(group.pick_loaded(|_| true, |place| [2, 1][place]), Some(1));
    }
    let mut weighted = Group::new(&Balance::P2c, &primaries(&[100, 10]));
    for _ in 0..100 {
        assert_eq!(weighted.pick_loaded(|_| true, |place| [9, 1][place]), Some(0));
    }
}

#[test]
fn p2c_is_fair_whoever_is_available() {
    let len = 60;
    let members = primaries(&vec![1; len]);
    let sets: [fn(usize) -> bool; 3] = [|_| true, |place| place % 2 == 0, |place| place % 20 == 3];
    for available in sets {
        let mut group = Group::new(&Balance::P2c, &members);
        let mut counts = vec![0_u32; len];
        let eligible = u32::try_from((0..len).filter(|place| available(*place)).count()).unwrap();
        for _ in 0..eligible * 1000 {
            counts[group.pick_among(available).unwrap()] += 1;
        }
        for (place, count) in counts.into_iter().enumerate() {
            // Six standard deviations.
            let want = if available(place) { 810..1190 } else { 0..1 };
            assert!(want.contains(&count), "{place}: {count} with {eligible} eligible");
        }
    }
}

#[test]
fn p2c_draws_two_different_ones() {
    // Were the same one drawn twice, the loaded one would win at times.
    let mut group = Group::new(&Balance::P2c, &primaries(&[1, 1, 1]));
    let available = |place| place != 1;
    for _ in 0..200 {
        assert_eq!(group.pick_loaded(available, |place| [5, 0, 1][place]), Some(2));
    }
}

#[test]
fn hash_honours_weights() {
    let weights = [100, 50, 10, 1, 0, 100];
    let total: u32 = weights.iter().sum();
    let picks = total * 1000;
    let mut group = Group::new(&Balance::Hash(HashKey::Path), &primaries(&weights));
    let counts = group.counts(picks, weights.len());
    for (count, weight) in counts.iter().zip(weights) {
        let (count, want) = (f64::from(*count), f64::from(weight * 1000));
        assert!((count - want).abs() <= 6.0 * want.sqrt(), "{count} for {want}");
    }
}

#[test]
fn hash_keeps_its_picks_between_versions() {
    // A change here moves every client of every group by hash: never do it.
    assert_eq!(key_hash(b""), 0x63cf_c62a_2b09_7592);
    assert_eq!(key_hash(b"a"), 0x41fe_7582_c1bd_914c);
    assert_eq!(key_hash(b"10.0.0.21:9030"), 0xc9eb_b6dd_bce8_5de9);
    let schedule = Schedule::new(&Balance::Hash(HashKey::Path), &primaries(&[100, 50, 10, 100]));
    let picks: Vec<usize> = (0..16)
        .map(|key| {
            let draw = Draw { key, chance: 0 };
            pick(&schedule, &mut Cursor::default(), draw, |_| true, |_| 0).unwrap()
        })
        .collect();
    assert_eq!(picks, [1, 3, 3, 0, 0, 1, 3, 2, 3, 1, 3, 1, 0, 0, 0, 3]);
}

#[test]
fn key_hash_tells_length_and_padding_apart() {
    let texts: [&[u8]; 8] =
        [b"", b"\0", b"\0\0", b"a", b"a\0", b"abcdefgh", b"abcdefgh\0", b"abcdefg"];
    let mut hashes = texts.map(key_hash).to_vec();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), texts.len());
}

#[test]
fn distance_is_the_logarithm() {
    for random in (0..5000_u64).map(mix).chain([0, 1 << 12, 1 << 40, u64::MAX]) {
        let gap = unit(random);
        assert!(gap > 0.0 && gap < 1.0);
        let exact = -(-gap).ln_1p();
        let error = (distance(gap) / exact - 1.0).abs();
        assert!(error < 1e-12, "{gap}: {} against {exact}", distance(gap));
    }
}

#[test]
fn scale_reaches_both_ends() {
    assert_eq!(scale(0, 10), 0);
    assert_eq!(scale(u64::MAX, 10), 9);
    assert_eq!(scale(u64::MAX, 0), 0);
    assert_eq!(scale(u64::MAX / 2 + 1, 10), 5);
}

#[test]
fn backups_take_part_only_without_primaries() {
    for balance in &ALL {
        let mut members = primaries(&[1, 1, 1, 0]);
        members[1].backup = true;
        members[2].backup = true;
        members[3].backup = true;
        let mut group = Group::new(balance, &members);
        for _ in 0..20 {
            assert_eq!(group.pick_among(|_| true), Some(0), "{balance:?}");
        }
        let mut seen = [false; 4];
        for _ in 0..40 {
            seen[group.pick_among(|place| place != 0).unwrap()] = true;
        }
        assert_eq!(seen, [false, true, true, false], "{balance:?}");
        assert_eq!(group.pick_among(|place| place == 3), None, "{balance:?}");
    }
}

#[test]
fn backups_keep_their_own_smooth_order() {
    let mut members = primaries(&[5, 1, 5, 1, 1]);
    for member in members.iter_mut().skip(2) {
        member.backup = true;
    }
    let mut group = Group::new(&Balance::Wrr, &members);
    assert_eq!(group.order(3, |place| place > 1), "ccd");
    assert_eq!(group.order(2, |_| true), "aa");
    assert_eq!(group.order(4, |place| place > 1), "cecc");
    assert_eq!(group.order(4, |_| true), "abaa");
}

#[test]
fn a_cursor_of_another_schedule_starts_anew() {
    for balance in &ALL {
        let mut group = Group::new(balance, &primaries(&[5, 1, 1]));
        for cursor in
            [Cursor::default(), Cursor::new(&Schedule::new(balance, &primaries(&[1; 9])), 5)]
        {
            group.cursor = cursor;
            assert!(group.pick_among(|_| true).is_some(), "{balance:?}");
        }
    }
    let mut group = Group::new(&Balance::Wrr, &primaries(&[5, 1, 1]));
    group.cursor = Cursor::default();
    assert_eq!(group.order(7, |_| true), "aabacaa");
    let mut large = Group::new(&Balance::Rr, &primaries(&[1; 9]));
    assert_eq!(large.order(8, |_| true), "abcdefgh");
    group.schedule = Schedule::new(&Balance::Rr, &primaries(&[1; 3]));
    group.cursor = large.cursor;
    assert_eq!(group.order(4, |_| true), "abca");
}

#[test]
fn hash_key_is_read_as_it_is_written() {
    for text in ["client_ip", "cookie:Session", "header:x-user", "path"] {
        assert_eq!(HashKey::parse(text).unwrap().to_string(), text);
    }
    assert_eq!(HashKey::parse("header:X-User"), Ok(HashKey::Header("x-user".into())));
    for text in ["cookie", "cookie:", "header", "header:"] {
        assert_eq!(HashKey::parse(text), Err(HashKeyError::NoName), "{text}");
    }
    for text in ["", "ip", "path:", "client_ip:x", "Cookie:a", "query:a"] {
        assert_eq!(HashKey::parse(text), Err(HashKeyError::Unknown(text.into())), "{text}");
    }
    for name in ["a b", "a=b", "a:b", "ä"] {
        let error = Err(HashKeyError::BadName(name.into()));
        assert_eq!(HashKey::parse(&format!("cookie:{name}")), error);
        assert_eq!(HashKey::parse(&format!("header:{name}")), error);
    }
    assert!(HashKey::parse("ip").unwrap_err().to_string().contains("`header:NAME`"));
    assert!(ALL.iter().map(Balance::name).all(|name| Balance::NAMES.contains(&name)));
    assert_eq!(Balance::default(), Balance::Wrr);
}

/// Whoever begins anywhere picks the same cycle, turned; and all of its places
/// are begun at.
#[test]
fn a_cycle_begins_anywhere() {
    for (balance, weights) in [
        (Balance::Wrr, &[5, 1, 1][..]),
        (Balance::Wrr, &[1, 1, 1, 1]),
        (Balance::Rr, &[3, 1]),
        (Balance::Wlc, &[2, 1]),
    ] {
        let schedule = Schedule::new(&balance, &primaries(weights));
        let cycle = match balance {
            Balance::Rr => weights.len(),
            _ => weights.iter().sum::<u32>() as usize,
        };
        let picks = |mut cursor: Cursor, count: usize| -> Vec<usize> {
            let mut one = || pick(&schedule, &mut cursor, Draw::default(), |_| true, |_| 0);
            (0..count).map(|_| one().unwrap()).collect()
        };
        let plain = picks(Cursor::default(), 2 * cycle);
        let mut begun = std::collections::BTreeSet::new();
        for chance in 0..1000 {
            let turned = picks(Cursor::new(&schedule, chance), cycle);
            let at = (0..cycle).find(|at| plain[*at..at + cycle] == turned);
            begun.insert(at.unwrap_or_else(|| panic!("{turned:?} is not {plain:?} turned")));
        }
        assert_eq!(begun.len(), cycle, "{balance:?} {weights:?}");
    }
}

#[test]
fn a_large_group_begins_without_much_ado() {
    let weights: Vec<u32> = (1..=1000).collect();
    let schedule = Schedule::new(&Balance::Wrr, &primaries(&weights));
    let first = |chance| {
        pick(&schedule, &mut Cursor::new(&schedule, chance), Draw::default(), |_| true, |_| 0)
    };
    let begun: std::collections::BTreeSet<_> = (0..100).map(first).collect();
    assert!(begun.len() > 20, "{begun:?}");
}

#[test]
fn the_shares_foreseen_are_those_of_many_picks() {
    let loads = [0_u32, 3, 3, 9];
    let load = |place: usize| loads[place];
    for (balance, shares) in [
        (Balance::Wrr, vec![(0, 0.1), (1, 0.1), (2, 0.2), (3, 0.6)]),
        (Balance::Rr, vec![(0, 0.25), (1, 0.25), (2, 0.25), (3, 0.25)]),
        (Balance::Wlc, vec![(0, 1.0)]),
        // 0, 3, 1.5 and 1.5 for each weight: 0 wins against all, 1 against nobody.
        (Balance::P2c, vec![(0, 0.5), (2, 0.25), (3, 0.25)]),
    ] {
        let schedule = Schedule::new(&balance, &primaries(&[1, 1, 2, 6]));
        let foreseen = foresee(&schedule, 0, |_| true, load);
        let near = |(a, b): (&(usize, f64), &(usize, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-9;
        assert_eq!(foreseen.len(), shares.len(), "{balance:?} {foreseen:?}");
        assert!(foreseen.iter().zip(&shares).all(near), "{balance:?} {foreseen:?}");
        let mut cursor = Cursor::default();
        let mut counts = [0_u32; 4];
        for chance in 0..20_000 {
            let draw = Draw { key: 0, chance };
            counts[pick(&schedule, &mut cursor, draw, |_| true, load).unwrap()] += 1;
        }
        for (place, count) in counts.into_iter().enumerate() {
            let share = shares.iter().find(|(one, _)| *one == place).map_or(0.0, |one| one.1);
            let found = f64::from(count) / 20_000.0;
            assert!((found - share).abs() < 0.02, "{balance:?} {place}: {found}, not {share}");
        }
    }
}
