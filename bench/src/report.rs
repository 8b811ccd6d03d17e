//! The figures of a run, and their ratios.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::child::Taken;
use crate::latency::Latency;
use crate::restart::Restart;

/// One measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    /// `upload`, `watch` or `reproduce`.
    pub(crate) job: String,
    /// `floor`, `datamill` or `peer`.
    pub(crate) who: String,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Seconds from the first record until the last result could be read.
    pub(crate) work: Option<f64>,
    /// Seconds from the start of the process until the last result could be read.
    pub(crate) visible: Option<f64>,
    /// The share of the work that was done when the process was ended.
    #[serde(default)]
    pub(crate) share: Option<f64>,
    pub(crate) taken: Taken,
}

impl Row {
    /// Seconds that count: until the last result could be read, or the whole process.
    pub(crate) fn seconds(&self) -> f64 {
        self.visible.filter(|_| !self.taken.did_not_finish).unwrap_or(self.taken.seconds)
    }

    /// Seconds without the start: from the first record on.
    pub(crate) fn since_first(&self) -> f64 {
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

/// What it was measured on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line =
                text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, v)| v.to_owned()));
            line.unwrap_or_default().trim().to_owned()
        };
        let memory = field("/proc/meminfo", "MemTotal");
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        Self {
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: (kib + (1 << 19)) >> 20,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, memory_gib } = self;
        write!(
            f,
            "Measured on {cores} cores ({processor}) with {memory_gib} GiB of memory, the broker on the same machine."
        )
    }
}

/// All measurements.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
    pub(crate) latency: Option<Latency>,
    pub(crate) restart: Option<Restart>,
}

/// The medians of what was measured of one program with one workload.
#[derive(Debug, Clone)]
pub(crate) struct Middle {
    pub(crate) files: u64,
    pub(crate) seconds: f64,
    pub(crate) since_first: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_mib: f64,
    pub(crate) anonymous_mib: f64,
    pub(crate) did_not_finish: bool,
    /// See [`Row::share`].
    pub(crate) share: f64,
}

impl Middle {
    fn of(rows: &[&Row]) -> Self {
        let of = |what: &dyn Fn(&Row) -> f64| median(rows.iter().map(|row| what(row)).collect());
        Self {
            files: rows.first().map_or(0, |row| row.files),
            seconds: of(&Row::seconds),
            since_first: of(&Row::since_first),
            cpu_seconds: of(&|row| row.taken.cpu_seconds),
            peak_mib: of(&|row| row.taken.peak_mib),
            anonymous_mib: of(&|row| row.taken.anonymous_mib),
            did_not_finish: rows.iter().any(|row| row.taken.did_not_finish),
            share: of(&|row| row.share.unwrap_or(1.0)),
        }
    }
}

/// Who was measured, by workload and job.
pub(crate) type Middles = BTreeMap<(String, String), BTreeMap<String, Middle>>;

impl Report {
    /// What was measured in this run and in another one.
    pub(crate) fn join(mut self, other: Self) -> Self {
        self.rows.extend(other.rows);
        Self {
            machine: other.machine,
            latency: other.latency.or(self.latency),
            restart: other.restart.or(self.restart),
            rows: self.rows,
        }
    }

    pub(crate) fn middles(&self) -> Middles {
        let mut groups: BTreeMap<(String, String), BTreeMap<String, Vec<&Row>>> = BTreeMap::new();
        for row in &self.rows {
            let of = groups.entry((row.workload.clone(), row.job.clone())).or_default();
            of.entry(row.who.clone()).or_default().push(row);
        }
        let groups = groups.into_iter();
        groups.map(|(name, of)| (name, of.into_iter().map(|(who, rows)| (who, Middle::of(&rows))).collect())).collect()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine)?;
        writeln!(
            f,
            "| workload | job | who | seconds | from the first record | CPU s | peak MiB | anonymous MiB | ÷ floor | peer ÷ |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|")?;
        for ((workload, job), by_who) in &self.middles() {
            for who in ["floor", "datamill", "peer"] {
                let Some(middle) = by_who.get(who) else { continue };
                let over_floor =
                    by_who.get("floor").map_or(String::new(), |floor| ratio(middle.since_first, floor.since_first));
                let peer_over = match (who, by_who.get("peer")) {
                    ("datamill", Some(peer)) if peer.did_not_finish => format!(
                        "> {}, {:.0} at its rate",
                        ratio(peer.seconds, middle.seconds),
                        peer.seconds / peer.share / middle.seconds
                    ),
                    ("datamill", Some(peer)) => ratio(peer.seconds, middle.seconds),
                    _ => String::new(),
                };
                let unfinished = match middle {
                    Middle { did_not_finish: true, share, .. } => format!(" ({:.1} % done)", 100.0 * share),
                    _ => String::new(),
                };
                let Middle { seconds, since_first, cpu_seconds, peak_mib, anonymous_mib, .. } = middle;
                writeln!(
                    f,
                    "| {workload} | {job} | {who} | {seconds:.3}{unfinished} | {since_first:.3} | {cpu_seconds:.2} | {peak_mib:.0} | {anonymous_mib:.0} | {over_floor} | {peer_over} |"
                )?;
            }
        }
        if let Some(Latency { files, p50, p90, p99, most }) = &self.latency {
            writeln!(
                f,
                "\nFrom a file's last chunk to its result, {files} files, ms: p50 {p50:.0}, p90 {p90:.0}, p99 {p99:.0}, most {most:.0}"
            )?;
        }
        if let Some(Restart { topic_bytes, file_bytes, messages_read_again, bytes_read_again, seconds }) = &self.restart
        {
            let mib = |bytes: &u64| bytes >> 20;
            writeln!(
                f,
                "\nAfter a kill with one file of {} MiB in flight in a topic of {} MiB: {messages_read_again} messages with {} MiB read again, {seconds:.2} s from the start to the end",
                mib(file_bytes),
                mib(topic_bytes),
                mib(bytes_read_again)
            )?;
        }
        Ok(())
    }
}

fn ratio(a: f64, b: f64) -> String {
    format!("{:.2}", a / b)
}
