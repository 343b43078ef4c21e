//! `/status.json`: what runs, as the operator's tools read it.

mod table;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::changes::protocol;
use super::counted::{AttemptCounts, RequestCounts};
use super::expiry::{CertificateStatus, certificates};
use super::history::{ReloadStatus, Reloads};
use super::overview::{
    EjectionStatus, FailureStatus, ListenerStatus, ejection_name, listener, newest,
};
use super::tally::Tally;
use super::targets::Left;
use super::trouble::{FileTrouble, Troubles};
use crate::policy::sticky::Reject;
use crate::proxy::{Holding, Message, Shared};
use crate::state::{Backend, Game, Group, ProbeResult, ProbeStatus, Snapshot, StickyMode};

/// A worker answers between two requests; one that does not is left out.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many of the last failed requests are told.
const RECENT: usize = 50;

/// Asks the workers.
#[derive(Debug)]
pub(super) struct Asker {
    shared: Arc<Shared>,
    workers: Rc<[mpsc::UnboundedSender<Message>]>,
    troubles: Troubles,
    reloads: Reloads,
    started: SystemTime,
    handed_over: Cell<Option<SystemTime>>,
}

/// A word of ours, or one that was read.
pub(super) type Text = Cow<'static, str>;

/// The document.
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    version: Text,
    pid: u32,
    /// When this was told, in milliseconds since 1970.
    #[serde(default)]
    now: u64,
    /// When the process began to serve, likewise; with another one all counters
    /// began anew.
    #[serde(default)]
    started: u64,
    generation: u64,
    /// Of clients.
    connections: usize,
    /// Open WebSockets, those of games and backends that are gone too.
    #[serde(default)]
    tunnels: usize,
    /// Since when a new process serves and this one only finishes what it holds,
    /// in seconds since 1970; `null`: this one serves.
    handed_over: Option<u64>,
    /// What a process that ends still holds, by game, the oldest first.
    #[serde(default)]
    held: Vec<HeldStatus>,
    /// Files that are not taken as they are written.
    refused: Vec<FileTrouble>,
    games: Vec<GameStatus>,
    certificates: Vec<CertificateStatus>,
    /// Those that asked for no game of ours.
    #[serde(default)]
    requests: RequestCounts,
    sticky_cookies: StickyCookies,
    /// Lines of the access log that could not be written.
    #[serde(default)]
    access_log_lost: u64,
    /// What reloads did, the newest first.
    #[serde(default)]
    reloads: Vec<ReloadStatus>,
    /// The last requests that failed or were retried, and not by the client's own
    /// fault, the newest first, each as `why` knows it.
    #[serde(default)]
    recent: Vec<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct HeldStatus {
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
struct GameStatus {
    name: String,
    #[serde(default)]
    listeners: Vec<ListenerStatus>,
    groups: Vec<GroupStatus>,
    /// Those that no group was asked for: redirects, own responses, refusals.
    #[serde(default)]
    requests: RequestCounts,
}

#[derive(Debug, Serialize, Deserialize)]
struct GroupStatus {
    name: String,
    /// `http`, `https` or `h2c`.
    #[serde(default)]
    protocol: Text,
    #[serde(default)]
    balance: Text,
    /// `null`: the group is not sticky.
    sticky: Option<StickyStatus>,
    #[serde(default)]
    requests: RequestCounts,
    backends: Vec<BackendStatus>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StickyStatus {
    mode: Text,
    cookie: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct BackendStatus {
    name: String,
    address: String,
    weight: u32,
    backup: bool,
    state: Text,
    /// Whose word that is: `operator` or `file`.
    state_set_by: Text,
    /// Since when it is the operator's, in seconds since 1970.
    state_since: Option<u64>,
    /// Why passive health keeps it out: `unreachable`, `failing`; `null`: it does
    /// not.
    ejected: Option<Text>,
    /// The same with more, and until a trial went well.
    #[serde(default)]
    ejection: Option<EjectionStatus>,
    /// The last request that failed there; `null`: none did.
    #[serde(default)]
    last_failure: Option<FailureStatus>,
    /// `null`: the group has no `probe`.
    probe: Option<ProbeJson>,
    /// Of the last five minutes; `null`: the group is not sticky.
    players: Option<usize>,
    /// Open WebSockets.
    tunnels: u32,
    /// Requests without an answer, or with one that is still on its way; WebSockets
    /// are not among them.
    #[serde(default)]
    in_flight: u32,
    #[serde(default)]
    attempts: AttemptCounts,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProbeJson {
    /// `null`: no verdict yet.
    up: Option<bool>,
    /// Seconds since 1970.
    since: u64,
    /// It takes no requests until its first verdict: it was added to others.
    #[serde(default)]
    waits: bool,
    good_in_a_row: u32,
    bad_in_a_row: u32,
    last: Option<LastProbe>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LastProbe {
    /// Seconds since 1970.
    at: u64,
    milliseconds: f64,
    good: bool,
    status: Option<u16>,
    cause: Option<Text>,
    detail: Option<String>,
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

    /// What this process, which handed over, still holds at a backend: its
    /// players are those of the process that serves.
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
            players: None,
            tunnels: one.tunnels.into(),
            in_flight: one.in_flight.into(),
        })
    }

    /// About a process that handed over: a line, and one for each game that it
    /// still serves.
    #[must_use]
    pub fn of_old_process(&self) -> String {
        let since = self.handed_over.unwrap_or_default();
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(since);
        let mut lines = format!(
            "old process {}: connections {}, WebSockets {}, handed over {}",
            self.pid,
            self.connections,
            self.tunnels,
            httpdate::fmt_http_date(since)
        );
        for held in &self.held {
            lines.push_str(&format!("\n{held}"));
        }
        lines
    }
}

impl Asker {
    pub(super) fn new(
        shared: &Arc<Shared>,
        workers: Vec<mpsc::UnboundedSender<Message>>,
        troubles: &Troubles,
        reloads: &Reloads,
    ) -> Asker {
        Asker {
            shared: Arc::clone(shared),
            workers: workers.into(),
            troubles: Rc::clone(troubles),
            reloads: reloads.clone(),
            started: SystemTime::now(),
            handed_over: Cell::default(),
        }
    }

    /// What requests are served by.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Those that are asked.
    pub(super) fn workers(&self) -> &[mpsc::UnboundedSender<Message>] {
        &self.workers
    }

    /// A new process serves.
    pub(super) fn is_handed_over(&self) -> bool {
        self.handed_over.get().is_some()
    }

    /// A new process serves from now on.
    pub(super) fn hand_over(&self) {
        self.handed_over.set(Some(SystemTime::now()));
    }

    /// A new process serves.
    pub(super) fn has_handed_over(&self) -> bool {
        self.handed_over.get().is_some()
    }

    /// The current snapshot.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.live.load()
    }

    /// What the workers know, and the snapshot it is of.
    pub(super) async fn tally(&self) -> (Arc<Snapshot>, Tally) {
        // First: what it has stays what it is while the workers answer.
        let snapshot = self.snapshot();
        let mut tally = Tally::default();
        self.ask(Message::Census).await.into_iter().for_each(|census| tally.add(census));
        (snapshot, tally)
    }

    /// The document as JSON, for people too.
    pub(super) async fn json(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string_pretty(&self.document().await).unwrap_or_default()
    }

    /// The same without blanks: half as long.
    pub(super) async fn compact(&self) -> String {
        serde_json::to_string(&self.document().await).unwrap_or_default()
    }

    async fn document(&self) -> Status {
        let (snapshot, tally) = self.tally().await;
        let mut status = status(&snapshot, &tally);
        status.now = unix_millis(SystemTime::now());
        status.started = unix_millis(self.started);
        status.connections = self.shared.connections.load(Ordering::Relaxed);
        status.tunnels = self.shared.tunnels.load(Ordering::Relaxed);
        status.held = oldest_first(tally.held);
        status.refused.clone_from(&self.troubles.borrow());
        status.access_log_lost = self.shared.access.lost();
        status.handed_over = self.handed_over.get().map(unix);
        status.reloads = self.reloads.told();
        status.recent = newest(self.ask(|reply| Message::Newest(RECENT, reply)).await, RECENT);
        status
    }

    /// The names of the files that are not taken as they are written.
    pub(super) fn refused(&self) -> BTreeSet<String> {
        let name = |trouble: &FileTrouble| {
            let name = Path::new(&trouble.file).file_name()?;
            Some(name.to_string_lossy().into_owned())
        };
        self.troubles.borrow().iter().filter_map(name).collect()
    }

    /// What was told of the request of this id, by the worker that had it.
    pub(super) async fn recall(&self, id: &str) -> Option<String> {
        let id: Arc<str> = id.into();
        for worker in self.workers.iter() {
            let (reply, answer) = oneshot::channel();
            let _ = worker.send(Message::Recall(Arc::clone(&id), reply));
            let told = timeout(PATIENCE, answer).await.ok().and_then(Result::ok).flatten();
            if told.is_some() {
                return told;
            }
        }
        None
    }

    /// All workers at once.
    async fn ask<T>(&self, what: impl Fn(oneshot::Sender<T>) -> Message) -> Vec<T> {
        let asked: Vec<_> = self
            .workers
            .iter()
            .filter_map(|worker| {
                let (reply, answer) = oneshot::channel();
                worker.send(what(reply)).ok().map(|()| answer)
            })
            .collect();
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.extend(timeout(PATIENCE, answer).await.ok().and_then(Result::ok));
        }
        answers
    }
}

fn oldest_first(held: HashMap<Option<Arc<str>>, Holding>) -> Vec<HeldStatus> {
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

fn status(snapshot: &Snapshot, tally: &Tally) -> Status {
    let game = |game: &Arc<Game>| GameStatus {
        name: game.config.name.to_string(),
        listeners: game.config.listeners.iter().map(|one| listener(&game.config, one)).collect(),
        groups: game.groups.iter().map(|group| group_status(group, tally)).collect(),
        requests: RequestCounts::from(&game.requests.sum()),
    };
    let games = snapshot.games.iter().map(game).collect();
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

fn group_status(group: &Group, tally: &Tally) -> GroupStatus {
    let sticky = group.sticky.as_ref();
    let backend = |(place, backend): (usize, &Backend)| BackendStatus {
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
        last_failure: FailureStatus::of(backend),
        probe: group.config.probe.is_some().then(|| probe_json(backend.probe_status())),
        players: sticky.map(|_| tally.players(backend)),
        tunnels: backend.tunnels(),
        in_flight: tally.in_flight(backend),
        attempts: AttemptCounts::from(&backend.attempts().sum()),
    };
    GroupStatus {
        name: group.config.name.to_string(),
        protocol: protocol(&group.config).into(),
        balance: group.config.balance.name().into(),
        sticky: sticky.map(|sticky| StickyStatus {
            mode: match sticky.mode {
                StickyMode::Insert { .. } => "insert".into(),
                StickyMode::Rewrite => "rewrite".into(),
            },
            cookie: sticky.name.clone(),
        }),
        requests: RequestCounts::from(&group.requests.sum()),
        backends: group.backends.iter().enumerate().map(backend).collect(),
    }
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

fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
