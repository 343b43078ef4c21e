//! What of `/status.json` is there for people first: listeners with their rules,
//! why a backend is kept out and what failed there last, the last failed requests.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::changes::{called, leads_to};
use super::status::Text;
use super::times::unix;
use crate::config::{Action, Game, Listener, Protocol, Rule};
use crate::policy::sticky::Ejection;
use crate::state::{Backend, Group};

/// One `[[listener]]`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ListenerStatus {
    /// As a reload names it.
    name: String,
    domains: Vec<String>,
    /// It takes what no other domain of its ports takes.
    default: bool,
    ports: Vec<u16>,
    /// `http` or `https`.
    protocol: Text,
    http2: bool,
    /// `null`: all of the machine.
    address: Option<String>,
    /// In the order written.
    rules: Vec<RuleStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RuleStatus {
    path: String,
    /// `null`: it forwards to none.
    group: Option<String>,
    /// The group, or what is answered instead.
    to: String,
}

/// Passive health keeps a backend out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EjectionStatus {
    /// `unreachable` or `failing`.
    pub(super) why: Text,
    /// In seconds since 1970.
    pub(super) since: Option<u64>,
    /// For how much longer, in seconds; 0: the next request is its trial.
    pub(super) left: f64,
}

/// A request failed at a backend.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FailureStatus {
    /// In seconds since 1970.
    pub(super) at: u64,
    pub(super) cause: Text,
}

pub(super) fn listener(game: &Game, listener: &Listener) -> ListenerStatus {
    ListenerStatus {
        name: called(listener),
        domains: listener.domains.iter().map(ToString::to_string).collect(),
        default: listener.default,
        ports: listener.ports.clone(),
        protocol: match listener.protocol() {
            Protocol::Http => "http".into(),
            Protocol::Https => "https".into(),
        },
        http2: listener.http2,
        address: listener.address.map(|address| address.to_string()),
        rules: listener.rules.iter().map(|one| rule(game, one)).collect(),
    }
}

fn rule(game: &Game, rule: &Rule) -> RuleStatus {
    let to = leads_to(game, rule);
    let group = matches!(rule.action, Action::Forward(_)).then(|| to.clone());
    RuleStatus { path: rule.path.clone(), group, to }
}

/// As it is told everywhere.
pub(super) fn ejection_name(ejection: Ejection) -> &'static str {
    match ejection {
        Ejection::Unreachable => "unreachable",
        Ejection::Failing => "failing",
    }
}

impl EjectionStatus {
    pub(super) fn of(group: &Group, place: usize) -> Option<EjectionStatus> {
        let (why, left) = group.sentence(place)?;
        let since = group.backends.get(place)?.met().ejected.map(unix);
        Some(EjectionStatus { why: ejection_name(why).into(), since, left: left.as_secs_f64() })
    }
}

impl FailureStatus {
    pub(super) fn of(backend: &Backend) -> Option<FailureStatus> {
        let (at, cause) = backend.met().failure?;
        Some(FailureStatus { at: unix(at), cause: cause.into() })
    }

    /// One that nobody told of: an answer of 500 and up is the client's, too. When it
    /// was is known within ten seconds.
    pub(super) fn of_an_answer(at: u64) -> FailureStatus {
        FailureStatus { at, cause: "http_5xx".into() }
    }
}

/// What all workers told of their last failed requests, the newest first.
pub(super) fn newest(told: Vec<Vec<String>>, most: usize) -> Vec<Value> {
    let lines = told.into_iter().flatten();
    let mut lines: Vec<Value> = lines.filter_map(|line| serde_json::from_str(&line).ok()).collect();
    // RFC 3339 in UTC, all of one length: sorted as text is sorted by time.
    let time = |line: &Value| line.get("time").and_then(Value::as_str).map(str::to_owned);
    lines.sort_by_cached_key(|line| Reverse(time(line)));
    lines.truncate(most);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_all_workers_stand_in_one_order() {
        let line = |second: u8| format!(r#"{{"time":"2026-11-20T00:00:{second:02}.000Z"}}"#);
        let told = vec![vec![line(7), line(1)], vec![line(9), "no JSON".to_owned(), line(5)]];
        let newest = newest(told, 3);
        let times: Vec<&str> = newest.iter().map(|line| line["time"].as_str().unwrap()).collect();
        assert_eq!(times.iter().map(|time| &time[17..19]).collect::<Vec<_>>(), ["09", "07", "05"]);
    }
}
