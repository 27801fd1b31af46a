//! The instance's TLS pair: made, signed by the platform or by itself.
//!
//! Whether a pair can be served is decided in one place for boot, Caddy and the tests: [`vast_portal::certificate`].

use std::path::PathBuf;

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    CertificateParams, CertificateSigningRequest, DnType, DnValue, KeyPair, PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use vast_portal::certificate::Pair;

use crate::env_vars;
use crate::environment::Environment;
use crate::error::Error;
use crate::root::Root;

/// The certificate.
pub const CERTIFICATE: &str = "/etc/instance.crt";

/// Its private key, for root alone.
pub const KEY: &str = "/etc/instance.key";

/// The platform's signing endpoint.
const SIGN_URL: &str = "https://console.vast.ai/api/v0/sign_cert/";

/// The name that the platform signs for.
const COMMON_NAME: &str = "jupyter.vast.ai";

/// How long a self-signed certificate holds.
const SELF_SIGNED_DAYS: i64 = 365;

/// What the pair of `root` is worth.
#[must_use]
pub fn check(root: &Root) -> Pair {
    vast_portal::certificate::check(&root.join(CERTIFICATE), &root.join(KEY))
}

/// Whether the certificate of `root` signed itself under the name that the platform signs for: it was made here, or by an older image.
#[must_use]
pub fn is_self_signed(root: &Root) -> bool {
    vast_portal::certificate::self_signed_name(&root.join(CERTIFICATE)).as_deref() == Some(COMMON_NAME)
}

/// A new RSA-2048 key, as PEM and ready to sign.
///
/// # Errors
/// When the system has no randomness to give.
pub fn new_key() -> Result<KeyPair, Error> {
    Ok(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?)
}

/// What both the request and the self-signed certificate say: `C=US, ST=CA, CN=jupyter.vast.ai`, SAN IP 0.0.0.0.
fn subject() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "US");
    params.distinguished_name.push(DnType::StateOrProvinceName, DnValue::Utf8String("CA".to_owned()));
    params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    params.subject_alt_names = vec![SanType::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())];
    params
}

/// A request for a certificate of `key`, as PEM.
///
/// # Errors
/// When the key cannot sign.
pub fn request(key: &KeyPair) -> Result<String, Error> {
    let request: CertificateSigningRequest = subject().serialize_request(key)?;
    Ok(request.pem()?)
}

/// A certificate of `key` by itself, from `now` for a year, as PEM.
///
/// # Errors
/// When the key cannot sign.
pub fn self_signed(key: &KeyPair, now: Timestamp) -> Result<String, Error> {
    let mut params = subject();
    let day = |days: i64| {
        let date = now.to_zoned_datetime(TimeZone::UTC).date().saturating_add(days.days());
        rcgen::date_time_ymd(date.year().into(), date.month().cast_unsigned(), date.day().cast_unsigned())
    };
    // A day early: the clocks of the browsers and of fresh machines differ.
    (params.not_before, params.not_after) = (day(-1), day(SELF_SIGNED_DAYS));
    Ok(params.self_signed(key)?.pem())
}

/// Where to ask for a signature; nothing when the platform could not know whom to sign for.
#[must_use]
pub fn sign_url(env: &Environment) -> Option<String> {
    let base = match (env.non_empty(env_vars::VAST_SIGN_URL), env.instance()) {
        (Some(url), _) => url,
        (None, "") => return None,
        (None, _) => SIGN_URL,
    };
    let separator = if base.contains('?') { '&' } else { '?' };
    Some(format!("{base}{separator}instance_id={}", env.instance()))
}

/// The files of the pair in `root`: certificate and key.
#[must_use]
pub fn files(root: &Root) -> [PathBuf; 2] {
    [root.join(CERTIFICATE), root.join(KEY)]
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use vast_portal::certificate::check_pem;

    use super::*;

    #[test]
    fn the_address_of_the_endpoint_names_the_instance() {
        for (env, expected) in [
            (&[][..], None),
            (&[("CONTAINER_ID", "7")], Some("https://console.vast.ai/api/v0/sign_cert/?instance_id=7")),
            (&[("VAST_SIGN_URL", "http://h/s")], Some("http://h/s?instance_id=")),
            (
                &[("VAST_SIGN_URL", "http://h/s?a=b"), ("VAST_CONTAINERLABEL", "C.8")],
                Some("http://h/s?a=b&instance_id=8"),
            ),
        ] {
            let env: Environment = env.iter().copied().collect();
            assert_eq!(sign_url(&env).as_deref(), expected);
        }
    }

    #[test]
    fn a_self_signed_certificate_is_usable_for_a_year() {
        let key = new_key().unwrap();
        let pair = |start: &str| {
            let certificate = self_signed(&key, start.parse().unwrap()).unwrap();
            check_pem(certificate.as_bytes(), key.serialize_pem().as_bytes(), SystemTime::now())
        };
        let now = Timestamp::now();
        assert_eq!(pair(&now.to_string()), Pair::Usable);
        let hours = |days: i64| (days * 24).hours();
        assert_eq!(pair(&(now - hours(364)).to_string()), Pair::Usable);
        assert_eq!(pair(&(now - hours(367)).to_string()), Pair::Expired);
    }

    #[test]
    fn the_request_says_what_the_platform_signs() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("request");
        std::fs::write(&file, request(&new_key().unwrap()).unwrap()).unwrap();
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(["req", "-noout", "-text", "-verify", "-in"]).arg(&file);
        let output = openssl.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for expected in
            ["Subject: C = US, ST = CA, CN = jupyter.vast.ai", "Public-Key: (2048 bit)", "IP Address:0.0.0.0"]
        {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
    }
}
