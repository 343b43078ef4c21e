//! The status as a table, for people.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::{BackendStatus, HeldStatus, Status};

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { version, pid, generation, connections, tunnels, .. } = self;
        let Status { refused, games, certificates, .. } = self;
        writeln!(
            f,
            "lockgate {version}, process {pid}, generation {generation}, connections \
             {connections}, WebSockets {tunnels}"
        )?;
        refused.iter().try_for_each(|trouble| write!(f, "\n{trouble}"))?;
        for game in games {
            for group in &game.groups {
                writeln!(f, "\n{}/{}", game.name, group.name)?;
                group.backends.iter().try_for_each(|backend| write!(f, "{backend}"))?;
            }
        }
        if !certificates.is_empty() {
            writeln!(f, "\ncertificates")?;
        }
        certificates.iter().try_for_each(|one| write!(f, "{one}"))
    }
}

impl fmt::Display for HeldStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HeldStatus { game, connections, requests, tunnels, oldest } = self;
        let game = game.as_deref().unwrap_or("(no request yet)");
        let (hours, minutes, seconds) = (oldest / 3600, oldest / 60 % 60, oldest % 60);
        write!(
            f,
            "  {game:<28} connections {connections:<6} in a request {requests:<6} WebSockets \
             {tunnels:<6} oldest {hours}h{minutes:02}m{seconds:02}s"
        )
    }
}

impl fmt::Display for BackendStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let probe = self.probe.as_ref();
        let health = match (probe.and_then(|probe| probe.up), &self.ejected) {
            (Some(false), _) => "down",
            (None, _) if probe.is_some_and(|probe| probe.waits) => "waiting for its first probes",
            (_, Some(_)) => "ejected",
            (Some(true), None) => "up",
            (None, None) => "-",
        };
        let players = self.players.map_or_else(|| "-".to_owned(), |players| players.to_string());
        write!(
            f,
            "  {:<28} {:<6} {health:<8} weight {:<5} players {players:<6} tunnels {}",
            self.name, self.state, self.weight, self.tunnels
        )?;
        match self.state_since {
            None => writeln!(f),
            Some(since) => {
                let since = SystemTime::UNIX_EPOCH + Duration::from_secs(since);
                let since = httpdate::fmt_http_date(since);
                writeln!(f, "  {} by the operator since {since}", self.state)
            }
        }
    }
}
