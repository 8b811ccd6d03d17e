//! The engine over both logs: what becomes of files, failures, versions and restarts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{Bench, ByName, Place, StopAtEnd, chunks, content, on_both_logs, registry, sizes, wait_for};
use datamill::assemble::{DownloadDataFile, Mode};
use datamill::engine::{Control, EngineError, EngineSettings, StopKind};
use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage};
use datamill::program::Exit;
use datamill::wire::{headers, hex, sha512};

on_both_logs! {
    every_good_file_has_one_result_and_every_bad_one_is_recorded,
    a_result_says_where_it_came_from,
    each_upload_of_each_version_has_its_own_result,
    an_incomplete_file_is_named_and_completed_by_a_later_run,
    files_spread_over_all_partitions_by_another_program_come_through_once,
    the_filter_matches_from_the_start_of_the_path,
    content_is_there_in_every_mode_also_beyond_the_memory_limit,
    a_file_named_like_the_registry_cannot_replace_it,
    a_file_with_the_path_of_the_log_takes_its_place_in_no_mode,
    what_is_not_available_holds_the_program_and_fails_no_file,
    user_code_can_stop_the_program_and_its_file_is_read_again,
    a_stop_finishes_what_runs_and_leaves_the_rest_to_the_next_start,
    a_stop_does_not_wait_for_files_that_are_read_after_it,
    a_file_that_fills_up_when_the_program_is_stopped_is_no_failure,
    files_run_side_by_side_and_those_of_one_path_one_after_another,
    a_second_program_in_the_same_output_folder_is_refused,
    more_open_files_than_fit_beside_an_offset_survive_a_restart,
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
    bench.send(&[crate::common::Sent { partition: 2, key: "?".into(), value: b"not a chunk".to_vec(), marked: true }]);

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
    assert_eq!((summary.succeeded, summary.filtered.count), (1, 2), "files, not their chunks");
    let said = summary.to_string();
    assert!(said.contains("left out by --download_regex: 2 files, e.g. `other/keep/b.dat`, `keep/c.txt`"), "{said}");
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

/// The output folder is the one that the log lies in.
fn a_file_with_the_path_of_the_log_takes_its_place_in_no_mode(place: &Place) {
    for (mode, failed) in [(Mode::Memory, 0), (Mode::Disk, 2), (Mode::Both, 2)] {
        let bench = Bench::new(place, 1);
        for path in ["log.db", "log.db-group-1.lock/below", "sub/log.db"] {
            bench.send(&chunks(0, path, b"abc", 256));
        }
        let settings = EngineSettings { mode, output_dir: bench.folder.path().to_owned(), ..bench.settings() };
        let failed = if matches!(place, Place::Embedded) { failed } else { 0 };
        let summary = bench.run(&settings, ByName::default()).unwrap();
        assert_eq!((summary.succeeded, summary.failed), (3 - failed, failed), "{mode:?}");
        assert_eq!(bench.read_results().len() as u64, 3 - failed, "the log is there, and what was committed");
        let rows = registry(bench.folder.path(), "failed_from_");
        assert_eq!(rows.len() as u64, failed);
        assert!(rows.iter().all(|row| row[4].contains("is a file of the embedded log")), "{rows:?}");
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
    for exit_at_end in [false, true] {
        a_stop_leaves_the_rest(&Bench::new(place, 1), exit_at_end);
    }
}

fn a_stop_leaves_the_rest(bench: &Bench, exit_at_end: bool) {
    for i in 0..10 {
        bench.send(&chunks(0, &format!("{i}"), b"abc", 2));
    }
    let started = Arc::new(AtomicU64::new(0));
    let control = Control::default();
    let mut settings = bench.settings();
    settings.exit_at_end = exit_at_end;
    let first = std::thread::scope(|scope| {
        let _stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_controlled(&settings, Slow { started: Arc::clone(&started) }, &control));
        wait_for("the first files", || started.load(SeqCst) >= 2);
        control.stop(StopKind::Leave);
        run.join().unwrap().unwrap()
    });
    assert_eq!(first.succeeded, started.load(SeqCst), "what had begun was finished");
    assert!(first.succeeded < 10);
    // one that would have ended by itself has not done what it was started for
    assert_eq!(first.is_cut_short, exit_at_end, "{first}");
    assert_eq!(first.to_string().contains("stopped before everything was done"), exit_at_end, "{first}");
    let expected = if exit_at_end { Exit::Stopped } else { Exit::Done };
    assert_eq!(Exit::of_summary(Some(&first)), expected);
    let rest = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!(first.succeeded + rest.succeeded, 10);
    assert_eq!(bench.read_results().len(), 10);
}

fn a_file_that_fills_up_when_the_program_is_stopped_is_no_failure(place: &Place) {
    let bench = Bench::new(place, 1);
    let file = chunks(0, "large.dat", &content(3, 1000), 100);
    bench.send(&file[..7]);
    bench.send(&chunks(0, "whole.dat", b"x", 100));
    let control = Control::default();
    let settings = datamill::engine::EngineSettings { exit_at_end: false, ..bench.settings() };
    let first = std::thread::scope(|scope| {
        let _stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_controlled(&settings, ByName::default(), &control));
        wait_for("the whole file", || bench.read_results().len() == 1);
        control.stop(StopKind::Leave);
        run.join().unwrap().unwrap()
    });
    assert!(first.is_clean() && first.incomplete.is_empty(), "{first}");
    assert!(first.to_string().contains("1 file was not whole yet when the program was stopped"), "{first}");
    bench.send(&file[7..]);
    let second = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((second.succeeded, second.begun), (1, 0));
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
    settings.shutdown_timeout = Duration::from_secs(300);
    let first = bench.run_controlled(&settings, StopAtOnce(Arc::clone(&control)), &control).unwrap();
    assert!(first.duration < Duration::from_secs(200), "{first}");
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

fn more_open_files_than_fit_beside_an_offset_survive_a_restart(place: &Place) {
    let bench = Bench::new(place, 1);
    let files: Vec<_> = (0..6000).map(|i| chunks(0, &format!("f/{i}"), &content(i, 8), 4)).collect();
    let filler = crate::common::Sent { partition: 0, key: String::new(), value: b"filler".to_vec(), marked: true };
    let mut firsts: Vec<_> = files.iter().map(|file| file[0].clone()).collect();
    firsts.resize(6100, filler);
    bench.send(&firsts);
    let first = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((first.incomplete.len(), first.undecodable), (6000, 100));
    let state = bench.log.group_state(&bench.group).unwrap();
    assert!(state.keys().any(|key| key.starts_with("progress/")), "{:?}", state.keys());
    let seconds: Vec<_> = files.iter().map(|file| file[1].clone()).collect();
    bench.send(&seconds);
    let second = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((second.succeeded, second.undecodable), (6000, 0));
    assert_eq!(bench.read_results().len(), 6000);
    let state = bench.log.group_state(&bench.group).unwrap();
    assert!(!state.keys().any(|key| key.starts_with("progress/")), "it is removed once it fits again");
}
