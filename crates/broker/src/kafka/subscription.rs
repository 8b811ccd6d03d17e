//! The reading half of a member: one consumer, polled by one thread.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::{ClientContext, TopicPartitionList};
use tracing::debug;

use super::cluster::{self, Cluster};
use super::context::Notes;
use super::failure::{self, Reason};
use super::fence::Fence;
use super::identity::Identity;
use super::member::{Change, Member};
use super::native;
use super::reader::{Handed, Place, is_final, out_of_range};
use super::records::{Polled, Records};
use super::throttle::{self, Quota};
use super::transaction::left_behind;
use crate::contract::{Event, Membership, SubscribeOptions, Subscription};
use crate::error::{Error, ErrorKind, Result};
use crate::examined::Operation;
use crate::permission::Permission;

/// How long a member that leaves waits until the group knows.
const LEAVE: Duration = Duration::from_millis(1500);

/// How long the end of a member is waited for. librdkafka ends it sooner, whatever the broker does.
const CLOSED: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct KafkaSubscription {
    cluster: Arc<Cluster>,
    records: Records<Member>,
    consumer: Arc<BaseConsumer<Member>>,
    identity: Identity,
    held: bool,
    group: String,
    /// The group forgets it when it ends, whether it is to leave or not.
    dynamic: bool,
    topics: Vec<Arc<str>>,
    places: HashMap<(usize, i32), Place>,
    /// Partitions that librdkafka has paused.
    paused: BTreeSet<(usize, i32)>,
    closed: bool,
}

impl KafkaSubscription {
    /// Makes the consumer; [`KafkaSubscription::join`] joins.
    pub(super) fn open(cluster: &Arc<Cluster>, options: &SubscribeOptions, fence: &Arc<Fence>) -> Result<Self> {
        let identity = Identity::watch(cluster, &options.topics, &options.identity)?;
        let member = Member::new(Notes::new(&cluster.watch), fence, options);
        let consumer: BaseConsumer<Member> = cluster
            .settings
            .member(options)
            .create_with_context(member)
            .map_err(|error| cluster::client_refused(error, "a member of the group"))?;
        throttle::listen(consumer.client(), &cluster.watch, Quota::Reading);
        let consumer = Arc::new(consumer);
        let records = Records::new(&consumer)
            .ok_or_else(|| Error::new(ErrorKind::Fatal, "the client has no memory for a queue of records"))?;
        *consumer.context().records.lock() = Some(records.queue());
        Ok(Self {
            cluster: cluster.clone(),
            records,
            consumer,
            identity,
            held: false,
            group: options.group.clone(),
            dynamic: options.membership == Membership::Dynamic,
            topics: options.topics.iter().map(|topic| Arc::from(topic.as_str())).collect(),
            places: HashMap::new(),
            paused: BTreeSet::new(),
            closed: false,
        })
    }

    /// Starts to join the group; polling does the rest.
    pub(super) fn join(&self) -> Result<()> {
        let topics: Vec<&str> = self.topics.iter().map(|topic| &**topic).collect();
        self.consumer.subscribe(&topics).map_err(|error| {
            let needed = Permission::on_group(Operation::Read, &self.group);
            failure::failed(error, format!("cannot join group `{}`", self.group), needed)
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
                            self.paused.remove(&(topic, *partition));
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

    /// What an error of the consumer means: nothing for those that pass.
    fn judge(&self, error: &KafkaError) -> Result<()> {
        let reason = self.consumer.context().notes.take_reason();
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        let Some(code) = failure::code(error) else {
            return Ok(());
        };
        let kind = failure::kind(code);
        self.identity.ask();
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
                Err(self.identity.explain(&self.cluster, out_of_range(&self.cluster, &places, reason)))
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
            // A broker that has not heard of a topic yet says the same: who asks for the topic's id finds out.
            (ErrorKind::UnknownTopic, _) => Ok(()),
            (ErrorKind::Denied, Code::GroupAuthorizationFailed | Code::TopicAuthorizationFailed) => {
                let needed = failure::to_read(code, group, self.topics.iter().map(|topic| &**topic));
                Err(failure::failed_code(code, format!("cannot read as group `{group}`"), needed))
            }
            _ => error(if fatal { ErrorKind::Fatal } else { kind }, format!("cannot go on reading as group `{group}`")),
        }
    }

    /// Lets the consumer do what is to be done for the group. Answers how many events that gave.
    fn serve_group(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let mut events = 0;
        let mut wait = timeout;
        loop {
            let consumer = self.consumer.clone();
            let polled = consumer.poll(wait);
            wait = Duration::ZERO;
            events += self.take_changes(sink)?;
            match polled {
                None => return Ok(events),
                // all records go another way
                Some(Ok(_)) => {}
                Some(Err(error)) => self.judge(&error)?,
            }
        }
    }

    /// Hands out what is in the queue of records, up to a bounded number.
    fn serve_records(&mut self, timeout: Duration, handed: &mut Handed, sink: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        while !handed.enough() {
            let Self { records, places, topics, consumer, .. } = self;
            let mut failed = None;
            let mut is_fresh = |topic: &str, partition, at: &dyn Fn(&mut Place) -> bool| {
                let index = topics.iter().position(|known| **known == *topic);
                index.and_then(|index| places.get_mut(&(index, partition))).is_some_and(at)
            };
            let more = records.poll(handed.wait(timeout), |polled| match polled {
                Polled::Record(record) => {
                    if is_fresh(record.topic, record.partition, &|place| place.record(record.offset)) {
                        handed.record(record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len));
                        sink(Event::Record(record));
                    }
                }
                Polled::End { topic, partition, offset } => {
                    if is_fresh(topic, partition, &|place| place.end(offset)) {
                        handed.events += 1;
                        sink(Event::End { topic, partition, offset });
                    }
                }
                Polled::Failed(code, reason) => {
                    let error = KafkaError::MessageConsumption(code);
                    consumer.context().notes.error(error.clone(), &reason);
                    failed = Some(error);
                }
            });
            if let Some(error) = failed {
                self.judge(&error)?;
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn list(&self, partitions: impl Iterator<Item = (usize, i32)>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition(&self.topics[topic], partition);
        }
        list
    }

    fn shut(&mut self, leave: bool) -> Result<()> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        let (consumer, is_dynamic) = (self.consumer.clone(), self.dynamic);
        let shut = left_behind(&self.cluster.watch, CLOSED, move || shut(&consumer, leave, is_dynamic));
        self.consumer.context().fence.close();
        // a member that is left behind ends by itself
        shut?
            .unwrap_or(Ok(()))
            .map_err(|error| failure::failed(error, format!("cannot close the member of group `{}`", self.group), None))
    }
}

/// Ends a member; with `leave` the group knows before this returns.
fn shut(consumer: &BaseConsumer<Member>, leave: bool, is_dynamic: bool) -> KafkaResult<()> {
    // librdkafka closes a member that has no partition without a word to the group, which then waits for it
    // until its session is over; and where an answer of the group is on its way, that answer ends the process
    // (librdkafka's pull request 5327). One that unsubscribes first leaves.
    if leave || is_dynamic {
        consumer.unsubscribe();
    }
    if leave {
        let until = Instant::now() + LEAVE;
        // The group was told once it goes; the answer is not waited for.
        while Instant::now() < until && native::membership(consumer).is_some_and(|member| member.is_known()) {
            let _ = consumer.poll(Duration::from_millis(20));
        }
        let _ = consumer.poll(Duration::from_millis(100));
    }
    consumer.context().begin_to_close();
    let closing = consumer.close_queue();
    while closing.is_ok() && !consumer.closed() {
        let _ = consumer.poll(Duration::from_millis(20));
    }
    closing
}

impl Subscription for KafkaSubscription {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        self.cluster.check_login()?;
        self.identity.check()?;
        let idle = self.held || self.places.is_empty();
        let mut handed = Handed::default();
        handed.events = self.serve_group(if idle { timeout } else { Duration::ZERO }, sink)?;
        if !idle {
            self.serve_records(timeout, &mut handed, sink)?;
        }
        Ok(handed.events)
    }

    fn hold(&mut self) -> Result<()> {
        self.held = true;
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        self.held = false;
        Ok(())
    }

    /// Pausing throws away what was fetched of these partitions; it is fetched again from the record that
    /// follows the last one handed out.
    fn hold_partitions(&mut self, held: &[(Arc<str>, i32)]) -> Result<()> {
        let named = held.iter().filter_map(|(topic, partition)| Some((self.topic_index(topic)?, *partition)));
        let held: BTreeSet<(usize, i32)> = named.filter(|place| self.places.contains_key(place)).collect();
        let failed = |error| failure::failed(error, "cannot hold partitions", None);
        let more = self.list(held.difference(&self.paused).copied());
        let fewer = self.list(self.paused.difference(&held).copied());
        if more.count() > 0 {
            self.consumer.pause(&more).map_err(failed)?;
        }
        if fewer.count() > 0 {
            self.consumer.resume(&fewer).map_err(failed)?;
        }
        self.paused = held;
        Ok(())
    }

    fn close(mut self: Box<Self>, leave: bool) -> Result<()> {
        self.shut(leave)
    }
}

impl Drop for KafkaSubscription {
    fn drop(&mut self) {
        *self.consumer.context().records.lock() = None;
        if let Err(error) = self.shut(false) {
            debug!(%error, "closing");
        }
    }
}
