//! Checks of consumer groups: first starts, assignments, holding, owners.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::{
    Commit, CommitOutcome, DeliveryGuarantee, ErrorKind, FirstStart, Readers, StateChange, SubscribeOptions,
    TopicIdentity,
};

use super::{Backend, Member, PATIENCE, Seen, of_values, publish, read_all, texts, values, wait_for};

pub(super) fn a_first_start_at_the_earliest_record_reads_all(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "earliest", 1);
    let sent = values("r", 0..10);
    publish(log.as_ref(), &of_values(&topic, &sent));
    let mut member = Member::join(log.as_ref(), &backend.member(&backend.name("g"), &[&topic]), 1);
    let assigned = member.of(&topic, 0);
    assert_eq!((assigned.start, assigned.log_start, &assigned.committed), (0, 0, &None));
    assert_eq!(texts(&member.records(10)), sent);
    member.leave();
}

pub(super) fn a_first_start_behind_the_latest_record_reads_what_comes_after(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "latest", 1);
    let sent = values("r", 0..10);
    publish(log.as_ref(), &of_values(&topic, &sent[..7]));
    let end = log.offsets(&topic, 0).expect("offsets").end;
    let options = SubscribeOptions { first_start: FirstStart::Latest, ..backend.member(&backend.name("g"), &[&topic]) };
    let mut member = Member::join(log.as_ref(), &options, 1);
    assert_eq!(member.of(&topic, 0).start, end);
    publish(log.as_ref(), &of_values(&topic, &sent[7..]));
    assert_eq!(texts(&member.records(3)), sent[7..]);
    member.leave();
}

pub(super) fn a_first_start_that_is_to_be_an_error_is_one(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "error", 1);
    let group = backend.name("g");
    let options = SubscribeOptions { first_start: FirstStart::Error, ..backend.member(&group, &[&topic]) };
    let start = Instant::now();
    let error = match log.subscribe(&options) {
        Err(error) => error,
        Ok(mut session) => loop {
            if let Err(error) = session.subscription.poll(Duration::from_millis(100), &mut |_| {}) {
                break error;
            }
            assert!(start.elapsed() < PATIENCE, "starting without a position is an error");
        },
    };
    assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error:?}");
    assert!(error.to_string().contains(&topic), "{error:?}");
    // With something committed, the same options start there.
    let mut member = Member::join(log.as_ref(), &backend.member(&group, &[&topic]), 1);
    let position = member.position(&topic, 0, 0, "");
    member.commit(&Commit { positions: &[position], ..Commit::default() });
    member.leave();
    Member::join(log.as_ref(), &options, 1).leave();
}

pub(super) fn a_partition_that_a_group_never_had_starts_at_its_first_record(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "added", 3);
    let sent = values("r", 0..4);
    let mut records = of_values(&topic, &sent);
    (0..).zip(&mut records).for_each(|(i, record)| record.partition = Some(i % 3));
    publish(log.as_ref(), &records);
    let options = |first_start| SubscribeOptions { first_start, ..backend.member(&backend.name("g"), &[&topic]) };
    let mut member = Member::join(log.as_ref(), &options(FirstStart::Latest), 3);
    let starts = |member: &Member| [0, 1, 2].map(|partition| member.of(&topic, partition).start);
    let added = |member: &Member| [0, 1, 2].map(|partition| member.of(&topic, partition).added);
    assert_eq!((starts(&member), added(&member)), ([2, 1, 1], [false; 3]), "a first start");
    let position = member.position(&topic, 0, 2, "");
    member.commit(&Commit { positions: &[position], ..Commit::default() });
    member.leave();
    for first_start in [FirstStart::Latest, FirstStart::Error, FirstStart::Earliest] {
        let member = Member::join(log.as_ref(), &options(first_start), 3);
        assert_eq!((starts(&member), added(&member)), ([2, 0, 0], [false, true, true]), "{first_start:?}");
        member.leave();
    }
}

pub(super) fn a_position_of_another_topic_is_handed_out_and_not_gone_on_from(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "foreign", 2);
    let id = log.topic(&topic).expect("the topic").id.expect("an id");
    publish(log.as_ref(), &of_values(&topic, &values("r", 0..5)));
    let group = backend.name("g");
    let mut member = Member::join(log.as_ref(), &backend.member(&group, &[&topic]), 2);
    let positions = [member.position(&topic, 0, 3, "another"), member.position(&topic, 1, 0, "another")];
    member.commit(&Commit { positions: &positions, ..Commit::default() });
    member.leave();
    let is_foreign = |text: &str, id: &str| text != id;
    let identity = TopicIdentity { ids: [(topic.clone(), id.clone())].into(), is_foreign };
    for (first_start, start) in [(FirstStart::Earliest, 0), (FirstStart::Latest, 5), (FirstStart::Error, 0)] {
        let options = SubscribeOptions { first_start, identity: identity.clone(), ..backend.member(&group, &[&topic]) };
        let member = Member::join(log.as_ref(), &options, 2);
        let assigned = member.of(&topic, 0);
        let committed = assigned.committed.as_ref().map(|committed| (committed.offset, committed.text.as_str()));
        assert_eq!((assigned.start, assigned.added, committed), (start, false, Some((3, "another"))));
        member.leave();
    }
    let options = SubscribeOptions { identity, ..backend.member(&group, &[&topic]) };
    let mut member = Member::join(log.as_ref(), &options, 2);
    let position = member.position(&topic, 0, 4, &id);
    member.commit(&Commit { positions: &[position], ..Commit::default() });
    member.leave();
    let member = Member::join(log.as_ref(), &options, 2);
    assert_eq!(member.of(&topic, 0).start, 4, "its own position counts");
    member.leave();
}

pub(super) fn a_topic_with_another_id_than_it_has_to_have_is_not_read(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "replaced", 1);
    publish(log.as_ref(), &of_values(&topic, &values("r", 0..5)));
    let ids = [(topic.clone(), "not its id".to_owned())].into();
    let identity = TopicIdentity { ids, ..TopicIdentity::default() };
    let options = SubscribeOptions { identity, ..backend.member(&backend.name("g"), &[&topic]) };
    let error = log.subscribe(&options).map(|_| ()).expect_err("it is another topic");
    assert_eq!(error.kind(), ErrorKind::TopicReplaced, "{error:?}");
    assert!(error.to_string().contains(&topic), "{error:?}");
    Member::join(log.as_ref(), &backend.member(&options.group, &[&topic]), 1).leave();
}

pub(super) fn two_topics_are_read_in_one_subscription(backend: &Backend) {
    let log = backend.open();
    let one = backend.topic(log.as_ref(), "one", 1);
    let two = backend.topic(log.as_ref(), "two", 2);
    let (of_one, of_two) = (values("one", 0..40), values("two", 0..40));
    publish(log.as_ref(), &of_values(&one, &of_one));
    publish(log.as_ref(), &of_values(&two, &of_two));
    let mut member = Member::join(log.as_ref(), &backend.member(&backend.name("g"), &[&one, &two]), 3);
    let read = member.records(80);
    for (topic, sent) in [(&one, of_one), (&two, of_two)] {
        let of_topic: Vec<_> = read.iter().filter(|r| r.topic == *topic).cloned().collect();
        assert_eq!(texts(&of_topic), sent);
    }
    let positions = [member.position(&one, 0, 40, "one"), member.position(&two, 0, 40, "two")];
    member.commit(&Commit { positions: &positions, ..Commit::default() });
    member.leave();
}

pub(super) fn all_partitions_are_assigned_before_their_records(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "parts", 5);
    let sent = values("p", 0..50);
    let mut records = of_values(&topic, &sent);
    for (i, record) in records.iter_mut().enumerate() {
        record.partition = Some((i % 5) as i32);
    }
    publish(log.as_ref(), &records);
    let mut member = Member::join(log.as_ref(), &backend.member(&backend.name("g"), &[&topic]), 5);
    let partitions: BTreeSet<_> = member.assigned.iter().map(|a| a.partition).collect();
    assert_eq!(partitions, BTreeSet::from([0, 1, 2, 3, 4]));
    // `Member` itself fails on a record of a partition that was not assigned before it.
    let start = Instant::now();
    let (mut read, mut ended) = (BTreeSet::new(), BTreeSet::new());
    while read.len() < 50 || ended.len() < 5 {
        member.pump(Duration::from_millis(100)).expect("polling works");
        for seen in member.backlog.drain(..) {
            match seen {
                Seen::Record(record) => assert!(read.insert(record.text().to_owned()), "{record:?} came twice"),
                Seen::End { partition, .. } => assert!(ended.insert(partition), "the end of {partition} is said once"),
                _ => {}
            }
        }
        assert!(start.elapsed() < PATIENCE, "{} records and the ends of {ended:?} came", read.len());
    }
    assert_eq!(read, sent.into_iter().collect());
    member.leave();
}

pub(super) fn holding_keeps_the_membership_and_loses_nothing(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "hold", 1);
    let sent = values("h", 0..400);
    publish(log.as_ref(), &of_values(&topic, &sent[..200]));
    let mut member = Member::join(log.as_ref(), &backend.member(&backend.name("g"), &[&topic]), 1);
    let mut read = member.records(1);
    member.subscription.hold().expect("holding works");
    member.subscription.hold().expect("holding twice is holding");
    publish(log.as_ref(), &of_values(&topic, &sent[200..]));
    member.pump_for(Duration::from_millis(1500));
    assert!(member.backlog.is_empty(), "nothing is handed out while held: {:?}", member.backlog);
    let offset = read.last().expect("a record").offset + 1;
    let position = member.position(&topic, 0, offset, "held");
    member.commit(&Commit { positions: &[position], ..Commit::default() });
    member.subscription.resume().expect("resuming works");
    member.subscription.resume().expect("resuming twice is resuming");
    read.extend(member.records(400 - read.len()));
    assert_eq!(texts(&read), sent);
    // A hold before anything was handed out, and a resume at the end.
    member.subscription.hold().expect("holding works");
    member.pump_for(Duration::from_millis(200));
    member.subscription.resume().expect("resuming works");
    member.pump_for(Duration::from_millis(300));
    assert!(super::only_records(member.backlog.drain(..)).is_empty(), "nothing comes twice");
    member.leave();
}

pub(super) fn holding_some_partitions_hands_out_the_others_and_loses_nothing(backend: &Backend) {
    const EACH: usize = 3000;
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "hold-some", 3);
    let sent: Vec<_> = (0..3).map(|p| values(&format!("p{p}"), 0..EACH)).collect();
    let send = |range: std::ops::Range<usize>| {
        for (partition, values) in (0..).zip(&sent) {
            let mut records = of_values(&topic, &values[range.clone()]);
            records.iter_mut().for_each(|record| record.partition = Some(partition));
            publish(log.as_ref(), &records);
        }
    };
    send(0..EACH / 2);
    let mut member = Member::join(log.as_ref(), &backend.member(&backend.name("g"), &[&topic]), 3);
    let place = |partition| (topic.as_str().into(), partition);
    let mut read: Vec<Vec<String>> = vec![Vec::new(); 3];
    let mut take = |member: &mut Member| {
        for record in super::only_records(member.backlog.drain(..)) {
            read[record.partition as usize].push(record.text().to_owned());
        }
        read.iter().map(Vec::len).collect::<Vec<_>>()
    };
    member.subscription.hold_partitions(&[place(1)]).expect("holding works");
    let before = take(&mut member)[1];
    send(EACH / 2..EACH);
    let start = Instant::now();
    while take(&mut member)[0] < EACH {
        member.pump(Duration::from_millis(20)).expect("polling works");
        assert!(start.elapsed() < PATIENCE, "the others go on");
    }
    member.pump_for(Duration::from_millis(300));
    assert_eq!(take(&mut member), [EACH, before, EACH]);
    for round in 0.. {
        let held: &[_] = if round % 2 == 0 { &[] } else { &[place(1), place(7)] };
        member.subscription.hold_partitions(held).expect("holding works");
        let before = take(&mut member)[1];
        member.pump(Duration::from_millis(50)).expect("polling works");
        let after = take(&mut member)[1];
        assert!(after == before || held.is_empty(), "nothing of a held partition is handed out");
        if after == EACH && held.is_empty() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "only {after} of {EACH} came");
    }
    let position = member.position(&topic, 1, EACH as i64, "held");
    member.commit(&Commit { positions: &[position], ..Commit::default() });
    assert!(read == sent, "in order, none lost, none twice");
    member.leave();
}

pub(super) fn a_second_owner_is_refused_or_takes_over(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "owner", 1);
    let out = backend.topic(log.as_ref(), "owner-out", 1);
    let options = backend.member(&backend.name("g"), &[&topic]);
    let mut first = Member::join(log.as_ref(), &options, 1);
    let stale = first.position(&topic, 0, 0, "first");
    let lost = values("lost", 0..1);
    if backend.can.refuses_a_second_owner {
        let error = backend.open().subscribe(&options).map(|_| ()).expect_err("the group has an owner");
        assert_eq!(error.kind(), ErrorKind::InUse, "{error:?}");
        assert!(error.to_string().contains(&options.group), "{error:?}");
        first.commit(&Commit { positions: &[stale], ..Commit::default() });
        first.leave();
        Member::join(backend.open().as_ref(), &options, 1).leave();
        return;
    }
    let mut second = Member::join(backend.open().as_ref(), &options, 1);
    let commit = Commit { records: &of_values(&out, &lost), positions: &[stale], ..Commit::default() };
    let outcome = first.committer.commit(&commit);
    assert!(!matches!(outcome, CommitOutcome::Done(_)), "the first one is fenced: {outcome:?}");
    let position = second.position(&topic, 0, 0, "second");
    second.commit(&Commit { positions: &[position], ..Commit::default() });
    let group = log.group(&options.group, &[&topic]).expect("the group");
    assert_eq!(group.committed[&(topic.clone(), 0)].text, "second");
    assert!(read_all(log.as_ref(), &out, 0).is_empty());
    second.leave();
}

pub(super) fn a_group_is_seen_without_joining_it(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "seen", 3);
    let group = backend.name("g");
    let unknown = log.group(&group, &[&topic]).expect("a group that never was is empty");
    assert!(unknown.committed.is_empty() && unknown.members.is_empty(), "{unknown:?}");
    assert!(log.group_state(&group).expect("no state").is_empty());
    let mut member = Member::join(log.as_ref(), &backend.member(&group, &[&topic]), 3);
    let positions = [member.position(&topic, 0, 0, "zero"), member.position(&topic, 2, 0, "two")];
    member.commit(&Commit { positions: &positions, ..Commit::default() });
    let other = backend.open();
    let seen = other.group(&group, &[&topic]).expect("the group");
    let committed: Vec<_> = seen.committed.iter().map(|((t, p), c)| (t.as_str(), *p, c.text.as_str())).collect();
    assert_eq!(committed, [(topic.as_str(), 0, "zero"), (topic.as_str(), 2, "two")]);
    assert_eq!(seen.members.len(), 1, "{seen:?}");
    let elsewhere = backend.topic(log.as_ref(), "seen-not", 1);
    assert!(seen.members[0].may_read(&topic), "{seen:?}");
    if !backend.can.refuses_a_second_owner {
        let owned: Vec<_> =
            seen.members[0].owned.iter().map(|(owned, partition)| (owned == &topic, *partition)).collect();
        assert_eq!(owned, [(true, 0), (true, 1), (true, 2)]);
        assert!(!seen.members[0].may_read(&elsewhere), "{seen:?}");
    }
    assert!(other.group(&group, &[&elsewhere]).expect("the group").committed.is_empty());
    member.pump(Duration::from_millis(10)).expect("looking does not disturb the member");
    member.leave();
    wait_for("the member to be gone", || {
        other.group(&group, &[&topic]).expect("the group").members.is_empty().then_some(())
    });
    assert_eq!(other.group(&group, &[&topic]).expect("the group").committed.len(), 2, "positions stay");
}

pub(super) fn the_groups_of_a_topic_are_those_with_a_position_in_it(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "read-by", 2);
    let other = backend.topic(log.as_ref(), "read-by-others", 1);
    let state = [StateChange { key: "k".to_owned(), value: Some(Vec::new()) }];
    for (group, topic, partitions, commits, state, delivery) in [
        ("bare", &topic, 2, true, &[][..], DeliveryGuarantee::ExactlyOnce),
        ("else", &other, 1, true, &state, DeliveryGuarantee::ExactlyOnce),
        ("least", &topic, 2, true, &[], DeliveryGuarantee::AtLeastOnce),
        ("none", &topic, 2, false, &[], DeliveryGuarantee::ExactlyOnce),
        ("one", &topic, 2, true, &state, DeliveryGuarantee::ExactlyOnce),
        ("two words", &topic, 2, true, &state, DeliveryGuarantee::ExactlyOnce),
    ] {
        let options = SubscribeOptions { delivery, ..backend.member(&backend.name(group), &[topic]) };
        let mut member = Member::join(log.as_ref(), &options, partitions);
        let position = member.position(topic, partitions as i32 - 1, 0, "");
        if commits {
            member.commit(&Commit { positions: &[position], state, ..Commit::default() });
        }
        member.leave();
    }
    let groups = ["bare", "least", "one", "two words"].map(|group| backend.name(group));
    let expected = Readers { groups: groups.to_vec(), are_all: true };
    assert_eq!(log.groups_of(&topic).expect("the groups"), expected);
}
