//! How a deadline ends WebSockets (DESIGN 4.11): by a Close with code 1012
//! where a frame of lockgate's can stand, else by the end of the connection,
//! with no byte in anybody's frame.

use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::process::Signal;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{Backend, Client, DEADLINE, Ended, Exchange, H2, Site, eventually};

/// What a client is told.
const CLOSE: &[u8] = b"\x88\x11\x03\xf4service restart";
/// A text message of a backend's, and one of a client's with a mask of zeros.
const WORD: &[u8] = b"\x81\x05hello";
const MASKED: &[u8] = b"\x81\x85\0\0\0\0hello";
/// The beginning of one of ten bytes.
const HALF: &[u8] = b"\x82\x0ahalf";
/// A client's Close.
const ANSWER: &[u8] = b"\x88\x82\0\0\0\0\x03\xf4";

/// A backend whose WebSockets run this script; what it gives arrives in the
/// test.
fn granting<T: Send + 'static>(
    script: impl Fn(&mut Exchange<'_>) -> T + Send + Sync + 'static,
) -> (Backend, Receiver<T>) {
    let (tell, told) = channel();
    let b1 = Backend::scripted("B1", move |exchange| {
        exchange.switch();
        let _ = tell.send(script(exchange));
    });
    (b1, told)
}

#[track_caller]
fn hear<T>(told: &Receiver<T>) -> T {
    told.recv_timeout(DEADLINE * 2).expect("the backend's script comes to its end")
}

/// Over plain HTTP and over TLS, each with this time to end.
fn both(b1: &Backend, deadline: &str) -> [Site; 2] {
    let process = format!("[shutdown]\ndeadline = \"{deadline}\"");
    [Site::http(), Site::https()].map(|site| site.process(&process).backend(b1).start())
}

/// A client's Close, read as RFC 6455 has it: code and reason.
#[track_caller]
fn unmasked(frame: &[u8]) -> (u16, String) {
    assert!(frame.len() >= 8 && frame[0] == 0x88, "{frame:?}");
    assert_eq!(usize::from(frame[1]), 0x80 + frame.len() - 6, "{frame:?}");
    let payload: Vec<u8> =
        frame[6..].iter().zip(frame[2..6].iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    let reason = String::from_utf8(payload[2..].to_vec()).unwrap();
    (u16::from_be_bytes([payload[0], payload[1]]), reason)
}

fn away() -> (u16, String) {
    (1001, "service restart".to_owned())
}

#[test]
fn both_sides_are_told_where_frames_end() {
    let (b1, told) = granting(|exchange| {
        let first = exchange.read_raw(MASKED.len());
        exchange.send(WORD);
        (first, exchange.read_to_end())
    });
    for mut site in both(&b1, "3s") {
        let mut client = site.connect();
        client.switch();
        client.send(MASKED);
        client.awaits(WORD);
        site.lockgate.signal(Signal::TERM);
        client.ended().expect(CLOSE);
        let (first, rest) = hear(&told);
        assert_eq!(first, MASKED);
        assert!(rest.cleanly);
        assert_eq!(unmasked(&rest.bytes), away());
        drop(client);
        // It was ended, and not by itself.
        assert_eq!(site.lockgate.exit_code(), 3);
    }
}

#[test]
fn nobody_is_told_in_the_middle_of_a_frame() {
    let (b1, told) = granting(|exchange| {
        exchange.send(HALF);
        exchange.read_to_end()
    });
    let half = &MASKED[..7];
    for mut site in both(&b1, "2s") {
        let mut client = site.connect();
        client.switch();
        client.awaits(HALF);
        client.send(half);
        site.lockgate.signal(Signal::TERM);
        client.ended().expect("");
        hear(&told).expect(half);
        drop(client);
        assert_eq!(site.lockgate.exit_code(), 3);
    }
}

#[test]
fn a_frame_that_is_under_way_is_waited_for() {
    let (b1, told) = granting(|exchange| {
        exchange.send(HALF);
        let close = exchange.read_raw(23);
        // The rest, and one that comes too late.
        exchange.send([b" frame", WORD].concat());
        (close, exchange.read_to_end())
    });
    for mut site in both(&b1, "5s") {
        let mut client = site.connect();
        client.switch();
        client.awaits(HALF);
        site.lockgate.signal(Signal::TERM);
        client.ended().expect([b" frame", CLOSE].concat());
        let (close, rest) = hear(&told);
        assert_eq!(unmasked(&close), away());
        rest.expect("");
        drop(client);
        assert_eq!(site.lockgate.exit_code(), 3);
    }
}

/// Much has been said that the client has not read: it gets what is under way up
/// to the end of a frame, and nothing of the next.
#[test]
fn a_client_that_is_behind_is_told_between_two_frames() {
    const PAYLOAD: usize = 100_000;
    let frame = [&b"\x82\x7f"[..], &PAYLOAD.to_be_bytes(), &vec![b'x'; PAYLOAD]].concat();
    let flood = frame.repeat(640);
    let (b1, told) = granting(move |exchange| {
        exchange.meanwhile_send(flood.clone());
        exchange.read_raw(23)
    });
    for mut site in both(&b1, "8s") {
        let mut client = site.connect();
        client.switch();
        site.lockgate.signal(Signal::TERM);
        assert_eq!(unmasked(&hear(&told)), away());
        // Its connection's end may come too late to be in good order.
        let Ended { bytes, .. } = client.ended();
        assert!(bytes.ends_with(CLOSE), "{} bytes", bytes.len());
        let whole = bytes.len() - CLOSE.len();
        assert!(whole > 0 && whole < 640 * frame.len(), "{whole}");
        assert!(bytes[..whole].chunks(frame.len()).all(|one| one == frame), "{whole}");
        drop(client);
        assert_eq!(site.lockgate.exit_code(), 3);
    }
}

/// Its backend has said Close: a second one would be one too many.
#[test]
fn who_has_been_told_is_not_told_again() {
    let bye = b"\x88\x02\x03\xe8";
    let (b1, told) = granting(move |exchange| {
        exchange.send(bye);
        exchange.read_to_end().bytes
    });
    for mut site in both(&b1, "2s") {
        let mut client = site.connect();
        client.switch();
        client.awaits(bye);
        site.lockgate.signal(Signal::TERM);
        client.ended().expect("");
        assert_eq!(unmasked(&hear(&told)), away());
        drop(client);
        assert_eq!(site.lockgate.exit_code(), 0);
    }
}

#[test]
fn who_answers_is_let_go_before_who_does_not() {
    let (b1, _told) = granting(|exchange| {
        let close = exchange.read_raw(23);
        exchange.send(b"\x88\x02\x03\xe9");
        (close, exchange.read_to_end())
    });
    for mut site in both(&b1, "5s") {
        let mut answering = site.connect();
        let mut silent = site.connect();
        answering.switch();
        silent.switch();
        site.lockgate.signal(Signal::TERM);
        let end = |mut client: Client, answer: Option<&[u8]>| {
            client.awaits(CLOSE);
            answer.inspect(|answer| client.send(answer));
            client.ended().expect("");
            Instant::now()
        };
        let (answering, silent) = std::thread::scope(|scope| {
            let silent = scope.spawn(|| end(silent, None));
            (end(answering, Some(ANSWER)), silent.join().unwrap())
        });
        assert!(answering < silent, "{:?}", answering - silent);
        assert_eq!(site.lockgate.exit_code(), 3);
    }
}

#[test]
fn real_ends_understand_it() {
    let (tell, told) = channel();
    let b1 = Backend::raw("B1", move |stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        let said = socket.read();
        let _ = socket.flush();
        let _ = tell.send(said.unwrap());
    });
    for mut site in both(&b1, "3s") {
        let stream = site.connect().into_stream();
        let (mut socket, _) = tungstenite::client("ws://a.test/chat", stream).unwrap();
        site.lockgate.signal(Signal::TERM);
        let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no Close") };
        assert_eq!((close.code, close.reason.as_str()), (CloseCode::Restart, "service restart"));
        assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
        let Message::Close(Some(close)) = hear(&told) else { panic!("no Close") };
        assert_eq!((close.code, close.reason.as_str()), (CloseCode::Away, "service restart"));
        assert_eq!(site.lockgate.exit_code(), 3);
    }
}

#[test]
fn a_stop_that_does_not_wait_tells_nobody() {
    let (b1, _told) = granting(|exchange| exchange.read_to_end());
    for (deadline, signals) in [("1h", 2), ("0s", 1)] {
        let process = format!("[shutdown]\ndeadline = \"{deadline}\"");
        let mut site = Site::http().process(&process).backend(&b1).start();
        let mut client = site.connect();
        client.switch();
        site.lockgate.signal(Signal::TERM);
        if signals == 2 {
            eventually("new connections are refused", || {
                std::net::TcpStream::connect(("127.0.0.1", site.port())).is_err()
            });
            site.lockgate.signal(Signal::TERM);
        }
        assert_eq!(site.lockgate.exit_code(), 3);
        assert_eq!(client.ended(), Ended { bytes: Vec::new(), cleanly: true });
    }
}

#[test]
fn over_http2_each_of_a_connection_is_told() {
    let (b1, told) = granting(|exchange| {
        let first = exchange.read_raw(MASKED.len());
        exchange.send(WORD);
        (first, exchange.read_to_end())
    });
    let process = "[shutdown]\ndeadline = \"3s\"";
    let mut site = Site::https().process(process).backend(&b1).start();
    let mut h2 = H2::to(&site);
    let mut streams: Vec<_> = (0..3).map(|_| h2.begin_websocket("/ws")).collect();
    for stream in &mut streams {
        assert_eq!(stream.head().status, 200);
        stream.send(MASKED);
        assert_eq!(stream.read_exactly(WORD.len()), WORD);
    }
    site.lockgate.signal(Signal::TERM);
    // One answers.
    assert_eq!(streams[0].read_exactly(CLOSE.len()), CLOSE);
    streams[0].send(ANSWER);
    for stream in &mut streams[1..] {
        assert_eq!(stream.read_exactly(CLOSE.len()), CLOSE);
    }
    for stream in &mut streams {
        assert_eq!(stream.try_piece().unwrap(), None);
        assert_eq!(unmasked(&hear(&told).1.bytes), away());
    }
    assert_eq!(site.lockgate.exit_code(), 3);
}

#[test]
fn over_http2_nobody_is_told_in_the_middle_of_a_frame() {
    let (b1, told) = granting(|exchange| {
        exchange.send(HALF);
        exchange.read_to_end()
    });
    let process = "[shutdown]\ndeadline = \"2s\"";
    let mut site = Site::https().process(process).backend(&b1).start();
    let mut stream = H2::to(&site).begin_websocket("/ws");
    assert_eq!(stream.head().status, 200);
    assert_eq!(stream.read_exactly(HALF.len()), HALF);
    stream.send(&MASKED[..7]);
    site.lockgate.signal(Signal::TERM);
    assert_eq!(stream.try_piece().unwrap(), None);
    hear(&told).expect(&MASKED[..7]);
    assert_eq!(site.lockgate.exit_code(), 3);
}
