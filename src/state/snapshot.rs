//! The immutable view a request is served by, built from a [`Config`].

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::{BuildError, Game, Group, Listener};
use crate::config::{self, Config, Process, Protocol};
use crate::policy::route::HostTable;
use crate::policy::sticky::KeyRing;
use crate::telemetry::counts::{Lanes, Requests};

/// Holds the current snapshot. Readers keep what they loaded; it is only ever
/// replaced as a whole.
#[derive(Debug)]
pub struct Live {
    current: ArcSwap<Snapshot>,
    generation: AtomicU64,
}

impl Live {
    /// Holds its first snapshot.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Live {
        let generation = AtomicU64::new(snapshot.generation);
        Live { current: ArcSwap::from_pointee(snapshot), generation }
    }

    /// The current snapshot.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Every request that begins from now on is served by this one.
    pub fn replace(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        self.current.store(Arc::new(snapshot));
        // Whoever sees the number finds what it stands for.
        self.generation.store(generation, Ordering::Release);
    }

    /// The number of the current snapshot: cheap to ask before each request.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the snapshots of this process, from 1.
    pub generation: u64,
    /// `lockgate.toml`.
    pub process: Process,
    /// What signs and verifies sticky cookies.
    pub secrets: KeyRing,
    /// Sorted by number.
    pub ports: Vec<Port>,
    /// In lexical order of their files.
    pub games: Vec<Arc<Game>>,
    /// What clients met that asked for no game of ours.
    pub requests: Arc<Lanes<Requests>>,
}

/// A listening port and who is served on it.
#[derive(Debug)]
pub struct Port {
    /// The port's number.
    pub number: u16,
    /// HTTP or HTTPS.
    pub protocol: Protocol,
    /// `None` = all addresses.
    pub address: Option<IpAddr>,
    /// Who owns which domain.
    pub hosts: HostTable<Arc<Listener>>,
    /// The `X-Forwarded-Proto` line, the same for every request on the port.
    pub forwarded_proto: Vec<u8>,
    /// The `X-Forwarded-Port` line likewise.
    pub forwarded_port: Vec<u8>,
}

impl Snapshot {
    /// Builds the view of a configuration. Games that are the same as `before`
    /// are taken from there as they are, the others carry over what they can.
    /// With the games that cannot be served come the reasons; they stay as they
    /// were before, if they were.
    #[must_use]
    pub fn build(
        config: Config,
        secrets: KeyRing,
        before: Option<&Snapshot>,
    ) -> (Snapshot, Vec<BuildError>) {
        let same_secrets = before.is_some_and(|before| before.secrets == secrets);
        let known: HashMap<&str, &Arc<Game>> = before
            .iter()
            .flat_map(|before| &before.games)
            .map(|game| (&*game.config.name, game))
            .collect();
        let mut errors = Vec::new();
        let mut games = Vec::with_capacity(config.games.len());
        for game in &config.games {
            let before = known.get(&*game.name).copied();
            if let Some(same) = before.filter(|_| same_secrets)
                && Arc::ptr_eq(&same.config, game)
            {
                games.push(Arc::clone(same));
                continue;
            }
            match Game::build(game, &secrets, before.map(|game| &**game)) {
                Ok(game) => games.push(Arc::new(game)),
                Err(error) => {
                    errors.push(error);
                    games.extend(before.cloned());
                }
            }
        }
        let mut ports = BTreeMap::new();
        for listener in games.iter().flat_map(|game| &game.listeners) {
            for number in &listener.config.ports {
                ports
                    .entry(*number)
                    .or_insert_with(|| Port::new(*number, &listener.config))
                    .add(listener);
            }
        }
        let generation = before.map_or(1, |before| before.generation + 1);
        let ports = ports.into_values().collect();
        let requests = before.map(|before| Arc::clone(&before.requests)).unwrap_or_default();
        let process = config.process;
        (Snapshot { generation, process, secrets, ports, games, requests }, errors)
    }

    /// All groups of all games.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.games.iter().flat_map(|game| &game.groups)
    }

    /// All listeners of all games.
    pub fn listeners(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.games.iter().flat_map(|game| &game.listeners)
    }

    /// The port of that number.
    #[must_use]
    pub fn port(&self, number: u16) -> Option<&Port> {
        let at = self.ports.binary_search_by_key(&number, |port| port.number).ok()?;
        self.ports.get(at)
    }
}

impl Port {
    fn new(number: u16, listener: &config::Listener) -> Port {
        let protocol = listener.protocol();
        let scheme = match protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
        };
        Port {
            number,
            protocol,
            address: listener.address,
            hosts: HostTable::new(),
            forwarded_proto: format!("X-Forwarded-Proto: {scheme}\r\n").into_bytes(),
            forwarded_port: format!("X-Forwarded-Port: {number}\r\n").into_bytes(),
        }
    }

    fn add(&mut self, listener: &Arc<Listener>) {
        listener.config.claim(&mut self.hosts, listener);
    }
}
