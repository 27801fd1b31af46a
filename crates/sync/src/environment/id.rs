//! What an environment is called on a volume.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::ID_FILE;
use crate::Error;
use crate::relocation::on_host;

/// The id of an environment: `$ENV_ID`, or the hash that the image left in `/.env_hash`.
///
/// It is the name of a directory that is shared by everyone who has the volume, so it is a single name, visible, and
/// without surprises.
///
/// ```
/// use vast_sync::environment::Id;
/// assert_eq!("0123abcd".parse::<Id>()?.as_str(), "0123abcd");
/// for bad in ["", "..", ".hidden", "a/b", "a b", "-rf"] {
///     assert!(bad.parse::<Id>().is_err(), "{bad}");
/// }
/// # Ok::<(), vast_sync::environment::InvalidId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

/// A claim's name is made of the id and an owner, and may have 255 bytes.
const MOST_BYTES: usize = 150;

/// The text is no id of an environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no id of an environment: letters, digits, `.`, `_`, `+` and `-` make one, and the first is a letter or digit", .0.escape_debug())]
pub struct InvalidId(String);

impl Id {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Finds the id of a container from the value of `$ENV_ID`, or else from `/.env_hash` below `root`.
    ///
    /// # Errors
    /// [`Error::NoId`] when there is neither; [`Error::InvalidId`] when it cannot be the name of a directory.
    pub fn find(variable: Option<&str>, root: &Path) -> Result<Self, Error> {
        if let Some(value) = variable.map(str::trim).filter(|value| !value.is_empty()) {
            return Ok(value.parse()?);
        }
        let path = on_host(root, Path::new(ID_FILE));
        match std::fs::read(&path) {
            Ok(text) if !text.trim_ascii().is_empty() => {
                Ok(String::from_utf8_lossy(text.trim_ascii()).as_ref().parse()?)
            }
            Ok(_) => Err(Error::NoId { path }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::NoId { path }),
            Err(source) => Err(Error::Io { action: "read", path, source }),
        }
    }
}

impl FromStr for Id {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
        let begins_well = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        if begins_well && text.len() <= MOST_BYTES && text.bytes().all(is_good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId(text.chars().take(MOST_BYTES).collect()))
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_comes_before_the_file_and_neither_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(Id::find(None, root.path()), Err(Error::NoId { .. })));
        std::fs::write(root.path().join(".env_hash"), " \n").unwrap();
        assert!(matches!(Id::find(Some(" "), root.path()), Err(Error::NoId { .. })));
        std::fs::write(root.path().join(".env_hash"), "0123abcd\n").unwrap();
        assert_eq!(Id::find(Some(""), root.path()).unwrap().as_str(), "0123abcd");
        assert_eq!(Id::find(Some("other"), root.path()).unwrap().as_str(), "other");
        assert!(matches!(Id::find(Some("../up"), root.path()), Err(Error::InvalidId(_))));
    }
}
