//! Numbers and logs: written by all, reading none.

pub(crate) mod failures;
