//! The last good versions at the start of the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::known::{Known, Standing, State, date};
use super::{Directory, file_name};
use crate::config::bundle::Bundle;
use crate::config::certificate::Certificates;
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::drop_in;
use crate::config::files::Files;
use crate::config::source::Source;

impl Directory {
    /// Lets the last good versions stand. What is not good any more (another
    /// `lockgate.toml`, another lockgate) is told, and as if absent.
    pub(super) fn wake(
        &mut self,
        last_good: BTreeMap<String, Bundle>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let Some(process) = &self.process else {
            return;
        };
        for (name, bundle) in last_good {
            let key = file_name(&name);
            let file = self.dir.join("listeners.d").join(&key);
            let mut known = Known::new(&file);
            let digest = bundle.digest();
            let Bundle { since, text, files } = bundle;
            let files = files.into_iter().map(|(name, bytes)| (self.dir.join(name), bytes));
            let certificates = Certificates::new(&self.dir, Files::bundled(files));
            let source = Arc::new(Source::new(&file, text));
            let drop_in = drop_in::read(source, &known.name, process, &certificates);
            let holding = self.taken.add(&drop_in);
            if drop_in.notes.errors() > 0 {
                self.taken.take_out(&holding);
                let faults = drop_in.notes.into_diagnostics();
                let first = faults.iter().find(|fault| fault.is_error());
                let why = first.map(|fault| fault.message.as_str()).unwrap_or_default();
                let message = format!(
                    "its last good version, of {}, is not good any more: {why}",
                    date(since)
                );
                diagnostics.push(Diagnostic::whole_file(Severity::Warning, &file, message));
                continue;
            }
            let asked = certificates.asked();
            // How they looked is not known, so that they are read.
            known.seen = std::iter::once((Arc::clone(&known.file), None))
                .chain(asked.into_iter().map(|file| (file.into(), None)))
                .collect();
            known.state = State::Good;
            known.digest = Some(digest);
            let game = Arc::new(drop_in.game);
            known.standing = Some(Standing { game, since, digest, holding });
            known.tell(drop_in.notes.into_diagnostics());
            self.known.insert(key, known);
        }
    }
}
