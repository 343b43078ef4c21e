//! From what runs to what the files say now, without a ripple: the next
//! snapshot is built beside the old one, sockets that are new are bound, names
//! that are new looked up, and only then is one put in the other's place.
//! Whatever fails before that leaves everything as it was.

mod report;

use std::collections::{BTreeMap, HashSet};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::access;
use super::admin_state::AdminStates;
use super::changes::{self, changes};
use super::history::Reloads;
use super::keeper::Keeper;
use super::last_good;
use super::metrics::Taken;
use super::notify::Notifier;
use super::prober::Prober;
use super::resolver::{Resolver, WHILE_SERVED};
use super::secret;
use super::sockets::{self, Bound, Received};
use super::trouble::{FileTrouble, Troubles, lacking, troubles, unservable};
use crate::config::{Ask, Config, Diagnostic, Directory, Fault, Game, Process};
use crate::proxy::{Message, Shared};
use crate::state::{Backend, BuildError, Snapshot};

pub use self::report::{GameReport, Report};

/// What a run consists of, and what a reload changes.
#[derive(Debug)]
pub(super) struct Running {
    /// Not there while it is being read.
    pub(super) directory: Option<Directory>,
    /// How it looked when it was read.
    pub(super) looked: u64,
    /// How it looked last.
    pub(super) glimpsed: u64,
    pub(super) keeper: Keeper,
    pub(super) troubles: Troubles,
    pub(super) states: AdminStates,
    /// What the last reloads did.
    pub(super) reloads: Reloads,
    pub(super) state_dir: PathBuf,
    pub(super) shared: Arc<Shared>,
    pub(super) workers: Vec<mpsc::UnboundedSender<Message>>,
    /// Where every worker has a socket.
    pub(super) listening: Vec<SocketAddr>,
    pub(super) prober: Prober,
    pub(super) resolver: Resolver,
    pub(super) taken: Rc<Taken>,
}

/// How a reload is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Every file is read, not only those that look changed.
    pub all: bool,
    /// That no game is left is meant.
    pub allow_empty: bool,
}

impl Options {
    /// As the admin socket is asked for it.
    #[must_use]
    pub fn target(self) -> String {
        let options =
            [(self.dry_run, "dry_run"), (self.all, "all"), (self.allow_empty, "allow_empty")];
        let named = options.iter().filter(|(wanted, _)| *wanted).map(|(_, name)| *name);
        format!("/reload?{}", named.collect::<Vec<_>>().join("&"))
    }
}

impl Running {
    /// See the module.
    pub(super) async fn reload(&mut self, options: Options) -> Report {
        let begun = Instant::now();
        let mut report = self.attempt(options).await;
        report.dry_run = options.dry_run;
        report.generation = self.shared.live.generation();
        report.milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
        report
    }

    /// The same, told to the log and to systemd.
    pub(super) async fn reload_and_tell(
        &mut self,
        options: Options,
        notifier: &Notifier,
    ) -> Report {
        if options.dry_run {
            return self.reload(options).await;
        }
        notifier.reloading();
        let report = self.reload(options).await;
        self.taken.note(report.good);
        report.log();
        self.reloads.note(&report);
        notifier.ready();
        report
    }

    /// With `watch`: something changed, and does not change any more.
    pub(super) async fn has_settled(&mut self) -> bool {
        let Some(look) = self.with_directory(|directory| directory.look()).await else {
            return false;
        };
        let settled = look != self.looked && self.glimpsed == look;
        self.glimpsed = look;
        settled
    }

    /// Reading thousands of files must not keep probes and look-ups waiting.
    async fn with_directory<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Directory) -> T + Send + 'static,
    ) -> Option<T> {
        let mut directory = self.directory.take()?;
        let worked = spawn_blocking(move || {
            let result = work(&mut directory);
            (directory, result)
        });
        let (directory, result) = worked.await.ok()?;
        self.directory = Some(directory);
        Some(result)
    }

    async fn attempt(&mut self, options: Options) -> Report {
        let broke_off = || {
            let problem = "reading the files broke off: restart lockgate, and please report this";
            Report { problems: vec![problem.to_owned()], ..Report::default() }
        };
        let old = self.shared.live.load();
        // Where nothing serves nothing can be lost.
        let allow_empty = options.allow_empty || old.games.is_empty();
        let ask = Ask { all: options.all, allow_empty };
        // Nothing of a dry run is to be remembered.
        let saved = options.dry_run.then(|| self.directory.clone());
        let watch = old.process.watch && !options.dry_run;
        let read = move |directory: &mut Directory| {
            // Before: what changes while it is read is read once more.
            let look = watch.then(|| directory.look());
            (look, directory.read(ask))
        };
        let Some((look, mut reading)) = self.with_directory(read).await else {
            return broke_off();
        };
        self.looked = look.unwrap_or(self.looked);
        let (mut report, next) = loop {
            let mut report = Report::of(&reading);
            let found = troubles(&reading, &self.troubles.borrow());
            let mut files = std::mem::take(&mut reading.files);
            let next = self.next(reading.config.take(), &old, allow_empty, &mut report);
            let Some(next) = next else {
                if !options.dry_run {
                    // Games that are gone serve on.
                    files.retain(|file| file.bundle.is_some());
                    self.troubles.replace(found);
                    self.keeper.note(&files);
                }
                break (report, None);
            };
            let (next, bound, faults) = self.prepare(next, options, &mut report);
            let again = move |directory: &mut Directory| directory.read_without(ask, faults);
            match self.with_directory(again).await {
                None => return broke_off(),
                Some(Some(again)) => reading = again,
                Some(None) => {
                    compare(&old, &next, &mut report);
                    break (report, Some((next, bound, files, found)));
                }
            }
        };
        if let Some(saved) = saved {
            self.directory = saved;
            return report;
        }
        if let Some((next, bound, files, found)) = next {
            let before = self.troubles.replace(found);
            self.keeper.note(&files);
            let is_empty = next.games.is_empty();
            if let Some(fault) = self.apply(&old, next, bound, &mut report).await {
                self.troubles.borrow_mut().push(FileTrouble::of_process(&fault, &before));
            }
            if is_empty != old.games.is_empty()
                && let Err(error) = last_good::set_emptied(&self.state_dir, is_empty)
            {
                report.problems.push(format!("whether games are left is not remembered: {error}"));
            }
            self.keeper.keep();
        }
        report
    }

    /// The snapshot the files ask for, if they can be used at all, with what keeps
    /// games from being served.
    fn next(
        &mut self,
        config: Option<Config>,
        old: &Snapshot,
        allow_empty: bool,
        report: &mut Report,
    ) -> Option<(Snapshot, Vec<BuildError>)> {
        let mut config = config?;
        if config.games.is_empty() && !allow_empty {
            report.good = false;
            let problem = "no game would be left: `--allow-empty` if that is meant";
            report.problems.push(problem.to_owned());
            return None;
        }
        let secrets = match config
            .process
            .secrets
            .clone()
            .map_or_else(|| secret::load_or_create(&self.state_dir), Ok)
        {
            Ok(secrets) => secrets,
            Err(problem) => {
                report.good = false;
                report.problems.push(problem);
                return None;
            }
        };
        report.restart = keep_fixed(&mut config.process, &old.process);
        Some(Snapshot::build(config, secrets, Some(old)))
    }

    /// Binds what is new, unless this is a dry run. With that comes what keeps
    /// games from being served as they are written: where an earlier version
    /// serves, it is not given up for one that does not.
    fn prepare(
        &self,
        (next, errors): (Snapshot, Vec<BuildError>),
        options: Options,
        report: &mut Report,
    ) -> (Snapshot, Bound, Vec<Fault>) {
        let mut faults: Vec<Fault> = errors.iter().map(unservable).collect();
        report.good &= errors.is_empty();
        report.problems.extend(errors.iter().map(ToString::to_string));
        if !faults.is_empty() {
            return (next, Bound::default(), faults);
        }
        let bound = if options.dry_run {
            if let Some(fault) = access::foreseen(&next.process) {
                report.good &= !fault.is_error();
                report.diagnostics.push(fault.render(false));
            }
            sockets::foreseen(&next, &self.listening)
        } else {
            sockets::bind(&next, self.workers.len(), &self.listening, Received::new())
        };
        if !bound.lacking.is_empty() {
            faults = lacking(&next, &bound);
        }
        (next, bound, faults)
    }

    /// Puts the next snapshot in the old one's place. Gives what of `lockgate.toml`
    /// cannot be done.
    async fn apply(
        &mut self,
        old: &Snapshot,
        mut next: Snapshot,
        bound: Bound,
        report: &mut Report,
    ) -> Option<Diagnostic> {
        let Bound { sockets, addresses, failed, .. } = bound;
        report.good &= failed.is_empty();
        report.problems.extend(failed);
        let wanted = sockets::addresses_of(&next);
        let added: Vec<SocketAddr> = addresses.iter().map(|(_, address)| *address).collect();
        let left: Arc<[SocketAddr]> =
            self.listening.iter().filter(|have| !wanted.contains(have)).copied().collect();
        self.listening.retain(|have| wanted.contains(have));
        self.listening.extend(added);
        if let Err(problem) = self.resolver.follow(&next, &self.listening, WHILE_SERVED).await {
            report.good = false;
            report.problems.push(problem);
        }
        self.prober.follow(&next);
        self.states.apply(&next);
        let logs = access::change(&self.shared.access, &old.process, &next.process);
        if let Err(fault) = &logs {
            report.good = false;
            report.diagnostics.push(fault.render(false));
            next.process.access_log.clone_from(&old.process.access_log);
            compare_process(old, &next, report);
        }
        let gone = gone(old, &next);
        self.shared.live.replace(next);
        // A connection that comes before its port is in the snapshot would be
        // dropped: sockets are accepted on from here on.
        for (worker, sockets) in self.workers.iter().zip(sockets) {
            // One that is ending hears nothing any more.
            if !sockets.is_empty() {
                let _ = worker.send(Message::Listen(sockets));
            }
            if !left.is_empty() {
                let _ = worker.send(Message::Leave(Arc::clone(&left)));
            }
            if !gone.is_empty() {
                let _ = worker.send(Message::Forget(Arc::clone(&gone)));
            }
        }
        report.applied = true;
        logs.err().map(|fault| *fault)
    }
}

/// The backends that are not in the next snapshot any more, by their ids.
fn gone(old: &Snapshot, next: &Snapshot) -> Arc<[u64]> {
    let backends = |snapshot| Snapshot::groups(snapshot).flat_map(|group| &group.backends);
    let stay: HashSet<u64> = backends(next).map(Backend::id).collect();
    let gone = backends(old).filter(|backend| !stay.contains(&backend.id()));
    gone.inspect(|backend| backend.retire()).map(Backend::id).collect()
}

/// What only a start reads stays as it is; says so where it was changed.
fn keep_fixed(new: &mut Process, old: &Process) -> Vec<String> {
    let mut told = Vec::new();
    let mut keep = |what: &str, changed: bool| {
        if changed {
            told.push(format!("lockgate.toml: `{what}` changed: restart lockgate to apply it"));
        }
    };
    keep("workers", new.workers != old.workers);
    keep("[admin] address", new.admin != old.admin);
    keep("[limits] connections", new.limits.connections != old.limits.connections);
    keep("[dns] servers", new.dns_servers != old.dns_servers);
    if new.admin != old.admin
        && let Err(error) = TcpListener::bind(new.admin)
    {
        told.push(format!(
            "lockgate.toml: the next start will not be able to listen on `[admin] address` {}: {error}",
            new.admin
        ));
    }
    new.workers = old.workers;
    new.admin = old.admin;
    new.loopback = old.loopback;
    new.limits.connections = old.limits.connections;
    new.dns_servers.clone_from(&old.dns_servers);
    told
}

/// Says what of `lockgate.toml` and of the secret is different.
fn compare_process(old: &Snapshot, next: &Snapshot, report: &mut Report) {
    report.process = changes::of_process(&old.process, &next.process);
    report.process.extend(changes::of_secrets(&old.secrets, &next.secrets));
}

/// Says what is different.
fn compare(old: &Snapshot, next: &Snapshot, report: &mut Report) {
    compare_process(old, next, report);
    let refused: HashSet<String> = report.games.iter().map(|game| game.game.clone()).collect();
    // Before and after.
    let mut pairs: BTreeMap<&str, [Option<&Arc<Game>>; 2]> = BTreeMap::new();
    for game in &old.games {
        pairs.entry(&game.config.name).or_default()[0] = Some(&game.config);
    }
    for game in &next.games {
        pairs.entry(&game.config.name).or_default()[1] = Some(&game.config);
    }
    for (name, pair) in pairs {
        if refused.contains(name) {
            continue;
        }
        let changes = match pair {
            [Some(before), Some(after)] if Arc::ptr_eq(before, after) => Vec::new(),
            [before, after] => changes(before.map(|game| &**game), after.map(|game| &**game)),
        };
        if changes.is_empty() {
            report.unchanged += 1;
        } else {
            let (game, verdict) = (name.to_owned(), "changed".to_owned());
            report.games.push(GameReport { game, verdict, changes });
        }
    }
}
