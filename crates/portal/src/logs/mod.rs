//! The logs of `/var/log/portal`: which there are, and what they say as they grow.
//!
//! Everybody may write into that directory, so it is read with care: a name is a plain file name, links are not
//! followed, and only regular files are opened.

mod directory;
mod tail;

pub use directory::{Directory, LogFile};
pub use tail::{Chunk, Tail};
