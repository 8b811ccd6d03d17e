//! `datamill check`: what of a set-up is to mend.

use std::collections::BTreeMap;

use datamill::report::clock::now_ms;
use datamill_testkit::secured::SecuredKafka;
use serde_json::Value;

use super::bench::{Bench, on_both_logs};
use crate::common::{Place, Running, wait_until};

/// Verdict and text of each thing. Where one comes twice, the worse counts.
fn findings(lines: &str) -> BTreeMap<String, (String, String)> {
    let mut all = BTreeMap::new();
    for line in lines.lines() {
        let object: Value = serde_json::from_str(line).unwrap();
        let [verdict, what, text] = ["verdict", "what", "text"].map(|key| object[key].as_str().unwrap().to_owned());
        let is_worse = verdict == "mend" || !all.contains_key(&what);
        if is_worse {
            all.insert(what, (verdict, text));
        }
    }
    all
}

fn a_set_up_that_is_right_has_nothing_to_mend(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    bench.reproduce();
    let (topic, group) = (bench.topic.as_str(), bench.group.as_str());
    let topics = bench.own_topics();
    let ended = bench.run(&["check", "--topic_name", topic, "--consumer_group_id", group, "--json"]);
    assert_eq!(ended.code(), 0, "{}\n{}", ended.stdout(), ended.stderr());
    let found = findings(&ended.stdout());
    for what in
        [format!("topic `{topic}`: largest message"), format!("topic `{topic}`: retention"), format!("group `{group}`")]
    {
        assert_eq!(found[&what].0, "ok", "{what}: {found:?}");
    }
    let table = bench.run(&["check", "--topic_name", topic]);
    assert!(table.stdout().starts_with("ok "), "{}", table.stdout());
    // a group that is new is no mistake, and is not made
    let new = bench.run(&["check", "--topic_name", topic, "--consumer_group_id", "new one"]);
    assert_eq!(new.code(), 0, "{}", new.stdout());
    assert!(
        new.stdout().contains(&format!(
            "has no position on topic `{topic}` yet; no program runs. Group `{group}` has read topic `{topic}`"
        )),
        "{}",
        new.stdout()
    );
    assert_eq!(bench.own_topics(), topics);
    let unnamed = bench.run(&["check", "--consumer_group_id", group]);
    assert_eq!(unnamed.code(), 0, "{}", unnamed.stdout());
    assert!(
        unnamed.stdout().contains(&format!("has positions on `{topic}`; no program runs. --topic_name looks at one")),
        "{}",
        unnamed.stdout()
    );
    let unread = bench.run(&["check", "--consumer_group_id", "new one"]);
    assert!(unread.stdout().contains("has a position on no topic that can be seen"), "{}", unread.stdout());

    let typo = bench.run(&["check", "--topic_name", &topic[..topic.len() - 1]]);
    assert_eq!(typo.code(), 1, "{}", typo.stderr());
    // the broker may have topics of other tests that are as near
    assert!(typo.stdout().contains(&format!("did you mean `{topic}`")), "{}", typo.stdout());
    let unread = bench.place.run(&["check", "--config", "nothing.config"]);
    assert_eq!((unread.code(), unread.stdout().as_str()), (2, ""), "{}", unread.stderr());
}

fn a_group_is_shown_with_its_positions_and_its_members(bench: &Bench) {
    bench.place.write("data/a.csv", b"a");
    assert_eq!(bench.upload(&[]).code(), 0);
    let (topic, group) = (bench.topic.as_str(), bench.group.as_str());
    let of_group = |topic: &str| {
        let ended = bench.run(&["check", "--topic_name", topic, "--consumer_group_id", group, "--json"]);
        assert_eq!(ended.code(), 0, "{}", ended.stdout());
        findings(&ended.stdout())[&format!("group `{group}`")].clone()
    };
    let args = ["download", "mirror", "--topic_name", topic, "--consumer_group_id", group, "--instance", "m1"];
    let running = Running(bench.place.start(&[&args[..], &["--config", "test.config"]].concat()));
    wait_until("the program", || {
        let (verdict, text) = of_group(topic);
        verdict == "ok"
            && text.starts_with("has a position in ")
            && text.contains("1 program runs")
            && text.contains("; members: `m1` on ")
    });
    assert_eq!(running.end(), 0);
    let other = format!("other-{topic}");
    bench.create(&other, 1, &[]);
    wait_until("the program to be gone", || of_group(topic).1.contains("no program runs"));
    let (verdict, text) = of_group(&other);
    let words = format!("has no position on topic `{other}` yet; no program runs. It has some on `{topic}`");
    assert!(verdict == "note" && text.starts_with(&words), "{text}");
}

on_both_logs!(a_set_up_that_is_right_has_nothing_to_mend, a_group_is_shown_with_its_positions_and_its_members);

#[test]
fn each_limit_of_a_topic_that_loses_files_is_named_with_what_mends_it() {
    let bench = Bench::new(true);
    let narrow = format!("narrow-{}", bench.topic);
    bench.create(
        &narrow,
        1,
        &[
            ("max.message.bytes", "100000"),
            ("retention.ms", "3600000"),
            ("cleanup.policy", "compact,delete"),
            ("message.timestamp.before.max.ms", "1000"),
            ("min.insync.replicas", "2"),
        ],
    );
    let ended = bench.run(&["check", "--topic_name", &narrow, "--json"]);
    assert_eq!(ended.code(), 1, "{}", ended.stdout());
    let found = findings(&ended.stdout());
    for (what, words) in [
        ("largest message", "upload with --chunk_size 65536"),
        ("retention", "records go after 1 h 0 min"),
        ("compaction", "`cleanup.policy=delete`"),
        ("times", "`message.timestamp.before.max.ms`"),
        ("copies", "it has 1, and 2 have to be in sync"),
    ] {
        let (verdict, text) = &found[&format!("topic `{narrow}`: {what}")];
        assert!(verdict == "mend" && text.contains(words), "{what}: {verdict} {text}");
    }
    bench.send(&bench.topic, 0, "a.csv", &[b"a"], &[(1, now_ms() + 1_800_000)]);
    let ended = bench.run(&["check", "--topic_name", &bench.topic, "--json"]);
    let (verdict, text) = &findings(&ended.stdout())[&format!("topic `{}`: clocks", bench.topic)];
    assert!(verdict == "mend" && text.contains("ahead of the clock of this machine"), "{verdict} {text}");
}

#[test]
fn a_topic_and_a_group_are_not_passed_over_where_there_is_no_log() {
    let place = Place::new();
    let ended = place.run(&["check"]);
    assert_eq!(ended.code(), 0, "{}", ended.stdout());
    let ended = place.run(&["check", "--topic_name", "files", "--consumer_group_id", "xrd"]);
    assert_eq!(ended.code(), 1, "{}", ended.stdout());
    for part in [
        "is not there, since there is no log: `datamill upload PATH --topic_name files` makes both",
        "has read nothing yet, since there is no log",
    ] {
        assert!(ended.stdout().contains(part), "{part}: {}", ended.stdout());
    }
    place.write("away.config", b"[broker]\nbootstrap.servers = 127.0.0.1:1\n");
    let ended = place.run(&["check", "--config", "away.config", "--topic_name", "files"]);
    assert_eq!(ended.code(), 1, "{}", ended.stdout());
    assert!(ended.stdout().contains("cannot be looked at before that is mended"), "{}", ended.stdout());
}

#[test]
fn a_broker_that_is_away_and_a_folder_that_is_not_there_are_to_mend() {
    let place = Place::new();
    place.write("away.config", b"[broker]\nbootstrap.servers = 127.0.0.1:1\n");
    let ended = place.run(&["check", "--config", "away.config"]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr());
    assert!(ended.stdout().contains("broker `127.0.0.1:1` does not answer"), "{}", ended.stdout());
    place.write("none.config", b"[broker]\nbootstrap.servers = sqlite:no/folder/log.db\n");
    let ended = place.run(&["check", "--config", "none.config"]);
    assert_eq!(ended.code(), 1, "{}", ended.stdout());
    assert!(ended.stdout().contains("is not there: make it"), "{}", ended.stdout());
    let fresh = place.run(&["check"]);
    assert_eq!(fresh.code(), 0, "{}", fresh.stdout());
    assert!(fresh.stdout().contains("the first upload makes it") && !place.path("datamill.db").exists());
}

#[test]
fn a_login_without_a_protocol_is_told() {
    let place = Place::new();
    let servers = datamill_testkit::kafka::Kafka::from_env().address().to_owned();
    let config = format!("[broker]\nbootstrap.servers = {servers}\nsasl.username = lab\n");
    place.write("login.config", config.as_bytes());
    let ended = place.run(&["check", "--config", "login.config", "--json"]);
    let (verdict, text) = &findings(&ended.stdout())["login"];
    assert_eq!((ended.code(), verdict.as_str()), (1, "mend"), "{text}");
    assert!(text.contains("`sasl.username` has no effect, and nobody has logged in"), "{text}");
}

/// The account may read the topic `files` and look at the group `xrd`, and sees no settings.
fn what_may_not_be_seen_is_told_and_nothing_follows_from_it(
    kafka: &SecuredKafka,
    place: &Place,
    check: &dyn Fn() -> (i32, BTreeMap<String, (String, String)>, String),
) {
    let state = "topic `datamill.xrd.state`";
    let (_, found, text) = check();
    let (verdict, words) = &found["topic `files`: settings"];
    assert_eq!(verdict, "note", "{text}");
    let gives = "--allow-principal User:user1 --operation DescribeConfigs --topic files` gives it";
    assert!(words.contains("the `DescribeConfigs` permission on topic `files`") && words.contains(gives), "{text}");
    let (verdict, words) = &found["settings of the broker"];
    assert!(verdict == "note" && words.contains("--operation DescribeConfigs --cluster` gives it"), "{text}");
    let (verdict, words) = &found[state];
    assert!(verdict == "note" && words.contains("whether it is there cannot be seen without the `Read`"), "{text}");
    assert!(!text.contains("for ever") && !text.contains("first start makes it"), "{text}");
    for unseen in ["largest message", "compaction", "retention", "times"] {
        assert!(!found.contains_key(&format!("topic `files`: {unseen}")), "{unseen}: {text}");
    }
    let describe =
        |more: &[&str]| place.run(&[&["topic", "describe", "files", "--config", "user.config"], more].concat());
    let table = describe(&[]);
    assert!(table.stdout().contains("kept            unknown\n"), "{}", table.stdout());
    assert!(table.stderr().contains(gives), "{}", table.stderr());
    let object: Value = serde_json::from_str(&describe(&["--json"]).stdout()).unwrap();
    let keys = ["settings_seen", "compacted", "retention_ms"].map(|key| object[key].clone());
    assert_eq!(keys, [Value::Bool(false), Value::Null, Value::Null]);

    // the state that is there may be compacted: no one says that it is not
    let run = |args: &[&str]| {
        let ended = place.run(args);
        assert_eq!(ended.code(), 0, "{args:?}: {}", ended.stderr());
        ended.stderr()
    };
    run(&["topic", "create", "datamill.xrd.state", "--setting", "cleanup.policy=compact", "--config", "open.config"]);
    let all = ["--operation", "Read", "--operation", "Write", "--topic", "datamill.xrd.state"];
    kafka.allow("user1", &all);
    wait_until("the state is seen", || check().2.contains("whether it is compacted"));
    let (code, found, text) = check();
    assert_eq!((code, found[state].0 == "mend"), (0, false), "{text}");
    // a broker whose settings are not seen is not one that lacks the newer protocol
    let config = std::fs::read_to_string(place.path("user.config")).unwrap();
    place.write("newer.config", format!("{config}[consumer]\ngroup.protocol = consumer\n").as_bytes());
    let download = ["download", "mirror", "--topic_name", "files", "--consumer_group_id", "xrd", "--exit-at-end"];
    run(&[&download[..], &["--delivery", "at-least-once", "--config", "newer.config"]].concat());
    // nothing on the topic says that a file was never sent
    place.write("data/a.csv", b"a");
    let ended = place.run(&["reconcile", "data", "--topic_name", "files", "--config", "user.config"]);
    assert!(ended.stdout().contains("it is not on the topic, or not any more"), "{}", ended.stdout());
    assert!(ended.stderr().contains("topic `files` may be compacted and have lost chunks"), "{}", ended.stderr());

    kafka.allow("user1", &["--operation", "DescribeConfigs", "--topic", "files"]);
    wait_until("the settings are seen", || !check().1.contains_key("topic `files`: settings"));
    let (_, found, text) = check();
    assert!(found.contains_key("topic `files`: retention") && found.contains_key("topic `files`: times"), "{text}");
}

#[test]
fn permissions_that_lack_and_a_wrong_password_are_named_on_a_secured_broker() {
    let kafka = SecuredKafka::start();
    let place = Place::new();
    place.write("open.config", format!("[broker]\nbootstrap.servers = {}\n", kafka.open_address()).as_bytes());
    let made = place.run(&["topic", "create", "files", "--config", "open.config"]);
    assert_eq!(made.code(), 0, "{}", made.stderr());
    let login: String = kafka.login("user1").iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    place.write("user.config", format!("[broker]\n{login}").as_bytes());
    let check = || {
        let ended = place.run(&[
            "check",
            "--config",
            "user.config",
            "--topic_name",
            "files",
            "--consumer_group_id",
            "xrd",
            "--json",
        ]);
        (ended.code(), findings(&ended.stdout()), ended.stdout())
    };
    let (code, found, text) = check();
    assert_eq!(code, 1, "{text}");
    assert_eq!(found["login"].0, "ok", "{text}");
    assert_eq!(found["topic `files`"].0, "mend", "{text}");
    assert!(found["topic `files`"].1.contains("--operation Read --topic files"), "{text}");
    kafka.allow("user1", &["--operation", "Describe", "--topic", "files", "--group", "xrd"]);
    wait_until("Describe is there", || check().1.contains_key("topic `files`: permissions"));
    let (code, found, text) = check();
    let (verdict, words) = &found["topic `files`: permissions"];
    assert!(code == 1 && verdict == "mend" && words.contains("--operation Read --topic files"), "{text}");
    assert!(words.contains("--allow-principal User:user1 "), "{text}");
    kafka.allow("user1", &["--operation", "Read", "--topic", "files", "--group", "xrd"]);
    wait_until("Read is there", || check().0 == 0);
    what_may_not_be_seen_is_told_and_nothing_follows_from_it(&kafka, &place, &check);

    let wrong = login.replace("user1-secret", "a wrong one");
    place.write("user.config", format!("[broker]\n{wrong}").as_bytes());
    let (code, found, text) = check();
    let verdicts = ["broker", "login"].map(|what| found[what].0.as_str());
    assert_eq!((code, verdicts), (1, ["ok", "mend"]), "{text}");
    assert!(found["login"].1.contains("refuses the login") && !text.contains("a wrong one"), "{text}");
}
