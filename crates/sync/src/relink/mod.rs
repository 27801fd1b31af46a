//! Replacing a directory of the container by a link to its copy on a volume.
//!
//! A rename does not put a link in a directory's place. Exchanging the two does, in one step; but in a container the
//! directory is in a lower layer of an overlay, and without `redirect_dir` such a directory can be neither renamed nor
//! exchanged (EXDEV). Then it has to be removed first, and for a while there is neither it nor the link. What is to be
//! done is therefore written into a [journal] on the container's own disk before, and completed by the next run if
//! this one dies.

pub(crate) mod journal;
pub(crate) mod lock;
mod swap;

pub(crate) use journal::Journal;
pub(crate) use swap::{ASIDE, Found, Place, Swapped, finish, look, recover, restore, swap};
