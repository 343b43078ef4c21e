//! `lockgate drain`, `maint` and `ready`.

use std::io;
use std::process::ExitCode;

use super::arguments::Cli;
use super::output::{FAILED, fail};
use crate::config::AdminState;
use crate::control::admin_state::Wish;
use crate::control::drain::{self, Wait};

/// Which backends.
#[derive(Debug, clap::Args)]
pub(super) struct Targets {
    /// GAME/GROUP/BACKEND, or GAME/GROUP or GAME for all of its backends
    #[arg(required = true, value_name = "TARGET")]
    pub(super) targets: Vec<String>,
    /// Print it as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Does it, and waits if that is wanted.
pub(super) fn set(cli: &Cli, on: &Targets, to: Option<AdminState>, wait: Option<Wait>) -> ExitCode {
    let state = cli.state_dir(&cli.config_dir());
    let wish = Wish { to, targets: on.targets.clone() };
    match drain::set(&state, &wish, wait, on.json, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => fail(&error),
    }
}
