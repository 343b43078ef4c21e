//! What a terminal would obey is shown and not sent to it: control characters in
//! the names of files and in what stands in them.

use serde_json::Value;

use crate::support::{Backend, Site};

/// It would turn what follows red, in both forms, and then write from right to left.
const BAD: &str = "a\u{1b}[31m\u{9b}31m\u{202e}";
const SHOWN: &str = "a\\u{1b}[31m\\u{9b}31m\\u{202e}";

#[track_caller]
fn assert_plain(text: &str) {
    let acts = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!text.contains(acts), "{text:?}");
}

/// `/etc` and so on have no such names; a drop-in that somebody uploads may.
#[test]
fn a_name_that_a_terminal_would_obey_is_refused_and_shown() {
    let site = Site::before(&Backend::named("B1"));
    let name = format!("listeners.d/{BAD}.toml");
    let drop_in = "[[listener]]\ndomain = \"b.test\"\nport = 1\nprotocol = \"http\"\n\
        redirect = \"https:1\"\n";
    site.lockgate.write(&name, drop_in);
    let checked = site.lockgate.run(&["check"]).expect(1);
    let said = "this file's name has characters that cannot be seen";
    assert!(checked.stderr.contains(said), "{}", checked.stderr);
    assert!(checked.stderr.contains(&format!("{SHOWN}.toml:1:1")), "{}", checked.stderr);
    let json = site.lockgate.run(&["check", "--json"]).expect(1).stdout;
    let reloaded = site.lockgate.run(&["reload"]).expect(1);
    assert!(reloaded.text().contains(&format!("{SHOWN}: refused: ")), "{}", reloaded.text());
    let reloaded_json = site.lockgate.run(&["reload", "--json"]).expect(1).stdout;
    let status = site.lockgate.run(&["status"]).expect(0).stdout;
    assert!(status.contains(&format!("{SHOWN}.toml: refused since")), "{status}");
    let status_json = site.lockgate.run(&["status", "--json"]).expect(0).stdout;
    let log = site.lockgate.wait_for_log(&["drop-in refused"]);
    for text in [checked.text(), json.clone(), reloaded.text(), status, log] {
        assert_plain(&text);
    }
    for text in [reloaded_json, status_json] {
        assert_plain(&text);
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
    }
    // What a program reads is the name itself.
    let found: Value = serde_json::from_str(&json).unwrap();
    assert!(found[0]["file"].as_str().unwrap().ends_with(&format!("{BAD}.toml")), "{found}");
}

#[test]
fn a_line_that_a_terminal_would_obey_is_shown() {
    let site = Site::before(&Backend::named("B1"));
    // TOML takes the last two as they are, and the first one escaped.
    let raw = &BAD[BAD.find('\u{9b}').unwrap()..];
    let drop_in = format!(
        "[[listener]]\ndomain = \"b.test\"\nport = 1\ngroup = \"{raw}\"\n\
         certificate = {{ chain = \"\\u001b[31m{raw}\", key = \"x\" }} # {raw}\n"
    );
    site.lockgate.write("listeners.d/b.toml", drop_in);
    for arguments in [&["check"][..], &["check", "--json"], &["reload"], &["status"]] {
        let finished = site.lockgate.run(arguments);
        assert!(finished.text().contains("b.toml"), "{}", finished.text());
        assert_plain(&finished.text());
    }
}
