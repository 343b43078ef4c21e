//! Backends as the operator names them, and what is told of each.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::status::Text;
use super::tally::Tally;
use super::times::shown;
use crate::config::nearest;
use crate::proxy::WINDOW;
use crate::state::{Backend, Group, Snapshot};

/// So many names are listed where none is near.
const LISTED: usize = 8;

/// A backend of the snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) group: &'a Group,
    pub(super) backend: &'a Backend,
}

impl Found<'_> {
    /// `GAME/GROUP/BACKEND`.
    pub(super) fn name(&self) -> String {
        let Found { group, backend } = self;
        format!("{}/{}/{}", group.game, group.config.name, backend.config.name)
    }
}

/// The backends that these stand for, each once, in the order they are named:
/// `GAME/GROUP/BACKEND`, or all of `GAME/GROUP`, or all of `GAME`.
///
/// # Errors
/// All that mean nothing, with what was probably meant.
pub(super) fn find<'a>(
    snapshot: &'a Snapshot,
    named: &[String],
) -> Result<Vec<Found<'a>>, Vec<String>> {
    let (mut all, mut seen, mut wrong) = (Vec::new(), HashSet::new(), Vec::new());
    for target in named {
        match find_one(snapshot, target) {
            Ok(found) => all.extend(found.into_iter().filter(|one| seen.insert(one.backend.id()))),
            Err(why) => wrong.push(why),
        }
    }
    if wrong.is_empty() { Ok(all) } else { Err(wrong) }
}

/// The same of one.
pub(super) fn find_one<'a>(snapshot: &'a Snapshot, target: &str) -> Result<Vec<Found<'a>>, String> {
    let mut parts = target.splitn(3, '/');
    let game = parts.next().unwrap_or_default();
    let games = || snapshot.games.iter().map(|game| &*game.config.name);
    let Some(found) = snapshot.games.iter().find(|one| *one.config.name == *game) else {
        return Err(unknown("there is no game", game, "games", games()));
    };
    let of = |group: &'a Group| group.backends.iter().map(move |backend| Found { group, backend });
    let Some(group) = parts.next() else {
        return Ok(found.groups.iter().flat_map(|group| of(group)).collect());
    };
    let groups = || found.groups.iter().map(|group| &*group.config.name);
    let Some(group) = found.groups.iter().find(|one| *one.config.name == *group) else {
        return Err(unknown(&format!("`{game}` has no group"), group, "groups", groups()));
    };
    let Some(backend) = parts.next() else { return Ok(of(group).collect()) };
    let mut found = of(group).filter(|one| *one.backend.config.name == *backend);
    if let Some(found) = found.next() {
        return Ok(vec![found]);
    }
    let what = format!("`{game}/{}` has no backend", group.config.name);
    let backends = group.backends.iter().map(|one| &*one.config.name);
    Err(unknown(&what, backend, "backends", backends))
}

fn unknown<'a>(
    what: &str,
    name: &str,
    kind: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> String {
    if let Some(near) = nearest(name, known.clone()) {
        return format!("{what} `{name}`: did you mean `{near}`?");
    }
    let mut listed: Vec<String> =
        known.clone().take(LISTED).map(|one| format!("`{one}`")).collect();
    let more = known.count().saturating_sub(LISTED);
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    let form = "write GAME, GAME/GROUP or GAME/GROUP/BACKEND";
    format!("{what} `{name}`: the {kind} are {}; {form}", listed.join(", "))
}

/// What is told of backends that were named.
#[derive(Debug, Serialize, Deserialize)]
pub struct Told {
    /// Each of them.
    pub backends: Vec<TargetStatus>,
    /// What was wanted was not done wholly.
    pub problem: Option<String>,
    /// It was done, and may not be meant.
    pub warnings: Vec<String>,
}

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub struct TargetStatus {
    /// `GAME/GROUP/BACKEND`.
    pub name: String,
    /// What it was before what was asked for; not where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Text>,
    /// What the operator wants of it now.
    pub state: Text,
    /// `operator` or `file`.
    pub state_set_by: Text,
    /// Since when the operator does, in seconds since 1970.
    pub state_since: Option<u64>,
    /// What the drop-in says.
    pub state_in_file: Text,
    /// Who is still there.
    #[serde(flatten)]
    pub left: Left,
}

/// Who is still at a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Of the last five minutes; `null`: the group is not sticky.
    pub players: Option<u64>,
    /// In seconds since 1970: the process began to count them then, and the five
    /// minutes are not over; `null`: that is all of them.
    #[serde(default)]
    pub players_since: Option<u64>,
    /// Open WebSockets.
    pub tunnels: u64,
    /// Requests without an answer, or with one that is still on its way.
    pub in_flight: u64,
}

impl Left {
    /// Both of them.
    #[must_use]
    pub fn and(self, other: Left) -> Left {
        let players = match (self.players, other.players) {
            (None, None) => None,
            (one, two) => Some(one.unwrap_or_default() + two.unwrap_or_default()),
        };
        let tunnels = self.tunnels + other.tunnels;
        let players_since = self.players_since.max(other.players_since);
        Left { players, players_since, tunnels, in_flight: self.in_flight + other.in_flight }
    }

    /// This, and what an old process of an upgrade holds at the same backend: many
    /// of its players are here already.
    #[must_use]
    pub fn with_old(self, old: Left) -> Left {
        let players = self.players.map(|players| players.max(old.players.unwrap_or_default()));
        Left { players, ..self.and(Left { players: None, ..old }) }
    }

    /// Nobody; not as long as nobody knows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let players = self.players.unwrap_or_default();
        players + self.tunnels + self.in_flight == 0 && self.players_since.is_none()
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Left { players, players_since, tunnels, in_flight } = self;
        if let Some(players) = players {
            write!(f, "players of the last {} minutes {players}", WINDOW / 60)?;
            if let Some(since) = players_since {
                write!(f, " (counted only since {})", shown(*since))?;
            }
            f.write_str(", ")?;
        }
        write!(f, "WebSockets {tunnels}, requests in flight {in_flight}")
    }
}

impl fmt::Display for TargetStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TargetStatus { name, before, state, state_set_by, left, .. } = self;
        write!(f, "{name}: {state}")?;
        match before {
            Some(before) if before != state => write!(f, ", was {before}")?,
            Some(_) => write!(f, " as before")?,
            None => {}
        }
        if state_set_by == "file" {
            write!(f, " (as its file says)")?;
        }
        write!(f, ": {left}")
    }
}

/// What is told of this one.
pub(super) fn tell(found: Found<'_>, tally: &Tally) -> TargetStatus {
    let backend = found.backend;
    let order = backend.admin_order();
    let sticky = found.group.sticky.as_ref();
    TargetStatus {
        name: found.name(),
        before: None,
        state: backend.admin_state().name().into(),
        state_set_by: if order.is_some() { "operator".into() } else { "file".into() },
        state_since: order.map(|order| order.since),
        state_in_file: backend.config.state.name().into(),
        left: Left {
            players: sticky.map(|_| tally.players(backend) as u64),
            players_since: tally.players_since.filter(|_| sticky.is_some()),
            tunnels: backend.tunnels().into(),
            in_flight: tally.in_flight(backend).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_left_only_when_nobody_at_all_is() {
        let none = Left { players: Some(0), ..Left::default() };
        assert!(none.is_empty() && Left::default().is_empty());
        for left in [
            Left { players: Some(1), ..none },
            Left { tunnels: 1, ..none },
            Left { in_flight: 1, ..Left::default() },
        ] {
            assert!(!left.is_empty() && !none.and(left).is_empty(), "{left}");
        }
        // Nobody knows yet.
        let unknown = Left { players_since: Some(1_800_000_000), ..none };
        assert!(!unknown.is_empty() && !unknown.and(none).is_empty());
        assert_eq!(
            unknown.to_string(),
            "players of the last 5 minutes 0 (counted only since 2027-01-15T08:00:00Z), \
             WebSockets 0, requests in flight 0"
        );
        let old = Left { players: Some(3), tunnels: 1, ..Left::default() };
        assert!(!none.with_old(Left { tunnels: 0, ..old }).is_empty());
        let with = Left { players: Some(2), tunnels: 1, ..none }.with_old(old);
        assert_eq!((with.players, with.tunnels), (Some(3), 2));
        let both = Left { players: Some(2), tunnels: 3, in_flight: 4, ..none }.and(Left::default());
        assert_eq!(
            both.to_string(),
            "players of the last 5 minutes 2, WebSockets 3, requests in flight 4"
        );
        assert_eq!(Left::default().to_string(), "WebSockets 0, requests in flight 0");
    }

    #[test]
    fn the_nearest_is_named_or_some_are() {
        let known = ["my-game", "youxia", "youxib"];
        let says = |name| unknown("there is no game", name, "games", known.into_iter());
        assert_eq!(says("youxai"), "there is no game `youxai`: did you mean `youxia`?");
        assert_eq!(says("my-gmae"), "there is no game `my-gmae`: did you mean `my-game`?");
        let form = "write GAME, GAME/GROUP or GAME/GROUP/BACKEND";
        let all = "the games are `my-game`, `youxia`, `youxib`";
        assert_eq!(says("10.0.0.1:80"), format!("there is no game `10.0.0.1:80`: {all}; {form}"));
        let many: Vec<String> = (0..20).map(|n| format!("backend-{n}")).collect();
        let said = unknown("", "x", "backends", many.iter().map(String::as_str));
        assert!(said.contains("`backend-7`, and 12 more; "), "{said}");
    }
}
