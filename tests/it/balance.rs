//! How a backend is picked: SEMANTICS rows SC, the four hash keys, backups,
//! `maint` and `max_connections`. One worker, so that cycles are exact.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Backend, Client, Gate, Site, SiteBuilder, eventually};

/// How often each backend answered `count` requests of one connection.
#[track_caller]
fn shares(site: &Site, count: usize) -> BTreeMap<String, usize> {
    let mut client = site.connect();
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        *shares.entry(client.get("a.test", "/").expect(200).backend()).or_default() += 1;
    }
    shares
}

fn share(shares: &BTreeMap<String, usize>, name: &str) -> usize {
    shares.get(name).copied().unwrap_or_default()
}

#[test]
fn sc_01_rr_ignores_weights() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let site = Site::http()
        .group("balance = \"rr\"")
        .backend_with(&b1, "weight = 100")
        .backend_with(&b2, "weight = 10")
        .start();
    let shares = shares(&site, 200);
    assert!(share(&shares, "B1").abs_diff(100) <= 1, "{shares:?}");
    assert_eq!(share(&shares, "B1") + share(&shares, "B2"), 200);
}

#[test]
fn sc_02_wrr_is_smooth() {
    let (a, b, c) = (Backend::named("a"), Backend::named("b"), Backend::named("c"));
    let site = Site::http()
        .group("balance = \"wrr\"")
        .backend_with(&a, "weight = 5")
        .backend_with(&b, "weight = 1")
        .backend_with(&c, "weight = 1")
        .start();
    let mut client = site.connect();
    let mut pick = || client.get("a.test", "/").expect(200).backend();
    // Each start begins somewhere else in the cycle: `c` stands there once.
    assert!((0..7).any(|_| pick() == "c"));
    for _ in 0..3 {
        let order: Vec<String> = (0..7).map(|_| pick()).collect();
        assert_eq!(order, ["a", "a", "a", "a", "b", "a", "c"]);
    }
}

/// Not everybody's first request after a start goes to the first backend.
#[test]
fn a_start_begins_anywhere_in_the_cycle() {
    let backends: Vec<Backend> = (0..8).map(|n| Backend::named(&format!("B{n}"))).collect();
    let mut first = BTreeSet::new();
    for _ in 0..12 {
        let site = backends.iter().fold(Site::http(), SiteBuilder::backend).start();
        first.insert(site.get("/").expect(200).backend());
    }
    // All twelve alike would be a chance of 8 to the -11.
    assert!(first.len() > 1, "{first:?}");
}

#[test]
fn sc_03_wrr_is_the_default_and_keeps_to_the_weights() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let site =
        Site::http().backend_with(&b1, "weight = 100").backend_with(&b2, "weight = 50").start();
    let shares = shares(&site, 300);
    assert_eq!((share(&shares, "B1"), share(&shares, "B2")), (200, 100));
}

#[test]
fn sc_03_weights_hold_over_all_workers() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let site = Site::http()
        .workers(2)
        .backend_with(&b1, "weight = 100")
        .backend_with(&b2, "weight = 50")
        .start();
    for _ in 0..150 {
        site.get("/").expect(200);
    }
    // Exact for each worker; the last cycle of each may be incomplete.
    assert!(b1.executions().abs_diff(100) <= 2, "{}", b1.executions());
}

/// A backend that holds `/hold` until the gate opens.
fn holding(name: &str, gate: &Gate) -> Backend {
    let gate = gate.clone();
    Backend::scripted(name, move |exchange| {
        if exchange.request().target() == "/hold" {
            gate.pass();
        }
        exchange.echo();
    })
}

/// Clients whose requests are held at backends.
#[track_caller]
fn hold(site: &Site, count: usize, held: impl Fn() -> usize) -> Vec<Client> {
    let before = held();
    (1..=count)
        .map(|number| {
            let mut client = site.connect();
            client.send("GET /hold HTTP/1.1\r\nHost: a.test\r\n\r\n");
            eventually("a backend holds the request", || held() == before + number);
            client
        })
        .collect()
}

fn loaded_backend_is_avoided(balance: &str) {
    let (first, second) = (Gate::default(), Gate::default());
    let (b1, b2) = (holding("B1", &first), holding("B2", &second));
    let site =
        Site::http().group(&format!("balance = \"{balance}\"")).backend(&b1).backend(&b2).start();
    let mut clients = hold(&site, 20, || b1.executions() + b2.executions());
    assert_eq!((b1.executions(), b2.executions()), (10, 10));
    second.open();
    eventually("B2 is free", || {
        clients.retain_mut(|client| !client.has_bytes());
        clients.len() == 10
    });
    // Ten requests are held at B1, none at B2.
    let shares = shares(&site, 5);
    assert_eq!(share(&shares, "B1"), 0, "{shares:?}");
    first.open();
    for mut client in clients {
        client.read().expect(200);
    }
}

#[test]
fn sc_04_wlc_avoids_the_loaded_backend() {
    loaded_backend_is_avoided("wlc");
}

#[test]
fn p2c_avoids_the_loaded_backend() {
    loaded_backend_is_avoided("p2c");
}

#[test]
fn sc_04_wlc_counts_by_weight() {
    let gate = Gate::default();
    let (b1, b2) = (holding("B1", &gate), holding("B2", &gate));
    let site = Site::http()
        .group("balance = \"wlc\"")
        .backend_with(&b1, "weight = 300")
        .backend_with(&b2, "weight = 100")
        .start();
    let _clients = hold(&site, 12, || b1.executions() + b2.executions());
    assert_eq!((b1.executions(), b2.executions()), (9, 3));
    gate.open();
}

#[test]
fn sc_06_weight_0_takes_nothing_new() {
    for balance in ["wrr", "rr", "wlc", "p2c"] {
        let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
        let site = Site::http()
            .group(&format!("balance = \"{balance}\""))
            .backend_with(&b1, "weight = 0")
            .backend(&b2)
            .start();
        assert_eq!(share(&shares(&site, 100), "B2"), 100, "{balance}");
        b1.assert_untouched();
    }
}

/// Each of these requests reaches the same backend every time, and not all of
/// them the same one.
#[track_caller]
fn assert_consistent(site: &Site, requests: &[String]) {
    let mut client = site.connect();
    let mut backends = BTreeSet::new();
    for request in requests {
        let picked: BTreeSet<String> =
            (0..3).map(|_| client.request(request).expect(200).backend()).collect();
        assert_eq!(picked.len(), 1, "{request:?} reached {picked:?}");
        backends.extend(picked);
    }
    assert_eq!(backends.len(), 3, "only {backends:?}");
}

fn three(backends: &[Backend; 3], key: &str) -> SiteBuilder {
    let mut site = Site::http().group(&format!("balance = \"hash\"\nhash_key = \"{key}\""));
    for backend in backends {
        site = site.backend(backend);
    }
    site
}

fn requests(make: impl Fn(usize) -> String) -> Vec<String> {
    (0..40).map(|number| format!("GET {}\r\n\r\n", make(number))).collect()
}

#[test]
fn hash_by_header_cookie_and_path() {
    let backends = ["B1", "B2", "B3"].map(Backend::named);
    let site = three(&backends, "header:X-Room").start();
    assert_consistent(
        &site,
        &requests(|n| format!("/ HTTP/1.1\r\nHost: a.test\r\nx-room: room{n}")),
    );
    let site = three(&backends, "cookie:room").start();
    assert_consistent(
        &site,
        &requests(|n| format!("/ HTTP/1.1\r\nHost: a.test\r\nCookie: a=1; room=r{n}; b=2")),
    );
    let site = three(&backends, "path").start();
    assert_consistent(&site, &requests(|n| format!("/room/{n} HTTP/1.1\r\nHost: a.test")));
}

#[test]
fn hash_by_path_ignores_the_query() {
    let backends = ["B1", "B2", "B3"].map(Backend::named);
    let site = three(&backends, "path").start();
    let mut client = site.connect();
    let picked: BTreeSet<String> = (0..20)
        .map(|number| client.get("a.test", &format!("/room?{number}")).expect(200).backend())
        .collect();
    assert_eq!(picked.len(), 1, "{picked:?}");
}

#[test]
fn hash_by_client_ip_sees_through_trusted_proxies() {
    let backends = ["B1", "B2", "B3"].map(Backend::named);
    let site = three(&backends, "client_ip").listener("trusted_proxies = [\"127.0.0.1\"]").start();
    assert_consistent(
        &site,
        &requests(|n| format!("/ HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 10.0.0.{n}")),
    );
    // From others the peer itself is the key, whatever they claim.
    let site = three(&backends, "client_ip").start();
    let picked: BTreeSet<String> = (0..20)
        .map(|n| {
            let claim =
                format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 10.0.0.{n}\r\n\r\n");
            site.request(claim).expect(200).backend()
        })
        .collect();
    assert_eq!(picked.len(), 1, "{picked:?}");
}

#[test]
fn hash_moves_few_keys_when_a_backend_goes() {
    let backends = ["B1", "B2", "B3"].map(Backend::named);
    let all = three(&backends, "path").start();
    let fewer = Site::http()
        .group("balance = \"hash\"\nhash_key = \"path\"")
        .backend(&backends[0])
        .backend(&backends[1])
        .backend_with(&backends[2], "state = \"maint\"")
        .start();
    let (mut before, mut after) = (all.connect(), fewer.connect());
    for room in 0..60 {
        let target = format!("/room/{room}");
        let old = before.get("a.test", &target).expect(200).backend();
        let new = after.get("a.test", &target).expect(200).backend();
        if old != "B3" {
            assert_eq!(old, new, "{target} moved without need");
        }
    }
}

#[test]
fn a_backup_serves_only_when_nobody_else_can() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let site = Site::http().backend(&b1).backend_with(&b2, "backup = true").start();
    assert_eq!(share(&shares(&site, 20), "B1"), 20);
    b2.assert_untouched();
    let site = Site::http()
        .backend_with(&b1, "state = \"maint\"")
        .backend_with(&b2, "backup = true")
        .start();
    assert_eq!(share(&shares(&site, 20), "B2"), 20);
}

#[test]
fn maint_gets_nothing_and_all_maint_is_502() {
    let (b1, b2) = (Backend::named("B1"), Backend::named("B2"));
    let site = Site::http().backend_with(&b1, "state = \"maint\"").backend(&b2).start();
    assert_eq!(share(&shares(&site, 20), "B2"), 20);
    let site = Site::http().backend_with(&b1, "state = \"maint\"").start();
    site.get("/").expect(502);
    site.lockgate.wait_for_log(&["cause=no_available_backend"]);
    b1.assert_untouched();
}

#[test]
fn max_connections_fills_one_backend_after_the_other_then_503() {
    let gate = Gate::default();
    let (b1, b2) = (holding("B1", &gate), holding("B2", &gate));
    let site = Site::http()
        .backend_with(&b1, "max_connections = 2")
        .backend_with(&b2, "max_connections = 1")
        .start();
    let clients = hold(&site, 3, || b1.executions() + b2.executions());
    assert_eq!((b1.executions(), b2.executions()), (2, 1));
    let full = site.get("/").expect(503);
    assert_eq!(full.values("retry-after").len(), 1, "{full:?}");
    site.lockgate.wait_for_log(&["cause=limit", "request_id="]);
    gate.open();
    for mut client in clients {
        client.read().expect(200);
    }
    eventually("there is room again", || site.get("/").status == 200);
}

#[test]
fn max_connections_holds_over_all_workers() {
    let gate = Gate::default();
    let b1 = holding("B1", &gate);
    let site = Site::http().workers(2).backend_with(&b1, "max_connections = 4").start();
    let _clients = hold(&site, 4, || b1.executions());
    for _ in 0..10 {
        site.get("/hold").expect(503);
    }
    assert_eq!(b1.executions(), 4);
    gate.open();
}

#[test]
fn a_full_backend_overflows_to_the_backup() {
    let gate = Gate::default();
    let (b1, b2) = (holding("B1", &gate), Backend::named("B2"));
    let site = Site::http()
        .backend_with(&b1, "max_connections = 1")
        .backend_with(&b2, "backup = true")
        .start();
    let _clients = hold(&site, 1, || b1.executions());
    assert_eq!(site.get("/").expect(200).backend(), "B2");
    gate.open();
}
