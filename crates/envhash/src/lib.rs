//! The environment hash of a container image: inventory, fingerprint, explanation and drift.
mod diff;
mod dpkg;
mod elf;
pub mod error;
pub mod hash;
pub mod inventory;
mod need;
pub mod root;
mod system;
mod take;
mod venv;

pub use diff::{Change, diff};
pub use error::Error;
pub use hash::{EnvHash, InvalidHash};
pub use inventory::{Apt, Distribution, Interpreter, Inventory, Package, SCHEME, System, Venv};
pub use need::{Need, may_read};
pub use take::{Options, hash};
