//! Several members of one group on Apache Kafka, and uploads of real files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{Bench, Place, StopAtEnd, chunks, content, wait_for};
use datamill::assemble::{DownloadDataFile, Mode};
use datamill::engine::{Control, EngineError, StopKind};
use datamill::facts::{Facts, Hold};
use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage};
use datamill::program::Exit;
use datamill::upload::{UploadSettings, upload_paths};
use datamill::wire::{headers, hex, sha512};
use datamill_testkit::kafka::Kafka;

/// Answers with the file's SHA-512, after some time.
struct Hash {
    pause: Duration,
    calls: Arc<AtomicU64>,
    takes_bad: bool,
}

impl Hash {
    fn after(pause: Duration) -> Self {
        Self { pause, calls: Arc::default(), takes_bad: false }
    }
}

impl DataFileStreamReproducer for Hash {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        self.calls.fetch_add(1, SeqCst);
        std::thread::sleep(self.pause);
        if file.filename().ends_with(".bad") && !self.takes_bad {
            return Err(ProcessingError::file_failed("bad on purpose"));
        }
        Ok(Some(ReproducerMessage::new(hex(&sha512(file.bytes()?)))))
    }
}

/// As [`Hash`], once it is let go.
#[derive(Default)]
struct Gated {
    begun: Arc<AtomicBool>,
    let_go: Arc<AtomicBool>,
}

impl DataFileStreamReproducer for Gated {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        lock: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        self.begun.store(true, SeqCst);
        wait_for("being let go", || self.let_go.load(SeqCst));
        Hash::after(Duration::ZERO).get_processing_result_message_for_file(file, lock)
    }
}

/// Results by path; a path has one for each result.
fn results(bench: &Bench) -> BTreeMap<String, Vec<String>> {
    let mut results: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for got in bench.read_results() {
        let value = String::from_utf8(got.value).unwrap();
        assert_eq!(got.headers[headers::SOURCE_SHA512], value);
        results.entry(got.headers[headers::SOURCE_PATH].clone()).or_default().push(value);
    }
    results
}

#[test]
fn members_of_a_group_share_the_partitions_and_hand_over_when_one_leaves() {
    let bench = Bench::new(&Place::Kafka, 6);
    let mut sent: Vec<(String, Vec<u8>)> = Vec::new();
    let mut send_round = || {
        let first = sent.len();
        sent.extend((first..first + 24).map(|i| (format!("f/{i}"), content(i as u64, 5_000))));
        let partition = |path: &str| datamill::wire::partition_for(path, 6);
        let round = sent[first..].iter().flat_map(|(path, bytes)| chunks(partition(path), path, bytes, 1_000));
        bench.send(&round.collect::<Vec<_>>());
        wait_for("the files of a round", || results(&bench).len() == sent.len());
        sent.len() as u64
    };
    let controls = [Control::default(), Control::default()];
    let codes = [Hash::after(Duration::from_millis(2)), Hash::after(Duration::from_millis(2))];
    let calls: Vec<_> = codes.iter().map(|code| Arc::clone(&code.calls)).collect();
    let count = std::thread::scope(|scope| {
        let _stop = (StopAtEnd(&controls[0]), StopAtEnd(&controls[1]));
        let mut runs = Vec::new();
        for (i, code) in codes.into_iter().enumerate() {
            let mut settings = bench.settings();
            settings.exit_at_end = false;
            settings.instance = format!("member-{i}");
            settings.output_dir = bench.folder.path().join(format!("output-{i}"));
            let (bench, control) = (&bench, &controls[i]);
            runs.push(scope.spawn(move || bench.run_controlled(&settings, code, control).unwrap()));
        }
        let both = || calls.iter().all(|calls| calls.load(SeqCst) > 0);
        let rounds = (0..60).take_while(|_| !both()).map(|_| send_round()).count();
        assert!(both(), "one member did all the work of {rounds} rounds");
        controls[0].stop(StopKind::Leave);
        let first = runs.remove(0).join().unwrap();
        let before = calls[1].load(SeqCst);
        let count = send_round();
        assert_eq!(calls[1].load(SeqCst), before + 24, "the last member works alone");
        controls[1].stop(StopKind::Leave);
        let second = runs.remove(0).join().unwrap();
        assert_eq!((first.succeeded + second.succeeded, first.failed + second.failed), (count, 0));
        count
    });
    let results = results(&bench);
    assert_eq!(results.len() as u64, count);
    for (path, bytes) in &sent {
        assert_eq!(results[path], [hex(&sha512(bytes))], "{path}");
    }
}

#[test]
fn failed_files_are_tried_again_by_one_member_each() {
    let bench = Bench::new(&Place::Kafka, 6);
    let files: Vec<_> = (0..36u64).map(|i| (format!("f/{i}.bad"), content(i, 5_000))).collect();
    for (path, bytes) in &files {
        bench.send(&chunks(datamill::wire::partition_for(path, 6), path, bytes, 1_000));
    }
    assert_eq!(bench.run(&bench.settings(), Hash::after(Duration::ZERO)).unwrap().failed, 36);
    let controls = [Control::default(), Control::default()];
    std::thread::scope(|scope| {
        let mut runs = Vec::new();
        for (i, control) in controls.iter().enumerate() {
            let mut settings = bench.settings();
            settings.exit_at_end = false;
            settings.instance = format!("member-{i}");
            settings.output_dir = bench.folder.path().join(format!("output-{i}"));
            let bench = &bench;
            let code = Hash { pause: Duration::from_millis(100), calls: Arc::default(), takes_bad: true };
            // the second one joins while the first one is at work
            std::thread::sleep(Duration::from_millis(900));
            runs.push(scope.spawn(move || bench.run_controlled(&settings, code, control).unwrap()));
        }
        wait_for("the results", || results(&bench).len() == 36);
        std::thread::sleep(Duration::from_secs(1));
        controls.iter().for_each(|control| control.stop(StopKind::Leave));
        let retried: u64 = runs.into_iter().map(|run| run.join().unwrap().retried).sum();
        assert_eq!(retried, 36);
    });
    for (path, bytes) in &files {
        assert_eq!(results(&bench)[path], [hex(&sha512(bytes))], "{path}");
    }
    let state = bench.log.group_state(&bench.group).unwrap();
    assert!(!state.keys().any(|key| key.starts_with("failed/")), "{:?}", state.keys());
}

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_thousand_files_of_mixed_sizes_come_through_once_each_and_identical() {
    let bench = Bench::new(&Place::Kafka, 5);
    let root = bench.folder.path().join("instrument");
    let mut expected = BTreeMap::new();
    for i in 0..1_000u64 {
        let size = match i % 100 {
            0 => 0,
            1 => 12_000_000,
            2..10 => 700_000 + i as usize * 101,
            _ => i as usize * 17,
        };
        let path = format!("run {}/Probe µ {i}.{}", i % 9, if i % 50 == 7 { "bad" } else { "dat" });
        let bytes = content(i, size);
        write(&root, &path, &bytes);
        if i % 50 != 7 {
            expected.insert(path, vec![hex(&sha512(&bytes))]);
        }
    }
    let settings = UploadSettings::new(bench.topic.clone());
    let (control, facts) = (Control::default(), Facts::default());
    let sent = upload_paths(bench.log.as_ref(), &[root], &settings, &control, &facts).unwrap();
    assert!(sent.is_complete() && sent.files == 1_000, "{sent}");
    let mut settings = bench.settings();
    settings.memory_limit = 16 << 20;
    settings.mode = Mode::Both;
    let summary = bench.run(&settings, Hash::after(Duration::ZERO)).unwrap();
    assert_eq!((summary.succeeded, summary.failed), (980, 20), "{summary}");
    assert!(results(&bench) == expected);
    for (path, hash) in &expected {
        assert_eq!(hex(&sha512(&std::fs::read(settings.output_dir.join(path)).unwrap())), hash[0], "{path}");
    }
}

#[test]
fn a_function_that_outlasts_the_poll_interval_by_far_costs_no_membership() {
    let mut properties = datamill::broker::Properties::default();
    let kafka = datamill_testkit::kafka::Kafka::from_env();
    properties.broker.insert("bootstrap.servers".to_owned(), kafka.address().to_owned());
    for (key, value) in
        [("max.poll.interval.ms", "6000"), ("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "300")]
    {
        properties.consumer.insert(key.to_owned(), value.to_owned());
    }
    let bench = Bench { log: datamill::broker::open(&properties).unwrap(), ..Bench::new(&Place::Kafka, 2) };
    for i in 0..3 {
        bench.send(&chunks(i % 2, &format!("f/{i}"), &content(i as u64, 1_000), 500));
    }
    let (control, code) = (Control::default(), Gated::default());
    let (begun, let_go) = (Arc::clone(&code.begun), Arc::clone(&code.let_go));
    // one thread is busy for three times the interval, and more waits than there is room for
    let settings =
        datamill::engine::EngineSettings { threads: 1, memory_limit: 8_000, exit_at_end: false, ..bench.settings() };
    let members = || bench.log.group(&bench.group, &[&bench.topic]).unwrap().members;
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&control);
        scope.spawn(|| bench.run_controlled(&settings, code, &control).unwrap());
        wait_for("the first call", || begun.load(SeqCst));
        let member = members();
        assert_eq!(member.len(), 1);
        std::thread::sleep(Duration::from_secs(18));
        assert_eq!(members(), member, "the member is the same");
        let_go.store(true, SeqCst);
        wait_for("all results", || results(&bench).len() == 3);
        assert_eq!(members(), member, "the member is the same");
    });
    assert!(results(&bench).values().all(|results| results.len() == 1));
}

/// Files as another program sends them: each chunk into the next partition, unmarked.
fn spread(range: std::ops::Range<u64>) -> Vec<crate::common::Sent> {
    let file = |seed: u64| {
        let mut file = chunks(0, &format!("spread/{seed}.dat"), &content(seed, 1_000), 100);
        for (i, chunk) in file.iter_mut().enumerate() {
            chunk.partition = (i as i32 + seed as i32) % 4;
            chunk.marked = false;
        }
        file
    };
    range.flat_map(file).collect()
}

/// A log whose groups notice within some seconds that a member is gone, and a topic of four partitions.
fn with_short_sessions() -> Bench {
    Bench::on(&Kafka::from_env(), &[("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "300")], 4)
}

/// Members of a group on a spread topic, each a run of its own.
struct Members<'a, 's> {
    bench: &'a Bench,
    scope: &'s std::thread::Scope<'s, 'a>,
    runs: Vec<Run<'s>>,
}

/// One of them.
struct Run<'s> {
    control: Arc<Control>,
    facts: Facts,
    calls: Arc<AtomicU64>,
    thread: Option<std::thread::ScopedJoinHandle<'s, datamill::engine::Summary>>,
}

impl Drop for Members<'_, '_> {
    fn drop(&mut self) {
        self.runs.iter().for_each(|run| run.control.stop(StopKind::Leave));
    }
}

impl<'a, 's> Members<'a, 's> {
    fn start(&mut self, count: usize) {
        for _ in 0..count {
            let (control, facts) = (Arc::new(Control::default()), Facts::default());
            let name = format!("member-{}", self.runs.len());
            let settings = datamill::engine::EngineSettings {
                output_dir: self.bench.folder.path().join(&name),
                instance: name,
                exit_at_end: false,
                ..self.bench.settings()
            };
            let code = Hash::after(Duration::from_millis(2));
            let calls = Arc::clone(&code.calls);
            let (bench, own, told) = (self.bench, Arc::clone(&control), facts.clone());
            let run = move || bench.run_counted(&settings, code, &own, &told).unwrap();
            self.runs.push(Run { control, facts, calls, thread: Some(self.scope.spawn(run)) });
        }
    }

    fn held(&self, number: usize) -> Option<Hold> {
        self.runs[number].facts.counters().snapshot().state.held.map(|(hold, _)| hold)
    }

    /// Those that run and stand by.
    fn standing_by(&self) -> Vec<usize> {
        (0..self.runs.len())
            .filter(|number| self.runs[*number].thread.is_some() && self.held(*number) == Some(Hold::Standby))
            .collect()
    }

    /// The one that reads, once all others stand by.
    fn reader(&self) -> usize {
        let running = || self.runs.iter().filter(|run| run.thread.is_some()).count();
        wait_for("one member that reads and others that stand by", || {
            let owns_all = |run: &&Run| run.facts.counters().snapshot().state.partitions == 4;
            let readers = self.runs.iter().filter(|run| run.thread.is_some()).filter(owns_all).count();
            self.standing_by().len() + 1 == running() && readers == 1
        });
        let standing_by = self.standing_by();
        (0..self.runs.len()).find(|n| self.runs[*n].thread.is_some() && !standing_by.contains(n)).unwrap()
    }

    fn stop(&mut self, number: usize, kind: StopKind) {
        self.runs[number].control.stop(kind);
        self.runs[number].thread.take().unwrap().join().unwrap();
    }

    fn send(&self, files: std::ops::Range<u64>) {
        let all = files.end as usize;
        self.bench.send(&spread(files));
        wait_for("the results", || results(self.bench).len() == all);
    }
}

fn has_one_result_each(bench: &Bench) {
    let results = results(bench);
    assert!(results.values().all(|results| results.len() == 1), "{results:?}");
}

#[test]
fn one_of_three_members_reads_a_spread_topic_and_another_one_takes_over_when_it_leaves() {
    let bench = with_short_sessions();
    bench.send(&spread(0..5));
    std::thread::scope(|scope| {
        let mut members = Members { bench: &bench, scope, runs: Vec::new() };
        members.start(3);
        wait_for("the first files", || results(&bench).len() == 5);
        for (round, files) in [5..10, 10..15, 15..20].into_iter().enumerate() {
            members.reader();
            let calls = || members.runs.iter().map(|run| run.calls.load(SeqCst)).sum::<u64>();
            let before = calls();
            members.send(files);
            assert_eq!(calls() - before, 5, "round {round}: one member runs each file");
            // on a busy machine the place may change hands in between
            let reader = members.reader();
            let listed = || bench.log.group(&bench.group, &[]).unwrap().members.len();
            wait_for(&format!("round {round}: those that stand by are no members"), || listed() == 1);
            members.stop(reader, StopKind::Leave);
        }
    });
    has_one_result_each(&bench);
}

/// The broker keeps the place of a member that ends like this until its session is over, as that of one that was killed.
#[test]
fn a_member_that_stands_by_takes_over_once_the_session_of_the_other_one_is_over() {
    let bench = with_short_sessions();
    bench.send(&spread(0..5));
    std::thread::scope(|scope| {
        let mut members = Members { bench: &bench, scope, runs: Vec::new() };
        members.start(2);
        wait_for("the first files", || results(&bench).len() == 5);
        let reader = members.reader();
        members.stop(reader, StopKind::KeepPlace);
        members.send(5..10);
        assert_eq!(members.reader(), 1 - reader);
    });
    has_one_result_each(&bench);
}

#[test]
fn a_run_to_the_end_of_a_spread_topic_does_not_stand_by_and_leaves_the_topic_to_the_other_member() {
    let bench = with_short_sessions();
    bench.send(&spread(0..5));
    let code = Gated::default();
    let (begun, let_go) = (Arc::clone(&code.begun), Arc::clone(&code.let_go));
    std::thread::scope(|scope| {
        let to_the_end = scope.spawn(|| bench.run(&bench.settings(), code).unwrap_err());
        wait_for("a file in hand", || begun.load(SeqCst));
        let mut members = Members { bench: &bench, scope, runs: Vec::new() };
        members.start(1);
        wait_for("the results of the other member", || results(&bench).len() == 5);
        let_go.store(true, SeqCst);
        let error = to_the_end.join().unwrap();
        assert!(matches!(error, EngineError::Spread { .. }), "{error}");
        assert_eq!(Exit::of_error(&error), Exit::Stopped);
    });
    has_one_result_each(&bench);
}

/// The group goes on without a member that its broker does not answer in time. One that runs up to the end of the
/// topic owns nothing then, which is not the end.
#[test]
fn a_member_that_lost_its_partitions_joins_again_before_it_is_at_the_end() {
    let kafka = Kafka::start_own();
    let bench = Bench::on(&kafka, &[("session.timeout.ms", "1500"), ("heartbeat.interval.ms", "200")], 2);
    let paths: Vec<String> = (0..40).map(|i| format!("f/{i}")).collect();
    let sent =
        paths.iter().enumerate().flat_map(|(i, path)| chunks(i as i32 % 2, path, &content(i as u64, 3_000), 1_000));
    bench.send(&sent.collect::<Vec<_>>());
    let code = Gated::default();
    let (begun, let_go) = (Arc::clone(&code.begun), Arc::clone(&code.let_go));
    let summary = std::thread::scope(|scope| {
        let run = scope.spawn(|| bench.run(&bench.settings(), code).unwrap());
        wait_for("a file in hand", || begun.load(SeqCst));
        kafka.kill9();
        std::thread::sleep(Duration::from_millis(4_000));
        let_go.store(true, SeqCst);
        kafka.restart();
        run.join().unwrap()
    });
    assert_eq!((summary.succeeded, summary.failed, summary.incomplete.len()), (40, 0, 0));
    let results = results(&bench);
    assert_eq!(results.keys().cloned().collect::<BTreeSet<_>>(), paths.into_iter().collect());
    assert!(results.values().all(|values| values.len() == 1), "{results:?}");
}
