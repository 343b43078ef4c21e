//! One request at a scripted backend: what the script can do with it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::backend::{Recorded, Shared};
use super::message::Incoming;

/// A request whose head was read; its body was not.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(super) shared: &'a Shared,
    pub(super) stream: &'a mut TcpStream,
    pub(super) incoming: &'a mut Incoming,
    pub(super) head: Vec<u8>,
    /// Its place in the list of recorded requests.
    pub(super) place: usize,
    /// How many requests came before it on this connection.
    pub(super) earlier: usize,
    pub(super) body_read: bool,
    pub(super) closing: bool,
}

impl Exchange<'_> {
    /// How many requests came before this one on the same connection.
    pub(crate) fn earlier(&self) -> usize {
        self.earlier
    }

    pub(crate) fn request(&self) -> Recorded {
        Recorded { head: self.head.clone(), ..Recorded::default() }
    }

    /// Reads and records the body.
    pub(crate) fn read_body(&mut self) -> Vec<u8> {
        self.try_read_body().unwrap_or_default()
    }

    pub(super) fn try_read_body(&mut self) -> io::Result<Vec<u8>> {
        let request = self.request();
        let mut body = Vec::new();
        let mut trailers = Vec::new();
        let mut chunks = Vec::new();
        self.body_read = true;
        let outcome = if request.values("transfer-encoding").is_empty() {
            let length = request.values("content-length").first().map_or(Ok(0), |v| v.parse());
            let length = length.map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
            self.incoming.exactly(self.stream, length, &mut body)
        } else {
            match self.incoming.chunked(self.stream, &mut body, &mut chunks) {
                Ok(fields) => {
                    trailers = fields;
                    Ok(())
                }
                Err(error) => Err(error),
            }
        };
        let complete = outcome.is_ok();
        self.shared.update(self.place, |recorded| {
            recorded.body.clone_from(&body);
            recorded.trailers = trailers;
            recorded.complete = complete;
        });
        outcome.map(|()| body)
    }

    /// Reads `count` bytes of what follows the head, framing and all.
    pub(crate) fn read_raw(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.incoming.exactly(self.stream, count, &mut bytes);
        bytes
    }

    /// Sends these bytes as they are; a client that left is no failure.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if self.stream.write_all(bytes.as_ref()).is_err() {
            self.closing = true;
        }
    }

    /// Sends as much as goes until the other side leaves or `limit` is
    /// reached; counts it in [`super::Backend::taken`].
    pub(crate) fn pour(&mut self, limit: usize) {
        let block = vec![b'x'; 16 * 1024];
        let mut sent = 0;
        while sent < limit {
            match self.stream.write(&block) {
                Ok(count) => {
                    sent += count;
                    self.shared.taken.fetch_add(count, Ordering::SeqCst);
                }
                Err(_) => break,
            }
        }
        self.closing = true;
    }

    /// Answers 200 with this body.
    pub(crate) fn reply(&mut self, body: &str) {
        self.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    }

    /// Reads the request to its end and answers with the backend's name, the
    /// head as it came and the body's length.
    pub(crate) fn echo(&mut self) {
        let body = self.read_body();
        let head = String::from_utf8_lossy(&self.head).into_owned();
        let text = format!("{}\n{head}body: {} bytes\n", self.shared.name, body.len());
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: scripted\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\n\r\n",
            text.len()
        );
        let silent = self.request().method() == "HEAD";
        self.send(if silent { head } else { head + &text });
    }

    /// A delay the script wants.
    pub(crate) fn pause(&self, millis: u64) {
        std::thread::sleep(Duration::from_millis(millis));
    }

    /// Waits until the other side ends or resets the connection, throwing away
    /// what still comes. True when it did within the deadline.
    pub(crate) fn wait_until_left(&mut self) -> bool {
        self.closing = true;
        let mut block = [0; 4096];
        let left = loop {
            match self.stream.read(&mut block) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => {
                    break !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                }
            }
        };
        if left {
            self.shared.left.fetch_add(1, Ordering::SeqCst);
        }
        left
    }

    /// Ends the connection after this request.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(&mut self) {
        let _ = socket2::SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
        self.closing = true;
        self.shared.forget(self.stream);
    }
}
