//! One Kafka cluster as all parts of a log share it: its settings, a client that asks, what is known of
//! its topics, and a thread that tells an outage.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::{Metadata, MetadataTopic};

use super::admin::{self, Limits, Silent};
use super::config::Settings;
use super::context::Notes;
use super::failure::{self, Reason};
use super::listener;
use super::watch::{Watch, is_about_encryption};
use crate::contract::{Offsets, Topic};
use crate::error::{Error, ErrorKind, Result};
use crate::examined::Operation;
use crate::near::nearest;
use crate::permission::Permission;

/// How long a question to the cluster may take, with all that it is asked again.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// How long one call waits for its answer: librdkafka's calls cannot be broken off, and a stop that is asked for meanwhile
/// waits for them.
const CALL: Duration = Duration::from_secs(6);

/// The same while it is known that nobody answers.
const CALL_WHILE_AWAY: Duration = Duration::from_secs(1);

/// How long to go on trying when every server refuses the connection.
const REFUSED: Duration = Duration::from_secs(5);

/// How often a broker is asked what is wrong with the encryption while it is away.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// How long a connection may say nothing until it is looked at.
const SILENCE: Duration = Duration::from_secs(2);

/// What has to be known of a topic before a record is sent to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    /// Number of partitions.
    pub(super) partitions: i32,
    pub(super) limits: Limits,
}

/// See the module.
pub(super) struct Cluster {
    pub(super) settings: Settings,
    pub(super) watch: Arc<Watch>,
    pub(super) id: String,
    /// Asks; sees a partition up to its last stable offset.
    look: BaseConsumer<Notes>,
    /// Sees a partition up to its end. Made on first use.
    ahead: Mutex<Option<Arc<BaseConsumer<Notes>>>>,
    admin: Mutex<Option<Arc<AdminClient<Silent>>>>,
    targets: Mutex<HashMap<String, Target>>,
}

impl Cluster {
    /// Connects, and fails when no server answers in time.
    pub(super) fn connect(settings: Settings) -> Result<Arc<Self>> {
        let watch = Arc::new(Watch::new(settings.login_grace));
        let look: BaseConsumer<Notes> = settings
            .look(true)
            .create_with_context(Notes::new(&watch))
            .map_err(|error| client_refused(error, "a client"))?;
        let id = wait_for_answer(&look, &watch, &settings)?;
        let cluster = Arc::new(Self {
            settings,
            watch,
            id,
            look,
            ahead: Mutex::new(None),
            admin: Mutex::new(None),
            targets: Mutex::new(HashMap::new()),
        });
        let weak = Arc::downgrade(&cluster);
        thread::Builder::new()
            .name("kafka-watch".into())
            .spawn(move || keep_watch(&weak))
            .map_err(|error| Error::with_source(ErrorKind::Fatal, "cannot start a thread", error))?;
        Ok(cluster)
    }

    pub(super) fn servers(&self) -> &str {
        self.settings.servers()
    }

    /// The error where the account's login was refused for too long.
    pub(super) fn check_login(&self) -> Result<()> {
        self.watch.check_login(self.servers())
    }

    /// The client that creates and describes topics.
    pub(super) fn admin(&self) -> Result<Arc<AdminClient<Silent>>> {
        let mut admin = self.admin.lock();
        if let Some(admin) = &*admin {
            return Ok(admin.clone());
        }
        let made: AdminClient<Silent> =
            self.settings.admin().create_with_context(Silent).map_err(|error| client_refused(error, "a client"))?;
        Ok(admin.insert(Arc::new(made)).clone())
    }

    /// Number of partitions of a topic. Never creates it.
    pub(super) fn partitions(&self, name: &str) -> Result<i32> {
        let look = || {
            let metadata = self.ask(name)?;
            self.partitions_of(metadata.topics().iter().find(|topic| topic.name() == name), name)
        };
        // whoever asks a log that is away asks again
        if self.watch.is_away() { look() } else { failure::until_answered(&self.watch, look) }
    }

    fn ask(&self, name: &str) -> Result<Metadata> {
        legal_name(name)?;
        let limit = if self.watch.is_away() { CALL_WHILE_AWAY } else { CALL };
        let asked = self.look.fetch_metadata(Some(name), self.watch.at_most(limit));
        asked.map_err(|error| self.unanswered(error, name))
    }

    /// How long one call may wait.
    pub(super) fn patience(&self) -> Duration {
        patience(&self.watch)
    }

    pub(super) fn unanswered(&self, error: KafkaError, topic: &str) -> Error {
        self.failed(error, format!("cannot look up topic `{topic}`"), Permission::on_topic(Operation::Describe, topic))
    }

    /// As [`Cluster::partitions`] for someone who writes, from memory if this was asked before, with the largest batch.
    pub(super) fn target(&self, name: &str) -> Result<Target> {
        if let Some(target) = self.targets.lock().get(name) {
            return Ok(*target);
        }
        let partitions = self.partitions(name).map_err(|error| match error.kind() {
            ErrorKind::UnknownTopic => self.unknown_topic(name, &[], true),
            _ => error,
        })?;
        let target = Target { partitions, limits: admin::limits(self, name) };
        self.targets.lock().insert(name.to_owned(), target);
        Ok(target)
    }

    /// The target for a record, with its partition checked against the topic.
    pub(super) fn target_partition(&self, name: &str, partition: Option<i32>) -> Result<Target> {
        let target = self.target(name)?;
        let Some(partition) = partition else {
            return Ok(target);
        };
        if (0..target.partitions).contains(&partition) {
            return Ok(target);
        }
        // The topic may have grown since.
        self.forget(name);
        let target = self.target(name)?;
        if (0..target.partitions).contains(&partition) {
            return Ok(target);
        }
        Err(failure::unknown_partition(name, partition, target.partitions))
    }

    /// Asks again next time: the topic is not what it was.
    pub(super) fn forget(&self, name: &str) {
        self.targets.lock().remove(name);
    }

    /// The number of one of the brokers.
    pub(super) fn any_broker(&self) -> Result<i32> {
        let metadata = self.look.fetch_metadata(None, self.patience());
        let metadata = metadata.map_err(|error| self.failed(error, "cannot look up the brokers", None))?;
        let broker = metadata.brokers().first();
        broker.map(|broker| broker.id()).ok_or_else(|| Error::new(ErrorKind::Retry, "no broker is known"))
    }

    /// Names and partitions of all topics that are neither the cluster's own nor the state of a group.
    pub(super) fn all_topics(&self) -> Result<Vec<(String, i32)>> {
        let is_users = |name: &str| !name.starts_with("__") && !super::state::is_state(name);
        let metadata = failure::until_answered(&self.watch, || {
            self.look
                .fetch_metadata(None, self.patience())
                .map_err(|error| self.failed(error, "cannot list the topics", None))
        })?;
        let all = metadata.topics().iter().filter(|topic| topic.error().is_none() && is_users(topic.name()));
        let mut topics: Vec<_> = all.map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32)).collect();
        topics.sort();
        Ok(topics)
    }

    /// One topic with its settings. Where it is not there, the error names those that were perhaps meant.
    pub(super) fn topic(&self, name: &str) -> Result<Topic> {
        self.find(name, false)
    }

    /// The same for someone who writes to it.
    pub(super) fn topic_for_use(&self, name: &str) -> Result<Topic> {
        self.find(name, true)
    }

    fn find(&self, name: &str, writes: bool) -> Result<Topic> {
        let partitions = self.partitions(name).map_err(|error| match error.kind() {
            ErrorKind::UnknownTopic => self.unknown_topic(name, &self.all_topics().unwrap_or_default(), writes),
            _ => error,
        })?;
        if writes {
            admin::check_write(self, name)?;
        }
        let described = admin::describe(self, vec![(name.to_owned(), partitions)])?.pop();
        described.ok_or_else(|| self.unknown_topic(name, &[], writes))
    }

    pub(super) fn unknown_topic(&self, name: &str, there: &[(String, i32)], writes: bool) -> Error {
        let near = nearest(name, there.iter().map(|(name, _)| name.as_str()), 3);
        let log = format!("on broker `{}`", self.servers());
        Error::unknown_topic(name, &log, &near, &self.settings.options, writes)
    }

    /// Number of partitions in an answer about one topic.
    fn partitions_of(&self, topic: Option<&MetadataTopic>, name: &str) -> Result<i32> {
        let Some(topic) = topic else {
            return Err(self.unknown_topic(name, &[], false));
        };
        match topic.error().map(Code::from) {
            None if topic.partitions().is_empty() => Err(self.unknown_topic(name, &[], false)),
            None => Ok(topic.partitions().len() as i32),
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => Err(self.unknown_topic(name, &[], false)),
            Some(code) => Err(failure::failed_code(
                code,
                format!("cannot look up topic `{name}`"),
                Permission::on_topic(Operation::Describe, name),
            )),
        }
    }

    /// The ends of a partition that a reader may go to.
    pub(super) fn first_and_stable(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        self.watermarks(&self.look, topic, partition)
    }

    /// Whether every partition of a topic has a leader that answers.
    pub(super) fn all_answer(&self, topic: &str, partitions: i32) -> Result<()> {
        let metadata = self.ask(topic)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let known = self.partitions_of(found, topic)?;
        let led = found.is_some_and(|found| found.partitions().iter().all(|partition| partition.leader() >= 0));
        if known < partitions || !led {
            return Err(Error::new(ErrorKind::Retry, format!("topic `{topic}` is not ready on all brokers")));
        }
        Ok(())
    }

    /// All ends of a partition.
    pub(super) fn offsets(&self, topic: &str, partition: i32) -> Result<Offsets> {
        let partitions = self.partitions(topic)?;
        if !(0..partitions).contains(&partition) {
            return Err(failure::unknown_partition(topic, partition, partitions));
        }
        let ahead = self.ahead(topic)?;
        let (first, last_stable) = self.first_and_stable(topic, partition)?;
        let (_, end) = self.watermarks(&ahead, topic, partition)?;
        Ok(Offsets { first, last_stable, end: end.max(last_stable) })
    }

    fn ahead(&self, topic: &str) -> Result<Arc<BaseConsumer<Notes>>> {
        let mut ahead = self.ahead.lock();
        if let Some(ahead) = &*ahead {
            return Ok(ahead.clone());
        }
        let made: BaseConsumer<Notes> = self
            .settings
            .look(false)
            .create_with_context(Notes::new(&self.watch))
            .map_err(|error| client_refused(error, "a client"))?;
        self.acquaint(made.client(), topic)?;
        Ok(ahead.insert(Arc::new(made)).clone())
    }

    /// Lets a new client know the brokers of a topic by their numbers: what it asks them first is answered
    /// at once, instead of after librdkafka's wait of half a second. The first answer may come over the
    /// connection that has no number yet.
    pub(super) fn acquaint<C: ClientContext>(&self, client: &Client<C>, topic: &str) -> Result<()> {
        for _ in 0..2 {
            failure::until_answered(&self.watch, || {
                client.fetch_metadata(Some(topic), self.patience()).map_err(|error| self.unanswered(error, topic))
            })?;
        }
        Ok(())
    }

    fn watermarks(&self, client: &BaseConsumer<Notes>, topic: &str, partition: i32) -> Result<(i64, i64)> {
        failure::until_known(&self.watch, || {
            client.fetch_watermarks(topic, partition, self.patience()).map_err(|error| {
                let what = format!("cannot look up the ends of partition {partition} of topic `{topic}`");
                self.failed(error, what, Permission::on_topic(Operation::Describe, topic))
            })
        })
    }

    /// The error where a broker is not waited for any more, since the program is to stop.
    pub(super) fn given_up(&self) -> Error {
        Error::new(ErrorKind::Retry, format!("broker `{}` does not answer, and the program is to stop", self.servers()))
    }

    /// Asks the broker what is wrong with the encryption, until it is known and then from time to time: a certificate may
    /// be replaced while programs run, and of what is wrong with it librdkafka says nothing.
    fn look_into(&self, known: &mut Option<Instant>) {
        let Some((code, reason)) = self.watch.trouble() else { return };
        if is_about_encryption(code, &reason.0) && known.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            let cause = self.cause(&reason.0);
            *known = cause.is_some().then(Instant::now);
            self.watch.explain(cause);
        }
    }

    /// What is wrong with a connection that failed with these words, where asking the broker tells it.
    pub(super) fn cause(&self, reason: &str) -> Option<listener::Cause> {
        listener::cause(reason, self.servers(), self.settings.asking(), self.settings.has_new_authorities())
    }

    /// The client that asks.
    pub(super) fn look(&self) -> &BaseConsumer<Notes> {
        &self.look
    }

    /// An error of a question, with the state of the connection as its cause where that is what failed.
    pub(super) fn failed(
        &self,
        error: KafkaError,
        what: impl Into<String>,
        needed: impl Into<Option<Permission>>,
    ) -> Error {
        if let Err(error) = self.check_login() {
            return error;
        }
        let code = failure::code(&error);
        let silent = matches!(
            code,
            Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut | Code::RequestTimedOut)
        );
        if !silent {
            return failure::failed(error, what, needed);
        }
        self.watch.suspects();
        // It would wait for the broker that it has chosen, also where others answer.
        let chosen = self.admin.lock().take();
        drop(chosen);
        let text = format!("{}: broker `{}` does not answer", what.into(), self.servers());
        match (self.watch.trouble(), code) {
            (Some((_, reason)), _) => Error::with_source(ErrorKind::Retry, text, reason),
            (None, Some(code)) => Error::with_source(ErrorKind::Retry, text, code),
            (None, None) => Error::new(ErrorKind::Retry, text),
        }
    }
}

/// How long one call may wait that nothing can break off.
pub(super) fn patience(watch: &Watch) -> Duration {
    watch.at_most(CALL)
}

/// The error for a client that librdkafka does not make from these properties.
pub(super) fn client_refused(error: KafkaError, what: &str) -> Error {
    // Only the words of a refused creation: a configuration error would quote the value.
    let text = format!("cannot set up {what} with these properties");
    match error {
        KafkaError::ClientCreation(why) => Error::with_source(ErrorKind::Settings, text, Reason(why)),
        KafkaError::ClientConfig(_, _, key, _) => {
            Error::new(ErrorKind::Settings, format!("{text}: property `{key}` cannot have this value"))
        }
        other => failure::failed(other, text, None),
    }
}

/// Refuses a name that Kafka would refuse, before librdkafka waits for it.
pub(super) fn legal_name(name: &str) -> Result<()> {
    let legal = (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if legal {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Settings,
        format!("`{name}` cannot be the name of a topic: 1 to 249 of the characters a-z A-Z 0-9 . _ - are allowed"),
    ))
}

/// Waits for the first answer of the cluster and returns its id.
fn wait_for_answer(look: &BaseConsumer<Notes>, watch: &Watch, settings: &Settings) -> Result<String> {
    let servers = settings.servers();
    let started = Instant::now();
    let (mut asked_in_trouble, mut asked_in_silence) = (false, false);
    loop {
        if let Some(id) = look.client().fetch_cluster_id(Duration::from_millis(200)) {
            return Ok(id);
        }
        // Serves the errors of the connection.
        let _ = look.poll(Duration::from_millis(20));
        let trouble = watch.trouble();
        let over = started.elapsed() >= if watch.suspect() { REFUSED } else { ANSWER };
        // librdkafka would try again for ever: what does not fit is found by asking once. Of a connection that a broker
        // without encryption ends, because it asks for a login, it says nothing.
        let asks = match &trouble {
            Some((code, reason)) if matches!(code, Code::Authentication | Code::SSL) || is_closed(reason) => {
                !std::mem::replace(&mut asked_in_trouble, true) || over
            }
            None if started.elapsed() >= SILENCE => !std::mem::replace(&mut asked_in_silence, true),
            _ => false,
        };
        if asks {
            let reason = trouble.as_ref().map_or("", |(_, reason)| reason.0.as_str());
            if let Some(error) = listener::explain(reason, servers, settings.asking()) {
                return Err(error);
            }
        }
        let (kind, text, reason) = match trouble {
            Some((Code::Authentication, reason)) => {
                let text = "refuses the login, check `sasl.mechanism`, `sasl.username` and `sasl.password`";
                (ErrorKind::Denied, text, Some(reason))
            }
            Some((Code::SSL, reason)) => {
                let text = "makes no encrypted connection, check `security.protocol`, `ssl.ca.location`, that its \
                    certificate is for the name in `bootstrap.servers`, and the clock of this machine";
                (ErrorKind::Settings, text, Some(reason))
            }
            // All servers count as down and none refused to connect: they took the connection and ended it.
            trouble if over && trouble.as_ref().map_or(watch.suspect(), |(_, reason)| is_closed(reason)) => {
                let text = "closes the connection: is `security.protocol` right?";
                (ErrorKind::Retry, text, trouble.map(|(_, reason)| reason))
            }
            trouble if over => {
                let text =
                    "does not answer, check `bootstrap.servers` and `security.protocol`, and that the broker runs";
                (ErrorKind::Retry, text, trouble.map(|(_, reason)| reason))
            }
            _ => continue,
        };
        let text = format!("broker `{servers}` {text}");
        return Err(match reason {
            Some(reason) => Error::with_source(kind, text, reason),
            None => Error::new(kind, text),
        });
    }
}

/// Whether there was a connection that then failed, rather than none.
fn is_closed(reason: &Reason) -> bool {
    !["Connect to", "resolve", "timed out"].iter().any(|words| reason.0.contains(words))
}

/// Serves the asking client's events and finds out whether a suspected outage is one, until the log and
/// all that came from it are gone.
fn keep_watch(cluster: &Weak<Cluster>) {
    let mut known = None;
    while let Some(cluster) = cluster.upgrade() {
        let _ = cluster.look.poll(Duration::from_millis(500));
        if let Some(ahead) = &*cluster.ahead.lock() {
            let _ = ahead.poll(Duration::ZERO);
        }
        cluster.watch.throttle.tell(cluster.servers());
        if cluster.watch.is_doubtful() {
            let limit = if cluster.watch.stops() { cluster.watch.at_most(ANSWER) } else { Duration::from_secs(2) };
            match cluster.look.fetch_metadata(None, limit) {
                Ok(_) => cluster.watch.answered(cluster.servers()),
                Err(_) => {
                    cluster.look_into(&mut known);
                    cluster.watch.silent(cluster.servers());
                }
            }
        } else {
            cluster.tell_absent();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::open::Properties;

    #[test]
    fn a_server_that_ends_each_connection_is_not_called_one_that_does_not_answer() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap().to_string();
        thread::spawn(move || server.incoming().for_each(drop));
        let mut properties = Properties::default();
        properties.broker.insert("bootstrap.servers".to_owned(), address.clone());
        let error = Cluster::connect(Settings::new(&properties).unwrap()).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Retry);
        let text = error.to_string();
        assert!(
            text.contains(&address) && text.contains("closes the connection: is `security.protocol` right?"),
            "{text}"
        );
    }
}
