//! What always holds, whatever the arguments.

use proptest::prelude::*;

use super::tests::{ALL, Group, primaries};
use super::*;

fn any_balance() -> impl Strategy<Value = Balance> {
    prop::sample::select(ALL.to_vec())
}

fn any_members() -> impl Strategy<Value = Vec<Member>> {
    let member = (prop_oneof![Just(0), Just(1), 0..=1000_u32], any::<bool>(), any::<u64>());
    let member = member.prop_map(|(weight, backup, seed)| Member { weight, backup, seed });
    prop::collection::vec(member, 0..12)
}

proptest! {
    #[test]
    fn only_and_always_the_eligible(
        balance in any_balance(),
        members in any_members(),
        rounds in prop::collection::vec((any::<u16>(), any::<u64>(), any::<u64>()), 1..30),
    ) {
        let schedule = Schedule::new(&balance, &members);
        let mut cursor = Cursor::default();
        for (up, key, chance) in rounds {
            let available = |place: usize| up >> place & 1 == 1;
            let load = |place: usize| u32::try_from(chance >> (3 * place) & 7).unwrap();
            let able = |backup: bool| {
                let members = members.iter().enumerate();
                members
                    .filter(|(place, member)| available(*place) && member.weight > 0 && member.backup == backup)
                    .map(|(place, _)| place)
                    .collect::<Vec<_>>()
            };
            let eligible = if able(false).is_empty() { able(true) } else { able(false) };
            match pick(&schedule, &mut cursor, Draw { key, chance }, available, load) {
                Some(place) => prop_assert!(eligible.contains(&place), "{place} of {eligible:?}"),
                None => prop_assert!(eligible.is_empty(), "none of {eligible:?}"),
            }
        }
    }

    /// Who is picked was foreseen, and nobody else is foreseen than who may be.
    #[test]
    fn what_is_foreseen_is_what_is_picked(
        balance in any_balance(),
        members in any_members(),
        rounds in prop::collection::vec((any::<u16>(), any::<u64>(), any::<u64>()), 1..30),
    ) {
        let schedule = Schedule::new(&balance, &members);
        let mut cursor = Cursor::default();
        for (up, key, chance) in rounds {
            let available = |place: usize| up >> place & 1 == 1;
            let load = |place: usize| u32::try_from(chance >> (3 * place) & 7).unwrap();
            let shares = foresee(&schedule, key, available, load);
            let sum: f64 = shares.iter().map(|(_, share)| share).sum();
            prop_assert!(shares.is_empty() || (sum - 1.0).abs() < 1e-9, "{shares:?}");
            prop_assert!(shares.iter().all(|(_, share)| *share > 0.0), "{shares:?}");
            let picked = pick(&schedule, &mut cursor, Draw { key, chance }, available, load);
            match picked {
                Some(place) => prop_assert!(shares.iter().any(|(one, _)| *one == place)),
                None => prop_assert!(shares.is_empty()),
            }
        }
    }

    #[test]
    fn weights_are_exact_over_every_cycle(
        weights in prop::collection::vec(0..20_u32, 1..8),
        up in 1..=255_u8,
    ) {
        let available = |place: usize| up >> place & 1 == 1;
        let share = |(place, weight): (usize, &u32)| if available(place) { *weight } else { 0 };
        let want: Vec<u32> = weights.iter().enumerate().map(share).collect();
        for balance in [Balance::Wrr, Balance::Wlc] {
            let mut group = Group::new(&balance, &primaries(&weights));
            for _ in 0..3 {
                let mut counts = vec![0; weights.len()];
                for _ in 0..want.iter().sum() {
                    counts[group.pick_among(available).unwrap()] += 1;
                }
                prop_assert_eq!(&counts, &want);
            }
        }
    }

    #[test]
    fn smooth_never_strays_from_its_share(weights in prop::collection::vec(1..30_u32, 1..8)) {
        // After every pick, nobody is a whole pick ahead of its exact share.
        let total: u32 = weights.iter().sum();
        let mut group = Group::new(&Balance::Wrr, &primaries(&weights));
        let mut counts = vec![0_u32; weights.len()];
        for picks in 1..=total {
            counts[group.pick_among(|_| true).unwrap()] += 1;
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert!(count * total < picks * weight + total);
            }
        }
    }

    #[test]
    fn equal_weights_go_as_smooth_wrr_would(
        weight in 1..=1000_u32,
        len in 1..10_usize,
        up in any::<u16>(),
    ) {
        // The rule as nginx has it, written down once more.
        let available = |place: usize| up >> place & 1 == 1;
        let mut credits = vec![0_i64; len];
        let mut group = Group::new(&Balance::Wrr, &primaries(&vec![weight; len]));
        for _ in 0..3 * len {
            let mut total = 0;
            let mut best: Option<usize> = None;
            for place in (0..len).filter(|place| available(*place)) {
                credits[place] += i64::from(weight);
                total += i64::from(weight);
                if best.is_none_or(|best| credits[place] > credits[best]) {
                    best = Some(place);
                }
            }
            if let Some(best) = best {
                credits[best] -= total;
            }
            prop_assert_eq!(group.pick_among(available), best);
        }
    }

    #[test]
    fn hash_moves_only_the_share_of_who_goes(
        members in any_members(),
        gone in 0..12_usize,
        keys in prop::collection::vec(any::<u64>(), 1..50),
    ) {
        let mut members = members;
        for member in &mut members {
            member.backup = false;
        }
        let balance = Balance::Hash(HashKey::ClientIp);
        let all = Schedule::new(&balance, &members);
        let mut fewer = members.clone();
        if gone < fewer.len() {
            fewer.remove(gone);
        }
        let fewer = Schedule::new(&balance, &fewer);
        for key in keys {
            let ask = |schedule: &Schedule, available: &dyn Fn(usize) -> bool| {
                let draw = Draw { key, chance: 0 };
                pick(schedule, &mut Cursor::default(), draw, available, |_| 0)
            };
            let before = ask(&all, &|_| true);
            let unavailable = ask(&all, &|place| place != gone);
            let removed = ask(&fewer, &|_| true);
            let removed = removed.map(|place| if place >= gone { place + 1 } else { place });
            // Removed or only unavailable, the rest is picked alike.
            prop_assert_eq!(removed, unavailable);
            if before != Some(gone) {
                prop_assert_eq!(before, unavailable);
            }
        }
    }

    #[test]
    fn hash_moves_only_towards_who_gets_more_weight(
        weights in prop::collection::vec(1..=1000_u32, 1..10),
        more in 1..1000_u32,
        at in any::<prop::sample::Index>(),
        keys in prop::collection::vec(any::<u64>(), 1..50),
    ) {
        let balance = Balance::Hash(HashKey::ClientIp);
        let at = at.index(weights.len());
        let before = Schedule::new(&balance, &primaries(&weights));
        let mut weights = weights;
        weights[at] += more;
        let after = Schedule::new(&balance, &primaries(&weights));
        for key in keys {
            let ask = |schedule: &Schedule| {
                let draw = Draw { key, chance: 0 };
                pick(schedule, &mut Cursor::default(), draw, |_| true, |_| 0)
            };
            prop_assert!(ask(&after) == ask(&before) || ask(&after) == Some(at));
        }
    }
}
