//! What a worker holds: its clients' connections and the tunnels on them. By
//! this a stop reaches those that wait, and the operator learns what an ending
//! process waits for.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::message::Peer;
use super::worker::Worker;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Registry {
    connections: Slots<Connection>,
    /// Each has a task of its own where HTTP/2 has many on a connection.
    tunnels: Slots<Stay>,
}

/// A client's connection.
#[derive(Debug)]
struct Connection {
    waker: Option<Waker>,
    since: Instant,
    /// Whose its last request was.
    game: Option<Arc<str>>,
    /// Under way on it.
    requests: u32,
}

#[derive(Debug)]
struct Stay {
    waker: Option<Waker>,
    since: Instant,
    game: Arc<str>,
}

/// Values at places that stay, and are given again once they are free.
#[derive(Debug)]
struct Slots<T> {
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    fn put(&mut self, value: T) -> usize {
        let place = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(place) {
            Some(slot) => *slot = Some(value),
            None => self.slots.push(Some(value)),
        }
        place
    }

    fn get(&mut self, place: usize) -> Option<&mut T> {
        self.slots.get_mut(place)?.as_mut()
    }

    fn take(&mut self, place: usize) {
        if self.slots.get_mut(place).and_then(Option::take).is_some() {
            self.free.push(place);
        }
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }
}

/// What one game holds an ending process up with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Clients whose last request was for it.
    pub(crate) connections: usize,
    /// Those of them with a request under way.
    pub(crate) requests: usize,
    /// Open WebSockets.
    pub(crate) tunnels: usize,
    /// How old the oldest of all these is.
    pub(crate) oldest: Duration,
}

impl Holding {
    /// Counts another worker's in.
    pub(crate) fn add(&mut self, other: &Holding) {
        self.connections += other.connections;
        self.requests += other.requests;
        self.tunnels += other.tunnels;
        self.oldest = self.oldest.max(other.oldest);
    }
}

impl Registry {
    /// There is no connection.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Those of all tasks.
    pub(super) fn wakers(&self) -> Vec<Waker> {
        let connections = self.connections.iter().filter_map(|one| one.waker.clone());
        connections.chain(self.tunnels.iter().filter_map(|one| one.waker.clone())).collect()
    }

    fn held(&self, now: Instant) -> HashMap<Option<Arc<str>>, Holding> {
        let mut held: HashMap<Option<Arc<str>>, Holding> = HashMap::new();
        for one in self.connections.iter() {
            let requests = usize::from(one.requests > 0);
            let oldest = now - one.since;
            let one_held = Holding { connections: 1, requests, tunnels: 0, oldest };
            held.entry(one.game.clone()).or_default().add(&one_held);
        }
        for one in self.tunnels.iter() {
            let one_held = Holding { tunnels: 1, oldest: now - one.since, ..Holding::default() };
            held.entry(Some(Arc::clone(&one.game))).or_default().add(&one_held);
        }
        held
    }
}

impl Worker {
    /// Counts a client connection in; `None` when there are too many.
    pub(super) fn admit(self: &Rc<Self>) -> Option<Seat> {
        let before = self.shared.connections.fetch_add(1, Ordering::Relaxed);
        if before >= self.shared.max_connections {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let connection = Connection { waker: None, since: Instant::now(), game: None, requests: 0 };
        let place = self.registry.borrow_mut().connections.put(connection);
        Some(Seat { worker: Rc::clone(self), place })
    }

    /// A request of this game came on the client's connection.
    pub(super) fn note_game(&self, peer: &Peer, game: &Arc<str>) {
        if let Some(connection) = self.registry.borrow_mut().connections.get(peer.place) {
            // Another worker's cache line is touched only for another game.
            match &mut connection.game {
                Some(known) if Arc::ptr_eq(known, game) => {}
                other => *other = Some(Arc::clone(game)),
            }
        }
    }

    /// A request is under way on the client's connection until this is dropped.
    pub(super) fn begin_request(&self, peer: &Peer) -> UnderWay<'_> {
        if let Some(connection) = self.registry.borrow_mut().connections.get(peer.place) {
            connection.requests += 1;
        }
        UnderWay { worker: self, place: peer.place }
    }

    /// There is a tunnel of this game until this is dropped.
    pub(super) fn begin_tunnel(&self, game: Arc<str>) -> TunnelSeat<'_> {
        self.shared.tunnels.fetch_add(1, Ordering::Relaxed);
        let stay = Stay { waker: None, since: Instant::now(), game };
        let place = self.registry.borrow_mut().tunnels.put(stay);
        TunnelSeat { worker: self, place }
    }

    /// What holds an ending process up; empty before it ends.
    pub(super) fn held(&self) -> HashMap<Option<Arc<str>>, Holding> {
        match self.is_stopping() {
            true => self.registry.borrow().held(Instant::now()),
            false => HashMap::new(),
        }
    }
}

/// A counted connection; dropping it counts it out, however its task ended.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) worker: Rc<Worker>,
    place: usize,
}

impl Seat {
    /// [`Worker::stop`] shall wake this task.
    pub(super) fn register(&self, waker: &Waker) {
        if let Some(one) = self.worker.registry.borrow_mut().connections.get(self.place) {
            one.waker = Some(waker.clone());
        }
    }

    pub(super) fn place(&self) -> usize {
        self.place
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.shared.connections.fetch_sub(1, Ordering::Relaxed);
        let mut registry = self.worker.registry.borrow_mut();
        registry.connections.take(self.place);
        if registry.is_empty() {
            self.worker.emptied.notify_one();
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    worker: &'a Worker,
    place: usize,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(one) = self.worker.registry.borrow_mut().connections.get(self.place) {
            one.requests -= 1;
        }
    }
}

/// A counted tunnel, as [`Seat`] is a connection.
#[derive(Debug)]
pub(super) struct TunnelSeat<'a> {
    worker: &'a Worker,
    place: usize,
}

impl TunnelSeat<'_> {
    /// [`Worker::stop`] shall wake this task.
    pub(super) fn register(&self, waker: &Waker) {
        if let Some(one) = self.worker.registry.borrow_mut().tunnels.get(self.place) {
            one.waker = Some(waker.clone());
        }
    }
}

impl Drop for TunnelSeat<'_> {
    fn drop(&mut self) {
        self.worker.shared.tunnels.fetch_sub(1, Ordering::Relaxed);
        self.worker.registry.borrow_mut().tunnels.take(self.place);
    }
}
