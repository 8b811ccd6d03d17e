//! A folder with files, a topic for them on either log, and a program that makes results of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill::assemble::DownloadDataFile;
use datamill::broker::{
    Commit, CommitOutcome, Event, FirstStart, Log, NewRecord, NewTopic, Position, Properties, SubscribeOptions,
};
use datamill::engine::{Control, DeliveryGuarantee, EngineSettings, RetryFailed, Summary};
use datamill::facts::Facts;
use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage, UserCode};
use datamill::wire::{Chunk, sha512};
use datamill_testkit::kafka::Kafka;
use serde_json::Value;

use crate::common::{Ended, Place};

/// Each check runs on the embedded log and on Apache Kafka.
macro_rules! on_both_logs {
    ($($check:ident),* $(,)?) => {
        mod embedded {
            $(#[test] fn $check() { super::$check(&super::Bench::new(false)) })*
        }
        mod kafka {
            $(#[test] fn $check() { super::$check(&super::Bench::new(true)) })*
        }
    };
}
pub(super) use on_both_logs;

pub struct Bench {
    pub place: Place,
    pub log: Arc<dyn Log>,
    pub topic: String,
    pub results: String,
    pub group: String,
}

/// Fails for files whose names begin with `bad`.
struct Bad;

impl DataFileStreamReproducer for Bad {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        if file.filename().starts_with("bad") {
            return Err(ProcessingError::file_failed("no calibration"));
        }
        Ok(Some(ReproducerMessage::new("done")))
    }
}

impl Bench {
    pub fn new(kafka: bool) -> Self {
        let place = Place::new();
        let servers = match kafka {
            true => Kafka::from_env().address().to_owned(),
            false => format!("sqlite:{}", place.path("log.db").display()),
        };
        place.write("test.config", format!("[broker]\nbootstrap.servers = {servers}\n").as_bytes());
        let broker = BTreeMap::from([("bootstrap.servers".to_owned(), servers)]);
        let log = datamill::broker::open(&Properties { broker, ..Properties::default() }).unwrap();
        let unique = place.path("").file_name().unwrap().to_string_lossy().replace('.', "");
        let bench = Self {
            place,
            log,
            topic: format!("files-{unique}"),
            results: format!("results-{unique}"),
            group: format!("group-{unique}"),
        };
        bench.create(&bench.topic, 2, &[]);
        bench.create(&bench.results, 1, &[]);
        bench
    }

    pub fn create(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let topic = NewTopic { name: name.to_owned(), partitions, replication: 1, settings };
        self.log.create_topic(&topic).unwrap();
    }

    /// Names of the topics of this test.
    pub fn own_topics(&self) -> Vec<String> {
        let unique = self.topic.trim_start_matches("files-");
        let names = self.log.topics().unwrap().into_iter().map(|topic| topic.name);
        names.filter(|name| name.contains(unique)).collect()
    }

    /// Runs the command on the log of the test.
    pub fn run(&self, args: &[&str]) -> Ended {
        self.place.run(&[args, &["--config", "test.config"]].concat())
    }

    pub fn upload(&self, more: &[&str]) -> Ended {
        self.run(&[&["upload", "data", "--topic_name", &self.topic, "--chunk_size", "1024"], more].concat())
    }

    /// The objects that a command prints, which must end with this code.
    pub fn objects(&self, code: i32, args: &[&str]) -> Vec<Value> {
        let ended = self.run(args);
        assert_eq!(ended.code(), code, "{args:?}: {}\n{}", ended.stderr(), ended.stdout());
        ended.stdout().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Runs a program of the group over all that is there.
    pub fn reproduce(&self) -> Summary {
        self.reproduce_with(DeliveryGuarantee::ExactlyOnce)
    }

    /// The same, with this promise.
    pub fn reproduce_with(&self, delivery: DeliveryGuarantee) -> Summary {
        self.reproduce_as(&self.group, delivery)
    }

    /// The same, as this group.
    pub fn reproduce_as(&self, group: &str, delivery: DeliveryGuarantee) -> Summary {
        let settings = EngineSettings {
            result_topic: Some(self.results.clone()),
            program: "test".to_owned(),
            max_attempts: 1,
            memory_limit: 64 << 20,
            delivery,
            retry_failed: RetryFailed::No,
            incomplete_after: Duration::ZERO,
            exit_at_end: true,
            update_seconds: 0,
            shutdown_timeout: Duration::from_secs(10),
            ..EngineSettings::new(&self.topic, group, "one", self.place.path("output"))
        };
        let code = UserCode::reproducer(Bad);
        datamill::engine::run(&self.log, &settings, code, &Control::default(), &Facts::default()).unwrap()
    }

    /// Puts these chunks of a file on a partition of a topic, each with the time of its record.
    pub fn send(&self, topic: &str, partition: i32, path: &str, pieces: &[&[u8]], sent: &[(usize, i64)]) {
        let whole = pieces.concat();
        let values: Vec<Vec<u8>> = sent.iter().map(|(index, _)| chunk(path, &whole, pieces, *index)).collect();
        self.publish(values.iter().zip(sent).map(|(value, (_, time_ms))| NewRecord {
            topic,
            partition: Some(partition),
            key: Some(path.as_bytes()),
            value: Some(value),
            timestamp_ms: Some(*time_ms),
            ..NewRecord::default()
        }));
    }

    /// Puts records on their topics.
    pub fn publish<'a>(&self, records: impl IntoIterator<Item = NewRecord<'a>>) {
        let mut publisher = self.log.publisher().unwrap();
        for record in records {
            publisher.send(&record, 0).unwrap();
        }
        while publisher.in_flight() > 0 {
            publisher.poll(Duration::from_millis(50), &mut |delivery| assert!(delivery.outcome.is_ok())).unwrap();
        }
    }

    /// Commits this position as another program would, without a text beside it.
    pub fn set_plain_position(&self, group: &str, partition: i32, offset: i64) {
        self.set_position(group, partition, offset, "");
    }

    /// Commits this position with this text beside it.
    pub fn set_position(&self, group: &str, partition: i32, offset: i64, text: &str) {
        let topic: Arc<str> = self.topic.as_str().into();
        let mut session = self
            .log
            .subscribe(&SubscribeOptions {
                group: group.to_owned(),
                instance: "other".to_owned(),
                membership: Default::default(),
                topics: vec![self.topic.clone()],
                identity: Default::default(),
                first_start: FirstStart::Earliest,
                queue_bytes: 1 << 20,
                delivery: Default::default(),
            })
            .unwrap();
        let mut assignment = None;
        let begun = Instant::now();
        while assignment.is_none() {
            assert!(begun.elapsed() < Duration::from_secs(120), "no partition is assigned");
            let take = &mut |event: Event<'_>| {
                if let Event::Assigned(assigned) = event {
                    assignment = assigned.iter().find(|of| of.partition == partition).map(|of| of.assignment);
                }
            };
            session.subscription.poll(Duration::from_millis(100), take).unwrap();
        }
        let text = text.to_owned();
        let position = Position { topic, partition, assignment: assignment.unwrap(), offset, text };
        let commit = Commit { positions: &[position], ..Commit::default() };
        let committed = session.committer.commit(&commit);
        assert!(matches!(committed, CommitOutcome::Done(_)), "{committed:?}");
        session.subscription.close(true).unwrap();
    }
}

/// The message of a chunk, counted from 1; the whole may be other bytes than its pieces.
pub fn chunk(path: &str, whole: &[u8], pieces: &[&[u8]], index: usize) -> Vec<u8> {
    let (subdir, filename) = path.rsplit_once('/').unwrap_or(("", path));
    let data = pieces[index - 1];
    let chunk = Chunk {
        filename,
        file_hash: &sha512(whole),
        chunk_hash: &sha512(data),
        offset: pieces[..index - 1].iter().map(|piece| piece.len() as u64).sum(),
        index: index as u32,
        total: pieces.len() as u32,
        subdir,
        filename_append: "",
        data,
        mtime: None,
    };
    let mut value = Vec::new();
    chunk.encode(&mut value);
    value
}
