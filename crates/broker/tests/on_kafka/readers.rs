//! Which groups have read a topic: those of other programs as well, and those alone that the account sees.

use std::collections::BTreeMap;

use datamill_broker::{Commit, DeliveryGuarantee, Log, Properties, Readers, SubscribeOptions, open};
use datamill_testkit::kafka::Kafka;
use datamill_testkit::secured::SecuredKafka;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::{backend, backend_on};
use datamill_broker::conformance::{Backend, Member, wait_for};

#[test]
fn a_group_that_another_program_set_a_position_for_without_joining_it_has_read_the_topic() {
    let backend = backend();
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "simple", 2);
    let group = backend.name("g");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", Kafka::from_env().address())
        .set("group.id", &group)
        .create()
        .expect("a consumer");
    let mut position = TopicPartitionList::new();
    position.add_partition_offset(&topic, 1, Offset::Offset(0)).expect("an offset");
    consumer.commit(&position, CommitMode::Sync).expect("the commit");
    assert_eq!(log.groups_of(&topic).expect("the groups"), Readers { groups: vec![group], are_all: true });
}

fn commit(backend: &Backend, log: &dyn Log, topic: &str, group: &str) {
    let delivery = DeliveryGuarantee::AtLeastOnce;
    let mut member = Member::join(log, &SubscribeOptions { delivery, ..backend.member(group, &[topic]) }, 1);
    let position = member.position(topic, 0, 0, "");
    member.commit(&Commit { positions: &[position], ..Commit::default() });
    member.leave();
}

#[test]
fn groups_that_the_account_may_not_see_are_left_out_and_that_is_told() {
    let kafka = SecuredKafka::start();
    let backend = backend_on(kafka.open_address());
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "read", 1);
    for group in ["hidden", "seen"] {
        commit(&backend, log.as_ref(), &topic, group);
    }
    kafka.allow("user1", &["--operation", "Describe", "--topic", &topic, "--group", "seen"]);
    let broker: BTreeMap<String, String> =
        kafka.login("user1").into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let own = open(&Properties { broker, ..Properties::default() }).expect("the log opens");
    let shows = |groups: &[&str], are_all| {
        let expected = Readers { groups: groups.iter().map(|group| (*group).to_owned()).collect(), are_all };
        wait_for(&format!("{expected:?}"), || own.groups_of(&topic).ok().filter(|found| *found == expected));
    };
    shows(&["seen"], false);
    // the broker lists the other one as well, and does not say what it has read
    kafka.allow("user1", &["--operation", "Describe", "--cluster"]);
    shows(&["seen"], false);
    kafka.allow("user1", &["--operation", "Describe", "--group", "hidden"]);
    shows(&["hidden", "seen"], true);
}
