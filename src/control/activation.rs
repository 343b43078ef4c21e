//! Socket activation: systemd may have bound the listening sockets, and passes
//! them (`LISTEN_FDS`, see `sd_listen_fds(3)`). They are used where their address
//! is that of a listener's port.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;
use rustix::net::sockopt::{ipv6_v6only, socket_acceptconn};
use tracing::warn;

use super::sockets::Received;

/// The sockets that were passed to this process. One that cannot be used is told
/// in the log.
pub(super) fn passed() -> Received {
    let mut found = Received::new();
    let ours = |pid: &std::ffi::OsString| **pid == *std::process::id().to_string();
    if std::env::var_os("LISTEN_PID").as_ref().is_none_or(|pid| !ours(pid)) {
        return found;
    }
    let mut passed = ListenFd::from_env();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    for (at, name) in (0..passed.len()).zip(names.split(':').chain(std::iter::repeat(""))) {
        let listener = passed.take_tcp_listener(at).and_then(|listener| {
            let listener = listener.ok_or_else(|| io::Error::other("it is not there"))?;
            check(&listener)?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        match listener {
            Ok((address, listener)) => found.entry(address).or_default().push(listener),
            Err(error) => warn!(name, %error, "a socket that systemd passed cannot be used"),
        }
    }
    found
}

fn check(listener: &TcpListener) -> io::Result<()> {
    if !socket_acceptconn(listener)? {
        return Err(io::Error::other("it does not listen: write `ListenStream=`"));
    }
    let address = listener.local_addr()?;
    // IPv4 has a socket of its own, on which clients show as IPv4.
    if address.is_ipv6() && address.ip().is_unspecified() && !ipv6_v6only(listener)? {
        let port = address.port();
        return Err(io::Error::other(format!(
            "it takes IPv4 too: write `ListenStream=0.0.0.0:{port}`, `ListenStream=[::]:{port}` \
             and `BindIPv6Only=ipv6-only`"
        )));
    }
    Ok(())
}

/// A handle of each socket for every worker: another process bound them, so that
/// a second one of the same address is not to be had.
pub(super) fn spread(received: &mut Received, workers: usize) -> io::Result<()> {
    for listeners in received.values_mut() {
        for at in listeners.len()..workers {
            let Some(one) = listeners.get(at % listeners.len().max(1)) else { continue };
            listeners.push(one.try_clone()?);
        }
    }
    Ok(())
}
