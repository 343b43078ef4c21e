//! The certificate of the run and the client that trusts it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

/// An ECDSA P-256 certificate for 127.0.0.1, made for this run.
#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub(crate) both: PathBuf,
    pub(crate) client: Arc<ClientConfig>,
    /// The same, but for HTTP/2.
    pub(crate) client_h2: Arc<ClientConfig>,
}

impl Certificate {
    pub(crate) fn make(folder: &Path) -> Result<Self, String> {
        let text = |error: rcgen::Error| error.to_string();
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).map_err(text)?;
        let day = Duration::from_secs(86_400);
        params.not_before = (SystemTime::now() - day).into();
        params.not_after = (SystemTime::now() + 30 * day).into();
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(text)?;
        let certificate = params.self_signed(&key).map_err(text)?;

        let write = |name: &str, content: String| -> Result<PathBuf, String> {
            let path = folder.join(name);
            fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(path)
        };
        let (chain, secret) = (certificate.pem(), key.serialize_pem());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).map_err(|error| error.to_string())?;
        let client = client(roots)?;
        let mut client_h2 = client.clone();
        client_h2.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            both: write("both.pem", format!("{chain}{secret}"))?,
            chain: write("chain.pem", chain)?,
            key: write("key.pem", secret)?,
            client: Arc::new(client),
            client_h2: Arc::new(client_h2),
        })
    }
}

/// TLS 1.3, a full handshake every time, and X25519 only: the peers' OpenSSL knows no post-quantum
/// key exchange, so with our default group they would not do the same work.
fn client(roots: RootCertStore) -> Result<ClientConfig, String> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}
