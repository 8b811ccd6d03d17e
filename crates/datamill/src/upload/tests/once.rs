//! `upload_paths`: what is there arrives as it is, also while it changes.

use std::fs::OpenOptions;
use std::io::Write;

use datamill_broker::ErrorKind;
use datamill_wire::{Chunk, headers, hex, partition_for, sha512};

use super::memory::Verdict;
use super::*;

#[test]
fn files_of_every_size_arrive_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    for size in [0, 1, 7, 8, 9, 16, 100] {
        write(dir.path(), &format!("sub/size {size}.bin"), &bytes(size, 1));
    }
    let log = MemoryLog::default();
    let summary = upload(&log, dir.path());
    assert!(summary.is_complete(), "{summary}");
    assert_eq!((summary.files, summary.bytes, summary.messages), (7, 141, 21));
    for size in [0, 1, 7, 8, 9, 16, 100] {
        assert_eq!(log.only(&format!("sub/size {size}.bin")), bytes(size, 1));
    }
}

#[test]
fn a_file_of_too_many_chunks_is_named_as_such() {
    let dir = tempfile::tempdir().unwrap();
    fs::File::create(dir.path().join("large")).unwrap().set_len((1 << 22) + 1).unwrap();
    let settings = settings(1);
    let summary = upload_with(&MemoryLog::default(), dir.path(), &settings);
    let text = summary.to_string();
    assert!(text.contains("not sent: 1 with more chunks than a file may have: `large`"), "{text}");
}

#[test]
fn chunks_say_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a/b/x.csv", &bytes(20, 1));
    let log = MemoryLog::default();
    upload(&log, dir.path());
    let mtime = fs::metadata(dir.path().join("a/b/x.csv")).unwrap().modified().unwrap();
    let mtime = mtime.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    for (number, record) in log.records().iter().enumerate() {
        let chunk = Chunk::decode(&record.value).unwrap();
        assert_eq!((chunk.index as usize, chunk.total), (number + 1, 3));
        assert_eq!((chunk.subdir, chunk.filename, chunk.filename_append), ("a/b", "x.csv", ""));
        assert!((chunk.mtime.unwrap() - mtime).abs() < 1e-6);
        assert_eq!(record.key, format!("a_b_x.csv_chunk_{}_of_3", number + 1));
        assert_eq!(record.partition, partition_for("a/b/x.csv", 3));
        let version = (headers::CHUNK_VERSION.to_owned(), headers::CHUNK_VERSION_1.to_owned());
        assert_eq!(record.headers, [version]);
    }
}

#[test]
fn the_time_0_has_a_header_of_its_own_and_no_other_time_has() {
    let dir = tempfile::tempdir().unwrap();
    for (name, seconds) in [("epoch", 0), ("later", 1)] {
        write(dir.path(), name, &bytes(20, 1));
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::options().write(true).open(dir.path().join(name)).unwrap().set_modified(time).unwrap();
    }
    let log = MemoryLog::default();
    upload(&log, dir.path());
    for record in log.records() {
        let is_epoch = Chunk::decode(&record.value).unwrap().filename == "epoch";
        let header = (headers::MTIME.to_owned(), "0".to_owned());
        assert_eq!(record.headers.contains(&header), is_epoch, "{}", record.key);
    }
}

#[test]
fn odd_names_arrive_and_what_is_left_out_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["with space.csv", "Größe µ.csv", "quote'\";.csv", "two\nlines.csv", "a/LOGS/x.csv"];
    for name in names {
        write(dir.path(), name, name.as_bytes());
    }
    for name in [".hidden", "run.log", "LOGS/uploaded_to_t.csv", "x.part", "y.tmp"] {
        write(dir.path(), name, b"no");
    }
    let log = MemoryLog::default();
    let summary = upload(&log, dir.path());
    assert_eq!(log.whole().len(), names.len());
    for name in names {
        assert_eq!(log.only(name), name.as_bytes());
    }
    let counts: Vec<(Reason, u64)> = summary.left_out.iter().map(|(reason, named)| (*reason, named.count)).collect();
    let expected = [(Reason::Hidden, 1), (Reason::OwnFolder, 1), (Reason::LogFile, 1), (Reason::Unfinished, 2)];
    assert_eq!(counts, expected);
    assert!(summary.is_complete());
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_reported_and_the_rest_goes_on() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "good.csv", b"good");
    fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"bad\xff.csv")), "x").unwrap();
    let log = MemoryLog::default();
    let summary = upload(&log, dir.path());
    assert_eq!(log.only("good.csv"), b"good");
    assert_eq!(summary.left_out[&Reason::NotUtf8].first, ["bad\u{fffd}.csv"]);
    assert!(!summary.is_complete());
}

#[test]
fn five_thousand_small_files_are_five_thousand_messages() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..5000 {
        write(dir.path(), &format!("{:02}/{number}.dat", number % 50), number.to_string().as_bytes());
    }
    let log = MemoryLog::default();
    let summary = upload(&log, dir.path());
    assert_eq!((summary.files, summary.messages), (5000, 5000));
    assert_eq!(log.whole().len(), 5000);
    let mut used: Vec<i32> = log.records().iter().map(|record| record.partition).collect();
    used.sort_unstable();
    used.dedup();
    assert_eq!(used, [0, 1, 2]);
}

#[test]
fn files_that_are_named_have_their_names_alone() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "deep/down/a.log", b"named");
    write(dir.path(), "folder/sub/b.csv", b"b");
    let log = MemoryLog::default();
    let paths = [dir.path().join("deep/down/a.log"), dir.path().join("folder"), dir.path().join("folder/../folder")];
    let control = Control::default();
    let facts = Facts::default();
    let summary = upload_paths(&log, &paths, &settings(8), &control, &facts).unwrap();
    assert_eq!(summary.files, 2);
    assert_eq!(log.only("a.log"), b"named");
    assert_eq!(log.only("sub/b.csv"), b"b");
    assert_eq!(facts.counters().counts().messages_produced, 2);
}

#[test]
fn a_file_that_is_named_keeps_its_path_below_a_root_and_gets_what_is_appended_to_names() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "deep/down/a.csv", b"named");
    let paths = [dir.path().join("deep/../deep/down/a.csv")];
    let (log, control, facts) = (MemoryLog::default(), Control::default(), Facts::default());
    let root = Some(dir.path().to_owned());
    let settings = UploadSettings { root, filename_append: "_2".to_owned(), ..settings(8) };
    let upload = |settings: &UploadSettings| upload_paths(&log, &paths, settings, &control, &facts);
    assert!(upload(&settings).unwrap().is_complete());
    assert_eq!(log.only("deep/down/a_2.csv"), b"named");
    let elsewhere = tempfile::tempdir().unwrap();
    let error = upload(&UploadSettings { root: Some(elsewhere.path().to_owned()), ..settings.clone() }).unwrap_err();
    assert!(matches!(error, UploadError::Path { .. }), "{error}");
    let error = upload(&UploadSettings { filename_append: "../x".to_owned(), ..settings }).unwrap_err();
    assert!(error.to_string().contains("`../x`"), "{error}");
}

#[test]
fn set_up_errors_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a/x.csv", b"1");
    write(dir.path(), "b/x.csv", b"2");
    let log = MemoryLog::default();
    let try_with = |paths: &[&str], settings: &UploadSettings| {
        let paths: Vec<_> = paths.iter().map(|path| dir.path().join(path)).collect();
        let control = Control::default();
        upload_paths(&log, &paths, settings, &control, &Facts::default()).unwrap_err()
    };
    let error = try_with(&["a/x.csv", "b/x.csv"], &settings(8));
    assert!(matches!(error, UploadError::SamePath { .. }), "{error}");
    let error = try_with(&["none"], &settings(8));
    assert!(matches!(error, UploadError::Path { .. }), "{error}");
    let error = try_with(&["a"], &settings(12));
    assert!(error.to_string().contains("524288"), "{error}");
    let error = try_with(&["a"], &UploadSettings { topic: "u".into(), ..settings(8) });
    assert!(matches!(error, UploadError::Log(error) if error.kind() == ErrorKind::UnknownTopic));
    assert!(log.records().is_empty());
}

/// Uploads one file of 40 bytes, which `change` changes when the third chunk is being sent.
fn changed_at_third_chunk(change: impl Fn(&Path) + Send + 'static) -> (MemoryLog, Summary) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x", &bytes(40, 1));
    let log = MemoryLog::default();
    let path = dir.path().join("x");
    log.judge(move |number, _| {
        if number == 2 {
            change(&path);
        }
        Verdict::Store
    });
    let summary = upload(&log, dir.path());
    (log, summary)
}

/// Checks that the new version alone is there whole, and names the old one in each record, which come
/// after all of the old one's.
fn assert_superseded(log: &MemoryLog, new: &[u8]) {
    assert_eq!(log.only("x"), new);
    let old = hex(&sha512(&bytes(40, 1)));
    let (mut olds, mut news) = (Vec::new(), Vec::new());
    for (number, record) in log.records().iter().enumerate() {
        let chunk = Chunk::decode(&record.value).unwrap();
        if hex(chunk.file_hash) == old {
            olds.push(number);
            assert!(record.supersedes().is_empty());
        } else {
            news.push(number);
            assert_eq!(record.supersedes(), [old.as_str()]);
        }
    }
    assert!(!olds.is_empty() && olds.len() < 5, "{olds:?}");
    assert!(olds.last() < news.first());
}

#[test]
fn a_file_that_is_rewritten_while_it_is_sent_is_sent_as_its_new_version() {
    let (log, summary) = changed_at_third_chunk(|path| fs::write(path, bytes(64, 9)).unwrap());
    assert_superseded(&log, &bytes(64, 9));
    assert!(summary.is_complete() && summary.files == 1);
}

#[test]
fn a_file_that_grows_while_it_is_sent_is_sent_as_its_new_version() {
    let (log, _) = changed_at_third_chunk(|path| {
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
    });
    assert_superseded(&log, &[bytes(40, 1), b"more".to_vec()].concat());
}

#[test]
fn a_file_that_is_truncated_while_it_is_sent_is_sent_as_its_new_version() {
    let (log, _) = changed_at_third_chunk(|path| {
        OpenOptions::new().write(true).open(path).unwrap().set_len(10).unwrap();
    });
    assert_superseded(&log, &bytes(10, 1));
}

#[test]
fn a_file_that_is_replaced_by_a_rename_is_sent_as_it_was() {
    let (log, _) = changed_at_third_chunk(|path| {
        let aside = path.with_extension("aside");
        fs::write(&aside, bytes(64, 9)).unwrap();
        fs::rename(&aside, path).unwrap();
    });
    // The handle reads the old file to its end; its times are untouched.
    assert_eq!(log.only("x"), bytes(40, 1));
}

#[test]
fn a_file_that_was_only_touched_goes_on_where_it_was() {
    let (log, summary) = changed_at_third_chunk(|path| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    });
    assert_eq!(log.only("x"), bytes(40, 1));
    assert_eq!(log.records().len(), 5);
    assert!(log.records().iter().all(|record| record.supersedes().is_empty()));
    assert!(summary.is_complete());
}

#[cfg(unix)]
#[test]
fn a_file_that_is_deleted_and_truncated_while_it_is_sent_is_left_out() {
    let (log, summary) = changed_at_third_chunk(|path| {
        OpenOptions::new().write(true).open(path).unwrap().set_len(10).unwrap();
        fs::remove_file(path).unwrap();
    });
    assert_eq!(log.times("x"), 0);
    assert_eq!(summary.left_out[&Reason::Vanished].first, ["x"]);
    assert_eq!(summary.files, 0);
}

#[test]
fn a_file_that_changes_many_times_is_sent_when_it_rests() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "x", &bytes(40, 1));
    write(dir.path(), "y", b"other");
    let log = MemoryLog::default();
    let path = dir.path().join("x");
    let mut round = 1;
    log.judge(move |_, chunk| {
        if chunk.filename == "x" && chunk.index == 2 && round < 7 {
            round += 1;
            fs::write(&path, bytes(40, round)).unwrap();
        }
        Verdict::Store
    });
    let summary = upload(&log, dir.path());
    assert!(summary.is_complete(), "{summary}");
    assert_eq!(log.only("x"), bytes(40, 7));
    assert_eq!(log.only("y"), b"other");
    // The last version names those of which some chunks are in the topic.
    assert_eq!(log.records().last().unwrap().supersedes().len(), 6);
}
