//! An uploader of another kind: each chunk has a key of its own that chooses its partition, and no header says
//! that it is datamill's, so the chunks of a file are in all partitions of the topic.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use datamill::broker::{ErrorKind, NewRecord, Publisher};
use datamill::settings::Config;
use datamill::wire::{Chunk, sha512};

use crate::log::TOPIC;
use crate::options::SpreadOptions;

const CHUNK_SIZE: usize = 4096;
/// Bytes of a large file are sent this often beside those of others.
const TURN: usize = 16;

/// Sends all files of the folder, some chunks of each in turn.
pub fn run(options: &SpreadOptions) -> Result<()> {
    let config = Config::load(Some(options.config.as_str()))?;
    let log = datamill::broker::open(config.properties())?;
    let mut paths = Vec::new();
    find(&options.root, &mut paths)?;
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let bytes = fs::read(&path)?;
        let relative = path.strip_prefix(&options.root)?.to_string_lossy().into_owned();
        files.push((relative, sha512(&bytes), bytes));
    }
    let mut publisher = log.publisher()?;
    let most = files.iter().map(|(.., bytes)| bytes.len().div_ceil(CHUNK_SIZE)).max().unwrap_or(0);
    for first in (0..most).step_by(TURN) {
        for (path, hash, bytes) in &files {
            for index in first..(first + TURN).min(bytes.len().div_ceil(CHUNK_SIZE)) {
                send(publisher.as_mut(), path, hash, bytes, index)?;
            }
        }
    }
    settle(publisher.as_mut(), 0)
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { find(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

fn send(publisher: &mut dyn Publisher, path: &str, hash: &[u8; 64], bytes: &[u8], index: usize) -> Result<()> {
    let (subdir, filename) = path.rsplit_once('/').unwrap_or(("", path));
    let offset = index * CHUNK_SIZE;
    let data = &bytes[offset..(offset + CHUNK_SIZE).min(bytes.len())];
    let chunk = Chunk {
        filename,
        file_hash: hash,
        chunk_hash: &sha512(data),
        offset: offset as u64,
        index: index as u32 + 1,
        total: bytes.len().div_ceil(CHUNK_SIZE) as u32,
        subdir,
        filename_append: "",
        data,
        mtime: None,
    };
    let (key, mut value) = (chunk.key(), Vec::new());
    chunk.encode(&mut value);
    let record = NewRecord { topic: TOPIC, key: Some(key.as_bytes()), value: Some(&value), ..NewRecord::default() };
    loop {
        match publisher.send(&record, 0) {
            Err(error) if error.kind() == ErrorKind::QueueFull => {
                let half = publisher.in_flight() / 2;
                settle(publisher, half)?;
            }
            sent => return Ok(sent?),
        }
    }
}

/// Waits until at most so many records are not acknowledged.
fn settle(publisher: &mut dyn Publisher, most: usize) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(120);
    while publisher.in_flight() > most {
        let mut failed = None;
        publisher.poll(Duration::from_millis(50), &mut |delivery| {
            if let Err(error) = delivery.outcome {
                failed = Some(error);
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        ensure!(Instant::now() < until, "the broker does not acknowledge");
    }
    Ok(())
}
