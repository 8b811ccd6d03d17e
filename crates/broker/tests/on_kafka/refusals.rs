//! What a broker refuses is told as what it is: by whom, and what to change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{backend, backend_at};
use datamill_broker::conformance::{Backend, Member, deliver, new_topic, noise, of_values, read_all, values, wait_for};
use datamill_broker::{
    Commit, CommitOutcome, DeliveryGuarantee, Error, ErrorKind, Log, NewRecord, Properties, StateChange,
    SubscribeOptions, open,
};
use datamill_testkit::kafka::Kafka;

const HOUR_MS: i64 = 3_600_000;

#[allow(clippy::disallowed_methods, reason = "the broker has a clock of its own")]
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// A topic of one partition that takes records of the last hour alone.
fn takes_an_hour(backend: &Backend, log: &dyn Log) -> String {
    let mut topic = new_topic(&backend.name("hour"), 1);
    topic.settings.insert("message.timestamp.before.max.ms".to_owned(), HOUR_MS.to_string());
    log.create_topic(&topic).expect("the topic can be created");
    wait_for("the topic that was created", || log.topic(&topic.name).ok());
    topic.name
}

fn member(backend: &Backend, log: &dyn Log, delivery: DeliveryGuarantee) -> Member {
    let topic = backend.topic(log, "in", 1);
    let options = SubscribeOptions { delivery, ..backend.member(&backend.name("g"), &[&topic]) };
    Member::join(log, &options, 1)
}

fn is_about_the_time(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::RecordRefused, "{error:?}");
    for part in ["its time", "the clock of this machine", "`message.timestamp.before.max.ms`"] {
        assert!(error.to_string().contains(part), "no {part}: {error:?}");
    }
}

/// A broker refuses a batch as a whole; many records that are refused cost no transaction each.
#[test]
fn all_records_whose_time_is_refused_are_named_at_once_and_the_others_are_taken() {
    for delivery in [DeliveryGuarantee::ExactlyOnce, DeliveryGuarantee::AtLeastOnce] {
        let backend = backend();
        let log = backend.open();
        let out = takes_an_hour(&backend, log.as_ref());
        let mut member = member(&backend, log.as_ref(), delivery);
        let sent = values("r", 0..200);
        let is_old = |i: usize| i.is_multiple_of(3);
        let mut records = of_values(&out, &sent);
        for (i, record) in records.iter_mut().enumerate() {
            record.timestamp_ms = Some(now_ms() - if is_old(i) { 2 * HOUR_MS } else { 0 });
        }
        let refused = match member.committer.commit(&Commit { records: &records, ..Commit::default() }) {
            CommitOutcome::RecordsRefused(refused) => refused,
            other => panic!("{delivery:?}: {other:?}"),
        };
        refused.iter().for_each(|(_, error)| is_about_the_time(error));
        let named: Vec<usize> = refused.iter().map(|(index, _)| *index).collect();
        assert_eq!(named, (0..200).filter(|i| is_old(*i)).collect::<Vec<_>>(), "{delivery:?}");
        let good: Vec<_> = (0..200).filter(|i| !is_old(*i)).map(|i| records[i].clone()).collect();
        assert_eq!(member.commit(&Commit { records: &good, ..Commit::default() }).len(), good.len());
        assert_eq!(read_all(log.as_ref(), &out, 0).len(), good.len());
        member.leave();
    }
}

#[test]
fn a_clock_that_is_ahead_is_told_as_such() {
    let backend = backend();
    let log = backend.open();
    let out = backend.topic(log.as_ref(), "out", 1);
    let sent = values("r", 0..1);
    let ahead = |record: NewRecord<'static>| NewRecord { timestamp_ms: Some(now_ms() + 2 * HOUR_MS), ..record };
    let record = ahead(NewRecord { topic: "", key: Some(b"k"), value: Some(b"v"), ..NewRecord::default() });
    let record = NewRecord { topic: &out, ..record };
    let mut publisher = log.publisher().expect("a publisher");
    let outcomes = deliver(publisher.as_mut(), std::slice::from_ref(&record));
    is_about_the_time(outcomes[0].as_ref().expect_err("two hours ahead"));
    let mut member = member(&backend, log.as_ref(), DeliveryGuarantee::ExactlyOnce);
    match member.committer.commit(&Commit { records: &[record], ..Commit::default() }) {
        CommitOutcome::RecordsRefused(refused) => is_about_the_time(&refused[0].1),
        other => panic!("{other:?}"),
    }
    member.commit(&Commit { records: &of_values(&out, &sent), ..Commit::default() });
    member.leave();
}

/// Nothing of such a commit ever passes.
#[test]
fn a_broker_that_keeps_no_text_beside_an_offset_is_told_with_the_name_of_the_setting() {
    let kafka = Kafka::start_own_with("offset.metadata.max.bytes=8");
    for delivery in [DeliveryGuarantee::ExactlyOnce, DeliveryGuarantee::AtLeastOnce] {
        let backend = backend_at(&kafka);
        let log = backend.open();
        let topic = backend.topic(log.as_ref(), "in", 1);
        let options = SubscribeOptions { delivery, ..backend.member(&backend.name("g"), &[&topic]) };
        let mut member = Member::join(log.as_ref(), &options, 1);
        let position = [member.position(&topic, 0, 0, "more than eight")];
        let commit = Commit { positions: &position, ..Commit::default() };
        let error = wait_for("the refusal", || match member.committer.commit(&commit) {
            CommitOutcome::Again(error) if error.kind() != ErrorKind::Retry => Some(error),
            CommitOutcome::Again(_) => {
                member.pump(Duration::from_millis(50)).expect("polling works");
                None
            }
            other => panic!("{delivery:?}: {other:?}"),
        });
        assert_eq!(error.kind(), ErrorKind::Settings, "{error:?}");
        assert!(error.to_string().contains("`offset.metadata.max.bytes`"), "{error:?}");
        member.leave();
    }
}

/// The caller can name no record of the state, so the refusal is the commit's.
#[test]
fn a_topic_of_the_state_that_refuses_the_time_is_named() {
    let backend = backend();
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "in", 1);
    let group = backend.name("g");
    let mut state = new_topic(&format!("datamill.{group}.state"), 1);
    state.settings.insert("message.timestamp.before.max.ms".to_owned(), "0".to_owned());
    log.create_topic(&state).expect("the topic can be created");
    let mut member = Member::join(log.as_ref(), &backend.member(&group, &[&topic]), 1);
    let change = [StateChange { key: "k".to_owned(), value: Some(b"v".to_vec()) }];
    match member.committer.commit(&Commit { state: &change, ..Commit::default() }) {
        CommitOutcome::Again(error) => {
            assert_eq!(error.kind(), ErrorKind::RecordRefused, "{error:?}");
            for part in [state.name.as_str(), "`message.timestamp.before.max.ms`"] {
                assert!(error.to_string().contains(part), "no {part}: {error:?}");
            }
        }
        other => panic!("{other:?}"),
    }
    member.leave();
}

#[test]
fn a_broker_without_the_group_protocol_of_the_configuration_is_told_at_the_start() {
    let kafka = Kafka::start_own_with("group.coordinator.rebalance.protocols=classic");
    let backend = backend_at(&kafka);
    let properties = Properties {
        broker: BTreeMap::from([("bootstrap.servers".to_owned(), kafka.address().to_owned())]),
        consumer: BTreeMap::from([("group.protocol".to_owned(), "consumer".to_owned())]),
        ..Properties::default()
    };
    let log = open(&properties).expect("the log opens");
    let topic = backend.topic(log.as_ref(), "in", 1);
    let refused = log.subscribe(&backend.member(&backend.name("g"), &[&topic]));
    let error = refused.err().expect("the broker does not offer it");
    assert_eq!(error.kind(), ErrorKind::Settings, "{error:?}");
    for part in ["`consumer`", "`group.coordinator.rebalance.protocols`", "take `group.protocol` out"] {
        assert!(error.to_string().contains(part), "no {part}: {error:?}");
    }
    Member::join(backend.open().as_ref(), &backend.member(&backend.name("g"), &[&topic]), 1).leave();
}

/// What a broker refuses has been sent, and took what went with it down.
#[test]
fn a_record_that_is_too_large_also_when_compressed_is_refused_before_anything_is_sent() {
    for delivery in [DeliveryGuarantee::ExactlyOnce, DeliveryGuarantee::AtLeastOnce] {
        let backend = backend();
        let log = backend.open();
        let out = backend.topic(log.as_ref(), "small", 1);
        let largest = log.topic(&out).expect("the topic").largest_record().expect("a limit");
        let mut member = member(&backend, log.as_ref(), delivery);
        let (noise, zeros) = (noise(2 * largest), vec![0; 4 * largest]);
        let of = |value| NewRecord { topic: &out, key: Some(b"k"), value: Some(value), ..NewRecord::default() };
        let refused = match member.committer.commit(&Commit { records: &[of(b"v"), of(&noise)], ..Commit::default() }) {
            CommitOutcome::RecordsRefused(refused) => refused,
            other => panic!("{delivery:?}: {other:?}"),
        };
        let [(1, error)] = refused.as_slice() else { panic!("{delivery:?}: {refused:?}") };
        assert_eq!(error.kind(), ErrorKind::RecordTooLarge, "{error:?}");
        for part in [&out, "also when it is compressed", "`max.message.bytes`"] {
            assert!(error.to_string().contains(part), "no {part}: {error:?}");
        }
        // also a transaction that was aborted leaves its mark in the partition
        assert_eq!(log.offsets(&out, 0).expect("offsets").end, 0, "{delivery:?}");
        assert_eq!(member.commit(&Commit { records: &[of(b"v"), of(&zeros)], ..Commit::default() }).len(), 2);
        let read = read_all(log.as_ref(), &out, 0);
        let sizes: BTreeSet<_> = read.iter().map(|r| r.value.as_ref().map_or(0, Vec::len)).collect();
        assert_eq!(sizes, BTreeSet::from([1, 4 * largest]));
        member.leave();
    }
}
