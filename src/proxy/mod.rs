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
//! What was noted of it on the way ([`trace`]) is told when it is done ([`record`]),
//! also to those who read along ([`tail`]).
//!
//! [`body`] moves bodies, [`tunnel`] what follows a switch of protocols, [`headers`]
//! writes heads, [`mod@error`] lists what can go wrong, [`mod@explain`] asks all of
//! them what they would do. A [`worker`] is what the requests of one
//! [`thread`](mod@thread) share; there a request is from its first byte to its last.

mod accept;
mod proxy_protocol;
mod registry;
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

mod record;
mod tail;
mod trace;

mod body;
mod buffer;
mod client;
mod conn;
mod deadline;
mod error;
mod explain;
mod headers;
mod in_flight;
mod message;
mod players;
mod tcp;
mod thread;
mod tunnel;
mod worker;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

pub(crate) use connect::is_own;
pub use error::{Cause, Phase};
pub(crate) use explain::document;
pub(crate) use explain::{Ask, explain};
pub(crate) use players::{Sketch, WINDOW};
pub(crate) use registry::Holding;
pub(crate) use sticky::CookieCounts;
pub(crate) use tail::{Filter, Reader, Statuses};
pub(crate) use thread::run_worker;
pub(crate) use worker::{Doors, Shared};

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
    /// A new process has the sockets: accept no more, finish what is in flight
    /// and what kept connections still ask for; whatever is left after `within`
    /// is cut (`None`: never).
    HandOver {
        /// How long to wait.
        within: Option<Duration>,
    },
    /// End at once.
    Stop,
}

/// What the control plane asks of a worker, or tells it.
#[derive(Debug)]
pub(crate) enum Message {
    /// Who was here?
    Census(oneshot::Sender<Census>),
    /// What was told of the request of this id, if it failed or was retried?
    Recall(Arc<str>, oneshot::Sender<Option<String>>),
    /// Tell this one of requests that are done, from now on.
    Tail(Reader, oneshot::Sender<()>),
    /// What was told of the last requests that failed or were retried, and not by
    /// the client's own fault; at most so many, the newest first?
    Newest(usize, oneshot::Sender<Vec<String>>),
    /// Give me second handles of all sockets that you accept on (`None`: that
    /// fails).
    Sockets(oneshot::Sender<Option<Vec<OwnedFd>>>),
    /// Accept on these too.
    Listen(Vec<Socket>),
    /// Accept no more on the sockets with these addresses. Connections on ports
    /// that the snapshot no longer has end after what they do.
    Leave(Arc<[SocketAddr]>),
    /// Keep no connection to backends with these ids.
    Forget(Arc<[u64]>),
}

/// What a worker knows of its clients.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// Players of the last minutes, by the backend's id.
    pub(crate) players: Vec<(u64, Sketch)>,
    /// Requests in flight, by the backend's slot.
    pub(crate) in_flight: Vec<u32>,
    /// What sticky cookies were worth since the start.
    pub(crate) cookies: CookieCounts,
    /// Once the process is ending: what each game holds it up with. `None` is
    /// what did not ask for any yet.
    pub(crate) held: HashMap<Option<Arc<str>>, Holding>,
}

/// A listening socket of one worker.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Bound, listening, not blocking.
    pub listener: TcpListener,
    /// The port's number in the configuration.
    pub port: u16,
}
