//! The parsers of hostile bytes, each with what has to hold whatever it is given. For fuzz targets, and for the tests that
//! go through the inputs which fuzzing has found.

use std::fs::File;
use std::io::{Seek as _, Write as _};

use crate::dpkg;
use crate::elf::{self, Elf};
use crate::venv::fuzzing as venv;

/// The metadata of a distribution, under every way in which installations treat folded values.
///
/// # Panics
/// Where a promise is broken: that is what fuzzing looks for.
pub fn metadata(bytes: &[u8]) {
    venv::metadata(bytes);
}

/// A package database.
///
/// # Panics
/// Where a promise is broken.
pub fn dpkg_status(bytes: &[u8]) {
    match dpkg::parse(bytes) {
        Ok(stanzas) => {
            for stanza in stanzas {
                assert!(!stanza.name.is_empty());
                assert!(!stanza.installed || !stanza.version.is_empty());
                // What is printed is one line of columns.
                let fields = [&stanza.name, &stanza.architecture, &stanza.version];
                assert!(fields.iter().all(|field| !field.contains('\n')), "{stanza:?}");
            }
        }
        Err(malformed) => {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&malformed.line), "line {} of {lines}", malformed.line);
            assert!(!malformed.problem.is_empty());
        }
    }
}

/// A path configuration file.
///
/// # Panics
/// Where a promise is broken.
pub fn pth(bytes: &[u8]) {
    venv::pth(bytes);
}

/// A program or library.
///
/// # Panics
/// Where a promise is broken.
pub fn program(bytes: &[u8]) {
    let Some(file) = memory(bytes) else { return };
    let _ = elf::machine(&file);
    if let Some(elf) = Elf::read(&file) {
        let _ = elf.exported_u64("Py_Version");
        let wanted = elf.wanted();
        assert!(wanted.libraries.iter().all(|name| name.len() <= bytes.len()));
        assert!(elf.read_only_data().is_none_or(|data| data.len() <= bytes.len()));
    }
}

/// A zip archive on the search path.
///
/// # Panics
/// Where a promise is broken.
pub fn archive(bytes: &[u8]) {
    venv::archive(bytes);
}

/// A file of these bytes that has no name; `None` where the system refuses one.
pub(crate) fn memory(bytes: &[u8]) -> Option<File> {
    let descriptor = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
    let mut file = File::from(descriptor);
    file.write_all(bytes).ok()?;
    file.rewind().ok()?;
    Some(file)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    type Target = (&'static str, fn(&[u8]));

    /// What fuzzing kept: the inputs that together reach all code it ever reached.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let files = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let inputs: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(!inputs.is_empty(), "{}", directory.display());
        inputs
    }

    #[test]
    fn the_corpora_keep_every_promise() {
        let targets: [Target; 5] = [
            ("envhash_metadata", metadata),
            ("envhash_dpkg", dpkg_status),
            ("envhash_pth", pth),
            ("envhash_program", program),
            ("envhash_archive", archive),
        ];
        for (target, promise) in targets {
            for input in corpus(target) {
                promise(&input);
            }
        }
    }
}
