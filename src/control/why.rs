//! `lockgate why`: one request that failed or was retried, explained from what was
//! told of it when it was done.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

/// What of [`RequestLine`](crate::telemetry::line::RequestLine) is shown.
#[derive(Debug, Deserialize)]
struct Told {
    time: String,
    request_id: String,
    generation: u64,
    game: Option<String>,
    listener: Option<String>,
    rule: Option<String>,
    group: Option<String>,
    client: IpAddr,
    peer: SocketAddr,
    port: u16,
    method: Option<String>,
    host: Option<String>,
    path: Option<String>,
    protocol: Option<String>,
    status: u16,
    cause: Option<String>,
    phase: Option<String>,
    detail: Option<String>,
    received: u64,
    sent: u64,
    ms: Option<f64>,
    sticky: Option<String>,
    #[serde(default)]
    attempts: Vec<Attempt>,
}

#[derive(Debug, Deserialize)]
struct Attempt {
    backend: String,
    status: Option<u16>,
    cause: Option<String>,
    phase: Option<String>,
    detail: Option<String>,
    connect_ms: Option<f64>,
    header_ms: Option<f64>,
    ms: f64,
}

/// The line as text for people.
///
/// # Errors
/// It is none of this version's.
pub fn explained(line: &[u8]) -> Result<String, serde_json::Error> {
    let told: Told = serde_json::from_slice(line)?;
    let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = writeln!(out, "request {} at {}: {}", told.request_id, told.time, verdict(&told));
    let _ = writeln!(
        out,
        "  {} {}{} ({}, port {}) from {}{}",
        shown(&told.method),
        shown(&told.host),
        shown(&told.path),
        shown(&told.protocol),
        told.port,
        told.client,
        if told.peer.ip() == told.client {
            String::new()
        } else {
            format!(" through {}", told.peer)
        },
    );
    match &told.game {
        None => out.push_str("  no listener took it\n"),
        Some(game) => {
            let _ = writeln!(
                out,
                "  game {game}, listener {}, rule {}, group {}, generation {}",
                shown(&told.listener),
                shown(&told.rule),
                shown(&told.group),
                told.generation
            );
        }
    }
    if let Some(sticky) = &told.sticky {
        let _ = writeln!(out, "  sticky: {sticky}");
    }
    for (n, attempt) in told.attempts.iter().enumerate() {
        let _ = writeln!(out, "  attempt {} at {}: {}", n + 1, attempt.backend, attempt.verdict());
    }
    let (received, sent) = (told.received, told.sent);
    let _ = write!(out, "  body bytes: {received} received, {sent} sent");
    match told.ms {
        Some(took) => drop(writeln!(out, "; {took} ms in all")),
        None => out.push('\n'),
    }
    Ok(out)
}

fn verdict(told: &Told) -> String {
    match &told.cause {
        None => format!("{}, after more than one attempt", told.status),
        Some(_) => {
            format!("{}, {}", told.status, fault(&told.cause, &told.phase, &told.detail))
        }
    }
}

fn fault(cause: &Option<String>, phase: &Option<String>, detail: &Option<String>) -> String {
    let mut text = cause.clone().unwrap_or_default();
    if let Some(phase) = phase {
        text.push_str(&format!(" in phase {phase}"));
    }
    if let Some(detail) = detail {
        text.push_str(&format!(" ({detail})"));
    }
    text
}

impl Attempt {
    fn verdict(&self) -> String {
        let mut parts = Vec::new();
        match self.connect_ms {
            Some(took) => parts.push(format!("connected after {took} ms")),
            None if self.header_ms.is_some() => parts.push("on a kept connection".to_owned()),
            None => {}
        }
        if let (Some(status), Some(took)) = (self.status, self.header_ms) {
            parts.push(format!("{status} after {took} ms"));
        }
        if self.cause.is_some() {
            let fault = fault(&self.cause, &self.phase, &self.detail);
            parts.push(format!("{fault} after {} ms", self.ms));
        }
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_stands_on_a_line_of_its_own() {
        let line = br#"{"time":"2027-01-15T08:00:00.250Z","request_id":"17","generation":3,
            "game":"youxia","listener":"youxia.com","rule":"/","group":"web","client":"10.0.0.1",
            "peer":"127.0.0.1:5000","port":8030,"method":"GET","host":"youxia.com:8030",
            "path":"/a","protocol":"HTTP/1.1","status":504,"cause":"header_timeout",
            "phase":"response","received":0,"sent":33,"ms":5012.5,"sticky":"new","attempts":[
            {"backend":"one","cause":"connect_refused","phase":"connect","detail":"refused",
            "ms":0.2},{"backend":"two","cause":"header_timeout","phase":"response",
            "connect_ms":0.1,"ms":5000.0}]}"#;
        let text = explained(line).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "request 17 at 2027-01-15T08:00:00.250Z: 504, header_timeout in phase response",
                "  GET youxia.com:8030/a (HTTP/1.1, port 8030) from 10.0.0.1 through 127.0.0.1:5000",
                "  game youxia, listener youxia.com, rule /, group web, generation 3",
                "  sticky: new",
                "  attempt 1 at one: connect_refused in phase connect (refused) after 0.2 ms",
                "  attempt 2 at two: connected after 0.1 ms, header_timeout in phase response after \
                 5000 ms",
                "  body bytes: 0 received, 33 sent; 5012.5 ms in all",
            ]
        );
        assert!(explained(b"{}").is_err());
        let line = std::str::from_utf8(line).unwrap();
        for (peer, through) in [("10.0.0.1:5000", false), ("10.0.0.12:5000", true)] {
            let text = explained(line.replace("127.0.0.1:5000", peer).as_bytes()).unwrap();
            assert_eq!(text.contains("through"), through, "{text}");
        }
        let line = line.replace("127.0.0.1:5000", "[fd00::1]:5000").replace("10.0.0.1", "fd00::1");
        assert!(!explained(line.as_bytes()).unwrap().contains("through"));
    }
}
