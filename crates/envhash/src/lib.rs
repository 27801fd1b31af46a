//! The environment hash of a container image: inventory, fingerprint, explanation and drift.
//!
//! `env-hash > /.env_hash` ends every image build. The 12 hex digits name the environment: two images with one hash may
//! share a synced copy of their Python environments on a volume. Images in the field carry hashes made by a shell
//! recipe, so this crate gives what that recipe gives when it is run with the real tools, and it does so from the
//! files alone: also for a root that is not the running system, and in milliseconds.
//!
//! # Scheme 1
//!
//! `h12(text)` is the first 12 hex digits of the SHA-256 of the text.
//!
//! 1. **system**: `h12` of Python's `sysconfig.get_platform()`, LF, `platform.machine()`, LF, the lines of
//!    `/etc/os-release` that start with `VERSION_ID=` or `VERSION_CODENAME=`, sorted and joined by LF, LF.
//! 2. **apt**: `h12` of `name=version`, LF, for each package that `dpkg -l` prints in state `ii` and where that text matches
//!    `^lib`, `dev$`, `cuda` or `rocm`; sorted by bytes.
//! 3. **venv**, for each directory `/venv/*/` in the order of the glob: `h12` of the interpreter's
//!    `major.minor.micro`, LF, and `Name==Version` of every distribution that `importlib.metadata.distributions()` yields, sorted by
//!    code point and joined by LF, LF. Without an executable `bin/python`: `h12` of nothing.
//! 4. The **hash**: `h12` of system, apt, and each venv, written together, LF.
//!
//! The recipe itself is the script `tests/recipe.sh`; tests run it beside this crate in roots of many kinds.
//! [`Inventory`] has the exact text of each component.
//!
//! # Model
//!
//! [`hash`] reads a [`root`] and gives an [`Inventory`]: every fact that went into the hash. From there all is pure:
//! [`Inventory::recompute`], [`diff`]. What the files do not decide is either asked of the running system
//! ([`Options::live`]), an [`Error`], or, for code in a `.pth` file, one of [`Inventory::notes`].
//!
//! # Example
//!
//! ```
//! use vast_envhash::{Options, hash};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let root = tempfile::tempdir()?;
//! std::fs::create_dir(root.path().join("etc"))?;
//! std::fs::write(root.path().join("etc/os-release"), "VERSION_ID=\"24.04\"\n")?;
//!
//! let options = Options { machine: Some("x86_64".into()), ..Options::default() };
//! let inventory = hash(root.path(), &options)?;
//! assert_eq!(inventory.system.text(), "linux-x86_64\nx86_64\nVERSION_ID=\"24.04\"\n");
//! assert_eq!(inventory.apt.hash.to_string(), "e3b0c44298fc"); // no dpkg: of nothing
//! assert_eq!(inventory.recompute(), inventory.hash);
//! # Ok(())
//! # }
//! ```

mod diff;
mod dpkg;
mod elf;
pub mod env_vars;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod hash;
mod inventory;
mod need;
pub mod root;
pub mod sbom;
mod system;
mod take;
mod venv;

pub use diff::{Change, ChangeKind, diff};
pub use error::Error;
pub use hash::{EnvHash, InvalidHash};
pub use inventory::{Apt, Distribution, Interpreter, Inventory, Package, SCHEME, System, Venv};
pub use need::{Need, may_read};
pub use take::{Options, hash};
