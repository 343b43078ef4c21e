//! The frames of a WebSocket (RFC 6455 5.2), seen from outside: where the
//! stream stands, so that a frame of ours can go between two of theirs. Looks
//! at headers only, whatever pieces the bytes come in, and skips payloads by
//! their length.

/// The service restarts: to a client, which may come back at once.
pub(super) const RESTART: u16 = 1012;
/// The endpoint goes away: to a backend.
pub(super) const AWAY: u16 = 1001;

const CLOSE: u8 = 8;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// The longest payload of a control frame, and of one whose length is in the
/// header's second byte.
const SHORT: u8 = 125;

/// Where a stream of frames stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Between two frames. A control frame may stand here, between the
    /// fragments of a message too.
    Boundary,
    /// In the middle of one.
    Within,
    /// Behind a whole Close: nothing may follow.
    Closed,
    /// It is not what RFC 6455 describes, and never will be again.
    Unknown,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// FIN, what extensions use, and the opcode.
    First,
    /// The mask's bit, and the length or how it is written.
    Second {
        control: bool,
    },
    /// Of a length, which has to be at least this: RFC 6455 wants it short.
    Length {
        left: u8,
        least: u64,
    },
    Mask {
        left: u8,
    },
    Payload,
    Closed,
    Unknown,
}

/// A stream of frames in one direction. See the module.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    /// The direction's frames are: those of a client.
    masked: bool,
    next: Next,
    /// Of the payload, as far as it is known; then what is still to come of it.
    length: u64,
    /// More fragments of a message have to come.
    fragmented: bool,
    /// This frame is a Close.
    closing: bool,
}

impl Frames {
    fn new(masked: bool) -> Frames {
        Frames { masked, next: Next::First, length: 0, fragmented: false, closing: false }
    }

    /// Those a client sends.
    pub(super) fn of_client() -> Frames {
        Frames::new(true)
    }

    /// Those a backend sends.
    pub(super) fn of_backend() -> Frames {
        Frames::new(false)
    }

    pub(super) fn standing(&self) -> Standing {
        match self.next {
            Next::First => Standing::Boundary,
            Next::Closed => Standing::Closed,
            Next::Unknown => Standing::Unknown,
            _ => Standing::Within,
        }
    }

    /// These bytes have passed.
    #[inline]
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let passed = self.frame(bytes);
            bytes = bytes.get(passed..).unwrap_or_default();
        }
    }

    /// Goes to the end of the frame that these bytes begin or go on with; gives
    /// how many of them belong to it.
    pub(super) fn frame(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match self.next {
                Next::Closed | Next::Unknown => return bytes.len(),
                Next::Payload => {
                    let here = bytes.len() - at;
                    let passed = usize::try_from(self.length).map_or(here, |left| left.min(here));
                    self.length -= passed as u64;
                    at += passed;
                }
                _ => {
                    self.next = self.header(*byte);
                    at += 1;
                }
            }
            if self.next == Next::Payload && self.length == 0 {
                self.next = if self.closing { Next::Closed } else { Next::First };
                break;
            }
        }
        at
    }

    /// Takes one byte of a header; gives what comes then.
    fn header(&mut self, byte: u8) -> Next {
        match self.next {
            Next::First => self.first(byte),
            Next::Second { control } => self.second(byte, control),
            Next::Length { left, least } => {
                self.length = self.length << 8 | u64::from(byte);
                match left {
                    2.. => Next::Length { left: left - 1, least },
                    _ if self.length < least || self.length >> 63 != 0 => Next::Unknown,
                    _ => self.behind_length(),
                }
            }
            Next::Mask { left: 1 } => Next::Payload,
            Next::Mask { left } => Next::Mask { left: left - 1 },
            other => other,
        }
    }

    fn first(&mut self, byte: u8) -> Next {
        let (last, opcode) = (byte & FIN != 0, byte & 0x0f);
        let control = opcode >= CLOSE;
        let good = match opcode {
            0 => self.fragmented,
            1 | 2 => !self.fragmented,
            8..=10 => last,
            _ => false,
        };
        if !good {
            return Next::Unknown;
        }
        if !control {
            self.fragmented = !last;
        }
        self.closing = opcode == CLOSE;
        Next::Second { control }
    }

    fn second(&mut self, byte: u8, control: bool) -> Next {
        let length = byte & !MASKED;
        if (byte & MASKED != 0) != self.masked || (control && length > SHORT) {
            return Next::Unknown;
        }
        self.length = 0;
        match length {
            126 => Next::Length { left: 2, least: 126 },
            127 => Next::Length { left: 8, least: 1 << 16 },
            _ => {
                self.length = u64::from(length);
                self.behind_length()
            }
        }
    }

    fn behind_length(&self) -> Next {
        if self.masked { Next::Mask { left: 4 } } else { Next::Payload }
    }
}

/// A Close with this code and reason, masked where a client says it.
pub(super) fn close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    payload.truncate(usize::from(SHORT));
    let length = u8::try_from(payload.len()).unwrap_or(SHORT);
    let mut frame = vec![FIN | CLOSE, length];
    if let Some(mask) = mask {
        frame = vec![FIN | CLOSE, MASKED | length];
        frame.extend_from_slice(&mask);
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    }
    frame.extend_from_slice(&payload);
    frame
}

#[cfg(test)]
mod tests;
