//! Large bodies between two plain sockets go through a pipe of the kernel's
//! (`splice(2)`) and never come into this process: two copies less. A pipe is
//! taken when there is something to move and given back when it is empty, so
//! that one that waits holds none.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::{Framing, Pump, PumpError, Sink, Source, Waiting};
use crate::proxy::buffer::Buffer;
use crate::proxy::tcp::Tcp;

/// A body with less than this to come is copied: its pieces are few.
const LEAST: u64 = 128 * 1024;
/// Of a pipe. Linux lets every user have pipes of this size (`pipe-max-size`)
/// until all of his together have 64 MiB (`pipe-user-pages-soft`).
const SIZE: usize = 1024 * 1024;
/// Pipes of one thread, in use or not; who finds none left copies.
const MOST: usize = 16;
/// Bodies that are copied where the system had no pipe, before it is asked again.
const PAUSE: usize = 1000;
/// Pipes that nobody uses and that are kept.
const KEEP: usize = 4;

thread_local! {
    static IDLE: RefCell<Vec<Ends>> = const { RefCell::new(Vec::new()) };
    static MADE: Cell<usize> = const { Cell::new(0) };
    /// So many bodies are copied before a pipe is asked for again.
    static REFUSED: Cell<usize> = const { Cell::new(0) };
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

impl Drop for Ends {
    fn drop(&mut self) {
        // While the thread ends nobody counts any more.
        let _ = MADE.try_with(|made| made.set(made.get().saturating_sub(1)));
    }
}

/// A pipe and how much is in it.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// An empty one; `None`: there is none to be had.
    fn take() -> Option<Pipe> {
        let ends = match IDLE.with_borrow_mut(Vec::pop) {
            Some(ends) => ends,
            None => make()?,
        };
        Some(Pipe { ends: Some(ends), held: 0 })
    }

    fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves up to `most` bytes from the socket into the pipe, which is empty.
    /// `Ready(0)`: nothing more comes.
    fn poll_fill(
        &mut self,
        task: &mut Context<'_>,
        from: &Tcp,
        most: u64,
    ) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        let most = usize::try_from(most).map_or(SIZE, |most| most.min(SIZE));
        let moved = from.poll_take(task, || {
            splice(from.get(), None, &ends.write, None, most, SpliceFlags::NONBLOCK)
        });
        if let Poll::Ready(Ok(n)) = moved {
            self.held = n;
        }
        moved
    }

    /// Moves what is in the pipe into the socket, as much as that takes.
    fn poll_empty(&mut self, task: &mut Context<'_>, to: &Tcp) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(0)) };
        let held = self.held;
        let moved = to.poll_give(task, || {
            splice(&ends.read, None, to.get(), None, held, SpliceFlags::NONBLOCK)
        });
        if let Poll::Ready(Ok(n)) = moved {
            self.held = held.saturating_sub(n);
        }
        moved
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let Some(ends) = self.ends.take().filter(|_| self.held == 0) else { return };
        let _ = IDLE.try_with(|idle| {
            if let Ok(mut idle) = idle.try_borrow_mut()
                && idle.len() < KEEP
            {
                idle.push(ends);
            }
        });
    }
}

fn make() -> Option<Ends> {
    if MADE.get() >= MOST {
        return None;
    }
    if let Some(left) = REFUSED.get().checked_sub(1) {
        REFUSED.set(left);
        return None;
    }
    let ends = pipe();
    if ends.is_none() {
        REFUSED.set(PAUSE);
    }
    ends
}

fn pipe() -> Option<Ends> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
    MADE.set(MADE.get() + 1);
    let ends = Ends { read, write };
    // A small one would cost more calls than copies: then there is none.
    fcntl_setpipe_size(&ends.write, SIZE).ok()?;
    Some(ends)
}

impl Pump {
    /// Moves a piece of a large body past us, where both ends are plain sockets.
    /// `None`: it is to be copied.
    pub(super) fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        source: &impl Source,
        sink: &impl Sink,
    ) -> Option<Poll<Result<(), PumpError>>> {
        if self.pipe.is_none() {
            let left = self.decoder.remaining().filter(|left| *left >= LEAST)?;
            let (from, _) = (source.plain()?, sink.plain()?);
            if self.framing != Framing::Plain || !self.out.is_empty() || self.kept.is_some() {
                return None;
            }
            // Whoever waits holds no buffer.
            self.out = Buffer::none();
            let mut pipe = Pipe::take()?;
            match pipe.poll_fill(cx, from, left) {
                Poll::Pending => {
                    self.waiting = Waiting::Source;
                    return Some(Poll::Pending);
                }
                Poll::Ready(Ok(0)) => return Some(Poll::Ready(Err(PumpError::Truncated))),
                Poll::Ready(Ok(n)) => {
                    self.decoder.skip(n as u64);
                    self.content += n as u64;
                    self.moved = true;
                    self.pipe = Some(pipe);
                }
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(PumpError::Source(error)))),
            }
            if self.content > self.limit {
                return Some(Poll::Ready(Err(PumpError::TooLarge)));
            }
        }
        // Without a sink any more it is thrown away with the pipe.
        while let (Some(pipe), Some(to)) = (&mut self.pipe, sink.plain()) {
            match pipe.poll_empty(cx, to) {
                Poll::Pending => {
                    self.waiting = Waiting::Sink;
                    return Some(Poll::Pending);
                }
                Poll::Ready(Err(error)) => return Some(Poll::Ready(Err(PumpError::Sink(error)))),
                Poll::Ready(Ok(_)) => (self.moved, self.sent) = (true, true),
            }
            if pipe.is_empty() {
                break;
            }
        }
        self.pipe = None;
        Some(Poll::Ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_so_many_pipes_and_keeps_the_empty_ones() {
        let mut all: Vec<Pipe> = std::iter::from_fn(Pipe::take).take(MOST + 1).collect();
        assert_eq!(all.len(), MOST);
        assert!(Pipe::take().is_none());
        // What is in one must not come out elsewhere.
        all[0].held = 1;
        all.truncate(1);
        drop(all);
        assert_eq!(IDLE.with_borrow(Vec::len), KEEP);
        assert_eq!(MADE.get(), KEEP);
    }
}
