//! A folder beside its topic, results, failures and copies.

use std::collections::BTreeMap;
use std::fs;

use datamill::broker::{NewRecord, NewTopic, StateChange};
use datamill::engine::DeliveryGuarantee;
use datamill::report::clock::now_ms;
use serde_json::Value;

use super::bench::{Bench, on_both_logs};
use crate::common::wait_until;

/// State and reason by path.
fn states(rows: &[Value]) -> BTreeMap<&str, (&str, &str)> {
    rows.iter()
        .map(|row| {
            let [path, state, reason] = ["path", "state", "reason"].map(|name| row[name].as_str().unwrap());
            (path, (state, reason))
        })
        .collect()
}

impl Bench {
    fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["reconcile", "data", "--topic_name", self.topic.as_str()];
        args.extend(["--consumer_group_id", self.group.as_str(), "--results", self.results.as_str()]);
        args.extend(more);
        args
    }
}

/// A folder in which something has happened to almost every file.
fn make(bench: &Bench) {
    for name in ["good.csv", "run/bad.csv", "twice.csv", "old result.csv", "changed.csv", "removed.csv"] {
        bench.place.write(&format!("data/{name}"), name.repeat(300).as_bytes());
    }
    assert_eq!(bench.upload(&[]).code(), 0);
    assert_eq!(bench.upload(&["--upload_regex", "twice"]).code(), 0);
    assert_eq!(bench.reproduce().failed, 1);
    // behind the group
    bench.place.write("data/later.csv", b"later");
    bench.place.write("data/old result.csv", b"a newer version");
    assert_eq!(bench.upload(&["--upload_regex", "later|old"]).code(), 0);
    // an upload that was killed, a file that never was sent, one that has changed since, one that was removed
    bench.place.write("data/killed.csv", b"onetwo");
    bench.send(&bench.topic, 0, "killed.csv", &[b"one", b"two"], &[(1, now_ms())]);
    bench.place.write("data/unsettled.csv", b"x");
    bench.place.write("data/changed.csv", b"changed");
    fs::remove_file(bench.place.path("data/removed.csv")).unwrap();
}

/// Two instruments send the same names: each has its own files, and nobody else's are missing in its folder.
fn a_prefix_keeps_instruments_apart(bench: &Bench) {
    bench.place.write("data/a.csv", b"first");
    assert_eq!(bench.upload(&["--path_prefix", "lab1/x"]).code(), 0);
    bench.place.write("data/a.csv", b"second");
    bench.place.write("data/new.csv", b"second");
    assert_eq!(bench.upload(&["--path_prefix", "lab2/"]).code(), 0);
    let args = ["reconcile", "data", "--topic_name", &bench.topic, "--json", "--path_prefix"];
    let with = |prefix| {
        let mut args = args.to_vec();
        args.push(prefix);
        args
    };
    let paths = |rows: &[Value]| -> Vec<String> {
        rows.iter().map(|row| format!("{} {}", row["path"].as_str().unwrap(), row["state"].as_str().unwrap())).collect()
    };
    assert_eq!(paths(&bench.objects(0, &with("lab2"))), ["lab2/a.csv sent", "lab2/new.csv sent"]);
    let rows = bench.objects(1, &with("lab1/x"));
    assert_eq!(paths(&rows), ["lab1/x/a.csv changed_since", "lab1/x/new.csv never_sent"]);
    let ended = bench.run(&with("lab1/x"));
    assert!(ended.stderr().contains("--only-missing data --topic_name"), "{}", ended.stderr());
    assert!(ended.stderr().contains(" --path_prefix lab1/x"), "{}", ended.stderr());
    assert_eq!(bench.upload(&["--path_prefix", "lab1/x", "--only-missing"]).code(), 0);
    assert_eq!(paths(&bench.objects(0, &with("lab1/x"))), ["lab1/x/a.csv sent", "lab1/x/new.csv sent"]);
    let watch =
        ["watch", "data", "--topic_name", &bench.topic, "--upload_existing", "--exit-at-end", "--path_prefix", "lab3"];
    assert_eq!(bench.run(&watch).code(), 0);
    let status = ["status", "data", "--topic_name", &bench.topic, "--path_prefix", "lab3"];
    assert_eq!(bench.run(&status).code(), 0);
    let ended = bench.run(&status[..4]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr().contains("is watched with `--path_prefix lab3`: give the same here"), "{}", ended.stderr());
    let ended = bench.run(&watch[..6]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr().contains("was watched with `--path_prefix lab3`, and now without"), "{}", ended.stderr());
    for refused in ["/lab", "..", "", ".lab", "LOGS"] {
        let ended = bench.upload(&["--path_prefix", refused]);
        assert_eq!(ended.code(), 2, "{refused}");
        assert!(ended.stderr().contains("write a relative path such as"), "{}", ended.stderr());
    }
}

fn each_file_is_found_with_its_state_and_what_is_missing_can_be_sent(bench: &Bench) {
    make(bench);
    let rows = bench.objects(1, &bench.args(&["--json"]));
    let states_of = states(&rows);
    let words: BTreeMap<&str, &str> = states_of.iter().map(|(path, (state, _))| (*path, *state)).collect();
    let expected = BTreeMap::from([
        ("good.csv", "result"),
        ("run/bad.csv", "failed"),
        ("twice.csv", "result"),
        ("old result.csv", "not_reached"),
        ("later.csv", "not_reached"),
        ("killed.csv", "incomplete"),
        ("unsettled.csv", "never_sent"),
        ("changed.csv", "changed_since"),
        ("removed.csv", "not_in_folder"),
    ]);
    assert_eq!(words, expected);
    for (path, reason) in [
        ("good.csv", ""),
        ("run/bad.csv", "computing_result_message_failed: no calibration"),
        ("twice.csv", "sent 2 times"),
        ("killed.csv", "chunk 2 of 2 is missing"),
        ("old result.csv", "has a result of another version of it, at 0:"),
        ("changed.csv", "the topic has another version of it, sent at 20"),
        ("removed.csv", "result"),
    ] {
        let (_, found) = states_of[path];
        assert!(if reason.is_empty() { found.is_empty() } else { found.contains(reason) }, "{path}: {found}");
    }
    let good = rows.iter().find(|row| row["path"] == "good.csv").unwrap();
    assert!(good["offsets"].as_str().unwrap().contains(":0-2") && good["result"].as_str().unwrap().starts_with("0:"));
    assert_eq!(good["versions"][0]["whole"], true);

    let problems = bench.run(&bench.args(&["--problems"]));
    assert_eq!(problems.code(), 1);
    let first = |line: &str| line.split("  ").next().unwrap().to_owned();
    let paths: Vec<String> = problems.stdout().lines().skip(1).map(first).collect();
    assert_eq!(paths, ["changed.csv", "killed.csv", "run/bad.csv", "unsettled.csv"], "{}", problems.stdout());
    let said = problems.stderr();
    let send = format!(
        "`datamill upload --only-missing data --topic_name {} --config test.config` sends what is missing",
        bench.topic
    );
    for part in [
        "8 files: 2 have a result, 2 are not reached, 1 failed, 1 is incomplete, 1 was never sent, 1 has changed since",
        &send,
        "1 path more is not in the folder: 1 has a result",
        "no program of group",
        "temporary table: ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let csv = bench.run(&bench.args(&["--csv"])).stdout();
    assert!(csv.starts_with("path,state,versions,offsets,result,reason\n"), "{csv}");
    assert!(csv.lines().any(|line| line.starts_with("unsettled.csv,never_sent,0,,,")), "{csv}");

    // what is missing is sent, and nothing else
    let sent = bench.upload(&["--only-missing"]);
    assert_eq!(sent.code(), 0, "{}", sent.stderr());
    assert!(sent.stderr().contains("sent 3 files "), "{}", sent.stderr());
    assert!(sent.stderr().contains("on the topic already, whole and as they are: 5 files"), "{}", sent.stderr());
    let again = bench.upload(&["--only-missing"]);
    assert_eq!(again.code(), 0, "{}", again.stderr());
    assert!(again.stderr().contains("sent 0 files"), "{}", again.stderr());
    bench.reproduce();
    let rows = bench.objects(1, &bench.args(&["--json"]));
    let left: Vec<&str> =
        rows.iter().filter(|row| row["state"] != "result").map(|row| row["path"].as_str().unwrap()).collect();
    assert_eq!(left, ["removed.csv", "run/bad.csv"]);
    fs::remove_file(bench.place.path("data/run/bad.csv")).unwrap();
    let over = bench.run(&bench.args(&["--problems"]));
    // it is not in the folder any more, and has failed all the same
    assert_eq!(over.code(), 1, "{}", over.stderr());
    assert!(over.stdout().contains("run/bad.csv") && over.stdout().lines().count() == 2, "{}", over.stdout());
    let said = over.stderr();
    assert!(said.contains("2 paths more are not in the folder: 1 has a result, 1 failed\n"), "{said}");
    assert!(said.contains("`datamill retry --list --topic_name"), "{said}");
    let verified = bench.objects(1, &bench.args(&["--json", "--verify"]));
    assert_eq!(states(&verified)["run/bad.csv"].0, "not_in_folder");
}

fn the_topic_alone_or_the_results_alone_can_be_asked(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    bench.place.write("data/bad.csv", b"b");
    assert_eq!(bench.upload(&[]).code(), 0);
    let topic = ["reconcile", "data", "--topic_name", &bench.topic, "--json"];
    assert_eq!(states(&bench.objects(0, &topic)).values().filter(|state| state.0 == "sent").count(), 2);
    bench.reproduce();
    let rows = bench.objects(1, &[&topic[..], &["--results", &bench.results]].concat());
    let found = states(&rows);
    assert_eq!((found["a.csv"].0, found["bad.csv"].0), ("result", "not_reached"));
    assert!(found["bad.csv"].1.contains("--consumer_group_id tells why"), "{found:?}");
    // a group is done with a file that is no failure
    let rows = bench.objects(1, &[&topic[..], &["--consumer_group_id", &bench.group]].concat());
    let found = states(&rows);
    assert_eq!((found["a.csv"].0, found["bad.csv"].0), ("result", "failed"));
    let other = bench.run(&[&topic[..], &["--consumer_group_id", "nobody"]].concat());
    assert_eq!(other.code(), 2);
    assert!(other.stderr().contains("group `nobody` has never read topic"), "{}", other.stderr());
    assert!(other.stderr().contains(&bench.group), "{}", other.stderr());
}

fn two_results_of_one_upload_and_results_of_nothing_are_named(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.reproduce();
    let [result] = &bench.place.messages(&bench.results)[..] else { panic!("one result") };
    let headers = result["headers"].as_array().unwrap().iter();
    let headers: Vec<(&str, &[u8])> =
        headers.map(|header| (header[0].as_str().unwrap(), header[1].as_str().unwrap().as_bytes())).collect();
    let topic = bench.results.as_str();
    let record = NewRecord { topic, key: Some(b"stray"), value: Some(b"x"), ..NewRecord::default() };
    bench.publish([NewRecord { headers, ..record.clone() }, record]);
    let rows = bench.objects(1, &bench.args(&["--json"]));
    let found = states(&rows);
    let (state, reason) = found["a.csv"];
    assert_eq!(state, "result");
    assert!(reason.starts_with("one upload has 2 results, at 0:"), "{reason}");
    assert_eq!(found["stray"].0, "not_in_folder");
    assert!(found["stray"].1.contains("has a message with this key"), "{found:?}");
    let problems = bench.objects(1, &bench.args(&["--json", "--problems"]));
    assert_eq!(states(&problems).keys().copied().collect::<Vec<_>>(), ["a.csv"]);
}

fn positions_of_another_program_tell_what_is_done_in_hand_and_not_reached(bench: &Bench) {
    let group = bench.group.as_str();
    for (path, pieces) in [("done.csv", &[&b"1"[..], b"2"][..]), ("half.csv", &[b"3", b"4"]), ("later.csv", &[b"5"])] {
        bench.place.write(&format!("data/{path}"), &pieces.concat());
        let sent: Vec<(usize, i64)> = (1..=pieces.len()).map(|index| (index, now_ms())).collect();
        bench.send(&bench.topic, 1, path, pieces, &sent);
    }
    bench.set_plain_position(group, 1, 3);
    let args = ["reconcile", "data", "--topic_name", &bench.topic, "--consumer_group_id", group, "--json"];
    let rows = bench.objects(1, &args);
    let found: BTreeMap<&str, &str> = states(&rows).into_iter().map(|(path, (state, _))| (path, state)).collect();
    assert_eq!(found, BTreeMap::from([("done.csv", "result"), ("half.csv", "in_hand"), ("later.csv", "not_reached")]));
    // a result that is not there is missed only of what the group has passed
    let rows = bench.objects(1, &bench.args(&["--json"]));
    let found = states(&rows);
    assert_eq!((found["done.csv"].0, found["half.csv"].0), ("no_result", "in_hand"));
    assert!(found["half.csv"].1.contains("no program of group"), "{found:?}");
    let said = bench.run(&bench.args(&[])).stderr();
    assert!(said.contains("1 was begun") && !said.contains("in hand"), "{said}");
    assert!(found["done.csv"].1.contains("has passed it without a failure, and topic"), "{found:?}");
}

fn results_that_went_with_their_topic_are_told_with_the_way_back(bench: &Bench) {
    bench.place.write("data/a.csv", b"1");
    assert_eq!(bench.upload(&[]).code(), 0);
    assert!(bench.reproduce().is_clean());
    bench.log.delete_topic(&bench.results).unwrap();
    // a broker may be about to delete the files of the old one
    let again = || {
        let name = bench.results.clone();
        NewTopic { name, partitions: 1, replication: 1, settings: BTreeMap::new() }
    };
    wait_until("the topic to be created again", || bench.log.create_topic(&again()).is_ok());
    for _ in 0..2 {
        let rows = bench.objects(1, &bench.args(&["--json", "--problems"]));
        let found = states(&rows);
        assert_eq!(found["a.csv"].0, "no_result", "{found:?}");
        assert!(found["a.csv"].1.contains("its result is gone: topic"), "{found:?}");
        // a start in between does not make it forgotten
        bench.reproduce();
    }
    let said = bench.run(&bench.args(&[])).stderr();
    assert!(said.contains("1 has no result any more\na new group makes results again"), "{said}");
    assert!(!said.contains("datamill retry"), "{said}");
}

fn the_last_messages_are_those_that_can_be_read(bench: &Bench) {
    for number in 0..5 {
        bench.place.write(&format!("data/{number}.csv"), b"1");
        assert_eq!(bench.upload(&["--only-missing"]).code(), 0);
        // each in a transaction of its own, whose end takes an offset on Kafka
        assert_eq!(bench.reproduce().succeeded, 1);
    }
    let all = bench.objects(0, &["read", &bench.results, "--exit-at-end"]);
    assert_eq!(all.len(), 5);
    for (from, first) in [("-1", 4), ("-3", 2), ("-5", 0), ("-100", 0)] {
        assert_eq!(bench.objects(0, &["read", &bench.results, "-e", "-o", from]), all[first..], "{from}");
    }
    let following = bench.objects(0, &["read", &bench.results, "-o", "-2", "-c", "2"]);
    assert_eq!(following, all[3..]);
}

fn files_that_cannot_be_sent_are_told_and_names_with_line_ends_keep_to_their_line(bench: &Bench) {
    use std::os::unix::ffi::OsStrExt;
    bench.place.write("data/two\nlines.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    fs::write(bench.place.path("data").join(std::ffi::OsStr::from_bytes(b"bad\xff.csv")), "x").unwrap();
    let args = ["reconcile", "data", "--topic_name", bench.topic.as_str()];
    let ended = bench.run(&args);
    assert_eq!(ended.code(), 1);
    let (table, said) = (ended.stdout(), ended.stderr());
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.contains(r"two\nlines.csv") && table.contains("its name is not UTF-8: rename it"), "{table}");
    assert!(said.contains("1 was never sent\n1 file cannot be sent as it is"), "{said}");
    assert!(!said.contains("--only-missing"), "{said}");
    let rows = bench.objects(1, &[&args[..], &["--json"]].concat());
    assert_eq!(states(&rows)["two\nlines.csv"].0, "sent");
    let topic = bench.topic.as_str();
    assert_eq!(bench.run(&["ls", topic]).stdout().lines().count(), 2);
    let got = bench.run(&["get", topic, "two\nlines.csv"]);
    assert_eq!(got.code(), 0, "{}", got.stderr());
    assert!(got.stderr().contains(r"`two\nlines.csv`, version 1"), "{}", got.stderr());
    let meant = bench.run(&["get", topic, "tow\nlines.csv"]);
    assert_eq!(meant.code(), 1);
    assert!(meant.stderr().contains(r"did you mean `two\nlines.csv`?"), "{}", meant.stderr());
}

fn copies_in_a_mirror_are_compared(bench: &Bench) {
    for name in ["a.csv", "run/b.csv", "c.csv"] {
        bench.place.write(&format!("data/{name}"), name.as_bytes());
    }
    assert_eq!(bench.upload(&[]).code(), 0);
    let topic = bench.topic.as_str();
    let download = ["download", "mirror", "--topic_name", topic, "--exit-at-end"];
    assert_eq!(bench.run(&download).code(), 0);
    let args = ["reconcile", "data", "--topic_name", topic, "--mirror", "mirror", "--json"];
    let rows = bench.objects(0, &args);
    assert!(rows.iter().all(|row| row["state"] == "result" && row["copy"] == true), "{rows:?}");
    assert_eq!(rows.len(), 3, "what the download keeps for itself is no copy: {rows:?}");
    fs::remove_file(bench.place.path("mirror/a.csv")).unwrap();
    bench.place.write("mirror/run/b.csv", b"run/x.csv");
    bench.place.write("mirror/more.csv", b"m");
    let rows = bench.objects(1, &args);
    let found = states(&rows);
    assert_eq!(found["a.csv"], ("not_reached", "`mirror` has no copy of it"));
    assert_eq!(found["run/b.csv"], ("not_reached", "the copy in `mirror` is of another version"));
    assert_eq!(found["more.csv"], ("not_in_folder", "`mirror` has a copy of it; its chunks are not on the topic"));
}

fn results_of_several_groups_and_in_several_topics_are_told_apart(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.reproduce();
    bench.place.write("data/b.csv", b"b");
    assert_eq!(bench.upload(&["--only-missing"]).code(), 0);
    bench.reproduce_as("other", DeliveryGuarantee::ExactlyOnce);
    let (group, results) = (bench.group.as_str(), bench.results.as_str());
    let of = |args: &[&str]| {
        let ended = bench.run(&[&["reconcile", "data", "--topic_name", &bench.topic], args].concat());
        let rows = bench.run(&[&["reconcile", "data", "--topic_name", &bench.topic, "--json"], args].concat()).stdout();
        let rows: Vec<Value> = rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (ended.code(), ended.stderr(), rows)
    };
    // each group has one result of the upload, which is as it should be
    let (code, said, rows) = of(&["--results", results]);
    assert_eq!(code, 0, "{said}");
    let words = format!(
        "topic `{results}` has results of 2 groups: `{group}` (1 result), `other` (2 results). --consumer_group_id"
    );
    assert!(said.contains(&words), "{said}");
    let (state, reason) = states(&rows)["a.csv"];
    assert!(state == "result" && reason.starts_with("2 groups have a result: `"), "{reason}");
    assert!(reason.contains(&format!("`{group}` at 0:")) && reason.contains("`other` at 0:"), "{reason}");

    let (code, said, rows) = of(&["--results", results, "--consumer_group_id", group]);
    assert_eq!(code, 1, "{said}");
    let words =
        format!("topic `{results}` has results of another group too, which do not count here: `other` (2 results)");
    assert!(said.contains(&words), "{said}");
    let found = states(&rows);
    assert_eq!(found["a.csv"], ("result", ""));
    assert!(
        found["b.csv"].0 == "not_reached"
            && found["b.csv"].1.contains("only another group has a result: `other` at 0:"),
        "{found:?}"
    );

    // it has sent results elsewhere as well
    let elsewhere = format!("elsewhere-{results}");
    bench.create(&elsewhere, 1, &[]);
    let value = format!(r#"{{"kind":"reproducer","target":"{elsewhere}","shown":"test"}}"#).into_bytes();
    let change = StateChange { key: format!("purpose/{}/0123456789abcdef", bench.topic), value: Some(value) };
    bench.log.change_group_state(group, &[change]).unwrap();
    for (args, words) in [
        (&["--results", results][..], format!("group `{group}` sends results to other topics too: `{elsewhere}`")),
        (&[], format!("group `{group}` has results in 2 topics: `{elsewhere}`, `{results}`")),
    ] {
        let (_, said, _) = of(&[args, &["--consumer_group_id", group]].concat());
        assert!(said.contains(&words), "{words}: {said}");
    }
    let (_, said, _) = of(&["--results", &elsewhere, "--consumer_group_id", "other"]);
    let words =
        format!("group `other` has its results in topic `{results}`, and not in topic `{elsewhere}`: check --results");
    assert!(said.contains(&words), "{said}");
}

on_both_logs!(
    a_prefix_keeps_instruments_apart,
    results_of_several_groups_and_in_several_topics_are_told_apart,
    each_file_is_found_with_its_state_and_what_is_missing_can_be_sent,
    the_topic_alone_or_the_results_alone_can_be_asked,
    two_results_of_one_upload_and_results_of_nothing_are_named,
    positions_of_another_program_tell_what_is_done_in_hand_and_not_reached,
    results_that_went_with_their_topic_are_told_with_the_way_back,
    the_last_messages_are_those_that_can_be_read,
    copies_in_a_mirror_are_compared,
    files_that_cannot_be_sent_are_told_and_names_with_line_ends_keep_to_their_line,
);

#[test]
fn copies_in_a_store_are_compared() {
    let bench = Bench::new(false);
    for name in ["a#1.csv", "run/b\n.csv", "c.csv"] {
        bench.place.write(&format!("data/{name}"), name.as_bytes());
    }
    assert_eq!(bench.upload(&[]).code(), 0);
    let (topic, url) = (bench.topic.as_str(), format!("file://{}", bench.place.path("store").display()));
    let args = ["reconcile", "data", "--topic_name", topic, "--store", &url, "--json"];
    let none = bench.run(&args);
    assert_eq!(none.code(), 2, "{}", none.stderr());
    assert!(!bench.place.path("store").exists(), "looking makes nothing");
    let transfer = ["transfer", "--to", &url, "--topic_name", topic, "--exit-at-end"];
    assert_eq!(bench.run(&transfer).code(), 0);
    let rows = bench.objects(0, &args);
    assert!(rows.iter().all(|row| row["copy"] == true) && rows.len() == 3, "{rows:?}");
    fs::remove_file(bench.place.path(&format!("store/{topic}/c.csv"))).unwrap();
    assert_eq!(states(&bench.objects(1, &args))["c.csv"].0, "not_reached");
}

#[test]
fn uploading_what_is_missing_makes_the_topic_where_the_first_upload_does() {
    let bench = Bench::new(false);
    bench.place.write("data/a.csv", b"a");
    let args = ["upload", "data", "--topic_name", "new", "--only-missing"];
    for (sent, on_topic) in [("sent 1 file", false), ("sent 0 files", true)] {
        let ended = bench.run(&args);
        assert_eq!(ended.code(), 0, "{}", ended.stderr());
        assert!(ended.stderr().contains(sent), "{}", ended.stderr());
        assert_eq!(ended.stderr().contains("on the topic already"), on_topic, "{}", ended.stderr());
    }
}
