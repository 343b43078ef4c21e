//! Where the access log goes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tracing::{error, info, warn};

use super::{Format, lines, locked};

/// Others than its owner's group have no business with players' addresses.
const MODE: u32 = 0o640;
/// So many bytes go into a pipe without others between them (POSIX; on Linux 4096).
const PIPE_BUF: usize = 4096;
/// How often what cannot wait for itself is tried.
const AGAIN: Duration = Duration::from_millis(10);

/// A file, a pipe or standard output.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(super) format: Format,
    /// `None`: standard output.
    path: Option<PathBuf>,
    open: Mutex<Open>,
    /// Lines are being dropped because it is too slow.
    slow: AtomicBool,
}

/// The writing thread's alone.
#[derive(Debug)]
pub(super) struct Open {
    file: File,
    /// And no pipe, terminal or the like.
    regular: bool,
    /// The last write failed, since so many lines.
    failing: Option<u64>,
    /// Part of a line was written, and the rest was not.
    torn: bool,
}

impl Sink {
    /// Opens it (`None`: standard output).
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(path: Option<&Path>, format: Format) -> io::Result<Sink> {
        let file = match path {
            Some(path) => open(path)?,
            None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        };
        let open = Mutex::new(Open::new(file));
        Ok(Sink { format, path: path.map(Path::to_owned), open, slow: AtomicBool::new(false) })
    }

    pub(super) fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "stdout".to_owned(), |path| path.display().to_string())
    }

    /// True where it was not in trouble before.
    pub(super) fn begin_trouble(&self) -> bool {
        !self.slow.swap(true, Ordering::Relaxed)
    }

    /// All that waited is written.
    pub(super) fn end_trouble(&self, lost: u64) {
        if self.slow.swap(false, Ordering::Relaxed) {
            warn!(to = self.name(), lost, "access log: lines were dropped since the start");
        }
    }

    /// The file of that name may be another by now.
    pub(super) fn reopen(&self) {
        let Some(path) = &self.path else { return };
        match open(path) {
            Ok(file) => {
                let mut open = locked(&self.open);
                *open = Open::new(file);
                info!(to = self.name(), "access log: reopened");
            }
            Err(error) => {
                error!(to = self.name(), %error, "access log: cannot be reopened, the old file is used on");
            }
        }
    }

    /// Writes whole lines; gives how many were lost. That is told once, until one
    /// can be written again.
    pub(super) fn write(&self, bytes: &[u8]) -> u64 {
        let mut open = locked(&self.open);
        // What follows half a line would be lost with it.
        if open.torn && open.write(b"\n").is_ok() {
            open.torn = false;
        }
        let written = open.write(bytes);
        match written {
            Ok(()) => {
                if let Some(lost) = open.failing.take() {
                    warn!(to = self.name(), lost, "access log: can be written again");
                }
                0
            }
            Err((done, error)) => {
                let (done, rest) = bytes.split_at_checked(done).unwrap_or((bytes, &[]));
                open.torn |= done.last().is_some_and(|last| *last != b'\n');
                let lost = lines(rest);
                if open.failing.is_none() {
                    error!(to = self.name(), %error, "access log: cannot be written, lines are lost");
                }
                *open.failing.get_or_insert(0) += lost;
                lost
            }
        }
    }
}

impl Open {
    pub(super) fn new(file: File) -> Open {
        let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        Open { file, regular, failing: None, torn: false }
    }

    /// What is written at once. A file takes all of it in one piece, and appends it;
    /// into a pipe two processes (an upgrade) write whole lines only as long as no
    /// piece is longer than the system keeps together.
    pub(super) fn piece<'a>(&self, rest: &'a [u8]) -> &'a [u8] {
        let end = match rest.get(..PIPE_BUF) {
            Some(first) if !self.regular => memchr::memrchr(b'\n', first)
                // A longer line than that is one piece all the same.
                .or_else(|| memchr::memchr(b'\n', rest)),
            _ => None,
        };
        end.and_then(|end| rest.get(..=end)).unwrap_or(rest)
    }

    /// Writes all of it; an error comes with how much was.
    fn write(&mut self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.file.write(self.piece(rest)) {
                Ok(0) => return Err((done, io::ErrorKind::WriteZero.into())),
                Ok(n) => done += n,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    // A standard output that somebody made so.
                    io::ErrorKind::WouldBlock => thread::sleep(AGAIN),
                    _ => return Err((done, error)),
                },
            }
        }
        Ok(())
    }
}

/// A pipe that nobody reads is an error, and not a reason to wait.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file =
        OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(flags).open(path)?;
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}
