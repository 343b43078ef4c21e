//! Cookies as bytes: found, taken out, and the application's value told from
//! our token. Nothing else of a field is touched, for lockgate is not the one
//! who understands it: odd dates, unknown attributes and bytes that are no
//! UTF-8 pass as they came.
//!
//! Names are compared whole and with their case, as browsers do (RFC 6265 5.3;
//! Tengine looks for a part of the name).

use std::ops::Range;

use super::token::split_rewritten;

/// Which cookies of a listener are ours to take out of what a backend gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CookieNames {
    /// Inserted by us: taken out.
    pub inserted: Vec<String>,
    /// The application's: our token is taken off their values.
    pub rewritten: Vec<String>,
}

impl CookieNames {
    /// Nothing has to be looked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inserted.is_empty() && self.rewritten.is_empty()
    }
}

/// The values of the cookies of that name in the value of a `Cookie` field.
pub fn values<'a>(field: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    Pairs::of(field).filter(move |pair| pair.name == name).map(|pair| pair.value)
}

/// The token that stands before an application's value.
#[must_use]
pub fn token_of(value: &[u8]) -> Option<&[u8]> {
    split_rewritten(unquoted(value)).map(|(token, _)| token)
}

/// A value as it was before a client put it into quotes.
#[must_use]
pub fn without_quotes(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// Writes the value of a `Cookie` field as the backend gets it. `None`: it
/// gets the field as it is; an empty result: it does not get it.
#[must_use]
pub fn without_ours(field: &[u8], names: &CookieNames) -> Option<Vec<u8>> {
    let is = |list: &[String], name: &[u8]| list.iter().any(|other| other.as_bytes() == name);
    let mut out: Option<Vec<u8>> = None;
    // Up to here the field was written out.
    let mut written = 0;
    for pair in Pairs::of(field) {
        let cut = if is(&names.inserted, pair.name) {
            pair.segment
        } else if is(&names.rewritten, pair.name)
            && let Some(token) = token_of(pair.value)
        {
            let quote = pair.value.len() - unquoted(pair.value).len();
            let from = pair.at + quote;
            from..from + token.len()
        } else {
            continue;
        };
        keep(out.get_or_insert_default(), field, written..cut.start);
        written = cut.end;
    }
    let mut out = out?;
    keep(&mut out, field, written..field.len());
    // What stood first or last took one separator with it.
    let start = out.iter().position(|byte| !is_separator(*byte)).unwrap_or(out.len());
    out.drain(..start);
    let end = out.iter().rposition(|byte| !is_separator(*byte)).map_or(0, |last| last + 1);
    out.truncate(end);
    Some(out)
}

/// Writes a part of the field out. Where nothing is left nothing is allocated.
fn keep(out: &mut Vec<u8>, field: &[u8], part: Range<usize>) {
    let part = field.get(part).unwrap_or_default();
    if !part.is_empty() {
        // All at once, whatever else is to come.
        out.reserve_exact(field.len().saturating_sub(out.len()));
        out.extend_from_slice(part);
    }
}

/// Where our token goes in the value of a `Set-Cookie` field that sets the
/// cookie of that name. Inside the quotes of a quoted value, for a token before
/// them would make it one that strict readers refuse.
#[must_use]
pub fn token_place(field: &[u8], name: &[u8]) -> Option<usize> {
    let pair = Pairs::of(field).next()?;
    // An attribute is no cookie: only what stands first counts.
    let is_first = pair.segment.start == 0;
    let quote = pair.value.len() - unquoted(pair.value).len();
    (is_first && pair.name == name).then_some(pair.at + quote)
}

/// A value without its opening quote.
fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', rest @ .., b'"'] => value.get(1..=rest.len() + 1).unwrap_or_default(),
        _ => value,
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b';' | b' ' | b'\t')
}

/// The pairs of a field, in order.
struct Pairs<'a> {
    field: &'a [u8],
    from: usize,
}

/// `name=value`, blanks around both left out.
struct Pair<'a> {
    name: &'a [u8],
    value: &'a [u8],
    /// Where the value begins.
    at: usize,
    /// All of it, with the `;` behind it.
    segment: Range<usize>,
}

impl<'a> Pairs<'a> {
    fn of(field: &'a [u8]) -> Pairs<'a> {
        Pairs { field, from: 0 }
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        loop {
            let start = self.from;
            let rest = self.field.get(start..).filter(|rest| !rest.is_empty())?;
            let length = memchr::memchr(b';', rest).unwrap_or(rest.len());
            let end = (start + length + 1).min(self.field.len());
            self.from = end;
            let pair = rest.get(..length).unwrap_or_default();
            // A pair without `=` has no name.
            // Names are short: no search is begun for one.
            let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
            let name = pair.get(..equals).unwrap_or_default().trim_ascii();
            let value = pair.get(equals + 1..).unwrap_or_default();
            let blanks = value.len() - value.trim_ascii_start().len();
            return Some(Pair {
                name,
                value: value.trim_ascii(),
                at: start + equals + 1 + blanks,
                segment: start..end,
            });
        }
    }
}
