//! What every log can do, whatever stands behind it.
//!
//! ```text
//!   Log ──▶ topics, offsets, groups           (look, create)
//!    ├────▶ Publisher   send ─▶ delivery      (uploads, heartbeats)
//!    ├────▶ Reader      poll ─▶ Event         (inspection, retries; no group)
//!    └────▶ Session ─┬▶ Subscription  poll ─▶ Event      (one thread reads)
//!                    └▶ Committer     commit(results, positions, state): all or nothing
//! ```
//!
//! The words are Kafka's. Offsets are `i64` and count records of one partition from 0; a position is
//! the offset of the next record that is wanted. Times are milliseconds since the Unix epoch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::examined::{Examined, Group, Outage, Readers};
use crate::own_files::OwnFiles;
pub use crate::topic::{NewTopic, Offsets, Topic, TopicNow, TopicSettings};

/// One record on its way out of the log. It borrows from the backend's buffer: take what you need
/// before the call that handed it to you returns.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// Topic that the record was read from.
    pub topic: &'a str,
    /// Partition that the record was read from.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When it was produced (or appended), milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, in order; a name may occur more than once.
    pub headers: Vec<(&'a str, &'a [u8])>,
}

/// One record on its way into the log.
#[derive(Debug, Clone, Default)]
pub struct NewRecord<'a> {
    /// Topic to append to.
    pub topic: &'a str,
    /// Partition to append to; `None` lets the key choose (the same key, the same partition).
    pub partition: Option<i32>,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// Time of the record, milliseconds since the epoch; `None` is "now".
    pub timestamp_ms: Option<i64>,
}

/// Where an acknowledged record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// What became of one record that was sent.
#[derive(Debug)]
pub struct Delivery {
    /// The number that the sender gave to the record.
    pub token: usize,
    /// Its place, or why it was not taken. The record is durable exactly when this is `Ok`.
    pub outcome: Result<Placed>,
}

/// A partition that this member of a group owns from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// Number of this assignment. Positions are committed under it; once the partition was revoked,
    /// the number is stale for ever.
    pub assignment: u64,
    /// Where reading starts: the committed position, unless it is of another topic of this name; the first
    /// record where the partition is `added`; else what the policy of a first start says. Never below `log_start`.
    pub start: i64,
    /// What the group committed last for this partition.
    pub committed: Option<Committed>,
    /// The group never had this partition: it has committed positions of other partitions of the topic, and none
    /// of this one.
    pub added: bool,
    /// The first record that is still there.
    pub log_start: i64,
}

/// A committed position of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The position.
    pub offset: i64,
    /// The text that was committed with it; empty if none was.
    pub text: String,
}

/// What a [`Subscription`] or a [`Reader`] hands out, in the order in which it holds.
#[derive(Debug)]
pub enum Event<'a> {
    /// A record, in order within its partition.
    Record(Record<'a>),
    /// All records of this partition below `offset` have been handed out; the log goes on there.
    /// Said once for each time that the end is reached.
    End {
        /// Topic.
        topic: &'a str,
        /// Partition.
        partition: i32,
        /// The next offset.
        offset: i64,
    },
    /// The member owns these partitions, in addition to those that it had. May be empty when a
    /// member gets nothing. Comes before the first record of any of them.
    Assigned(Vec<Assigned>),
    /// The member owns these partitions no longer; their assignment numbers are stale already.
    Revoked {
        /// Topic and partition of each.
        partitions: Vec<(Arc<str>, i32)>,
        /// The group went on without this member: another one may have taken over already.
        lost: bool,
    },
}

/// A position to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// The assignment number under which the member owns the partition.
    pub assignment: u64,
    /// First offset that is still needed.
    pub offset: i64,
    /// ASCII text kept beside the offset, at most [`MAX_PROGRESS_TEXT`] characters.
    pub text: String,
}

/// Longest text that can be kept beside a position. Kafka's `offset.metadata.max.bytes` is 4096 by
/// default; the embedded log keeps the same limit so that a program behaves the same on both.
pub const MAX_PROGRESS_TEXT: usize = 4096;

/// One change of a group's state map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// Key.
    pub key: String,
    /// New value; `None` removes the key.
    pub value: Option<Vec<u8>>,
}

/// What changed in a group's state map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateChanges {
    /// The newest value of each key that changed; `None` for one that was removed. Each key once.
    pub changes: Vec<StateChange>,
    /// Where the next look goes on.
    pub mark: StateMark,
}

/// A moment in the life of a group's state map, as the backend counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateMark(pub i64);

/// What is to happen in one atomic step.
#[derive(Debug, Default)]
pub struct Commit<'a> {
    /// Records to publish.
    pub records: &'a [NewRecord<'a>],
    /// Positions to move.
    pub positions: &'a [Position],
    /// Changes of the group's state.
    pub state: &'a [StateChange],
}

/// How a commit ended.
///
/// | outcome | in the log | what the caller does |
/// |---|---|---|
/// | `Done` | all of it | forget what was committed |
/// | `Again` | nothing | the same commit later |
/// | `NotOwner` | nothing | drop the partitions named; they are someone else's |
/// | `RecordsRefused` | nothing | commit again without these records |
/// | `Unknown` | all or nothing, not known which | end the session; a new one starts from what is committed |
///
/// With [`DeliveryGuarantee::AtLeastOnce`], "nothing" is said of the positions: records may be there.
#[derive(Debug)]
pub enum CommitOutcome {
    /// Everything is durable and visible; the places of the records, in their order.
    Done(Vec<Placed>),
    /// Nothing happened for a reason that passes. The kind tells whether it passes by itself (`Retry`)
    /// or a person must do something first (`NoSpace`, `UnknownTopic`, `Denied`, `DeniedExactlyOnce`); `Fatal` is a commit
    /// that breaks the contract (a text that is too long) and never passes.
    Again(Error),
    /// Nothing happened: the assignment numbers of these partitions are stale.
    NotOwner(Vec<(Arc<str>, i32)>),
    /// Nothing happened: these records can never be taken. Each is named by its index in [`Commit::records`], with
    /// the reason; at least one. A backend need not find all of them in one commit.
    RecordsRefused(Vec<(usize, Error)>),
    /// It is not known whether anything happened.
    Unknown(Error),
}

/// Where a group starts in a partition for which it has committed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirstStart {
    /// At the first record that is there.
    #[default]
    Earliest,
    /// Behind the last record that is there.
    Latest,
    /// Not at all: `subscribe` or `poll` answers [`crate::ErrorKind::OffsetOutOfRange`].
    Error,
}

/// Whether a group keeps the place of a member that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Membership {
    /// The group knows the member by the name of its instance: one that comes back within a session has its
    /// place again, and the others notice nothing.
    #[default]
    Static,
    /// A member that comes back is another one; what it had goes to the others when it leaves, or after a
    /// session.
    Dynamic,
}

/// Which of the topics that have had a name is meant.
#[derive(Debug, Clone)]
pub struct TopicIdentity {
    /// The id that each topic has to have, by name; a topic whose id is not known is left out. A member of a group
    /// whose topic has another id ends: `subscribe` and `poll` answer [`crate::ErrorKind::TopicReplaced`].
    pub ids: BTreeMap<String, String>,
    /// Whether a text beside a committed position was written for a topic with another id than this one. Such a
    /// position is handed out, and reading does not start there.
    pub is_foreign: fn(text: &str, topic_id: &str) -> bool,
}

impl Default for TopicIdentity {
    /// Any topic of the name.
    fn default() -> Self {
        Self { ids: BTreeMap::new(), is_foreign: |_, _| false }
    }
}

impl TopicIdentity {
    /// Whether a position that was committed for a topic of this name is one of the topic that is meant.
    pub fn counts(&self, topic: &str, committed: &Committed) -> bool {
        self.ids.get(topic).is_none_or(|id| !(self.is_foreign)(&committed.text, id))
    }

    /// Fails where a topic with this id is not the one that is meant.
    pub(crate) fn check(&self, topic: &str, id: Option<&str>) -> Result<()> {
        match (self.ids.get(topic), id) {
            (Some(meant), Some(id)) if meant != id => Err(Error::topic_replaced(topic)),
            _ => Ok(()),
        }
    }
}

/// How a member joins a consumer group.
#[derive(Debug, Clone)]
pub struct SubscribeOptions {
    /// Name of the group.
    pub group: String,
    /// Name of this member's place in the group, the same after a restart. It must be unique among
    /// the live members of the group.
    pub instance: String,
    /// Whether the group knows that name. A backend that has no sessions ignores it.
    pub membership: Membership,
    /// Topics to read.
    pub topics: Vec<String>,
    /// Which topics these are.
    pub identity: TopicIdentity,
    /// Where to start where nothing is committed.
    pub first_start: FirstStart,
    /// Bytes of records that the backend may hold in memory ahead of the reader.
    pub queue_bytes: usize,
    /// What its commits promise.
    pub delivery: DeliveryGuarantee,
}

/// What the commits of a member promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeliveryGuarantee {
    /// Records, positions and changes of the group's state in one atomic step.
    #[default]
    ExactlyOnce,
    /// No position moves before all records are acknowledged. A commit that ends before its positions moved may
    /// leave records behind, and done again it leaves them twice. Positions are fenced as ever. The member needs
    /// no more permissions than to read as the group and to write the records, and the group has no state: a backend
    /// whose commits are not atomic without transactions refuses a commit that changes it.
    AtLeastOnce,
}

/// A log: topics of partitions of records, and consumer groups that read them.
///
/// Implementations MUST be usable from several threads at once.
///
/// ```
/// use std::time::Duration;
///
/// use datamill_broker::{Event, NewRecord, Properties, open};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let mut properties = Properties::default();
/// let address = format!("sqlite:{}", folder.join("lab.db").display()); // or "host:9092"
/// properties.broker.insert("bootstrap.servers".to_owned(), address);
/// let log = open(&properties)?;
/// log.topic_for_use("readings")?;
///
/// let mut publisher = log.publisher()?;
/// publisher.send(&NewRecord { topic: "readings", value: Some(b"21.5"), ..NewRecord::default() }, 0)?;
/// while publisher.in_flight() > 0 {
///     publisher.poll(Duration::from_secs(1), &mut |delivery| assert!(delivery.outcome.is_ok()))?;
/// }
///
/// let mut reader = log.reader("readings", &[(0, 0)])?;
/// let (mut values, mut at_end) = (Vec::new(), false);
/// while !at_end {
///     reader.poll(Duration::from_secs(1), &mut |event| match event {
///         Event::Record(record) => values.extend(record.value.map(<[u8]>::to_vec)),
///         Event::End { .. } => at_end = true,
///         _ => {}
///     })?;
/// }
/// assert_eq!(values, [b"21.5"]);
/// # Ok(())
/// # }
/// ```
pub trait Log: Send + Sync {
    /// A short name of the log for people: the bootstrap servers or the file. MUST NOT hold secrets.
    fn name(&self) -> &str;

    /// What identifies this log: the cluster's id, or the id in the file.
    fn id(&self) -> Result<String>;

    /// The name of the account that this log is used with, as permissions name it; `None` where there is none, or where
    /// only the log knows it.
    fn account(&self) -> Option<&str> {
        None
    }

    /// The program was asked to stop. From then on a call that waits for a log which has not answered for some seconds
    /// ends as it does where the log does not answer in time; a log that answers is waited for as before. There is no
    /// way back. MUST return at once.
    fn stop(&self) {}

    /// Whether the log is not waited for any more, since a stop was asked for and no answer comes.
    fn is_given_up(&self) -> bool {
        false
    }

    /// Since when the log does not answer, or not to this account; `None` where it answers, as far as is known.
    fn outage(&self) -> Option<Outage> {
        None
    }

    /// Whether the log makes this account wait, by a quota.
    fn is_throttled(&self) -> bool {
        false
    }

    /// The files on this machine that hold this log and all others that are open in this process; none where they
    /// are elsewhere. MUST tell those as well that a backend makes later. Whoever sends files to a log, or writes
    /// files beside it, asks this first.
    fn own_files(&self) -> OwnFiles;

    /// The options with which a command of `datamill` opens this log, see [`crate::Properties::options`].
    fn options(&self) -> &str;

    /// Creates a topic. MUST answer [`crate::ErrorKind::Exists`] where the topic is there.
    fn create_topic(&self, topic: &NewTopic) -> Result<()>;

    /// Deletes a topic with its records and the positions that groups have in it. MUST answer
    /// [`crate::ErrorKind::UnknownTopic`] where it does not exist. A topic that is made under the same name later is
    /// another one: it has another id, no record of the old one is read as one of it, and no group has a position in
    /// it. The state maps of groups stay as they are.
    fn delete_topic(&self, name: &str) -> Result<()>;

    /// All topics, by name. Internal topics of the backend SHOULD be left out.
    fn topics(&self) -> Result<Vec<Topic>>;

    /// One topic, for someone who is about to read it: whoever is not says so of the error ([`crate::Error::for_use`]).
    /// MUST answer [`crate::ErrorKind::UnknownTopic`] where it does not exist. No question about a topic, here or in any
    /// other method, creates it, whatever the backend is set to.
    fn topic(&self, name: &str) -> Result<Topic>;

    /// Id and number of partitions of a topic at this moment, with one question: it is asked every few seconds.
    fn topic_now(&self, name: &str) -> Result<TopicNow>;

    /// Whether the backend makes topics on first use.
    fn makes_topics(&self) -> bool;

    /// The topic, for someone who is about to write to it: created first where [`Log::makes_topics`],
    /// [`crate::ErrorKind::UnknownTopic`] where not.
    fn topic_for_use(&self, name: &str) -> Result<Topic>;

    /// The ends of a partition.
    fn offsets(&self, topic: &str, partition: i32) -> Result<Offsets>;

    /// A sender of records outside of any group.
    fn publisher(&self) -> Result<Box<dyn Publisher>>;

    /// Reads partitions of one topic from the given offsets on, without a group. An offset below the
    /// first record starts there.
    fn reader(&self, topic: &str, starts: &[(i32, i64)]) -> Result<Box<dyn Reader>>;

    /// Joins a group. MUST answer [`crate::ErrorKind::InUse`] where the backend allows one live
    /// process per group and there is one.
    fn subscribe(&self, options: &SubscribeOptions) -> Result<Session>;

    /// What is committed for a group on these topics and who its members are.
    fn group(&self, group: &str, topics: &[&str]) -> Result<Group>;

    /// What can be seen of these topics, and of a group, by whoever looks for mistakes in a set-up. Topics that are
    /// not there are left out. MUST NOT change anything.
    fn examine(&self, topics: &[&str], group: Option<&str>) -> Result<Examined>;

    /// The groups that have committed a position of this topic, of whichever program. MUST tell where it is known that the
    /// account does not see all groups.
    fn groups_of(&self, topic: &str) -> Result<Readers>;

    /// Hands out the changes of the state map of a group since the mark that an earlier look gave, in their order:
    /// a key with its value, or none where it was removed. Since the default mark, all that make up the map.
    /// MUST hold every change that was durable before the call, in commits
    /// and by [`Log::change_group_state`], MUST NOT read more than what changed (it is asked every few seconds), and
    /// MUST NOT hold the map in memory. A key may come several times, of which the last counts, and a change once more
    /// than it happened. A mark that is older than a day may miss that a key was removed.
    ///
    /// MUST end soon once `stop` answers true, with `None` in place of the mark of the next look.
    fn read_group_state(
        &self,
        group: &str,
        since: StateMark,
        sink: &mut dyn FnMut(&str, Option<&[u8]>),
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<StateMark>>;

    /// Changes the state map of a group from outside of a session, in one atomic step that is durable when this
    /// returns. MUST NOT disturb the members of the group, and MUST come before or after each of their commits
    /// as a whole; nothing is fenced. After an error all or nothing of it happened, and it may be done again.
    fn change_group_state(&self, group: &str, changes: &[StateChange]) -> Result<()>;
}

impl dyn Log + '_ {
    /// The state map of a group; empty where none was ever committed.
    ///
    /// # Errors
    /// Those of [`Log::read_group_state`].
    pub fn group_state(&self, group: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        let changes = self.group_state_since(group, StateMark::default())?.changes;
        Ok(changes.into_iter().filter_map(|change| Some((change.key, change.value?))).collect())
    }

    /// What [`Log::read_group_state`] hands out, each key once; of the whole map without removed keys.
    ///
    /// # Errors
    /// Those of [`Log::read_group_state`].
    pub fn group_state_since(&self, group: &str, mark: StateMark) -> Result<StateChanges> {
        let whole = mark == StateMark::default();
        let mut changed = BTreeMap::new();
        let mut sink = |key: &str, value: Option<&[u8]>| match value {
            None if whole => drop(changed.remove(key)),
            value => drop(changed.insert(key.to_owned(), value.map(<[u8]>::to_vec))),
        };
        let next = self.read_group_state(group, mark, &mut sink, &|| false)?;
        let changes = changed.into_iter().map(|(key, value)| StateChange { key, value }).collect();
        Ok(StateChanges { changes, mark: next.unwrap_or(mark) })
    }

    /// A command of `datamill` about this log, for a message to people: with the options that it needs.
    pub fn command(&self, words: &str) -> String {
        crate::error::command(words, self.options())
    }
}

/// Sends records and tells what became of each.
pub trait Publisher: Send {
    /// Takes a record on. The backend copies it. MUST answer [`crate::ErrorKind::QueueFull`] where
    /// its queue has no room: call [`Publisher::poll`] and send again. MUST NOT reorder the records
    /// of one partition.
    fn send(&mut self, record: &NewRecord<'_>, token: usize) -> Result<()>;

    /// Waits at most `timeout` for deliveries and hands each one out. MUST hand out exactly one for
    /// each record that `send` took on. Returns how many it handed out.
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Delivery)) -> Result<usize>;

    /// Number of records taken on whose delivery has not been handed out.
    fn in_flight(&self) -> usize;
}

/// Reads without a group.
pub trait Reader: Send {
    /// Waits at most `timeout` for the first event, then hands out what is there without waiting
    /// further, up to a bounded number. Only [`Event::Record`] and [`Event::End`] occur. Returns how
    /// many it handed out.
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize>;

    /// From now on reads these partitions of the topic and no others, from these offsets on. Nothing that was on its
    /// way is handed out. MUST cost far less than a new reader. An offset that the partition does not have is
    /// [`crate::ErrorKind::OffsetOutOfRange`], here or from [`Reader::poll`].
    fn go_to(&mut self, starts: &[(i32, i64)]) -> Result<()>;
}

/// A member of a group: one that reads, and one that commits.
pub struct Session {
    /// For the thread that reads.
    pub subscription: Box<dyn Subscription>,
    /// For the thread that commits.
    pub committer: Box<dyn Committer>,
}

/// The reading half of a member.
pub trait Subscription: Send {
    /// As [`Reader::poll`], with all events. Keeps the membership alive; MUST be called at least once
    /// a second, also while reading is held. An error is final for this session. A topic that is another one than
    /// [`SubscribeOptions::identity`] says MUST become an error within some seconds; records of that one may have
    /// been handed out before.
    fn poll(&mut self, timeout: Duration, sink: &mut dyn FnMut(Event<'_>)) -> Result<usize>;

    /// Stops handing out records of all partitions, those assigned later included, and keeps the
    /// membership. Records handed out before stay handed out. Idempotent.
    fn hold(&mut self) -> Result<()>;

    /// Goes on after [`Subscription::hold`] with the record that follows the last one handed out. Idempotent.
    fn resume(&mut self) -> Result<()>;

    /// Holds exactly these partitions, as [`Subscription::hold`] does with all, and goes on with others that
    /// were held so before. A partition that is revoked is held no longer; one that is not owned is left
    /// out. A backend MAY fetch again what it had ahead of the reader: this is for now and then, not for
    /// each record.
    fn hold_partitions(&mut self, held: &[(Arc<str>, i32)]) -> Result<()>;

    /// Ends the reading. With `leave`, others take over at once; without it, the place of a static member is
    /// kept for one of the same instance as long as the backend's session lasts.
    fn close(self: Box<Self>, leave: bool) -> Result<()>;
}

/// The committing half of a member.
pub trait Committer: Send {
    /// Publishes records, moves positions and changes the group's state in one atomic step that
    /// readers see whole or not at all. MUST refuse as a whole when one assignment number is stale,
    /// and MUST check that in one critical section with the revocation, so that no position of a
    /// partition moves once its revocation was answered. See [`CommitOutcome`] for what each answer
    /// means, and [`DeliveryGuarantee::AtLeastOnce`] for what a member may ask for instead.
    fn commit(&mut self, commit: &Commit<'_>) -> CommitOutcome;
}
