//! What can go wrong with a body on its way.

use std::io;

use crate::http1::{BodyError, HeadError};

/// Why a body did not arrive whole.
#[derive(Debug)]
pub(in crate::proxy) enum PumpError {
    /// Reading failed.
    Source(io::Error),
    /// The source ended before the body did.
    Truncated,
    /// The source's framing is wrong.
    Malformed(&'static str),
    /// More than the limit.
    TooLarge,
    /// Writing failed.
    Sink(io::Error),
}

impl From<BodyError> for PumpError {
    fn from(error: BodyError) -> PumpError {
        match error {
            BodyError::Truncated => PumpError::Truncated,
            BodyError::TrailersTooLarge => PumpError::Malformed("trailer section too large"),
            BodyError::Chunk(reason) => PumpError::Malformed(reason),
        }
    }
}

impl From<HeadError> for PumpError {
    fn from(error: HeadError) -> PumpError {
        match error {
            HeadError::Malformed(reason) => PumpError::Malformed(reason),
            _ => PumpError::Malformed("trailer section too large"),
        }
    }
}
