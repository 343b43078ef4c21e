//! The socket of a demo backend: heads and pieces of bodies out of it, answers
//! into it. Every wait has an end and every buffer a bound.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http1::{BodyDecoder, HeadError, HeadLimits, Scan, Step};

/// More than lockgate lets through, so that it is lockgate that refuses.
pub(super) const HEAD_LIMITS: HeadLimits =
    HeadLimits { target: 64 << 10, fields_size: 96 << 10, fields: 256 };
/// Longer than a proxy keeps an idle connection by default (60 s): it should be
/// the one to close.
const IDLE: Duration = Duration::from_secs(75);
/// A whole head, silence within a body, or a client that does not read.
const STALLED: Duration = Duration::from_secs(60);
/// A body nobody asked to have back is read to its end up to this.
const MAX_UNUSED_BODY: u64 = 64 << 20;
const PIECE: usize = 16 << 10;

/// The socket and what was read from it too early.
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What stands before it in the buffer is used up.
    start: usize,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new(), start: 0 }
    }

    /// The socket, and what was read from it too early.
    pub(super) fn into_parts(mut self) -> (TcpStream, Vec<u8>) {
        self.buffer.drain(..self.start);
        (self.stream, self.buffer)
    }

    fn pending(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending().is_empty()
    }

    fn consume(&mut self, n: usize) {
        self.start = self.buffer.len().min(self.start + n);
    }

    /// Reads some more; 0 is the end of the stream.
    async fn fill(&mut self, patience: Duration) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() {
            // An idle connection holds nothing.
            self.buffer = Vec::new();
            timeout(patience, self.stream.readable()).await??;
        }
        self.buffer.reserve(PIECE);
        timeout(patience, self.stream.read_buf(&mut self.buffer)).await?
    }

    /// The next head, from its first byte; `None` when the client has closed.
    pub(super) async fn read_head(&mut self) -> io::Result<Option<Result<Vec<u8>, HeadError>>> {
        if self.is_empty() && self.fill(IDLE).await? == 0 {
            return Ok(None);
        }
        timeout(STALLED, self.rest_of_head()).await?
    }

    async fn rest_of_head(&mut self) -> io::Result<Option<Result<Vec<u8>, HeadError>>> {
        let mut scan = Scan::request();
        loop {
            match scan.advance(self.pending(), &HEAD_LIMITS) {
                Ok(Some(range)) => {
                    let head = self.pending().get(range.clone()).unwrap_or_default().to_vec();
                    self.consume(range.end);
                    return Ok(Some(Ok(head)));
                }
                Ok(None) => {}
                Err(error) => return Ok(Some(Err(error))),
            }
            if self.fill(STALLED).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next bytes of the body, at most what one read brings.
    pub(super) async fn next_piece(
        &mut self,
        body: &mut BodyDecoder,
    ) -> io::Result<Option<Vec<u8>>> {
        loop {
            let step = body.decode(self.pending()).map_err(io::Error::other)?;
            match step {
                Step::Skip(n) | Step::Trailers(n) => self.consume(n),
                Step::Data(n) => {
                    let piece = self.pending().get(..n).unwrap_or_default().to_vec();
                    self.consume(n);
                    return Ok(Some(piece));
                }
                Step::Done => return Ok(None),
                Step::More => {
                    if self.fill(STALLED).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    /// Reads the body to its end and counts it; `None` when there is too much.
    pub(super) async fn skip_body(&mut self, body: &mut BodyDecoder) -> io::Result<Option<u64>> {
        let mut size = 0_u64;
        while let Some(piece) = self.next_piece(body).await? {
            size += piece.len() as u64;
            if size > MAX_UNUSED_BODY {
                return Ok(None);
            }
        }
        Ok(Some(size))
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        // In pieces, so that the wait is for progress and not for all of it.
        for piece in bytes.chunks(4 * PIECE) {
            timeout(STALLED, self.stream.write_all(piece)).await??;
        }
        Ok(())
    }

    /// Waits until the other side ends or is gone. What it still says is lost.
    pub(super) async fn left(&mut self) {
        while let Ok(1..) = self.stream.read(&mut [0; 512]).await {}
    }

    /// Says goodbye, then reads a little of what may still come: closing with
    /// unread bytes would reset the connection under the answer.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let mut rest = [0; 4096];
        for _ in 0..256 {
            if timeout(Duration::from_secs(1), self.stream.read(&mut rest)).await?? == 0 {
                break;
            }
        }
        Ok(())
    }
}
