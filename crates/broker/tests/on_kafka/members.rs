//! What only the log on Apache Kafka does: several members of a group, places that are kept, brokers
//! that die, and a clear word where one is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{backend, backend_at};
use datamill_broker::conformance::{
    Backend, Member, PATIENCE, Seen, new_topic, of_values, publish, read_all, texts, values, wait_for,
};
use datamill_broker::{
    Commit, CommitOutcome, ErrorKind, FirstStart, NewRecord, Position, Properties, SubscribeOptions, open,
};
use datamill_testkit::kafka::Kafka;

fn named(backend: &Backend, group: &str, topic: &str, instance: &str) -> SubscribeOptions {
    SubscribeOptions { instance: instance.to_owned(), ..backend.member(group, &[topic]) }
}

fn partitions(member: &Member) -> BTreeSet<i32> {
    member.assigned.iter().map(|assigned| assigned.partition).collect()
}

fn pump_both(first: &mut Member, second: &mut Member, what: &str, mut done: impl FnMut(&Member, &Member) -> bool) {
    let start = Instant::now();
    while !done(first, second) {
        first.pump(Duration::from_millis(20)).expect("polling works");
        second.pump(Duration::from_millis(20)).expect("polling works");
        assert!(start.elapsed() < PATIENCE, "{what} does not happen");
    }
}

#[test]
fn two_members_share_the_partitions_and_one_that_leaves_hands_over_where_it_committed() {
    let backend = backend();
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "share", 4);
    let group = backend.name("g");
    for partition in 0..4 {
        let records = values(&format!("p{partition}"), 0..10);
        let records: Vec<_> = of_values(&topic, &records)
            .into_iter()
            .map(|record| NewRecord { partition: Some(partition), ..record })
            .collect();
        publish(log.as_ref(), &records);
    }
    let mut first = Member::join(log.as_ref(), &named(&backend, &group, &topic, "host-1"), 4);
    let before = first.position(&topic, 0, 3, "first");
    let mut second = Member::join(log.as_ref(), &named(&backend, &group, &topic, "host-2"), 0);
    pump_both(&mut first, &mut second, "sharing", |a, b| a.assigned.len() == 2 && b.assigned.len() == 2);
    assert!(partitions(&first).is_disjoint(&partitions(&second)));
    assert!(log.group(&group, &[&topic]).expect("the group").members.len() == 2);

    // A partition that was never given up keeps its number; one that was is stale for ever.
    let kept: Vec<_> = first.assigned.clone();
    for one in &kept {
        let position = first.position(&topic, one.partition, 5, &format!("by first {}", one.partition));
        first.commit(&Commit { positions: &[position], ..Commit::default() });
    }
    let given = (0..4).find(|partition| !partitions(&first).contains(partition)).expect("two were given up");
    let stale = Position { partition: given, ..before };
    match first.committer.commit(&Commit { positions: &[stale], ..Commit::default() }) {
        CommitOutcome::NotOwner(named) => assert_eq!(named, [(Arc::from(topic.as_str()), given)]),
        other => panic!("the partition is the other member's, but {other:?}"),
    }

    let left = Instant::now();
    first.leave();
    let start = Instant::now();
    while second.assigned.len() < 4 {
        second.pump(Duration::from_millis(20)).expect("polling works");
        assert!(start.elapsed() < Duration::from_secs(40), "the session is not waited for");
    }
    println!("handed over {:?} after the member began to leave", left.elapsed());
    for one in &kept {
        let taken = second.of(&topic, one.partition);
        let committed = taken.committed.as_ref().expect("what the first member committed");
        assert_eq!((committed.offset, taken.start), (5, 5));
        assert_eq!(committed.text, format!("by first {}", one.partition));
    }
    second.leave();
}

#[test]
fn a_member_that_comes_back_has_its_partitions_and_the_others_notice_nothing() {
    let backend = backend();
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "static", 4);
    let group = backend.name("g");
    let mut first = Member::join(log.as_ref(), &named(&backend, &group, &topic, "host-1"), 4);
    let mut second = Member::join(log.as_ref(), &named(&backend, &group, &topic, "host-2"), 0);
    pump_both(&mut first, &mut second, "sharing", |a, b| a.assigned.len() == 2 && b.assigned.len() == 2);
    // The second half of the rebalance, with nothing left to hand over.
    let quiet = Instant::now();
    pump_both(&mut first, &mut second, "quiet", |_, _| quiet.elapsed() > Duration::from_millis(1500));
    first.backlog.clear();
    let had = partitions(&second);
    let others = first.assigned.clone();
    second.subscription.close(false).expect("closing works");
    drop(second.committer);
    let again = Instant::now();
    let second = Member::join(log.as_ref(), &named(&backend, &group, &topic, "host-2"), 2);
    println!("back with its partitions after {:?}", again.elapsed());
    assert_eq!(partitions(&second), had);
    first.pump_for(Duration::from_millis(500));
    assert_eq!(first.assigned, others, "the same numbers: nothing was revoked or assigned");
    assert!(!first.backlog.iter().any(|seen| matches!(seen, Seen::Assigned(_) | Seen::Revoked { .. })));
    let position = first.position(&topic, others[0].partition, 0, "still mine");
    first.commit(&Commit { positions: &[position], ..Commit::default() });
    second.leave();
    first.leave();
}

#[test]
fn a_second_process_of_the_same_name_fences_the_first() {
    let backend = backend();
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "fenced", 1);
    let out = backend.topic(log.as_ref(), "fenced-out", 1);
    let options = backend.member(&backend.name("g"), &[&topic]);
    let mut first = Member::join(log.as_ref(), &options, 1);
    let mut second = Member::join(log.as_ref(), &options, 1);
    // Its producer is fenced already, whatever its consumer has heard.
    let lost = values("lost", 0..1);
    let position = first.position(&topic, 0, 0, "first");
    let commit = Commit { records: &of_values(&out, &lost), positions: &[position], ..Commit::default() };
    match first.committer.commit(&commit) {
        CommitOutcome::Unknown(error) => {
            assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
            assert!(error.to_string().contains("instance"), "{error:?}");
        }
        CommitOutcome::NotOwner(_) | CommitOutcome::Again(_) => {}
        done @ (CommitOutcome::Done(_) | CommitOutcome::RecordsRefused(_)) => panic!("{done:?}"),
    }
    let error = wait_for("the word that another process has the place", || first.pump(Duration::from_millis(50)).err());
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}");
    let kept = values("kept", 0..1);
    let position = second.position(&topic, 0, 0, "second");
    second.commit(&Commit { records: &of_values(&out, &kept), positions: &[position], ..Commit::default() });
    assert_eq!(datamill_broker::conformance::texts(&read_all(log.as_ref(), &out, 0)), ["kept-0"]);
    second.leave();
}

#[test]
fn a_small_limit_of_a_topic_refuses_the_large_record_and_nothing_else() {
    let backend = backend();
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "small", 1);
    let mut out = new_topic(&backend.name("small-out"), 1);
    out.settings.insert("max.message.bytes".to_owned(), "20000".to_owned());
    log.create_topic(&out).expect("the topic can be created");
    // Together far more than the topic takes at once, each of them less.
    let good: Vec<Vec<u8>> = (0..40).map(|i| datamill_broker::conformance::noise(4000 + i)).collect();
    let bad = datamill_broker::conformance::noise(30_000);
    let record = |value| NewRecord { topic: &out.name, partition: Some(0), value: Some(value), ..NewRecord::default() };
    let mut records: Vec<_> = good.iter().map(|value| record(value)).collect();
    records.insert(17, record(&bad));
    let mut member = Member::join(log.as_ref(), &backend.member(&backend.name("g"), &[&topic]), 1);
    match member.committer.commit(&Commit { records: &records, ..Commit::default() }) {
        CommitOutcome::RecordsRefused(refused) => assert_eq!(refused.iter().map(|r| r.0).collect::<Vec<_>>(), [17]),
        other => panic!("{other:?}"),
    }
    records.remove(17);
    assert_eq!(member.commit(&Commit { records: &records, ..Commit::default() }).len(), 40);
    assert_eq!(read_all(log.as_ref(), &out.name, 0).len(), 40);
    records.insert(17, record(&bad));
    let mut publisher = log.publisher().expect("a publisher");
    let outcomes = datamill_broker::conformance::deliver(publisher.as_mut(), &records);
    let refused: Vec<_> = (0..41).filter(|&i| outcomes[i].is_err()).collect();
    assert_eq!(refused, [17]);
    member.leave();
}

#[test]
fn a_record_whose_content_is_refused_is_named_among_its_neighbours() {
    let backend = backend();
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "content", 1);
    let mut out = new_topic(&backend.name("content-out"), 1);
    out.settings.insert("cleanup.policy".to_owned(), "compact".to_owned());
    log.create_topic(&out).expect("the topic can be created");
    assert!(log.topic(&out.name).expect("the topic").is_compacted());
    let mut member = Member::join(log.as_ref(), &backend.member(&backend.name("g"), &[&topic]), 1);
    let sent = values("v", 0..5);
    let mut records: Vec<_> =
        of_values(&out.name, &sent).into_iter().map(|record| NewRecord { key: Some(b"k"), ..record }).collect();
    // A compacted topic takes no record without a key.
    records[3].key = None;
    match member.committer.commit(&Commit { records: &records, ..Commit::default() }) {
        CommitOutcome::RecordsRefused(refused) => {
            let [(3, error)] = &refused[..] else { panic!("{refused:?}") };
            assert_eq!(error.kind(), ErrorKind::RecordRefused, "{error:?}");
            assert!(error.to_string().contains("`cleanup.policy=compact`"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    records[3].key = Some(b"k");
    member.commit(&Commit { records: &records, ..Commit::default() });
    member.leave();
}

#[test]
fn positions_below_the_start_of_the_log_start_there_and_those_beyond_its_end_are_an_error() {
    let backend = backend();
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "range", 1);
    let group = backend.name("g");
    publish(log.as_ref(), &of_values(&topic, &values("r", 0..10)));
    let mut member = Member::join(log.as_ref(), &backend.member(&group, &[&topic]), 1);
    let position = member.position(&topic, 0, 500, "beyond");
    member.commit(&Commit { positions: &[position], ..Commit::default() });
    member.leave();
    let mut member = Member::join(log.as_ref(), &backend.member(&group, &[&topic]), 1);
    let error =
        wait_for("an error for a position that is not in the log", || member.pump(Duration::from_millis(50)).err());
    assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error:?}");
    let text = error.to_string();
    assert!(text.contains("500") && text.contains(&topic) && text.contains("partition 0"), "{text}");
}

#[test]
fn a_broker_that_is_not_there_is_told_within_seconds() {
    let broker = BTreeMap::from([("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned())]);
    let start = Instant::now();
    let error = open(&Properties { broker, ..Properties::default() }).err().expect("nobody listens there");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert_eq!(error.kind(), ErrorKind::Retry, "{error:?}");
    assert!(error.to_string().contains("127.0.0.1:1") && error.to_string().contains("bootstrap.servers"), "{error:?}");
}

#[test]
fn wrong_encryption_is_told_as_such() {
    let kafka = Kafka::from_env();
    let broker = BTreeMap::from([
        ("bootstrap.servers".to_owned(), kafka.address().to_owned()),
        ("security.protocol".to_owned(), "ssl".to_owned()),
        ("enable.ssl.certificate.verification".to_owned(), "false".to_owned()),
    ]);
    let error = open(&Properties { broker, ..Properties::default() }).err().expect("the broker speaks in the clear");
    assert!(error.to_string().contains("security.protocol"), "{error:?}");
}

/// The newer protocol of groups is an option; the places of its members are not kept.
#[test]
fn the_consumer_protocol_commits_and_hands_over_too() {
    let kafka = Kafka::from_env();
    let backend = backend_at(&kafka);
    let properties = Properties {
        broker: BTreeMap::from([("bootstrap.servers".to_owned(), kafka.address().to_owned())]),
        consumer: BTreeMap::from([("group.protocol".to_owned(), "consumer".to_owned())]),
        ..Properties::default()
    };
    let log = open(&properties).expect("the log opens");
    let topic = backend.topic(log.as_ref(), "newer", 2);
    let group = backend.name("g");
    publish(log.as_ref(), &of_values(&topic, &values("r", 0..3)));
    let mut first = Member::join(log.as_ref(), &named(&backend, &group, &topic, "host-1"), 2);
    first.records(3);
    let positions = [0, 1].map(|partition| first.position(&topic, partition, 0, "newer"));
    first.commit(&Commit { positions: &positions, ..Commit::default() });
    first.leave();
    let second = Member::join(log.as_ref(), &named(&backend, &group, &topic, "host-2"), 2);
    let text = second.of(&topic, 1).committed.as_ref().map(|committed| committed.text.clone());
    assert_eq!(text.as_deref(), Some("newer"));
    second.leave();
}

/// Brokers from 4.4.0 on take an older epoch of a member for partitions that it kept, so their refusal is no fence for the
/// others: the number of the assignment is.
#[test]
fn in_the_consumer_protocol_a_partition_that_moved_is_fenced_by_its_number() {
    let kafka = Kafka::from_env();
    let backend = backend_at(&kafka);
    let properties = Properties {
        broker: BTreeMap::from([("bootstrap.servers".to_owned(), kafka.address().to_owned())]),
        consumer: BTreeMap::from([("group.protocol".to_owned(), "consumer".to_owned())]),
        ..Properties::default()
    };
    let log = open(&properties).expect("the log opens");
    let topic = backend.topic(log.as_ref(), "moved", 2);
    let group = backend.name("g");
    publish(log.as_ref(), &of_values(&topic, &values("r", 0..3)));
    let mut first = Member::join(log.as_ref(), &named(&backend, &group, &topic, "host-1"), 2);
    let before = [0, 1].map(|partition| first.position(&topic, partition, 0, "before"));
    let mut second = Member::join(log.as_ref(), &named(&backend, &group, &topic, "host-2"), 0);
    pump_both(&mut first, &mut second, "sharing", |a, b| a.assigned.len() == 1 && b.assigned.len() == 1);
    let moved = second.assigned[0].partition;
    match first.committer.commit(&Commit { positions: &before, ..Commit::default() }) {
        CommitOutcome::NotOwner(named) => {
            assert_eq!(named.iter().map(|(_, partition)| *partition).collect::<Vec<_>>(), [moved]);
        }
        other => panic!("a commit of a partition that moved: {other:?}"),
    }
    assert!(log.group(&group, &[&topic]).expect("the group").committed.is_empty(), "nothing of it happened");
    let kept = before.into_iter().filter(|position| position.partition != moved).collect::<Vec<_>>();
    first.commit(&Commit { positions: &kept, ..Commit::default() });
    first.leave();
    second.leave();
}

#[test]
fn a_member_commits_back_to_back_and_many_results_at_once_and_comes_back_after_leaving() {
    let backend = backend();
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "quick", 4);
    let out = backend.topic(log.as_ref(), "quick-out", 1);
    let options =
        SubscribeOptions { first_start: FirstStart::Earliest, ..backend.member(&backend.name("g"), &[&topic]) };
    publish(log.as_ref(), &of_values(&topic, &values("r", 0..10)));
    let mut member = Member::join(log.as_ref(), &options, 4);
    member.records(10);
    let positions = |member: &Member, text: &str| [0, 1, 2, 3].map(|p| member.position(&topic, p, 0, text));
    let mut committed = Vec::new();
    for number in 0..100 {
        let result = values("single", number..number + 1);
        let positions = positions(&member, "single");
        member.commit(&Commit { records: &of_values(&out, &result), positions: &positions, ..Commit::default() });
        committed.extend(result);
    }
    let many = values(&"x".repeat(190), 0..20_000);
    member.commit(&Commit { records: &of_values(&out, &many), ..Commit::default() });
    committed.extend(many);
    for round in 0..3 {
        member.leave();
        member = Member::join(log.as_ref(), &options, 4);
        let before = member.of(&topic, 3).committed.as_ref().map(|committed| committed.text.clone());
        let expected = if round == 0 { "single".to_owned() } else { format!("round {}", round - 1) };
        assert_eq!(before, Some(expected));
        let result = values("round", round..round + 1);
        let positions = positions(&member, &format!("round {round}"));
        member.commit(&Commit { records: &of_values(&out, &result), positions: &positions, ..Commit::default() });
        committed.extend(result);
    }
    member.leave();
    assert_eq!(texts(&read_all(log.as_ref(), &out, 0)), committed);
}
