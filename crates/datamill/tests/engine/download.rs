//! The download directory on both logs: what is in the folder, whatever came before.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::common::{Bench, Place, Sent, StopAtEnd, chunks, content, on_both_logs, registry, wait_for};
use datamill::broker::{NewTopic, Properties};
use datamill::deliver::{DownloadDirectory, OnExists};
use datamill::engine::{Control, EngineSettings, Summary};
use datamill::facts::Facts;
use datamill::process::UserCode;
use datamill::upload::{UploadSettings, upload_paths};
use datamill::wire::{Chunk, hex, sha512};

on_both_logs! {
    the_folder_becomes_like_the_topic_and_nothing_is_written_twice,
    the_version_that_is_later_in_the_partition_stays_whatever_its_time,
    a_file_comes_back_with_the_time_that_it_had_whatever_time_that_is,
    a_failed_file_that_is_tried_again_replaces_no_newer_version,
    what_a_person_put_there_is_treated_as_asked_for,
    names_that_cannot_be_held_fail_alone_and_are_told_apart,
    versions_of_the_longest_names_are_kept_beside_each_other,
    a_folder_that_is_gone_holds_until_it_is_back,
    a_message_that_is_no_chunk_is_kept_beside_the_log,
}

fn mirror(bench: &Bench) -> PathBuf {
    bench.folder.path().join("mirror")
}

/// The settings of a member with this output folder and group.
fn settings(bench: &Bench, group: &str) -> EngineSettings {
    EngineSettings { result_topic: None, group: group.to_owned(), output_dir: mirror(bench), ..bench.settings() }
}

fn run_with(bench: &Bench, settings: &EngineSettings, on_exists: OnExists, control: &Control) -> Summary {
    let directory = DownloadDirectory::open(&mirror(bench), &settings.output_dir, on_exists).unwrap();
    let code = UserCode::processor(directory);
    datamill::engine::run(&bench.log, settings, code, control, &Facts::default()).unwrap()
}

fn run(bench: &Bench, on_exists: OnExists) -> Summary {
    run_with(bench, &settings(bench, &bench.group), on_exists, &Control::default())
}

/// Everything is read again, as a group does that has committed nothing.
fn run_again(bench: &Bench, on_exists: OnExists) -> Summary {
    let group = format!("again-{}", uuid::Uuid::new_v4());
    run_with(bench, &settings(bench, &group), on_exists, &Control::default())
}

/// The files of the folder by path, without what the program keeps there.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            let path = entry.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if entry.is_file() {
                found.insert(path, fs::read(&entry).unwrap());
            } else if ![".datamill", "LOGS"].contains(&path.as_str()) {
                folders.push(entry);
            }
        }
    }
    found
}

fn expected(all: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    all.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect()
}

/// A file as one chunk, with this modification time.
fn at_time(partition: i32, path: &str, bytes: &[u8], mtime: Option<f64>) -> Sent {
    let mut sent = chunks(partition, path, bytes, 1 << 20).remove(0);
    let value = sent.value.clone();
    let chunk = Chunk { mtime, ..Chunk::decode(&value).unwrap() };
    sent.value.clear();
    chunk.encode(&mut sent.value);
    sent
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

fn the_folder_becomes_like_the_topic_and_nothing_is_written_twice(place: &Place) {
    let bench = Bench::new(place, 2);
    let big = content(3, 3_000_000);
    let all: [(&str, &[u8]); 5] =
        [("a.csv", b"a"), ("sub/ü b/c.dat", b"c"), ("sub/empty", b""), ("big.bin", &big), ("sub/.hidden", b"h")];
    for (i, (path, bytes)) in all.iter().enumerate() {
        bench.send(&chunks(i as i32 % 2, path, bytes, 100_000));
    }
    // so little memory that the big file is spilled while it fills up
    let few = EngineSettings { memory_limit: 4 << 20, ..settings(&bench, &bench.group) };
    let summary = run_with(&bench, &few, OnExists::default(), &Control::default());
    assert_eq!((summary.succeeded, summary.failed), (5, 0));
    let folder = mirror(&bench);
    assert_eq!(files(&folder), expected(&all));
    fs::write(bench.folder.path().join("usual"), "").unwrap();
    let usual = fs::metadata(bench.folder.path().join("usual")).unwrap().mode();
    let mut inodes = Vec::new();
    for (path, _) in &all {
        let there = fs::metadata(folder.join(path)).unwrap();
        let modified = there.modified().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(modified, Duration::from_secs_f64(1_700_000_000.5), "{path}");
        assert_eq!(there.mode(), usual, "others may read `{path}` as they may read any new file");
        inodes.push(there.ino());
    }
    assert_eq!(registry(&folder, &format!("processed_from_{}_by_{}.csv", bench.topic, bench.group)).len(), 5);
    assert_eq!(run(&bench, OnExists::default()).succeeded, 0, "a second start has nothing to do");
    for on_exists in [OnExists::Newer, OnExists::Skip, OnExists::Replace, OnExists::Version, OnExists::Fail] {
        let again = run_again(&bench, on_exists);
        assert_eq!((again.succeeded, again.failed), (5, 0), "{on_exists:?}: the same versions are there");
    }
    // without the records, the content tells
    fs::remove_dir_all(folder.join(".datamill/origins")).unwrap();
    assert_eq!(run_again(&bench, OnExists::Fail).failed, 0);
    let after: Vec<u64> = all.iter().map(|(path, _)| inode(&folder.join(path))).collect();
    assert_eq!(after, inodes, "no file was written a second time");
    assert_eq!(files(&folder), expected(&all));
    let aside: Vec<_> = fs::read_dir(folder.join(".datamill/aside")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(fs::read_dir(&aside[0]).unwrap().count(), 0, "nothing is left aside");
}

fn the_version_that_is_later_in_the_partition_stays_whatever_its_time(place: &Place) {
    let bench = Bench::new(place, 2);
    let path = mirror(&bench).join("scan");
    bench.send(&[at_time(0, "scan", b"first", Some(2000.0))]);
    run(&bench, OnExists::default());
    bench.send(&[at_time(0, "scan", b"second", Some(1000.0))]);
    run(&bench, OnExists::default());
    assert_eq!(fs::read(&path).unwrap(), b"second");
    let before = inode(&path);
    run_again(&bench, OnExists::default());
    assert_eq!((fs::read(&path).unwrap(), inode(&path)), (b"second".to_vec(), before), "the first did not come back");
    // of another partition: the time decides, and where it cannot, both are kept
    bench.send(&[at_time(1, "scan", b"older", Some(999.0))]);
    run(&bench, OnExists::default());
    assert_eq!(fs::read(&path).unwrap(), b"second");
    bench.send(&[at_time(1, "scan", b"newer", Some(1001.0))]);
    run(&bench, OnExists::default());
    assert_eq!(fs::read(&path).unwrap(), b"newer");
    bench.send(&[at_time(0, "scan", b"whoever", None)]);
    run(&bench, OnExists::default());
    let beside = format!("scan.{}", &hex(&sha512(b"whoever"))[..12]);
    assert_eq!(files(&mirror(&bench)), expected(&[("scan", b"newer"), (&beside, b"whoever")]));
}

/// The first version fails, because a folder has its name; the second arrives; the first is tried again.
fn a_failed_file_that_is_tried_again_replaces_no_newer_version(place: &Place) {
    let bench = Bench::new(place, 1);
    let path = mirror(&bench).join("scan");
    fs::create_dir_all(&path).unwrap();
    bench.send(&[at_time(0, "scan", b"first", Some(2000.0))]);
    let no_retry = EngineSettings { retry_failed: datamill::engine::RetryFailed::No, ..settings(&bench, &bench.group) };
    assert_eq!(run_with(&bench, &no_retry, OnExists::default(), &Control::default()).failed, 1);
    fs::remove_dir(&path).unwrap();
    bench.send(&[at_time(0, "scan", b"second", Some(1000.0))]);
    assert_eq!(run_with(&bench, &no_retry, OnExists::default(), &Control::default()).succeeded, 1);
    let summary = run(&bench, OnExists::default());
    assert_eq!((summary.retried, summary.failed_again), (1, 0));
    assert_eq!(files(&mirror(&bench)), expected(&[("scan", b"second")]));
}

fn a_file_comes_back_with_the_time_that_it_had_whatever_time_that_is(place: &Place) {
    let bench = Bench::new(place, 2);
    let source = tempfile::tempdir().unwrap();
    let second = Duration::from_secs(1);
    let epoch = SystemTime::UNIX_EPOCH;
    let times = [
        ("epoch", epoch),
        ("before", epoch - second / 2),
        ("after", epoch + second),
        ("later", epoch + second * 1_700_000_000 + second / 7),
    ];
    for (size, (name, time)) in [10, 20, 3_000, 4_000].into_iter().zip(times.iter().cycle()).chain([(5_000, &times[0])])
    {
        let file = fs::File::create(source.path().join(format!("{name} {size}"))).unwrap();
        file.set_len(size).unwrap();
        file.set_modified(*time).unwrap();
    }
    let settings = UploadSettings { chunk_size: 1024, ..UploadSettings::new(&bench.topic) };
    let paths = [source.path().to_owned()];
    let sent = upload_paths(&*bench.log, &paths, &settings, &Control::default(), &Facts::default()).unwrap();
    assert_eq!(sent.files, 5, "{sent}");
    run(&bench, OnExists::Newer);
    for name in files(source.path()).into_keys() {
        let time = |folder: &Path| fs::metadata(folder.join(&name)).unwrap().modified().unwrap();
        let (is, was) = (time(&mirror(&bench)), time(source.path()));
        let apart = is.duration_since(was).unwrap_or_else(|error| error.duration());
        assert!(apart < Duration::from_millis(1), "`{name}`: {is:?} for {was:?}");
    }
}

fn what_a_person_put_there_is_treated_as_asked_for(place: &Place) {
    let beside = format!("a.{}.csv", &hex(&sha512(b"topic"))[..12]);
    for (on_exists, mtime, failed, after) in [
        (OnExists::Newer, Some(1000.0), 0, expected(&[("a.csv", b"own")])),
        (OnExists::Newer, Some(4_000_000_000.0), 0, expected(&[("a.csv", b"topic")])),
        (OnExists::Newer, None, 0, expected(&[("a.csv", b"own"), (&beside, b"topic")])),
        (OnExists::Skip, Some(4_000_000_000.0), 0, expected(&[("a.csv", b"own")])),
        (OnExists::Replace, Some(1000.0), 0, expected(&[("a.csv", b"topic")])),
        (OnExists::Version, Some(1000.0), 0, expected(&[("a.csv", b"own"), (&beside, b"topic")])),
        (OnExists::Fail, Some(1000.0), 1, expected(&[("a.csv", b"own")])),
    ] {
        let bench = Bench::new(place, 1);
        fs::create_dir(mirror(&bench)).unwrap();
        fs::write(mirror(&bench).join("a.csv"), "own").unwrap();
        bench.send(&[at_time(0, "a.csv", b"topic", mtime)]);
        assert_eq!(run(&bench, on_exists).failed, failed, "{on_exists:?} {mtime:?}");
        assert_eq!(files(&mirror(&bench)), after, "{on_exists:?} {mtime:?}");
        run_again(&bench, on_exists);
        assert_eq!(files(&mirror(&bench)), after, "a repetition of {on_exists:?} {mtime:?}");
    }
}

fn names_that_cannot_be_held_fail_alone_and_are_told_apart(place: &Place) {
    let bench = Bench::new(place, 1);
    let long = "x".repeat(300);
    for path in ["file", "file/below", &long, "LOGS/own.csv", ".datamill/lock", "folder/good", "folder"] {
        bench.send(&chunks(0, path, path.as_bytes(), 1000));
    }
    let mut settings = settings(&bench, &bench.group);
    settings.threads = 1;
    let summary = run_with(&bench, &settings, OnExists::default(), &Control::default());
    assert_eq!((summary.succeeded, summary.failed), (2, 5));
    assert_eq!(files(&mirror(&bench)), expected(&[("file", b"file"), ("folder/good", b"folder/good")]));
    let failed = registry(&mirror(&bench), "failed_from_");
    let reason = |path: &str| {
        let row = failed.iter().find(|row| row[1] == path).unwrap_or_else(|| panic!("no row of `{path}`: {failed:?}"));
        assert_eq!(row[3], "failed", "the status that processors have");
        row[4].clone()
    };
    assert!(reason("file/below").contains("a file is where one of its folders must be"), "{failed:?}");
    assert!(reason(&long).contains("cannot hold this name"), "{failed:?}");
    assert!(reason("LOGS/own.csv").contains("keeps for itself"), "{failed:?}");
    assert!(reason(".datamill/lock").contains("keeps for itself"), "{failed:?}");
    assert!(reason("folder").contains("is a folder"), "{failed:?}");
}

fn versions_of_the_longest_names_are_kept_beside_each_other(place: &Place) {
    let bench = Bench::new(place, 1);
    let names = [format!("{}.csv", "ä".repeat(125)), format!("a/{}", "x".repeat(255))];
    for content in [&b"first"[..], b"second", b"third"] {
        names.iter().for_each(|name| bench.send(&chunks(0, name, content, 10)));
    }
    for _ in 0..2 {
        let summary = run_again(&bench, OnExists::Version);
        assert_eq!((summary.succeeded, summary.failed), (6, 0), "{:?}", registry(&mirror(&bench), "failed_from_"));
        let found = files(&mirror(&bench));
        assert!(names.iter().all(|name| found[name] == b"first"), "{:?}", found.keys());
        let of = |content: &[u8]| found.values().filter(|there| *there == content).count();
        assert_eq!((found.len(), of(b"second"), of(b"third")), (6, 2, 2), "{:?}", found.keys());
        assert_eq!(found.keys().filter(|path| path.ends_with(".csv")).count(), 3);
    }
}

/// The folder is away, as a share that is not mounted, while a file is to be written.
fn a_folder_that_is_gone_holds_until_it_is_back(place: &Place) {
    let bench = Bench::new(place, 1);
    let output_dir = bench.folder.path().join("own");
    let settings = EngineSettings { exit_at_end: false, output_dir, ..settings(&bench, &bench.group) };
    bench.send(&chunks(0, "first", b"1", 10));
    let control = Control::default();
    let (folder, away) = (mirror(&bench), bench.folder.path().join("away"));
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&control);
        let program = scope.spawn(|| run_with(&bench, &settings, OnExists::default(), &control));
        let is_table = |entry: std::io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("processed_from_"))
        };
        let has_table = |output: &Path| fs::read_dir(output.join("LOGS")).is_ok_and(|mut logs| logs.any(is_table));
        let processed = |output: &Path| if has_table(output) { registry(output, "processed_from_").len() } else { 0 };
        // a file is there before it counts as done
        wait_for("the first file, committed", || processed(&settings.output_dir) == 1);
        assert!(folder.join("first").exists());
        fs::rename(&folder, &away).unwrap();
        bench.send(&chunks(0, "second", b"2", 10));
        std::thread::sleep(Duration::from_millis(1500));
        assert!(!folder.exists(), "nothing is written where the share should be");
        fs::rename(&away, &folder).unwrap();
        wait_for("the second file, committed", || processed(&settings.output_dir) == 2);
        control.stop(datamill::engine::StopKind::Leave);
        let summary = program.join().unwrap();
        assert_eq!((summary.succeeded, summary.failed), (2, 0));
    });
    assert_eq!(files(&folder), expected(&[("first", b"1"), ("second", b"2")]));
}

fn a_message_that_is_no_chunk_is_kept_beside_the_log(place: &Place) {
    let bench = Bench::new(place, 1);
    let garbage = [&[0xff, 0, 0xfe][..], b"garbage"].concat();
    bench.send(&chunks(0, "good", b"good", 10));
    bench.send_with(
        &[Sent { partition: 0, key: "a key".to_owned(), value: garbage.clone(), marked: false }],
        None,
        &[("own", b"\xff")],
    );
    let mut hostile = chunks(0, "x", b"evil", 10);
    let value = hostile[0].value.clone();
    let escaping = Chunk { filename: "../../evil", ..Chunk::decode(&value).unwrap() };
    hostile[0].value.clear();
    escaping.encode(&mut hostile[0].value);
    bench.send(&hostile);
    for round in 0..2 {
        // in the second round everything is read again by another group
        if round == 0 {
            run(&bench, OnExists::default())
        } else {
            run_again(&bench, OnExists::default())
        };
        let kept = mirror(&bench).join("LOGS/dead_letters");
        let named = |end: &str| kept.join(format!("{}_0_{end}", bench.topic));
        assert_eq!(fs::read(named("1.value")).unwrap(), garbage);
        assert_eq!(fs::read(named("2.value")).unwrap(), hostile[0].value);
        let about: serde_json::Value = serde_json::from_slice(&fs::read(named("1.json")).unwrap()).unwrap();
        assert_eq!(about["topic"], *bench.topic);
        assert_eq!((&about["partition"], &about["offset"]), (&0.into(), &1.into()));
        assert_eq!((&about["key"], &about["value_bytes"]), (&"a key".into(), &10.into()));
        assert_eq!(about["headers"], serde_json::json!([["own", { "base64": "/w==" }]]));
        assert!(about["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{about}");
        assert_eq!(fs::read_dir(&kept).unwrap().count(), 4);
        assert_eq!(files(&mirror(&bench)), expected(&[("good", b"good")]));
    }
}

/// Two programs of different groups write one folder, and their topics hold versions of one path.
#[test]
fn a_topic_that_was_made_again_is_told_from_the_old_one() {
    let bench = Bench::new(&Place::Embedded, 1);
    for number in 0..5 {
        bench.send(&[at_time(0, "scan", format!("old {number}").as_bytes(), Some(1000.0 + f64::from(number)))]);
    }
    run(&bench, OnExists::default());
    assert_eq!(files(&mirror(&bench)), expected(&[("scan", b"old 4")]));
    // another log with the same names: its offsets begin at 0 again
    let servers = format!("sqlite:{}", bench.folder.path().join("other.db").display());
    let broker = BTreeMap::from([("bootstrap.servers".to_owned(), servers)]);
    let log = datamill::broker::open(&Properties { broker, ..Properties::default() }).unwrap();
    for name in [&bench.topic, &bench.results] {
        let topic = NewTopic { name: name.clone(), partitions: 1, replication: 1, settings: BTreeMap::new() };
        log.create_topic(&topic).unwrap();
    }
    let bench = Bench { log: Arc::clone(&log), ..bench };
    bench.send(&[at_time(0, "scan", b"of the other log", Some(2000.0))]);
    run(&bench, OnExists::default());
    assert_eq!(files(&mirror(&bench)), expected(&[("scan", b"of the other log")]));
}
