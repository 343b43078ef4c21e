//! A listener's TLS identity: the rustls configuration its handshakes use,
//! built once per snapshot and shared by all workers, so that a session begun
//! on one resumes on any.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{SupportedProtocolVersion, version};

use crate::config::{Tls, TlsPolicy};

/// See the module. Each listener has its own, also where two share a
/// certificate: their session tickets are not exchangeable.
pub struct Identity {
    /// What a handshake needs.
    pub server: Arc<ServerConfig>,
    /// The certificate it shows, and what it asks of clients.
    tls: Tls,
}

impl Identity {
    pub(super) fn new(tls: &Tls, http2: bool) -> Result<Identity, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[&SupportedProtocolVersion] = match tls.policy {
            TlsPolicy::Tls12AndTls13 => &[&version::TLS13, &version::TLS12],
            TlsPolicy::Tls13 => &[&version::TLS13],
            TlsPolicy::Tls12 => &[&version::TLS12],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = match &tls.client_ca {
            None => builder.with_no_client_auth(),
            Some(roots) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider)
                    .build()
                    .map_err(|error| error.to_string())?,
            ),
        };
        let resolver = SingleCertAndKey::from(CertifiedKey::clone(&tls.certificate));
        let mut server = builder.with_cert_resolver(Arc::new(resolver));
        server.alpn_protocols = match http2 {
            true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            false => vec![b"http/1.1".to_vec()],
        };
        // Tickets only: a session store is a lock that all workers share.
        server.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| error.to_string())?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Identity { server: Arc::new(server), tls: tls.clone() })
    }

    /// A request for a listener with this identity may come on a connection
    /// whose handshake used `other`: the same listener's, or one that asked as
    /// much of the client, with the same certificate if the client named the
    /// other one (RFC 9110 7.4).
    #[must_use]
    pub fn accepts(&self, other: &Identity, named: bool) -> bool {
        let (mine, theirs) = (&self.tls, &other.tls);
        std::ptr::eq(self, other)
            || (mine.client_ca.is_none()
                && mine.policy == theirs.policy
                && (!named
                    || (theirs.client_ca.is_none()
                        && mine.certificate.cert == theirs.certificate.cert)))
    }

    /// The same listener's after a reload: a connection whose handshake used the
    /// `earlier` one goes on where as much was asked of the client. That the
    /// certificate was renewed since is nothing to it.
    #[must_use]
    pub fn succeeds(&self, earlier: &Identity) -> bool {
        self.tls.asks_same(&earlier.tls)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.debug_struct("Identity").field("policy", &self.tls.policy).finish_non_exhaustive()
    }
}
