//! What would become of a request, and why, without one being made.
//!
//! A head is written as a client would write it, and goes the way of every
//! request: the same parser, the same [`route`], the same cookies and fields.
//! It is served by a worker that has no thread and no socket: what that one
//! counts, and where its cycles stand, is nobody's. Of what workers share
//! (health, loads, budgets) it only reads.

pub(crate) mod document;
mod fields;
mod group;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use document::{
    CertificateFacts, ClientFacts, Explanation, ListenerFacts, Outcome, PortFacts, RequestFacts,
    RuleFacts,
};

use super::buffer::{Buffer, FieldList};
use super::connection::head_failure;
use super::error::Failure;
use super::message::{Cx, Peer, Request, TlsFacts};
use super::respond;
use super::route::{self, Route};
use super::tls::greeter;
use super::worker::{Shared, Worker};
use crate::config::{
    Action, Protocol, RedirectTarget, certificate_covers, certificate_end, lost_because,
    matched_path, nearest,
};
use crate::http1::{HeadLimits, Method, RequestHead, parse_request};
use crate::policy::access::Verdict;
use crate::policy::route::{Domain, HostName, Url, UrlError};
use crate::state::{Game, Listener, Port, Rule, Snapshot};

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// As a person writes it.
    pub(crate) url: String,
    /// GET, unless another is meant.
    pub(crate) method: Option<String>,
    /// What the `Cookie` field says.
    pub(crate) cookie: Option<String>,
    /// The address that the client connects from; this machine's own by default.
    pub(crate) client_ip: Option<IpAddr>,
    /// More fields. A `Host` takes the place of the URL's.
    pub(crate) headers: Vec<(String, String)>,
}

impl Ask {
    /// The head that a client would send.
    fn head(&self, url: &Url) -> Vec<u8> {
        let method = self.method.as_deref().unwrap_or("GET");
        let host = self.host(url);
        let mut head = match method {
            "CONNECT" => format!("CONNECT {}:{} HTTP/1.1\r\n", url.host, url.port),
            _ => format!("{method} {} HTTP/1.1\r\n", url.target),
        };
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        let more = self.headers.iter().filter(|(name, _)| !is_host(name));
        let own = [("Host", Some(host.as_str())), ("Cookie", self.cookie.as_deref())];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (name, value) in own.chain(more.map(|(name, value)| (name.as_str(), value.as_str()))) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    fn host(&self, url: &Url) -> String {
        let is_host = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("host");
        self.headers.iter().find(is_host).map_or_else(|| url.authority(), |(_, host)| host.clone())
    }
}

/// Explains what the current snapshot would do with a request. `offline`: no
/// process runs by it, and so nobody looked its backends' names up.
///
/// # Errors
/// The URL is none.
pub(crate) fn explain(
    shared: &Arc<Shared>,
    ask: &Ask,
    offline: bool,
) -> Result<Explanation, UrlError> {
    let url = Url::parse(&ask.url)?;
    let worker = Worker::new(usize::MAX, Arc::clone(shared));
    let view = worker.view();
    let snapshot = &view.snapshot;
    let mut story = Story { snapshot, url: &url, explanation: blank(snapshot, &url, ask) };
    story.explanation.offline = offline;
    let address = ask.client_ip.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let mut peer = Peer::new(SocketAddr::new(address, 0), url.port, usize::MAX);
    if story.arrives(&mut peer) {
        let cx = Cx { worker: &worker, view: &view, peer: &peer };
        story.asks(cx, ask);
    }
    Ok(story.explanation)
}

fn blank(snapshot: &Snapshot, url: &Url, ask: &Ask) -> Explanation {
    Explanation {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: snapshot.generation,
        offline: false,
        notes: Vec::new(),
        request: RequestFacts {
            method: ask.method.as_deref().unwrap_or("GET").to_owned(),
            url: url.to_string(),
            host: ask.host(url),
            target: url.target.clone(),
        },
        port: port_facts(snapshot, url),
        certificate: None,
        listener: None,
        client: None,
        path: None,
        body: None,
        rules: Vec::new(),
        outcome: outcome("forward"),
        group: None,
        sticky: None,
        pick: None,
        to_backend: Vec::new(),
        to_client: Vec::new(),
        failures: Vec::new(),
        replays_left: None,
    }
}

fn outcome(kind: &str) -> Outcome {
    Outcome {
        kind: kind.to_owned(),
        status: None,
        cause: None,
        detail: None,
        location: None,
        hint: None,
    }
}

fn port_facts(snapshot: &Snapshot, url: &Url) -> PortFacts {
    let port = snapshot.port(url.port);
    let has = |port: &&Port| port.hosts.find(url.host.as_str()).is_some();
    let is_here = port.as_ref().is_some_and(has);
    let elsewhere = snapshot.ports.iter().filter(has).map(|port| port.number);
    let on_it = |game: &&Arc<Game>| {
        game.listeners.iter().any(|listener| listener.config.ports.contains(&url.port))
    };
    let games = snapshot.games.iter().filter(on_it);
    PortFacts {
        number: url.port,
        protocol: port.map(|port| scheme(port.protocol).to_owned()),
        games: games.map(|game| game.config.name.to_string()).collect(),
        host_is_on: if is_here { Vec::new() } else { elsewhere.collect() },
    }
}

fn scheme(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Https => "https",
    }
}

/// An explanation as far as it has come.
struct Story<'a> {
    snapshot: &'a Snapshot,
    url: &'a Url,
    explanation: Explanation,
}

impl Story<'_> {
    /// The connection and its handshake. False: it ends there.
    fn arrives(&mut self, peer: &mut Peer) -> bool {
        let url = self.url;
        let Some(port) = self.snapshot.port(url.port) else {
            let hint = self.other_port();
            self.explanation.outcome = Outcome {
                detail: Some(format!("nothing listens on port {}", url.port)),
                hint,
                ..outcome("no_connection")
            };
            return false;
        };
        let is_tls = port.protocol == Protocol::Https;
        if is_tls != url.https {
            let (speaks, not) =
                if is_tls { ("HTTPS", "plain HTTP") } else { ("plain HTTP", "HTTPS") };
            let detail = format!("port {} speaks {speaks}, not {not}", url.port);
            let right = Url { https: is_tls, ..url.clone() };
            self.explanation.outcome = Outcome {
                status: is_tls.then_some(400),
                detail: Some(detail),
                hint: Some(format!(
                    "{}://{}:{}{}",
                    scheme(port.protocol),
                    right.host,
                    right.port,
                    right.target
                )),
                ..outcome(if is_tls { "refuse" } else { "no_handshake" })
            };
            return false;
        }
        if !url.https {
            return true;
        }
        let name = url.tls_name();
        let Some((listener, identity)) =
            greeter(port, name).and_then(|found| Some((found, found.identity.clone()?)))
        else {
            self.explanation.outcome = Outcome {
                detail: Some(format!(
                    "TLS alert unrecognized_name: no listener of port {} has {}, and none is the default",
                    url.port, url.host
                )),
                hint: self.other_port().or_else(|| self.nearest_domain(port, &url.host)),
                ..outcome("no_handshake")
            };
            return false;
        };
        self.explanation.certificate = self.certificate(listener, name);
        let name = name.map(|name| name.as_str().into());
        // What only a handshake settles decides nothing.
        peer.tls = Some(TlsFacts { identity, version: "", cipher: "", name });
        true
    }

    /// The request itself.
    fn asks(&mut self, cx: Cx<'_>, ask: &Ask) {
        let limits = &cx.view.snapshot.process.limits;
        let limits = HeadLimits {
            target: limits.uri,
            fields_size: limits.header_size,
            fields: limits.headers,
        };
        let mut bytes = Buffer::none();
        bytes.push(&ask.head(self.url));
        let mut fields = FieldList::take();
        let head: RequestHead = match parse_request(bytes.filled(), &limits, fields.as_mut()) {
            Ok(head) => head,
            Err(error) => return self.refuse(&head_failure(error), None),
        };
        let request = Request::new(bytes, fields, head);
        let (port, listener) = match route::listener(cx, &request) {
            Ok(found) => found,
            Err(failure) => {
                let host = request.authority().and_then(HostName::parse);
                let port = self.snapshot.port(self.url.port);
                let hint = host.zip(port).and_then(|(host, port)| self.nearest_domain(port, &host));
                return self.refuse(&failure, hint);
            }
        };
        self.explanation.listener = Some(self.listener(listener, &request));
        let routed = route::rule(cx, &request, port, listener);
        let (client, winner) = match &routed {
            Ok(route) => (route.client, Some(route.rule)),
            Err((client, _)) => (*client, None),
        };
        self.explanation.client = Some(client_facts(cx, listener, client));
        // A request that nobody may make is compared with no rule.
        let may = listener.config.access.permits(client)
            && !matches!(request.head.method, Method::Connect | Method::Trace);
        if may {
            self.rules(listener, &request, winner);
        }
        match routed {
            Ok(route) => self.acts(cx, &request, &route),
            Err((_, failure)) => {
                let hint = self.rule_hint();
                self.refuse(&failure, hint);
            }
        }
    }

    /// What the rule does.
    fn acts(&mut self, cx: Cx<'_>, request: &Request, route: &Route<'_>) {
        let answer = match &route.rule.config.action {
            Action::Forward(_) => None,
            Action::Redirect(redirect) => {
                Some(("redirect", respond::redirect(request, route, redirect)))
            }
            Action::Respond { status, body } => {
                Some(("respond", respond::fixed(route, *status, body)))
            }
        };
        let Some((kind, answer)) = answer else {
            if let Some(group) = route.rule.group.as_deref() {
                let place = self.place(route.listener, group.config.line);
                group::explain(&mut self.explanation, cx, request, route, group, place);
            }
            return;
        };
        let said = fields::of_answer(cx, &answer, request);
        let location = said.iter().find(|field| field.name == "Location");
        self.explanation.outcome = Outcome {
            status: Some(answer.status),
            location: location.map(|field| field.value.clone()),
            ..outcome(kind)
        };
        self.explanation.to_client = said;
    }

    fn refuse(&mut self, failure: &Failure, hint: Option<String>) {
        self.explanation.outcome = refusal(failure);
        self.explanation.outcome.hint = hint;
    }

    fn certificate(
        &self,
        listener: &Listener,
        name: Option<&HostName>,
    ) -> Option<CertificateFacts> {
        let tls = listener.config.tls.as_ref()?;
        let covers = |domain: &&Domain| certificate_covers(&tls.certificate, domain);
        let host = Domain::Exact(self.url.host.as_str().into());
        let end = certificate_end(&tls.certificate);
        Some(CertificateFacts {
            asked_name: name.map(ToString::to_string),
            game: listener.game.to_string(),
            place: self.place(listener, listener.config.line),
            names: listener.config.domains.iter().filter(covers).map(ToString::to_string).collect(),
            covers_host: certificate_covers(&tls.certificate, &host),
            expires: end.map(|end| end.date().to_string()),
            days: end.map(|end| (end - OffsetDateTime::now_utc()).whole_days()),
            asks_for_one: tls.client_ca.is_some(),
        })
    }

    fn listener(&self, listener: &Listener, request: &Request) -> ListenerFacts {
        let host = request.authority().and_then(HostName::parse);
        let domain = host.as_ref().and_then(|host| listener.config.domain_of(host.as_str()));
        let matched = match domain {
            None => "default",
            Some(Domain::Exact(_)) => "exact",
            Some(Domain::Wildcard(_)) => "wildcard",
        };
        ListenerFacts {
            game: listener.game.to_string(),
            place: self.place(listener, listener.config.line),
            domains: listener.config.domains.iter().map(ToString::to_string).collect(),
            matched: matched.to_owned(),
            domain: domain.map(ToString::to_string),
        }
    }

    /// Every rule, and why it has the request or has it not.
    fn rules(&mut self, listener: &Listener, request: &Request, winner: Option<&Rule>) {
        let mut scratch = Vec::new();
        let Ok(path) = matched_path(request.path_and_query(), &mut scratch) else { return };
        self.explanation.path = Some(String::from_utf8_lossy(path).into_owned());
        let rule = |rule: &Rule| {
            let prefix = &rule.config.path;
            let fits = path.starts_with(prefix.as_bytes());
            let wins = winner.is_some_and(|winner| std::ptr::eq(winner, rule));
            let why = match wins {
                true => "the longest that the path begins with".to_owned(),
                false => lost_because(&rule.config, path, winner.map(|winner| &*winner.config)),
            };
            RuleFacts {
                place: self.place(listener, rule.config.line),
                path: prefix.clone(),
                action: self.action(rule),
                fits,
                wins,
                why,
            }
        };
        let facts = listener.rules.iter().map(rule).collect();
        self.explanation.rules = facts;
    }

    fn action(&self, rule: &Rule) -> String {
        match &rule.config.action {
            Action::Forward(_) => {
                let name = rule.group.as_ref().map(|group| group.config.name.to_string());
                format!("group {}", name.unwrap_or_default())
            }
            Action::Redirect(redirect) => match &redirect.to {
                RedirectTarget::Url(url) => format!("redirect {} {url}", redirect.code),
                RedirectTarget::SameHost { protocol, port } => {
                    format!("redirect {} {}:{port}", redirect.code, scheme(*protocol))
                }
            },
            Action::Respond { status, .. } => format!("respond {status}"),
        }
    }

    /// FILE:LINE of something of the listener's game.
    fn place(&self, listener: &Listener, line: usize) -> String {
        let game = |game: &&Arc<Game>| game.config.name == listener.game;
        let found = self.snapshot.games.iter().find(game);
        let file = found.map(|game| game.config.file.display().to_string()).unwrap_or_default();
        format!("{}:{line}", file.strip_prefix("./").unwrap_or(&file))
    }

    /// Where else the host has a listener.
    fn other_port(&self) -> Option<String> {
        let ports = &self.explanation.port.host_is_on;
        if !ports.is_empty() {
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            return Some(format!("{} has port {}", self.url.host, ports.join(", ")));
        }
        let own = self.snapshot.port(self.url.port).is_some();
        let all = self.snapshot.ports.iter().map(|port| port.number.to_string());
        let all: Vec<String> = all.take(MOST_NAMED).collect();
        (!own).then(|| format!("there are ports {}", all.join(", ")))
    }

    /// The domain that was probably meant.
    fn nearest_domain(&self, port: &Port, host: &HostName) -> Option<String> {
        let domains: Vec<String> =
            port.hosts.iter().map(|(domain, _)| domain.to_string()).collect();
        let near = nearest(host.as_str(), domains.iter().map(String::as_str));
        near.map(|near| format!("did you mean {near}?")).or_else(|| {
            let named: Vec<&str> = domains.iter().take(MOST_NAMED).map(String::as_str).collect();
            (!named.is_empty()).then(|| format!("port {} has {}", port.number, named.join(", ")))
        })
    }

    /// The rule that was probably meant by a path that none takes.
    fn rule_hint(&self) -> Option<String> {
        let path = self.explanation.path.as_deref()?;
        let rules = || self.explanation.rules.iter().map(|rule| rule.path.as_str());
        let near = rules().find(|rule| rule.strip_suffix('/') == Some(path));
        let near = near.or_else(|| nearest(path, rules()))?;
        Some(format!("the nearest rule is {near}"))
    }
}

/// Names that a hint lists.
const MOST_NAMED: usize = 8;

fn client_facts(cx: Cx<'_>, listener: &Listener, client: IpAddr) -> ClientFacts {
    let peer = cx.peer.address.ip();
    ClientFacts {
        peer,
        trusted: listener.config.trusted_proxies.contains(peer),
        address: client,
        access: match listener.config.access.judge(client) {
            Verdict::Open => "open",
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
            Verdict::NotAllowed => "not_allowed",
        }
        .to_owned(),
    }
}

/// An error of lockgate's own.
fn refusal(failure: &Failure) -> Outcome {
    Outcome {
        status: Some(failure.status()),
        cause: Some(failure.cause.name().to_owned()),
        detail: Some(failure.detail.clone()).filter(|detail| !detail.is_empty()),
        ..outcome("refuse")
    }
}
