//! Checks of topics and of the log's identity.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;

use crate::{Commit, ErrorKind, NewTopic, Result, TopicNow};

use super::{Backend, Member, new_topic, of_values, publish, read_all, texts, values, wait_for};

pub(super) fn a_log_keeps_its_identity(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "identity", 1);
    let (log_id, topic_id) = (log.id().expect("an id"), log.topic(&topic).expect("the topic").id);
    assert!(!log_id.is_empty());
    assert!(!log.name().is_empty());
    drop(log);
    let log = backend.open();
    assert_eq!(log.id().expect("an id"), log_id);
    assert_eq!(log.topic(&topic).expect("the topic").id, topic_id);
    assert!(topic_id.as_ref().is_some_and(|id| !id.is_empty()), "{topic_id:?}");
    assert_eq!(log.topic_now(&topic).expect("the topic"), TopicNow { id: topic_id, partitions: 1 });
}

pub(super) fn a_log_tells_every_file_of_its_own(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "own", 1);
    let before = log.own_files();
    let Some(path) = backend.address.strip_prefix("sqlite:") else {
        assert!(before.is_empty(), "the files of a broker are elsewhere");
        return;
    };
    let _session = log.subscribe(&backend.member(&backend.name("group"), &[&topic])).expect("a session");
    let folder = Path::new(path).parent().expect("a folder");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("its folder").map(|entry| entry.expect("a file")) {
        let metadata = entry.metadata().expect("the file is there");
        assert!(before.has(&entry.path(), &metadata), "{:?}", entry.path());
        assert!(before.would_hold(&entry.path()), "{:?}", entry.path());
        names.push(entry.file_name());
    }
    assert!(names.len() >= 4, "the file, two of SQLite, the lock of the group: {names:?}");
    assert!(!before.would_hold(&folder.join("other")));
}

pub(super) fn a_created_topic_is_found_and_listed(backend: &Backend) {
    let log = backend.open();
    let one = backend.topic(log.as_ref(), "b-one", 1);
    let three = backend.topic(log.as_ref(), "a-three", 3);
    assert_eq!(log.topic(&three).expect("the topic").partitions, 3);
    let used = log.topic_for_use(&three).expect("the topic");
    assert_eq!((used.name.as_str(), used.partitions), (three.as_str(), 3), "use must not change a topic");
    let listed = wait_for("both topics in the list", || {
        let all = log.topics().expect("a list");
        let ours: Vec<_> = all.into_iter().filter(|t| t.name == one || t.name == three).collect();
        (ours.len() == 2).then_some(ours)
    });
    let told: Vec<_> = listed.iter().map(|t| (t.name.as_str(), t.partitions, t.is_compacted())).collect();
    assert_eq!(told, [(three.as_str(), 3, false), (one.as_str(), 1, false)]);
    assert_ne!(listed[0].id, listed[1].id);
}

pub(super) fn a_topic_is_created_only_once(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "once", 2);
    let error = log.create_topic(&new_topic(&topic, 5)).expect_err("it is there already");
    assert_eq!(error.kind(), ErrorKind::Exists, "{error:?}");
    assert!(error.to_string().contains(&topic), "{error:?}");
    assert_eq!(log.topic(&topic).expect("the topic").partitions, 2);
}

pub(super) fn a_topic_that_does_not_exist_is_unknown_everywhere(backend: &Backend) {
    let log = backend.open();
    let nowhere = backend.name("nowhere");
    let told = [
        ("topic", log.topic(&nowhere).map(|_| ())),
        ("topic_now", log.topic_now(&nowhere).map(|_| ())),
        ("offsets", log.offsets(&nowhere, 0).map(|_| ())),
        ("reader", log.reader(&nowhere, &[(0, 0)]).map(|_| ())),
        ("topic, asked again", log.topic(&nowhere).map(|_| ())),
    ];
    for (what, answer) in told {
        let error = answer.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{what}: {error:?}");
        assert!(error.to_string().contains(&nowhere), "{what}: {error:?}");
    }
    let there = backend.topic(log.as_ref(), "there", 2);
    for partition in [2, -1] {
        let error = log.offsets(&there, partition).expect_err("no such partition");
        assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error:?}");
        let error = log.reader(&there, &[(partition, 0)]).map(|_| ()).expect_err("no such partition");
        assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error:?}");
    }
}

pub(super) fn an_unknown_topic_is_told_with_the_nearest_names_and_made_only_by_who_would_write(backend: &Backend) {
    let options = "--config 'my lab.config'";
    let log = backend.open_with(options);
    let there = backend.topic(log.as_ref(), "metadata", 1);
    let meant = there.replace("metadata", "metdata");
    wait_for("the topic in the list", || log.topics().expect("a list").iter().any(|t| t.name == there).then_some(()));
    // no name of another test is like it
    let new: String = (0..4).map(|_| format!("{:x}", RandomState::new().build_hasher().finish())).collect();
    let near = format!("; did you mean `{there}`");
    let list = format!(": `datamill topic list {options}` shows the topics that are there");
    let told = |answer: Result<_>| answer.expect_err("no such topic").to_string();
    let error = told(log.topic(&meant));
    assert!(error.contains(&near) && error.ends_with("`?") && error.contains(log.name()), "{error}");
    let error = told(log.topic(&new));
    assert!(error.ends_with(&list) && error.contains(log.name()), "{error}");
    if !log.makes_topics() {
        let error = told(log.topic_for_use(&meant));
        let make = format!("`? `datamill topic create NAME {options}` makes a new one");
        assert!(error.contains(&near) && error.ends_with(&make) && error.contains(log.name()), "{error}");
        let error = told(log.topic_for_use(&new));
        assert!(error.ends_with(&format!(": `datamill topic create {new} {options}` makes it")), "{error}");
    }
    assert_eq!(log.command("topic list"), format!("`datamill topic list {options}`"));
    assert_eq!(backend.open().command("topic list"), "`datamill topic list`");
}

pub(super) fn a_topic_that_is_made_again_is_another_one(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "again", 2);
    let old = log.topic(&topic).expect("the topic").id;
    publish(log.as_ref(), &of_values(&topic, &values("old", 0..3)));
    let mut publisher = log.publisher().expect("a publisher");
    super::deliver(publisher.as_mut(), &of_values(&topic, &values("old", 3..5)));
    let group = backend.name("g");
    let mut member = Member::join(log.as_ref(), &backend.member(&group, &[&topic]), 2);
    let position = member.position(&topic, 0, 3, "text");
    member.commit(&Commit { positions: &[position], ..Commit::default() });
    member.leave();

    backend.open().delete_topic(&topic).expect("the topic can be deleted");
    let error = log.topic(&topic).expect_err("it is deleted");
    assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error:?}");
    assert!(log.topics().expect("a list").iter().all(|there| !there.name.contains(&topic)));
    let error = log.delete_topic(&topic).expect_err("it is deleted");
    assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error:?}");

    assert_eq!(backend.topic(log.as_ref(), "again", 2), topic);
    assert!(old.is_none() || log.topic(&topic).expect("the topic").id != old);
    for partition in [0, 1] {
        let ends = log.offsets(&topic, partition).expect("ends");
        assert_eq!((ends.first, ends.end), (0, 0));
    }
    assert!(log.group(&group, &[&topic]).expect("the group").committed.is_empty());
    let sent = wait_for("a record that the new topic takes", || {
        let outcomes = super::deliver(publisher.as_mut(), &of_values(&topic, &values("new", 0..1)));
        outcomes[0].as_ref().ok().copied()
    });
    assert_eq!(sent.offset, 0);
    assert_eq!(texts(&read_all(log.as_ref(), &topic, 0)), ["new-0"]);
}

pub(super) fn names_of_topics_are_checked(backend: &Backend) {
    let log = backend.open();
    let long = "x".repeat(250);
    for bad in ["", ".", "..", "a b", "a/b", "schön", "a\nb", "a:b", long.as_str()] {
        let error = log.create_topic(&new_topic(bad, 1)).expect_err("not a name of a topic");
        assert_eq!(error.kind(), ErrorKind::Settings, "`{bad}`: {error:?}");
        log.topic_for_use(bad).expect_err("not a name of a topic");
        log.topic(bad).expect_err("not a name of a topic");
    }
    let mut longest = backend.name("Az09._-");
    longest.push_str(&"y".repeat(249 - longest.len()));
    log.create_topic(&new_topic(&longest, 1)).expect("a name of a topic");
    for partitions in [0, -1] {
        let error = log.create_topic(&new_topic(&backend.name("none"), partitions)).expect_err("no partitions");
        assert_eq!(error.kind(), ErrorKind::Settings, "{error:?}");
    }
}

pub(super) fn settings_of_topics_are_kept_and_unknown_ones_refused(backend: &Backend) {
    let log = backend.open();
    let with = |name: &str, key: &str, value: &str| NewTopic {
        name: backend.name(name),
        partitions: 1,
        replication: 1,
        settings: BTreeMap::from([(key.to_owned(), value.to_owned())]),
    };
    log.create_topic(&with("kept", "retention.ms", "86400000")).expect("a setting that every log knows");
    let kept = wait_for("the topic", || log.topic(&backend.name("kept")).ok());
    assert_eq!(kept.retention_ms(), Some(86_400_000));
    let forever = backend.topic(log.as_ref(), "forever", 1);
    assert_eq!(log.topic(&forever).expect("the topic").retention_ms(), None);
    for (key, value) in [("no.such.setting", "1"), ("retention.ms", "a while")] {
        let error = log.create_topic(&with("refused", key, value)).expect_err("a setting that is wrong");
        assert_eq!(error.kind(), ErrorKind::Settings, "{key}: {error:?}");
        let error = log.topic(&backend.name("refused")).expect_err("it was not created");
        assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error:?}");
    }
}

pub(super) fn topics_are_made_on_first_use_where_the_backend_does_that(backend: &Backend) {
    let log = backend.open();
    let name = backend.name("used");
    match log.topic_for_use(&name) {
        Ok(topic) => {
            assert!(backend.can.makes_topics && log.makes_topics());
            assert_eq!((topic.name.as_str(), topic.partitions), (name.as_str(), 1));
            assert_eq!(log.topic(&name).expect("it is there"), topic);
        }
        Err(error) => {
            assert!(!backend.can.makes_topics && !log.makes_topics(), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error:?}");
        }
    }
}
