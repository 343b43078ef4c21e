//! What was found wrong with one file while it is read.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Place, Severity};
use super::source::Source;

/// Of one file no more than this many are told.
const MOST: usize = 100;

/// Collects the diagnostics of one file.
#[derive(Debug)]
pub(super) struct Notes {
    pub(super) source: Arc<Source>,
    found: RefCell<Vec<Diagnostic>>,
    /// How many were left out for [`MOST`].
    more: Cell<usize>,
    errors: Cell<usize>,
}

/// How much was found at some time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(usize, usize, usize);

impl Notes {
    pub(super) fn new(source: Arc<Source>) -> Self {
        Notes { source, found: RefCell::default(), more: Cell::new(0), errors: Cell::new(0) }
    }

    /// The file is refused for this part of it.
    pub(super) fn error(
        &self,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.note(Severity::Error, span, message.into(), hint.into(), None);
    }

    /// As [`Self::error`]; the other place is part of it.
    pub(super) fn conflict(
        &self,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
        with: Place,
    ) {
        self.note(Severity::Error, span, message.into(), hint.into(), Some(with));
    }

    /// This part is probably not as meant.
    pub(super) fn warning(
        &self,
        span: &Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.note(Severity::Warning, span, message.into(), hint.into(), None);
    }

    /// Adds what was found; of too many only the number is kept.
    pub(super) fn note(
        &self,
        severity: Severity,
        span: &Range<usize>,
        message: String,
        hint: String,
        related: Option<Place>,
    ) {
        if severity == Severity::Error {
            self.errors.set(self.errors.get() + 1);
        }
        if self.is_full() {
            self.more.set(self.more.get() + 1);
            return;
        }
        let mut found = self.found.borrow_mut();
        let diagnostic = self.source.diagnose(severity, span, message);
        found.push(Diagnostic { hint: Some(hint), related, ..diagnostic });
    }

    /// No more will be told, so that a hint need not be looked for.
    pub(super) fn is_full(&self) -> bool {
        self.found.borrow().len() >= MOST
    }

    /// How many errors there are, told or not.
    pub(super) fn errors(&self) -> usize {
        self.errors.get()
    }

    /// What is known so far, to come [back](Self::back_to) to.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.found.borrow().len(), self.more.get(), self.errors.get())
    }

    /// Forgets what was found since.
    pub(super) fn back_to(&self, mark: Mark) {
        self.found.borrow_mut().truncate(mark.0);
        self.more.set(mark.1);
        self.errors.set(mark.2);
    }

    /// All that was found, in the order of the file.
    pub(super) fn into_diagnostics(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        let more = self.more.get();
        if more > 0 {
            let severity = if self.errors.get() > 0 { Severity::Error } else { Severity::Warning };
            let message = format!("{more} more problems of this file are not shown");
            let file = &self.source.file;
            found.push(Diagnostic::whole_file(severity, file, message));
        }
        found
    }
}
