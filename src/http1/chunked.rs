//! The chunked transfer coding, decoded and encoded (RFC 9112 7.1).

use super::body::{BodyError, Step};
use super::head::HeadError;
use super::scan::Section;

/// The last chunk; trailer field lines and a CRLF follow it.
pub const LAST_CHUNK: &[u8] = b"0\r\n";

/// Longest line of a chunk's size and extensions.
const MAX_SIZE_LINE: u16 = 4096;

/// More digits can only be zeros or an overflow.
const MAX_SIZE_DIGITS: u16 = 16;

/// Writes what stands before a chunk's data: its size and CRLF. `n` must not be 0, which would end
/// the body; a CRLF must follow the data.
pub fn chunk_prefix(n: usize, out: &mut [u8; 18]) -> &[u8] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = n;
    let mut start = out.len();
    for slot in out.iter_mut().rev() {
        start -= 1;
        *slot = match 17 - start {
            0 => b'\n',
            1 => b'\r',
            _ => {
                let digit = HEX.get(rest & 15).copied().unwrap_or_default();
                rest >>= 4;
                digit
            }
        };
        if start <= 15 && rest == 0 {
            break;
        }
    }
    out.get(start..).unwrap_or_default()
}

/// The decoder behind [`BodyDecoder::chunked`](super::BodyDecoder::chunked).
#[derive(Clone, Debug)]
pub(super) struct Chunked {
    phase: Phase,
    /// Size of the current chunk, then what is left of it.
    size: u64,
    /// Bytes of the current size line so far.
    line: u16,
    max_trailers: usize,
}

#[derive(Clone, Debug)]
enum Phase {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers(Section),
    Done,
}

impl Chunked {
    pub(super) fn new(max_trailers: usize) -> Self {
        Self { phase: Phase::Size, size: 0, line: 0, max_trailers }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    pub(super) fn decode(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        match &mut self.phase {
            Phase::Done => Ok(Step::Done),
            Phase::Data if !input.is_empty() => {
                let n = usize::try_from(self.size).map_or(input.len(), |n| n.min(input.len()));
                // A usize fits, and n is at most what is left.
                self.size -= n as u64;
                if self.size == 0 {
                    self.phase = Phase::DataCr;
                }
                Ok(Step::Data(n))
            }
            Phase::Trailers(section) => {
                let end = section.advance(input, self.max_trailers, usize::MAX);
                match end.map_err(trailer_error)? {
                    Some(end) => {
                        self.phase = Phase::Done;
                        Ok(Step::Trailers(end))
                    }
                    None => Ok(Step::More),
                }
            }
            _ => self.skip_framing(input),
        }
    }

    /// Consumes everything up to the next data or the trailers, as far as it is there.
    fn skip_framing(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        let mut skipped = 0;
        for &byte in input {
            if matches!(self.phase, Phase::Data | Phase::Trailers(_)) {
                break;
            }
            self.framing_byte(byte)?;
            skipped += 1;
        }
        Ok(if skipped == 0 { Step::More } else { Step::Skip(skipped) })
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), BodyError> {
        self.phase = match (&self.phase, byte) {
            (Phase::Size, b'\r') if self.line > 0 => Phase::SizeLf,
            (Phase::Size, b';') if self.line > 0 => {
                self.line += 1;
                Phase::Extension
            }
            (Phase::Size, _) => {
                self.size_digit(byte)?;
                Phase::Size
            }
            (Phase::Extension, b'\r') => Phase::SizeLf,
            (Phase::Extension, b'\t' | b' '..=b'~' | 0x80..) if self.line < MAX_SIZE_LINE => {
                self.line += 1;
                Phase::Extension
            }
            (Phase::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                return Err(BodyError::Chunk("chunk extensions too long"));
            }
            (Phase::Extension, _) => return Err(BodyError::Chunk("invalid chunk extension")),
            (Phase::SizeLf, b'\n') if self.size == 0 => Phase::Trailers(Section::at(0)),
            (Phase::SizeLf, b'\n') => Phase::Data,
            (Phase::SizeLf, _) => return Err(BodyError::Chunk("bare CR after the chunk size")),
            (Phase::DataCr, b'\r') => Phase::DataLf,
            (Phase::DataLf, b'\n') => {
                self.line = 0;
                Phase::Size
            }
            _ => return Err(BodyError::Chunk("no CRLF after the chunk data")),
        };
        Ok(())
    }

    fn size_digit(&mut self, byte: u8) -> Result<(), BodyError> {
        // A hexadecimal digit is at most 15.
        let digit = char::from(byte).to_digit(16).ok_or(BodyError::Chunk("invalid chunk size"))?;
        if self.line == MAX_SIZE_DIGITS {
            return Err(BodyError::Chunk("chunk size too long"));
        }
        self.line += 1;
        // Data and the line before it left 0 here; 16 digits fit exactly.
        self.size = (self.size << 4) | u64::from(digit);
        Ok(())
    }
}

fn trailer_error(error: HeadError) -> BodyError {
    match error {
        HeadError::Malformed(reason) => BodyError::Chunk(reason),
        _ => BodyError::TrailersTooLarge,
    }
}
