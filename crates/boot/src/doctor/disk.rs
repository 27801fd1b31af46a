//! Room and inodes of `/`, `$WORKSPACE` and `/tmp`, and whether they can be written.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{Area, Finding, Look, Severity};

/// Nothing can be done with less.
const LEAST_BYTES: u64 = 16 << 20;

/// Less than a twentieth is little, unless it is more than this.
const PLENTY_BYTES: u64 = 1 << 30;

/// As [`PLENTY_BYTES`], for inodes.
const PLENTY_INODES: u64 = 10_000;

/// One filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The directories that are on it.
    pub places: Vec<String>,
    /// What it has, or why that is not known.
    pub space: Result<Space, Missing>,
}

/// Why nothing is known of a directory's filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The directory is not there, or cannot be looked at.
    Directory(String),
    /// It did not answer in time.
    Silent,
}

/// What a filesystem has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Its size.
    pub total_bytes: u64,
    /// What a program without privileges can still write.
    pub free_bytes: u64,
    /// Its inodes; 0 where they are not counted.
    pub inodes: u64,
    /// Inodes that are free.
    pub free_inodes: u64,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

pub(super) fn summary(volumes: &[Volume]) -> String {
    let volume = |volume: &Volume| {
        let free = volume
            .space
            .as_ref()
            .map_or_else(|_| "unknown".to_owned(), |space| format!("{} free", size(space.free_bytes)));
        format!("{}: {free}", volume.places.join(" and "))
    };
    volumes.iter().map(volume).collect::<Vec<_>>().join(", ")
}

pub(super) fn gather(look: &Look<'_>) -> Vec<Volume> {
    let workspace = look.env.workspace().display().to_string();
    let mut volumes: Vec<(Option<u64>, Volume)> = Vec::new();
    for place in ["/", &workspace, "/tmp"] {
        let path = look.root.join(place);
        let (device, space) = match look.limited(move || measure(&path)) {
            Some(Ok((device, space))) => (Some(device), Ok(space)),
            Some(Err(error)) => (None, Err(Missing::Directory(error.to_string()))),
            None => (None, Err(Missing::Silent)),
        };
        match volumes.iter_mut().find(|(known, _)| device.is_some() && *known == device) {
            Some((_, volume)) => volume.places.push(place.to_owned()),
            None => volumes.push((device, Volume { places: vec![place.to_owned()], space })),
        }
    }
    volumes.into_iter().map(|(_, volume)| volume).collect()
}

fn measure(path: &Path) -> std::io::Result<(u64, Space)> {
    let device = fs::metadata(path)?.dev();
    Ok((device, space(path)?))
}

/// What the filesystem of a directory has.
pub(super) fn space(path: &Path) -> std::io::Result<Space> {
    let found = statvfs(path)?;
    Ok(Space {
        total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        inodes: found.f_files,
        free_inodes: found.f_favail,
        read_only: found.f_flag.contains(StatVfsMountFlags::RDONLY),
    })
}

pub(super) fn diagnose(all: &super::Facts) -> Vec<Finding> {
    all.disk.iter().flat_map(judge).collect()
}

fn judge(volume: &Volume) -> Vec<Finding> {
    let places = volume.places.join(" and ");
    let first = volume.places.first().map_or("/", String::as_str);
    let tell = |severity, what: String, remedy: String| Finding::new(Area::Disk, severity, what, remedy);
    let space = match &volume.space {
        Ok(space) => space,
        Err(Missing::Silent) => {
            let remedy = format!(
                "`mount | grep {first}` names its server; a volume that stays silent needs a restart of the instance"
            );
            return vec![tell(Severity::Problem, format!("{places} does not answer"), remedy)];
        }
        Err(Missing::Directory(reason)) => {
            let remedy = format!("`mkdir -p {first}`, or set WORKSPACE to a directory that exists");
            return vec![
                tell(Severity::Problem, format!("{places} cannot be looked at"), remedy).because([reason.clone()]),
            ];
        }
    };
    let mut findings = Vec::new();
    if space.read_only {
        let remedy =
            format!("`mount -o remount,rw {first}`; if that fails, the volume or its disk is damaged (`dmesg | tail`)");
        findings.push(tell(Severity::Problem, format!("{places} is mounted read-only"), remedy));
    }
    let free = size(space.free_bytes);
    let remedy = format!(
        "`du -xh {first} 2>/dev/null | sort -h | tail -20` shows what takes it; remove what is not needed, or rent more disk"
    );
    match (space.free_bytes, space.total_bytes) {
        (_, 0) => {}
        (free_bytes, total)
            if free_bytes < LEAST_BYTES.min(total / 2) || free_bytes < total / 100 && free_bytes < PLENTY_BYTES =>
        {
            findings.push(tell(Severity::Problem, format!("{places} is full: {free} free of {}", size(total)), remedy));
        }
        (free_bytes, total) if free_bytes < total / 20 && free_bytes < PLENTY_BYTES => {
            findings.push(tell(
                Severity::Warning,
                format!("{places} is nearly full: {free} free of {}", size(total)),
                remedy,
            ));
        }
        _ => {}
    }
    let remedy = format!(
        "`du -x --inodes {first} 2>/dev/null | sort -n | tail -20` shows where the files are; remove what is not needed"
    );
    match (space.free_inodes, space.inodes) {
        (_, 0) => {}
        (free, total) if free < total / 100 && free < PLENTY_INODES / 10 => {
            findings.push(tell(
                Severity::Problem,
                format!("{places} has no room for new files: {free} of {total} inodes free"),
                remedy,
            ));
        }
        (free, total) if free < total / 20 && free < PLENTY_INODES => {
            findings.push(tell(
                Severity::Warning,
                format!("{places} has little room for new files: {free} of {total} inodes free"),
                remedy,
            ));
        }
        _ => {}
    }
    findings
}

/// A number of bytes for a person.
pub(super) fn size(bytes: u64) -> String {
    let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.iter().find(|(unit, _)| bytes >= *unit);
    unit.map_or_else(|| format!("{bytes} B"), |(unit, name)| format!("{:.1} {name}", bytes as f64 / *unit as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Space =
        Space { total_bytes: 100 << 30, free_bytes: 50 << 30, inodes: 1 << 20, free_inodes: 1 << 19, read_only: false };

    #[test]
    fn a_filesystem_is_judged_by_share_and_amount() {
        for (space, expected) in [
            (HALF, None),
            (Space { free_bytes: 0, ..HALF }, Some((Severity::Problem, "full"))),
            (Space { free_bytes: 900 << 20, ..HALF }, Some((Severity::Problem, "full"))),
            (Space { total_bytes: 20 << 30, free_bytes: 900 << 20, ..HALF }, Some((Severity::Warning, "nearly full"))),
            // Little of a large disk is much.
            (Space { total_bytes: 10 << 40, free_bytes: 50 << 30, ..HALF }, None),
            (Space { total_bytes: 0, free_bytes: 0, ..HALF }, None),
            (Space { total_bytes: 8 << 20, free_bytes: 7 << 20, ..HALF }, None),
            (Space { free_inodes: 0, ..HALF }, Some((Severity::Problem, "no room for new files"))),
            (Space { free_inodes: 5000, ..HALF }, Some((Severity::Warning, "little room"))),
            (Space { inodes: 0, free_inodes: 0, ..HALF }, None),
            (Space { read_only: true, ..HALF }, Some((Severity::Problem, "read-only"))),
        ] {
            let findings = judge(&Volume { places: vec!["/".to_owned(), "/tmp".to_owned()], space: Ok(space) });
            let seen = findings.first().map(|finding| (finding.severity, finding.what.as_str()));
            let fits = match (seen, expected) {
                (None, None) => true,
                (Some((severity, what)), Some((wanted, words))) => severity == wanted && what.contains(words),
                _ => false,
            };
            assert!(fits && findings.len() < 2, "{space:?}: {findings:?}");
        }
    }

    #[test]
    fn sizes_are_for_people() {
        assert_eq!([0, 1023, 1536, 5 << 30].map(size), ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
    }
}
