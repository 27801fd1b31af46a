//! `vast-boot doctor` on fake roots with a real Supervisor, a real Caddy, real listeners and real filesystems.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use vast_boot::certificate;

use super::harness::{Fake, Started, VAST_BOOT, wait_until};

/// A secret that only Supervisor's environment holds, and that a program tells its log.
const SECRET: &str = "hf_MARKofAsecretThatNobodyMaySee42";

/// An instance that is up: its boot is recorded, an application listens, Caddy serves it, the certificate is usable.
struct Instance {
    fake: Fake,
    application: Option<TcpListener>,
    internal: u16,
    external: u16,
    supervisord: Option<Started>,
}

impl Instance {
    fn new() -> Self {
        let fake = Fake::new();
        for directory in ["workspace/app", "opt/workspace-internal/app", "tmp", "var/run", "run/vast", "var/log/portal"]
        {
            fs::create_dir_all(fake.path(directory)).unwrap();
        }
        // Processes and ports are this machine's.
        symlink("/proc", fake.path("/proc")).unwrap();
        let application = TcpListener::bind("127.0.0.1:0").unwrap();
        let internal = application.local_addr().unwrap().port();
        // Free a moment ago; nothing else on this machine takes ports by number.
        let external = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        fake.write(
            "/etc/portal.yaml",
            &format!(
                "applications:\n  My App:\n    hostname: localhost\n    external_port: {external}\n    internal_port: {internal}\n    open_path: /\n    name: My App\n"
            ),
        );
        let key = certificate::new_key().unwrap();
        fake.write("/etc/instance.crt", &certificate::self_signed(&key, jiff::Timestamp::now()).unwrap());
        let key = fake.write("/etc/instance.key", &key.serialize_pem());
        fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
        let instance = Self { fake, application: Some(application), internal, external, supervisord: None };
        instance.record(&json!([
            {"stage": "10-prep-env.sh", "source": "built-in", "start": "2026-01-02T03:04:05Z", "duration_ms": 1.0, "outcome": "done"},
            {"stage": "95-supervisor-wait.sh", "source": "built-in", "start": "2026-01-02T03:04:05Z", "duration_ms": 0.0, "outcome": "running"},
        ]));
        instance
    }

    /// Records a boot that is up, with these stages; its process is this test.
    fn record(&self, stages: &Value) {
        let record = json!({"boot": "2026-01-02T03:04:05Z", "instance": "C.7", "pid": std::process::id(), "phase": "up", "stages": stages});
        self.fake.write("/run/vast/boot.json", &record.to_string());
    }

    /// Starts Supervisor with Caddy and these programs, and waits until Caddy runs.
    fn supervise(&mut self, programs: &str) {
        let root = self.fake.root();
        let at = root.display();
        self.fake.write(
            "/etc/Caddyfile",
            &format!("{{\n\tadmin off\n\tauto_https off\n}}\nhttp://:{} {{\n\trespond ok\n}}\n", self.external),
        );
        let configuration = self.fake.write(
            "/etc/supervisor/supervisord.conf",
            &format!(
                "[unix_http_server]\nfile={at}/var/run/supervisor.sock\nchmod=0700\n\
                 [supervisord]\nnodaemon=true\nuser=root\nlogfile={at}/var/log/supervisord.log\npidfile={at}/run/supervisord.pid\nchildlogdir={at}/tmp\n\
                 [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
                 [program:caddy]\ncommand=/usr/bin/caddy run --config {at}/etc/Caddyfile --adapter caddyfile\nstartsecs=0\nstopwaitsecs=2\n\
                 environment=HOME=\"{at}/tmp\",XDG_DATA_HOME=\"{at}/tmp\",XDG_CONFIG_HOME=\"{at}/tmp\"\n\
                 stdout_logfile={at}/var/log/portal/caddy.log\nredirect_stderr=true\n{programs}"
            ),
        );
        let mut command =
            self.fake.command("/usr/bin/supervisord", [OsStr::new("-n"), "-c".as_ref(), configuration.as_ref()]);
        command.env(format!("VAST_TCP_PORT_{}", self.external), "41234").env("ENABLE_HTTPS", "true");
        command.env("HF_TOKEN", SECRET).env("ONLY_SUPERVISOR_KNOWS", "kept value");
        self.supervisord = Some(Started::new(&mut command));
        wait_until("Supervisor answers", || self.fake.path("/var/run/supervisor.sock").exists());
    }

    fn doctor(&self, arguments: &[&str]) -> Output {
        let root = self.fake.root();
        let ours = ["doctor".as_ref(), "--root".as_ref(), root.as_os_str()];
        self.fake.command(VAST_BOOT, ours.into_iter().chain(arguments.iter().map(OsStr::new))).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn findings(output: &Output) -> Vec<Value> {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    report["findings"].as_array().unwrap().clone()
}

#[test]
fn a_healthy_instance_has_nothing_to_tell() {
    let mut instance = Instance::new();
    instance.supervise("");
    // Until then, what doctor says is that Caddy does not listen.
    wait_until("Caddy listens", || std::net::TcpStream::connect(("127.0.0.1", instance.external)).is_ok());
    let output = instance.doctor(&["--json"]);
    assert_eq!(findings(&output), Vec::<Value>::new());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = instance.doctor(&[]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.ends_with("C.7 is healthy\n") && said.contains("1 of 1 programs running"), "{said}");
    assert!(
        said.contains("1 application, 1 port behind Caddy") && said.contains("certificate  ok       usable\n"),
        "{said}"
    );
}

/// Runs doctor with a full volume as workspace and a read-only one as `/tmp`; both are gone when it ends.
const ON_BAD_VOLUMES: &str = "set -e
mount -t tmpfs -o size=24m none \"$ROOT/workspace\"
head -c 30m /dev/zero >\"$ROOT/workspace/fill\" 2>/dev/null || true
mount -t tmpfs -o ro none \"$ROOT/tmp\"
exec \"$BOOT\" doctor --root \"$ROOT\" --json --bundle \"$OUT/bundle.tar.gz\"";

fn break_it(instance: &mut Instance) -> TcpListener {
    let fake = &instance.fake;
    instance.record(&json!([
        {"stage": "05-app-env.sh", "source": "/etc/vast_boot.d/05-app-env.sh", "start": "2026-01-02T03:04:05Z", "duration_ms": 1.0, "outcome": "failed", "message": "exited with 3"},
        {"stage": "75-provisioning-script.sh", "source": "built-in", "start": "2026-01-02T03:04:05Z", "duration_ms": 1.0, "outcome": "failed", "message": "`p.sh` exited with 4"},
        {"stage": "95-supervisor-wait.sh", "source": "built-in", "start": "2026-01-02T03:04:05Z", "duration_ms": 0.0, "outcome": "running"},
    ]));
    fake.write("/.provisioning_failed", "");
    fake.write("/var/log/portal/provisioning.log", &format!("ERROR: no matching distribution; token={SECRET}\n"));
    let stranger = certificate::new_key().unwrap();
    fake.write("/etc/instance.key", &stranger.serialize_pem());
    fake.write("/run/vast-cuda-config-failed", "the driver is too old");
    fake.write("/sys/fs/cgroup/memory.events", "oom_kill 3\n");
    let log = fake.path("/var/log/looping.log");
    let taken = TcpListener::bind(("0.0.0.0", instance.external)).unwrap();
    instance.application = None;
    instance.supervise(&format!(
        "[program:absent]\ncommand=/no/such/program\nstartretries=0\n\
         [program:looping]\ncommand=/bin/sh -c \"echo cannot read the model with $HF_TOKEN; exit 3\"\nstartsecs=0\nautorestart=true\nexitcodes=0\n\
         stdout_logfile={}\n",
        log.display()
    ));
    let ends = || fs::read_to_string(instance.fake.path("/var/log/supervisord.log")).unwrap_or_default();
    wait_until("a program ends again and again", || {
        ends().matches("exited: looping (exit status 3; not expected)").count() >= 3
    });
    wait_until("a program is given up", || ends().contains("gave up: absent"));
    taken
}

#[test]
fn an_instance_that_is_broken_in_many_ways_has_each_told_with_its_remedy() {
    let mut instance = Instance::new();
    let _taken = break_it(&mut instance);
    let fake = &instance.fake;
    let mut command = fake.command("unshare", ["--mount", "sh", "-c", ON_BAD_VOLUMES]);
    let output = command.env("ROOT", fake.root()).env("BOOT", VAST_BOOT).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let found = findings(&output);
    let (internal, external) = (instance.internal, instance.external);
    let me = fs::read_to_string("/proc/self/comm").unwrap();
    for (area, what, evidence, remedy) in [
        ("boot", "05-app-env.sh failed".to_owned(), "exited with 3", "mend /etc/vast_boot.d/05-app-env.sh"),
        ("boot", "provisioning failed".to_owned(), "no matching distribution", "`vast-boot run --only 75`"),
        (
            "supervisor",
            "absent cannot be started (FATAL)".to_owned(),
            "/no/such/program",
            "`supervisorctl restart absent`",
        ),
        (
            "supervisor",
            "looping ends again and again".to_owned(),
            "cannot read the model",
            "mend what /var/log/looping.log says",
        ),
        ("ports", format!("nothing listens on port {internal} (My App)"), "absent is FATAL", "`supervisorctl status`"),
        ("ports", format!("port {external} (My App) is taken by"), "", "then `supervisorctl restart caddy`"),
        (
            "certificate",
            "plain HTTP although ENABLE_HTTPS is true".to_owned(),
            "does not belong",
            "`vast-boot run --only 55`",
        ),
        ("certificate", "can read the private key".to_owned(), "", "`chmod 600 /etc/instance.key`"),
        ("disk", "/workspace is full".to_owned(), "", "`du -xh /workspace"),
        ("disk", "/tmp is mounted read-only".to_owned(), "", "`mount -o remount,rw /tmp`"),
        ("gpu", "CUDA could not be set up".to_owned(), "too old", "`vast-gpu plan`"),
        ("sync", "not in the workspace, although the image brings it: app".to_owned(), "", "`vast-boot run --only 36`"),
        (
            "limits",
            "the kernel has killed processes because the memory was used up (3)".to_owned(),
            "",
            "rent more memory",
        ),
    ] {
        let found = found.iter().find(|finding| finding["what"].as_str().unwrap().contains(&what));
        let found = found.unwrap_or_else(|| panic!("{what}: {}", text(&output.stdout)));
        assert_eq!(found["area"], area, "{found}");
        assert!(found["evidence"].to_string().contains(evidence), "{found}");
        assert!(found["remedy"].as_str().unwrap().contains(remedy), "{found}");
    }
    let taken = found.iter().find(|finding| finding["what"].as_str().unwrap().contains("is taken by")).unwrap();
    assert!(taken["what"].as_str().unwrap().contains(me.trim()), "{taken}");
    assert!(!text(&output.stdout).contains("MARK"), "{}", text(&output.stdout));

    let bundle = fake.out("bundle.tar.gz");
    assert_eq!(fs::metadata(&bundle).unwrap().mode() & 0o7777, 0o600);
    let unpacked = unpack(&bundle);
    assert!(!unpacked.contains("MARK") && !unpacked.contains("PRIVATE KEY-----\nM"));
    for kept in [
        "cannot read the model with ***",
        "ONLY_SUPERVISOR_KNOWS=kept value",
        "HF_TOKEN=***",
        "[program:looping]",
        "05-app-env.sh failed",
        "rw",
    ] {
        assert!(unpacked.contains(kept), "{kept} is not in the archive");
    }
}

#[test]
fn a_link_to_a_volume_that_is_not_there_is_told_with_where_it_leads() {
    let instance = Instance::new();
    instance.fake.write("/.env_hash", "0123abcd\n");
    fs::create_dir_all(instance.fake.path("/venv")).unwrap();
    let target = "/workspace/.environment_sync/0123abcd/venv/main";
    symlink(target, instance.fake.path("/venv/main")).unwrap();
    let found = findings(&instance.doctor(&["--json"]));
    let found = found.iter().find(|finding| finding["area"] == "sync").unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(
        (&found["severity"], &found["evidence"][0]),
        (&"problem".into(), &format!("/venv/main -> {target}").into())
    );
    fs::create_dir_all(instance.fake.path(target)).unwrap();
    let found = findings(&instance.doctor(&["--json"]));
    assert!(found.iter().all(|finding| finding["area"] != "sync"), "{found:?}");
}

#[test]
fn homes_that_cannot_be_looked_at_hide_nothing_of_the_rest() {
    let instance = Instance::new();
    fs::remove_dir(instance.fake.path("/workspace/app")).unwrap();
    instance.fake.write("/.env_hash", "0123abcd\n");
    instance.fake.write("/home", "no directory\n");
    fs::create_dir_all(instance.fake.path("/venv")).unwrap();
    symlink("/workspace/.environment_sync/0123abcd/venv/main", instance.fake.path("/venv/main")).unwrap();
    let found = findings(&instance.doctor(&["--json"]));
    for (severity, what) in [
        ("unknown", "the workspace could not be looked at"),
        ("problem", "not in the workspace, although the image brings it: app"),
        ("problem", "1 link to what the volume does not have"),
    ] {
        let found = found.iter().find(|finding| finding["area"] == "sync" && finding["what"] == what);
        assert_eq!(found.unwrap_or_else(|| panic!("{what}"))["severity"], severity);
    }
}

#[test]
fn the_remedy_of_a_failed_stage_ends_the_complaint() {
    let instance = Instance::new();
    let name = "05-app-env.sh";
    let record = |outcome: &str| json!({"stage": name, "source": "/etc/vast_boot.d/05-app-env.sh", "start": "2026-01-02T03:04:05Z", "duration_ms": 1.0, "outcome": outcome});
    instance.record(&json!([record("failed")]));
    let complaint = || {
        let found = findings(&instance.doctor(&["--json"]));
        found.into_iter().find(|finding| finding["what"].as_str().unwrap().starts_with(name))
    };
    let remedy = complaint().unwrap()["remedy"].as_str().unwrap().to_owned();
    assert!(remedy.ends_with("then `vast-boot run --only 05-app-env.sh`"), "{remedy}");
    instance.fake.stage(name, "exit 4");
    instance.fake.run(&["run", "--only", name]);
    assert_eq!(complaint().unwrap()["evidence"], json!(["exited with 4"]));
    instance.fake.stage(name, "exit 0");
    instance.fake.run(&["run", "--only", name]);
    assert_eq!(complaint(), None);
}

#[test]
fn applications_that_wait_for_a_marker_that_nobody_removes_are_told_of_it() {
    let mut instance = Instance::new();
    instance.application = None;
    instance.fake.write("/.provisioning", "");
    let output = instance.doctor(&["--json"]);
    let found = findings(&output);
    let found = found.iter().find(|finding| finding["remedy"] == "`rm /.provisioning`").unwrap();
    assert_eq!((&found["area"], &found["severity"]), (&"boot".into(), &"problem".into()));
    let ports = findings(&output).into_iter().find(|finding| finding["area"] == "ports").unwrap();
    assert_eq!(ports["severity"], "note", "the marker is the reason, not the application: {ports}");
}

/// All the text of an archive, and the names.
fn unpack(bundle: &Path) -> String {
    let tar = |flags: &str| Command::new("tar").arg(flags).arg(bundle).output().unwrap();
    let (names, content) = (tar("-tzf"), tar("-xzOf"));
    assert!(names.status.success() && content.status.success());
    text(&names.stdout) + &String::from_utf8_lossy(&content.stdout)
}

#[test]
fn a_supervisor_that_is_gone_is_told_from_one_that_left_its_socket() {
    let instance = Instance::new();
    let silent = |what: &str| {
        let output = instance.doctor(&["--json"]);
        let found = findings(&output);
        let found = found.iter().find(|finding| finding["area"] == "supervisor").unwrap();
        assert!(found["what"].as_str().unwrap().contains(what), "{found}");
        assert!(found["remedy"].as_str().unwrap().contains("`supervisord -c "), "{found}");
        assert_eq!(output.status.code(), Some(1));
    };
    silent("has no socket");
    drop(std::os::unix::net::UnixListener::bind(instance.fake.path("/var/run/supervisor.sock")).unwrap());
    silent("does not answer on its socket");
}

#[test]
fn what_could_not_be_done_is_told_from_what_was_found() {
    let instance = Instance::new();
    let fake = &instance.fake;
    let missing = fake.command(VAST_BOOT, ["doctor", "--root", "/no/such/root"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2), "{}", text(&missing.stderr));
    let bundle = instance.doctor(&["--bundle", "/no/such/directory/bundle.tar.gz"]);
    assert_eq!(bundle.status.code(), Some(2));
    assert!(
        text(&bundle.stderr).contains("cannot write `/no/such/directory/bundle.tar.gz`"),
        "{}",
        text(&bundle.stderr)
    );
    assert_eq!(instance.doctor(&["--frobnicate"]).status.code(), Some(64));
}
