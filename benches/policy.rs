//! What a decision costs: nanoseconds and heap allocations per operation of
//! routing, picking and sticky cookies.
//!
//! `cargo bench --bench policy`. Each figure is the fastest of several rounds,
//! because whatever else the machine does only makes a round slower.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench prints, and may stop"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use lockgate::policy::balance::{Balance, Cursor, Draw, HashKey, Member, Schedule, key_hash, pick};
use lockgate::policy::health::Blame;
use lockgate::policy::route::{Domain, HostName, HostTable, PathTable, normalize_path};
use lockgate::policy::sticky::cookies::{CookieNames, token_of, token_place, values, without_ours};
use lockgate::policy::sticky::{
    Bound, GroupKeys, InsertToken, KeyRing, Life, RewriteToken, Seconds, Secret,
};
use lockgate::state::{Group, Snapshot};

/// How long one round lasts, and how many there are.
const ROUND: Duration = Duration::from_millis(20);
const ROUNDS: usize = 4;

fn main() {
    host_names();
    host_tables();
    path_tables();
    paths();
    picks();
    picks_of_a_sick_group();
    bookkeeping();
    tokens();
    cookie_fields();
}

/// Prints what one call of `work` costs. It gets the number of the call.
fn measure(name: &str, mut work: impl FnMut(usize)) {
    let mut best = f64::INFINITY;
    let mut call = 0;
    for _ in 0..ROUNDS {
        let mut calls = 0_u32;
        let start = Instant::now();
        let mut spent = Duration::ZERO;
        while spent < ROUND {
            for _ in 0..64 {
                work(call);
                call += 1;
            }
            calls += 64;
            spent = start.elapsed();
        }
        best = best.min(spent.as_secs_f64() * 1e9 / f64::from(calls));
    }
    // Of many calls: one that sometimes grows something shows too.
    let counted = allocation_counter::measure(|| (call..call + 1024).for_each(&mut work));
    let allocations = counted.count_total as f64 / 1024.0;
    println!("{name:<44} {best:>9.1} ns {allocations:>6.2} allocations");
}

fn host_names() {
    for authority in ["youxia.com:8030", "Room17.Region-3.Youxia.Example.com"] {
        measure(&format!("HostName::parse {authority}"), |_| {
            black_box(HostName::parse(black_box(authority.as_bytes())));
        });
    }
}

fn host_tables() {
    for games in [10, 10_000] {
        let mut table = HostTable::new();
        for game in 0..games {
            table.insert(&Domain::parse(&format!("game{game}.example.com")).unwrap(), game);
            table.insert(&Domain::parse(&format!("*.game{game}.example.com")).unwrap(), game);
        }
        let hosts = |before: &str| -> Vec<String> {
            (0..1024).map(|n| format!("{before}game{}.example.com", n * 7919 % games)).collect()
        };
        for (kind, before) in [("exact", ""), ("wildcard", "a.b."), ("none", "no-")] {
            let hosts = hosts(before);
            measure(&format!("HostTable::find {kind}, {games} games"), |call| {
                black_box(table.find(black_box(&hosts[call % hosts.len()])));
            });
        }
    }
}

fn path_tables() {
    for count in [10, 1_000, 100_000] {
        let rules = (0..count).map(|n| (format!("/games/{}/room{n}/", n % 97).into_bytes(), n));
        let table = PathTable::build(rules.collect()).unwrap();
        let paths: Vec<String> = (0..1024)
            .map(|n| n * 7919 % count)
            .map(|n| format!("/games/{}/room{n}/assets/main.js", n % 97))
            .collect();
        measure(&format!("PathTable::find, {count} rules"), |call| {
            black_box(table.find(black_box(paths[call % paths.len()].as_bytes())));
        });
    }
}

fn paths() {
    let mut scratch = Vec::new();
    for path in [
        "/",
        "/test/jtt/login?user=1",
        "/static/assets/images/sprites/hero-walk-0017.png?v=20240101",
        "/test/%6Att/../jtt//login?user=1",
    ] {
        measure(&format!("normalize_path {path:.28}"), |_| {
            let path = normalize_path(black_box(path.as_bytes()), &mut scratch);
            black_box(path.map_or(0, <[u8]>::len));
        });
    }
    measure("key_hash, 14 bytes", |_| {
        black_box(key_hash(black_box(b"10.0.0.21:9030")));
    });
}

fn picks() {
    let balances = [
        ("wrr equal", Balance::Wrr),
        ("wrr", Balance::Wrr),
        ("rr", Balance::Rr),
        ("wlc", Balance::Wlc),
        ("p2c", Balance::P2c),
        ("hash", Balance::Hash(HashKey::ClientIp)),
    ];
    for (name, balance) in balances {
        for count in [3, 100, 1000] {
            let weight = |n: u32| {
                if name == "wrr equal" { 100 } else { 50 + n % 3 * 50 }
            };
            let members: Vec<Member> = (0..count)
                .map(|n| Member { weight: weight(n), backup: false, seed: u64::from(n) })
                .collect();
            let schedule = Schedule::new(&balance, &members);
            let mut cursor = Cursor::new(&schedule, 0);
            // The caller looks into memory for both.
            let up = vec![true; members.len()];
            let loads: Vec<u32> = (0..count).map(|n| n * 31 % 7).collect();
            let (up, loads) = (black_box(up), black_box(loads));
            measure(&format!("pick {name}, {count} members"), |call| {
                let key = (call as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let draw = Draw { key, chance: key };
                black_box(pick(&schedule, &mut cursor, draw, |n| up[n], |n| loads[n]));
            });
        }
    }
}

const NOW: Seconds = 1_800_000_000;

/// What one secret is to a group of 30 backends.
/// A group as requests see it: so many backends, the balance as a drop-in writes
/// it, and whose weights differ if they are to.
fn snapshot(count: usize, balance: &str, uneven: bool) -> Snapshot {
    let backend = |n: usize| {
        let weight = if uneven { 50 + n % 3 * 50 } else { 100 };
        format!("{{ address = \"10.0.{}.{}:80\", weight = {weight} }}", n / 250, n % 250 + 1)
    };
    let backends: Vec<String> = (0..count).map(backend).collect();
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("listeners.d")).unwrap();
    let text = format!(
        "[[listener]]\ndomain = \"a.test\"\nport = 80\nprotocol = \"http\"\ngroup = \"web\"\n\
         [group.web]\nbalance = \"{balance}\"\nbackends = [{}]\n",
        backends.join(", ")
    );
    std::fs::write(dir.path().join("listeners.d/a.toml"), text).unwrap();
    let config = lockgate::config::load(dir.path()).config.unwrap();
    Snapshot::build(config, KeyRing::new(vec![secret()]), None).0
}

/// Of so many backends these are ejected.
fn picks_of_a_sick_group() {
    for (name, balance) in [
        ("wrr equal", "wrr"),
        ("wrr", "wrr"),
        ("wlc", "wlc"),
        ("p2c", "p2c"),
        ("hash", "hash\"\nhash_key = \"client_ip"),
    ] {
        for ejected in [0, 900] {
            let snapshot = snapshot(1000, balance, name == "wrr");
            let group = snapshot.groups().next().unwrap();
            // One request each, so that no pick finds an idle one and stops there.
            let busy = group.backends.iter().filter(|backend| backend.enter()).count();
            assert_eq!(busy, 1000);
            (0..ejected).for_each(|at| group.note_failure(at, Blame::Unreachable, "a bench"));
            let mut cursor = Cursor::new(&group.schedule, 0);
            measure(&format!("pick {name} of 1000, {ejected} ejected"), |call| {
                black_box(pick_of(group, &mut cursor, call));
            });
        }
    }
}

fn pick_of(group: &Group, cursor: &mut Cursor, call: usize) -> Option<usize> {
    let draw = Draw { key: call as u64 * 7919, chance: call as u64 * 104_729 };
    let takers = group.takers();
    pick(&group.schedule, cursor, draw, |at| takers.take(at), |at| group.backends[at].load())
}

/// All that health has to do with a request that succeeds: who may be picked,
/// the pick, its trial, its success.
fn bookkeeping() {
    let snapshot = snapshot(3, "wrr", false);
    let group = snapshot.groups().next().unwrap();
    let mut cursor = Cursor::new(&group.schedule, 0);
    measure("health of a healthy request, 3 backends", |call| {
        let place = pick_of(group, &mut cursor, call).unwrap();
        assert!(group.admit(place));
        group.note_success(place);
        if call.is_multiple_of(32) {
            group.note_requests(32);
        }
    });
}

fn secret() -> Secret {
    Secret { material: vec![7; 32], signs_from: 0, retired: None }
}

fn keys() -> GroupKeys {
    let names: Vec<String> = (0..30).map(|n| format!("room-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    GroupKeys::derive(&KeyRing::new(vec![secret()]), "youxia", "web", &names)
}

fn tag(call: usize) -> u32 {
    u32::try_from(call % 100_000).unwrap()
}

fn bound(call: usize) -> Bound {
    Bound { backend: Some(call % 30), first: NOW - 500, last: NOW - 100, tag: tag(call) }
}

fn tokens() {
    let keys = keys();
    let life = Life { idle: 3600, max_life: None };
    let inserted: Vec<InsertToken> =
        (0..64).map(|n| InsertToken::sign(&keys, bound(n), NOW).unwrap()).collect();
    let rewritten: Vec<RewriteToken> =
        (0..64).map(|n| RewriteToken::sign(&keys, n % 30, tag(n), NOW).unwrap()).collect();
    measure("InsertToken::verify, Life::check", |call| {
        let value = black_box(inserted[call % inserted.len()].as_bytes());
        black_box(life.check(InsertToken::verify(&keys, value, NOW).unwrap(), NOW)).unwrap();
    });
    measure("InsertToken::sign", |call| {
        black_box(InsertToken::sign(&keys, black_box(bound(call)), NOW));
    });
    measure("RewriteToken::verify", |call| {
        let value = black_box(rewritten[call % rewritten.len()].as_bytes());
        black_box(RewriteToken::verify(&keys, value, NOW)).unwrap();
    });
    measure("RewriteToken::sign", |call| {
        black_box(RewriteToken::sign(&keys, black_box(call % 30), tag(call), NOW));
    });
}

/// What a browser sends after some visits: six cookies, 400 bytes, ours the
/// fourth.
fn cookie_field(ours: &str) -> Vec<u8> {
    let field = format!(
        "_ga=GA1.1.1729386547.1767225600; lang=zh-CN; theme=dark; {ours}; \
         session=eyJ1aWQiOjEwMDg2LCJsdmwiOjQyfQ; consent="
    );
    format!("{field}{}", "x".repeat(400 - field.len())).into_bytes()
}

fn cookie_fields() {
    let keys = keys();
    let token = InsertToken::sign(&keys, bound(1), NOW).unwrap();
    let text = std::str::from_utf8(token.as_bytes()).unwrap();
    let inserted = cookie_field(&format!("SERVERID={text}"));
    let insert = CookieNames { inserted: vec!["SERVERID".to_owned()], rewritten: Vec::new() };
    let token = RewriteToken::sign(&keys, 1, 1, NOW).unwrap();
    let text = std::str::from_utf8(token.as_bytes()).unwrap();
    let rewritten = cookie_field(&format!("GAMESID={text}8c14e45fceea167a"));
    let rewrite = CookieNames { inserted: Vec::new(), rewritten: vec!["GAMESID".to_owned()] };
    measure("find, 6 cookies of 400 bytes", |_| {
        black_box(values(black_box(&inserted), b"SERVERID").next()).unwrap();
    });
    measure("strip an inserted one of 6", |_| {
        black_box(without_ours(black_box(&inserted), &insert)).unwrap();
    });
    measure("find the token of a rewritten one of 6", |_| {
        black_box(values(black_box(&rewritten), b"GAMESID").find_map(token_of)).unwrap();
    });
    measure("strip the token of a rewritten one of 6", |_| {
        black_box(without_ours(black_box(&rewritten), &rewrite)).unwrap();
    });
    measure("strip where there is none of ours", |_| {
        black_box(without_ours(black_box(&inserted), &rewrite));
    });
    measure("token_place, Set-Cookie of 60 bytes", |_| {
        let line = b"GAMESID=8c14e45fceea167a5a36dedd4bea2543; Path=/; HttpOnly";
        black_box(token_place(black_box(line), b"GAMESID")).unwrap();
    });
}
