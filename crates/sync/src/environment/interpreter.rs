//! Whether an environment can be used where it is: its interpreter is run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::program::Programs;

/// Starts, imports its standard library, and writes nothing.
const PYTHON: &[&str] = &["-I", "-B", "-c", "import encodings, site"];

/// Runs the interpreter of the tree that goes `to` that place of the shared directory and is `at` that path of this
/// machine. What has none, such as a uv that manages no Python, has nothing to fail.
pub(super) fn works(programs: &dyn Programs, to: &Path, at: &Path) -> Result<(), String> {
    if to.starts_with("venv") {
        let named = ["bin/python", "bin/python3"].map(|name| at.join(name));
        return match named.iter().find(|path| path.symlink_metadata().is_ok()) {
            Some(python) => programs.works(python, PYTHON),
            None => Err(format!("there is no interpreter in `{}`", at.join("bin").display())),
        };
    }
    match to.to_str() {
        // `python/cpython-3.12.4-linux-x86_64-gnu/bin/python3`
        Some("uv") => below(at, 2, "bin/python3").map_or(Ok(()), |python| programs.works(&python, PYTHON)),
        // `versions/node/v22.1.0/bin/node`
        Some("nvm") => {
            below(&at.join("versions/node"), 1, "bin/node").map_or(Ok(()), |node| programs.works(&node, &["--version"]))
        }
        _ => Ok(()),
    }
}

/// The first `path` in a directory that is that many levels below `directory` or fewer, in the order of names.
fn below(directory: &Path, levels: u32, path: &str) -> Option<PathBuf> {
    let mut inside: Vec<PathBuf> = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).collect();
    inside.sort();
    // A link is another name of a directory that is looked into anyway, or leads elsewhere.
    inside.retain(|path| path.symlink_metadata().is_ok_and(|facts| facts.is_dir()));
    let found = inside.iter().map(|inside| inside.join(path)).find(|path| path.symlink_metadata().is_ok());
    found.or_else(|| if levels > 1 { inside.iter().find_map(|inside| below(inside, levels - 1, path)) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Asked(Mutex<Vec<PathBuf>>);

    impl Programs for Asked {
        fn works(&self, program: &Path, _: &[&str]) -> Result<(), String> {
            self.0.lock().unwrap().push(program.to_owned());
            Ok(())
        }
    }

    #[test]
    fn the_interpreter_of_each_kind_is_found_and_run() {
        let root = tempfile::tempdir().unwrap();
        let asked = Asked::default();
        for (to, program) in [
            ("venv/main", "bin/python"),
            ("uv", "python/cpython-3.12/bin/python3"),
            ("nvm", "versions/node/v22.1.0/bin/node"),
        ] {
            let at = root.path().join(to);
            fs::create_dir_all(at.join(program).parent().unwrap()).unwrap();
            fs::create_dir_all(at.join("another/directory")).unwrap();
            fs::write(at.join(program), "").unwrap();
            works(&asked, Path::new(to), &at).unwrap();
            assert_eq!(asked.0.lock().unwrap().pop(), Some(at.join(program)), "{to}");
        }
    }

    #[test]
    fn a_venv_without_an_interpreter_does_not_work_and_an_empty_uv_does() {
        let root = tempfile::tempdir().unwrap();
        let asked = Asked::default();
        assert!(works(&asked, Path::new("venv/x"), root.path()).unwrap_err().contains("no interpreter"));
        assert_eq!(works(&asked, Path::new("uv"), root.path()), Ok(()));
        assert_eq!(works(&asked, Path::new("nvm"), root.path()), Ok(()));
    }
}
