//! The validated model: what the rest of the program reads. Nothing here is
//! optional that must be there, nothing is a string that means something else.
//! How a file writes it is known to the other modules of this folder alone.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;

use crate::policy::access::{Access, Networks};
use crate::policy::headers::ForwardedFields;
use crate::policy::route::Domain;
use crate::policy::sticky::KeyRing;

mod group;
mod log;
mod probe;

pub use group::*;
pub use log::*;
pub use probe::*;

/// Everything that was read and found good.
#[derive(Clone, Debug)]
pub struct Config {
    /// `lockgate.toml`.
    pub process: Process,
    /// The drop-ins that are good, in lexical order of their file names. One that
    /// was not read again is the same as before, which costs a reload nothing.
    pub games: Vec<Arc<Game>>,
}

/// `lockgate.toml`: what concerns the whole process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Worker threads; 0 means one per core.
    pub workers: usize,
    /// Address of the admin listener, default 127.0.0.1:9900; port 0 lets the
    /// system pick.
    pub admin: SocketAddr,
    /// More Hosts that are answered there, in lower case, with or without a port.
    pub admin_hosts: Vec<String>,
    /// What holds before a listener is known, and for all of them.
    pub limits: Limits,
    /// Peers that put a PROXY header before everything else on a connection;
    /// empty = nobody does.
    pub proxy_protocol: Networks,
    /// Name servers for backends that are named; empty = the system's.
    pub dns_servers: Vec<SocketAddr>,
    /// How long a graceful stop waits for what is in flight, default 30 s.
    pub shutdown_deadline: Duration,
    /// Changed files are applied without being asked to, default false.
    pub watch: bool,
    /// How long a graceful stop still accepts while `/ready` fails already, so that
    /// a balancer in front sees it before anybody is refused; default 0.
    pub lame_duck: Duration,
    /// How long the old process of an upgrade waits for what it still holds;
    /// `None`, the default, = as long as that takes.
    pub upgrade_deadline: Option<Duration>,
    /// How long the new process of an upgrade may take to report, default 60 s.
    pub upgrade_timeout: Duration,
    /// Where each request leaves a line; `None`, the default, = nowhere.
    pub access_log: Option<AccessLog>,
    /// What the program's own log has.
    pub log_level: LogLevel,
    /// What listens on all addresses listens on the loopback ones alone: the demo's,
    /// whose files do not say it.
    pub loopback: bool,
    /// `secret` or `secret_file`; `None` = the one in the state directory.
    pub secrets: Option<KeyRing>,
}

/// `[limits]` of `lockgate.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections held at once; `None` = half of the descriptors that
    /// are free at the start, because each may need an upstream connection too.
    pub connections: Option<usize>,
    /// All field lines of a head together, in bytes, default 32 KiB.
    pub header_size: usize,
    /// Field lines of a head, default 100.
    pub headers: usize,
    /// The request target in bytes, default 32 KiB.
    pub uri: usize,
    /// From the accept to the end of the TLS handshake, default 10 s.
    pub handshake_timeout: Duration,
    /// From the accept (plain) or the handshake's end (TLS) to the end of the
    /// first request's head, default 10 s.
    pub header_timeout: Duration,
}

/// One drop-in.
#[derive(Debug)]
pub struct Game {
    /// The file's name without `.toml`.
    pub name: Arc<str>,
    /// The file it was read from.
    pub file: PathBuf,
    /// Its listeners, in the order written.
    pub listeners: Vec<Arc<Listener>>,
    /// Its groups, in the order of their names.
    pub groups: Vec<Arc<Group>>,
}

/// HTTP or HTTPS towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// One `[[listener]]`: one or several domains on one or several ports.
#[derive(Debug)]
pub struct Listener {
    /// The line (1-based) its `[[listener]]` stands on.
    pub line: usize,
    /// The domains it owns on each of its ports; empty only with `default`.
    pub domains: Vec<Domain>,
    /// It takes what no other domain of its ports takes.
    pub default: bool,
    /// Its ports, without repetition, in the order written.
    pub ports: Vec<u16>,
    /// The address it listens on; `None` = all, IPv4 and IPv6.
    pub address: Option<IpAddr>,
    /// TLS settings for `https`, `None` for `http`.
    pub tls: Option<Tls>,
    /// HTTP/2 is offered to clients, default true; never for `http`.
    pub http2: bool,
    /// Rules in the order written; the listener's own `group` or `redirect` is
    /// the last one with path `/` (unless a rule has that path).
    pub rules: Vec<Arc<Rule>>,
    /// `allow` and `deny`.
    pub access: Access,
    /// `trusted_proxies`: peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Networks,
    /// Silence allowed between two requests, default 60 s.
    pub idle_timeout: Duration,
    /// From the first byte of a head to its end, default 10 s.
    pub header_timeout: Duration,
    /// Between two reads of a request body, default 60 s.
    pub body_timeout: Duration,
    /// Between two writes to a client that does not read, default 60 s.
    pub write_timeout: Duration,
    /// Request body in bytes, `None` = unlimited.
    pub max_body: Option<u64>,
    /// Requests on one connection, `None` = unlimited.
    pub max_requests: Option<u64>,
    /// An HTTP/1 client that ends its side waits for its answer, default true;
    /// false: it is gone.
    pub client_half_close: bool,
    /// Which forwarding fields are set towards the backend.
    pub forwarded: ForwardedFields,
}

impl Listener {
    /// HTTPS when it has TLS settings.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        if self.tls.is_some() { Protocol::Https } else { Protocol::Http }
    }
}

/// The TLS side of an `https` listener.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The certificate chain and its key, known to match.
    pub certificate: Arc<CertifiedKey>,
    /// Accepted versions and suites.
    pub policy: TlsPolicy,
    /// Client certificates must chain to one of these; `None` = none asked for.
    pub client_ca: Option<Arc<RootCertStore>>,
}

impl Tls {
    /// Whether handshakes are the same.
    #[must_use]
    pub fn is_same(&self, other: &Tls) -> bool {
        same_pair(Some(&self.certificate), Some(&other.certificate)) && self.asks_same(other)
    }

    /// Whether as much is asked of clients.
    #[must_use]
    pub fn asks_same(&self, other: &Tls) -> bool {
        self.policy == other.policy
            && same_roots(self.client_ca.as_deref(), other.client_ca.as_deref())
    }
}

/// What a client may negotiate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// TLS 1.2 and 1.3 (`"1.2"`, the default; also `tls_cipher_policy_1_2_strict_with_1_3`).
    Tls12AndTls13,
    /// TLS 1.3 only (`"1.3"`).
    Tls13,
    /// TLS 1.2 only (`tls_cipher_policy_1_2_strict`).
    Tls12,
}

/// One rule: a path prefix and what to do.
#[derive(Debug)]
pub struct Rule {
    /// The line (1-based) it stands on.
    pub line: usize,
    /// A literal prefix of the normalised path, starting with `/`.
    pub path: String,
    /// What to do with a request it takes.
    pub action: Action,
    /// Edits of the request on its way to the backend.
    pub request_headers: HeaderEdits,
    /// Edits of the response on its way to the client.
    pub response_headers: HeaderEdits,
    /// Overrides the group's.
    pub response_timeout: Option<Duration>,
    /// Overrides the group's.
    pub tunnel_timeout: Option<Duration>,
    /// Overrides the listener's; `Some(None)` = unlimited.
    pub max_body: Option<Option<u64>>,
    /// Overrides of the group's `retry`.
    pub retry: RetryKeys,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Forward to the group at this index of [`Game::groups`].
    Forward(usize),
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer with a fixed response.
    Respond {
        /// 200–599.
        status: u16,
        /// `text/plain; charset=utf-8`.
        body: String,
    },
}

/// The least important lines of the program's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What lockgate failed to do.
    Error,
    /// What somebody should look at, too.
    Warn,
    /// What happened, too.
    Info,
}

/// Where a redirect leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// 301 (default), 302, 303, 307 or 308.
    pub code: u16,
    /// The new address.
    pub to: RedirectTarget,
}

/// The two forms of `redirect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectTarget {
    /// `"https:8030"`: same host, path and query, this scheme and port.
    SameHost {
        /// The scheme of the new address.
        protocol: Protocol,
        /// The port of the new address; left out when it is the scheme's own.
        port: u16,
    },
    /// A fixed URL, sent as it is.
    Url(String),
}

/// `set_headers` and `remove_headers` of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Replaces every field of that name.
    pub set: Vec<(String, String)>,
    /// Lower-cased names whose fields are dropped.
    pub remove: Vec<String>,
}

impl HeaderEdits {
    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}
