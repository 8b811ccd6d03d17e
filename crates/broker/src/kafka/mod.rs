//! The log on Apache Kafka, through librdkafka.
//!
//! ```text
//!   properties ─▶ config ─▶ cluster (asks, watches the connection) ─▶ listener (what is there, where that fails)
//!       login, certificates
//!       account (its name in errors)  context ─▶ watch (one outage, said once)
//!                              ├─▶ throttle (quotas)
//!                              ├─▶ admin        topics
//!                              ├─▶ publisher    idempotent producer
//!                              ├─▶ reader       partitions assigned by hand
//!                              └─▶ subscription ─▶ member (rebalance) ─┬─▶ fence
//!                                  identity (same topics?)             │
//!                                  committer ─▶ transaction ────────────┤
//!                                  at_least_once ─▶ publisher ──────────┘
//! ```
//! Everything blocks, on plain threads. Readers see committed records only. A commit is one transaction
//! that holds the results, the positions with their texts, and the changes of the group's state; where
//! that is not asked for, results are acknowledged first and positions follow.

mod absent;
mod account;
mod admin;
mod at_least_once;
mod certificates;
mod cluster;
mod committer;
mod config;
mod context;
mod examine;
mod failure;
mod fence;
mod groups;
mod identity;
mod listener;
mod login;
mod measure;
mod member;
mod native;
mod publisher;
mod reader;
mod records;
mod state;
mod subscription;
mod throttle;
mod transaction;
mod unknown;
mod watch;

use std::sync::Arc;

use crate::contract::{
    Committer, DeliveryGuarantee, Log, NewTopic, Offsets, Publisher, Reader, Session, StateChange, StateMark,
    SubscribeOptions, Topic, TopicNow,
};
use crate::embedded;
use crate::error::{Error, ErrorKind, Result};
use crate::examined::{Examined, Group, Operation, Outage, Readers};
use crate::open::Properties;
use crate::own_files::OwnFiles;

use account::Account;
use at_least_once::AtLeastOnceCommitter;
use cluster::Cluster;
use committer::KafkaCommitter;
use config::Settings;
use fence::Fence;
use publisher::KafkaPublisher;
use reader::KafkaReader;
use subscription::KafkaSubscription;

/// A Kafka cluster as a log.
pub(crate) struct KafkaLog {
    cluster: Arc<Cluster>,
    account: Account,
}

impl KafkaLog {
    /// Connects to the cluster that `bootstrap.servers` names. Fails after some seconds when no server
    /// answers.
    pub(crate) fn open(properties: &Properties) -> Result<Self> {
        let cluster = Cluster::connect(Settings::new(properties)?)?;
        let account = Account::of(cluster.settings.asking());
        Ok(Self { cluster, account })
    }
}

impl Log for KafkaLog {
    fn name(&self) -> &str {
        self.cluster.servers()
    }

    fn id(&self) -> Result<String> {
        Ok(self.cluster.id.clone())
    }

    fn account(&self) -> Option<&str> {
        self.account.as_str()
    }

    fn stop(&self) {
        self.cluster.watch.stop();
    }

    fn is_given_up(&self) -> bool {
        self.cluster.watch.is_given_up()
    }

    fn outage(&self) -> Option<Outage> {
        self.cluster.watch.outage(self.cluster.servers())
    }

    fn is_throttled(&self) -> bool {
        // the last wait that it asked for may be longer than it lives
        self.cluster.watch.throttle.lasts() && !self.cluster.watch.is_away()
    }

    fn own_files(&self) -> OwnFiles {
        embedded::open_files()
    }

    fn create_topic(&self, topic: &NewTopic) -> Result<()> {
        self.account.names(admin::create(&self.cluster, topic))
    }

    fn options(&self) -> &str {
        &self.cluster.settings.options
    }

    fn delete_topic(&self, name: &str) -> Result<()> {
        self.account.names(admin::delete(&self.cluster, name))
    }

    fn topics(&self) -> Result<Vec<Topic>> {
        self.account.names(self.cluster.all_topics().and_then(|topics| admin::describe(&self.cluster, topics)))
    }

    fn topic(&self, name: &str) -> Result<Topic> {
        self.account.names(self.cluster.topic(name).map_err(|error| error.for_use(Operation::Read)))
    }

    fn topic_now(&self, name: &str) -> Result<TopicNow> {
        self.account.names(failure::until_answered(&self.cluster.watch, || admin::now(&self.cluster, name)))
    }

    /// A broker with `auto.create.topics.enable` would, with partitions of its own choice, for a mistyped name too.
    fn makes_topics(&self) -> bool {
        false
    }

    fn topic_for_use(&self, name: &str) -> Result<Topic> {
        self.account.names(self.cluster.topic_for_use(name).map_err(|error| error.for_use(Operation::Write)))
    }

    fn offsets(&self, topic: &str, partition: i32) -> Result<Offsets> {
        let offsets = self.cluster.offsets(topic, partition);
        self.account.names(offsets.map_err(|error| error.for_use(Operation::Read)))
    }

    fn publisher(&self) -> Result<Box<dyn Publisher>> {
        let publisher = self.account.names(KafkaPublisher::open(&self.cluster))?;
        Ok(self.account.publisher(publisher))
    }

    fn reader(&self, topic: &str, starts: &[(i32, i64)]) -> Result<Box<dyn Reader>> {
        let reader = self.account.names(KafkaReader::open(&self.cluster, topic, starts))?;
        Ok(self.account.reader(reader))
    }

    fn subscribe(&self, options: &SubscribeOptions) -> Result<Session> {
        Ok(self.account.session(self.account.names(join(&self.cluster, options))?))
    }

    fn group(&self, group: &str, topics: &[&str]) -> Result<Group> {
        self.account.names(groups::look(&self.cluster, group, topics))
    }

    fn examine(&self, topics: &[&str], group: Option<&str>) -> Result<Examined> {
        self.account.names(examine::examine(&self.cluster, topics, group))
    }

    fn groups_of(&self, topic: &str) -> Result<Readers> {
        self.account.names(groups::of_topic(&self.cluster, topic))
    }

    fn read_group_state(
        &self,
        group: &str,
        since: StateMark,
        sink: &mut dyn FnMut(&str, Option<&[u8]>),
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<StateMark>> {
        let topic = state::topic_name(group);
        let read = state::read(&self.cluster, group, &topic, since, sink, stop);
        self.account.names(read.map_err(|error| state::denied(error.for_use(Operation::Read), group, &topic)))
    }

    fn change_group_state(&self, group: &str, changes: &[StateChange]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let topic = state::topic_name(group);
        self.account.names(state::change(&self.cluster, group, &topic, changes))
    }
}

/// Joins a group, and takes what commits as its member need.
fn join(cluster: &Arc<Cluster>, options: &SubscribeOptions) -> Result<Session> {
    for (what, value) in [("group", &options.group), ("instance", &options.instance)] {
        if value.is_empty() {
            return Err(Error::new(ErrorKind::Settings, format!("the name of the {what} is empty")));
        }
    }
    for topic in &options.topics {
        cluster.partitions(topic).map_err(|error| error.for_use(Operation::Read))?;
    }
    groups::check(cluster)?;
    let fence = Arc::new(Fence::default());
    let subscription = KafkaSubscription::open(cluster, options, &fence)?;
    // Takes the transactional id before the member joins.
    let consumer = subscription.consumer();
    let committer: Box<dyn Committer> = match options.delivery {
        DeliveryGuarantee::ExactlyOnce => Box::new(KafkaCommitter::open(cluster, options, consumer, &fence)?),
        DeliveryGuarantee::AtLeastOnce => Box::new(AtLeastOnceCommitter::new(cluster, options, consumer, &fence)),
    };
    subscription.join()?;
    Ok(Session { subscription: Box::new(subscription), committer })
}
