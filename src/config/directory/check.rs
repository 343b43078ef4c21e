//! What a reload would say, without one: for `lockgate check`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use super::known::{Known, State};
use super::{Directory, file_name};
use crate::config::certificate::Certificates;
use crate::config::files::Files;
use crate::config::model::Config;
use crate::config::{Diagnostic, Listed, Loaded, list, no_drop_in};

impl Directory {
    /// Reads everything and judges it as a reload would. With `given` these
    /// drop-ins are judged against the rest of the directory: one takes the place
    /// of the file of the same name there, wherever it lies. What is wrong with
    /// the rest is not told then, and where a given file and one of the rest want
    /// what nobody had so far, the given one is refused.
    #[must_use]
    pub fn check(mut self, given: &[PathBuf], allow_empty: bool) -> Loaded {
        let mut diagnostics = Vec::new();
        // All that is wrong is told at once.
        let mut usable = self.read_process(&mut diagnostics, true);
        let folder = self.dir.join("listeners.d");
        let listed = match list(&folder) {
            Ok(listed) if !listed.is_empty() || allow_empty || !given.is_empty() => listed,
            // What was given is all there is.
            Err(_) if !given.is_empty() => Listed::new(),
            other => {
                diagnostics.push(other.err().map_or_else(|| *no_drop_in(&folder), |fault| *fault));
                usable = false;
                Listed::new()
            }
        };
        let told = self.gather(listed, given, &mut diagnostics);
        let certificates = Certificates::new(&self.dir, Files::default());
        if !given.is_empty() {
            self.judge_all(|key| !told.contains(key), true, true, &certificates);
        }
        self.judge_all(|key| told.contains(key), true, true, &certificates);
        let mut refused = Vec::new();
        let mut games = Vec::new();
        for (key, known) in &mut self.known {
            games.extend(known.standing.as_ref().map(|standing| standing.game.clone()));
            if told.contains(key) {
                let bad = known.state != State::Good;
                refused.extend(bad.then(|| known.file.to_path_buf()));
                let report = known.told();
                diagnostics.extend(report.all_diagnostics().cloned());
            }
        }
        games.sort_by(|a, b| a.file.file_name().cmp(&b.file.file_name()));
        let process = self.process.filter(|_| usable && (allow_empty || !games.is_empty()));
        let config = process.map(|file| Config { process: file.process, games });
        Loaded { config, diagnostics, refused, files: told.len() }
    }

    /// Notes all files that there are, and wakes their last good versions. Gives
    /// those that are told of.
    fn gather(
        &mut self,
        mut listed: Listed,
        given: &[PathBuf],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> BTreeSet<OsString> {
        let mut files = Listed::new();
        for file in given {
            let name = file.file_name().unwrap_or_default().to_owned();
            let is_other = files.get(&name).is_some_and(|other| other != file);
            listed.remove(&name);
            // Two of one name are two files.
            files.insert(if is_other { file.clone().into() } else { name }, file.clone());
        }
        let told: BTreeSet<OsString> =
            if given.is_empty() { &listed } else { &files }.keys().cloned().collect();
        let mut last_good = self.last_good.take().unwrap_or_default();
        last_good.retain(|game, _| {
            let name = file_name(game);
            listed.contains_key(&name) || files.contains_key(&name)
        });
        let (of_told, others) =
            last_good.into_iter().partition(|(game, _)| told.contains(&file_name(game)));
        self.wake(of_told, diagnostics);
        self.wake(others, &mut Vec::new());
        for (key, file) in listed.into_iter().chain(files) {
            let known = self.known.entry(key).or_insert_with(|| Known::new(&file));
            known.file = file.into();
        }
        told
    }
}
