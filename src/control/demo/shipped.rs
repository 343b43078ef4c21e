//! The drop-ins of `listeners.d/`, carried in the binary: what `lockgate demo`
//! serves where there is no config directory.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// File name and text of each.
pub(super) const DROP_INS: &[(&str, &str)] = &[
    ("youxia.toml", include_str!("../../../listeners.d/youxia.toml")),
    ("youxib.toml", include_str!("../../../listeners.d/youxib.toml")),
];

/// Writes them to `dir/listeners.d/`. A file that is there already is someone's
/// work and stays as it is.
///
/// # Errors
/// The folder or a file cannot be made; the message names it.
pub(super) fn unpack(dir: &Path) -> io::Result<()> {
    let folder = dir.join("listeners.d");
    let about =
        |path: &Path, e: &io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    fs::create_dir_all(&folder).map_err(|e| about(&folder, &e))?;
    for (name, text) in DROP_INS {
        let path = folder.join(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => file.write_all(text.as_bytes()).map_err(|e| about(&path, &e))?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(about(&path, &e)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new file in `listeners.d/` that is not listed here would be missing
    /// from the demo of an installed binary only.
    #[test]
    fn all_shipped_drop_ins_are_carried() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("listeners.d");
        let mut files: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.') && name.ends_with(".toml"))
            .collect();
        files.sort();
        let carried: Vec<&str> = DROP_INS.iter().map(|(name, _)| *name).collect();
        assert_eq!(files, carried);
    }

    #[test]
    fn unpacks_and_keeps_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        unpack(dir.path()).unwrap();
        let youxia = dir.path().join("listeners.d/youxia.toml");
        fs::write(&youxia, "mine").unwrap();
        unpack(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(youxia).unwrap(), "mine");
        let youxib = fs::read_to_string(dir.path().join("listeners.d/youxib.toml")).unwrap();
        assert_eq!(youxib, DROP_INS[1].1);
    }
}
