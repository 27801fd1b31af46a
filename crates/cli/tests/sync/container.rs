//! Containers whose environments and homes move: directories that stand for `/`, with a volume at `/workspace`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::command::{tool, vast_sync};
use crate::tree::set_mode;

/// The id of the environment in these tests.
pub(crate) const ID: &str = "0123abcd";

/// How long an owner may be silent in tests where whoever is silent is dead.
pub(crate) const SHORT_LEASE: &str = "0.06";

/// What moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Environment,
    Home,
}

impl Kind {
    pub(crate) const BOTH: [Self; 2] = [Self::Environment, Self::Home];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Home => "home",
        }
    }

    /// The shared directory, seen from the workspace.
    pub(crate) fn directory(self) -> PathBuf {
        match self {
            Self::Environment => Path::new(".environment_sync").join(ID),
            Self::Home => PathBuf::from("home"),
        }
    }

    /// The trees of [`fill`]: where they are in the container, and where in the shared directory.
    pub(crate) fn trees(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Environment => {
                vec![("venv/conda", "venv/conda"), ("venv/main", "venv/main"), (".uv", "uv"), ("opt/nvm", "nvm")]
            }
            Self::Home => vec![("home/user", "user"), ("root", "root")],
        }
    }
}

/// A container in a directory.
pub(crate) struct Container {
    directory: tempfile::TempDir,
}

impl Container {
    /// On this machine's disk.
    pub(crate) fn new() -> Self {
        Self::of(tempfile::tempdir().unwrap())
    }

    /// In a directory, such as one in memory, where hundreds of them take little time.
    pub(crate) fn within(directory: &Path) -> Self {
        Self::of(tempfile::tempdir_in(directory).unwrap())
    }

    fn of(directory: tempfile::TempDir) -> Self {
        fill(directory.path());
        Self { directory }
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root().join(path)
    }

    pub(crate) fn shared(&self, kind: Kind) -> PathBuf {
        self.path("workspace").join(kind.directory())
    }

    pub(crate) fn command(&self, kind: Kind) -> Command {
        command(self.root(), kind, SHORT_LEASE)
    }
}

/// `vast-sync environment` or `home` in a container, where whoever is silent for that many seconds is dead.
pub(crate) fn command(root: &Path, kind: Kind, lease: &str) -> Command {
    let mut command = vast_sync();
    command.arg(kind.name()).arg("--root").arg(root).args(["--lease", lease]);
    command
}

/// Small trees of every kind that moves, and an empty workspace.
pub(crate) fn fill(root: &Path) {
    for directory in ["workspace", "etc", "var/log", "venv/data", "root/.config/deep", "home/user/.cache"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::write(root.join(".env_hash"), format!("{ID}\n")).unwrap();
    for (venv, sign) in [("main", "pyvenv.cfg"), ("conda", "conda-meta/history")] {
        let venv = root.join("venv").join(venv);
        fs::create_dir_all(venv.join("lib/site-packages")).unwrap();
        fs::create_dir_all(venv.join(sign).parent().unwrap()).unwrap();
        fs::write(venv.join(sign), "home = /usr/bin\n").unwrap();
        fs::create_dir_all(venv.join("bin")).unwrap();
        interpreter(&venv.join("bin/python"), 0);
        for index in 0..6 {
            fs::write(venv.join(format!("lib/site-packages/module{index}.py")), format!("index = {index}\n")).unwrap();
        }
        fs::hard_link(venv.join("lib/site-packages/module0.py"), venv.join("lib/linked.py")).unwrap();
        symlink("python", venv.join("bin/python3")).unwrap();
    }
    fs::create_dir_all(root.join(".uv/python/cpython-3.12/bin")).unwrap();
    interpreter(&root.join(".uv/python/cpython-3.12/bin/python3"), 0);
    fs::create_dir_all(root.join("opt/nvm/versions/node/v22/bin")).unwrap();
    interpreter(&root.join("opt/nvm/versions/node/v22/bin/node"), 0);

    fs::write(root.join("root/.bashrc"), "alias ll='ls -l'\n").unwrap();
    fs::write(root.join("root/.config/deep/setting"), "on\n").unwrap();
    fs::write(root.join("home/user/notes"), "mine\n").unwrap();
    fs::write(root.join("home/user/.cache/x"), [7; 9000]).unwrap();
    for (home, owner) in [("root", 0), ("home/user", 1001)] {
        let ssh = root.join(home).join(".ssh");
        fs::create_dir_all(&ssh).unwrap();
        set_mode(&ssh, 0o700);
        for file in ["authorized_keys", "known_hosts"] {
            fs::write(ssh.join(file), format!("{file} of {home}\n")).unwrap();
            set_mode(&ssh.join(file), 0o600);
        }
        tool("chown", ["-R", &format!("{owner}:0"), root.join(home).to_str().unwrap()]);
        set_mode(&root.join(home), 0o750);
    }
    fs::write(root.join("root/onstart.sh"), "echo started\n").unwrap();
    fs::write(root.join("root/.vast_containerlabel"), "C.12345").unwrap();
    fs::write(root.join("root/.vast_api_key"), "secret").unwrap();
    set_mode(&root.join("root/.vast_api_key"), 0o600);
    fs::write(root.join("root/ports.log"), "8080\n").unwrap();
}

/// A program that ends with that code.
pub(crate) fn interpreter(path: &Path, code: u8) {
    fs::write(path, format!("#!/bin/sh\nexit {code}\n")).unwrap();
    set_mode(path, 0o755);
}

/// What a tree consists of: kind, mode, owner, content or target of each entry. Times and numbers of names are left out,
/// because a home on the volume has links of its own.
pub(crate) fn contents(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    collect(root, Path::new(""), &mut found);
    found
}

fn collect(root: &Path, path: &Path, found: &mut BTreeMap<PathBuf, String>) {
    let here = root.join(path);
    let facts = fs::symlink_metadata(&here).unwrap();
    let owner = format!("{:o} {} {}", facts.mode(), facts.uid(), facts.gid());
    let text = if facts.is_symlink() {
        format!("{owner} -> {}", fs::read_link(&here).unwrap().display())
    } else if facts.is_dir() {
        for entry in fs::read_dir(&here).unwrap() {
            collect(root, &path.join(entry.unwrap().file_name()), found);
        }
        owner
    } else {
        format!("{owner} {}", fs::read(&here).unwrap().escape_ascii())
    };
    found.insert(path.to_owned(), text);
}

/// Where the platform's files of root's home are in a container.
pub(crate) const PLATFORM: [(&str, &str, &str); 4] = [
    ("onstart.sh", "onstart.sh", "echo started\n"),
    (".vast_containerlabel", "etc/.vast_containerlabel", "C.12345"),
    (".vast_api_key", "etc/.vast_api_key", "secret"),
    ("ports.log", "var/log/vast_ports.log", "8080\n"),
];

type Trees = BTreeMap<&'static str, BTreeMap<PathBuf, String>>;

/// What each tree of a kind has to be on the volume, from a container that was not touched.
pub(crate) fn expected(kind: Kind) -> &'static Trees {
    static EXPECTED: [OnceLock<Trees>; 2] = [const { OnceLock::new() }; 2];
    EXPECTED[kind as usize].get_or_init(|| untouched(kind))
}

fn untouched(kind: Kind) -> Trees {
    let fresh = Container::new();
    let mut expected = BTreeMap::new();
    for (path, to) in kind.trees() {
        let mut tree = contents(&fresh.path(path));
        if kind == Kind::Home {
            tree.retain(|path, _| !path.starts_with(".ssh"));
            tree.insert(".ssh".into(), format!("120777 0 0 -> /home_ssh/{to}/.ssh"));
        }
        if to == "root" {
            for (name, place, _) in PLATFORM {
                tree.insert(name.into(), format!("120777 0 0 -> /{place}"));
            }
        }
        expected.insert(to, tree);
    }
    expected
}

/// Nothing under a final name on the volume is partial.
#[track_caller]
pub(crate) fn assert_nothing_partial(shared: &Path, kind: Kind, context: &str) {
    let mut complete = 0;
    for (to, tree) in expected(kind) {
        if shared.join(to).symlink_metadata().is_ok() {
            assert_eq!(&contents(&shared.join(to)), tree, "{context}: {to}");
            complete += 1;
        }
    }
    let is_marked = shared.join(".synced").exists();
    assert!(!is_marked || complete == kind.trees().len(), "{context}: marked as complete with {complete} trees");
    // Older images take a populated directory without marks for finished.
    if complete > 0 && !is_marked {
        assert!(shared.join(".syncing").exists(), "{context}: unmarked");
    }
}

/// All is moved: every tree is whole on the volume, and its path in the container leads there.
#[track_caller]
pub(crate) fn assert_moved(root: &Path, kind: Kind, context: &str) {
    let shared = root.join("workspace").join(kind.directory());
    assert_nothing_partial(&shared, kind, context);
    assert!(shared.join(".synced").exists(), "{context}");
    for (path, to) in kind.trees() {
        let target = Path::new("/workspace").join(kind.directory()).join(to);
        assert_eq!(fs::read_link(root.join(path)).ok(), Some(target), "{context}: {path}");
    }
    if kind == Kind::Home {
        assert_login_works(root, context);
        for (_, place, text) in PLATFORM {
            assert_eq!(fs::read_to_string(root.join(place)).unwrap(), text, "{context}: {place}");
        }
        let secret = fs::metadata(root.join("etc/.vast_api_key")).unwrap();
        assert_eq!(secret.permissions().mode() & 0o777, 0o600, "{context}");
    }
}

/// The keys of each user are found by way of its home, and everything on the way is as `sshd` wants it: owned by root or
/// the user, and written by nobody else.
#[track_caller]
pub(crate) fn assert_login_works(root: &Path, context: &str) {
    for (home, owner) in [("root", 0), ("home/user", 1001)] {
        let keys = resolve(root, &Path::new("/").join(home).join(".ssh/authorized_keys"));
        assert_eq!(
            fs::read_to_string(&keys).unwrap_or_default(),
            format!("authorized_keys of {home}\n"),
            "{context}: {}",
            keys.display()
        );
        for above in keys.ancestors().take_while(|path| *path != root) {
            let facts = fs::symlink_metadata(above).unwrap();
            assert!([0, owner].contains(&facts.uid()), "{context}: {} is {}'s", above.display(), facts.uid());
            assert_eq!(facts.mode() & 0o022, 0, "{context}: {} can be written to", above.display());
        }
        let ssh = fs::metadata(keys.parent().unwrap()).unwrap();
        assert_eq!((ssh.mode() & 0o7777, ssh.uid()), (0o700, owner), "{context}");
    }
}

/// Follows links as inside the container.
pub(crate) fn resolve(root: &Path, path: &Path) -> PathBuf {
    let mut here = root.to_owned();
    let mut rest: Vec<_> = path.components().rev().collect();
    let mut links = 0;
    while let Some(component) = rest.pop() {
        match component {
            std::path::Component::RootDir => root.clone_into(&mut here),
            std::path::Component::ParentDir => {
                here.pop();
            }
            std::path::Component::Normal(name) => {
                let next = here.join(name);
                match fs::read_link(&next) {
                    Ok(target) if links < 40 => {
                        links += 1;
                        let target: Vec<_> = target.components().map(|part| part.as_os_str().to_owned()).collect();
                        let followed: PathBuf = target.iter().collect();
                        let more: PathBuf = followed.join(rest.iter().rev().collect::<PathBuf>());
                        let from = if followed.is_absolute() { root.to_owned() } else { here };
                        return resolve_from(root, &from, &more, links);
                    }
                    _ => here = next,
                }
            }
            _ => {}
        }
    }
    here
}

fn resolve_from(root: &Path, from: &Path, path: &Path, links: u32) -> PathBuf {
    assert!(links < 40, "links lead in a circle: {}", path.display());
    let prefix = Path::new("/").join(from.strip_prefix(root).unwrap());
    resolve(root, &if path.is_absolute() { path.to_owned() } else { prefix.join(path) })
}

/// The names in a shared directory and beside it that are of the protocol, the mark of completeness aside.
pub(crate) fn leftovers(shared: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for directory in [shared, shared.parent().unwrap()] {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            let of_protocol = [".claim.", ".staging.", ".takeover.", ".dead.", ".syncing", ".vast-sync-probe"];
            if of_protocol.iter().any(|prefix| name.starts_with(prefix)) {
                found.push(name);
            }
        }
    }
    found
}

/// Gives a file to a user.
pub(crate) fn give(path: &Path, owner: u32) {
    chown(path, Some(owner), Some(0)).unwrap();
}
