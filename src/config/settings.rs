//! The settings that have a default which `lockgate.toml` may change: the same
//! code reads them under `[defaults.…]` and in a drop-in.

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::diagnostic::shown;
use super::keys::nearest;
use super::model::{AllDown, Retry, TlsPolicy};
use super::retry;
use super::table::{Item, Table};
use crate::policy::access::Networks;
use crate::policy::balance::{Balance, HashKey};
use crate::policy::headers::ForwardedFields;

const fn milliseconds(low: u64, high: u64) -> RangeInclusive<Duration> {
    Duration::from_millis(low)..=Duration::from_millis(high)
}

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

/// Until a head is complete: longer is a gift to slow attackers.
pub(super) const HEADER_TIMEOUT: RangeInclusive<Duration> = milliseconds(10, HOUR);
const SILENCE: RangeInclusive<Duration> = milliseconds(10, 24 * HOUR);
const CONNECT_TIMEOUT: RangeInclusive<Duration> = milliseconds(1, 10 * MINUTE);
/// Of a group, and of a rule that overrides it.
pub(super) const RESPONSE_TIMEOUT: RangeInclusive<Duration> = milliseconds(1, 24 * HOUR);
/// Beyond this a limit is a mistake.
const LARGEST_BODY: u64 = 1 << 50;

/// Settings of a listener.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ListenerSettings {
    pub(super) idle_timeout: Duration,
    pub(super) header_timeout: Duration,
    pub(super) body_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) max_body: Option<u64>,
    pub(super) max_requests: Option<u64>,
    pub(super) client_half_close: bool,
    pub(super) forwarded: ForwardedFields,
    pub(super) tls: TlsPolicy,
    pub(super) http2: bool,
    pub(super) trusted_proxies: Networks,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        ListenerSettings {
            idle_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            max_body: None,
            max_requests: None,
            client_half_close: true,
            forwarded: ForwardedFields::default(),
            tls: TlsPolicy::Tls12AndTls13,
            http2: true,
            trusted_proxies: Networks::default(),
        }
    }
}

impl ListenerSettings {
    /// What the table says, and these for what it does not say.
    pub(super) fn overridden(&self, table: &Table<'_>) -> Self {
        let most = u64::from(u32::MAX);
        let duration = |key, range, default| table.duration(key, range).unwrap_or(default);
        ListenerSettings {
            idle_timeout: duration("idle_timeout", SILENCE, self.idle_timeout),
            header_timeout: duration("header_timeout", HEADER_TIMEOUT, self.header_timeout),
            body_timeout: duration("body_timeout", SILENCE, self.body_timeout),
            write_timeout: duration("write_timeout", SILENCE, self.write_timeout),
            max_body: max_body(table).unwrap_or(self.max_body),
            max_requests: table
                .integer("max_requests", 0..=most)
                .map_or(self.max_requests, |count| (count > 0).then_some(count)),
            client_half_close: table.boolean("client_half_close").unwrap_or(self.client_half_close),
            forwarded: forwarded(table).unwrap_or(self.forwarded),
            tls: table.get("tls").and_then(|item| tls_policy(&item)).unwrap_or(self.tls),
            http2: table.boolean("http2").unwrap_or(self.http2),
            trusted_proxies: table.get("trusted_proxies").map_or_else(
                || self.trusted_proxies.clone(),
                |item| Networks::new(networks(&item)),
            ),
        }
    }
}

/// Settings of a group.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct GroupSettings {
    pub(super) balance: Balance,
    pub(super) keepalive: bool,
    pub(super) idle_timeout: Duration,
    pub(super) max_idle: usize,
    pub(super) connect_timeout: Duration,
    pub(super) response_timeout: Duration,
    pub(super) tunnel_timeout: Duration,
    pub(super) all_down: AllDown,
    pub(super) retry: Retry,
}

impl Default for GroupSettings {
    fn default() -> Self {
        GroupSettings {
            balance: Balance::Wrr,
            keepalive: true,
            idle_timeout: Duration::from_secs(60),
            max_idle: 2048,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            tunnel_timeout: Duration::from_secs(3600),
            all_down: AllDown::Fail,
            retry: Retry::default(),
        }
    }
}

impl GroupSettings {
    /// What the table says, and these for what it does not say.
    pub(super) fn overridden(&self, table: &Table<'_>, hash_key: HashKeyUse) -> Self {
        let duration = |key, range, default| table.duration(key, range).unwrap_or(default);
        GroupSettings {
            balance: balance(table, hash_key).unwrap_or_else(|| self.balance.clone()),
            keepalive: table.boolean("keepalive").unwrap_or(self.keepalive),
            idle_timeout: duration("idle_timeout", SILENCE, self.idle_timeout),
            max_idle: table
                .integer("max_idle", 0..=10_000)
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or(self.max_idle),
            connect_timeout: duration("connect_timeout", CONNECT_TIMEOUT, self.connect_timeout),
            response_timeout: duration("response_timeout", RESPONSE_TIMEOUT, self.response_timeout),
            tunnel_timeout: duration("tunnel_timeout", RESPONSE_TIMEOUT, self.tunnel_timeout),
            all_down: table
                .get("all_down")
                .and_then(|item| all_down(&item))
                .unwrap_or(self.all_down),
            retry: table
                .get("retry")
                .map_or(self.retry, |item| retry::read(&item).over(&self.retry)),
        }
    }
}

fn all_down(item: &Item<'_>) -> Option<AllDown> {
    match item.string()? {
        "fail" => Some(AllDown::Fail),
        "try" => Some(AllDown::Try),
        other => {
            unknown_name(item, other, &["fail", "try"]);
            None
        }
    }
}

/// Whether a table may choose `hash`, which needs `hash_key` beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HashKeyUse {
    /// A group of a drop-in.
    Allowed,
    /// `[defaults.group]`: what to hash is each group's own matter.
    Refused,
}

fn balance(table: &Table<'_>, hash_key: HashKeyUse) -> Option<Balance> {
    let item = table.get("balance");
    let name = item.as_ref().and_then(Item::string);
    let key = match hash_key {
        HashKeyUse::Allowed => table.get("hash_key"),
        HashKeyUse::Refused => None,
    };
    if let Some(key) = &key
        && name != Some("hash")
    {
        let hint = "write `balance = \"hash\"` beside it, or remove `hash_key`";
        key.misplaced("`hash_key` is used only with `balance = \"hash\"`", hint);
    }
    match name? {
        "wrr" => Some(Balance::Wrr),
        "rr" => Some(Balance::Rr),
        "wlc" => Some(Balance::Wlc),
        "p2c" => Some(Balance::P2c),
        "hash" if hash_key == HashKeyUse::Refused => {
            let hint = "write it, with its `hash_key`, in each group that wants it";
            item?.error("`hash` cannot be the default of all groups", hint);
            None
        }
        "hash" => {
            let hint = "write `hash_key = \"client_ip\"`, `\"cookie:NAME\"`, `\"header:NAME\"` or `\"path\"`";
            let Some(key) = key else {
                item?.error("`balance = \"hash\"` needs `hash_key`", hint);
                return None;
            };
            match HashKey::parse(key.string()?) {
                Ok(key) => Some(Balance::Hash(key)),
                Err(error) => {
                    key.error(format!("`hash_key`: {error}"), hint);
                    None
                }
            }
        }
        other => {
            unknown_name(&item?, other, &Balance::NAMES);
            None
        }
    }
}

/// `max_body`: 0 is unlimited. The outer `None`: it is not there.
pub(super) fn max_body(table: &Table<'_>) -> Option<Option<u64>> {
    let bytes = table.size("max_body", 0..=LARGEST_BODY)?;
    Some((bytes > 0).then_some(bytes))
}

/// A list of networks or addresses.
pub(super) fn networks(list: &Item<'_>) -> Vec<IpNet> {
    let items = list.list().unwrap_or_default();
    items.iter().filter_map(network).collect()
}

fn network(item: &Item<'_>) -> Option<IpNet> {
    let text = item.string()?;
    if let Ok(network) = text.parse::<IpNet>() {
        if network.trunc() == network {
            return Some(network);
        }
        item.error(
            format!("`{}`: {} has bits after its prefix", item.name, shown(text)),
            format!(
                "write `\"{}\"` for the network, or `\"{}\"` for the address",
                network.trunc(),
                network.addr()
            ),
        );
        return None;
    }
    if let Ok(address) = text.parse() {
        return Some(IpNet::from(std::net::IpAddr::V4(address)));
    }
    if let Ok(address) = text.parse() {
        return Some(IpNet::from(std::net::IpAddr::V6(address)));
    }
    item.error(
        format!("`{}`: {} is not a network", item.name, shown(text)),
        "write an address and the length of its prefix, such as `\"10.0.0.0/8\"`",
    );
    None
}

fn forwarded(table: &Table<'_>) -> Option<ForwardedFields> {
    // An empty list is fine here: only `x-forwarded-for` is set.
    let item = table.get("forwarded")?;
    let toml::de::DeValue::Array(values) = item.value.get_ref() else {
        return item.wrong_type("a list", "write such as `[\"x-forwarded-for\", \"x-real-ip\"]`");
    };
    let field = |value| {
        let item = Item { value, ..item.clone() };
        let name = item.string()?;
        let field = ForwardedFields::parse_name(name);
        if field.is_none() {
            unknown_name(&item, name, &ForwardedFields::NAMES);
        }
        field
    };
    Some(values.iter().filter_map(field).collect())
}

const CLB_STRICT: &str = "tls_cipher_policy_1_2_strict";
const CLB_STRICT_WITH_1_3: &str = "tls_cipher_policy_1_2_strict_with_1_3";

fn tls_policy(item: &Item<'_>) -> Option<TlsPolicy> {
    match item.string()? {
        "1.2" | CLB_STRICT_WITH_1_3 => Some(TlsPolicy::Tls12AndTls13),
        "1.3" => Some(TlsPolicy::Tls13),
        CLB_STRICT => Some(TlsPolicy::Tls12),
        old @ ("tls_cipher_policy_1_0"
        | "tls_cipher_policy_1_1"
        | "tls_cipher_policy_1_2"
        | "1.0"
        | "1.1") => {
            item.error(
                format!(
                    "`tls`: {} cannot be served: rustls has no TLS 1.0 and 1.1, no CBC suites and no RSA key exchange",
                    shown(old)
                ),
                format!("write `\"1.2\"` or `\"{CLB_STRICT_WITH_1_3}\"`, which every browser since 2015 can do"),
            );
            None
        }
        other => {
            unknown_name(item, other, &["1.2", "1.3", CLB_STRICT, CLB_STRICT_WITH_1_3]);
            None
        }
    }
}

/// Notes that the value is none of the names there are.
pub(super) fn unknown_name(item: &Item<'_>, name: &str, names: &[&str]) {
    let hint = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `\"{near}\"`?"),
        None => {
            let names: Vec<String> = names.iter().map(|name| format!("`\"{name}\"`")).collect();
            format!("write one of {}", names.join(", "))
        }
    };
    item.error(format!("`{}` cannot be {}", item.name, shown(name)), hint);
}
