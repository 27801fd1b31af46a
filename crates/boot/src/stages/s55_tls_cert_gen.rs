//! Stage 55: a TLS pair that can be served, best one that the platform signed.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use vast_portal::certificate::{Pair, check_pem};

use crate::certificate::{self, CERTIFICATE, KEY};
use crate::env_vars;
use crate::error::Error;
use crate::fetch::{Client, FetchError, Retry};
use crate::files;
use crate::redact;
use crate::stage::{Boot, Verdict};

/// On how many boots since the pair signed itself the platform was asked again.
const COUNTER: &str = "/etc/.instance-cert-selfsigned";

/// What is added to the name of a file that was of no use for serving and could be of use to whoever put it there; `.1` and so on behind
/// it where that name is taken by another one.
const REPLACED: &str = ".replaced";

/// On how many boots the platform is asked again.
const FURTHER_TRIES: u32 = 3;

/// The platform answers in a second or does not answer; a boot does not wait for it for long.
const SIGNING: Retry = Retry {
    tries: 3,
    first_pause: Duration::from_secs(1),
    longest_pause: Duration::from_secs(4),
    try_limit: Duration::from_secs(10),
    total_limit: Some(Duration::from_secs(30)),
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
    let usable = certificate::check(&boot.root) == Pair::Usable;
    if usable && !certificate::is_self_signed(&boot.root) {
        // One that the platform signed, or the user's own, whatever was there before.
        files::unmark(&counter)?;
        return Ok(Verdict::skipped("the certificate is usable"));
    }
    let asked = files::read_optional(&counter)?;
    let asked = asked.map_or(0, |text| String::from_utf8_lossy(&text).trim().parse().unwrap_or(0));
    if usable && asked >= FURTHER_TRIES {
        return Ok(Verdict::skipped("the certificate is self-signed, and the platform was asked often enough"));
    }
    remove_leftovers(boot);
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
        files::publish_exact(&counter, (asked + 1).to_string().as_bytes(), 0o644)?;
        return Ok(Verdict::said(format!("the self-signed certificate stays: {reason}")));
    }
    files::publish_exact(&counter, b"0", 0o644)?;
    install(boot, &pem, &certificate::self_signed(&key, Timestamp::now())?)?;
    Ok(Verdict::said(format!("self-signed: {reason}")))
}

/// A certificate of the platform that belongs to the key, or why there is none.
fn sign(boot: &Boot<'_>, request: &str, key: &str) -> Result<Result<String, String>, Error> {
    let Some(url) = certificate::sign_url(&boot.env) else {
        return Ok(Err("the instance has no number that the platform could sign for".to_owned()));
    };
    let limit = boot.seconds(env_vars::VAST_SIGN_TIMEOUT).unwrap_or_else(|error| {
        // A wrong limit must not cost the certificate.
        boot.say(&format!("warning: {}", error.chain()));
        None
    });
    let retry = Retry {
        first_pause: SIGNING.first_pause.min(boot.retry.first_pause),
        total_limit: limit.or(SIGNING.total_limit),
        ..SIGNING
    };
    let client = Client::new(&url, &boot.env, retry, boot.cancel.clone());
    let (request, shown) = (request.to_owned(), redact::url(&url));
    let answer = boot.interruptible(move || client.post(&url, "application/octet-stream", &request))?;
    let answer = match answer {
        Ok(answer) => answer.content,
        Err(FetchError::Cancelled) => return Err(Error::Cancelled),
        Err(error) => return Ok(Err(Error::Fetch { url: shown, source: error }.chain())),
    };
    Ok(match check_pem(&answer, key.as_bytes(), SystemTime::now()) {
        Pair::Usable => String::from_utf8(answer).map_err(|_| "the platform's answer is not text".to_owned()),
        Pair::Expired => Err("the platform's answer is a certificate whose end has passed".to_owned()),
        Pair::Unusable(reason) => Err(format!("the platform's answer is no certificate for this key: {reason}")),
    })
}

/// A crash between the two leaves a pair that does not match, which the next boot replaces. The key goes last: until then the old one
/// is there to be kept.
fn install(boot: &Boot<'_>, key: &str, certificate: &str) -> Result<(), Error> {
    keep_replaced(boot)?;
    files::publish_exact(&boot.root.join(CERTIFICATE), certificate.as_bytes(), 0o644)?;
    files::publish_exact(&boot.root.join(KEY), key.as_bytes(), 0o600)
}

/// Files that a boot had begun when it was killed. One that stays is no harm, so nothing depends on it.
fn remove_leftovers(boot: &Boot<'_>) {
    let staged = [CERTIFICATE, KEY, COUNTER].map(|path| path.replace("/etc/", ".") + ".");
    for entry in std::fs::read_dir(boot.root.join("/etc")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.ends_with(files::STAGED)) else { continue };
        if staged.iter().any(|staged| name.starts_with(staged)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Somebody's key may be encrypted, or wait for its certificate: it cannot be served, and is not ours to destroy.
fn keep_replaced(boot: &Boot<'_>) -> Result<(), Error> {
    if certificate::check(&boot.root).can_be_served() && certificate::is_self_signed(&boot.root) {
        return Ok(());
    }
    let key = files::read_optional(&boot.root.join(KEY))?;
    if !key.as_ref().is_some_and(|key| String::from_utf8_lossy(key).contains("PRIVATE KEY-----")) {
        return Ok(());
    }
    let certificate = files::read_optional(&boot.root.join(CERTIFICATE))?;
    // Of an earlier boot may be another key; neither is worth more.
    for suffix in std::iter::once(String::new()).chain((1..).map(|number: u32| format!(".{number}"))) {
        let mut missing = Vec::new();
        let mut fits = true;
        for (path, content, mode) in [(KEY, &key, 0o600), (CERTIFICATE, &certificate, 0o644)] {
            let kept = boot.root.join(format!("{path}{REPLACED}{suffix}"));
            match (files::read_optional(&kept)?, content) {
                (None, Some(content)) => missing.push((kept, content, mode)),
                (held, content) => fits &= held == *content,
            }
        }
        if fits {
            return missing
                .into_iter()
                .try_for_each(|(path, content, mode)| files::publish_exact(&path, content, mode));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use vast_testkit::authority::Authority;
    use vast_testkit::web::{Answer, Server};

    use super::super::testing::Fake;
    use super::*;

    /// An endpoint that signs.
    fn signing() -> Server {
        let authority = Authority::new();
        Server::start(move |request| Answer::ok(authority.sign(&request.body)))
    }

    fn provide(fake: &Fake, server: &Server) -> Verdict {
        let url = server.url("/sign");
        fake.run(run, &[("CONTAINER_ID", "7"), ("VAST_SIGN_URL", &url), ("ENABLE_HTTPS", "true")]).unwrap()
    }

    fn said(verdict: &Verdict) -> &str {
        match verdict {
            Verdict::Done(Some(text)) | Verdict::Skipped(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_certificate_of_the_platform_is_installed_once_with_its_key() {
        let server = signing();
        let fake = Fake::new();
        assert_eq!(said(&provide(&fake, &server)), "signed by the platform");
        assert_eq!(certificate::check(&fake.root()), Pair::Usable);
        assert_eq!(fs::metadata(fake.path(KEY)).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(!fake.path(COUNTER).exists());
        assert_eq!(said(&provide(&fake, &server)), "the certificate is usable");
        let asked: Vec<_> = server.requests().into_iter().map(|request| (request.method, request.target)).collect();
        assert_eq!(asked, [("POST".to_owned(), "/sign?instance_id=7".to_owned())]);
    }

    #[test]
    fn without_a_usable_answer_the_pair_is_self_signed_and_three_further_boots_ask_again() {
        let authority = Authority::new();
        let page = Server::sequence(vec![Answer::ok("<!DOCTYPE html>")]);
        let failing = Server::sequence(vec![Answer::new("503 Busy", "Retry-After: 0\r\n", "")]);
        let another = Server::start(move |request| Answer::ok(authority.sign_another_key(&request.body)));
        for (server, reason, requests) in
            [(failing, "503", 12), (page, "HTML page", 4), (another, "no certificate for this key", 4)]
        {
            let fake = Fake::new();
            let first = provide(&fake, &server);
            assert!(said(&first).starts_with("self-signed: ") && said(&first).contains(reason), "{first:?}");
            let key = fake.read(KEY);
            for _ in 0..3 {
                assert!(said(&provide(&fake, &server)).starts_with("the self-signed certificate stays"));
            }
            assert_eq!(server.requests().len(), requests);
            assert!(said(&provide(&fake, &server)).contains("often enough"));
            assert_eq!(server.requests().len(), requests);
            assert_eq!((certificate::check(&fake.root()), fake.read(KEY)), (Pair::Usable, key));
        }
    }

    #[test]
    fn a_later_boot_gets_what_the_platform_signs_then() {
        let fake = Fake::new();
        provide(&fake, &Server::sequence(vec![Answer::status("403 Forbidden")]));
        assert_eq!(said(&provide(&fake, &signing())), "signed by the platform");
        assert!(!fake.path(COUNTER).exists());
        assert_eq!(certificate::check(&fake.root()), Pair::Usable);
    }

    #[test]
    fn a_pair_of_the_users_own_is_never_asked_for_again_whatever_the_counter_says() {
        let fake = Fake::new();
        let key = certificate::new_key().unwrap();
        let request = certificate::request(&key).unwrap();
        fake.write(CERTIFICATE, &Authority::new().sign(request.as_bytes()));
        fake.write(KEY, &key.serialize_pem());
        fake.write(COUNTER, "1");
        let server = signing();
        assert_eq!(said(&provide(&fake, &server)), "the certificate is usable");
        assert_eq!((fake.read(KEY), server.requests().len()), (key.serialize_pem(), 0));
        assert!(!fake.path(COUNTER).exists());
    }

    #[test]
    fn a_self_signed_pair_of_an_older_image_has_its_further_tries_too() {
        let fake = Fake::new();
        let key = certificate::new_key().unwrap();
        fake.write(CERTIFICATE, &certificate::self_signed(&key, Timestamp::now()).unwrap());
        fake.write(KEY, &key.serialize_pem());
        let server = Server::sequence(vec![Answer::status("403 Forbidden")]);
        for _ in 0..5 {
            provide(&fake, &server);
        }
        assert_eq!((server.requests().len(), fake.read(KEY)), (3, key.serialize_pem()));
    }

    #[test]
    fn a_key_that_cannot_be_served_is_kept_beside_the_new_one() {
        let fake = Fake::new();
        let foreign = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        fake.write(KEY, foreign);
        fake.write(CERTIFICATE, "theirs");
        for _ in 0..2 {
            provide(&fake, &Server::sequence(vec![Answer::status("403 Forbidden")]));
        }
        assert_eq!(certificate::check(&fake.root()), Pair::Usable);
        let kept = format!("{KEY}{REPLACED}");
        assert_eq!(
            (fake.read(&kept).as_str(), fake.read(&format!("{CERTIFICATE}{REPLACED}")).as_str()),
            (foreign, "theirs")
        );
        assert_eq!(fs::metadata(fake.path(&kept)).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn keys_of_several_boots_are_all_kept_and_none_twice() {
        let fake = Fake::new();
        let server = Server::sequence(vec![Answer::status("403 Forbidden")]);
        let theirs = |name: &str| {
            let key = format!("-----BEGIN ENCRYPTED PRIVATE KEY-----\n{name}\n-----END ENCRYPTED PRIVATE KEY-----\n");
            (key, format!("the certificate of {name}"))
        };
        let pairs = [theirs("first"), theirs("second"), (theirs("second").0, theirs("third").1)];
        // Of each pair there is one, however often it comes back.
        for (key, certificate) in pairs.iter().chain(&pairs) {
            fake.write(KEY, key);
            fake.write(CERTIFICATE, certificate);
            provide(&fake, &server);
            assert_eq!(certificate::check(&fake.root()), Pair::Usable);
        }
        for ((key, certificate), number) in pairs.iter().zip(["", ".1", ".2"]) {
            let kept = [KEY, CERTIFICATE].map(|path| fake.read(&format!("{path}{REPLACED}{number}")));
            assert_eq!(kept, [key.as_str(), certificate], "{number}");
        }
        assert!(!fake.path(&format!("{KEY}{REPLACED}.3")).exists());
    }

    #[test]
    fn only_what_a_killed_boot_had_begun_is_removed() {
        let fake = Fake::new();
        let mine = ["/etc/.instance.key.backup", "/etc/.instance.crt.old", "/etc/.instance.key.d41d8c"];
        for path in mine {
            fake.write(path, "mine");
        }
        let begun = fake.write(&format!("/etc/.instance.key.abc123{}", files::STAGED), "begun");
        provide(&fake, &signing());
        assert!(!begun.exists());
        assert_eq!(mine.map(|path| fake.read(path)), ["mine"; 3]);
    }

    #[test]
    fn a_limit_that_is_none_is_said_and_costs_nothing() {
        let fake = Fake::new();
        let url = signing();
        let env = [("VAST_SIGN_URL", url.url("/")), ("VAST_SIGN_TIMEOUT", "soon".to_owned())];
        let env = env.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert_eq!(said(&fake.run(run, &env).unwrap()), "signed by the platform");
        assert!(fake.said().contains("VAST_SIGN_TIMEOUT"), "{}", fake.said());
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
