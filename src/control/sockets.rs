//! Listening sockets: every worker has its own for every port and address
//! family, and the kernel spreads the connections among them.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use tracing::warn;

use crate::proxy::Socket;
use crate::state::{Port, Snapshot};

/// Connections the kernel holds for a socket until they are accepted; it
/// lowers this to `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// The sockets of all workers, and where they listen.
#[derive(Debug, Default)]
pub(super) struct Bound {
    /// One list per worker.
    pub(super) sockets: Vec<Vec<Socket>>,
    /// Scheme and address of each, once.
    pub(super) addresses: Vec<(crate::config::Protocol, SocketAddr)>,
    /// What can't be listened on, and what to do about it.
    pub(super) failed: Vec<String>,
    /// The ports of these, in their order.
    pub(super) lacking: Vec<u16>,
    /// Received, and wanted by nobody: closed with this.
    pub(super) unclaimed: Received,
}

impl Bound {
    /// All its sockets, for another snapshot to be bound to.
    pub(super) fn into_received(self) -> Received {
        let mut received = self.unclaimed;
        for socket in self.sockets.into_iter().flatten() {
            if let Ok(address) = socket.listener.local_addr() {
                received.entry(address).or_default().push(socket.listener);
            }
        }
        received
    }
}

/// Listening sockets that another process bound, by their addresses.
pub(super) type Received = HashMap<SocketAddr, Vec<TcpListener>>;

/// Binds every port of the snapshot `workers` times, but for the addresses where
/// there are sockets already. Where some were received those are used, all of
/// them: in each of their queues clients may wait; see [`fill`]. One that can't be had
/// costs the games on it that port, and no other game anything.
pub(super) fn bind(
    snapshot: &Snapshot,
    workers: usize,
    have: &[SocketAddr],
    received: Received,
) -> Bound {
    bind_with(listen, snapshot, workers, have, received)
}

/// How a socket is had.
type Have = fn(SocketAddr) -> io::Result<TcpListener>;

fn bind_with(
    how: Have,
    snapshot: &Snapshot,
    workers: usize,
    have: &[SocketAddr],
    mut received: Received,
) -> Bound {
    let mut bound = Bound {
        sockets: (0..workers).map(|_| Vec::new()).collect(),
        addresses: Vec::new(),
        failed: Vec::new(),
        lacking: Vec::new(),
        unclaimed: Received::new(),
    };
    for port in &snapshot.ports {
        let wanted = Wanted { addresses: addresses(snapshot, port), all: port.address.is_none() };
        match bind_port(how, &wanted, workers, have, &mut received, &owners(snapshot, port)) {
            Ok(all) => {
                for (address, listeners) in all {
                    bound.addresses.push((port.protocol, address));
                    for (at, listener) in listeners.into_iter().enumerate() {
                        if let Some(list) = bound.sockets.get_mut(at % workers.max(1)) {
                            list.push(Socket { listener, port: port.number });
                        }
                    }
                }
            }
            Err(why) => {
                bound.failed.push(why);
                bound.lacking.push(port.number);
            }
        }
    }
    bound.unclaimed = received;
    bound
}

/// Where a port is to be listened on.
struct Wanted {
    addresses: Vec<SocketAddr>,
    /// One that is not to be had is left out.
    all: bool,
}

/// A port's sockets for each of its addresses, one per worker unless they were
/// received: all of them, or none.
fn bind_port(
    how: Have,
    port: &Wanted,
    workers: usize,
    have: &[SocketAddr],
    received: &mut Received,
    whose: &str,
) -> Result<Vec<(SocketAddr, Vec<TcpListener>)>, String> {
    let mut all = Vec::new();
    let mut lacking = None;
    let wanted = &port.addresses;
    let has_some = wanted.iter().any(|address| have.contains(address));
    for &address in wanted.iter().filter(|address| !have.contains(address)) {
        let listeners: io::Result<Vec<TcpListener>> = match received.remove(&address) {
            Some(received) => Ok(received),
            None => (0..workers).map(|_| how(address)).collect(),
        };
        match listeners {
            Ok(listeners) => all.push((address, listeners)),
            // A machine without IPv6 serves IPv4, and the other way round.
            Err(error) if port.all && lacks_family(&error) => {
                lacking = Some(explain(address, &error, whose));
            }
            Err(error) => return Err(explain(address, &error, whose)),
        }
    }
    match lacking {
        Some(why) if all.is_empty() && !has_some => Err(why),
        _ => Ok(all),
    }
}

/// What [`bind`] would come to. Nothing listens meanwhile, and nothing is kept.
pub(super) fn foreseen(snapshot: &Snapshot, have: &[SocketAddr]) -> Bound {
    bind_with(bound_only, snapshot, 1, have, Received::new())
}

/// Gives workers that lack a socket of an address one of their own: where the
/// process that the others came from had fewer workers. To be done when nothing
/// can fail any more, for clients queue at a socket as soon as it listens.
pub(super) fn fill(sockets: &mut [Vec<Socket>]) {
    let at = |socket: &Socket| Some((socket.listener.local_addr().ok()?, socket.port));
    let mut all: HashMap<(SocketAddr, u16), TcpListener> = HashMap::new();
    for socket in sockets.iter().flatten() {
        if let (Some(at), Ok(second)) = (at(socket), socket.listener.try_clone()) {
            all.entry(at).or_insert(second);
        }
    }
    for list in sockets {
        let has: HashSet<(SocketAddr, u16)> = list.iter().filter_map(at).collect();
        for ((address, port), other) in all.iter().filter(|(at, _)| !has.contains(at)) {
            // One that systemd bound lets none beside it: then it is shared.
            match listen(*address).or_else(|_| other.try_clone()) {
                Ok(listener) => list.push(Socket { listener, port: *port }),
                Err(error) => warn!(%address, %error, "a worker has no socket of this address"),
            }
        }
    }
}

/// Where the snapshot wants to listen.
pub(super) fn addresses_of(snapshot: &Snapshot) -> HashSet<SocketAddr> {
    let ports = snapshot.ports.iter();
    ports.flat_map(|port| addresses(snapshot, port)).collect()
}

/// The files and lines that ask for the port.
fn owners(snapshot: &Snapshot, port: &Port) -> String {
    let lines: Vec<String> = snapshot
        .listeners()
        .filter(|listener| listener.config.ports.contains(&port.number))
        .map(|listener| format!("{}.toml:{}", listener.game, listener.config.line))
        .collect();
    lines.join(", ")
}

fn addresses(snapshot: &Snapshot, port: &Port) -> Vec<SocketAddr> {
    let ips: [IpAddr; 2] = match port.address {
        Some(ip) => return vec![SocketAddr::new(ip, port.number)],
        None if snapshot.process.loopback => {
            [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        None => [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
    };
    ips.map(|ip| SocketAddr::new(ip, port.number)).into()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound_socket(address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A client that comes is refused, as it was before.
fn bound_only(address: SocketAddr) -> io::Result<TcpListener> {
    bound_socket(address).map(TcpListener::from)
}

fn bound_socket(address: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own, on which clients show as IPv4.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn lacks_family(error: &io::Error) -> bool {
    // EAFNOSUPPORT and EADDRNOTAVAIL.
    matches!(error.raw_os_error(), Some(97 | 99))
}

fn explain(address: SocketAddr, error: &io::Error, whose: &str) -> String {
    let remedy = match error.kind() {
        // EMFILE and ENFILE.
        _ if matches!(error.raw_os_error(), Some(23 | 24)) => {
            "every worker has a socket for every port: raise the descriptor limit (ulimit -n) or \
             lower `workers`"
        }
        io::ErrorKind::AddrInUse => "another program has the port: stop it, or use another port",
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=)"
        }
        _ => "check the listener's `address`",
    };
    format!("cannot listen on {address} ({whose}): {error}: {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_a_socket_shares_one_that_lets_none_beside_it() {
        let alone = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = alone.local_addr().unwrap();
        assert!(listen(address).is_err());
        let mut sockets = vec![vec![Socket { listener: alone, port: 1 }], Vec::new()];
        fill(&mut sockets);
        let [_, second] = &sockets[..] else { panic!("{sockets:?}") };
        assert_eq!(second[0].listener.local_addr().unwrap(), address);
        assert_eq!((second.len(), second[0].port), (1, 1));
    }
}
