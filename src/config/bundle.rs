//! A drop-in with the files it depends on, as they were accepted together.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// A version of a game that was accepted: all that is needed to serve it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// When it was accepted.
    pub since: SystemTime,
    /// The drop-in.
    pub text: String,
    /// Certificates, keys and authorities by their path; one that lies in the
    /// config directory is named from there.
    pub files: BTreeMap<PathBuf, Arc<[u8]>>,
}

/// Tells contents apart.
pub(super) type Digest = [u8; 32];

impl Bundle {
    pub(super) fn digest(&self) -> Digest {
        let files = self.files.iter().map(|(name, bytes)| (name.as_path(), &**bytes));
        digest(self.text.as_bytes(), files)
    }
}

/// Of a drop-in's bytes and of those of its files, in the order of their names.
pub(super) fn digest<'a>(text: &[u8], files: impl Iterator<Item = (&'a Path, &'a [u8])>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        // The length first, so that nothing moves from one to the next unseen.
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    add(text);
    for (name, bytes) in files {
        add(AsRef::<OsStr>::as_ref(name).as_encoded_bytes());
        add(bytes);
    }
    *hasher.finalize().as_bytes()
}

/// The name of a file in a bundle: the config directory may be moved.
pub(super) fn bundled_name<'a>(dir: &Path, file: &'a Path) -> &'a Path {
    file.strip_prefix(dir).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_that_differ_anywhere_have_another_digest() {
        let of = |text: &str, files: &[(&str, &str)]| {
            let files = files.iter().map(|(name, text)| (Path::new(name), text.as_bytes()));
            digest(text.as_bytes(), files)
        };
        let all = [
            of("a", &[]),
            of("ab", &[]),
            of("a", &[("b", "")]),
            of("a", &[("b", "c")]),
            of("a", &[("bc", "")]),
            of("a", &[("b", ""), ("c", "")]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(all.iter().filter(|other| *other == one).count(), 1, "{at}");
        }
    }
}
