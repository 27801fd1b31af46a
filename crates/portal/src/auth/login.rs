//! The login page: for people who open an application without the token.

use super::request::{decode, local_location};

const PAGE: &str = include_str!("../../assets/login.html");

/// The page, which leads to `next` after it.
pub(super) fn page(next: &str, message: Option<&str>) -> String {
    let message = message.map_or_else(String::new, |text| format!("<p role=\"alert\">{}</p>", escape_html(text)));
    PAGE.replace("<!--message-->", &message).replace("<!--next-->", &escape_html(&local_location(next, None)))
}

/// What the page's form sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) password: String,
    /// Path and query on this server, whatever was sent.
    pub(super) next: String,
}

impl Form {
    pub(super) fn parse(body: &str) -> Self {
        let field = |wanted: &str| {
            let value =
                |pair: &str| pair.split_once('=').filter(|(name, _)| *name == wanted).map(|(_, value)| decode(value));
            body.split('&').find_map(value).unwrap_or_default()
        };
        Self { password: field("password"), next: local_location(&field("next"), None) }
    }
}

/// Text for HTML, in content and in quoted attributes.
#[must_use]
pub fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_holds_the_way_on_as_text_only() {
        let page = page("/a?b=\"><script>alert(1)</script>", Some("<b>"));
        assert!(page.contains("value=\"/a?b=&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;\""), "{page}");
        assert!(page.contains("&lt;b&gt;") && !page.contains("<script>"));
    }

    #[test]
    fn the_form_is_decoded_and_its_way_on_is_local() {
        let form = Form::parse("next=https%3A%2F%2Fevil.example&password=a%26b+c");
        assert_eq!(form, Form { password: "a&b c".to_owned(), next: "/https://evil.example".to_owned() });
        assert_eq!(Form::parse("next=%2F%2Fevil.example%2F").next, "/evil.example/");
        assert_eq!(Form::parse("").next, "/");
    }
}
