//! A group that is started with another way of delivery keeps its failures: they come to where this start keeps them.

use std::collections::BTreeMap;

use crate::common::{Bench, Place, Told, chunks, content, on_both_logs};
use datamill::engine::{
    DeliveryGuarantee, EngineSettings, FailedFile, RerunChoice, RerunError, RetryFailed, StateFolder, failed_files,
    files_to_rerun, forget_folders, request_retry, state_folders,
};
use datamill::wire::headers;

on_both_logs! {
    failures_in_the_folder_go_to_the_log_and_have_one_result,
    failures_in_the_log_go_to_the_folder_and_come_back,
    a_failure_whose_position_never_moved_stays_behind,
    a_failure_that_the_log_has_taken_and_answered_does_not_come_back_from_the_folder,
    open_files_whose_text_lies_in_the_state_survive_each_change,
    a_request_that_waits_is_answered_once_the_failures_are_back,
    failures_in_the_folder_of_another_start_are_not_taken_for_none,
    failures_of_another_topic_stay_in_the_folder,
}

const AT_LEAST: DeliveryGuarantee = DeliveryGuarantee::AtLeastOnce;
const ONCE: DeliveryGuarantee = DeliveryGuarantee::ExactlyOnce;

fn settings(bench: &Bench, delivery: DeliveryGuarantee) -> EngineSettings {
    EngineSettings { delivery, ..bench.settings() }
}

/// Leaves failed files alone.
fn looks_only(bench: &Bench, delivery: DeliveryGuarantee) -> EngineSettings {
    EngineSettings { retry_failed: RetryFailed::No, ..settings(bench, delivery) }
}

fn send(bench: &Bench, paths: &[&str]) {
    for (i, path) in paths.iter().enumerate() {
        bench.send(&chunks(i as i32 % 2, path, path.as_bytes(), 2));
    }
}

fn paths(files: &[FailedFile]) -> Vec<&str> {
    let mut paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    paths.sort_unstable();
    paths
}

fn in_log(bench: &Bench) -> Vec<FailedFile> {
    failed_files(bench.log.as_ref(), &bench.topic, &bench.group).unwrap()
}

fn folders(bench: &Bench) -> Vec<StateFolder> {
    state_folders(bench.log.as_ref(), &bench.topic, &bench.group).unwrap().into_values().collect()
}

fn in_folder(bench: &Bench) -> usize {
    bench.folder_state().keys().filter(|key| key.starts_with("failed/")).count()
}

/// The paths of all results, and how many of them answer a failure.
fn results(bench: &Bench) -> (Vec<String>, usize) {
    let results = bench.read_results();
    let mut paths: Vec<String> = results.iter().map(|got| got.path().to_owned()).collect();
    paths.sort();
    (paths, results.iter().filter(|got| got.headers.contains_key(headers::RETRY_OF)).count())
}

fn failures_in_the_folder_go_to_the_log_and_have_one_result(place: &Place) {
    let bench = Bench::new(place, 2);
    send(&bench, &["a", "b", "c"]);
    assert_eq!(bench.run(&settings(&bench, AT_LEAST), Told::to_fail()).unwrap().failed, 3);
    assert!(in_log(&bench).is_empty());
    bench.run(&looks_only(&bench, ONCE), Told::default()).unwrap();
    assert_eq!(paths(&in_log(&bench)), ["a", "b", "c"], "what failed before is seen, though nothing was tried");
    assert!(folders(&bench).is_empty());
    assert!(
        !bench
            .output()
            .join(".datamill")
            .read_dir()
            .unwrap()
            .any(|file| { file.unwrap().file_name().to_string_lossy().starts_with("state-") })
    );
    let done = bench.run(&settings(&bench, ONCE), Told::default()).unwrap();
    assert_eq!((done.succeeded, done.retried), (3, 3));
    bench.run(&settings(&bench, ONCE), Told::default()).unwrap();
    bench.run(&settings(&bench, AT_LEAST), Told::default()).unwrap();
    assert_eq!(results(&bench), (["a", "b", "c"].map(str::to_owned).to_vec(), 3));
    assert!(in_log(&bench).is_empty());
}

fn failures_in_the_log_go_to_the_folder_and_come_back(place: &Place) {
    let bench = Bench::new(place, 2);
    send(&bench, &["a", "bad/b", "bad/c"]);
    assert_eq!(bench.run(&settings(&bench, ONCE), Told::to_fail_in("bad")).unwrap().failed, 2);
    let rerun = || files_to_rerun(&bench.log, &bench.topic, &bench.group, &RerunChoice::default(), &|| false);
    assert_eq!(rerun().unwrap().unwrap().count, 1);

    bench.run(&looks_only(&bench, AT_LEAST), Told::default()).unwrap();
    assert!(in_log(&bench).is_empty(), "they are in one place");
    assert_eq!(in_folder(&bench), 2);
    let [folder] = &folders(&bench)[..] else { panic!("the log names the folder") };
    assert!(!folder.is_left() && folder.to_string().contains(bench.output().to_str().unwrap()), "{folder}");
    let refused = rerun().unwrap_err();
    assert!(matches!(refused, RerunError::InFolder { .. }), "{refused}");
    let known = bench.folder_state().into_keys().filter(|key| key.starts_with("in_log/")).count();
    assert_eq!(known, 0, "nothing of it is in the log any more");

    // one of them fails again, and another file for the first time
    send(&bench, &["bad/d"]);
    bench.run(&settings(&bench, AT_LEAST), Told::to_fail_in("bad")).unwrap();
    assert_eq!((in_folder(&bench), in_log(&bench).len()), (3, 0));
    bench.run(&looks_only(&bench, ONCE), Told::default()).unwrap();
    assert_eq!(paths(&in_log(&bench)), ["bad/b", "bad/c", "bad/d"]);
    assert!(in_log(&bench).iter().filter(|file| file.attempts == 2).count() == 2, "{:?}", in_log(&bench));
    assert!(folders(&bench).is_empty());
    assert_eq!(rerun().unwrap().unwrap().count, 1);
    for delivery in [AT_LEAST, ONCE, AT_LEAST] {
        bench.run(&settings(&bench, delivery), Told::default()).unwrap();
    }
    assert_eq!(results(&bench), (["a", "bad/b", "bad/c", "bad/d"].map(str::to_owned).to_vec(), 3));
    assert!(in_log(&bench).is_empty() && in_folder(&bench) == 0);
}

fn a_failure_whose_position_never_moved_stays_behind(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "done", b"abc", 2));
    bench.run(&settings(&bench, AT_LEAST), Told::to_fail()).unwrap();
    let position = bench.log.group(&bench.group, &[&bench.topic]).unwrap().committed.remove(&(bench.topic.clone(), 0));
    bench.send(&chunks(0, "undone", b"abc", 2));
    bench.run(&looks_only(&bench, AT_LEAST), Told::to_fail()).unwrap();
    assert_eq!(in_folder(&bench), 2);
    let position = position.unwrap();
    bench.set_position(position.offset, &position.text);

    let last = bench.run(&settings(&bench, ONCE), Told::default()).unwrap();
    assert_eq!((last.succeeded, last.retried), (2, 1), "the file that was not passed is read, not tried again");
    assert_eq!(results(&bench), (["done", "undone"].map(str::to_owned).to_vec(), 1));
    assert!(in_log(&bench).is_empty());
}

/// As where a program dies once the log has the failures, and its folder is used again later.
fn a_failure_that_the_log_has_taken_and_answered_does_not_come_back_from_the_folder(place: &Place) {
    for delivery in [ONCE, AT_LEAST] {
        let bench = Bench::new(place, 1);
        bench.send(&chunks(0, "a", b"abc", 2));
        bench.run(&settings(&bench, AT_LEAST), Told::to_fail()).unwrap();
        let (file, text) = (bench.state_file(), std::fs::read_to_string(bench.state_file()).unwrap());
        bench.run(&settings(&bench, ONCE), Told::default()).unwrap();
        let state = bench.log.group_state(&bench.group).unwrap();
        let (_, taken) = state.iter().find(|(key, _)| key.starts_with("in_folder/")).unwrap();
        let taken: serde_json::Value = serde_json::from_slice(taken).unwrap();
        let line = serde_json::json!({"key": format!("taking/{}", bench.topic), "value": taken["taken"]}).to_string();
        let check = datamill::wire::hex(&datamill::wire::sha512(line.as_bytes())[..4]);
        std::fs::write(&file, format!("{text}{check} {line}\n")).unwrap();

        let again = bench.run(&settings(&bench, delivery), Told::default()).unwrap();
        assert_eq!((again.succeeded, again.retried), (0, 0), "{delivery:?}");
        assert_eq!(results(&bench), (vec!["a".to_owned()], 1));
        assert!(in_log(&bench).is_empty());
    }
}

fn open_files_whose_text_lies_in_the_state_survive_each_change(place: &Place) {
    let bench = Bench::new(place, 1);
    let files: Vec<_> = (0..6000).map(|i| chunks(0, &format!("f/{i}"), &content(i, 8), 4)).collect();
    bench.send(&files.iter().map(|file| file[0].clone()).collect::<Vec<_>>());
    let rests: Vec<_> = files.iter().map(|file| file[1].clone()).collect();
    for (i, delivery) in [AT_LEAST, ONCE, AT_LEAST, ONCE].into_iter().enumerate() {
        let run = bench.run(&settings(&bench, delivery), Told::default()).unwrap();
        assert_eq!(run.succeeded, if i == 0 { 0 } else { 10 }, "{delivery:?}");
        bench.send(&rests[10 * i..10 * i + 10]);
    }
    bench.send(&rests[40..]);
    assert_eq!(bench.run(&settings(&bench, ONCE), Told::default()).unwrap().succeeded, 5970);
    assert_eq!(bench.read_results().len(), 6000);
    let state = bench.log.group_state(&bench.group).unwrap();
    assert!(!state.keys().any(|key| key.starts_with("progress/")), "{:?}", state.keys());
}

fn a_request_that_waits_is_answered_once_the_failures_are_back(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a", b"abc", 2));
    bench.run(&settings(&bench, ONCE), Told::to_fail()).unwrap();
    request_retry(bench.log.as_ref(), &bench.topic, &bench.group, &in_log(&bench)).unwrap();
    bench.run(&looks_only(&bench, AT_LEAST), Told::default()).unwrap();
    assert_eq!(results(&bench).0.len(), 0);
    let done = bench.run(&looks_only(&bench, ONCE), Told::default()).unwrap();
    assert_eq!((done.succeeded, done.retried), (1, 1), "it was asked for");
    let state = bench.log.group_state(&bench.group).unwrap();
    assert!(!state.keys().any(|key| key.starts_with("retry/") || key.starts_with("failed/")), "{:?}", state.keys());
}

fn failures_in_the_folder_of_another_start_are_not_taken_for_none(place: &Place) {
    let bench = Bench::new(place, 2);
    send(&bench, &["a", "b"]);
    bench.run(&settings(&bench, AT_LEAST), Told::to_fail()).unwrap();
    let elsewhere = EngineSettings { output_dir: bench.folder.path().join("elsewhere"), ..settings(&bench, ONCE) };
    bench.run(&elsewhere, Told::default()).unwrap();
    let [unknown] = &folders(&bench)[..] else { panic!("somewhere failures are") };
    assert!(unknown.is_left(), "{unknown}");
    bench.run(&looks_only(&bench, ONCE), Told::default()).unwrap();
    assert!(folders(&bench).is_empty());
    assert_eq!(paths(&in_log(&bench)), ["a", "b"]);

    // the log knows the folder now
    bench.run(&looks_only(&bench, AT_LEAST), Told::default()).unwrap();
    assert!(matches!(&folders(&bench)[..], [folder] if !folder.is_left()));
    bench.run(&elsewhere, Told::default()).unwrap();
    let [left] = &folders(&bench)[..] else { panic!("the folder still has them") };
    assert!(left.is_left() && left.to_string().contains(bench.output().to_str().unwrap()), "{left}");
    assert!(files_to_rerun(&bench.log, &bench.topic, &bench.group, &RerunChoice::default(), &|| false).is_ok());
    let key = state_folders(bench.log.as_ref(), &bench.topic, &bench.group).unwrap().into_keys();
    forget_folders(bench.log.as_ref(), &bench.group, key).unwrap();
    assert!(folders(&bench).is_empty());
    // and it may turn up again
    let done = bench.run(&settings(&bench, ONCE), Told::default()).unwrap();
    assert_eq!((done.succeeded, done.retried), (2, 2));
}

fn failures_of_another_topic_stay_in_the_folder(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a", b"abc", 2));
    bench.run(&settings(&bench, AT_LEAST), Told::to_fail()).unwrap();
    let name = format!("{}-2", bench.topic);
    let topic = datamill::broker::NewTopic { name, partitions: 1, replication: 1, settings: BTreeMap::new() };
    bench.log.create_topic(&topic).unwrap();
    let of_other = |delivery| EngineSettings { topic: topic.name.clone(), ..settings(&bench, delivery) };
    bench.run(&of_other(AT_LEAST), Told::default()).unwrap();
    bench.run(&of_other(ONCE), Told::default()).unwrap();
    assert_eq!(in_folder(&bench), 1);
    assert!(in_log(&bench).is_empty());
    let done = bench.run(&settings(&bench, ONCE), Told::default()).unwrap();
    assert_eq!((done.succeeded, done.retried), (1, 1));
}
