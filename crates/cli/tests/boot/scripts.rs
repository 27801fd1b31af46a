//! Scripts that variables name: `HOTFIX_SCRIPT`, `BOOT_SCRIPT`, and the manifest that is not run.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, SystemTime};

use vast_testkit::web::{Answer, Server};

use super::harness::{Fake, SUPERVISOR};

/// A server on loopback that answers every request with this, as long as the test runs.
fn serve(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/script.sh?token=in-query", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
                line.clear();
            }
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            let _ = reader.get_mut().write_all(answer.as_bytes());
        }
    });
    url
}

fn sha256(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("text"), text).unwrap();
    let output = Command::new("sha256sum").arg(directory.path().join("text")).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// A script with Windows line ends, as some editors leave them.
const SCRIPT: &str = "#!/bin/bash\r\necho \"ran $FROM_STAGE $*\" >>$OUT/ran\r\nexport LOST=1\r\n";

#[test]
fn a_script_by_url_runs_if_it_is_one_and_the_promised_one() {
    let digest = sha256(SCRIPT);
    for (what, url, reason) in [
        ("plain", serve("200 OK", SCRIPT), None),
        ("the promised one", format!("{}#sha256={digest}", serve("200 OK", SCRIPT)), None),
        (
            "another than promised",
            format!("{}#sha256={digest}", serve("200 OK", "touch $OUT/ran")),
            Some("its SHA-256 is "),
        ),
        ("a checksum that is none", format!("{}#sha256=12", serve("200 OK", SCRIPT)), Some("the checksum after")),
        ("a page", serve("200 OK", "<!DOCTYPE html><html>touch $OUT/ran"), Some("it is an HTML page")),
        ("an error", serve("404 Not Found", SCRIPT), Some("the server answered 404")),
        ("nothing", serve("200 OK", ""), Some("it is empty")),
    ] {
        // At every boot, before the stages behind 15, with the environment of those before.
        let fake = Fake::new();
        fake.stage("05-app-env.sh", "export FROM_STAGE=05");
        fake.stage("20-see.sh", "echo \"see [$LOST]\" >>$OUT/ran");
        for _ in 0..2 {
            let output = fake.run_with(&[("HOTFIX_SCRIPT", &url)], &["run", "--only", "05-app-env,15,20"]);
            assert_eq!(output.status.code(), Some(0), "{what}");
        }
        let (outcome, message) = fake.recorded("15-hotfix.sh");
        assert!(!message.contains("in-query"), "{what}: {message}");
        match reason {
            None => {
                assert_eq!(
                    (outcome.as_str(), fake.read_out("ran").as_str()),
                    ("done", "ran 05 \nsee []\nran 05 \nsee []\n"),
                    "{what}"
                );
            }
            Some(reason) => {
                assert_eq!((outcome.as_str(), fake.read_out("ran").as_str()), ("failed", "see []\nsee []\n"), "{what}");
                assert!(message.contains(reason), "{what}: {message}");
            }
        }

        // In place of the whole sequence; one that cannot be had leaves it to run.
        let fake = Fake::new();
        fake.supervisor("#!/bin/sh\nexit 0\n");
        fake.stage("20-see.sh", "echo sequence >>$OUT/ran");
        let output = fake.run_with(&[("BOOT_SCRIPT", &url)], &["--no-cert-gen", "--sync-home=x"]);
        assert_eq!(output.status.code(), Some(0), "{what}");
        let (outcome, message) = fake.recorded("BOOT_SCRIPT");
        match reason {
            None => assert_eq!(
                (outcome.as_str(), fake.read_out("ran").as_str()),
                ("done", "ran  --no-cert-gen --sync-home=x\n"),
                "{what}"
            ),
            Some(reason) => {
                assert_eq!((outcome.as_str(), fake.read_out("ran").as_str()), ("failed", "sequence\n"), "{what}");
                assert!(message.contains(reason) && !message.contains("in-query"), "{what}: {message}");
                let said = String::from_utf8(output.stdout).unwrap();
                assert!(said.contains("the built-in sequence runs in its place"), "{what}: {said}");
            }
        }
    }
}

#[test]
fn both_scripts_are_fetched_as_patiently_and_as_carefully_as_provisioning_scripts() {
    let boot = |variable: &str, answers: Vec<Answer>| {
        let server = Server::sequence(answers);
        let fake = Fake::new();
        fake.supervisor("#!/bin/sh\nexit 0\n");
        let (stage, arguments) = match variable {
            "HOTFIX_SCRIPT" => ("15-hotfix.sh", &["run", "--only", "15"][..]),
            _ => (variable, &["--no-cert-gen"][..]),
        };
        let output = fake.run_with(&[(variable, &server.url("/script.sh"))], arguments);
        assert_eq!(output.status.code(), Some(0), "{variable}");
        let (outcome, message) = fake.recorded(stage);
        let times: Vec<SystemTime> = server.requests().iter().map(|request| request.at).collect();
        (outcome, message, fake.read_out("ran"), times)
    };
    for variable in ["HOTFIX_SCRIPT", "BOOT_SCRIPT"] {
        let (outcome, message, ran, times) = boot(
            variable,
            vec![
                Answer::new("429 Slow down", "Retry-After: 2\r\n", "echo refused >>$OUT/ran"),
                Answer::reset_after("echo half >>$OUT/ran\n"),
                Answer::ok("echo whole >>$OUT/ran\n"),
            ],
        );
        assert_eq!((outcome.as_str(), ran.as_str(), times.len()), ("done", "whole\n", 3), "{variable}: {message}");
        // Without the header, one second would do.
        assert!(times[1].duration_since(times[0]).unwrap() >= Duration::from_secs(2), "{variable}");

        let (outcome, message, ran, times) = boot(variable, vec![Answer::endless("echo endless >>$OUT/ran\n")]);
        assert_eq!((outcome.as_str(), ran.as_str(), times.len()), ("failed", "", 1), "{variable}: {message}");
        assert!(message.contains("it is larger than 16777216 bytes"), "{variable}: {message}");
    }
}

#[test]
fn the_output_of_a_hotfix_is_logged_and_its_failure_costs_nothing_else() {
    let fake = Fake::new();
    fake.write("/fix.sh", "echo fixed; echo oops >&2; exit 7\n");
    fake.stage("20-see.sh", "echo ran >$OUT/seen");
    for _ in 0..2 {
        let output = fake.run_with(&[("HOTFIX_SCRIPT", "/fix.sh")], &["run", "--only", "15,20"]);
        assert!(String::from_utf8(output.stdout).unwrap().contains("fixed\noops\n"));
    }
    assert_eq!(fs::read_to_string(fake.path("/var/log/hotfix.log")).unwrap(), "fixed\noops\nfixed\noops\n");
    assert_eq!(fake.recorded("15-hotfix.sh"), ("failed".into(), "`/fix.sh` exited with 7".into()));
    assert_eq!(fake.read_out("seen"), "ran\n");
    fake.run(&["run", "--only", "15"]);
    assert_eq!(fake.recorded("15-hotfix.sh"), ("skipped".into(), "no HOTFIX_SCRIPT".into()));
}

#[test]
fn what_replaces_the_sequence_is_chosen_by_the_variable_before_the_image() {
    let fake = Fake::new();
    fake.supervisor(SUPERVISOR);
    fake.stage("20-never.sh", "touch $OUT/never");
    fake.write("/opt/instance-tools/bin/boot_custom.sh", "#!/bin/sh\necho \"image $*\" >>$OUT/ran; exit 6\n");
    fake.write("/template.sh", "#!/bin/sh\necho \"template $*\" >>$OUT/ran; exit 7\n");
    for (env, code, replaced_by) in
        [(&[][..], 6, "boot_custom.sh"), (&[("BOOT_SCRIPT", "/template.sh")], 7, "BOOT_SCRIPT")]
    {
        let plan = String::from_utf8(fake.run_with(env, &["plan"]).stdout).unwrap();
        assert!(plan.ends_with(&format!("{replaced_by} replaces all of this\n")), "{plan}");
        assert_eq!(fake.run_with(env, &["--no-cert-gen"]).status.code(), Some(code));
        assert_eq!(fake.recorded(replaced_by), ("failed".into(), format!("exited with {code}")));
    }
    assert_eq!(fake.read_out("ran"), "image --no-cert-gen\ntemplate --no-cert-gen\n");
    // A part that is run by hand is a part of the built-in sequence.
    assert_eq!(fake.run(&["run", "--only", "12"]).status.code(), Some(0));
    assert!(!fake.out("never").exists());
}

#[test]
fn a_manifest_is_said_once_and_recorded_in_both_places() {
    for (env, file, name) in [
        (&[("PROVISIONING_MANIFEST", "https://example.invalid/m.yaml")][..], None, "PROVISIONING_MANIFEST is set"),
        (&[], Some("/provisioning.yaml"), "/provisioning.yaml is there"),
        (&[("PROVISIONING_MANIFEST", "x")], Some("/provisioning.yaml"), "PROVISIONING_MANIFEST is set"),
    ] {
        let fake = Fake::new();
        fake.supervisor("#!/bin/sh\nexit 0\n");
        if let Some(file) = file {
            fake.write(file, "packages: [x]\n");
        }
        let output = fake.run_with(env, &["--no-cert-gen"]);
        assert_eq!(output.status.code(), Some(0));
        let note = format!("{name}, but this version does not run manifests");
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.matches("does not run manifests").count(), 1, "{said}");
        assert_eq!(fake.recorded("75-provisioning-script.sh"), ("gave-up".into(), note.clone()));
        let failures = fs::read_to_string(fake.path("/var/log/vast_boot_failures")).unwrap();
        assert_eq!(failures, format!("75-provisioning-script: {note}\n"));
    }
}
