//! What happens at a rebalance, on the thread that polls: where to start is looked up, numbers are given
//! out and taken back at the fence, and the events wait for the poll that is under way.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tracing::{debug, warn};

use super::cluster::patience;
use super::config::TRANSACTION_TIMEOUT_MS;
use super::context::Notes;
use super::failure;
use super::fence::Fence;
use super::native;
use super::records::{Queue, redirect};
use super::watch::Watch;
use crate::contract::{Assigned, Committed, FirstStart, SubscribeOptions, TopicIdentity};
use crate::error::{Error, ErrorKind, Result};
use crate::examined::Operation;
use crate::permission::Permission;

/// How long the committed positions of an assignment may take. An open transaction of a dead owner is
/// waited for in there: its timeout, and the broker's sweep of 10 s.
pub(super) const COMMITTED: Duration = Duration::from_secs(60);

/// After this time the broker has aborted any transaction: its timeout, the broker's sweep of 10 s, and
/// some. A revocation may be answered then even if the commit's thread never comes back.
const LANDED: Duration = Duration::from_millis(TRANSACTION_TIMEOUT_MS + 15_000);

/// How long a revocation waits for the end of a member that closes, see [`Member::is_over`].
const SETTLED: Duration = Duration::from_millis(500);

/// What a rebalance leaves for `poll` to hand out.
#[derive(Debug)]
pub(super) enum Change {
    Assigned(Vec<Assigned>),
    Revoked { partitions: Vec<(Arc<str>, i32)>, lost: bool },
}

/// The context of a member's consumer.
pub(super) struct Member {
    pub(super) notes: Notes,
    pub(super) fence: Arc<Fence>,
    /// Where the records of its partitions go.
    pub(super) records: Mutex<Option<Queue>>,
    group: String,
    topics: Vec<Arc<str>>,
    identity: TopicIdentity,
    first_start: FirstStart,
    changes: Mutex<VecDeque<Change>>,
    failed: Mutex<Option<Error>>,
    closing: AtomicBool,
    /// An assignment came while the member closed.
    refused: AtomicBool,
}

impl Member {
    pub(super) fn new(notes: Notes, fence: &Arc<Fence>, options: &SubscribeOptions) -> Self {
        Self {
            notes,
            fence: fence.clone(),
            records: Mutex::new(None),
            group: options.group.clone(),
            topics: options.topics.iter().map(|topic| Arc::from(topic.as_str())).collect(),
            identity: options.identity.clone(),
            first_start: options.first_start,
            changes: Mutex::new(VecDeque::new()),
            failed: Mutex::new(None),
            closing: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        }
    }

    /// The oldest change that was not handed out.
    pub(super) fn take_change(&self) -> Option<Change> {
        self.changes.lock().pop_front()
    }

    /// Why a rebalance could not be done.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.failed.lock().take()
    }

    /// From here on assignments are refused.
    pub(super) fn begin_to_close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether a member that closes has ended, so that librdkafka wants no answer to a revocation.
    ///
    /// The answer to an assignment ends such a member as well. A revocation that was in the queue behind it
    /// must not be answered then: a call that reaches librdkafka while it ends is thrown away and waits for
    /// ever (librdkafka's issue 4884).
    fn is_over(&self, consumer: &BaseConsumer<Self>) -> bool {
        if !self.refused.load(Ordering::Relaxed) {
            return false;
        }
        let until = Instant::now() + SETTLED;
        while !consumer.closed() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        consumer.closed()
    }

    fn topic(&self, name: &str) -> Arc<str> {
        self.topics.iter().find(|topic| &***topic == name).cloned().unwrap_or_else(|| name.into())
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<()> {
        if self.closing.load(Ordering::Relaxed) {
            self.refused.store(true, Ordering::Relaxed);
            let none = TopicPartitionList::new();
            return consumer.incremental_assign(&none).map_err(|error| self.rebalance_failed(error));
        }
        let assigned = self.starts(consumer, list)?;
        let mut starts = TopicPartitionList::new();
        for one in &assigned {
            starts
                .add_partition_offset(&one.topic, one.partition, Offset::Offset(one.start))
                .map_err(|error| self.rebalance_failed(error))?;
            debug!(topic = %one.topic, partition = one.partition, offset = one.start, group = %self.group, "assigned");
            if let Some(queue) = *self.records.lock() {
                redirect(consumer, &one.topic, one.partition, queue);
            }
        }
        consumer.incremental_assign(&starts).map_err(|error| self.rebalance_failed(error))?;
        self.changes.lock().push_back(Change::Assigned(assigned));
        Ok(())
    }

    /// Looks up where each partition starts, and gives it a number.
    fn starts(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<Vec<Assigned>> {
        if list.count() == 0 {
            return Ok(Vec::new());
        }
        let mut asked = TopicPartitionList::new();
        for element in list.elements() {
            asked.add_partition(element.topic(), element.partition());
        }
        let watch = &self.notes.watch;
        let log_starts =
            failure::until_known_within(watch, COMMITTED, || offsets_at(consumer, watch, &asked, Offset::Beginning))?;
        let committed = failure::until_known_within(watch, COMMITTED, || {
            committed_of(consumer, watch, asked.clone(), &self.group, Operation::Read)
        })?;
        let known = self.known_topics(consumer, &asked, &committed)?;
        // Read committed: behind what is decided.
        let log_ends = match self.first_start {
            FirstStart::Latest => Some(failure::until_known_within(watch, COMMITTED, || {
                offsets_at(consumer, watch, &asked, Offset::End)
            })?),
            FirstStart::Earliest | FirstStart::Error => None,
        };
        let mut assigned = Vec::new();
        for (index, element) in asked.elements().iter().enumerate() {
            let (topic, partition, log_start) = (self.topic(element.topic()), element.partition(), log_starts[index]);
            let committed = committed[index].clone();
            let added = committed.is_none() && known.contains(&topic);
            let usable = committed.as_ref().filter(|committed| self.identity.counts(&topic, committed));
            let start = match (usable, self.first_start, &log_ends) {
                (Some(committed), _, _) => committed.offset.max(log_start),
                (None, FirstStart::Latest, Some(ends)) if !added => ends[index],
                (None, FirstStart::Error, _) if committed.is_none() && !added => {
                    return Err(Error::new(
                        ErrorKind::OffsetOutOfRange,
                        format!(
                            "group `{}` has committed nothing for partition {partition} of topic `{topic}`",
                            self.group
                        ),
                    ));
                }
                (None, _, _) => log_start,
            };
            let assignment = self.fence.grant(&topic, partition);
            assigned.push(Assigned { topic, partition, assignment, start, committed, added, log_start });
        }
        Ok(assigned)
    }

    /// Topics of these partitions in which the group has a position, where one of them has none.
    fn known_topics(
        &self,
        consumer: &BaseConsumer<Self>,
        asked: &TopicPartitionList,
        committed: &[Option<Committed>],
    ) -> Result<HashSet<Arc<str>>> {
        let (mut known, mut lacking) = (HashSet::new(), BTreeSet::new());
        let mut see = |topic: Arc<str>, committed: &Option<Committed>| match committed {
            Some(committed) if self.identity.counts(&topic, committed) => drop(known.insert(topic)),
            Some(_) => {}
            None => drop(lacking.insert(topic)),
        };
        asked.elements().iter().zip(committed).for_each(|(element, found)| see(self.topic(element.topic()), found));
        let mut others = TopicPartitionList::new();
        for topic in lacking.iter().filter(|topic| !known.contains(*topic)) {
            for partition in 0..partitions(consumer, &self.notes.watch, topic)? {
                if asked.find_partition(topic, partition).is_none() {
                    others.add_partition(topic, partition);
                }
            }
        }
        if others.count() > 0 {
            let watch = &self.notes.watch;
            let committed = failure::until_known_within(watch, COMMITTED, || {
                committed_of(consumer, watch, others.clone(), &self.group, Operation::Read)
            })?;
            let elements = others.elements();
            let of_others = elements.iter().zip(&committed).filter_map(|(other, found)| Some((other, found.as_ref()?)));
            let counted = of_others.filter(|(other, found)| self.identity.counts(other.topic(), found));
            known.extend(counted.map(|(other, _)| self.topic(other.topic())));
        }
        Ok(known)
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> Result<()> {
        let lost = consumer.assignment_lost();
        let partitions: Vec<(Arc<str>, i32)> =
            list.elements().iter().map(|element| (self.topic(element.topic()), element.partition())).collect();
        let mut of_topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (topic, partition) in &partitions {
            of_topics.entry(topic).or_default().push(partition.to_string());
        }
        for (topic, partitions) in of_topics {
            let (partitions, group) = (partitions.join(","), &self.group);
            match lost {
                true => warn!(topic, partitions, group, "lost: the group went on without this member"),
                false => debug!(topic, partitions, group, "revoked"),
            }
        }
        let landed = self.fence.revoke(&partitions, lost, LANDED);
        self.changes.lock().push_back(Change::Revoked { partitions, lost });
        if self.is_over(consumer) {
            return Ok(());
        }
        consumer.incremental_unassign(list).map_err(|error| self.rebalance_failed(error))?;
        match landed {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Fatal,
                format!("a commit did not end within {} s while partitions had to be given up", LANDED.as_secs()),
            )),
        }
    }

    fn rebalance_failed(&self, error: KafkaError) -> Error {
        let needed = Permission::on_group(Operation::Read, &self.group);
        failure::failed(error, format!("cannot take part in group `{}`", self.group), needed)
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.notes.log(level, facility, text);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.notes.error(error, reason);
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let done = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => self.revoke(consumer, list),
            other => Err(self.rebalance_failed(KafkaError::Rebalance(other.into()))),
        };
        if let Err(error) = done {
            // librdkafka waits for an answer, also from a session that is over.
            if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
                debug!(%error, "no answer to a rebalance");
            }
            self.failed.lock().get_or_insert(error);
        }
    }
}

/// What a group has committed for each partition of a list, in its order. The operation is the one with which the caller
/// uses group and topics.
pub(super) fn committed_of<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    watch: &Watch,
    asked: TopicPartitionList,
    group: &str,
    operation: Operation,
) -> Result<Vec<Option<Committed>>> {
    let topics: BTreeSet<String> = asked.elements().iter().map(|element| element.topic().to_owned()).collect();
    let failed = |error: KafkaError| {
        let needed = match failure::code(&error) {
            Some(Code::TopicAuthorizationFailed) => Permission::on_topics(operation, topics.iter().cloned()),
            _ => Permission::on_group(operation, group),
        };
        failure::failed(error, format!("cannot look up what group `{group}` has committed"), needed)
    };
    let answer = consumer.committed_offsets(asked, patience(watch)).map_err(failed)?;
    let mut found = Vec::new();
    for (index, element) in answer.elements().iter().enumerate() {
        // An element with an error has no offset either: that is not "nothing committed".
        element.error().map_err(failed)?;
        found.push(match element.offset() {
            Offset::Offset(offset) => {
                let text = native::committed_text(&answer, index).ok_or_else(|| {
                    let (topic, partition) = (element.topic(), element.partition());
                    let text = format!(
                        "what group `{group}` has committed for partition {partition} of topic `{topic}` is not text: another program uses this group"
                    );
                    Error::new(ErrorKind::Corrupt, text)
                })?;
                Some(Committed { offset, text })
            }
            _ => None,
        });
    }
    Ok(found)
}

/// Number of partitions of a topic, for the client that reads it.
fn partitions<C: ConsumerContext>(consumer: &BaseConsumer<C>, watch: &Watch, topic: &str) -> Result<i32> {
    failure::until_answered(watch, || {
        let metadata = consumer.fetch_metadata(Some(topic), patience(watch)).map_err(|error| {
            let what = format!("cannot look up topic `{topic}`");
            failure::failed(error, what, Permission::on_topic(Operation::Read, topic))
        })?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        Ok(found.map_or(0, |found| found.partitions().len() as i32))
    })
}

/// The first or last offset of each partition of a list, in its order, with one question per broker.
fn offsets_at<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    watch: &Watch,
    asked: &TopicPartitionList,
    at: Offset,
) -> Result<Vec<i64>> {
    let what = || "cannot look up the ends of the partitions".to_owned();
    let topics: BTreeSet<String> = asked.elements().iter().map(|element| element.topic().to_owned()).collect();
    let needed = || Permission::on_topics(Operation::Read, topics.iter().cloned());
    let mut times = asked.clone();
    // The times -2 and -1 stand for the ends, and librdkafka's logical offsets are the same numbers.
    times.set_all_offsets(at).map_err(|error| failure::failed(error, what(), needed()))?;
    let answer = consumer.offsets_for_times(times, patience(watch));
    let answer = answer.map_err(|error| failure::failed(error, what(), needed()))?;
    let mut found = Vec::new();
    for element in answer.elements() {
        element.error().map_err(|error| failure::failed(error, what(), needed()))?;
        match element.offset() {
            Offset::Offset(offset) => found.push(offset),
            _ => return Err(failure::failed_code(Code::NoOffset, what(), needed())),
        }
    }
    Ok(found)
}
