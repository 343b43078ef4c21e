//! The machine, the tools on it, and what a run shares.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::procfs;

/// Where the proxy and where everything else runs; `None` = not pinned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cpus {
    pub(crate) proxy: Option<usize>,
    pub(crate) load: Option<usize>,
}

impl Cpus {
    /// Pins this process, and with it all that it starts, to the load's CPU.
    pub(crate) fn pin() -> Self {
        let allowed = procfs::allowed_cpus();
        let (Some(&proxy), Some(taskset)) = (allowed.first(), find("taskset")) else {
            return Self { proxy: None, load: None };
        };
        let load = allowed.get(1).copied().unwrap_or(proxy);
        let id = std::process::id().to_string();
        let done = Command::new(taskset).args(["-a", "-c", "-p", &load.to_string(), &id]).output();
        if done.is_ok_and(|output| output.status.success()) {
            Self { proxy: Some(proxy), load: Some(load) }
        } else {
            Self { proxy: None, load: None }
        }
    }

    /// In words, for the report.
    pub(crate) fn words(self) -> String {
        match (self.proxy, self.load) {
            (Some(proxy), Some(load)) if proxy != load => {
                format!("proxy on CPU {proxy}, origin and load generator on CPU {load}")
            }
            (Some(_), Some(_)) => "one CPU for proxy, origin and load generator".to_owned(),
            _ => "not pinned (no taskset)".to_owned(),
        }
    }
}

/// A program in PATH or where Debian puts servers.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The first line of what a program says about its version.
pub(crate) fn version(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else {
        return "unknown".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("unknown");
    line.trim_start_matches("nginx version: ").split(" - http").next().unwrap_or(line).to_owned()
}

/// Raises our limit of open files as far as allowed, and says what it is now.
pub(crate) fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // Some systems have no limit, and tables sized by it would eat the memory.
    let wanted = limit.maximum.unwrap_or(65_536).min(65_536);
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(_) => limit.current.unwrap_or(1024),
    }
}

/// Ports of 127.0.0.1 that nobody has at this moment.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let listeners: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("no free port: {error}"))?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr().map_err(|error| error.to_string())?.port();
    }
    Ok(ports)
}

/// CPU model, cores, kernel, date.
pub(crate) fn describe() -> Value {
    let cpu =
        procfs::field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".to_owned());
    // Not available_parallelism: this process is pinned by now.
    let cores = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = cores.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = procfs::field("/proc/meminfo", "MemTotal").unwrap_or_default();
    let date = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    let date = date.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    json!({
        "cpu": cpu,
        "cores": cores,
        "kernel": kernel.trim(),
        "memory": memory,
        "date": date.unwrap_or_default(),
    })
}
