//! Tests of the frame tracker, beside a plain parse of the same bytes.

use proptest::prelude::*;

use super::*;

/// Where these bytes, from the stream's beginning, leave it: read as RFC 6455
/// 5.2 is written, with all of them at hand.
fn reference(bytes: &[u8], masked: bool) -> Standing {
    let mut at = 0;
    let mut fragmented = false;
    loop {
        let rest = &bytes[at..];
        let Some(first) = rest.first() else { return Standing::Boundary };
        let (fin, opcode) = (first >> 7 == 1, first & 15);
        match opcode {
            0 if fragmented => fragmented = !fin,
            1 | 2 if !fragmented => fragmented = !fin,
            8..=10 if fin => {}
            _ => return Standing::Unknown,
        }
        let Some(second) = rest.get(1) else { return Standing::Within };
        if (second >> 7 == 1) != masked || (opcode >= 8 && second & 127 > 125) {
            return Standing::Unknown;
        }
        let (size, least) = match second & 127 {
            126 => (2, 126),
            127 => (8, 65_536),
            _ => (0, 0),
        };
        let Some(written) = rest.get(2..2 + size) else { return Standing::Within };
        let mut length = u64::from(second & 127);
        if size > 0 {
            length = written.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
            if length < least || length > i64::MAX.cast_unsigned() {
                return Standing::Unknown;
            }
        }
        let head = 2 + size + if masked { 4 } else { 0 };
        if ((rest.len() - head.min(rest.len())) as u64) < length || rest.len() < head {
            return Standing::Within;
        }
        if opcode == 8 {
            return Standing::Closed;
        }
        at += head + usize::try_from(length).unwrap();
    }
}

fn frame(first: u8, payload: usize, masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload {
        0..=125 => bytes.push(mask | u8::try_from(payload).unwrap()),
        126..=65_535 => {
            bytes.push(mask | 126);
            bytes.extend(u16::try_from(payload).unwrap().to_be_bytes());
        }
        _ => {
            bytes.push(mask | 127);
            bytes.extend((payload as u64).to_be_bytes());
        }
    }
    bytes.extend(vec![0x5a; payload + if masked { 4 } else { 0 }]);
    bytes
}

fn of(masked: bool) -> Frames {
    if masked { Frames::of_client() } else { Frames::of_backend() }
}

/// First bytes of headers: good ones of all kinds, then anything.
fn first() -> impl Strategy<Value = u8> {
    let good = [0x81, 0x82, 0xc1, 0xf2, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a, 0x89];
    prop_oneof![30 => prop::sample::select(good.to_vec()), 1 => Just(0x88), 1 => any::<u8>()]
}

fn payload() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 0..20_usize,
        2 => 120..130_usize,
        1 => 200..700_usize,
        1 => prop::sample::select(vec![65_535_usize, 65_536, 70_000]),
    ]
}

/// Fed in these pieces the tracker is, behind each, where the reference is.
fn agree(bytes: &[u8], pieces: &[usize], masked: bool) -> Result<(), TestCaseError> {
    let mut frames = of(masked);
    let mut at = 0;
    let mut pieces = pieces.iter().cycle();
    while at < bytes.len() {
        let end = bytes.len().min(at + pieces.next().unwrap());
        frames.advance(&bytes[at..end]);
        prop_assert_eq!(frames.standing(), reference(&bytes[..end], masked), "{} bytes", end);
        at = end;
    }
    Ok(())
}

proptest! {
    #[test]
    fn frames_are_followed_through_any_pieces(
        written in prop::collection::vec((first(), payload()), 0..12),
        pieces in prop::collection::vec(1..40_usize, 1..20),
        large in prop::collection::vec(1..5000_usize, 1..20),
        masked: bool,
    ) {
        let bytes: Vec<u8> =
            written.iter().flat_map(|(first, size)| frame(*first, *size, masked)).collect();
        if bytes.len() < 4000 {
            agree(&bytes, &pieces, masked)?;
            agree(&bytes, &[1], masked)?;
        }
        agree(&bytes, &large, masked)?;
        agree(&bytes, &[bytes.len().max(1)], masked)?;
    }

    #[test]
    fn bytes_that_are_no_frames_are_found_out(
        bytes in prop::collection::vec(any::<u8>(), 1..40),
        pieces in prop::collection::vec(1..5_usize, 1..10),
        masked: bool,
    ) {
        agree(&bytes, &pieces, masked)?;
    }

    #[test]
    fn a_frame_ends_where_the_next_begins(
        sizes in prop::collection::vec(payload(), 1..6),
        masked: bool,
    ) {
        let written: Vec<_> = sizes.iter().map(|size| frame(0x82, *size, masked)).collect();
        let bytes = written.concat();
        let (mut frames, mut at) = (of(masked), 0);
        for one in &written {
            prop_assert_eq!(frames.frame(&bytes[at..]), one.len());
            prop_assert_eq!(frames.standing(), Standing::Boundary);
            at += one.len();
        }
    }
}

#[test]
fn the_longest_length_is_followed_and_what_is_longer_is_none() {
    let header = |first: u8| [vec![0x82, 127, first], vec![0xff; 7]].concat();
    let mut frames = Frames::of_backend();
    frames.advance(&header(0x7f));
    frames.advance(&[0; 4096]);
    assert_eq!((frames.standing(), frames.length), (Standing::Within, (1 << 63) - 1 - 4096));
    let mut frames = Frames::of_backend();
    frames.advance(&header(0x80));
    assert_eq!(frames.standing(), Standing::Unknown);
}

/// Fragmented, with control frames between the fragments, compressed.
#[test]
fn every_good_stream_stays_known() {
    let stream = [frame(0x41, 10, false), frame(0x89, 4, false), frame(0x00, 0, false)].concat();
    let mut frames = Frames::of_backend();
    for byte in &stream {
        assert_ne!(frames.standing(), Standing::Unknown);
        frames.advance(&[*byte]);
    }
    assert_eq!(frames.standing(), Standing::Boundary);
    frames.advance(&frame(0x80, 3, false));
    frames.advance(&close(RESTART, "why", None));
    assert_eq!(frames.standing(), Standing::Closed);
    frames.advance(b"whatever");
    assert_eq!(frames.standing(), Standing::Closed);
}

#[test]
fn what_is_no_frame_is_unknown_for_good() {
    let bad: [&[u8]; 12] = [
        &[0x83],              // A reserved opcode.
        &[0x8b],              // Another.
        &[0x80],              // Goes on with nothing.
        &[0x01, 0, 0x81],     // Begins within a message.
        &[0x09],              // A ping in pieces.
        &[0x89, 126],         // A long ping.
        &[0x81, 0x80],        // Masked by a server.
        &[0x81, 126, 0, 125], // Not as short as can be.
        &[0x81, 127, 0, 0, 0, 0, 0, 0, 255, 255],
        &[0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
        b"hello",
        b"\r\n",
    ];
    for bytes in bad {
        let mut frames = Frames::of_backend();
        frames.advance(bytes);
        assert_eq!(frames.standing(), Standing::Unknown, "{bytes:?}");
        frames.advance(&frame(0x81, 3, false));
        assert_eq!(frames.standing(), Standing::Unknown, "{bytes:?}");
    }
    let mut frames = Frames::of_client();
    frames.advance(&[0x81, 0x03]);
    assert_eq!(frames.standing(), Standing::Unknown);
}

#[test]
fn a_close_reads_back() {
    for (mask, mut frames) in
        [(None, Frames::of_backend()), (Some([1, 2, 3, 250]), Frames::of_client())]
    {
        let bytes = close(1012, "bye", mask);
        frames.advance(&bytes);
        assert_eq!(frames.standing(), Standing::Closed);
        let payload: Vec<u8> = match mask {
            None => bytes[2..].to_vec(),
            Some(mask) => {
                assert_eq!(bytes[2..6], mask);
                bytes[6..].iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
            }
        };
        assert_eq!(payload, b"\x03\xf4bye");
    }
}
