//! The engine over both logs: what becomes of files, failures, versions and restarts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use common::{Bench, Place, StopAtEnd, chunks, content, registry, wait_for};
use datamill::assemble::{DownloadDataFile, Mode};
use datamill::engine::{Control, EngineError, StopKind};
use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage};
use datamill::wire::{headers, hex, sha512};

/// Each check runs on the embedded log and on Apache Kafka.
macro_rules! on_both_logs {
    ($($check:ident),* $(,)?) => {
        mod embedded {
            $(#[test] fn $check() { super::$check(&super::Place::Embedded) })*
        }
        mod kafka {
            $(#[test] fn $check() { super::$check(&super::Place::Kafka) })*
        }
    };
}

on_both_logs! {
    every_good_file_has_one_result_and_every_bad_one_is_recorded,
    a_result_says_where_it_came_from,
    each_upload_of_each_version_has_its_own_result,
    an_incomplete_file_is_named_and_completed_by_a_later_run,
    files_spread_over_all_partitions_by_another_program_come_through_once,
    the_filter_matches_from_the_start_of_the_path,
    content_is_there_in_every_mode_also_beyond_the_memory_limit,
    a_file_named_like_the_registry_cannot_replace_it,
    what_is_not_available_holds_the_program_and_fails_no_file,
    user_code_can_stop_the_program_and_its_file_is_read_again,
    a_stop_finishes_what_runs_and_leaves_the_rest_to_the_next_start,
    a_stop_does_not_wait_for_files_that_are_read_after_it,
    files_run_side_by_side_and_those_of_one_path_one_after_another,
    a_second_program_in_the_same_output_folder_is_refused,
    a_file_fails_only_after_all_attempts_and_says_how_many,
    a_stop_does_not_wait_for_the_next_attempt,
    each_failure_and_each_unusable_record_has_one_dead_letter,
    a_restart_tries_exactly_the_failed_files_again_from_their_offsets_alone,
    a_file_that_fails_again_stays_in_the_state_without_another_dead_letter,
    a_failed_file_whose_chunks_are_gone_is_given_up_once,
    failed_files_can_be_tried_alone_or_left_alone,
    a_file_whose_chunks_stop_coming_ends_as_incomplete_and_a_repetition_as_a_note,
    more_open_files_than_fit_beside_an_offset_survive_a_restart,
}

/// Answers with the file's size, and does as the file's name says.
#[derive(Default)]
struct ByName {
    calls: Arc<AtomicU64>,
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

fn sizes(bench: &Bench) -> BTreeMap<String, Vec<String>> {
    let mut sizes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for got in bench.read_results() {
        sizes.entry(got.path().to_owned()).or_default().push(String::from_utf8(got.value).unwrap());
    }
    sizes
}

fn every_good_file_has_one_result_and_every_bad_one_is_recorded(place: &Place) {
    let bench = Bench::new(place, 3);
    let mut sent = Vec::new();
    for i in 0..40usize {
        sent.push(chunks(i as i32 % 3, &format!("run {}/scan {i}.dat", i % 4), &content(i as u64, i * 97), 256));
    }
    for name in ["panic", "error", "nothing", "huge"] {
        sent.push(chunks(0, &format!("bad/{name}"), b"abc", 256));
    }
    // interleaved, and each file's chunks turned round
    let mut records = Vec::new();
    for round in 0.. {
        let before = records.len();
        records.extend(sent.iter().filter_map(|file| file.get(file.len().checked_sub(round + 1)?).cloned()));
        if records.len() == before {
            break;
        }
    }
    bench.send(&records);
    let mut damaged = chunks(1, "damaged.dat", &content(99, 600), 256);
    damaged[1].value = {
        let mut changed = content(99, 600);
        changed[300] ^= 1;
        let chunk = datamill::wire::Chunk::decode(&damaged[1].value).unwrap();
        let mut value = Vec::new();
        datamill::wire::Chunk { data: &changed[256..512], ..chunk }.encode(&mut value);
        value
    };
    bench.send(&damaged);
    bench.send(&[common::Sent { partition: 2, key: "?".into(), value: b"not a chunk".to_vec(), marked: true }]);

    let summary = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((summary.succeeded, summary.failed, summary.undecodable), (40, 5, 1));
    assert!(summary.incomplete.is_empty() && !summary.is_clean());
    let sizes = sizes(&bench);
    assert_eq!(sizes.len(), 40);
    for i in 0..40usize {
        assert_eq!(sizes[&format!("run {}/scan {i}.dat", i % 4)], [(i * 97).to_string()]);
    }
    let failed = registry(&bench.output(), "failed_from_");
    let reason = |path: &str| {
        failed.iter().find(|row| row.iter().any(|c| c == path)).unwrap_or_else(|| panic!("{path}")).join(" | ")
    };
    assert!(reason("bad/panic").contains("cannot read bad/panic"), "{}", reason("bad/panic"));
    assert!(reason("bad/panic").contains("computing_result_message_failed"));
    assert!(reason("bad/error").contains("invalid digit"));
    assert!(reason("bad/huge").contains("producing_message_failed"), "{}", reason("bad/huge"));
    assert!(reason("damaged.dat").contains("chunk 2 of 3"), "{}", reason("damaged.dat"));
    assert_eq!(registry(&bench.output(), "results_produced_to_").len(), 40);

    // a restart does nothing twice
    let again = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((again.succeeded, again.failed, again.read_again), (0, 0, 0));
    assert_eq!(bench.read_results().len(), 40);
}

fn a_result_says_where_it_came_from(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a b/c/scan.dat", &content(1, 1000), 400));
    bench.run(&bench.settings(), ByName::default()).unwrap();
    let results = bench.read_results();
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].key, "a b_c_scan.dat_chunk_processing_result");
    assert_eq!(results[0].headers[headers::SOURCE_TOPIC], bench.topic);
    assert_eq!(results[0].headers[headers::SOURCE_PATH], "a b/c/scan.dat");
    assert_eq!(results[0].headers[headers::SOURCE_SHA512], hex(&sha512(&content(1, 1000))));
    assert_eq!(results[0].headers[headers::SOURCE_OFFSETS], "0:0-2");
}

fn each_upload_of_each_version_has_its_own_result(place: &Place) {
    let bench = Bench::new(place, 1);
    let old = chunks(0, "scan.dat", &content(1, 1000), 100);
    let new = chunks(0, "scan.dat", &content(2, 500), 100);
    bench.send(&old[..5]);
    bench.send(&new); // the new version while the old one fills up
    bench.send(&old[5..]);
    bench.send(&old); // again, whole
    bench.run(&bench.settings(), ByName::default()).unwrap();
    let mut got = sizes(&bench).remove("scan.dat").unwrap();
    got.sort();
    assert_eq!(got, ["1000", "1000", "500"]);
}

fn an_incomplete_file_is_named_and_completed_by_a_later_run(place: &Place) {
    let bench = Bench::new(place, 1);
    let file = chunks(0, "late.dat", &content(3, 1000), 100);
    bench.send(&file[..7]);
    bench.send(&chunks(0, "whole.dat", b"x", 100));
    let summary = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!(summary.succeeded, 1);
    assert_eq!(
        (summary.incomplete[0].path.as_str(), summary.incomplete[0].got, summary.incomplete[0].total),
        ("late.dat", 7, 10)
    );
    bench.send(&file[7..]);
    let summary = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((summary.succeeded, summary.read_again), (1, 1), "of what is read again, only `whole.dat` is finished");
    assert_eq!(
        sizes(&bench),
        BTreeMap::from([("late.dat".into(), vec!["1000".into()]), ("whole.dat".into(), vec!["1".into()])])
    );
}

fn files_spread_over_all_partitions_by_another_program_come_through_once(place: &Place) {
    let bench = Bench::new(place, 3);
    let spread = |seed: u64| {
        let mut file = chunks(0, &format!("spread/{seed}.dat"), &content(seed, 1_000), 100);
        for (i, chunk) in file.iter_mut().enumerate() {
            chunk.partition = (i as i32 + seed as i32) % 3;
            chunk.marked = false;
        }
        file
    };
    for seed in 0..5 {
        bench.send(&spread(seed));
    }
    let late = spread(9);
    bench.send(&late[..4]);
    let first = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((first.succeeded, first.incomplete.len()), (5, 1));
    bench.send(&late[4..]);
    let second = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((second.succeeded, second.incomplete.len()), (1, 0));
    assert_eq!(sizes(&bench).into_values().collect::<Vec<_>>(), vec![["1000".to_owned()]; 6]);
}

fn the_filter_matches_from_the_start_of_the_path(place: &Place) {
    let bench = Bench::new(place, 1);
    for path in ["keep/a.dat", "other/keep/b.dat", "keep/c.txt"] {
        bench.send(&chunks(0, path, b"abc", 2));
    }
    let mut settings = bench.settings();
    settings.download_regex = Some(datamill::settings::Pattern::from_python(r"keep/(?!c)").unwrap());
    let summary = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((summary.succeeded, summary.filtered_messages), (1, 4));
    assert_eq!(sizes(&bench).keys().collect::<Vec<_>>(), ["keep/a.dat"]);
}

/// Checks what a file offers in a mode.
struct InMode(Mode);

impl DataFileStreamReproducer for InMode {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        use std::io::Read;
        let mut read = Vec::new();
        file.reader()?.read_to_end(&mut read)?;
        assert_eq!(file.bytes()?, read);
        assert_eq!(&sha512(&read), file.sha512());
        assert_eq!(file.path().is_some(), self.0 != Mode::Memory);
        if let Some(path) = file.path() {
            assert_eq!(std::fs::read(path)?, read);
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), file.filename());
            assert_eq!(std::fs::metadata(path)?.modified()?, file.modified().unwrap());
        }
        Ok(Some(ReproducerMessage::new("ok")))
    }
}

fn content_is_there_in_every_mode_also_beyond_the_memory_limit(place: &Place) {
    for mode in [Mode::Memory, Mode::Disk, Mode::Both] {
        for memory_limit in [64 << 20, 200_000] {
            let bench = Bench::new(place, 2);
            let mut files: Vec<_> = (0..6).map(|i| (format!("d/{i}.dat"), content(i, 100_000 * i as usize))).collect();
            files.push(("empty".to_owned(), Vec::new()));
            let cut: Vec<_> = files.iter().map(|(path, bytes)| chunks(0, path, bytes, 10_000)).collect();
            let rounds = cut.iter().map(Vec::len).max().unwrap();
            let records: Vec<_> = (0..rounds).flat_map(|i| cut.iter().filter_map(move |c| c.get(i).cloned())).collect();
            bench.send(&records);
            let mut settings = bench.settings();
            settings.mode = mode;
            settings.memory_limit = memory_limit;
            let summary = bench.run(&settings, InMode(mode)).unwrap();
            assert_eq!((summary.succeeded, summary.failed), (7, 0), "{mode:?} {memory_limit}");
            for (path, bytes) in &files {
                let public = bench.output().join(path);
                match mode {
                    Mode::Memory => assert!(!public.exists()),
                    _ => assert!(std::fs::read(public).unwrap() == *bytes, "{path}"),
                }
            }
            for own in ["filling", "work"] {
                let left = std::fs::read_dir(bench.output().join(".datamill").join(own)).unwrap().count();
                assert_eq!(left, 0, "files are left in `{own}`, {mode:?} {memory_limit}");
            }
        }
    }
}

fn a_file_named_like_the_registry_cannot_replace_it(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "LOGS/results.csv", b"abc", 10));
    bench.send(&chunks(0, ".datamill/lock", b"abc", 10));
    let mut settings = bench.settings();
    settings.mode = Mode::Disk;
    let summary = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((summary.succeeded, summary.failed), (0, 2));
    assert!(!bench.output().join("LOGS/results.csv").exists());
}

/// Is not available for its first calls.
struct Unavailable {
    calls: Arc<AtomicU64>,
}

impl DataFileStreamReproducer for Unavailable {
    fn get_processing_result_message_for_file(
        &self,
        _: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        match self.calls.fetch_add(1, SeqCst) {
            0 | 1 => Err(ProcessingError::not_available("the database does not answer")),
            _ => Ok(Some(ReproducerMessage::new("ok"))),
        }
    }
}

fn what_is_not_available_holds_the_program_and_fails_no_file(place: &Place) {
    let bench = Bench::new(place, 1);
    for i in 0..5 {
        bench.send(&chunks(0, &format!("{i}"), b"abc", 2));
    }
    let calls = Arc::new(AtomicU64::new(0));
    let summary = bench.run(&bench.settings(), Unavailable { calls: Arc::clone(&calls) }).unwrap();
    assert_eq!((summary.succeeded, summary.failed), (5, 0));
    assert_eq!(calls.load(SeqCst), 7, "two calls were in vain");
}

fn user_code_can_stop_the_program_and_its_file_is_read_again(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "stop", b"abc", 2));
    for _ in 0..2 {
        let stopped = bench.run(&bench.settings(), ByName::default()).unwrap_err();
        assert!(
            matches!(&stopped, EngineError::Stopped { file, reason } if file == "stop" && reason == "the detector is gone")
        );
    }
    assert!(bench.read_results().is_empty());
}

/// Takes its time.
struct Slow {
    started: Arc<AtomicU64>,
}

impl DataFileStreamReproducer for Slow {
    fn get_processing_result_message_for_file(
        &self,
        _: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        self.started.fetch_add(1, SeqCst);
        std::thread::sleep(Duration::from_millis(300));
        Ok(Some(ReproducerMessage::new("ok")))
    }
}

fn a_stop_finishes_what_runs_and_leaves_the_rest_to_the_next_start(place: &Place) {
    let bench = Bench::new(place, 1);
    for i in 0..10 {
        bench.send(&chunks(0, &format!("{i}"), b"abc", 2));
    }
    let started = Arc::new(AtomicU64::new(0));
    let control = Control::default();
    let mut settings = bench.settings();
    settings.exit_at_end = false;
    let first = std::thread::scope(|scope| {
        let _stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_controlled(&settings, Slow { started: Arc::clone(&started) }, &control));
        wait_for("the first files", || started.load(SeqCst) >= 2);
        control.stop(StopKind::Leave);
        run.join().unwrap().unwrap()
    });
    assert_eq!(first.succeeded, started.load(SeqCst), "what had begun was finished");
    assert!(first.succeeded < 10);
    let rest = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!(first.succeeded + rest.succeeded, 10);
    assert_eq!(bench.read_results().len(), 10);
}

/// Notes how many run at once, with and without the lock.
#[derive(Default)]
struct AtOnce {
    running: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
    locked: Arc<AtomicU64>,
    paths: Arc<parking_lot::Mutex<Vec<String>>>,
}

impl DataFileStreamReproducer for AtOnce {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        lock: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        self.most.fetch_max(self.running.fetch_add(1, SeqCst) + 1, SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        {
            let _one = lock.acquire();
            assert_eq!(self.locked.fetch_add(1, SeqCst), 0, "one at a time");
            std::thread::sleep(Duration::from_millis(5));
            self.locked.fetch_sub(1, SeqCst);
            self.paths.lock().push(format!("{} {}", file.relative_path(), file.size()));
        }
        self.running.fetch_sub(1, SeqCst);
        if file.filename() == "panic" {
            panic!("with the lock free again")
        }
        Ok(Some(ReproducerMessage::new("ok")))
    }
}

/// Asks for a stop as soon as there is a file.
struct StopAtOnce(Arc<Control>);

impl DataFileStreamReproducer for StopAtOnce {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        self.0.stop(StopKind::KeepPlace);
        Ok(Some(ReproducerMessage::new(file.size().to_string())))
    }
}

fn a_stop_does_not_wait_for_files_that_are_read_after_it(place: &Place) {
    let bench = Bench::new(place, 1);
    let records: Vec<_> = (0..8_000).flat_map(|i| chunks(0, &format!("{i}"), b"abc", 4)).collect();
    bench.send(&records);
    let control = Arc::new(Control::default());
    let mut settings = bench.settings();
    settings.shutdown_timeout = Duration::from_secs(60);
    let first = bench.run_controlled(&settings, StopAtOnce(Arc::clone(&control)), &control).unwrap();
    assert!(first.duration < Duration::from_secs(30), "{first}");
    assert!(first.succeeded < 8_000);
    let rest = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!(first.succeeded + rest.succeeded, 8_000);
}

fn files_run_side_by_side_and_those_of_one_path_one_after_another(place: &Place) {
    let bench = Bench::new(place, 1);
    for i in 0..12u64 {
        bench.send(&chunks(0, &format!("{}", i % 3), &content(i, 10 + i as usize), 4));
    }
    let code = AtOnce::default();
    let (most, paths) = (Arc::clone(&code.most), Arc::clone(&code.paths));
    let mut settings = bench.settings();
    settings.threads = 8;
    assert_eq!(bench.run(&settings, code).unwrap().succeeded, 12);
    assert_eq!(most.load(SeqCst), 3, "three paths, so three at once");
    for path in 0..3u64 {
        let of_path: Vec<_> = paths.lock().iter().filter(|p| p.starts_with(&format!("{path} "))).cloned().collect();
        let expected: Vec<_> = (0..4).map(|k| format!("{path} {}", 10 + path + 3 * k)).collect();
        assert_eq!(of_path, expected, "in log order");
    }
}

fn a_second_program_in_the_same_output_folder_is_refused(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a", b"abc", 2));
    let started = Arc::new(AtomicU64::new(0));
    let control = Control::default();
    let mut settings = bench.settings();
    settings.exit_at_end = false;
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_controlled(&settings, Slow { started: Arc::clone(&started) }, &control));
        wait_for("the first program", || started.load(SeqCst) == 1);
        let mut second = bench.settings();
        second.group = "another".to_owned();
        let refused = bench.run(&second, ByName::default()).unwrap_err();
        assert!(matches!(refused, EngineError::OutputInUse(_)), "{refused}");
        control.stop(StopKind::Leave);
        run.join().unwrap().unwrap();
    });
}

/// Fails its first calls, by error, panic and without a message in turn.
struct FailsAtFirst {
    failures: u64,
    calls: Arc<AtomicU64>,
}

impl DataFileStreamReproducer for FailsAtFirst {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        let call = self.calls.fetch_add(1, SeqCst);
        if call >= self.failures {
            return Ok(Some(ReproducerMessage::new(file.size().to_string())));
        }
        match call % 3 {
            0 => Err(ProcessingError::file_failed("the licence server is busy")),
            1 => panic!("too busy"),
            _ => Ok(None),
        }
    }
}

/// The entries of the group's state for failed files, by path.
fn failures(bench: &Bench) -> BTreeMap<String, serde_json::Value> {
    let state = bench.log.group_state(&bench.group, None).unwrap();
    let failed = state.iter().filter(|(key, _)| key.starts_with("failed/"));
    failed
        .map(|(_, value)| serde_json::from_slice::<serde_json::Value>(value).unwrap())
        .map(|entry| (entry["path"].as_str().unwrap().to_owned(), entry))
        .collect()
}

fn a_file_fails_only_after_all_attempts_and_says_how_many(place: &Place) {
    for (failures_at_first, succeeded) in [(3, 1), (4, 0)] {
        let bench = Bench::new(place, 1);
        bench.send(&chunks(0, "a", b"abc", 2));
        let calls = Arc::new(AtomicU64::new(0));
        let mut settings = bench.settings();
        settings.max_attempts = 4;
        let code = FailsAtFirst { failures: failures_at_first, calls: Arc::clone(&calls) };
        let summary = bench.run(&settings, code).unwrap();
        assert_eq!((summary.succeeded, summary.failed, calls.load(SeqCst)), (succeeded, 1 - succeeded, 4));
        assert_eq!(bench.read_results().len() as u64, succeeded);
        let failures = failures(&bench);
        assert_eq!(failures.len() as u64, 1 - succeeded);
        assert!(failures.values().all(|entry| entry["attempts"] == 4), "{failures:?}");
    }
}

fn a_stop_does_not_wait_for_the_next_attempt(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a", b"abc", 2));
    let calls = Arc::new(AtomicU64::new(0));
    let control = Control::default();
    let mut settings = bench.settings();
    settings.max_attempts = 1000;
    std::thread::scope(|scope| {
        let code = FailsAtFirst { failures: u64::MAX, calls: Arc::clone(&calls) };
        let run = scope.spawn(|| bench.run_controlled(&settings, code, &control).unwrap());
        wait_for("four attempts", || calls.load(SeqCst) == 4);
        control.stop(StopKind::Leave);
        assert_eq!(run.join().unwrap().failed, 0);
        assert!(calls.load(SeqCst) <= 5, "{calls:?}");
    });
    assert!(failures(&bench).is_empty(), "a file that was not given up has no outcome");
    assert_eq!(bench.run(&bench.settings(), ByName::default()).unwrap().succeeded, 1);
}

fn each_failure_and_each_unusable_record_has_one_dead_letter(place: &Place) {
    let bench = Bench::new(place, 2);
    let mut settings = bench.settings();
    settings.dead_letter_topic = Some(bench.dead_letter_topic(&[]));
    let open = chunks(0, "late.dat", &content(1, 100), 60);
    let junk = |value: &[u8]| common::Sent { partition: 0, key: "odd".into(), value: value.to_vec(), marked: true };
    bench.send(&open[..1]);
    bench.send(&[junk(b"not a chunk"), junk(&content(5, 100_000))]);
    bench.send(&chunks(1, "a/error", &content(2, 1000), 300));
    bench.send(&chunks(1, "huge", b"abc", 300));
    bench.send(&chunks(1, "good", b"abc", 300));
    let summary = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((summary.succeeded, summary.failed, summary.undecodable), (1, 2, 2));
    assert_eq!((summary.dead_letters_of_files, summary.dead_letters_of_records), (2, 2));

    // what is read again is not reported again, and nothing else either
    bench.send(&open[1..]);
    let summary = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((summary.succeeded, summary.failed, summary.undecodable), (1, 0, 0));
    assert_eq!((summary.dead_letters_of_files, summary.dead_letters_of_records), (0, 0));

    let letters = common::read_all(bench.log.as_ref(), settings.dead_letter_topic.as_deref().unwrap());
    assert_eq!(letters.len(), 4);
    let of_file = letters.iter().find(|letter| letter.key == "a_error_chunk_processing_result").unwrap();
    let value: serde_json::Value = serde_json::from_slice(&of_file.value).unwrap();
    assert_eq!(
        (&value["path"], &value["subdir"], &value["filename"]),
        (&"a/error".into(), &"a".into(), &"error".into())
    );
    assert_eq!((&value["size"], &value["n_chunks"], &value["attempts"]), (&1000.into(), &4.into(), &1.into()));
    assert_eq!((&value["topic"], &value["offsets"]), (&bench.topic.as_str().into(), &"1:0-3".into()));
    assert_eq!(value["status"], "computing_result_message_failed");
    assert_eq!(value["sha512"], hex(&sha512(&content(2, 1000))));
    assert!(value["reason"].as_str().unwrap().contains("invalid digit"));
    assert_eq!(of_file.headers[headers::SOURCE_PATH], "a/error");
    assert_eq!(of_file.headers[headers::ERROR_TOPIC], bench.topic);
    assert_eq!(of_file.headers[headers::ERROR_PARTITION], "1");
    assert_eq!(of_file.headers[headers::ERROR_OFFSET], "0");
    assert!(of_file.headers[headers::ERROR_MESSAGE].contains("invalid digit"));
    let mut of_records: Vec<_> = letters.iter().filter(|letter| letter.key == "odd").collect();
    of_records.sort_by_key(|letter| letter.value.len());
    assert_eq!(of_records[0].value, b"not a chunk");
    assert_eq!(of_records[0].headers[headers::CHUNK_VERSION], "1", "a record keeps its own headers");
    assert_eq!(of_records[0].headers[headers::ERROR_OFFSET], "1");
    assert_eq!(of_records[1].value, content(5, 100_000));
}

/// Fails for files in folders of these names.
struct Fails(&'static [&'static str]);

impl DataFileStreamReproducer for Fails {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        if self.0.contains(&file.subdirectory()) {
            return Err(ProcessingError::file_failed("no calibration for this folder"));
        }
        Ok(Some(ReproducerMessage::new(hex(&sha512(file.bytes()?)))))
    }
}

fn a_restart_tries_exactly_the_failed_files_again_from_their_offsets_alone(place: &Place) {
    let bench = Bench::new(place, 3);
    let mut expected = BTreeMap::new();
    for i in 0..30 {
        let path = format!("{}/{i}.dat", ["good", "bad"][i % 2]);
        let bytes = content(i as u64, 100 + i * 50);
        bench.send(&chunks(i as i32 % 3, &path, &bytes, 100));
        expected.insert(path, vec![hex(&sha512(&bytes))]);
    }
    let mut settings = bench.settings();
    settings.mode = Mode::Disk;
    let first = bench.run(&settings, Fails(&["bad"])).unwrap();
    assert_eq!((first.succeeded, first.failed), (15, 15));
    let keys: Vec<String> = bench.log.group_state(&bench.group, None).unwrap().into_keys().collect();
    assert_eq!(keys.len(), 15);

    // on another host, so to speak
    settings.output_dir = bench.folder.path().join("elsewhere");
    settings.instance = "another".to_owned();
    let second = bench.run(&settings, Fails(&[])).unwrap();
    assert_eq!((second.succeeded, second.retried, second.failed, second.read_again), (15, 15, 0, 0));
    assert_eq!(sizes(&bench), expected);
    let results = bench.read_results();
    let answers: Vec<_> = results.iter().filter(|got| got.headers.contains_key(headers::RETRY_OF)).collect();
    assert_eq!(answers.len(), 15);
    for got in answers {
        assert!(keys.contains(&got.headers[headers::RETRY_OF]), "{got:?}");
        assert!(got.path().starts_with("bad/") && settings.output_dir.join(got.path()).exists());
    }
    assert_eq!(failures(&bench), BTreeMap::new());
    let third = bench.run(&settings, Fails(&[])).unwrap();
    assert_eq!((third.succeeded, third.retried), (0, 0));
    assert_eq!(bench.read_results().len(), 30);
}

fn a_file_that_fails_again_stays_in_the_state_without_another_dead_letter(place: &Place) {
    let bench = Bench::new(place, 1);
    let mut settings = bench.settings();
    settings.dead_letter_topic = Some(bench.dead_letter_topic(&[]));
    settings.max_attempts = 2;
    bench.send(&chunks(0, "bad/a", b"abc", 2));
    for run in 1..4u32 {
        let summary = bench.run(&settings, Fails(&["bad"])).unwrap();
        assert_eq!((summary.failed, summary.failed_again), if run == 1 { (1, 0) } else { (0, 1) });
        let entry = &failures(&bench)["bad/a"];
        assert_eq!(
            (&entry["attempts"], &entry["status"]),
            (&(1 + run).into(), &"computing_result_message_failed".into())
        );
    }
    let in_progress = registry(&bench.output(), "consuming_from_");
    assert_eq!(in_progress.len(), 1, "{in_progress:?}");
    assert!(bench.run(&settings, Fails(&[])).unwrap().is_clean());
    assert!(registry(&bench.output(), "consuming_from_").is_empty());
    assert_eq!(common::read_all(bench.log.as_ref(), settings.dead_letter_topic.as_deref().unwrap()).len(), 1);
}

fn a_failed_file_whose_chunks_are_gone_is_given_up_once(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "bad/a", &content(1, 500), 100));
    assert_eq!(bench.run(&bench.settings(), Fails(&["bad"])).unwrap().failed, 1);
    // the same offsets hold other records now
    let (key, value) = bench.log.group_state(&bench.group, None).unwrap().pop_first().unwrap();
    let mut entry: serde_json::Value = serde_json::from_slice(&value).unwrap();
    entry["sha512"] = hex(&sha512(b"something else")).into();
    bench.set_state(&key, entry.to_string().as_bytes());
    let second = bench.run(&bench.settings(), Fails(&[])).unwrap();
    assert_eq!((second.succeeded, second.failed_again), (0, 1));
    assert_eq!(failures(&bench)["bad/a"]["status"], "expired");
    let third = bench.run(&bench.settings(), Fails(&[])).unwrap();
    assert_eq!((third.succeeded, third.failed_again), (0, 0));
    assert!(bench.read_results().is_empty());
}

fn failed_files_can_be_tried_alone_or_left_alone(place: &Place) {
    let bench = Bench::new(place, 2);
    bench.send(&chunks(1, "bad/a", b"abc", 2));
    let mut settings = bench.settings();
    assert_eq!(bench.run(&settings, Fails(&["bad"])).unwrap().failed, 1);
    bench.send(&chunks(0, "new", b"abc", 2));
    settings.retry_failed = datamill::engine::RetryFailed::Only;
    settings.exit_at_end = false;
    let only = bench.run(&settings, Fails(&["bad"])).unwrap();
    assert_eq!((only.succeeded, only.failed_again), (0, 1));
    settings.retry_failed = datamill::engine::RetryFailed::No;
    settings.exit_at_end = true;
    let without = bench.run(&settings, Fails(&[])).unwrap();
    assert_eq!((without.succeeded, without.retried, without.failed_again), (1, 0, 0));
    settings.retry_failed = datamill::engine::RetryFailed::Only;
    assert_eq!(bench.run(&settings, Fails(&[])).unwrap().retried, 1);
    assert_eq!(bench.read_results().len(), 2);
}

fn a_file_whose_chunks_stop_coming_ends_as_incomplete_and_a_repetition_as_a_note(place: &Place) {
    let bench = Bench::new(place, 2);
    let mut settings = bench.settings();
    settings.dead_letter_topic = Some(bench.dead_letter_topic(&[]));
    let hours_ago = |hours: i64| Some(datamill::report::clock::now_ms() - hours * 3_600_000);
    let old = chunks(0, "old.dat", &content(1, 1000), 100);
    let recent = chunks(0, "recent.dat", &content(2, 1000), 100);
    let quiet = chunks(1, "quiet.dat", &content(3, 1000), 100);
    let twice = chunks(0, "twice.dat", &content(4, 300), 100);
    bench.send_at(&old[..7], hours_ago(26));
    bench.send_at(&quiet[..7], hours_ago(26));
    // an upload that was cut off, and a whole one whose last chunk completes it
    bench.send_at(&twice[..2], hours_ago(26));
    bench.send_at(&twice, hours_ago(26));
    bench.send_at(&recent[..7], hours_ago(23));
    bench.send(&chunks(0, "now.dat", b"abc", 100));
    let summary = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((summary.succeeded, summary.failed, summary.dead_letters_of_files), (2, 1, 1));
    // nothing newer is in the other partition
    let incomplete: std::collections::BTreeSet<_> = summary.incomplete.iter().map(|i| i.path.as_str()).collect();
    assert_eq!(incomplete, ["quiet.dat", "recent.dat"].into());
    let failures = failures(&bench);
    assert_eq!(failures.keys().collect::<Vec<_>>(), ["old.dat"]);
    assert_eq!(failures["old.dat"]["status"], "incomplete");
    let reason = failures["old.dat"]["reason"].as_str().unwrap();
    assert!(reason.contains("7 of 10") && reason.ends_with("missing are 8, 9, 10"), "{reason}");

    // a restart neither tries it again nor waits for it
    bench.send(&recent[7..]);
    let again = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((again.succeeded, again.failed, again.failed_again, again.incomplete.len()), (1, 0, 0, 1));
    assert_eq!(common::read_all(bench.log.as_ref(), settings.dead_letter_topic.as_deref().unwrap()).len(), 1);
}

#[test]
fn a_dead_letter_is_cut_to_what_its_topic_on_kafka_takes() {
    let bench = Bench::new(&Place::Kafka, 1);
    let mut settings = bench.settings();
    settings.dead_letter_topic = Some(bench.dead_letter_topic(&[("max.message.bytes", "2500")]));
    let junk = common::Sent { partition: 0, key: "odd".into(), value: content(5, 100_000), marked: true };
    bench.send(&[junk]);
    for name in ["error", "verbose"] {
        bench.send(&chunks(0, name, b"abc", 300));
    }
    let summary = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((summary.dead_letters_of_files, summary.dead_letters_of_records), (2, 1));
    let letters = common::read_all(bench.log.as_ref(), settings.dead_letter_topic.as_deref().unwrap());
    assert_eq!(letters.len(), 3);
    for letter in letters {
        assert_eq!(letter.headers.contains_key(headers::CUT), !letter.key.contains("error"), "{}", letter.key);
        assert!(letter.key != "odd" || (letter.value.len() > 1000 && content(5, 100_000).starts_with(&letter.value)));
    }
}

fn more_open_files_than_fit_beside_an_offset_survive_a_restart(place: &Place) {
    let bench = Bench::new(place, 1);
    let files: Vec<_> = (0..6000).map(|i| chunks(0, &format!("f/{i}"), &content(i, 8), 4)).collect();
    let filler = common::Sent { partition: 0, key: String::new(), value: b"filler".to_vec(), marked: true };
    let mut firsts: Vec<_> = files.iter().map(|file| file[0].clone()).collect();
    firsts.resize(6100, filler);
    bench.send(&firsts);
    let first = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((first.incomplete.len(), first.undecodable), (6000, 100));
    let state = bench.log.group_state(&bench.group, None).unwrap();
    assert!(state.keys().any(|key| key.starts_with("progress/")), "{:?}", state.keys());
    let seconds: Vec<_> = files.iter().map(|file| file[1].clone()).collect();
    bench.send(&seconds);
    let second = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((second.succeeded, second.undecodable), (6000, 0));
    assert_eq!(bench.read_results().len(), 6000);
    let state = bench.log.group_state(&bench.group, None).unwrap();
    assert!(!state.keys().any(|key| key.starts_with("progress/")), "it is removed once it fits again");
}
