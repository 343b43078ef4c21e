//! Node: its fetch, its HTTP/2 client, and the package ws.

use super::python::before_websockets;
use super::tools::{node, run, visiting};
use super::world::world;
use crate::support::Site;

/// Runs a script; it must print this.
#[track_caller]
fn expect(script: &str, site: &Site, lines: &[&str]) {
    let printed = run(visiting(node(script, site.lockgate.path()), site, &[]));
    assert_eq!(printed.lines().collect::<Vec<_>>(), lines);
}

#[test]
#[ignore = "needs Node, which .ci/run installs"]
fn fetch_streams_both_ways() {
    let b1 = world();
    let site = Site::https()
        .rule("path = \"/small\"\ngroup = \"web\"\nmax_body = 1000")
        .backend(&b1)
        .start();
    expect(
        "fetch_client.js",
        &site,
        &[
            "GET /greeting?name=Zo%C3%AB",
            "upload 200 true",
            "refused upload 413 true",
            "the first piece: it happened",
            r#"then came "\r\n6\r\nsecond\r\n0\r\n\r\n""#,
            "part 1 marked",
            "part 2 marked",
            "part 3 marked",
            "meanwhile GET /other",
            "marked it happened",
        ],
    );
}

#[test]
#[ignore = "needs Node and Python's websockets, which .ci/run installs"]
fn http2_with_a_websocket_on_the_same_connection() {
    let b1 = world();
    let (site, mut server) = before_websockets(true, &b1);
    expect(
        "http2_client.js",
        &site,
        &[
            "h2 true",
            "200 GET /greeting",
            "upload 200 true",
            "parallel true",
            "it happened",
            "websocket 200 chat",
            "echo over h2",
            "close 4003",
        ],
    );
    server.wait_for(&format!("open /ws/over-h2 a.test:{} chat []", site.port()));
    server.wait_for("closed 4003 ");
}

#[test]
#[ignore = "needs Node, ws and Python's websockets, which .ci/run installs"]
fn ws_talks_with_a_real_server() {
    let (site, mut server) = before_websockets(true, &world());
    expect(
        "ws_client.js",
        &site,
        &[
            "open chat permessage-deflate",
            "text true true",
            "binary true",
            "a mebibyte true",
            "pong hello",
            "ping are you there",
            "still here true",
            "closed 4001 good night",
            "closed by the server 4002 as you wish",
        ],
    );
    let extensions = "['permessage-deflate']";
    server.wait_for(&format!("open /ws/chat?room=2 a.test:{} chat {extensions}", site.port()));
    server.wait_for("ponged");
    server.wait_for("closed 4001 good night");
    server.wait_for("closed 4002 as you wish");
}
