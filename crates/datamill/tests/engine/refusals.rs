//! What a broker refuses: the file that it is about fails, the rest goes on, and the reason is told as what it is.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::{Bench, ByName, Place, chunks, content, on_both_logs, registry, sizes};
use datamill::broker::NewTopic;
use datamill::engine::{Control, DeliveryGuarantee, EngineSettings};
use datamill::facts::Facts;
use datamill::upload::{UploadSettings, upload_paths};
use datamill_testkit::kafka::Kafka;

on_both_logs! {
    many_results_that_are_too_large_fail_their_files_and_the_others_go_on,
}

/// A topic of the bench that takes no record, whatever its time.
fn takes_no_time(bench: &Bench) -> String {
    let name = bench.topic.replace("files", "timeless");
    let settings = BTreeMap::from([("message.timestamp.before.max.ms".to_owned(), "0".to_owned())]);
    bench.log.create_topic(&NewTopic { name: name.clone(), partitions: 2, replication: 1, settings }).unwrap();
    name
}

fn send_files(bench: &Bench, files: i32) {
    let sent = (0..files).flat_map(|i| chunks(i % 2, &format!("f/{i}"), &content(i as u64, 50), 100));
    bench.send(&sent.collect::<Vec<_>>());
}

#[test]
fn a_result_topic_that_refuses_the_time_fails_each_file_with_that_reason() {
    for delivery in [DeliveryGuarantee::ExactlyOnce, DeliveryGuarantee::AtLeastOnce] {
        let bench = Bench::new(&Place::Kafka, 2);
        send_files(&bench, 300);
        let results = takes_no_time(&bench);
        let settings = EngineSettings { result_topic: Some(results), delivery, ..bench.settings() };
        let summary = bench.run(&settings, ByName::default()).unwrap();
        let rows = registry(&bench.output(), "failed_from");
        // without a transaction, a record may arrive in the millisecond in which it was made
        let in_time = if delivery == DeliveryGuarantee::ExactlyOnce { 0 } else { summary.succeeded };
        assert_eq!((summary.succeeded, summary.failed), (in_time, 300 - in_time), "{delivery:?}");
        assert!(summary.failed > 0 && rows.len() as u64 == summary.failed, "{summary}");
        for row in rows {
            let row = row.join(";");
            for part in ["producing_message_failed", " time", "`message.timestamp.before.max.ms`"] {
                assert!(row.contains(part), "no {part}: {row}");
            }
        }
    }
}

#[test]
fn a_topic_of_dead_letters_that_refuses_the_time_holds_nothing() {
    let bench = Bench::new(&Place::Kafka, 2);
    let sent: Vec<_> = (0..50).flat_map(|i| chunks(i % 2, &format!("{i}/error"), &[i as u8], 100)).collect();
    bench.send(&sent);
    send_files(&bench, 5);
    let settings = EngineSettings { dead_letter_topic: Some(takes_no_time(&bench)), ..bench.settings() };
    let summary = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((summary.succeeded, summary.failed, summary.dead_letters_of_files), (5, 50, 0));
    assert_eq!(sizes(&bench).len(), 5);
}

#[test]
fn an_upload_whose_time_is_refused_is_told_so_and_not_as_too_large() {
    let bench = Bench::new(&Place::Kafka, 1);
    let topic = takes_no_time(&bench);
    std::fs::write(bench.folder.path().join("scan.csv"), "1;2").unwrap();
    let paths = [bench.folder.path().join("scan.csv")];
    let settings = UploadSettings::new(&topic);
    let (control, facts) = (Control::default(), Facts::default());
    let summary = upload_paths(bench.log.as_ref(), &paths, &settings, &control, &facts).unwrap();
    assert_eq!((summary.files, summary.failed.count), (0, 1));
    let said = summary.to_string();
    for part in ["scan.csv", "its time", "the clock of this machine", "`message.timestamp.before.max.ms`"] {
        assert!(said.contains(part), "no {part}: {said}");
    }
    assert!(!said.contains("chunk_size"), "{said}");
}

/// What a program commits beside its offsets fits while few files are unfinished.
#[test]
fn a_broker_that_keeps_256_bytes_beside_an_offset_is_enough() {
    let kafka = Kafka::start_own_with("offset.metadata.max.bytes=256");
    for delivery in [DeliveryGuarantee::ExactlyOnce, DeliveryGuarantee::AtLeastOnce] {
        let bench = Bench::on(&kafka, &[], 2);
        send_files(&bench, 20);
        let settings = EngineSettings { delivery, ..bench.settings() };
        assert_eq!(bench.run(&settings, ByName::default()).unwrap().succeeded, 20);
    }
}

fn many_results_that_are_too_large_fail_their_files_and_the_others_go_on(place: &Place) {
    let bench = Bench::new(place, 2);
    let sent = (0..6).flat_map(|i| chunks(i % 2, &format!("{i}/huge"), &[i as u8], 100));
    bench.send(&sent.collect::<Vec<_>>());
    send_files(&bench, 30);
    let settings = EngineSettings { shutdown_timeout: Duration::from_secs(60), ..bench.settings() };
    let summary = bench.run(&settings, ByName::default()).unwrap();
    assert_eq!((summary.succeeded, summary.failed), (30, 6));
    assert_eq!(sizes(&bench).len(), 30);
    for row in registry(&bench.output(), "failed_from") {
        let row = row.join(";");
        for part in ["producing_message_failed", "large", " takes ", "; the result has "] {
            assert!(row.contains(part), "no {part}: {row}");
        }
    }
}
