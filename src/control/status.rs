//! `/status.json`: what runs, as the operator's tools read it.

pub(super) mod games;
mod table;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use self::games::GameStatus;
use super::counted::RequestCounts;
use super::expiry::{CertificateStatus, certificates};
use super::failing::Failures;
use super::history::ReloadStatus;
use super::tally::Tally;
use super::targets::Left;
use super::times::shown;
use super::trouble::FileTrouble;
use crate::policy::sticky::Reject;
use crate::proxy::Holding;
use crate::state::Snapshot;

/// A word of ours, or one that was read.
pub(super) type Text = Cow<'static, str>;

/// The document.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    version: Text,
    pid: u32,
    /// When this was told, in milliseconds since 1970.
    #[serde(default)]
    pub(super) now: u64,
    /// When the process began to serve, likewise; with another one all counters
    /// began anew.
    #[serde(default)]
    pub(super) started: u64,
    generation: u64,
    /// Of clients.
    pub(super) connections: usize,
    /// Open WebSockets, those of games and backends that are gone too.
    #[serde(default)]
    pub(super) tunnels: usize,
    /// Since when a new process serves and this one only finishes what it holds,
    /// in seconds since 1970; `null`: this one serves.
    pub(super) handed_over: Option<u64>,
    /// What a process that ends still holds, by game, the oldest first.
    #[serde(default)]
    pub(super) held: Vec<HeldStatus>,
    /// Files that are not taken as they are written.
    pub(super) refused: Vec<FileTrouble>,
    games: Vec<GameStatus>,
    certificates: Vec<CertificateStatus>,
    /// Those that asked for no game of ours.
    #[serde(default)]
    requests: RequestCounts,
    sticky_cookies: StickyCookies,
    /// Lines of the access log that could not be written.
    #[serde(default)]
    pub(super) access_log_lost: u64,
    /// What reloads did, the newest first.
    #[serde(default)]
    pub(super) reloads: Vec<ReloadStatus>,
    /// The last requests that failed or were retried, and not by the client's own
    /// fault, the newest first, each as `why` knows it.
    #[serde(default)]
    pub(super) recent: Vec<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HeldStatus {
    /// `null`: connections that have asked for nothing yet.
    game: Option<String>,
    /// Clients whose last request was for it.
    connections: usize,
    /// Those of them with a request under way.
    requests: usize,
    /// Open WebSockets.
    tunnels: usize,
    /// The age of the oldest connection, in seconds.
    oldest: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct StickyCookies {
    absent: u64,
    good: u64,
    rejected: HashMap<Text, u64>,
}

impl Status {
    /// What is not served as it is written, a line each.
    pub fn refused(&self) -> impl Iterator<Item = String> {
        self.refused.iter().map(FileTrouble::in_a_line)
    }

    /// What this process, which handed over, still holds at a backend, and which
    /// players it met there.
    #[must_use]
    pub fn held_at(&self, name: &str) -> Left {
        let mut parts = name.splitn(3, '/');
        let mut next = || parts.next().unwrap_or_default();
        let (game, group, backend) = (next(), next(), next());
        let games = self.games.iter().filter(|one| one.name == game);
        let mut groups = games.flat_map(|game| &game.groups).filter(|one| one.name == group);
        let backend =
            groups.find_map(|group| group.backends.iter().find(|one| one.name == backend));
        backend.map_or_else(Left::default, |one| Left {
            players: one.players.map(|players| players as u64),
            players_since: None,
            tunnels: one.tunnels.into(),
            in_flight: one.in_flight.into(),
        })
    }

    /// About a process that handed over: a line, and one for each game that it
    /// still serves.
    #[must_use]
    pub fn of_old_process(&self) -> String {
        let since = shown(self.handed_over.unwrap_or_default());
        let mut lines = format!(
            "old process {}: connections {}, WebSockets {}, handed over {}",
            self.pid, self.connections, self.tunnels, since
        );
        for held in &self.held {
            lines.push_str(&format!("\n{held}"));
        }
        lines
    }
}

/// What is held, as it is told.
pub(super) fn oldest_first(held: HashMap<Option<Arc<str>>, Holding>) -> Vec<HeldStatus> {
    let mut held: Vec<_> = held.into_iter().collect();
    held.sort_by(|(game, one), (other_game, other)| {
        other.oldest.cmp(&one.oldest).then_with(|| game.cmp(other_game))
    });
    let written = |(game, holding): (Option<Arc<str>>, Holding)| HeldStatus {
        game: game.map(|game| game.to_string()),
        connections: holding.connections,
        requests: holding.requests,
        tunnels: holding.tunnels,
        oldest: holding.oldest.as_secs(),
    };
    held.into_iter().map(written).collect()
}

/// What the snapshot and the workers tell; the rest is the asker's.
pub(super) fn status(snapshot: &Snapshot, tally: &Tally, failures: &Failures) -> Status {
    let games = snapshot.games.iter().map(|game| GameStatus::of(game, tally, failures)).collect();
    let rejected = Reject::ALL.iter().zip(tally.cookies.rejected);
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        now: 0,
        started: 0,
        generation: snapshot.generation,
        connections: 0,
        tunnels: 0,
        handed_over: None,
        held: Vec::new(),
        refused: Vec::new(),
        games,
        certificates: certificates(snapshot, OffsetDateTime::now_utc()),
        requests: RequestCounts::from(&snapshot.requests.sum()),
        access_log_lost: 0,
        sticky_cookies: StickyCookies {
            absent: tally.cookies.absent,
            good: tally.cookies.good,
            rejected: rejected.map(|(reject, count)| (reject.name().into(), count)).collect(),
        },
        reloads: Vec::new(),
        recent: Vec::new(),
    }
}
