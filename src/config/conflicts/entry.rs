//! Claims one by one, as they are put in and taken out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::cookies::{Claim, Hosts};
use super::{Owner, Taken};
use crate::config::model::Protocol;

/// One thing that a file has.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Protocol(u16, Protocol, Owner),
    Address(u16, Option<IpAddr>, Owner),
    Default(u16, Owner),
    /// A [`reversed`](super::names::reversed) name.
    Exact(u16, Arc<str>, Owner),
    /// Likewise, of all below it.
    Wildcard(u16, Arc<str>, Owner),
    Backend(u16, IpAddr, Owner),
    Cookie(Box<(Arc<str>, Hosts, Claim)>),
}

impl Taken {
    /// Puts in what is free; what another has stays the other's.
    pub(super) fn put(&mut self, entry: &Entry) {
        match entry {
            Entry::Protocol(port, protocol, owner) => {
                let port = self.ports.entry(*port).or_default();
                port.protocols.entry(*protocol).or_default().insert(*owner);
            }
            Entry::Address(port, address, owner) => {
                let port = self.ports.entry(*port).or_default();
                port.addresses.entry(*address).or_default().insert(*owner);
            }
            Entry::Default(port, owner) => {
                let port = self.ports.entry(*port).or_default();
                port.default.get_or_insert(*owner);
            }
            Entry::Exact(port, name, owner) => {
                let names = &mut self.ports.entry(*port).or_default().exact;
                names.entry(Arc::clone(name)).or_insert(*owner);
            }
            Entry::Wildcard(port, name, owner) => {
                let names = &mut self.ports.entry(*port).or_default().wildcards;
                names.entry(Arc::clone(name)).or_insert(*owner);
            }
            Entry::Backend(port, ip, owner) => {
                self.backends.insert((*port, *ip, *owner));
            }
            Entry::Cookie(cookie) => {
                let (name, hosts, claim) = &**cookie;
                self.cookies.put(name, hosts, claim);
            }
        }
    }

    /// The other way round: what another has is left alone.
    pub(super) fn take(&mut self, entry: &Entry) {
        match entry {
            Entry::Backend(port, ip, owner) => {
                self.backends.remove(&(*port, *ip, *owner));
                return;
            }
            Entry::Cookie(cookie) => {
                let (name, hosts, claim) = &**cookie;
                self.cookies.take(name, hosts, claim);
                return;
            }
            _ => {}
        }
        let (Entry::Protocol(number, ..)
        | Entry::Address(number, ..)
        | Entry::Default(number, _)
        | Entry::Exact(number, ..)
        | Entry::Wildcard(number, ..)
        | Entry::Backend(number, ..)) = entry
        else {
            return;
        };
        let Some(port) = self.ports.get_mut(number) else {
            return;
        };
        let without = |owners: &mut BTreeSet<Owner>, owner| {
            owners.remove(owner);
            !owners.is_empty()
        };
        match entry {
            Entry::Protocol(_, protocol, owner) => {
                port.protocols.retain(|own, by| own != protocol || without(by, owner));
            }
            Entry::Address(_, address, owner) => {
                port.addresses.retain(|own, by| own != address || without(by, owner));
            }
            Entry::Default(_, owner) if port.default == Some(*owner) => port.default = None,
            Entry::Exact(_, name, owner) if port.exact.get(name) == Some(owner) => {
                port.exact.remove(name);
            }
            Entry::Wildcard(_, name, owner) if port.wildcards.get(name) == Some(owner) => {
                port.wildcards.remove(name);
            }
            _ => {}
        }
        if port.protocols.is_empty() && port.addresses.is_empty() {
            self.ports.remove(number);
        }
    }
}
