//! The names in a directory.

use std::ffi::{CStr, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags, RawDir, openat};
use rustix::io::Errno;

/// What was read of a directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// The names, in the order the filesystem gives them.
    pub(crate) names: Vec<OsString>,
    /// Whether these are all.
    pub(crate) complete: bool,
}

/// Reads the names in a directory, up to `most` of them.
pub(crate) fn names(directory: impl AsFd, most: usize) -> Result<Listing, Errno> {
    let mut listing = Listing { names: Vec::new(), complete: true };
    each(directory, |name| {
        listing.complete = listing.names.len() < most;
        if listing.complete {
            listing.names.push(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
        listing.complete
    })?;
    Ok(listing)
}

/// Calls `visit` with every name in a directory until it returns false, reading through a descriptor of its own.
pub(crate) fn each(directory: impl AsFd, mut visit: impl FnMut(&CStr) -> bool) -> Result<(), Errno> {
    let stream = openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = vec![MaybeUninit::uninit(); 32 * 1024];
    let mut stream = RawDir::new(stream, &mut buffer);
    while let Some(entry) = stream.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." && !visit(name) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn a_listing_says_whether_it_is_complete() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b", ".c"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        let directory = File::open(root.path()).unwrap();
        for _ in 0..2 {
            let mut all = names(&directory, 3).unwrap();
            all.names.sort();
            assert_eq!((all.names, all.complete), (vec![".c".into(), "a".into(), "b".into()], true));
        }
        let some = names(&directory, 2).unwrap();
        assert_eq!((some.names.len(), some.complete), (2, false));
    }
}
