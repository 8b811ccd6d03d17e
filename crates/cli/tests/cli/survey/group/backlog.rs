//! What waits, how old it is, and what was cut off.

use datamill::broker::NewRecord;
use datamill::report::clock::now_ms;
use datamill::wire::partition_for;
use serde_json::Value;

use super::super::bench::{Bench, chunk, on_both_logs};
use super::{kinds, said};

fn what_waits_failed_and_is_begun_is_seen_from_outside(bench: &Bench) {
    bench.place.write("data/a.csv", &[1; 3000]);
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.reproduce();
    let done = bench.standing(0, &[]);
    assert_eq!((&done["needs_person"], &done["group"]["lag"]["messages"]), (&false.into(), &0.into()), "{done}");
    assert_eq!(done["group"]["lag"]["seconds"], 0.0);

    bench.place.write("data/bad.csv", b"b");
    assert_eq!(bench.upload(&["--only-missing"]).code(), 0);
    assert_eq!(bench.reproduce().failed, 1);
    bench.place.write("data/later.csv", &[2; 2500]);
    bench.place.write("data/run/last.csv", b"last");
    assert_eq!(bench.upload(&["--only-missing"]).code(), 0);
    let hour_ago = now_ms() - 3_600_000;
    bench.send(&bench.topic, 0, "half.csv", &[b"one", b"two"], &[(1, hour_ago)]);
    let before = bench.log.group(&bench.group, &[&bench.topic]).unwrap();
    let topics = bench.own_topics();

    let found = bench.standing(1, &[]);
    let group = &found["group"];
    let lag = &group["lag"];
    assert_eq!((lag["files"].as_u64(), lag["messages"].as_u64()), (Some(3), Some(5)), "{found}");
    assert_eq!((lag["bytes"].as_u64(), lag["estimated"].as_bool()), (Some(2507), Some(false)));
    assert!((3600.0..7200.0).contains(&lag["seconds"].as_f64().unwrap()), "{lag}");
    assert_eq!((group["failed"].as_u64(), group["incomplete"].as_u64()), (Some(1), Some(0)));
    assert_eq!(group["failures"][0]["path"], "bad.csv");
    assert_eq!(group["in_progress"], 0, "the group has not come to it");
    assert!(group["members"].as_array().unwrap().is_empty());
    let group = bench.group.as_str();
    let expected = ["files_failed", "cut_off", "no_program"].map(|kind| [kind, "group", group]);
    assert_eq!(kinds(&found), expected, "{found}");
    let problems = said(&found);
    assert!(problems.contains(&format!("no program of group `{}` runs: start it", bench.group)), "{problems}");
    assert!(problems.contains("`datamill retry --list --topic_name "), "{problems}");
    assert_eq!(bench.standing(1, &["--exact"])["group"]["lag"]["files"], 3);

    bench.reproduce();
    let begun = bench.standing(1, &[]);
    let group = &begun["group"];
    assert_eq!((group["in_progress"].as_u64(), group["lag"]["files"].as_u64()), (Some(1), Some(1)), "{begun}");
    let file = &group["in_progress_files"][0];
    assert_eq!((&file["path"], &file["chunks"], &file["n_chunks"]), (&"half.csv".into(), &1.into(), &2.into()));
    assert_eq!((&file["cut_off"], &group["cut_off"]), (&true.into(), &1.into()));
    let table = bench.run(&bench.status(&[]));
    assert_eq!(table.code(), 1, "{}", table.stderr());
    let sentence = format!(
        "group `{}` on topic `{}`: 1 file waits (3 B), the oldest for 1 h 0 min; 1 was probably cut off; 1 failed; no program runs\n",
        bench.group, bench.topic
    );
    assert!(table.stdout().starts_with(&sentence), "{}", table.stdout());
    for part in ["bad.csv  computing_result_message_failed  no calibration", "half.csv  1/2", "partition  position"] {
        assert!(table.stdout().contains(part), "{part}: {}", table.stdout());
    }
    assert_eq!(bench.own_topics(), topics, "it makes no topic");
    let other = bench.log.group("nobody", &[&bench.topic]).unwrap();
    assert!(other.committed.is_empty(), "it commits nothing");
    assert!(!before.committed.is_empty());
}

fn an_upload_that_was_cut_off_needs_a_person_until_what_is_missing_is_sent(bench: &Bench) {
    let content = [7; 2500];
    let pieces: Vec<&[u8]> = content.chunks(1024).collect();
    let ago = |minutes: i64| now_ms() - minutes * 60_000;
    let path_in = |partition: i32, name: &str| {
        let mut paths = (0..).map(|number| format!("run/{name}{number}.csv"));
        paths.find(|path| partition_for(path, 2) == partition).unwrap()
    };
    let (cut, goes_on, changed) = (&path_in(0, "cut"), &path_in(0, "on"), &path_in(1, "changed"));
    bench.place.write(&format!("data/{cut}"), &content);
    bench.place.write(&format!("data/{changed}"), b"newer");
    // what was cut off lacks its last chunk, and so does the older version of what has changed since
    let send = |path: &str, pieces: &[&[u8]], sent: &[(usize, i64)]| {
        bench.send(&bench.topic, partition_for(path, 2), path, pieces, sent);
    };
    send(cut, &pieces, &[(1, ago(31)), (2, ago(30))]);
    send(changed, &[b"ol", b"der"], &[(1, ago(30))]);
    send(goes_on, &[b"on", b"e"], &[(1, ago(2))]);
    assert_eq!(bench.reproduce().incomplete.len(), 3);

    let found = bench.standing(1, &[]);
    let group = &found["group"];
    assert_eq!((&group["lag"]["files"], &group["in_progress"], &group["cut_off"]), (&3.into(), &3.into(), &2.into()));
    let named = |list: &str, path: &str| -> Value {
        group[list].as_array().unwrap().iter().find(|file| file["path"] == path).cloned().unwrap_or_default()
    };
    let file = named("cut_off_files", cut);
    assert_eq!((&file["chunks"], &file["n_chunks"], &file["cut_off"]), (&2.into(), &3.into(), &true.into()), "{found}");
    assert!(file["last_chunk"].as_str().unwrap() > file["begun"].as_str().unwrap(), "{found}");
    assert_eq!(named("cut_off_files", goes_on), Value::Null);
    assert_eq!(named("in_progress_files", goes_on)["cut_off"], false, "{found}");
    let name = bench.group.as_str();
    assert_eq!(kinds(&found), [["cut_off", "group", name], ["no_program", "group", name]]);
    let problems = said(&found);
    let topic = &bench.topic;
    let [compare, send] = [
        format!("reconcile DIR --topic_name {topic} --problems"),
        format!("upload DIR --topic_name {topic} --only-missing"),
    ];
    for part in [
        &format!("`{cut}` (2 of 3 chunks, none since "),
        &format!("`{changed}` (1 of 2"),
        "probably cut off",
        &compare,
        &send,
    ] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
    let table = bench.run(&bench.status(&[]));
    let table = table.stdout();
    assert!(table.contains("; 2 were probably cut off; no program runs\n"), "{table}");
    let (_, rows) = table.split_once("uploads that were probably cut off\n").unwrap();
    assert!(
        rows.contains(cut.as_str()) && rows.contains("  2/3  ") && rows.contains(" min ") && !rows.contains(goes_on),
        "{rows}"
    );

    let rows = bench.objects(1, &["reconcile", "data", "--topic_name", topic, "--problems", "--json"]);
    let state = |path: &str| rows.iter().find(|row| row["path"] == path).map(|row| row["state"].clone());
    assert_eq!(state(cut), Some("incomplete".into()), "{rows:?}");
    assert_eq!(state(changed), Some("changed_since".into()), "{rows:?}");
    let sent = bench.upload(&["--only-missing"]);
    assert_eq!(sent.code(), 0, "{}", sent.stderr());
    assert_eq!(bench.reproduce().incomplete.len(), 1);
    let done = bench.standing(1, &[]);
    let group = &done["group"];
    assert_eq!(
        (&group["lag"]["files"], &group["cut_off"], &group["failed"]),
        (&1.into(), &0.into(), &0.into()),
        "{done}"
    );
    assert_eq!(group["in_progress_files"][0]["path"], goes_on.as_str(), "what goes on is not cut off");
    // what is left of the repeated upload waits for nothing, and the older version has ended for the newer one
    assert_eq!((&group["lag"]["messages"], &group["partitions"][0]["position"]), (&1.into(), &0.into()), "{done}");
    assert_eq!(group["partitions"][1]["position"], group["partitions"][1]["read_to"], "{done}");
    assert!(said(&done).contains("no program of group") && !said(&done).contains("cut off"), "{done}");
}

fn what_is_left_over_does_not_make_a_new_file_old(bench: &Bench) {
    let ago = |minutes: i64| now_ms() - minutes * 60_000;
    let pieces: &[&[u8]] = &[b"one", b"two", b"three"];
    let send = |path: &str, sent: &[(usize, i64)]| bench.send(&bench.topic, 0, path, pieces, sent);
    // one that was cut off and sent again, and one of which a part was sent again
    send("repaired.csv", &[(1, ago(90)), (2, ago(90))]);
    bench.reproduce();
    send("repaired.csv", &[(1, ago(80)), (2, ago(80)), (3, ago(80))]);
    send("whole.csv", &[(1, ago(70)), (2, ago(70)), (3, ago(70))]);
    assert_eq!(bench.reproduce().succeeded, 2);
    send("whole.csv", &[(1, ago(60)), (2, ago(60))]);
    for round in ["not read", "read"] {
        let lag = bench.standing(0, &[])["group"]["lag"].clone();
        assert_eq!((&lag["files"], &lag["seconds"]), (&0.into(), &0.0.into()), "{round}: {lag}");
        bench.reproduce();
    }
    send("new.csv", &[(1, ago(5)), (2, ago(5)), (3, ago(5))]);
    for more in [&[][..], &["--exact"]] {
        let lag = bench.standing(1, more)["group"]["lag"].clone();
        assert_eq!((&lag["files"], &lag["messages"]), (&1.into(), &3.into()), "{lag}");
        assert!((300.0..360.0).contains(&lag["seconds"].as_f64().unwrap()), "{lag}");
    }
}

/// More files, of a message each, than are read unless all of it is asked for.
fn send_very_many(bench: &Bench, files: usize) {
    let files: Vec<(String, Vec<u8>)> = (0..files)
        .map(|number| {
            let path = format!("{number}.csv");
            let value = chunk(&path, b"abcd", &[b"abcd"], 1);
            (path, value)
        })
        .collect();
    // no more at once than the queue of a sender takes
    for some in files.chunks(500) {
        bench.publish(some.iter().map(|(path, value)| NewRecord {
            topic: &bench.topic,
            partition: Some(0),
            key: Some(path.as_bytes()),
            value: Some(value),
            ..NewRecord::default()
        }));
    }
}

#[test]
fn a_file_that_may_be_cut_off_has_more_of_the_topic_read() {
    let bench = Bench::new(false);
    bench.set_plain_position(&bench.group, 0, 0);
    bench.send(&bench.topic, 0, "half.csv", &[b"one", b"two"], &[(1, now_ms() - 3_600_000)]);
    send_very_many(&bench, 12_000);
    let group = bench.standing(1, &[])["group"].clone();
    assert_eq!((&group["cut_off"], &group["lag"]["estimated"]), (&1.into(), &false.into()), "{group}");
    assert_eq!(group["lag"]["files"], 12_001);
}

#[test]
fn what_is_left_over_does_not_make_a_long_backlog_old() {
    let bench = Bench::new(false);
    let hours_ago = |hours: i64| now_ms() - hours * 3_600_000;
    let send = |sent: &[(usize, i64)]| bench.send(&bench.topic, 0, "whole.csv", &[b"one", b"two"], sent);
    send(&[(1, hours_ago(3)), (2, hours_ago(3))]);
    assert_eq!(bench.reproduce().succeeded, 1);
    send(&[(1, hours_ago(2))]);
    // so many that not all is read, also to see whether the first one was cut off
    send_very_many(&bench, 82_000);
    let lag = bench.standing(1, &[])["group"]["lag"].clone();
    assert_eq!(lag["estimated"], true, "{lag}");
    assert!(lag["seconds"].as_f64().unwrap() < 3600.0, "{lag}");
}

#[test]
fn what_was_not_read_is_estimated_unless_all_is_asked_for() {
    let bench = Bench::new(false);
    bench.set_plain_position(&bench.group, 0, 0);
    send_very_many(&bench, 12_000);
    let lag = bench.standing(1, &[])["group"]["lag"].clone();
    assert_eq!((lag["estimated"].as_bool(), lag["messages"].as_u64()), (Some(true), Some(12_000)), "{lag}");
    assert_eq!(lag["files"], 12_000, "files are alike, so the estimate is right");
    let exact = bench.standing(1, &["--exact"])["group"]["lag"].clone();
    assert_eq!((exact["estimated"].as_bool(), exact["files"].as_u64()), (Some(false), Some(12_000)), "{exact}");
    assert_eq!(exact["bytes"], 48_000);
}

on_both_logs!(
    what_waits_failed_and_is_begun_is_seen_from_outside,
    an_upload_that_was_cut_off_needs_a_person_until_what_is_missing_is_sent,
    what_is_left_over_does_not_make_a_new_file_old,
);
