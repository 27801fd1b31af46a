//! Path configuration files: what each line of a `.pth` file does to the search path.
//!
//! A line names a directory, or is Python code (`import …`) that `site` runs. Code cannot be decided offline in general: it
//! may add paths in ways that its text does not show, and where it fails, the rest of the file does not count. What
//! installers write is known to the letter, and leaves the path alone, adds a literal directory, or reorders the path.
//! Everything else is uncertain.

use super::pyvenv::is_blank;
use super::site::Rules;

/// What one line does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// Adds a path, relative to the site directory, where it exists.
    Path(String),
    /// `site.addsitedir(…)`: adds a directory and reads its `.pth` files.
    SiteDirectory(String),
    /// `sys.path.append(…)` or `.insert(…)`: adds a path as it is.
    Entry(String),
    /// Leaves the path alone, provided that this module lies in the site directory. Else it is uncertain.
    Module {
        /// The module's name.
        name: String,
        /// The line.
        code: String,
    },
    /// Code of which it is not known what it does.
    Uncertain(String),
}

/// Code that setuptools writes around the entries of `easy-install.pth`: they are moved to the front of the path.
const REORDERING: [&str; 2] = [
    "import sys; sys.__plen = len(sys.path)",
    "import sys; new=sys.path[sys.__plen:]; del sys.path[sys.__plen:]; p=getattr(sys,'__egginsert',0); sys.path[p:p]=new; sys.__egginsert = p+len(new)",
];

/// What setuptools' `distutils-precedence.pth` holds, in the versions since 50: these parts, one of each.
const DISTUTILS: [&[&str]; 3] = [
    &["import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, "],
    &["'local') == 'local'; ", "'stdlib') == 'local'; "],
    &["enabled and __import__('_distutils_hack').add_shim()", "enabled and __import__('_distutils_hack')"],
];

/// How setuptools declares a namespace package (`…-nspkg.pth`): a module is made, the search path stays.
const NAMESPACES: [&str; 2] = [
    "import sys, types, os;has_mfs = sys.version_info > (3, 5);p = os.path.join(sys._getframe(1).f_locals['sitedir'], *(",
    "import sys, types, os;p = os.path.join(sys._getframe(1).f_locals['sitedir'], *(",
];

/// Reads the text of a `.pth` file.
pub(super) fn parse(text: &str, rules: Rules) -> Vec<Line> {
    let text = if rules.modern_text { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
    let ends = |c: char| {
        matches!(c, '\n' | '\r')
            || (rules.modern_text
                && matches!(c, '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'))
    };
    let mut lines = Vec::new();
    for line in text.split(ends) {
        let end = line.trim_end_matches(is_blank);
        if line.starts_with('#') || end.is_empty() {
            continue;
        }
        if line.starts_with("import ") || line.starts_with("import\t") {
            lines.extend(code(end));
        } else {
            lines.push(Line::Path(end.to_owned()));
        }
    }
    lines
}

fn code(line: &str) -> Vec<Line> {
    let is_namespace =
        NAMESPACES.iter().any(|start| line.starts_with(start)) && line.contains("sys.modules.setdefault(");
    if REORDERING.contains(&line) || is_namespace {
        return Vec::new();
    }
    if let Some(name) = module(line) {
        return vec![Line::Module { name, code: line.to_owned() }];
    }
    literals(line).unwrap_or_else(|| vec![Line::Uncertain(line.to_owned())])
}

/// The module of a line that is known to leave the path alone once that module is imported: the finder of an editable
/// install, virtualenv's patch, setuptools' distutils.
fn module(line: &str) -> Option<String> {
    let distutils = DISTUTILS
        .iter()
        .try_fold(line.trim_end_matches([';', ' ']), |rest, part| part.iter().find_map(|text| rest.strip_prefix(text)));
    if distutils == Some("") {
        return Some("_distutils_hack".into());
    }
    if line == "import _virtualenv" {
        return Some("_virtualenv".into());
    }
    let (import, install) = line.strip_prefix("import ")?.split_once("; ")?;
    let identifier = import.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let finder = import.starts_with("__editable___") && import.ends_with("_finder");
    (identifier && finder && install.strip_suffix(".install()") == Some(import)).then(|| import.to_owned())
}

/// A line that imports modules of the standard library and then only adds literal paths.
fn literals(line: &str) -> Option<Vec<Line>> {
    let mut imported: Vec<&str> = Vec::new();
    let mut lines = Vec::new();
    let mut statements: Vec<&str> = line.split(';').map(str::trim).collect();
    if statements.last() == Some(&"") {
        statements.pop();
    }
    for text in statements {
        if let Some(modules) = text.strip_prefix("import").filter(|rest| rest.starts_with([' ', '\t'])) {
            for module in modules.split(',').map(str::trim) {
                if !matches!(module, "sys" | "site" | "os") {
                    return None;
                }
                imported.push(module);
            }
            continue;
        }
        let (line, module) = statement(text)?;
        if !imported.contains(&module) {
            return None;
        }
        lines.push(line);
    }
    Some(lines)
}

/// The effect of one statement and the module that it needs; `None` for a statement that is not understood.
fn statement(text: &str) -> Option<(Line, &'static str)> {
    let call = |name: &str| text.strip_prefix(name)?.trim_start().strip_prefix('(')?.strip_suffix(')').map(str::trim);
    if let Some(arguments) = call("site.addsitedir") {
        return Some((Line::SiteDirectory(literal(arguments)?), "site"));
    }
    if let Some(arguments) = call("sys.path.append") {
        return Some((Line::Entry(literal(arguments)?), "sys"));
    }
    let (position, path) = call("sys.path.insert")?.split_once(',')?;
    let digits = position.trim();
    // `01` is no number in Python.
    let plain = digits == "0" || (!digits.is_empty() && !digits.starts_with('0'));
    let number = plain && digits.len() < 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((Line::Entry(literal(path.trim()).filter(|_| number)?), "sys"))
}

/// The value of a plain string literal without escapes.
fn literal(text: &str) -> Option<String> {
    let text = text.strip_prefix(['r', 'u']).unwrap_or(text);
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains([quote, '\\', '\0'])).then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> Line {
        Line::Path(text.into())
    }

    #[test]
    fn lines_are_read_as_site_reads_them() {
        let old = Rules::default();
        let new = Rules { modern_text: true, ..old };
        let table: [(&str, Rules, &[Line]); 8] = [
            ("# comment\n\n   \n./a.egg\n/opt/x  \n", old, &[path("./a.egg"), path("/opt/x")]),
            ("a\r\nb\rc", old, &[path("a"), path("b"), path("c")]),
            (" /indented", old, &[path(" /indented")]),
            ("\u{feff}/a\n", old, &[path("\u{feff}/a")]),
            ("\u{feff}/a\n", new, &[path("/a")]),
            ("a\u{2028}b\x0cc", old, &[path("a\u{2028}b\x0cc")]),
            ("a\u{2028}b\x0cc", new, &[path("a"), path("b"), path("c")]),
            ("importlib\nimport_me\n", old, &[path("importlib"), path("import_me")]),
        ];
        for (text, rules, expected) in table {
            assert_eq!(parse(text, rules), expected, "{text:?}");
        }
    }

    #[test]
    fn code_that_leaves_the_path_alone_does_nothing() {
        let harmless = [
            "import sys, types, os;has_mfs = sys.version_info > (3, 5);p = os.path.join(sys._getframe(1).f_locals['sitedir'], *('google',));importlib = has_mfs and __import__('importlib.util');m = has_mfs and sys.modules.setdefault('google', importlib.util.module_from_spec(x))",
            "import sys, types, os;p = os.path.join(sys._getframe(1).f_locals['sitedir'], *('zope',));importlib = __import__('importlib.util');m = sys.modules.setdefault('zope', importlib.util.module_from_spec(x))",
            "import os",
            "import sys, site;",
            REORDERING[0],
            REORDERING[1],
        ];
        for line in harmless {
            assert_eq!(parse(line, Rules::default()), [], "{line}");
        }
    }

    #[test]
    fn code_of_installers_needs_the_module_that_they_installed() {
        let table = [
            ("import _virtualenv", "_virtualenv"),
            (
                "import __editable___demo_1_0_finder; __editable___demo_1_0_finder.install()",
                "__editable___demo_1_0_finder",
            ),
            (
                "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; enabled and __import__('_distutils_hack'); ",
                "_distutils_hack",
            ),
            (
                "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'stdlib') == 'local'; enabled and __import__('_distutils_hack').add_shim(); ",
                "_distutils_hack",
            ),
        ];
        for (line, name) in table {
            let code = line.trim_end().to_owned();
            assert_eq!(parse(line, Rules::default()), [Line::Module { name: name.into(), code }], "{line}");
        }
    }

    #[test]
    fn literal_additions_are_understood_and_the_rest_is_uncertain() {
        let table = [
            ("import site; site.addsitedir('/opt/s')", Line::SiteDirectory("/opt/s".into())),
            ("import site, sys;site.addsitedir( r\"/opt/s\" );", Line::SiteDirectory("/opt/s".into())),
            ("import sys; sys.path.append('/opt/p')", Line::Entry("/opt/p".into())),
            ("import sys; sys.path.insert(0, '/opt/p')", Line::Entry("/opt/p".into())),
        ];
        for (line, expected) in table {
            assert_eq!(parse(line, Rules::default()), [expected], "{line}");
        }
        for line in [
            "import sys; sys.path.append(x)",
            "import sys; exec('sys.path.append(1)')",
            "import sys; sys.path.append('/a' + '/b')",
            "import sys; sys.path.append('\\x2f')",
            "import mine; sys.path.append('/a')",
            "import site; site.addsitedir('/a') if 1 else 0",
            "import _no_such_module",
            "import sys as s; s.path.append('/a')",
            "import os.path; sys.path.append('/a')",
            "import os; sys.path.append('/a')",
            "import sys;; sys.path.append('/a')",
            "import sys; sys.path.insert(01, '/a')",
            "import sys; 1/0",
            "import __editable___a_finder; __editable___b_finder.install()",
        ] {
            assert_eq!(parse(line, Rules::default()), [Line::Uncertain(line.into())]);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(?s)(import |sys\\.path|site\\.addsitedir|[('\");\\\\ \n,.0a\u{2028}]){0,20}", modern_text: bool) {
            let _ = parse(&text, Rules { modern_text, ..Rules::default() });
        }
    }
}
