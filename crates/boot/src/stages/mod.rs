//! The stages that the image family ships, each in a file of its number.

mod relocate;
mod s05_configure_cuda;
mod s10_prep_env;
mod s11_log_dirs;
mod s12_cpu_thread_limits;
mod s15_hotfix;
mod s25_first_boot;
mod s35_sync_home_dirs;
mod s36_sync_workspace;
mod s37_sync_environment;
mod s45_user_write_bashrc;
mod s46_user_propagate_ssh_keys;
mod s47_user_git_safe_dirs;
mod s48_venv_backup;
mod s55_tls_cert_gen;
mod s65_supervisor_launch;
mod s75_provisioning_script;
mod s95_supervisor_wait;
mod sync_progress;

pub use s25_first_boot::COMPLETE as FIRST_BOOT_COMPLETE;
pub use s36_sync_workspace::INTERNAL as WORKSPACE_INTERNAL;
pub use s46_user_propagate_ssh_keys::propagate as propagate_ssh_keys;
pub use s48_venv_backup::{Backup, back_up as back_up_venvs};
pub use s65_supervisor_launch::PROVISIONING;
pub use s75_provisioning_script::{FAILED as PROVISIONING_FAILED, LOG as PROVISIONING_LOG};

use crate::stage::BuiltIn;

/// All built-in stages.
pub const BUILT_IN: &[BuiltIn] = &[
    BuiltIn { name: "05-configure-cuda.sh", run: s05_configure_cuda::run },
    BuiltIn { name: "10-prep-env.sh", run: s10_prep_env::run },
    BuiltIn { name: "11-log-dirs.sh", run: s11_log_dirs::run },
    BuiltIn { name: "12-cpu-thread-limits.sh", run: s12_cpu_thread_limits::run },
    BuiltIn { name: "15-hotfix.sh", run: s15_hotfix::run },
    BuiltIn { name: "25-first-boot.sh", run: s25_first_boot::run },
    BuiltIn { name: s35_sync_home_dirs::NAME, run: s35_sync_home_dirs::run },
    BuiltIn { name: "36-sync-workspace.sh", run: s36_sync_workspace::run },
    BuiltIn { name: s37_sync_environment::NAME, run: s37_sync_environment::run },
    BuiltIn { name: "45-user-write-bashrc.sh", run: s45_user_write_bashrc::run },
    BuiltIn { name: "46-user-propagate-ssh-keys.sh", run: s46_user_propagate_ssh_keys::run },
    BuiltIn { name: "47-user-git-safe-dirs.sh", run: s47_user_git_safe_dirs::run },
    BuiltIn { name: "48-venv-backup.sh", run: s48_venv_backup::run },
    BuiltIn { name: "55-tls-cert-gen.sh", run: s55_tls_cert_gen::run },
    BuiltIn { name: "65-supervisor-launch.sh", run: s65_supervisor_launch::run },
    BuiltIn { name: "75-provisioning-script.sh", run: s75_provisioning_script::run },
    BuiltIn { name: "95-supervisor-wait.sh", run: s95_supervisor_wait::run },
];

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_in_which_it_runs() {
        assert!(BUILT_IN.is_sorted_by_key(|stage| stage.name));
        assert!(BUILT_IN.iter().all(|stage| crate::plan::is_stage_name(stage.name)));
    }
}
