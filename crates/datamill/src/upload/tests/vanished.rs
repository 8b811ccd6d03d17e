//! The watched folder, or the record in it, is gone or another one: between two starts and while the watch runs.

#[cfg(unix)]
use std::os::unix::fs::symlink;
use std::path::PathBuf;

#[cfg(unix)]
use super::memory::Verdict;
use super::*;
use crate::facts::Hold;
use crate::mark::OWN;

fn existing_too() -> WatchSettings {
    WatchSettings { upload_existing: true, polling: true, ..watch_settings() }
}

fn ends(settings: WatchSettings) -> WatchSettings {
    WatchSettings { exit_at_end: true, ..settings }
}

fn watch_once(log: &MemoryLog, root: &Path, settings: WatchSettings) -> Result<Summary, UploadError> {
    watch(log, root, &ends(settings), &Control::default(), &Facts::default())
}

fn record_of(root: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(root.join("LOGS")).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.into_iter().find(|path| path.extension().is_some_and(|end| end == "jsonl"))
}

fn has_started(root: &Path) -> bool {
    record_of(root).is_some_and(|path| fs::read_to_string(path).unwrap().contains("started"))
}

fn record_names(root: &Path, file: &str) -> bool {
    let text = record_of(root).and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    text.lines().any(|line| line.contains(&format!("\"path\":\"{file}\"")) && line.contains("sha512"))
}

/// A folder for the tests, with a folder `data` in it.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    (dir, data)
}

#[test]
fn a_record_that_was_lost_between_two_starts_stops_the_watch_until_a_person_decides() {
    for existing in [false, true] {
        let (_dir, data) = folder();
        let log = MemoryLog::default();
        let settings = WatchSettings { upload_existing: existing, ..watch_settings() };
        watch_once(&log, &data, settings.clone()).unwrap();
        write(&data, "sent.csv", b"1");
        assert_eq!(watch_once(&log, &data, settings.clone()).unwrap().files, 1);
        remove(&data.join("LOGS"));
        write(&data, "one.csv", b"1");
        for _ in 0..2 {
            let error = watch_once(&log, &data, settings.clone()).unwrap_err();
            assert!(matches!(error, UploadError::LostRecord { .. }), "{error}");
            assert!(error.to_string().contains("`--new_folder`"), "{error}");
        }
        assert_eq!(log.records().len(), 1, "nothing is sent twice without a word");
        let summary = watch_once(&log, &data, WatchSettings { new_folder: true, ..settings.clone() }).unwrap();
        assert_eq!(summary.files, if existing { 2 } else { 0 }, "{summary}");
        assert_eq!(
            summary.left_out.get(&Reason::Existing).map_or(0, |named| named.count),
            if existing { 0 } else { 2 }
        );
        write(&data, "next.csv", b"1");
        assert_eq!(watch_once(&log, &data, settings).unwrap().files, 1);
    }
}

#[test]
fn a_folder_of_an_earlier_release_is_marked_and_goes_on() {
    let (_dir, data) = folder();
    let log = MemoryLog::default();
    write(&data, "old.csv", b"old");
    watch_once(&log, &data, watch_settings()).unwrap();
    // what 0.1.0 left: no mark, and a record that names no folder
    fs::remove_dir_all(data.join(OWN)).unwrap();
    let path = record_of(&data).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let header = r#"{"log":"memory","topic":"t"}"#;
    let check = &datamill_wire::hex(&datamill_wire::sha512(header.as_bytes()))[..8];
    let rest = text.split_once('\n').unwrap().1;
    fs::write(&path, format!("{check} {header}\n{rest}")).unwrap();
    write(&data, "new.csv", b"new");
    assert_eq!(watch_once(&log, &data, watch_settings()).unwrap().files, 1);
    assert!(fs::read_dir(data.join(OWN)).unwrap().count() == 1, "it has a mark now");
    assert!(fs::read_to_string(&path).unwrap().contains("\"folders\":[\""));
}

#[test]
fn a_record_that_vanishes_while_the_watch_runs_is_written_anew() {
    let (_dir, data) = folder();
    let log = MemoryLog::default();
    let running = Running::start(&log, &data, existing_too());
    for (round, gone) in ["LOGS", OWN, "LOGS"].into_iter().enumerate() {
        let (before, after) = (format!("before {round}"), format!("after {round}"));
        write(&data, &before, b"1");
        wait_until("a file before", || log.times(&before) == 1 && record_names(&data, &before));
        remove(&data.join(gone));
        write(&data, &after, b"2");
        wait_until("a file after", || log.times(&after) == 1);
        wait_until("both in the record", || record_names(&data, &after) && record_names(&data, &before));
        wait_until("the mark", || data.join(OWN).exists());
    }
    let summary = running.stop();
    assert_eq!(summary.files, 6, "{summary}");
    assert_eq!(watch_once(&log, &data, existing_too()).unwrap().files, 0, "nothing is sent again");
    let uploaded = fs::read_to_string(data.join("LOGS/uploaded_to_t.csv")).unwrap();
    assert!(uploaded.contains("after 2"), "{uploaded}");
}

#[test]
fn a_record_that_vanishes_at_the_very_end_is_written_anew() {
    let (_dir, data) = folder();
    let log = MemoryLog::default();
    write(&data, "a", b"1");
    let running = Running::start(&log, &data, WatchSettings { polling: false, ..existing_too() });
    wait_until("the file", || record_names(&data, "a"));
    remove(&data.join("LOGS"));
    running.stop();
    assert_eq!(watch_once(&log, &data, existing_too()).unwrap().files, 0);
}

#[test]
fn a_folder_that_is_made_again_while_it_is_watched_is_gone_on_with() {
    let (dir, data) = folder();
    let log = MemoryLog::default();
    for (name, content) in [("same", "1"), ("changed", "1")] {
        write(&data, name, content.as_bytes());
    }
    let time = fs::metadata(data.join("same")).unwrap().modified().unwrap();
    for polling in [true, false] {
        let log = log.clone();
        let running = Running::start(&log, &data, WatchSettings { polling, ..existing_too() });
        let first = format!("first {polling}");
        write(&data, &first, b"1");
        wait_until("the first files", || ["same", "changed", &first].iter().all(|name| record_names(&data, name)));
        let times = log.times("changed");
        fs::rename(&data, dir.path().join(format!("away {polling}"))).unwrap();
        std::thread::sleep(Duration::from_millis(2500));
        write(&data, "same", b"1");
        fs::File::options().write(true).open(data.join("same")).unwrap().set_modified(time).unwrap();
        write(&data, "changed", format!("{polling}").as_bytes());
        write(&data, &format!("new {polling}"), b"1");
        wait_until(&format!("a new file {polling}"), || log.times(&format!("new {polling}")) == 1);
        wait_until("a changed file", || log.times("changed") == times + 1);
        // the system tells of changes in the new folder as well
        std::thread::sleep(Duration::from_millis(300));
        write(&data, &format!("newer {polling}"), b"1");
        wait_until("a newer file", || log.times(&format!("newer {polling}")) == 1);
        assert!(running.stop().is_complete());
    }
    assert_eq!(log.times("same"), 1, "what was delivered is not sent again");
    assert_eq!(watch_once(&log, &data, existing_too()).unwrap().files, 0);
}

#[cfg(unix)]
#[test]
fn a_link_that_is_turned_while_it_is_watched_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("2026-11-29"), dir.path().join("2026-11-30"));
    let current = dir.path().join("current");
    write(&first, "old", b"old");
    write(&second, "new", b"new");
    let turn = |to: &Path| {
        symlink(to, dir.path().join("turned")).unwrap();
        fs::rename(dir.path().join("turned"), &current).unwrap();
    };
    turn(&first);
    let log = MemoryLog::default();
    let running = Running::start(&log, &current, WatchSettings { polling: true, ..watch_settings() });
    wait_until("the first start", || has_started(&first));
    write(&first, "a", b"1");
    wait_until("a file of the first folder", || record_names(&first, "a"));
    turn(&second);
    wait_until("what is in the second folder", || log.times("new") == 1);
    write(&second, "b", b"2");
    wait_until("a file of the second folder", || record_names(&second, "b"));
    // back, to a folder that has a record of its own
    turn(&first);
    write(&first, "c", b"3");
    wait_until("a file of the first folder again", || record_names(&first, "c"));
    let summary = running.stop();
    assert_eq!((summary.files, log.times("old"), log.times("a")), (4, 0, 1), "{summary}");
    // the next start finds either folder as it was left
    for folder in [&second, &first] {
        turn(folder);
        assert_eq!(watch_once(&log, &current, watch_settings()).unwrap().files, 0);
    }
}

#[cfg(unix)]
#[test]
fn what_is_on_its_way_when_the_folder_changes_is_written_down_before_another_one_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second, current) = (dir.path().join("1"), dir.path().join("2"), dir.path().join("current"));
    write(&first, "x", b"1st");
    write(&second, "x", b"second");
    symlink(&first, &current).unwrap();
    let log = MemoryLog::default();
    let holds = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let theirs = Arc::clone(&holds);
    log.judge(move |_, _| match theirs.load(std::sync::atomic::Ordering::SeqCst) {
        true => Verdict::Later,
        false => Verdict::Store,
    });
    let running = Running::start(&log, &current, existing_too());
    wait_until("the first file on its way", || log.records().len() == 1);
    fs::remove_file(&current).unwrap();
    symlink(&second, &current).unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(log.records().len(), 1, "nothing of the second folder is sent yet");
    assert!(record_of(&second).is_none());
    holds.store(false, std::sync::atomic::Ordering::SeqCst);
    log.answer_all();
    wait_until("both versions", || log.times("x") == 2);
    let summary = running.stop();
    assert_eq!(summary.files, 2, "{summary}");
    assert!(record_names(&second, "x"));
}

#[test]
fn a_watcher_that_took_the_place_meanwhile_ends_nothing_and_is_named() {
    let (_dir, data) = folder();
    let log = MemoryLog::default();
    let running = Running::start(&log, &data, existing_too());
    write(&data, "a", b"1");
    wait_until("the first file", || record_names(&data, "a"));
    remove(&data.join("LOGS"));
    // without the word of a person, another watcher does not begin anew there
    let error = watch_once(&log, &data, existing_too()).unwrap_err();
    assert!(matches!(error, UploadError::LostRecord { .. } | UploadError::Watched { .. }), "{error}");
    running.stop();
}

#[test]
fn a_folder_that_is_gone_at_the_end_is_named_in_the_summary() {
    let (_dir, data) = folder();
    let log = MemoryLog::default();
    let (control, facts) = (Control::default(), Facts::default());
    let held = || facts.counters().snapshot().state.held.map(|(hold, _)| hold);
    let summary = std::thread::scope(|scope| {
        let watched = scope.spawn(|| watch(&log, &data, &existing_too(), &control, &facts).unwrap());
        wait_until("the watch has begun", || has_started(&data));
        remove(&data);
        wait_until("the watch misses its folder", || held() == Some(Hold::WatchedFolder));
        control.stop(StopKind::Leave);
        watched.join().unwrap()
    });
    assert!(!summary.is_complete() && summary.to_string().contains("data/`"), "{summary}");
}

/// Removes a folder into which a watch may be writing.
fn remove(folder: &Path) {
    wait_until("the folder is removed", || fs::remove_dir_all(folder).is_ok());
}
