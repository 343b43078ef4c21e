//! What is kept is read again as it was, or not at all.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;

fn bundle(text: &str) -> Bundle {
    let files = [
        (PathBuf::from("certs/a.crt"), Arc::from(&b"-----BEGIN"[..])),
        (PathBuf::from("/etc/key"), Arc::from(&[0_u8, 159, 146, 150][..])),
    ];
    Bundle {
        since: UNIX_EPOCH + Duration::from_millis(1_234_567),
        text: text.to_owned(),
        files: files.into(),
    }
}

#[test]
fn what_is_stored_is_loaded_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    assert!(load_all(dir.path()).is_empty());
    let [one, two] = ["one\n", "\u{feff}游侠"].map(bundle);
    assert!(store(dir.path(), "one", &one).unwrap());
    assert!(store(dir.path(), "two", &two).unwrap());
    let expected = BTreeMap::from([("one".to_owned(), one), ("two".to_owned(), two)]);
    assert_eq!(load_all(dir.path()), expected);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder(dir.path())), 0o700);
    assert_eq!(mode(&file(dir.path(), "one")), 0o600);
    remove(dir.path(), "two").unwrap();
    remove(dir.path(), "two").unwrap();
    assert_eq!(load_all(dir.path()).into_keys().collect::<Vec<_>>(), ["one"]);
}

#[test]
fn what_is_the_same_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    assert!(store(dir.path(), "a", &bundle("one")).unwrap());
    let later = Bundle { since: SystemTime::now(), ..bundle("one") };
    assert!(!store(dir.path(), "a", &later).unwrap());
    assert_eq!(load_all(dir.path())["a"].since, bundle("one").since);
    assert!(store(dir.path(), "a", &bundle("two")).unwrap());
    assert_eq!(load_all(dir.path())["a"].text, "two");
}

#[test]
fn what_is_garbled_is_as_if_absent() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path(), "good", &bundle("good")).unwrap();
    let whole = fs::read(file(dir.path(), "good")).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    for (number, garbled) in [
        whole[..whole.len() - 1].to_vec(),
        Vec::new(),
        vec![0xff; 100],
        text.replace("\"version\":1", "\"version\":2").into_bytes(),
        text.replace("drop_in", "dropin").into_bytes(),
        text.replace("\"base64\":\"", "\"base64\":\"!").into_bytes(),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(file(dir.path(), &format!("bad{number}")), garbled).unwrap();
    }
    fs::write(folder(dir.path()).join(".draft"), "half").unwrap();
    fs::create_dir(file(dir.path(), "directory")).unwrap();
    let found = load_all(dir.path()).into_keys().collect::<Vec<_>>();
    assert_eq!(found, ["good"]);
    assert!(store(dir.path(), "bad0", &bundle("new")).unwrap(), "it is written over");
    assert_eq!(load_all(dir.path())["bad0"].text, "new");
}

const STATE: &str = "LOCKGATE_TEST_STORES_IN";

/// Is killed by the test below.
#[test]
#[ignore = "runs for ever: the child of the next test"]
fn stores_for_ever() {
    let Some(dir) = std::env::var_os(STATE) else {
        return;
    };
    for version in 0_u64.. {
        let text = format!("{version} {}", "x".repeat(100_000));
        store(Path::new(&dir), "a", &bundle(&text)).unwrap();
    }
}

#[test]
fn a_process_that_is_killed_leaves_a_whole_version() {
    let dir = tempfile::tempdir().unwrap();
    store(dir.path(), "a", &bundle("0 ")).unwrap();
    let begin = Instant::now();
    let mut seen = 0_u64;
    for round in 0..100_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "control::last_good::tests::stores_for_ever"])
            .env(STATE, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It has begun when the version is another; then anywhere in the next.
        let before = fs::read(file(dir.path(), "a")).unwrap();
        while fs::read(file(dir.path(), "a")).unwrap() == before {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::yield_now();
        }
        for _ in 0..(round * 7919) % 20_000 {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let found = load_all(dir.path());
        let (version, rest) = found["a"].text.split_once(' ').unwrap();
        seen += u64::from(version != "0");
        assert!(rest.is_empty() || rest.len() == 100_000, "round {round}: {}", rest.len());
        if begin.elapsed() > Duration::from_secs(5) && round >= 10 {
            break;
        }
    }
    assert!(seen > 0);
    assert!(store(dir.path(), "a", &bundle("last")).unwrap(), "a draft is in nobody's way");
    assert_eq!(load_all(dir.path())["a"].text, "last");
}
