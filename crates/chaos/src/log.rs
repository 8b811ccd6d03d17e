//! What is in the log: the uploads that are whole, the results, the failures.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use datamill::broker::{
    Commit, CommitOutcome, DeliveryGuarantee, ErrorKind, Event, Log, NewRecord, NewTopic, Position, Record, Session,
    SubscribeOptions,
};
use datamill::wire::{Chunk, headers, hex, sha512};
use serde_json::Value;

use crate::check::{Failed, Seen, Uploads};

/// Topic of chunks, topic of results, and group of a run.
pub const TOPIC: &str = "chaos-files";
pub const RESULTS: &str = "chaos-results";
pub const GROUP: &str = "chaos";

pub fn create(log: &dyn Log, partitions: i32) -> Result<()> {
    for (name, partitions) in [(TOPIC, partitions), (RESULTS, 2)] {
        // As many copies as the broker makes by default.
        log.create_topic(&NewTopic { name: name.to_owned(), partitions, replication: -1, settings: BTreeMap::new() })?;
    }
    Ok(())
}

/// Hands out each record up to the ends that the topic has at the call.
fn read(log: &dyn Log, topic: &str, mut sink: impl FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
    let mut open = BTreeMap::new();
    for partition in 0..log.topic(topic)?.partitions {
        let end = log.offsets(topic, partition)?.last_stable;
        if end > 0 {
            open.insert(partition, end);
        }
    }
    if open.is_empty() {
        return Ok(());
    }
    let starts: Vec<_> = open.keys().map(|partition| (*partition, 0)).collect();
    let mut reader = log.reader(topic, &starts)?;
    let mut moved = Instant::now();
    while !open.is_empty() {
        let mut outcome = Ok(());
        let polled = reader.poll(Duration::from_millis(200), &mut |event| {
            let (partition, next) = match &event {
                Event::Record(record) => {
                    if outcome.is_ok() && open.contains_key(&record.partition) {
                        outcome = sink(record);
                    }
                    (record.partition, record.offset + 1)
                }
                Event::End { partition, offset, .. } => (*partition, *offset),
                Event::Assigned(_) | Event::Revoked { .. } => return,
            };
            open.retain(|open, end| *open != partition || next < *end);
        });
        outcome?;
        match polled {
            Ok(0) => {}
            Ok(_) => moved = Instant::now(),
            Err(error) if error.kind() == ErrorKind::Retry => {}
            Err(error) => return Err(error.into()),
        }
        ensure!(moved.elapsed() < Duration::from_secs(120), "topic `{topic}` cannot be read to its end");
    }
    Ok(())
}

/// How often each version is in the topic whole: as often as its rarest chunk. The second number counts
/// the records.
pub fn uploads(log: &dyn Log) -> Result<(Uploads, u64)> {
    let mut chunks: HashMap<([u8; 64], String), Vec<usize>> = HashMap::new();
    let mut records = 0;
    read(log, TOPIC, |record| {
        let chunk = Chunk::decode(record.value.unwrap_or_default()).context("a record that no uploader sends")?;
        let counts = chunks.entry((*chunk.file_hash, chunk.rebuilt_path())).or_default();
        counts.resize(chunk.total as usize, 0);
        counts[chunk.index as usize - 1] += 1;
        records += 1;
        Ok(())
    })?;
    let whole = chunks.into_iter().filter_map(|((hash, path), counts)| {
        let times = counts.into_iter().min().unwrap_or(0);
        (times > 0).then(|| ((path, hex(&hash)), times))
    });
    Ok((whole.collect(), records))
}

/// Partition and offset of each occurrence of a chunk.
type Places = Vec<(i32, i64)>;

/// The version of each path that is the newest one: of those that are whole, the one whose last upload
/// begins last. The k-th upload of a version has the k-th occurrence of each chunk.
pub fn newest(log: &dyn Log) -> Result<BTreeMap<String, String>> {
    let mut chunks: HashMap<([u8; 64], String), Vec<Places>> = HashMap::new();
    read(log, TOPIC, |record| {
        let chunk = Chunk::decode(record.value.unwrap_or_default()).context("a record that no uploader sends")?;
        let offsets = chunks.entry((*chunk.file_hash, chunk.rebuilt_path())).or_default();
        offsets.resize(chunk.total as usize, Vec::new());
        offsets[chunk.index as usize - 1].push((record.partition, record.offset));
        Ok(())
    })?;
    let mut newest: BTreeMap<String, ((i32, i64), String)> = BTreeMap::new();
    for ((hash, path), offsets) in chunks {
        let times = offsets.iter().map(Vec::len).min().unwrap_or(0);
        let begins = offsets.iter().filter_map(|of_chunk| of_chunk.get(times.checked_sub(1)?)).min();
        let Some(&begins) = begins else { continue };
        let later = newest.get(&path).is_none_or(|(other, _)| *other < begins);
        if later {
            newest.insert(path, (begins, hex(&hash)));
        }
    }
    Ok(newest.into_iter().map(|(path, (_, hash))| (path, hash)).collect())
}

/// The results that readers see.
pub fn results(log: &dyn Log) -> Result<Vec<Seen>> {
    let mut results = Vec::new();
    read(log, RESULTS, |record| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let header = |wanted: &str| {
            let found = record.headers.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| text(value)).with_context(|| format!("a result without header `{wanted}`"))
        };
        results.push(Seen {
            version: (header(headers::SOURCE_PATH)?, header(headers::SOURCE_SHA512)?),
            value: text(record.value.unwrap_or_default()),
            offsets: header(headers::SOURCE_OFFSETS)?,
            at_ms: record.timestamp_ms.unwrap_or(0),
        });
        Ok(())
    })?;
    Ok(results)
}

/// The failures in the group's state.
pub fn failures(log: &dyn Log) -> Result<Vec<Failed>> {
    let mut failures = Vec::new();
    for (key, value) in log.group_state(GROUP)? {
        if !key.starts_with("failed/") {
            continue;
        }
        let value: Value = serde_json::from_slice(&value).with_context(|| format!("state `{key}` is no JSON"))?;
        let text =
            |name: &str| value[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in `{key}`"));
        failures.push(Failed { version: (text("path")?, text("sha512")?), spans: value["spans"].to_string() });
    }
    Ok(failures)
}

/// Puts the first chunk of a file that never gets its second one into each partition: no position can
/// move beyond it, and only the progress text says what is finished above it.
pub fn pin(log: &dyn Log, partitions: i32) -> Result<()> {
    let mut publisher = log.publisher()?;
    for partition in 0..partitions {
        let data = b"half";
        let chunk = Chunk {
            filename: "never whole",
            file_hash: &sha512(b"never whole"),
            chunk_hash: &sha512(data),
            offset: 0,
            index: 1,
            total: 2,
            subdir: "",
            filename_append: "",
            data,
            mtime: None,
        };
        let mut value = Vec::new();
        chunk.encode(&mut value);
        let marked: Vec<(&str, &[u8])> = vec![(headers::CHUNK_VERSION, headers::CHUNK_VERSION_1.as_bytes())];
        let (topic, partition) = (TOPIC, Some(partition));
        publisher
            .send(&NewRecord { topic, partition, value: Some(&value), headers: marked, ..NewRecord::default() }, 0)?;
    }
    let until = Instant::now() + Duration::from_secs(60);
    while publisher.in_flight() > 0 {
        let mut outcome = Ok(());
        publisher.poll(Duration::from_millis(50), &mut |delivery| {
            if let Err(error) = delivery.outcome {
                outcome = Err(error);
            }
        })?;
        outcome?;
        ensure!(Instant::now() < until, "the broker does not acknowledge");
    }
    Ok(())
}

/// Takes the progress texts away from what the group has committed. The group must have no members.
pub fn forget_progress(log: &dyn Log, partitions: i32) -> Result<()> {
    let Session { mut subscription, mut committer } = log.subscribe(&SubscribeOptions {
        group: GROUP.to_owned(),
        instance: "saboteur".to_owned(),
        membership: Default::default(),
        topics: vec![TOPIC.to_owned()],
        identity: Default::default(),
        first_start: Default::default(),
        queue_bytes: 1 << 20,
        delivery: DeliveryGuarantee::ExactlyOnce,
    })?;
    let mut positions = BTreeMap::new();
    let until = Instant::now() + Duration::from_secs(120);
    while positions.len() < partitions as usize {
        subscription.poll(Duration::from_millis(100), &mut |event| {
            if let Event::Assigned(assigned) = event {
                for one in assigned {
                    let (partition, assignment, offset) = (one.partition, one.assignment, one.start);
                    positions.insert(
                        partition,
                        Position { topic: one.topic, partition, assignment, offset, text: String::new() },
                    );
                }
            }
        })?;
        ensure!(Instant::now() < until, "the group does not get empty");
    }
    let positions: Vec<Position> = positions.into_values().collect();
    match committer.commit(&Commit { positions: &positions, ..Commit::default() }) {
        CommitOutcome::Done(_) => {}
        other => bail!("the progress cannot be taken away: {other:?}"),
    }
    drop(committer);
    subscription.close(true)?;
    Ok(())
}
