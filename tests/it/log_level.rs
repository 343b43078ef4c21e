//! `[log] level`: how much the program's own log says.

use crate::support::{Backend, Site};

#[test]
fn less_important_lines_are_left_out_and_a_reload_changes_which() {
    let b1 = Backend::named("B1");
    let mut site = Site::http()
        .process("[log]\nlevel = \"warn\"\n")
        // What the environment of other programs says is not for this one.
        .env("RUST_LOG", "trace")
        .backend(&b1)
        .start();
    let toml = std::fs::read_to_string(site.lockgate.path().join("lockgate.toml")).unwrap();
    let change = |level: &str| {
        site.lockgate.write("lockgate.toml", toml.replace("\"warn\"", level));
        site.lockgate.reload();
    };
    // Each reload has a line: of the first one only what it warns of.
    site.get("/none\0").expect(400);
    site.lockgate.wait_for_log(&["WARN", "cause=malformed"]);
    assert!(!site.lockgate.log().contains("INFO"), "{}", site.lockgate.log());
    change("\"info\"");
    site.lockgate.wait_for_log(&["INFO", "reloaded"]);
    change("\"error\"");
    let before = site.lockgate.log();
    site.get("/none\0").expect(400);
    let log = site.lockgate.log_to_the_end();
    assert_eq!(log.matches("cause=malformed").count(), 1, "{log}");
    assert!(!log[before.len()..].contains("INFO"), "{log}");

    // Left out it is `info`, and another one is no level.
    let site = Site::before(&b1);
    site.lockgate.wait_for_log(&["INFO", "ready"]);
    site.lockgate.write("lockgate.toml", toml.replace("warn", "debug"));
    let told = site.lockgate.run(&["check"]).expect(1).text();
    assert!(told.contains("`level` cannot be `debug`") && told.contains("`\"warn\"`"), "{told}");
}
