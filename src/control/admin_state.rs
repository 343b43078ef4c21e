//! What the operator wants of backends at run time: `lockgate drain`, `maint` and
//! `ready`. It stands before what the drop-ins say, and is kept in the state
//! directory by the names of game, group and backend: a reload, a restart or an
//! upgrade changes nothing of it, nor does a backend that is gone for a while.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::admin::Status;
use super::commands::{Command, decoded, escaped, not_done, order};
use super::draft;
use super::targets::{self, Found, Told};
use crate::config::AdminState;
use crate::state::{AdminOrder, Backend, Group, Snapshot};

/// Of the file's form; another one is not read.
const VERSION: u32 = 1;

/// What is to become of backends; `None`: what their drop-ins say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The state.
    pub to: Option<AdminState>,
    /// As the operator names them.
    pub targets: Vec<String>,
}

/// What became of a wish.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// Names of backends, and what each was before.
    pub(super) before: Vec<(String, AdminState)>,
    /// It could not be written down.
    pub(super) problem: Option<String>,
    /// What may not be meant.
    pub(super) warnings: Vec<String>,
}

/// What is told where a part of the workers did not answer.
const PART: &str = "a worker did not answer in time: there may be more than is told";

/// How it is asked for: `AS_WRITTEN` or the name of a state.
const AS_WRITTEN: &str = "as-written";

impl Wish {
    /// As the admin socket is asked for it.
    #[must_use]
    pub fn target(&self) -> String {
        let to = self.to.map_or(AS_WRITTEN, AdminState::name);
        format!("/state?to={to}&{}", query_of(&self.targets))
    }

    fn parse(query: &str) -> Option<Wish> {
        let to = query.split('&').find_map(|one| one.strip_prefix("to="))?;
        let states = [AdminState::Ready, AdminState::Drain, AdminState::Maint];
        let to = match states.into_iter().find(|state| state.name() == to) {
            None if to != AS_WRITTEN => return None,
            to => to,
        };
        Some(Wish { to, targets: targets_of(query) })
    }
}

/// How the admin socket is asked about these.
#[must_use]
pub fn query_of(targets: &[String]) -> String {
    let target = |one: &String| format!("target={}", escaped(Path::new(one)));
    targets.iter().map(target).collect::<Vec<_>>().join("&")
}

fn targets_of(query: &str) -> Vec<String> {
    let written = query.split('&').filter_map(|one| one.strip_prefix("target="));
    written.map(|one| String::from_utf8_lossy(&decoded(one.as_bytes())).into_owned()).collect()
}

/// Answers on the admin socket: `GET` tells, `POST` does.
pub(super) async fn answer(
    request: &Request<Incoming>,
    commander: &mpsc::Sender<Command>,
    status: &Status,
) -> (StatusCode, Vec<u8>) {
    let query = request.uri().query().unwrap_or_default();
    let Some(asker) = status.asker.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, b"not ready\n".to_vec());
    };
    let told = if *request.method() == Method::POST {
        let Some(wish) = Wish::parse(query) else {
            let text = b"400 write /state?to=STATE&target=GAME/GROUP/BACKEND\n";
            return (StatusCode::BAD_REQUEST, text.to_vec());
        };
        let done = match order(commander, |reply| Command::SetState(wish, reply)).await {
            Some(Ok(done)) => done,
            Some(Err(why)) => return (StatusCode::NOT_FOUND, why.into_bytes()),
            None => return not_done(status),
        };
        let (problem, warnings) = (done.problem, done.warnings);
        let mut told = Told { backends: Vec::new(), problem, warnings };
        let (snapshot, tally) = asker.tally().await;
        if !tally.is_whole() {
            told.warnings.push(PART.to_owned());
        }
        for (name, before) in &done.before {
            // One that a reload took away meanwhile is not told of.
            for found in targets::find_one(&snapshot, name).unwrap_or_default() {
                let mut one = targets::tell(found, &tally);
                one.before = Some(before.name().into());
                told.backends.push(one);
            }
        }
        told
    } else {
        let (snapshot, tally) = asker.tally().await;
        if !tally.is_whole() {
            // Who is waited for must not look gone.
            return (StatusCode::SERVICE_UNAVAILABLE, PART.into());
        }
        match targets::find(&snapshot, &targets_of(query)) {
            Ok(found) => Told {
                backends: found.into_iter().map(|one| targets::tell(one, &tally)).collect(),
                problem: None,
                warnings: Vec::new(),
            },
            Err(wrong) => return (StatusCode::NOT_FOUND, wrong.join("\n").into_bytes()),
        }
    };
    (StatusCode::OK, serde_json::to_vec_pretty(&told).unwrap_or_default())
}

/// By game, group and backend.
type Orders = BTreeMap<String, BTreeMap<String, BTreeMap<String, AdminOrder>>>;

/// See the module.
#[derive(Debug)]
pub(super) struct AdminStates {
    file: PathBuf,
    orders: Orders,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    backends: Vec<KeptOrder>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptOrder {
    game: String,
    group: String,
    backend: String,
    state: KeptState,
    /// Seconds since 1970.
    since: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptState {
    Ready,
    Drain,
    Maint,
}

impl AdminStates {
    /// What is kept. A file that cannot be used is as if absent, which is said in
    /// the log: nobody's game waits for it.
    pub(super) fn load(state_dir: &Path) -> AdminStates {
        let (states, problem) = AdminStates::read(state_dir);
        if let Some(problem) = problem {
            error!("{problem}");
        }
        states
    }

    /// The same, and why the file cannot be used.
    pub(super) fn read(state_dir: &Path) -> (AdminStates, Option<String>) {
        let file = state_dir.join("admin-state.json");
        let orders = match fs::read(&file) {
            Ok(text) => parse(&text),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Orders::new()),
            Err(error) => Err(error.to_string()),
        };
        let (orders, problem) = match orders {
            Ok(orders) => (orders, None),
            Err(why) => {
                let file = file.display();
                let problem = format!(
                    "`{file}` cannot be used: {why}: what `lockgate drain`, `maint` and `ready` \
                     said is lost, and the drop-ins' `state` holds"
                );
                (Orders::new(), Some(problem))
            }
        };
        (AdminStates { file, orders }, problem)
    }

    /// Where they are kept.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Something is kept of backends of the group.
    pub(super) fn has(&self, game: &str, group: &str) -> bool {
        self.orders.get(game).is_some_and(|groups| groups.contains_key(group))
    }

    /// Tells the backends of a snapshot, before it serves.
    pub(super) fn apply(&self, snapshot: &Snapshot) {
        if self.orders.is_empty() {
            return;
        }
        let games = snapshot.games.iter().filter_map(|game| {
            let orders = self.orders.get(&*game.config.name)?;
            Some(game.groups.iter().map(move |group| (group, orders.get(&*group.config.name))))
        });
        for (group, orders) in games.flatten() {
            for backend in &group.backends {
                backend.order(orders.and_then(|orders| orders.get(&*backend.config.name)).copied());
            }
        }
    }

    /// Does it, all of it or nothing, and writes it down.
    ///
    /// # Errors
    /// A target means nothing.
    pub(super) async fn change(
        &mut self,
        snapshot: &Snapshot,
        wish: &Wish,
    ) -> Result<Done, String> {
        let (mut orders, mut done) = (self.orders.clone(), Done::default());
        let mut wrong = Vec::new();
        for target in &wish.targets {
            match targets::find_one(snapshot, target) {
                Ok(found) => found.into_iter().for_each(|one| {
                    done.before.push((one.name(), one.backend.admin_state()));
                    set(&mut orders, one, wish.to);
                }),
                // Of one that is gone it can be forgotten all the same.
                Err(_) if wish.to.is_none() && forget(&mut orders, target) => {}
                Err(why) => wrong.push(why),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        self.orders = orders;
        let (file, text) = (self.file.clone(), text(&self.orders));
        let written = spawn_blocking(move || draft::put(&file, &text)).await;
        if let Err(error) = written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            let problem = format!(
                "it holds, but only until lockgate ends: `{}` cannot be written: {error}",
                self.file.display()
            );
            warn!("{problem}");
            done.problem = Some(problem);
        }
        let mut groups = BTreeMap::new();
        let named: Vec<String> = done.before.iter().map(|(name, _)| name.clone()).collect();
        for Found { group, backend } in targets::find(snapshot, &named).unwrap_or_default() {
            let names = (&*group.game, &*group.config.name, &*backend.config.name);
            backend.order(get(&self.orders, names));
            groups.insert((&*group.game, &*group.config.name), group);
            let (state, (game, group, backend)) = (backend.admin_state().name(), names);
            match wish.to {
                Some(_) => info!(game, group, backend, state, "the operator set its state"),
                None => info!(game, group, backend, state, "its state is as written again"),
            }
        }
        done.warnings = groups.into_values().filter_map(nobody_new).collect();
        Ok(done)
    }
}

/// What is said of a group that no new client gets into.
fn nobody_new(group: &Group) -> Option<String> {
    let takes = |one: &Backend| one.config.weight > 0 && one.admin_state() == AdminState::Ready;
    (!group.backends.iter().any(takes)).then(|| {
        let (game, group) = (&group.game, &group.config.name);
        format!("no backend of `{game}/{group}` takes new clients now: they get 502")
    })
}

fn get(orders: &Orders, (game, group, backend): (&str, &str, &str)) -> Option<AdminOrder> {
    orders.get(game)?.get(group)?.get(backend).copied()
}

/// Sets it for one. That a backend is ready whose drop-in says so needs no word:
/// it would stand in the way of what the drop-in says another day.
fn set(orders: &mut Orders, found: Found<'_>, to: Option<AdminState>) {
    let Found { group, backend } = found;
    let names = (&*group.game, &*group.config.name, &*backend.config.name);
    let is_written = to == Some(AdminState::Ready) && backend.config.state == AdminState::Ready;
    let Some(state) = to.filter(|_| !is_written) else {
        forget(orders, &found.name());
        return;
    };
    if get(orders, names).is_some_and(|order| order.state == state) {
        return;
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (game, group, backend) = names;
    let of_group = orders.entry(game.to_owned()).or_default().entry(group.to_owned()).or_default();
    of_group.insert(backend.to_owned(), AdminOrder { state, since: since.as_secs() });
}

/// Drops what is kept of a target; whether there was anything.
fn forget(orders: &mut Orders, target: &str) -> bool {
    let mut parts = target.splitn(3, '/');
    let game = parts.next().unwrap_or_default();
    let (group, backend) = (parts.next(), parts.next());
    let mut dropped = false;
    orders.retain(|of, groups| {
        groups.retain(|of_group, backends| {
            backends.retain(|name, _| {
                let is_it = of == game
                    && group.is_none_or(|group| group == of_group)
                    && backend.is_none_or(|backend| backend == name);
                dropped |= is_it;
                !is_it
            });
            !backends.is_empty()
        });
        !groups.is_empty()
    });
    dropped
}

fn text(orders: &Orders) -> Vec<u8> {
    let mut backends = Vec::new();
    for (game, groups) in orders {
        for (group, orders) in groups {
            backends.extend(orders.iter().map(|(backend, order)| KeptOrder {
                game: game.clone(),
                group: group.clone(),
                backend: backend.clone(),
                state: match order.state {
                    AdminState::Ready => KeptState::Ready,
                    AdminState::Drain => KeptState::Drain,
                    AdminState::Maint => KeptState::Maint,
                },
                since: order.since,
            }));
        }
    }
    // Nothing in it can fail to be written.
    serde_json::to_vec_pretty(&Kept { version: VERSION, backends }).unwrap_or_default()
}

fn parse(text: &[u8]) -> Result<Orders, String> {
    let kept: Kept = draft::parse(text, VERSION)?;
    let mut orders = Orders::new();
    for KeptOrder { game, group, backend, state, since } in kept.backends {
        let state = match state {
            KeptState::Ready => AdminState::Ready,
            KeptState::Drain => AdminState::Drain,
            KeptState::Maint => AdminState::Maint,
        };
        let of_group = orders.entry(game).or_default().entry(group).or_default();
        of_group.insert(backend, AdminOrder { state, since });
    }
    Ok(orders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> Orders {
        let mut orders = Orders::new();
        for (at, (game, group, backend)) in
            [("a", "web", "b1"), ("a", "web", "b2"), ("a", "api", "b1"), ("b", "web", "b1")]
                .into_iter()
                .enumerate()
        {
            let state = [AdminState::Drain, AdminState::Maint, AdminState::Ready][at % 3];
            let of_group =
                orders.entry(game.to_owned()).or_default().entry(group.to_owned()).or_default();
            of_group.insert(backend.to_owned(), AdminOrder { state, since: 1_800_000_000 });
        }
        orders
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(parse(&text(&orders())), Ok(orders()));
        assert_eq!(parse(&text(&Orders::new())), Ok(Orders::new()));
        let other = text(&orders()).iter().map(|byte| char::from(*byte)).collect::<String>();
        let other = other.replace("\"version\": 1", "\"version\": 2");
        assert_eq!(parse(other.as_bytes()), Err("it is of version 2, and 1 is known".to_owned()));
        assert!(parse(b"").is_err() && parse(b"{\"version\": 1}").is_err());
    }

    #[test]
    fn what_is_forgotten_is_what_was_named() {
        let left = |target: &str| {
            let mut orders = orders();
            let dropped = forget(&mut orders, target);
            let count: usize = orders.values().flat_map(BTreeMap::values).map(BTreeMap::len).sum();
            (dropped, count, orders.len())
        };
        assert_eq!(left("a/web/b1"), (true, 3, 2));
        assert_eq!(left("a/web"), (true, 2, 2));
        assert_eq!(left("a"), (true, 1, 1));
        assert_eq!(left("b"), (true, 3, 1));
        for nothing in ["", "c", "a/x", "a/web/b3", "/web/b1"] {
            assert_eq!(left(nothing), (false, 4, 2), "{nothing}");
        }
    }

    #[test]
    fn a_wish_arrives_as_it_was_said() {
        let targets = vec!["a/web/[::1]:80".to_owned(), "游戏 1&to=x".to_owned()];
        for to in [None, Some(AdminState::Ready), Some(AdminState::Drain), Some(AdminState::Maint)]
        {
            let wish = Wish { to, targets: targets.clone() };
            let target = wish.target();
            let (path, query) = target.split_once('?').unwrap();
            assert_eq!((path, Wish::parse(query)), ("/state", Some(wish)));
        }
        assert_eq!(Wish::parse("to=nothing&target=a"), None);
        assert_eq!(Wish::parse("target=a"), None);
    }
}
