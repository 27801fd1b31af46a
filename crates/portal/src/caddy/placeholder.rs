//! The page that stands in while an application does not answer yet.

use std::fmt::Write as _;

use crate::auth::escape_html;

const PAGE: &str = include_str!("../../assets/starting.html");

/// The page for an application, as text between backquotes of a Caddyfile.
///
/// Caddy replaces `{placeholders}` in the body of an answer, and `{$VARIABLES}` while it reads the file, so braces and
/// backquotes of the label become character references as the characters of HTML do.
pub(super) fn page(label: &str) -> String {
    debug_assert!(!PAGE.contains('`'));
    let mut text = String::with_capacity(label.len());
    for character in escape_html(label).chars() {
        match character {
            '{' | '}' | '`' | '\\' | '$' => {
                // Writing to a String cannot fail.
                let _ = write!(text, "&#{};", u32::from(character));
            }
            control if control.is_control() => text.push(' '),
            other => text.push(other),
        }
    }
    PAGE.trim_end().replace("<!--label-->", &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_text_whatever_it_holds() {
        let page = page("`} respond {env.WEB_PASSWORD} {$HOME}\r\n<script>");
        let heading = page.split_once("<h1>").unwrap().1.split_once("</h1>").unwrap().0;
        assert!(!heading.contains(['{', '}', '`', '$', '\n', '<']), "{heading}");
        assert!(heading.starts_with("&#96;&#125; respond &#123;env.WEB_PASSWORD&#125;"), "{heading}");
    }
}
