//! What a reload did, in words.

use std::fmt;

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use crate::config::{Diagnostic, FileReport, Reading, Verdict};

/// What a reload did, for people and programs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Everything was taken as it is written.
    pub good: bool,
    /// What the files say is served now; not after a dry run, nor when nothing
    /// could be used.
    pub applied: bool,
    /// Nothing was to be applied.
    pub dry_run: bool,
    /// Of the snapshot that serves now.
    pub generation: u64,
    /// How long it took.
    pub milliseconds: f64,
    /// Games of which something changed, or that were refused.
    pub games: Vec<GameReport>,
    /// What of `lockgate.toml` and of the secret is another now.
    #[serde(default)]
    pub process: Vec<String>,
    /// How many are as they were.
    pub unchanged: usize,
    /// What concerns no single game, and is wrong.
    pub problems: Vec<String>,
    /// What only a start reads, and is another now.
    pub restart: Vec<String>,
    /// What the files are to blame for, as it is told by `check`.
    pub diagnostics: Vec<String>,
}

/// What became of one drop-in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GameReport {
    /// The file's name without `.toml`.
    pub game: String,
    /// `changed`, or `refused`: what it was before serves on.
    pub verdict: String,
    /// In words; of a refused one what is wrong.
    pub changes: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.diagnostics {
            writeln!(f, "{diagnostic}\n")?;
        }
        for problem in &self.problems {
            writeln!(f, "error: {problem}")?;
        }
        for warning in &self.restart {
            writeln!(f, "warning: {warning}")?;
        }
        self.process.iter().try_for_each(|change| writeln!(f, "{change}"))?;
        for GameReport { game, verdict, changes } in &self.games {
            match &**verdict {
                "refused" => {
                    writeln!(f, "{game}: refused: {}", changes.last().map_or("", String::as_str))?;
                }
                _ => changes.iter().try_for_each(|change| writeln!(f, "{game}: {change}"))?,
            }
        }
        let verdict = match (self.applied, self.dry_run, self.good) {
            (true, _, true) => "reloaded",
            (true, _, false) => "reloaded, but not all of it",
            (false, true, true) => "this would be done",
            (false, true, false) => "this would be done, and not all of it is good",
            (false, false, _) => "not reloaded: what ran before runs on",
        };
        let (changed, unchanged) = (self.changed(), self.unchanged);
        let (generation, time) = (self.generation, self.milliseconds);
        writeln!(
            f,
            "{verdict}: {changed} changed, {unchanged} as before, generation {generation} ({time:.1} ms)"
        )
    }
}

impl Report {
    /// How many games changed.
    fn changed(&self) -> usize {
        self.games.iter().filter(|game| game.verdict == "changed").count()
    }

    pub(super) fn of(reading: &Reading) -> Report {
        // Errors are told each time, the rest once.
        let told = |before: bool| move |one: &&Diagnostic| one.is_error() || !before;
        let of_all = reading.diagnostics.iter().filter(told(reading.told_before));
        let of_files = reading
            .files
            .iter()
            .flat_map(|file| file.diagnostics.iter().filter(told(file.told_before)));
        Report {
            good: !reading.has_errors(),
            diagnostics: of_all.chain(of_files).map(|one| one.render(false)).collect(),
            games: reading.files.iter().filter_map(refused).collect(),
            ..Report::default()
        }
    }

    /// Into the log, where those look who did not ask for it.
    pub(in crate::control) fn log(&self) {
        for game in &self.games {
            let name = &*game.game;
            match &*game.verdict {
                "refused" => {
                    error!(game = name, problems = game.changes.join("; "), "drop-in refused");
                }
                _ => info!(game = name, changes = game.changes.join("; "), "game changed"),
            }
        }
        for change in &self.process {
            info!("{change}");
        }
        for problem in &self.problems {
            error!("{problem}");
        }
        for warning in &self.restart {
            warn!("{warning}");
        }
        let (generation, unchanged) = (self.generation, self.unchanged);
        if self.applied {
            info!(generation, changed = self.changed(), unchanged, "reloaded");
        } else {
            warn!(generation, good = self.good, "not reloaded: what ran before runs on");
        }
    }
}

/// What is wrong, each in a line.
fn errors_of(diagnostics: &[Diagnostic]) -> Vec<String> {
    let errors = diagnostics.iter().filter(|one| one.is_error());
    errors.map(Diagnostic::brief).collect()
}

fn refused(file: &FileReport) -> Option<GameReport> {
    if !matches!(file.verdict, Verdict::Refused { .. }) {
        return None;
    }
    let serves = match &file.stand_in {
        Some(told) => told.message.clone(),
        None => "nothing of it serves".to_owned(),
    };
    let changes = errors_of(&file.diagnostics).into_iter().chain([serves]).collect();
    Some(GameReport { game: file.name.to_string(), verdict: "refused".to_owned(), changes })
}
