//! The arrows of DESIGN 5: who may import whom in `src/`, and what the pure
//! folders must not know. Found in the text of the files, so that a wrong
//! `use` fails here before it grows roots.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each folder and the folders it may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("policy", &[]),
    ("http1", &[]),
    ("telemetry", &[]),
    ("config", &["policy"]),
    ("state", &["config", "policy", "telemetry"]),
    ("proxy", &["state", "config", "policy", "http1", "telemetry"]),
    ("control", &["proxy", "state", "config", "policy", "http1", "telemetry"]),
];

/// What runs the whole: may import everything.
const TOP: [&str; 3] = ["main", "cli", "lib"];

/// Decisions and grammar know no sockets, no runtime and no clock.
const PURE: [&str; 2] = ["policy", "http1"];
const IMPURE: [&str; 9] = [
    "std::net::Tcp",
    "std::net::Udp",
    "tokio",
    "Instant::now",
    "SystemTime",
    "std::fs",
    "std::thread",
    "rand::",
    "tracing::",
];

/// A source file: its top folder (or its own name, for those of `src/`
/// itself) and its text without comments.
struct Source {
    place: String,
    path: PathBuf,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let within = path.strip_prefix(&root).unwrap();
                let first = within.components().next().unwrap().as_os_str().to_string_lossy();
                sources.push(Source {
                    place: first.trim_end_matches(".rs").to_owned(),
                    text: without_comments(&fs::read_to_string(&path).unwrap()),
                    path,
                });
            }
        }
    }
    for (folder, _) in ARROWS {
        assert!(sources.iter().any(|source| source.place == *folder), "no file in {folder}/");
    }
    assert!(sources.len() > 30, "only {} files", sources.len());
    sources
}

fn without_comments(text: &str) -> String {
    let code = |line: &&str| !line.trim_start().starts_with("//");
    text.lines().filter(code).collect::<Vec<_>>().join("\n")
}

/// The folders of ours a text names: after `crate::`, also in a braced list,
/// and after `lockgate::`.
fn named(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for start in ["crate::", "lockgate::"] {
        for (place, _) in text.match_indices(start) {
            let rest = &text[place + start.len()..];
            match rest.strip_prefix('{') {
                None => found.extend(word(rest)),
                Some(list) => found.extend(heads_of(list)),
            }
        }
    }
    found
}

fn word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

/// The first words of the items of a braced list, up to its end.
fn heads_of(list: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 1;
    let mut expects = true;
    for (place, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => expects = true,
            c if depth == 1 && expects && c.is_alphabetic() => {
                heads.extend(word(&list[place..]));
                expects = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

#[test]
fn imports_point_down_only() {
    let folders: BTreeSet<&str> = ARROWS.iter().map(|(folder, _)| *folder).collect();
    let mut seen = 0;
    let mut wrong = Vec::new();
    for source in sources() {
        if TOP.contains(&source.place.as_str()) {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(folder, _)| *folder == source.place) else {
            panic!("{} is in no folder DESIGN 5 knows", source.path.display());
        };
        for name in named(&source.text) {
            if !folders.contains(name.as_str()) && !TOP.contains(&name.as_str()) {
                continue;
            }
            seen += 1;
            if name != source.place && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{} imports {name}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 10, "only {seen} imports seen");
}

#[test]
fn decisions_and_grammar_are_pure() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for source in sources() {
        if !PURE.contains(&source.place.as_str()) {
            continue;
        }
        seen += 1;
        for name in IMPURE {
            if source.text.contains(name) {
                wrong.push(format!("{} knows {name}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen >= 8, "only {seen} files");
}

#[test]
fn every_file_says_what_it_is_and_none_is_a_giant() {
    let mut wrong = Vec::new();
    for source in sources() {
        let text = fs::read_to_string(&source.path).unwrap();
        let of_tests = source.path.ends_with("tests.rs");
        if !text.starts_with("//!") && !of_tests {
            wrong.push(format!("{} begins without a module comment", source.path.display()));
        }
        if text.lines().count() > 500 {
            wrong.push(format!("{} has more than 500 lines", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_reader_of_imports_reads_all_forms() {
    let text = "use crate::proxy::{self, tls};\nuse crate::{config::Config, http1::{Head, Body}, \
                state};\nlet x = crate::control::run(); // fine\npub(crate) fn policy() {}";
    let expected = ["config", "control", "http1", "proxy", "state"];
    assert_eq!(named(text).into_iter().collect::<Vec<_>>(), expected);
}
