//! The command line: which command, where the files are, what goes to the
//! terminal.

mod log;
mod state;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::diagnostic::{self, Diagnostic, Severity};
use crate::config::{self, AdminState, Directory, Reading, SecretPlace};
use crate::control::drain::Wait;
use crate::control::explain::Question;
use crate::control::handover::{Heir, Launch};
use crate::control::reload::{Options, Report};
use crate::control::server::Occasion;
use crate::control::status::Status;
use crate::control::tail::client as tail;
use crate::control::terminal::colours;
use crate::control::{client, demo, explain, last_good, secret, server, top, why};

/// An HTTP and HTTPS reverse proxy for many games on one address
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    /// Directory with listeners.d/, certs/ and lockgate.toml [default: . if it has listeners.d, else /etc/lockgate]
    #[arg(long, global = true, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Directory for what lockgate remembers [default: $STATE_DIRECTORY, else .lockgate in the config directory]
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, in the foreground
    Run,
    /// Serve the shipped games with embedded backends and development certificates
    Demo,
    /// Validate the configuration, or these drop-ins against the rest of it
    Check {
        /// Drop-ins; one that has the name of a file in listeners.d replaces it
        files: Vec<PathBuf>,
        /// Print the problems as JSON
        #[arg(long)]
        json: bool,
    },
    /// Apply what the files say now, without losing anything; prints what changes
    Reload {
        /// Only print what would change
        #[arg(long)]
        dry_run: bool,
        /// Read every file, not only those that look changed
        #[arg(long)]
        all: bool,
        /// That no game is left is meant
        #[arg(long)]
        allow_empty: bool,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Hand over to a new process without losing anything; the old one finishes what it holds
    Upgrade {
        /// The new binary [default: the path the running one was started from]
        binary: Option<PathBuf>,
    },
    /// Explain one request that failed or was retried, by the id its answer and the log have
    Why {
        /// 16 hexadecimal digits
        request_id: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Have backends serve the players bound to them, and nobody new, until `ready`
    Drain {
        #[command(flatten)]
        on: state::Targets,
        /// Wait until nobody is left, and say who is
        #[arg(long)]
        until_empty: bool,
        /// Wait no longer than this, such as 2h; exit code 1 if somebody is left then
        #[arg(long, value_name = "DURATION", requires = "until_empty", value_parser = duration)]
        max: Option<Duration>,
    },
    /// Have backends serve nobody, until `ready`; their players move to others
    Maint {
        #[command(flatten)]
        on: state::Targets,
    },
    /// Have backends serve again
    Ready {
        #[command(flatten)]
        on: state::Targets,
        /// As the drop-in says it, whatever that is
        #[arg(long)]
        as_written: bool,
    },
    /// What runs
    Status {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// What happens now, by group and backend: rates, failures, latencies
    Top(top::Wanted),
    /// Requests as they end, one a line
    Tail(tail::Wanted),
    /// What would become of a request, and why; asks the running process
    Explain(Explain),
    /// The secret that signs sticky cookies
    Secret {
        #[command(subcommand)]
        command: SecretCommand,
    },
}

/// What is no good among these is said by us: clap would print it as it is.
#[derive(Debug, clap::Args)]
struct Explain {
    /// Such as `https://youxia.com:8030/test/`
    url: String,
    /// The cookies the client has: NAME=VALUE; NAME=VALUE
    #[arg(long, value_name = "COOKIES")]
    cookie: Option<String>,
    /// The address the client connects from [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    client_ip: Option<String>,
    /// The method of the request [default: GET]
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// A field of the request, NAME: VALUE; may be repeated
    #[arg(long, value_name = "FIELD")]
    header: Vec<String>,
    /// Ask the files instead, with every backend as at a start
    #[arg(long)]
    offline: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Sign with a new key, go on verifying with the old ones
    Rotate {
        /// Sign with the new key only after this time, such as 1h, in which all instances get it
        #[arg(long, value_name = "DURATION", value_parser = delay)]
        after: Option<Duration>,
    },
}

/// The longest that a new key may wait: as long as an old one verifies.
const LONGEST_DELAY: Duration = Duration::from_secs(30 * 24 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).ok_or_else(|| "write a duration such as 90s or 2h".to_owned())
}

fn delay(text: &str) -> Result<Duration, String> {
    let delay = config::parse_duration(text).filter(|delay| *delay <= LONGEST_DELAY);
    delay.ok_or_else(|| "write a duration up to 30d, such as 1h or 1d12h".to_owned())
}

/// Exit code of a configuration or start failure.
const FAILED: u8 = 1;
/// Exit code of arguments that are none.
const USAGE: u8 = 2;

/// Runs the program. Exit codes: 0 good, 1 configuration or start failure, 2
/// usage, 3 a stop that cut something off.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let guard = log::start();
    let code = match cli.command {
        Command::Run => run(&cli),
        Command::Demo => run_demo(&cli),
        Command::Check { ref files, json } => check(&cli, files, json),
        Command::Reload { dry_run, all, allow_empty, json } => {
            let options = Options { dry_run, all, allow_empty };
            reload(&cli, options, json)
        }
        Command::Upgrade { ref binary } => upgrade(&cli, binary.as_deref()),
        Command::Why { ref request_id, json } => why(&cli, request_id, json),
        Command::Drain { ref on, until_empty, max } => {
            state::set(&cli, on, Some(AdminState::Drain), until_empty.then_some(Wait { max }))
        }
        Command::Maint { ref on } => state::set(&cli, on, Some(AdminState::Maint), None),
        Command::Ready { ref on, as_written } => {
            state::set(&cli, on, (!as_written).then_some(AdminState::Ready), None)
        }
        Command::Status { json } => status(&cli, json),
        Command::Top(ref wanted) => said(top::top(&cli.state(), wanted)),
        Command::Tail(ref wanted) => said(tail::tail(&cli.state(), wanted)),
        Command::Explain(ref asked) => explain(&cli, asked),
        Command::Secret { command: SecretCommand::Rotate { after } } => rotate(&cli, after),
    };
    log::end(guard);
    code
}

impl Cli {
    fn config_dir(&self) -> PathBuf {
        match &self.config {
            Some(dir) => dir.clone(),
            None if Path::new("listeners.d").is_dir() => PathBuf::from("."),
            None => PathBuf::from("/etc/lockgate"),
        }
    }

    fn state(&self) -> PathBuf {
        self.state_dir(&self.config_dir())
    }

    fn state_dir(&self, config_dir: &Path) -> PathBuf {
        let from_systemd = || std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
        self.state.clone().or_else(from_systemd).unwrap_or_else(|| config_dir.join(".lockgate"))
    }
}

/// `lockgate run`: nothing beside it.
struct Serving;

impl Occasion for Serving {
    fn read(&mut self, reading: &Reading) -> Result<(), String> {
        show(reading.all_diagnostics());
        Ok(())
    }

    fn announce(&mut self, _: &mut dyn io::Write) -> io::Result<()> {
        Ok(())
    }

    fn stopping(&mut self) {}
}

/// `lockgate demo`: backends of its own.
struct Showing {
    prepared: demo::Prepared,
    demo: Option<demo::Demo>,
}

impl Occasion for Showing {
    fn read(&mut self, reading: &Reading) -> Result<(), String> {
        show(reading.all_diagnostics());
        let Some(config) = &reading.config else { return Ok(()) };
        self.demo = Some(self.prepared.start(config).map_err(|error| error.to_string())?);
        Ok(())
    }

    fn announce(&mut self, out: &mut dyn io::Write) -> io::Result<()> {
        self.demo.as_ref().map_or(Ok(()), |demo| demo.announce(out))
    }

    fn stopping(&mut self) {
        if let Some(demo) = &self.demo {
            demo.leave();
        }
    }
}

fn run(cli: &Cli) -> ExitCode {
    let dir = cli.config_dir();
    let heir = match Heir::from_env() {
        Ok(heir) => heir,
        Err(error) => return fail(&error),
    };
    let launch = Launch { heir: heir.as_ref(), upgrades: true };
    serve(&dir, &cli.state_dir(&dir), launch, &mut Serving)
}

fn run_demo(cli: &Cli) -> ExitCode {
    let has_shipped = Path::new("listeners.d").is_dir();
    let named = cli.config.as_deref().or(has_shipped.then_some(Path::new(".")));
    let prepared = match demo::prepare(named) {
        Ok(prepared) => prepared,
        Err(error) => return fail(&error),
    };
    let dir = prepared.dir().to_owned();
    let launch = Launch { heir: None, upgrades: false };
    serve(&dir, &cli.state_dir(&dir), launch, &mut Showing { prepared, demo: None })
}

fn serve(
    dir: &Path,
    state_dir: &Path,
    launch: Launch<'_>,
    occasion: &mut impl Occasion,
) -> ExitCode {
    match server::run(dir, state_dir, launch, occasion) {
        Ok(server::Ended::Cleanly) => ExitCode::SUCCESS,
        Ok(server::Ended::Cut) => ExitCode::from(3),
        Err(error) => fail(&error),
    }
}

fn check(cli: &Cli, files: &[PathBuf], json: bool) -> ExitCode {
    let dir = cli.config_dir();
    let state = cli.state_dir(&dir);
    let (last_good, notes) = last_good::read_all(&state);
    let allow_empty = last_good::is_emptied(&state);
    let loaded = Directory::new(&dir, last_good).check(files, allow_empty);
    let errors = loaded.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    let warnings = loaded.diagnostics.len() - errors;
    let good = errors == 0 && loaded.config.is_some();
    let mut out = io::stdout().lock();
    // Nobody reads it any more when this fails.
    let _ = if json {
        writeln!(out, "{}", diagnostic::to_json(&loaded.diagnostics))
    } else {
        let mut err = io::stderr().lock();
        notes.iter().for_each(|note| drop(writeln!(err, "note: {note}")));
        drop(err);
        show(&loaded.diagnostics);
        let verdict = if good { "good" } else { "not good" };
        writeln!(
            out,
            "{}: {verdict}: {}, {}, {}",
            dir.display(),
            count(loaded.files, "drop-in"),
            count(errors, "error"),
            count(warnings, "warning")
        )
    };
    if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn reload(cli: &Cli, options: Options, json: bool) -> ExitCode {
    let state = cli.state_dir(&cli.config_dir());
    let answer = match client::ask(&state, "POST", &options.target()) {
        Ok(answer) => answer,
        Err(error) => return fail(&error),
    };
    let report: Report = match serde_json::from_slice(&answer) {
        Ok(report) => report,
        Err(error) => return fail(&format!("the running lockgate is of another version: {error}")),
    };
    let mut out = io::stdout().lock();
    // It is done, whether anybody reads it or not.
    let _ = match json {
        true => out.write_all(&answer).and_then(|()| writeln!(out)),
        false => write!(out, "{report}"),
    };
    if report.good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn upgrade(cli: &Cli, binary: Option<&Path>) -> ExitCode {
    match client::upgrade(&cli.state_dir(&cli.config_dir()), binary) {
        Ok(said) => {
            // As in `reload`.
            let _ = write!(io::stdout().lock(), "{said}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn why(cli: &Cli, request_id: &str, json: bool) -> ExitCode {
    if !request_id.bytes().all(|byte| byte.is_ascii_graphic() && !b"#%&?".contains(&byte)) {
        return fail(&"a request id is one word, as the answer's body and the log have it");
    }
    let line = match client::recall(&cli.state_dir(&cli.config_dir()), request_id) {
        Ok(line) => line,
        Err(error) => return fail(&error),
    };
    let text = match json {
        true => String::from_utf8_lossy(&line).into_owned() + "\n",
        false => match why::explained(&line) {
            Ok(text) => text,
            Err(error) => {
                return fail(&format!("the running lockgate is of another version: {error}"));
            }
        },
    };
    // As in `reload`.
    let _ = write!(io::stdout().lock(), "{text}");
    ExitCode::SUCCESS
}

fn status(cli: &Cli, json: bool) -> ExitCode {
    let state = cli.state_dir(&cli.config_dir());
    let answer = match client::ask(&state, "GET", "/status.json") {
        Ok(answer) => answer,
        Err(error) => return fail(&error),
    };
    let mut out = io::stdout().lock();
    // As in `reload`.
    let _ = match json {
        true => out.write_all(&answer).and_then(|()| writeln!(out)),
        false => match serde_json::from_slice::<Status>(&answer) {
            Ok(status) => {
                let old = client::old_processes(&state);
                let old = old.iter().filter_map(|one| serde_json::from_slice::<Status>(one).ok());
                write!(out, "{status}").and_then(|()| {
                    old.map(|one| one.of_old_process())
                        .try_for_each(|line| writeln!(out, "\n{line}"))
                })
            }
            Err(error) => {
                return fail(&format!("the running lockgate is of another version: {error}"));
            }
        },
    };
    ExitCode::SUCCESS
}

fn explain(cli: &Cli, asked: &Explain) -> ExitCode {
    let Explain { url, cookie, client_ip, method, header, offline, json } = asked;
    let words = [cookie, client_ip, method].map(Option::as_deref);
    let question = match Question::parse(url, words, header) {
        Ok(question) => question,
        Err(error) => {
            fail(&error);
            return ExitCode::from(USAGE);
        }
    };
    let dir = cli.config_dir();
    let state = cli.state_dir(&dir);
    let explained = if *offline {
        let (told, explained) = explain::offline(&dir, &state, &question);
        show(&told);
        explained
    } else {
        explain::running(&state, &question)
    };
    match explained {
        Ok(explanation) => {
            let mut out = io::stdout().lock();
            // As in `reload`.
            let _ = match *json {
                true => writeln!(out, "{}", explain::to_json(&explanation)),
                false => write!(out, "{}", explain::to_text(&explanation)),
            };
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn rotate(cli: &Cli, after: Option<Duration>) -> ExitCode {
    let dir = cli.config_dir();
    let file = match config::secret_place(&dir) {
        Ok(SecretPlace::File(file)) => file,
        Ok(SecretPlace::State) => secret::state_file(&cli.state_dir(&dir)),
        Ok(SecretPlace::Inline) => {
            return fail(
                &"the secret stands in lockgate.toml itself: move it into a file of its own, \
                  one key a line, and name that with `secret_file`; or add a new key there by \
                  hand, before the others",
            );
        }
        Err(diagnostics) => {
            show(&diagnostics);
            return fail(&"nothing was rotated: correct lockgate.toml first");
        }
    };
    match secret::rotate(&file, after.unwrap_or_default()) {
        Ok(said) => {
            // It is done, whether anybody reads it or not.
            let _ = writeln!(io::stdout().lock(), "{said}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn said(done: Result<(), String>) -> ExitCode {
    done.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn show<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>) {
    let mut diagnostics = diagnostics.into_iter().peekable();
    if diagnostics.peek().is_none() {
        // The log's thread has the lock for as long as nobody reads what it writes.
        return;
    }
    let mut err = io::stderr().lock();
    for diagnostic in diagnostics {
        // Without a standard error there is nowhere to complain.
        let _ = writeln!(err, "{}\n", diagnostic.render(colours(&err)));
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    // As in `show`.
    let _ = writeln!(io::stderr().lock(), "error: {error}");
    ExitCode::from(FAILED)
}
