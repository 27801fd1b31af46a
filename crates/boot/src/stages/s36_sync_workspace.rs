//! Stage 36: what the image brings for the workspace.

use vast_sync::workspace::{self, Options};

use super::sync_progress::Told;
use crate::error::Error;
use crate::stage::{Boot, Verdict};

/// The image's items.
pub const INTERNAL: &str = "/opt/workspace-internal";

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    let options = Options::new(boot.root.join(INTERNAL), boot.workspace());
    let plan = workspace::plan(&options)?;
    if plan.is_empty() {
        return Ok(Verdict::skipped("the workspace has all that the image brings"));
    }
    let told = Told::new("36-sync-workspace.sh", boot);
    let report = boot.interruptible(move || workspace::apply(&plan, &options, &told))??;
    Ok(match report.published() {
        0 => Verdict::done(),
        1 => Verdict::said("published 1 item"),
        count => Verdict::said(format!("published {count} items")),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Fake;
    use super::*;

    #[test]
    fn an_image_without_items_has_nothing_to_publish() {
        let fake = Fake::new();
        assert!(matches!(fake.run(run, &[]).unwrap(), Verdict::Skipped(_)));
    }

    #[test]
    fn the_images_items_are_published_and_the_users_kept() {
        let fake = Fake::new();
        fake.write("/opt/workspace-internal/app/main.py", "new");
        fake.write("/opt/workspace-internal/mine/x", "image");
        fake.write("/workspace/mine/x", "user");
        assert_eq!(fake.run(run, &[]).unwrap(), Verdict::said("published 1 item"));
        assert_eq!(
            (fake.read("/workspace/app/main.py"), fake.read("/workspace/mine/x")),
            ("new".into(), "user".into())
        );
    }
}
