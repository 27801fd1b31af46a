//! Every defect by itself, as facts.

use super::*;

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    assert_eq!(diagnose(&healthy()), []);
    let report = Report::new(&healthy(), &Redactor::default());
    assert_eq!(report.verdict, Verdict::Healthy);
    assert!(report.areas.iter().all(|area| area.state == Severity::Ok), "{report:?}");
}

/// A way to break an instance, and what must be told of it: the area, how bad it is, and words of what is wrong, of the evidence and of
/// the remedy.
type Defect = (fn(&mut Facts), Area, Severity, [&'static str; 3]);

const DEFECTS: &[Defect] = &[
    (
        |facts| {
            facts.boot.record = Ok(None);
        },
        Area::Boot,
        Severity::Problem,
        ["no boot is recorded", "", "/opt/instance-tools/bin/entrypoint.sh"],
    ),
    (
        |facts| {
            with_stage(
                facts,
                stage("05-app-env.sh", "/etc/vast_boot.d/05-app-env.sh", Outcome::Failed, Some("exited with 3")),
            );
        },
        Area::Boot,
        Severity::Problem,
        [
            "05-app-env.sh failed",
            "exited with 3",
            "mend /etc/vast_boot.d/05-app-env.sh, then `vast-boot run --only 05-app-env.sh`",
        ],
    ),
    (
        |facts| {
            with_stage(
                facts,
                stage("20-x.sh", "/etc/vast_boot.d/20-x.sh", Outcome::TimedOut, Some("took longer than 5 s")),
            );
        },
        Area::Boot,
        Severity::Problem,
        ["20-x.sh took longer than allowed", "5 s", "VAST_BOOT_STAGE_TIMEOUT"],
    ),
    (
        |facts| {
            with_stage(
                facts,
                stage("55-tls-cert-gen.sh", "built-in", Outcome::GaveUp, Some("the server answered 500")),
            );
        },
        Area::Boot,
        Severity::Warning,
        ["55-tls-cert-gen.sh gave up", "500", "`vast-boot run --only 55-tls-cert-gen.sh`"],
    ),
    (
        |facts| {
            let record = facts.boot.record.as_mut().unwrap().as_mut().unwrap();
            (record.phase, record.exit_code) = (Phase::Ended, Some(137));
        },
        Area::Boot,
        Severity::Problem,
        ["the boot has ended with 137", "", "restart the instance"],
    ),
    (
        |facts| {
            facts.boot.runs = Some(false);
        },
        Area::Boot,
        Severity::Problem,
        ["process (1) is gone", "", "restart the instance"],
    ),
    (
        |facts| {
            let hour_ago = now() - 1.hour();
            with_stage(facts, StageRecord { start: hour_ago, ..stage("20-x.sh", "/x", Outcome::Running, None) });
        },
        Area::Boot,
        Severity::Warning,
        ["20-x.sh has been running for 3600 s", "", "VAST_BOOT_STAGE_TIMEOUT"],
    ),
    (
        |facts| {
            facts.boot.failures = vec!["37-sync-environment: hash differs".to_owned()];
        },
        Area::Boot,
        Severity::Warning,
        ["/var/log/vast_boot_failures", "hash differs", "act on the reasons"],
    ),
    (
        |facts| {
            facts.boot.provisioning_failed = true;
            facts.boot.provisioning_log = vec!["pip: no matching distribution".to_owned()];
            with_stage(
                facts,
                stage("75-provisioning-script.sh", "built-in", Outcome::Failed, Some("`p.sh` exited with 4")),
            );
        },
        Area::Boot,
        Severity::Problem,
        ["provisioning failed", "`p.sh` exited with 4\npip: no matching distribution", "`vast-boot run --only 75`"],
    ),
    (
        |facts| {
            facts.boot.provisioning = true;
        },
        Area::Boot,
        Severity::Problem,
        ["applications wait for /.provisioning", "", "`rm /.provisioning`"],
    ),
    (
        |facts| {
            facts.supervisor.programs = Err(Silence::NoSocket);
        },
        Area::Supervisor,
        Severity::Problem,
        ["Supervisor does not run", "", "`supervisord -c /etc/supervisor/supervisord.conf`"],
    ),
    (
        |facts| facts.supervisor.programs = Err(Silence::NoAnswer("timed out".to_owned(), vec!["CRIT x".to_owned()])),
        Area::Supervisor,
        Severity::Problem,
        ["does not answer", "timed out\nCRIT x", "/var/log/supervisord.log"],
    ),
    (
        |facts| {
            facts.supervisor.programs = Err(Silence::Forbidden);
        },
        Area::Supervisor,
        Severity::Unknown,
        ["only root may ask", "", "sudo"],
    ),
    (
        |facts| {
            with_program(facts, "app", |app| {
                app.state.state = "FATAL".to_owned();
                app.state.description = "can't find command '/x'".to_owned();
            });
        },
        Area::Supervisor,
        Severity::Problem,
        [
            "app cannot be started (FATAL)",
            "can't find command '/x'\nTraceback: it is broken",
            "`supervisorctl restart app`",
        ],
    ),
    (
        |facts| {
            with_program(facts, "app", |app| app.state.state = "BACKOFF".to_owned());
        },
        Area::Supervisor,
        Severity::Problem,
        ["app ends as soon as it is started", "Traceback", "/var/log/portal/app.log"],
    ),
    (
        |facts| {
            with_program(facts, "app", |app| app.crashes = vec!["exit status 1".to_owned(); 3]);
        },
        Area::Supervisor,
        Severity::Problem,
        [
            "app ends again and again: 3 times in 10 minutes, last with exit status 1",
            "Traceback",
            "`supervisorctl restart app`",
        ],
    ),
    (
        |facts| {
            with_program(facts, "caddy", |caddy| caddy.state.state = "STOPPED".to_owned());
        },
        Area::Supervisor,
        Severity::Problem,
        ["caddy is stopped", "", "`supervisorctl start caddy`"],
    ),
    (
        |facts| drop(listening(facts).remove(&17860)),
        Area::Ports,
        Severity::Problem,
        ["nothing listens on port 17860 (My App)", "", "`supervisorctl status`"],
    ),
    (
        |facts| drop(listening(facts).remove(&7860)),
        Area::Ports,
        Severity::Problem,
        ["Caddy does not listen on port 7860 (My App)", "caddy is RUNNING", "`supervisorctl restart caddy`"],
    ),
    (
        |facts| drop(listening(facts).insert(7860, BTreeSet::from(["python3".to_owned()]))),
        Area::Ports,
        Severity::Problem,
        ["port 7860 (My App) is taken by python3", "", "127.0.0.1:17860"],
    ),
    (
        |facts| {
            facts.ports.applications = Applications::Unreadable("it is cut off".to_owned());
        },
        Area::Ports,
        Severity::Problem,
        ["/etc/portal.yaml cannot be used", "it is cut off", "`vast-portal config`"],
    ),
    (
        |facts| {
            facts.ports.applications = Applications::Absent;
        },
        Area::Ports,
        Severity::Warning,
        ["no /etc/portal.yaml", "", "PORTAL_CONFIG"],
    ),
    (
        |facts| {
            facts.certificate.wanted = true;
            facts.certificate.pair = Pair::Unusable("the key does not belong to it".to_owned());
        },
        Area::Certificate,
        Severity::Problem,
        ["plain HTTP although ENABLE_HTTPS is true", "does not belong", "`vast-boot run --only 55`"],
    ),
    (
        |facts| (facts.certificate.wanted, facts.certificate.pair) = (true, Pair::Expired),
        Area::Certificate,
        Severity::Warning,
        ["expired", "", "`vast-boot run --only 55`"],
    ),
    (
        |facts| {
            facts.certificate.key_is_open = true;
        },
        Area::Certificate,
        Severity::Warning,
        ["can read the private key", "", "`chmod 600 /etc/instance.key`"],
    ),
    (
        |facts| {
            let silent = disk::Volume { places: vec!["/data".to_owned()], space: Err(disk::Missing::Silent) };
            facts.disk.push(silent);
        },
        Area::Disk,
        Severity::Problem,
        ["/data does not answer", "", "`mount | grep /data`"],
    ),
    (
        |facts| {
            facts.gpu.failure = Some("driver 535 is too old".to_owned());
        },
        Area::Gpu,
        Severity::Problem,
        ["CUDA could not be set up", "too old", "`vast-gpu plan`"],
    ),
    (
        |facts| {
            facts.gpu.probe = Err(gpu::Silence::Died("it was killed by signal 11: ".to_owned()));
        },
        Area::Gpu,
        Severity::Problem,
        ["hang or crash", "signal 11", "rent another"],
    ),
    (
        |facts| {
            facts.gpu.has_device = true;
        },
        Area::Gpu,
        Severity::Problem,
        ["a driver, but no GPU", "", "restart the instance"],
    ),
    (
        |facts| {
            facts.sync.items = 1;
            facts.sync.missing = vec![sync::Item { name: "app".to_owned(), under_way: false }];
        },
        Area::Sync,
        Severity::Problem,
        ["not in the workspace, although the image brings it: app", "", "`vast-boot run --only 36`"],
    ),
    (
        |facts| {
            facts.sync.leftovers =
                vec![sync::Leftover { name: ".sync_app.partial.x".to_owned(), bytes: Some(3 << 30), dead: true }];
        },
        Area::Sync,
        Severity::Warning,
        ["copies that were cut short take 3.0 GiB", ".sync_app.partial.x", "`vast-sync workspace`"],
    ),
    (
        |facts| {
            let target = "/workspace/.environment_sync/0123/venv/main".to_owned();
            facts.sync.dangling = vec![("/venv/main".to_owned(), target)];
        },
        Area::Sync,
        Severity::Problem,
        ["1 link to what the volume does not have", "/venv/main -> /workspace/.environment_sync", "attach the volume"],
    ),
    (
        |facts| facts.sync.interrupted = vec!["/root".to_owned()],
        Area::Sync,
        Severity::Warning,
        ["moves to the volume were cut short: /root", "", "`vast-sync home` complete"],
    ),
    (
        |facts| {
            facts.limits.memory = Some(limits::Share { used: 98, limit: 100 });
        },
        Area::Limits,
        Severity::Problem,
        ["98 B of 100 B memory", "", "`ps "],
    ),
    (
        |facts| {
            facts.limits.pids = Some(limits::Share { used: 91, limit: 100 });
        },
        Area::Limits,
        Severity::Warning,
        ["91 of 100 processes", "", "OMP_NUM_THREADS"],
    ),
    (
        |facts| {
            facts.limits.killed = 2;
        },
        Area::Limits,
        Severity::Warning,
        ["killed processes because the memory was used up (2)", "", "smaller model"],
    ),
];

#[test]
fn every_defect_is_found_alone_with_its_reason_and_remedy() {
    for (how, area, severity, [what, evidence, remedy]) in DEFECTS {
        let mut facts = healthy();
        how(&mut facts);
        let findings = diagnose(&facts);
        let [finding] = findings.as_slice() else { panic!("{what}: {findings:?}") };
        assert_eq!((finding.area, finding.severity), (*area, *severity), "{finding:?}");
        assert!(finding.what.contains(what), "{finding:?}");
        assert!(finding.evidence.join("\n").contains(evidence), "{finding:?}");
        assert!(finding.remedy.contains(remedy), "{finding:?}");
        let verdict = if *severity == Severity::Unknown { Verdict::CouldNotLook } else { Verdict::Problems };
        let report = Report::new(&facts, &Redactor::default());
        assert_eq!(report.verdict, verdict, "{what}");
        let text = render(&report, |_, word| word.to_owned());
        assert!(text.contains(remedy), "{text}");
    }
}

#[test]
fn while_the_instance_is_set_up_waiting_is_no_problem() {
    let mut facts = healthy();
    with_stage(&mut facts, stage("75-provisioning-script.sh", "built-in", Outcome::Running, None));
    facts.boot.provisioning = true;
    listening(&mut facts).clear();
    let report = Report::new(&facts, &Redactor::default());
    assert_eq!(report.verdict, Verdict::Healthy, "{report:?}");
    let notes: Vec<Area> = report.findings.iter().map(|finding| finding.area).collect();
    assert_eq!(notes, [Area::Boot, Area::Ports]);
}

#[test]
fn a_script_that_runs_in_place_of_the_sequence_is_no_boot_under_way() {
    let mut facts = healthy();
    with_stage(&mut facts, stage("BOOT_SCRIPT", "https://host/boot.sh", Outcome::Running, None));
    facts.boot.record.as_mut().unwrap().as_mut().unwrap().phase = Phase::Up;
    facts.boot.replaced_by = Some("BOOT_SCRIPT".to_owned());
    listening(&mut facts).remove(&17860);
    let seen: Vec<(Area, Severity)> = diagnose(&facts).iter().map(|found| (found.area, found.severity)).collect();
    assert_eq!(seen, [(Area::Boot, Severity::Note), (Area::Ports, Severity::Problem)]);
}

#[test]
fn a_port_that_the_status_page_has_is_handed_over_and_one_that_a_stranger_has_is_not() {
    let mut facts = healthy();
    listening(&mut facts).insert(7860, BTreeSet::from(["vast-boot".to_owned()]));
    let found = &diagnose(&facts)[0];
    assert!(found.what.starts_with("Caddy has not taken port 7860"), "{}", found.what);
    with_stage(&mut facts, stage("36-sync-workspace.sh", "built-in", Outcome::Running, None));
    assert_eq!(Report::new(&facts, &Redactor::default()).verdict, Verdict::Healthy);
    listening(&mut facts).insert(7860, BTreeSet::from(["nginx".to_owned()]));
    assert_eq!(Report::new(&facts, &Redactor::default()).verdict, Verdict::Problems);
}

#[test]
fn the_json_of_a_report_has_this_shape() {
    let mut facts = healthy();
    facts.limits.killed = 1;
    let report = serde_json::to_value(Report::new(&facts, &Redactor::default())).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&report), ["instance", "at", "verdict", "areas", "findings"]);
    assert_eq!((&report["verdict"], &report["at"]), (&"problems".into(), &"2026-01-02T03:04:05Z".into()));
    assert_eq!(keys(&report["areas"][0]), ["area", "state", "summary"]);
    let areas: Vec<&str> =
        report["areas"].as_array().unwrap().iter().map(|area| area["area"].as_str().unwrap()).collect();
    assert_eq!(areas, Area::ALL.map(Area::as_str));
    assert_eq!(keys(&report["findings"][0]), ["area", "severity", "what", "evidence", "remedy"]);
    assert_eq!(
        (&report["findings"][0]["area"], &report["findings"][0]["severity"]),
        (&"limits".into(), &"warning".into())
    );
}
