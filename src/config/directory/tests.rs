//! Which files are read, and what that costs.

use std::fs;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::config::files::Stamp;

const ANY: Ask = Ask { all: false, allow_empty: false };

fn smallest(domain: &str) -> String {
    format!(
        "[[listener]]\ndomain = \"{domain}\"\nport = 8443\ngroup = \"web\"\n\n[group.web]\nbackends = [\"10.0.0.1:80\", \"10.0.0.2:80\"]\nsticky = {{ mode = \"insert\" }}\n"
    )
}

/// Games `g0`, `g1`, … with certificates of their own.
fn dir_of(games: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("listeners.d")).unwrap();
    fs::create_dir(dir.path().join("certs")).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    for number in 0..games {
        let domain = format!("g{number}.com");
        let params = rcgen::CertificateParams::new(vec![domain.clone()]).unwrap();
        let certs = dir.path().join("certs");
        let chain = params.self_signed(&key).unwrap().pem();
        fs::write(certs.join(format!("{domain}.crt")), chain).unwrap();
        fs::write(certs.join(format!("{domain}.key")), key.serialize_pem()).unwrap();
        fs::write(drop_in(&dir, number), smallest(&domain)).unwrap();
    }
    dir
}

fn drop_in(dir: &TempDir, number: usize) -> PathBuf {
    dir.path().join(format!("listeners.d/g{number}.toml"))
}

fn accepted(reading: &Reading) -> usize {
    let accepted = |file: &&FileReport| matches!(file.verdict, Verdict::Accepted(_));
    reading.files.iter().filter(accepted).count()
}

#[test]
fn only_what_looks_changed_is_read() {
    let dir = dir_of(1);
    let mut directory = Directory::new(dir.path(), BTreeMap::new());
    assert_eq!(accepted(&directory.read(ANY)), 1);
    // As if it were long ago, and the new text had been there already.
    let settle = |directory: &mut Directory| {
        let known = directory.known.values_mut().next().unwrap();
        assert!(known.fresh && known.seen.len() == 3);
        known.fresh = false;
        for (file, stamp) in &mut known.seen {
            *stamp = Stamp::of(file);
        }
    };
    fs::write(drop_in(&dir, 0), smallest("g0.com").replace("8443", "8444")).unwrap();
    settle(&mut directory);
    assert_eq!(accepted(&directory.read(ANY)), 0, "it was read though it looked the same");
    assert_eq!(accepted(&directory.read(Ask { all: true, ..ANY })), 1);

    settle(&mut directory);
    fs::remove_file(dir.path().join("certs/g0.com.key")).unwrap();
    assert!(directory.read(ANY).has_errors(), "a key that is gone was not seen");
}

/// `cargo test --release --lib -- --ignored --nocapture one_among_ten_thousand`
#[test]
#[ignore = "a measurement of half a minute"]
#[allow(clippy::print_stdout, reason = "it prints what it measured")]
fn one_among_ten_thousand() {
    const GAMES: usize = 10_000;
    let dir = dir_of(GAMES);
    let mut directory = Directory::new(dir.path(), BTreeMap::new());
    let mut timed = |what: &str, ask: Ask| {
        let begin = Instant::now();
        let reading = directory.read(ask);
        let took = begin.elapsed();
        println!(
            "{what}: {took:?}, {} accepted, {} said",
            accepted(&reading),
            reading.all_diagnostics().count()
        );
        reading
    };
    let first = timed("all for the first time", ANY);
    assert_eq!(accepted(&first), GAMES);
    std::thread::sleep(Duration::from_secs(3));
    timed("all read, for they were new", ANY);
    for _ in 0..3 {
        timed("nothing changed", ANY);
    }
    for number in 0..5 {
        let text = smallest(&format!("g{number}.com")).replace("10.0.0.2", "10.0.0.3");
        fs::write(drop_in(&dir, number), text).unwrap();
        assert_eq!(accepted(&timed("one changed", ANY)), 1);
    }
    timed("all asked for", Ask { all: true, ..ANY });
    fs::remove_file(drop_in(&dir, 9)).unwrap();
    timed("one is gone", ANY);
    let last_good =
        first.files.into_iter().filter_map(|file| Some((file.name.to_string(), file.bundle?)));
    let mut cold = Directory::new(dir.path(), last_good.collect());
    let begin = Instant::now();
    cold.read(ANY);
    println!("a start with all last good versions: {:?}", begin.elapsed());
}
