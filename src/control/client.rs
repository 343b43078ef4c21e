//! Asks the running process over its admin socket.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::commands::socket_of;

/// A reload waits for name servers at most; everything else is quick.
const PATIENCE: Duration = Duration::from_secs(60);

/// The body of a good answer.
///
/// # Errors
/// Nobody answers, or with another status; what to do about it.
pub fn ask(state_dir: &Path, method: &str, target: &str) -> Result<Vec<u8>, String> {
    let socket = socket_of(state_dir);
    let failed = |error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "no lockgate runs on this state directory: start one, or name its directory with --state"
            }
            io::ErrorKind::PermissionDenied => "run this as the user lockgate runs as, or as root",
            _ => "is this the state directory of a running lockgate?",
        };
        format!("{}: {error}: {why}", socket.display())
    };
    let mut stream = UnixStream::connect(&socket).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let request =
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed)?;
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let parsed = head.parse(&answer);
    let (Ok(httparse::Status::Complete(end)), Some(code)) = (parsed, head.code) else {
        return Err(format!("{}: lockgate ended before it answered", socket.display()));
    };
    let body = answer.get(end..).unwrap_or_default().to_vec();
    match code {
        200 => Ok(body),
        _ => Err(String::from_utf8_lossy(&body).trim().to_owned()),
    }
}
