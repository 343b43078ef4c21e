//! Asks backends whether they can serve: one task for each backend of a group
//! with `probe`, whatever the number of workers, on connections of its own.

mod ask;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ClientConfig;
use rustls::client::Resumption;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::config::{Probe, Upstream, show_duration};
use crate::policy::health::Transition;
use crate::state::{Backend, ProbeResult, Snapshot};

/// First probes are spread over this long, or over their interval if that is
/// shorter: a start with a thousand backends is no burst, and no long wait.
const SPREAD: Duration = Duration::from_secs(2);

/// The running probes; they end when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Prober {
    /// By the backend's id, with what it asks.
    tasks: HashMap<u64, (Probe, JoinHandle<()>)>,
}

/// A backend that is probed, and what of its group that needs.
#[derive(Debug)]
struct Target {
    game: Arc<str>,
    group: Arc<str>,
    backend: Backend,
    probe: Probe,
    upstream: Upstream,
    /// For `https`.
    tls: Option<Arc<ClientConfig>>,
}

/// Why a probe was no good.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    cause: &'static str,
    detail: String,
    status: Option<u16>,
    /// Something that this machine lacks; it says nothing of the backend.
    own: bool,
}

impl Prober {
    /// Probes the backends of the first snapshot.
    pub(super) fn following(snapshot: &Snapshot) -> Prober {
        let mut prober = Prober::default();
        prober.follow(snapshot);
        prober
    }

    /// Probes the backends of this snapshot: those that are probed already go
    /// on, those that are not in it any more are left.
    pub(super) fn follow(&mut self, snapshot: &Snapshot) {
        let mut before = std::mem::take(&mut self.tasks);
        for target in targets(snapshot) {
            let id = target.backend.id();
            if before
                .get(&id)
                .is_some_and(|(probe, task)| *probe == target.probe && !task.is_finished())
            {
                self.tasks.extend(before.remove_entry(&id));
                continue;
            }
            self.tasks.insert(id, (target.probe.clone(), spawn_local(keep(target))));
        }
        before.values().for_each(|(_, task)| task.abort());
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.tasks.values().for_each(|(_, task)| task.abort());
    }
}

/// How many connections probes of this snapshot may have open at once.
pub(super) fn connections(snapshot: &Snapshot) -> usize {
    let probed = snapshot.groups().filter(|group| group.config.probe.is_some());
    probed.map(|group| group.backends.len()).sum()
}

fn targets(snapshot: &Snapshot) -> impl Iterator<Item = Target> {
    snapshot.groups().flat_map(|group| {
        let probe = group.config.probe.as_ref();
        // A session that is resumed would not show a certificate gone bad.
        let tls = group.tls.as_ref().filter(|_| probe.is_some()).map(|config| {
            let mut config = ClientConfig::clone(config);
            config.resumption = Resumption::disabled();
            Arc::new(config)
        });
        group.backends.iter().filter_map(move |backend| {
            Some(Target {
                game: Arc::clone(&group.game),
                group: Arc::clone(&group.config.name),
                backend: backend.clone(),
                probe: probe?.clone(),
                upstream: group.config.protocol.clone(),
                tls: tls.clone(),
            })
        })
    })
}

/// Probes one backend for as long as it is there.
async fn keep(target: Target) {
    let dice = Dice::new(target.backend.id());
    let ask = || ask::ask(&target);
    rounds(target.probe.interval, dice, ask, |answer, took| target.note(answer, took)).await;
}

/// One probe after the other.
async fn rounds<T>(
    interval: Duration,
    mut dice: Dice,
    ask: impl AsyncFn() -> T,
    mut note: impl FnMut(T, Duration),
) {
    sleep(interval.min(SPREAD).mul_f64(dice.roll())).await;
    loop {
        let begun = Instant::now();
        let answer = ask().await;
        note(answer, begun.elapsed());
        sleep(interval.mul_f64(0.9 + dice.roll() / 5.0)).await;
    }
}

impl Target {
    fn note(&self, answer: Result<Option<u16>, Fault>, took: Duration) {
        let (game, group, backend) = (&*self.game, &*self.group, &*self.backend.config.name);
        let (status, fault) = match answer {
            Ok(status) => (status, None),
            Err(fault) if fault.own => {
                warn!(game, group, backend, detail = fault.detail, "cannot probe");
                return;
            }
            Err(fault) => (fault.status, Some((fault.cause, fault.detail))),
        };
        let good = fault.is_none();
        let told = fault.clone();
        let result = ProbeResult { good, status, fault, at: SystemTime::now(), took };
        let Some(change) = self.backend.note_probe(result, self.probe.thresholds) else { return };
        let lasted = show_duration(in_seconds(change.lasted));
        match (change.to, told) {
            (Transition::Up, _) => info!(game, group, backend, %lasted, "backend up"),
            (Transition::Down, told) => {
                let (cause, detail) = told.unwrap_or_default();
                warn!(game, group, backend, %cause, detail, %lasted, "backend down");
            }
        }
    }
}

/// Milliseconds matter to nobody where there are seconds.
fn in_seconds(time: Duration) -> Duration {
    if time.as_secs() < 10 { time } else { Duration::from_secs(time.as_secs()) }
}

/// Chance for jitter, and for nothing that anybody must not foresee (splitmix64).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Dice(seed ^ u64::from(now.subsec_nanos()).rotate_left(32))
    }

    /// From 0 to below 1.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // 32 bits are exact in a float.
        f64::from(u32::try_from((x ^ (x >> 31)) >> 32).unwrap_or_default()) / 4_294_967_296.0
    }
}
