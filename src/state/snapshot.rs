//! The immutable view a request is served by, built from a [`Config`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{collections::BTreeMap, fmt};

use arc_swap::ArcSwap;

use super::{Group, Identity, StickyMode};
use crate::config::{self, Action, Config, Process, Protocol, Retry, RetryKeys};
use crate::policy::route::{HostTable, PathTable};
use crate::policy::sticky::KeyRing;
use crate::policy::sticky::cookies::CookieNames;

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
    /// Sorted by number.
    pub ports: Vec<Port>,
    /// All listeners of all games.
    pub listeners: Vec<Listener>,
    /// All groups of all games.
    pub groups: Vec<Group>,
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
    /// Domain → index into [`Snapshot::listeners`].
    pub hosts: HostTable<usize>,
    /// The `X-Forwarded-Proto` line, the same for every request on the port.
    pub forwarded_proto: Vec<u8>,
    /// The `X-Forwarded-Port` line likewise.
    pub forwarded_port: Vec<u8>,
}

/// A listener with its routing table.
#[derive(Debug)]
pub struct Listener {
    /// The drop-in it stands in.
    pub game: Arc<str>,
    /// Its settings.
    pub config: config::Listener,
    /// Path prefix → index into [`Listener::rules`].
    pub paths: PathTable<usize>,
    /// In the order written.
    pub rules: Vec<Rule>,
    /// For `https`.
    pub identity: Option<Arc<Identity>>,
    /// The cookies of its sticky groups, which no backend gets to see as
    /// clients send them.
    pub cookies: CookieNames,
}

/// A rule, its group resolved.
#[derive(Debug)]
pub struct Rule {
    /// Its settings.
    pub config: config::Rule,
    /// For [`Action::Forward`]: index into [`Snapshot::groups`].
    pub group: Option<usize>,
    /// Its own `retry` over the group's, where it has one.
    pub retry: Option<Retry>,
}

/// A valid configuration that can't be served after all.
#[derive(Debug)]
pub struct BuildError {
    game: Arc<str>,
    line: usize,
    reason: String,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.toml:{}: {}", self.game, self.line, self.reason)
    }
}

impl std::error::Error for BuildError {}

impl Snapshot {
    /// Builds the view of a configuration.
    ///
    /// # Errors
    /// When rustls refuses a listener's TLS settings.
    pub fn build(
        config: Config,
        generation: u64,
        secrets: &KeyRing,
    ) -> Result<Snapshot, BuildError> {
        let mut snapshot = Snapshot {
            generation,
            process: config.process,
            ports: Vec::new(),
            listeners: Vec::new(),
            groups: Vec::new(),
        };
        let mut ports = BTreeMap::new();
        for game in config.games {
            let first_group = snapshot.groups.len();
            for group in game.groups {
                let line = group.line;
                let group = Group::new(Arc::clone(&game.name), group, secrets)
                    .map_err(|reason| BuildError { game: Arc::clone(&game.name), line, reason })?;
                snapshot.groups.push(group);
            }
            for listener in game.listeners {
                let mut listener = Listener::new(Arc::clone(&game.name), listener, first_group)?;
                listener.cookies = snapshot.cookies_of(&listener.rules);
                for rule in &mut listener.rules {
                    let group = rule.group.and_then(|at| snapshot.groups.get(at));
                    let own = rule.config.retry;
                    rule.retry = group
                        .filter(|_| own != RetryKeys::default())
                        .map(|group| own.over(&group.config.retry));
                }
                let index = snapshot.listeners.len();
                for number in &listener.config.ports {
                    ports
                        .entry(*number)
                        .or_insert_with(|| Port::new(*number, &listener.config))
                        .add(&listener.config, index);
                }
                snapshot.listeners.push(listener);
            }
        }
        snapshot.ports = ports.into_values().collect();
        Ok(snapshot)
    }

    /// The cookies of the sticky groups these rules lead to.
    fn cookies_of(&self, rules: &[Rule]) -> CookieNames {
        let mut names = CookieNames::default();
        let groups = rules.iter().filter_map(|rule| self.groups.get(rule.group?));
        for sticky in groups.filter_map(|group| group.sticky.as_ref()) {
            let list = match sticky.mode {
                StickyMode::Insert { .. } => &mut names.inserted,
                StickyMode::Rewrite => &mut names.rewritten,
            };
            if !list.contains(&sticky.name) {
                list.push(sticky.name.clone());
            }
        }
        names
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

    fn add(&mut self, listener: &config::Listener, index: usize) {
        // The configuration was checked: nobody owns these names on this port yet.
        for domain in &listener.domains {
            self.hosts.insert(domain, index);
        }
        if listener.default {
            self.hosts.set_default(index);
        }
    }
}

impl Listener {
    fn new(
        game: Arc<str>,
        mut config: config::Listener,
        first_group: usize,
    ) -> Result<Listener, BuildError> {
        let line = config.line;
        let error = |reason: String| BuildError { game: Arc::clone(&game), line, reason };
        let rules: Vec<Rule> = std::mem::take(&mut config.rules)
            .into_iter()
            .map(|rule| Rule {
                group: match rule.action {
                    Action::Forward(group) => Some(first_group + group),
                    _ => None,
                },
                config: rule,
                retry: None,
            })
            .collect();
        let paths = rules
            .iter()
            .enumerate()
            .map(|(index, rule)| (rule.config.path.clone().into_bytes(), index))
            .collect();
        let paths = PathTable::build(paths)
            .map_err(|index| error(format!("rule {} repeats a path", index + 1)))?;
        let identity = match &config.tls {
            None => None,
            Some(tls) => Some(Arc::new(Identity::new(tls, config.http2).map_err(error)?)),
        };
        Ok(Listener { game, config, paths, rules, identity, cookies: CookieNames::default() })
    }
}
