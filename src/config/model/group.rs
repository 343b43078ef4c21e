//! A group of backends: how they are reached, picked, and what becomes of a
//! request when one fails.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;

use super::Probe;
use crate::policy::balance::Balance;
use crate::policy::retry;
use crate::policy::sticky::Life;

pub use crate::policy::sticky::AdminState;

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
    /// What happens to a request while every backend is down, default 502.
    pub all_down: AllDown,
    /// Clients come back to the backend they were on; `None` = each request is
    /// picked anew.
    pub sticky: Option<Sticky>,
    /// How backends are asked whether they can serve; `None` = they are not.
    pub probe: Option<Probe>,
    /// Which failed requests are tried elsewhere.
    pub retry: Retry,
}

/// `all_down`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllDown {
    /// 502, as CLB and nginx.
    #[default]
    Fail,
    /// One of those that are down is tried all the same: what is believed of
    /// them may be wrong.
    Try,
}

/// `retry` of a group or a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// When there is another attempt.
    pub settings: retry::Settings,
    /// A request with `Idempotency-Key` counts as idempotent, default false.
    pub idempotency_key: bool,
    /// Bytes of a request's body that are kept to be sent again, default 64 KiB.
    pub body_buffer: usize,
    /// Per cent of the group's requests of the last 10 s that may be sent again,
    /// default 20, and never fewer than 100.
    pub budget: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            settings: retry::Settings {
                on: retry::Kinds::usual(),
                tries: 0,
                timeout: None,
                non_idempotent: false,
            },
            idempotency_key: false,
            body_buffer: 64 << 10,
            budget: 20,
        }
    }
}

/// What a `retry` table says; the rest holds as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryKeys {
    /// `on`
    pub on: Option<retry::Kinds>,
    /// `tries`
    pub tries: Option<u32>,
    /// `timeout`; `Some(None)` = none.
    pub timeout: Option<Option<Duration>>,
    /// `non_idempotent`
    pub non_idempotent: Option<bool>,
    /// `idempotency_key`
    pub idempotency_key: Option<bool>,
    /// `body_buffer`
    pub body_buffer: Option<usize>,
    /// `budget`
    pub budget: Option<u32>,
}

impl RetryKeys {
    /// These over those.
    #[must_use]
    pub fn over(&self, base: &Retry) -> Retry {
        let settings = retry::Settings {
            on: self.on.unwrap_or(base.settings.on),
            tries: self.tries.unwrap_or(base.settings.tries),
            timeout: self.timeout.unwrap_or(base.settings.timeout),
            non_idempotent: self.non_idempotent.unwrap_or(base.settings.non_idempotent),
        };
        Retry {
            settings,
            idempotency_key: self.idempotency_key.unwrap_or(base.idempotency_key),
            body_buffer: self.body_buffer.unwrap_or(base.body_buffer),
            budget: self.budget.unwrap_or(base.budget),
        }
    }
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
    /// Failed requests that eject it, default 1; 0 = none does.
    pub max_fails: u32,
    /// For how long, and how quiet it must have been for failures to be
    /// forgotten, default 10 s.
    pub fail_timeout: Duration,
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

    /// The same host at another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> BackendAddress {
        match self {
            BackendAddress::Ip(socket) => BackendAddress::Ip(SocketAddr::new(socket.ip(), port)),
            BackendAddress::Name { host, .. } => {
                BackendAddress::Name { host: Arc::clone(host), port }
            }
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

impl Upstream {
    /// A connection that was opened the one way is as good the other way.
    #[must_use]
    pub fn is_same(&self, other: &Upstream) -> bool {
        match (self, other) {
            (Upstream::Http, Upstream::Http) | (Upstream::H2c, Upstream::H2c) => true,
            (Upstream::Https(one), Upstream::Https(other)) => {
                same_roots(one.roots.as_deref(), other.roots.as_deref())
                    && one.server_name == other.server_name
                    && same_pair(one.client.as_deref(), other.client.as_deref())
                    && one.verify == other.verify
            }
            _ => false,
        }
    }
}

/// Whether two lists of authorities let the same certificates pass.
pub(super) fn same_roots(one: Option<&RootCertStore>, other: Option<&RootCertStore>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.roots == other.roots,
        (None, None) => true,
        _ => false,
    }
}

/// Whether two certificates are the same. A key fits no other.
pub(super) fn same_pair(one: Option<&CertifiedKey>, other: Option<&CertifiedKey>) -> bool {
    one.map(|one| &one.cert) == other.map(|other| &other.cert)
}

impl Default for UpstreamTls {
    /// What holds without a `tls` table.
    fn default() -> Self {
        UpstreamTls { roots: None, server_name: None, client: None, verify: true }
    }
}
