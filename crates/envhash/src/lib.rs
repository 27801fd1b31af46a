//! The environment hash of a container image: inventory, fingerprint, explanation and drift.
//!
//! `env-hash > /.env_hash` ends every image build. The 12 hex digits name the environment: two images with one hash may
//! share a synced copy of their Python environments on a volume. Images in the field carry hashes made by a shell
//! recipe, so this crate gives what that recipe gives when it is run with the real tools, and it does so from the
//! files alone: also for a root that is not the running system, and in milliseconds.
//!
//! # Scheme 1
//!
//! `h12(text)` is the first 12 hex digits, in lower case, of the SHA-256 of the text in UTF-8. LF is the byte 10.
//!
//! ## system
//!
//! `h12` of: Python's `sysconfig.get_platform()`, LF, `platform.machine()`, LF, the lines of `/etc/os-release` that start with
//! `VERSION_ID=` or `VERSION_CODENAME=`, sorted by bytes and joined by LF, LF. On amd64 the first two are `linux-x86_64`
//! and `x86_64`. Without any such line the text ends in two LFs. Lines are taken as they stand, quotes and a carriage return
//! included.
//!
//! ## apt
//!
//! `h12` of `name=version` and LF for each line of `dpkg -l` that starts with `ii` and whose text matches `^lib`, `dev$`, `cuda`
//! or `rocm`; sorted by bytes. Without dpkg: `h12` of nothing.
//!
//! The name is dpkg's: in lower case, with `:arch` for a package that is `Multi-Arch: same` or of another architecture than
//! dpkg's own. The version is dpkg's: its epoch as a number, left out where it is zero. `hi`, `iU`, `rc` and every other
//! state do not count, `iiR` does. Stanzas in `/var/lib/dpkg/updates` replace those of the same package and architecture.
//!
//! ## venv
//!
//! One component for each directory `/venv/*/` in the order of the glob in the C locale: hidden ones left out, symbolic links
//! followed, sorted by the bytes of the name and the slash after it, so that `a-b` comes before `a`.
//!
//! `h12` of: the interpreter's `major.minor.micro`, LF, and `Name==Version` of every distribution, sorted by code point and
//! joined by LF, LF. Without an executable file `bin/python`: `h12` of nothing.
//!
//! - The **interpreter** is what `bin/python` leads to. Its version is what that program states (the exported `Py_Version`
//!   since 3.11; before, records of its installation that have to agree), never what `pyvenv.cfg` says.
//! - The **distributions** are those that `importlib.metadata.distributions()` yields when that interpreter runs `-c` code in
//!   `/` without `PYTHON*` variables: in each directory of `sys.path` the names that end in `.dist-info` or `.egg-info`, and
//!   `EGG-INFO` in `.egg` directories; in zip archives on the path the same. What lies on the path twice, under two names,
//!   counts twice.
//! - **`sys.path`** is the working directory, the standard library and its `lib-dynload`, and the site directories of the
//!   environment; with `include-system-site-packages = true` (the default of a `pyvenv.cfg` that does not say) and for conda
//!   also those of the user and of the base interpreter; and whatever their `.pth` files add, each by the rules of the
//!   installation's own `site.py`.
//! - **`Name` and `Version`** are the header fields of `METADATA`, else `PKG-INFO`, else of the `.egg-info` file itself, as
//!   Python's `email` reads them: the first of each name, continuation lines included and re-indented as that version of
//!   Python does it. A field that is missing prints as `None`. File names do not count.
//!
//! ## hash
//!
//! `h12` of system, apt and each venv, 12 digits each, written together, and LF.
//!
//! ## Proof
//!
//! The recipe in the terms of the real tools is the script `tests/recipe.sh`; tests run it beside this crate in roots of many
//! kinds, and after random changes. `tests/vectors.json` has vectors, which `tests/vectors.py` checks independently.
//! [`Inventory`] has the exact text of each component.
//!
//! # Model
//!
//! [`hash`] reads a [`root`] and gives an [`Inventory`]: every fact that went into the hash. From there all is pure:
//! [`Inventory::recompute`], [`diff`], [`sbom`]. What the files do not decide is either asked of the running system
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
#[cfg(test)]
mod vectors;
mod venv;

pub use diff::{Change, ChangeKind, diff, diff_distributions, normalised, printable};
pub use error::Error;
pub use hash::{EnvHash, InvalidHash};
pub use inventory::{Apt, Distribution, Interpreter, Inventory, Package, SCHEME, System, Venv};
pub use need::{Need, may_read};
pub use take::{Options, hash, installed};
