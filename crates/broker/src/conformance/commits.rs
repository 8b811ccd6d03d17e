//! Checks of the atomic commit.

use crate::{Commit, CommitOutcome, Committed, ErrorKind, MAX_PROGRESS_TEXT, NewRecord, StateChange};

use super::{Backend, Member, noise, of_values, publish, read_all, read_once_there, texts, values};

pub(super) fn change(key: &str, value: Option<&[u8]>) -> StateChange {
    StateChange { key: key.to_owned(), value: value.map(<[u8]>::to_vec) }
}

pub(super) fn positions_texts_and_state_come_back_in_a_later_session(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "progress", 2);
    let sent = values("r", 0..10);
    publish(log.as_ref(), &of_values(&topic, &sent));
    let options = backend.member(&backend.name("g"), &[&topic]);
    let text: String = (0..MAX_PROGRESS_TEXT).map(|i| char::from(b' ' + (i % 95) as u8)).collect();
    let large = vec![7_u8; 100_000];

    let mut member = Member::join(log.as_ref(), &options, 2);
    assert_eq!(texts(&member.records(10)), sent);
    let positions = [member.position(&topic, 0, 3, "first"), member.position(&topic, 1, 0, "")];
    let state = [change("a", Some(b"1")), change("b", Some(b"")), change("gone", Some(b"x")), change("größe", None)];
    member.commit(&Commit { positions: &positions, state: &state, ..Commit::default() });
    let positions = [member.position(&topic, 0, 4, &text)];
    let state = [change("a", Some(&large)), change("gone", None)];
    member.commit(&Commit { positions: &positions, state: &state, ..Commit::default() });
    member.leave();
    drop(log);

    let log = backend.open();
    let state = log.group_state(&options.group).expect("the state");
    let told: Vec<_> = state.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
    assert_eq!(told, [("a", large.as_slice()), ("b", b"".as_slice())]);
    let mut member = Member::join(log.as_ref(), &options, 2);
    let committed = |offset, text: &str| Some(Committed { offset, text: text.to_owned() });
    assert_eq!(member.of(&topic, 0).committed, committed(4, &text));
    assert_eq!(member.of(&topic, 0).start, 4);
    assert_eq!(member.of(&topic, 1).committed, committed(0, ""));
    assert_eq!(texts(&member.records(6)), sent[4..], "reading goes on at the position");
    member.leave();
    let other = log.group_state(&backend.name("other")).expect("the state");
    assert!(other.is_empty(), "each group has a state of its own");
}

pub(super) fn a_commit_is_seen_whole(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "whole", 1);
    let out = backend.topic(log.as_ref(), "whole-out", 1);
    publish(log.as_ref(), &of_values(&topic, &values("r", 0..5)));
    let mut member = Member::join(log.as_ref(), &backend.member(&backend.name("g"), &[&topic]), 1);
    let results = values("result", 0..5);
    let mut placed = Vec::new();
    for i in 0..5 {
        let positions = [member.position(&topic, 0, i as i64 + 1, &format!("after {i}"))];
        let state = [change(&format!("k{i}"), Some(b"v"))];
        let records = of_values(&out, &results[i..=i]);
        placed.extend(member.commit(&Commit { records: &records, positions: &positions, state: &state }));
    }
    let read = read_once_there(log.as_ref(), &out, 5);
    assert_eq!(texts(&read), results);
    let told: Vec<_> = placed.iter().map(|p| (p.partition, p.offset)).collect();
    assert_eq!(told, read.iter().map(|r| (r.partition, r.offset)).collect::<Vec<_>>());
    let group = log.group(&backend.name("g"), &[&topic]).expect("the group");
    assert_eq!(group.committed[&(topic.clone(), 0)].text, "after 4");
    assert_eq!(log.group_state(&backend.name("g")).expect("the state").len(), 5);
    // Nothing at all is a commit too.
    assert!(member.commit(&Commit::default()).is_empty());
    member.leave();
}

pub(super) fn a_refused_record_is_named_and_leaves_nothing(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "refused", 1);
    let out = backend.topic(log.as_ref(), "refused-out", 1);
    let largest = log.topic(&out).expect("the topic").largest_record().expect("a limit");
    let mut member = Member::join(log.as_ref(), &backend.member(&backend.name("g"), &[&topic]), 1);
    let huge = noise(2 * largest);
    let sent = values("kept", 0..3);
    let mut records = of_values(&out, &sent);
    let too_large = NewRecord { value: Some(&huge), ..records[0].clone() };
    records.insert(2, too_large);
    let positions = [member.position(&topic, 0, 0, "with")];
    let state = [change("k", Some(b"v"))];
    match member.committer.commit(&Commit { records: &records, positions: &positions, state: &state }) {
        CommitOutcome::RecordsRefused(refused) => {
            let refused: Vec<_> = refused.iter().map(|(index, error)| (*index, error.kind())).collect();
            assert_eq!(refused, [(2, ErrorKind::RecordTooLarge)]);
        }
        other => panic!("the record is refused, not {other:?}"),
    }
    let group = backend.name("g");
    assert!(read_all(log.as_ref(), &out, 0).is_empty());
    assert!(log.group(&group, &[&topic]).expect("the group").committed.is_empty());
    assert!(log.group_state(&group).expect("the state").is_empty());

    records.remove(2);
    assert_eq!(member.commit(&Commit { records: &records, positions: &positions, state: &state }).len(), 3);
    assert_eq!(texts(&read_once_there(log.as_ref(), &out, 3)), sent);
    assert_eq!(log.group(&group, &[&topic]).expect("the group").committed[&(topic.clone(), 0)].text, "with");
    assert_eq!(log.group_state(&group).expect("the state").len(), 1);
    member.leave();
}

pub(super) fn a_stale_assignment_number_is_refused(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "stale", 1);
    let out = backend.topic(log.as_ref(), "stale-out", 1);
    let options = backend.member(&backend.name("g"), &[&topic]);
    let mut first = Member::join(log.as_ref(), &options, 1);
    let position = first.position(&topic, 0, 0, "first");
    first.commit(&Commit { positions: &[position], ..Commit::default() });
    let stale = [first.position(&topic, 0, 0, "stale")];
    let lost = values("lost", 0..1);
    let records = of_values(&out, &lost);
    let state = [change("lost", Some(b"v"))];
    let commit = Commit { records: &records, positions: &stale, state: &state };
    let Member { subscription, mut committer, .. } = first;
    subscription.close(true).expect("closing works");
    let not_owner = |outcome: CommitOutcome, when: &str| match outcome {
        CommitOutcome::NotOwner(partitions) => assert_eq!(partitions, [(topic.as_str().into(), 0)], "{when}"),
        other => panic!("{when}: not the owner, but {other:?}"),
    };
    not_owner(committer.commit(&commit), "after closing");

    let mut second = Member::join(log.as_ref(), &options, 1);
    assert_ne!(second.of(&topic, 0).assignment, stale[0].assignment);
    not_owner(committer.commit(&commit), "after someone else joined");
    not_owner(second.committer.commit(&commit), "with the number of another session");
    assert!(read_all(log.as_ref(), &out, 0).is_empty());
    assert!(log.group_state(&options.group).expect("the state").is_empty());
    assert_eq!(log.group(&options.group, &[&topic]).expect("the group").committed[&(topic.clone(), 0)].text, "first");

    let position = second.position(&topic, 0, 0, "second");
    second.commit(&Commit { positions: &[position], ..Commit::default() });
    assert_eq!(log.group(&options.group, &[&topic]).expect("the group").committed[&(topic.clone(), 0)].text, "second");
    second.leave();
}

pub(super) fn a_text_that_is_too_long_is_refused(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "text", 1);
    let out = backend.topic(log.as_ref(), "text-out", 1);
    let mut member = Member::join(log.as_ref(), &backend.member(&backend.name("g"), &[&topic]), 1);
    let lost = values("lost", 0..1);
    for text in ["x".repeat(MAX_PROGRESS_TEXT + 1), "schön".to_owned()] {
        let positions = [member.position(&topic, 0, 0, &text)];
        let records = of_values(&out, &lost);
        match member.committer.commit(&Commit { records: &records, positions: &positions, ..Commit::default() }) {
            CommitOutcome::Again(error) => assert_eq!(error.kind(), ErrorKind::Fatal, "{error:?}"),
            other => panic!("a text that cannot be kept, but {other:?}"),
        }
    }
    assert!(read_all(log.as_ref(), &out, 0).is_empty());
    let position = member.position(&topic, 0, 0, &"x".repeat(MAX_PROGRESS_TEXT));
    member.commit(&Commit { positions: &[position], ..Commit::default() });
    member.leave();
}

pub(super) fn a_commit_to_a_topic_that_does_not_exist_leaves_nothing(backend: &Backend) {
    let log = backend.open();
    let topic = backend.topic(log.as_ref(), "missing", 1);
    let out = backend.topic(log.as_ref(), "missing-out", 1);
    let nowhere = backend.name("nowhere");
    let mut member = Member::join(log.as_ref(), &backend.member(&backend.name("g"), &[&topic]), 1);
    let sent = values("r", 0..2);
    let mut records = of_values(&out, &sent);
    records[1].topic = &nowhere;
    let positions = [member.position(&topic, 0, 0, "with")];
    match member.committer.commit(&Commit { records: &records, positions: &positions, ..Commit::default() }) {
        CommitOutcome::Again(error) => {
            assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error:?}");
            assert!(error.to_string().contains(&nowhere), "{error:?}");
        }
        other => panic!("the topic does not exist, but {other:?}"),
    }
    assert!(read_all(log.as_ref(), &out, 0).is_empty());
    assert!(log.group(&backend.name("g"), &[&topic]).expect("the group").committed.is_empty());
    records.truncate(1);
    member.commit(&Commit { records: &records, positions: &positions, ..Commit::default() });
    assert_eq!(texts(&read_once_there(log.as_ref(), &out, 1)), ["r-0"]);
    member.leave();
}
