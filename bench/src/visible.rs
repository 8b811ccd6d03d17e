//! When the last result of a topic could be read by anybody who reads what is committed.
//!
//! While the results come, only the end of what is committed is asked for, so that the looking takes
//! little from what is measured. Afterwards everything is read and counted.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{Message, Offset, TopicPartitionList};

use datamill_floor::{client, now_us, partitions, reader};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the results may take to be read.
const LIMIT: Duration = Duration::from_secs(60);

/// Looks at a topic of results while they come.
pub(crate) struct Visible {
    kafka: String,
    topic: String,
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
        let (end, stop) = <(Arc<AtomicU64>, Arc<AtomicBool>)>::default();
        let thread = {
            let (topic, end, stop) = (topic.to_owned(), Arc::clone(&end), Arc::clone(&stop));
            std::thread::spawn(move || look(&consumer, &topic, partitions, &end, &stop))
        };
        Ok(Self { kafka: kafka.to_owned(), topic: topic.to_owned(), end, stop, thread })
    }

    /// Records that can be read, those that mark the ends of transactions included.
    pub(crate) fn records(&self) -> u64 {
        self.end.load(Relaxed)
    }

    /// Ends the looking: when the end moved for the last time, microseconds since the epoch.
    pub(crate) fn stop(self) -> Result<u64> {
        std::thread::sleep(PAUSE * 3);
        self.stop.store(true, Relaxed);
        self.thread.join().map_err(|_| anyhow!("the look at the results failed"))?
    }

    /// Ends the looking, and counts.
    pub(crate) fn finish(self) -> Result<Found> {
        let (kafka, topic) = (self.kafka.clone(), self.topic.clone());
        let last_us = self.stop()?;
        let consumer = reader(&kafka, &topic)?;
        let mut open: HashSet<i32> = (0..partitions(&consumer, &topic)?).collect();
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
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                }
                Some(Err(error)) => return Err(error).context("the results cannot be read"),
            }
        }
        Ok(Found { last_us, results, keys: keys.len() as u64 })
    }
}

/// Sum of the ends of what is committed, over all partitions, by one request.
fn committed_ends(consumer: &BaseConsumer, topic: &str, partitions: i32) -> KafkaResult<u64> {
    let mut latest = TopicPartitionList::new();
    for partition in 0..partitions {
        // the time that stands for the end in Kafka's ListOffsets is the number that stands for it here
        latest.add_partition_offset(topic, partition, Offset::End)?;
    }
    let ends = consumer.offsets_for_times(latest, Duration::from_secs(10))?;
    ends.elements().iter().try_fold(0, |sum, end| {
        end.error()?;
        Ok(sum + u64::try_from(end.offset().to_raw().unwrap_or_default()).unwrap_or_default())
    })
}

/// Answers when the end moved for the last time.
fn look(consumer: &BaseConsumer, topic: &str, partitions: i32, end: &AtomicU64, stop: &AtomicBool) -> Result<u64> {
    let mut last_us = 0;
    let mut answered = Instant::now();
    while !stop.load(Relaxed) {
        match committed_ends(consumer, topic, partitions) {
            Ok(sum) => {
                answered = Instant::now();
                if sum > end.swap(sum, Relaxed) {
                    last_us = now_us();
                }
            }
            // a partition of a topic that was made a moment ago may have no leader
            Err(error) => ensure!(answered.elapsed() < LIMIT, "the end of the results cannot be read: {error}"),
        }
        std::thread::sleep(PAUSE);
    }
    Ok(last_us)
}
