//! Several boots of a real `/` with a real loader: once forward compatibility stands before the driver, what a plain program sees is no
//! longer the driver's answer.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::container::{LIBRARIES, VAST_GPU};
use crate::libraries::{REFUSES, STARTS, WORKS, compile, library};

/// What any program does that wants to know: it asks the library that the loader finds.
const PLAIN_PROBE: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
int main(void) {
  void *library = dlopen("libcuda.so.1", RTLD_NOW);
  if (!library) { puts(dlerror()); return 1; }
  int version = 0;
  ((int (*)(int *))dlsym(library, "cuDriverGetVersion"))(&version);
  printf("%d.%d\n", version / 1000, version % 1000 / 10);
  return 0;
}"#;

/// Runs what follows in namespaces of its own, in the root `$ROOT` with a `/proc` in which the kernel has the driver.
const ENTER: &str = r#"
set -e
mount --make-rprivate /
mount -t proc none "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs none "$ROOT/proc/driver"
mkdir -p "$ROOT/proc/driver/nvidia"
printf 'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.26  Release Build\n' >"$ROOT/proc/driver/nvidia/version"
exec chroot "$ROOT" "$@"
"#;

struct System {
    root: TempDir,
}

impl System {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for directory in
            ["dev", "proc", "run", "tmp", "etc/ld.so.conf.d", "usr/bin", "usr/sbin", "usr/lib64", LIBRARIES]
        {
            fs::create_dir_all(at(directory)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), at(name)).unwrap();
        }
        compile(&at("usr/bin/plain-probe"), PLAIN_PROBE, &["-ldl"]);
        // Ubuntu has a script by that name, which calls the program.
        let ldconfig =
            ["/usr/sbin/ldconfig.real", "/usr/sbin/ldconfig"].into_iter().find(|path| Path::new(path).exists());
        for (from, to) in [(VAST_GPU, "usr/bin/vast-gpu"), (ldconfig.unwrap(), "usr/sbin/ldconfig")] {
            fs::copy(from, at(to)).unwrap();
        }
        symlink("vast-gpu", at("usr/bin/cuda-driver-version")).unwrap();
        for needed in needed(Path::new(VAST_GPU)).into_iter().chain(needed(&at("usr/bin/plain-probe"))) {
            let to = at(needed.to_str().unwrap().trim_start_matches('/'));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(&needed, to).unwrap();
        }
        fs::write(at("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n").unwrap();
        fs::write(at("etc/ld.so.conf.d/x86_64-linux-gnu.conf"), "/usr/lib/x86_64-linux-gnu\n").unwrap();
        let system = Self { root };
        system.libcuda(LIBRARIES, "570.26", WORKS);
        system.libcuda("usr/local/cuda-13.0/compat", "580.65.06", STARTS);
        fs::create_dir_all(system.root.path().join("usr/local/cuda-12.8/lib64")).unwrap();
        assert_eq!(system.run(&["ldconfig"]).0, 0);
        system
    }

    /// A libcuda as NVIDIA builds it: `ldconfig` finds it by the name inside.
    fn libcuda(&self, directory: &str, version: &str, code: &str) {
        let directory = self.root.path().join(directory);
        library(&directory.join(format!("libcuda.so.{version}")), code, &["-Wl,-soname,libcuda.so.1"]);
        let link = directory.join("libcuda.so.1");
        let _ = fs::remove_file(&link);
        symlink(format!("libcuda.so.{version}"), link).unwrap();
    }

    /// Runs a program in it; exit code, output, and what it told.
    fn run(&self, program: &[&str]) -> (i32, String, String) {
        self.run_with(program, &[])
    }

    /// [`run`](Self::run) with these variables.
    fn run_with(&self, program: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
        let output = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"])
            .args(program)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("ROOT", self.root.path())
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    fn said(&self, program: &[&str]) -> String {
        let (code, out, error) = self.run(program);
        assert_eq!(code, 0, "{program:?}: {out}{error}");
        out.trim().to_owned()
    }

    fn json(&self, program: &[&str]) -> Value {
        serde_json::from_str(&self.said(program)).unwrap()
    }
}

/// The libraries of a program, the loader included.
fn needed(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(|path| PathBuf::from(path.trim_end_matches(':')))
        .collect()
}

#[test]
fn boots_after_forward_compatibility_choose_the_same_although_a_plain_probe_is_wrong_by_then() {
    let system = System::new();
    assert_eq!(system.said(&["plain-probe"]), "12.8");
    let own = "/usr/lib/x86_64-linux-gnu/libcuda.so.570.26";
    let compat = "/usr/local/cuda-13.0/compat/libcuda.so.580.65.06";
    for boot in 1..=3 {
        let plan = system.json(&["vast-gpu", "plan", "--json"]);
        assert_eq!(plan["choice"]["forward-compat"], "13.0", "boot {boot}");
        assert_eq!(plan["changes"].as_array().unwrap().is_empty(), boot > 1, "boot {boot}: {plan}");
        assert_eq!(
            system.said(&["vast-gpu", "apply"]),
            "CUDA 13.0, with its forward-compatibility libraries",
            "boot {boot}"
        );
        // Wrong about the driver, and right about what programs get.
        assert_eq!(system.said(&["plain-probe"]), "13.0", "boot {boot}");
        let (code, version, says) = system.run(&["cuda-driver-version", "--verbose"]);
        assert_eq!((code, version.as_str(), says), (0, "13.0\n", format!("cuda-driver-version: says {compat}\n")));
        // Right about the driver, and says which file it was.
        let (code, version, says) = system.run(&["cuda-driver-version", "--native", "--verbose"]);
        assert_eq!((code, version.as_str(), says), (0, "12.8\n", format!("cuda-driver-version: says {own}\n")));
        let driver = &system.json(&["vast-gpu", "probe", "--json"])["driver"];
        assert_eq!((&driver["maximum"]["driver"], &driver["library"]), (&"12.8".into(), &own.into()), "boot {boot}");
    }

    // The instance moves to a machine where it does not work: the driver's own is chosen for, and that is recorded at each boot.
    system.libcuda("usr/local/cuda-13.0/compat", "580.65.06", REFUSES);
    for boot in 4..=5 {
        let (code, out, error) = system.run(&["vast-gpu", "apply"]);
        assert_eq!((code, out.as_str()), (1, "CUDA 12.8\n"), "boot {boot}");
        assert!(error.contains("an earlier boot used CUDA 13.0 through forward compatibility"), "{error}");
        assert_eq!(system.said(&["plain-probe"]), "12.8", "boot {boot}");
    }
}

#[test]
fn programs_get_forward_compatibility_although_the_search_path_leads_to_the_driver() {
    let system = System::new();
    // As on platforms that keep the driver in a directory of its own, which NVIDIA's images name in the search path.
    let own = "usr/local/nvidia/lib64";
    system.libcuda(own, "570.26", WORKS);
    let search = ("LD_LIBRARY_PATH", "/usr/local/nvidia/lib:/usr/local/nvidia/lib64");
    let (code, shown, error) = system.run_with(&["vast-gpu", "plan", "--json"], &[search]);
    assert_eq!(code, 0, "{error}");
    let plan: Value = serde_json::from_str(&shown).unwrap();
    system.said(&["vast-gpu", "apply"]);
    // The configuration alone is not enough.
    assert_eq!(system.run_with(&["plain-probe"], &[search]).1, "12.8\n");
    let planned = plan["environment"]["set"]["LD_LIBRARY_PATH"].as_str().unwrap();
    assert_eq!(system.run_with(&["plain-probe"], &[("LD_LIBRARY_PATH", planned)]).1, "13.0\n");
}
