//! Host names and who owns them.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::Write as _;
use std::net::Ipv6Addr;

use super::domain::Domain;
use crate::policy::balance::key_hash;

/// Bytes of the longest name DNS can hold, written without the trailing dot
/// (RFC 1035 2.3.4).
pub(super) const MAX_NAME: usize = 253;

/// A host name as routing compares it: lower case, without port and trailing
/// dot. It lives on the stack.
#[derive(Clone)]
pub struct HostName {
    buf: [u8; 255],
    len: u8,
}

impl HostName {
    /// The host of an authority (`Host`, `:authority`, or SNI).
    ///
    /// A port and one trailing dot are stripped (SEMANTICS RT-06). An IPv6
    /// literal keeps its brackets and is written the canonical way, so that two
    /// spellings of one address are one host.
    ///
    /// `None` for what names no host: empty, longer than 253 bytes, with
    /// nothing between two dots, with a port that is not a number up to 65535,
    /// or with a byte RFC 3986 does not allow in a registered name.
    pub fn parse(authority: &[u8]) -> Option<HostName> {
        if authority.first() == Some(&b'[') {
            return Self::parse_v6(authority);
        }
        let mut buf = [0; 255];
        let mut len = 0;
        // As if a label had ended before the name: none is empty, the first neither.
        let mut last = b'.';
        for (to, &byte) in buf.iter_mut().zip(authority) {
            let Some(lower) = reg_name(byte) else { break };
            if lower == b'.' && last == b'.' {
                return None;
            }
            *to = lower;
            last = lower;
            len += 1;
        }
        match authority.get(len..)? {
            [] => {}
            [b':', port @ ..] if is_port(port) => {}
            _ => return None,
        }
        if last == b'.' {
            len = len.checked_sub(1)?;
        }
        let len = u8::try_from(len).ok().filter(|len| usize::from(*len) <= MAX_NAME)?;
        Some(HostName { buf, len })
    }

    fn parse_v6(authority: &[u8]) -> Option<HostName> {
        let end = memchr::memchr(b']', authority)?;
        let address = std::str::from_utf8(authority.get(1..end)?).ok()?;
        let address: Ipv6Addr = address.parse().ok()?;
        match authority.get(end + 1..)? {
            [] => {}
            [b':', port @ ..] if is_port(port) => {}
            _ => return None,
        }
        let mut buf = [0; 255];
        let mut rest = buf.as_mut_slice();
        write!(rest, "[{address}]").ok()?;
        let len = 255 - rest.len();
        let len = u8::try_from(len).ok()?;
        Some(HostName { buf, len })
    }

    /// The name, lower case.
    pub fn as_str(&self) -> &str {
        let name = self.buf.get(..usize::from(self.len)).unwrap_or_default();
        // Only ASCII gets in, so the default is never taken.
        std::str::from_utf8(name).unwrap_or_default()
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostName").field(&self.as_str()).finish()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for HostName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for HostName {}

/// The port of an authority: digits up to 65535; RFC 3986 lets it be empty.
pub(super) fn is_port(port: &[u8]) -> bool {
    port.iter()
        .try_fold(0_u32, |value, &byte| {
            let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
            Some(value * 10 + digit).filter(|value| *value <= u32::from(u16::MAX))
        })
        .is_some()
}

/// A byte of `reg-name` (RFC 3986 3.2.2: unreserved, escapes, sub-delims), in lower case.
#[allow(clippy::indexing_slicing, reason = "the table is built by the compiler")]
fn reg_name(byte: u8) -> Option<u8> {
    // Looked up: this runs for every byte of every Host. What is not allowed is 0.
    const LOWER: [u8; 256] = {
        let mut table = [0; 256];
        let mut names: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\
            -._~%!$&'()*+,;=";
        while let [byte, rest @ ..] = names {
            table[*byte as usize] = byte.to_ascii_lowercase();
            names = rest;
        }
        table
    };
    LOWER.get(usize::from(byte)).copied().filter(|lower| *lower != 0)
}

/// Keys come from the config, never from a client, so nobody can make them
/// collide and a quick hash will do.
#[derive(Clone, Copy, Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= key_hash(bytes);
    }

    // `str` ends with one 0xff that tells "a", "b" from "ab", "". One string
    // is all we hash.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

type Names<T> = HashMap<Box<str>, T, BuildHasherDefault<NameHasher>>;

/// Who owns a host: the exact name, then the longest wildcard, then the
/// default (SEMANTICS RT-01 to RT-07).
#[derive(Clone)]
pub struct HostTable<T> {
    exact: Names<T>,
    wildcards: Names<T>,
    /// Bytes of the longest wildcard parent: longer suffixes are not looked up.
    longest: usize,
    /// Kept while inserting: a handshake without SNI asks for it.
    first: Option<Domain>,
    default: Option<T>,
}

impl<T> HostTable<T> {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            exact: Names::default(),
            wildcards: Names::default(),
            longest: 0,
            first: None,
            default: None,
        }
    }

    /// Gives `domain` to `value`, and back who had it before.
    pub fn insert(&mut self, domain: &Domain, value: T) -> Option<T> {
        let earlier = |first: &Domain| domain.by_name() < first.by_name();
        if self.first.as_ref().is_none_or(earlier) {
            self.first = Some(domain.clone());
        }
        match domain {
            Domain::Exact(name) => self.exact.insert(name.clone(), value),
            Domain::Wildcard(parent) => {
                self.longest = self.longest.max(parent.len());
                self.wildcards.insert(parent.clone(), value)
            }
        }
    }

    /// Gives what no domain takes to `value`, and back who had it before.
    pub fn set_default(&mut self, value: T) -> Option<T> {
        self.default.replace(value)
    }

    /// Who takes what no domain takes.
    pub fn default(&self) -> Option<&T> {
        self.default.as_ref()
    }

    /// The owner of just this domain.
    pub fn get(&self, domain: &Domain) -> Option<&T> {
        match domain {
            Domain::Exact(name) => self.exact.get(name),
            Domain::Wildcard(parent) => self.wildcards.get(parent),
        }
    }

    /// Who owns `host` (lower case, as [`HostName::as_str`] gives it), without
    /// the default.
    pub fn find(&self, host: &str) -> Option<&T> {
        if let Some(value) = self.exact.get(host) {
            return Some(value);
        }
        if self.wildcards.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if parent.len() <= self.longest
                && let Some(value) = self.wildcards.get(parent)
            {
                return Some(value);
            }
            rest = parent;
        }
        None
    }

    /// Who answers for `host`: its owner, else the default.
    pub fn resolve(&self, host: &str) -> Option<&T> {
        self.find(host).or(self.default.as_ref())
    }

    /// The owner of the alphabetically first domain, whatever the order of
    /// insertion. The `*.` of a wildcard does not count; the exact name comes
    /// before the wildcard of the same name.
    pub fn first_by_name(&self) -> Option<&T> {
        self.get(self.first.as_ref()?)
    }

    /// All domains and their owners in the order of [`Self::first_by_name`],
    /// without the default.
    pub fn iter(&self) -> impl Iterator<Item = (Domain, &T)> {
        let exact = self.exact.iter();
        let wildcards = self.wildcards.iter();
        let mut all: Vec<(Domain, &T)> = exact
            .map(|(name, value)| (Domain::Exact(name.clone()), value))
            .chain(wildcards.map(|(parent, value)| (Domain::Wildcard(parent.clone()), value)))
            .collect();
        all.sort_by(|(a, _), (b, _)| a.by_name().cmp(&b.by_name()));
        all.into_iter()
    }

    /// How many domains are owned, without the default.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcards.len()
    }

    /// Whether no domain is owned; there may still be a default.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for HostTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (domain, value) in self.iter() {
            map.entry(&format_args!("{domain}"), value);
        }
        map.finish()
    }
}
