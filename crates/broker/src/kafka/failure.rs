//! From librdkafka's errors to ours: what the caller can do, and a cause that is said once.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tracing::debug;

use super::cluster::ANSWER;
use super::watch::Watch;
use crate::error::{Error, ErrorKind, Result};
use crate::examined::Operation;
use crate::permission::Permission;

/// Text of librdkafka that stands as the cause below a sentence of ours.
#[derive(Debug, Clone)]
pub(super) struct Reason(pub(super) String);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Reason {}

/// What a caller can do about a code of librdkafka or of a broker.
pub(super) fn kind(code: Code) -> ErrorKind {
    match code {
        Code::QueueFull => ErrorKind::QueueFull,
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => ErrorKind::UnknownTopic,
        Code::TopicAlreadyExists => ErrorKind::Exists,
        Code::ProducerFenced | Code::InvalidProducerEpoch | Code::Fenced | Code::FencedInstanceId => ErrorKind::Fenced,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::DelegationTokenAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed => ErrorKind::Denied,
        Code::TransactionalIdAuthorizationFailed => ErrorKind::DeniedExactlyOnce,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => ErrorKind::RecordTooLarge,
        Code::InvalidRecord | Code::InvalidTimestamp => ErrorKind::RecordRefused,
        Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::NoOffset | Code::LogTruncation => {
            ErrorKind::OffsetOutOfRange
        }
        Code::InvalidTopic
        | Code::PolicyViolation
        | Code::InvalidConfig
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::InvalidGroupId
        | Code::InvalidSessionTimeout
        | Code::InvalidTransactionTimeout
        | Code::InconsistentGroupProtocol
        | Code::OffsetMetadataTooLarge
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedSASLMechanism
        | Code::InvalidArgument => ErrorKind::Settings,
        Code::Fatal | Code::State | Code::InvalidTransactionalState | Code::InvalidProducerIdMapping => {
            ErrorKind::Fatal
        }
        _ => ErrorKind::Retry,
    }
}

/// The code of an error, also of those for which rdkafka does not tell it.
pub(super) fn code(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// An error for a failed call: `what` says in words what could not be done, `needed` is the permission that the account
/// needs for it, if there is one.
pub(super) fn failed(error: KafkaError, what: impl Into<String>, needed: impl Into<Option<Permission>>) -> Error {
    match (code(&error), error) {
        (Some(code), KafkaError::Transaction(error)) => told(code, what, needed.into(), Reason(error.string())),
        (Some(code), _) => told(code, what, needed.into(), code),
        (None, error) => Error::with_source(ErrorKind::Fatal, what, Reason(error.to_string())),
    }
}

/// What is needed to read topics as a group, and to move its positions in them: the code says of which of them it lacks.
pub(super) fn to_read(code: Code, group: &str, topics: impl IntoIterator<Item = impl Into<String>>) -> Permission {
    match code {
        Code::GroupAuthorizationFailed => Permission::on_group(Operation::Read, group),
        _ => Permission::on_topics(Operation::Read, topics),
    }
}

/// As [`failed`], for a bare code.
pub(super) fn failed_code(code: Code, what: impl Into<String>, needed: impl Into<Option<Permission>>) -> Error {
    told(code, what, needed.into(), code)
}

fn told(
    code: Code,
    what: impl Into<String>,
    needed: Option<Permission>,
    cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    let what = what.into();
    let kind = kind(code);
    let text = match kind {
        ErrorKind::Denied if is_login(code) => {
            format!("{what}: the broker refuses the login, check `sasl.username`, `sasl.password` and `sasl.mechanism`")
        }
        ErrorKind::Denied | ErrorKind::DeniedExactlyOnce => match needed {
            // the broker's words say less
            Some(needed) => return Error::denied(kind, what, needed),
            None => format!("{what}: the broker does not let the account do it"),
        },
        ErrorKind::Fenced => {
            format!("{what}: another process uses this name and has taken the place")
        }
        _ => match advice(code) {
            Some(advice) => format!("{what}: {advice}"),
            None => what,
        },
    };
    Error::with_source(kind, text, cause)
}

/// What a refusal is about, and what can be done, where the code of the broker says so and its words do not.
fn advice(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
            "it is larger than the topic takes (`max.message.bytes` of the topic)"
        }
        Code::InvalidTimestamp => {
            "the broker refuses its time; check the clock of this machine, and `message.timestamp.before.max.ms` and \
            `message.timestamp.after.max.ms` of the topic"
        }
        // What the broker says of a record is not kept by librdkafka.
        Code::InvalidRecord => {
            "the broker does not accept the record, most likely for its time; check the clock of this machine, and \
            `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms` of the topic"
        }
        Code::PolicyViolation => "a policy of the broker does not allow it; ask who runs the broker",
        Code::UnsupportedForMessageFormat => {
            "the topic keeps its records in a format from before Kafka 0.11 (`message.format.version`), without headers \
            and transactions; use another topic"
        }
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            "fewer copies of the partition are in sync than the topic asks for (`min.insync.replicas`); a broker is away"
        }
        Code::OffsetMetadataTooLarge => {
            "the broker keeps too little text beside an offset; set its `offset.metadata.max.bytes` to 4096, which is \
            the default, or at least to 256"
        }
        Code::InvalidTransactionTimeout => {
            "the broker allows less time for a transaction than is needed; raise its `transaction.max.timeout.ms` to 60000"
        }
        Code::ConcurrentTransactions => {
            "the broker has not ended an earlier transaction of this process; if it stays so, a topic in that one refuses \
            the time of the broker's own marks (`message.timestamp.before.max.ms`)"
        }
        Code::GroupMaxSizeReached => "the group has as many members as the broker allows (`group.max.size`)",
        _ => return None,
    })
}

/// What a refusal of a record without a key is about: the code is the same.
pub(super) const NO_KEY: &str = "the broker does not accept the record, either because it has no key, which a topic with \
                                 `cleanup.policy=compact` asks for, or for its time; check the clock of this machine, \
                                 and `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms` of the topic";

/// Whether the broker does not know who this is, rather than what it may do.
pub(super) fn is_login(code: Code) -> bool {
    matches!(code, Code::Authentication | Code::SaslAuthenticationFailed)
}

/// The error for a partition that is not there.
pub(super) fn unknown_partition(topic: &str, partition: i32, partitions: i32) -> Error {
    Error::new(
        ErrorKind::UnknownTopic,
        format!("there is no partition {partition} of topic `{topic}`, which has {partitions}"),
    )
}

/// How long a question is asked again while its answer is an error that passes: also after one that took all of
/// [`ANSWER`], since librdkafka may wait for a connection that does not come while the next one would.
const PATIENCE: Duration = ANSWER.saturating_add(Duration::from_millis(500));
const PAUSE: Duration = Duration::from_millis(100);

/// Asks again while nobody answers, unless the program is to stop: a connection that breaks under a question is not a
/// broker that is away.
pub(super) fn until_answered<T>(watch: &Watch, ask: impl FnMut() -> Result<T>) -> Result<T> {
    until_answered_within(watch, PATIENCE, ask)
}

/// As [`until_answered`], for an answer that may take so long.
pub(super) fn until_answered_within<T>(watch: &Watch, limit: Duration, ask: impl FnMut() -> Result<T>) -> Result<T> {
    ask_while(watch, limit, |kind| kind == ErrorKind::Retry, ask)
}

/// As [`until_answered`], about a topic that is there, of which a client may know nothing yet while it is new
/// or a leader moves.
pub(super) fn until_known<T>(watch: &Watch, ask: impl FnMut() -> Result<T>) -> Result<T> {
    until_known_within(watch, PATIENCE, ask)
}

/// As [`until_known`], for an answer that may take so long. That a topic is unknown is not believed for the usual time.
pub(super) fn until_known_within<T>(watch: &Watch, limit: Duration, ask: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let is_new = move || start.elapsed() < PATIENCE;
    let passes = |kind| kind == ErrorKind::Retry || (kind == ErrorKind::UnknownTopic && is_new());
    ask_while(watch, limit, passes, ask)
}

fn ask_while<T>(
    watch: &Watch,
    limit: Duration,
    passes: impl Fn(ErrorKind) -> bool,
    mut ask: impl FnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match ask() {
            Err(error) if passes(error.kind()) && start.elapsed() < limit && !watch.is_given_up() => {
                debug!(%error, "asking again");
                thread::sleep(PAUSE);
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        Watch::new(Duration::ZERO)
    }

    fn first_then_ok(kind: ErrorKind) -> impl FnMut() -> Result<u32> {
        let mut asked = 0;
        move || {
            asked += 1;
            if asked == 1 { Err(Error::new(kind, "the connection broke")) } else { Ok(asked) }
        }
    }

    #[test]
    fn a_question_whose_connection_breaks_is_asked_again() {
        assert_eq!(until_answered(&watch(), first_then_ok(ErrorKind::Retry)).unwrap(), 2);
        assert_eq!(until_known(&watch(), first_then_ok(ErrorKind::UnknownTopic)).unwrap(), 2);
    }

    #[test]
    fn an_answer_that_stays_is_given_at_once() {
        for kind in [ErrorKind::UnknownTopic, ErrorKind::Denied] {
            assert_eq!(until_answered(&watch(), first_then_ok(kind)).unwrap_err().kind(), kind);
        }
        assert_eq!(until_known(&watch(), first_then_ok(ErrorKind::Denied)).unwrap_err().kind(), ErrorKind::Denied);
    }
}
