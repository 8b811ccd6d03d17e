//! The download that is measured, and the floor below it: librdkafka's consumer, one SHA-512 over the
//! values, each chunk written to its place, and one fsync for each file, on one thread.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use anyhow::{Result, bail};
use datamill::deliver::{DownloadDirectory, OnExists};
use datamill::prelude::*;
use datamill::process::UserCode;
use datamill::program::{Exit, ProcessorArgs, run_program};
use datamill_wire::Chunk;
use rdkafka::Message;
use rdkafka::error::KafkaError;
use sha2::{Digest, Sha512};

use crate::child::now_us;
use crate::floor;

/// The floor of a download.
#[derive(Debug, clap::Args)]
pub(crate) struct FloorArgs {
    #[arg(long)]
    kafka: String,
    #[arg(long)]
    topic: String,
    /// Records in the topic
    #[arg(long)]
    records: u64,
    folder: PathBuf,
}

pub(crate) fn floor(args: &FloorArgs) -> Result<()> {
    let consumer = floor::reader(&args.kafka, &args.topic)?;
    let mut hash = Sha512::new();
    let mut open: HashMap<String, (File, u32)> = HashMap::new();
    let mut records = 0;
    while records < args.records {
        let Some(message) = consumer.poll(Duration::from_secs(30)) else {
            bail!("{records} of {} records came", args.records);
        };
        if matches!(message, Err(KafkaError::PartitionEOF(_))) {
            continue;
        }
        if records == 0 {
            println!("first {}", now_us());
        }
        let message = message?;
        let value = message.payload().unwrap_or_default();
        hash.update(value);
        let chunk = Chunk::decode(value)?;
        let path = chunk.rebuilt_path();
        if !open.contains_key(&path) {
            let place = args.folder.join(&path);
            if let Some(folder) = place.parent() {
                std::fs::create_dir_all(folder)?;
            }
            open.insert(path.clone(), (File::create(place)?, 0));
        }
        if let Some((file, chunks)) = open.get_mut(&path) {
            file.seek(SeekFrom::Start(chunk.offset))?;
            file.write_all(chunk.data)?;
            *chunks += 1;
            if *chunks == chunk.total {
                file.sync_all()?;
                open.remove(&path);
            }
        }
        records += 1;
    }
    std::hint::black_box(hash.finalize());
    println!("last {}", now_us());
    Ok(())
}

/// Options of the download.
#[derive(Debug, clap::Args)]
pub(crate) struct DownloadArgs {
    folder: PathBuf,
    #[command(flatten)]
    processor: ProcessorArgs,
}

/// The processor of `datamill download`, which says when its first file came.
struct Timed {
    first: Once,
    directory: DownloadDirectory,
}

impl DataFileStreamProcessor for Timed {
    fn process_downloaded_data_file(&self, file: &DownloadDataFile, lock: &Lock) -> Result<(), ProcessingError> {
        self.first.call_once(|| println!("first {}", now_us()));
        self.directory.process_downloaded_data_file(file, lock)
    }
}

pub(crate) fn run(args: &DownloadArgs) -> Result<Exit> {
    let mut processor = args.processor.clone();
    processor.consumer.output_dir = Some(args.folder.clone());
    let directory = DownloadDirectory::open(&args.folder, &args.folder, OnExists::default())?;
    let exit = run_program(&processor, "bench", UserCode::processor(Timed { first: Once::new(), directory }));
    println!("last {}", now_us());
    Ok(exit)
}
