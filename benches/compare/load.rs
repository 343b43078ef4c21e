//! The load generators: wrk, h2load, and our own where every request is a new TLS session.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::{HandshakeKind, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::children::Child;
use crate::client::{ask, head, local, server_name};
use crate::lab::Lab;

/// What a load did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    pub(crate) errors: u64,
    pub(crate) seconds: f64,
    /// Microseconds; 0 where nobody measured it.
    pub(crate) p50: u64,
    pub(crate) p99: u64,
}

/// What wrk asks with.
#[derive(Debug)]
pub(crate) enum Requests {
    /// `POST` with so many bytes; 0 = `GET`.
    Post(usize),
    /// `GET` with one `Cookie` after the other.
    Cookies(String),
}

/// The cookies of so many clients that were here once, with commas between them.
pub(crate) fn players(port: u16, clients: u32) -> Result<String, String> {
    let cookie = |_| {
        let answer = ask(port, None, "GET", "/0", &[])?;
        let line = answer.head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("set-cookie").then_some(value.trim())
        });
        let pair = line.and_then(|line| line.split(';').next());
        pair.map(str::to_owned).ok_or_else(|| format!("no cookie was set: {}", answer.head))
    };
    Ok((0..clients).map(cookie).collect::<Result<Vec<String>, String>>()?.join(","))
}

/// wrk on one thread for `time`.
pub(crate) fn wrk(
    lab: &Lab,
    url: &str,
    connections: u32,
    requests: &Requests,
    time: Duration,
) -> Result<Done, String> {
    let program = lab.wrk.as_ref().ok_or("wrk is not installed")?;
    // wrk takes whole seconds; SIGINT ends it earlier and it reports as usual.
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let argv = [
        "env".to_owned(),
        match requests {
            Requests::Post(size) => format!("COMPARE_POST={size}"),
            Requests::Cookies(cookies) => format!("COMPARE_COOKIES={cookies}"),
        },
        program.display().to_string(),
        "-t1".to_owned(),
        format!("-c{connections}"),
        format!("-d{whole}s"),
        "-s".to_owned(),
        lab.script.display().to_string(),
        url.to_owned(),
    ];
    let mut child = Child::start(&argv, lab.cpus.load, &lab.folder().join("wrk"))?;
    if time.subsec_nanos() > 0 {
        std::thread::sleep(time);
        child.signal(Signal::INT);
    }
    child.finish(Duration::from_secs(whole + 10))?;
    let printed = child.printed();
    let numbers = printed.lines().find_map(|line| line.strip_prefix("done "));
    let numbers: Option<Vec<u64>> =
        numbers.map(|rest| rest.split(' ').flat_map(str::parse).collect());
    match numbers.as_deref() {
        Some(&[requests, bytes, micros, errors, p50, p99]) => {
            let seconds = Duration::from_micros(micros).as_secs_f64();
            Ok(Done { requests, bytes, errors, seconds, p50, p99 })
        }
        _ => Err(format!("wrk: {}", child.last_words())),
    }
}

/// h2load on one thread: so many requests, `streams` at a time on every connection.
///
/// A number and no time: a timed load leaves a thousand requests half done, whose end is no request's
/// cost, and connections that open after the time never stop.
pub(crate) fn h2load(
    lab: &Lab,
    url: &str,
    connections: u32,
    streams: u32,
    requests: u64,
) -> Result<Done, String> {
    let program = lab.h2load.as_ref().ok_or("h2load is not installed")?;
    let argv = [
        program.display().to_string(),
        "-t1".to_owned(),
        format!("-c{connections}"),
        format!("-m{streams}"),
        format!("-n{requests}"),
        url.to_owned(),
    ];
    let mut child = Child::start(&argv, lab.cpus.load, &lab.folder().join("h2load"))?;
    child.finish(Duration::from_mins(2))?;
    let printed = child.printed();
    if !printed.contains("\nApplication protocol: h2\n") {
        return Err(format!("h2load spoke no HTTP/2: {}", child.last_words()));
    }
    let done = h2load_counts(&printed, requests);
    done.ok_or_else(|| format!("h2load: {}", child.last_words()))
}

/// What is not answered whole and with 2xx is an error.
fn h2load_counts(printed: &str, wanted: u64) -> Option<Done> {
    let number = |name: &str, what: &str| -> Option<u64> {
        let rest = printed.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split(',').find_map(|pair| pair.trim().strip_suffix(what)?.trim().parse().ok())
    };
    let good = number("requests: ", " succeeded")?.min(number("status codes: ", " 2xx")?);
    let time = printed.lines().find_map(|line| line.strip_prefix("finished in "))?;
    let time = time.split(',').next()?;
    let seconds = match (time.strip_suffix("ms"), time.strip_suffix('s')) {
        (Some(millis), _) => millis.parse::<f64>().ok()? / 1e3,
        (None, Some(seconds)) => seconds.parse().ok()?,
        (None, None) => return None,
    };
    Some(Done { requests: good, errors: wanted - good.min(wanted), seconds, ..Done::default() })
}

/// A new TCP connection and a full TLS 1.3 handshake for every request, `clients` at a time.
pub(crate) fn handshakes(
    lab: &Lab,
    port: u16,
    clients: u32,
    time: Duration,
) -> Result<Done, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let start = Instant::now();
    let totals = Rc::new((Cell::new(0_u64), Cell::new(0_u64), RefCell::new(String::new())));
    let local_set = tokio::task::LocalSet::new();
    for _ in 0..clients {
        let connector = TlsConnector::from(Arc::clone(&lab.certificate.client));
        let totals = Rc::clone(&totals);
        local_set.spawn_local(async move {
            while start.elapsed() < time {
                let one =
                    tokio::time::timeout(Duration::from_secs(5), handshake(&connector, port)).await;
                match one.map_err(|_| "no answer within 5 s".to_owned()).and_then(|result| result) {
                    Ok(()) => totals.0.set(totals.0.get() + 1),
                    Err(error) => {
                        totals.1.set(totals.1.get() + 1);
                        totals.2.replace(error);
                        // A proxy that refuses everything must not make a hot loop.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        });
    }
    runtime.block_on(local_set);
    let (requests, errors) = (totals.0.get(), totals.1.get());
    if requests == 0 {
        return Err(format!("no handshake succeeded: {}", totals.2.borrow()));
    }
    Ok(Done { requests, errors, seconds: start.elapsed().as_secs_f64(), ..Done::default() })
}

async fn handshake(connector: &TlsConnector, port: u16) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let tcp = TcpStream::connect(local(port)).await.map_err(text)?;
    let mut stream = connector.connect(server_name(), tcp).await.map_err(text)?;
    let session = stream.get_ref().1;
    let full = session.handshake_kind() == Some(HandshakeKind::Full);
    if !full || session.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Err(format!("{:?} {:?}", session.handshake_kind(), session.protocol_version()));
    }
    stream.write_all(head("GET", "/0", port, 0, true).as_bytes()).await.map_err(text)?;
    let mut answer = Vec::with_capacity(512);
    // The server closes. An end without close_notify is an error here, but no matter.
    stream.read_to_end(&mut answer).await.ok();
    if answer.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err("not 200".to_owned()) }
}
