//! Tests over real sockets against the real binary, one file per area of
//! behaviour. Rows of SEMANTICS stand in the names of the tests that hold
//! them (`rt_08_longest_prefix_wins`). The words are in [`support`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that cannot go on fails by panicking"
)]

mod access_log;
mod admin_address;
mod answers;
mod architecture;
mod balance;
mod beforehand;
mod cli;
mod clients;
mod closing;
mod condition;
mod config;
mod counted;
mod demo;
mod drain;
mod ejection;
mod errors;
mod events;
mod explain;
mod farewell;
mod faults;
mod foreseen;
mod forwarding;
mod framing;
mod h2c;
mod http2;
mod isolation;
mod leaving;
mod lifecycle;
mod limits;
mod log_level;
mod metrics;
mod names;
mod page;
mod pool;
mod probe;
mod proxy_protocol;
mod regressions;
mod reload;
mod responses;
mod retry;
mod routing;
mod secret;
mod sni;
mod sticky;
mod storm;
mod streaming;
mod support;
mod tail;
mod terminal;
mod tls;
mod top;
mod upgrade;
mod upstream_tls;
mod websocket;
mod why;
