//! `[owners]`: which file may claim what, and that an owner keeps it.

use std::collections::BTreeMap;

use super::directory::{keep, says, serving, verdicts};
use super::*;

const ANY: Ask = Ask { all: false, allow_empty: false };

fn write(dir: &TempDir, name: &str, text: &str) {
    fs::write(path(dir, name), text).unwrap();
}

fn of(domain: &str) -> String {
    game(domain, 8080, "10.0.0.1:80")
}

fn process_says(text: &str) -> Vec<String> {
    let dir = dir(&[("lockgate.toml", text), ("a.toml", &smallest())]);
    said(&dir, &load(dir.path()))
}

#[test]
fn bad_lines_of_owners_are_told() {
    let line = |line: &str| process_says(&format!("[owners]\n{line}\n"));
    assert_eq!(
        line("\"a*.toml\" = [\"*.a.com:8030\", \"a.com:*\", \"*:8080\", \"[::1]:80\"]"),
        Vec::<String>::new()
    );
    let cases = [
        ("\"a\" = \"a.com:80\"", "2:1 error `a` fits no drop-in"),
        ("\"x/a.toml\" = \"a.com:80\"", "2:1 error `x/a.toml` is not the name of a drop-in"),
        ("\"a.toml\" = \"a.com\"", "2:12 error `a.com` has no port"),
        ("\"a.toml\" = \"[::1]\"", "2:12 error `[::1]` has no port"),
        ("\"a.toml\" = \"a.com:0\"", "2:12 error `a.com:0` does not end in a port"),
        ("\"a.toml\" = \"a.com:http\"", "2:12 error `a.com:http` does not end in a port"),
        (
            "\"a.toml\" = \"a..com:80\"",
            "2:12 error domain `a..com`: a domain has something between its dots",
        ),
        ("\"a.toml\" = []", "2:12 error `a.toml` is an empty list"),
        ("\"a.toml\" = [1]", "2:13 error `a.toml` must be a string, not an integer"),
    ];
    for (text, expected) in cases {
        assert_eq!(line(text), [format!("lockgate.toml:{expected}")]);
    }
    assert_eq!(
        process_says("owners = 1"),
        ["lockgate.toml:1:10 error `owners` must be a table, not an integer"]
    );
}

#[test]
fn a_file_claims_what_its_lines_allow_and_others_the_rest() {
    let owners = "[owners]\n\"a*.toml\" = [\"*.a.com:8080\"]\n\"x.toml\" = \"*:8080\"\n";
    let dir = dir(&[
        ("lockgate.toml", owners),
        ("a.toml", &of("a.com")),
        ("a-eu.toml", &of("eu.a.com")),
        ("a-us.toml", &of("a.us")),
        ("b.toml", &of("b.a.com")),
        ("c.toml", &game("b.a.com", 8081, "10.0.0.1:80")),
        ("x.toml", &of("x.com")),
    ]);
    let loaded = load(dir.path());
    let by = "`[owners]` in `lockgate.toml";
    let expected = [
        format!(
            "a-us.toml:2:10 error `a.us` on port 8080 is not among what this file may claim by {by}:2`"
        ),
        format!("b.toml:2:10 error `b.a.com` on port 8080 is kept for another file by {by}:2`"),
    ];
    assert_eq!(said(&dir, &loaded), expected);
    assert_eq!(names(&loaded), ["a-eu", "a", "c", "x"]);
    let default = smallest().replace("domain = \"a.com\"", "default = true");
    write(&dir, "d.toml", &default);
    assert!(
        said(&dir, &load(dir.path()))[2].contains("`default` on port 8080 is kept for another")
    );
}

#[test]
fn within_a_wildcard_a_name_is_another_files_only_by_owners() {
    let owners = "[owners]\n\"b.toml\" = [\"b.x.com:8080\"]\n";
    for (wildcard, exact) in [("a", "b"), ("c", "b")] {
        let [wildcard, exact] = [wildcard, exact].map(|name| format!("{name}.toml"));
        let dir = dir(&[
            ("lockgate.toml", owners),
            (&wildcard, &of("*.x.com")),
            (&exact, &of("b.x.com")),
        ]);
        assert_eq!(said(&dir, &load(dir.path())), Vec::<String>::new());
        write(&dir, "lockgate.toml", "");
        assert_eq!(load(dir.path()).refused.len(), 1);
    }
}

#[test]
fn an_owner_keeps_what_it_has_whatever_the_names_of_others() {
    let dir = dir(&[("b.toml", &of("b.com"))]);
    let mut kept = BTreeMap::new();
    let mut directory = Directory::new(dir.path(), BTreeMap::new());
    keep(&mut kept, &directory.read(ANY));
    write(&dir, "a.toml", &of("b.com"));
    let told = "a.toml:2:10 error `b.com` on port 8080 already belongs to `b.toml:2`";
    let refused = directory.read(ANY);
    assert_eq!(says(&dir, &refused), [told]);
    assert_eq!(serving(&refused), ["b"]);
    // Also at a cold start.
    let cold = Directory::new(dir.path(), kept).read(ANY);
    assert_eq!((says(&dir, &cold), serving(&cold)), (vec![told.to_owned()], vec!["b"]));
    // Also when it is bad for a while.
    write(&dir, "b.toml", "broken");
    let refused = directory.read(ANY);
    assert_eq!(says(&dir, &refused)[0], told);
    assert_eq!(serving(&refused), ["b"]);
    // What it gives up the other gets in the same reading, earlier or later.
    write(&dir, "b.toml", &of("other.com"));
    let given = directory.read(ANY);
    assert_eq!(verdicts(&given), ["a accepted", "b accepted"]);
}

#[test]
fn a_chain_of_files_that_wait_for_each_other_is_resolved() {
    let names = ["a", "b", "c", "d", "e"];
    let text = |at: usize| of(&format!("n{at}.com"));
    let files = names.map(|name| format!("{name}.toml"));
    let dir = dir(&[]);
    for (at, file) in files.iter().enumerate() {
        write(&dir, file, &text(at));
    }
    let mut directory = Directory::new(dir.path(), BTreeMap::new());
    assert_eq!(serving(&directory.read(ANY)), names);
    for (at, file) in files.iter().enumerate() {
        write(&dir, file, &text(at + 1));
    }
    let moved = directory.read(ANY);
    assert_eq!(says(&dir, &moved), Vec::<String>::new());
    assert_eq!(verdicts(&moved).len(), 5);
    // Two that swap: neither can begin.
    write(&dir, "a.toml", &text(2));
    write(&dir, "b.toml", &text(1));
    assert_eq!(verdicts(&directory.read(ANY)), ["a replaced", "b replaced"]);
}

#[test]
fn new_owners_are_asked_of_files_that_did_not_change() {
    let dir = dir(&[("lockgate.toml", ""), ("a.toml", &of("a.com")), ("b.toml", &of("b.com"))]);
    let mut directory = Directory::new(dir.path(), BTreeMap::new());
    assert_eq!(serving(&directory.read(ANY)), ["a", "b"]);
    write(&dir, "lockgate.toml", "[owners]\n\"b.toml\" = \"a.com:8080\"\n");
    let reading = directory.read(ANY);
    assert_eq!(verdicts(&reading), ["a replaced", "b replaced"]);
    write(&dir, "lockgate.toml", "");
    assert_eq!(verdicts(&directory.read(ANY)), ["a accepted", "b accepted"]);
}

#[test]
fn all_else_two_files_cannot_both_have_is_kept_too() {
    let mut b = of("b.com").replace("[[listener]]", "[[listener]]\ndefault = true");
    b += "sticky = { mode = \"insert\", domain = \"x.com\" }\n";
    b = b.replace("\"b.com\"", "\"b.x.com\"").replace("10.0.0.1:80", "127.0.0.1:8083");
    let dir = dir(&[("b.toml", &b)]);
    let mut directory = Directory::new(dir.path(), BTreeMap::new());
    assert_eq!(serving(&directory.read(ANY)), ["b"]);
    let cookie = of("a.x.com") + "sticky = { mode = \"insert\" }\n";
    let wants = [
        of("a.com").replace("[[listener]]", "[[listener]]\ndefault = true"),
        of("a.com").replace("http", "https"),
        of("a.com").replace("port", "address = \"10.0.0.5\"\nport"),
        game("a.com", 8081, "127.0.0.1:8080"),
        game("a.com", 8083, "10.0.0.1:80"),
        cookie,
    ];
    for text in &wants {
        write(&dir, "a.toml", text);
        let reading = directory.read(ANY);
        assert_eq!(serving(&reading), ["b"], "{text}\n{:?}", says(&dir, &reading));
    }
    // All of it is free with its owner gone.
    for text in &wants {
        fs::remove_file(path(&dir, "a.toml")).unwrap();
        write(&dir, "b.toml", &b);
        assert_eq!(serving(&directory.read(ANY)), ["b"]);
        fs::remove_file(path(&dir, "b.toml")).unwrap();
        write(&dir, "a.toml", text);
        let reading = directory.read(ANY);
        let only_certificate = text.contains("https");
        assert_eq!(serving(&reading).is_empty(), only_certificate, "{:?}", says(&dir, &reading));
    }
}
