//! Development certificates: one CA of the machine's own and one leaf per
//! listener, made when absent. Whoever trusts `demo-ca.crt` can open every
//! game of the demo without a warning.
//!
//! A leaf says in its first line that it was made here. Files without that
//! line belong to someone else and are never written to.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};

/// The first line of every file made here that another may also provide. PEM
/// readers skip what stands outside the `BEGIN` and `END` lines.
const MARK: &str = "# made by `lockgate demo` for development; remade when it expires\n";
/// The CA's subject, as a person finds it in the browser's list.
const CA_NAME: &str = "lockgate development CA";
const CA_STEM: &str = "demo-ca";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Clocks of a phone or a virtual machine lag: valid since yesterday.
const BACKDATED: Duration = DAY;
/// Counted from now; with the day before it 397, what browsers take at most.
const LEAF_LIFE: Duration = Duration::from_secs(396 * 24 * 60 * 60);
const CA_LIFE: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);
/// What has less than this left is made anew, so that it does not expire while
/// the demo runs.
const MARGIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A certificate that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `STEM.crt` and `STEM.key` in the certificate folder.
    pub file_stem: String,
    /// The names it must hold: domains, `*.domain` or addresses.
    pub names: Vec<String>,
}

/// What [`ensure`] found or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The CA certificate a client must trust.
    pub ca: PathBuf,
    /// The files written just now, in the order they were written.
    pub written: Vec<PathBuf>,
    /// Stems whose files are someone else's and were left as they are.
    pub kept: Vec<String>,
    /// Stems no certificate can be made for, and why. The others are not held up
    /// by them.
    pub refused: Vec<(String, String)>,
}

/// Makes sure that each wanted certificate is there, signed by the
/// development CA, valid now and for all its names.
///
/// # Errors
/// The folder cannot be read or written, or `demo-ca.key` is not a key made here
/// and does not fit `demo-ca.crt`.
pub fn ensure(certs_dir: &Path, wanted: &[Wanted]) -> io::Result<Made> {
    ensure_at(certs_dir, wanted, SystemTime::now())
}

fn ensure_at(certs_dir: &Path, wanted: &[Wanted], now: SystemTime) -> io::Result<Made> {
    fs::create_dir_all(certs_dir).map_err(|e| about(certs_dir, &e))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut written = Vec::new();
    let mut kept = Vec::new();
    let mut refused = Vec::new();
    let authority = Authority::load_or_make(certs_dir, &provider, now, &mut written)?;
    for one in wanted {
        if let Err(why) = possible(one) {
            refused.push((one.file_stem.clone(), why));
            continue;
        }
        let files = Files::new(certs_dir, &one.file_stem);
        if files.are_foreign()? {
            kept.push(one.file_stem.clone());
        } else if !authority.vouches_for(&files, &one.names, now)? {
            authority.issue(&files, one, now, &mut written)?;
        }
    }
    Ok(Made { ca: Files::new(certs_dir, CA_STEM).certificate, written, kept, refused })
}

/// The stem stays in the folder and the names are names.
fn possible(wanted: &Wanted) -> Result<(), String> {
    let Wanted { file_stem, names } = wanted;
    if file_stem == CA_STEM || Path::new(file_stem).file_name() != Some(OsStr::new(file_stem)) {
        return Err(format!("{file_stem:?} is not a file name of its own in the folder"));
    }
    if names.is_empty() {
        return Err("a certificate needs a name".to_owned());
    }
    for name in names {
        server_name(&one_of(name)).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The name itself; for a wildcard one that only it can stand for.
fn one_of(name: &str) -> Cow<'_, str> {
    match name.strip_prefix("*.") {
        Some(parent) => Cow::Owned(format!("any-name-the-wildcard-takes.{parent}")),
        None => Cow::Borrowed(name),
    }
}

/// The two files of a stem.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(folder: &Path, stem: &str) -> Self {
        Self {
            certificate: folder.join(format!("{stem}.crt")),
            key: folder.join(format!("{stem}.key")),
        }
    }

    /// One of them is there and was not made here.
    fn are_foreign(&self) -> io::Result<bool> {
        let foreign = |text: Option<String>| text.is_some_and(|t| !t.starts_with(MARK));
        Ok(foreign(read(&self.certificate)?) || foreign(read(&self.key)?))
    }
}

/// The CA: its key signs, its certificate judges what is already there.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    judge: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl Authority {
    fn load_or_make(
        folder: &Path,
        provider: &Arc<CryptoProvider>,
        now: SystemTime,
        written: &mut Vec<PathBuf>,
    ) -> io::Result<Self> {
        let files = Files::new(folder, CA_STEM);
        let key_text = read(&files.key)?;
        if let (Some(key_text), Some(certificate)) = (&key_text, read(&files.certificate)?)
            && let Some(found) = Self::from_files(key_text, &certificate, provider, now)?
        {
            return Ok(found);
        }
        // Our own key may be replaced; another's, never.
        if key_text.is_some_and(|text| !text.starts_with(MARK)) {
            let why = "not a key of lockgate's development CA, or it does not fit demo-ca.crt; \
                       move both away and lockgate makes new ones";
            return Err(about(&files.key, &io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        let params = authority_params(provider, now)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        // The key first: a certificate without its key cannot be told from a
        // copy of someone's CA.
        write(&files.key, &format!("{MARK}{}", key.serialize_pem()), 0o600, written)?;
        // No mark here: a person imports this file, and not every importer
        // skips a comment.
        write(&files.certificate, &certificate.pem(), 0o644, written)?;
        let judge = judge(certificate.der().clone(), provider)?;
        Ok(Self { issuer: Issuer::new(params, key), judge, provider: provider.clone() })
    }

    /// The CA on disk, if it is one of ours, whole and not about to expire.
    fn from_files(
        key_text: &str,
        certificate: &str,
        provider: &Arc<CryptoProvider>,
        now: SystemTime,
    ) -> io::Result<Option<Self>> {
        let Ok(key) = KeyPair::from_pem(key_text) else { return Ok(None) };
        let Ok(certificate) = CertificateDer::from_pem_slice(certificate.as_bytes()) else {
            return Ok(None);
        };
        let Ok(judge) = judge(certificate.clone(), provider) else { return Ok(None) };
        let issuer = Issuer::new(authority_params(provider, now)?, key);
        let found = Self { issuer, judge, provider: provider.clone() };
        if found.has_expired(&certificate, now)? || !found.fits_its_key(now)? {
            return Ok(None);
        }
        Ok(Some(found))
    }

    /// The verifier takes no notice of a trust anchor's dates, so the CA is
    /// shown to it as if a server had sent it: it is always refused, and the
    /// dates are the first thing it is refused for.
    fn has_expired(&self, certificate: &CertificateDer<'_>, now: SystemTime) -> io::Result<bool> {
        let name = server_name("demo-ca.invalid")?;
        let answer =
            self.judge.verify_server_cert(certificate, &[], &name, &[], unix(now + MARGIN));
        Ok(matches!(
            answer,
            Err(rustls::Error::InvalidCertificate(
                CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. }
                    | CertificateError::BadEncoding
            ))
        ))
    }

    /// A leaf signed with this key is accepted by whoever trusts the
    /// certificate: same key, same subject.
    fn fits_its_key(&self, now: SystemTime) -> io::Result<bool> {
        let name = "trial.invalid";
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        let trial = leaf_params(&[name.to_owned()], name, &self.provider, now)?
            .signed_by(&key, &self.issuer)
            .map_err(io::Error::other)?;
        let name = server_name(name)?;
        Ok(self.judge.verify_server_cert(trial.der(), &[], &name, &[], unix(now)).is_ok())
    }

    /// The files hold a certificate of this CA, good for some days more, with
    /// every one of the names and with its own key.
    fn vouches_for(&self, files: &Files, names: &[String], now: SystemTime) -> io::Result<bool> {
        let (Some(certificate), Some(key)) = (read(&files.certificate)?, read(&files.key)?) else {
            return Ok(false);
        };
        let (Ok(certificate), Ok(key)) = (
            CertificateDer::from_pem_slice(certificate.as_bytes()),
            PrivateKeyDer::from_pem_slice(key.as_bytes()),
        ) else {
            return Ok(false);
        };
        for name in names {
            let name = server_name(&one_of(name))?;
            let at = unix(now + MARGIN);
            if self.judge.verify_server_cert(&certificate, &[], &name, &[], at).is_err() {
                return Ok(false);
            }
        }
        Ok(CertifiedKey::from_der(vec![certificate], key, &self.provider).is_ok())
    }

    fn issue(
        &self,
        files: &Files,
        wanted: &Wanted,
        now: SystemTime,
        written: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        let certificate = leaf_params(&wanted.names, &wanted.file_stem, &self.provider, now)?
            .signed_by(&key, &self.issuer)
            .map_err(io::Error::other)?;
        write(&files.key, &format!("{MARK}{}", key.serialize_pem()), 0o600, written)?;
        write(&files.certificate, &format!("{MARK}{}", certificate.pem()), 0o644, written)
    }
}

/// What a client that trusts this certificate alone would say.
fn judge(
    certificate: CertificateDer<'static>,
    provider: &Arc<CryptoProvider>,
) -> io::Result<Arc<WebPkiServerVerifier>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(io::Error::other)?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(io::Error::other)
}

fn authority_params(provider: &CryptoProvider, now: SystemTime) -> io::Result<CertificateParams> {
    let mut params = dated(CA_LIFE, provider, now)?;
    params.distinguished_name.push(DnType::CommonName, CA_NAME);
    // No CA below it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf_params(
    names: &[String],
    subject: &str,
    provider: &CryptoProvider,
    now: SystemTime,
) -> io::Result<CertificateParams> {
    let named = CertificateParams::new(names.to_vec()).map_err(io::Error::other)?;
    let mut params = dated(LEAF_LIFE, provider, now)?;
    params.subject_alt_names = named.subject_alt_names;
    // X.520 bounds a common name to 64 characters. Clients read only the
    // alternative names; this one is for people.
    let subject: String = subject.chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.distinguished_name.push(DnType::OrganizationName, "lockgate development");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Dates and a random serial; an empty subject.
fn dated(
    life: Duration,
    provider: &CryptoProvider,
    now: SystemTime,
) -> io::Result<CertificateParams> {
    let mut serial = [0; 16];
    provider
        .secure_random
        .fill(&mut serial)
        .map_err(|_| io::Error::other("the system gives no random bytes"))?;
    // Positive, and of one length.
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + life).into();
    Ok(params)
}

fn server_name(name: &str) -> io::Result<ServerName<'static>> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    ServerName::try_from(name.to_owned()).map_err(|_| {
        let why = format!("{name:?} is not a name a certificate can hold");
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })
}

fn unix(at: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A file's text, `None` when there is none. What is not UTF-8 is no PEM of
/// ours: it reads as an empty text, which is foreign and parses as nothing.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8(bytes).unwrap_or_default())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(about(path, &e)),
    }
}

/// All of it or nothing, and never readable by others in between.
fn write(path: &Path, text: &str, mode: u32, written: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let fill = || {
        let mut file: File =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    // One left by a process of the same number that was killed half way.
    let _ = fs::remove_file(&temporary);
    fill().map_err(|e| {
        let _ = fs::remove_file(&temporary);
        about(path, &e)
    })?;
    written.push(path.to_owned());
    Ok(())
}

/// The same error with the path it is about.
fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
