//! `[group.NAME.sticky]`: the cookie that binds a client to its backend, and
//! what browsers would not do with it.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use super::diagnostic::shown;
use super::keys;
use super::listener::Claims;
use super::model::{Action, CookieAttributes, Listener, Protocol, SameSite, Sticky, StickyMode};
use super::notes::Notes;
use super::settings::unknown_name;
use super::table::{Item, Table};
use crate::policy::headers::is_field_name;
use crate::policy::route::Domain;
use crate::policy::sticky::{Life, Seconds};

/// Characters of the longest cookie name.
pub(super) const LONGEST_NAME: usize = 200;
/// Browsers ignore an attribute that is longer.
const LONGEST_PATH: usize = 1024;
/// What CLB and nginx call theirs, and those who come from there expect.
const DEFAULT_NAME: &str = "SERVERID";

const DAY: u64 = 24 * 3600;
const IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * DAY);
const MAX_LIFE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3650 * DAY);

/// Keys that say something of our own cookie.
const OF_INSERT: [&str; 8] =
    ["idle", "max_life", "domain", "path", "secure", "http_only", "same_site", "partitioned"];

/// What a group says of its cookie, and where.
#[derive(Debug)]
pub(super) struct StickyPlace {
    /// The group's name.
    pub(super) group: Arc<str>,
    pub(super) sticky: Sticky,
    /// The cookie's name, else the header of the table.
    pub(super) cookie: Range<usize>,
    domain: Range<usize>,
    secure: Range<usize>,
    same_site: Range<usize>,
}

impl StickyPlace {
    pub(super) fn inserts(&self) -> bool {
        matches!(self.sticky.mode, StickyMode::Insert { .. })
    }

    /// `Domain` of an inserted cookie.
    pub(super) fn domain(&self) -> Option<&str> {
        match &self.sticky.mode {
            StickyMode::Insert { attributes, .. } => attributes.domain.as_deref(),
            StickyMode::Rewrite => None,
        }
    }
}

/// Reads the table. `None` when it has a fault for which it cannot be compared
/// with others.
pub(super) fn read(item: &Item<'_>, group: &str) -> Option<StickyPlace> {
    let table = item.table(&keys::STICKY)?;
    let hint = "write `mode = \"insert\"` for a cookie of lockgate's own, or `mode = \"rewrite\"` for one that the application sets";
    let mode = table.require("mode", hint);
    let inserts = mode.and_then(|item| match item.string()? {
        "insert" => Some(true),
        "rewrite" => Some(false),
        other => {
            unknown_name(&item, other, &["insert", "rewrite"]);
            None
        }
    });
    let name = table.get("cookie").and_then(|item| cookie_name(&item));
    let span = |key| table.get(key).map_or(table.span.clone(), |item| item.span());
    let place = |cookie, mode| StickyPlace {
        group: group.into(),
        sticky: Sticky { cookie, mode },
        cookie: span("cookie"),
        domain: span("domain"),
        secure: span("secure"),
        same_site: span("same_site"),
    };
    if inserts == Some(false) {
        check_rewrite(&table);
        return Some(place(name?, StickyMode::Rewrite));
    }
    let life = life(&table);
    let attributes = attributes(&table);
    // Where the name is wrong nothing more is to say of it.
    let name = if table.get("cookie").is_some() { name? } else { DEFAULT_NAME.to_owned() };
    // With a mode that cannot be read it is not known whose cookie it is.
    inserts?;
    check_prefix(&table, &name, &attributes);
    Some(place(name, StickyMode::Insert { life, attributes }))
}

fn check_rewrite(table: &Table<'_>) {
    if !table.has_any(&["cookie"]) {
        table.error(
            "`mode = \"rewrite\"` needs `cookie`",
            "write the name of the application's session cookie, such as `cookie = \"SESSION\"`",
        );
    }
    for key in OF_INSERT {
        if let Some(item) = table.get(key) {
            let message = format!("`{key}` is used only with `mode = \"insert\"`");
            item.misplaced(message, "remove it: the application says this of its own cookie");
        }
    }
}

/// A token of RFC 6265, which no server takes for anything else.
fn cookie_name(item: &Item<'_>) -> Option<String> {
    let name = item.string()?;
    let length = name.chars().count();
    if !(1..=LONGEST_NAME).contains(&length) {
        let message =
            format!("a cookie's name has 1 to {LONGEST_NAME} characters, this one {length}");
        item.error(message, "write a short name, such as `\"SERVERID\"`");
        return None;
    }
    if !is_field_name(name) {
        let is_odd = |c: &char| !is_field_name(c.encode_utf8(&mut [0; 4]));
        let odd: String = name.chars().find(is_odd).into_iter().collect();
        let message = format!("{} has {}, which no cookie's name has", shown(name), shown(&odd));
        item.error(message, "write letters, digits, `-`, `_` and `.`");
        return None;
    }
    if name.starts_with('$') {
        let message = format!("{} begins with `$`", shown(name));
        let hint =
            "write a name without it: some servers take such a one for an attribute (RFC 2965)";
        item.error(message, hint);
        return None;
    }
    Some(name.to_owned())
}

fn life(table: &Table<'_>) -> Life {
    let idle = table.get("idle").and_then(|item| seconds(&item, &IDLE)).unwrap_or(3600);
    let item = table.get("max_life");
    let max_life = item.as_ref().and_then(|item| seconds(item, &MAX_LIFE));
    if let (Some(item), Some(most)) = (&item, max_life)
        && most < idle
    {
        item.error(
            "`max_life` is shorter than `idle`",
            "write one that is longer, or a shorter `idle` too",
        );
    }
    Life { idle, max_life }
}

/// The cookie counts in seconds.
fn seconds(item: &Item<'_>, range: &RangeInclusive<Duration>) -> Option<Seconds> {
    let duration = item.duration(range)?;
    if duration.subsec_nanos() > 0 {
        let message = format!("`{}` counts whole seconds", item.name);
        item.error(message, "leave out what is less than a second");
    }
    Seconds::try_from(duration.as_secs()).ok()
}

fn attributes(table: &Table<'_>) -> CookieAttributes {
    let same_site = table.get("same_site").and_then(|item| match item.string()? {
        "strict" => Some(SameSite::Strict),
        "lax" => Some(SameSite::Lax),
        "none" => Some(SameSite::None),
        other => {
            unknown_name(&item, other, &["strict", "lax", "none"]);
            None
        }
    });
    let secure = table.boolean("secure");
    let partitioned = table.boolean("partitioned").unwrap_or_default();
    if secure == Some(false) {
        let hint = "remove `secure = false`, or this";
        if same_site == Some(SameSite::None)
            && let Some(item) = table.get("same_site")
        {
            item.error("browsers refuse `same_site = \"none\"` without `Secure`", hint);
        }
        if partitioned && let Some(item) = table.get("partitioned") {
            item.error("browsers refuse `partitioned` without `Secure`", hint);
        }
    }
    CookieAttributes {
        domain: table.get("domain").and_then(|item| domain(&item)),
        path: table.get("path").and_then(|item| path(&item)).unwrap_or("/").to_owned(),
        secure,
        http_only: table.boolean("http_only").unwrap_or(true),
        same_site,
        partitioned,
    }
}

/// `Domain`: the cookie goes to this host and all below it. A dot before it
/// means nothing to browsers (RFC 6265 5.2.3).
fn domain(item: &Item<'_>) -> Option<String> {
    let text = item.string()?;
    let problem = match Domain::parse(text.strip_prefix('.').unwrap_or(text)) {
        Ok(Domain::Exact(name)) if name.starts_with('[') || ends_with_number(&name) => {
            "is an address, and only names have hosts below them".to_owned()
        }
        Ok(Domain::Exact(name)) if !name.contains('.') => {
            "is a whole top-level domain, which browsers refuse".to_owned()
        }
        Ok(Domain::Exact(name)) => return Some(name.into_string()),
        Ok(Domain::Wildcard(_)) => "has a `*`: all names below are meant without it".to_owned(),
        Err(error) => format!("is no domain: {error}"),
    };
    let hint = "write such as `\"youxia.com\"`, which is for it and all names below it";
    item.error(format!("{} {problem}", shown(text)), hint);
    None
}

/// Of the names that [`Domain::parse`] takes only addresses do.
fn ends_with_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    last.bytes().all(|byte| byte.is_ascii_digit())
}

fn path<'a>(item: &Item<'a>) -> Option<&'a str> {
    let text = item.string()?;
    if !text.starts_with('/') {
        let hint = format!("write {}", shown(&format!("\"/{text}\"")));
        item.error(format!("path {} does not start with `/`", shown(text)), hint);
        return None;
    }
    if text.len() > LONGEST_PATH {
        let hint = format!("write at most {LONGEST_PATH}: browsers ignore a longer one");
        item.error(format!("this path has {} bytes", text.len()), hint);
        return None;
    }
    let is_odd = |c: &char| !c.is_ascii_graphic() || *c == ';';
    if let Some(odd) = text.chars().find(is_odd) {
        let odd = shown(&odd.to_string());
        let hint = "write it as a browser sends it, with `%XX` for such a character";
        item.error(format!("{odd} cannot stand in the path of a cookie"), hint);
        return None;
    }
    Some(text)
}

/// Browsers keep a cookie with such a name only if it is what the name says
/// (RFC 6265bis 4.1.3).
fn check_prefix(table: &Table<'_>, name: &str, attributes: &CookieAttributes) {
    let Some(prefix) = prefix(name) else {
        return;
    };
    let refuse = |key, why: &str| {
        if let Some(item) = table.get(key) {
            let message = format!("browsers refuse a cookie that begins with `{prefix}` and {why}");
            item.error(message, format!("remove `{key}`, or the `{prefix}` of the name"));
        }
    };
    if attributes.secure == Some(false) {
        refuse("secure", "is not `Secure`");
    }
    if prefix == HOST && attributes.domain.is_some() {
        refuse("domain", "has a `Domain`");
    }
    if prefix == HOST && attributes.path != "/" {
        refuse("path", "has a `Path` other than `/`");
    }
}

const HOST: &str = "__Host-";
const SECURE: &str = "__Secure-";

/// In any case, as browsers compare them.
fn prefix(name: &str) -> Option<&'static str> {
    let begins = |prefix: &&str| {
        let start = name.get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    [HOST, SECURE].into_iter().find(begins)
}

/// Compares each inserted cookie with the listeners that lead to its group.
/// One no rule leads to was told already.
pub(super) fn check_reach(
    notes: &Notes,
    listeners: &[Arc<Listener>],
    claims: &[Claims],
    places: &[Option<StickyPlace>],
) {
    for (at, place) in places.iter().enumerate() {
        let Some(place) = place else {
            continue;
        };
        let all = listeners.iter().zip(claims);
        let reach: Reach<'_> = all.filter(|(listener, _)| leads_to(listener, at)).collect();
        if let StickyMode::Insert { attributes, .. } = &place.sticky.mode {
            check_plain(notes, &reach, place, attributes);
            check_hosts(notes, &reach, place);
        }
    }
}

/// The listeners that lead to a group.
type Reach<'a> = Vec<(&'a Arc<Listener>, &'a Claims)>;

/// Whether a rule of the listener forwards to the group at this place.
pub(super) fn leads_to(listener: &Listener, group: usize) -> bool {
    listener.rules.iter().any(|rule| rule.action == Action::Forward(group))
}

/// What browsers take only over TLS.
fn check_plain(
    notes: &Notes,
    reach: &Reach<'_>,
    place: &StickyPlace,
    attributes: &CookieAttributes,
) {
    // A listener whose certificate could not be read has no TLS, but was meant to.
    let plain = reach.iter().find(|(_, claims)| claims.protocol == Protocol::Http);
    let Some((plain, _)) = plain else {
        return;
    };
    let on = format!("the listener on line {}, which is `http`", plain.line);
    let name = &place.sticky.cookie;
    if let Some(prefix) = prefix(name) {
        notes.error(
            &place.cookie,
            format!("browsers refuse a cookie that begins with `{prefix}` from {on}"),
            "write a name without it, or let that listener redirect to `https`",
        );
    } else if attributes.secure == Some(true) {
        notes.warning(
            &place.secure,
            format!("browsers refuse a `Secure` cookie from {on}"),
            "remove `secure`: it is then set over `https` and nowhere else",
        );
    } else if attributes.same_site == Some(SameSite::None) {
        notes.warning(
            &place.same_site,
            format!("browsers refuse `SameSite=None` without `Secure`, as from {on}"),
            "remove `same_site`: it is then set over `https` and nowhere else",
        );
    }
}

/// Browsers refuse a `Domain` that the host they speak to does not lie in.
fn check_hosts(notes: &Notes, reach: &Reach<'_>, place: &StickyPlace) {
    let Some(domain) = place.domain() else {
        return;
    };
    let domains = || reach.iter().flat_map(|(listener, _)| &listener.domains);
    let Some(outside) = domains().find(|host| !lies_in(host, domain)) else {
        return;
    };
    let message = format!("`{outside}` does not lie in {}", shown(domain));
    let touched = |host: &Domain| lies_in(host, domain) || host.covers(domain);
    let default = reach.iter().any(|(listener, _)| listener.default);
    if default || domains().any(touched) {
        let hint = "browsers there refuse the cookie: name a domain that all listeners of the group lie in, or remove `domain`";
        notes.warning(&place.domain, message, hint);
    } else {
        let hint = "browsers refuse such a cookie: name a domain that the listeners of the group lie in, or remove `domain`";
        notes.error(&place.domain, message, hint);
    }
}

/// Whether every host of a listener's domain lies in a cookie's.
pub(super) fn lies_in(host: &Domain, domain: &str) -> bool {
    let (Domain::Exact(name) | Domain::Wildcard(name)) = host;
    let rest = name.strip_suffix(domain);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
