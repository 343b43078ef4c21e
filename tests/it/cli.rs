//! The command line: what `check` finds and how it says so, and the exit
//! codes: 0 good, 1 configuration or start failure, 2 usage.

use serde_json::Value;

use crate::support::{Finished, Lockgate, Port, Setup, authority, http_listener};

/// A good drop-in whose backend need not exist.
fn good(domain: &str, port: &Port) -> String {
    http_listener(domain, port, "group = \"web\"") + "[group.web]\nbackends = [\"127.0.0.1:9\"]\n"
}

#[test]
fn check_of_a_good_directory_is_0() {
    let port = Port::reserve();
    let setup =
        Lockgate::with("a.toml", &good("a.test", &port)).file("b.toml", &good("b.test", &port));
    let check = setup.run(&["check"]).expect(0);
    assert!(check.text().contains("2 drop-ins"), "{}", check.text());
}

#[test]
fn check_says_all_problems_of_all_files_at_once() {
    let port = Port::reserve();
    let one = good("a.test", &port).replace("protocol", "protocoll");
    let two = good("b.test", &port) + "max_idle = 99999999\nbalance = \"wr\"\n";
    let setup = Lockgate::with("one.toml", &one).file("two.toml", &two).file("three.toml", "=");
    let check = setup.run(&["check"]).expect(1);
    let text = check.text();
    for part in [
        "one.toml:4",
        "`protocol`",
        "two.toml:9",
        "10000",
        "two.toml:10",
        "\"wrr\"",
        "three.toml:1",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
}

/// The range is ours: CLB's ends at 60 s.
#[test]
fn lm_03_idle_timeout_has_a_range() {
    for (value, code) in [("60s", 0), ("61s", 0), ("0s", 1), ("25h", 1)] {
        let port = Port::reserve();
        let settings = format!("group = \"web\"\nidle_timeout = \"{value}\"");
        let text = http_listener("a.test", &port, &settings)
            + "[group.web]\nbackends = [\"127.0.0.1:9\"]\n";
        let check = Lockgate::with("a.toml", &text).run(&["check"]).expect(code);
        assert_eq!(check.text().contains("`idle_timeout`"), code == 1, "{}", check.text());
    }
}

#[test]
fn check_of_a_file_judges_it_against_the_rest() {
    let port = Port::reserve();
    let setup = Lockgate::with("a.toml", &good("a.test", &port));
    let new = setup.path().join("new.toml");
    std::fs::write(&new, good("b.test", &port)).unwrap();
    let new = new.to_string_lossy().into_owned();
    setup.run(&["check", &new]).expect(0);
    // The same domain as the file that is there already.
    std::fs::write(&new, good("a.test", &port)).unwrap();
    let check = setup.run(&["check", &new]).expect(1);
    assert!(check.text().contains("a.toml"), "{}", check.text());
    assert!(check.text().contains("new.toml"), "{}", check.text());
}

#[test]
fn check_of_a_file_with_the_name_of_one_replaces_it() {
    let port = Port::reserve();
    let setup = Lockgate::with("a.toml", &good("a.test", &port));
    let staged = setup.path().join("staged");
    std::fs::create_dir(&staged).unwrap();
    let file = staged.join("a.toml");
    std::fs::write(&file, good("a.test", &port) + "connect_timeout = \"1s\"\n").unwrap();
    setup.run(&["check", &file.to_string_lossy()]).expect(0);
}

#[test]
fn check_of_a_file_that_is_not_there_is_1() {
    let port = Port::reserve();
    let setup = Lockgate::with("a.toml", &good("a.test", &port));
    let check = setup.run(&["check", "nowhere.toml"]).expect(1);
    assert!(check.text().contains("nowhere.toml"), "{}", check.text());
}

/// The objects of a JSON answer, wherever they stand.
fn objects(json: &Value) -> Vec<&Value> {
    match json {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => {
            fields.values().find_map(Value::as_array).into_iter().flatten().collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn check_json_has_place_and_message() {
    let port = Port::reserve();
    let one = good("a.test", &port).replace("protocol", "protocoll");
    let setup = Lockgate::with("one.toml", &one);
    let check = setup.run(&["check", "--json"]).expect(1);
    let json: Value = serde_json::from_str(&check.stdout).expect("all of stdout is JSON");
    let problems = objects(&json);
    assert_eq!(problems.len(), 1, "{json}");
    let problem = problems[0];
    assert!(problem["file"].as_str().unwrap().ends_with("one.toml"), "{problem}");
    assert_eq!(problem["line"], 4, "{problem}");
    assert_eq!(problem["column"], 1, "{problem}");
    assert_eq!(problem["severity"], "error", "{problem}");
    assert!(problem["message"].as_str().unwrap().contains("protocoll"), "{problem}");
    assert!(problem["hint"].as_str().unwrap().contains("`protocol`"), "{problem}");
    // A good directory has nothing to say, in JSON as well.
    let setup = Lockgate::with("one.toml", &good("a.test", &port));
    let check = setup.run(&["check", "--json"]).expect(0);
    let json: Value = serde_json::from_str(&check.stdout).expect("all of stdout is JSON");
    assert!(objects(&json).is_empty(), "{json}");
}

#[test]
fn check_names_certificates_that_cannot_be_used() {
    let port = Port::reserve();
    let text = format!(
        "[[listener]]\ndomain = \"a.test\"\nport = {port}\ncertificate = \"absent\"\n\
         group = \"web\"\n[group.web]\nbackends = [\"127.0.0.1:9\"]\n"
    );
    let missing = Setup::empty().any_file("listeners.d/game.toml", &text);
    let check = missing.run(&["check"]).expect(1);
    assert!(check.text().contains("absent.crt"), "{}", check.text());
    // A key that belongs to another certificate.
    let (one, two) = (authority().server(&["a.test"]), authority().server(&["a.test"]));
    let mismatch = Setup::empty()
        .any_file("listeners.d/game.toml", &text)
        .any_file("certs/absent.crt", &one.chain_pem)
        .any_file("certs/absent.key", &two.key_pem);
    let check = mismatch.run(&["check"]).expect(1);
    assert!(check.text().contains("absent.key"), "{}", check.text());
}

#[test]
fn an_empty_or_missing_directory_is_1() {
    let check = Setup::empty().run(&["check"]).expect(1);
    assert!(check.text().contains("listeners.d"), "{}", check.text());
    let setup = Setup::empty();
    let mut command = setup.command(&["check", "--config", "/nowhere/at/all"]);
    command.env_remove("LOCKGATE_CONFIG");
    let check = Finished::of(command).expect(1);
    assert!(check.text().contains("/nowhere/at/all"), "{}", check.text());
}

#[test]
fn the_current_directory_is_the_default() {
    let port = Port::reserve();
    let setup = Lockgate::with("a.toml", &good("a.test", &port));
    Finished::of(setup.command(&["check"])).expect(0);
}

#[test]
fn config_and_state_go_before_or_after_the_command() {
    let port = Port::reserve();
    let setup = Lockgate::with("a.toml", &good("a.test", &port));
    let directory = setup.path().to_string_lossy().into_owned();
    let elsewhere = |arguments: &[&str]| {
        let mut command = setup.command(arguments);
        command.current_dir("/");
        Finished::of(command)
    };
    elsewhere(&["--config", &directory, "check"]).expect(0);
    elsewhere(&["check", "--config", &directory]).expect(0);
}

#[test]
fn usage_errors_are_2() {
    let setup = Setup::empty();
    for arguments in [&["nonsense"][..], &["run", "--nonsense"], &["check", "--config"], &[]] {
        let finished = Finished::of(setup.command(arguments)).expect(2);
        assert!(!finished.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_and_version_are_0() {
    let setup = Setup::empty();
    let help = Finished::of(setup.command(&["--help"])).expect(0);
    for command in ["run", "demo", "check"] {
        assert!(help.stdout.contains(command), "{}", help.stdout);
    }
    let version = Finished::of(setup.command(&["--version"])).expect(0);
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", version.stdout);
}

#[test]
fn no_colours_where_no_terminal_is() {
    let setup = Lockgate::with("bad.toml", "nonsense");
    let mut command = setup.full_command(&["check"]);
    command.env_remove("NO_COLOR");
    let check = Finished::of(command).expect(1);
    assert!(!check.text().contains('\u{1b}'), "{}", check.text());
}

#[test]
fn a_demo_of_a_directory_that_is_not_there_says_which() {
    let setup = Setup::empty();
    let nowhere = setup.path().join("nowhere").to_string_lossy().into_owned();
    let demo = setup.command(&["demo", "--config", &nowhere]);
    let said = Finished::of(demo).expect(1).stderr;
    assert!(said.contains("nowhere/listeners.d") && said.contains("without --config"), "{said}");
}
