//! Asks the running process over its admin socket.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::commands::{escaped, old_sockets, socket_of};

/// Longer than an upgrade may take (`[upgrade] timeout` at its longest); a reload
/// waits for name servers at most, and for an upgrade under way.
const PATIENCE: Duration = Duration::from_secs(360);
/// So many processes are asked until one does it: each handed over while the
/// question waited there.
const PROCESSES: usize = 5;

/// The body of a good answer.
///
/// # Errors
/// Nobody answers, or with another status; what to do about it.
pub fn ask(state_dir: &Path, method: &str, target: &str) -> Result<Vec<u8>, String> {
    ask_at(&socket_of(state_dir), method, target, b"")
}

/// The same with a body.
pub(super) fn send(
    state_dir: &Path,
    method: &str,
    target: &str,
    body: &[u8],
) -> Result<Vec<u8>, String> {
    ask_at(&socket_of(state_dir), method, target, body)
}

/// Has the running process hand over to this binary, or to its own path's; what
/// it says of that.
///
/// # Errors
/// The running process goes on, and why.
pub fn upgrade(state_dir: &Path, binary: Option<&Path>) -> Result<String, String> {
    let target = match binary {
        None => "/upgrade".to_owned(),
        Some(binary) => {
            let binary = std::path::absolute(binary)
                .map_err(|error| format!("{}: {error}", binary.display()))?;
            format!("/upgrade?binary={}", escaped(&binary))
        }
    };
    let said = ask(state_dir, "POST", &target)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// The status documents of old processes that finish what they hold.
#[must_use]
pub fn old_processes(state_dir: &Path) -> Vec<Vec<u8>> {
    let sockets = old_sockets(state_dir);
    // One that has just ended is none any more.
    sockets
        .iter()
        .filter_map(|socket| ask_at(socket, "GET", "/status.json?compact", b"").ok())
        .collect()
}

/// What was told of a request, by whoever had it: the running process, or an old
/// one that finishes what it holds.
///
/// # Errors
/// Nobody knows it, or nobody answers.
pub fn recall(state_dir: &Path, request_id: &str) -> Result<Vec<u8>, String> {
    // Those of lockgate itself are lower case, however they are told on the telephone;
    // those of trusted proxies are what they are.
    let mut ids = vec![request_id.to_owned(), request_id.to_ascii_lowercase()];
    ids.dedup();
    let targets = ids.iter().map(|id| format!("/request.json?{}", escaped(Path::new(id))));
    let targets: Vec<String> = targets.collect();
    let at = |socket: &Path| {
        let mut answers = targets.iter().map(|target| ask_at(socket, "GET", target, b""));
        let first = answers.next().unwrap_or_else(|| Err(String::new()));
        first.or_else(|why| answers.find_map(Result::ok).ok_or(why))
    };
    let of_old = || old_sockets(state_dir).iter().find_map(|socket| at(socket).ok());
    at(&socket_of(state_dir)).or_else(|error| of_old().ok_or(error))
}

/// The status and the body of the running process's answer.
///
/// # Errors
/// Nobody answers.
pub(super) fn answer(
    state_dir: &Path,
    method: &str,
    target: &str,
) -> Result<(u16, Vec<u8>), String> {
    answer_at(&socket_of(state_dir), method, target, b"")
}

fn ask_at(socket: &Path, method: &str, target: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    match answer_at(socket, method, target, body)? {
        (200, body) => Ok(body),
        (_, body) => Err(said(&body)),
    }
}

/// What is said in a bad answer.
pub(super) fn said(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim().to_owned()
}

fn answer_at(
    socket: &Path,
    method: &str,
    target: &str,
    body: &[u8],
) -> Result<(u16, Vec<u8>), String> {
    let mut answer = exchange(socket, method, target, body)?;
    for _ in 1..PROCESSES {
        if answer.0 == HANDED_OVER {
            answer = exchange(socket, method, target, body)?;
        }
    }
    Ok(answer)
}

/// Misdirected Request (RFC 9110 15.5.20): nothing was done, and a new connection
/// leads to who can.
const HANDED_OVER: u16 = 421;

/// The status and the body of the answer.
fn exchange(
    socket: &Path,
    method: &str,
    target: &str,
    body: &[u8],
) -> Result<(u16, Vec<u8>), String> {
    let failed = |error: io::Error| failed(socket, &error);
    let mut stream = connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let parsed = head.parse(&answer);
    let (Ok(httparse::Status::Complete(end)), Some(code)) = (parsed, head.code) else {
        return Err(format!("{}: lockgate ended before it answered", socket.display()));
    };
    Ok((code, answer.get(end..).unwrap_or_default().to_vec()))
}

fn connect(socket: &Path) -> Result<UnixStream, String> {
    UnixStream::connect(socket).map_err(|error| failed(socket, &error))
}

fn failed(socket: &Path, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "no lockgate runs on this state directory: start one, or name its directory with --state"
        }
        io::ErrorKind::PermissionDenied => "run this as the user lockgate runs as, or as root",
        _ => "is this the state directory of a running lockgate?",
    };
    format!("{}: {error}: {why}", socket.display())
}

/// What the running process goes on sending, after the head of a good answer.
pub(super) fn open(state_dir: &Path, target: &str) -> Result<BufReader<UnixStream>, String> {
    let socket = socket_of(state_dir);
    let failed = |error: io::Error| failed(&socket, &error);
    let mut stream = connect(&socket)?;
    // Of this version: the body ends with the connection and has no frames.
    let request = format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = BufReader::new(stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if answer.read_until(b'\n', &mut head).map_err(failed)? == 0 {
            return Err(format!("{}: lockgate ended before it answered", socket.display()));
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Response::new(&mut fields);
    if parsed.parse(&head).is_ok() && parsed.code == Some(200) {
        return Ok(answer);
    }
    let mut why = Vec::new();
    answer.read_to_end(&mut why).map_err(failed)?;
    Err(said(&why))
}
