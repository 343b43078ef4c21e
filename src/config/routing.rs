//! From a host and a path to a listener and its rule: built of the model and
//! decided in one place, for requests, for `explain` and for `[[expect]]`.

use std::fmt;
use std::net::IpAddr;

use super::model::{Listener, Protocol, Redirect, RedirectTarget, Rule};
use crate::policy::route::{Domain, HostTable, PathError, PathTable, normalize_path};

/// Why no rule of a listener takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// `allow` and `deny` keep the client out.
    Denied,
    /// CONNECT and TRACE are not served.
    Method,
    /// The path means nothing, or leads out.
    Path(PathError),
    /// The path begins with no rule's.
    NoRule,
}

impl NoRoute {
    /// The status that the client gets.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            NoRoute::Path(_) => 400,
            NoRoute::Denied => 403,
            NoRoute::NoRule => 404,
            NoRoute::Method => 405,
        }
    }
}

impl fmt::Display for NoRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoRoute::Denied => f.write_str("`allow` and `deny` keep the client out"),
            NoRoute::Method => f.write_str("CONNECT and TRACE are not served"),
            NoRoute::Path(error) => error.fmt(f),
            NoRoute::NoRule => f.write_str("no rule takes the path"),
        }
    }
}

impl Listener {
    /// Gives its domains on a port, and the default if it is that, to `owner`.
    pub fn claim<T: Clone>(&self, hosts: &mut HostTable<T>, owner: &T) {
        // The configuration was checked: nobody owns these names there yet.
        for domain in &self.domains {
            hosts.insert(domain, owner.clone());
        }
        if self.default {
            hosts.set_default(owner.clone());
        }
    }

    /// The domain of its own by which it answers for a host; `None`: it does not,
    /// or as the default.
    #[must_use]
    pub fn domain_of(&self, host: &str) -> Option<&Domain> {
        // The exact one comes first, then the longest.
        let rank = |domain: &&Domain| match domain {
            Domain::Exact(_) => usize::MAX,
            Domain::Wildcard(parent) => parent.len(),
        };
        self.domains.iter().filter(|domain| domain.covers(host)).max_by_key(rank)
    }

    /// Path prefix → place in [`Listener::rules`].
    ///
    /// # Errors
    /// The place of a rule whose path already stood before it.
    pub fn rule_table(&self) -> Result<PathTable<usize>, usize> {
        let rules = self.rules.iter().enumerate();
        PathTable::build(rules.map(|(at, rule)| (rule.path.clone().into_bytes(), at)).collect())
    }

    /// The place of the rule that takes a request, by the listener's
    /// [`rule_table`](Self::rule_table). Without a `client` nobody is kept out.
    /// `serves`: its method is one that is served.
    ///
    /// # Errors
    /// Why none does.
    pub fn route(
        &self,
        table: &PathTable<usize>,
        client: Option<IpAddr>,
        serves: bool,
        target: &[u8],
    ) -> Result<usize, NoRoute> {
        if !self.access.is_open() && client.is_some_and(|client| !self.access.permits(client)) {
            return Err(NoRoute::Denied);
        }
        if !serves {
            return Err(NoRoute::Method);
        }
        let mut scratch = Vec::new();
        let path = matched_path(target, &mut scratch).map_err(NoRoute::Path)?;
        table.find(path).copied().ok_or(NoRoute::NoRule)
    }
}

/// Why a rule does not take a path that `winner` takes, if any does.
#[must_use]
pub fn lost_because(rule: &Rule, path: &[u8], winner: Option<&Rule>) -> String {
    let prefix = rule.path.as_bytes();
    if path.starts_with(prefix) {
        return match winner {
            Some(winner) => format!("`{}` is longer", winner.path),
            None => "it was not asked".to_owned(),
        };
    }
    match prefix.split_last() {
        Some((b'/', bare)) if bare == path => "the path does not end in `/`".to_owned(),
        _ => "the path does not begin with it".to_owned(),
    }
}

/// The copy of a request's target that rules are matched on.
///
/// # Errors
/// It is 400.
pub fn matched_path<'a>(target: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], PathError> {
    match target.first() {
        Some(b'/') => normalize_path(target, scratch),
        // `OPTIONS *`, or an absolute target without a path.
        _ => Ok(b"/"),
    }
}

impl Redirect {
    /// `Location` for a request to this authority.
    #[must_use]
    pub fn location(&self, authority: &[u8], path_and_query: &[u8]) -> Vec<u8> {
        let mut location = Vec::new();
        match &self.to {
            RedirectTarget::Url(url) => location.extend_from_slice(url.as_bytes()),
            RedirectTarget::SameHost { protocol, port } => {
                let (scheme, own) = match protocol {
                    Protocol::Http => ("http", 80),
                    Protocol::Https => ("https", 443),
                };
                location.extend_from_slice(scheme.as_bytes());
                location.extend_from_slice(b"://");
                location.extend_from_slice(without_port(authority));
                if *port != own {
                    location.extend_from_slice(format!(":{port}").as_bytes());
                }
                if !path_and_query.starts_with(b"/") {
                    location.push(b'/');
                }
                if path_and_query != b"*" {
                    location.extend_from_slice(path_and_query);
                }
            }
        }
        location
    }
}

/// The host of an authority, without its port.
fn without_port(authority: &[u8]) -> &[u8] {
    // The colons inside an IPv6 literal are followed by its bracket.
    let colon = authority.iter().rposition(|byte| *byte == b':');
    let bracket = authority.iter().rposition(|byte| *byte == b']');
    match colon {
        Some(colon) if bracket.is_none_or(|bracket| bracket < colon) => {
            authority.get(..colon).unwrap_or_default()
        }
        _ => authority,
    }
}
