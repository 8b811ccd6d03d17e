//! What was done to the programs, and how long it kept them from their work.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::check::Seen;
use crate::members::field;

/// Two kills within this time disturb the same results.
const NEAR_MS: i64 = 3000;

/// A kill -9 of a worker.
#[derive(Debug, Clone)]
pub struct Kill {
    pub at_ms: i64,
    /// When it was started again.
    pub back_ms: Option<i64>,
    /// The partitions that it had.
    pub partitions: BTreeSet<i32>,
}

impl Kill {
    /// Whether the partition may be without a worker for this kill at that time.
    fn disturbs(&self, partition: i32, at_ms: i64) -> bool {
        (self.partitions.is_empty() || self.partitions.contains(&partition)) && (at_ms - self.at_ms).abs() < NEAR_MS
    }
}

/// Counts of a run.
#[derive(Debug, Default)]
pub struct Report {
    pub kills: Vec<Kill>,
    /// Kills of commands and of the processes that look after them.
    pub kills_below: u64,
    pub broker_kills: u64,
    /// Kills whose worker was away for two sessions.
    pub lost_hosts: u64,
    pub pauses: u64,
    pub pauses_beyond_session: u64,
    pub leaves: u64,
    pub terms: u64,
    pub joins: u64,
    pub twins: u64,
    pub uploader_kills: u64,
    pub skipped: usize,
    /// Workers that were started.
    pub starts: u64,
    /// Workers that ended because another process had taken their place.
    pub replaced: u64,
    /// Workers that ended by themselves otherwise, and uploads that had to be repeated: how often.
    pub exits: BTreeMap<String, u64>,
    pub faults: Vec<String>,
    pub records: u64,
    pub bytes: u64,
    pub disturbed: Duration,
    pub whole: Duration,
    logs: Logs,
    gaps: Gaps,
}

/// What the workers' logs say.
#[derive(Debug, Default)]
struct Logs {
    assignments: u64,
    revocations: u64,
    lost: u64,
    read_again: u64,
    commits_again: u64,
    sessions_again: u64,
}

/// Milliseconds without a result.
#[derive(Debug, Default)]
struct Gaps {
    usual: Vec<i64>,
    killed: Vec<i64>,
    since_back: Vec<i64>,
    others: Vec<i64>,
}

impl Report {
    /// Reads the workers' logs.
    pub fn read_logs(&mut self, folder: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("uploader") {
                continue;
            }
            let text = fs::read(entry.path())?;
            for line in String::from_utf8_lossy(&text).lines() {
                let logs = &mut self.logs;
                if line.contains("partitions assigned") && field(line, "partitions") != Some("none") {
                    logs.assignments += 1;
                } else if line.contains("partitions revoked") {
                    logs.revocations += 1;
                    logs.lost += u64::from(field(line, "lost") == Some("true"));
                } else if line.contains("a commit did not happen") {
                    logs.commits_again += 1;
                } else if line.contains("starting again from what is committed") {
                    logs.sessions_again += 1;
                }
                if let Some(count) = field(line, "read_again").and_then(|count| count.parse::<u64>().ok()) {
                    logs.read_again += count;
                }
            }
        }
        Ok(())
    }

    /// Measures how long partitions went without a result.
    pub fn measure(&mut self, results: &[Seen], until_ms: i64) {
        let mut times: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for seen in results {
            if let Some(partition) = seen.offsets.split(':').next().and_then(|text| text.parse().ok()) {
                times.entry(partition).or_default().push(seen.at_ms);
            }
        }
        for times in times.values_mut() {
            times.sort_unstable();
            self.gaps.usual.extend(times.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0));
        }
        for kill in self.kills.iter().filter(|kill| kill.at_ms < until_ms) {
            for (partition, times) in &times {
                let Some(next) = times.iter().find(|time| **time > kill.at_ms) else { continue };
                if kill.partitions.contains(partition) {
                    self.gaps.killed.push(next - kill.at_ms);
                    if let Some(back) = kill.back_ms {
                        self.gaps.since_back.push(next - back);
                    }
                } else if !self.kills.iter().any(|other| other.disturbs(*partition, kill.at_ms)) {
                    self.gaps.others.push(next - kill.at_ms);
                }
            }
        }
    }
}

/// Median, 90th percentile and largest of some times.
fn spread(times: &[i64]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let Some(most) = times.last() else { return "none".to_owned() };
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    format!("p50 {} ms, p90 {} ms, p99 {} ms, most {most} ms ({} times)", at(50), at(90), at(99), times.len())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let early = self.kills.iter().filter(|kill| kill.partitions.is_empty()).count();
        writeln!(f, "kill -9 of workers {} ({early} of them without partitions)", self.kills.len())?;
        if self.lost_hosts > 0 {
            writeln!(f, "  lost with the host {}", self.lost_hosts)?;
        }
        if self.kills_below > 0 {
            writeln!(f, "  below workers     {}", self.kills_below)?;
        }
        writeln!(f, "kill -9 of broker  {}", self.broker_kills)?;
        writeln!(f, "kill -9 of uploads {}", self.uploader_kills)?;
        writeln!(f, "paused workers     {} ({} beyond the session)", self.pauses, self.pauses_beyond_session)?;
        writeln!(f, "left, kept, joined {}, {}, {}", self.leaves, self.terms, self.joins)?;
        writeln!(f, "twins              {}, ended as replaced {}", self.twins, self.replaced)?;
        if self.skipped > 0 {
            writeln!(f, "skipped steps      {} (the time was over)", self.skipped)?;
        }
        let logs = &self.logs;
        writeln!(f, "starts of workers  {}", self.starts)?;
        writeln!(f, "assignments        {}, revocations {} ({} lost)", logs.assignments, logs.revocations, logs.lost)?;
        writeln!(f, "commits repeated   {}, sessions begun again {}", logs.commits_again, logs.sessions_again)?;
        writeln!(
            f,
            "records            {} ({} MB), read again {}",
            self.records,
            self.bytes / 1_000_000,
            logs.read_again
        )?;
        writeln!(f, "between results of a partition  {}", spread(&self.gaps.usual))?;
        writeln!(f, "killed: to the next result      {}", spread(&self.gaps.killed))?;
        writeln!(f, "  since it was started again    {}", spread(&self.gaps.since_back))?;
        writeln!(f, "others: to the next result      {}", spread(&self.gaps.others))?;
        for (text, times) in &self.exits {
            writeln!(f, "  {times} times: {text}")?;
        }
        write!(
            f,
            "duration           {:.0} s disturbed, {:.0} s in all",
            self.disturbed.as_secs_f64(),
            self.whole.as_secs_f64()
        )
    }
}
