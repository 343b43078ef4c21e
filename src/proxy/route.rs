//! From a request to the rule that takes it: port, then domain, then path.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use super::error::{Cause, Failure, Phase};
use super::message::{Cx, Request};
use crate::config::{NoRoute, Protocol};
use crate::http1::Method;
use crate::policy::route::HostName;
use crate::state::{Group, Listener, Port, Rule};

/// Where a request belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route<'a> {
    pub(super) port: &'a Port,
    pub(super) listener: &'a Listener,
    pub(super) rule: &'a Rule,
    /// The address the request counts as coming from.
    pub(super) client: IpAddr,
}

impl Route<'_> {
    /// The most a request body may have, in bytes.
    pub(super) fn max_body(&self) -> Option<u64> {
        self.rule.config.max_body.unwrap_or(self.listener.config.max_body)
    }

    /// Who the request is for, also where it does not say (HTTP/1.0).
    pub(super) fn authority<'r>(&self, request: &'r Request) -> Cow<'r, [u8]> {
        match (request.authority(), self.listener.config.domains.first()) {
            (Some(authority), _) => Cow::Borrowed(authority),
            (None, Some(domain)) => {
                Cow::Owned(domain.to_string().trim_start_matches("*.").as_bytes().to_vec())
            }
            (None, None) => Cow::Borrowed(b"localhost"),
        }
    }

    /// How long a tunnel may be silent.
    pub(super) fn tunnel_timeout(&self, group: &Group) -> Duration {
        self.rule.config.tunnel_timeout.unwrap_or(group.config.tunnel_timeout)
    }

    /// How long the group's backends may be silent.
    pub(super) fn response_timeout(&self, group: &Group) -> Duration {
        self.rule.config.response_timeout.unwrap_or(group.config.response_timeout)
    }
}

/// Finds the listener a request is for, whether or not a rule of it takes the
/// request.
pub(super) fn listener<'a>(
    cx: Cx<'a>,
    request: &Request,
) -> Result<(&'a Port, &'a Listener), Failure> {
    let snapshot = &cx.view.snapshot;
    // The port was taken away by a reload while the connection lived.
    let port = snapshot.port(cx.peer.port).ok_or_else(|| misdirected("the port is gone"))?;
    let listener = match (request.authority(), port.protocol) {
        (Some(authority), _) => HostName::parse(authority)
            .ok_or_else(|| Failure::because(Cause::Malformed, Phase::Request, "host name"))
            .map(|host| port.hosts.resolve(host.as_str()))?
            .ok_or_else(|| misdirected("no listener of the port has this Host")),
        // HTTP/1.0 without Host: what the TLS name says, or the default.
        (None, Protocol::Https) => cx
            .peer
            .tls
            .as_ref()
            .and_then(|tls| tls.name.as_deref())
            .map_or_else(|| port.hosts.default(), |name| port.hosts.resolve(name))
            .ok_or_else(no_host),
        (None, Protocol::Http) => port.hosts.default().ok_or_else(no_host),
    }?;
    check_identity(cx, port, listener)?;
    Ok((port, listener))
}

/// RFC 9110 7.4: a request may come only on a connection whose handshake was
/// good for it. Without that a client could pass by another listener's
/// `client_ca`.
fn check_identity(cx: Cx<'_>, port: &Port, listener: &Listener) -> Result<(), Failure> {
    match (&cx.peer.tls, &listener.identity) {
        (None, None) => Ok(()),
        (Some(tls), Some(wanted)) => {
            // Where no name was asked for, Host decides, but never past what the
            // listener demands and this handshake did not: a client certificate,
            // a TLS version.
            if wanted.accepts(&tls.identity, tls.name.is_some()) {
                return Ok(());
            }
            let owner = tls.name.as_deref().and_then(|name| port.hosts.resolve(name));
            if owner.is_some_and(|owner| std::ptr::eq(&**owner, listener))
                && wanted.succeeds(&tls.identity)
            {
                return Ok(());
            }
            Err(misdirected("the TLS handshake was for another listener"))
        }
        _ => Err(misdirected("the port's protocol changed")),
    }
}

/// Finds the rule of the listener that takes the request, if the client may
/// ask at all. A failure comes with the client's address.
pub(super) fn rule<'a>(
    cx: Cx<'a>,
    request: &Request,
    port: &'a Port,
    listener: &'a Listener,
) -> Result<Route<'a>, (IpAddr, Failure)> {
    let client = request.client_address(cx.peer.address.ip(), &listener.config.trusted_proxies);
    let serves = !matches!(request.head.method, Method::Connect | Method::Trace);
    let found =
        listener.config.route(&listener.paths, Some(client), serves, request.path_and_query());
    let rule = found.and_then(|at| listener.rules.get(at).ok_or(NoRoute::NoRule));
    match rule {
        Ok(rule) => Ok(Route { port, listener, rule, client }),
        Err(why) => Err((client, no_route(why))),
    }
}

fn no_host() -> Failure {
    Failure::because(Cause::Malformed, Phase::Request, "no Host")
}

fn no_route(why: NoRoute) -> Failure {
    match why {
        NoRoute::Denied => Failure::new(Cause::Denied, Phase::Request),
        NoRoute::Method => Failure::new(Cause::Method, Phase::Request),
        NoRoute::Path(error) => Failure::because(Cause::Malformed, Phase::Request, error),
        NoRoute::NoRule => Failure::new(Cause::NoRule, Phase::Request),
    }
}

fn misdirected(why: &str) -> Failure {
    Failure::because(Cause::Misdirected, Phase::Request, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::route::PathError;

    /// `[[expect]]` says the status that a request gets.
    #[test]
    fn config_and_failures_agree_on_the_status() {
        for why in
            [NoRoute::Denied, NoRoute::Method, NoRoute::Path(PathError::BadEscape), NoRoute::NoRule]
        {
            assert_eq!(no_route(why).status(), why.status(), "{why}");
        }
    }
}
