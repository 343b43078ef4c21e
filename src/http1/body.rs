//! Bodies: where the content lies in what was received (RFC 9112 6.3).

use std::fmt;

use super::chunked::Chunked;

/// Finds the body's bytes in what was received; never copies.
#[derive(Clone, Debug)]
pub struct BodyDecoder(State);

#[derive(Clone, Debug)]
enum State {
    /// This many bytes are to come.
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Closed,
}

/// What the next bytes of the input are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The first n bytes are framing: drop them. Never 0.
    Skip(usize),
    /// The first n bytes are content. Never 0.
    Data(usize),
    /// The first n bytes are the whole trailer section with its last CRLF (2: it is empty).
    /// Comes once, at the end of every chunked body; the decoder is done then.
    Trailers(usize),
    /// Nothing can be said yet: come back with the same bytes and more.
    More,
    /// The body is over; what is in the input belongs to the next message.
    Done,
}

/// Why a body is refused or lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyError {
    /// The chunked coding is broken (RFC 9112 7.1); a short reason for the log.
    Chunk(&'static str),
    /// The trailer section is larger than allowed.
    TrailersTooLarge,
    /// The connection ended before the body did (RFC 9112 8).
    Truncated,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunk(reason) => f.write_str(reason),
            Self::TrailersTooLarge => f.write_str("trailer section too large"),
            Self::Truncated => f.write_str("body ended early"),
        }
    }
}

impl std::error::Error for BodyError {}

impl BodyDecoder {
    /// No content.
    pub fn empty() -> Self {
        Self::length(0)
    }

    /// `n` bytes of content.
    pub fn length(n: u64) -> Self {
        Self(State::Length(n))
    }

    /// Chunked content (RFC 9112 7.1) with at most `max_trailers` bytes of trailer field lines.
    pub fn chunked(max_trailers: usize) -> Self {
        Self(State::Chunked(Chunked::new(max_trailers)))
    }

    /// Content up to the end of the connection.
    pub fn until_close() -> Self {
        Self(State::UntilClose)
    }

    /// Says what the first bytes of `input`, all that is received and not consumed, are.
    ///
    /// The bytes of a returned [`Step`] count as consumed: drop them before the next call.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        match &mut self.0 {
            State::Length(0) | State::Closed => Ok(Step::Done),
            State::Chunked(chunked) => chunked.decode(input),
            _ if input.is_empty() => Ok(Step::More),
            State::UntilClose => Ok(Step::Data(input.len())),
            State::Length(left) => {
                let n = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                // A usize fits, and n is at most what is left.
                *left -= n as u64;
                Ok(Step::Data(n))
            }
        }
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        match &self.0 {
            State::Length(left) => *left == 0,
            State::Chunked(chunked) => chunked.is_done(),
            State::UntilClose => false,
            State::Closed => true,
        }
    }

    /// Takes note that the peer closed: the proper end of an until-close body, else an error unless
    /// the body was done.
    pub fn eof(&mut self) -> Result<(), BodyError> {
        if matches!(self.0, State::UntilClose) {
            self.0 = State::Closed;
        }
        if self.is_done() { Ok(()) } else { Err(BodyError::Truncated) }
    }

    /// `n` bytes of content went another way, of those that are [`Self::remaining`].
    pub fn skip(&mut self, n: u64) {
        if let State::Length(left) = &mut self.0 {
            *left = left.saturating_sub(n);
        }
    }

    /// How many bytes are to come, where the length was announced.
    pub fn remaining(&self) -> Option<u64> {
        match self.0 {
            State::Length(left) => Some(left),
            _ => None,
        }
    }
}
