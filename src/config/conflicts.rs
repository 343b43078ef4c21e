//! Comparison of the drop-ins with each other and with `lockgate.toml`. What
//! came first keeps what it has; the later file is refused. Nobody is refused
//! for what a refused file says: that is only a warning.

mod cookies;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;

use cookies::CookieNames;

use super::diagnostic::{Place, Severity};
use super::drop_in::DropIn;
use super::group::BackendPlace;
use super::listener::Claims;
use super::model::Protocol;
use super::notes::Notes;
use super::process::ProcessFile;
use crate::policy::route::Domain;

/// What the files compared so far lay hands on.
#[derive(Debug)]
pub(super) struct Taken {
    admin: SocketAddr,
    admin_place: Option<Place>,
    ports: HashMap<u16, Port>,
    /// Backends by port.
    backends: HashMap<u16, Vec<(SocketAddr, Owner)>>,
    cookies: CookieNames,
    /// The files by number; the last one is being compared.
    files: Vec<PathBuf>,
    refused: BTreeSet<usize>,
}

/// Who has something: the number of the file, and the line that says so.
#[derive(Clone, Copy, Debug)]
struct Owner {
    file: usize,
    line: usize,
}

#[derive(Debug, Default)]
struct Port {
    protocol: Option<(Protocol, Owner)>,
    address: Option<(Option<IpAddr>, Owner)>,
    default: Option<Owner>,
    /// By [`reversed`] name, so that what lies below a wildcard is a range.
    exact: BTreeMap<String, Owner>,
    wildcards: BTreeMap<String, Owner>,
}

impl Taken {
    pub(super) fn new(process: &ProcessFile) -> Self {
        Taken {
            admin: process.process.admin,
            admin_place: process.admin.clone(),
            ports: HashMap::new(),
            backends: HashMap::new(),
            cookies: CookieNames::default(),
            files: Vec::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Compares the next file with those before it, and notes what it may not
    /// have.
    pub(super) fn add(&mut self, drop_in: &DropIn) {
        let notes = &drop_in.notes;
        let errors = notes.errors();
        self.files.push(notes.source.file.clone());
        for claims in &drop_in.claims {
            for (port, span) in &claims.ports {
                self.check_sockets(notes, *port, span, claims.address);
                self.check_how(notes, *port, claims);
                self.check_names(notes, *port, claims);
            }
        }
        for backend in &drop_in.backends {
            self.check_backend(notes, backend);
        }
        for BackendPlace { address, span } in &drop_in.backends {
            let owner = self.owner(notes, span);
            self.backends.entry(address.port()).or_default().push((*address, owner));
        }
        // Who may not have a domain sets no cookie under it.
        if notes.errors() == errors {
            self.check_cookies(drop_in);
        }
        if notes.errors() > 0 {
            self.refused.insert(self.current());
        }
    }

    /// The number of the file that is being compared.
    fn current(&self) -> usize {
        self.files.len().saturating_sub(1)
    }

    /// A port may be neither the admin listener's nor a backend's.
    fn check_sockets(
        &self,
        notes: &Notes,
        port: u16,
        span: &Range<usize>,
        address: Option<IpAddr>,
    ) {
        if port == self.admin.port() && overlaps(address, self.admin.ip()) {
            self.note_admin(
                notes,
                span,
                format!("port {port} is taken by the admin address `{}`", self.admin),
                "take another port, or another `address` under `[admin]` in `lockgate.toml`",
            );
        }
        let owners = self.backends.get(&port).map(Vec::as_slice).unwrap_or_default();
        let ours = owners.iter().filter(|(backend, _)| leads_to(*backend, address));
        let first = ours.min_by_key(|(_, owner)| self.refused.contains(&owner.file));
        if let Some((backend, owner)) = first {
            self.note(
                notes,
                span,
                owner,
                |by| format!("port {port} would take the place of backend `{backend}` of {by}"),
                "take another port",
            );
        }
    }

    /// Protocol and address are the same for all who share a port.
    fn check_how(&mut self, notes: &Notes, port: u16, claims: &Claims) {
        let name = |protocol| match protocol {
            Protocol::Http => "http",
            Protocol::Https => "https",
        };
        let shown = |address: Option<IpAddr>| {
            address.map_or("all addresses".to_owned(), |address| format!("`{address}`"))
        };
        let owner = self.owner(notes, &claims.protocol_span);
        let entry = self.ports.get(&port);
        let protocol = entry.and_then(|port| port.protocol.as_ref());
        let protocol = protocol.filter(|(theirs, _)| *theirs != claims.protocol);
        if let Some((theirs, by)) = protocol {
            let (theirs, mine) = (name(*theirs), name(claims.protocol));
            self.note(
                notes,
                &claims.protocol_span,
                by,
                |by| format!("port {port} is `{mine}` here, but `{theirs}` in {by}"),
                format!("write `protocol = \"{theirs}\"`, or take another port"),
            );
        }
        let address = entry.and_then(|port| port.address.as_ref());
        let address = address.filter(|(theirs, _)| *theirs != claims.address);
        if let Some((theirs, by)) = address {
            let hint = match theirs {
                Some(theirs) => format!("write `address = \"{theirs}\"`, or take another port"),
                None => "remove `address`, or take another port".to_owned(),
            };
            let (theirs, mine) = (shown(*theirs), shown(claims.address));
            self.note(
                notes,
                &claims.address_span,
                by,
                |by| format!("port {port} is on {mine} here, but on {theirs} in {by}"),
                hint,
            );
        }
        let address_owner = self.owner(notes, &claims.address_span);
        let entry = self.ports.entry(port).or_default();
        let free = |owner: Option<&Owner>| owner.is_none_or(|by| self.refused.contains(&by.file));
        if free(entry.protocol.as_ref().map(|(_, owner)| owner)) {
            entry.protocol = Some((claims.protocol, owner));
        }
        if free(entry.address.as_ref().map(|(_, owner)| owner)) {
            entry.address = Some((claims.address, address_owner));
        }
    }

    /// Each domain, and `default`, has one owner on a port.
    fn check_names(&mut self, notes: &Notes, port: u16, claims: &Claims) {
        let mut entry = self.ports.remove(&port).unwrap_or_default();
        if let Some(span) = &claims.default {
            if let Some(by) = &entry.default {
                self.note(
                    notes,
                    span,
                    by,
                    |by| format!("port {port} already has a default listener: {by}"),
                    "remove `default = true` from one of them",
                );
            }
            if entry.default.as_ref().is_none_or(|by| self.refused.contains(&by.file)) {
                entry.default = Some(self.owner(notes, span));
            }
        }
        for (domain, span) in &claims.domains {
            self.check_domain(notes, port, &mut entry, domain, span);
        }
        self.ports.insert(port, entry);
    }

    fn check_domain(
        &self,
        notes: &Notes,
        port: u16,
        entry: &mut Port,
        domain: &Domain,
        span: &Range<usize>,
    ) {
        let (name, same) = match domain {
            Domain::Exact(name) => (reversed(name), &mut entry.exact),
            Domain::Wildcard(parent) => (reversed(parent), &mut entry.wildcards),
        };
        if let Some(by) = same.get(&name) {
            self.note(
                notes,
                span,
                by,
                |by| format!("`{domain}` on port {port} already belongs to {by}"),
                "remove it from one of them, or take another port",
            );
        }
        if same.get(&name).is_none_or(|by| self.refused.contains(&by.file)) {
            same.insert(name.clone(), self.owner(notes, span));
        }
        if let Some((wildcard, by)) = self.above(entry, &name) {
            let wildcard = reversed(wildcard);
            self.note(
                notes,
                span,
                by,
                |by| format!("`{domain}` on port {port} lies within `*.{wildcard}` of {by}"),
                format!("ask the owner of `*.{wildcard}` to add it to that file"),
            );
        }
        if matches!(domain, Domain::Wildcard(_))
            && let Some((below, by)) = self.below(entry, &name)
        {
            let below = reversed(below);
            self.note(
                notes,
                span,
                by,
                |by| format!("`{domain}` on port {port} would enclose `{below}` of {by}"),
                "name the domains one by one, or take another port",
            );
        }
    }

    /// The wildcard of another file that encloses a reversed name.
    fn above<'a>(&self, entry: &'a Port, name: &str) -> Option<(&'a str, &'a Owner)> {
        let ends = memchr::memrchr_iter(b'.', name.trim_end_matches('.').as_bytes());
        let parents = ends.filter_map(|end| entry.wildcards.get_key_value(name.get(..=end)?));
        self.foreign(parents)
    }

    /// The name of another file that a reversed wildcard encloses.
    fn below<'a>(&self, entry: &'a Port, parent: &str) -> Option<(&'a str, &'a Owner)> {
        let from = parent.to_owned()..;
        let exact = entry.exact.range(from.clone()).chain(entry.wildcards.range(from));
        let below = exact.filter(|(name, _)| name.len() > parent.len());
        self.foreign(below.take_while(|(name, _)| name.starts_with(parent)))
    }

    /// Of several owners the first that is another file, one that is not
    /// refused before one that is.
    fn foreign<'a>(
        &self,
        owners: impl Iterator<Item = (&'a String, &'a Owner)>,
    ) -> Option<(&'a str, &'a Owner)> {
        let foreign = owners.filter(|(_, owner)| owner.file != self.current());
        let first = foreign.min_by_key(|(_, owner)| self.refused.contains(&owner.file));
        first.map(|(name, owner)| (name.as_str(), owner))
    }

    /// A request forwarded to ourselves would come back for ever.
    fn check_backend(&self, notes: &Notes, backend: &BackendPlace) {
        let BackendPlace { address, span } = backend;
        let hint = "write the address and port of the game's own server";
        if self.admin.port() == address.port() && leads_to(*address, Some(self.admin.ip())) {
            let message = format!("backend `{address}` is lockgate's own admin address");
            self.note_admin(notes, span, message, hint);
        }
        let port = self.ports.get(&address.port());
        if let Some((listens_on, by)) = port.and_then(|port| port.address.as_ref())
            && leads_to(*address, *listens_on)
        {
            let message = |by: &str| format!("backend `{address}` is lockgate itself, {by}");
            self.note(notes, span, by, message, hint);
        }
    }

    fn owner(&self, notes: &Notes, span: &Range<usize>) -> Owner {
        Owner { file: self.current(), line: notes.source.line(span.start) }
    }

    fn note(
        &self,
        notes: &Notes,
        span: &Range<usize>,
        owner: &Owner,
        message: impl Fn(&str) -> String,
        hint: impl Into<String>,
    ) {
        let line = owner.line;
        let file = self.files.get(owner.file).cloned().unwrap_or_default();
        let by = if owner.file == self.current() {
            format!("line {line} of this file")
        } else {
            format!("`{}:{line}`", file.display())
        };
        let (severity, message) = if self.refused.contains(&owner.file) {
            (Severity::Warning, format!("{}, which is refused", message(&by)))
        } else {
            (Severity::Error, message(&by))
        };
        notes.note(severity, span, message, hint.into(), Some(Place { file, line }));
    }

    fn note_admin(&self, notes: &Notes, span: &Range<usize>, message: String, hint: &str) {
        let place = self.admin_place.clone();
        notes.note(Severity::Error, span, message, hint.to_owned(), place);
    }
}

/// Whether a connection to the backend would arrive at a listener with this
/// address (`None` = all). Of our own addresses only loopback is known here.
fn leads_to(backend: SocketAddr, address: Option<IpAddr>) -> bool {
    let ip = backend.ip().to_canonical();
    match address.map(|address| address.to_canonical()) {
        Some(address) if !address.is_unspecified() => address == ip,
        _ => ip.is_loopback(),
    }
}

/// Whether two listening sockets on one port get in each other's way.
fn overlaps(address: Option<IpAddr>, other: IpAddr) -> bool {
    let Some(address) = address else {
        return true;
    };
    address.is_unspecified()
        || other.is_unspecified()
        || address.to_canonical() == other.to_canonical()
}

/// `a.x.com` as `com.x.a.`, so that all below `x.com` start alike. It is its
/// own way back.
fn reversed(name: &str) -> String {
    let labels = name.trim_end_matches('.').rsplit('.');
    let dot = if name.ends_with('.') { "" } else { "." };
    labels.collect::<Vec<_>>().join(".") + dot
}
