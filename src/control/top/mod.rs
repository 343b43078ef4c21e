//! `lockgate top`: what happens now, by group and backend, from two looks at the
//! counters of the running process.

mod sample;
mod view;

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use self::sample::{Document, View};
use super::client;
use super::terminal::{colours, plain};
use crate::config;

/// What is shown, and how often.
#[derive(Debug, clap::Args)]
pub struct Wanted {
    /// How much time a view is about, and how often there is one: 100ms to 1h
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = a_while)]
    interval: Duration,
    /// Those with the most of it come first
    #[arg(long, value_enum, default_value = "traffic")]
    sort: Sort,
    /// One view, then end
    #[arg(long)]
    once: bool,
    /// Print each view as a JSON object on a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Sort {
    Traffic,
    Errors,
}

fn a_while(text: &str) -> Result<Duration, String> {
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    let while_ = config::parse_duration(text).filter(|while_| range.contains(while_));
    while_.ok_or_else(|| "write a duration from 100ms to 1h, such as 2s".to_owned())
}

/// So long nobody may answer: one lockgate ends, and another starts.
const SILENCE: Duration = Duration::from_secs(30);

/// Shows views until lockgate is gone, nobody reads them any more, or Ctrl-C comes.
///
/// # Errors
/// Nobody serves, or the views cannot be shown.
pub fn top(state_dir: &Path, wanted: &Wanted) -> Result<(), String> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let shown = runtime.block_on(show(state_dir, wanted));
    // A question that is under way is not waited for.
    runtime.shutdown_background();
    shown
}

async fn show(state_dir: &Path, wanted: &Wanted) -> Result<(), String> {
    let said = |error: io::Error| error.to_string();
    let mut ends = Ends::new().map_err(said)?;
    let mut size = signal(SignalKind::window_change()).map_err(said)?;
    let mut before = look(state_dir).await?;
    let is_terminal = io::stdout().is_terminal();
    let mut screen = (is_terminal && !wanted.once && !wanted.json).then(Screen::open);
    if let Some(screen) = &mut screen {
        screen.draw("counting …\n").map_err(said)?;
    }
    let mut drawn = String::new();
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            () = ends.came() => return Ok(()),
            _ = size.recv(), if screen.is_some() => {
                if let Some(screen) = &mut screen {
                    screen.draw(&drawn).map_err(said)?;
                }
                continue;
            }
            () = sleep(wanted.interval) => {}
        }
        let now = tokio::select! {
            () = ends.came() => return Ok(()),
            now = look(state_dir) => now,
        };
        let now = match now {
            Ok(now) => now,
            Err(why) if heard.elapsed() < SILENCE => {
                // A restart, or an upgrade.
                match &mut screen {
                    Some(screen) => {
                        screen.draw(&format!("{}\n{drawn}", plain(&why))).map_err(said)?;
                    }
                    None => {
                        let _ = writeln!(io::stderr().lock(), "{}", plain(&why));
                    }
                }
                continue;
            }
            // What was shown is gone with the screen.
            Err(why) => {
                drop(screen);
                return Err(why);
            }
        };
        heard = Instant::now();
        let view = View::between(&before, &now);
        before = now;
        // A new process began to count anew.
        let Some(mut view) = view else { continue };
        match wanted.sort {
            Sort::Traffic => view.sort_by(|rates| rates.per_second),
            Sort::Errors => view.sort_by(|rates| rates.errors_per_second),
        }
        drawn = match wanted.json {
            true => serde_json::to_string(&view).unwrap_or_default() + "\n",
            false => view::table(&view, colours(&io::stdout())),
        };
        let shown = match &mut screen {
            Some(screen) => screen.draw(&drawn),
            None => print(&drawn, wanted),
        };
        match shown {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            shown => shown.map_err(said)?,
        }
        if wanted.once {
            return Ok(());
        }
    }
}

async fn look(state_dir: &Path) -> Result<Document, String> {
    let state_dir = state_dir.to_owned();
    let answer =
        spawn_blocking(move || client::ask(&state_dir, "GET", "/status.json?compact")).await;
    let answer = answer.map_err(|error| error.to_string())??;
    serde_json::from_slice(&answer)
        .map_err(|error| format!("the running lockgate is of another version: {error}"))
}

fn print(text: &str, wanted: &Wanted) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !wanted.once && !wanted.json {
        writeln!(out)?;
    }
    out.flush()
}

/// What ends it.
#[derive(Debug)]
struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Ends {
    fn new() -> io::Result<Ends> {
        Ok(Ends {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn came(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

/// A terminal's other screen; what was on it before is there again when this goes.
#[derive(Debug)]
struct Screen;

impl Screen {
    fn open() -> Screen {
        // If that cannot be written, neither can a view, which says so.
        let _ = write_all("\x1b[?1049h\x1b[?25l\x1b[2J");
        Screen
    }

    fn draw(&mut self, text: &str) -> io::Result<()> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let size = size.map(|size| (size.ws_row.into(), size.ws_col.into()));
        // One that does not know its size is the oldest of all.
        let (rows, columns) = size.filter(|size| *size != (0, 0)).unwrap_or((24, 80));
        write_all(&view::fitted(text, rows, columns))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write_all("\x1b[?25h\x1b[?1049l");
    }
}

fn write_all(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
