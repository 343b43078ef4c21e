//! `[group.NAME.probe]`: how backends are asked whether they can serve.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::address::Host;
use super::diagnostic::shown;
use super::keys;
use super::model::{Check, HttpCheck, Probe, ProbeMethod, Upstream};
use super::settings::unknown_name;
use super::table::{Item, Table};
use crate::policy::health::Thresholds;

const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);
const THRESHOLD: RangeInclusive<u64> = 1..=100;
/// Bytes of the longest path.
const LONGEST_PATH: usize = 1024;

/// Keys that say something of a request.
const OF_HTTP: [&str; 4] = ["method", "path", "host", "expect"];

/// Reads the table, if there is one; `upstream` is how the group's backends are
/// spoken to.
pub(super) fn read(group: &Table<'_>, upstream: &Upstream) -> Option<Probe> {
    let table = group.get("probe")?.table(&keys::PROBE)?;
    let usual = Probe::default();
    let threshold = |key, usual| {
        let count = table.integer(key, THRESHOLD);
        count.and_then(|count| u32::try_from(count).ok()).unwrap_or(usual)
    };
    let port = table.integer("port", 1..=u64::from(u16::MAX));
    Some(Probe {
        check: check(&table, upstream),
        port: port.and_then(|port| u16::try_from(port).ok()),
        interval: table.duration("interval", INTERVAL).unwrap_or(usual.interval),
        timeout: table.duration("timeout", TIMEOUT).unwrap_or(usual.timeout),
        thresholds: Thresholds {
            healthy: threshold("healthy_threshold", usual.thresholds.healthy),
            unhealthy: threshold("unhealthy_threshold", usual.thresholds.unhealthy),
        },
    })
}

fn check(table: &Table<'_>, upstream: &Upstream) -> Check {
    let item = table.get("type");
    let check = match item.as_ref().and_then(|item| item.string()) {
        Some("tcp") => Check::Tcp,
        Some("tls") => Check::Tls,
        name => {
            if let (Some(name), Some(item)) = (name.filter(|name| *name != "http"), &item) {
                unknown_name(item, name, &["http", "tcp", "tls"]);
            }
            return Check::Http(request(table));
        }
    };
    for key in OF_HTTP {
        if let Some(item) = table.get(key) {
            let message = format!("`{key}` is used only with `type = \"http\"`");
            item.misplaced(message, "remove it, or probe with `type = \"http\"`");
        }
    }
    if let Some(item) = item.filter(|_| check == Check::Tls)
        && !matches!(upstream, Upstream::Https(_))
    {
        let hint = "write `protocol = \"https\"` in the group, or `type = \"tcp\"` here";
        item.misplaced("this group's backends speak no TLS", hint);
    }
    check
}

fn request(table: &Table<'_>) -> HttpCheck {
    let usual = HttpCheck::default();
    HttpCheck {
        method: table.get("method").and_then(|item| method(&item)).unwrap_or_default(),
        path: table.get("path").and_then(|item| path(&item)).unwrap_or(usual.path),
        host: table.get("host").and_then(|item| host(&item)),
        expect: table.get("expect").and_then(|item| expect(&item)).unwrap_or(usual.expect),
    }
}

fn method(item: &Item<'_>) -> Option<ProbeMethod> {
    match item.string()? {
        "HEAD" => Some(ProbeMethod::Head),
        "GET" => Some(ProbeMethod::Get),
        other => {
            unknown_name(item, other, &["HEAD", "GET"]);
            None
        }
    }
}

/// It is sent as it is written.
fn path(item: &Item<'_>) -> Option<String> {
    let path = item.string()?;
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    let problem = if !path.starts_with('/') {
        "does not begin with `/`"
    } else if path.len() > LONGEST_PATH {
        "is longer than 1024 bytes"
    } else if !path.bytes().all(fits) {
        "has a blank, a `#` or a character outside ASCII"
    } else {
        return Some(path.to_owned());
    };
    let hint = "write such as `\"/health\"`; anything else percent-encoded";
    item.error(format!("`path` {} {problem}", shown(path)), hint);
    None
}

/// A name or an address, with a port or without.
fn host(item: &Item<'_>) -> Option<String> {
    let text = item.string()?;
    let (host, port) = match text.rsplit_once(':') {
        // The colon of an IPv6 address is none before a port.
        Some((host, port)) if !port.contains(['/', ']']) => (host, Some(port)),
        _ => (text, None),
    };
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let good_port = port.is_none_or(|port| digits(port) && port.parse::<u16>().is_ok());
    let bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    let problem = match Host::parse(host) {
        _ if bare_v6 => "an IPv6 address has brackets here".to_owned(),
        _ if !good_port => "its port is no number up to 65535".to_owned(),
        Ok(_) => return Some(text.to_owned()),
        Err(problem) => problem,
    };
    let hint = "write the name the application answers to, such as `\"game.example.com\"`";
    item.error(format!("`host` {}: {problem}", shown(text)), hint);
    None
}

/// Classes and codes.
fn expect(item: &Item<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let statuses = item.list()?;
    // All are read, so that each fault is told.
    let read: Vec<_> = statuses.iter().map(status).collect();
    read.into_iter().collect()
}

fn status(item: &Item<'_>) -> Option<RangeInclusive<u16>> {
    let hint = "write classes and codes, such as `[\"2xx\", \"3xx\", 401]`";
    let codes = match item.value.get_ref() {
        DeValue::Integer(_) => {
            let code = item.integer(200..=599).and_then(|code| u16::try_from(code).ok())?;
            return Some(code..=code);
        }
        DeValue::String(text) => match text.as_ref() {
            "2xx" => 200..=299,
            "3xx" => 300..=399,
            "4xx" => 400..=499,
            "5xx" => 500..=599,
            other => {
                let code = other.parse().ok().filter(|code| (200..=599).contains(code));
                if code.is_none() {
                    let message = format!("`expect`: {} is no class of statuses", shown(other));
                    item.error(message, hint);
                }
                let code: u16 = code?;
                code..=code
            }
        },
        _ => return item.wrong_type("a class or a code", hint),
    };
    Some(codes)
}
