//! The client's end of one HTTP/2 request.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Response;
use tokio::time::Instant;

use super::half::{Receiver, Sender, broken};
use super::heads;
use super::timers::Timer;
use crate::http1::{Field, ResponseHead};
use crate::proxy::body::{Sink, Source};
use crate::proxy::client::Downstream;

/// How long the rest of a request that was answered is taken in.
const DECLINE: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Stream {
    body: Receiver,
    respond: SendResponse<Bytes>,
    /// Once the response's head was sent.
    response: Option<Sender>,
    /// A reset was sent instead.
    cut: bool,
    discard: bool,
    timer: Timer,
}

impl Stream {
    pub(super) fn new(body: RecvStream, respond: SendResponse<Bytes>, timer: Timer) -> Stream {
        let body = Receiver::new(body);
        Stream { body, respond, response: None, cut: false, discard: false, timer }
    }

    /// Sends the response's head; `last`: there is no body.
    pub(super) fn send_head(&mut self, head: Response<()>, last: bool) -> Result<(), h2::Error> {
        if !self.discard {
            self.response = Some(Sender::new(self.respond.send_response(head, last)?, last));
        }
        Ok(())
    }

    /// Sends the whole body of an answer of lockgate's own.
    pub(super) fn send_body(&mut self, body: Vec<u8>) -> Result<(), h2::Error> {
        self.response.as_mut().map_or(Ok(()), |response| response.send_all(body))
    }

    /// Cuts the response, or gives up the request.
    pub(super) fn reset(&mut self, reason: Reason) {
        self.cut = true;
        match &mut self.response {
            Some(response) => response.reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// The response is complete, the rest of the request is not wanted (RFC
    /// 9113 8.1): the library says so, behind what is queued, once this is
    /// dropped. Before that some of it is read and thrown away: not every client
    /// keeps a response that is followed by a reset at once.
    pub(super) async fn decline_rest(&mut self) {
        if self.body.has_end() || self.cut {
            return;
        }
        let until = Instant::now() + DECLINE;
        poll_fn(|task| {
            loop {
                match self.body.poll_fill(task, false) {
                    Poll::Ready(Ok(n)) if n > 0 => self.body.forget(n),
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.poll(task, Instant::now(), until),
                }
            }
        })
        .await;
    }

    /// The client gave the request up, and it ran to its end all the same.
    pub(super) fn was_abandoned(&self) -> bool {
        self.discard
    }

    /// Where the response goes, while somebody wants it.
    fn sink(&mut self) -> Option<&mut Sender> {
        self.response.as_mut().filter(|_| !self.discard)
    }
}

impl Source for Stream {
    fn input(&self) -> &[u8] {
        self.body.input()
    }

    fn consume(&mut self, n: usize) {
        self.body.consume(n);
    }

    fn poll_fill(&mut self, task: &mut Context<'_>, much: bool) -> Poll<io::Result<usize>> {
        self.body.poll_fill(task, much)
    }

    fn is_ended(&self) -> bool {
        self.body.is_ended()
    }

    fn marks_end(&self) -> bool {
        self.body.marks_end()
    }

    fn take_trailers(&mut self) -> Option<Vec<u8>> {
        self.body.take_trailers()
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
        match self.sink() {
            Some(sink) => sink.poll_write(task, first, second, last),
            None => Poll::Ready(Ok(first.len() + second.len())),
        }
    }

    fn poll_flush(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sink().map_or(Poll::Ready(Ok(())), |sink| sink.poll_flush(task))
    }

    fn poll_finish(
        &mut self,
        task: &mut Context<'_>,
        trailers: Option<&[u8]>,
    ) -> Poll<io::Result<()>> {
        self.sink().map_or(Poll::Ready(Ok(())), |sink| sink.poll_finish(task, trailers))
    }
}

impl Downstream for Stream {
    fn poll_deadline(&mut self, task: &mut Context<'_>, now: Instant, at: Instant) -> Poll<()> {
        self.timer.poll(task, now, at)
    }

    /// One timer serves all the connection's requests; whose it is it can't say.
    fn deadline_is_set(&self) -> bool {
        false
    }

    fn watch(&mut self, task: &mut Context<'_>, _may_read: bool) -> io::Result<()> {
        if self.discard {
            return Ok(());
        }
        let reset = match &mut self.response {
            Some(response) => response.poll_reset(task),
            None => self.respond.poll_reset(task),
        };
        match reset {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(reason)) => Err(io::Error::other(format!("RST_STREAM: {reason}"))),
            Poll::Ready(Err(error)) => Err(broken(error)),
        }
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
        let finished = self.response.as_ref().is_some_and(|response| response.finished);
        if !finished && !self.cut && !self.discard {
            self.reset(Reason::INTERNAL_ERROR);
        }
    }
}
