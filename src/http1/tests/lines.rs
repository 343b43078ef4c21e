//! The tokeniser, byte by byte at every place of a word, and beside httparse.

use httparse::{EMPTY_HEADER, Status, parse_headers};
use proptest::prelude::*;
use proptest::sample::select;

use super::super::lines::{target_len, text_len};
use super::super::{Field, HeadError, HeadLimits, parse_trailers};
use super::show;

/// Longer than two words of eight bytes and what is left behind them.
const LONG: usize = 21;

/// Every byte at every place, in front of another one that ends the run too.
fn every_byte_everywhere(len: impl Fn(&[u8]) -> usize, good: impl Fn(u8) -> bool) {
    for byte in 0..=255_u8 {
        for at in 0..LONG {
            for behind in [b"a".as_slice(), b"\0", b"aaaaaaaaaaaaa\x7faaa", &[byte; 9]] {
                let text = [&b"a".repeat(at), [byte].as_slice(), behind].concat();
                let want = text.iter().position(|&byte| !good(byte)).unwrap_or(text.len());
                assert_eq!(len(&text), want, "{}", show(&text));
            }
        }
    }
}

#[test]
fn text_ends_at_a_control() {
    every_byte_everywhere(text_len, |byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
    assert_eq!(text_len(b""), 0);
    assert_eq!(text_len(&b"\t".repeat(40)), 40);
}

#[test]
fn a_target_ends_at_a_control_space_or_fragment() {
    every_byte_everywhere(target_len, |byte| byte > b' ' && byte != 0x7f && byte != b'#');
}

#[test]
fn names_are_tokens_at_every_place() {
    let mut fields = Vec::new();
    for byte in 0..=255_u8 {
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        for at in 0..LONG {
            for behind in ["", "a", "aaaaaaaaaaa"] {
                let name = [&b"a".repeat(at), [byte].as_slice(), behind.as_bytes()].concat();
                let section = [&name, b": b\r\n\r\n".as_slice()].concat();
                let read = parse_trailers(&section, &HeadLimits::default(), &mut fields);
                // The name ends at a colon that stands in it, if there is one before it.
                let good = token || (byte == b':' && at > 0);
                assert_eq!(read.is_ok(), good, "{}", show(&section));
                if token {
                    assert_eq!(fields[0].name.of(&section), name);
                }
            }
        }
    }
}

/// What httparse reads of a section, less what it is more lenient in; `None`: it refuses it.
fn by_httparse(section: &[u8], limit: usize) -> Option<Vec<(&[u8], &[u8])>> {
    let mut room = vec![EMPTY_HEADER; limit];
    let Ok(Status::Complete((len, headers))) = parse_headers(section, &mut room) else {
        return None;
    };
    let bare =
        |at: usize| section[at] == b'\n' && at.checked_sub(1).map(|at| section[at]) != Some(b'\r');
    if len != section.len() || (0..len).any(bare) {
        return None;
    }
    Some(headers.iter().map(|header| (header.name.as_bytes(), header.value)).collect())
}

/// Field lines, good and bad.
fn section() -> impl Strategy<Value = Vec<u8>> {
    let pieces: [&[u8]; 28] = [
        b"A",
        b"Content-Type",
        b"sec-ch-ua",
        b"x_y",
        b"X-B3-TraceId",
        b"a-name-of-some-length",
        b":",
        b":",
        b":",
        b": ",
        b": ",
        b": ",
        b":\t",
        b" ",
        b"\t",
        b"b",
        b"text/html; charset=utf-8",
        b"\xe4\xff",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"\x7f",
        b"\x1f",
        b"(",
    ];
    let line = (select(pieces[..6].to_vec()), select(pieces[15..18].to_vec()), 0..4_usize)
        .prop_map(|(name, value, blanks)| {
            let blanks = &b" \t  "[..blanks];
            [name, b":", blanks, value, blanks, b"\r\n"].concat()
        });
    let damage =
        prop::collection::vec((any::<prop::sample::Index>(), select(pieces.to_vec())), 0..3);
    (prop::collection::vec(line, 0..6), damage).prop_map(|(lines, damage)| {
        let mut section = [&lines.concat(), b"\r\n".as_slice()].concat();
        for (at, piece) in damage {
            let at = at.index(section.len());
            section.splice(at..at, piece.iter().copied());
        }
        section
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn sections_are_read_as_httparse_reads_them(section in section(), limit in 0..6_usize) {
        let limits = HeadLimits { fields: limit, ..HeadLimits::default() };
        let mut fields = Vec::new();
        let read = parse_trailers(&section, &limits, &mut fields);
        let seen = |field: &Field| (field.name.of(&section).to_vec(), field.value.of(&section).to_vec());
        let ours = read.is_ok().then(|| fields.iter().map(seen).collect::<Vec<_>>());
        let theirs = by_httparse(&section, limit).map(|fields| {
            fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect::<Vec<_>>()
        });
        prop_assert_eq!(ours, theirs, "{:?} {}", read, show(&section));
        // The lines stand one behind the other, with nothing between them.
        let mut end = 0;
        for field in &fields {
            prop_assert_eq!(field.name.start, end);
            end = field.end;
        }
        if read == Err(HeadError::TooManyFields) {
            prop_assert_eq!(fields.len(), limit);
        }
    }
}
