//! The members of one rank (primaries or backups), and how one of them is
//! picked.

use std::cmp::Ordering;

use super::hash::{blend, distance, mix, scale, unit};
use super::{Draw, Member};

/// How often [`Tier::draw`] draws before it scans. With nine of ten members
/// unavailable a scan is then needed once in 800 picks.
const DRAWS: usize = 64;

/// Entries looked at, at most, to find a place to begin.
const STEPS: usize = 1 << 16;

/// How a tier picks: a balance, told apart where weights make it cheaper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Rotate,
    Smooth,
    LeastLoaded,
    TwoChoices,
    Rendezvous,
}

/// The members of one rank that have any weight.
#[derive(Clone, Debug)]
pub(super) struct Tier {
    method: Method,
    entries: Box<[Entry]>,
    /// All have one weight.
    equal: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Place among the group's members.
    place: usize,
    /// Never 0.
    weight: u32,
    /// 1 / weight.
    share: f64,
    /// The member's seed, mixed, so that poor seeds do no harm.
    seed: u64,
}

/// A worker's place in the cycle of one tier.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    /// [`Method::Rotate`], and [`Method::LeastLoaded`] where all weights are
    /// equal: the entry to begin with.
    next: usize,
    /// [`Tier::smooth`]: what each entry is owed, in units of weight. Their sum
    /// stays 0.
    credits: Vec<i64>,
    /// [`Method::LeastLoaded`]: the entries that are tied. Kept for its memory.
    tied: Vec<usize>,
}

impl Turn {
    /// Anywhere in the cycle: `chance` says where.
    pub(super) fn new(tier: &Tier, chance: u64) -> Self {
        let chance = mix(chance);
        let mut turn = Self::default();
        match tier.method {
            Method::Rotate => turn.next = scale(chance, tier.entries.len()),
            Method::LeastLoaded if tier.equal => turn.next = scale(chance, tier.entries.len()),
            Method::Smooth | Method::LeastLoaded => {
                for _ in 0..scale(chance, tier.cycle().min(tier.affordable())) {
                    tier.smooth(&mut turn, |_| true);
                }
            }
            Method::TwoChoices | Method::Rendezvous => {}
        }
        turn
    }

    /// Makes one of another tier begin anew.
    fn fit(&mut self, tier: &Tier) {
        if self.credits.len() != tier.entries.len() {
            self.credits.clear();
            self.credits.resize(tier.entries.len(), 0);
        }
    }
}

impl Tier {
    pub(super) fn new(method: Method, members: &[Member], backup: bool) -> Self {
        let members = members.iter().enumerate();
        let entries: Box<[Entry]> = members
            .filter(|(_, member)| member.backup == backup && member.weight > 0)
            .map(|(place, member)| Entry {
                place,
                weight: member.weight,
                share: 1.0 / f64::from(member.weight),
                seed: mix(member.seed),
            })
            .collect();
        // With equal weights the smooth order is the plain rotation, which
        // looks at one entry instead of all.
        let equal = entries.windows(2).all(|pair| match pair {
            [a, b] => a.weight == b.weight,
            _ => true,
        });
        let method = match method {
            Method::Smooth if equal => Method::Rotate,
            other => other,
        };
        Self { method, entries, equal }
    }

    pub(super) fn pick(
        &self,
        turn: &mut Turn,
        draw: Draw,
        available: &impl Fn(usize) -> bool,
        load: &impl Fn(usize) -> u32,
    ) -> Option<usize> {
        match self.method {
            Method::Rotate => self.rotate(turn, available),
            Method::Smooth => self.smooth(turn, |entry| available(entry.place)),
            Method::LeastLoaded if self.equal => self.least_of_equals(turn, available, load),
            Method::LeastLoaded => self.least_loaded(turn, available, load),
            Method::TwoChoices => self.two_choices(draw.chance, available, load),
            Method::Rendezvous => self.rendezvous(draw.key, available),
        }
    }

    /// Who may be picked, and each one's share of the picks.
    pub(super) fn foresee(
        &self,
        key: u64,
        available: &impl Fn(usize) -> bool,
        load: &impl Fn(usize) -> u32,
    ) -> Vec<(usize, f64)> {
        let by_weight = |entries: &[&Entry]| {
            let total: f64 = entries.iter().map(|entry| f64::from(entry.weight)).sum();
            let share = |entry: &&Entry| (entry.place, f64::from(entry.weight) / total);
            entries.iter().map(share).collect()
        };
        let open: Vec<&Entry> = self.entries.iter().filter(|one| available(one.place)).collect();
        match self.method {
            Method::Rotate => {
                let share = 1.0 / open.len() as f64;
                open.iter().map(|entry| (entry.place, share)).collect()
            }
            Method::Smooth => by_weight(&open),
            Method::LeastLoaded => {
                let mut by_burden: Vec<(&Entry, u32)> =
                    open.iter().map(|entry| (*entry, load(entry.place))).collect();
                by_burden.sort_by(lighter);
                let Some(least) = by_burden.first().copied() else { return Vec::new() };
                let tied = |one: &&(&Entry, u32)| lighter(one, &least).is_eq();
                let tied: Vec<&Entry> =
                    by_burden.iter().take_while(tied).map(|(entry, _)| *entry).collect();
                by_weight(&tied)
            }
            Method::TwoChoices => shares_of_two(&open, load),
            Method::Rendezvous => {
                self.rendezvous(key, available).into_iter().map(|place| (place, 1.0)).collect()
            }
        }
    }

    /// Picks after which [`Self::smooth`] is where it began.
    fn cycle(&self) -> usize {
        let weights = || self.entries.iter().map(|entry| u64::from(entry.weight));
        let common = weights().fold(0, common_divisor).max(1);
        usize::try_from(weights().sum::<u64>() / common).unwrap_or(usize::MAX)
    }

    /// Picks that cost little enough to be made only to begin somewhere.
    fn affordable(&self) -> usize {
        STEPS / self.entries.len().max(1)
    }

    /// The next available one, going round.
    fn rotate(&self, turn: &mut Turn, available: &impl Fn(usize) -> bool) -> Option<usize> {
        let next = turn.next.min(self.entries.len());
        let (before, from) = self.entries.split_at_checked(next)?;
        let round = from.iter().chain(before);
        let (steps, entry) = round.enumerate().find(|(_, entry)| available(entry.place))?;
        let after = next + steps + 1;
        turn.next = if after >= self.entries.len() { after - self.entries.len() } else { after };
        Some(entry.place)
    }

    /// nginx's smooth weighted round robin among the eligible: each gets its
    /// weight, the first of the richest is picked and pays for all.
    fn smooth(&self, turn: &mut Turn, eligible: impl Fn(&Entry) -> bool) -> Option<usize> {
        turn.fit(self);
        let mut total = 0;
        let mut richest: Option<(&mut i64, usize)> = None;
        for (entry, credit) in self.entries.iter().zip(&mut turn.credits) {
            if !eligible(entry) {
                continue;
            }
            *credit += i64::from(entry.weight);
            total += i64::from(entry.weight);
            if richest.as_ref().is_none_or(|(most, _)| *credit > **most) {
                richest = Some((credit, entry.place));
            }
        }
        let (credit, place) = richest?;
        *credit -= total;
        Some(place)
    }

    /// The smallest load; the next one, going round, of those that are tied: that
    /// is the smooth order where weights are equal, and one look at each.
    fn least_of_equals(
        &self,
        turn: &mut Turn,
        available: &impl Fn(usize) -> bool,
        load: &impl Fn(usize) -> u32,
    ) -> Option<usize> {
        let next = turn.next.min(self.entries.len());
        let (before, from) = self.entries.split_at_checked(next)?;
        let mut least: Option<(u32, usize, usize)> = None;
        for (steps, entry) in from.iter().chain(before).enumerate() {
            if !available(entry.place) {
                continue;
            }
            let load = load(entry.place);
            if least.is_none_or(|(least, ..)| load < least) {
                least = Some((load, steps, entry.place));
                if load == 0 {
                    break;
                }
            }
        }
        let (_, steps, place) = least?;
        let after = next + steps + 1;
        turn.next = if after >= self.entries.len() { after - self.entries.len() } else { after };
        Some(place)
    }

    /// The smallest load for its weight; ties by [`Self::smooth`].
    fn least_loaded(
        &self,
        turn: &mut Turn,
        available: &impl Fn(usize) -> bool,
        load: &impl Fn(usize) -> u32,
    ) -> Option<usize> {
        let mut least: Option<(&Entry, u32)> = None;
        turn.tied.clear();
        for (at, entry) in self.entries.iter().enumerate() {
            if !available(entry.place) {
                continue;
            }
            let load = load(entry.place);
            let against = |best: (&Entry, u32)| lighter(&(entry, load), &best);
            match least.map(against) {
                None | Some(Ordering::Less) => {
                    least = Some((entry, load));
                    turn.tied.clear();
                    turn.tied.push(at);
                }
                Some(Ordering::Equal) => turn.tied.push(at),
                Some(Ordering::Greater) => {}
            }
        }
        match turn.tied.len() {
            0 | 1 => least.map(|(best, _)| best.place),
            _ => self.smooth_tied(turn),
        }
    }

    /// [`Self::smooth`] among those that are tied.
    fn smooth_tied(&self, turn: &mut Turn) -> Option<usize> {
        turn.fit(self);
        let Turn { credits, tied, .. } = turn;
        let mut total = 0;
        let mut richest: Option<(i64, usize, usize)> = None;
        for at in tied.iter().copied() {
            let (Some(entry), Some(credit)) = (self.entries.get(at), credits.get_mut(at)) else {
                continue;
            };
            *credit += i64::from(entry.weight);
            total += i64::from(entry.weight);
            if richest.is_none_or(|(most, ..)| *credit > most) {
                richest = Some((*credit, at, entry.place));
            }
        }
        let (_, at, place) = richest?;
        *credits.get_mut(at)? -= total;
        Some(place)
    }

    /// Of two by chance the one with the smaller load for its weight; the
    /// first drawn when they are alike.
    fn two_choices(
        &self,
        chance: u64,
        available: &impl Fn(usize) -> bool,
        load: &impl Fn(usize) -> u32,
    ) -> Option<usize> {
        let mut chance = mix(chance);
        let (at, first) = self.draw(&mut chance, None, available)?;
        let Some((_, second)) = self.draw(&mut chance, Some(at), available) else {
            return Some(first.place);
        };
        let (one, other) = (load(first.place), load(second.place));
        let better = burden(other, first) < burden(one, second);
        Some(if better { second.place } else { first.place })
    }

    /// Any available entry but the one at `but`, all as likely, and where it
    /// stands.
    fn draw(
        &self,
        chance: &mut u64,
        but: Option<usize>,
        available: &impl Fn(usize) -> bool,
    ) -> Option<(usize, &Entry)> {
        let others = self.entries.len().checked_sub(usize::from(but.is_some()))?;
        for _ in 0..DRAWS.min(others) {
            let at = scale(*chance, others);
            let at = if but.is_some_and(|but| at >= but) { at + 1 } else { at };
            *chance = mix(*chance);
            let entry = self.entries.get(at)?;
            if available(entry.place) {
                return Some((at, entry));
            }
        }
        let entries = || self.entries.iter().enumerate();
        let left = || entries().filter(|(at, entry)| Some(*at) != but && available(entry.place));
        let wanted = scale(*chance, left().count());
        *chance = mix(*chance);
        // Availability moves meanwhile: then there are fewer, and the first.
        left().nth(wanted).or_else(|| left().next())
    }

    /// Weighted rendezvous (Thaler and Ravishankar 1998; the logarithm gives
    /// each its exact share): who is nearest to the key takes it. Each one's
    /// distance is its own, so who comes or goes moves nobody else.
    fn rendezvous(&self, key: u64, available: &impl Fn(usize) -> bool) -> Option<usize> {
        let key = (mix(key), mix(!key));
        let mut nearest = f64::INFINITY;
        let mut picked = None;
        for entry in &self.entries {
            let gap = unit(blend(key, entry.seed));
            // -ln(1 - gap) is never below gap: most are out without it.
            if gap * entry.share >= nearest {
                continue;
            }
            // The logarithm costs more than to ask.
            if !available(entry.place) {
                continue;
            }
            let distance = distance(gap) * entry.share;
            if distance < nearest {
                nearest = distance;
                picked = Some(entry.place);
            }
        }
        picked
    }
}

/// Of all ordered pairs those that each wins: with whoever carries more in both
/// orders, with its equals when it is drawn first.
fn shares_of_two(open: &[&Entry], load: &impl Fn(usize) -> u32) -> Vec<(usize, f64)> {
    let count = open.len();
    if let [only] = open {
        return vec![(only.place, 1.0)];
    }
    let mut by_burden: Vec<(&Entry, u32)> =
        open.iter().map(|entry| (*entry, load(entry.place))).collect();
    by_burden.sort_by(lighter);
    let pairs = (count * count.saturating_sub(1)) as f64;
    let mut shares = Vec::with_capacity(count);
    let mut behind = count;
    for alike in by_burden.chunk_by(|a, b| lighter(a, b).is_eq()) {
        behind -= alike.len();
        let wins = (2 * behind + alike.len() - 1) as f64;
        shares.extend(alike.iter().map(|(entry, _)| (entry.place, wins / pairs)));
    }
    shares.retain(|(_, share)| *share > 0.0);
    shares.sort_by_key(|(place, _)| *place);
    shares
}

/// Who carries less for its weight comes first.
fn lighter(one: &(&Entry, u32), other: &(&Entry, u32)) -> Ordering {
    burden(one.1, other.0).cmp(&burden(other.1, one.0))
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Compares loads by weight without dividing: a/b < c/d is ad < cb.
fn burden(load: u32, other: &Entry) -> u64 {
    u64::from(load) * u64::from(other.weight)
}
