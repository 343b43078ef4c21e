//! `[[expect]]`: what a drop-in says that becomes of a URL, run before the file
//! is accepted. Only what the files alone decide can be expected: who answers,
//! by which rule, with what; never which backend.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use super::diagnostic::{Place, shown};
use super::keys::{self, nearest};
use super::model::{Action, Game, Listener, Rule};
use super::notes::Notes;
use super::routing::{NoRoute, lost_because, matched_path};
use super::table::{Item, Table};
use crate::policy::headers::is_field_name;
use crate::policy::route::{HostTable, PathTable, Url};

/// One expectation, as it is compared with the other files.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) url: Url,
    pub(super) span: Range<usize>,
    /// A listener of the same file answers, unless another file's is nearer.
    pub(super) is_own: bool,
}

/// What is expected, and where it stands.
struct Expect<'a> {
    url: Url,
    span: Range<usize>,
    method: &'a str,
    client: Option<IpAddr>,
    group: Option<Item<'a>>,
    status: Option<(u16, Range<usize>)>,
    redirect: Option<Item<'a>>,
    listener: Option<Item<'a>>,
    header: Vec<Item<'a>>,
}

/// The listeners of a file, as requests find them.
struct Tables<'a> {
    hosts: HashMap<u16, HostTable<usize>>,
    listeners: &'a [Arc<Listener>],
    rules: Vec<Option<PathTable<usize>>>,
}

/// What becomes of a request.
enum Fate<'a> {
    Ruled(&'a Rule),
    Refused(NoRoute),
}

/// Reads and runs all expectations of a file that is good up to here.
pub(super) fn check_all(table: &Table<'_>, game: &Game) -> Vec<Expected> {
    let item = table.get("expect");
    let tables = item.map(|item| item.tables(&keys::EXPECT)).unwrap_or_default();
    let expects: Vec<Expect<'_>> = tables.iter().filter_map(read).collect();
    // With a fault in a listener the rest is but its consequence.
    if table.notes.errors() > 0 || expects.is_empty() {
        return Vec::new();
    }
    let own = Tables::of(game);
    let check = |expect: &Expect<'_>| {
        let listener = own.listener(&expect.url);
        if let Some((listener, at)) = listener {
            check(table.notes, game, &own, expect, listener, at);
        }
        Expected { url: expect.url.clone(), span: expect.span.clone(), is_own: listener.is_some() }
    };
    expects.iter().map(check).collect()
}

fn read<'a>(table: &Table<'a>) -> Option<Expect<'a>> {
    let url = table.require("url", "write such as `url = \"https://youxia.com:8030/test/\"`");
    let status = table.get("status");
    let code = status.as_ref().and_then(|item| item.integer(200..=599));
    let client = table.get("client_ip").and_then(|item| {
        let address = item.string()?.parse().ok();
        if address.is_none() {
            item.error("this is not an IP address", "write such as `\"203.0.113.7\"`");
        }
        address
    });
    let method = table.get("method").map_or(Some("GET"), |item| {
        let method = item.string()?;
        let good = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
        if !good {
            item.error(format!("{} is not a method", shown(method)), "write such as `\"POST\"`");
        }
        good.then_some(method)
    });
    let header = table.get("header").and_then(|item| item.entries("write `{ Name = \"value\" }`"));
    for field in header.iter().flatten().filter(|field| !is_field_name(field.name)) {
        let message = format!("{} is not a field name", shown(field.name));
        field.notes.error(&field.key, message, "write letters, digits and `-`, such as `X-Game`");
    }
    if !table.has_any(&["group", "status", "redirect", "listener", "header"]) {
        let hint = "write what is expected: `group`, `status`, `redirect`, `listener` or `header`";
        table.error("this expects nothing", hint);
    }
    let url = url?;
    let parsed = Url::parse(url.string()?);
    if let Err(error) = &parsed {
        url.error(error.to_string(), "write it as a browser would be given it");
    }
    Some(Expect {
        url: parsed.ok()?,
        span: url.span(),
        method: method?,
        client,
        group: table.get("group").filter(|item| item.string().is_some()),
        status: code.and_then(|code| u16::try_from(code).ok()).zip(status.map(|item| item.span())),
        redirect: table.get("redirect").filter(|item| item.string().is_some()),
        listener: table.get("listener").filter(|item| item.string().is_some()),
        header: header.unwrap_or_default(),
    })
}

impl<'a> Tables<'a> {
    fn of(game: &'a Game) -> Tables<'a> {
        let mut hosts: HashMap<u16, HostTable<usize>> = HashMap::new();
        for (at, listener) in game.listeners.iter().enumerate() {
            for port in &listener.ports {
                listener.claim(hosts.entry(*port).or_default(), &at);
            }
        }
        // Paths that stand twice were told already.
        let rules = game.listeners.iter().map(|listener| listener.rule_table().ok()).collect();
        Tables { hosts, listeners: &game.listeners, rules }
    }

    fn listener(&self, url: &Url) -> Option<(&'a Listener, usize)> {
        let at = *self.hosts.get(&url.port)?.resolve(url.host.as_str())?;
        Some((self.listeners.get(at)?, at))
    }

    fn fate(&self, expect: &Expect<'_>, listener: &'a Listener, at: usize) -> Option<Fate<'a>> {
        let table = self.rules.get(at)?.as_ref()?;
        let serves = !matches!(expect.method, "CONNECT" | "TRACE");
        match listener.route(table, expect.client, serves, expect.url.target.as_bytes()) {
            Ok(rule) => Some(Fate::Ruled(listener.rules.get(rule)?)),
            Err(why) => Some(Fate::Refused(why)),
        }
    }
}

/// Compares what is expected with what becomes of it.
fn check(
    notes: &Notes,
    game: &Game,
    own: &Tables<'_>,
    expect: &Expect<'_>,
    listener: &Listener,
    at: usize,
) {
    let url = &expect.url;
    if url.https != listener.tls.is_some() {
        let speaks = if url.https { "plain HTTP" } else { "HTTPS" };
        let message = format!("port {} of this file speaks {speaks}", url.port);
        let scheme = if url.https { "http" } else { "https" };
        notes.error(&expect.span, message, format!("write `{scheme}://`, or another port"));
        return;
    }
    let Some(fate) = own.fate(expect, listener, at) else { return };
    let teller = Teller { notes, game, expect, listener, fate };
    teller.listener();
    teller.group();
    teller.status();
    teller.redirect();
    teller.headers();
}

/// Says what is other than expected.
struct Teller<'a, 'e> {
    notes: &'a Notes,
    game: &'a Game,
    expect: &'e Expect<'e>,
    listener: &'a Listener,
    fate: Fate<'a>,
}

impl Teller<'_, '_> {
    fn listener(&self) {
        let Some(item) = &self.expect.listener else { return };
        let expected = item.string().unwrap_or_default();
        let host = self.expect.url.host.as_str();
        let found = self.listener.domain_of(host);
        let found = found.map_or_else(|| "default".to_owned(), ToString::to_string);
        if !found.eq_ignore_ascii_case(expected) {
            let line = self.listener.line;
            let hint = "a listener is named by the domain that the host is found by, or `default`";
            self.tell(
                &item.span(),
                format!("expected listener {}, but {host} is found by `{found}`", shown(expected)),
                format!("it is the listener on line {line}; {hint}"),
                line,
            );
        }
    }

    fn group(&self) {
        let Some(item) = &self.expect.group else { return };
        let expected = item.string().unwrap_or_default();
        let names = || self.game.groups.iter().map(|group| &*group.name);
        let Some(wanted) = names().position(|name| name == expected) else {
            let hint = match nearest(expected, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name a group of this file".to_owned(),
            };
            item.error(format!("there is no group {} in this file", shown(expected)), hint);
            return;
        };
        let goes = |rule: &Rule| rule.action == Action::Forward(wanted);
        if matches!(self.fate, Fate::Ruled(rule) if goes(rule)) {
            return;
        }
        let mut scratch = Vec::new();
        let target = self.expect.url.target.as_bytes();
        let path = matched_path(target, &mut scratch).unwrap_or_default();
        let winner = self.winner();
        // Of several the one that nearly takes it.
        let rules = self.listener.rules.iter().filter(|rule| goes(rule));
        let near = rules.max_by_key(|rule| alike(rule.path.as_bytes(), path));
        let hint = match near {
            Some(rule) => format!(
                "{}; the rule {} on line {} leads to `{expected}`, but {}",
                self.by(),
                shown(&rule.path),
                rule.line,
                lost_because(rule, path, winner)
            ),
            None => format!(
                "{}; no rule of the listener on line {} leads to `{expected}`",
                self.by(),
                self.listener.line
            ),
        };
        let message = format!("expected group `{expected}`, but {}", self.found());
        self.tell(&item.span(), message, hint, self.line());
    }

    fn status(&self) {
        let Some((expected, span)) = &self.expect.status else { return };
        if self.answers() != Some(*expected) {
            let message = format!("expected status {expected}, but {}", self.found());
            self.tell(span, message, self.by(), self.line());
        }
    }

    fn redirect(&self) {
        let Some(item) = &self.expect.redirect else { return };
        let expected = item.string().unwrap_or_default();
        let leads = match &self.fate {
            Fate::Ruled(Rule { action: Action::Redirect(redirect), .. }) => {
                let url = &self.expect.url;
                let to = redirect.location(url.authority().as_bytes(), url.target.as_bytes());
                to == expected.as_bytes()
            }
            _ => false,
        };
        if !leads {
            let message =
                format!("expected a redirect to {}, but {}", shown(expected), self.found());
            self.tell(&item.span(), message, self.by(), self.line());
        }
    }

    fn headers(&self) {
        for item in &self.expect.header {
            let Some(expected) = item.string() else { continue };
            let edits = self.winner().map(|rule| match rule.action {
                Action::Forward(_) => &rule.request_headers.set,
                _ => &rule.response_headers.set,
            });
            let is = |(name, _): &&(String, String)| name.eq_ignore_ascii_case(item.name);
            let found = edits.and_then(|set| set.iter().find(is));
            let found = match found {
                Some((_, value)) if value == expected => continue,
                Some((_, value)) => format!("the rule sets {}", shown(value)),
                None => format!("no rule sets it: {}", self.found()),
            };
            let message =
                format!("expected {} in field {}, but {found}", shown(expected), shown(item.name));
            self.tell(&item.span(), message, self.by(), self.line());
        }
    }

    fn winner(&self) -> Option<&Rule> {
        match &self.fate {
            Fate::Ruled(rule) => Some(rule),
            Fate::Refused(_) => None,
        }
    }

    /// The line that decides.
    fn line(&self) -> usize {
        self.winner().map_or(self.listener.line, |rule| rule.line)
    }

    /// The status of lockgate's own answer.
    fn answers(&self) -> Option<u16> {
        match &self.fate {
            Fate::Ruled(rule) => match &rule.action {
                Action::Forward(_) => None,
                Action::Redirect(redirect) => Some(redirect.code),
                Action::Respond { status, .. } => Some(*status),
            },
            Fate::Refused(why) => Some(why.status()),
        }
    }

    /// What becomes of it, in words.
    fn found(&self) -> String {
        let target = shown(&self.expect.url.target);
        match &self.fate {
            Fate::Refused(why) => format!("{target} is answered with {}: {why}", why.status()),
            Fate::Ruled(rule) => match &rule.action {
                Action::Forward(at) => {
                    let group = self.game.groups.get(*at).map(|group| group.name.to_string());
                    format!("{target} goes to group `{}`", group.unwrap_or_default())
                }
                Action::Redirect(redirect) => {
                    let url = &self.expect.url;
                    let to = redirect.location(url.authority().as_bytes(), url.target.as_bytes());
                    let to = String::from_utf8_lossy(&to).into_owned();
                    format!("{target} is redirected ({}) to {}", redirect.code, shown(&to))
                }
                Action::Respond { status, .. } => format!("{target} is answered with {status}"),
            },
        }
    }

    /// Which rule decides.
    fn by(&self) -> String {
        match self.winner() {
            Some(rule) => format!("by the rule {} on line {}", shown(&rule.path), rule.line),
            None => format!("by the listener on line {}", self.listener.line),
        }
    }

    fn tell(&self, span: &Range<usize>, message: String, hint: String, line: usize) {
        let file = self.notes.source.file.clone();
        self.notes.conflict(span, message, hint, Place { file, line });
    }
}

/// How many bytes two paths have in common at their beginning.
fn alike(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}
