//! Backends that speak HTTP/2 without TLS (`protocol = "h2c"`, gRPC), for
//! clients of HTTP/1.1 and of HTTP/2: heads, bodies and trailers both ways,
//! connections that many requests share, and what a backend can break.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsConnector;

use crate::support::{
    Backend, Call, DEADLINE, Ending, H2, H2Backend, H2Options, H2Seen, Silent, Site, SiteBuilder,
    authority, chunked, eventually, pattern, response, send_all, settled, trailers,
};

const MIB: usize = 1024 * 1024;

/// An https listener before `h2c` backends at these addresses.
fn site_of(addresses: &[&str]) -> SiteBuilder {
    let site = Site::https().group("protocol = \"h2c\"");
    addresses.iter().fold(site, |site, address| site.address(address))
}

fn site_before(backend: &H2Backend) -> Site {
    site_of(&[&backend.address()]).start()
}

// An HTTP/2 client.

/// Runs a client's side of a test to its end.
#[track_caller]
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(DEADLINE * 3, work).await };
    LocalSet::new().block_on(&runtime, bounded).expect("the client's side comes to its end")
}

/// One step; a panic when it does not end.
async fn step<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, work).await;
    done.unwrap_or_else(|_| panic!("never happened: {what}"))
}

/// A connection to the site.
async fn connect(site: &Site) -> SendRequest<Bytes> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority().roots())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(("127.0.0.1", site.port())).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from("a.test").unwrap();
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let tls = step("the TLS handshake", tls).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let (requests, connection) = h2::client::handshake(tls).await.unwrap();
    spawn_local(async move {
        let _ = connection.await;
    });
    requests
}

fn head(method: &str, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("https://a.test{path}")).body(()).unwrap()
}

/// A response as the client saw it.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    fields: HeaderMap,
    /// It ended with its head.
    bodiless: bool,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    error: Option<h2::Error>,
}

impl Answer {
    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.error.is_none(), "{self:?}");
        self
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads a response.
async fn read(response: h2::client::ResponseFuture) -> Answer {
    let response = step("the response's head", response).await.expect("a head");
    let (parts, mut body) = response.into_parts();
    let mut answer = Answer {
        status: parts.status,
        fields: parts.headers,
        bodiless: body.is_end_stream(),
        body: Vec::new(),
        trailers: None,
        error: None,
    };
    loop {
        match step("more of the body", body.data()).await {
            Some(Ok(data)) => {
                let _ = body.flow_control().release_capacity(data.len());
                answer.body.extend_from_slice(&data);
            }
            Some(Err(error)) => {
                answer.error = Some(error);
                return answer;
            }
            None => break,
        }
    }
    match step("the trailers", body.trailers()).await {
        Ok(trailers) => answer.trailers = trailers,
        Err(error) => answer.error = Some(error),
    }
    answer
}

/// Sends a request that ends with its head.
async fn ask(requests: &SendRequest<Bytes>, request: Request<()>) -> Answer {
    let mut requests = requests.clone().ready().await.unwrap();
    let (response, _) = requests.send_request(request, true).unwrap();
    read(response).await
}

async fn get(requests: &SendRequest<Bytes>, path: &str) -> Answer {
    ask(requests, head("GET", path)).await
}

/// Begins a request with a body.
async fn begin(
    requests: &SendRequest<Bytes>,
    request: Request<()>,
) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    let mut requests = requests.clone().ready().await.unwrap();
    requests.send_request(request, false).unwrap()
}

/// The next piece of a body.
async fn piece(body: &mut RecvStream) -> Vec<u8> {
    let data = step("a piece of the body", body.data()).await.expect("no end").expect("no error");
    let _ = body.flow_control().release_capacity(data.len());
    data.to_vec()
}

/// Nothing more comes, and the end is no reset.
async fn ends(body: &mut RecvStream) {
    while let Some(data) = step("the end", body.data()).await {
        assert!(data.expect("a clean end").is_empty(), "more than was wanted");
    }
}

// Heads.

/// What both clients' requests must have become.
#[track_caller]
fn assert_forwarded(seen: &H2Seen, path: &str) {
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", path));
    assert_eq!((seen.authority.as_str(), seen.scheme.as_str()), ("a.test", "http"));
    let all = |name: &str| -> Vec<&str> {
        seen.fields.iter().filter(|(field, _)| field == name).map(|(_, v)| v.as_str()).collect()
    };
    for hop in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "host",
        "x-hop",
        "content-length",
    ] {
        assert!(all(hop).is_empty(), "{hop} in {:?}", seen.fields);
    }
    assert_eq!(all("te"), ["trailers"]);
    assert_eq!(all("x-mixed-case"), ["Value", "Other"]);
    assert_eq!(all("cookie"), ["a=1; b=2"]);
    assert_eq!(all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(all("x-forwarded-proto"), ["https"]);
    assert_eq!(all("x-forwarded-host"), ["a.test"]);
    assert_eq!(seen.body, b"hello");
    assert!(seen.complete && !seen.bodiless, "{seen:?}");
}

#[test]
fn an_http1_request_becomes_an_http2_one() {
    let b1 = H2Backend::echoing("B1");
    let site = site_before(&b1);
    let head = "POST /p?q=1 HTTP/1.1\r\nHost: a.test\r\nX-Mixed-Case: Value\r\n\
                X-Mixed-Case: Other\r\nConnection: keep-alive, X-Hop, TE\r\nX-Hop: 1\r\n\
                Keep-Alive: timeout=5\r\nTE: trailers\r\nCookie: a=1; b=2\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend(chunked(b"hello", 2, ""));
    assert_eq!(site.request(bytes).expect(200).body, b"hello");
    assert_forwarded(&b1.request(), "/p?q=1");
}

#[test]
fn an_http2_request_becomes_one_of_the_backends_connection() {
    let b1 = H2Backend::echoing("B1");
    let site = site_before(&b1);
    run(async {
        let client = connect(&site).await;
        let mut request = head("POST", "/p?q=1");
        for (name, value) in [
            ("x-mixed-case", "Value"),
            ("x-mixed-case", "Other"),
            ("te", "trailers"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ] {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let (response, mut send) = begin(&client, request).await;
        send_all(&mut send, b"hello").await;
        send.send_data(Bytes::new(), true).unwrap();
        assert_eq!(read(response).await.expect(200).body, b"hello");
    });
    assert_forwarded(&b1.request(), "/p?q=1");
}

#[test]
fn a_request_without_a_body_ends_with_its_head() {
    let b1 = H2Backend::echoing("B1");
    let site = site_before(&b1);
    site.get("/h1").expect(200);
    site.post("/zero", b"").expect(200);
    run(async { get(&connect(&site).await, "/h2").await.expect(200) });
    for seen in b1.requests() {
        assert!(seen.bodiless, "{seen:?}");
    }
    assert_eq!(b1.requests().len(), 3);
}

#[test]
fn a_response_has_its_status_its_fields_and_nothing_of_a_connection() {
    let b1 = H2Backend::scripted("B1", |mut call| async move {
        let fields = [("x-one", "1"), ("set-cookie", "a=1"), ("set-cookie", "b=2")];
        let mut send = call.respond.send_response(response(418, &fields), false).unwrap();
        send_all(&mut send, b"tea").await;
        let _ = send.send_data(Bytes::new(), true);
    });
    let site = site_before(&b1);
    let answer = site.get("/").expect(418);
    assert_eq!(answer.values("set-cookie"), ["a=1", "b=2"]);
    assert_eq!((answer.value("x-one").as_str(), answer.body.as_slice()), ("1", &b"tea"[..]));
    assert_eq!(answer.ending, Ending::Chunked);
    let answer = run(async { get(&connect(&site).await, "/").await.expect(418) });
    assert_eq!(answer.fields.get_all("set-cookie").iter().count(), 2);
    assert_eq!((&answer.fields["x-one"], answer.text().as_str()), (&"1".parse().unwrap(), "tea"));
    assert!(!answer.fields.contains_key("transfer-encoding"));
}

/// Answers by path with a head that is all there is.
async fn heads_only(mut call: Call) {
    match call.path.as_str() {
        "/head-length" => call.only_head(200, &[("content-length", "5")]),
        "/204" => call.only_head(204, &[("x-one", "1")]),
        "/304" => call.only_head(304, &[("etag", "\"e\"")]),
        "/304-length" => call.only_head(304, &[("content-length", "5")]),
        _ => call.only_head(200, &[("x-one", "1")]),
    }
}

const HEADS: [(&str, &str, u16, Option<&str>); 6] = [
    ("HEAD", "/head-length", 200, Some("5")),
    ("HEAD", "/head", 200, None),
    ("GET", "/204", 204, None),
    ("GET", "/304", 304, None),
    ("GET", "/304-length", 304, Some("5")),
    ("GET", "/empty", 200, Some("0")),
];

#[test]
fn responses_without_content_reach_an_http1_client() {
    let b1 = H2Backend::scripted("B1", heads_only);
    let site = site_before(&b1);
    let mut client = site.connect();
    for (method, path, status, length) in HEADS {
        let answer = client.request(format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        let lengths = answer.values("content-length");
        assert_eq!(
            (answer.status, lengths.first().map(String::as_str)),
            (status, length),
            "{path}"
        );
        assert!(answer.body.is_empty());
    }
    client.assert_open("a.test");
}

#[test]
fn responses_without_content_reach_an_http2_client() {
    let b1 = H2Backend::scripted("B1", heads_only);
    let site = site_before(&b1);
    run(async {
        let client = connect(&site).await;
        for (method, path, status, length) in HEADS {
            let answer = ask(&client, head(method, path)).await.expect(status);
            let given = answer.fields.get("content-length").map(|value| value.to_str().unwrap());
            // An empty body needs no length here.
            assert!(given == length || (path == "/empty" && given.is_none()), "{path}: {given:?}");
            assert!(answer.bodiless && answer.body.is_empty(), "{path}: {answer:?}");
        }
    });
}

#[test]
fn early_hints_come_before_the_response() {
    let b1 = H2Backend::scripted("B1", |mut call| async move {
        for link in ["</a.css>", "</b.css>"] {
            call.respond.send_informational(response(103, &[("link", link)])).unwrap();
        }
        call.reply().await;
    });
    let site = site_before(&b1);
    let answer = site.get("/h1").expect(200);
    let links: Vec<String> = answer.interim.iter().map(|hint| hint.value("link")).collect();
    assert_eq!(
        (links, answer.text().as_str()),
        (vec!["</a.css>".into(), "</b.css>".into()], "B1 /h1")
    );
    run(async {
        let client = connect(&site).await;
        let mut client = client.ready().await.unwrap();
        let (mut response, _) = client.send_request(head("GET", "/h2"), true).unwrap();
        let hint = poll_fn(|task| response.poll_informational(task));
        let hint = step("early hints", hint).await.expect("103").expect("no error");
        assert_eq!(
            (hint.status().as_u16(), &hint.headers()["link"]),
            (103, &"</a.css>".parse().unwrap())
        );
        assert_eq!(read(response).await.expect(200).text(), "B1 /h2");
    });
}

// Bodies.

#[test]
fn long_bodies_go_both_ways_for_an_http1_client() {
    let b1 = H2Backend::echoing("B1");
    let site = site_before(&b1);
    let body = pattern(3 * MIB);
    assert!(site.post("/length", &body).expect(200).body == body, "not the same bytes");
    let mut bytes =
        b"POST /chunked HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    bytes.extend(chunked(&body, 10_007, ""));
    let mut client = site.connect();
    let answer = client.request(&bytes);
    assert!(answer.expect(200).body == body, "not the same bytes");
    for seen in b1.requests() {
        assert!(seen.complete && seen.body == body, "{} at the backend", seen.path);
    }
}

#[test]
fn long_bodies_go_both_ways_for_an_http2_client() {
    let b1 = H2Backend::echoing("B1");
    let site = site_before(&b1);
    let body = pattern(3 * MIB);
    run(async {
        let client = connect(&site).await;
        let (response, mut send) = begin(&client, head("POST", "/")).await;
        let upload = async {
            assert!(send_all(&mut send, &body).await, "it takes the whole body");
            send.send_data(Bytes::new(), true).unwrap();
        };
        let (answer, ()) = tokio::join!(read(response), upload);
        assert!(answer.expect(200).body == body, "not the same bytes");
    });
    assert!(b1.request().body == body, "not the same bytes at the backend");
}

#[test]
fn each_message_comes_back_before_the_next_is_sent() {
    let b1 = H2Backend::echoing("B1");
    let site = site_before(&b1);
    run(async {
        let client = connect(&site).await;
        let (response, mut send) = begin(&client, head("POST", "/h2")).await;
        let response = step("the head before any content", response).await.unwrap();
        let mut body = response.into_body();
        for number in 0..50 {
            let message = format!("message {number}");
            send_all(&mut send, message.as_bytes()).await;
            assert_eq!(piece(&mut body).await, message.as_bytes());
        }
        send.send_data(Bytes::new(), true).unwrap();
        ends(&mut body).await;
    });
    let mut client = site.connect();
    client.send("POST /h1 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.read_head();
    let mut wanted = Vec::new();
    for number in 0..50 {
        let message = format!("message {number:02}");
        let chunk = format!("a\r\n{message}\r\n");
        assert_eq!(message.len(), 10);
        client.send(&chunk);
        wanted.extend_from_slice(chunk.as_bytes());
        while client.peek_more().len() < wanted.len() {}
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.peek_more(), [&wanted[..], b"0\r\n\r\n"].concat());
}

// Trailers.

#[test]
fn trailers_go_both_ways_for_an_http2_client() {
    let b1 = H2Backend::echoing("B1");
    let site = site_before(&b1);
    let sent = trailers(&[("grpc-status", "0"), ("grpc-message", "fine")]);
    for body in [&b""[..], b"message"] {
        let answer = run(async {
            let client = connect(&site).await;
            let (response, mut send) = begin(&client, head("POST", "/")).await;
            send_all(&mut send, body).await;
            send.send_trailers(sent.clone()).unwrap();
            read(response).await.expect(200)
        });
        assert_eq!((answer.body.as_slice(), answer.trailers.as_ref()), (body, Some(&sent)));
    }
    for seen in b1.requests() {
        assert_eq!(seen.trailers.as_ref(), Some(&sent));
    }
}

#[test]
fn trailers_go_both_ways_for_an_http1_client() {
    let b1 = H2Backend::echoing("B1");
    let site = site_before(&b1);
    let mut bytes = b"POST / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\n\
                      Transfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    bytes.extend(chunked(b"message", 3, "Grpc-Status: 0\r\n"));
    let answer = site.request(bytes).expect(200);
    assert_eq!(answer.body, b"message");
    assert_eq!(answer.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
    assert_eq!(b1.request().trailers, Some(trailers(&[("grpc-status", "0")])));
}

#[test]
fn trailers_behind_a_body_of_announced_length_arrive() {
    let b1 = H2Backend::scripted("B1", |mut call| async move {
        call.read().await;
        let mut send = call.head(&[("content-length", "5")]);
        send_all(&mut send, b"hello").await;
        let _ = send.send_trailers(trailers(&[("grpc-status", "0")]));
    });
    let site = site_before(&b1);
    let answer = run(async {
        let client = connect(&site).await;
        let mut request = head("POST", "/");
        request.headers_mut().insert("content-length", "5".parse().unwrap());
        let (response, mut send) = begin(&client, request).await;
        send_all(&mut send, b"hello").await;
        send.send_trailers(trailers(&[("x-sum", "1")])).unwrap();
        read(response).await.expect(200)
    });
    assert_eq!(answer.body, b"hello");
    assert_eq!(b1.request().trailers, Some(trailers(&[("x-sum", "1")])));
    assert_eq!(answer.trailers, Some(trailers(&[("grpc-status", "0")])));
}

#[test]
fn a_response_of_trailers_only_ends_with_its_head() {
    let b1 = H2Backend::scripted("B1", |mut call| async move {
        call.read().await;
        call.only_head(200, &[("content-type", "application/grpc"), ("grpc-status", "12")]);
    });
    let site = site_before(&b1);
    let answer = run(async {
        let client = connect(&site).await;
        let (response, mut send) = begin(&client, head("POST", "/")).await;
        send_all(&mut send, b"message").await;
        send.send_data(Bytes::new(), true).unwrap();
        read(response).await.expect(200)
    });
    assert_eq!(answer.fields["grpc-status"], "12");
    assert!(answer.bodiless && answer.trailers.is_none(), "{answer:?}");
    let answer = site.post("/", b"message").expect(200);
    assert_eq!((answer.value("grpc-status").as_str(), answer.body.len()), ("12", 0));
}

// Connections.

#[test]
fn requests_share_a_connection_and_are_not_mixed() {
    let all_there = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&all_there);
    let b1 = H2Backend::scripted("B1", move |mut call| {
        let waiting = Arc::clone(&waiting);
        async move {
            if call.path.starts_with("/wait") {
                waiting.acquire().await.unwrap().forget();
            }
            call.reply().await;
        }
    });
    let site = site_before(&b1);
    for number in 0..5 {
        site.get(&format!("/{number}")).expect(200);
    }
    run(async {
        let client = connect(&site).await;
        let paths: Vec<String> = (0..100).map(|number| format!("/wait/{number}")).collect();
        let answers = futures_util::future::join_all(paths.iter().map(|path| get(&client, path)));
        let release = async {
            while b1.requests().len() < 105 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            all_there.add_permits(100);
        };
        let (answers, ()) = tokio::join!(answers, step("all are there at once", release));
        for (path, answer) in paths.iter().zip(answers) {
            assert_eq!(answer.expect(200).text(), format!("B1 {path}"));
        }
    });
    assert_eq!(b1.connections(), 1);
}

/// 200 at once at a backend that takes 4 on a connection.
fn many_at_a_backend_that_takes_few(warm: bool) {
    let options = H2Options { max_streams: Some(4), late: None };
    let b1 = H2Backend::with("B1", options, |mut call| async move {
        call.read().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        call.reply().await;
    });
    let site = site_before(&b1);
    if warm {
        site.get("/warm").expect(200);
    }
    run(async {
        let (one, two) = (connect(&site).await, connect(&site).await);
        let paths: Vec<String> = (0..200).map(|number| format!("/{number}")).collect();
        let mut asked = Vec::new();
        for (number, path) in paths.iter().enumerate() {
            asked.push(get(if number % 2 == 0 { &one } else { &two }, path));
        }
        for (path, answer) in paths.iter().zip(futures_util::future::join_all(asked).await) {
            assert_eq!(answer.expect(200).text(), format!("B1 {path}"));
        }
    });
}

#[test]
fn a_backend_that_takes_few_requests_at_once_gets_them_over_more_connections() {
    many_at_a_backend_that_takes_few(true);
}

#[test]
fn a_backend_that_takes_few_may_say_so_late() {
    many_at_a_backend_that_takes_few(false);
    let options = H2Options { max_streams: Some(4), late: Some(Duration::from_millis(500)) };
    let b1 = H2Backend::with("B1", options, |mut call| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        call.reply().await;
    });
    let site = site_before(&b1);
    run(async {
        let client = connect(&site).await;
        let first = get(&client, "/first");
        let others = async {
            while b1.connections() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            futures_util::future::join_all((0..50).map(|_| get(&client, "/other"))).await
        };
        let (first, others) = tokio::join!(first, others);
        first.expect(200);
        for answer in others {
            answer.expect(200);
        }
    });
}

/// RFC 9113 8.7: the backend did not look at it, so a POST may go elsewhere.
#[test]
fn a_refused_stream_goes_to_the_next_backend_whatever_its_method() {
    let refusing = |reason| {
        H2Backend::scripted("B1", move |mut call| async move {
            call.reset(reason);
        })
    };
    let b2 = H2Backend::echoing("B2");
    let site = |b1: &H2Backend| {
        Site::https()
            .group("protocol = \"h2c\"")
            .address(&b1.address())
            .address_with(&b2.address(), "backup = true")
            .start()
    };
    let b1 = refusing(Reason::REFUSED_STREAM);
    let response = site(&b1).post("/", b"once").expect(200);
    assert_eq!(response.body, b"once");
    // Any other reset says nothing of the kind.
    let b1 = refusing(Reason::INTERNAL_ERROR);
    site(&b1).post("/", b"once").expect(502);
    assert_eq!(b2.requests().len(), 1);
}

/// RFC 9113 6.8: what is above GOAWAY's last id was not looked at either.
#[test]
fn a_request_that_crosses_goaway_goes_to_the_next_backend() {
    let b1 = Backend::raw("B1", |stream| {
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        // Last id 0, no error.
        let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let _ = stream.write_all(&settings);
        let (mut bytes, mut total) = ([0; 4096], 0);
        // Preface, SETTINGS and WINDOW_UPDATE are less than that; with the
        // request's head and body they are more.
        while total < 200 {
            match stream.read(&mut bytes) {
                Ok(count) if count > 0 => total += count,
                _ => return,
            }
        }
        let _ = stream.write_all(&goaway);
        while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
    });
    let b2 = H2Backend::echoing("B2");
    let site = Site::https()
        .group("protocol = \"h2c\"")
        .address(&b1.address())
        .address_with(&b2.address(), "backup = true")
        .start();
    let body = pattern(2000);
    assert!(site.post("/", &body).expect(200).body == body, "not the same bytes");
    assert_eq!(b1.connections(), 1);
}

#[test]
fn after_goaway_what_is_under_way_ends_and_the_next_takes_a_new_connection() {
    let go = Arc::new(Notify::new());
    let waiting = Arc::clone(&go);
    let b1 = H2Backend::scripted("B1", move |mut call| {
        let waiting = Arc::clone(&waiting);
        async move {
            if call.path == "/long" {
                let mut send = call.head(&[]);
                send_all(&mut send, b"begun").await;
                waiting.notified().await;
                send_all(&mut send, b" and finished").await;
                let _ = send.send_data(Bytes::new(), true);
            } else {
                call.reply().await;
            }
        }
    });
    let site = site_before(&b1);
    run(async {
        let client = connect(&site).await;
        let (response, mut send) = begin(&client, head("POST", "/long")).await;
        send.send_data(Bytes::new(), true).unwrap();
        let mut body = step("the head", response).await.unwrap().into_body();
        assert_eq!(piece(&mut body).await, b"begun");
        b1.part();
        // It may still take some until it has been heard.
        let moved = async {
            while b1.connections() < 2 {
                get(&client, "/next").await.expect(200);
            }
        };
        step("a new connection", moved).await;
        go.notify_one();
        let mut rest = Vec::new();
        while rest.len() < b" and finished".len() {
            rest.extend(piece(&mut body).await);
        }
        assert_eq!(rest, b" and finished");
        ends(&mut body).await;
    });
    eventually("the first connection is over", || b1.open() == 1);
    // Every time.
    for _ in 0..5 {
        b1.part();
        eventually("it is over", || b1.open() == 0);
        site.get("/again").expect(200);
    }
}

#[test]
fn an_idle_connection_is_closed_after_its_time_and_not_before() {
    let b1 = H2Backend::scripted("B1", |mut call| async move {
        if call.path == "/slow" {
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
        call.reply().await;
    });
    let site = site_of(&[&b1.address()]).group("idle_timeout = \"400ms\"").start();
    site.get("/slow").expect(200);
    let begin = Instant::now();
    assert_eq!(b1.open(), 1);
    eventually("the idle connection is closed", || b1.open() == 0);
    assert!(begin.elapsed() >= Duration::from_millis(300), "{:?}", begin.elapsed());
    site.get("/again").expect(200);
    assert_eq!(b1.connections(), 2);
}

#[test]
fn a_killed_backend_is_502_and_200_when_it_is_back() {
    let mut b1 = H2Backend::echoing("B1");
    let site = site_before(&b1);
    site.get("/").expect(200);
    b1.kill();
    eventually("502", || match site.get("/").status {
        502 => true,
        status => panic!("{status}"),
    });
    run(async { get(&connect(&site).await, "/").await.expect(502) });
    let b2 = H2Backend::at(&b1.port(), "B2", H2Options::default(), |mut call| async move {
        call.reply().await;
    });
    assert_eq!(site.get("/h1").expect(200).text(), "B2 /h1");
    run(async { assert_eq!(get(&connect(&site).await, "/h2").await.expect(200).text(), "B2 /h2") });
    assert_eq!(b2.connections(), 1);
}

#[test]
fn a_backend_killed_under_way_is_502_before_the_head_and_a_cut_after_it() {
    let mut b1 = H2Backend::scripted("B1", |mut call| async move {
        if call.path == "/begun" {
            let mut send = call.head(&[]);
            send_all(&mut send, b"begun").await;
            call.wait_for_reset_of(&mut send).await;
        } else {
            call.wait_for_reset().await;
        }
    });
    let site = site_before(&b1);
    let mut begun = site.connect();
    begun.send("GET /begun HTTP/1.1\r\nHost: a.test\r\n\r\n");
    begun.read_head();
    let mut waits = site.connect();
    waits.send("GET /waits HTTP/1.1\r\nHost: a.test\r\n\r\n");
    b1.wait_for("/waits", |_| true);
    b1.kill();
    waits.read().expect(502);
    let rest = String::from_utf8_lossy(&begun.read_to_end()).into_owned();
    assert!(!rest.contains("0\r\n\r\n"), "{rest:?}");
}

// Resets.

/// Resets by path: before the head, or in the middle of the body.
async fn resetting(mut call: Call) {
    if call.path == "/ok" {
        return call.reply().await;
    }
    if call.path == "/before" {
        return call.reset(Reason::INTERNAL_ERROR);
    }
    let mut send = call.head(&[("content-type", "text/plain")]);
    send_all(&mut send, b"begun").await;
    // The client has it when it says so.
    call.piece().await;
    send.send_reset(Reason::INTERNAL_ERROR);
}

#[test]
fn a_reset_before_the_head_is_502_and_one_in_the_body_cuts_it() {
    let b1 = H2Backend::scripted("B1", resetting);
    let site = site_before(&b1);
    site.get("/before").expect(502);
    let mut client = site.connect();
    client.send("POST /middle HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.read_head();
    client.send("1\r\nx\r\n");
    let rest = String::from_utf8_lossy(&client.read_to_end()).into_owned();
    assert!(rest.contains("begun") && !rest.contains("0\r\n\r\n"), "{rest:?}");
    run(async {
        let client = connect(&site).await;
        get(&client, "/before").await.expect(502);
        let (response, mut send) = begin(&client, head("POST", "/middle")).await;
        let mut body = step("the head", response).await.unwrap().into_body();
        assert_eq!(piece(&mut body).await, b"begun");
        send_all(&mut send, b"x").await;
        let end = step("the end", body.data()).await.expect("no clean end");
        assert!(end.unwrap_err().is_reset());
        // The others on both connections go on.
        get(&client, "/ok").await.expect(200);
    });
    assert_eq!(b1.connections(), 1);
}

#[test]
fn an_answer_before_the_end_of_the_request_reaches_the_client() {
    let b1 = H2Backend::scripted("B1", |mut call| async move {
        call.piece().await;
        // Dropped, it says RST_STREAM(NO_ERROR) behind that.
        call.only_head(413, &[("x-one", "1")]);
    });
    let site = site_before(&b1);
    run(async {
        let client = connect(&site).await;
        let (response, mut send) = begin(&client, head("POST", "/")).await;
        send_all(&mut send, b"first").await;
        assert_eq!(read(response).await.expect(413).fields["x-one"], "1");
    });
    let mut client = site.connect();
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\nfirst");
    client.read().expect(413);
}

#[test]
fn a_failure_reaches_a_client_that_is_still_sending() {
    let b1 = H2Backend::scripted("B1", resetting);
    let site = site_before(&b1);
    run(async {
        let client = connect(&site).await;
        let (response, mut send) = begin(&client, head("POST", "/before")).await;
        send_all(&mut send, b"first").await;
        read(response).await.expect(502);
    });
}

// Pace.

#[test]
fn a_backend_that_stops_reading_stops_the_client() {
    const TOTAL: usize = 32 * MIB;
    let go = Arc::new(Notify::new());
    let waiting = Arc::clone(&go);
    let b1 = H2Backend::scripted("B1", move |mut call| {
        let waiting = Arc::clone(&waiting);
        async move {
            waiting.notified().await;
            call.read().await;
            call.reply().await;
        }
    });
    let site = site_before(&b1);
    let body = pattern(TOTAL);
    let mut client = site.connect();
    client.send(format!("POST /h1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: {TOTAL}\r\n\r\n"));
    let sent = client.send_until_blocked(&body, TOTAL);
    assert!(sent < TOTAL / 2, "{sent} bytes went into nowhere");
    client.reset();
    run(async {
        let client = connect(&site).await;
        let (response, mut send) = begin(&client, head("POST", "/h2")).await;
        let mut taken = 0;
        loop {
            send.reserve_capacity(64 * 1024);
            let granted = poll_fn(|task| send.poll_capacity(task));
            let Ok(granted) = tokio::time::timeout(Duration::from_millis(500), granted).await
            else {
                break;
            };
            let granted = granted.unwrap().unwrap();
            send.send_data(Bytes::copy_from_slice(&body[taken..taken + granted]), false).unwrap();
            taken += granted;
            assert!(taken < 2 * MIB, "{taken} bytes went into nowhere");
        }
        // Both: the first one's script may still wait.
        go.notify_one();
        go.notify_one();
        go.notify_waiters();
        assert!(send_all(&mut send, &body[taken..3 * MIB]).await, "it goes on");
        send.send_data(Bytes::new(), true).unwrap();
        read(response).await.expect(200);
    });
    let seen = b1.wait_for("/h2", |seen| seen.complete);
    assert!(seen.body == body[..3 * MIB], "not the same bytes");
}

#[test]
fn a_client_that_stops_reading_stops_the_backend() {
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let b1 = H2Backend::scripted("B1", move |mut call| {
        let count = Arc::clone(&count);
        async move {
            let block = vec![b'x'; 16 * 1024];
            let mut send = call.head(&[]);
            for _ in 0..64 * MIB / block.len() {
                if !send_all(&mut send, &block).await {
                    return;
                }
                count.fetch_add(block.len(), std::sync::atomic::Ordering::SeqCst);
            }
        }
    });
    let site = site_before(&b1);
    run(async {
        let client = connect(&site).await;
        let (response, mut send) = begin(&client, head("POST", "/h2")).await;
        send.send_data(Bytes::new(), true).unwrap();
        let body = step("the head", response).await.unwrap().into_body();
        let stands = || sent.load(std::sync::atomic::Ordering::SeqCst);
        let total = tokio::task::spawn_blocking({
            let sent = Arc::clone(&sent);
            move || settled(|| sent.load(std::sync::atomic::Ordering::SeqCst))
        });
        let total = total.await.unwrap();
        assert!(total < 2 * MIB, "{total} bytes for a client that takes none");
        assert_eq!(total, stands());
        drop(body);
    });
}

// Clients that leave.

#[test]
fn a_client_that_leaves_cancels_its_get_at_the_backend() {
    let b1 = H2Backend::scripted("B1", |mut call| async move {
        if call.path.ends_with("body") {
            let mut send = call.head(&[]);
            send_all(&mut send, b"begun").await;
            call.wait_for_reset_of(&mut send).await;
        } else {
            call.wait_for_reset().await;
        }
    });
    let site = site_before(&b1);
    let canceled =
        |seen: &H2Seen| seen.broken.as_deref().is_some_and(|reason| reason.contains("CANCEL"));
    for path in ["/h1", "/h1/body"] {
        let mut client = site.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
        b1.wait_for(path, |_| true);
        client.reset();
        b1.wait_for(path, canceled);
    }
    for path in ["/h2", "/h2/body"] {
        run(async {
            let mut client = connect(&site).await.ready().await.unwrap();
            let (response, _) = client.send_request(head("GET", path), true).unwrap();
            let seen = async {
                while !b1.requests().iter().any(|seen| seen.path == path) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            step("it is at the backend", seen).await;
            drop(response);
            let reset = async {
                while !b1.requests().iter().any(|seen| seen.path == path && canceled(seen)) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            step("it is cancelled at the backend", reset).await;
        });
    }
    assert_eq!(b1.connections(), 1);
}

#[test]
fn a_cancelled_grpc_call_is_cancelled_at_the_backend() {
    // What "a complete POST runs to its end" is not about: a client that
    // cancels has not left by mistake.
    let b1 = H2Backend::scripted("B1", |mut call| async move {
        call.read().await;
        if call.path.ends_with("body") {
            let mut send = call.head(&[("content-type", "application/grpc")]);
            send_all(&mut send, b"begun").await;
            call.wait_for_reset_of(&mut send).await;
        } else {
            call.wait_for_reset().await;
        }
    });
    let site = site_before(&b1);
    let kinds = ["application/grpc", "application/grpc+proto", "Application/gRPC; x=1"];
    for (number, kind) in kinds.into_iter().enumerate() {
        for place in ["head", "body"] {
            let path = format!("/{number}/{place}");
            let mut h2 = H2::to(&site);
            let mut request = h2.request(http::Method::POST, &path);
            request.headers_mut().insert("content-type", kind.parse().unwrap());
            let mut call = h2.begin(request, false);
            call.send(b"message");
            call.finish();
            if place == "body" {
                call.head();
                assert_eq!(call.read_exactly(5), b"begun");
            } else {
                b1.wait_for(&path, |seen| seen.complete);
            }
            call.reset(Reason::CANCEL);
            let canceled = b1.wait_for(&path, |seen| seen.broken.is_some()).broken;
            assert!(canceled.is_some_and(|reason| reason.contains("CANCEL")), "{path}");
        }
    }
}

#[test]
fn a_complete_post_runs_to_its_end_without_its_client() {
    let go = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&go);
    let ended = Arc::new(std::sync::Mutex::new(Vec::new()));
    let ends = Arc::clone(&ended);
    let b1 = H2Backend::scripted("B1", move |mut call| {
        let (waiting, ends) = (Arc::clone(&waiting), Arc::clone(&ends));
        async move {
            call.read().await;
            let end = tokio::select! {
                () = call.wait_for_reset() => "reset",
                permit = waiting.acquire() => {
                    permit.unwrap().forget();
                    "finished"
                }
            };
            if end == "finished" {
                call.reply().await;
            }
            ends.lock().unwrap().push(end);
        }
    });
    let site = site_before(&b1);
    let mut client = site.connect();
    client.send("POST /h1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello");
    b1.wait_for("/h1", |seen| seen.complete);
    client.reset();
    run(async {
        let client = connect(&site).await;
        let (response, mut send) = begin(&client, head("POST", "/h2")).await;
        send_all(&mut send, b"hello").await;
        send.send_data(Bytes::new(), true).unwrap();
        let complete = async {
            while !b1.requests().iter().any(|seen| seen.path == "/h2" && seen.complete) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        step("it is at the backend", complete).await;
        drop(response);
        drop(send);
        // An exchange after the reset on the same connection: it has been heard.
        let (response, mut send) = begin(&client, head("POST", "/after")).await;
        send.send_data(Bytes::new(), true).unwrap();
        let there = async {
            while !b1.requests().iter().any(|seen| seen.path == "/after" && seen.complete) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        step("the next is there", there).await;
        go.add_permits(3);
        read(response).await.expect(200);
    });
    eventually("all came to their end", || ended.lock().unwrap().len() == 3);
    assert_eq!(*ended.lock().unwrap(), ["finished"; 3]);
}

// Deadlines.

#[test]
fn a_silent_request_is_504_while_the_others_on_the_connection_go_on() {
    let b1 = H2Backend::scripted("B1", |mut call| async move {
        match call.path.as_str() {
            "/silent" => call.wait_for_reset().await,
            // Always within the time, in all longer.
            "/steady" => {
                let mut send = call.head(&[]);
                for _ in 0..12 {
                    send_all(&mut send, b"tick ").await;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                let _ = send.send_data(Bytes::new(), true);
            }
            _ => call.reply().await,
        }
    });
    let site = site_of(&[&b1.address()]).group("response_timeout = \"600ms\"").start();
    site.get("/first").expect(200);
    run(async {
        let client = connect(&site).await;
        let (silent, steady) = tokio::join!(get(&client, "/silent"), get(&client, "/steady"));
        silent.expect(504);
        assert_eq!(steady.expect(200).text(), "tick ".repeat(12));
        get(&client, "/next").await.expect(200);
    });
    b1.wait_for("/silent", |seen| seen.broken.as_deref().is_some_and(|r| r.contains("CANCEL")));
    site.get("/silent").expect(504);
    assert_eq!(b1.connections(), 1);
}

#[test]
fn a_body_that_stands_still_is_cut() {
    let b1 = H2Backend::scripted("B1", |mut call| async move {
        let mut send = call.head(&[]);
        send_all(&mut send, b"begun").await;
        call.wait_for_reset_of(&mut send).await;
    });
    let site = site_of(&[&b1.address()]).group("response_timeout = \"400ms\"").start();
    let mut client = site.connect();
    client.send("GET /h1 HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let cut = client.read_cut();
    assert_eq!(cut.partial.unwrap().body, b"begun");
    let answer = run(async { get(&connect(&site).await, "/h2").await });
    assert!(answer.error.as_ref().is_some_and(h2::Error::is_reset), "{answer:?}");
    for path in ["/h1", "/h2"] {
        b1.wait_for(path, |seen| seen.broken.is_some());
    }
}

/// A backend marks the end of a body apart from its last byte, and may be killed or
/// stand still before it does.
#[test]
fn a_response_whose_length_is_there_does_not_wait_for_its_end() {
    let (go, ended) = (Arc::new(Semaphore::new(0)), Arc::<Notify>::default());
    let (gate, end) = (Arc::clone(&go), Arc::clone(&ended));
    let b1 = H2Backend::scripted("B1", move |mut call| {
        let (gate, end) = (Arc::clone(&gate), Arc::clone(&end));
        async move {
            if call.path != "/whole" {
                return call.reply().await;
            }
            let mut send = call.head(&[("content-length", "5")]);
            send_all(&mut send, b"whole").await;
            tokio::select! {
                () = call.wait_for_reset_of(&mut send) => {}
                permit = gate.acquire() => {
                    permit.unwrap().forget();
                    let _ = send.send_data(Bytes::new(), true);
                }
            }
            end.notify_one();
        }
    });
    let site = site_of(&[&b1.address()]).start();
    let mut client = site.connect();
    assert_eq!(client.get("a.test", "/whole").expect(200).text(), "whole");
    // The next one on the connection is served, and nobody was told of a reset.
    assert_eq!(client.get("a.test", "/next").expect(200).text(), "B1 /next");
    go.add_permits(1);
    run(async { step("the end", ended.notified()).await });
    assert_eq!(b1.wait_for("/whole", |_| true).broken, None);
    // Nor does a backend that is gone before the end cut what is there.
    assert_eq!(client.get("a.test", "/whole").expect(200).text(), "whole");
    let port = b1.port();
    drop(b1);
    let _b2 = H2Backend::at(&port, "B2", H2Options::default(), |mut call| async move {
        call.reply().await;
    });
    assert_eq!(client.get("a.test", "/last").expect(200).text(), "B2 /last");
}

// What is no HTTP/2 backend.

const TIMES: &str = "connect_timeout = \"500ms\"\nresponse_timeout = \"500ms\"";

#[test]
fn a_backend_that_speaks_something_else_is_502() {
    let lines = [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0xff; 100],
        &[0; 9],
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ];
    for bytes in lines {
        let b1 = Backend::raw("B1", move |stream| {
            let _ = stream.write_all(bytes);
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        });
        let site = site_of(&[&b1.address()]).group(TIMES).start();
        let answers = [
            site.get("/").status,
            site.post("/", b"hello").status,
            run(async { get(&connect(&site).await, "/").await.status.as_u16() }),
        ];
        assert_eq!(answers, [502; 3], "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_backend_that_closes_at_once_is_502() {
    let b1 = Backend::raw("B1", |_| {});
    let site = site_of(&[&b1.address()]).group(TIMES).start();
    site.get("/").expect(502);
    run(async { get(&connect(&site).await, "/").await.expect(502) });
}

#[test]
fn a_backend_that_accepts_and_never_answers_is_504() {
    let reads = Backend::raw("B1", |stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let silent = Silent::new();
    for address in [reads.address(), silent.address()] {
        let site = site_of(&[&address]).group(TIMES).start();
        let status = site.get("/").status;
        assert!(matches!(status, 502 | 504), "{status}");
        let status = site.post("/", &pattern(100_000)).status;
        assert!(matches!(status, 502 | 504), "{status}");
        let answer = run(async { get(&connect(&site).await, "/").await });
        assert!(matches!(answer.status.as_u16(), 502 | 504), "{answer:?}");
    }
}

#[test]
fn a_websocket_is_refused_before_an_h2c_backend() {
    let b1 = H2Backend::echoing("B1");
    let site = site_before(&b1);
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bG9ja2dhdGU6UkZDODQ0MQ==\r\n\r\n";
    site.request(request).expect(502);
    assert!(b1.requests().is_empty());
}

#[test]
fn curl_gets_it_over_http2() {
    let b1 = H2Backend::echoing("B1");
    let site = site_before(&b1);
    let ca = site.lockgate.path().join("ca.pem");
    std::fs::write(&ca, authority().pem()).unwrap();
    for (version, shown) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let mut curl = std::process::Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "20", version, "--cacert"])
            .arg(&ca)
            .args(["--data", "hello", "--write-out", " %{http_version}", "--resolve"])
            .arg(format!("a.test:{}:127.0.0.1", site.port()))
            .arg(format!("https://a.test:{}/page", site.port()));
        let page = crate::support::Finished::of(curl).expect(0);
        assert_eq!(page.stdout, format!("hello {shown}"));
    }
}
