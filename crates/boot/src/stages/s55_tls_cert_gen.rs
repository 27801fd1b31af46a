//! Stage 55: a TLS pair that can be served, best one that the platform signed.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use vast_portal::certificate::{Pair, check_pem};

use crate::certificate::{self, CERTIFICATE, KEY};
use crate::env_vars;
use crate::error::Error;
use crate::fetch::{Client, Retry};
use crate::files;
use crate::redact;
use crate::stage::{Boot, Verdict};

/// Says that the pair is self-signed by us, and on how many boots since the platform was asked again.
const COUNTER: &str = "/etc/.instance-cert-selfsigned";

/// On how many boots the platform is asked again.
const FURTHER_TRIES: u32 = 3;

/// The platform answers in a second or does not answer; a boot does not wait for it for long.
const SIGNING: Retry = Retry {
    tries: 3,
    first_pause: Duration::from_secs(1),
    longest_pause: Duration::from_secs(4),
    try_limit: Duration::from_secs(10),
};

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    let result = if boot.flags.generate_tls_cert { provide(boot) } else { Ok(Verdict::skipped("--no-cert-gen")) };
    if let Pair::Unusable(reason) = certificate::check(&boot.root) {
        if boot.env.is_true(env_vars::ENABLE_HTTPS) {
            boot.say(&format!("there is no certificate to serve ({reason}): the applications are served without TLS"));
        }
        boot.env.set(env_vars::ENABLE_HTTPS, "false");
    }
    result
}

fn provide(boot: &Boot<'_>) -> Result<Verdict, Error> {
    let counter = boot.root.join(COUNTER);
    let asked = files::read_optional(&counter)?.map(|text| String::from_utf8_lossy(&text).trim().parse().unwrap_or(0));
    let usable = certificate::check(&boot.root) == Pair::Usable;
    match (usable, asked) {
        (true, None) => return Ok(Verdict::skipped("the certificate is usable")),
        (true, Some(asked)) if asked >= FURTHER_TRIES => {
            return Ok(Verdict::skipped("the certificate is self-signed, and the platform was asked often enough"));
        }
        _ => {}
    }
    let key = certificate::new_key()?;
    let pem = key.serialize_pem();
    let reason = match sign(boot, &certificate::request(&key)?, &pem)? {
        Ok(signed) => {
            install(boot, &pem, &signed)?;
            files::unmark(&counter)?;
            return Ok(Verdict::said("signed by the platform"));
        }
        Err(reason) => reason,
    };
    // A pair that can be served for as long as the new one would be is kept: it is what clients have seen.
    if usable {
        files::publish_exact(&counter, (asked.unwrap_or(0) + 1).to_string().as_bytes(), 0o644)?;
        return Ok(Verdict::said(format!("the self-signed certificate stays: {reason}")));
    }
    install(boot, &pem, &certificate::self_signed(&key, Timestamp::now())?)?;
    files::publish_exact(&counter, b"0", 0o644)?;
    Ok(Verdict::said(format!("self-signed: {reason}")))
}

/// A certificate of the platform that belongs to the key, or why there is none.
fn sign(boot: &Boot<'_>, request: &str, key: &str) -> Result<Result<String, String>, Error> {
    let Some(url) = certificate::sign_url(&boot.env) else {
        return Ok(Err("the instance has no number that the platform could sign for".to_owned()));
    };
    let retry = Retry { first_pause: SIGNING.first_pause.min(boot.retry.first_pause), ..SIGNING };
    let client = Client::new(&url, &boot.env, retry, boot.cancel.clone());
    let (request, shown) = (request.to_owned(), redact::url(&url));
    let answer = boot.interruptible(move || client.post(&url, "application/octet-stream", &request))?;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Ok(Err(Error::Fetch { url: shown, source: error }.chain())),
    };
    Ok(match check_pem(&answer, key.as_bytes(), SystemTime::now()) {
        Pair::Usable => String::from_utf8(answer).map_err(|_| "the platform's answer is not text".to_owned()),
        Pair::Expired => Err("the platform's answer is a certificate whose end has passed".to_owned()),
        Pair::Unusable(reason) => Err(format!("the platform's answer is no certificate for this key: {reason}")),
    })
}

/// A crash between the two leaves a pair that does not match, which the next boot replaces.
fn install(boot: &Boot<'_>, key: &str, certificate: &str) -> Result<(), Error> {
    files::publish_exact(&boot.root.join(KEY), key.as_bytes(), 0o600)?;
    files::publish_exact(&boot.root.join(CERTIFICATE), certificate.as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Arc, Mutex};

    use rcgen::{CertificateParams, CertificateSigningRequestParams, Issuer, KeyPair};

    use super::super::testing::Fake;
    use super::*;

    /// What the endpoint does with a request.
    #[derive(Clone, Copy, PartialEq)]
    enum Endpoint {
        Signs,
        SignsAnotherKey,
        Fails,
        AnswersWithAPage,
    }

    /// An endpoint on loopback, and the addresses that it was asked under.
    fn endpoint(kind: Endpoint) -> (String, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/sign", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                while reader.read_line(&mut head).unwrap() > 2 {
                    let line = head.lines().last().unwrap().to_ascii_lowercase();
                    if let Some(value) = line.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                log.lock().unwrap().push(head.lines().next().unwrap().to_owned());
                let authority = KeyPair::generate().unwrap();
                let issuer = Issuer::new(CertificateParams::new(vec![]).unwrap(), &authority);
                let (status, answer) = match kind {
                    Endpoint::Signs => {
                        let request =
                            CertificateSigningRequestParams::from_pem(std::str::from_utf8(&body).unwrap()).unwrap();
                        (200, request.signed_by(&issuer).unwrap().pem())
                    }
                    Endpoint::SignsAnotherKey => {
                        let other = KeyPair::generate().unwrap();
                        (200, CertificateParams::new(vec![]).unwrap().self_signed(&other).unwrap().pem())
                    }
                    Endpoint::Fails => (503, String::new()),
                    Endpoint::AnswersWithAPage => (200, "<!DOCTYPE html>".to_owned()),
                };
                let length = answer.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{answer}"
                );
            }
        });
        (url, asked)
    }

    fn provide(fake: &Fake, url: &str) -> Verdict {
        fake.run(run, &[("CONTAINER_ID", "7"), ("VAST_SIGN_URL", url), ("ENABLE_HTTPS", "true")]).unwrap()
    }

    fn said(verdict: &Verdict) -> &str {
        match verdict {
            Verdict::Done(Some(text)) | Verdict::Skipped(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_certificate_of_the_platform_is_installed_once_with_its_key() {
        let (url, asked) = endpoint(Endpoint::Signs);
        let fake = Fake::new();
        assert_eq!(said(&provide(&fake, &url)), "signed by the platform");
        assert_eq!(certificate::check(&fake.root()), Pair::Usable);
        assert_eq!(fs::metadata(fake.path(KEY)).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(!fake.path(COUNTER).exists());
        assert_eq!(said(&provide(&fake, &url)), "the certificate is usable");
        assert_eq!(*asked.lock().unwrap(), ["POST /sign?instance_id=7 HTTP/1.1"]);
    }

    #[test]
    fn without_a_usable_answer_the_pair_is_self_signed_and_three_further_boots_ask_again() {
        for (kind, reason) in [
            (Endpoint::Fails, "503"),
            (Endpoint::AnswersWithAPage, "HTML page"),
            (Endpoint::SignsAnotherKey, "no certificate for this key"),
        ] {
            let (url, asked) = endpoint(kind);
            let fake = Fake::new();
            let first = provide(&fake, &url);
            assert!(said(&first).starts_with("self-signed: ") && said(&first).contains(reason), "{first:?}");
            let key = fake.read(KEY);
            for _ in 0..3 {
                assert!(said(&provide(&fake, &url)).starts_with("the self-signed certificate stays"));
            }
            let so_far = asked.lock().unwrap().len();
            assert!(said(&provide(&fake, &url)).contains("often enough"));
            assert_eq!(asked.lock().unwrap().len(), so_far);
            assert_eq!(so_far, if kind == Endpoint::Fails { 12 } else { 4 });
            assert_eq!((certificate::check(&fake.root()), fake.read(KEY)), (Pair::Usable, key));
        }
    }

    #[test]
    fn a_later_boot_gets_what_the_platform_signs_then() {
        let fake = Fake::new();
        let (failing, _) = endpoint(Endpoint::Fails);
        provide(&fake, &failing);
        let (signing, _) = endpoint(Endpoint::Signs);
        assert_eq!(said(&provide(&fake, &signing)), "signed by the platform");
        assert!(!fake.path(COUNTER).exists());
        assert_eq!(certificate::check(&fake.root()), Pair::Usable);
    }

    #[test]
    fn an_unusable_or_expired_pair_is_replaced() {
        let key = certificate::new_key().unwrap();
        let old = certificate::self_signed(&key, "2020-01-01T00:00:00Z".parse().unwrap()).unwrap();
        for (certificate_text, key_text) in [(old.as_str(), key.serialize_pem()), ("<html>", String::new())] {
            let fake = Fake::new();
            fake.write(CERTIFICATE, certificate_text);
            fake.write(KEY, &key_text);
            // No number and no address: nobody to ask.
            let verdict = fake.run(run, &[]).unwrap();
            assert!(said(&verdict).contains("has no number"), "{verdict:?}");
            assert_eq!(certificate::check(&fake.root()), Pair::Usable);
        }
    }

    #[test]
    fn no_pair_at_all_turns_https_off_and_says_so() {
        let fake = Fake::new();
        fake.boot(&[("ENABLE_HTTPS", "true")], |boot| {
            boot.flags.generate_tls_cert = false;
            assert_eq!(run(boot).unwrap(), Verdict::skipped("--no-cert-gen"));
            assert_eq!(boot.env.get("ENABLE_HTTPS"), Some("false"));
        });
        assert!(fake.said().contains("without TLS"));
        let fake = Fake::new();
        fake.boot(&[("ENABLE_HTTPS", "true")], |boot| {
            run(boot).unwrap();
            assert_eq!(boot.env.get("ENABLE_HTTPS"), Some("true"));
        });
        assert_eq!(fake.said(), "");
    }
}
