//! The committing half of a member: one transactional producer, used by one thread.
//!
//! ```text
//!   enter the fence (numbers fresh, live member) ─▶ begin ─▶ send results and state ─▶ drain deliveries
//!       ─▶ positions and their texts into the transaction ─▶ drain ─▶ commit ─▶ leave the fence
//! ```
//! Deliveries are drained before rdkafka's `commit_transaction`, which would else wait 100 ms for them.
//! A commit that fails before its last step is aborted, and nothing of it was ever visible. One whose
//! end is not known ends the session: the next one's `init_transactions` decides it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::util::Timeout;
use rdkafka::{Offset, TopicPartitionList};
use tracing::{debug, warn};

use super::cluster::{self, Cluster};
use super::config::TRANSACTION_TIMEOUT_MS;
use super::context::{Deliveries, Undelivered};
use super::failure;
use super::fence::{Fence, Refused};
use super::member::Member;
use super::native::{self, Membership};
use super::publisher::{SLICE, enqueue, not_delivered, not_sent};
use super::state;
use crate::contract::{
    Commit, CommitOutcome, Committer, MAX_PROGRESS_TEXT, NewRecord, Placed, Position, SubscribeOptions,
};
use crate::error::{Error, ErrorKind, Result};

/// How long one step of a transaction is tried again: the broker aborts the transaction before that.
const STEP: Duration = Duration::from_millis(TRANSACTION_TIMEOUT_MS + 5_000);

/// How long `init_transactions` may take: a dead run's open transaction is aborted in there.
const INIT: Duration = Duration::from_secs(30);

type Sender = BaseProducer<Deliveries>;

/// See the module.
pub(super) struct KafkaCommitter {
    cluster: Arc<Cluster>,
    consumer: Arc<BaseConsumer<Member>>,
    fence: Arc<Fence>,
    options: SubscribeOptions,
    state_topic: String,
    state_checked: bool,
    producer: Arc<Sender>,
    /// Largest batch that the producer makes, bytes.
    batch: usize,
    /// Why nothing can be committed any more.
    over: Option<ErrorKind>,
}

/// How a transaction ended that did not commit.
enum Ending {
    /// It can be aborted, and then this is the answer.
    Abort(CommitOutcome),
    /// It is not known how it ended, or the producer is of no use any more.
    Over(Error),
}

impl KafkaCommitter {
    /// Makes the producer and takes the transactional id, before the member joins: what a dead run of the
    /// same name left open is aborted here.
    pub(super) fn open(
        cluster: &Arc<Cluster>,
        options: &SubscribeOptions,
        consumer: &Arc<BaseConsumer<Member>>,
        fence: &Arc<Fence>,
    ) -> Result<Self> {
        let batch = cluster.settings.batch_size();
        let state_topic = state::topic_name(&options.group, options.state_topic.as_deref());
        cluster::legal_name(&state_topic)?;
        Ok(Self {
            cluster: cluster.clone(),
            consumer: consumer.clone(),
            fence: fence.clone(),
            producer: producer(cluster, options, batch)?,
            options: options.clone(),
            state_topic,
            state_checked: false,
            batch,
            over: None,
        })
    }

    /// Makes sure that all topics are there before a transaction begins: librdkafka would wait longer for
    /// a missing one than a transaction may take.
    fn prepare(&mut self, commit: &Commit<'_>) -> Result<()> {
        for position in commit.positions {
            if position.text.len() > MAX_PROGRESS_TEXT || !position.text.is_ascii() {
                let text = format!(
                    "the text beside partition {} of topic `{}` has {} bytes: {MAX_PROGRESS_TEXT} characters of ASCII are allowed",
                    position.partition,
                    position.topic,
                    position.text.len()
                );
                return Err(Error::new(ErrorKind::Settings, text));
            }
        }
        let mut smallest = self.batch;
        let mut seen = BTreeSet::new();
        for record in commit.records {
            if seen.insert((record.topic, record.partition)) {
                let target = self.cluster.target_partition(record.topic, record.partition)?;
                smallest = smallest.min(target.batch.unwrap_or(smallest));
            }
        }
        if !commit.state.is_empty() {
            state::ensure(&self.cluster, &self.state_topic)?;
            if !std::mem::replace(&mut self.state_checked, true) {
                state::check(&self.cluster, &self.state_topic)?;
            }
        }
        if smallest < self.batch {
            // A batch is refused as a whole, so none may grow beyond what the topic takes.
            debug!(bytes = smallest, "a topic takes smaller batches");
            self.producer = producer(&self.cluster, &self.options, smallest)?;
            self.batch = smallest;
        }
        Ok(())
    }

    fn end(&mut self, error: Error) -> CommitOutcome {
        self.over = Some(error.kind());
        CommitOutcome::Unknown(error)
    }

    /// One transaction, without its abort.
    fn transact(
        &self,
        commit: &Commit<'_>,
        group: Option<ConsumerGroupMetadata>,
    ) -> std::result::Result<Vec<Placed>, Ending> {
        self.step("begin", || self.producer.begin_transaction())?;
        for (index, record) in commit.records.iter().enumerate() {
            self.send(record, index).map_err(|code| self.refused(code, record.topic, Some(index)))?;
        }
        for (index, change) in commit.state.iter().enumerate() {
            let key = state::key(&self.options.group, &change.key);
            let record = state::record(&self.state_topic, &key, change);
            self.send(&record, commit.records.len() + index)
                .map_err(|code| self.refused(code, &self.state_topic, None))?;
        }
        let placed = self.deliveries(commit)?;
        if let Some(group) = group {
            let positions = positions(commit.positions).map_err(|error| self.judge("positions", error))?;
            self.send_positions(positions, group)?;
        }
        self.drain();
        self.step("commit", || self.producer.commit_transaction(Timeout::Never))?;
        Ok(placed)
    }

    fn send(&self, record: &NewRecord<'_>, token: usize) -> std::result::Result<(), Code> {
        let until = Instant::now() + STEP;
        loop {
            match enqueue(&self.producer, record, token) {
                Err(Code::QueueFull) if Instant::now() < until && self.producer.in_flight_count() > 0 => {
                    self.producer.poll(SLICE);
                }
                Err(Code::QueueFull) if self.producer.in_flight_count() == 0 => return Err(Code::MessageSizeTooLarge),
                other => return other,
            }
        }
    }

    fn refused(&self, code: Code, topic: &str, index: Option<usize>) -> Ending {
        if failure::kind(code) == ErrorKind::UnknownTopic {
            self.cluster.forget(topic);
        }
        let error = not_sent(code, topic);
        match (error.kind(), index) {
            (ErrorKind::RecordRefused, Some(index)) => Ending::Abort(CommitOutcome::RecordRefused { index, error }),
            (ErrorKind::Fenced | ErrorKind::Fatal, _) => Ending::Over(self.fatal().unwrap_or(error)),
            _ => Ending::Abort(CommitOutcome::Again(error)),
        }
    }

    /// Waits until the fate of every record is known. librdkafka gives a record up when the transaction's
    /// time is over, so this ends.
    fn drain(&self) {
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(SLICE);
        }
    }

    /// The places of the records, or which of them failed.
    fn deliveries(&self, commit: &Commit<'_>) -> std::result::Result<Vec<Placed>, Ending> {
        self.drain();
        let count = commit.records.len();
        let mut placed = vec![None; count];
        let mut failed: Vec<(usize, Undelivered)> = Vec::new();
        for (token, outcome) in self.producer.context().take() {
            match outcome {
                Ok(place) if token < count => placed[token] = Some(place),
                Ok(_) => {}
                Err(why) => failed.push((token, why)),
            }
        }
        if failed.is_empty() {
            let missing = || Ending::Over(Error::new(ErrorKind::Fatal, "a record was neither delivered nor refused"));
            return placed.into_iter().collect::<Option<Vec<Placed>>>().ok_or_else(missing);
        }
        if let Some(error) = self.fatal() {
            return Err(Ending::Over(error));
        }
        Err(Ending::Abort(blame(count, &failed)))
    }

    /// Adds the positions. librdkafka ignores the time limit of this call while the group's coordinator is
    /// away, so it runs on a thread that can be left behind: that thread never commits, and the broker
    /// aborts what it began.
    fn send_positions(
        &self,
        positions: TopicPartitionList,
        group: ConsumerGroupMetadata,
    ) -> std::result::Result<(), Ending> {
        let producer = self.producer.clone();
        let (answer, answered) = mpsc::sync_channel(1);
        let spawned = thread::Builder::new().name("kafka-positions".into()).spawn(move || {
            let outcome = retried(|| producer.send_offsets_to_transaction(&positions, &group, STEP));
            // Nobody listens any more when it took too long.
            let _ = answer.send(outcome);
        });
        if let Err(error) = spawned {
            let text = "cannot start a thread to commit";
            return Err(Ending::Abort(CommitOutcome::Again(Error::with_source(ErrorKind::Retry, text, error))));
        }
        match answered.recv_timeout(STEP + STEP) {
            Ok(outcome) => outcome.map_err(|error| self.judge("positions", error)),
            Err(_) => Err(Ending::Over(Error::new(
                ErrorKind::Retry,
                format!("the coordinator of group `{}` does not answer", self.options.group),
            ))),
        }
    }

    fn step(&self, name: &str, call: impl FnMut() -> KafkaResult<()>) -> std::result::Result<(), Ending> {
        retried(call).map_err(|error| self.judge(name, error))
    }

    /// What an error of a transaction's step means.
    fn judge(&self, step: &str, error: KafkaError) -> Ending {
        let group = &self.options.group;
        let right = "the rights Read on the group and Write on the transactional id `datamill-…` and the result topics";
        let (fatal, abort) = match &error {
            KafkaError::Transaction(error) => (error.is_fatal(), error.txn_requires_abort()),
            KafkaError::Flush(_) => (false, true),
            _ => (false, false),
        };
        debug!(step, %error, fatal, abort, group, "a transaction failed");
        let error = failure::failed(error, format!("cannot commit for group `{group}`"), right);
        match error.kind() {
            // Another process has the name: nothing that this one does can be committed any more.
            ErrorKind::Fenced => Ending::Over(error),
            _ if fatal => Ending::Over(self.fatal().unwrap_or(error)),
            _ if abort => Ending::Abort(CommitOutcome::Again(error)),
            _ => Ending::Over(error),
        }
    }

    /// The error that has made the producer useless, if there is one.
    fn fatal(&self) -> Option<Error> {
        let (code, reason) = self.producer.client().fatal_error()?;
        let group = &self.options.group;
        let reason = failure::Reason(reason);
        Some(match failure::kind(code) {
            ErrorKind::Fenced => Error::with_source(
                ErrorKind::Fenced,
                format!(
                    "the transaction of member `{}` of group `{group}` was taken over: another process uses this name, or it took longer than {TRANSACTION_TIMEOUT_MS} ms",
                    self.options.instance
                ),
                reason,
            ),
            _ => Error::with_source(
                ErrorKind::Retry,
                format!("the transaction of group `{group}` was given up by the broker"),
                reason,
            ),
        })
    }

    fn abort(&self) -> std::result::Result<(), Ending> {
        self.drain();
        self.step("abort", || self.producer.abort_transaction(Timeout::Never))?;
        self.drain();
        self.producer.context().take();
        Ok(())
    }
}

/// The producer, with its transactional id taken.
fn producer(cluster: &Cluster, options: &SubscribeOptions, batch: usize) -> Result<Arc<Sender>> {
    let producer: Sender = cluster
        .settings
        .committer(options, batch)
        .create_with_context(Deliveries::new(&cluster.watch))
        .map_err(|error| cluster::client_refused(error, "a transactional producer"))?;
    let name = || format!("cannot take transactional id `datamill-{}-{}`", options.group, options.instance);
    // With the brokers known, the coordinator is found at once instead of after half a second.
    if let Some(topic) = options.topics.first() {
        producer
            .client()
            .fetch_metadata(Some(topic), cluster::ANSWER)
            .map_err(|error| cluster.failed(error, name(), "no right"))?;
    }
    retried(|| producer.init_transactions(INIT))
        .map_err(|error| cluster.failed(error, name(), "the rights Describe and Write on the transactional id"))?;
    Ok(Arc::new(producer))
}

/// Makes a call again while librdkafka says that the same call may help.
fn retried(mut call: impl FnMut() -> KafkaResult<()>) -> KafkaResult<()> {
    let until = Instant::now() + STEP;
    loop {
        match call() {
            Err(KafkaError::Transaction(error))
                if error.is_retriable()
                    && !error.is_fatal()
                    && !error.txn_requires_abort()
                    && Instant::now() < until =>
            {
                thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

fn positions(positions: &[Position]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for position in positions {
        let mut element = list.add_partition(&position.topic, position.partition);
        element.set_offset(Offset::Offset(position.offset))?;
        element.set_metadata(&position.text);
    }
    Ok(list)
}

/// Which record is to blame when some were not delivered. Brokers refuse a batch as a whole: for its size
/// the largest record answers, for its content the one that the broker named (librdkafka marks the
/// others).
fn blame(records: usize, failed: &[(usize, Undelivered)]) -> CommitOutcome {
    let refused = failed
        .iter()
        .filter(|(token, why)| *token < records && failure::kind(why.code) == ErrorKind::RecordRefused)
        .max_by_key(|(token, why)| (why.bytes, std::cmp::Reverse(*token)));
    if let Some((index, why)) = refused {
        return CommitOutcome::RecordRefused { index: *index, error: not_delivered(why) };
    }
    // A missing right or topic says more than the records that went down with it.
    let telling = failed.iter().find(|(_, why)| failure::kind(why.code) != ErrorKind::Retry).or(failed.first());
    CommitOutcome::Again(
        telling
            .map_or_else(|| Error::new(ErrorKind::Retry, "records were not delivered"), |(_, why)| not_delivered(why)),
    )
}

/// The proof of membership that a commit carries. Without a valid generation and member id the coordinator
/// would take it unchecked, and rdkafka hides both in the proof: they are read before and after.
fn proof(consumer: &BaseConsumer<Member>) -> std::result::Result<ConsumerGroupMetadata, &'static str> {
    let before = native::membership(consumer);
    let metadata = consumer.group_metadata();
    let after = native::membership(consumer);
    match metadata {
        Some(metadata) if before == after && after.as_ref().is_some_and(Membership::is_live) => {
            if consumer.assignment_lost() { Err("the group went on without this member") } else { Ok(metadata) }
        }
        _ => Err("the member is joining its group"),
    }
}

impl Committer for KafkaCommitter {
    fn commit(&mut self, commit: &Commit<'_>) -> CommitOutcome {
        if let Some(kind) = self.over {
            return CommitOutcome::Unknown(Error::new(
                kind,
                "the session is over: an earlier commit ended in an unknown way",
            ));
        }
        if let Err(error) = self.prepare(commit) {
            return CommitOutcome::Again(error);
        }
        let fence = self.fence.clone();
        let (flight, group) = match fence.enter(commit.positions, || proof(&self.consumer)) {
            Ok(entered) => entered,
            Err(Refused::Stale(partitions)) => return CommitOutcome::NotOwner(partitions),
            Err(Refused::NoProof(why)) => {
                return CommitOutcome::Again(Error::new(ErrorKind::Retry, format!("no commit right now: {why}")));
            }
        };
        if commit.records.is_empty() && commit.positions.is_empty() && commit.state.is_empty() {
            return CommitOutcome::Done(Vec::new());
        }
        let ending = match self.transact(commit, group) {
            Ok(placed) => return CommitOutcome::Done(placed),
            Err(ending) => ending,
        };
        let outcome = match ending {
            Ending::Over(error) => self.end(error),
            Ending::Abort(outcome) => match self.abort() {
                Ok(()) => outcome,
                Err(Ending::Over(error)) => self.end(error),
                Err(Ending::Abort(_)) => {
                    self.end(Error::new(ErrorKind::Retry, "a transaction could neither be committed nor aborted"))
                }
            },
        };
        drop(flight);
        if let CommitOutcome::Unknown(error) = &outcome {
            warn!(group = %self.options.group, ?error, "a commit ended in an unknown way");
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undelivered(code: Code, bytes: usize) -> Undelivered {
        Undelivered { code, topic: "t".into(), partition: 0, bytes }
    }

    #[test]
    fn the_largest_record_of_a_refused_batch_answers_for_its_size() {
        let size = Code::MessageSizeTooLarge;
        let failed = [(0, undelivered(size, 10)), (1, undelivered(size, 5000)), (2, undelivered(size, 10))];
        assert!(matches!(blame(3, &failed), CommitOutcome::RecordRefused { index: 1, .. }));
    }

    #[test]
    fn the_record_that_the_broker_named_answers_for_its_content() {
        let failed = [(0, undelivered(Code::InvalidDifferentRecord, 10)), (1, undelivered(Code::InvalidRecord, 5))];
        assert!(matches!(blame(2, &failed), CommitOutcome::RecordRefused { index: 1, .. }));
    }

    #[test]
    fn a_missing_right_says_more_than_what_went_down_with_it() {
        let failed = [(0, undelivered(Code::PurgeQueue, 10)), (1, undelivered(Code::TopicAuthorizationFailed, 5))];
        match blame(2, &failed) {
            CommitOutcome::Again(error) => assert_eq!(error.kind(), ErrorKind::Denied),
            other => panic!("{other:?}"),
        }
    }
}
