//! One input, one digest: whoever builds it, where, when, on how many processors and out of which checkout.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tempfile::TempDir;

/// A user that owns nothing on this machine.
const OTHER_USER: u32 = 1001;

/// What is the same in every build: path, content and whether it can be run.
fn input(dockerfile: &str) -> Vec<(String, String, bool)> {
    let big: String = (0..300_000).map(|number: u32| number.to_string()).collect::<Vec<_>>().join("\n");
    let mut files = vec![
        ("Dockerfile".to_owned(), dockerfile.to_owned(), false),
        (".dockerignore".to_owned(), "*.log\n".to_owned(), false),
        ("ROOT/big".to_owned(), big, false),
        ("ROOT/opt/run.sh".to_owned(), "#!/bin/sh\n".to_owned(), true),
        ("ROOT/root/.bashrc".to_owned(), "alias l=ls\n".to_owned(), false),
        ("dropped.log".to_owned(), "not part of it".to_owned(), false),
    ];
    files.extend((0..40).map(|number| (format!("ROOT/etc/many/{number}"), number.to_string(), false)));
    files
}

/// How a build differs from the first.
#[derive(Default)]
struct Variation {
    about: &'static str,
    /// Files are made in the other order, so that directories list them otherwise.
    reversed: bool,
    /// The umask of checkout and build.
    umask: u32,
    /// The time of the files.
    mtime: Option<SystemTime>,
    /// Who owns the files and builds.
    user: Option<u32>,
    /// Only the first processor may be used.
    one_processor: bool,
    environment: &'static [(&'static str, &'static str)],
    /// The folder's own name, and how it is named on the command line.
    folder: Option<(&'static str, &'static str)>,
}

/// A place to build in, which another user may use as well.
struct Place {
    directory: TempDir,
    binary: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // Out of the build's own directory, which others may not be able to look into.
        let binary = directory.path().join("vast-imagegen");
        fs::copy(env!("CARGO_BIN_EXE_vast-imagegen"), &binary).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory, binary }
    }

    /// Lays `files` out as `variation` says, builds, and gives the digest.
    fn build(&self, files: &[(String, String, bool)], variation: &Variation, arguments: &[&str]) -> String {
        let (name, written) = variation.folder.unwrap_or(("image", "image"));
        let home = tempfile::tempdir_in(self.directory.path()).unwrap();
        let folder = home.path().join(name);
        let mut ordered: Vec<&(String, String, bool)> = files.iter().collect();
        if variation.reversed {
            ordered.reverse();
        }
        for (path, content, executable) in ordered {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            let mode = if *executable { 0o777 } else { 0o666 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode & !variation.umask)).unwrap();
        }
        symlink("run.sh", folder.join("ROOT/opt/link")).unwrap();
        for folder in ["tmp", "cache"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        settle(home.path(), variation);

        let processor = if variation.one_processor { "taskset -c 0 " } else { "" };
        let user = variation
            .user
            .map_or_else(String::new, |user| format!("setpriv --reuid={user} --regid={user} --clear-groups "));
        let script = format!("umask {:03o}; exec {processor}{user}\"$@\"", variation.umask);
        let output = Command::new("/bin/sh")
            .args(["-c", &script, "sh"])
            .arg(&self.binary)
            .args(["build", written, "--to", "oci:result:v1", "--json"])
            .args(arguments)
            .current_dir(home.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("TMPDIR", home.path().join("tmp"))
            .env("XDG_CACHE_HOME", home.path().join("cache"))
            .envs(variation.environment.iter().copied())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {}", variation.about, String::from_utf8_lossy(&output.stderr));
        assert_eq!(fs::read_dir(home.path().join("tmp")).unwrap().count(), 0, "{}", variation.about);
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        result["digest"].as_str().unwrap().to_owned()
    }
}

/// Gives everything below `path` the modes of directories, the times and the owner that `variation` says.
fn settle(path: &Path, variation: &Variation) {
    let found = fs::symlink_metadata(path).unwrap();
    if found.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            settle(&entry.unwrap().path(), variation);
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o777 & !variation.umask)).unwrap();
    }
    if let Some(user) = variation.user {
        std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap();
        assert_eq!(fs::symlink_metadata(path).unwrap().uid(), user);
    }
    if let Some(time) = variation.mtime.filter(|_| found.is_file() || found.is_dir()) {
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
}

fn variations() -> Vec<Variation> {
    let about = |about| Variation { about, umask: 0o022, ..Variation::default() };
    vec![
        Variation { reversed: true, ..about("another order of files") },
        Variation { umask: 0o077, ..about("a private umask") },
        Variation { umask: 0, ..about("no umask") },
        Variation { mtime: Some(SystemTime::UNIX_EPOCH + Duration::from_hours(24)), ..about("files of 1970") },
        Variation {
            mtime: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)),
            ..about("files of 2096")
        },
        Variation { one_processor: true, ..about("one processor") },
        Variation {
            environment: &[("TZ", "Asia/Kathmandu"), ("LC_ALL", "tr_TR.UTF-8"), ("LANG", "de_DE")],
            ..about("elsewhere")
        },
        Variation { environment: &[("SOURCE_DATE_EPOCH", "315532800")], ..about("the default epoch, said") },
        Variation {
            environment: &[("HOME", "/nonexistent"), ("USER", "nobody"), ("HOSTNAME", "x")],
            ..about("somebody")
        },
        Variation { folder: Some(("other name", "./other name/")), ..about("another folder") },
    ]
}

#[test]
fn a_native_build_is_the_same_whoever_builds_it_where_and_when() {
    assert!(rustix::process::geteuid().is_root(), "to build as another user takes root");
    let files = input(
        "FROM scratch\nARG WHO=me\nLABEL who=$WHO\nCOPY ./ROOT /\nCOPY . /all/\nCOPY <<EOF /inline\n$WHO\nEOF\n\
         WORKDIR /opt/app\nUSER 1001\nRUN env-hash > /.env_hash\nCMD [\"/opt/run.sh\"]\n",
    );
    let place = Place::new();
    for compression in ["gzip", "zstd"] {
        let build = |variation: &Variation| place.build(&files, variation, &["--compression", compression]);
        let one = build(&first());
        for variation in &variations() {
            assert_eq!(build(variation), one, "{compression}, {}", variation.about);
        }
        let other = Variation { about: "another user", user: Some(OTHER_USER), umask: 0o077, ..Variation::default() };
        assert_eq!(build(&other), one, "{compression}, another user");
        let epoch = Variation { environment: &[("SOURCE_DATE_EPOCH", "315532801")], ..first() };
        assert_ne!(build(&epoch), one, "the epoch is part of the input");
    }
}

fn first() -> Variation {
    Variation { about: "the first", umask: 0o022, ..Variation::default() }
}

/// A root file system with a shell: that of this machine, with its libraries.
fn shell() -> Vec<(PathBuf, PathBuf)> {
    let mut files = Vec::new();
    for program in ["/bin/sh", "/bin/date", "/bin/ls"] {
        files.push((fs::canonicalize(program).unwrap(), PathBuf::from(&program[1..])));
        let output = Command::new("ldd").arg(program).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
        files.extend(libraries.map(|path| (PathBuf::from(path), PathBuf::from(&path[1..]))));
    }
    files
}

/// What buildah runs is the same if what the commands write is: names, owners, modes, links and the order of entries, and
/// times, which become the epoch. What a command writes into a file (the date, a random number, what the network gave) is
/// its own affair.
#[test]
fn a_build_that_runs_commands_is_the_same_elsewhere_and_later() {
    assert!(rustix::process::geteuid().is_root(), "buildah in a chroot is for root");
    let place = Place::new();
    let root = place.directory.path().join("shell");
    for (from, to) in shell() {
        fs::create_dir_all(root.join(&to).parent().unwrap()).unwrap();
        fs::copy(from, root.join(to)).unwrap();
    }
    let files = input(
        "FROM scratch\nCOPY --from=shell / /\nCOPY ROOT /\n\
         RUN set -e; i=0; while [ $i -lt 30 ]; do echo $i > /etc/many/made-$i; i=$((i+1)); done; : > /empty; umask > /umask\n\
         RUN date > /dev/null; ls /etc/many > /listing\nENV A=1\nRUN echo $A > /last\n",
    );
    let context = format!("shell={}", root.display());
    let build =
        |variation: &Variation| place.build(&files, variation, &["--engine", "buildah", "--build-context", &context]);
    let one = build(&first());
    for variation in [
        Variation {
            reversed: true,
            umask: 0o077,
            mtime: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)),
            environment: &[("TZ", "Asia/Kathmandu"), ("LC_ALL", "C"), ("HOME", "/nonexistent")],
            folder: Some(("elsewhere", "elsewhere")),
            ..first()
        },
        Variation { one_processor: true, ..first() },
    ] {
        assert_eq!(build(&variation), one, "{}", variation.about);
    }
}
