//! Whether a topic that a broker does not know was deleted. A broker that has just started, or that hears late of what
//! happens in the cluster, may not know a topic that is there; so one answer says nothing.

use std::thread;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use crate::error::ErrorKind;

/// How long a topic is unknown, at each look, before it counts as deleted. A broker that does not hear of the cluster for
/// longer than `broker.session.timeout.ms` (9 s) is taken out of it; and a transaction that waits for the topic takes no
/// longer than 15 s.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// Time between two looks, where nothing else has to be done.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the last looks found.
#[derive(Debug, Default)]
pub(super) struct Unknown {
    /// A topic that was unknown at all of them, and when that was seen first.
    since: Option<(String, Instant)>,
}

impl Unknown {
    /// Takes what a look found: a topic that is unknown, or none. Answers whether that topic counts as deleted.
    pub(super) fn is_deleted(&mut self, found: Option<&str>, now: Instant) -> bool {
        self.since = found.map(|topic| match self.since.take() {
            Some((before, since)) if before == topic => (before, since),
            _ => (topic.to_owned(), now),
        });
        self.since.as_ref().is_some_and(|(_, since)| now.duration_since(*since) >= UNKNOWN_FOR)
    }

    /// Whether the last look found a topic that is unknown.
    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }
}

impl Cluster {
    /// Whether the topic was deleted: looks until it is known, or cannot be asked about, or counts as deleted.
    pub(super) fn is_deleted(&self, topic: &str) -> bool {
        let mut unknown = Unknown::default();
        loop {
            let found = Some(topic).filter(|topic| self.is_unknown(topic));
            if unknown.is_deleted(found, Instant::now()) || !unknown.is_waiting() {
                return unknown.is_waiting();
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether the broker that answers does not know the topic.
    pub(super) fn is_unknown(&self, topic: &str) -> bool {
        self.partitions(topic).is_err_and(|error| error.kind() == ErrorKind::UnknownTopic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_counts_as_deleted_once_it_was_unknown_at_all_looks_of_some_time() {
        let start = Instant::now();
        let mut unknown = Unknown::default();
        let mut look = |seconds, found| unknown.is_deleted(found, start + Duration::from_secs(seconds));
        assert!(!look(0, Some("a")) && !look(9, Some("a")), "a broker that starts");
        assert!(!look(10, None) && !look(11, Some("a")) && !look(20, Some("a")), "it was there in between");
        assert!(!look(21, Some("b")) && !look(30, Some("b")), "another one");
        assert!(look(31, Some("b")));
    }
}
