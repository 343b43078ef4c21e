//! What an explanation says, as programs read it. Text stands in it as it is in
//! the request and the files; who prints it has to escape it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What becomes of a request, and why. Parts that were not reached are `null`
/// or empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The running process's, or the one that read the files.
    pub version: String,
    /// Of the snapshot that was asked.
    pub generation: u64,
    /// The files were asked and no running process: every backend is as at a start.
    pub offline: bool,
    /// What has to be known to believe the rest.
    pub notes: Vec<String>,
    /// What was asked, as a client would say it.
    pub request: RequestFacts,
    /// The port.
    pub port: PortFacts,
    /// Of a TLS handshake.
    pub certificate: Option<CertificateFacts>,
    /// Who answers for the host.
    pub listener: Option<ListenerFacts>,
    /// Who asks.
    pub client: Option<ClientFacts>,
    /// The path as rules see it.
    pub path: Option<String>,
    /// What is said of its body: its length, where a field has it, or a limit.
    #[serde(default)]
    pub body: Option<BodyFacts>,
    /// The listener's rules in the order of the file.
    pub rules: Vec<RuleFacts>,
    /// What comes of it.
    pub outcome: Outcome,
    /// The group of the rule.
    pub group: Option<GroupFacts>,
    /// What the client's cookie says.
    pub sticky: Option<StickyFacts>,
    /// Which backend gets the request.
    pub pick: Option<PickFacts>,
    /// What of its fields changes on the way to the backend.
    pub to_backend: Vec<FieldChange>,
    /// What of the response's fields changes on the way to the client; all of
    /// them, where lockgate answers itself.
    pub to_client: Vec<FieldChange>,
    /// What follows when the attempt fails.
    pub failures: Vec<AfterFailure>,
    /// Of the group's budget for sending requests again.
    pub replays_left: Option<u64>,
}

/// The request that was asked about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestFacts {
    /// Its method.
    pub method: String,
    /// As a client understands it.
    pub url: String,
    /// What `Host` says.
    pub host: String,
    /// Path and query, as sent.
    pub target: String,
}

/// Who listens there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortFacts {
    /// Its number.
    pub number: u16,
    /// `http` or `https`; `null`: nothing listens there.
    pub protocol: Option<String>,
    /// The games that share it.
    pub games: Vec<String>,
    /// Other ports that have a listener for the host, where this one has not.
    pub host_is_on: Vec<u16>,
}

/// What the TLS handshake shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// The name that the client asks for; `null`: it asks for none.
    pub asked_name: Option<String>,
    /// The game and the place of the listener it is of.
    pub game: String,
    /// FILE:LINE
    pub place: String,
    /// The domains of the listener that it covers.
    pub names: Vec<String>,
    /// It covers the host of the URL.
    pub covers_host: bool,
    /// The last day it is good on.
    pub expires: Option<String>,
    /// Whole days from now; below zero: it has expired.
    pub days: Option<i64>,
    /// The client must show one too.
    pub asks_for_one: bool,
}

/// The listener that answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListenerFacts {
    /// Its game.
    pub game: String,
    /// FILE:LINE
    pub place: String,
    /// All its domains.
    pub domains: Vec<String>,
    /// `exact`, `wildcard` or `default`.
    pub matched: String,
    /// The domain that the host was found by; `null`: it is the default.
    pub domain: Option<String>,
}

/// Who asks, and whether he may.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientFacts {
    /// The address that the connection comes from.
    pub peer: IpAddr,
    /// It is one of `trusted_proxies`.
    pub trusted: bool,
    /// The address that the request counts as coming from.
    pub address: IpAddr,
    /// `open`, `allowed`, `denied` or `not_allowed`.
    pub access: String,
}

/// The request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyFacts {
    /// By its `Content-Length`; `null`: it has none.
    pub length: Option<u64>,
    /// `max_body`, of the rule or the listener; `null`: it has no limit.
    pub most: Option<u64>,
}

/// A rule that was considered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleFacts {
    /// FILE:LINE
    pub place: String,
    /// What the path has to begin with.
    pub path: String,
    /// What it does.
    pub action: String,
    /// The path begins with it.
    pub fits: bool,
    /// It takes the request.
    pub wins: bool,
    /// Why, or why not.
    pub why: String,
}

/// What comes of the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// `forward`, `redirect`, `respond`; `refuse`: lockgate answers with an error;
    /// `no_connection`: nobody listens; `no_handshake`: TLS fails.
    pub kind: String,
    /// Of lockgate's own answer.
    pub status: Option<u16>,
    /// Of an error, by its name in the log.
    pub cause: Option<String>,
    /// More about it.
    pub detail: Option<String>,
    /// Of a redirect.
    pub location: Option<String>,
    /// What was probably meant, or what can be done.
    pub hint: Option<String>,
}

/// The group that a request is forwarded to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupFacts {
    /// Its name.
    pub name: String,
    /// FILE:LINE
    pub place: String,
    /// `http`, `https` or `h2c`.
    pub protocol: String,
    /// How it picks.
    pub balance: String,
    /// Of `balance = "hash"`.
    pub hash_key: Option<String>,
    /// In the order written.
    pub backends: Vec<BackendFacts>,
}

/// How a backend stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendFacts {
    /// Its name.
    pub name: String,
    /// As the file has it.
    pub address: String,
    /// What a name resolves to; empty for one that does not.
    pub resolved: Vec<String>,
    /// Its name has no address: it is picked as others are, and the attempt fails
    /// at once.
    #[serde(default)]
    pub no_address: bool,
    /// Its share.
    pub weight: u32,
    /// Used only where no other is available.
    pub backup: bool,
    /// `ready`, `drain` or `maint`.
    pub state: String,
    /// What probes found; `null`: the group has none.
    pub probe: Option<ProbeFacts>,
    /// Passive health keeps it out.
    pub ejected: Option<EjectionFacts>,
    /// Requests in flight; `null`: they are not counted.
    pub load: Option<u32>,
    /// `max_connections`.
    pub most: Option<u32>,
    /// May be picked for a request that is bound to nobody.
    pub available: bool,
    /// Why, where it may not.
    pub why_not: Option<String>,
}

/// What probes found of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeFacts {
    /// `null`: no verdict yet.
    pub up: Option<bool>,
    /// For so many seconds.
    pub seconds: u64,
    /// What the last one found; `null`: there was none.
    pub last: Option<String>,
}

/// An ejection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EjectionFacts {
    /// `unreachable` or `failing`.
    pub why: String,
    /// For so much longer; 0: the next request there is its trial.
    pub milliseconds: u64,
}

/// What the cookie of a sticky group says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StickyFacts {
    /// `insert` or `rewrite`.
    pub mode: String,
    /// The cookie's name.
    pub cookie: String,
    /// `absent`, `good`, or why it binds nothing: `shape`, `unknown_key`,
    /// `forged`, `future`, `expired`.
    pub verdict: String,
    /// The backend it names, if there still is one.
    pub backend: Option<String>,
    /// Seconds since the client's first request.
    pub first: Option<u32>,
    /// Seconds since the cookie was issued.
    pub last: Option<u32>,
    /// Seconds until it expires.
    pub left: Option<u32>,
    /// `home`, `elsewhere` (this once) or `anew`; `null`: it binds nothing.
    pub goes: Option<String>,
}

/// Which backend gets the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PickFacts {
    /// By the client's cookie, not by balance.
    pub bound: bool,
    /// Those that may get it, the likeliest first.
    pub candidates: Vec<Candidate>,
    /// How it comes to that.
    pub why: String,
    /// The value that `balance = "hash"` goes by.
    pub hashed: Option<String>,
}

/// A backend that may get the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name.
    pub backend: String,
    /// Of the picks made as things stand; 1: all.
    pub share: f64,
}

/// A field that lockgate sets or takes away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Else it is removed.
    pub set: bool,
    /// Its name.
    pub name: String,
    /// Its value; `…` where it is another each time.
    pub value: String,
}

/// What follows a failed attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AfterFailure {
    /// The cause by its name in the log.
    pub cause: String,
    /// The backend may have seen the request.
    pub sent: bool,
    /// Those that may get it then; empty: it ends there.
    pub next: Vec<Candidate>,
    /// Why it ends, or that it counts against the budget.
    pub why: String,
    /// What the client gets if it ends.
    pub status: u16,
}
