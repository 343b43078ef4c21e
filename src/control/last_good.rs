//! The last good version of each game, kept for the next start: one file a
//! game in `good/` of the state directory, with the drop-in and the
//! certificates and keys that fit it. It is its owner's alone. And whether there
//! are none on purpose.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::draft;
use crate::config::Bundle;

/// Of the form below; another one is not read.
const VERSION: u32 = 1;

/// A bundle as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// Milliseconds since 1970.
    since: u64,
    drop_in: String,
    files: BTreeMap<PathBuf, Bytes>,
}

/// PEM is text; what is not is written as Base64.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Bytes {
    Text(String),
    Base64(String),
}

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("good")
}

fn file(state_dir: &Path, game: &str) -> PathBuf {
    folder(state_dir).join(format!("{game}.json"))
}

/// All that are kept, by game. One that cannot be used is as if absent, which
/// is said in the log.
#[must_use]
pub fn load_all(state_dir: &Path) -> BTreeMap<String, Bundle> {
    let (found, problems) = read_all(state_dir);
    problems.iter().for_each(|problem| warn!("{problem}"));
    found
}

/// The same, and what could not be used. Nothing is written or locked, so that
/// anybody may look who can read it.
#[must_use]
pub fn read_all(state_dir: &Path) -> (BTreeMap<String, Bundle>, Vec<String>) {
    let folder = folder(state_dir);
    let (mut found, mut problems) = (BTreeMap::new(), Vec::new());
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                let folder = folder.display();
                let problem =
                    format!("`{folder}` cannot be read: {error}: no last good version is known");
                problems.push(problem);
            }
            return (found, problems);
        }
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(game) = name.strip_suffix(".json").filter(|_| !name.starts_with('.')) else {
            continue;
        };
        match fs::read(&path).map_err(|error| error.to_string()).and_then(|text| parse(&text)) {
            Ok(bundle) => {
                found.insert(game.to_owned(), bundle);
            }
            Err(why) => {
                let path = path.display();
                problems.push(format!("last good version `{path}` cannot be used: {why}"));
            }
        }
    }
    (found, problems)
}

/// Keeps a version in the place of the one before, which is there until this
/// one is whole on the disk. Says whether anything was written: what is the
/// same already is not.
///
/// # Errors
/// What kept it from doing so; the version before is still there.
pub fn store(state_dir: &Path, game: &str, bundle: &Bundle) -> io::Result<bool> {
    let folder = folder(state_dir);
    let path = file(state_dir, game);
    let known = fs::read(&path).ok().and_then(|text| parse(&text).ok());
    if known.is_some_and(|known| known.text == bundle.text && known.files == bundle.files) {
        return Ok(false);
    }
    let text = serde_json::to_vec(&kept(bundle))?;
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    draft::put(&path, &text)?;
    Ok(true)
}

/// Forgets a game.
///
/// # Errors
/// What kept it from doing so.
pub fn remove(state_dir: &Path, game: &str) -> io::Result<()> {
    match fs::remove_file(file(state_dir, game)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(folder(state_dir))?.sync_all(),
    }
}

/// The file that says that no game was left on purpose.
fn emptied(state_dir: &Path) -> PathBuf {
    state_dir.join("emptied")
}

/// Whether an operator said that no game is left is meant, and none came since.
#[must_use]
pub fn is_emptied(state_dir: &Path) -> bool {
    emptied(state_dir).exists()
}

/// Remembers it for the next start, or forgets it.
///
/// # Errors
/// What kept it from doing so.
pub fn set_emptied(state_dir: &Path, is_empty: bool) -> io::Result<()> {
    let file = emptied(state_dir);
    if is_empty {
        return fs::write(file, "No game is left on purpose: lockgate starts without one.\n");
    }
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn kept(bundle: &Bundle) -> Kept {
    let bytes = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Bytes::Text(text.to_owned()),
        Err(_) => Bytes::Base64(STANDARD.encode(bytes)),
    };
    let files = bundle.files.iter().map(|(name, content)| (name.clone(), bytes(content)));
    let since = bundle.since.duration_since(UNIX_EPOCH).unwrap_or_default();
    Kept {
        version: VERSION,
        since: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        drop_in: bundle.text.clone(),
        files: files.collect(),
    }
}

fn parse(text: &[u8]) -> Result<Bundle, String> {
    let kept: Kept = draft::parse(text, VERSION)?;
    let bytes = |(name, bytes)| {
        let bytes: Arc<[u8]> = match bytes {
            Bytes::Text(text) => text.into_bytes().into(),
            Bytes::Base64(text) => STANDARD.decode(text).map_err(|error| error.to_string())?.into(),
        };
        Ok((name, bytes))
    };
    let files: Result<_, String> = kept.files.into_iter().map(bytes).collect();
    let since: SystemTime = UNIX_EPOCH
        .checked_add(Duration::from_millis(kept.since))
        .ok_or_else(|| "its date is beyond all dates".to_owned())?;
    Ok(Bundle { since, text: kept.drop_in, files: files? })
}

#[cfg(test)]
mod tests;
