//! A strict reader of whole messages: lines are split first, then looked at; nothing is fast.

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The three parts of the first line.
    pub first: [Vec<u8>; 3],
    /// Names as sent and values trimmed.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the field lines with their CRLFs.
    pub fields_size: usize,
    pub framing: Framing,
    /// Position after the head.
    pub end: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// A decoded chunked body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Body {
    pub data: Vec<u8>,
    /// The trailer section with its last CRLF.
    pub trailers: Vec<u8>,
    pub end: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict<T> {
    /// Exactly one meaning.
    One(T),
    /// Two readers might differ.
    Ambiguous(&'static str),
    /// So far neither.
    Incomplete,
}

impl Message {
    /// The value of a field, by lower-case name.
    pub fn value_of(&self, name: &str) -> Option<Vec<u8>> {
        self.values(name).first().cloned()
    }

    /// Whether the connection persists by what `Connection` and the version say.
    pub fn keep_alive(&self) -> bool {
        let options: Vec<String> = self
            .values("connection")
            .iter()
            .flat_map(|value| {
                let text = String::from_utf8_lossy(value).to_ascii_lowercase();
                text.split(',')
                    .map(|part| part.trim_matches([' ', '\t']).to_owned())
                    .collect::<Vec<_>>()
            })
            .collect();
        let has = |wanted: &str| options.iter().any(|option| option == wanted);
        let http11 = self.first.iter().any(|part| part == b"HTTP/1.1");
        !has("close") && (http11 || has("keep-alive"))
    }

    fn values(&self, name: &str) -> Vec<Vec<u8>> {
        self.fields
            .iter()
            .filter(|(sent, _)| String::from_utf8_lossy(sent).to_ascii_lowercase() == name)
            .map(|(_, value)| value.clone())
            .collect()
    }
}

/// Reads a request's head at the start of `input`.
pub fn request(input: &[u8]) -> Verdict<Message> {
    let mut start = 0;
    while start < 4 && input[start..].starts_with(b"\r\n") {
        start += 2;
    }
    verdict(input, start, |line, fields| {
        let parts: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
        let [method, target, version] = parts[..] else { return Err("parts of the request line") };
        let text = std::str::from_utf8(method).map_err(|_| "method")?;
        let upper = |c: char| c.is_ascii_uppercase();
        if !text.starts_with(upper)
            || text.len() > 32
            || !text.chars().all(|c| upper(c) || "0123456789-_".contains(c))
        {
            return Err("method");
        }
        let http11 = version_of(version)?;
        if target.iter().any(|&b| b < 0x21 || b == 0x7f || b == b'#') {
            return Err("byte in the target");
        }
        if !form_fits(text, target) {
            return Err("form of the target");
        }
        let hosts = all(fields, "host");
        if hosts.len() > 1 || (hosts.is_empty() && http11) {
            return Err("number of hosts");
        }
        if hosts.iter().any(|host| !is_host(host)) {
            return Err("host");
        }
        let framing = framing(fields, http11)?.unwrap_or(Framing::None);
        Ok(([method, target, version].map(<[u8]>::to_vec), framing))
    })
}

/// Reads a response's head at the start of `input`.
pub fn response(input: &[u8], to_head: bool, to_connect: bool) -> Verdict<Message> {
    verdict(input, 0, |line, fields| {
        let mut parts = line.splitn(3, |&b| b == b' ');
        let version = parts.next().unwrap_or_default();
        let status = parts.next().unwrap_or_default();
        let reason = parts.next().unwrap_or_default();
        let http11 = version_of(version)?;
        let text = std::str::from_utf8(status).map_err(|_| "status")?;
        if text.len() != 3 || !text.chars().all(|c| c.is_ascii_digit()) {
            return Err("status");
        }
        let number: u16 = text.parse().map_err(|_| "status")?;
        if !(100..600).contains(&number) {
            return Err("status");
        }
        if !is_text(reason) {
            return Err("reason");
        }
        if line.len() > 8192 {
            return Err("length of the status line");
        }
        let announced = framing(fields, http11)?;
        let no_content = to_head
            || number < 200
            || number == 204
            || number == 304
            || (to_connect && number < 300);
        let framing = match announced {
            _ if no_content => Framing::None,
            Some(framing) => framing,
            None => Framing::UntilClose,
        };
        Ok(([version, status, reason].map(<[u8]>::to_vec), framing))
    })
}

/// Reads a chunked body at the start of `input`.
pub fn chunked(input: &[u8]) -> Verdict<Body> {
    let (mut rest, mut data) = (input, Vec::new());
    loop {
        let Some((line, after)) = split_at(rest, b"\r\n") else { return Verdict::Incomplete };
        let (digits, extension) = split_at(line, b";").unwrap_or((line, b""));
        let digits = String::from_utf8_lossy(digits);
        if digits.len() > 16 || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Verdict::Ambiguous("chunk size");
        }
        let Ok(size) = u64::from_str_radix(&digits, 16) else {
            return Verdict::Ambiguous("chunk size");
        };
        if line.len() > 4096 || !is_text(extension) {
            return Verdict::Ambiguous("chunk extension");
        }
        if size == 0 {
            return trailers(input, after, data);
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if after.len() < size {
            return Verdict::Incomplete;
        }
        data.extend_from_slice(&after[..size]);
        rest = match &after[size..] {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Verdict::Incomplete,
            _ => return Verdict::Ambiguous("end of a chunk"),
        };
    }
}

/// The fields of a trailer section with its last CRLF.
pub fn section(bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    fields_of(bytes.strip_suffix(b"\r\n")?).ok()
}

fn trailers(input: &[u8], after: &[u8], data: Vec<u8>) -> Verdict<Body> {
    let len = match split_at(after, b"\r\n\r\n") {
        _ if after.starts_with(b"\r\n") => 2,
        Some((lines, _)) => lines.len() + 4,
        None => return Verdict::Incomplete,
    };
    let section = &after[..len];
    if crlf_only(section).is_err() {
        return Verdict::Ambiguous("line end in the trailers");
    }
    let end = input.len() - after.len() + len;
    Verdict::One(Body { data, trailers: section.to_vec(), end })
}

type First = ([Vec<u8>; 3], Framing);
type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn verdict(
    input: &[u8],
    start: usize,
    read: impl FnOnce(&[u8], &Fields) -> Result<First, &'static str>,
) -> Verdict<Message> {
    let Some((head, _)) = split_at(&input[start..], b"\r\n\r\n") else {
        return Verdict::Incomplete;
    };
    let result = (|| {
        let (line, lines) = split_at(head, b"\r\n").unwrap_or((head, b""));
        crlf_only(head)?;
        let lines = if lines.is_empty() { Vec::new() } else { [lines, b"\r\n"].concat() };
        let fields = fields_of(&lines)?;
        let (first, framing) = read(line, &fields)?;
        let end = start + head.len() + 4;
        Ok(Message { first, fields, fields_size: lines.len(), framing, end })
    })();
    match result {
        Ok(message) => Verdict::One(message),
        Err(why) => Verdict::Ambiguous(why),
    }
}

/// Every CR stands before an LF and every LF behind a CR; no NUL.
fn crlf_only(bytes: &[u8]) -> Result<(), &'static str> {
    for (i, &byte) in bytes.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| bytes[i]);
        let fault = match byte {
            b'\r' => bytes.get(i + 1) != Some(&b'\n'),
            b'\n' => before != Some(b'\r'),
            0 => true,
            _ => false,
        };
        if fault {
            return Err("line end");
        }
    }
    Ok(())
}

/// `lines` are whole lines with their CRLFs.
fn fields_of(lines: &[u8]) -> Result<Fields, &'static str> {
    let mut fields = Vec::new();
    let mut rest = lines;
    while !rest.is_empty() {
        let (line, after) = split_at(rest, b"\r\n").ok_or("unfinished line")?;
        let (name, value) = split_at(line, b":").ok_or("no colon")?;
        let token = |&b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.iter().all(token) {
            return Err("field name");
        }
        if !is_text(value) {
            return Err("field value");
        }
        let blank = |&b: &u8| b != b' ' && b != b'\t';
        let first = value.iter().position(blank).unwrap_or(0);
        let last = value.iter().rposition(blank).map_or(first, |last| last + 1);
        fields.push((name.to_vec(), value[first..last].to_vec()));
        rest = after;
    }
    Ok(fields)
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|&b| b == b'\t' || (b >= 0x20 && b != 0x7f))
}

fn version_of(bytes: &[u8]) -> Result<bool, &'static str> {
    match std::str::from_utf8(bytes) {
        Ok("HTTP/1.1") => Ok(true),
        Ok("HTTP/1.0") => Ok(false),
        _ => Err("version"),
    }
}

fn all(fields: &Fields, name: &str) -> Vec<Vec<u8>> {
    fields
        .iter()
        .filter(|(sent, _)| String::from_utf8_lossy(sent).to_ascii_lowercase() == name)
        .map(|(_, value)| value.clone())
        .collect()
}

fn framing(fields: &Fields, http11: bool) -> Result<Option<Framing>, &'static str> {
    if all(fields, "connection").iter().map(|value| value.len()).sum::<usize>() > 1024 {
        return Err("length of Connection");
    }
    let lengths = all(fields, "content-length");
    let codings = all(fields, "transfer-encoding");
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([], [coding]) if http11 => {
            let chunked = String::from_utf8_lossy(coding).to_ascii_lowercase() == "chunked";
            if chunked { Ok(Some(Framing::Chunked)) } else { Err("transfer coding") }
        }
        ([length], []) => {
            let text = String::from_utf8_lossy(length);
            if !text.chars().all(|c| c.is_ascii_digit()) {
                return Err("length");
            }
            Ok(Some(Framing::Length(text.parse().map_err(|_| "length")?)))
        }
        _ => Err("framing fields"),
    }
}

fn form_fits(method: &str, target: &[u8]) -> bool {
    let lower = String::from_utf8_lossy(target).to_ascii_lowercase();
    let absolute = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://"));
    if method == "CONNECT" {
        let port = lower.rsplit_once(':').map(|(_, port)| port);
        return is_host(target)
            && port.is_some_and(|p| !p.is_empty() && p.chars().all(|c| c.is_ascii_digit()));
    }
    match absolute {
        _ if target.starts_with(b"/") => true,
        _ if target == b"*" => method == "OPTIONS",
        Some(rest) => is_host(rest.split(['/', '?']).next().unwrap_or_default().as_bytes()),
        None => false,
    }
}

fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match port.strip_prefix(':') {
                Some(port) => ("v6", port),
                None if port.is_empty() => ("v6", ""),
                None => return false,
            }
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port_fits = port.is_empty()
        || (port.len() <= 5
            && port.chars().all(|c| c.is_ascii_digit())
            && port.parse::<u16>().is_ok());
    let mut escaped = name.split('%');
    let plain = |part: &str| {
        part.chars().all(|c| c.is_ascii_alphanumeric() || "-._~!$&'()*+;=".contains(c))
    };
    let first = escaped.next().unwrap_or_default();
    let escapes = escaped.all(|part| {
        part.len() >= 2
            && part.is_char_boundary(2)
            && part[..2].chars().all(|c| c.is_ascii_hexdigit())
            && plain(&part[2..])
    });
    !name.is_empty() && plain(first) && escapes && port_fits
}

fn split_at<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}
