//! Child processes that never outlive the run.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Process groups to end when we are told to stop, and the folder to remove.
static LIVE: Mutex<(Vec<u32>, Option<PathBuf>)> = Mutex::new((Vec::new(), None));

fn live() -> MutexGuard<'static, (Vec<u32>, Option<PathBuf>)> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process in a group of its own, ended when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    name: String,
    /// Standard output and error.
    output: PathBuf,
    ended: bool,
}

impl Child {
    /// Starts `argv` on `cpu` (`None`: where we are), writing to `output`.
    pub(crate) fn start(
        argv: &[String],
        cpu: Option<usize>,
        output: &Path,
    ) -> Result<Self, String> {
        let mut words = argv.to_vec();
        if let Some(cpu) = cpu {
            let pin = ["taskset", "-c", &cpu.to_string()].map(str::to_owned);
            words.splice(0..0, pin);
        }
        let name = argv.first().cloned().unwrap_or_default();
        let log = File::create(output).map_err(|error| format!("{}: {error}", output.display()))?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let (program, rest) = words.split_first().ok_or("nothing to start")?;
        // An own group: Ctrl-C reaches only us, and all of it can be ended by one id.
        let process = Command::new(program)
            .args(rest)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{name} did not start: {error}"))?;
        live().0.push(process.id());
        Ok(Self { process, name, output: output.to_owned(), ended: false })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read(&self.output)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines it printed, for an error message.
    pub(crate) fn last_words(&self) -> String {
        let text = self.printed();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }

    /// Its exit status once it has ended.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        let status = self.process.try_wait().ok().flatten();
        self.ended |= status.is_some();
        status
    }

    /// Waits until it ends by itself; after `limit` it is an error.
    pub(crate) fn finish(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.status() {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(format!("{} did not end within {limit:?}", self.name));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = raw(self.pid()).filter(|_| !self.ended) {
            kill_process(pid, signal).ok(); // it may just have ended
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The leader first: a master process ends its own workers.
        self.signal(Signal::TERM);
        if !self.ended {
            self.finish(Duration::from_secs(3)).ok();
        }
        let group = self.pid();
        if let Some(pid) = raw(group) {
            kill_process_group(pid, Signal::KILL).ok(); // an error says that the group is empty
        }
        self.process.wait().ok();
        live().0.retain(|other| *other != group);
    }
}

fn raw(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// From now on SIGINT, SIGTERM and SIGHUP end the children and remove `folder` first.
pub(crate) fn clean_up_on_signals(folder: &Path) -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    live().1 = Some(folder.to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let streams = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
                signal(SignalKind::hangup()),
            );
            let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = streams else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            // Held until the end, so that the main thread starts nothing more.
            let live = live();
            for pid in live.0.iter().filter_map(|pid| raw(*pid)) {
                kill_process_group(pid, Signal::KILL).ok();
            }
            if let Some(folder) = &live.1 {
                fs::remove_dir_all(folder).ok();
            }
            std::process::exit(130);
        });
    });
    Ok(())
}
