//! The files that were refused, as `/status.json` tells of them until they are
//! mended; and what is refused though nothing is wrong with it by itself.

use std::cell::RefCell;
use std::fmt;
use std::iter;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::sockets::Bound;
use super::times::{shown, unix};
use crate::config::{Diagnostic, Fault, Reading, Verdict, plain, plain_path};
use crate::state::{self, BuildError, Snapshot};

/// So many of a file's faults are told; `check` tells all.
const MOST: usize = 3;

/// What the last reading refused.
pub(super) type Troubles = Rc<RefCell<Vec<FileTrouble>>>;

/// A file that is not taken as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileTrouble {
    /// `null`: it concerns all games, which serve as before.
    game: Option<String>,
    pub(super) file: String,
    /// When this process first found it bad, in seconds since 1970.
    since: u64,
    /// When the last good version, which serves, was accepted; `null`: nothing of
    /// the game serves.
    last_good: Option<u64>,
    /// What is wrong, the first few.
    problems: Vec<String>,
    /// How many there are.
    errors: usize,
}

/// What a reading refused; `before` is what the one before did.
pub(super) fn troubles(reading: &Reading, before: &[FileTrouble]) -> Vec<FileTrouble> {
    let mut found: Vec<FileTrouble> = Vec::new();
    for fault in reading.diagnostics.iter().filter(|one| one.is_error()) {
        let file = plain_path(&fault.file);
        if found.iter().any(|known| known.file == file) {
            continue;
        }
        let since = since(before, &file);
        let of_file = reading.diagnostics.iter().filter(|one| one.file == fault.file);
        found.push(FileTrouble::new(None, file, since, of_file));
    }
    for file in &reading.files {
        let Verdict::Refused { since, stands_in } = &file.verdict else { continue };
        let (name, path) = (plain(&file.name), plain_path(&file.file));
        let trouble = FileTrouble::new(Some(name), path, unix(*since), file.diagnostics.iter());
        let last_good = stands_in.as_ref().map(|(_, accepted)| unix(*accepted));
        found.push(FileTrouble { last_good, ..trouble });
    }
    found
}

/// Since when a file that concerns all games is in trouble.
fn since(before: &[FileTrouble], file: &str) -> u64 {
    let known = before.iter().find(|one| one.game.is_none() && one.file == file);
    known.map_or_else(|| unix(SystemTime::now()), |known| known.since)
}

impl FileTrouble {
    /// What of `lockgate.toml` could not be done, though it reads well.
    pub(super) fn of_process(fault: &Diagnostic, before: &[FileTrouble]) -> FileTrouble {
        let file = plain_path(&fault.file);
        let since = since(before, &file);
        FileTrouble::new(None, file, since, iter::once(fault))
    }

    /// As a reload tells of it.
    pub(super) fn in_a_line(&self) -> String {
        let Self { game, file, problems, .. } = self;
        let name = game.as_ref().unwrap_or(file);
        let serves = self.serves();
        format!("{name}: refused: {}: {serves}", problems.first().map_or("", String::as_str))
    }

    fn serves(&self) -> String {
        match (&self.game, self.last_good) {
            (None, _) => "all serves as before".to_owned(),
            (_, Some(of)) => format!("its last good version, of {}, serves", shown(of)),
            (_, None) => "nothing of it serves".to_owned(),
        }
    }

    fn new<'a>(
        game: Option<String>,
        file: String,
        since: u64,
        diagnostics: impl Iterator<Item = &'a Diagnostic>,
    ) -> FileTrouble {
        let errors: Vec<String> =
            diagnostics.filter(|one| one.is_error()).map(Diagnostic::brief).collect();
        let problems = errors.iter().take(MOST).cloned().collect();
        FileTrouble { game, file, since, last_good: None, problems, errors: errors.len() }
    }
}

impl fmt::Display for FileTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = shown(self.since);
        let serves = self.serves();
        writeln!(f, "{}: refused since {since}: {serves}", self.file)?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "  {problem}"))?;
        let more = self.errors.saturating_sub(self.problems.len());
        if more > 0 {
            writeln!(f, "  and {more} more: `lockgate check` tells them")?;
        }
        Ok(())
    }
}

/// A game that cannot be served, though nothing is wrong with its file.
pub(super) fn unservable(error: &BuildError) -> Fault {
    Fault {
        game: error.game().to_owned(),
        line: error.line(),
        port: None,
        message: format!("this cannot be served now: {}", error.reason()),
        hint: "reload once more when that is mended".to_owned(),
    }
}

/// The games that want a port that cannot be had.
pub(super) fn lacking(next: &Snapshot, bound: &Bound) -> Vec<Fault> {
    let fault = |game: &Arc<state::Game>| {
        let lacks = |(at, port): (usize, &u16)| {
            let wants = |listener: &&Arc<state::Listener>| listener.config.ports.contains(port);
            let line = game.listeners.iter().find(wants)?.config.line;
            Some((line, *port, bound.failed.get(at)?))
        };
        let (line, port, why) = bound.lacking.iter().enumerate().find_map(lacks)?;
        Some(Fault {
            game: game.config.name.to_string(),
            line,
            port: Some(port),
            message: format!("a port of this listener cannot be had: {why}"),
            hint: "the game stays as it was: free the port, or take another one".to_owned(),
        })
    };
    next.games.iter().filter_map(fault).collect()
}
