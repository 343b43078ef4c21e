//! lockgate beside nginx and HAProxy: CPU time, memory and system calls of each, in one interleaved run.
//!
//! `cargo bench --bench compare -- --help` lists the options. CPU time per request is compared, not
//! throughput: it depends far less on what else the machine does.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench talks to its user on the terminal"
)]

mod args;
mod check;
mod children;
mod client;
mod counts;
#[allow(dead_code, reason = "the test that it is shared with asks for more")]
#[path = "../../tests/it/storm/engine/mod.rs"]
mod engine;
mod http2;
mod idle;
mod lab;
mod load;
mod machine;
mod origin;
mod peers;
mod procfs;
mod report;
mod storm;
mod stream;
mod tls;
mod websocket;
mod workloads;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::args::Args;
use crate::lab::Lab;
use crate::peers::Peer;
use crate::report::Results;
use crate::workloads::WORKLOADS;

fn main() -> ExitCode {
    if let Some(served) = storm::serve_if_told() {
        return if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{}", args::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    match Run::new(&args).and_then(|run| run.map_or(Ok(true), Run::all)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A run under way.
struct Run<'a> {
    args: &'a Args,
    lab: Lab,
    peers: Vec<Peer>,
    results: Results,
    /// Measurements that could not be made.
    failures: usize,
}

impl<'a> Run<'a> {
    /// `None`: nothing can be measured here, which `--quick` accepts.
    fn new(args: &'a Args) -> Result<Option<Self>, String> {
        let machine = machine::describe();
        if machine::find("nginx").is_none() {
            let why = "nginx is not installed, and it is the origin too: nothing is measured";
            if !args.quick {
                return Err(why.to_owned());
            }
            println!("skip: {why}");
            return Ok(None);
        }
        let lab = Lab::set_up()?;
        let results = Results { machine, pinning: lab.cpus.words(), ..Results::default() };
        let mut run = Self { args, lab, peers: Vec::new(), results, failures: 0 };
        for label in &args.peers {
            match Peer::named(label, args.lockgate.as_deref())? {
                Some(peer) => run.admit(peer),
                None => run.note(format!("{label} is not installed: skipped")),
            }
        }
        if run.lab.wrk.is_none() {
            run.note("wrk is not installed: what it drives is skipped".to_owned());
        }
        if run.lab.h2load.is_none() {
            run.note("h2load is not installed: what it drives is skipped".to_owned());
        }
        Ok(Some(run))
    }

    /// A peer takes part once its answers are right.
    fn admit(&mut self, peer: Peer) {
        match check::check(&peer, &self.lab) {
            Ok(suite) => {
                let version = peer.version();
                eprintln!("{:10} answers are right ({version}, {suite})", peer.label);
                self.results.peers.push((peer.label.clone(), version, suite));
                self.peers.push(peer);
            }
            Err(error) => self.fail(format!(
                "{} did not pass the check and is not measured: {error}",
                peer.label
            )),
        }
    }

    fn note(&mut self, text: String) {
        eprintln!("{text}");
        self.results.notes.push(text);
    }

    fn fail(&mut self, text: String) {
        self.failures += 1;
        self.note(text);
    }

    /// True when every measurement could be made.
    fn all(mut self) -> Result<bool, String> {
        self.compare_suites();
        for workload in &WORKLOADS {
            if self.args.wants(workload.name) && workload.possible(&self.lab) {
                self.load(workload);
            }
        }
        for kind in idle::KINDS {
            if self.args.wants(kind.name()) {
                self.idle(kind);
            }
        }
        if self.args.wants("storm") {
            self.storm();
        }
        if self.args.wants("syscalls") && self.has("strace") {
            self.syscalls();
        }
        if self.args.wants("instructions") && self.has("valgrind") {
            self.instructions();
        }
        let markdown = self.results.markdown(self.args);
        println!("\n{markdown}");
        write(self.args.markdown.as_deref(), &markdown)?;
        write(self.args.json.as_deref(), &format!("{:#}\n", self.results.json(self.args)))?;
        Ok(self.failures == 0)
    }

    /// Ratios of the TLS rows mean less when the peers encrypt with different ciphers.
    fn compare_suites(&mut self) {
        let mut suites: Vec<&str> =
            self.results.peers.iter().map(|(_, _, suite)| suite.as_str()).collect();
        suites.sort_unstable();
        suites.dedup();
        if suites.len() > 1 {
            self.note(format!("the peers picked different TLS suites: {}", suites.join(", ")));
        }
    }

    fn has(&mut self, tool: &str) -> bool {
        let there = machine::find(tool).is_some() && self.lab.wrk.is_some();
        if !there {
            self.note(format!("{tool} or wrk is not installed: skipped"));
        }
        there
    }

    /// The peers in the order of this round: every other one is reversed, so that no peer always
    /// comes after the same other.
    fn order(&self, round: usize) -> Vec<Peer> {
        let mut peers = self.peers.clone();
        if !round.is_multiple_of(2) {
            peers.reverse();
        }
        peers
    }

    fn load(&mut self, workload: &'static workloads::Workload) {
        for round in 0..self.args.rounds {
            for peer in self.order(round).into_iter().filter(|peer| workload.suits(peer)) {
                match workload.sample(&peer, &self.lab, round, self.args.duration) {
                    Ok(sample) => {
                        let (cost, done) = (sample.cost, sample.done);
                        let rate = done.requests as f64 / done.seconds;
                        eprintln!(
                            "{:13} round {round} {:10} {cost:8.1} {}, {rate:.0}/s",
                            workload.name,
                            peer.label,
                            workload.unit()
                        );
                        if done.errors > 0 {
                            self.note(format!(
                                "{} round {round} {}: {} errors beside {} requests",
                                workload.name, peer.label, done.errors, done.requests
                            ));
                        }
                        self.results.samples.push(sample);
                    }
                    Err(error) => self
                        .fail(format!("{} round {round} {}: {error}", workload.name, peer.label)),
                }
            }
        }
    }

    fn idle(&mut self, kind: idle::Kind) {
        // Each end of a connection is a descriptor here or in the proxy, which has the backends' too.
        let possible =
            usize::try_from(self.lab.files.saturating_sub(300) / 2).unwrap_or(usize::MAX);
        let count = if self.args.quick { 500 } else { 2000 }.min(possible);
        let settle = Duration::from_millis(if self.args.quick { 400 } else { 2000 });
        // Memory hardly varies: more rounds would tell nothing.
        for round in 0..self.args.rounds.min(3) {
            for peer in self.order(round) {
                match idle::sample(&peer, &self.lab, kind, round, count, settle) {
                    Ok(idle) => {
                        eprintln!(
                            "{:18} round {round} {:10} {:8.2} KiB",
                            kind.name(),
                            peer.label,
                            idle.kib
                        );
                        if idle.closed > 0 {
                            self.note(format!(
                                "{} {}: {} of {count} were closed while held",
                                kind.name(),
                                peer.label,
                                idle.closed
                            ));
                        }
                        self.results.idle.push(idle);
                    }
                    Err(error) => {
                        self.fail(format!("{} round {round} {}: {error}", kind.name(), peer.label));
                    }
                }
            }
        }
    }

    /// A second look at the same proxy tells nothing about counts.
    fn once_each(&self) -> Vec<Peer> {
        self.peers.iter().filter(|peer| !peer.label.contains('@')).cloned().collect()
    }

    fn storm(&mut self) {
        let peers = self.once_each();
        let paces = [false, true].into_iter();
        for (hasty, peer) in paces.flat_map(|hasty| peers.iter().map(move |peer| (hasty, peer))) {
            match storm::sample(peer, &self.lab, self.args.storm, hasty) {
                Ok(storm) => {
                    eprintln!(
                        "storm {} {:10} {} requests, {} that may be repeated failed, {} POSTs \
                         failed, {} ran twice",
                        storm.pace(),
                        peer.label,
                        storm.requests,
                        storm.idempotent,
                        storm.failed_posts,
                        storm.twice
                    );
                    self.results.storms.push(storm);
                }
                Err(error) => self.fail(format!("storm {}: {error}", peer.label)),
            }
        }
    }

    fn syscalls(&mut self) {
        for connections in [64, 1] {
            for peer in self.once_each() {
                match counts::syscalls(&peer, &self.lab, connections, self.args.duration) {
                    Ok(calls) => {
                        eprintln!(
                            "syscalls   {:10} {connections} connections {:.2}",
                            peer.label,
                            calls.total()
                        );
                        self.results.calls.push(calls);
                    }
                    // Containers often forbid tracing; that is no fault of the harness.
                    Err(error) => self.note(format!("syscalls {}: {error}", peer.label)),
                }
            }
        }
    }

    fn instructions(&mut self) {
        for workload in workloads::COUNTED {
            for peer in self.once_each().into_iter().filter(|peer| workload.suits(peer)) {
                match counts::instructions(&peer, &self.lab, workload, self.args.duration) {
                    Ok(one) => {
                        let (name, count) = (workload.name, one.per_request);
                        eprintln!("instructions {name} {:10} {count:.0}", peer.label);
                        self.results.instructions.push(one);
                    }
                    Err(error) => self.note(format!("instructions {}: {error}", peer.label)),
                }
            }
        }
    }
}

fn write(path: Option<&Path>, text: &str) -> Result<(), String> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
