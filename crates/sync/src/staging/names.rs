//! The names of locks and unpublished copies.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use sha2::{Digest, Sha256};

use super::owner::Owner;

/// An item's name is part of its lock's name and of its copies' names, which may have 255 bytes. What is longer than this is
/// cut and gets a digest.
const STEM_MOST_BYTES: usize = 150;

const PARTIAL: &[u8] = b".partial.";

/// Whose names they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Items of a workspace; each has a lock.
    Sync,
    /// Targets of `vast-sync copy`; there are no locks.
    Copy,
}

impl Family {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Sync => b".sync_",
            Self::Copy => b".copy_",
        }
    }
}

/// The part of an item's name that its lock and its copies have in theirs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stem(OsString);

impl Stem {
    pub(crate) fn of(item: &OsStr) -> Self {
        let bytes = item.as_bytes();
        if bytes.len() <= STEM_MOST_BYTES {
            return Self(item.to_owned());
        }
        let digest = hex::encode(&Sha256::digest(bytes)[..8]);
        Self(OsString::from_vec([&bytes[..STEM_MOST_BYTES - 17], b"-", digest.as_bytes()].concat()))
    }

    /// `.sync_<stem>.lock`, as deployed images call it.
    pub(crate) fn lock(&self) -> OsString {
        OsString::from_vec([Family::Sync.prefix(), self.0.as_bytes(), b".lock"].concat())
    }

    /// `.sync_<stem>.partial.<owner>`.
    pub(crate) fn partial(&self, family: Family, owner: &Owner) -> OsString {
        let owner = owner.to_string();
        OsString::from_vec([family.prefix(), self.0.as_bytes(), PARTIAL, owner.as_bytes()].concat())
    }

    pub(crate) fn as_os_str(&self) -> &OsStr {
        &self.0
    }
}

/// Something beside an unpublished copy that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Companion {
    /// The counter that its owner raises.
    Beat,
    /// What has no place in the tree yet.
    Scratch,
    /// The copy itself, once someone has begun to remove it.
    Dead,
}

impl Companion {
    const ALL: [(Self, &'static str); 3] = [(Self::Beat, ".beat"), (Self::Scratch, ".scratch"), (Self::Dead, ".dead")];

    /// Its name, from the name of the copy.
    pub(crate) fn of(self, partial: &OsStr) -> OsString {
        let mut name = partial.to_owned();
        name.push(Self::ALL.iter().find(|(companion, _)| *companion == self).map_or("", |(_, suffix)| suffix));
        name
    }
}

/// A name that says it is an unpublished copy, or belongs to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partial {
    pub(crate) stem: Stem,
    /// The copy's own name.
    pub(crate) name: OsString,
    /// Absent when another version of this program wrote it.
    pub(crate) owner: Option<Owner>,
    /// What it is, if not the copy itself.
    pub(crate) companion: Option<Companion>,
}

impl Partial {
    /// Reads a name; `None` if it is not of that family.
    pub(crate) fn parse(family: Family, name: &OsStr) -> Option<Self> {
        let rest = name.as_bytes().strip_prefix(family.prefix())?;
        let at = rest.windows(PARTIAL.len()).rposition(|window| window == PARTIAL)?;
        let (stem, owner) = (&rest[..at], &rest[at + PARTIAL.len()..]);
        if stem.is_empty() || owner.is_empty() {
            return None;
        }
        let (companion, suffix) = Companion::ALL
            .into_iter()
            .find(|(_, suffix)| owner.ends_with(suffix.as_bytes()))
            .map_or((None, ""), |(companion, suffix)| (Some(companion), suffix));
        let owner = &owner[..owner.len() - suffix.len()];
        Some(Self {
            stem: Stem(OsStr::from_bytes(stem).to_owned()),
            name: OsStr::from_bytes(&name.as_bytes()[..name.len() - suffix.len()]).to_owned(),
            owner: std::str::from_utf8(owner).ok().and_then(|owner| owner.parse().ok()),
            companion,
        })
    }
}

/// Whether an item may not be called that, because it would be taken for a lock or an unpublished copy.
pub(crate) fn is_reserved(item: &OsStr) -> bool {
    Partial::parse(Family::Sync, item).is_some()
        || (item.as_bytes().starts_with(Family::Sync.prefix()) && item.as_bytes().ends_with(b".lock"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_deployed_images() {
        let stem = Stem::of(OsStr::new("ComfyUI"));
        let owner: Owner = "5a1c9e02-4711-88213-9f00ab12".parse().unwrap();
        assert_eq!(stem.lock(), ".sync_ComfyUI.lock");
        let partial = stem.partial(Family::Sync, &owner);
        assert_eq!(partial, ".sync_ComfyUI.partial.5a1c9e02-4711-88213-9f00ab12");
        assert_eq!(stem.partial(Family::Copy, &owner), ".copy_ComfyUI.partial.5a1c9e02-4711-88213-9f00ab12");
        assert_eq!(Companion::Beat.of(&partial), ".sync_ComfyUI.partial.5a1c9e02-4711-88213-9f00ab12.beat");
    }

    #[test]
    fn names_of_others_are_left_alone() {
        for name in ["ComfyUI", ".sync_", ".sync_app.lock", ".sync_.partial.x", ".sync_app.partial.", ".syncing", ""] {
            assert_eq!(Partial::parse(Family::Sync, OsStr::new(name)), None, "{name}");
        }
        let foreign = Partial::parse(Family::Sync, OsStr::new(".sync_app.partial.version-two")).unwrap();
        assert_eq!(foreign.owner, None);
        assert!(is_reserved(OsStr::new(".sync_app.lock")) && is_reserved(OsStr::new(".sync_a.partial.b")));
        assert!(!is_reserved(OsStr::new(".sync_app")) && !is_reserved(OsStr::new("app.lock")));
    }

    proptest! {
        #[test]
        fn every_name_fits_and_reads_back(item in "[^/\0]{1,255}", companion in 0_usize..4) {
            prop_assume!(item.len() <= 255);
            let (stem, owner) = (Stem::of(OsStr::new(&item)), Owner::new());
            let partial = stem.partial(Family::Sync, &owner);
            let companion = Companion::ALL.get(companion).map(|(companion, _)| *companion);
            let name = companion.map_or_else(|| partial.clone(), |companion| companion.of(&partial));
            prop_assert!(name.len() <= 255 && stem.lock().len() <= 255);
            let read = Partial::parse(Family::Sync, &name).unwrap();
            prop_assert_eq!(read, Partial { stem, name: partial, owner: Some(owner), companion });
        }
    }
}
