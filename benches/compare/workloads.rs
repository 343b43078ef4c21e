//! What is measured by CPU time, and one sample of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::Lab;
use crate::load::{Done, handshakes, wrk};
use crate::peers::{Peer, Running};
use crate::procfs;

/// A kind of load.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    tls: bool,
    path: &'static str,
    connections: u32,
    /// Bytes of a POST; 0 = GET.
    post: usize,
    /// Cost per GiB instead of per request.
    pub(crate) per_gib: bool,
    /// Every request on a connection of its own, by our own generator.
    fresh: bool,
}

const KEEP_ALIVE: Workload = Workload {
    name: "plain",
    title: "HTTP/1.1 keep-alive, 1 KiB, 64 connections",
    tls: false,
    path: "/1k",
    connections: 64,
    post: 0,
    per_gib: false,
    fresh: false,
};

pub(crate) const WORKLOADS: [Workload; 6] = [
    KEEP_ALIVE,
    Workload {
        name: "tls",
        title: "HTTP/1.1 over TLS 1.3 keep-alive, 1 KiB, 64 connections",
        tls: true,
        ..KEEP_ALIVE
    },
    Workload {
        name: "handshake",
        title: "full TLS 1.3 handshake (ECDSA P-256) and one request, 16 at a time",
        tls: true,
        path: "/0",
        connections: 16,
        fresh: true,
        ..KEEP_ALIVE
    },
    Workload {
        name: "body",
        title: "1 MiB responses, 16 connections",
        path: "/1m",
        connections: 16,
        per_gib: true,
        ..KEEP_ALIVE
    },
    Workload {
        name: "body-tls",
        title: "1 MiB responses over TLS 1.3, 16 connections",
        tls: true,
        path: "/1m",
        connections: 16,
        per_gib: true,
        ..KEEP_ALIVE
    },
    Workload {
        name: "upload",
        title: "POST of 64 KiB, 64 connections",
        path: "/upload",
        post: 65_536,
        ..KEEP_ALIVE
    },
];

/// One measurement.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) workload: &'static str,
    pub(crate) peer: String,
    pub(crate) round: usize,
    /// Microseconds per request, or milliseconds per GiB.
    pub(crate) cost: f64,
    pub(crate) done: Done,
    cpu_ns: u64,
    load_average: f64,
}

impl Sample {
    pub(crate) fn json(&self) -> Value {
        let Done { requests, bytes, errors, seconds, p50, p99 } = self.done;
        json!({
            "workload": self.workload, "peer": self.peer, "round": self.round, "cost": self.cost,
            "cpu_ns": self.cpu_ns, "requests": requests, "bytes": bytes, "errors": errors,
            "seconds": seconds, "p50_us": p50, "p99_us": p99, "load_average": self.load_average,
        })
    }
}

impl Workload {
    pub(crate) fn unit(&self) -> &'static str {
        if self.per_gib { "CPU ms/GiB" } else { "CPU µs/request" }
    }

    pub(crate) fn needs_wrk(&self) -> bool {
        !self.fresh
    }

    pub(crate) fn drive(
        &self,
        lab: &Lab,
        running: &Running,
        connections: u32,
        time: Duration,
    ) -> Result<Done, String> {
        let port = running.port(self.tls);
        if self.fresh {
            return handshakes(lab, port, connections, time);
        }
        let scheme = if self.tls { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{port}{}", self.path);
        wrk(lab, &url, connections, self.post, time)
    }

    /// A fresh proxy, a warm-up, then the load between two readings of the proxy's CPU time.
    pub(crate) fn sample(
        &self,
        peer: &Peer,
        lab: &Lab,
        round: usize,
        time: Duration,
    ) -> Result<Sample, String> {
        let running = peer.start(lab, &[])?;
        // Fills the upstream pool and the allocator.
        self.drive(
            lab,
            &running,
            self.connections,
            time.mul_f64(0.4).min(Duration::from_millis(900)),
        )?;
        std::thread::sleep(Duration::from_millis(30));
        let pids = running.pids();
        let before = procfs::cpu_ns(&pids);
        let done = self.drive(lab, &running, self.connections, time)?;
        let cpu_ns = procfs::cpu_ns(&running.pids()).saturating_sub(before);
        if done.requests == 0 {
            return Err("no request was answered".to_owned());
        }
        if cpu_ns == 0 {
            return Err("this kernel does not count CPU time in schedstat".to_owned());
        }
        let cost = if self.per_gib {
            cpu_ns as f64 / 1e6 / (done.bytes as f64 / f64::from(1_u32 << 30))
        } else {
            cpu_ns as f64 / 1e3 / done.requests as f64
        };
        let load_average = procfs::load_average();
        Ok(Sample {
            workload: self.name,
            peer: peer.label.clone(),
            round,
            cost,
            done,
            cpu_ns,
            load_average,
        })
    }
}

/// The workload the system calls and instructions are counted with.
pub(crate) fn plain() -> &'static Workload {
    const PLAIN: &Workload = &KEEP_ALIVE;
    PLAIN
}
