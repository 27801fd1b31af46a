//! `PROVISIONING_SCRIPT` from servers that fail in every way.

use std::ffi::OsString;
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Signal, kill_process};
use sha2::{Digest, Sha256};
use vast_testkit::web::{Answer, Server};

use super::harness::{Fake, SUPERVISOR, Started, VAST_BOOT, wait_until};
use super::https;

const LOG: &str = "/var/log/portal/provisioning.log";
const SCRIPT: &str = "#!/bin/sh\necho provisioned >>\"$OUT/ran\"\n";

/// Runs stage 75 alone.
fn command(fake: &Fake, address: &str) -> Command {
    let root = fake.root();
    let arguments = ["run", "--only", "75", "--root"].map(OsString::from).into_iter().chain([root.into()]);
    let mut command = fake.command(VAST_BOOT, arguments);
    command.env("PROVISIONING_SCRIPT", address);
    command
}

/// Runs stage 75 alone to its end; its outcome, its message, and what the console showed.
fn provision(fake: &Fake, address: &str) -> (String, String, String) {
    let output = command(fake, address).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "a failed script is no failed boot");
    let (outcome, message) = fake.recorded("75-provisioning-script.sh");
    (outcome, message, String::from_utf8(output.stdout).unwrap())
}

/// Complete, failed.
fn markers(fake: &Fake) -> [bool; 2] {
    ["/.provisioning_complete", "/.provisioning_failed"].map(|marker| fake.path(marker).exists())
}

#[track_caller]
fn assert_ran(fake: &Fake, address: &str) -> String {
    let (outcome, message, said) = provision(fake, address);
    assert_eq!((outcome.as_str(), fake.read_out("ran").as_str()), ("done", "provisioned\n"), "{message}");
    assert_eq!(markers(fake), [true, false]);
    said
}

#[track_caller]
fn assert_refused(address: &str, reason: &str) -> String {
    let fake = Fake::new();
    let (outcome, message, said) = provision(&fake, address);
    assert_eq!((outcome.as_str(), fake.read_out("ran").as_str()), ("failed", ""), "{message}");
    assert!(message.contains(reason), "{message}");
    assert!(said.contains(reason), "{said}");
    assert_eq!(markers(&fake), [false, true]);
    said
}

#[test]
fn a_server_that_is_busy_is_asked_again_no_sooner_than_it_said() {
    let server = Server::sequence(vec![Answer::new("429 Slow down", "Retry-After: 2\r\n", ""), Answer::ok(SCRIPT)]);
    assert_ran(&Fake::new(), &server.url("/p.sh"));
    let times: Vec<SystemTime> = server.requests().iter().map(|request| request.at).collect();
    assert_eq!(times.len(), 2);
    // Without the header, one second would do.
    assert!(times[1].duration_since(times[0]).unwrap() >= Duration::from_secs(2));

    // As a date; its second is cut off.
    let promised = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_secs() + 3;
    let server = Server::start(move |request| {
        let until = jiff::Timestamp::from_second(promised(request.at).cast_signed()).unwrap();
        let date = until.strftime("%a, %d %b %Y %H:%M:%S GMT");
        Answer::new("503 Busy", &format!("Retry-After: {date}\r\n"), "")
    });
    let fake = Fake::new();
    let started = Started::new(&mut command(&fake, &server.url("/p.sh")));
    wait_until("the server was asked twice", || server.requests().len() >= 2);
    let requests = server.requests();
    assert!(requests[1].at.duration_since(UNIX_EPOCH).unwrap().as_secs() >= promised(requests[0].at));
    kill_process(started.pid(), Signal::TERM).unwrap();
    assert_eq!(started.end().0, Some(143));
    assert_eq!(markers(&fake), [false, false], "a stop is neither success nor failure");
}

#[test]
fn passing_failures_are_tried_again_and_the_last_one_is_told() {
    let server = Server::sequence(vec![
        Answer::new("500 Oops", "Retry-After: 0\r\n", "<html>"),
        Answer::reset_after("#!/bin/sh\necho half >>\"$OUT/ran\"\n"),
        Answer::ok(SCRIPT),
    ]);
    assert_ran(&Fake::new(), &server.url("/p.sh"));
    assert_eq!(server.requests().len(), 3);

    for (status, reason) in [("500 Oops", "the server answered 500"), ("429 Slow", "the server answered 429")] {
        let server = Server::sequence(vec![Answer::new(status, "Retry-After: 0\r\n", SCRIPT)]);
        assert_refused(&server.url("/p.sh"), reason);
        assert_eq!(server.requests().len(), 6);
    }
    let server = Server::sequence(vec![Answer::new("404 Not Found", "", SCRIPT)]);
    assert_refused(&server.url("/p.sh"), "the server answered 404");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn redirects_lead_to_other_hosts_without_the_password_and_not_in_circles() {
    let target = Server::sequence(vec![Answer::ok(SCRIPT)]);
    let there = target.url("/other.sh").replace("127.0.0.1", "localhost");
    let server = Server::sequence(vec![Answer::redirect(&there)]);
    let address = server.url("/p.sh").replace("http://", "http://user:pass%21word@");
    let said = assert_ran(&Fake::new(), &address);
    assert!(!said.contains("warning") && !said.contains("pass"), "{said}");
    // `user:pass!word`, as RFC 7617 has it.
    assert_eq!(server.requests()[0].header("authorization"), Some("Basic dXNlcjpwYXNzIXdvcmQ="));
    assert_eq!(target.requests()[0].header("authorization"), None);

    let server = Server::sequence(vec![Answer::redirect("/circle")]);
    assert_refused(&server.url("/circle"), "too many redirects");
    assert_eq!(server.requests().len(), 11, "a circle is not walked again");
    let server = Server::sequence(vec![Answer::redirect("ftp://user:secret@host/p.sh?token=secret")]);
    let said = assert_refused(&server.url("/p.sh"), "the address, or one that it leads to, is not a URL");
    assert!(!said.contains("secret"), "{said}");
}

/// Names a host that is not this one, as far as its name tells.
const ELSEWHERE: &str = "printf '127.0.0.1 localhost scripts.example\\n' >\"$OUT/hosts\" && mount --bind \"$OUT/hosts\" /etc/hosts && exec \"$@\"";

#[test]
fn a_way_without_protection_is_warned_of_once_unless_a_checksum_protects_it() {
    let fake = Fake::new();
    let target = Server::sequence(vec![Answer::ok(SCRIPT)]);
    let plain = target.url("/p.sh?token=hidden-in-query").replace("127.0.0.1", "scripts.example");
    fs::write(fake.out("p.sh"), format!("HTTP/1.0 302 Found\r\nLocation: {plain}\r\n\r\n")).unwrap();
    let secure = https::Server::start(&fake, "-HTTP");
    let redirected = format!("https://localhost:{}/p.sh", secure.port());
    let digest = hex(SCRIPT);
    for (address, warning) in [
        (plain.clone(), Some("is fetched over plain http")),
        (redirected.clone(), Some("was redirected to http://scripts.example")),
        (format!("{plain}#sha256={digest}"), None),
        (format!("{redirected}#sha256={digest}"), None),
        (target.url("/p.sh"), None),
    ] {
        for left in ["/.provisioning_complete", "ran"] {
            let _ = fs::remove_file(if left == "ran" { fake.out(left) } else { fake.path(left) });
        }
        let inner = command(&fake, &address);
        let mut outer = fake.command("unshare", ["--mount", "sh", "-c", ELSEWHERE, "sh"]);
        outer.arg(inner.get_program()).args(inner.get_args());
        outer.env("PROVISIONING_SCRIPT", &address).env("SSL_CERT_FILE", fake.out("server.crt"));
        let said = String::from_utf8(outer.output().unwrap().stdout).unwrap();
        assert_eq!(fake.read_out("ran"), "provisioned\n", "{address}: {said}");
        assert_eq!(said.matches("warning: ").count(), usize::from(warning.is_some()), "{address}: {said}");
        assert!(said.contains(warning.unwrap_or_default()) && !said.contains("hidden-in-query"), "{address}: {said}");
    }
}

fn hex(text: &str) -> String {
    ::hex::encode(Sha256::digest(text))
}

#[test]
fn what_is_not_the_promised_script_or_none_at_all_never_runs() {
    let server = |answer| Server::sequence(vec![answer]);
    let scripts = server(Answer::ok(SCRIPT));
    assert_ran(&Fake::new(), &format!("{}#sha256={}", scripts.url("/p.sh"), hex(SCRIPT)));
    assert_refused(
        &format!("{}#sha256={}", scripts.url("/p.sh"), hex("another")),
        &format!("its SHA-256 is {}", hex(SCRIPT)),
    );
    assert_refused(&format!("{}#sha256=abc", scripts.url("/p.sh")), "the checksum after `#sha256=` is not 64");
    let page = format!("\r\n<!DOCTYPE html>\n<html>\n{SCRIPT}");
    assert_refused(&server(Answer::ok(page)).url("/p.sh"), "it is an HTML page, not a script");
    assert_refused(&server(Answer::ok(" \n")).url("/p.sh"), "it is empty");
    let endless = server(Answer::endless(SCRIPT));
    assert_refused(&endless.url("/p.sh"), "it is larger than 16777216 bytes");
    assert_eq!(endless.requests().len(), 1, "what has no end is not fetched again");
}

#[test]
fn a_script_runs_by_its_first_line_whatever_its_line_ends_with_its_output_in_the_log_and_on_the_console() {
    for script in [
        "#!/bin/sh\r\necho provisioned >>\"$OUT/ran\"\r\necho shown; echo of $WHO >&2\r\n",
        "\u{feff}#!/usr/bin/env bash\necho provisioned >>\"$OUT/ran\"\necho shown; echo of $WHO >&2\n",
        "echo provisioned >>\"$OUT/ran\"\r\n[[ -n $BASH_VERSION ]] && echo shown\r\necho of $WHO\r\n",
        "#!/usr/bin/python3\r\nimport os\r\nprint('shown', flush=True)\r\nopen(os.environ['OUT'] + '/ran', 'a').write('provisioned\\n')\r\nprint('of', os.environ['WHO'])\r\n",
    ] {
        let fake = Fake::new();
        let server = Server::sequence(vec![Answer::ok(script)]);
        let output = command(&fake, &server.url("/p")).env("WHO", "me").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(fake.read_out("ran"), "provisioned\n", "{script}: {said}");
        assert_eq!(fs::read_to_string(fake.path(LOG)).unwrap(), "shown\nof me\n", "{script}");
        assert!(said.contains("shown\nof me\n"), "{script}: {said}");
    }
}

#[test]
fn the_output_is_in_the_log_and_on_the_console_while_the_script_still_runs() {
    let fake = Fake::new();
    let script = "#!/bin/sh\necho early\nuntil [ -e \"$OUT/go\" ]; do sleep 0.02; done\necho late >&2\n";
    let server = Server::sequence(vec![Answer::ok(script)]);
    let started = Started::new(&mut command(&fake, &server.url("/p.sh")));
    let log = || fs::read_to_string(fake.path(LOG)).unwrap_or_default();
    wait_until("the first line is in both places", || log() == "early\n" && started.said().contains("early\n"));
    assert_eq!(markers(&fake), [false, false]);
    fs::write(fake.out("go"), "").unwrap();
    let (code, said) = started.end();
    assert_eq!((code, log().as_str(), markers(&fake)), (Some(0), "early\nlate\n", [true, false]));
    assert!(said.contains("early\nlate\n"), "{said}");
}

#[test]
fn a_boot_goes_on_after_a_failed_script_and_a_script_that_succeeded_is_not_run_again() {
    let fake = Fake::new();
    fake.supervisor(SUPERVISOR);
    fake.stage("76-after.sh", "[ -e \"$ROOT/.provisioning\" ] && echo held >>$OUT/after");
    let failing = "#!/bin/sh\n[ -e \"$ROOT/.provisioning\" ] && echo held >>\"$OUT/ran\"\nexit 3\n";
    let server = Server::sequence(vec![Answer::ok(failing), Answer::ok(SCRIPT)]);
    let boot = || {
        let root = fake.root();
        let mut command = fake.command(VAST_BOOT, ["--no-cert-gen".as_ref(), "--root".as_ref(), root.as_os_str()]);
        command.env("ROOT", &root).env("PROVISIONING_SCRIPT", server.url("/p.sh"));
        let started = Started::new(&mut command);
        wait_until("the boot is up", || {
            fs::read_to_string(fake.path("/run/vast/boot.json")).is_ok_and(|text| text.contains("\"phase\":\"up\""))
                && fake.out("ready").exists()
                && !fake.path("/.provisioning").exists()
        });
        kill_process(started.pid(), Signal::TERM).unwrap();
        assert_eq!(started.end().0, Some(0));
        fs::remove_file(fake.out("ready")).unwrap();
        (fake.recorded("75-provisioning-script.sh").0, markers(&fake), server.requests().len())
    };
    assert_eq!(boot(), ("failed".to_owned(), [false, true], 1));
    assert_eq!(boot(), ("done".to_owned(), [true, false], 2));
    assert_eq!(boot(), ("skipped".to_owned(), [true, false], 2));
    assert_eq!(fake.read_out("ran"), "held\nprovisioned\n");
    assert_eq!(fake.read_out("after"), "held\nheld\nheld\n");
}

#[test]
fn a_stop_while_the_server_says_nothing_ends_the_boot() {
    let fake = Fake::new();
    let server = Server::sequence(vec![Answer::silence()]);
    let started = Started::new(&mut command(&fake, &server.url("/p.sh")));
    wait_until("the server is asked", || !server.requests().is_empty());
    kill_process(started.pid(), Signal::TERM).unwrap();
    assert_eq!(started.end().0, Some(143));
    assert_eq!(fake.recorded("75-provisioning-script.sh").0, "cancelled");
    assert_eq!(markers(&fake), [false, false]);
}
