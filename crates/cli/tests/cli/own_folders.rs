//! Programs beside a watch in one folder, and a folder that may only be read.

#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::{Ended, Place, Running, wait_until};

const WATCH: [&str; 7] = ["watch", ".", "--topic_name", "files", "--upload_existing", "--watchdog_lag_time", "0.1"];

/// Our reproducer, which cargo builds beside the tests.
fn describe(place: &Place) -> Command {
    let built = Path::new(env!("CARGO_BIN_EXE_datamill")).parent().unwrap().join("examples/describe");
    let mut command = Command::new(built);
    command.current_dir(place.path("")).env_remove("OPENMSISTREAM_CONFIG_FILE_DIR");
    command.args(["--consumer_topic_name", "files", "--producer_topic_name", "results"]);
    command
}

#[test]
fn a_watch_beside_a_reproducer_and_a_download_in_one_folder_sends_each_file_once() {
    let place = Place::new();
    place.write("a.csv", b"a");
    place.write("sub/b.csv", b"b");
    let watch = Running(place.start(&WATCH));
    wait_until("the topic", || place.run(&["topic", "describe", "files"]).code() == 0);
    let reproducer = Running(describe(&place).spawn().unwrap());
    let download = Running(place.start(&["download", "mirror", "--topic_name", "files"]));
    wait_until("the results", || {
        place.run(&["topic", "describe", "results"]).code() == 0 && place.messages("results").len() == 2
    });
    wait_until("the copies", || place.path("mirror/sub/b.csv").exists());
    // longer than the programs need to renew their tables, and the watch to see it
    std::thread::sleep(Duration::from_secs(7));
    place.write("c.csv", b"c");
    wait_until("one more result", || place.messages("results").len() == 3);
    wait_until("one more copy", || place.path("mirror/c.csv").exists());
    assert_eq!([watch.end(), reproducer.end(), download.end()], [0, 0, 0]);
    let sent: Vec<String> = place.whole_files("files").into_keys().map(|(path, _)| path).collect();
    assert_eq!(sent, ["a.csv", "c.csv", "sub/b.csv"]);
    assert!(place.whole_files("files").values().all(|times| *times == 1));
    let again = place.run(&[&WATCH[..], &["--exit-at-end"]].concat());
    let said = again.stderr();
    assert!(again.code() == 0 && said.contains("sent 0 files"), "{said}");
    assert!(said.contains("own folders: `Describe_output/`, `LOGS/`"), "{said}");
    assert!(said.contains("left out: 1 folder that a download or transfer fills"), "{said}");
}

#[test]
fn nothing_is_put_into_the_folders_of_another_program() {
    let place = Place::new();
    let paths = ["out/LOGS/table.csv", "out/scan.csv", "data/LOGS/mine.csv", "inner/LOGS/t.csv", "inner/good.csv"];
    paths.iter().for_each(|path| place.write(&format!("src/{path}"), path.as_bytes()));
    assert_eq!(place.run(&["upload", "src", "--topic_name", "files"]).code(), 0);
    place.write("other/from the other topic.csv", b"other");
    assert_eq!(place.run(&["upload", "other", "--topic_name", "other"]).code(), 0);
    let url = format!("file://{}", place.path("store").display());
    let deliveries: [(&str, &[&str]); 2] =
        [("mirror", &["download", "mirror"]), ("store/files", &["transfer", "--to", &url])];
    for (folder, delivery) in deliveries {
        // programs work in the folder: a reproducer, and a download of another topic
        let output = format!("{folder}/out");
        let mut reproducer = describe(&place);
        reproducer.args(["--output_dir", &output, "--exit-at-end", "--consumer_group_id", folder]);
        assert!(reproducer.status().unwrap().success());
        let inner = format!("{folder}/inner");
        let ended = place.run(&["download", &inner, "--topic_name", "other", "--exit-at-end"]);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        let ended = place.run(&[delivery, &["--topic_name", "files", "--exit-at-end", "--max_attempts", "1"]].concat());
        assert_eq!(ended.code(), 1, "{}", ended.stderr());
        assert!(ended.stderr().contains("2 files of topic `files` processed"), "{}", ended.stderr());
        assert!(ended.stderr().contains("in which another program keeps its own files"), "{}", ended.stderr());
        for (path, arrives) in paths.into_iter().zip([false, false, true, false, true]) {
            assert_eq!(place.path(folder).join(path).exists(), arrives, "{folder}/{path}");
        }
    }
}

/// Runs `datamill` where the folder `in` may only be read, also by root.
fn with_folder_read_only(place: &Place, args: &[&str]) -> Ended {
    let mut command = Command::new("unshare");
    command.current_dir(place.path("")).env_remove("OPENMSISTREAM_CONFIG_FILE_DIR");
    let script = "mount --bind in in && mount -o remount,bind,ro in && exec \"$0\" \"$@\"";
    command.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_datamill")]).args(args);
    let ended = Ended::from(command.output().unwrap());
    assert!(!ended.stderr().contains("unshare:"), "this test has to be run by root: {}", ended.stderr());
    ended
}

#[test]
fn a_share_that_may_only_be_read_is_watched_with_the_record_elsewhere() {
    let place = Place::new();
    place.write("in/a.csv", b"a");
    place.write("in/sub/b.csv", b"b");
    let watch = ["watch", "in", "--topic_name", "files", "--upload_existing", "--exit-at-end"];
    let refused = with_folder_read_only(&place, &watch);
    assert_eq!(refused.code(), 2, "{}", refused.stderr());
    assert!(refused.stderr().contains("--logs_dir"), "{}", refused.stderr());
    assert!(!refused.stderr().contains("--logger_file_path"), "{}", refused.stderr());
    let elsewhere = [&watch[..], &["--logs_dir", "state/in"]].concat();
    for sent in ["sent 2 files", "sent 0 files"] {
        let ended = with_folder_read_only(&place, &elsewhere);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        assert!(ended.stderr().contains(sent), "{}", ended.stderr());
    }
    for name in ["uploaded_to_files.csv", "datamill_watch.log"] {
        assert!(place.path("state/in").join(name).exists(), "{name}");
    }
    assert_eq!(fs::read_dir(place.path("in")).unwrap().count(), 2, "nothing was written there");
}

#[test]
fn a_second_watch_of_a_folder_with_its_record_elsewhere_is_told_and_sends_nothing() {
    let place = Place::new();
    place.write("in/a.csv", b"a");
    let watch = ["watch", "in", "--topic_name", "files", "--upload_existing"];
    let elsewhere = [&watch[..], &["--logs_dir", "state"]].concat();
    let first = Running(place.start(&elsewhere));
    wait_until("the first file", || {
        place.run(&["topic", "describe", "files"]).code() == 0 && place.whole_files("files").len() == 1
    });
    for second in [&watch[..], &[&watch[..], &["--logs_dir", "other"]].concat()] {
        let ended = place.run(&[second, &["--exit-at-end"]].concat());
        assert_eq!(ended.code(), 2, "{}", ended.stderr());
        assert!(ended.stderr().contains("is watched for topic `files` by another process"), "{}", ended.stderr());
    }
    assert_eq!(first.end(), 0);
    // a record in the folder itself, which nobody uses at the moment
    let other = Place::new();
    other.write("in/a.csv", b"a");
    assert_eq!(other.run(&[&watch[..], &["--exit-at-end"]].concat()).code(), 0);
    let ended = other.run(&[&elsewhere[..], &["--exit-at-end"]].concat());
    assert_eq!(ended.code(), 2, "{}", ended.stderr());
    let said = ended.stderr();
    let paths: Vec<&str> = said.split('`').filter(|part| part.ends_with(".jsonl")).collect();
    assert_eq!(paths.len(), 2, "{said}");
    // what the message advises is right
    fs::rename(other.path(paths[0]), other.path(paths[1])).unwrap();
    let ended = other.run(&[&elsewhere[..], &["--exit-at-end"]].concat());
    assert!(ended.code() == 0 && ended.stderr().contains("sent 0 files"), "{}", ended.stderr());
}
