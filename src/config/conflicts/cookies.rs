//! Two groups whose sticky cookies have one name under one host: a client that
//! visits both would lose one of its bindings. Browsers tell hosts apart and
//! not ports, so this is asked of all listeners and all files together.
//!
//! A cookie stands under the domains of the listeners that lead to its group;
//! one with `Domain` under that and all names below it. `default = true` counts
//! as the hosts that nobody names. Two groups that rewrite may have the same
//! name: the application owns it, and sees to it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::entry::Entry;
use super::names::reversed;
use super::{File, Owner, Taken};
use crate::config::drop_in::DropIn;
use crate::config::listener::Claims;
use crate::config::model::Listener;
use crate::config::sticky::{LONGEST_NAME, StickyPlace, leads_to, lies_in};
use crate::policy::route::Domain;

/// As for a domain and a port: a file is small, but a product need not be.
const MOST_PAIRS: usize = 100_000;

/// Who has which cookie name where.
#[derive(Clone, Debug, Default)]
pub(super) struct CookieNames {
    by_name: HashMap<Arc<str>, Places>,
}

/// All that have one name, by [`reversed`] host.
#[derive(Clone, Debug, Default)]
struct Places {
    exact: ByHost,
    wildcards: ByHost,
    /// By their `Domain`.
    wide: ByHost,
    default: Vec<Claim>,
}

type ByHost = BTreeMap<String, Vec<Claim>>;

/// A group's cookie, as one of its listeners sets it.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    owner: Owner,
    group: Arc<str>,
    inserts: bool,
    ports: Arc<[u16]>,
}

/// Hosts under which a cookie stands; names are [`reversed`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Hosts {
    Exact(String),
    /// All below the name.
    Wildcard(String),
    /// The name and all below it.
    Wide(String),
    /// Those that nobody names.
    Default,
}

impl Taken {
    /// Compares the sticky cookies of a file with each other and with those of
    /// the files before it.
    pub(super) fn check_cookies(&mut self, drop_in: &DropIn) {
        let mut places: Vec<(usize, &StickyPlace)> = drop_in
            .sticky
            .iter()
            .enumerate()
            .filter_map(|(at, place)| Some((at, place.as_ref()?)))
            .collect();
        // Of two in one file the later is told, and rather one that can be
        // renamed here than one whose name is the application's.
        places.sort_by_key(|(_, place)| (place.inserts(), place.cookie.start));
        let listeners = || drop_in.game.listeners.iter().zip(&drop_in.claims);
        let mut pairs = 0_usize;
        let mut told = HashSet::new();
        for (at, place) in places {
            let name: Arc<str> = place.sticky.cookie.as_str().into();
            for (listener, claims) in listeners().filter(|(listener, _)| leads_to(listener, at)) {
                pairs = pairs.saturating_add(claims.domains.len());
                if pairs > MOST_PAIRS {
                    tell_too_many(drop_in, claims, pairs);
                    return;
                }
                let claim = Claim {
                    owner: self.owner(&drop_in.notes, &place.cookie),
                    group: Arc::clone(&place.group),
                    inserts: place.inserts(),
                    ports: listener.ports.as_slice().into(),
                };
                for hosts in hosts_of(listener, place) {
                    self.check_cookie(drop_in, place, &claim, &hosts, &mut told);
                    let name = Arc::clone(&name);
                    self.claim(Entry::Cookie(Box::new((name, hosts, claim.clone()))));
                }
            }
        }
    }

    fn check_cookie(
        &self,
        drop_in: &DropIn,
        place: &StickyPlace,
        claim: &Claim,
        hosts: &Hosts,
        told: &mut HashSet<(Arc<str>, File, Arc<str>)>,
    ) {
        let name = &place.sticky.cookie;
        let Some(places) = self.cookies.by_name.get(name.as_str()) else {
            return;
        };
        let collides = |other: &Claim| {
            let itself = other.owner.file == claim.owner.file && other.group == claim.group;
            !itself && (claim.inserts || other.inserts)
        };
        let mut found = self.overlaps(places, hosts, claim);
        let Some((host, other)) = found.find(|(_, other)| collides(other)) else {
            return;
        };
        if !told.insert((Arc::clone(&claim.group), other.owner.file, Arc::clone(&other.group))) {
            return;
        }
        let group = &other.group;
        let message = |by: &str| match (claim.inserts, other.inserts) {
            (true, true) => format!(
                "under {host} two groups insert a cookie `{name}`: this one and `{group}`, {by}"
            ),
            (true, false) => format!(
                "under {host} the cookie `{name}` is inserted here and is the application's in group `{group}`, {by}"
            ),
            (false, _) => format!(
                "under {host} the cookie `{name}` is the application's here and inserted by group `{group}`, {by}"
            ),
        };
        let renamed = if claim.inserts { &claim.group } else { group };
        let free = self.free_name(name, drop_in, renamed);
        let hint = match claim.inserts {
            true => format!(
                "write `cookie = \"{free}\"`: a browser has one of a name for all ports of a host"
            ),
            false => format!(
                "let the inserting group have another, such as `{free}`: a browser has one of a name for all ports of a host"
            ),
        };
        self.note(&drop_in.notes, &place.cookie, &other.owner, message, hint);
    }

    /// A cookie name that nobody has.
    fn free_name(&self, name: &str, drop_in: &DropIn, group: &str) -> String {
        let here: HashSet<&str> =
            drop_in.sticky.iter().flatten().map(|place| place.sticky.cookie.as_str()).collect();
        let is_free = |name: &String| {
            let is_taken =
                self.cookies.by_name.contains_key(name.as_str()) || here.contains(&**name);
            name.len() <= LONGEST_NAME && !is_taken
        };
        let game = drop_in.game.name.chars();
        let plain: String = game.filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let of_group = format!("{name}_{group}");
        let of_game = format!("{name}_{plain}_{group}");
        let numbered = (2..).map(|number| format!("SERVERID_{number}"));
        let mut candidates = [of_group, of_game].into_iter().chain(numbered);
        candidates.find(is_free).unwrap_or_default()
    }

    /// Those that stand under one of these hosts too, and which it is.
    fn overlaps<'a>(
        &'a self,
        places: &'a Places,
        hosts: &'a Hosts,
        claim: &'a Claim,
    ) -> Box<dyn Iterator<Item = (String, &'a Claim)> + 'a> {
        let exact = |name: &str| format!("`{}`", reversed(name));
        let below = |name: &str| format!("`*.{}`", reversed(name));
        match hosts {
            Hosts::Default => {
                let host = || "hosts that no listener names".to_owned();
                Box::new(places.default.iter().map(move |claim| (host(), claim)))
            }
            Hosts::Exact(host) => {
                let same = at(&places.exact, host);
                let wide = above(&places.wide, host).chain(at(&places.wide, host));
                let wildcards = above(&places.wildcards, host)
                    .filter(|(name, claim)| self.arrives(claim, name, &[Host::Is(host)]));
                let found = same.chain(wide).chain(wildcards);
                Box::new(found.map(move |(_, claim)| (exact(host), claim)))
            }
            Hosts::Wildcard(parent) => {
                let wide = above(&places.wide, parent).chain(at(&places.wide, parent));
                let same = at(&places.wildcards, parent).chain(wide);
                let wider = above(&places.wildcards, parent)
                    .filter(|(name, claim)| self.arrives(claim, name, &[Host::Below(parent)]));
                let here = same.chain(wider).map(move |(_, claim)| (below(parent), claim));
                let arrives = |hosts: &[Host<'_>]| self.arrives(claim, parent, hosts);
                let names = inside(&places.exact, parent)
                    .filter(move |(name, _)| arrives(&[Host::Is(name)]))
                    .map(move |(name, claim)| (exact(name), claim));
                let arrives = |hosts: &[Host<'_>]| self.arrives(claim, parent, hosts);
                let narrower = inside(&places.wildcards, parent)
                    .filter(move |(name, _)| arrives(&[Host::Below(name)]))
                    .map(move |(name, claim)| (below(name), claim));
                let arrives = |hosts: &[Host<'_>]| self.arrives(claim, parent, hosts);
                let wide = inside(&places.wide, parent)
                    .filter(move |(name, _)| arrives(&[Host::Is(name), Host::Below(name)]))
                    .map(move |(name, claim)| (exact(name), claim));
                Box::new(here.chain(names).chain(narrower).chain(wide))
            }
            Hosts::Wide(domain) => {
                let wide = above(&places.wide, domain).chain(at(&places.wide, domain));
                let wider = above(&places.wildcards, domain).filter(|(name, claim)| {
                    self.arrives(claim, name, &[Host::Is(domain), Host::Below(domain)])
                });
                let same = at(&places.exact, domain).chain(wide).chain(wider);
                let here = same.map(move |(_, claim)| (exact(domain), claim));
                let names = inside(&places.exact, domain).chain(inside(&places.wide, domain));
                let names = names.map(move |(name, claim)| (exact(name), claim));
                let wildcards =
                    at(&places.wildcards, domain).chain(inside(&places.wildcards, domain));
                let wildcards = wildcards.map(move |(name, claim)| (below(name), claim));
                Box::new(here.chain(names).chain(wildcards))
            }
        }
    }

    /// Whether on one of its ports a listener with this wildcard gets the
    /// requests for one of these hosts: nobody there has a closer domain.
    fn arrives(&self, claim: &Claim, wildcard: &str, hosts: &[Host<'_>]) -> bool {
        let gets = |port: &u16, host: &Host<'_>| {
            let Some(port) = self.ports.get(port) else {
                return true;
            };
            let (name, itself) = match host {
                Host::Is(name) if port.exact.contains_key(*name) => return false,
                Host::Is(name) => (*name, None),
                Host::Below(name) => (*name, Some(*name)),
            };
            let mut names = itself.into_iter().chain(parents(name));
            let closest = names.find(|name| port.wildcards.contains_key(*name));
            closest == Some(wildcard)
        };
        claim.ports.iter().any(|port| hosts.iter().any(|host| gets(port, host)))
    }
}

/// A host to be asked for.
#[derive(Clone, Copy)]
enum Host<'a> {
    /// The one of this name.
    Is(&'a str),
    /// One below it that nobody names.
    Below(&'a str),
}

impl CookieNames {
    pub(super) fn put(&mut self, name: &Arc<str>, hosts: &Hosts, claim: &Claim) {
        let places = self.by_name.entry(Arc::clone(name)).or_default();
        let claims = match hosts {
            Hosts::Exact(name) => places.exact.entry(name.clone()).or_default(),
            Hosts::Wildcard(name) => places.wildcards.entry(name.clone()).or_default(),
            Hosts::Wide(name) => places.wide.entry(name.clone()).or_default(),
            Hosts::Default => &mut places.default,
        };
        if !claims.iter().any(|known| known.is_same(claim)) {
            claims.push(claim.clone());
        }
    }

    pub(super) fn take(&mut self, name: &Arc<str>, hosts: &Hosts, claim: &Claim) {
        let Some(places) = self.by_name.get_mut(name) else {
            return;
        };
        let (by_host, host) = match hosts {
            Hosts::Exact(host) => (&mut places.exact, host),
            Hosts::Wildcard(host) => (&mut places.wildcards, host),
            Hosts::Wide(host) => (&mut places.wide, host),
            Hosts::Default => {
                places.default.retain(|known| !known.is_same(claim));
                self.drop_empty(name);
                return;
            }
        };
        if let Some(claims) = by_host.get_mut(host) {
            claims.retain(|known| !known.is_same(claim));
            if claims.is_empty() {
                by_host.remove(host);
            }
        }
        self.drop_empty(name);
    }

    /// A name that nobody has any more is free.
    fn drop_empty(&mut self, name: &Arc<str>) {
        let is_empty = |places: &Places| {
            let hosts = [&places.exact, &places.wildcards, &places.wide];
            hosts.iter().all(|hosts| hosts.is_empty()) && places.default.is_empty()
        };
        if self.by_name.get(name).is_some_and(is_empty) {
            self.by_name.remove(name);
        }
    }
}

impl Claim {
    fn is_same(&self, other: &Claim) -> bool {
        self.owner.file == other.owner.file
            && self.group == other.group
            && self.ports == other.ports
    }
}

/// Where the cookie stands that this listener sets. What browsers refuse
/// because it does not lie in the cookie's `Domain` is left out.
fn hosts_of(listener: &Listener, place: &StickyPlace) -> Vec<Hosts> {
    let default = || listener.default.then_some(Hosts::Default);
    if let Some(domain) = place.domain() {
        let touched = |host: &Domain| lies_in(host, domain) || host.covers(domain);
        let stands = listener.default || listener.domains.iter().any(touched);
        return stands.then(|| Hosts::Wide(reversed(domain))).into_iter().collect();
    }
    let hosts = listener.domains.iter().map(|domain| match domain {
        Domain::Exact(name) => Hosts::Exact(reversed(name)),
        Domain::Wildcard(parent) => Hosts::Wildcard(reversed(parent)),
    });
    hosts.chain(default()).collect()
}

fn tell_too_many(drop_in: &DropIn, claims: &Claims, pairs: usize) {
    let span = claims.domains.first().map_or(&claims.protocol_span, |(_, span)| span);
    drop_in.notes.error(
        span,
        format!("with this listener the file has {pairs} pairs of a domain and a sticky group"),
        format!("write at most {MOST_PAIRS}; `*.x.com` takes many names"),
    );
}

type Found<'a> = (&'a str, &'a Claim);

fn each<'a>(name: &'a str, claims: &'a [Claim]) -> impl Iterator<Item = Found<'a>> {
    claims.iter().map(move |claim| (name, claim))
}

/// Those of exactly this name.
fn at<'a>(places: &'a ByHost, name: &str) -> impl Iterator<Item = Found<'a>> + use<'a> {
    places.get_key_value(name).into_iter().flat_map(|(name, claims)| each(name, claims))
}

/// Those of a name that this one lies below.
fn above<'a>(places: &'a ByHost, name: &'a str) -> impl Iterator<Item = Found<'a>> {
    let known = parents(name).filter_map(|parent| places.get_key_value(parent));
    known.flat_map(|(name, claims)| each(name, claims))
}

/// Those of a name that lies below this one.
fn inside<'a>(places: &'a ByHost, parent: &'a str) -> impl Iterator<Item = Found<'a>> {
    let from = places.range::<str, _>((Excluded(parent), Unbounded));
    let inside = from.take_while(move |(name, _)| name.starts_with(parent));
    inside.flat_map(|(name, claims)| each(name, claims))
}

/// The names a reversed name lies below, the longest first.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    let ends = memchr::memrchr_iter(b'.', name.trim_end_matches('.').as_bytes());
    ends.filter_map(|end| name.get(..=end))
}
