//! The client's end of one HTTP/2 request. What the backend takes of the
//! body is what the client may send more of, and what the client takes of the
//! response is what is read from the backend.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Response;
use tokio::time::Instant;

use super::heads;
use super::timers::Timer;
use crate::http1::{Field, ResponseHead};
use crate::proxy::body::{Sink, Source};
use crate::proxy::client::Downstream;

/// Content in one DATA frame's worth of copying: more than a frame holds by
/// default gains nothing.
const PIECE: usize = 16 * 1024;

/// See the module.
pub(super) struct Stream {
    body: RecvStream,
    /// Received and not yet used.
    input: Bytes,
    ended: bool,
    trailers: Option<Vec<u8>>,
    respond: SendResponse<Bytes>,
    /// Once the response's head was sent.
    send: Option<SendStream<Bytes>>,
    finished: bool,
    discard: bool,
    timer: Timer,
}

impl Stream {
    pub(super) fn new(body: RecvStream, respond: SendResponse<Bytes>, timer: Timer) -> Stream {
        Stream {
            ended: body.is_end_stream(),
            body,
            input: Bytes::new(),
            trailers: None,
            respond,
            send: None,
            finished: false,
            discard: false,
            timer,
        }
    }

    /// Sends the response's head; `last`: there is no body.
    pub(super) fn send_head(&mut self, head: Response<()>, last: bool) -> Result<(), h2::Error> {
        if self.discard {
            return Ok(());
        }
        self.send = Some(self.respond.send_response(head, last)?);
        self.finished = last;
        Ok(())
    }

    /// Sends the whole body of an answer of lockgate's own.
    pub(super) fn send_body(&mut self, body: Vec<u8>) -> Result<(), h2::Error> {
        self.finished = true;
        match &mut self.send {
            Some(send) => send.send_data(body.into(), true),
            None => Ok(()),
        }
    }

    /// Cuts the response, or gives up the request.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.finished = true;
        match &mut self.send {
            Some(send) => send.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// RFC 9113 8.1: the response is complete, the rest of the request is not
    /// wanted.
    pub(super) fn decline_rest(&mut self) {
        if !self.body.is_end_stream() && !self.ended {
            self.reset(Reason::NO_ERROR);
        }
    }

    fn poll_gone(&mut self, task: &mut Context<'_>) -> io::Result<()> {
        let reset = match &mut self.send {
            Some(send) => send.poll_reset(task),
            None => self.respond.poll_reset(task),
        };
        match reset {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(reason)) => Err(io::Error::other(format!("RST_STREAM: {reason}"))),
            Poll::Ready(Err(error)) => Err(broken(error)),
        }
    }
}

impl Source for Stream {
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

    fn take_trailers(&mut self) -> Option<Vec<u8>> {
        self.trailers.take()
    }
}

impl Sink for Stream {
    fn poll_write(
        &mut self,
        task: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
        last: bool,
    ) -> Poll<io::Result<usize>> {
        let wanted = first.len() + second.len();
        let Some(send) = self.send.as_mut().filter(|_| !self.discard) else {
            return Poll::Ready(Ok(wanted));
        };
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
        let Some(send) = self.send.as_mut().filter(|_| !self.discard && !self.finished) else {
            return Poll::Ready(Ok(()));
        };
        self.finished = true;
        let sent = match trailers.map(heads::trailer_map) {
            Some(trailers) => send.send_trailers(trailers),
            None => send.send_data(Bytes::new(), true),
        };
        Poll::Ready(sent.map_err(broken))
    }
}

impl Downstream for Stream {
    fn poll_deadline(&mut self, task: &mut Context<'_>, now: Instant, at: Instant) -> Poll<()> {
        self.timer.poll(task, now, at)
    }

    fn watch(&mut self, task: &mut Context<'_>, _may_read: bool) -> io::Result<()> {
        if self.discard { Ok(()) } else { self.poll_gone(task) }
    }

    fn discard(&mut self) {
        self.discard = true;
    }

    /// Nothing follows on a stream that could be taken for a request.
    fn set_body_pending(&mut self, _pending: bool) {}

    fn poll_end(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_finish(task, None)
    }

    fn interim(&mut self, head: &[u8], fields: &[Field], response: &ResponseHead) {
        if let Some(head) = heads::interim(head, fields, response) {
            // It fails when the stream is gone, which the watch tells.
            let _ = self.respond.send_informational(head);
        }
    }

    /// They are with the connection's task at once.
    fn poll_interim(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A task that broke must not leave the client waiting.
        if !self.finished && !self.discard {
            self.reset(Reason::INTERNAL_ERROR);
        }
    }
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
    }
    io::Error::other(error)
}
