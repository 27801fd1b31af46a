//! TLS for browsers that come over `https://`: where the portal will speak it, the address that people have says so.
//!
//! With the instance's own pair once there is one that can be served, as the portal will. On a first boot stage 55 makes that late, after
//! the stages that take long; until then with a certificate that nobody vouches for, like the self-signed one that stage 55 falls
//! back to: the browser asks, where without TLS it would only show an error. It is never written anywhere.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use vast_portal::caddy::Tls;

use crate::certificate;

/// A way to speak TLS, and whose certificate it shows.
pub(super) struct Speaker {
    /// With the instance's pair.
    pub(super) own: bool,
    pub(super) config: Arc<ServerConfig>,
}

impl Speaker {
    /// With this pair; with one that is made up where there is none, or none that the library takes.
    pub(super) fn new(pair: Option<&Tls>) -> Option<Self> {
        let own = pair.and_then(|pair| from_files(&pair.certificate, &pair.key));
        if let Some(config) = own {
            return Some(Self { own: true, config });
        }
        Some(Self { own: false, config: made_up()? })
    }
}

fn from_files(certificate: &Path, key: &Path) -> Option<Arc<ServerConfig>> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).ok()?.collect();
    config(chain.ok()?, PrivateKeyDer::from_pem_file(key).ok()?)
}

fn made_up() -> Option<Arc<ServerConfig>> {
    // An elliptic curve's key costs next to nothing to make.
    let key = rcgen::KeyPair::generate().ok()?;
    let text = certificate::self_signed(&key, jiff::Timestamp::now()).ok()?;
    let certificate = CertificateDer::from_pem_slice(text.as_bytes()).ok()?;
    config(vec![certificate], PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).ok()?)
}

fn config(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Option<Arc<ServerConfig>> {
    let versions =
        ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let mut config = versions.ok()?.with_no_client_auth().with_single_cert(chain, key).ok()?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Answers are one each; tickets would be kept for nothing.
    config.send_tls13_tickets = 0;
    Some(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_way_to_speak() {
        let directory = tempfile::tempdir().unwrap();
        let pair =
            Tls { certificate: directory.path().join("crt"), key: directory.path().join("key"), redirect_http: true };
        assert!(!Speaker::new(None).unwrap().own);
        assert!(!Speaker::new(Some(&pair)).unwrap().own);
        let key = certificate::new_key().unwrap();
        std::fs::write(&pair.certificate, certificate::self_signed(&key, jiff::Timestamp::now()).unwrap()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        assert!(Speaker::new(Some(&pair)).unwrap().own);
    }
}
