//! Uploads over both logs.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use datamill::engine::Control;
use datamill::program::{Exit, of_upload};
use datamill::report::Counters;
use datamill::upload::{Observer, UploadSettings, upload_paths};

use crate::common::{Bench, Place, content, on_both_logs};

on_both_logs! {
    an_upload_into_a_topic_that_is_created_again_meanwhile_says_that_it_failed,
}

/// Creates the topic again once a part of the file was acknowledged.
struct CreatesAgain<'a> {
    bench: &'a Bench,
    done: AtomicBool,
}

impl Observer for CreatesAgain<'_> {
    fn planned(&self, _: u64, _: u64) {}
    fn acknowledged(&self, _: u64) {
        if !self.done.swap(true, SeqCst) {
            self.bench.create_again(2);
        }
    }
    fn delivered(&self, _: &str, _: u64) {}
}

fn an_upload_into_a_topic_that_is_created_again_meanwhile_says_that_it_failed(place: &Place) {
    for chunk_size in [1 << 16, 1 << 24] {
        let bench = Bench::new(place, 2);
        let folder = bench.folder.path().join("data");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("large.dat"), content(1, 4 << 20)).unwrap();
        let settings =
            UploadSettings { chunk_size, in_flight_bytes: 1 << 20, ..UploadSettings::new(bench.topic.as_str()) };
        let observer = CreatesAgain { bench: &bench, done: AtomicBool::new(false) };
        let (control, counters) = (Control::default(), Counters::default());
        let upload = |observer: &dyn Observer| {
            upload_paths(bench.log.as_ref(), std::slice::from_ref(&folder), &settings, &control, &counters, observer)
                .unwrap()
        };
        let summary = upload(&observer);
        let text = summary.to_string();
        assert_eq!((summary.files, of_upload(&summary)), (0, Exit::Stopped), "{text}");
        assert!(text.contains(&format!("topic `{}` was deleted and created again", bench.topic)), "{text}");
        assert!(text.contains("large.dat"), "{text}");
        let summary = upload(&());
        assert_eq!((summary.files, of_upload(&summary)), (1, Exit::Done), "{summary}");
    }
}
