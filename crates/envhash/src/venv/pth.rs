//! Path configuration files: what each line of a `.pth` file does to the search path.
//!
//! A line names a directory, or is Python code (`import …`) that `site` runs. Code cannot be decided offline in general, but
//! what installers write falls into three kinds: it leaves the path alone (editable-install finders, `_virtualenv`,
//! `distutils-precedence.pth`, namespace packages), it adds a literal directory, or it only reorders the path.
//! What is none of these, and speaks of the path, is reported as uncertain.

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
    /// Code that speaks of the search path in a way not understood here.
    Uncertain(String),
}

/// What `easy-install.pth` holds around its entries: they are moved to the front of the path, none is added.
const REORDERING: [&str; 2] = [
    "import sys; sys.__plen = len(sys.path)",
    "import sys; new=sys.path[sys.__plen:]; del sys.path[sys.__plen:]; p=getattr(sys,'__egginsert',0); sys.path[p:p]=new; sys.__egginsert = p+len(new)",
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
        // Python's `str.strip` also takes the four ASCII separators for blanks.
        let end = line.trim_end_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c));
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
    if REORDERING.contains(&line) || !["sys.path", "addsitedir", "addpackage"].iter().any(|word| line.contains(word)) {
        return Vec::new();
    }
    let statements = line.split(';').map(str::trim).filter(|statement| !statement.is_empty());
    let understood: Option<Vec<Vec<Line>>> = statements.map(statement).collect();
    understood.map_or_else(|| vec![Line::Uncertain(line.to_owned())], |lines| lines.concat())
}

/// The effects of one statement; `None` for a statement that is not understood.
fn statement(text: &str) -> Option<Vec<Line>> {
    if let Some(modules) = text.strip_prefix("import") {
        let known = |module: &str| matches!(module.trim(), "sys" | "site" | "os" | "os.path");
        return (modules.starts_with([' ', '\t']) && modules.split(',').all(known)).then(Vec::new);
    }
    let call = |name: &str| text.strip_prefix(name)?.trim_start().strip_prefix('(')?.strip_suffix(')').map(str::trim);
    if let Some(arguments) = call("site.addsitedir") {
        return Some(vec![Line::SiteDirectory(literal(arguments)?)]);
    }
    if let Some(arguments) = call("sys.path.append") {
        return Some(vec![Line::Entry(literal(arguments)?)]);
    }
    let (position, path) = call("sys.path.insert")?.split_once(',')?;
    position.trim().parse::<i64>().ok()?;
    Some(vec![Line::Entry(literal(path.trim())?)])
}

/// The value of a plain string literal without escapes.
fn literal(text: &str) -> Option<String> {
    let text = text.strip_prefix(['r', 'u']).unwrap_or(text);
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains([quote, '\\'])).then(|| inner.to_owned())
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
            "import _virtualenv",
            "import __editable___demo_1_0_finder; __editable___demo_1_0_finder.install()",
            "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; enabled and __import__('_distutils_hack'); ",
            "import sys, types, os;has_mfs = sys.version_info > (3, 5);p = os.path.join(sys._getframe(1).f_locals['sitedir'], *('google',))",
            REORDERING[0],
            REORDERING[1],
        ];
        for line in harmless {
            assert_eq!(parse(line, Rules::default()), [], "{line}");
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
