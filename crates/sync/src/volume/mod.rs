//! The filesystem that is written to, and what it can be relied on for.
//!
//! A volume may be shared with other instances, on this machine or elsewhere, and may lack what a local Linux filesystem
//! has. Each file here is one thing asked of it: [what it is](kind), [locks](lock), [room](space), [durability](flush)
//! and [publishing](publish). The rule that holds them together: what is correct never depends on a lock. A lock only
//! keeps instances from doing the same work twice.

pub(crate) mod flush;
pub(crate) mod kind;
pub(crate) mod listing;
pub(crate) mod lock;
pub(crate) mod publish;
pub(crate) mod space;
