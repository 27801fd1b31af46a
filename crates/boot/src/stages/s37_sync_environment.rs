//! Stage 37: the environments move to the volume, when asked to.

use vast_sync::SystemPrograms;
use vast_sync::env_vars::ENV_ID;
use vast_sync::environment::{self, Id, Options};

use super::relocate;
use crate::error::Error;
use crate::stage::{Boot, Verdict};

pub(super) const NAME: &str = "37-sync-environment.sh";

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    if !boot.flags.sync_environment {
        return Ok(Verdict::skipped("not asked for (--sync-environment)"));
    }
    let id = match Id::find(boot.env.non_empty(ENV_ID), boot.root.path()) {
        Ok(id) => id,
        Err(error) => return Ok(relocate::gave_up(error)),
    };
    let mut options = Options::new(boot.root.path(), boot.env.workspace(), id);
    options.instance = boot.instance_name();
    relocate::run(boot, NAME, environment::plan(&options), move |told, cancel| {
        environment::apply(&options, &SystemPrograms::default(), told, cancel)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::testing::Fake;
    use super::*;

    fn boot(fake: &Fake, env: &[(&str, &str)]) -> Verdict {
        fake.boot(env, |boot| {
            boot.flags.sync_environment = true;
            run(boot).unwrap()
        })
    }

    fn with_venv(python: &str) -> Fake {
        let fake = Fake::new();
        fake.write("/venv/main/pyvenv.cfg", "home = /usr/bin");
        fs::create_dir(fake.path("/venv/main/bin")).unwrap();
        std::os::unix::fs::symlink(python, fake.path("/venv/main/bin/python")).unwrap();
        fake
    }

    #[test]
    fn nothing_moves_unless_asked_for() {
        let fake = with_venv("/bin/true");
        assert!(matches!(fake.run(run, &[("ENV_ID", "0123")]).unwrap(), Verdict::Skipped(_)));
        assert!(fs::read_dir(fake.path("/workspace")).unwrap().next().is_none());
    }

    #[test]
    fn environments_are_links_afterwards_and_the_next_boot_has_nothing_to_do() {
        let fake = with_venv("/bin/true");
        fake.write("/.env_hash", "0123abcd\n");
        fake.write("/opt/nvm/nvm.sh", "");
        assert_eq!(boot(&fake, &[]), Verdict::said("2 directories are on the volume now"));
        let target = Path::new("/workspace/.environment_sync/0123abcd");
        assert_eq!(fs::read_link(fake.path("/venv/main")).unwrap(), target.join("venv/main"));
        assert_eq!(fs::read_link(fake.path("/opt/nvm")).unwrap(), target.join("nvm"));
        assert_eq!(boot(&fake, &[]), Verdict::skipped("all is on the volume already"));
    }

    #[test]
    fn an_interpreter_that_does_not_run_stays_where_it_is_and_that_is_recorded() {
        let fake = with_venv("/bin/false");
        let Verdict::GaveUp(reason) = boot(&fake, &[("ENV_ID", "0123")]) else { panic!("it was moved") };
        assert!(reason.starts_with("`/venv/main` stays in the container"), "{reason}");
        assert!(fake.path("/venv/main").symlink_metadata().unwrap().is_dir());
    }

    #[test]
    fn an_image_without_an_id_keeps_its_environments_and_says_what_to_do() {
        let fake = with_venv("/bin/true");
        let Verdict::GaveUp(reason) = boot(&fake, &[]) else { panic!("it was moved") };
        assert!(reason.contains("env-hash"), "{reason}");
        let Verdict::GaveUp(reason) = boot(&fake, &[("ENV_ID", "../x")]) else { panic!("it was moved") };
        assert!(reason.contains("no id of an environment"), "{reason}");
    }
}
