//! Who may have what: the candidates against what stands.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::sync::Arc;
use std::time::SystemTime;

use super::Directory;
use super::known::{Candidate, Standing, State};
use crate::config::certificate::Certificates;
use crate::config::conflicts::File;
use crate::config::credential::check_replacement;
use crate::config::files::Looker;
use crate::config::notes::Mark;

/// Candidates by file name; the mark is where the comparison begins.
type Open = BTreeMap<OsString, (Box<Candidate>, Mark)>;

impl Directory {
    /// Reads those of these files that may have changed, and compares the candidates until nobody
    /// who was refused may hope any more.
    pub(super) fn judge_all(
        &mut self,
        due: impl Fn(&OsString) -> bool,
        anew: bool,
        new_defaults: bool,
        certificates: &Certificates,
    ) {
        let mut open = self.examine_all(due, anew, certificates);
        let mut next: BTreeSet<OsString> = open.keys().cloned().collect();
        // Who waits for a file to give something up.
        let mut waiting: HashMap<File, Vec<OsString>> = HashMap::new();
        while let Some(key) = next.pop_first() {
            let Some((candidate, mark)) = open.remove(&key) else {
                continue;
            };
            match self.judge(&key, candidate, mark, new_defaults, certificates) {
                Ok(gave_up) => {
                    next.extend(
                        gave_up.and_then(|file| waiting.remove(&file)).into_iter().flatten(),
                    );
                }
                Err((candidate, blocked_by)) => {
                    for file in blocked_by {
                        waiting.entry(file).or_default().push(key.clone());
                    }
                    open.insert(key, (candidate, mark));
                }
            }
        }
        for (key, (candidate, _)) in open {
            if let Some(known) = self.known.get_mut(&key) {
                let is_good = candidate.digest.is_some();
                known.state = if is_good { State::Blocked } else { State::Bad };
                known.tell(candidate.drop_in.notes.into_diagnostics());
            }
        }
    }

    fn examine_all(
        &mut self,
        due: impl Fn(&OsString) -> bool,
        anew: bool,
        certificates: &Certificates,
    ) -> Open {
        let mut open = Open::new();
        let Some(process) = &self.process else {
            return open;
        };
        let mut looker = Looker::default();
        for (key, known) in self.known.iter_mut().filter(|(key, _)| due(key)) {
            if !anew && !known.is_due(&mut looker) {
                continue;
            }
            if let Some(mut candidate) = known.examine(process, certificates, &self.dir, !anew) {
                if let Some(fault) = self.rejected.get(key) {
                    let notes = &candidate.drop_in.notes;
                    let span = match fault.port {
                        Some(port) => notes.source.number_span(fault.line, port),
                        None => notes.source.line_span(fault.line),
                    };
                    notes.error(&span, &fault.message, &fault.hint);
                    (candidate.digest, known.digest) = (None, None);
                }
                let mark = candidate.drop_in.notes.mark();
                open.insert(key.clone(), (Box::new(candidate), mark));
            }
        }
        open
    }

    /// Compares one candidate with all that stand. Accepted, it is what stands,
    /// and the version before (whose number is given back) has given up what it
    /// had. Refused, it comes back with those who are in its way.
    fn judge(
        &mut self,
        key: &OsString,
        candidate: Box<Candidate>,
        mark: Mark,
        new_defaults: bool,
        certificates: &Certificates,
    ) -> Result<Option<File>, (Box<Candidate>, BTreeSet<File>)> {
        let Some(known) = self.known.get_mut(key) else {
            return Ok(None);
        };
        let notes = &candidate.drop_in.notes;
        notes.back_to(mark);
        let before = known.standing.as_ref();
        if let Some(before) = before {
            check_replacement(&candidate.drop_in, &before.game);
            self.taken.take_out(&before.holding);
        }
        let holding = self.taken.add(&candidate.drop_in);
        let blocked_by = self.taken.blocked_by();
        let Some(digest) = candidate.digest.filter(|_| notes.errors() == 0) else {
            self.taken.take_out(&holding);
            if let Some(before) = before {
                self.taken.put_back(&before.holding);
            }
            return Err((candidate, blocked_by));
        };
        let gave_up = before.map(|before| before.holding.file);
        let before = known.standing.take();
        let same = before.clone().filter(|before| before.digest == digest);
        let was_good = known.state == State::Good;
        let since = same.as_ref().map_or_else(SystemTime::now, |same| same.since);
        if same.is_none() {
            known.bundle = candidate.bundle(&self.dir, &known.seen, certificates);
        }
        let Candidate { drop_in, .. } = *candidate;
        let same = same.filter(|_| !new_defaults);
        known.accepted = same.is_none() || !was_good;
        known.replaced = same.is_none().then_some(before);
        let game = same.map_or_else(|| Arc::new(drop_in.game), |same| same.game);
        known.standing = Some(Standing { game, since, digest, holding });
        known.state = State::Good;
        known.tell(drop_in.notes.into_diagnostics());
        Ok(gave_up)
    }
}
