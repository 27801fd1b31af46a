//! The build context that every image of the tree may use without naming it.

use std::path::{Path, PathBuf};

/// Its name, which the guide's external Dockerfiles copy from.
pub const BASE_CONTEXT: &str = "base_image_source";

/// The folder of the base image for an image in `folder`: `images/base` of the nearest tree above it, or in the guide's
/// layout the directory above it that holds `ROOT` and `portal-aio` itself.
#[must_use]
pub fn base_context(folder: &Path) -> Option<PathBuf> {
    let folder = folder.canonicalize().ok()?;
    folder.ancestors().skip(1).find_map(|above| {
        let ours = [above.join("images/base"), above.join("base")];
        let is_base = |path: &PathBuf| path.join("ROOT").is_dir() && path.join("Dockerfile").is_file();
        if let Some(found) = ours.into_iter().find(is_base) {
            return Some(found);
        }
        let guides = above.join("ROOT").is_dir() && above.join("portal-aio").is_dir();
        guides.then(|| above.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_found_from_anywhere_in_the_tree() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path().canonicalize().unwrap();
        for folder in
            ["images/base/ROOT", "images/external/vllm", "guide/ROOT", "guide/portal-aio", "guide/external/vllm"]
        {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("images/base/Dockerfile"), "FROM scratch").unwrap();
        for (folder, expected) in
            [("images/external/vllm", Some("images/base")), ("guide/external/vllm", Some("guide"))]
        {
            assert_eq!(base_context(&root.join(folder)), expected.map(|path| root.join(path)), "{folder}");
        }
        assert_eq!(base_context(&root.join("none")), None);
    }
}
