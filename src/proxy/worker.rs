//! A worker: one thread, one loop, and all that is its own. A request never
//! leaves the worker that accepted it, so nothing here is locked or shared.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::http2::upstream::Shared as SharedUpstream;
use super::in_flight::InFlight;
use super::players::Players;
use super::pool::Pool;
use super::record::Recent;
use super::registry::Registry;
use super::sticky::StickyCounts;
use super::tail::Readers;
use super::tunnel::LastCall;
use super::verified::Verified;
use crate::policy::balance::Cursor;
use crate::policy::sticky::Seconds;
use crate::state::{Group, Live, Snapshot};
use crate::telemetry::access::{AccessBuffer, AccessLog};
use crate::telemetry::counts::Lane;
use crate::telemetry::failures::FailureLog;

/// What became of connections before there was a request.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    /// Accepted.
    pub accepted: AtomicU64,
    /// Turned away: there were as many as there may be.
    pub refused: AtomicU64,
    /// That shook no hands, though they tried.
    pub tls: AtomicU64,
    /// Without the PROXY header that was to be there.
    pub proxy: AtomicU64,
}

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The current snapshot.
    pub live: Live,
    /// Client connections of all workers.
    pub connections: AtomicUsize,
    /// And what became of others.
    pub doors: Doors,
    /// Tunnels of all workers, whatever became of their backends.
    pub tunnels: AtomicUsize,
    /// Where each request leaves a line, if it does.
    pub access: Arc<AccessLog>,
    /// The most of them.
    pub max_connections: usize,
    /// How many workers there are.
    pub workers: usize,
}

/// What requests are served by.
#[derive(Debug)]
pub(super) struct View {
    pub(super) snapshot: Arc<Snapshot>,
}

/// What a worker keeps of a group, for as long as the group lives.
#[derive(Debug)]
struct Place {
    /// The group's; another's when it is gone.
    life: u64,
    cursor: Cursor,
    /// Requests that it was not told of yet.
    requests: u32,
}

/// A group is told of so many requests at once: counting each of them would move
/// its counter from core to core all the time.
const TOLD: u32 = 32;

/// See the module.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    view: RefCell<Rc<View>>,
    /// By the groups' slots.
    places: RefCell<Vec<Option<Place>>>,
    pub(super) pool: Pool,
    /// Connections to `h2c` backends.
    pub(super) shared_upstream: SharedUpstream,
    /// What lockgate or a backend failed to do.
    pub(super) failures: FailureLog,
    /// What clients did wrong.
    pub(super) refusals: FailureLog,
    stopping: Cell<Option<Instant>>,
    /// A new process has the sockets.
    handed_over: Cell<bool>,
    /// A port was taken away at some time.
    left_ports: Cell<bool>,
    last_call: Cell<Option<LastCall>>,
    last_calls: Cell<u32>,
    cut: Cell<bool>,
    pub(super) registry: RefCell<Registry>,
    pub(super) emptied: Notify,
    dice: Cell<u64>,
    request_ids: Cell<u64>,
    /// What clients' sticky cookies were worth.
    pub(super) sticky: StickyCounts,
    /// Sticky cookies that were good.
    pub(super) verified: Verified,
    /// Who was on which backend.
    pub(super) players: Players,
    /// Its own among the counters.
    pub(super) lane: Lane,
    /// Requests that failed.
    pub(super) recent: Recent,
    /// How many requests each has at the moment.
    pub(super) in_flight: InFlight,
    /// Its part of the access log.
    pub(super) access: Rc<AccessBuffer>,
    /// Who reads along.
    pub(super) readers: Rc<Readers>,
    date: RefCell<(u64, String)>,
}

impl Worker {
    /// `index` only has to differ between the workers of a process.
    pub(super) fn new(index: usize, shared: Arc<Shared>) -> Worker {
        let seed = seed(index);
        let lane = Lane { index, of: shared.workers };
        let access = Rc::new(AccessBuffer::new(Arc::clone(&shared.access)));
        Worker {
            view: RefCell::new(Rc::new(View { snapshot: shared.live.load() })),
            places: RefCell::default(),
            shared,
            pool: Pool::default(),
            shared_upstream: SharedUpstream::default(),
            failures: FailureLog::default(),
            refusals: FailureLog::default(),
            stopping: Cell::new(None),
            handed_over: Cell::new(false),
            left_ports: Cell::new(false),
            last_call: Cell::new(None),
            last_calls: Cell::new(0),
            cut: Cell::new(false),
            registry: RefCell::default(),
            emptied: Notify::new(),
            dice: Cell::new(seed | 1),
            request_ids: Cell::new(seed.rotate_left(32)),
            sticky: StickyCounts::default(),
            verified: Verified::default(),
            players: Players::default(),
            lane,
            recent: Recent::default(),
            in_flight: InFlight::default(),
            access,
            readers: Rc::default(),
            date: RefCell::default(),
        }
    }

    /// The current view; a request keeps the one it began with.
    pub(super) fn view(&self) -> Rc<View> {
        let mut view = self.view.borrow_mut();
        if view.snapshot.generation != self.shared.live.generation() {
            *view = Rc::new(View { snapshot: self.shared.live.load() });
        }
        Rc::clone(&view)
    }

    /// What is kept of this group. Its cycle begins somewhere, by chance.
    fn place(&self, group: &Group) -> RefMut<'_, Place> {
        let mut places = self.places.borrow_mut();
        let at = group.slot.index;
        if places.len() <= at {
            places.resize_with(at + 1, || None);
        }
        RefMut::map(places, |places| {
            // There are that many now; a slot that another held is filled anew.
            let fresh = || Place {
                life: group.slot.life,
                cursor: Cursor::new(&group.schedule, self.chance()),
                requests: 0,
            };
            #[expect(clippy::indexing_slicing, reason = "resized just above")]
            let place = &mut places[at];
            if place.as_ref().is_none_or(|place| place.life != group.slot.life) {
                *place = None;
            }
            place.get_or_insert_with(fresh)
        })
    }

    /// The worker's place in the cycle of the group.
    pub(super) fn cursor(&self, group: &Group) -> RefMut<'_, Cursor> {
        RefMut::map(self.place(group), |place| &mut place.cursor)
    }

    /// Counts a request of the group.
    pub(super) fn note_request(&self, group: &Group) {
        let mut place = self.place(group);
        place.requests += 1;
        if place.requests == TOLD {
            place.requests = 0;
            group.note_requests(TOLD);
        }
    }

    /// 64 random bits (xorshift64*): for load balancing, not for secrets.
    pub(super) fn chance(&self) -> u64 {
        let mut x = self.dice.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.dice.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// An id for a request that needs one: unlike any other of this machine's
    /// in practice, and short enough to be read out on the telephone.
    pub(super) fn request_id(&self) -> u64 {
        let id = self.request_ids.get().wrapping_add(1);
        self.request_ids.set(id);
        id
    }

    /// Seconds since 1970, as cookies count them.
    pub(super) fn unix_seconds(&self) -> Seconds {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| Seconds::try_from(since.as_secs()).unwrap_or(Seconds::MAX))
    }

    /// Calls `write` with the current time as HTTP writes it, for instance
    /// `Sun, 06 Nov 1994 08:49:37 GMT`. Formatted once a second.
    pub(super) fn with_date(&self, write: impl FnOnce(&str)) {
        let now = SystemTime::now();
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut date = self.date.borrow_mut();
        if date.0 != second || date.1.is_empty() {
            *date = (second, httpdate::fmt_http_date(now));
        }
        write(&date.1);
    }

    /// The process is ending.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get().is_some() || self.handed_over.get()
    }

    /// A connection that waits may go on waiting: what its client asks next, which
    /// may be on its way, is answered, and then it ends. Closing it now would
    /// fail that request.
    pub(super) fn may_wait(&self) -> bool {
        self.handed_over.get()
    }

    /// Connections on this port end after the request they serve.
    pub(super) fn is_leaving(&self, port: u16) -> bool {
        self.is_stopping() || (self.left_ports.get() && self.view().snapshot.port(port).is_none())
    }

    /// Some ports are gone: those who wait on them are woken to see it.
    pub(super) fn leave_ports(&self) {
        self.left_ports.set(true);
        self.wake_all();
    }

    /// Since when the process is ending.
    pub(super) fn stopping_since(&self) -> Option<Instant> {
        self.stopping.get()
    }

    /// Begins the end: wakes every connection.
    pub(super) fn stop(&self, within: Option<Duration>) {
        self.stopping.set(Some(Instant::now()));
        self.call(within);
        self.wake_all();
    }

    /// Begins the end of a process that handed its sockets over.
    pub(super) fn hand_over(&self, within: Option<Duration>) {
        self.handed_over.set(true);
        self.call(within);
        self.wake_all();
    }

    /// Tunnels end at moments before this deadline, if there is one, and time
    /// until then.
    fn call(&self, within: Option<Duration>) {
        let within = within.filter(|within| !within.is_zero());
        self.last_call.set(within.map(|within| LastCall::new(Instant::now(), within)));
        self.last_calls.set(self.last_calls.get().wrapping_add(1));
    }

    /// When tunnels end, once the process does.
    pub(super) fn last_call(&self) -> Option<LastCall> {
        self.last_call.get()
    }

    /// Another number whenever [`Worker::last_call`] is another.
    pub(super) fn last_calls(&self) -> u32 {
        self.last_calls.get()
    }

    /// The end of the process ended something before its time.
    pub(super) fn note_cut(&self) {
        self.cut.set(true);
    }

    /// Whether [`Worker::note_cut`] was called.
    pub(super) fn has_cut(&self) -> bool {
        self.cut.get()
    }

    fn wake_all(&self) {
        let wakers = self.registry.borrow().wakers();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Waits until the last connection is gone.
    pub(super) async fn emptied(&self) {
        while !self.registry.borrow().is_empty() {
            self.emptied.notified().await;
        }
    }
}

/// Differs between processes and workers; the standard library's hasher keys
/// are the system's randomness.
fn seed(index: usize) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(index)
}
