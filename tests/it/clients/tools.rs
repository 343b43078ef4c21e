//! Programs that are not ours: found, started, heard and ended.

use std::borrow::BorrowMut;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::{Site, authority};

/// The longest a program may take: an interpreter or a browser on a busy
/// machine. Only reached by a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that is running; killed when dropped.
struct Program {
    child: Child,
    stdout: Receiver<String>,
    heard: Vec<String>,
    stderr: JoinHandle<String>,
}

/// A server that is not ours. Its first line is its port, the others are
/// what it saw.
pub(super) struct Server {
    program: Program,
    port: u16,
}

/// A client that goes on while the test does something else: it is told what to
/// do, a line at a time, and answers each line with one.
pub(super) struct Player {
    program: Program,
    orders: ChildStdin,
}

/// A program of the system, with nothing of our environment but the path.
pub(super) fn program(name: &str, home: &Path) -> Command {
    let mut command = Command::new(name);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("LANG", "C.UTF-8")
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A script of `tests/clients`, for the Python that has `requirements.txt`.
pub(super) fn python(name: &str, home: &Path) -> Command {
    let python = installed("LOCKGATE_TEST_VENV", "bin/python", "tests/clients/requirements.txt");
    let mut command = program(&python.display().to_string(), home);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1").arg(script(name));
    command
}

/// A script of `tests/clients`, for Node with what `package.json` names.
pub(super) fn node(name: &str, home: &Path) -> Command {
    let modules = installed("LOCKGATE_TEST_NODE", "node_modules", "tests/clients/package.json");
    let mut command = program("node", home);
    command
        .env("NODE_PATH", modules)
        .env("NODE_EXTRA_CA_CERTS", trusted(home))
        .arg("--require")
        .arg(script("loopback.js"))
        .arg(script(name));
    command
}

/// A client's script, told where the site is.
pub(super) fn visiting(mut command: Command, site: &Site, more: &[&str]) -> Command {
    command.arg(origin(site)).arg(trusted(site.lockgate.path())).args(more);
    command
}

/// `https://a.test:PORT`.
pub(super) fn origin(site: &Site) -> String {
    format!("https://a.test:{}", site.port())
}

/// A file with the authority that clients believe.
pub(super) fn trusted(directory: &Path) -> PathBuf {
    let path = directory.join("authority.pem");
    std::fs::write(&path, authority().pem()).unwrap();
    path
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// A path in a folder that an environment variable names.
#[track_caller]
fn installed(variable: &str, within: &str, list: &str) -> PathBuf {
    let Some(folder) = std::env::var_os(variable) else {
        panic!("{variable} must name the folder where {list} is installed; .ci/run does both");
    };
    let path = Path::new(&folder).join(within);
    assert!(path.exists(), "{variable}: there is no {}; .ci/run installs it", path.display());
    path
}

/// Runs a program to its end and gives what it printed; it must succeed.
#[track_caller]
pub(super) fn run(command: Command) -> String {
    Program::start(command).end()
}

impl Player {
    #[track_caller]
    pub(super) fn start(mut command: Command) -> Self {
        let mut program = Program::start(command.stdin(Stdio::piped()));
        let orders = program.child.stdin.take().unwrap();
        Self { program, orders }
    }

    /// Waits until it has done this, and gives what it says of it.
    #[track_caller]
    pub(super) fn told(&mut self, order: &str) -> String {
        // One that has ended has no line to give either.
        let _ = writeln!(self.orders, "{order}");
        match self.program.line(Instant::now() + PATIENCE) {
            Some(line) => line,
            None => panic!("it ended at {order:?}; it says\n{}", self.program.errors()),
        }
    }

    /// There is nothing more to do; it must end well.
    #[track_caller]
    pub(super) fn end(self) {
        let Self { mut program, orders } = self;
        drop(orders);
        program.end();
    }
}

impl Server {
    /// Starts it and waits until it listens.
    #[track_caller]
    pub(super) fn start(command: Command) -> Self {
        let mut program = Program::start(command);
        match program.line(Instant::now() + PATIENCE).map(|line| line.parse()) {
            Some(Ok(port)) => Self { program, port },
            other => panic!("no port but {other:?}; it says\n{}", program.errors()),
        }
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Waits until it has seen this.
    #[track_caller]
    pub(super) fn wait_for(&mut self, seen: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.program.heard.iter().any(|line| line == seen) {
            if self.program.line(end).is_none() {
                panic!("the server ended and never saw {seen:?} but {:#?}", self.program.heard);
            }
        }
    }
}

impl Program {
    #[track_caller]
    fn start(mut command: impl BorrowMut<Command>) -> Self {
        let command = command.borrow_mut();
        let name = command.get_program().to_owned();
        let mut child = command.spawn().unwrap_or_else(|error| absent(&name, &error));
        let (sender, stdout) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let stderr = thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self { child, stdout, heard: Vec::new(), stderr }
    }

    /// Waits until it has ended and gives what it printed; it must succeed.
    #[track_caller]
    fn end(&mut self) -> String {
        let end = Instant::now() + PATIENCE;
        while self.line(end).is_some() {}
        let code = loop {
            if let Some(code) = self.child.try_wait().unwrap() {
                break code;
            }
            assert!(Instant::now() < end, "it does not end; so far\n{}", self.heard.join("\n"));
            thread::sleep(Duration::from_millis(5));
        };
        let printed = self.heard.join("\n");
        if !code.success() {
            panic!("{code}; it printed\n{printed}\n{}", self.errors());
        }
        printed
    }

    /// The next line it prints; `None` when it printed its last one.
    #[track_caller]
    fn line(&mut self, end: Instant) -> Option<String> {
        match self.stdout.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                self.heard.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                let heard = std::mem::take(&mut self.heard).join("\n");
                panic!("it says nothing more and does not end; so far\n{heard}\n{}", self.errors())
            }
        }
    }

    /// Its standard error; ends it.
    fn errors(&mut self) -> String {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let ended = thread::spawn(String::new);
        std::mem::replace(&mut self.stderr, ended).join().unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let errors = self.errors();
        if thread::panicking() && !errors.is_empty() {
            eprintln!("--- standard error of a client or server\n{errors}---");
        }
    }
}

#[track_caller]
fn absent(name: &OsStr, error: &std::io::Error) -> ! {
    panic!("{} does not start ({error}); .ci/run installs it", name.display())
}
