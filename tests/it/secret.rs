//! The secret of the sticky cookies: made at the first start, kept, read from
//! where `lockgate.toml` says, rotated by command, and never said.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::PathBuf;

use crate::support::{Finished, Lockgate, Port, Setup, http_listener};

const SECRET: &str = "correct-horse-battery-staple";

fn setup() -> (Setup, Port) {
    let port = Port::reserve();
    let text = http_listener("a.test", &port, "group = \"web\"")
        + "[group.web]\nbackends = [\"127.0.0.1:9\"]\n";
    (Lockgate::with("a.toml", &text), port)
}

/// The file of the state directory.
fn state_file(setup: &Setup) -> PathBuf {
    setup.path().join("state/secret")
}

fn mode(file: &PathBuf) -> u32 {
    fs::metadata(file).unwrap().mode() & 0o7777
}

/// Rotates, and says what was printed.
#[track_caller]
fn rotate(setup: &Setup, more: &[&str]) -> Finished {
    setup.run(&[&["secret", "rotate"], more].concat())
}

/// The keys of a file: the words of each line.
fn keys(file: &PathBuf) -> Vec<Vec<String>> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

/// Starts it where it must not serve, and says why not.
#[track_caller]
fn refused(setup: &Setup) -> String {
    setup.run(&["run"]).expect(1).text()
}

#[test]
fn the_secret_is_made_once_and_kept() {
    let (setup, _port) = setup();
    let mut first = setup.start();
    let file = state_file(&setup);
    let text = fs::read_to_string(&file).unwrap();
    let (key, end) = text.split_at(64);
    assert!(key.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
    assert_eq!((end, mode(&file)), ("\n", 0o600));
    let log = first.wait_for_log(&["there was no secret"]);
    assert!(!log.contains(key), "{log}");
    assert_eq!(first.terminate(), 0);
    let names: Vec<_> = fs::read_dir(setup.path().join("state")).unwrap().collect();
    assert_eq!(names.len(), 3, "{names:?}: lock, secret, last good versions");

    let mut second = setup.start();
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    let log = second.log_to_the_end();
    assert!(!log.contains("secret"), "{log}");
    // Another directory gets another one.
    let (other, _port) = self::setup();
    let mut lockgate = other.start();
    assert_ne!(fs::read_to_string(state_file(&other)).unwrap(), text);
    assert_eq!(lockgate.terminate(), 0);
}

#[test]
fn a_secret_that_cannot_be_used_is_never_replaced() {
    let (setup, _port) = setup();
    setup.start().terminate();
    let file = state_file(&setup);
    for garbled in ["", "short\n", &format!("{SECRET} {SECRET}\n")] {
        fs::write(&file, garbled).unwrap();
        let said = refused(&setup);
        assert!(said.contains("state/secret") && said.contains("or remove the file"), "{said}");
        assert!(!said.contains(SECRET), "{said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), garbled);
    }
    fs::remove_file(&file).unwrap();
    symlink("nowhere", &file).unwrap();
    assert!(refused(&setup).contains("leads nowhere"));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(refused(&setup).contains("it is a directory"));
    // `check` asks for the files alone, and nobody writes into the state.
    setup.run(&["check"]).expect(0);
}

#[test]
fn a_secret_that_others_may_read_is_told() {
    let (setup, _port) = setup();
    setup.start().terminate();
    let file = state_file(&setup);
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let mut lockgate = setup.start();
    lockgate.wait_for_log(&["others than its owner may read"]);
    assert_eq!(lockgate.terminate(), 0);
    assert_eq!(mode(&file), 0o640);
}

#[test]
fn a_secret_of_lockgate_toml_needs_none_of_the_state() {
    let (setup, _port) = setup();
    let mut lockgate = setup.top(&format!("secret = \"{SECRET}\"")).start();
    let (named, _port) = self::setup();
    let named = named.any_file("keys", &format!("{SECRET}\n")).top("secret_file = \"keys\"");
    let mut other = named.start();
    for lockgate in [&mut lockgate, &mut other] {
        let log = lockgate.log_to_the_end();
        assert!(!log.contains(SECRET), "{log}");
    }
    assert!(!state_file(&named).exists());
}

#[test]
fn a_wrong_secret_is_refused_and_not_shown() {
    let (setup, _port) = setup();
    let setup =
        setup.any_file("keys", &format!("{SECRET} {SECRET}\n")).top("secret_file = \"keys\"");
    for arguments in [&["check"][..], &["check", "--json"], &["run"], &["secret", "rotate"]] {
        let said = setup.run(arguments).expect(1).text();
        assert!(said.contains("line 1: there is something after the key"), "{said}");
        assert!(!said.contains(SECRET), "{said}");
    }
    let (setup, _port) = self::setup();
    let setup = setup.top("secret = [\"tiny-one\", \"another one of mine\"]");
    let said = setup.run(&["check"]).expect(1).text();
    assert!(said.contains("lockgate.toml:2:11") && said.contains("openssl rand -hex 32"), "{said}");
    assert!(!said.contains("tiny") && !said.contains("another"), "{said}");
}

#[test]
fn rotate_adds_a_key_and_retires_the_one_that_signed() {
    let (setup, _port) = setup();
    setup.start().terminate();
    let file = state_file(&setup);
    let old = keys(&file)[0][0].clone();
    let said = rotate(&setup, &[]).expect(0).stdout;
    assert!(said.contains("a new key signs from") && said.contains("every instance"), "{said}");
    let now = keys(&file);
    assert_eq!((now.len(), mode(&file)), (2, 0o600));
    assert!(!said.contains("another owner"), "{said}");
    let [new, retired] = [&now[0], &now[1]];
    assert_eq!(
        (new[0].len(), &*new[1], &*retired[0], &*retired[1]),
        (64, "from", &*old, "retired")
    );
    assert_eq!(new[2], retired[2], "one takes over from the other");
    assert!(!said.contains(&old) && !said.contains(&new[0]), "{said}");
    // It is what a start reads.
    assert_eq!(setup.start().terminate(), 0);
    rotate(&setup, &[]).expect(0);
    assert_eq!(keys(&file).len(), 3);
}

#[test]
fn rotate_after_waits_so_that_all_instances_know_the_key_first() {
    let (setup, _port) = setup();
    rotate(&setup, &[]).expect(0);
    let file = state_file(&setup);
    assert_eq!((keys(&file).len(), mode(&file)), (1, 0o600), "it made one");
    let said = rotate(&setup, &["--after", "1d"]).expect(0).stdout;
    let now = keys(&file);
    assert_eq!((now[0][2].as_str(), now.len()), (now[1][2].as_str(), 2));
    assert!(said.contains(&format!("before {}", now[0][2])), "{said}");
    // It waits: another one would retire it before it ever signed.
    let said = rotate(&setup, &[]).expect(1).text();
    assert!(said.contains("line 1: this key waits to sign from"), "{said}");
    assert_eq!(keys(&file), now);
    for wrong in ["1", "-1h", "31d", ""] {
        rotate(&setup, &["--after", wrong]).expect(2);
    }
}

#[test]
fn rotate_drops_what_verifies_nothing_any_more() {
    let (setup, _port) = setup();
    let text = format!("# ours\n{SECRET}\n{SECRET}-2 retired 2020-01-01T00:00:00Z\n");
    let setup = setup.any_file("keys", &text).top("secret_file = \"keys\"");
    let file = setup.path().join("keys");
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let said = rotate(&setup, &[]).expect(0).stdout;
    assert!(said.contains("1 key dropped"), "{said}");
    let now = keys(&file);
    assert_eq!((now.len(), &*now[2][0], &*now[2][1]), (3, SECRET, "retired"));
    assert_eq!(now[0], ["#", "ours"]);
    assert_eq!(mode(&file), 0o640, "as it was");
    setup.run(&["check"]).expect(0);
}

#[test]
fn rotate_makes_the_file_that_is_named_and_follows_links() {
    let (setup, _port) = setup();
    let setup = setup.top("secret_file = \"keys/ours\"");
    setup.run(&["check"]).expect(1);
    let said = rotate(&setup, &[]).expect(0).stdout;
    let file = setup.path().join("keys/ours");
    assert!(said.contains("keys/ours") && said.contains("made"), "{said}");
    assert_eq!((keys(&file).len(), mode(&file)), (1, 0o600));
    assert_eq!(mode(&setup.path().join("keys")), 0o700);
    setup.run(&["check"]).expect(0);
    let real = setup.path().join("real");
    fs::rename(&file, &real).unwrap();
    symlink("../real", &file).unwrap();
    rotate(&setup, &[]).expect(0);
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
    assert_eq!(keys(&real).len(), 2);
}

#[test]
fn two_rotations_at_once_lose_nobodys_key() {
    let (setup, _port) = setup();
    rotate(&setup, &[]).expect(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| rotate(&setup, &[]).expect(0));
        }
    });
    assert_eq!(keys(&state_file(&setup)).len(), 7);
}

/// Root rotates, and lockgate's user still reads.
#[test]
fn rotate_keeps_the_owner() {
    let (setup, _port) = setup();
    let setup = setup.top("secret_file = \"keys/ours\"");
    rotate(&setup, &[]).expect(0);
    let (folder, file) = (setup.path().join("keys"), setup.path().join("keys/ours"));
    if chown(&folder, Some(4711), None).is_err() || chown(&file, Some(4712), None).is_err() {
        // Only root may give a file away; for anybody else there is nothing to keep.
        return;
    }
    let owner = |file: &PathBuf| fs::metadata(file).unwrap().uid();
    rotate(&setup, &[]).expect(0);
    assert_eq!(owner(&file), 4712);
    fs::remove_file(&file).unwrap();
    rotate(&setup, &[]).expect(0);
    assert_eq!(owner(&file), 4711, "a new one is its folder's owner's");
}

#[test]
fn rotate_leaves_lockgate_toml_alone() {
    let (setup, _port) = setup();
    let setup = setup.top(&format!("secret = \"{SECRET}\""));
    let said = rotate(&setup, &[]).expect(1).text();
    assert!(said.contains("secret_file") && !said.contains(SECRET), "{said}");
    assert!(!state_file(&setup).exists());
    // With a fault there it is not known which file is meant.
    let (setup, _port) = self::setup();
    let setup = setup.top("secret_fil = \"keys\"");
    let said = rotate(&setup, &[]).expect(1).text();
    assert!(said.contains("did you mean `secret_file`?"), "{said}");
    assert!(!state_file(&setup).exists());
    setup.run(&["secret"]).expect(2);
}
