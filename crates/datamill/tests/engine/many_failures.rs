//! The engine over both logs: very many files that fail, and another try of all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{Bench, Got, Place, Sent, StopAtEnd, Told, chunks, content, on_both_logs, registry, wait_for};
use datamill::assemble::DownloadDataFile;
use datamill::engine::{Control, EngineSettings, RetryFailed, StopKind, failed_files, request_retry};
use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage};
use datamill::wire::{headers, hex, sha512};
use datamill_testkit::kafka::Kafka;

on_both_logs! {
    many_files_that_all_fail_have_a_row_each_within_the_memory_limit_and_are_all_tried_again,
    interleaved_files_are_rebuilt_from_their_own_chunks_in_one_reading,
    files_over_several_partitions_are_rebuilt_together,
    a_stop_among_many_tries_leaves_the_rest_for_the_next_start,
    many_requests_are_answered_once_each_while_the_program_runs,
    rows_that_the_table_refused_are_added_once_it_takes_them,
}

fn failed(bench: &Bench) -> usize {
    failed_files(bench.log.as_ref(), &bench.topic, &bench.group).unwrap().len()
}

/// Results by path, with how many answer a failure.
fn results(bench: &Bench) -> (BTreeMap<String, Vec<Vec<u8>>>, usize) {
    let all = bench.read_results();
    let answers = all.iter().filter(|got| got.headers.contains_key(headers::RETRY_OF)).count();
    let mut results: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for got in all {
        results.entry(got.path().to_owned()).or_default().push(got.value);
    }
    (results, answers)
}

/// Sends one small file after another, over the partitions in turn.
fn send_small(bench: &Bench, count: usize, partitions: usize) {
    let file =
        |i: usize| chunks((i % partitions) as i32, &format!("bad/{i:05}.dat"), format!("file {i}").as_bytes(), 100);
    bench.send(&(0..count).flat_map(file).collect::<Vec<_>>());
}

/// Each of these small files has one result, and no failure is left.
fn have_one_result_each(bench: &Bench, count: usize) {
    let (results, answers) = results(bench);
    assert_eq!((results.len(), answers, failed(bench)), (count, count, 0));
    for (path, values) in results {
        let i: usize = path[4..9].parse().unwrap();
        assert_eq!(values, [hex(&sha512(format!("file {i}").as_bytes())).into_bytes()], "{path}");
    }
}

/// The example program on the topics of the bench: all these files are none of its own.
fn program(place: &Place, bench: &Bench, options: &[&str]) -> Command {
    let servers = match place {
        Place::Embedded => format!("sqlite:{}", bench.folder.path().join("log.db").display()),
        Place::Kafka => Kafka::from_env().address().to_owned(),
    };
    let config = bench.folder.path().join("test.config");
    fs::write(&config, format!("[broker]\nbootstrap.servers = {servers}\n[consumer]\nauto.offset.reset = earliest\n"))
        .unwrap();
    let test = std::env::current_exe().unwrap();
    let mut command = Command::new(test.ancestors().nth(2).unwrap().join("examples").join("xrd_metadata"));
    command.current_dir(bench.folder.path()).env_remove("OPENMSISTREAM_CONFIG_FILE_DIR").arg("--config").arg(config);
    command.args(["--consumer_topic_name", &bench.topic, "--producer_topic_name", &bench.results]);
    command.args(["--consumer_group_id", &bench.group, "--output_dir", "output", "--max_attempts", "1"]).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Exit code, lines, and most anonymous memory in bytes.
fn measured(command: &mut Command) -> (i32, Vec<String>, usize) {
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let lines = std::thread::spawn(move || lines.map(Result::unwrap).collect());
    let mut most = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let kib: Option<usize> =
            status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(kib.unwrap_or(0) * 1024);
        if let Some(ended) = child.try_wait().unwrap() {
            return (ended.code().unwrap(), lines.join().unwrap(), most);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn many_files_that_all_fail_have_a_row_each_within_the_memory_limit_and_are_all_tried_again(place: &Place) {
    const FILES: usize = 20_000;
    const LIMIT: usize = 96 << 20;
    let bench = Bench::new(place, 3);
    send_small(&bench, FILES, 3);
    for (run, policy) in [(1, "now"), (2, "only")] {
        let options = ["--memory_limit", "96M", "--retry_failed", policy, "--exit-at-end"];
        let (code, lines, most) = measured(&mut program(place, &bench, &options));
        let told = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        let first = &lines[..lines.len().min(30)];
        assert_eq!(code, 1, "{first:#?}");
        assert!(most < LIMIT, "{most} bytes in run {run}");
        assert_eq!(told("the first 100 files of this run have all failed in the same way"), 1, "{first:#?}");
        assert!(told("could not be processed") < 20 && lines.len() < 100, "{} lines", lines.len());
        let rows = registry(&bench.output(), "failed_from_");
        assert_eq!(rows.len(), run * FILES);
        let paths: BTreeSet<&str> = rows[(run - 1) * FILES..].iter().map(|row| row[1].as_str()).collect();
        assert_eq!(paths.len(), FILES, "each file has a row of run {run}");
        assert_eq!(registry(&bench.output(), "consuming_from_").len(), FILES);
        let entries = failed_files(bench.log.as_ref(), &bench.topic, &bench.group).unwrap();
        assert_eq!(entries.len(), FILES);
        assert!(entries.iter().all(|file| file.attempts as usize == run));
    }
    // entries that have no room wait in the group's state
    let settings = EngineSettings { retry_failed: RetryFailed::Only, memory_limit: 8 << 20, ..bench.settings() };
    let code = Told::default();
    let summary = bench.run(&settings, code.clone()).unwrap();
    assert_eq!((summary.retried, summary.failed_again, code.calls.load(SeqCst)), (FILES as u64, 0, FILES as u64));
    have_one_result_each(&bench, FILES);
    assert!(registry(&bench.output(), "consuming_from_").is_empty());
}

/// The chunks of files in turn, one of each.
fn interleaved(files: Vec<Vec<Sent>>) -> Vec<Sent> {
    let longest = files.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|i| files.iter().filter_map(move |file| file.get(i).cloned())).collect()
}

fn interleaved_files_are_rebuilt_from_their_own_chunks_in_one_reading(place: &Place) {
    let bench = Bench::new(place, 2);
    let mut expected: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    let mut bad = 0;
    let mut seed = 0;
    let mut file = |partition: i32, path: String, copies: usize| {
        seed += 1;
        let bytes = content(seed, 300 + (seed as usize * 37) % 400);
        let sent = vec![chunks(partition, &path, &bytes, 100); copies];
        bad += if path.starts_with("bad/") { copies } else { 0 };
        expected.insert(path, vec![hex(&sha512(&bytes)).into_bytes(); copies]);
        sent
    };
    for group in 0..12 {
        for partition in 0..2 {
            let path = |kind: &str, i: usize| format!("{kind}/{group}-{partition}-{i}.dat");
            let mut files: Vec<Vec<Sent>> = (0..6).flat_map(|i| file(partition, path("bad", i), 1)).collect();
            files.extend((6..8).flat_map(|i| file(partition, path("good", i), 1)));
            // two uploads of one version at once
            files.extend(file(partition, path("bad", 8), 2));
            bench.send(&interleaved(files));
            // what lies between is read over, and where it is much, passed over
            let between = if group % 4 == 3 { 40 } else { 3 };
            let large =
                (0..between).map(|_| Sent { partition, key: "other".into(), value: content(9, 100_000), marked: true });
            bench.send(&large.collect::<Vec<_>>());
        }
    }
    let code = Told::to_fail_in("bad");
    let first = bench.run(&bench.settings(), code.clone()).unwrap();
    assert_eq!((first.succeeded, first.failed), (48, bad as u64));
    code.fails.store(false, SeqCst);
    let second = bench.run(&bench.settings(), code).unwrap();
    assert_eq!((second.retried, second.failed_again, second.failed), (bad as u64, 0, 0));
    assert_eq!(results(&bench), (expected, bad));
    assert_eq!(failed(&bench), 0);
    let answered = |got: &Got| {
        got.headers.get(headers::RETRY_OF).map(|of| (of.clone(), got.headers[headers::SOURCE_OFFSETS].clone()))
    };
    let answers: BTreeSet<_> = bench.read_results().iter().filter_map(answered).collect();
    assert_eq!(answers.len(), bad, "each names a failure and offsets of its own");
}

fn files_over_several_partitions_are_rebuilt_together(place: &Place) {
    let bench = Bench::new(place, 3);
    let mut expected = BTreeMap::new();
    for group in 0..6 {
        let file = |i: usize| {
            let path = format!("bad/{group}-{i}.dat");
            let bytes = content((group * 100 + i) as u64, 550);
            expected.insert(path.clone(), vec![hex(&sha512(&bytes)).into_bytes()]);
            let spread = |(at, sent): (usize, Sent)| Sent { partition: ((i + at) % 3) as i32, marked: false, ..sent };
            chunks(0, &path, &bytes, 100).into_iter().enumerate().map(spread).collect()
        };
        let files = (0..10).map(file).collect();
        bench.send(&interleaved(files));
    }
    let code = Told::to_fail_in("bad");
    assert_eq!(bench.run(&bench.settings(), code.clone()).unwrap().failed, 60);
    code.fails.store(false, SeqCst);
    let second = bench.run(&bench.settings(), code).unwrap();
    assert_eq!((second.retried, second.failed_again), (60, 0));
    assert_eq!(results(&bench), (expected, 60));
    assert_eq!(failed(&bench), 0);
}

fn a_stop_among_many_tries_leaves_the_rest_for_the_next_start(place: &Place) {
    const FILES: usize = 6_000;
    let bench = Bench::new(place, 2);
    send_small(&bench, FILES, 2);
    let code = Told::to_fail_in("bad");
    assert_eq!(bench.run(&bench.settings(), code.clone()).unwrap().failed, FILES as u64);
    code.fails.store(false, SeqCst);
    let mut retried = 0;
    let mut stops = 0;
    // at once, while the state is looked at, and while files are read
    for calls in [0, 1, 700, 1_500] {
        let control = Control::default();
        let before = code.calls.load(SeqCst);
        let summary = std::thread::scope(|scope| {
            let run = scope.spawn(|| bench.run_controlled(&bench.settings(), code.clone(), &control).unwrap());
            wait_for("so many calls", || code.calls.load(SeqCst) >= before + calls || run.is_finished());
            control.stop(StopKind::Leave);
            run.join().unwrap()
        });
        retried += summary.retried;
        stops += usize::from(retried < FILES as u64);
        assert_eq!(failed(&bench) as u64, FILES as u64 - retried, "what has a result is no failure");
    }
    assert!(stops > 1, "the stops came too late");
    let last = bench.run(&bench.settings(), code).unwrap();
    assert_eq!(retried + last.retried, FILES as u64);
    have_one_result_each(&bench, FILES);
}

fn many_requests_are_answered_once_each_while_the_program_runs(place: &Place) {
    const FILES: usize = 3_000;
    let bench = Bench::new(place, 2);
    send_small(&bench, FILES, 2);
    // more than has room among the entries that wait
    let settings =
        EngineSettings { exit_at_end: false, retry_failed: RetryFailed::No, memory_limit: 4 << 20, ..bench.settings() };
    let (code, control) = (Told::to_fail_in("bad"), Control::default());
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_controlled(&settings, code.clone(), &control).unwrap());
        wait_for("the failures", || failed(&bench) == FILES);
        code.fails.store(false, SeqCst);
        let all = failed_files(bench.log.as_ref(), &bench.topic, &bench.group).unwrap();
        request_retry(bench.log.as_ref(), &bench.topic, &bench.group, &all).unwrap();
        wait_for("the results", || failed(&bench) == 0);
        drop(stop);
        let summary = run.join().unwrap();
        assert_eq!((summary.mended, summary.failed, summary.failed_again), (FILES as u64, 0, 0));
    });
    assert_eq!(code.calls.load(SeqCst), 2 * FILES as u64);
    let state = bench.log.group_state(&bench.group).unwrap();
    assert!(!state.keys().any(|key| key.starts_with("retry/")), "the requests are answered");
    have_one_result_each(&bench, FILES);
}

/// Fails with a long reason. The table of failures cannot be written from its first call to its last one.
struct InTheWay {
    bench: Arc<Bench>,
    files: usize,
    calls: AtomicU64,
}

impl InTheWay {
    fn table(&self) -> PathBuf {
        let logs = fs::read_dir(self.bench.output().join("LOGS")).unwrap().map(|entry| entry.unwrap().path());
        let is_table = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("failed_from_");
        logs.into_iter().find(is_table).unwrap()
    }
}

impl DataFileStreamReproducer for InTheWay {
    fn get_processing_result_message_for_file(
        &self,
        _: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        match self.calls.fetch_add(1, SeqCst) as usize + 1 {
            1 => {
                let table = self.table();
                fs::remove_file(&table).unwrap();
                fs::create_dir(&table).unwrap();
            }
            call if call == self.files => {
                wait_for("the other failures", || failed(&self.bench) == self.files - 1);
                fs::remove_dir(self.table()).unwrap();
            }
            _ => {}
        }
        Err("x".repeat(60_000).into())
    }
}

fn rows_that_the_table_refused_are_added_once_it_takes_them(place: &Place) {
    const FILES: usize = 400;
    let bench = Arc::new(Bench::new(place, 1));
    send_small(&bench, FILES, 1);
    let code = InTheWay { bench: Arc::clone(&bench), files: FILES, calls: AtomicU64::new(0) };
    let settings = EngineSettings { threads: 1, ..bench.settings() };
    assert_eq!(bench.run(&settings, code).unwrap().failed, FILES as u64);
    let rows = registry(&bench.output(), "failed_from_");
    let paths: BTreeSet<&str> = rows.iter().map(|row| row[1].as_str()).collect();
    assert_eq!((rows.len(), paths.len()), (FILES, FILES));
    assert!(rows.iter().all(|row| row[4].len() == 60_000 && row[3] == "computing_result_message_failed"));
}

#[test]
fn a_partition_that_moves_among_many_tries_on_kafka_gives_each_file_one_result() {
    const FILES: usize = 4_000;
    let bench = Bench::new(&Place::Kafka, 4);
    send_small(&bench, FILES, 4);
    let code = Told::to_fail_in("bad");
    assert_eq!(bench.run(&bench.settings(), code.clone()).unwrap().failed, FILES as u64);
    code.fails.store(false, SeqCst);
    let calls = code.calls.load(SeqCst);
    let member = |name: &str| EngineSettings {
        exit_at_end: false,
        instance: name.to_owned(),
        output_dir: bench.folder.path().join(name),
        ..bench.settings()
    };
    let control = Control::default();
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let (one, two) = (member("one"), member("two"));
        let one = scope.spawn(|| {
            let settings = one;
            bench.run_controlled(&settings, code.clone(), &control).unwrap()
        });
        wait_for("some tries", || code.calls.load(SeqCst) > calls + 100);
        let two = scope.spawn(|| {
            let settings = two;
            bench.run_controlled(&settings, code.clone(), &control).unwrap()
        });
        wait_for("the results", || failed(&bench) == 0);
        drop(stop);
        assert_eq!(one.join().unwrap().retried + two.join().unwrap().retried, FILES as u64);
    });
    have_one_result_each(&bench, FILES);
}
