//! Configuration: files in, a valid [`Config`] and diagnostics out.
//!
//! A file is read in two steps. Alone: its text is parsed as TOML, walked key
//! by key, and every fault is noted with its place; what it gives is already
//! in the types of [`model`]. Then beside the others: who came first keeps
//! what it owns. A drop-in with an error is refused, alone; the others serve.
//!
//! | module | is |
//! |---|---|
//! | [`model`] | what the rest of the program reads |
//! | [`diagnostic`] | one thing that is wrong, for people and for programs |
//! | `drop_in`, `listener`, `rule`, `group` | a file of `listeners.d/`, top down |
//! | `expect` | what a drop-in says that becomes of a URL, tried |
//! | `address`, `upstream`, `sticky` | where a group's backends are, how they are spoken to, how clients come back to them |
//! | `process`, `settings` | `lockgate.toml`; the keys that have defaults there |
//! | `secret` | the keys that sign sticky cookies, and the file they stand in |
//! | `certificate`, `validity` | PEM files, the only place that reads them; their dates |
//! | `credential` | what listeners and groups say of them |
//! | `directory` | a directory that is read again: what changed, and whose last good version serves |
//! | `files`, `bundle` | the files a drop-in depends on; how they are kept together |
//! | `routing` | which listener and which rule take a request |
//! | `owners` | which file may claim what |
//! | `conflicts` | what two files cannot both have, and two groups (cookies) |
//! | `table`, `keys`, `notes`, `units` | reading TOML without stopping at the first fault |
//! | `source`, `read` | a file's text, and places in it |

pub mod diagnostic;
pub mod model;

mod address;
mod bundle;
mod certificate;
mod conflicts;
mod credential;
mod directory;
mod drop_in;
mod expect;
mod files;
mod group;
mod keys;
mod listener;
mod notes;
mod owners;
mod probe;
mod process;
mod read;
mod retry;
mod routing;
mod rule;
mod secret;
mod settings;
mod source;
mod sticky;
mod table;
mod units;
mod upstream;
mod validity;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub use bundle::Bundle;
pub use certificate::{
    CertificateError, CertificateFault, covers as certificate_covers, load_authorities,
    load_certificate, system_authorities,
};
pub use credential::certificate_end;
pub use diagnostic::{
    Diagnostic, Place, Severity, acts_on_terminals, plain, plain_json, plain_lines, plain_path,
    to_json,
};
pub use directory::{Ask, Directory, Fault, FileReport, Reading, Verdict};
pub use model::*;
pub use routing::{NoRoute, lost_because, matched_path};
pub use secret::{
    Rotated, SecretFault, SecretPlace, parse_secrets, read_secret_file, rotate_secrets, show_time,
};
pub use units::{parse_duration, show_duration};

pub(crate) use keys::nearest;

use notes::Notes;
use source::Source;
use table::Table;

/// What became of a configuration directory.
#[derive(Debug)]
pub struct Loaded {
    /// The good drop-ins, and the last good versions of others. `None` when the
    /// directory or `lockgate.toml` cannot be used, or nothing serves.
    pub config: Option<Config>,
    /// Everything there is to say, file by file.
    pub diagnostics: Vec<Diagnostic>,
    /// The drop-ins that were refused.
    pub refused: Vec<PathBuf>,
    /// How many drop-ins were asked for.
    pub files: usize,
}

impl Loaded {
    /// Whether anything was refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Reads and validates a configuration directory: `lockgate.toml`, which may
/// be absent, the drop-ins in `listeners.d/`, and `certs/`. No earlier version
/// of a game is known.
#[must_use]
pub fn load(dir: &Path) -> Loaded {
    Directory::new(dir, BTreeMap::new()).check(&[], false)
}

/// Judges these drop-ins against the rest of the directory; see
/// [`Directory::check`].
#[must_use]
pub fn load_with(dir: &Path, files: &[PathBuf]) -> Loaded {
    Directory::new(dir, BTreeMap::new()).check(files, false)
}

/// Drop-ins by file name, in lexical order.
type Listed = BTreeMap<OsString, PathBuf>;

/// Where the secret is kept, as `lockgate.toml` says. Whether it is good, or
/// there at all, is not asked.
///
/// # Errors
/// What is wrong with `lockgate.toml`.
pub fn secret_place(dir: &Path) -> Result<SecretPlace, Vec<Diagnostic>> {
    let (place, found) = read_process_table(dir, |table| secret::place(table, dir));
    if found.iter().any(Diagnostic::is_error) {
        return Err(found);
    }
    Ok(place.unwrap_or(SecretPlace::State))
}

/// What is read of the top of `lockgate.toml`; `None` when there is nothing to
/// read.
fn read_process_table<T>(
    dir: &Path,
    read: impl FnOnce(&Table<'_>) -> T,
) -> (Option<T>, Vec<Diagnostic>) {
    let file = dir.join("lockgate.toml");
    // A link that leads nowhere is not absence.
    if std::fs::symlink_metadata(&file).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return (None, Vec::new());
    }
    let source = match drop_in::read_source(&file, Source::with_secrets) {
        Ok(source) => source,
        Err(fault) => return (None, vec![*fault]),
    };
    let notes = Notes::new(source);
    let found = drop_in::parse(&notes).map(|map| {
        let table = Table::new(&notes, &keys::PROCESS, &map, 0..0);
        read(&table)
    });
    (found, notes.into_diagnostics())
}

/// The drop-ins of a directory.
fn list(dir: &Path) -> Result<Listed, Box<Diagnostic>> {
    let fault = |message: String, hint: &str| {
        Box::new(Diagnostic::whole_file(Severity::Error, dir, message).hint(hint))
    };
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => fault(
            "this directory does not exist".to_owned(),
            "make it and put one drop-in a game into it, or name another directory with `--config`",
        ),
        _ => fault(
            format!("this directory cannot be read: {error}"),
            "give lockgate's user the right to list it",
        ),
    };
    let mut listed = Listed::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && Path::new(&name).extension() == Some(OsStr::new("toml")) {
            listed.insert(name, entry.path());
        }
    }
    Ok(listed)
}

/// What of `listeners.d` looks like a drop-in, and is none by its name.
#[must_use]
pub fn passed_over(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("listeners.d")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_like = |name: &String| {
        let small = name.to_ascii_lowercase();
        small.ends_with(".toml") && (name.starts_with('.') || !name.ends_with(".toml"))
    };
    let mut passed: Vec<String> =
        names.filter(is_like).map(|name| diagnostic::shown(&name)).collect();
    passed.sort();
    passed
}

fn no_drop_in(dir: &Path) -> Box<Diagnostic> {
    let message = "there is no drop-in in this directory".to_owned();
    let fault = Diagnostic::whole_file(Severity::Error, dir, message);
    Box::new(fault.hint("put at least one file `NAME.toml` with a `[[listener]]` into it"))
}
