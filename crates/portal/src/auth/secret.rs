//! Secrets that the portal makes itself and keeps in files only root may read.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use vast_portal_config::place;

use crate::Error;

/// Where the random token lives that stands in when neither `WEB_PASSWORD` nor `OPEN_BUTTON_TOKEN` is set.
#[must_use]
pub fn token_file(root: &Path) -> PathBuf {
    place::kept(root, "vast-portal.token")
}

/// Where the key lives that cookies are signed with.
#[must_use]
pub fn key_file(root: &Path) -> PathBuf {
    place::kept(root, "vast-portal.key")
}

/// A secret of 64 hexadecimal digits, from its file or newly made.
#[derive(Clone)]
pub struct Generated(String);

impl std::fmt::Debug for Generated {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Generated(…)")
    }
}

impl Generated {
    /// The secret in the file; the first caller makes it, the file is created whole (0600) and never replaced.
    ///
    /// # Errors
    /// When the file cannot be read or made, is readable by others than its owner, or does not hold a secret.
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        if let Some(secret) = Self::load(path)? {
            return Ok(secret);
        }
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(Error::Random)?;
        let secret = hex::encode(bytes);
        let directory = path.parent().unwrap_or_else(|| Path::new("/"));
        place::make_directory(directory).map_err(Error::file("create", directory))?;
        let cannot = |source| Error::File { action: "keep a secret in", path: path.to_owned(), source };
        let mut file = tempfile::Builder::new().prefix(".vast-portal-").tempfile_in(directory).map_err(cannot)?;
        file.write_all(secret.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(cannot)?;
        match file.persist_noclobber(path) {
            Ok(_) => Ok(Self(secret)),
            // Another process was first: its secret is the secret.
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
                Self::load(path)?.ok_or_else(|| cannot(error.error))
            }
            Err(error) => Err(cannot(error.error)),
        }
    }

    /// The secret in the file, if there is a file.
    fn load(path: &Path) -> Result<Option<Self>, Error> {
        let open =
            OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path);
        let file: File = match open {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("read", path)(error)),
        };
        let bad = |reason| Error::Secret { path: path.to_owned(), reason };
        if file.metadata().map_err(Error::file("read", path))?.mode() & 0o077 != 0 {
            return Err(bad("others may read it"));
        }
        let mut text = String::new();
        file.take(256).read_to_string(&mut text).map_err(Error::file("read", path))?;
        let text = text.trim();
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Some(Self(text.to_owned())))
        } else {
            Err(bad("it is not 64 hexadecimal digits"))
        }
    }

    /// The digits.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/token");
        let first = Generated::load_or_create(&path).unwrap();
        assert_eq!(Generated::load_or_create(&path).unwrap().reveal(), first.reveal());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(!format!("{first:?}").contains(first.reveal()));
    }

    #[test]
    fn a_secret_that_others_read_or_that_was_cut_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for (text, mode, reason) in [
            ("00".repeat(32), 0o644, "others may read"),
            ("00".repeat(31), 0o600, "not 64"),
            (String::new(), 0o600, "not 64"),
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(Generated::load_or_create(&path).unwrap_err().to_string().contains(reason));
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "00".repeat(32)).unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(Generated::load_or_create(&link).is_err());
    }
}
