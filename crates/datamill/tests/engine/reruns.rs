//! The engine over both logs: files that have a result are run again when somebody asks for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use crate::common::{Bench, Got, Place, StopAtEnd, Told, chunks, content, on_both_logs, read_all, wait_for};
use datamill::broker::Log;
use datamill::engine::{
    Control, DeliveryGuarantee, EngineSettings, FailedFile, RerunChoice, RerunError, RerunFile, RerunFiles,
    RetryFailed, Summary, failed_files, files_to_rerun, request_rerun,
};
use datamill::settings::Pattern;
use datamill::wire::headers;

on_both_logs! {
    files_are_run_again_by_a_running_program_and_by_the_next_start,
    files_are_chosen_by_their_newest_result,
    only_results_of_the_group_itself_are_looked_at,
    a_file_that_fails_when_it_is_run_again_is_a_failed_file_and_its_retry_names_the_earlier_result,
    a_file_whose_chunks_are_gone_expires,
    requests_that_wait_together_have_one_answer_and_one_that_comes_during_a_run_has_its_own,
    very_many_files_are_run_again_within_little_memory,
    a_group_without_results_is_told_what_to_do,
}

fn choose(bench: &Bench, choice: &RerunChoice) -> RerunFiles {
    files_to_rerun(&bench.log, &bench.topic, &bench.group, choice, &|| false).unwrap().unwrap()
}

fn all(bench: &Bench) -> Vec<RerunFile> {
    choose(bench, &RerunChoice::default()).files
}

fn paths(found: &[RerunFile]) -> Vec<&str> {
    found.iter().map(|file| file.path.as_str()).collect()
}

fn ask(bench: &Bench, files: &[RerunFile]) {
    request_rerun(bench.log.as_ref(), &bench.topic, &bench.group, files).unwrap();
}

fn failed(bench: &Bench) -> Vec<FailedFile> {
    failed_files(bench.log.as_ref(), &bench.topic, &bench.group).unwrap()
}

/// Keys of requests in the group's state.
fn requests(bench: &Bench) -> Vec<String> {
    let state = bench.log.group_state(&bench.group).unwrap();
    state.into_keys().filter(|key| key.starts_with("rerun/")).collect()
}

/// Results that answer a request, by path, each with the earlier result that it names.
fn again(bench: &Bench) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for got in bench.read_results() {
        if let Some(of) = got.headers.get(headers::RERUN_OF) {
            found.entry(got.path().to_owned()).or_default().push(of.clone());
        }
    }
    found
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

/// A bench with files `a`, `b` and `c` of several chunks that have a result of version 1.9 each.
fn with_results(place: &Place) -> (Bench, EngineSettings) {
    let bench = Bench::new(place, 2);
    for (partition, name) in [(0, "a"), (1, "b"), (0, "c")] {
        bench.send(&chunks(partition, name, &content(partition as u64 + 1, 500), 100));
    }
    let settings = EngineSettings { processor_version: Some("1.9".to_owned()), ..bench.settings() };
    assert_eq!(bench.run(&settings, Told::default()).unwrap().succeeded, 3);
    (bench, EngineSettings { processor_version: Some("1.10".to_owned()), ..settings })
}

fn files_are_run_again_by_a_running_program_and_by_the_next_start(place: &Place) {
    let (bench, mut settings) = with_results(place);
    let before = all(&bench);
    assert_eq!(paths(&before), ["a", "b", "c"]);
    ask(&bench, &before);
    assert!(all(&bench).iter().all(|file| file.requested));
    settings.retry_failed = RetryFailed::No;
    let summary = bench.run(&settings, Told::default()).unwrap();
    assert_eq!((summary.succeeded, summary.rerun, summary.retried, summary.failed), (3, 3, 0, 0));
    assert!(summary.to_string().contains("3 of them had a result and were run again"), "{summary}");
    let named: BTreeMap<String, Vec<String>> =
        before.iter().map(|file| (file.path.clone(), vec![file.result.clone()])).collect();
    assert_eq!(again(&bench), named);
    assert_eq!(requests(&bench), [] as [&str; 0]);
    let values: Vec<(String, Vec<u8>)> =
        bench.read_results().into_iter().map(|got| (got.path().to_owned(), got.value)).collect();
    for (path, value) in &values {
        assert_eq!(values.iter().filter(|other| *other == &(path.clone(), value.clone())).count(), 2, "{path}");
    }

    (settings.exit_at_end, settings.retry_failed) = (false, RetryFailed::Now);
    let told = Told::default();
    let summary = while_running(&bench, &settings, &told, || {
        ask(&bench, &all(&bench)[..1]);
        wait_for("the third result of a file", || again(&bench)["a"].len() == 2);
    });
    assert_eq!((summary.succeeded, summary.rerun, told.calls()), (1, 1, 1));
    let newest = all(&bench);
    assert_eq!(newest.iter().map(|file| file.version.as_deref()).collect::<Vec<_>>(), [Some("1.10"); 3]);
    assert_ne!(again(&bench)["a"][0], again(&bench)["a"][1], "each names the newest one before it");
    assert_eq!(bench.run(&bench.settings(), told.clone()).unwrap().succeeded, 0);
    assert_eq!((bench.read_results().len(), told.calls()), (7, 1));
}

fn files_are_chosen_by_their_newest_result(place: &Place) {
    let (bench, settings) = with_results(place);
    let below = |version: &str| RerunChoice { version_below: Some(version.to_owned()), ..RerunChoice::default() };
    assert_eq!(choose(&bench, &below("1.9")).count, 0);
    ask(&bench, &choose(&bench, &below("1.10")).files[..1]);
    bench.run(&settings, Told::default()).unwrap();
    assert_eq!(paths(&choose(&bench, &below("1.10")).files), ["b", "c"]);
    assert_eq!(choose(&bench, &below("2")).count, 3);
    let named = RerunChoice { path: Some(Pattern::from_python("[ab]").unwrap()), ..RerunChoice::default() };
    let found = choose(&bench, &named);
    assert_eq!((found.all, found.count, paths(&found.files)), (3, 2, vec!["a", "b"]));
    let made = all(&bench)[0].made_ms.unwrap();
    let since = RerunChoice { since_ms: Some(made), ..below("2") };
    assert_eq!(paths(&choose(&bench, &since).files), ["a"]);
    // a later upload of the same file is what is run again, once the group has done it
    bench.send(&chunks(0, "a", &content(9, 500), 100));
    let offsets = all(&bench)[0].offsets.clone();
    bench.run(&EngineSettings { processor_version: None, ..settings }, Told::default()).unwrap();
    let found = choose(&bench, &below("0.1"));
    assert_eq!(paths(&found.files), ["a"], "a result without a version is below all");
    assert_ne!(found.files[0].offsets, offsets);
}

fn only_results_of_the_group_itself_are_looked_at(place: &Place) {
    let (bench, settings) = with_results(place);
    let other = EngineSettings {
        group: format!("{}-other", bench.group),
        output_dir: bench.folder.path().join("other"),
        processor_version: Some("7".to_owned()),
        ..settings.clone()
    };
    assert_eq!(bench.run(&other, Told::default()).unwrap().succeeded, 3);
    assert_eq!(all(&bench).iter().map(|file| file.version.as_deref()).collect::<Vec<_>>(), [Some("1.9"); 3]);
    ask(&bench, &all(&bench));
    assert_eq!(bench.run(&other, Told::default()).unwrap().succeeded, 0, "the request is not for this group");
    assert_eq!(bench.run(&settings, Told::default()).unwrap().rerun, 3);
}

fn a_file_that_fails_when_it_is_run_again_is_a_failed_file_and_its_retry_names_the_earlier_result(place: &Place) {
    let (bench, mut settings) = with_results(place);
    let dead = bench.dead_letter_topic(&[]);
    settings.dead_letter_topic = Some(dead.clone());
    let before = all(&bench);
    ask(&bench, &before[..1]);
    let told = Told::to_fail();
    let summary = bench.run(&settings, told.clone()).unwrap();
    assert_eq!((summary.succeeded, summary.failed, summary.failed_again), (0, 1, 0));
    assert_eq!((requests(&bench).len(), failed(&bench).len()), (0, 1), "the failure is the answer");
    assert_eq!(failed(&bench)[0].offsets, before[0].offsets);
    assert_eq!(read_all(bench.log.as_ref(), &dead).len(), 1);
    // it fails again, by itself and when it is asked for once more
    assert_eq!(bench.run(&settings, told.clone()).unwrap().failed_again, 1);
    ask(&bench, &all(&bench)[..1]);
    assert_eq!(bench.run(&settings, told.clone()).unwrap().failed_again, 1);
    assert_eq!((requests(&bench).len(), failed(&bench).len(), failed(&bench)[0].attempts), (0, 1, 3));
    assert_eq!(read_all(bench.log.as_ref(), &dead).len(), 1);
    told.fails.store(false, SeqCst);
    let summary = bench.run(&settings, told).unwrap();
    assert_eq!((summary.succeeded, summary.retried, summary.rerun), (1, 1, 1));
    assert_eq!(failed(&bench), []);
    let answers: Vec<Got> =
        bench.read_results().into_iter().filter(|got| got.headers.contains_key(headers::RETRY_OF)).collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].headers[headers::RERUN_OF], before[0].result);
}

fn a_file_whose_chunks_are_gone_expires(place: &Place) {
    let (bench, settings) = with_results(place);
    ask(&bench, &all(&bench)[..1]);
    // the request names less than there is: the rest has gone
    let state = bench.log.group_state(&bench.group).unwrap();
    let (key, value) = state.iter().find(|(key, _)| key.starts_with("rerun/")).unwrap();
    let mut asked: serde_json::Value = serde_json::from_slice(value).unwrap();
    let last = asked["spans"][0][2].as_i64().unwrap();
    asked["spans"][0][2] = (last - 1).into();
    bench.set_state(key, asked.to_string().as_bytes());
    let told = Told::default();
    for failures in [1, 0] {
        let summary = bench.run(&settings, told.clone()).unwrap();
        assert_eq!((summary.succeeded, summary.failed, told.calls()), (0, failures, 0));
    }
    let file = failed(&bench).remove(0);
    assert_eq!((file.path.as_str(), file.status.as_str(), file.can_be_retried), ("a", "expired", false));
    assert!(file.reason.contains("its chunks are gone"), "{}", file.reason);
    assert_eq!(requests(&bench), [] as [&str; 0]);
    // asked for once more, with all that is there, it has another result, which answers the failure as well
    ask(&bench, &all(&bench)[..1]);
    let summary = bench.run(&settings, told).unwrap();
    assert_eq!((summary.succeeded, summary.retried, summary.rerun), (1, 1, 1));
    assert_eq!(failed(&bench), []);
}

fn requests_that_wait_together_have_one_answer_and_one_that_comes_during_a_run_has_its_own(place: &Place) {
    let (bench, mut settings) = with_results(place);
    let files = all(&bench);
    ask(&bench, &files[..1]);
    std::thread::sleep(std::time::Duration::from_millis(2));
    ask(&bench, &files[..1]);
    assert_eq!(requests(&bench).len(), 2);
    (settings.exit_at_end, settings.threads) = (false, 1);
    let told = Told::default();
    told.holds.store(true, SeqCst);
    let summary = while_running(&bench, &settings, &told, || {
        wait_for("the first run", || told.calls() == 1);
        ask(&bench, &files[..1]);
        // seen while the file is in hand
        std::thread::sleep(std::time::Duration::from_secs(3));
        told.holds.store(false, SeqCst);
        wait_for("both results", || again(&bench).get("a").is_some_and(|results| results.len() == 2));
        wait_for("the end of the requests", || requests(&bench).is_empty());
    });
    assert_eq!((summary.succeeded, summary.rerun, told.calls()), (2, 2, 2));
    assert_eq!(bench.run(&bench.settings(), told).unwrap().succeeded, 0);
}

/// Where the end of a transaction is not known, the request is written once more.
#[test]
fn a_request_that_is_written_a_second_time_after_its_answer_asks_for_nothing() {
    let (bench, mut settings) = with_results(&Place::Kafka);
    settings.exit_at_end = false;
    ask(&bench, &all(&bench)[..1]);
    let state = bench.log.group_state(&bench.group).unwrap();
    let (key, value) = state.into_iter().find(|(key, _)| key.starts_with("rerun/")).unwrap();
    let told = Told::default();
    while_running(&bench, &settings, &told, || {
        wait_for("the result", || requests(&bench).is_empty());
        let change = [datamill::broker::StateChange { key: key.clone(), value: Some(value.clone()) }];
        bench.log.change_group_state(&bench.group, &change).unwrap();
        wait_for("the end of the request", || requests(&bench).is_empty());
        ask(&bench, &all(&bench)[1..2]);
        wait_for("the next result", || again(&bench).contains_key("b"));
    });
    assert_eq!((told.calls(), bench.read_results().len()), (2, 5));
}

fn very_many_files_are_run_again_within_little_memory(place: &Place) {
    const FILES: u64 = 3000;
    let bench = Bench::new(place, 2);
    let sent: Vec<_> = (0..FILES).flat_map(|i| chunks((i % 2) as i32, &format!("many/{i:05}"), b"abc", 10)).collect();
    bench.send(&sent);
    assert_eq!(bench.run(&bench.settings(), Told::default()).unwrap().succeeded, FILES);
    ask(&bench, &all(&bench));
    // an eighth of it is for what waits: a part of the requests at a time
    let settings = EngineSettings { memory_limit: 2 << 20, ..bench.settings() };
    let told = Told::default();
    let summary = bench.run(&settings, told.clone()).unwrap();
    assert_eq!((summary.rerun, told.calls(), summary.failed), (FILES, FILES, 0));
    let again = again(&bench);
    assert_eq!(
        (again.len(), again.values().filter(|results| results.len() == 1).count()),
        (FILES as usize, FILES as usize)
    );
    assert_eq!(requests(&bench), [] as [&str; 0]);
}

fn a_group_without_results_is_told_what_to_do(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a", b"abc", 2));
    let log: &Arc<dyn Log> = &bench.log;
    let refused =
        |group: &str| files_to_rerun(log, &bench.topic, group, &RerunChoice::default(), &|| false).unwrap_err();
    assert!(matches!(refused(&bench.group), RerunError::NotBegun { .. }));
    let settings = EngineSettings { delivery: DeliveryGuarantee::AtLeastOnce, ..bench.settings() };
    bench.run(&settings, Told::default()).unwrap();
    assert!(matches!(refused(&bench.group), RerunError::Unmarked { .. }));
    let group = format!("{}-processor", bench.group);
    let output_dir = bench.folder.path().join("processor");
    let settings = EngineSettings { result_topic: None, group: group.clone(), output_dir, ..bench.settings() };
    let code = datamill::process::UserCode::function(Default::default(), |_, _| Ok(None));
    bench.run_code(&settings, code).unwrap();
    let error = refused(&group);
    assert!(matches!(error, RerunError::NoResults { .. }));
    assert!(error.to_string().contains("--start_from earliest"), "{error}");
}
