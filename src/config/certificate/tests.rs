//! PEM files that are missing, broken, mismatched or expired, each said with path and remedy.

use std::fs;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

fn certificate(names: &[&str]) -> (String, KeyPair) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key)
}

/// Loads a chain and a key from files with these contents.
fn load(chain: &str, key: &str) -> (TempDir, Result<Arc<CertifiedKey>, CertificateError>) {
    let dir = tempfile::tempdir().unwrap();
    let files = [("chain", chain), ("key", key)].map(|(name, text)| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        file
    });
    let loaded = load_certificate(&files[0], &files[1]);
    (dir, loaded)
}

/// The file to blame, and why.
fn fault(chain: &str, key: &str) -> (String, CertificateFault) {
    let (_dir, loaded) = load(chain, key);
    let error = loaded.unwrap_err();
    assert!(!error.hint().is_empty() && error.to_string().contains(&*error.file.to_string_lossy()));
    (error.file.file_name().unwrap().to_str().unwrap().to_owned(), error.fault)
}

#[test]
fn a_chain_and_its_key_are_loaded() {
    let (pem, key) = certificate(&["a.com"]);
    let (issuer, _) = certificate(&["ca.com"]);
    let (_dir, loaded) = load(&format!("{pem}{issuer}"), &key.serialize_pem());
    assert_eq!(loaded.unwrap().cert.len(), 2);
}

#[test]
fn one_file_may_hold_both() {
    let (pem, key) = certificate(&["a.com"]);
    let both = format!("a comment\n{}{pem}", key.serialize_pem());
    let (_dir, loaded) = load(&both, &both);
    assert_eq!(loaded.unwrap().cert.len(), 1);
}

#[test]
fn a_missing_file_is_named() {
    let nowhere = Path::new("/nowhere/x.crt");
    let error = load_certificate(nowhere, Path::new("/nowhere/x.key")).unwrap_err();
    assert_eq!(error, CertificateError::new(nowhere, CertificateFault::Missing));
    assert_eq!(error.to_string(), "`/nowhere/x.crt` does not exist");
}

#[test]
fn an_unreadable_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = load_authorities(dir.path()).unwrap_err();
    assert_eq!(error.fault, CertificateFault::Unreadable("it is a directory".to_owned()));
}

#[test]
fn files_without_what_belongs_in_them_are_refused() {
    let (pem, key) = certificate(&["a.com"]);
    let key = key.serialize_pem();
    assert_eq!(fault("", &key), ("chain".to_owned(), CertificateFault::NoCertificate));
    assert_eq!(fault(&key, &key), ("chain".to_owned(), CertificateFault::NoCertificate));
    assert_eq!(fault(&pem, &pem), ("key".to_owned(), CertificateFault::NoKey));
}

#[test]
fn an_encrypted_key_is_told_from_none() {
    let (pem, key) = certificate(&["a.com"]);
    let modern = key.serialize_pem().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
               DEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for key in [modern.as_str(), old] {
        assert_eq!(fault(&pem, key), ("key".to_owned(), CertificateFault::EncryptedKey));
    }
}

#[test]
fn damaged_pem_is_refused() {
    let (pem, key) = certificate(&["a.com"]);
    let key = key.serialize_pem();
    let cut = pem.split("-----END").next().unwrap();
    for (chain, why) in [
        (cut, "a section does not end"),
        ("-----BEGIN CERTIFICATE\nAAAA\n", "a section starts badly"),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "a section is not Base64"),
    ] {
        let malformed = CertificateFault::Malformed(why.to_owned());
        assert_eq!(fault(chain, &key), ("chain".to_owned(), malformed));
    }
}

#[test]
fn pem_around_something_else_is_refused() {
    let (pem, key) = certificate(&["a.com"]);
    let wrap = |label| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    let chain = format!("{pem}{}", wrap("CERTIFICATE"));
    let (file, why) = fault(&chain, &key.serialize_pem());
    assert!(file == "chain" && matches!(why, CertificateFault::Unusable(_)), "{why:?}");
    let (file, why) = fault(&pem, &wrap("PRIVATE KEY"));
    assert!(file == "key" && matches!(why, CertificateFault::Unusable(_)), "{why:?}");
}

#[test]
fn a_foreign_key_is_refused() {
    let (one, _) = certificate(&["a.com"]);
    let (two, key) = certificate(&["a.com"]);
    let key = key.serialize_pem();
    let order_of = |chain: &str| match fault(chain, &key) {
        (file, CertificateFault::KeyMismatch { order, .. }) if file == "key" => order,
        other => panic!("{other:?}"),
    };
    assert!(!order_of(&one));
    assert!(order_of(&format!("{one}{two}")), "it fits the second of the chain");
}

#[test]
fn coverage_follows_the_names_of_the_certificate() {
    let (pem, key) = certificate(&["a.com", "*.b.com", "10.0.0.1"]);
    let (_dir, loaded) = load(&pem, &key.serialize_pem());
    let certified = loaded.unwrap();
    let covered = |domain: &str| covers(&certified, &Domain::parse(domain).unwrap());
    for domain in ["a.com", "x.b.com", "*.b.com", "10.0.0.1"] {
        assert!(covered(domain), "{domain}");
    }
    for domain in ["x.a.com", "*.a.com", "b.com", "y.x.b.com", "10.0.0.2", "[::1]", "a_b.com"] {
        assert!(!covered(domain), "{domain}");
    }
}

#[test]
fn listeners_with_the_same_files_share_one_certificate() {
    let (pem, key) = certificate(&["a.com"]);
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("certs")).unwrap();
    fs::write(dir.path().join("certs/a.com.crt"), pem).unwrap();
    fs::write(dir.path().join("certs/a.com.key"), key.serialize_pem()).unwrap();
    let certificates = Certificates::new(dir.path(), Files::default());
    let one = certificates.named("a.com").unwrap();
    let two = certificates.files("certs/a.com.crt", "certs/a.com.key").unwrap();
    assert!(Arc::ptr_eq(&one, &two));
}
