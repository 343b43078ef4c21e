//! A backend as the storm has it in hand: a process on a port that stays the same.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

/// How often each POST was executed, by its id; written by all backends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Executed(Arc<Mutex<HashMap<String, u32>>>);

impl Executed {
    fn note(&self, id: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(id.to_owned()).or_default() += 1;
    }

    /// Those executed more than once.
    pub(crate) fn twice(&self) -> Vec<String> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let twice = counts.iter().filter(|(_, count)| **count > 1);
        twice.map(|(id, count)| format!("{id} was executed {count} times")).collect()
    }

    /// Whether this one was.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }
}

/// What happens to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, and later a new process.
    Kill,
    /// SIGSTOP, and later SIGCONT.
    Pause,
}

/// A backend's process. Ends when dropped.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) name: String,
    pub(crate) port: u16,
    /// Makes the process, which calls [`super::serve`].
    launch: fn(&str, u16) -> Command,
    executed: Executed,
    child: Option<Child>,
    readers: Vec<JoinHandle<()>>,
}

impl Backend {
    pub(crate) fn start(
        name: &str,
        port: u16,
        launch: fn(&str, u16) -> Command,
        executed: &Executed,
    ) -> Result<Self, String> {
        let executed = executed.clone();
        let name = name.to_owned();
        let mut backend = Self { name, port, launch, executed, child: None, readers: Vec::new() };
        backend.spawn()?;
        Ok(backend)
    }

    fn spawn(&mut self) -> Result<(), String> {
        let mut child = (self.launch)(&self.name, self.port)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} did not start: {error}", self.name))?;
        let reports = child.stderr.take().map(BufReader::new);
        let executed = self.executed.clone();
        self.readers.retain(|reader| !reader.is_finished());
        self.readers.push(std::thread::spawn(move || {
            // What it wrote before it was killed is still read.
            for line in
                reports.into_iter().flat_map(|reports| reports.lines().map_while(Result::ok))
            {
                if let Some(id) = line.strip_prefix("executed ") {
                    executed.note(id);
                }
            }
        }));
        self.child = Some(child);
        Ok(())
    }

    pub(crate) fn hurt(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Kill => {
                self.kill();
                Ok(())
            }
            Fault::Pause => self.signal(Signal::STOP),
        }
    }

    pub(crate) fn heal(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Kill => self.spawn(),
            Fault::Pause => self.signal(Signal::CONT),
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        let child = self.child.as_ref().ok_or("there is no process")?;
        kill_process(Pid::from_child(child), signal)
            .map_err(|error| format!("{}: {error}", self.name))
    }

    /// Ends it; all that it reported is counted then.
    pub(crate) fn end(&mut self) {
        self.kill();
        for reader in self.readers.drain(..) {
            reader.join().ok();
        }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}
