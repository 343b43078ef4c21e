//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::idle;
use crate::workloads::WORKLOADS;

pub(crate) const USAGE: &str = "\
Measures lockgate beside nginx and HAProxy in one interleaved run.

cargo bench --bench compare -- [options]
  --rounds N          samples of every workload and peer (5)
  --duration SECONDS  of load per sample (2)
  --only A,B          plain,sticky,tls,handshake,body,body-tls,upload,h2,websocket,
                      websocket-tls,idle,idle-tls,idle-h2,idle-websocket,idle-websocket-tls,storm,syscalls,instructions
  --peers A,B         nginx,nginx@2,haproxy,lockgate (@2 measures the same again: the noise)
  --lockgate PATH     the lockgate to measure (default: the one cargo built)
  --json FILE         every sample
  --markdown FILE     the tables
  --storm N           backends that are killed or frozen in a storm (6)
  --instructions      also user-space instructions per request, under valgrind
  --quick             1 round of 0.5 s without the noise column: proves that it still runs";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) rounds: usize,
    pub(crate) duration: Duration,
    pub(crate) only: Vec<String>,
    pub(crate) peers: Vec<String>,
    pub(crate) lockgate: Option<PathBuf>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) markdown: Option<PathBuf>,
    pub(crate) quick: bool,
    /// Faults of a storm.
    pub(crate) storm: usize,
}

impl Args {
    /// `Ok(None)`: help was asked for.
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut words = words.peekable();
        let (mut rounds, mut seconds, mut only, mut peers) = (None, None, None, None);
        let (mut lockgate, mut json, mut markdown) = (None, None, None);
        let (mut quick, mut instructions, mut storm) = (false, false, None);
        while let Some(word) = words.next() {
            let (flag, mut inline) = match word.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            let mut value = || {
                inline
                    .take()
                    .or_else(|| words.next())
                    .ok_or_else(|| format!("{flag} needs a value"))
            };
            match flag.as_str() {
                "--rounds" => rounds = Some(number(&flag, &value()?)?),
                "--duration" => seconds = Some(number(&flag, &value()?)?),
                "--only" => only = Some(list(&value()?)),
                "--peers" => peers = Some(list(&value()?)),
                "--lockgate" => lockgate = Some(PathBuf::from(value()?)),
                "--json" => json = Some(PathBuf::from(value()?)),
                "--markdown" => markdown = Some(PathBuf::from(value()?)),
                "--storm" => storm = Some(number(&flag, &value()?)?),
                "--quick" => quick = true,
                "--instructions" => instructions = true,
                "--bench" => {} // cargo adds it
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {flag}")),
            }
        }
        let seconds: f64 = seconds.unwrap_or(if quick { 0.5 } else { 2.0 });
        if !(0.1..=60.0).contains(&seconds) {
            return Err("--duration is 0.1 to 60".to_owned());
        }
        let rounds = rounds.unwrap_or(if quick { 1 } else { 5 });
        if !(1..=100).contains(&rounds) {
            return Err("--rounds is 1 to 100".to_owned());
        }
        let default_peers =
            if quick { "nginx,haproxy,lockgate" } else { "nginx,nginx@2,haproxy,lockgate" };
        let mut args = Self {
            rounds,
            duration: Duration::from_secs_f64(seconds),
            only: only.unwrap_or_else(default_only),
            peers: peers.unwrap_or_else(|| list(default_peers)),
            lockgate,
            json,
            markdown,
            quick,
            storm: storm.unwrap_or(if quick { 3 } else { 6 }),
        };
        if instructions && !args.wants("instructions") {
            args.only.push("instructions".to_owned());
        }
        match args.only.iter().find(|name| !all_names().contains(&name.as_str())) {
            Some(name) => {
                Err(format!("unknown workload {name}; there are {}", all_names().join(",")))
            }
            None => Ok(Some(args)),
        }
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.iter().any(|wanted| wanted == name)
    }
}

/// In the order they run.
fn all_names() -> Vec<&'static str> {
    let loads = WORKLOADS.iter().map(|workload| workload.name);
    loads
        .chain(idle::KINDS.map(idle::Kind::name))
        .chain(["storm", "syscalls", "instructions"])
        .collect()
}

/// Everything but `instructions`, which takes long and needs valgrind.
fn default_only() -> Vec<String> {
    all_names().into_iter().filter(|name| *name != "instructions").map(str::to_owned).collect()
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn number<T: std::str::FromStr>(flag: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{flag}: {value:?} is not a number it takes"))
}
