//! `pyvenv.cfg`: what makes a directory a virtual environment (PEP 405).

/// The keys that decide the search path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    /// The directory of the base interpreter. The first such line counts, as in `getpath`.
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
        let value = value.trim();
        match key.trim().to_lowercase().as_str() {
            "home" => _ = config.home.get_or_insert_with(|| value.to_owned()),
            "include-system-site-packages" => config.system_site = value.to_lowercase() == "true",
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_read_as_python_reads_them() {
        let table: [(&str, Option<&str>, bool); 6] = [
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
}
