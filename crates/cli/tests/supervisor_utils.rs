//! The utilities that applications' scripts source, with the real binaries, as scripts use them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../images");
const BINARIES: [&str; 3] =
    [env!("CARGO_BIN_EXE_vast-logtee"), env!("CARGO_BIN_EXE_vast-pty"), env!("CARGO_BIN_EXE_vast-portal")];

/// Lays a container out in a mount namespace of its own and runs the shell code `$RUN` in it. There, `sleep` takes no
/// time unless it is for less than a second; what it was asked for is in `/slept`.
const STAGE: &str = r#"
set -euo pipefail
cd "$ROOT"
mkdir -p usr dev proc etc tmp var/log workspace opt/supervisor-scripts opt/instance-tools/bin fake/bin
chmod 1777 tmp
for link in bin sbin lib lib64; do ln -s "usr/$link" "$link"; done
mount --bind /usr usr
mount -o remount,bind,ro usr
mount --rbind /dev dev
mount --rbind /proc proc
mount --bind "$IMAGES/base/ROOT/opt/supervisor-scripts" opt/supervisor-scripts
for binary in $BINARIES; do touch "opt/instance-tools/bin/${binary##*/}"; mount --bind "$binary" "opt/instance-tools/bin/${binary##*/}"; done
cat > fake/bin/sleep << 'END'
#!/bin/bash
[[ $1 == 0.* ]] && exec /usr/bin/sleep "$1"
echo "$1" >> /slept
END
chmod +x fake/bin/sleep
exec chroot . /usr/bin/env -i PATH=/fake/bin:/usr/bin:/bin PROC_NAME=app HOME=/root /bin/bash -c "$RUN"
"#;

/// What a script begins with.
const HEAD: &str = r#"#!/bin/bash
utils=/opt/supervisor-scripts/utils
. "${utils}/logging.sh"
. "${utils}/cleanup_generic.sh"
. "${utils}/environment.sh"
"#;

/// A container's file system, which stays for inspection.
struct Container {
    root: tempfile::TempDir,
}

impl Container {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn exists(&self, path: &str) -> bool {
        self.root.path().join(path).symlink_metadata().is_ok()
    }

    /// Runs shell code in the container.
    fn run(&self, code: &str) -> Output {
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "bash", "-c", STAGE])
            .env("ROOT", self.root.path())
            .env("IMAGES", Path::new(IMAGES).canonicalize().unwrap())
            .env("BINARIES", BINARIES.join(" "))
            .env("RUN", code)
            .output()
            .unwrap()
    }

    /// Runs an application's script: the usual head and then `body`.
    fn script(&self, body: &str) -> Output {
        self.write("app.sh", &format!("{HEAD}{body}"));
        self.run("exec bash /app.sh")
    }
}

/// `/etc/portal.yaml` with applications of these labels.
fn portal_yaml(labels: &[&str]) -> String {
    let application = |label: &&str| {
        format!(
            "  {label}:\n    hostname: localhost\n    external_port: 18080\n    internal_port: 8080\n    open_path: /\n    \
             name: {label}\n"
        )
    };
    "applications:\n".to_owned() + &labels.iter().map(application).collect::<Vec<_>>().concat()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn output_goes_to_both_logs_and_to_supervisor() {
    let container = Container::new();
    let output = container.script("printf '\\033[32mgreen\\033[0m\\n'; echo problem >&2; exit 7");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(7), "green\nproblem\n"));
    assert_eq!(container.read("var/log/app.log"), "green\nproblem\n");
    assert_eq!(container.read("var/log/portal/app.log"), "\u{1b}[32mgreen\u{1b}[0m\nproblem\n");
}

#[test]
fn a_script_may_name_its_log_and_need_no_name_of_its_own() {
    let container = Container::new();
    container.write(
        "special.sh",
        "#!/bin/bash\n. /opt/supervisor-scripts/utils/logging.sh /var/log/portal/own.log\necho one\n",
    );
    container.write("plain.sh", "#!/bin/bash\n. /opt/supervisor-scripts/utils/logging.sh\necho \"two $1\"\n");
    container.run("bash /special.sh | cat; unset PROC_NAME; bash /plain.sh argument | cat");
    assert_eq!(container.read("var/log/portal/own.log"), "one\n");
    assert_eq!(container.read("var/log/portal/plain.log"), "two argument\n");
}

#[test]
fn pty_gives_a_terminal_unless_it_is_disabled() {
    let container = Container::new();
    let output = container.script(
        r#"pty bash -c 'test -t 1 && echo "terminal $1"; exit 3' bash 'one argument'; echo "code $?"
        DISABLE_PTY=true; pty bash -c 'test -t 1 || echo plain'"#,
    );
    assert_eq!(text(&output.stdout), "terminal one argument\ncode 3\nplain\n");
}

#[test]
fn the_environment_files_are_loaded_and_exported() {
    let container = Container::new();
    container.write("etc/environment", "FROM_SYSTEM=\"a value\"\nWORKSPACE=/data\nPATH=/usr/bin:/bin\n");
    container.write(
        "data/.env",
        "FROM_USER='b'\r\nFROM_BOTH=\"${FROM_SYSTEM} and ${FROM_USER}\"\r\nfalse\noptions=kept\nunset_is=${NOT_SET}\nRETURNS='a\rb'\r\n",
    );
    let output = container.script(
        r#"[[ ${RETURNS} == $'a\rb' ]] && echo "A value has its carriage return"; env | grep -E '^(FROM_|WORKSPACE|DATA_DIRECTORY|options|unset_is)' | sort; type -P vast-portal; [[ $- == *a* ]] || echo "no allexport""#,
    );
    assert_eq!(
        text(&output.stdout),
        "A value has its carriage return\nDATA_DIRECTORY=/data\nFROM_BOTH=a value and b\nFROM_SYSTEM=a value\nFROM_USER=b\nWORKSPACE=/data\noptions=kept\n\
         unset_is=\n/opt/instance-tools/bin/vast-portal\nno allexport\n"
    );
}

#[test]
fn strict_scripts_keep_their_options_and_are_not_ended() {
    let container = Container::new();
    container.write("etc/environment", "A=${NOT_SET}\nfalse\n").write("etc/portal.yaml", &portal_yaml(&["App"]));
    container.write("app.sh", &HEAD.replace("bash\n", "bash\nset -euo pipefail\n"));
    let script = container.read("app.sh")
        + ". \"${utils}/exit_serverless.sh\"\n. \"${utils}/exit_portal.sh\" \"App\"\necho \"$-\" | tr -cd eu; set -o | grep pipefail; false; echo not reached\n";
    container.write("app.sh", &script);
    let output = container.run("exec bash /app.sh");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).starts_with("eu") && text(&output.stdout).contains("on\n"), "{output:?}");
    assert!(!text(&output.stdout).contains("not reached"));
}

#[test]
fn an_application_that_is_not_listed_skips_itself_and_leaves_a_marker() {
    let container = Container::new();
    container.write("etc/portal.yaml", &portal_yaml(&["Other App"]));
    let body = ". \"${utils}/exit_portal.sh\" \"My App\"\necho started\n";
    let output = container.script(body);
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "Skipping app startup (not in /etc/portal.yaml)\n"),
        "{output:?}"
    );
    assert_eq!(container.read("slept"), "6\n");
    assert!(container.exists("tmp/supervisor-skip/app"));
    assert_eq!(container.read("var/log/app.log"), "Skipping app startup (not in /etc/portal.yaml)\n");

    container.write("etc/portal.yaml", &portal_yaml(&["My App"]));
    assert_eq!(text(&container.again("exec bash /app.sh").stdout), "started\n");
    assert!(!container.exists("tmp/supervisor-skip/app"));
}

impl Container {
    /// A second start in the same file system.
    fn again(&self, code: &str) -> Output {
        for link in ["bin", "sbin", "lib", "lib64"] {
            fs::remove_file(self.root.path().join(link)).unwrap();
        }
        self.run(code)
    }
}

#[test]
fn a_portal_file_that_decides_nothing_is_an_error_for_supervisor_to_repeat() {
    let container = Container::new();
    container.write("etc/portal.yaml", "- nonsense\n");
    let output = container.script(". \"${utils}/exit_portal.sh\" \"My App\"\necho started\n");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("cannot tell") && !text(&output.stdout).contains("started"), "{output:?}");
    assert_eq!(container.read("slept"), "6\n");
}

#[test]
fn the_marker_follows_no_link() {
    let container = Container::new();
    container.write("etc/portal.yaml", &portal_yaml(&["Other"])).write("precious", "kept");
    fs::create_dir_all(container.root.path().join("tmp/supervisor-skip")).unwrap();
    std::os::unix::fs::symlink("/precious", container.root.path().join("tmp/supervisor-skip/app")).unwrap();
    let body = ". \"${utils}/exit_portal.sh\" \"My App\"\n";
    container.script(body);
    assert_eq!(container.read("precious"), "kept");
    assert!(container.root.path().join("tmp/supervisor-skip/app").symlink_metadata().unwrap().is_file());

    fs::remove_dir_all(container.root.path().join("tmp/supervisor-skip")).unwrap();
    std::os::unix::fs::symlink("/workspace", container.root.path().join("tmp/supervisor-skip")).unwrap();
    let output = container.again("exec bash /app.sh");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(fs::read_dir(container.root.path().join("workspace")).unwrap().count(), 0);
}

#[test]
fn serverless_mode_skips_what_is_not_essential_and_asks_no_portal() {
    let container = Container::new();
    let output = container.script("SERVERLESS=true\n. \"${utils}/exit_portal.sh\" \"My App\"\necho still here\n. \"${utils}/exit_serverless.sh\"\necho started\n");
    assert_eq!(
        (output.status.code(), text(&output.stdout)),
        (Some(0), "still here\nSkipping app startup (serverless mode)\n")
    );
    let other = Container::new();
    let output = other.script("SERVERLESS=false\n. \"${utils}/exit_serverless.sh\"\necho started\n");
    assert_eq!(text(&output.stdout), "started\n");
}

/// Starts `app.sh` in its own process group, and says which of the processes that wrote their ids to /pids are left.
const WATCH: &str = r#"
set -m
bash /app.sh > /output &
set +m
script=$!
until [[ -s /ready ]]; do /usr/bin/sleep 0.02; done
SIGNAL
wait "$script"
echo "code $?"
for pid in $(cat /pids); do
    if read -r _ _ state _ < "/proc/$pid/stat" && [[ $state != Z ]]; then echo "left: $pid"; fi
done 2> /dev/null
"#;

#[test]
fn the_whole_process_tree_ends_with_the_script_and_the_exit_code_is_kept() {
    let container = Container::new();
    let body = r#"
        bash -c 'echo $$ >> /pids; bash -c "echo \$\$ >> /pids; exec /usr/bin/sleep 300" & wait' &
        setsid bash -c 'echo $$ >> /pids; exec /usr/bin/sleep 300' &
        bash -c 'echo $$ >> /pids; kill -STOP $$; exec /usr/bin/sleep 300' &
        until [[ $(wc -l < /pids) == 4 ]]; do /usr/bin/sleep 0.02; done
        echo ready > /ready
        exit 42
    "#;
    container.write("app.sh", &format!("{HEAD}{body}")).write("pids", "");
    let output = container.run(&WATCH.replace("SIGNAL", ":"));
    assert_eq!(text(&output.stdout), "code 42\n", "{output:?}");
}

#[test]
fn a_signal_ends_the_tree_and_what_ignores_it_is_killed() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let container = Container::new();
        let body = r#"
            bash -c 'trap "" TERM INT; echo $$ >> /pids; /usr/bin/sleep 300 & echo $! >> /pids; while :; do wait; done' &
            bash -c 'trap "echo last words; exit" TERM; echo $$ >> /pids; while :; do /usr/bin/sleep 0.05; done' &
            until [[ $(wc -l < /pids) == 3 ]]; do /usr/bin/sleep 0.02; done
            echo ready > /ready
            wait
        "#;
        container.write("app.sh", &format!("{HEAD}{body}")).write("pids", "");
        let output = container.run(&WATCH.replace("SIGNAL", &format!("kill -s {signal} \"$script\"")));
        assert_eq!(text(&output.stdout), format!("code {code}\n"), "{output:?}");
        assert!(container.read("output").contains("last words\n"), "{}", container.read("output"));
        assert!(container.read("var/log/app.log").contains("last words\n"));
    }
}

fn shell_scripts(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            shell_scripts(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "sh") {
            found.push(path);
        }
    }
}

#[test]
fn every_shell_script_of_the_images_passes_shellcheck() {
    let mut scripts = Vec::new();
    shell_scripts(Path::new(IMAGES), &mut scripts);
    assert!(scripts.len() >= 10, "{scripts:?}");
    let output = Command::new("shellcheck")
        .args(["--external-sources", "--exclude=SC1091", "--source-path=SCRIPTDIR", "--source-path"])
        .arg(Path::new(IMAGES).join("base/ROOT/opt/supervisor-scripts/utils"))
        .args(&scripts)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stdout));
}

#[test]
fn the_programs_of_the_base_image_follow_the_guides_template() {
    let base = Path::new(IMAGES).join("base/ROOT");
    for name in ["caddy", "instance_portal", "jupyter", "cron", "tensorboard", "syncthing"] {
        let expected = format!(
            "[program:{name}]\nenvironment=PROC_NAME=\"%(program_name)s\"\ncommand=/opt/supervisor-scripts/{name}.sh\n\
             autostart=true\nautorestart=true\nexitcodes=0\nstartsecs=0\nstopasgroup=true\nkillasgroup=true\n\
             stopsignal=TERM\nstopwaitsecs=10\nstdout_logfile=/dev/stdout\nredirect_stderr=true\n\
             stdout_events_enabled=true\nstdout_logfile_maxbytes=0\nstdout_logfile_backups=0\n"
        );
        assert_eq!(fs::read_to_string(base.join(format!("etc/supervisor/conf.d/{name}.conf"))).unwrap(), expected);
        let script = base.join(format!("opt/supervisor-scripts/{name}.sh"));
        assert_eq!(script.metadata().unwrap().permissions().mode() & 0o111, 0o111, "{name}.sh is executable");
    }
}

#[test]
fn programs_that_are_not_installed_skip_themselves() {
    let container = Container::new();
    container.write("etc/portal.yaml", &portal_yaml(&["Tensorboard", "Syncthing", "Jupyter"]));
    for name in ["tensorboard", "syncthing", "jupyter"] {
        let start = format!("PROC_NAME={name} exec bash /opt/supervisor-scripts/{name}.sh");
        let output = if container.exists("bin") { container.again(&start) } else { container.run(&start) };
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let printed = text(&output.stdout);
        assert!(
            printed.starts_with(&format!("Skipping {name} startup (")) && printed.contains("not installed"),
            "{printed}"
        );
    }
}

#[test]
fn jupyter_is_left_to_a_platform_that_runs_it() {
    let container = Container::new();
    container.write("etc/portal.yaml", &portal_yaml(&["Jupyter"]));
    container.write(".launch", "nohup jupyter notebook &\n");
    container.write("venv/main/bin/jupyter", "#!/bin/bash\necho \"$PWD $0 $*\"\n");
    let start = "chmod +x /venv/main/bin/jupyter; PROC_NAME=jupyter exec bash /opt/supervisor-scripts/jupyter.sh";
    let output = container.run(start);
    assert_eq!(text(&output.stdout), "Skipping jupyter startup (the platform runs Jupyter)\n");
    let output = container.again(&format!("export JUPYTER_OVERRIDE=true JUPYTER_TYPE=lab; {start}"));
    let printed = text(&output.stdout);
    assert!(printed.contains("/ /venv/main/bin/jupyter lab --allow-root"), "{printed}");
    for option in
        ["--ip=127.0.0.1", "--port=18080", "--ServerApp.root_dir=/", "--FileContentsManager.preferred_dir=/workspace"]
    {
        assert!(printed.contains(option), "{printed}");
    }
}
