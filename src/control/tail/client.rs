//! The command: asks the running process, and prints what comes.

use std::io::{self, BufRead as _, BufReader, BufWriter, Stdout, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use serde::Deserialize;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::TARGET;
use super::text::Texts;
use crate::control::client;
use crate::control::terminal::colours;

/// Which requests are wanted; all that is named must hold.
#[derive(Debug, clap::Args)]
pub struct Wanted {
    /// Of this game (its file's name without .toml)
    #[arg(long)]
    game: Option<String>,
    /// Of this group; GAME/GROUP is one of a game
    #[arg(long)]
    group: Option<String>,
    /// Answered with one of these: 404, 5xx
    #[arg(long, value_name = "STATUS,…")]
    status: Vec<String>,
    /// Failed for one of these, or one of its attempts did: connect_refused, header_timeout, …
    #[arg(long, value_name = "CAUSE,…")]
    cause: Vec<String>,
    /// With an attempt at this backend
    #[arg(long)]
    backend: Option<String>,
    /// That took longer, such as 500ms
    #[arg(long, value_name = "DURATION")]
    slower_than: Option<String>,
    /// Whose path begins with this
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// That failed, or that a backend answered with 5xx
    #[arg(long)]
    failed: bool,
    /// Print each as a JSON object
    #[arg(long)]
    json: bool,
}

impl Wanted {
    fn target(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let parts = [
            ("game", &self.game),
            ("group", &self.group),
            ("backend", &self.backend),
            ("slower_than", &self.slower_than),
            ("path", &self.path),
        ];
        for (key, value) in parts {
            if let Some(value) = value {
                query.append_pair(key, value);
            }
        }
        for (key, values) in [("status", &self.status), ("cause", &self.cause)] {
            for value in values {
                query.append_pair(key, value);
            }
        }
        if self.failed {
            query.append_key_only("failed");
        }
        format!("{TARGET}?{}", query.finish())
    }
}

/// Prints lines until lockgate ends, nobody reads them any more, or Ctrl-C ends
/// this process.
///
/// # Errors
/// What is wanted is none, nobody serves, or it cannot be printed.
pub fn tail(state_dir: &Path, wanted: &Wanted) -> Result<(), String> {
    end_with_interrupt().map_err(|error| format!("cannot wait for Ctrl-C: {error}"))?;
    let target = wanted.target();
    let texts = Texts::new(colours(&io::stdout().lock()));
    let out = BufWriter::with_capacity(64 * 1024, io::stdout());
    let printer = Arc::new(Mutex::new(Printer { out, texts: (!wanted.json).then_some(texts) }));
    let (tell, told) = mpsc::channel();
    let follow = |lines| {
        let (printer, tell) = (Arc::clone(&printer), tell.clone());
        let follow = move || {
            let end = print(lines, &printer, &tell);
            let _ = tell.send(Told::End(end));
        };
        thread::Builder::new().spawn(follow).map_err(|error| error.to_string())
    };
    follow(client::open(state_dir, &target)?)?;
    // For whoever waits for it; without a standard error nobody does.
    let _ = writeln!(io::stderr().lock(), "reading along; Ctrl-C ends it");
    // The old processes of upgrades go on beside the one that serves.
    let mut open = 1;
    while open > 0 {
        match told.recv().map_err(|error| error.to_string())? {
            Told::HandedOver => {
                follow(client::open(state_dir, &target)?)?;
                open += 1;
                let _ = writeln!(
                    io::stderr().lock(),
                    "a new process serves from now on; what it answered in its first moment may \
                     be missing here"
                );
            }
            Told::End(Ok(())) => open -= 1,
            Told::End(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Told::End(Err(error)) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// What is heard of a process that is read from.
enum Told {
    /// Another one has lines too.
    HandedOver,
    /// It has no more.
    End(io::Result<()>),
}

struct Printer {
    out: BufWriter<Stdout>,
    /// `None`: lines are printed as they come.
    texts: Option<Texts>,
}

impl Printer {
    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        match &mut self.texts {
            None => self.out.write_all(line),
            Some(texts) => {
                let line = String::from_utf8_lossy(line);
                self.out.write_all(texts.of(line.trim_end()).as_bytes())
            }
        }
    }
}

/// Prints until the end of the lines.
fn print(
    mut lines: BufReader<UnixStream>,
    printer: &Mutex<Printer>,
    tell: &mpsc::Sender<Told>,
) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Last {
        handed_over: bool,
    }
    let lock = || printer.lock().unwrap_or_else(PoisonError::into_inner);
    let mut bytes = Vec::new();
    loop {
        if !lines.buffer().contains(&b'\n') {
            lock().out.flush()?;
        }
        bytes.clear();
        // A process that is killed breaks it off.
        if lines.read_until(b'\n', &mut bytes).is_err() || bytes.is_empty() {
            return lock().out.flush();
        }
        if serde_json::from_slice(&bytes).is_ok_and(|last: Last| last.handed_over) {
            let _ = tell.send(Told::HandedOver);
            continue;
        }
        lock().put(&bytes)?;
    }
}

/// Ctrl-C is how one ends it, and no failure.
fn end_with_interrupt() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut interrupt = {
        let _inside = runtime.enter();
        signal(SignalKind::interrupt())?
    };
    thread::Builder::new().spawn(move || {
        runtime.block_on(interrupt.recv());
        std::process::exit(0);
    })?;
    Ok(())
}
