//! What a decision costs: nanoseconds per operation of routing and picking.
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
use lockgate::policy::route::{Domain, HostName, HostTable, PathTable, normalize_path};

/// How long one round lasts, and how many there are.
const ROUND: Duration = Duration::from_millis(20);
const ROUNDS: usize = 4;

fn main() {
    host_names();
    host_tables();
    path_tables();
    paths();
    picks();
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
    println!("{name:<44} {best:>9.1} ns");
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
