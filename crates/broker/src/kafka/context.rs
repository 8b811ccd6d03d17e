//! What librdkafka tells its clients on the side, and what becomes of it: log lines go to tracing,
//! errors of the connection to the [`Watch`] of the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel as Level;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::message::Message;
use rdkafka::producer::{NoCustomPartitioner, ProducerContext};
use tracing::{debug, warn};

use super::failure::{self, Reason};
use super::watch::Watch;
use crate::contract::Placed;

/// The context of a client that asks or reads, and the common part of the others.
pub(super) struct Notes {
    pub(super) watch: Arc<Watch>,
    end: Mutex<Option<i64>>,
    reason: Mutex<Option<String>>,
}

impl Notes {
    pub(super) fn new(watch: &Arc<Watch>) -> Self {
        Self { watch: watch.clone(), end: Mutex::new(None), reason: Mutex::new(None) }
    }

    /// The offset of the end of a partition that `poll` has just reported: rdkafka's error holds only the
    /// number of the partition.
    pub(super) fn take_end(&self) -> Option<i64> {
        self.end.lock().take()
    }

    /// librdkafka's words for the error that `poll` has just reported.
    pub(super) fn take_reason(&self) -> Option<Reason> {
        self.reason.lock().take().map(Reason)
    }
}

impl ClientContext for Notes {
    fn log(&self, level: Level, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        match failure::code(&error) {
            Some(Code::PartitionEOF) => *self.end.lock() = end_offset(reason),
            Some(code) => {
                debug!(target: "librdkafka", error = %reason, "{code}");
                self.watch.note(code, reason);
                *self.reason.lock() = Some(reason.to_owned());
            }
            None => {}
        }
    }
}

impl ConsumerContext for Notes {}

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Undelivered {
    pub(super) code: Code,
    pub(super) topic: String,
    pub(super) partition: i32,
    /// Key and value.
    pub(super) bytes: usize,
    pub(super) has_key: bool,
}

/// What became of the record with this token.
pub(super) type Done = (usize, Result<Placed, Undelivered>);

/// The context of a client that sends: it keeps the deliveries until they are asked for. There are never
/// more of them than records that the client took on.
pub(super) struct Deliveries {
    notes: Notes,
    done: Mutex<Vec<Done>>,
    failed: AtomicBool,
    /// The topic that the last transaction was not allowed to write to.
    barred: Mutex<Option<String>>,
}

impl Deliveries {
    pub(super) fn new(watch: &Arc<Watch>) -> Self {
        let (done, failed) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        Self { notes: Notes::new(watch), done, failed, barred: Mutex::new(None) }
    }

    /// The topic that librdkafka named last as one that cannot become part of a transaction: the error that
    /// it gives later does not.
    pub(super) fn take_barred(&self) -> Option<String> {
        self.barred.lock().take()
    }

    /// Whether a record since the last call of [`Deliveries::take`] was not delivered.
    pub(super) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The deliveries since the last call, with the token of each record.
    pub(super) fn take(&self) -> Vec<Done> {
        let mut done = self.done.lock();
        self.failed.store(false, Ordering::Relaxed);
        std::mem::take(&mut *done)
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: Level, facility: &str, text: &str) {
        if facility == "ADDPARTS"
            && let Some(topic) = barred_topic(text)
        {
            *self.barred.lock() = Some(topic.to_owned());
        }
        log(level, facility, text);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.notes.error(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        let outcome = match result {
            Ok(message) => Ok(Placed { partition: message.partition(), offset: message.offset() }),
            Err((error, message)) => Err(Undelivered {
                code: failure::code(error).unwrap_or(Code::Fail),
                topic: message.topic().to_owned(),
                partition: message.partition(),
                bytes: message.key_len() + message.payload_len(),
                has_key: message.key().is_some(),
            }),
        };
        let mut done = self.done.lock();
        self.failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
        done.push((token, outcome));
    }
}

/// Lines about single connections are many in an outage and say nothing that [`Watch`] does not say.
fn log(level: Level, facility: &str, text: &str) {
    // What passes by itself, or is said by the call that it fails.
    let told_elsewhere = matches!(
        facility,
        "FAIL"
            | "ERROR"
            | "BROKERFAIL"
            | "REQTMOUT"
            | "CONFWARN"
            | "GETSUBSCRIPTIONS"
            | "GETPID"
            | "TXNERR"
            | "ADDPARTS"
            | "ADDOFFSETS"
            | "FATAL"
            | "METADATAUPDATE"
            | "REBALANCE"
            | "SESSTMOUT"
    );
    match level {
        Level::Emerg | Level::Alert | Level::Critical | Level::Error if !told_elsewhere => {
            tracing::error!(target: "librdkafka", "{facility}: {text}");
        }
        Level::Warning if !told_elsewhere => warn!(target: "librdkafka", "{facility}: {text}"),
        _ => debug!(target: "librdkafka", "{facility}: {text}"),
    }
}

/// The topic in librdkafka's "… Failed to add partition "TOPIC" [0] to transaction: Broker: Topic authorization failed".
fn barred_topic(text: &str) -> Option<&str> {
    let (place, why) = text.split_once(" to transaction: ")?;
    let (_, topic) = place.split_once('"')?;
    let (topic, _) = topic.rsplit_once('"')?;
    why.contains("authorization").then_some(topic)
}

/// The offset in librdkafka's "… reached end of partition at offset N (HighwaterMark …)".
fn end_offset(reason: &str) -> Option<i64> {
    let (_, rest) = reason.split_once("at offset ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_partition_is_read_from_librdkafkas_words() {
        let reason = "Fetch from broker 1 reached end of partition at offset 42 (HighwaterMark 45)";
        assert_eq!(end_offset(reason), Some(42));
        assert_eq!(end_offset("something else"), None);
    }

    #[test]
    fn a_topic_that_may_not_be_written_to_is_read_from_librdkafkas_words() {
        let said = |why| format!("1: Failed to add partition \"a.b\" [0] to transaction: Broker: {why}");
        assert_eq!(barred_topic(&said("Topic authorization failed")), Some("a.b"));
        assert_eq!(barred_topic(&said("Not attempted")), None);
    }
}
