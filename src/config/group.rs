//! `[group.NAME]` and its backends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeValue;

use super::address::address;
use super::certificate::Certificates;
use super::diagnostic::shown;
use super::keys;
use super::model::{AdminState, Backend, BackendAddress, Group};
use super::probe;
use super::settings::{GroupSettings, HashKeyUse, unknown_name};
use super::sticky::{self, StickyPlace};
use super::table::{Item, Table};
use super::upstream;

/// As nginx's.
const FAIL_TIMEOUT: Duration = Duration::from_secs(10);
const FAIL_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(24 * 3600);

/// A backend's IP address and where it is written. What a name leads to is not
/// known yet.
#[derive(Debug)]
pub(super) struct BackendPlace {
    pub(super) address: SocketAddr,
    pub(super) span: Range<usize>,
}

/// Reads one group, and where it says that it is sticky. `None` when it is no
/// table at all; with any fault the file is refused, so the rest of it may be
/// made up.
pub(super) fn read(
    item: &Item<'_>,
    defaults: &GroupSettings,
    certificates: &Certificates,
    places: &mut Vec<BackendPlace>,
) -> Option<(Group, Option<StickyPlace>)> {
    check_name(item);
    let table = item.table(&keys::GROUP)?;
    let settings = defaults.overridden(&table, HashKeyUse::Allowed);
    let sticky = table.get("sticky").and_then(|sticky| sticky::read(&sticky, item.name));
    let protocol = upstream::read(&table, certificates);
    let group = Group {
        name: item.name.into(),
        line: table.notes.source.line(item.key.start),
        balance: settings.balance,
        backends: backends(item, &table, places),
        probe: probe::read(&table, &protocol),
        protocol,
        keepalive: settings.keepalive,
        idle_timeout: settings.idle_timeout,
        max_idle: settings.max_idle,
        connect_timeout: settings.connect_timeout,
        response_timeout: settings.response_timeout,
        tunnel_timeout: settings.tunnel_timeout,
        all_down: settings.all_down,
        sticky: sticky.as_ref().map(|place| place.sticky.clone()),
        retry: settings.retry,
    };
    Some((group, sticky))
}

fn check_name(group: &Item<'_>) {
    if !is_name(group.name) {
        group.misplaced(
            format!("{} cannot be the name of a group", shown(group.name)),
            "write letters, digits, `-`, `_` and `.`, at most 64 of them",
        );
    }
}

/// Names stand in logs and in commands as `GAME/GROUP/BACKEND`.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

fn backends(group: &Item<'_>, table: &Table<'_>, places: &mut Vec<BackendPlace>) -> Vec<Backend> {
    let hint = "write such as `backends = [\"10.0.0.21:9030\"]`";
    let Some(list) = table.get("backends") else {
        let message = format!("group {} has no `backends`", shown(group.name));
        table.notes.error(&group.key, message, hint);
        return Vec::new();
    };
    let DeValue::Array(values) = list.value.get_ref() else {
        list.wrong_type::<()>("a list", hint);
        return Vec::new();
    };
    if values.is_empty() {
        list.error(format!("group {} has no backend", shown(group.name)), hint);
    }
    let mut backends = Vec::new();
    let mut seen = Seen::default();
    for value in values.iter() {
        let item = Item { value, name: "backends", ..list.clone() };
        if let Some(backend) = backend(&item) {
            seen.check(&backend, &item);
            let socket = backend.address.socket();
            places.extend(socket.map(|address| BackendPlace { address, span: item.span() }));
            backends.push(backend);
        }
    }
    // With a backend that could not be read, nothing is known of all of them.
    if backends.len() == values.len() {
        check_all(&list, &backends);
    }
    backends
}

/// What no single backend can be blamed for.
fn check_all(list: &Item<'_>, backends: &[Backend]) {
    if backends.is_empty() {
        return;
    }
    if backends.iter().all(|backend| backend.backup) {
        list.misplaced(
            "every backend of this group is a backup",
            "remove `backup = true` from at least one",
        );
    }
    let takes = |backend: &Backend| backend.weight > 0 && backend.state == AdminState::Ready;
    if !backends.iter().any(takes) {
        list.notes.warning(
            &list.key,
            "no backend of this group takes new clients: each has `weight = 0`, or `state` `\"drain\"` or `\"maint\"`",
            "give at least one a weight and `state = \"ready\"`",
        );
    }
}

/// Names and addresses that have stood in the group, and where.
#[derive(Default)]
struct Seen {
    names: HashMap<Arc<str>, Range<usize>>,
    addresses: HashMap<BackendAddress, Range<usize>>,
}

impl Seen {
    fn check(&mut self, backend: &Backend, item: &Item<'_>) {
        let (source, span) = (&item.notes.source, item.span());
        if let Some(first) = self.addresses.insert(backend.address.clone(), span.clone()) {
            let place = source.place(&first);
            let message = format!(
                "backend `{}` stands twice in this group, first on line {}",
                backend.address, place.line
            );
            item.notes.conflict(&span, message, "remove one; `weight` gives a larger share", place);
        } else if let Some(first) = self.names.insert(backend.name.clone(), span.clone()) {
            let place = source.place(&first);
            let message = format!(
                "two backends of this group are called `{}`, the first on line {}",
                backend.name, place.line
            );
            item.notes.conflict(&span, message, "give each its own `name`", place);
        }
    }
}

fn backend(item: &Item<'_>) -> Option<Backend> {
    if matches!(item.value.get_ref(), DeValue::String(_)) {
        let address = address(item)?;
        return Some(Backend {
            name: address.to_string().into(),
            address,
            weight: 100,
            max_fails: 1,
            fail_timeout: FAIL_TIMEOUT,
            max_connections: None,
            backup: false,
            state: AdminState::Ready,
        });
    }
    let DeValue::Table(_) = item.value.get_ref() else {
        let hint = "write `\"10.0.0.21:9030\"` or `{ address = \"10.0.0.21:9030\", weight = 50 }`";
        return item.wrong_type("a list of strings or tables", hint);
    };
    let table = item.table(&keys::BACKEND)?;
    let number = |key, most: u32, default| {
        let value = table.integer(key, 0..=u64::from(most));
        value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default)
    };
    let most_connections = number("max_connections", 10_000_000, 0);
    let weight = number("weight", 1000, 100);
    let name = table.get("name").and_then(|item| name(&item));
    let state = table.get("state").and_then(|item| state(&item));
    let backup = table.boolean("backup");
    let address = table.require("address", "write `address = \"HOST:PORT\"`");
    let address = address.and_then(|item| self::address(&item))?;
    Some(Backend {
        name: name.map_or_else(|| address.to_string().into(), Arc::from),
        address,
        weight,
        max_fails: number("max_fails", 10_000, 1),
        fail_timeout: table.duration("fail_timeout", FAIL_TIMEOUTS).unwrap_or(FAIL_TIMEOUT),
        max_connections: (most_connections > 0).then_some(most_connections),
        backup: backup.unwrap_or_default(),
        state: state.unwrap_or_default(),
    })
}

fn name<'a>(item: &Item<'a>) -> Option<&'a str> {
    let name = item.string()?;
    if is_name(name) {
        return Some(name);
    }
    item.error(
        format!("{} cannot be the name of a backend", shown(name)),
        "write letters, digits, `-`, `_` and `.`, at most 64 of them",
    );
    None
}

fn state(item: &Item<'_>) -> Option<AdminState> {
    match item.string()? {
        "ready" => Some(AdminState::Ready),
        "drain" => Some(AdminState::Drain),
        "maint" => Some(AdminState::Maint),
        other => {
            unknown_name(item, other, &["ready", "drain", "maint"]);
            None
        }
    }
}
