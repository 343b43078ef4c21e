//! The logs as the configuration wants them.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_local;
use tracing::level_filters::LevelFilter;

use crate::config::{LogFormat, LogLevel, Process};
use crate::telemetry::access::{AccessLog, Format, Sink};
use crate::telemetry::level;

/// What a reload makes of them.
///
/// # Errors
/// As of [`follow`]; the access log stays as it was.
pub(super) fn change(log: &Arc<AccessLog>, old: &Process, new: &Process) -> Result<(), String> {
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
pub(super) fn follow(log: &Arc<AccessLog>, process: &Process) -> Result<(), String> {
    let Some(wanted) = &process.access_log else {
        return log.switch(None).map_err(|error| error.to_string());
    };
    let format = match wanted.format {
        LogFormat::Json => Format::Json,
        LogFormat::Combined => Format::Combined,
    };
    let opened = Sink::open(wanted.path.as_deref(), format);
    opened.and_then(|sink| log.switch(Some(sink))).map_err(|error| {
        let to = wanted.path.as_ref().map_or("stdout".into(), |path| path.to_string_lossy());
        let place = &wanted.place;
        format!("{place}: `access`: `{to}` cannot be written: {error}: let lockgate's user write there, or change it")
    })
}

/// Opens the file anew on each USR1, as whoever renames logs expects. That is
/// heard whatever else the process is doing, also while it ends.
///
/// # Errors
/// The system's.
pub(super) fn reopen_on_signal(log: Arc<AccessLog>) -> io::Result<()> {
    // Now: before this the signal ends the process, and every game with it.
    let mut signals = signal(SignalKind::user_defined1())?;
    spawn_local(async move {
        while signals.recv().await.is_some() {
            log.reopen();
        }
    });
    Ok(())
}
