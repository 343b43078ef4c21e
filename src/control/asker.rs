//! Asks the workers, and puts together what they and this process know.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};

use super::failing::{self, Failures};
use super::history::Reloads;
use super::overview::newest;
use super::status::{Status, oldest_first, status};
use super::tally::Tally;
use super::times::{unix, unix_millis};
use super::trouble::{FileTrouble, Troubles};
use crate::proxy::{Message, Shared, WINDOW};
use crate::state::Snapshot;

/// A worker answers between two requests; one that does not is left out.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many of the last failed requests are told.
const RECENT: usize = 50;
/// From then on the players of the last minutes are all counted. A minute more: so
/// long the old process of an upgrade answers on connections that were kept.
const SETTLED: Duration = Duration::from_secs(WINDOW as u64 + 60);

/// Asks the workers.
#[derive(Debug)]
pub(super) struct Asker {
    shared: Arc<Shared>,
    workers: Rc<[mpsc::UnboundedSender<Message>]>,
    troubles: Troubles,
    reloads: Reloads,
    started: SystemTime,
    /// The same by a clock that nobody sets.
    began: Instant,
    failures: Failures,
    handed_over: Cell<Option<SystemTime>>,
    /// That it did, for who waits for it.
    told: watch::Sender<bool>,
}

impl Asker {
    pub(super) fn new(
        shared: &Arc<Shared>,
        workers: Vec<mpsc::UnboundedSender<Message>>,
        troubles: &Troubles,
        reloads: &Reloads,
    ) -> Asker {
        Asker {
            shared: Arc::clone(shared),
            workers: workers.into(),
            troubles: Rc::clone(troubles),
            reloads: reloads.clone(),
            started: SystemTime::now(),
            began: Instant::now(),
            failures: Failures::default(),
            handed_over: Cell::default(),
            told: watch::Sender::default(),
        }
    }

    /// What requests are served by.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// When the process began to serve, in seconds since 1970.
    pub(super) fn since(&self) -> u64 {
        unix(self.started)
    }

    /// Those that are asked.
    pub(super) fn workers(&self) -> &[mpsc::UnboundedSender<Message>] {
        &self.workers
    }

    /// A new process serves from now on.
    pub(super) fn hand_over(&self) {
        self.handed_over.set(Some(SystemTime::now()));
        self.told.send_replace(true);
    }

    /// Waits until a new process serves.
    pub(super) fn until_handed_over(&self) -> impl Future<Output = ()> + use<> {
        let mut told = self.told.subscribe();
        async move {
            if told.wait_for(|told| *told).await.is_err() {
                // This process ends, and nobody follows.
                std::future::pending::<()>().await;
            }
        }
    }

    /// A new process serves.
    pub(super) fn has_handed_over(&self) -> bool {
        self.handed_over.get().is_some()
    }

    /// The current snapshot.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.live.load()
    }

    /// Looks at the counters for as long as it is polled.
    pub(super) fn watch_failures(&self) -> impl Future<Output = ()> + use<> {
        let (failures, shared) = (self.failures.clone(), Arc::clone(&self.shared));
        async move {
            loop {
                sleep(failing::EVERY).await;
                failures.look(&shared.live.load());
            }
        }
    }

    /// What the workers know, and the snapshot it is of.
    pub(super) async fn tally(&self) -> (Arc<Snapshot>, Tally) {
        // First: what it has stays what it is while the workers answer.
        let snapshot = self.snapshot();
        let is_young = self.began.elapsed() < SETTLED;
        let mut tally = Tally::of(self.shared.workers);
        tally.players_since = is_young.then(|| unix(self.started));
        self.ask(Message::Census).await.into_iter().for_each(|census| tally.add(census));
        (snapshot, tally)
    }

    /// The document as JSON, for people too.
    pub(super) async fn json(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string_pretty(&self.document().await).unwrap_or_default()
    }

    /// The same without blanks: half as long.
    pub(super) async fn compact(&self) -> String {
        serde_json::to_string(&self.document().await).unwrap_or_default()
    }

    async fn document(&self) -> Status {
        let (snapshot, tally) = self.tally().await;
        let mut status = status(&snapshot, &tally, &self.failures);
        status.now = unix_millis(SystemTime::now());
        status.started = unix_millis(self.started);
        status.connections = self.shared.connections.load(Ordering::Relaxed);
        status.tunnels = self.shared.tunnels.load(Ordering::Relaxed);
        status.held = oldest_first(tally.held);
        status.refused.clone_from(&self.troubles.borrow());
        status.access_log_lost = self.shared.access.lost();
        status.handed_over = self.handed_over.get().map(unix);
        status.reloads = self.reloads.told();
        status.recent = newest(self.ask(|reply| Message::Newest(RECENT, reply)).await, RECENT);
        status
    }

    /// The names of the files that are not taken as they are written.
    pub(super) fn refused(&self) -> BTreeSet<String> {
        let name = |trouble: &FileTrouble| {
            let name = Path::new(&trouble.file).file_name()?;
            Some(name.to_string_lossy().into_owned())
        };
        self.troubles.borrow().iter().filter_map(name).collect()
    }

    /// What was told of the request of this id, by the worker that had it.
    pub(super) async fn recall(&self, id: &str) -> Option<String> {
        let id: Arc<str> = id.into();
        let told = self.ask(|reply| Message::Recall(Arc::clone(&id), reply)).await;
        told.into_iter().flatten().next()
    }

    /// All workers at once.
    async fn ask<T>(&self, what: impl Fn(oneshot::Sender<T>) -> Message) -> Vec<T> {
        gather(&self.workers, what).await
    }
}

/// What these answer; who does not is left out, and all together get no more time
/// than one of them.
async fn gather<M, T>(
    workers: &[mpsc::UnboundedSender<M>],
    what: impl Fn(oneshot::Sender<T>) -> M,
) -> Vec<T> {
    let asked: Vec<_> = workers
        .iter()
        .filter_map(|worker| {
            let (reply, answer) = oneshot::channel();
            worker.send(what(reply)).ok().map(|()| answer)
        })
        .collect();
    let deadline = Instant::now() + PATIENCE;
    let mut answers = Vec::with_capacity(asked.len());
    for answer in asked {
        // Who has answered by then is heard all the same.
        answers.extend(timeout_at(deadline, answer).await.ok().and_then(Result::ok));
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn those_who_do_not_answer_cost_the_time_of_one() {
        let (workers, mut heard): (Vec<_>, Vec<_>) =
            (0..5).map(|_| mpsc::unbounded_channel::<oneshot::Sender<usize>>()).unzip();
        let began = Instant::now();
        let (answers, held) = tokio::join!(gather(&workers, |reply| reply), async {
            let mut held = Vec::new();
            for (at, worker) in heard.iter_mut().enumerate() {
                let reply = worker.recv().await.unwrap();
                match at {
                    1 | 4 => reply.send(at).unwrap(),
                    _ => held.push(reply),
                }
            }
            held
        });
        assert_eq!((answers, held.len()), (vec![1, 4], 3));
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
