//! What a commit answers when one of its requests fails, in a transaction and without one. Brokers that fail on demand are
//! librdkafka's own mock cluster, which acknowledges transactions without carrying them out; what
//! transactions do is tested on a real broker.

use crate::backend_on;
use datamill_broker::conformance::{Backend, Member, of_values, read_all, values, wait_for};
use datamill_broker::{Commit, CommitOutcome, DeliveryGuarantee, ErrorKind, Log, SubscribeOptions};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Answer};

type Mock = MockCluster<'static, DefaultProducerContext>;

/// Makes `api` answer `error` once, commits, and gives the outcome and that of a commit after it.
fn commit_with(api: Api, error: Answer, next: bool) -> (CommitOutcome, Option<CommitOutcome>) {
    let (first, second, _) = commit_as(DeliveryGuarantee::ExactlyOnce, api, error, next);
    (first, second)
}

/// As [`commit_with`], with the number of records that are there in the end, besides those of a first commit.
fn commit_as(
    delivery: DeliveryGuarantee,
    api: Api,
    error: Answer,
    next: bool,
) -> (CommitOutcome, Option<CommitOutcome>, usize) {
    let mock: Mock = MockCluster::new(1).expect("a mock cluster");
    mock.create_topic("in", 1, 1).expect("a topic");
    mock.create_topic("out", 1, 1).expect("a topic");
    let backend = backend_on(mock.bootstrap_servers());
    let log = backend.open();
    let mut member = join(log.as_ref(), &backend, delivery);
    let before = read_all(log.as_ref(), "out", 0).len();
    mock.request_errors(api, &[error]);
    let first = commit(&mut member);
    let second = next.then(|| commit(&mut member));
    if let Err(error) = member.subscription.close(false) {
        assert_eq!(error.kind(), ErrorKind::Fenced, "closing works, but for a member whose place was taken: {error:?}");
    }
    let records = read_all(log.as_ref(), "out", 0).len() - before;
    (first, second, records)
}

fn join(log: &dyn Log, backend: &Backend, delivery: DeliveryGuarantee) -> Member {
    let options = SubscribeOptions { delivery, ..backend.member("g", &["in"]) };
    let mut member = Member::join(log, &options, 1);
    // One commit that passes, so that what follows is about transactions and not about first contact.
    wait_for("a first commit", || matches!(commit(&mut member), CommitOutcome::Done(_)).then_some(()));
    member
}

fn commit(member: &mut Member) -> CommitOutcome {
    let result = values("result", 0..2);
    let position = member.position("in", 0, 0, "text");
    member.committer.commit(&Commit {
        records: &of_values("out", &result),
        positions: &[position],
        ..Commit::default()
    })
}

fn passes(api: Api, error: Answer) {
    let (first, _) = commit_with(api, error, false);
    assert!(matches!(first, CommitOutcome::Done(_)), "{error:?}: {first:?}");
}

fn is_aborted_and_the_next_one_passes(api: Api, error: Answer) {
    let (first, second) = commit_with(api, error, true);
    assert!(matches!(first, CommitOutcome::Again(_)), "{error:?}: {first:?}");
    assert!(matches!(second, Some(CommitOutcome::Done(_))), "{error:?}: {second:?}");
}

fn ends_the_session(api: Api, error: Answer, kind: ErrorKind) {
    let (first, second) = commit_with(api, error, true);
    match first {
        CommitOutcome::Unknown(told) => assert_eq!(told.kind(), kind, "{error:?}: {told:?}"),
        other => panic!("{error:?}: {other:?}"),
    }
    assert!(matches!(second, Some(CommitOutcome::Unknown(_))), "{error:?}: {second:?}");
}

#[test]
fn a_coordinator_that_is_busy_is_waited_for() {
    passes(Api::AddOffsetsToTxn, Answer::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
    passes(Api::EndTxn, Answer::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE);
}

#[test]
fn a_member_that_the_group_does_not_know_commits_nothing_and_may_try_again() {
    is_aborted_and_the_next_one_passes(Api::TxnOffsetCommit, Answer::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION);
    is_aborted_and_the_next_one_passes(Api::TxnOffsetCommit, Answer::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID);
    is_aborted_and_the_next_one_passes(Api::TxnOffsetCommit, Answer::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE);
}

#[test]
fn a_missing_permission_is_named() {
    let (first, _) = commit_with(Api::TxnOffsetCommit, Answer::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, false);
    match first {
        CommitOutcome::Again(error) | CommitOutcome::Unknown(error) => {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
            assert!(error.to_string().contains("`Read` permission on group `"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    let (first, _) = commit_with(Api::Produce, Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, false);
    match first {
        CommitOutcome::Again(error) => {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
            assert!(error.to_string().contains("`Write` permission on topic `"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_place_that_was_taken_ends_the_session() {
    ends_the_session(Api::TxnOffsetCommit, Answer::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, ErrorKind::Fenced);
    ends_the_session(Api::EndTxn, Answer::RD_KAFKA_RESP_ERR_PRODUCER_FENCED, ErrorKind::Fenced);
    ends_the_session(Api::EndTxn, Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, ErrorKind::Fenced);
}

#[test]
fn a_transaction_that_the_broker_does_not_know_ends_the_session() {
    ends_the_session(Api::EndTxn, Answer::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, ErrorKind::Retry);
}

/// With two commits of the same two records.
fn at_least_once(api: Api, error: Answer) -> (CommitOutcome, CommitOutcome, usize) {
    let (first, second, records) = commit_as(DeliveryGuarantee::AtLeastOnce, api, error, true);
    (first, second.expect("a second commit"), records)
}

#[test]
fn positions_that_are_refused_leave_records_that_are_not_sent_again() {
    for error in [Answer::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, Answer::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID] {
        let (first, second, records) = at_least_once(Api::OffsetCommit, error);
        assert!(matches!(first, CommitOutcome::NotOwner(_)), "{error:?}: {first:?}");
        assert!(!matches!(second, CommitOutcome::Done(_)) || records == 2, "{error:?}: {records} records");
    }
    let (first, second, records) =
        at_least_once(Api::OffsetCommit, Answer::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED);
    match first {
        CommitOutcome::Again(error) => {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
            assert!(error.to_string().contains("`Read` permission on group `"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(second, CommitOutcome::Done(_)), "{second:?}");
    assert_eq!(records, 2, "the second commit has nothing to send");
    let (first, second, _) = at_least_once(Api::OffsetCommit, Answer::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID);
    assert!(matches!(&first, CommitOutcome::Unknown(error) if error.kind() == ErrorKind::Fenced), "{first:?}");
    assert!(matches!(second, CommitOutcome::Unknown(_)), "{second:?}");
}

#[test]
fn positions_whose_refusal_passes_are_tried_again_in_the_same_commit() {
    for error in [Answer::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS, Answer::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE]
    {
        let (first, second, records) = at_least_once(Api::OffsetCommit, error);
        assert!(matches!((&first, &second), (CommitOutcome::Done(_), CommitOutcome::Done(_))), "{first:?} {second:?}");
        assert_eq!(records, 4, "two commits that are done");
    }
}

#[test]
fn without_a_transaction_a_record_that_may_not_be_written_moves_no_position() {
    let (first, second, _) = at_least_once(Api::Produce, Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    match first {
        CommitOutcome::Again(error) => {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
            assert!(error.to_string().contains("`Write` permission on topic `"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(second, CommitOutcome::Done(_)), "{second:?}");
}
