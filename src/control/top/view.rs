//! A view as a table.

use unicode_width::UnicodeWidthChar as _;

use super::sample::{Rates, View};
use crate::control::condition::Level;
use crate::control::terminal::{Colour, columns, left, plain, right};

/// The columns after the name, each as wide.
const TITLES: [(&str, usize); 9] = [
    ("health", 11),
    ("req/s", 8),
    ("5xx/s", 7),
    ("failed/s", 9),
    ("p50", 8),
    ("p99", 8),
    ("in flight", 10),
    ("tunnels", 8),
    ("players", 8),
];
/// The name's.
const NAMES: (usize, usize) = (20, 44);

/// The whole table, whatever fits.
pub(super) fn table(view: &View, colours: bool) -> String {
    let View { version, pid, generation, connections, tunnels, seconds, all, .. } = view;
    let mut text = format!(
        "lockgate {}, process {pid}, generation {generation}, connections {connections}, \
         WebSockets {tunnels}\n{} requests/s, {} 5xx/s, {} failed/s, p50 {}, p99 {}, over {} s\n\n",
        plain(version),
        rate(all.per_second),
        rate(all.of_5xx_per_second),
        rate(all.failed_per_second),
        time(all.p50_seconds),
        time(all.p99_seconds),
        rate(*seconds),
    );
    let names = view.groups.iter().flat_map(|group| {
        let backends = group.backends.iter().map(|backend| columns(&plain(&backend.name)) + 2);
        let name = name(group.game.as_deref(), group.group.as_deref());
        backends.chain([columns(&plain(&name))])
    });
    let width = names.max().unwrap_or_default().clamp(NAMES.0, NAMES.1);
    text.push_str(&left("group, backends", width));
    TITLES.iter().for_each(|(title, wide)| text.push_str(&right(title, *wide)));
    text.push_str("  causes/s\n");
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    for group in &view.groups {
        let name = name(group.game.as_deref(), group.group.as_deref());
        let now = [number(group.in_flight), group.tunnels.to_string(), number(group.players)];
        text.push_str(&row(&name, width, ("", Level::Good), &group.rates, &now, colours));
        for backend in &group.backends {
            let name = format!("  {}", backend.name);
            let [in_flight, tunnels] = [backend.in_flight, backend.tunnels].map(|n| n.to_string());
            let now = [in_flight, tunnels, number(backend.players)];
            let health = (&*backend.health, backend.level);
            text.push_str(&row(&name, width, health, &backend.rates, &now, colours));
        }
    }
    text
}

fn name(game: Option<&str>, group: Option<&str>) -> String {
    match (game, group) {
        (Some(game), Some(group)) => format!("{game}/{group}"),
        (Some(game), None) => format!("{game}, in no group"),
        (None, _) => "in no game".to_owned(),
    }
}

fn row(
    name: &str,
    width: usize,
    (health, level): (&str, Level),
    rates: &Rates,
    now: &[String; 3],
    colours: bool,
) -> String {
    let [in_flight, tunnels, players] = now;
    let cells = [
        health,
        &rate(rates.per_second),
        &rate(rates.of_5xx_per_second),
        &rate(rates.failed_per_second),
        &time(rates.p50_seconds),
        &time(rates.p99_seconds),
        in_flight,
        tunnels,
        players,
    ];
    let mut row = left(&plain(name), width);
    for (cell, (_, wide)) in cells.iter().zip(TITLES) {
        row.push_str(&right(&plain(cell), wide));
    }
    let mut causes: Vec<_> = rates.causes_per_second.iter().collect();
    causes.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let causes = causes.iter().map(|(cause, often)| format!("{} {}", plain(cause), rate(**often)));
    let causes: Vec<String> = causes.collect();
    if !causes.is_empty() {
        row = format!("{row}  {}", causes.join(", "));
    }
    let is_bad = rates.errors_per_second > 0.0 || level <= Level::Warn;
    match colours && is_bad {
        true => Colour::Red.paint(&row) + "\n",
        false => row + "\n",
    }
}

/// Three digits say enough.
fn rate(often: f64) -> String {
    match often {
        0.0 => "0".to_owned(),
        ..0.095 => format!("{often:.2}"),
        ..9.95 => format!("{often:.1}"),
        ..99_999.5 => format!("{often:.0}"),
        _ => format!("{:.0}k", often / 1000.0),
    }
}

fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(..0.00995) => format!("{:.1} ms", seconds.unwrap_or_default() * 1000.0),
        Some(seconds @ ..0.9995) => format!("{:.0} ms", seconds * 1000.0),
        Some(seconds @ ..9.95) => format!("{seconds:.1} s"),
        // Of the bucket without an end.
        Some(60.0..) => "> 60 s".to_owned(),
        Some(seconds) => format!("{seconds:.0} s"),
    }
}

/// As a screen of this size is written over: lines are cut, and what is beyond
/// them is left out.
pub(super) fn fitted(text: &str, rows: usize, columns: usize) -> String {
    let mut out = "\x1b[H".to_owned();
    for (at, line) in text.lines().take(rows).enumerate() {
        if at > 0 {
            out.push_str("\r\n");
        }
        out.push_str(&cut(line, columns));
        out.push_str("\x1b[K");
    }
    out.push_str("\x1b[J");
    out
}

/// What fits into so many columns; what sets a colour takes none.
fn cut(line: &str, columns: usize) -> String {
    let mut out = String::new();
    let mut left = columns;
    let mut is_code = false;
    for c in line.chars() {
        match c {
            '\x1b' => is_code = true,
            _ if is_code => is_code = c != 'm',
            _ => match left.checked_sub(c.width().unwrap_or_default()) {
                Some(rest) => left = rest,
                // A narrower one that fits after it would be out of its place.
                None => {
                    left = 0;
                    continue;
                }
            },
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_never_overrun() {
        let text = "12345\n\x1b[31m12345\x1b[0m\n3\n";
        assert_eq!(fitted(text, 2, 4), "\x1b[H1234\x1b[K\r\n\x1b[31m1234\x1b[0m\x1b[K\x1b[J");
        assert_eq!(fitted("游侠1\n", 1, 4), "\x1b[H游侠\x1b[K\x1b[J");
        assert_eq!(fitted("a游侠1\n", 1, 4), "\x1b[Ha游\x1b[K\x1b[J");
        assert_eq!(fitted("1\n", 9, 9), "\x1b[H1\x1b[K\x1b[J");
    }

    #[test]
    fn numbers_are_short() {
        let rates = [0.0, 0.04, 0.5, 9.96, 1234.5, 250_000.0].map(rate);
        assert_eq!(rates, ["0", "0.04", "0.5", "10", "1234", "250k"]);
        let times =
            [None, Some(0.0004), Some(0.05), Some(0.9996), Some(59.0), Some(60.0)].map(time);
        assert_eq!(times, ["-", "0.4 ms", "50 ms", "1.0 s", "59 s", "> 60 s"]);
    }
}
