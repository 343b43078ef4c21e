//! How backends and groups are, in a word: decided here for `/status.json`, and so
//! for `lockgate status`, `lockgate top` and the admin page.

use serde::{Deserialize, Serialize};

use super::failing::Failing;
use super::status::Text;
use super::status::games::{BackendStatus, GroupStatus, ProbeJson};

/// How much somebody is needed, the worst first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Bad,
    Warn,
    /// It was meant, or passes.
    Note,
    #[default]
    Good,
}

/// How a backend is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Condition {
    /// README lists them.
    pub(super) word: Text,
    pub(super) level: Level,
    /// Empty where the word says all.
    pub(super) why: String,
    /// In seconds since 1970.
    pub(super) since: Option<u64>,
    /// It takes requests of new clients.
    pub(super) serves: bool,
}

/// How a group is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupCondition {
    /// `2 of 3 serve`, `only backups serve`, `nobody serves`, `requests fail`.
    pub(super) word: Text,
    pub(super) level: Level,
    pub(super) why: String,
    pub(super) since: Option<u64>,
    /// How many of its backends do.
    pub(super) serving: usize,
}

impl Condition {
    fn new(word: &'static str, level: Level, why: impl Into<String>) -> Condition {
        let (why, since, serves) = (why.into(), None, level == Level::Good);
        Condition { word: word.into(), level, why, since, serves }
    }

    fn since(self, since: impl Into<Option<u64>>) -> Condition {
        Condition { since: since.into(), ..self }
    }

    /// By what the rest of its status says.
    pub(super) fn of(backend: &BackendStatus) -> Condition {
        if backend.state != "ready" {
            return set_aside(backend);
        }
        let probe = backend.probe.as_ref();
        let found = probe.map(found).unwrap_or_default();
        if !backend.resolved {
            return Condition::new("no address", Level::Bad, "its name does not resolve: dns");
        }
        match probe {
            Some(probe) if probe.up == Some(false) => {
                let found = if found.is_empty() { "no good one yet".to_owned() } else { found };
                let why = format!("probes: {found}");
                return Condition::new("down", Level::Bad, why).since(probe.since);
            }
            Some(probe) if probe.waits => {
                let last = if found.is_empty() { found } else { format!("; the last: {found}") };
                let why = format!("for its first probes{last}");
                return Condition::new("waiting", Level::Note, why).since(probe.since);
            }
            _ => {}
        }
        if let Some(ejected) = ejected(backend) {
            return ejected;
        }
        if backend.weight == 0 {
            return Condition::new("weight 0", Level::Note, "as its file says");
        }
        if let Some(failing) = &backend.failing {
            let last = backend.last_failure.as_ref();
            let last = last.map(|last| format!(", the last by {}", last.cause));
            let why = failing.told("attempts") + &last.unwrap_or_default();
            let condition = Condition::new("failing", Level::Bad, why).since(failing.since);
            return Condition { serves: true, ..condition };
        }
        match probe {
            None => Condition::new("not probed", Level::Good, ""),
            Some(probe) if probe.up == Some(true) => {
                Condition::new("up", Level::Good, "").since(probe.since)
            }
            Some(_) => Condition::new("unproven", Level::Good, "serves until its first verdict"),
        }
    }
}

/// The operator or its file wants it.
fn set_aside(backend: &BackendStatus) -> Condition {
    let word = if backend.state == "drain" { "drain" } else { "maint" };
    let by = match &*backend.state_set_by {
        "operator" => "set by the operator",
        _ => "as its file says",
    };
    let is_down = backend.probe.as_ref().is_some_and(|probe| probe.up == Some(false));
    let down = if is_down { "; its probes find it down" } else { "" };
    let counts = [
        (backend.players.unwrap_or_default() as u64, "player"),
        (backend.tunnels.into(), "WebSocket"),
        (backend.in_flight.into(), "request"),
    ];
    let left = counts.into_iter().filter(|(count, _)| *count > 0);
    let left: Vec<String> = left
        .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
        .collect();
    let left = if left.is_empty() { "nobody".to_owned() } else { left.join(", ") };
    let why = format!("{by}{down}; {left} left");
    Condition::new(word, Level::Note, why).since(backend.state_since)
}

/// What its last probe found, if that was bad.
fn found(probe: &ProbeJson) -> String {
    let Some(last) = probe.last.as_ref().filter(|last| !last.good) else { return String::new() };
    let status = last.status.map(|status| status.to_string());
    let what = status.or_else(|| last.cause.as_deref().map(str::to_owned));
    let parts = [what, last.detail.clone().filter(|detail| !detail.is_empty())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

fn ejected(backend: &BackendStatus) -> Option<Condition> {
    let ejection = backend.ejection.as_ref()?;
    let is_unreachable = ejection.why == "unreachable";
    let mut why =
        if is_unreachable { "cannot be connected to" } else { "its requests fail" }.to_owned();
    if let Some(last) = &backend.last_failure {
        why = format!("{why}: {}", last.cause);
    }
    let condition = if ejection.left > 0.0 {
        let level = if is_unreachable { Level::Bad } else { Level::Warn };
        Condition::new("ejected", level, why)
    } else {
        let why = format!("{why}; the next request decides");
        Condition { serves: true, ..Condition::new("on trial", Level::Warn, why) }
    };
    Some(condition.since(ejection.since))
}

impl Failing {
    fn told(&self, what: &str) -> String {
        let Failing { all, failed, .. } = self;
        format!("{failed} of {all} {what} of the last minute failed or got a 5xx")
    }
}

impl GroupCondition {
    /// By its backends' and by what became of its requests.
    pub(super) fn of(group: &GroupStatus) -> GroupCondition {
        let backends = &group.backends;
        let serving = backends.iter().filter(|one| one.condition.serves).count();
        let is_out = |one: &BackendStatus| one.condition.word == "ejected";
        let primary = |one: &BackendStatus| !one.backup;
        let only_backups = backends.iter().any(primary)
            && !backends.iter().any(|one| primary(one) && one.condition.serves);
        let worst = backends.iter().map(|one| one.condition.level).min().unwrap_or_default();
        let (word, level, why): (Text, _, _) = if serving == 0 {
            let why = if backends.iter().any(is_out) { "until an ejection ends" } else { "" };
            // That all are set aside was meant, most probably.
            let is_meant = backends.iter().all(|one| one.condition.level == Level::Note);
            let level = if is_meant { Level::Warn } else { Level::Bad };
            ("nobody serves".into(), level, why.to_owned())
        } else if let Some(failing) = &group.failing {
            ("requests fail".into(), Level::Bad, failing.told("requests"))
        } else if only_backups {
            ("only backups serve".into(), Level::Bad, String::new())
        } else {
            (format!("{serving} of {} serve", backends.len()).into(), worst, String::new())
        };
        let since = group.failing.filter(|_| serving > 0).map(|failing| failing.since);
        GroupCondition { word, level, why, since, serving }
    }
}

#[cfg(test)]
#[path = "condition/tests.rs"]
mod tests;
