//! Expectations beside other files, and over time.

use super::directory::{serving, verdicts};
use super::*;

/// The default of port 8080, with what is expected of a host.
fn default_of(host: &str) -> String {
    "[[listener]]\ndefault = true\nport = 8080\nprotocol = \"http\"\ngroup = \"web\"\n\
     [group.web]\nbackends = [\"10.0.0.9:80\"]\n"
        .to_owned()
        + &format!("[[expect]]\nurl = \"http://{host}:8080/\"\nlistener = \"default\"\n")
}

/// What a default takes is another file's as soon as that names it.
#[test]
fn an_expectation_yields_to_the_file_that_names_the_host() {
    let dir = dir(&[("b.toml", &default_of("a.com"))]);
    assert_eq!(said(&dir, &load(dir.path())), Vec::<String>::new());
    fs::write(path(&dir, "a.toml"), smallest()).unwrap();
    let loaded = load(dir.path());
    let expected =
        "b.toml:9:7 error `a.com` on port 8080 is answered by the listener of `a.toml:2`";
    assert_eq!(said(&dir, &loaded), [expected]);
    assert_eq!((names(&loaded), refused(&loaded)), (vec!["a"], vec!["b"]));
}

/// Who was refused for it is judged again when that is gone.
#[test]
fn a_refused_expectation_is_looked_at_again() {
    let dir = dir(&[("a.toml", &smallest()), ("b.toml", &default_of("a.com"))]);
    let mut directory = Directory::new(dir.path(), BTreeMap::new());
    let first = directory.read(Ask::default());
    assert_eq!(
        (verdicts(&first), serving(&first)),
        (vec!["a accepted".into(), "b refused".into()], vec!["a"])
    );
    fs::remove_file(path(&dir, "a.toml")).unwrap();
    let second = directory.read(Ask::default());
    assert!(!second.has_errors(), "{:?}", verdicts(&second));
    assert_eq!(serving(&second), ["b"]);
}

/// A change of a rule that breaks what is expected changes nothing.
#[test]
fn what_is_expected_outlives_a_change() {
    let text = |path: &str| {
        format!(
            "[[listener]]\ndomain = \"a.com\"\nport = 8080\nprotocol = \"http\"\ngroup = \"web\"\n\
             [[listener.rule]]\npath = \"{path}\"\nrespond = {{ status = 204 }}\n\
             [group.web]\nbackends = [\"10.0.0.1:80\"]\n\
             [[expect]]\nurl = \"http://a.com:8080/x/y\"\nstatus = 204\n"
        )
    };
    let dir = dir(&[("a.toml", &text("/x/"))]);
    let mut directory = Directory::new(dir.path(), BTreeMap::new());
    assert!(!directory.read(Ask::default()).has_errors());
    fs::write(path(&dir, "a.toml"), text("/z/")).unwrap();
    let reading = directory.read(Ask::default());
    assert_eq!(verdicts(&reading), ["a replaced"]);
    let fault = reading.all_diagnostics().next().unwrap();
    assert_eq!(fault.message, "expected status 204, but `/x/y` goes to group `web`");
    assert_eq!(fault.related.as_ref().map(|place| place.line), Some(5));
    let games = reading.config.as_ref().map(|config| &config.games).unwrap();
    assert_eq!(games[0].listeners[0].rules[0].path, "/x/");
}

/// The lists are asked only about a client that is named.
#[test]
fn a_client_is_kept_out_only_if_there_is_one() {
    let text = |client: &str, status: &str| {
        smallest().replace("group = \"web\"\n\n", "group = \"web\"\nallow = [\"10.0.0.0/8\"]\n\n")
            + &format!("[[expect]]\nurl = \"http://a.com:8080/\"\n{client}\n{status}\n")
    };
    for (client, expected) in [
        ("", "group = \"web\""),
        ("client_ip = \"10.1.1.1\"", "group = \"web\""),
        ("client_ip = \"11.1.1.1\"", "status = 403"),
    ] {
        let dir = dir(&[("a.toml", &text(client, expected))]);
        assert_eq!(said(&dir, &load(dir.path())), Vec::<String>::new(), "{client}");
    }
}

/// As routing does: the exact name, then the longest wildcard.
#[test]
fn a_listener_is_named_by_the_domain_that_finds_the_host() {
    let text = |host: &str, listener: &str| {
        smallest().replace("\"a.com\"", "[\"*.com\", \"*.b.com\", \"x.b.com\"]")
            + &format!("[[expect]]\nurl = \"http://{host}:8080/\"\nlistener = \"{listener}\"\n")
    };
    for (host, listener) in [("a.com", "*.com"), ("y.b.com", "*.b.com"), ("X.b.com.", "x.b.com")] {
        let dir = dir(&[("a.toml", &text(host, listener))]);
        assert_eq!(said(&dir, &load(dir.path())), Vec::<String>::new(), "{host}");
    }
}
