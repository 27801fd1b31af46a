//! `pyvenv.cfg`: what makes a directory a virtual environment (PEP 405).

/// The keys that decide the search path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    /// The directory of the base interpreter, as `getpath` reads it since 3.11: the first such line counts.
    pub(super) home: Option<String>,
    /// The base interpreter's site directories join. So it is unless the file says otherwise, and then only for the
    /// word `true`, as in `site.venv()`.
    pub(super) system_site: bool,
}

/// Reads the text of a `pyvenv.cfg`. Whatever is no `key = value` line is skipped.
pub(super) fn parse(text: &str) -> Config {
    let mut config = Config { home: None, system_site: true };
    for line in text.split(['\n', '\r']) {
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (strip(key), strip(value));
        match key.to_lowercase().as_str() {
            "home" => _ = config.home.get_or_insert_with(|| value.to_owned()),
            "include-system-site-packages" => config.system_site = value.to_lowercase() == "true",
            _ => {}
        }
    }
    config
}

/// The `home` that `getpath` reads before 3.11: three words apart, `home = PATH`, in a file without comments before it.
pub(super) fn old_home(text: &str) -> Option<String> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let rest = line.trim_start_matches([' ', '\t', '\r']).strip_prefix("home")?;
        let value = rest.strip_prefix([' ', '\t'])?.trim_start_matches([' ', '\t']).strip_prefix('=')?;
        let value = value.strip_prefix([' ', '\t'])?.trim_end_matches('\r');
        (!value.is_empty()).then(|| value.to_owned())
    })
}

/// Python's `str.strip`, which takes the four ASCII separators for blanks too.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_blank)
}

/// Whether Python takes a character for a blank.
pub(super) fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_read_as_python_reads_them() {
        let table: [(&str, Option<&str>, bool); 7] = [
            ("include-system-site-packages = TRUE\x1f\n", None, true),
            ("home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n", Some("/usr/bin"), false),
            ("HOME=/a\r\nInclude-System-Site-Packages = TRUE\r\n", Some("/a"), true),
            ("home = /a=b\nhome = /c\n", Some("/a=b"), true),
            ("include-system-site-packages = yes\n", None, false),
            ("include-system-site-packages = false\ninclude-system-site-packages = true\n", None, true),
            ("", None, true),
        ];
        for (text, home, system_site) in table {
            assert_eq!(parse(text), Config { home: home.map(str::to_owned), system_site }, "{text:?}");
        }
    }

    #[test]
    fn the_home_of_older_interpreters_is_three_words() {
        let table = [
            ("home = /usr/bin\n", Some("/usr/bin")),
            ("# home = /a\nversion = 3\n\thome\t=\t/b c\r\n", Some("/b c")),
            ("home=/usr/bin\n", None),
            ("HOME = /usr/bin\n", None),
            ("homes = /usr/bin\n", None),
            ("home =\n", None),
        ];
        for (text, home) in table {
            assert_eq!(old_home(text).as_deref(), home, "{text:?}");
        }
    }
}
