//! A worker's idle upstream connections, kept per backend, the one used last
//! taken first: the others grow old and go.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use super::conn::Conn;

/// How often what is idle is looked through.
pub(super) const SWEEP: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: RefCell<HashMap<u64, VecDeque<Idle>, BuildHasherDefault<IdHasher>>>,
}

/// Backend ids are our own and count up: nobody chooses them to collide, so
/// one multiplication spreads them well enough.
#[derive(Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = (self.0 ^ id).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Idle {
    conn: Conn,
    since: Instant,
    until: Instant,
}

impl Pool {
    /// The connection to this backend that was used last, if one is fit to be
    /// used: not timed out, nothing received on it, not closed, and idle for no
    /// longer than `age`.
    pub(super) fn take(&self, backend: u64, age: Duration, now: Instant) -> Option<Conn> {
        let mut idle = self.idle.borrow_mut();
        let stack = idle.get_mut(&backend)?;
        while let Some(idle) = stack.pop_back() {
            if idle.until <= now || !idle.conn.is_quiet() {
                continue;
            }
            if now.saturating_duration_since(idle.since) > age {
                // Those below are older.
                stack.push_back(idle);
                return None;
            }
            return Some(idle.conn);
        }
        None
    }

    /// Keeps a connection from now until `until`; the oldest goes when there are
    /// `max`.
    pub(super) fn put(&self, backend: u64, conn: Conn, since: Instant, until: Instant, max: usize) {
        if max == 0 {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let stack = idle.entry(backend).or_default();
        if stack.len() >= max {
            stack.pop_front();
        }
        stack.push_back(Idle { conn, since, until });
    }

    /// Drops what timed out or was closed by its backend.
    pub(super) fn sweep(&self, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|_, stack| {
            stack.retain(|idle| now < idle.until && idle.conn.is_quiet());
            !stack.is_empty()
        });
    }

    /// Closes those to this backend.
    pub(super) fn forget(&self, backend: u64) {
        self.idle.borrow_mut().remove(&backend);
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}
