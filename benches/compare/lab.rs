//! What every measurement of a run shares.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::children::{self, Child};
use crate::machine::{Cpus, find, raise_file_limit};
use crate::origin;
use crate::tls::Certificate;
use crate::websocket;

/// For wrk: a body to post or cookies to bring when there are any, and a line at the end that a program can read.
const SCRIPT: &str = r#"
local size = tonumber(os.getenv("COMPARE_POST") or "0")
if size > 0 then
  wrk.method = "POST"
  wrk.body = string.rep("x", size)
end
local cookies = os.getenv("COMPARE_COOKIES")
if cookies then
  local ready, turn = {}, 0
  function init()
    for cookie in cookies:gmatch("[^,]+") do
      wrk.headers["Cookie"] = cookie
      ready[#ready + 1] = wrk.format()
    end
  end
  function request()
    turn = turn % #ready + 1
    return ready[turn]
  end
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format("done %d %d %d %d %d %d\n", summary.requests, summary.bytes, summary.duration,
    e.connect + e.read + e.write + e.timeout + e.status, latency:percentile(50), latency:percentile(99)))
end
"#;

/// The temporary folder, the origin, the certificate, the tools. Fields drop in order: the origin
/// ends before its folder goes.
#[derive(Debug)]
pub(crate) struct Lab {
    _origin: Child,
    pub(crate) origin: [u16; 2],
    /// What echoes WebSocket messages.
    pub(crate) echo: [u16; 2],
    pub(crate) certificate: Certificate,
    pub(crate) cpus: Cpus,
    /// How many files a process may open.
    pub(crate) files: u64,
    pub(crate) wrk: Option<PathBuf>,
    pub(crate) h2load: Option<PathBuf>,
    pub(crate) script: PathBuf,
    root: TempDir,
}

impl Lab {
    pub(crate) fn set_up() -> Result<Self, String> {
        let text = |error: std::io::Error| error.to_string();
        let cpus = Cpus::pin();
        let files = raise_file_limit();
        // Short, because a Unix socket's path has room for 107 bytes.
        let root = tempfile::Builder::new().prefix("lockgate-compare-").tempdir().map_err(text)?;
        children::clean_up_on_signals(root.path())?;
        let certificate = Certificate::make(root.path())?;
        let script = root.path().join("wrk.lua");
        fs::write(&script, SCRIPT).map_err(text)?;
        let (child, ports) = origin::start(root.path(), cpus.load, files)?;
        Ok(Self {
            _origin: child,
            origin: ports,
            echo: websocket::start_echo()?,
            certificate,
            cpus,
            files,
            wrk: find("wrk"),
            h2load: find("h2load"),
            script,
            root,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.root.path()
    }
}
