//! How much the program's log says: one setting of the process, as the log is one.

use std::sync::OnceLock;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::reload::{Handle, Layer};

static LEVEL: OnceLock<Handle<LevelFilter, Registry>> = OnceLock::new();

/// The part of the log that decides it; [`set`] changes what it does.
pub(crate) fn layer() -> Layer<LevelFilter, Registry> {
    let (layer, handle) = Layer::new(LevelFilter::INFO);
    // There is one log in a process; another one stays as it is.
    let _ = LEVEL.set(handle);
    layer
}

/// Less important lines than these are not written from now on.
pub(crate) fn set(level: LevelFilter) {
    if let Some(handle) = LEVEL.get() {
        // Where the log is gone nobody is to be told.
        let _ = handle.modify(|now| *now = level);
    }
}
