//! The instance's TLS pair: is it fit to be served?
//!
//! One answer for boot (which asks the platform for a new certificate), for the Caddyfile (which never names a pair
//! that Caddy would refuse) and for the tests. The private key decides: its public half is derived and compared with
//! the one in the certificate, whatever the algorithm (RSA, EC on P-256/P-384/P-521, Ed25519) and the container
//! (PKCS#8, PKCS#1, SEC 1).

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::KeyPair;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The largest file read as a key or a certificate chain, in bytes: a chain of ten is 20 kB.
const LIMIT_BYTES: u64 = 1 << 20;

/// How messages name the certificate.
const CERTIFICATE: &str = "certificate";

/// What a certificate and a private key are together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pair {
    /// The key belongs to the certificate, and the certificate has not ended.
    Usable,
    /// The key belongs to the certificate, whose end has passed. Still served: the alternative is plain text.
    Expired,
    /// Not a pair that Caddy takes, and why: missing, empty, an HTML page, encrypted, a key of another certificate.
    Unusable(String),
}

impl Pair {
    /// Whether a server may be given this pair: usable or expired.
    #[must_use]
    pub fn can_be_served(&self) -> bool {
        !matches!(self, Self::Unusable(_))
    }
}

/// Judges the pair in these two files, as of now.
///
/// Never an error: whatever keeps the files from being a pair is the reason in [`Pair::Unusable`].
///
/// ```
/// use vast_portal::certificate::{Pair, check};
/// let pair = check("/nonexistent/instance.crt".as_ref(), "/nonexistent/instance.key".as_ref());
/// assert!(matches!(pair, Pair::Unusable(reason) if reason.contains("instance.crt")));
/// ```
#[must_use]
pub fn check(certificate: &Path, key: &Path) -> Pair {
    let texts = read(certificate).and_then(|certificate| Ok((certificate, read(key)?)));
    match texts {
        Ok((certificate, key)) => check_pem(&certificate, &key, SystemTime::now()),
        Err(reason) => Pair::Unusable(reason),
    }
}

/// Judges a pair given as PEM text at a moment: the pure core of [`check`].
///
/// The certificate file may hold a chain; its first certificate is the one served, so that one is judged. A certificate
/// whose start lies in the future is usable: clocks of fresh machines are late, and browsers judge for themselves.
#[must_use]
pub fn check_pem(certificate: &[u8], key: &[u8], now: SystemTime) -> Pair {
    match judge(certificate, key, now) {
        Ok(true) => Pair::Usable,
        Ok(false) => Pair::Expired,
        Err(reason) => Pair::Unusable(reason),
    }
}

/// The common name of the certificate in this file, when it was signed by itself.
#[must_use]
pub fn self_signed_name(certificate: &Path) -> Option<String> {
    let pem = block(&read(certificate).ok()?, CERTIFICATE, is_certificate).ok()?;
    let (_, leaf) = X509Certificate::from_der(&pem.contents).ok()?;
    let name = leaf.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    (leaf.issuer().as_raw() == leaf.subject().as_raw()).then_some(name)
}

/// Whether the pair is within its time, or why it is none.
fn judge(certificate: &[u8], key: &[u8], now: SystemTime) -> Result<bool, String> {
    let leaf = block(certificate, CERTIFICATE, is_certificate)?;
    let (_, leaf) = X509Certificate::from_der(&leaf.contents)
        .map_err(|error| format!("the certificate is not valid X.509: {error}"))?;
    if !names_anybody(&leaf) {
        return Err("the certificate names nobody, so Caddy refuses it".to_owned());
    }
    let key = block(key, "private key", |label| label.ends_with("PRIVATE KEY"))?;
    if key.label.starts_with("ENCRYPTED") {
        return Err("the private key is encrypted".to_owned());
    }
    let key = KeyPair::try_from(key.contents.as_slice())
        .map_err(|_| "the private key is not a valid RSA (2048 bits or more), EC or Ed25519 key".to_owned())?;
    if leaf.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err("the private key does not belong to the certificate".to_owned());
    }
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    Ok(now <= leaf.validity().not_after.timestamp())
}

/// The one label that Caddy reads: `X509 CERTIFICATE` and `TRUSTED CERTIFICATE` of OpenSSL are not among what it serves.
fn is_certificate(label: &str) -> bool {
    label == "CERTIFICATE"
}

/// Whether there is a name under which Caddy can keep the certificate.
fn names_anybody(leaf: &X509Certificate<'_>) -> bool {
    use x509_parser::extensions::GeneralName::{DNSName, IPAddress, RFC822Name, URI};
    let common = leaf.subject().iter_common_name().any(|name| name.as_str().is_ok_and(|name| !name.is_empty()));
    let counts = |name: &_| matches!(name, DNSName(_) | IPAddress(_) | RFC822Name(_) | URI(_));
    common || matches!(leaf.subject_alternative_name(), Ok(Some(names)) if names.value.general_names.iter().any(counts))
}

/// The first PEM block whose label fits; `openssl ecparam -genkey` writes an `EC PARAMETERS` block before the key.
fn block(text: &[u8], what: &str, fits: impl Fn(&str) -> bool) -> Result<Pem, String> {
    if text.trim_ascii().is_empty() {
        return Err(format!("the {what} is empty"));
    }
    for pem in Pem::iter_from_buffer(text) {
        match pem {
            Ok(pem) if fits(&pem.label) && contains(text, &format!("-----END {}-----", pem.label)) => return Ok(pem),
            Ok(pem) if fits(&pem.label) => return Err(format!("the {what} is broken PEM: it has another end")),
            Ok(_) => {}
            // The header of a key that OpenSSL encrypted before PKCS#8: `Proc-Type: 4,ENCRYPTED`.
            Err(_) if contains(text, ",ENCRYPTED") => return Err(format!("the {what} is encrypted")),
            Err(error) => return Err(format!("the {what} is broken PEM: {error}")),
        }
    }
    let start = text.trim_ascii_start();
    let html = start.get(..9).is_some_and(|head| head.eq_ignore_ascii_case(b"<!doctype"))
        || start.get(..5).is_some_and(|head| head.eq_ignore_ascii_case(b"<html"));
    Err(if html { format!("the {what} is an HTML page") } else { format!("the {what} is not PEM") })
}

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot read `{}`: {error}", path.display());
    let size = std::fs::metadata(path).map_err(cannot)?.len();
    if size > LIMIT_BYTES {
        return Err(format!("`{}` is too large for a certificate or key: {size} bytes", path.display()));
    }
    std::fs::read(path).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{
        CertificateParams, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
        PKCS_RSA_SHA256,
    };

    use super::*;

    /// A self-signed certificate for a key, valid for this many days from the year 2024.
    fn certificate(key: &KeyPair) -> String {
        let mut params = CertificateParams::new(vec!["vast.ai".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2025, 1, 1);
        params.self_signed(key).unwrap().pem()
    }

    fn at(year_2024_plus_days: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_704_067_200 + year_2024_plus_days * 86_400)
    }

    #[test]
    fn a_key_of_every_kind_makes_a_usable_pair_and_expires() {
        for algorithm in
            [&PKCS_RSA_SHA256, &PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA512, &PKCS_ED25519]
        {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let certificate = certificate(&key);
            let judge = |days| check_pem(certificate.as_bytes(), key.serialize_pem().as_bytes(), at(days));
            assert_eq!(judge(10), Pair::Usable, "{algorithm:?}");
            assert_eq!(judge(400), Pair::Expired, "{algorithm:?}");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_unusable() {
        let (one, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let pair = check_pem(certificate(&one).as_bytes(), other.serialize_pem().as_bytes(), at(10));
        assert_eq!(pair, Pair::Unusable("the private key does not belong to the certificate".to_owned()));
    }

    #[test]
    fn every_kind_of_rubbish_names_its_reason() {
        let key = KeyPair::generate().unwrap();
        let (good, secret) = (certificate(&key), key.serialize_pem());
        let cut = &good[..good.len() / 2];
        let empty_body = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old_encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        let mislabelled = good.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        let misended = good.replace("END CERTIFICATE", "END CERT");
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let nameless = params.self_signed(&key).unwrap().pem();
        for (certificate, key, reason) in [
            ("", secret.as_str(), "the certificate is empty"),
            (" \n", &secret, "the certificate is empty"),
            ("<!DOCTYPE html><p>502</p>", &secret, "the certificate is an HTML page"),
            ("<html></html>", &secret, "the certificate is an HTML page"),
            ("{\"error\":1}", &secret, "the certificate is not PEM"),
            (cut, &secret, "the certificate is broken PEM"),
            (empty_body, &secret, "the certificate is not valid X.509"),
            (&secret, &secret, "the certificate is not PEM"),
            (&good, "", "the private key is empty"),
            (&good, "<html>", "the private key is an HTML page"),
            (&good, &good, "the private key is not PEM"),
            (&good, encrypted, "the private key is encrypted"),
            (&good, old_encrypted, "the private key is encrypted"),
            (&mislabelled, &secret, "the certificate is not PEM"),
            (&misended, &secret, "the certificate is broken PEM"),
            (&nameless, &secret, "the certificate names nobody"),
            (&good, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "the private key is not a valid"),
        ] {
            let Pair::Unusable(said) = check_pem(certificate.as_bytes(), key.as_bytes(), at(10)) else {
                panic!("accepted {certificate:?} with {key:?}");
            };
            assert!(said.starts_with(reason), "{said:?} is not about {reason:?}");
        }
    }

    #[test]
    fn only_a_certificate_that_signed_itself_gives_its_name_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("crt");
        let (own, authority) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let issuer = rcgen::Issuer::new(CertificateParams::new(vec!["authority".to_owned()]).unwrap(), &authority);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, "own");
        let itself = params.self_signed(&own).unwrap().pem();
        let signed = params.signed_by(&own, &issuer).unwrap().pem();
        for (text, expected) in [(itself, Some("own")), (signed, None), ("<html>".to_owned(), None)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(self_signed_name(&file).as_deref(), expected);
        }
    }

    #[test]
    fn a_chain_is_judged_by_its_first_certificate() {
        let (leaf, authority) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let chain = format!("{}{}", certificate(&leaf), certificate(&authority));
        assert_eq!(check_pem(chain.as_bytes(), leaf.serialize_pem().as_bytes(), at(10)), Pair::Usable);
        assert!(!check_pem(chain.as_bytes(), authority.serialize_pem().as_bytes(), at(10)).can_be_served());
    }

    #[test]
    fn files_as_openssl_writes_them_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let openssl = |arguments: &[&str]| {
            let ran = std::process::Command::new("openssl").args(arguments).current_dir(&dir).output().unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        };
        openssl(&["genrsa", "-traditional", "-out", "pkcs1.key", "2048"]);
        openssl(&["genpkey", "-algorithm", "RSA", "-out", "pkcs8.key"]);
        openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-out", "sec1-with-parameters.key"]);
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", "ed25519.key"]);
        for name in ["pkcs1", "pkcs8", "sec1-with-parameters", "ed25519"] {
            let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
            openssl(&[
                "req",
                "-x509",
                "-key",
                &key,
                "-subj",
                "/CN=jupyter.vast.ai",
                "-days",
                "2",
                "-out",
                &certificate,
            ]);
            assert_eq!(check(&dir.path().join(certificate), &dir.path().join(key)), Pair::Usable, "{name}");
        }
    }
}
