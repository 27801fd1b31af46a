//! Lines on standard output, and how numbers look on them.

use std::io::Write;

use indicatif::{BinaryBytes, HumanCount};
use serde_json::Value;

/// Prints a line. A reader that has gone away is no reason to stop copying.
pub(super) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a JSON value on a line of its own.
pub(super) fn json(value: &Value) {
    line(&value.to_string());
}

/// `1.25 GiB in 20,000 entries`.
pub(super) fn amount(bytes: u64, entries: u64) -> String {
    let noun = if entries == 1 { "entry" } else { "entries" };
    format!("{} in {} {noun}", BinaryBytes(bytes), HumanCount(entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_well() {
        assert_eq!(amount(0, 1), "0 B in 1 entry");
        assert_eq!(amount(5 << 20, 20_000), "5.00 MiB in 20,000 entries");
    }
}
