//! What a commit answers when one of the requests of its transaction fails. Brokers that fail on demand are
//! librdkafka's own mock cluster, which acknowledges transactions without carrying them out; what
//! transactions do is tested on a real broker.

#[allow(dead_code)]
mod common;

use common::{Backend, Capabilities, Member, of_values, values, wait_for};
use datamill_broker::{Commit, CommitOutcome, ErrorKind, Log};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Answer};

type Mock = MockCluster<'static, DefaultProducerContext>;

/// Makes `api` answer `error` once, commits, and gives the outcome and that of a commit after it.
fn commit_with(api: Api, error: Answer, next: bool) -> (CommitOutcome, Option<CommitOutcome>) {
    let mock: Mock = MockCluster::new(1).expect("a mock cluster");
    mock.create_topic("in", 1, 1).expect("a topic");
    mock.create_topic("out", 1, 1).expect("a topic");
    let can = Capabilities {
        makes_topics: false,
        refuses_a_second_owner: false,
        exact_largest_record: false,
        always_atomic: false,
    };
    let backend = Backend::new(mock.bootstrap_servers(), can, None);
    let log = backend.open();
    let mut member = join(log.as_ref(), &backend);
    mock.request_errors(api, &[error]);
    let first = commit(&mut member);
    let second = next.then(|| commit(&mut member));
    member.subscription.close(false).expect("closing works");
    (first, second)
}

fn join(log: &dyn Log, backend: &Backend) -> Member {
    let mut member = Member::join(log, &backend.member("g", &["in"]), 1);
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
fn a_missing_right_is_named() {
    let (first, _) = commit_with(Api::TxnOffsetCommit, Answer::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, false);
    match first {
        CommitOutcome::Again(error) | CommitOutcome::Unknown(error) => {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
            assert!(error.to_string().contains("the right Read on the group"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    let (first, _) = commit_with(Api::Produce, Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, false);
    match first {
        CommitOutcome::Again(error) => {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
            assert!(error.to_string().contains("Write on the topic"), "{error:?}");
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
