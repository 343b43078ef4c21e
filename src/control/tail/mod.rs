//! `lockgate tail`, in the running process: what a reader asks for, and the lines
//! that it gets for as long as it stays.

pub mod client;
mod names;
mod text;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use super::admin::Status;
use super::asker::Asker;
use crate::config;
use crate::proxy::{Cause, Filter, Message, Reader, Statuses};

pub(super) const TARGET: &str = "/tail";

/// Lines that wait for a reader; more are left out.
const WAITING: usize = 1024;
/// About so many bytes are given away at once.
const CHUNK: usize = 64 * 1024;
/// A worker hears between two requests; one that does not joins in later.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the query of a reader says.
fn filter(query: &str) -> Result<Filter, String> {
    let mut filter = Filter::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let text = Some(value.clone().into_owned());
        match &*key {
            "game" => filter.game = text,
            "group" => match value.split_once('/') {
                // As `status` and `top` name it.
                Some((game, group)) => {
                    (filter.game, filter.group) = (Some(game.into()), Some(group.into()));
                }
                None => filter.group = text,
            },
            "backend" => filter.backend = text,
            "path" if !value.starts_with('/') => {
                return Err(format!("`{value}` begins no path: write `/{value}`"));
            }
            "path" => filter.path = text,
            "status" => {
                for one in value.split(',') {
                    filter.statuses.push(statuses(one)?);
                }
            }
            "cause" => {
                for one in value.split(',') {
                    if !Cause::NAMES.contains(&one) {
                        let all = Cause::NAMES.join(", ");
                        return Err(format!("there is no cause `{one}`; there are {all}"));
                    }
                    filter.causes.push(one.to_owned());
                }
            }
            "slower_than" => {
                let than = config::parse_duration(&value);
                let than = than.ok_or_else(|| format!("`{value}` is no duration such as 500ms"))?;
                filter.slower_than = Some(than);
            }
            "failed" => filter.failed = true,
            _ => {
                return Err(format!(
                    "there is no `{key}`; there are game, group, status, cause, backend, \
                     slower_than, path and failed"
                ));
            }
        }
    }
    Ok(filter)
}

/// Such as `404`, or `5xx`.
fn statuses(text: &str) -> Result<Statuses, String> {
    let refused = || format!("`{text}` is no status such as 404 or 5xx");
    let (digits, is_class) = match text.strip_suffix("xx") {
        Some(digit) => (digit, true),
        None => (text, false),
    };
    let number: u16 = digits.parse().map_err(|_| refused())?;
    match (is_class, number) {
        (true, 1..=5) => Ok(Statuses::Class(number)),
        (false, 100..=599) => Ok(Statuses::One(number)),
        _ => Err(refused()),
    }
}

/// The lines for one reader, from now on.
///
/// # Errors
/// What it asks for is none.
pub(super) async fn subscribe(query: &str, status: &Status) -> Result<Lines, String> {
    let filter = filter(query)?;
    if let Some(asker) = status.asker.get() {
        names::known(&filter, &asker.snapshot())?;
    }
    let filter = Arc::new(filter);
    let (sender, lines) = mpsc::channel(WAITING);
    let left_out = Arc::<AtomicU64>::default();
    let reader = Reader { filter, lines: sender, left_out: Arc::clone(&left_out) };
    let workers = status.asker.get().map(Asker::workers).unwrap_or_default();
    let mut told = Vec::with_capacity(workers.len());
    for worker in workers {
        let (knows, known) = oneshot::channel();
        // One that is gone has nothing to tell.
        let _ = worker.send(Message::Tail(reader.clone(), knows));
        told.push(known);
    }
    drop(reader);
    let all = async {
        for known in told {
            let _ = known.await;
        }
    };
    let _ = timeout(PATIENCE, all).await;
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let handed_over = status.asker.get().map(|asker| Box::pin(asker.until_handed_over()) as _);
    Ok(Lines { lines, left_out, second, handed_over, is_done: false })
}

/// What a reader gets: one JSON object a line, and every second in which lines had
/// to be left out how many. It is told at once when a new process serves, which has
/// lines of its own; this one's end with its last worker. The reader's end ends it too: the workers see that its queue is gone.
pub(super) struct Lines {
    lines: mpsc::Receiver<Bytes>,
    left_out: Arc<AtomicU64>,
    second: Interval,
    handed_over: Option<Pin<Box<dyn Future<Output = ()>>>>,
    is_done: bool,
}

impl Lines {
    fn put_left_out(&self, chunk: &mut Vec<u8>) {
        match self.left_out.swap(0, Ordering::Relaxed) {
            0 => {}
            left_out => chunk.extend(format!("{{\"left_out\":{left_out}}}\n").into_bytes()),
        }
    }

    /// Whether a new process has more; said once.
    fn put_handed_over(&mut self, cx: &mut Context<'_>, chunk: &mut Vec<u8>) {
        if self.handed_over.as_mut().is_some_and(|it| it.as_mut().poll(cx).is_ready()) {
            self.handed_over = None;
            chunk.extend_from_slice(b"{\"handed_over\":true}\n");
        }
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.is_done {
            return Poll::Ready(None);
        }
        let mut chunk = Vec::new();
        this.put_handed_over(cx, &mut chunk);
        while chunk.len() < CHUNK {
            match this.lines.poll_recv(cx) {
                Poll::Ready(Some(line)) => chunk.extend_from_slice(&line),
                Poll::Ready(None) => {
                    this.put_left_out(&mut chunk);
                    this.is_done = true;
                    break;
                }
                Poll::Pending => break,
            }
        }
        while this.second.poll_tick(cx).is_ready() {
            this.put_left_out(&mut chunk);
        }
        match (chunk.is_empty(), this.is_done) {
            (false, _) => Poll::Ready(Some(Ok(Frame::data(chunk.into())))),
            (true, true) => Poll::Ready(None),
            (true, false) => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_becomes_a_filter() {
        let query = "game=a&group=b+c&status=404,5xx&status=499&cause=dns,client_gone&cause=http_500&backend=1%3A2&\
                     slower_than=1s500ms&path=%2F%26&failed";
        let some = |text: &str| Some(text.to_owned());
        let want = Filter {
            game: some("a"),
            group: some("b c"),
            statuses: vec![Statuses::One(404), Statuses::Class(5), Statuses::One(499)],
            causes: vec!["dns".to_owned(), "client_gone".to_owned(), "http_500".to_owned()],
            backend: some("1:2"),
            slower_than: Some(Duration::from_millis(1500)),
            path: some("/&"),
            failed: true,
        };
        assert_eq!(filter(query), Ok(want));
        assert_eq!(filter(""), Ok(Filter::default()));
        let of_game = Filter { game: some("a"), group: some("web"), ..Filter::default() };
        assert_eq!(filter("group=a/web"), Ok(of_game));
    }

    #[test]
    fn what_is_no_filter_is_refused_with_what_would_be() {
        let cases = [
            ("status=6xx", "404 or 5xx"),
            ("status=xx", "404 or 5xx"),
            ("status=99", "404 or 5xx"),
            ("cause=dns,refused", "connect_refused"),
            ("path=api", "write `/api`"),
            ("slower_than=5", "500ms"),
            ("games=a", "game, group"),
        ];
        for (query, said) in cases {
            let why = filter(query).unwrap_err();
            assert!(why.contains(said), "{query}: {why}");
        }
    }
}
