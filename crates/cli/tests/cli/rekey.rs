//! `datamill rekey`: each chunk once in the partition of its file, whatever ends the program.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datamill::broker::{Event, Log, NewRecord, NewTopic, Properties};
use datamill::wire::{Chunk, headers, partition_for, sha512};
use datamill_testkit::kafka::Kafka;

use crate::common::Place;

/// A log, and two topics that nobody else uses.
struct Bench {
    place: Place,
    log: Arc<dyn Log>,
    source: String,
    destination: String,
}

/// Chunks of one file.
const CHUNKS: u32 = 8;

impl Bench {
    fn new(kafka: bool) -> Self {
        let place = Place::new();
        let servers = match kafka {
            true => Kafka::from_env().address().to_owned(),
            false => format!("sqlite:{}", place.path("log.db").display()),
        };
        place.write("test.config", format!("[broker]\nbootstrap.servers = {servers}\n").as_bytes());
        let broker = BTreeMap::from([("bootstrap.servers".to_owned(), servers)]);
        let log = datamill::broker::open(&Properties { broker, ..Properties::default() }).unwrap();

        let unique =
            format!("{}-{:?}", datamill::report::clock::now_ms(), std::thread::current().id()).replace(['(', ')'], "");
        let bench = Self { place, log, source: format!("spread-{unique}"), destination: format!("keyed-{unique}") };
        for (name, partitions) in [(&bench.source, 4), (&bench.destination, 3)] {
            // their records are years old
            let settings = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
            bench.log.create_topic(&NewTopic { name: name.clone(), partitions, replication: 1, settings }).unwrap();
        }
        bench
    }

    /// Another destination, of two partitions, with a setting of its own.
    fn destination_with(&self, setting: &str, value: &str) -> String {
        let name = format!("{}-{setting}", self.destination);
        let settings = BTreeMap::from([(setting.to_owned(), value.to_owned())]);
        self.log.create_topic(&NewTopic { name: name.clone(), partitions: 2, replication: 1, settings }).unwrap();
        name
    }

    /// Puts files on the source as OpenMSIStream does: chunk after chunk into the next partition, no header.
    fn spread(&self, files: u32) {
        let mut publisher = self.log.publisher().unwrap();
        for file in 0..files {
            let pieces: Vec<Vec<u8>> = (0..CHUNKS).map(|i| vec![(file + i) as u8; 100 + file as usize]).collect();
            let file_hash = sha512(&pieces.concat());
            for (i, data) in pieces.iter().enumerate() {
                let filename = format!("file {file}.dat");
                let chunk = Chunk {
                    filename: &filename,
                    file_hash: &file_hash,
                    chunk_hash: &sha512(data),
                    offset: (i * data.len()) as u64,
                    index: i as u32 + 1,
                    total: CHUNKS,
                    subdir: "run",
                    filename_append: "",
                    data,
                    mtime: Some(0.0),
                };
                let mut value = Vec::new();
                chunk.encode(&mut value);
                self.send(publisher.as_mut(), (i as i32 + file as i32) % 4, &chunk.key(), &value);
            }
        }
        settle(publisher.as_mut());
    }

    fn send(&self, publisher: &mut dyn datamill::broker::Publisher, partition: i32, key: &str, value: &[u8]) {
        let record = NewRecord {
            topic: &self.source,
            partition: Some(partition),
            key: Some(key.as_bytes()),
            value: Some(value),
            headers: vec![("kept", b"yes")],
            timestamp_ms: Some(1_700_000_000_000),
        };
        while publisher.send(&record, 0).is_err() {
            settle(publisher);
        }
    }

    fn args(&self) -> [&str; 6] {
        ["rekey", &self.source, &self.destination, "--exit-at-end", "--config", "test.config"]
    }

    /// How often each key is in each partition of the destination; the header and the rest are checked.
    fn copied(&self) -> BTreeMap<String, Vec<i32>> {
        let partitions = self.log.topic(&self.destination).unwrap().partitions;
        let starts: Vec<(i32, i64)> = (0..partitions).map(|p| (p, 0)).collect();
        let mut open: BTreeSet<i32> =
            (0..partitions).filter(|p| self.log.offsets(&self.destination, *p).unwrap().last_stable > 0).collect();
        let mut reader = self.log.reader(&self.destination, &starts).unwrap();
        let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        while !open.is_empty() {
            let poll = reader.poll(Duration::from_secs(5), &mut |event| match event {
                Event::Record(record) => {
                    let chunk = Chunk::decode(record.value.unwrap()).unwrap();
                    assert_eq!(record.partition, partition_for(&chunk.rebuilt_path(), partitions));
                    assert_eq!(record.timestamp_ms, Some(1_700_000_000_000));
                    let names: Vec<&str> = record.headers.iter().map(|(name, _)| *name).collect();
                    assert_eq!(names, ["kept", headers::CHUNK_VERSION]);
                    let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                    found.entry(key).or_default().push(record.partition);
                }
                Event::End { partition, .. } => {
                    open.remove(&partition);
                }
                _ => {}
            });
            poll.unwrap();
        }
        found
    }
}

fn settle(publisher: &mut dyn datamill::broker::Publisher) {
    while publisher.in_flight() > 0 {
        let taken = &mut |delivery: datamill::broker::Delivery| assert!(delivery.outcome.is_ok(), "{delivery:?}");
        publisher.poll(Duration::from_secs(1), taken).unwrap();
    }
}

fn each_chunk_is_copied_once_to_the_partition_of_its_file(kafka: bool) {
    let bench = Bench::new(kafka);
    bench.spread(50);
    let mut publisher = bench.log.publisher().unwrap();
    bench.send(publisher.as_mut(), 2, "odd", b"not a chunk");
    settle(publisher.as_mut());
    let ended = bench.place.run(&bench.args());
    assert_eq!(ended.code(), 1, "{}", ended.stderr());
    for part in ["400 messages", "1 message is not a chunk", "partition=2", "not a chunk of a file"] {
        assert!(ended.stderr().contains(part), "{part}: {}", ended.stderr());
    }
    bench.spread(1);
    let ended = bench.place.run(&bench.args());
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    assert!(ended.stderr().contains("8 messages"), "a second start copies what is new: {}", ended.stderr());
    let copied = bench.copied();
    assert_eq!(copied.len(), 400);
    let twice = copied.iter().filter(|(_, times)| times.len() == 2).count();
    assert_eq!((twice, copied.values().map(Vec::len).sum::<usize>()), (8, 408));
}

fn a_copy_that_the_destination_will_not_keep_is_named(kafka: bool) {
    let bench = Bench::new(kafka);
    bench.spread(2);
    let week = bench.destination_with("retention.ms", "604800000");
    let ended = bench.place.run(&["rekey", &bench.source, &week, "--exit-at-end", "--config", "test.config"]);
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    let line = format!("16 messages are older than topic `{week}` keeps its records");
    assert!(ended.stderr().contains(&line), "{}", ended.stderr());
    let kept = bench.place.run(&bench.args());
    assert!(!kept.stderr().contains("older than"), "a topic that keeps all: {}", kept.stderr());
}

fn a_copy_that_is_killed_goes_on_where_it_was(kafka: bool) {
    let bench = Bench::new(kafka);
    bench.spread(3000);
    let mut unfinished = 0;
    for round in 0..8 {
        let mut child = bench.place.start(&bench.args());
        std::thread::sleep(Duration::from_millis(100 + 60 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        unfinished += u32::from(bench.copied().len() < 3000 * CHUNKS as usize);
    }
    assert!(unfinished > 0, "no kill came in the middle");
    let ended = bench.place.run(&bench.args());
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    let copied = bench.copied();
    assert_eq!(copied.len() as u32, 3000 * CHUNKS, "nothing is missing");
    assert!(copied.values().all(|times| times.len() == 1), "nothing is there twice");
}

#[test]
fn on_the_embedded_log_each_chunk_is_copied_once() {
    each_chunk_is_copied_once_to_the_partition_of_its_file(false);
}

#[test]
fn on_kafka_each_chunk_is_copied_once() {
    each_chunk_is_copied_once_to_the_partition_of_its_file(true);
}

#[test]
fn on_the_embedded_log_a_copy_that_will_not_be_kept_is_named() {
    a_copy_that_the_destination_will_not_keep_is_named(false);
}

#[test]
fn on_kafka_a_copy_that_will_not_be_kept_is_named() {
    a_copy_that_the_destination_will_not_keep_is_named(true);
}

#[test]
fn on_the_embedded_log_a_copy_that_is_killed_goes_on() {
    a_copy_that_is_killed_goes_on_where_it_was(false);
}

#[test]
fn on_kafka_a_copy_that_is_killed_goes_on() {
    a_copy_that_is_killed_goes_on_where_it_was(true);
}

#[test]
fn a_record_that_is_too_large_stops_the_copy_and_is_named() {
    let bench = Bench::new(true);
    bench.spread(2);
    let small = bench.destination_with("max.message.bytes", "300");
    let ended = bench.place.run(&["rekey", &bench.source, &small, "--exit-at-end", "--config", "test.config"]);
    assert_eq!(ended.code(), 2, "{}", ended.stderr());
    assert!(ended.stderr().contains("does not take the record at offset"), "{}", ended.stderr());
}

/// Two copies in one group would each get a part of the messages.
fn a_group_is_for_one_destination(kafka: bool) {
    let bench = Bench::new(kafka);
    bench.spread(3);
    let other = bench.destination_with("retention.ms", "-1");
    let group = format!("{}-group", bench.source);
    let copy = |destination: &str| {
        let args = ["rekey", &bench.source, destination, "--config", "test.config", "--consumer_group_id", &group];
        bench.place.run(&[&args[..], &["--exit-at-end"]].concat())
    };
    let first = copy(&bench.destination);
    assert_eq!(first.code(), 0, "{}", first.stderr());
    assert_eq!(copy(&bench.destination).code(), 0, "the same copy goes on");
    let second = copy(&other);
    assert_eq!(second.code(), 2, "{}", second.stderr());
    for part in [group.as_str(), bench.destination.as_str(), "choose another group"] {
        assert!(second.stderr().contains(part), "no {part}: {}", second.stderr());
    }
}

#[test]
fn on_the_embedded_log_a_group_is_for_one_destination() {
    a_group_is_for_one_destination(false);
}

#[test]
fn on_kafka_a_group_is_for_one_destination() {
    a_group_is_for_one_destination(true);
}

#[test]
fn mistakes_are_named() {
    let place = Place::new();
    let ended = place.run(&["rekey", "a", "a"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr().contains("topic `a` cannot be copied into itself"), "{}", ended.stderr());
}

#[test]
fn a_copy_stops_where_a_topic_was_created_again() {
    for kafka in [false, true] {
        let bench = Bench::new(kafka);
        bench.spread(2);
        assert_eq!(bench.place.run(&bench.args()).code(), 0);
        assert_eq!(bench.place.run(&bench.args()).code(), 0, "a position of its own is gone on from");
        let all = bench.copied();
        bench.log.delete_topic(&bench.destination).unwrap();
        let (name, settings) = (bench.destination.clone(), BTreeMap::from([("retention.ms".into(), "-1".into())]));
        let again = NewTopic { name, partitions: 3, replication: 1, settings };
        crate::common::wait_until("the topic to be created again", || bench.log.create_topic(&again).is_ok());
        let ended = bench.place.run(&bench.args());
        assert_eq!(ended.code(), 2, "{}", ended.stderr());
        let text = ended.stderr();
        assert!(text.contains("was deleted and created again") && text.contains("--consumer_group_id"), "{text}");
        let other = format!("{}-other", bench.destination);
        let ended = bench.place.run(&[&bench.args()[..], &["--consumer_group_id", &other]].concat());
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        assert_eq!(bench.copied(), all);
    }
}
