//! What is told of each file while a program runs, and how the program stands meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::common::{Bench, Place, StopAtEnd, Told, chunks, content, on_both_logs, wait_for};
use datamill::assemble::DownloadDataFile;
use datamill::engine::{Control, EngineSettings};
use datamill::facts::{Fact, Facts, Hold, Listener};
use datamill::process::{DataFileStreamReproducer, Lock, ProcessingError, ReproducerMessage};
use datamill::settings::Pattern;
use datamill::upload::{UploadSettings, upload_paths};
use parking_lot::Mutex;

on_both_logs! {
    each_thing_that_happens_to_a_file_is_told_once_and_in_its_order,
    what_holds_is_seen_from_outside_with_its_time,
    an_upload_tells_what_it_sends_and_what_it_leaves_out,
}

/// What was told, by file.
#[derive(Default)]
struct Heard(Mutex<BTreeMap<String, Vec<String>>>);

impl Listener for Heard {
    fn hear(&self, fact: &Fact<'_>) {
        let (file, what) = match *fact {
            Fact::FirstChunk { file, chunks } => (file, format!("first of {chunks}")),
            Fact::Whole { file, .. } => (file, "whole".to_owned()),
            Fact::Filtered { file } => (file, "filtered".to_owned()),
            Fact::Started { file, attempt, again: false } => (file, format!("attempt {attempt}")),
            Fact::Started { file, attempt, again: true } => (file, format!("attempt {attempt} again")),
            Fact::Ran { file, .. } => (file, "ran".to_owned()),
            Fact::AttemptFailed { file, reason, .. } => (file, format!("attempt failed: {reason}")),
            Fact::Done { file, bytes, again: false, .. } => (&*file.rel_filepath, format!("done, {bytes} bytes")),
            Fact::Done { file, again: true, .. } => (&*file.rel_filepath, "done again".to_owned()),
            Fact::Failed { file, status, attempts, .. } => (&*file.rel_filepath, format!("{status} after {attempts}")),
            Fact::DeadLetter { file: Some(file) } => (file, "dead letter".to_owned()),
            Fact::Sent { file, .. } => (file, "sent".to_owned()),
            Fact::Delivered { file, chunks, .. } => (file, format!("delivered in {chunks}")),
            Fact::LeftOut { file, reason, .. } => (file, format!("left out: {reason:?}")),
            _ => return,
        };
        self.0.lock().entry(file.to_owned()).or_default().push(what);
    }
}

impl Heard {
    /// What was told since the last call, each file with its facts in one text.
    fn take(&self) -> BTreeMap<String, String> {
        std::mem::take(&mut *self.0.lock()).into_iter().map(|(file, facts)| (file, facts.join("; "))).collect()
    }
}

fn texts(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter().map(|(file, facts)| ((*file).to_owned(), (*facts).to_owned())).collect()
}

fn each_thing_that_happens_to_a_file_is_told_once_and_in_its_order(place: &Place) {
    let bench = Bench::new(place, 1);
    for (path, size) in [("large", 250), ("small", 10), ("bad/one", 20), ("else/where", 150)] {
        bench.send(&chunks(0, path, &content(1, size), 100));
    }
    bench.send(&chunks(0, "half", &content(2, 200), 100)[..1]);
    let heard = Arc::new(Heard::default());
    let facts = Facts::default().heard_by(heard.clone());
    let settings = EngineSettings {
        max_attempts: 2,
        download_regex: Some(Pattern::from_python("[^e]").unwrap()),
        dead_letter_topic: Some(bench.dead_letter_topic(&[])),
        ..bench.settings()
    };
    let code = Told::to_fail_in("bad");
    let summary = bench.run_counted(&settings, code.clone(), &Control::default(), &facts).unwrap();
    let failed = "attempt 1; ran; attempt failed: no calibration for one; attempt 2; ran; dead letter; \
        computing_result_message_failed after 2";
    assert_eq!(
        heard.take(),
        texts(&[
            ("bad/one", &format!("first of 1; whole; {failed}")),
            ("else/where", "filtered"),
            ("half", "first of 2"),
            ("large", "first of 3; whole; attempt 1; ran; done, 250 bytes"),
            ("small", "first of 1; whole; attempt 1; ran; done, 10 bytes"),
        ])
    );
    let snapshot = facts.counters().snapshot();
    let counts = snapshot.counts;
    let outcomes: Vec<_> = counts.by_outcome().into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(outcomes, [("done", 2), ("failed", 1), ("left_out", 1)]);
    assert_eq!((counts.begun, counts.whole, counts.started, counts.ran, counts.tried_again), (4, 3, 4, 4, 1));
    assert_eq!((counts.done_bytes, counts.results, counts.dead_letters_of_files), (260, 2, 1));
    assert_eq!((counts.messages_read, counts.messages_processed, counts.messages_produced), (8, 5, 2));
    assert_eq!(snapshot.running.count(), 4);
    assert!(counts.commits > 0 && snapshot.committing.count() == counts.commits);
    assert!(snapshot.state.is_member && snapshot.state.committed_ms.is_some(), "{:?}", snapshot.state);
    assert_eq!((snapshot.state.partitions, snapshot.state.waiting, snapshot.state.in_hand), (1, 0, 0));
    assert_eq!((summary.succeeded, summary.failed, summary.dead_letters_of_files), (2, 1, 1));

    bench.run_counted(&settings, code.clone(), &Control::default(), &facts).unwrap();
    let mut told = heard.take();
    told.remove("half");
    let failed = "attempt 1 again; ran; computing_result_message_failed after 3";
    assert_eq!(told, texts(&[("bad/one", failed)]), "the attempts of all starts");

    code.fails.store(false, SeqCst);
    let summary = bench.run_counted(&settings, code, &Control::default(), &facts).unwrap();
    let mut told = heard.take();
    told.remove("half");
    assert_eq!(told, texts(&[("bad/one", "attempt 1 again; ran; done again")]));
    assert_eq!((summary.succeeded, summary.failed, summary.retried), (1, 0, 1), "counts of this run alone");
}

/// Says that something is not available until it is told that it is.
struct NotThere(Arc<AtomicBool>);

impl DataFileStreamReproducer for NotThere {
    fn get_processing_result_message_for_file(
        &self,
        file: &DownloadDataFile,
        _: &Lock,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        match self.0.load(SeqCst) {
            true => Ok(Some(ReproducerMessage::new(file.size().to_string()))),
            false => Err(ProcessingError::not_available("the licence server is down")),
        }
    }
}

fn what_holds_is_seen_from_outside_with_its_time(place: &Place) {
    let bench = Bench::new(place, 1);
    bench.send(&chunks(0, "a", b"abc", 2));
    let (facts, control, is_there) = (Facts::default(), Control::default(), Arc::new(AtomicBool::new(false)));
    let (settings, code) = (bench.settings(), NotThere(Arc::clone(&is_there)));
    let held = || facts.counters().snapshot().state.held.map(|(hold, _)| hold);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&control);
        let run = scope.spawn(|| bench.run_counted(&settings, code, &control, &facts));
        wait_for("the program to hold", || held() == Some(Hold::NotAvailable));
        is_there.store(true, SeqCst);
        assert_eq!(run.join().unwrap().unwrap().succeeded, 1);
    });
    let snapshot = facts.counters().snapshot();
    assert!(!snapshot.held[Hold::NotAvailable as usize].is_zero(), "{:?}", snapshot.held);
    assert_eq!(held(), None);
}

fn an_upload_tells_what_it_sends_and_what_it_leaves_out(place: &Place) {
    let bench = Bench::new(place, 1);
    let folder = bench.folder.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    for (name, size) in [("large.dat", 20), ("small.dat", 3), ("run.log", 5)] {
        std::fs::write(folder.join(name), content(1, size)).unwrap();
    }
    let heard = Arc::new(Heard::default());
    let facts = Facts::default().heard_by(heard.clone());
    let settings = UploadSettings { chunk_size: 8, ..UploadSettings::new(bench.topic.as_str()) };
    let summary = upload_paths(bench.log.as_ref(), &[folder], &settings, &Control::default(), &facts).unwrap();
    assert!(summary.is_complete(), "{summary}");
    assert_eq!(
        heard.take(),
        texts(&[
            ("large.dat", "sent; delivered in 3"),
            ("run.log", "left out: LogFile"),
            ("small.dat", "sent; delivered in 1"),
        ])
    );
    let counts = facts.counters().counts();
    assert_eq!((counts.sent, counts.delivered, counts.delivered_bytes, counts.left_out), (2, 2, 23, 1));
    assert_eq!(counts.messages_produced, 4);
}
