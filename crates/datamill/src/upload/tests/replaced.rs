//! Files of the size and the time that were delivered: the same ones, with other rights or another inode, and others.

use std::path::PathBuf;

use super::*;

const NAMES: [&str; 3] = ["a", "b", "sub/c"];

fn settings() -> WatchSettings {
    WatchSettings { upload_existing: true, polling: true, exit_at_end: true, ..watch_settings() }
}

fn watch_once(log: &MemoryLog, root: &Path) -> Summary {
    watch(log, root, &settings(), &Control::default(), &Facts::default()).unwrap()
}

/// A folder whose files were delivered.
fn delivered() -> (tempfile::TempDir, MemoryLog) {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::default();
    for name in NAMES {
        write(dir.path(), name, &bytes(30, name.as_bytes()[0]));
    }
    assert_eq!(watch_once(&log, dir.path()).files, 3);
    (dir, log)
}

/// Puts a new file with this content in the place of a file, which keeps its time: `touch -r`, then `mv`.
fn replace(root: &Path, name: &str, content: &[u8]) {
    let path = root.join(name);
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let new = root.join("new.part");
    fs::write(&new, content).unwrap();
    fs::File::options().write(true).open(&new).unwrap().set_modified(time).unwrap();
    fs::rename(new, path).unwrap();
}

/// Another watch sends nothing and compares this many files, and a third one has nothing to do.
fn assert_nothing_is_sent(log: &MemoryLog, root: &Path, compared: u64) {
    for compared in [compared, 0] {
        let summary = watch_once(log, root);
        assert_eq!((summary.files, summary.unchanged), (0, compared), "{summary}");
    }
    assert!(NAMES.iter().all(|name| log.times(name) == 1));
}

fn record_of(root: &Path) -> PathBuf {
    let mut entries = fs::read_dir(root.join("LOGS")).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.extension().is_some_and(|end| end == "jsonl")).unwrap()
}

/// Makes the record one that release 0.1.0 has written.
fn age(root: &Path) {
    let path = record_of(root);
    let text = fs::read_to_string(&path).unwrap();
    let aged = text.lines().map(|line| {
        let mut json: serde_json::Value = serde_json::from_str(&line[9..]).unwrap();
        for field in ["ctime_ns", "inode", "folders"] {
            json.as_object_mut().unwrap().remove(field);
        }
        let json = json.to_string();
        format!("{} {json}\n", &datamill_wire::hex(&datamill_wire::sha512(json.as_bytes()))[..8])
    });
    let aged: String = aged.collect();
    assert!(aged.contains("mtime_ns") && !aged.contains("inode"));
    fs::write(&path, aged).unwrap();
}

#[test]
fn another_content_with_the_same_size_and_time_is_sent() {
    let (dir, log) = delivered();
    replace(dir.path(), "b", &bytes(30, 9));
    let summary = watch_once(&log, dir.path());
    assert_eq!((summary.files, summary.unchanged), (1, 0), "{summary}");
    assert_eq!(log.whole()["b"].last().unwrap().content, bytes(30, 9));
    assert_eq!(watch_once(&log, dir.path()).files, 0);
    assert_eq!(log.times("b"), 2);
}

#[test]
fn another_content_with_the_same_size_and_time_is_sent_while_the_watch_runs() {
    let (dir, log) = delivered();
    let settings = WatchSettings { exit_at_end: false, ..settings() };
    let running = Running::start(&log, dir.path(), settings);
    std::thread::sleep(Duration::from_millis(500));
    replace(dir.path(), "sub/c", &bytes(30, 9));
    wait_until("the other content", || log.times("sub/c") == 2);
    let summary = running.stop();
    assert_eq!((summary.files, summary.unchanged), (1, 0), "{summary}");
}

#[test]
fn files_that_got_other_rights_are_compared_once_and_not_sent() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, log) = delivered();
    for name in NAMES {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_nothing_is_sent(&log, dir.path(), 3);
}

#[test]
fn files_with_new_inodes_are_compared_once_and_not_sent() {
    let (dir, log) = delivered();
    for name in NAMES {
        replace(dir.path(), name, &bytes(30, name.as_bytes()[0]));
    }
    assert_nothing_is_sent(&log, dir.path(), 3);
}

#[test]
fn a_record_of_release_0_1_0_counts_as_equal_and_gets_what_it_lacks() {
    let (dir, log) = delivered();
    age(dir.path());
    assert_nothing_is_sent(&log, dir.path(), 0);
    assert_eq!(fs::read_to_string(record_of(dir.path())).unwrap().matches("inode").count(), 3);
    replace(dir.path(), "a", &bytes(30, 9));
    assert_eq!(watch_once(&log, dir.path()).files, 1);
}

#[test]
fn what_was_never_sent_is_not_compared() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "old", b"old");
    let log = MemoryLog::default();
    let settings = WatchSettings { upload_existing: false, ..settings() };
    for _ in 0..2 {
        let summary = watch(&log, dir.path(), &settings, &Control::default(), &Facts::default()).unwrap();
        assert_eq!((summary.files, summary.unchanged), (0, 0), "{summary}");
        replace(dir.path(), "old", b"new");
    }
}

#[test]
fn more_suspects_than_are_kept_are_all_compared() {
    let dir = tempfile::tempdir().unwrap();
    let log = MemoryLog::default();
    let count = 10_050;
    let name = |number: usize| format!("{:03}/{number}", number % 101);
    for number in 0..count {
        write(dir.path(), &name(number), number.to_string().as_bytes());
    }
    assert_eq!(watch_once(&log, dir.path()).files, count as u64);
    for number in 0..count {
        replace(dir.path(), &name(number), number.to_string().as_bytes());
    }
    let summary = watch_once(&log, dir.path());
    assert_eq!((summary.files, summary.unchanged), (0, count as u64), "{summary}");
}
