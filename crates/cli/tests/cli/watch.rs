//! `datamill watch` as a process that is stopped and killed.

#![cfg(unix)]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use crate::common::{Place, record, wait_until};

const WATCH: [&str; 9] =
    ["watch", "in", "--topic_name", "t", "--upload_existing", "--watchdog_lag_time", "0.1", "--chunk_size", "4096"];

fn signal(child: &std::process::Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn content(number: usize) -> Vec<u8> {
    let length = [0, 1, 4095, 4096, 4097, 50_000][number % 6];
    (0..length).map(|i| (i * 13 + number) as u8).collect()
}

/// Paths that the record names as delivered, with their hashes.
fn recorded(place: &Place) -> BTreeMap<String, String> {
    let text = record(&place.path("in"));
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let parsed = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line.get(9..)?).ok());
    parsed.filter_map(|line| Some((line["path"].as_str()?.to_owned(), line["sha512"].as_str()?.to_owned()))).collect()
}

#[test]
fn a_watcher_that_is_killed_again_and_again_delivers_every_file_and_repeats_nothing_recorded() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("in")).unwrap();
    let mut expected = BTreeMap::new();
    // What the record named at the kill before, and how often it was in the topic then.
    let mut settled: BTreeMap<String, usize> = BTreeMap::new();
    let mut kills_amid = 0;
    for round in 0..15_usize {
        let mut child = place.start(&WATCH);
        for number in round * 20..round * 20 + 20 {
            let name = format!("{}/f {number}.dat", number % 7);
            place.write(&format!("in/{name}"), &content(number));
            expected.insert(name, content(number));
        }
        // Another moment each time: before the first scan, in the middle of sending, after all of it.
        std::thread::sleep(Duration::from_millis(100 + (round as u64 * 37) % 160));
        child.kill().unwrap();
        child.wait().unwrap();
        let counts = count_by_path(&place);
        for (name, times) in &settled {
            assert_eq!(counts.get(name), Some(times), "`{name}` was recorded and sent again");
        }
        let names = recorded(&place).into_keys();
        settled = names.map(|name| (name.clone(), counts.get(&name).copied().unwrap_or(0))).collect();
        assert!(settled.values().all(|times| *times > 0), "recorded and not delivered: {settled:?}");
        kills_amid += usize::from(!settled.is_empty() && settled.len() < expected.len());
    }
    let ended = place.run(&[&WATCH[..], &["--exit-at-end"]].concat());
    assert_eq!(ended.code(), 0, "{}", ended.stderr());
    let whole = place.whole_files("t");
    for (name, content) in &expected {
        assert!(whole.contains_key(&(name.clone(), content.clone())), "`{name}` is missing");
    }
    assert!(kills_amid > 0, "no kill came in the middle of the sending");
    let again = place.run(&[&WATCH[..], &["--exit-at-end"]].concat());
    assert!(again.stderr().contains("sent 0 files"), "{}", again.stderr());
}

fn count_by_path(place: &Place) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    if place.run(&["topic", "describe", "t"]).code() == 0 {
        for ((path, _), times) in place.whole_files("t") {
            *counts.entry(path).or_default() += times;
        }
    }
    counts
}

#[test]
fn a_stopped_watcher_has_written_everything_down() {
    for name in ["-INT", "-TERM"] {
        let place = Place::new();
        std::fs::create_dir_all(place.path("in")).unwrap();
        let mut child = place.start(&WATCH);
        wait_until("the first start", || record(&place.path("in")).contains("started"));
        for number in 0..50 {
            place.write(&format!("in/{number}.dat"), &content(number));
        }
        wait_until("some deliveries", || !recorded(&place).is_empty());
        signal(&child, name);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{name}");
        let whole = place.whole_files("t");
        assert_eq!(whole.len(), recorded(&place).len());
        assert!(whole.values().all(|times| *times == 1));
        let ended = place.run(&[&WATCH[..], &["--exit-at-end"]].concat());
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        let whole = place.whole_files("t");
        assert_eq!(whole.len(), 50);
        assert!(whole.values().all(|times| *times == 1));
    }
}

#[test]
fn a_second_watcher_says_that_there_is_one() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("in")).unwrap();
    let mut child = place.start(&WATCH);
    wait_until("the first start", || record(&place.path("in")).contains("started"));
    let second = place.run(&WATCH);
    assert_eq!(second.code(), 2);
    assert!(second.stderr().contains("another process"), "{}", second.stderr());
    child.kill().unwrap();
    child.wait().unwrap();
}
