//! What can be seen of a log by whoever looks at it from outside: groups, outages, and the set-up with its mistakes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::contract::Committed;

/// What can be seen of a group without joining it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    /// Committed positions by topic and partition.
    pub committed: BTreeMap<(String, i32), Committed>,
    /// The live members, in the order of their ids.
    pub members: Vec<Member>,
    /// How long a member is still among them, at most, after its process was killed. `None` where it is gone at once.
    pub killed_listed_for: Option<Duration>,
}

/// The groups that have read a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readers {
    /// Those with a position of the topic that the account sees, by name.
    pub groups: Vec<String>,
    /// Whether the account sees all groups, as far as is known.
    pub are_all: bool,
}

/// A live member of a group, as it can be seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// How the backend names it.
    pub id: String,
    /// Its place in the group, where the group knows it by that.
    pub instance: Option<String>,
    /// The name that the client gives itself.
    pub client_id: String,
    /// Where it is connected from.
    pub host: String,
    /// Topic and partition of each partition that it owns, as far as the backend tells. Empty in the middle of a
    /// rebalance.
    pub owned: Vec<(String, i32)>,
}

impl Member {
    /// Whether the member may read the topic. One that owns partitions of other topics alone does not.
    pub fn may_read(&self, topic: &str) -> bool {
        self.owned.is_empty() || self.owned.iter().any(|(owned, _)| owned == topic)
    }
}

/// A log that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// For how long.
    pub lasts: Duration,
    /// The log, for people.
    pub log: String,
    /// How that shows, for people: "it refuses the connection".
    pub cause: String,
    /// It answers, and refuses the login.
    pub refuses_login: bool,
}

impl Outage {
    /// How it is shown, for people: "it refuses the connection", or what to look at where it refuses the login.
    pub fn why(&self) -> &str {
        if self.refuses_login { CHECK_LOGIN } else { &self.cause }
    }
}

/// What is wrong, in a few words: "broker `b` is away".
impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.refuses_login { "refuses the login" } else { "is away" };
        write!(f, "{} {what}", self.log)
    }
}

/// What a person looks at where a login is refused.
pub(crate) const CHECK_LOGIN: &str = "check `sasl.username`, `sasl.password` and `sasl.mechanism`";

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
