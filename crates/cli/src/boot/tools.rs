//! Commands that scripts call by their own names.

use std::process::ExitCode;

use vast_boot::environment::Environment;
use vast_boot::root::Root;
use vast_boot::stages;

use crate::report::Exit;

/// `propagate_ssh_keys.sh`: root's keys for every user.
pub(super) fn propagate_ssh_keys(root: &Root) -> ExitCode {
    match stages::propagate_ssh_keys(root) {
        Ok(_) => Exit::Success.into(),
        Err(error) => super::fail(&error),
    }
}

/// `venv-backup.sh`: a freeze of every venv.
pub(super) fn back_up_venvs(root: &Root) -> ExitCode {
    let env: Environment = std::env::vars_os().collect();
    match stages::back_up_venvs(root, &env) {
        Ok(backups) => {
            for backup in backups {
                println!("{}", backup.file.display());
            }
            Exit::Success.into()
        }
        Err(error) => super::fail(&error),
    }
}
