//! The little of ELF that tells what a program is: its machine, the libraries it loads, the value of one exported object.
//!
//! Only 64-bit little-endian files are read beyond their first bytes: every platform with a GPU uses those. Sizes and
//! offsets come from the file and are not trusted; what does not fit gives `None`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// A table larger than this belongs to no Python (the largest string tables of `libpython` have 100 KiB).
const SECTION_LIMIT: u64 = 64 << 20;

const SECTION_HEADER_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;
const DYNAMIC_BYTES: usize = 16;

const SHT_DYNAMIC: u32 = 6;
const SHT_DYNSYM: u32 = 11;
const DT_NEEDED: u64 = 1;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// The machine an ELF file is built for, as `uname -m` names it.
pub(crate) fn machine(file: &File) -> Option<&'static str> {
    let mut head = [0; 20];
    file.read_exact_at(&mut head, 0).ok()?;
    if head[..4] != *b"\x7fELF" {
        return None;
    }
    let little = head[5] == 1;
    let number =
        if little { u16::from_le_bytes([head[18], head[19]]) } else { u16::from_be_bytes([head[18], head[19]]) };
    Some(match (number, little) {
        (62, true) => "x86_64",
        (183, true) => "aarch64",
        (3, true) => "i686",
        (40, true) => "armv7l",
        (21, true) => "ppc64le",
        (22, false) => "s390x",
        (243, true) => "riscv64",
        (258, true) => "loongarch64",
        _ => return None,
    })
}

/// An opened ELF file and its table of sections.
#[derive(Debug)]
pub(crate) struct Elf<'f> {
    file: &'f File,
    sections: Vec<Section>,
}

#[derive(Debug, Clone, Copy)]
struct Section {
    kind: u32,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
    name: u32,
}

impl<'f> Elf<'f> {
    /// Reads the table of sections; `None` for what is no 64-bit little-endian ELF file.
    pub(crate) fn read(file: &'f File) -> Option<Self> {
        let mut head = [0; 64];
        file.read_exact_at(&mut head, 0).ok()?;
        if head[..6] != *b"\x7fELF\x02\x01" {
            return None;
        }
        let table_offset = u64_at(&head, 0x28)?;
        let (entry_bytes, count) = (u16_at(&head, 0x3a)?, u16_at(&head, 0x3c)?);
        if usize::from(entry_bytes) != SECTION_HEADER_BYTES {
            return None;
        }
        let mut table = vec![0; usize::from(count) * SECTION_HEADER_BYTES];
        file.read_exact_at(&mut table, table_offset).ok()?;
        let sections = table.chunks_exact(SECTION_HEADER_BYTES).filter_map(Section::parse).collect();
        Some(Self { file, sections })
    }

    /// The value of an exported 8-byte object, such as CPython's `const unsigned long Py_Version`.
    pub(crate) fn exported_u64(&self, name: &str) -> Option<u64> {
        let table = self.sections.iter().find(|section| section.kind == SHT_DYNSYM)?;
        let names = self.content(self.sections.get(usize::try_from(table.link).ok()?)?)?;
        let symbols = self.content(table)?;
        let symbol = symbols.chunks_exact(SYMBOL_BYTES).find(|symbol| {
            u32_at(symbol, 0).and_then(|at| string_at(&names, u64::from(at))) == Some(name.as_bytes())
        })?;
        let home = self.sections.get(usize::from(u16_at(symbol, 6)?))?;
        let within = u64_at(symbol, 8)?.checked_sub(home.address)?;
        if within.checked_add(8)? > home.size {
            return None;
        }
        let mut value = [0; 8];
        self.file.read_exact_at(&mut value, home.offset.checked_add(within)?).ok()?;
        Some(u64::from_le_bytes(value))
    }

    /// The libraries that the file asks for, and the directories where it wants them looked up first.
    pub(crate) fn wanted(&self) -> Wanted {
        self.read_wanted().unwrap_or_default()
    }

    fn read_wanted(&self) -> Option<Wanted> {
        let table = self.sections.iter().find(|section| section.kind == SHT_DYNAMIC)?;
        let names = self.content(self.sections.get(usize::try_from(table.link).ok()?)?)?;
        let mut wanted = Wanted::default();
        for entry in self.content(table)?.chunks_exact(DYNAMIC_BYTES) {
            let (tag, value) = (u64_at(entry, 0)?, u64_at(entry, 8)?);
            let Some(text) = string_at(&names, value).and_then(|text| std::str::from_utf8(text).ok()) else { continue };
            match tag {
                DT_NEEDED => wanted.libraries.push(text.to_owned()),
                DT_RPATH | DT_RUNPATH => wanted.directories.extend(text.split(':').map(str::to_owned)),
                _ => {}
            }
        }
        Some(wanted)
    }

    /// The read-only data, where a compiler puts string constants.
    pub(crate) fn read_only_data(&self) -> Option<Vec<u8>> {
        let mut head = [0; 64];
        self.file.read_exact_at(&mut head, 0).ok()?;
        let names = self.content(self.sections.get(usize::from(u16_at(&head, 0x3e)?))?)?;
        let is_data = |section: &&Section| string_at(&names, u64::from(section.name)) == Some(b".rodata");
        self.content(self.sections.iter().find(is_data)?)
    }

    fn content(&self, section: &Section) -> Option<Vec<u8>> {
        let length = self.file.metadata().ok()?.len();
        if section.size > SECTION_LIMIT || section.offset.checked_add(section.size)? > length {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(section.size).ok()?];
        self.file.read_exact_at(&mut bytes, section.offset).ok()?;
        Some(bytes)
    }
}

/// What a program asks the loader for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) libraries: Vec<String>,
    /// `DT_RPATH` and `DT_RUNPATH`, as written: `$ORIGIN` stands for the program's directory.
    pub(crate) directories: Vec<String>,
}

impl Section {
    fn parse(header: &[u8]) -> Option<Self> {
        Some(Self {
            name: u32_at(header, 0)?,
            kind: u32_at(header, 4)?,
            address: u64_at(header, 16)?,
            offset: u64_at(header, 24)?,
            size: u64_at(header, 32)?,
            link: u32_at(header, 40)?,
        })
    }
}

fn string_at(table: &[u8], offset: u64) -> Option<&[u8]> {
    let rest = table.get(usize::try_from(offset).ok()?..)?;
    rest.get(..memchr::memchr(0, rest)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn this_test_program_states_its_machine_and_libraries() {
        let own = File::open("/proc/self/exe").unwrap();
        assert_eq!(machine(&own), Some(std::env::consts::ARCH));
        let wanted = Elf::read(&own).unwrap().wanted();
        assert!(wanted.libraries.iter().any(|name| name.starts_with("libc.so")), "{wanted:?}");
    }

    #[test]
    fn what_is_no_elf_file_says_nothing() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF", &[0; 100]] {
            assert_eq!(machine(&file(bytes)), None);
            assert!(Elf::read(&file(bytes)).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_damage_makes_the_reader_panic(damage in proptest::collection::vec((0usize..4096, any::<u8>()), 1..40)) {
            let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
            bytes.resize(4096, 0);
            // A table of 20 sections at 1024, so that the damage reaches the code behind the header.
            bytes[0x28..0x30].copy_from_slice(&1024u64.to_le_bytes());
            bytes[0x3a] = 64;
            bytes[0x3c] = 20;
            for index in 0..20 {
                bytes[1024 + index * 64 + 4] = if index % 2 == 0 { 6 } else { 11 };
                bytes[1024 + index * 64 + 25] = 2;
                bytes[1024 + index * 64 + 33] = 1;
            }
            for (at, value) in damage {
                bytes[at] = value;
            }
            let file = file(&bytes);
            if let Some(elf) = Elf::read(&file) {
                let _ = (elf.wanted(), elf.exported_u64("Py_Version"), elf.read_only_data());
            }
            let _ = machine(&file);
        }
    }
}
