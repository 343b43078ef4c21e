//! The command line: which command, where the files are, what goes to the
//! terminal.

mod arguments;
mod log;
mod output;
mod serve;
mod state;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use self::arguments::{Cli, Command, Explain, SecretCommand};
use self::output::{FAILED, USAGE, count, fail, print, print_json, said, show, tell};
use crate::config::diagnostic::{self, Severity};
use crate::config::{self, AdminState, Directory, SecretPlace, plain_path};
use crate::control::access::foreseen_by_others;
use crate::control::drain::Wait;
use crate::control::expiry::expiring;
use crate::control::explain::Question;
use crate::control::reload::{Options, Report};
use crate::control::signals::Early;
use crate::control::status::Status;
use crate::control::tail::client as tail;
use crate::control::{client, explain, last_good, secret, top, why};

/// Runs the program. Exit codes: 0 good, 1 configuration or start failure, 2
/// usage, 3 a stop that cut something off.
#[must_use]
pub fn main() -> ExitCode {
    let early = Early::hear();
    let cli = Cli::parse();
    let early = early.and_then(|mut early| {
        if !cli.command.waits_at_a_terminal() {
            early.hear_hangup()?;
        }
        Ok(early)
    });
    let early = match early {
        Ok(early) => early,
        Err(error) => return fail(&format!("signals: {error}")),
    };
    let guard = log::start();
    let code = match cli.command {
        Command::Run => serve::run(&cli, early),
        Command::Demo { everywhere } => serve::run_demo(&cli, everywhere, early),
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

fn check(cli: &Cli, files: &[PathBuf], json: bool) -> ExitCode {
    let dir = cli.config_dir();
    let state = cli.state_dir(&dir);
    let (last_good, notes) = last_good::read_all(&state);
    let allow_empty = last_good::is_emptied(&state);
    let mut loaded = Directory::new(&dir, last_good).check(files, allow_empty);
    let process = loaded.config.as_ref().map(|config| &config.process);
    let mut more: Vec<_> =
        process.and_then(|one| foreseen_by_others(one, &state)).into_iter().collect();
    let games = loaded.config.iter().flat_map(|config| &config.games);
    let meant = games.filter(|game| files.is_empty() || files.contains(&game.file));
    more.extend(meant.flat_map(|game| expiring(game)));
    loaded.diagnostics.extend(more);
    let errors = loaded.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    let warnings = loaded.diagnostics.len() - errors;
    let good = errors == 0 && loaded.config.is_some();
    if json {
        print_json(diagnostic::to_json(&loaded.diagnostics).to_string().as_bytes());
    } else {
        let passed_over = config::passed_over(&dir);
        passed_over.iter().for_each(|name| {
            tell(&format_args!(
                "note: {name} is passed over: a drop-in's name ends with `.toml`, in small \
                 letters, and begins with no dot"
            ));
        });
        notes.iter().for_each(|note| tell(&format_args!("note: {note}")));
        show(&loaded.diagnostics);
        let verdict = if good { "good" } else { "not good" };
        print(&format_args!(
            "{}: {verdict}: {}, {}, {}\n",
            plain_path(&dir),
            count(loaded.files, "drop-in"),
            count(errors, "error"),
            count(warnings, "warning")
        ));
    }
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
    match json {
        true => print_json(&answer),
        false => print(&report),
    }
    if report.good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn upgrade(cli: &Cli, binary: Option<&Path>) -> ExitCode {
    let state = cli.state();
    match client::upgrade(&state, binary) {
        Ok(said) => {
            print(&said);
            let status = client::ask(&state, "GET", "/status.json?compact");
            let status = status.ok().and_then(|one| serde_json::from_slice::<Status>(&one).ok());
            // What it refuses it said in its own log alone.
            status
                .iter()
                .flat_map(Status::refused)
                .for_each(|line| print(&format_args!("{line}\n")));
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
    if json {
        print_json(&line);
        return ExitCode::SUCCESS;
    }
    match why::explained(&line) {
        Ok(text) => print(&text),
        Err(error) => {
            return fail(&format!("the running lockgate is of another version: {error}"));
        }
    }
    ExitCode::SUCCESS
}

fn status(cli: &Cli, json: bool) -> ExitCode {
    let state = cli.state_dir(&cli.config_dir());
    let target = if json { "/status.json" } else { "/status.json?compact" };
    let answer = match client::ask(&state, "GET", target) {
        Ok(answer) => answer,
        Err(error) => return fail(&error),
    };
    if json {
        print_json(&answer);
        return ExitCode::SUCCESS;
    }
    match serde_json::from_slice::<Status>(&answer) {
        Ok(status) => {
            print(&status);
            let old = client::old_processes(&state);
            let old = old.iter().filter_map(|one| serde_json::from_slice::<Status>(one).ok());
            old.for_each(|one| print(&format_args!("\n{}\n", one.of_old_process())));
        }
        Err(error) => {
            return fail(&format!("the running lockgate is of another version: {error}"));
        }
    }
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
            match *json {
                true => print_json(explain::to_json(&explanation).as_bytes()),
                false => print(&explain::to_text(&explanation)),
            }
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
            print(&format_args!("{said}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}
