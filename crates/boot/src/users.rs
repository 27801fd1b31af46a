//! The users of the booted tree, by its own `/etc/passwd`: with another root the host's name service would answer for the wrong system.

use std::path::PathBuf;

use crate::error::Error;
use crate::files;
use crate::root::Root;

/// The homes whose shells and tools the boot prepares: those of the two users that the image family has.
pub const HOMES: [&str; 2] = ["/root", "/home/user"];

/// One line of `/etc/passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The id of the first group.
    pub gid: u32,
    /// The home directory, as a path in the tree.
    pub home: PathBuf,
}

/// All users of `root`; none when there is no `/etc/passwd`.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read(root: &Root) -> Result<Vec<User>, Error> {
    let text = files::read_optional(&root.join("/etc/passwd"))?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).lines().filter_map(parse).collect())
}

/// Takes `name:password:uid:gid:comment:home:shell` apart.
fn parse(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(User { name, uid, gid, home: PathBuf::from(fields.nth(1)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_name_a_user_are_read() {
        let user = parse("user:x:1001:0:,,,:/home/user:/bin/bash").unwrap();
        assert_eq!((user.name.as_str(), user.uid, user.gid), ("user", 1001, 0));
        assert_eq!(user.home, PathBuf::from("/home/user"));
        for line in ["", "#", "+::::::", "user:x:abc:0::/home:/bin/sh", "user:x:1"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
