//! Who carries out a Dockerfile, and who is chosen where that was left open.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::str::FromStr;

use super::problem::Obstacle;

/// Who carries out a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Engine {
    /// Native where that is possible, else what is installed.
    #[default]
    Auto,
    /// This program, starting no process.
    Native,
    /// `BuildKit`, by `docker buildx build`.
    Buildkit,
    /// `buildah`.
    Buildah,
}

impl Engine {
    /// The engines beside the native one whose programs are in a directory of `path` (as `PATH` has it), the preferred one
    /// first: buildah needs no daemon, and copies as the native engine does.
    #[must_use]
    pub fn installed(path: Option<&OsStr>) -> Vec<Self> {
        let is_program =
            |path: &Path| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        let directories: Vec<_> = path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
        let there = |program: &str| directories.iter().any(|directory| is_program(&directory.join(program)));
        let engines = [(Self::Buildah, "buildah"), (Self::Buildkit, "docker")];
        engines.into_iter().filter(|(_, program)| there(program)).map(|(engine, _)| engine).collect()
    }

    /// The engine for a Dockerfile in which the native one meets `obstacle`; `None` where none that could do it is installed.
    ///
    /// A named builder asks for `BuildKit`, which alone has builders.
    pub(super) fn choose(obstacle: Option<&Obstacle>, builder: Option<&str>, installed: &[Self]) -> Option<Self> {
        match obstacle {
            _ if builder.is_some() => Some(Self::Buildkit),
            None => Some(Self::Native),
            // What buildah gets is what the native engine has built so far, so this is an obstacle for it as well.
            Some(Obstacle::DirectoryBase(_)) => installed.iter().copied().find(|engine| *engine == Self::Buildkit),
            Some(_) => installed.first().copied(),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Buildkit => "buildkit",
            Self::Buildah => "buildah",
        })
    }
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "native" => Ok(Self::Native),
            "buildkit" => Ok(Self::Buildkit),
            "buildah" => Ok(Self::Buildah),
            other => Err(format!("`{other}` is not an engine: use auto, native, buildkit or buildah")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_is_read_back_from_its_name() {
        for engine in [Engine::Auto, Engine::Native, Engine::Buildkit, Engine::Buildah] {
            assert_eq!(engine.to_string().parse(), Ok(engine));
        }
        assert!("docker".parse::<Engine>().unwrap_err().contains("use auto, native, buildkit or buildah"));
    }

    #[test]
    fn the_choice_depends_on_what_is_in_the_way_and_what_is_installed() {
        use Engine::{Buildah, Buildkit, Native};
        let run = Obstacle::Run("make".into());
        let directory = Obstacle::DirectoryBase("tree".into());
        for (obstacle, builder, installed, expected) in [
            (None, None, &[][..], Some(Native)),
            (None, Some("remote"), &[Buildah], Some(Buildkit)),
            (Some(&run), None, &[Buildah, Buildkit], Some(Buildah)),
            (Some(&run), None, &[Buildkit], Some(Buildkit)),
            (Some(&run), Some("remote"), &[Buildah, Buildkit], Some(Buildkit)),
            (Some(&run), None, &[], None),
            (Some(&directory), None, &[Buildah, Buildkit], Some(Buildkit)),
            (Some(&directory), None, &[Buildah], None),
        ] {
            assert_eq!(
                Engine::choose(obstacle, builder, installed),
                expected,
                "{obstacle:?} {builder:?} {installed:?}"
            );
        }
    }

    #[test]
    fn a_program_counts_if_it_is_in_the_path_and_can_be_run() {
        let directory = tempfile::tempdir().unwrap();
        let program = |name: &str, mode| {
            let path = directory.path().join(name);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let installed = || Engine::installed(Some(directory.path().as_os_str()));
        assert_eq!(installed(), []);
        program("docker", 0o644);
        assert_eq!(installed(), []);
        program("docker", 0o755);
        assert_eq!(installed(), [Engine::Buildkit]);
        program("buildah", 0o755);
        assert_eq!(installed(), [Engine::Buildah, Engine::Buildkit]);
        assert_eq!(Engine::installed(None), []);
    }
}
