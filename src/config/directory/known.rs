//! One drop-in, as far as it is remembered.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{FileReport, Verdict};
use crate::config::bundle::{Bundle, Digest, bundled_name, digest};
use crate::config::certificate::Certificates;
use crate::config::conflicts::Holding;
use crate::config::diagnostic::{Diagnostic, Severity, acts_on_terminals};
use crate::config::drop_in::{self, DropIn};
use crate::config::files::{Looker, Seen, Stamp};
use crate::config::model::Game;
use crate::config::process::ProcessFile;
use crate::config::show_time;
use crate::config::source::Source;
use crate::policy::sticky::Seconds;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) name: Arc<str>,
    pub(super) file: Arc<Path>,
    /// The file itself, and all it depends on, as they looked when they were
    /// read.
    pub(super) seen: Vec<Seen>,
    /// One of them may have changed without looking different.
    pub(super) fresh: bool,
    pub(super) state: State,
    /// Of what was read last, if all of it could be.
    pub(super) digest: Option<Digest>,
    pub(super) diagnostics: Arc<[Diagnostic]>,
    pub(super) told_before: bool,
    /// The version that serves.
    pub(super) standing: Option<Standing>,
    /// What the last reading put it in the place of, if it did.
    pub(super) replaced: Option<Option<Standing>>,
    /// When it was first found bad.
    pub(super) bad_since: Option<SystemTime>,
    /// What is new since the last reading.
    pub(super) accepted: bool,
    pub(super) bundle: Option<Bundle>,
}

/// What the file is as it was read last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Unread,
    /// It is what stands.
    Good,
    Bad,
    /// Bad for what others have or had, which may change without it.
    Blocked,
}

/// A version that was accepted.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) game: Arc<Game>,
    pub(super) since: SystemTime,
    pub(super) digest: Digest,
    pub(super) holding: Holding,
}

/// A version that was read whole; good by itself or not, so that everything
/// that is wrong with it can be told at once.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) drop_in: DropIn,
    /// `None`: it is bad by itself.
    pub(super) digest: Option<Digest>,
}

impl Known {
    pub(super) fn new(file: &Path) -> Known {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        Known {
            name: name.into(),
            file: file.into(),
            seen: Vec::new(),
            fresh: true,
            state: State::Unread,
            digest: None,
            diagnostics: Arc::from([]),
            told_before: false,
            standing: None,
            replaced: None,
            bad_since: None,
            accepted: false,
            bundle: None,
        }
    }

    /// Whether it must be read to know what is in it.
    pub(super) fn is_due(&self, looker: &mut Looker) -> bool {
        // A bad one too: it may have been bad for want of a descriptor.
        !matches!(self.state, State::Good)
            || self.fresh
            || self.seen.iter().any(|(file, stamp)| looker.look(file) != *stamp)
    }

    /// Reads the file. `None` when nothing is to be compared: it cannot be read, or
    /// (only when `quick`) the same as before.
    pub(super) fn examine(
        &mut self,
        process: &ProcessFile,
        certificates: &Certificates,
        dir: &Path,
        quick: bool,
    ) -> Option<Candidate> {
        let now = SystemTime::now();
        let depends_on: Vec<Seen> = self.seen.drain(..).skip(1).collect();
        let seen = (Arc::clone(&self.file), Stamp::of(&self.file));
        self.seen.push(seen);
        let quick = quick && self.state == State::Good;
        let bytes = match drop_in::read_bytes(&self.file) {
            Ok(bytes) => bytes,
            Err(fault) => return self.bad(vec![*fault], now),
        };
        let bytes = match bytes.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) => rest.to_vec(),
            None => bytes,
        };
        let files = || depends_on.iter().map(|(file, _)| &**file);
        if quick && self.digest == digest_of(dir, &bytes, files(), certificates) {
            let files = depends_on.iter().map(|(file, _)| certificates.seen(file));
            self.seen.extend(files);
            self.settle(now);
            return None;
        }
        if let Some(why) = unfit_name(&self.file) {
            let message = format!("this file's name {why}");
            let fault = Diagnostic::whole_file(Severity::Error, &self.file, message);
            let hint = "give it another name: the game is called by it";
            return self.bad(vec![fault.hint(hint)], now);
        }
        let source = match drop_in::as_text(&self.file, bytes, Source::new) {
            Ok(source) => source,
            Err(fault) => return self.bad(vec![*fault], now),
        };
        certificates.asked();
        let drop_in = drop_in::read(source, &self.name, process, certificates);
        let asked = certificates.asked();
        self.seen.extend(asked.iter().map(|file| certificates.seen(file)));
        self.settle(now);
        let text = drop_in.notes.source.text.as_bytes();
        let asked = asked.iter().map(AsRef::as_ref);
        let good = drop_in.notes.errors() == 0;
        self.digest = digest_of(dir, text, asked, certificates).filter(|_| good);
        Some(Candidate { drop_in, digest: self.digest })
    }

    fn bad<T>(&mut self, diagnostics: Vec<Diagnostic>, now: SystemTime) -> Option<T> {
        self.state = State::Bad;
        self.digest = None;
        self.settle(now);
        self.tell(diagnostics);
        None
    }

    fn settle(&mut self, now: SystemTime) {
        let stamps = self.seen.iter().filter_map(|(_, stamp)| stamp.as_ref());
        self.fresh = stamps.into_iter().any(|stamp| stamp.is_fresh(now));
    }

    /// Notes what was found.
    pub(super) fn tell(&mut self, diagnostics: Vec<Diagnostic>) {
        self.told_before = *self.diagnostics == *diagnostics;
        if !self.told_before {
            self.diagnostics = diagnostics.into();
        }
    }

    /// Nothing is known of the file; `unread`: not even what it was.
    pub(super) fn leave(&mut self, unread: bool) {
        self.told_before = true;
        if unread {
            self.state = State::Unread;
            self.tell(Vec::new());
        }
    }

    /// That the last good version stands in for a bad one.
    fn stand_in(&self) -> Option<Diagnostic> {
        let standing = self.standing.as_ref().filter(|_| self.state != State::Good)?;
        let message = format!("its last good version, of {}, serves", date(standing.since));
        Some(Diagnostic::whole_file(Severity::Warning, &self.file, message))
    }

    /// The report of this reading.
    pub(super) fn told(&mut self) -> FileReport {
        let stands_in = || self.standing.as_ref().map(|by| (Arc::clone(&by.game), by.since));
        let verdict = match (self.state, &self.standing) {
            (State::Good, Some(standing)) if self.accepted => {
                Verdict::Accepted(Arc::clone(&standing.game))
            }
            (State::Good, _) => Verdict::Unchanged,
            _ => {
                let since = *self.bad_since.get_or_insert_with(SystemTime::now);
                Verdict::Refused { since, stands_in: stands_in() }
            }
        };
        if self.state == State::Good {
            self.bad_since = None;
        }
        self.accepted = false;
        let bundle = self.bundle.take();
        let report = FileReport { bundle, ..self.report(verdict) };
        self.told_before = true;
        report
    }

    pub(super) fn report(&self, verdict: Verdict) -> FileReport {
        FileReport {
            name: Arc::clone(&self.name),
            file: Arc::clone(&self.file),
            verdict,
            diagnostics: Arc::clone(&self.diagnostics),
            stand_in: self.stand_in(),
            told_before: self.told_before,
            bundle: None,
        }
    }
}

impl Candidate {
    /// What is needed to serve it again. `None` when a file of it was not read.
    pub(super) fn bundle(&self, dir: &Path, seen: &[Seen], read: &Certificates) -> Option<Bundle> {
        let file = |(file, _): &Seen| Some((bundled_name(dir, file).to_owned(), read.bytes(file)?));
        let files: Option<_> = seen.iter().skip(1).map(file).collect();
        let text = self.drop_in.notes.source.text.clone();
        Some(Bundle { since: SystemTime::now(), text, files: files? })
    }
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// As [`Bundle::digest`]; `None` when a file cannot be read.
fn digest_of<'a>(
    dir: &Path,
    text: &[u8],
    files: impl Iterator<Item = &'a Path>,
    certificates: &Certificates,
) -> Option<Digest> {
    let read = |file: &'a Path| Some((bundled_name(dir, file), certificates.bytes(file)?));
    let mut files: Vec<_> = files.map(read).collect::<Option<_>>()?;
    files.sort();
    Some(digest(text, files.iter().map(|(name, bytes)| (*name, &**bytes))))
}

/// What is wrong with a name that a game would be called by.
fn unfit_name(file: &Path) -> Option<&'static str> {
    match file.file_stem().and_then(OsStr::to_str) {
        None => Some("is not UTF-8"),
        Some(name) if name.contains(acts_on_terminals) => {
            Some("has characters that cannot be seen: control characters or the like")
        }
        Some(_) => None,
    }
}

/// A time as messages show it.
pub(super) fn date(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    show_time(Seconds::try_from(since.as_secs()).unwrap_or(Seconds::MAX))
}
