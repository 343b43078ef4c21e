//! The admin listener: the operator's own, on loopback by default, read-only.
//! `/live` says that the process is there, `/ready` that it takes connections,
//! `/status.json` what runs and who is on it.

use std::cell::{Cell, OnceCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::status::Asker;

/// Connections at once; more wait.
const CONNECTIONS: usize = 64;
/// A connection's whole life: probes and browsers come back anyway.
const LIFE: Duration = Duration::from_secs(60);

/// What the pages tell.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// New connections are accepted.
    pub(super) ready: Cell<bool>,
    /// Set once there are workers to ask.
    pub(super) asker: OnceCell<Asker>,
}

/// Answers on the listener for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, status: Rc<Status>) {
    let address = listener.local_addr().ok();
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        // It is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((tcp, _)) => {
                let status = Rc::clone(&status);
                spawn_local(async move {
                    connection(tcp, status, address).await;
                    drop(place);
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(tcp: TcpStream, status: Rc<Status>, address: Option<SocketAddr>) {
    let service = service_fn(|request| {
        let status = Rc::clone(&status);
        async move { Ok::<_, Infallible>(respond(&request, &status, address).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    // A client that breaks its own connection is its own business.
    let _ = timeout(LIFE, server.serve_connection(TokioIo::new(tcp), service)).await;
}

async fn respond(
    request: &Request<Incoming>,
    status: &Status,
    address: Option<SocketAddr>,
) -> Response<Full<Bytes>> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let mut kind = "text/plain; charset=utf-8";
    let (code, body) = if !knows(host, address) {
        (StatusCode::MISDIRECTED_REQUEST, "421 this Host is not served here\n".into())
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        (StatusCode::METHOD_NOT_ALLOWED, "405 only GET and HEAD\n".into())
    } else {
        match (request.uri().path(), status.asker.get()) {
            ("/live", _) => (StatusCode::OK, "live\n".into()),
            ("/ready", _) if status.ready.get() => (StatusCode::OK, "ready\n".into()),
            ("/status.json", Some(asker)) => {
                kind = "application/json";
                (StatusCode::OK, Bytes::from(asker.json().await))
            }
            ("/ready" | "/status.json", _) => {
                (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".into())
            }
            _ => (StatusCode::NOT_FOUND, "404 there are /live, /ready and /status.json\n".into()),
        }
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    if status.asker.get().is_some_and(Asker::has_handed_over) {
        // The next request is the new process's.
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    response
}

/// Only by the listener's own address or `localhost`: a page of the internet
/// must not reach it through a name that resolves to loopback (DNS rebinding).
fn knows(host: Option<&str>, address: Option<SocketAddr>) -> bool {
    // HTTP/1.0 probes send none.
    let Some(host) = host else { return true };
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let ip = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
    name.eq_ignore_ascii_case("localhost")
        || address.is_some_and(|address| address.ip().is_unspecified() || ip == Some(address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_names_are_answered() {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 9900)));
        for good in ["127.0.0.1:9900", "127.0.0.1", "localhost:1", "LOCALHOST"] {
            assert!(knows(Some(good), address), "{good}");
        }
        for bad in ["evil.example", "127.0.0.1.evil.example:9900", "127.0.0.2", ""] {
            assert!(!knows(Some(bad), address), "{bad}");
        }
        let v6 = "[::1]:9900".parse().ok();
        assert!(knows(Some("[::1]:9900"), v6) && !knows(Some("[::2]:9900"), v6));
    }
}
