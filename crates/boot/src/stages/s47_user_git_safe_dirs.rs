//! Stage 47: git trusts the workspace's repositories, whoever owns them there.

mod config;
mod find;

use crate::error::Error;
use crate::files;
use crate::root::Root;
use crate::stage::{Boot, Verdict};
use crate::users::HOMES;

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    let workspace = boot.workspace();
    let repositories = find::repositories(&workspace, &boot.env.workspace());
    if repositories.is_empty() {
        return Ok(Verdict::skipped("no repositories in the workspace"));
    }
    let mut result = Ok(());
    let mut added = 0;
    for home in HOMES {
        match trust(&boot.root, home, &repositories) {
            Ok(count) => added = added.max(count),
            Err(error) => result = result.and(Err(error)),
        }
    }
    result.map(|()| if added == 0 { Verdict::done() } else { Verdict::said(format!("added {added}")) })
}

/// Adds what is missing to one user's configuration; how many that was.
fn trust(root: &Root, home: &str, repositories: &[std::ffi::OsString]) -> Result<usize, Error> {
    let home = root.join(home);
    if !home.is_dir() {
        return Ok(0);
    }
    let path = home.join(".gitconfig");
    files::refuse_foreign_link(&path, &home)?;
    let old = files::read_optional(&path)?.unwrap_or_default();
    let (new, added) = config::with_safe_directories(&old, repositories);
    if added > 0 {
        files::publish(&path, &new, 0o644)?;
    }
    Ok(added)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::super::testing::Fake;
    use super::*;

    #[test]
    fn each_repository_is_trusted_once_for_root_and_user() {
        let fake = Fake::new();
        fs::create_dir_all(fake.path("/home/user")).unwrap();
        fake.write("/root/.gitconfig", "[user]\n\tname = me\n");
        for repository in ["app", "a b \"c\" \\d;#"] {
            fs::create_dir_all(fake.path("/workspace").join(repository).join(".git")).unwrap();
        }
        assert_eq!(fake.run(run, &[]).unwrap(), Verdict::said("added 2"));
        assert_eq!(fake.run(run, &[]).unwrap(), Verdict::done());
        for home in ["/root", "/home/user"] {
            let config = fake.path(home).join(".gitconfig");
            let output = Command::new("git")
                .args(["config", "--file"])
                .arg(&config)
                .args(["--get-all", "safe.directory"])
                .output();
            let listed = String::from_utf8(output.unwrap().stdout).unwrap();
            assert_eq!(listed, "/workspace/a b \"c\" \\d;#\n/workspace/app\n", "git reads what was written");
        }
        assert!(fake.read("/root/.gitconfig").starts_with("[user]\n\tname = me\n[safe]\n"));
    }

    #[test]
    fn a_workspace_without_repositories_changes_nothing() {
        let fake = Fake::new();
        assert!(matches!(fake.run(run, &[]).unwrap(), Verdict::Skipped(_)));
        assert!(!fake.path("/root/.gitconfig").exists());
    }
}
