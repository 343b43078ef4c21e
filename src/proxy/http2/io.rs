//! What the `h2` crate writes to: it flushes once per DATA frame, which would
//! be a system call per response. Here writes are held and leave together when
//! the connection's task has done all it could.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::body::Sink as _;
use crate::proxy::buffer::{Buffer, SMALL};
use crate::proxy::conn::Conn;

/// Held at most; beyond that a write has to wait until the client takes some.
const HOLD: usize = 64 * 1024;

/// A connection whose writes are held. Its clones are the same connection: one
/// is `h2`'s, one the driver's.
#[derive(Clone, Debug)]
pub(super) struct HeldIo(Rc<RefCell<Held>>);

#[derive(Debug)]
struct Held {
    conn: Conn,
    out: Buffer,
    /// What was held last did not fit a small buffer: a large one is taken at
    /// once, instead of moving what the small one held.
    much: bool,
    /// The end was sent.
    ended: bool,
}

impl HeldIo {
    pub(super) fn new(conn: Conn) -> HeldIo {
        HeldIo(Rc::new(RefCell::new(Held { conn, out: Buffer::none(), much: false, ended: false })))
    }

    /// Sends what is held.
    pub(super) fn poll_push(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_push(task)
    }

    /// Says that nothing more comes; asking again is fine.
    pub(super) fn poll_end(&self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_push(task))?;
        let mut held = self.0.borrow_mut();
        if !held.ended {
            ready!(held.conn.poll_shutdown(task))?;
            held.ended = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Throws away what comes, until nothing does any more.
    pub(super) fn poll_drained(&self, task: &mut Context<'_>) -> Poll<()> {
        let mut held = self.0.borrow_mut();
        let mut sink = [0; 4096];
        loop {
            let mut sink = ReadBuf::new(&mut sink);
            let read = ready!(held.conn.poll_read_into(task, &mut sink));
            if read.is_err() || sink.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(())
    }
}

impl Held {
    fn poll_push(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Held { conn, out, much, .. } = self;
        if out.has_room() {
            *much = out.len() > SMALL;
            ready!(conn.poll_drain(task, out))?;
            *out = Buffer::none();
            return Poll::Ready(Ok(()));
        }
        conn.poll_flush(task)
    }
}

impl AsyncRead for HeldIo {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.borrow_mut().conn.poll_read_into(task, buf)
    }
}

impl AsyncWrite for HeldIo {
    /// Vectored writes are not offered: `h2` then puts small frames together in
    /// its own buffer, which costs less than writing each on its own.
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut held = self.0.borrow_mut();
        if held.out.len() >= HOLD {
            ready!(held.poll_push(task))?;
        }
        if held.much && !held.out.has_room() {
            held.out = Buffer::large();
        }
        held.out.push(data);
        Poll::Ready(Ok(data.len()))
    }

    /// The driver pushes: see [`HeldIo::poll_push`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_end(task)
    }
}
