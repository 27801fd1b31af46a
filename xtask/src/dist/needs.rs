//! What a binary needs of the system that it runs on: shared libraries and symbol versions.

use std::fmt;

use anyhow::{Context as _, Result};
use object::elf::FileHeader64;
use object::read::elf::{Dyn as _, FileHeader as _};
use object::{Endianness, elf};

/// A version of glibc.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What an ELF file's dynamic section asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Names as in `libc.so.6`.
    pub(crate) libraries: Vec<String>,
    /// Names as in `GLIBC_2.17`, sorted, each once.
    pub(crate) versions: Vec<String>,
}

/// What every glibc system has, without version numbers: DESIGN, rule 7. The loader itself is asked for where a binary
/// uses thread-local storage.
const LIBRARIES: &[&str] =
    &["libc.so", "libm.so", "libdl.so", "libpthread.so", "libgcc_s.so", "ld-linux-x86-64.so", "ld-linux-aarch64.so"];

/// The newest version of libgcc's symbols: that of GCC 8, which is as old as glibc 2.28.
const GCC: Version = Version { major: 8, minor: 0 };

/// Reads the needs of a 64-bit ELF file.
pub(crate) fn read(bytes: &[u8]) -> Result<Needs> {
    let header = FileHeader64::<Endianness>::parse(bytes).context("no ELF header")?;
    let endian = header.endian().context("unknown byte order")?;
    let sections = header.sections(endian, bytes).context("no sections")?;
    let mut needs = Needs::default();
    if let Some((entries, link)) = sections.dynamic(endian, bytes).context("broken dynamic section")? {
        let strings = sections.strings(endian, bytes, link).context("no strings for the dynamic section")?;
        for entry in entries.iter().filter(|entry| entry.tag(endian) == elf::DT_NEEDED) {
            let name = entry.string(endian, strings).context("a library without a name")?;
            needs.libraries.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    if let Some((mut entries, link)) = sections.gnu_verneed(endian, bytes).context("broken version needs")? {
        let strings = sections.strings(endian, bytes, link).context("no strings for the version needs")?;
        while let Some((_, mut versions)) = entries.next().context("broken version needs")? {
            while let Some(version) = versions.next().context("broken version needs")? {
                let name = version.name(endian, strings).context("a version without a name")?;
                needs.versions.push(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    needs.versions.sort();
    needs.versions.dedup();
    Ok(needs)
}

/// What a system with `glibc` may lack.
pub(crate) fn findings(needs: &Needs, glibc: Version) -> Vec<String> {
    let mut findings = Vec::new();
    for library in &needs.libraries {
        let name = library.split_once(".so").map_or(library.as_str(), |(name, _)| name);
        if !LIBRARIES.contains(&format!("{name}.so").as_str()) {
            findings.push(format!("needs the library {library}"));
        }
    }
    for version in &needs.versions {
        let fine = match version.split_once('_') {
            Some(("GLIBC", number)) => parse(number).is_some_and(|version| version <= glibc),
            Some(("GCC", number)) => parse(number).is_some_and(|version| version <= GCC),
            _ => false,
        };
        if !fine {
            findings.push(format!("needs symbols of {version}; {glibc} is the newest glibc to rely on"));
        }
    }
    findings
}

/// `2.28`, `2.2.5` (the third part does not matter here); `PRIVATE` has no number.
fn parse(number: &str) -> Option<Version> {
    let mut parts = number.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().map_or(Some(0), |part| part.parse().ok())?;
    Some(Version { major, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLIBC: Version = Version { major: 2, minor: 28 };

    fn needs(libraries: &[&str], versions: &[&str]) -> Needs {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Needs { libraries: owned(libraries), versions: owned(versions) }
    }

    #[test]
    fn what_every_system_has_is_fine() {
        let fine = needs(
            &["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "libgcc_s.so.1", "ld-linux-x86-64.so.2"],
            &["GLIBC_2.2.5", "GLIBC_2.28", "GCC_3.0", "GCC_4.2.0"],
        );
        assert_eq!(findings(&fine, GLIBC), Vec::<String>::new());
    }

    #[test]
    fn other_libraries_and_newer_symbols_are_findings() {
        for library in ["libssl.so.3", "libstdc++.so.6", "libcuda.so.1", "libcrypt.so.1", "libc++.so.1"] {
            assert_eq!(findings(&needs(&[library], &[]), GLIBC), [format!("needs the library {library}")]);
        }
        for version in ["GLIBC_2.29", "GLIBC_2.100", "GLIBC_3.0", "GLIBC_PRIVATE", "GCC_12.0.0", "OPENSSL_3.0.0", "X"] {
            assert_eq!(findings(&needs(&[], &[version]), GLIBC).len(), 1, "{version}");
        }
    }

    #[test]
    fn a_program_of_this_machine_needs_its_c_library() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = read(&this).unwrap();
        assert!(needs.libraries.iter().any(|library| library.starts_with("libc.so")), "{needs:?}");
        assert!(needs.versions.iter().any(|version| version.starts_with("GLIBC_2.")), "{needs:?}");
    }

    #[test]
    fn what_is_no_elf_file_is_an_error() {
        assert!(read(b"#!/bin/sh\n").is_err());
    }
}
