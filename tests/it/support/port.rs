//! Ports nobody else can take.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};

/// A port held by a bound socket that never listens. Lockgate binds the same
/// port with `SO_REUSEPORT`, the system gives it to nobody else, and clients
/// only ever reach listening sockets. Without a listener it refuses.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _held: Socket,
}

impl Port {
    /// A free port, ours as long as the value lives.
    pub(crate) fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
        let number = socket.local_addr().unwrap().as_socket().unwrap().port();
        Self { number, _held: socket }
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// As a backend's address: a connect to it is refused.
    pub(crate) fn refusing_address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.number.fmt(f)
    }
}
