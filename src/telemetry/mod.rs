//! Numbers and logs: written by all, reading none.

pub(crate) mod access;
pub mod counts;
pub(crate) mod digits;
pub(crate) mod failures;
mod json;
pub(crate) mod level;
pub(crate) mod line;
pub(crate) mod panics;
pub mod quantile;
