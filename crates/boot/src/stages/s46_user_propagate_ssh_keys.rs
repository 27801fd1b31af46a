//! Stage 46: who may log in as root may log in as every user.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::error::Error;
use crate::files;
use crate::root::Root;
use crate::stage::{Boot, Verdict};
use crate::users;

const KEYS: &str = "authorized_keys";

/// Where home sync keeps the `.ssh` of each user, so that a volume never holds it; `.ssh` in a home is then a link to here.
const KEPT_ON_CONTAINER: &str = "/home_ssh";

pub(super) fn run(boot: &mut Boot<'_>) -> Result<Verdict, Error> {
    if !boot.flags.propagate_user_keys {
        return Ok(Verdict::skipped("--no-user-keys"));
    }
    match propagate(&boot.root)? {
        0 => Ok(Verdict::done()),
        added => Ok(Verdict::said(format!("added keys for {added} users"))),
    }
}

/// Adds root's keys to those of each user in `/home`, and mends modes and owners; how many users got keys. Each user is served whatever
/// becomes of the others.
///
/// # Errors
/// The first failure.
pub fn propagate(root: &Root) -> Result<usize, Error> {
    let roots_own = root.join("/root/.ssh");
    let Some(keys) = files::read_optional(&roots_own.join(KEYS))? else { return Ok(0) };
    let mut result = mend_roots_own(&roots_own);
    let users = users::read(root)?;
    let mut added = 0;
    for entry in fs::read_dir(root.join("/home")).into_iter().flatten().flatten() {
        let Ok(home) = fs::metadata(entry.path()) else { continue };
        if !home.is_dir() {
            continue;
        }
        let in_tree = Path::new("/home").join(entry.file_name());
        let named = users.iter().find(|user| user.home == in_tree).map(|user| (user.uid, user.gid));
        let owner = named.unwrap_or((home.uid(), home.gid()));
        match add(root, &in_tree, &keys, owner) {
            Ok(true) => added += 1,
            Ok(false) => {}
            Err(error) => result = result.and(Err(error)),
        }
    }
    result.map(|()| added)
}

fn mend_roots_own(ssh: &Path) -> Result<(), Error> {
    for (path, mode) in [(ssh.to_owned(), 0o700), (ssh.join(KEYS), 0o600)] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(|source| Error::Write { path, source })?;
    }
    Ok(())
}

/// Adds to one user's keys; whether any was missing. The user owns the directory and may put a link anywhere in it, so every step is
/// relative to a directory that is held open, and no link is followed but the one that home sync makes.
fn add(root: &Root, home: &Path, keys: &[u8], owner: (u32, u32)) -> Result<bool, Error> {
    let path = root.join(home).join(".ssh");
    let failed = |source: io::Error| Error::Write { path: path.clone(), source };
    let real = match fs::read_link(&path) {
        Ok(target) => kept_on_container(root, home, &target).ok_or_else(|| Error::Refused {
            path: path.clone(),
            reason: "it is a link to a place that is not the user's",
        })?,
        Err(_) => path.clone(),
    };
    match rustix::fs::mkdirat(CWD, &real, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(failed(error.into())),
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory =
        fs::File::from(rustix::fs::open(&real, flags, Mode::empty()).map_err(|error| failed(error.into()))?);
    own(&directory, owner, 0o700).map_err(failed)?;

    let old = read_keys(&directory, owner.0).map_err(failed)?;
    let missing: Vec<&[u8]> = missing(&old, keys);
    if missing.is_empty() {
        return Ok(false);
    }
    let mut text = old;
    if text.last().is_some_and(|&last| last != b'\n') {
        text.push(b'\n');
    }
    for line in missing {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    replace_keys(&directory, &text, owner).map_err(failed)?;
    Ok(true)
}

/// The directory that home sync's link leads to, when `target` is that one.
fn kept_on_container(root: &Root, home: &Path, target: &Path) -> Option<PathBuf> {
    let kept = Path::new(KEPT_ON_CONTAINER).join(home.file_name()?).join(".ssh");
    (target == kept).then(|| root.join(kept))
}

/// The user's keys, with their mode and owner mended; none when the file is missing, or is a link or pipe (it is replaced then).
fn read_keys(directory: &fs::File, uid: u32) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, KEYS, flags, Mode::empty()) {
        Ok(file) => fs::File::from(file),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    // A second name of somebody else's file would give that file away.
    if !metadata.is_file() || metadata.nlink() > 1 {
        return Ok(Vec::new());
    }
    fchown(&file, Some(uid), None)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    let mut text = Vec::new();
    (&file).read_to_end(&mut text)?;
    Ok(text)
}

/// Puts `text` in place in one step: a login at this moment finds the old keys or the new ones.
fn replace_keys(directory: &fs::File, text: &[u8], owner: (u32, u32)) -> io::Result<()> {
    let staged = format!(".{KEYS}.{}", std::process::id());
    let _ = rustix::fs::unlinkat(directory, &staged, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut file = fs::File::from(rustix::fs::openat(directory, &staged, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(text)?;
    own(&file, owner, 0o600)?;
    rustix::fs::renameat(directory, &staged, directory, KEYS)?;
    Ok(())
}

fn own(file: &fs::File, owner: (u32, u32), mode: u32) -> io::Result<()> {
    fchown(file, Some(owner.0), Some(owner.1))?;
    file.set_permissions(Permissions::from_mode(mode))
}

/// The lines of `keys` that are keys and not in `old`.
fn missing<'a>(old: &[u8], keys: &'a [u8]) -> Vec<&'a [u8]> {
    let lines = |text: &'a [u8]| text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let has = |wanted: &[u8]| old.split(|&byte| byte == b'\n').any(|line| line.trim_ascii() == wanted);
    let mut missing: Vec<&[u8]> = Vec::new();
    for line in lines(keys).filter(|line| !line.is_empty() && !line.starts_with(b"#")) {
        if !has(line) && !missing.contains(&line) {
            missing.push(line);
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::testing::Fake;
    use super::*;

    fn fake() -> Fake {
        let fake = Fake::new();
        fake.write("/etc/passwd", "user:x:1001:0::/home/user:/bin/bash\n");
        fake.write("/root/.ssh/authorized_keys", "# mine\nssh-ed25519 AAAA one\n\nssh-ed25519 BBBB two");
        fs::create_dir_all(fake.path("/home/user")).unwrap();
        fake
    }

    fn mode_and_owner(fake: &Fake, path: &str) -> (u32, u32, u32) {
        let metadata = fs::symlink_metadata(fake.path(path)).unwrap();
        (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
    }

    #[test]
    fn users_without_the_keys_get_them_once_and_keep_their_own() {
        let fake = fake();
        fake.write("/home/other/.ssh/authorized_keys", "ssh-rsa CCCC theirs\nssh-ed25519 AAAA one");
        std::os::unix::fs::chown(fake.path("/home/other"), Some(2000), Some(2000)).unwrap();
        assert_eq!(propagate(&fake.root()).unwrap(), 2);
        assert_eq!(propagate(&fake.root()).unwrap(), 0);
        assert_eq!(fake.read("/home/user/.ssh/authorized_keys"), "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n");
        assert_eq!(
            fake.read("/home/other/.ssh/authorized_keys"),
            "ssh-rsa CCCC theirs\nssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n"
        );
        assert_eq!(mode_and_owner(&fake, "/home/user/.ssh"), (0o700, 1001, 0));
        assert_eq!(mode_and_owner(&fake, "/home/user/.ssh/authorized_keys"), (0o600, 1001, 0));
        assert_eq!(mode_and_owner(&fake, "/home/other/.ssh/authorized_keys"), (0o600, 2000, 2000));
        assert_eq!(mode_and_owner(&fake, "/root/.ssh").0, 0o700);
        assert_eq!(mode_and_owner(&fake, "/root/.ssh/authorized_keys").0, 0o600);
    }

    #[test]
    fn wrong_modes_and_owners_are_mended_also_when_no_key_is_missing() {
        let fake = fake();
        propagate(&fake.root()).unwrap();
        let keys = fake.path("/home/user/.ssh/authorized_keys");
        fs::set_permissions(&keys, Permissions::from_mode(0o666)).unwrap();
        std::os::unix::fs::chown(&keys, Some(0), Some(0)).unwrap();
        assert_eq!(propagate(&fake.root()).unwrap(), 0);
        assert_eq!((mode_and_owner(&fake, "/home/user/.ssh/authorized_keys")).0, 0o600);
        assert_eq!((mode_and_owner(&fake, "/home/user/.ssh/authorized_keys")).1, 1001);
    }

    #[test]
    fn no_keys_and_no_users_are_no_error() {
        assert_eq!(propagate(&Fake::new().root()).unwrap(), 0);
        let fake = fake();
        fs::remove_dir_all(fake.path("/home")).unwrap();
        assert_eq!(propagate(&fake.root()).unwrap(), 0);
    }

    #[test]
    fn a_users_links_lead_nowhere() {
        let fake = fake();
        let victim = fake.write("/etc/victim", "precious");
        // `.ssh` elsewhere
        symlink(fake.path("/etc"), fake.path("/home/user/.ssh")).unwrap();
        assert!(matches!(propagate(&fake.root()), Err(Error::Refused { .. })));
        assert!(!fake.path("/etc/authorized_keys").exists());
        // the file elsewhere
        fs::remove_file(fake.path("/home/user/.ssh")).unwrap();
        fs::create_dir(fake.path("/home/user/.ssh")).unwrap();
        symlink(&victim, fake.path("/home/user/.ssh/authorized_keys")).unwrap();
        assert_eq!(propagate(&fake.root()).unwrap(), 1);
        // the file under a second name
        fs::remove_file(fake.path("/home/user/.ssh/authorized_keys")).unwrap();
        fs::hard_link(&victim, fake.path("/home/user/.ssh/authorized_keys")).unwrap();
        assert_eq!(propagate(&fake.root()).unwrap(), 1);
        assert_eq!(fake.read("/etc/victim"), "precious");
        assert_eq!(mode_and_owner(&fake, "/etc/victim").1, 0);
        assert!(fake.read("/home/user/.ssh/authorized_keys").contains("AAAA"));
    }

    #[test]
    fn the_link_of_home_sync_is_followed() {
        let fake = fake();
        fs::create_dir_all(fake.path("/home_ssh/user")).unwrap();
        symlink("/home_ssh/user/.ssh", fake.path("/home/user/.ssh")).unwrap();
        assert_eq!(propagate(&fake.root()).unwrap(), 1);
        assert_eq!(mode_and_owner(&fake, "/home_ssh/user/.ssh/authorized_keys"), (0o600, 1001, 0));
    }

    #[test]
    fn the_flag_turns_it_off() {
        let fake = fake();
        fake.boot(&[], |boot| {
            boot.flags.propagate_user_keys = false;
            assert_eq!(run(boot).unwrap(), Verdict::skipped("--no-user-keys"));
        });
        assert!(!fake.path("/home/user/.ssh").exists());
    }
}
