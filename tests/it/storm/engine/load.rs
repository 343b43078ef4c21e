//! Players: each sends one request after the other, and reads what comes back.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::client::{Answer, Ask, Client};
use super::server::LONG;

/// What a player rests between two requests: the load is steady, and leaves a
/// small machine time to answer it.
const REST: Duration = Duration::from_millis(6);
/// So many requests, and a player is a new one.
const VISIT: u64 = 40;
/// What a player sends, over and over; the answers to some are long.
const TURNS: [(&str, bool); 7] = [
    ("GET", false),
    ("POST", false),
    ("GET", true),
    ("PUT", false),
    ("POST", false),
    ("GET", false),
    ("DELETE", false),
];
/// The sizes of their bodies, where they have one.
const SIZES: [usize; 4] = [0, 12, 1500, 20_000];
/// Longer than anything takes that happens at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request that was not answered by a backend.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) method: &'static str,
    pub(crate) id: String,
    /// Of the proxy's answer, if there was a whole one.
    pub(crate) status: Option<u16>,
    /// A backend's response that began and was cut.
    pub(crate) cut: bool,
    /// In words, with all that is known.
    pub(crate) what: String,
    /// Why, where the proxy says so.
    pub(crate) cause: String,
}

/// What all players share with whoever makes the weather.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) stop: Cell<bool>,
    /// The number of the next request.
    next: Cell<u64>,
    under_way: RefCell<BTreeSet<u64>>,
    /// Of each backend, in each of its groups: the last request it answered.
    served: RefCell<HashMap<(String, bool), u64>>,
    pub(crate) answered: Cell<u64>,
    /// Requests by kind.
    pub(crate) asked: RefCell<BTreeMap<String, u64>>,
    pub(crate) failures: RefCell<Vec<Failure>>,
    /// Answers that belong to no request.
    pub(crate) wrong: RefCell<Vec<String>>,
    /// What is out at the moment, for the failures' words.
    pub(crate) weather: RefCell<String>,
    ended: Notify,
}

impl Shared {
    /// Requests from here on are begun later than now.
    pub(crate) fn now(&self) -> u64 {
        self.next.get()
    }

    /// Every request that was begun before this one has ended.
    pub(crate) fn is_past(&self, request: u64) -> bool {
        self.under_way.borrow().first().is_none_or(|oldest| *oldest >= request)
    }

    /// Whether the backend answered a request that was begun then or later.
    pub(crate) fn served_since(&self, backend: &str, bound: bool, request: u64) -> bool {
        let served = self.served.borrow();
        served.get(&(backend.to_owned(), bound)).is_some_and(|last| *last >= request)
    }

    /// Waits until something holds; it is looked at whenever a request ended.
    pub(crate) async fn until(
        &self,
        what: &str,
        condition: impl Fn(&Self) -> bool,
    ) -> Result<(), String> {
        let wait = async {
            while !condition(self) {
                self.ended.notified().await;
            }
        };
        let late = |_| {
            let failures = self.failures.borrow();
            let last = failures.last().map_or_else(String::new, |last| last.what.clone());
            format!("never happened: {what} ({}; last failure: {last})", self.weather.borrow())
        };
        timeout(PATIENCE, wait).await.map_err(late)
    }

    fn note_served(&self, backend: String, bound: bool, request: u64) {
        let mut served = self.served.borrow_mut();
        let last = served.entry((backend, bound)).or_default();
        *last = request.max(*last);
        self.answered.set(self.answered.get() + 1);
    }

    fn begin(&self, kind: String) -> u64 {
        let request = self.next.replace(self.next.get() + 1);
        self.under_way.borrow_mut().insert(request);
        *self.asked.borrow_mut().entry(kind).or_default() += 1;
        request
    }

    fn end(&self, request: u64) {
        self.under_way.borrow_mut().remove(&request);
        self.ended.notify_one();
    }
}

/// Plays until it is told to stop. `bound`: in the sticky group.
pub(crate) async fn play(shared: Rc<Shared>, mut client: Client, bound: bool) {
    let mut cookie: Option<String> = None;
    let group = if bound { "/bound" } else { "/free" };
    let protocol = client.protocol();
    let mut turns = TURNS.iter().cycle().zip(SIZES.iter().cycle()).zip(0_u64..);
    while let Some((((method, is_long), size), turn)) = turns.next().filter(|_| !shared.stop.get())
    {
        if turn % VISIT == 0 {
            cookie = None;
        }
        let path = &format!("{group}{}", if *is_long { "/long" } else { "" });
        let has_body = matches!(*method, "POST" | "PUT");
        let request = shared.begin(format!("{method} {path} {protocol}"));
        let id = format!("r{request}");
        let body: Vec<u8> = match has_body {
            true => id.bytes().cycle().take(*size).collect(),
            false => Vec::new(),
        };
        let expected = match is_long {
            true => id.bytes().cycle().take(LONG).collect(),
            false => body.clone(),
        };
        let ask = Ask { method, path, id: &id, cookie: cookie.as_deref(), body: &body };
        let weather = shared.weather.borrow().clone();
        let answer = client.ask(&ask).await;
        let told = |what: &str| format!("{method} {path} {protocol} {id}, {weather}: {what}");
        let (status, cut, cause) = match answer {
            Ok(answer) if answer.status == 200 => {
                match backend_of(&answer, &ask, &expected) {
                    Some(backend) => shared.note_served(backend, bound, request),
                    None => {
                        let body = String::from_utf8_lossy(&answer.body);
                        let body: String = body.chars().take(80).collect();
                        shared.wrong.borrow_mut().push(told(&body));
                    }
                }
                cookie = answer.cookie.or(cookie);
                (None, false, None)
            }
            Ok(answer) => (Some(answer.status), false, Some(answer.cause.unwrap_or_default())),
            Err(lost) => (None, lost.began, Some(lost.why)),
        };
        if let Some(cause) = cause {
            let what = told(&format!("{} {cause}", status.unwrap_or_default()));
            shared.failures.borrow_mut().push(Failure { method, id, status, cut, what, cause });
        }
        shared.end(request);
        tokio::time::sleep(REST).await;
    }
}

/// Who answered, if the answer is this request's.
fn backend_of(answer: &Answer, ask: &Ask<'_>, expected: &[u8]) -> Option<String> {
    let end = answer.body.iter().position(|byte| *byte == b'\n')?;
    let (head, body) = answer.body.split_at_checked(end + 1)?;
    let head = std::str::from_utf8(head).ok()?.trim_end();
    let (backend, rest) = head.split_once(' ')?;
    let belongs = rest == format!("{} {}", ask.method, ask.id) && body == expected;
    belongs.then(|| backend.to_owned())
}
