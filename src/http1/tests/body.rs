//! Where the content lies.

use super::super::{BodyDecoder, BodyError, LAST_CHUNK, Step, chunk_prefix};
use super::show;

/// Content, trailer section and how many bytes were consumed, of input that is all there.
fn decode(mut decoder: BodyDecoder, input: &[u8]) -> Result<(Vec<u8>, Vec<u8>, usize), BodyError> {
    let (mut data, mut trailers, mut at) = (Vec::new(), Vec::new(), 0);
    loop {
        match decoder.decode(&input[at..])? {
            Step::Skip(n) => at += n,
            Step::Data(n) => {
                data.extend_from_slice(&input[at..at + n]);
                at += n;
            }
            Step::Trailers(n) => {
                trailers.extend_from_slice(&input[at..at + n]);
                at += n;
            }
            Step::Done => return Ok((data, trailers, at)),
            Step::More => {
                decoder.eof()?;
            }
        }
    }
}

fn chunked(input: &[u8]) -> Result<(Vec<u8>, Vec<u8>, usize), BodyError> {
    decode(BodyDecoder::chunked(64), input)
}

#[test]
fn lengths() {
    let mut decoder = BodyDecoder::length(5);
    assert_eq!(decoder.remaining(), Some(5));
    assert_eq!(decoder.decode(b""), Ok(Step::More));
    assert_eq!(decoder.decode(b"abc"), Ok(Step::Data(3)));
    assert_eq!((decoder.remaining(), decoder.is_done()), (Some(2), false));
    assert_eq!(decoder.clone().eof(), Err(BodyError::Truncated));
    assert_eq!(decoder.decode(b"defgh"), Ok(Step::Data(2)));
    assert_eq!((decoder.remaining(), decoder.is_done()), (Some(0), true));
    assert_eq!(decoder.decode(b"fgh"), Ok(Step::Done));
    assert_eq!(decoder.eof(), Ok(()));
    assert_eq!(BodyDecoder::length(u64::MAX).decode(b"ab"), Ok(Step::Data(2)));
}

#[test]
fn no_content() {
    let mut decoder = BodyDecoder::empty();
    assert!(decoder.is_done());
    assert_eq!(decoder.decode(b"GET"), Ok(Step::Done));
    assert_eq!(decoder.eof(), Ok(()));
}

#[test]
fn until_close() {
    let mut decoder = BodyDecoder::until_close();
    assert_eq!(decoder.decode(b"abc"), Ok(Step::Data(3)));
    assert_eq!(decoder.decode(b""), Ok(Step::More));
    assert_eq!((decoder.is_done(), decoder.remaining()), (false, None));
    assert_eq!(decoder.eof(), Ok(()));
    assert!(decoder.is_done());
    assert_eq!(decoder.decode(b""), Ok(Step::Done));
}

#[test]
fn chunks() {
    let good: [(&[u8], &[u8], &[u8]); 10] = [
        (b"0\r\n\r\n", b"", b"\r\n"),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b"\r\n"),
        (b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello", b"\r\n"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789", b"\r\n"),
        (b"A;x=y\r\n0123456789\r\n00;z\r\n\r\n", b"0123456789", b"\r\n"),
        (b"0000000000000001\r\na\r\n0000000000000000\r\n\r\n", b"a", b"\r\n"),
        (b"1;\r\na\r\n0\r\n\r\n", b"a", b"\r\n"),
        (b"1;a=\"\xe4 b\t\"\r\na\r\n0\r\n\r\n", b"a", b"\r\n"),
        (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", b"\r\n"),
        (b"0\r\nA: b\r\nC: d\r\n\r\n", b"", b"A: b\r\nC: d\r\n\r\n"),
    ];
    for (input, data, trailers) in good {
        let next = [input, b"GET /"].concat();
        let want = Ok((data.to_vec(), trailers.to_vec(), input.len()));
        assert_eq!(chunked(&next), want, "{}", show(input));
        for end in 0..input.len() {
            let cut = chunked(&input[..end]);
            assert_eq!(cut, Err(BodyError::Truncated), "{}", show(&input[..end]));
        }
    }
}

#[test]
fn broken_chunks() {
    let cases: [(&[u8], &str); 31] = [
        (b"\r\n", "invalid chunk size"),
        (b"\n", "invalid chunk size"),
        (b";a\r\n", "invalid chunk size"),
        (b" 5\r\n", "invalid chunk size"),
        (b"5 \r\n", "invalid chunk size"),
        (b"5\t\r\n", "invalid chunk size"),
        (b"5 ;a\r\n", "invalid chunk size"),
        (b"0x5\r\n", "invalid chunk size"),
        (b"+5\r\n", "invalid chunk size"),
        (b"-5\r\n", "invalid chunk size"),
        (b"g\r\n", "invalid chunk size"),
        (b"5_0\r\n", "invalid chunk size"),
        (b"5,5\r\n", "invalid chunk size"),
        (b"00000000000000000\r\n", "chunk size too long"),
        (b"10000000000000000\r\n", "chunk size too long"),
        (b"5\n", "invalid chunk size"),
        (b"5\rhello", "bare CR after the chunk size"),
        (b"5\r\r\n", "bare CR after the chunk size"),
        (b"5;a\rb\r\n", "bare CR after the chunk size"),
        (b"5;a\nb\r\n", "invalid chunk extension"),
        (b"5;a\0\r\n", "invalid chunk extension"),
        (b"5;a\x7f\r\n", "invalid chunk extension"),
        (b"1\r\nab", "no CRLF after the chunk data"),
        (b"1\r\na\n", "no CRLF after the chunk data"),
        (b"1\r\nax\n", "no CRLF after the chunk data"),
        (b"1\r\na\rb", "no CRLF after the chunk data"),
        (b"1\r\na0\r\n\r\n", "no CRLF after the chunk data"),
        (b"0\r\n\n", "bare LF"),
        (b"0\r\nA: b\n\r\n", "bare LF"),
        (b"0\r\nA: b\rc\r\n", "bare CR"),
        (b"0\r\nA: \0", "NUL"),
    ];
    for (input, reason) in cases {
        assert_eq!(chunked(input), Err(BodyError::Chunk(reason)), "{}", show(input));
    }
}

#[test]
fn the_largest_chunk_size_is_no_overflow() {
    let mut decoder = BodyDecoder::chunked(0);
    assert_eq!(decoder.decode(b"ffffffffffffffff\r\nab"), Ok(Step::Skip(18)));
    assert_eq!(decoder.decode(b"ab"), Ok(Step::Data(2)));
    assert_eq!(decoder.decode(b""), Ok(Step::More));
}

#[test]
fn size_lines_and_trailers_are_bounded_to_the_byte() {
    let line = |n: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(n - 2));
    assert!(chunked(line(4096).as_bytes()).is_ok());
    let too_long = BodyError::Chunk("chunk extensions too long");
    assert_eq!(chunked(line(4097).as_bytes()), Err(too_long));
    // Refused before its end is there.
    assert_eq!(chunked(&line(5000).as_bytes()[..4097]), Err(too_long));

    let trailers = |n: usize| format!("0\r\nA: {}\r\n\r\n", "x".repeat(n - 5));
    assert!(chunked(trailers(64).as_bytes()).is_ok());
    assert_eq!(chunked(trailers(65).as_bytes()), Err(BodyError::TrailersTooLarge));
    assert_eq!(chunked(&trailers(200).as_bytes()[..80]), Err(BodyError::TrailersTooLarge));
    assert!(decode(BodyDecoder::chunked(0), b"0\r\n\r\n").is_ok());
    let none = decode(BodyDecoder::chunked(0), b"0\r\nA:\r\n\r\n");
    assert_eq!(none, Err(BodyError::TrailersTooLarge));
}

#[test]
fn framing_between_two_chunks_is_one_step() {
    let mut decoder = BodyDecoder::chunked(0);
    let steps = [
        (b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n".as_slice(), Step::Skip(3)),
        (b"a\r\n2\r\nbc\r\n0\r\n\r\n", Step::Data(1)),
        (b"\r\n2\r\nbc\r\n0\r\n\r\n", Step::Skip(5)),
        (b"bc\r\n0\r\n\r\n", Step::Data(2)),
        (b"\r\n0\r\n\r\n", Step::Skip(5)),
        (b"\r\n", Step::Trailers(2)),
        (b"", Step::Done),
    ];
    for (input, step) in steps {
        assert_eq!(decoder.decode(input), Ok(step), "{}", show(input));
    }
    assert!(decoder.is_done());
}

#[test]
fn prefixes() {
    for (n, want) in [
        (1, "1\r\n"),
        (15, "f\r\n"),
        (16, "10\r\n"),
        (0xabcdef, "abcdef\r\n"),
        (usize::MAX, "ffffffffffffffff\r\n"),
        (0, "0\r\n"),
    ] {
        assert_eq!(chunk_prefix(n, &mut [0; 18]), want.as_bytes(), "{n}");
    }
    assert_eq!(chunk_prefix(0, &mut [0; 18]), LAST_CHUNK);
}
