//! The files a drop-in depends on: their bytes, and how they looked before they
//! were read, so that a change is seen without reading them again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Mode, OFlags, Stat, open, statat};

use super::read::{ReadError, read_file};

/// A file that was changed this short a time before it was read may change
/// again without a new date: clocks of file systems tick slowly (git's index
/// calls it "racily clean").
const TICK: Duration = Duration::from_secs(2);

/// Folders that are held open at once.
const FOLDERS: usize = 16;

/// How a file looks from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Stamp {
    /// `None` when there is nothing to be seen, for whatever reason.
    pub(super) fn of(file: &Path) -> Option<Stamp> {
        rustix::fs::stat(file).ok().as_ref().map(Stamp::from)
    }

    /// Whether it could change after this time and look the same.
    pub(super) fn is_fresh(&self, read: SystemTime) -> bool {
        let read = read.duration_since(UNIX_EPOCH).unwrap_or_default();
        let settled = i64::try_from(read.saturating_sub(TICK).as_secs()).unwrap_or(i64::MAX);
        self.modified.0 >= settled || self.changed.0 >= settled
    }
}

impl From<&Stat> for Stamp {
    fn from(stat: &Stat) -> Stamp {
        Stamp {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// Looks at many files: each folder is found once.
#[derive(Debug, Default)]
pub(super) struct Looker {
    folders: HashMap<Vec<u8>, Option<OwnedFd>>,
}

impl Looker {
    /// As [`Stamp::of`].
    pub(super) fn look(&mut self, file: &Path) -> Option<Stamp> {
        // Taken apart as bytes: this is done for every file of every game.
        let bytes = file.as_os_str().as_bytes();
        let parts = memchr::memrchr(b'/', bytes).and_then(|at| bytes.split_at_checked(at + 1));
        let Some((folder, name)) = parts else {
            return Stamp::of(file);
        };
        if !self.folders.contains_key(folder) {
            // Each holds a descriptor; games with a folder of their own are looked at
            // one after the other.
            if self.folders.len() >= FOLDERS {
                self.folders.clear();
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = open(folder, flags, Mode::empty()).ok();
            self.folders.insert(folder.to_owned(), opened);
        }
        match self.folders.get(folder) {
            Some(Some(folder)) => {
                statat(folder, name, AtFlags::empty()).ok().as_ref().map(Stamp::from)
            }
            _ => Stamp::of(file),
        }
    }
}

/// A file and how it looked before it was read.
pub(super) type Seen = (Arc<Path>, Option<Stamp>);

type Content = Result<Arc<[u8]>, ReadError>;

/// Where bytes come from: the file system, each file read once; or a bundle,
/// which has all there is.
#[derive(Debug, Default)]
pub(super) struct Files {
    bundled: bool,
    read: RefCell<HashMap<PathBuf, (Seen, Content)>>,
}

impl Files {
    /// Nothing but these.
    pub(super) fn bundled(files: impl Iterator<Item = (PathBuf, Arc<[u8]>)>) -> Files {
        let entry = |(file, bytes): (PathBuf, Arc<[u8]>)| {
            let seen = (Arc::from(file.as_path()), None);
            (file, (seen, Ok(bytes)))
        };
        Files { bundled: true, read: RefCell::new(files.map(entry).collect()) }
    }

    /// The bytes of a file that is not larger than `most`.
    pub(super) fn bytes(&self, file: &Path, most: u64) -> Content {
        self.read(file, most).1
    }

    /// How it looked before it was read.
    pub(super) fn seen(&self, file: &Path, most: u64) -> Seen {
        self.read(file, most).0
    }

    fn read(&self, file: &Path, most: u64) -> (Seen, Content) {
        if let Some(known) = self.read.borrow().get(file) {
            return known.clone();
        }
        let found = if self.bundled {
            ((Arc::from(file), None), Err(ReadError::Missing))
        } else {
            // Looked at first: what changes meanwhile is seen the next time.
            let seen = (Arc::from(file), Stamp::of(file));
            (seen, read_file(file, most).map(Arc::from))
        };
        self.read.borrow_mut().insert(file.to_owned(), found.clone());
        found
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_stamp_tells_another_file_of_the_same_size_and_date() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        fs::write(&one, "a").unwrap();
        fs::write(&two, "b").unwrap();
        let date = fs::metadata(&one).unwrap().modified().unwrap();
        fs::File::options().write(true).open(&two).unwrap().set_modified(date).unwrap();
        let before = Stamp::of(&one);
        assert_eq!(before, Stamp::of(&one));
        let mut looker = Looker::default();
        assert_eq!(before, looker.look(&one));
        assert_eq!(looker.look(&dir.path().join("three")), None);
        fs::rename(&two, &one).unwrap();
        assert_ne!(before, Stamp::of(&one));
        assert_eq!(Stamp::of(&two), None);
    }

    #[test]
    fn what_changed_just_now_may_change_unseen() {
        let dir = tempfile::tempdir().unwrap();
        let stamp = Stamp::of(dir.path()).unwrap();
        assert!(stamp.is_fresh(SystemTime::now()));
        assert!(!stamp.is_fresh(SystemTime::now() + Duration::from_secs(60)));
    }

    #[test]
    fn a_bundle_has_all_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        fs::write(&two, "there").unwrap();
        let files = Files::bundled(std::iter::once((one.clone(), Arc::from(&b"x"[..]))));
        assert_eq!(files.bytes(&one, 10).as_deref(), Ok(&b"x"[..]));
        assert_eq!(files.bytes(&two, 10), Err(ReadError::Missing));
        assert_eq!(Files::default().bytes(&two, 10).as_deref(), Ok(&b"there"[..]));
    }
}
