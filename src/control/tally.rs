//! What all workers know together.

use std::collections::HashMap;
use std::sync::Arc;

use crate::proxy::{Census, CookieCounts, Holding, Sketch};
use crate::state::Backend;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally {
    players: HashMap<u64, Sketch>,
    /// By the backends' slots.
    in_flight: Vec<u32>,
    pub(super) cookies: CookieCounts,
    /// How many workers told, and how many there are.
    pub(super) answered: usize,
    pub(super) asked: usize,
    /// In seconds since 1970: players are counted only since then, and not yet for as
    /// long as they count; `None`: all are.
    pub(super) players_since: Option<u64>,
    /// By game: what a process that ends still holds.
    pub(super) held: HashMap<Option<Arc<str>>, Holding>,
}

impl Tally {
    /// Nothing yet, of so many workers.
    pub(super) fn of(asked: usize) -> Tally {
        Tally { asked, ..Tally::default() }
    }

    /// Counts what another worker knows.
    pub(super) fn add(&mut self, census: Census) {
        self.answered += 1;
        for (game, holding) in census.held {
            self.held.entry(game).or_default().add(&holding);
        }
        for (backend, sketch) in &census.players {
            self.players.entry(*backend).or_default().merge(sketch);
        }
        let slots = self.in_flight.len().max(census.in_flight.len());
        self.in_flight.resize(slots, 0);
        for (sum, count) in self.in_flight.iter_mut().zip(census.in_flight) {
            *sum += count;
        }
        self.cookies.add(&census.cookies);
    }

    /// Nobody's part is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.answered == self.asked
    }

    /// Players of a backend in the last minutes.
    pub(super) fn players(&self, backend: &Backend) -> usize {
        self.players.get(&backend.id()).map_or(0, Sketch::estimate)
    }

    /// Its requests in flight.
    pub(super) fn in_flight(&self, backend: &Backend) -> u32 {
        self.in_flight.get(backend.slot()).copied().unwrap_or_default()
    }
}
