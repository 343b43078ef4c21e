//! Who reads along, live: `lockgate tail`. A request is compared with what each
//! reader wants before a line of it is made, and no reader is ever waited for.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// What a reader wants; nothing set: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) game: Option<String>,
    pub(crate) group: Option<String>,
    /// One of them; empty: any.
    pub(crate) statuses: Vec<Statuses>,
    /// One of them is the request's, or one of its attempts'; empty: any, or none.
    pub(crate) causes: Vec<String>,
    /// There was an attempt at it.
    pub(crate) backend: Option<String>,
    /// It took longer.
    pub(crate) slower_than: Option<Duration>,
    /// The path as sent begins with it.
    pub(crate) path: Option<String>,
    /// It failed, or a backend answered 5xx.
    pub(crate) failed: bool,
}

/// One status, or all of a hundred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statuses {
    One(u16),
    /// By the first digit.
    Class(u16),
}

/// What a filter looks at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen<'a> {
    pub(super) game: Option<&'a str>,
    pub(super) group: Option<&'a str>,
    pub(super) status: u16,
    pub(super) cause: Option<&'static str>,
    pub(super) took: Duration,
    pub(super) path: &'a [u8],
}

/// A backend, and why the attempt at it failed.
pub(super) type Attempted<'a> = (&'a str, Option<&'static str>);

impl Statuses {
    fn has(self, status: u16) -> bool {
        match self {
            Statuses::One(one) => status == one,
            Statuses::Class(class) => status / 100 == class,
        }
    }
}

impl Filter {
    /// `attempts` are asked for only where they decide.
    fn takes<'a>(&self, seen: &Seen<'_>, attempts: impl Fn() -> Vec<Attempted<'a>>) -> bool {
        let same = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is == Some(wanted))
        };
        let of_request = same(&self.game, seen.game)
            && same(&self.group, seen.group)
            && (self.statuses.is_empty() || self.statuses.iter().any(|one| one.has(seen.status)))
            && self.slower_than.is_none_or(|than| seen.took > than)
            && self.path.as_ref().is_none_or(|path| seen.path.starts_with(path.as_bytes()))
            && (!self.failed || seen.cause.is_some() || seen.status >= 500);
        if !of_request || (self.causes.is_empty() && self.backend.is_none()) {
            return of_request;
        }
        let attempts = attempts();
        let backend = |wanted: &String| attempts.iter().any(|(backend, _)| backend == wanted);
        let cause = |wanted: &String| {
            let wanted = Some(wanted.as_str());
            seen.cause == wanted || attempts.iter().any(|(_, cause)| *cause == wanted)
        };
        self.backend.as_ref().is_none_or(backend)
            && (self.causes.is_empty() || self.causes.iter().any(cause))
    }
}

/// One reader, as all workers know it.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) filter: Arc<Filter>,
    /// Of all workers together, each line with its end.
    pub(crate) lines: mpsc::Sender<Bytes>,
    /// Lines it wanted, and that did not fit.
    pub(crate) left_out: Arc<AtomicU64>,
}

/// The least share of its lines that a reader gets who cannot keep up.
const LEAST: u32 = 1024;

/// How many of its lines a reader gets: all, until it cannot keep up; then one of
/// so many, so that what it gets is spread over the time and not its beginnings.
#[derive(Debug)]
struct Share {
    second: Option<Instant>,
    one_of: u32,
    seen: u32,
    is_over: bool,
}

impl Share {
    fn new() -> Share {
        Share { second: None, one_of: 1, seen: 0, is_over: false }
    }

    /// Another line; whether it is among them.
    fn takes(&mut self, now: Instant) -> bool {
        if self.second.is_none_or(|second| now - second >= Duration::from_secs(1)) {
            self.one_of = match self.is_over {
                true => (self.one_of * 2).min(LEAST),
                false => (self.one_of / 2).max(1),
            };
            (self.second, self.is_over) = (Some(now), false);
        }
        self.seen = self.seen.wrapping_add(1);
        self.seen.is_multiple_of(self.one_of)
    }

    /// One that was among them did not fit.
    fn over(&mut self) {
        self.is_over = true;
    }
}

/// A worker's readers.
#[derive(Debug, Default)]
pub(super) struct Readers {
    any: Cell<bool>,
    all: RefCell<Vec<(Reader, Share)>>,
}

impl Readers {
    pub(super) fn add(&self, reader: Reader) {
        let mut all = self.all.borrow_mut();
        // On an idle worker nothing else lets go of those that went.
        all.retain(|(known, _)| !known.lines.is_closed());
        all.push((reader, Share::new()));
        self.any.set(true);
    }

    /// Somebody reads, or did.
    #[inline]
    pub(super) fn are_there(&self) -> bool {
        self.any.get()
    }

    /// Tells those who want it. The line is made once, and only if one of them does.
    pub(super) fn tell<'a>(
        &self,
        seen: &Seen<'_>,
        attempts: impl Fn() -> Vec<Attempted<'a>>,
        line: impl Fn() -> String,
    ) {
        let mut made: Option<Bytes> = None;
        let mut all = self.all.borrow_mut();
        all.retain_mut(|(reader, share)| {
            if reader.lines.is_closed() {
                return false;
            }
            if !reader.filter.takes(seen, &attempts) {
                return true;
            }
            if !share.takes(Instant::now()) {
                reader.left_out.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            match reader.lines.try_reserve() {
                Ok(place) => {
                    let made = made.get_or_insert_with(|| (line() + "\n").into());
                    place.send(made.clone());
                }
                Err(TrySendError::Full(())) => {
                    share.over();
                    reader.left_out.fetch_add(1, Ordering::Relaxed);
                }
                Err(TrySendError::Closed(())) => return false,
            }
            true
        });
        self.any.set(!all.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: Seen<'_> = Seen {
        game: Some("youxia"),
        group: Some("web"),
        status: 504,
        cause: Some("header_timeout"),
        took: Duration::from_millis(500),
        path: b"/api/\xff",
    };

    fn attempts() -> Vec<Attempted<'static>> {
        vec![("b1", Some("connect_refused")), ("b2", Some("header_timeout"))]
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn every_part_of_a_filter_must_be_met() {
        let any = Filter::default;
        let classes = |statuses: &[Statuses]| Filter { statuses: statuses.to_vec(), ..any() };
        let causes = |causes: &[&str]| causes.iter().map(|one| (*one).to_owned()).collect();
        let slower = |millis| Some(Duration::from_millis(millis));
        let met = [
            any(),
            Filter { game: some("youxia"), group: some("web"), failed: true, ..any() },
            classes(&[Statuses::One(404), Statuses::Class(5)]),
            classes(&[Statuses::One(504)]),
            Filter { causes: causes(&["dns", "connect_refused"]), ..any() },
            Filter { causes: causes(&["header_timeout"]), backend: some("b1"), ..any() },
            Filter { slower_than: slower(499), path: some("/api/"), ..any() },
        ];
        for filter in met {
            assert!(filter.takes(&SEEN, attempts), "{filter:?}");
        }
        let not_met = [
            Filter { game: some("youxib"), ..any() },
            Filter { group: some("we"), game: some("youxia"), ..any() },
            classes(&[Statuses::One(502), Statuses::Class(4)]),
            Filter { causes: causes(&["dns", "client_gone"]), ..any() },
            Filter { backend: some("b"), causes: causes(&["header_timeout"]), ..any() },
            Filter { slower_than: slower(500), ..any() },
            Filter { path: some("/api/x"), ..any() },
        ];
        for filter in not_met {
            assert!(!filter.takes(&SEEN, attempts), "{filter:?}");
        }
    }

    #[test]
    fn failed_is_a_cause_or_a_5xx() {
        let failed = Filter { failed: true, ..Filter::default() };
        let of = |status, cause| failed.takes(&Seen { status, cause, ..SEEN }, Vec::new);
        assert!(of(500, None) && of(404, Some("no_rule")) && of(200, Some("body_closed")));
        assert!(!of(200, None) && !of(404, None));
        let outside = Filter { group: some("web"), ..Filter::default() };
        assert!(!outside.takes(&Seen { group: None, ..SEEN }, Vec::new));
    }

    fn reader(places: usize) -> (Reader, mpsc::Receiver<Bytes>) {
        let (lines, receiver) = mpsc::channel(places);
        let (filter, left_out) = Default::default();
        (Reader { filter, lines, left_out }, receiver)
    }

    #[test]
    fn what_does_not_fit_is_counted_and_not_even_made() {
        let readers = Readers::default();
        assert!(!readers.are_there());
        let (reader, mut lines) = reader(2);
        readers.add(reader.clone());
        let made = Cell::new(0);
        for _ in 0..5 {
            readers.tell(&SEEN, Vec::new, || {
                made.set(made.get() + 1);
                "line".to_owned()
            });
        }
        assert_eq!((made.get(), reader.left_out.load(Ordering::Relaxed)), (2, 3));
        assert_eq!(lines.try_recv().unwrap(), "line\n");
        drop(lines);
        assert!(readers.are_there());
        readers.tell(&SEEN, Vec::new, || panic!("nobody reads"));
        assert!(!readers.are_there());
    }

    #[test]
    fn who_went_is_forgotten_where_nothing_happens() {
        let readers = Readers::default();
        for _ in 0..5 {
            let (reader, lines) = reader(1);
            readers.add(reader);
            drop(lines);
        }
        assert_eq!(readers.all.borrow().len(), 1);
    }

    #[test]
    fn one_line_is_made_for_all_readers() {
        let readers = Readers::default();
        let ((one, mut first), (other, mut second)) = (reader(1), reader(1));
        readers.add(one);
        readers.add(other);
        let made = Cell::new(0);
        readers.tell(&SEEN, Vec::new, || {
            made.set(made.get() + 1);
            String::new()
        });
        assert!(first.try_recv().is_ok() && second.try_recv().is_ok());
        assert_eq!(made.get(), 1);
    }

    #[test]
    fn who_cannot_keep_up_gets_half_as_much_each_second_until_it_can() {
        let mut share = Share::new();
        let mut now = Instant::now();
        let mut second = |over: bool| {
            now += Duration::from_secs(1);
            let taken = (0..1024).filter(|_| share.takes(now)).count();
            if over {
                share.over();
            }
            taken
        };
        assert_eq!([true, true, false, false, false].map(&mut second), [1024, 512, 256, 512, 1024]);
        assert_eq!([true; 14].map(&mut second).last(), Some(&1));
    }
}
