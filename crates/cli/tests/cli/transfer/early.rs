//! Uploads that begin while the chunks of a file still come.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, FromArgMatches};
use datamill::broker::{NewRecord, Properties};
use datamill::deliver::{OnExists, S3TransferStreamProcessor, TransferSettings};
use datamill::engine::{self, Control, StopKind};
use datamill::facts::Facts;
use datamill::process::UserCode;
use datamill::program::{ProcessorArgs, ProgramArgs, Runnable};
use datamill::settings::Config;
use datamill::wire::{Chunk, headers, hex, partition_for, sha512};
use datamill_testkit::s3::S3Server;

use super::bench::{Bench, TOPIC, content, done};
use super::outages::{said, start_with};
use crate::common::{Running, wait_until};

const CHUNK: usize = 1 << 20;
/// The chunks that come first, of 60.
const FIRST: std::ops::Range<usize> = 0..50;
const REST: std::ops::Range<usize> = 50..60;
/// The parts of the first chunks that are full.
const PARTS: usize = 6;

fn properties(bench: &Bench) -> Properties {
    let servers = format!("sqlite:{}", bench.place.path("log.db").display());
    let broker = BTreeMap::from([("bootstrap.servers".to_owned(), servers)]);
    Properties { broker, ..Properties::default() }
}

/// Puts some chunks of a file on the topic, which is there.
fn send(bench: &Bench, path: &str, content: &[u8], hash: &[u8; 64], which: std::ops::Range<usize>) {
    let log = datamill::broker::open(&properties(bench)).unwrap();
    let mut publisher = log.publisher().unwrap();
    let partitions = log.topic(TOPIC).unwrap().partitions;
    for (number, data) in content.chunks(CHUNK).enumerate().filter(|(number, _)| which.contains(number)) {
        let chunk = Chunk {
            filename: path,
            file_hash: hash,
            chunk_hash: &sha512(data),
            offset: (number * CHUNK) as u64,
            index: number as u32 + 1,
            total: content.len().div_ceil(CHUNK) as u32,
            subdir: "",
            filename_append: "",
            data,
            mtime: Some(1_700_000_000.0),
        };
        let mut value = Vec::new();
        chunk.encode(&mut value);
        let key = chunk.key();
        let record = NewRecord {
            topic: TOPIC,
            partition: Some(partition_for(path, partitions)),
            key: Some(key.as_bytes()),
            value: Some(&value),
            headers: vec![(headers::CHUNK_VERSION, headers::CHUNK_VERSION_1.as_bytes())],
            timestamp_ms: None,
        };
        publisher.send(&record, number).unwrap();
        while publisher.in_flight() > 0 {
            publisher.poll(Duration::from_secs(5), &mut |delivery| assert!(delivery.outcome.is_ok())).unwrap();
        }
    }
}

/// A file of which the first chunks have come, and a program that has begun to upload it.
struct Begun {
    // ended before its folder is removed
    program: Running,
    bench: Bench,
    content: Vec<u8>,
}

impl Begun {
    fn new(server: &S3Server, hash: Option<[u8; 64]>) -> Self {
        let bench = Bench::new(server);
        bench.upload(&[("a", b"1")]);
        let content = content(1, 60 * CHUNK);
        send(&bench, "large.raw", &content, &hash.unwrap_or_else(|| sha512(&content)), FIRST);
        let args = bench.args();
        let waits_for_more = args.iter().map(String::as_str).filter(|arg| *arg != "--exit-at-end");
        let program = Running(start_with(&bench, "said", &waits_for_more.collect::<Vec<_>>()));
        wait_until("the upload begins", || !bench.bucket.unfinished_uploads().is_empty());
        assert!(!bench.bucket.keys().contains(&"files/large.raw".to_owned()), "nothing is seen of it");
        Self { program, bench, content }
    }

    fn send_rest(&self) {
        send(&self.bench, "large.raw", &self.content, &sha512(&self.content), REST);
    }

    /// Stops the program once this is so; it ends with this code.
    fn ends_once(self, code: i32, what: &str, is_so: impl Fn(&Bench) -> bool) -> (Bench, Vec<u8>) {
        wait_until(what, || is_so(&self.bench));
        assert_eq!(self.program.end(), code, "{}", said(&self.bench, "said"));
        assert!(self.bench.bucket.unfinished_uploads().is_empty(), "nothing is left over");
        (self.bench, self.content)
    }
}

/// Waits until the parts that are full have arrived at the store. Nothing of them is on the disk.
fn wait_until_taken(bench: &Bench) {
    wait_until("the parts arrive", || bench.bucket.parts_that_arrived("files/large.raw") == PARTS);
    let files = walkdir::WalkDir::new(bench.place.path("")).into_iter().flatten();
    let filling = |file: &walkdir::DirEntry| file.path().components().any(|part| part.as_os_str() == "filling");
    assert_eq!(files.filter(|file| file.file_type().is_file() && filling(file)).count(), 0);
}

fn is_there(bench: &Bench) -> bool {
    bench.bucket.keys().contains(&"files/large.raw".to_owned())
}

#[test]
fn a_large_file_is_on_its_way_before_it_is_whole_and_is_seen_once_it_is_verified() {
    let begun = Begun::new(&S3Server::from_env(), None);
    wait_until_taken(&begun.bench);
    begun.send_rest();
    let (bench, content) = begun.ends_once(0, "it is there", is_there);
    assert!(!said(&bench, "said").contains("read again"), "{}", said(&bench, "said"));
    let object = bench.bucket.object("files/large.raw").unwrap();
    assert!(object.content == content);
    assert_eq!(object.metadata["datamill-sha512"], hex(&sha512(&content)));
    assert!(object.metadata["datamill-offsets"].ends_with('-'), "{:?}", object.metadata);
    assert_eq!(done(&bench.transfer_again("newer")), 0, "it is recognised");
}

/// Whatever can run as a program, by the one way that all programs go.
fn started<Kind>(code: impl Runnable<Kind>) -> UserCode {
    code.into_user_code()
}

#[test]
fn a_transfer_that_is_started_as_any_other_program_takes_large_files_early_too() {
    let bench = Bench::new(&S3Server::from_env());
    bench.upload(&[("a", b"1")]);
    let content = content(1, 60 * CHUNK);
    send(&bench, "large.raw", &content, &sha512(&content), FIRST);
    let config = bench.place.path("lab.config");
    let loaded = Config::load(config.to_str()).unwrap();
    let settings =
        TransferSettings { url: bench.url(), section: loaded.section("s3").unwrap(), on_exists: OnExists::Newer };
    let code = started(S3TransferStreamProcessor::new(&settings).unwrap());
    let output = bench.place.path("output");
    let args = ["transfer", "--topic_name", TOPIC, "--consumer_group_id", "early", "--output_dir"];
    let args = args.into_iter().chain([output.to_str().unwrap()]);
    let args = ProcessorArgs::augment_args(clap::Command::new("transfer")).get_matches_from(args);
    let settings = ProcessorArgs::from_arg_matches(&args).unwrap().engine_settings("transfer", &loaded).unwrap();
    let log = datamill::broker::open(&properties(&bench)).unwrap();
    let control = Control::default();
    std::thread::scope(|scope| {
        let program = scope.spawn(|| engine::run(&log, &settings, code, &control, &Facts::default()));
        let taken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until_taken(&bench);
            assert!(!is_there(&bench), "the file is not whole");
            send(&bench, "large.raw", &content, &sha512(&content), REST);
            wait_until("it is there", || is_there(&bench));
        }));
        control.stop(StopKind::Leave);
        let summary = program.join().unwrap().unwrap();
        taken.unwrap();
        assert_eq!((summary.succeeded, summary.failed), (2, 0));
    });
    assert!(bench.bucket.object("files/large.raw").unwrap().content == content);
}

#[test]
fn a_program_that_is_stopped_before_a_file_is_whole_leaves_nothing_over_and_goes_on_at_the_next_start() {
    let begun = Begun::new(&S3Server::from_env(), None);
    let (bench, content) = begun.ends_once(0, "the other one is there", |bench| !bench.bucket.keys().is_empty());
    assert!(!is_there(&bench));
    send(&bench, "large.raw", &content, &sha512(&content), REST);
    assert_eq!(done(&bench.transfer(&[])), 1);
    assert!(bench.contents()["large.raw"] == content);
}

#[test]
fn a_large_file_that_is_kept_on_disk_as_well_is_whole_there() {
    let bench = Bench::new(&S3Server::from_env());
    let content = content(1, 60 * CHUNK);
    bench.upload(&[("large.raw", &content)]);
    assert_eq!(done(&bench.transfer(&["--mode", "both", "--output_dir", "out"])), 1);
    assert!(std::fs::read(bench.place.path("out/large.raw")).unwrap() == content);
    assert!(bench.contents()["large.raw"] == content);
}

#[test]
fn a_file_whose_hash_is_wrong_is_never_seen() {
    let hash = sha512(b"another content");
    let begun = Begun::new(&S3Server::from_env(), Some(hash));
    wait_until_taken(&begun.bench);
    send(&begun.bench, "large.raw", &begun.content, &hash, REST);
    let (bench, _) = begun.ends_once(1, "it has failed", |bench| said(bench, "said").contains("SHA-512"));
    assert!(said(&bench, "said").contains("each chunk agrees with its own hash"), "{}", said(&bench, "said"));
    assert!(!is_there(&bench));
}

#[test]
fn a_version_that_is_whole_first_takes_the_key_from_one_that_still_fills_up() {
    let begun = Begun::new(&S3Server::from_env(), None);
    let second = content(2, 9 * CHUNK);
    send(&begun.bench, "large.raw", &second, &sha512(&second), 0..9);
    wait_until("the second version is there", || is_there(&begun.bench));
    begun.send_rest();
    let left = |bench: &Bench| said(bench, "said").contains("left what is there");
    let (bench, _) = begun.ends_once(0, "the older version is done", left);
    assert!(bench.contents()["large.raw"] == second);
}

#[test]
fn a_store_that_dies_while_a_file_is_not_whole_is_waited_for() {
    let server = S3Server::start_own();
    let begun = Begun::new(&server, None);
    wait_until_taken(&begun.bench);
    server.kill9();
    begun.send_rest();
    wait_until("the program holds", || said(&begun.bench, "said").contains("not available; holding"));
    server.restart();
    let (bench, content) = begun.ends_once(0, "it is there", is_there);
    assert!(said(&bench, "said").contains("it is read again"), "{}", said(&bench, "said"));
    assert!(bench.contents()["large.raw"] == content);
}
