//! The admin listener: the operator's own, on loopback by default, read-only.
//! `/live` says that the process is there, `/ready` that it takes connections,
//! `/status.json` what runs and who is on it, `/` is a page that shows it, `/status`
//! what probes found, `/metrics` everything in numbers.

use std::cell::{Cell, OnceCell};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::asker::Asker;
use super::check_status;
use super::history::Reloads;
use super::metrics::{self, Taken};
use super::page;

/// Connections at once; more wait.
const CONNECTIONS: usize = 64;
/// A connection's whole life: probes and browsers come back anyway.
const LIFE: Duration = Duration::from_secs(60);
/// So long it is then waited for an answer that is under way.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// What the pages tell.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// New connections are accepted.
    pub(super) ready: Cell<bool>,
    /// Set once there are workers to ask.
    pub(super) asker: OnceCell<Asker>,
    /// What reloads did.
    pub(super) reloads: Reloads,
    /// How the files were taken.
    pub(super) taken: Rc<Taken>,
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
    live(tcp, service).await;
}

/// Answers on a connection for as long as it may live, and never cuts an answer.
async fn live<S>(stream: impl AsyncRead + AsyncWrite + Unpin, service: S)
where
    S: HttpService<Incoming, ResBody = Full<Bytes>, Error = Infallible>,
{
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    // A client that breaks its own connection is its own business.
    if timeout(LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_ANSWER, connection).await;
    }
}

async fn respond(
    request: &Request<Incoming>,
    status: &Status,
    address: Option<SocketAddr>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let asker = status.asker.get();
    // Balancers ask with whatever Host they like, and learn nothing else.
    let is_check = matches!(path, "/live" | "/ready");
    let mut kind = "text/plain; charset=utf-8";
    let (code, body) = if !is_check && !knows_all(request, address, asker) {
        (StatusCode::MISDIRECTED_REQUEST, STRANGER.into())
    } else if !matches!(*request.method(), Method::GET | Method::HEAD) {
        (StatusCode::METHOD_NOT_ALLOWED, ACTS.into())
    } else {
        match (path, asker) {
            ("/live", _) => (StatusCode::OK, "live\n".into()),
            ("/ready", _) if status.ready.get() => (StatusCode::OK, "ready\n".into()),
            ("/", _) => {
                kind = "text/html; charset=utf-8";
                (StatusCode::OK, Bytes::from_static(page::PAGE.as_bytes()))
            }
            ("/status.json", Some(asker)) => {
                kind = "application/json";
                let is_for_page = request.uri().query() == Some("compact");
                let document = if is_for_page { asker.compact().await } else { asker.json().await };
                (StatusCode::OK, Bytes::from(document))
            }
            ("/status", Some(asker)) => {
                let (media, page) = check_status::page(&asker.snapshot(), request.uri().query());
                kind = media;
                (StatusCode::OK, Bytes::from(page))
            }
            ("/metrics", Some(_)) => match metrics::page(status, request.headers()).await {
                Some(page) => {
                    kind = page.content_type;
                    (StatusCode::OK, Bytes::from(page.text))
                }
                None => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".into()),
            },
            ("/ready" | "/status.json" | "/status" | "/metrics", _) => {
                (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".into())
            }
            _ => (StatusCode::NOT_FOUND, PAGES.into()),
        }
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page::guard(headers);
    if status.asker.get().is_some_and(Asker::has_handed_over) {
        // The next request is the new process's.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if code == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

const PAGES: &str = "404 there are /, /live, /ready, /status.json, /status and /metrics\n";
const STRANGER: &str =
    "421 this Host is not served here: name it in `hosts` under `[admin]` in lockgate.toml\n";
const ACTS: &str = "405 only GET and HEAD: this address tells, and does nothing. `lockgate reload`, \
    `drain` and the others use the socket admin.sock in the state directory\n";

/// Whether all Hosts of the request are known. HTTP/1.0 probes send none.
fn knows_all(
    request: &Request<Incoming>,
    address: Option<SocketAddr>,
    asker: Option<&Asker>,
) -> bool {
    let snapshot = asker.map(Asker::snapshot);
    let more = snapshot.as_ref().map_or(&[][..], |snapshot| &snapshot.process.admin_hosts);
    let mut hosts = request.headers().get_all(header::HOST).iter();
    hosts.all(|host| host.to_str().is_ok_and(|host| knows(host, address, more)))
}

/// A page of the internet must not reach the listener through a name of its own
/// that resolves here (DNS rebinding): only names are answered that are ours, and
/// addresses, which nobody can make resolve to another.
fn knows(host: &str, address: Option<SocketAddr>, more: &[String]) -> bool {
    let host = host.to_ascii_lowercase();
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        _ => (&*host, "80"),
    };
    let ip: Option<IpAddr> = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let is_address = |address: SocketAddr| {
        let is_any = address.ip().is_unspecified() && ip.is_some();
        (is_any || ip == Some(address.ip())) && port.parse() == Ok(address.port())
    };
    // Through a tunnel a loopback address comes with another port.
    name == "localhost"
        || ip.is_some_and(|ip| ip.to_canonical().is_loopback())
        || address.is_some_and(is_address)
        || more.iter().any(|one| *one == host || one == name)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_between_two_answers() {
        let (mut client, server) = duplex(1024);
        let service = service_fn(|_| async {
            tokio::time::sleep(LIFE + Duration::from_secs(5)).await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"whole"))))
        });
        let asked = async {
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (answer, ()) = tokio::join!(asked, live(server, service));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nwhole"), "{answer}");
    }

    #[test]
    fn only_its_own_names_are_answered() {
        let local = Some(SocketAddr::from(([127, 0, 0, 1], 9900)));
        for good in
            ["127.0.0.1:9900", "127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:9900", "127.0.0.2:1"]
        {
            assert!(knows(good, local, &[]), "{good}");
        }
        let all = "0.0.0.0:9900".parse().ok();
        let inside = "10.0.0.1:9900".parse().ok();
        assert!(knows("10.0.0.1:9900", inside, &[]) && knows("10.0.0.7:9900", all, &[]));
        for bad in [
            "evil.example",
            "evil.example:9900",
            "127.0.0.1.evil.example:9900",
            "localhost.evil.example",
            "10.0.0.2:9900",
            "10.0.0.1:9901",
            "10.0.0.1",
            "",
            ":9900",
        ] {
            assert!(!knows(bad, local, &[]) && !knows(bad, inside, &[]), "{bad}");
        }
        assert!(!knows("evil.example:9900", all, &[]) && !knows("10.0.0.7:9901", all, &[]));
        let v6 = "[fd00::1]:9900".parse().ok();
        assert!(knows("[fd00::1]:9900", v6, &[]) && !knows("[fd00::2]:9900", v6, &[]));
        let more = ["gate.internal".to_owned(), "gate.test:9900".to_owned()];
        for good in ["gate.internal", "Gate.Internal:1", "gate.test:9900"] {
            assert!(knows(good, local, &more) && !knows(good, local, &[]), "{good}");
        }
        assert!(!knows("gate.test:9901", local, &more) && !knows("gate.test", local, &more));
    }
}
