//! What goes to the terminal, and the exit code. Nothing of a file, of its name or
//! of an answer acts on the terminal: it is escaped here, whoever wrote it.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::config::diagnostic::Diagnostic;
use crate::config::{plain_json, plain_lines};
use crate::control::terminal::colours;

/// Exit code of a configuration or start failure.
pub(super) const FAILED: u8 = 1;
/// Exit code of arguments that are none.
pub(super) const USAGE: u8 = 2;

/// Prints a text for people, which has its own end of the line.
pub(super) fn print(text: &dyn Display) {
    // What was to be done is done, whether anybody reads it or not.
    let _ = write!(io::stdout().lock(), "{}", plain_lines(&text.to_string()));
}

/// Prints JSON, as a line of its own.
pub(super) fn print_json(json: &[u8]) {
    // As in `print`.
    let _ = writeln!(io::stdout().lock(), "{}", plain_json(&String::from_utf8_lossy(json)));
}

pub(super) fn said(done: Result<(), String>) -> ExitCode {
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

pub(super) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

pub(super) fn show<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>) {
    let mut diagnostics = diagnostics.into_iter().peekable();
    if diagnostics.peek().is_none() {
        // The log's thread has the lock for as long as nobody reads what it writes.
        return;
    }
    let mut err = io::stderr().lock();
    for diagnostic in diagnostics {
        // Without a standard error there is nowhere to complain.
        let _ = writeln!(err, "{}\n", diagnostic.render(colours(&err)));
    }
}

/// A line beside the result.
pub(super) fn tell(text: &dyn Display) {
    // As in `show`.
    let _ = writeln!(io::stderr().lock(), "{}", plain_lines(&text.to_string()));
}

pub(super) fn fail(error: &dyn Display) -> ExitCode {
    // As in `show`.
    let error = plain_lines(&error.to_string());
    let _ = writeln!(io::stderr().lock(), "error: {error}");
    ExitCode::from(FAILED)
}
