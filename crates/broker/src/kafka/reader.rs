//! Reads partitions of one topic between offsets, without a group: partitions are assigned by hand.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::{self, Cluster};
use super::context::Notes;
use super::failure;
use super::native;
use super::throttle::{self, Quota};
use crate::contract::{Event, Reader, Record};
use crate::error::{Error, ErrorKind, Result};
use crate::examined::Operation;
use crate::permission::Permission;

/// What one call of `poll` has handed out so far, and whether that is enough: the caller may keep copies.
#[derive(Debug, Default)]
pub(super) struct Handed {
    pub(super) events: usize,
    bytes: usize,
}

impl Handed {
    /// A record of so many bytes was handed out.
    pub(super) fn record(&mut self, bytes: usize) {
        self.events += 1;
        self.bytes += bytes;
    }

    /// Whether the next event is for the next call.
    pub(super) fn enough(&self) -> bool {
        self.events >= 1000 || self.bytes >= 1 << 20
    }

    /// How long to wait for the next event: only the first is waited for.
    pub(super) fn wait(&self, timeout: Duration) -> Duration {
        if self.events == 0 { timeout } else { Duration::ZERO }
    }
}

/// See the module.
pub(super) struct KafkaReader {
    cluster: Arc<Cluster>,
    consumer: BaseConsumer<Notes>,
    topic: String,
    /// By partition: the next offset, and the end that was told last.
    places: HashMap<i32, Place>,
}

/// Where reading a partition has come to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The offset after the last record handed out.
    pub(super) next: i64,
    /// The end that was handed out since the last record.
    pub(super) end: Option<i64>,
}

impl Place {
    pub(super) fn at(next: i64) -> Self {
        Self { next, end: None }
    }

    /// A record is handed out; false if it was handed out before.
    pub(super) fn record(&mut self, offset: i64) -> bool {
        let fresh = offset >= self.next;
        if fresh {
            *self = Self::at(offset + 1);
        }
        fresh
    }

    /// The end is reached; false if that was told before.
    pub(super) fn end(&mut self, offset: i64) -> bool {
        let fresh = self.end != Some(offset);
        self.end = Some(offset);
        fresh
    }
}

impl KafkaReader {
    pub(super) fn open(cluster: &Arc<Cluster>, topic: &str, starts: &[(i32, i64)]) -> Result<Self> {
        let partitions = cluster.partitions(topic).map_err(to_read)?;
        let mut list = TopicPartitionList::new();
        let mut places = HashMap::new();
        for (partition, start) in starts {
            if !(0..partitions).contains(partition) {
                return Err(failure::unknown_partition(topic, *partition, partitions));
            }
            let (first, _) = cluster.first_and_stable(topic, *partition).map_err(to_read)?;
            let start = (*start).max(first);
            add(&mut list, topic, *partition, start)?;
            places.insert(*partition, Place::at(start));
        }
        let consumer: BaseConsumer<Notes> = cluster
            .settings
            .reader()
            .create_with_context(Notes::new(&cluster.watch))
            .map_err(|error| cluster::client_refused(error, "a reader"))?;
        throttle::listen(consumer.client(), &cluster.watch, Quota::Reading);
        consumer.assign(&list).map_err(|error| assign_failed(error, topic))?;
        Ok(Self { cluster: cluster.clone(), consumer, topic: topic.to_owned(), places })
    }

    /// What an error of the consumer means: nothing for those that pass.
    fn judge(&self, error: &KafkaError) -> Result<()> {
        let reason = self.consumer.context().take_reason();
        let Some(code) = failure::code(error) else {
            return Ok(());
        };
        match failure::kind(code) {
            // No group is joined, so no permission on one is needed.
            ErrorKind::Denied if code == Code::GroupAuthorizationFailed => Ok(()),
            ErrorKind::OffsetOutOfRange => {
                let places: Vec<(&str, i32, i64)> = self
                    .places
                    .iter()
                    .map(|(partition, place)| (self.topic.as_str(), *partition, place.next))
                    .collect();
                Err(out_of_range(&self.cluster, &places, reason.unwrap_or(failure::Reason(code.to_string()))))
            }
            ErrorKind::UnknownTopic if self.cluster.is_deleted(&self.topic) => Err(Error::topic_deleted(&self.topic)),
            ErrorKind::UnknownTopic => match self.cluster.partitions(&self.topic) {
                Ok(count) => match self.places.keys().find(|partition| **partition >= count) {
                    Some(partition) => Err(failure::unknown_partition(&self.topic, *partition, count)),
                    // A broker that has not heard of the topic yet says the same.
                    None => Ok(()),
                },
                Err(_) => Ok(()),
            },
            _ if is_final(code) => Err(failure::failed_code(
                code,
                format!("cannot read topic `{}`", self.topic),
                Permission::on_topic(Operation::Read, &self.topic),
            )),
            _ => Ok(()),
        }
    }
}

fn add(list: &mut TopicPartitionList, topic: &str, partition: i32, start: i64) -> Result<()> {
    let added = list.add_partition_offset(topic, partition, Offset::Offset(start));
    added.map_err(|error| assign_failed(error, topic))
}

fn assign_failed(error: KafkaError, topic: &str) -> Error {
    failure::failed(error, format!("cannot read topic `{topic}`"), Permission::on_topic(Operation::Read, topic))
}

fn to_read(error: Error) -> Error {
    error.for_use(Operation::Read)
}

/// Whether reading cannot go on after this error. librdkafka tries again after all others, also after a
/// refused login: what checks it may be away for a while.
pub(super) fn is_final(code: Code) -> bool {
    !failure::is_login(code)
        && matches!(
            failure::kind(code),
            ErrorKind::Denied
                | ErrorKind::DeniedExactlyOnce
                | ErrorKind::Fenced
                | ErrorKind::Fatal
                | ErrorKind::OffsetOutOfRange
                | ErrorKind::Settings
                | ErrorKind::UnknownTopic
        )
}

/// The error for positions that the log does not have: it names the first that lies outside.
pub(super) fn out_of_range(cluster: &Cluster, places: &[(&str, i32, i64)], reason: failure::Reason) -> Error {
    for (topic, partition, next) in places {
        if let Ok(ends) = cluster.offsets(topic, *partition)
            && !(ends.first..=ends.end).contains(next)
        {
            let text = format!(
                "offset {next} of partition {partition} of topic `{topic}` is not in the log, which goes from {} to {}",
                ends.first, ends.end
            );
            return Error::with_source(ErrorKind::OffsetOutOfRange, text, reason);
        }
    }
    let topics: Vec<String> =
        places.iter().map(|(topic, partition, next)| format!("{topic}/{partition}@{next}")).collect();
    let text = format!("a position is not in the log: one of `{}`", topics.join(" "));
    Error::with_source(ErrorKind::OffsetOutOfRange, text, reason)
}

/// A record that borrows from a message.
pub(super) fn record<'a>(message: &'a BorrowedMessage<'_>) -> Record<'a> {
    Record {
        topic: message.topic(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key(),
        value: message.payload(),
        headers: native::headers(message),
    }
}

impl Reader for KafkaReader {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let mut handed = Handed::default();
        self.cluster.check_login()?;
        while !handed.enough() {
            match self.consumer.poll(handed.wait(timeout)) {
                None => break,
                Some(Ok(message)) => {
                    let fresh =
                        self.places.get_mut(&message.partition()).is_some_and(|place| place.record(message.offset()));
                    if fresh {
                        sink(Event::Record(record(&message)));
                        handed.record(message.key_len() + message.payload_len());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let Some(offset) = self.consumer.context().take_end() else {
                        continue;
                    };
                    if self.places.get_mut(&partition).is_some_and(|place| place.end(offset)) {
                        sink(Event::End { topic: &self.topic, partition, offset });
                        handed.events += 1;
                    }
                }
                Some(Err(error)) => self.judge(&error)?,
            }
        }
        Ok(handed.events)
    }

    /// librdkafka numbers the assignments, and drops what was fetched for an earlier one.
    fn go_to(&mut self, starts: &[(i32, i64)]) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for (partition, start) in starts {
            add(&mut list, &self.topic, *partition, *start)?;
        }
        self.places = starts.iter().map(|(partition, start)| (*partition, Place::at(*start))).collect();
        self.consumer.assign(&list).map_err(|error| assign_failed(error, &self.topic))
    }
}
