//! How far a group is behind: in messages, seconds, files and bytes.
//!
//! ```text
//!            finished │ open, in hand, ready │ never read
//!  ───────────────────┼──────────────────────┼──────────────▶ offsets
//!                     │ Backlog: exact       ▲ next         ▲ last stable offset
//!                     └ its oldest record decides the seconds; without one, the record at `next` does
//! ```
//!
//! Committed offsets alone mislead: a position stays at the oldest open file, and the last offset of a topic that is
//! written in transactions is a marker, which is no message. So the thread that reads is asked what it has, and the log
//! how much there is. How many files and bytes the records hold that nobody has read is told from the last ones that were.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_broker::{Event, Log};
use parking_lot::Mutex as ShortMutex;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::facts::{Backlog, Counters, Counts};
use crate::report::chain;

/// The log is asked at most this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long somebody who asks is kept waiting for the thread that reads, and for the log: a scraper that gets no answer
/// at all takes the program for dead.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// A look that is older says nothing any more.
const OLDEST_LOOK: Duration = Duration::from_secs(30);

/// How long reading the oldest record of each partition may take.
const READ_WITHIN: Duration = Duration::from_secs(3);

/// So many messages, the last that were read, tell how many files and bytes are in those that were not.
const TELLING: u64 = 10_000;

/// What a program reads, and as which group.
#[derive(Clone)]
pub struct Source {
    /// The topic of the files.
    pub topic: String,
    /// The group.
    pub group: String,
    /// The name of the program in its group.
    pub instance: String,
    /// Where the topic is.
    pub log: Arc<dyn Log>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("topic", &self.topic).field("group", &self.group).finish_non_exhaustive()
    }
}

/// Files and bytes in a message, on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Density {
    pub(crate) files: f64,
    pub(crate) bytes: f64,
}

/// The last messages that were read, in steps.
#[derive(Debug)]
struct Steps(VecDeque<(u64, u64, u64)>);

impl Steps {
    fn new() -> Self {
        Self(VecDeque::from([(0, 0, 0)]))
    }

    fn step(&mut self, counts: &Counts) {
        let now = (counts.messages_read, counts.begun, counts.bytes_read);
        if self.0.back() != Some(&now) {
            self.0.push_back(now);
        }
        // the oldest step stays that has enough messages behind it
        while self.0.get(1).is_some_and(|second| now.0 - second.0 >= TELLING) {
            self.0.pop_front();
        }
    }

    fn density(&self) -> Option<Density> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let messages = (last.0 - first.0) as f64;
        let per_message = |all: u64| all as f64 / messages;
        (messages > 0.0).then(|| Density { files: per_message(last.1 - first.1), bytes: per_message(last.2 - first.2) })
    }
}

/// How far a partition is behind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PartitionLag {
    pub(crate) read: Backlog,
    /// Messages that were never read.
    pub(crate) unread: u64,
    /// Time of the oldest message without an outcome. `None` where it could not be read.
    pub(crate) oldest_ms: Option<i64>,
}

impl PartitionLag {
    /// Messages without an outcome.
    pub(crate) fn messages(&self) -> u64 {
        self.read.messages + self.unread
    }

    /// Age of the oldest upload without an outcome, in seconds. 0 where there is none.
    pub(crate) fn seconds(&self, now_ms: i64) -> Option<f64> {
        if self.read.files == 0 && self.unread == 0 {
            return Some(0.0);
        }
        self.oldest_ms.map(|oldest| now_ms.saturating_sub(oldest).max(0) as f64 / 1000.0)
    }

    /// About how many files begin in the messages that were never read, and how many bytes they hold.
    pub(crate) fn estimate(&self, density: Option<Density>) -> Option<(f64, f64)> {
        let unread = self.unread as f64;
        match density {
            _ if self.unread == 0 => Some((0.0, 0.0)),
            Some(density) => Some((unread * density.files, unread * density.bytes)),
            None => None,
        }
    }
}

/// How far the partitions of this process are behind.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lag {
    pub(super) partitions: Vec<PartitionLag>,
    pub(super) density: Option<Density>,
}

/// All partitions together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sum {
    pub(super) messages: u64,
    pub(super) seconds: Option<f64>,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// What is estimated besides.
    pub(super) estimate: Option<(f64, f64)>,
}

impl Lag {
    pub(super) fn sum(&self, now_ms: i64) -> Sum {
        let none = Sum { messages: 0, seconds: Some(0.0), files: 0, bytes: 0, estimate: Some((0.0, 0.0)) };
        self.partitions.iter().fold(none, |sum, partition| Sum {
            messages: sum.messages + partition.messages(),
            seconds: sum.seconds.zip(partition.seconds(now_ms)).map(|(one, other)| one.max(other)),
            files: sum.files + partition.read.files,
            bytes: sum.bytes + partition.read.bytes,
            estimate: sum.estimate.zip(partition.estimate(self.density)).map(|(a, b)| (a.0 + b.0, a.1 + b.1)),
        })
    }
}

/// What a look has found.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Look {
    /// The lag as it was some seconds ago at most. `None` where this process reads nothing now, or the log does not answer.
    pub(super) lag: Option<Lag>,
    /// For so long the log has not answered.
    pub(super) silent: Option<Duration>,
}

/// Looks at the lag for those who ask.
#[derive(Debug)]
pub(super) struct Lags {
    source: Source,
    counters: Arc<Counters>,
    steps: ShortMutex<Steps>,
    kept: Mutex<Kept>,
}

/// What is known between two looks.
#[derive(Debug, Default)]
struct Kept {
    lag: Option<(Instant, Arc<Vec<PartitionLag>>)>,
    last_look: Option<Instant>,
    /// When the log was asked first of all questions that have no answer.
    unanswered: Option<Instant>,
    pending: Option<JoinHandle<Option<Looked>>>,
    /// Times of records at which reading stands still, by partition: offset and time.
    times: BTreeMap<i32, (i64, i64)>,
}

type Looked = (Vec<PartitionLag>, BTreeMap<i32, (i64, i64)>);

impl Lags {
    pub(super) fn new(source: Source, counters: Arc<Counters>) -> Self {
        Self { source, counters, steps: ShortMutex::new(Steps::new()), kept: Mutex::default() }
    }

    /// Notes how much was read until now. Call it every few seconds.
    pub(super) fn step(&self) {
        self.steps.lock().step(&self.counters.counts());
    }

    /// Looks again where the last look is some seconds old, as of `now`.
    pub(super) async fn look(&self, now: Instant) -> Look {
        let mut kept = self.kept.lock().await;
        if kept.pending.is_some() || kept.last_look.is_none_or(|at| now.duration_since(at) >= LOOK_EVERY) {
            self.look_again(&mut kept, now).await;
        }
        self.step();
        let density = self.steps.lock().density();
        let recent = kept.lag.as_ref().filter(|(at, _)| now.duration_since(*at) < OLDEST_LOOK);
        Look {
            lag: recent.map(|(_, partitions)| Lag { partitions: partitions.to_vec(), density }),
            silent: kept.unanswered.map(|at| now.duration_since(at)),
        }
    }

    async fn look_again(&self, kept: &mut Kept, now: Instant) {
        let mut pending = match kept.pending.take() {
            // it was waited for before
            Some(pending) if !pending.is_finished() => {
                kept.pending = Some(pending);
                return;
            }
            Some(pending) => pending,
            None => {
                kept.last_look = Some(now);
                let Some(backlog) = self.backlog().await else {
                    kept.lag = None;
                    return;
                };
                let (source, times) = (self.source.clone(), kept.times.clone());
                tokio::task::spawn_blocking(move || {
                    let looked = look(&source, &backlog, times);
                    looked.inspect_err(|error| tracing::debug!(error = %chain(error), "the lag is not known")).ok()
                })
            }
        };
        match tokio::time::timeout(LOOK_WITHIN, &mut pending).await {
            Ok(Ok(Some((partitions, times)))) => {
                kept.lag = Some((now, Arc::new(partitions)));
                (kept.times, kept.unanswered) = (times, None);
                return;
            }
            Ok(_) => {}
            // a log that does not answer is asked once, and not by one thread after another
            Err(_) => kept.pending = Some(pending),
        }
        kept.unanswered = kept.unanswered.or(kept.last_look);
    }

    /// What the thread that reads has without an outcome.
    async fn backlog(&self) -> Option<Arc<[Backlog]>> {
        self.counters.ask_backlog();
        let asked = Instant::now();
        loop {
            if let Some(backlog) = self.counters.backlog() {
                return Some(backlog);
            }
            if asked.elapsed() >= ANSWER_WITHIN {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Asks the log how much there is, and reads the oldest record where nothing that was read is open.
fn look(source: &Source, backlog: &[Backlog], mut times: BTreeMap<i32, (i64, i64)>) -> datamill_broker::Result<Looked> {
    let (log, topic) = (source.log.as_ref(), source.topic.as_str());
    let mut partitions = Vec::with_capacity(backlog.len());
    let mut starts = Vec::new();
    for read in backlog {
        let offsets = log.offsets(topic, read.partition)?;
        let next = read.next.max(offsets.first);
        let unread = u64::try_from(offsets.last_stable - next).unwrap_or(0);
        if read.files == 0 && unread > 0 && times.get(&read.partition).is_none_or(|(offset, _)| *offset != next) {
            starts.push((read.partition, next));
        }
        partitions.push((PartitionLag { read: *read, unread, oldest_ms: read.oldest_ms }, next));
    }
    if !starts.is_empty() {
        read_times(log, topic, &starts, &mut times)?;
    }
    for (partition, next) in &mut partitions {
        if partition.read.files == 0 {
            let time = times.get(&partition.read.partition).filter(|(offset, _)| offset == next);
            partition.oldest_ms = time.map(|(_, time_ms)| *time_ms);
        }
    }
    let owned: BTreeSet<i32> = backlog.iter().map(|read| read.partition).collect();
    times.retain(|partition, _| owned.contains(partition));
    Ok((partitions.into_iter().map(|(partition, _)| partition).collect(), times))
}

/// The time of the first record of each partition from these offsets on.
pub(crate) fn read_times(
    log: &dyn Log,
    topic: &str,
    starts: &[(i32, i64)],
    times: &mut BTreeMap<i32, (i64, i64)>,
) -> datamill_broker::Result<()> {
    let mut reader = log.reader(topic, starts)?;
    let mut missing: BTreeMap<i32, i64> = starts.iter().copied().collect();
    let begun = Instant::now();
    while !missing.is_empty() && begun.elapsed() < READ_WITHIN {
        reader.poll(Duration::from_millis(100), &mut |event| match event {
            Event::Record(record) => {
                if let Some(start) = missing.remove(&record.partition)
                    && let Some(time_ms) = record.timestamp_ms
                {
                    times.insert(record.partition, (start, time_ms));
                }
            }
            // markers alone
            Event::End { partition, .. } => drop(missing.remove(&partition)),
            Event::Assigned(_) | Event::Revoked { .. } => {}
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(messages_read: u64, begun: u64, bytes_read: u64) -> Counts {
        Counts { messages_read, begun, bytes_read, ..Counts::default() }
    }

    #[test]
    fn the_last_messages_tell_what_the_unread_ones_hold() {
        let mut steps = Steps::new();
        assert_eq!(steps.density(), None);
        steps.step(&counts(20_000, 20_000, 20_000));
        assert_eq!(steps.density(), Some(Density { files: 1.0, bytes: 1.0 }));
        for thousand in 1..=10 {
            steps.step(&counts(20_000 + thousand * 1000, 20_000 + thousand * 100, 20_000 + thousand * 50_000));
        }
        assert_eq!(steps.density(), Some(Density { files: 0.1, bytes: 50.0 }));
        for _ in 0..1000 {
            steps.step(&counts(30_000, 21_000, 520_000));
        }
        assert!(steps.0.len() <= 11, "{}", steps.0.len());
    }

    fn lag(files: u64, unread: u64, oldest_ms: Option<i64>) -> PartitionLag {
        let read = Backlog { files, messages: files * 2, bytes: files * 20, ..Backlog::default() };
        PartitionLag { read, unread, oldest_ms }
    }

    #[test]
    fn partitions_add_up_and_the_oldest_upload_counts() {
        let density = Some(Density { files: 0.5, bytes: 10.0 });
        let lag = Lag { partitions: vec![lag(3, 0, Some(4_000)), lag(0, 100, Some(1_000)), lag(0, 0, None)], density };
        let sum = lag.sum(11_000);
        assert_eq!((sum.messages, sum.files, sum.bytes), (106, 3, 60));
        assert_eq!((sum.seconds, sum.estimate), (Some(10.0), Some((50.0, 1000.0))));
    }

    #[test]
    fn what_is_not_known_is_not_told_and_nothing_left_is_nothing() {
        let sum = |partitions: Vec<PartitionLag>| Lag { partitions, density: None }.sum(11_000);
        let unknown = sum(vec![lag(0, 100, None)]);
        assert_eq!((unknown.messages, unknown.seconds, unknown.estimate), (100, None, None));
        let none = sum(vec![lag(0, 0, None)]);
        assert_eq!((none.messages, none.seconds, none.estimate), (0, Some(0.0), Some((0.0, 0.0))));
        assert_eq!(lag(1, 0, Some(99_000)).seconds(11_000), Some(0.0), "a time in the future");
    }
}
