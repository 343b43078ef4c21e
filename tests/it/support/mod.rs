//! The words the tests are written in.
//!
//! A test is a script: scripted backends ([`Backend`]), one real lockgate
//! process ([`Lockgate`], or [`Site`] for the usual single listener) and raw
//! clients ([`Client`]). Every wait has a deadline and ends with a panic that
//! says what was waited for; nothing sleeps for luck.

mod backend;
mod certs;
mod client;
mod dns;
mod exchange;
mod h2_backend;
mod h2_client;
pub(crate) mod h2_frames;
mod lockgate;
mod message;
mod port;
mod sessions;
mod site;
mod tls_backend;
mod tunnel;

use std::time::{Duration, Instant};

pub(crate) use backend::{Backend, Recorded, Silent};
pub(crate) use certs::{Authority, Leaf, authority, foreign_authority};
pub(crate) use client::{Client, TlsOffer};
pub(crate) use dns::{Answer, Kind, NameServer};
pub(crate) use exchange::Exchange;
pub(crate) use h2_backend::{Call, H2Backend, H2Options, H2Seen, response, send_all, trailers};
pub(crate) use h2_client::{H2, H2Response, H2Stream, h2_config};
pub(crate) use lockgate::{Finished, Lines, Lockgate, Setup, lines_of};
pub(crate) use message::{Ending, Incoming, Response};
pub(crate) use port::Port;
pub(crate) use site::{Site, SiteBuilder, group, http_listener, https_listener};
pub(crate) use tls_backend::{TlsBackend, TlsServer};
pub(crate) use tunnel::{Ended, SWITCHING, UPGRADE};

/// The longest any step may take before a test is called hanging. Generous:
/// it is only reached by a failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Waits until `condition` holds; panics with `what` when it never does.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `len` bytes that differ at every place a mistake could shift them to.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// `body` in chunked coding, cut into chunks of `size`, with `trailers`
/// (complete lines) after the last chunk.
pub(crate) fn chunked(body: &[u8], size: usize, trailers: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + body.len() / size * 8 + 64);
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    out
}

/// Holds a script back until the test lets it go on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(std::sync::Arc<(std::sync::Mutex<bool>, std::sync::Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open, at most until the deadline.
    pub(crate) fn pass(&self) {
        let closed = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(closed, DEADLINE, |open| !*open).unwrap());
    }
}

/// Waits until a growing number has stood still for a while.
pub(crate) fn settled(mut number: impl FnMut() -> usize) -> usize {
    let end = Instant::now() + DEADLINE;
    let mut last = (number(), Instant::now());
    while last.1.elapsed() < Duration::from_millis(400) {
        assert!(Instant::now() < end, "it never stands still: {}", last.0);
        std::thread::sleep(Duration::from_millis(10));
        let now = number();
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    last.0
}
