//! What became of attempts at backends, and how these are. No histograms: with a
//! thousand backends they would be nine tenths of the page.

use std::collections::HashMap;
use std::fmt;

use super::text::{Label, Out};
use crate::config::AdminState;
use crate::control::counted::{CLASS_NAMES, seconds};
use crate::proxy::Cause;
use crate::state::{Backend, Group, Snapshot};
use crate::telemetry::counts::AttemptSums;

struct Row<'a> {
    group: &'a Group,
    place: usize,
    backend: &'a Backend,
    sums: AttemptSums,
}

impl<'a> Row<'a> {
    fn labels(&self) -> [Label<'a>; 3] {
        [
            ("game", &self.group.game),
            ("group", &self.group.config.name),
            ("backend", &self.backend.config.name),
        ]
    }

    fn labels_and(&self, more: Label<'a>) -> [Label<'a>; 4] {
        let [game, group, backend] = self.labels();
        [game, group, backend, more]
    }
}

pub(super) fn encode(
    out: &mut Out<'_>,
    snapshot: &Snapshot,
    players: Option<&HashMap<u64, usize>>,
    in_flight: Option<&HashMap<u64, u32>>,
) -> fmt::Result {
    let rows: Vec<Row<'_>> = snapshot
        .groups()
        .flat_map(|group| group.backends.iter().enumerate().map(move |one| (&**group, one)))
        .map(|(group, (place, backend))| Row {
            group,
            place,
            backend,
            sums: backend.attempts().sum(),
        })
        .collect();
    attempts(out, &rows)?;
    amounts(out, &rows)?;
    health(out, &rows)?;
    let mut gauge = out.gauge(
        "lockgate_players",
        "Clients that brought their cookie in the last five minutes; of sticky groups.",
    )?;
    if let Some(players) = players {
        for row in rows.iter().filter(|row| row.group.sticky.is_some()) {
            let count = players.get(&row.backend.id()).copied().unwrap_or_default();
            gauge.set(&row.labels(), count as u64)?;
        }
    }
    let mut requests = out.gauge(
        "lockgate_backend_in_flight",
        "Requests it has at the moment, open WebSockets included.",
    )?;
    if let Some(in_flight) = in_flight {
        for row in &rows {
            let count = in_flight.get(&row.backend.id()).copied().unwrap_or_default();
            requests.set(&row.labels(), count + row.backend.tunnels())?;
        }
    }
    let mut most = out.gauge(
        "lockgate_backend_max_connections",
        "The most of them it may have; absent where there is no limit.",
    )?;
    for row in &rows {
        if let Some(max) = row.backend.config.max_connections {
            most.set(&row.labels(), max)?;
        }
    }
    let mut tunnels = out.gauge("lockgate_tunnels", "Open WebSockets.")?;
    for row in &rows {
        tunnels.set(&row.labels(), row.backend.tunnels())?;
    }
    Ok(())
}

fn attempts(out: &mut Out<'_>, rows: &[Row<'_>]) -> fmt::Result {
    let mut attempts = out.counter(
        "lockgate_attempts",
        "Attempts at backends by the class of the status they answered with; none: no answer.",
    )?;
    for row in rows {
        for (class, count) in CLASS_NAMES.iter().zip(row.sums.by_class) {
            attempts.add(&row.labels_and(("class", class)), count)?;
        }
    }
    let mut failures = out.counter(
        "lockgate_attempt_failures",
        "Attempts that failed, by cause; a cause is there once it happened.",
    )?;
    for row in rows {
        for (cause, count) in Cause::NAMES.iter().zip(row.sums.by_cause) {
            if count > 0 {
                failures.add(&row.labels_and(("cause", cause)), count)?;
            }
        }
    }
    Ok(())
}

type Count = fn(&AttemptSums) -> u64;

const COUNTS: [(&str, &str, Count); 6] = [
    ("lockgate_retries", "Attempts that followed one that had failed.", |sums| sums.retries),
    ("lockgate_backend_sent_bytes", "Bytes of bodies to the backend.", |sums| sums.sent),
    ("lockgate_backend_received_bytes", "Bytes of bodies from the backend.", |sums| sums.received),
    ("lockgate_tunnel_sent_bytes", "Bytes of WebSockets to the backend.", |sums| sums.tunnel_sent),
    ("lockgate_tunnel_received_bytes", "Bytes of WebSockets from the backend.", |sums| {
        sums.tunnel_received
    }),
    ("lockgate_backend_connects", "New connections to the backend.", |sums| sums.connect.count()),
];

const TIMES: [(&str, &str, Count); 2] = [
    ("lockgate_backend_connect_seconds", "What they took, with their TLS handshake.", |sums| {
        sums.connect.sum
    }),
    (
        "lockgate_backend_header_seconds",
        "What answered attempts took until the header; over their number the mean.",
        |sums| sums.header.sum,
    ),
];

fn amounts(out: &mut Out<'_>, rows: &[Row<'_>]) -> fmt::Result {
    for (name, help, of) in COUNTS {
        let mut counter = out.counter(name, help)?;
        rows.iter().try_for_each(|row| counter.add(&row.labels(), of(&row.sums)))?;
    }
    for (name, help, of) in TIMES {
        let mut counter = out.counter(name, help)?;
        rows.iter().try_for_each(|row| counter.add(&row.labels(), seconds(of(&row.sums))))?;
    }
    Ok(())
}

type State = fn(&Row<'_>) -> bool;

const STATES: [(&str, &str, State); 2] = [
    ("lockgate_backend_up", "0: its probes find it down, or its name has no address.", |row| {
        let standing = row.group.standing(row.place);
        !standing.is_some_and(|standing| standing.down) && row.backend.is_resolved()
    }),
    ("lockgate_backend_ejected", "1: it is kept out for requests that failed.", |row| {
        row.group.standing(row.place).is_some_and(|standing| standing.ejected.is_some())
    }),
];

fn health(out: &mut Out<'_>, rows: &[Row<'_>]) -> fmt::Result {
    for (name, help, is) in STATES {
        let mut gauge = out.gauge(name, help)?;
        rows.iter().try_for_each(|row| gauge.set(&row.labels(), u64::from(is(row))))?;
    }
    let mut state =
        out.gauge("lockgate_backend_state", "What the operator wants: 0 ready, 1 drain, 2 maint.")?;
    for row in rows {
        let number: u64 = match row.backend.admin_state() {
            AdminState::Ready => 0,
            AdminState::Drain => 1,
            AdminState::Maint => 2,
        };
        state.set(&row.labels(), number)?;
    }
    Ok(())
}
