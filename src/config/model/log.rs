//! `[log]` of `lockgate.toml`.

use std::path::PathBuf;

use crate::config::diagnostic::Place;

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// The file; `None` = standard output.
    pub path: Option<PathBuf>,
    /// How a line is written, default JSON.
    pub format: LogFormat,
    /// Where the key stands, for what goes wrong with it later.
    pub place: Place,
}

/// How a line of the access log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    #[default]
    Json,
    /// As Apache and nginx write it.
    Combined,
}
