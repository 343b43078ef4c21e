//! Numbers and logs: written by all, reading none.

pub(crate) mod access;
pub mod counts;
pub(crate) mod failures;
mod json;
pub(crate) mod line;
pub mod quantile;
