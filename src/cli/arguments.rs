//! The command line as it is written: which command, with what, and where the
//! files are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand};

use super::state;
use crate::config;
use crate::control::tail::client as tail;
use crate::control::top;

/// An HTTP and HTTPS reverse proxy for many games on one address
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(super) struct Cli {
    /// Directory with listeners.d/, certs/ and lockgate.toml [default: . if it has listeners.d, else /etc/lockgate]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) config: Option<PathBuf>,
    /// Directory for what lockgate remembers [default: $STATE_DIRECTORY, else .lockgate in the config directory]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve, in the foreground
    Run,
    /// Serve the shipped games with embedded backends and development certificates
    Demo {
        /// Listen on all addresses of this machine, not on the loopback ones alone
        #[arg(long)]
        everywhere: bool,
    },
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
        /// 16 hexadecimal digits, or what a trusted proxy named it by
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

impl Command {
    /// It goes on until somebody ends it, or closes the terminal.
    pub(super) fn waits_at_a_terminal(&self) -> bool {
        matches!(self, Command::Drain { .. } | Command::Top(_) | Command::Tail(_))
    }
}

/// What is no good among these is said by us: clap would print it as it is.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// Such as `https://youxia.com:8030/test/`
    pub(super) url: String,
    /// The cookies the client has: NAME=VALUE; NAME=VALUE
    #[arg(long, value_name = "COOKIES")]
    pub(super) cookie: Option<String>,
    /// The address the client connects from [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) client_ip: Option<String>,
    /// The method of the request [default: GET]
    #[arg(long, value_name = "METHOD")]
    pub(super) method: Option<String>,
    /// A field of the request, NAME: VALUE; may be repeated
    #[arg(long, value_name = "FIELD")]
    pub(super) header: Vec<String>,
    /// Ask the files instead, with every backend as at a start
    #[arg(long)]
    pub(super) offline: bool,
    /// Print it as JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
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

impl Cli {
    pub(super) fn config_dir(&self) -> PathBuf {
        match &self.config {
            Some(dir) => dir.clone(),
            None if Path::new("listeners.d").is_dir() => PathBuf::from("."),
            None => PathBuf::from("/etc/lockgate"),
        }
    }

    pub(super) fn state(&self) -> PathBuf {
        self.state_dir(&self.config_dir())
    }

    pub(super) fn state_dir(&self, config_dir: &Path) -> PathBuf {
        let from_systemd = || std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
        self.state.clone().or_else(from_systemd).unwrap_or_else(|| config_dir.join(".lockgate"))
    }
}
