//! Certificates and keys from PEM files. This is the only place that reads PEM.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pemfile::{Item, read_one_from_slice};

use super::files::{Files, Seen};
use super::read::ReadError;
use crate::policy::route::Domain;

/// Bytes of the largest PEM file.
const LARGEST: u64 = 1 << 20;

/// Why a certificate, its key or a CA bundle cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateError {
    /// The file that is to blame.
    pub file: PathBuf,
    /// What is wrong with it.
    pub fault: CertificateFault,
}

/// What is wrong with a PEM file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// It is not there.
    Missing,
    /// It is there, but cannot be read; why.
    Unreadable(String),
    /// It has no section `CERTIFICATE`.
    NoCertificate,
    /// It has no section with a private key.
    NoKey,
    /// Its key needs a passphrase.
    EncryptedKey,
    /// A section of it is no PEM; why.
    Malformed(String),
    /// A section is PEM, but what it holds cannot be used; why.
    Unusable(String),
    /// The key belongs to another certificate.
    KeyMismatch {
        /// The chain the key was to fit.
        chain: PathBuf,
        /// It fits a later certificate of the chain: the order is wrong.
        order: bool,
    },
}

impl CertificateError {
    fn new(file: &Path, fault: CertificateFault) -> Self {
        CertificateError { file: file.to_owned(), fault }
    }

    fn unusable(file: &Path, why: &rustls::Error) -> Self {
        let why = match why {
            rustls::Error::InvalidCertificate(why) => format!("no valid certificate ({why:?})"),
            other => other.to_string(),
        };
        Self::new(file, CertificateFault::Unusable(why))
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let file = self.file.display();
        match &self.fault {
            CertificateFault::Missing => {
                "put the file there, or name another one in the drop-in".to_owned()
            }
            CertificateFault::Unreadable(_) => {
                "name a plain file that lockgate's user may read".to_owned()
            }
            CertificateFault::NoCertificate => {
                "the file holds the chain in PEM, with `-----BEGIN CERTIFICATE-----`".to_owned()
            }
            CertificateFault::NoKey => {
                "the file holds the key in PEM, with `-----BEGIN PRIVATE KEY-----`".to_owned()
            }
            CertificateFault::EncryptedKey => {
                format!("decrypt it: `openssl pkey -in {file} -out NEW.key`")
            }
            CertificateFault::Malformed(_) | CertificateFault::Unusable(_) => {
                "fetch the file again from where it was made, as PEM".to_owned()
            }
            CertificateFault::KeyMismatch { order: true, .. } => {
                "put the server's own certificate first in the chain".to_owned()
            }
            CertificateFault::KeyMismatch { .. } => {
                "take certificate and key of the same order or renewal".to_owned()
            }
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.fault {
            CertificateFault::Missing => write!(f, "`{file}` does not exist"),
            CertificateFault::Unreadable(why) => write!(f, "`{file}` cannot be read: {why}"),
            CertificateFault::NoCertificate => write!(f, "there is no certificate in `{file}`"),
            CertificateFault::NoKey => write!(f, "there is no private key in `{file}`"),
            CertificateFault::EncryptedKey => write!(f, "the key in `{file}` is encrypted"),
            CertificateFault::Malformed(why) => write!(f, "`{file}` is damaged: {why}"),
            CertificateFault::Unusable(why) => write!(f, "`{file}` cannot be used: {why}"),
            CertificateFault::KeyMismatch { chain, order: true } => {
                write!(
                    f,
                    "the first certificate in `{}` is not the one the key `{file}` belongs to",
                    chain.display()
                )
            }
            CertificateFault::KeyMismatch { chain, .. } => {
                write!(
                    f,
                    "the key `{file}` does not belong to the certificate `{}`",
                    chain.display()
                )
            }
        }
    }
}

impl std::error::Error for CertificateError {}

/// Reads a certificate chain and its private key (PEM, possibly one file for
/// both) and checks that they belong together.
///
/// # Errors
///
/// When one of them cannot be read or used, or they do not match.
pub fn load_certificate(chain: &Path, key: &Path) -> Result<Arc<CertifiedKey>, CertificateError> {
    let files = Files::default();
    check_pair(chain, key, chain_of(&files, chain)?, private_key(&files, key)?)
}

fn check_pair(
    chain: &Path,
    key: &Path,
    certificates: Vec<CertificateDer<'static>>,
    private_key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, CertificateError> {
    let signing = default_provider().key_provider.load_private_key(private_key);
    let signing = signing.map_err(|why| CertificateError::unusable(key, &why))?;
    let certified = CertifiedKey::new(certificates, signing);
    match certified.keys_match() {
        // A key that does not tell its public half cannot be compared.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(rustls::Error::InconsistentKeys(_)) => {
            let fits = |certificate: &CertificateDer<'static>| {
                let alone = CertifiedKey::new(vec![certificate.clone()], certified.key.clone());
                alone.keys_match().is_ok()
            };
            let order = certified.cert.iter().any(fits);
            let fault = CertificateFault::KeyMismatch { chain: chain.to_owned(), order };
            Err(CertificateError::new(key, fault))
        }
        Err(why) => Err(CertificateError::unusable(chain, &why)),
    }
}

/// Reads the authorities that the other side's certificate must chain to.
///
/// # Errors
///
/// When the file cannot be read, or a certificate in it cannot be used.
pub fn load_authorities(file: &Path) -> Result<Arc<RootCertStore>, CertificateError> {
    read_authorities(&Files::default(), file)
}

fn read_authorities(files: &Files, file: &Path) -> Result<Arc<RootCertStore>, CertificateError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(files, file)? {
        roots.add(certificate).map_err(|why| CertificateError::unusable(file, &why))?;
    }
    Ok(Arc::new(roots))
}

/// The system's authorities. Read once: a machine has hundreds.
///
/// # Errors
/// There are none.
pub fn system_authorities() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(known) = ROOTS.get() {
        return Ok(Arc::clone(known));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(format!("the system has no certificate authorities{why}"));
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

/// Whether clients of this domain will accept the certificate's names.
#[must_use]
pub fn covers(certified: &CertifiedKey, domain: &Domain) -> bool {
    let name = match domain {
        Domain::Exact(name) => name.trim_matches(['[', ']']).to_owned(),
        Domain::Wildcard(parent) => format!("a.{parent}"),
    };
    let parsed = certified.end_entity_cert().and_then(ParsedCertificate::try_from);
    match (parsed, ServerName::try_from(name)) {
        (Ok(parsed), Ok(name)) => verify_server_name(&parsed, &name).is_ok(),
        _ => false,
    }
}

/// A certificate with its key, or everything that is wrong with the two files.
type Pair = Result<Arc<CertifiedKey>, Vec<CertificateError>>;

/// The authorities of a file, or what is wrong with it.
type Authorities = Result<Arc<RootCertStore>, CertificateError>;

/// What was read during one load, so that listeners with the same files share
/// one certificate, and groups one set of authorities.
#[derive(Debug)]
pub(super) struct Certificates {
    /// The config directory: relative paths start there.
    dir: PathBuf,
    files: Files,
    /// The files that were asked for since that was last asked, there or not.
    asked: RefCell<BTreeSet<PathBuf>>,
    read: RefCell<HashMap<(PathBuf, PathBuf), Pair>>,
    authorities: RefCell<HashMap<PathBuf, Authorities>>,
}

impl Certificates {
    pub(super) fn new(dir: &Path, files: Files) -> Self {
        Certificates {
            dir: dir.to_owned(),
            files,
            asked: RefCell::default(),
            read: RefCell::default(),
            authorities: RefCell::default(),
        }
    }

    /// The files asked for since this was last called.
    pub(super) fn asked(&self) -> BTreeSet<PathBuf> {
        self.asked.take()
    }

    /// How a file looked before it was read.
    pub(super) fn seen(&self, file: &Path) -> Seen {
        self.files.seen(file, LARGEST)
    }

    /// All bytes of a file; `None` when it cannot be read.
    pub(super) fn bytes(&self, file: &Path) -> Option<Arc<[u8]>> {
        self.files.bytes(file, LARGEST).ok()
    }

    fn ask(&self, file: &Path) {
        self.asked.borrow_mut().insert(file.to_owned());
    }

    /// `certs/NAME.crt` and `certs/NAME.key`.
    pub(super) fn named(&self, name: &str) -> Pair {
        let certs = self.dir.join("certs");
        self.pair(&certs.join(format!("{name}.crt")), &certs.join(format!("{name}.key")))
    }

    /// Two files, named relative to the config directory.
    pub(super) fn files(&self, chain: &str, key: &str) -> Pair {
        self.pair(&self.dir.join(chain), &self.dir.join(key))
    }

    /// A file named relative to the config directory.
    pub(super) fn authorities(&self, file: &str) -> Authorities {
        let file = self.dir.join(file);
        self.ask(&file);
        let mut known = self.authorities.borrow_mut();
        known.entry(file).or_insert_with_key(|file| read_authorities(&self.files, file)).clone()
    }

    fn pair(&self, chain: &Path, key: &Path) -> Pair {
        self.ask(chain);
        self.ask(key);
        let files = &self.files;
        let read = || match (chain_of(files, chain), private_key(files, key)) {
            (Ok(certificates), Ok(private_key)) => {
                check_pair(chain, key, certificates, private_key).map_err(|fault| vec![fault])
            }
            (certificates, private_key) => {
                Err(certificates.err().into_iter().chain(private_key.err()).collect())
            }
        };
        let mut known = self.read.borrow_mut();
        known.entry((chain.to_owned(), key.to_owned())).or_insert_with(read).clone()
    }
}

/// The chain a server sends: certificates that can all be parsed.
fn chain_of(files: &Files, file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain = certificates(files, file)?;
    for certificate in &chain {
        ParsedCertificate::try_from(certificate)
            .map_err(|why| CertificateError::unusable(file, &why))?;
    }
    Ok(chain)
}

fn certificates(
    files: &Files,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let items = pem_items(file, &read(files, file)?)?;
    let certificate = |item| match item {
        Item::X509Certificate(certificate) => Some(certificate),
        _ => None,
    };
    let certificates: Vec<_> = items.into_iter().filter_map(certificate).collect();
    if certificates.is_empty() {
        return Err(CertificateError::new(file, CertificateFault::NoCertificate));
    }
    Ok(certificates)
}

fn private_key(files: &Files, file: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let pem = read(files, file)?;
    let has = |marker: &[u8]| memchr::memmem::find(&pem, marker).is_some();
    // The two ways OpenSSL writes one; neither can be read without a passphrase.
    if has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(CertificateError::new(file, CertificateFault::EncryptedKey));
    }
    let key = |item| match item {
        Item::Pkcs8Key(key) => Some(PrivateKeyDer::Pkcs8(key)),
        Item::Pkcs1Key(key) => Some(PrivateKeyDer::Pkcs1(key)),
        Item::Sec1Key(key) => Some(PrivateKeyDer::Sec1(key)),
        _ => None,
    };
    let found = pem_items(file, &pem)?.into_iter().find_map(key);
    found.ok_or_else(|| CertificateError::new(file, CertificateFault::NoKey))
}

fn pem_items(file: &Path, pem: &[u8]) -> Result<Vec<Item>, CertificateError> {
    let mut items = Vec::new();
    let mut rest = pem;
    loop {
        match read_one_from_slice(rest) {
            Ok(Some((item, after))) => {
                items.push(item);
                rest = after;
            }
            Ok(None) => return Ok(items),
            Err(why) => {
                let why = match why {
                    rustls_pemfile::Error::MissingSectionEnd { .. } => "a section does not end",
                    rustls_pemfile::Error::IllegalSectionStart { .. } => "a section starts badly",
                    rustls_pemfile::Error::Base64Decode(_) => "a section is not Base64",
                };
                let fault = CertificateFault::Malformed(why.to_owned());
                return Err(CertificateError::new(file, fault));
            }
        }
    }
}

fn read(files: &Files, file: &Path) -> Result<Arc<[u8]>, CertificateError> {
    files.bytes(file, LARGEST).map_err(|error| {
        let fault = match error {
            ReadError::Missing => CertificateFault::Missing,
            ReadError::Other(why) => CertificateFault::Unreadable(why),
        };
        CertificateError::new(file, fault)
    })
}

#[cfg(test)]
mod tests;
