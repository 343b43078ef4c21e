//! curl, HTTP/1.1 and HTTP/2.

use std::process::Command;
use std::sync::{Arc, Barrier};

use super::tools::{origin, program, run, trusted};
use super::world::world;
use crate::support::{Backend, Site, pattern};

const VERSIONS: [(&str, &str); 2] = [("--http1.1", "1.1"), ("--http2", "2")];

/// A curl that believes the tests' authority and finds the site.
fn curl(site: &Site, version: &str) -> Command {
    let home = site.lockgate.path();
    let mut command = program("curl", home);
    command
        .args(["--disable", version, "--silent", "--show-error", "--fail", "--max-time", "50"])
        .arg("--cacert")
        .arg(trusted(home))
        .args(["--resolve", &format!("a.test:{}:127.0.0.1", site.port())]);
    command
}

#[test]
#[ignore = "needs curl, which .ci/run installs"]
fn mebibytes_there_and_back() {
    let body = pattern(8 << 20);
    for (version, spoken) in VERSIONS {
        let b1 = world();
        let site = Site::https().backend(&b1).start();
        let (sent, got) = (site.lockgate.path().join("sent"), site.lockgate.path().join("got"));
        std::fs::write(&sent, &body).unwrap();
        // As a file of known length; then from a pipe, of unknown length.
        for known in [true, false] {
            let mut command = curl(&site, version);
            command.args(["--write-out", "%{http_version} %{response_code} %{size_download}"]);
            command.arg("--output").arg(&got).args(["--request", "POST"]);
            if known {
                command.arg("--upload-file").arg(&sent);
            } else {
                command.args(["--upload-file", "-"]).stdin(std::fs::File::open(&sent).unwrap());
            }
            command.arg(format!("{}/mirror", origin(&site)));
            let printed = run(command);
            assert_eq!(printed, format!("{spoken} 200 {}", body.len()));
            assert!(std::fs::read(&got).unwrap() == body, "{version}: the bytes changed");
        }
        let lengths: Vec<_> =
            b1.requests().iter().map(|seen| seen.values("content-length")).collect();
        assert_eq!(lengths, [vec![body.len().to_string()], vec![]], "{version}");
        assert!(b1.requests().iter().all(|seen| seen.complete && seen.body == body));
    }
}

#[test]
#[ignore = "needs curl, which .ci/run installs"]
fn transfers_in_parallel() {
    const MANY: usize = 12;
    for (version, spoken) in VERSIONS {
        // Nobody is answered before all are there.
        let all = Arc::new(Barrier::new(MANY));
        let b1 = Backend::scripted("B1", move |exchange| {
            all.wait();
            let body = exchange.request().target().repeat(20_000);
            exchange.reply(&body);
        });
        let site = Site::https().backend(&b1).start();
        let mut command = curl(&site, version);
        command
            .args(["--parallel", "--parallel-max", "50", "--output", "got-#1"])
            .args(["--write-out", "%{http_version} %{response_code} %{num_connects}\n"])
            .arg(format!("{}/file/[1-{MANY}]", origin(&site)));
        let printed = run(command);
        let connects = printed.lines().map(|line| {
            let (answer, connects) = line.rsplit_once(' ').unwrap();
            assert_eq!(answer, format!("{spoken} 200"));
            connects.parse::<usize>().unwrap()
        });
        let connects: Vec<usize> = connects.collect();
        assert_eq!(connects.len(), MANY);
        let streams_share = version == "--http2";
        let expected = if streams_share { 1 } else { MANY };
        assert_eq!(connects.iter().sum::<usize>(), expected, "{version}: connections");
        for number in 1..=MANY {
            let got = std::fs::read_to_string(site.lockgate.path().join(format!("got-{number}")));
            assert!(got.unwrap() == format!("/file/{number}").repeat(20_000), "{version} {number}");
        }
    }
}
