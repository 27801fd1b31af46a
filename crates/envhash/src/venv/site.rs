//! The rules of an installation's `site` module, which differ between versions and distributors.
//!
//! The module's own source states them (`lib/pythonX.Y/site.py`; since 3.11 a frozen copy runs, made from it), so it is
//! asked by the presence of the code in question rather than by version numbers: several changes were carried back to
//! older releases, and distributors patch.

use std::path::{Path, PathBuf};

/// What a `site.py` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent property of one file")]
pub(super) struct Rules {
    /// Debian's: `dist-packages`, and `site-packages` only in virtual environments.
    pub(super) debian: bool,
    /// Fedora's: `/usr/local` joins the prefixes where user site directories are enabled.
    pub(super) fedora: bool,
    /// `.pth` files whose name starts with a dot are skipped (CVE-2024: gh-113659).
    pub(super) skips_hidden: bool,
    /// `.pth` files may start with a byte order mark, and end lines wherever `str.splitlines` does (3.13).
    pub(super) modern_text: bool,
}

impl Rules {
    /// Reads the rules off the source text.
    pub(super) fn of(source: &str) -> Self {
        Self {
            debian: source.contains("\"dist-packages\""),
            fedora: source.contains("RPM_BUILD_ROOT"),
            skips_hidden: source.contains("not name.startswith(\".\")"),
            modern_text: source.contains("utf-8-sig"),
        }
    }
}

/// The names that a build of CPython gives its directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// `sys.platlibdir`: `lib`, or `lib64` in Fedora's family.
    pub(super) platform_lib: &'static str,
    /// `python3.12`, `python3.13t`.
    pub(super) python: String,
}

/// `site.getsitepackages`: the site directories below the prefixes.
pub(super) fn directories(rules: Rules, names: &Names, prefixes: &[&Path], in_venv: bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let libraries: &[&str] = if names.platform_lib == "lib" { &["lib"] } else { &[names.platform_lib, "lib"] };
    for (index, prefix) in prefixes.iter().enumerate() {
        if prefixes[..index].contains(prefix) {
            continue;
        }
        let versioned = |library: &str, leaf: &str| prefix.join(library).join(&names.python).join(leaf);
        if rules.debian {
            if in_venv {
                found.push(versioned("lib", "site-packages"));
            }
            found.push(versioned("local/lib", "dist-packages"));
            found.push(prefix.join("lib/python3/dist-packages"));
        }
        let leaf = if rules.debian { "dist-packages" } else { "site-packages" };
        found.extend(libraries.iter().map(|library| versioned(library, leaf)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules, names, prefixes, in a virtual environment; the directories.
    type Case<'a> = (Rules, &'a Names, &'a [&'a Path], bool, &'a [&'a str]);

    #[test]
    fn site_directories_are_those_of_the_distributor() {
        let names = Names { platform_lib: "lib", python: "python3.11".into() };
        let wide = Names { platform_lib: "lib64", python: "python3.9".into() };
        let (venv, usr) = (Path::new("/v"), Path::new("/usr"));
        let debian = Rules { debian: true, ..Rules::default() };
        let table: [Case<'_>; 4] = [
            (Rules::default(), &names, &[venv, venv], true, &["/v/lib/python3.11/site-packages"]),
            (
                Rules::default(),
                &wide,
                &[usr],
                false,
                &["/usr/lib64/python3.9/site-packages", "/usr/lib/python3.9/site-packages"],
            ),
            (
                debian,
                &names,
                &[usr],
                false,
                &[
                    "/usr/local/lib/python3.11/dist-packages",
                    "/usr/lib/python3/dist-packages",
                    "/usr/lib/python3.11/dist-packages",
                ],
            ),
            (
                debian,
                &names,
                &[venv],
                true,
                &[
                    "/v/lib/python3.11/site-packages",
                    "/v/local/lib/python3.11/dist-packages",
                    "/v/lib/python3/dist-packages",
                    "/v/lib/python3.11/dist-packages",
                ],
            ),
        ];
        for (rules, names, prefixes, in_venv, expected) in table {
            assert_eq!(
                directories(rules, names, prefixes, in_venv),
                expected.iter().map(PathBuf::from).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn rules_are_read_off_the_source() {
        assert_eq!(Rules::of("names = [name for name in names if name.endswith(\".pth\")]"), Rules::default());
        let rules = Rules::of("and not name.startswith(\".\")]\npth_content.decode(\"utf-8-sig\")\n\"dist-packages\"");
        assert_eq!(rules, Rules { debian: true, fedora: false, skips_hidden: true, modern_text: true });
    }
}
