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

use crate::floor::reader;
use crate::place::{Place, PlaceArgs};

/// How often it is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Number of files
    #[arg(long, default_value_t = 300)]
    files: usize,
    /// Milliseconds between two files
    #[arg(long = "pause_ms", default_value_t = 50)]
    pause_ms: u64,
}

pub(crate) fn run(args: &LatencyArgs) -> Result<()> {
    let place = Place::make(&args.place, "latency")?;
    let (source, results) = (place.topic("source")?, place.topic("results")?);
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &args.place.kafka).set("linger.ms", "0").create()?;
    let partitions = producer.client().fetch_metadata(Some(&source), Duration::from_secs(10))?;
    let partitions = i32::try_from(partitions.topics().first().map_or(1, |topic| topic.partitions().len()))?;
    let reader = reader(&args.place.kafka, &results)?;
    let mut program = place.extract(&source, &results)?.stdout(std::process::Stdio::null()).spawn()?;
    let times = (0..=args.files).map(|number| {
        std::thread::sleep(Duration::from_millis(args.pause_ms));
        once(&producer, &reader, &source, partitions, number)
    });
    let times: Result<Vec<Duration>> = times.collect();
    program.kill()?;
    program.wait()?;
    // the first one waits for the start of the program
    let mut times = times?.split_off(1);
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    println!(
        "latency of {} files, ms: p50 {:.1}, p90 {:.1}, p99 {:.1}, most {:.1}",
        times.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
    Ok(())
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
