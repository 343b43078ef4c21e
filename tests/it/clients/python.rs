//! Python: httpx, and websockets at both ends.

use super::tools::{Server, python, run, visiting};
use super::world::world;
use crate::support::{Backend, Site};

#[test]
#[ignore = "needs Python and httpx, which .ci/run installs"]
fn httpx_speaks_both_versions() {
    for (version, spoken) in [("http1", "HTTP/1.1"), ("http2", "HTTP/2")] {
        let b1 = world();
        let site = Site::https().backend(&b1).start();
        let command = python("httpx_client.py", site.lockgate.path());
        let printed = run(visiting(command, &site, &[version]));
        let expected = [
            &format!("{spoken} 200 GET /greeting?name=Zo%C3%AB+%26+co"),
            &format!("upload of known length {spoken} True"),
            &format!("upload of unknown length {spoken} True"),
            &format!("streaming {spoken} text/plain"),
            "part 1",
            "marked",
            "part 2",
            "marked",
            "part 3",
            "marked",
            "the first piece: it happened",
            r#"then came "\r\n6\r\nsecond\r\n0\r\n\r\n""#,
            "cookie set",
            // Two cookies in one field, though HTTP/2 may send two fields.
            r#"["session=abc; taste=sweet"]"#,
        ];
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected, "{version}");
        let request = &b1.requests()[0];
        assert_eq!(request.value("host"), format!("a.test:{}", site.port()));
        assert_eq!(request.value("x-forwarded-proto"), "https");
        assert!(request.value("user-agent").starts_with("python-httpx/"));
    }
}

/// A site whose `/ws/` is a real WebSocket server, and whose `/small` takes
/// little.
pub(super) fn before_websockets(http2: bool, backend: &Backend) -> (Site, Server) {
    let home = std::env::temp_dir();
    let server = Server::start(python("websocket_server.py", &home));
    let site = Site::https()
        .listener(&format!("http2 = {http2}"))
        .rule("path = \"/ws/\"\ngroup = \"websockets\"")
        .rule("path = \"/small\"\ngroup = \"web\"\nmax_body = 1000")
        .backend(backend)
        .more(&format!("[group.websockets]\nbackends = [\"{}\"]\n", server.address()))
        .start();
    (site, server)
}

#[test]
#[ignore = "needs Python and websockets, which .ci/run installs"]
fn websockets_at_both_ends() {
    for (compression, extensions) in [("deflate", "['permessage-deflate']"), ("plain", "[]")] {
        let (site, mut server) = before_websockets(true, &world());
        let command = python("websockets_client.py", site.lockgate.path());
        let printed = run(visiting(command, &site, &[compression]));
        let expected = [
            &format!("open 101 chat {extensions}"),
            "text True True",
            "long text True",
            "binary True",
            "a mebibyte True",
            "fragments True",
            "many True",
            "ponged",
            "still here True",
            "closed 4001 good night",
            "closed by the server 4002 as you wish",
        ];
        assert_eq!(printed.lines().collect::<Vec<_>>(), expected);
        server.wait_for(&format!("open /ws/chat?room=1 a.test:{} chat {extensions}", site.port()));
        server.wait_for("ponged");
        server.wait_for("closed 4001 good night");
        server.wait_for("closed 4002 as you wish");
    }
}
