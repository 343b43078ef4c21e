//! The real binary, started on a directory made for the test.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Client, DEADLINE, Leaf, authority, eventually};

/// How long the log of a test that failed is waited for.
const LAST_LINES: Duration = Duration::from_millis(300);

/// Has the standard input passed as the first of two sockets.
const PASS: &str = "exec 3<&0 4</dev/null 0<&4 && \
    export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=game:rubbish";

/// A config directory that is being put together.
#[derive(Debug)]
pub(crate) struct Setup {
    directory: Arc<TempDir>,
    process: String,
    top: String,
    workers: usize,
    descriptors: Option<u32>,
    log: Option<OwnedFd>,
    passed: Option<OwnedFd>,
    environment: Vec<(String, String)>,
}

/// A running lockgate; killed when dropped.
#[derive(Debug)]
pub(crate) struct Lockgate {
    child: Child,
    directory: Arc<TempDir>,
    stdout: Receiver<String>,
    log: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
    admin: u16,
    listening: Vec<String>,
}

impl Lockgate {
    /// A directory with one drop-in; [`Setup::start`] runs it.
    pub(crate) fn with(file: &str, text: &str) -> Setup {
        Setup::empty().file(file, text)
    }
}

impl Setup {
    /// A directory without drop-ins.
    pub(crate) fn empty() -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        std::fs::create_dir(directory.path().join("listeners.d")).unwrap();
        std::fs::create_dir(directory.path().join("certs")).unwrap();
        let (process, top) = Default::default();
        let environment = Vec::new();
        Self {
            directory,
            process,
            top,
            workers: 1,
            descriptors: None,
            log: None,
            passed: None,
            environment,
        }
    }

    /// One more drop-in. Certificates its HTTPS listeners need are made, where
    /// they are not there yet.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        for (certificate, names) in certificates_of(text) {
            if !self.path().join(format!("certs/{certificate}.crt")).exists() {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                self.write_certificate(&certificate, &authority().server(&names));
            }
        }
        self.any_file(&format!("listeners.d/{name}"), text)
    }

    /// A file anywhere in the directory.
    pub(crate) fn any_file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.path().join(name), text).unwrap();
        self
    }

    /// `certs/NAME.crt` and `certs/NAME.key` for these names.
    pub(crate) fn certificate(self, name: &str, names: &[&str]) -> Self {
        self.leaf(name, &authority().server(names))
    }

    /// The same with a certificate the test made.
    pub(crate) fn leaf(self, name: &str, leaf: &Leaf) -> Self {
        self.write_certificate(name, leaf);
        self
    }

    fn write_certificate(&self, name: &str, leaf: &Leaf) {
        let path = self.path().join("certs");
        std::fs::write(path.join(format!("{name}.crt")), &leaf.chain_pem).unwrap();
        std::fs::write(path.join(format!("{name}.key")), &leaf.key_pem).unwrap();
    }

    /// Tables of `lockgate.toml`.
    pub(crate) fn process(mut self, text: &str) -> Self {
        self.process.push_str(text);
        self
    }

    /// Keys at the top of `lockgate.toml`.
    pub(crate) fn top(mut self, text: &str) -> Self {
        self.top.push_str(text);
        self
    }

    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Starts it with so few file descriptors.
    pub(crate) fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// Starts it with this socket as systemd passes one, and with another descriptor
    /// that is no socket.
    pub(crate) fn passed(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.passed = Some(socket.into());
        self
    }

    /// A variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its standard error goes there; [`Lockgate::log`] then has nothing.
    pub(crate) fn log_to(mut self, file: impl Into<OwnedFd>) -> Self {
        self.log = Some(file.into());
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The binary with these arguments, in this directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let text = format!(
            "workers = {}\n{}\n[admin]\naddress = \"127.0.0.1:0\"\n{}\n",
            self.workers, self.top, self.process
        );
        std::fs::write(self.path().join("lockgate.toml"), text).unwrap();
        let binary = env!("CARGO_BIN_EXE_lockgate");
        let prepare = match (self.descriptors, &self.passed) {
            (Some(limit), _) => Some(format!("ulimit -n {limit}")),
            (None, Some(_)) => Some(PASS.to_owned()),
            (None, None) => None,
        };
        let mut command = match prepare {
            None => Command::new(binary),
            Some(prepare) => {
                let mut command = Command::new("sh");
                command.args(["-c", &format!("{prepare} && exec \"$@\""), "sh", binary]);
                command
            }
        };
        command
            .args(arguments)
            .current_dir(self.path())
            .env_remove("STATE_DIRECTORY")
            .env_remove("NOTIFY_SOCKET")
            .env("NO_COLOR", "1")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// `ARGUMENTS --config DIR --state DIR/state`.
    pub(crate) fn full_command(&self, arguments: &[&str]) -> Command {
        let state: PathBuf = self.path().join("state");
        let mut command = self.command(arguments);
        command.arg("--config").arg(self.path()).arg("--state").arg(state);
        command
    }

    /// Runs a command that ends by itself.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        Finished::of(self.full_command(arguments))
    }

    /// Starts lockgate and waits until it serves.
    #[track_caller]
    pub(crate) fn start(&self) -> Lockgate {
        self.start_with(&["run"])
    }

    /// Starts `run` or `demo` and waits until it serves.
    #[track_caller]
    pub(crate) fn start_with(&self, arguments: &[&str]) -> Lockgate {
        let mut command = self.full_command(arguments);
        if let Some(log) = &self.log {
            command.stderr(log.try_clone().unwrap());
        }
        if let Some(socket) = &self.passed {
            command.stdin(socket.try_clone().unwrap());
        }
        let mut child = command.spawn().unwrap();
        let log = Arc::<Mutex<String>>::default();
        let (sender, stdout) = channel();
        // Where it listens is said there while standard output has the access log.
        let said = self.process.contains("\"stdout\"").then(|| sender.clone());
        let reader = child.stderr.take().map(|stderr| {
            let log = Arc::clone(&log);
            copy_lines(stderr, move |line| {
                let is_of_start = ["admin http://", "listening ", "ready"]
                    .iter()
                    .any(|one| line.starts_with(one));
                if let Some(said) = said.as_ref().filter(|_| is_of_start) {
                    drop(said.send(line.clone()));
                }
                log.lock().unwrap().push_str(&(line + "\n"));
            })
        });
        copy_lines(child.stdout.take().unwrap(), move |line| drop(sender.send(line)));
        let mut lockgate = Lockgate {
            child,
            directory: Arc::clone(&self.directory),
            stdout,
            log,
            reader,
            admin: 0,
            listening: Vec::new(),
        };
        lockgate.wait_until_ready();
        lockgate
    }
}

impl Lockgate {
    #[track_caller]
    fn wait_until_ready(&mut self) {
        let end = Instant::now() + DEADLINE * 2;
        loop {
            let line = match self.stdout.recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => panic!("never ready; log:\n{}", self.log()),
                Err(RecvTimeoutError::Disconnected) => {
                    let code = self.child.wait();
                    panic!("lockgate ended with {code:?}; log:\n{}", self.log())
                }
            };
            if let Some(address) = line.strip_prefix("admin http://127.0.0.1:") {
                self.admin = address.trim_end_matches('/').parse().unwrap();
            } else if let Some(address) = line.strip_prefix("listening ") {
                self.listening.push(address.to_owned());
            } else if line.starts_with("ready") {
                return;
            }
        }
    }

    /// A client of the admin address.
    pub(crate) fn admin(&self) -> Client {
        Client::plain(self.admin)
    }

    /// `host:port` of the admin address.
    pub(crate) fn admin_host(&self) -> String {
        format!("127.0.0.1:{}", self.admin)
    }

    /// What its `listening` lines named.
    pub(crate) fn listening(&self) -> &[String] {
        &self.listening
    }

    /// What it prints next, after `ready`.
    #[track_caller]
    pub(crate) fn next_line(&self) -> String {
        self.stdout.recv_timeout(DEADLINE).expect("a line on standard output")
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Another command on the same directories, that ends by itself.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        Finished::of(self.command(arguments))
    }

    /// Another command on the same directories.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockgate"));
        command.args(arguments).arg("--config").arg(self.path());
        command.arg("--state").arg(self.path().join("state")).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `lockgate reload` that is taken whole; what it printed.
    #[track_caller]
    pub(crate) fn reload(&self) -> String {
        self.run(&["reload"]).expect(0).stdout
    }

    /// Writes a file of the directory, as an editor does that takes care: the old
    /// one is there until the new one is.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let draft = self.path().join(".draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.path().join(name)).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its whole log: it is stopped for that. What is missing in [`Lockgate::log`]
    /// may only not have been written yet.
    #[track_caller]
    pub(crate) fn log_to_the_end(&mut self) -> String {
        assert_eq!(self.terminate(), 0);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.log()
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a log line with all of these in it.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, parts: &[&str]) -> String {
        let mut found = None;
        eventually(&format!("a log line with {parts:?}"), || {
            let log = self.log();
            let line = log.lines().find(|line| parts.iter().all(|part| line.contains(part)));
            found = line.map(str::to_owned);
            found.is_some()
        });
        found.unwrap_or_default()
    }

    /// Asks it to stop.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// TERM, then its exit code.
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.exit_code()
    }

    /// Waits until it ended and gives its exit code.
    #[track_caller]
    pub(crate) fn exit_code(&mut self) -> i32 {
        wait_for(&mut self.child).code().expect("an exit code, not a signal")
    }
}

impl Drop for Lockgate {
    fn drop(&mut self) {
        if thread::panicking() {
            // Its log is written by a thread of its own: the last lines are
            // those that say what went wrong.
            thread::sleep(LAST_LINES);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if thread::panicking() {
            eprintln!("--- lockgate's log\n{log}---");
        } else {
            assert!(!log.contains("panicked at"), "lockgate panicked:\n{log}");
        }
    }
}

/// A command that ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// Runs a command to its end, which must come by itself.
    #[track_caller]
    pub(crate) fn of(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{:?} does not start: {error}", command.get_program()));
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        let status = wait_for(&mut child);
        let output =
            Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() };
        Self {
            code: output.status.code().expect("an exit code, not a signal"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The exit code, with what was printed when it is another.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Both outputs.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Waits for the end of a process within the deadline; kills it otherwise.
#[track_caller]
fn wait_for(child: &mut Child) -> std::process::ExitStatus {
    let end = Instant::now() + DEADLINE * 3;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            panic!("the process never ended");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// Its lines, read from now on; each is waited for within the deadline.
pub(crate) fn lines_of(from: impl Read + Send + 'static) -> Lines {
    let (sender, lines) = channel();
    copy_lines(from, move |line| drop(sender.send(line)));
    Lines(lines)
}

/// See [`lines_of`].
#[derive(Debug)]
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    /// The next one; `None`: that was the end.
    #[track_caller]
    pub(crate) fn next(&self) -> Option<String> {
        match self.0.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line, and no end"),
        }
    }
}

fn copy_lines(
    from: impl Read + Send + 'static,
    mut to: impl FnMut(String) + Send + 'static,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            to(line);
        }
    })
}

/// The certificates a drop-in's HTTPS listeners look for, by the first domain
/// or the name they give, with the names each must have.
fn certificates_of(text: &str) -> Vec<(String, Vec<String>)> {
    let strings = |value: &toml::Value| match value {
        toml::Value::String(one) => vec![one.clone()],
        toml::Value::Array(many) => {
            many.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    let Ok(file) = text.parse::<toml::Table>() else {
        return Vec::new();
    };
    let listeners = file.get("listener").and_then(toml::Value::as_array);
    let mut found = Vec::new();
    for listener in listeners.into_iter().flatten() {
        if listener.get("protocol").and_then(toml::Value::as_str) == Some("http") {
            continue;
        }
        let domains = listener.get("domain").map(strings).unwrap_or_default();
        let name = match listener.get("certificate") {
            Some(toml::Value::String(name)) => Some(name.clone()),
            Some(_) => None,
            None => domains.first().map(|name| name.trim_start_matches("*.").to_owned()),
        };
        found.extend(name.map(|name| (name, domains)));
    }
    found
}
