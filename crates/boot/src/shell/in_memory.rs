//! Files that only a process and its children see.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;

use rustix::fs::{MemfdFlags, memfd_create};

/// A file in memory: whatever becomes of the boot, nothing of it stays anywhere.
#[derive(Debug)]
pub(crate) struct InMemory(File);

impl InMemory {
    /// A file that holds this.
    pub(crate) fn holding(text: &[u8]) -> io::Result<Self> {
        let mut file = File::from(memfd_create(c"vast-boot", MemfdFlags::CLOEXEC)?);
        file.write_all(text)?;
        Ok(Self(file))
    }

    /// Where other processes open it, as long as it is held.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// What it holds now.
    pub(crate) fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        self.0.rewind()?;
        self.0.read_to_end(&mut text)?;
        Ok(text)
    }
}
