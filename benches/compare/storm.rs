//! What clients notice while backends die and freeze: the storm of `tests/it/storm`,
//! let loose on every proxy as its own documentation would have it configured.

mod configs;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::engine::{self, Backend, Executed, Plan, Target};
use crate::lab::Lab;
use crate::peers::Peer;

pub(crate) use configs::Place;

/// Tells a process of this program that it is a backend, and which.
const ROLE: &str = "COMPARE_BACKEND";
/// Requests that others answer while a backend is out.
const HITS: u64 = 300;

/// What one proxy made of it.
#[derive(Debug)]
pub(crate) struct Storm {
    pub(crate) peer: String,
    /// Each fault came as soon as the last one's backend was there again, whether the
    /// proxy had noticed or not.
    pub(crate) hasty: bool,
    pub(crate) faults: usize,
    pub(crate) requests: u64,
    pub(crate) posts: u64,
    /// Failed requests that could have been sent again.
    pub(crate) idempotent: usize,
    pub(crate) failed_posts: usize,
    /// POSTs that were executed twice.
    pub(crate) twice: usize,
    /// Answers that belong to another request, or are cut and do not show it.
    pub(crate) wrong: usize,
    /// Answers that were cut after they had begun.
    pub(crate) cut: usize,
}

impl Storm {
    /// So many in 10,000 requests.
    pub(crate) fn rate(&self, count: usize) -> f64 {
        count as f64 * 10_000.0 / self.requests.max(1) as f64
    }

    /// When each fault came, in words.
    pub(crate) fn pace(&self) -> &'static str {
        if self.hasty { "at once" } else { "later" }
    }

    pub(crate) fn json(&self) -> Value {
        let Self {
            peer,
            hasty,
            faults,
            requests,
            posts,
            idempotent,
            failed_posts,
            twice,
            wrong,
            cut,
        } = self;
        json!({
            "peer": peer, "hasty": hasty, "faults": faults, "requests": requests, "posts": posts,
            "failed_idempotent": idempotent, "failed_posts": failed_posts,
            "executed_twice": twice, "wrong": wrong, "cut": cut,
        })
    }
}

/// In a process that is to be a backend: is one until its parent ends.
pub(crate) fn serve_if_told() -> Option<Result<(), String>> {
    let role = std::env::var(ROLE).ok()?;
    let (name, port) = role.split_once(' ')?;
    Some(engine::serve(name, port.parse().ok()?))
}

fn launch(name: &str, port: u16) -> Command {
    let program = std::env::current_exe().unwrap_or_default();
    let mut command = Command::new(program);
    command.env(ROLE, format!("{name} {port}"));
    command
}

/// A storm of so many faults over `peer`.
pub(crate) fn sample(peer: &Peer, lab: &Lab, faults: usize, hasty: bool) -> Result<Storm, String> {
    let (ports, _held) = hold_ports()?;
    let executed = Executed::default();
    let start = |(port, name): (&u16, &str)| Backend::start(name, *port, launch, &executed);
    let backends =
        ports.iter().zip(["B1", "B2", "B3"]).map(start).collect::<Result<Vec<_>, _>>()?;
    let running = peer.start_before(lab, ports)?;
    let target = Target {
        plain: running.http,
        secure: running.https,
        host: Ipv4Addr::LOCALHOST.to_string(),
        tls: Arc::clone(&lab.certificate.client_h2),
        sticky: false,
    };
    let plan = Plan { faults, time: Duration::ZERO, hits: HITS, hasty };
    let tally = engine::storm(&target, plan, backends, &executed)?;
    Ok(Storm {
        peer: peer.label.clone(),
        hasty,
        faults: tally.faults,
        requests: tally.requests(""),
        posts: tally.requests("POST"),
        idempotent: tally.failed_idempotent().count(),
        failed_posts: tally.failed_posts().count(),
        twice: tally.twice.len(),
        wrong: tally.wrong.len(),
        cut: tally.cut().count(),
    })
}

/// Ports that nobody else takes while the sockets live, which never listen: a killed
/// backend's port stays its own.
fn hold_ports() -> Result<([u16; 3], Vec<Socket>), String> {
    let text = |error: std::io::Error| error.to_string();
    let (mut ports, mut held) = ([0; 3], Vec::new());
    for port in &mut ports {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).map_err(text)?;
        socket.set_reuse_port(true).map_err(text)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).map_err(text)?;
        let address = socket.local_addr().map_err(text)?.as_socket();
        *port = address.map(|address| address.port()).ok_or("a socket without a port")?;
        held.push(socket);
    }
    Ok((ports, held))
}
