//! Certificates that come to their end: in `/status.json`, and in the log of a
//! process that nobody asks.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;
use tracing::{error, warn};

use super::changes::called;
use crate::config::{Diagnostic, Game, Place, Severity, certificate_end};
use crate::state::Snapshot;

/// This long before its end a certificate should have been renewed.
const SOON: Duration = Duration::days(14);
/// How often it is told.
const AGAIN: Duration = Duration::days(1);
/// Nothing is waited for longer than this: the clock may be set.
const LOOK: Duration = Duration::hours(1);

/// How a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Good,
    ExpiresSoon,
    Expired,
}

impl Phase {
    fn of(end: OffsetDateTime, now: OffsetDateTime) -> Phase {
        if now > end {
            Phase::Expired
        } else if now > end - SOON {
            Phase::ExpiresSoon
        } else {
            Phase::Good
        }
    }
}

/// A listener's certificate.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CertificateStatus {
    game: String,
    /// As a reload names it.
    listener: String,
    domains: Vec<String>,
    ports: Vec<u16>,
    /// The last second it is valid, since 1970.
    expires: i64,
    /// Whole days; below 0: since then it is expired.
    days_left: i64,
    state: Phase,
}

impl fmt::Display for CertificateStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.days_left;
        let left = match self.state {
            Phase::Good => format!("{days} days left"),
            Phase::ExpiresSoon => format!("WARNING: {days} days left"),
            Phase::Expired => format!("WARNING: expired {} days ago", -days),
        };
        let domains = self.domains.join(", ");
        writeln!(f, "  {:<28} {left:<28} {domains}", self.listener)
    }
}

/// The certificates of all listeners.
pub(super) fn certificates(snapshot: &Snapshot, now: OffsetDateTime) -> Vec<CertificateStatus> {
    let status =
        |(game, config, end): (_, &crate::config::Listener, OffsetDateTime)| CertificateStatus {
            game,
            listener: called(config),
            domains: config.domains.iter().map(ToString::to_string).collect(),
            ports: config.ports.clone(),
            expires: end.unix_timestamp(),
            days_left: (end - now).whole_days(),
            state: Phase::of(end, now),
        };
    ends(snapshot).map(status).collect()
}

/// The certificates of a game that end soon; of one that has ended the reading
/// tells.
pub fn expiring(game: &Game) -> impl Iterator<Item = Diagnostic> {
    let now = OffsetDateTime::now_utc();
    game.listeners.iter().filter_map(move |listener| {
        let end = certificate_end(&listener.tls.as_ref()?.certificate)?;
        (Phase::of(end, now) == Phase::ExpiresSoon).then(|| {
            let place = Place { file: game.file.clone(), line: listener.line };
            let (days, date) = ((end - now).whole_days(), end.date());
            let message =
                format!("the certificate of this listener ends in {days} days, on {date}");
            Diagnostic::of_line(Severity::Warning, &place, message)
                .hint("put a renewed one in its place before that")
        })
    })
}

fn ends(
    snapshot: &Snapshot,
) -> impl Iterator<Item = (String, &crate::config::Listener, OffsetDateTime)> {
    snapshot.listeners().filter_map(|listener| {
        let end = certificate_end(&listener.config.tls.as_ref()?.certificate)?;
        Some((listener.game.to_string(), &*listener.config, end))
    })
}

/// A game, one of its listeners, and when that one's certificate ends.
type Key = (String, String, OffsetDateTime);

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Watch {
    told: BTreeMap<Key, (Phase, OffsetDateTime)>,
    /// The snapshot that was looked at, and when the next look is due.
    looked: Option<(u64, Instant)>,
}

impl Watch {
    /// Of which certificates it is time to tell: when one comes near its end, when
    /// it ends, and every day from then on. And when to ask again.
    fn due(&mut self, now: OffsetDateTime, all: Vec<Key>) -> (Vec<(Key, Phase)>, OffsetDateTime) {
        let mut next = now + LOOK;
        let mut due = Vec::new();
        // What is gone or was renewed is forgotten.
        let before = std::mem::take(&mut self.told);
        for key in all {
            let (phase, end) = (Phase::of(key.2, now), key.2);
            let change = match phase {
                Phase::Good => end - SOON,
                Phase::ExpiresSoon => end,
                Phase::Expired => next,
            };
            // The last moment is one of the time before.
            next = next.min(change + Duration::SECOND);
            if phase == Phase::Good {
                continue;
            }
            let told = before.get(&key).filter(|(then, at)| *then == phase && now < *at + AGAIN);
            let at = told.map_or(now, |(_, at)| *at);
            next = next.min(at + AGAIN);
            if self.told.insert(key.clone(), (phase, at)).is_none() && told.is_none() {
                due.push((key, phase));
            }
        }
        (due, next)
    }

    /// Tells the log what is due. Says until when nothing more will be.
    pub(super) fn tell(&mut self, snapshot: &Snapshot) -> Instant {
        if let Some((generation, next)) = self.looked
            && generation == snapshot.generation
            && Instant::now() < next
        {
            return next;
        }
        let now = OffsetDateTime::now_utc();
        let keys = ends(snapshot).map(|(game, config, end)| (game, called(config), end));
        let (due, next) = self.due(now, keys.collect());
        for ((game, listener, end), phase) in due {
            let (date, days_left) = (end.date(), (end - now).whole_days());
            match phase {
                Phase::Good => {}
                Phase::ExpiresSoon => {
                    warn!(game, listener, expires = %date, days_left, "certificate expires soon");
                }
                Phase::Expired => {
                    error!(game, listener, expired = %date, "certificate expired");
                }
            }
        }
        let next = Instant::now() + (next - now).unsigned_abs();
        self.looked = Some((snapshot.generation, next));
        next
    }
}
