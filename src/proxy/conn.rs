//! One end of the data path: a socket, plain or TLS, and what was received on
//! it and not yet used. Both the client's connection and the backend's are a
//! [`Conn`]; a [`super::body::Pump`] moves a body from one to the other.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::body::{Sink, Source};
use super::buffer::Buffer;
use super::tcp::Tcp;

/// The transport of a connection.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Tcp),
    Tls(Box<TlsStream<Tcp>>),
}

impl Stream {
    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, room),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, room),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, data),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, data),
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_write_vectored(cx, slices),
        }
    }

    /// The handshake settled on HTTP/2 (ALPN).
    pub(super) fn speaks_http2(&self) -> bool {
        match self {
            Stream::Plain(_) => false,
            Stream::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(tcp) => tcp.get(),
            Stream::Tls(tls) => tls.get_ref().0.get(),
        }
    }
}

/// A connection's end. See the module.
#[derive(Debug)]
pub(super) struct Conn {
    stream: Stream,
    /// Received and not yet used; `None` while there is nothing.
    input: Option<Buffer>,
    /// The peer sends no more.
    pub(super) eof: bool,
    /// The peer is gone: what is written is thrown away. Set to let a request
    /// that must not be repeated run to its end.
    pub(super) discard: bool,
    /// TLS may hold back what a write accepted until it is flushed.
    unflushed: bool,
}

impl Conn {
    pub(super) fn new(stream: Stream) -> Conn {
        Conn { stream, input: None, eof: false, discard: false, unflushed: false }
    }

    /// Takes the buffer whose first `n` bytes are a head, and leaves here what
    /// was received behind them.
    pub(super) fn take_head(&mut self, n: usize) -> Buffer {
        let Some(mut head) = self.input.take() else { return Buffer::small() };
        if let Some(rest) = head.filled().get(n..)
            && !rest.is_empty()
        {
            let mut input = Buffer::small();
            input.push(rest);
            self.input = Some(input);
        }
        head.truncate(n);
        head
    }

    /// Writes all of `out`.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Buffer,
    ) -> Poll<io::Result<()>> {
        while !out.is_empty() {
            let n = ready!(self.poll_write(cx, out.filled(), &[], false))?;
            out.consume(n);
        }
        self.poll_flush(cx)
    }

    /// Tells the peer that nothing more comes (close_notify, FIN).
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(&mut **tls).poll_shutdown(cx),
        }
    }

    /// Closes with a reset when dropped: what was sent is not the whole.
    pub(super) fn reset(&mut self) {
        // It fails only on a socket that is gone already.
        let _ = self.stream.tcp().set_zero_linger();
    }

    /// Reads into `room`, past the input: for what has a buffer of its own.
    pub(super) fn poll_read_into(
        &mut self,
        task: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.poll_read(task, room)
    }

    /// The body of [`Source::poll_fill`].
    fn poll_read(&mut self, task: &mut Context<'_>, much: bool) -> Poll<io::Result<usize>> {
        if self.eof {
            return Poll::Ready(Ok(0));
        }
        let Conn { stream, input, .. } = self;
        let read = match stream {
            // Most often nothing came yet: no buffer is taken to learn that.
            Stream::Plain(tcp) => tcp.poll_receive(task, || room(input, much)),
            Stream::Tls(tls) => {
                let mut room = ReadBuf::new(room(input, much));
                let read = Pin::new(&mut **tls).poll_read(task, &mut room);
                read.map_ok(|()| room.filled().len())
            }
        };
        if let Poll::Ready(Ok(n)) = read {
            self.eof = n == 0;
            if let Some(input) = &mut self.input {
                input.advance(n);
            }
        }
        // A buffer is held only while there are bytes in it.
        if self.input.as_ref().is_some_and(Buffer::is_empty) {
            self.input = None;
        }
        read
    }

    /// Before an idle connection is used again: nothing may have come on it,
    /// neither bytes nor an end, as far as the event loop has heard. Costs no
    /// system call unless there is something; what came since the loop's last
    /// turn is not seen.
    pub(super) fn is_quiet(&self) -> bool {
        // TLS may have taken off the socket what nobody has read yet: data, or
        // the other side's close_notify.
        if let Stream::Tls(tls) = &self.stream
            && !tls.get_ref().1.wants_read()
        {
            return false;
        }
        let mut byte = [0_u8; 1];
        match self.stream.tcp().try_read(&mut byte) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => false,
        }
    }
}

/// Room behind what was received, in a new buffer if there is none.
fn room(input: &mut Option<Buffer>, much: bool) -> &mut [u8] {
    let fresh = if much { Buffer::large } else { Buffer::small };
    let input = input.get_or_insert_with(fresh);
    if input.room() == 0 && input.spare().is_empty() {
        input.enlarge();
    }
    input.spare()
}

impl Source for Conn {
    #[inline]
    fn input(&self) -> &[u8] {
        self.input.as_ref().map_or(&[], Buffer::filled)
    }

    #[inline]
    fn consume(&mut self, n: usize) {
        if let Some(input) = &mut self.input {
            input.consume(n);
            if input.is_empty() {
                self.input = None;
            }
        }
    }

    #[inline]
    fn poll_fill(&mut self, task: &mut Context<'_>, much: bool) -> Poll<io::Result<usize>> {
        self.poll_read(task, much)
    }

    fn is_ended(&self) -> bool {
        self.eof
    }

    fn plain(&self) -> Option<&Tcp> {
        match &self.stream {
            Stream::Plain(tcp) if self.input.is_none() && !self.eof => Some(tcp),
            _ => None,
        }
    }
}

impl Sink for Conn {
    #[inline]
    fn poll_write(
        &mut self,
        task: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
        _last: bool,
    ) -> Poll<io::Result<usize>> {
        if self.discard {
            return Poll::Ready(Ok(first.len() + second.len()));
        }
        let written = if second.is_empty() {
            self.stream.poll_write(task, first)
        } else if first.is_empty() {
            self.stream.poll_write(task, second)
        } else {
            self.stream.poll_write_vectored(task, &[IoSlice::new(first), IoSlice::new(second)])
        };
        let written = ready!(written)?;
        self.unflushed = matches!(self.stream, Stream::Tls(_));
        if written == 0 && !(first.is_empty() && second.is_empty()) {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        Poll::Ready(Ok(written))
    }

    #[inline]
    fn poll_flush(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unflushed || self.discard {
            return Poll::Ready(Ok(()));
        }
        if let Stream::Tls(tls) = &mut self.stream {
            ready!(Pin::new(&mut **tls).poll_flush(task))?;
        }
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn plain(&self) -> Option<&Tcp> {
        match &self.stream {
            Stream::Plain(tcp) if !self.discard => Some(tcp),
            _ => None,
        }
    }

    /// Nothing marks the end but what was written: the length, the last chunk,
    /// or the end of the connection.
    #[inline]
    fn poll_finish(
        &mut self,
        task: &mut Context<'_>,
        _trailers: Option<&[u8]>,
    ) -> Poll<io::Result<()>> {
        self.poll_flush(task)
    }
}
