//! The logs as the configuration wants them.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::geteuid;
use tokio::signal::unix::Signal;
use tokio::task::spawn_local;
use tracing::level_filters::LevelFilter;

use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::{AccessLog as Wanted, LogFormat, LogLevel, Process};
use crate::telemetry::access::{AccessLog, Format, Sink};
use crate::telemetry::level;

/// What a reload makes of them.
///
/// # Errors
/// As of [`follow`]; the access log stays as it was.
pub(super) fn change(
    log: &Arc<AccessLog>,
    old: &Process,
    new: &Process,
) -> Result<(), Box<Diagnostic>> {
    set_level(new);
    if new.access_log == old.access_log { Ok(()) } else { follow(log, new) }
}

/// Has the program's own log say as much from now on.
pub(super) fn set_level(process: &Process) {
    level::set(match process.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
    });
}

/// Opens what is configured, and has lines go there from now on.
///
/// # Errors
/// Why it cannot be opened, and where it is configured.
pub(super) fn follow(log: &Arc<AccessLog>, process: &Process) -> Result<(), Box<Diagnostic>> {
    let Some(wanted) = &process.access_log else {
        // What is closed cannot be refused.
        let _ = log.switch(None);
        return Ok(());
    };
    let format = match wanted.format {
        LogFormat::Json => Format::Json,
        LogFormat::Combined => Format::Combined,
    };
    let opened = Sink::open(wanted.path.as_deref(), format);
    let switched = opened.and_then(|sink| log.switch(Some(sink)));
    switched.map_err(|error| Box::new(fault(wanted, &error, Severity::Error)))
}

fn fault(wanted: &Wanted, error: &io::Error, severity: Severity) -> Diagnostic {
    let to = wanted.path.as_ref().map_or("stdout".into(), |path| path.to_string_lossy());
    let message = format!("`access`: `{to}` cannot be written: {error}");
    Diagnostic::of_line(severity, &wanted.place, message)
        .hint("let lockgate's user write there, or name another path")
}

/// What would keep the access log from being opened; nothing is made for that,
/// nor is a pipe's reader disturbed.
#[must_use]
pub fn foreseen(process: &Process) -> Option<Diagnostic> {
    let wanted = process.access_log.as_ref()?;
    let path = wanted.path.as_ref()?;
    let error = openable(path).err()?;
    Some(fault(wanted, &error, Severity::Error))
}

/// The same for who may be another user than lockgate's: what that one is allowed
/// to do is then not known.
#[must_use]
pub fn foreseen_by_others(process: &Process, state_dir: &Path) -> Option<Diagnostic> {
    let mut fault = foreseen(process)?;
    let wanted = process.access_log.as_ref()?.path.as_ref()?;
    let denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    let ours = fs::metadata(state_dir).is_ok_and(|dir| dir.uid() == geteuid().as_raw());
    if !ours && openable(wanted).is_err_and(denied) {
        fault.severity = Severity::Warning;
        fault.hint = Some("this user may not; see that lockgate's user may".to_owned());
    }
    Some(fault)
}

fn openable(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => OpenOptions::new().append(true).open(path).map(drop),
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A link that leads nowhere is followed by who makes the file.
            let path = fs::read_link(path)
                .map_or(path.to_owned(), |to| path.parent().unwrap_or(Path::new(".")).join(to));
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            Ok(accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?)
        }
        Err(error) => Err(error),
    }
}

/// Opens the file anew on each USR1, as whoever renames logs expects. That is
/// heard whatever else the process is doing, also while it ends.
pub(super) fn reopen_on_signal(mut signals: Signal, log: Arc<AccessLog>) {
    spawn_local(async move {
        while signals.recv().await.is_some() {
            log.reopen();
        }
    });
}
