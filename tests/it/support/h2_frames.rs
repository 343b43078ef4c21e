//! An HTTP/2 client that sends exactly the frames it is told to.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::h2_client::handshake;
use super::{DEADLINE, Site};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Of DATA and HEADERS; ACK of SETTINGS and PING.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A connection on which frames are sent and received as they are.
pub(crate) struct Frames {
    write: UnboundedSender<Vec<u8>>,
    frames: Receiver<Frame>,
    /// The last one that was taken, for messages.
    last: RefCell<Option<Frame>>,
    written: Arc<AtomicUsize>,
    /// Dropped, the connection is closed.
    _open: tokio::sync::oneshot::Sender<()>,
}

/// A frame that was received.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frames {
    /// A connection to the site's `a.test`: preface and SETTINGS were
    /// exchanged, upload credit was granted, pings are answered.
    #[track_caller]
    pub(crate) fn to(site: &Site) -> Self {
        Self::start(site.port(), true)
    }

    /// The same for a client that never reads.
    #[track_caller]
    pub(crate) fn deaf(site: &Site) -> Self {
        Self::start(site.port(), false)
    }

    fn start(port: u16, reads: bool) -> Self {
        let (write, mut to_write) = unbounded_channel::<Vec<u8>>();
        // First of all: the server's SETTINGS may be there, and be acknowledged,
        // before this function goes on.
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        write.send([preface, frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
        let (sender, frames) = channel();
        let written = Arc::<AtomicUsize>::default();
        let acks = write.clone();
        let count = Arc::clone(&written);
        let (open, dropped) = tokio::sync::oneshot::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let (mut from, mut to) = tokio::io::split(handshake(port, "a.test", !reads).await);
                let writing = async {
                    while let Some(bytes) = to_write.recv().await {
                        let len = bytes.len();
                        if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                            break;
                        }
                        count.fetch_add(len, Ordering::SeqCst);
                    }
                };
                let reading = async {
                    if !reads {
                        std::future::pending::<()>().await;
                    }
                    let mut head = [0; 9];
                    while from.read_exact(&mut head).await.is_ok() {
                        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                        let mut payload = vec![0; len];
                        if from.read_exact(&mut payload).await.is_err() {
                            break;
                        }
                        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                        let (kind, flags) = (head[3], head[4]);
                        if kind == PING && flags & ACK == 0 {
                            let _ = acks.send(frame(PING, ACK, 0, &payload));
                        }
                        if kind == SETTINGS && flags & ACK == 0 {
                            let _ = acks.send(frame(SETTINGS, ACK, 0, &[]));
                        }
                        if sender.send(Frame { kind, flags, stream, payload }).is_err() {
                            break;
                        }
                    }
                    drop(sender);
                };
                // The end of what is received ends the connection.
                tokio::select! {
                    () = reading => {}
                    () = async { writing.await; if reads { std::future::pending().await } } => {}
                    _ = dropped => {}
                }
            });
        });
        let client = Self { write, frames, last: RefCell::default(), written, _open: open };
        if reads {
            client.wait_for(SETTINGS, 0);
            // Until then the connection has the protocol's 64 KiB.
            client.wait_for(WINDOW_UPDATE, 0);
        }
        client
    }

    /// Sends these bytes, now or when the server takes them; what it no longer
    /// takes is lost.
    pub(crate) fn send(&self, bytes: Vec<u8>) {
        let _ = self.write.send(bytes);
    }

    /// How many bytes the server took.
    pub(crate) fn written(&self) -> usize {
        self.written.load(Ordering::SeqCst)
    }

    /// The next frame; `None` at the end of the connection.
    #[track_caller]
    pub(crate) fn next(&self) -> Option<Frame> {
        match self.frames.recv_timeout(DEADLINE) {
            Ok(frame) => {
                self.last.replace(Some(frame.clone()));
                Some(frame)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("neither a frame nor an end"),
        }
    }

    /// A frame that has arrived already.
    pub(crate) fn arrived(&self) -> Option<Frame> {
        self.frames.try_recv().ok()
    }

    /// The next frame of that kind and stream, others passed over.
    #[track_caller]
    pub(crate) fn wait_for(&self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.next().unwrap_or_else(|| {
                panic!("it ended before frame {kind}, after {:?}", self.last.borrow())
            });
            if frame.kind == kind && frame.stream == stream {
                return frame;
            }
        }
    }

    /// The next HEADERS or RST_STREAM of that stream.
    #[track_caller]
    pub(crate) fn next_of(&self, stream: u32) -> Frame {
        loop {
            let frame = self.next().unwrap_or_else(|| {
                panic!("it ended without an answer, after {:?}", self.last.borrow())
            });
            if frame.stream == stream && matches!(frame.kind, HEADERS | RST_STREAM) {
                return frame;
            }
        }
    }

    /// The request is refused: by 400, or by a reset of its stream or an end
    /// of the connection with this code.
    #[track_caller]
    pub(crate) fn assert_refused(&self, stream: u32, code: u32, what: &str) {
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("{what}: it ended silently"));
            match frame.kind {
                RST_STREAM if frame.stream == stream => {
                    return assert_eq!(frame.number(0), code, "{what}");
                }
                GOAWAY => return assert_eq!(frame.number(4), code, "{what}"),
                // `:status: 400`, indexed.
                HEADERS => return assert_eq!(frame.payload.first(), Some(&0x8c), "{what}"),
                _ => {}
            }
        }
    }

    /// Reads to the end of the connection; gives back the codes of the
    /// GOAWAYs before it.
    #[track_caller]
    pub(crate) fn goaways(&self) -> Vec<u32> {
        let mut codes = Vec::new();
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                codes.push(frame.number(4));
            }
        }
        codes
    }

    /// A round trip: what was sent before has been read.
    #[track_caller]
    pub(crate) fn ping(&self) {
        self.send(frame(PING, 0, 0, b"01234567"));
        loop {
            let got = self.next().expect("an answer to the ping");
            if got.kind == PING && got.flags & ACK != 0 {
                return;
            }
        }
    }
}

impl Frame {
    /// Four bytes of the payload as a number.
    pub(crate) fn number(&self, at: usize) -> u32 {
        let bytes: [u8; 4] = self.payload[at..at + 4].try_into().unwrap();
        u32::from_be_bytes(bytes)
    }
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A block of these fields, as literals that are not indexed.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        push_text(&mut bytes, name);
        push_text(&mut bytes, value);
    }
    bytes
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    let byte = |number: usize| u8::try_from(number).unwrap();
    if text.len() < 127 {
        bytes.push(byte(text.len()));
    } else {
        bytes.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            bytes.push(byte(rest % 128) | 128);
            rest /= 128;
        }
        bytes.push(byte(rest));
    }
    bytes.extend_from_slice(text.as_bytes());
}

/// The pseudo fields of a request for `a.test`.
pub(crate) fn pseudo<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![(":method", method), (":scheme", "https"), (":authority", "a.test"), (":path", path)]
}

/// A HEADERS frame with a whole request head for `a.test` and these fields;
/// `last`: it has no body.
pub(crate) fn request(
    stream: u32,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    last: bool,
) -> Vec<u8> {
    let mut all = pseudo(method, path);
    all.extend_from_slice(fields);
    let flags = END_HEADERS | if last { END_STREAM } else { 0 };
    frame(HEADERS, flags, stream, &block(&all))
}

/// An RST_STREAM frame that says CANCEL.
pub(crate) fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("written", &self.written()).finish_non_exhaustive()
    }
}
