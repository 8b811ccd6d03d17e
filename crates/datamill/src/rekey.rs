//! Copies the chunk messages of a topic so that all chunks of a file lie in one partition.
//!
//! ```text
//!  subscription ──record──▶ batch (bounded) ──records + positions, one step──▶ log
//! ```
//! OpenMSIStream spreads the chunks of a file over all partitions of its topic; such a topic can be read by
//! one process only. The copy can be read by many. A record keeps its key, value, headers and time; the
//! partition is the one that an upload would choose, and the header of datamill's chunks is added. Records
//! and the positions behind them are committed in one step, so that each record is copied once whatever
//! ends the program. Several processes may share the work as members of one group.
//!
//! A position says by its text ([`crate::progress`]) from which topic to which topic was copied: where either was
//! deleted and created again, the positions say nothing, and the copy stops.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill_broker::{
    Assigned, Commit, CommitOutcome, DeliveryGuarantee, ErrorKind, Event, FirstStart, Log, NewRecord, Position, Record,
    Session, SubscribeOptions, Subscription, TopicIdentity,
};
use datamill_wire::{headers, partition_for};

use crate::control::{Control, StopKind};
use crate::engine::input::topic;
use crate::engine::{chunk_of, mark_copy};
use crate::facts::{Counters, Facts};
use crate::progress::{Progress, TopicTag, encode, is_foreign};
use crate::report::{clock, tell_outage, text};

/// Bytes of records in one commit, unless one record alone is larger.
const BATCH_BYTES: usize = 8 << 20;
/// How long records wait for others before they are committed.
const BATCH_TIME: Duration = Duration::from_millis(200);
/// Bytes that the backend may hold ahead.
const QUEUE_BYTES: usize = 32 << 20;
const POLL: Duration = Duration::from_millis(50);
/// Wait after a commit that did not happen.
const PAUSE: Duration = Duration::from_millis(500);
/// New sessions in a row without a commit before the program gives up.
const MAX_SESSIONS: u32 = 5;

/// What is copied where.
#[derive(Debug, Clone)]
pub struct RekeySettings {
    /// Topic that is read.
    pub source: String,
    /// Topic that is written.
    pub destination: String,
    /// Consumer group that remembers how far the copy is.
    pub group: String,
    /// This process's place in the group, the same after a restart.
    pub instance: String,
    /// Stop once everything that was in the topic at the start is copied.
    pub exit_at_end: bool,
}

impl RekeySettings {
    /// Looks for what can be seen without a log.
    ///
    /// # Errors
    /// [`RekeyError::SameTopic`].
    pub fn check(&self) -> Result<(), RekeyError> {
        if self.source == self.destination { Err(RekeyError::SameTopic(self.source.clone())) } else { Ok(()) }
    }

    /// The group of a copy that was given none.
    pub fn usual_group(source: &str, destination: &str) -> String {
        format!("datamill-rekey-{source}-{destination}")
    }
}

/// Why a copy cannot be made or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RekeyError {
    /// A topic cannot be copied into itself.
    #[error("topic `{0}` cannot be copied into itself: name another topic")]
    SameTopic(String),
    /// The group is another program's.
    #[error(
        "group `{group}` is used for topic `{source_topic}` by {theirs}; programs of one group share the messages, so the \
        copy would lack some. Leave --consumer_group_id out, or choose another group"
    )]
    OtherPurpose {
        /// Group.
        group: String,
        /// Topic that is read.
        source_topic: String,
        /// What the group is for.
        theirs: String,
    },
    /// The destination does not take a record.
    #[error(
        "topic `{destination}` does not take the record at offset {offset} of partition {partition} of topic \
        `{source_topic}`; nothing was left out. Let the topic take it, and start again"
    )]
    Refused {
        /// Topic that is read.
        source_topic: String,
        /// Partition of the record.
        partition: i32,
        /// Its offset.
        offset: i64,
        /// Topic that is written.
        destination: String,
        /// Why.
        #[source]
        error: datamill_broker::Error,
    },
    /// A topic is another one than the one that was copied.
    #[error(
        "topic `{source_topic}` or topic `{destination}` was deleted and created again since group `{group}` began to \
        copy; nothing was guessed. Name another group with --consumer_group_id to copy all that is in topic \
        `{source_topic}`"
    )]
    TopicReplaced {
        /// Topic that is read.
        source_topic: String,
        /// Topic that is written.
        destination: String,
        /// Consumer group.
        group: String,
    },
    /// The log refused something for good.
    #[error("{0}")]
    Log(#[from] datamill_broker::Error),
}

/// What one run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RekeySummary {
    /// Records copied.
    pub copied: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Records that hold no chunk and were left out.
    pub left_out: u64,
    /// Copied records that are older than the destination keeps its records.
    pub too_old: u64,
    /// How long it ran.
    pub duration: Duration,
    /// Topic that was read.
    pub source: String,
    /// Topic that was written.
    pub destination: String,
    /// The command that makes a topic which keeps its records for ever.
    pub create: String,
}

impl RekeySummary {
    fn nothing(log: &dyn Log, settings: &RekeySettings) -> Self {
        Self {
            copied: 0,
            bytes: 0,
            left_out: 0,
            too_old: 0,
            duration: Duration::ZERO,
            source: settings.source.clone(),
            destination: settings.destination.clone(),
            create: log.command("topic create NAME --setting retention.ms=-1"),
        }
    }
}

impl fmt::Display for RekeySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { copied, bytes, left_out, too_old, duration, source, destination, create } = self;
        let (bytes, duration) = (text::bytes(*bytes), text::duration(*duration));
        let copied = text::counted(*copied, "message");
        write!(f, "{copied} ({bytes}) of topic `{source}` copied to topic `{destination}` in {duration}")?;
        if *left_out > 0 {
            let are = ("is not a chunk of a file and was", "are not chunks of files and were");
            let messages = text::counted_with(*left_out, "message", are.0, are.1);
            write!(f, "\n{messages} left out; the log names the offsets")?;
        }
        if *too_old > 0 {
            let messages = text::counted_with(*too_old, "message", "is", "are");
            write!(
                f,
                "\n{messages} older than topic `{destination}` keeps its records, and it will remove them: \
                read them soon, or let another topic keep its records for longer ({create} is for ever) and copy to \
                that one"
            )?;
        }
        Ok(())
    }
}

/// Copies until it is told to stop, the end is reached (where asked), or it cannot go on.
///
/// # Errors
/// What keeps the copy from being made or from going on; what is copied is committed.
pub fn rekey(
    log: &Arc<dyn Log>,
    settings: &RekeySettings,
    control: &Control,
    facts: &Facts,
) -> Result<RekeySummary, RekeyError> {
    settings.check()?;
    let nothing = RekeySummary::nothing(log.as_ref(), settings);
    let started = Instant::now();
    let Some(source) = topic(log.as_ref(), &settings.source, !settings.exit_at_end, control)? else {
        return Ok(RekeySummary { duration: started.elapsed(), ..nothing });
    };
    // a group of the usual name is this copy's
    if settings.group != RekeySettings::usual_group(&settings.source, &settings.destination)
        && let Some(theirs) = mark_copy(log.as_ref(), &settings.group, &settings.source, &settings.destination)?
    {
        let (group, source_topic) = (settings.group.clone(), settings.source.clone());
        return Err(RekeyError::OtherPurpose { group, source_topic, theirs });
    }
    let destination = log.topic_for_use(&settings.destination)?;
    let end =
        |partition| Ok::<_, datamill_broker::Error>((partition, log.offsets(&source.name, partition)?.last_stable));
    let ends = settings.exit_at_end.then(|| (0..source.partitions).map(end).collect::<Result<BTreeMap<_, _>, _>>());
    let ends = ends.transpose()?;
    let mut copy = Copy {
        settings,
        counters: facts.counters(),
        source_id: source.id.clone(),
        destination_id: destination.id.clone(),
        pair: source.id.zip(destination.id).map(|(source, destination)| format!("{source} {destination}")),
        is_foreign: false,
        partitions: destination.partitions,
        retention_ms: destination.settings.and_then(|settings| settings.retention_ms),
        batch: Batch::default(),
        copied: 0,
        bytes: 0,
        left_out: 0,
        too_old: 0,
        owned: BTreeMap::new(),
    };
    copy.sessions(log.as_ref(), control, ends.as_ref())?;
    tell_outage(log.as_ref(), control, "What was not copied is copied at the next start; nothing is lost");
    let Copy { copied, bytes, left_out, too_old, .. } = copy;
    Ok(RekeySummary { copied, bytes, left_out, too_old, duration: started.elapsed(), ..nothing })
}

/// A record on its way.
struct Copied {
    /// Partition and offset where it was read.
    from: (i32, i64),
    partition: i32,
    key: Option<Vec<u8>>,
    value: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
    timestamp_ms: Option<i64>,
}

#[derive(Default)]
struct Batch {
    records: Vec<Copied>,
    bytes: usize,
    /// Partitions of the records that are left out.
    left_out: Vec<i32>,
    since: Option<Instant>,
}

/// An owned partition.
struct Place {
    assignment: u64,
    /// Behind what was read.
    next: i64,
    committed: i64,
}

struct Copy<'a> {
    settings: &'a RekeySettings,
    counters: &'a Counters,
    source_id: Option<String>,
    destination_id: Option<String>,
    /// Both ids, where the log tells them.
    pair: Option<String>,
    /// A position of other topics was found.
    is_foreign: bool,
    /// Of the destination.
    partitions: i32,
    /// How long the destination keeps its records, by their times; `None` is for ever.
    retention_ms: Option<i64>,
    batch: Batch,
    owned: BTreeMap<i32, Place>,
    copied: u64,
    bytes: u64,
    left_out: u64,
    too_old: u64,
}

impl Copy<'_> {
    /// An error of the log, with what a person does about it.
    fn explain(&self, error: RekeyError) -> RekeyError {
        match error {
            RekeyError::Log(error) if error.kind() == ErrorKind::TopicReplaced => RekeyError::TopicReplaced {
                source_topic: self.settings.source.clone(),
                destination: self.settings.destination.clone(),
                group: self.settings.group.clone(),
            },
            other => other,
        }
    }

    /// One session after another, until the copy is done or is told to stop.
    fn sessions(
        &mut self,
        log: &dyn Log,
        control: &Control,
        ends: Option<&BTreeMap<i32, i64>>,
    ) -> Result<(), RekeyError> {
        let mut failures = 0;
        loop {
            let before = self.copied;
            let ended = match self.session(log, control, ends) {
                Err(RekeyError::Log(error)) if error.kind() == ErrorKind::Retry && control.stopping().is_some() => {
                    Some(error)
                }
                ended => ended.map_err(|error| self.explain(error))?,
            };
            match ended {
                None => return Ok(()),
                Some(error) if control.stopping().is_some() => {
                    tracing::warn!(error = %crate::report::chain(&error), "the next start goes on from what is committed");
                    return Ok(());
                }
                // no later session may do more
                Some(error) if error.is_denied() => return Err(error.into()),
                Some(error) => {
                    failures = if self.copied > before { 1 } else { failures + 1 };
                    if failures > MAX_SESSIONS {
                        return Err(error.into());
                    }
                    tracing::warn!(error = %crate::report::chain(&error), "starting again from what is committed");
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    /// One session. Answers an error after which a new one goes on from what is committed.
    fn session(
        &mut self,
        log: &dyn Log,
        control: &Control,
        ends: Option<&BTreeMap<i32, i64>>,
    ) -> Result<Option<datamill_broker::Error>, RekeyError> {
        (self.batch, self.owned) = (Batch::default(), BTreeMap::new());
        let ids = self.source_id.iter().map(|id| (self.settings.source.clone(), id.clone())).collect();
        let Session { mut subscription, mut committer } = log.subscribe(&SubscribeOptions {
            group: self.settings.group.clone(),
            instance: self.settings.instance.clone(),
            membership: Default::default(),
            topics: vec![self.settings.source.clone()],
            identity: TopicIdentity { ids, ..TopicIdentity::default() },
            first_start: FirstStart::Earliest,
            queue_bytes: QUEUE_BYTES,
            delivery: DeliveryGuarantee::ExactlyOnce,
        })?;
        loop {
            let mut assigned_once = !self.owned.is_empty();
            if let Err(error) = subscription.poll(POLL, &mut |event| self.event(event, &mut assigned_once)) {
                return passing(error);
            }
            if self.is_foreign {
                return Err(datamill_broker::Error::topic_replaced(&self.settings.source).into());
            }
            let stopping = control.stopping();
            let at_end = assigned_once
                && ends.is_some_and(|ends| {
                    self.owned.iter().all(|(p, place)| place.next >= ends.get(p).copied().unwrap_or(0))
                });
            let due = self.batch.bytes >= BATCH_BYTES
                || self.batch.since.is_some_and(|since| since.elapsed() >= BATCH_TIME)
                || stopping.is_some()
                || at_end;
            if due && let Some(error) = self.commit(log, committer.as_mut(), subscription.as_mut())? {
                return passing(error);
            }
            let done = self.owned.values().all(|place| place.next == place.committed);
            if done && (stopping.is_some() || at_end) {
                self.verify(log)?;
                subscription.close(stopping != Some(StopKind::KeepPlace))?;
                return Ok(None);
            }
        }
    }

    /// Fails where what was copied went from or to another topic. One that cannot be asked about is taken for the same.
    fn verify(&self, log: &dyn Log) -> Result<(), RekeyError> {
        let RekeySettings { source, destination, .. } = self.settings;
        for (topic, id) in [(source, &self.source_id), (destination, &self.destination_id)] {
            let now = log.topic_now(topic).ok().and_then(|now| now.id);
            if now.is_some() && id.is_some() && now != *id {
                return Err(datamill_broker::Error::topic_replaced(topic).into());
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>, assigned_once: &mut bool) {
        match event {
            Event::Record(record) => self.take(&record),
            Event::End { partition, offset, .. } => {
                if let Some(place) = self.owned.get_mut(&partition) {
                    place.next = place.next.max(offset);
                    self.batch.since.get_or_insert_with(Instant::now);
                }
            }
            Event::Assigned(assigned) => {
                *assigned_once = true;
                for Assigned { partition, assignment, start, committed, .. } in assigned {
                    let text = committed.as_ref().map_or("", |committed| committed.text.as_str());
                    self.is_foreign |= self.pair.as_ref().is_some_and(|pair| is_foreign(text, pair));
                    tracing::info!(topic = %self.settings.source, partition, offset = start, "partition assigned");
                    self.owned.insert(partition, Place { assignment, next: start, committed: start });
                }
            }
            Event::Revoked { partitions, .. } => {
                for (_, partition) in partitions {
                    self.owned.remove(&partition);
                }
                self.drop_what_is_not_owned();
            }
        }
    }

    fn drop_what_is_not_owned(&mut self) {
        let owned = &self.owned;
        self.batch.records.retain(|record| owned.contains_key(&record.from.0));
        self.batch.left_out.retain(|partition| owned.contains_key(partition));
        self.batch.bytes = self.batch.records.iter().map(|record| record.value.len()).sum();
    }

    fn take(&mut self, record: &Record<'_>) {
        let Some(place) = self.owned.get_mut(&record.partition) else { return };
        place.next = record.offset + 1;
        self.batch.since.get_or_insert_with(Instant::now);
        let value = record.value.unwrap_or_default();
        let chunk = chunk_of(record);
        self.counters.read_one(&chunk);
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => {
                tracing::error!(topic = %self.settings.source, partition = record.partition, offset = record.offset,
                    error = %crate::report::chain(&error), "a message is not a chunk of a file; left out");
                self.batch.left_out.push(record.partition);
                return;
            }
        };
        let relative = datamill_wire::name::relative_path(chunk.subdir, chunk.filename);
        let mut headers: Vec<(String, Vec<u8>)> =
            record.headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
        if !headers.iter().any(|(name, _)| name == headers::CHUNK_VERSION) {
            headers.push((headers::CHUNK_VERSION.to_owned(), headers::CHUNK_VERSION_1.as_bytes().to_vec()));
        }
        self.batch.bytes += value.len();
        self.batch.records.push(Copied {
            from: (record.partition, record.offset),
            partition: partition_for(&relative, self.partitions),
            key: record.key.map(<[u8]>::to_vec),
            value: value.to_vec(),
            headers,
            timestamp_ms: record.timestamp_ms,
        });
    }

    /// Commits the batch. Answers an error after which a new session has to be begun.
    fn commit(
        &mut self,
        log: &dyn Log,
        committer: &mut dyn datamill_broker::Committer,
        subscription: &mut dyn Subscription,
    ) -> Result<Option<datamill_broker::Error>, RekeyError> {
        loop {
            let positions = self.moved();
            if positions.is_empty() {
                self.batch = Batch::default();
                return Ok(None);
            }
            let records: Vec<NewRecord<'_>> = self.batch.records.iter().map(|record| self.outgoing(record)).collect();
            match committer.commit(&Commit { records: &records, positions: &positions, state: &[] }) {
                CommitOutcome::Done(_) => {
                    drop(records);
                    self.done();
                    return Ok(None);
                }
                CommitOutcome::Again(error) if error.kind() == ErrorKind::Retry => {
                    if log.is_given_up() {
                        return Ok(Some(error));
                    }
                    tracing::warn!(error = %crate::report::chain(&error), "the copy waits");
                }
                CommitOutcome::Again(error) => return Err(error.into()),
                CommitOutcome::NotOwner(_) => {}
                CommitOutcome::RecordsRefused(refused) => {
                    let Some((index, error)) = refused.into_iter().min_by_key(|(index, _)| *index) else { continue };
                    let (partition, offset) = self.batch.records[index].from;
                    return Err(RekeyError::Refused {
                        source_topic: self.settings.source.clone(),
                        partition,
                        offset,
                        destination: self.settings.destination.clone(),
                        error,
                    });
                }
                CommitOutcome::Unknown(error) => return Ok(Some(error)),
            }
            drop(records);
            // the membership is kept, and what changed in it is heard of, while the commit waits
            subscription.hold()?;
            let mut nothing = false;
            if let Err(error) = subscription.poll(PAUSE, &mut |event| self.event(event, &mut nothing)) {
                return Ok(Some(error));
            }
            subscription.resume()?;
        }
    }

    /// The positions that have moved since the last commit.
    fn moved(&self) -> Vec<Position> {
        let topic: Arc<str> = self.settings.source.as_str().into();
        let moved = self.owned.iter().filter(|(_, place)| place.next != place.committed);
        let tag = self.pair.as_deref().map(TopicTag::of);
        let text = |next| tag.as_ref().map(|tag| encode(&Progress::starting_at(next), Some(tag)).1);
        moved
            .map(|(&partition, place)| Position {
                topic: Arc::clone(&topic),
                partition,
                assignment: place.assignment,
                offset: place.next,
                text: text(place.next).unwrap_or_default(),
            })
            .collect()
    }

    /// The batch and the positions are committed.
    fn done(&mut self) {
        let bytes = self.batch.bytes as u64;
        self.counters.processed(self.batch.records.len() as u64, bytes);
        self.counters.produced(self.batch.records.len() as u64, bytes);
        (self.copied, self.bytes) = (self.copied + self.batch.records.len() as u64, self.bytes + bytes);
        self.left_out += self.batch.left_out.len() as u64;
        self.count_too_old();
        self.batch = Batch::default();
        for place in self.owned.values_mut() {
            place.committed = place.next;
        }
    }

    /// A copy keeps the times of its records, and a log removes those that are older than its topic's retention.
    fn count_too_old(&mut self) {
        let Some(retention_ms) = self.retention_ms else { return };
        let keep_from_ms = clock::now_ms() - retention_ms;
        let is_old = |record: &&Copied| record.timestamp_ms.is_some_and(|time_ms| time_ms < keep_from_ms);
        let old = self.batch.records.iter().filter(is_old);
        if let (0, Some(&Copied { from: (partition, offset), .. })) = (self.too_old, old.clone().next()) {
            tracing::warn!(topic = %self.settings.source, partition, offset, destination = %self.settings.destination,
                retention_ms, "a copied message is older than the destination keeps its records, and it will remove it");
        }
        self.too_old += old.count() as u64;
    }

    fn outgoing<'r>(&'r self, record: &'r Copied) -> NewRecord<'r> {
        NewRecord {
            topic: &self.settings.destination,
            partition: Some(record.partition),
            key: record.key.as_deref(),
            value: Some(&record.value),
            headers: record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect(),
            timestamp_ms: record.timestamp_ms,
        }
    }
}

fn passing(error: datamill_broker::Error) -> Result<Option<datamill_broker::Error>, RekeyError> {
    if error.kind() == ErrorKind::Retry { Ok(Some(error)) } else { Err(error.into()) }
}
