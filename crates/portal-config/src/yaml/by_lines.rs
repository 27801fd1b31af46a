//! Reading a torn file as deployed scripts read every file: line by line.
//!
//! A user who turns an application off by commenting only its key line leaves this behind:
//!
//! ```yaml
//! applications:
//!   Instance Portal:
//!     hostname: localhost
//!     name: Instance Portal
//! #  My App:
//!     hostname: localhost
//!     name: My App
//! ```

/// Whether an uncommented line of `text` holds `term`, in any case.
pub(crate) fn names(text: &str, term: &str) -> bool {
    let term = term.to_lowercase();
    text.lines().filter(|line| !line.trim_start().starts_with('#')).any(|line| {
        line.to_lowercase().contains(&term) || scalar(line).is_some_and(|text| text.to_lowercase().contains(&term))
    })
}

/// What a `key:` or `name: value` line says once its quotes and escapes are undone.
fn scalar(line: &str) -> Option<String> {
    let line = line.trim();
    let quoted = match line.strip_suffix(':') {
        Some(key) => key,
        None => line.split_once(": ")?.1,
    };
    serde_saphyr::from_str(quoted).ok()
}

/// The text with those commented key lines restored (`#  My App:`) whose fields are not commented, or None if there are none.
pub(crate) fn uncomment_keys(text: &str) -> Option<String> {
    let mut found = false;
    let lines: Vec<&str> = text.lines().collect();
    let restored: Vec<String> = lines
        .iter()
        .enumerate()
        .map(|(index, line)| {
            let key =
                line.trim_start().strip_prefix('#').map(str::trim).filter(|key| key.len() > 1 && key.ends_with(':'));
            let fields =
                lines.get(index + 1).filter(|next| !next.trim_start().starts_with('#')).map(|next| indent(next));
            match (key, fields) {
                (Some(key), Some(fields)) if fields > 1 => {
                    found = true;
                    // Half as deep as its fields: so this program and its predecessors write the file.
                    format!("{}{key}", " ".repeat(fields / 2))
                }
                _ => (*line).to_owned(),
            }
        })
        .collect();
    found.then(|| restored.join("\n") + if text.ends_with('\n') { "\n" } else { "" })
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}
