//! The reading half of a member: one consumer, polled by one thread.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use tracing::debug;

use super::cluster::{self, Cluster};
use super::context::Notes;
use super::failure::{self, Reason};
use super::fence::Fence;
use super::member::{Change, Member};
use super::native;
use super::reader::{Handed, KafkaReader, Place, is_final, out_of_range, record};
use crate::contract::{Event, Reader, SubscribeOptions, Subscription};
use crate::error::{Error, ErrorKind, Result};

/// How long a member that leaves waits until the group knows.
const LEAVE: Duration = Duration::from_millis(1500);

/// See the module.
pub(super) struct KafkaSubscription {
    cluster: Arc<Cluster>,
    consumer: Arc<BaseConsumer<Member>>,
    group: String,
    topics: Vec<Arc<str>>,
    places: HashMap<(usize, i32), Place>,
    closed: bool,
}

impl KafkaSubscription {
    /// Makes the consumer; [`KafkaSubscription::join`] joins.
    pub(super) fn open(cluster: &Arc<Cluster>, options: &SubscribeOptions, fence: &Arc<Fence>) -> Result<Self> {
        let notes = Notes::new(&cluster.watch);
        let member = Member::new(notes, fence, &options.group, &options.topics, options.first_start);
        let consumer: BaseConsumer<Member> = cluster
            .settings
            .member(options)
            .create_with_context(member)
            .map_err(|error| cluster::client_refused(error, "a member of the group"))?;
        Ok(Self {
            cluster: cluster.clone(),
            consumer: Arc::new(consumer),
            group: options.group.clone(),
            topics: options.topics.iter().map(|topic| Arc::from(topic.as_str())).collect(),
            places: HashMap::new(),
            closed: false,
        })
    }

    /// Starts to join the group; polling does the rest.
    pub(super) fn join(&self) -> Result<()> {
        let topics: Vec<&str> = self.topics.iter().map(|topic| &**topic).collect();
        self.consumer.subscribe(&topics).map_err(|error| {
            failure::failed(error, format!("cannot join group `{}`", self.group), "the right Read on the group")
        })
    }

    /// The consumer, for the half that commits.
    pub(super) fn consumer(&self) -> &Arc<BaseConsumer<Member>> {
        &self.consumer
    }

    fn topic_index(&self, name: &str) -> Option<usize> {
        self.topics.iter().position(|topic| &**topic == name)
    }

    fn take_changes(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let mut count = 0;
        while let Some(change) = self.consumer.context().take_change() {
            count += 1;
            match change {
                Change::Assigned(assigned) => {
                    for one in &assigned {
                        if let Some(topic) = self.topic_index(&one.topic) {
                            self.places.insert((topic, one.partition), Place::at(one.start));
                        }
                    }
                    sink(Event::Assigned(assigned));
                }
                Change::Revoked { partitions, lost } => {
                    for (topic, partition) in &partitions {
                        if let Some(topic) = self.topic_index(topic) {
                            self.places.remove(&(topic, *partition));
                        }
                    }
                    sink(Event::Revoked { partitions, lost });
                }
            }
        }
        match self.consumer.context().take_failure() {
            Some(error) => Err(error),
            None => Ok(count),
        }
    }

    /// The topic whose partition has come to its end: rdkafka tells only the partition's number. With
    /// several topics, those that cannot be meant are ruled out by their ends, and as a last resort by
    /// looking for records that were not handed out.
    fn topic_at_end(&self, partition: i32, offset: i64) -> Result<Option<usize>> {
        let mut candidates: Vec<usize> = (0..self.topics.len())
            .filter(|topic| {
                self.places
                    .get(&(*topic, partition))
                    .is_some_and(|place| place.next <= offset && place.end != Some(offset))
            })
            .collect();
        if self.topics.len() == 1 || candidates.is_empty() {
            return Ok(candidates.pop());
        }
        for topic in candidates {
            // One whose end is further on comes to that end later and says so then.
            let (_, stable) = self.cluster.first_and_stable(&self.topics[topic], partition)?;
            let next = self.places[&(topic, partition)].next;
            if stable == offset && (next == offset || self.nothing_between(topic, partition, next, offset)?) {
                return Ok(Some(topic));
            }
        }
        Ok(None)
    }

    fn nothing_between(&self, topic: usize, partition: i32, next: i64, end: i64) -> Result<bool> {
        let mut reader = KafkaReader::open(&self.cluster, &self.topics[topic], &[(partition, next)])?;
        let until = Instant::now() + cluster::ANSWER;
        while Instant::now() < until {
            let (mut found, mut ended) = (false, false);
            reader.poll(Duration::from_millis(100), &mut |event| match event {
                Event::Record(record) => found |= record.offset < end,
                _ => ended = true,
            })?;
            if found || ended {
                return Ok(!found);
            }
        }
        Ok(false)
    }

    /// What an error of the consumer means: nothing for those that pass.
    fn judge(&self, error: &KafkaError) -> Result<()> {
        let reason = self.consumer.context().notes.take_reason();
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        let Some(code) = failure::code(error) else {
            return Ok(());
        };
        let kind = failure::kind(code);
        if !fatal && !is_final(code) {
            debug!(%code, group = %self.group, "a passing error");
            return Ok(());
        }
        let reason = reason.unwrap_or_else(|| Reason(code.to_string()));
        let group = &self.group;
        let error = |kind, text: String| Err(Error::with_source(kind, text, reason.clone()));
        match (kind, code) {
            (ErrorKind::OffsetOutOfRange, _) => {
                let places: Vec<(&str, i32, i64)> = self
                    .places
                    .iter()
                    .map(|((topic, partition), place)| (&*self.topics[*topic], *partition, place.next))
                    .collect();
                Err(out_of_range(&self.cluster, &places, reason))
            }
            (_, Code::FencedInstanceId | Code::UnreleasedInstanceId) => error(
                ErrorKind::Fenced,
                format!(
                    "another process has taken this member's place in group `{group}`: give each process an instance name of its own"
                ),
            ),
            (_, Code::InconsistentGroupProtocol) => error(
                ErrorKind::Settings,
                format!(
                    "the members of group `{group}` share partitions out in another way, other programs use it: choose another group"
                ),
            ),
            // A broker that has not heard of a topic yet says the same.
            (ErrorKind::UnknownTopic, _) => {
                self.topics.iter().try_for_each(|topic| match self.cluster.partitions(topic) {
                    Err(error) if error.kind() == ErrorKind::UnknownTopic => Err(error),
                    _ => Ok(()),
                })
            }
            (ErrorKind::Denied, Code::GroupAuthorizationFailed) => {
                error(kind, format!("cannot read as group `{group}`: the account needs the right Read on the group"))
            }
            (ErrorKind::Denied, Code::TopicAuthorizationFailed) => {
                error(kind, format!("cannot read as group `{group}`: the account needs the right Read on its topics"))
            }
            _ => error(if fatal { ErrorKind::Fatal } else { kind }, format!("cannot go on reading as group `{group}`")),
        }
    }

    fn assignment(&self) -> Result<TopicPartitionList> {
        self.consumer.assignment().map_err(|error| self.hold_failed(error))
    }

    fn hold_failed(&self, error: KafkaError) -> Error {
        failure::failed(
            error,
            format!("cannot hold or resume reading as group `{}`", self.group),
            "the right Read on the group",
        )
    }

    fn shut(&mut self, leave: bool) -> Result<()> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        if leave {
            self.consumer.unsubscribe();
            let until = Instant::now() + LEAVE;
            // The id goes when the group was told; the answer is not waited for.
            while Instant::now() < until
                && native::membership(&self.consumer).is_some_and(|member| !member.member.is_empty())
            {
                let _ = self.consumer.poll(Duration::from_millis(20));
            }
            let _ = self.consumer.poll(Duration::from_millis(100));
        }
        let closing = self.consumer.close_queue();
        while closing.is_ok() && !self.consumer.closed() {
            let _ = self.consumer.poll(Duration::from_millis(20));
        }
        self.consumer.context().fence.close();
        closing.map_err(|error| {
            failure::failed(error, format!("cannot close the member of group `{}`", self.group), "no right")
        })
    }
}

impl Subscription for KafkaSubscription {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let mut handed = Handed::default();
        while !handed.enough() {
            let consumer = self.consumer.clone();
            let polled = consumer.poll(handed.wait(timeout));
            // A rebalance ends the poll that it happens in, so what it changed comes before the record.
            handed.events += self.take_changes(sink)?;
            match polled {
                None => break,
                Some(Ok(message)) => {
                    let place = self.topic_index(message.topic()).map(|topic| (topic, message.partition()));
                    let fresh = place
                        .and_then(|place| self.places.get_mut(&place))
                        .is_some_and(|place| place.record(message.offset()));
                    if fresh {
                        sink(Event::Record(record(&message)));
                        handed.record(&message);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let Some(offset) = consumer.context().notes.take_end() else {
                        continue;
                    };
                    let Some(topic) = self.topic_at_end(partition, offset)? else {
                        continue;
                    };
                    if self.places.get_mut(&(topic, partition)).is_some_and(|place| place.end(offset)) {
                        sink(Event::End { topic: &self.topics[topic], partition, offset });
                        handed.events += 1;
                    }
                }
                Some(Err(error)) => self.judge(&error)?,
            }
        }
        Ok(handed.events)
    }

    fn hold(&mut self) -> Result<()> {
        if self.consumer.context().held.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let assignment = self.assignment()?;
        self.consumer.pause(&assignment).map_err(|error| self.hold_failed(error))
    }

    fn resume(&mut self) -> Result<()> {
        if !self.consumer.context().held.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let assignment = self.assignment()?;
        self.consumer.resume(&assignment).map_err(|error| self.hold_failed(error))
    }

    fn close(mut self: Box<Self>, leave: bool) -> Result<()> {
        self.shut(leave)
    }
}

impl Drop for KafkaSubscription {
    fn drop(&mut self) {
        if let Err(error) = self.shut(false) {
            debug!(%error, "closing");
        }
    }
}
