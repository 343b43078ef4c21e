//! Picks the backend of an attempt, and holds its place among the requests in
//! flight.

use std::borrow::Cow;
use std::sync::Arc;

use super::error::{Cause, Failure, Phase};
use super::message::{Cx, Request};
use super::route::Route;
use super::sticky::Binding;
use super::worker::Worker;
use crate::http1::Known;
use crate::policy::balance::{Balance, Draw, HashKey, key_hash, pick};
use crate::policy::headers::cookie;
use crate::policy::route::normalize_path;
use crate::policy::sticky::Direction;
use crate::state::{Backend, Group, Takers, Trust};
use crate::telemetry::counts::Lane;

/// Picks the backend a client is bound to, else by the group's balance among
/// those that are available.
pub(super) fn pick_backend<'a>(
    cx: Cx<'a>,
    request: &Request,
    route: &Route<'a>,
    group: &'a Group,
    binding: Option<&mut Binding<'a>>,
    tried: &[usize],
) -> Result<Picked<'a>, Failure> {
    if let Some(binding) = binding.filter(|_| tried.is_empty())
        && let Some(home) = pick_home(cx.worker, group, binding)
    {
        return Ok(home);
    }
    let draw = Draw {
        key: match &group.config.balance {
            Balance::Hash(key) => key_hash(&hash_value(key, request, route)),
            _ => 0,
        },
        chance: match group.config.balance {
            Balance::P2c => cx.worker.chance(),
            _ => 0,
        },
    };
    let pick_of = |takers: &Takers<'_>| {
        pick_among(cx, group, draw, |at| !tried.contains(&at) && takers.take(at))
    };
    for takers in group.circles() {
        // Another worker may take a backend's last place between pick and entry:
        // the next pick sees it as full.
        for _ in 0..=group.backends.len() {
            let Some(place) = pick_of(&takers) else { break };
            // Nobody asks whether an ejected one may have it where all are.
            let admitted = takers.trust() == Trust::Anybody || group.admit(place);
            if admitted && let Some(picked) = Picked::new(cx.worker, group, place) {
                return Ok(picked);
            }
        }
    }
    Err(nobody(group))
}

/// What a request fails of that nobody may have.
pub(super) fn nobody(group: &Group) -> Failure {
    if group.backends.iter().any(|backend| backend.is_full()) {
        let detail = "max_connections of every backend";
        return Failure::because(Cause::Limit, Phase::Pick, detail);
    }
    Failure::new(Cause::NoAvailableBackend, Phase::Pick)
}

fn pick_among(
    cx: Cx<'_>,
    group: &Group,
    draw: Draw,
    available: impl Fn(usize) -> bool,
) -> Option<usize> {
    let load = |at: usize| group.backends.get(at).map_or(0, Backend::load);
    pick(&group.schedule, &mut cx.worker.cursor(group), draw, available, load)
}

/// The backend the client is bound to, while it may go there; else the binding
/// notes whether it stays.
fn pick_home<'a>(
    worker: &'a Worker,
    group: &'a Group,
    binding: &mut Binding<'a>,
) -> Option<Picked<'a>> {
    let place = binding.home()?;
    let direction = group.standing(place)?.direction();
    // A home that is due for its trial has it with this request.
    if direction == Direction::Home {
        let _ = group.admit(place);
    }
    if direction == Direction::Home
        && let Some(picked) = Picked::new(worker, group, place)
    {
        return Some(picked);
    }
    // It is full, perhaps only since another worker took its last place.
    binding.session.stays = direction != Direction::Anew;
    None
}

/// The value a request is hashed by; where it has none, its address, so that
/// such requests are still spread.
pub(super) fn hash_value<'r>(
    key: &HashKey,
    request: &'r Request,
    route: &Route<'_>,
) -> Cow<'r, [u8]> {
    let by_client = || Cow::Owned(route.client.to_string().into_bytes());
    match key {
        HashKey::ClientIp => by_client(),
        HashKey::Cookie(name) => request
            .all(Known::Cookie)
            .find_map(|field| cookie(request.text(field.value), name.as_bytes()))
            .map_or_else(by_client, Cow::Borrowed),
        HashKey::Header(name) => {
            request.value_of(name.as_bytes()).map_or_else(by_client, Cow::Borrowed)
        }
        HashKey::Path => {
            let mut scratch = Vec::new();
            let path = request.path_and_query();
            match normalize_path(path, &mut scratch) {
                // Nearly always it is what the client sent.
                Ok(clean) if path.starts_with(clean) => {
                    Cow::Borrowed(path.get(..clean.len()).unwrap_or_default())
                }
                Ok(clean) => Cow::Owned(clean.to_vec()),
                Err(_) => Cow::Borrowed(path),
            }
        }
    }
}

/// A backend that was picked, its place among its requests in flight taken.
#[derive(Debug)]
pub(super) struct Picked<'a> {
    worker: &'a Worker,
    pub(super) group: &'a Group,
    pub(super) backend: &'a Backend,
    /// Its place in the group.
    pub(super) place: usize,
    counted: bool,
}

impl<'a> Picked<'a> {
    /// `None` when its last place was taken since the pick.
    fn new(worker: &'a Worker, group: &'a Group, place: usize) -> Option<Picked<'a>> {
        let backend = group.backends.get(place)?;
        let counted = group.counts_load();
        if counted && !backend.enter() {
            return None;
        }
        worker.in_flight.enter(backend);
        Some(Picked { worker, group, backend, place, counted })
    }

    /// The request became a tunnel, which keeps its place, and is counted as such.
    pub(super) fn keep(mut self) -> Held {
        self.backend.begin_tunnel();
        let counted = std::mem::take(&mut self.counted);
        Held { backend: self.backend.clone(), game: Arc::clone(&self.group.game), counted }
    }
}

impl Drop for Picked<'_> {
    fn drop(&mut self) {
        self.worker.in_flight.leave(self.backend);
        if self.counted {
            self.backend.leave();
        }
    }
}

/// A tunnel's place among a backend's requests in flight.
#[derive(Debug)]
pub(super) struct Held {
    backend: Backend,
    game: Arc<str>,
    counted: bool,
}

impl Held {
    /// Where it leads.
    pub(super) fn backend(&self) -> &str {
        &self.backend.config.name
    }

    /// So many bytes more passed, to the backend and from it.
    pub(super) fn count(&self, lane: Lane, sent: u64, received: u64) {
        if let Some(counts) = self.backend.attempts().of(lane) {
            counts.tunnel_sent.add(sent);
            counts.tunnel_received.add(received);
        }
    }

    /// Whose tunnel it is.
    pub(super) fn game(&self) -> &Arc<str> {
        &self.game
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.backend.end_tunnel();
        if self.counted {
            self.backend.leave();
        }
    }
}
