//! When the last result of a topic could be read by anybody who reads what is committed.
//!
//! While the results come, only the end of what is committed is asked for, so that the looking takes
//! little from what is measured. Afterwards everything that came is read and counted.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Message, Offset, TopicPartitionList};

use datamill_floor::{client, now_us, partitions};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the results may take to be read.
const LIMIT: Duration = Duration::from_secs(60);

/// Looks at a topic of results while they come.
pub(crate) struct Visible {
    kafka: String,
    topic: String,
    /// The ends when the looking began, by partition.
    begin: Vec<u64>,
    /// Sum of the ends at the last look.
    end: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

/// What was found.
pub(crate) struct Found {
    /// When the last result could be read, microseconds since the epoch.
    pub(crate) last_us: u64,
    pub(crate) results: u64,
    /// Different keys of results.
    pub(crate) keys: u64,
}

impl Visible {
    /// Looks from now on.
    pub(crate) fn watch(kafka: &str, topic: &str) -> Result<Self> {
        let consumer = client(kafka)?;
        let partitions = partitions(&consumer, topic)?;
        let start = Instant::now();
        let begin = loop {
            match committed_ends(&consumer, topic, partitions) {
                Ok(ends) => break ends,
                Err(error) => cannot_look(start, &error)?,
            }
            std::thread::sleep(PAUSE);
        };
        let (end, stop) = (Arc::new(AtomicU64::new(begin.iter().sum())), Arc::<AtomicBool>::default());
        let thread = {
            let (topic, end, stop) = (topic.to_owned(), Arc::clone(&end), Arc::clone(&stop));
            std::thread::spawn(move || look(&consumer, &topic, partitions, &end, &stop))
        };
        Ok(Self { kafka: kafka.to_owned(), topic: topic.to_owned(), begin, end, stop, thread })
    }

    /// Records that came and can be read, those that mark the ends of transactions included.
    pub(crate) fn records(&self) -> u64 {
        self.end.load(Relaxed).saturating_sub(self.begin.iter().sum())
    }

    /// Ends the looking: when the end moved for the last time, microseconds since the epoch.
    pub(crate) fn stop(self) -> Result<u64> {
        std::thread::sleep(PAUSE * 3);
        self.stop.store(true, Relaxed);
        self.thread.join().map_err(|_| anyhow!("the look at the results failed"))?
    }

    /// Ends the looking, and counts.
    pub(crate) fn finish(self) -> Result<Found> {
        let consumer = client(&self.kafka)?;
        let (mut list, mut open) = (TopicPartitionList::new(), HashSet::new());
        for (partition, offset) in (0..).zip(&self.begin) {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(i64::try_from(*offset)?))?;
            open.insert(partition);
        }
        let last_us = self.stop()?;
        consumer.assign(&list)?;
        let (mut results, mut keys) = (0, HashSet::new());
        let start = Instant::now();
        while !open.is_empty() {
            ensure!(start.elapsed() < LIMIT, "the results cannot be read");
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => {
                    keys.insert(message.key().unwrap_or_default().to_owned());
                    results += 1;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => return Err(error).context("the results cannot be read"),
            }
        }
        Ok(Found { last_us, results, keys: keys.len() as u64 })
    }
}

/// The end of what is committed, of each partition, by one request.
fn committed_ends(consumer: &BaseConsumer, topic: &str, partitions: i32) -> KafkaResult<Vec<u64>> {
    let mut latest = TopicPartitionList::new();
    for partition in 0..partitions {
        // the time that stands for the end in Kafka's ListOffsets is the number that stands for it here
        latest.add_partition_offset(topic, partition, Offset::End)?;
    }
    let ends = consumer.offsets_for_times(latest, Duration::from_secs(10))?;
    let end = |end: &TopicPartitionListElem<'_>| {
        end.error()?;
        Ok(u64::try_from(end.offset().to_raw().unwrap_or_default()).unwrap_or_default())
    };
    ends.elements().iter().map(end).collect()
}

/// An error that passes, until it has lasted too long: a partition of a topic that was made a moment ago may have no
/// leader.
fn cannot_look(since: Instant, error: &KafkaError) -> Result<()> {
    ensure!(since.elapsed() < LIMIT, "the end of the results cannot be read: {error}");
    Ok(())
}

/// Answers when the end moved for the last time.
fn look(consumer: &BaseConsumer, topic: &str, partitions: i32, end: &AtomicU64, stop: &AtomicBool) -> Result<u64> {
    let mut last_us = 0;
    let mut answered = Instant::now();
    while !stop.load(Relaxed) {
        match committed_ends(consumer, topic, partitions) {
            Ok(ends) => {
                answered = Instant::now();
                let sum = ends.iter().sum();
                if sum > end.swap(sum, Relaxed) {
                    last_us = now_us();
                }
            }
            Err(error) => cannot_look(answered, &error)?,
        }
        std::thread::sleep(PAUSE);
    }
    Ok(last_us)
}
