//! What a process needs before anything runs: the files, what requests are
//! served by, and the listening sockets.

use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{error, warn};

use super::access;
use super::activation;
use super::admin_state::AdminStates;
use super::handover::{self, Estate, Launch};
use super::keeper::Keeper;
use super::last_good;
use super::prober;
use super::secret;
use super::server::Occasion;
use super::sockets::{self, Bound, Received};
use super::trouble::{Troubles, lacking, troubles, unservable};
use crate::config::{Ask, Directory, Process, Reading};
use crate::proxy::Shared;
use crate::state::{BuildError, Live, Snapshot};

/// See the module.
pub(super) struct Prepared {
    pub(super) process: Process,
    pub(super) workers: usize,
    pub(super) estate: Estate,
    pub(super) directory: Directory,
    /// How the directory looked before it was read.
    pub(super) looked: u64,
    pub(super) keeper: Keeper,
    pub(super) troubles: Troubles,
    pub(super) states: AdminStates,
    pub(super) bound: Bound,
    pub(super) shared: Arc<Shared>,
}

/// What a reading leads to.
struct Built {
    snapshot: Snapshot,
    workers: usize,
    bound: Bound,
    /// What cannot be served, though nothing else can be in its place.
    errors: Vec<BuildError>,
}

/// Reads the files, builds of them what requests are served by, and binds what
/// they ask for.
///
/// # Errors
/// What keeps it from starting, with the remedy.
pub(super) fn prepare(
    config_dir: &Path,
    state_dir: &Path,
    launch: Launch<'_>,
    occasion: &mut impl Occasion,
) -> Result<Prepared, String> {
    let mut estate = Estate::of(launch, state_dir)?;
    let descriptors = raise_descriptor_limit();
    let mut directory = Directory::new(config_dir, last_good::load_all(state_dir));
    // Before: what changes while it is read is read once more.
    let looked = directory.look();
    let ask = Ask { allow_empty: last_good::is_emptied(state_dir), ..Ask::default() };
    let received = mem::take(&mut estate.sockets);
    let (reading, built) = settle(&mut directory, ask, state_dir, launch, received)?;
    occasion.read(&reading)?;
    launch.strict(handover::objection(&reading))?;
    let Some(Built { snapshot, workers, bound, errors }) = built else {
        return Err("nothing can be served: correct what is said above, then start again".into());
    };
    let mut keeper = Keeper::new(state_dir);
    keeper.note(&reading.files);
    errors.iter().for_each(|error| error!("{error}"));
    launch.strict(&errors)?;
    if snapshot.games.is_empty() && !ask.allow_empty {
        return Err(errors.first().map_or_else(|| "no game".to_owned(), ToString::to_string));
    }
    if ask.allow_empty && !snapshot.games.is_empty() {
        // The next time it is no more than any other directory that is empty.
        last_good::set_emptied(state_dir, false).map_err(|error| error.to_string())?;
    }
    let troubles = Troubles::new(troubles(&reading, &[]).into());
    let states = AdminStates::load(state_dir);
    states.apply(&snapshot);
    tell(&bound, launch);
    if bound.addresses.is_empty() && !snapshot.games.is_empty() {
        return Err(bound.failed.first().cloned().unwrap_or_else(|| "no listener".into()));
    }
    let process = snapshot.process.clone();
    let probes = prober::connections(&snapshot);
    let max_connections = process.limits.connections.unwrap_or(affordable(descriptors, probes));
    let access = Arc::default();
    access::follow(&access, &process).map_err(|fault| fault.explained())?;
    let shared = Arc::new(Shared {
        access,
        live: Live::new(snapshot),
        connections: AtomicUsize::new(0),
        doors: Default::default(),
        tunnels: AtomicUsize::new(0),
        max_connections,
        workers,
    });
    Ok(Prepared {
        process,
        workers,
        estate,
        directory,
        looked,
        keeper,
        troubles,
        states,
        bound,
        shared,
    })
}

/// Reads until what is accepted can be served: a version that cannot gives way
/// to the last good one, as in a reload.
fn settle(
    directory: &mut Directory,
    ask: Ask,
    state_dir: &Path,
    launch: Launch<'_>,
    mut received: Received,
) -> Result<(Reading, Option<Built>), String> {
    let mut reading = directory.read(ask);
    let mut spread = launch.heir.is_some();
    loop {
        let Some(mut config) = reading.config.clone() else { return Ok((reading, None)) };
        config.process.loopback = launch.loopback;
        access::set_level(&config.process);
        let workers = match config.process.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        if !mem::replace(&mut spread, true) {
            activation::spread(&mut received, workers)
                .map_err(|error| format!("the sockets that systemd passed: {error}"))?;
        }
        let secrets = match config.process.secrets.clone() {
            Some(secrets) => secrets,
            None => secret::load_or_create(state_dir)?,
        };
        let (snapshot, errors) = Snapshot::build(config, secrets, None);
        if let Some(again) = directory.read_without(ask, errors.iter().map(unservable).collect()) {
            reading = again;
            continue;
        }
        let bound = sockets::bind(&snapshot, workers, &[], received);
        match directory.read_without(ask, lacking(&snapshot, &bound)) {
            None => return Ok((reading, Some(Built { snapshot, workers, bound, errors }))),
            Some(again) => reading = again,
        }
        // Clients may wait at them.
        received = bound.into_received();
    }
}

/// What of the sockets an operator should know.
fn tell(bound: &Bound, launch: Launch<'_>) {
    for address in bound.unclaimed.keys().filter(|_| launch.heir.is_none()) {
        warn!(%address, "systemd passed a socket that no listener wants: remove it from lockgate.socket");
    }
    for problem in &bound.failed {
        error!("{problem}");
    }
}

/// Descriptors kept for what comes and goes: files that are read, name
/// look-ups, the admin listener.
const SPARE_DESCRIPTORS: usize = 32;

/// How many clients the descriptors are enough for beside so many probes: each
/// may need an upstream connection besides its own, and running out of those
/// would fail requests instead of refusing connections (as HAProxy computes
/// `maxconn`).
fn affordable(descriptors: usize, probes: usize) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").map_or(64, Iterator::count);
    (descriptors.saturating_sub(open + probes + SPARE_DESCRIPTORS) / 2).max(1)
}

/// Every connection needs a descriptor: takes as many as the system allows.
fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // `None` is unlimited.
    current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}
