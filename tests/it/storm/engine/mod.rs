//! A storm: steady load through a proxy, while the backends behind it, which are
//! real processes, are killed, paused, continued and restarted one after another.
//! It knows nothing of lockgate: `benches/compare` lets it loose on others too.

mod backend;
mod client;
mod load;
mod server;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};

pub(crate) use backend::{Backend, Executed, Fault};
pub(crate) use load::Failure;
pub(crate) use server::serve;

use client::{Client, Http1, Http2};
use load::{Shared, play};

/// Longer than a backend takes to answer on its own port.
const PATIENCE: Duration = Duration::from_secs(30);
/// Players of each protocol in each group.
const PLAYERS: usize = 4;

/// Where the load goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Plain HTTP/1.1.
    pub(crate) plain: u16,
    /// HTTP/2 over TLS.
    pub(crate) secure: u16,
    pub(crate) host: String,
    /// Offers HTTP/2.
    pub(crate) tls: Arc<ClientConfig>,
    /// `/bound` binds clients by a cookie.
    pub(crate) sticky: bool,
}

/// How long it lasts and how dense it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// At least so many faults,
    pub(crate) faults: usize,
    /// and at least so long.
    pub(crate) time: Duration,
    /// Requests that others answer while a backend is out.
    pub(crate) hits: u64,
    /// The next fault waits only until the hurt backend itself answers again, not
    /// until the proxy uses it.
    pub(crate) hasty: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) asked: BTreeMap<String, u64>,
    pub(crate) faults: usize,
    pub(crate) failures: Vec<Failure>,
    /// Answers that belong to another request.
    pub(crate) wrong: Vec<String>,
    /// POSTs that were executed twice.
    pub(crate) twice: Vec<String>,
    /// POSTs that failed and were executed all the same.
    pub(crate) unheard: usize,
}

impl Tally {
    /// Requests with this method; all of them for `""`.
    pub(crate) fn requests(&self, method: &str) -> u64 {
        let counts = self.asked.iter().filter(|(kind, _)| kind.starts_with(method));
        counts.map(|(_, count)| count).sum()
    }

    /// Failed requests that could have been sent again: nothing of a backend's
    /// answer had come.
    pub(crate) fn failed_idempotent(&self) -> impl Iterator<Item = &Failure> {
        self.failures.iter().filter(|failure| failure.method != "POST" && !failure.cut)
    }

    /// A backend's answer that began and was cut.
    pub(crate) fn cut(&self) -> impl Iterator<Item = &Failure> {
        self.failures.iter().filter(|failure| failure.cut)
    }

    pub(crate) fn failed_posts(&self) -> impl Iterator<Item = &Failure> {
        self.failures.iter().filter(|failure| failure.method == "POST" && !failure.cut)
    }
}

/// Lets it loose. The backends must serve, and have ended afterwards.
pub(crate) fn storm(
    target: &Target,
    plan: Plan,
    mut backends: Vec<Backend>,
    executed: &Executed,
) -> Result<Tally, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let shared = Rc::new(Shared::default());
    let faults = runtime.block_on(LocalSet::new().run_until(async {
        for backend in &backends {
            serves(backend).await?;
        }
        let players = players(target, &shared);
        let faults = weather(target, plan, &mut backends, &shared).await;
        shared.stop.set(true);
        for player in players {
            player.await.map_err(|error| error.to_string())?;
        }
        let faults = faults?;
        // What waited in the sockets of a paused one is done by then.
        for backend in &backends {
            serves(backend).await?;
        }
        Ok::<_, String>(faults)
    }))?;
    backends.iter_mut().for_each(Backend::end);
    let failures = shared.failures.take();
    let unheard = failures.iter().filter(|failure| executed.contains(&failure.id)).count();
    Ok(Tally {
        asked: shared.asked.take(),
        faults,
        failures,
        wrong: shared.wrong.take(),
        twice: executed.twice(),
        unheard,
    })
}

fn players(target: &Target, shared: &Rc<Shared>) -> Vec<tokio::task::JoinHandle<()>> {
    let Target { plain, secure, host, tls, sticky } = target;
    let groups: &[bool] = if *sticky { &[false, true] } else { &[false] };
    let mut players = Vec::new();
    for bound in groups {
        let connection = Rc::new(Http2::new(*secure, host, tls));
        for _ in 0..PLAYERS {
            let one = Client::Http1(Http1::new(*plain, host));
            let two = Client::Http2(Rc::clone(&connection));
            for client in [one, two] {
                players.push(spawn_local(play(Rc::clone(shared), client, *bound)));
            }
        }
    }
    players
}

/// One fault after the other; gives their number.
async fn weather(
    target: &Target,
    plan: Plan,
    backends: &mut [Backend],
    shared: &Shared,
) -> Result<usize, String> {
    let groups: &[bool] = if target.sticky { &[false, true] } else { &[false] };
    let used = |shared: &Shared, backend: &Backend, since: u64| {
        groups.iter().all(|bound| shared.served_since(&backend.name, *bound, since))
    };
    for backend in &*backends {
        let what = format!("{} is used", backend.name);
        shared.until(&what, |shared| used(shared, backend, 0)).await?;
    }
    let began = Instant::now();
    let mut faults = 0;
    let turns = [Fault::Kill, Fault::Pause];
    while faults < plan.faults || began.elapsed() < plan.time {
        // With three backends each gets both in six turns.
        let (at, fault) = (faults % backends.len(), turns.get(faults % 2));
        let (Some(backend), Some(&fault)) = (backends.get_mut(at), fault) else { break };
        *shared.weather.borrow_mut() = format!("fault {faults}: {fault:?} of {}", backend.name);
        backend.hurt(fault)?;
        // Those that met it there have had their end, and so have some after them.
        let mark = shared.now() + plan.hits / 4;
        let enough = shared.answered.get() + plan.hits;
        let past = |shared: &Shared| shared.answered.get() >= enough && shared.is_past(mark);
        shared.until("the others serve", past).await?;
        let healed = shared.now();
        backend.heal(fault)?;
        shared.weather.borrow_mut().push_str(", over");
        if plan.hasty {
            serves(backend).await?;
        } else {
            let what = format!("{} is used again", backend.name);
            shared.until(&what, |shared| used(shared, backend, healed)).await?;
        }
        // No request meets two faults.
        let now = shared.now();
        shared.until("what met the fault has ended", |shared| shared.is_past(now)).await?;
        faults += 1;
    }
    Ok(faults)
}

/// Waits until the backend answers on its own port.
async fn serves(backend: &Backend) -> Result<(), String> {
    let serving = async {
        while !matches!(probe(backend.port).await, Ok(true)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let late = |_| format!("{} does not serve", backend.name);
    tokio::time::timeout(PATIENCE, serving).await.map_err(late)
}

async fn probe(port: u16) -> std::io::Result<bool> {
    let mut tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: storm\r\nConnection: close\r\n\r\n").await?;
    let mut bytes = Vec::new();
    tcp.read_to_end(&mut bytes).await?;
    Ok(bytes.starts_with(b"HTTP/1.1 200"))
}
