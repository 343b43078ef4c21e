//! Clients that mean harm: each costs its own connection at most, never the
//! others' service or memory without bound.

use super::before;
use crate::support::h2_frames::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING,
    RST_STREAM, SETTINGS,
};
use crate::support::{Backend, Gate, H2, Lockgate, Silent, Site, eventually, settled};

const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
const MIB: usize = 1024 * 1024;

/// Resident memory of the process.
fn resident(lockgate: &Lockgate) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", lockgate.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Others are served, on new connections and one that was there before.
struct Others {
    h2: H2,
}

impl Others {
    fn of(site: &Site) -> Self {
        let mut h2 = H2::to(site);
        h2.get("/other").expect(200);
        Self { h2 }
    }

    #[track_caller]
    fn are_served(&mut self, site: &Site) {
        self.h2.get("/other").expect(200);
        H2::to(site).get("/other").expect(200);
        site.get("/other").expect(200);
    }
}

/// Answers `/other` and hangs at everything else.
fn hanging() -> Backend {
    Backend::scripted("B1", |exchange| {
        exchange.read_body();
        if exchange.request().target() == "/other" {
            return exchange.reply("other");
        }
        exchange.wait_until_left();
    })
}

fn odd(number: u32) -> u32 {
    2 * number + 1
}

#[test]
fn a_fast_rapid_reset_ends_the_connection() {
    let b1 = hanging();
    let site = before(&b1);
    let mut others = Others::of(&site);
    let client = Frames::to(&site);
    let mut bytes = Vec::new();
    for number in 0..5000 {
        bytes.extend(h2_frames::request(odd(number), "GET", "/", &[], true));
        bytes.extend(h2_frames::cancel(odd(number)));
    }
    client.send(bytes);
    assert_eq!(client.goaways().last(), Some(&ENHANCE_YOUR_CALM));
    others.are_served(&site);
    eventually("nothing is left at the backend", || b1.open() <= 3);
    assert!(b1.executions() < 500, "{} requests reached the backend", b1.executions());
}

#[test]
fn a_slow_rapid_reset_ends_the_connection() {
    let b1 = hanging();
    let site = before(&b1);
    let mut others = Others::of(&site);
    let seen = b1.executions();
    let client = Frames::to(&site);
    let mut number = 0;
    // Each is at the backend before it is given up.
    loop {
        client.send(h2_frames::request(odd(number), "GET", "/", &[], true));
        let gone = || std::iter::from_fn(|| client.arrived()).find(|frame| frame.kind == GOAWAY);
        let mut goaway = None;
        eventually("the request arrives, or the connection ends", || {
            goaway = goaway.take().or_else(gone);
            goaway.is_some() || b1.executions() > seen + number as usize
        });
        if let Some(goaway) = goaway {
            assert_eq!(goaway.number(4), ENHANCE_YOUR_CALM);
            break;
        }
        client.send(h2_frames::cancel(odd(number)));
        number += 1;
        assert!(number < 1000, "{number} requests were given up");
    }
    assert!(number > 128, "a browser that leaves a page may give up all it has: {number}");
    others.are_served(&site);
    eventually("nothing is left at the backend", || b1.left() >= number as usize);
}

#[test]
fn requests_that_must_run_to_their_end_are_bounded_too() {
    // A POST whose body arrived runs on when its stream is reset: that must
    // not get a client more than its 128 requests at once.
    let b1 = hanging();
    let site = before(&b1);
    let mut others = Others::of(&site);
    let client = Frames::to(&site);
    let mut sent = 0;
    for _ in 0..60 {
        let mut bytes = Vec::new();
        for _ in 0..10 {
            bytes.extend(h2_frames::request(odd(sent), "POST", "/", &[], true));
            sent += 1;
        }
        client.send(bytes);
        client.send(h2_frames::frame(PING, 0, 0, b"01234567"));
        // Begun before they are given up.
        let mut pong = false;
        while !pong {
            let Some(frame) = client.next() else { break };
            pong = frame.kind == PING;
        }
        if !pong {
            break;
        }
        client.send((sent - 10..sent).flat_map(|number| h2_frames::cancel(odd(number))).collect());
    }
    let at_once = settled(|| b1.open());
    assert!(at_once <= 128 + 8, "{at_once} requests of one connection at the backend at once");
    others.are_served(&site);
}

#[test]
fn a_browser_that_gives_up_a_page_keeps_its_connection() {
    let b1 = hanging();
    let site = before(&b1);
    let mut h2 = H2::to(&site);
    for round in 1..=2 {
        let mut streams: Vec<_> = (0..100).map(|_| h2.begin_get("/")).collect();
        b1.wait_for_executions(round * 101 - 1);
        for stream in &mut streams {
            stream.reset(h2::Reason::CANCEL);
        }
        eventually("they are given up", || b1.left() == round * 100);
        h2.get("/other").expect(200);
    }
    assert!(h2.is_open());
}

#[test]
fn more_than_128_streams_are_refused() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        hold.pass();
        exchange.reply("one of them");
    });
    let site = before(&b1);
    let client = Frames::to(&site);
    for number in 0..132 {
        client.send(h2_frames::request(odd(number), "GET", "/", &[], true));
    }
    for number in 128..132 {
        let answer = client.wait_for(RST_STREAM, odd(number));
        assert_eq!(answer.number(0), REFUSED_STREAM);
    }
    b1.wait_for_executions(128);
    gate.open();
    client.wait_for(HEADERS, odd(0));
    // There is room again.
    client.send(h2_frames::request(odd(132), "GET", "/", &[], true));
    client.wait_for(HEADERS, odd(132));
    assert_eq!(b1.executions(), 129);
}

#[test]
fn tiny_windows_do_not_grow_memory() {
    let b1 = Backend::scripted("B1", |exchange| {
        if exchange.request().target() == "/other" {
            return exchange.reply("other");
        }
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        exchange.pour(100_000_000);
    });
    let site = Site::https()
        .rule(&format!(
            "path = \"/fixed\"\nrespond = {{ status = 200, body = \"{}\" }}",
            "x".repeat(2000)
        ))
        .backend(&b1)
        .start();
    let mut others = Others::of(&site);
    let before = resident(&site.lockgate);
    let clients: Vec<_> = (0..4).map(|_| Frames::to(&site)).collect();
    for client in &clients {
        // SETTINGS_INITIAL_WINDOW_SIZE 1.
        client.send(h2_frames::frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]));
        client.ping();
        for number in 0..100 {
            client.send(h2_frames::request(odd(number), "GET", "/", &[], true));
        }
        for number in 100..128 {
            client.send(h2_frames::request(odd(number), "GET", "/fixed", &[], true));
        }
    }
    b1.wait_for_executions(401);
    settled(|| b1.taken());
    let grown = resident(&site.lockgate).saturating_sub(before);
    assert!(grown < 96 * MIB, "{} KiB more", grown / 1024);
    others.are_served(&site);
    drop(clients);
    eventually("the backend is let go", || b1.open() <= 3);
}

#[test]
fn a_client_that_reads_nothing_does_not_grow_memory() {
    let b1 = Backend::named("B1");
    let site = Site::https()
        .rule(&format!(
            "path = \"/fixed\"\nrespond = {{ status = 200, body = \"{}\" }}",
            "x".repeat(2000)
        ))
        .backend(&b1)
        .start();
    let mut others = Others::of(&site);
    let before = resident(&site.lockgate);
    // Requests with answers, pings, settings: all want to be answered.
    for kind in 0..3 {
        let client = Frames::deaf(&site);
        let mut piece = Vec::new();
        let mut begun = 0;
        for round in 0..200 {
            piece.clear();
            for _ in 0..500 {
                piece.extend(match kind {
                    0 => h2_frames::request(odd(begun), "GET", "/fixed", &[], true),
                    1 => h2_frames::frame(PING, 0, 0, b"01234567"),
                    _ => h2_frames::frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
                });
                begun += 1;
            }
            client.send(piece.clone());
            if round % 20 == 0 {
                others.are_served(&site);
            }
        }
        settled(|| client.written());
        others.are_served(&site);
    }
    let grown = resident(&site.lockgate).saturating_sub(before);
    assert!(grown < 64 * MIB, "{} KiB more", grown / 1024);
}

#[test]
fn a_continuation_flood_ends_and_does_not_hang_others() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let mut others = Others::of(&site);
    let seen = b1.executions();
    let before = resident(&site.lockgate);
    let filler = "x".repeat(8000);
    for fields in [vec![("x-fill", filler.as_str())], vec![]] {
        let client = Frames::to(&site);
        let head = h2_frames::block(&h2_frames::pseudo("GET", "/"));
        client.send(h2_frames::frame(HEADERS, END_STREAM, 1, &head));
        let piece = h2_frames::frame(CONTINUATION, 0, 1, &h2_frames::block(&fields));
        for _ in 0..10 {
            client.send(piece.repeat(500));
        }
        others.are_served(&site);
        let codes = client.goaways();
        assert!(codes.last().is_none_or(|code| *code != 0), "{codes:?}");
        others.are_served(&site);
    }
    let grown = resident(&site.lockgate).saturating_sub(before);
    assert!(grown < 32 * MIB, "{} KiB more", grown / 1024);
    assert_eq!(b1.executions(), seen + 12);
}

#[test]
fn floods_of_small_frames_do_not_hang_others() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let mut others = Others::of(&site);
    let before = resident(&site.lockgate);
    let window_update = h2_frames::frame(8, 0, 0, &1_u32.to_be_bytes());
    let priority = h2_frames::frame(2, 0, 3, &[0, 0, 0, 0, 1]);
    for flood in [
        h2_frames::frame(PING, 0, 0, b"01234567"),
        h2_frames::frame(PING, ACK, 0, b"01234567"),
        h2_frames::frame(SETTINGS, 0, 0, &[]),
        window_update,
        priority,
        h2_frames::frame(99, 0, 0, b""),
    ] {
        let client = Frames::to(&site);
        for _ in 0..100 {
            client.send(flood.repeat(500));
        }
        others.are_served(&site);
        settled(|| client.written());
        others.are_served(&site);
        // It is served as well, or its connection has ended.
        client.send(h2_frames::request(1, "GET", "/flooded", &[], true));
        while let Some(frame) = client.next() {
            if matches!(frame.kind, HEADERS | GOAWAY) {
                break;
            }
        }
    }
    let grown = resident(&site.lockgate).saturating_sub(before);
    assert!(grown < 32 * MIB, "{} KiB more", grown / 1024);
}

#[test]
fn empty_data_frames_do_not_hang_others() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let mut others = Others::of(&site);
    let client = Frames::to(&site);
    client.send(h2_frames::request(1, "POST", "/", &[], false));
    for _ in 0..50 {
        client.send(h2_frames::frame(DATA, 0, 1, b"").repeat(1000));
    }
    others.are_served(&site);
    client.goaways();
    others.are_served(&site);
}

#[test]
fn small_data_frames_are_an_upload_like_any_other() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let client = Frames::to(&site);
    client.send(h2_frames::request(1, "POST", "/", &[], false));
    for _ in 0..20 {
        client.send(h2_frames::frame(DATA, 0, 1, b"abc").repeat(500));
        client.ping();
    }
    client.send(h2_frames::frame(DATA, END_STREAM, 1, b""));
    client.wait_for(HEADERS, 1);
    assert_eq!(b1.request().body, b"abc".repeat(10_000));
}

#[test]
fn small_data_frames_may_wait_for_a_backend() {
    // Within the credit lockgate gave: no reason to end the connection.
    let silent = Silent::new();
    let b1 = Backend::named("B1");
    let site = Site::https()
        .rule("path = \"/silent\"\ngroup = \"silent\"")
        .more(&format!("[group.silent]\nbackends = [\"{}\"]", silent.address()))
        .backend(&b1)
        .start();
    let client = Frames::to(&site);
    client.send(h2_frames::request(1, "POST", "/silent", &[], false));
    client.send(h2_frames::frame(DATA, 0, 1, b"twenty bytes of game").repeat(5000));
    client.send(h2_frames::request(3, "GET", "/", &[], true));
    client.wait_for(HEADERS, 3);
}

#[test]
fn more_data_than_was_allowed_ends_the_connection() {
    let gate = Gate::default();
    let hold = gate.clone();
    let b1 = Backend::scripted("B1", move |exchange| {
        if exchange.request().target() != "/other" {
            hold.pass();
        }
        exchange.echo();
    });
    let site = before(&b1);
    let mut others = Others::of(&site);
    let client = Frames::to(&site);
    client.send(h2_frames::request(1, "POST", "/", &[], false));
    let piece = h2_frames::frame(DATA, 0, 1, &[b'x'; 16 * 1024]);
    for _ in 0..2000 {
        client.send(piece.clone());
    }
    const FLOW_CONTROL_ERROR: u32 = 3;
    loop {
        let frame = client.next().expect("the client is told");
        if frame.kind == RST_STREAM {
            assert_eq!(frame.number(0), FLOW_CONTROL_ERROR);
            break;
        }
        if frame.kind == GOAWAY {
            assert_eq!(frame.number(4), FLOW_CONTROL_ERROR);
            break;
        }
    }
    others.are_served(&site);
    gate.open();
}

#[test]
fn nonsense_ends_the_connection_alone() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let mut others = Others::of(&site);
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec(),
        vec![0xff; 100],
        h2_frames::frame(HEADERS, END_HEADERS, 2, &[]),
        h2_frames::frame(HEADERS, END_HEADERS, 0, &[]),
        h2_frames::frame(HEADERS, END_HEADERS, 1, &[0xff; 50]),
        h2_frames::frame(DATA, 0, 1, b"before its head"),
        h2_frames::frame(CONTINUATION, END_HEADERS, 1, &[]),
        h2_frames::frame(RST_STREAM, 0, 7, &[0; 4]),
        h2_frames::frame(PING, 0, 0, b"short"),
        h2_frames::frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        h2_frames::frame(8, 0, 0, &[0; 4]),
        h2_frames::frame(5, END_HEADERS, 1, &[0; 4]),
    ] {
        let client = Frames::to(&site);
        client.send(bytes.clone());
        let codes = client.goaways();
        assert!(codes.iter().all(|code| *code != 0), "{bytes:?}: {codes:?}");
        others.are_served(&site);
    }
    assert_eq!(b1.requests().iter().filter(|request| request.target() != "/other").count(), 0);
}

#[test]
fn a_head_that_never_ends_does_not_stop_others() {
    let b1 = Backend::named("B1");
    let site = before(&b1);
    let mut others = Others::of(&site);
    let held: Vec<_> = (0..50)
        .map(|_| {
            let client = Frames::to(&site);
            let part = h2_frames::block(&h2_frames::pseudo("GET", "/"));
            client.send(h2_frames::frame(HEADERS, END_STREAM, 1, &part));
            client
        })
        .collect();
    others.are_served(&site);
    drop(held);
    others.are_served(&site);
}
