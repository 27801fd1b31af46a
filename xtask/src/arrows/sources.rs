//! Finds paths into given crates in Rust source text.
//!
//! Works on the text with comments and literals blanked out, so that it also sees into macro calls, where a parser of
//! items sees only tokens, and knows the line of every path.

/// A path that starts at a known crate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The path's first segment, a library's name.
    pub(crate) root: String,
    /// The second segment; `None` where there is none.
    pub(crate) module: Option<String>,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// All paths of `text` whose first segment satisfies `known`; one for each branch of `use a::{b, c}`.
pub(crate) fn paths(text: &str, known: impl Fn(&str) -> bool) -> Vec<Found> {
    let code = code_only(text);
    let mut found = Vec::new();
    for (start, word) in words(&code) {
        // `a.b` and `x::b` are a field and a later segment; `::b` at the start of a path is a crate.
        let before = code[..start].trim_end();
        let later = before.ends_with('.')
            || before.strip_suffix("::").is_some_and(|path| path.ends_with(|c| is_word(c) || c == '>'));
        if !later && known(word) {
            let line = 1 + code[..start].matches('\n').count();
            let modules = second_segments(&code[start + word.len()..]);
            found.extend(modules.into_iter().map(|module| Found { root: word.to_owned(), module, line }));
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The identifiers of `code` and where they start.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.split(|c| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(|word| (word.as_ptr().addr() - code.as_ptr().addr(), word))
}

/// What follows a path's first segment: `::name`, `::{name, name::…}`, or nothing.
fn second_segments(after: &str) -> Vec<Option<String>> {
    let Some(path) = after.trim_start().strip_prefix("::") else { return vec![None] };
    let path = path.trim_start();
    let Some(group) = path.strip_prefix('{') else {
        return vec![first_segment(path)];
    };
    let mut segments = Vec::new();
    let mut depth = 0_usize;
    let mut start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                segments.extend(first_segment(&group[start..at]).map(Some));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    segments
}

fn first_segment(path: &str) -> Option<String> {
    let path = path.trim_start();
    if path.starts_with('*') {
        return Some("*".to_owned());
    }
    let end = path.find(|c| !is_word(c)).unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

/// The source text with comments and the contents of literals replaced by spaces; line breaks stay.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let literal = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' | 'b' | 'c' if !code.ends_with(is_word) => raw_string(rest).unwrap_or(0),
            '\'' => character(rest),
            _ => 0,
        };
        if literal == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            let (blank, after) = rest.split_at(literal);
            code.extend(blank.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = after;
        }
    }
    code
}

/// The length of the block comment that `text` starts with; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string literal that `text` starts with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the raw string (`r"…"`, `br#"…"#`, …) that `text` starts with, if it is one.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"]
        .iter()
        .find(|prefix| text.strip_prefix(**prefix).is_some_and(|rest| rest.trim_start_matches('#').starts_with('"')))?;
    let hashes = text[prefix.len()..].len() - text[prefix.len()..].trim_start_matches('#').len();
    let start = prefix.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// The length of the character literal that `text` starts with; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            chars.next();
            chars.find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1)
        }
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str) -> Vec<(String, Option<String>, usize)> {
        let known = |name: &str| matches!(name, "vast_gpu" | "vast_portal");
        paths(text, known).into_iter().map(|f| (f.root, f.module, f.line)).collect()
    }

    fn expected(root: &str, module: Option<&str>, line: usize) -> (String, Option<String>, usize) {
        (root.to_owned(), module.map(str::to_owned), line)
    }

    #[test]
    fn uses_paths_and_macro_arguments_are_found() {
        for (text, want) in [
            ("use vast_gpu::cuda::Plan;", vec![expected("vast_gpu", Some("cuda"), 1)]),
            ("\n\nfn f() -> vast_gpu::Error {}", vec![expected("vast_gpu", Some("Error"), 3)]),
            ("println!(\"{}\", ::vast_gpu::NAME)", vec![expected("vast_gpu", Some("NAME"), 1)]),
            ("use vast_gpu as gpu;", vec![expected("vast_gpu", None, 1)]),
            ("use vast_gpu::*;", vec![expected("vast_gpu", Some("*"), 1)]),
            (
                "use vast_portal::{\n    caddy::{self, Settings},\n    server,\n};",
                vec![expected("vast_portal", Some("caddy"), 1), expected("vast_portal", Some("server"), 1)],
            ),
            ("let a = vast_gpu\n    ::cuda();", vec![expected("vast_gpu", Some("cuda"), 1)]),
        ] {
            assert_eq!(found(text), want, "{text}");
        }
    }

    #[test]
    fn comments_literals_and_other_names_are_not() {
        for text in [
            "// vast_gpu::cuda",
            "//! [`vast_gpu::cuda`]",
            "/* /* vast_gpu::x */ vast_gpu::y */",
            r#"let a = "vast_gpu::x \" vast_gpu::y";"#,
            r###"let a = r##"vast_gpu::x "# vast_gpu::y"##;"###,
            "let a = br\"vast_gpu::x\";",
            "let a = my_vast_gpu::x;",
            "let a = self.vast_gpu;",
            "let a = crate::vast_gpu::x;",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn a_quote_character_or_a_lifetime_hides_nothing() {
        for text in ["let q = '\"'; vast_gpu::x", "let q = '\\''; vast_gpu::x", "fn f<'a>(x: &'a str) { vast_gpu::x }"]
        {
            assert_eq!(found(text), [expected("vast_gpu", Some("x"), 1)], "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_keeps_its_lines(text in "[a-z\"'/*\\\\r#\n éß:{},]{0,60}") {
            prop_assert_eq!(code_only(&text).matches('\n').count(), text.matches('\n').count());
            let _ = found(&text);
        }
    }
}
