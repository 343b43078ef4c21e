//! What is counted of requests and attempts. Each worker counts in a lane of its
//! own, so that no request waits for another core; whoever shows the numbers adds
//! the lanes up. A lane begins with the first request: what serves nobody costs
//! nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Which lane is a worker's, and how many there are.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// From 0.
    pub index: usize,
    /// The process's workers.
    pub of: usize,
}

/// A number that only its own worker changes.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// So many more. Not for two threads at once: one of both could be lost.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    /// What it is now.
    #[must_use]
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The upper ends of a [`Histogram`]'s buckets in microseconds; the last bucket,
/// behind them, has none.
pub const BOUNDS: [u64; 18] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// How long something took, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);

impl From<Duration> for Micros {
    #[inline]
    fn from(took: Duration) -> Micros {
        let whole = took.as_secs().saturating_mul(1_000_000);
        Micros(whole.saturating_add(took.subsec_micros().into()))
    }
}

impl From<Micros> for Duration {
    fn from(Micros(took): Micros) -> Duration {
        Duration::from_micros(took)
    }
}

/// Where to look for the bucket of a number, by how many binary digits it has: in
/// none of the buckets before. At most one bound is between two powers of two, so
/// it is this one or the next.
#[expect(clippy::indexing_slicing, reason = "done by the compiler")]
const FIRST: [u8; 65] = {
    let mut first = [0; 65];
    let mut bits = 1;
    while bits < first.len() {
        let least = 1 << (bits - 1);
        let mut bound = first[bits - 1];
        while (bound as usize) < BOUNDS.len() && BOUNDS[bound as usize] < least {
            bound += 1;
        }
        first[bits] = bound;
        bits += 1;
    }
    first
};

/// The first bucket whose bound the number does not exceed.
#[inline]
fn bucket(micros: u64) -> usize {
    let bits = u64::BITS - micros.leading_zeros();
    let first = usize::from(FIRST.get(bits as usize).copied().unwrap_or_default());
    first + usize::from(BOUNDS.get(first).is_some_and(|bound| *bound < micros))
}

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Count; BOUNDS.len() + 1],
    /// In microseconds.
    sum: Count,
}

impl Histogram {
    /// It took so long once more.
    #[inline]
    pub fn add(&self, took: Micros) {
        note(&self.buckets, bucket(took.0));
        self.sum.add(took.0);
    }
}

/// The sum of lanes of a [`Histogram`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many were in each bucket.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// All together, in microseconds.
    pub sum: u64,
}

impl Durations {
    fn add(&mut self, lane: &Histogram) {
        for (sum, count) in self.buckets.iter_mut().zip(&lane.buckets) {
            *sum += count.get();
        }
        self.sum += lane.sum.get();
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// So many causes can be told apart, and then some.
pub const CAUSES: usize = 32;
/// Statuses by their hundreds; 0: there was none.
pub const CLASSES: usize = 6;

/// What clients met: of a group, of a game outside its groups, or of nobody's.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Requests {
    /// By the hundreds of the status the client got (499: it was gone).
    pub by_class: [Count; CLASSES],
    /// Requests that failed, by the cause's number.
    pub by_cause: [Count; CAUSES],
    /// Body bytes from clients.
    pub received: Count,
    /// Body bytes to clients.
    pub sent: Count,
    /// From a request's head to its response's end; tunnels are not among them.
    pub took: Histogram,
    /// [`Attempts::connect`] of all backends, those that are gone included.
    pub connect: Histogram,
    /// [`Attempts::header`] likewise.
    pub header: Histogram,
}

/// What became of attempts at a backend.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Attempts {
    /// By the hundreds of the status it answered with; 0: it did not answer.
    pub by_class: [Count; CLASSES],
    /// Those that failed, by the cause's number.
    pub by_cause: [Count; CAUSES],
    /// Those that followed another of the same request.
    pub retries: Count,
    /// Body bytes to it.
    pub sent: Count,
    /// Body bytes from it.
    pub received: Count,
    /// Bytes of tunnels to it.
    pub tunnel_sent: Count,
    /// Bytes of tunnels from it.
    pub tunnel_received: Count,
    /// How long connections took to open, with their TLS handshake.
    pub connect: Histogram,
    /// From an attempt's beginning to the header of its response.
    pub header: Histogram,
}

/// One more of what has this number.
#[inline]
pub fn note(counts: &[Count], number: usize) {
    if let Some(count) = counts.get(number) {
        count.add(1);
    }
}

/// The lanes of all workers.
#[derive(Debug)]
pub struct Lanes<T>(OnceLock<Box<[T]>>);

impl<T> Default for Lanes<T> {
    fn default() -> Lanes<T> {
        Lanes(OnceLock::new())
    }
}

impl<T: Default> Lanes<T> {
    /// A worker's own.
    #[must_use]
    #[inline]
    pub fn of(&self, lane: Lane) -> Option<&T> {
        self.0.get_or_init(|| (0..lane.of).map(|_| T::default()).collect()).get(lane.index)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.0.get().into_iter().flatten()
    }
}

/// The sums of [`Requests`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestSums {
    /// See [`Requests::by_class`].
    pub by_class: [u64; CLASSES],
    /// See [`Requests::by_cause`].
    pub by_cause: [u64; CAUSES],
    /// See [`Requests::received`].
    pub received: u64,
    /// See [`Requests::sent`].
    pub sent: u64,
    /// See [`Requests::took`].
    pub took: Durations,
    /// See [`Requests::connect`].
    pub connect: Durations,
    /// See [`Requests::header`].
    pub header: Durations,
}

impl Lanes<Requests> {
    /// Of all workers together.
    #[must_use]
    pub fn sum(&self) -> RequestSums {
        let mut sums = RequestSums::default();
        for lane in self.all() {
            add(&mut sums.by_class, &lane.by_class);
            add(&mut sums.by_cause, &lane.by_cause);
            sums.received += lane.received.get();
            sums.sent += lane.sent.get();
            sums.took.add(&lane.took);
            sums.connect.add(&lane.connect);
            sums.header.add(&lane.header);
        }
        sums
    }
}

/// The sums of [`Attempts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptSums {
    /// See [`Attempts::by_class`].
    pub by_class: [u64; CLASSES],
    /// See [`Attempts::by_cause`].
    pub by_cause: [u64; CAUSES],
    /// See [`Attempts::retries`].
    pub retries: u64,
    /// See [`Attempts::sent`].
    pub sent: u64,
    /// See [`Attempts::received`].
    pub received: u64,
    /// See [`Attempts::tunnel_sent`].
    pub tunnel_sent: u64,
    /// See [`Attempts::tunnel_received`].
    pub tunnel_received: u64,
    /// See [`Attempts::connect`].
    pub connect: Durations,
    /// See [`Attempts::header`].
    pub header: Durations,
}

impl Lanes<Attempts> {
    /// Of all workers together.
    #[must_use]
    pub fn sum(&self) -> AttemptSums {
        let mut sums = AttemptSums::default();
        for lane in self.all() {
            add(&mut sums.by_class, &lane.by_class);
            add(&mut sums.by_cause, &lane.by_cause);
            sums.retries += lane.retries.get();
            sums.sent += lane.sent.get();
            sums.received += lane.received.get();
            sums.tunnel_sent += lane.tunnel_sent.get();
            sums.tunnel_received += lane.tunnel_received.get();
            sums.connect.add(&lane.connect);
            sums.header.add(&lane.header);
        }
        sums
    }
}

fn add(sums: &mut [u64], lane: &[Count]) {
    for (sum, count) in sums.iter_mut().zip(lane) {
        *sum += count.get();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_of_all_lanes() {
        let requests = Lanes::<Requests>::default();
        assert_eq!(requests.sum(), RequestSums::default());
        for index in 0..3 {
            let lane = requests.of(Lane { index, of: 3 }).unwrap();
            note(&lane.by_class, 2);
            note(&lane.by_cause, CAUSES);
            lane.sent.add(10);
            lane.took.add(Micros(150));
        }
        let sums = requests.sum();
        assert_eq!((sums.by_class, sums.sent), ([0, 0, 3, 0, 0, 0], 30));
        assert_eq!((sums.by_cause, sums.took.sum), ([0; CAUSES], 450));
        assert_eq!((sums.took.buckets[1], sums.took.count()), (3, 3));
        assert!(requests.of(Lane { index: 3, of: 3 }).is_none());
    }

    #[test]
    fn a_bucket_ends_with_its_bound() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 60_000_000, 60_000_001, u64::MAX] {
            histogram.add(Micros(micros));
        }
        let counted: Vec<u64> = histogram.buckets.iter().map(Count::get).collect();
        let last = BOUNDS.len();
        assert_eq!((counted[0], counted[1], counted[last - 1], counted[last]), (2, 1, 1, 2));
    }

    #[test]
    fn each_number_has_the_bucket_that_a_search_finds() {
        let powers = (0..64).map(|bits| 1 << bits);
        let around = powers.chain(BOUNDS).flat_map(|edge: u64| [edge - 1, edge, edge + 1]);
        for micros in around.chain([u64::MAX]) {
            let found = BOUNDS.partition_point(|bound| *bound < micros);
            assert_eq!(bucket(micros), found, "{micros}");
        }
    }

    #[test]
    fn the_longest_time_is_the_most_there_can_be() {
        assert_eq!(Micros::from(Duration::MAX), Micros(u64::MAX));
        assert_eq!(Micros::from(Duration::new(2, 1_999)), Micros(2_000_001));
    }
}
