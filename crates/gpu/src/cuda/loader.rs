//! The loader's configuration: one line for the toolkit in use, one for forward compatibility, no others for CUDA.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::plan::OWN_FILES;
use super::{COMPAT_CONF, CUDA_CONF};
use crate::toolkit::{CURRENT, Compat};

/// The files that have to change: their new text, or None where they go.
pub(super) fn wanted(files: &BTreeMap<PathBuf, String>, compat: Option<&Compat>) -> Vec<(PathBuf, Option<String>)> {
    let mut wanted: Vec<(PathBuf, Option<String>)> = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| !OWN_FILES.iter().any(|own| path.as_path() == Path::new(own))) {
        let kept: String = text.split_inclusive('\n').filter(|line| !is_cuda_path(line.trim())).collect();
        if kept != *text {
            wanted.push((path.clone(), Some(kept)));
        }
    }
    let mut own = |name: &str, content: Option<String>| {
        let path = PathBuf::from(name);
        if files.get(&path) != content.as_ref() {
            wanted.push((path, content));
        }
    };
    own(CUDA_CONF, Some(format!("{CURRENT}/lib64\n")));
    own(COMPAT_CONF, compat.map(|compat| format!("{}\n", compat.path.display())));
    wanted
}

/// Whether a path belongs to a toolkit: `/usr/local/cuda`, `/usr/local/cuda-12.8/…`, `/usr/local/cuda/compat`.
pub(super) fn is_cuda_path(path: &str) -> bool {
    path.strip_prefix(CURRENT).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &str)]) -> BTreeMap<PathBuf, String> {
        files.iter().map(|&(path, text)| (path.into(), text.to_owned())).collect()
    }

    #[test]
    fn other_lines_for_cuda_leave_and_the_rest_stays() {
        let before = files(&[
            ("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n"),
            ("/etc/ld.so.conf.d/000_cuda.conf", "/usr/local/cuda/targets/x86_64-linux/lib\n"),
            (
                "/etc/ld.so.conf.d/988_cuda-12.conf",
                "# CUDA\n/usr/local/cuda-12/lib64\n/opt/lib\n /usr/local/cuda\n/usr/local/cudnn",
            ),
            ("/etc/ld.so.conf.d/nvidia.conf", "/usr/local/nvidia/lib\n"),
        ]);
        assert_eq!(
            wanted(&before, None),
            [
                (PathBuf::from("/etc/ld.so.conf.d/000_cuda.conf"), Some(String::new())),
                ("/etc/ld.so.conf.d/988_cuda-12.conf".into(), Some("# CUDA\n/opt/lib\n/usr/local/cudnn".to_owned())),
                (CUDA_CONF.into(), Some("/usr/local/cuda/lib64\n".to_owned())),
            ]
        );
    }

    #[test]
    fn what_is_as_wanted_does_not_change() {
        let compat = Compat { path: "/usr/local/cuda-13.0/compat".into(), driver: None };
        let mut files = files(&[(CUDA_CONF, "/usr/local/cuda/lib64\n")]);
        assert_eq!(wanted(&files, None), []);
        assert_eq!(
            wanted(&files, Some(&compat)),
            [(COMPAT_CONF.into(), Some("/usr/local/cuda-13.0/compat\n".to_owned()))]
        );
        files.insert(COMPAT_CONF.into(), "/usr/local/cuda-13.0/compat\n".to_owned());
        assert_eq!(wanted(&files, Some(&compat)), []);
        assert_eq!(wanted(&files, None), [(COMPAT_CONF.into(), None)]);
    }
}
