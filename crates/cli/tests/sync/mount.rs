//! Filesystems made for a test, in files of their own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::command::tool;

/// A filesystem mounted for as long as the value lives.
pub(crate) struct Mount {
    pub(crate) at: PathBuf,
    /// The file that the filesystem is in.
    image: Option<tempfile::TempDir>,
}

impl Mount {
    pub(crate) fn new(at: &Path, args: &[&str]) -> Self {
        fs::create_dir_all(at).unwrap();
        tool("mount", args.iter().map(AsRef::as_ref).chain([at.as_os_str()]));
        Self { at: at.to_owned(), image: None }
    }

    pub(crate) fn tmpfs(at: &Path, options: &str) -> Self {
        Self::new(at, &["-t", "tmpfs", "-o", options, "tmpfs"])
    }

    /// A small ext4.
    pub(crate) fn ext4(at: &Path, megabytes: u64, block_bytes: u32) -> Self {
        Self::ext4_with(at, megabytes, &["-b", &block_bytes.to_string()])
    }

    pub(crate) fn ext4_with(at: &Path, megabytes: u64, options: &[&str]) -> Self {
        let mount = Self::made(at, megabytes, "mkfs.ext4", &[&["-q", "-m", "0"], options].concat());
        fs::remove_dir(mount.at.join("lost+found")).unwrap();
        mount
    }

    /// An xfs whose files can share blocks. It is not made smaller than 300 MB, of which hardly any are written.
    pub(crate) fn xfs(at: &Path) -> Self {
        Self::made(at, 320, "mkfs.xfs", &["-q", "-m", "reflink=1"])
    }

    /// A FAT: no links, no owners, no permissions, no attributes, names without case. Kernels may lack it, so it is the one
    /// in user space, which knows exFAT.
    pub(crate) fn fat(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), 128);
        tool("mkfs.exfat", [&image]);
        let device = tool("losetup", ["-f", "--show", image.to_str().unwrap()]);
        tool("mount.exfat-fuse", [device.trim(), at.to_str().unwrap()]);
        // Gone as soon as it is not used any more.
        tool("losetup", ["-d", device.trim()]);
        Self { at: at.to_owned(), image: Some(folder) }
    }

    fn made(at: &Path, megabytes: u64, maker: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), megabytes);
        let image = image.to_str().unwrap();
        tool(maker, options.iter().chain([&image]));
        let mut mount = Self::new(at, &["-o", "loop", image]);
        mount.image = Some(folder);
        mount
    }

    /// The file that the filesystem is in.
    pub(crate) fn image(&self) -> PathBuf {
        self.image.as_ref().unwrap().path().join("image")
    }

    pub(crate) fn remount(&self, options: &str) {
        tool("mount", ["-o", &format!("remount,{options}"), self.at.to_str().unwrap()]);
    }
}

/// Memory, for what is made hundreds of times: a disk would take most of the time, and more where it is busy elsewhere.
pub(crate) struct Memory {
    mount: Mount,
    _directory: tempfile::TempDir,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mount = Mount::tmpfs(&directory.path().join("memory"), "size=500m");
        Self { mount, _directory: directory }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount.at
    }
}

fn image(folder: &Path, megabytes: u64) -> PathBuf {
    let image = folder.join("image");
    File::create(&image).unwrap().set_len(megabytes << 20).unwrap();
    image
}

impl Drop for Mount {
    fn drop(&mut self) {
        tool("umount", [&self.at]);
    }
}
