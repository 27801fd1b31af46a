//! Paths as instructions state them, taken together with the working directory.

/// `path` below `workdir` unless it is absolute; a trailing slash or `.` stays, because it has a meaning.
pub(super) fn joined(workdir: &str, path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("{}/{path}", workdir.trim_end_matches('/')) }
}

/// `path` below `workdir`, without `.` and `..`, as a text: links are not looked at, as in `BuildKit`. It ends with a slash
/// where `path` names a directory by itself, which only a slash and a lone dot do.
pub(super) fn destination_in(workdir: &str, path: &str) -> String {
    let mut cleaned = clean(&joined(workdir, path));
    if (path.ends_with('/') || matches!(path, "" | ".")) && !cleaned.ends_with('/') {
        cleaned.push('/');
    }
    cleaned
}

/// A working directory as the configuration holds it: absolute, without `.`, `..` and surplus slashes.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_cleaned_and_says_whether_it_names_a_directory() {
        for (workdir, path, expected) in [
            ("/", ".", "/"),
            ("/", "a", "/a"),
            ("/srv", ".", "/srv/"),
            ("/srv", "", "/srv/"),
            ("/srv", "a/", "/srv/a/"),
            ("/srv", "./a/.", "/srv/a"),
            ("/srv", "..", "/"),
            ("/srv", "../../x/", "/x/"),
            ("/srv", "/x//y/../z", "/x/z"),
        ] {
            assert_eq!(destination_in(workdir, path), expected, "{workdir} {path}");
        }
    }
}
