//! A configuration directory as a whole.

mod anything;
mod conflicts;
mod directory;
mod expect;
mod owners;
mod ownership;
mod process;
mod secret;
mod sticky;
mod upstream;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::*;

/// A config directory with these files; names that are no path are drop-ins.
fn dir(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("listeners.d")).unwrap();
    fs::create_dir(dir.path().join("certs")).unwrap();
    for (name, text) in files {
        fs::write(path(&dir, name), text).unwrap();
    }
    dir
}

fn path(dir: &TempDir, name: &str) -> PathBuf {
    let is_drop_in = !name.contains('/') && name != "lockgate.toml";
    dir.path().join(if is_drop_in { "listeners.d" } else { "" }).join(name)
}

/// A game with plain HTTP.
fn game(domain: &str, port: u16, backend: &str) -> String {
    format!(
        "[[listener]]\ndomain = \"{domain}\"\nport = {port}\nprotocol = \"http\"\ngroup = \"web\"\n\n\
         [group.web]\nbackends = [\"{backend}\"]\n"
    )
}

fn smallest() -> String {
    game("a.com", 8080, "10.0.0.1:80")
}

/// Every diagnostic as `FILE:LINE:COLUMN SEVERITY MESSAGE`.
fn said(dir: &TempDir, loaded: &Loaded) -> Vec<String> {
    let line = |diagnostic: &Diagnostic| {
        let Diagnostic { file, line, column, message, severity, .. } = diagnostic;
        let file = file.strip_prefix(dir.path()).unwrap_or(file).display();
        let prefix = format!("{}/", dir.path().display());
        let message = message.replace(&prefix, "").replace("listeners.d/", "");
        format!("{file}:{line}:{column} {} {message}", severity.name()).replace("listeners.d/", "")
    };
    loaded.diagnostics.iter().map(line).collect()
}

fn names(loaded: &Loaded) -> Vec<&str> {
    let games = loaded.config.iter().flat_map(|config| &config.games);
    games.map(|game| &*game.name).collect()
}

fn refused(loaded: &Loaded) -> Vec<&str> {
    loaded.refused.iter().filter_map(|file| file.file_stem()?.to_str()).collect()
}

#[test]
fn drop_ins_are_read_in_lexical_order_of_their_names() {
    let two = game("b.com", 8080, "10.0.0.1:80");
    let dir =
        dir(&[("b.toml", &two), ("a.toml", &smallest()), (".c.toml", "bad"), ("d.txt", "bad")]);
    let loaded = load(dir.path());
    assert_eq!(said(&dir, &loaded), Vec::<String>::new());
    assert_eq!(names(&loaded), ["a", "b"]);
    assert_eq!((loaded.files, loaded.refused.len()), (2, 0));
}

#[test]
fn what_cannot_be_read_is_said_and_never_panics() {
    let dir = dir(&[("a.toml", &smallest())]);
    fs::create_dir(path(&dir, "b.toml")).unwrap();
    fs::write(path(&dir, "c.toml"), b"# \xe6\xb8\xb8\n# ab\xff\n").unwrap();
    fs::write(path(&dir, "d.toml"), "#".repeat((1 << 20) + 1)).unwrap();
    std::os::unix::fs::symlink("nowhere", path(&dir, "e.toml")).unwrap();
    make_pipe(&path(&dir, "f.toml"));
    fs::write(path(&dir, "g.toml"), "#".repeat(1 << 20)).unwrap();
    let loaded = load(dir.path());
    let expected = [
        "b.toml:1:1 error this file cannot be read: it is a directory",
        "c.toml:2:5 error this is not UTF-8",
        "d.toml:1:1 error this file cannot be read: it is larger than 1MiB",
        "e.toml:1:1 error this link leads nowhere",
        "f.toml:1:1 error this file cannot be read: it is not a regular file",
        "g.toml:1:1 error this drop-in has no listener",
    ];
    assert_eq!(said(&dir, &loaded), expected);
    assert_eq!(names(&loaded), ["a"]);
    assert_eq!(refused(&loaded), ["b", "c", "d", "e", "f", "g"]);
    for diagnostic in &loaded.diagnostics {
        let text = diagnostic.render(true);
        assert!(text.contains(".toml:"), "{text}");
    }
}

fn make_pipe(file: &Path) {
    let made = std::process::Command::new("mkfifo").arg(file).status().unwrap();
    assert!(made.success());
}

#[test]
fn a_file_name_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = dir(&[("a.toml", &smallest())]);
    let name = OsStr::from_bytes(b"\xff.toml");
    fs::write(dir.path().join("listeners.d").join(name), smallest()).unwrap();
    let loaded = load(dir.path());
    assert_eq!(names(&loaded), ["a"]);
    assert_eq!(loaded.diagnostics[0].message, "this file's name is not UTF-8");
}

#[test]
fn a_file_name_that_a_terminal_would_obey_is_refused() {
    let dir = dir(&[("a.toml", &smallest()), ("b\u{9b}31m.toml", &smallest())]);
    let loaded = load(dir.path());
    assert_eq!(names(&loaded), ["a"]);
    let fault = &loaded.diagnostics[0];
    assert!(fault.message.starts_with("this file's name has characters"), "{fault:?}");
    let shown = [fault.render(false), fault.brief()];
    for text in shown {
        assert!(text.contains("b\\u{9b}31m.toml:1") && !text.contains('\u{9b}'), "{text:?}");
    }
}

#[test]
fn a_directory_without_drop_ins_is_an_error() {
    let empty = dir(&[]);
    let loaded = load(empty.path());
    assert_eq!(
        said(&empty, &loaded),
        ["listeners.d:1:1 error there is no drop-in in this directory"]
    );
    assert!(loaded.config.is_none() && loaded.has_errors());
    let nothing = tempfile::tempdir().unwrap();
    let loaded = load(nothing.path());
    assert_eq!(said(&nothing, &loaded), ["listeners.d:1:1 error this directory does not exist"]);
    assert!(loaded.config.is_none());
    fs::write(nothing.path().join("listeners.d"), "").unwrap();
    let loaded = load(nothing.path());
    assert!(said(&nothing, &loaded)[0].contains("this directory cannot be read: "));
}

#[test]
fn without_one_good_drop_in_there_is_no_config() {
    let dir = dir(&[("a.toml", "x = 1")]);
    let loaded = load(dir.path());
    assert!(loaded.config.is_none());
    assert_eq!(refused(&loaded), ["a"]);
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_no_fault() {
    let windows = format!("\u{feff}{}", smallest().replace('\n', "\r\n"));
    let loaded = load(dir(&[("a.toml", &windows)]).path());
    assert_eq!(loaded.diagnostics, []);
    let bad = dir(&[("a.toml", "\u{feff}x = 1\r\n")]);
    let loaded = load(bad.path());
    let fault = &loaded.diagnostics[0];
    assert_eq!((fault.column, fault.source_line.as_str()), (1, "x = 1"));
}

/// SEMANTICS RT-15.
#[test]
fn given_files_are_judged_against_the_rest_which_is_not_told() {
    let dir = dir(&[("b.toml", &smallest()), ("c.toml", "broken")]);
    let outside = tempfile::tempdir().unwrap();
    let given = outside.path().join("a.toml");
    fs::write(&given, smallest()).unwrap();
    let loaded = load_with(dir.path(), std::slice::from_ref(&given));
    assert_eq!(loaded.diagnostics.len(), 1, "{:?}", loaded.diagnostics);
    assert_eq!(loaded.diagnostics[0].file, given);
    assert_eq!((loaded.refused.clone(), loaded.files), (vec![given], 1));
    assert_eq!(names(&loaded), ["b"]);

    let replacing = outside.path().join("b.toml");
    fs::write(&replacing, smallest()).unwrap();
    let loaded = load_with(dir.path(), &[replacing.clone(), replacing.clone()]);
    assert_eq!(loaded.diagnostics, []);
    assert_eq!((names(&loaded), loaded.files), (vec!["b"], 1));
    assert_eq!(loaded.config.unwrap().games[0].file, replacing);

    let missing = outside.path().join("none.toml");
    let loaded = load_with(outside.path(), std::slice::from_ref(&missing));
    assert_eq!(loaded.diagnostics[0].message, "this file does not exist");
    assert_eq!(loaded.refused, [missing]);
}

#[test]
fn a_certificate_outside_its_dates_is_a_warning() {
    let says = |from: i32, until: i32| {
        let https = smallest().replace("protocol = \"http\"\n", "");
        let dir = dir(&[("a.toml", &https)]);
        let mut params = rcgen::CertificateParams::new(vec!["a.com".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 2);
        params.not_after = rcgen::date_time_ymd(until, 3, 4);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(path(&dir, "certs/a.com.crt"), certificate.pem()).unwrap();
        fs::write(path(&dir, "certs/a.com.key"), key.serialize_pem()).unwrap();
        let loaded = load(dir.path());
        assert_eq!(names(&loaded), ["a"]);
        said(&dir, &loaded)
    };
    let warning = "a.toml:2:10 warning the certificate of this listener";
    assert_eq!(says(2000, 2001), [format!("{warning} expired on 2001-03-04")]);
    assert_eq!(says(2999, 3000), [format!("{warning} is not valid before 2999-01-02")]);
    assert_eq!(says(2000, 2999), Vec::<String>::new());
}

#[test]
fn programs_get_json() {
    let dir = dir(&[("a.toml", &smallest()), ("b.toml", &smallest())]);
    let loaded = load(dir.path());
    let expected = serde_json::json!([{
        "severity": "error",
        "file": path(&dir, "b.toml"),
        "line": 2,
        "column": 10,
        "message": loaded.diagnostics[0].message,
        "hint": "remove it from one of them, or take another port",
        "related": { "file": path(&dir, "a.toml"), "line": 2 },
    }]);
    assert_eq!(to_json(&loaded.diagnostics), expected);
}

#[test]
fn of_very_many_faults_a_hundred_are_told() {
    let dir = dir(&[(
        "a.toml",
        &format!("{}\n", (0..5000).map(|n| format!("x{n} = 1\n")).collect::<String>()),
    )]);
    let loaded = load(dir.path());
    assert_eq!(loaded.diagnostics.len(), 101);
    let last = loaded.diagnostics.last().unwrap();
    assert_eq!(last.message, "4901 more problems of this file are not shown");
    assert!(last.is_error());
}

#[test]
fn what_is_too_long_is_refused() {
    let says = |rule: &str| {
        let text = smallest().replace("[group", &format!("[[listener.rule]]\n{rule}\n\n[group"));
        let dir = dir(&[("a.toml", &text)]);
        said(&dir, &load(dir.path()))
    };
    let path = |length: usize| format!("path = \"/{}\"\ngroup = \"web\"", "a".repeat(length - 1));
    assert_eq!(says(&path(4096)), Vec::<String>::new());
    assert_eq!(says(&path(4097)), ["a.toml:8:8 error this path has 4097 bytes"]);
    let body = |length: usize| {
        format!(
            "path = \"/a\"\n[listener.rule.respond]\nstatus = 200\nbody = \"{}\"",
            "a".repeat(length)
        )
    };
    assert_eq!(says(&body(65536)), Vec::<String>::new());
    assert_eq!(says(&body(65537)), ["a.toml:11:8 error `body` has 65537 bytes, more than 65536"]);
    let name = "n".repeat(65);
    let text = smallest().replace("web", &name);
    let dir = dir(&[("a.toml", &text)]);
    assert!(said(&dir, &load(dir.path()))[0].ends_with("cannot be the name of a group"));
}
