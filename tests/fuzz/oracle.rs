//! The oracle of the HTTP/1 codec: a second reader of the same bytes, slow, strict and written
//! another way (whole messages, split into lines, everything copied), and what must hold between
//! it and the codec for every input. The fuzz targets and the property tests share it; whoever
//! includes it has `http1` in scope.

#[path = "naive.rs"]
pub mod naive;

use super::http1::{
    BodyDecoder, Field, HeadError, HeadLimits, Known, LAST_CHUNK, Method, RequestFraming,
    RequestHead, ResponseFraming, Scan, Step, Target, Version, chunk_prefix, is_nominated,
    may_be_nominated, parse_request, parse_response, parse_trailers, receive_request,
    receive_response,
};
use naive::{Framing, Message, Verdict};

/// Limits that short inputs reach.
pub const SMALL: HeadLimits = HeadLimits { target: 24, fields_size: 120, fields: 4 };

/// A request is accepted exactly when the naive reader finds one meaning in it, and what a proxy
/// forwards for it is read by the naive reader as the very same request with nothing behind it.
pub fn check_request(input: &[u8], limits: &HeadLimits) {
    let naive = naive::request(input);
    let mut fields = Vec::new();
    let ours = delimit(input, limits, Scan::request()).and_then(|range| {
        let Some(range) = range else { return Ok(None) };
        let head = &input[range.clone()];
        parse_request(head, limits, &mut fields).map(|parsed| Some((range, parsed)))
    });
    check_received(input, &Scan::request(), &ours, &fields, |scan, bytes, fields| {
        receive_request(scan, bytes, limits, fields)
    });
    let Some((range, parsed)) = agree(&naive, ours, limits) else { return };
    let Verdict::One(naive) = naive else { panic!("accepted what is {naive:?}") };
    let head = &input[range.clone()];

    assert_eq!(range.end, naive.end, "end of the head");
    assert_eq!(parsed.len as usize, head.len());
    assert_eq!(parsed.method_name.of(head), naive.first[0], "method");
    assert_eq!(parsed.target.of(head), naive.first[1], "target");
    assert_eq!(parsed.version == Version::Http11, naive.first[2] == b"HTTP/1.1", "version");
    assert_eq!(parsed.host.map(|host| host.of(head).to_vec()), naive.value_of("host"), "host");
    assert_eq!(parsed.keep_alive, naive.keep_alive(), "persistence");
    check_fields(head, &fields, &naive);
    let framing = match parsed.framing {
        RequestFraming::None => Framing::None,
        RequestFraming::Length(n) => Framing::Length(n),
        RequestFraming::Chunked => Framing::Chunked,
    };
    assert_eq!(framing, naive.framing, "framing");

    check_forwarded(head, &parsed, &fields, &naive, &input[range.end..]);
}

/// As [`check_request`], without the forwarding.
pub fn check_response(input: &[u8], limits: &HeadLimits, method: Method) {
    let naive = naive::response(input, method == Method::Head, method == Method::Connect);
    let mut fields = Vec::new();
    let ours = delimit(input, limits, Scan::response()).and_then(|range| {
        let Some(range) = range else { return Ok(None) };
        let head = &input[range.clone()];
        parse_response(head, limits, method, &mut fields).map(|parsed| Some((range, parsed)))
    });
    check_received(input, &Scan::response(), &ours, &fields, |scan, bytes, fields| {
        let received = receive_response(scan, bytes, limits, method, fields)?;
        Ok(received.map(|head| (0, head)))
    });
    let Some((range, parsed)) = agree(&naive, ours, limits) else { return };
    let Verdict::One(naive) = naive else { panic!("accepted what is {naive:?}") };
    let head = &input[range.clone()];

    assert_eq!(range, 0..naive.end, "the head");
    assert_eq!(parsed.len as usize, head.len());
    assert_eq!(parsed.version == Version::Http11, naive.first[0] == b"HTTP/1.1", "version");
    assert_eq!(parsed.status.to_string().as_bytes(), naive.first[1], "status");
    assert_eq!(parsed.reason.of(head), naive.first[2], "reason");
    assert_eq!(parsed.has_date, naive.value_of("date").is_some(), "date");
    check_fields(head, &fields, &naive);
    let framing = match parsed.framing {
        ResponseFraming::None => Framing::None,
        ResponseFraming::Length(n) => Framing::Length(n),
        ResponseFraming::Chunked => Framing::Chunked,
        ResponseFraming::UntilClose => Framing::UntilClose,
    };
    assert_eq!(framing, naive.framing, "framing");
    if parsed.keep_alive {
        assert!(naive.keep_alive(), "kept what must close");
        assert_ne!(framing, Framing::UntilClose, "kept what only the close delimits");
    }
}

/// A chunked body yields what the naive reader takes out of it, however it arrives.
pub fn check_chunked(input: &[u8], max_trailers: usize) {
    let whole = decode(input, input.len().max(1), BodyDecoder::chunked(max_trailers));
    for step in [1, 2, 7] {
        assert_eq!(decode(input, step, BodyDecoder::chunked(max_trailers)), whole, "step {step}");
    }
    match naive::chunked(input) {
        Verdict::One(naive) if naive.trailers.len() - 2 > max_trailers => {
            assert_eq!(whole.0, Ending::Refused, "oversized trailers");
        }
        Verdict::One(naive) => {
            assert_eq!(whole.0, Ending::Done(naive.end), "end of the body");
            assert_eq!(whole.1, naive.data, "content");
            assert_eq!(whole.2, naive.trailers, "trailer section");
            let ours = parse_trailers(&naive.trailers, &HeadLimits::default(), &mut Vec::new());
            let fields = naive::section(&naive.trailers);
            assert_eq!(ours.is_ok(), fields.is_some_and(|fields| fields.len() <= 100), "{ours:?}");
        }
        Verdict::Ambiguous(why) => assert_eq!(whole.0, Ending::Refused, "{why}"),
        Verdict::Incomplete => assert!(!matches!(whole.0, Ending::Done(_)), "ended early"),
    }
}

type Delimited = Result<Option<std::ops::Range<usize>>, HeadError>;

/// Delimits the head in one read and in reads of one byte, which must not differ.
fn delimit(input: &[u8], limits: &HeadLimits, scan: Scan) -> Delimited {
    let whole = scan.clone().advance(input, limits);
    let mut slow = scan;
    let mut split: Delimited = Ok(None);
    for end in 1..=input.len() {
        split = slow.advance(&input[..end], limits);
        if split != Ok(None) {
            break;
        }
    }
    assert_eq!(split, whole, "the split into reads changed the verdict");
    whole
}

/// What is received, in one read, in reads of one byte or cut in two, is what the long way, `want`
/// and `want_fields`, says of it.
fn check_received<H: PartialEq + std::fmt::Debug>(
    input: &[u8],
    scan: &Scan,
    want: &Result<Option<(std::ops::Range<usize>, H)>, HeadError>,
    want_fields: &[Field],
    receive: impl Fn(&mut Scan, &[u8], &mut Vec<Field>) -> Result<Option<(usize, H)>, HeadError>,
) {
    let len = input.len();
    let mut reads = vec![vec![len], (1..=len).collect()];
    reads.extend([1, len / 4, len / 2, len - len / 4].map(|cut| vec![cut.min(len), len]));
    for ends in reads {
        let (mut scan, mut fields, mut received) = (scan.clone(), Vec::new(), Ok(None));
        for end in &ends {
            received = receive(&mut scan, &input[..*end], &mut fields);
            if received != Ok(None) {
                break;
            }
        }
        match (&received, want) {
            (Ok(Some((start, head))), Ok(Some((range, wanted)))) => {
                assert_eq!((*start, head), (range.start, wanted), "in reads up to {ends:?}");
                assert_eq!(fields, want_fields, "in reads up to {ends:?}");
            }
            (Ok(None), Ok(None)) => {}
            (Err(received), Err(wanted)) => {
                assert_eq!(received, wanted, "in reads up to {ends:?}");
            }
            _ => panic!("{received:?} is not {want:?}, in reads up to {ends:?}"),
        }
    }
}

/// Both accept or both refuse; what both accept is returned.
fn agree<T: std::fmt::Debug>(
    naive: &Verdict<Message>,
    ours: Result<Option<T>, HeadError>,
    limits: &HeadLimits,
) -> Option<T> {
    match (ours, naive) {
        (Ok(None), Verdict::One(_)) => panic!("a whole head was not seen"),
        (Ok(None), Verdict::Ambiguous(why)) => panic!("not seen: {why}"),
        (Ok(Some(_)), Verdict::Ambiguous(why)) => panic!("accepted: {why}"),
        (Ok(Some(_)), Verdict::Incomplete) => panic!("accepted what is not all there"),
        (Ok(Some(accepted)), Verdict::One(message)) => {
            assert!(within(message, limits), "accepted what is over a limit");
            Some(accepted)
        }
        (Err(HeadError::Malformed(why)), Verdict::One(_)) => panic!("refused what is good: {why}"),
        (Err(_), Verdict::One(message)) => {
            assert!(!within(message, limits), "refused what is within the limits");
            None
        }
        (Ok(None), Verdict::Incomplete) | (Err(_), _) => None,
    }
}

fn within(message: &Message, limits: &HeadLimits) -> bool {
    message.fields.len() <= limits.fields
        && message.fields_size <= limits.fields_size
        && (message.first[0].starts_with(b"HTTP/") || message.first[1].len() <= limits.target)
}

fn check_fields(head: &[u8], fields: &[Field], naive: &Message) {
    let ours: Vec<(Vec<u8>, Vec<u8>)> = fields
        .iter()
        .map(|field| (field.name.of(head).to_vec(), field.value.of(head).to_vec()))
        .collect();
    assert_eq!(ours, naive.fields, "fields");
    for field in fields {
        assert_eq!(field.known, Known::of(field.name.of(head)));
        assert!(head[..field.end as usize].ends_with(b"\r\n"), "a line ends with its CRLF");
        assert!(field.end >= field.value.end + 2, "the CRLF is not part of the value");
    }
}

/// Forwards the request as a proxy does and reads that with the naive reader.
fn check_forwarded(
    head: &[u8],
    parsed: &RequestHead,
    fields: &[Field],
    naive: &Message,
    body: &[u8],
) {
    let (host, target) = match parsed.form {
        Target::Origin | Target::Asterisk => (parsed.host, parsed.target.of(head).to_vec()),
        Target::Authority => return,
        Target::Absolute { authority, path, .. } => {
            let path = path.of(head);
            let slash: &[u8] = if path.starts_with(b"/") { b"" } else { b"/" };
            (Some(authority), [slash, path].concat())
        }
    };
    // A proxy answers this one from its configuration.
    let Some(host) = host else { return };
    let host = host.of(head);
    let kept: Vec<(Vec<u8>, Vec<u8>)> = fields
        .iter()
        .filter(|field| travels(head, parsed, fields, field))
        .map(|field| (field.name.of(head).to_vec(), field.value.of(head).to_vec()))
        .collect();

    let mut out = Vec::new();
    out.extend_from_slice(&[parsed.method_name.of(head), b" ", &target, b" HTTP/1.1\r\n"].concat());
    out.extend_from_slice(&[b"Host: ", host, b"\r\n"].concat());
    for field in fields.iter().filter(|field| travels(head, parsed, fields, field)) {
        out.extend_from_slice(&head[field.name.start as usize..field.end as usize]);
    }
    let decoder = match parsed.framing {
        RequestFraming::None => BodyDecoder::empty(),
        RequestFraming::Length(n) => {
            out.extend_from_slice(format!("Content-Length: {n}\r\n").as_bytes());
            BodyDecoder::length(n)
        }
        RequestFraming::Chunked => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            BodyDecoder::chunked(1 << 10)
        }
    };
    out.extend_from_slice(b"\r\n");
    let head_len = out.len();
    let (ending, data, _) = decode(body, 7, decoder);
    if !matches!(ending, Ending::Done(_)) {
        return;
    }
    if parsed.framing == RequestFraming::Chunked {
        for part in data.chunks(5) {
            let mut prefix = [0; 18];
            out.extend_from_slice(chunk_prefix(part.len(), &mut prefix));
            out.extend_from_slice(&[part, b"\r\n"].concat());
        }
        out.extend_from_slice(LAST_CHUNK);
        out.extend_from_slice(b"\r\n");
    } else {
        out.extend_from_slice(&data);
    }

    let Verdict::One(read) = naive::request(&out) else { panic!("forwarded an ambiguous head") };
    assert_eq!(read.end, head_len, "end of the forwarded head");
    assert_eq!(read.first, [naive.first[0].clone(), target, b"HTTP/1.1".to_vec()]);
    assert_eq!(read.value_of("host").as_deref(), Some(host));
    assert_eq!(read.framing, naive.framing, "forwarded framing");
    let framing = usize::from(read.framing != Framing::None);
    assert_eq!(read.fields[1..read.fields.len() - framing], kept, "forwarded fields");
    let rest = &out[head_len..];
    let (content, end) = match read.framing {
        Framing::Chunked => match naive::chunked(rest) {
            Verdict::One(body) => (body.data, body.end),
            other => panic!("forwarded a broken body: {other:?}"),
        },
        _ => (rest.to_vec(), rest.len()),
    };
    assert_eq!((content, end), (data, rest.len()), "forwarded content, nothing behind it");
}

/// Whether a proxy that does nothing of its own would send the field on.
fn travels(head: &[u8], parsed: &RequestHead, fields: &[Field], field: &Field) -> bool {
    let hop_by_hop = matches!(
        field.known,
        Known::Host
            | Known::ContentLength
            | Known::TransferEncoding
            | Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::Trailer
            | Known::Upgrade
            | Known::Shadow
    );
    let named = is_nominated(head, fields, field.name.of(head)) && may_be_nominated(field.known);
    assert!(parsed.nominated || !named || hop_by_hop, "nominated fields were not announced");
    !hop_by_hop && !named
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// After this many bytes.
    Done(usize),
    Refused,
    WantsMore,
}

/// Decodes `input` that arrives `step` bytes at a time: how it ended, content, trailer section.
fn decode(input: &[u8], step: usize, mut decoder: BodyDecoder) -> (Ending, Vec<u8>, Vec<u8>) {
    let (mut data, mut trailers) = (Vec::new(), Vec::new());
    let (mut consumed, mut received) = (0, 0);
    loop {
        let n = match decoder.decode(&input[consumed..received]) {
            Ok(Step::Skip(n)) => n,
            Ok(Step::Data(n)) => {
                data.extend_from_slice(&input[consumed..consumed + n]);
                n
            }
            Ok(Step::Trailers(n)) => {
                trailers.extend_from_slice(&input[consumed..consumed + n]);
                assert!(decoder.is_done());
                n
            }
            Ok(Step::Done) => {
                assert!(decoder.is_done());
                return (Ending::Done(consumed), data, trailers);
            }
            // What came before the fault may have been passed on already.
            Err(_) => return (Ending::Refused, data, trailers),
            Ok(Step::More) if received == input.len() => {
                return (Ending::WantsMore, data, trailers);
            }
            Ok(Step::More) => {
                received = (received + step).min(input.len());
                continue;
            }
        };
        assert!(n > 0, "a step must consume something");
        consumed += n;
    }
}
