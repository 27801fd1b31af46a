//! See [`crate::fuzzing`].

use super::archive::Archive;
use super::metadata::{self, Folding, Redent};
use super::pth::{self, Line};
use super::site::Rules;

pub(crate) fn metadata(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let fields = metadata::parse(text);
    for value in [&fields.name, &fields.version].into_iter().flatten() {
        assert!(!value.contains('\r') && !value.ends_with('\n'), "{value:?}");
        assert!(!value.starts_with([' ', '\t']), "{value:?}");
    }
    if !text.contains('\r') {
        assert_eq!(metadata::parse(&text.replace('\n', "\r\n")), fields);
        assert_eq!(metadata::parse(&text.replace('\n', "\r")), fields);
    }
    for redent in [Redent::No, Redent::Always, Redent::Eight] {
        for strips_newlines in [false, true] {
            let folding = Folding { redent, strips_newlines };
            let read = fields.clone().map_folded(|value| folding.apply(value));
            let ink = |value: &Option<String>| value.as_ref().map(|value| value.split_whitespace().collect::<String>());
            // Only blanks change, and only where there are several lines.
            assert_eq!((ink(&read.name), ink(&read.version)), (ink(&fields.name), ink(&fields.version)));
            assert!(fields.folded() || read == fields);
        }
    }
}

/// `Name` and `Version` as installations read them that leave folded values alone, and that re-indent all of them.
#[cfg(test)]
pub(crate) fn readings(text: &str) -> [(Option<String>, Option<String>); 2] {
    [Redent::No, Redent::Always].map(|redent| {
        let folding = Folding { redent, strips_newlines: false };
        let fields = metadata::parse(text).map_folded(|value| folding.apply(value));
        (fields.name, fields.version)
    })
}

pub(crate) fn pth(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for modern_text in [false, true] {
        for line in pth::parse(text, Rules { modern_text, ..Rules::default() }) {
            match line {
                Line::Path(path) => assert!(!path.is_empty() && !path.contains(['\n', '\r']) && !path.starts_with('#')),
                Line::SiteDirectory(path) | Line::Entry(path) => assert!(text.contains(&path)),
                Line::Module { name, code } => assert!(code.contains(&name) && text.contains(&code)),
                Line::Uncertain(code) => assert!(code.starts_with("import") && text.contains(&code)),
            }
        }
    }
}

pub(crate) fn archive(bytes: &[u8]) {
    let Some(file) = crate::fuzzing::memory(bytes) else { return };
    if let Ok(Some(archive)) = Archive::read(file, bytes.len() as u64, "/a.egg".into()) {
        for name in archive.names() {
            let _ = archive.member(&name);
        }
        assert!(archive.children().iter().all(|name| !name.contains('/')));
    }
}
