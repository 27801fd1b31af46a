//! Debian packages, by `apt-get`.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process;

/// What a set of packages is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Checks of the sources.
    Lint,
    /// Real services and tools that the tests drive.
    Services,
    /// Filesystems to copy between, and programs that copy and compare.
    Volumes,
    /// What the tools from PyPI are installed with.
    Python,
    /// Compilers of what crates bring in other languages.
    Compilers,
    /// Reading and stripping of the built binaries.
    Binutils,
    /// Compressors to measure against.
    Compressors,
}

/// How it shows that a package's work is available, from whatever source.
#[derive(Debug, Clone, Copy)]
enum Sign {
    /// This program is in `PATH`.
    Program(&'static str),
    /// `python3` can import this module.
    Module(&'static str),
}

#[derive(Debug)]
struct Package {
    name: &'static str,
    sign: Sign,
    group: Group,
    /// The service that the package starts when it is installed. The tests start their own.
    service: Option<&'static str>,
}

const fn package(group: Group, name: &'static str, program: &'static str) -> Package {
    Package { name, sign: Sign::Program(program), group, service: None }
}

const fn service(group: Group, name: &'static str, program: &'static str) -> Package {
    Package { name, sign: Sign::Program(program), group, service: Some(name) }
}

/// Every Debian package that a command of this project may need.
const PACKAGES: &[Package] = &[
    package(Group::Lint, "shellcheck", "shellcheck"),
    package(Group::Services, "mmdebstrap", "mmdebstrap"),
    package(Group::Services, "buildah", "buildah"),
    package(Group::Services, "skopeo", "skopeo"),
    package(Group::Services, "umoci", "umoci"),
    package(Group::Services, "curl", "curl"),
    package(Group::Services, "strace", "strace"),
    package(Group::Services, "iproute2", "ip"),
    package(Group::Services, "openssl", "openssl"),
    package(Group::Services, "git", "git"),
    package(Group::Services, "jq", "jq"),
    package(Group::Services, "xz-utils", "xz"),
    package(Group::Services, "zstd", "zstd"),
    package(Group::Services, "openssh-client", "ssh-keygen"),
    Package { name: "openssh-server", sign: Sign::Program("sshd"), group: Group::Services, service: Some("ssh") },
    service(Group::Services, "docker-registry", "docker-registry"),
    service(Group::Services, "caddy", "caddy"),
    service(Group::Services, "supervisor", "supervisord"),
    service(Group::Services, "cron", "cron"),
    package(Group::Volumes, "rsync", "rsync"),
    package(Group::Volumes, "acl", "getfacl"),
    package(Group::Volumes, "attr", "getfattr"),
    package(Group::Volumes, "xfsprogs", "mkfs.xfs"),
    package(Group::Volumes, "exfatprogs", "mkfs.exfat"),
    package(Group::Volumes, "exfat-fuse", "mount.exfat-fuse"),
    package(Group::Volumes, "fuse3", "fusermount3"),
    package(Group::Python, "python3", "python3"),
    Package { name: "python3-venv", sign: Sign::Module("ensurepip"), group: Group::Python, service: None },
    package(Group::Compilers, "g++", "c++"),
    package(Group::Binutils, "binutils", "readelf"),
    package(Group::Compressors, "pigz", "pigz"),
];

/// Installs what is missing of `groups`.
pub(crate) fn ensure(groups: &[Group]) -> Result<()> {
    let missing: Vec<&Package> =
        PACKAGES.iter().filter(|package| groups.contains(&package.group) && !present(package.sign)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if let Some(obstacle) = obstacle(present(Sign::Program("apt-get")), is_root()?) {
        bail!("missing: {}; {}", names.join(", "), obstacle.replace("{packages}", &names.join(" ")));
    }
    eprintln!("installing Debian packages: {}", names.join(" "));
    process::run(apt_get().args(["update", "--quiet=2"]))?;
    let install = ["install", "--yes", "--quiet=2", "--no-install-recommends", "--option=Dpkg::Use-Pty=0"];
    process::run(apt_get().args(install).args(&names))?;
    for package in &missing {
        if let Some(service) = package.service {
            stop(service)?;
        }
    }
    let absent: Vec<&str> = missing.iter().filter(|p| !present(p.sign)).map(|p| p.name).collect();
    if !absent.is_empty() {
        bail!("installed, but their programs are not in PATH: {}", absent.join(", "));
    }
    Ok(())
}

/// Why nothing can be installed on this machine, with what to do; `None` when it can.
fn obstacle(has_apt: bool, root: bool) -> Option<&'static str> {
    match (has_apt, root) {
        (true, true) => None,
        (true, false) => Some("run `sudo apt-get install --no-install-recommends {packages}` once"),
        (false, _) => {
            Some("this machine has no apt-get: install the programs of these Debian packages by its own means")
        }
    }
}

/// `apt-get` that asks nothing and starts no service.
///
/// In runlevel 1 the maintainer scripts' `invoke-rc.d` starts nothing where services are started by init scripts;
/// systemd takes no notice of it, which is what [`stop`] is for.
fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").stdin(Stdio::null());
    command
}

/// Stops a service that the installation of its package has just brought, and keeps it from starting with the machine.
fn stop(service: &str) -> Result<()> {
    let systemd = Path::new("/run/systemd/system").is_dir();
    if systemd {
        process::run(Command::new("systemctl").args(["disable", "--now", "--quiet", service]))?;
        return Ok(());
    }
    let script = Path::new("/etc/init.d").join(service);
    if script.exists() {
        process::run(Command::new("update-rc.d").args([service, "disable"]))?;
        // A service that never ran answers a stop with a failure, so the answer says nothing.
        process::succeeds(Command::new(script).arg("stop").stdout(Stdio::null()).stderr(Stdio::null()))?;
    }
    Ok(())
}

fn present(sign: Sign) -> bool {
    match sign {
        Sign::Program(name) => in_path(name, std::env::var_os("PATH").unwrap_or_default().as_ref()),
        Sign::Module(name) => Command::new("python3")
            .args(["-c", &format!("import {name}")])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success()),
    }
}

/// Whether one of the folders of `path` holds `program`. `/usr/sbin` counts for everyone: services live there.
fn in_path(program: &str, path: &OsStr) -> bool {
    let system = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(path).chain(system).any(|folder| folder.join(program).is_file())
}

fn is_root() -> Result<bool> {
    Ok(process::stdout(Command::new("id").arg("-u"))?.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_in_the_folders_of_path_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("present-tool"), "").unwrap();
        assert!(in_path("present-tool", folder.path().as_os_str()));
        assert!(!in_path("absent-tool", folder.path().as_os_str()));
        assert!(!in_path("present-tool", OsStr::new("/nonexistent")));
    }

    #[test]
    fn each_package_is_listed_once() {
        let mut names: Vec<_> = PACKAGES.iter().map(|package| package.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn without_root_or_apt_the_message_says_what_to_do() {
        assert_eq!(obstacle(true, true), None);
        assert!(obstacle(true, false).is_some_and(|text| text.contains("sudo apt-get install")));
        assert!(obstacle(false, true).is_some_and(|text| text.contains("no apt-get")));
        assert_eq!(obstacle(false, true), obstacle(false, false));
    }
}
