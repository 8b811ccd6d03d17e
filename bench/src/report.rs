//! The figures of a run, and their ratios.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::child::Taken;

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    /// `upload` or `reproduce`.
    pub(crate) job: &'static str,
    /// `floor`, `datamill` or `peer`.
    pub(crate) who: &'static str,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Seconds from the first file's function call until the last result could be read.
    pub(crate) work: Option<f64>,
    /// Seconds from the start of the process until the last result could be read.
    pub(crate) visible: Option<f64>,
    pub(crate) taken: Taken,
}

impl Row {
    /// Seconds that count: until the last result could be read, or the whole process.
    fn seconds(&self) -> f64 {
        self.visible.unwrap_or(self.taken.seconds)
    }

    /// Seconds without the start: from the first record on.
    fn since_first(&self) -> f64 {
        let printed = |name: &str| self.taken.printed.get(name).copied();
        match (self.work, printed("first"), printed("last")) {
            (Some(seconds), ..) => seconds,
            (None, Some(first), Some(last)) => last.saturating_sub(first) as f64 / 1e6,
            _ => self.taken.seconds,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, job, who, taken, .. } = self;
        write!(
            f,
            "{workload:9} {job:9} {who:8} {:8.3} s, from the first {:8.3} s, CPU {:7.2} s, peak {:6.0} MiB, anonymous {:6.0} MiB",
            self.seconds(),
            self.since_first(),
            taken.cpu_seconds,
            taken.peak_mib,
            taken.anonymous_mib
        )?;
        if taken.did_not_finish { write!(f, ", did not finish") } else { Ok(()) }
    }
}

/// All measurements.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: BTreeMap<(&str, &str), BTreeMap<&str, Vec<&Row>>> = BTreeMap::new();
        for row in &self.rows {
            groups.entry((&row.workload, row.job)).or_default().entry(row.who).or_default().push(row);
        }
        writeln!(
            f,
            "| workload | job | who | seconds | from the first record | CPU s | peak MiB | anonymous MiB | ÷ floor | peer ÷ |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|")?;
        for ((workload, job), by_who) in &groups {
            let of = |who: &str, what: &dyn Fn(&Row) -> f64| {
                by_who.get(who).map(|rows| median(rows.iter().map(|row| what(row)).collect()))
            };
            for who in ["floor", "datamill", "peer"] {
                let Some(rows) = by_who.get(who) else { continue };
                let at = |what: &dyn Fn(&Row) -> f64| of(who, what).unwrap_or(f64::NAN);
                let ratio = |a: Option<f64>, b: Option<f64>| match (a, b) {
                    (Some(a), Some(b)) => format!("{:.2}", a / b),
                    _ => String::new(),
                };
                let over_floor = ratio(of(who, &Row::since_first), of("floor", &Row::since_first));
                let peer_over = match who {
                    "datamill" => ratio(of("peer", &Row::seconds), of(who, &Row::seconds)),
                    _ => String::new(),
                };
                let unfinished = if rows.iter().any(|row| row.taken.did_not_finish) { " (did not finish)" } else { "" };
                writeln!(
                    f,
                    "| {workload} | {job} | {who} | {:.3}{unfinished} | {:.3} | {:.2} | {:.0} | {:.0} | {over_floor} | {peer_over} |",
                    at(&Row::seconds),
                    at(&Row::since_first),
                    at(&|row| row.taken.cpu_seconds),
                    at(&|row| row.taken.peak_mib),
                    at(&|row| row.taken.anonymous_mib),
                )?;
            }
        }
        Ok(())
    }
}
