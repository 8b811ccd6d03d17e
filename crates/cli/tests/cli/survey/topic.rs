//! A topic as a file system.

use std::time::Duration;

use datamill::broker::NewRecord;
use datamill::report::clock::now_ms;
use serde_json::Value;

use super::bench::{Bench, chunk, on_both_logs};

fn listed(rows: &[Value]) -> Vec<(&str, u64, bool)> {
    let row = |row: &'_ Value| (row["version"].as_u64().unwrap(), row["whole"].as_bool().unwrap());
    rows.iter()
        .map(|object| {
            let (version, whole) = row(object);
            (object["path"].as_str().unwrap(), version, whole)
        })
        .collect()
}

fn send_value(bench: &Bench, value: &[u8]) {
    let (topic, key, value) = (bench.topic.as_str(), Some(&b"k"[..]), Some(value));
    bench.publish([NewRecord { topic, partition: Some(0), key, value, ..NewRecord::default() }]);
}

fn files_are_listed_with_their_versions_and_got_back(bench: &Bench) {
    let (old, new) = (vec![1; 3000], vec![2; 2500]);
    bench.place.write("data/run/a.csv", &old);
    bench.place.write("data/b ü.csv", b"b");
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.place.write("data/run/a.csv", &new);
    assert_eq!(bench.upload(&["--upload_regex", "run/.*"]).code(), 0);
    let third = [b"x".repeat(500), b"y".repeat(500), b"z".repeat(500)];
    let third: Vec<&[u8]> = third.iter().map(Vec::as_slice).collect();
    bench.send(&bench.topic, 1, "run/a.csv", &third, &[(1, now_ms()), (3, now_ms())]);
    send_value(bench, b"no chunk");

    let topic = bench.topic.as_str();
    let rows = bench.objects(0, &["ls", topic, "--json"]);
    let whole = [("b ü.csv", 1, true), ("run/a.csv", 1, true), ("run/a.csv", 2, true)];
    assert_eq!(listed(&rows)[..3], whole);
    assert_eq!((rows[1]["size"].as_u64(), rows[1]["n_chunks"].as_u64()), (Some(3000), Some(3)));
    assert_eq!(listed(&rows)[3], ("run/a.csv", 3, false));
    let reason = rows[3]["reason"].as_str().unwrap();
    assert_eq!(reason, "chunk 2 of 3 is missing: the upload has not ended, or was cut off");
    assert_eq!(rows.len(), 4);
    assert_eq!(bench.objects(0, &["ls", topic, "run", "--json"]).len(), 3);
    assert_eq!(bench.objects(0, &["ls", topic, "*ü*", "--json"]).len(), 1);
    let none = bench.run(&["ls", topic, "none*"]);
    assert_eq!((none.code(), none.stdout().as_str()), (1, ""), "{}", none.stderr());
    let table = bench.run(&["ls", topic]);
    for part in ["run/a.csv        2  yes           2.5 kB", "run/a.csv        3  2/3"] {
        assert!(table.stdout().contains(part), "{part}: {}", table.stdout());
    }
    let others = |ended: &crate::common::Ended| ended.stderr().contains(" of 10 messages is not a chunk of files; ");
    assert!(others(&table) && others(&bench.run(&["verify", topic])), "{}", table.stderr());

    // the newest whole one, then one by its number
    let got = bench.run(&["get", topic, "run/a.csv"]);
    assert_eq!(got.code(), 0, "{}", got.stderr());
    assert_eq!(std::fs::read(bench.place.path("a.csv")).unwrap(), new);
    let time = |path: &str| std::fs::metadata(bench.place.path(path)).unwrap().modified().unwrap();
    let apart = time("a.csv").max(time("data/run/a.csv")).duration_since(time("a.csv").min(time("data/run/a.csv")));
    assert!(apart.unwrap() < Duration::from_micros(1), "messages carry times as floating-point numbers");
    let again = bench.run(&["get", topic, "run/a.csv", "--version", "1"]);
    assert_eq!(again.code(), 2);
    assert!(again.stderr().contains("`a.csv` is there already"), "{}", again.stderr());
    let first = bench.run(&["get", topic, "run/a.csv", "--version", "1", "-o", "a.csv"]);
    assert_eq!(first.code(), 0, "{}", first.stderr());
    assert_eq!(std::fs::read(bench.place.path("a.csv")).unwrap(), old);
    assert_eq!(bench.run(&["get", topic, "b ü.csv", "-o", "-"]).stdout(), "b");
    for (args, words) in [
        (&["run/a.csv", "--version", "3", "-o", "x"][..], "is not whole on topic"),
        (&["run/a.csv", "--version", "4", "-o", "x"], "has no version 4"),
        (&["none.csv"], "is not on topic"),
    ] {
        let missing = bench.run(&[&["get", topic], args].concat());
        assert_eq!(missing.code(), 1, "{}", missing.stderr());
        assert!(missing.stderr().contains(words), "{words}: {}", missing.stderr());
    }
    assert!(!bench.place.path("x").exists());
}

fn a_changed_byte_of_the_same_size_is_found(bench: &Bench) {
    bench.place.write("data/good.csv", &[7; 5000]);
    assert_eq!(bench.upload(&[]).code(), 0);
    let topic = bench.topic.as_str();
    let good = bench.run(&["verify", topic]);
    assert_eq!((good.code(), good.stdout().as_str()), (0, ""), "{}", good.stderr());
    assert!(good.stderr().contains("1 upload: 1 right, 0 damaged, 0 incomplete"), "{}", good.stderr());

    // one whose chunk does not have its own hash, and one whose chunks have theirs and the file has not
    let mut wrong = chunk("flipped.csv", b"abcdef", &[b"abc", b"def"], 2);
    let at = wrong.windows(3).position(|bytes| bytes == b"def").unwrap();
    wrong[at] = b'x';
    send_value(bench, &chunk("flipped.csv", b"abcdef", &[b"abc", b"def"], 1));
    send_value(bench, &wrong);
    send_value(bench, &chunk("other.csv", b"abd", &[b"abc"], 1));
    bench.send(topic, 0, "half.csv", &[b"1", b"2"], &[(2, now_ms())]);
    let rows = bench.objects(1, &["verify", topic, "--json"]);
    let states: Vec<(&str, &str)> =
        rows.iter().map(|row| (row["path"].as_str().unwrap(), row["state"].as_str().unwrap())).collect();
    let mut sorted = states.clone();
    sorted.sort_unstable();
    let expected =
        [("flipped.csv", "damaged"), ("good.csv", "right"), ("half.csv", "incomplete"), ("other.csv", "damaged")];
    assert_eq!(sorted, expected);
    let table = bench.run(&["verify", topic]);
    assert!(table.stdout().contains("chunk 2 of 2 does not agree with its own hash"), "{}", table.stdout());
    assert!(table.stdout().contains("each chunk agrees with its own hash"), "{}", table.stdout());
    let got = bench.run(&["get", topic, "flipped.csv"]);
    assert_eq!(got.code(), 1);
    assert!(got.stderr().contains("is damaged: "), "{}", got.stderr());
    assert!(!bench.place.path("flipped.csv").exists());
}

fn a_topic_of_results_is_not_taken_for_one_of_files(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    bench.place.write("data/b.csv", b"b");
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.reproduce();
    let (results, ends) = (bench.results.as_str(), bench.log.offsets(&bench.results, 0).unwrap());
    for args in [
        &["ls", results][..],
        &["verify", results],
        &["get", results, "a.csv", "-o", "x"],
        &["reconcile", "data", "--topic_name", results],
        &["upload", "data", "--topic_name", results, "--only-missing"],
    ] {
        let ended = bench.run(args);
        assert_eq!((ended.code(), ended.stdout().as_str()), (2, ""), "{args:?}: {}", ended.stderr());
        let words = format!("topic `{results}` has no files: 2 of 2 messages are not chunks of files. Check the name");
        assert!(ended.stderr().contains(&words), "{args:?}: {}", ended.stderr());
        assert!(ended.stderr().contains(&format!("`datamill read {results} --config test.config`")), "{args:?}");
    }
    assert_eq!(bench.log.offsets(&bench.results, 0).unwrap(), ends, "nothing is sent there");
}

on_both_logs!(
    files_are_listed_with_their_versions_and_got_back,
    a_changed_byte_of_the_same_size_is_found,
    a_topic_of_results_is_not_taken_for_one_of_files,
);

#[test]
fn chunks_that_the_topic_has_removed_are_told_from_those_that_never_came() {
    let bench = Bench::new(false);
    bench.create("old", 1, &[("retention.ms", "3600000")]);
    let (now, before) = (now_ms(), now_ms() - 7_200_000);
    bench.send("old", 0, "straddles.csv", &[b"1", b"2", b"3"], &[(1, before), (2, before), (3, now)]);
    bench.send("old", 0, "cut off.csv", &[b"1", b"2"], &[(1, now)]);
    let rows = bench.objects(0, &["ls", "old", "--json"]);
    let reasons: Vec<&str> = rows.iter().map(|row| row["reason"].as_str().unwrap()).collect();
    assert_eq!(
        reasons,
        [
            "chunk 2 of 2 is missing: the upload has not ended, or was cut off",
            "chunks 1-2 of 3 are gone: the topic begins at offset 0:2 now"
        ]
    );
}

#[test]
fn a_folder_that_is_not_there_is_named_as_the_user_named_it() {
    let bench = Bench::new(false);
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    let topic = bench.topic.as_str();
    let config = ["--config", "test.config"];
    for args in [&["ls", topic][..], &["verify", topic], &["reconcile", "data", "--topic_name", topic]] {
        let mut command = bench.place.command(&[args, &config].concat());
        let ended = crate::common::Ended::from(command.env("TMPDIR", "/no/folder").output().unwrap());
        let said = ended.stderr();
        assert!(ended.code() == 2 && said.contains("`/no/folder`") && said.contains("TMPDIR"), "{said}");
        assert!(said.ends_with("No such file or directory\n"), "{said}");
    }
    let got = bench.run(&["get", topic, "a.csv", "-o", "no/a.csv"]);
    assert!(
        got.code() == 2 && got.stderr().ends_with("cannot write `no/a.csv`: No such file or directory\n"),
        "{}",
        got.stderr()
    );
}

#[test]
fn an_output_that_nobody_reads_is_no_error() {
    let bench = Bench::new(false);
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    let topic = bench.topic.as_str();
    let reconcile = ["reconcile", "data", "--topic_name", topic];
    let (csv, json) = ([&reconcile[..], &["--csv"]].concat(), [&reconcile[..], &["--json"]].concat());
    for args in
        [&["ls", topic][..], &["verify", topic, "--json"], &["get", topic, "a.csv", "-o", "-"], &reconcile, &csv, &json]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let args = [args, &["--config", "test.config"]].concat();
        let ended = crate::common::Ended::from(bench.place.command(&args).stdout(writer).output().unwrap());
        assert_eq!(ended.code(), 0, "{args:?}: {}", ended.stderr());
        assert!(!ended.stderr().contains("error"), "{args:?}: {}", ended.stderr());
    }
}

#[test]
fn a_topic_that_is_not_there_is_a_mistake() {
    let bench = Bench::new(false);
    for args in
        [&["ls", "nun"][..], &["get", "nun", "a"], &["verify", "nun"], &["reconcile", ".", "--topic_name", "nun"]]
    {
        let ended = bench.run(args);
        assert_eq!(ended.code(), 2, "{}", ended.stderr());
        assert!(ended.stderr().contains("`nun`"), "{}", ended.stderr());
    }
}
