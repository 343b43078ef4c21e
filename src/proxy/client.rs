//! The client's end of a request under way: its connection, its one deadline,
//! and what its leaving means.

use std::io;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::body::Pump;
use super::buffer::SMALL;
use super::conn::Conn;
use super::deadline::Deadline;
use super::error::{Cause, Failure, Phase};
use super::message::Request;

/// See the module.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) conn: Conn,
    /// Some of the request's body was not received yet: what comes next on the
    /// connection is not a request.
    pub(super) body_pending: bool,
    deadline: Deadline,
}

impl Client {
    pub(super) fn new(conn: Conn) -> Client {
        Client { conn, body_pending: false, deadline: Deadline::default() }
    }

    /// Ready when `at` has passed; see [`Deadline::poll`].
    pub(super) fn poll_deadline(
        &mut self,
        task: &mut Context<'_>,
        now: Instant,
        at: Instant,
    ) -> Poll<()> {
        self.deadline.poll(task, now, at)
    }

    /// Looks whether the client is still there while the backend works. A FIN
    /// is no farewell: the request is complete and its answer is owed. What
    /// the client sends ahead (pipelining) is kept, up to one buffer.
    pub(super) fn watch(
        &mut self,
        task: &mut Context<'_>,
        request: &Request,
        upload: &Pump,
        phase: Phase,
    ) -> Result<(), Failure> {
        while !self.conn.discard && !self.conn.eof && self.conn.input().len() < SMALL {
            match self.conn.poll_fill(task) {
                Poll::Pending => break,
                Poll::Ready(Ok(_)) => {}
                // A TLS client that closed without close_notify.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.conn.eof = true;
                }
                Poll::Ready(Err(error)) => return self.lost(request, upload, error, phase),
            }
        }
        Ok(())
    }

    /// The client is gone. A request that may be repeated is given up; one
    /// that must not be, and that the backend has in full, runs to its end with
    /// nobody listening, so that it is not left half done.
    pub(super) fn lost(
        &mut self,
        request: &Request,
        upload: &Pump,
        error: io::Error,
        phase: Phase,
    ) -> Result<(), Failure> {
        if request.head.method.is_idempotent() || !upload.source_done() {
            return Err(Failure::because(Cause::ClientGone, phase, error));
        }
        self.conn.discard = true;
        Ok(())
    }
}
