//! Members, their heartbeats, and programs that are asked.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use super::super::bench::{Bench, on_both_logs};
use super::{kinds, said};
use crate::common::{Running, wait_until};

fn members_that_run_and_their_heartbeats_are_seen(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    let beats = format!("beats-{}", bench.topic);
    bench.create(&beats, 1, &[]);
    let args = ["download", "mirror", "--topic_name", &bench.topic, "--consumer_group_id", &bench.group];
    let more = ["--heartbeat_topic_name", &beats, "--heartbeat_program_id", "mirror_1", "--config", "test.config"];
    let mut command = bench.place.command(&[&args[..], &more].concat());
    let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_until("the file is there", || bench.place.path("mirror/a.csv").exists());
    let args = bench.status(&["--heartbeat_topic_name", &beats, "--json", "--config", "test.config"]);
    let look = || -> Value { serde_json::from_str(&bench.place.run(&args).stdout()).unwrap_or_default() };
    wait_until("everything is done and told", || {
        let found = look();
        found["group"]["lag"]["files"] == 0 && found["heartbeats"][0]["program"] == "mirror_1"
    });
    let found = look();
    assert_eq!(found["needs_person"], false, "{found}");
    let [member] = &found["group"]["members"].as_array().unwrap()[..] else { panic!("one member: {found}") };
    assert!(member["instance"].as_str().is_some_and(|name| !name.is_empty()), "{member}");
    assert!(["this machine", "127.0.0.1"].contains(&member["host"].as_str().unwrap()), "{member}");
    assert!(found["heartbeats"][0]["message"]["n_messages_read"].is_u64(), "{found}");
    assert_eq!(found["heartbeats"][0]["ended"], false, "{found}");
    // a place that is kept for a session is not a program that runs
    rustix::process::kill_process(rustix::process::Pid::from_child(&running.0), rustix::process::Signal::TERM).unwrap();
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    let found = look();
    assert_eq!(found["heartbeats"][0]["ended"], true, "{found}");
    assert!(found["group"]["members"].as_array().unwrap().is_empty(), "{found}");
    assert!(found["group"]["sentence"].as_str().unwrap().ends_with("; no program runs"), "{found}");
}

fn what_is_asked_and_is_of_something_else_needs_a_person(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.reproduce();
    let other = format!("other-{}", bench.topic);
    bench.create(&other, 1, &[]);
    let name = bench.group.as_str();
    let args = ["status", "--topic_name", &other, "--consumer_group_id", name, "--json"];
    let found = &bench.objects(1, &args)[0];
    assert_eq!(kinds(found), [["other_topic", "group", name]], "{found}");
    let words = format!("has no position on topic `{other}`, and has some on `{}`: check --topic_name", bench.topic);
    assert!(said(found).contains(&words), "{found}");
    for (topic, words) in [(&bench.results, "its message is none"), (&other, "is empty")] {
        let found = bench.standing(1, &["--heartbeat_topic_name", topic]);
        assert_eq!(kinds(&found), [["no_heartbeats", "heartbeat_topic", topic.as_str()]], "{found}");
        assert!(said(&found).contains(words), "{found}");
    }
}

fn a_program_that_holds_says_why_in_its_heartbeats_and_where_it_is_asked(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    let beats = format!("beats-{}", bench.topic);
    bench.create(&beats, 1, &[]);
    let args = ["download", "mirror", "--topic_name", &bench.topic, "--consumer_group_id", &bench.group];
    let beat =
        ["--heartbeat_topic_name", &beats, "--heartbeat_program_id", "mirror_1", "--heartbeat_interval_secs", "1"];
    let more = ["--status_listen", "0", "--config", "test.config"];
    let mut command = bench.place.command(&[&args[..], &beat, &more].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    let running = Running(child);
    let address = lines.find_map(|line| Some(line.split_once("url=")?.1.to_owned())).unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    wait_until("the file is there", || bench.place.path("mirror/a.csv").exists());
    fs::rename(bench.place.path("mirror"), bench.place.path("away")).unwrap();
    bench.place.write("data/b.csv", b"b");
    assert_eq!(bench.upload(&["--only-missing"]).code(), 0);
    let args = ["--heartbeat_topic_name", &beats, "--status_address", &address, "--json", "--config", "test.config"];
    let args = bench.status(&args);
    let look = || -> Value { serde_json::from_str(&bench.place.run(&args).stdout()).unwrap_or_default() };
    let reasons =
        |found: &Value| [&found["programs"][0], &found["heartbeats"][0]].map(|of| of["held"]["reason"].clone());
    wait_until("both say what holds it", || reasons(&look()) == ["target", "target"]);
    let found = look();
    let (now, more) = (found["programs"][0]["now"].as_str().unwrap(), found["programs"][0]["more"].as_str().unwrap());
    assert!(now.starts_with("holding: the folder or store that the files go to takes none"), "{now}");
    assert!(more.contains(" it was said: ") && more.contains("tried again"), "{more}");
    let table = bench.run(&bench.status(&["--status_address", &address])).stdout();
    assert!(table.contains("programs, as they say themselves\n"), "{table}");
    let args = ["--consumer_group_id", "another", "--status_address", &address, "--json"];
    let other = bench.run(&[&["status", "--topic_name", &bench.topic], &args[..]].concat());
    let other: Value = serde_json::from_str(&other.stdout()).unwrap();
    assert!(kinds(&other).iter().any(|[kind, ..]| *kind == "other_program"), "{other}");
    let words = format!("is of group `{}` on topic `{}`: it says nothing of group `another`", bench.group, bench.topic);
    assert!(said(&other).contains(&words) && !said(&other).contains("says that it is holding"), "{other}");
    fs::rename(bench.place.path("away"), bench.place.path("mirror")).unwrap();
    wait_until("the other file is there", || bench.place.path("mirror/b.csv").exists());
    wait_until("nothing holds it", || reasons(&look()) == [Value::Null, Value::Null]);
    assert_eq!(running.end(), 0);
    let found = look();
    let silent = kinds(&found).into_iter().find(|[kind, ..]| *kind == "not_seen");
    assert_eq!(silent, Some(["not_seen", "program", address.as_str()]), "{found}");
}

on_both_logs!(
    members_that_run_and_their_heartbeats_are_seen,
    what_is_asked_and_is_of_something_else_needs_a_person,
    a_program_that_holds_says_why_in_its_heartbeats_and_where_it_is_asked,
);
