//! The figures, as a table and as what falls short of the promises.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::column::Column;
use super::contender::Contender;

/// How much faster than the deployed way the copy has to be.
const OVER_DEPLOYED: f64 = 8.0;

/// … and than `cp -a` on the volume that answers late.
const OVER_CP_LATE: f64 = 5.0;

/// Every run's time.
#[derive(Debug, Default)]
pub(crate) struct Table {
    times: BTreeMap<(Column, Contender), Vec<Duration>>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn add(&mut self, column: Column, contender: Contender, took: Duration) {
        self.times.entry((column, contender)).or_default().push(took);
    }

    fn columns(&self) -> Vec<Column> {
        Column::ALL.into_iter().filter(|column| self.times.keys().any(|(one, _)| one == column)).collect()
    }

    /// The median in seconds.
    fn median(&self, column: Column, contender: Contender) -> Option<f64> {
        let mut times = self.times.get(&(column, contender))?.clone();
        times.sort_unstable();
        let middle = times.len() / 2;
        let median = if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2 };
        Some(median.as_secs_f64())
    }

    /// Where the figures fall short of what is promised, a sentence each.
    pub(crate) fn shortfalls(&self) -> Vec<String> {
        let mut found = Vec::new();
        for column in self.columns() {
            let Some(ours) = self.median(column, Contender::VastSync) else { continue };
            for contender in Contender::ALL.into_iter().filter(|one| one.copies() && *one != Contender::VastSync) {
                let Some(theirs) = self.median(column, contender) else { continue };
                let wanted = match (contender, column) {
                    (Contender::TarGzip, _) => OVER_DEPLOYED,
                    (Contender::Cp, Column::Latency) => OVER_CP_LATE,
                    _ => 1.0,
                };
                let ratio = theirs / ours;
                if ratio < wanted {
                    found.push(format!("{column}: {ratio:.2} times as fast as {contender}, {wanted} promised"));
                }
            }
        }
        found
    }
}

impl fmt::Display for Table {
    /// Medians in seconds, and in brackets how many times longer than ours.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.columns();
        let runs: Vec<usize> = self.times.values().map(Vec::len).collect();
        write!(f, "| median of {} |", runs.iter().min().copied().unwrap_or(0))?;
        for column in &columns {
            write!(f, " {column} |")?;
        }
        writeln!(f, "\n|---|{}", "--:|".repeat(columns.len()))?;
        for contender in Contender::ALL {
            let cells: Vec<_> = columns
                .iter()
                .map(|column| match (self.median(*column, contender), self.median(*column, Contender::VastSync)) {
                    (Some(median), _) if contender == Contender::VastSync => format!("{median:.2} s"),
                    (Some(median), Some(ours)) => format!("{median:.2} s ({:.2})", median / ours),
                    (Some(median), None) => format!("{median:.2} s"),
                    (None, _) => String::new(),
                })
                .collect();
            if cells.iter().any(|cell| !cell.is_empty()) {
                writeln!(f, "| {contender} | {} |", cells.join(" | "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(figures: &[(Column, Contender, &[u64])]) -> Table {
        let mut table = Table::new();
        for (column, contender, seconds) in figures {
            for second in *seconds {
                table.add(*column, *contender, Duration::from_secs(*second));
            }
        }
        table
    }

    #[test]
    fn a_table_has_medians_and_ratios_and_a_gap_where_nothing_was_measured() {
        let table = table(&[
            (Column::Ext4Warm, Contender::VastSync, &[4, 2, 90]),
            (Column::Ext4Warm, Contender::Cp, &[5, 6, 7]),
            (Column::Latency, Contender::VastSync, &[1, 1, 1]),
        ]);
        let text = "| median of 3 | ext4, warm | 1 ms per operation |\n|---|--:|--:|\n\
            | `vast-sync copy` | 4.00 s | 1.00 s |\n| `cp -a` | 6.00 s (1.50) |  |\n";
        assert_eq!(table.to_string(), text);
    }

    #[test]
    fn what_is_slower_than_promised_is_said() {
        let with = |gzip, cp, late| {
            table(&[
                (Column::Ext4Warm, Contender::VastSync, &[2]),
                (Column::Ext4Warm, Contender::TarGzip, &[gzip]),
                (Column::Ext4Warm, Contender::Cp, &[cp]),
                (Column::Ext4Warm, Contender::Dd, &[1]),
                (Column::Latency, Contender::VastSync, &[2]),
                (Column::Latency, Contender::Cp, &[late]),
            ])
            .shortfalls()
        };
        assert_eq!(with(16, 2, 10), [""; 0]);
        assert_eq!(with(15, 2, 10).len(), 1);
        assert_eq!(with(16, 1, 10), ["ext4, warm: 0.50 times as fast as `cp -a`, 1 promised"]);
        assert_eq!(with(16, 2, 9).len(), 1);
    }
}
