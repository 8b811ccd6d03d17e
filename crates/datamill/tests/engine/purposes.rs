//! What a group is for, on both logs: another program in it is refused, and answers no failure of the first one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::common::{Bench, ByName, Place, chunks, on_both_logs, sizes};
use datamill::assemble::DownloadDataFile;
use datamill::broker::NewTopic;
use datamill::deliver::{DownloadDirectory, OnExists};
use datamill::engine::{Control, DeliveryGuarantee, EngineError, EngineSettings, Summary, failed_files, request_retry};
use datamill::facts::Facts;
use datamill::process::{
    DataFileStreamProcessor, DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage, UserCode,
};

on_both_logs! {
    a_group_is_for_one_kind_of_program_and_result_topic,
    a_group_of_downloads_is_for_one_folder_wherever_that_is_mounted,
    a_download_whose_folder_lost_its_mark_asks,
    who_means_it_shares_the_group_and_is_not_asked_again,
    a_group_of_0_1_0_takes_the_mark_at_its_next_start_and_its_failures_are_of_who_takes_it,
    a_failure_is_answered_only_by_the_program_that_it_is_of,
    another_topic_of_the_group_is_another_matter,
    without_transactions_the_folder_knows_the_purpose_and_the_log_is_looked_at,
}

/// Fails every file while it is told to.
#[derive(Clone, Default)]
struct Fails(Arc<AtomicBool>);

impl DataFileStreamReproducer for Fails {
    fn get_processing_result_message_for_file(
        &self,
        _: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        if self.0.load(SeqCst) {
            Err(ProcessingError::file_failed("no"))
        } else {
            Ok(Some(ReproducerMessage::new("ok")))
        }
    }
}

struct Nothing;

impl DataFileStreamProcessor for Nothing {
    fn process_downloaded_data_file(&self, _: &DownloadDataFile, _: &Lock) -> Result<(), ProcessingError> {
        Ok(())
    }
}

fn run(bench: &Bench, settings: &EngineSettings, code: UserCode) -> Result<Summary, EngineError> {
    datamill::engine::run(&bench.log, settings, code, &Control::default(), &Facts::default())
}

fn reproducer(bench: &Bench) -> Result<Summary, EngineError> {
    run(bench, &bench.settings(), UserCode::reproducer(ByName::default()))
}

/// Settings of a program without results, with an output folder of its own.
fn of_processor(bench: &Bench, name: &str) -> EngineSettings {
    let output_dir = bench.folder.path().join(format!("{name}_output"));
    let program = format!("{name} datamill/0.1.0");
    EngineSettings { result_topic: None, program, output_dir, ..bench.settings() }
}

fn download(bench: &Bench, settings: &EngineSettings, folder: &Path) -> Result<Summary, EngineError> {
    let directory = DownloadDirectory::open(folder, &settings.output_dir, OnExists::Newer).unwrap();
    run(bench, settings, directory.into_user_code())
}

fn folder(bench: &Bench, name: &str) -> PathBuf {
    bench.folder.path().join(name)
}

/// The sentence of a refusal, which has to hold these parts.
fn refused(ended: Result<Summary, EngineError>, parts: &[&str]) {
    let error = ended.expect_err("the group is another program's");
    let text = error.to_string();
    for part in parts.iter().chain(&["--consumer_group_id", "--same_group"]) {
        assert!(text.contains(part), "no {part}: {text}");
    }
}

fn send(bench: &Bench, paths: &[&str]) {
    bench.send(&paths.iter().flat_map(|path| chunks(0, path, b"abc", 2)).collect::<Vec<_>>());
}

fn other_results(bench: &Bench) -> String {
    let name = bench.results.replace("results", "others");
    let settings = BTreeMap::new();
    bench.log.create_topic(&NewTopic { name: name.clone(), partitions: 1, replication: 1, settings }).unwrap();
    name
}

fn a_group_is_for_one_kind_of_program_and_result_topic(place: &Place) {
    let bench = Bench::new(place, 1);
    send(&bench, &["a"]);
    assert_eq!(reproducer(&bench).unwrap().succeeded, 1);
    send(&bench, &["b"]);
    let own = format!("the reproducer `test` with results in topic `{}`", bench.results);
    let other = EngineSettings { result_topic: Some(other_results(&bench)), ..bench.settings() };
    refused(run(&bench, &other, UserCode::reproducer(ByName::default())), &[&bench.group, &bench.topic, &own]);
    let processor = of_processor(&bench, "Copies");
    refused(run(&bench, &processor, UserCode::processor(Nothing)), &[&own, "the processor `Copies`"]);
    let mirror = folder(&bench, "mirror");
    let settings = of_processor(&bench, "DataFileDownloadDirectory");
    refused(download(&bench, &settings, &mirror), &[&own, "the download into the folder", "mirror"]);
    // nothing was taken from it, and a new name of the program is no other purpose
    let renamed = EngineSettings { program: "renamed datamill/0.2.0".to_owned(), ..bench.settings() };
    assert_eq!(run(&bench, &renamed, UserCode::reproducer(ByName::default())).unwrap().succeeded, 1);
    let group = format!("{}-copies", bench.group);
    let processor = EngineSettings { group, ..processor };
    assert_eq!(run(&bench, &processor, UserCode::processor(Nothing)).unwrap().succeeded, 2);
    let another = EngineSettings { program: "Others datamill/0.1.0".to_owned(), ..processor };
    refused(run(&bench, &another, UserCode::processor(Nothing)), &["`Copies`", "`Others`"]);
}

fn a_group_of_downloads_is_for_one_folder_wherever_that_is_mounted(place: &Place) {
    let bench = Bench::new(place, 1);
    send(&bench, &["a"]);
    let (mirror, moved) = (folder(&bench, "mirror"), folder(&bench, "moved"));
    let settings = of_processor(&bench, "DataFileDownloadDirectory");
    assert_eq!(download(&bench, &settings, &mirror).unwrap().succeeded, 1);
    refused(download(&bench, &settings, &folder(&bench, "second")), &["second", "mirror"]);
    // the mark tells it, as on a share that hosts mount at different places
    std::fs::rename(&mirror, &moved).unwrap();
    send(&bench, &["b"]);
    assert_eq!(download(&bench, &settings, &moved).unwrap().succeeded, 1);
    assert!(moved.join("a").exists() && moved.join("b").exists());
    let third = EngineSettings { group: format!("{}-third", bench.group), ..settings.clone() };
    assert_eq!(download(&bench, &third, &folder(&bench, "third")).unwrap().succeeded, 2);
    refused(download(&bench, &settings, &folder(&bench, "third")), &["third", "moved"]);
}

fn a_download_whose_folder_lost_its_mark_asks(place: &Place) {
    let bench = Bench::new(place, 1);
    send(&bench, &["a"]);
    let mirror = folder(&bench, "mirror");
    let settings = of_processor(&bench, "DataFileDownloadDirectory");
    assert_eq!(download(&bench, &settings, &mirror).unwrap().succeeded, 1);
    std::fs::remove_dir_all(&mirror).unwrap();
    send(&bench, &["b"]);
    refused(download(&bench, &settings, &mirror), &["does not carry the mark", "is the share mounted?"]);
    assert!(!mirror.join("b").exists());
    let meant = EngineSettings { same_group: true, ..settings.clone() };
    assert_eq!(download(&bench, &meant, &mirror).unwrap().succeeded, 1);
    send(&bench, &["c"]);
    assert_eq!(download(&bench, &settings, &mirror).unwrap().succeeded, 1, "it is not asked again");
}

fn who_means_it_shares_the_group_and_is_not_asked_again(place: &Place) {
    let bench = Bench::new(place, 1);
    send(&bench, &["a"]);
    assert_eq!(reproducer(&bench).unwrap().succeeded, 1);
    let processor = of_processor(&bench, "Copies");
    let meant = EngineSettings { same_group: true, ..processor.clone() };
    for (settings, path) in [(meant, "b"), (processor, "c")] {
        send(&bench, &[path]);
        assert_eq!(run(&bench, &settings, UserCode::processor(Nothing)).unwrap().succeeded, 1);
    }
    send(&bench, &["d"]);
    assert_eq!(reproducer(&bench).unwrap().succeeded, 1, "the first one is not shut out");
    refused(run(&bench, &of_processor(&bench, "Third"), UserCode::processor(Nothing)), &["`Third`"]);
}

/// The state and positions of a group as 0.1.0 leaves them: without purposes.
fn forget_purposes(bench: &Bench) {
    let state = bench.log.group_state(&bench.group).unwrap();
    let purposes = state.keys().filter(|key| key.starts_with("purpose/"));
    let mut changes: Vec<_> =
        purposes.map(|key| datamill::broker::StateChange { key: key.clone(), value: None }).collect();
    for (key, value) in state.iter().filter(|(key, _)| key.starts_with("failed/")) {
        let mut entry: serde_json::Value = serde_json::from_slice(value).unwrap();
        assert!(entry.as_object_mut().unwrap().remove("by").is_some());
        let value = Some(entry.to_string().into_bytes());
        changes.push(datamill::broker::StateChange { key: key.clone(), value });
    }
    bench.log.change_group_state(&bench.group, &changes).unwrap();
}

fn a_group_of_0_1_0_takes_the_mark_at_its_next_start_and_its_failures_are_of_who_takes_it(place: &Place) {
    let bench = Bench::new(place, 1);
    send(&bench, &["a"]);
    let code = Fails::default();
    code.0.store(true, SeqCst);
    assert_eq!(bench.run(&bench.settings(), code.clone()).unwrap().failed, 1);
    forget_purposes(&bench);
    code.0.store(false, SeqCst);
    let second = bench.run(&bench.settings(), code).unwrap();
    assert_eq!((second.succeeded, second.retried), (1, 1));
    refused(run(&bench, &of_processor(&bench, "Copies"), UserCode::processor(Nothing)), &["`Copies`"]);
}

fn a_failure_is_answered_only_by_the_program_that_it_is_of(place: &Place) {
    let bench = Bench::new(place, 1);
    let code = Fails::default();
    code.0.store(true, SeqCst);
    send(&bench, &["a"]);
    assert_eq!(bench.run(&bench.settings(), code.clone()).unwrap().failed, 1);
    let processor = of_processor(&bench, "Copies");
    let (ask, meant) = (|| failed_files(bench.log.as_ref(), &bench.topic, &bench.group).unwrap(), true);
    let first =
        EngineSettings { same_group: meant, retry_failed: datamill::engine::RetryFailed::No, ..processor.clone() };
    assert_eq!(run(&bench, &first, UserCode::processor(Nothing)).unwrap().succeeded, 0);
    // also where somebody asks for another try
    request_retry(bench.log.as_ref(), &bench.topic, &bench.group, &ask()).unwrap();
    let second = run(&bench, &processor, UserCode::processor(Nothing)).unwrap();
    assert_eq!((second.succeeded, second.retried), (0, 0));
    let left = ask();
    assert_eq!((left.len(), left[0].requested), (1, true), "the request waits for the program that it is for");
    code.0.store(false, SeqCst);
    let third = bench.run(&bench.settings(), code).unwrap();
    assert_eq!((third.succeeded, third.retried, ask().len()), (1, 1, 0));
    assert_eq!(sizes(&bench).len(), 1);
}

fn another_topic_of_the_group_is_another_matter(place: &Place) {
    let bench = Bench::new(place, 1);
    send(&bench, &["a"]);
    assert_eq!(reproducer(&bench).unwrap().succeeded, 1);
    let topic = bench.topic.replace("files", "more");
    let settings = BTreeMap::new();
    bench.log.create_topic(&NewTopic { name: topic.clone(), partitions: 1, replication: 1, settings }).unwrap();
    let settings = EngineSettings { topic, ..of_processor(&bench, "Copies") };
    assert_eq!(run(&bench, &settings, UserCode::processor(Nothing)).unwrap().succeeded, 0);
}

fn without_transactions_the_folder_knows_the_purpose_and_the_log_is_looked_at(place: &Place) {
    let bench = Bench::new(place, 1);
    send(&bench, &["a"]);
    let delivery = DeliveryGuarantee::AtLeastOnce;
    let settings = EngineSettings { delivery, ..bench.settings() };
    assert_eq!(run(&bench, &settings, UserCode::reproducer(ByName::default())).unwrap().succeeded, 1);
    let other = EngineSettings { result_topic: Some(other_results(&bench)), ..settings.clone() };
    refused(run(&bench, &other, UserCode::reproducer(ByName::default())), &["the reproducer `test`"]);
    assert_eq!(run(&bench, &settings, UserCode::reproducer(ByName::default())).unwrap().succeeded, 0);
    // one with transactions has marked the group
    let group = format!("{}-marked", bench.group);
    let marked = EngineSettings { group: group.clone(), ..bench.settings() };
    run(&bench, &marked, UserCode::reproducer(ByName::default())).unwrap();
    let other = EngineSettings { delivery, group, ..of_processor(&bench, "Copies") };
    refused(run(&bench, &other, UserCode::processor(Nothing)), &["`Copies`"]);
}

/// Each of several programs that start at the same moment marks the group; one of them goes on.
#[test]
fn of_two_first_starts_at_the_same_moment_one_is_refused_and_has_done_nothing() {
    for round in 0..3 {
        let bench = Bench::new(&Place::Kafka, 4);
        bench.send(&(0..40).flat_map(|i| chunks(i % 4, &format!("{i}"), b"abc", 2)).collect::<Vec<_>>());
        let ended: Vec<Result<Summary, EngineError>> = std::thread::scope(|scope| {
            let runs: Vec<_> = ["One", "Two"]
                .map(|name| {
                    let bench = &bench;
                    scope.spawn(move || {
                        let instance = name.to_owned();
                        let settings = EngineSettings { instance, ..of_processor(bench, name) };
                        run(bench, &settings, UserCode::processor(Nothing))
                    })
                })
                .into_iter()
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        let [one, two] = &ended[..] else { panic!("{ended:?}") };
        let (name, done) = match (one, two) {
            (Ok(done), Err(EngineError::OtherPurpose { .. })) => ("One", done),
            (Err(EngineError::OtherPurpose { .. }), Ok(done)) => ("Two", done),
            _ => panic!("round {round}: {ended:?}"),
        };
        // up to the end of the partitions that it had while the other one was there
        let rest = run(&bench, &of_processor(&bench, name), UserCode::processor(Nothing)).unwrap();
        assert_eq!(done.succeeded + rest.succeeded, 40, "round {round}");
        let state = bench.log.group_state(&bench.group).unwrap();
        assert_eq!(state.keys().filter(|key| key.starts_with("purpose/")).count(), 1, "round {round}");
    }
}
