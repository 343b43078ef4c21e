//! lockgate: an HTTP and HTTPS reverse proxy for many games on one address.
//!
//! Each game is one drop-in file; a listener is a domain on a port; its rules
//! send URL paths to groups of backends.
//!
//! # The life of a request
//!
//! 1. `proxy/accept.rs`: a worker accepts a connection on its own socket of the
//!    port. The connection stays on that worker's thread until it ends.
//! 2. `proxy/tls.rs`: on an `https` port the name the client asks for (SNI)
//!    picks the listener, whose identity (`state/identity.rs`) shakes hands.
//! 3. `proxy/connection.rs`: bytes come; [`http1`] finds the head's end and
//!    parses it, or says why it is none. A connection that waits holds no buffer.
//!    On HTTP/2 (ALPN) `proxy/http2/` writes each request as such a head and has
//!    it read by the same parser.
//! 4. `proxy/request.rs`: the heart, for every HTTP version. `proxy/route.rs`
//!    finds port, domain, path and so the rule ([`policy::route`]);
//!    `proxy/sticky.rs` reads the cookie that binds the client
//!    ([`policy::sticky`]), `proxy/pick.rs` picks a backend
//!    ([`policy::balance`]).
//! 5. `proxy/retry.rs` makes one attempt after the other where that is allowed
//!    ([`policy::retry`]), and tells `state/health.rs` how each went; what
//!    `control/prober.rs` found meanwhile is one flag beside it.
//!    `proxy/forward.rs` is one attempt: it takes a kept connection (`proxy/pool.rs`) or opens
//!    one (`proxy/connect.rs`), writes the head (`proxy/headers.rs`), and brings
//!    the response's.
//! 6. `proxy/connection.rs`: writes the response's head; `proxy/body.rs` moves
//!    the body a buffer at a time, so that a slow client slows its backend down
//!    and nothing is kept whole. After a switch to WebSocket `proxy/tunnel.rs`
//!    moves bytes both ways. What lockgate answers by itself is written by
//!    `proxy/respond.rs`, and why is said by one list: [`Cause`].
//!
//! `proxy/explain.rs` takes a request the same way without making it, and says
//! why each step is what it is (`lockgate explain`).
//!
//! # The map
//!
//! | folder | is | may use |
//! |---|---|---|
//! | [`policy`] | decisions: no I/O, no clock, no dice | nothing |
//! | [`http1`] | the grammar of HTTP/1.1, both directions, no I/O | nothing |
//! | `telemetry` | numbers and logs: written by all, reading none | nothing |
//! | [`config`] | files to a valid model, with diagnostics | policy |
//! | [`state`] | what runs now: one [`state::Live`] cell | config, policy, telemetry |
//! | `proxy` | the data plane | state, config, policy, http1, telemetry |
//! | [`control`] | starts and ends it all | everything above |
//!
//! `tests/it/architecture.rs` holds these arrows.
//!
//! # What is absent on purpose
//!
//! - No lock and no shared counter on a request's way, but for groups that ask
//!   for a load (`wlc`, `p2c`, `max_connections`).
//! - No request leaves its thread, and nothing wakes another core.
//! - No body is ever held whole, and none is compressed.
//! - No `unsafe` code of our own.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test that panics has failed, which is what it is for"
    )
)]

pub mod cli;
pub mod config;
pub mod control;
pub mod http1;
pub mod policy;
mod proxy;
pub mod state;
pub mod telemetry;

pub use proxy::{Cause, Phase};
