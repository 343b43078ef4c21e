//! Finds the end of a head or trailer section while its bytes arrive.
//!
//! Every byte is looked at once, however the bytes are split into reads, and every verdict hangs on
//! a position, so that the split never changes it.

use std::ops::Range;

use memchr::memchr3;

use super::head::{HeadError, HeadLimits};
use super::request::MAX_METHOD;
use super::response::{MAX_STATUS_LINE, STATUS_LINE_TOO_LONG};

/// Empty lines a client may send before a request (RFC 9112 2.2).
const MAX_EMPTY_LINES: u8 = 2;

/// Finds the end of a head.
///
/// Refuses a bare LF, a bare CR and a NUL, what is over the limits, and at once whatever can never
/// become a head (a TLS record, a lower-case method).
#[derive(Clone, Debug)]
pub struct Scan {
    stage: Stage,
    /// First byte of the head.
    start: usize,
    /// Next byte to look at.
    pos: usize,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Empty lines before the request line; how many were there.
    Lead(u8),
    Method,
    /// The rest of the request line, which must end before this position.
    RequestLine(usize),
    /// `HTTP/1.` of a status line.
    Protocol,
    StatusLine,
    Fields(Section),
    Found(usize),
}

impl Scan {
    /// For a request.
    pub fn request() -> Self {
        Self { stage: Stage::Lead(0), start: 0, pos: 0 }
    }

    /// For a response.
    pub fn response() -> Self {
        Self { stage: Stage::Protocol, start: 0, pos: 0 }
    }

    /// No byte was looked at yet.
    pub(super) fn is_unused(&self) -> bool {
        self.pos == 0
    }

    /// Looks at what is new in `bytes`: everything received so far, from the same start each time.
    ///
    /// `Ok(Some(range))`: the head with its final CRLFCRLF is `bytes[range]`. The range starts
    /// after 0 only when at most two empty lines preceded a request (RFC 9112 2.2).
    /// `Ok(None)`: more bytes are needed.
    pub fn advance(
        &mut self,
        bytes: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<Range<usize>>, HeadError> {
        loop {
            let next = match &mut self.stage {
                Stage::Lead(lines) => {
                    let lines = *lines;
                    self.lead(bytes, lines)?
                }
                Stage::Method => self.method(bytes, limits)?,
                Stage::RequestLine(end) => {
                    let end = *end;
                    self.line(bytes, end, HeadError::TargetTooLong)?
                }
                Stage::Protocol => self.protocol(bytes)?,
                Stage::StatusLine => {
                    let end = self.start.saturating_add(MAX_STATUS_LINE);
                    self.line(bytes, end, STATUS_LINE_TOO_LONG)?
                }
                Stage::Fields(section) => {
                    section.advance(bytes, limits.fields_size, limits.fields)?.map(Stage::Found)
                }
                Stage::Found(end) => return Ok(Some(self.start..*end)),
            };
            match next {
                Some(stage) => self.stage = stage,
                None => return Ok(None),
            }
        }
    }

    fn lead(&mut self, bytes: &[u8], lines: u8) -> Result<Option<Stage>, HeadError> {
        let rest = bytes.get(self.pos..).unwrap_or_default();
        match rest {
            [] | [b'\r'] => Ok(None),
            [b'\r', b'\n', ..] if lines < MAX_EMPTY_LINES => {
                self.pos += 2;
                self.start = self.pos;
                Ok(Some(Stage::Lead(lines + 1)))
            }
            [b'\r', b'\n', ..] => Err(HeadError::Malformed("too many empty lines")),
            [b'A'..=b'Z', ..] => Ok(Some(Stage::Method)),
            [..] => Err(HeadError::Malformed("not an HTTP request")),
        }
    }

    /// The method, byte by byte: it is short, and telling early what is not HTTP matters more.
    fn method(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<Stage>, HeadError> {
        for &byte in bytes.get(self.pos..).unwrap_or_default() {
            self.pos += 1;
            match byte {
                b' ' => {
                    // Behind the target: SP HTTP-version.
                    let end = self.pos.saturating_add(limits.target).saturating_add(9);
                    return Ok(Some(Stage::RequestLine(end)));
                }
                b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {}
                _ => return Err(HeadError::Malformed("invalid method")),
            }
            if self.pos - self.start > MAX_METHOD {
                return Err(HeadError::Malformed("method too long"));
            }
        }
        Ok(None)
    }

    fn protocol(&mut self, bytes: &[u8]) -> Result<Option<Stage>, HeadError> {
        const PROTOCOL: &[u8] = b"HTTP/1.";
        let have = bytes.get(..PROTOCOL.len()).unwrap_or(bytes);
        if !PROTOCOL.starts_with(have) {
            return Err(HeadError::Malformed("not an HTTP/1 response"));
        }
        self.pos = have.len();
        Ok((have.len() == PROTOCOL.len()).then_some(Stage::StatusLine))
    }

    /// The rest of the first line; `end` is the last position its CR may have.
    fn line(
        &mut self,
        bytes: &[u8],
        end: usize,
        too_long: HeadError,
    ) -> Result<Option<Stage>, HeadError> {
        let (at, found) = match next_line_end(bytes, self.pos) {
            LineEnd::At(at) => (at, true),
            LineEnd::None(at) => (at, false),
            LineEnd::Bad(at, _) if at > end => return Err(too_long),
            LineEnd::Bad(_, reason) => return Err(HeadError::Malformed(reason)),
        };
        if at > end {
            return Err(too_long);
        }
        self.pos = at;
        Ok(found.then(|| Stage::Fields(Section::at(at + 2))))
    }
}

/// Field lines up to and with the empty line that ends them.
#[derive(Clone, Debug)]
pub(super) struct Section {
    start: usize,
    /// First byte of the current line.
    line: usize,
    pos: usize,
    lines: usize,
}

impl Section {
    pub(super) fn at(start: usize) -> Self {
        Self { start, line: start, pos: start, lines: 0 }
    }

    /// As [`Scan::advance`]; the position after the final CRLF once it is there.
    pub(super) fn advance(
        &mut self,
        bytes: &[u8],
        max_size: usize,
        max_lines: usize,
    ) -> Result<Option<usize>, HeadError> {
        loop {
            let end = next_line_end(bytes, self.pos);
            let (LineEnd::At(at) | LineEnd::None(at) | LineEnd::Bad(at, _)) = end;
            // A line that is not the empty one needs two more bytes for its CRLF.
            if at > self.line && at + 2 - self.start > max_size {
                return Err(HeadError::FieldsTooLarge);
            }
            match end {
                LineEnd::Bad(_, reason) => return Err(HeadError::Malformed(reason)),
                LineEnd::None(_) => {
                    self.pos = at;
                    return Ok(None);
                }
                LineEnd::At(_) if at == self.line => return Ok(Some(at + 2)),
                LineEnd::At(_) => {
                    self.lines += 1;
                    if self.lines > max_lines {
                        return Err(HeadError::TooManyFields);
                    }
                    self.line = at + 2;
                    self.pos = self.line;
                }
            }
        }
    }
}

enum LineEnd {
    /// A CRLF starts here.
    At(usize),
    /// Not yet; look on from here.
    None(usize),
    /// Something that is no line end but that others may take for one.
    Bad(usize, &'static str),
}

fn next_line_end(bytes: &[u8], from: usize) -> LineEnd {
    let rest = bytes.get(from..).unwrap_or_default();
    let Some(offset) = memchr3(b'\r', b'\n', 0, rest) else {
        return LineEnd::None(from + rest.len());
    };
    let at = from + offset;
    match rest.get(offset..) {
        Some([b'\r', b'\n', ..]) => LineEnd::At(at),
        Some([b'\r']) => LineEnd::None(at),
        Some([b'\r', ..]) => LineEnd::Bad(at, "bare CR"),
        Some([b'\n', ..]) => LineEnd::Bad(at, "bare LF"),
        _ => LineEnd::Bad(at, "NUL"),
    }
}
