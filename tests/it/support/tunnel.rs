//! Connections that switched protocols: asking for it, granting it, and bytes
//! both ways at once.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::Io;
use super::exchange::Exchange;
use super::message::{Incoming, Response};
use super::{Client, DEADLINE};

/// Asks for a WebSocket at `/ws`, with the key of RFC 6455 1.3.
pub(crate) const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// Grants it.
pub(crate) const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// What came until the end of one direction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) bytes: Vec<u8>,
    /// By FIN, on TLS with a close_notify before it; not by a reset.
    pub(crate) cleanly: bool,
}

impl Ended {
    /// These bytes, and then the end in good order.
    #[track_caller]
    pub(crate) fn expect(&self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        assert!(self.cleanly, "reset after {} bytes of {}", self.bytes.len(), bytes.len());
        let same = self.bytes == bytes;
        assert!(same, "{} bytes came, not the {} expected", self.bytes.len(), bytes.len());
    }

    #[track_caller]
    fn read(incoming: &mut Incoming, io: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        let cleanly = loop {
            let held = incoming.rest().len();
            let _ = incoming.exactly(io, held, &mut bytes);
            match incoming.fill(io) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) if is_silence(&error) => {
                    panic!("it stays open; {} bytes came", bytes.len())
                }
                Err(_) => break false,
            }
        };
        Self { bytes, cleanly }
    }
}

impl Exchange<'_> {
    /// Grants the WebSocket. What follows on the connection is no request.
    pub(crate) fn switch(&mut self) {
        self.close();
        self.send(SWITCHING);
    }

    /// Sends back whatever comes until the other side ends.
    pub(crate) fn mirror(&mut self) {
        self.close();
        loop {
            let held = self.incoming.rest().len();
            let bytes = self.read_raw(held);
            self.send(bytes);
            if !matches!(self.incoming.fill(self.stream), Ok(1..)) {
                return;
            }
        }
    }

    /// Ends our direction; the other may go on.
    pub(crate) fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads to the end of the other side's direction.
    pub(crate) fn read_to_end(&mut self) -> Ended {
        Ended::read(self.incoming, self.stream)
    }

    /// Sends ahead on a thread of its own, until it is done or nobody is there
    /// to take it, while the script goes on.
    pub(crate) fn meanwhile_send(&self, bytes: Vec<u8>) {
        let mut stream = self.stream.try_clone().unwrap();
        std::thread::spawn(move || stream.write_all(&bytes));
    }
}

impl Client {
    /// Asks for a WebSocket and gets it.
    #[track_caller]
    pub(crate) fn switch(&mut self) -> Response {
        self.request(UPGRADE).expect(101)
    }

    /// Waits for so many bytes.
    #[track_caller]
    pub(crate) fn exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Err(error) = self.incoming.exactly(&mut self.io, count, &mut bytes) {
            panic!("{} of {count} bytes came: {error}", bytes.len());
        }
        bytes
    }

    /// Waits for exactly these bytes.
    #[track_caller]
    pub(crate) fn awaits(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let same = self.exactly(bytes.len()) == bytes;
        assert!(same, "{} bytes that were not sent like this", bytes.len());
    }

    /// Waits for the end of the other side's direction.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> Ended {
        Ended::read(&mut self.incoming, &mut self.io)
    }

    /// Sends this and receives `count` bytes, both at once: neither direction
    /// waits for the other.
    #[track_caller]
    pub(crate) fn swap(&mut self, mut send: &[u8], count: usize) -> Vec<u8> {
        let held = self.incoming.rest().len();
        let mut got = self.exactly(held);
        let mut block = vec![0; 64 * 1024];
        let end = Instant::now() + DEADLINE * 2;
        self.socket().set_nonblocking(true).unwrap();
        while !send.is_empty() || got.len() < count {
            let written = waiting(self.io.write_now(send));
            send = &send[written..];
            let read = waiting(self.io.read_now(&mut block));
            got.extend_from_slice(&block[..read]);
            if written + read == 0 {
                assert!(Instant::now() < end, "{} to send, {} came", send.len(), got.len());
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.socket().set_nonblocking(false).unwrap();
        let _ = self.io.flush();
        got
    }

    /// Sends without end on a thread of its own; for a plain client.
    pub(crate) fn meanwhile_flood(&self) -> Flood {
        let stream = self.socket().try_clone().unwrap();
        let stopped = Arc::<AtomicBool>::default();
        let seen = Arc::clone(&stopped);
        let thread = std::thread::spawn(move || {
            let mut stream = stream;
            let block = vec![b'x'; 256 * 1024];
            while !seen.load(Ordering::SeqCst) && stream.write_all(&block).is_ok() {}
        });
        Flood { stopped, thread }
    }

    /// The connection, for a client that is not ours.
    pub(crate) fn into_stream(self) -> impl Read + Write {
        self.io
    }
}

/// What [`Client::meanwhile_flood`] sends.
#[derive(Debug)]
pub(crate) struct Flood {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Flood {
    /// Waits for the end of it.
    pub(crate) fn stop(self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

impl Io {
    /// Takes what fits and writes what goes; for a socket that does not block.
    fn write_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) if bytes.is_empty() => stream.flush().map(|()| 0),
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => {
                let taken = stream.conn.writer().write(bytes)?;
                while stream.conn.wants_write() {
                    match stream.conn.write_tls(&mut stream.sock) {
                        Err(error) if is_silence(&error) => break,
                        done => done?,
                    };
                }
                Ok(taken)
            }
        }
    }

    /// Reads what is there, without a write first as rustls's stream does.
    fn read_now(&mut self, block: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(block),
            Self::Tls(stream) => {
                match stream.conn.read_tls(&mut stream.sock) {
                    Err(error) if is_silence(&error) => {}
                    done => drop(done?),
                }
                stream.conn.process_new_packets().map_err(io::Error::other)?;
                stream.conn.reader().read(block)
            }
        }
    }
}

/// How much was moved, if nothing went wrong.
#[track_caller]
fn waiting(moved: io::Result<usize>) -> usize {
    match moved {
        Err(error) if is_silence(&error) => 0,
        done => done.expect("the connection lives"),
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
