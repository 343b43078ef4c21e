//! A backend group as requests see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rustls::ClientConfig;

use super::health::{Health, Replays};
use super::probed::Probes;
use super::sticky::Sticky;
use super::upstream;
use crate::config::{self, Upstream};
use crate::policy::balance::{Balance, Member, Schedule, key_hash};
use crate::policy::health::Probed;
use crate::policy::sticky::{KeyRing, Standing};

/// A group of the snapshot: its settings, its backends, and what the balance
/// computed of them.
#[derive(Debug)]
pub struct Group {
    /// The drop-in it stands in.
    pub game: Arc<str>,
    /// Its settings.
    pub config: config::Group,
    /// Its backends, in the order written.
    pub backends: Vec<Arc<Backend>>,
    /// Computed once for the balance.
    pub schedule: Schedule,
    /// For `https`: what its handshakes use.
    pub tls: Option<Arc<ClientConfig>>,
    /// For a sticky group.
    pub sticky: Option<Sticky>,
    pub(super) replays: Replays,
    /// Somebody asks for the load of its backends: `wlc`, `p2c`, or a limit.
    counts_load: bool,
}

impl Group {
    pub(super) fn new(
        game: Arc<str>,
        config: config::Group,
        secrets: &KeyRing,
    ) -> Result<Group, String> {
        let tls = match &config.protocol {
            Upstream::Https(tls) => Some(upstream::client_config(tls)?),
            _ => None,
        };
        let members: Vec<Member> = config
            .backends
            .iter()
            .map(|backend| Member {
                weight: backend.weight,
                backup: backend.backup,
                seed: key_hash(backend.name.as_bytes()),
            })
            .collect();
        let schedule = Schedule::new(&config.balance, &members);
        let counts_load = matches!(config.balance, Balance::Wlc | Balance::P2c)
            || config.backends.iter().any(|backend| backend.max_connections.is_some());
        let alone = config.backends.len() == 1;
        let backend = |config: &config::Backend| Arc::new(Backend::new(config.clone(), alone));
        let backends = config.backends.iter().map(backend).collect();
        let sticky = Sticky::new(&game, &config, secrets);
        let replays = Replays::default();
        Ok(Group { game, config, backends, schedule, tls, sticky, replays, counts_load })
    }

    /// Whether requests in flight have to be counted.
    #[must_use]
    pub fn counts_load(&self) -> bool {
        self.counts_load
    }
}

/// One server of a group, shared by all workers.
#[derive(Debug)]
pub struct Backend {
    /// Its settings.
    pub config: config::Backend,
    /// Tells it from every other backend of this process's life; names the
    /// upstream connections kept for it.
    pub id: u64,
    /// Requests in flight over all workers, kept only where
    /// [`Group::counts_load`]. On a cache line of its own: every worker writes.
    load: Line<AtomicU32>,
    /// Open tunnels over all workers.
    tunnels: AtomicU32,
    /// Written by the resolver for a name; else the one it was given.
    addresses: ArcSwap<Vec<SocketAddr>>,
    pub(super) health: Health,
    pub(super) probes: Probes,
}

/// Keeps a value off its neighbours' cache lines (two, for the prefetcher).
#[derive(Debug)]
#[repr(align(128))]
struct Line<T>(T);

impl Backend {
    fn new(config: config::Backend, alone: bool) -> Backend {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let addresses = ArcSwap::from_pointee(config.address.socket().into_iter().collect());
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let health = Health::new(&config, alone);
        let (load, tunnels) = (Line(AtomicU32::new(0)), AtomicU32::new(0));
        // A start must not be an outage: it serves until its first verdict.
        let probes = Probes::new(Probed::at_start());
        Backend { config, id, load, tunnels, addresses, health, probes }
    }

    /// Where it can be reached now; none while its name does not resolve.
    #[must_use]
    pub fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.addresses.load_full()
    }

    /// Its name was resolved anew.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.addresses.store(Arc::new(addresses));
    }

    /// How it stands, whatever requests and probes found; see [`Group::standing`].
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { admin: self.config.state, full: self.is_full(), ..Standing::default() }
    }

    /// As many requests in flight as `max_connections` allows.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.config.max_connections.is_some_and(|max| self.load() >= max)
    }

    /// Requests in flight, where they are counted.
    #[must_use]
    pub fn load(&self) -> u32 {
        self.load.0.load(Ordering::Relaxed)
    }

    /// Counts a request in. False, and nothing counted, when another worker
    /// took the last place since the pick.
    #[must_use]
    pub fn enter(&self) -> bool {
        let before = self.load.0.fetch_add(1, Ordering::Relaxed);
        if self.config.max_connections.is_some_and(|max| before >= max) {
            self.leave();
            return false;
        }
        true
    }

    /// Open tunnels (WebSockets).
    #[must_use]
    pub fn tunnels(&self) -> u32 {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Counts a tunnel in.
    pub fn begin_tunnel(&self) {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a tunnel out.
    pub fn end_tunnel(&self) {
        self.tunnels.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a request out that [`Backend::enter`] counted in.
    pub fn leave(&self) {
        self.load.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AdminState;

    fn backend(max: Option<u32>) -> Backend {
        let config = config::Backend {
            name: "b".into(),
            address: config::BackendAddress::Ip(([127, 0, 0, 1], 1).into()),
            weight: 100,
            max_fails: 1,
            fail_timeout: std::time::Duration::from_secs(10),
            max_connections: max,
            backup: false,
            state: AdminState::Ready,
        };
        Backend::new(config, true)
    }

    #[test]
    fn the_last_place_is_given_once() {
        let backend = backend(Some(2));
        assert!(backend.enter() && backend.enter());
        assert!(!backend.enter() && !backend.standing().takes_new());
        assert_eq!(backend.load(), 2);
        backend.leave();
        assert!(backend.standing().takes_new() && backend.enter());
    }
}
