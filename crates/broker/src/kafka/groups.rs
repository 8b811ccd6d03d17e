//! Groups as they can be seen without joining them.

use std::thread;

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::cluster::{self, Cluster};
use super::context::Notes;
use super::{admin, failure, member, native};
use crate::contract::Committed;
use crate::error::{Error, ErrorKind, Result};
use crate::examined::{Group, Operation, Readers};
use crate::permission::Permission;

/// Groups that are asked about at the same time: a cluster that many share has thousands, and each is a question to its
/// coordinator.
const ASKED_AT_ONCE: usize = 16;

/// What a group has committed on these topics, and its members.
pub(super) fn look(cluster: &Cluster, group: &str, topics: &[&str]) -> Result<Group> {
    let mut places = Vec::new();
    for topic in topics {
        places.extend((0..cluster.partitions(topic)?).map(|partition| ((*topic).to_owned(), partition)));
    }
    // first, since librdkafka waits for the positions of a group that the account may not see
    let admin = cluster.admin()?;
    let described = failure::until_answered(&cluster.watch, || {
        native::describe_group(admin.inner(), group, cluster.patience()).map_err(|code| unseen(cluster, code, group))
    })?;
    let mut found = Group::default();
    if !places.is_empty() {
        let consumer = client(cluster, group)?;
        let committed = committed(&consumer, &places, group)?;
        found.committed =
            places.into_iter().zip(committed).filter_map(|(place, committed)| Some((place, committed?))).collect();
    }
    (found.members, _) = described;
    found.members.sort();
    found.killed_listed_for = Some(cluster.settings.longest_session());
    Ok(found)
}

/// The error for a group that cannot be looked up.
pub(super) fn unseen(cluster: &Cluster, code: Code, group: &str) -> Error {
    let needed = Permission::on_group(Operation::Describe, group);
    cluster.failed(KafkaError::AdminOp(code), format!("cannot look up group `{group}`"), needed)
}

/// Fails where it can be told that nobody can join a group in this way.
pub(super) fn check(cluster: &Cluster) -> Result<()> {
    if !cluster.settings.has_consumer_protocol() {
        // The group's coordinator refuses what does not fit, and the member says so.
        return Ok(());
    }
    if let Some(protocols) = admin::group_protocols(cluster)
        && !protocols.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case("consumer"))
    {
        let text = format!(
            "broker `{}` does not offer the group protocol `consumer` (brokers do from version 4.0 on, unless their setting \
            `group.coordinator.rebalance.protocols` says otherwise; here it is `{protocols}`): take `group.protocol` out of \
            section `[consumer]`",
            cluster.servers()
        );
        return Err(Error::new(ErrorKind::Settings, text));
    }
    Ok(())
}

/// The groups with a position in a topic, of whichever program.
pub(super) fn of_topic(cluster: &Cluster, topic: &str) -> Result<Readers> {
    let partitions = cluster.partitions(topic)?;
    let admin = cluster.admin()?;
    let listed = failure::until_answered(&cluster.watch, || {
        native::list_groups(admin.inner(), cluster.patience())
            .map_err(|code| cluster.failed(KafkaError::AdminOp(code), "cannot list the groups", None))
    })?;
    // a broker lists all groups to an account that may look at the cluster, and to others those that they may look at
    let operations = native::describe_cluster(admin.inner(), cluster.patience()).ok().flatten();
    let sees_all = operations.is_none_or(|operations| operations.contains(&Operation::Describe));
    let threads = listed.len().min(ASKED_AT_ONCE);
    let waiting = Mutex::new(listed);
    let found = Mutex::new(Readers { groups: Vec::new(), are_all: sees_all });
    let ask = || {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(topic, 0, partitions - 1);
        loop {
            let Some(group) = waiting.lock().pop() else { return Ok(()) };
            let has_position = failure::until_answered(&cluster.watch, || {
                native::has_position(admin.inner(), &group, &asked, cluster.patience())
                    .map_err(|code| unseen(cluster, code, &group))
            });
            match has_position {
                Ok(true) => found.lock().groups.push(group),
                Ok(false) => {}
                Err(error) if error.kind() == ErrorKind::Denied => found.lock().are_all = false,
                Err(error) => return Err(error),
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(ask)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let mut found = found.into_inner();
    found.groups.sort();
    Ok(found)
}

fn client(cluster: &Cluster, group: &str) -> Result<BaseConsumer<Notes>> {
    let config = cluster.settings.group(group);
    config.create_with_context(Notes::new(&cluster.watch)).map_err(|error| cluster::client_refused(error, "a client"))
}

fn committed(consumer: &BaseConsumer<Notes>, places: &[(String, i32)], group: &str) -> Result<Vec<Option<Committed>>> {
    failure::until_answered_within(&consumer.context().watch, member::COMMITTED, || {
        let mut asked = TopicPartitionList::new();
        for (topic, partition) in places {
            asked.add_partition(topic, *partition);
        }
        member::committed_of(consumer, &consumer.context().watch, asked, group, Operation::Describe)
    })
}
