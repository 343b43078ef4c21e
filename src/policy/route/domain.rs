//! The domains a config gives to listeners.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::host::{MAX_NAME, is_port};

/// Bytes of the longest label (RFC 1035 2.3.4).
const MAX_LABEL: usize = 63;

/// A domain a listener owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// One name, or an IP literal (an IPv6 one in brackets).
    Exact(Box<str>),
    /// `*.x.com`, held as `x.com`: any number of labels before it, never
    /// `x.com` itself (SEMANTICS RT-04, RT-05).
    Wildcard(Box<str>),
}

impl Domain {
    /// Reads a domain as a config file writes it.
    ///
    /// Upper case and one trailing dot are accepted and dropped. An
    /// internationalised name must stand in punycode, because that is what
    /// clients send.
    pub fn parse(text: &str) -> Result<Domain, DomainError> {
        if text.is_empty() {
            return Err(DomainError::Empty);
        }
        if text.contains("://") {
            return Err(DomainError::Scheme);
        }
        if text.contains('/') {
            return Err(DomainError::Path);
        }
        if !text.is_ascii() {
            return Err(DomainError::NotAscii);
        }
        if text.contains(':') {
            return parse_v6_domain(text);
        }
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        if name == "*" || name == "*." {
            return Err(DomainError::OnlyWildcard);
        }
        if name.len() > MAX_NAME {
            return Err(DomainError::TooLong(name.len()));
        }
        match name.strip_prefix("*.") {
            Some(rest) => {
                check_labels(rest)?;
                Ok(Domain::Wildcard(rest.into()))
            }
            None => {
                check_labels(name)?;
                Ok(Domain::Exact(name.into()))
            }
        }
    }

    /// Whether this domain takes `host`, which is lower case as
    /// [`HostName::as_str`](super::HostName::as_str) gives it.
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Domain::Exact(name) => **name == *host,
            Domain::Wildcard(parent) => {
                host.strip_suffix(&**parent).is_some_and(|labels| labels.ends_with('.'))
            }
        }
    }

    /// The name to sort by: without the `*.`, the exact one before the
    /// wildcard of the same name.
    pub(super) fn by_name(&self) -> (&str, bool) {
        match self {
            Domain::Exact(name) => (name, false),
            Domain::Wildcard(parent) => (parent, true),
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Domain::Exact(name) => f.write_str(name),
            Domain::Wildcard(parent) => write!(f, "*.{parent}"),
        }
    }
}

/// A domain with a colon: an IPv6 literal, or a port where none belongs.
fn parse_v6_domain(text: &str) -> Result<Domain, DomainError> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Ok(Domain::Exact(format!("[{address}]").into()));
    }
    match text.rsplit_once(':') {
        Some((host, port))
            if is_port(port.as_bytes()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            Err(DomainError::Port)
        }
        _ => Err(DomainError::Address),
    }
}

fn check_labels(name: &str) -> Result<(), DomainError> {
    for label in name.split('.') {
        if label.is_empty() {
            return Err(DomainError::EmptyLabel);
        }
        if label.len() > MAX_LABEL {
            return Err(DomainError::LongLabel(label.into()));
        }
        if label.contains('*') {
            return Err(DomainError::WildcardPlace);
        }
        let odd = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if let Some(odd) = label.chars().find(odd) {
            return Err(DomainError::Character(odd));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(DomainError::Hyphen(label.into()));
        }
    }
    // Clients read a name whose last label is a number as an IPv4 address or
    // not at all, so a mistyped one would never be asked for.
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.bytes().all(|byte| byte.is_ascii_digit()) && name.parse::<Ipv4Addr>().is_err() {
        return Err(DomainError::Address);
    }
    Ok(())
}

/// Why a text is no domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainError {
    /// Nothing there.
    Empty,
    /// It has `https://` or the like before it.
    Scheme,
    /// It has a `/`.
    Path,
    /// It has a port.
    Port,
    /// An internationalised name not in punycode.
    NotAscii,
    /// Longer than 253 bytes; holds how long.
    TooLong(usize),
    /// Two dots in a row, or one at the start.
    EmptyLabel,
    /// A label of more than 63 bytes; holds the label.
    LongLabel(Box<str>),
    /// A label that starts or ends with `-`; holds the label.
    Hyphen(Box<str>),
    /// A character no host name has.
    Character(char),
    /// `*` alone.
    OnlyWildcard,
    /// A `*` elsewhere than as the whole first label.
    WildcardPlace,
    /// It looks like an IP address and is none.
    Address,
}

impl fmt::Display for DomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DomainError::Empty => f.write_str("a domain is empty"),
            DomainError::Scheme => f.write_str("a domain stands without scheme and `://`"),
            DomainError::Path => f.write_str("a domain has no `/`: a path belongs into a rule"),
            DomainError::Port => f.write_str("a domain has no port: the key `port` says it"),
            DomainError::NotAscii => {
                f.write_str("a domain outside ASCII is given in punycode, as `xn--…`")
            }
            DomainError::TooLong(len) => {
                write!(f, "a domain has at most {MAX_NAME} bytes, this one {len}")
            }
            DomainError::EmptyLabel => f.write_str("a domain has something between its dots"),
            DomainError::LongLabel(label) => write!(
                f,
                "a part of a domain has at most {MAX_LABEL} bytes, `{label}` {}",
                label.len()
            ),
            DomainError::Hyphen(label) => {
                write!(f, "no part of a domain starts or ends with `-`, as `{label}` does")
            }
            DomainError::Character(odd) => write!(
                f,
                "`{}` cannot stand in a domain: letters, digits, `-`, `_` and `.` can",
                odd.escape_default()
            ),
            DomainError::OnlyWildcard => {
                f.write_str("`*` alone is no domain: `default = true` takes what no domain takes")
            }
            DomainError::WildcardPlace => {
                f.write_str("`*` stands only as the whole first part, as in `*.x.com`")
            }
            DomainError::Address => f.write_str("this looks like an IP address, but it is none"),
        }
    }
}

impl std::error::Error for DomainError {}
