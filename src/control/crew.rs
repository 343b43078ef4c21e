//! The workers' threads: starts them, and ends them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::error;

use super::server::Ended;
use super::signals::{Asked, Signals};
use crate::proxy::{self, Message, Order, Shared};

/// How often a process that handed its sockets over looks after what is left.
const LOOK: Duration = Duration::from_secs(1);

/// The running workers.
#[derive(Debug)]
pub(super) struct Crew {
    orders: watch::Sender<Order>,
    messages: Vec<mpsc::UnboundedSender<Message>>,
    ends: mpsc::UnboundedReceiver<bool>,
    running: usize,
    clean: bool,
}

impl Crew {
    pub(super) fn start(shared: &Arc<Shared>, sockets: Vec<Vec<proxy::Socket>>) -> Crew {
        let (orders, _) = watch::channel(Order::Run);
        let (ended, ends) = mpsc::unbounded_channel();
        let mut crew = Crew { orders, messages: Vec::new(), ends, running: 0, clean: true };
        for (index, sockets) in sockets.into_iter().enumerate() {
            let (shared, ended) = (Arc::clone(shared), ended.clone());
            let orders = crew.orders.subscribe();
            let (message, messages) = mpsc::unbounded_channel();
            let work = move || {
                let run = || proxy::run_worker(index, shared, sockets, orders, messages);
                let clean = match catch_unwind(AssertUnwindSafe(run)) {
                    Ok(Ok(clean)) => clean,
                    Ok(Err(error)) => {
                        error!(index, %error, "a worker failed");
                        false
                    }
                    // The panic's own message was printed where it happened.
                    Err(_) => false,
                };
                // Nobody listens when the process is ending already.
                let _ = ended.send(clean);
            };
            match thread::Builder::new().name(format!("worker-{index}")).spawn(work) {
                Ok(_) => {
                    crew.running += 1;
                    crew.messages.push(message);
                }
                Err(error) => {
                    error!(index, %error, "cannot start a worker's thread");
                    crew.clean = false;
                }
            }
        }
        crew
    }

    /// Where the workers take messages.
    pub(super) fn workers(&self) -> Vec<mpsc::UnboundedSender<Message>> {
        self.messages.clone()
    }

    /// A worker ended without being told to: the ports it had are deaf now, so
    /// the process ends and whoever watches it starts it again.
    pub(super) async fn lost_one(&mut self) {
        if self.running > 0 && self.ends.recv().await.is_some() {
            self.running -= 1;
            self.clean = false;
            error!("a worker ended unexpectedly: stopping");
        }
    }

    /// Ends the workers of a process that handed its sockets over: with their
    /// last connections, or when a signal asks for it. Calls `look` now and then.
    pub(super) async fn hand_over(
        &mut self,
        within: Option<Duration>,
        signals: &mut Signals,
        deadline: Duration,
        mut look: impl FnMut(),
    ) -> Ended {
        let _ = self.orders.send(Order::HandOver { within });
        let mut ticks = tokio::time::interval(LOOK);
        while self.running > 0 {
            tokio::select! {
                clean = self.ends.recv() => {
                    self.clean &= clean == Some(true);
                    self.running -= 1;
                }
                asked = signals.next(deadline) => if let Asked::End(order) = asked {
                    return self.end(order, signals).await;
                },
                _ = ticks.tick() => look(),
            }
        }
        if self.clean { Ended::Cleanly } else { Ended::Cut }
    }

    /// Gives the order and waits until all have followed it.
    pub(super) async fn end(&mut self, order: Order, signals: &mut Signals) -> Ended {
        // It fails when no worker is left to hear it.
        let _ = self.orders.send(order);
        while self.running > 0 {
            tokio::select! {
                clean = self.ends.recv() => {
                    self.clean &= clean == Some(true);
                    self.running -= 1;
                }
                () = signals.second() => {
                    let _ = self.orders.send(Order::Stop);
                }
            }
        }
        if self.clean { Ended::Cleanly } else { Ended::Cut }
    }
}
