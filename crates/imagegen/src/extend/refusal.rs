//! What cannot be put on an image of which only manifests and configurations are known.

use std::fmt;
use std::path::{Path, PathBuf};

use vast_envhash::{Need, may_read};

/// Why an overlay needs more than is recorded with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Paths whose parents may be links, or directories with modes of their own, and empty directories.
    pub unknown_parents: Vec<PathBuf>,
    /// Paths that change the environment, whose hash cannot be taken without reading layers.
    pub environment: Vec<PathBuf>,
}

/// Checks the paths of an overlay, without parents, for an image whose tree is not known.
pub(super) fn check<'a>(paths: impl Iterator<Item = (&'a Path, bool)>) -> Result<(), Refusal> {
    let mut refusal = Refusal { unknown_parents: Vec::new(), environment: Vec::new() };
    for (path, is_directory) in paths {
        // A directory that leads to nothing would take the place of a link, and the mode of one that is there.
        if is_directory || may_lead_elsewhere(path) {
            refusal.unknown_parents.push(path.to_owned());
        } else if may_read(path) != Need::No {
            refusal.environment.push(path.to_owned());
        }
    }
    if refusal.unknown_parents.is_empty() && refusal.environment.is_empty() { Ok(()) } else { Err(refusal) }
}

/// Whether a path is at or below one of the places that are links in many images (`/bin`, `/sbin`, `/lib*`, `/var/run`,
/// `/var/lock`), or directories with modes that must not change (`/tmp`, `/var/tmp`, `/root`) or that what is made in them
/// inherits (Debian's `/var/local` and `/var/mail`).
fn may_lead_elsewhere(path: &Path) -> bool {
    const PLACES: [&str; 9] = ["bin", "sbin", "tmp", "root", "var/run", "var/lock", "var/tmp", "var/local", "var/mail"];
    let is_library = path.iter().next().is_some_and(|first| first.as_encoded_bytes().starts_with(b"lib"));
    is_library || PLACES.iter().any(|place| path.starts_with(place))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |paths: &[PathBuf]| {
            paths.iter().map(|path| format!("`/{}`", path.display())).collect::<Vec<_>>().join(", ")
        };
        if !self.unknown_parents.is_empty() {
            write!(
                f,
                "without its path indexes it cannot be known where these belong: {}",
                list(&self.unknown_parents)
            )?;
            if !self.environment.is_empty() {
                f.write_str("; ")?;
            }
        }
        if !self.environment.is_empty() {
            let what = "these change the environment, whose hash cannot be taken without reading layers";
            write!(f, "{what}: {}", list(&self.environment))?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_places_that_may_lead_elsewhere_and_the_environment_are_refused() {
        let refused = [
            "bin/x",
            "sbin/x",
            "lib/x",
            "lib64/x/y",
            "libx32",
            "var/run/x",
            "var/lock",
            "var/tmp/x",
            "var/local/x",
            "var/mail/x",
            "tmp/x",
            "root/.bashrc",
            "etc/os-release",
            "venv/main/lib/python3.12/site-packages/x.pth",
        ];
        for path in refused {
            assert!(check([(Path::new(path), false)].into_iter()).is_err(), "{path}");
        }
        let empty = check([(Path::new("srv/empty"), true)].into_iter()).unwrap_err().to_string();
        assert!(empty.ends_with("belong: `/srv/empty`"), "{empty}");
        for path in
            ["usr/bin/x", "opt/lib/x", "etc/bin", "var/lib/x", "var/runner/x", "binary", "rooted/x", "usr/lib/x"]
        {
            assert_eq!(check([(Path::new(path), false)].into_iter()), Ok(()), "{path}");
        }
        let both = [(Path::new("bin/x"), false), (Path::new("etc/os-release"), false)];
        let said = check(both.into_iter()).unwrap_err().to_string();
        assert!(said.contains("belong: `/bin/x`; these") && said.ends_with("layers: `/etc/os-release`"), "{said}");
    }
}
