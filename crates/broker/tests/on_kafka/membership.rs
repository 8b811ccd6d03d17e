//! Members of a group on Apache Kafka, by the way in which the group knows them: fencing, names, comings
//! and goings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend_at;
use datamill_broker::conformance::{Backend, Member, PATIENCE, of_values, publish, read_all, texts, values, wait_for};
use datamill_broker::{
    Commit, CommitOutcome, ErrorKind, Event, Log, Membership, Properties, Session, SubscribeOptions, open,
};
use datamill_testkit::kafka::{Kafka, offers_the_consumer_protocol};

/// The ways in which a group can know its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Static,
    Dynamic,
    ConsumerProtocol,
}

/// All that the broker offers.
fn kinds() -> Vec<Kind> {
    let newer = offers_the_consumer_protocol().then_some(Kind::ConsumerProtocol);
    [Kind::Static, Kind::Dynamic].into_iter().chain(newer).collect()
}

/// How many moments of joining are tried, some milliseconds apart.
const JOINING: u64 = 25;

struct Group {
    backend: Backend,
    log: Arc<dyn Log>,
    kind: Kind,
    topic: String,
    out: String,
    name: String,
}

impl Group {
    fn new(kind: Kind, consumer: &[(&str, &str)]) -> Self {
        let kafka = Kafka::from_env();
        let backend = backend_at(&kafka);
        let mut properties = Properties::default();
        properties.broker.insert("bootstrap.servers".to_owned(), kafka.address().to_owned());
        properties.consumer = consumer.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        if kind == Kind::ConsumerProtocol {
            properties.consumer = BTreeMap::from([("group.protocol".to_owned(), "consumer".to_owned())]);
            properties.consumer.extend(consumer.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        }
        let log = open(&properties).expect("the log opens");
        let topic = backend.topic(log.as_ref(), "in", 1);
        let out = backend.topic(log.as_ref(), "out", 1);
        let name = backend.name("g");
        Self { backend, log, kind, topic, out, name }
    }

    fn options(&self, instance: &str) -> SubscribeOptions {
        let membership = if self.kind == Kind::Static { Membership::Static } else { Membership::Dynamic };
        let options = self.backend.member(&self.name, &[&self.topic]);
        SubscribeOptions { instance: instance.to_owned(), membership, ..options }
    }

    fn join(&self, instance: &str, partitions: usize) -> Member {
        Member::join(self.log.as_ref(), &self.options(instance), partitions)
    }
}

/// A member that hung commits nothing once another one has its partition, whether it knows already or not.
fn a_member_that_hung_is_fenced(kind: Kind) {
    let limits = [("session.timeout.ms", "1000"), ("heartbeat.interval.ms", "100"), ("max.poll.interval.ms", "1500")];
    let group = Group::new(kind, &limits);
    let mut first = group.join("first", 1);
    let position = first.position(&group.topic, 0, 0, "before it hung");
    first.commit(&Commit { positions: std::slice::from_ref(&position), ..Commit::default() });
    // it polls no more, and the group goes on without it
    let mut second = group.join("second", 1);
    let lost = values("lost", 0..1);
    let stale = [first.position(&group.topic, 0, 0, "stale")];
    let commit = Commit { records: &of_values(&group.out, &lost), positions: &stale, ..Commit::default() };
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        let outcome = first.committer.commit(&commit);
        assert!(matches!(outcome, CommitOutcome::Again(_)), "{kind:?}: nothing may be committed: {outcome:?}");
        second.pump(Duration::ZERO).expect("polling works");
    }
    // it comes back to itself
    wait_for("the word that the partition is lost", || {
        first.pump(Duration::from_millis(20)).expect("polling works");
        second.pump(Duration::from_millis(20)).expect("polling works");
        first.assigned.is_empty().then_some(())
    });
    let outcome = first.committer.commit(&commit);
    assert!(matches!(outcome, CommitOutcome::NotOwner(_)), "{kind:?}: {outcome:?}");
    // it joined again, so the partition may be on its way from one to the other
    first.leave();
    let kept = values("kept", 0..1);
    wait_for("a commit of the second one", || {
        second.pump(Duration::from_millis(20)).expect("polling works");
        second.assigned.first()?;
        let position = [second.position(&group.topic, 0, 0, "second")];
        let commit = Commit { records: &of_values(&group.out, &kept), positions: &position, ..Commit::default() };
        matches!(second.committer.commit(&commit), CommitOutcome::Done(_)).then_some(())
    });
    assert_eq!(texts(&read_all(group.log.as_ref(), &group.out, 0)), ["kept-0"]);
    second.leave();
}

#[test]
fn a_static_member_that_hung_is_fenced() {
    a_member_that_hung_is_fenced(Kind::Static);
}

#[test]
fn a_dynamic_member_that_hung_is_fenced() {
    a_member_that_hung_is_fenced(Kind::Dynamic);
}

#[test]
fn a_member_of_the_consumer_protocol_that_hung_is_fenced() {
    a_member_that_hung_is_fenced(Kind::ConsumerProtocol);
}

/// The coordinator would take a commit without a generation unchecked.
#[test]
fn who_has_not_joined_yet_commits_nothing() {
    for kind in kinds() {
        let group = Group::new(kind, &[]);
        let mut owner = group.join("owner", 1);
        let position = [owner.position(&group.topic, 0, 7, "the owner's")];
        owner.commit(&Commit { positions: &position, ..Commit::default() });
        // never polled: it is no member
        let Session { subscription, mut committer } =
            group.log.subscribe(&group.options("stranger")).expect("subscribing works");
        let outcome = committer.commit(&Commit { positions: &position, ..Commit::default() });
        assert!(!matches!(outcome, CommitOutcome::Done(_)), "{kind:?}: {outcome:?}");
        let seen = group.log.group(&group.name, &[&group.topic]).expect("the group");
        assert_eq!(seen.committed[&(group.topic.clone(), 0)].text, "the owner's", "{kind:?}");
        drop((subscription, committer));
        owner.leave();
    }
}

/// The second process of one name ends the first, whatever the group knows of names.
#[test]
fn a_second_process_of_one_name_takes_the_place_of_the_first() {
    for kind in kinds() {
        let group = Group::new(kind, &[]);
        let mut first = group.join("same", 1);
        let mut second = group.log.subscribe(&group.options("same")).expect("the second one begins");
        let lost = values("lost", 0..1);
        let position = [first.position(&group.topic, 0, 0, "first")];
        let commit = Commit { records: &of_values(&group.out, &lost), positions: &position, ..Commit::default() };
        let start = Instant::now();
        let error = loop {
            match first.committer.commit(&commit) {
                CommitOutcome::Unknown(error) => break error,
                CommitOutcome::Again(_) => assert!(start.elapsed() < PATIENCE),
                other => panic!("{kind:?}: {other:?}"),
            }
        };
        assert_eq!(error.kind(), ErrorKind::Fenced, "{kind:?}: {error:?}");
        assert!(read_all(group.log.as_ref(), &group.out, 0).is_empty());
        drop(first);
        wait_for("the place of the first", || {
            let mut has_it = false;
            let mut look = |event: Event<'_>| has_it |= matches!(event, Event::Assigned(places) if !places.is_empty());
            second.subscription.poll(Duration::from_millis(100), &mut look).expect("the second one goes on");
            has_it.then_some(())
        });
        drop(second);
    }
}

/// A program may be stopped while it joins: librdkafka then gives its answer to the assignment and the
/// revocation that follows in one breath.
#[test]
fn a_member_may_end_at_any_moment_of_its_first_rebalance() {
    let groups: Vec<Group> = kinds().into_iter().map(|kind| Group::new(kind, &[])).collect();
    let (done, ended) = std::sync::mpsc::sync_channel(64);
    for step in 0..JOINING {
        let ways = groups.iter().flat_map(|group| [(group, false), (group, step % 5 == 0)]);
        for (way, (group, leave)) in ways.enumerate() {
            let name = format!("{}-{step}-{way}", group.name);
            let options = SubscribeOptions { group: name, ..group.options("one") };
            let mut subscription = group.log.subscribe(&options).expect("the member begins").subscription;
            let done = done.clone();
            std::thread::spawn(move || {
                // one poll hands out all that came: the close meets what comes after it
                std::thread::sleep(Duration::from_millis(3 * step));
                subscription.poll(Duration::ZERO, &mut |_| ()).expect("it polls");
                std::thread::sleep(Duration::from_millis(step));
                drop(done.send(subscription.close(leave)));
            });
        }
        for _ in 0..2 * groups.len() {
            let closed = ended.recv_timeout(PATIENCE);
            assert!(matches!(closed, Ok(Ok(()))), "after {step} steps: {closed:?}");
        }
    }
}

/// As every member is for a moment of its first rebalance, and one more than there are partitions for good.
#[test]
fn a_dynamic_member_that_ends_without_a_partition_leaves_nothing_that_others_wait_for() {
    let group = Group::new(Kind::Dynamic, &[("session.timeout.ms", "180000"), ("heartbeat.interval.ms", "500")]);
    let first = group.join("first", 1);
    let mut spare = group.log.subscribe(&group.options("spare")).expect("the member begins").subscription;
    let mut joined = false;
    wait_for("the spare member joins", || {
        let polled = spare.poll(Duration::from_millis(10), &mut |event| match event {
            Event::Assigned(assigned) => joined = assigned.is_empty(),
            other => panic!("it has a partition: {other:?}"),
        });
        polled.expect("it polls");
        joined.then_some(())
    });
    spare.close(false).expect("closing works");
    first.subscription.close(false).expect("closing works");
    let start = Instant::now();
    group.join("second", 1).leave();
    assert!(start.elapsed() < Duration::from_secs(120), "no session is waited for");
}

#[test]
fn a_dynamic_member_that_ends_in_order_hands_over_at_once_whether_it_leaves_or_not() {
    for leave in [true, false] {
        let group = Group::new(Kind::Dynamic, &[("session.timeout.ms", "180000")]);
        publish(group.log.as_ref(), &of_values(&group.topic, &values("r", 0..3)));
        let first = group.join("first", 1);
        first.subscription.close(leave).expect("closing works");
        let start = Instant::now();
        let mut second = group.join("second", 1);
        assert!(start.elapsed() < Duration::from_secs(120), "the session is not waited for");
        assert_eq!(second.records(3).len(), 3);
        second.leave();
    }
}
