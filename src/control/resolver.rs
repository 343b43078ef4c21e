//! Keeps the addresses of backends that are named: each name is looked up
//! again when its answer expires, off the way of requests.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use crate::config::BackendAddress;
use crate::state::{Backend, Snapshot};

/// An answer is used for at least this long, whatever its TTL says, and at
/// most an hour.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);
/// After an answer that names no address, or no answer at all.
const RETRY: Duration = Duration::from_secs(2);
/// How long a start waits for the first answers.
const FIRST: Duration = Duration::from_secs(3);

/// Resolves the names of the snapshot's backends, the first time before it
/// returns (unless the name servers are too slow), and from then on.
pub(super) async fn start(
    snapshot: &Snapshot,
    servers: &[SocketAddr],
    own: Vec<SocketAddr>,
) -> Result<(), String> {
    let named: Vec<Backend> = snapshot
        .groups()
        .flat_map(|group| &group.backends)
        .filter(|backend| matches!(backend.config.address, BackendAddress::Name { .. }))
        .cloned()
        .collect();
    if named.is_empty() {
        return Ok(());
    }
    let resolvers = [LookupIpStrategy::Ipv4Only, LookupIpStrategy::Ipv6Only];
    let resolvers = resolvers.map(|family| resolver(servers, family));
    let [v4, v6] = resolvers;
    let resolver = Rc::new([v4?, v6?]);
    let own = Rc::new(own);
    let first: Vec<_> = named
        .into_iter()
        .map(|backend| {
            let (told, first) = tokio::sync::oneshot::channel();
            spawn_local(keep(Rc::clone(&resolver), backend, Rc::clone(&own), told));
            first
        })
        .collect();
    let all = async {
        for answer in first {
            // A task that ended early has logged why.
            let _ = answer.await;
        }
    };
    let _ = timeout(FIRST, all).await;
    Ok(())
}

fn resolver(servers: &[SocketAddr], family: LookupIpStrategy) -> Result<TokioResolver, String> {
    let cannot = |error| format!("name servers: {error}: name some as `servers` under `[dns]`");
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio().map_err(cannot)?
    } else {
        let servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
                .map(|mut connection| {
                    connection.port = server.port();
                    connection
                })
                .into();
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    builder.options_mut().ip_strategy = family;
    // Else hickory answers from what it keeps for as long as the zone's SOA says.
    builder.options_mut().negative_max_ttl = Some(RETRY);
    builder.build().map_err(cannot)
}

/// Looks one name up for as long as the process runs.
async fn keep(
    resolver: Rc<[TokioResolver; 2]>,
    backend: Backend,
    own: Rc<Vec<SocketAddr>>,
    told: tokio::sync::oneshot::Sender<()>,
) {
    let BackendAddress::Name { host, port } = &backend.config.address else { return };
    let mut told = Some(told);
    // A dot at the end: the name is whole, no search list is tried on it.
    let name = if host.contains('.') { format!("{host}.") } else { host.to_string() };
    loop {
        let [v4, v6] = &*resolver;
        let (v4, v6) = tokio::join!(v4.lookup_ip(name.as_str()), v6.lookup_ip(name.as_str()));
        let last = backend.addresses();
        let mut addresses = Vec::new();
        let mut again: Option<Instant> = None;
        let mut failed = false;
        for (answer, is_ipv4) in [(v4, true), (v6, false)] {
            match answer {
                Ok(answer) => {
                    addresses.extend(answer.iter().map(|ip| SocketAddr::new(ip, *port)));
                    let expires = Instant::from_std(answer.valid_until());
                    again = Some(again.map_or(expires, |again| again.min(expires)));
                }
                Err(error) if error.is_no_records_found() => {}
                Err(error) => {
                    warn!(backend = %backend.config.name, %error, "name not resolved; the last addresses stay");
                    failed = true;
                    addresses.extend(last.iter().filter(|a| a.is_ipv4() == is_ipv4));
                }
            }
        }
        addresses.retain(|address| !leads_to_us(*address, &own));
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() && told.is_some() {
            warn!(backend = %backend.config.name, "the name has no address: the backend is down");
        }
        publish(&backend, addresses);
        let again = again.filter(|_| !failed).map_or(Instant::now() + RETRY, |at| {
            at.clamp(Instant::now() + SHORTEST, Instant::now() + LONGEST)
        });
        if let Some(told) = told.take() {
            let _ = told.send(());
        }
        sleep_until(again).await;
    }
}

fn publish(backend: &Backend, addresses: Vec<SocketAddr>) {
    if *backend.addresses() == addresses {
        return;
    }
    if addresses.is_empty() {
        warn!(backend = %backend.config.name, "the name has no address: the backend is down");
    } else {
        info!(backend = %backend.config.name, ?addresses, "resolved");
    }
    backend.set_addresses(addresses);
}

/// A name that resolves to one of our own sockets would send requests in a
/// circle.
fn leads_to_us(address: SocketAddr, own: &[SocketAddr]) -> bool {
    own.iter().any(|own| {
        own.port() == address.port()
            && (own.ip() == address.ip()
                || (own.ip().is_unspecified()
                    && (address.ip().is_loopback() || address.ip().is_unspecified())))
    })
}
