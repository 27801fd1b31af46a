//! Rows of the stage table whose work only shows on a real `/`: what a shell, git and a venv find afterwards.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::harness::{Fake, VAST_BOOT};

/// This machine's files below an overlay whose writes go to a tmpfs, in namespaces of its own; then the script in `$SCRIPT`, in `/` of it.
const ENTER: &str = r#"
set -e
mount --make-rprivate /
mkdir -p "$OUT/over"
mount -t tmpfs none "$OUT/over"
mkdir "$OUT/over/upper" "$OUT/over/work" "$OUT/over/root"
for hidden in root home venv workspace opt/nvm etc/vast_boot.d; do
    mkdir -p "$(dirname "$OUT/over/upper/$hidden")"
    mknod "$OUT/over/upper/$hidden" c 0 0
done
mount -t overlay none -o "lowerdir=/,upperdir=$OUT/over/upper,workdir=$OUT/over/work" "$OUT/over/root"
cd "$OUT/over/root"
mount -t proc none proc
mount --rbind /dev dev
mount -t tmpfs none run
rm -f .provisioning etc/environment
mkdir -p root home/user workspace var/log etc/vast_boot.d
chmod 700 root
grep -q ^user: etc/passwd || echo 'user:x:1001:0::/home/user:/bin/bash' >>etc/passwd
chown 1001:0 home/user
exec chroot . /bin/bash -euc "$SCRIPT"
"#;

/// What the script printed.
#[track_caller]
fn in_place(script: &str) -> String {
    let fake = Fake::new();
    let mut command = fake.command("unshare", ["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER]);
    let output = command.env("BOOT", VAST_BOOT).env("SCRIPT", script).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_shell_finds_its_workspace_environment_tools_and_a_warning_while_the_instance_is_set_up() {
    let said = in_place(
        r#"
export WORKSPACE="/workspace/it's \$here"
mkdir -p "$WORKSPACE" /opt/nvm /venv/main/bin /venv/other/bin
echo 'NVM_LOADED=yes' >/opt/nvm/nvm.sh
echo 'export VIRTUAL_ENV=main' >/venv/main/bin/activate
echo 'export VIRTUAL_ENV=other' >/venv/other/bin/activate
echo 'FROM_ENV=env' >"$WORKSPACE/.env"
echo "alias mine='x'" >/root/.bashrc
export FROM_ETC=etc
"$BOOT" run --only 10,45 >/dev/null
show='echo "$PWD|$FROM_ETC|$FROM_ENV|$NVM_LOADED|$VIRTUAL_ENV"; /usr/bin/env | grep -c -e ^FROM_'
fresh() { env -i HOME="$1" PATH="$PATH" "${@:2}"; }
for home in /root /home/user; do
    echo "== $home interactive"; fresh $home bash -ic "$show" 2>/dev/null
    echo "== $home other"; (cd /; fresh $home bash -c ". ~/.bashrc; $show")
done
echo '== while it is set up'; touch /.provisioning; fresh /root bash -ic "$show" 2>/dev/null
echo '== other, while it is set up'; (cd /; fresh /root bash -c ". ~/.bashrc; $show")
rm /.provisioning
echo '== another venv'; fresh /root ACTIVE_VENV=other bash -ic "$show" 2>/dev/null
echo '== no venv'; "$BOOT" run --only 45 --no-activate-pyenv >/dev/null; fresh /root bash -ic "$show" 2>/dev/null
echo '== twice'; "$BOOT" run --only 45 >/dev/null; grep -c '^### Entrypoint setup ###$' /root/.bashrc
grep -c '^### End entrypoint setup ###$' /root/.bashrc; head -1 /root/.bashrc
stat -c %U /home/user/.bashrc
"#,
    );
    let workspace = "/workspace/it's $here";
    let inside = format!("{workspace}|etc|env|yes|main\n2\n");
    let warning = "This instance is still being set up: see /var/log/portal/provisioning.log\n";
    let mut expected = Vec::new();
    for home in ["/root", "/home/user"] {
        expected.push(format!("== {home} interactive\n{inside}== {home} other\n/|etc|env|yes|main\n2\n"));
    }
    expected
        .push(format!("== while it is set up\n{warning}{inside}== other, while it is set up\n/|etc|env|yes|main\n2\n"));
    expected.push(format!("== another venv\n{}", inside.replace("main", "other")));
    expected.push(format!("== no venv\n{}", inside.replace("main", "")));
    expected.push("== twice\n1\n1\nalias mine='x'\nuser\n".to_owned());
    assert_eq!(said, expected.concat());
}

#[test]
fn git_trusts_the_repositories_of_the_workspace_and_no_others() {
    let said = in_place(
        r#"
export GIT_CONFIG_NOSYSTEM=1
trusted() {
    for repository in app a/b/c/d a/b/c/d/e web/node_modules/x .environment_sync/id/x other/mounted 'it is "mine"'; do
        if HOME=$1 ${2-} git -C "/workspace/$repository" status >/dev/null 2>&1; then echo "$repository"; fi
    done
}
mkdir -p /workspace/other
mount -t tmpfs none /workspace/other
for repository in app a/b/c/d a/b/c/d/e web/node_modules/x .environment_sync/id/x other/mounted 'it is "mine"'; do
    git init -q "/workspace/$repository" 2>/dev/null
done
# Of a stranger: neither root nor user may use them as they are.
chown -R 2000:2000 /workspace
as_user='setpriv --reuid 1001 --regid 0 --clear-groups'
echo '== before'; trusted /root; trusted /home/user "$as_user"
"$BOOT" run --only 47 >/dev/null
echo '== root'; trusted /root
echo '== user'; trusted /home/user "$as_user"
echo '== again'; before=$(sha256sum /root/.gitconfig); "$BOOT" run --only 47 >/dev/null
[ "$before" = "$(sha256sum /root/.gitconfig)" ] && echo same
stat -c %U /home/user/.gitconfig
"#,
    );
    let trusted = "app\na/b/c/d\nit is \"mine\"\n";
    assert_eq!(said, format!("== before\n== root\n{trusted}== user\n{trusted}== again\nsame\nuser\n"));
}

#[test]
fn freezes_of_venvs_are_named_counted_and_linked_and_need_no_pip() {
    let said = in_place(
        r#"
python3 -m venv --without-pip --symlinks /venv/main
site=$(echo /venv/main/lib/python3*/site-packages)
for package in torch-2.9.1 numpy-2.0.0; do
    mkdir "$site/$package.dist-info"
    printf 'Metadata-Version: 2.1\nName: %s\nVersion: %s\n\n' "${package%-*}" "${package#*-}" >"$site/$package.dist-info/METADATA"
done
# A pip that would be noticed, wherever it is looked for.
for place in /venv/main/bin/pip /venv/main/bin/pip3 /usr/local/bin/pip /usr/local/bin/uv; do
    printf '#!/bin/sh\ntouch /pip-ran\n' >$place; chmod +x $place
done
mkdir "$site/pip"; echo 'open("/pip-ran", "w")' >"$site/pip/__main__.py"; echo 'open("/pip-ran", "w")' >"$site/pip/__init__.py"
export CONTAINER_ID=42
backups=/workspace/.venv-backups/42
mkdir -p $backups
for minute in $(seq 10 59); do echo old >$backups/venv-main-20250101-00${minute}00.txt; done
echo mine >$backups/notes.txt
echo old >$backups/venv-tools-20240101-000000.txt
"$BOOT" run --only 48 >/dev/null
echo '== default'; ls $backups | grep -c '^venv-main-[0-9]\{8\}-[0-9]\{6\}\.txt$'
ls $backups | grep -v '^venv-main-[0-9]'
cat $backups/venv-main-latest.txt
latest=$(readlink $backups/venv-main-latest.txt)
echo "$latest" | sed 's/[0-9]/9/g'
[ "$latest" = "$(ls $backups | grep '^venv-main-[0-9]' | tail -1)" ] && echo newest
[ -e $backups/venv-main-20250101-001200.txt ] || echo 'the oldest is gone'
echo '== two'; VENV_BACKUP_COUNT=2 "$BOOT" run --only 48 >/dev/null; ls $backups | grep -c '^venv-main-[0-9]'
echo '== off'; before=$(ls $backups); VENV_BACKUP_COUNT=0 "$BOOT" run --only 48 >/dev/null; [ "$before" = "$(ls $backups)" ] && echo same
echo '== no instance'; env -u CONTAINER_ID "$BOOT" run --only 48 >/dev/null; ls /workspace/.venv-backups
[ -e /pip-ran ] && echo 'pip ran'
exit 0
"#,
    );
    assert_eq!(
        said,
        "== default\n48\nnotes.txt\nvenv-main-latest.txt\nvenv-tools-20240101-000000.txt\nnumpy==2.0.0\ntorch==2.9.1\n\
         venv-main-99999999-999999.txt\nnewest\nthe oldest is gone\n== two\n2\n== off\nsame\n== no instance\n42\nlocal\n"
    );
}

#[test]
fn one_boot_does_the_work_of_every_row() {
    let fake = Fake::new();
    let out = fake.out("");
    fake.supervisor("#!/bin/sh\n[ -e \"${0%/usr/bin/*}/.provisioning\" ] && echo held $* >$OUT/supervisor\nexit 0\n");
    fake.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\nuser:x:1001:0::/home/user:/bin/bash\n");
    fake.write("/etc/supervisor/conf.d/app.conf", "[program:app]\ncommand=x\nuser=user\n[program:rooted]\ncommand=x\n");
    fake.write("/opt/workspace-internal/app/main.py", "app\n");
    fake.write("/opt/sys-venv/shim/keep", "");
    fake.write("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n");
    for shim in ["python3.12", "pip", "supervisorctl"] {
        std::os::unix::fs::symlink("../bin/x", fake.path("/opt/sys-venv/shim").join(shim)).unwrap();
    }
    fs::create_dir_all(fake.path("/home/user")).unwrap();
    std::os::unix::fs::chown(fake.path("/home/user"), Some(1001), Some(0)).unwrap();
    fs::create_dir_all(fake.path("/workspace/repository/.git")).unwrap();
    fake.write("/sys/devices/system/cpu/online", "0-3\n");
    fake.stage("first_boot/10-once.sh", "echo once >$OUT/once");
    fake.write("/fix.sh", "echo fixed\n");
    fake.write("/provision.sh", "echo provisioned\n");
    let env = [
        ("HOTFIX_SCRIPT", "/fix.sh"),
        ("PROVISIONING_SCRIPT", "/provision.sh"),
        ("CONTAINER_ID", "7"),
        ("VAST_SIGN_URL", "http://127.0.0.1:1/"),
    ];
    let output = fake.run_with(&env, &["--no-cert-gen"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    let read = |path: &str| fs::read_to_string(fake.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let facts = |path: &str| {
        let facts = fs::metadata(fake.path(path)).unwrap();
        (facts.mode() & 0o7777, facts.uid(), facts.gid())
    };
    assert_eq!(fake.recorded("05-configure-cuda.sh"), ("skipped".into(), "no NVIDIA driver".into()));
    assert!(read("/etc/environment").starts_with("# Template controlled environment for C.7\n"));
    let mut shims: Vec<_> =
        fs::read_dir(fake.path("/opt/sys-venv/shim")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    shims.sort();
    assert_eq!(shims, ["keep", "supervisorctl"]);
    assert_eq!(
        (facts("/var/log/portal").0, facts("/var/log/app.log").1, facts("/var/log/app.log").2),
        (0o1777, 1001, 0)
    );
    assert!(!fake.path("/var/log/rooted.log").exists());
    assert_eq!(read("/var/log/hotfix.log"), "fixed\n");
    assert_eq!(fake.read_out("once"), "once\n");
    assert_eq!(read("/workspace/app/main.py"), "app\n");
    for home in ["/root", "/home/user"] {
        assert!(read(&format!("{home}/.bashrc")).contains("### Entrypoint setup ###"));
        assert!(read(&format!("{home}/.gitconfig")).contains("/workspace/repository"));
    }
    assert_eq!(
        (facts("/home/user/.ssh"), facts("/home/user/.ssh/authorized_keys")),
        ((0o700, 1001, 0), (0o600, 1001, 0))
    );
    assert_eq!(fake.recorded("48-venv-backup.sh"), ("skipped".into(), "no venv".into()));
    assert_eq!(
        fake.read_out("supervisor"),
        format!("held -n -c {}\n", fake.path("/etc/supervisor/supervisord.conf").display())
    );
    assert_eq!(read("/var/log/portal/provisioning.log"), "provisioned\n");
    assert!(fake.path("/.provisioning_complete").exists() && !fake.path("/.provisioning").exists());

    // What a stage makes is the root group's too.
    assert_eq!(fs::metadata(fake.out("once")).unwrap().mode() & 0o777, 0o664);
    // One line a stage, with all that a record has.
    let log = fake.log();
    assert_eq!(log.len(), 17);
    for record in &log {
        assert!(record["start"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{record}");
        assert!(
            record["duration_ms"].is_f64() && record["source"] == "built-in" && record["boot"] == log[0]["boot"],
            "{record}"
        );
        assert!(["done", "skipped"].contains(&record["outcome"].as_str().unwrap()), "{record}");
    }
    assert!(!fake.path("/var/log/vast_boot_failures").exists());
    let status = Command::new(VAST_BOOT)
        .args(["status", "--root"])
        .arg(fake.root())
        .env_clear()
        .env("OUT", out)
        .output()
        .unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.starts_with("boot of C.7 at ") && status.contains('█'), "{status}");
    assert_eq!(status.lines().count(), 18);
}

#[test]
fn a_selection_runs_what_it_names_by_number_name_or_both_and_leaves_the_rest() {
    let fake = Fake::new();
    fake.supervisor("#!/bin/sh\ntouch $OUT/supervisor\n");
    for name in ["20-a.sh", "20-b.sh", "21-c.sh"] {
        fake.stage(name, "printf '%s ' \"${BASH_SOURCE[0]##*/}\" >>$OUT/ran");
    }
    for (arguments, ran, supervisor) in [
        (&["--only", "20"][..], "20-a.sh 20-b.sh ", false),
        (&["--only=20-b"], "20-b.sh ", false),
        (&["--only", "20-b.sh,21"], "20-b.sh 21-c.sh ", false),
        (&["--only", "20", "--only", "21", "--skip", "20-a"], "20-b.sh 21-c.sh ", false),
        (&["--skip", "20-a.sh,65", "--skip=55"], "20-b.sh 21-c.sh ", false),
        (&["--skip", "20,21,55"], "", true),
        (&["--only", "99"], "", false),
    ] {
        for name in ["ran", "supervisor"] {
            let _ = fs::remove_file(fake.out(name));
        }
        assert_eq!(fake.run(&[&["run"], arguments].concat()).status.code(), Some(0), "{arguments:?}");
        assert_eq!(fake.read_out("ran"), ran, "{arguments:?}");
        assert_eq!(fake.out("supervisor").exists(), supervisor, "{arguments:?}");
    }
}
