//! One run of lockgate: from a valid configuration to the last connection.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};
use tracing::info;

use super::admin::{self, Status};
use super::asker::Asker;
use super::commands::{self, Command};
use super::crew::Crew;
use super::expiry;
use super::handover::Launch;
use super::last_addresses::LastAddresses;
use super::notify::Notifier;
use super::prober::Prober;
use super::reload::{Options, Running};
use super::resolver::{Resolver, UNSERVED, WHILE_SERVED};
use super::signals::{Asked, Early, Signals};
use super::sockets::Bound;
use super::start::{self, Prepared};
use super::upgrade::{self, Upgrader};
use crate::config::{AccessLog, Process, Protocol, Reading};
use crate::proxy::Order;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything in flight was finished.
    Cleanly,
    /// Something was cut off: the deadline passed, or a second signal came.
    Cut,
}

/// What a run is made for: `run` and `demo` do different things beside it.
pub trait Occasion {
    /// The files were read.
    ///
    /// # Errors
    /// Why it cannot go on.
    fn read(&mut self, reading: &Reading) -> Result<(), String>;

    /// Where it listens was said; `ready` comes next.
    ///
    /// # Errors
    /// When `out` cannot be written to.
    fn announce(&mut self, out: &mut dyn Write) -> io::Result<()>;

    /// It begins to end.
    fn stopping(&mut self);
}

/// Serves the configuration of this directory until a signal ends it.
///
/// Prints to standard output where it listens, then a line `ready`: from then on
/// every port accepts.
///
/// # Errors
/// What kept it from starting, with the remedy.
pub fn run(
    config_dir: &Path,
    state_dir: &Path,
    launch: Launch<'_>,
    early: Early,
    occasion: &mut impl Occasion,
) -> Result<Ended, String> {
    let begun = start::prepare(config_dir, state_dir, launch, occasion).and_then(|prepared| {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .map_err(|error| format!("cannot start the event loop: {error}"))?;
        runtime.block_on(live((prepared, early), config_dir, state_dir, launch, occasion))
    });
    if let (Some(heir), Err(why)) = (launch.heir, &begun) {
        heir.fail(why);
    }
    begun
}

/// A process that serves.
struct Life {
    running: Running,
    crew: Crew,
    signals: Signals,
    commands: mpsc::Receiver<Command>,
    status: Rc<Status>,
    upgrader: Upgrader,
}

/// From what was prepared to where every port accepts.
async fn begin(
    (prepared, early): (Prepared, Early),
    config_dir: &Path,
    state_dir: &Path,
    launch: Launch<'_>,
    occasion: &mut impl Occasion,
) -> Result<Life, String> {
    let Prepared { process, workers, mut estate, directory, bound, shared, .. } = prepared;
    let Prepared { looked, keeper, troubles, states, .. } = prepared;
    let notifier = Rc::new(Notifier::from_env());
    let signals =
        Signals::new(early, &shared.access).map_err(|error| format!("signals: {error}"))?;
    let admin = estate.admin(process.admin).await?;
    let status = Rc::new(Status::default());
    status.taken.note(bound.failed.is_empty() && troubles.borrow().is_empty());
    let admin_address = admin.local_addr().unwrap_or(process.admin);
    let admin_handle = admin.as_fd().try_clone_to_owned();
    let answer = |admin| spawn_local(admin::serve(admin, Rc::clone(&status)));
    // The socket is the old process's too, and that one can answer already.
    let (mut tasks, later) = match launch.heir {
        None => (vec![answer(admin)], None),
        Some(_) => (Vec::new(), Some(admin)),
    };
    let Bound { mut sockets, addresses, .. } = bound;
    let mut resolver =
        Resolver::new(&process.dns_servers, admin_address, LastAddresses::load(state_dir));
    let listening: Vec<SocketAddr> = addresses.iter().map(|(_, address)| *address).collect();
    let patience = if launch.heir.is_some() { WHILE_SERVED } else { UNSERVED };
    resolver.follow(&shared.live.load(), &listening, patience).await?;
    let prober = Prober::following(&shared.live.load());
    let crew = Crew::start(&shared, launch.at_first(&mut sockets));
    // It is set here alone.
    let _ = status.asker.set(Asker::new(&shared, crew.workers(), &troubles, &status.reloads));
    tasks.extend(status.asker.get().map(|asker| spawn_local(asker.watch_failures())));
    let (commander, commands) = mpsc::channel(1);
    let door = commands::open(state_dir);
    launch.strict(door.as_ref().err())?;
    launch.take_over(&crew.workers(), sockets, &estate.lock).await?;
    status.ready.set(true);
    tasks.extend(later.map(answer));
    let socket = commands::serve(door, commander, Rc::clone(&status));
    launch.serving();
    // A closed standard output keeps nobody from serving.
    let _ = print_start(&process, admin_address, &addresses, occasion);
    info!(workers, max_connections = shared.max_connections, "ready");
    notifier.ready();
    let mut running = Running {
        looked,
        glimpsed: 0,
        directory: Some(directory),
        keeper,
        troubles,
        states,
        reloads: status.reloads.clone(),
        state_dir: state_dir.to_owned(),
        shared: Arc::clone(&shared),
        workers: crew.workers(),
        listening,
        prober,
        resolver,
        taken: Rc::clone(&status.taken),
    };
    running.keeper.keep();
    tasks.push(spawn_local(Rc::clone(&notifier).watch()));
    let upgrader = Upgrader {
        binary: upgrade::own_binary(launch.upgrades),
        config_dir: config_dir.to_owned(),
        lock: Some(estate.lock),
        admin: admin_handle,
        tasks,
        socket,
        notifier,
        heir: None,
    };
    Ok(Life { running, crew, signals, commands, status, upgrader })
}

/// From what was prepared to the last connection.
async fn live(
    prepared: (Prepared, Early),
    config_dir: &Path,
    state_dir: &Path,
    launch: Launch<'_>,
    occasion: &mut impl Occasion,
) -> Result<Ended, String> {
    let life = begin(prepared, config_dir, state_dir, launch, occasion).await?;
    let Life { mut running, mut crew, mut signals, commands, status, mut upgrader } = life;
    let (order, asked) =
        attend(&mut running, &mut crew, &mut signals, commands, &mut upgrader).await;
    // After a hand-over the address is the new process's, which is ready.
    status.ready.set(matches!(order, Order::HandOver { .. }));
    if asked {
        linger(running.shared.live.load().process.lame_duck, &mut signals).await;
    }
    info!(?order, "stopping");
    occasion.stopping();
    let ended = match order {
        // What is kept of games is the new process's from now on.
        Order::HandOver { within } => {
            running.resolver.hand_over();
            upgrader.finish(within, &mut crew, &mut signals, &running.shared, &status).await
        }
        _ => stop(order, &mut running, &mut crew, &mut signals, &upgrader.notifier).await,
    };
    tokio::join!(upgrader.answered(), running.shared.access.end());
    info!(?ended, "stopped");
    Ok(ended)
}

/// The end of a process that nobody follows.
async fn stop(
    order: Order,
    running: &mut Running,
    crew: &mut Crew,
    signals: &mut Signals,
    notifier: &Notifier,
) -> Ended {
    notifier.stopping();
    let ended = crew.end(order, signals).await;
    running.keeper.finish().await;
    ended
}

/// How often files are looked at, with `watch`. What changed is applied once it
/// looks the same twice: an editor or a deployment may not be done.
const WATCH: Duration = Duration::from_secs(1);

/// Does what signals and commands ask for, until that is the end, or until there
/// is an end that nobody asked for.
async fn attend(
    running: &mut Running,
    crew: &mut Crew,
    signals: &mut Signals,
    mut commands: mpsc::Receiver<Command>,
    upgrader: &mut Upgrader,
) -> (Order, bool) {
    let mut watching = interval(WATCH);
    watching.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let notifier = Rc::clone(&upgrader.notifier);
    let mut expiry = expiry::Watch::default();
    loop {
        let certificates = sleep_until(expiry.tell(&running.shared.live.load()));
        let deadline = running.shared.live.load().process.shutdown_deadline;
        let watch = running.shared.live.load().process.watch;
        let command = tokio::select! {
            _ = watching.tick(), if watch => match running.has_settled().await {
                true => Command::Reload(Options::default(), None),
                false => continue,
            },
            () = certificates => continue,
            asked = signals.next(deadline) => match asked {
                Asked::End(order) => return (order, true),
                Asked::Reload => Command::Reload(Options::default(), None),
                Asked::Upgrade => Command::Upgrade(None, None),
            },
            // Without a socket nobody ever asks.
            Some(command) = commands.recv() => command,
            () = crew.lost_one() => return (Order::Drain { within: Some(deadline) }, false),
        };
        match command {
            Command::Reload(options, reply) => {
                let report = running.reload_and_tell(options, &notifier).await;
                // Who asked may have given up.
                if let Some(reply) = reply {
                    let _ = reply.send(report);
                }
            }
            Command::SetState(wish, reply) => {
                let done = running.states.change(&running.shared.live.load(), &wish).await;
                let _ = reply.send(done);
            }
            Command::Upgrade(binary, reply) => {
                match upgrader.upgrade(running, signals, binary, reply).await {
                    Some(order @ Order::HandOver { .. }) => return (order, false),
                    Some(order) => return (order, true),
                    None => {}
                }
            }
        }
    }
}

/// Accepts on while `/ready` fails already; a second signal ends it.
async fn linger(lame_duck: Duration, signals: &mut Signals) {
    if lame_duck.is_zero() {
        return;
    }
    info!(seconds = lame_duck.as_secs_f32(), "not ready any more, and still accepting");
    tokio::select! {
        () = sleep(lame_duck) => {}
        () = signals.second() => {}
    }
}

fn print_start(
    process: &Process,
    admin: SocketAddr,
    addresses: &[(Protocol, SocketAddr)],
    occasion: &mut impl Occasion,
) -> io::Result<()> {
    let out: &mut dyn Write = match &process.access_log {
        // Who reads lines of the log there expects nothing else.
        Some(AccessLog { path: None, .. }) => &mut io::stderr().lock(),
        _ => &mut io::stdout().lock(),
    };
    writeln!(out, "admin http://{admin}/")?;
    for (protocol, address) in addresses {
        let scheme = match protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
        };
        writeln!(out, "listening {scheme}://{address}")?;
    }
    occasion.announce(out)?;
    writeln!(out, "ready")?;
    out.flush()
}
