//! What goes to a terminal: nothing in it but what is meant.

use std::borrow::Cow;
use std::io::IsTerminal;

use unicode_width::UnicodeWidthStr as _;

/// The text without anything that a terminal would obey or turn round.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric();
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_plain(c) {
            true => out.push(c),
            false => out.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(out)
}

/// How many columns of a terminal it takes: a Chinese character takes two.
pub(super) fn columns(text: &str) -> usize {
    text.width()
}

/// The text with blanks after it, up to so many columns.
pub(super) fn left(text: &str, wide: usize) -> String {
    let blanks = wide.saturating_sub(columns(text));
    format!("{text}{:blanks$}", "")
}

/// With blanks before it.
pub(super) fn right(text: &str, wide: usize) -> String {
    let blanks = wide.saturating_sub(columns(text));
    format!("{:blanks$}{text}", "")
}

/// Whether colours are wanted there.
pub(crate) fn colours(out: &impl IsTerminal) -> bool {
    out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// As terminals number them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

impl Colour {
    pub(super) fn of_status(status: u16) -> Colour {
        match status {
            500.. => Colour::Red,
            400.. => Colour::Yellow,
            200..=299 => Colour::Green,
            _ => Colour::Cyan,
        }
    }

    pub(super) fn paint(self, text: &str) -> String {
        format!("\x1b[{}m{text}\x1b[0m", self as u8)
    }
}
