//! The roots that are booted: an instance in which everything is in place.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use rustix::mount::{mount_bind, mount_bind_recursive};
use serde_json::Value;

use super::tree::Tree;
use crate::process;

/// The directories of this machine that the roots share: programs, libraries, and the kernel's.
const SHARED: [&str; 9] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "dev", "proc", "sys"];

/// What programs of this machine read from `/etc`.
const SHARED_ETC: [&str; 6] = ["alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "nsswitch.conf", "ssl"];

/// Distributions in the venv, as many as an image for `torch` has.
const DISTRIBUTIONS: u32 = 160;

/// Makes the instance's pair, and an authority for it that is forgotten at once.
const CERTIFICATE: &str = "
openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=authority -keyout /tmp/ca.key -out /tmp/ca.crt 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj /C=US/ST=CA/CN=jupyter.vast.ai -keyout /etc/instance.key -out /tmp/request 2>/dev/null
openssl x509 -req -days 365 -in /tmp/request -CA /tmp/ca.crt -CAkey /tmp/ca.key -CAcreateserial -out /etc/instance.crt 2>/dev/null
chmod 600 /etc/instance.key
rm /tmp/ca.* /tmp/request
";

/// Where supervisord is looked for.
const SUPERVISOR: &str = "opt/sys-venv/bin/supervisord";
const DEBIANS_SUPERVISOR: &str = "usr/bin/supervisord";

/// What boots it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind<'a> {
    /// `vast-boot` from this folder of binaries.
    VastBoot(&'a Path),
    /// The scripts of this folder.
    Shell(&'a Path),
}

/// A root.
#[derive(Debug)]
pub(super) struct System {
    root: PathBuf,
    entrypoint: &'static str,
}

impl System {
    /// Lays a root out: `supervisor` is the configuration of the image family.
    pub(super) fn lay_out(root: &Path, kind: Kind<'_>, tree: &Tree, supervisor: &Path) -> Result<Self> {
        let (programs, entrypoint) = match kind {
            Kind::VastBoot(folder) => (folder, "/opt/instance-tools/bin/vast-boot"),
            Kind::Shell(folder) => (folder, "/opt/instance-tools/bin/entrypoint.sh"),
        };
        let system = Self { root: root.to_owned(), entrypoint };
        fs::create_dir(root).with_context(|| format!("cannot create `{}`", root.display()))?;
        for name in SHARED {
            system.share(&Path::new("/").join(name), name)?;
        }
        for name in SHARED_ETC {
            system.share(&Path::new("/etc").join(name), &format!("etc/{name}"))?;
        }
        system.share(programs, "opt/instance-tools/bin")?;
        system.share(&tree.path, "workspace")?;
        system.share(supervisor, "etc/supervisor")?;
        system.files()?;
        system.venv()?;
        system.certificate()?;
        system.supervisor_is(Path::new("/usr/bin/true"))?;
        Ok(system)
    }

    /// A directory, file or link of this machine in the root; nothing where there is none.
    fn share(&self, from: &Path, to: &str) -> Result<()> {
        let to = self.root.join(to);
        let Ok(facts) = from.symlink_metadata() else { return Ok(()) };
        let above = to.parent().unwrap_or(&self.root);
        let shared = fs::create_dir_all(above).and_then(|()| {
            if facts.is_symlink() {
                symlink(fs::read_link(from)?, &to)
            } else if facts.is_dir() {
                fs::create_dir(&to)?;
                Ok(mount_bind_recursive(from, &to)?)
            } else {
                fs::copy(from, &to).map(drop)
            }
        });
        shared.with_context(|| format!("cannot lay out `{}`", from.display()))
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.root.join(path);
        let written = fs::create_dir_all(path.parent().unwrap_or(&self.root)).and_then(|()| fs::write(&path, text));
        written.with_context(|| format!("cannot write `{}`", path.display()))
    }

    fn files(&self) -> Result<()> {
        for directory in ["run", "tmp", "var/log", "home/user", "root", "etc/vast_boot.d"] {
            let path = self.root.join(directory);
            fs::create_dir_all(&path).with_context(|| format!("cannot create `{}`", path.display()))?;
        }
        self.write("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nuser:x:1001:0::/home/user:/bin/bash\n")?;
        self.write("etc/group", "root:x:0:\n")?;
        self.write("root/.ssh/authorized_keys", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBenchmark one\n")?;
        for item in ["app", "notebooks", "tools"] {
            self.write(&format!("opt/workspace-internal/{item}/README.md"), "What the image brings.\n")?;
        }
        std::os::unix::fs::chown(self.root.join("home/user"), Some(1001), Some(0))
            .context("cannot give `user` its home")
    }

    /// A venv of this machine's Python, with many distributions and no pip.
    fn venv(&self) -> Result<()> {
        process::run(Command::new("chroot").arg(&self.root).args([
            "python3",
            "-m",
            "venv",
            "--without-pip",
            "/venv/main",
        ]))?;
        let lib = self.root.join("venv/main/lib");
        let mut entries = fs::read_dir(&lib).with_context(|| format!("cannot list `{}`", lib.display()))?;
        let python = entries.next().context("a venv without a Python")?.context("cannot list the venv")?.file_name();
        let site = format!("venv/main/lib/{}/site-packages", python.to_string_lossy());
        for number in 0..DISTRIBUTIONS {
            let text = format!("Metadata-Version: 2.1\nName: package-{number:03}\nVersion: 1.{number}\n\nA package.\n");
            self.write(&format!("{site}/package_{number:03}-1.{number}.dist-info/METADATA"), &text)?;
        }
        Ok(())
    }

    /// A pair that an authority signed, as the platform does: one that signed itself would be asked for again at every boot.
    fn certificate(&self) -> Result<()> {
        process::run(Command::new("chroot").arg(&self.root).args(["sh", "-euc", CERTIFICATE]))
    }

    /// Puts a program in supervisord's place.
    fn supervisor_is(&self, program: &Path) -> Result<()> {
        let debians = self.root.join(DEBIANS_SUPERVISOR);
        let place = if debians.exists() {
            debians
        } else {
            self.write(SUPERVISOR, "")?;
            self.root.join(SUPERVISOR)
        };
        mount_bind(program, &place).with_context(|| format!("cannot replace `{}`", place.display()))
    }

    /// From now on supervisord stays until it is stopped.
    pub(super) fn supervisor_stays(&self) -> Result<()> {
        self.write("opt/stays", "#!/bin/sh\nexec sleep 1000\n")?;
        let stays = self.root.join("opt/stays");
        process::run(Command::new("chmod").arg("755").arg(&stays))?;
        self.supervisor_is(&stays)
    }

    /// A boot, with the variables of an instance.
    pub(super) fn boot(&self) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.root).arg(self.entrypoint).env_clear().envs([
            ("PATH", "/opt/instance-tools/bin:/opt/sys-venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("CONTAINER_ID", "42"),
            ("WORKSPACE", "/workspace"),
            ("VAST_TCP_PORT_1111", "40111"),
            ("VAST_TCP_PORT_8080", "40080"),
            ("PUBLIC_IPADDR", "192.0.2.7"),
            ("OPEN_BUTTON_TOKEN", "0123456789abcdef0123456789abcdef"),
            ("JUPYTER_TOKEN", "0123456789abcdef0123456789abcdef"),
            ("PORTAL_CONFIG", "localhost:1111:11111:/:Instance Portal|localhost:8188:18188:/:ComfyUI"),
            // Nothing outside is asked.
            ("VAST_SIGN_URL", "http://127.0.0.1:1/"),
        ]);
        command
    }

    /// Boots until everything is in place.
    pub(super) fn settle<T>(&self, boot: impl Fn() -> Result<T>) -> Result<()> {
        boot()?;
        boot()?;
        let counter = self.root.join("etc/.instance-cert-selfsigned");
        if counter.exists() {
            bail!("`{}` is there: the certificate is not taken for the platform's", counter.display());
        }
        Ok(())
    }

    /// What `vast-boot` recorded of the last boot.
    pub(super) fn record(&self) -> Result<Value> {
        let path = self.root.join("run/vast/boot.json");
        let text = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("cannot understand `{}`", path.display()))
    }
}
