//! Chromium without a window, driven by playwright-core.

use std::path::Path;

use super::python::before_websockets;
use super::tools::{Server, node, program, run, trusted, visiting};
use super::world::world;
use crate::support::{Backend, Site};

/// Makes Chromium believe the tests' authority: a database of NSS in `$HOME`.
pub(super) fn believe(home: &Path) {
    let folder = home.join(".pki/nssdb");
    std::fs::create_dir_all(&folder).unwrap();
    let database = format!("sql:{}", folder.display());
    let certutil = |arguments: &[&str]| {
        let mut command = program("certutil", home);
        command.args(["-d", &database]).args(arguments);
        run(command);
    };
    certutil(&["-N", "--empty-password"]);
    let authority = trusted(home).display().to_string();
    certutil(&["-A", "-n", "tests", "-t", "C,,", "-i", &authority]);
}

/// What the browser says of these cases, one after another.
#[track_caller]
fn browse(site: &Site, cases: &[&str]) -> Vec<String> {
    let home = site.lockgate.path();
    believe(home);
    let printed = run(visiting(node("browser.js", home), site, cases));
    printed.lines().map(str::to_owned).collect()
}

fn site(http2: bool) -> (Backend, Site, Server) {
    let b1 = world();
    let (site, server) = before_websockets(http2, &b1);
    (b1, site, server)
}

#[test]
#[ignore = "needs Chromium, Node and Python's websockets, which .ci/run installs"]
fn a_page_over_http2() {
    let (b1, site, mut server) = site(true);
    let printed = browse(
        &site,
        &[
            "versions",
            "uploads",
            "refusedUpload",
            "streamingUpload",
            "events",
            "longPolling",
            "websocket",
        ],
    );
    let expected = [
        "200 text /page h2, /other h2",
        "upload true",
        "refused upload 413 true",
        r#"streaming upload it happened, then came "\r\n6\r\nsecond\r\n0\r\n\r\n""#,
        "events 1: part 1, 2: part 2, 3: part 3",
        "long poll GET /meanwhile, marked, it happened",
        // RFC 8441: a success, and no 101.
        "handshake 200",
        "open chat permessage-deflate, Grüße, a mebibyte true, closed 4002 as you wish",
    ];
    assert_eq!(printed, expected);
    server.wait_for(&format!("open /ws/page a.test:{} chat ['permessage-deflate']", site.port()));
    server.wait_for("closed 4002 as you wish");
    let upload = b1.requests().into_iter().find(|seen| seen.target() == "/mirror").unwrap();
    assert_eq!(upload.body.len(), 4 << 20);
}

#[test]
#[ignore = "needs Chromium, Node and Python's websockets, which .ci/run installs"]
fn a_page_over_http1() {
    let (_b1, site, mut server) = site(false);
    let printed = browse(
        &site,
        &["versions", "uploads", "refusedUpload", "events", "longPolling", "websocket"],
    );
    let expected = [
        "200 text /page http/1.1, /other http/1.1",
        "upload true",
        "refused upload 413 true",
        "events 1: part 1, 2: part 2, 3: part 3",
        "long poll GET /meanwhile, marked, it happened",
        "handshake 101",
        "open chat permessage-deflate, Grüße, a mebibyte true, closed 4002 as you wish",
    ];
    assert_eq!(printed, expected);
    server.wait_for(&format!("open /ws/page a.test:{} chat ['permessage-deflate']", site.port()));
    server.wait_for("closed 4002 as you wish");
}

#[test]
#[ignore = "needs Chromium and Node, which .ci/run installs"]
fn early_hints_are_followed_before_the_answer() {
    let b1 = world();
    let site = Site::https().backend(&b1).start();
    assert_eq!(browse(&site, &["earlyHints"]), ["hints 200 hinted"]);
    assert!(b1.requests().iter().any(|seen| seen.target() == "/hinted.css"));
}
