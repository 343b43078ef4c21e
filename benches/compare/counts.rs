//! Counted, not timed: system calls under strace, instructions under valgrind.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::children::Child;
use crate::lab::Lab;
use crate::machine::find;
use crate::peers::{Peer, Running};
use crate::procfs;
use crate::workloads::{Workload, plain};

/// System calls of one peer at one number of connections.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) peer: String,
    pub(crate) connections: u32,
    pub(crate) requests: u64,
    /// Per request, the most frequent first.
    pub(crate) calls: Vec<(String, f64)>,
}

impl Calls {
    pub(crate) fn total(&self) -> f64 {
        self.calls.iter().map(|(_, count)| count).sum()
    }

    pub(crate) fn json(&self) -> Value {
        let calls: serde_json::Map<String, Value> =
            self.calls.iter().map(|(name, count)| (name.clone(), json!(count))).collect();
        json!({
            "peer": self.peer, "connections": self.connections, "requests": self.requests,
            "total": self.total(), "calls": calls,
        })
    }
}

/// `plain` for `time` with strace attached to every process of `peer`.
pub(crate) fn syscalls(
    peer: &Peer,
    lab: &Lab,
    connections: u32,
    time: Duration,
) -> Result<Calls, String> {
    let strace = find("strace").ok_or("strace is not installed")?;
    let running = peer.start(lab, &[])?;
    plain(lab, &running, connections, Duration::from_millis(300))?;
    let (result, pids) = (lab.folder().join("strace"), running.pids());
    let mut argv = vec![strace.display().to_string()];
    argv.extend(["-c", "-f", "-U", "calls,name", "-o"].map(str::to_owned));
    argv.push(result.display().to_string());
    argv.extend(pids.iter().flat_map(|pid| ["-p".to_owned(), pid.to_string()]));
    let mut child = Child::start(&argv, lab.cpus.load, &lab.folder().join("strace-output"))?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while !procfs::traced(&pids) {
        if child.status().is_some() || Instant::now() > deadline {
            return Err(format!("strace cannot attach: {}", child.last_words()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let done = plain(lab, &running, connections, time)?;
    child.signal(Signal::INT);
    child.finish(Duration::from_secs(10))?;
    let table = fs::read_to_string(&result).map_err(|error| format!("strace: {error}"))?;
    let mut calls: Vec<(String, f64)> = table
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(count, name)| (count, name.trim()))
        .filter(|(_, name)| *name != "total")
        .filter_map(|(count, name)| Some((name.to_owned(), count.parse::<f64>().ok()?)))
        .map(|(name, count)| (name, count / done.requests.max(1) as f64))
        .collect();
    calls.sort_by(|left, right| right.1.total_cmp(&left.1));
    Ok(Calls { peer: peer.label.clone(), connections, requests: done.requests, calls })
}

/// Instructions of one peer, in user space, on one workload.
#[derive(Debug)]
pub(crate) struct Instructions {
    pub(crate) workload: &'static str,
    pub(crate) peer: String,
    pub(crate) requests: u64,
    pub(crate) per_request: f64,
}

impl Instructions {
    pub(crate) fn json(&self) -> Value {
        let Self { workload, peer, requests, per_request } = self;
        json!({
            "workload": workload, "peer": peer, "requests": requests, "per_request": per_request,
        })
    }
}

/// A workload for `time` under callgrind: the counters are set to nothing before the load and read after it.
pub(crate) fn instructions(
    peer: &Peer,
    lab: &Lab,
    workload: &Workload,
    time: Duration,
) -> Result<Instructions, String> {
    let valgrind = find("valgrind").ok_or("valgrind is not installed")?;
    let control = find("callgrind_control").ok_or("callgrind_control is not installed")?;
    let folder = tempfile::TempDir::new_in(lab.folder()).map_err(|error| error.to_string())?;
    let prefix = [
        valgrind.display().to_string(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}/out.%p", folder.path().display()),
    ];
    let running = peer.start(lab, &prefix)?;
    let load = workload.warm_up(lab, &running, time.max(Duration::from_secs(5)))?;
    tell(&control, "-z", &running)?;
    let done = load()?;
    tell(&control, "-d", &running)?;
    if done.requests == 0 {
        return Err("no request was answered under valgrind".to_owned());
    }
    // Only what the dump wrote is there: the files at exit come later.
    let counted: u64 = fs::read_dir(folder.path())
        .map_err(|error| error.to_string())?
        .flatten()
        .filter_map(|entry| procfs::field(entry.path().to_str()?, "totals:"))
        .filter_map(|total| total.parse::<u64>().ok())
        .sum();
    if counted == 0 {
        return Err("callgrind wrote no totals".to_owned());
    }
    let per_request = counted as f64 / done.requests as f64;
    let peer = peer.label.clone();
    Ok(Instructions { workload: workload.name, peer, requests: done.requests, per_request })
}

/// Gives an order to the process under valgrind. The tool reports success whatever happened.
fn tell(control: &Path, order: &str, running: &Running) -> Result<(), String> {
    let pid = running.child.pid().to_string();
    let output = Command::new("timeout")
        .arg("20")
        .arg(control)
        .args([order, &pid])
        .output()
        .map_err(|error| format!("callgrind_control: {error}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if !output.status.success() || said.contains("Error") {
        return Err(format!("callgrind_control {order}: {}", said.trim()));
    }
    Ok(())
}
