//! Two looks at the counters, and what happened between them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::control::condition::{Condition, Level};
use crate::control::counted::{AttemptCounts, Named, RequestCounts, Took};
use crate::telemetry::quantile::{added, added_to_all, quantile};

/// What is read of `/status.json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Document {
    version: String,
    pid: u32,
    now: u64,
    started: u64,
    generation: u64,
    connections: u64,
    tunnels: u64,
    games: Vec<Game>,
    requests: RequestCounts,
}

#[derive(Debug, Deserialize)]
struct Game {
    name: String,
    groups: Vec<Group>,
    requests: RequestCounts,
}

#[derive(Debug, Deserialize)]
struct Group {
    name: String,
    requests: RequestCounts,
    backends: Vec<Backend>,
}

#[derive(Debug, Deserialize)]
struct Backend {
    name: String,
    address: String,
    #[serde(default)]
    condition: Condition,
    players: Option<u64>,
    tunnels: u64,
    in_flight: u64,
    attempts: AttemptCounts,
}

/// What happened, and what is.
#[derive(Debug, Serialize)]
pub(super) struct View {
    /// The end of it, in milliseconds since 1970.
    pub(super) now: u64,
    /// So long it was.
    pub(super) seconds: f64,
    pub(super) version: String,
    pub(super) pid: u32,
    pub(super) generation: u64,
    pub(super) connections: u64,
    pub(super) tunnels: u64,
    /// All requests together.
    pub(super) all: Rates,
    pub(super) groups: Vec<GroupView>,
}

/// A group; what a game's clients met in none of its groups; or (without a game)
/// what asked for no game.
#[derive(Debug, Serialize)]
pub(super) struct GroupView {
    pub(super) game: Option<String>,
    pub(super) group: Option<String>,
    #[serde(flatten)]
    pub(super) rates: Rates,
    /// `null`: there are no backends.
    pub(super) in_flight: Option<u64>,
    pub(super) tunnels: u64,
    /// `null`: not sticky.
    pub(super) players: Option<u64>,
    pub(super) backends: Vec<BackendView>,
}

#[derive(Debug, Serialize)]
pub(super) struct BackendView {
    pub(super) name: String,
    pub(super) address: String,
    /// As README lists them: `up`, `down`, `failing`, `drain`, …
    pub(super) health: String,
    /// How bad that is.
    pub(super) level: Level,
    /// Of attempts; the times are those to the header.
    #[serde(flatten)]
    pub(super) rates: Rates,
    pub(super) in_flight: u64,
    pub(super) tunnels: u64,
    pub(super) players: Option<u64>,
}

/// How often, in a second, and how long.
#[derive(Debug, Default, Serialize)]
pub(super) struct Rates {
    pub(super) per_second: f64,
    /// Answers 500 to 599, whoever gave them.
    pub(super) of_5xx_per_second: f64,
    /// With a cause.
    pub(super) failed_per_second: f64,
    pub(super) causes_per_second: BTreeMap<String, f64>,
    pub(super) p50_seconds: Option<f64>,
    pub(super) p99_seconds: Option<f64>,
    /// Those that a backend or lockgate is to blame for.
    pub(super) errors_per_second: f64,
}

/// What was added to a set of counters.
#[derive(Debug, Default)]
struct Added {
    classes: BTreeMap<String, u64>,
    causes: BTreeMap<String, u64>,
    errors: u64,
    bounds: Vec<f64>,
    buckets: Vec<u64>,
}

impl Added {
    fn new(before: Option<Counters<'_>>, now: Counters<'_>) -> Added {
        let names = |before: Option<&Named>, now: &Named| {
            let before = |name: &str| before.and_then(|before| before.get(name)).copied();
            now.iter()
                .map(|(name, now)| {
                    (name.clone().into_owned(), added(before(name).unwrap_or_default(), *now))
                })
                .filter(|(_, count)| *count > 0)
                .collect()
        };
        let buckets_before = before.map(|before| before.took.buckets.as_slice());
        Added {
            classes: names(before.map(|before| before.by_class), now.by_class),
            causes: names(before.map(|before| before.by_cause), now.by_cause),
            errors: added(before.map_or(0, |before| before.errors), now.errors),
            bounds: now.took.bounds_seconds.clone(),
            buckets: added_to_all(buckets_before.unwrap_or_default(), &now.took.buckets),
        }
    }

    fn add(&mut self, other: &Added) {
        let names = [(&mut self.classes, &other.classes), (&mut self.causes, &other.causes)];
        for (sums, more) in names {
            for (name, count) in more {
                *sums.entry(name.clone()).or_default() += count;
            }
        }
        self.errors += other.errors;
        self.bounds.clone_from(&other.bounds);
        self.buckets.resize(other.buckets.len(), 0);
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += more;
        }
    }

    fn is_nothing(&self) -> bool {
        self.classes.is_empty() && self.causes.is_empty()
    }

    fn rates(&self, seconds: f64) -> Rates {
        let rate = |count: u64| count as f64 / seconds;
        let share = |share| quantile(&self.bounds, &self.buckets, share);
        Rates {
            per_second: rate(self.classes.values().sum()),
            of_5xx_per_second: rate(self.classes.get("5xx").copied().unwrap_or_default()),
            failed_per_second: rate(self.causes.values().sum()),
            causes_per_second: self
                .causes
                .iter()
                .map(|(name, count)| (name.clone(), rate(*count)))
                .collect(),
            p50_seconds: share(0.5),
            p99_seconds: share(0.99),
            errors_per_second: rate(self.errors),
        }
    }
}

/// The same of requests and of attempts.
#[derive(Clone, Copy, Debug)]
struct Counters<'a> {
    by_class: &'a Named,
    by_cause: &'a Named,
    errors: u64,
    took: &'a Took,
}

impl<'a> From<&'a RequestCounts> for Counters<'a> {
    fn from(of: &'a RequestCounts) -> Counters<'a> {
        let (by_class, by_cause) = (&of.by_class, &of.by_cause);
        Counters { by_class, by_cause, errors: of.errors, took: &of.took }
    }
}

impl<'a> From<&'a AttemptCounts> for Counters<'a> {
    fn from(of: &'a AttemptCounts) -> Counters<'a> {
        let (by_class, by_cause) = (&of.by_class, &of.by_cause);
        Counters { by_class, by_cause, errors: of.errors, took: &of.header }
    }
}

impl View {
    /// `None`: these are of two processes, or of the same moment.
    pub(super) fn between(before: &Document, now: &Document) -> Option<View> {
        let is_same = (before.pid, before.started) == (now.pid, now.started);
        let millis = now.now.checked_sub(before.now).filter(|millis| *millis > 0);
        let seconds = millis.filter(|_| is_same)? as f64 / 1000.0;
        let mut all = Added::default();
        let mut groups = Vec::new();
        let outside = |name: Option<&String>, added: &Added| {
            let rates = added.rates(seconds);
            (!added.is_nothing()).then(|| GroupView::outside(name, rates))
        };
        for game in &now.games {
            let known = before.games.iter().find(|known| known.name == game.name);
            let of_game = known.map(|known| (&known.requests).into());
            let of_game = Added::new(of_game, (&game.requests).into());
            all.add(&of_game);
            groups.extend(outside(Some(&game.name), &of_game));
            for group in &game.groups {
                let known = known
                    .and_then(|known| known.groups.iter().find(|known| known.name == group.name));
                let of_group = known.map(|known| (&known.requests).into());
                let of_group = Added::new(of_group, (&group.requests).into());
                all.add(&of_group);
                groups.push(GroupView::new(&game.name, known, group, &of_group, seconds));
            }
        }
        let nobodys = Added::new(Some((&before.requests).into()), (&now.requests).into());
        all.add(&nobodys);
        groups.extend(outside(None, &nobodys));
        Some(View {
            now: now.now,
            seconds,
            version: now.version.clone(),
            pid: now.pid,
            generation: now.generation,
            connections: now.connections,
            tunnels: now.tunnels,
            all: all.rates(seconds),
            groups,
        })
    }

    /// Those with the most first; equals stay as they are.
    pub(super) fn sort_by(&mut self, of: impl Fn(&Rates) -> f64) {
        self.groups.sort_by(|one, other| of(&other.rates).total_cmp(&of(&one.rates)));
        for group in &mut self.groups {
            group.backends.sort_by(|one, other| of(&other.rates).total_cmp(&of(&one.rates)));
        }
    }
}

impl GroupView {
    fn outside(game: Option<&String>, rates: Rates) -> GroupView {
        let game = game.cloned();
        let (group, in_flight, players, backends) = Default::default();
        GroupView { game, group, rates, in_flight, tunnels: 0, players, backends }
    }

    fn new(
        game: &str,
        before: Option<&Group>,
        group: &Group,
        added: &Added,
        seconds: f64,
    ) -> GroupView {
        let backend = |backend: &Backend| {
            let known = before
                .into_iter()
                .flat_map(|before| &before.backends)
                .find(|known| (&known.name, &known.address) == (&backend.name, &backend.address));
            let before = known.map(|known| (&known.attempts).into());
            backend.view(&Added::new(before, (&backend.attempts).into()), seconds)
        };
        let sum = |of: fn(&Backend) -> Option<u64>| {
            let known: Vec<u64> = group.backends.iter().filter_map(of).collect();
            (!known.is_empty()).then(|| known.iter().sum())
        };
        GroupView {
            game: Some(game.to_owned()),
            group: Some(group.name.clone()),
            rates: added.rates(seconds),
            in_flight: sum(|backend| Some(backend.in_flight)),
            tunnels: group.backends.iter().map(|backend| backend.tunnels).sum(),
            players: sum(|backend| backend.players),
            backends: group.backends.iter().map(backend).collect(),
        }
    }
}

impl Backend {
    fn view(&self, added: &Added, seconds: f64) -> BackendView {
        BackendView {
            name: self.name.clone(),
            address: self.address.clone(),
            health: self.condition.word.clone().into_owned(),
            level: self.condition.level,
            rates: added.rates(seconds),
            in_flight: self.in_flight,
            tunnels: self.tunnels,
            players: self.players,
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
