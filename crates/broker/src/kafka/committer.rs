//! The committing half of a member: what may be committed, and what a failure means for the caller.
//!
//! ```text
//!   topics there? ─▶ enter the fence (numbers fresh, live member) ─▶ one transaction ─▶ leave the fence
//! ```
//! A commit that fails before its last step is aborted, and nothing of it was ever visible. One whose
//! end is not known ends the session: the next one takes the transactional id and starts from what is
//! committed.

use std::collections::BTreeSet;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};
use tracing::debug;

use super::cluster::{self, Cluster};
use super::context::Undelivered;
use super::failure;
use super::fence::{Fence, Refused};
use super::measure;
use super::member::Member;
use super::native::{self, Membership};
use super::publisher::not_delivered;
use super::state;
use super::transaction::{Ending, Transactions};
use crate::contract::{Commit, CommitOutcome, Committer, MAX_PROGRESS_TEXT, NewRecord, Position, SubscribeOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::examined::Operation;

/// See the module.
pub(super) struct KafkaCommitter {
    cluster: Arc<Cluster>,
    consumer: Arc<BaseConsumer<Member>>,
    fence: Arc<Fence>,
    options: SubscribeOptions,
    state_topic: String,
    state_checked: bool,
    transactions: Transactions,
    /// Largest batch of records that is sent, bytes.
    batch: usize,
    /// Why nothing can be committed any more.
    over: Option<ErrorKind>,
}

impl KafkaCommitter {
    /// Takes the transactional id. MUST come before the member joins.
    pub(super) fn open(
        cluster: &Arc<Cluster>,
        options: &SubscribeOptions,
        consumer: &Arc<BaseConsumer<Member>>,
        fence: &Arc<Fence>,
    ) -> Result<Self> {
        let batch = cluster.settings.batch_size();
        let state_topic = state::topic_name(&options.group);
        cluster::legal_name(&state_topic)?;
        Ok(Self {
            cluster: cluster.clone(),
            consumer: consumer.clone(),
            fence: fence.clone(),
            transactions: Transactions::open(cluster, options, batch)?,
            options: options.clone(),
            state_topic,
            state_checked: false,
            batch,
            over: None,
        })
    }

    /// Makes sure that all topics are there before a transaction begins: librdkafka would wait longer for
    /// a missing one than a transaction may take.
    fn prepare(&mut self, commit: &Commit<'_>) -> Result<()> {
        commit.positions.iter().try_for_each(check_text)?;
        let mut smallest = self.batch;
        let mut seen = BTreeSet::new();
        for record in commit.records {
            if seen.insert((record.topic, record.partition)) {
                let target = self.cluster.target_partition(record.topic, record.partition);
                let target = target.map_err(|error| error.for_use(Operation::Write))?;
                smallest = smallest.min(target.limits.batch.unwrap_or(smallest));
            }
        }
        if !commit.state.is_empty() {
            let (group, topic) = (&self.options.group, &self.state_topic);
            state::ensure(&self.cluster, group, topic)?;
            if !std::mem::replace(&mut self.state_checked, true) {
                state::check(&self.cluster, topic)?;
            }
        }
        self.shrink(smallest)
    }

    /// The records of topics to which no transaction can write, or that are too large for their topic.
    fn never_taken(&self, commit: &Commit<'_>) -> Vec<(usize, Error)> {
        let refusal = |(index, record): (usize, &NewRecord<'_>)| {
            let target = self.cluster.target(record.topic).ok()?;
            Some((index, target.limits.end_of_transaction(record.topic).err()?))
        };
        let refused: Vec<_> = commit.records.iter().enumerate().filter_map(refusal).collect();
        // The topic may be mended.
        refused.iter().for_each(|(index, _)| self.cluster.forget(commit.records[*index].topic));
        if refused.is_empty() { measure::too_large(&self.cluster, commit.records) } else { refused }
    }

    /// No batch may be larger than what a topic takes: brokers refuse a batch as a whole, and a record that
    /// is too large would take small ones down with it.
    fn shrink(&mut self, batch: usize) -> Result<()> {
        if batch < self.batch {
            debug!(bytes = batch, group = %self.options.group, "a topic takes smaller batches");
            self.transactions = Transactions::open(&self.cluster, &self.options, batch)?;
            self.batch = batch;
        }
        Ok(())
    }

    fn end(&mut self, error: Error) -> CommitOutcome {
        // Whoever asked for the commit says what comes of it.
        debug!(group = %self.options.group, %error, "a commit has failed");
        self.over = Some(error.kind());
        CommitOutcome::Unknown(error)
    }

    /// Aborts what did not commit, and finds out what to say about it.
    fn settle(&mut self, ending: Ending, records: &[&NewRecord<'_>], named: usize) -> CommitOutcome {
        if let Ending::Over(error) = ending {
            return self.end(error);
        }
        // A broker may be unable to abort what a missing permission or the time of its own mark has spoilt: that says more.
        let said = match &ending {
            Ending::Undelivered(failed) => Some(self.said(failed)),
            _ => None,
        };
        let spoilt = said.and_then(|error| match error.kind() {
            _ if error.is_denied() => Some(error),
            ErrorKind::RecordRefused => {
                let text =
                    "the broker cannot end the transaction: a topic in it refuses the times of the broker's own marks";
                Some(Error::with_source(ErrorKind::Settings, text, error))
            }
            _ => None,
        });
        let settled = match self.transactions.abort() {
            Err(ending) => Err(spoilt.map_or(ending, Ending::Over)),
            Ok(()) => match ending {
                Ending::Undelivered(failed) => self.blame(records, named, failed),
                Ending::Passing(error) | Ending::Over(error) => Ok(CommitOutcome::Again(explained(error))),
            },
        };
        settled.unwrap_or_else(|ending| match ending {
            Ending::Over(error) | Ending::Passing(error) => self.end(error),
            Ending::Undelivered(_) => {
                let text = "a transaction could neither be committed nor aborted";
                self.end(Error::new(ErrorKind::Retry, text))
            }
        })
    }

    /// The failure that says most; one on the topic of the state says what that topic is for.
    fn said(&self, failed: &[(usize, Undelivered)]) -> Error {
        let (group, topic) = (&self.options.group, &self.state_topic);
        match telling(failed) {
            Some(why) if why.topic == *topic => state::denied(said(failed), group, topic),
            _ => said(failed),
        }
    }

    /// Which records are to blame when some were not delivered. A broker that does not accept records names them;
    /// a batch that is too large it refuses as a whole, so among several the one that is refused alone is looked
    /// for. The caller can name the first `named`.
    fn blame(
        &mut self,
        records: &[&NewRecord<'_>],
        named: usize,
        failed: Vec<(usize, Undelivered)>,
    ) -> std::result::Result<CommitOutcome, Ending> {
        for (_, why) in &failed {
            if failure::kind(why.code) == ErrorKind::UnknownTopic {
                self.cluster.forget(&why.topic);
            }
        }
        let refused: Vec<&(usize, Undelivered)> =
            failed.iter().filter(|(_, why)| failure::kind(why.code).refuses_record()).collect();
        let Some(largest) = refused.iter().max_by_key(|(_, why)| why.bytes) else {
            return Ok(CommitOutcome::Again(self.said(&failed)));
        };
        let surely: Vec<_> = refused.iter().copied().filter(|one| self.is_refused_alone(one, &failed)).collect();
        if !surely.is_empty() {
            return Ok(self.refusal(&surely, named));
        }
        let for_size = failure::kind(largest.1.code) == ErrorKind::RecordTooLarge;
        let mut suspects: Vec<usize> = match for_size {
            true => vec![largest.0],
            false => refused.iter().map(|(token, _)| *token).collect(),
        };
        if refused.len() > 1 {
            while suspects.len() > 1 {
                let half = suspects.len() / 2;
                let taken = self.transactions.probe(suspects[..half].iter().map(|&token| records[token]))?;
                suspects = if taken { suspects.split_off(half) } else { suspects[..half].to_vec() };
            }
            if self.transactions.probe(suspects.iter().map(|&token| records[token]))? {
                // Each passes alone: together they were too much.
                let smaller = (self.batch / 2).max(1);
                let error = self.shrink(smaller).err().unwrap_or_else(|| said(&failed));
                return Ok(CommitOutcome::Again(Error::with_source(
                    ErrorKind::Retry,
                    "the broker refused a batch of records, smaller ones come next",
                    error,
                )));
            }
        }
        let found = refused.iter().find(|(token, _)| suspects == [*token]).unwrap_or(largest);
        Ok(self.refusal(&[found], named))
    }

    /// Whether a record was refused for itself, and not with the batch that it was in.
    fn is_refused_alone(&self, (token, why): &(usize, Undelivered), failed: &[(usize, Undelivered)]) -> bool {
        let is_beside = |(other, beside): &&(usize, Undelivered)| {
            other != token && (&beside.topic, beside.partition) == (&why.topic, why.partition)
        };
        let mut beside = failed.iter().filter(is_beside).map(|(_, why)| why);
        match why.code {
            // Where the broker has named the records of a batch, the others have another code. Where it has not, all
            // are refused for their time, or those without a key.
            Code::InvalidRecord => {
                let is_named = beside.clone().any(|other| other.code == Code::InvalidDifferentRecord);
                is_named || !why.has_key || beside.all(|other| other.code != Code::InvalidRecord || other.has_key)
            }
            Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
                // No batch grows beyond what the topic takes: larger records travel alone.
                let limit = self.cluster.target(&why.topic).ok().and_then(|target| target.limits.batch);
                limit.is_some_and(|limit| why.bytes >= limit)
            }
            code => beside.all(|other| other.code != code),
        }
    }

    /// The outcome where these records are refused. One that the caller cannot name is part of the group's state.
    fn refusal(&self, refused: &[&(usize, Undelivered)], named: usize) -> CommitOutcome {
        match refused.iter().find(|(index, _)| *index >= named) {
            Some((_, why)) => CommitOutcome::Again(not_delivered(why)),
            None => {
                let told = refused.iter().map(|(index, why)| (*index, self.told(why)));
                CommitOutcome::RecordsRefused(told.collect())
            }
        }
    }

    /// The error for a refused record, with the topic's limit where that is what it goes beyond.
    fn told(&self, why: &Undelivered) -> Error {
        let error = not_delivered(why);
        let limit = self.cluster.target(&why.topic).ok().and_then(|target| target.limits.batch);
        match limit {
            Some(limit) if error.kind() == ErrorKind::RecordTooLarge => {
                let text = format!("topic `{}` takes {limit} bytes", why.topic);
                Error::with_source(ErrorKind::RecordTooLarge, text, error)
            }
            _ => error,
        }
    }
}

/// The error, where a broker does not know a topic of the commit. It says the same of one of which it has not heard yet, and
/// of one that was created again with fewer partitions: the half that reads finds out which it is.
fn explained(error: Error) -> Error {
    match error.kind() {
        ErrorKind::UnknownTopic => {
            Error::with_source(ErrorKind::Retry, "a broker does not know a topic of the commit", error)
        }
        _ => error,
    }
}

/// The failure that says most: a missing permission or topic, not what went down with it.
fn telling(failed: &[(usize, Undelivered)]) -> Option<&Undelivered> {
    let telling = failed.iter().find(|(_, why)| failure::kind(why.code) != ErrorKind::Retry).or(failed.first());
    telling.map(|(_, why)| why)
}

/// That failure as an error.
pub(super) fn said(failed: &[(usize, Undelivered)]) -> Error {
    telling(failed).map_or_else(|| Error::new(ErrorKind::Retry, "records were not delivered"), not_delivered)
}

/// Fails on a text that no broker keeps beside a position.
pub(super) fn check_text(position: &Position) -> Result<()> {
    if position.text.len() <= MAX_PROGRESS_TEXT && position.text.is_ascii() {
        return Ok(());
    }
    let text = format!(
        "the text beside partition {} of topic `{}` has {} bytes: {MAX_PROGRESS_TEXT} characters of ASCII are allowed",
        position.partition,
        position.topic,
        position.text.len()
    );
    Err(Error::new(ErrorKind::Fatal, text))
}

/// The positions as librdkafka takes them.
pub(super) fn positions<'a>(positions: impl IntoIterator<Item = &'a Position>) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for position in positions {
        let mut element = list.add_partition(&position.topic, position.partition);
        element
            .set_offset(Offset::Offset(position.offset))
            .map_err(|error| Error::with_source(ErrorKind::Fatal, "a position is not an offset", error))?;
        element.set_metadata(&position.text);
    }
    Ok(list)
}

/// The proof of membership that a commit carries. Without a valid generation and member id the coordinator
/// would take it unchecked, and rdkafka hides both in the proof: they are read before and after.
pub(super) fn proof(consumer: &BaseConsumer<Member>) -> std::result::Result<ConsumerGroupMetadata, &'static str> {
    let before = native::membership(consumer);
    let metadata = consumer.group_metadata();
    let after = native::membership(consumer);
    match metadata {
        Some(metadata) if before == after && after.as_ref().is_some_and(Membership::is_live) => {
            match consumer.assignment_lost() {
                true => Err("the group went on without this member"),
                false => Ok(metadata),
            }
        }
        _ => Err("the member is joining its group"),
    }
}

impl Committer for KafkaCommitter {
    fn commit(&mut self, commit: &Commit<'_>) -> CommitOutcome {
        if let Some(kind) = self.over {
            let text = "the session is over, as an earlier commit has failed";
            return CommitOutcome::Unknown(Error::new(kind, text));
        }
        if let Err(error) = self.prepare(commit) {
            return CommitOutcome::Again(error);
        }
        let never = self.never_taken(commit);
        if !never.is_empty() {
            return CommitOutcome::RecordsRefused(never);
        }
        let list = match positions(commit.positions) {
            Ok(list) => list,
            Err(error) => return CommitOutcome::Again(error),
        };
        let fence = self.fence.clone();
        let (_flight, group) = match fence.enter(commit.positions, || proof(&self.consumer)) {
            Ok(entered) => entered,
            Err(Refused::Stale(partitions)) => return CommitOutcome::NotOwner(partitions),
            Err(Refused::NoProof(why)) => {
                return CommitOutcome::Again(Error::new(ErrorKind::Retry, format!("no commit right now: {why}")));
            }
        };
        let keys: Vec<Vec<u8>> =
            commit.state.iter().map(|change| state::key(&self.options.group, &change.key)).collect();
        let topic = self.state_topic.clone();
        let changes: Vec<NewRecord<'_>> =
            commit.state.iter().zip(&keys).map(|(change, key)| state::record(&topic, key, change)).collect();
        let records: Vec<&NewRecord<'_>> = commit.records.iter().chain(&changes).collect();
        if records.is_empty() && commit.positions.is_empty() {
            return CommitOutcome::Done(Vec::new());
        }
        match self.transactions.run(records.iter().copied(), group.map(|group| (list, group))) {
            Ok(mut placed) => {
                placed.truncate(commit.records.len());
                CommitOutcome::Done(placed)
            }
            Err(ending) => self.settle(ending, &records, commit.records.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_says_more_than_what_went_down_with_it() {
        let undelivered = |code| Undelivered { code, topic: "t".into(), partition: 0, bytes: 4, has_key: true };
        let failed = [(0, undelivered(Code::PurgeQueue)), (1, undelivered(Code::TopicAuthorizationFailed))];
        let error = said(&failed);
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("`Write` permission on topic `t`"), "{error:?}");
    }
}
