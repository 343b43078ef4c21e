//! Comparison of the drop-ins with each other and with `lockgate.toml`. What
//! came first keeps what it has; the later file is refused. Nobody is refused
//! for what a refused file says: that has nothing.

mod cookies;
mod entry;
mod names;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use cookies::CookieNames;
use entry::Entry;

use super::diagnostic::{Place, Severity};
use super::drop_in::DropIn;
use super::group::BackendPlace;
use super::listener::Claims;
use super::model::Protocol;
use super::notes::Notes;
use super::owners::Owners;
use super::process::ProcessFile;

/// What the files compared so far have.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    admin: Option<SocketAddr>,
    admin_place: Option<Place>,
    owners: Owners,
    ports: HashMap<u16, Port>,
    /// Of those that are IP addresses.
    backends: BTreeSet<(u16, IpAddr, Owner)>,
    cookies: CookieNames,
    /// The files by number.
    files: HashMap<File, PathBuf>,
    /// The file that is being compared, which is the last.
    current: File,
    /// What was put in for it.
    entries: Vec<Entry>,
    /// The files that have what it wants.
    blocked_by: RefCell<BTreeSet<File>>,
}

/// The number of a file, or of one version of it.
pub(super) type File = u32;

/// Who has something: the file, and the line that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    file: File,
    line: u32,
}

/// All who have the same, by what it is.
type Shared<T> = BTreeMap<T, BTreeSet<Owner>>;

#[derive(Clone, Debug, Default)]
struct Port {
    protocols: Shared<Protocol>,
    addresses: Shared<Option<IpAddr>>,
    default: Option<Owner>,
    /// By [`names::reversed`] name, so that what lies below a wildcard is a range.
    exact: BTreeMap<Arc<str>, Owner>,
    wildcards: BTreeMap<Arc<str>, Owner>,
}

/// Everything that one file has, to be [taken out](Taken::take_out) again.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) file: File,
    path: PathBuf,
    entries: Box<[Entry]>,
}

impl Taken {
    /// What `lockgate.toml` has, and gives to whom. Nothing that was put in is
    /// looked at again.
    pub(super) fn set_process(&mut self, process: &ProcessFile) {
        self.admin = Some(process.process.admin);
        self.admin_place.clone_from(&process.admin);
        self.owners = process.owners.clone();
    }

    /// Compares a file with all others, notes what it may not have, and puts in
    /// the rest. One that has an error then is to be taken out.
    pub(super) fn add(&mut self, drop_in: &DropIn) -> Holding {
        let notes = &drop_in.notes;
        let errors = notes.errors();
        self.current += 1;
        self.files.insert(self.current, notes.source.file.clone());
        self.blocked_by.take();
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
            self.claim(Entry::Backend(address.port(), address.ip().to_canonical(), owner));
        }
        // Who may not have a domain sets no cookie under it.
        if notes.errors() == errors {
            self.check_cookies(drop_in);
        }
        if notes.errors() == errors {
            self.check_expected(drop_in);
        }
        Holding {
            file: self.current,
            path: notes.source.file.clone(),
            entries: std::mem::take(&mut self.entries).into(),
        }
    }

    /// The files that kept the last one from what it wants.
    pub(super) fn blocked_by(&self) -> BTreeSet<File> {
        self.blocked_by.take()
    }

    /// What the file has becomes free.
    pub(super) fn take_out(&mut self, holding: &Holding) {
        for entry in &holding.entries {
            self.take(entry);
        }
        self.files.remove(&holding.file);
    }

    /// What was taken out is as it was.
    pub(super) fn put_back(&mut self, holding: &Holding) {
        self.files.insert(holding.file, holding.path.clone());
        for entry in &holding.entries {
            self.put(entry);
        }
    }

    fn claim(&mut self, entry: Entry) {
        self.put(&entry);
        self.entries.push(entry);
    }

    /// A port may be neither the admin listener's nor a backend's.
    fn check_sockets(
        &self,
        notes: &Notes,
        port: u16,
        span: &Range<usize>,
        address: Option<IpAddr>,
    ) {
        if let Some(admin) = self.admin
            && port == admin.port()
            && overlaps(address, admin.ip())
        {
            self.note_admin(
                notes,
                span,
                format!("port {port} is taken by the admin address `{admin}`"),
                "take another port, or another `address` under `[admin]` in `lockgate.toml`",
            );
        }
        let ours = match address.map(|address| address.to_canonical()) {
            Some(ip) if !ip.is_unspecified() => vec![ip..=ip],
            _ => LOOPBACK.map(|(first, last)| first..=last).to_vec(),
        };
        let mut ours = ours.into_iter().flat_map(|ips| {
            let (first, last) = ips.into_inner();
            let (from, to) = ((port, first, Owner::FIRST), (port, last, Owner::LAST));
            self.backends.range(from..=to).map(|(_, ip, owner)| (ip, owner))
        });
        if let Some((ip, owner)) = ours.next() {
            let backend = SocketAddr::new(*ip, port);
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
        let entry = self.ports.get(&port);
        let other = entry.and_then(|entry| differing(&entry.protocols, &claims.protocol));
        if let Some((theirs, by)) = other {
            let (theirs, mine) = (name(*theirs), name(claims.protocol));
            self.note(
                notes,
                &claims.protocol_span,
                by,
                |by| format!("port {port} is `{mine}` here, but `{theirs}` in {by}"),
                format!("write `protocol = \"{theirs}\"`, or take another port"),
            );
        }
        let other = entry.and_then(|entry| differing(&entry.addresses, &claims.address));
        if let Some((theirs, by)) = other {
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
        let [protocol, address] =
            [&claims.protocol_span, &claims.address_span].map(|span| self.owner(notes, span));
        self.claim(Entry::Protocol(port, claims.protocol, protocol));
        self.claim(Entry::Address(port, claims.address, address));
    }

    /// A request forwarded to ourselves would come back for ever.
    fn check_backend(&self, notes: &Notes, backend: &BackendPlace) {
        let BackendPlace { address, span } = backend;
        let hint = "write the address and port of the game's own server";
        if self.admin.is_some_and(|admin| {
            admin.port() == address.port() && leads_to(*address, Some(admin.ip()))
        }) {
            let message = format!("backend `{address}` is lockgate's own admin address");
            self.note_admin(notes, span, message, hint);
        }
        let Some(port) = self.ports.get(&address.port()) else {
            return;
        };
        let mut ours =
            port.addresses.iter().filter(|(listens_on, _)| leads_to(*address, **listens_on));
        if let Some(by) = ours.find_map(|(_, by)| by.first()) {
            let message = |by: &str| format!("backend `{address}` is lockgate itself, {by}");
            self.note(notes, span, by, message, hint);
        }
    }

    fn owner(&self, notes: &Notes, span: &Range<usize>) -> Owner {
        let line = u32::try_from(notes.source.line(span.start)).unwrap_or(u32::MAX);
        Owner { file: self.current, line }
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
        let file = self.files.get(&owner.file).cloned().unwrap_or_default();
        let by = if owner.file == self.current {
            format!("line {line} of this file")
        } else {
            format!("`{}:{line}`", file.display())
        };
        if owner.file != self.current {
            self.blocked_by.borrow_mut().insert(owner.file);
        }
        notes.conflict(span, message(&by), hint, Place { file, line: line as usize });
    }

    fn note_admin(&self, notes: &Notes, span: &Range<usize>, message: String, hint: &str) {
        let place = self.admin_place.clone();
        notes.note(Severity::Error, span, message, hint.to_owned(), place);
    }
}

/// Who has something else than all should have.
fn differing<'a, T: Ord>(shared: &'a Shared<T>, mine: &T) -> Option<(&'a T, &'a Owner)> {
    let mut others = shared.iter().filter(|(theirs, _)| *theirs != mine);
    others.find_map(|(theirs, by)| Some((theirs, by.first()?)))
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

/// The addresses that are this machine's own, from the first to the last.
const LOOPBACK: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), IpAddr::V4(Ipv4Addr::new(127, 255, 255, 255))),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)),
];

impl Owner {
    const FIRST: Owner = Owner { file: 0, line: 0 };
    const LAST: Owner = Owner { file: File::MAX, line: u32::MAX };
}
