//! Whether the topics of a member are still those that it began with.
//!
//! librdkafka goes on with a topic that was created again as if nothing had happened, at the offset where it was. So
//! the brokers are asked for the topic's id, on a thread of its own: every few seconds, and at once after an error of
//! the reading.
//!
//! ```text
//!   poll ──error──▶ ask ─┐
//!        every 5 s ──────┴─▶ kafka-topics: id of each topic ──another one──▶ poll answers with an error
//! ```

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::debug;

use super::admin;
use super::cluster::{ANSWER, Cluster};
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
    /// A topic that is another one by now.
    replaced: Option<String>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// See the module.
pub(super) struct Identity {
    topics: TopicIdentity,
    shared: Arc<Shared>,
}

impl Identity {
    /// Asks once, and from then on now and then until this is dropped.
    pub(super) fn watch(cluster: &Arc<Cluster>, topics: &TopicIdentity) -> Result<Self> {
        let (topics, shared) = (topics.clone(), Arc::<Shared>::default());
        let watched = Self { topics: topics.clone(), shared: shared.clone() };
        if !topics.ids.is_empty() {
            if let Some(name) = replaced(cluster, &topics) {
                return Err(Error::topic_replaced(name));
            }
            let cluster = Arc::downgrade(cluster);
            thread::Builder::new()
                .name("kafka-topics".into())
                .spawn(move || shared.keep_asking(&cluster, &topics))
                .map_err(|error| Error::with_source(ErrorKind::Fatal, "cannot start a thread", error))?;
        }
        Ok(watched)
    }

    /// An error may mean that a topic is another one.
    pub(super) fn ask(&self) {
        self.shared.state.lock().asked = true;
        self.shared.changed.notify_all();
    }

    /// Fails once a topic was found to be another one.
    pub(super) fn check(&self) -> Result<()> {
        match &self.shared.state.lock().replaced {
            Some(topic) => Err(Error::topic_replaced(topic)),
            None => Ok(()),
        }
    }

    /// The error, or that a topic is another one, which explains it.
    pub(super) fn explain(&self, cluster: &Cluster, error: Error) -> Error {
        replaced(cluster, &self.topics).map_or(error, Error::topic_replaced)
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.shared.state.lock().over = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn keep_asking(&self, cluster: &Weak<Cluster>, topics: &TopicIdentity) {
        loop {
            let until = Instant::now() + EVERY;
            let mut state = self.state.lock();
            while !state.asked && !state.over && !self.changed.wait_until(&mut state, until).timed_out() {}
            if state.over {
                return;
            }
            state.asked = false;
            drop(state);
            let Some(cluster) = cluster.upgrade() else { return };
            if let Some(name) = replaced(&cluster, topics) {
                self.state.lock().replaced = Some(name.to_owned());
            }
            drop(cluster);
            thread::sleep(AFTER_ERRORS);
        }
    }
}

/// A topic that is another one. One that cannot be asked about is taken for the same.
fn replaced<'a>(cluster: &Cluster, topics: &'a TopicIdentity) -> Option<&'a str> {
    let is_another = |name: &&String| match admin::now(cluster, name, ANSWER) {
        Ok(now) => topics.check(name, now.id.as_deref()).is_err(),
        Err(error) => {
            debug!(topic = %name, %error, "the id of the topic is not known at the moment");
            false
        }
    };
    topics.ids.keys().find(is_another).map(String::as_str)
}
