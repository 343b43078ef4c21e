//! A backend group as requests see it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rustls::ClientConfig;

use super::admin::Order;
use super::gate::{Gates, Rules, Seen, Views};
use super::health::{Health, Replays};
use super::load::Load;
use super::probed::Probes;
use super::slot::Slot;
use super::sticky::Sticky;
use super::upstream;
use crate::config::{self, Upstream};
use crate::policy::balance::{Balance, Member, Schedule, key_hash};
use crate::policy::health::{Millis, PassiveLimits, Probed};
use crate::policy::sticky::{KeyRing, Standing};
use crate::telemetry::counts::{Attempts, Lanes, Requests};

/// A group of the snapshot: its settings, its backends, and what the balance
/// computed of them.
#[derive(Debug)]
pub struct Group {
    /// The drop-in it stands in.
    pub game: Arc<str>,
    /// Its settings.
    pub config: Arc<config::Group>,
    /// Its backends, in the order written.
    pub backends: Vec<Backend>,
    /// Computed once for the balance.
    pub schedule: Schedule,
    /// For `https`: what its handshakes use.
    pub tls: Option<Arc<ClientConfig>>,
    /// For a sticky group.
    pub sticky: Option<Sticky>,
    /// Where workers keep what they know of it.
    pub slot: Slot,
    pub(super) replays: Arc<Replays>,
    /// Somebody asks for the load of its backends: `wlc`, `p2c`, or a limit.
    counts_load: bool,
    /// What its clients met.
    pub requests: Arc<Lanes<Requests>>,
    pub(super) gates: Gates,
    /// A backend has `max_connections`.
    pub(super) has_caps: bool,
}

impl Group {
    /// `before`: the same group until now; what it knows of backends that stay is
    /// carried over.
    pub(super) fn new(
        game: Arc<str>,
        config: Arc<config::Group>,
        secrets: &KeyRing,
        before: Option<&Group>,
    ) -> Result<Group, String> {
        // Reached in another way they are others: with another authority to
        // believe no old connection is good.
        let alike = before.filter(|before| config.protocol.is_same(&before.config.protocol));
        let tls = match (&config.protocol, alike.and_then(|before| before.tls.as_ref())) {
            (Upstream::Https(_), Some(tls)) => Some(Arc::clone(tls)),
            (Upstream::Https(tls), None) => Some(upstream::client_config(tls)?),
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
        let has_caps = config.backends.iter().any(|backend| backend.max_connections.is_some());
        let counts_load = has_caps || matches!(config.balance, Balance::Wlc | Balance::P2c);
        let backends = backends(&config, alike);
        let gates = Gates::new(backends.len());
        for (place, backend) in backends.iter().enumerate() {
            let rules = Rules {
                admin: backend.config.state,
                limits: backend.limits,
                probed: config.probe.is_some(),
            };
            let vitals = &backend.vitals;
            vitals.views.add(gates.view(place, rules), || vitals.seen());
        }
        let sticky = Sticky::new(&game, &config, secrets);
        let replays = before.map(|before| Arc::clone(&before.replays)).unwrap_or_default();
        let slot = Slot::of_group();
        Ok(Group {
            game,
            config,
            backends,
            schedule,
            tls,
            sticky,
            slot,
            replays,
            counts_load,
            requests: before.map(|before| Arc::clone(&before.requests)).unwrap_or_default(),
            gates,
            has_caps,
        })
    }

    /// Whether requests in flight have to be counted.
    #[must_use]
    pub fn counts_load(&self) -> bool {
        self.counts_load
    }
}

fn backends(config: &config::Group, before: Option<&Group>) -> Vec<Backend> {
    let known: HashMap<_, _> = before
        .iter()
        .flat_map(|before| &before.backends)
        .map(|backend| ((&*backend.config.name, &backend.config.address), &backend.vitals))
        .collect();
    let kept = |backend: &config::Backend| known.get(&(&*backend.name, &backend.address)).copied();
    // One that is added shows first that it can serve, while others do. Where
    // there is no other a reload must not be an outage, as a start must not.
    let others_serve = config.backends.iter().any(|backend| kept(backend).is_some());
    let fresh = || if others_serve { Probed::added() } else { Probed::at_start() };
    let probes_anew = before.is_none_or(|before| before.config.probe.is_none());
    let alone = config.backends.len() == 1;
    let load = Load::of_group(config.backends.len());
    let backend = |(place, backend): (usize, &config::Backend)| {
        let vitals = match kept(backend) {
            Some(vitals) => Arc::clone(vitals),
            None => Arc::new(Vitals::new(backend, load(place), fresh())),
        };
        if probes_anew && config.probe.is_some() && kept(backend).is_some() {
            vitals.probes.begin_anew();
            vitals.show();
        }
        Backend::new(Arc::new(backend.clone()), alone, vitals)
    };
    config.backends.iter().enumerate().map(backend).collect()
}

/// One server of a group. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Its settings.
    pub config: Arc<config::Backend>,
    /// Of `config`, what every pick asks for.
    max_connections: Option<u32>,
    pub(super) limits: PassiveLimits,
    /// The one in `vitals`: a pick asks for many.
    load: Load,
    pub(super) vitals: Arc<Vitals>,
}

/// What all workers know of a server, for as long as a group of the same name
/// has it under the same name and address.
#[derive(Debug)]
pub(super) struct Vitals {
    id: u64,
    /// Requests in flight over all workers, kept only where
    /// [`Group::counts_load`].
    load: Load,
    /// Open tunnels over all workers.
    tunnels: AtomicU32,
    /// A reload took it away.
    retired: AtomicBool,
    /// Written by the resolver for a name; else the one it was given.
    addresses: ArcSwap<Vec<SocketAddr>>,
    pub(super) health: Health,
    pub(super) probes: Probes,
    pub(super) views: Views,
    attempts: Lanes<Attempts>,
    pub(super) order: Order,
    /// Where workers count its requests in flight.
    slot: Slot,
}

impl Vitals {
    fn new(config: &config::Backend, load: Load, probed: Probed) -> Vitals {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Vitals {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            load,
            tunnels: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            addresses: ArcSwap::from_pointee(config.address.socket().into_iter().collect()),
            health: Health::default(),
            probes: Probes::new(probed),
            views: Views::default(),
            attempts: Lanes::default(),
            order: Order::default(),
            slot: Slot::of_backend(),
        }
    }

    /// Its gates show what is known of it.
    pub(super) fn show(&self) {
        self.views.show(|| self.seen());
    }

    fn seen(&self) -> Seen {
        Seen {
            fails: self.health.fails(),
            checked: self.health.checked(),
            down: self.probes.is_down(),
            awaited: self.probes.is_awaited(),
            ordered: self.order.get().map(|order| order.state),
        }
    }
}

impl Backend {
    /// `alone`: the only backend of its group is never ejected, for there is
    /// nobody else (nginx's single server).
    fn new(config: Arc<config::Backend>, alone: bool, vitals: Arc<Vitals>) -> Backend {
        let fail_timeout = Millis::try_from(config.fail_timeout.as_millis());
        let limits = PassiveLimits {
            max_fails: if alone { 0 } else { config.max_fails },
            fail_timeout: fail_timeout.unwrap_or(Millis::MAX),
        };
        let max_connections = config.max_connections;
        let load = vitals.load.clone();
        Backend { config, max_connections, limits, load, vitals }
    }

    /// Tells it from every other backend of this process's life; names the
    /// upstream connections kept for it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.vitals.id
    }

    /// What became of the attempts at it.
    #[must_use]
    pub fn attempts(&self) -> &Lanes<Attempts> {
        &self.vitals.attempts
    }

    /// Where workers count its requests in flight: nobody else's place for as long
    /// as anybody holds the backend.
    #[must_use]
    pub fn slot(&self) -> usize {
        self.vitals.slot.index
    }

    /// A reload took it away: requests that began before run to their end, and
    /// no connection to it is kept.
    pub fn retire(&self) {
        self.vitals.retired.store(true, Ordering::Relaxed);
    }

    /// Whether [`Backend::retire`] was called.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.vitals.retired.load(Ordering::Relaxed)
    }

    /// Where it can be reached now; none while its name does not resolve.
    #[must_use]
    pub fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.vitals.addresses.load_full()
    }

    /// It has an address.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        !self.vitals.addresses.load().is_empty()
    }

    /// Its name was resolved anew.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.vitals.addresses.store(Arc::new(addresses));
    }

    /// How it stands, whatever requests and probes found; see [`Group::standing`].
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { admin: self.admin_state(), full: self.is_full(), ..Standing::default() }
    }

    /// As many requests in flight as `max_connections` allows.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.max_connections.is_some_and(|max| self.load() >= max)
    }

    /// Requests in flight, where they are counted.
    #[must_use]
    pub fn load(&self) -> u32 {
        self.load.get()
    }

    /// Counts a request in. False, and nothing counted, when another worker
    /// took the last place since the pick.
    #[must_use]
    pub fn enter(&self) -> bool {
        let before = self.load.add();
        if self.max_connections.is_some_and(|max| before >= max) {
            self.leave();
            return false;
        }
        true
    }

    /// Open tunnels (WebSockets).
    #[must_use]
    pub fn tunnels(&self) -> u32 {
        self.vitals.tunnels.load(Ordering::Relaxed)
    }

    /// Counts a tunnel in.
    pub fn begin_tunnel(&self) {
        self.vitals.tunnels.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a tunnel out.
    pub fn end_tunnel(&self) {
        self.vitals.tunnels.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a request out that [`Backend::enter`] counted in.
    pub fn leave(&self) {
        self.load.sub();
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
        let vitals = Arc::new(Vitals::new(&config, Load::of_group(1)(0), Probed::at_start()));
        Backend::new(Arc::new(config), true, vitals)
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
