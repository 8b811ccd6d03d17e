//! A transfer that dies between any two of its steps, one after another, and is started again: every file is
//! in the bucket once and whole, nothing is left over there, and nothing was sent twice beyond the file in
//! flight. A process of its own dies, at the point that its environment names.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../datamill/tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use common::{Bench, Place, chunks, content};
use datamill::deliver::{OnExists, S3TransferStreamProcessor, TransferSettings};
use datamill::engine::{Control, EngineSettings};
use datamill::facts::Facts;
use datamill::program::Runnable;
use datamill::report::logging::{self, LogOptions};
use datamill_broker::{CRASH_AT, CrashPoint};
use datamill_testkit::s3::{ACCESS_KEY, Bucket, S3Server, SECRET_KEY};

/// Variables that tell the other process what to do.
const SERVERS: &str = "TRANSFER_TEST_SERVERS";
const NAMES: &str = "TRANSFER_TEST_NAMES";

/// Where a transfer can die: at its own steps, and at those of the commit that follows.
const POINTS: [CrashPoint; 9] = [
    CrashPoint::TransferLooked,
    CrashPoint::TransferBegun,
    CrashPoint::TransferPart,
    CrashPoint::TransferParts,
    CrashPoint::TransferSent,
    CrashPoint::Made,
    CrashPoint::EmbeddedState,
    CrashPoint::EmbeddedCommitted,
    CrashPoint::Registered,
];

/// Bytes of a large file: more than six parts of 8 MiB, so that some are waited for.
const LARGE: usize = 57 << 20;

/// In this time the server ends a request whose sender is gone.
const SETTLED: Duration = Duration::from_millis(500);

/// A log with three files, and a bucket.
struct Case {
    bench: Bench,
    server: S3Server,
    bucket: Bucket,
    files: BTreeMap<String, Vec<u8>>,
}

impl Case {
    fn new(name: &str) -> Self {
        let bench = Bench::new(&Place::Embedded, 1);
        let server = S3Server::from_env();
        let bucket = server.bucket(&format!("{name}-{}", &bench.topic[bench.topic.len() - 16..]).to_lowercase());
        let files = BTreeMap::from([
            ("a/small.csv".to_owned(), content(1, 3000)),
            ("b/large.raw".to_owned(), content(2, LARGE)),
            ("c/small.csv".to_owned(), content(3, 4000)),
        ]);
        for (path, content) in &files {
            bench.send(&chunks(0, path, content, 1 << 20));
        }
        Self { bench, server, bucket, files }
    }

    /// Runs a transfer in a process of its own.
    fn start(&self, at: Option<CrashPoint>) -> Output {
        let servers = format!("sqlite:{}", self.bench.folder.path().join("log.db").display());
        let output = self.bench.output().display().to_string();
        let names = [&self.bench.topic, &self.bench.group, &output, self.bucket.name(), self.server.url()];
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "the_second_process"]);
        command.env(SERVERS, servers).env(NAMES, names.join("\n"));
        if let Some(point) = at {
            command.env(CRASH_AT, format!("{point:?}"));
        }
        command.output().unwrap()
    }

    /// Objects that are there once the server is through with what a process that died has sent last.
    fn left_by_the_dead(&self, what: &str) -> usize {
        let mut there = self.whole(what);
        loop {
            std::thread::sleep(SETTLED);
            let before = std::mem::replace(&mut there, self.whole(what));
            if before == there {
                return there;
            }
        }
    }

    /// Objects that are whole; every object must be the content of its file.
    fn whole(&self, what: &str) -> usize {
        let objects = self.bucket.objects();
        for (key, object) in &objects {
            let path = key.strip_prefix(&format!("{}/", self.bench.topic)).unwrap();
            assert!(object.content == self.files[path], "{what}: `{key}` is not whole");
        }
        objects.len()
    }
}

fn transferred(output: &Output) -> usize {
    String::from_utf8_lossy(&output.stderr).lines().filter(|line| line.contains(" transferred ")).count()
}

#[test]
fn every_file_is_there_once_and_whole_wherever_a_transfer_is_cut_off() {
    for point in POINTS {
        let what = format!("at {point:?}");
        let case = Case::new(&format!("{point:?}"));
        let died = case.start(Some(point));
        let said = String::from_utf8_lossy(&died.stderr);
        assert!(!died.status.success() && said.contains(&format!("crash point {point:?}\n")), "{what}: {said}");
        let there = case.left_by_the_dead(&what);

        let second = case.start(None);
        let said = String::from_utf8_lossy(&second.stderr);
        assert!(second.status.success(), "{what}: {said}");
        assert_eq!(there + transferred(&second), case.files.len(), "{what}: what was there is not sent again: {said}");
        assert_eq!(case.whole(&what), case.files.len(), "{what}");
        assert!(case.bucket.unfinished_uploads().is_empty(), "{what}");
        assert_eq!(transferred(&case.start(None)), 0, "{what}: there is nothing left to do");
    }
}

#[test]
#[ignore = "no test: the other starts it as a process of its own"]
fn the_second_process() {
    let names = std::env::var(NAMES).unwrap();
    let names: Vec<&str> = names.split('\n').collect();
    let [topic, group, output, bucket, url] = names[..] else { panic!("{names:?}") };
    let _logging = logging::init(LogOptions::default()).unwrap();
    let mut properties = datamill::broker::Properties::default();
    properties.broker.insert("bootstrap.servers".to_owned(), std::env::var(SERVERS).unwrap());
    let log = datamill::broker::open(&properties).unwrap();
    let settings = EngineSettings { result_topic: None, ..common::settings(topic, "", group, Path::new(output)) };
    let section = [("access_key_id", ACCESS_KEY), ("secret_key_id", SECRET_KEY), ("endpoint_url", url)];
    let section = section.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let code = S3TransferStreamProcessor::new(&TransferSettings {
        url: format!("s3://{bucket}"),
        section: Some(BTreeMap::from(section)),
        on_exists: OnExists::Newer,
    });
    let code = code.unwrap().into_user_code();
    datamill::engine::run(&log, &settings, code, &Control::default(), &Facts::default()).unwrap();
}
