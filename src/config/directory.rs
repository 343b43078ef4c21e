//! A configuration directory that is read again and again: only what changed
//! is read anew, and of a game whose new version is bad the last good one
//! stands in.
//!
//! Who has a domain on a port (or a default, or a cookie name) keeps it: every
//! file that stands holds what it claims from the beginning, the others are
//! judged in lexical order against that, and a file that was refused for what
//! another gave up afterwards is judged again. Two files that swap domains in
//! one step are both refused: one has to give up first.

mod check;
mod judge;
mod known;
mod retract;
mod wake;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use known::Known;
pub use retract::Fault;

use super::bundle::Bundle;
use super::certificate::Certificates;
use super::conflicts::Taken;
use super::diagnostic::{Diagnostic, Severity};
use super::files::{Files, Looker, Stamp};
use super::model::{Config, Game};
use super::process::{self, ProcessFile};
use super::{list, no_drop_in, read_process_table};

/// See the module.
#[derive(Clone, Debug)]
pub struct Directory {
    dir: PathBuf,
    /// The last good `lockgate.toml`.
    process: Option<ProcessFile>,
    taken: Taken,
    known: BTreeMap<OsString, Known>,
    /// Until the first reading.
    last_good: Option<BTreeMap<String, Bundle>>,
    /// What was told of the whole the last time.
    told: Vec<Diagnostic>,
    /// What of `lockgate.toml` the drop-ins were not asked about yet.
    changed: Changed,
    /// The same of the last reading.
    applied: Changed,
    /// Those whose files the last reading found to be gone.
    gone: Vec<FileReport>,
    /// What cannot be served, by file name.
    rejected: BTreeMap<OsString, Fault>,
}

/// How to read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask {
    /// Every file, not only those that look changed.
    pub all: bool,
    /// That no drop-in is left is meant.
    pub allow_empty: bool,
}

/// What became of the directory.
#[derive(Debug)]
pub struct Reading {
    /// What is to be served. `None` when there never was a good `lockgate.toml`
    /// or, at the first reading, no game to serve.
    pub config: Option<Config>,
    /// Each drop-in, in lexical order; those that are gone come first.
    pub files: Vec<FileReport>,
    /// What is wrong with `lockgate.toml` and the directory. With an error in
    /// the first its old content stays, with one in the second every game.
    pub diagnostics: Vec<Diagnostic>,
    /// The same was told the last time.
    pub told_before: bool,
}

impl Reading {
    /// Whether anything was refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.all_diagnostics().any(Diagnostic::is_error)
    }

    /// Of the whole, then file by file.
    pub fn all_diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().chain(self.files.iter().flat_map(FileReport::all_diagnostics))
    }
}

/// What became of one drop-in.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// The game: the file's name without `.toml`.
    pub name: Arc<str>,
    /// Where it lies, or lay.
    pub file: Arc<Path>,
    /// Whether it serves.
    pub verdict: Verdict,
    /// All that is wrong with it.
    pub diagnostics: Arc<[Diagnostic]>,
    /// That its last good version serves in its place.
    pub stand_in: Option<Diagnostic>,
    /// The same was told the last time.
    pub told_before: bool,
    /// What was accepted now and is not what was accepted before: to be kept
    /// for the next start.
    pub bundle: Option<Bundle>,
}

impl FileReport {
    /// All there is to say of it.
    pub fn all_diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().chain(&self.stand_in)
    }
}

/// See [`FileReport`].
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It serves as before; at the first reading: as its last good version.
    Unchanged,
    /// It is good, and new or good again.
    Accepted(Arc<Game>),
    /// It is bad.
    Refused {
        /// When it was first found bad.
        since: SystemTime,
        /// Its last good version, and when that was accepted.
        stands_in: Option<(Arc<Game>, SystemTime)>,
    },
    /// It is gone, and its game with it. What was kept of it may go too.
    Removed,
}

/// What a new `lockgate.toml` changes for drop-ins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Changed {
    /// How they read.
    defaults: bool,
    /// What they may claim.
    free: bool,
}

impl Directory {
    /// With the last good versions of its games, which are looked at by the
    /// first reading.
    #[must_use]
    pub fn new(dir: &Path, last_good: BTreeMap<String, Bundle>) -> Directory {
        Directory {
            dir: dir.to_owned(),
            process: None,
            taken: Taken::default(),
            known: BTreeMap::new(),
            last_good: Some(last_good),
            told: Vec::new(),
            changed: Changed::default(),
            applied: Changed::default(),
            gone: Vec::new(),
            rejected: BTreeMap::new(),
        }
    }

    /// How all that a reading reads looks from outside: if that differs from what
    /// it was, something changed.
    #[must_use]
    pub fn look(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut looker = Looker::default();
        Stamp::of(&self.dir.join("lockgate.toml")).hash(&mut hasher);
        let listed = list(&self.dir.join("listeners.d")).ok();
        for (name, file) in listed.iter().flatten() {
            name.hash(&mut hasher);
            looker.look(file).hash(&mut hasher);
        }
        for (file, _) in self.known.values().flat_map(|known| &known.seen) {
            looker.look(file).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Reads what changed. A game that did not is the same `Arc` as before.
    pub fn read(&mut self, ask: Ask) -> Reading {
        self.rejected.clear();
        self.gone.clear();
        self.known.values_mut().for_each(|known| known.replaced = None);
        self.read_on(ask)
    }

    fn read_on(&mut self, ask: Ask) -> Reading {
        let mut diagnostics = Vec::new();
        self.read_process(&mut diagnostics, false);
        if self.process.is_none() {
            return self.reading(Vec::new(), diagnostics, false);
        }
        let folder = self.dir.join("listeners.d");
        let listed = list(&folder).and_then(|listed| {
            let meant = !listed.is_empty() || ask.allow_empty;
            if meant { Ok(listed) } else { Err(no_drop_in(&folder)) }
        });
        let first = self.last_good.is_some();
        let mut reports = Vec::new();
        if let Some(last_good) = self.last_good.take() {
            let (here, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
                last_good.into_iter().partition(|(name, _)| match &listed {
                    Ok(listed) => listed.contains_key(&file_name(name)),
                    Err(_) => true,
                });
            reports.extend(gone.into_keys().map(|name| self.gone(&name)));
            self.wake(here, &mut diagnostics);
        }
        let listed = match listed {
            Ok(listed) => listed,
            Err(fault) => {
                diagnostics.push(*fault);
                for known in self.known.values_mut() {
                    known.leave(first);
                }
                return self.reading(reports, diagnostics, !first);
            }
        };
        reports.extend(self.remove_others(&listed));
        self.gone.extend(reports.iter().cloned());
        for (key, file) in listed {
            self.known.entry(key).or_insert_with(|| Known::new(&file));
        }
        let changed = std::mem::take(&mut self.changed);
        self.applied = changed;
        let read_anew = ask.all || changed.defaults || changed.free;
        let certificates = Certificates::new(&self.dir, Files::default());
        self.judge_all(|_| true, read_anew, changed.defaults, &certificates);
        self.reading(reports, diagnostics, !first || ask.allow_empty)
    }

    /// Reads `lockgate.toml`, and says whether it is good. A bad one is used as far
    /// as it goes if that is wanted, else the version before stays.
    fn read_process(&mut self, diagnostics: &mut Vec<Diagnostic>, bad_too: bool) -> bool {
        let (read, found) = read_process_table(&self.dir, |table| process::read(table, &self.dir));
        let good = !found.iter().any(Diagnostic::is_error);
        diagnostics.extend(found);
        if good || bad_too {
            let read = read.unwrap_or_default();
            if let Some(old) = &self.process {
                self.changed.defaults |= !old.reads_same(&read);
                self.changed.free |= !old.leaves_same(&read);
            }
            self.taken.set_process(&read);
            self.process = Some(read);
        } else if self.process.is_some() {
            let file = self.dir.join("lockgate.toml");
            let message = "the version of this file before goes on being in force".to_owned();
            diagnostics.push(Diagnostic::whole_file(Severity::Warning, &file, message));
        }
        good
    }

    /// Forgets the games whose files are gone, and what they had.
    fn remove_others(&mut self, listed: &super::Listed) -> Vec<FileReport> {
        let mut reports = Vec::new();
        let taken = &mut self.taken;
        self.known.retain(|key, known| {
            let stays = listed.contains_key(key);
            if !stays {
                if let Some(standing) = &known.standing {
                    taken.take_out(&standing.holding);
                }
                // What was wrong with it is nobody's matter any more.
                let diagnostics = Arc::from([]);
                let report = known.report(Verdict::Removed);
                reports.push(FileReport { diagnostics, stand_in: None, ..report });
            }
            stays
        });
        reports
    }

    fn gone(&self, name: &str) -> FileReport {
        let file = self.dir.join("listeners.d").join(file_name(name));
        FileReport {
            name: name.into(),
            file: file.into(),
            verdict: Verdict::Removed,
            diagnostics: Arc::from([]),
            stand_in: None,
            told_before: false,
            bundle: None,
        }
    }

    fn reading(
        &mut self,
        mut files: Vec<FileReport>,
        diagnostics: Vec<Diagnostic>,
        may_be_empty: bool,
    ) -> Reading {
        let mut games = Vec::with_capacity(self.known.len());
        files.reserve(self.known.len());
        for known in self.known.values_mut() {
            games.extend(known.standing.as_ref().map(|standing| Arc::clone(&standing.game)));
            files.push(known.told());
        }
        let process = self.process.as_ref().map(|file| file.process.clone());
        let process = process.filter(|_| may_be_empty || !games.is_empty());
        let told_before = self.told == diagnostics;
        self.told.clone_from(&diagnostics);
        let config = process.map(|process| Config { process, games });
        Reading { config, files, diagnostics, told_before }
    }
}

fn file_name(game: &str) -> OsString {
    OsString::from(format!("{game}.toml"))
}

#[cfg(test)]
mod tests;
