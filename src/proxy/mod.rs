//! The data plane, in the order of a request's way:
//!
//! 1. [`accept`] takes a connection,
//! 2. [`tls`] shakes hands,
//! 3. [`connection`] (HTTP/1) or [`http2`] reads requests and sends responses,
//! 4. [`request`] decides what happens to each, with [`route`], [`pick`] and
//!    [`sticky`],
//! 5. [`retry`] has it sent to a backend, and to the next where that fails;
//!    [`forward`] is one such attempt, over a connection of the [`pool`],
//! 6. [`respond`] answers what lockgate answers itself.
//!
//! [`body`] moves bodies, [`tunnel`] what follows a switch of protocols, [`headers`] writes heads, [`mod@error`] lists what can go
//! wrong. A [`worker`] is the thread all of this happens on, from the first
//! byte to the last.

mod accept;
mod proxy_protocol;
mod tls;
// 3.
mod connection;
mod http2;
// 4.
mod request;
mod route;
// 5.
mod connect;
mod forward;
mod pick;
mod pool;
mod retry;
mod sticky;
mod upstream;
mod verified;
// 6.
mod respond;

mod body;
mod buffer;
mod client;
mod conn;
mod deadline;
mod error;
mod headers;
mod message;
mod players;
mod tcp;
mod tunnel;
mod worker;

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout_at};
use tracing::error;

pub(crate) use connect::is_own;
pub use error::{Cause, Phase};
pub(crate) use players::Sketch;
pub(crate) use sticky::CookieCounts;
pub(crate) use worker::Shared;
use worker::Worker;

/// What the control plane wants of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Serve.
    Run,
    /// Accept no more, finish what is in flight; whatever is left after
    /// `within` is cut (`None`: never).
    Drain {
        /// How long to wait.
        within: Option<Duration>,
    },
    /// End at once.
    Stop,
}

/// What the control plane asks a worker.
#[derive(Debug)]
pub(crate) enum Question {
    /// Who was here.
    Census(oneshot::Sender<Census>),
}

/// What a worker knows of its clients.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// Players of the last minutes, by the backend's id.
    pub(crate) players: Vec<(u64, Sketch)>,
    /// What sticky cookies were worth since the start.
    pub(crate) cookies: CookieCounts,
}

/// A listening socket of one worker.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Bound, listening, not blocking.
    pub listener: TcpListener,
    /// The port's number in the configuration.
    pub port: u16,
}

/// Runs a worker on the calling thread until it is told to end. Gives whether
/// everything in flight was finished.
///
/// # Errors
/// When the thread's event loop can't be set up.
pub(crate) fn run_worker(
    index: usize,
    shared: Arc<Shared>,
    sockets: Vec<Socket>,
    orders: watch::Receiver<Order>,
    questions: mpsc::UnboundedReceiver<Question>,
) -> std::io::Result<bool> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let worker = Rc::new(Worker::new(index, shared));
        let mut tended = Vec::new();
        for socket in sockets {
            let listener = tokio::net::TcpListener::from_std(socket.listener)?;
            let tending = tend(Rc::clone(&worker), listener, socket.port, orders.clone());
            tended.push(spawn_local(tending));
        }
        spawn_local(sweep(Rc::clone(&worker)));
        spawn_local(answer(Rc::clone(&worker), questions));
        Ok(follow(&worker, tended, orders).await)
    })
}

/// Keeps a socket accepting: a panic in it, which would be a bug, must not
/// leave the port deaf.
async fn tend(
    worker: Rc<Worker>,
    listener: tokio::net::TcpListener,
    port: u16,
    mut orders: watch::Receiver<Order>,
) {
    let listener = Rc::new(listener);
    loop {
        let mut accepting = {
            let (worker, listener) = (Rc::clone(&worker), Rc::clone(&listener));
            spawn_local(async move { accept::accept(worker, &listener, port).await })
        };
        tokio::select! {
            ended = &mut accepting => error!(port, ?ended, "accepting broke and is started again"),
            _ = orders.wait_for(|order| *order != Order::Run) => {
                accepting.abort();
                // It holds the socket until it is gone.
                let _ = accepting.await;
                if let Ok(listener) = Rc::try_unwrap(listener) {
                    accept::accept_queued(&worker, listener, port);
                }
                return;
            }
        }
    }
}

/// Tells the control plane what it asks.
async fn answer(worker: Rc<Worker>, mut questions: mpsc::UnboundedReceiver<Question>) {
    while let Some(Question::Census(reply)) = questions.recv().await {
        let players = worker.players.recent(worker.unix_seconds());
        // Who asked may have given up.
        let _ = reply.send(Census { players, cookies: worker.sticky.get() });
    }
}

/// Closes upstream connections that were idle for too long.
async fn sweep(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(pool::SWEEP).await;
        worker.pool.sweep(Instant::now());
    }
}

/// Waits for orders and carries them out.
async fn follow(
    worker: &Rc<Worker>,
    tended: Vec<JoinHandle<()>>,
    mut orders: watch::Receiver<Order>,
) -> bool {
    // The sender lives as long as the process wants its workers.
    let order = orders.wait_for(|order| *order != Order::Run).await.map(|order| *order);
    let Ok(Order::Drain { within }) = order else { return false };
    // What is queued at the sockets was promised service: it is taken first.
    for socket in tended {
        let _ = socket.await;
    }
    worker.stop();
    let stopped_early = orders.wait_for(|order| *order == Order::Stop);
    let emptied = async {
        tokio::select! {
            () = worker.emptied() => true,
            _ = stopped_early => false,
        }
    };
    let finished = match within {
        None => emptied.await,
        Some(within) => timeout_at(Instant::now() + within, emptied).await.unwrap_or(false),
    };
    worker.pool.clear();
    finished
}
