//! A log, files on it as chunk messages, and a run of the engine over them.

// each test file uses its own part of these
#![allow(dead_code, unused_imports, unused_macros)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use datamill::assemble::DownloadDataFile;
use datamill::broker::{
    Commit, CommitOutcome, Event, Log, NewRecord, NewTopic, Position, Properties, Publisher, StateChange,
    SubscribeOptions,
};
use datamill::engine::{Control, EngineError, EngineSettings, StopKind, Summary};
use datamill::facts::Facts;
use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage, UserCode};
use datamill::wire::{Chunk, headers, hex, sha512};

/// Each check runs on the embedded log and on Apache Kafka.
macro_rules! on_both_logs {
    ($($check:ident),* $(,)?) => {
        mod embedded {
            $(#[test] fn $check() { super::$check(&$crate::common::Place::Embedded) })*
        }
        mod kafka {
            $(#[test] fn $check() { super::$check(&$crate::common::Place::Kafka) })*
        }
    };
}
pub(crate) use on_both_logs;

/// Where a test's log is.
pub enum Place {
    Embedded,
    Kafka,
}

/// A log, a folder, and topics that no other test uses.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub log: Arc<dyn Log>,
    pub topic: String,
    pub results: String,
    pub group: String,
}

impl Bench {
    pub fn new(place: &Place, partitions: i32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let servers = match place {
            Place::Embedded => format!("sqlite:{}", folder.path().join("log.db").display()),
            Place::Kafka => datamill_testkit::kafka::Kafka::from_env().address().to_owned(),
        };
        Self::at(folder, servers, &[], partitions)
    }

    /// On a broker of the test's own, with properties of the members.
    pub fn on(kafka: &datamill_testkit::kafka::Kafka, consumer: &[(&str, &str)], partitions: i32) -> Self {
        Self::at(tempfile::tempdir().unwrap(), kafka.address().to_owned(), consumer, partitions)
    }

    fn at(folder: tempfile::TempDir, servers: String, consumer: &[(&str, &str)], partitions: i32) -> Self {
        let mut properties = Properties::default();
        properties.broker.insert("bootstrap.servers".to_owned(), servers);
        properties.consumer = consumer.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let log = datamill::broker::open(&properties).unwrap();
        let id = uuid::Uuid::new_v4().simple().to_string();
        let bench = Self {
            folder,
            log,
            topic: format!("files-{id}"),
            results: format!("results-{id}"),
            group: format!("group-{id}"),
        };
        for (name, partitions) in [(&bench.topic, partitions), (&bench.results, 2)] {
            let settings = BTreeMap::new();
            bench.log.create_topic(&NewTopic { name: name.clone(), partitions, replication: 1, settings }).unwrap();
        }
        bench
    }

    /// A topic for dead letters, with settings of its own.
    pub fn dead_letter_topic(&self, settings: &[(&str, &str)]) -> String {
        let name = self.topic.replace("files", "dead");
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.log.create_topic(&NewTopic { name: name.clone(), partitions: 2, replication: 1, settings }).unwrap();
        name
    }

    pub fn output(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    pub fn settings(&self) -> EngineSettings {
        settings(&self.topic, &self.results, &self.group, &self.output())
    }

    pub fn run(&self, settings: &EngineSettings, code: impl DataFileStreamReproducer) -> Result<Summary, EngineError> {
        self.run_controlled(settings, code, &Control::default())
    }

    pub fn run_controlled(
        &self,
        settings: &EngineSettings,
        code: impl DataFileStreamReproducer,
        control: &Control,
    ) -> Result<Summary, EngineError> {
        self.run_counted(settings, code, control, &Facts::default())
    }

    pub fn run_counted(
        &self,
        settings: &EngineSettings,
        code: impl DataFileStreamReproducer,
        control: &Control,
        facts: &Facts,
    ) -> Result<Summary, EngineError> {
        datamill::engine::run(&self.log, settings, UserCode::reproducer(code), control, facts)
    }

    /// Runs code that is more than a function.
    pub fn run_code(&self, settings: &EngineSettings, code: UserCode) -> Result<Summary, EngineError> {
        datamill::engine::run(&self.log, settings, code, &Control::default(), &Facts::default())
    }

    /// Puts records on the topic: partition, key and value each.
    pub fn send(&self, records: &[Sent]) {
        self.send_at(records, None);
    }

    /// Puts records of this time on the topic, milliseconds since the epoch.
    pub fn send_at(&self, records: &[Sent], timestamp_ms: Option<i64>) {
        self.send_with(records, timestamp_ms, &[]);
    }

    /// Puts records of this time, with these headers beside their own, on the topic.
    pub fn send_with(&self, records: &[Sent], timestamp_ms: Option<i64>, more: &[(&str, &[u8])]) {
        self.send_each(records.iter().map(|record| (record, timestamp_ms)), more);
    }

    /// Puts records, of a time each, with these headers beside their own, on the topic.
    pub fn send_each<'a>(&self, records: impl Iterator<Item = (&'a Sent, Option<i64>)>, more: &[(&str, &[u8])]) {
        let mut publisher = self.log.publisher().unwrap();
        for (token, (record, timestamp_ms)) in (0..).zip(records) {
            let mut headers: Vec<(&str, &[u8])> = more.to_vec();
            if record.marked {
                headers.push((headers::CHUNK_VERSION, headers::CHUNK_VERSION_1.as_bytes()));
            }
            let record = NewRecord {
                topic: &self.topic,
                partition: Some(record.partition),
                key: Some(record.key.as_bytes()),
                value: Some(&record.value),
                headers,
                timestamp_ms,
            };
            while publisher.send(&record, token).is_err() {
                settle(publisher.as_mut(), usize::MAX);
            }
        }
        settle(publisher.as_mut(), 0);
    }

    /// Deletes the topic of the files and creates another one of its name.
    pub fn create_again(&self, partitions: i32) {
        self.create_topic_again(&self.topic, partitions);
    }

    /// Deletes a topic and creates another one of its name.
    pub fn create_topic_again(&self, topic: &str, partitions: i32) {
        let topic_id = || self.log.topic(topic).unwrap().id;
        let id = topic_id();
        self.log.delete_topic(topic).unwrap();
        let (name, settings) = (topic.to_owned(), BTreeMap::new());
        let again = NewTopic { name, partitions, replication: 1, settings };
        // a broker may be about to delete the files of the old one
        wait_for("the topic to be created again", || self.log.create_topic(&again).is_ok());
        assert_ne!(topic_id(), id);
    }

    pub fn topic_id(&self) -> String {
        self.log.topic(&self.topic).unwrap().id.unwrap()
    }

    /// Sets an entry of the group's state, as a member of the group.
    pub fn set_state(&self, key: &str, value: &[u8]) {
        let state = [StateChange { key: key.to_owned(), value: Some(value.to_vec()) }];
        self.commit(None, &state);
    }

    /// Commits this offset of partition 0 with a text, as a member of the group.
    pub fn set_position(&self, offset: i64, text: &str) {
        self.commit(Some((offset, text)), &[]);
    }

    fn commit(&self, position_of: Option<(i64, &str)>, state: &[StateChange]) {
        let mut session = self
            .log
            .subscribe(&SubscribeOptions {
                group: self.group.clone(),
                instance: "one".to_owned(),
                membership: Default::default(),
                topics: vec![self.topic.clone()],
                identity: Default::default(),
                first_start: datamill::broker::FirstStart::Earliest,
                queue_bytes: 1 << 20,
                delivery: datamill::broker::DeliveryGuarantee::ExactlyOnce,
            })
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut assignment = None;
        loop {
            session
                .subscription
                .poll(Duration::from_millis(50), &mut |event| {
                    if let Event::Assigned(assigned) = event {
                        assignment = assigned.iter().find(|a| a.partition == 0).map(|a| a.assignment).or(assignment);
                    }
                })
                .unwrap();
            assert!(Instant::now() < deadline, "nothing can be committed");
            let Some(assignment) = assignment else { continue };
            let topic: Arc<str> = self.topic.as_str().into();
            let position = |(offset, text): (i64, &str)| Position {
                topic: Arc::clone(&topic),
                partition: 0,
                assignment,
                offset,
                text: text.to_owned(),
            };
            let positions: Vec<Position> = position_of.map(position).into_iter().collect();
            let commit = Commit { records: &[], positions: &positions, state };
            if matches!(session.committer.commit(&commit), CommitOutcome::Done(_)) {
                break;
            }
        }
        session.subscription.close(true).unwrap();
    }

    /// The file of the group's state in the output folder.
    pub fn state_file(&self) -> PathBuf {
        let files = std::fs::read_dir(self.output().join(".datamill")).unwrap().map(|entry| entry.unwrap().path());
        let mut files = files.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
        let file = files.next().unwrap();
        assert_eq!(files.next(), None, "one log, one group, one file");
        file
    }

    /// What the output folder holds of the group's state.
    pub fn folder_state(&self) -> BTreeMap<String, String> {
        let mut state = BTreeMap::new();
        for line in std::fs::read_to_string(self.state_file()).unwrap().lines().skip(1) {
            let line: serde_json::Value = serde_json::from_str(&line[9..]).unwrap();
            let key = line["key"].as_str().unwrap().to_owned();
            match line.get("value") {
                Some(value) => drop(state.insert(key, value.as_str().unwrap().to_owned())),
                None => drop(state.remove(&key)),
            }
        }
        state
    }

    /// Everything that is visible on the result topic.
    pub fn read_results(&self) -> Vec<Got> {
        read_all(self.log.as_ref(), &self.results)
    }
}

/// Settings of a run up to the end of the topic.
pub fn settings(topic: &str, results: &str, group: &str, output: &Path) -> EngineSettings {
    EngineSettings {
        result_topic: Some(results.to_owned()),
        program: "test".to_owned(),
        max_attempts: 1,
        memory_limit: 64 << 20,
        exit_at_end: true,
        update_seconds: 0,
        shutdown_timeout: Duration::from_secs(10),
        ..EngineSettings::new(topic, group, "one", output)
    }
}

fn settle(publisher: &mut dyn Publisher, until: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        publisher
            .poll(Duration::from_millis(20), &mut |delivery| {
                delivery.outcome.unwrap();
            })
            .unwrap();
        if publisher.in_flight() <= until {
            return;
        }
        assert!(Instant::now() < deadline, "records are not acknowledged");
    }
}

/// A record of the result topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Got {
    pub key: String,
    pub value: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

impl Got {
    pub fn path(&self) -> &str {
        &self.headers[headers::SOURCE_PATH]
    }
}

/// All records up to the last stable offset of each partition.
pub fn read_all(log: &dyn Log, topic: &str) -> Vec<Got> {
    let partitions = log.topic(topic).unwrap().partitions;
    let starts: Vec<(i32, i64)> = (0..partitions).map(|p| (p, 0)).collect();
    let mut open: BTreeMap<i32, i64> = starts
        .iter()
        .map(|(p, _)| (*p, log.offsets(topic, *p).unwrap().last_stable))
        .filter(|(_, end)| *end > 0)
        .collect();
    let mut reader = log.reader(topic, &starts).unwrap();
    let mut got = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !open.is_empty() {
        reader
            .poll(Duration::from_millis(200), &mut |event| match event {
                Event::Record(record) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    got.push(Got {
                        key: text(record.key.unwrap_or_default()),
                        value: record.value.unwrap_or_default().to_vec(),
                        headers: record.headers.iter().map(|(n, v)| ((*n).to_owned(), text(v))).collect(),
                    });
                    if open.get(&record.partition).is_some_and(|end| record.offset + 1 >= *end) {
                        open.remove(&record.partition);
                    }
                }
                Event::End { partition, offset, .. } if open.get(&partition).is_some_and(|end| offset >= *end) => {
                    open.remove(&partition);
                }
                _ => {}
            })
            .unwrap();
        assert!(Instant::now() < deadline, "the end of `{topic}` is not reached");
    }
    got
}

/// A record to be sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub partition: i32,
    pub key: String,
    pub value: Vec<u8>,
    pub marked: bool,
}

/// A file as chunk messages of one partition.
pub fn chunks(partition: i32, path: &str, bytes: &[u8], chunk_size: usize) -> Vec<Sent> {
    let (subdir, filename) = path.rsplit_once('/').unwrap_or(("", path));
    let file_hash = sha512(bytes);
    let pieces: Vec<&[u8]> = if bytes.is_empty() { vec![bytes] } else { bytes.chunks(chunk_size).collect() };
    let mut sent = Vec::new();
    for (i, data) in pieces.iter().enumerate() {
        let chunk = Chunk {
            filename,
            file_hash: &file_hash,
            chunk_hash: &sha512(data),
            offset: (i * chunk_size) as u64,
            index: i as u32 + 1,
            total: pieces.len() as u32,
            subdir,
            filename_append: "",
            data,
            mtime: Some(1_700_000_000.5),
        };
        let mut value = Vec::new();
        chunk.encode(&mut value);
        sent.push(Sent { partition, key: chunk.key(), value, marked: true });
    }
    sent
}

/// Bytes that differ by seed and compress badly.
pub fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

/// Stops a program when the test ends, also when it fails: nobody waits for a program that runs on.
pub struct StopAtEnd<'a>(pub &'a Control);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop(StopKind::Leave);
    }
}

/// Waits until `done` or panics after three minutes.
pub fn wait_for(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(180);
    while !done() {
        assert!(Instant::now() < deadline, "waited for too long: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The rows of a registry file, without its header.
pub fn registry(output: &Path, begins: &str) -> Vec<Vec<String>> {
    let name = std::fs::read_dir(output.join("LOGS"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_string_lossy().starts_with(begins))
        .unwrap_or_else(|| panic!("no registry file `{begins}…`"));
    let mut reader = csv::ReaderBuilder::new().delimiter(b';').from_path(name).unwrap();
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

/// Answers with the file's size, and does as the file's name says.
#[derive(Default)]
pub struct ByName {
    pub calls: Arc<AtomicU64>,
}

impl DataFileStreamReproducer for ByName {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        self.calls.fetch_add(1, SeqCst);
        match file.filename() {
            "panic" => panic!("cannot read {}", file.relative_path()),
            "error" => Err("x".parse::<u8>().unwrap_err().into()),
            "nothing" => Ok(None),
            "huge" => Ok(Some(ReproducerMessage::new(content(1, 70 << 20)))),
            "verbose" => Err(ProcessingError::file_failed("µ".repeat(300_000))),
            "stop" => Err(ProcessingError::stop("the detector is gone")),
            _ => {
                assert_eq!(&sha512(file.bytes()?), file.sha512());
                Ok(Some(ReproducerMessage::new(file.size().to_string())))
            }
        }
    }
}

/// Answers with the file's hash; fails, by error, and holds while it is told to.
#[derive(Clone, Default)]
pub struct Told {
    pub fails: Arc<AtomicBool>,
    pub holds: Arc<AtomicBool>,
    pub calls: Arc<AtomicU64>,
    /// It fails for files in this folder alone.
    pub only_in: Option<&'static str>,
}

impl Told {
    pub fn to_fail() -> Self {
        let told = Self::default();
        told.fails.store(true, SeqCst);
        told
    }

    pub fn to_fail_in(folder: &'static str) -> Self {
        Self { only_in: Some(folder), ..Self::to_fail() }
    }

    pub fn calls(&self) -> u64 {
        self.calls.load(SeqCst)
    }
}

impl DataFileStreamReproducer for Told {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        self.calls.fetch_add(1, SeqCst);
        let fails = self.fails.load(SeqCst) && self.only_in.is_none_or(|folder| file.subdirectory() == folder);
        while self.holds.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if fails {
            return Err(format!("no calibration for {}", file.filename()).into());
        }
        Ok(Some(ReproducerMessage::new(hex(&sha512(file.bytes()?)))))
    }
}

/// What [`ByName`] answered, by path.
pub fn sizes(bench: &Bench) -> BTreeMap<String, Vec<String>> {
    let mut sizes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for got in bench.read_results() {
        sizes.entry(got.path().to_owned()).or_default().push(String::from_utf8(got.value).unwrap());
    }
    sizes
}
