//! What is measured by CPU time, and one sample of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::Lab;
use crate::load::{Done, Requests, h2load, handshakes, players, wrk};
use crate::peers::{Peer, Running};
use crate::procfs;
use crate::websocket::Talk;

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
    driver: Driver,
}

/// Who makes the load.
#[derive(Debug, Clone, Copy)]
enum Driver {
    Wrk,
    /// wrk, whose requests bring the sticky cookies of as many clients as there are connections.
    Players,
    /// Every request on a connection of its own, by our own generator.
    Handshakes,
    /// HTTP/2, so many requests at a time on every connection.
    H2load {
        streams: u32,
    },
    /// Our own: a message and its echo at a time on every connection.
    WebSocket,
}

const KEEP_ALIVE: Workload = Workload {
    name: "plain",
    title: "HTTP/1.1 keep-alive, 1 KiB, 64 connections",
    tls: false,
    path: "/1k",
    connections: 64,
    post: 0,
    per_gib: false,
    driver: Driver::Wrk,
};

const STICKY: Workload = Workload {
    name: "sticky",
    title: "the same with sticky cookies, one for each connection",
    driver: Driver::Players,
    ..KEEP_ALIVE
};

pub(crate) const WORKLOADS: [Workload; 10] = [
    KEEP_ALIVE,
    STICKY,
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
        driver: Driver::Handshakes,
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
    Workload {
        name: "h2",
        title: "HTTP/2 over TLS 1.3, 1 KiB, 32 connections of 32 streams",
        tls: true,
        connections: 32,
        driver: Driver::H2load { streams: 32 },
        ..KEEP_ALIVE
    },
    Workload {
        name: "websocket",
        title: "WebSocket echo, 125 bytes, 200 connections",
        connections: 200,
        driver: Driver::WebSocket,
        ..KEEP_ALIVE
    },
    Workload {
        name: "websocket-tls",
        title: "WebSocket echo over TLS 1.3, 125 bytes, 200 connections",
        tls: true,
        connections: 200,
        driver: Driver::WebSocket,
        ..KEEP_ALIVE
    },
];

/// One measurement.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) workload: &'static str,
    pub(crate) peer: String,
    pub(crate) round: usize,
    /// Microseconds per request or message, or milliseconds per GiB.
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
        match self.driver {
            _ if self.per_gib => "CPU ms/GiB",
            Driver::WebSocket => "CPU µs/message",
            _ => "CPU µs/request",
        }
    }

    /// True when the tool is there that makes this load.
    pub(crate) fn possible(&self, lab: &Lab) -> bool {
        match self.driver {
            Driver::Wrk | Driver::Players => lab.wrk.is_some(),
            Driver::H2load { .. } => lab.h2load.is_some(),
            Driver::Handshakes | Driver::WebSocket => true,
        }
    }

    /// True when the peer has what this load asks for.
    pub(crate) fn suits(&self, peer: &Peer) -> bool {
        !matches!(self.driver, Driver::Players) || peer.is_sticky()
    }

    /// For `time`, where the load needs no preparation.
    fn drive(&self, lab: &Lab, running: &Running, time: Duration) -> Result<Done, String> {
        match self.driver {
            Driver::Handshakes => handshakes(lab, running.port(self.tls), self.connections, time),
            _ => wrk(lab, &self.url(running), self.connections, &Requests::Post(self.post), time),
        }
    }

    fn url(&self, running: &Running) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}{}", running.port(self.tls), self.path)
    }

    /// Fills the upstream pool and the allocator, and gives the load for `time`.
    pub(crate) fn warm_up<'a>(
        &'a self,
        lab: &'a Lab,
        running: &'a Running,
        time: Duration,
    ) -> Result<Box<dyn FnOnce() -> Result<Done, String> + 'a>, String> {
        let short = time.mul_f64(0.4).min(Duration::from_millis(900));
        match self.driver {
            Driver::Wrk | Driver::Handshakes => {
                self.drive(lab, running, short)?;
                Ok(Box::new(move || self.drive(lab, running, time)))
            }
            Driver::Players => {
                let port = running.sticky.ok_or("this proxy has no sticky cookies")?;
                let url = format!("http://127.0.0.1:{port}{}", self.path);
                let cookies = Requests::Cookies(players(port, self.connections)?);
                let load = move |time| wrk(lab, &url, self.connections, &cookies, time);
                load(short)?;
                Ok(Box::new(move || load(time)))
            }
            Driver::H2load { streams } => {
                let load = move |requests| {
                    h2load(lab, &self.url(running), self.connections, streams, requests)
                };
                let at_once = u64::from(self.connections * streams);
                let first = load(at_once * 8)?;
                let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                let took = millis(Duration::from_secs_f64(first.seconds)).max(1);
                let requests = first.requests.saturating_mul(millis(time)) / took;
                // Fewer, and the connections' handshakes would weigh on each of them.
                Ok(Box::new(move || load(requests.max(at_once * 16))))
            }
            Driver::WebSocket => {
                // Opened before, because that costs much more than a message.
                let tls = self.tls.then_some(&lab.certificate.client);
                let mut talk = Talk::open(running.port(self.tls), tls, self.connections)?;
                talk.run(short)?;
                Ok(Box::new(move || talk.run(time)))
            }
        }
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
        let load = self.warm_up(lab, &running, time)?;
        std::thread::sleep(Duration::from_millis(30));
        let pids = running.pids();
        let before = procfs::cpu_ns(&pids);
        let done = load()?;
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

/// The workload that system calls are counted with, on so many connections.
pub(crate) fn plain(
    lab: &Lab,
    running: &Running,
    connections: u32,
    time: Duration,
) -> Result<Done, String> {
    Workload { connections, ..KEEP_ALIVE }.drive(lab, running, time)
}

/// Those that instructions are counted with.
pub(crate) const COUNTED: [&Workload; 2] = [&KEEP_ALIVE, &STICKY];
