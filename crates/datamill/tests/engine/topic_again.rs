//! A topic that is deleted and created again under its name, and partitions that a group never had, over both logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use datamill::assemble::DownloadDataFile;
use datamill::broker::{ErrorKind, FirstStart};
use datamill::engine::{Control, DeliveryGuarantee, EngineError, EngineSettings, RetryFailed, StartFrom};
use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage};
use datamill::report::clock;
use datamill::wire::headers;
use parking_lot::Mutex;

use crate::common::{
    Bench, ByName, Place, StopAtEnd, chunks, content, on_both_logs, read_all, registry, sizes, wait_for,
};

on_both_logs! {
    a_topic_that_was_created_again_is_not_read_until_a_person_says_where_to_start,
    a_running_member_stops_and_what_it_committed_meanwhile_is_of_no_use_to_the_next_start,
    a_run_up_to_the_end_does_not_end_well_where_the_topic_was_created_again_meanwhile,
    a_topic_that_is_deleted_ends_its_member_with_a_sentence,
    a_result_topic_that_is_deleted_ends_the_program_and_nothing_is_lost,
    a_result_topic_that_was_created_again_is_told_at_each_start_until_a_person_accepts_it,
    a_running_program_tells_that_the_topic_of_its_results_was_created_again,
    a_folder_knows_the_topic_of_its_positions,
    failed_files_of_the_topic_before_expire_once_and_are_never_read,
    what_a_group_knew_before_it_knew_ids_is_of_the_topic_in_which_it_got_one,
    results_and_dead_letters_name_the_topic_that_they_came_from,
    a_group_reads_a_partition_that_it_never_had_from_its_first_record,
    a_group_that_lost_its_positions_still_knows_which_partitions_it_had,
}

fn from(bench: &Bench, start: StartFrom) -> EngineSettings {
    EngineSettings { start_from: Some(start), ..bench.settings() }
}

fn send(bench: &Bench, partition: i32, names: &[&str]) {
    names.iter().for_each(|name| bench.send(&chunks(partition, name, name.as_bytes(), 2)));
}

fn names(bench: &Bench) -> Vec<String> {
    sizes(bench).into_keys().collect()
}

fn is_refused(bench: &Bench, settings: &EngineSettings) {
    let error = bench.run(settings, ByName::default()).unwrap_err();
    assert!(matches!(error, EngineError::TopicReplaced { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("topic `{}` was deleted and created again", bench.topic)), "{text}");
    assert!(text.contains("--start_from"), "{text}");
}

/// Each log may be quicker to notice that the topic was deleted.
fn is_noticed(error: &EngineError) {
    let is_deleted = matches!(error, EngineError::Log(error) if error.kind() == ErrorKind::TopicDeleted);
    assert!(is_deleted || matches!(error, EngineError::TopicReplaced { .. }), "{error}");
}

fn a_topic_that_was_created_again_is_not_read_until_a_person_says_where_to_start(place: &Place) {
    for (start, expected) in [
        (StartFrom::Earliest, &["new-1", "new-2", "old-1", "old-2", "old-3"][..]),
        (StartFrom::Latest, &["old-1", "old-2", "old-3"]),
        (StartFrom::Offset(3), &["new-2", "old-1", "old-2", "old-3"]),
    ] {
        let bench = Bench::new(place, 1);
        send(&bench, 0, &["old-1", "old-2", "old-3"]);
        assert_eq!(bench.run(&bench.settings(), ByName::default()).unwrap().succeeded, 3);
        assert_eq!(bench.run(&bench.settings(), ByName::default()).unwrap().succeeded, 0);
        bench.create_again(1);
        send(&bench, 0, &["new-1", "new-2"]);
        is_refused(&bench, &bench.settings());
        is_refused(&bench, &from(&bench, StartFrom::Committed));
        bench.run(&from(&bench, start), ByName::default()).unwrap();
        assert_eq!(names(&bench), expected, "{start:?}");
        bench.run(&bench.settings(), ByName::default()).unwrap();
        bench.run(&from(&bench, StartFrom::Earliest), ByName::default()).unwrap();
        assert_eq!(names(&bench), expected, "{start:?}: it counts once");
    }
}

fn a_running_member_stops_and_what_it_committed_meanwhile_is_of_no_use_to_the_next_start(place: &Place) {
    let bench = Bench::new(place, 1);
    let old: Vec<String> = (0..20).map(|i| format!("old-{i:02}")).collect();
    let new: Vec<String> = (0..40).map(|i| format!("new-{i:02}")).collect();
    let all = |names: &[String]| names.iter().for_each(|name| bench.send(&chunks(0, name, name.as_bytes(), 100)));
    all(&old);
    let settings = EngineSettings { exit_at_end: false, ..bench.settings() };
    let control = Control::default();
    let error = std::thread::scope(|scope| {
        let _stop = StopAtEnd(&control);
        let running = scope.spawn(|| bench.run_controlled(&settings, ByName::default(), &control));
        wait_for("the old files", || bench.read_results().len() == old.len());
        bench.create_again(1);
        all(&new);
        wait_for("the end of the program", || running.is_finished());
        running.join().unwrap().unwrap_err()
    });
    is_noticed(&error);
    is_refused(&bench, &bench.settings());
    let summary = bench.run(&from(&bench, StartFrom::Earliest), ByName::default()).unwrap();
    assert_eq!(summary.succeeded, new.len() as u64);
    let id = bench.topic_id();
    let got = bench.read_results();
    let of_new = got.iter().filter(|got| got.headers.get(headers::SOURCE_TOPIC_ID) == Some(&id));
    let mut of_new: Vec<&str> = of_new.map(|got| got.path()).collect();
    of_new.sort_unstable();
    assert_eq!(of_new, new);
}

/// The error with which a program ends whose topic is deleted after its first file, before or after it has another one.
fn ends_without(bench: &Bench, deleted: &str, then: impl FnOnce()) -> EngineError {
    send(bench, 0, &["first"]);
    let settings = EngineSettings { exit_at_end: false, ..bench.settings() };
    let control = Control::default();
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&control);
        let running = scope.spawn(|| bench.run_controlled(&settings, ByName::default(), &control));
        wait_for("the first result", || bench.read_results().len() == 1);
        bench.log.delete_topic(deleted).unwrap();
        then();
        wait_for("the end of the program", || running.is_finished());
        running.join().unwrap().unwrap_err()
    })
}

fn a_topic_that_is_deleted_ends_its_member_with_a_sentence(place: &Place) {
    let bench = Bench::new(place, 1);
    let error = ends_without(&bench, &bench.topic, || ());
    assert!(matches!(&error, EngineError::Log(error) if error.kind() == ErrorKind::TopicDeleted), "{error}");
    let text = datamill::report::chain(&error);
    assert!(text.contains(&format!("topic `{}` was deleted while it was read", bench.topic)), "{text}");
    assert!(text.contains("reading begins anew in it"), "{text}");
}

fn a_result_topic_that_is_deleted_ends_the_program_and_nothing_is_lost(place: &Place) {
    let bench = Bench::new(place, 1);
    let error = ends_without(&bench, &bench.results, || send(&bench, 0, &["second", "third"]));
    let text = datamill::report::chain(&error);
    assert!(text.contains(&format!("topic `{}`", bench.results)) && text.contains("topic create"), "{text}");
    let (name, settings) = (bench.results.clone(), BTreeMap::new());
    let again = datamill::broker::NewTopic { name, partitions: 2, replication: 1, settings };
    // a broker may be about to delete the files of the old one
    wait_for("the topic to be created again", || bench.log.create_topic(&again).is_ok());
    let summary = bench.run(&bench.settings(), ByName::default()).unwrap();
    assert_eq!((summary.succeeded, names(&bench)), (2, vec!["second".to_owned(), "third".to_owned()]));
}

/// The lines of the log that one thread writes.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// Keeps what this thread says meanwhile.
    fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let kept = self.clone();
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(move || kept.clone()).finish();
        tracing::subscriber::with_default(lines, work)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl std::io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a run says of the topic of its results.
fn run_saying(bench: &Bench, settings: &EngineSettings) -> (u64, String) {
    let said = Said::default();
    let summary = said.during(|| bench.run(settings, ByName::default()).unwrap());
    (summary.succeeded, said.text())
}

const LOST: &str = "the topic of the results was deleted and created again";

fn a_result_topic_that_was_created_again_is_told_at_each_start_until_a_person_accepts_it(place: &Place) {
    for delivery in [DeliveryGuarantee::ExactlyOnce, DeliveryGuarantee::AtLeastOnce] {
        let bench = Bench::new(place, 1);
        let settings = EngineSettings { delivery, ..bench.settings() };
        send(&bench, 0, &["first"]);
        for succeeded in [1, 0] {
            let (files, text) = run_saying(&bench, &settings);
            assert!(files == succeeded && !text.contains(LOST), "{text}");
        }
        bench.create_topic_again(&bench.results, 1);
        send(&bench, 0, &["second"]);
        for succeeded in [1, 0] {
            let (files, text) = run_saying(&bench, &settings);
            assert_eq!(files, succeeded);
            for part in [LOST, "ERROR", "another --consumer_group_id and --start_from earliest", "--same_group"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
        assert_eq!(names(&bench), ["second"]);
        let (_, text) = run_saying(&bench, &EngineSettings { same_group: true, ..settings.clone() });
        assert!(text.contains(LOST) && text.contains("the group goes on with the new one"), "{text}");
        assert!(!run_saying(&bench, &settings).1.contains(LOST), "it was accepted");
        // what it names as the way back
        let group = format!("{}-again", bench.group);
        let output_dir = bench.folder.path().join("another");
        let (files, text) = run_saying(&bench, &EngineSettings { group, output_dir, ..settings });
        assert!(files == 2 && !text.contains(LOST), "{text}");
        assert_eq!(names(&bench), ["first", "second"]);
    }
}

fn a_running_program_tells_that_the_topic_of_its_results_was_created_again(place: &Place) {
    let bench = Bench::new(place, 1);
    send(&bench, 0, &["first"]);
    let (control, said) = (Control::default(), Said::default());
    let settings = EngineSettings { exit_at_end: false, ..bench.settings() };
    std::thread::scope(|scope| {
        let stop = StopAtEnd(&control);
        let run = || said.during(|| bench.run_controlled(&settings, ByName::default(), &control).unwrap());
        let run = scope.spawn(run);
        wait_for("the end of the topic", || said.text().contains("everything in the topic is read; waiting for more"));
        assert_eq!(names(&bench), ["first"]);
        bench.create_topic_again(&bench.results, 1);
        wait_for("a line about it", || said.text().contains(LOST));
        send(&bench, 0, &["second"]);
        wait_for("the second result", || names(&bench) == ["second"]);
        drop(stop);
        assert!(!run.join().unwrap().is_cut_short, "it would not have ended by itself");
    });
    let text = said.text();
    assert_eq!((text.matches(LOST).count(), text.matches("waiting for more").count()), (1, 1), "{text}");
}

/// Creates the topic again while it has a file of the old one.
struct CreatesAgain<'a> {
    bench: &'a Bench,
    calls: Arc<AtomicU64>,
}

impl DataFileStreamReproducer for CreatesAgain<'static> {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        if self.calls.fetch_add(1, SeqCst) == 0 {
            self.bench.create_again(1);
            send(self.bench, 0, &["new-1", "new-2", "new-3", "new-4"]);
        }
        Ok(Some(ReproducerMessage::new(file.size().to_string())))
    }
}

fn a_run_up_to_the_end_does_not_end_well_where_the_topic_was_created_again_meanwhile(place: &Place) {
    let bench: &'static Bench = Box::leak(Box::new(Bench::new(place, 1)));
    send(bench, 0, &["old-1", "old-2"]);
    let code = CreatesAgain { bench, calls: Arc::default() };
    let error = bench.run(&bench.settings(), code).unwrap_err();
    is_noticed(&error);
    wait_for("the new files", || bench.log.offsets(&bench.topic, 0).is_ok_and(|offsets| offsets.end == 12));
    // nothing that was committed stands in the way of the new files
    bench.run(&from(bench, StartFrom::Earliest), ByName::default()).unwrap();
    let found = names(bench);
    assert!(["new-1", "new-2", "new-3", "new-4"].iter().all(|name| found.contains(&(*name).to_owned())), "{found:?}");
    std::fs::remove_dir_all(bench.folder.path()).unwrap();
}

fn a_folder_knows_the_topic_of_its_positions(place: &Place) {
    let bench = Bench::new(place, 1);
    let delivery = datamill::engine::DeliveryGuarantee::AtLeastOnce;
    let settings = |start_from| EngineSettings { delivery, start_from, ..bench.settings() };
    send(&bench, 0, &["old-1", "error"]);
    assert_eq!(bench.run(&settings(None), ByName::default()).unwrap().failed, 1);
    bench.create_again(1);
    send(&bench, 0, &["new-1"]);
    is_refused(&bench, &settings(None));
    let calls = ByName::default();
    let count = Arc::clone(&calls.calls);
    bench.run(&settings(Some(StartFrom::Earliest)), calls).unwrap();
    assert_eq!((names(&bench), count.load(SeqCst)), (vec!["new-1".to_owned(), "old-1".to_owned()], 1));
    assert_eq!(statuses(&bench), [("error".to_owned(), "expired".to_owned())].into());
}

/// The failed files by what is said of each last.
fn statuses(bench: &Bench) -> BTreeMap<String, String> {
    registry(&bench.output(), "failed_from_").into_iter().map(|row| (row[1].clone(), row[3].clone())).collect()
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all
}

/// What the group's state holds about failed files: path, status and the topic's id.
fn entries(bench: &Bench) -> Vec<(String, String, Option<String>)> {
    let state = bench.log.group_state(&bench.group).unwrap();
    let entries = state.iter().filter(|(key, _)| key.starts_with("failed/"));
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let of = |value: serde_json::Value| {
        (text(&value["path"]).unwrap(), text(&value["status"]).unwrap(), text(&value["topic_id"]))
    };
    entries.map(|(_, value)| of(serde_json::from_slice(value).unwrap())).collect()
}

fn failed_files_of_the_topic_before_expire_once_and_are_never_read(place: &Place) {
    let bench = Bench::new(place, 1);
    let days_ago = |days: i64| Some(clock::now_ms() - days * 24 * 3_600_000);
    let incomplete = chunks(0, "incomplete", &content(1, 600), 100);
    // the first one fails at the same place of both topics
    send(&bench, 0, &["at/error", "error"]);
    bench.send_at(&incomplete[..3], days_ago(3));
    assert_eq!(bench.run(&bench.settings(), ByName::default()).unwrap().failed, 3);
    let old = Some(bench.topic_id());
    let of = |id: &Option<String>, path: &str, status: &str| (path.to_owned(), status.to_owned(), id.clone());
    let failed = "computing_result_message_failed";
    let all = vec![of(&old, "at/error", failed), of(&old, "error", failed), of(&old, "incomplete", "incomplete")];
    assert_eq!(sorted(entries(&bench)), all);

    bench.create_again(1);
    let new = Some(bench.topic_id());
    send(&bench, 0, &["at/error", "new"]);
    // late chunks complete nothing that is of another topic
    bench.send_at(&incomplete[3..], days_ago(2));
    send(&bench, 0, &["now"]);
    // a new failure may be at the place of an old one before that expires
    for (start, retry, expected, expired) in
        [(Some(StartFrom::Earliest), RetryFailed::No, (3, 2), 2..=3), (None, RetryFailed::Now, (1, 0), 0..=0)]
    {
        let settings = EngineSettings { start_from: start, retry_failed: retry, ..bench.settings() };
        let code = ByName::default();
        let calls = Arc::clone(&code.calls);
        let summary = bench.run(&settings, code).unwrap();
        assert_eq!((calls.load(SeqCst), summary.succeeded), expected, "files of the new topic alone");
        let said = summary.to_string();
        assert!(expired.contains(&summary.expired), "{summary:?}");
        assert_eq!(said.contains("files failed earlier and cannot be tried again"), summary.expired > 0, "{said}");
        let again = summary.failed_again > summary.expired;
        assert_eq!(said.contains("the next start tries them again"), again, "{said}");
        let all = sorted(vec![
            of(&new, "at/error", failed),
            of(&old, "error", "expired"),
            of(&old, "incomplete", "expired"),
            of(&new, "incomplete", "incomplete"),
        ]);
        assert_eq!(sorted(entries(&bench)), all);
    }
}

fn what_a_group_knew_before_it_knew_ids_is_of_the_topic_in_which_it_got_one(place: &Place) {
    let bench = Bench::new(place, 1);
    send(&bench, 0, &["error", "good"]);
    bench.run(&bench.settings(), ByName::default()).unwrap();
    // as release 0.1.0 leaves it
    let state = bench.log.group_state(&bench.group).unwrap();
    let (key, value) = state.iter().find(|(key, _)| key.starts_with("failed/")).unwrap();
    let mut untold: serde_json::Value = serde_json::from_slice(value).unwrap();
    untold.as_object_mut().unwrap().remove("topic_id").unwrap();
    let entry = serde_json::to_vec(&untold).unwrap();
    let end = bench.log.offsets(&bench.topic, 0).unwrap().end;
    let text = datamill::progress::encode(&datamill::progress::Progress::starting_at(end), None).1;
    bench.set_position(end, &text);
    bench.set_state(&format!("started/{}/0", bench.topic), b"");
    bench.set_state(key, &entry);

    let alone = |start| EngineSettings { start_from: start, retry_failed: RetryFailed::No, ..bench.settings() };
    assert_eq!(bench.run(&alone(None), ByName::default()).unwrap().succeeded, 0, "the position counts");
    let text = |bench: &Bench| {
        let group = bench.log.group(&bench.group, &[&bench.topic]).unwrap();
        group.committed[&(bench.topic.clone(), 0)].text.clone()
    };
    assert!(datamill::progress::is_tagged(&text(&bench)), "{}", text(&bench));
    assert_eq!(entries(&bench), [("error".to_owned(), "computing_result_message_failed".to_owned(), None)]);
    bench.create_again(1);
    send(&bench, 0, &["new"]);
    is_refused(&bench, &alone(None));
    let code = ByName::default();
    let calls = Arc::clone(&code.calls);
    bench.run(&alone(Some(StartFrom::Earliest)), code).unwrap();
    assert_eq!(calls.load(SeqCst), 1);
    assert_eq!(entries(&bench), [("error".to_owned(), "expired".to_owned(), None)]);
}

fn results_and_dead_letters_name_the_topic_that_they_came_from(place: &Place) {
    let bench = Bench::new(place, 1);
    let dead = bench.dead_letter_topic(&[]);
    send(&bench, 0, &["good", "error"]);
    let mut no_chunk = chunks(0, "x", b"x", 1);
    no_chunk[0].value = b"no chunk".to_vec();
    bench.send(&no_chunk);
    let settings = EngineSettings { dead_letter_topic: Some(dead.clone()), ..bench.settings() };
    bench.run(&settings, ByName::default()).unwrap();
    let id = bench.topic_id();
    let letters = read_all(bench.log.as_ref(), &dead);
    assert_eq!((bench.read_results().len(), letters.len()), (1, 2));
    for got in bench.read_results().iter().chain(&letters) {
        assert_eq!(got.headers.get(headers::SOURCE_TOPIC_ID), Some(&id), "{got:?}");
    }
}

fn a_group_reads_a_partition_that_it_never_had_from_its_first_record(place: &Place) {
    for start in [None, Some(StartFrom::Latest), Some(StartFrom::Offset(0))] {
        let bench = Bench::new(place, 3);
        (0..3).for_each(|partition| send(&bench, partition, &[&format!("p{partition}")]));
        bench.set_position(1, "");
        let settings = EngineSettings { start_from: start, first_start: FirstStart::Latest, ..bench.settings() };
        bench.run(&settings, ByName::default()).unwrap();
        assert_eq!(names(&bench), ["p1", "p2"], "{start:?}");
    }
    // a first start is one in all partitions, and a restart soon after it goes on there
    let bench = Bench::new(place, 3);
    (0..3).for_each(|partition| send(&bench, partition, &[&format!("p{partition}")]));
    let settings = EngineSettings { first_start: FirstStart::Latest, ..bench.settings() };
    bench.run(&settings, ByName::default()).unwrap();
    send(&bench, 1, &["later"]);
    bench.run(&settings, ByName::default()).unwrap();
    assert_eq!(names(&bench), ["later"]);
}

fn a_group_that_lost_its_positions_still_knows_which_partitions_it_had(place: &Place) {
    let bench = Bench::new(place, 2);
    (0..2).for_each(|partition| send(&bench, partition, &[&format!("p{partition}")]));
    bench.set_state(&format!("started/{}/0", bench.topic), bench.topic_id().as_bytes());
    let settings = EngineSettings { first_start: FirstStart::Latest, ..bench.settings() };
    let error = bench.run(&settings, ByName::default()).unwrap_err();
    assert!(matches!(error, EngineError::LostPosition { partition: 0, .. }), "{error}");
    let settings = EngineSettings { start_from: Some(StartFrom::Latest), ..settings };
    bench.run(&settings, ByName::default()).unwrap();
    assert_eq!(names(&bench), ["p1"]);
}
