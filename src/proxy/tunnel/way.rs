//! One direction of a tunnel.

use std::io;
use std::task::{Context, Poll, ready};

use super::frames::{Frames, Standing};
use crate::proxy::body::{Sink, Source};
use crate::proxy::buffer::{Buffer, SMALL};

/// What becomes of what the source still says.
#[derive(Debug)]
enum Pass {
    /// It passes.
    All,
    /// It passes up to the end of a frame, and there this Close goes.
    ToBoundary(Box<[u8]>),
    /// It is thrown away.
    Nothing,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Way {
    /// What goes before everything else.
    head: Buffer,
    /// The last read filled its buffer: the next gets a large one.
    much: bool,
    /// The source ended, and all it said is with the sink.
    ended: bool,
    /// The sink was told.
    pub(super) passed_on: bool,
    /// Something moved since this was last cleared.
    pub(super) moved: bool,
    /// So many bytes of the source's went to the sink.
    pub(super) bytes: u64,
    /// What the source said, as far as the sink has it.
    frames: Frames,
    pass: Pass,
    /// A Close of ours went to the sink.
    closed: bool,
}

impl Way {
    pub(super) fn new(head: Buffer, frames: Frames) -> Way {
        Way {
            head,
            much: false,
            ended: false,
            passed_on: false,
            moved: false,
            bytes: 0,
            frames,
            pass: Pass::All,
            closed: false,
        }
    }

    /// Moves what can be moved; ready once nothing more comes. A [`Pump`] could
    /// do it, but asks at each step what only a body needs to know.
    ///
    /// [`Pump`]: crate::proxy::body::Pump
    pub(super) fn poll(
        &mut self,
        task: &mut Context<'_>,
        source: &mut impl Source,
        sink: &mut impl Sink,
    ) -> Poll<io::Result<()>> {
        while !self.ended {
            let input = source.input();
            if !self.head.is_empty() || !input.is_empty() {
                let n = ready!(sink.poll_write(task, self.head.filled(), input, false))?;
                let of_head = n.min(self.head.len());
                self.head.consume(of_head);
                self.frames.advance(input.get(..n - of_head).unwrap_or_default());
                source.consume(n - of_head);
                self.bytes += (n - of_head) as u64;
                self.moved = true;
                continue;
            }
            // Whoever waits holds no buffer.
            if self.head.has_room() {
                self.head = Buffer::none();
            }
            ready!(sink.poll_flush(task))?;
            if source.is_ended() {
                self.ended = true;
                break;
            }
            let n = ready!(source.poll_fill(task, self.much))?;
            self.much = n >= SMALL;
            self.moved = true;
        }
        Poll::Ready(Ok(()))
    }

    /// The tunnel is to end: from now on [`Way::poll_last`] moves it. `close` is
    /// said at the next boundary between frames, where there is such a thing.
    pub(super) fn part(&mut self, close: Vec<u8>) {
        if !self.ended {
            self.pass = Pass::ToBoundary(close.into());
            self.turn();
        }
    }

    /// Looks whether it stands where a Close can go.
    fn turn(&mut self) {
        if let Pass::ToBoundary(close) = &self.pass {
            self.pass = match self.frames.standing() {
                Standing::Within => return,
                Standing::Boundary => {
                    self.head.push(close);
                    self.closed = true;
                    Pass::Nothing
                }
                // The source has said it itself: the sink's answer is to come.
                Standing::Closed => Pass::All,
                Standing::Unknown => Pass::Nothing,
            };
        }
    }

    /// Moves what is still to be moved, and reads what the source says until it
    /// ends. After an error nothing moves any more.
    pub(super) fn poll_last(
        &mut self,
        task: &mut Context<'_>,
        source: &mut impl Source,
        sink: &mut impl Sink,
    ) {
        if let Poll::Ready(done) = self.poll_parting(task, source, sink) {
            self.ended = true;
            if done.is_err() {
                self.head = Buffer::none();
            }
        }
    }

    fn poll_parting(
        &mut self,
        task: &mut Context<'_>,
        source: &mut impl Source,
        sink: &mut impl Sink,
    ) -> Poll<io::Result<()>> {
        while !self.ended {
            if !self.head.is_empty() {
                let n = ready!(sink.poll_write(task, self.head.filled(), &[], false))?;
                self.head.consume(n);
                continue;
            }
            let input = source.input();
            if !input.is_empty() {
                let passing = match &self.pass {
                    Pass::All => input,
                    Pass::ToBoundary(_) => {
                        input.get(..self.frames.clone().frame(input)).unwrap_or_default()
                    }
                    Pass::Nothing => &[],
                };
                let n = match passing.is_empty() {
                    true => input.len(),
                    false => {
                        let n = ready!(sink.poll_write(task, passing, &[], false))?;
                        self.bytes += n as u64;
                        n
                    }
                };
                self.frames.advance(input.get(..n).unwrap_or_default());
                source.consume(n);
                self.turn();
                continue;
            }
            ready!(sink.poll_flush(task))?;
            if source.is_ended() {
                break;
            }
            ready!(source.poll_fill(task, false))?;
        }
        Poll::Ready(Ok(()))
    }

    /// The source has said its last: a Close, or the end.
    pub(super) fn is_heard(&self) -> bool {
        self.ended || self.frames.standing() == Standing::Closed
    }

    /// The sink can be told the end: nothing more goes to it, and who got a
    /// Close from us has answered it, on `other`.
    pub(super) fn may_end(&self, other: &Way) -> bool {
        let over = self.ended || matches!(self.pass, Pass::Nothing);
        over && self.head.is_empty() && (!self.closed || other.is_heard())
    }
}
