//! A real SSH server in a container, as the platform starts one beside the entrypoint, and a client that visits it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::container::Container;
use crate::instance::LIMIT;
use crate::program;

/// A pair of keys of someone who visits instances.
#[derive(Debug)]
pub struct Key {
    private: PathBuf,
}

impl Key {
    /// Makes a pair in `folder`.
    ///
    /// # Errors
    /// When `ssh-keygen` fails.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let private = folder.join(name);
        program::run(
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&private),
        )?;
        Ok(Self { private })
    }

    /// The shell commands by which the platform puts the public half where root's keys are, in a container's root.
    ///
    /// # Errors
    /// When the public half cannot be read.
    pub fn install(&self) -> Result<String> {
        let public = fs::read_to_string(self.private.with_extension("pub")).context("cannot read a public key")?;
        Ok(format!("mkdir -p root/.ssh\necho '{}' >root/.ssh/authorized_keys\n", public.trim()))
    }
}

/// Starts the container's own `sshd` on a port of its network, with further `Name=value` settings.
///
/// # Errors
/// When it does not start.
pub fn serve(container: &Container, port: u16, settings: &[&str]) -> Result<()> {
    let mut command = container.command("sh");
    command.args(["-c", "ssh-keygen -A >/dev/null; mkdir -p /run/sshd; exec /usr/sbin/sshd \"$@\"", "sshd"]);
    command.args(["-E", "/var/log/sshd.log", "-o", "StrictModes=yes", "-o", &format!("PidFile=/run/sshd.{port}.pid")]);
    command.args(["-p", &port.to_string()]);
    command.args(settings.iter().flat_map(|setting| ["-o", setting]));
    program::run(&mut command)
}

/// Logs in as `user` and runs a command: what it prints, or what the client says when it is not let in.
///
/// # Errors
/// When the server does not answer at all within [`LIMIT`].
pub fn log_in(container: &mut Container, port: u16, key: &Key, user: &str, command: &str) -> Result<Result<String>> {
    let attempt = |container: &Container| {
        let mut ssh = container.visitor("ssh");
        ssh.args(["-F", "none", "-T", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=ERROR"]);
        ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10"]);
        ssh.args(["-p", &port.to_string(), "-i"]).arg(&key.private).arg(format!("{user}@127.0.0.1")).arg(command);
        program::output(&mut ssh)
    };
    container.until("the SSH server answers", LIMIT, |container| {
        let answer = attempt(container);
        let absent = answer.as_ref().is_err_and(|error| error.to_string().contains("Connection refused"));
        (!absent).then_some(answer)
    })
}
