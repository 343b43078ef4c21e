//! `[[listener]]`: what it owns, how it is reached, who may come.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use super::certificate::{Certificates, covers};
use super::credential::{self, authorities, problem_of_dates, tell};
use super::diagnostic::shown;
use super::keys;
use super::model::{Listener, Protocol, Tls, TlsPolicy};
use super::rule::{self, Around, GroupNames};
use super::settings::{ListenerSettings, networks, unknown_name};
use super::table::{Item, Table};
use crate::policy::access::Access;
use crate::policy::route::Domain;

/// What a listener reads besides its own table.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) defaults: &'a ListenerSettings,
    pub(super) certificates: &'a Certificates,
    pub(super) groups: &'a GroupNames,
}

/// What a listener lays hands on, for the comparison with all the others.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) domains: Vec<(Domain, Range<usize>)>,
    /// Where `default` stands, if it is true.
    pub(super) default: Option<Range<usize>>,
    pub(super) ports: Vec<(u16, Range<usize>)>,
    pub(super) protocol: Protocol,
    pub(super) address: Option<IpAddr>,
    /// Where `protocol` stands, else the header.
    pub(super) protocol_span: Range<usize>,
    /// Where `address` stands, else the header.
    pub(super) address_span: Range<usize>,
    /// Where `certificate` stands, else the domain it is named by.
    pub(super) certificate_span: Range<usize>,
}

/// Reads one listener. With any fault the file is refused, so the rest of it
/// may be made up.
pub(super) fn read(table: &Table<'_>, context: &Context<'_>) -> (Listener, Claims) {
    let claims = claims(table);
    let settings = context.defaults.overridden(table);
    let tls = match claims.protocol {
        Protocol::Https => tls(table, &claims, settings.tls, context),
        Protocol::Http => no_tls(table),
    };
    let ports: Vec<u16> = claims.ports.iter().map(|(port, _)| *port).collect();
    let around = Around { groups: context.groups, protocol: claims.protocol, ports: &ports };
    let rules = rule::read_all(table, &around).into_iter().map(Arc::new).collect();
    let access = |key| table.get(key).map(|item| networks(&item)).unwrap_or_default();
    let listener = Listener {
        line: table.notes.source.line(table.span.start),
        domains: claims.domains.iter().map(|(domain, _)| domain.clone()).collect(),
        default: claims.default.is_some(),
        address: claims.address,
        // Without TLS nobody could ask for it.
        http2: settings.http2 && claims.protocol == Protocol::Https,
        tls,
        rules,
        access: Access::new(access("allow"), access("deny")),
        trusted_proxies: settings.trusted_proxies,
        idle_timeout: settings.idle_timeout,
        header_timeout: settings.header_timeout,
        body_timeout: settings.body_timeout,
        write_timeout: settings.write_timeout,
        max_body: settings.max_body,
        max_requests: settings.max_requests,
        client_half_close: settings.client_half_close,
        forwarded: settings.forwarded,
        ports,
    };
    (listener, claims)
}

fn claims(table: &Table<'_>) -> Claims {
    let default = table.get("default");
    let is_default = default.as_ref().and_then(Item::boolean).unwrap_or_default();
    let domain = table.get("domain");
    if !is_default && !table.has_any(&["domain"]) {
        table.error(
            "this listener has no `domain`",
            "write `domain = \"youxia.com\"`, or `default = true` for whatever no other listener takes",
        );
    }
    let ports = table.require("port", "write `port = 8030`, or a list of ports");
    let span = |key| table.get(key).map_or(table.span.clone(), |item| item.span());
    let domains = domain.map(|item| domains(&item)).unwrap_or_default();
    let first = domains.first().map(|(_, span)| span.clone());
    let certificate = table.get("certificate").map(|item| item.span());
    Claims {
        domains,
        certificate_span: certificate.or(first).unwrap_or(table.span.clone()),
        default: default.filter(|_| is_default).map(|item| item.key),
        ports: ports.map(|item| self::ports(&item)).unwrap_or_default(),
        protocol: protocol(table),
        address: address(table),
        protocol_span: span("protocol"),
        address_span: span("address"),
    }
}

fn domains(list: &Item<'_>) -> Vec<(Domain, Range<usize>)> {
    let mut domains = Vec::new();
    let mut seen = HashSet::new();
    for item in list.list().unwrap_or_default() {
        let Some(text) = item.string() else {
            continue;
        };
        match Domain::parse(text) {
            Ok(domain) if !seen.insert(domain.clone()) => {
                item.error(format!("{} stands twice in `domain`", shown(text)), "remove one");
            }
            Ok(domain) => domains.push((domain, item.span())),
            Err(error) => item.error(
                format!("domain {}: {error}", shown(text)),
                "write such as `\"youxia.com\"`, or `\"*.youxia.com\"` for all names below it",
            ),
        }
    }
    domains
}

fn ports(list: &Item<'_>) -> Vec<(u16, Range<usize>)> {
    let mut ports = Vec::new();
    let mut seen = HashSet::new();
    for item in list.list().unwrap_or_default() {
        let port = item.integer(1..=u64::from(u16::MAX));
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else {
            continue;
        };
        if seen.insert(port) {
            ports.push((port, item.span()));
        } else {
            item.error(format!("`{port}` stands twice in `port`"), "remove one");
        }
    }
    ports
}

fn protocol(table: &Table<'_>) -> Protocol {
    let Some(item) = table.get("protocol") else {
        return Protocol::Https;
    };
    match item.string() {
        Some("http") => Protocol::Http,
        Some("https") | None => Protocol::Https,
        Some(other) => {
            unknown_name(&item, other, &["https", "http"]);
            Protocol::Https
        }
    }
}

fn address(table: &Table<'_>) -> Option<IpAddr> {
    let item = table.get("address")?;
    let text = item.string()?;
    let address: Option<IpAddr> = text.parse().ok();
    if address.is_none() {
        let hint = "write one of this machine's addresses, such as `\"10.0.0.5\"`; the port goes into `port`";
        item.error(format!("`address`: {} is not an IP address", shown(text)), hint);
    }
    address
}

/// With plain HTTP the keys of TLS are faults.
fn no_tls(table: &Table<'_>) -> Option<Tls> {
    for key in ["certificate", "tls", "client_ca", "http2"] {
        if let Some(item) = table.get(key) {
            let hint = "remove it, or write `protocol = \"https\"`";
            item.misplaced(format!("a listener with plain HTTP has no `{key}`"), hint);
        }
    }
    None
}

fn tls(
    table: &Table<'_>,
    claims: &Claims,
    policy: TlsPolicy,
    context: &Context<'_>,
) -> Option<Tls> {
    let certificate = certificate(table, claims, context.certificates);
    let client_ca =
        table.get("client_ca").and_then(|item| authorities(&item, context.certificates));
    let certificate = certificate?;
    check_dates(table, claims, &certificate);
    for (domain, span) in &claims.domains {
        if !covers(&certificate, domain) {
            table.notes.warning(
                span,
                format!("the certificate of this listener does not cover `{domain}`"),
                "browsers will refuse it: name this domain in the certificate, or use another",
            );
        }
    }
    Some(Tls { certificate, policy, client_ca })
}

/// Clients refuse a certificate outside its dates.
fn check_dates(table: &Table<'_>, claims: &Claims, certificate: &CertifiedKey) {
    let Some(problem) = problem_of_dates(certificate) else {
        return;
    };
    let message = format!("the certificate of this listener {problem}");
    let span = &claims.certificate_span;
    table.notes.warning(span, message, "browsers will refuse it: put a renewed one in its place");
}

fn certificate(
    table: &Table<'_>,
    claims: &Claims,
    certificates: &Certificates,
) -> Option<Arc<CertifiedKey>> {
    let Some(item) = table.get("certificate") else {
        // The first domain names it; one that is no domain was told already.
        let Some((domain, span)) = claims.domains.first() else {
            if !table.has_any(&["domain", "certificate"]) {
                let hint =
                    "write `certificate = \"NAME\"` for `certs/NAME.crt` and `certs/NAME.key`";
                table.error("a listener without `domain` needs `certificate`", hint);
            }
            return None;
        };
        let (Domain::Exact(name) | Domain::Wildcard(name)) = domain;
        return certificates.named(name).map_err(|faults| tell(table.notes, span, &faults)).ok();
    };
    credential::pair(&item, &keys::CERTIFICATE, certificates)
}
