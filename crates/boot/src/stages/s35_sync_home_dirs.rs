//! Stage 35: the home directories move to the volume, when asked to.

use vast_sync::home::{self, Options};

use super::relocate;
use crate::error::Error;
use crate::stage::{Boot, Verdict};

pub(super) const NAME: &str = "35-sync-home-dirs.sh";

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    if !boot.flags.sync_home_to_workspace {
        return Ok(Verdict::skipped("not asked for (--sync-home)"));
    }
    let mut options = Options::new(boot.root.path(), boot.env.workspace());
    options.instance = boot.instance_name();
    relocate::run(boot, NAME, home::plan(&options), move |told, cancel| home::apply(&options, told, cancel))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::super::testing::Fake;
    use super::*;

    fn boot(fake: &Fake) -> Verdict {
        fake.boot(&[], |boot| {
            boot.flags.sync_home_to_workspace = true;
            run(boot).unwrap()
        })
    }

    #[test]
    fn nothing_moves_unless_asked_for() {
        let fake = Fake::new();
        assert!(matches!(fake.run(run, &[]).unwrap(), Verdict::Skipped(_)));
        assert!(fs::read_dir(fake.path("/workspace")).unwrap().next().is_none());
    }

    #[test]
    fn homes_are_links_afterwards_and_keys_stay() {
        let fake = Fake::new();
        fake.write("/root/.ssh/authorized_keys", "key");
        fake.write("/home/user/file", "mine");
        assert_eq!(boot(&fake), Verdict::said("2 directories are on the volume now"));
        assert_eq!(fs::read_link(fake.path("/root")).unwrap(), Path::new("/workspace/home/root"));
        assert_eq!(fake.read("/workspace/home/user/file"), "mine");
        assert_eq!(fs::read_link(fake.path("/workspace/home/root/.ssh")).unwrap(), Path::new("/home_ssh/root/.ssh"));
        assert_eq!(fake.read("/home_ssh/root/.ssh/authorized_keys"), "key");
        assert_eq!(boot(&fake), Verdict::skipped("all is on the volume already"));
    }

    #[test]
    fn a_directory_that_is_not_ours_is_left_alone_and_that_is_recorded() {
        let fake = Fake::new();
        fake.write("/workspace/home/photo.jpg", "theirs");
        let Verdict::GaveUp(reason) = boot(&fake) else { panic!("it was moved") };
        assert!(reason.contains("rename"), "{reason}");
        assert!(fake.path("/root").symlink_metadata().unwrap().is_dir());
    }
}
