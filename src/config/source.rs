//! A file's text, and where in it an offset stands.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Place, Severity};
use super::secret::veiled_lines;

/// Of a longer line only this many characters on either side of the fault are
/// kept in a [`Diagnostic`].
const CONTEXT: usize = 160;

/// The text of one file.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) text: String,
    /// The offset each line starts at.
    starts: Vec<usize>,
    /// Whether a line is never shown; of lines beyond its end: no.
    veiled: Vec<bool>,
}

impl Source {
    pub(super) fn new(file: &Path, text: String) -> Self {
        let starts = std::iter::once(0)
            .chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1))
            .collect();
        Source { file: file.to_owned(), text, starts, veiled: Vec::new() }
    }

    /// The text of `lockgate.toml`, which may hold a secret.
    pub(super) fn with_secrets(file: &Path, text: String) -> Self {
        Source { veiled: veiled_lines(&text), ..Source::new(file, text) }
    }

    /// The line (1-based) an offset stands on.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset).max(1)
    }

    /// All of a line (1-based); of one that is not there its end.
    pub(super) fn line_span(&self, line: usize) -> Range<usize> {
        let end = self.text.len();
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(end);
        start..self.starts.get(line).map_or(end, |next| next - 1)
    }

    /// Where this port stands in the table that begins at a line; else the line.
    pub(super) fn number_span(&self, line: usize, port: u16) -> Range<usize> {
        let head = self.line_span(line);
        let rest = self.text.get(head.end..).unwrap_or_default();
        let table = rest.find("\n[").and_then(|end| rest.get(..end)).unwrap_or(rest);
        let number = port.to_string();
        let found = table.match_indices(&number).find(|(at, _)| {
            let begun = table.get(..*at).unwrap_or_default();
            let line = begun.rsplit('\n').next().unwrap_or_default();
            let after = table.get(at + number.len()..).unwrap_or_default();
            !begun.ends_with(|c: char| c.is_ascii_alphanumeric() || "_.-:".contains(c))
                && !after.starts_with(|c: char| c.is_ascii_alphanumeric() || "_.-".contains(c))
                && !line.contains(['#', '"', '\''])
                && begun.contains("port")
        });
        found.map_or(head.clone(), |(at, _)| head.end + at..head.end + at + number.len())
    }

    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        Place { file: self.file.clone(), line: self.line(span.start) }
    }

    /// A diagnostic about this part of the text. A span over several lines is
    /// cut at the end of its first one; an empty one covers one character.
    pub(super) fn diagnose(
        &self,
        severity: Severity,
        span: &Range<usize>,
        message: String,
    ) -> Diagnostic {
        let line = self.line(span.start);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let rest = self.text.get(start..).unwrap_or_default();
        let text = rest.split('\n').next().unwrap_or_default();
        let text = text.strip_suffix('\r').unwrap_or(text);
        let before = chars(text, 0..span.start.saturating_sub(start));
        let length = chars(text, span.start.saturating_sub(start)..span.end.saturating_sub(start));
        let length = length.clamp(1, CONTEXT);
        let skipped = before.saturating_sub(CONTEXT);
        let indent = before - skipped;
        let veiled = self.veiled.get(line - 1).copied().unwrap_or_default();
        // Then only the place is told.
        let (text, indent, length) = if veiled { ("", 0, 0) } else { (text, indent, length) };
        Diagnostic {
            severity,
            file: self.file.clone(),
            line,
            column: before + 1,
            source_line: text.chars().skip(skipped).take(indent + length + CONTEXT).collect(),
            indent,
            length,
            message,
            hint: None,
            related: None,
        }
    }
}

/// How many characters of the line start within a range of its bytes.
fn chars(line: &str, range: Range<usize>) -> usize {
    line.char_indices()
        .skip_while(|(at, _)| *at < range.start)
        .take_while(|(at, _)| *at < range.end)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, span: Range<usize>) -> Diagnostic {
        Source::new(Path::new("x.toml"), text.to_owned()).diagnose(
            Severity::Error,
            &span,
            "wrong".to_owned(),
        )
    }

    #[test]
    fn line_and_column_count_characters_from_one() {
        let text = "first\n# 游侠 = 1\r\nlast";
        let offset = text.find('=').unwrap();
        let found = at(text, offset..offset + 1);
        assert_eq!((found.line, found.column), (2, 6));
        assert_eq!(found.source_line, "# 游侠 = 1");
        assert_eq!((found.indent, found.length), (5, 1));
    }

    #[test]
    fn the_end_of_the_text_is_a_place() {
        for text in ["", "a", "a\n", "a\r\n", "游"] {
            let found = at(text, text.len()..text.len());
            assert_eq!(found.length, 1, "{text:?}");
            assert!(found.line >= 1 && found.column >= 1);
            assert!(found.render(false).contains("x.toml:"));
        }
    }

    #[test]
    fn a_span_over_lines_ends_with_its_first() {
        let found = at("a = [\n1,\n2]", 4..11);
        assert_eq!((found.line, found.column, found.length), (1, 5, 1));
    }

    #[test]
    fn of_a_long_line_the_part_around_the_fault_is_kept() {
        let text = format!("{}X{}", "a".repeat(5000), "b".repeat(5000));
        let found = at(&text, 5000..5001);
        assert_eq!(found.column, 5001);
        assert!(found.source_line.len() < 500);
        let fault = found.source_line.chars().nth(found.indent);
        assert_eq!(fault, Some('X'));
        assert!(found.render(false).contains("x.toml:1:5001"));
    }
}
