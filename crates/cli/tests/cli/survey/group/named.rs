//! What is named wrongly, cannot be looked at or has not started, and a watched folder.

use std::fs;

use datamill::engine::DeliveryGuarantee;
use datamill::survey::ProblemKind;
use serde_json::Value;

use super::super::bench::{Bench, on_both_logs};
use super::{kinds, said};
use crate::common::{Running, wait_until};

fn groups_whose_state_is_not_in_the_log_are_named_as_well(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.reproduce_with(DeliveryGuarantee::AtLeastOnce);
    let plain = format!("plain-{}", bench.group);
    bench.set_plain_position(&plain, 0, 0);
    let readers = format!("Groups that have read topic `{}`: `{}`, `{plain}`", bench.topic, bench.group);
    let of = ["--topic_name", &bench.topic];
    let mistyped = ["--consumer_group_id", "mistyped"];
    for args in [
        &["status", "--topic_name", &bench.topic][..],
        &[&["status"], &of[..], &mistyped].concat(),
        &[&["reconcile", "data"], &of[..], &mistyped].concat(),
        &[&["retry"], &of[..]].concat(),
    ] {
        let ended = bench.run(args);
        assert!(ended.code() > 0 && ended.stderr().contains(&readers), "{args:?}: {}", ended.stderr());
    }
    let check = bench.run(&[&["check"], &of[..], &mistyped].concat());
    assert!(check.code() == 0 && check.stdout().contains(&readers), "{}", check.stdout());
}

fn mistakes_are_named_with_what_was_perhaps_meant(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.reproduce();
    let topic = bench.topic.as_str();
    for (args, words) in [
        (&["--topic_name", topic][..], "neither a consumer group nor a folder is named"),
        (&["--topic_name", "nun", "--consumer_group_id", &bench.group], "there is no topic `nun`"),
        (&["data", "--topic_name", topic], "no watch has sent files of folder `data`"),
        (
            &["data", "--topic_name", topic],
            &format!("`datamill reconcile data --topic_name {topic} --config test.config`"),
        ),
        (&["none", "--topic_name", topic], "cannot read `none`"),
    ] {
        let ended = bench.run(&[&["status"], args].concat());
        assert_eq!(ended.code(), 2, "{args:?}: {}", ended.stderr());
        assert!(ended.stderr().contains(words) && ended.stdout().is_empty(), "{words}: {}", ended.stderr());
    }
    let unnamed = bench.run(&["status", "--topic_name", topic]);
    assert!(unnamed.stderr().contains(&format!("Group `{}` has read topic", bench.group)), "{}", unnamed.stderr());
}

fn a_group_that_has_not_started_says_what_waits_for_it(bench: &Bench) {
    let empty = bench.standing(0, &[]);
    let sentence = empty["group"]["sentence"].as_str().unwrap();
    assert!(sentence.ends_with("it has not started yet; nothing waits; no program runs"), "{sentence}");
    bench.place.write("data/a.csv", &[1; 2000]);
    assert_eq!(bench.upload(&[]).code(), 0);
    let found = bench.standing(1, &[]);
    assert_eq!(found["group"]["has_not_started"], true, "{found}");
    let sentence = found["group"]["sentence"].as_str().unwrap();
    assert!(sentence.contains("it has not started yet; 1 file waits (2.0 kB)"), "{sentence}");
    assert_eq!(kinds(&found), [["not_started", "group", bench.group.as_str()]]);
    bench.reproduce();
    let args = ["status", "--topic_name", &bench.topic, "--consumer_group_id", "mistyped"];
    let mistyped = bench.run(&args);
    assert_eq!(mistyped.code(), 1, "{}", mistyped.stderr());
    assert!(
        mistyped.stderr().contains(&format!("Group `{}` has read topic `{}`", bench.group, bench.topic)),
        "{}",
        mistyped.stderr()
    );
}

fn a_part_that_cannot_be_looked_at_is_one_problem_and_the_rest_is_shown(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.reproduce();
    let mistyped = format!("beats-{}", bench.topic);
    let found = bench.standing(1, &["--heartbeat_topic_name", &mistyped]);
    assert_eq!(found["group"]["lag"]["messages"], 0, "{found}");
    assert_eq!(kinds(&found), [["not_seen", "heartbeat_topic", mistyped.as_str()]]);
    assert!(said(&found).contains(&format!("there is no topic `{mistyped}`")), "{found}");
    let args = ["status", "data", "--topic_name", &bench.topic, "--consumer_group_id", &bench.group, "--json"];
    let found = &bench.objects(1, &args)[0];
    assert_eq!(kinds(found), [["not_seen", "folder", "data"]]);
    assert_eq!(found["group"]["lag"]["messages"], 0, "{found}");
}

fn a_watched_folder_is_seen_while_its_watch_runs_and_afterwards(bench: &Bench) {
    bench.place.write("data/old.csv", b"old");
    let config = ["--config", "test.config"];
    let watch = ["watch", "data", "--topic_name", &bench.topic, "--watchdog_lag_time", "0.1"];
    let first = bench.place.run(&[&watch[..], &["--exit-at-end"], &config].concat());
    assert_eq!(first.code(), 0, "{}", first.stderr());
    let running = Running(bench.place.start(&[&watch[..], &config].concat()));
    bench.place.write("data/run/new.csv", b"new");
    let status = ["status", "data", "--topic_name", &bench.topic, "--json"];
    let folder = |code| bench.objects(code, &status)[0]["folder"].clone();
    wait_until("it is delivered", || {
        let ended = bench.run(&status);
        let found: Value = serde_json::from_str(&ended.stdout()).unwrap_or_default();
        found["folder"]["delivered"] == 1
    });
    let found = folder(0);
    assert_eq!(
        (&found["existing"], &found["waiting"], &found["refused"]),
        (&1.into(), &0.into(), &0.into()),
        "{found}"
    );
    if cfg!(target_os = "linux") {
        assert_eq!(found["running"], true);
    }
    assert_eq!(running.end(), 0);
    let files = || fs::read_dir(bench.place.path("data/LOGS")).unwrap().count();
    let before = files();
    bench.place.write("data/run/new.csv", b"changed");
    std::os::unix::fs::symlink("nowhere", bench.place.path("data/broken")).unwrap();
    fs::create_dir_all(bench.place.path("data/sub")).unwrap();
    use std::os::unix::ffi::OsStrExt;
    fs::write(bench.place.path("data/sub").join(std::ffi::OsStr::from_bytes(b"\xff.csv")), b"x").unwrap();
    let found = folder(1);
    assert_eq!((&found["delivered"], &found["waiting"]), (&0.into(), &1.into()), "{found}");
    assert_eq!((&found["waiting_files"][0], &found["waiting_bytes"]), (&"run/new.csv".into(), &7.into()));
    assert!(found["refused"].as_u64().unwrap() >= 1, "{found}");
    assert_eq!(files(), before, "it makes nothing");
    let table = bench.run(&status[..4]);
    assert!(table.stdout().starts_with("folder `data`: 0 files delivered; 1 file waits (7 B)"), "{}", table.stdout());
    if cfg!(target_os = "linux") {
        assert!(table.stderr().contains("no watch of folder `data` runs on this machine"), "{}", table.stderr());
    }
}

#[test]
fn the_documents_list_each_kind_of_problem() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md");
    let text = fs::read_to_string(path).unwrap();
    for kind in ProblemKind::ALL {
        assert!(text.contains(&format!("\n| `{}` |", kind.as_str())), "{kind:?}");
    }
}

on_both_logs!(
    groups_whose_state_is_not_in_the_log_are_named_as_well,
    mistakes_are_named_with_what_was_perhaps_meant,
    a_group_that_has_not_started_says_what_waits_for_it,
    a_part_that_cannot_be_looked_at_is_one_problem_and_the_rest_is_shown,
    a_watched_folder_is_seen_while_its_watch_runs_and_afterwards,
);
