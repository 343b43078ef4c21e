//! The secret: where it stands, how it is written, and that it is never said.

use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;
use crate::policy::sticky::{Secret, VERIFIES_FOR};

const ONE: &str = "0123456789abcdef";
const TWO: &str = "zyxwvutsrqponmlkjihgfedcba";
const MAY: u32 = 1_777_636_800;

/// A directory with this `lockgate.toml`, which is its owner's alone.
fn with(process: &str) -> TempDir {
    let dir = dir(&[("lockgate.toml", process), ("a.toml", &smallest())]);
    chmod(&dir, "lockgate.toml", 0o600);
    dir
}

fn chmod(dir: &TempDir, name: &str, mode: u32) {
    fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
}

/// What is said, and the keys in the order in which they may sign.
fn read(dir: &TempDir) -> (Vec<String>, Option<Vec<Secret>>) {
    let loaded = load(dir.path());
    let ring = loaded.config.as_ref().and_then(|config| config.process.secrets.clone());
    (said(dir, &loaded), ring.map(|ring| ring.secrets().to_vec()))
}

fn key(material: &str, signs_from: u32, retired: Option<u32>) -> Secret {
    Secret { material: material.as_bytes().to_vec(), signs_from, retired }
}

#[test]
fn the_first_of_several_signs() {
    let (said, keys) = read(&with(&format!("secret = \"{ONE}\"")));
    assert_eq!((said, keys), (Vec::new(), Some(vec![key(ONE, 0, None)])));
    let (_, keys) = read(&with(&format!("secret = [\n\"{TWO}\",\n\"{ONE}\"]")));
    assert_eq!(keys.unwrap(), [key(TWO, 0, None), key(ONE, 0, None)]);
    let (said, keys) = read(&with(""));
    assert_eq!((said, keys), (Vec::new(), None));
    assert_eq!(secret_place(with("").path()), Ok(SecretPlace::State));
}

#[test]
fn a_secret_file_has_a_key_a_line() {
    let dir = with("secret_file = \"keys\"");
    let text = format!(
        "# keys\n\n  {ONE} retired 2026-05-01T12:00:00Z\r\n{TWO} from 2026-05-01T12:00:00+00:00\n"
    );
    fs::write(dir.path().join("keys"), text).unwrap();
    chmod(&dir, "keys", 0o640);
    let (said, keys) = read(&dir);
    assert_eq!(said, Vec::<String>::new());
    assert_eq!(keys.unwrap(), [key(TWO, MAY, None), key(ONE, 0, Some(MAY))]);
    assert_eq!(secret_place(dir.path()), Ok(SecretPlace::File(dir.path().join("keys"))));
    // A plain file with a line of text, as an editor leaves it.
    fs::write(dir.path().join("keys"), format!("\u{feff}{ONE}")).unwrap();
    assert_eq!(read(&dir).1.unwrap(), [key(ONE, 0, None)]);
}

#[test]
fn what_others_may_read_is_told() {
    let dir = with(&format!("secret = \"{ONE}\""));
    chmod(&dir, "lockgate.toml", 0o644);
    let warning = "lockgate.toml:1:1 warning `lockgate.toml` holds the secret, and everybody on this machine may read it";
    assert_eq!(read(&dir).0, [warning]);
    let dir = with("secret_file = \"keys\"");
    chmod(&dir, "lockgate.toml", 0o644);
    fs::write(dir.path().join("keys"), ONE).unwrap();
    for (mode, told) in [(0o640, 0), (0o600, 0), (0o644, 1), (0o602, 1)] {
        chmod(&dir, "keys", mode);
        let (said, keys) = read(&dir);
        assert!(keys.is_some());
        let warning = "lockgate.toml:1:15 warning everybody on this machine may read `keys`";
        assert_eq!(said, vec![warning; told], "{mode:o}");
    }
}

#[test]
fn a_key_is_long_and_in_one_word() {
    let short = "a key of 15 characters can be guessed: 16 are the least";
    let blanks = "a key has no blanks and no control characters";
    let twice = "this key stands in `secret` twice";
    for (value, column, problem) in [
        ("\"0123456789abcde\"".to_owned(), 10, short),
        ("\"0123456789abcdef x\"".to_owned(), 10, blanks),
        ("\"0123456789abcdef\\u0000\"".to_owned(), 10, blanks),
        ("1234567890123456".to_owned(), 10, "`secret` must be a string, not an integer"),
        ("{ key = \"0123456789abcdef\" }".to_owned(), 10, "`secret` must be a string, not a table"),
        ("[]".to_owned(), 10, "`secret` is an empty list"),
        (format!("[\"{ONE}\", \"{ONE}\"]"), 31, twice),
    ] {
        let dir = with(&format!("secret = {value}"));
        let expected = format!("lockgate.toml:1:{column} error {problem}");
        assert_eq!(read(&dir).0, [expected]);
    }
    let many: Vec<String> = (0..33).map(|n| format!("\"{n:016}\"")).collect();
    let (said, _) = read(&with(&format!("secret = [{}]", many.join(", "))));
    assert_eq!(said, ["lockgate.toml:1:10 error `secret` has 33 keys"]);
    let (said, _) = read(&with(&format!("secret_file = \"keys\"\nsecret = \"{ONE}\"")));
    let both = "lockgate.toml:1:1 error there is `secret` or `secret_file`, not both";
    assert_eq!(said, [both]);
}

#[test]
fn what_is_wrong_with_a_file_of_keys_is_said_with_its_line() {
    let dir = with("secret_file = \"keys\"");
    let missing = "lockgate.toml:1:15 error the file that `secret_file` names does not exist";
    assert_eq!(read(&dir).0, [missing]);
    let time = "2026-05-01T12:00:00Z";
    let something = "there is something after the key";
    for (text, problem) in [
        (String::new(), "there is no key in it".to_owned()),
        ("# nothing\n".to_owned(), "there is no key in it".to_owned()),
        (
            "\n# a\nshort".to_owned(),
            "line 3: a key of 5 characters can be guessed: 16 are the least".to_owned(),
        ),
        (format!("{ONE} {TWO}"), format!("line 1: {something}")),
        (format!("{ONE} # mine"), format!("line 1: {something}")),
        (format!("{ONE} From {time}"), format!("line 1: {something}")),
        (format!("{ONE} from {TWO}"), "line 1: after `from` there is no time".to_owned()),
        (format!("{ONE} retired"), "line 1: after `retired` there is no time".to_owned()),
        (
            format!("{ONE} from 1969-12-31T23:59:59Z"),
            "line 1: after `from` there is no time".to_owned(),
        ),
        (format!("{ONE} from {time} from {time}"), "line 1: `from` stands here twice".to_owned()),
        (
            format!("{ONE} from {time} retired 2026-05-01T11:59:59Z"),
            "line 1: this key is retired before it signs".to_owned(),
        ),
        (
            format!("{TWO}\n{ONE}\n{TWO} retired {time}"),
            "line 3: this key stands on line 1 too".to_owned(),
        ),
        (format!("{ONE} retired {time}"), "every key in it is retired".to_owned()),
        ((0..33).map(|n| format!("{n:016}\n")).collect(), "there are 33 keys in it".to_owned()),
    ] {
        fs::write(dir.path().join("keys"), &text).unwrap();
        chmod(&dir, "keys", 0o600);
        let loaded = load(dir.path());
        assert_eq!(said(&dir, &loaded), [format!("lockgate.toml:1:15 error `keys`: {problem}")]);
        assert_silent(&loaded, &[ONE, TWO, "short", "mine"]);
    }
    fs::write(dir.path().join("keys"), b"\xff0123456789abcdef").unwrap();
    let expected = "lockgate.toml:1:15 error `keys`: it cannot be read: it is not UTF-8";
    assert_eq!(read(&dir).0, [expected]);
}

/// None of these stands in what is said, for people or for programs.
fn assert_silent(loaded: &Loaded, secrets: &[&str]) {
    let json = to_json(&loaded.diagnostics).to_string();
    for text in loaded.diagnostics.iter().map(|fault| fault.render(false)).chain([json]) {
        for secret in secrets {
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert!(!format!("{:?}", loaded.diagnostics).contains(ONE));
}

#[test]
fn no_fault_shows_the_secret() {
    for text in [
        "secret = \"0123456789abcdef",
        "secret = 0123456789abcdef",
        "secret = \"0123456789abcdef\" x",
        "secret = \"0123456789abcdef x\"",
        "secret = \"0123456789abcdef\"\nsecret = \"0123456789abcdef\"",
        "secret = [\n  \"zyxwvutsrqponmlkjihgfedcba\",\n  \"0123456789abcdef\n]\nworkers = 1",
        "secret = [\n  # new\n  \"zyxwvutsrqponmlkjihgfedcba\"\n  \"0123456789abcdef\"\n]",
        "secret = \"\"\"\n0123456789abcdef x\n\"\"\" 1",
        "secret = 1234567890123456",
        "secret = { a = \"0123456789abcdef\" }",
        "[secret]\nkey = \"0123456789abcdef\" 1",
        "secrets = \"0123456789abcdef\"",
        "sceret = \"0123456789abcdef\"",
        "SECRET = \"0123456789abcdef\"",
        "\"secrt\" = \"0123456789abcdef\"",
        "secret-file = \"0123456789abcdef\"",
        "secret_file = \"0123456789abcdef\"",
        "secret_file = [\"0123456789abcdef\"]",
        "admin = { secret = \"0123456789abcdef\" }",
        "workers = 1, secret = \"0123456789abcdef\"",
        "workers = 1\n[admin]\nsecret = \"0123456789abcdef\"",
        "secret \"0123456789abcdef\"",
        "secret = '0123456789abcdef'\u{1}",
    ] {
        let dir = with(text);
        let loaded = load(dir.path());
        assert!(loaded.config.is_none(), "{text}");
        assert!(loaded.diagnostics[0].line >= 1);
        assert_silent(&loaded, &["0123456789", "abcdef", "zyxw", "1234567890123456"]);
        if let Err(found) = secret_place(dir.path()) {
            assert!(!format!("{found:?}").contains("abcdef"), "{text}");
        }
    }
    let dir = with("");
    fs::write(dir.path().join("lockgate.toml"), b"secret = \"0123456789abcdef\xff\"").unwrap();
    assert_silent(&load(dir.path()), &["0123456789"]);
}

#[test]
fn other_lines_are_shown_as_ever() {
    let text = format!("secret = \"{ONE}\" # the secret\nwokers = 1\n[admin]\nadress = \"x\"\n");
    let dir = with(&text.replace("wokers", "workers"));
    assert_eq!(load(dir.path()).diagnostics[0].source_line, "adress = \"x\"");
    let dir = with("# the secret lies elsewhere\nwokers = 1\n");
    assert_eq!(load(dir.path()).diagnostics[0].source_line, "wokers = 1");
}

proptest! {
    /// However a file with a secret is damaged.
    #[test]
    fn no_damage_shows_the_secret(at in 0_usize..200, cut in 0_usize..3, put in "[\"'\\[\\]{}=#\\n\\\\ a\u{1}]{0,2}") {
        let text = format!(
            "workers = 1\nsecret = [\n  \"{ONE}{TWO}\", # now\n  '{TWO}{ONE}',\n]\n\n[admin]\naddress = \"127.0.0.1:0\"\n"
        );
        // What stands before the list and in the keys themselves is not damaged.
        let from = text.find('[').unwrap();
        let at = from + at % (text.len() - from);
        let (start, rest) = text.split_at(at);
        let damaged = format!("{start}{put}{}", rest.get(cut..).unwrap_or_default());
        let loaded = load(with(&damaged).path());
        for fault in &loaded.diagnostics {
            let text = fault.render(false);
            prop_assert!(!text.contains("3456789a") && !text.contains("rqponm"), "{}", text);
        }
    }
}

#[test]
fn rotation_puts_a_new_key_on_top_and_retires_the_one_that_signed() {
    let first = rotate_secrets(&format!("# mine\n{ONE}\n"), TWO, MAY, 0).unwrap();
    let at = "2026-05-01T12:00:00Z";
    assert_eq!(first.text, format!("# mine\n{TWO} from {at}\n{ONE} retired {at}\n"));
    assert_eq!((first.signs_from, first.dropped), (MAY, 0));
    assert_eq!(first.verifies_until, MAY + VERIFIES_FOR);
    let keys = parse_secrets(&first.text).unwrap();
    assert_eq!(keys.secrets(), [key(TWO, MAY, None), key(ONE, 0, Some(MAY))]);

    // What is retired goes when it verifies nothing any more, not before.
    let three = "three three".replace(' ', "-three-");
    let last = MAY + VERIFIES_FOR;
    let kept = rotate_secrets(&first.text, &three, last, 3600).unwrap();
    let later = show_time(last + 3600);
    let expected = format!(
        "# mine\n{three} from {later}\n{TWO} from {at} retired {later}\n{ONE} retired {at}\n"
    );
    assert_eq!((kept.text.as_str(), kept.dropped), (expected.as_str(), 0));
    let dropped = rotate_secrets(&first.text, &three, last + 1, 0).unwrap();
    assert_eq!((dropped.text.lines().count(), dropped.dropped), (3, 1));
    assert!(!dropped.text.contains(ONE));
}

#[test]
fn rotation_retires_the_key_that_signs_and_no_other() {
    let lines = |text: &str| -> Vec<String> {
        let rotated = rotate_secrets(text, "n-n-n-n-n-n-n-n-n", MAY, 0).unwrap();
        let retired = rotated.text.lines().filter(|line| line.contains("retired"));
        retired.map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(lines(&format!("{ONE}\n{TWO}")), [ONE]);
    assert_eq!(lines(&format!("{ONE}\n{TWO} from 2026-04-01T00:00:00Z")), [TWO]);
    let waiting = format!("{ONE}\n{TWO} from 2026-05-01T12:00:01Z\n");
    let fault = rotate_secrets(&waiting, "n-n-n-n-n-n-n-n-n", MAY, 0).unwrap_err();
    let expected = "line 2: this key waits to sign from 2026-05-01T12:00:01Z on";
    assert_eq!(fault.to_string(), expected);
    assert!(rotate_secrets("short", TWO, MAY, 0).is_err());
}
