//! Patterns of paths: those of `COPY` (Go's `filepath.Match`) and those of `.dockerignore`, which add `**`.

/// A pattern, matched against whole paths with `/` between their parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`: one character of a name.
    One,
    /// `*`: any characters of a name.
    Star,
    /// `**`: anything.
    DoubleStar,
    /// `**/`: any directories, or none.
    Directories,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A pattern that ends inside a `[` class or after a `\`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadGlob;

impl Glob {
    /// A pattern as `COPY` takes it: `*`, `?`, `[a-z]`, `[^a]`, `\x`.
    pub(super) fn new(pattern: &str) -> Result<Self, BadGlob> {
        Self::parse(pattern, false)
    }

    /// A pattern as `.dockerignore` takes it: with `**`.
    pub(crate) fn with_double_star(pattern: &str) -> Result<Self, BadGlob> {
        Self::parse(pattern, true)
    }

    /// Whether text means more than itself as a pattern.
    pub(super) fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '\\'])
    }

    fn parse(pattern: &str, double_star: bool) -> Result<Self, BadGlob> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => {
                    let mut stars = 1;
                    while chars.next_if_eq(&'*').is_some() {
                        stars += 1;
                    }
                    if stars == 1 || !double_star {
                        Token::Star
                    } else if chars.next_if_eq(&'/').is_some() {
                        Token::Directories
                    } else {
                        Token::DoubleStar
                    }
                }
                '?' => Token::One,
                '[' => {
                    let negated = chars.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    loop {
                        let mut member = || match chars.next() {
                            Some('\\') => chars.next().ok_or(BadGlob),
                            Some(c) => Ok(c),
                            None => Err(BadGlob),
                        };
                        let low = member()?;
                        if low == ']' && !ranges.is_empty() {
                            break;
                        }
                        let high = if chars.next_if_eq(&'-').is_some() {
                            match chars.next() {
                                Some('\\') => chars.next().ok_or(BadGlob)?,
                                Some(c) => c,
                                None => return Err(BadGlob),
                            }
                        } else {
                            low
                        };
                        ranges.push((low, high));
                    }
                    Token::Class { negated, ranges }
                }
                '\\' => Token::Literal(chars.next().ok_or(BadGlob)?),
                c => Token::Literal(c),
            });
        }
        Ok(Self { tokens })
    }

    /// Whether the whole of `text` matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        // reachable[t]: the tokens so far can have consumed t characters. Linear in pattern times text, whatever the stars.
        let mut reachable = vec![false; text.len() + 1];
        reachable[0] = true;
        for token in &self.tokens {
            reachable = step(token, &reachable, &text);
        }
        reachable[text.len()]
    }
}

fn step(token: &Token, reachable: &[bool], text: &[char]) -> Vec<bool> {
    let mut next = vec![false; reachable.len()];
    match token {
        Token::Star | Token::DoubleStar => {
            let mut open = false;
            for at in 0..reachable.len() {
                open |= reachable[at];
                next[at] = open;
                if *token == Token::Star && text.get(at) == Some(&'/') {
                    open = false;
                }
            }
        }
        Token::Directories => {
            let mut open = false;
            for at in 0..reachable.len() {
                next[at] = reachable[at] || (open && at > 0 && text[at - 1] == '/');
                open |= reachable[at];
            }
        }
        _ => {
            for at in 0..text.len() {
                next[at + 1] = reachable[at] && token.takes(text[at]);
            }
        }
    }
    next
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Literal(literal) => *literal == c,
            Self::One => c != '/',
            Self::Class { negated, ranges } => {
                c != '/' && ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
            Self::Star | Self::DoubleStar | Self::Directories => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn copy_patterns_stay_within_one_name() {
        for (pattern, text, expected) in [
            ("*.txt", "a.txt", true),
            ("*.txt", "d/a.txt", false),
            ("d/*", "d/a", true),
            ("d/*", "d/a/b", false),
            ("**", "a/b", false),
            ("file?", "file1", true),
            ("file?", "file/", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]a]", "]", true),
            // An exclamation mark negates in a shell, not in Go.
            ("[!a]x", "ax", true),
            ("[!a]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a{b,c}", "a{b,c}", true),
            ("", "", true),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn double_stars_cross_directories() {
        for (pattern, text, expected) in [
            ("**/*.md", "a.md", true),
            ("**/*.md", "a/b/c.md", true),
            ("**/*.md", "a/b/c.txt", false),
            ("a/**", "a/b/c", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/bz", false),
            ("**", "anything/at/all", true),
        ] {
            assert_eq!(Glob::with_double_star(pattern).unwrap().matches(text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn unfinished_patterns_are_refused() {
        for pattern in ["[a", "[", "a\\", "[a-", "[\\"] {
            assert_eq!(Glob::new(pattern), Err(BadGlob), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn plain_text_matches_itself_alone(text in "[a-z./]{0,20}", other in "[a-z./]{0,20}") {
            let glob = Glob::new(&text).unwrap();
            prop_assert!(glob.matches(&text));
            prop_assert_eq!(glob.matches(&other), text == other);
        }

        #[test]
        fn matching_never_panics(pattern in "[a*?\\[\\]^/\\\\-]{0,30}", text in "[a/\\]-]{0,60}") {
            if let Ok(glob) = Glob::with_double_star(&pattern) {
                glob.matches(&text);
            }
        }
    }
}
