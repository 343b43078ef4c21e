//! The admin socket: a Unix socket in the state directory, for whoever may
//! write there. It answers what the admin address answers, and acts.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tracing::warn;

use super::admin::Status;
use super::admin_state::{self, Done, Wish};
use super::asker::Asker;
use super::check_status;
use super::explain;
use super::metrics;
use super::reload::{Options, Report};
use super::tail;
use super::times::shown;

/// What is asked of the process, and where the answer goes.
#[derive(Debug)]
pub(super) enum Command {
    /// Apply what the files say now.
    Reload(Options, Option<oneshot::Sender<Report>>),
    /// Hand over to a process started from this binary; `None`: from the own.
    Upgrade(Option<PathBuf>, Option<oneshot::Sender<Answer>>),
    /// Set the admin state of backends.
    SetState(Wish, oneshot::Sender<Result<Done, String>>),
}

/// How often, and how many times, a process that ends looks whether all answers
/// were taken.
const LAST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOKS: u32 = 200;

/// What an upgrade came to, in words.
pub(super) type Answer = Result<String, String>;

/// Where the socket of this state directory is.
#[must_use]
pub(super) fn socket_of(state_dir: &Path) -> PathBuf {
    state_dir.join("admin.sock")
}

/// The socket's file; it goes with this.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Where this process answers when a new one answers in its place.
    aside: Option<PathBuf>,
    /// Each connection has another one of it.
    connections: Rc<()>,
}

impl SocketFile {
    /// Waits, but not for long, for those who are still to get their answers.
    pub(super) async fn answered(&self) {
        let mut looks = LAST_LOOKS;
        while Rc::strong_count(&self.connections) > 2 && looks > 0 {
            looks -= 1;
            tokio::time::sleep(LAST_LOOK).await;
        }
    }

    /// Answers there too. The file it had is left to the new process, which puts
    /// its own in that place: there is one at any time.
    pub(super) fn step_aside(&mut self, aside: PathBuf) -> io::Result<()> {
        // Of a process that had the same number.
        let _ = fs::remove_file(&aside);
        fs::hard_link(&self.path, &aside)?;
        self.aside = Some(aside);
        Ok(())
    }

    /// Takes its place again.
    pub(super) fn come_back(&mut self) -> io::Result<()> {
        let Some(aside) = self.aside.take() else { return Ok(()) };
        // Two names of one file stay as they are when one is renamed to the other.
        let _ = fs::remove_file(&self.path);
        fs::rename(aside, &self.path)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Where it stays, the next process takes its place.
        let _ = fs::remove_file(self.aside.as_ref().unwrap_or(&self.path));
    }
}

/// The sockets of old processes that finish what they hold.
pub(super) fn old_sockets(state_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(state_dir).into_iter().flatten().flatten();
    let mut sockets: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            name.starts_with("old-") && name.ends_with(".sock")
        })
        .map(|entry| entry.path())
        .collect();
    sockets.sort();
    sockets
}

/// A socket that is ready, and not in its place yet.
#[derive(Debug)]
pub(super) struct Door {
    listener: UnixListener,
    draft: PathBuf,
    path: PathBuf,
}

/// Makes the socket.
///
/// # Errors
/// It can't be made. Signals still do what they do without it.
pub(super) fn open(state_dir: &Path) -> Result<Door, String> {
    let path = socket_of(state_dir);
    for old in old_sockets(state_dir) {
        // One that was killed left it.
        if std::os::unix::net::UnixStream::connect(&old).is_err() {
            let _ = fs::remove_file(&old);
        }
    }
    // Ours alone: the state directory is locked.
    let draft = state_dir.join("admin.sock.new");
    let _ = fs::remove_file(&draft);
    let listener = UnixListener::bind(&draft).and_then(|socket| {
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))?;
        Ok(socket)
    });
    match listener {
        Ok(listener) => Ok(Door { listener, draft, path }),
        Err(error) => Err(format!("{}: {error}", draft.display())),
    }
}

/// Puts the socket in its place and answers there for as long as the process
/// runs. What an earlier process left is replaced at once, so that who asks while
/// one follows another is answered.
pub(super) fn serve(
    door: Result<Door, String>,
    commander: mpsc::Sender<Command>,
    status: Rc<Status>,
) -> Option<SocketFile> {
    let placed = door.and_then(|Door { listener, draft, path }| {
        fs::rename(&draft, &path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok((listener, path))
    });
    let (listener, path) = match placed {
        Ok(placed) => placed,
        Err(error) => {
            warn!(%error, "no admin socket: `lockgate reload` and others cannot reach this process");
            return None;
        }
    };
    let connections = Rc::new(());
    let counted = Rc::clone(&connections);
    spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (commander, status) = (commander.clone(), Rc::clone(&status));
                    let counted = Rc::clone(&counted);
                    spawn_local(async move {
                        connection(stream, commander, status).await;
                        drop(counted);
                    });
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    Some(SocketFile { path, aside: None, connections })
}

async fn connection(stream: UnixStream, commander: mpsc::Sender<Command>, status: Rc<Status>) {
    let service = service_fn(|request| {
        let (commander, status) = (commander.clone(), Rc::clone(&status));
        async move { Ok::<_, Infallible>(respond(request, &commander, &status).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    // A client that breaks its own connection is its own business.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(
    request: Request<Incoming>,
    commander: &mpsc::Sender<Command>,
    status: &Rc<Status>,
) -> Response<Either<Full<Bytes>, tail::Lines>> {
    let request = match (request.method(), request.uri().path()) {
        (&Method::POST, explain::TARGET) => {
            return response(explained(request, status).await).map(Either::Left);
        }
        (&Method::GET, "/metrics") => return measured(&request, status).await.map(Either::Left),
        (&Method::GET, tail::TARGET) => {
            let query = request.uri().query().unwrap_or_default();
            return match tail::subscribe(query, status).await {
                Ok(lines) => Response::new(Either::Right(lines)),
                Err(why) => response((StatusCode::BAD_REQUEST, why.into())).map(Either::Left),
            };
        }
        _ => &request,
    };
    response(obeyed(request, commander, status).await).map(Either::Left)
}

async fn measured(request: &Request<Incoming>, status: &Status) -> Response<Full<Bytes>> {
    let Some(page) = metrics::page(status, request.headers()).await else {
        return response(not_ready());
    };
    let mut response = response((StatusCode::OK, page.text.into_bytes()));
    let kind = header::HeaderValue::from_static(page.content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// What would become of a request; nothing does.
async fn explained(request: Request<Incoming>, status: &Status) -> (StatusCode, Vec<u8>) {
    let Some(asker) = status.asker.get() else { return not_ready() };
    let body = Limited::new(request.into_body(), explain::LONGEST).collect().await;
    let Ok(body) = body else {
        return (StatusCode::PAYLOAD_TOO_LARGE, b"the question is too long\n".to_vec());
    };
    match explain::answer(asker, &body.to_bytes()) {
        Ok(explanation) => (StatusCode::OK, explanation),
        Err(why) => (StatusCode::BAD_REQUEST, why.into_bytes()),
    }
}

async fn obeyed(
    request: &Request<Incoming>,
    commander: &mpsc::Sender<Command>,
    status: &Status,
) -> (StatusCode, Vec<u8>) {
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/reload") => {
            let options = Options {
                dry_run: has(request, "dry_run"),
                all: has(request, "all"),
                allow_empty: has(request, "allow_empty"),
            };
            match order(commander, |reply| Command::Reload(options, Some(reply))).await {
                Some(report) => {
                    (StatusCode::OK, serde_json::to_vec_pretty(&report).unwrap_or_default())
                }
                None => not_done(status),
            }
        }
        (&Method::POST, "/upgrade") => {
            let binary = binary(request.uri().query());
            match order(commander, |reply| Command::Upgrade(binary, Some(reply))).await {
                Some(Ok(said)) => (StatusCode::OK, said.into_bytes()),
                Some(Err(why)) => (StatusCode::CONFLICT, why.into_bytes()),
                None => not_done(status),
            }
        }
        (&Method::GET, "/request.json") => match status.asker.get() {
            Some(asker) => {
                let id = decoded(request.uri().query().unwrap_or_default().as_bytes());
                match asker.recall(&String::from_utf8_lossy(&id)).await {
                    Some(line) => (StatusCode::OK, line.into_bytes()),
                    None => (StatusCode::NOT_FOUND, unknown(asker).into_bytes()),
                }
            }
            None => not_ready(),
        },
        (&Method::GET | &Method::POST, "/state") => {
            admin_state::answer(request, commander, status).await
        }
        (&Method::GET, "/status") => match status.asker.get() {
            Some(asker) => {
                let (_, page) = check_status::page(&asker.snapshot(), request.uri().query());
                (StatusCode::OK, page.into_bytes())
            }
            None => (StatusCode::SERVICE_UNAVAILABLE, b"not ready\n".to_vec()),
        },
        (&Method::GET, "/status.json") => match status.asker.get() {
            // For who shows it in another form.
            Some(asker) if has(request, "compact") => {
                (StatusCode::OK, asker.compact().await.into_bytes())
            }
            Some(asker) => (StatusCode::OK, asker.json().await.into_bytes()),
            None => not_ready(),
        },
        _ => (
            StatusCode::NOT_FOUND,
            b"404 there are GET /status.json, /status, /metrics, /tail, /state and /request.json?ID, POST /explain, \
              /reload, /upgrade and /state\n"
                .to_vec(),
        ),
    }
}

/// Of a request that is asked for by its id.
fn unknown(asker: &Asker) -> String {
    format!(
        "no request of this id among the last that failed or were retried since this process \
         began, at {}: a restart or an upgrade begins anew; the access log has what was before\n",
        shown(asker.since())
    )
}

fn not_ready() -> (StatusCode, Vec<u8>) {
    (StatusCode::SERVICE_UNAVAILABLE, b"not ready\n".to_vec())
}

fn response((code, body): (StatusCode, Vec<u8>)) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// Has something done; what came of it. `None`: this process does nothing any more.
pub(super) async fn order<T>(
    commander: &mpsc::Sender<Command>,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    // What was not sent comes back, with the sender: nobody waits for that.
    commander.send(command(reply)).await.ok()?;
    answer.await.ok()
}

/// Why nothing is done any more. After a hand-over [`client`](super::client) asks
/// the new process.
pub(super) fn not_done(status: &Status) -> (StatusCode, Vec<u8>) {
    if status.asker.get().is_some_and(Asker::has_handed_over) {
        let why = b"a new process serves since a moment ago: ask once more\n".to_vec();
        return (StatusCode::MISDIRECTED_REQUEST, why);
    }
    (StatusCode::SERVICE_UNAVAILABLE, b"lockgate is stopping\n".to_vec())
}

/// The binary that an upgrade is asked for with, written by [`escaped`].
fn binary(query: Option<&str>) -> Option<PathBuf> {
    let written = query?.strip_prefix("binary=")?.as_bytes();
    Some(PathBuf::from(OsString::from_vec(decoded(written))))
}

/// What was written by [`escaped`].
pub(super) fn decoded(mut rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let [first, more @ ..] = rest {
        let coded = match rest {
            [b'%', high, low, after @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                digit(high).zip(digit(low)).map(|(high, low)| (high * 16 + low, after))
            }
            _ => None,
        };
        let (byte, after) = match coded {
            Some((byte, after)) => (u8::try_from(byte).unwrap_or(*first), after),
            None => (*first, more),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

/// A path as a query can carry it.
pub(super) fn escaped(path: &Path) -> String {
    let mut out = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                out.push(char::from(*byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Whether the query names this.
fn has(request: &Request<Incoming>, name: &str) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').any(|one| one == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_an_admin_socket_at_any_time_of_an_upgrade() {
        use std::os::unix::net::{UnixListener, UnixStream};
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (socket_of(dir.path()), dir.path().join("old-1.sock"));
        let listener = UnixListener::bind(&path).unwrap();
        let mut file = SocketFile { path: path.clone(), aside: None, connections: Rc::default() };
        file.step_aside(aside.clone()).unwrap();
        assert_eq!(old_sockets(dir.path()), std::slice::from_ref(&aside));
        assert!([&path, &aside].iter().all(|path| UnixStream::connect(path).is_ok()));
        // The new process has put its own there, and fails.
        let theirs = dir.path().join("theirs");
        drop(UnixListener::bind(&theirs).unwrap());
        fs::rename(theirs, &path).unwrap();
        assert!(UnixStream::connect(&path).is_err());
        file.come_back().unwrap();
        assert!(UnixStream::connect(&path).is_ok() && !aside.exists());
        // It had not put it there yet.
        file.step_aside(aside.clone()).unwrap();
        file.come_back().unwrap();
        assert!(UnixStream::connect(&path).is_ok() && !aside.exists());
        // It serves: its file stays when this process ends.
        file.step_aside(aside.clone()).unwrap();
        drop(file);
        assert!(path.exists() && !aside.exists());
        drop(listener);
    }

    #[test]
    fn a_path_arrives_as_it_was_written() {
        let paths: [&[u8]; 4] =
            [b"/usr/bin/lockgate", b"/a b/%41&?=#", "/锁/é".as_bytes(), b"/\xff%"];
        for bytes in paths {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            let query = format!("binary={}", escaped(&path));
            assert_eq!(binary(Some(&query)), Some(path));
        }
        assert_eq!((binary(None), binary(Some("dry_run"))), (None, None));
    }
}
