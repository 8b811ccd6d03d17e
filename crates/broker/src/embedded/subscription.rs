//! The reading half of a group's only member.
//!
//! ```text
//!   subscribe: lock of the group ─▶ epoch + 1 ─▶ all partitions of the topics are assigned under that epoch
//!   poll:      file changed? ─▶ epoch still ours? ─▶ partitions that appeared ─▶ records, ends
//!   close:     epoch + 1 ─▶ lock given up
//! ```
//! The lock keeps a second process away. The epoch is what the committer checks, in the transaction of
//! the commit: it holds even where someone took the lock file away.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::committer::EmbeddedCommitter;
use super::feed::{Cursor, Feed, Gap};
use super::file::LogFile;
use super::{groups, lock, topics};
use crate::contract::{Assigned, Committed, Event, FirstStart, Session, SubscribeOptions, Subscription, TopicIdentity};
use crate::error::{Error, ErrorKind, Result};
use crate::file_lock::FileLock;

/// What both halves of a member know.
pub(super) struct Membership {
    /// Number of the group.
    pub(super) group: i64,
    /// Number of all assignments of this member.
    pub(super) epoch: u64,
    /// The partitions that it owns, with their numbers in the file.
    pub(super) owned: Mutex<HashMap<(Arc<str>, i32), i64>>,
}

/// The reading half.
pub(super) struct EmbeddedSubscription {
    file: Arc<LogFile>,
    name: String,
    feed: Feed,
    membership: Arc<Membership>,
    topics: Vec<Arc<str>>,
    identity: TopicIdentity,
    /// To be handed out before anything else.
    pending: VecDeque<Vec<Assigned>>,
    held: bool,
    lost: bool,
    /// Given up when the subscription is dropped.
    _lock: FileLock,
}

/// Joins a group.
pub(super) fn subscribe(file: &Arc<LogFile>, options: &SubscribeOptions) -> Result<Session> {
    let name = &options.group;
    if name.is_empty() || options.topics.is_empty() {
        let text = format!("group `{name}` cannot be joined: a group needs a name and at least one topic");
        return Err(Error::new(ErrorKind::Settings, text));
    }
    for topic in &options.topics {
        topics::check_name(topic)?;
    }
    let mut connection = file.connect()?;
    let group = groups::number_for_use(file, &mut connection, name)?;
    let Some(lock) = lock::take(file, group)? else {
        let owner = groups::owner(file, &connection, group)?;
        let text = format!(
            "group `{name}` of log `{}` belongs to a process that runs (instance `{}`, process {}): the embedded log \
             allows one process for each group; stop that one, or use Apache Kafka to share the work of a group",
            file.name, owner.instance, owner.process
        );
        return Err(Error::new(ErrorKind::InUse, text));
    };
    let epoch = groups::own(file, &mut connection, group, &options.instance)?;
    let membership = Arc::new(Membership { group, epoch, owned: Mutex::default() });
    let committer = EmbeddedCommitter::new(file.clone(), file.connect()?, membership.clone());
    let mut topics: Vec<Arc<str>> = options.topics.iter().map(|topic| topic.as_str().into()).collect();
    topics.sort_unstable();
    topics.dedup();
    let mut subscription = EmbeddedSubscription {
        file: file.clone(),
        name: name.clone(),
        feed: Feed::new(file.clone(), connection, Gap::Refuse, options.queue_bytes),
        membership,
        topics,
        identity: options.identity.clone(),
        pending: VecDeque::new(),
        held: false,
        lost: false,
        _lock: lock,
    };
    let assigned = subscription.find_partitions(options.first_start)?;
    subscription.pending.push_back(assigned);
    Ok(Session { subscription: Box::new(subscription), committer: Box::new(committer) })
}

impl EmbeddedSubscription {
    /// Takes the partitions that are not owned yet. One that appears while the member is there starts
    /// at its first record, whatever the policy of a first start: nothing was there before it. So does one that
    /// appeared while nobody of the group was there.
    fn find_partitions(&mut self, first_start: FirstStart) -> Result<Vec<Assigned>> {
        let read = |error| self.file.failed("read", error);
        let mut assigned = Vec::new();
        let mut cursors = Vec::new();
        for topic in &self.topics {
            let Some(known) = topics::known(&self.feed.connection, topic).map_err(read)? else { continue };
            self.identity.check(topic, Some(&known.id))?;
            let of_group =
                |number| groups::committed(&self.feed.connection, self.membership.group, number).map_err(read);
            let mut others = None;
            for (partition, &number) in (0..).zip(&known.partitions) {
                if self.membership.owned.lock().contains_key(&(topic.clone(), partition)) {
                    continue;
                }
                let offsets = topics::offsets(&self.file, &self.feed.connection, topic, partition)?;
                let committed = of_group(number)?;
                let added = committed.is_none()
                    && match others {
                        Some(others) => others,
                        None => *others.insert(self.has_others(topic, &known, of_group)?),
                    };
                let usable = committed.as_ref().filter(|committed| self.identity.counts(topic, committed));
                let start = match (usable, first_start) {
                    (Some(committed), _) => committed.offset.max(offsets.first),
                    (None, FirstStart::Latest) if !added => offsets.end,
                    (None, FirstStart::Error) if committed.is_none() && !added => {
                        let text = format!(
                            "group `{}` has committed no position in topic `{topic}` partition {partition}, and is \
                             not to start without one: say where it starts",
                            self.name
                        );
                        return Err(Error::new(ErrorKind::OffsetOutOfRange, text));
                    }
                    (None, _) => offsets.first,
                };
                cursors.push(Cursor::new(topic.clone(), partition, number, start));
                assigned.push(Assigned {
                    topic: topic.clone(),
                    partition,
                    assignment: self.membership.epoch,
                    start,
                    committed,
                    added,
                    log_start: offsets.first,
                });
            }
        }
        let mut owned = self.membership.owned.lock();
        owned.extend(cursors.iter().map(|cursor| ((cursor.topic.clone(), cursor.partition), cursor.number)));
        drop(owned);
        self.feed.cursors.extend(cursors);
        Ok(assigned)
    }

    /// Whether the group has, or has had, any partition of the topic.
    fn has_others(
        &self,
        topic: &Arc<str>,
        known: &topics::Known,
        committed: impl Fn(i64) -> Result<Option<Committed>>,
    ) -> Result<bool> {
        if self.membership.owned.lock().keys().any(|(owned, _)| owned == topic) {
            return Ok(true);
        }
        for &number in &known.partitions {
            if committed(number)?.is_some_and(|committed| self.identity.counts(topic, &committed)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Looks at what changed in the file: the owner of the group, the topics, the ends of partitions.
    /// Gives what is no longer owned.
    fn look(&mut self) -> Result<Vec<(Arc<str>, i32)>> {
        let epoch = groups::epoch(&self.feed.connection, self.membership.group);
        if epoch.map_err(|error| self.file.failed("read", error))? != self.membership.epoch {
            self.lost = true;
            self.feed.cursors.clear();
            self.pending.clear();
            return Ok(self.membership.owned.lock().drain().map(|(partition, _)| partition).collect());
        }
        let assigned = self.find_partitions(FirstStart::Earliest)?;
        if !assigned.is_empty() {
            self.pending.push_back(assigned);
        }
        self.feed.refresh()?;
        Ok(Vec::new())
    }
}

impl Subscription for EmbeddedSubscription {
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize> {
        let start = Instant::now();
        loop {
            if self.lost {
                let text = format!("another process took over group `{}` of log `{}`", self.name, self.file.name);
                return Err(Error::new(ErrorKind::Fenced, text));
            }
            if self.feed.is_changed()? {
                let partitions = self.look()?;
                if self.lost {
                    sink(Event::Revoked { partitions, lost: true });
                    return Ok(1);
                }
            }
            let mut count = self.pending.len();
            for assigned in self.pending.drain(..) {
                sink(Event::Assigned(assigned));
            }
            if !self.held {
                count += self.feed.hand_out(sink)?;
            }
            if count > 0 || !self.feed.wait(start, timeout) {
                return Ok(count);
            }
        }
    }

    fn hold(&mut self) -> Result<()> {
        self.held = true;
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        self.held = false;
        Ok(())
    }

    fn hold_partitions(&mut self, held: &[(Arc<str>, i32)]) -> Result<()> {
        for cursor in &mut self.feed.cursors {
            cursor.held =
                held.iter().any(|(topic, partition)| *topic == cursor.topic && *partition == cursor.partition);
        }
        Ok(())
    }

    /// The lock is given up in both cases: the next process may join at once, and no place needs to be
    /// kept for it.
    fn close(mut self: Box<Self>, _leave: bool) -> Result<()> {
        let Membership { group, epoch, .. } = *self.membership;
        groups::disown(&self.file, &mut self.feed.connection, group, epoch)
    }
}
