//! Stage 45: one marked block in the `.bashrc` of root and of `user`.

use std::path::Path;

use crate::error::Error;
use crate::files;
use crate::quote;
use crate::stage::{Boot, Verdict};
use crate::users::HOMES;

/// The lines that deployed tools look for; the block between them is ours.
const BEGIN: &str = "### Entrypoint setup ###";
const END: &str = "### End entrypoint setup ###";

/// A shell that is not interactive gets the environment and no more: a changed directory or a line of output would break `scp` and
/// `rsync`.
const ENTER: &str = r#"case $- in
*i*)
    cd "${WORKSPACE:-/}" || true
    if [ -e /.provisioning ]; then echo "This instance is still being set up: see /var/log/portal/provisioning.log"; fi
    ;;
esac
"#;

const LOAD: &str = r#"set -a
if [ -r /etc/environment ]; then . /etc/environment; fi
if [ -r "${WORKSPACE:-}/.env" ]; then . "${WORKSPACE:-}/.env"; fi
set +a
if [ -s "${NVM_DIR:=/opt/nvm}/nvm.sh" ]; then . "$NVM_DIR/nvm.sh"; fi
"#;

const ACTIVATE: &str = r#"if [ -r "/venv/${ACTIVE_VENV:-main}/bin/activate" ]; then . "/venv/${ACTIVE_VENV:-main}/bin/activate"; fi
"#;

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    let block = block(&boot.env.workspace(), boot.flags.activate_python_environment);
    let mut result = Ok(());
    for home in HOMES {
        let home = boot.root.join(home);
        if home.is_dir() {
            result = result.and(write(&home, &block));
        }
    }
    result.map(|()| Verdict::done())
}

/// The block, with its marks.
fn block(workspace: &Path, activate: bool) -> String {
    let workspace = quote::assignment("WORKSPACE".as_ref(), workspace.as_os_str());
    let workspace = String::from_utf8_lossy(&workspace);
    let activate = if activate { ACTIVATE } else { "" };
    format!(
        "{BEGIN}\n# Written at every boot: a change between these marks is lost.\n{workspace}\n{LOAD}{activate}{ENTER}{END}\n"
    )
}

fn write(home: &Path, block: &str) -> Result<(), Error> {
    let path = home.join(".bashrc");
    files::refuse_foreign_link(&path, home)?;
    let old = files::read_optional(&path)?.unwrap_or_default();
    let new = with_block(&old, block.as_bytes());
    if new == old { Ok(()) } else { files::publish(&path, &new, 0o644) }
}

/// `text` with its blocks replaced by one `block`, at the place of the first; at the end when there is none. Where the end of a block is
/// missing, only its first line goes: what follows may be the user's.
fn with_block(text: &[u8], block: &[u8]) -> Vec<u8> {
    let is = |line: &[u8], mark: &str| line.trim_ascii_end() == mark.as_bytes();
    let mut result = Vec::with_capacity(text.len() + block.len());
    let mut lines = text.split_inclusive(|&byte| byte == b'\n');
    let mut placed = false;
    while let Some(line) = lines.next() {
        if !is(line, BEGIN) {
            result.extend_from_slice(line);
            continue;
        }
        if let Some(end) = lines.clone().position(|line| is(line, END)) {
            lines.nth(end);
        }
        if !std::mem::replace(&mut placed, true) {
            result.extend_from_slice(block);
        }
    }
    if !placed {
        if result.last().is_some_and(|&last| last != b'\n') {
            result.push(b'\n');
        }
        result.extend_from_slice(block);
    }
    result
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, chown, symlink};
    use std::process::Command;

    use super::super::testing::Fake;
    use super::*;

    #[test]
    fn the_block_is_placed_once_and_the_rest_stays() {
        let ours = format!("{BEGIN}\nnew\n{END}\n");
        for (text, expected) in [
            ("", "@"),
            ("a\n", "a\n@"),
            ("a", "a\n@"),
            ("a\n@b\n", "a\n@b\n"),
            ("a\n### Entrypoint setup ###\nold\n### End entrypoint setup ###\nb\n", "a\n@b\n"),
            ("@@", "@"),
            ("### Entrypoint setup ###\nmine\n", "@mine\n"),
            ("\u{fffd}### Entrypoint setup ###\n", "\u{fffd}### Entrypoint setup ###\n@"),
        ] {
            let [text, expected] = [text, expected].map(|text| text.replace('@', &ours));
            assert_eq!(with_block(text.as_bytes(), ours.as_bytes()), expected.as_bytes(), "{text}");
        }
    }

    #[test]
    fn root_and_user_get_the_block_and_keep_what_they_wrote() {
        let fake = Fake::new();
        let file = fake.write("/home/user/.bashrc", "alias ll='ls -l'\n");
        chown(&file, Some(1001), Some(0)).unwrap();
        fs::create_dir_all(fake.path("/home/other")).unwrap();
        for _ in 0..2 {
            fake.run(run, &[]).unwrap();
            let text = fake.read("/home/user/.bashrc");
            assert!(text.starts_with("alias ll='ls -l'\n### Entrypoint setup ###\n"));
            assert_eq!(text.matches(BEGIN).count(), 1);
            assert_eq!(fs::metadata(&file).unwrap().uid(), 1001);
            assert!(fake.read("/root/.bashrc").ends_with("### End entrypoint setup ###\n"));
        }
        assert!(!fake.path("/home/other/.bashrc").exists());
    }

    #[test]
    fn a_link_to_another_users_file_is_not_written_through() {
        let fake = Fake::new();
        let victim = fake.write("/etc/shadow", "root:*\n");
        fs::create_dir_all(fake.path("/home/user")).unwrap();
        chown(fake.path("/home/user"), Some(1001), Some(0)).unwrap();
        symlink(&victim, fake.path("/home/user/.bashrc")).unwrap();
        assert!(matches!(fake.run(run, &[]), Err(Error::Refused { .. })));
        assert_eq!(fake.read("/etc/shadow"), "root:*\n");
    }

    #[test]
    fn a_login_shell_enters_the_workspace_and_another_shell_stays_silent() {
        let fake = Fake::new();
        let workspace = fake.path("/it's here $x");
        fs::create_dir_all(&workspace).unwrap();
        fs::write(workspace.join(".env"), "FROM_ENV=1\n").unwrap();
        let rc = fake.write("/rc", &block(&workspace, true));
        let shell = |flags: &str| {
            let script = ". \"$0\"; echo \"$FROM_ENV $PWD\"; env | grep -c ^FROM_ENV=";
            let output =
                Command::new("bash").args(["--norc", flags, script]).arg(&rc).current_dir("/").output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(shell("-c"), "1 /\n1\n");
        assert!(shell("-ic").contains(&format!("1 {}\n1\n", workspace.display())));
    }

    #[test]
    fn the_venv_is_activated_unless_the_flag_says_otherwise() {
        assert!(block("/w".as_ref(), true).contains("/venv/${ACTIVE_VENV:-main}/bin/activate"));
        assert!(!block("/w".as_ref(), false).contains("/venv/"));
    }
}
