//! Topics that change while a member reads them: deleted and created again, or given more partitions.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use datamill_broker::{
    Commit, ErrorKind, FirstStart, Log, Membership, Properties, SubscribeOptions, TopicIdentity, open,
};
use datamill_testkit::kafka::{Kafka, offers_the_consumer_protocol};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;

use crate::backend_at;
use datamill_broker::conformance::{Backend, Member, PATIENCE, deliver, of_values, publish, texts, values, wait_for};

/// What the tools of a cluster do to a topic.
struct Tools(AdminClient<DefaultClientContext>);

impl Tools {
    fn new(kafka: &Kafka) -> Self {
        let mut config = ClientConfig::new();
        Self(config.set("bootstrap.servers", kafka.address()).create().expect("a client"))
    }

    fn delete(&self, topic: &str) {
        let answers = done(self.0.delete_topics(&[topic], &AdminOptions::new())).expect("an answer");
        assert_eq!(answers, [Ok(topic.to_owned())]);
    }

    fn grow(&self, topic: &str, partitions: usize) {
        let more = NewPartitions::new(topic, partitions);
        let answers = done(self.0.create_partitions([&more], &AdminOptions::new())).expect("an answer");
        assert_eq!(answers, [Ok(topic.to_owned())]);
    }
}

fn done<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn on_each_protocol(check: impl Fn(&Backend, &dyn Log, &Tools)) {
    let newer = offers_the_consumer_protocol().then_some("consumer");
    for protocol in ["classic"].into_iter().chain(newer) {
        let kafka = Kafka::from_env();
        let backend = backend_at(&kafka);
        let mut properties = Properties::default();
        properties.broker.insert("bootstrap.servers".to_owned(), kafka.address().to_owned());
        properties.consumer = BTreeMap::from([("group.protocol".to_owned(), protocol.to_owned())]);
        properties.consumer.insert("topic.metadata.refresh.interval.ms".to_owned(), "1000".to_owned());
        println!("{protocol}");
        check(&backend, open(&properties).expect("the log opens").as_ref(), &Tools::new(&kafka));
    }
}

fn member(backend: &Backend, topic: &str) -> SubscribeOptions {
    SubscribeOptions { membership: Membership::Dynamic, ..backend.member(&backend.name("g"), &[topic]) }
}

#[test]
fn a_topic_that_is_created_again_ends_its_member_and_groups_have_no_position_in_it() {
    on_each_protocol(|backend, log, tools| {
        let topic = backend.topic(log, "again", 1);
        let id = log.topic_now(&topic).expect("the topic").id.expect("an id");
        publish(log, &of_values(&topic, &values("old", 0..20)));
        let ids = BTreeMap::from([(topic.clone(), id.clone())]);
        let options =
            SubscribeOptions { identity: TopicIdentity { ids, ..TopicIdentity::default() }, ..member(backend, &topic) };
        let mut first = Member::join(log, &options, 1);
        first.records(20);
        let position = first.position(&topic, 0, 20, "old");
        first.commit(&Commit { positions: &[position], ..Commit::default() });
        tools.delete(&topic);
        wait_for("the topic to be gone", || log.topic_now(&topic).is_err().then_some(()));
        assert_eq!(backend.topic(log, "again", 1), topic);
        assert_ne!(log.topic_now(&topic).expect("the topic").id, Some(id));
        let values = values("new", 0..40);
        let records = of_values(&topic, &values);
        assert!(deliver(log.publisher().expect("a publisher").as_mut(), &records).iter().all(Result::is_ok));
        let start = Instant::now();
        let error = loop {
            if let Err(error) = first.pump(Duration::from_millis(50)) {
                break error;
            }
            assert!(start.elapsed() < PATIENCE, "the member goes on");
        };
        assert_eq!(error.kind(), ErrorKind::TopicReplaced, "{error:?}");
        println!("said after {:?}", start.elapsed());
        drop(first);
        let mut second = Member::join(log, &member(backend, &topic), 1);
        assert_eq!((second.of(&topic, 0).start, &second.of(&topic, 0).committed), (0, &None));
        assert_eq!(texts(&second.records(40)), values);
        second.leave();
    });
}

#[test]
fn partitions_that_are_added_come_to_a_running_member_and_are_read_from_their_first_record() {
    on_each_protocol(|backend, log, tools| {
        let topic = backend.topic(log, "grows", 2);
        publish(log, &of_values(&topic, &values("old", 0..5)));
        let options = SubscribeOptions { first_start: FirstStart::Latest, ..member(backend, &topic) };
        let mut reader = Member::join(log, &options, 2);
        let positions = [0, 1].map(|partition| {
            let start = reader.of(&topic, partition).start;
            reader.position(&topic, partition, start, "")
        });
        reader.commit(&Commit { positions: &positions, ..Commit::default() });
        let mut publisher = log.publisher().expect("a publisher");
        let sent = values("new", 0..60);
        let mut records = of_values(&topic, &sent);
        assert!(deliver(publisher.as_mut(), &records[..6]).iter().all(Result::is_ok));
        tools.grow(&topic, 6);
        wait_for("six partitions", || (log.topic_now(&topic).ok()?.partitions == 6).then_some(()));
        (0..).zip(&mut records).skip(6).for_each(|(i, record)| record.partition = Some(i % 6));
        let outcomes = deliver(publisher.as_mut(), &records[6..]);
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        let mut read: Vec<String> = texts(&reader.records(60)).into_iter().map(str::to_owned).collect();
        read.sort();
        let mut sent = sent.clone();
        sent.sort();
        assert_eq!(read, sent);
        assert!((2..6).all(|partition| reader.of(&topic, partition).added), "{:?}", reader.assigned);
        reader.leave();
    });
}
