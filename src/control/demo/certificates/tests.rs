//! Development certificates: made, kept, made anew, and never another's overwritten.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn wanted(stem: &str, names: &[&str]) -> Wanted {
    Wanted {
        file_stem: stem.to_owned(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn text(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

fn names(written: &[PathBuf]) -> Vec<&str> {
    written.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect()
}

/// What a client that trusts only `demo-ca.crt` says of `stem` at `at`.
fn accepted(folder: &Path, stem: &str, name: &str, at: SystemTime) -> bool {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let der = |file: String| CertificateDer::from_pem_slice(text(folder, &file).as_bytes());
    let judge = judge(der(format!("{CA_STEM}.crt")).unwrap(), &provider).unwrap();
    let leaf = der(format!("{stem}.crt")).unwrap();
    judge.verify_server_cert(&leaf, &[], &server_name(name).unwrap(), &[], unix(at)).is_ok()
}

#[test]
fn makes_what_is_absent_and_keeps_what_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("certs");
    let want = [
        wanted("youxia", &["youxia.com", "*.youxia.com", "youxia.localhost"]),
        wanted("address", &["127.0.0.1", "::1"]),
    ];
    let made = ensure_at(&folder, &want, now()).unwrap();
    assert_eq!(made.ca, folder.join("demo-ca.crt"));
    assert_eq!(
        names(&made.written),
        ["demo-ca.key", "demo-ca.crt", "youxia.key", "youxia.crt", "address.key", "address.crt"]
    );
    for name in ["youxia.com", "a.youxia.com", "youxia.localhost"] {
        assert!(accepted(&folder, "youxia", name, now()), "{name}");
    }
    assert!(!accepted(&folder, "youxia", "youxib.com", now()));
    assert!(accepted(&folder, "address", "::1", now()));

    let again = ensure_at(&folder, &want, now() + DAY).unwrap();
    assert_eq!(again, Made { ca: made.ca, written: vec![], kept: vec![], refused: vec![] });
}

#[test]
fn dates_are_within_what_browsers_take() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ensure_at(folder, &[wanted("g", &["g.test"])], now()).unwrap();
    let valid = |at| accepted(folder, "g", "g.test", at);
    let minute = Duration::from_secs(60);
    assert!(valid(now() - DAY + minute));
    assert!(!valid(now() - DAY - minute));
    assert!(valid(now() + 396 * DAY - minute));
    assert!(!valid(now() + 396 * DAY + minute));
}

#[test]
fn keys_are_for_the_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    ensure_at(folder, &[wanted("g", &["g.test"])], now()).unwrap();
    for (file, mode) in
        [("demo-ca.key", 0o600), ("g.key", 0o600), ("demo-ca.crt", 0o644), ("g.crt", 0o644)]
    {
        let found = fs::metadata(folder.join(file)).unwrap().permissions().mode() & 0o777;
        // The umask of whoever runs the tests may take bits away.
        assert_eq!(found & !mode, 0, "{file} has {found:o}");
    }
    assert_eq!(fs::read_dir(folder).unwrap().count(), 4, "nothing temporary is left");
}

#[test]
fn ours_is_remade_when_it_expires_or_lacks_a_name_or_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let one = [wanted("g", &["g.test"])];
    ensure_at(folder, &one, now()).unwrap();
    let authority = text(folder, "demo-ca.crt");

    let two = [wanted("g", &["g.test", "g.localhost"])];
    let made = ensure_at(folder, &two, now()).unwrap();
    assert_eq!(names(&made.written), ["g.key", "g.crt"]);
    assert!(accepted(folder, "g", "g.localhost", now()));

    let late = now() + 392 * DAY;
    let made = ensure_at(folder, &two, late).unwrap();
    assert_eq!(names(&made.written), ["g.key", "g.crt"]);
    assert!(accepted(folder, "g", "g.test", late + 30 * DAY));

    fs::remove_file(folder.join("g.key")).unwrap();
    let made = ensure_at(folder, &two, late).unwrap();
    assert_eq!(names(&made.written), ["g.key", "g.crt"]);
    assert_eq!(text(folder, "demo-ca.crt"), authority, "the CA stayed");
}

#[test]
fn a_new_authority_when_the_old_one_expires_or_is_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let want = [wanted("g", &["g.test"])];
    ensure_at(folder, &want, now()).unwrap();
    let all = ["demo-ca.key", "demo-ca.crt", "g.key", "g.crt"];

    let late = now() + 725 * DAY;
    assert_eq!(names(&ensure_at(folder, &want, late).unwrap().written), all);
    assert!(accepted(folder, "g", "g.test", late));

    fs::write(folder.join("demo-ca.crt"), "not a certificate").unwrap();
    assert_eq!(names(&ensure_at(folder, &want, late).unwrap().written), all);

    // Two CAs mixed up: the key is not the certificate's.
    let other = tempfile::tempdir().unwrap();
    ensure_at(other.path(), &want, late).unwrap();
    fs::copy(other.path().join("demo-ca.crt"), folder.join("demo-ca.crt")).unwrap();
    assert_eq!(names(&ensure_at(folder, &want, late).unwrap().written), all);
    assert!(accepted(folder, "g", "g.test", late));
}

#[test]
fn what_is_someone_elses_is_never_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("g.crt"), "a bought certificate").unwrap();
    fs::write(folder.join("h.key"), [0xff, 0xfe]).unwrap();
    let want = [wanted("g", &["g.test"]), wanted("h", &["h.test"])];
    let made = ensure_at(folder, &want, now()).unwrap();
    assert_eq!(made.kept, ["g", "h"]);
    assert_eq!(names(&made.written), ["demo-ca.key", "demo-ca.crt"]);
    assert_eq!(text(folder, "g.crt"), "a bought certificate");
    assert!(!folder.join("g.key").exists());

    fs::write(folder.join("demo-ca.key"), "the company's CA").unwrap();
    let error = ensure_at(folder, &want, now()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(error.to_string().contains("demo-ca.key: not a key of"), "{error}");
    assert_eq!(text(folder, "demo-ca.key"), "the company's CA");
}

#[test]
fn what_cannot_be_made_does_not_hold_up_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    let want = [
        wanted("umlaut", &["ü.test"]),
        wanted("../outside", &["g.test"]),
        wanted("..", &["g.test"]),
        wanted("", &["g.test"]),
        wanted("demo-ca", &["g.test"]),
        wanted("nameless", &[]),
        wanted("g", &["g.test", "*.g.test"]),
    ];
    let made = ensure_at(&certs, &want, now()).unwrap();
    let refused: Vec<&str> = made.refused.iter().map(|(stem, _)| stem.as_str()).collect();
    assert_eq!(refused, ["umlaut", "../outside", "..", "", "demo-ca", "nameless"]);
    assert_eq!(names(&made.written), ["demo-ca.key", "demo-ca.crt", "g.key", "g.crt"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing outside the folder");
}
