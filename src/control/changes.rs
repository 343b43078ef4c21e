//! What changed between two versions of a drop-in, in words.

mod process;
#[cfg(test)]
mod tests;

pub(super) use self::process::{of_process, of_secrets};

use std::fmt::{self, Debug};
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use crate::config::{
    Action, Backend, Game, Group, Listener, Protocol, RedirectTarget, Rule, Upstream,
    certificate_end, show_duration,
};
use crate::policy::balance::Balance;

/// Each change of a game is a line; none: they serve alike.
pub(super) fn changes(before: Option<&Game>, after: Option<&Game>) -> Vec<String> {
    let mut said = Vec::new();
    match (before, after) {
        (None, None) => {}
        (None, Some(game)) => said.push(format!(
            "added: {}, {}",
            count(game.listeners.len(), "listener"),
            count(game.groups.len(), "group")
        )),
        (Some(_), None) => said.push("removed".to_owned()),
        (Some(before), Some(after)) => {
            let (old, new) = (each(&before.listeners), each(&after.listeners));
            let pairs = Pairs::of(&old, &new, same_listener);
            pairs.say(&mut said, "listener", called);
            renewed(&mut said, &pairs.both);
            for (old, new) in pairs.both {
                listener(&mut said, (before, old), (after, new));
            }
            let (old, new) = (each(&before.groups), each(&after.groups));
            let pairs = Pairs::of(&old, &new, |old, new| old.name == new.name);
            pairs.say(&mut said, "group", |group| group.name.to_string());
            for (old, new) in pairs.both {
                group(&mut said, old, new);
            }
        }
    }
    said
}

fn each<T>(all: &[Arc<T>]) -> Vec<&T> {
    all.iter().map(|one| &**one).collect()
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The members of two lists that belong together, and those that are alone.
struct Pairs<'a, T> {
    both: Vec<(&'a T, &'a T)>,
    gone: Vec<&'a T>,
    new: Vec<&'a T>,
}

impl<'a, T> Pairs<'a, T> {
    fn of(old: &[&'a T], new: &[&'a T], same: impl Fn(&T, &T) -> bool) -> Self {
        let mut left: Vec<&'a T> = old.to_vec();
        let mut pairs = Pairs { both: Vec::new(), gone: Vec::new(), new: Vec::new() };
        for one in new {
            match left.iter().position(|old| same(old, one)) {
                Some(at) => pairs.both.push((left.remove(at), one)),
                None => pairs.new.push(one),
            }
        }
        pairs.gone = left;
        pairs
    }

    fn say(&self, said: &mut Vec<String>, what: &str, called: impl Fn(&T) -> String) {
        said.extend(self.gone.iter().map(|one| format!("{what} {} removed", called(one))));
        said.extend(self.new.iter().map(|one| format!("{what} {} added", called(one))));
    }
}

/// One that kept a domain on one of its ports is the same.
fn same_listener(old: &Listener, new: &Listener) -> bool {
    let shares_name = old.domains.iter().any(|domain| new.domains.contains(domain));
    (shares_name || (old.default && new.default))
        && old.ports.iter().any(|port| new.ports.contains(port))
}

fn name_of(listener: &Listener) -> String {
    listener.domains.first().map_or_else(|| "default".to_owned(), ToString::to_string)
}

/// `youxia.com:8030`.
pub(super) fn called(listener: &Listener) -> String {
    let name = name_of(listener);
    listener.ports.first().map_or_else(|| name.clone(), |port| format!("{name}:{port}"))
}

/// Certificates that are others now, each with all that it is for.
fn renewed(said: &mut Vec<String>, both: &[(&Listener, &Listener)]) {
    let mut renewed: Vec<(&CertifiedKey, Vec<String>)> = Vec::new();
    for (old, new) in both {
        let (Some(old), Some(tls)) = (&old.tls, &new.tls) else { continue };
        if old.certificate.cert == tls.certificate.cert {
            continue;
        }
        let name = name_of(new);
        let places = new.ports.iter().map(|port| format!("{name}:{port}"));
        match renewed.iter_mut().find(|(known, _)| known.cert == tls.certificate.cert) {
            Some((_, known)) => known.extend(places),
            None => renewed.push((&tls.certificate, places.collect())),
        }
    }
    for (certificate, places) in renewed {
        let until = certificate_end(certificate);
        let until = until.map_or_else(String::new, |until| format!(", expires {}", until.date()));
        said.push(format!("certificate of {} renewed{until}", places.join(", ")));
    }
}

fn listener(said: &mut Vec<String>, old: (&Game, &Listener), new: (&Game, &Listener)) {
    let ((old_game, old), (new_game, new)) = (old, new);
    let name = called(new);
    members(said, &old.domains, &new.domains, "domain", &name);
    // Not by a port, which may be the one that goes.
    members(said, &old.ports, &new.ports, "port", &name_of(new));
    settings(said, &format!("listener {name}"), &of_listener(old), &of_listener(new));
    let rules = |listener: &'_ Listener| -> Vec<(usize, String)> {
        listener.rules.iter().enumerate().map(|(at, rule)| (at, rule.path.clone())).collect()
    };
    let (olds, news) = (rules(old), rules(new));
    let rule_at = |listener: &'_ Listener, at: usize| listener.rules.get(at).cloned();
    for (at, path) in &olds {
        if !news.iter().any(|(_, other)| other == path) {
            let to = rule_at(old, *at).map(|rule| leads_to(old_game, &rule));
            said.push(format!("rule {path} of {name} removed (was → {})", to.unwrap_or_default()));
        }
    }
    for (at, path) in &news {
        let Some(now) = rule_at(new, *at) else { continue };
        let to = leads_to(new_game, &now);
        let before = olds.iter().find(|(_, other)| other == path);
        let Some(before) = before.and_then(|(at, _)| rule_at(old, *at)) else {
            said.push(format!("rule {path} of {name} added → {to}"));
            continue;
        };
        if leads_to(old_game, &before) != to {
            said.push(format!("rule {path} of {name} now → {to}"));
        }
        settings(said, &format!("rule {path} of {name}"), &of_rule(&before), &of_rule(&now));
    }
}

/// What came into a list, and what left it.
fn members<T: PartialEq + fmt::Display>(
    said: &mut Vec<String>,
    old: &[T],
    new: &[T],
    what: &str,
    of: &str,
) {
    let gone = old.iter().filter(|one| !new.contains(one));
    said.extend(gone.map(|one| format!("{what} {one} of {of} removed")));
    let come = new.iter().filter(|one| !old.contains(one));
    said.extend(come.map(|one| format!("{what} {one} of {of} added")));
}

/// Where a rule leads, as the drop-in says it.
pub(super) fn leads_to(game: &Game, rule: &Rule) -> String {
    match &rule.action {
        Action::Forward(at) => {
            game.groups.get(*at).map_or_else(String::new, |group| group.name.to_string())
        }
        Action::Redirect(redirect) => match &redirect.to {
            RedirectTarget::Url(url) => format!("redirect {url} ({})", redirect.code),
            RedirectTarget::SameHost { protocol, port } => {
                let scheme = match protocol {
                    Protocol::Http => "http",
                    Protocol::Https => "https",
                };
                format!("redirect {scheme}:{port} ({})", redirect.code)
            }
        },
        Action::Respond { status, .. } => format!("respond {status}"),
    }
}

fn group(said: &mut Vec<String>, old: &Group, new: &Group) {
    let name = &new.name;
    let (olds, news): (Vec<&Backend>, Vec<&Backend>) =
        (old.backends.iter().collect(), new.backends.iter().collect());
    let same = |old: &Backend, new: &Backend| old.name == new.name && old.address == new.address;
    let pairs = Pairs::of(&olds, &news, same);
    pairs.say(said, "backend", |backend| format!("{name}/{}", shown_backend(backend)));
    for (old, new) in &pairs.both {
        let backend = format!("backend {name}/{}", new.name);
        settings(said, &backend, &of_backend(old), &of_backend(new));
    }
    settings(said, &format!("group {name}"), &of_group(old), &of_group(new));
    if !old.protocol.is_same(&new.protocol) && protocol(old) == protocol(new) {
        said.push(format!("group {name}: tls changed"));
    }
}

fn shown_backend(backend: &Backend) -> String {
    let address = backend.address.to_string();
    if *backend.name == *address { address } else { format!("{} ({address})", backend.name) }
}

/// A setting's key, what is written there, and whether that is worth showing.
type Setting = (&'static str, String, bool);

fn settings(said: &mut Vec<String>, of: &str, old: &[Setting], new: &[Setting]) {
    let changed = old.iter().zip(new).filter(|((_, old, _), (_, new, _))| old != new);
    let mut changed: Vec<String> = changed
        .map(|((key, old, short), (_, new, _))| match short {
            true => format!("{key} {old} → {new}"),
            false => format!("{key} changed"),
        })
        .collect();
    // What stands in one table is one change.
    changed.dedup();
    if !changed.is_empty() {
        said.push(format!("{of}: {}", changed.join(", ")));
    }
}

fn plain(key: &'static str, value: impl fmt::Display) -> Setting {
    (key, value.to_string(), true)
}

fn most(key: &'static str, value: Option<impl fmt::Display>) -> Setting {
    (key, value.map_or_else(|| "none".to_owned(), |value| value.to_string()), true)
}

fn long(key: &'static str, value: &impl Debug) -> Setting {
    (key, format!("{value:?}"), false)
}

fn of_listener(listener: &Listener) -> Vec<Setting> {
    let time = |key, time| plain(key, show_duration(time));
    let policy = listener
        .tls
        .as_ref()
        .map(|tls| (tls.policy, tls.client_ca.as_ref().map(|ca| ca.roots.clone())));
    vec![
        plain("protocol", if listener.tls.is_some() { "https" } else { "http" }),
        most("address", listener.address),
        plain("default", listener.default),
        long("tls", &policy.as_ref().map(|(policy, _)| policy)),
        long("client_ca", &policy.as_ref().map(|(_, roots)| roots)),
        plain("http2", listener.http2),
        long("access", &listener.access),
        long("trusted_proxies", &listener.trusted_proxies),
        time("idle_timeout", listener.idle_timeout),
        time("header_timeout", listener.header_timeout),
        time("body_timeout", listener.body_timeout),
        time("write_timeout", listener.write_timeout),
        most("max_body", listener.max_body),
        most("max_requests", listener.max_requests),
        plain("client_half_close", listener.client_half_close),
        plain("forwarded", listener.forwarded.names().collect::<Vec<_>>().join(" ")),
    ]
}

fn of_rule(rule: &Rule) -> Vec<Setting> {
    let body = match &rule.action {
        Action::Respond { body, .. } => body.as_str(),
        _ => "",
    };
    vec![
        long("body", &body),
        long("headers", &(&rule.request_headers, &rule.response_headers)),
        most("response_timeout", rule.response_timeout.map(show_duration)),
        most("tunnel_timeout", rule.tunnel_timeout.map(show_duration)),
        long("max_body", &rule.max_body),
        long("retry", &rule.retry),
    ]
}

pub(super) fn protocol(group: &Group) -> &'static str {
    match group.protocol {
        Upstream::Http => "http",
        Upstream::Https(_) => "https",
        Upstream::H2c => "h2c",
    }
}

fn of_group(group: &Group) -> Vec<Setting> {
    let hash_key = match &group.balance {
        Balance::Hash(key) => Some(key),
        _ => None,
    };
    let time = |key, time| plain(key, show_duration(time));
    vec![
        plain("protocol", protocol(group)),
        plain("balance", group.balance.name()),
        long("hash_key", &hash_key),
        plain("keepalive", group.keepalive),
        time("idle_timeout", group.idle_timeout),
        plain("max_idle", group.max_idle),
        time("connect_timeout", group.connect_timeout),
        time("response_timeout", group.response_timeout),
        time("tunnel_timeout", group.tunnel_timeout),
        long("all_down", &group.all_down),
        long("sticky", &group.sticky),
        long("probe", &group.probe),
        long("retry", &group.retry),
    ]
}

fn of_backend(backend: &Backend) -> Vec<Setting> {
    vec![
        plain("weight", backend.weight),
        plain("state", backend.state.name()),
        plain("backup", backend.backup),
        plain("max_fails", backend.max_fails),
        plain("fail_timeout", show_duration(backend.fail_timeout)),
        most("max_connections", backend.max_connections),
    ]
}
