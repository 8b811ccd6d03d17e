//! The engine over both logs: failures, dead letters, another try, files that stay incomplete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::common::{Bench, ByName, Place, chunks, content, on_both_logs, registry, sizes, wait_for};
use datamill::assemble::{DownloadDataFile, Mode};
use datamill::engine::{Control, StopKind};
use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage};
use datamill::wire::{headers, hex, sha512};

on_both_logs! {
    a_file_fails_only_after_all_attempts_and_says_how_many,
    each_of_many_small_files_is_judged_by_its_own_hash,
    a_stop_does_not_wait_for_the_next_attempt,
    each_failure_and_each_unusable_record_has_one_dead_letter,
    a_restart_tries_exactly_the_failed_files_again_from_their_offsets_alone,
    a_file_that_fails_again_stays_in_the_state_without_another_dead_letter,
    a_failed_file_whose_chunks_are_gone_is_given_up_once,
    failed_files_can_be_tried_alone_or_left_alone,
    a_file_whose_chunks_stop_coming_ends_as_incomplete_and_a_repetition_as_a_note,
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
    let state = bench.log.group_state(&bench.group).unwrap();
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

fn each_of_many_small_files_is_judged_by_its_own_hash(place: &Place) {
    const FILES: u64 = 400;
    let bench = Bench::new(place, 2);
    let is_wrong = |i: u64| i % 7 == 3;
    let name = |i: u64| format!("a/{i}.dat");
    let mut all = Vec::new();
    for i in 0..FILES {
        // of one chunk or several, alike and not, and some beyond the size that is hashed together with others
        let size = if i % 50 == 0 { 100_000 } else { 16 + (i * i * 37 % 5_000) as usize };
        let content = content(i, size);
        let mut records = chunks((i % 2) as i32, &name(i), &content, 3_000);
        if is_wrong(i) {
            let value = &mut records[0].value;
            let at = value.windows(16).position(|bytes| *bytes == content[..16]).unwrap();
            value[at] ^= 1;
        }
        all.extend(records);
    }
    bench.send(&all);
    let settings = datamill::engine::EngineSettings { threads: 3, ..bench.settings() };
    let summary = bench.run(&settings, ByName::default()).unwrap();
    let wrong: Vec<String> = (0..FILES).filter(|i| is_wrong(*i)).map(name).collect();
    assert_eq!((summary.succeeded, summary.failed), (FILES - wrong.len() as u64, wrong.len() as u64), "{summary}");
    let failed = failures(&bench);
    assert_eq!(failed.keys().cloned().collect::<std::collections::BTreeSet<_>>(), wrong.into_iter().collect());
    assert!(failed.values().all(|entry| entry["reason"].as_str().unwrap().contains("SHA-512")), "{failed:?}");
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
    let junk =
        |value: &[u8]| crate::common::Sent { partition: 0, key: "odd".into(), value: value.to_vec(), marked: true };
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

    let letters = crate::common::read_all(bench.log.as_ref(), settings.dead_letter_topic.as_deref().unwrap());
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
    let state = bench.log.group_state(&bench.group).unwrap().into_keys();
    let keys: Vec<String> = state.filter(|key| key.starts_with("failed/")).collect();
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
    assert_eq!(crate::common::read_all(bench.log.as_ref(), settings.dead_letter_topic.as_deref().unwrap()).len(), 1);
}

fn a_failed_file_whose_chunks_are_gone_is_given_up_once(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "bad/a", &content(1, 500), 100));
    assert_eq!(bench.run(&bench.settings(), Fails(&["bad"])).unwrap().failed, 1);
    // the same offsets hold other records now
    let (key, value) = bench.log.group_state(&bench.group).unwrap().pop_first().unwrap();
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
    assert_eq!(crate::common::read_all(bench.log.as_ref(), settings.dead_letter_topic.as_deref().unwrap()).len(), 1);
}

#[test]
fn a_dead_letter_is_cut_to_what_its_topic_on_kafka_takes() {
    let bench = Bench::new(&Place::Kafka, 1);
    let mut settings = bench.settings();
    settings.dead_letter_topic = Some(bench.dead_letter_topic(&[("max.message.bytes", "2500")]));
    let junk = crate::common::Sent { partition: 0, key: "odd".into(), value: content(5, 100_000), marked: true };
    bench.send(&[junk]);
    for name in ["error", "verbose"] {
        bench.send(&chunks(0, name, b"abc", 300));
    }
    let summary = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((summary.dead_letters_of_files, summary.dead_letters_of_records), (2, 1));
    let letters = crate::common::read_all(bench.log.as_ref(), settings.dead_letter_topic.as_deref().unwrap());
    assert_eq!(letters.len(), 3);
    for letter in letters {
        assert_eq!(letter.headers.contains_key(headers::CUT), !letter.key.contains("error"), "{}", letter.key);
        assert!(letter.key != "odd" || (letter.value.len() > 1000 && content(5, 100_000).starts_with(&letter.value)));
    }
}
