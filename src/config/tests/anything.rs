//! Whatever a file holds, it is read without a panic, and what is said of it
//! names a place.

use proptest::prelude::*;

use super::*;
use crate::config::diagnostic::{acts_on_terminals, plain_lines};

/// A good drop-in that uses every kind of value.
const GOOD: &str = include_str!("../../../tests/it/config/valid/every_key.toml");

/// A small file that would be large in memory.
#[test]
fn domains_times_ports_have_a_limit() {
    let list = |count: usize| -> String { (0..count).map(|n| format!("\"d{n}.com\", ")).collect() };
    let ports = |count: usize| -> String { (1..=count).map(|port| format!("{port}, ")).collect() };
    let text = |domains, count| {
        smallest()
            .replace("8080", &format!("[{}]", ports(count)))
            .replace("\"a.com\"", &format!("[{}]", list(domains)))
    };
    let dir = dir(&[("a.toml", &text(1000, 100)), ("b.toml", &text(30_000, 50_000))]);
    let loaded = load(dir.path());
    let expected =
        "b.toml:1:1 error with this listener the file has 1500000000 pairs of a domain and a port";
    assert!(said(&dir, &loaded).contains(&expected.to_owned()), "{:?}", said(&dir, &loaded));
    assert_eq!(names(&loaded), ["a"]);
}

/// What a bad file costs is bounded: every name is looked for among all.
#[test]
fn many_unknown_names_are_no_burden() {
    let mut text = smallest();
    for n in 0..8000 {
        text.push_str(&format!(
            "[group.some_group_with_a_long_name_{n}]\nbackends=[\"10.0.0.1:80\"]\n"
        ));
    }
    for n in 0..8000 {
        text.push_str(&format!(
            "[[listener]]\ndomain=\"d{n}\"\nport=80\ngroup=\"another_group_with_a_long_name_{n}\"\n"
        ));
    }
    text.truncate(1 << 20);
    let dir = dir(&[("a.toml", &text), ("b.toml", &smallest())]);
    assert_eq!(names(&load(dir.path())), ["b"]);
}

fn check_any(bytes: &[u8]) -> Result<(), TestCaseError> {
    let dir = dir(&[("b.toml", &smallest())]);
    fs::write(path(&dir, "a.toml"), bytes).unwrap();
    let loaded = load(dir.path());
    let says = loaded
        .diagnostics
        .iter()
        .any(|fault| fault.file == path(&dir, "a.toml") && fault.is_error());
    prop_assert_eq!(
        says,
        refused(&loaded).contains(&"a"),
        "refused without a word, or not refused"
    );
    for diagnostic in &loaded.diagnostics {
        prop_assert!(diagnostic.line >= 1 && diagnostic.column >= 1);
        let text = diagnostic.render(false);
        let place =
            format!("{}:{}:{}", diagnostic.file.display(), diagnostic.line, diagnostic.column);
        prop_assert!(text.contains(&place), "{} is not in\n{}", place, text);
        let acts = text.chars().find(|c| acts_on_terminals(*c) && *c != '\n');
        prop_assert_eq!(acts, None, "a terminal would act on this");
        let message = annotate_snippets::normalize_untrusted_str(&plain_lines(&diagnostic.message));
        prop_assert!(text.contains(&message));
    }
    Ok(())
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check_any(&bytes)?;
    }

    #[test]
    fn random_changes_of_a_good_file_never_panic(
        changes in proptest::collection::vec(
            (any::<prop::sample::Index>(), 0_usize..20, ".{0,6}|[\\[\\]{}=\"#.,\n 0-9]{0,6}"),
            1..4,
        )
    ) {
        let mut text: Vec<char> = GOOD.chars().collect();
        for (at, length, with) in changes {
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, with.chars());
        }
        check_any(text.into_iter().collect::<String>().as_bytes())?;
    }

    #[test]
    fn random_values_never_panic(
        key in prop::sample::select([&keys::LISTENER, &keys::GROUP, &keys::UPSTREAM_TLS].map(|keys| keys.names).concat()),
        value in "[0-9]{1,25}|\"[^\"\\\\\\p{C}]{0,12}\"|true|-1|1.5|\\[\\]|\\{\\}|1979-05-27|\\[\"\", 1\\]|\"[0-9]{1,5}(ms|s|m|h|KiB|:[0-9]{1,3})\"",
    ) {
        check_any(format!("[[listener]]\n{key} = {value}\n").as_bytes())?;
        check_any(format!("[group.web]\n{key} = {value}\nbackends = [{value}, {{ address = {value}, name = {value} }}]\n").as_bytes())?;
        check_any(format!("[[listener]]\n[group.web]\nprotocol = \"https\"\ntls = {{ {key} = {value} }}\n").as_bytes())?;
        check_any(format!("[[listener.rule]]\n{key} = {value}\n[[listener]]\n[[listener.rule]]\npath = {value}\nredirect = {value}\nrespond = {value}\nset_headers = {value}\n").as_bytes())?;
    }
}
