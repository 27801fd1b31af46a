//! Variables and quotes in a Dockerfile's words, as `BuildKit`'s shell lexer treats them.
//!
//! `$name`, `${name}`, `${name:-word}`, `${name:+word}`, `${name:?word}` and the forms without the colon, which look at
//! whether the variable is set instead of whether it is non-empty. Single quotes keep everything; double quotes keep all
//! but variables and escaped `"`, `$` and the escape character; outside quotes the escape character protects one character.

use std::iter::Peekable;
use std::str::Chars;

/// A word that cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// `${` without `}`.
    #[error("`${{{0}` is never closed")]
    Unclosed(String),
    /// A quotation without its end.
    #[error("a quotation beginning with {0} is never closed")]
    OpenQuote(char),
    /// `${}` or a name that is none.
    #[error("`${{{0}}}` names no variable")]
    BadName(String),
    /// A modifier that is not supported.
    #[error("modifier `{modifier}` in `${{{name}…}}` is not one of :- :+ :? - + ?")]
    BadModifier {
        /// The variable.
        name: String,
        /// What follows its name.
        modifier: String,
    },
    /// `${name:?message}` of a variable that has no value.
    #[error("variable `{name}` has no value: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message, or what is said without one.
        message: String,
    },
    /// Words nested beyond reason.
    #[error("variables are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// How deep `${a:-${b:-…}}` may nest.
const MAX_DEPTH: usize = 64;

/// Evaluates the variables of `word` with `lookup` and removes its quotes.
///
/// An unset variable is empty. A `$` that begins no name stays.
///
/// # Errors
/// Text that cannot be evaluated: open braces or quotes, unknown modifiers, `:?` of a variable without value.
///
/// ```
/// use vast_imagegen::dockerfile::expand::expand;
/// let lookup = |name: &str| (name == "TAG").then(|| "v1".to_owned());
/// assert_eq!(expand("repo:${TAG:-latest}-${ARCH:-any}", &lookup, '\\').unwrap(), "repo:v1-any");
/// ```
pub fn expand(word: &str, lookup: &dyn Fn(&str) -> Option<String>, escape: char) -> Result<String, ExpandError> {
    let mut lexer = Lexer { chars: word.chars().peekable(), lookup, escape, quotes: true };
    lexer.until(None, 0)
}

/// Evaluates only the variables of the body of a here-document: quotes are text there.
///
/// # Errors
/// As [`expand`], without those about quotes.
pub fn expand_heredoc(
    body: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    escape: char,
) -> Result<String, ExpandError> {
    let mut lexer = Lexer { chars: body.chars().peekable(), lookup, escape, quotes: false };
    lexer.until(None, 0)
}

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    escape: char,
    quotes: bool,
}

impl Lexer<'_> {
    /// Reads up to the unprotected `stop`, which is consumed, or to the end where there is none.
    fn until(&mut self, stop: Option<char>, depth: usize) -> Result<String, ExpandError> {
        if depth > MAX_DEPTH {
            return Err(ExpandError::TooDeep);
        }
        let mut out = String::new();
        while let Some(c) = self.chars.next() {
            match c {
                _ if Some(c) == stop => return Ok(out),
                '\'' if self.quotes => self.single_quoted(&mut out)?,
                '"' if self.quotes => self.double_quoted(&mut out, depth)?,
                '$' => self.variable(&mut out, depth)?,
                _ if c == self.escape => match self.chars.next() {
                    Some(next) if self.quotes || matches!(next, '$') || next == self.escape => out.push(next),
                    Some(next) => out.extend([c, next]),
                    // Nothing is left to protect; a text keeps what a word loses.
                    None if self.quotes => {}
                    None => out.push(c),
                },
                _ => out.push(c),
            }
        }
        if stop.is_some() { Err(ExpandError::Unclosed(out)) } else { Ok(out) }
    }

    fn single_quoted(&mut self, out: &mut String) -> Result<(), ExpandError> {
        for c in self.chars.by_ref() {
            if c == '\'' {
                return Ok(());
            }
            out.push(c);
        }
        Err(ExpandError::OpenQuote('\''))
    }

    fn double_quoted(&mut self, out: &mut String, depth: usize) -> Result<(), ExpandError> {
        while let Some(c) = self.chars.next() {
            match c {
                '"' => return Ok(()),
                '$' => self.variable(out, depth)?,
                _ if c == self.escape => match self.chars.next() {
                    Some(next) if matches!(next, '"' | '$') || next == self.escape => out.push(next),
                    Some(next) => out.extend([c, next]),
                    None => return Err(ExpandError::OpenQuote('"')),
                },
                _ => out.push(c),
            }
        }
        Err(ExpandError::OpenQuote('"'))
    }

    /// What follows a `$`.
    fn variable(&mut self, out: &mut String, depth: usize) -> Result<(), ExpandError> {
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            if name.is_empty() {
                out.push('$');
            } else {
                out.push_str(&(self.lookup)(&name).unwrap_or_default());
            }
            return Ok(());
        }
        let name = self.name();
        if name.is_empty() {
            let rest: String = self.chars.by_ref().take_while(|&c| c != '}').collect();
            return Err(ExpandError::BadName(rest));
        }
        let colon = match self.chars.next() {
            Some('}') => {
                out.push_str(&(self.lookup)(&name).unwrap_or_default());
                return Ok(());
            }
            Some(':') => true,
            Some(modifier @ ('-' | '+' | '?')) => return self.modified(out, &name, modifier, false, depth),
            Some(other) => return Err(ExpandError::BadModifier { name, modifier: other.to_string() }),
            None => return Err(ExpandError::Unclosed(name)),
        };
        match self.chars.next() {
            Some(modifier @ ('-' | '+' | '?')) => self.modified(out, &name, modifier, colon, depth),
            Some(other) => Err(ExpandError::BadModifier { name, modifier: format!(":{other}") }),
            None => Err(ExpandError::Unclosed(name)),
        }
    }

    fn modified(
        &mut self,
        out: &mut String,
        name: &str,
        modifier: char,
        colon: bool,
        depth: usize,
    ) -> Result<(), ExpandError> {
        let value = (self.lookup)(name).filter(|value| !colon || !value.is_empty());
        // Read in any case, to find the closing brace; what is open here is named after the outer variable.
        let word = self.until(Some('}'), depth + 1).map_err(|error| match error {
            ExpandError::Unclosed(_) => ExpandError::Unclosed(name.to_owned()),
            other => other,
        })?;
        match (modifier, value) {
            ('-' | '?', Some(value)) => out.push_str(&value),
            ('-', None) | ('+', Some(_)) => out.push_str(&word),
            ('?', None) => {
                let message = if word.is_empty() { "it is required".to_owned() } else { word };
                return Err(ExpandError::Required { name: name.to_owned(), message });
            }
            _ => {}
        }
        Ok(())
    }

    /// A variable's name at this point: letters, digits and `_`; or digits alone; or empty.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let positional = self.chars.peek().is_some_and(char::is_ascii_digit);
        let fits = |c: &char| if positional { c.is_ascii_digit() } else { c.is_ascii_alphanumeric() || *c == '_' };
        while let Some(c) = self.chars.next_if(fits) {
            name.push(c);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("alpha".to_owned()),
            "EMPTY" => Some(String::new()),
            "Q" => Some("it's \"$A\" \\".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn words_expand_as_in_a_dockerfile() {
        for (word, expected) in [
            ("plain", "plain"),
            ("$A", "alpha"),
            ("${A}x", "alphax"),
            ("$Ax", ""),
            ("$A-$A", "alpha-alpha"),
            ("\\$A", "$A"),
            ("\\\\$A", "\\alpha"),
            ("a\\ b", "a b"),
            ("'$A'", "$A"),
            ("\"$A\"", "alpha"),
            ("\"\\$A \\\" \\n\"", "$A \" \\n"),
            ("'it''s'", "its"),
            ("${NO:-d}", "d"),
            ("${NO-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${A:-d}", "alpha"),
            ("${A:+d}", "d"),
            ("${EMPTY:+d}", ""),
            ("${EMPTY+d}", "d"),
            ("${NO+d}", ""),
            ("${A:?never}", "alpha"),
            ("${NO:-${A}}", "alpha"),
            ("${NO:-${NO:-deep}}x", "deepx"),
            ("${NO:-\"}\"}", "}"),
            ("${NO:-}", ""),
            ("$", "$"),
            ("a$", "a$"),
            ("$ A", "$ A"),
            ("100$%", "100$%"),
            ("tail\\", "tail"),
            // What a variable holds is not read again.
            ("$Q", "it's \"$A\" \\"),
            ("\"$Q\"", "it's \"$A\" \\"),
        ] {
            assert_eq!(expand(word, &lookup, '\\').as_deref(), Ok(expected), "{word}");
        }
    }

    #[test]
    fn the_escape_character_can_be_a_backtick() {
        assert_eq!(expand("C:\\dir\\`$A", &lookup, '`').as_deref(), Ok("C:\\dir\\$A"));
    }

    #[test]
    fn malformed_words_are_refused_with_their_reason() {
        for (word, expected) in [
            ("${A", "`${A` is never closed"),
            ("${A:-x", "`${A` is never closed"),
            ("${}", "`${}` names no variable"),
            ("${A/x/y}", "modifier `/` in `${A…}` is not one of :- :+ :? - + ?"),
            ("'x", "a quotation beginning with ' is never closed"),
            ("\"x", "a quotation beginning with \" is never closed"),
            ("${NO:?set it}", "variable `NO` has no value: set it"),
        ] {
            assert_eq!(expand(word, &lookup, '\\').unwrap_err().to_string(), expected, "{word}");
        }
        let deep = "${N:-".repeat(100) + &"}".repeat(100);
        assert_eq!(expand(&deep, &lookup, '\\'), Err(ExpandError::TooDeep));
    }

    #[test]
    fn quotes_are_text_in_a_here_document() {
        assert_eq!(
            expand_heredoc("echo \"$A\" '$A' \\$A \\n\n", &lookup, '\\').as_deref(),
            Ok("echo \"alpha\" 'alpha' $A \\n\n")
        );
    }

    proptest! {
        #[test]
        fn expansion_never_panics(word in "[A-Z${}:+?'\"\\\\ -]{0,40}") {
            let _ = expand(&word, &lookup, '\\');
            let _ = expand_heredoc(&word, &lookup, '\\');
        }

        #[test]
        fn a_single_quoted_word_is_itself(word in "[^']{0,40}") {
            prop_assert_eq!(expand(&format!("'{word}'"), &lookup, '\\').unwrap(), word);
        }

        #[test]
        fn text_without_special_characters_is_itself(word in "[a-z0-9 /.:=_-]{0,40}") {
            prop_assert_eq!(expand(&word, &lookup, '\\').unwrap(), word);
        }
    }
}
