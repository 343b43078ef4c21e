//! Who the client is, and whether it may come in.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// A listener's `allow` and `deny` lists. `deny` wins; an `allow` with anything
/// in it denies the rest. Nothing listed lets everybody in.
#[derive(Clone, Debug, Default)]
pub struct Access {
    allow: Networks,
    deny: Networks,
}

impl Access {
    /// From the two lists; an empty one says nothing.
    pub fn new(allow: Vec<IpNet>, deny: Vec<IpNet>) -> Self {
        Self { allow: Networks::new(allow), deny: Networks::new(deny) }
    }

    /// Whether `client` may come in.
    pub fn permits(&self, client: IpAddr) -> bool {
        matches!(self.judge(client), Verdict::Open | Verdict::Allowed)
    }

    /// What the lists say of `client`.
    pub fn judge(&self, client: IpAddr) -> Verdict {
        if self.deny.contains(client) {
            Verdict::Denied
        } else if self.allow.is_empty() {
            Verdict::Open
        } else if self.allow.contains(client) {
            Verdict::Allowed
        } else {
            Verdict::NotAllowed
        }
    }

    /// Whether nothing is listed, so that nobody need be looked up.
    pub fn is_open(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

/// What the lists of an [`Access`] say of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No list names it, and none would have to.
    Open,
    /// `allow` has it.
    Allowed,
    /// `deny` has it.
    Denied,
    /// There is an `allow`, and it is not in there.
    NotAllowed,
}

/// A set of networks: thousands cost a binary search.
///
/// An IPv4 address written as IPv6 (`::ffff:1.2.3.4`) is that IPv4 address,
/// in the set and in the question; so `::/0` holds no IPv4 address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
}

/// First and last address, sorted; none touches the next.
type Ranges<A> = Box<[(A, A)]>;

impl Networks {
    /// The union of `networks`, which may overlap and come in any order.
    pub fn new(networks: Vec<IpNet>) -> Self {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for network in networks {
            let (first, last) = (network.network(), network.broadcast());
            // A network that reaches beyond the mapped addresses is IPv6.
            match (first.to_canonical(), last.to_canonical()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits())),
                _ => {
                    if let (IpAddr::V6(first), IpAddr::V6(last)) = (first, last) {
                        v6.push((first.to_bits(), last.to_bits()));
                    }
                }
            }
        }
        Self {
            v4: merge(v4, |last| last.checked_add(1)),
            v6: merge(v6, |last| last.checked_add(1)),
        }
    }

    /// Whether one of the networks has `address`.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => within(&self.v4, address.to_bits()),
            IpAddr::V6(address) => within(&self.v6, address.to_bits()),
        }
    }

    /// Whether there is no network.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

fn merge<A: Ord + Copy>(mut ranges: Vec<(A, A)>, after: impl Fn(A) -> Option<A>) -> Ranges<A> {
    ranges.sort_unstable();
    ranges.dedup_by(|(first, last), (_, end)| {
        // After the last address of all nothing can start.
        let joins = after(*end).is_none_or(|next| *first <= next);
        if joins {
            *end = (*end).max(*last);
        }
        joins
    });
    ranges.into()
}

fn within<A: Ord + Copy>(ranges: &[(A, A)], address: A) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    let range = after.checked_sub(1).and_then(|at| ranges.get(at));
    range.is_some_and(|(_, last)| address <= *last)
}

/// The address a request is counted, limited, hashed and logged by: the
/// rightmost entry of `X-Forwarded-For` that is not trusted, if the peer is
/// trusted; else the peer.
///
/// Every trusted proxy appends whom it saw, so from the right each entry was
/// written by somebody trusted, up to and with the first untrusted one; what
/// stands left of that anybody may have made up. When all are trusted it is
/// the leftmost.
///
/// `entries_from_right` yields the entries trimmed. An entry may be `1.2.3.4`,
/// `1.2.3.4:567`, `v6`, `[v6]` or `[v6]:567`; any other ends the walk, and the
/// trusted address before it is the client. An IPv4 address written as IPv6 is
/// given back as IPv4.
pub fn client_address<'a>(
    peer: IpAddr,
    trusted: &Networks,
    entries_from_right: impl Iterator<Item = &'a [u8]>,
) -> IpAddr {
    let mut client = peer.to_canonical();
    for entry in entries_from_right {
        if !trusted.contains(client) {
            break;
        }
        let Some(address) = entry_address(entry) else {
            break;
        };
        client = address;
    }
    client
}

/// The entries of one `X-Forwarded-For` value from right to left, trimmed, as
/// [`client_address`] takes them. Where the field stands more than once, its
/// values follow one another from the last.
pub fn entries_from_right(field_value: &[u8]) -> impl Iterator<Item = &[u8]> {
    field_value.rsplit(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn entry_address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let address = text.parse().ok().or_else(bracketed).or_else(with_port)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests;
