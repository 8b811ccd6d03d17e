//! From the moment that a file's only chunk is handed to the producer until its result can be read,
//! while nothing else happens.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use datamill_wire::{Chunk, headers, partition_for, sha512};
use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::{Deserialize, Serialize};

use crate::place::{Place, PlaceArgs};
use datamill_floor::{partitions_of, reader};

/// Between two files.
const PAUSE: Duration = Duration::from_millis(50);

/// What was found, in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) files: usize,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) most: f64,
}

pub(crate) fn run(args: &PlaceArgs, files: usize) -> Result<Latency> {
    let place = Place::make(args, "latency")?;
    let (source, results) = (place.topic("source")?, place.topic("results")?);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &args.kafka).set("linger.ms", "0").create()?;
    let partitions = partitions_of(producer.client(), &source)?;
    let reader = reader(&args.kafka, &results)?;
    let mut program = place.extract(&source, &results, &results)?.stdout(std::process::Stdio::null()).spawn()?;
    let times = (0..=files).map(|number| {
        std::thread::sleep(PAUSE);
        once(&producer, &reader, &source, partitions, number)
    });
    let times: Result<Vec<Duration>> = times.collect();
    program.kill()?;
    program.wait()?;
    // the first one waits for the start of the program
    let mut times = times?.split_off(1);
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    Ok(Latency { files, p50: at(0.5), p90: at(0.9), p99: at(0.99), most: at(1.0) })
}

fn once(
    producer: &BaseProducer,
    reader: &BaseConsumer,
    topic: &str,
    partitions: i32,
    number: usize,
) -> Result<Duration> {
    let filename = format!("file_{number}.dat");
    let data = vec![number as u8; 4 << 10];
    let hash = sha512(&data);
    let chunk = Chunk {
        filename: &filename,
        file_hash: &hash,
        chunk_hash: &hash,
        offset: 0,
        index: 1,
        total: 1,
        subdir: "",
        filename_append: "",
        data: &data,
        mtime: None,
    };
    let mut value = Vec::new();
    chunk.encode(&mut value);
    let key = chunk.key();
    let header = Header { key: headers::CHUNK_VERSION, value: Some(headers::CHUNK_VERSION_1) };
    let record = BaseRecord::to(topic)
        .partition(partition_for(&filename, partitions))
        .key(&key)
        .payload(&value)
        .headers(OwnedHeaders::new().insert(header));
    let start = Instant::now();
    producer.send(record).map_err(|(error, _)| error).context("cannot send")?;
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
    let wanted = datamill_wire::result_key("", &filename);
    while start.elapsed() < Duration::from_secs(30) {
        if let Some(message) = reader.poll(Duration::from_millis(100))
            && message.is_ok_and(|message| message.key() == Some(wanted.as_bytes()))
        {
            return Ok(start.elapsed());
        }
    }
    bail!("the result of {filename} did not come")
}
