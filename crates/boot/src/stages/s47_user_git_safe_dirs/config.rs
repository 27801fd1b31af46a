//! The `[safe]` entries of a git configuration (git-config(1), "Syntax").

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The configuration with every directory of `wanted` in it, and how many were added.
pub(super) fn with_safe_directories(text: &[u8], wanted: &[OsString]) -> (Vec<u8>, usize) {
    let present = safe_directories(text);
    let all = present.iter().any(|directory| directory == "*");
    let missing: Vec<&OsString> = wanted.iter().filter(|directory| !all && !present.contains(directory)).collect();
    let mut new = text.to_vec();
    if missing.is_empty() {
        return (new, 0);
    }
    if new.last().is_some_and(|&last| last != b'\n') {
        new.push(b'\n');
    }
    new.extend_from_slice(b"[safe]\n");
    for directory in &missing {
        new.extend_from_slice(b"\tdirectory = ");
        new.extend(quoted(directory.as_bytes()));
        new.push(b'\n');
    }
    (new, missing.len())
}

/// A value in quotes, with the three escapes it can need.
fn quoted(value: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for &byte in value {
        match byte {
            b'\n' => text.extend_from_slice(b"\\n"),
            b'"' | b'\\' => text.extend([b'\\', byte]),
            other => text.push(other),
        }
    }
    text.push(b'"');
    text
}

/// The values of `safe.directory`; an empty one takes back those before it.
fn safe_directories(text: &[u8]) -> Vec<OsString> {
    let mut found: Vec<OsString> = Vec::new();
    let mut inside = false;
    for line in text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
        if let Some(section) = line.strip_prefix(b"[") {
            let end = section.iter().position(|&byte| byte == b']').unwrap_or(section.len());
            inside = section.get(..end).is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"safe"));
        } else if let (true, Some(cut)) = (inside, line.iter().position(|&byte| byte == b'=')) {
            let (key, value) = (line.get(..cut).unwrap_or_default(), line.get(cut + 1..).unwrap_or_default());
            if key.trim_ascii().eq_ignore_ascii_case(b"directory") {
                let value = unquoted(value.trim_ascii());
                if value.is_empty() { found.clear() } else { found.push(OsString::from_vec(value)) }
            }
        }
    }
    found
}

fn unquoted(value: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    let mut in_quotes = false;
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => in_quotes = !in_quotes,
            b'\\' => match bytes.next() {
                Some(b'n') => text.push(b'\n'),
                Some(b't') => text.push(b'\t'),
                Some(&other) => text.push(other),
                None => {}
            },
            b'#' | b';' if !in_quotes => break,
            other => text.push(other),
        }
    }
    if in_quotes { text } else { text.trim_ascii_end().to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Vec<OsString> {
        safe_directories(text.as_bytes())
    }

    #[test]
    fn values_are_read_as_git_reads_them() {
        for (text, expected) in [
            ("[safe]\n\tdirectory = /a\n directory=/b\n", &["/a", "/b"][..]),
            ("[Safe]\nDirectory = \"/a b;c\" ; note\n", &["/a b;c"]),
            ("[safe]\ndirectory = /a # note\n", &["/a"]),
            ("[user]\ndirectory = /a\n[safe \"x\"]\ndirectory = /b\n", &[]),
            ("[safe]\ndirectory = /a\ndirectory =\ndirectory = /b\n", &["/b"]),
        ] {
            assert_eq!(listed(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_added_is_read_back_whatever_it_contains() {
        let wanted: Vec<OsString> =
            ["/plain", "/with \"quotes\"", "/back\\slash", "/new\nline", "/;#"].map(OsString::from).into();
        let (text, added) = with_safe_directories(b"[user]\n\tname = me", &wanted);
        assert_eq!((safe_directories(&text), added), (wanted.clone(), 5));
        assert_eq!(with_safe_directories(&text, &wanted), (text.clone(), 0));
        assert_eq!(with_safe_directories(b"[safe]\ndirectory = *\n", &wanted).1, 0);
    }
}
