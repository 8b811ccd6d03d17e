//! Topics: made, and described with the settings that matter.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::admin::{
    AdminOptions, ConfigResource, ConfigResourceResult, NewTopic as KafkaTopic, OwnedResourceSpecifier,
    ResourceSpecifier, TopicReplication,
};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use tracing::debug;

use super::cluster::{self, ANSWER, Cluster};
use super::failure;
use super::native::{self, Described};
use super::watch::Watch;
use crate::contract::{NewTopic, Topic, TopicNow, TopicSettings};
use crate::error::{Error, ErrorKind, Result};
use crate::examined::Operation;
use crate::permission::Permission;

/// Bytes that Kafka needs beside key, value and headers of a record that travels alone in its batch:
/// 61 for the batch, the rest for lengths and time.
const FRAME: usize = 96;

/// Topics that one question is about: a broker with thousands of them needs seconds for all.
const AT_A_TIME: usize = 500;

/// How long a topic that was created may be unknown to the brokers, or one that was deleted known: one that is busy hears late.
const SHOWN: Duration = Duration::from_secs(60);

/// How often a question looks whether anybody waits for it.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The context of the administrating client: the asking client tells about the connection.
pub(super) struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn stats_raw(&self, _: &[u8]) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

/// Creates a topic and waits until the cluster shows it.
pub(super) fn create(cluster: &Cluster, topic: &NewTopic) -> Result<()> {
    let name = &topic.name;
    cluster::legal_name(name)?;
    if topic.partitions < 1 {
        let text = format!("topic `{name}` needs at least 1 partition, not {}", topic.partitions);
        return Err(Error::new(ErrorKind::Settings, text));
    }
    let mut request = KafkaTopic::new(name, topic.partitions, TopicReplication::Fixed(topic.replication));
    for (key, value) in &topic.settings {
        request = request.set(key, value);
    }
    let what = || format!("cannot create topic `{name}`");
    let needed = || Permission::on_topic(Operation::Create, name);
    let admin = cluster.admin()?;
    let answers = wait(&cluster.watch, admin.create_topics([&request], &options(ANSWER)))
        .map_err(|error| cluster.failed(error, what(), needed()))?;
    match answers.into_iter().next() {
        Some(Ok(_)) => {}
        Some(Err((_, Code::TopicAlreadyExists))) => {
            return Err(Error::new(ErrorKind::Exists, format!("there is a topic `{name}` already")));
        }
        // Which one, the broker says in words that rdkafka does not hand out.
        Some(Err((_, Code::InvalidConfig))) if !topic.settings.is_empty() => {
            let named: Vec<String> = topic.settings.iter().map(|(key, value)| format!("`{key}={value}`")).collect();
            let text = format!(
                "{}: the broker does not know such a setting of topics, or does not take its value: {}",
                what(),
                named.join(", ")
            );
            return Err(Error::new(ErrorKind::Settings, text));
        }
        Some(Err((_, code))) => return Err(failure::failed_code(code, what(), needed())),
        None => {
            return Err(Error::new(ErrorKind::Retry, format!("{}: the broker gave no answer", what())));
        }
    }
    cluster.forget(name);
    // The controller has decided; the brokers hear of it a moment later.
    let started = Instant::now();
    loop {
        match cluster.all_answer(name, topic.partitions) {
            Ok(()) => return Ok(()),
            // who may make a topic need not be allowed to look at it
            Err(error) if error.is_denied() => return Ok(()),
            Err(error) if error.kind() == ErrorKind::UnknownTopic => {
                if started.elapsed() > SHOWN {
                    let text = format!("topic `{name}` is created, but the brokers do not show it yet");
                    return Err(Error::new(ErrorKind::Retry, text));
                }
            }
            Err(error) if started.elapsed() > ANSWER => return Err(error),
            Err(error) => debug!(topic = %name, %error, "waiting for the topic"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Deletes a topic and waits until the cluster shows it no longer.
pub(super) fn delete(cluster: &Cluster, name: &str) -> Result<()> {
    if name.starts_with("__") {
        let text = format!("topic `{name}` is the cluster's own: it is not deleted");
        return Err(Error::new(ErrorKind::Settings, text));
    }
    // Where it is not there, the error names those that were perhaps meant.
    cluster.topic(name).map_err(|error| error.for_use(Operation::Delete))?;
    let what = || format!("cannot delete topic `{name}`");
    let needed = || Permission::on_topic(Operation::Delete, name);
    let answers = wait(&cluster.watch, cluster.admin()?.delete_topics(&[name], &options(ANSWER)))
        .map_err(|error| cluster.failed(error, what(), needed()))?;
    match answers.into_iter().next() {
        // Another one deletes it at the same time.
        Some(Ok(_) | Err((_, Code::UnknownTopicOrPartition))) => {}
        // The first is what the broker answers to the version of the request that librdkafka sends.
        Some(Err((_, code @ (Code::InvalidRequest | Code::TopicDeletionDisabled)))) => {
            let text = format!("{}, see the broker's setting `delete.topic.enable`", what());
            return Err(Error::with_source(ErrorKind::Settings, text, code));
        }
        Some(Err((_, code))) => return Err(failure::failed_code(code, what(), needed())),
        None => return Err(Error::new(ErrorKind::Retry, format!("{}: the broker gave no answer", what()))),
    }
    cluster.forget(name);
    let started = Instant::now();
    while cluster.partitions(name).is_ok() {
        if started.elapsed() > SHOWN {
            let text = format!("topic `{name}` is being deleted, and the brokers show it still");
            return Err(Error::new(ErrorKind::Retry, text));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Adds their settings to topics; what the account may not see stays unknown.
pub(super) fn describe(cluster: &Cluster, topics: Vec<(String, i32)>) -> Result<Vec<Topic>> {
    let mut all = Vec::with_capacity(topics.len());
    for some in topics.chunks(AT_A_TIME) {
        let mut described = failure::until_answered(&cluster.watch, || describe_within(cluster, some))?;
        identify(cluster, &mut described)?;
        all.append(&mut described);
    }
    Ok(all)
}

fn describe_within(cluster: &Cluster, topics: &[(String, i32)]) -> Result<Vec<Topic>> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect();
    let settings = settings_within(cluster, &names, cluster.patience())?;
    Ok(topics.iter().map(|(name, partitions)| topic(name.clone(), *partitions, settings.get(name))).collect())
}

/// The settings of topics, of those that the account may see.
pub(super) fn settings_of(cluster: &Cluster, names: &[&str]) -> Result<HashMap<String, BTreeMap<String, String>>> {
    let settings = failure::until_answered(&cluster.watch, || settings_within(cluster, names, cluster.patience()))?;
    Ok(settings.into_iter().map(|(name, settings)| (name, values(settings))).collect())
}

fn values(settings: ConfigResource) -> BTreeMap<String, String> {
    settings.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

fn settings_within(cluster: &Cluster, names: &[&str], limit: Duration) -> Result<HashMap<String, ConfigResource>> {
    let admin = cluster.admin()?;
    let asked: Vec<_> = names.iter().map(|name| ResourceSpecifier::Topic(name)).collect();
    let answers = match wait(&cluster.watch, admin.describe_configs(&asked, &options(limit))) {
        Ok(answers) => answers,
        Err(KafkaError::AdminOp(code)) if failure::kind(code) == ErrorKind::Denied => Vec::new(),
        Err(error) => {
            return Err(cluster.failed(error, "cannot describe the topics", None));
        }
    };
    let mut settings = HashMap::new();
    for answer in answers.into_iter().filter_map(seen) {
        if let OwnedResourceSpecifier::Topic(name) = &answer.specifier {
            settings.insert(name.clone(), answer);
        }
    }
    Ok(settings)
}

/// An answer that holds settings. Where a broker refuses them to the account, rdkafka hands out an empty list instead of
/// the refusal; everything that is there has some.
fn seen(answer: ConfigResourceResult) -> Option<ConfigResource> {
    answer.ok().filter(|resource| !resource.entries.is_empty())
}

/// The settings of one of the brokers, where the account may see them.
pub(super) fn settings_of_broker(cluster: &Cluster, limit: Duration) -> Option<BTreeMap<String, String>> {
    let broker = cluster.any_broker().ok()?;
    let asked = [ResourceSpecifier::Broker(broker)];
    let answers = wait(&cluster.watch, cluster.admin().ok()?.describe_configs(&asked, &options(limit))).ok()?;
    answers.into_iter().next().and_then(seen).map(values)
}

/// The group protocols that the brokers offer, where the account may see it. Brokers from before 3.7 have no such setting.
pub(super) fn group_protocols(cluster: &Cluster) -> Option<String> {
    let mut settings = settings_of_broker(cluster, Duration::from_secs(2))?;
    let protocols = settings.remove("group.coordinator.rebalance.protocols");
    Some(protocols.unwrap_or_else(|| "classic".to_owned()))
}

/// Adds the ids of topics; what the account may not see stays unknown.
fn identify(cluster: &Cluster, topics: &mut [Topic]) -> Result<()> {
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let described = failure::until_answered(&cluster.watch, || describe_by_name(cluster, &names, false))?;
    let mut ids: HashMap<String, Option<String>> =
        described.into_iter().filter_map(|(name, described)| Some((name, described.ok()?.id))).collect();
    for topic in topics {
        topic.id = ids.remove(&topic.name).flatten();
    }
    Ok(())
}

fn describe_by_name(cluster: &Cluster, names: &[&str], with_operations: bool) -> Result<Vec<(String, Described)>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    match native::describe_topics(cluster.admin()?.inner(), names, with_operations, cluster.patience()) {
        Ok(described) => Ok(described),
        Err(code) if failure::kind(code) == ErrorKind::Denied => Ok(Vec::new()),
        Err(code) => {
            let needed = Permission::on_topics(Operation::Describe, names.iter().copied());
            Err(cluster.failed(KafkaError::AdminOp(code), "cannot look up topics", needed))
        }
    }
}

/// Fails where the broker says that the account may not write to a topic. It would say so of the first record, and who
/// has nothing to send yet would hear of it much later.
pub(super) fn check_write(cluster: &Cluster, name: &str) -> Result<()> {
    let described = match failure::until_answered(&cluster.watch, || describe_by_name(cluster, &[name], true)) {
        Err(error) if error.kind() == ErrorKind::Retry => return Err(error),
        // an old broker may not know the question
        described => described.unwrap_or_default(),
    };
    let operations = described.into_iter().find_map(|(_, topic)| topic.ok()?.operations);
    if operations.is_none_or(|operations| operations.contains(&Operation::Write)) {
        return Ok(());
    }
    let needed = Permission::on_topic(Operation::Write, name);
    Err(Error::denied(ErrorKind::Denied, format!("cannot send records to topic `{name}`"), needed))
}

/// Id and partitions of a topic at this moment.
pub(super) fn now(cluster: &Cluster, name: &str) -> Result<TopicNow> {
    cluster::legal_name(name)?;
    let described = describe_by_name(cluster, &[name], false)?.pop();
    match described {
        Some((_, Ok(topic))) if topic.partitions > 0 => {
            Ok(TopicNow { id: topic.id, partitions: topic.partitions as i32 })
        }
        None | Some((_, Ok(_) | Err(Code::UnknownTopic | Code::UnknownTopicOrPartition))) => {
            Err(cluster.unknown_topic(name, &[], false))
        }
        Some((_, Err(code))) => Err(cluster.unanswered(KafkaError::AdminOp(code), name)),
    }
}

fn topic(name: String, partitions: i32, settings: Option<&ConfigResource>) -> Topic {
    Topic { name, id: None, partitions, settings: settings.map(topic_settings) }
}

fn topic_settings(settings: &ConfigResource) -> TopicSettings {
    let get = |key| settings.get(key).and_then(|entry| entry.value.clone());
    let largest: Option<usize> = get("max.message.bytes").and_then(|value| value.parse().ok());
    let retention: Option<i64> = get("retention.ms").and_then(|value| value.parse().ok());
    let cleanup = get("cleanup.policy").unwrap_or_default();
    let has = |policy| cleanup.split(',').any(|part| part.trim() == policy);
    TopicSettings {
        largest_record: largest.map(|bytes| bytes.saturating_sub(FRAME)),
        // Without the policy `delete`, nothing goes for its age.
        retention_ms: retention.filter(|ms| *ms >= 0 && (cleanup.is_empty() || has("delete"))),
        compacted: has("compact"),
    }
}

/// What a topic takes, where the account may see it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// Bytes of a batch of records.
    pub(super) batch: Option<usize>,
    /// How old a record may be, milliseconds.
    pub(super) age_ms: Option<i64>,
}

/// How long the end of a transaction may take to reach the topics in it.
const ENDING_MS: i64 = 60_000;

impl Limits {
    /// Fails where the topic would refuse the mark that a broker writes at the end of a transaction: that transaction
    /// never ends, and no other one of the same id begins.
    pub(super) fn end_of_transaction(&self, topic: &str) -> Result<()> {
        let Some(age_ms) = self.age_ms.filter(|age_ms| *age_ms < ENDING_MS) else { return Ok(()) };
        let text = format!(
            "topic `{topic}` refuses records for their time when they are more than {age_ms} ms old, and with them the \
            marks that end a transaction: set its `message.timestamp.before.max.ms` to {ENDING_MS} or more"
        );
        Err(Error::new(ErrorKind::RecordRefused, text))
    }
}

/// The limits of a topic.
pub(super) fn limits(cluster: &Cluster, name: &str) -> Limits {
    // Worth knowing, but not worth waiting for.
    match settings_within(cluster, &[name], cluster.watch.at_most(Duration::from_secs(2))) {
        Ok(settings) => {
            let get = |key| settings.get(name)?.get(key)?.value.as_deref();
            let of_sender = get("message.timestamp.type") != Some("LogAppendTime");
            Limits {
                batch: get("max.message.bytes").and_then(|bytes| bytes.parse().ok()),
                age_ms: get("message.timestamp.before.max.ms").and_then(|ms| ms.parse().ok()).filter(|_| of_sender),
            }
        }
        Err(error) => {
            debug!(topic = name, %error, "the topic's limits stay unknown");
            Limits::default()
        }
    }
}

fn options(limit: Duration) -> AdminOptions {
    AdminOptions::new().request_timeout(Some(limit)).operation_timeout(Some(limit))
}

/// Runs a question on this thread; the administrating client's own thread wakes it. One that nobody waits for any more
/// ends by itself.
fn wait<T>(watch: &Watch, question: impl Future<Output = KafkaResult<T>>) -> KafkaResult<T> {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut question = pin!(question);
    loop {
        match question.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending if watch.is_given_up() => return Err(KafkaError::AdminOp(Code::OperationTimedOut)),
            Poll::Pending => thread::park_timeout(LOOK_EVERY),
        }
    }
}
