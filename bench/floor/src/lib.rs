//! What cannot be gone below: moving the bytes with librdkafka and hashing them once.
//!
//! A program without datamill in it, so that librdkafka is as everybody else has it, with the memory
//! allocator of the C library.

pub mod download;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use datamill_wire::{Sha512Hasher, sha512};
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};

/// The floor of reading.
#[derive(Debug, clap::Args)]
pub struct ReadArgs {
    #[arg(long)]
    kafka: String,
    #[arg(long)]
    topic: String,
    /// Records in the topic
    #[arg(long)]
    records: u64,
    /// Read, and hash nothing
    #[arg(long)]
    plain: bool,
}

/// The floor of sending.
#[derive(Debug, clap::Args)]
pub struct SendArgs {
    #[arg(long)]
    kafka: String,
    #[arg(long)]
    topic: String,
    /// Bytes in a message
    #[arg(long = "chunk_size")]
    chunk_size: usize,
    folder: PathBuf,
}

/// Microseconds since the epoch.
pub fn now_us() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros() as u64
}

/// A consumer without a group that reads what is committed.
pub fn client(kafka: &str) -> Result<BaseConsumer> {
    let consumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", "bench-floor")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "10")
        .set("enable.partition.eof", "true")
        .create()?;
    Ok(consumer)
}

/// All partitions of a topic from their first records on.
pub fn reader(kafka: &str, topic: &str) -> Result<BaseConsumer> {
    let consumer = client(kafka)?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions(&consumer, topic)? {
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

/// Number of partitions of a topic.
pub fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<i32> {
    partitions_of(consumer.client(), topic)
}

/// Number of partitions of a topic, as any client sees it.
pub fn partitions_of<C: ClientContext>(client: &Client<C>, topic: &str) -> Result<i32> {
    let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    Ok(i32::try_from(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))?)
}

/// Reads and hashes a topic. Prints when the first record came and when the last one was hashed.
///
/// # Errors
/// The topic cannot be read.
pub fn read(args: &ReadArgs) -> Result<()> {
    drain(args, |_| Ok(()))
}

/// Reads so many records of a topic, hashes their values, and does with each value what is to be done.
fn drain(args: &ReadArgs, mut act: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let ReadArgs { kafka, topic, records, plain } = args;
    let consumer = reader(kafka, topic)?;
    let mut hash = Sha512Hasher::new();
    let mut read = 0;
    while read < *records {
        let Some(message) = consumer.poll(Duration::from_secs(30)) else {
            bail!("{read} of {records} records came");
        };
        if matches!(message, Err(KafkaError::PartitionEOF(_))) {
            continue;
        }
        if read == 0 {
            println!("first {}", now_us());
        }
        let message = message?;
        let value = message.payload().unwrap_or_default();
        if !plain {
            hash.update(value);
        }
        act(value)?;
        read += 1;
    }
    std::hint::black_box(hash.finish());
    println!("last {}", now_us());
    Ok(())
}

/// Hashes and sends each file of a folder.
///
/// # Errors
/// A file cannot be read or sent.
pub fn send(args: &SendArgs) -> Result<()> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &args.kafka)
        .set("enable.idempotence", "true")
        .set("message.max.bytes", "10000000")
        .create()?;
    for entry in walkdir::WalkDir::new(&args.folder) {
        let entry = entry?;
        if !entry.file_type().is_file() {
            continue;
        }
        let content = std::fs::read(entry.path())?;
        std::hint::black_box(sha512(&content));
        let key = entry.path().as_os_str().as_encoded_bytes();
        for chunk in content.chunks(args.chunk_size) {
            let mut record = BaseRecord::to(&args.topic).key(key).payload(chunk);
            while let Err((error, back)) = producer.send(record) {
                match error {
                    KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => {
                        producer.poll(Duration::from_millis(10));
                        record = back;
                    }
                    error => return Err(error.into()),
                }
            }
        }
    }
    producer.flush(Duration::from_secs(120))?;
    Ok(())
}
