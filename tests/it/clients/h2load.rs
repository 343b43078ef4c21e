//! h2load: many requests over a few connections.

use super::tools::{origin, program, run};
use crate::support::{Backend, Site, pattern};

const REQUESTS: usize = 2000;

/// Sends [`REQUESTS`] and checks that each one succeeded, by the client's
/// count and by the backend's.
#[track_caller]
fn load(arguments: &[&str], body: Option<usize>, spoken: &str) {
    let b1 = Backend::scripted("B1", |exchange| {
        let body = exchange.read_body();
        exchange.reply(&format!("{:010}", body.len()));
    });
    let site = Site::https().workers(2).backend(&b1).start();
    let mut command = program("h2load", site.lockgate.path());
    command.args(arguments).args(["-n", &REQUESTS.to_string()]);
    if let Some(size) = body {
        std::fs::write(site.lockgate.path().join("body"), pattern(size)).unwrap();
        command.args(["--data", "body"]);
    }
    command
        .arg(format!("--connect-to=127.0.0.1:{}", site.port()))
        .arg(format!("{}/some/path", origin(&site)));
    let printed = run(command);
    for line in [
        format!("Application protocol: {spoken}"),
        format!(
            "requests: {REQUESTS} total, {REQUESTS} started, {REQUESTS} done, \
             {REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout"
        ),
        format!("status codes: {REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx"),
    ] {
        assert!(printed.lines().any(|other| other == line), "no {line:?} in\n{printed}");
    }
    let data = format!("({}) data", REQUESTS * 10);
    assert!(printed.contains(&data), "no {data:?} in\n{printed}");
    assert_eq!(b1.completed(), REQUESTS);
    let size = body.unwrap_or_default();
    assert!(
        b1.requests().iter().all(|seen| seen.body.len() == size && seen.target() == "/some/path")
    );
}

#[test]
#[ignore = "needs h2load, which .ci/run installs"]
fn http2_streams_on_some_connections() {
    load(&["-c", "10", "-m", "20"], None, "h2");
}

#[test]
#[ignore = "needs h2load, which .ci/run installs"]
fn http2_uploads() {
    load(&["-c", "4", "-m", "10"], Some(40_000), "h2");
}

#[test]
#[ignore = "needs h2load, which .ci/run installs"]
fn http1_on_some_connections() {
    load(&["--h1", "-c", "10"], None, "http/1.1");
}

#[test]
#[ignore = "needs h2load, which .ci/run installs"]
fn http1_pipelined() {
    load(&["--h1", "-c", "5", "-m", "8"], None, "http/1.1");
}
