//! Unpublished copies: what they are called, whose they are, and who may clear them away.
//!
//! A copy is made beside its final name, as `.sync_<item>.partial.<owner>`, and renamed when it is complete. The owner in
//! the name is one attempt of one process, so no two attempts ever write to the same place. What a process leaves behind
//! when it dies is a [leftover](sweep), and telling that from the work of one who lives is the delicate part:
//!
//! 1. A process of this very boot and process namespace is looked up: it is there, or it is dead.
//! 2. Where locks are exact, whoever holds an item's lock owns every unpublished copy of that item: a living owner would
//!    hold it.
//! 3. Elsewhere process numbers, clocks and locks of other instances mean nothing. A living owner raises a counter
//!    ([`beat`]) every ten seconds, and one whose counter an observer has not seen move for a minute, by the
//!    observer's own monotonic clock, is dead.
//!
//! Rule 3 can err: an owner may have been paused. So nothing is removed where it is. It is renamed first, in one step; an
//! owner that comes back finds its copy whole or finds it gone, and can never publish half of it.

pub(crate) mod beat;
pub(crate) mod names;
pub(crate) mod owner;
pub(crate) mod sweep;
