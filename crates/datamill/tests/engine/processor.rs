//! The engine over both logs with processors: code that acts on whole files and produces nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{Bench, Place, chunks, content, on_both_logs, registry};
use datamill::assemble::{DownloadDataFile, Mode};
use datamill::engine::{Control, EngineSettings, Summary};
use datamill::facts::Facts;
use datamill::process::{DataFileStreamProcessor, Lock, ProcessingError, UserCode};
use parking_lot::Mutex;

on_both_logs! {
    each_whole_file_is_processed_once_and_nothing_is_produced,
    a_file_that_fails_is_recorded_and_processed_at_the_next_start,
    content_is_found_in_memory_and_on_disk,
    a_failed_file_has_a_dead_letter,
}

/// Notes what it gets; fails or panics for files whose names say so, until it is told not to.
#[derive(Clone, Default)]
struct Notes {
    seen: Arc<Mutex<BTreeMap<String, Vec<Vec<u8>>>>>,
    well: bool,
}

impl DataFileStreamProcessor for Notes {
    fn process_downloaded_data_file(&self, file: &DownloadDataFile, _: &Lock) -> Result<(), ProcessingError> {
        match file.filename() {
            "error" if !self.well => return Err(ProcessingError::file_failed("the store is full")),
            "panic" if !self.well => panic!("the store is gone"),
            _ => {}
        }
        let bytes = match file.path() {
            Some(path) => std::fs::read(path)?,
            None => file.bytes()?.to_vec(),
        };
        self.seen.lock().entry(file.relative_path().to_owned()).or_default().push(bytes);
        Ok(())
    }
}

fn run(bench: &Bench, settings: &EngineSettings, code: &Notes) -> (Summary, Facts) {
    let settings = EngineSettings { result_topic: None, ..settings.clone() };
    let facts = Facts::default();
    let code = UserCode::processor(code.clone());
    let summary = datamill::engine::run(&bench.log, &settings, code, &Control::default(), &facts).unwrap();
    (summary, facts)
}

fn each_whole_file_is_processed_once_and_nothing_is_produced(place: &Place) {
    let bench = Bench::new(place, 2);
    let files: BTreeMap<String, Vec<u8>> =
        (0..30).map(|i| (format!("run {}/f{i}", i % 3), content(i, 50 * i as usize))).collect();
    for (i, (path, bytes)) in files.iter().enumerate() {
        bench.send(&chunks(i as i32 % 2, path, bytes, 200));
    }
    let notes = Notes::default();
    let (summary, facts) = run(&bench, &bench.settings(), &notes);
    assert_eq!((summary.succeeded, summary.failed, summary.result_topic), (30, 0, None));
    let once: BTreeMap<String, Vec<Vec<u8>>> =
        files.iter().map(|(path, bytes)| (path.clone(), vec![bytes.clone()])).collect();
    assert_eq!(*notes.seen.lock(), once);
    assert!(bench.read_results().is_empty());
    let amounts = facts.counters().counts();
    let sent: usize = files.values().map(Vec::len).sum();
    assert!(amounts.bytes_read == sent as u64 && amounts.messages_read >= 30, "{amounts:?}");
    assert_eq!((amounts.messages_processed, amounts.bytes_processed), (amounts.messages_read, sent as u64));
    assert_eq!((amounts.messages_produced, amounts.bytes_produced), (0, 0));
    let (summary, _) = run(&bench, &bench.settings(), &notes);
    assert_eq!(summary.succeeded, 0, "a second start has nothing to do");
    let rows = registry(&bench.output(), &format!("processed_from_{}_by_{}.csv", bench.topic, bench.group));
    assert_eq!(rows.len(), 30);
    assert!(rows.iter().all(|row| row.len() == 5 && files.contains_key(&row[1])), "{rows:?}");
}

fn a_file_that_fails_is_recorded_and_processed_at_the_next_start(place: &Place) {
    let bench = Bench::new(place, 1);
    for path in ["a/error", "panic", "good"] {
        bench.send(&chunks(0, path, b"abc", 2));
    }
    let notes = Notes::default();
    let (summary, _) = run(&bench, &bench.settings(), &notes);
    assert_eq!((summary.succeeded, summary.failed), (1, 2));
    let waiting = registry(&bench.output(), "consuming_from_");
    assert!(waiting.len() == 2 && waiting.iter().all(|row| row[2] == "failed"), "{waiting:?}");
    let state = bench.log.group_state(&bench.group).unwrap();
    let failed: Vec<_> = state.iter().filter(|(key, _)| key.starts_with("failed/")).collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    let (summary, _) = run(&bench, &bench.settings(), &Notes { well: true, ..notes.clone() });
    assert_eq!((summary.succeeded, summary.retried, summary.failed_again), (2, 2, 0));
    assert!(notes.seen.lock().values().all(|times| times.len() == 1));
    let state = bench.log.group_state(&bench.group).unwrap();
    assert!(!state.keys().any(|key| key.starts_with("failed/")), "{state:?}");
}

fn content_is_found_in_memory_and_on_disk(place: &Place) {
    for mode in [Mode::Memory, Mode::Disk, Mode::Both] {
        let bench = Bench::new(place, 1);
        let bytes = content(7, 100_000);
        bench.send(&chunks(0, "folder/file.dat", &bytes, 4096));
        let notes = Notes::default();
        run(&bench, &EngineSettings { mode, ..bench.settings() }, &notes);
        assert_eq!(notes.seen.lock()["folder/file.dat"], std::slice::from_ref(&bytes), "{mode:?}");
        let public = bench.output().join("folder/file.dat");
        assert_eq!(std::fs::read(public).ok(), (mode != Mode::Memory).then_some(bytes), "{mode:?}");
    }
}

fn a_failed_file_has_a_dead_letter(place: &Place) {
    let bench = Bench::new(place, 1);
    let mut settings = bench.settings();
    settings.dead_letter_topic = Some(bench.dead_letter_topic(&[]));
    bench.send(&chunks(0, "error", b"abc", 2));
    let (summary, _) = run(&bench, &settings, &Notes::default());
    assert_eq!((summary.failed, summary.dead_letters_of_files), (1, 1));
    let letters = crate::common::read_all(bench.log.as_ref(), &settings.dead_letter_topic.unwrap());
    assert!(String::from_utf8_lossy(&letters[0].value).contains("the store is full"), "{letters:?}");
}
