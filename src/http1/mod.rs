//! The grammar of HTTP/1.1 (RFC 9112): bytes to heads and body frames, in both directions.
//!
//! Pure: no sockets, no clock, nothing of the rest of the crate. Bytes go in; byte ranges, numbers
//! and errors come out, so the whole folder is tested and fuzzed as it is.
//!
//! A message goes through it in this order:
//!
//! 1. [`receive_request`] or [`receive_response`] is asked after every read. A good head that is
//!    there as a whole is read in one pass: its lines as [`Field`]s (ranges into the head, nothing
//!    copied), then what they mean: framing, persistence, host;
//! 2. any other goes a longer way. [`Scan`] finds where the head ends, however the bytes were split
//!    into reads, and refuses early what is too large or can never become a head;
//!    [`parse_request`] or [`parse_response`] then reads it as above, or says what is wrong with
//!    it;
//! 3. [`BodyDecoder`] finds the content between the framing bytes, again without copying;
//! 4. [`parse_trailers`] reads what may follow a chunked body, and [`chunk_prefix`] writes the
//!    framing of what we send.
//!
//! One meaning or an error: whatever two implementations might read differently (a bare LF, two
//! lengths, a space before the colon, a folded line) is refused and never repaired. What passes
//! keeps its bytes.

pub mod body;
pub mod chunked;
pub mod fields;
pub mod head;

mod lines;
mod request;
mod response;
mod scan;
mod target;
mod trailers;

#[cfg(test)]
mod tests;

pub use body::{BodyDecoder, BodyError, Step};
pub use chunked::{LAST_CHUNK, chunk_prefix};
pub use fields::{Field, Known, Span, may_be_nominated};
pub use head::{
    HeadError, HeadLimits, Method, RequestFraming, RequestHead, ResponseFraming, ResponseHead,
    Scan, Target, Version, is_nominated, judge_request, parse_request, parse_response,
    parse_trailers, receive_request, receive_response, trailer_allowed,
};
