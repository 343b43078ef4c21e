//! `lockgate drain`, `maint` and `ready`, seen from the command: asks the running
//! process, and waits until the last player is gone if that is wanted.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::admin_state::{Wish, query_of};
use super::client;
use super::status::Status;
use super::targets::{Left, TargetStatus, Told};
use crate::config::show_duration;

/// How often the running process is asked.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is said who is left, also when nothing changed.
const TELL: Duration = Duration::from_secs(5);
/// So long nobody may answer: one lockgate ends, and another starts.
const SILENCE: Duration = Duration::from_secs(30);

/// How long to wait for backends to be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// `None`: as long as it takes.
    pub max: Option<Duration>,
}

/// A line of `--json` while it is waited.
#[derive(Serialize)]
struct Line<'a> {
    empty: bool,
    #[serde(flatten)]
    left: Left,
    backends: &'a [TargetStatus],
}

/// Why it is not waited any more.
enum End {
    Empty,
    Passed,
    Left,
    Other(String),
}

/// Why it is not known who is left.
enum Unknown {
    /// A reload took a backend away.
    Gone(String),
    /// Nobody knows at the moment: one lockgate ends and another starts.
    Silence(String),
}

/// Does it, and says what was done; with `wait` then who is left until that is
/// nobody. Whether all of it was done.
///
/// # Errors
/// Nothing was done, or nobody answers any more.
pub fn set(
    state_dir: &Path,
    wish: &Wish,
    wait: Option<Wait>,
    json: bool,
    out: &mut impl Write,
) -> Result<bool, String> {
    let answer = client::ask(state_dir, "POST", &wish.target())?;
    let told = parse(&answer)?;
    // It is done, whether anybody reads it or not.
    let _ = match (json, wait) {
        (true, None) => out.write_all(&answer).and_then(|()| writeln!(out)),
        (true, Some(_)) => Ok(()),
        (false, _) => told.backends.iter().try_for_each(|one| writeln!(out, "{one}")),
    };
    for warning in &told.warnings {
        let _ = writeln!(io::stderr().lock(), "warning: {warning}");
    }
    if let Some(problem) = &told.problem {
        let _ = writeln!(io::stderr().lock(), "error: {problem}");
    }
    let names: Vec<String> = told.backends.iter().map(|one| one.name.clone()).collect();
    match wait {
        Some(wait) if !names.is_empty() => {
            let watch = Watch { state_dir: state_dir.to_owned(), names, json, wait };
            watch.run(wish, out).map(|empty| empty && told.problem.is_none())
        }
        _ => Ok(told.problem.is_none()),
    }
}

fn parse(answer: &[u8]) -> Result<Told, String> {
    serde_json::from_slice(answer)
        .map_err(|error| format!("the running lockgate is of another version: {error}"))
}

/// Waits for backends to be empty.
struct Watch {
    state_dir: PathBuf,
    names: Vec<String>,
    json: bool,
    wait: Wait,
}

impl Watch {
    fn run(&self, wish: &Wish, out: &mut impl Write) -> Result<bool, String> {
        let began = Instant::now();
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the event loop: {error}"))?;
        let (end, last) = runtime.block_on(self.wait(began, out))?;
        let seconds = Duration::from_secs(began.elapsed().as_secs());
        let stays =
            format!("drain stays: `lockgate ready {}` takes it back", wish.targets.join(" "));
        let mut said = String::new();
        let why = match end {
            End::Empty => {
                if !self.json {
                    // As above.
                    let _ = writeln!(out, "empty after {}", show_duration(seconds));
                }
                return Ok(true);
            }
            End::Passed => format!("not empty after {}; {stays}", show_duration(seconds)),
            End::Left => format!("not waited for any longer; {stays}"),
            End::Other(why) => why,
        };
        for one in last.iter().filter(|one| !one.left.is_empty()) {
            let _ = writeln!(said, "{one}");
        }
        let _ = writeln!(io::stderr().lock(), "{said}{why}");
        Ok(false)
    }

    async fn wait(
        &self,
        began: Instant,
        out: &mut impl Write,
    ) -> Result<(End, Vec<TargetStatus>), String> {
        let failed = |error: io::Error| format!("signals: {error}");
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut heard = Instant::now();
        let mut told: Option<(Left, Instant)> = None;
        let mut last = Vec::new();
        loop {
            match self.look() {
                Ok(all) => {
                    heard = Instant::now();
                    last = all;
                    let left = last.iter().map(|one| one.left).fold(Left::default(), Left::and);
                    if told.is_none_or(|(before, at)| before != left || at.elapsed() >= TELL) {
                        told = Some((left, Instant::now()));
                        self.say(left, &last, out);
                    }
                    if let Some(one) = last.iter().find(|one| one.state == "ready") {
                        let why = format!("`{}` is ready again: not waited for", one.name);
                        return Ok((End::Other(why), last));
                    }
                    if left.is_empty() {
                        return Ok((End::Empty, last));
                    }
                }
                Err(Unknown::Gone(why)) => {
                    let why = format!(
                        "{why}; a reload took it away: not waited for any longer, though its \
                         open WebSockets stay until they end"
                    );
                    return Ok((End::Other(why), last));
                }
                Err(Unknown::Silence(why)) if heard.elapsed() >= SILENCE => return Err(why),
                // The state is kept.
                Err(Unknown::Silence(_)) => {}
            }
            let rest = self.wait.max.map(|max| max.saturating_sub(began.elapsed()));
            if rest.is_some_and(|rest| rest.is_zero()) {
                return Ok((End::Passed, last));
            }
            tokio::select! {
                _ = interrupt.recv() => return Ok((End::Left, last)),
                _ = terminate.recv() => return Ok((End::Left, last)),
                () = tokio::time::sleep(rest.map_or(LOOK, |rest| rest.min(LOOK))) => {}
            }
        }
    }

    /// Who is left at each, also in processes that finish what they hold.
    fn look(&self) -> Result<Vec<TargetStatus>, Unknown> {
        let target = format!("/state?{}", query_of(&self.names));
        let answer = client::answer(&self.state_dir, "GET", &target).map_err(Unknown::Silence)?;
        let mut told = match answer {
            (200, told) => parse(&told).map_err(Unknown::Silence)?,
            (404, why) => return Err(Unknown::Gone(client::said(&why))),
            (_, why) => return Err(Unknown::Silence(client::said(&why))),
        };
        for old in client::old_processes(&self.state_dir) {
            let Ok(old) = serde_json::from_slice::<Status>(&old) else { continue };
            for one in &mut told.backends {
                one.left = one.left.with_old(old.held_at(&one.name));
            }
        }
        Ok(told.backends)
    }

    fn say(&self, left: Left, backends: &[TargetStatus], out: &mut impl Write) {
        // It is waited, whether anybody reads it or not.
        let _ = match self.json {
            true => {
                let line = Line { empty: left.is_empty(), left, backends };
                writeln!(out, "{}", serde_json::to_string(&line).unwrap_or_default())
            }
            false => writeln!(out, "{left}"),
        };
        let _ = out.flush();
    }
}
