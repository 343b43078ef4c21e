//! Moves one message body from a connection to another, a buffer at a time.
//!
//! The same pump carries uploads (client to backend) and downloads (backend to
//! client). It never holds more than one buffer of the body: what the sink does
//! not take is not read from the source.

mod error;
mod splice;

use std::io;
use std::task::{Context, Poll};

pub(super) use self::error::PumpError;
use self::splice::Pipe;
use super::buffer::{Buffer, FieldList, SMALL};
use super::tcp::Tcp;
use crate::http1::{self, BodyDecoder, HeadLimits, LAST_CHUNK, Step, chunk_prefix};

/// Up to this size content is copied behind the head or other small pieces and
/// leaves with them in one write; larger pieces are written from where they lie.
const COPY: usize = 4 * 1024;
/// Framing around one piece: a size line and two line ends.
const FRAMING: usize = 24;
/// From this much left to come a read uses a large buffer.
const MUCH: u64 = SMALL as u64;

/// Pipes full of a body that are moved before others have their turn.
const TURNS: usize = 4;

/// Where a body comes from: received bytes that lie there until they are used.
pub(super) trait Source {
    /// What was received and not yet used.
    fn input(&self) -> &[u8];
    /// The first `n` of those bytes are done with.
    fn consume(&mut self, n: usize);
    /// Receives more, in larger pieces if `much` is still to come. `Ready(0)`:
    /// nothing more comes.
    fn poll_fill(&mut self, task: &mut Context<'_>, much: bool) -> Poll<io::Result<usize>>;
    /// Nothing more comes; asking again is of no use.
    fn is_ended(&self) -> bool;
    /// The end is marked apart from the content, so it comes for certain and
    /// trailers may come with it (HTTP/2).
    fn marks_end(&self) -> bool {
        false
    }
    /// The socket that what follows comes from, as it is: nothing of it was
    /// received yet.
    fn plain(&self) -> Option<&Tcp> {
        None
    }
    /// Trailer lines that came apart from the body, as HTTP/1 writes them.
    fn take_trailers(&mut self) -> Option<Vec<u8>> {
        None
    }
}

/// Where a body goes.
pub(super) trait Sink {
    /// Takes `first`, then `second`; gives how many bytes of both it took.
    /// `last`: with them the body is complete, and no trailers follow.
    fn poll_write(
        &mut self,
        task: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
        last: bool,
    ) -> Poll<io::Result<usize>>;
    /// The socket that takes it, as it is: nothing of it is held back here.
    fn plain(&self) -> Option<&Tcp> {
        None
    }
    /// What was taken is on its way.
    fn poll_flush(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// The body is complete. `trailers`: lines as HTTP/1 writes them, for a
    /// sink that has a way of its own to send them.
    fn poll_finish(
        &mut self,
        task: &mut Context<'_>,
        trailers: Option<&[u8]>,
    ) -> Poll<io::Result<()>>;
}

/// How the body is framed where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// As it is: a length was announced, there is no body, or the end of the
    /// connection ends it.
    Plain,
    /// Chunked.
    Chunked {
        /// Trailer fields may be sent.
        trailers: bool,
    },
    /// As it is, the sink marks the end and sends the trailers (HTTP/2).
    Frames,
}

/// What a pump that returned `Pending` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Source,
    Sink,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pump {
    decoder: BodyDecoder,
    framing: Framing,
    /// What goes out before the next piece of content: heads, framing, copies.
    pub(super) out: Buffer,
    /// Content at the front of the source's input that was announced in `out`
    /// and is written from where it lies.
    slice: usize,
    /// Content bytes seen so far.
    content: u64,
    limit: u64,
    head_limits: HeadLimits,
    ended: bool,
    /// Lines to be sent behind the body: by the sink with [`Framing::Frames`],
    /// again with [`Pump::rewind`].
    trailers: Option<Vec<u8>>,
    /// All was written and flushed, and the source's end was seen.
    pub(super) finished: bool,
    /// All was written and flushed. The end that a source marks apart may still
    /// be to come (an empty DATA frame): it is nothing to a sink that knows the
    /// length.
    pub(super) delivered: bool,
    pub(super) waiting: Waiting,
    /// Something moved since this was last cleared.
    pub(super) moved: bool,
    /// The sink took some of it.
    pub(super) sent: bool,
    /// All content so far, to be sent again; `None` once it was too much.
    kept: Option<Vec<u8>>,
    keep_most: usize,
    /// What was sent must not be sent again.
    once: bool,
    /// Content on its way past us.
    pipe: Option<Pipe>,
}

impl Pump {
    pub(super) fn new(
        decoder: BodyDecoder,
        framing: Framing,
        limit: Option<u64>,
        head_limits: HeadLimits,
        out: Buffer,
    ) -> Pump {
        Pump {
            decoder,
            framing,
            out,
            slice: 0,
            content: 0,
            limit: limit.unwrap_or(u64::MAX),
            head_limits,
            ended: false,
            trailers: None,
            finished: false,
            delivered: false,
            waiting: Waiting::Source,
            moved: false,
            sent: false,
            kept: None,
            keep_most: 0,
            once: false,
            pipe: None,
        }
    }

    /// Keeps up to `most` bytes of content, so that they can be sent again; with
    /// `once` only until something was sent.
    pub(super) fn keep(mut self, most: usize, once: bool) -> Pump {
        self.once = once;
        self.kept = Some(Vec::new());
        self.keep_most = most;
        self
    }

    /// A pump that has come as far as this one and moves nothing any more.
    pub(super) fn nothing_more(&self, limits: HeadLimits) -> Pump {
        Pump {
            ended: self.ended,
            finished: self.finished,
            delivered: self.delivered,
            ..Pump::new(BodyDecoder::empty(), Framing::Plain, None, limits, Buffer::none())
        }
    }

    /// All that was taken off the source can be sent again.
    pub(super) fn is_replayable(&self) -> bool {
        self.content == 0 || self.kept.is_some()
    }

    /// What was kept is not needed any more.
    pub(super) fn forget(&mut self) {
        self.kept = None;
    }

    /// Begins anew at another sink: `out` is the head that goes there, and what
    /// was kept goes behind it. False when not all of it can.
    pub(super) fn rewind(
        &mut self,
        framing: Framing,
        out: Buffer,
        source: &mut impl Source,
    ) -> bool {
        let replayable = self.is_replayable();
        // It lies in what was kept.
        source.consume(std::mem::take(&mut self.slice));
        self.framing = framing;
        self.out = out;
        self.finished = false;
        self.delivered = false;
        self.sent = false;
        let chunked = matches!(framing, Framing::Chunked { .. });
        let kept = self.kept.take().unwrap_or_default();
        if !kept.is_empty() {
            if chunked {
                let mut line = [0; 18];
                self.out.push(chunk_prefix(kept.len(), &mut line));
            }
            self.out.push(&kept);
            self.close_chunk();
        }
        self.kept = replayable.then_some(kept);
        if self.ended && chunked {
            self.out.push(LAST_CHUNK);
            self.out.push(self.trailers.as_deref().unwrap_or(b"\r\n"));
        }
        replayable
    }

    /// Bytes of content so far.
    pub(super) fn content_len(&self) -> u64 {
        self.content
    }

    /// Content was received.
    pub(super) fn has_content(&self) -> bool {
        self.content > 0
    }

    /// The source's part is over: the next byte received belongs to another
    /// message.
    pub(super) fn source_done(&self) -> bool {
        self.ended
    }

    /// Moves what can be moved. `Ready(Ok)` once the whole body and what was
    /// in `out` before it are with the sink's kernel.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Source,
        sink: &mut impl Sink,
    ) -> Poll<Result<(), PumpError>> {
        let mut turns = 0;
        loop {
            if self.slice > 0 || (self.ended && !self.out.is_empty()) {
                match self.poll_write(cx, source, sink) {
                    Poll::Ready(Ok(())) => continue,
                    other => return other,
                }
            }
            match self.poll_splice(cx, source, sink) {
                None => {}
                Some(Poll::Ready(Ok(()))) if turns < TURNS => {
                    turns += 1;
                    continue;
                }
                // Others of this thread wait too.
                Some(Poll::Ready(Ok(()))) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(other) => return other,
            }
            if self.ended {
                // Whoever waits holds no buffer.
                self.out = Buffer::none();
                self.waiting = Waiting::Sink;
                return sink.poll_finish(cx, self.trailers.as_deref()).map(|finished| {
                    self.finished = finished.is_ok();
                    self.delivered |= self.finished;
                    finished.map_err(PumpError::Sink)
                });
            }
            match self.decoder.decode(source.input()).map_err(PumpError::from)? {
                Step::Skip(n) => source.consume(n),
                Step::Data(n) => self.content(n, source)?,
                Step::Trailers(n) => {
                    self.trailers(source.input().get(..n).unwrap_or_default())?;
                    source.consume(n);
                }
                // Not where no body was announced: what comes then is a tunnel's.
                Step::Done if self.content > 0 && source.marks_end() && !source.is_ended() => {
                    match self.poll_more(cx, source, sink) {
                        Poll::Ready(Ok(())) if !source.input().is_empty() => {
                            return Poll::Ready(Err(PumpError::Malformed("more than its length")));
                        }
                        Poll::Ready(Ok(())) => {}
                        other => return other,
                    }
                }
                Step::Done => match source.take_trailers() {
                    Some(section) => self.trailers(&section)?,
                    None => self.end(),
                },
                Step::More => match self.poll_more(cx, source, sink) {
                    Poll::Ready(Ok(())) => {}
                    other => return other,
                },
            }
        }
    }

    /// `n` bytes of content lie at the front of the source's input.
    fn content(&mut self, n: usize, source: &mut impl Source) -> Result<(), PumpError> {
        self.content += n as u64;
        if self.content > self.limit {
            return Err(PumpError::TooLarge);
        }
        if let Some(kept) = &mut self.kept {
            if kept.len() + n <= self.keep_most {
                kept.extend_from_slice(source.input().get(..n).unwrap_or_default());
            } else {
                self.kept = None;
            }
        }
        if matches!(self.framing, Framing::Chunked { .. }) {
            let mut line = [0; 18];
            self.out.push(chunk_prefix(n, &mut line));
        }
        if n <= COPY && self.out.room() >= n + FRAMING {
            self.out.push(source.input().get(..n).unwrap_or_default());
            source.consume(n);
            self.moved = true;
            self.close_chunk();
        } else {
            self.slice = n;
        }
        Ok(())
    }

    fn close_chunk(&mut self) {
        if matches!(self.framing, Framing::Chunked { .. }) {
            self.out.push(b"\r\n");
        }
    }

    /// Writes `out` and the slice behind it, once.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Source,
        sink: &mut impl Sink,
    ) -> Poll<Result<(), PumpError>> {
        let slice = source.input().get(..self.slice).unwrap_or_default();
        let last = match self.ended {
            true => self.trailers.is_none(),
            // Known before the next look at the source where a length was
            // announced: the end goes with the last byte, and not behind it in
            // an empty DATA frame.
            false => self.decoder.remaining() == Some(0) && !source.marks_end(),
        };
        match sink.poll_write(cx, self.out.filled(), slice, last) {
            Poll::Pending => {
                self.waiting = Waiting::Sink;
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(PumpError::Sink(error))),
            Poll::Ready(Ok(written)) => {
                self.moved = true;
                self.sent |= written > 0;
                if self.sent && self.once {
                    self.kept = None;
                }
                let of_out = written.min(self.out.len());
                self.out.consume(of_out);
                let of_slice = written - of_out;
                if of_slice > 0 {
                    source.consume(of_slice);
                    self.slice -= of_slice;
                    if self.slice == 0 {
                        self.close_chunk();
                    }
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    /// The source's input holds nothing usable: send what there is, then read.
    fn poll_more(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Source,
        sink: &mut impl Sink,
    ) -> Poll<Result<(), PumpError>> {
        if !self.out.is_empty() {
            return self.poll_write(cx, source, sink);
        }
        self.out = Buffer::none();
        if sink.poll_flush(cx).map_err(PumpError::Sink)?.is_pending() {
            self.waiting = Waiting::Sink;
            return Poll::Pending;
        }
        self.delivered = self.framing == Framing::Plain && self.decoder.remaining() == Some(0);
        if source.is_ended() {
            self.decoder.eof()?;
            return Poll::Ready(Ok(()));
        }
        let much = self.decoder.remaining().unwrap_or(self.content) >= MUCH;
        match source.poll_fill(cx, much) {
            Poll::Pending => {
                self.waiting = Waiting::Source;
                Poll::Pending
            }
            Poll::Ready(Ok(_)) => {
                self.moved = true;
                Poll::Ready(Ok(()))
            }
            // A TLS peer that closes without saying so ends like a FIN: what
            // the body needs decides whether it was cut short.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Err(PumpError::Truncated))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(PumpError::Source(error))),
        }
    }

    /// The content is complete.
    fn end(&mut self) {
        if !self.ended && matches!(self.framing, Framing::Chunked { .. }) {
            self.out.push(LAST_CHUNK);
            self.out.push(b"\r\n");
        }
        self.ended = true;
    }

    /// The content is complete, and these trailer lines and the empty line
    /// came behind it.
    fn trailers(&mut self, section: &[u8]) -> Result<(), PumpError> {
        let wanted = match self.framing {
            Framing::Plain => false,
            Framing::Chunked { trailers } => trailers,
            Framing::Frames => true,
        };
        if self.ended || section.len() <= 2 || !wanted {
            self.end();
            return Ok(());
        }
        let mut fields = FieldList::take();
        http1::parse_trailers(section, &self.head_limits, fields.as_mut())?;
        let mut lines = Vec::with_capacity(section.len());
        for field in fields.iter() {
            let name = field.name.of(section);
            if http1::trailer_allowed(name, field.known) {
                for part in [name, b": ", field.value.of(section), b"\r\n"] {
                    lines.extend_from_slice(part);
                }
            }
        }
        lines.extend_from_slice(b"\r\n");
        self.ended = true;
        if self.framing != Framing::Frames {
            self.out.push(LAST_CHUNK);
            self.out.push(&lines);
        }
        self.trailers = Some(lines);
        Ok(())
    }
}
