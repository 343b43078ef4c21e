//! What clients met, by group; and what groups are.

use std::fmt;

use super::text::Out;
use crate::control::counted::CLASS_NAMES;
use crate::proxy::Cause;
use crate::state::{Backend, Group, Snapshot, Takers, Trust};
use crate::telemetry::counts::{Durations, RequestSums};

/// Whose requests these are; empty: no group's, or no game's.
struct Row<'a> {
    game: &'a str,
    group: &'a str,
    sums: RequestSums,
}

fn rows(snapshot: &Snapshot) -> Vec<Row<'_>> {
    let mut rows = vec![Row { game: "", group: "", sums: snapshot.requests.sum() }];
    for game in &snapshot.games {
        let name = &*game.config.name;
        rows.push(Row { game: name, group: "", sums: game.requests.sum() });
        rows.extend(game.groups.iter().map(|group| Row {
            game: name,
            group: &group.config.name,
            sums: group.requests.sum(),
        }));
    }
    rows
}

pub(super) fn encode(out: &mut Out<'_>, snapshot: &Snapshot) -> fmt::Result {
    let rows = rows(snapshot);
    let mut requests =
        out.counter("lockgate_requests", "Requests by the class of the status the client got.")?;
    for Row { game, group, sums } in &rows {
        for (class, count) in CLASS_NAMES.iter().zip(sums.by_class) {
            // There is always a status, but in a dead end.
            if *class != "none" || count > 0 {
                requests.add(&[("game", game), ("group", group), ("class", class)], count)?;
            }
        }
    }
    let mut failures = out.counter(
        "lockgate_request_failures",
        "Requests that failed, by cause; a cause is there once it happened.",
    )?;
    for Row { game, group, sums } in &rows {
        for (cause, count) in Cause::NAMES.iter().zip(sums.by_cause) {
            if count > 0 {
                failures.add(&[("game", game), ("group", group), ("cause", cause)], count)?;
            }
        }
    }
    for (name, help, of) in BYTES {
        let mut bytes = out.counter(name, help)?;
        for Row { game, group, sums } in &rows {
            bytes.add(&[("game", game), ("group", group)], of(sums))?;
        }
    }
    let groups = || rows.iter().filter(|row| !row.group.is_empty());
    for (name, help, of) in DURATIONS {
        let mut histogram = out.histogram(name, help)?;
        for Row { game, group, sums } in groups() {
            histogram.add(&[("game", game), ("group", group)], of(sums))?;
        }
    }
    available(out, snapshot)
}

type Bytes = fn(&RequestSums) -> u64;
type Took = fn(&RequestSums) -> &Durations;

const BYTES: [(&str, &str, Bytes); 2] = [
    ("lockgate_request_received_bytes", "Bytes of bodies from clients.", |sums| sums.received),
    ("lockgate_request_sent_bytes", "Bytes of bodies to clients.", |sums| sums.sent),
];

const DURATIONS: [(&str, &str, Took); 3] = [
    (
        "lockgate_request_duration_seconds",
        "From a request's head to its response's end, WebSockets left out.",
        |sums| &sums.took,
    ),
    (
        "lockgate_upstream_connect_seconds",
        "How long new connections to backends took, with their TLS handshake.",
        |sums| &sums.connect,
    ),
    (
        "lockgate_upstream_header_seconds",
        "From an attempt's beginning to the header of the backend's response.",
        |sums| &sums.header,
    ),
];

fn available(out: &mut Out<'_>, snapshot: &Snapshot) -> fmt::Result {
    let mut available = out.gauge(
        "lockgate_group_available_backends",
        "Backends that take new requests at the moment.",
    )?;
    for group in snapshot.groups() {
        available.set(&[("game", &group.game), ("group", &group.config.name)], takers(group))?;
    }
    Ok(())
}

/// With those of which nothing is known yet, but not those that `all_down = "try"`
/// tries in spite of what is known.
fn takers(group: &Group) -> u64 {
    let circles = group.circles().filter(|takers| takers.trust() != Trust::Anybody);
    let count = |takers: Takers<'_>| {
        let takes = |(place, backend): (usize, &Backend)| {
            takers.take(place) && backend.config.weight > 0 && backend.is_resolved()
        };
        group.backends.iter().enumerate().map(|one| u64::from(takes(one))).sum()
    };
    circles.map(count).max().unwrap_or_default()
}
