//! Numbers and digests for people.

/// A size with the unit that leaves one to three digits before the point: `12.3 MB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // From 999.95 on, one decimal would show 1000.0.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `text` on one line of at most `width` characters.
pub(super) fn one_line(text: &str, width: usize) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if line.chars().count() <= width {
        return line;
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A size as people write it: `500`, `64KiB`, `1.5GiB`; a bare letter means the same as with `iB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a size such as 500MiB or 8GiB");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let shift = match text[digits..].trim().to_ascii_lowercase().trim_end_matches("ib") {
        "" | "b" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(bad()),
    };
    let number: f64 = text[..digits].parse().map_err(|_| bad())?;
    #[allow(clippy::cast_precision_loss, reason = "a power of two")]
    let bytes = number * (1_u64 << shift) as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded, and never negative")]
    let whole = (bytes < 9e18).then_some(bytes as u64);
    whole.ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("500", Some(500)),
            ("64KiB", Some(65_536)),
            ("1.5m", Some(1_572_864)),
            ("8 GiB", Some(8 << 30)),
            ("2T", Some(2 << 40)),
            ("", None),
            ("-1", None),
            ("8GB", None),
            ("1.2.3k", None),
            ("99999999T", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn sizes_have_one_decimal_and_a_fitting_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_960, "1.0 MB"),
            (1_400_000_000, "1.4 GB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_line_is_cut_and_free_of_control_characters() {
        assert_eq!(one_line("a\n  b\tc", 80), "a b c");
        assert_eq!(one_line("\u{1b}[31mred", 80), "\u{fffd}[31mred");
        assert_eq!(one_line("abcdef", 4), "abc…");
    }
}
