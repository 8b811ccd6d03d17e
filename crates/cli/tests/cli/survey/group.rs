//! `datamill status`: how a group and a watched folder stand.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use datamill::broker::{NewRecord, NewTopic};
use datamill::engine::DeliveryGuarantee;
use datamill::report::clock::now_ms;
use datamill::survey::ProblemKind;
use datamill::wire::partition_for;
use serde_json::Value;

use super::bench::{Bench, chunk, on_both_logs};
use crate::common::{Running, wait_until};

impl Bench {
    fn status<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["status", "--topic_name", self.topic.as_str()];
        args.extend(["--consumer_group_id", self.group.as_str()]);
        args.extend(more);
        args
    }

    /// What it prints as JSON.
    fn standing(&self, code: i32, more: &[&str]) -> Value {
        let [object] = &self.objects(code, &self.status(&[more, &["--json"]].concat()))[..] else {
            panic!("one object")
        };
        object.clone()
    }
}

fn said(object: &Value) -> String {
    let problems = object["problems"].as_array().unwrap();
    problems.iter().map(|problem| format!("{}\n", problem["text"].as_str().unwrap())).collect()
}

/// Kind, subject and name of each problem.
fn kinds(object: &Value) -> Vec<[&str; 3]> {
    let problems = object["problems"].as_array().unwrap().iter();
    problems.map(|problem| ["kind", "subject", "name"].map(|key| problem[key].as_str().unwrap())).collect()
}

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

impl Bench {
    /// Deletes the topic of the files and creates it again.
    fn create_again(&self) {
        self.log.delete_topic(&self.topic).unwrap();
        // a broker may be about to delete the files of the old one
        let again = || NewTopic { name: self.topic.clone(), partitions: 2, replication: 1, settings: BTreeMap::new() };
        wait_until("the topic to be created again", || self.log.create_topic(&again()).is_ok());
    }

    /// Both that look at positions say this, and a comparison of the folder too.
    fn says_of_positions(&self, words: &str) {
        let found = self.standing(1, &[]);
        assert_eq!(kinds(&found), [["topic_replaced", "group", self.group.as_str()]], "{found}");
        assert!(said(&found).contains(words), "{words}: {found}");
        let of = ["--topic_name", &self.topic, "--consumer_group_id", &self.group];
        let check = self.run(&[&["check"], &of[..]].concat());
        assert!(check.code() == 1 && check.stdout().contains(words), "{words}: {}", check.stdout());
        let compared = self.run(&[&["reconcile", "data"], &of[..]].concat());
        assert!(compared.code() == 1 && compared.stderr().contains(words), "{words}: {}", compared.stderr());
    }
}

fn a_topic_that_was_created_again_since_the_group_read_it_needs_a_person(bench: &Bench) {
    let words = format!("topic `{}` was deleted and created again since the group committed partition", bench.topic);
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.reproduce();
    bench.create_again();
    bench.says_of_positions(&words);
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.says_of_positions(&words);
}

fn a_topic_that_was_created_again_below_a_program_that_runs_needs_a_person(bench: &Bench) {
    use rustix::process::{Pid, Signal, kill_process};

    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    let args = ["download", "mirror", "--topic_name", &bench.topic, "--consumer_group_id", &bench.group];
    let running = Running(bench.place.start(&[&args[..], &["--config", "test.config"]].concat()));
    wait_until("the commit", || !bench.log.group(&bench.group, &[&bench.topic]).unwrap().committed.is_empty());
    // it would end by itself within seconds
    kill_process(Pid::from_child(&running.0), Signal::STOP).unwrap();
    bench.create_again();
    bench.says_of_positions("was deleted and created again since the group committed partition");
}

fn positions_beyond_the_end_of_a_topic_that_was_created_again_need_a_person(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    // another program that commits where it was in the old topic
    bench.set_plain_position(&bench.group, 1, 100);
    bench.says_of_positions(&format!("the position of partition 1 is beyond the end of topic `{}`", bench.topic));
}

fn a_position_that_was_committed_for_the_topic_before_needs_a_person(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    // what a program commits that has not noticed yet, also one at-least-once
    bench.set_position(&bench.group, 0, 0, "D2AAAAAAAAtext");
    bench.says_of_positions("was deleted and created again since the group committed partition 0: start");
}

fn a_group_at_least_once_whose_topic_was_created_again_is_told_what_may_be_the_cause(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.reproduce_with(DeliveryGuarantee::AtLeastOnce);
    bench.create_again();
    assert_eq!(bench.upload(&[]).code(), 0);
    // its state is in its output folder, and the log has nothing of it any more
    let found = bench.standing(1, &[]);
    assert_eq!(kinds(&found), [["not_started", "group", bench.group.as_str()]], "{found}");
    assert!(
        said(&found).contains("If it has read it before, the topic was deleted and created again since"),
        "{found}"
    );
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

on_both_logs!(
    groups_whose_state_is_not_in_the_log_are_named_as_well,
    a_topic_that_was_created_again_since_the_group_read_it_needs_a_person,
    a_topic_that_was_created_again_below_a_program_that_runs_needs_a_person,
    positions_beyond_the_end_of_a_topic_that_was_created_again_need_a_person,
    a_position_that_was_committed_for_the_topic_before_needs_a_person,
    a_group_at_least_once_whose_topic_was_created_again_is_told_what_may_be_the_cause,
    what_is_left_over_does_not_make_a_new_file_old,
    what_waits_failed_and_is_begun_is_seen_from_outside,
    an_upload_that_was_cut_off_needs_a_person_until_what_is_missing_is_sent,
    members_that_run_and_their_heartbeats_are_seen,
    what_is_asked_and_is_of_something_else_needs_a_person,
    a_group_that_changes_its_delivery_keeps_its_failures_in_sight,
    which_files_failed_is_not_taken_for_none_where_it_is_not_in_the_log,
    a_program_that_holds_says_why_in_its_heartbeats_and_where_it_is_asked,
    mistakes_are_named_with_what_was_perhaps_meant,
    a_group_that_has_not_started_says_what_waits_for_it,
    a_part_that_cannot_be_looked_at_is_one_problem_and_the_rest_is_shown,
    what_somebody_asked_for_is_counted_until_it_is_answered,
    a_watched_folder_is_seen_while_its_watch_runs_and_afterwards,
);

#[test]
fn the_documents_list_each_kind_of_problem() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating.md");
    let text = fs::read_to_string(path).unwrap();
    for kind in ProblemKind::ALL {
        assert!(text.contains(&format!("\n| `{}` |", kind.as_str())), "{kind:?}");
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
