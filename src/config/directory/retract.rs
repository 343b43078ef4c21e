//! What was accepted and turns out not to be servable: the reading is done once
//! more, and refuses it.

use super::known::{Standing, State};
use super::{Ask, Directory, Reading, file_name};

/// Why a game cannot be served as its drop-in says, though nothing is wrong with
/// that by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file's name without `.toml`.
    pub game: String,
    /// The line that is to blame.
    pub line: usize,
    /// The port that cannot be had, if that is the reason: no reason to prefer a
    /// version that wants it too, or none at all.
    pub port: Option<u16>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Standing {
    fn wants(&self, port: u16) -> bool {
        self.game.listeners.iter().any(|listener| listener.ports.contains(&port))
    }
}

impl Directory {
    /// The last reading once more, without the versions that cannot be served:
    /// they are refused, what was in their place before stands in for them, and
    /// what they had given up they still have. `None`, and nothing done, when none
    /// of them was accepted by that reading.
    pub fn read_without(&mut self, ask: Ask, faults: Vec<Fault>) -> Option<Reading> {
        let is_new = |fault: &Fault| {
            let known = self.known.get(&file_name(&fault.game));
            let Some(before) = known.and_then(|known| known.replaced.as_ref()) else {
                return false;
            };
            fault.port.is_none_or(|port| before.as_ref().is_some_and(|before| !before.wants(port)))
        };
        let faults: Vec<Fault> = faults.into_iter().filter(is_new).collect();
        if faults.is_empty() {
            return None;
        }
        let mut back = Vec::new();
        for known in self.known.values_mut() {
            let Some(before) = known.replaced.take() else { continue };
            if let Some(standing) = &known.standing {
                self.taken.take_out(&standing.holding);
            }
            back.extend(before.as_ref().map(|before| before.holding.clone()));
            known.standing = before;
            known.state = State::Unread;
            known.digest = None;
            // It is told again.
            known.diagnostics = [].into();
        }
        // All at once: what one of them got another may have had.
        back.iter().for_each(|holding| self.taken.put_back(holding));
        self.rejected.extend(faults.into_iter().map(|fault| (file_name(&fault.game), fault)));
        self.told.clear();
        self.changed = self.applied;
        let gone = std::mem::take(&mut self.gone);
        let mut reading = self.read_on(ask);
        reading.files.splice(0..0, gone.iter().cloned());
        self.gone.splice(0..0, gone);
        Some(reading)
    }
}
