//! Writing the file so that YAML readers get every label back exactly and line searches find it verbatim.

use std::fmt::Write as _;

use crate::resolve::Application;

/// Longest key that YAML allows in the short form `key: value` (YAML 1.2.2, 8.2.2: 1024 characters), with room for quotes.
const LONGEST_SHORT_KEY: usize = 1000;

/// Words that some YAML reader takes for a boolean or for nothing (YAML 1.1 and 1.2 core).
const RESERVED: [&str; 10] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"];

pub(crate) fn render(applications: &[Application]) -> String {
    let mut unique: Vec<&Application> = Vec::new();
    for application in applications {
        match unique.iter_mut().find(|earlier| earlier.label == application.label) {
            Some(earlier) => *earlier = application,
            None => unique.push(application),
        }
    }
    if unique.is_empty() {
        return "applications: {}\n".to_owned();
    }
    let mut text = "applications:\n".to_owned();
    for Application { label, host, internal_port, external_port, path, .. } in unique {
        let key = scalar(label);
        let key = if key.chars().count() > LONGEST_SHORT_KEY { format!("? {key}\n  ") } else { key };
        let (host, path, name) = (scalar(host), scalar(path), name(label));
        let _ = write!(
            text,
            "  {key}:\n    hostname: {host}\n    external_port: {external_port}\n    internal_port: {internal_port}\n    \
             open_path: {path}\n    name: {name}\n"
        );
    }
    text
}

/// The label once more. A block scalar holds verbatim what no quotes can, both kinds of quotes among it.
fn name(label: &str) -> String {
    let quoted = scalar(label);
    // A block scalar would take leading white space for its own indentation.
    if quoted.contains(label) || !label.chars().all(is_printable) || label.starts_with(char::is_whitespace) {
        quoted
    } else {
        format!("|-\n      {label}")
    }
}

/// A text in the first style that can hold it: plain, single quotes, double quotes.
///
/// The first two hold it verbatim, the last one too unless it needs escapes.
fn scalar(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else if text.chars().all(is_printable) && !text.contains('\'') {
        format!("'{text}'")
    } else {
        double_quoted(text)
    }
}

/// Whether no reader of YAML 1.1 or 1.2 can take the bare text for anything but itself. Far narrower than YAML: letters first,
/// and no punctuation that means something anywhere.
fn is_plain(text: &str) -> bool {
    let harmless = |character: char| character.is_ascii_alphanumeric() || " ._/()+-".contains(character);
    (text == "/" || text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/'))
        && text.chars().all(harmless)
        && !text.ends_with(' ')
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str())
}

/// What YAML lets stand in quotes on one line (YAML 1.2.2, 5.1), less the line breaks of YAML 1.1 and the byte order mark.
fn is_printable(character: char) -> bool {
    matches!(character, ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if is_printable(character) => quoted.push(character),
            _ => {
                let _ = match u32::from(character) {
                    code @ ..=0xff => write!(quoted, "\\x{code:02x}"),
                    code @ ..=0xffff => write!(quoted, "\\u{code:04x}"),
                    code => write!(quoted, "\\U{code:08x}"),
                };
            }
        }
    }
    quoted.push('"');
    quoted
}
