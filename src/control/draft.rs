//! Files of the state directory. What is written there has to be there after a
//! crash: the file before until the new one is whole on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What a file is called until it is whole.
const DRAFT: &str = ".draft";

/// Puts a file with this text in the place of the one before; it is its owner's
/// alone. One at a time in each folder.
///
/// # Errors
/// What kept it from doing so; the file before is still there.
pub(super) fn put(path: &Path, text: &[u8]) -> io::Result<()> {
    let draft = path.with_file_name(DRAFT);
    // Left by a process that was killed.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    // A new name is on the disk only with its folder.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Reads what is kept as JSON with a `version`.
///
/// # Errors
/// It is no such JSON, or of another version than the one that is known.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8], known: u32) -> Result<T, String> {
    /// Read first: another version may have another form.
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let garbled = |error: serde_json::Error| error.to_string();
    let Version { version } = serde_json::from_slice(text).map_err(garbled)?;
    if version != known {
        return Err(format!("it is of version {version}, and {known} is known"));
    }
    serde_json::from_slice(text).map_err(garbled)
}
