//! What a question may be, and what of an answer reaches a terminal.

use super::*;

fn game(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("listeners.d")).unwrap();
    std::fs::write(dir.path().join("listeners.d/game.toml"), text).unwrap();
    dir
}

fn ask(dir: &tempfile::TempDir, url: &str, headers: &[&str]) -> Explanation {
    let headers: Vec<String> = headers.iter().map(ToString::to_string).collect();
    let question = Question::parse(url, [None; 3], &headers).unwrap();
    let (told, explained) = offline(dir.path(), &dir.path().join("state"), &question);
    assert_eq!(told, []);
    explained.unwrap()
}

#[test]
fn nothing_is_written_by_asking_the_files() {
    let dir = game(
        "[[listener]]\ndomain = \"a.test\"\nport = 8080\nprotocol = \"http\"\ngroup = \"web\"\n\
         [group.web]\nbackends = [\"127.0.0.1:9\"]\nsticky = { mode = \"insert\" }\n",
    );
    let explained = ask(&dir, "http://a.test:8080/", &["Cookie: SERVERID=x"]);
    assert!(explained.offline);
    assert_eq!(explained.notes, ["there is no secret yet: no cookie can be good"]);
    assert_eq!(explained.sticky.unwrap().verdict, "shape");
    let cookie = explained.to_client.iter().find(|field| field.name == "Set-Cookie").unwrap();
    assert_eq!(cookie.value, "SERVERID=…; HttpOnly; Path=/");
    let removed: Vec<&str> =
        explained.to_backend.iter().filter(|one| !one.set).map(|one| &*one.name).collect();
    assert_eq!(removed, ["Cookie"]);
    assert!(!dir.path().join("state").exists());
    let entries = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(entries, 1, "listeners.d alone");
}

#[test]
fn nothing_acts_on_a_terminal() {
    let dir = game(
        "[[listener]]\ndomain = \"a.test\"\nport = 8080\nprotocol = \"http\"\n\
         [[listener.rule]]\npath = \"/\"\n\
         respond = { status = 200 }\nset_headers = { response = { X-A = \"\u{202e}\u{9b}31m\" } }\n",
    );
    let explained = ask(&dir, "http://a.test:8080/", &["X-B: \u{9b}2J\u{feff}"]);
    assert!(explained.to_client.iter().any(|one| one.value.contains('\u{9b}')), "{explained:?}");
    for text in [to_text(&explained), to_json(&explained)] {
        let acts = |c: char| c != '\n' && config::acts_on_terminals(c);
        assert!(!text.contains(acts), "{text:?}");
    }
    let back: Explanation = serde_json::from_str(&to_json(&explained)).unwrap();
    assert_eq!(back, explained);
}

#[test]
fn what_cannot_be_asked_is_told_and_acts_on_no_terminal() {
    const URL: &str = "http://a.test/";
    let parse = |words, header: &str| Question::parse(URL, words, &[header.to_owned()]);
    assert_eq!(parse([None; 3], "X-A:  b: c ").unwrap().0.headers, [("X-A".into(), "b: c".into())]);
    for bad in ["X-A", "X A: b", ": b", "X-A: a\nX-B: c", "X-A: a\r\n", "X-A: \u{1b}"] {
        assert!(parse([None; 3], bad).is_err(), "{bad:?}");
    }
    for words in [
        [Some("a=\r\nX: y"), None, None],
        [None, Some("10.0.0\u{9b}"), None],
        [None, None, Some("get")],
        [None, None, Some("")],
    ] {
        let said = parse(words, "X-A: b").unwrap_err();
        assert!(!said.contains(config::acts_on_terminals), "{said:?}");
    }
    let said = Question::parse("http://a.test/\u{9b}31m", [None; 3], &[]).unwrap_err();
    assert_eq!(said, "`http://a.test/\\u{9b}31m`: a URL has no control characters");
}

#[test]
fn of_many_rules_those_that_fit_are_shown() {
    let rules: String = (0..40)
        .map(|at| format!("[[listener.rule]]\npath = \"/{at}/\"\ngroup = \"web\"\n"))
        .collect();
    let dir = game(&format!(
        "[[listener]]\ndomain = \"a.test\"\nport = 8080\nprotocol = \"http\"\ngroup = \"web\"\n\
         {rules}[group.web]\nbackends = [\"127.0.0.1:9\"]\n"
    ));
    let text = to_text(&ask(&dir, "http://a.test:8080/39/x", &[]));
    assert!(text.contains("→ /39/"), "{text}");
    assert!(text.contains("and 27 more"), "{text}");
    assert_eq!(text.matches("group web").count(), 14, "{text}");
}
