//! `watch`: new and changed files arrive once, whatever happens to the watcher.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use super::memory::Verdict;
use super::*;

fn existing_too() -> WatchSettings {
    WatchSettings { upload_existing: true, ..watch_settings() }
}

fn to_the_end() -> WatchSettings {
    WatchSettings { exit_at_end: true, ..existing_too() }
}

/// Sends what is there and ends.
fn run_to_the_end(log: &MemoryLog, root: &Path) -> Summary {
    let control = Control::default();
    watch(log, root, &to_the_end(), &control, &Facts::default()).unwrap()
}

fn record_path(root: &Path) -> PathBuf {
    let entries = fs::read_dir(root.join("LOGS")).unwrap().map(|entry| entry.unwrap().path());
    let mut records = entries.filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
    records.next().unwrap()
}

#[test]
fn a_prefix_that_was_forgotten_or_changed_is_told_and_sends_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.csv", b"a");
    let (log, control) = (MemoryLog::default(), Control::default());
    let run = |prefix: &str| {
        let mut settings = to_the_end();
        settings.upload.path_prefix = prefix.parse().unwrap_or_default();
        watch(&log, dir.path(), &settings, &control, &Facts::default()).map(|summary| summary.files)
    };
    assert_eq!(run("lab/x").unwrap(), 1);
    for (prefix, now) in [("", "now without `--path_prefix`"), ("lab y", "now with `--path_prefix 'lab y'`")] {
        let error = run(prefix).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, UploadError::OtherPrefix { .. }), "{text}");
        assert!(text.contains("was watched with `--path_prefix lab/x`, and") && text.contains(now), "{text}");
    }
    assert_eq!((run("lab/x").unwrap(), log.whole().len()), (0, 1));
}

#[test]
fn another_prefix_that_is_meant_sends_the_files_once_more_under_their_new_paths() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "top.csv", b"top");
    write(dir.path(), "run/1.csv", b"one");
    let (log, control) = (MemoryLog::default(), Control::default());
    let run = |prefix: Option<&str>| {
        let mut settings = WatchSettings { new_folder: true, ..to_the_end() };
        settings.upload.path_prefix = prefix.map(|prefix| prefix.parse().unwrap()).unwrap_or_default();
        watch(&log, dir.path(), &settings, &control, &Facts::default()).unwrap().files
    };
    assert_eq!([run(None), run(Some("a/b")), run(Some("a/b")), run(None), run(Some("c"))], [2, 2, 0, 0, 2]);
    let whole = log.whole();
    let paths: Vec<&str> = whole.keys().map(String::as_str).collect();
    assert_eq!(paths, ["a/b/run/1.csv", "a/b/top.csv", "c/run/1.csv", "c/top.csv", "run/1.csv", "top.csv"]);
    assert_eq!(log.only("a/b/top.csv"), b"top");
}

#[test]
fn new_files_of_a_running_watch_have_the_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::default();
    // whether the first scan or a later one finds the file
    let mut settings = existing_too();
    settings.upload.path_prefix = "lab".parse().unwrap();
    let running = Running::start(&log, dir.path(), settings);
    write(dir.path(), "deep/new.csv", b"new");
    wait_until("a new file", || log.times("lab/deep/new.csv") == 1);
    write(dir.path(), "deep/new.csv", b"changed");
    wait_until("a changed file", || log.times("lab/deep/new.csv") == 2);
    assert_eq!(running.stop().files, 2);
}

#[test]
fn files_that_appear_grow_and_change_arrive() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "old.csv", b"there before");
    let log = MemoryLog::default();
    let running = Running::start(&log, dir.path(), watch_settings());
    wait_until("the record", || dir.path().join("LOGS").join("uploaded_to_t.csv").exists());
    std::thread::sleep(Duration::from_millis(300));
    write(dir.path(), "new.csv", b"new");
    write(dir.path(), "deep/er/new.csv", &bytes(30, 3));
    write(dir.path(), ".hidden", b"no");
    write(dir.path(), "run.log", b"no");
    write(dir.path(), "copy.csv.part", &bytes(50, 4));
    wait_until("new files", || log.times("new.csv") == 1 && log.times("deep/er/new.csv") == 1);
    fs::rename(dir.path().join("copy.csv.part"), dir.path().join("copy.csv")).unwrap();
    wait_until("a file renamed into place", || log.times("copy.csv") == 1);
    write(dir.path(), "new.csv", b"changed");
    wait_until("a changed file", || log.times("new.csv") == 2);
    write(dir.path(), "old.csv", b"changed too");
    wait_until("a changed old file", || log.times("old.csv") == 1);
    fs::remove_file(dir.path().join("deep/er/new.csv")).unwrap();
    let moved = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
    write(moved.path(), "in/side.csv", b"moved in");
    fs::rename(moved.path().join("in"), dir.path().join("in")).unwrap();
    wait_until("a folder moved in", || log.times("in/side.csv") == 1);
    let summary = running.stop();
    assert_eq!(summary.files, 6, "{summary}");
    assert_eq!(log.whole().len(), 5);
    assert_eq!(log.whole()["new.csv"].len(), 2);
    assert_eq!(summary.left_out[&Reason::Existing].count, 1);
    assert!(summary.is_complete());
}

#[test]
fn a_file_that_grows_slowly_is_sent_once_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::default();
    let settings = WatchSettings { settle_for: Duration::from_millis(600), ..existing_too() };
    let running = Running::start(&log, dir.path(), settings);
    let mut file = fs::File::create(dir.path().join("slow.csv")).unwrap();
    for round in 0..20 {
        file.write_all(&bytes(5, round)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(log.records().is_empty());
    wait_until("the whole file", || log.times("slow.csv") == 1);
    running.stop();
    assert_eq!(log.only("slow.csv").len(), 100);
}

#[test]
fn scans_alone_find_what_changes() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::default();
    let running = Running::start(&log, dir.path(), WatchSettings { polling: true, ..existing_too() });
    write(dir.path(), "a/x.csv", b"1");
    wait_until("a new file", || log.times("a/x.csv") == 1);
    write(dir.path(), "a/x.csv", b"12");
    wait_until("a changed file", || log.times("a/x.csv") == 2);
    running.stop();
}

#[test]
fn a_file_is_found_though_the_time_of_its_folder_is_that_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::default();
    write(dir.path(), "a/x.csv", b"1");
    let folder = fs::File::open(dir.path().join("a")).unwrap();
    let before = folder.metadata().unwrap().modified().unwrap();
    let running = Running::start(&log, dir.path(), WatchSettings { polling: true, ..existing_too() });
    wait_until("the first file", || log.times("a/x.csv") == 1);
    for name in ["a/y.csv", "a/z.csv"] {
        write(dir.path(), name, b"2");
        folder.set_modified(before).unwrap();
        wait_until(name, || log.times(name) == 1);
    }
    running.stop();
}

#[test]
fn after_a_restart_only_what_is_new_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::default();
    for name in ["a", "b", "sub/c"] {
        write(dir.path(), name, &bytes(30, name.as_bytes()[0]));
    }
    assert_eq!(run_to_the_end(&log, dir.path()).files, 3);
    assert_eq!(run_to_the_end(&log, dir.path()).files, 0);
    let touched = OpenOptions::new().write(true).open(dir.path().join("a")).unwrap();
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    write(dir.path(), "b", b"changed");
    write(dir.path(), "d", b"new");
    let summary = run_to_the_end(&log, dir.path());
    assert_eq!((summary.files, summary.unchanged), (2, 1), "{summary}");
    let summary = run_to_the_end(&log, dir.path());
    assert_eq!((summary.files, summary.unchanged), (0, 0));
    let times: Vec<usize> = ["a", "b", "sub/c", "d"].map(|name| log.times(name)).to_vec();
    assert_eq!(times, [1, 2, 1, 1]);
    let uploaded = fs::read_to_string(dir.path().join("LOGS/uploaded_to_t.csv")).unwrap();
    assert_eq!(uploaded.lines().count(), 1 + 5);
}

#[test]
fn what_is_there_at_the_first_start_is_sent_only_if_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "old", b"old");
    let log = MemoryLog::default();
    let settings = WatchSettings { exit_at_end: true, ..watch_settings() };
    let control = Control::default();
    let first = watch(&log, dir.path(), &settings, &control, &Facts::default()).unwrap();
    assert_eq!((first.files, first.left_out[&Reason::Existing].count), (0, 1));
    write(dir.path(), "new", b"new");
    let later = watch(&log, dir.path(), &settings, &control, &Facts::default()).unwrap();
    assert_eq!(later.files, 1);
}

#[test]
fn a_file_that_is_seen_again_while_it_is_on_its_way_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x", b"x");
    let log = MemoryLog::default();
    let held = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let theirs = Arc::clone(&held);
    log.judge(move |_, _| match theirs.load(std::sync::atomic::Ordering::SeqCst) {
        true => Verdict::Fail(datamill_broker::ErrorKind::Retry),
        false => Verdict::Store,
    });
    let polling = WatchSettings { polling: true, ..existing_too() };
    let running = Running::start(&log, dir.path(), polling);
    // Longer than the time between two scans.
    std::thread::sleep(Duration::from_millis(2800));
    held.store(false, std::sync::atomic::Ordering::SeqCst);
    wait_until("the delivery", || log.times("x") == 1);
    std::thread::sleep(Duration::from_millis(500));
    let summary = running.stop();
    assert_eq!((summary.files, summary.unchanged), (1, 0), "{summary}");
}

#[test]
fn a_half_sent_file_is_sent_whole_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x", &bytes(40, 1));
    let log = MemoryLog::default();
    let running = Running::start(&log, dir.path(), existing_too());
    log.judge(
        |_, chunk| {
            if chunk.index < 4 { Verdict::Store } else { Verdict::NotTaken(datamill_broker::ErrorKind::Retry) }
        },
    );
    wait_until("three chunks", || log.records().len() == 3);
    let summary = running.stop();
    assert_eq!((summary.files, summary.left_out[&Reason::Stopped].count), (0, 1));
    log.judge(|_, _| Verdict::Store);
    assert_eq!(run_to_the_end(&log, dir.path()).files, 1);
    assert_eq!(log.only("x"), bytes(40, 1));
    assert_eq!(log.records().len(), 3 + 5);
}

#[test]
fn a_version_that_a_killed_watcher_left_half_sent_is_named_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x", &bytes(40, 1));
    let log = MemoryLog::default();
    let running = Running::start(&log, dir.path(), existing_too());
    log.judge(
        |_, chunk| {
            if chunk.index < 4 { Verdict::Store } else { Verdict::NotTaken(datamill_broker::ErrorKind::Retry) }
        },
    );
    wait_until("three chunks", || log.records().len() == 3);
    running.stop();
    log.judge(|_, _| Verdict::Store);
    write(dir.path(), "x", &bytes(16, 9));
    run_to_the_end(&log, dir.path());
    assert_eq!(log.only("x"), bytes(16, 9));
    let old = datamill_wire::hex(&datamill_wire::sha512(&bytes(40, 1)));
    assert_eq!(log.records().last().unwrap().supersedes(), [old.as_str()]);
}

#[test]
fn a_kill_between_acknowledgement_and_record_repeats_the_same_version_whole() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        write(dir.path(), name, &bytes(20, name.as_bytes()[0]));
    }
    let log = MemoryLog::default();
    run_to_the_end(&log, dir.path());
    // The last line is all that such a kill takes.
    let path = record_path(dir.path());
    let text = fs::read_to_string(&path).unwrap();
    let end = text.trim_end().rfind('\n').unwrap() + 1;
    fs::write(&path, &text[..end]).unwrap();
    assert_eq!(run_to_the_end(&log, dir.path()).files, 1);
    let times: Vec<usize> = ["a", "b", "c"].map(|name| log.times(name)).to_vec();
    assert_eq!(times.iter().sum::<usize>(), 4, "{times:?}");
    assert!(log.whole().values().all(|versions| versions.len() == 1));
    assert_eq!(run_to_the_end(&log, dir.path()).files, 0);
}

#[test]
fn a_first_start_that_was_killed_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "old", b"old");
    let log = MemoryLog::default();
    let settings = WatchSettings { exit_at_end: true, ..watch_settings() };
    let control = Control::default();
    let watch_once = || watch(&log, dir.path(), &settings, &control, &Facts::default()).unwrap();
    watch_once();
    // Cut the end of the first start off.
    let path = record_path(dir.path());
    let text = fs::read_to_string(&path).unwrap();
    let end = text.find("{\"started\"").unwrap() - 9;
    fs::write(&path, &text[..end]).unwrap();
    write(dir.path(), "old too", b"old");
    assert_eq!(watch_once().files, 0);
    assert!(log.records().is_empty());
}

#[test]
fn a_file_that_the_log_refuses_is_tried_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x", b"bad");
    let log = MemoryLog::default();
    log.judge(|_, chunk| match chunk.data {
        b"bad" => Verdict::Fail(datamill_broker::ErrorKind::RecordRefused),
        _ => Verdict::Store,
    });
    let running = Running::start(&log, dir.path(), WatchSettings { polling: true, ..existing_too() });
    std::thread::sleep(Duration::from_secs(1));
    write(dir.path(), "x", b"better");
    wait_until("the better one", || log.times("x") == 1);
    let summary = running.stop();
    assert_eq!((summary.files, summary.failed.count), (1, 0), "what was refused has been replaced");
}

#[test]
fn a_file_that_the_log_refuses_for_a_while_is_tried_again_and_leaves_the_list() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "later", b"later");
    write(dir.path(), "never", b"never");
    let log = MemoryLog::default();
    log.judge(|number, chunk| match (chunk.filename, number) {
        ("later", 6..) => Verdict::Store,
        _ => Verdict::Fail(datamill_broker::ErrorKind::RecordRefused),
    });
    let settings = WatchSettings { retry_after: Duration::from_millis(100), polling: true, ..existing_too() };
    let running = Running::start(&log, dir.path(), settings);
    wait_until("the file", || log.times("later") == 1);
    let summary = running.stop();
    assert_eq!((summary.files, summary.failed.count), (1, 1), "{summary}");
    assert!(summary.failed.first[0].contains("file `never`"), "{summary}");
}

#[test]
fn a_second_watcher_is_kept_off() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::default();
    let running = Running::start(&log, dir.path(), existing_too());
    wait_until("the record", || dir.path().join("LOGS").join("uploaded_to_t.csv").exists());
    let control = Control::default();
    let second = watch(&log, dir.path(), &to_the_end(), &control, &Facts::default());
    let error = second.unwrap_err();
    assert!(matches!(error, UploadError::Watched { .. }), "{error}");
    running.stop();
}
