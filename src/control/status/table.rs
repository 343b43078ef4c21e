//! The status as a table, for people.

use std::fmt;

use super::games::BackendStatus;
use super::{HeldStatus, Status};
use crate::control::condition::{Condition, GroupCondition, Level};
use crate::control::terminal::left;
use crate::control::times::shown;

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
                writeln!(f, "\n{}/{}{}", game.name, group.name, group.condition)?;
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

/// What is to be said of it, if it is not well: `: nobody serves`.
impl fmt::Display for GroupCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GroupCondition { word, level, why, .. } = self;
        match (level, &**why) {
            (Level::Good | Level::Note, _) => Ok(()),
            (_, "") => write!(f, ": {word}"),
            (_, why) => write!(f, ": {word}, {why}"),
        }
    }
}

impl fmt::Display for BackendStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let players = self.players.map_or_else(|| "-".to_owned(), |players| players.to_string());
        let Condition { word, level, why, since, .. } = &self.condition;
        let (name, word) = (left(&self.name, 28), left(word, 10));
        write!(
            f,
            "  {name} {word} weight {:<5} players {players:<6} tunnels {}",
            self.weight, self.tunnels
        )?;
        match (self.state_since, since) {
            (Some(since), _) => {
                write!(f, "  {} by the operator since {}", self.state, shown(since))?;
            }
            (None, Some(since)) if *level <= Level::Warn => {
                write!(f, "  {why}, since {}", shown(*since))?;
            }
            _ if !why.is_empty() => write!(f, "  {why}")?,
            _ => {}
        }
        match &self.last_failure {
            Some(last) => writeln!(f, "  last failure {} at {}", last.cause, shown(last.at)),
            None => writeln!(f),
        }
    }
}
