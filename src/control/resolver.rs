//! Keeps the addresses of backends that are named: each name is looked up
//! again when its answer expires, off the way of requests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::last_addresses::LastAddresses;
use crate::config::BackendAddress;
use crate::state::{Backend, Group, Snapshot};

/// An answer is used for at least this long, whatever its TTL says, and at
/// most an hour.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);
/// After an answer that names no address, or no answer at all.
const RETRY: Duration = Duration::from_secs(2);
/// How long the first answers are waited for while something else serves: what
/// runs so far, or the old process of an upgrade.
pub(super) const WHILE_SERVED: Duration = Duration::from_secs(3);
/// The same where nothing serves meanwhile: enough for name servers that answer,
/// and nothing that clients in the queues of the sockets would notice.
pub(super) const UNSERVED: Duration = Duration::from_millis(250);

/// The names that are looked up; they no longer are when this is dropped.
#[derive(Debug)]
pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
    admin: SocketAddr,
    /// Made for the first name.
    families: Option<Rc<[TokioResolver; 2]>>,
    /// Our own sockets.
    own: Rc<RefCell<Vec<SocketAddr>>>,
    tasks: HashMap<u64, JoinHandle<()>>,
    last: LastAddresses,
    /// Writes them; made with the first name.
    keeping: Option<JoinHandle<()>>,
}

impl Resolver {
    /// Asks these servers, or those of the system. `admin` is our own address,
    /// where no backend is; `last` what was known before.
    pub(super) fn new(servers: &[SocketAddr], admin: SocketAddr, last: LastAddresses) -> Resolver {
        let (own, tasks) = Default::default();
        let servers = servers.to_vec();
        Resolver { servers, admin, families: None, own, tasks, last, keeping: None }
    }

    /// From now on another process keeps the last addresses.
    pub(super) fn hand_over(&mut self) {
        self.keeping.take().inspect(JoinHandle::abort);
    }

    /// Resolves the names of the snapshot's backends: those that are new for the
    /// first time before it returns (unless the name servers are slower than
    /// `patience`), and all from then on. Those that are not in it any more are
    /// left.
    pub(super) async fn follow(
        &mut self,
        snapshot: &Snapshot,
        listening: &[SocketAddr],
        patience: Duration,
    ) -> Result<(), String> {
        *self.own.borrow_mut() = listening.iter().copied().chain([self.admin]).collect();
        let mut before = std::mem::take(&mut self.tasks);
        let mut firsts = Vec::new();
        for named in snapshot.groups().flat_map(|group| named(group)) {
            let id = named.backend.id();
            if let Some(task) = before.remove(&id) {
                self.tasks.insert(id, task);
                continue;
            }
            let families = match &self.families {
                Some(families) => Rc::clone(families),
                None => {
                    let v4 = resolver(&self.servers, LookupIpStrategy::Ipv4Only)?;
                    let v6 = resolver(&self.servers, LookupIpStrategy::Ipv6Only)?;
                    Rc::clone(self.families.insert(Rc::new([v4, v6])))
                }
            };
            named.recall(&self.last, &self.own.borrow());
            let (told, first) = tokio::sync::oneshot::channel();
            let keeping = keep(families, named, Rc::clone(&self.own), self.last.clone(), told);
            self.tasks.insert(id, spawn_local(keeping));
            firsts.push(first);
        }
        before.values().for_each(JoinHandle::abort);
        self.last.retain(&snapshot.groups().flat_map(|group| hosts(group)).collect());
        if !firsts.is_empty() && self.keeping.is_none() {
            self.keeping = Some(spawn_local(self.last.clone().keep()));
        }
        let all = async {
            for answer in firsts {
                // A task that ended early has logged why.
                let _ = answer.await;
            }
        };
        if timeout(patience, all).await.is_err() {
            warn!(
                "some names have no answer yet: until it comes their backends are where they \
                 were last, or down where nothing is known of that"
            );
        }
        Ok(())
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.tasks.values().for_each(JoinHandle::abort);
        self.hand_over();
    }
}

fn resolver(servers: &[SocketAddr], family: LookupIpStrategy) -> Result<TokioResolver, String> {
    let cannot = |error| format!("name servers: {error}: name some as `servers` under `[dns]`");
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio().map_err(cannot)?
    } else {
        let servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
                .map(|mut connection| {
                    connection.port = server.port();
                    connection
                })
                .into();
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    builder.options_mut().ip_strategy = family;
    // Else hickory answers from what it keeps for as long as the zone's SOA says.
    builder.options_mut().negative_max_ttl = Some(RETRY);
    builder.build().map_err(cannot)
}

/// Looks one name up for as long as the process runs.
async fn keep(
    resolver: Rc<[TokioResolver; 2]>,
    named: Named,
    own: Rc<RefCell<Vec<SocketAddr>>>,
    known: LastAddresses,
    told: tokio::sync::oneshot::Sender<()>,
) {
    let Named { game, group, backend } = &named;
    let (name, address) = (&*backend.config.name, &backend.config.address);
    let BackendAddress::Name { host, port } = address else { return };
    let mut told = Some(told);
    // A dot at the end: the name is whole, no search list is tried on it.
    let asked = if host.contains('.') { format!("{host}.") } else { host.to_string() };
    loop {
        let [v4, v6] = &*resolver;
        let (v4, v6) = tokio::join!(v4.lookup_ip(asked.as_str()), v6.lookup_ip(asked.as_str()));
        let last = backend.addresses();
        let mut addresses = Vec::new();
        let mut again: Option<Instant> = None;
        let mut failed = false;
        for (answer, is_ipv4) in [(v4, true), (v6, false)] {
            match answer {
                Ok(answer) => {
                    addresses.extend(answer.iter().map(|ip| SocketAddr::new(ip, *port)));
                    let expires = Instant::from_std(answer.valid_until());
                    again = Some(again.map_or(expires, |again| again.min(expires)));
                }
                Err(error) if error.is_no_records_found() => {}
                Err(error) => {
                    warn!(%game, %group, backend = name, %error, "name not resolved; the last addresses stay");
                    failed = true;
                    addresses.extend(last.iter().filter(|a| a.is_ipv4() == is_ipv4));
                }
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        if !failed {
            known.note(host, addresses.iter().map(SocketAddr::ip).collect());
        }
        addresses.retain(|address| !leads_to_us(*address, &own.borrow()));
        named.publish(addresses, told.is_some());
        let again = again.filter(|_| !failed).map_or(Instant::now() + RETRY, |at| {
            at.clamp(Instant::now() + SHORTEST, Instant::now() + LONGEST)
        });
        if let Some(told) = told.take() {
            let _ = told.send(());
        }
        sleep_until(again).await;
    }
}

/// A backend that is named.
#[derive(Debug)]
struct Named {
    game: Arc<str>,
    group: Arc<str>,
    backend: Backend,
}

/// The names in a group.
fn hosts(group: &Group) -> impl Iterator<Item = &str> {
    group.backends.iter().filter_map(|backend| match &backend.config.address {
        BackendAddress::Name { host, .. } => Some(&**host),
        BackendAddress::Ip(_) => None,
    })
}

/// Those of a group.
fn named(group: &Group) -> impl Iterator<Item = Named> {
    let is_named =
        |backend: &&Backend| matches!(backend.config.address, BackendAddress::Name { .. });
    group.backends.iter().filter(is_named).map(|backend| Named {
        game: Arc::clone(&group.game),
        group: Arc::clone(&group.config.name),
        backend: backend.clone(),
    })
}

impl Named {
    /// Begins with what was known last, where nothing is known yet.
    fn recall(&self, last: &LastAddresses, own: &[SocketAddr]) {
        let BackendAddress::Name { host, port } = &self.backend.config.address else { return };
        if !self.backend.addresses().is_empty() {
            return;
        }
        let known = last.of(host).into_iter().map(|ip| SocketAddr::new(ip, *port));
        let known: Vec<SocketAddr> = known.filter(|one| !leads_to_us(*one, own)).collect();
        if !known.is_empty() {
            self.backend.set_addresses(known);
        }
    }

    /// From now on it is there. What is as before is not told, unless it is the
    /// `first` that is heard.
    fn publish(&self, addresses: Vec<SocketAddr>, first: bool) {
        let Named { game, group, backend } = self;
        let name = &*backend.config.name;
        let same = *backend.addresses() == addresses;
        if addresses.is_empty() && (first || !same) {
            warn!(%game, %group, backend = name, "the name has no address: the backend is down");
        } else if !same {
            info!(%game, %group, backend = name, ?addresses, "resolved");
        }
        if !same {
            backend.set_addresses(addresses);
        }
    }
}

/// A name that resolves to one of our own sockets would send requests in a
/// circle.
fn leads_to_us(address: SocketAddr, own: &[SocketAddr]) -> bool {
    own.iter().any(|own| {
        own.port() == address.port()
            && (own.ip() == address.ip()
                || (own.ip().is_unspecified()
                    && (address.ip().is_loopback() || address.ip().is_unspecified())))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use tokio::runtime::{Builder, LocalOptions};

    use super::*;
    use crate::config;
    use crate::policy::sticky::KeyRing;

    const DROP_IN: &str = "[[listener]]\ndomain = \"a.test\"\nport = 8080\nprotocol = \"http\"\n\
        group = \"web\"\n\n[group.web]\nbackends = [\"web.internal:80\", \"10.0.0.1:80\"]\n";

    /// On a clock of the test's own: how long a name server that says nothing is
    /// waited for.
    #[test]
    fn a_silent_name_server_is_not_waited_for_longer_than_that() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("listeners.d")).unwrap();
        std::fs::write(dir.path().join("listeners.d/a.toml"), DROP_IN).unwrap();
        let config = config::load(dir.path()).config.unwrap();
        let (snapshot, errors) = Snapshot::build(config, KeyRing::new(Vec::new()), None);
        assert!(errors.is_empty());
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = silent.local_addr().unwrap();
        let clock = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build_local(LocalOptions::default())
            .unwrap();
        clock.block_on(async {
            for patience in [UNSERVED, WHILE_SERVED] {
                let last = LastAddresses::load(dir.path());
                let admin = SocketAddr::from(([127, 0, 0, 1], 1));
                let mut resolver = Resolver::new(&[server], admin, last);
                let begun = Instant::now();
                resolver.follow(&snapshot, &[], patience).await.unwrap();
                let waited = begun.elapsed();
                assert!(waited >= patience && waited < patience + Duration::from_millis(10));
                // It was asked, and is asked on.
                assert_eq!(resolver.tasks.len(), 1);
                assert!(resolver.tasks.values().all(|task| !task.is_finished()));
            }
        });
    }
}
