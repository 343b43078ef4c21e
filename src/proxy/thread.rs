//! A worker's thread: its sockets, what the control plane tells it, its end.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout_at};
use tracing::error;

use super::worker::{Shared, Worker};
use super::{Census, Message, Order, Socket, accept, buffer, pool};

/// The sockets a worker accepts on, by their addresses: one each, or more
/// after an upgrade from a process with more workers.
type Tended = RefCell<HashMap<SocketAddr, Vec<Tending>>>;

/// A socket that is accepted on.
#[derive(Debug)]
struct Tending {
    /// Of the task's.
    listener: Weak<TcpListener>,
    leave: oneshot::Sender<()>,
    task: JoinHandle<()>,
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
    messages: mpsc::UnboundedReceiver<Message>,
) -> std::io::Result<bool> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let worker = Rc::new(Worker::new(index, shared));
        let tended = Rc::new(Tended::default());
        for socket in sockets {
            listen(&worker, &tended, socket, &orders)?;
        }
        spawn_local(sweep(Rc::clone(&worker)));
        spawn_local(obey(Rc::clone(&worker), Rc::clone(&tended), messages, orders.clone()));
        let finished = follow(&worker, &tended, orders).await;
        // What still has a line to write does so when the loop is dropped.
        worker.access.end();
        Ok(finished)
    })
}

fn listen(
    worker: &Rc<Worker>,
    tended: &Tended,
    socket: Socket,
    orders: &watch::Receiver<Order>,
) -> std::io::Result<()> {
    let address = socket.listener.local_addr()?;
    let listener = Rc::new(TcpListener::from_std(socket.listener)?);
    let weak = Rc::downgrade(&listener);
    let (leave, leaving) = oneshot::channel();
    let tending = tend(Rc::clone(worker), listener, socket.port, orders.clone(), leaving);
    let task = spawn_local(tending);
    let tending = Tending { listener: weak, leave, task };
    tended.borrow_mut().entry(address).or_default().push(tending);
    Ok(())
}

/// Keeps a socket accepting: a panic in it, which would be a bug, must not
/// leave the port deaf.
async fn tend(
    worker: Rc<Worker>,
    listener: Rc<TcpListener>,
    port: u16,
    mut orders: watch::Receiver<Order>,
    mut leaving: oneshot::Receiver<()>,
) {
    loop {
        let mut accepting = {
            let (worker, listener) = (Rc::clone(&worker), Rc::clone(&listener));
            spawn_local(async move { accept::accept(worker, &listener, port).await })
        };
        tokio::select! {
            ended = &mut accepting => {
                error!(port, ?ended, "accepting broke and is started again");
                continue;
            }
            _ = orders.wait_for(|order| *order != Order::Run) => {}
            _ = &mut leaving => {}
        }
        accepting.abort();
        // It holds the socket until it is gone.
        let _ = accepting.await;
        if let Ok(listener) = Rc::try_unwrap(listener) {
            accept::accept_queued(&worker, listener, port);
        }
        return;
    }
}

/// Does what the control plane says.
async fn obey(
    worker: Rc<Worker>,
    tended: Rc<Tended>,
    mut messages: mpsc::UnboundedReceiver<Message>,
    orders: watch::Receiver<Order>,
) {
    while let Some(message) = messages.recv().await {
        match message {
            Message::Census(reply) => {
                let players = worker.players.recent(worker.unix_seconds());
                let (in_flight, cookies) = (worker.in_flight.get(), worker.sticky.get());
                // Who asked may have given up.
                let held = worker.held();
                let _ = reply.send(Census { players, in_flight, cookies, held });
            }
            Message::Recall(id, reply) => {
                let _ = reply.send(worker.recent.find(&id));
            }
            Message::Tail(reader, known) => {
                worker.readers.add(reader);
                let _ = known.send(());
            }
            Message::Newest(most, reply) => {
                let _ = reply.send(worker.recent.newest(most));
            }
            Message::Sockets(reply) => {
                let _ = reply.send(second_handles(&tended));
            }
            Message::Listen(sockets) => {
                for socket in sockets {
                    let port = socket.port;
                    if let Err(error) = listen(&worker, &tended, socket, &orders) {
                        error!(port, %error, "cannot accept on a socket");
                    }
                }
            }
            Message::Leave(addresses) => {
                let left: Vec<Tending> = {
                    let mut tended = tended.borrow_mut();
                    addresses
                        .iter()
                        .filter_map(|address| tended.remove(address))
                        .flatten()
                        .collect()
                };
                for Tending { leave, task, .. } in left {
                    // It has ended if it does not hear.
                    let _ = leave.send(());
                    let _ = task.await;
                }
                worker.leave_ports();
            }
            Message::Forget(backends) => {
                for backend in backends.iter() {
                    worker.pool.forget(*backend);
                    worker.shared_upstream.forget(*backend);
                }
            }
        }
    }
}

fn second_handles(tended: &Tended) -> Option<Vec<OwnedFd>> {
    let tended = tended.borrow();
    let listeners = tended.values().flatten().filter_map(|tending| tending.listener.upgrade());
    listeners.map(|listener| listener.as_fd().try_clone_to_owned().ok()).collect()
}

/// Lets go of what was idle for too long: upstream connections, buffers.
async fn sweep(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(pool::SWEEP).await;
        worker.pool.sweep(Instant::now());
        buffer::trim();
        worker.shared_upstream.sweep();
    }
}

/// Waits for orders and carries them out.
async fn follow(worker: &Rc<Worker>, tended: &Tended, mut orders: watch::Receiver<Order>) -> bool {
    let mut order = next(&mut orders, Order::Run).await;
    if order != Order::Stop {
        // What is queued at the sockets was promised service: it is taken first.
        let sockets: Vec<Tending> =
            tended.borrow_mut().drain().flat_map(|(_, sockets)| sockets).collect();
        for socket in sockets {
            let _ = socket.task.await;
        }
    }
    let finished = loop {
        let within = match order {
            Order::Run | Order::Stop => break false,
            Order::HandOver { within } => {
                worker.hand_over(within);
                within
            }
            Order::Drain { within } => {
                worker.stop(within);
                within
            }
        };
        let wait = async {
            tokio::select! {
                () = worker.emptied() => None,
                other = next(&mut orders, order) => Some(other),
            }
        };
        let waited = match within {
            None => Ok(wait.await),
            Some(within) => timeout_at(Instant::now() + within, wait).await,
        };
        match waited {
            Ok(None) => break true,
            Ok(Some(other)) => order = other,
            Err(_) => {
                // A machine that stood still: whose moment has passed meanwhile
                // still has it.
                tokio::task::yield_now().await;
                break false;
            }
        }
    };
    worker.pool.clear();
    finished && !worker.has_cut()
}

/// The next order that is another one.
async fn next(orders: &mut watch::Receiver<Order>, current: Order) -> Order {
    // The sender lives as long as the process wants its workers.
    orders.wait_for(|order| *order != current).await.map_or(Order::Stop, |order| *order)
}
