//! Sends records outside of any group with an idempotent producer: acknowledged by all in-sync copies,
//! in order within a partition, none twice.
//!
//! ```text
//!   send ─▶ librdkafka's queue (bounded: `queue.buffering.max.kbytes`) ─▶ broker
//!   poll ◀─ deliveries, one for each record taken on ◀──────────────────────┘
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::cluster::{self, Cluster};
use super::config::Settings;
use super::context::{Deliveries, Undelivered};
use super::failure;
use super::throttle::{self, Quota};
use crate::contract::{Delivery, NewRecord, Publisher};
use crate::error::{Error, ErrorKind, Result};
use crate::examined::Operation;
use crate::permission::Permission;

/// The moment between two looks at librdkafka's queue of deliveries.
const MOMENT: Duration = Duration::from_micros(500);

/// See the module.
pub(super) struct KafkaPublisher {
    cluster: Arc<Cluster>,
    config: Config,
    producer: BaseProducer<Deliveries>,
    /// Largest batch that the producer makes, bytes.
    batch: usize,
    /// Partitions of each topic, as the producer knows them.
    partitions: HashMap<String, i32>,
    in_flight: usize,
}

impl KafkaPublisher {
    pub(super) fn open(cluster: &Arc<Cluster>) -> Result<Self> {
        Self::with(cluster, Settings::publisher, cluster.settings.batch_size())
    }

    /// As [`KafkaPublisher::open`], for the records of commits.
    pub(super) fn for_commits(cluster: &Arc<Cluster>, batch: usize) -> Result<Self> {
        Self::with(cluster, Settings::acknowledged, batch)
    }

    fn with(cluster: &Arc<Cluster>, config: Config, batch: usize) -> Result<Self> {
        let producer = producer(cluster, config, batch)?;
        Ok(Self { cluster: cluster.clone(), config, producer, batch, partitions: HashMap::new(), in_flight: 0 })
    }

    /// A producer that has asked for a topic's partitions refuses one that was added since, until it asks again.
    fn know(&mut self, topic: &str, partitions: i32) -> Result<()> {
        match self.partitions.get(topic) {
            Some(known) if *known == partitions => return Ok(()),
            Some(_) => self.cluster.acquaint(self.producer.client(), topic)?,
            None => {}
        }
        self.partitions.insert(topic.to_owned(), partitions);
        Ok(())
    }

    /// A batch is refused as a whole, so none may grow beyond what the topic takes: a record that is too
    /// large would take small ones down with it.
    fn fit(&mut self, limit: Option<usize>) -> Result<()> {
        let Some(limit) = limit.filter(|limit| *limit < self.batch) else {
            return Ok(());
        };
        if self.in_flight > 0 {
            return Err(queue_full("the records sent before have to be acknowledged first"));
        }
        self.producer = producer(&self.cluster, self.config, limit)?;
        self.batch = limit;
        Ok(())
    }
}

/// The error that has made a producer useless, if there is one. A broker that does not let an account send
/// anything says so before any record is sent.
fn fatal(producer: &BaseProducer<Deliveries>, topic: &str) -> Option<Error> {
    let (code, reason) = producer.client().fatal_error()?;
    let what = format!("cannot send a record to topic `{topic}`");
    Some(match failure::kind(code) {
        ErrorKind::Denied => Error::denied(
            ErrorKind::Denied,
            format!("{what} (brokers older than 2.8 ask for `IdempotentWrite` on the cluster as well)"),
            Permission::on_topic(Operation::Write, topic),
        ),
        _ => {
            let text = format!("{what}: the producer is of no use any more");
            Error::with_source(ErrorKind::Fatal, text, failure::Reason(reason))
        }
    })
}

/// The configuration of a producer whose batches have at most so many bytes.
type Config = fn(&Settings, usize) -> ClientConfig;

fn producer(cluster: &Cluster, config: Config, batch: usize) -> Result<BaseProducer<Deliveries>> {
    let made: BaseProducer<Deliveries> = config(&cluster.settings, batch)
        .create_with_context(Deliveries::new(&cluster.watch))
        .map_err(|error| cluster::client_refused(error, "a producer"))?;
    throttle::listen(made.client(), &cluster.watch, Quota::Sending);
    Ok(made)
}

fn queue_full(why: &str) -> Error {
    Error::new(ErrorKind::QueueFull, format!("the producer takes no record right now: {why}"))
}

/// Hands a record to librdkafka, which copies it.
pub(super) fn enqueue(
    producer: &BaseProducer<Deliveries>,
    record: &NewRecord<'_>,
    token: usize,
) -> std::result::Result<(), Code> {
    let mut out: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(record.topic, token);
    out.partition = record.partition;
    out.key = record.key;
    out.payload = record.value;
    out.timestamp = record.timestamp_ms;
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        out.headers = Some(
            record
                .headers
                .iter()
                .fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(*value) })),
        );
    }
    producer.send(out).map_err(|(error, _)| match error {
        KafkaError::MessageProduction(code) => code,
        other => failure::code(&other).unwrap_or(Code::InvalidArgument),
    })
}

/// Takes deliveries that are there; if there are none, a moment passes, but no more than `most`. rdkafka's
/// poll with a time runs until that is over, and spins through the last millisecond of it.
pub(super) fn serve(producer: &BaseProducer<Deliveries>, most: Duration) {
    let before = producer.in_flight_count();
    producer.poll(Duration::ZERO);
    if producer.in_flight_count() == before {
        thread::sleep(most.min(MOMENT));
    }
}

/// The error for a record that librdkafka did not take.
pub(super) fn not_sent(code: Code, topic: &str) -> Error {
    let what = format!("cannot send a record to topic `{topic}`");
    failure::failed_code(code, what, Permission::on_topic(Operation::Write, topic))
}

/// The error for a record that was taken on and not delivered.
pub(super) fn not_delivered(why: &Undelivered) -> Error {
    let Undelivered { code, topic, partition, bytes, has_key } = why;
    let text = format!("cannot send a record of {bytes} bytes to partition {partition} of topic `{topic}`");
    match code {
        Code::InvalidRecord if !has_key => {
            Error::with_source(failure::kind(*code), format!("{text}: {}", failure::NO_KEY), *code)
        }
        _ => failure::failed_code(*code, text, Permission::on_topic(Operation::Write, topic)),
    }
}

impl Publisher for KafkaPublisher {
    fn send(&mut self, record: &NewRecord<'_>, token: usize) -> Result<()> {
        let target = self.cluster.target_partition(record.topic, record.partition);
        let target = target.map_err(|error| error.for_use(Operation::Write))?;
        self.fit(target.limits.batch)?;
        self.know(record.topic, target.partitions)?;
        match enqueue(&self.producer, record, token) {
            Ok(()) => {
                self.in_flight += 1;
                Ok(())
            }
            Err(Code::QueueFull) if self.in_flight > 0 => Err(queue_full("its queue is full")),
            Err(Code::QueueFull) => Err(Error::new(
                ErrorKind::RecordTooLarge,
                format!(
                    "a record for topic `{}` is larger than the producer's whole queue, see `queue.buffering.max.kbytes`",
                    record.topic
                ),
            )),
            Err(code) => Err(fatal(&self.producer, record.topic).unwrap_or_else(|| not_sent(code, record.topic))),
        }
    }

    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Delivery)) -> Result<usize> {
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            serve(&self.producer, left);
            let done = self.producer.context().take();
            let count = done.len();
            self.in_flight -= count;
            for (token, outcome) in done {
                let failed =
                    |why: Undelivered| fatal(&self.producer, &why.topic).unwrap_or_else(|| not_delivered(&why));
                sink(Delivery { token, outcome: outcome.map_err(failed) });
            }
            if count > 0 || self.in_flight == 0 {
                return Ok(count);
            }
            self.cluster.check_login()?;
            if self.cluster.watch.is_given_up() {
                return Err(self.cluster.given_up());
            }
            if left.is_zero() {
                return Ok(0);
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.in_flight
    }
}
