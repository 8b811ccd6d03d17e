//! Whether a topic that is read is still the one that it was.
//!
//! A broker does not say by itself that a topic was deleted, or created again, for half a minute or ever, and librdkafka
//! goes on in the new one at the offset where it was. So it is asked, on a thread of its own: an answer may take long
//! where the log is away. What is read within a few seconds has no such thread.
//!
//! ```text
//!   check ◀── what became of the topic ── thread: every 3 s, id of the topic?
//! ```

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use datamill_broker::{Error, ErrorKind, Log, Result, Topic};
use parking_lot::{Condvar, Mutex};

/// Time between two questions.
const EVERY: Duration = Duration::from_secs(3);
/// How long a topic may be unknown before it counts as deleted: a broker that has just started may not have heard of it.
/// Meanwhile it is asked for this often.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
const WHILE_UNKNOWN: Duration = Duration::from_secs(1);

/// See the module.
pub(crate) struct Watch {
    log: Arc<dyn Log>,
    of: Arc<Watched>,
    opened: Instant,
    is_asking: bool,
}

struct Watched {
    topic: String,
    /// `None` where the log does not tell it.
    id: Option<String>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_over: bool,
    became: Option<ErrorKind>,
}

impl Watch {
    pub(crate) fn new(log: &Arc<dyn Log>, topic: &Topic) -> Self {
        let of = Watched {
            topic: topic.name.clone(),
            id: topic.id.clone(),
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        Self { log: Arc::clone(log), of: Arc::new(of), opened: Instant::now(), is_asking: false }
    }

    /// Fails once the topic is no longer the one that it was.
    pub(crate) fn check(&mut self) -> Result<()> {
        if !self.is_asking && self.opened.elapsed() >= EVERY {
            let (of, log) = (Arc::clone(&self.of), Arc::downgrade(&self.log));
            let asking = thread::Builder::new().name("datamill-watch".into()).spawn(move || of.keep_asking(&log));
            // where there is no thread, a later call tries again
            self.is_asking = asking.is_ok();
        }
        let became = self.of.state.lock().became;
        became.map_or(Ok(()), |kind| Err(self.of.error(kind)))
    }

    /// The error, or that the topic is another one, which explains it: no topic loses a partition.
    pub(super) fn explain(&self, error: Error) -> Error {
        let is_another = error.kind() == ErrorKind::UnknownTopic
            || self.of.look(self.log.as_ref()) == Some(ErrorKind::TopicReplaced);
        if is_another { self.of.error(ErrorKind::TopicReplaced) } else { error }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.of.state.lock().is_over = true;
        self.of.changed.notify_all();
    }
}

impl Watched {
    fn keep_asking(&self, log: &Weak<dyn Log>) {
        let mut unknown_since: Option<Instant> = None;
        while let Some(log) = log.upgrade() {
            match self.look(log.as_ref()) {
                Some(ErrorKind::TopicDeleted) => {
                    if unknown_since.get_or_insert_with(Instant::now).elapsed() >= UNKNOWN_FOR {
                        self.state.lock().became = Some(ErrorKind::TopicDeleted);
                        return;
                    }
                }
                None => unknown_since = None,
                became => {
                    self.state.lock().became = became;
                    return;
                }
            }
            // it closes without this thread
            drop(log);
            let until = Instant::now() + if unknown_since.is_some() { WHILE_UNKNOWN } else { EVERY };
            let mut state = self.state.lock();
            while !state.is_over && !self.changed.wait_until(&mut state, until).timed_out() {}
            if state.is_over {
                return;
            }
        }
    }

    /// What became of the topic. One that cannot be asked about is taken for the same.
    fn look(&self, log: &dyn Log) -> Option<ErrorKind> {
        match log.topic_now(&self.topic) {
            Ok(now) => {
                let is_another = now.id.is_some() && self.id.is_some() && now.id != self.id;
                is_another.then_some(ErrorKind::TopicReplaced)
            }
            Err(error) if error.kind() == ErrorKind::UnknownTopic => Some(ErrorKind::TopicDeleted),
            Err(error) => {
                tracing::debug!(topic = self.topic, %error, "the id of the topic is not known at the moment");
                None
            }
        }
    }

    fn error(&self, became: ErrorKind) -> Error {
        if became == ErrorKind::TopicDeleted {
            return Error::topic_deleted(&self.topic);
        }
        let text = format!(
            "topic `{}` was deleted and created again while it was read: read it anew, from its beginning",
            self.topic
        );
        Error::new(became, text)
    }
}
