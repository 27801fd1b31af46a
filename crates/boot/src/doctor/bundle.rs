//! The archive for support: what shows how the instance is, without secrets.
//!
//! | member | holds |
//! |---|---|
//! | `report.txt`, `report.json` | the report |
//! | `environment.txt` | the environment of the instance's programs, values of secrets masked |
//! | `mounts.txt`, `df.txt` | what is mounted, and the room there |
//! | `files/…` | the records of the boot, logs (their ends), Supervisor's configuration, `portal.yaml`, the Caddyfile, cgroup limits |
//! | `left-out.txt` | what was left out, and why |
//!
//! Files whose names say that they are keys are never read, links are not followed, and every text passes [`Redactor::scrub`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use vast_portal::caddy::caddyfile;
use vast_portal_config::yaml;

use super::limits::CGROUP;
use super::{Look, Report, Severity, disk, quoted, render};
use crate::error::Error;
use crate::journal;
use crate::redact::{Redactor, is_secret};
use crate::supervisor::CONFIG;
use crate::{etc_environment, files, plan, stages};

/// The end of a log that is kept.
const LOG_BYTES: u64 = 256 * 1024;

/// All logs together, before compression.
const LOGS_BYTES: usize = 24 << 20;

/// Logs are looked for this deep below `/var/log`.
const DEPTH: usize = 3;

/// Files that are taken whole, if they are there.
const FILES: [&str; 4] = [journal::CURRENT, vast_gpu::cuda::FAILED_MARKER, CONFIG, etc_environment::PATH];

/// The container's limits and what is used of them, in version 2 and 1.
const LIMITS: [&str; 13] = [
    "cpu.max",
    "cpu.stat",
    "memory.current",
    "memory.events",
    "memory.max",
    "memory.swap.max",
    "pids.current",
    "pids.max",
    "cpu/cpu.cfs_quota_us",
    "memory/memory.limit_in_bytes",
    "memory/memory.usage_in_bytes",
    "pids/pids.current",
    "pids/pids.max",
];

/// Filesystems that this machine's kernel answers for: asking a server that is gone for its room would never end.
const LOCAL: [&str; 7] = ["overlay", "ext4", "xfs", "btrfs", "tmpfs", "zfs", "f2fs"];

/// Kinds of files that hold keys.
const KEY_KINDS: [&str; 8] = ["key", "pem", "p12", "pfx", "jks", "ppk", "kdbx", "token"];

/// Files that are packed or no text.
const NO_TEXT: [&str; 9] = ["gz", "xz", "zst", "bz2", "zip", "wtmp", "btmp", "lastlog", "journal"];

/// The archive's members, by name.
pub type Members = BTreeMap<String, String>;

/// Collects the members.
#[must_use]
pub fn members(look: &Look<'_>, report: &Report) -> Members {
    let redactor = look.redactor;
    let mut collected = Collected { redactor, members: Members::new(), left_out: Vec::new(), log_bytes: 0 };
    collected.text("report.txt", &render(report, |_: Severity, word| word.to_owned()));
    collected.text("report.json", &serde_json::to_string_pretty(report).unwrap_or_default());
    collected.text("environment.txt", &environment(look, redactor));
    let mounts = fs::read_to_string(look.root.join("/proc/self/mountinfo")).unwrap_or_default();
    collected.text("df.txt", &df(look, &mounts));
    collected.text("mounts.txt", &mounts);
    let stages = plan::read(look.root, stages::BUILT_IN.iter().map(|stage| stage.name));
    if let Ok(Ok(stages)) = stages.map(|plan| serde_json::to_string_pretty(&plan)) {
        collected.text("plan.json", &stages);
    }
    for file in FILES {
        collected.file(&look.root.join(file), file);
    }
    for file in [yaml::path(look.root.path()), caddyfile(look.root.path())] {
        // As the instance names it, whatever root it is looked at from.
        let named = file.strip_prefix(look.root.path()).unwrap_or(&file);
        collected.file(&file, &format!("/{}", named.display()));
    }
    for limit in LIMITS {
        // These are no plain files by their size, so they are read to their end.
        if let Ok(text) = fs::read_to_string(look.root.join(CGROUP).join(limit)) {
            collected.text(&format!("files{CGROUP}/{limit}"), &text);
        }
    }
    collected.directory(&look.root.join("/etc/supervisor/conf.d"), "/etc/supervisor/conf.d", 0);
    collected.directory(&look.root.join("/var/log"), "/var/log", DEPTH);
    collected.finish()
}

struct Collected<'a> {
    redactor: &'a Redactor,
    members: Members,
    left_out: Vec<String>,
    log_bytes: usize,
}

impl Collected<'_> {
    fn text(&mut self, name: &str, text: &str) {
        // A name may hold what a value may.
        self.members.insert(self.redactor.scrub(name), self.redactor.scrub(&quoted::plain(text)));
    }

    /// A file, or its end. `path` is its name in the instance.
    fn file(&mut self, file: &Path, path: &str) {
        let Ok(metadata) = fs::symlink_metadata(file) else { return };
        let name = file.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let kind = name.rsplit('.').next().unwrap_or_default();
        // `server.key.old` is a key too.
        if name.split('.').skip(1).any(|part| KEY_KINDS.contains(&part)) || name.starts_with("id_") {
            self.left_out.push(format!("{path}: its name is that of a key"));
        } else if metadata.is_symlink() {
            self.left_out.push(format!("{path}: it is a link"));
        } else if NO_TEXT.contains(&kind) {
            self.left_out.push(format!("{path}: it is no text"));
        } else if self.log_bytes > LOGS_BYTES {
            self.left_out.push(format!("{path}: the archive is large enough"));
        } else {
            match quoted::tail(file, LOG_BYTES) {
                Err(error) => self.left_out.push(format!("{path}: {error}")),
                Ok(tail) if tail.text.contains('\0') => self.left_out.push(format!("{path}: it is no text")),
                Ok(tail) => {
                    self.log_bytes += tail.text.len();
                    if tail.skipped_bytes > 0 {
                        self.left_out.push(format!("{path}: its first {} bytes", tail.skipped_bytes));
                    }
                    self.text(&format!("files{path}"), &tail.text);
                }
            }
        }
    }

    /// The files of a directory, in the order of their names. A link to a directory is not followed.
    fn directory(&mut self, directory: &Path, path: &str, depth: usize) {
        if fs::symlink_metadata(directory).is_ok_and(|metadata| metadata.is_symlink()) {
            self.left_out.push(format!("{path}: it is a link"));
            return;
        }
        let mut entries: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = format!("{path}/{}", entry.file_name().to_string_lossy());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                match depth.checked_sub(1) {
                    Some(depth) => self.directory(&entry.path(), &path, depth),
                    None => self.left_out.push(format!("{path}: it lies too deep")),
                }
            } else {
                self.file(&entry.path(), &path);
            }
        }
    }

    fn finish(mut self) -> Members {
        let left_out = self.left_out.join("\n");
        self.text("left-out.txt", &left_out);
        self.members
    }
}

fn environment(look: &Look<'_>, redactor: &Redactor) -> String {
    let line = |(name, value): (&std::ffi::OsStr, &std::ffi::OsStr)| {
        let (name, value) = (name.to_string_lossy(), value.to_string_lossy());
        let shown = if is_secret(&name) && !value.is_empty() { "***".to_owned() } else { redactor.scrub(&value) };
        format!("{name}={}\n", shown.replace('\n', "\\n"))
    };
    look.env.iter().map(line).collect()
}

/// The room of every local filesystem, from lines such as
/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn df(look: &Look<'_>, mounts: &str) -> String {
    let mut text = format!("{:>12} {:>12} {:>12} {:>12}  mounted at\n", "size", "free", "inodes", "free inodes");
    for line in mounts.lines() {
        let Some((place, kind)) = line.split_once(" - ") else { continue };
        let (Some(place), Some(kind)) = (place.split(' ').nth(4), kind.split(' ').next()) else { continue };
        let path = look.root.join(place);
        let space = LOCAL.contains(&kind).then(|| look.limited(move || disk::space(&path))).flatten();
        let Some(Ok(space)) = space else { continue };
        let (size, free) = (disk::size(space.total_bytes), disk::size(space.free_bytes));
        // Writing into a string does not fail.
        let _ =
            writeln!(text, "{size:>12} {free:>12} {:>12} {:>12}  {place} ({kind})", space.inodes, space.free_inodes);
    }
    text
}

/// Writes the archive, for its owner alone: a reader sees the old file or the whole new one. Members are in the order of their names.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, members: &Members, at: jiff::Timestamp) -> Result<(), Error> {
    let packed = pack(members, at).map_err(|source| Error::Write { path: path.to_owned(), source })?;
    files::publish_exact(path, &packed, 0o600)
}

fn pack(members: &Members, at: jiff::Timestamp) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (name, text) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(at.as_second()).unwrap_or_default());
        archive.append_data(&mut header, Path::new("vast-doctor").join(name), text.as_bytes())?;
    }
    let mut encoder = archive.into_inner()?;
    encoder.flush()?;
    encoder.finish()
}
