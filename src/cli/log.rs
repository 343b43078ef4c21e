//! The log of the program: a thread of its own writes it to standard error.

use std::io;
use std::time::Duration;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::control::terminal::colours;
use crate::telemetry::{level, panics};

/// Lines that wait for whoever reads the log; more are dropped.
const LOG_LINES: usize = 8192;

/// How long the end of the process waits for them to be written.
const LOG_END: Duration = Duration::from_secs(2);

/// Starts the log on standard error. A thread of its own writes it: a reader
/// that is slow or gone must not stop a worker, nor the process.
pub(super) fn start() -> WorkerGuard {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LOG_LINES).finish(io::stderr());
    let lines = fmt::layer()
        .with_writer(writer)
        .with_target(false)
        .with_ansi(colours(&io::stderr()))
        .log_internal_errors(false);
    tracing_subscriber::registry().with(level::layer()).with(lines).init();
    panics::watch();
    guard
}

/// Lets the log be written to its end, for a while: the guard prints to
/// standard output when its queue is full, and nobody may be reading that.
pub(super) fn end(guard: WorkerGuard) {
    let (done, ended) = std::sync::mpsc::channel();
    let end = move || {
        drop(guard);
        // Nobody waits any more when this fails.
        let _ = done.send(());
    };
    if std::thread::Builder::new().spawn(end).is_ok() {
        let _ = ended.recv_timeout(LOG_END);
    }
}
