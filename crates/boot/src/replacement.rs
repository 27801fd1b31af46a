//! What takes the place of the whole sequence: `BOOT_SCRIPT`, or the image's `boot_custom.sh`.

use std::ffi::OsString;

use crate::env_vars;
use crate::environment::Environment;
use crate::error::Error;
use crate::journal::{Journal, Outcome, Phase};
use crate::process::{self, Wait};
use crate::root::Root;
use crate::script::{self, Script};
use crate::shell;
use crate::stage::Boot;
use crate::supervisor::STOP_GRACE;

/// An image that has this file boots by it.
pub const CUSTOM: &str = "/opt/instance-tools/bin/boot_custom.sh";

const KEPT: &str = "/boot_script.sh";

/// Runs the replacement with the entrypoint's arguments and gives its exit code; nothing when there is none. One that cannot be had is
/// recorded, and the sequence runs in its place: an instance that boots is worth more than one that does not.
pub fn run(boot: &Boot<'_>, arguments: &[OsString], journal: &mut Journal) -> Option<u8> {
    let (name, script) = find(boot)?;
    journal.begin(name, script.as_ref().map_or(name, |script| script.shown.as_str()));
    let ran = script.and_then(|script| {
        boot.say(&format!("booting with {} in place of the built-in sequence", script.shown));
        journal.phase(Phase::Up);
        wait(boot, &script, arguments)
    });
    let (outcome, message, code) = match ran {
        Ok(0) => (Outcome::Done, None, Some(0)),
        Ok(code) => (Outcome::Failed, Some(format!("exited with {code}")), Some(code)),
        Err(Error::Cancelled) => (Outcome::Cancelled, None, Some(crate::sequence::STOPPED)),
        Err(error) => {
            boot.say(&format!("{name}: {}; the built-in sequence runs in its place", error.chain()));
            journal.phase(Phase::Booting);
            (Outcome::Failed, Some(error.chain()), None)
        }
    };
    journal.end(outcome, message);
    if let Some(code) = code {
        journal.finish(code);
    }
    code
}

/// What would replace the sequence, by name, without fetching or running anything.
#[must_use]
pub fn named(root: &Root, env: &Environment) -> Option<&'static str> {
    if env.non_empty(env_vars::BOOT_SCRIPT).is_some() {
        return Some(env_vars::BOOT_SCRIPT);
    }
    root.join(CUSTOM).is_file().then_some("boot_custom.sh")
}

fn find(boot: &Boot<'_>) -> Option<(&'static str, Result<Script, Error>)> {
    let name = named(&boot.root, &boot.env)?;
    let script = match boot.env.non_empty(env_vars::BOOT_SCRIPT) {
        Some(address) => script::obtain(boot, address, KEPT),
        None => Ok(Script { path: boot.root.join(CUSTOM), shown: CUSTOM.to_owned() }),
    };
    Some((name, script))
}

/// Its exit code. After a stop it has as long as Supervisor would have, and ends with its own code if it ends in time.
fn wait(boot: &Boot<'_>, script: &Script, arguments: &[OsString]) -> Result<u8, Error> {
    let mut invocation = shell::script(&script.path, &boot.env)?;
    invocation.arguments.extend(arguments.iter().cloned());
    let mut process = boot.runner.start(&invocation)?;
    Ok(process::exit_code(match process.wait(None) {
        Wait::Ended(status) => status,
        Wait::Cancelled | Wait::TimedOut => process.end(STOP_GRACE),
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use super::*;
    use crate::cancel::Cancel;
    use crate::console::Silent;
    use crate::process::SystemRunner;

    fn replaced(env: &[(&str, &str)], custom: Option<&str>) -> (Option<u8>, Vec<(String, Outcome)>, String) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        fs::create_dir_all(root.join("/var/log")).unwrap();
        if let Some(text) = custom {
            let path = root.join(CUSTOM);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(root.join("/local.sh"), "echo \"script $@\" >$OUT; exit 5\r\n").unwrap();
        let out = directory.path().join("out");
        let cancel = Cancel::new();
        let runner = SystemRunner::new(cancel.clone(), Arc::new(Silent));
        let mut boot = Boot::new(root.clone(), env.iter().copied().collect(), &runner, cancel, Arc::new(Silent));
        boot.env.set("OUT", &out);
        let mut journal = Journal::start(&root, "1", true);
        let code = run(&boot, &["--sync-home".into(), "x y".into()], &mut journal);
        let stages = journal.record().stages.iter().map(|stage| (stage.stage.clone(), stage.outcome)).collect();
        (code, stages, fs::read_to_string(out).unwrap_or_default())
    }

    #[test]
    fn the_script_of_the_environment_goes_before_the_images() {
        let custom = "#!/bin/sh\necho custom $# >$OUT\n";
        let (code, stages, out) = replaced(&[("BOOT_SCRIPT", "/local.sh")], Some(custom));
        assert_eq!((code, out.as_str()), (Some(5), "script --sync-home x y\n"));
        assert_eq!(stages, [("BOOT_SCRIPT".to_owned(), Outcome::Failed)]);
        let (code, stages, out) = replaced(&[], Some(custom));
        assert_eq!((code, out.as_str()), (Some(0), "custom 2\n"));
        assert_eq!(stages, [("boot_custom.sh".to_owned(), Outcome::Done)]);
        assert_eq!(replaced(&[], None).0, None);
    }

    #[test]
    fn a_script_that_cannot_be_had_leaves_the_sequence_to_run() {
        let (code, stages, _) = replaced(&[("BOOT_SCRIPT", "/missing.sh")], None);
        assert_eq!(code, None);
        assert_eq!(stages, [("BOOT_SCRIPT".to_owned(), Outcome::Failed)]);
    }
}
