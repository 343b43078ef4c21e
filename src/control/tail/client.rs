//! The command: asks the running process, and prints what comes.

use std::io::{self, BufRead as _, BufReader, BufWriter, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
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
    /// Of this group
    #[arg(long)]
    group: Option<String>,
    /// Answered with one of these: 404, 5xx
    #[arg(long, value_name = "STATUS,…")]
    status: Option<String>,
    /// Failed for this, or one of its attempts did: connect_refused, header_timeout, …
    #[arg(long)]
    cause: Option<String>,
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
            ("status", &self.status),
            ("cause", &self.cause),
            ("backend", &self.backend),
            ("slower_than", &self.slower_than),
            ("path", &self.path),
        ];
        for (key, value) in parts {
            if let Some(value) = value {
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
    let stdout = io::stdout().lock();
    let mut texts = Texts::new(colours(&stdout));
    let mut out = BufWriter::with_capacity(64 * 1024, stdout);
    let mut lines = client::open(state_dir, &target)?;
    // For whoever waits for it; without a standard error nobody does.
    let _ = writeln!(io::stderr().lock(), "reading along; Ctrl-C ends it");
    loop {
        let printed = print(&mut lines, &mut out, (!wanted.json).then_some(&mut texts));
        match printed {
            Ok(false) => return Ok(()),
            Ok(true) => {
                lines = client::open(state_dir, &target)?;
                let _ = writeln!(io::stderr().lock(), "a new process serves from now on");
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Prints until the end of the lines; whether another process has more.
fn print(
    lines: &mut BufReader<UnixStream>,
    out: &mut impl Write,
    mut texts: Option<&mut Texts>,
) -> io::Result<bool> {
    #[derive(Deserialize)]
    struct Last {
        handed_over: bool,
    }
    let mut bytes = Vec::new();
    loop {
        if !lines.buffer().contains(&b'\n') {
            out.flush()?;
        }
        bytes.clear();
        // A process that is killed breaks it off.
        if lines.read_until(b'\n', &mut bytes).is_err() || bytes.is_empty() {
            out.flush()?;
            return Ok(false);
        }
        if serde_json::from_slice(&bytes).is_ok_and(|last: Last| last.handed_over) {
            out.flush()?;
            return Ok(true);
        }
        match &mut texts {
            None => out.write_all(&bytes)?,
            Some(texts) => {
                let line = String::from_utf8_lossy(&bytes);
                out.write_all(texts.of(line.trim_end()).as_bytes())?;
            }
        }
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
