//! A game as requests see it: its listeners with their routing tables, and its
//! groups. Built anew when its drop-in changed, and only then.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::{Group, Identity, StickyMode};
use crate::config::{self, Action, Retry, RetryKeys};
use crate::policy::route::PathTable;
use crate::policy::sticky::KeyRing;
use crate::policy::sticky::cookies::CookieNames;
use crate::telemetry::counts::{Lanes, Requests};
use crate::telemetry::line;

/// A drop-in that serves.
#[derive(Debug)]
pub struct Game {
    /// What the drop-in says.
    pub config: Arc<config::Game>,
    /// In the order written.
    pub listeners: Vec<Arc<Listener>>,
    /// In the order of their names.
    pub groups: Vec<Arc<Group>>,
    /// What clients met outside of its groups.
    pub requests: Arc<Lanes<Requests>>,
}

/// A listener with its routing table.
#[derive(Debug)]
pub struct Listener {
    /// The drop-in it stands in.
    pub game: Arc<str>,
    /// Its first domain, as logs name it; `default` where it has none.
    pub name: Box<str>,
    /// Its settings.
    pub config: Arc<config::Listener>,
    /// Path prefix → index into [`Listener::rules`].
    pub paths: PathTable<usize>,
    /// In the order written.
    pub rules: Vec<Rule>,
    /// For `https`.
    pub identity: Option<Arc<Identity>>,
    /// The cookies of its sticky groups, which no backend gets to see as
    /// clients send them.
    pub cookies: CookieNames,
    /// The game's.
    pub requests: Arc<Lanes<Requests>>,
    /// How the access log names it, for requests that no rule takes.
    pub place: Box<str>,
}

/// A rule, its group resolved.
#[derive(Debug)]
pub struct Rule {
    /// Its settings.
    pub config: Arc<config::Rule>,
    /// For [`Action::Forward`].
    pub group: Option<Arc<Group>>,
    /// Its own `retry` over the group's, where it has one.
    pub retry: Option<Retry>,
    /// How the access log names it.
    pub place: Box<str>,
}

/// A valid configuration that can't be served after all, for a reason that no
/// reading of it could know.
#[derive(Debug)]
pub struct BuildError {
    game: Arc<str>,
    line: usize,
    reason: String,
}

impl BuildError {
    /// Whose it is.
    #[must_use]
    pub fn game(&self) -> &str {
        &self.game
    }

    /// The line of its drop-in that is to blame.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// What is wrong.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.toml:{}: {}", self.game, self.line, self.reason)
    }
}

impl std::error::Error for BuildError {}

impl Game {
    /// `before`: the same game until now. What it knows of backends that stay,
    /// and identities that are the same, are carried over.
    pub(super) fn build(
        config: &Arc<config::Game>,
        secrets: &KeyRing,
        before: Option<&Game>,
    ) -> Result<Game, BuildError> {
        let name = &config.name;
        let error = |line, reason| BuildError { game: Arc::clone(name), line, reason };
        let groups_before = before.map(|game| game.groups.as_slice()).unwrap_or_default();
        let known: HashMap<&str, &Arc<Group>> =
            groups_before.iter().map(|group| (&*group.config.name, group)).collect();
        let mut groups = Vec::with_capacity(config.groups.len());
        for group in &config.groups {
            let before = known.get(&*group.name).map(|group| &***group);
            let built = Group::new(Arc::clone(name), Arc::clone(group), secrets, before);
            groups.push(Arc::new(built.map_err(|reason| error(group.line, reason))?));
        }
        let requests = before.map(|game| Arc::clone(&game.requests)).unwrap_or_default();
        let identities = before.map(|game| game.listeners.as_slice()).unwrap_or_default();
        let mut listeners = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            let identity = identity(listener, identities);
            let identity = identity.map_err(|reason| error(listener.line, reason))?;
            let (game, config) = (Arc::clone(name), Arc::clone(listener));
            let built = Listener::new(game, config, &groups, identity, Arc::clone(&requests));
            listeners.push(Arc::new(built.map_err(|reason| error(listener.line, reason))?));
        }
        Ok(Game { config: Arc::clone(config), listeners, groups, requests })
    }
}

/// The one that serves already, where nothing of it changed: TLS sessions that
/// began with it are resumed with it.
fn identity(
    config: &config::Listener,
    before: &[Arc<Listener>],
) -> Result<Option<Arc<Identity>>, String> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let kept = before
        .iter()
        .filter(|listener| listener.config.domains == config.domains)
        .filter(|listener| listener.config.ports == config.ports)
        .filter(|listener| listener.config.http2 == config.http2)
        .find(|listener| listener.config.tls.as_ref().is_some_and(|before| before.is_same(tls)))
        .and_then(|listener| listener.identity.clone());
    match kept {
        Some(kept) => Ok(Some(kept)),
        None => Identity::new(tls, config.http2).map(|identity| Some(Arc::new(identity))),
    }
}

impl Listener {
    fn new(
        game: Arc<str>,
        config: Arc<config::Listener>,
        groups: &[Arc<Group>],
        identity: Option<Arc<Identity>>,
        requests: Arc<Lanes<Requests>>,
    ) -> Result<Listener, String> {
        let name = config.domains.first().map_or_else(|| "default".to_owned(), ToString::to_string);
        let name = name.into_boxed_str();
        let rule = |rule| Rule::new(rule, groups, &game, &name);
        let rules: Vec<Rule> = config.rules.iter().map(rule).collect();
        let paths =
            config.rule_table().map_err(|index| format!("rule {} repeats a path", index + 1))?;
        let cookies = cookies(&rules);
        let place = line::place(&game, Some(&name), None, None);
        Ok(Listener { game, name, config, paths, rules, identity, cookies, requests, place })
    }
}

impl Rule {
    fn new(config: &Arc<config::Rule>, groups: &[Arc<Group>], game: &str, listener: &str) -> Rule {
        let group = match config.action {
            Action::Forward(group) => groups.get(group).cloned(),
            _ => None,
        };
        let own = config.retry;
        let retry = group
            .as_ref()
            .filter(|_| own != RetryKeys::default())
            .map(|group| own.over(&group.config.retry));
        let name = group.as_ref().map(|group| &*group.config.name);
        let place = line::place(game, Some(listener), Some(&config.path), name);
        Rule { config: Arc::clone(config), group, retry, place }
    }
}

/// The cookies of the sticky groups these rules lead to.
fn cookies(rules: &[Rule]) -> CookieNames {
    let mut names = CookieNames::default();
    let groups = rules.iter().filter_map(|rule| rule.group.as_deref());
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
