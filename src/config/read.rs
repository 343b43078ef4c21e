//! Reading whole files that are small, plain and ours.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use super::units::show_size;

/// Why a file was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// It does not exist.
    Missing,
    /// Anything else.
    Other(String),
}

/// All bytes of a regular file that is not larger than `most`. A pipe or a
/// device would make us wait or read for ever.
pub(super) fn read_file(file: &Path, most: u64) -> Result<Vec<u8>, ReadError> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => ReadError::Missing,
        ErrorKind::PermissionDenied => ReadError::Other("permission denied".to_owned()),
        _ => ReadError::Other(error.to_string()),
    };
    // Asked before it is opened: opening a pipe waits for its writer.
    let metadata = std::fs::metadata(file).map_err(failed)?;
    if metadata.is_dir() {
        return Err(ReadError::Other("it is a directory".to_owned()));
    }
    if !metadata.is_file() {
        return Err(ReadError::Other("it is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(failed)?;
    opened.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > most) {
        return Err(ReadError::Other(format!("it is larger than {}", show_size(most))));
    }
    Ok(bytes)
}
