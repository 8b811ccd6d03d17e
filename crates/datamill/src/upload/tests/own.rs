//! What is datamill's own in a folder is never sent, and what only looks like it is.

use super::*;
use crate::mark::{Mark, Role};

/// Watches `root` with everything that is there, to the end.
fn watch_with(log: &MemoryLog, root: &Path, change: impl FnOnce(&mut WatchSettings)) -> Result<Summary, UploadError> {
    let mut settings = WatchSettings { exit_at_end: true, upload_existing: true, ..watch_settings() };
    change(&mut settings);
    watch(log, root, &settings, &Control::default(), &Facts::default())
}

fn watch_to_the_end(log: &MemoryLog, root: &Path) -> Summary {
    watch_with(log, root, |_| {}).unwrap()
}

fn named(summary: &Summary, reason: Reason) -> Vec<String> {
    summary.left_out.get(&reason).map_or(Vec::new(), |named| named.first.clone())
}

fn sent(log: &MemoryLog) -> Vec<String> {
    log.whole().into_keys().collect()
}

#[test]
fn a_folder_logs_of_the_users_is_sent_and_the_tables_are_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "LOGS/scan.csv", b"data");
    write(dir.path(), "LOGS/deep/instrument.csv", b"data");
    write(dir.path(), "a.csv", b"data");
    let log = MemoryLog::default();
    let summary = watch_to_the_end(&log, dir.path());
    assert_eq!(sent(&log), ["LOGS/deep/instrument.csv", "LOGS/scan.csv", "a.csv"]);
    assert_eq!(named(&summary, Reason::OwnFolder), ["LOGS_datamill/"]);
    assert!(dir.path().join("LOGS_datamill/uploaded_to_t.csv").exists());
    assert_eq!(fs::read_dir(dir.path().join("LOGS")).unwrap().count(), 2);
    write(dir.path(), "LOGS/new.csv", b"new");
    assert_eq!(watch_to_the_end(&log, dir.path()).files, 1);
    // an upload of the folder takes it the same way
    let log = MemoryLog::default();
    let summary = upload(&log, dir.path());
    assert_eq!((summary.files, named(&summary, Reason::OwnFolder)), (4, vec!["LOGS_datamill/".to_owned()]));
}

#[test]
fn a_folder_logs_without_a_mark_is_the_programs_if_it_holds_one_of_their_tables() {
    for table in ["uploaded_to_files.csv", "upload_to_files_in_progress.csv", ".datamill_uploaded_to_t_00000000.jsonl"]
    {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &format!("LOGS/{table}"), b"");
        write(dir.path(), "LOGS/DataFileUploadDirectory.txt", b"a line");
        write(dir.path(), "a.csv", b"data");
        let log = MemoryLog::default();
        let summary = upload(&log, dir.path());
        assert_eq!((sent(&log), named(&summary, Reason::OwnFolder)), (vec!["a.csv".into()], vec!["LOGS/".into()]));
        assert_eq!(Mark::find(&dir.path().join("LOGS"), &Role::Logs).unwrap(), None, "an upload writes nothing");
        let log = MemoryLog::default();
        let summary = watch_to_the_end(&log, dir.path());
        assert_eq!((sent(&log), named(&summary, Reason::OwnFolder)), (vec!["a.csv".into()], vec!["LOGS/".into()]));
        assert!(Mark::find(&dir.path().join("LOGS"), &Role::Logs).unwrap().is_some(), "{table}");
        // without the table the mark tells
        fs::remove_file(dir.path().join("LOGS").join(table)).unwrap();
        write(dir.path(), "LOGS/more.txt", b"a line");
        assert_eq!(watch_to_the_end(&log, dir.path()).files, 0);
    }
}

#[test]
fn output_folders_of_programs_and_folders_that_are_filled_are_left_out_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["new/LOGS/processed.txt", "old/.datamill/lock", "old/rebuilt.csv", "mirror/a.csv", "inner/LOGS/t.txt"]
    {
        write(dir.path(), path, b"own");
    }
    write(dir.path(), "peer/LOGS/results_produced_to_r.csv", b"own");
    write(dir.path(), "peer/rebuilt.csv", b"own");
    write(dir.path(), "inner/data.csv", b"data");
    for (folder, role) in [("new", Role::Output), ("mirror", Role::Target), ("inner/LOGS", Role::Logs)] {
        Mark::find_or_make(&dir.path().join(folder), &role).unwrap();
    }
    for watches in [false, true] {
        let log = MemoryLog::default();
        let summary = if watches { watch_to_the_end(&log, dir.path()) } else { upload(&log, dir.path()) };
        assert_eq!(sent(&log), ["inner/data.csv"]);
        let mut own = vec!["inner/LOGS/", "new/", "old/", "peer/"];
        own.splice(0..0, watches.then_some("LOGS/"));
        assert_eq!(named(&summary, Reason::OwnFolder), own);
        assert_eq!(named(&summary, Reason::Filled), ["mirror/"]);
        assert!(summary.is_complete());
    }
    // a folder that is named itself is the user's choice, unless it holds nothing but the programs' own
    let log = MemoryLog::default();
    let summary = upload(&log, &dir.path().join("inner/LOGS"));
    assert_eq!((summary.files, summary.left_out[&Reason::OwnFolder].count), (0, 1));
    let log = MemoryLog::default();
    assert_eq!(upload(&log, &dir.path().join("mirror")).files, 1);
    assert_eq!(sent(&log), ["a.csv"]);
}

#[test]
fn a_file_that_waits_in_a_folder_which_becomes_a_programs_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::default();
    let settings = WatchSettings { settle_for: Duration::from_millis(800), upload_existing: true, ..watch_settings() };
    let running = Running::start(&log, dir.path(), settings);
    write(dir.path(), "out/LOGS/table.csv", b"own");
    write(dir.path(), "a.csv", b"data");
    std::thread::sleep(Duration::from_millis(300));
    write(dir.path(), "out/.datamill/lock", b"");
    wait_until("the data", || log.times("a.csv") == 1);
    std::thread::sleep(Duration::from_millis(500));
    let summary = running.stop();
    assert_eq!(sent(&log), ["a.csv"]);
    assert_eq!(named(&summary, Reason::OwnFolder), ["LOGS/", "out/"]);
}

/// Each delivery of `loop.csv` changes it, as a program does that writes a table about what it reads.
fn that_answers(root: &Path) -> MemoryLog {
    let (log, path) = (MemoryLog::default(), root.join("loop.csv"));
    let mut number = 0;
    log.judge(move |_, chunk| {
        if chunk.filename == "loop.csv" {
            number += 1;
            let path = path.clone();
            // it is sent whole before it changes
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(40));
                fs::write(path, format!("{number:05}")).unwrap();
            });
        }
        memory::Verdict::Store
    });
    log
}

#[test]
fn a_file_that_changes_after_each_of_its_deliveries_is_held_back() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "loop.csv", b"00000");
    let log = that_answers(dir.path());
    let settings = WatchSettings {
        settle_for: Duration::from_millis(20),
        polling: false,
        upload_existing: true,
        ..watch_settings()
    };
    let running = Running::start(&log, dir.path(), settings);
    // The first delivery, and as many of other versions as are sent in a row.
    wait_until("the deliveries in a row", || log.times("loop.csv") == 11);
    std::thread::sleep(Duration::from_secs(1));
    write(dir.path(), "other.csv", b"data");
    wait_until("another file", || log.times("other.csv") == 1);
    let summary = running.stop();
    assert_eq!(log.times("loop.csv"), 11);
    assert_eq!(named(&summary, Reason::Restless), ["loop.csv"]);
    assert!(!summary.is_complete());
    // The next start sends its last version.
    log.judge(|_, _| memory::Verdict::Store);
    let summary = watch_to_the_end(&log, dir.path());
    assert_eq!((summary.files, log.times("loop.csv")), (1, 12), "{summary}");
}

#[test]
fn a_watch_to_the_end_ends_although_a_file_changes_after_each_delivery() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "loop.csv", b"00000");
    let log = that_answers(dir.path());
    watch_with(&log, dir.path(), |settings| settings.settle_for = Duration::from_millis(100)).unwrap();
    assert!(log.times("loop.csv") <= 11, "{}", log.times("loop.csv"));
}

#[test]
fn what_the_first_start_left_out_is_sent_when_it_is_asked_for_and_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "old.csv", b"old");
    write(dir.path(), "sub/older.csv", b"older");
    let log = MemoryLog::default();
    let new_alone = |settings: &mut WatchSettings| settings.upload_existing = false;
    let first = watch_with(&log, dir.path(), new_alone).unwrap();
    assert_eq!((first.files, first.left_out[&Reason::Existing].count), (0, 2));
    write(dir.path(), "new.csv", b"new");
    assert_eq!(watch_with(&log, dir.path(), new_alone).unwrap().files, 1);
    write(dir.path(), "old.csv", b"changed");
    assert_eq!(watch_with(&log, dir.path(), new_alone).unwrap().files, 1, "a file that changed is a new one");
    assert_eq!(watch_to_the_end(&log, dir.path()).files, 1, "the one that is left");
    for name in ["old.csv", "sub/older.csv", "new.csv"] {
        assert_eq!(log.times(name), 1, "{name}");
    }
    assert_eq!(watch_to_the_end(&log, dir.path()).files, 0);
    assert_eq!(watch_with(&log, dir.path(), new_alone).unwrap().files, 0);
}

#[test]
fn the_record_may_be_in_another_folder_and_is_that_of_one_watched_folder() {
    let (elsewhere, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    dirs.iter().for_each(|dir| write(dir.path(), "a.csv", b"data"));
    let log = MemoryLog::default();
    let there = |settings: &mut WatchSettings| settings.logs_dir = Some(elsewhere.path().join("for/it"));
    for files in [1, 0] {
        assert_eq!(watch_with(&log, dirs[0].path(), there).unwrap().files, files);
        let folders = fs::read_dir(dirs[0].path()).unwrap().flatten().filter(|entry| entry.path().is_dir());
        let names: Vec<_> = folders.map(|entry| entry.file_name()).collect();
        assert_eq!(names, [crate::mark::OWN], "the mark alone is in the folder");
    }
    assert!(elsewhere.path().join("for/it/uploaded_to_t.csv").exists());
    assert_eq!(watch_with(&log, dirs[1].path(), there).unwrap().files, 1, "a record of its own");
    // a folder inside the watched one is datamill's own
    let log = MemoryLog::default();
    write(inside.path(), "a.csv", b"data");
    let within = |settings: &mut WatchSettings| settings.logs_dir = Some(inside.path().join("state"));
    let summary = watch_with(&log, inside.path(), within).unwrap();
    assert_eq!((sent(&log), named(&summary, Reason::OwnFolder)), (vec!["a.csv".into()], vec!["state/".into()]));
    // whose record is elsewhere has none in the usual place
    let error = watch_with(&log, dirs[1].path(), |_| {}).unwrap_err();
    assert!(matches!(&error, UploadError::LostRecord { .. }) && error.to_string().contains("--logs_dir"), "{error}");
    // a record in the usual place is not left alone for a second one
    let (log, dir) = (MemoryLog::default(), tempfile::tempdir().unwrap());
    write(dir.path(), "a.csv", b"data");
    watch_to_the_end(&log, dir.path());
    let error = watch_with(&log, dir.path(), there).unwrap_err();
    assert!(matches!(&error, UploadError::RecordElsewhere { .. }), "{error}");
    assert_eq!(log.times("a.csv"), 1);
}
