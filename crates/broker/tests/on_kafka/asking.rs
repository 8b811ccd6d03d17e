//! A broker that makes each topic that it is asked for (`auto.create.topics.enable`) is never asked in that way.

use std::collections::BTreeMap;
use std::time::Duration;

use datamill_broker::{Commit, CommitOutcome, DeliveryGuarantee, ErrorKind, Properties, SubscribeOptions, open};
use datamill_testkit::kafka::Kafka;

use crate::backend_at;
use datamill_broker::conformance::{Member, deliver, of_values, values};

#[test]
fn no_question_creates_a_topic_on_a_broker_that_creates_what_it_is_asked_for() {
    let kafka = Kafka::start_own_with("auto.create.topics.enable=true\ndelete.topic.enable=false\n");
    let backend = backend_at(&kafka);
    let broker = BTreeMap::from([
        ("bootstrap.servers".to_owned(), kafka.address().to_owned()),
        ("allow.auto.create.topics".to_owned(), "true".to_owned()),
    ]);
    let log = open(&Properties { broker, ..Properties::default() }).expect("the log opens");
    let there = backend.topic(log.as_ref(), "there", 1);
    let sent = values("v", 0..1);
    let unknown = |what: &str, error: Option<datamill_broker::Error>| {
        let error = error.unwrap_or_else(|| panic!("{what}: there is no such topic"));
        assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{what}: {error:?}");
    };
    unknown("topic", log.topic("none-topic").err());
    unknown("topic_now", log.topic_now("none-now").err());
    unknown("use", log.topic_for_use("none-use").err());
    unknown("offsets", log.offsets("none-offsets", 0).err());
    unknown("reader", log.reader("none-reader", &[(0, 0)]).map(|_| ()).err());
    unknown("group", log.group("g", &["none-group"]).err());
    unknown("groups", log.groups_of("none-groups").err());
    unknown("delete", log.delete_topic("none-delete").err());
    let mut publisher = log.publisher().expect("a publisher");
    unknown("send", deliver(publisher.as_mut(), &of_values("none-send", &sent)).remove(0).err());
    for delivery in [DeliveryGuarantee::ExactlyOnce, DeliveryGuarantee::AtLeastOnce] {
        let options =
            |topic: &str| SubscribeOptions { delivery, ..backend.member(&format!("g-{delivery:?}"), &[topic]) };
        unknown("subscribe", log.subscribe(&options("none-subscribe")).map(|_| ()).err());
        let mut member = Member::join(log.as_ref(), &options(&there), 1);
        let positions = [member.position(&there, 0, 0, "")];
        let records = of_values("none-commit", &sent);
        match member.committer.commit(&Commit { records: &records, positions: &positions, ..Commit::default() }) {
            CommitOutcome::Again(error) => unknown("commit", Some(error)),
            other => panic!("the topic does not exist, but {other:?}"),
        }
        member.leave();
    }
    let error = log.delete_topic(&there).expect_err("the broker deletes no topic");
    assert_eq!(error.kind(), ErrorKind::Settings, "{error:?}");
    assert!(error.to_string().contains("`delete.topic.enable`"), "{error:?}");
    // What a client asks for by itself, it asks for every now and then.
    deliver(publisher.as_mut(), &of_values(&there, &sent));
    std::thread::sleep(Duration::from_secs(2));
    let names: Vec<String> = log.topics().expect("a list").into_iter().map(|topic| topic.name).collect();
    assert_eq!(names, [there]);
}
