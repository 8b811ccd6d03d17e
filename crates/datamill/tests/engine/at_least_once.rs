//! The engine over both logs with at-least-once delivery: results, failures kept in the output folder.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use crate::common::{Bench, ByName, Place, Sent, StopAtEnd, chunks, content, on_both_logs, sizes, wait_for};
use datamill::assemble::DownloadDataFile;
use datamill::engine::{Control, DeliveryGuarantee, EngineError, EngineSettings, StopKind};
use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage};
use datamill::wire::{headers, hex, sha512};

on_both_logs! {
    each_file_has_its_result_and_the_log_holds_no_state,
    failed_files_are_tried_again_from_the_folder_and_another_folder_knows_nothing_of_them,
    a_failure_whose_position_never_moved_is_forgotten,
    more_open_files_than_fit_beside_an_offset_survive_a_restart,
    a_position_that_the_log_forgot_is_told_from_a_first_start,
    what_the_output_folder_must_keep_waits_while_the_folder_is_away,
}

fn at_least_once(bench: &Bench) -> EngineSettings {
    EngineSettings { delivery: DeliveryGuarantee::AtLeastOnce, ..bench.settings() }
}

fn failed(bench: &Bench) -> Vec<String> {
    bench.folder_state().into_keys().filter(|key| key.starts_with("failed/")).collect()
}

/// Fails for files in folder `bad`, unless it is repaired.
struct Fails(&'static AtomicBool);

impl DataFileStreamReproducer for Fails {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        if file.subdirectory() == "bad" && self.0.load(SeqCst) {
            return Err(ProcessingError::file_failed("no calibration"));
        }
        Ok(Some(ReproducerMessage::new(file.size().to_string())))
    }
}

static BROKEN: AtomicBool = AtomicBool::new(true);
static REPAIRED: AtomicBool = AtomicBool::new(false);

fn each_file_has_its_result_and_the_log_holds_no_state(place: &Place) {
    let bench = Bench::new(place, 3);
    for i in 0..60 {
        bench.send(&chunks(i % 3, &format!("f/{i}"), &content(i as u64, 100 + i as usize), 64));
    }
    let open = chunks(0, "open", &content(1, 200), 64);
    bench.send(&open[..2]);
    let first = bench.run(&at_least_once(&bench), ByName::default()).unwrap();
    assert_eq!((first.succeeded, first.incomplete.len()), (60, 1));
    bench.send(&open[2..]);
    assert_eq!(bench.run(&at_least_once(&bench), ByName::default()).unwrap().succeeded, 1);
    let sizes = sizes(&bench);
    assert_eq!(sizes.len(), 61);
    for i in 0..60 {
        assert_eq!(sizes[&format!("f/{i}")], [(100 + i).to_string()], "once, as nothing went wrong");
    }
    assert!(bench.log.group_state(&bench.group).unwrap().is_empty());
    let marks: Vec<String> = (0..3).map(|p| format!("started/{}/{p}", bench.topic)).collect();
    let state = bench.folder_state().into_keys().filter(|key| !key.starts_with("purpose/"));
    assert_eq!(state.collect::<Vec<_>>(), marks);
}

fn failed_files_are_tried_again_from_the_folder_and_another_folder_knows_nothing_of_them(place: &Place) {
    let bench = Bench::new(place, 2);
    let mut settings = at_least_once(&bench);
    settings.dead_letter_topic = Some(bench.dead_letter_topic(&[]));
    for i in 0..4 {
        bench.send(&chunks(i % 2, &format!("{}/{i}", ["good", "bad"][i as usize / 2]), b"abc", 2));
    }
    let first = bench.run(&settings, Fails(&BROKEN)).unwrap();
    assert_eq!((first.succeeded, first.failed, first.dead_letters_of_files), (2, 2, 2));
    let keys = failed(&bench);
    assert_eq!(keys.len(), 2);

    let elsewhere = bench.folder.path().join("elsewhere");
    let other = bench.run(&EngineSettings { output_dir: elsewhere, ..settings.clone() }, Fails(&REPAIRED)).unwrap();
    assert_eq!((other.succeeded, other.retried), (0, 0));

    let again = bench.run(&settings, Fails(&BROKEN)).unwrap();
    assert_eq!((again.failed, again.failed_again, again.dead_letters_of_files), (0, 2, 0));
    assert!(bench.folder_state()[&keys[0]].contains(r#""attempts":2"#), "{:?}", bench.folder_state());

    let third = bench.run(&settings, Fails(&REPAIRED)).unwrap();
    assert_eq!((third.succeeded, third.retried), (2, 2));
    assert!(failed(&bench).is_empty());
    let results = bench.read_results();
    assert_eq!(results.len(), 4);
    let answers: Vec<_> = results.iter().filter_map(|got| got.headers.get(headers::RETRY_OF)).collect();
    assert!(answers.len() == 2 && answers.iter().all(|key| keys.contains(key)), "{answers:?}");
}

/// A failure and a message that is no chunk of a file, while another folder is at the path of the output folder, as the
/// mount point of a share.
fn what_the_output_folder_must_keep_waits_while_the_folder_is_away(place: &Place) {
    let bench = Bench::new(place, 1);
    let settings = EngineSettings { exit_at_end: false, ..at_least_once(&bench) };
    let (output, away) = (bench.output(), bench.folder.path().join("away"));
    let committed = || {
        let group = bench.log.group(&bench.group, &[&bench.topic]).unwrap();
        group.committed.get(&(bench.topic.clone(), 0)).map(|position| position.offset)
    };
    let control = Control::default();
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&control);
        let program = scope.spawn(|| bench.run_controlled(&settings, Fails(&BROKEN), &control).unwrap());
        bench.send(&chunks(0, "first", b"1", 10));
        wait_for("the first file", || committed() == Some(1));
        std::fs::rename(&output, &away).unwrap();
        std::fs::create_dir(&output).unwrap();
        bench.send(&chunks(0, "bad/second", b"2", 10));
        bench.send(&[Sent { partition: 0, key: "k".to_owned(), value: b"garbage".to_vec(), marked: false }]);
        std::thread::sleep(Duration::from_millis(2500));
        assert_eq!(committed(), Some(1), "no position moves past what is not kept");
        assert_eq!(
            std::fs::read_dir(&output).unwrap().filter(|e| e.as_ref().unwrap().file_name() != "LOGS").count(),
            0
        );
        assert!(!output.join("LOGS/dead_letters").exists());
        std::fs::remove_dir_all(&output).unwrap();
        std::fs::rename(&away, &output).unwrap();
        wait_for("both", || committed() == Some(3));
        control.stop(StopKind::Leave);
        assert_eq!(program.join().unwrap().failed, 1);
    });
    assert_eq!(failed(&bench).len(), 1);
    assert_eq!(std::fs::read_dir(output.join("LOGS/dead_letters")).unwrap().count(), 2);
}

fn a_failure_whose_position_never_moved_is_forgotten(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "bad/done", b"abc", 2));
    bench.run(&at_least_once(&bench), Fails(&BROKEN)).unwrap();
    // a run that ends between its failures and its position leaves the first as they would have been
    bench.send(&chunks(0, "bad/undone", b"abc", 2));
    let position = bench.log.group(&bench.group, &[&bench.topic]).unwrap().committed.remove(&(bench.topic.clone(), 0));
    bench.run(&at_least_once(&bench), Fails(&BROKEN)).unwrap();
    assert_eq!(failed(&bench).len(), 2);
    let position = position.unwrap();
    bench.set_position(position.offset, &position.text);

    let last = bench.run(&at_least_once(&bench), Fails(&REPAIRED)).unwrap();
    assert_eq!((last.succeeded, last.retried), (2, 1), "the file that was not passed is read, not tried again");
    assert_eq!(
        sizes(&bench),
        BTreeMap::from(
            [("bad/done", "3"), ("bad/undone", "3")].map(|(path, size)| { (path.to_owned(), vec![size.to_owned()]) })
        )
    );
    assert!(failed(&bench).is_empty());
}

fn more_open_files_than_fit_beside_an_offset_survive_a_restart(place: &Place) {
    let bench = Bench::new(place, 1);
    let files: Vec<_> = (0..6000).map(|i| chunks(0, &format!("f/{i}"), &content(i, 8), 4)).collect();
    bench.send(&files.iter().map(|file| file[0].clone()).collect::<Vec<_>>());
    let first = bench.run(&at_least_once(&bench), ByName::default()).unwrap();
    assert_eq!(first.incomplete.len(), 6000);
    let texts = |bench: &Bench| bench.folder_state().keys().filter(|key| key.starts_with("progress/")).count();
    assert_eq!(texts(&bench), 1);
    bench.send(&files[..10].iter().map(|file| file[1].clone()).collect::<Vec<_>>());
    assert_eq!(bench.run(&at_least_once(&bench), ByName::default()).unwrap().succeeded, 10);
    assert_eq!(texts(&bench), 1, "that of the position before is gone");
    bench.send(&files[10..].iter().map(|file| file[1].clone()).collect::<Vec<_>>());
    assert_eq!(bench.run(&at_least_once(&bench), ByName::default()).unwrap().succeeded, 5990);
    assert_eq!(bench.read_results().len(), 6000);
    assert_eq!(texts(&bench), 0);
}

fn a_position_that_the_log_forgot_is_told_from_a_first_start(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a", b"abc", 2));
    bench.run(&at_least_once(&bench), ByName::default()).unwrap();
    // the mark of a partition whose position is gone
    let elsewhere = Bench { topic: format!("{}-2", bench.topic), ..bench };
    let (name, settings) = (elsewhere.topic.clone(), BTreeMap::new());
    let topic = datamill::broker::NewTopic { name, partitions: 1, replication: 1, settings };
    elsewhere.log.create_topic(&topic).unwrap();
    let path = elsewhere.state_file();
    let json = format!(r#"{{"key":"started/{}/0","value":""}}"#, elsewhere.topic);
    let check = hex(&sha512(json.as_bytes())[..4]);
    let text = std::fs::read_to_string(&path).unwrap() + &format!("{check} {json}\n");
    std::fs::write(&path, text).unwrap();
    let error = elsewhere.run(&at_least_once(&elsewhere), ByName::default()).unwrap_err();
    assert!(matches!(error, EngineError::LostPosition { partition: 0, .. }), "{error}");
}
