//! An explanation for people.

use super::plain;
use crate::proxy::document::{
    AfterFailure, BackendFacts, BodyFacts, Candidate, CertificateFacts, ClientFacts, Explanation,
    FieldChange, GroupFacts, ListenerFacts, Outcome, PickFacts, PortFacts, RuleFacts, StickyFacts,
};

/// Rules that do not fit the path are shown up to so many.
const MOST_UNFIT: usize = 12;
/// Columns of their paths, at most.
const WIDEST_PATH: usize = 40;
/// Columns of the labels.
const LABELS: usize = 13;

/// Lines under labels. Whatever is written is escaped here, so that nothing of a
/// URL or a file acts on a terminal, nor makes lines of its own.
struct Page(String);

impl Page {
    fn line(&mut self, label: &str, text: &str) {
        self.0.push_str(&format!("{label:<LABELS$}{}\n", plain(text)));
    }

    /// Several lines, of which the first has the label.
    fn lines<T: AsRef<str>>(&mut self, label: &str, lines: impl IntoIterator<Item = T>) {
        for (at, line) in lines.into_iter().enumerate() {
            self.line(if at == 0 { label } else { "" }, line.as_ref());
        }
    }
}

pub(super) fn page(explanation: &Explanation) -> String {
    let Explanation { request, outcome, .. } = explanation;
    let mut page = Page(String::new());
    page.line("request", &format!("{} {}", request.method, request.url));
    let host = explanation.listener.is_some() || outcome.kind == "refuse";
    if host && !request.url.contains(&format!("://{}/", request.host)) {
        page.line("", &format!("Host: {}", request.host));
    }
    page.lines("result", result(explanation));
    page.line("asked", &asked(explanation));
    page.lines("note", &explanation.notes);
    page.line("port", &port(&explanation.port));
    let shown = explanation.certificate.iter().map(certificate);
    page.lines("certificate", shown);
    page.lines("listener", explanation.listener.iter().map(listener));
    page.lines("client", explanation.client.iter().map(client));
    page.lines("path", &explanation.path);
    page.lines("rules", rules(&explanation.rules));
    page.lines("body", explanation.body.iter().map(body));
    if let Some(group) = &explanation.group {
        page.lines("group", self::group(group, explanation.pick.as_ref()));
    }
    page.lines("cookie", explanation.sticky.iter().map(sticky));
    page.lines("pick", explanation.pick.iter().flat_map(pick));
    page.lines("to backend", explanation.to_backend.iter().map(change));
    page.lines("to client", explanation.to_client.iter().map(change));
    page.lines("if it fails", failures(&explanation.failures));
    let left = explanation.replays_left.filter(|_| !explanation.failures.is_empty());
    page.lines("budget", left.map(|left| format!("{left} requests may be sent again now")));
    page.0
}

fn asked(explanation: &Explanation) -> String {
    match explanation.offline {
        true => "the files: every backend is as at a start".to_owned(),
        false => format!("the running process, generation {}", explanation.generation),
    }
}

fn result(explanation: &Explanation) -> Vec<String> {
    let Outcome { kind, status, cause, detail, location, hint } = &explanation.outcome;
    let status = status.map(|status| format!("{status} ")).unwrap_or_default();
    let cause = cause.clone().unwrap_or_default();
    let location = location.clone().unwrap_or_default();
    let first = match kind.as_str() {
        "forward" => {
            let group = explanation.group.as_ref().map(|group| group.name.as_str());
            let game = explanation.listener.as_ref().map(|listener| listener.game.as_str());
            let to = explanation.pick.as_ref().map(|pick| shares(&pick.candidates));
            let (game, group) = (game.unwrap_or_default(), group.unwrap_or_default());
            format!("forward to {game}/{group}: {}", to.unwrap_or_default())
        }
        "redirect" => format!("redirect {status}to {location}"),
        "respond" => format!("respond {status}"),
        "no_connection" => "no connection".to_owned(),
        "no_handshake" => "no TLS handshake".to_owned(),
        _ => format!("refuse {status}{cause}"),
    };
    let detail = detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    let hint = hint.as_ref().map(|hint| format!("hint: {hint}"));
    std::iter::once(first.trim_end().to_owned() + &detail).chain(hint).collect()
}

fn port(port: &PortFacts) -> String {
    let number = port.number;
    let elsewhere = match &*port.host_is_on {
        [] => String::new(),
        ports => {
            let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
            format!("; the host has a listener on {}", ports.join(", "))
        }
    };
    match &port.protocol {
        None => format!("{number}: nothing listens{elsewhere}"),
        Some(protocol) => {
            let games = port.games.join(", ");
            let shared = if port.games.len() > 1 { "shared by" } else { "of" };
            format!("{number}, {protocol}, {shared} {games}{elsewhere}")
        }
    }
}

fn certificate(certificate: &CertificateFacts) -> String {
    let CertificateFacts { asked_name, game, place, names, expires, days, .. } = certificate;
    let asked = match asked_name {
        Some(name) => format!("for {name}"),
        None => "for no name".to_owned(),
    };
    let covers = match &**names {
        [] => "none of its listener's domains".to_owned(),
        names => names.join(", "),
    };
    let here = if certificate.covers_host { "" } else { " but not this host" };
    let end = match (expires, days) {
        (Some(day), Some(days)) if *days < 0 => format!("; it expired on {day}"),
        (Some(day), Some(days)) => format!("; expires {day}, in {days} days"),
        _ => String::new(),
    };
    let asks = if certificate.asks_for_one { "; the client must show one too" } else { "" };
    format!("{asked}: of {game}, {place}; covers {covers}{here}{end}{asks}")
}

fn listener(listener: &ListenerFacts) -> String {
    let ListenerFacts { game, place, matched, domain, .. } = listener;
    let how = match domain {
        Some(domain) => format!("{domain} ({matched})"),
        None => "it is the port's default".to_owned(),
    };
    format!("{game}, {place}: {how}")
}

fn client(client: &ClientFacts) -> String {
    let ClientFacts { peer, trusted, address, access } = client;
    let from = match (address == peer, trusted) {
        (true, false) => address.to_string(),
        (true, true) => format!("{address}, one of `trusted_proxies`"),
        (false, _) => format!("{address}, by X-Forwarded-For of the trusted {peer}"),
    };
    let verdict = match access.as_str() {
        "open" => "may come in",
        "allowed" => "`allow` lets it in",
        "denied" => "`deny` keeps it out",
        _ => "`allow` does not have it",
    };
    format!("{from}: {verdict}")
}

fn body(body: &BodyFacts) -> String {
    let length = body.length.map(|length| format!("{length} bytes"));
    let most = body.most.map(|most| match body.length {
        Some(length) if length > most => format!("more than the {most} of `max_body`"),
        _ => format!("at most {most} bytes (`max_body`), else 413"),
    });
    length.into_iter().chain(most).collect::<Vec<_>>().join(", ")
}

fn rules(rules: &[RuleFacts]) -> Vec<String> {
    let unfit = rules.iter().filter(|rule| !rule.fits).count();
    let mut shown = 0;
    let is_shown = |rule: &&RuleFacts| {
        shown += usize::from(!rule.fits);
        rule.fits || shown <= MOST_UNFIT
    };
    let rules: Vec<&RuleFacts> = rules.iter().filter(is_shown).collect();
    let columns = rules.iter().map(|rule| rule.path.chars().count()).max().unwrap_or_default();
    let columns = columns.min(WIDEST_PATH);
    let line = |rule: &&RuleFacts| {
        let RuleFacts { place, path, action, why, .. } = rule;
        let mark = if rule.wins { "→" } else { " " };
        format!("{mark} {path:<columns$}  {action}, {place}: {why}")
    };
    let mut lines: Vec<String> = rules.iter().map(line).collect();
    if unfit > MOST_UNFIT {
        let more = unfit - MOST_UNFIT;
        lines.push(format!("  and {more} more that the path does not begin with"));
    }
    lines
}

fn group(group: &GroupFacts, pick: Option<&PickFacts>) -> Vec<String> {
    let GroupFacts { name, place, protocol, balance, hash_key, backends } = group;
    let key = hash_key.as_ref().map(|key| format!(" by {key}")).unwrap_or_default();
    let first = format!("{name}, {place}: {protocol}, balance {balance}{key}");
    let candidates = pick.map(|pick| &*pick.candidates).unwrap_or_default();
    let is_candidate = |name: &str| candidates.iter().any(|one| one.backend == name);
    let lines = backends.iter().map(|one| backend(one, is_candidate(&one.name)));
    std::iter::once(first).chain(lines).collect()
}

fn backend(backend: &BackendFacts, is_candidate: bool) -> String {
    let mut said = vec![format!("weight {}", backend.weight)];
    if let Some(probe) = &backend.probe {
        let seconds = probe.seconds;
        said.push(match probe.up {
            None => "not probed to a verdict yet".to_owned(),
            Some(true) => format!("up for {seconds} s"),
            Some(false) => format!("down for {seconds} s"),
        });
        said.extend(probe.last.as_ref().map(|last| format!("last probe {last}")));
    }
    if let Some(ejected) = &backend.ejected {
        said.push(match ejected.milliseconds {
            0 => format!("ejected ({}), the next request is its trial", ejected.why),
            left => {
                let seconds = left.div_ceil(1000);
                format!("ejected ({}) for {seconds} s more", ejected.why)
            }
        });
    }
    match (backend.load, backend.most) {
        (Some(load), Some(most)) => said.push(format!("{load} of {most} requests")),
        (Some(load), None) => said.push(format!("{load} requests")),
        _ => {}
    }
    if backend.name != backend.address {
        said.push(backend.address.clone());
    }
    if !backend.resolved.is_empty() {
        said.push(format!("resolved to {}", backend.resolved.join(", ")));
    }
    let verdict = match (&backend.why_not, backend.available) {
        (Some(why), _) => format!("takes nobody new: {why}"),
        (None, _) if backend.no_address => {
            "its name has no address: an attempt there fails at once (`dns`)".to_owned()
        }
        (None, true) if backend.backup && !is_candidate => "backup, waits".to_owned(),
        (None, true) if backend.backup => "backup, available".to_owned(),
        (None, true) => "available".to_owned(),
        (None, false) => "takes nobody new".to_owned(),
    };
    format!("  {}  {verdict}; {}", backend.name, said.join(", "))
}

fn sticky(sticky: &StickyFacts) -> String {
    let StickyFacts { mode, cookie, verdict, backend, first, last, left, goes } = sticky;
    let said = match verdict.as_str() {
        "absent" => "the request has none".to_owned(),
        "good" => {
            let names = match backend {
                Some(backend) => format!("good, names {backend}"),
                None => "good, but its backend is gone: bound anew".to_owned(),
            };
            let issued = last.map(|seconds| format!("; issued {seconds} s ago"));
            let first = first.map(|seconds| format!(", first request {seconds} s ago"));
            let left = left.map(|seconds| format!(", expires in {seconds} s"));
            let goes = goes.as_deref().filter(|goes| *goes != "home").map(|goes| match goes {
                "elsewhere" => "; goes elsewhere this once",
                _ => "; bound anew",
            });
            [Some(names), issued, first, left, goes.map(str::to_owned)]
                .into_iter()
                .flatten()
                .collect()
        }
        "shape" => "not of the form lockgate gives out: as if absent".to_owned(),
        "unknown_key" => "signed with a key that is not known: as if absent".to_owned(),
        "forged" => "its signature is not good for this group: as if absent".to_owned(),
        "future" => "it comes from the future: as if absent".to_owned(),
        "expired" => "expired: as if absent".to_owned(),
        other => format!("{other}: as if absent"),
    };
    format!("{cookie} ({mode}): {said}")
}

fn pick(pick: &PickFacts) -> Vec<String> {
    let hashed = pick.hashed.as_ref().filter(|_| !pick.bound);
    let hashed = hashed.map(|value| format!("hashed: {value}"));
    let first = match &*pick.candidates {
        [] => pick.why.clone(),
        candidates => format!("{}: {}", shares(candidates), pick.why),
    };
    std::iter::once(first).chain(hashed).collect()
}

fn shares(candidates: &[Candidate]) -> String {
    let share = |one: &Candidate| match one.share >= 1.0 {
        true => one.backend.clone(),
        false => format!("{} {:.1} %", one.backend, one.share * 100.0),
    };
    candidates.iter().map(share).collect::<Vec<_>>().join(", ")
}

fn change(change: &FieldChange) -> String {
    let FieldChange { set, name, value } = change;
    match (set, value.as_str()) {
        (true, _) => format!("+ {name}: {value}"),
        (false, "") => format!("- {name}"),
        (false, _) => format!("- {name}: {value}"),
    }
}

/// Failures with the same consequence share a line.
fn failures(failures: &[AfterFailure]) -> Vec<String> {
    let consequence = |failure: &AfterFailure| {
        let why = failure.why.trim_start_matches(", ");
        match &*failure.next {
            [] => format!("{}: {why}", failure.status),
            next => {
                let next: Vec<&str> = next.iter().map(|one| one.backend.as_str()).collect();
                let more = if why.is_empty() { String::new() } else { format!(" ({why})") };
                format!("next {}{more}", next.join(" or "))
            }
        }
    };
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for failure in failures {
        let then = consequence(failure);
        match lines.iter_mut().find(|(known, _)| *known == then) {
            Some((_, causes)) => causes.push(&failure.cause),
            None => lines.push((then, vec![&failure.cause])),
        }
    }
    lines.into_iter().map(|(then, causes)| format!("{} → {then}", causes.join(", "))).collect()
}
