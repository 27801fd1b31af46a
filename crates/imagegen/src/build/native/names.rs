//! Names of users and groups, in the image's own databases.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Native, Stage};
use crate::build::owner::Chown;
use crate::build::problem::BuildProblem;
use crate::layer::{NodeKind, Resolved};

impl Native<'_> {
    /// The numbers of `value`, the value of `flag`, in the image's own databases.
    pub(super) async fn owner(
        &self,
        stage: &mut Stage,
        flag: &'static str,
        value: String,
    ) -> Result<(u64, u64), BuildProblem> {
        let why = "it is not of the form user[:group]";
        let chown = Chown::parse(&value).ok_or(BuildProblem::Flag { flag, value, why })?;
        let (mut passwd, mut group) = (String::new(), String::new());
        if chown.needs_names() {
            passwd = self.text_of(stage, "etc/passwd").await?;
            group = self.text_of(stage, "etc/group").await?;
        }
        chown.numbers(&passwd, &group).map_err(BuildProblem::NoOwner)
    }

    /// A small text file of the image, empty where there is none.
    async fn text_of(&self, stage: &mut Stage, path: &str) -> Result<String, BuildProblem> {
        const MOST: u64 = 16 * 1024 * 1024;
        let tree = stage.stack.tree(&self.context.cache).await.map_err(Box::new)?;
        let Resolved::Path(path) = tree.resolve(Path::new(path), true) else { return Ok(String::new()) };
        let Some(NodeKind::File { size, content }) = tree.get(&path).map(|node| node.kind.clone()) else {
            return Ok(String::new());
        };
        if size > MOST {
            return Err(BuildProblem::Refused(format!("`/{}` of the image is absurdly large", path.display())));
        }
        let (cache, work) = (&self.context.cache, self.context.work);
        let spool = stage.stack.contents(&BTreeSet::from([content]), cache, work).await.map_err(Box::new)?;
        let file = spool.path(content).map(Path::to_owned).unwrap_or_default();
        std::fs::read(&file)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(|source| BuildProblem::Unreadable { path: file, source })
    }
}
