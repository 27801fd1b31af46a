//! Text in columns.

use unicode_width::UnicodeWidthStr;

/// Rows as lines, each column as wide as its widest cell, two spaces between them.
pub(crate) fn lines<const COLUMNS: usize>(rows: impl Iterator<Item = [String; COLUMNS]>) -> Vec<String> {
    let rows: Vec<[String; COLUMNS]> = rows.map(|row| row.map(|cell| printable(&cell))).collect();
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let padded = |(cell, width): (&String, usize)| format!("{cell}{}", " ".repeat(width - cell.width()));
        let cells: Vec<String> = row.iter().zip(widths).map(padded).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Control characters as their escapes: what a user wrote cannot drive the terminal.
fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_the_width_of_the_characters() {
        let rows = [["A", "B", "C"], ["日本", "x", "1"], ["\u{1b}[m", "", ""]];
        let expected = [
            r"A         B  C", //
            r"日本      x  1",
            r"\u{1b}[m",
        ];
        assert_eq!(lines(rows.into_iter().map(|row| row.map(str::to_owned))), expected);
    }
}
