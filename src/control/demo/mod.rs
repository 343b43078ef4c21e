//! `lockgate demo`: the shipped games with backends of their own, on one
//! command, on a machine that has nothing else.

pub mod backends;
pub mod certificates;
mod shipped;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use backends::{Bond, DemoBackend, DemoBackends};
use certificates::Wanted;

use crate::config::{Action, Config, Game, Listener, Protocol, StickyMode};

/// A configuration directory that is ready to be loaded.
#[derive(Debug)]
pub struct Prepared {
    dir: PathBuf,
    ca: PathBuf,
    unpacked: Option<Unpacked>,
}

/// The shipped drop-ins in a folder of their own, which goes with this: keys are
/// in it.
#[derive(Debug)]
struct Unpacked(PathBuf);

impl Unpacked {
    fn make() -> io::Result<Unpacked> {
        let (temporary, id) = (std::env::temp_dir(), std::process::id());
        let named = |n: u32| match n {
            0 => temporary.join(format!("lockgate-demo-{id}")),
            n => temporary.join(format!("lockgate-demo-{id}-{n}")),
        };
        let mut n = 0;
        loop {
            let folder = named(n);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => break Ok(Unpacked(folder)),
                // Whoever made it, it is not ours.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && n < 100 => n += 1,
                Err(error) => {
                    let why = format!("{}: {error}", folder.display());
                    break Err(io::Error::new(error.kind(), why));
                }
            }
        }
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // Somebody may have been faster.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The running demo: ends its backends when dropped.
#[derive(Debug)]
pub struct Demo {
    ca: PathBuf,
    /// Where it is served from, if only for this time.
    unpacked: Option<PathBuf>,
    /// Per game: name and what to ask for.
    games: Vec<(String, Vec<Address>)>,
    backends: DemoBackends,
}

/// A page of a game.
#[derive(Debug, PartialEq, Eq)]
struct Address {
    domain: String,
    port: u16,
    path: String,
}

/// Makes what is absent: with no directory given, the shipped drop-ins in a
/// temporary one; in any case development certificates for every `https`
/// listener that has none.
///
/// # Errors
/// When files can't be read or written.
pub fn prepare(config_dir: Option<&Path>) -> io::Result<Prepared> {
    let (dir, unpacked) = match config_dir {
        Some(dir) => (dir.to_path_buf(), None),
        None => {
            let unpacked = Unpacked::make()?;
            shipped::unpack(&unpacked.0)?;
            (unpacked.0.clone(), Some(unpacked))
        }
    };
    let listeners = dir.join("listeners.d");
    let wanted = wanted_certificates(&listeners).map_err(|error| {
        let hint = "without --config the shipped games are served";
        io::Error::new(error.kind(), format!("{}: {error}: {hint}", listeners.display()))
    })?;
    let ca = certificates::ensure(&dir.join("certs"), &wanted)?.ca;
    Ok(Prepared { dir, ca, unpacked })
}

impl Prepared {
    /// Where the configuration lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts a backend on every loopback address that the groups name.
    ///
    /// # Errors
    /// When an address is taken.
    pub fn start(&self, config: &Config) -> io::Result<Demo> {
        let mut seen = BTreeSet::new();
        let mut wanted = Vec::new();
        for game in &config.games {
            for (place, group) in game.groups.iter().enumerate() {
                let bond = bond(game, place);
                for backend in &group.backends {
                    // A name's address is not known before somebody asks for it.
                    let Some(address) = backend.address.socket() else { continue };
                    if address.ip().is_loopback() && seen.insert(address) {
                        wanted.push(DemoBackend {
                            game: game.name.to_string(),
                            group: group.name.to_string(),
                            name: backend.name.to_string(),
                            address,
                            bond: bond.clone(),
                        });
                    }
                }
            }
        }
        Ok(Demo {
            ca: self.ca.clone(),
            unpacked: self.unpacked.as_ref().map(|unpacked| unpacked.0.clone()),
            games: config.games.iter().map(|game| (game.name.to_string(), pages(game))).collect(),
            backends: backends::start(wanted)?,
        })
    }
}

impl Demo {
    /// Lets the backends' endless streams end, so that a stop need not wait
    /// for them until its deadline.
    pub fn leave(&self) {
        self.backends.leave();
    }

    /// Says what to try.
    ///
    /// # Errors
    /// When `out` can't be written to.
    pub fn announce(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out)?;
        for (game, addresses) in &self.games {
            let local = |address: &&Address| address.domain.ends_with(".localhost");
            writeln!(out, "{game}")?;
            if let Some(Address { domain, port, path }) =
                addresses.iter().find(|address| !local(address)).or(addresses.first())
            {
                writeln!(
                    out,
                    "  curl --cacert {} --resolve {domain}:{port}:127.0.0.1 https://{domain}:{port}{path}",
                    self.ca.display()
                )?;
            }
            if let Some(Address { domain, port, path }) =
                addresses.iter().find(local).or(addresses.first())
            {
                writeln!(out, "  browser: https://{domain}:{port}{path}")?;
            }
        }
        if let Some(dir) = &self.unpacked {
            writeln!(
                out,
                "\nIts files are in {} until it ends; other commands, such as `status`, find it \
                 with `--config {}`.",
                dir.display(),
                dir.display()
            )?;
        }
        writeln!(
            out,
            "\nThe browser warns of the certificate until it trusts {} (a development CA made \
             on this machine).\nEnd with Ctrl-C.\n",
            self.ca.display()
        )
    }
}

/// What binds the clients of the group at this place. Its application's cookie
/// holds on the first path that leads there.
fn bond(game: &Game, place: usize) -> Option<Bond> {
    let sticky = game.groups.get(place)?.sticky.as_ref()?;
    let cookie = sticky.cookie.clone();
    if let StickyMode::Insert { .. } = sticky.mode {
        return Some(Bond::Inserted { cookie });
    }
    let mut rules = game.listeners.iter().flat_map(|listener| &listener.rules);
    let rule = rules.find(|rule| rule.action == Action::Forward(place));
    Some(Bond::Application { cookie, path: rule.map_or("/", |rule| &rule.path).to_owned() })
}

/// One page per `https` listener: its last port (the shared one in the shipped
/// drop-ins, where SNI tells the games apart), its first domain, and one that
/// ends in `.localhost`, which browsers find without a name server.
fn pages(game: &Game) -> Vec<Address> {
    let mut pages = Vec::new();
    for listener in game.listeners.iter().filter(|l| l.protocol() == Protocol::Https) {
        let Some(port) = listener.ports.last() else { continue };
        let domains: Vec<String> = listener
            .domains
            .iter()
            .map(ToString::to_string)
            .filter(|domain| !domain.starts_with('*'))
            .collect();
        let first = domains.first();
        let local = domains.iter().find(|domain| domain.ends_with(".localhost"));
        for domain in [first, local].into_iter().flatten() {
            let page = Address { domain: domain.clone(), port: *port, path: best_path(listener) };
            if !pages.contains(&page) {
                pages.push(page);
            }
        }
    }
    pages
}

/// The shortest path that a backend answers.
fn best_path(listener: &Listener) -> String {
    let forwarded = listener.rules.iter().filter(|r| matches!(r.action, Action::Forward(_)));
    forwarded.map(|rule| rule.path.clone()).min_by_key(String::len).unwrap_or_else(|| "/".into())
}

/// The certificates the drop-ins ask for. Read straight from the files: they
/// are not valid yet, because the certificates are absent. What is wrong with
/// a file is left to the real reading to tell.
fn wanted_certificates(drop_ins: &Path) -> io::Result<Vec<Wanted>> {
    let mut wanted = Vec::new();
    for entry in fs::read_dir(drop_ins)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let Ok(table) = text.parse::<toml::Table>() else { continue };
        let listeners = table.get("listener").and_then(toml::Value::as_array);
        for listener in listeners.into_iter().flatten().filter_map(toml::Value::as_table) {
            if listener.get("protocol").and_then(toml::Value::as_str) == Some("http") {
                continue;
            }
            let names = names(listener);
            let stem = match listener.get("certificate") {
                None => names.first().map(|name| name.trim_start_matches("*.").to_string()),
                Some(toml::Value::String(stem)) => Some(stem.clone()),
                // Files of the operator's own.
                Some(_) => None,
            };
            if let Some(file_stem) = stem {
                merge(&mut wanted, file_stem, names);
            }
        }
    }
    Ok(wanted)
}

fn names(listener: &toml::Table) -> Vec<String> {
    let texts = |value: &toml::Value| match value {
        toml::Value::String(text) => vec![text.clone()],
        toml::Value::Array(list) => {
            list.iter().filter_map(|text| text.as_str().map(str::to_string)).collect()
        }
        _ => Vec::new(),
    };
    let names = listener.get("domain").map(texts).unwrap_or_default();
    if names.is_empty() && listener.get("default").and_then(toml::Value::as_bool) == Some(true) {
        return vec!["localhost".into(), IpAddr::from([127, 0, 0, 1]).to_string()];
    }
    names
}

/// Listeners may share a certificate: it has the names of all of them.
fn merge(wanted: &mut Vec<Wanted>, file_stem: String, names: Vec<String>) {
    match wanted.iter_mut().find(|other| other.file_stem == file_stem) {
        Some(other) => {
            for name in names {
                if !other.names.contains(&name) {
                    other.names.push(name);
                }
            }
        }
        None => wanted.push(Wanted { file_stem, names }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_unpacked_is_gone_with_the_demo() {
        let (first, second) = (Unpacked::make().unwrap(), Unpacked::make().unwrap());
        let (path, other) = (first.0.clone(), second.0.clone());
        assert_ne!(path, other);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        shipped::unpack(&path).unwrap();
        drop(first);
        assert!(!path.exists() && other.exists());
        drop(second);
        assert!(!other.exists());
    }
}
