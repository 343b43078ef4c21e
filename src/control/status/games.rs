//! Games, groups and backends in `/status.json`.

use serde::{Deserialize, Serialize};

use super::Text;
use crate::control::changes::protocol;
use crate::control::condition::{Condition, GroupCondition};
use crate::control::counted::{AttemptCounts, RequestCounts};
use crate::control::failing::{Failing, Failures};
use crate::control::overview::{
    EjectionStatus, FailureStatus, ListenerStatus, ejection_name, listener,
};
use crate::control::tally::Tally;
use crate::control::times::unix;
use crate::state::{Backend, Game, Group, ProbeResult, ProbeStatus, StickyMode};

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::control) struct GameStatus {
    pub(in crate::control) name: String,
    #[serde(default)]
    pub(in crate::control) listeners: Vec<ListenerStatus>,
    pub(in crate::control) groups: Vec<GroupStatus>,
    /// Those that no group was asked for: redirects, own responses, refusals.
    #[serde(default)]
    pub(in crate::control) requests: RequestCounts,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::control) struct GroupStatus {
    pub(in crate::control) name: String,
    /// `http`, `https` or `h2c`.
    #[serde(default)]
    pub(in crate::control) protocol: Text,
    #[serde(default)]
    pub(in crate::control) balance: Text,
    /// `null`: the group is not sticky.
    pub(in crate::control) sticky: Option<StickyStatus>,
    #[serde(default)]
    pub(in crate::control) requests: RequestCounts,
    /// `null`: less than half of them did in the last minute.
    #[serde(default)]
    pub(in crate::control) failing: Option<Failing>,
    /// How it is as a whole.
    #[serde(default)]
    pub(in crate::control) condition: GroupCondition,
    pub(in crate::control) backends: Vec<BackendStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::control) struct StickyStatus {
    pub(in crate::control) mode: Text,
    pub(in crate::control) cookie: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::control) struct BackendStatus {
    pub(in crate::control) name: String,
    pub(in crate::control) address: String,
    pub(in crate::control) weight: u32,
    pub(in crate::control) backup: bool,
    pub(in crate::control) state: Text,
    /// Whose word that is: `operator` or `file`.
    pub(in crate::control) state_set_by: Text,
    /// Since when it is the operator's, in seconds since 1970.
    pub(in crate::control) state_since: Option<u64>,
    /// Why passive health keeps it out: `unreachable`, `failing`; `null`: it does
    /// not.
    pub(in crate::control) ejected: Option<Text>,
    /// The same with more, and until a trial went well.
    #[serde(default)]
    pub(in crate::control) ejection: Option<EjectionStatus>,
    /// The last request that failed there; `null`: none did.
    #[serde(default)]
    pub(in crate::control) last_failure: Option<FailureStatus>,
    /// `null`: the group has no `probe`.
    pub(in crate::control) probe: Option<ProbeJson>,
    /// Of the last five minutes; `null`: the group is not sticky.
    pub(in crate::control) players: Option<usize>,
    /// Open WebSockets.
    pub(in crate::control) tunnels: u32,
    /// Requests without an answer, or with one that is still on its way; WebSockets
    /// are not among them.
    #[serde(default)]
    pub(in crate::control) in_flight: u32,
    #[serde(default)]
    pub(in crate::control) attempts: AttemptCounts,
    /// Its address is one, or its name has some.
    #[serde(default)]
    pub(in crate::control) resolved: bool,
    /// `null`: less than half of the attempts did in the last minute.
    #[serde(default)]
    pub(in crate::control) failing: Option<Failing>,
    /// How it is as a whole.
    #[serde(default)]
    pub(in crate::control) condition: Condition,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::control) struct ProbeJson {
    /// `null`: no verdict yet.
    pub(in crate::control) up: Option<bool>,
    /// Seconds since 1970.
    pub(in crate::control) since: u64,
    /// It takes no requests until its first verdict: it was added to others.
    #[serde(default)]
    pub(in crate::control) waits: bool,
    pub(in crate::control) good_in_a_row: u32,
    pub(in crate::control) bad_in_a_row: u32,
    pub(in crate::control) last: Option<LastProbe>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::control) struct LastProbe {
    /// Seconds since 1970.
    pub(in crate::control) at: u64,
    milliseconds: f64,
    pub(in crate::control) good: bool,
    pub(in crate::control) status: Option<u16>,
    pub(in crate::control) cause: Option<Text>,
    pub(in crate::control) detail: Option<String>,
}

impl GameStatus {
    pub(in crate::control) fn of(game: &Game, tally: &Tally, failures: &Failures) -> GameStatus {
        let config = &game.config;
        GameStatus {
            name: config.name.to_string(),
            listeners: config.listeners.iter().map(|one| listener(config, one)).collect(),
            groups: game.groups.iter().map(|one| group_status(one, tally, failures)).collect(),
            requests: RequestCounts::from(&game.requests.sum()),
        }
    }
}

fn group_status(group: &Group, tally: &Tally, failures: &Failures) -> GroupStatus {
    let backend = |place| backend_status(group, place, tally, failures);
    let mut status = GroupStatus {
        name: group.config.name.to_string(),
        protocol: protocol(&group.config).into(),
        balance: group.config.balance.name().into(),
        sticky: group.sticky.as_ref().map(|sticky| StickyStatus {
            mode: match sticky.mode {
                StickyMode::Insert { .. } => "insert".into(),
                StickyMode::Rewrite => "rewrite".into(),
            },
            cookie: sticky.name.clone(),
        }),
        requests: RequestCounts::from(&group.requests.sum()),
        failing: failures.of_group(group),
        condition: GroupCondition::default(),
        backends: group.backends.iter().enumerate().map(backend).collect(),
    };
    status.condition = GroupCondition::of(&status);
    status
}

fn backend_status(
    group: &Group,
    (place, backend): (usize, &Backend),
    tally: &Tally,
    failures: &Failures,
) -> BackendStatus {
    let told = FailureStatus::of(backend);
    let (failing, last) = failures.of_backend(backend, told.as_ref().map(|told| told.at));
    let mut status = BackendStatus {
        name: backend.config.name.to_string(),
        address: backend.config.address.to_string(),
        weight: backend.config.weight,
        backup: backend.config.backup,
        state: backend.admin_state().name().into(),
        state_set_by: if backend.admin_order().is_some() { "operator" } else { "file" }.into(),
        state_since: backend.admin_order().map(|order| order.since),
        ejected: group
            .standing(place)
            .and_then(|standing| standing.ejected)
            .map(|why| ejection_name(why).into()),
        ejection: EjectionStatus::of(group, place),
        last_failure: last.map(FailureStatus::of_an_answer).or(told),
        probe: group.config.probe.is_some().then(|| probe_json(backend.probe_status())),
        players: group.sticky.as_ref().map(|_| tally.players(backend)),
        tunnels: backend.tunnels(),
        in_flight: tally.in_flight(backend),
        attempts: AttemptCounts::from(&backend.attempts().sum()),
        resolved: backend.is_resolved(),
        failing,
        condition: Condition::default(),
    };
    status.condition = Condition::of(&status);
    status
}

fn probe_json(status: ProbeStatus) -> ProbeJson {
    let last = |last: ProbeResult| {
        let (cause, detail) = last.fault.unzip();
        LastProbe {
            at: unix(last.at),
            milliseconds: last.took.as_secs_f64() * 1000.0,
            good: last.good,
            status: last.status,
            cause: cause.map(Text::from),
            detail,
        }
    };
    ProbeJson {
        up: status.up,
        waits: status.waits,
        since: unix(status.since),
        good_in_a_row: status.good,
        bad_in_a_row: status.bad,
        last: status.last.map(last),
    }
}
