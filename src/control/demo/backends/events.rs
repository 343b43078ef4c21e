//! Server-sent events of a demo backend: one a second, with a counter.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::http1::{Field, LAST_CHUNK, chunk_prefix};

use super::Backend;
use super::wire::Wire;

pub(super) const KIND: &str = "text/event-stream";
/// After so many the answer ends; a browser comes back and counts on.
const MAX_EVENTS: u64 = 600;
const PACE: Duration = Duration::from_secs(1);

/// The last event who asks has seen, here or at another backend.
pub(super) fn seen(head: &[u8], fields: &[Field]) -> u64 {
    let id = fields
        .iter()
        .find(|field| field.name.of(head).eq_ignore_ascii_case(b"last-event-id"))
        .and_then(|field| std::str::from_utf8(field.value.of(head)).ok()?.parse::<u32>().ok());
    id.map_or(0, u64::from)
}

/// Sends the answer's body, until whoever listens is gone.
pub(super) async fn send(
    wire: &mut Wire,
    backend: &Backend,
    seen: u64,
    chunked: bool,
) -> io::Result<()> {
    let mut leaving = backend.leaving.clone();
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for count in seen + 1..=seen + MAX_EVENTS {
        tokio::select! {
            _ = ticks.tick() => {}
            () = wire.left() => return Ok(()),
            _ = leaving.wait_for(|leaving| *leaving) => break,
        }
        let event = event(backend, count);
        if chunked {
            let mut out = chunk_prefix(event.len(), &mut [0; 18]).to_vec();
            out.extend_from_slice(event.as_bytes());
            out.extend_from_slice(b"\r\n");
            wire.write(&out).await?;
        } else {
            wire.write(event.as_bytes()).await?;
        }
    }
    if chunked {
        wire.write(&[LAST_CHUNK, b"\r\n"].concat()).await?;
    }
    Ok(())
}

fn event(backend: &Backend, count: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let data = json!({
        "count": count,
        "backend": backend.name(),
        "number": backend.place + 1,
        "time": u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
    });
    format!("id: {count}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests;
