//! What the log refuses, and a log that goes away.

use datamill_broker::ErrorKind;

use super::memory::Verdict;
use super::*;
use crate::program::{Exit, of_upload};

fn three_files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        write(dir.path(), name, &bytes(20, name.as_bytes()[0]));
    }
    dir
}

fn assert_all_there(log: &MemoryLog) {
    for name in ["a", "b", "c"] {
        assert_eq!(log.whole()[name][0].content, bytes(20, name.as_bytes()[0]));
    }
}

#[test]
fn a_file_whose_delivery_failed_for_a_while_is_sent_whole_again() {
    let dir = three_files();
    let log = MemoryLog::default();
    log.judge(|number, chunk| match (chunk.filename, number) {
        ("b", 0..=5) => Verdict::Fail(ErrorKind::Retry),
        _ => Verdict::Store,
    });
    let summary = upload(&log, dir.path());
    assert!(summary.is_complete() && summary.files == 3, "{summary}");
    assert_all_there(&log);
    // The same version is no other version.
    assert!(log.records().iter().all(|record| record.supersedes().is_empty()));
}

#[test]
fn a_file_that_the_log_refuses_is_named_with_advice_and_the_rest_goes_on() {
    for verdict in [Verdict::Fail(ErrorKind::RecordTooLarge), Verdict::NotTaken(ErrorKind::RecordTooLarge)] {
        let dir = three_files();
        let log = MemoryLog::default();
        log.judge(move |_, chunk| match (chunk.filename, chunk.index) {
            ("b", 2) => verdict,
            _ => Verdict::Store,
        });
        let summary = upload(&log, dir.path());
        assert_eq!((summary.files, summary.failed.count), (2, 1));
        let text = &summary.failed.first[0];
        for part in ["chunk `2` of `3`", "file `b`", "topic `t`", "--chunk_size", "max.message.bytes"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!summary.is_complete());
        assert_eq!(log.times("b"), 0);
    }
}

#[test]
fn what_concerns_every_file_breaks_the_upload_off() {
    for verdict in [Verdict::Fail(ErrorKind::Denied), Verdict::NotTaken(ErrorKind::UnknownTopic)] {
        let dir = three_files();
        let log = MemoryLog::default();
        log.judge(move |number, _| if number >= 3 { verdict } else { Verdict::Store });
        let summary = upload(&log, dir.path());
        assert!(summary.broken_off.is_some() && !summary.is_complete(), "{summary}");
        assert_eq!(crate::program::of_upload(&summary), crate::program::Exit::SetUp);
        assert_eq!(log.times("a"), 1);
    }
}

#[test]
fn a_log_that_is_away_is_waited_for() {
    let dir = three_files();
    let log = MemoryLog::default();
    log.judge(|number, _| match number {
        4..=8 => Verdict::NotTaken(ErrorKind::Retry),
        12 => Verdict::NotTaken(ErrorKind::QueueFull),
        _ => Verdict::Store,
    });
    let summary = upload(&log, dir.path());
    assert!(summary.is_complete() && summary.files == 3, "{summary}");
    assert_all_there(&log);
}

#[test]
fn what_is_in_flight_is_bounded_in_bytes() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x", &bytes(8000, 1));
    let log = MemoryLog::default();
    let settings = UploadSettings { in_flight_bytes: 1000, ..settings(8) };
    let summary = upload_with(&log, dir.path(), &settings);
    assert_eq!(summary.messages, 1000);
    // A message of 8 bytes of data takes about 200.
    assert!((2..=6).contains(&log.most_in_flight()), "{}", log.most_in_flight());
    let settings = UploadSettings { in_flight_bytes: 1, ..settings };
    let log = MemoryLog::default();
    assert!(upload_with(&log, dir.path(), &settings).is_complete());
    assert_eq!(log.most_in_flight(), 1);
}

#[test]
fn a_stop_leaves_the_rest_and_waits_for_what_is_on_its_way() {
    let dir = three_files();
    let log = MemoryLog::default();
    let control = Arc::new(Control::default());
    let theirs = Arc::clone(&control);
    log.judge(move |number, _| {
        if number == 1 {
            theirs.stop(StopKind::Leave);
        }
        Verdict::Store
    });
    let paths = [dir.path().to_owned()];
    let summary = upload_paths(&log, &paths, &settings(8), &control, &Facts::default()).unwrap();
    assert_eq!(summary.files, 1);
    assert_eq!(log.only("a"), bytes(20, b'a'));
    assert_eq!(summary.left_out[&Reason::Stopped].first, ["b", "c"]);
    assert_eq!(of_upload(&summary), Exit::Stopped);
    let hint = "\nstopped before everything was sent: the same command with `--only-missing` sends what is missing";
    assert!(summary.to_string().ends_with(hint), "{summary}");
}

#[test]
fn a_stop_ends_also_where_the_log_stays_away() {
    for verdict in [Verdict::Silence, Verdict::NotTaken(ErrorKind::Retry), Verdict::Fail(ErrorKind::Retry)] {
        let dir = three_files();
        let log = MemoryLog::default();
        let control = Arc::new(Control::default());
        let theirs = Arc::clone(&control);
        log.judge(move |number, _| {
            if number == 2 {
                theirs.stop(StopKind::Leave);
            }
            verdict
        });
        let paths = [dir.path().to_owned()];
        let summary = upload_paths(&log, &paths, &settings(8), &control, &Facts::default()).unwrap();
        assert_eq!(summary.files, 0);
        assert_eq!(summary.left_out[&Reason::Stopped].count, 3, "{verdict:?}: {summary}");
        assert_eq!(of_upload(&summary), Exit::Stopped);
    }
}

#[test]
fn a_stop_after_the_last_file_is_no_reason_to_start_again() {
    let dir = three_files();
    let log = MemoryLog::default();
    let control = Arc::new(Control::default());
    let theirs = Arc::clone(&control);
    // three chunks for each file
    log.judge(move |number, _| {
        if number == 8 {
            theirs.stop(StopKind::Leave);
        }
        Verdict::Store
    });
    let paths = [dir.path().to_owned()];
    let summary = upload_paths(&log, &paths, &settings(8), &control, &Facts::default()).unwrap();
    assert_eq!((summary.files, of_upload(&summary)), (3, Exit::Done), "{summary}");
}

#[test]
fn a_stop_while_the_folder_is_looked_through_leaves_files_that_were_not_found() {
    let dir = three_files();
    let control = Control::default();
    control.stop(StopKind::Leave);
    let paths = [dir.path().to_owned()];
    let summary = upload_paths(&MemoryLog::default(), &paths, &settings(8), &control, &Facts::default()).unwrap();
    assert_eq!((summary.files, of_upload(&summary)), (0, Exit::Stopped), "{summary}");
    assert!(!summary.found_nothing && !summary.is_complete());
}

#[test]
fn a_watch_that_is_stopped_ends_well_unless_it_was_to_come_to_an_end() {
    for exit_at_end in [false, true] {
        let dir = three_files();
        let log = MemoryLog::default();
        log.judge(|_, _| Verdict::Silence);
        let settings = WatchSettings { exit_at_end, upload_existing: true, ..watch_settings() };
        let running = Running::start(&log, dir.path(), settings);
        wait_until("all chunks", || log.records().len() == 9);
        let summary = running.stop();
        assert_eq!(summary.left_out[&Reason::Stopped].count, 3, "{summary}");
        let expected = if exit_at_end { Exit::Stopped } else { Exit::Done };
        assert_eq!(of_upload(&summary), expected, "{summary}");
    }
}
