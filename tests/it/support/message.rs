//! Reading HTTP/1 messages off a socket, strictly and without a library: what
//! lockgate writes must have one meaning, so anything odd is an error here.

use std::io::{self, ErrorKind, Read};

/// Bytes that arrived and were not used yet.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    buffer: Vec<u8>,
    used: usize,
    received: usize,
}

/// How the body of a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// There is none by definition (HEAD, 1xx, 204, 304).
    Bodiless,
    /// By `Content-Length`.
    Length,
    /// By the last chunk.
    Chunked,
    /// By the connection's end.
    Close,
}

/// A response as it stood on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) status_line: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) ending: Ending,
    /// The sizes of its chunks.
    pub(crate) chunks: Vec<usize>,
    /// The 1xx responses that came before it.
    pub(crate) interim: Vec<Self>,
}

/// A response that did not arrive whole.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) error: io::Error,
    /// What had come of it, if its head had.
    pub(crate) partial: Option<Box<Response>>,
}

impl Incoming {
    /// Everything that was ever read, in bytes.
    pub(crate) fn received(&self) -> usize {
        self.received
    }

    /// What arrived and was not used.
    pub(crate) fn rest(&self) -> &[u8] {
        self.buffer.get(self.used..).unwrap_or_default()
    }

    /// Reads once more; 0 means the other side ended.
    pub(crate) fn fill(&mut self, io: &mut impl Read) -> io::Result<usize> {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        let mut block = [0; 64 * 1024];
        let count = loop {
            match io.read(&mut block) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.buffer.extend_from_slice(block.get(..count).unwrap_or_default());
        self.received += count;
        Ok(count)
    }

    fn must_fill(&mut self, io: &mut impl Read) -> io::Result<()> {
        match self.fill(io)? {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended")),
            _ => Ok(()),
        }
    }

    /// One line with its CRLF taken off. A bare LF or CR is an error.
    fn line(&mut self, io: &mut impl Read) -> io::Result<String> {
        loop {
            if let Some(end) = self.rest().iter().position(|&byte| byte == b'\n') {
                let line = String::from_utf8_lossy(&self.rest()[..end]).into_owned();
                self.used += end + 1;
                let Some(line) = line.strip_suffix('\r') else {
                    return Err(bad(format!("a line ends in a bare LF: {line:?}")));
                };
                if line.contains(['\r', '\0']) {
                    return Err(bad(format!("CR or NUL within a line: {line:?}")));
                }
                return Ok(line.to_owned());
            }
            self.must_fill(io)?;
        }
    }

    /// A head with its empty line, byte for byte; `None` when the connection
    /// ended before its first byte.
    pub(crate) fn raw_head(&mut self, io: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = find(self.rest(), b"\r\n\r\n") {
                let head = self.rest()[..end + 4].to_vec();
                self.used += head.len();
                return Ok(Some(head));
            }
            if self.fill(io)? == 0 {
                return if self.rest().is_empty() {
                    Ok(None)
                } else {
                    Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended in a head"))
                };
            }
        }
    }

    /// Appends exactly `count` bytes to `into`.
    pub(crate) fn exactly(
        &mut self,
        io: &mut impl Read,
        count: usize,
        into: &mut Vec<u8>,
    ) -> io::Result<()> {
        let mut missing = count;
        while missing > 0 {
            if self.rest().is_empty() {
                self.must_fill(io)?;
            }
            let take = missing.min(self.rest().len());
            into.extend_from_slice(&self.rest()[..take]);
            self.used += take;
            missing -= take;
        }
        Ok(())
    }

    /// A chunked body; gives back its trailers.
    pub(crate) fn chunked(
        &mut self,
        io: &mut impl Read,
        into: &mut Vec<u8>,
        sizes: &mut Vec<usize>,
    ) -> io::Result<Vec<(String, String)>> {
        loop {
            let line = self.line(io)?;
            if line.is_empty() || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(bad(format!("not a plain chunk size: {line:?}")));
            }
            let size = usize::from_str_radix(&line, 16).map_err(|_| bad(line.clone()))?;
            if size == 0 {
                return self.fields(io);
            }
            sizes.push(size);
            self.exactly(io, size, into)?;
            let end = self.line(io)?;
            if !end.is_empty() {
                return Err(bad(format!("{end:?} after a chunk")));
            }
        }
    }

    /// Field lines up to and with the empty line.
    fn fields(&mut self, io: &mut impl Read) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line(io)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(bad(format!("a field line without a colon: {line:?}")));
            };
            if name.is_empty() || name.contains([' ', '\t']) {
                return Err(bad(format!("a bad field name: {line:?}")));
            }
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// A response to a request with this method, with the 1xx before it.
    pub(crate) fn response(&mut self, io: &mut impl Read, method: &str) -> Result<Response, Cut> {
        let mut interim = Vec::new();
        loop {
            let mut response =
                self.response_head(io).map_err(|error| Cut { error, partial: None })?;
            if response.status < 200 && response.status != 101 {
                interim.push(response);
                continue;
            }
            response.interim = interim;
            return match self.response_body(io, method, &mut response) {
                Ok(()) => Ok(response),
                Err(error) => Err(Cut { error, partial: Some(Box::new(response)) }),
            };
        }
    }

    fn response_head(&mut self, io: &mut impl Read) -> io::Result<Response> {
        let status_line = self.line(io)?;
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| bad(format!("not a status line: {status_line:?}")))?;
        let fields = self.fields(io)?;
        Ok(Response {
            status,
            status_line,
            fields,
            body: Vec::new(),
            trailers: Vec::new(),
            ending: Ending::Bodiless,
            chunks: Vec::new(),
            interim: Vec::new(),
        })
    }

    fn response_body(
        &mut self,
        io: &mut impl Read,
        method: &str,
        response: &mut Response,
    ) -> io::Result<()> {
        let lengths = response.values("content-length");
        let codings = response.values("transfer-encoding");
        if lengths.len() + codings.len() > 1 {
            return Err(bad(format!("two framings: {:?}", response.fields)));
        }
        if method == "HEAD" || response.status < 200 || matches!(response.status, 204 | 304) {
            return Ok(());
        }
        let Response { body, chunks, .. } = response;
        if let Some(length) = lengths.first() {
            response.ending = Ending::Length;
            let length = length.parse().map_err(|_| bad(format!("content-length {length:?}")))?;
            return self.exactly(io, length, body);
        }
        if let Some(coding) = codings.first() {
            if coding != "chunked" {
                return Err(bad(format!("transfer-encoding {coding:?}")));
            }
            response.ending = Ending::Chunked;
            response.trailers = self.chunked(io, body, chunks)?;
            return Ok(());
        }
        response.ending = Ending::Close;
        loop {
            body.extend_from_slice(self.rest());
            self.used = self.buffer.len();
            if self.fill(io)? == 0 {
                return Ok(());
            }
        }
    }
}

impl Response {
    /// The values of a field, in order; the name in any case.
    pub(crate) fn values(&self, name: &str) -> Vec<String> {
        values(&self.fields, name)
    }

    /// The value of a field that must stand there once.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> String {
        let values = self.values(name);
        assert_eq!(values.len(), 1, "`{name}` in {:?}", self.fields);
        values.into_iter().next().unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The backend that answered: the first line of its echo.
    pub(crate) fn backend(&self) -> String {
        self.text().lines().next().unwrap_or_default().to_owned()
    }

    /// The status, with the body in the panic when it is another.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} {:?}\n{}", self.status_line, self.fields, self.text());
        self
    }
}

/// The values of a field, in order; the name in any case.
pub(crate) fn values(fields: &[(String, String)], name: &str) -> Vec<String> {
    fields
        .iter()
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.clone())
        .collect()
}

/// Where `needle` begins in `hay`.
pub(crate) fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

fn bad(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}
