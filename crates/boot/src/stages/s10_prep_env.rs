//! Stage 10: the workspace, the variables that follow from it, and `/etc/environment`.

use std::fs;

use vast_portal_config::PortalConfig;
use vast_portal_config::jupyter::{self, LaunchMode};

use crate::env_vars;
use crate::error::Error;
use crate::etc_environment;
use crate::files;
use crate::process::Output;
use crate::shell::{self, InMemory, Request};
use crate::stage::{Boot, Verdict};

/// External images keep Python tools here, with links first in `PATH`.
const SHIMS: &str = "/opt/sys-venv/shim";

/// Sources copies of the files, with everything that they assign exported; a variable that is empty names no file.
const LOADER: &str = r#"set -a
[ -z "$__vast_boot_first" ] || . "$__vast_boot_first"
[ -z "$__vast_boot_second" ] || . "$__vast_boot_second"
"#;

/// Each part is done whatever becomes of the others; the first failure is told.
pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    let workspace = prepare_workspace(boot);
    let shims = remove_shims(boot);
    apply_jupyter_rules(boot);
    let hf_home = boot.env.workspace().join(".hf_home");
    boot.env.set_default(env_vars::HF_HOME, hf_home);
    let (kept, written) = write_environment(boot);
    let loaded = if boot.flags.export_env { load_environment(boot, kept) } else { Ok(()) };
    workspace.and(shims).and(written).and(loaded).map(|()| Verdict::done())
}

fn prepare_workspace(boot: &mut Boot<'_>) -> Result<(), Error> {
    let named = boot.env.workspace();
    boot.env.set(env_vars::WORKSPACE, &named);
    boot.env.set_default(env_vars::DATA_DIRECTORY, &named);
    let workspace = boot.workspace();
    files::directory(&workspace)?;
    boot.directory = workspace;
    Ok(())
}

/// The upstream's own interpreter takes over: supervisor and jupyter keep their links, `python*` and `pip*` lose theirs.
fn remove_shims(boot: &Boot<'_>) -> Result<(), Error> {
    let directory = boot.root.join(SHIMS);
    for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        if is_link && (name.starts_with("python") || name.starts_with("pip")) {
            fs::remove_file(entry.path()).map_err(|source| Error::Write { path: entry.path(), source })?;
        }
    }
    Ok(())
}

/// `PORTAL_CONFIG` stays as it was written unless a rule changes what it says.
fn apply_jupyter_rules(boot: &mut Boot<'_>) {
    if boot.env.is_true(env_vars::SERVERLESS) {
        return;
    }
    let map = boot.env.to_map();
    let read = PortalConfig::parse_lenient(boot.env.get(env_vars::PORTAL_CONFIG).unwrap_or_default());
    if boot.env.non_empty(env_vars::PORTAL_CONFIG).is_some() {
        for warning in &read.warnings {
            boot.say(&format!("{}: {warning}", env_vars::PORTAL_CONFIG));
        }
    }
    let mode = LaunchMode::detect(boot.root.path()).unwrap_or_else(|error| {
        boot.say(&format!("{error}; going on as if the image's entrypoint had been started"));
        LaunchMode::Entrypoint
    });
    let ruled = jupyter::apply_rules(&read.config, mode, &map);
    if ruled != read.config {
        boot.env.set(env_vars::PORTAL_CONFIG, ruled.to_string());
    }
}

/// Writes `/etc/environment`, unless it is this instance's: then only this boot's CUDA set-up goes into it. Gives the text that says more
/// than the boot's environment, and whether all was written.
fn write_environment(boot: &Boot<'_>) -> (Option<Vec<u8>>, Result<(), Error>) {
    let path = boot.root.join(etc_environment::PATH);
    let instance = boot.env.instance();
    let old = match files::read_optional(&path) {
        Ok(old) => old,
        Err(error) => return (None, Err(error)),
    };
    if let Some(text) = &old
        && etc_environment::belongs_to(text, instance)
    {
        let renewed = boot.cuda.as_ref().and_then(|plan| etc_environment::renew_cuda(text, plan));
        let written = renewed.as_ref().map_or(Ok(()), |text| files::publish(&path, text, 0o644));
        return (renewed.or(old), written);
    }
    let written = files::publish(&path, &etc_environment::render(&boot.env, instance), 0o644);
    (old.filter(|_| written.is_err()), written)
}

/// Loads `kept`, a text of `/etc/environment`, and `$WORKSPACE/.env`.
fn load_environment(boot: &mut Boot<'_>, kept: Option<Vec<u8>>) -> Result<(), Error> {
    let file = boot.workspace().join(".env");
    let own = if file.is_file() { files::read_optional(&file)? } else { None };
    if kept.is_none() && own.is_none() {
        return Ok(());
    }
    let held = |text: &[u8]| InMemory::holding(text).map_err(|source| Error::Write { path: "memory".into(), source });
    let copy = |text: Option<Vec<u8>>| {
        let text = text.map(|text| files::mend_line_ends(&text).unwrap_or(text));
        text.as_deref().map(held).transpose()
    };
    let (loader, first, second) = (held(LOADER.as_bytes())?, copy(kept)?, copy(own)?);
    let path = |copy: &Option<InMemory>| copy.as_ref().map(InMemory::path).unwrap_or_default();
    let loader_path = loader.path();
    let request = Request {
        file: loader_path.as_ref(),
        env: &boot.env,
        variables: &[("__vast_boot_first", path(&first)), ("__vast_boot_second", path(&second))],
        directory: &boot.directory,
        scratch: &boot.scratch(),
        limit: None,
        output: Output::Heard,
    };
    if let Some(left) = shell::source(&request, boot.runner)?.left {
        boot.env = left.env;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::testing::Fake;
    use super::*;

    #[test]
    fn the_workspace_and_what_follows_from_it_are_set() {
        let fake = Fake::new();
        fake.boot(&[("WORKSPACE", "/data/w")], |boot| {
            run(boot).unwrap();
            for (name, value) in
                [("WORKSPACE", "/data/w"), ("DATA_DIRECTORY", "/data/w"), ("HF_HOME", "/data/w/.hf_home")]
            {
                assert_eq!(boot.env.get(name), Some(value));
            }
            assert_eq!(boot.directory, fake.path("/data/w"));
        });
        assert!(fake.path("/data/w").is_dir());
        Fake::new().boot(&[("DATA_DIRECTORY", "/d"), ("HF_HOME", "/h")], |boot| {
            run(boot).unwrap();
            let values = ["WORKSPACE", "DATA_DIRECTORY", "HF_HOME"].map(|name| boot.env.get(name));
            assert_eq!(values, [Some("/workspace"), Some("/d"), Some("/h")]);
        });
    }

    #[test]
    fn the_environment_file_is_kept_for_its_instance_and_renewed_for_another() {
        let fake = Fake::new();
        let boot_as = |id: &str, extra: &str| {
            fake.boot(&[("CONTAINER_ID", id), ("TOKEN", "it's \"$x\"\n"), ("EXTRA", extra)], |boot| {
                run(boot).unwrap();
                boot.env.get("EXTRA").unwrap().to_owned()
            })
        };
        assert_eq!(boot_as("7", "first"), "first");
        assert!(fake.read("/etc/environment").starts_with("# Template controlled environment for C.7\nPATH="));
        // The user edits it; the same instance boots again and gets the edit, although the platform says otherwise.
        let edited = fake.read("/etc/environment").replace("\"first\"", "\"edited\"");
        fake.write("/etc/environment", &edited);
        assert_eq!(boot_as("7", "second"), "edited");
        assert_eq!(fake.read("/etc/environment"), edited);
        assert_eq!(boot_as("8", "third"), "third");
        assert!(fake.read("/etc/environment").contains("EXTRA=\"third\""));
    }

    #[test]
    fn the_users_env_file_is_loaded_last_whatever_its_line_ends_and_errors() {
        let fake = Fake::new();
        fake.write("/workspace/.env", "A=from_env\r\nB=\"$A and more\"\r\nno_such_command\r\nC=3\r\n");
        fake.boot(&[("A", "template")], |boot| {
            run(boot).unwrap();
            let values = ["A", "B", "C"].map(|name| boot.env.get(name));
            assert_eq!(values, [Some("from_env"), Some("from_env and more"), Some("3")]);
            assert_eq!(boot.env.get("__vast_boot_first"), None);
        });
        assert!(fake.read("/etc/environment").contains("A=\"template\""));
        fake.boot(&[("A", "template")], |boot| {
            boot.flags.export_env = false;
            run(boot).unwrap();
            assert_eq!(boot.env.get("A"), Some("template"));
        });
        assert_eq!(fs::read_dir(fake.path("/run/vast")).unwrap().count(), 0);
    }

    #[test]
    fn only_links_of_python_and_pip_leave_the_shims() {
        let fake = Fake::new();
        fake.write("/opt/sys-venv/shim/python-real", "");
        for name in ["python", "python3.12", "pip3", "supervisorctl"] {
            symlink("../bin/x", fake.path("/opt/sys-venv/shim").join(name)).unwrap();
        }
        fake.run(run, &[]).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(fake.path("/opt/sys-venv/shim")).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["python-real", "supervisorctl"]);
    }

    #[test]
    fn the_jupyter_rules_change_the_configuration_only_where_they_apply() {
        let written = "localhost:1111:11111:/:Instance Portal";
        for (env, expected) in [
            (&[("PORTAL_CONFIG", written)][..], Some(written)),
            (
                &[("PORTAL_CONFIG", written), ("VAST_TCP_PORT_8080", "1")],
                Some(
                    "localhost:1111:11111:/:Instance Portal|localhost:8080:18080:/:Jupyter|localhost:8080:8080:/terminals/1:Jupyter Terminal",
                ),
            ),
            (&[("PORTAL_CONFIG", written), ("VAST_TCP_PORT_8080", "1"), ("FORCE_JUPYTER", "false")], Some(written)),
            (&[("PORTAL_CONFIG", written), ("VAST_TCP_PORT_8080", "1"), ("SERVERLESS", "true")], Some(written)),
            (&[], None),
        ] {
            Fake::new().boot(env, |boot| {
                run(boot).unwrap();
                assert_eq!(boot.env.get("PORTAL_CONFIG"), expected, "{env:?}");
            });
        }
    }

    #[test]
    fn a_bad_entry_is_said_and_costs_only_itself() {
        let fake = Fake::new();
        let value = "localhost:x:1:/:Bad|localhost:1111:11111:/:Instance Portal|localhost:8080:18080:/:Jupyter";
        fake.boot(&[("PORTAL_CONFIG", value)], |boot| {
            run(boot).unwrap();
            assert_eq!(boot.env.get("PORTAL_CONFIG"), Some("localhost:1111:11111:/:Instance Portal"));
        });
        assert!(fake.said().contains("PORTAL_CONFIG"), "{}", fake.said());
    }

    #[test]
    fn a_workspace_that_cannot_be_made_costs_nothing_else() {
        let fake = Fake::new();
        fake.write("/blocked", "a file");
        let result = fake.run(run, &[("WORKSPACE", "/blocked/w")]);
        assert_eq!(result.unwrap_err().to_string(), format!("cannot write `{}`", fake.path("/blocked/w").display()));
        assert!(fake.read("/etc/environment").contains("WORKSPACE=\"/blocked/w\""));
    }
}
