//! A directory that is read again: what is read anew, whose last good version
//! serves, and what is told.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::*;

/// The verdicts as `NAME VERDICT`, those that serve unchanged left out.
pub(super) fn verdicts(reading: &Reading) -> Vec<String> {
    let verdict = |file: &FileReport| {
        let verdict = match &file.verdict {
            Verdict::Unchanged => return None,
            Verdict::Accepted(_) => "accepted",
            Verdict::Refused { stands_in: Some(_), .. } => "replaced",
            Verdict::Refused { stands_in: None, .. } => "refused",
            Verdict::Removed => "removed",
        };
        Some(format!("{} {verdict}", file.name))
    };
    reading.files.iter().filter_map(verdict).collect()
}

pub(super) fn says(dir: &TempDir, reading: &Reading) -> Vec<String> {
    let loaded = Loaded {
        config: None,
        diagnostics: reading.all_diagnostics().cloned().collect(),
        refused: Vec::new(),
        files: 0,
    };
    said(dir, &loaded)
}

pub(super) fn serving(reading: &Reading) -> Vec<&str> {
    let games = reading.config.iter().flat_map(|config| &config.games);
    games.map(|game| &*game.name).collect()
}

fn game_of(reading: &Reading, name: &str) -> Arc<Game> {
    let games = &reading.config.as_ref().unwrap().games;
    Arc::clone(games.iter().find(|game| &*game.name == name).unwrap())
}

/// What is kept for the next start, after one more reading.
pub(super) fn keep(last_good: &mut BTreeMap<String, Bundle>, reading: &Reading) {
    for file in &reading.files {
        if matches!(file.verdict, Verdict::Removed) {
            last_good.remove(&*file.name);
        }
        if let Some(bundle) = &file.bundle {
            last_good.insert(file.name.to_string(), bundle.clone());
        }
    }
}

fn start(dir: &TempDir) -> (Directory, Reading) {
    let mut directory = Directory::new(dir.path(), BTreeMap::new());
    let reading = directory.read(Ask::default());
    (directory, reading)
}

const ANY: Ask = Ask { all: false, allow_empty: false };

fn write(dir: &TempDir, name: &str, text: &str) {
    fs::write(path(dir, name), text).unwrap();
}

/// A certificate for `a.com` that is valid until this year.
fn certify(dir: &TempDir, until: i32) {
    let mut params = rcgen::CertificateParams::new(vec!["a.com".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 2);
    params.not_after = rcgen::date_time_ymd(until, 3, 4);
    let key = rcgen::KeyPair::generate().unwrap();
    write(dir, "certs/a.com.crt", &params.self_signed(&key).unwrap().pem());
    write(dir, "certs/a.com.key", &key.serialize_pem());
}

fn https() -> String {
    smallest().replace("protocol = \"http\"\n", "")
}

#[test]
fn what_did_not_change_is_the_same_game() {
    let dir = dir(&[("a.toml", &smallest()), ("b.toml", &game("b.com", 8080, "10.0.0.1:80"))]);
    let (mut directory, first) = start(&dir);
    assert_eq!(verdicts(&first), ["a accepted", "b accepted"]);
    assert!(first.files.iter().all(|file| file.bundle.is_some()));
    write(&dir, "b.toml", &game("b.com", 8081, "10.0.0.1:80"));
    let second = directory.read(ANY);
    assert_eq!(verdicts(&second), ["b accepted"]);
    assert!(second.files[0].bundle.is_none() && second.files[1].bundle.is_some());
    assert!(Arc::ptr_eq(&game_of(&first, "a"), &game_of(&second, "a")));
    assert_eq!(game_of(&second, "b").listeners[0].ports, [8081]);
    // Even all read again, or written again with the same bytes.
    fs::remove_file(path(&dir, "a.toml")).unwrap();
    write(&dir, "a.toml", &smallest());
    for all in [false, true] {
        let again = directory.read(Ask { all, allow_empty: false });
        assert_eq!(verdicts(&again), Vec::<String>::new());
        assert!(Arc::ptr_eq(&game_of(&first, "a"), &game_of(&again, "a")));
    }
}

#[test]
fn a_bad_version_is_refused_and_the_last_good_one_serves() {
    let dir = dir(&[("a.toml", &smallest()), ("b.toml", &game("b.com", 8080, "10.0.0.1:80"))]);
    let (mut directory, first) = start(&dir);
    write(&dir, "a.toml", "broken");
    let second = directory.read(ANY);
    assert_eq!(verdicts(&second), ["a replaced"]);
    assert_eq!(serving(&second), ["a", "b"]);
    assert!(Arc::ptr_eq(&game_of(&first, "a"), &game_of(&second, "a")));
    let told = says(&dir, &second);
    assert!(told[0].starts_with("a.toml:1:7 error "), "{told:?}");
    let stands_in = told[1].strip_prefix("a.toml:1:1 warning its last good version, of 2");
    assert!(stands_in.is_some_and(|rest| rest.ends_with("Z, serves")), "{told:?}");
    assert!(!second.files[0].told_before);
    let third = directory.read(ANY);
    assert_eq!(verdicts(&third), ["a replaced"]);
    assert!(third.files[0].told_before);
    // Mended: nothing is new but that it is good again.
    write(&dir, "a.toml", &smallest());
    let mended = directory.read(ANY);
    assert_eq!(verdicts(&mended), ["a accepted"]);
    assert!(Arc::ptr_eq(&game_of(&first, "a"), &game_of(&mended, "a")));
    assert_eq!(says(&dir, &mended), Vec::<String>::new());
    assert!(mended.files[0].bundle.is_none());
}

#[test]
fn the_last_good_version_serves_at_a_cold_start_with_its_certificate() {
    let dir = dir(&[("a.toml", &https()), ("b.toml", &game("b.com", 80, "10.0.0.1:80"))]);
    certify(&dir, 2999);
    let mut kept = BTreeMap::new();
    let (_, first) = start(&dir);
    assert_eq!(says(&dir, &first), Vec::<String>::new());
    keep(&mut kept, &first);
    let names: Vec<&Path> = kept["a"].files.keys().map(PathBuf::as_path).collect();
    assert_eq!(names, [Path::new("certs/a.com.crt"), Path::new("certs/a.com.key")]);
    let certificate = |reading: &Reading| {
        let game = game_of(reading, "a");
        game.listeners[0].tls.as_ref().unwrap().certificate.cert.clone()
    };
    // The key alone was replaced: the file did not change, and does not fit.
    write(&dir, "certs/a.com.key", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let mut directory = Directory::new(dir.path(), kept.clone());
    let cold = directory.read(ANY);
    assert_eq!(verdicts(&cold), ["a replaced"]);
    assert_eq!(certificate(&cold), certificate(&first));
    let told = says(&dir, &cold);
    assert!(told[0].contains("does not belong to the certificate"), "{told:?}");
    assert!(told[1].contains("its last good version, of "), "{told:?}");
    // A renewal of both is seen.
    certify(&dir, 2998);
    let renewed = directory.read(ANY);
    assert_eq!(verdicts(&renewed), ["a accepted"]);
    assert_ne!(certificate(&renewed), certificate(&first));
    // Unchanged files are not kept again at the next start.
    keep(&mut kept, &renewed);
    let again = Directory::new(dir.path(), kept).read(ANY);
    assert_eq!(verdicts(&again), Vec::<String>::new());
    assert_eq!(serving(&again), ["a", "b"]);
    assert!(again.files.iter().all(|file| file.bundle.is_none()));
}

#[test]
fn a_certificate_that_was_missing_is_looked_for_again() {
    let dir = dir(&[("a.toml", &https()), ("b.toml", &game("b.com", 80, "10.0.0.1:80"))]);
    let (mut directory, first) = start(&dir);
    assert_eq!(verdicts(&first), ["a refused", "b accepted"]);
    certify(&dir, 2999);
    assert_eq!(verdicts(&directory.read(ANY)), ["a accepted"]);
}

#[test]
fn an_expired_certificate_does_not_replace_a_valid_one() {
    let dir = dir(&[("a.toml", &https())]);
    certify(&dir, 2001);
    let (mut directory, first) = start(&dir);
    assert_eq!(verdicts(&first), ["a accepted"]);
    assert!(says(&dir, &first)[0].ends_with("expired on 2001-03-04"));
    certify(&dir, 2002);
    assert_eq!(verdicts(&directory.read(ANY)), ["a accepted"], "none was better");
    certify(&dir, 2999);
    assert_eq!(verdicts(&directory.read(ANY)), ["a accepted"]);
    certify(&dir, 2003);
    let refused = directory.read(ANY);
    assert_eq!(verdicts(&refused), ["a replaced"]);
    let expected =
        "a.toml:2:10 error this would replace a certificate that is valid until 2999-03-04";
    assert!(says(&dir, &refused).contains(&expected.to_owned()), "{:?}", says(&dir, &refused));
}

#[test]
fn a_file_that_is_gone_is_a_game_that_is_gone() {
    let dir = dir(&[("a.toml", &smallest()), ("b.toml", &game("b.com", 8080, "10.0.0.1:80"))]);
    let mut kept = BTreeMap::new();
    let (mut directory, first) = start(&dir);
    keep(&mut kept, &first);
    fs::remove_file(path(&dir, "a.toml")).unwrap();
    let second = directory.read(ANY);
    assert_eq!((verdicts(&second), serving(&second)), (vec!["a removed".to_owned()], vec!["b"]));
    let cold = Directory::new(dir.path(), kept).read(ANY);
    assert_eq!((verdicts(&cold), serving(&cold)), (vec!["a removed".to_owned()], vec!["b"]));
    // What it had is free.
    write(&dir, "c.toml", &smallest());
    assert_eq!(verdicts(&directory.read(ANY)), ["c accepted"]);
}

#[test]
fn a_folder_that_is_empty_or_gone_changes_nothing() {
    let dir = dir(&[("a.toml", &smallest())]);
    let mut kept = BTreeMap::new();
    let (mut directory, first) = start(&dir);
    keep(&mut kept, &first);
    let away = dir.path().join("away");
    fs::rename(path(&dir, "a.toml"), &away).unwrap();
    let empty = directory.read(ANY);
    let told = ["listeners.d:1:1 error there is no drop-in in this directory"];
    assert_eq!(
        (says(&dir, &empty), serving(&empty)),
        (told.map(str::to_owned).to_vec(), vec!["a"])
    );
    assert_eq!(verdicts(&empty), Vec::<String>::new());
    assert!(!empty.told_before && directory.read(ANY).told_before);

    let mut cold = Directory::new(dir.path(), kept.clone());
    let started = cold.read(ANY);
    assert_eq!((verdicts(&started), serving(&started)), (vec!["a replaced".to_owned()], vec!["a"]));
    let told = says(&dir, &started);
    assert!(told.iter().any(|line| line.contains("there is no drop-in")), "{told:?}");
    assert!(told.iter().any(|line| line.contains("last good version, of")), "{told:?}");

    fs::remove_dir(dir.path().join("listeners.d")).unwrap();
    let gone = directory.read(Ask { all: false, allow_empty: true });
    assert_eq!(says(&dir, &gone), ["listeners.d:1:1 error this directory does not exist"]);
    assert_eq!(serving(&gone), ["a"]);

    fs::create_dir(dir.path().join("listeners.d")).unwrap();
    fs::rename(&away, path(&dir, "a.toml")).unwrap();
    assert_eq!(verdicts(&cold.read(ANY)), ["a accepted"]);
    fs::remove_file(path(&dir, "a.toml")).unwrap();
    let meant = directory.read(Ask { all: false, allow_empty: true });
    assert_eq!(verdicts(&meant), ["a removed"]);
    assert!(meant.config.is_some_and(|config| config.games.is_empty()));
    assert!(!directory.read(Ask { all: false, allow_empty: true }).has_errors());
}

#[test]
fn a_start_without_anything_good_has_nothing_to_serve() {
    let empty = dir(&[]);
    assert!(start(&empty).1.config.is_none());
    let bad = dir(&[("a.toml", "broken")]);
    assert!(start(&bad).1.config.is_none());
    let process = dir(&[("lockgate.toml", "broken"), ("a.toml", &smallest())]);
    assert!(start(&process).1.config.is_none());
}

#[test]
fn of_a_bad_lockgate_toml_the_version_before_stays() {
    let dir = dir(&[("lockgate.toml", "workers = 3\n"), ("a.toml", &smallest())]);
    let (mut directory, _) = start(&dir);
    write(&dir, "lockgate.toml", "workers = 4\nx = 1\n");
    write(&dir, "b.toml", &game("b.com", 8080, "10.0.0.1:80"));
    let reading = directory.read(ANY);
    assert_eq!(verdicts(&reading), ["b accepted"]);
    assert_eq!(reading.config.as_ref().unwrap().process.workers, 3);
    let expected = [
        "lockgate.toml:2:1 error unknown key `x` in `lockgate.toml`",
        "lockgate.toml:1:1 warning the version of this file before goes on being in force",
    ];
    assert_eq!(says(&dir, &reading), expected);
    assert!(directory.read(ANY).told_before);
    write(&dir, "lockgate.toml", "workers = 4\n");
    assert_eq!(directory.read(ANY).config.unwrap().process.workers, 4);
}

#[test]
fn new_defaults_concern_every_file() {
    let dir = dir(&[("lockgate.toml", ""), ("a.toml", &smallest())]);
    let (mut directory, first) = start(&dir);
    write(&dir, "lockgate.toml", "[limits]\nheaders = 50\n");
    let second = directory.read(ANY);
    assert!(Arc::ptr_eq(&game_of(&first, "a"), &game_of(&second, "a")));
    write(&dir, "lockgate.toml", "[defaults.listener]\nidle_timeout = \"7s\"\n");
    let third = directory.read(ANY);
    assert_eq!(verdicts(&third), ["a accepted"]);
    assert_eq!(game_of(&third, "a").listeners[0].idle_timeout.as_secs(), 7);
}

#[test]
fn a_last_good_version_that_is_good_no_more_is_as_if_absent() {
    let dir = dir(&[("a.toml", "broken"), ("b.toml", &game("b.com", 80, "10.0.0.1:80"))]);
    let bundle = Bundle {
        since: SystemTime::UNIX_EPOCH + Duration::from_secs(86_400),
        text: "x = 1".to_owned(),
        files: BTreeMap::new(),
    };
    let mut directory = Directory::new(dir.path(), BTreeMap::from([("a".to_owned(), bundle)]));
    let reading = directory.read(ANY);
    assert_eq!(verdicts(&reading), ["a refused", "b accepted"]);
    let expected = "a.toml:1:1 warning its last good version, of 1970-01-02T00:00:00Z, is not good any more: unknown key `x` in a drop-in";
    assert_eq!(says(&dir, &reading)[0], expected);
}

/// What was good, and cannot be served after all.
#[test]
fn a_version_that_cannot_be_served_is_taken_back_with_all_that_followed() {
    let of = |domain: &str, backend: &str| game(domain, 8080, backend);
    let dir = dir(&[
        ("a.toml", &of("a.com", "10.0.0.1:80")),
        ("c.toml", &of("c.com", "10.0.0.1:80")),
        ("d.toml", &of("d.com", "10.0.0.1:80")),
    ]);
    let (mut directory, first) = start(&dir);
    let fault = |game: &str| {
        let (message, hint) = ("it does not fit".to_owned(), "make room".to_owned());
        vec![Fault { game: game.to_owned(), line: 3, port: None, message, hint }]
    };
    // It was there before: nothing to take back.
    assert!(directory.read(ANY).config.is_some());
    assert!(directory.read_without(ANY, fault("a")).is_none());
    // It gives up a domain that another file gets in the same step.
    write(&dir, "a.toml", &of("z.com", "10.0.0.1:80"));
    write(&dir, "0.toml", &of("a.com", "10.0.0.2:80"));
    write(&dir, "c.toml", &of("c.com", "10.0.0.3:80"));
    fs::remove_file(path(&dir, "d.toml")).unwrap();
    let second = directory.read(ANY);
    assert_eq!(verdicts(&second), ["d removed", "0 accepted", "a accepted", "c accepted"]);
    let third = directory.read_without(ANY, fault("a")).unwrap();
    assert_eq!(verdicts(&third), ["d removed", "0 refused", "a replaced", "c accepted"]);
    assert!(Arc::ptr_eq(&game_of(&first, "a"), &game_of(&third, "a")));
    assert!(third.files[2].bundle.is_none() && third.files[3].bundle.is_some());
    let told = says(&dir, &third);
    assert!(told[0].ends_with("already belongs to `a.toml:2`"), "{told:?}");
    assert_eq!(told[1], "a.toml:3:1 error it does not fit");
    // Another time it fits, and nothing but that is new.
    let fourth = directory.read(ANY);
    assert_eq!(verdicts(&fourth), ["0 accepted", "a accepted"]);
    assert!(fourth.files[1].bundle.is_some());
    // What is wrong with a start is as if it had never been there.
    let mut cold = Directory::new(dir.path(), BTreeMap::new());
    cold.read(ANY);
    let started = cold.read_without(ANY, fault("a")).unwrap();
    assert_eq!(verdicts(&started), ["0 accepted", "a refused", "c accepted"]);
}

#[test]
fn bad_files_of_every_kind_leave_the_others_alone() {
    let dir = dir(&[("a.toml", &smallest())]);
    let (mut directory, _) = start(&dir);
    fs::create_dir(path(&dir, "b.toml")).unwrap();
    fs::write(path(&dir, "c.toml"), b"# ab\xff\n").unwrap();
    fs::File::create(path(&dir, "d.toml")).unwrap().set_len(100 << 20).unwrap();
    std::os::unix::fs::symlink("nowhere", path(&dir, "e.toml")).unwrap();
    std::os::unix::fs::symlink("f.toml", path(&dir, "f.toml")).unwrap();
    make_pipe(&path(&dir, "g.toml"));
    fs::write(path(&dir, "h.toml"), [0_u8, 159, 146, 150]).unwrap();
    write(&dir, "i.toml", "a = 1\na = 2\n");
    std::os::unix::fs::symlink("/proc/self/mem", path(&dir, "j.toml")).unwrap();
    let windows = game("w.com", 8080, "10.0.0.1:80").replace('\n', "\r\n");
    write(&dir, "w.toml", &format!("\u{feff}{windows}"));
    let reading = directory.read(ANY);
    assert_eq!(serving(&reading), ["a", "w"]);
    assert!(!reading.files.last().unwrap().bundle.as_ref().unwrap().text.starts_with('\u{feff}'));
    let told = says(&dir, &reading);
    for name in ["b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        let of_it = told.iter().filter(|line| line.starts_with(&format!("{name}.toml:")));
        assert_eq!(of_it.count(), 1, "{name}: {told:?}");
    }
    // A bad version of a good file that no longer can be read at all.
    fs::remove_file(path(&dir, "a.toml")).unwrap();
    fs::create_dir(path(&dir, "a.toml")).unwrap();
    let reading = directory.read(ANY);
    assert_eq!(serving(&reading), ["a", "w"]);
    assert_eq!(verdicts(&reading)[0], "a replaced");
}

#[test]
fn a_folder_that_is_swapped_by_its_link_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    for version in ["1", "2"] {
        fs::create_dir(dir.path().join(version)).unwrap();
        fs::write(dir.path().join(version).join("a.toml"), smallest()).unwrap();
    }
    let link = dir.path().join("listeners.d");
    std::os::unix::fs::symlink("1", &link).unwrap();
    let (mut directory, first) = start(&dir);
    std::os::unix::fs::symlink("2", dir.path().join("new")).unwrap();
    fs::rename(dir.path().join("new"), &link).unwrap();
    let second = directory.read(ANY);
    assert!(Arc::ptr_eq(&game_of(&first, "a"), &game_of(&second, "a")));
    assert_eq!(verdicts(&second), Vec::<String>::new());
}
