//! CUDA as stage 05 sets it up, through all that comes behind: other stages, `/etc/environment`, shells and later boots.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::harness::{Fake, SUPERVISOR};

/// Where Debian has libraries.
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

/// Compiles a libcuda that starts and supports this CUDA version, as `cuDriverGetVersion` counts.
fn libcuda(fake: &Fake, path: &str, number: u32) {
    let path = fake.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let source = fake.out("library.c");
    let code =
        format!("int cuDriverGetVersion(int *v) {{ *v = {number}; return 0; }} int cuInit(unsigned f) {{ return 0; }}");
    fs::write(&source, code).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&path, &source]).status().unwrap();
    assert!(compiled.success());
    symlink(path.file_name().unwrap(), path.with_file_name("libcuda.so.1")).unwrap();
}

/// Puts the host's driver into the container, in place of an earlier one.
fn driver(fake: &Fake, version: &str, number: u32) {
    let _ = fs::remove_dir_all(fake.path(LIBRARIES));
    libcuda(fake, &format!("{LIBRARIES}/libcuda.so.{version}"), number);
    let says = format!("NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Wed Jan 1\n");
    fake.write("/proc/driver/nvidia/version", &says);
}

/// A root with driver 570.26 (CUDA 12.8), CUDA 12.8 and 13.0, whose compat library starts.
pub(crate) fn with_gpu() -> Fake {
    let fake = Fake::new();
    driver(&fake, "570.26", 12080);
    libcuda(&fake, "/usr/local/cuda-13.0/compat/libcuda.so.580.65.06", 13000);
    fs::create_dir_all(fake.path("/usr/local/cuda-12.8")).unwrap();
    fake
}

#[test]
fn cuda_that_cannot_be_set_up_is_a_line_of_the_failures_and_the_boot_goes_on() {
    let fake = with_gpu();
    fake.supervisor(SUPERVISOR);
    fs::remove_file(fake.path("/usr/lib/x86_64-linux-gnu/libcuda.so.570.26")).unwrap();
    fake.write("/dev/nvidiactl", "");
    fake.stage("20-see.sh", "echo ran >$OUT/seen");
    assert_eq!(fake.run(&["run", "--only", "05,20"]).status.code(), Some(0));
    assert_eq!(
        (fake.recorded("05-configure-cuda.sh").0.as_str(), fake.read_out("seen").as_str()),
        ("gave-up", "ran\n")
    );
    let failures = fs::read_to_string(fake.path("/var/log/vast_boot_failures")).unwrap();
    assert!(
        failures.starts_with("05-configure-cuda: the newest CUDA version that the driver supports is unknown: "),
        "{failures}"
    );
    assert_eq!(failures.lines().count(), 1);
    let marker = fs::read_to_string(fake.path("/run/vast-cuda-config-failed")).unwrap();
    assert!(failures.contains(marker.trim()), "{marker}");
}

/// What the host of a boot has.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Host {
    /// A driver of CUDA 12.8, on which the toolkit's library may come first.
    Older,
    /// A driver that is newer than the toolkit's library, which must not be loaded then.
    Newer,
    /// A driver that nobody can ask.
    Unknown,
    /// None.
    NoDriver,
}

impl Host {
    fn prepare(self, fake: &Fake) {
        match self {
            Self::Older => driver(fake, "570.26", 12080),
            Self::Newer => driver(fake, "590.44.01", 13010),
            Self::Unknown | Self::NoDriver => drop(fs::remove_dir_all(fake.path(LIBRARIES))),
        }
        let device = fake.path("/dev/nvidiactl");
        let _ = fs::remove_file(&device);
        if self != Self::NoDriver {
            fake.write("/dev/nvidiactl", "");
        }
    }
}

/// Prints the variables of the set-up, and one of the user's.
const SHOW: &str = r#"printf '%s|' "${CUDA_HOME-}" "${LD_LIBRARY_PATH-}" "$EDITED" "${PATH%%/usr/bin*}""#;

#[test]
fn the_set_up_of_a_boot_holds_whatever_an_earlier_boot_wrote_and_edits_of_the_user_stay() {
    const HOME: &str = "/usr/local/cuda";
    const BIN: &str = "/usr/local/cuda/bin:";
    const COMPAT: &str = "/usr/local/cuda-13.0/compat:";
    for (hosts, home, bin, first) in [
        ([Host::Older, Host::Newer], HOME, BIN, ""),
        ([Host::Newer, Host::Older], HOME, BIN, COMPAT),
        ([Host::Unknown, Host::Newer], HOME, BIN, ""),
        ([Host::Unknown, Host::Older], HOME, BIN, COMPAT),
        ([Host::NoDriver, Host::Newer], HOME, BIN, ""),
        // What is not known to fit goes; the toolkit stays.
        ([Host::Older, Host::Unknown], HOME, BIN, ""),
        ([Host::Older, Host::NoDriver], HOME, BIN, ""),
        ([Host::Unknown, Host::Unknown], "", "", ""),
    ] {
        let fake = with_gpu();
        // NVIDIA's images name this directory, and some platforms have the driver there.
        fs::create_dir_all(fake.path("/usr/local/nvidia/lib64")).unwrap();
        symlink("libcuda.so.1.1", fake.path("/usr/local/nvidia/lib64/libcuda.so.1")).unwrap();
        fake.write("/usr/local/nvidia/lib64/libcuda.so.1.1", "");
        fake.stage("20-see.sh", &format!("{SHOW} >$OUT/seen"));
        let env = [
            ("CONTAINER_ID", "7"),
            ("LD_LIBRARY_PATH", "/usr/local/nvidia/lib64:/opt/lib"),
            ("PATH", "/usr/bin:/usr/sbin:/sbin:/bin"),
            ("EDITED", "no"),
        ];
        let boot = || {
            assert_eq!(fake.run_with(&env, &["run", "--only", "05,10,20"]).status.code(), Some(0));
            fs::read_to_string(fake.path("/etc/environment")).unwrap()
        };
        hosts[0].prepare(&fake);
        let written = boot();
        let edited = written.replace("PATH=\"", "PATH=\"/opt/mine:").replace("EDITED=\"no\"", "EDITED='yes' # mine");
        let edited = edited.replace("LD_LIBRARY_PATH=\"/opt/mine:", "LD_LIBRARY_PATH=\"");
        fake.write("/etc/environment", &edited);
        hosts[1].prepare(&fake);
        let renewed = boot();
        // A toolkit's directory keeps its place; a new one comes first.
        let path = if written.contains(BIN) { format!("/opt/mine:{bin}") } else { format!("{bin}/opt/mine:") };
        let expected = format!("{home}|{first}/usr/local/nvidia/lib64:/opt/lib|yes|{path}|");
        assert_eq!(fake.read_out("seen"), expected, "{hosts:?}");
        // Shells and programs of Supervisor load the file by themselves.
        let mut shell = fake.command("/bin/bash", ["-c", &format!(". \"$FILE\"; {SHOW}")]);
        let shown = shell.env("FILE", fake.path("/etc/environment")).output().unwrap();
        assert_eq!(String::from_utf8(shown.stdout).unwrap(), expected, "{hosts:?}");
        assert!(renewed.contains("\nEDITED='yes' # mine\n"), "{renewed}");
        assert_eq!(boot(), renewed, "another boot has nothing to change");
    }
}

#[test]
fn the_users_own_file_has_the_last_word_on_cuda_too() {
    let fake = with_gpu();
    fake.write("/workspace/.env", "CUDA_HOME=/opt/mine\nLD_LIBRARY_PATH=/opt/mine/lib64\n");
    fake.stage("20-see.sh", &format!("{SHOW} >$OUT/seen"));
    for _ in 0..2 {
        fake.run_with(&[("PATH", "/usr/bin:/usr/sbin:/sbin:/bin")], &["run", "--only", "05,10,20"]);
        assert_eq!(fake.read_out("seen"), "/opt/mine|/opt/mine/lib64||/usr/local/cuda/bin:|");
    }
}
