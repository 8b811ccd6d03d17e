//! The engine over both logs: another try when somebody asks for it, and chunks that come late.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;

use crate::common::{Bench, Got, Place, Sent, StopAtEnd, Told, chunks, content, on_both_logs, read_all, wait_for};
use datamill::engine::{
    Control, EngineSettings, FailedFile, RetryFailed, Summary, failed_files, forget_failures, request_retry,
};
use datamill::wire::{Chunk, headers, hex, sha512};

on_both_logs! {
    a_request_is_taken_up_while_the_program_runs,
    a_request_waits_for_the_next_start_whatever_that_does_with_failed_files,
    a_request_that_comes_during_a_try_is_answered_by_another_one,
    a_file_that_was_asked_for_twice_or_has_its_result_gets_no_second_one,
    a_failure_that_was_forgotten_is_not_tried_again,
    what_a_retry_reads_counts_as_file_content,
    late_chunks_complete_an_incomplete_file_in_the_same_run,
    late_chunks_complete_an_incomplete_file_after_a_restart_and_in_pieces,
    late_chunks_of_a_spread_topic_complete_their_file,
    a_whole_upload_after_an_incomplete_one_has_a_result_of_its_own,
    what_follows_of_an_upload_that_completed_a_file_is_a_note,
    a_completed_file_is_tried_after_a_crash_between_the_two_commits,
    a_retry_takes_the_chunks_of_its_own_upload,
    a_file_that_has_lost_some_of_its_chunks_expires_and_stays_listed,
}

fn failed(bench: &Bench) -> Vec<FailedFile> {
    failed_files(bench.log.as_ref(), &bench.topic, &bench.group).unwrap()
}

fn ask(bench: &Bench, files: &[FailedFile]) {
    request_retry(bench.log.as_ref(), &bench.topic, &bench.group, files).unwrap();
}

/// Keys of the group's state that begin so.
fn keys(bench: &Bench, begins: &str) -> Vec<String> {
    let state = bench.log.group_state(&bench.group).unwrap();
    state.into_keys().filter(|key| key.starts_with(begins)).collect()
}

/// Runs the program until the check is through.
fn while_running(bench: &Bench, settings: &EngineSettings, code: &Told, check: impl FnOnce()) -> Summary {
    let control = Control::default();
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_controlled(settings, code.clone(), &control).unwrap());
        check();
        drop(stop);
        run.join().unwrap()
    })
}

fn retry_results(bench: &Bench) -> (Vec<Got>, Vec<Got>) {
    bench.read_results().into_iter().partition(|got| got.headers.contains_key(headers::RETRY_OF))
}

fn what_a_retry_reads_counts_as_file_content(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a", &content(1, 500), 100));
    let told = Told::to_fail();
    for _ in 0..2 {
        let facts = datamill::facts::Facts::default();
        let code = datamill::process::UserCode::reproducer(told.clone());
        datamill::engine::run(&bench.log, &bench.settings(), code, &Control::default(), &facts).unwrap();
        let counts = facts.counters().counts();
        assert_eq!((counts.messages_read, counts.bytes_read, counts.bytes_processed), (5, 500, 500));
        told.fails.store(false, SeqCst);
    }
}

fn a_request_is_taken_up_while_the_program_runs(place: &Place) {
    for policy in [RetryFailed::Now, RetryFailed::No] {
        let bench = Bench::new(place, 2);
        let mut settings = bench.settings();
        (settings.exit_at_end, settings.retry_failed) = (false, policy);
        for (partition, name) in [(0, "a"), (1, "b"), (0, "c")] {
            bench.send(&chunks(partition, name, name.as_bytes(), 10));
        }
        let told = Told::to_fail();
        let summary = while_running(&bench, &settings, &told, || {
            wait_for("three failures", || failed(&bench).len() == 3);
            let all = failed(&bench);
            told.fails.store(false, SeqCst);
            ask(&bench, &all[..1]);
            wait_for("the first result", || failed(&bench).len() == 2);
            ask(&bench, &failed(&bench));
            wait_for("the other results", || failed(&bench).is_empty());
        });
        assert_eq!((summary.succeeded, summary.mended, told.calls()), (3, 3, 6));
        assert_eq!((summary.failed, summary.retried, summary.failed_again), (0, 0, 0), "how they ended counts");
        assert!(summary.is_clean() && summary.to_string().contains("3 of them failed at first"), "{summary}");
        assert_eq!(keys(&bench, "retry/"), [] as [&str; 0], "the requests are answered");
        let (answers, others) = retry_results(&bench);
        assert_eq!((answers.len(), others.len()), (3, 0));
    }
}

fn a_request_waits_for_the_next_start_whatever_that_does_with_failed_files(place: &Place) {
    let bench = Bench::new(place, 1);
    let mut settings = bench.settings();
    bench.send(&chunks(0, "a", b"abc", 2));
    bench.send(&chunks(0, "b", b"abc", 2));
    let told = Told::to_fail();
    assert_eq!(bench.run(&settings, told.clone()).unwrap().failed, 2);
    ask(&bench, &failed(&bench)[1..]);
    let requested: Vec<_> = failed(&bench).into_iter().map(|file| (file.path, file.requested)).collect();
    assert_eq!(requested, [("a".to_owned(), false), ("b".to_owned(), true)]);

    settings.retry_failed = RetryFailed::No;
    settings.output_dir = bench.folder.path().join("elsewhere");
    let again = bench.run(&settings, told.clone()).unwrap();
    assert_eq!((again.failed_again, told.calls()), (1, 3), "the one that was asked for, once");
    assert_eq!(keys(&bench, "retry/"), [] as [&str; 0], "a failure is an answer, too");
    assert_eq!(failed(&bench).iter().map(|file| file.attempts).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(bench.run(&settings, told).unwrap().failed_again, 0);
}

fn a_request_that_comes_during_a_try_is_answered_by_another_one(place: &Place) {
    let bench = Bench::new(place, 1);
    let mut settings = bench.settings();
    settings.exit_at_end = false;
    bench.send(&chunks(0, "a", b"abc", 2));
    let told = Told::to_fail();
    let summary = while_running(&bench, &settings, &told, || {
        wait_for("a failure", || !failed(&bench).is_empty());
        told.holds.store(true, SeqCst);
        ask(&bench, &failed(&bench));
        wait_for("a try", || told.calls() == 2);
        // this try fails whatever happens now
        told.fails.store(false, SeqCst);
        ask(&bench, &failed(&bench));
        std::thread::sleep(std::time::Duration::from_secs(3));
        told.holds.store(false, SeqCst);
        wait_for("the result", || failed(&bench).is_empty());
    });
    assert_eq!((summary.succeeded, summary.failed, summary.failed_again, told.calls()), (1, 0, 0, 3));
    assert!(summary.is_clean(), "{summary}");
    assert_eq!(keys(&bench, "retry/"), [] as [&str; 0]);
}

fn a_file_that_was_asked_for_twice_or_has_its_result_gets_no_second_one(place: &Place) {
    let bench = Bench::new(place, 1);
    let mut settings = bench.settings();
    bench.send(&chunks(0, "a", b"abc", 2));
    bench.send(&chunks(0, "b", b"abc", 2));
    let told = Told::to_fail();
    assert_eq!(bench.run(&settings, told.clone()).unwrap().failed, 2);
    let all = failed(&bench);
    told.fails.store(false, SeqCst);
    settings.exit_at_end = false;
    ask(&bench, &all);
    std::thread::sleep(std::time::Duration::from_millis(2));
    ask(&bench, &all[..1]);
    while_running(&bench, &settings, &told, || {
        wait_for("the results", || failed(&bench).is_empty());
        std::thread::sleep(std::time::Duration::from_millis(2));
        ask(&bench, &all);
        wait_for("the end of what asks for nothing", || keys(&bench, "retry/").is_empty());
    });
    assert_eq!((told.calls(), bench.read_results().len()), (4, 2));
}

fn a_failure_that_was_forgotten_is_not_tried_again(place: &Place) {
    let bench = Bench::new(place, 1);
    let mut settings = bench.settings();
    for name in ["a", "b", "c"] {
        bench.send(&chunks(0, name, b"abc", 2));
    }
    let told = Told::to_fail();
    assert_eq!(bench.run(&settings, told.clone()).unwrap().failed, 3);
    forget_failures(bench.log.as_ref(), &bench.group, &failed(&bench)[..1]).unwrap();
    // one is tried while it is forgotten, and the other one waits
    (settings.exit_at_end, settings.threads) = (false, 1);
    told.holds.store(true, SeqCst);
    let summary = while_running(&bench, &settings, &told, || {
        wait_for("a try", || told.calls() == 4);
        forget_failures(bench.log.as_ref(), &bench.group, &failed(&bench)).unwrap();
        std::thread::sleep(std::time::Duration::from_secs(10));
        told.holds.store(false, SeqCst);
        bench.send(&chunks(0, "new", b"abc", 2));
        wait_for("the next file", || told.calls() == 5);
        wait_for("its failure", || !failed(&bench).is_empty());
    });
    assert_eq!((summary.failed, summary.failed_again), (1, 0));
    assert_eq!(failed(&bench).iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["new"]);
}

fn hours_ago(hours: i64) -> Option<i64> {
    Some(datamill::report::clock::now_ms() - hours * 3_600_000)
}

/// A bench with a file of 10 chunks that ended as incomplete: those of `there` had come.
fn incomplete(place: &Place, partitions: i32, there: &[Sent]) -> (Bench, EngineSettings) {
    let bench = Bench::new(place, partitions);
    let mut settings = bench.settings();
    settings.dead_letter_topic = Some(bench.dead_letter_topic(&[]));
    bench.send_at(there, hours_ago(26));
    for partition in 0..partitions {
        bench.send(&chunks(partition, &format!("now {partition}.dat"), b"abc", 10));
    }
    let summary = bench.run(&settings, Told::default()).unwrap();
    assert_eq!((summary.succeeded, summary.failed), (partitions as u64, 1));
    assert_eq!(failed(&bench)[0].status, "incomplete");
    assert!(!failed(&bench)[0].can_be_retried);
    (bench, settings)
}

/// The file with late chunks has one result, which answers its failure, and one dead letter; nothing else failed.
fn is_completed(bench: &Bench, settings: &EngineSettings, expected: &[u8], offsets: &str) {
    let (answers, _) = retry_results(bench);
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers[0].value, hex(&sha512(expected)).into_bytes());
    // the partitions of a spread topic are read in any order
    let parts = |text: &str| text.split(',').map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(parts(&answers[0].headers[headers::SOURCE_OFFSETS]), parts(offsets));
    assert_eq!(failed(bench), []);
    let letters = read_all(bench.log.as_ref(), settings.dead_letter_topic.as_deref().unwrap());
    assert_eq!(letters.len(), 1, "{letters:?}");
}

fn late_chunks_complete_an_incomplete_file_in_the_same_run(place: &Place) {
    let bytes = content(1, 1000);
    let all = chunks(0, "late.dat", &bytes, 100);
    let bench = Bench::new(place, 1);
    let mut settings = bench.settings();
    settings.dead_letter_topic = Some(bench.dead_letter_topic(&[]));
    settings.exit_at_end = false;
    bench.send_at(&all[..7], hours_ago(26));
    bench.send(&chunks(0, "now.dat", b"abc", 100));
    let summary = while_running(&bench, &settings, &Told::default(), || {
        wait_for("the end of the file", || failed(&bench).len() == 1);
        bench.send(&all[7..]);
        wait_for("the result", || failed(&bench).is_empty());
    });
    assert_eq!((summary.succeeded, summary.failed, summary.mended, summary.failed_again), (2, 0, 1, 0));
    is_completed(&bench, &settings, &bytes, "0:0-6,0:8-10");
}

fn late_chunks_complete_an_incomplete_file_after_a_restart_and_in_pieces(place: &Place) {
    let bytes = content(2, 1000);
    let all = chunks(0, "late.dat", &bytes, 100);
    let (bench, mut settings) = incomplete(place, 1, &[&all[2..5], &all[6..8]].concat());
    settings.output_dir = bench.folder.path().join("elsewhere");
    // the first piece stops coming too: it becomes a part of the entry and no second failure
    let piece = [&all[..2], &all[9..]].concat();
    bench.send_at(&piece, hours_ago(25));
    bench.send(&chunks(0, "now.dat", b"abc", 100));
    let summary = bench.run(&settings, Told::default()).unwrap();
    assert_eq!((summary.succeeded, summary.failed, summary.failed_again), (1, 0, 0));
    let entry = failed(&bench).remove(0);
    assert_eq!((entry.status.as_str(), entry.offsets.as_str()), ("incomplete", "0:0-4,0:6-8"));
    assert!(entry.reason.ends_with("8 of 10 are there"), "{}", entry.reason);
    // the last ones come one by one
    bench.send(&all[5..6]);
    let summary = bench.run(&settings, Told::default()).unwrap();
    assert_eq!((summary.succeeded, summary.incomplete.len()), (0, 1));
    bench.send(&all[8..9]);
    let summary = bench.run(&settings, Told::default()).unwrap();
    assert_eq!((summary.succeeded, summary.retried, summary.incomplete.len()), (1, 1, 0));
    is_completed(&bench, &settings, &bytes, "0:0-4,0:6-8,0:10-11");
    let summary = bench.run(&settings, Told::default()).unwrap();
    assert_eq!((summary.succeeded, summary.read_again), (0, 0));
}

fn late_chunks_of_a_spread_topic_complete_their_file(place: &Place) {
    let bytes = content(3, 1000);
    let spread = |i: usize, sent: Sent| Sent { partition: (i % 3) as i32, marked: false, ..sent };
    let all: Vec<Sent> =
        chunks(0, "late.dat", &bytes, 100).into_iter().enumerate().map(|(i, s)| spread(i, s)).collect();
    let (bench, settings) = incomplete(place, 3, &all[..7]);
    bench.send(&all[7..]);
    let summary = bench.run(&settings, Told::default()).unwrap();
    assert_eq!((summary.succeeded, summary.retried, summary.failed), (1, 1, 0));
    is_completed(&bench, &settings, &bytes, "0:0-2,1:0-1,2:0-1,1:3-3,2:3-3,0:4-4");
    let summary = bench.run(&settings, Told::default()).unwrap();
    assert_eq!((summary.succeeded, summary.incomplete.len()), (0, 0));
}

fn a_whole_upload_after_an_incomplete_one_has_a_result_of_its_own(place: &Place) {
    let bytes = content(4, 1000);
    let all = chunks(0, "late.dat", &bytes, 100);
    let (bench, settings) = incomplete(place, 1, &all[..7]);
    bench.send(&all);
    let summary = bench.run(&settings, Told::default()).unwrap();
    assert_eq!((summary.succeeded, summary.retried), (1, 0));
    assert_eq!(failed(&bench).len(), 1, "the first upload stays incomplete");
    // and the missing chunks can still come
    bench.send(&all[7..]);
    let summary = bench.run(&settings, Told::default()).unwrap();
    assert_eq!((summary.succeeded, summary.retried), (1, 1));
    is_completed(&bench, &settings, &bytes, "0:0-6,0:18-20");
}

fn what_follows_of_an_upload_that_completed_a_file_is_a_note(place: &Place) {
    let bytes = content(5, 1000);
    let all = chunks(0, "late.dat", &bytes, 100);
    let (bench, mut settings) = incomplete(place, 1, &all[3..]);
    settings.exit_at_end = false;
    let summary = while_running(&bench, &settings, &Told::default(), || {
        bench.send_at(&all[..3], hours_ago(26));
        wait_for("the result", || failed(&bench).is_empty());
        bench.send_at(&all[3..], hours_ago(26));
        bench.send(&chunks(0, "now.dat", b"abc", 100));
        wait_for("the file after it", || bench.read_results().len() == 3);
        std::thread::sleep(std::time::Duration::from_secs(6));
    });
    assert_eq!((summary.succeeded, summary.failed, summary.incomplete.len()), (2, 0, 0));
    is_completed(&bench, &settings, &bytes, "0:0-6,0:8-10");
}

fn a_completed_file_is_tried_after_a_crash_between_the_two_commits(place: &Place) {
    let bytes = content(6, 1000);
    let all = chunks(0, "late.dat", &bytes, 100);
    let (bench, mut settings) = incomplete(place, 1, &all[..7]);
    bench.send(&all[7..]);
    // left alone, the entry stays as the first of the two commits left it
    settings.retry_failed = RetryFailed::No;
    let summary = bench.run(&settings, Told::default()).unwrap();
    assert_eq!((summary.succeeded, summary.failed, summary.incomplete.len()), (0, 0, 0));
    let entry = failed(&bench).remove(0);
    assert_eq!((entry.status.as_str(), entry.can_be_retried), ("incomplete", true));
    settings.retry_failed = RetryFailed::Now;
    let summary = bench.run(&settings, Told::default()).unwrap();
    assert_eq!((summary.succeeded, summary.retried, summary.read_again), (1, 1, 0));
    is_completed(&bench, &settings, &bytes, "0:0-6,0:8-10");
}

fn a_retry_takes_the_chunks_of_its_own_upload(place: &Place) {
    let bench = Bench::new(place, 1);
    let all = chunks(0, "a.dat", &content(7, 400), 100);
    let damaged = |sent: &Sent| {
        let mut value = Vec::new();
        Chunk { data: &[0; 100], ..Chunk::decode(&sent.value).unwrap() }.encode(&mut value);
        Sent { value, ..sent.clone() }
    };
    // two uploads at once: the third chunk of the first one is damaged
    let first: Vec<Sent> = [all[0].clone(), all[1].clone(), damaged(&all[2]), all[3].clone()].into();
    let both = [&first[..2], &all[..1], &first[2..3], &all[1..2], &first[3..], &all[2..]].concat();
    bench.send(&both);
    let summary = bench.run(&bench.settings(), Told::to_fail()).unwrap();
    assert_eq!(summary.failed, 2);
    let listed: BTreeMap<String, String> = failed(&bench).into_iter().map(|file| (file.offsets, file.status)).collect();
    assert_eq!(listed["0:0-5"], "mismatched_hash");
    assert_eq!(listed["0:2-7"], "computing_result_message_failed");
    let summary = bench.run(&bench.settings(), Told::default()).unwrap();
    assert_eq!((summary.retried, summary.failed_again), (1, 1));
    assert_eq!(failed(&bench).iter().map(|file| file.offsets.as_str()).collect::<Vec<_>>(), ["0:0-5"]);
    assert_eq!(bench.read_results()[0].headers[headers::SOURCE_OFFSETS], "0:2-7");
}

fn a_file_that_has_lost_some_of_its_chunks_expires_and_stays_listed(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a", &content(8, 500), 100));
    let told = Told::to_fail();
    assert_eq!(bench.run(&bench.settings(), told.clone()).unwrap().failed, 1);
    // an entry that names less than there is: the rest has gone
    let (key, value) = bench.log.group_state(&bench.group).unwrap().pop_first().unwrap();
    let mut entry: serde_json::Value = serde_json::from_slice(&value).unwrap();
    entry["spans"] = serde_json::json!([[0, 2, 4]]);
    bench.set_state(&key, entry.to_string().as_bytes());
    told.fails.store(false, SeqCst);
    assert_eq!(bench.run(&bench.settings(), told.clone()).unwrap().failed_again, 1);
    let file = failed(&bench).remove(0);
    assert_eq!((file.status.as_str(), file.can_be_retried, file.attempts), ("expired", false, 1));
    // asking for it does not help, and leaves nothing behind
    ask(&bench, &failed(&bench));
    let summary = bench.run(&bench.settings(), told.clone()).unwrap();
    assert_eq!((summary.succeeded, summary.failed_again, told.calls()), (0, 0, 1));
    assert_eq!((keys(&bench, "retry/").len(), failed(&bench).len()), (0, 1));
}
