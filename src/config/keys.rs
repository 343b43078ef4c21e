//! The keys there are, table by table, and which of them a wrong one was meant
//! to be.

use super::diagnostic::shown;

/// A kind of table and the keys it has.
#[derive(Debug)]
pub(super) struct Keys {
    /// As messages call it.
    pub(super) table: &'static str,
    pub(super) names: &'static [&'static str],
}

macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident = $title:literal: [$($key:literal)*];)*) => {
        $(
            $(#[$doc])*
            pub(super) static $table: Keys = Keys { table: $title, names: &[$($key),*] };
        )*
        /// All of them, the ones people use most first.
        static TABLES: &[&Keys] = &[$(&$table),*];
    };
}

tables! {
    LISTENER = "`[[listener]]`": [
        "domain" "port" "protocol" "address" "default" "certificate" "group" "tls" "client_ca"
        "http2" "redirect" "redirect_code" "allow" "deny" "trusted_proxies" "idle_timeout"
        "header_timeout" "body_timeout" "write_timeout" "max_body" "max_requests" "forwarded"
        "client_half_close" "rule"
    ];
    RULE = "`[[listener.rule]]`": [
        "path" "group" "redirect" "redirect_code" "respond" "set_headers" "remove_headers"
        "response_timeout" "tunnel_timeout" "max_body" "retry"
    ];
    GROUP = "`[group.NAME]`": [
        "balance" "hash_key" "backends" "protocol" "tls" "keepalive" "idle_timeout" "max_idle" "connect_timeout"
        "response_timeout" "tunnel_timeout" "all_down" "sticky" "probe" "retry"
    ];
    RETRY = "`[group.NAME.retry]`": [
        "on" "tries" "timeout" "non_idempotent" "idempotency_key" "body_buffer" "budget"
    ];
    PROBE = "`[group.NAME.probe]`": [
        "type" "method" "path" "host" "port" "interval" "timeout" "healthy_threshold"
        "unhealthy_threshold" "expect"
    ];
    STICKY = "`[group.NAME.sticky]`": [
        "mode" "cookie" "idle" "max_life" "domain" "path" "secure" "http_only" "same_site"
        "partitioned"
    ];
    BACKEND = "a backend of `backends`": [
        "address" "name" "weight" "max_fails" "fail_timeout" "max_connections" "backup" "state"
    ];
    CERTIFICATE = "`certificate`": ["chain" "key"];
    UPSTREAM_TLS = "`tls` of a group": ["ca" "server_name" "client_certificate" "verify"];
    CLIENT_CERTIFICATE = "`client_certificate`": ["chain" "key"];
    RESPOND = "`respond`": ["status" "body"];
    DIRECTIONS = "`set_headers` and `remove_headers`": ["request" "response"];
    EXPECT = "`[[expect]]`": [
        "url" "group" "status" "redirect" "listener" "header" "method" "client_ip"
    ];
    /// The top of a drop-in.
    DROP_IN = "a drop-in": ["listener" "group" "expect"];
    /// The top of `lockgate.toml`.
    PROCESS = "`lockgate.toml`": [
        "workers" "watch" "secret" "secret_file" "admin" "limits" "proxy_protocol" "dns" "shutdown" "upgrade" "owners"
        "log" "defaults"
    ];
    ADMIN = "`[admin]` of `lockgate.toml`": ["address" "hosts"];
    LIMITS = "`[limits]` of `lockgate.toml`": [
        "connections" "header_size" "headers" "uri" "handshake_timeout" "header_timeout"
    ];
    PROXY_PROTOCOL = "`[proxy_protocol]` of `lockgate.toml`": ["peers"];
    DNS = "`[dns]` of `lockgate.toml`": ["servers"];
    SHUTDOWN = "`[shutdown]` of `lockgate.toml`": ["deadline" "lame_duck"];
    LOG = "`[log]` of `lockgate.toml`": ["access" "format" "level"];
    UPGRADE = "`[upgrade]` of `lockgate.toml`": ["deadline" "timeout"];
    DEFAULTS = "`[defaults]` of `lockgate.toml`": ["listener" "group"];
    DEFAULTS_LISTENER = "`[defaults.listener]` of `lockgate.toml`": [
        "idle_timeout" "header_timeout" "body_timeout" "write_timeout" "max_body" "max_requests"
        "forwarded" "tls" "http2" "trusted_proxies" "client_half_close"
    ];
    DEFAULTS_GROUP = "`[defaults.group]` of `lockgate.toml`": [
        "balance" "keepalive" "idle_timeout" "max_idle" "connect_timeout" "response_timeout"
        "tunnel_timeout" "all_down" "retry"
    ];
}

impl Keys {
    /// The key of this table that was probably meant.
    pub(super) fn nearest(&self, unknown: &str) -> Option<&'static str> {
        nearest(unknown, self.names.iter().copied())
    }

    /// What to write instead of a key this table does not have.
    pub(super) fn hint(&self, unknown: &str) -> String {
        if let Some(known) = self.nearest(unknown) {
            return format!("did you mean `{known}`?");
        }
        if let Some(other) = TABLES.iter().find(|keys| keys.names.contains(&unknown)) {
            return format!("{} is a key of {}", shown(unknown), other.table);
        }
        let names: Vec<String> = self.names.iter().map(|name| format!("`{name}`")).collect();
        format!("the keys are {}", names.join(", "))
    }
}

/// Whether some table of `lockgate.toml` has this key.
pub(super) fn is_of_process(key: &str) -> bool {
    let mut tables = TABLES.iter().filter(|keys| keys.table.ends_with("`lockgate.toml`"));
    tables.any(|keys| keys.names.contains(&key))
}

/// The candidate that differs by the fewest edits, if it is close enough to
/// have been meant.
pub(crate) fn nearest<'a>(
    wrong: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    // A bad file must not keep us busy: names are short, and few.
    const LONGEST: usize = 64;
    const MOST: usize = 1000;
    if wrong.len() > LONGEST {
        return None;
    }
    let plain = wrong.to_lowercase().replace('-', "_");
    candidates
        .take(MOST)
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| (edits(&plain, &candidate.to_lowercase().replace('-', "_")), candidate))
        .filter(|(edits, candidate)| *edits <= 1 + candidate.len().min(wrong.len()) / 4)
        .filter(|(edits, candidate)| *edits < candidate.chars().count())
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, remove, replace or swap with the next to get from one
/// text to the other (optimal string alignment).
fn edits(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut cost = at(&last, j) + usize::from(a != b);
            cost = cost.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && from.get(i - 1) == Some(b) && to.get(j - 1) == Some(a);
            if swapped {
                cost = cost.min(at(&before, j - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    at(&last, to.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        let cases =
            [("", "abc", 3), ("abc", "abc", 0), ("prot", "port", 1), ("kitten", "sitting", 3)];
        for (from, to, count) in cases {
            assert_eq!(edits(from, to), count, "{from} {to}");
            assert_eq!(edits(to, from), count, "{to} {from}");
        }
    }

    #[test]
    fn the_nearest_key_is_named() {
        let near = |wrong| LISTENER.nearest(wrong);
        assert_eq!(near("idle_timout"), Some("idle_timeout"));
        assert_eq!(near("idle-timeout"), Some("idle_timeout"));
        assert_eq!(near("Prot"), Some("port"));
        assert_eq!(near("domains"), Some("domain"));
        assert_eq!(near("x"), None);
        assert_eq!(near("backends"), None);
        assert_eq!(near(""), None);
        assert_eq!(near(&"a".repeat(1 << 20)), None);
    }

    #[test]
    fn a_key_of_another_table_is_said_to_be_one() {
        assert_eq!(LISTENER.hint("backends"), "`backends` is a key of `[group.NAME]`");
        assert_eq!(GROUP.hint("uri"), "`uri` is a key of `[limits]` of `lockgate.toml`");
        assert!(RESPOND.hint("zzz").contains("`status`, `body`"));
    }
}
