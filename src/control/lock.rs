//! One lockgate per state directory: a second one would silently take half of
//! the first one's connections, for the ports are shared (`SO_REUSEPORT`).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Held for as long as the process serves; the kernel gives it up with the
/// process, however that ends.
#[derive(Debug)]
pub(super) struct StateLock {
    file: File,
}

impl StateLock {
    /// Makes the state directory (mode 0700) when it is absent and locks it.
    pub(super) fn take(dir: &Path) -> Result<StateLock, String> {
        let wrong = |what: &str, error: io::Error| {
            format!(
                "state directory `{}`: {what}: {error}: name a directory that lockgate may write \
                 to with --state DIR",
                dir.display()
            )
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| wrong("cannot create it", error))?;
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| wrong("cannot open `lock` in it", error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(taken(dir, &mut file)),
            Err(error) => return Err(wrong("cannot lock it", error.into())),
        }
        let lock = StateLock { file };
        lock.sign().map_err(|error| wrong("cannot write `lock` in it", error))?;
        Ok(lock)
    }

    /// The lock of the old process, which holds it too until it ends.
    pub(super) fn inherited(file: OwnedFd) -> StateLock {
        StateLock { file: file.into() }
    }

    /// Writes into it who serves.
    pub(super) fn sign(&self) -> io::Result<()> {
        let pid = format!("{}\n", std::process::id());
        let mut file = &self.file;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(pid.as_bytes())
    }

    /// A second handle of it, for the new process.
    pub(super) fn second_handle(&self) -> io::Result<OwnedFd> {
        self.file.try_clone().map(OwnedFd::from)
    }
}

fn taken(dir: &Path, file: &mut File) -> String {
    let mut pid = String::new();
    // The number only helps; without it the message is still true.
    let _ = file.take(32).read_to_string(&mut pid);
    let pid = pid.trim();
    let who = if pid.is_empty() { String::new() } else { format!(" (process {pid})") };
    format!(
        "another lockgate{who} already runs on the state directory `{}`: stop it first, \
         or give this one a directory of its own with --state",
        dir.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that another test starts has all descriptors for a moment, and so
    /// the lock.
    fn take_at_last(dir: &Path) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while let Err(error) = StateLock::take(dir) {
            assert!(std::time::Instant::now() < end, "{error}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_second_handle_holds_the_lock_when_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let old = StateLock::take(dir.path()).unwrap();
        let new = StateLock::inherited(old.second_handle().unwrap());
        drop(old);
        assert!(StateLock::take(dir.path()).is_err());
        new.sign().unwrap();
        let signed = std::fs::read_to_string(dir.path().join("lock")).unwrap();
        assert_eq!(signed, format!("{}\n", std::process::id()));
        drop(new);
        take_at_last(dir.path());
    }

    #[test]
    fn a_second_lock_is_refused_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let held = StateLock::take(dir.path()).unwrap();
        let error = StateLock::take(dir.path()).unwrap_err();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        take_at_last(dir.path());
    }
}
