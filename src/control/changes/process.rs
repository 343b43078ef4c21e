//! What of `lockgate.toml` and of the secret is another.

use super::{Setting, long, most, plain, settings};
use crate::config::{AccessLog, LogFormat, LogLevel, Process, show_duration, show_time};
use crate::policy::sticky::{KeyRing, Secret};

/// A line for each table of which something changed that a reload applies.
pub(in crate::control) fn of_process(old: &Process, new: &Process) -> Vec<String> {
    let mut said = Vec::new();
    let of = |table: &str| match table {
        "" => "lockgate.toml".to_owned(),
        table => format!("lockgate.toml: [{table}]"),
    };
    for ((table, old), (_, new)) in tables(old).iter().zip(&tables(new)) {
        settings(&mut said, &of(table), old, new);
    }
    said
}

fn tables(process: &Process) -> [(&'static str, Vec<Setting>); 7] {
    let limits = &process.limits;
    let time = |key, time| plain(key, show_duration(time));
    [
        ("", vec![plain("watch", process.watch)]),
        ("admin", vec![plain("hosts", process.admin_hosts.join(" "))]),
        (
            "limits",
            vec![
                plain("header_size", limits.header_size),
                plain("headers", limits.headers),
                plain("uri", limits.uri),
                time("handshake_timeout", limits.handshake_timeout),
                time("header_timeout", limits.header_timeout),
            ],
        ),
        ("proxy_protocol", vec![long("peers", &process.proxy_protocol)]),
        (
            "shutdown",
            vec![time("deadline", process.shutdown_deadline), time("lame_duck", process.lame_duck)],
        ),
        (
            "upgrade",
            vec![
                most("deadline", process.upgrade_deadline.map(show_duration)),
                time("timeout", process.upgrade_timeout),
            ],
        ),
        ("log", log(process)),
    ]
}

fn log(process: &Process) -> Vec<Setting> {
    let to = |log: &AccessLog| match &log.path {
        Some(path) => path.to_string_lossy().into_owned(),
        None => "stdout".to_owned(),
    };
    let format = |log: &AccessLog| match log.format {
        LogFormat::Json => "json",
        LogFormat::Combined => "combined",
    };
    let log = process.access_log.as_ref();
    let level = match process.log_level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
    };
    vec![
        plain("access", log.map_or_else(|| "off".to_owned(), to)),
        // Of a log that is off nobody minds it.
        plain("format", log.map_or("json", format)),
        plain("level", level),
    ]
}

/// Which keys came and went; of a key only a fingerprint is told, the same on all
/// instances that have it.
pub(in crate::control) fn of_secrets(old: &KeyRing, new: &KeyRing) -> Vec<String> {
    let lacks = |ring: &KeyRing, one: &Secret| {
        !ring.secrets().iter().any(|other| other.material == one.material)
    };
    let come = new.secrets().iter().filter(|one| lacks(old, one)).map(|one| {
        let since = match one.signs_from {
            0 => String::new(),
            from => format!(" from {}", show_time(from)),
        };
        format!("secret: key {} came, and signs{since}", one.fingerprint())
    });
    let gone = old.secrets().iter().filter(|one| lacks(new, one));
    let gone = gone.map(|one| {
        format!("secret: key {} is gone, and what it signed with it", one.fingerprint())
    });
    let mut said: Vec<String> = come.chain(gone).collect();
    if said.is_empty() && old != new {
        said.push("secret: when its keys sign changed".to_owned());
    }
    said
}
