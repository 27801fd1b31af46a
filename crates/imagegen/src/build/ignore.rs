//! `.dockerignore`: which files of a folder are not part of its context.

use std::path::Path;

use super::glob::Glob;
use crate::Error;

/// The rules of an ignore file, in order; the last that matches decides.
#[derive(Debug, Clone, Default)]
pub(super) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    glob: Glob,
    keep: bool,
}

impl Ignore {
    /// The rules for building `dockerfile` in `folder`: `<dockerfile>.dockerignore` beside it where that exists, else
    /// `.dockerignore` at the top of the folder.
    pub(super) fn load(folder: &Path, dockerfile: &Path) -> Result<Self, Error> {
        let mut own = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        for path in [own.into(), folder.join(".dockerignore")] {
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    return Self::parse(&text).map_err(|line| Error::Request {
                        folder: folder.to_owned(),
                        reason: format!("{}:{line}: the pattern does not end", path.display()),
                    });
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(Error::File { action: "read", path, source }),
            }
        }
        Ok(Self::default())
    }

    /// Parses rules, or names the line of one that cannot be.
    pub(super) fn parse(text: &str) -> Result<Self, usize> {
        let mut rules = Vec::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in (1_usize..).zip(text.lines()) {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (keep, pattern) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim_start()));
            let pattern = clean(pattern);
            if !pattern.is_empty() {
                rules.push(Rule { glob: Glob::with_double_star(&pattern).map_err(|_| number)?, keep });
            }
        }
        Ok(Self { rules })
    }

    /// Rules that exclude `patterns`, as `COPY --exclude` says them.
    pub(super) fn excluding<S: AsRef<str>>(patterns: &[S]) -> Result<Self, usize> {
        let text: Vec<&str> = patterns.iter().map(AsRef::as_ref).collect();
        Self::parse(&text.join("\n"))
    }

    /// Whether `path`, relative to the context, is left out: by a rule that matches it or a directory it is in.
    pub(super) fn ignores(&self, path: &Path) -> bool {
        let Some(text) = path.to_str() else { return false };
        let prefixes: Vec<&str> =
            text.char_indices().filter(|&(_, c)| c == '/').map(|(at, _)| &text[..at]).chain([text]).collect();
        let mut ignored = false;
        for rule in &self.rules {
            // A rule that would not change the answer need not be looked at.
            if ignored == rule.keep && prefixes.iter().any(|prefix| rule.glob.matches(prefix)) {
                ignored = !rule.keep;
            }
        }
        ignored
    }

    /// Whether something below an ignored directory could still be part of the context, so that it must be looked into.
    pub(super) fn may_keep_below(&self) -> bool {
        self.rules.iter().any(|rule| rule.keep)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// The pattern without `.`, `..` and surplus slashes, as Go's `filepath.Clean` leaves it, relative to the context. One that
/// climbs out of the context keeps its `..` and matches nothing.
fn clean(pattern: &str) -> String {
    let rooted = pattern.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(rules: &str, path: &str) -> bool {
        Ignore::parse(rules).unwrap().ignores(Path::new(path))
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        for (rules, path, expected) in [
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "docs/README.md", true),
            ("*.md\n!README.md", "README.md", false),
            ("!README.md\n*.md", "README.md", true),
            ("/node_modules/", "node_modules/a/b", true),
            ("./a/../b", "b/c", true),
            ("../b", "b", false),
            ("/../b", "b", true),
            ("*\n!ROOT", "ROOT/etc/x", false),
            ("*\n!ROOT", "Dockerfile", true),
            ("*\n!ROOT\nROOT/secret", "ROOT/secret/key", true),
            ("# comment\n\n  temp  ", "temp", true),
            ("a\\ b", "a b", true),
            (".git", ".gitignore", false),
        ] {
            assert_eq!(ignored(rules, path), expected, "{rules:?} on {path}");
        }
    }

    #[test]
    fn a_pattern_without_end_is_named_by_its_line() {
        assert_eq!(Ignore::parse("a\n[b").unwrap_err(), 2);
    }
}
