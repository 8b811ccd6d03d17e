//! Whether the topics of a member are still those that it began with.
//!
//! librdkafka goes on with a topic that was created again as if nothing had happened, at the offset where it was. So
//! the brokers are asked for the topic's id, on a thread of its own: every few seconds, and at once after an error of
//! the reading.
//!
//! ```text
//!   poll ──error──▶ ask ─┐
//!        every 5 s ──────┴─▶ kafka-topics: id of each topic ──another one, or deleted──▶ poll answers with an error
//! ```

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::debug;

use super::admin;
use super::cluster::Cluster;
use super::unknown::{LOOK_EVERY, Unknown};
use crate::contract::TopicIdentity;
use crate::error::{Error, ErrorKind, Result};

/// Time between two questions.
const EVERY: Duration = Duration::from_secs(5);
/// Time between two questions where errors ask for them.
const AFTER_ERRORS: Duration = Duration::from_millis(200);

#[derive(Default)]
struct State {
    asked: bool,
    over: bool,
    /// A topic that is no longer the one that it was.
    lost: Option<Lost>,
}

/// What became of a topic.
#[derive(Clone)]
enum Lost {
    Replaced(String),
    Deleted(String),
}

impl Lost {
    fn error(&self) -> Error {
        match self {
            Self::Replaced(name) => Error::topic_replaced(name),
            Self::Deleted(name) => Error::topic_deleted(name),
        }
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// See the module.
pub(super) struct Identity {
    names: Vec<String>,
    topics: TopicIdentity,
    shared: Arc<Shared>,
}

impl Identity {
    /// Asks once, and from then on now and then until this is dropped.
    pub(super) fn watch(cluster: &Arc<Cluster>, names: &[String], topics: &TopicIdentity) -> Result<Self> {
        let (names, topics, shared) = (names.to_vec(), topics.clone(), Arc::<Shared>::default());
        let watched = Self { names: names.clone(), topics: topics.clone(), shared: shared.clone() };
        if let Some(lost @ Lost::Replaced(_)) = look(cluster, &names, &topics) {
            return Err(lost.error());
        }
        let cluster = Arc::downgrade(cluster);
        thread::Builder::new()
            .name("kafka-topics".into())
            .spawn(move || shared.keep_asking(&cluster, &names, &topics))
            .map_err(|error| Error::with_source(ErrorKind::Fatal, "cannot start a thread", error))?;
        Ok(watched)
    }

    /// An error may mean that a topic is another one.
    pub(super) fn ask(&self) {
        self.shared.state.lock().asked = true;
        self.shared.changed.notify_all();
    }

    /// Fails once a topic was found to be another one or deleted.
    pub(super) fn check(&self) -> Result<()> {
        self.shared.state.lock().lost.as_ref().map_or(Ok(()), |lost| Err(lost.error()))
    }

    /// The error, or that a topic is another one, which explains it.
    pub(super) fn explain(&self, cluster: &Cluster, error: Error) -> Error {
        match look(cluster, &self.names, &self.topics) {
            Some(lost @ Lost::Replaced(_)) => lost.error(),
            _ => error,
        }
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.shared.state.lock().over = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn keep_asking(&self, cluster: &Weak<Cluster>, names: &[String], topics: &TopicIdentity) {
        let mut unknown = Unknown::default();
        loop {
            let until = Instant::now() + if unknown.is_waiting() { LOOK_EVERY } else { EVERY };
            let mut state = self.state.lock();
            while !state.asked && !state.over && !self.changed.wait_until(&mut state, until).timed_out() {}
            if state.over {
                return;
            }
            state.asked = false;
            drop(state);
            let Some(cluster) = cluster.upgrade() else { return };
            let lost = look(&cluster, names, topics);
            let found = match &lost {
                Some(Lost::Deleted(topic)) => Some(topic.as_str()),
                _ => None,
            };
            if unknown.is_deleted(found, Instant::now()) || matches!(lost, Some(Lost::Replaced(_))) {
                self.state.lock().lost = lost;
            }
            drop(cluster);
            thread::sleep(AFTER_ERRORS);
        }
    }
}

/// A topic that is another one, or else one that is not known. One that cannot be asked about is taken for the same.
fn look(cluster: &Cluster, names: &[String], topics: &TopicIdentity) -> Option<Lost> {
    let mut unknown = None;
    for name in names {
        match admin::now(cluster, name) {
            Ok(now) if topics.check(name, now.id.as_deref()).is_err() => return Some(Lost::Replaced(name.clone())),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::UnknownTopic => unknown = Some(Lost::Deleted(name.clone())),
            Err(error) => debug!(topic = %name, %error, "the id of the topic is not known at the moment"),
        }
    }
    unknown
}
