//! Splitting an instruction's text into words without evaluating it.

use super::problem::Problem;

/// Splits at white space outside quotes and escapes; quotes and escapes stay in the words.
pub(super) fn split(text: &str, escape: char) -> Result<Vec<String>, Problem> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            _ if c == escape && quote != Some('\'') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if let Some(open) = quote {
        return Err(Problem::OpenQuote(open));
    }
    if !word.is_empty() {
        words.push(word);
    }
    Ok(words)
}

/// The leading `--name[=value]` words of `text`, and what follows them. A bare `--` ends the flags.
pub(super) fn flags(text: &str, escape: char) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let end = word_end(rest, escape);
        let (word, after) = rest.split_at(end);
        rest = after.trim_start();
        if word == "--" {
            break;
        }
        flags.push(unquote(word, escape));
    }
    (flags, rest)
}

/// The first word of `text`, its quotes and escapes in place.
pub(super) fn first(text: &str, escape: char) -> Option<&str> {
    let word = &text[..word_end(text, escape)];
    (!word.is_empty()).then_some(word)
}

/// Where the first word of `text` ends, quotes and escapes respected.
fn word_end(text: &str, escape: char) -> usize {
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            _ if c == escape && quote != Some('\'') => {
                chars.next();
            }
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c.is_whitespace() => return at,
            _ => {}
        }
    }
    text.len()
}

/// Removes quotes and escapes, leaving variables as they are.
fn unquote(word: &str, escape: char) -> String {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match quote {
            _ if c == escape && quote != Some('\'') => out.extend(chars.next()),
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => quote = Some(c),
            _ => out.push(c),
        }
    }
    out
}

/// `text` as a JSON array of strings, if it is one.
pub(super) fn json_array(text: &str) -> Option<Vec<String>> {
    text.trim_start().starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_quotes_and_are_cut_at_outer_white_space() {
        assert_eq!(split("a=\"x y\" b='c d'\\ e  f\\\"g", '\\').unwrap(), ["a=\"x y\"", "b='c d'\\ e", "f\\\"g"]);
        assert_eq!(split("a \"b", '\\'), Err(Problem::OpenQuote('"')));
    }

    #[test]
    fn flags_end_at_the_first_other_word() {
        assert_eq!(
            flags("--mount=\"type=cache,target=/a b\" --network=none -- --x", '\\'),
            (vec!["--mount=type=cache,target=/a b".to_owned(), "--network=none".to_owned()], "--x")
        );
    }
}
