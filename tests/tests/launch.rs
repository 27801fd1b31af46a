//! The ways in which the platform starts an instance: its own Jupyter, SSH, and without anybody who visits (serverless).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;

use vast_tests::container::Container;
use vast_tests::instance::{
    LIMIT, TOKEN, curl, environment_of, inside, options, stages, until_running, until_served, until_up,
};
use vast_tests::prepared::prepare;
use vast_tests::ssh::{self, Key};

/// Waits until a program of Supervisor has said this.
fn until_said(container: &mut Container, program: &str, text: &str) {
    let what = format!("{program} says `{text}`");
    let log = format!("/var/log/{program}.log");
    let said = |container: &Container| fs::read_to_string(container.path(&log)).is_ok_and(|said| said.contains(text));
    container.until(&what, LIMIT, |container| said(container).then_some(())).unwrap();
}

fn portal_yaml(container: &Container) -> String {
    fs::read_to_string(container.path("/etc/portal.yaml")).unwrap()
}

#[test]
fn the_platforms_own_jupyter_is_linked_to_directly_and_the_images_stays_off() {
    let prepared = prepare().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&[]);
    options.prepare =
        "printf '#!/bin/bash\\njupyter notebook --ip=0.0.0.0 --port=8080 --allow-root &\\n' >.launch".to_owned();
    let mut container = Container::boot(&prepared.hello, folder.path(), &options).unwrap();
    until_served(&mut container).unwrap();
    until_said(&mut container, "jupyter", "Skipping jupyter startup (the platform runs Jupyter)");
    let yaml = portal_yaml(&container);
    let jupyter = yaml.split_once("  Jupyter:\n").unwrap().1;
    assert!(jupyter.contains("external_port: 8080\n") && jupyter.contains("internal_port: 8080\n"), "{yaml}");
    let caddyfile = fs::read_to_string(container.path("/etc/Caddyfile")).unwrap();
    assert!(caddyfile.contains(":7860 {") && !caddyfile.contains(":8080"), "the port is the platform's: {caddyfile}");
    assert!(environment_of(&container, "jupyter-notebook").is_err(), "the image's own Jupyter runs");
}

#[test]
fn an_instance_of_ssh_has_no_jupyter_and_roots_key_opens_it_for_user_too() {
    let prepared = prepare().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = Key::new(folder.path(), "key").unwrap();
    let stranger = Key::new(folder.path(), "stranger").unwrap();
    let mut options = options(&[("MODEL", "meta llama/8B")]);
    options.prepare = key.install().unwrap() + "printf '#!/bin/bash\\nservice ssh start\\n' >.launch\n";
    let mut container = Container::boot(&prepared.hello, folder.path(), &options).unwrap();
    until_served(&mut container).unwrap();
    until_said(&mut container, "jupyter", "Skipping jupyter startup (not in /etc/portal.yaml)");
    let yaml = portal_yaml(&container);
    assert!(yaml.contains("  Hello:\n") && !yaml.to_lowercase().contains("jupyter"), "{yaml}");
    assert!(container.path("/tmp/supervisor-skip/jupyter").exists());

    // With PAM, as Debian configures it, and without: then an account whose password is locked is refused.
    for (port, pam) in [(22, true), (2222, false)] {
        ssh::serve(&container, port, &[if pam { "UsePAM=yes" } else { "UsePAM=no" }]).unwrap();
        for (user, home) in [("root", "/root"), ("user", "/home/user")] {
            // Without PAM nobody reads /etc/environment for a command, and Debian's .bashrc stops where it is no terminal.
            let (ask, model) = if pam { ("; echo $MODEL", "\nmeta llama/8B") } else { ("", "") };
            let said = ssh::log_in(&mut container, port, &key, user, &format!("id -un; pwd -P{ask}")).unwrap().unwrap();
            assert_eq!(said, format!("{user}\n{home}{model}"), "UsePAM: {pam}");
            assert!(ssh::log_in(&mut container, port, &stranger, user, "true").unwrap().is_err(), "{user}");
        }
    }
    // What a person gets who opens a terminal.
    let terminal = "bash -ic 'pwd; echo $MODEL; python -c \"import sys; print(sys.prefix)\"' 2>/dev/null";
    let said = ssh::log_in(&mut container, 22, &key, "user", terminal).unwrap().unwrap();
    assert_eq!(said, "/workspace\nmeta llama/8B\n/venv/main");
    let keys = inside(&container, "stat", &["-c", "%U %g %a", "/home/user/.ssh", "/home/user/.ssh/authorized_keys"]);
    assert_eq!(keys.unwrap(), "user 0 700\nuser 0 600");
}

#[test]
fn without_visitors_the_application_runs_and_all_that_belongs_to_the_portal_stays_off() {
    let prepared = prepare().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&[("SERVERLESS", "true")]);
    options.prepare = "mkdir -p etc/vast_boot.d\n\
        echo 'echo \"$update_portal $update_vast_cli $PORTAL_CONFIG\" >/seen' >etc/vast_boot.d/60-see.sh\n"
        .to_owned();
    let mut container = Container::boot(&prepared.hello, folder.path(), &options).unwrap();
    until_running(&mut container, &["hello", "cron"]).unwrap();
    for program in ["caddy", "instance_portal", "jupyter"] {
        until_said(&mut container, program, &format!("Skipping {program} startup (serverless mode)"));
    }
    // Its port behind Caddy, which nobody stands in front of.
    container
        .until("hello answers", LIMIT, |container| {
            let (status, _) = curl(container, &["http://127.0.0.1:17860/health"]).ok()?;
            (status == 200).then_some(())
        })
        .unwrap();
    let seen = fs::read_to_string(container.path("/seen")).unwrap();
    assert!(seen.starts_with("false false localhost:1111:"), "{seen}");
    for (port, path) in [(1111, "/"), (7860, "/health"), (8080, "/"), (11111, "/health"), (18080, "/")] {
        let bearer = format!("Authorization: Bearer {TOKEN}");
        let answer = curl(&container, &["-H", &bearer, &format!("http://127.0.0.1:{port}{path}")]).unwrap();
        assert_eq!(answer.0, 0, "port {port} answers: {}", answer.1);
    }
    until_up(&mut container).unwrap();
    let failed: Vec<_> =
        stages(&container).unwrap().into_iter().filter(|(_, (outcome, _))| outcome == "failed").collect();
    assert!(failed.is_empty(), "{failed:?}");
}
