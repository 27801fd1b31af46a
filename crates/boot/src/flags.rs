//! The flags of the entrypoint. Deployed templates pass them, so an unknown one is a warning, never an error.

use crate::env_vars;
use crate::environment::Environment;

/// What the flags decided, under the names of the shell variables that sourced stages read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is one flag of the entrypoint, and one variable of the stages")]
pub struct Flags {
    /// Copy root's SSH keys to the users; off with `--no-user-keys`.
    pub propagate_user_keys: bool,
    /// Load `/etc/environment` into the sequence; off with `--no-export-env`.
    pub export_env: bool,
    /// Make a certificate; off with `--no-cert-gen`.
    pub generate_tls_cert: bool,
    /// Activate the venv in login shells; off with `--no-activate-pyenv`.
    pub activate_python_environment: bool,
    /// Move the environments to the volume; on with `--sync-environment`.
    pub sync_environment: bool,
    /// Move the home directories to the volume; on with `--sync-home`.
    pub sync_home_to_workspace: bool,
    /// Read by deployed stages; nothing updates itself here. Off with `--no-update-portal`.
    pub update_portal: bool,
    /// Read by deployed stages; nothing updates itself here. Off with `--no-update-vast`.
    pub update_vast_cli: bool,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            propagate_user_keys: true,
            export_env: true,
            generate_tls_cert: true,
            activate_python_environment: true,
            sync_environment: false,
            sync_home_to_workspace: false,
            update_portal: true,
            update_vast_cli: true,
        }
    }
}

/// A command line of the entrypoint, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// What the flags decided.
    pub flags: Flags,
    /// Variables that a flag stands for, exported to all stages.
    pub variables: Vec<(&'static str, &'static str)>,
    /// Arguments that mean nothing here.
    pub unknown: Vec<String>,
}

impl Flags {
    /// Reads the arguments of the entrypoint.
    ///
    /// ```
    /// use vast_boot::flags::Flags;
    /// let parsed = Flags::parse(["--sync-home", "--frobnicate"]);
    /// assert!(parsed.flags.sync_home_to_workspace);
    /// assert_eq!(parsed.unknown, ["--frobnicate"]);
    /// ```
    pub fn parse<S: AsRef<str>>(arguments: impl IntoIterator<Item = S>) -> Parsed {
        let mut parsed = Parsed::default();
        let flags = &mut parsed.flags;
        for argument in arguments {
            match argument.as_ref() {
                "--no-user-keys" => flags.propagate_user_keys = false,
                "--no-export-env" => flags.export_env = false,
                "--no-cert-gen" => flags.generate_tls_cert = false,
                "--no-activate-pyenv" => flags.activate_python_environment = false,
                "--sync-environment" => flags.sync_environment = true,
                "--sync-home" => flags.sync_home_to_workspace = true,
                "--no-update-portal" => flags.update_portal = false,
                "--no-update-vast" => flags.update_vast_cli = false,
                "--no-forward-compat" => parsed.variables.push((env_vars::DISABLE_FORWARD_COMPAT, "true")),
                "--jupyter-override" => parsed.variables.push((env_vars::JUPYTER_OVERRIDE, "true")),
                "--no-force-jupyter" => parsed.variables.push((env_vars::FORCE_JUPYTER, "false")),
                unknown => parsed.unknown.push(unknown.to_owned()),
            }
        }
        parsed
    }

    /// Serverless instances have no portal to update and pay for every second of a boot.
    pub fn apply_serverless(&mut self, env: &Environment) {
        if env.is_true(env_vars::SERVERLESS) {
            self.update_portal = false;
            self.update_vast_cli = false;
        }
    }

    /// The variables that a sourced stage sees, unexported.
    #[must_use]
    pub fn shell_variables(&self) -> [(&'static str, bool); 8] {
        [
            ("propagate_user_keys", self.propagate_user_keys),
            ("export_env", self.export_env),
            ("generate_tls_cert", self.generate_tls_cert),
            ("activate_python_environment", self.activate_python_environment),
            ("sync_environment", self.sync_environment),
            ("sync_home_to_workspace", self.sync_home_to_workspace),
            ("update_portal", self.update_portal),
            ("update_vast_cli", self.update_vast_cli),
        ]
    }

    /// Takes over what a sourced stage set one of the variables to; a value other than `true` and `false` changes nothing.
    pub fn set_shell_variable(&mut self, name: &str, value: &str) {
        let Ok(value) = value.parse() else { return };
        let field = match name {
            "propagate_user_keys" => &mut self.propagate_user_keys,
            "export_env" => &mut self.export_env,
            "generate_tls_cert" => &mut self.generate_tls_cert,
            "activate_python_environment" => &mut self.activate_python_environment,
            "sync_environment" => &mut self.sync_environment,
            "sync_home_to_workspace" => &mut self.sync_home_to_workspace,
            "update_portal" => &mut self.update_portal,
            "update_vast_cli" => &mut self.update_vast_cli,
            _ => return,
        };
        *field = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_of_the_deployed_entrypoint_is_known() {
        let parsed = Flags::parse([
            "--no-user-keys",
            "--no-export-env",
            "--no-cert-gen",
            "--no-update-portal",
            "--no-update-vast",
            "--no-activate-pyenv",
            "--no-forward-compat",
            "--sync-environment",
            "--sync-home",
            "--jupyter-override",
            "--no-force-jupyter",
        ]);
        assert_eq!(parsed.unknown, Vec::<String>::new());
        let inverted: Vec<bool> = Flags::default().shell_variables().iter().map(|(_, value)| !value).collect();
        let values: Vec<bool> = parsed.flags.shell_variables().iter().map(|(_, value)| *value).collect();
        assert_eq!(values, inverted);
        assert_eq!(
            parsed.variables,
            [("DISABLE_FORWARD_COMPAT", "true"), ("JUPYTER_OVERRIDE", "true"), ("FORCE_JUPYTER", "false")]
        );
    }

    #[test]
    fn a_stage_can_change_every_variable_it_sees() {
        for (name, value) in Flags::default().shell_variables() {
            let mut flags = Flags::default();
            flags.set_shell_variable(name, if value { "false" } else { "true" });
            let changed: Vec<_> = flags.shell_variables().into_iter().filter(|pair| pair.0 == name).collect();
            assert_eq!(changed, [(name, !value)]);
            flags.set_shell_variable(name, "perhaps");
            assert_eq!(flags.shell_variables().into_iter().filter(|pair| pair.0 == name).collect::<Vec<_>>(), changed);
        }
    }
}
