//! `lockgate run` and `lockgate demo`.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::arguments::Cli;
use super::output::{fail, show};
use crate::config::Reading;
use crate::control::handover::{Heir, Launch};
use crate::control::server::Occasion;
use crate::control::signals::Early;
use crate::control::{demo, server};

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

pub(super) fn run(cli: &Cli, early: Early) -> ExitCode {
    let dir = cli.config_dir();
    let heir = match Heir::from_env() {
        Ok(heir) => heir,
        Err(error) => return fail(&error),
    };
    let launch = Launch { heir: heir.as_ref(), upgrades: true, loopback: false };
    serve(&dir, &cli.state_dir(&dir), launch, early, &mut Serving)
}

pub(super) fn run_demo(cli: &Cli, everywhere: bool, early: Early) -> ExitCode {
    let has_shipped = Path::new("listeners.d").is_dir();
    let named = cli.config.as_deref().or(has_shipped.then_some(Path::new(".")));
    let prepared = match demo::prepare(named) {
        Ok(prepared) => prepared,
        Err(error) => return fail(&error),
    };
    let dir = prepared.dir().to_owned();
    let launch = Launch { heir: None, upgrades: false, loopback: !everywhere };
    serve(&dir, &cli.state_dir(&dir), launch, early, &mut Showing { prepared, demo: None })
}

fn serve(
    dir: &Path,
    state_dir: &Path,
    launch: Launch<'_>,
    early: Early,
    occasion: &mut impl Occasion,
) -> ExitCode {
    match server::run(dir, state_dir, launch, early, occasion) {
        Ok(server::Ended::Cleanly) => ExitCode::SUCCESS,
        Ok(server::Ended::Cut) => ExitCode::from(3),
        Err(error) => fail(&error),
    }
}
