//! `[[listener.rule]]`, and what a rule and a listener both can say: where a
//! request goes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::ops::Range;

use super::diagnostic::shown;
use super::keys::{self, nearest};
use super::model::{Action, HeaderEdits, Protocol, Redirect, RedirectTarget, RetryKeys, Rule};
use super::retry;
use super::settings::{self, RESPONSE_TIMEOUT};
use super::table::{Item, Table};
use crate::policy::headers::{is_field_name, is_field_value, may_edit};
use crate::policy::route::normalize_path;

/// Bytes of the longest path of a rule.
const LONGEST_PATH: usize = 4096;
/// Bytes of the longest body of a fixed response.
const LONGEST_BODY: usize = 64 << 10;

/// The names of a file's groups, sorted, which is their order in the model.
#[derive(Debug, Default)]
pub(super) struct GroupNames {
    names: Vec<String>,
    used: RefCell<BTreeSet<usize>>,
}

impl GroupNames {
    /// From sorted names.
    pub(super) fn new(names: Vec<String>) -> Self {
        GroupNames { names, used: RefCell::default() }
    }

    /// The place of the group that the value names.
    fn find(&self, item: &Item<'_>) -> Option<usize> {
        let name = item.string()?;
        let Ok(at) = self.names.binary_search_by(|known| known.as_str().cmp(name)) else {
            let names = self.names.iter().map(String::as_str);
            let near = if item.notes.is_full() { None } else { nearest(name, names) };
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add a table {}", shown(&format!("[group.{name}]"))),
            };
            item.error(format!("there is no group {} in this file", shown(name)), hint);
            return None;
        };
        self.used.borrow_mut().insert(at);
        Some(at)
    }

    /// Whether a rule forwards to the group at this place.
    pub(super) fn is_used(&self, at: usize) -> bool {
        self.used.borrow().contains(&at)
    }
}

/// What the rules of one listener need to know of it.
#[derive(Debug)]
pub(super) struct Around<'a> {
    pub(super) groups: &'a GroupNames,
    pub(super) protocol: Protocol,
    pub(super) ports: &'a [u16],
}

/// Reads the rules of a listener, its own `group` or `redirect` the last.
pub(super) fn read_all(listener: &Table<'_>, around: &Around<'_>) -> Vec<Rule> {
    let item = listener.get("rule");
    let tables = item.map(|item| item.tables(&keys::RULE)).unwrap_or_default();
    let mut rules = Vec::new();
    let mut paths: HashMap<String, Range<usize>> = HashMap::new();
    for table in tables {
        let path = table.get("path").map_or(Some("/"), |item| path(&item));
        let written = table.get("path").map_or(table.span.clone(), |item| item.span());
        if let Some(path) = path
            && let Some(first) = paths.insert(path.to_owned(), written.clone())
        {
            let place = table.notes.source.place(&first);
            let message =
                format!("{} stands in two rules, first on line {}", shown(path), place.line);
            table.notes.conflict(&written, message, "give each rule its own `path`", place);
        }
        rules.extend(rule(&table, path.unwrap_or("/"), around));
    }
    if let Some((action, key)) = listener_action(listener, around) {
        let source = &listener.notes.source;
        match paths.get("/") {
            None => rules.push(plain_rule(source.line(key.start), action)),
            Some(first) => {
                let line = source.line(first.start);
                let message =
                    format!("never used: the rule with `/` on line {line} takes every path");
                listener.notes.warning(&key, message, "remove it, or that rule");
            }
        }
    }
    if !listener.has_any(&["group", "redirect", "rule"]) {
        listener
            .error("this listener does nothing", "write `group = \"NAME\"`, `redirect` or a rule");
    }
    rules
}

fn plain_rule(line: usize, action: Action) -> Rule {
    Rule {
        line,
        path: "/".to_owned(),
        action,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        response_timeout: None,
        tunnel_timeout: None,
        max_body: None,
        retry: RetryKeys::default(),
    }
}

/// The listener's own `group` or `redirect`, and where its key stands.
fn listener_action(table: &Table<'_>, around: &Around<'_>) -> Option<(Action, Range<usize>)> {
    let (group, redirect) = (table.get("group"), table.get("redirect"));
    if let (Some(_), Some(redirect)) = (&group, &redirect) {
        redirect.misplaced(
            "a listener has `group` or `redirect`, not both",
            "remove one, or move it into a `[[listener.rule]]` with a `path`",
        );
    }
    let code = redirect_code(table);
    let redirect = redirect.and_then(|item| Some((self::redirect(&item, code, around)?, item.key)));
    let group =
        group.and_then(|item| Some((Action::Forward(around.groups.find(&item)?), item.key)));
    group.or(redirect)
}

fn rule(table: &Table<'_>, path: &str, around: &Around<'_>) -> Option<Rule> {
    let action = rule_action(table, around);
    let forwards = table.has_any(&["group"]);
    let (request_headers, response_headers) = header_edits(table, forwards);
    let response_timeout = table.duration("response_timeout", RESPONSE_TIMEOUT);
    let tunnel_timeout = table.duration("tunnel_timeout", RESPONSE_TIMEOUT);
    for key in ["response_timeout", "tunnel_timeout", "retry"] {
        if let Some(item) = table.get(key)
            && !forwards
        {
            let hint = "write `group` beside it, or remove it";
            item.misplaced(format!("`{key}` is used only with `group`"), hint);
        }
    }
    let max_body = settings::max_body(table);
    let retry_keys = table.get("retry").map(|item| retry::read(&item)).unwrap_or_default();
    Some(Rule {
        line: table.notes.source.line(table.span.start),
        path: path.to_owned(),
        action: action?,
        request_headers,
        response_headers,
        response_timeout,
        tunnel_timeout,
        max_body,
        retry: retry_keys,
    })
}

fn rule_action(table: &Table<'_>, around: &Around<'_>) -> Option<Action> {
    let hint = "write one of `group`, `redirect` and `respond`";
    let mut written = ["group", "redirect", "respond"].into_iter().filter_map(|key| table.get(key));
    let Some(first) = written.next() else {
        if !table.has_any(&["group", "redirect", "respond"]) {
            table.error("this rule does nothing", hint);
        }
        return None;
    };
    for more in written {
        let message = format!("a rule with `{}` has no `{}`", first.name, more.name);
        more.misplaced(message, hint);
    }
    let code = redirect_code(table);
    let group = table.get("group").and_then(|item| around.groups.find(&item));
    let redirect = table.get("redirect").and_then(|item| redirect(&item, code, around));
    let respond = table.get("respond").and_then(|item| respond(&item));
    group.map(Action::Forward).or(redirect).or(respond)
}

/// The path of a rule: rules are matched on the normalised path of a request,
/// so one that normalisation would change could never match.
fn path<'a>(item: &Item<'a>) -> Option<&'a str> {
    let text = item.string()?;
    if !text.starts_with('/') {
        let hint = format!("write {}", shown(&format!("\"/{text}\"")));
        item.error(format!("path {} does not start with `/`", shown(text)), hint);
        return None;
    }
    if text.len() > LONGEST_PATH {
        item.error(
            format!("this path has {} bytes", text.len()),
            format!("write at most {LONGEST_PATH}"),
        );
        return None;
    }
    if let Some(odd) = text.chars().find(|c| matches!(c, '?' | '#')) {
        let hint = "remove it and what follows: a rule matches the path alone";
        item.error(format!("path {} has a `{odd}`", shown(text)), hint);
        return None;
    }
    let encoded = encode(text);
    let mut scratch = Vec::new();
    match normalize_path(encoded.as_bytes(), &mut scratch) {
        Ok(normal) if normal == text.as_bytes() => Some(text),
        Ok(normal) => {
            let normal = String::from_utf8_lossy(normal);
            let message = format!(
                "path {} is never matched: requests are compared in normal form",
                shown(text)
            );
            item.error(message, format!("write {}", shown(&format!("\"{normal}\""))));
            None
        }
        Err(error) => {
            item.error(
                format!("path {}: {error}", shown(text)),
                "write it as a browser would send it",
            );
            None
        }
    }
}

/// What a request can carry only escaped, escaped.
fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                encoded.push_str(&format!("%{byte:02X}"));
            }
            byte if byte.is_ascii_graphic() => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// `redirect_code`, which stands only beside `redirect`.
fn redirect_code(table: &Table<'_>) -> u16 {
    const DEFAULT: u16 = 301;
    let Some(item) = table.get("redirect_code") else {
        return DEFAULT;
    };
    if !table.has_any(&["redirect"]) {
        let hint = "write `redirect` beside it, or remove it";
        item.misplaced("`redirect_code` is used only with `redirect`", hint);
    }
    let code = item.integer(0..=999).and_then(|code| u16::try_from(code).ok());
    match code {
        Some(code @ (301 | 302 | 303 | 307 | 308)) => code,
        Some(other) => {
            let hint = "write 301, 302, 303, 307 or 308";
            item.error(format!("`redirect_code` cannot be `{other}`"), hint);
            DEFAULT
        }
        None => DEFAULT,
    }
}

fn redirect(item: &Item<'_>, code: u16, around: &Around<'_>) -> Option<Action> {
    let text = item.string()?;
    let hint = "write `\"https:8030\"` for the same address on that port, or a whole URL";
    let scheme = text.split_once(':').and_then(|(scheme, rest)| match scheme {
        "http" => Some((Protocol::Http, rest)),
        "https" => Some((Protocol::Https, rest)),
        _ => None,
    });
    let Some((protocol, rest)) = scheme else {
        item.error(format!("cannot redirect to {}", shown(text)), hint);
        return None;
    };
    if let Some(location) = rest.strip_prefix("//") {
        let host = location.split(['/', '?', '#']).next().unwrap_or_default();
        if host.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let hint = "write a host after `//`, and what is not ASCII or a space as `%XX`";
            item.error(format!("{} is not a URL", shown(text)), hint);
            return None;
        }
        let to = RedirectTarget::Url(text.to_owned());
        return Some(Action::Redirect(Redirect { code, to }));
    }
    let digits = rest.bytes().all(|byte| byte.is_ascii_digit());
    let Some(port) = rest.parse::<u16>().ok().filter(|port| digits && *port > 0) else {
        item.error(format!("cannot redirect to {}", shown(text)), hint);
        return None;
    };
    if protocol == around.protocol && around.ports.contains(&port) {
        item.error(
            format!("{} redirects to this listener itself, for ever", shown(text)),
            "write another port or scheme, or a whole URL",
        );
        return None;
    }
    let to = RedirectTarget::SameHost { protocol, port };
    Some(Action::Redirect(Redirect { code, to }))
}

fn respond(item: &Item<'_>) -> Option<Action> {
    let table = item.table(&keys::RESPOND)?;
    let status = table.require("status", "write such as `status = 404`");
    let status = status.and_then(|item| item.integer(200..=599));
    let body = table.get("body");
    let text = body.as_ref().and_then(Item::string).unwrap_or_default();
    if let Some(body) = &body {
        if text.len() > LONGEST_BODY {
            let hint = "let a backend answer with it";
            body.error(format!("`body` has {} bytes, more than {LONGEST_BODY}", text.len()), hint);
        }
        if matches!(status, Some(204 | 304)) && !text.is_empty() {
            let hint = "remove `body`, or write another `status`";
            body.misplaced("a response with status 204 or 304 has no body", hint);
        }
    }
    let status = u16::try_from(status?).ok()?;
    Some(Action::Respond { status, body: text.to_owned() })
}

/// `set_headers` and `remove_headers`: for the request, for the response.
fn header_edits(table: &Table<'_>, forwards: bool) -> (HeaderEdits, HeaderEdits) {
    let section = |key| table.get(key).and_then(|item| item.table(&keys::DIRECTIONS));
    let (set, remove) = (section("set_headers"), section("remove_headers"));
    let edits = |direction| {
        let set = set.as_ref().and_then(|table| table.get(direction));
        let remove = remove.as_ref().and_then(|table| table.get(direction));
        if direction == "request"
            && !forwards
            && let Some(item) = set.as_ref().or(remove.as_ref())
        {
            let hint = "remove it, or write `group` in this rule";
            item.misplaced("this rule forwards no request whose fields could be changed", hint);
        }
        direction_edits(set, remove)
    };
    (edits("request"), edits("response"))
}

fn direction_edits(set: Option<Item<'_>>, remove: Option<Item<'_>>) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    let mut seen: HashMap<String, Range<usize>> = HashMap::new();
    let mut once = |item: &Item<'_>, name: &str, span: Range<usize>| {
        if let Some(first) = seen.insert(name.to_ascii_lowercase(), span.clone()) {
            let place = item.notes.source.place(&first);
            let message = format!("field {} stands here twice", shown(name));
            item.notes.conflict(&span, message, "say once what becomes of it", place);
        }
    };
    let entries = set.and_then(|item| item.entries("write `{ \"X-Name\" = \"value\" }`"));
    for item in entries.unwrap_or_default() {
        let editable = check_field(&item, item.name, &item.key);
        once(&item, item.name, item.key.clone());
        let Some(value) = item.string() else {
            continue;
        };
        if !is_field_value(value) {
            let hint = "no control characters, no blanks at either end; to drop the field use `remove_headers`";
            item.error(format!("field {} cannot have this value", shown(item.name)), hint);
        } else if editable {
            edits.set.push((item.name.to_owned(), value.to_owned()));
        }
    }
    let names = remove.and_then(|item| item.list());
    for item in names.unwrap_or_default() {
        let Some(name) = item.string() else {
            continue;
        };
        once(&item, name, item.span());
        if check_field(&item, name, &item.span()) {
            edits.remove.push(name.to_ascii_lowercase());
        }
    }
    edits
}

fn check_field(item: &Item<'_>, name: &str, span: &Range<usize>) -> bool {
    if !is_field_name(name) {
        let hint = "write letters, digits and `-`, such as `X-Game`";
        item.notes.error(span, format!("{} is not a field name", shown(name)), hint);
        return false;
    }
    if !may_edit(name) {
        item.notes.error(
            span,
            format!("field {} cannot be changed: lockgate answers for it", shown(name)),
            "leave out Host, framing, connection and forwarding fields; `forwarded` chooses among the last",
        );
        return false;
    }
    true
}
