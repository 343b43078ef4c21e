//! Embedded demo backends: small HTTP/1.1 servers that show the request as it
//! reached them. All of them live on one thread of their own, apart from the
//! workers they are asked by.
//!
//! | path (also below a prefix) | answer |
//! |---|---|
//! | `/health` | 200 |
//! | `/status/N` | the page with status N, 200–599 |
//! | `/slow/MS` | the page after MS milliseconds, at most 60 s |
//! | `/bytes/N` | N bytes, at most 64 MiB |
//! | `/echo` | the request's body |
//! | `/ws` | a WebSocket: who holds it, then each message back, at most 256 KiB |
//! | `/events` | an event a second (`text/event-stream`), at most ten minutes |
//! | anything else | the page |
//!
//! The page is HTML for who accepts it, plain text for others. In a group that
//! the application's cookie binds, it sets that cookie.

mod bond;
mod conversation;
mod emblem;
mod events;
mod page;
mod socket;
mod wire;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::{Semaphore, oneshot, watch};

pub use bond::Bond;

/// Connections a backend holds at once; the next ones wait in the kernel.
const MAX_CONNECTIONS: usize = 1024;
/// With fewer places than this left, answers end their connection, so that
/// idle ones never shut out the rest.
const SPARE_CONNECTIONS: usize = MAX_CONNECTIONS / 4;
/// WebSockets and event streams a backend holds at once: they stay, and must
/// leave most places to others.
const MAX_STREAMS: usize = 256;
/// After a failed accept: most often descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One backend to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoBackend {
    /// The drop-in's name.
    pub game: String,
    /// The group within it.
    pub group: String,
    /// The backend's name, most often its address.
    pub name: String,
    /// Where it listens; port 0 lets the system pick.
    pub address: SocketAddr,
    /// What binds the group's clients; `None` = nothing.
    pub bond: Option<Bond>,
}

/// Running backends; they stop when this is dropped.
#[derive(Debug)]
pub struct DemoBackends {
    addresses: Vec<SocketAddr>,
    leaving: watch::Sender<bool>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl DemoBackends {
    /// Where they listen, in the order they were given.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Ends what would never end by itself: WebSockets and event streams.
    /// Requests are still answered.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }
}

impl Drop for DemoBackends {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell; a panic there was printed already.
            let _ = thread.join();
        }
    }
}

/// Starts them all, or none when an address cannot be had.
///
/// # Errors
/// An address is taken or not this machine's; the message names it.
pub fn start(backends: Vec<DemoBackend>) -> io::Result<DemoBackends> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let mut sockets = Vec::with_capacity(backends.len());
    let mut addresses = Vec::with_capacity(backends.len());
    {
        let _inside = runtime.enter();
        for backend in &backends {
            let socket = listen(backend.address).map_err(|e| {
                let DemoBackend { game, group, address, .. } = backend;
                io::Error::new(e.kind(), format!("demo backend {game}/{group} on {address}: {e}"))
            })?;
            addresses.push(socket.local_addr()?);
            sockets.push(socket);
        }
    }
    let (leaving, left) = watch::channel(false);
    let served = serving(backends, &addresses, &left);
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new().name("demo-backends".to_owned()).spawn(move || {
        runtime.block_on(async move {
            for (socket, backend) in sockets.into_iter().zip(served) {
                tokio::spawn(accept(socket, Arc::new(backend)));
            }
            // Ends when the sender is dropped; the tasks end with the runtime.
            let _ = stopped.await;
        });
    })?;
    Ok(DemoBackends { addresses, leaving, stop: Some(stop), thread: Some(thread) })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = StdListener::bind(address)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// A backend that serves.
#[derive(Debug)]
struct Backend {
    game: String,
    group: String,
    /// All of its group, itself among them: name and address.
    peers: Vec<(String, SocketAddr)>,
    /// Its place among them, from 0.
    place: usize,
    bond: Option<Bond>,
    connections: AtomicU64,
    requests: AtomicU64,
    /// Places for WebSockets and event streams.
    streams: Semaphore,
    /// True when they are to end.
    leaving: watch::Receiver<bool>,
}

impl Backend {
    fn name(&self) -> &str {
        self.peers.get(self.place).map_or("", |(name, _)| name)
    }
}

/// Counts one up and says which it is, from 1.
fn next(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed) + 1
}

fn serving(
    backends: Vec<DemoBackend>,
    addresses: &[SocketAddr],
    leaving: &watch::Receiver<bool>,
) -> Vec<Backend> {
    let mut groups: HashMap<(String, String), Vec<(String, SocketAddr)>> = HashMap::new();
    let mut places = Vec::with_capacity(backends.len());
    for (backend, address) in backends.into_iter().zip(addresses) {
        let key = (backend.game, backend.group);
        let peers = groups.entry(key.clone()).or_default();
        places.push((key, peers.len(), backend.bond));
        peers.push((backend.name, *address));
    }
    let backend = |(key, place, bond)| Backend {
        peers: groups.get(&key).cloned().unwrap_or_default(),
        game: key.0,
        group: key.1,
        place,
        bond,
        connections: AtomicU64::new(0),
        requests: AtomicU64::new(0),
        streams: Semaphore::new(MAX_STREAMS),
        leaving: leaving.clone(),
    };
    places.into_iter().map(backend).collect()
}

async fn accept(socket: TcpListener, backend: Arc<Backend>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // The semaphore is never closed, so this ends with the runtime alone.
    while let Ok(place) = places.clone().acquire_owned().await {
        match socket.accept().await {
            Ok((stream, _)) => {
                let (backend, places) = (backend.clone(), places.clone());
                tokio::spawn(async move {
                    let crowded = || places.available_permits() < SPARE_CONNECTIONS;
                    // How a connection ended is of no interest to a demo.
                    let _ = conversation::hold(stream, &backend, crowded).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests;
