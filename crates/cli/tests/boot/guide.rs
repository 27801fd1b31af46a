//! The guide's own provisioning script, letter for letter, on a real system with real Supervisor, Caddy and portal.

use std::fs;

use super::harness::Fake;
use super::system::{Setup, System};

/// The example of the guide, "Provisioning-only".
const SCRIPT: &str = include_str!("guide-provisioning.sh");

/// What the base image has and this machine lacks. The script's installations come from this machine: a Debian package and a wheel,
/// which stand-ins of `apt-get` and `uv` really install, and a repository, which git takes in place of the one that the script names.
pub(super) const BASE: &str = r#"
cp -r "$IMAGES/base/ROOT/." .
mkdir -p srv/scripts opt/instance-tools/bin opt/stand-ins var/log/portal
for binary in $BINARIES; do ln -sf "$binary" opt/instance-tools/bin/; done
cd etc/supervisor/conf.d && rm -f cron.conf jupyter.conf syncthing.conf tensorboard.conf && cd ../../..
/usr/bin/python3 -m http.server 8000 --bind 127.0.0.1 --directory "$PWD/srv/scripts" >/dev/null 2>&1 &
"#;

const SOURCES: &str = r#"
chroot . /usr/bin/python3 -m venv /venv/main
mkdir -p srv/packages/sox/DEBIAN srv/packages/sox/usr/bin srv/wheels srv/git/My-App
printf 'Package: sox\nVersion: 1\nArchitecture: all\nMaintainer: none\nDescription: says its name\n' >srv/packages/sox/DEBIAN/control
printf '#!/bin/sh\necho sox is installed\n' >srv/packages/sox/usr/bin/sox
chmod 755 srv/packages/sox/usr/bin/sox
dpkg-deb --root-owner-group --build srv/packages/sox srv/packages/sox.deb >/dev/null
rm -f usr/bin/sox
cat >opt/stand-ins/apt-get <<'END'
#!/bin/sh
[ "$1" = install ] || exit 100
shift
for word; do case $word in -*) ;; *) dpkg-deb --extract "/srv/packages/$word.deb" / ;; esac done
END
cat >opt/stand-ins/uv <<'END'
#!/bin/sh
[ "$1 $2" = "pip install" ] || exit 2
shift 2
exec "$VIRTUAL_ENV/bin/python" -m pip --quiet install --no-index --find-links /srv/wheels "$@"
END
chmod +x opt/stand-ins/*
/usr/bin/python3 - <<'END'
import zipfile
info = "greeting-1.0.dist-info/"
with zipfile.ZipFile("srv/wheels/greeting-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("greeting.py", "words = 'the wheel is installed'\n")
    wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr(info + "RECORD", "greeting.py,,\n" + info + "METADATA,,\n" + info + "WHEEL,,\n" + info + "RECORD,,\n")
END
echo greeting >srv/git/My-App/requirements.txt
cat >srv/git/My-App/app.py <<'END'
import greeting, os, subprocess, time
print(greeting.words, subprocess.check_output(["sox"], text=True).strip(), os.environ["PROC_NAME"], sep=", ", flush=True)
while True:
    time.sleep(1000)
END
git -C srv/git/My-App init --quiet
git -C srv/git/My-App add .
git -C srv/git/My-App -c user.name=a -c user.email=a@b commit --quiet --message all
printf '[url "file:///srv/git/"]\n\tinsteadOf = https://github.com/org/\n[safe]\n\tdirectory = *\n' >etc/gitconfig
cp "$OUT/my-app.sh" srv/scripts/
echo 'export PORTAL_CONFIG="localhost:1111:11111:/:Instance Portal|localhost:7860:17860:/:My App"' >etc/vast_boot.d/05-app-env.sh
"#;

pub(super) const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../images");

/// The binaries of the base image that its scripts call.
pub(super) fn binaries() -> String {
    [env!("CARGO_BIN_EXE_vast-boot"), env!("CARGO_BIN_EXE_vast-portal"), env!("CARGO_BIN_EXE_vast-logtee")].join(" ")
}

/// As the base image has it, after the stand-ins.
pub(super) const PATH: &str = "/opt/stand-ins:/opt/instance-tools/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

#[test]
fn the_guides_own_script_ends_with_its_program_running() {
    let fake = Fake::new();
    fs::write(fake.out("my-app.sh"), SCRIPT).unwrap();
    let env = [
        ("IMAGES", IMAGES),
        ("BINARIES", &binaries()),
        ("PATH", PATH),
        ("GIT_CONFIG_SYSTEM", "/etc/gitconfig"),
        ("PROVISIONING_SCRIPT", "http://127.0.0.1:8000/my-app.sh"),
    ];
    let prepare = format!("{BASE}{SOURCES}");
    let system = System::boot(&fake, &Setup { prepare: &prepare, env: &env, ..Setup::default() });
    system.until("the marker is gone", || !system.inside("/.provisioning").exists());
    let log = fs::read_to_string(system.inside("/var/log/portal/provisioning.log")).unwrap_or_default();
    system.assert_nothing_failed();
    assert!(system.inside("/.provisioning_complete").exists() && !system.inside("/.provisioning_failed").exists());
    assert!(log.contains("my-app: available") && log.contains("my-app: added process group"), "{log}");

    let said = || fs::read_to_string(system.inside("/var/log/portal/my-app.log")).unwrap_or_default();
    system.until("the program said all", || said().contains("my-app\n"));
    assert!(said().contains("Starting My App\nthe wheel is installed, sox is installed, my-app\n"), "{}", said());
    let status = system.command("supervisorctl").args(["status", "my-app"]).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    let words: Vec<&str> = status.split_whitespace().take(2).collect();
    assert_eq!(words, ["my-app", "RUNNING"], "{status}");
    let console = system.end();
    assert!(console.contains("my-app: available") && console.contains("the wheel is installed"), "{console}");
}
