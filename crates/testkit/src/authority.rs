//! A certificate authority that signs whatever it is asked to, in place of the platform's.

use rcgen::{BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair};

/// The authority: a key, and a certificate that clients can trust.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Its own certificate, as PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Signs a request given as PEM; the certificate, as PEM.
    #[must_use]
    pub fn sign(&self, request: &[u8]) -> String {
        self.sign_with(request, |_| ())
    }

    /// Signs a request, with a certificate that ended in 2021.
    #[must_use]
    pub fn sign_expired(&self, request: &[u8]) -> String {
        self.sign_with(request, |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        })
    }

    /// Signs the same names for a key of its own: an answer to somebody else.
    #[must_use]
    pub fn sign_another_key(&self, request: &[u8]) -> String {
        let request = parse(request);
        request.params.signed_by(&KeyPair::generate().unwrap(), &self.issuer).unwrap().pem()
    }

    fn sign_with(&self, request: &[u8], change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut request = parse(request);
        change(&mut request.params);
        request.signed_by(&self.issuer).unwrap().pem()
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn parse(request: &[u8]) -> CertificateSigningRequestParams {
    CertificateSigningRequestParams::from_pem(std::str::from_utf8(request).unwrap()).unwrap()
}
