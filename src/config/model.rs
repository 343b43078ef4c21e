//! The validated model: what the rest of the program reads. Nothing here is
//! optional that must be there, nothing is a string that means something else.
//! How a file writes it is known to the other modules of this folder alone.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;

use crate::policy::access::{Access, Networks};
use crate::policy::balance::Balance;
use crate::policy::headers::ForwardedFields;
use crate::policy::route::Domain;
use crate::policy::sticky::{KeyRing, Life};

pub use crate::policy::sticky::AdminState;

/// Everything that was read and found good.
#[derive(Debug)]
pub struct Config {
    /// `lockgate.toml`.
    pub process: Process,
    /// The drop-ins that are good, in lexical order of their file names.
    pub games: Vec<Game>,
}

/// `lockgate.toml`: what concerns the whole process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Worker threads; 0 means one per core.
    pub workers: usize,
    /// Address of the admin listener, default 127.0.0.1:9900; port 0 lets the
    /// system pick.
    pub admin: SocketAddr,
    /// What holds before a listener is known, and for all of them.
    pub limits: Limits,
    /// Peers that put a PROXY header before everything else on a connection;
    /// empty = nobody does.
    pub proxy_protocol: Networks,
    /// Name servers for backends that are named; empty = the system's.
    pub dns_servers: Vec<SocketAddr>,
    /// How long a graceful stop waits for what is in flight, default 30 s.
    pub shutdown_deadline: Duration,
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
    pub listeners: Vec<Listener>,
    /// Its groups, in the order of their names.
    pub groups: Vec<Group>,
}

/// HTTP or HTTPS towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    pub rules: Vec<Rule>,
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

/// A named set of backends that serve alike.
#[derive(Debug)]
pub struct Group {
    /// The name within its file.
    pub name: Arc<str>,
    /// The line (1-based) its table stands on.
    pub line: usize,
    /// How a backend is picked.
    pub balance: Balance,
    /// At least one.
    pub backends: Vec<Backend>,
    /// How they are spoken to, default plain HTTP/1.1.
    pub protocol: Upstream,
    /// Upstream connections are kept and used again, default true.
    pub keepalive: bool,
    /// An idle upstream connection is closed after this, default 60 s.
    pub idle_timeout: Duration,
    /// Idle upstream connections kept per worker and backend, default 512: with
    /// fewer than there are requests at once, connections are opened and thrown
    /// away all the time.
    pub max_idle: usize,
    /// Until a new upstream connection stands, default 5 s.
    pub connect_timeout: Duration,
    /// Until the response header, and between two reads of the body, default 60 s.
    pub response_timeout: Duration,
    /// Silence of a tunnel (WebSocket) in both directions, default 1 h.
    pub tunnel_timeout: Duration,
    /// Clients come back to the backend they were on; `None` = each request is
    /// picked anew.
    pub sticky: Option<Sticky>,
}

/// Which cookie binds a client to a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// The cookie's name; of an inserted one `SERVERID` by default (CLB).
    pub cookie: String,
    /// Whose cookie it is.
    pub mode: StickyMode,
}

/// See [`crate::policy::sticky`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickyMode {
    /// Our own.
    Insert {
        /// How long it binds, by default 1 h without a request.
        life: Life,
        /// What a browser is told of it.
        attributes: CookieAttributes,
    },
    /// The application's; its life is the application's matter.
    Rewrite,
}

/// The attributes of an inserted cookie. What is `None` depends on the
/// listener: over `https` it is `Secure; SameSite=None`, over `http` neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieAttributes {
    /// `Domain`; `None` = only the host itself.
    pub domain: Option<String>,
    /// `Path`, default `/`.
    pub path: String,
    /// `Secure`.
    pub secure: Option<bool>,
    /// `HttpOnly`, default true.
    pub http_only: bool,
    /// `SameSite`.
    pub same_site: Option<SameSite>,
    /// `Partitioned` (CHIPS), default false; only where it is `Secure`.
    pub partitioned: bool,
}

/// From which sites' pages a browser sends the cookie (RFC 6265bis 5.6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Only from the game's own.
    Strict,
    /// Also when a link leads there.
    Lax,
    /// From all: a game in another site's frame needs it.
    None,
}

/// One server of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Stands in logs and commands; default the address.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: BackendAddress,
    /// Its share, 0–1000, default 100; 0 takes nothing new.
    pub weight: u32,
    /// Requests in flight at once over all workers, `None` = unlimited.
    pub max_connections: Option<u32>,
    /// Used only when no other backend of the group is available.
    pub backup: bool,
    /// What the operator wants of it.
    pub state: AdminState,
}

/// Where a backend listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendAddress {
    /// An IP address and a port that can be connected to.
    Ip(SocketAddr),
    /// A name that has to be resolved first.
    Name {
        /// Lower case, without a dot at its end; never an IP address.
        host: Arc<str>,
        /// Not 0.
        port: u16,
    },
}

impl BackendAddress {
    /// What to connect to; `None` for a name.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            BackendAddress::Ip(socket) => Some(*socket),
            BackendAddress::Name { .. } => None,
        }
    }

    /// The port, which is the same for all addresses of a name.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            BackendAddress::Ip(socket) => socket.port(),
            BackendAddress::Name { port, .. } => *port,
        }
    }

    /// The host that its certificate must name, unless
    /// [`UpstreamTls::server_name`] says another. Every address that a drop-in
    /// can have has one.
    #[must_use]
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        match self {
            BackendAddress::Ip(socket) => Some(socket.ip().to_canonical().into()),
            BackendAddress::Name { host, .. } => ServerName::try_from(host.to_string()).ok(),
        }
    }
}

impl From<SocketAddr> for BackendAddress {
    fn from(socket: SocketAddr) -> Self {
        BackendAddress::Ip(socket)
    }
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendAddress::Ip(socket) => socket.fmt(f),
            BackendAddress::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// How a group's backends are spoken to.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// HTTP/1.1.
    Http,
    /// HTTP/1.1 over TLS.
    Https(UpstreamTls),
    /// HTTP/2 without TLS, known in advance (RFC 9113 3.3).
    H2c,
}

/// The TLS side of a group with `https`.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    /// A backend's certificate must chain to one of these; `None` = the
    /// system's authorities.
    pub roots: Option<Arc<RootCertStore>>,
    /// The name that is asked for (SNI) and that the certificate must have;
    /// `None` = [`BackendAddress::server_name`].
    pub server_name: Option<ServerName<'static>>,
    /// Shown to backends that ask for a certificate.
    pub client: Option<Arc<CertifiedKey>>,
    /// The backend's certificate is checked, default true.
    pub verify: bool,
}

impl Default for UpstreamTls {
    /// What holds without a `tls` table.
    fn default() -> Self {
        UpstreamTls { roots: None, server_name: None, client: None, verify: true }
    }
}
