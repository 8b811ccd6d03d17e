//! The state map of a group: a compacted topic with one partition that matters.
//!
//! ```text
//! record of partition 0:
//!   key    group name, TAB, key of the map     (several groups may share a topic)
//!   value  value of the map; none removes the key
//! ```
//! Records are written within a transaction, that of a commit or one of a change from outside, and read up to the
//! end, once all before it is decided.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::admin;
use super::cluster::{ANSWER, Cluster, legal_name};
use super::failure;
use super::reader::KafkaReader;
use super::transaction::{Ending, Transactions};
use crate::contract::{
    DeliveryGuarantee, Event, FirstStart, NewRecord, NewTopic, Offsets, Reader, StateChange, StateMark,
    SubscribeOptions,
};
use crate::error::{Error, ErrorKind, Result};
use crate::examined::Operation;
use crate::permission::Permission;

/// The only partition that is used.
const PARTITION: i32 = 0;

/// Whether a topic has the name that [`topic_name`] gives to the state of a group.
pub(super) fn is_state(topic: &str) -> bool {
    topic.starts_with("datamill.") && topic.ends_with(".state")
}

/// Name of the topic, made from the group's name.
pub(super) fn topic_name(group: &str) -> String {
    let mut legal: String =
        group.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    legal.truncate(200);
    if legal == group {
        return format!("datamill.{group}.state");
    }
    // Groups whose names differ must not share a topic by accident.
    let hash = group
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("datamill.{legal}.{hash:016x}.state")
}

/// A missing permission on this topic, with what the topic is for.
pub(super) fn denied(error: Error, group: &str, topic: &str) -> Error {
    let Some(permission) = error.permission().filter(|_| error.kind() == ErrorKind::Denied) else { return error };
    let verb = match permission.operation() {
        Operation::Read => "read",
        Operation::Create => "create",
        _ => "write to",
    };
    let what = format!("cannot {verb} topic `{topic}`, which keeps the failed files of group `{group}`");
    Error::denied(ErrorKind::DeniedExactlyOnce, what, Permission::on_state(permission.operation(), topic))
}

/// Makes the topic unless it is there, and fails where no transaction can write to it.
pub(super) fn ensure(cluster: &Cluster, group: &str, name: &str) -> Result<()> {
    make(cluster, name).map_err(|error| denied(error.for_use(Operation::Write), group, name))
}

fn make(cluster: &Cluster, name: &str) -> Result<()> {
    match cluster.target(name) {
        Ok(target) => target.limits.end_of_transaction(name),
        Err(error) if error.kind() == ErrorKind::UnknownTopic => {
            let settings = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
            // The number of copies is the broker's default.
            let topic = NewTopic { name: name.to_owned(), partitions: 1, replication: -1, settings };
            match admin::create(cluster, &topic) {
                Err(error) if error.kind() != ErrorKind::Exists => Err(error),
                // another process makes it at this moment: the brokers hear of it a little later
                _ => failure::until_known(&cluster.watch, || cluster.target(name)).map(|_| ()),
            }
        }
        Err(error) => Err(error),
    }
}

/// Warns where the broker may delete what is still needed.
pub(super) fn check(cluster: &Cluster, name: &str) -> Result<()> {
    match cluster.topic(name) {
        Ok(topic) if !topic.is_compacted() && topic.retention_ms().is_some() => {
            warn!(
                topic = name,
                "the topic of the group's state is not compacted, entries vanish with their age: set its `cleanup.policy` to `compact`"
            );
            Ok(())
        }
        Err(error) if error.kind() != ErrorKind::UnknownTopic => Err(error),
        _ => Ok(()),
    }
}

/// The key of a state record.
pub(super) fn key(group: &str, key: &str) -> Vec<u8> {
    format!("{group}\t{key}").into_bytes()
}

/// The record for a change.
pub(super) fn record<'a>(topic: &'a str, key: &'a [u8], change: &'a StateChange) -> NewRecord<'a> {
    NewRecord {
        topic,
        partition: Some(PARTITION),
        key: Some(key),
        value: change.value.as_deref(),
        ..NewRecord::default()
    }
}

/// Reads what changed from an offset on; from 0, what is there.
pub(super) fn read(
    cluster: &Arc<Cluster>,
    group: &str,
    topic: &str,
    since: StateMark,
    sink: &mut dyn FnMut(&str, Option<&[u8]>),
    stop: &dyn Fn() -> bool,
) -> Result<Option<StateMark>> {
    match cluster.target(topic) {
        Err(error) if error.kind() == ErrorKind::UnknownTopic => return Ok(Some(StateMark::default())),
        target => target.map(|_| ())?,
    }
    // A commit of an earlier owner may be decided and not yet visible: it is waited for.
    let found = cluster.offsets(topic, PARTITION);
    if found.as_ref().is_err_and(|error| error.kind() == ErrorKind::UnknownTopic) {
        cluster.forget(topic);
    }
    let Offsets { first, end, .. } = found?;
    // A mark beyond the end is one of a topic that was deleted since.
    let start = if since.0 > end { first } else { since.0.max(first) };
    if start >= end {
        return Ok(Some(StateMark(end)));
    }
    let prefix = key(group, "");
    let mut reader = KafkaReader::open(cluster, topic, &[(PARTITION, start)])?;
    let mut reached = start;
    let mut heard = Instant::now();
    while reached < end {
        if stop() {
            return Ok(None);
        }
        let count = reader.poll(Duration::from_millis(200), &mut |event| match event {
            Event::Record(record) => {
                reached = record.offset + 1;
                let Some(key) = record.key.and_then(|key| key.strip_prefix(&prefix[..])) else {
                    return;
                };
                sink(&String::from_utf8_lossy(key), record.value);
            }
            Event::End { offset, .. } => reached = offset,
            Event::Assigned(_) | Event::Revoked { .. } => {}
        })?;
        if count > 0 {
            heard = Instant::now();
        } else if heard.elapsed() > ANSWER || cluster.watch.is_given_up() {
            let text =
                format!("topic `{topic}` with the state of group `{group}` stopped at offset {reached} of {end}");
            return Err(Error::new(ErrorKind::Retry, text));
        }
    }
    Ok(Some(StateMark(reached)))
}

/// How often a change from outside is tried: another one at the same moment takes its transactional id.
const TRIES: u32 = 3;

/// Changes the map from outside of a session, in a transaction of its own. All changes from outside share one
/// transactional id: what one that died left open is aborted by the next.
pub(super) fn change(cluster: &Arc<Cluster>, group: &str, topic: &str, changes: &[StateChange]) -> Result<()> {
    legal_name(topic)?;
    ensure(cluster, group, topic)?;
    let batch = cluster.settings.batch_size();
    let batch = cluster.target(topic)?.limits.batch.map_or(batch, |limit| limit.min(batch));
    let options = SubscribeOptions {
        group: group.to_owned(),
        instance: "state-change".to_owned(),
        membership: Default::default(),
        topics: vec![topic.to_owned()],
        identity: Default::default(),
        first_start: FirstStart::default(),
        queue_bytes: 0,
        delivery: DeliveryGuarantee::ExactlyOnce,
    };
    let keys: Vec<Vec<u8>> = changes.iter().map(|change| key(group, &change.key)).collect();
    let records: Vec<NewRecord<'_>> =
        changes.iter().zip(&keys).map(|(change, key)| record(topic, key, change)).collect();
    let mut tries = 0;
    loop {
        tries += 1;
        let mut transactions = Transactions::open(cluster, &options, batch)?;
        let error = match transactions.run(records.iter(), None) {
            Ok(_) => return Ok(()),
            Err(Ending::Over(error) | Ending::Passing(error)) => error,
            Err(Ending::Undelivered(failed)) => denied(super::committer::said(&failed), group, topic),
        };
        if error.is_denied() {
            return Err(denied(error, group, topic));
        }
        if tries == TRIES || !matches!(error.kind(), ErrorKind::Retry | ErrorKind::Fenced) {
            let text = format!("cannot change the state of group `{group}`");
            return Err(Error::with_source(error.kind(), text, error));
        }
        // The next one aborts what this one left open.
        std::thread::sleep(Duration::from_millis(200 * u64::from(tries)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_a_legal_topic_of_its_own() {
        assert_eq!(topic_name("xrd"), "datamill.xrd.state");
        let (slash, underscore) = (topic_name("a/b"), topic_name("a_b"));
        assert_ne!(slash, underscore);
        let long = topic_name(&"ä".repeat(300));
        for name in [slash, underscore, long] {
            super::super::cluster::legal_name(&name).expect("legal");
        }
    }
}
