//! One run of lockgate: from a valid configuration to the last connection.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_local;
use tracing::{error, info, warn};

use super::admin::{self, Status};
use super::lock::StateLock;
use super::prober::{self, Prober};
use super::resolver;
use super::secret;
use super::sockets::{self, Bound};
use super::status::Asker;
use crate::config::{Config, Protocol};
use crate::proxy::{self, Order, Question, Shared};
use crate::state::{Live, Snapshot};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything in flight was finished.
    Cleanly,
    /// Something was cut off: the deadline passed, or a second signal came.
    Cut,
}

/// Serves the configuration until a signal ends it.
///
/// Prints to standard output where it listens, then what `announce` writes,
/// then a line `ready`: from then on every port accepts. Calls `stopping` as it
/// begins to end.
///
/// # Errors
/// What kept it from starting, with the remedy.
pub fn run(
    config: Config,
    state_dir: &Path,
    announce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    stopping: impl FnOnce(),
) -> Result<Ended, String> {
    let _lock = StateLock::take(state_dir)?;
    let descriptors = raise_descriptor_limit();
    let process = config.process.clone();
    let workers = match process.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let secrets = match process.secrets.clone() {
        Some(secrets) => secrets,
        None => secret::load_or_create(state_dir)?,
    };
    let (snapshot, errors) = Snapshot::build(config, secrets, None);
    for error in &errors {
        error!("{error}");
    }
    if snapshot.games.is_empty() {
        return Err(errors.first().map_or_else(|| "no game".to_owned(), ToString::to_string));
    }
    let dns = process.dns_servers.clone();
    let probes = prober::connections(&snapshot);
    let bound = sockets::bind(&snapshot, workers);
    for problem in &bound.failed {
        error!("{problem}");
    }
    if bound.addresses.is_empty() {
        return Err(bound.failed.first().cloned().unwrap_or_else(|| "no listener".into()));
    }
    let max_connections = process.limits.connections.unwrap_or(affordable(descriptors, probes));
    let shared = Arc::new(Shared {
        live: Live::new(snapshot),
        connections: AtomicUsize::new(0),
        max_connections,
    });
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|error| format!("cannot start the event loop: {error}"))?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(|error| format!("signals: {error}"))?;
        let admin = TcpListener::bind(process.admin).await.map_err(|error| {
            format!(
                "cannot listen on the admin address {}: {error}: set another one as `address` \
                 under `[admin]` in lockgate.toml (port 0 lets the system pick)",
                process.admin
            )
        })?;
        let status = Rc::new(Status::default());
        let admin_address = admin.local_addr().unwrap_or(process.admin);
        spawn_local(admin::serve(admin, Rc::clone(&status)));
        let Bound { sockets, addresses, .. } = bound;
        let own = addresses.iter().map(|(_, address)| *address).chain([admin_address]).collect();
        resolver::start(&shared.live.load(), &dns, own).await?;
        let mut prober = Prober::default();
        prober.follow(&shared.live.load());
        let mut crew = Crew::start(&shared, sockets);
        // It is set here alone.
        let _ = status.asker.set(Asker::new(Arc::clone(&shared), crew.workers()));
        status.ready.set(true);
        // A closed standard output keeps nobody from serving.
        let _ = print_start(admin_address, &addresses, announce);
        info!(workers, max_connections, "ready");
        let order = tokio::select! {
            order = signals.first(process.shutdown_deadline) => order,
            () = crew.lost_one() => Order::Drain { within: Some(process.shutdown_deadline) },
        };
        status.ready.set(false);
        info!(?order, "stopping");
        stopping();
        let ended = crew.end(order, &mut signals).await;
        info!(?ended, "stopped");
        Ok(ended)
    })
}

fn print_start(
    admin: SocketAddr,
    addresses: &[(Protocol, SocketAddr)],
    announce: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "admin http://{admin}/")?;
    for (protocol, address) in addresses {
        let scheme = match protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
        };
        writeln!(out, "listening {scheme}://{address}")?;
    }
    announce(&mut out)?;
    writeln!(out, "ready")?;
    out.flush()
}

/// Descriptors kept for what comes and goes: files that are read, name
/// look-ups, the admin listener.
const SPARE_DESCRIPTORS: usize = 32;

/// How many clients the descriptors are enough for beside so many probes: each may need an upstream
/// connection besides its own, and running out of those would fail requests
/// instead of refusing connections (as HAProxy computes `maxconn`).
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

/// The signals lockgate answers to, handled in the loop like everything else.
#[derive(Debug)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// TERM and INT finish what is in flight within the deadline, QUIT without
    /// one.
    async fn first(&mut self, deadline: std::time::Duration) -> Order {
        loop {
            let unheard = tokio::select! {
                _ = self.terminate.recv() => return Order::Drain { within: Some(deadline) },
                _ = self.interrupt.recv() => return Order::Drain { within: Some(deadline) },
                _ = self.quit.recv() => return Order::Drain { within: None },
                // What other servers do on these would end this one by default,
                // and every game with it.
                _ = self.hangup.recv() => "HUP",
                _ = self.user1.recv() => "USR1",
                _ = self.user2.recv() => "USR2",
            };
            warn!(signal = unheard, "nothing is done on this signal; restart to apply changes");
        }
    }

    /// A second TERM or INT does not wait any longer.
    async fn second(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The running workers.
#[derive(Debug)]
struct Crew {
    orders: watch::Sender<Order>,
    questions: Vec<mpsc::UnboundedSender<Question>>,
    ends: mpsc::UnboundedReceiver<bool>,
    running: usize,
    clean: bool,
}

impl Crew {
    fn start(shared: &Arc<Shared>, sockets: Vec<Vec<proxy::Socket>>) -> Crew {
        let (orders, _) = watch::channel(Order::Run);
        let (ended, ends) = mpsc::unbounded_channel();
        let mut crew = Crew { orders, questions: Vec::new(), ends, running: 0, clean: true };
        for (index, sockets) in sockets.into_iter().enumerate() {
            let (shared, ended) = (Arc::clone(shared), ended.clone());
            let orders = crew.orders.subscribe();
            let (question, questions) = mpsc::unbounded_channel();
            let work = move || {
                let run = || proxy::run_worker(index, shared, sockets, orders, questions);
                let clean = match catch_unwind(AssertUnwindSafe(run)) {
                    Ok(Ok(clean)) => clean,
                    Ok(Err(error)) => {
                        error!(index, %error, "a worker failed");
                        false
                    }
                    // The panic's own message was printed where it happened.
                    Err(_) => false,
                };
                // Nobody listens when the process is ending already.
                let _ = ended.send(clean);
            };
            match thread::Builder::new().name(format!("worker-{index}")).spawn(work) {
                Ok(_) => {
                    crew.running += 1;
                    crew.questions.push(question);
                }
                Err(error) => {
                    error!(index, %error, "cannot start a worker's thread");
                    crew.clean = false;
                }
            }
        }
        crew
    }

    /// Where the workers take questions.
    fn workers(&self) -> Vec<mpsc::UnboundedSender<Question>> {
        self.questions.clone()
    }

    /// A worker ended without being told to: the ports it had are deaf now, so
    /// the process ends and whoever watches it starts it again.
    async fn lost_one(&mut self) {
        if self.running > 0 && self.ends.recv().await.is_some() {
            self.running -= 1;
            self.clean = false;
            error!("a worker ended unexpectedly: stopping");
        }
    }

    /// Gives the order and waits until all have followed it.
    async fn end(&mut self, order: Order, signals: &mut Signals) -> Ended {
        // It fails when no worker is left to hear it.
        let _ = self.orders.send(order);
        while self.running > 0 {
            tokio::select! {
                clean = self.ends.recv() => {
                    self.clean &= clean == Some(true);
                    self.running -= 1;
                }
                () = signals.second() => {
                    let _ = self.orders.send(Order::Stop);
                }
            }
        }
        if self.clean { Ended::Cleanly } else { Ended::Cut }
    }
}
