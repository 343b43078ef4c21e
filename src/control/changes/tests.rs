//! Two versions of a file, and what is said of the step from one to the other.

use std::fs;

use super::*;
use crate::config;

/// The game this text is.
fn game(text: &str) -> Arc<Game> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("listeners.d")).unwrap();
    fs::write(dir.path().join("listeners.d/youxia.toml"), text).unwrap();
    let loaded = config::load(dir.path());
    let said: Vec<_> = loaded.diagnostics.iter().map(|one| one.render(false)).collect();
    loaded.config.unwrap_or_else(|| panic!("{}", said.join("\n"))).games[0].clone()
}

const BEFORE: &str = r#"
[[listener]]
domain = ["youxia.com", "youxia.localhost"]
port = [8030, 8443]
protocol = "http"
group = "web"

  [[listener.rule]]
  path = "/test/jtt/"
  group = "jtt"

[group.web]
backends = ["127.0.0.1:18030", { address = "127.0.0.1:18031", weight = 50 }]

[group.jtt]
backends = ["127.0.0.1:18040"]
"#;

/// What is said when these pieces of the text are replaced.
fn said(pieces: &[(&str, &str)]) -> Vec<String> {
    let mut text = BEFORE.to_owned();
    for (old, new) in pieces {
        assert!(text.contains(old), "{old}");
        text = text.replace(old, new);
    }
    changes(Some(&game(BEFORE)), Some(&game(&text)))
}

#[test]
fn the_same_text_says_nothing() {
    assert_eq!(said(&[("[group.web]", "# a comment\n\n[group.web]")]), [""; 0]);
}

#[test]
fn a_game_comes_and_goes() {
    let game = game(BEFORE);
    assert_eq!(changes(None, Some(&game)), ["added: 1 listener, 2 groups"]);
    assert_eq!(changes(Some(&game), None), ["removed"]);
    assert_eq!(changes(None, None), [""; 0]);
}

#[test]
fn backends_come_go_and_change() {
    let new =
        r#", { address = "127.0.0.1:18031", weight = 100, state = "drain" }, "127.0.0.1:18032""#;
    let old = r#"["127.0.0.1:18030", { address = "127.0.0.1:18031", weight = 50 }"#;
    assert_eq!(
        said(&[(old, &format!("[{}", new.trim_start_matches(", ")))]),
        [
            "backend web/127.0.0.1:18030 removed",
            "backend web/127.0.0.1:18032 added",
            "backend web/127.0.0.1:18031: weight 50 → 100, state ready → drain",
        ]
    );
    // Under the same name, another server.
    let named = |port: u16| {
        game(&BEFORE.replace(
            "\"127.0.0.1:18040\"",
            &format!("{{ address = \"127.0.0.1:{port}\", name = \"one\" }}"),
        ))
    };
    assert_eq!(
        changes(Some(&named(18040)), Some(&named(18041))),
        ["backend jtt/one (127.0.0.1:18040) removed", "backend jtt/one (127.0.0.1:18041) added"]
    );
}

#[test]
fn rules_come_go_and_lead_elsewhere() {
    let rule = "path = \"/test/jtt/\"\n  group = \"jtt\"";
    assert_eq!(
        said(&[(rule, "path = \"/test/jtt/\"\n  group = \"web\"\n  response_timeout = \"5m\"")]),
        [
            "rule /test/jtt/ of youxia.com:8030 now → web",
            "rule /test/jtt/ of youxia.com:8030: response_timeout none → 5m",
        ]
    );
    assert_eq!(
        said(&[(rule, "path = \"/jtt/\"\n  redirect = \"https:8443\"")]),
        [
            "rule /test/jtt/ of youxia.com:8030 removed (was → jtt)",
            "rule /jtt/ of youxia.com:8030 added → redirect https:8443 (301)",
        ]
    );
}

#[test]
fn listeners_change() {
    assert_eq!(
        said(&[
            ("[\"youxia.com\", \"youxia.localhost\"]", "[\"youxia.com\", \"*.youxia.com\"]"),
            ("[8030, 8443]", "[8030]"),
            (
                "group = \"web\"\n\n",
                "group = \"web\"\nidle_timeout = \"15s\"\nallow = [\"10.0.0.0/8\"]\n\n"
            ),
        ]),
        [
            "domain youxia.localhost of youxia.com:8030 removed",
            "domain *.youxia.com of youxia.com:8030 added",
            "port 8443 of youxia.com removed",
            "listener youxia.com:8030: access changed, idle_timeout 1m → 15s",
        ]
    );
    // Nothing of it is left: another listener.
    assert_eq!(
        said(&[("[8030, 8443]", "[8031]")]),
        ["listener youxia.com:8030 removed", "listener youxia.com:8031 added"]
    );
}

#[test]
fn settings_of_a_group_change() {
    let more = "[group.web]\nbalance = \"hash\"\nhash_key = \"client_ip\"\nall_down = \"try\"\nprobe = {}\nretry = { tries = 2 }\nkeepalive = false";
    assert_eq!(
        said(&[("[group.web]", more)]),
        [
            "group web: balance wrr → hash, hash_key changed, keepalive true → false, all_down changed, probe changed, retry changed"
        ]
    );
}
