//! What failed, and what is asked for again, as `datamill status` shows it.

use std::fs;

use datamill::engine::DeliveryGuarantee;
use serde_json::Value;

use super::super::bench::{Bench, on_both_logs};
use super::{kinds, said};

fn which_files_failed_is_not_taken_for_none_where_it_is_not_in_the_log(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    bench.place.write("data/bad.csv", b"b");
    assert_eq!(bench.upload(&[]).code(), 0);
    let run = bench.reproduce_with(DeliveryGuarantee::AtLeastOnce);
    assert_eq!((run.succeeded, run.failed), (1, 1), "{run}");
    let (topic, name) = (bench.topic.as_str(), bench.group.as_str());
    let found = bench.standing(1, &[]);
    let group = &found["group"];
    assert_eq!((&group["failed"], &group["incomplete"]), (&Value::Null, &Value::Null), "{found}");
    let sentence = group["sentence"].as_str().unwrap();
    assert!(sentence.ends_with("nothing waits; whether files failed is not seen here; no program runs"), "{sentence}");
    assert_eq!(kinds(&found), [["failures_not_seen", "group", name]]);
    let table = format!("LOGS/failed_from_{topic}_by_{name}.csv");
    assert!(said(&found).contains(&table) && bench.place.path(&format!("output/{table}")).exists(), "{found}");

    let of = ["--topic_name", topic, "--consumer_group_id", name];
    for args in [&["--list"][..], &[]] {
        let asked = bench.run(&[&["retry"], &of[..], args].concat());
        assert_eq!((asked.code(), asked.stdout().as_str()), (1, ""), "{}", asked.stderr());
        assert!(asked.stderr().contains(&table) && !asked.stderr().contains("no failed"), "{}", asked.stderr());
    }
    let states = |more: &[&str]| -> Vec<(String, String)> {
        let rows = bench.objects(1, &[&["reconcile", "data"], &of[..], &["--json"], more].concat());
        let cell = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        rows.iter().map(|row| (cell(row, "state"), cell(row, "reason"))).collect()
    };
    let passed = ("passed".to_owned(), "whether it failed is not seen here".to_owned());
    assert_eq!(states(&[]), [passed.clone(), passed]);
    let [a, bad] = &states(&["--results", &bench.results])[..] else { panic!("two rows") };
    assert_eq!(a.0, "result");
    assert!(bad.0 == "no_result" && bad.1.contains("has no result of it: it failed, was left out by"), "{bad:?}");
    let summary = bench.run(&[&["reconcile", "data"], &of[..]].concat());
    assert!(summary.stderr().contains("2 were passed by the group") && summary.stderr().contains(&table));

    // what cannot be seen is no matter for each file
    let problems = bench.run(&[&["reconcile", "data"], &of[..], &["--problems"]].concat());
    assert_eq!((problems.code(), problems.stdout().as_str()), (1, ""), "{}", problems.stderr());
    assert!(problems.stderr().contains("2 were passed by the group (whether they failed is not seen here)"));

    // what is committed exactly once is counted
    bench.place.write("data/bad too.csv", b"c");
    assert_eq!(bench.upload(&["--only-missing"]).code(), 0);
    bench.reproduce();
    assert_eq!(bench.standing(1, &[])["group"]["failed"], 2);
}

fn a_group_that_changes_its_delivery_keeps_its_failures_in_sight(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    bench.place.write("data/bad.csv", b"b");
    assert_eq!(bench.upload(&[]).code(), 0);
    let (topic, name) = (bench.topic.as_str(), bench.group.as_str());
    let of = ["--topic_name", topic, "--consumer_group_id", name];
    let reconcile = |more: &[&str]| bench.run(&[&["reconcile", "data"], &of[..], &["--problems"], more].concat());
    let output = bench.place.path("output").display().to_string();
    for first in [true, false] {
        if first {
            assert_eq!(bench.reproduce_with(DeliveryGuarantee::AtLeastOnce).failed, 1);
        }
        // the folder's failures are in the log
        bench.reproduce();
        let found = bench.standing(1, &[]);
        assert_eq!((&found["group"]["failed"], kinds(&found)), (&1.into(), vec![["files_failed", "group", name]]));
        let listed = bench.objects(0, &[&["retry"], &of[..], &["--list", "--json"]].concat());
        assert!(listed.len() == 1 && listed[0]["path"] == "bad.csv", "{listed:?}");
        let problems = reconcile(&[]);
        assert!(problems.code() == 1 && problems.stdout().contains("bad.csv  failed"), "{}", problems.stdout());

        // the log's failures are in the folder
        bench.reproduce_with(DeliveryGuarantee::AtLeastOnce);
        let found = bench.standing(1, &[]);
        assert_eq!(
            (&found["group"]["failed"], kinds(&found)),
            (&Value::Null, vec![["failures_not_seen", "group", name]])
        );
        assert!(said(&found).contains(&output), "{found}");
        for args in [&["--list"][..], &[]] {
            let asked = bench.run(&[&["retry"], &of[..], args].concat());
            assert_eq!((asked.code(), asked.stdout().as_str()), (1, ""), "{}", asked.stderr());
            assert!(asked.stderr().contains(&output) && !asked.stderr().contains("no failed"), "{}", asked.stderr());
        }
        let asked = bench.run(&[&["rerun"], &of[..], &["--yes"]].concat());
        assert!(asked.code() == 2 && asked.stderr().contains("nothing is asked for"), "{}", asked.stderr());
        let state = bench.log.group_state(name).unwrap();
        assert!(!state.keys().any(|key| key.starts_with("retry/") || key.starts_with("rerun/")), "{:?}", state.keys());
        let problems = reconcile(&[]);
        assert_eq!((problems.code(), problems.stdout().as_str()), (1, ""), "{}", problems.stderr());
        assert!(problems.stderr().contains("2 were passed by the group (whether they failed is not seen here)"));
        assert!(problems.stderr().contains(&output), "{}", problems.stderr());
        let problems = reconcile(&["--results", &bench.results]);
        assert!(problems.stdout().contains("bad.csv  no_result") && !problems.stdout().contains("a.csv  "));
        let text = problems.stderr();
        assert!(text.contains("1 has no result, or failed (which is not seen here)"), "{text}");
        assert!(!text.contains("a new group makes results again"), "{text}");
    }
    // a folder that is gone
    fs::remove_dir_all(bench.place.path("output")).unwrap();
    bench.reproduce();
    let found = bench.standing(1, &[]);
    assert_eq!((&found["group"]["failed"], kinds(&found)), (&0.into(), vec![["failures_not_seen", "group", name]]));
    assert!(said(&found).contains("may have more failed files in"), "{found}");
    let forgotten = bench.run(&[&["retry"], &of[..], &["--forget", "--yes"]].concat());
    assert_eq!(forgotten.code(), 0, "{}", forgotten.stderr());
    assert_eq!(bench.standing(0, &[])["needs_person"], false);
}

fn what_somebody_asked_for_is_counted_until_it_is_answered(bench: &Bench) {
    for (path, content) in [("data/a.csv", "a"), ("data/b.csv", "b"), ("data/bad.csv", "c")] {
        bench.place.write(path, content.as_bytes());
    }
    assert_eq!(bench.upload(&[]).code(), 0);
    assert_eq!(bench.reproduce().failed, 1);
    let of = ["--topic_name", &bench.topic, "--consumer_group_id", &bench.group];
    // the second request for a file has its answer with the first one
    for path in ["a", "[ab].csv"] {
        let asked = bench.run(&[&["rerun"], &of[..], &["--path", path, "--yes"]].concat());
        assert_eq!(asked.code(), 0, "{}", asked.stderr());
    }
    assert_eq!(bench.run(&[&["retry"], &of[..]].concat()).code(), 0);
    let found = bench.standing(1, &[]);
    let group = &found["group"];
    assert_eq!((group["asked_reruns"].as_u64(), group["asked_retries"].as_u64()), (Some(2), Some(1)), "{found}");
    let sentence = group["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("1 file is to be tried again, as asked for; 2 files are to be run again, as asked for"),
        "{sentence}"
    );
    let name = bench.group.as_str();
    assert_eq!(kinds(&found), [["files_failed", "group", name], ["no_program", "group", name]]);
    assert_eq!(bench.reproduce().rerun, 2);
    let found = bench.standing(1, &[]);
    let group = &found["group"];
    assert_eq!((group["asked_reruns"].as_u64(), group["asked_retries"].as_u64()), (Some(0), Some(0)), "{found}");
}

on_both_logs!(
    which_files_failed_is_not_taken_for_none_where_it_is_not_in_the_log,
    a_group_that_changes_its_delivery_keeps_its_failures_in_sight,
    what_somebody_asked_for_is_counted_until_it_is_answered,
);
