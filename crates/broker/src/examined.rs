//! What can be seen of a set-up by whoever looks for mistakes in it.

use std::collections::BTreeMap;

/// Something that an account may do, in the words of Kafka's access control lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Read records, or read as a group.
    Read,
    /// Write records.
    Write,
    /// Make topics.
    Create,
    /// Delete topics.
    Delete,
    /// See that it is there.
    Describe,
    /// See its settings.
    DescribeConfigs,
}

/// What can be seen of a set-up by whoever looks for mistakes in it. What the account may not see, and what the backend
/// does not know, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// Settings of the brokers, in the words of the backend.
    pub broker: Option<BTreeMap<String, String>>,
    /// The topics that were asked about and that are there.
    pub topics: Vec<ExaminedTopic>,
    /// What the account may do as the group.
    pub group: Option<Vec<Operation>>,
    /// What it may do with the cluster.
    pub cluster: Option<Vec<Operation>>,
    /// Name of the topic that holds the state of the group, where the backend keeps that in one.
    pub state_topic: Option<String>,
}

/// A topic in an [`Examined`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExaminedTopic {
    /// Its name.
    pub name: String,
    /// Its settings, in the words of the backend.
    pub settings: Option<BTreeMap<String, String>>,
    /// Least number of copies that a partition has.
    pub copies: Option<usize>,
    /// What the account may do with it.
    pub operations: Option<Vec<Operation>>,
}
