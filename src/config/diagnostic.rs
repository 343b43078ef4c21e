//! One thing that is wrong with a file: where, what, and what to write instead.

use std::path::{Path, PathBuf};

use annotate_snippets::{
    Annotation, AnnotationKind, Level, Origin, Renderer, Snippet, normalize_untrusted_str,
};
use serde_json::{Value, json};

/// Whether the file is refused for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file serves, but probably not as meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named to us.
    pub file: PathBuf,
    /// 1-based.
    pub line: usize,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the file is refused for it.
    pub severity: Severity,
    /// The file, as it was named to us.
    pub file: PathBuf,
    /// 1-based; 1 when it is the whole file that is wrong.
    pub line: usize,
    /// 1-based, in characters.
    pub column: usize,
    /// The line as it stands in the file (of a very long line the part around
    /// the fault); empty when the file could not be read.
    pub source_line: String,
    /// Characters of `source_line` before the fault.
    pub indent: usize,
    /// How many characters are at fault; 0 when it is the whole file.
    pub length: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
    /// The other place that is part of it, such as who owns the domain.
    pub related: Option<Place>,
}

impl Diagnostic {
    /// A fault of a file as a whole.
    pub(super) fn whole_file(severity: Severity, file: &Path, message: String) -> Self {
        Diagnostic {
            severity,
            file: file.to_owned(),
            line: 1,
            column: 1,
            source_line: String::new(),
            indent: 0,
            length: 0,
            message,
            hint: None,
            related: None,
        }
    }

    /// The same of a line of it.
    pub(crate) fn of_line(severity: Severity, place: &Place, message: String) -> Self {
        let whole = Diagnostic::whole_file(severity, &place.file, message);
        Diagnostic { line: place.line, ..whole }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The file is refused for it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// For people: file:line:column, the line, a caret, what is wrong, the hint.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let path = plain_path(&self.file);
        let title = level.primary_title(plain_lines(&self.message));
        let mut group = if self.indent + 1 == self.column && self.length > 0 {
            title.element(self.snippet().path(path))
        } else {
            // The whole file, or a part of a line: the snippet cannot count.
            let origin = Origin::path(path).line(self.line).char_column(self.column);
            let group = title.element(origin);
            if self.length > 0 { group.element(self.snippet()) } else { group }
        };
        if let Some(hint) = &self.hint {
            let hint = plain_lines(&normalize_untrusted_str(hint));
            group = group.element(Level::HELP.with_name("hint").message(hint));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// The same in a few words: file:line and what is wrong.
    #[must_use]
    pub fn brief(&self) -> String {
        plain(&format!("{}:{}: {}", self.file.to_string_lossy(), self.line, self.message))
    }

    /// The same with what to do about it, in a line.
    #[must_use]
    pub fn explained(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}: {}", self.brief(), plain(hint)),
            None => self.brief(),
        }
    }

    fn snippet(&self) -> Snippet<'_, Annotation<'_>> {
        // One for one, so that the caret stays where it is; the rest is done by what
        // draws the snippet.
        let hidden = |c: char| if !c.is_ascii() && acts_on_terminals(c) { HIDDEN } else { c };
        let line: String = self.source_line.chars().map(hidden).collect();
        let start = byte_offset(&line, self.indent);
        let end = byte_offset(&line, self.indent + self.length);
        Snippet::source(line)
            .line_start(self.line)
            .annotation(AnnotationKind::Primary.span(start..end))
    }

    fn to_json(&self) -> Value {
        json!({
            "severity": self.severity.name(),
            "file": self.file.to_string_lossy(),
            "line": self.line,
            "column": self.column,
            "message": self.message,
            "hint": self.hint,
            "related": self.related.as_ref().map(|place| json!({
                "file": place.file.to_string_lossy(),
                "line": place.line,
            })),
        })
    }
}

/// For programs: an array of objects with `severity`, `file`, `line`,
/// `column`, `message`, `hint` and `related` (an object of `file` and `line`,
/// or null).
#[must_use]
pub fn to_json(diagnostics: &[Diagnostic]) -> Value {
    diagnostics.iter().map(Diagnostic::to_json).collect()
}

/// A value as it stands in a message: in backticks, cut when it is long, and
/// [`plain`].
pub(super) fn shown(value: &str) -> String {
    const LONGEST: usize = 80;
    let mut text = String::from("`");
    let short: String = value.chars().take(LONGEST).collect();
    text.push_str(&plain(&short));
    if value.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    text.push('`');
    text
}

/// A text in which nothing acts on a terminal, nor hides what it says.
#[must_use]
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if acts_on_terminals(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The same of a text of several lines.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// A path as a person may be shown it.
#[must_use]
pub fn plain_path(path: &Path) -> String {
    plain(&path.to_string_lossy())
}

/// JSON in which nothing acts on a terminal: its strings have it escaped.
#[must_use]
pub fn plain_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match acts_on_terminals(c) && c != '\n' {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                out.push_str(&format!("\\u{unit:04x}"));
            }),
            false => out.push(c),
        }
    }
    out
}

/// Stands for a character of a file's line that is not shown.
const HIDDEN: char = '\u{fffd}';

/// Control characters, the marks that turn the direction of writing, blanks
/// without width.
#[must_use]
pub fn acts_on_terminals(c: char) -> bool {
    let hides = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    c.is_control() || hides
}

/// Where the character with this number starts, or the end.
fn byte_offset(line: &str, character: usize) -> usize {
    line.char_indices().nth(character).map_or(line.len(), |(offset, _)| offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_act_on_a_terminal() {
        assert_eq!(shown("游侠\u{1b}[31m\n"), "`游侠\\u{1b}[31m\\n`");
        assert_eq!(shown("a\u{202e}b\u{200b}"), "`a\\u{202e}b\\u{200b}`");
    }

    #[test]
    fn a_long_value_is_cut() {
        assert_eq!(shown(&"a".repeat(80)), format!("`{}`", "a".repeat(80)));
        assert_eq!(shown(&"a".repeat(81)), format!("`{}…`", "a".repeat(80)));
    }

    #[test]
    fn colours_only_where_they_are_asked_for() {
        let fault =
            Diagnostic::whole_file(Severity::Warning, Path::new("x.toml"), "old".to_owned());
        let fault = fault.hint("a\u{1b}b");
        assert_eq!(fault.render(false), "warning: old\n--> x.toml:1:1\n = hint: a␛b");
        assert!(fault.render(true).contains("\u{1b}["));
    }
}
