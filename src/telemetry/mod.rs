//! Numbers and logs: written by all, reading none.

pub mod counts;
pub(crate) mod failures;
pub(crate) mod line;
