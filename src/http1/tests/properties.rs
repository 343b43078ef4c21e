//! What must hold for every input: the oracle's word on good, damaged and random messages, and the
//! way back from what we encode.

use proptest::prelude::*;
use proptest::sample::select;

use crate::http1;
use crate::http1::{
    BodyDecoder, Field, HeadLimits, LAST_CHUNK, Method, Scan, Span, Step, chunk_prefix,
    judge_request, parse_request, receive_request, receive_response,
};

use super::show;

#[path = "../../../tests/fuzz/oracle.rs"]
#[allow(unreachable_pub, reason = "the fuzz targets use it too")]
mod oracle;

/// Pieces that make heads, and pieces that break them.
const PIECES: [&[u8]; 64] = [
    b"GET ",
    b"POST ",
    b"OPTIONS ",
    b"CONNECT ",
    b"PROPFIND ",
    b"get ",
    b"/",
    b"/a?b",
    b"*",
    b"http://h",
    b"https://h:1/",
    b"http://u@h/",
    b"h:80",
    b"#",
    b" ",
    b"  ",
    b"\t",
    b" HTTP/1.1",
    b" HTTP/1.0",
    b" HTTP/1.2",
    b"HTTP/1.1 ",
    b"HTTP/1.0 ",
    b"200",
    b"204 No Content",
    b"304 ",
    b"101 x",
    b"999 ",
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"Host: h\r\n",
    b"Host: [::1]:80\r\n",
    b"Host: a,b\r\n",
    b"host:\r\n",
    b"Content-Length: 5\r\n",
    b"content-length: 0\r\n",
    b"Content-Length: +5\r\n",
    b"Content_Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive, X-A\r\n",
    b"Connection: Host, X-Forwarded-For\r\n",
    b"X-Forwarded-For: 1.2.3.4\r\n",
    b"X-A: b\r\n",
    b"X-A : b\r\n",
    b" folded\r\n",
    b"X-A:\r\n",
    b"TE: trailers\r\n",
    b"Date: x\r\n",
    b"Keep-Alive: timeout=5\r\n",
    b":",
    b"hello",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"5;x=\"y\"\r\n",
    b"0\r\nA: b\r\n\r\n",
    b"\xe4",
    b"\x7f",
];

const REQUEST: &[u8] = b"POST /a?b HTTP/1.1\r\nHost: h:80\r\nX-A: b\r\nConnection: X-A, close\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nT: u\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nDate: x\r\nServer: y\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello";
const BODY: &[u8] =
    b"5\r\nhello\r\na;x=\"y z\"\r\n0123456789\r\n0\r\nT: u\r\n\r\nGET / HTTP/1.1\r\n\r\n";

/// Request lines, and valid names and values, of heads that are written here.
const LINES: [&str; 6] = [
    "GET / HTTP/1.1",
    "POST /a?b HTTP/1.1",
    "GET http://h/ HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "get / HTTP/1.1",
    "GET /a-target-that-is-longer-than-a-small-limit-on-targets-lets-it-be HTTP/1.1",
];
const NAMES: [&str; 10] = [
    "Host",
    "Host",
    "content-length",
    "transfer-encoding",
    "connection",
    "x-forwarded-for",
    "content_length",
    "te",
    "expect",
    "a",
];
const VALUES: [&str; 12] = [
    "",
    " ",
    "h",
    "h",
    " h\t",
    "5",
    "5 ",
    "chunked",
    "close, x-a",
    "trailers",
    "100-continue",
    "something longer, with \u{e4}",
];

/// Pieces in any order, mostly behind something that looks like a start.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let starts: [&[u8]; 5] = [
        b"",
        b"GET / HTTP/1.1\r\nHost: h\r\n",
        b"POST http://h?x HTTP/1.1\r\nHost: i\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"\r\nGET / HTTP/1.0\r\n",
    ];
    (select(starts.to_vec()), prop::collection::vec(select(PIECES.to_vec()), 0..12), any::<bool>())
        .prop_map(|(start, pieces, ended)| {
            let end: &[u8] = if ended { b"\r\n" } else { b"" };
            [start, &pieces.concat(), end].concat()
        })
}

/// A good message with a few bytes changed, left out or put in.
fn damaged(good: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), select(b"\r\n \t:;,0123456789abcdef-_/?#\0".to_vec())];
    let edit = (0..good.len(), 0..3_u8, byte);
    prop::collection::vec(edit, 0..4).prop_map(|edits| {
        let mut bytes = good.to_vec();
        for (at, kind, byte) in edits {
            let at = at.min(bytes.len() - 1);
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn requests_have_one_meaning(input in prop_oneof![soup(), damaged(REQUEST)]) {
        oracle::check_request(&input, &HeadLimits::default());
        oracle::check_request(&input, &oracle::SMALL);
    }

    #[test]
    fn responses_have_one_meaning(input in prop_oneof![soup(), damaged(RESPONSE)]) {
        for method in [Method::Get, Method::Head, Method::Connect] {
            oracle::check_response(&input, &HeadLimits::default(), method);
        }
        oracle::check_response(&input, &oracle::SMALL, Method::Get);
    }

    #[test]
    fn chunked_bodies_have_one_meaning(input in prop_oneof![soup(), damaged(BODY)]) {
        oracle::check_chunked(&input, 1 << 10);
        oracle::check_chunked(&input, 4);
    }

    #[test]
    fn a_head_written_here_is_judged_as_if_it_were_received(
        line in select(LINES.to_vec()),
        written in prop::collection::vec((select(NAMES.to_vec()), select(VALUES.to_vec())), 0..8),
        limits in select(vec![HeadLimits::default(), oracle::SMALL]),
    ) {
        let mut head = [line, "\r\n"].concat().into_bytes();
        let mut fields = Vec::new();
        for (name, value) in written {
            fields.push(Field::line(head.len(), name.as_bytes(), value.as_bytes()));
            head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        let judged = judge_request(&head, &limits, &fields);
        let mut parsed_fields = Vec::new();
        let parsed = parse_request(&head, &limits, &mut parsed_fields);
        prop_assert_eq!(format!("{judged:?}"), format!("{parsed:?}"));
        if parsed.is_ok() {
            let seen = |fields: &[Field]| -> Vec<_> {
                let text = |span: Span| show(span.of(&head));
                let field = |field: &Field| {
                    (text(field.name), field.name, text(field.value), field.end, field.known)
                };
                fields.iter().map(field).collect()
            };
            prop_assert_eq!(seen(&fields), seen(&parsed_fields));
        }
    }

    #[test]
    fn random_bytes_do_no_harm(input in prop::collection::vec(any::<u8>(), 0..200)) {
        oracle::check_request(&input, &HeadLimits::default());
        oracle::check_response(&input, &HeadLimits::default(), Method::Get);
        oracle::check_chunked(&input, 1 << 10);
    }

    #[test]
    fn what_is_encoded_is_decoded(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..6),
        step in 1..40_usize,
    ) {
        let mut wire = Vec::new();
        for part in &parts {
            wire.extend_from_slice(chunk_prefix(part.len(), &mut [0; 18]));
            wire.extend_from_slice(part);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(LAST_CHUNK);
        wire.extend_from_slice(b"\r\n");

        let (mut decoder, mut data, mut at, mut received) =
            (BodyDecoder::chunked(0), Vec::new(), 0, 0);
        while !decoder.is_done() {
            match decoder.decode(&wire[at..received]).unwrap() {
                Step::Data(n) => {
                    data.extend_from_slice(&wire[at..at + n]);
                    at += n;
                }
                Step::Skip(n) | Step::Trailers(n) => at += n,
                Step::More => {
                    prop_assert!(received < wire.len(), "wants more than there is");
                    received = (received + step).min(wire.len());
                }
                Step::Done => unreachable!("asked after the end"),
            }
        }
        prop_assert_eq!(data, parts.concat());
        prop_assert_eq!(at, wire.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_head_says_the_same_wherever_it_is_cut(
        input in prop_oneof![soup(), damaged(REQUEST), damaged(RESPONSE)],
        limits in select(vec![HeadLimits::default(), oracle::SMALL]),
    ) {
        let request = |reads: &[&[u8]]| {
            let (mut scan, mut fields, mut received) = (Scan::request(), Vec::new(), Ok(None));
            for bytes in reads {
                received = receive_request(&mut scan, bytes, &limits, &mut fields);
                if received != Ok(None) {
                    break;
                }
            }
            format!("{received:?} {:?}", matches!(received, Ok(Some(_))).then_some(fields))
        };
        let response = |reads: &[&[u8]]| {
            let (mut scan, mut fields, mut received) = (Scan::response(), Vec::new(), Ok(None));
            for bytes in reads {
                let method = Method::Get;
                received = receive_response(&mut scan, bytes, &limits, method, &mut fields);
                if received != Ok(None) {
                    break;
                }
            }
            format!("{received:?} {:?}", matches!(received, Ok(Some(_))).then_some(fields))
        };
        let whole = (request(&[&input]), response(&[&input]));
        for cut in 0..input.len() {
            let reads = [&input[..cut], &input];
            prop_assert_eq!(&(request(&reads), response(&reads)), &whole, "cut at {}", cut);
        }
    }
}

/// The pieces are worth something only if many of the inputs they make are accepted.
#[test]
fn the_good_messages_are_good() {
    use oracle::naive::{Verdict, chunked, request, response};
    assert!(matches!(request(REQUEST), Verdict::One(_)));
    assert!(matches!(response(RESPONSE, false, false), Verdict::One(_)));
    assert!(matches!(chunked(BODY), Verdict::One(_)));
}
