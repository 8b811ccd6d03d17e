//! The committing half of a member that does without transactions, for accounts that may not use them.
//!
//! ```text
//!   enter the fence (numbers fresh, live member) ─▶ records sent and acknowledged ─▶ positions ─▶ leave the fence
//! ```
//! Nothing can be taken back: what ends between the two leaves records behind, and the positions where they
//! were. Records that were acknowledged in a commit that did not happen are known as long as the session lasts:
//! a later commit that holds them again does not send them again. The group's coordinator refuses positions that
//! do not come from a member of the present generation.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use sha2::{Digest as _, Sha256};
use tracing::debug;

use super::cluster::Cluster;
use super::committer::{check_text, positions, proof};
use super::config::TRANSACTION_TIMEOUT_MS;
use super::failure;
use super::fence::{Fence, Refused};
use super::measure::{self, size};
use super::member::Member;
use super::publisher::KafkaPublisher;
use super::transaction::left_behind;
use crate::contract::{
    Commit, CommitOutcome, Committer, Delivery, NewRecord, Placed, Position, Publisher, SubscribeOptions,
};
use crate::crash::{CrashPoint, crash_point};
use crate::error::{Error, ErrorKind, Result};
use crate::examined::Operation;

/// How long positions are tried again whose refusal passes, as it does while a coordinator moves.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// How long one look for deliveries waits.
const STEP: Duration = Duration::from_millis(100);

/// Deliveries come in the time that a record has, and a little later.
const DELIVERED: Duration = Duration::from_millis(TRANSACTION_TIMEOUT_MS + 5_000);

/// The largest record that every topic takes by default, with room for what the batch needs; of a topic
/// whose limit is known, so much less than the limit. Larger ones travel alone.
const SURELY_TAKEN: usize = 900_000;
const ROOM: usize = 4_096;

/// See the module.
pub(super) struct AtLeastOnceCommitter {
    cluster: Arc<Cluster>,
    consumer: Arc<BaseConsumer<Member>>,
    fence: Arc<Fence>,
    group: String,
    instance: String,
    /// Made for the first record: who sends nothing needs no permission to.
    publisher: Option<KafkaPublisher>,
    /// Largest batch of records that is sent, bytes.
    batch: usize,
    /// Places of records that were acknowledged, and whose positions have not moved, by their digest.
    acknowledged: HashMap<Digest, Vec<Placed>>,
    /// Another process has this member's place.
    fenced: bool,
}

/// SHA-256 of all that a record is.
type Digest = [u8; 32];

/// What became of the records of one wave, by their index.
type Outcomes = BTreeMap<usize, Result<Placed>>;

impl AtLeastOnceCommitter {
    pub(super) fn new(
        cluster: &Arc<Cluster>,
        options: &SubscribeOptions,
        consumer: &Arc<BaseConsumer<Member>>,
        fence: &Arc<Fence>,
    ) -> Self {
        Self {
            cluster: cluster.clone(),
            consumer: consumer.clone(),
            fence: fence.clone(),
            group: options.group.clone(),
            instance: options.instance.clone(),
            publisher: None,
            batch: cluster.settings.batch_size(),
            acknowledged: HashMap::new(),
            fenced: false,
        }
    }

    /// Sends all records that are not acknowledged yet, and waits until each is. One that may be too large goes
    /// ahead and alone, so that its refusal leaves nothing behind.
    fn send(&mut self, records: &[NewRecord<'_>]) -> std::result::Result<Vec<Placed>, CommitOutcome> {
        let digests: Vec<Digest> = records.iter().map(digest).collect();
        let mut placed = self.known(&digests);
        let mut together = Vec::new();
        let mut waves = Vec::new();
        for (index, record) in records.iter().enumerate().filter(|(index, _)| placed[*index].is_none()) {
            let target = self
                .cluster
                .target_partition(record.topic, record.partition)
                .map_err(|error| CommitOutcome::Again(error.for_use(Operation::Write)))?;
            let surely_taken = target.limits.batch.map_or(SURELY_TAKEN, |limit| limit.saturating_sub(ROOM));
            if size(record) > surely_taken {
                waves.push(vec![index]);
            } else {
                together.push(index);
            }
        }
        waves.push(together);
        for wave in waves {
            let (taken, failed) = self.wave(records, &wave);
            for (index, place) in taken {
                self.acknowledged.entry(digests[index]).or_default().push(place);
                placed[index] = Some(place);
            }
            failed?;
        }
        let lost = || CommitOutcome::Again(Error::new(ErrorKind::Retry, "a record was neither delivered nor refused"));
        placed.into_iter().collect::<Option<_>>().ok_or_else(lost)
    }

    /// The places of records that an earlier commit sent: of several that are the same, as many as were sent.
    fn known(&self, digests: &[Digest]) -> Vec<Option<Placed>> {
        let mut used: HashMap<&Digest, usize> = HashMap::new();
        let place = |digest| {
            let next = used.entry(digest).or_default();
            *next += 1;
            self.acknowledged.get(digest).and_then(|places| places.get(*next - 1)).copied()
        };
        digests.iter().map(place).collect()
    }

    /// Sends these records together. Brokers refuse a batch as a whole: those that were refused among others
    /// are sent again, each alone. Answers those that were taken, and what the caller hears of the others.
    fn wave(
        &mut self,
        records: &[NewRecord<'_>],
        indices: &[usize],
    ) -> (Vec<(usize, Placed)>, std::result::Result<(), CommitOutcome>) {
        let mut outcomes = match self.deliver(records, indices) {
            Ok(outcomes) => outcomes,
            Err(error) => return (Vec::new(), Err(CommitOutcome::Again(error))),
        };
        let is_refused = |(_, outcome): &(&usize, &Result<Placed>)| {
            outcome.as_ref().is_err_and(|error| error.kind().refuses_record())
        };
        let refused: Vec<usize> = outcomes.iter().filter(is_refused).map(|(&index, _)| index).collect();
        if refused.len() > 1 {
            self.batch = (self.batch / 2).max(1);
            self.publisher = None;
            debug!(bytes = self.batch, group = %self.group, "a batch of records was refused, smaller ones come next");
        }
        for index in refused.into_iter().filter(|_| indices.len() > 1) {
            // What cannot be told keeps its refusal.
            outcomes.append(&mut self.deliver(records, &[index]).unwrap_or_default());
        }
        let mut taken = Vec::new();
        let mut failed = Vec::new();
        for (index, outcome) in outcomes {
            match outcome {
                Ok(place) => taken.push((index, place)),
                Err(error) => failed.push((index, error)),
            }
        }
        if failed.is_empty() {
            return (taken, Ok(()));
        }
        let (refused, mut failed): (Vec<_>, Vec<_>) =
            failed.into_iter().partition(|(_, error)| error.kind().refuses_record());
        if !refused.is_empty() {
            return (taken, Err(CommitOutcome::RecordsRefused(refused)));
        }
        // A missing permission or topic says more than what waited behind it.
        let telling = failed.iter().position(|(_, error)| error.kind() != ErrorKind::Retry).unwrap_or(0);
        let (index, error) = failed.swap_remove(telling);
        self.cluster.forget(records[index].topic);
        self.publisher = None;
        let error = match error.kind() {
            ErrorKind::Fatal => Error::with_source(ErrorKind::Retry, "another producer comes next", error),
            _ => error,
        };
        (taken, Err(CommitOutcome::Again(error)))
    }

    /// Hands records to the producer and waits for what becomes of each.
    fn deliver(&mut self, records: &[NewRecord<'_>], indices: &[usize]) -> Result<Outcomes> {
        let mut outcomes = Outcomes::new();
        if indices.is_empty() {
            return Ok(outcomes);
        }
        let publisher = match &mut self.publisher {
            Some(publisher) => publisher,
            None => self.publisher.insert(KafkaPublisher::for_commits(&self.cluster, self.batch)?),
        };
        let until = Instant::now() + DELIVERED;
        let keep = |outcomes: &mut Outcomes, Delivery { token, outcome }: Delivery| {
            outcomes.insert(token, outcome);
        };
        for &index in indices {
            loop {
                match publisher.send(&records[index], index) {
                    Ok(()) => break,
                    Err(error)
                        if error.kind() == ErrorKind::QueueFull
                            && Instant::now() < until
                            && !self.cluster.watch.is_given_up() =>
                    {
                        publisher.poll(STEP, &mut |delivery| keep(&mut outcomes, delivery))?;
                    }
                    Err(error) => {
                        outcomes.insert(index, Err(error));
                        break;
                    }
                }
            }
        }
        while publisher.in_flight() > 0 {
            publisher.poll(STEP, &mut |delivery| keep(&mut outcomes, delivery))?;
            if Instant::now() > until || self.cluster.watch.is_given_up() {
                self.publisher = None;
                return Err(Error::new(ErrorKind::Retry, "records are neither acknowledged nor refused"));
            }
        }
        Ok(outcomes)
    }

    /// Moves the positions. librdkafka tells a failure only where it is that of all partitions of a call, and
    /// what fails for one partition of a topic fails for all of them: so each topic has a call of its own.
    fn move_positions(&mut self, all: &[Position]) -> std::result::Result<(), CommitOutcome> {
        let mut by_topic: BTreeMap<&str, Vec<&Position>> = BTreeMap::new();
        for position in all {
            by_topic.entry(&position.topic).or_default().push(position);
        }
        let until = Instant::now() + PATIENCE;
        for (topic, of_topic) in by_topic {
            let list = positions(of_topic).map_err(CommitOutcome::Again)?;
            loop {
                let (consumer, list) = (self.consumer.clone(), list.clone());
                let commit = move || consumer.commit(&list, CommitMode::Sync);
                let committed = left_behind(&self.cluster.watch, PATIENCE * 6, commit).map_err(CommitOutcome::Again)?;
                let Some(committed) = committed else {
                    let text = format!("the coordinator of group `{}` does not answer", self.group);
                    return Err(CommitOutcome::Again(Error::new(ErrorKind::Retry, text)));
                };
                let Err(error) = committed else { break };
                let code = failure::code(&error).unwrap_or(Code::Fail);
                debug!(%code, group = %self.group, "positions were refused");
                match failure::kind(code) {
                    _ if matches!(code, Code::IllegalGeneration | Code::UnknownMemberId) => {
                        let partitions = all.iter().map(|p| (p.topic.clone(), p.partition)).collect();
                        return Err(CommitOutcome::NotOwner(partitions));
                    }
                    ErrorKind::Fenced => {
                        self.fenced = true;
                        return Err(CommitOutcome::Unknown(self.taken()));
                    }
                    ErrorKind::Retry if Instant::now() < until && !self.cluster.watch.is_given_up() => {
                        thread::sleep(PAUSE);
                    }
                    _ => {
                        let what = format!("cannot commit the positions of group `{}`", self.group);
                        let needed = failure::to_read(code, &self.group, [topic]);
                        return Err(CommitOutcome::Again(failure::failed(error, what, needed)));
                    }
                }
            }
        }
        Ok(())
    }

    fn taken(&self) -> Error {
        let (group, instance) = (&self.group, &self.instance);
        let text = format!(
            "another process has taken the place of member `{instance}` of group `{group}`: give each process an instance name of its own"
        );
        Error::new(ErrorKind::Fenced, text)
    }
}

fn digest(record: &NewRecord<'_>) -> Digest {
    let mut hash = Sha256::new();
    let mut part = |bytes: Option<&[u8]>| {
        hash.update([u8::from(bytes.is_some())]);
        hash.update(bytes.map_or(0, <[u8]>::len).to_be_bytes());
        hash.update(bytes.unwrap_or_default());
    };
    part(Some(record.topic.as_bytes()));
    part(record.partition.map(i32::to_be_bytes).as_ref().map(|number| &number[..]));
    part(record.timestamp_ms.map(i64::to_be_bytes).as_ref().map(|time| &time[..]));
    part(record.key);
    part(record.value);
    for (name, value) in &record.headers {
        part(Some(name.as_bytes()));
        part(Some(value));
    }
    hash.finalize().into()
}

impl Committer for AtLeastOnceCommitter {
    fn commit(&mut self, commit: &Commit<'_>) -> CommitOutcome {
        if self.fenced {
            return CommitOutcome::Unknown(self.taken());
        }
        if let Err(error) = commit.positions.iter().try_for_each(check_text) {
            return CommitOutcome::Again(error);
        }
        if !commit.state.is_empty() {
            let text = format!("group `{}` has no state: its member commits without transactions", self.group);
            return CommitOutcome::Again(Error::new(ErrorKind::Fatal, text));
        }
        let never = measure::too_large(&self.cluster, commit.records);
        if !never.is_empty() {
            return CommitOutcome::RecordsRefused(never);
        }
        let fence = self.fence.clone();
        let _flight = match fence.enter(commit.positions, || proof(&self.consumer)) {
            Ok((flight, _)) => flight,
            Err(Refused::Stale(partitions)) => return CommitOutcome::NotOwner(partitions),
            Err(Refused::NoProof(why)) => {
                return CommitOutcome::Again(Error::new(ErrorKind::Retry, format!("no commit right now: {why}")));
            }
        };
        let placed = match self.send(commit.records) {
            Ok(placed) => placed,
            Err(outcome) => return outcome,
        };
        crash_point(CrashPoint::KafkaSent);
        if let Err(outcome) = self.move_positions(commit.positions) {
            return outcome;
        }
        self.acknowledged.clear();
        crash_point(CrashPoint::KafkaCommitted);
        CommitOutcome::Done(placed)
    }
}
