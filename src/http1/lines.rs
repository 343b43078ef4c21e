//! The tokeniser: field lines, and the runs of bytes that lines are made of.
//!
//! Every byte is looked at once, eight at a time where they may be many. What ends a run is found
//! and not judged here: whoever asked knows what has to stand there.

use super::fields::{Field, Known, Span, trim};
use super::head::{HeadError, HeadLimits};

/// Reads the field lines that begin at `from` in `head`, up to the empty line, and adds them to
/// `fields`; gives the position behind the empty line.
pub(super) fn read_fields(
    head: &[u8],
    from: usize,
    limits: &HeadLimits,
    fields: &mut Vec<Field>,
) -> Result<usize, HeadError> {
    let mut rest = head.get(from..).unwrap_or_default();
    loop {
        if let [b'\r', b'\n', behind @ ..] = rest {
            return Ok(head.len() - behind.len());
        }
        let (field, next) = field_line(head, rest)?;
        if fields.len() == limits.fields {
            return Err(HeadError::TooManyFields);
        }
        fields.push(field);
        rest = next;
    }
}

/// Whether the field lines of `head`, which are all behind position `from`, are within the limit,
/// and the head not longer than a [`Span`] counts.
pub(super) fn check_size(head: &[u8], from: usize, limits: &HeadLimits) -> Result<(), HeadError> {
    let lines = head.len().saturating_sub(from).saturating_sub(2);
    if lines > limits.fields_size || u32::try_from(head.len()).is_err() {
        return Err(HeadError::FieldsTooLarge);
    }
    Ok(())
}

/// `field-name ":" OWS field-value OWS CRLF` (RFC 9112 5) at the start of `rest`, which is the end
/// of `head`; with what follows the line.
#[inline]
fn field_line<'a>(head: &[u8], rest: &'a [u8]) -> Result<(Field, &'a [u8]), HeadError> {
    let (name, behind) = rest.split_at_checked(token_len(rest)).unwrap_or_default();
    let (false, [b':', behind @ ..]) = (name.is_empty(), behind) else {
        return Err(no_name(name, behind));
    };
    // Most values are written with just one space before them.
    let behind = behind.strip_prefix(b" ").unwrap_or(behind);
    let (text, behind) = behind.split_at_checked(text_len(behind)).unwrap_or_default();
    let [b'\r', b'\n', next @ ..] = behind else {
        return Err(no_line_end(behind, "invalid field value"));
    };
    let field = Field {
        name: Span::within(head, name),
        value: Span::within(head, trim(text)),
        end: Span::within(head, next).start,
        known: Known::of(name),
    };
    Ok((field, next))
}

/// Why there is no `name ":"` before `behind`.
#[cold]
fn no_name(name: &[u8], behind: &[u8]) -> HeadError {
    HeadError::Malformed(match (name, behind) {
        (_, []) | ([], [b'\r']) => "incomplete head",
        ([], [b'\r', ..]) => "bare CR",
        ([], [b'\n', ..]) => "bare LF",
        _ => "invalid field name",
    })
}

/// Why no CRLF stands at the start of `rest`, where text has ended; `reason`: it has another byte
/// that is no text.
#[cold]
pub(super) fn no_line_end(rest: &[u8], reason: &'static str) -> HeadError {
    HeadError::Malformed(match rest {
        [] | [b'\r'] => "incomplete head",
        [b'\n', ..] => "bare LF",
        _ => reason,
    })
}

/// Bytes before the first that can't be in a `token` (RFC 9110 5.6.2).
#[inline]
fn token_len(bytes: &[u8]) -> usize {
    // Most names are of letters and dashes.
    let len = run_len(bytes, unusual);
    let rest = bytes.get(len..).unwrap_or_default();
    match rest {
        [b':', ..] => len,
        _ => len + rest.iter().position(|&byte| !is_token(byte)).unwrap_or(rest.len()),
    }
}

#[allow(clippy::indexing_slicing, reason = "the table is built by the compiler")]
fn is_token(byte: u8) -> bool {
    // Looked up: this runs for every byte of every field name.
    const TOKEN: [bool; 256] = {
        let mut table = [false; 256];
        let mut tokens: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789\
            !#$%&'*+-.^_`|~";
        while let [byte, rest @ ..] = tokens {
            table[*byte as usize] = true;
            tokens = rest;
        }
        table
    };
    TOKEN.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Bytes before the first that can't be in a field value or reason phrase: those are
/// `HTAB / SP / VCHAR / obs-text` (RFC 9110 5.5).
pub(super) fn text_len(bytes: &[u8]) -> usize {
    let mut len = 0;
    loop {
        let rest = bytes.get(len..).unwrap_or_default();
        len += run_len(rest, |word| below(word, b' ') | equal(word, 0x7f));
        match bytes.get(len) {
            Some(b'\t') => len += 1,
            _ => return len,
        }
    }
}

/// Bytes before the first that can't be in a request target: a control, space or DEL, which would
/// end the target for somebody, or the begin of a fragment, which never belongs into a request
/// (RFC 9112 3.2). Whatever else is sent passes as it is.
#[inline]
pub(super) fn target_len(bytes: &[u8]) -> usize {
    run_len(bytes, |word| below(word, b' ' + 1) | equal(word, 0x7f) | equal(word, b'#'))
}

/// Bytes before the first that `marks` marks in the word it is in, in the highest bit of its byte.
#[inline(always)]
fn run_len(bytes: &[u8], marks: impl Fn(u64) -> u64) -> usize {
    let (words, tail) = bytes.as_chunks();
    let mut len = 0;
    for word in words {
        let marked = marks(u64::from_le_bytes(*word)) & HIGH;
        if marked != 0 {
            return len + marked.trailing_zeros() as usize / 8;
        }
        len += word.len();
    }
    let marked = |&byte: &u8| marks(u64::from(byte)) & 0x80 != 0;
    len + tail.iter().position(marked).unwrap_or(tail.len())
}

/// A 1 in every byte, and the highest bit of every byte.
const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// Marks the bytes of `word` that are less than `limit`. Behind the first one, in the order of the
/// text, others may be marked too: a borrow runs that way.
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(limit)) & !word
}

/// Marks the bytes of `word` that are `byte`, and maybe others behind the first, as [`below`].
fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

/// Marks the bytes of `word` that are neither a letter nor a dash.
fn unusual(word: u64) -> u64 {
    // None of the sums reaches the next byte.
    let seven = word & !HIGH;
    let lower = seven | (ONES * 0x20);
    let letter = (lower + ONES * (0x80 - 0x61)) & !(lower + ONES * (0x80 - 0x7b));
    let no_dash = (seven ^ (ONES * 0x2d)) + ONES * 0x7f;
    (no_dash & !letter) | word
}
