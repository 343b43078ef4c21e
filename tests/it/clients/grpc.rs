//! grpcio: a real gRPC server behind an `h2c` group, and a real client before
//! the https listener.

use super::tools::{Server, python, run, visiting};
use crate::support::{Port, Site};

fn site(address: &str) -> Site {
    Site::https().group("protocol = \"h2c\"").address(address).start()
}

fn server() -> Server {
    Server::start(python("grpc_server.py", &std::env::temp_dir()))
}

/// Runs a function of the client; it must print this.
#[track_caller]
fn expect(site: &Site, case: &str, lines: &[&str]) {
    let command = python("grpc_client.py", site.lockgate.path());
    let printed = run(visiting(command, site, &[case]));
    assert_eq!(printed.lines().collect::<Vec<_>>(), lines);
}

/// The same before a server of its own, which it gives back.
#[track_caller]
fn expect_of_server(case: &str, lines: &[&str]) -> Server {
    let server = server();
    expect(&site(&server.address()), case, lines);
    server
}

#[test]
#[ignore = "needs Python and grpcio, which .ci/run installs"]
fn unary_calls_with_metadata() {
    let metadata = r"abc def [('x-end', 'the end'), ('x-end-bin', b'\x00\xff\x01')]";
    let three = 3 << 20;
    expect_of_server(
        "unary",
        &[
            "same 5 OK",
            metadata,
            "same 0 OK",
            metadata,
            &format!("same {three} OK"),
            metadata,
            "many True",
        ],
    );
}

#[test]
#[ignore = "needs Python and grpcio, which .ci/run installs"]
fn streams_of_either_side() {
    expect_of_server("streams", &["1000 number 0 number 999", "[]", "3: a,,ccc", "0: "]);
}

#[test]
#[ignore = "needs Python and grpcio, which .ci/run installs"]
fn a_conversation() {
    expect_of_server(
        "bidirectional",
        &[
            "re: message 0",
            "re: message 1",
            "re: message 2",
            "re: message 3",
            "re: message 4",
            "[] OK good bye",
        ],
    );
}

#[test]
#[ignore = "needs Python and grpcio, which .ci/run installs"]
fn errors_with_their_details() {
    expect_of_server(
        "errors",
        &[
            "NOT_FOUND - no 100% such thing: ü",
            r"it was never there b'\x08\x05\x12\x00\xff'",
            "[b'one'] RESOURCE_EXHAUSTED - no more",
            "UNIMPLEMENTED - Method not found!",
        ],
    );
}

#[test]
#[ignore = "needs Python and grpcio, which .ci/run installs"]
fn the_deadline_is_known_to_both() {
    let mut server = expect_of_server("deadline", &["begun", "DEADLINE_EXCEEDED"]);
    server.wait_for("time limit");
    server.wait_for("ended: deadline False");
}

#[test]
#[ignore = "needs Python and grpcio, which .ci/run installs"]
fn a_cancelled_call_ends_at_the_server_and_no_other_does() {
    let mut server =
        expect_of_server("cancel", &["begun", "re: before", "CANCELLED", "re: after", "[] OK"]);
    server.wait_for("no time limit");
    server.wait_for("ended: cancel False");
}

#[test]
#[ignore = "needs Python and grpcio, which .ci/run installs"]
fn a_server_that_is_not_there_is_unavailable() {
    let site = site(&Port::reserve().refusing_address());
    expect(&site, "absent", &["UNAVAILABLE"]);
}
