//! Keeps the last good versions of games in the state directory: what was
//! accepted is written, what was removed is forgotten, off the way of everything
//! else. What could not be written is tried again with the next.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tokio::task::{JoinHandle, spawn_blocking, spawn_local};
use tracing::error;

use super::last_good;
use crate::config::{Bundle, FileReport, Verdict};

/// What is to be kept of each game; `None`: nothing any more.
type ToDo = BTreeMap<String, Option<Bundle>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Keeper {
    state_dir: PathBuf,
    to_do: ToDo,
    /// Gives what could not be written.
    writing: Option<JoinHandle<ToDo>>,
}

impl Keeper {
    pub(super) fn new(state_dir: &Path) -> Keeper {
        Keeper { state_dir: state_dir.to_owned(), to_do: ToDo::new(), writing: None }
    }

    /// What a reading brought; [`Keeper::keep`] writes it.
    pub(super) fn note(&mut self, files: &[FileReport]) {
        for file in files {
            if let Some(bundle) = &file.bundle {
                self.to_do.insert(file.name.to_string(), Some(bundle.clone()));
            }
            if matches!(file.verdict, Verdict::Removed) {
                self.to_do.insert(file.name.to_string(), None);
            }
        }
    }

    /// Writes what is to be written, in time; while an earlier lot is being
    /// written, with the next.
    pub(super) fn keep(&mut self) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        let before = self.writing.take();
        let (state_dir, new) = (self.state_dir.clone(), std::mem::take(&mut self.to_do));
        self.writing = Some(spawn_local(async move {
            // What failed goes once more, where nothing newer is there.
            let mut to_do = match before {
                // It has ended; a panic in there was printed where it happened.
                Some(before) => before.await.unwrap_or_default(),
                None => ToDo::new(),
            };
            to_do.extend(new);
            spawn_blocking(move || write(&state_dir, to_do)).await.unwrap_or_default()
        }));
    }

    /// Writes all that is left.
    pub(super) async fn finish(&mut self) {
        if let Some(writing) = &mut self.writing {
            let failed = writing.await.unwrap_or_default();
            self.writing = None;
            let newer = std::mem::replace(&mut self.to_do, failed);
            self.to_do.extend(newer);
        }
        let (state_dir, to_do) = (self.state_dir.clone(), std::mem::take(&mut self.to_do));
        let _ = spawn_blocking(move || write(&state_dir, to_do)).await;
    }
}

/// Gives back what could not be done.
fn write(state_dir: &Path, mut to_do: ToDo) -> ToDo {
    to_do.retain(|game, bundle| {
        let done = match bundle {
            Some(bundle) => last_good::store(state_dir, game, bundle).map(drop),
            None => last_good::remove(state_dir, game),
        };
        if let Err(error) = &done {
            error!(game, %error, "the last good version cannot be kept");
        }
        done.is_err()
    });
    to_do
}
