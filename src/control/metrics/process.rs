//! The `process_` metrics that every exporter has, under their usual names.

use std::fmt;
use std::fs;
use std::sync::OnceLock;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::text::Out;

pub(super) fn encode(out: &mut Out<'_>) -> fmt::Result {
    out.counter("process_cpu_seconds", "Processor time spent, in user and system mode.")?
        .add(&[], cpu_seconds())?;
    let gauges = [
        ("process_resident_memory_bytes", "Memory that is in RAM.", resident_bytes()),
        ("process_open_fds", "Open file descriptors.", open_descriptors()),
        (
            "process_max_fds",
            "The most of them; absent where there is no limit.",
            getrlimit(Resource::Nofile).current,
        ),
    ];
    for (name, help, value) in gauges {
        let mut gauge = out.gauge(name, help)?;
        if let Some(value) = value {
            gauge.set(&[], value)?;
        }
    }
    static START: OnceLock<Option<f64>> = OnceLock::new();
    let mut start = out.gauge("process_start_time_seconds", "When it began, since 1970.")?;
    match START.get_or_init(start_seconds) {
        Some(at) => start.set(&[], *at),
        None => Ok(()),
    }
}

fn cpu_seconds() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn resident_bytes() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(page_size()).ok()?)
}

fn open_descriptors() -> Option<u64> {
    // Linux says how many since 6.2; before they have to be looked through.
    let said = fs::metadata("/proc/self/fd").ok()?.len();
    match said {
        // The one that looks is open too.
        0 => u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)).ok(),
        said => Some(said),
    }
}

fn start_seconds() -> Option<f64> {
    let own = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; the start is the 20th after it.
    let (_, fields) = own.rsplit_once(')')?;
    let ticks: u64 = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    // `/proc/stat` says when that was, but not to who sees its own processes alone
    // (`ProcSubset=pid`).
    let boot = seconds(ClockId::Realtime) - seconds(ClockId::Boottime);
    Some(boot + ticks as f64 / clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_system_tells_all_of_it() {
        assert!(cpu_seconds() > 0.0);
        assert!(resident_bytes().unwrap() > 1 << 20);
        let before = open_descriptors().unwrap();
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests open and close some meanwhile.
        assert!(open_descriptors().unwrap() >= before.saturating_sub(20) + 30);
        drop(held);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - start_seconds().unwrap();
        assert!((-2.0..36_000.0).contains(&age), "{age}");
    }
}
