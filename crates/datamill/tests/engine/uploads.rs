//! Uploads over both logs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use datamill::engine::Control;
use datamill::facts::{Fact, Facts, Listener};
use datamill::program::{Exit, of_upload};
use datamill::upload::{UploadSettings, upload_paths};

use crate::common::{Bench, Place, content, on_both_logs};

on_both_logs! {
    an_upload_into_a_topic_that_is_created_again_meanwhile_says_that_it_failed,
}

/// Creates the topic again once a part of the file was acknowledged.
struct CreatesAgain {
    bench: Arc<Bench>,
    done: AtomicBool,
}

impl Listener for CreatesAgain {
    fn hear(&self, fact: &Fact<'_>) {
        if matches!(fact, Fact::Acknowledged { .. }) && !self.done.swap(true, SeqCst) {
            self.bench.create_again(2);
        }
    }
}

fn an_upload_into_a_topic_that_is_created_again_meanwhile_says_that_it_failed(place: &Place) {
    for chunk_size in [1 << 16, 1 << 24] {
        let bench = Arc::new(Bench::new(place, 2));
        let folder = bench.folder.path().join("data");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("large.dat"), content(1, 4 << 20)).unwrap();
        let settings =
            UploadSettings { chunk_size, in_flight_bytes: 1 << 20, ..UploadSettings::new(bench.topic.as_str()) };
        let creates_again = CreatesAgain { bench: Arc::clone(&bench), done: AtomicBool::new(false) };
        let control = Control::default();
        let upload = |facts: &Facts| {
            upload_paths(bench.log.as_ref(), std::slice::from_ref(&folder), &settings, &control, facts).unwrap()
        };
        let summary = upload(&Facts::default().heard_by(Arc::new(creates_again)));
        let text = summary.to_string();
        assert_eq!((summary.files, of_upload(&summary)), (0, Exit::Stopped), "{text}");
        assert!(text.contains(&format!("topic `{}` was deleted and created again", bench.topic)), "{text}");
        assert!(text.contains("large.dat"), "{text}");
        let summary = upload(&Facts::default());
        assert_eq!((summary.files, of_upload(&summary)), (1, Exit::Done), "{summary}");
    }
}
