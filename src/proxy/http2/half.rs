//! The two halves of an HTTP/2 exchange's data, the same towards a client and
//! towards a backend. What was used is what the peer may send more of, and
//! what the peer takes is what is read on the other side.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};

use super::heads;
use crate::proxy::body::{Sink, Source};

/// Content in one DATA frame's worth of copying: more than a frame holds by
/// default gains nothing.
const PIECE: usize = 16 * 1024;

/// What comes.
#[derive(Debug)]
pub(super) struct Receiver {
    body: RecvStream,
    /// Received and not yet used.
    input: Bytes,
    ended: bool,
    trailers: Option<Vec<u8>>,
}

impl Receiver {
    pub(super) fn new(body: RecvStream) -> Receiver {
        Receiver { ended: body.is_end_stream(), body, input: Bytes::new(), trailers: None }
    }

    /// The first `n` bytes are thrown away, and the peer may not send as much
    /// again.
    pub(super) fn forget(&mut self, n: usize) {
        self.input.advance(n);
    }

    /// The peer has sent its end of the exchange.
    pub(super) fn has_end(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}

impl Source for Receiver {
    fn input(&self) -> &[u8] {
        &self.input
    }

    fn consume(&mut self, n: usize) {
        self.input.advance(n);
        // Only now the client may send as much again. It fails when the stream
        // is gone, which the next read tells.
        let _ = self.body.flow_control().release_capacity(n);
    }

    fn poll_fill(&mut self, task: &mut Context<'_>, _much: bool) -> Poll<io::Result<usize>> {
        // Asked only when all was used.
        while self.input.is_empty() && !self.ended {
            match ready!(self.body.poll_data(task)) {
                Some(data) => self.input = data.map_err(broken)?,
                None => {
                    let trailers = ready!(self.body.poll_trailers(task)).map_err(broken)?;
                    self.trailers = trailers.as_ref().map(heads::trailer_lines);
                    self.ended = true;
                }
            }
        }
        Poll::Ready(Ok(self.input.len()))
    }

    fn is_ended(&self) -> bool {
        self.ended
    }

    fn marks_end(&self) -> bool {
        true
    }

    fn take_trailers(&mut self) -> Option<Vec<u8>> {
        self.trailers.take()
    }
}

/// What goes.
#[derive(Debug)]
pub(super) struct Sender {
    send: SendStream<Bytes>,
    /// The end was sent.
    pub(super) finished: bool,
}

impl Sender {
    /// `finished`: the head was all there is.
    pub(super) fn new(send: SendStream<Bytes>, finished: bool) -> Sender {
        Sender { send, finished }
    }

    /// Sends the whole body at once.
    pub(super) fn send_all(&mut self, body: Vec<u8>) -> Result<(), h2::Error> {
        self.finished = true;
        self.send.send_data(body.into(), true)
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        self.finished = true;
        self.send.send_reset(reason);
    }

    pub(super) fn poll_reset(&mut self, task: &mut Context<'_>) -> Poll<Result<Reason, h2::Error>> {
        self.send.poll_reset(task)
    }
}

impl Sink for Sender {
    fn poll_write(
        &mut self,
        task: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
        last: bool,
    ) -> Poll<io::Result<usize>> {
        let wanted = first.len() + second.len();
        let send = &mut self.send;
        send.reserve_capacity(wanted.min(PIECE));
        // `poll_capacity` is ready only when the capacity grows.
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(task)) {
                Some(granted) => granted.map_err(broken)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let taken = wanted.min(send.capacity()).min(PIECE);
        let of_first = first.len().min(taken);
        let mut piece = BytesMut::with_capacity(taken);
        piece.extend_from_slice(first.get(..of_first).unwrap_or_default());
        piece.extend_from_slice(second.get(..taken - of_first).unwrap_or_default());
        let last = last && taken == wanted;
        send.send_data(piece.freeze(), last).map_err(broken)?;
        self.finished = last;
        Poll::Ready(Ok(taken))
    }

    /// The connection's task sends what its requests wrote.
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_finish(
        &mut self,
        _: &mut Context<'_>,
        trailers: Option<&[u8]>,
    ) -> Poll<io::Result<()>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        self.finished = true;
        let sent = match trailers.map(heads::trailer_map) {
            Some(trailers) => self.send.send_trailers(trailers),
            None => self.send.send_data(Bytes::new(), true),
        };
        Poll::Ready(sent.map_err(broken))
    }
}

pub(super) fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
    }
    io::Error::other(error)
}
