//! The engine over both logs: results name the version of their function, and the newest of each file are read alone.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::common::{Bench, Place, Told, chunks, on_both_logs};
use datamill::process::UserCode;
use datamill::read::{Start, TopicReader};
use datamill::wire::headers;

on_both_logs! {
    each_result_names_its_group_and_the_version_of_its_function,
    the_newest_result_of_each_file_is_that_of_its_latest_upload,
}

fn each_result_names_its_group_and_the_version_of_its_function(place: &Place) {
    let bench = Bench::new(place, 1);
    let mut settings = bench.settings();
    for (name, own, given) in [
        ("none", None, None),
        ("own", Some("1.2"), None),
        ("given", Some("1.2"), Some("2.0")),
        ("asked", None, Some("3")),
    ] {
        bench.send(&chunks(0, name, b"abc", 2));
        settings.processor_version = given.map(str::to_owned);
        let mut code = UserCode::reproducer(Told::default());
        if let Some(own) = own {
            code = code.with_version(own);
        }
        bench.run_code(&settings, code).unwrap();
        let results = bench.read_results();
        let result = results.iter().find(|got| got.headers[headers::SOURCE_PATH] == name).unwrap();
        assert_eq!(result.headers.get(headers::PROCESSOR_VERSION).map(String::as_str), given.or(own), "{name}");
        assert_eq!(result.headers[headers::GROUP], bench.group);
    }
}

/// Paths with the offsets of their uploads, as the newest results name them.
fn newest(bench: &Bench) -> Vec<(String, String)> {
    let opened = TopicReader::newest(&bench.log, &bench.results, None, Start::Earliest, &|| false).unwrap();
    let (mut reader, mut found) = (opened.unwrap(), Vec::new());
    while !reader.is_at_end() {
        let header = |record: &datamill::broker::Record<'_>, wanted: &str| {
            let value = record.headers.iter().find(|(name, _)| *name == wanted).unwrap().1;
            String::from_utf8(value.to_vec()).unwrap()
        };
        reader
            .poll(Duration::from_millis(100), &mut |record| {
                found.push((header(record, headers::SOURCE_PATH), header(record, headers::SOURCE_OFFSETS)));
            })
            .unwrap();
    }
    found.sort();
    found
}

fn the_newest_result_of_each_file_is_that_of_its_latest_upload(place: &Place) {
    let bench = Bench::new(place, 1);
    assert_eq!(newest(&bench), []);
    let told = Told::to_fail();
    // an upload of `a` fails, and has its result after a later one has its own
    bench.send(&chunks(0, "a", b"first", 5));
    assert_eq!(bench.run(&bench.settings(), told.clone()).unwrap().failed, 1);
    told.fails.store(false, SeqCst);
    bench.send(&chunks(0, "a", b"second", 6));
    bench.send(&chunks(0, "b", b"abc", 3));
    let mut settings = bench.settings();
    settings.retry_failed = datamill::engine::RetryFailed::No;
    assert_eq!(bench.run(&settings, told.clone()).unwrap().succeeded, 2);
    let expected = [("a", "0:1-1"), ("b", "0:2-2")].map(|(path, offsets)| (path.to_owned(), offsets.to_owned()));
    assert_eq!(newest(&bench), expected);
    assert_eq!(bench.run(&bench.settings(), told).unwrap().retried, 1);
    assert_eq!(bench.read_results().len(), 3);
    assert_eq!(newest(&bench), expected);
    let stopped =
        TopicReader::newest(&Arc::clone(&bench.log), &bench.results, None, Start::Earliest, &|| true).unwrap();
    assert!(stopped.is_none());
}
