//! The client's end of a request under way, whatever its HTTP version: what a
//! request needs of it besides its body and a place for the response.

use std::io;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::body::{Sink, Source};
use super::buffer::{Buffer, SMALL};
use super::conn::Conn;
use super::deadline::Deadline;
use super::headers;
use super::tcp::Tcp;
use crate::http1::{Field, ResponseHead};

/// Whether a client is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    /// It has ended its side, and may be waiting for its answer.
    Ended,
    /// Nobody is.
    Gone,
}

/// See the module. The request's body is read from it, the response's written
/// to it.
pub(super) trait Downstream: Source + Sink {
    /// Ready when `at` has passed; see [`Deadline::poll`].
    fn poll_deadline(&mut self, task: &mut Context<'_>, now: Instant, at: Instant) -> Poll<()>;

    /// The deadline last given to [`Downstream::poll_deadline`] has not passed,
    /// and its timer will wake the task: until then there is no need to look at
    /// the clock. False where that is not known.
    fn deadline_is_set(&self) -> bool;

    /// Looks whether the client is still there while the backend works.
    /// `may_read`: what it sends now is not the request's body.
    fn watch(&mut self, task: &mut Context<'_>, may_read: bool) -> io::Result<()>;

    /// Whether it still sends, as far as [`Downstream::watch`] has seen. On HTTP/2
    /// the end of a request is no news.
    fn presence(&self) -> Presence {
        Presence::Here
    }

    /// Nobody listens any more: what is written from now on is thrown away.
    fn discard(&mut self);

    /// Whether some of the request's body is still to be received.
    fn set_body_pending(&mut self, pending: bool);

    /// Nothing more is written: the client hears of the end, and may go on
    /// sending.
    fn poll_end(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Takes an interim response, to be sent before anything else.
    fn interim(&mut self, head: &[u8], fields: &[Field], response: &ResponseHead);

    /// Sends the interim responses it took.
    fn poll_interim(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// The client of an HTTP/1 connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) conn: Conn,
    /// Some of the request's body was not received yet: what comes next on the
    /// connection is not a request.
    pub(super) body_pending: bool,
    /// Interim responses that are not sent yet. Whatever follows goes behind
    /// them, or part of one would be followed by something else.
    out: Option<Buffer>,
    deadline: Deadline,
}

impl Client {
    pub(super) fn new(conn: Conn) -> Client {
        Client { conn, body_pending: false, out: None, deadline: Deadline::default() }
    }

    /// Where the response's head goes.
    pub(super) fn take_out(&mut self) -> Buffer {
        self.out.take().unwrap_or_else(Buffer::small)
    }
}

impl Downstream for Client {
    fn poll_deadline(&mut self, task: &mut Context<'_>, now: Instant, at: Instant) -> Poll<()> {
        self.deadline.poll(task, now, at)
    }

    fn deadline_is_set(&self) -> bool {
        self.deadline.is_set()
    }

    /// A FIN is no farewell: the request is complete and its answer is owed (unless
    /// the listener says otherwise).
    /// What the client sends ahead (pipelining) is kept, up to one buffer.
    fn watch(&mut self, task: &mut Context<'_>, may_read: bool) -> io::Result<()> {
        let conn = &mut self.conn;
        while may_read && !conn.discard && !conn.eof && conn.input().len() < SMALL {
            match conn.poll_fill(task, false) {
                Poll::Pending => break,
                Poll::Ready(Ok(_)) => {}
                // A TLS client that closed without close_notify.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    conn.eof = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }

    fn presence(&self) -> Presence {
        match (self.conn.discard, self.conn.eof) {
            (true, _) => Presence::Gone,
            (_, true) => Presence::Ended,
            _ => Presence::Here,
        }
    }

    fn discard(&mut self) {
        self.conn.discard = true;
    }

    fn set_body_pending(&mut self, pending: bool) {
        self.body_pending = pending;
    }

    fn poll_end(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.conn.poll_shutdown(task)
    }

    fn interim(&mut self, head: &[u8], fields: &[Field], response: &ResponseHead) {
        let out = self.out.get_or_insert_with(Buffer::small);
        headers::write_interim(out, head, fields, response);
    }

    fn poll_interim(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.out {
            None => Poll::Ready(Ok(())),
            Some(out) => self.conn.poll_drain(task, out),
        }
    }
}

impl Source for Client {
    fn input(&self) -> &[u8] {
        self.conn.input()
    }

    fn consume(&mut self, n: usize) {
        self.conn.consume(n);
    }

    fn poll_fill(&mut self, task: &mut Context<'_>, much: bool) -> Poll<io::Result<usize>> {
        self.conn.poll_fill(task, much)
    }

    fn is_ended(&self) -> bool {
        self.conn.is_ended()
    }

    fn plain(&self) -> Option<&Tcp> {
        Source::plain(&self.conn)
    }
}

impl Sink for Client {
    fn poll_write(
        &mut self,
        task: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
        last: bool,
    ) -> Poll<io::Result<usize>> {
        self.conn.poll_write(task, first, second, last)
    }

    fn plain(&self) -> Option<&Tcp> {
        Sink::plain(&self.conn)
    }

    fn poll_flush(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.conn.poll_flush(task)
    }

    fn poll_finish(
        &mut self,
        task: &mut Context<'_>,
        trailers: Option<&[u8]>,
    ) -> Poll<io::Result<()>> {
        self.conn.poll_finish(task, trailers)
    }
}
