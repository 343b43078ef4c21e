//! `lockgate.toml`: what concerns the whole process.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::diagnostic::{Place, shown};
use super::keys::{self, Keys};
use super::model::{AccessLog, Limits, LogFormat, LogLevel, Process};
use super::owners::{self, Owners};
use super::secret;
use super::settings::{
    GroupSettings, HEADER_TIMEOUT, HashKeyUse, ListenerSettings, networks, unknown_name,
};
use super::table::{Item, Table};
use crate::policy::access::Networks;

/// The longest that a graceful stop may wait.
const LONGEST_DEADLINE: Duration = Duration::from_secs(3600);

/// The longest that the old process of an upgrade may be told to wait; without
/// a deadline it has all the time there is.
const LONGEST_UPGRADE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long the new one may take to report.
const UPGRADE_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(300);

/// What `lockgate.toml` says.
#[derive(Clone, Debug)]
pub(super) struct ProcessFile {
    pub(super) process: Process,
    /// Where the admin address is written, if it is.
    pub(super) admin: Option<Place>,
    pub(super) owners: Owners,
    pub(super) listener: ListenerSettings,
    pub(super) group: GroupSettings,
}

impl ProcessFile {
    /// Whether a drop-in reads the same with it: the defaults are.
    pub(super) fn reads_same(&self, other: &ProcessFile) -> bool {
        self.listener == other.listener && self.group == other.group
    }

    /// Whether as much is free.
    pub(super) fn leaves_same(&self, other: &ProcessFile) -> bool {
        let admin = |file: &ProcessFile| (file.process.admin, file.admin.clone());
        admin(self) == admin(other) && self.owners == other.owners
    }
}

impl Default for ProcessFile {
    /// What holds without a `lockgate.toml`.
    fn default() -> Self {
        ProcessFile {
            process: Process {
                workers: 0,
                admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 9900)),
                admin_hosts: Vec::new(),
                limits: Limits {
                    connections: None,
                    header_size: 32 << 10,
                    headers: 100,
                    uri: 32 << 10,
                    handshake_timeout: Duration::from_secs(10),
                    header_timeout: Duration::from_secs(10),
                },
                proxy_protocol: Networks::default(),
                dns_servers: Vec::new(),
                shutdown_deadline: Duration::from_secs(30),
                lame_duck: Duration::ZERO,
                upgrade_deadline: None,
                upgrade_timeout: Duration::from_secs(60),
                access_log: None,
                log_level: LogLevel::Info,
                loopback: false,
                secrets: None,
                watch: false,
            },
            admin: None,
            owners: Owners::default(),
            listener: ListenerSettings::default(),
            group: GroupSettings::default(),
        }
    }
}

/// Reads the top table; paths start at the directory. With any fault the whole
/// file is refused, so the rest of what is given back may be made up.
pub(super) fn read(table: &Table<'_>, dir: &Path) -> ProcessFile {
    let mut file = ProcessFile::default();
    if let Some(workers) = count(table, "workers", 0, 1024) {
        file.process.workers = workers;
    }
    file.process.secrets = secret::read(table, dir);
    file.process.watch = table.boolean("watch").unwrap_or_default();
    if let Some(admin) = section(table, "admin", &keys::ADMIN) {
        read_admin(&admin, &mut file);
    }
    if let Some(limits) = section(table, "limits", &keys::LIMITS) {
        read_limits(&limits, &mut file.process.limits);
    }
    if let Some(proxy_protocol) = section(table, "proxy_protocol", &keys::PROXY_PROTOCOL)
        && let Some(peers) = proxy_protocol.require("peers", "write `peers = [\"10.0.0.0/8\"]`")
    {
        file.process.proxy_protocol = Networks::new(networks(&peers));
    }
    if let Some(dns) = section(table, "dns", &keys::DNS)
        && let Some(servers) = dns.require("servers", "write `servers = [\"10.0.0.2:53\"]`")
    {
        file.process.dns_servers = dns_servers(&servers);
    }
    if let Some(shutdown) = section(table, "shutdown", &keys::SHUTDOWN) {
        let times = Duration::ZERO..=LONGEST_DEADLINE;
        if let Some(deadline) = shutdown.duration("deadline", times.clone()) {
            file.process.shutdown_deadline = deadline;
        }
        if let Some(lame_duck) = shutdown.duration("lame_duck", times) {
            file.process.lame_duck = lame_duck;
        }
    }
    if let Some(item) = table.get("owners") {
        let errors = table.notes.errors();
        let owners = owners::read(&item);
        // Half of it would blame drop-ins for what it does not say.
        if table.notes.errors() == errors {
            file.owners = owners;
        }
    }
    if let Some(upgrade) = section(table, "upgrade", &keys::UPGRADE) {
        if let Some(deadline) = upgrade.duration("deadline", Duration::ZERO..=LONGEST_UPGRADE) {
            file.process.upgrade_deadline = (!deadline.is_zero()).then_some(deadline);
        }
        if let Some(timeout) = upgrade.duration("timeout", UPGRADE_TIMEOUT) {
            file.process.upgrade_timeout = timeout;
        }
    }
    if let Some(log) = section(table, "log", &keys::LOG) {
        file.process.access_log = access_log(&log, dir);
        file.process.log_level = log_level(&log);
    }
    if let Some(defaults) = section(table, "defaults", &keys::DEFAULTS) {
        if let Some(listener) = section(&defaults, "listener", &keys::DEFAULTS_LISTENER) {
            file.listener = file.listener.overridden(&listener);
        }
        if let Some(group) = section(&defaults, "group", &keys::DEFAULTS_GROUP) {
            file.group = file.group.overridden(&group, HashKeyUse::Refused);
        }
    }
    file
}

fn section<'a>(table: &Table<'a>, key: &'static str, keys: &'static Keys) -> Option<Table<'a>> {
    table.get(key)?.table(keys)
}

fn read_admin(table: &Table<'_>, file: &mut ProcessFile) {
    if let Some(hosts) = table.get("hosts") {
        let items = hosts.list().unwrap_or_default();
        file.process.admin_hosts = items.iter().filter_map(admin_host).collect();
    }
    let Some(item) = table.get("address") else {
        return;
    };
    let Some(text) = item.string() else {
        return;
    };
    match text.parse() {
        Ok(address) => {
            file.process.admin = address;
            file.admin = Some(item.notes.source.place(&item.span()));
        }
        Err(_) => item.error(
            format!("`address`: {} is not `IP:PORT`", shown(text)),
            "write such as `\"127.0.0.1:9900\"`; port 0 lets the system pick",
        ),
    }
}

/// A Host as clients send it.
fn admin_host(item: &Item<'_>) -> Option<String> {
    let text = item.string()?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if text.is_empty() || !text.bytes().all(fits) {
        item.error(
            format!("{} is not a name", shown(text)),
            "write a name or an address, such as `\"gate1.internal\"`, or `\"gate1.internal:9900\"` for this port alone",
        );
        return None;
    }
    Some(text.to_ascii_lowercase())
}

fn read_limits(table: &Table<'_>, limits: &mut Limits) {
    if let Some(connections) = count(table, "connections", 1, 10_000_000) {
        limits.connections = Some(connections);
    }
    if let Some(headers) = count(table, "headers", 10, 1000) {
        limits.headers = headers;
    }
    if let Some(bytes) = size(table, "header_size", 1 << 10, 1 << 20) {
        limits.header_size = bytes;
    }
    if let Some(bytes) = size(table, "uri", 256, 1 << 20) {
        limits.uri = bytes;
    }
    if let Some(timeout) = table.duration("handshake_timeout", HEADER_TIMEOUT) {
        limits.handshake_timeout = timeout;
    }
    if let Some(timeout) = table.duration("header_timeout", HEADER_TIMEOUT) {
        limits.header_timeout = timeout;
    }
}

fn access_log(table: &Table<'_>, dir: &Path) -> Option<AccessLog> {
    const FORMATS: [&str; 2] = ["json", "combined"];
    let mut format = LogFormat::Json;
    if let Some(item) = table.get("format") {
        match item.string() {
            Some("json") | None => {}
            Some("combined") => format = LogFormat::Combined,
            Some(other) => unknown_name(&item, other, &FORMATS),
        }
    }
    let item = table.get("access")?;
    let path = match item.string()? {
        "off" => return None,
        "stdout" => None,
        path if path.contains(['/', '.']) && !path.contains('\0') => Some(dir.join(path)),
        other => {
            item.error(
                format!("`access` cannot be {}", shown(other)),
                "write `\"off\"`, `\"stdout\"`, or the path of a file, such as `\"/var/log/lockgate/access.log\"`",
            );
            return None;
        }
    };
    let place = item.notes.source.place(&item.span());
    Some(AccessLog { path, format, place })
}

fn log_level(table: &Table<'_>) -> LogLevel {
    let Some(item) = table.get("level") else { return LogLevel::Info };
    match item.string() {
        Some("error") => LogLevel::Error,
        Some("warn") => LogLevel::Warn,
        Some("info") | None => LogLevel::Info,
        Some(other) => {
            unknown_name(&item, other, &["error", "warn", "info"]);
            LogLevel::Info
        }
    }
}

fn count(table: &Table<'_>, key: &'static str, low: u64, high: u64) -> Option<usize> {
    usize::try_from(table.integer(key, low..=high)?).ok()
}

fn size(table: &Table<'_>, key: &'static str, low: u64, high: u64) -> Option<usize> {
    usize::try_from(table.size(key, low..=high)?).ok()
}

fn dns_servers(list: &Item<'_>) -> Vec<SocketAddr> {
    let items = list.list().unwrap_or_default();
    let server = |item: &Item<'_>| {
        let text = item.string()?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            item.error(
                format!("name server {} is not `IP:PORT`", shown(text)),
                "write the IP address and the port, such as `\"10.0.0.2:53\"`",
            );
        }
        parsed
    };
    items.iter().filter_map(server).collect()
}
