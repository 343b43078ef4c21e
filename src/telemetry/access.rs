//! The access log, from a worker's line to the file.
//!
//! Each worker gathers lines in a buffer of its own and hands it over when it is
//! full, or a second after its first line. One thread writes them, so that no
//! worker ever waits for a disk or a reader: what that thread cannot keep up with
//! is dropped and counted. A buffer is whole lines, and is written at once behind
//! what is there (into a pipe in pieces that the system keeps together), so that
//! two processes (an upgrade) can write to one place.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{io, mem, thread};

use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tracing::{error, info, warn};

use super::line::Clock;

mod sink;

pub(crate) use sink::Sink;

/// A buffer with so many bytes is handed over.
const FULL: usize = 32 << 10;
/// Room for the line that makes it full.
const ROOM: usize = FULL + (4 << 10);
/// So long after its first line it is handed over all the same.
const AGE: Duration = Duration::from_secs(1);
/// So many buffers may wait: 9 MiB.
const WAITING: usize = 256;
/// So many empty ones are kept.
const SPARE: usize = 8;
/// How long the end of the process waits for the last of it.
const END: Duration = Duration::from_secs(5);

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Combined,
}

/// What all workers share of it; see the module.
#[derive(Debug)]
pub(crate) struct AccessLog {
    /// Another number for each place it goes to; 0: nowhere.
    epoch: AtomicU64,
    sink: Mutex<Option<Arc<Sink>>>,
    jobs: Sender<Job>,
    /// Until there is something to write.
    idle: Mutex<Option<Receiver<Job>>>,
    waiting: AtomicUsize,
    spare: Mutex<Vec<Vec<u8>>>,
    dropped: AtomicU64,
}

/// What the writing thread does.
#[derive(Debug)]
enum Job {
    Write { sink: Arc<Sink>, bytes: Vec<u8> },
    Reopen(Arc<Sink>),
    End(oneshot::Sender<()>),
}

impl Default for AccessLog {
    fn default() -> AccessLog {
        let (jobs, idle) = channel();
        AccessLog {
            epoch: AtomicU64::new(0),
            sink: Mutex::default(),
            jobs,
            idle: Mutex::new(Some(idle)),
            waiting: AtomicUsize::new(0),
            spare: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }
}

impl AccessLog {
    /// From now on lines go there; what was gathered before goes where it went.
    ///
    /// # Errors
    /// When there can be no thread to write them.
    pub(crate) fn switch(self: &Arc<Self>, sink: Option<Sink>) -> io::Result<()> {
        if sink.is_some()
            && let Some(jobs) = locked(&self.idle).take()
        {
            let log = Arc::clone(self);
            let writer = move || log.work(&jobs);
            thread::Builder::new().name("access-log".to_owned()).spawn(writer)?;
        }
        // Another epoch than any before, so that a worker sees that it changed.
        static EPOCH: AtomicU64 = AtomicU64::new(1);
        let epoch = sink.as_ref().map_or(0, |_| EPOCH.fetch_add(1, Ordering::Relaxed));
        *locked(&self.sink) = sink.map(Arc::new);
        self.epoch.store(epoch, Ordering::Release);
        Ok(())
    }

    /// Opens the file of that name anew: it was renamed.
    pub(crate) fn reopen(&self) {
        match &*locked(&self.sink) {
            // The receiver lives as long as this.
            Some(sink) => drop(self.jobs.send(Job::Reopen(Arc::clone(sink)))),
            None => info!("USR1: there is no access log to be opened anew"),
        }
    }

    /// Waits, but not for ever, until all that was handed over is written.
    pub(crate) async fn end(&self) {
        if locked(&self.idle).is_some() {
            return;
        }
        let (done, ended) = oneshot::channel();
        let _ = self.jobs.send(Job::End(done));
        if tokio::time::timeout(END, ended).await.is_err() {
            error!("access log: its last lines cannot be written: nobody takes them");
        }
    }

    /// Lines that were not written: the writer could not keep up, or the file
    /// took none.
    pub(crate) fn lost(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Hands a buffer over, or drops what is in it.
    fn put(&self, sink: &Arc<Sink>, bytes: Vec<u8>) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.lose(lines(&bytes));
            if sink.begin_trouble() {
                warn!(to = sink.name(), "access log: cannot keep up, lines are dropped");
            }
            return;
        }
        let _ = self.jobs.send(Job::Write { sink: Arc::clone(sink), bytes });
    }

    fn lose(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    fn buffer(&self) -> Vec<u8> {
        let spare = self.spare.try_lock().ok().and_then(|mut spare| spare.pop());
        spare.unwrap_or_else(|| Vec::with_capacity(ROOM))
    }

    /// The writing thread.
    fn work(&self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Write { sink, mut bytes } => {
                    let waiting = self.waiting.fetch_sub(1, Ordering::Relaxed) - 1;
                    self.lose(sink.write(&bytes));
                    if waiting == 0 {
                        sink.end_trouble(self.lost());
                    }
                    bytes.clear();
                    let mut spare = locked(&self.spare);
                    if spare.len() < SPARE && bytes.capacity() <= 2 * ROOM {
                        spare.push(bytes);
                    }
                }
                Job::Reopen(sink) => sink.reopen(),
                Job::End(done) => drop(done.send(())),
            }
        }
    }
}

/// Nothing that is locked here is ever left half done.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// A worker's own part of it. What is left goes out when it is dropped.
#[derive(Debug)]
pub(crate) struct AccessBuffer {
    log: Arc<AccessLog>,
    gathered: RefCell<Gathered>,
    /// Somebody comes for what is gathered.
    armed: Cell<bool>,
    /// The event loop is about to end: nobody does.
    ending: Cell<bool>,
}

#[derive(Debug, Default)]
struct Gathered {
    epoch: u64,
    sink: Option<Arc<Sink>>,
    bytes: Vec<u8>,
    clock: Clock,
}

impl AccessBuffer {
    pub(crate) fn new(log: Arc<AccessLog>) -> AccessBuffer {
        let (gathered, armed, ending) = Default::default();
        AccessBuffer { log, gathered, armed, ending }
    }

    /// Whether anybody wants lines.
    pub(crate) fn is_on(&self) -> bool {
        self.log.epoch.load(Ordering::Acquire) != 0
    }

    /// Has a line written, if anybody wants it; false: this one has none.
    pub(crate) fn write(
        self: &Rc<Self>,
        line: impl FnOnce(Format, &mut Vec<u8>, &mut Clock) -> bool,
    ) {
        let mut gathered = self.gathered.borrow_mut();
        let epoch = self.log.epoch.load(Ordering::Acquire);
        if gathered.epoch != epoch {
            self.hand_over(&mut gathered);
            gathered.epoch = epoch;
            gathered.sink = locked(&self.log.sink).clone().filter(|_| epoch != 0);
        }
        let Gathered { sink: Some(sink), bytes, clock, .. } = &mut *gathered else { return };
        if bytes.capacity() == 0 {
            *bytes = self.log.buffer();
        }
        if !line(sink.format, bytes, clock) {
            return;
        }
        bytes.push(b'\n');
        if bytes.len() >= FULL {
            self.hand_over(&mut gathered);
        } else if !self.armed.get() && !self.ending.get() {
            self.armed.set(true);
            let own = Rc::clone(self);
            spawn_local(async move {
                tokio::time::sleep(AGE).await;
                own.armed.set(false);
                let mut gathered = own.gathered.borrow_mut();
                own.hand_over(&mut gathered);
                // Who has nothing to say keeps no file open that the log may have left.
                (gathered.epoch, gathered.sink) = (0, None);
            });
        }
    }

    /// The event loop is about to end.
    pub(crate) fn end(&self) {
        self.ending.set(true);
    }

    fn hand_over(&self, gathered: &mut Gathered) {
        if let Some(sink) = gathered.sink.as_ref().filter(|_| !gathered.bytes.is_empty()) {
            self.log.put(sink, mem::take(&mut gathered.bytes));
        }
    }
}

impl Drop for AccessBuffer {
    fn drop(&mut self) {
        let mut gathered = self.gathered.take();
        self.hand_over(&mut gathered);
    }
}

#[cfg(test)]
mod tests;
