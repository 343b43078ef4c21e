//! Picking: which backend of a group an attempt goes to.
//!
//! Every balance keeps two promises. Nobody unavailable is picked, nor anybody
//! of weight 0; and somebody is picked if anybody is left. Primaries come
//! first; only when none of them is available do the backups take part, by the
//! same balance.
//!
//! A [`Schedule`] is what a balance needs to know of a group, computed once;
//! a [`Cursor`] is a worker's own place in the group's cycle. So workers share
//! nothing that is written. No allocation happens in [`pick`].

mod hash;
mod tier;

use std::fmt;

use tier::{Method, Tier, Turn};

pub use hash::key_hash;

use crate::policy::headers::is_field_name;

/// How the backend of an attempt is picked. Default: [`Balance::Wrr`], as nginx
/// and CLB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Smooth weighted round robin, nginx's algorithm: weights 5, 1, 1 give
    /// `a a b a c a a` (SEMANTICS 3.3, SC-02).
    #[default]
    Wrr,
    /// Strict rotation, whatever the weights (SC-01); weight 0 stays out.
    Rr,
    /// The fewest requests in flight for its weight (SC-04); ties by smooth
    /// weighted round robin among the tied, as nginx's `least_conn`.
    Wlc,
    /// Of two drawn by chance, the one with fewer requests in flight for its
    /// weight.
    P2c,
    /// By a property of the request: weighted rendezvous hashing, so that a
    /// backend that comes or goes moves only its own share.
    Hash(HashKey),
}

impl Balance {
    /// The names a config file may use.
    pub const NAMES: [&'static str; 5] = ["wrr", "rr", "wlc", "p2c", "hash"];

    /// The name as a config file writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Balance::Wrr => "wrr",
            Balance::Rr => "rr",
            Balance::Wlc => "wlc",
            Balance::P2c => "p2c",
            Balance::Hash(_) => "hash",
        }
    }
}

/// The property of a request that [`Balance::Hash`] goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// The value of this cookie; its name is case-sensitive.
    Cookie(String),
    /// The value of this request field; its name is held in lower case.
    Header(String),
    /// The path, without the query.
    Path,
}

impl HashKey {
    /// Reads `client_ip`, `cookie:NAME`, `header:NAME` or `path`.
    pub fn parse(text: &str) -> Result<HashKey, HashKeyError> {
        let named = |name: &str| match name {
            "" => Err(HashKeyError::NoName),
            _ if is_field_name(name) => Ok(name.to_owned()),
            _ => Err(HashKeyError::BadName(name.to_owned())),
        };
        match text.split_once(':') {
            Some(("cookie", name)) => Ok(HashKey::Cookie(named(name)?)),
            Some(("header", name)) => Ok(HashKey::Header(named(name)?.to_ascii_lowercase())),
            None if text == "client_ip" => Ok(HashKey::ClientIp),
            None if text == "path" => Ok(HashKey::Path),
            None if text == "cookie" || text == "header" => Err(HashKeyError::NoName),
            _ => Err(HashKeyError::Unknown(text.to_owned())),
        }
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashKey::ClientIp => f.write_str("client_ip"),
            HashKey::Cookie(name) => write!(f, "cookie:{name}"),
            HashKey::Header(name) => write!(f, "header:{name}"),
            HashKey::Path => f.write_str("path"),
        }
    }
}

/// Why a text is no [`HashKey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKeyError {
    /// None of the four forms; holds the text.
    Unknown(String),
    /// `cookie` or `header` without a name after it.
    NoName,
    /// No token of RFC 9110, so no cookie and no field is called that; holds
    /// the name.
    BadName(String),
}

impl fmt::Display for HashKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashKeyError::Unknown(text) => write!(
                f,
                "`{text}` is no hash key: `client_ip`, `cookie:NAME`, `header:NAME` and `path` are"
            ),
            HashKeyError::NoName => {
                f.write_str("a name is missing: `cookie:NAME` or `header:NAME`")
            }
            HashKeyError::BadName(name) => {
                write!(f, "no cookie and no field can be called `{name}`")
            }
        }
    }
}

impl std::error::Error for HashKeyError {}

/// One backend, as a balance sees it. Its place in the list of members is its
/// name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its share, 0 to 1000; 0 takes no new requests (SEMANTICS SC-06).
    pub weight: u32,
    /// Takes part only when no primary is available.
    pub backup: bool,
    /// A stable hash of the backend's identity, from [`key_hash`]. Only
    /// [`Balance::Hash`] looks at it; two members with one seed count as one.
    pub seed: u64,
}

/// What a balance needs to know of a group. Computed once, when the snapshot
/// is built.
#[derive(Clone, Debug)]
pub struct Schedule {
    primaries: Tier,
    backups: Tier,
}

impl Schedule {
    /// The schedule of `members`, who are picked by their place in the slice.
    pub fn new(balance: &Balance, members: &[Member]) -> Self {
        let method = match balance {
            Balance::Wrr => Method::Smooth,
            Balance::Rr => Method::Rotate,
            Balance::Wlc => Method::LeastLoaded,
            Balance::P2c => Method::TwoChoices,
            Balance::Hash(_) => Method::Rendezvous,
        };
        Self {
            primaries: Tier::new(method, members, false),
            backups: Tier::new(method, members, true),
        }
    }
}

/// A worker's own place in a group's cycle.
///
/// One made for another schedule, or by default (the cycle's start), is no error: the next pick
/// makes it fit, and may allocate for that.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    primaries: Turn,
    backups: Turn,
}

impl Cursor {
    /// A place in the cycle: the random bits of `chance` say which, so that a
    /// restart does not send everybody to the first backend, nor all workers
    /// their first request to the same.
    pub fn new(schedule: &Schedule, chance: u64) -> Self {
        Self {
            primaries: Turn::new(&schedule.primaries, chance),
            backups: Turn::new(&schedule.backups, chance),
        }
    }
}

/// What a pick may depend on besides the group: the caller brings hash and
/// chance, so that the same arguments give the same backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draw {
    /// [`key_hash`] of the value of the group's hash key. Only
    /// [`Balance::Hash`] looks at it.
    pub key: u64,
    /// Random bits. Only [`Balance::P2c`] looks at them.
    pub chance: u64,
}

/// Picks the place of one member, or `None` when nobody is available.
///
/// `available` says whether a member may take this attempt (so a caller leaves
/// out those the request has tried), `load` how many requests it has in
/// flight. Both may change while picking, as other workers go on; whoever is
/// picked was available when asked.
pub fn pick(
    schedule: &Schedule,
    cursor: &mut Cursor,
    draw: Draw,
    available: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> u32,
) -> Option<usize> {
    let Cursor { primaries, backups } = cursor;
    let first = schedule.primaries.pick(primaries, draw, &available, &load);
    first.or_else(|| schedule.backups.pick(backups, draw, &available, &load))
}

/// Who may be picked, each with its share of the picks made as things stand (all
/// together 1): nobody when nobody is available, one when neither the cycle nor
/// chance has a say. Nothing is picked, and no cycle moves on.
pub fn foresee(
    schedule: &Schedule,
    key: u64,
    available: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> u32,
) -> Vec<(usize, f64)> {
    let first = schedule.primaries.foresee(key, &available, &load);
    if first.is_empty() { schedule.backups.foresee(key, &available, &load) } else { first }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
