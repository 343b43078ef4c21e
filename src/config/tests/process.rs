//! `lockgate.toml`.

use super::*;
use crate::config::{LogFormat, LogLevel, Place};

/// What is said of `lockgate.toml` with this text, beside a good game.
fn process_says(text: &str) -> Vec<String> {
    let dir = dir(&[("lockgate.toml", text), ("a.toml", &smallest())]);
    let loaded = load(dir.path());
    assert_eq!(loaded.config.is_none(), loaded.has_errors());
    assert!(loaded.refused.is_empty());
    said(&dir, &loaded)
}

#[test]
fn without_a_key_the_defaults_of_the_design_hold() {
    let dir = dir(&[("a.toml", &smallest())]);
    let config = load(dir.path()).config.unwrap();
    let process = &config.process;
    assert_eq!((process.workers, process.admin), (0, "127.0.0.1:9900".parse().unwrap()));
    assert_eq!(process.shutdown_deadline.as_secs(), 30);
    assert_eq!((process.upgrade_deadline, process.upgrade_timeout.as_secs()), (None, 60));
    assert!(process.proxy_protocol.is_empty());
    let limits = &process.limits;
    assert_eq!((limits.header_size, limits.headers, limits.uri), (32 << 10, 100, 32 << 10));
    assert_eq!(limits.connections, None);
    assert_eq!((limits.handshake_timeout.as_secs(), limits.header_timeout.as_secs()), (10, 10));
    let listener = &config.games[0].listeners[0];
    let timeouts = [
        listener.idle_timeout,
        listener.header_timeout,
        listener.body_timeout,
        listener.write_timeout,
    ];
    assert_eq!(timeouts.map(|timeout| timeout.as_secs()), [60, 10, 60, 60]);
    assert_eq!((listener.max_body, listener.max_requests, listener.address), (None, None, None));
    assert!(listener.access.is_open() && listener.trusted_proxies.is_empty());
    let group = &config.games[0].groups[0];
    assert_eq!((group.balance.name(), group.keepalive, group.max_idle), ("wrr", true, 2048));
    let timeouts = [group.idle_timeout, group.connect_timeout, group.response_timeout];
    assert_eq!(timeouts.map(|timeout| timeout.as_secs()), [60, 5, 60]);
}

#[test]
fn every_key_of_lockgate_toml_arrives() {
    let text = "workers = 3\n\
        admin = { address = \"[::1]:0\" }\n\
        limits = { connections = 5, header_size = \"1KiB\", headers = 10, uri = 256, handshake_timeout = \"1s\", header_timeout = \"2s\" }\n\
        shutdown = { deadline = \"0s\", lame_duck = \"1h\" }\n\
        upgrade = { deadline = \"2h\", timeout = \"3s\" }\n\
        proxy_protocol = { peers = [\"10.0.0.0/8\", \"fd00::1\"] }\n\
        log = { access = \"a.log\", format = \"combined\", level = \"warn\" }\n\
        [defaults.listener]\nidle_timeout = \"15s\"\nmax_body = \"1MiB\"\ntrusted_proxies = [\"10.0.0.0/8\"]\ntls = \"1.3\"\n\
        [defaults.group]\nbalance = \"rr\"\nkeepalive = false\nresponse_timeout = \"7s\"\n";
    let own = smallest() + "balance = \"p2c\"\n";
    let other = game("b.com", 8080, "10.0.0.1:80").replace("port", "max_body = 0\nport");
    let dir = dir(&[("lockgate.toml", text), ("a.toml", &own), ("b.toml", &other)]);
    let loaded = load(dir.path());
    assert_eq!(said(&dir, &loaded), Vec::<String>::new());
    let config = loaded.config.unwrap();
    let process = &config.process;
    assert_eq!((process.workers, process.admin), (3, "[::1]:0".parse().unwrap()));
    assert_eq!((process.shutdown_deadline.as_secs(), process.lame_duck.as_secs()), (0, 3600));
    assert_eq!(process.upgrade_deadline.unwrap().as_secs(), 7200);
    assert_eq!(process.upgrade_timeout.as_secs(), 3);
    let is_peer = |address: &str| process.proxy_protocol.contains(address.parse().unwrap());
    assert!(is_peer("10.1.1.1") && is_peer("fd00::1") && !is_peer("11.1.1.1"));
    let limits = &process.limits;
    assert_eq!((limits.header_size, limits.headers, limits.uri), (1024, 10, 256));
    assert_eq!(limits.connections, Some(5));
    assert_eq!((limits.handshake_timeout.as_secs(), limits.header_timeout.as_secs()), (1, 2));
    let log = process.access_log.as_ref().unwrap();
    let place = Place { file: dir.path().join("lockgate.toml"), line: 7 };
    assert_eq!((log.path.clone(), &log.place), (Some(dir.path().join("a.log")), &place));
    assert_eq!((log.format, process.log_level), (LogFormat::Combined, LogLevel::Warn));
    let [a, b] = [0, 1].map(|at| &config.games[at]);
    assert_eq!(a.listeners[0].idle_timeout.as_secs(), 15);
    assert!(a.listeners[0].trusted_proxies.contains("10.1.1.1".parse().unwrap()));
    assert_eq!(a.listeners[0].max_body, Some(1 << 20));
    assert_eq!(b.listeners[0].max_body, None, "a drop-in may take a default back");
    assert_eq!((a.groups[0].balance.name(), b.groups[0].balance.name()), ("p2c", "rr"));
    assert!(!a.groups[0].keepalive);
    assert_eq!(b.groups[0].response_timeout.as_secs(), 7);
}

#[test]
fn a_bad_lockgate_toml_leaves_no_config() {
    let cases = [
        ("wokers = 1", "lockgate.toml:1:1 error unknown key `wokers` in `lockgate.toml`"),
        ("workers = 1025", "lockgate.toml:1:11 error `workers` is out of range: `1025`"),
        ("admin = 9900", "lockgate.toml:1:9 error `admin` must be a table, not an integer"),
        (
            "[admin]\naddress = \"9900\"",
            "lockgate.toml:2:11 error `address`: `9900` is not `IP:PORT`",
        ),
        (
            "[limits]\nconnections = 0",
            "lockgate.toml:2:15 error `connections` is out of range: `0`",
        ),
        (
            "[limits]\nheader_size = 1023",
            "lockgate.toml:2:15 error `header_size` is out of range: `1023`",
        ),
        ("[limits]\nheaders = 9", "lockgate.toml:2:11 error `headers` is out of range: `9`"),
        ("[limits]\nuri = \"2MiB\"", "lockgate.toml:2:7 error `uri` is out of range: `2MiB`"),
        (
            "[limits]\nhandshake_timeout = \"2h\"",
            "lockgate.toml:2:21 error `handshake_timeout` is out of range: `2h`",
        ),
        (
            "[shutdown]\ndeadline = \"61m\"",
            "lockgate.toml:2:12 error `deadline` is out of range: `61m`",
        ),
        ("[upgrade]\ntimeout = \"6m\"", "lockgate.toml:2:11 error `timeout` is out of range: `6m`"),
        (
            "[defaults.group]\nbalance = \"hash\"",
            "lockgate.toml:2:11 error `hash` cannot be the default of all groups",
        ),
        (
            "[defaults.listener]\nport = 80",
            "lockgate.toml:2:1 error unknown key `port` in `[defaults.listener]` of `lockgate.toml`",
        ),
        (
            "[defaults.listener]\nidle_timeout = \"x\"",
            "lockgate.toml:2:16 error `idle_timeout`: `x` is not a duration",
        ),
        ("[log]\naccess = \"on\"", "lockgate.toml:2:10 error `access` cannot be `on`"),
        ("[log]\nformat = \"clf\"", "lockgate.toml:2:10 error `format` cannot be `clf`"),
        ("[proxy_protocol]\npeers = []", "lockgate.toml:2:9 error `peers` is an empty list"),
        (
            "[proxy_protocol]",
            "lockgate.toml:1:1 error `[proxy_protocol]` of `lockgate.toml` needs `peers`",
        ),
        (
            "[proxy_protocol]\npeers = [\"10.0.0.1/8\"]",
            "lockgate.toml:2:10 error `peers`: `10.0.0.1/8` has bits after its prefix",
        ),
        (
            "[proxy_protocol]\npeer = \"10.0.0.1\"",
            "lockgate.toml:2:1 error unknown key `peer` in `[proxy_protocol]` of `lockgate.toml`",
        ),
        (
            "proxy_protocol = true",
            "lockgate.toml:1:18 error `proxy_protocol` must be a table, not a boolean",
        ),
        (
            "[defaults.listener]\nhttp2 = 1",
            "lockgate.toml:2:9 error `http2` must be a boolean, not an integer",
        ),
        (
            "workers =",
            "lockgate.toml:1:10 error string values must be quoted, expected literal string",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(process_says(text), [expected], "{text}");
    }
}
