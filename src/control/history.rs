//! The last reloads and what they did, for who looks when something is different.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::reload::Report;
use super::times::unix;

/// So many are kept.
const KEPT: usize = 10;
/// And of each so many games, changes of one, and diagnostics: thousands of files
/// may be changed at once.
const MOST: usize = 20;

/// A reload, as it was told to who asked for it, cut short.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ReloadStatus {
    /// In seconds since 1970.
    at: u64,
    #[serde(flatten)]
    report: Report,
    /// How many games were changed or refused.
    games_in_all: usize,
}

/// See the module. A clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Reloads(Rc<RefCell<VecDeque<ReloadStatus>>>);

impl Reloads {
    pub(super) fn note(&self, report: &Report) {
        let (at, games_in_all) = (unix(SystemTime::now()), report.games.len());
        let mut report = report.clone();
        // Those that went wrong are the last to be left out.
        report.games.sort_by_key(|game| game.verdict != "refused");
        report.games.truncate(MOST);
        report.games.iter_mut().for_each(|game| cut(&mut game.changes));
        cut(&mut report.problems);
        cut(&mut report.diagnostics);
        let mut kept = self.0.borrow_mut();
        kept.truncate(KEPT - 1);
        kept.push_front(ReloadStatus { at, report, games_in_all });
    }

    /// The newest first.
    pub(super) fn told(&self) -> Vec<ReloadStatus> {
        self.0.borrow().iter().cloned().collect()
    }
}

fn cut(lines: &mut Vec<String>) {
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::reload::GameReport;
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_what_went_wrong_in_them() {
        let reloads = Reloads::default();
        let game = |n: usize| GameReport {
            game: n.to_string(),
            verdict: if n == MOST { "refused" } else { "changed" }.to_owned(),
            changes: vec!["a change".to_owned(); MOST + 3],
        };
        for generation in 1..=12 {
            let games = (0..=MOST).map(game).collect();
            reloads.note(&Report { generation, games, ..Report::default() });
        }
        let told = reloads.told();
        assert_eq!(told.iter().map(|one| one.report.generation).max(), Some(12));
        assert_eq!((told.len(), told[0].report.generation, told[9].report.generation), (10, 12, 3));
        assert_eq!((told[0].games_in_all, told[0].report.games.len()), (MOST + 1, MOST));
        assert_eq!(told[0].report.games[0].verdict, "refused");
        assert_eq!(told[0].report.games[1].changes.last().unwrap(), "and 3 more");
    }
}
