//! What a broker tells of a set-up: settings, copies, and what the account may do.

use rdkafka::error::KafkaError;

use super::cluster::Cluster;
use super::{admin, failure, groups, native, state};
use crate::error::{ErrorKind, Result};
use crate::examined::{Examined, ExaminedTopic, Operation};
use crate::permission::Permission;

/// See [`crate::Log::examine`].
pub(super) fn examine(cluster: &Cluster, topics: &[&str], group: Option<&str>) -> Result<Examined> {
    let client = cluster.admin()?;
    let mut examined =
        Examined { broker: admin::settings_of_broker(cluster, cluster.patience()), ..Examined::default() };
    examined.cluster = native::describe_cluster(client.inner(), cluster.patience()).unwrap_or(None);
    if !topics.is_empty() {
        let mut settings = admin::settings_of(cluster, topics)?;
        let described = failure::until_answered(&cluster.watch, || {
            native::describe_topics(client.inner(), topics, true, cluster.patience()).map_err(|code| {
                let needed = Permission::on_topics(Operation::Describe, topics.iter().copied());
                cluster.failed(KafkaError::AdminOp(code), "cannot look up topics", needed)
            })
        })?;
        for (name, described) in described {
            let Ok(topic) = described else { continue };
            let settings = settings.remove(&name);
            examined.topics.push(ExaminedTopic { name, settings, copies: topic.copies, operations: topic.operations });
        }
    }
    if let Some(group) = group {
        examined.state_topic = Some(state::topic_name(group));
        let described = failure::until_answered(&cluster.watch, || {
            native::describe_group(client.inner(), group, cluster.patience())
                .map_err(|code| groups::unseen(cluster, code, group))
        });
        examined.group = match described {
            Ok((_, operations)) => operations,
            Err(error) if error.kind() == ErrorKind::Denied => Some(Vec::new()),
            Err(error) => return Err(error),
        };
    }
    Ok(examined)
}
