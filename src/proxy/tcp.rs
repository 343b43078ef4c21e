//! A socket whose bytes go to the kernel and come from it by the system calls
//! themselves. The C library wraps `recv` and `send` for thread cancellation,
//! which nobody uses here and which costs every call in a process with threads
//! (a quarter of what a WebSocket message costs outside of the kernel).
//!
//! What tokio's own `poll_read` and `poll_write` know is kept: a call that moved
//! less than it could has emptied the socket's queue, or filled it, so the next
//! one waits for the event loop instead of asking the kernel in vain.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// See the module.
#[derive(Debug)]
pub(super) struct Tcp(TcpStream);

impl Tcp {
    pub(super) fn new(tcp: TcpStream) -> Tcp {
        Tcp(tcp)
    }

    /// The socket itself.
    pub(super) fn get(&self) -> &TcpStream {
        &self.0
    }

    /// Does `call`, which moves at most `most` bytes, once the socket is ready.
    fn poll_io(
        &self,
        interest: Interest,
        most: usize,
        mut call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let mut moved = None;
        let done = self.0.try_io(interest, || {
            let n = loop {
                match call() {
                    Err(rustix::io::Errno::INTR) => {}
                    other => break other?,
                }
            };
            moved = Some(n);
            if n > 0 && n < most {
                // Takes back the readiness, and nothing else.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(n)
        });
        match (moved, done) {
            (Some(n), _) | (None, Ok(n)) => Poll::Ready(Ok(n)),
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            (None, Err(error)) => Poll::Ready(Err(error)),
        }
    }

    /// Receives into what `room` gives; it is asked for once something is there.
    pub(super) fn poll_receive<'r>(
        &self,
        task: &mut Context<'_>,
        room: impl FnOnce() -> &'r mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.0.poll_read_ready(task))?;
        let room = room();
        let most = room.len();
        loop {
            let receive = || recv(&self.0, &mut *room, RecvFlags::empty()).map(|(n, _)| n);
            if let Poll::Ready(done) = self.poll_io(Interest::READABLE, most, receive) {
                return Poll::Ready(done);
            }
            // As in `poll_send`.
            ready!(self.0.poll_read_ready(task))?;
        }
    }

    /// Does `take`, which takes something off the socket's queue, once there is
    /// something. That it took less than it could says nothing of the queue.
    pub(super) fn poll_take(
        &self,
        task: &mut Context<'_>,
        mut take: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_read_ready(task))?;
            if let Poll::Ready(done) = self.poll_io(Interest::READABLE, 0, &mut take) {
                return Poll::Ready(done);
            }
        }
    }

    /// The same for `give`, which puts something there.
    pub(super) fn poll_give(
        &self,
        task: &mut Context<'_>,
        give: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.poll_send(task, 0, give)
    }

    fn poll_send(
        &self,
        task: &mut Context<'_>,
        most: usize,
        mut call: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(task))?;
            // What was not ready after all has lost its readiness: once more, so
            // that the event loop knows whom to wake.
            if let Poll::Ready(done) = self.poll_io(Interest::WRITABLE, most, &mut call) {
                return Poll::Ready(done);
            }
        }
    }
}

impl AsyncRead for Tcp {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n = ready!(self.poll_receive(task, || buf.initialize_unfilled()))?;
        buf.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tcp {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(task, data.len(), || send(&self.0, data, SendFlags::NOSIGNAL))
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let most = slices.iter().map(|slice| slice.len()).sum();
        // A broken pipe is an error and no signal: the runtime of Rust sees to it.
        self.poll_send(task, most, || rustix::io::writev(&self.0, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// TCP holds nothing back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(task)
    }
}
