//! The admin socket: a Unix socket in the state directory, for whoever may
//! write there. It answers what the admin address answers, and acts.

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use tracing::warn;

use super::admin::Status;
use super::reload::{Options, Report};

/// What is asked of the process, and where the answer goes.
#[derive(Debug)]
pub(super) enum Command {
    /// Apply what the files say now.
    Reload(Options, oneshot::Sender<Report>),
}

/// Where the socket of this state directory is.
#[must_use]
pub(super) fn socket_of(state_dir: &Path) -> PathBuf {
    state_dir.join("admin.sock")
}

/// The socket's file; it goes with this.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Where it stays, the next process takes its place.
        let _ = fs::remove_file(&self.0);
    }
}

/// Answers on the socket for as long as the process runs. Without it signals
/// still do what they do.
pub(super) fn serve(
    state_dir: &Path,
    commander: mpsc::Sender<Command>,
    status: Rc<Status>,
) -> Option<SocketFile> {
    let path = socket_of(state_dir);
    // Ours alone: the state directory is locked. An earlier process left it.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).and_then(|socket| {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map(|()| socket)
    });
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            warn!(socket = %path.display(), %error, "no admin socket: `lockgate reload` and others cannot reach this process");
            return None;
        }
    };
    spawn_local(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    spawn_local(connection(stream, commander.clone(), Rc::clone(&status)));
                }
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    });
    Some(SocketFile(path))
}

async fn connection(stream: UnixStream, commander: mpsc::Sender<Command>, status: Rc<Status>) {
    let service = service_fn(|request| {
        let (commander, status) = (commander.clone(), Rc::clone(&status));
        async move { Ok::<_, Infallible>(respond(&request, &commander, &status).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(std::time::Duration::from_secs(10));
    // A client that breaks its own connection is its own business.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(
    request: &Request<Incoming>,
    commander: &mpsc::Sender<Command>,
    status: &Status,
) -> Response<Full<Bytes>> {
    let (code, body) = match (request.method(), request.uri().path()) {
        (&Method::POST, "/reload") => {
            let options = Options {
                dry_run: has(request, "dry_run"),
                all: has(request, "all"),
                allow_empty: has(request, "allow_empty"),
            };
            let (reply, answer) = oneshot::channel();
            let sent = commander.send(Command::Reload(options, reply)).await;
            match (sent, answer.await) {
                (Ok(()), Ok(report)) => {
                    (StatusCode::OK, serde_json::to_vec_pretty(&report).unwrap_or_default())
                }
                _ => (StatusCode::SERVICE_UNAVAILABLE, b"lockgate is stopping\n".to_vec()),
            }
        }
        (&Method::GET, "/status.json") => match status.asker.get() {
            Some(asker) => (StatusCode::OK, asker.json().await.into_bytes()),
            None => (StatusCode::SERVICE_UNAVAILABLE, b"not ready\n".to_vec()),
        },
        _ => (StatusCode::NOT_FOUND, b"404 there are GET /status.json and POST /reload\n".to_vec()),
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// Whether the query names this.
fn has(request: &Request<Incoming>, name: &str) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').any(|one| one == name))
}
