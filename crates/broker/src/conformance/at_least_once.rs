//! Checks of commits that are acknowledged before positions move.

use crate::{
    Commit, CommitOutcome, Committed, DeliveryGuarantee, ErrorKind, MAX_PROGRESS_TEXT, NewRecord, StateChange,
    SubscribeOptions,
};

use super::{Backend, Member, noise, of_values, publish, read_all, read_once_there, texts, values};

fn options(backend: &Backend, topics: &[&str]) -> SubscribeOptions {
    SubscribeOptions { delivery: DeliveryGuarantee::AtLeastOnce, ..backend.member(&backend.name("g"), topics) }
}

pub(super) fn acknowledged_records_positions_and_texts_are_there_in_a_later_session(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "plain", 2);
    let out = backend.topic(log.as_ref(), "plain-out", 2);
    let sent = values("r", 0..10);
    publish(log.as_ref(), &of_values(&topic, &sent));
    let options = options(backend, &[&topic]);
    let text: String = (0..MAX_PROGRESS_TEXT).map(|i| char::from(b' ' + (i % 95) as u8)).collect();

    let mut member = Member::join(log.as_ref(), &options, 2);
    assert_eq!(texts(&member.records(10)), sent);
    // the same record twice in one commit is two records
    let results = ["one", "two", "two"].map(str::to_owned);
    let positions = [member.position(&topic, 0, 3, "first"), member.position(&topic, 1, 0, "")];
    let placed = member.commit(&Commit { records: &of_values(&out, &results), positions: &positions, state: &[] });
    let read = read_once_there(log.as_ref(), &out, 3);
    assert_eq!(texts(&read), results);
    let told: Vec<_> = placed.iter().map(|p| (p.partition, p.offset)).collect();
    let mut there: Vec<_> = read.iter().map(|r| (r.partition, r.offset)).collect();
    assert!(told.iter().all(|place| there.contains(place)), "{told:?} {there:?}");
    there.dedup();
    assert_eq!(there.len(), 3);
    // a later commit of the same record is another record
    let positions = [member.position(&topic, 0, 4, &text)];
    member.commit(&Commit { records: &of_values(&out, &results[..1]), positions: &positions, state: &[] });
    assert!(member.commit(&Commit::default()).is_empty());
    member.leave();
    drop(log);

    let log = backend.open();
    assert_eq!(read_once_there(log.as_ref(), &out, 4).len(), 4);
    let mut member = Member::join(log.as_ref(), &options, 2);
    let committed = |offset, text: &str| Some(Committed { offset, text: text.to_owned() });
    assert_eq!(member.of(&topic, 0).committed, committed(4, &text));
    assert_eq!(member.of(&topic, 1).committed, committed(0, ""));
    assert_eq!(texts(&member.records(6)), sent[4..], "reading goes on at the position");
    member.leave();
}

pub(super) fn a_record_that_is_refused_moves_no_position_and_is_named(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "plain-refused", 1);
    let out = backend.topic(log.as_ref(), "plain-refused-out", 1);
    let largest = log.topic(&out).expect("the topic").largest_record().expect("a limit");
    let mut member = Member::join(log.as_ref(), &options(backend, &[&topic]), 1);
    let huge = noise(2 * largest);
    let sent = values("kept", 0..3);
    let mut records = of_values(&out, &sent);
    let too_large = NewRecord { value: Some(&huge), ..records[0].clone() };
    records.insert(2, too_large);
    let positions = [member.position(&topic, 0, 0, "with")];
    match member.committer.commit(&Commit { records: &records, positions: &positions, state: &[] }) {
        CommitOutcome::RecordsRefused(refused) => {
            let refused: Vec<_> = refused.iter().map(|(index, error)| (*index, error.kind())).collect();
            assert_eq!(refused, [(2, ErrorKind::RecordTooLarge)]);
        }
        other => panic!("the record is refused, not {other:?}"),
    }
    let group = backend.name("g");
    assert!(log.group(&group, &[&topic]).expect("the group").committed.is_empty());
    records.remove(2);
    assert_eq!(member.commit(&Commit { records: &records, positions: &positions, state: &[] }).len(), 3);
    assert_eq!(texts(&read_once_there(log.as_ref(), &out, 3)), sent, "what went with it is there once");
    assert_eq!(log.group(&group, &[&topic]).expect("the group").committed[&(topic.clone(), 0)].text, "with");
    member.leave();
}

pub(super) fn a_commit_without_its_topic_moves_no_position_and_sends_nothing_twice(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "plain-missing", 1);
    let out = backend.topic(log.as_ref(), "plain-missing-out", 1);
    let mut member = Member::join(log.as_ref(), &options(backend, &[&topic]), 1);
    let sent = values("r", 0..2);
    let mut records = of_values(&out, &sent);
    let nowhere = backend.name("nowhere");
    records[1].topic = &nowhere;
    let positions = [member.position(&topic, 0, 0, "with")];
    match member.committer.commit(&Commit { records: &records, positions: &positions, state: &[] }) {
        CommitOutcome::Again(error) => {
            assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error:?}");
            assert!(error.to_string().contains(&nowhere), "{error:?}");
        }
        other => panic!("the topic does not exist, but {other:?}"),
    }
    assert!(log.group(&backend.name("g"), &[&topic]).expect("the group").committed.is_empty());
    records[1].topic = &out;
    member.commit(&Commit { records: &records, positions: &positions, state: &[] });
    assert_eq!(texts(&read_once_there(log.as_ref(), &out, 2)), sent);
    member.leave();
}

pub(super) fn positions_of_a_member_that_is_no_longer_one_are_refused(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "plain-stale", 1);
    let out = backend.topic(log.as_ref(), "plain-stale-out", 1);
    let options = options(backend, &[&topic]);
    let mut first = Member::join(log.as_ref(), &options, 1);
    let position = first.position(&topic, 0, 0, "first");
    first.commit(&Commit { positions: &[position], ..Commit::default() });
    let stale = [first.position(&topic, 0, 0, "stale")];
    let lost = values("lost", 0..1);
    let commit = Commit { records: &of_values(&out, &lost), positions: &stale, state: &[] };
    let text = |log: &dyn crate::Log| {
        let group = log.group(&options.group, &[&topic]).expect("the group");
        group.committed[&(topic.clone(), 0)].text.clone()
    };
    if !backend.can.refuses_a_second_owner {
        // the first one has not heard of it, but the broker has
        let second = Member::join(backend.open().as_ref(), &options, 1);
        match first.committer.commit(&commit) {
            CommitOutcome::Unknown(error) => assert_eq!(error.kind(), ErrorKind::Fenced, "{error:?}"),
            other => panic!("another process has its place, but {other:?}"),
        }
        assert!(matches!(first.committer.commit(&commit), CommitOutcome::Unknown(_)), "and so it stays");
        assert_eq!(text(log.as_ref()), "first");
        second.leave();
        return;
    }
    let Member { subscription, mut committer, .. } = first;
    subscription.close(true).expect("closing works");
    let outcome = committer.commit(&commit);
    assert!(matches!(outcome, CommitOutcome::NotOwner(_)), "{outcome:?}");
    assert_eq!(text(log.as_ref()), "first");
}

pub(super) fn a_number_of_an_earlier_assignment_sends_nothing(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "plain-number", 1);
    let out = backend.topic(log.as_ref(), "plain-number-out", 1);
    let options = options(backend, &[&topic]);
    let first = Member::join(log.as_ref(), &options, 1);
    let stale = [first.position(&topic, 0, 0, "stale")];
    first.leave();
    let mut second = Member::join(log.as_ref(), &options, 1);
    let lost = values("lost", 0..1);
    let outcome = second.committer.commit(&Commit { records: &of_values(&out, &lost), positions: &stale, state: &[] });
    match outcome {
        CommitOutcome::NotOwner(partitions) => assert_eq!(partitions, [(topic.as_str().into(), 0)]),
        other => panic!("not the owner, but {other:?}"),
    }
    assert!(read_all(log.as_ref(), &out, 0).is_empty());
    second.leave();
}

pub(super) fn a_change_of_the_state_is_refused_where_commits_are_not_atomic(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "plain-state", 1);
    let options = options(backend, &[&topic]);
    let mut member = Member::join(log.as_ref(), &options, 1);
    let state = [StateChange { key: "k".to_owned(), value: Some(b"v".to_vec()) }];
    let outcome = member.committer.commit(&Commit { state: &state, ..Commit::default() });
    match (backend.can.always_atomic, outcome) {
        (true, CommitOutcome::Done(_)) => {}
        (false, CommitOutcome::Again(error)) => assert_eq!(error.kind(), ErrorKind::Fatal, "{error:?}"),
        (_, other) => panic!("{other:?}"),
    }
    let there = log.group_state(&options.group).expect("the state").len();
    assert_eq!(there, usize::from(backend.can.always_atomic));
    member.leave();
}
