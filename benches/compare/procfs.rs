//! What the kernel says about a process and its children.

use std::fs;

/// Parent process of `pid`.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold blanks and brackets itself.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// `root` and everything below it.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return vec![root];
    };
    let parents: Vec<(u32, u32)> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&above) = found.get(next) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// Nanoseconds on a CPU, user and system, of every thread of the processes.
///
/// The kernel's tick counters (`utime`, `stime`) have steps of 10 ms, this one has none.
pub(crate) fn cpu_ns(pids: &[u32]) -> u64 {
    pids.iter()
        .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok())
        .flat_map(|tasks| tasks.flatten())
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// Resident memory of the processes. Pages they share count in each, so only differences mean anything.
pub(crate) fn rss_kib(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| rss_of(*pid)).sum()
}

fn rss_of(pid: u32) -> Option<u64> {
    // smaps_rollup walks the page tables; VmRSS is a counter that may lag by some pages per CPU.
    field(&format!("/proc/{pid}/smaps_rollup"), "Rss:")
        .or_else(|| field(&format!("/proc/{pid}/status"), "VmRSS:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// True when a debugger (strace) is attached to every thread.
pub(crate) fn traced(pids: &[u32]) -> bool {
    let tracers: Vec<String> = pids
        .iter()
        .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok())
        .flat_map(|tasks| tasks.flatten())
        .filter_map(|task| field(task.path().join("status").to_str()?, "TracerPid:"))
        .collect();
    !tracers.is_empty() && tracers.iter().all(|tracer| tracer != "0")
}

/// CPUs this process may use, before it is pinned.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    let list = field("/proc/self/status", "Cpus_allowed_list:").unwrap_or_default();
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>())
        {
            cpus.extend(first..=last);
        }
    }
    cpus
}

/// The rest of the first line of `path` that starts with `name`.
pub(crate) fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.strip_prefix(name).map(|rest| rest.trim_start_matches([' ', '\t', ':']).trim().to_owned())
}

/// Average number of runnable tasks over the last minute: how disturbed a sample was.
pub(crate) fn load_average() -> f64 {
    fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0.0)
}
