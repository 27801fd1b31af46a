//! What a publication did, for people and as JSON.

use serde_json::{Value, json};
use vast_imagegen::history::Written;
use vast_imagegen::publish::Published;

/// The blobs of a publication as JSON.
pub(super) fn blobs(published: &Published) -> Value {
    json!({
        "present": published.present,
        "mounted": published.mounted,
        "written": published.written,
        "written_bytes": published.written_bytes,
    })
}

/// What the name stood for before, as JSON: a digest, or null.
pub(super) fn previous(published: &Published) -> Value {
    match published.history.first() {
        Some(Written::Previous(previous) | Written::Refused { previous, .. }) => json!(previous),
        _ => Value::Null,
    }
}

/// Says on standard error which records a registry did not take with `target`.
pub(super) fn warn(published: &Published, target: &impl std::fmt::Display) {
    for written in &published.history {
        if let Written::Refused { previous, why } = written {
            eprintln!(
                "{}: warning: {target}: the registry keeps no record of what the tag named before, {previous}: {why}",
                super::PROGRAM
            );
        }
    }
    for why in &published.refused_records {
        eprintln!(
            "{}: warning: {target}: the registry keeps no path indexes or environment with the image: {why}",
            super::PROGRAM
        );
    }
}
