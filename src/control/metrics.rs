//! `/metrics`: what was counted, as Prometheus reads it. README lists all of it.
//! Labels have values of the configuration, or of short lists of ours: never what
//! a client sent.

mod backends;
mod process;
mod requests;
mod text;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::admin::Status;
use crate::policy::sticky::Reject;
use crate::proxy::{CookieCounts, Doors};
use crate::state::Snapshot;
use crate::telemetry::panics;
use text::Out;

/// Whether the last reload, or the start, took everything as it is written, and
/// when that was.
#[derive(Debug, Default)]
pub(super) struct Taken(Cell<Option<(bool, SystemTime)>>);

impl Taken {
    /// It is done.
    pub(super) fn note(&self, good: bool) {
        self.0.set(Some((good, SystemTime::now())));
    }
}

/// The page in one of its two forms.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) content_type: &'static str,
    pub(super) text: String,
}

/// What there is to tell at one moment.
#[derive(Debug)]
struct Scrape {
    snapshot: Arc<Snapshot>,
    /// By backend; `None`: a worker did not say.
    players: Option<HashMap<u64, usize>>,
    /// Requests in flight, likewise.
    in_flight: Option<HashMap<u64, u32>>,
    /// Likewise.
    cookies: Option<CookieCounts>,
    connections: usize,
    /// By their names.
    doors: [(&'static str, &'static str, u64); 4],
    max_connections: usize,
    /// Threads that serve.
    workers: usize,
    /// Lines of the access log.
    lost_lines: u64,
    taken: Option<(bool, SystemTime)>,
    /// The names of files.
    refused: BTreeSet<String>,
}

/// The page, in the form that these headers ask for; `None`: there are no workers
/// to ask yet.
pub(super) async fn page(status: &Status, headers: &HeaderMap) -> Option<Page> {
    let asker = status.asker.get()?;
    let (snapshot, tally) = asker.tally().await;
    let is_whole = tally.is_whole();
    let shared = asker.shared();
    let backends = snapshot.groups().flat_map(|group| &group.backends);
    let players = backends.map(|one| (one.id(), tally.players(one))).collect();
    let backends = snapshot.groups().flat_map(|group| &group.backends);
    let in_flight = backends.map(|one| (one.id(), tally.in_flight(one))).collect();
    let cookies = tally.cookies;
    let scrape = Scrape {
        snapshot,
        // Sums without one of them would look like counters that began anew.
        players: is_whole.then_some(players),
        in_flight: is_whole.then_some(in_flight),
        cookies: is_whole.then_some(cookies),
        doors: doors(&shared.doors),
        connections: shared.connections.load(Ordering::Relaxed),
        max_connections: shared.max_connections,
        workers: asker.workers().iter().filter(|worker| !worker.is_closed()).count(),
        lost_lines: shared.access.lost(),
        taken: status.taken.0.get(),
        refused: asker.refused(),
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    // A `String` takes all that is written.
    let _ = encode(&mut text, &registry);
    let accepted = headers.get_all(http::header::ACCEPT).iter();
    let mut accepted = accepted.filter_map(|accept| accept.to_str().ok());
    Some(match accepted.any(|accept| accept.contains("application/openmetrics-text")) {
        true => Page {
            content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
            text,
        },
        false => Page {
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            text: text::classic(&text),
        },
    })
}

fn doors(doors: &Doors) -> [(&'static str, &'static str, u64); 4] {
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    [
        (
            "lockgate_connections_accepted",
            "Connections of clients that were accepted.",
            count(&doors.accepted),
        ),
        (
            "lockgate_connections_refused",
            "Connections that were turned away: the most were open.",
            count(&doors.refused),
        ),
        (
            "lockgate_tls_handshake_failures",
            "Connections that failed to shake hands; not those that just left.",
            count(&doors.tls),
        ),
        (
            "lockgate_proxy_header_failures",
            "Connections without the PROXY header that their peer owes.",
            count(&doors.proxy),
        ),
    ]
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        requests::encode(&mut out, &self.snapshot)?;
        let (players, in_flight) = (self.players.as_ref(), self.in_flight.as_ref());
        backends::encode(&mut out, &self.snapshot, players, in_flight)?;
        self.clients(&mut out)?;
        self.configuration(&mut out)?;
        process::encode(&mut out)
    }
}

impl Scrape {
    fn clients(&self, out: &mut Out<'_>) -> fmt::Result {
        let mut cookies = out.counter(
            "lockgate_sticky_cookies",
            "Requests to sticky groups by what their cookie was worth.",
        )?;
        if let Some(counts) = &self.cookies {
            cookies.add(&[("verdict", "absent")], counts.absent)?;
            cookies.add(&[("verdict", "good")], counts.good)?;
            for (reject, count) in Reject::ALL.iter().zip(counts.rejected) {
                cookies.add(&[("verdict", reject.name())], count)?;
            }
        }
        out.gauge("lockgate_connections", "Connections of clients.")?
            .set(&[], self.connections as u64)?;
        for (name, help, count) in self.doors {
            out.counter(name, help)?.add(&[], count)?;
        }
        out.gauge("lockgate_connections_max", "The most of them that are accepted.")?
            .set(&[], self.max_connections as u64)?;
        out.gauge("lockgate_workers", "Threads that serve.")?.set(&[], self.workers as u64)?;
        out.counter("lockgate_panics", "Bugs of lockgate, each of which ended a connection.")?
            .add(&[], panics::count())?;
        out.counter("lockgate_access_log_lost", "Lines of the access log that were not written.")?
            .add(&[], self.lost_lines)
    }

    fn configuration(&self, out: &mut Out<'_>) -> fmt::Result {
        out.gauge("lockgate_config_generation", "The number of the configuration that serves.")?
            .set(&[], self.snapshot.generation)?;
        let (good, at) = self.taken.unwrap_or((false, UNIX_EPOCH));
        out.gauge(
            "lockgate_config_last_reload_success",
            "1: the last reload, or the start, took everything as it is written.",
        )?
        .set(&[], u64::from(good))?;
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        out.gauge("lockgate_config_last_reload_timestamp_seconds", "When that was.")?
            .set(&[], at.as_secs_f64())?;
        let mut trouble = out.gauge(
            "lockgate_files_in_trouble",
            "1 for each file that is not served as it is written.",
        )?;
        for file in &self.refused {
            trouble.set(&[("file", file)], 1_u64)?;
        }
        self.certificates(out)?;
        out.gauge("lockgate_build_info", "1; its label says the version.")?
            .set(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64)
    }

    fn certificates(&self, out: &mut Out<'_>) -> fmt::Result {
        // On several ports a domain may have several: the first to end counts.
        let mut ends = BTreeMap::new();
        for listener in self.snapshot.listeners() {
            let Some(tls) = &listener.config.tls else { continue };
            let Some(end) = crate::config::certificate_end(&tls.certificate) else { continue };
            let end = end.unix_timestamp();
            let mut domains: Vec<String> =
                listener.config.domains.iter().map(ToString::to_string).collect();
            if domains.is_empty() {
                domains.push("default".to_owned());
            }
            for domain in domains {
                let known = ends.entry((&*listener.game, domain)).or_insert(end);
                *known = end.min(*known);
            }
        }
        let mut expiry = out.gauge(
            "lockgate_certificate_expiry_timestamp_seconds",
            "When the certificate of a domain ends.",
        )?;
        for ((game, domain), end) in &ends {
            expiry.set(&[("game", game), ("domain", domain)], *end)?;
        }
        Ok(())
    }
}
