//! `[log]` of `lockgate.toml`.

use std::path::PathBuf;

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// The file; `None` = standard output.
    pub path: Option<PathBuf>,
    /// How a line is written, default JSON.
    pub format: LogFormat,
    /// `FILE:LINE` of the key, for what goes wrong with it later.
    pub place: String,
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
