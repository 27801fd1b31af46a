//! The boot sequence of a Vast.ai container: stages, environment, supervision and journal.

pub mod cancel;
pub mod certificate;
pub mod console;
pub mod env_vars;
pub mod environment;
pub mod error;
pub mod etc_environment;
pub mod fetch;
pub mod files;
pub mod flags;
pub mod init;
pub mod journal;
pub mod plan;
pub mod process;
pub mod quote;
pub mod redact;
pub mod replacement;
pub mod root;
pub mod script;
pub mod sequence;
pub mod shell;
pub mod stage;
pub mod stages;
pub mod supervisor;
pub mod users;
