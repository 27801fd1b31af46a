//! Physical lines to logical lines: parser directives, comments, continuations and here-documents.

use super::instruction::Heredoc;
use super::problem::Problem;
use super::words;

/// An instruction's text with the here-documents that it opened.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LogicalLine {
    pub first: usize,
    pub last: usize,
    pub text: String,
    pub heredocs: Vec<Heredoc>,
}

/// The parser directives at the top of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directives {
    pub syntax: Option<String>,
    pub escape: char,
}

/// A problem and the line it is on.
pub(super) type At = (usize, Problem);

/// Reads the directives: `# name=value` lines before anything else, names in any case, each at most once.
pub(super) fn directives(text: &str) -> Result<Directives, At> {
    let mut found = Directives { syntax: None, escape: '\\' };
    let mut seen = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let Some((name, value)) = line.trim().strip_prefix('#').and_then(|rest| rest.split_once('=')) else { break };
        let (name, value) = (name.trim().to_lowercase(), value.trim());
        let problem = || (number, Problem::Directive { name: name.clone(), value: value.to_owned() });
        if !matches!(name.as_str(), "syntax" | "escape" | "check") {
            break;
        }
        if seen.contains(&name) {
            return Err(problem());
        }
        match (name.as_str(), value) {
            ("syntax", "") => return Err(problem()),
            ("syntax", _) => found.syntax = Some(value.to_owned()),
            ("escape", "\\" | "`") => found.escape = value.chars().next().unwrap_or('\\'),
            ("escape", _) => return Err(problem()),
            _ => {}
        }
        seen.push(name);
    }
    Ok(found)
}

/// Splits a file into logical lines.
pub(super) fn logical(text: &str, escape: char) -> Result<Vec<LogicalLine>, At> {
    let mut out = Vec::new();
    let mut lines = (1..).zip(text.lines()).peekable();
    while let Some((first, line)) = lines.next() {
        if is_comment_or_blank(line) {
            continue;
        }
        let mut joined = String::new();
        let mut last = first;
        let mut piece = line.trim_start();
        while let Some(kept) = continued(piece, escape) {
            joined.push_str(kept);
            // Comments and empty lines inside a continuation are dropped, as Docker does.
            let next = loop {
                match lines.next() {
                    Some((number, next)) if is_comment_or_blank(next) => last = number,
                    other => break other,
                }
            };
            let Some((number, next)) = next else {
                piece = "";
                break;
            };
            last = number;
            piece = next;
        }
        joined.push_str(piece);
        let text = joined.trim_end().to_owned();
        let mut heredocs = Vec::new();
        for opening in heredoc_openings(&text, escape) {
            let mut content = String::new();
            loop {
                let Some((number, body)) = lines.next() else {
                    return Err((first, Problem::OpenHeredoc(opening.name)));
                };
                last = number;
                let body = if opening.strip_tabs { body.trim_start_matches('\t') } else { body };
                if body == opening.name {
                    break;
                }
                content.push_str(body);
                content.push('\n');
            }
            heredocs.push(Heredoc { name: opening.name, expand: opening.expand, content });
        }
        if !text.is_empty() {
            out.push(LogicalLine { first, last, text, heredocs });
        }
    }
    Ok(out)
}

fn is_comment_or_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// The line without its continuation mark, if it has one: one escape character at its end, not itself escaped.
fn continued(line: &str, escape: char) -> Option<&str> {
    let kept = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!kept.ends_with(escape)).then_some(kept)
}

struct Opening {
    name: String,
    expand: bool,
    strip_tabs: bool,
}

/// The here-documents that a logical line opens, for the instructions that may.
fn heredoc_openings(text: &str, escape: char) -> Vec<Opening> {
    let mut rest = text;
    loop {
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        match word.to_ascii_uppercase().as_str() {
            "ONBUILD" => rest = after.trim_start(),
            "RUN" | "COPY" | "ADD" => break,
            _ => return Vec::new(),
        }
    }
    // A shell text may hold any quotation; one that does not close holds no here-document that we could see.
    let Ok(words) = words::split(rest, escape) else { return Vec::new() };
    words.iter().filter_map(|word| opening(word)).collect()
}

/// `[fd]<<[-]NAME`, NAME perhaps quoted.
pub(super) fn is_heredoc(word: &str) -> bool {
    opening(word).is_some()
}

fn opening(word: &str) -> Option<Opening> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (strip_tabs, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    let name: String = rest.chars().filter(|c| !matches!(c, '\'' | '"' | '\\')).collect();
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    plain.then_some(Opening { expand: name.len() == rest.len(), name, strip_tabs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(usize, usize, String)> {
        logical(text, '\\').unwrap().into_iter().map(|line| (line.first, line.last, line.text)).collect()
    }

    #[test]
    fn continuations_skip_comments_and_blank_lines() {
        assert_eq!(
            texts("# c\nRUN a && \\\n# inner\n\n  b && \\ \t\n  # last\n  c\nCMD x\n"),
            [(2, 7, "RUN a &&   b &&   c".to_owned()), (8, 8, "CMD x".to_owned())]
        );
    }

    #[test]
    fn an_escaped_escape_does_not_continue() {
        assert_eq!(texts("RUN a \\\\\nRUN b"), [(1, 1, "RUN a \\\\".to_owned()), (2, 2, "RUN b".to_owned())]);
    }

    #[test]
    fn here_documents_are_read_to_their_ends() {
        let lines = logical("RUN <<A cat <<-\"B\"\n$x\n# kept\nA\n\t\ttabs\n\tB\nCMD x", '\\').unwrap();
        assert_eq!((lines[0].first, lines[0].last), (1, 6));
        assert_eq!(
            lines[0].heredocs,
            [
                Heredoc { name: "A".into(), expand: true, content: "$x\n# kept\n".into() },
                Heredoc { name: "B".into(), expand: false, content: "tabs\n".into() },
            ]
        );
        assert_eq!(logical("\nRUN <<A\nx\n", '\\'), Err((2, Problem::OpenHeredoc("A".into()))));
        assert_eq!(texts("RUN cat <<< word\nENV A=<<B").len(), 2, "neither opens a document");
    }

    #[test]
    fn directives_come_first_and_once() {
        assert_eq!(
            directives("# syntax=docker/dockerfile:1\n#ESCAPE = `\nFROM x"),
            Ok(Directives { syntax: Some("docker/dockerfile:1".into()), escape: '`' })
        );
        assert_eq!(directives("# a comment\n# escape=`\n").unwrap().escape, '\\');
        assert_eq!(directives("# unknown=1\n# escape=`\n").unwrap().escape, '\\');
        assert!(directives("# escape=x\n").is_err());
        assert!(directives("# escape=`\n# escape=`\n").is_err());
    }
}
