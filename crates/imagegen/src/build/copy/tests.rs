use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::super::folder::Folder;
use super::super::origin::TreeOrigin;
use super::*;

const EPOCH: i64 = 1000;

/// A base like Debian's: merged `/usr`, private `/root`, sticky `/tmp`.
fn base() -> Tree {
    let mut tree = Tree::default();
    let link = |target: &str| NodeKind::Symlink { target: target.into() };
    for (path, mode, kind) in [
        ("bin", 0o777, link("usr/bin")),
        ("etc", 0o755, NodeKind::Directory),
        ("etc/localtime", 0o777, link("/usr/share/zoneinfo/UTC")),
        ("file", 0o644, NodeKind::File { size: 1, content: ContentRef { layer: 0, entry: 0 } }),
        ("gone", 0o777, link("/made/later")),
        ("root", 0o700, NodeKind::Directory),
        ("tmp", 0o1777, NodeKind::Directory),
        ("usr", 0o755, NodeKind::Directory),
        ("usr/bin", 0o755, NodeKind::Directory),
    ] {
        tree.insert(path.as_ref(), Node { kind, metadata: Metadata::root_owned(mode, 5) });
    }
    tree
}

struct Sources(tempfile::TempDir);

impl Sources {
    fn new(files: &[&str]) -> Self {
        let sources = Self(tempfile::tempdir().unwrap());
        for file in files {
            let path = sources.0.path().join(file);
            if file.ends_with('/') {
                fs::create_dir_all(path).unwrap();
                continue;
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        sources
    }

    fn link(self, link: &str, target: &str) -> Self {
        symlink(target, self.0.path().join(link)).unwrap();
        self
    }

    fn folder(&self, ignore: &str) -> Folder {
        Folder::new(self.0.path(), Ignore::parse(ignore).unwrap(), "the build context".into(), EPOCH)
    }
}

/// `path mode kind` of every entry of the layer, or what stopped it.
fn planned(
    tree: &mut Tree,
    origin: &dyn Origin,
    sources: &[&str],
    to: &str,
    options: &CopyOptions,
) -> Result<Vec<String>, String> {
    let sources: Vec<String> = sources.iter().map(|&source| source.to_owned()).collect();
    let mut plan = LayerPlan::new(tree, 1, EPOCH);
    plan.copy(origin, &sources, to, options).map_err(|problem| problem.to_string())?;
    let (entries, _) = plan.finish();
    let line = |(path, planned): &(PathBuf, Planned)| {
        let kind = match &planned.kind {
            ItemKind::Directory => "dir".to_owned(),
            ItemKind::File { .. } => "file".to_owned(),
            ItemKind::Symlink { target } => format!("-> {}", target.display()),
            _ => "other".to_owned(),
        };
        format!("{} {:o} {kind}", path.display(), planned.metadata.mode)
    };
    Ok(entries.iter().map(line).collect())
}

fn copy(sources: &Sources, from: &[&str], to: &str) -> Result<Vec<String>, String> {
    let options = CopyOptions { epoch: EPOCH, ..CopyOptions::default() };
    planned(&mut base(), &sources.folder(""), from, to, &options)
}

#[test]
fn a_directory_gives_its_contents_and_a_file_itself() {
    let sources = Sources::new(&["d/a", "d/sub/b", "f"]);
    for (from, to, expected) in [
        (&["d"][..], "/new", &["new 755 dir", "new/a 644 file", "new/sub 755 dir", "new/sub/b 644 file"][..]),
        (&["d/"], "/new/", &["new 755 dir", "new/a 644 file", "new/sub 755 dir", "new/sub/b 644 file"]),
        (&["f"], "/new", &["new 644 file"]),
        (&["f"], "/new/", &["new 755 dir", "new/f 644 file"]),
        (&["f"], "/etc", &["etc 755 dir", "etc/f 644 file"]),
        (&["f"], "/x/y/z", &["x 755 dir", "x/y 755 dir", "x/y/z 644 file"]),
        (&["f", "d/a"], "/new/", &["new 755 dir", "new/a 644 file", "new/f 644 file"]),
        (
            &["f", "d"],
            "/etc/.",
            &["etc 755 dir", "etc/a 644 file", "etc/f 644 file", "etc/sub 755 dir", "etc/sub/b 644 file"],
        ),
        (&["d/*"], "/etc/", &["etc 755 dir", "etc/a 644 file", "etc/b 644 file"]),
        (&["none*", "f"], "/new", &["new 644 file"]),
    ] {
        assert_eq!(
            copy(&sources, from, to).as_deref(),
            Ok(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{from:?} to {to}"
        );
    }
}

#[test]
fn directories_of_the_base_keep_their_modes() {
    let sources = Sources::new(&["ROOT/root/.bashrc", "ROOT/tmp/x", "ROOT/etc/new/y"]);
    assert_eq!(
        copy(&sources, &["ROOT"], "/").unwrap(),
        [
            "etc 755 dir",
            "etc/new 755 dir",
            "etc/new/y 644 file",
            "root 700 dir",
            "root/.bashrc 644 file",
            "tmp 1777 dir",
            "tmp/x 644 file"
        ]
    );
}

#[test]
fn an_overlay_below_a_linked_directory_goes_where_it_points() {
    let sources = Sources::new(&["ROOT/bin/tool", "ROOT/gone/x", "f"]);
    assert_eq!(
        copy(&sources, &["ROOT"], "/").unwrap(),
        [
            "made 755 dir",
            "made/later 755 dir",
            "made/later/x 644 file",
            "usr 755 dir",
            "usr/bin 755 dir",
            "usr/bin/tool 644 file"
        ]
    );
    assert_eq!(copy(&sources, &["f"], "/bin/").unwrap(), ["usr 755 dir", "usr/bin 755 dir", "usr/bin/f 644 file"]);
    assert_eq!(copy(&sources, &["f"], "/etc/localtime").unwrap().last().unwrap(), "usr/share/zoneinfo/UTC 644 file");
}

#[test]
fn a_file_of_an_overlay_replaces_a_link_of_the_base() {
    let sources = Sources::new(&["ROOT/etc/localtime"]);
    assert_eq!(copy(&sources, &["ROOT"], "/").unwrap(), ["etc 755 dir", "etc/localtime 644 file"]);
}

#[test]
fn what_cannot_be_copied_is_refused_by_name() {
    let sources = Sources::new(&["d/x", "f", "g", "ROOT/etc/", "over/file/x", "links/etc/", "wh/.wh.gone"])
        .link("out", "/etc/passwd")
        .link("links/etc/evil", "../../../../etc/passwd");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        sources.0.path().join("ROOT/etc/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for (from, to, expected) in [
        (&["none"][..], "/", "`none` does not exist in the build context"),
        (&["none*"], "/", "`none*` does not exist in the build context"),
        (&["../x"], "/", "`../x` lies outside the build context"),
        (&["out"], "/", "`out` leads out of the build context"),
        (&["links"], "/", "`links/etc/evil` points to `../../../../etc/passwd`, which climbs above the root"),
        (&["ROOT"], "/", "`ROOT/etc/pipe` is a named pipe, which cannot be copied"),
        (&["wh"], "/", "`wh/.wh.gone` is named like a deletion mark"),
        (&["f", "g"], "/new", "several files cannot be copied to `/new`"),
        (&["d"], "/file", "cannot put `d` over `/file`: it is no directory"),
        (&["over"], "/", "cannot put `over/file` over `/file`: it is no directory"),
        (&["f"], "/file/x", "`/file/x` cannot be reached in the image: `/file` is no directory"),
    ] {
        let said = copy(&sources, from, to).unwrap_err();
        assert!(said.starts_with(expected), "{said}");
    }
    let directory_below = Sources::new(&["ROOT/etc"]);
    assert!(copy(&directory_below, &["ROOT"], "/").unwrap_err().contains("a file cannot replace a directory"));
}

#[test]
fn ignored_files_stay_out_and_can_be_taken_back() {
    let sources = Sources::new(&["d/a.md", "d/b.md", "d/c", "e/x/y", "e/x/z", "secret"]);
    let options = || CopyOptions { epoch: EPOCH, ..CopyOptions::default() };
    let rules = "*.md\nd/*.md\n!d/b.md\ne\n!e/x/y\nsecret";
    let files = |from: &str| {
        planned(&mut base(), &sources.folder(rules), &[from], "/n/", &options())
            .map(|lines| lines.into_iter().filter(|line| line.ends_with("file")).collect::<Vec<_>>())
    };
    assert_eq!(files(".").unwrap(), ["n/d/b.md 644 file", "n/d/c 644 file", "n/e/x/y 644 file"]);
    assert_eq!(files("e").unwrap(), ["n/x/y 644 file"]);
    assert!(files("secret").unwrap_err().contains("`secret` is excluded from the build context by its .dockerignore"));
    let exclude = CopyOptions { exclude: Ignore::excluding(&["*.md", "sub"]).unwrap(), ..options() };
    let lines = planned(&mut base(), &sources.folder(""), &["d"], "/n", &exclude).unwrap();
    assert_eq!(lines, ["n 755 dir", "n/c 644 file"]);
}

#[test]
fn owners_and_modes_are_set_where_they_are_asked_for() {
    let sources = Sources::new(&["d/root/x"]).link("d/l", "x");
    let options =
        CopyOptions { owner: Some((1001, 0)), mode: Chmod::parse("u=rwX,go="), epoch: EPOCH, ..CopyOptions::default() };
    let mut tree = base();
    let lines = planned(&mut tree, &sources.folder(""), &["d"], "/new/", &options).unwrap();
    assert_eq!(lines, ["new 755 dir", "new/l 777 -> x", "new/root 700 dir", "new/root/x 600 file"]);
    assert_eq!(tree.get(Path::new("new/root/x")).unwrap().metadata.uid, 1001);
    assert_eq!(tree.get(Path::new("new")).unwrap().metadata.uid, 1001, "made on the way");
}

#[test]
fn what_was_copied_can_be_copied_from() {
    let sources = Sources::new(&["d/a", "d/b"]);
    let mut tree = base();
    let options = CopyOptions { epoch: EPOCH, ..CopyOptions::default() };
    planned(&mut tree, &sources.folder(""), &["d"], "/usr/bin", &options).unwrap();
    let mut other = Tree::default();
    let origin = TreeOrigin { tree: &tree, name: "stage `x`".into(), spool: None, listed: None };
    let lines = planned(&mut other, &origin, &["/bin/*"], "/t/", &options).unwrap();
    assert_eq!(lines, ["t 755 dir", "t/a 644 file", "t/b 644 file"]);
    let NodeKind::File { content, .. } = tree.get(Path::new("usr/bin/b")).unwrap().kind else { panic!() };
    assert_eq!(content, ContentRef { layer: 1, entry: 3 }, "usr, usr/bin, usr/bin/a and then this");
}

#[test]
fn only_directories_that_changed_get_a_new_time() {
    let sources = Sources::new(&["d/bin/tool"]);
    let mut tree = base();
    let options = CopyOptions { epoch: EPOCH, ..CopyOptions::default() };
    planned(&mut tree, &sources.folder(""), &["d"], "/", &options).unwrap();
    let time = |path: &str| tree.get(Path::new(path)).unwrap().metadata.mtime;
    assert_eq!((time("usr"), time("usr/bin"), time("usr/bin/tool")), (5, EPOCH, EPOCH));
}

#[test]
fn scripts_that_are_run_by_name_are_checked_for_their_bit() {
    let sources = Sources::new(&[
        "ROOT/opt/supervisor-scripts/app.sh",
        "ROOT/opt/supervisor-scripts/utils/x.sh",
        "ROOT/etc/vast_boot.d/05-x.sh",
    ]);
    let executable = sources.0.path().join("ROOT/etc/vast_boot.d/05-x.sh");
    let warnings = || {
        let mut tree = base();
        let mut plan = LayerPlan::new(&mut tree, 1, EPOCH);
        plan.copy(&sources.folder(""), &["ROOT".to_owned()], "/", &CopyOptions::default()).unwrap();
        plan.finish().1
    };
    assert_eq!(warnings().len(), 2);
    fs::set_permissions(executable, fs::Permissions::from_mode(0o755)).unwrap();
    let left = warnings();
    assert_eq!(left.len(), 1);
    assert!(left[0].starts_with("`ROOT/opt/supervisor-scripts/app.sh` is not executable"), "{left:?}");
}

#[test]
fn a_working_directory_is_made_only_where_it_is_missing() {
    let mut tree = base();
    let mut plan = LayerPlan::new(&mut tree, 1, EPOCH);
    assert!(!plan.lacks_directory(Path::new("/bin")).unwrap());
    assert!(plan.lacks_directory(Path::new("/opt/app")).unwrap());
    assert!(plan.lacks_directory(Path::new("/file")).is_err());
    plan.make_workdir(Path::new("/opt/app"), Some((7, 8))).unwrap();
    assert!(!plan.lacks_directory(Path::new("/opt/app")).unwrap());
    let made: Vec<_> = plan.finish().0.into_iter().map(|(path, planned)| (path, planned.metadata.uid)).collect();
    assert_eq!(made, [(PathBuf::from("opt"), 7), (PathBuf::from("opt/app"), 7)], "of the user that works there");
}
