//! One transactional producer and the steps of its transactions.
//!
//! ```text
//!   begin ─▶ send ─▶ drain deliveries ─▶ positions and their texts ─▶ commit
//!                                    └─▶ abort, whenever a step before the last one fails
//! ```
//! Deliveries are drained before rdkafka's `commit_transaction`, which would else wait 100 ms for them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::util::Timeout;
use tracing::debug;

use super::cluster::{self, Cluster};
use super::config::TRANSACTION_TIMEOUT_MS;
use super::context::{Deliveries, Undelivered};
use super::failure;
use super::publisher::{enqueue, serve};
use super::state::is_state;
use super::throttle::{self, Quota};
use super::unknown::Unknown;
use super::watch::Watch;
use crate::contract::{NewRecord, Placed, SubscribeOptions};
use crate::crash::{CrashPoint, crash_point};
use crate::error::{Error, ErrorKind, Result};
use crate::examined::Operation;
use crate::permission::Permission;

/// How long one step of a transaction is tried again: the broker aborts the transaction before that.
const STEP: Duration = Duration::from_millis(TRANSACTION_TIMEOUT_MS + 5_000);

/// How long librdkafka waits in one call of a step, which the next call resumes.
const CALL: Duration = Duration::from_secs(1);

/// How often a call on another thread is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long `init_transactions` may take: a dead run's open transaction is aborted in there.
const INIT: Duration = Duration::from_secs(30);

/// After this time without a delivery it is looked whether the topics of the records are still there. librdkafka would
/// wait for one that was deleted until the transaction's time is over.
const LOOK: Duration = Duration::from_secs(1);

/// The step that moves positions.
const POSITIONS: &str = "positions";

/// How long further deliveries are looked at once one has failed.
const AFTER_A_FAILURE: Duration = Duration::from_millis(5);

/// How a transaction ended that did not commit.
pub(super) enum Ending {
    /// These records were not delivered. The transaction has to be aborted.
    Undelivered(Vec<(usize, Undelivered)>),
    /// A step failed in a way that passes. The transaction has to be aborted.
    Passing(Error),
    /// It is not known how it ended, or the producer is of no use any more.
    Over(Error),
}

/// See the module.
pub(super) struct Transactions {
    cluster: Arc<Cluster>,
    producer: Arc<BaseProducer<Deliveries>>,
    group: String,
    instance: String,
    /// Topics whose positions move.
    sources: Vec<String>,
    /// Topics of the records of the last transaction.
    written: Vec<String>,
    began: Instant,
    /// The broker refused a record of the last transaction, which leaves a gap in the numbers by which it
    /// tells repetitions: librdkafka notices in the next transaction, loses it, and is well again.
    gap: bool,
}

impl Transactions {
    /// Makes the producer and takes the transactional id: what a dead run of the same name left open is
    /// aborted here.
    pub(super) fn open(cluster: &Arc<Cluster>, options: &SubscribeOptions, batch: usize) -> Result<Self> {
        let producer: BaseProducer<Deliveries> = cluster
            .settings
            .committer(options, batch)
            .create_with_context(Deliveries::new(&cluster.watch))
            .map_err(|error| cluster::client_refused(error, "a transactional producer"))?;
        throttle::listen(producer.client(), &cluster.watch, Quota::Sending);
        let name = || format!("cannot take transactional id `datamill-{}-{}`", options.group, options.instance);
        let needed = Permission::on_transactions(&options.group, &options.instance);
        if let Some(topic) = options.topics.first() {
            cluster.acquaint(producer.client(), topic)?;
        }
        retried(&cluster.watch, INIT, || producer.init_transactions(CALL))
            .map_err(|error| cluster.failed(error, name(), needed))?;
        Ok(Self {
            cluster: cluster.clone(),
            producer: Arc::new(producer),
            group: options.group.clone(),
            instance: options.instance.clone(),
            sources: options.topics.clone(),
            written: Vec::new(),
            began: Instant::now(),
            gap: false,
        })
    }

    /// One transaction up to its commit. The places are those of the records, in their order.
    pub(super) fn run<'a>(
        &mut self,
        records: impl Iterator<Item = &'a NewRecord<'a>> + Clone,
        positions: Option<(TopicPartitionList, ConsumerGroupMetadata)>,
    ) -> std::result::Result<Vec<Placed>, Ending> {
        let placed = self.send(records)?;
        crash_point(CrashPoint::KafkaSent);
        if let Some((positions, group)) = positions {
            self.send_positions(positions, group)?;
            crash_point(CrashPoint::KafkaPositions);
        }
        self.step("commit", || self.producer.commit_transaction(Timeout::After(CALL)))?;
        crash_point(CrashPoint::KafkaCommitted);
        Ok(placed)
    }

    /// Whether the log takes these records; nothing of them stays.
    pub(super) fn probe<'a>(
        &mut self,
        records: impl Iterator<Item = &'a NewRecord<'a>> + Clone,
    ) -> std::result::Result<bool, Ending> {
        let taken = match self.send(records) {
            Ok(_) => true,
            Err(Ending::Undelivered(failed)) if is_refusal(&failed) => false,
            Err(other) => return Err(other),
        };
        self.abort()?;
        Ok(taken)
    }

    /// Begins a transaction, sends records, and waits for their deliveries.
    fn send<'a>(
        &mut self,
        records: impl Iterator<Item = &'a NewRecord<'a>> + Clone,
    ) -> std::result::Result<Vec<Placed>, Ending> {
        let gap = std::mem::take(&mut self.gap);
        let mut sent = self.send_once(records.clone());
        if let Err(Ending::Undelivered(failed)) = &sent
            && gap
            && !is_refusal(failed)
        {
            self.abort()?;
            sent = self.send_once(records);
        }
        if let Err(Ending::Undelivered(failed)) = &sent {
            self.gap = is_refusal(failed);
        }
        sent
    }

    fn send_once<'a>(
        &mut self,
        records: impl Iterator<Item = &'a NewRecord<'a>>,
    ) -> std::result::Result<Vec<Placed>, Ending> {
        self.began = Instant::now();
        self.producer.context().take_barred();
        self.step("begin", || self.producer.begin_transaction())?;
        crash_point(CrashPoint::KafkaBegun);
        let mut count = 0;
        let mut topics = BTreeSet::new();
        for record in records {
            self.send_one(record, count)?;
            topics.insert(record.topic);
            count += 1;
        }
        self.written = topics.iter().map(|topic| (*topic).to_owned()).collect();
        self.drain(&topics)?;
        let mut placed = vec![None; count];
        let mut failed = Vec::new();
        for (token, outcome) in self.producer.context().take() {
            match outcome {
                Ok(place) => placed[token] = Some(place),
                Err(why) => failed.push((token, why)),
            }
        }
        self.bar(&mut failed);
        if failed.is_empty() {
            let missing = || Ending::Over(Error::new(ErrorKind::Fatal, "a record was neither delivered nor refused"));
            return placed.into_iter().collect::<Option<Vec<Placed>>>().ok_or_else(missing);
        }
        Err(self.fatal().map_or(Ending::Undelivered(failed), Ending::Over))
    }

    /// A transaction that may not write to a topic takes all records down, and none of them says why: so those
    /// of that topic are made to.
    fn bar(&self, failed: &mut [(usize, Undelivered)]) {
        let says_why = failed.iter().any(|(_, why)| failure::kind(why.code) != ErrorKind::Retry);
        if failed.is_empty() || says_why || !self.is_barred() {
            return;
        }
        let topic = self.producer.context().take_barred();
        for (_, why) in failed.iter_mut().filter(|(_, why)| topic.as_ref().is_none_or(|topic| why.topic == *topic)) {
            why.code = Code::TopicAuthorizationFailed;
        }
    }

    /// Whether the transaction under way can only be aborted, for a missing permission on a topic. librdkafka has no
    /// question for that; but it refuses to begin another transaction, with the reason.
    fn is_barred(&self) -> bool {
        let refused = self.producer.begin_transaction();
        refused.is_err_and(|error| failure::code(&error) == Some(Code::TopicAuthorizationFailed))
    }

    /// Hands a record to the producer, unless the transaction has failed already.
    fn send_one(&self, record: &NewRecord<'_>, token: usize) -> std::result::Result<(), Ending> {
        let producer = &self.producer;
        let code = loop {
            match enqueue(producer, record, token) {
                Ok(()) => return Ok(()),
                Err(Code::QueueFull) if producer.context().failed() => return Ok(()),
                // Nothing else is in the queue: the record is larger than all of it.
                Err(Code::QueueFull) if producer.in_flight_count() == 0 => {
                    break Code::MessageSizeTooLarge;
                }
                Err(Code::QueueFull) => serve(producer, STEP),
                Err(code) => break code,
            }
        };
        let why = Undelivered {
            code,
            topic: record.topic.to_owned(),
            partition: record.partition.unwrap_or(-1),
            bytes: record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len),
            has_key: record.key.is_some(),
        };
        Err(self.fatal().map_or(Ending::Undelivered(vec![(token, why)]), Ending::Over))
    }

    /// Waits until every record is delivered or one is not. Those behind one that is not would wait for the
    /// transaction to be aborted. librdkafka gives up when the transaction's time is over, so this ends.
    fn drain(&self, topics: &BTreeSet<&str>) -> std::result::Result<(), Ending> {
        let mut in_flight = self.producer.in_flight_count();
        let (mut heard, mut unknown) = (Instant::now(), Unknown::default());
        while in_flight > 0 {
            if self.cluster.watch.is_given_up() {
                return Err(Ending::Over(self.silent()));
            }
            if self.producer.context().failed() {
                // A record that is refused may come after those that are purged because of it.
                self.producer.poll(AFTER_A_FAILURE);
                break;
            }
            serve(&self.producer, STEP);
            let before = std::mem::replace(&mut in_flight, self.producer.in_flight_count());
            if in_flight != before {
                heard = Instant::now();
            } else if heard.elapsed() >= LOOK {
                heard = Instant::now();
                let found = topics.iter().copied().find(|topic| self.cluster.is_unknown(topic));
                let is_deleted = unknown.is_deleted(found, heard);
                if let Some(topic) = found.filter(|_| is_deleted) {
                    return Err(Ending::Passing(self.deleted(topic)));
                }
            }
        }
        Ok(())
    }

    /// The error for a topic that records of a commit go to.
    fn deleted(&self, topic: &str) -> Error {
        self.cluster.forget(topic);
        if is_state(topic) {
            let text = format!(
                "topic `{topic}`, which keeps the failed files of group `{}`, was deleted while the program ran: only the \
                 tables in the output folders name them now. Nothing else is lost: the next start makes the topic again \
                 and goes on",
                self.group
            );
            return Error::new(ErrorKind::TopicDeleted, text);
        }
        let make = crate::error::command(&format!("topic create {topic}"), &self.cluster.settings.options);
        let text = format!(
            "topic `{topic}`, to which group `{}` writes, was deleted while the program ran. Nothing is lost: create it \
            again with {make}, and the next start goes on",
            self.group
        );
        Error::new(ErrorKind::TopicDeleted, text)
    }

    /// Adds the positions. librdkafka ignores the time limit of this call while the group's coordinator is
    /// away, and goes on waiting for that broker where another one has become the coordinator. So it runs on a thread
    /// that can be left behind: that thread never commits, and the broker aborts what it began.
    fn send_positions(
        &self,
        positions: TopicPartitionList,
        group: ConsumerGroupMetadata,
    ) -> std::result::Result<(), Ending> {
        let (producer, watch) = (self.producer.clone(), self.cluster.watch.clone());
        // What takes longer can never be committed.
        let limit = Duration::from_millis(TRANSACTION_TIMEOUT_MS).saturating_sub(self.began.elapsed());
        let sent = left_behind(&self.cluster.watch, limit, move || {
            retried(&watch, STEP, || producer.send_offsets_to_transaction(&positions, &group, STEP))
        });
        match sent {
            Ok(Some(outcome)) => outcome.map_err(|error| self.judge(POSITIONS, error)),
            Ok(None) => Err(Ending::Over(self.silent())),
            Err(error) => Err(Ending::Passing(error)),
        }
    }

    fn silent(&self) -> Error {
        Error::new(ErrorKind::Retry, format!("the coordinator of group `{}` does not answer", self.group))
    }

    fn step(&self, name: &str, call: impl FnMut() -> KafkaResult<()>) -> std::result::Result<(), Ending> {
        retried(&self.cluster.watch, STEP, call).map_err(|error| self.judge(name, error))
    }

    /// What an error of a transaction's step means. The order of the questions is librdkafka's.
    fn judge(&self, step: &str, error: KafkaError) -> Ending {
        let group = &self.group;
        let (fatal, abort) = match &error {
            KafkaError::Transaction(error) => (error.is_fatal(), error.txn_requires_abort()),
            KafkaError::Flush(_) => (false, true),
            _ => (false, false),
        };
        debug!(step, %error, fatal, abort, group, "a transaction failed");
        let needed = match failure::code(&error) {
            Some(code @ Code::GroupAuthorizationFailed) => failure::to_read(code, group, &self.sources),
            Some(code @ Code::TopicAuthorizationFailed) if step == POSITIONS || self.written.is_empty() => {
                failure::to_read(code, group, &self.sources)
            }
            Some(Code::TopicAuthorizationFailed) => Permission::on_topics(Operation::Write, &self.written),
            _ => Permission::on_transactions(group, &self.instance),
        };
        let error = failure::failed(error, format!("cannot commit for group `{group}`"), needed);
        // A member whose place was taken can abort, but never commit again.
        if abort && !fatal && error.kind() != ErrorKind::Fenced {
            return Ending::Passing(error);
        }
        Ending::Over(self.fatal().unwrap_or(error))
    }

    /// The error that has made the producer useless, if there is one.
    fn fatal(&self) -> Option<Error> {
        let (code, reason) = self.producer.client().fatal_error()?;
        let (group, instance) = (&self.group, &self.instance);
        // A broker fences the producer of a transaction that took too long, too.
        let in_time = self.began.elapsed() < Duration::from_millis(TRANSACTION_TIMEOUT_MS) * 2 / 3;
        let (kind, text) = match failure::kind(code) {
            kind @ (ErrorKind::Denied | ErrorKind::DeniedExactlyOnce) => {
                let needed = Permission::on_transactions(group, instance);
                return Some(Error::denied(kind, format!("cannot commit for group `{group}`"), needed));
            }
            ErrorKind::Fenced if in_time => (
                ErrorKind::Fenced,
                format!(
                    "another process has taken the place of member `{instance}` of group `{group}`: give each process an instance name of its own"
                ),
            ),
            _ => (
                ErrorKind::Retry,
                format!("the broker has given up the transaction of member `{instance}` of group `{group}`"),
            ),
        };
        Some(Error::with_source(kind, text, failure::Reason(reason)))
    }

    /// Aborts the transaction. librdkafka waits in there for deliveries to be looked at, which is for this
    /// thread to do in between.
    pub(super) fn abort(&self) -> std::result::Result<(), Ending> {
        let until = Instant::now() + STEP;
        loop {
            match self.producer.abort_transaction(Duration::from_millis(20)) {
                Ok(()) => break,
                Err(KafkaError::Transaction(error))
                    if error.is_retriable()
                        && !error.is_fatal()
                        && Instant::now() < until
                        && !self.cluster.watch.is_given_up() =>
                {
                    serve(&self.producer, STEP);
                }
                Err(error) => return Err(self.judge("abort", error)),
            }
        }
        while self.producer.in_flight_count() > 0 && !self.cluster.watch.is_given_up() {
            serve(&self.producer, STEP);
        }
        self.producer.context().take();
        Ok(())
    }
}

/// Whether the log refused a record for itself.
fn is_refusal(failed: &[(usize, Undelivered)]) -> bool {
    failed.iter().any(|(_, why)| failure::kind(why.code).refuses_record())
}

/// Makes a call that librdkafka gives no time limit, on a thread of its own. Answers `None` where that takes too long, or
/// nobody waits for the broker any more: the thread is left behind then.
pub(super) fn left_behind<T: Send + 'static>(
    watch: &Watch,
    limit: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>> {
    let (answer, answered) = mpsc::sync_channel(1);
    // What the call holds goes before the answer, so that nobody waits for this thread to let go of a client.
    let made = move || drop(answer.send(call()));
    let spawned = thread::Builder::new().name("kafka-call".into()).spawn(made);
    spawned.map_err(|error| Error::with_source(ErrorKind::Retry, "cannot start a thread to commit", error))?;
    let until = Instant::now() + limit;
    loop {
        match answered.recv_timeout(LOOK_EVERY) {
            Ok(answer) => return Ok(Some(answer)),
            Err(RecvTimeoutError::Timeout) if Instant::now() < until && !watch.is_given_up() => {}
            Err(_) => return Ok(None),
        }
    }
}

/// Makes a call again while librdkafka says that the same call may help, for so long.
fn retried(watch: &Watch, limit: Duration, mut call: impl FnMut() -> KafkaResult<()>) -> KafkaResult<()> {
    let until = Instant::now() + limit;
    loop {
        match call() {
            Err(KafkaError::Transaction(error))
                if error.is_retriable()
                    && !error.is_fatal()
                    && !error.txn_requires_abort()
                    && Instant::now() < until
                    && !watch.is_given_up() =>
            {
                thread::sleep(Duration::from_millis(50));
            }
            other => return other,
        }
    }
}
