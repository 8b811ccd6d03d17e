//! The conformance suite of the log contract: one list of checks, which every backend runs whole.
//!
//! A backend in a crate of its own proves itself with a test program like this one. It depends on this crate with the
//! feature `conformance`, and its `tests/conforms.rs` is:
//!
//! ```
//! use datamill_broker::conformance::{Backend, Capabilities};
//!
//! // The backend under test: here the embedded log, which `datamill_broker::open` knows.
//! fn backend() -> Backend {
//!     let folder = tempfile::tempdir().expect("a folder");
//!     let address = format!("sqlite:{}", folder.path().join("log.db").display());
//!     let can = Capabilities {
//!         makes_topics: true,
//!         refuses_a_second_owner: true,
//!         exact_largest_record: true,
//!         always_atomic: true,
//!     };
//!     Backend::new(datamill_broker::open, address, can, Some(folder))
//! }
//!
//! datamill_broker::every_check!(backend());
//! ```
//!
//! - [`every_check`](crate::every_check) makes one test of each check, so that no backend leaves one out. What a backend
//!   cannot do by its nature is in [`Capabilities`]; there is nothing else to choose.
//! - The macro stands at the root of the test program: some checks start that program again as a second process, kill it,
//!   and look at what is left. The second process opens the log at the [`address`](Backend::address) of the first one.
//! - The opening function takes [`Properties`] as [`open`](crate::open) does: the address is in `bootstrap.servers`, and
//!   `options` goes into messages that name a command.
//! - Checks that run at the same time share the log where the backend is a server. All their topics and groups have
//!   names of their own. The whole suite takes about a minute on one server.
//!
//! The other functions here are for further tests of a backend. They panic where the log does not do what they say.

mod amounts;
mod at_least_once;
mod commits;
mod groups;
mod kill;
mod records;
mod state;
mod topics;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{
    Assigned, Commit, CommitOutcome, Committer, Delivery, DeliveryGuarantee, ErrorKind, Event, FirstStart, Log,
    NewRecord, NewTopic, Placed, Position, Properties, Publisher, Reader, Record, Result, Session, SubscribeOptions,
    Subscription,
};

/// Makes one test of every check of the [conformance suite](crate::conformance), run against the
/// [`Backend`](crate::conformance::Backend) that the expression gives. Each test evaluates the expression once.
#[macro_export]
macro_rules! every_check {
    (@tests ($backend:expr) $($module:ident: $($check:ident),+ $(,)?;)+) => {
        $($(
            #[test]
            fn $check() {
                $crate::conformance::run(stringify!($check), &$backend);
            }
        )+)+
    };
    (@table ($table:ident) $($module:ident: $($check:ident),+ $(,)?;)+) => {
        const $table: &[(&str, fn(&Backend))] = &[$($((stringify!($check), $module::$check)),+),+];
    };
    (@list $what:ident $given:tt) => {
        $crate::every_check! { @$what $given
            topics:
                a_log_keeps_its_identity,
                a_log_tells_every_file_of_its_own,
                a_created_topic_is_found_and_listed,
                a_topic_is_created_only_once,
                a_topic_that_does_not_exist_is_unknown_everywhere,
                an_unknown_topic_is_told_with_the_nearest_names_and_made_only_by_who_would_write,
                a_topic_that_is_made_again_is_another_one,
                names_of_topics_are_checked,
                settings_of_topics_are_kept_and_unknown_ones_refused,
                topics_are_made_on_first_use_where_the_backend_does_that;
            records:
                records_of_a_partition_come_back_in_order,
                an_acknowledged_record_is_there_after_opening_again,
                every_shape_of_record_comes_back_as_it_was,
                times_of_records_come_back,
                a_key_chooses_its_partition_for_ever,
                a_partition_that_does_not_exist_takes_nothing,
                an_empty_topic_gives_its_end,
                the_end_is_said_once_each_time_it_is_reached,
                a_reader_starts_where_it_was_told,
                a_reader_goes_where_it_is_sent_and_nothing_from_before_comes_along,
                the_largest_record_passes_and_a_larger_one_is_refused;
            groups:
                a_first_start_at_the_earliest_record_reads_all,
                a_first_start_behind_the_latest_record_reads_what_comes_after,
                a_first_start_that_is_to_be_an_error_is_one,
                a_partition_that_a_group_never_had_starts_at_its_first_record,
                a_position_of_another_topic_is_handed_out_and_not_gone_on_from,
                a_topic_with_another_id_than_it_has_to_have_is_not_read,
                two_topics_are_read_in_one_subscription,
                all_partitions_are_assigned_before_their_records,
                holding_keeps_the_membership_and_loses_nothing,
                holding_some_partitions_hands_out_the_others_and_loses_nothing,
                a_second_owner_is_refused_or_takes_over,
                a_group_is_seen_without_joining_it,
                the_groups_of_a_topic_are_those_with_a_position_in_it;
            commits:
                positions_texts_and_state_come_back_in_a_later_session,
                a_commit_is_seen_whole,
                a_refused_record_is_named_and_leaves_nothing,
                a_stale_assignment_number_is_refused,
                a_text_that_is_too_long_is_refused,
                a_commit_to_a_topic_that_does_not_exist_leaves_nothing;
            at_least_once:
                acknowledged_records_positions_and_texts_are_there_in_a_later_session,
                a_record_that_is_refused_moves_no_position_and_is_named,
                a_commit_without_its_topic_moves_no_position_and_sends_nothing_twice,
                positions_of_a_member_that_is_no_longer_one_are_refused,
                a_number_of_an_earlier_assignment_sends_nothing,
                a_change_of_the_state_is_refused_where_commits_are_not_atomic;
            state:
                changes_from_outside_come_with_the_commits_and_disturb_no_member,
                a_look_at_the_state_gives_what_changed_since_the_last_one,
                a_group_that_never_was_can_be_given_a_state,
                a_large_state_is_handed_out_in_order_and_stops_when_told;
            amounts:
                many_small_records_pass_in_order,
                large_records_are_read_in_bounded_memory;
            kill:
                what_was_acknowledged_before_a_kill_is_there_and_commits_are_whole;
        }
    };
    ($backend:expr) => {
        $crate::every_check! { @list tests ($backend) }

        /// The other half of the tests that need a process of their own; they start it.
        #[test]
        #[ignore = "run by the tests that need a second process"]
        fn the_second_process() {
            $crate::conformance::second_process(&$backend);
        }
    };
}

every_check! { @list table (CHECKS) }

/// Runs one check by its name.
///
/// # Panics
/// Where the backend does not pass, or no check has this name.
pub fn run(check: &str, backend: &Backend) {
    let found = CHECKS.iter().find(|(name, _)| *name == check);
    found.unwrap_or_else(|| panic!("no check `{check}`")).1(backend);
}

/// What the second process of a check does. Nothing where the test program was not started as one.
pub fn second_process(backend: &Backend) {
    kill::second_process(backend);
}

/// What a backend does by its nature, where the contract leaves it open.
#[derive(Debug, Clone, Copy)]
pub struct Capabilities {
    /// `topic_for_use` makes a topic that is missing.
    pub makes_topics: bool,
    /// A second live member of a group is refused with `InUse`; otherwise one of the same instance
    /// takes the first one's place.
    pub refuses_a_second_owner: bool,
    /// A record is refused from exactly one byte above [`crate::Topic::largest_record`];
    /// otherwise some larger size is refused (the measure of the limit includes more than the record).
    pub exact_largest_record: bool,
    /// Every commit is one atomic step, whatever the member asks for.
    pub always_atomic: bool,
}

/// Opens the log that the properties name, as [`open`](crate::open) does.
pub type Opener = fn(&Properties) -> Result<Arc<dyn Log>>;

/// A log under test.
pub struct Backend {
    /// Value for `bootstrap.servers`.
    pub address: String,
    /// What it can do.
    pub can: Capabilities,
    opener: Opener,
    /// Goes into every name, so that tests do not meet in a log that they share.
    unique: String,
    _folder: Option<tempfile::TempDir>,
}

/// Longest time that anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl Backend {
    /// A log at this address; the folder lives as long as the backend.
    pub fn new(opener: Opener, address: String, can: Capabilities, folder: Option<tempfile::TempDir>) -> Self {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        Self { address, can, opener, unique: unique[..12].to_owned(), _folder: folder }
    }

    /// Opens the log, as another process would.
    pub fn open(&self) -> Arc<dyn Log> {
        self.open_with("")
    }

    /// Opens the log for commands that need these options.
    fn open_with(&self, options: &str) -> Arc<dyn Log> {
        let broker = BTreeMap::from([("bootstrap.servers".to_owned(), self.address.clone())]);
        let properties = Properties { broker, options: options.to_owned(), ..Properties::default() };
        (self.opener)(&properties).expect("the log opens")
    }

    /// A name of a topic or group that no other test uses.
    pub fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.unique)
    }

    /// Creates a topic and waits until it is there.
    pub fn topic(&self, log: &dyn Log, what: &str, partitions: i32) -> String {
        let name = self.name(what);
        let topic = new_topic(&name, partitions);
        log.create_topic(&topic).expect("the topic can be created");
        wait_for("the topic that was created", || log.topic(&name).ok());
        name
    }

    /// Options of a member with the usual values.
    pub fn member(&self, group: &str, topics: &[&str]) -> SubscribeOptions {
        SubscribeOptions {
            group: group.to_owned(),
            instance: "host-1".to_owned(),
            membership: Default::default(),
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            identity: Default::default(),
            first_start: FirstStart::Earliest,
            queue_bytes: 8 << 20,
            delivery: DeliveryGuarantee::ExactlyOnce,
        }
    }
}

/// A topic that keeps its records for ever.
pub fn new_topic(name: &str, partitions: i32) -> NewTopic {
    let settings = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    NewTopic { name: name.to_owned(), partitions, replication: 1, settings }
}

/// Asks until there is an answer.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{what} did not come within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A copy of a record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl From<&Record<'_>> for Kept {
    fn from(record: &Record<'_>) -> Self {
        Self {
            topic: record.topic.to_owned(),
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(|&(name, value)| (name.to_owned(), value.to_vec())).collect(),
        }
    }
}

impl Kept {
    /// The value as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().expect("a value")).expect("text")
    }
}

/// A copy of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// A record.
    Record(Kept),
    /// The end of a partition.
    End {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset of the next record.
        offset: i64,
    },
    /// Partitions that the member owns from here on.
    Assigned(Vec<Assigned>),
    /// Partitions that the member owns no longer.
    Revoked {
        /// Topics and partitions.
        partitions: Vec<(Arc<str>, i32)>,
        /// As in [`Event::Revoked`].
        lost: bool,
    },
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Record(record) => Self::Record(Kept::from(&record)),
            Event::End { topic, partition, offset } => Self::End { topic: topic.to_owned(), partition, offset },
            Event::Assigned(assigned) => Self::Assigned(assigned),
            Event::Revoked { partitions, lost } => Self::Revoked { partitions, lost },
        }
    }
}

/// Values as records of partition 0 of a topic.
pub fn of_values<'a>(topic: &'a str, values: &'a [String]) -> Vec<NewRecord<'a>> {
    values
        .iter()
        .map(|value| NewRecord { topic, partition: Some(0), value: Some(value.as_bytes()), ..NewRecord::default() })
        .collect()
}

/// Bytes without a structure that would let a record shrink on its way.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}

/// `{what}-0`, `{what}-1`, …
pub fn values(what: &str, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("{what}-{i}")).collect()
}

/// Sends all records, waits for all deliveries, and gives the outcomes in the order of the records.
/// A record that `send` refuses has its refusal as outcome.
pub fn deliver(publisher: &mut dyn Publisher, records: &[NewRecord<'_>]) -> Vec<Result<Placed>> {
    let start = Instant::now();
    let mut outcomes: Vec<Option<Result<Placed>>> = records.iter().map(|_| None).collect();
    fn put(outcomes: &mut [Option<Result<Placed>>], delivery: Delivery) {
        let place = &mut outcomes[delivery.token];
        assert!(place.is_none(), "record {} was delivered twice", delivery.token);
        *place = Some(delivery.outcome);
    }
    for (token, record) in records.iter().enumerate() {
        loop {
            match publisher.send(record, token) {
                Ok(()) => break,
                Err(error) if error.kind() == ErrorKind::QueueFull => {
                    publisher
                        .poll(Duration::from_millis(100), &mut |delivery| put(&mut outcomes, delivery))
                        .expect("polling for deliveries works");
                }
                Err(error) => {
                    outcomes[token] = Some(Err(error));
                    break;
                }
            }
            assert!(start.elapsed() < 4 * PATIENCE, "sending takes too long");
        }
    }
    while publisher.in_flight() > 0 {
        publisher
            .poll(Duration::from_millis(100), &mut |delivery| put(&mut outcomes, delivery))
            .expect("polling for deliveries works");
        assert!(start.elapsed() < 4 * PATIENCE, "{} deliveries do not come", publisher.in_flight());
    }
    outcomes.into_iter().map(|outcome| outcome.expect("one delivery for each record")).collect()
}

/// Publishes records that must all be taken.
pub fn publish(log: &dyn Log, records: &[NewRecord<'_>]) -> Vec<Placed> {
    let mut publisher = log.publisher().expect("a publisher");
    let outcomes = deliver(publisher.as_mut(), records);
    outcomes.into_iter().map(|outcome| outcome.expect("the record is taken")).collect()
}

/// Polls a reader until the end of this partition is said.
pub fn read_to_end(reader: &mut dyn Reader, partition: i32) -> Vec<Seen> {
    let start = Instant::now();
    let mut seen = Vec::new();
    loop {
        reader.poll(Duration::from_millis(200), &mut |event| seen.push(Seen::from(event))).expect("reading works");
        let ended = |event: &Seen| matches!(event, Seen::End { partition: p, .. } if *p == partition);
        if seen.iter().any(ended) {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "the end of partition {partition} is not said");
    }
}

/// All records of a partition from an offset up to its end.
pub fn read_from(log: &dyn Log, topic: &str, partition: i32, offset: i64) -> Vec<Kept> {
    let mut reader = log.reader(topic, &[(partition, offset)]).expect("a reader");
    only_records(read_to_end(reader.as_mut(), partition))
}

/// All records of a partition that can be seen.
pub fn read_all(log: &dyn Log, topic: &str, partition: i32) -> Vec<Kept> {
    read_from(log, topic, partition, 0)
}

/// All records of a partition, once there are at least so many to be seen.
pub fn read_once_there(log: &dyn Log, topic: &str, count: usize) -> Vec<Kept> {
    wait_for(&format!("{count} records in topic `{topic}`"), || {
        let all = read_all(log, topic, 0);
        (all.len() >= count).then_some(all)
    })
}

/// The records among events.
pub fn only_records(seen: impl IntoIterator<Item = Seen>) -> Vec<Kept> {
    seen.into_iter().filter_map(|seen| if let Seen::Record(record) = seen { Some(record) } else { None }).collect()
}

/// The values of records, as text.
pub fn texts(records: &[Kept]) -> Vec<&str> {
    records.iter().map(Kept::text).collect()
}

/// A member of a group, with what it was handed out and nobody has looked at yet.
pub struct Member {
    /// Reads.
    pub subscription: Box<dyn Subscription>,
    /// Commits.
    pub committer: Box<dyn Committer>,
    /// The partitions that it owns.
    pub assigned: Vec<Assigned>,
    /// What was handed out and not looked at.
    pub backlog: VecDeque<Seen>,
}

impl Member {
    /// Joins and waits for `partitions` partitions.
    pub fn join(log: &dyn Log, options: &SubscribeOptions, partitions: usize) -> Self {
        let Session { subscription, committer } = log.subscribe(options).expect("the group can be joined");
        let mut member = Self { subscription, committer, assigned: Vec::new(), backlog: VecDeque::new() };
        let start = Instant::now();
        while member.assigned.len() < partitions {
            member.pump(Duration::from_millis(100)).expect("polling works");
            assert!(start.elapsed() < PATIENCE, "only {} of {partitions} partitions came", member.assigned.len());
        }
        member
    }

    /// One poll; what it hands out goes into the backlog.
    pub fn pump(&mut self, timeout: Duration) -> Result<usize> {
        let (assigned, backlog) = (&mut self.assigned, &mut self.backlog);
        self.subscription.poll(timeout, &mut |event| {
            match &event {
                Event::Assigned(more) => assigned.extend(more.iter().cloned()),
                Event::Revoked { partitions, .. } => {
                    assigned.retain(|a| !partitions.contains(&(a.topic.clone(), a.partition)));
                }
                Event::Record(record) => {
                    let owned = assigned.iter().any(|a| &*a.topic == record.topic && a.partition == record.partition);
                    assert!(owned, "a record of a partition that is not assigned: {record:?}");
                }
                Event::End { .. } => {}
            }
            backlog.push_back(Seen::from(event));
        })
    }

    /// Polls for a while, whether or not anything comes.
    pub fn pump_for(&mut self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            self.pump(Duration::from_millis(50)).expect("polling works");
        }
    }

    /// The next records, once there are so many.
    pub fn records(&mut self, count: usize) -> Vec<Kept> {
        let start = Instant::now();
        let mut records = Vec::new();
        loop {
            records.extend(only_records(self.backlog.drain(..)));
            if records.len() >= count {
                return records;
            }
            assert!(start.elapsed() < PATIENCE, "only {} of {count} records came", records.len());
            self.pump(Duration::from_millis(100)).expect("polling works");
        }
    }

    /// The assignment of a partition.
    pub fn of(&self, topic: &str, partition: i32) -> &Assigned {
        let found = self.assigned.iter().find(|a| &*a.topic == topic && a.partition == partition);
        found.unwrap_or_else(|| panic!("topic `{topic}` partition {partition} is not assigned"))
    }

    /// A position of a partition that the member owns.
    pub fn position(&self, topic: &str, partition: i32, offset: i64, text: &str) -> Position {
        let assignment = self.of(topic, partition).assignment;
        Position { topic: topic.into(), partition, assignment, offset, text: text.to_owned() }
    }

    /// Commits, again where told so, until it is done.
    pub fn commit(&mut self, commit: &Commit<'_>) -> Vec<Placed> {
        wait_for("a commit that is done", || match self.committer.commit(commit) {
            CommitOutcome::Done(placed) => Some(placed),
            CommitOutcome::Again(error) => {
                assert!(error.kind() == ErrorKind::Retry, "a commit that cannot pass: {error:?}");
                None
            }
            other => panic!("the commit is not done: {other:?}"),
        })
    }

    /// Leaves the group.
    pub fn leave(self) {
        self.subscription.close(true).expect("closing works");
    }
}
