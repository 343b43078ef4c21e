//! Listening sockets: every worker has its own for every port and address
//! family, and the kernel spreads the connections among them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use crate::proxy::Socket;
use crate::state::Snapshot;

/// Connections the kernel holds for a socket until they are accepted; it
/// lowers this to `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// The sockets of all workers, and where they listen.
#[derive(Debug)]
pub(super) struct Bound {
    /// One list per worker.
    pub(super) sockets: Vec<Vec<Socket>>,
    /// Scheme and address of each, once.
    pub(super) addresses: Vec<(crate::config::Protocol, SocketAddr)>,
}

/// Binds every port of the snapshot `workers` times.
pub(super) fn bind(snapshot: &Snapshot, workers: usize) -> Result<Bound, String> {
    let mut bound =
        Bound { sockets: (0..workers).map(|_| Vec::new()).collect(), addresses: Vec::new() };
    for port in &snapshot.ports {
        let mut any = false;
        for address in addresses(port.address, port.number) {
            let mut bound_here = false;
            // A machine without IPv6 serves IPv4, and the other way round.
            let optional = port.address.is_none();
            for list in &mut bound.sockets {
                match listen(address) {
                    Ok(listener) => {
                        bound_here = true;
                        list.push(Socket { listener, port: port.number });
                    }
                    Err(error) if optional && lacks_family(&error) => break,
                    Err(error) => return Err(explain(address, &error)),
                }
            }
            any |= bound_here;
            if bound_here {
                bound.addresses.push((port.protocol, address));
            }
        }
        if !any {
            return Err(format!("port {}: the machine has neither IPv4 nor IPv6", port.number));
        }
    }
    Ok(bound)
}

fn addresses(address: Option<IpAddr>, port: u16) -> Vec<SocketAddr> {
    match address {
        Some(ip) => vec![SocketAddr::new(ip, port)],
        None => vec![
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
            SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
        ],
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own, on which clients show as IPv4.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn lacks_family(error: &io::Error) -> bool {
    // EAFNOSUPPORT and EADDRNOTAVAIL.
    matches!(error.raw_os_error(), Some(97 | 99))
}

fn explain(address: SocketAddr, error: &io::Error) -> String {
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
    format!("cannot listen on {address}: {error}: {remedy}")
}
