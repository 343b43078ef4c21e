//! Which lines of a head go on as they came, and how: in runs, so that a head
//! of which all is kept is copied in one piece.

use std::ops::Range;

use super::super::buffer::Buffer;
use super::push_field;
use crate::config::HeaderEdits;
use crate::http1::{Field, is_nominated, may_be_nominated};

/// The fields of a head that are dropped by their names, by whoever says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sift<'a> {
    head: &'a [u8],
    fields: &'a [Field],
    nominated: bool,
    edits: &'a HeaderEdits,
    /// Nobody does: no name is looked at.
    idle: bool,
}

impl<'a> Sift<'a> {
    /// `nominated`: a `Connection` field names some.
    pub(super) fn of(
        head: &'a [u8],
        fields: &'a [Field],
        nominated: bool,
        edits: &'a HeaderEdits,
    ) -> Sift<'a> {
        Sift { head, fields, nominated, edits, idle: !nominated && edits.is_empty() }
    }

    #[inline]
    pub(super) fn drops(&self, field: &Field) -> bool {
        !self.idle && self.names(field)
    }

    fn names(&self, field: &Field) -> bool {
        let name = field.name.of(self.head);
        let nominated = || is_nominated(self.head, self.fields, name);
        (self.nominated && may_be_nominated(field.known) && nominated())
            || is_edited(self.edits, name)
    }
}

/// A rule drops or replaces fields of that name.
pub(in crate::proxy) fn is_edited(edits: &HeaderEdits, name: &[u8]) -> bool {
    if edits.is_empty() {
        return false;
    }
    let same = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    edits.remove.iter().any(|other| same(other)) || edits.set.iter().any(|(other, _)| same(other))
}

/// What becomes of a field's line.
#[derive(Debug)]
pub(in crate::proxy) enum Line {
    Keep,
    Drop,
    /// It gets another value.
    Instead(Vec<u8>),
}

/// Lines of a head that go out as they came, one behind the other.
pub(super) type Run = Range<u32>;

/// The first line of a head of `len` bytes, with its CRLF.
pub(super) fn first_line(len: u32, fields: &[Field]) -> Run {
    // What follows it when there is no field is the empty line.
    0..fields.first().map_or(len.saturating_sub(2), |field| field.name.start)
}

/// Copies the field lines that are kept behind `run`, which stands before them
/// all; neighbouring ones together.
#[inline]
pub(super) fn copy_lines(
    out: &mut Buffer,
    head: &[u8],
    mut run: Run,
    fields: &[Field],
    mut decide: impl FnMut(&Field) -> Line,
) {
    for field in fields {
        let line = decide(field);
        if matches!(line, Line::Keep) {
            run.end = field.end;
            continue;
        }
        push_run(out, head, &run);
        run = field.end..field.end;
        if let Line::Instead(value) = line {
            push_field(out, field.name.of(head), &value);
        }
    }
    push_run(out, head, &run);
}

fn push_run(out: &mut Buffer, head: &[u8], run: &Run) {
    if run.start < run.end {
        // A head's offsets fit usize: it lies in memory.
        out.push(head.get(run.start as usize..run.end as usize).unwrap_or_default());
    }
}
