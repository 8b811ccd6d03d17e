//! A topic that is another one than before, or has more partitions than before.

use std::collections::{BTreeMap, BTreeSet};

use datamill_wire::{Chunk, partition_for};

use super::memory::Verdict;
use super::*;

/// A log whose topic is created again when it takes the record of this number.
fn created_again_at(record: usize) -> MemoryLog {
    let log = MemoryLog::default();
    log.set_topic_id("one");
    // the judge is asked while the log's state is locked
    let (sender, receiver) = crossbeam_channel::bounded(1);
    log.judge(move |number, _| {
        if number == record {
            let _ = sender.send(());
        }
        Verdict::Store
    });
    let theirs = log.clone();
    std::thread::spawn(move || receiver.recv().is_ok().then(|| theirs.set_topic_id("two")));
    log
}

fn assert_noticed(summary: &Summary) {
    let text = summary.to_string();
    assert!(text.contains("topic `t` was deleted and created again"), "{text}");
    assert!(!summary.is_complete());
    assert_eq!(crate::program::of_upload(summary), crate::program::Exit::Stopped);
}

/// Waits while it is told of the first acknowledgement, until the topic is another one.
struct Waiting(MemoryLog);

impl Listener for Waiting {
    fn hear(&self, fact: &Fact<'_>) {
        let is_another = || self.0.topic("t").is_ok_and(|topic| topic.id.as_deref() == Some("two"));
        match *fact {
            Fact::Acknowledged { .. } => wait_until("another topic", is_another),
            Fact::Delivered { file, .. } => panic!("`{file}` is not there"),
            _ => {}
        }
    }
}

#[test]
fn files_are_delivered_only_if_the_topic_is_the_same_after_their_last_acknowledgement() {
    for (files, size, record) in [(1, 80, 5), (30, 5, 0), (1, 5, 0)] {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..files {
            write(dir.path(), &format!("{number:02}"), &bytes(size, number));
        }
        let log = created_again_at(record);
        let control = Control::default();
        let paths = [dir.path().to_owned()];
        let facts = Facts::default().heard_by(Arc::new(Waiting(log.clone())));
        let summary = upload_paths(&log, &paths, &settings(8), &control, &facts).unwrap();
        assert_noticed(&summary);
        assert_eq!(summary.files, 0);
        let not_sent = summary.left_out.get(&Reason::Stopped).map_or(0, |named| named.count);
        assert!(not_sent > 0, "{summary}");
        // the next run finds one topic
        let summary = upload(&log, dir.path());
        assert!(summary.is_complete() && summary.files == u64::from(files), "{summary}");
    }
}

#[test]
fn a_log_that_tells_no_id_is_not_asked_to_confirm() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a", &bytes(20, 1));
    assert_eq!(upload(&MemoryLog::default(), dir.path()).files, 1);
}

#[test]
fn a_watch_ends_and_its_record_counts_as_none_for_the_new_topic() {
    for upload_existing in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let log = MemoryLog::default();
        log.set_topic_id("one");
        let settings = WatchSettings { upload_existing, ..watch_settings() };
        let running = Running::start(&log, dir.path(), settings.clone());
        wait_until("the first start", || dir.path().join("LOGS").exists());
        std::thread::sleep(Duration::from_millis(300));
        write(dir.path(), "a", &bytes(20, 1));
        wait_until("the first file", || log.times("a") == 1);
        std::thread::sleep(Duration::from_millis(1200));
        log.set_topic_id("two");
        write(dir.path(), "b", &bytes(20, 2));
        wait_until("the end of the watch", || running.thread.as_ref().unwrap().is_finished());
        assert_noticed(&running.stop());
        assert_eq!(log.times("b"), 0, "nothing of it went to the new topic");
        let settings = WatchSettings { exit_at_end: true, ..settings };
        for _ in 0..2 {
            let running = Running::start(&log, dir.path(), settings.clone());
            wait_until("the end of the watch", || running.thread.as_ref().unwrap().is_finished());
            let summary = running.stop();
            assert!(summary.is_complete(), "{summary}");
            // what was not delivered is sent in any case
            assert_eq!((log.times("a"), log.times("b")), (1 + usize::from(upload_existing), 1));
        }
    }
}

#[test]
fn files_that_begin_later_use_partitions_that_were_added_and_no_file_is_split() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::default();
    let settings = WatchSettings { upload_existing: true, ..watch_settings() };
    let running = Running::start(&log, dir.path(), settings);
    let names = |round: usize| (0..30).map(move |number| format!("{round}-{number}"));
    names(0).for_each(|name| write(dir.path(), &name, &bytes(40, 1)));
    wait_until("the first files", || names(0).all(|name| log.times(&name) == 1));
    log.add_partitions(5);
    std::thread::sleep(Duration::from_millis(1100));
    names(1).for_each(|name| write(dir.path(), &name, &bytes(40, 2)));
    wait_until("the later files", || names(1).all(|name| log.times(&name) == 1));
    running.stop();
    let mut partitions: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for record in log.records() {
        let chunk = Chunk::decode(&record.value).unwrap();
        partitions.entry(chunk.filename.to_owned()).or_default().insert(record.partition);
    }
    for (round, all) in [(0, 3), (1, 8)] {
        assert!(names(round).all(|name| partitions[&name] == BTreeSet::from([partition_for(&name, all)])));
    }
}
