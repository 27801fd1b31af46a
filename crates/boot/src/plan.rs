//! The order of the sequence: the built-in stages merged with the files of `/etc/vast_boot.d`.
//!
//! The directory is the contract that deployed images rely on. Order is the full file name, bytewise. A file with a built-in's name
//! replaces it, a symlink to `/dev/null` masks it, and any other `NN-name.sh` is inserted where its name sorts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::Error;
use crate::files;
use crate::root::Root;

/// Where external images and users put their stages.
pub const DIRECTORY: &str = "/etc/vast_boot.d";

/// The subdirectory of [`DIRECTORY`] whose stages run once.
pub const FIRST_BOOT: &str = "first_boot";

/// What carries a stage out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// This program.
    BuiltIn,
    /// A shell file, sourced by bash; the path is the one in the container.
    File(PathBuf),
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn => formatter.write_str("built-in"),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

/// Why a stage is in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The image family ships it.
    BuiltIn,
    /// A file took the built-in's place.
    Replaced,
    /// A file brought it.
    Inserted,
    /// A symlink to `/dev/null` took it out.
    Masked,
}

impl Why {
    /// The word for a table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Replaced => "replaced",
            Self::Inserted => "inserted",
            Self::Masked => "masked",
        }
    }
}

/// One stage of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The file name: `10-prep-env.sh`.
    pub name: String,
    /// What carries it out; for a masked stage, the link.
    pub source: Source,
    /// Why it is there.
    pub why: Why,
    /// What will be done about it, or become of it, when it runs: see [`look_into`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Entry {
    /// A stage without a note.
    #[must_use]
    pub fn new(name: &str, source: Source, why: Why) -> Self {
        Self { name: name.to_owned(), source, why, note: None }
    }
}

/// Something in the directory that is no stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ignored {
    /// Its name.
    pub name: String,
    /// What keeps it from being a stage.
    pub reason: &'static str,
}

/// The merged sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Stages in the order in which they run, masked ones included.
    pub stages: Vec<Entry>,
    /// What was left out.
    pub ignored: Vec<Ignored>,
}

/// What a name in the directory stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, possibly through a symlink.
    File,
    /// A symlink to `/dev/null`.
    Mask,
    /// A directory.
    Directory,
    /// A symlink to nothing, or something that cannot be sourced.
    Other,
}

/// One name of the directory, the pure planner's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file name, bytes that are not UTF-8 replaced.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// Merges the built-in stages' names with what the directory holds.
///
/// ```
/// use vast_boot::plan::{plan, Found, Kind, Why};
/// let found = [Found { name: "05-vllm-env.sh".into(), kind: Kind::File }];
/// let plan = plan(["05-configure-cuda.sh", "10-prep-env.sh"], found, "/etc/vast_boot.d".as_ref());
/// let order: Vec<_> = plan.stages.iter().map(|stage| (stage.name.as_str(), stage.why)).collect();
/// assert_eq!(order, [
///     ("05-configure-cuda.sh", Why::BuiltIn),
///     ("05-vllm-env.sh", Why::Inserted),
///     ("10-prep-env.sh", Why::BuiltIn),
/// ]);
/// ```
pub fn plan<'a>(
    built_in: impl IntoIterator<Item = &'a str>,
    found: impl IntoIterator<Item = Found>,
    directory: &Path,
) -> Plan {
    let mut stages: BTreeMap<String, Entry> =
        built_in.into_iter().map(|name| (name.to_owned(), Entry::new(name, Source::BuiltIn, Why::BuiltIn))).collect();
    let mut ignored = Vec::new();
    for Found { name, kind } in found {
        let reason = match kind {
            Kind::Directory if name == FIRST_BOOT => continue,
            _ if !is_stage_name(&name) => Some("its name is not of the form NN-name.sh"),
            Kind::Directory => Some("it is a directory"),
            Kind::Other => Some("it is not a readable file"),
            Kind::File | Kind::Mask => None,
        };
        if let Some(reason) = reason {
            ignored.push(Ignored { name, reason });
            continue;
        }
        let why = match kind {
            Kind::Mask => Why::Masked,
            _ if stages.contains_key(&name) => Why::Replaced,
            _ => Why::Inserted,
        };
        let entry = Entry::new(&name, Source::File(directory.join(&name)), why);
        stages.insert(name, entry);
    }
    ignored.sort_by(|one, other| one.name.cmp(&other.name));
    Plan { stages: stages.into_values().collect(), ignored }
}

/// Plans the boot of `root`.
///
/// # Errors
/// When the directory exists and cannot be listed.
pub fn read<'a>(root: &Root, built_in: impl IntoIterator<Item = &'a str>) -> Result<Plan, Error> {
    Ok(plan(built_in, list(&root.join(DIRECTORY))?, Path::new(DIRECTORY)))
}

/// The stages of `first_boot`, by the same rules and without built-ins.
///
/// # Errors
/// When the directory exists and cannot be listed.
pub fn read_first_boot(root: &Root) -> Result<Plan, Error> {
    let directory = Path::new(DIRECTORY).join(FIRST_BOOT);
    Ok(plan([], list(&root.join(&directory))?, &directory))
}

/// Notes what the files of a plan have in them that a reader of the plan should know: one that cannot be read will fail, and one with
/// Windows line ends is mended when it runs. A boot finds both by itself.
pub fn look_into(plan: &mut Plan, root: &Root) {
    for entry in plan.stages.iter_mut().filter(|entry| entry.why != Why::Masked) {
        let Source::File(path) = &entry.source else { continue };
        entry.note = match fs::read(root.join(path)) {
            Err(error) => Some(format!("cannot be read: {error}")),
            Ok(text) if files::mend_line_ends(&text).is_some() => Some("its line ends are mended".to_owned()),
            Ok(_) => None,
        };
    }
}

fn list(directory: &Path) -> Result<Vec<Found>, Error> {
    let failed = |source| Error::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    entries
        .map(|entry| {
            let entry = entry.map_err(failed)?;
            Ok(Found { name: entry.file_name().to_string_lossy().into_owned(), kind: kind(&entry.path()) })
        })
        .collect()
}

fn kind(path: &Path) -> Kind {
    if fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null")) {
        return Kind::Mask;
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Kind::File,
        Ok(metadata) if metadata.is_dir() => Kind::Directory,
        _ => Kind::Other,
    }
}

/// Whether `name` reads `NN-name.sh`.
#[must_use]
pub fn is_stage_name(name: &str) -> bool {
    match name.as_bytes() {
        [tens, ones, b'-', rest @ ..] => {
            tens.is_ascii_digit() && ones.is_ascii_digit() && rest.len() > 3 && rest.ends_with(b".sh")
        }
        _ => false,
    }
}

/// Whether `wanted`, as given to `--only` or `--skip`, names the stage: in full, without `.sh`, or by its number.
#[must_use]
pub fn names(wanted: &str, stage: &str) -> bool {
    let bare = stage.strip_suffix(".sh").unwrap_or(stage);
    wanted.as_bytes() == stage.as_bytes()
        || wanted == bare
        || (wanted.len() == 2 && bare.as_bytes().get(..2) == Some(wanted.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[(&str, Kind)]) -> Vec<Found> {
        names.iter().map(|(name, kind)| Found { name: (*name).to_owned(), kind: *kind }).collect()
    }

    fn order(plan: &Plan) -> Vec<(&str, Why)> {
        plan.stages.iter().map(|entry| (entry.name.as_str(), entry.why)).collect()
    }

    const BUILT_IN: [&str; 3] = ["05-configure-cuda.sh", "10-prep-env.sh", "36-sync-workspace.sh"];

    #[test]
    fn order_is_the_full_file_name_bytewise() {
        let files = [
            ("05-Zebra.sh", Kind::File),
            ("05-my-app-env.sh", Kind::File),
            ("99-last.sh", Kind::File),
            ("00-first.sh", Kind::File),
            ("36-sync-workspace-after.sh", Kind::File),
        ];
        let plan = plan(BUILT_IN, found(&files), Path::new(DIRECTORY));
        assert_eq!(
            order(&plan),
            [
                ("00-first.sh", Why::Inserted),
                ("05-Zebra.sh", Why::Inserted),
                ("05-configure-cuda.sh", Why::BuiltIn),
                ("05-my-app-env.sh", Why::Inserted),
                ("10-prep-env.sh", Why::BuiltIn),
                // '-' sorts before '.'
                ("36-sync-workspace-after.sh", Why::Inserted),
                ("36-sync-workspace.sh", Why::BuiltIn),
                ("99-last.sh", Why::Inserted),
            ]
        );
    }

    #[test]
    fn a_file_replaces_the_built_in_of_its_name_and_a_null_link_masks_it() {
        let files = [("10-prep-env.sh", Kind::File), ("36-sync-workspace.sh", Kind::Mask)];
        let plan = plan(BUILT_IN, found(&files), Path::new(DIRECTORY));
        assert_eq!(
            order(&plan),
            [
                ("05-configure-cuda.sh", Why::BuiltIn),
                ("10-prep-env.sh", Why::Replaced),
                ("36-sync-workspace.sh", Why::Masked)
            ]
        );
        assert_eq!(plan.stages[1].source, Source::File("/etc/vast_boot.d/10-prep-env.sh".into()));
    }

    #[test]
    fn what_is_no_stage_is_reported_and_left_out() {
        let files = [
            ("first_boot", Kind::Directory),
            ("05-x.sh~", Kind::File),
            ("README", Kind::File),
            ("5-x.sh", Kind::File),
            ("100-x.sh", Kind::File),
            ("05-.sh", Kind::File),
            ("05-dir.sh", Kind::Directory),
            ("06-dangling.sh", Kind::Other),
        ];
        let plan = plan([], found(&files), Path::new(DIRECTORY));
        assert_eq!(plan.stages, []);
        let names: Vec<_> = plan.ignored.iter().map(|ignored| ignored.name.as_str()).collect();
        assert_eq!(names, ["05-.sh", "05-dir.sh", "05-x.sh~", "06-dangling.sh", "100-x.sh", "5-x.sh", "README"]);
    }

    #[test]
    fn a_directory_is_read_with_its_links() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("etc/vast_boot.d");
        fs::create_dir_all(directory.join("first_boot")).unwrap();
        fs::write(directory.join("20-real.txt"), "").unwrap();
        std::os::unix::fs::symlink("20-real.txt", directory.join("20-link.sh")).unwrap();
        std::os::unix::fs::symlink("/dev/null", directory.join("10-prep-env.sh")).unwrap();
        std::os::unix::fs::symlink("nowhere", directory.join("30-gone.sh")).unwrap();
        let plan = read(&Root::new(root.path()), BUILT_IN).unwrap();
        assert_eq!(
            order(&plan),
            [
                ("05-configure-cuda.sh", Why::BuiltIn),
                ("10-prep-env.sh", Why::Masked),
                ("20-link.sh", Why::Inserted),
                ("36-sync-workspace.sh", Why::BuiltIn)
            ]
        );
        assert_eq!(plan.ignored.len(), 2);
    }

    #[test]
    fn what_a_file_has_in_it_is_noted() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("etc/vast_boot.d");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("20-crlf.sh"), "A=1\r\n").unwrap();
        fs::write(directory.join("21-plain.sh"), "A=1\n").unwrap();
        std::os::unix::fs::symlink("/dev/null", directory.join("22-masked.sh")).unwrap();
        let root = Root::new(root.path());
        let mut plan = read(&root, BUILT_IN).unwrap();
        fs::remove_file(directory.join("21-plain.sh")).unwrap();
        look_into(&mut plan, &root);
        let notes: Vec<_> = plan.stages.iter().filter_map(|entry| entry.note.as_deref()).collect();
        assert_eq!(notes, ["its line ends are mended", "cannot be read: No such file or directory (os error 2)"]);
    }

    #[test]
    fn a_missing_directory_leaves_the_built_ins() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(&Root::new(root.path()), BUILT_IN).unwrap().stages.len(), 3);
    }

    #[test]
    fn a_stage_is_named_in_full_or_in_short() {
        for (wanted, expected) in
            [("10-prep-env.sh", true), ("10-prep-env", true), ("10", true), ("1", false), ("prep-env", false)]
        {
            assert_eq!(names(wanted, "10-prep-env.sh"), expected, "{wanted}");
        }
    }
}
