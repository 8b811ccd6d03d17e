//! What a restart costs: a program that was killed while one file was in flight, in a topic that holds far
//! more than that file.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use datamill_wire::{Chunk, headers, partition_for, sha512};
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::{Deserialize, Serialize};

use crate::child::measure;
use crate::place::{Place, PlaceArgs};
use crate::visible::Visible;
use crate::workload::Workload;
use datamill_floor::partitions_of;

/// Bytes of file content in a message.
const CHUNK_SIZE: usize = 524_288;
/// Chunks of the file that is in flight.
const CHUNKS: usize = 64;
/// Those of them that are in the topic when the program is killed.
const SENT_BEFORE: usize = 48;
/// After this long without a result, a program has committed what it read last.
const IDLE_COMMIT: Duration = Duration::from_secs(12);
const LIMIT: Duration = Duration::from_secs(1200);

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Restart {
    pub(crate) topic_bytes: u64,
    pub(crate) file_bytes: u64,
    /// Messages that the second process read and the first had read before, as the program reports them.
    pub(crate) messages_read_again: u64,
    /// Bytes of file content in them.
    pub(crate) bytes_read_again: u64,
    /// Seconds from the second start until the result of the file could be read.
    pub(crate) seconds: f64,
}

pub(crate) fn run(args: &PlaceArgs, workload: Workload) -> Result<Restart> {
    let place = Place::make(args, "restart")?;
    let (source, results) = (place.topic("source")?, place.topic("results")?);
    let topic_bytes = workload.write(&place.path("files"))?;
    let files = workload.files().len() as u64;
    measure(&mut place.upload(&source), LIMIT, || false)?;
    fs::remove_dir_all(place.path("files"))?;

    let content: Vec<u8> = (0..CHUNKS * CHUNK_SIZE).map(|i| ((i / 7) ^ (i / 4096)) as u8).collect();
    let sender = Sender::new(&args.kafka, &source)?;
    let visible = Visible::watch(&args.kafka, &results)?;
    let mut first = place.extract(&source, &results, &results)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let half = wait_for(&visible, files).and_then(|()| sender.send(&content, 0, SENT_BEFORE));
    std::thread::sleep(IDLE_COMMIT);
    kill(&mut first)?;
    half?;
    sender.send(&content, SENT_BEFORE, CHUNKS)?;

    let start = Instant::now();
    let mut second = place.extract(&source, &results, &results)?;
    let second = second.arg("--exit-at-end").stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    let seconds = start.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&second.stderr);
    ensure!(second.status.success(), "the second start failed: {said}");
    let found = visible.finish()?;
    ensure!(
        found.results == files + 1 && found.keys == files + 1,
        "{} results for {files} files and one",
        found.results
    );
    let messages_read_again = messages_read_before(&said)?;
    Ok(Restart {
        topic_bytes,
        file_bytes: content.len() as u64,
        messages_read_again,
        bytes_read_again: messages_read_again * CHUNK_SIZE as u64,
        seconds,
    })
}

/// The number in the summary's line about what had been read before.
fn messages_read_before(summary: &str) -> Result<u64> {
    let line = summary.lines().find(|line| line.contains("had been read before"));
    let number = line.and_then(|line| line.split(' ').next()).with_context(|| format!("no such line in: {summary}"))?;
    // its thousands are apart
    Ok(number.replace(',', "").parse()?)
}

fn wait_for(visible: &Visible, results: u64) -> Result<()> {
    let start = Instant::now();
    while visible.records() < results {
        ensure!(start.elapsed() < LIMIT, "the results did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn kill(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Sends a file by hand, a part at a time.
struct Sender<'a> {
    producer: BaseProducer,
    topic: &'a str,
    partitions: i32,
}

impl<'a> Sender<'a> {
    fn new(kafka: &str, topic: &'a str) -> Result<Self> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", kafka)
            .set("enable.idempotence", "true")
            .set("message.max.bytes", "10000000")
            .create()?;
        let partitions = partitions_of(producer.client(), topic)?;
        Ok(Self { producer, topic, partitions })
    }

    /// Sends the chunks from number `from` (counted from 0) up to `to`.
    fn send(&self, content: &[u8], from: usize, to: usize) -> Result<()> {
        let filename = "in flight.raw";
        let file_hash = sha512(content);
        for (number, data) in content.chunks(CHUNK_SIZE).enumerate().take(to).skip(from) {
            let chunk = Chunk {
                filename,
                file_hash: &file_hash,
                chunk_hash: &sha512(data),
                offset: (number * CHUNK_SIZE) as u64,
                index: number as u32 + 1,
                total: CHUNKS as u32,
                subdir: "",
                filename_append: "",
                data,
                mtime: None,
            };
            let mut value = Vec::new();
            chunk.encode(&mut value);
            let key = chunk.key();
            let header = Header { key: headers::CHUNK_VERSION, value: Some(headers::CHUNK_VERSION_1) };
            let record = BaseRecord::to(self.topic)
                .partition(partition_for(filename, self.partitions))
                .key(&key)
                .payload(&value)
                .headers(OwnedHeaders::new().insert(header));
            if let Err((error, _)) = self.producer.send(record) {
                bail!("chunk {number} cannot be sent: {error}");
            }
        }
        self.producer.flush(Duration::from_secs(60))?;
        Ok(())
    }
}
