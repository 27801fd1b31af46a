//! A tree with everything a tree can have, and comparing two with tools that are not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, utimensat};

use crate::command::tool;

/// `user::rwx, user:1234:r-x, group::r-x, mask::r-x, other::---`, as the kernel stores a default ACL.
const DEFAULT_ACL: &[u8] = &[
    2, 0, 0, 0, // version
    1, 0, 7, 0, 0xFF, 0xFF, 0xFF, 0xFF, // owner
    2, 0, 5, 0, 0xD2, 0x04, 0, 0, // user 1234
    4, 0, 5, 0, 0xFF, 0xFF, 0xFF, 0xFF, // owning group
    16, 0, 5, 0, 0xFF, 0xFF, 0xFF, 0xFF, // mask
    32, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, // others
];

/// Makes a directory with everything that a copy has to keep. Needs to be root.
pub(crate) fn everything(root: &Path) {
    fs::create_dir_all(root.join("deep/er/and/deeper")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for (name, bytes) in [("empty-file", 0), ("one", 1), ("block", 4096), ("odd", 70_001), ("large", 3_000_000)] {
        fs::write(root.join(name), content(name, bytes)).unwrap();
    }
    for index in 0..150 {
        fs::write(root.join(format!("deep/er/file-{index}")), content("many", index * 13)).unwrap();
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"start", 0).unwrap();
    sparse.write_all_at(b"middle", 30 << 20).unwrap();
    sparse.set_len(64 << 20).unwrap();

    fs::hard_link(root.join("one"), root.join("deep/er/one-too")).unwrap();
    fs::hard_link(root.join("one"), root.join("deep/one-three")).unwrap();
    symlink("../one", root.join("deep/link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    symlink("/etc", root.join("absolute")).unwrap();
    symlink("..", root.join("deep/up")).unwrap();
    fs::hard_link(root.join("dangling"), root.join("deep/dangling-too")).unwrap();
    mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), 0x103).unwrap();

    fs::write(root.join("line\nbreak and \"quotes\""), "x").unwrap();
    fs::write(root.join(OsString::from_vec(b"not-utf8-\xFF\xFE".to_vec())), "x").unwrap();

    let (owned, tool) = (root.join("owned"), root.join("set-user-id"));
    fs::write(&owned, "theirs").unwrap();
    fs::write(&tool, "#!/bin/sh\n").unwrap();
    chown(&owned, Some(1234), Some(5678)).unwrap();
    chown(&tool, Some(1234), Some(0)).unwrap();
    lchown(root.join("deep/link"), Some(1234), Some(5678)).unwrap();
    chown(root.join("empty"), Some(1234), Some(5678)).unwrap();
    set_mode(&owned, 0o400);
    set_mode(&tool, 0o4755);
    set_mode(&root.join("empty"), 0o3777);
    set_mode(&root.join("one"), 0o000);

    set_attribute(&root.join("block"), "user.origin", b"somewhere");
    set_attribute(&root.join("deep"), "user.note", &[b'n'; 2000]);
    set_attribute(&root.join("empty-file"), "user.empty", b"");
    set_attribute(&root.join("deep/er"), "system.posix_acl_default", DEFAULT_ACL);
    crate::command::tool("setfacl", ["-m", "u:1234:rw,g:5678:r", root.join("large").to_str().unwrap()]);
    // A file capability: effective, permitted cap_net_bind_service.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_attribute(&root.join("odd"), "security.capability", &capability);
    set_mode(&root.join("deep/er/and"), 0o555);

    for (name, seconds, nanoseconds) in [
        ("block", 1_234_567_890, 123_456_789),
        ("deep/link", 1_000_000_000, 1),
        ("fifo", 981_173_106, 999_999_999),
        ("deep/er/and/deeper", 12, 34),
        ("deep/er", 1_600_000_000, 5),
        ("one", -5, 250_000_000),
    ] {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, root.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn content(seed: &str, bytes: usize) -> Vec<u8> {
    seed.bytes()
        .cycle()
        .zip(0_u64..)
        .map(|(byte, at)| byte.wrapping_add(at.wrapping_mul(31).to_le_bytes()[1]))
        .take(bytes)
        .collect()
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// What `find` says of every entry below a directory, and of the directory itself.
///
/// Kind, permissions, owner, group, modification time, link target, names; the size of what is no directory.
pub(crate) fn listing(root: &Path) -> BTreeSet<String> {
    let format = "%P\\t%y\\t%m\\t%U\\t%G\\t%T@\\t%l\\t%n\\t";
    let mut entries = tool(
        "find",
        [root.as_os_str(), "-type".as_ref(), "d".as_ref(), "-printf".as_ref(), format!("{format}\\0").as_ref()],
    );
    entries += &tool(
        "find",
        [
            root.as_os_str(),
            "!".as_ref(),
            "-type".as_ref(),
            "d".as_ref(),
            "-printf".as_ref(),
            format!("{format}%s\\0").as_ref(),
        ],
    );
    // The count of a directory's names is that of its subdirectories on some filesystems, and one on others.
    entries.split_terminator('\0').map(str::to_owned).collect()
}

/// Every extended attribute below a directory.
fn attributes(root: &Path) -> BTreeMap<(PathBuf, OsString), String> {
    let mut found = BTreeMap::new();
    for path in paths(root) {
        let mut names = vec![0; 4096];
        let length = rustix::fs::llistxattr(root.join(&path), &mut names[..]).unwrap();
        for name in names[..length].split_inclusive(|byte| *byte == 0) {
            let name = CString::from_vec_with_nul(name.to_vec()).unwrap();
            // XFS lists its access control lists a second time, in a format of its own.
            if name.to_bytes().starts_with(b"trusted.SGI_") {
                continue;
            }
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(root.join(&path), &name, &mut value[..]).unwrap();
            value.truncate(length);
            found.insert(
                (path.clone(), OsStr::from_bytes(name.to_bytes()).to_owned()),
                value.escape_ascii().to_string(),
            );
        }
    }
    found
}

/// Which names lead to one inode.
fn linked(root: &Path) -> BTreeSet<BTreeSet<PathBuf>> {
    let mut groups: BTreeMap<u64, BTreeSet<PathBuf>> = BTreeMap::new();
    for path in paths(root) {
        let facts = fs::symlink_metadata(root.join(&path)).unwrap();
        if !facts.is_dir() {
            groups.entry(facts.ino()).or_default().insert(path);
        }
    }
    groups.into_values().filter(|group| group.len() > 1).collect()
}

fn paths(root: &Path) -> Vec<PathBuf> {
    let found = tool("find", [root.as_os_str(), "-print0".as_ref()]);
    // Names that are no UTF-8 are left out: other checks see them.
    let paths = found.split_terminator('\0').filter(|path| !path.contains('\u{FFFD}'));
    paths.map(|path| Path::new(path).strip_prefix(root).unwrap().to_owned()).collect()
}

/// Compares two trees with `diff` and `find`, and what those do not see with the system calls.
#[track_caller]
pub(crate) fn assert_alike(one: &Path, other: &Path) {
    assert_eq!(listing(one), listing(other));
    assert_eq!(attributes(one), attributes(other));
    assert_eq!(linked(one), linked(other));
    let special = ["--exclude=fifo", "--exclude=null"].map(OsStr::new);
    let options = ["-r", "--no-dereference"].map(OsStr::new);
    let difference = tool("diff", options.into_iter().chain(special).chain([one.as_os_str(), other.as_os_str()]));
    assert_eq!(difference, "");
    let sparse = other.join("sparse");
    if sparse.exists() {
        let facts = fs::metadata(&sparse).unwrap();
        assert!(facts.blocks() * 512 < facts.len() / 10, "holes stay holes: {} blocks", facts.blocks());
    }
}

/// Has `rsync` compare two trees, and `getfacl` and `getfattr` describe them: none of them shares a line with the copier.
#[track_caller]
pub(crate) fn assert_rsync_finds_no_difference(from: &Path, to: &Path) {
    let slash = |path: &Path| format!("{}/", path.display());
    let options = "-aHAXn --numeric-ids --delete --checksum --modify-window=-1 --itemize-changes".split(' ');
    let xfs_only = "--filter=-x trusted.SGI_*".to_owned();
    let found = tool("rsync", options.map(str::to_owned).chain([xfs_only, slash(from), slash(to)]));
    assert_eq!(found, "");
    let described = |program: &str, options: &[&str], root: &Path| {
        let script = format!("cd '{}' && {program} {} .", root.display(), options.join(" "));
        tool("sh", ["-c", &script])
    };
    for (program, options) in [
        ("getfacl", &["-R", "-p", "-n", "-P"][..]),
        ("getfattr", &["-R", "-h", "-d", "-e", "hex", "-m", "'^(user|trusted[.][^S]|security[.]capability)'"]),
    ] {
        let (one, other) = (described(program, options, from), described(program, options, to));
        // They go through directories in the order in which those list their entries.
        let blocks = |text: &str| text.split("\n\n").map(str::to_owned).collect::<BTreeSet<_>>();
        assert!(blocks(&one).len() > 2, "{program}: {one}");
        assert_eq!(blocks(&one), blocks(&other), "{program}");
    }
}

/// The names in a directory, in order.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The names in a workspace that are not locks.
pub(crate) fn names_but_locks(workspace: &Path) -> Vec<String> {
    let is_lock = |name: &str| name.strip_prefix(".sync_").is_some_and(|rest| rest.strip_suffix(".lock").is_some());
    names(workspace).into_iter().filter(|name| !is_lock(name)).collect()
}
