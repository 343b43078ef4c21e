//! What is believed of a backend: whether probes find it up ([`Probed`]), and
//! whether requests to it fail ([`Passive`]). Time is an argument.
//!
//! Passive health is nginx's algorithm (`max_fails`, `fail_timeout`; SEMANTICS
//! 3.2). There is no sliding window: failures that are no more than
//! `fail_timeout` apart add up, and only a success that came after a quiet
//! `fail_timeout` clears them. Whoever has `max_fails` of them is ejected; when
//! `fail_timeout` has passed one request goes there as a trial, and decides.
//!
//! Where nginx is different: failures are counted once for all workers; the clock
//! has milliseconds; weights are not lowered on the way to an ejection; and what
//! a single request may do is bounded: failures that may be the request's own
//! fault (timeouts, bad answers) never eject more than half of a group.

mod passive;
mod probed;

pub use passive::{Blame, Passive, PassiveLimits};
pub use probed::{Probed, Thresholds, Transition};

/// A point in time, in milliseconds since some start: it never goes back.
pub type Millis = u64;

#[cfg(test)]
mod tests;
