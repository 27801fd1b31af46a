//! Stage 55 against a signing endpoint on loopback, boot after boot, and what a real Caddy serves then.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use vast_boot::certificate::{CERTIFICATE, KEY};
use vast_testkit::authority::Authority;
use vast_testkit::web::{Answer, Server};

use super::caddy::Caddy;
use super::harness::{Fake, VAST_BOOT, wait_until};

const COUNTER: &str = "/etc/.instance-cert-selfsigned";

const BOOTS: usize = 10;

/// A later stage that tells whether the applications speak TLS.
const LATER: &str = "echo $ENABLE_HTTPS >>$OUT/https";

fn instance() -> Fake {
    let fake = Fake::new();
    fake.stage("56-later.sh", LATER);
    fake
}

/// Runs the stage, and the one that looks at what it left; what was said.
fn boot(fake: &Fake, url: &str, flags: &[&str], limit: Option<&str>) -> String {
    let root = fake.root();
    let arguments = ["run", "--only", "55,56", "--root"].map(OsString::from).into_iter().chain([root.into()]);
    let mut command = fake.command(VAST_BOOT, arguments.chain(flags.iter().map(OsString::from)));
    command.env("CONTAINER_ID", "7").env("ENABLE_HTTPS", "true").env("VAST_SIGN_URL", url);
    if let Some(seconds) = limit {
        command.env("VAST_SIGN_TIMEOUT", seconds);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).unwrap()
}

fn pair(fake: &Fake) -> [String; 2] {
    [CERTIFICATE, KEY].map(|path| fs::read_to_string(fake.path(path)).unwrap_or_default())
}

fn check(fake: &Fake) -> Option<i32> {
    fake.run(&["cert", "check"]).status.code()
}

/// The one file of the root that says on how many boots the platform was asked again.
fn counter(fake: &Fake) -> Option<String> {
    fs::read_to_string(fake.path(COUNTER)).ok()
}

fn saved(fake: &Fake, authority: &Authority) -> PathBuf {
    let path = fake.out("authority.crt");
    fs::write(&path, authority.certificate()).unwrap();
    path
}

/// Boots ten times against an endpoint that never signs. The pair is made at the first, the platform asked again at the next three
/// and not at the others, and the pair stays what clients have seen. Caddy serves it.
fn never_signed(
    answer: impl Fn(&Authority, &[u8]) -> Answer + Send + Sync + 'static,
    tries: usize,
    limit: Option<&str>,
    reason: &str,
) {
    let authority = Authority::new();
    let server = Server::start(move |request| answer(&authority, &request.body));
    let fake = instance();
    let mut first = None;
    for number in 1..=BOOTS {
        let said = boot(&fake, &server.url("/sign"), &[], limit);
        assert!(!said.contains("TLS"), "boot {number}: {said}");
        let asked = number.min(4);
        // What was given up in time may not have been read yet.
        wait_until("the requests are read", || server.requests().len() >= asked * tries);
        assert_eq!(server.requests().len(), asked * tries, "boot {number}");
        assert_eq!(counter(&fake), Some((asked - 1).to_string()), "boot {number}");
        assert_eq!(*first.get_or_insert_with(|| pair(&fake)), pair(&fake), "boot {number}");
        let (outcome, message) = fake.recorded("55-tls-cert-gen.sh");
        let expected = match number {
            1 => ("done", "self-signed: "),
            2..=4 => ("done", "the self-signed certificate stays: "),
            _ => ("skipped", "the certificate is self-signed, and the platform was asked often enough"),
        };
        assert_eq!(outcome, expected.0, "boot {number}: {message}");
        assert!(message.starts_with(expected.1), "boot {number}: {message}");
        assert!(number > 4 || message.contains(reason), "boot {number}: {message}");
    }
    assert_eq!(check(&fake), Some(0));
    assert_eq!(fs::metadata(fake.path(KEY)).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fake.read_out("https"), "true\n".repeat(BOOTS));
    let caddy = Caddy::start(&fake, "true");
    caddy.page_trusting(&fake.path(CERTIFICATE)).unwrap();
    assert_eq!(caddy.said, "");
}

#[test]
fn an_endpoint_that_signs_is_asked_once_and_caddy_serves_what_it_signed() {
    let authority = Arc::new(Authority::new());
    let signing = authority.clone();
    let server = Server::start(move |request| Answer::ok(signing.sign(&request.body)));
    let fake = instance();
    let mut first = None;
    for number in 1..=BOOTS {
        boot(&fake, &server.url("/sign"), &[], None);
        assert_eq!(*first.get_or_insert_with(|| pair(&fake)), pair(&fake), "boot {number}");
        assert_eq!(counter(&fake), None);
        let expected =
            if number == 1 { ("done", "signed by the platform") } else { ("skipped", "the certificate is usable") };
        assert_eq!(fake.recorded("55-tls-cert-gen.sh"), (expected.0.into(), expected.1.into()));
    }
    let requests = server.requests();
    let asked: Vec<_> = requests.iter().map(|request| (request.method.as_str(), request.target.as_str())).collect();
    assert_eq!(asked, [("POST", "/sign?instance_id=7")]);
    assert_eq!(fs::metadata(fake.path(KEY)).unwrap().permissions().mode() & 0o7777, 0o600);
    Caddy::start(&fake, "true").page_trusting(&saved(&fake, &authority)).unwrap();
}

#[test]
fn an_endpoint_that_answers_late_but_in_time_is_waited_for_and_asked_once() {
    for limit in [None, Some("30")] {
        let authority = Arc::new(Authority::new());
        let signing = authority.clone();
        let server = Server::start(move |request| {
            // Slower than a platform in good health ever is.
            std::thread::sleep(Duration::from_secs(3));
            Answer::ok(signing.sign(&request.body))
        });
        let fake = instance();
        boot(&fake, &server.url("/sign"), &[], limit);
        assert_eq!(fake.recorded("55-tls-cert-gen.sh"), ("done".into(), "signed by the platform".into()));
        assert_eq!((server.requests().len(), counter(&fake), check(&fake)), (1, None, Some(0)));
        Caddy::start(&fake, "true").page_trusting(&saved(&fake, &authority)).unwrap();
    }
}

#[test]
fn a_signature_for_another_key_is_not_installed() {
    never_signed(
        |authority, body| Answer::ok(authority.sign_another_key(body)),
        1,
        None,
        "no certificate for this key",
    );
}

#[test]
fn a_signature_that_has_ended_is_not_installed() {
    never_signed(|authority, body| Answer::ok(authority.sign_expired(body)), 1, None, "whose end has passed");
}

#[test]
fn an_endpoint_that_fails_is_tried_three_times_a_boot() {
    never_signed(|_, _| Answer::new("500 Oops", "Retry-After: 0\r\n", "<html>"), 3, None, "the server answered 500");
}

#[test]
fn a_page_in_place_of_a_certificate_is_not_installed() {
    never_signed(|_, _| Answer::ok("<!DOCTYPE html><p>log in</p>"), 1, None, "the certificate is an HTML page");
}

#[test]
fn garbage_and_nothing_are_not_installed() {
    never_signed(|_, _| Answer::ok([0xff, 0x00, 0x80, b'\n']), 1, None, "the certificate is not PEM");
    never_signed(|_, _| Answer::ok(""), 1, None, "the certificate is empty");
    never_signed(|_, _| Answer::endless("-----BEGIN CERTIFICATE-----\n"), 1, None, "larger than");
}

#[test]
fn an_endpoint_that_never_finishes_is_waited_for_only_as_long_as_the_limit_says() {
    never_signed(|_, _| Answer::silence(), 1, Some("0.5"), "timeout");
    never_signed(|_, _| Answer::trickle(), 1, Some("0.5"), "timeout");
    // A try after an hour would not be in time, so it is not waited for.
    never_signed(|_, _| Answer::new("503 Busy", "Retry-After: 3600\r\n", ""), 1, None, "the server answered 503");
}

#[test]
fn an_endpoint_that_recovers_signs_on_a_later_boot_and_a_pair_that_ends_is_renewed() {
    let authority = Arc::new(Authority::new());
    let signing = authority.clone();
    let server = Server::start(move |request| Answer::ok(signing.sign(&request.body)));
    let failing = Server::sequence(vec![Answer::status("403 Forbidden")]);
    let fake = instance();
    for _ in 0..3 {
        boot(&fake, &failing.url("/"), &[], None);
    }
    let [_, before] = pair(&fake);
    boot(&fake, &server.url("/sign"), &[], None);
    assert_eq!((counter(&fake), check(&fake)), (None, Some(0)));
    assert_ne!(pair(&fake)[1], before, "the platform signs a new key");
    Caddy::start(&fake, "true").page_trusting(&saved(&fake, &authority)).unwrap();

    // What ended is served as long as nothing better is there, and renewed with the next boot that may.
    let key = vast_boot::certificate::new_key().unwrap();
    let request = vast_boot::certificate::request(&key).unwrap();
    fs::write(fake.path(CERTIFICATE), authority.sign_expired(request.as_bytes())).unwrap();
    fs::write(fake.path(KEY), key.serialize_pem()).unwrap();
    assert!(!boot(&fake, &server.url("/sign"), &["--no-cert-gen"], None).contains("TLS"));
    assert_eq!(check(&fake), Some(3));
    let caddy = Caddy::start(&fake, "true");
    caddy.page_with_key_of(&fake, &fake.path(CERTIFICATE)).unwrap();
    drop(caddy);
    boot(&fake, &server.url("/sign"), &[], None);
    assert_eq!((check(&fake), server.requests().len()), (Some(0), 2));
    assert!(fake.read_out("https").lines().all(|https| https == "true"));
}

#[test]
fn without_a_pair_that_can_be_served_https_is_off_for_later_stages_and_said_once() {
    for (certificate, key) in [(None, None), (Some("<html>"), Some("")), (Some(""), None)] {
        let fake = instance();
        for (path, text) in [(CERTIFICATE, certificate), (KEY, key)] {
            if let Some(text) = text {
                fs::write(fake.path(path), text).unwrap();
            }
        }
        let said = boot(&fake, "http://127.0.0.1:1/", &["--no-cert-gen"], None);
        assert_eq!(said.matches("the applications are served without TLS").count(), 1, "{said}");
        assert_eq!(fake.read_out("https"), "false\n");
        // Told by the stages, and when only the template's wish reaches it.
        for https in ["false", "true"] {
            let caddy = Caddy::start(&fake, https);
            caddy.plain_page().unwrap();
            assert_eq!(caddy.said.contains("HTTPS is off"), https == "true", "{}", caddy.said);
            assert!(caddy.page_trusting(&fake.path("/etc/portal.yaml")).is_err());
        }
    }
}

/// The two stages where `/etc` is read-only.
fn read_only_etc(fake: &Fake) -> Command {
    let script = "mount --bind \"$ROOT/etc\" \"$ROOT/etc\" && mount -o remount,bind,ro \"$ROOT/etc\" && exec \"$BOOT\" run --only 55,56 --root \"$ROOT\"";
    let mut command = fake.command("unshare", ["--mount", "sh", "-c", script]);
    command.env("ROOT", fake.root()).env("BOOT", VAST_BOOT).env("ENABLE_HTTPS", "true");
    command
}

#[test]
fn a_pair_that_cannot_be_written_costs_https_and_nothing_else() {
    let fake = instance();
    let output = read_only_etc(&fake).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(fake.recorded("55-tls-cert-gen.sh").0, "failed");
    assert_eq!(said.matches("the applications are served without TLS").count(), 1, "{said}");
    assert_eq!(fake.read_out("https"), "false\n");
}

#[test]
fn a_good_pair_that_cannot_be_written_is_left_alone_and_served() {
    let authority = Authority::new();
    let server = Server::start(move |request| Answer::ok(authority.sign(&request.body)));
    let fake = instance();
    boot(&fake, &server.url("/sign"), &[], None);
    let before = pair(&fake);
    let output = read_only_etc(&fake).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let expected = ("skipped".to_owned(), "the certificate is usable".to_owned());
    assert_eq!(fake.recorded("55-tls-cert-gen.sh"), expected);
    assert_eq!((pair(&fake), fake.read_out("https")), (before, "true\n".repeat(2)));
}

/// Boots with the stage killed before its Nth change of a name, for every N until it comes through; after each kill, and after the
/// boot that follows it, `look` is called.
fn killed_everywhere(prepare: impl Fn(&Fake), url: &str, look: impl Fn(&Fake, bool)) {
    for number in 1.. {
        assert!(number < 100, "the boot never comes through");
        let fake = instance();
        prepare(&fake);
        let calls = "rename,renameat,renameat2,unlink,unlinkat";
        let root = fake.root();
        let mut command = fake.command("strace", ["-f", "-qqq", "-o", "/dev/null", "-e"]);
        command.arg(format!("trace={calls}")).arg("-e").arg(format!("inject={calls}:signal=KILL:when={number}"));
        command.args([VAST_BOOT, "sequence", "--only", "55", "--root"]).arg(&root);
        let ran = command.env("CONTAINER_ID", "7").env("VAST_SIGN_URL", url).output().unwrap();
        let killed = !ran.status.success();
        if killed {
            look(&fake, false);
            boot(&fake, url, &[], None);
        }
        assert_eq!(check(&fake), Some(0), "killed before change {number}");
        let names =
            fs::read_dir(fake.path("/etc")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left: Vec<_> = names.filter(|name| name.starts_with(".instance.") || name.starts_with("..")).collect();
        assert_eq!(left, Vec::<String>::new(), "killed before change {number}");
        look(&fake, true);
        let settled = pair(&fake);
        boot(&fake, url, &[], None);
        assert_eq!(pair(&fake), settled);
        if !killed {
            assert!(number > 3, "nothing was killed");
            return;
        }
    }
}

#[test]
fn a_boot_killed_at_any_change_is_repaired_by_the_next_and_no_key_is_lost() {
    let authority = Authority::new();
    let signing = Server::start(move |request| Answer::ok(authority.sign(&request.body)));
    let failing = Server::sequence(vec![Answer::status("403 Forbidden")]);
    // An encrypted key is of no use here, and may be the only one there is.
    let foreign = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let own = |fake: &Fake| fs::write(fake.path(KEY), foreign).unwrap();
    let there = |fake: &Fake, _| {
        let kept = fs::read_to_string(fake.path(&format!("{KEY}.replaced"))).unwrap_or_default();
        assert!(pair(fake)[1] == foreign || kept == foreign, "the key is lost");
    };
    killed_everywhere(own, &signing.url("/"), there);
    killed_everywhere(own, &failing.url("/"), there);
    // A self-signed pair is worth more than none: whatever happens, the next boot has one again.
    let self_signed = |fake: &Fake| drop(boot(fake, &failing.url("/"), &[], None));
    killed_everywhere(self_signed, &signing.url("/"), |fake, whole| {
        assert!(!whole || counter(fake).is_none(), "what the platform signed has no further tries");
    });
    killed_everywhere(
        |_| (),
        &failing.url("/"),
        |fake, whole| {
            assert!(!whole || counter(fake).is_some(), "a pair that signed itself has its further tries");
        },
    );
}
